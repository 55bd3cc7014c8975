//! The machine's apt → where images get their packages from, and how.
//!
//! A machine that is a Debian itself has a mirror that works from here, proxies and all; images ask the same way.

use sai_core::ordered::{Map, Set};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes of a file of sources; the longest anybody writes by hand are far shorter.
const SOURCES_BYTES: usize = 256 << 10;
/// Settings of the machine's apt that hold for images too: how to get files, not which.
const SETTINGS: [&str; 6] = [
    "Acquire::http::Proxy",
    "Acquire::https::Proxy",
    "Acquire::ForceIPv4",
    "Acquire::Retries",
    "Acquire::Check-Date",
    "Acquire::Check-Valid-Until",
];
/// What may follow a release's name where its updates are, each a line of an image's sources when the machine has it too.
const POCKETS: [&str; 3] = ["", "-updates", "-security"];
/// Names that a release has beside its own, see <https://www.debian.org/releases/>.
const ALIASES: [&str; 5] = ["oldstable", "stable", "testing", "unstable", "sid"];

/// A place that packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where it is.
    pub uri: String,
    /// A suite there.
    pub suite: String,
    /// Parts of the suite.
    pub components: Vec<String>,
}

/// How this machine gets its packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Apt {
    /// Mirrors of Debian by what follows the release's name in their suites, if this machine is one.
    mirrors: Map<&'static str, String>,
    /// Settings for apt-get, as `KEY=VALUE`.
    pub settings: Vec<String>,
}

impl Apt {
    /// Looks at this machine.
    pub fn of_this_machine() -> Self {
        let mut files: Vec<PathBuf> = vec!["/etc/apt/sources.list".into()];
        let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
        files.extend(Set::from_iter(more.map(|entry| entry.path())));
        let mut sources = Vec::new();
        for file in files {
            // What cannot be read or is no text is left out: it is only a default that is looked for.
            let Some(text) = fs::read_to_string(&file).ok().filter(|text| text.len() <= SOURCES_BYTES) else {
                continue;
            };
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("list") => sources.extend(text.lines().flat_map(line_sources)),
                Some("sources") => sources.extend(text.split("\n\n").flat_map(stanza_sources)),
                _ => {}
            }
        }
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let dump = Command::new("apt-config").arg("dump").stdin(Stdio::null()).stderr(Stdio::null()).output();
        let dump = dump.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        Self { mirrors: mirrors(&release, &sources), settings: settings(&dump) }
    }

    /// The mirror of releases, unless debootstrap is to choose.
    pub fn mirror(&self) -> Option<&str> {
        self.mirrors.get("").map(String::as_str)
    }

    /// The text of an image's sources of a release, for whoever said no mirror.
    pub fn sources(&self, suite: &str) -> Option<String> {
        let rolls = ["testing", "unstable", "sid", "experimental"].contains(&suite);
        let pockets = POCKETS.iter().filter(|pocket| pocket.is_empty() || !rolls);
        let lines =
            pockets.filter_map(|pocket| Some(format!("deb {} {suite}{pocket} main\n", self.mirrors.get(pocket)?)));
        self.mirror().map(|_| lines.collect())
    }

    /// The value of one of the settings.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().find_map(|setting| setting.strip_prefix(key)?.strip_prefix('='))
    }
}

/// The mirrors that a Debian with these sources uses for itself.
fn mirrors(os_release: &str, sources: &[Source]) -> Map<&'static str, String> {
    let value = |key: &str| {
        let assigned = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        assigned.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
    };
    let mut mirrors = Map::new();
    if value("ID") != "debian" {
        return mirrors;
    }
    let codename = value("VERSION_CODENAME");
    for source in sources.iter().filter(|source| source.components.iter().any(|component| component == "main")) {
        for pocket in POCKETS {
            let release = source.suite.strip_suffix(pocket).unwrap_or_default();
            let usual = source.uri.starts_with("http://") || source.uri.starts_with("https://");
            if usual && (release == codename || ALIASES.contains(&release)) && !release.is_empty() {
                mirrors.get_or_insert_with(pocket, || source.uri.clone());
            }
        }
    }
    mirrors
}

