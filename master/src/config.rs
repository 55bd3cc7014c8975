//! Text of the configuration file → Config: everything a master is told, with its defaults.

pub mod keys;

use crate::front::{Network, Proxies};
use sai_agent::container_settings::ContainerSettings;
use sai_core::forge_page::{self, ForgePage};
use sai_core::join;
use sai_core::keys::names;
use sai_core::limits::{JOB_TIMEOUT_S, LOG_BYTES};
use sai_core::ordered::Map;
use sai_core::retention;
use sai_core::secret::{CloneUrl, Secret};
use sai_core::session::REDIAL_MOST_MS;
use sai_core::settings::{self, Reader, Section};
use sai_core::{git_names, platform};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Seconds an agent must at least be awaited: the longest time between two of its dials, and ten more for the dial. With
/// less, a master that was away for a moment would run everything again.
const ORPHAN_LEAST_S: u64 = REDIAL_MOST_MS / 1000 + 10;
/// Port of the page, the hooks and the agents when the configuration names none.
pub const PORT: u16 = 4433;
/// Most of one unit: what a job may want at most, many times over.
const UNITS_MOST: i64 = 1_000_000;
/// Seconds in the longest time a setting may name: a hundred years, so that no sum of them overflows.
const LONGEST_S: u64 = 100 * 365 * 86_400;

/// A repository whose pushes are built.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// Its name: in hook addresses, on the page, `SAI_PROJECT` in a job.
    pub name: String,
    /// Where master and agents fetch it.
    pub url: CloneUrl,
    /// Key of signed hooks; without one they are refused, and pokes still work.
    pub secret: Option<Secret>,
    /// Seconds between looks of our own; `None` leaves it to hooks.
    pub poll_s: Option<u64>,
    /// Whether tags make events too.
    pub tags: bool,
    /// Whether jobs get submodules.
    pub submodules: bool,
    /// Whether a push ends the jobs of those before it to the same ref, and the end of a ref those of all.
    pub supersede: bool,
    /// Added to the priority of each of its jobs.
    pub priority: i32,
    /// Its pages at its forge, if they are known.
    pub forge: Option<ForgePage>,
}

/// The agent inside the master.
#[derive(Clone, Debug, PartialEq)]
pub struct Builtin {
    /// Platforms it offers; empty means what this host is.
    pub platforms: Vec<String>,
    /// Jobs at once; `None` leaves it to the agent's own default.
    pub slots: Option<u32>,
    /// User that steps run as; `None` is the master's own.
    pub user: Option<String>,
    /// Variables that each of its jobs gets.
    pub env: Map<String, String>,
    /// The file that describes the boards of this machine, which it offers.
    pub boards: Option<PathBuf>,
    /// The directory of the sockets of their owners and guard.
    pub boards_run: Option<PathBuf>,
    /// Images, and what jobs in containers get of the machine.
    pub containers: ContainerSettings,
}

/// A certificate chain and its key, both PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// The chain, the server's own certificate first.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether it is signed by an authority that every system knows: then agents need not pin it.
    pub public_authority: bool,
}

/// What agents are shown by a proxy that has a certificate of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// One that is signed by an authority that every system knows.
    Authority,
    /// The first of this PEM file, to be pinned.
    File(PathBuf),
}

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Directory of everything the master keeps; empty where the file does not say, see `places`.
    pub state: PathBuf,
    /// Addresses listened on.
    pub listen: Vec<SocketAddr>,
    /// Address under which agents and people reach the master, `https://HOST:PORT`; made from the host name if absent.
    pub url: Option<String>,
    /// Proxies that are believed when they say who their client is.
    pub trusted_proxies: Proxies,
    /// The certificate; `None` makes one on the first start.
    pub certificate: Option<Certificate>,
    /// What agents are shown in place of that by a proxy.
    pub shown_certificate: Option<Shown>,
    /// Whether everybody may read the page; acting always needs a sign-in.
    pub public: bool,
    /// The repositories, by name.
    pub repositories: Map<String, Repository>,
    /// The agent inside; `None` switches it off.
    pub builtin: Option<Builtin>,
    /// Bytes of log a job may write.
    pub log_bytes: u64,
    /// Whether more than that fails the job.
    pub log_limit_fails: bool,
    /// Seconds a job may take when its spec does not say.
    pub timeout_s: u64,
    /// Seconds a job waits for a platform that no connected agent offers.
    pub expire_s: u64,
    /// Seconds an agent may be away before its jobs are given to others.
    pub orphan_s: u64,
    /// Units that jobs may want, and how many there are of each.
    pub units: Map<String, u32>,
    /// What retention keeps.
    pub keep: retention::Policy,
    /// MiB of free space below which no job starts.
    pub min_free_mib: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state: PathBuf::new(),
            listen: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), PORT)],
            url: None,
            trusted_proxies: Proxies::default(),
            certificate: None,
            shown_certificate: None,
            public: true,
            repositories: Map::new(),
            builtin: Some(Builtin {
                platforms: Vec::new(),
                slots: None,
                user: None,
                env: Map::new(),
                boards: None,
                boards_run: None,
                containers: ContainerSettings::default(),
            }),
            log_bytes: LOG_BYTES,
            log_limit_fails: false,
            timeout_s: JOB_TIMEOUT_S,
            expire_s: 86_400,
            orphan_s: 600,
            units: Map::new(),
            keep: retention::Policy::default(),
            min_free_mib: 512,
        }
    }
}

/// Paths that processes go by which outlive the master, wherever they are started.
fn absolute(path: &str) -> Result<(), String> {
    if Path::new(path).is_absolute() { Ok(()) } else { Err("an absolute path".to_string()) }
}

/// Reads a configuration file's bytes. Relative paths in it are relative to where the master is started.
///
/// # Errors
/// Every line that is wrong, as `FILE:LINE:COLUMN: KEY: expected …`.
pub fn read(file: &str, bytes: &[u8]) -> Result<Config, Vec<String>> {
    let tree = settings::parse(file, bytes).map_err(|error| vec![error])?;
    let mut reader = Reader::new();
    let root = reader.root(&tree, &names(keys::ROOT));
    let mut config = Config::default();
    if let Some(state) = reader.text(&root, "state") {
        config.state = state.into();
    }
    if let Some(listen) = reader.texts(&root, "listen") {
        let addresses: Vec<Option<SocketAddr>> = listen.iter().map(|text| text.parse().ok()).collect();
        if addresses.is_empty() || addresses.iter().any(Option::is_none) {
            reader.report(&root, "listen", "addresses as [::]:4433 or 127.0.0.1:4433");
        } else {
            config.listen = addresses.into_iter().flatten().collect();
        }
    }
    config.url = reader.checked(&root, "url", |text| own_url(text).map(drop)).and_then(|url| own_url(&url).ok());
    let is_network = |text: &str| text.parse::<Network>().map(|_| ());
    let networks = reader.checked_texts(&root, "trusted_proxies", is_network).unwrap_or_default();
    config.trusted_proxies = Proxies(networks.iter().filter_map(|text| text.parse().ok()).collect());
    if let Some(tls) = reader.object(&root, "tls", &names(keys::TLS)) {
        match (reader.text(&tls, "chain"), reader.text(&tls, "key")) {
            (Some(chain), Some(key)) => {
                let public_authority = reader.boolean(&tls, "public_authority").unwrap_or(false);
                let (chain, key) = (chain.into(), key.into());
                config.certificate = Some(Certificate { chain, key, public_authority });
            }
            _ => reader.report(&root, "tls", "both `chain` and `key`, paths of PEM files"),
        }
    }
    config.shown_certificate = reader.text(&root, "shown_certificate").map(|text| match text.as_str() {
        "authority" => Shown::Authority,
        file => Shown::File(file.into()),
    });
    if config.shown_certificate.is_some() && config.url.is_none() {
        reader.report(&root, "shown_certificate", "`url` beside it, the address of the proxy that shows it");
    }
    for (name, section) in reader.objects(&root, "repositories", &names(keys::REPOSITORY)) {
        if let Some(repository) = repository(&mut reader, &name.value, &section) {
            config.repositories.insert(name.value, repository);
        }
    }
    if reader.is_off(&root, "builtin") {
        config.builtin = None;
    } else if let Some(section) = reader.object(&root, "builtin", &names(keys::BUILTIN)) {
        let platforms = reader.checked_texts(&section, "platforms", platform::check_name).unwrap_or_default();
        config.builtin = Some(Builtin {
            platforms,
            slots: reader.count(&section, "slots", 0..=u64::from(sai_core::limits::SLOTS)).map(|slots| slots as u32),
            user: reader.text(&section, "user"),
            env: reader.variables(&section, "env").unwrap_or_default(),
            boards: reader.checked(&section, "boards", absolute).map(PathBuf::from),
            boards_run: reader.checked(&section, "boards_run", absolute).map(PathBuf::from),
            containers: ContainerSettings::read(&mut reader, &section),
        });
    }
    if let Some(keep) = reader.object(&root, "keep", &names(keys::KEEP)) {
        if let Some(events) = reader.count(&keep, "events", 1..=10_000_000) {
            config.keep.events = events as usize;
        }
        config.keep.days = reader.count(&keep, "days", 1..=LONGEST_S / 86_400);
    }
    let set = |target: &mut u64, value: Option<u64>| *target = value.unwrap_or(*target);
    config.public = reader.boolean(&root, "public").unwrap_or(config.public);
    config.log_limit_fails = reader.boolean(&root, "log_limit_fails").unwrap_or(config.log_limit_fails);
    set(&mut config.log_bytes, reader.count(&root, "log_bytes", 4096..=1 << 40));
    set(&mut config.timeout_s, reader.count(&root, "timeout_s", 1..=LONGEST_S));
    let expire_s = reader.count(&root, "expire_s", 1..=LONGEST_S);
    let orphan_s = reader.count(&root, "orphan_s", 1..=LONGEST_S);
    // Only what is set: the defaults fit, and a message must name a line that is there.
    if orphan_s.is_some_and(|orphan_s| orphan_s < ORPHAN_LEAST_S) {
        let expected = format!("{ORPHAN_LEAST_S} or more seconds: an agent dials that seldom while its master is away");
        reader.report(&root, "orphan_s", &expected);
    }
    if expire_s.zip(orphan_s).is_some_and(|(expire_s, orphan_s)| expire_s < orphan_s) {
        reader.report(&root, "expire_s", "no less than orphan_s: else jobs expire while their agent is still awaited");
    }
    set(&mut config.expire_s, expire_s);
    set(&mut config.orphan_s, orphan_s);
    set(&mut config.min_free_mib, reader.count(&root, "min_free_mib", 0..=1 << 30));
    config.units = reader.amounts(&root, "units", 0..=UNITS_MOST);
    reader.finish(file)?;
    Ok(config)
}