/// The sources of a line of a sources.list(5).
fn line_sources(line: &str) -> Vec<Source> {
    let mut rest = line.trim();
    let Some(after) = rest.strip_prefix("deb ") else { return Vec::new() };
    rest = after.trim_start();
    if rest.starts_with('[') {
        rest = rest.split_once(']').map_or("", |(_, after)| after);
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let mut words = rest.split_ascii_whitespace().map(str::to_owned);
    match (words.next(), words.next()) {
        (Some(uri), Some(suite)) => vec![Source { uri, suite, components: words.collect() }],
        _ => Vec::new(),
    }
}

/// The sources of a stanza in the format of deb822(5).
fn stanza_sources(stanza: &str) -> Vec<Source> {
    let mut fields: Map<String, Vec<String>> = Map::new();
    let mut last = String::new();
    for line in stanza.lines().filter(|line| !line.starts_with('#')) {
        let text = if line.starts_with([' ', '\t']) {
            line
        } else if let Some((key, text)) = line.split_once(':') {
            last = key.trim().to_ascii_lowercase();
            text
        } else {
            continue;
        };
        fields.get_or_default(last.clone()).extend(text.split_ascii_whitespace().map(str::to_owned));
    }
    let of = |key: &str| fields.get(key).cloned().unwrap_or_default();
    if !of("types").iter().any(|kind| kind == "deb") || of("enabled").first().is_some_and(|enabled| enabled == "no") {
        return Vec::new();
    }
    let (suites, components) = (of("suites"), of("components"));
    let each = of("uris").into_iter().flat_map(|uri| {
        let components = &components;
        suites.iter().map(move |suite| Source {
            uri: uri.clone(),
            suite: suite.clone(),
            components: components.clone(),
        })
    });
    each.collect()
}

/// The settings among the lines of `apt-config dump` that hold for images too.
fn settings(dump: &str) -> Vec<String> {
    let lines = dump.lines().filter_map(|line| {
        let (key, value) = line.strip_suffix("\";")?.split_once(" \"")?;
        let wanted = SETTINGS.contains(&key) && !value.is_empty() && !value.contains('"');
        wanted.then(|| format!("{key}={value}"))
    });
    lines.collect()
}

/// Checks the name of a suite.
///
/// # Errors
/// What is expected.
pub fn check_suite(suite: &str) -> Result<(), String> {
    let begins = suite.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if begins && suite.len() <= 64 && suite.bytes().all(fine) {
        return Ok(());
    }
    Err(format!("expected the name of a release, as bookworm, found {suite:?}"))
}

/// Checks the address of a mirror.
///
/// # Errors
/// What is expected.
pub fn check_mirror(mirror: &str) -> Result<(), String> {
    let known = ["http://", "https://", "file:///"].iter().any(|scheme| mirror.starts_with(scheme));
    if known && mirror.len() <= 2048 && mirror.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(format!("expected the address of a mirror, as https://deb.example.org/debian, found {mirror:?}"))
}

/// Checks what apt-get(8) is to install: a package's name, and maybe `:ARCHITECTURE`, `=VERSION` or `/SUITE`.
///
/// # Errors
/// What is expected.
pub fn check_package(package: &str) -> Result<(), String> {
    let begins = package.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"+.-:=~_/".contains(&byte);
    // One that ends so would be removed instead.
    if begins && package.len() <= 256 && package.bytes().all(fine) && !package.ends_with('-') {
        return Ok(());
    }
    Err(format!("expected the name of a package, found {package:?}"))
}

/// Where `chroot`, `debootstrap` and the like are found, whoever became root how.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a program is where [`PATH`] says.
pub fn is_installed(program: &str) -> bool {
    PATH.split(':').any(|directory| Path::new(directory).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "ID=debian\nVERSION_CODENAME=bookworm\n";

    #[test]
    fn a_debian_has_a_mirror_in_either_format() {
        let list = "# a comment\ndeb-src http://a.example/debian bookworm main\n\
                    deb [signed-by=/x y=z] http://m.example/debian bookworm main contrib # here\n\
                    deb http://m.example/debian bookworm-updates main\n\
                    deb http://s.example/debian-security bookworm-security main\n\
                    deb https://packages.example/apt tool-bookworm main\n";
        let sources: Vec<Source> = list.lines().flat_map(line_sources).collect();
        assert_eq!(sources.len(), 4);
        let from_list = mirrors(DEBIAN, &sources);
        let stanzas = "# official\nTypes: deb deb-src\nURIs: http://m.example/debian\nSuites: bookworm\n bookworm-updates\n\
                       Components: main\nSigned-By:\n -----BEGIN\n\nTypes: deb\nURIs: http://s.example/debian-security\n\
                       Suites: bookworm-security\nComponents: main\n\nTypes: deb\nEnabled: no\nURIs: http://x.example\n\
                       Suites: bookworm\nComponents: main\n";
        let sources: Vec<Source> = stanzas.split("\n\n").flat_map(stanza_sources).collect();
        assert_eq!(sources.len(), 3);
        assert_eq!(mirrors(DEBIAN, &sources), from_list);
        let apt = Apt { mirrors: from_list, settings: Vec::new() };
        assert_eq!(apt.mirror(), Some("http://m.example/debian"));
        assert_eq!(
            apt.sources("trixie").as_deref(),
            Some(
                "deb http://m.example/debian trixie main\ndeb http://m.example/debian trixie-updates main\n\
                 deb http://s.example/debian-security trixie-security main\n"
            )
        );
        assert_eq!(apt.sources("sid").as_deref(), Some("deb http://m.example/debian sid main\n"));
    }

    #[test]
    fn another_system_leaves_the_choice_to_debootstrap() {
        let sources = line_sources("deb http://archive.example/ubuntu noble main universe");
        let mirrors = mirrors("ID=ubuntu\nVERSION_CODENAME=noble\n", &sources);
        let apt = Apt { mirrors, settings: Vec::new() };
        assert_eq!((apt.mirror(), apt.sources("bookworm")), (None, None));
        for line in ["", "deb", "deb http://a", "deb [x", "deb-src http://a b c", "nonsense"] {
            assert_eq!(line_sources(line), [], "{line}");
        }
    }

    #[test]
    fn only_how_files_are_got_is_taken_over() {
        let dump = "APT \"\";\nAcquire::http::Proxy \"http://proxy.example:3142\";\nAcquire::Check-Date \"false\";\n\
                    DPkg::Post-Invoke:: \"reboot\";\nAcquire::Retries \"a\"b\";\n";
        let settings = settings(dump);
        assert_eq!(settings, ["Acquire::http::Proxy=http://proxy.example:3142", "Acquire::Check-Date=false"]);
        let apt = Apt { mirrors: Map::new(), settings };
        assert_eq!(apt.setting("Acquire::http::Proxy"), Some("http://proxy.example:3142"));
        assert_eq!(apt.setting("Acquire::https::Proxy"), None);
    }

    #[test]
    fn words_for_apt_are_words_and_no_options() {
        for package in ["gcc", "g++", "libc6-dev:arm64", "make=4.3-4.1", "0ad", "git/bookworm-backports"] {
            assert_eq!(check_package(package), Ok(()), "{package}");
        }
        for package in ["", "-o", "--allow", "gcc-", "a b", "a;b", "$(x)", "./a.deb", "A"] {
            assert!(check_package(package).is_err(), "{package}");
        }
        assert!(check_suite("bookworm").is_ok() && check_suite("bookworm-backports").is_ok());
        assert!(check_suite("../x").is_err() && check_suite("--help").is_err() && check_suite("").is_err());
        assert!(check_mirror("http://a/debian").is_ok() && check_mirror("file:///srv/debian").is_ok());
        assert!(check_mirror("--foreign").is_err() && check_mirror("http://a b").is_err());
        assert!(is_installed("chroot") && !is_installed("no-such-program-here"));
    }
}