fn repository(reader: &mut Reader, name: &str, section: &Section<'_>) -> Option<Repository> {
    let url = reader.needed(section, "url", git_names::check_url);
    let usable = !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(['.', '-'])
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter));
    if !usable {
        reader.report(
            section,
            "",
            "a repository name of letters, digits and `_.-`, beginning with neither `.` nor `-`",
        );
    }
    let kind =
        reader.word(section, "forge", &forge_page::WORDS).and_then(|index| forge_page::KINDS.get(index).copied());
    let web = reader.checked(section, "web", forge_page::check_address);
    let url: CloneUrl = url?.into();
    let forge = ForgePage::new(kind, web.as_deref(), url.shown());
    if forge.is_none() && kind.is_some() {
        reader.report(
            section,
            "forge",
            "`web` beside it, the address of the repository's page: `url` is not of the web",
        );
    } else if forge.is_none() && web.is_some() {
        let expected = format!("`forge` beside it, one of {}", forge_page::WORDS.join(", "));
        reader.report(section, "web", &expected);
    }
    let repository = Repository {
        name: name.to_string(),
        forge,
        url,
        secret: reader
            .checked(section, "secret", |text| match text.len() {
                16..=1024 => Ok(()),
                _ => Err("a key of 16 to 1024 characters".to_string()),
            })
            .map(Secret::from),
        poll_s: reader.count(section, "poll_s", 1..=LONGEST_S),
        tags: reader.boolean(section, "tags").unwrap_or(false),
        submodules: reader.boolean(section, "submodules").unwrap_or(false),
        supersede: reader.boolean(section, "supersede").unwrap_or(false),
        priority: reader.integer(section, "priority", -1000..=1000).unwrap_or(0) as i32,
    };
    usable.then_some(repository)
}

/// The master's own address, without a slash at its end.
///
/// # Errors
/// What was expected.
pub fn own_url(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let good = text.strip_prefix("https://").is_some_and(|rest| {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let fine = |letter: char| letter.is_ascii_alphanumeric() || ".-_:[]".contains(letter);
        !host.is_empty() && host.chars().all(fine) && join::check_path(path).is_ok()
    });
    if good { Ok(text.to_string()) } else { Err("an address as https://HOST:PORT or https://HOST/PATH".to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forge(keys: &str) -> Result<Option<String>, String> {
        let text = format!("{{\"repositories\": {{\"a\": {{{keys}}}}}}}");
        let config = read("F", text.as_bytes()).map_err(|errors| errors.join("\n"))?;
        let forge = config.repositories.get("a").and_then(|repository| repository.forge.clone());
        Ok(forge.map(|forge| forge.commit("1")))
    }

    #[test]
    fn the_pages_at_a_forge_are_told_or_known_and_never_name_a_credential() {
        let github = Ok(Some("https://github.com/a/b/commit/1".to_string()));
        assert_eq!(forge("\"url\": \"https://hunter2@github.com/a/b.git\""), github);
        assert_eq!(forge("\"url\": \"/srv/a\""), Ok(None));
        let told = "\"url\": \"/srv/a\", \"forge\": \"cgit\", \"web\": \"https://g.example/a/\"";
        assert_eq!(forge(told), Ok(Some("https://g.example/a/commit/?id=1".to_string())));
        for (keys, expected) in [
            ("\"forge\": \"cgit\"", "repositories.a.forge: expected `web` beside it"),
            ("\"forge\": \"sourcehut\"", "repositories.a.forge: expected one of github, gitlab, gitea, cgit"),
            ("\"web\": \"https://g.example/a\"", "repositories.a.web: expected `forge` beside it, one of github"),
            ("\"web\": \"javascript:alert(1)\"", "repositories.a.web: expected the address of the repository's page"),
        ] {
            let error = forge(&format!("\"url\": \"/srv/a\", {keys}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
