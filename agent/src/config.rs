//! Configuration file ↔ what an agent is to do: where its master is, what it offers, where it works.

use crate::container_settings::{self, ContainerSettings};
use crate::mirror;
use crate::pin::{self, Trust};
use crate::proxy::{self, Proxies, Proxy};
use sai_core::join::{Address, HOSTS_MOST, JoinLine, check_agent_name, check_host, check_token};
use sai_core::json::{self, shown};
use sai_core::limits::{PLATFORMS, SLOTS};
use sai_core::ordered::{Map, Set};
use sai_core::platform;
use sai_core::settings::{self, Reader};
use std::env;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The configuration of this machine's agent, where there is one and it has not joined by itself.
pub const MACHINE: &str = "/etc/sai/agent.json";
/// Variable that names the configuration where `--config` does not.
pub const VARIABLE: &str = "SAI_AGENT_CONFIG";

/// MiB of free space below which no job is accepted, unless the configuration says otherwise: a checkout and its
/// objects fit, and the spools of running jobs can go on growing.
pub const KEEP_FREE_MIB: u64 = 256;

/// Every key a configuration may have, beside those about containers.
const KEYS: [&str; 18] = [
    "master",
    "others",
    "token",
    "pin",
    "proxy",
    "no_proxy",
    "name",
    "platforms",
    "slots",
    "parallel",
    "state",
    "depth",
    "filter",
    "user",
    "env",
    "keep_free_mib",
    "boards",
    "boards_run",
];

/// Most commits that `depth` may ask for; git takes any larger number for all there are.
const DEPTH: u64 = 1_000_000;

/// What a configuration file says; what it leaves out is decided where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the master listens.
    pub master: Address,
    /// More hosts where the same master may be reached, with the same port.
    pub others: Vec<String>,
    /// The agent's secret.
    pub token: String,
    /// Whom to believe to be the master.
    pub trust: Trust,
    /// The proxy on the way to it; where nothing is said of one, the environment decides.
    pub proxies: Option<Proxies>,
    /// What to be called instead of the host's name.
    pub name: Option<String>,
    /// Platforms to offer instead of the host's own.
    pub platforms: Option<Vec<String>>,
    /// Jobs at once, instead of one for every two cores.
    pub slots: Option<u32>,
    /// `SAI_PARALLEL`: what each job may do at once, instead of the cores divided by the slots.
    pub parallel: Option<u32>,
    /// Where jobs, mirrors and the identity are kept.
    pub state: Option<PathBuf>,
    /// Commits of a history that are fetched, instead of all.
    pub depth: Option<u32>,
    /// What of a history is not fetched, one of [`mirror::FILTERS`], instead of all being fetched.
    pub filter: Option<String>,
    /// The user that steps run as, instead of the agent's own.
    pub user: Option<String>,
    /// Variables that each job gets, beside those of its saifile, which go before.
    pub env: Map<String, String>,
    /// MiB of free space below which no job is accepted.
    pub keep_free_mib: u64,
    /// The file that describes the boards of this machine, which are offered.
    pub boards: Option<PathBuf>,
    /// The directory of the sockets of their owners, instead of that of `sai-buddy`.
    pub boards_run: Option<PathBuf>,
    /// Images, and what jobs in containers get of the machine.
    pub containers: ContainerSettings,
}

impl Config {
    /// What a join line says, and nothing else.
    #[must_use]
    pub fn joined(line: &JoinLine) -> Self {
        Self {
            master: line.address.clone(),
            others: line.others.clone(),
            token: line.token.clone(),
            trust: line.fingerprint.map_or(Trust::System, Trust::Fingerprint),
            proxies: None,
            name: None,
            platforms: None,
            slots: None,
            parallel: None,
            state: None,
            depth: None,
            filter: None,
            user: None,
            env: Map::new(),
            keep_free_mib: KEEP_FREE_MIB,
            boards: None,
            boards_run: None,
            containers: ContainerSettings::default(),
        }
    }

    /// The text of a configuration file that [`parse`] reads as this.
    #[must_use]
    pub fn text(&self) -> String {
        let quoted = |text: &str| miniserde::json::to_string(text);
        let mut lines = vec![format!("\"master\": {}", quoted(&self.master.to_string()))];
        if !self.others.is_empty() {
            lines.push(format!("\"others\": {}", miniserde::json::to_string(&self.others)));
        }
        lines.push(format!("\"token\": {}", quoted(&self.token)));
        if let Trust::Fingerprint(bytes) = &self.trust {
            lines.push(format!("\"pin\": {}", quoted(&pin::fingerprint_text(bytes))));
        }
        if let Some(Proxies { proxy, direct }) = &self.proxies {
            lines.push(format!("\"proxy\": {}", quoted(&proxy.as_ref().map_or("none".to_owned(), Proxy::text))));
            lines.push(format!("\"no_proxy\": {}", miniserde::json::to_string(direct)));
        }
        if let Some(name) = &self.name {
            lines.push(format!("\"name\": {}", quoted(name)));
        }
        if let Some(platforms) = &self.platforms {
            lines.push(format!("\"platforms\": {}", miniserde::json::to_string(platforms)));
        }
        for (key, number) in [("slots", self.slots), ("parallel", self.parallel), ("depth", self.depth)] {
            if let Some(number) = number {
                lines.push(format!("\"{key}\": {number}"));
            }
        }
        // A path that is no text cannot stand in JSON; it is then the default one or given on the command line.
        if let Some(state) = self.state.as_deref().and_then(Path::to_str) {
            lines.push(format!("\"state\": {}", quoted(state)));
        }
        if let Some(filter) = &self.filter {
            lines.push(format!("\"filter\": {}", quoted(filter)));
        }
        if let Some(user) = &self.user {
            lines.push(format!("\"user\": {}", quoted(user)));
        }
        if !self.env.is_empty() {
            lines.push(format!("\"env\": {}", miniserde::json::to_string(&self.env)));
        }
        if self.keep_free_mib != KEEP_FREE_MIB {
            lines.push(format!("\"keep_free_mib\": {}", self.keep_free_mib));
        }
        for (key, path) in [("boards", &self.boards), ("boards_run", &self.boards_run)] {
            if let Some(path) = path.as_deref().and_then(Path::to_str) {
                lines.push(format!("\"{key}\": {}", quoted(path)));
            }
        }
        lines.extend(self.containers.keys().iter().map(|(key, value)| format!("\"{key}\": {value}")));
        let mut text = "# Written by `sai-agent join`; the token in it is a secret.\n{\n".to_owned();
        let _ = write!(text, "  {}\n}}\n", lines.join(",\n  "));
        text
    }
}

/// Where an agent keeps its state when nobody says: `/var/lib/sai-agent` for root, else `sai-agent` in
/// `$XDG_STATE_HOME` (XDG base directory specification) or `~/.local/state`.
///
/// # Errors
/// What to do when this user has no home.
pub fn default_state() -> Result<PathBuf, String> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/sai-agent"));
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("sai-agent"))
        .ok_or_else(|| "neither XDG_STATE_HOME nor HOME is set: say where to keep state with --state DIR".to_owned())
}

/// Reads a configuration file.
///
/// # Errors
/// Lines of `FILE:LINE:COLUMN: KEY: expected …` where it is about the text.
pub fn read(file: &Path) -> Result<Config, String> {
    let name = file.display().to_string();
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let mode = opened.metadata().map(|about| about.mode()).unwrap_or(0);
    opened
        .take(json::FILE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    if mode & 0o044 != 0 {
        crate::say(&format!("{name} holds a secret and can be read by others: chmod 600 {name}"));
    }
    parse(&name, &bytes)
}

/// Reads a configuration file's content: an object with `#` comments. Every key but `master` and `token` may be left
/// out; a key that is not known is an error, since it is most likely a known one misspelt.
///
/// # Errors
/// All that is not as expected, a line each.
pub fn parse(file: &str, bytes: &[u8]) -> Result<Config, String> {
    let tree = settings::parse(file, bytes)?;
    let mut reader = Reader::new();
    let known: Vec<&str> = KEYS.iter().chain(&container_settings::KEYS).copied().collect();
    let root = reader.root(&tree, &known);
    let master = reader.needed(&root, "master", |text| text.parse::<Address>().map(drop));
    let token = reader.needed(&root, "token", check_token);
    let pin = reader.checked(&root, "pin", |text| {
        let expected = "64 hexadecimal digits, the SHA-256 of the certificate";
        pin::parse_fingerprint(text).map(drop).map_err(|_| expected.to_owned())
    });
    let others = reader.checked_texts(&root, "others", check_host).unwrap_or_default();
    if others.len() >= HOSTS_MOST {
        reader.report(&root, "others", &format!("fewer than {HOSTS_MOST} hosts"));
    }
    let no_proxy = reader.texts(&root, "no_proxy");
    let proxy = reader.checked(&root, "proxy", |text| match text {
        "none" => Ok(()),
        text => Proxy::parse(text).map(drop),
    });
    let proxies = match (proxy, no_proxy) {
        (None, None) => None,
        (proxy, direct) => {
            let proxy = proxy.filter(|text| text != "none").and_then(|text| Proxy::parse(&text).ok());
            let direct = direct.unwrap_or_default().iter().flat_map(|text| proxy::list(text)).collect();
            Some(Proxies { proxy, direct })
        }
    };
    let env = reader.variables(&root, "env").unwrap_or_default();
    let name = reader.checked(&root, "name", check_agent_name);
    let platforms = reader.checked_texts(&root, "platforms", platform::check_name).map(|mut names| {
        let mut seen = Set::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    });
    let absolute =
        |text: &str| if text.starts_with('/') { Ok(()) } else { Err("a path that begins with /".to_owned()) };
    let state = reader.checked(&root, "state", absolute);
    let boards = reader.checked(&root, "boards", absolute);
    let boards_run = reader.checked(&root, "boards_run", absolute);
    // A machine may be there for its boards alone.
    let least = usize::from(boards.is_none());
    if platforms.as_ref().is_some_and(|names| !(least..=PLATFORMS).contains(&names.len())) {
        reader.report(&root, "platforms", &format!("{least} to {PLATFORMS} platform names"));
    }
    let mut count = |key| reader.count(&root, key, 1..=u64::from(SLOTS)).and_then(|count| u32::try_from(count).ok());
    let (slots, parallel) = (count("slots"), count("parallel"));
    let depth = reader.count(&root, "depth", 1..=DEPTH).and_then(|depth| u32::try_from(depth).ok());
    let filter = reader.checked(&root, "filter", |text| {
        let known = mirror::FILTERS.contains(&text);
        if known { Ok(()) } else { Err(format!("one of {}", mirror::FILTERS.join(", "))) }
    });
    let user = reader.checked(&root, "user", check_user);
    let keep_free_mib = reader.count(&root, "keep_free_mib", 0..=u64::MAX >> 21);
    let containers = ContainerSettings::read(&mut reader, &root);
    reader.finish(file).map_err(|lines| lines.join("\n"))?;
    let missing = || format!("{file}: expected a master and a token; `sai-agent join LINE` writes them");
    Ok(Config {
        master: master.ok_or_else(missing)?.parse()?,
        token: token.ok_or_else(missing)?,
        trust: match pin {
            None => Trust::System,
            Some(pin) => Trust::Fingerprint(pin::parse_fingerprint(&pin).map_err(|error| error.to_string())?),
        },
        others,
        proxies,
        name,
        platforms,
        slots,
        parallel,
        state: state.map(PathBuf::from),
        depth,
        filter,
        user,
        env,
        keep_free_mib: keep_free_mib.unwrap_or(KEEP_FREE_MIB),
        boards: boards.map(PathBuf::from),
        boards_run: boards_run.map(PathBuf::from),
        containers,
    })
}

/// Checks a user's name as useradd(8) allows it.
///
/// # Errors
/// What was expected.
pub fn check_user(name: &str) -> Result<(), String> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if !first || name.len() > 32 || !name.bytes().all(fine) {
        return Err(format!("expected the name of a user of this system, found {}", shown(name)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn error(text: &str) -> String {
        parse("F", text.as_bytes()).map(drop).expect_err(text)
    }

    #[test]
    fn everything_that_can_be_said() {
        let pin = "ab".repeat(32);
        let text = format!(
            r#"# an agent in the shed
            {{ "master": "wss://ci.example.org:4433", # the page is there too
              "token": "{TOKEN}", "pin": "{pin}", "name": "shed-2",
              "platforms": ["linux-debian-12/x86_64/gcc", "linux-debian-12/x86_64/gcc", "board/stm32"],
              "slots": 3, "parallel": 4, "state": "/srv/sai", "depth": 9, "filter": "blob:none", "user": "sai", "keep_free_mib": 1000 }}"#
        );
        let config = parse("F", text.as_bytes()).expect("a configuration");
        assert_eq!(config.master.to_string(), "wss://ci.example.org:4433");
        assert_eq!(config.trust, Trust::Fingerprint([0xab; 32]));
        assert_eq!(config.name.as_deref(), Some("shed-2"));
        assert_eq!(config.platforms.as_deref().map(<[String]>::len), Some(2));
        assert_eq!((config.slots, config.parallel, config.depth), (Some(3), Some(4), Some(9)));
        assert_eq!(config.filter.as_deref(), Some("blob:none"));
        assert_eq!(config.keep_free_mib, 1000);
        assert_eq!(config.state.as_deref(), Some(Path::new("/srv/sai")));
        assert_eq!(config.user.as_deref(), Some("sai"));
        assert!(parse("F", config.text().as_bytes()).is_ok_and(|again| again == config), "{}", config.text());
    }

    #[test]
    fn the_example_says_everything_that_can_be_said() {
        let example = include_str!("../../configs/agent.json");
        let config = parse("F", example.as_bytes()).expect("the example");
        assert!(config.name.is_some() && config.user.is_some() && config.parallel.is_some());
        for key in KEYS {
            assert!(example.contains(&format!("\"{key}\":")), "{key} is not shown");
        }
    }

    #[cfg(feature = "nspawn")]
    #[test]
    fn the_example_with_containers_says_everything_about_them() {
        let example = include_str!("../../configs/agent-nspawn.json");
        let config = parse("F", example.as_bytes()).expect("the example");
        assert!(!config.containers.binds.is_empty() && config.containers.upper_mib.is_some());
        for key in container_settings::KEYS {
            assert!(example.contains(&format!("\"{key}\":")), "{key} is not shown");
        }
        assert!(parse("F", config.text().as_bytes()).is_ok_and(|again| again == config), "{}", config.text());
    }

    #[test]
    fn what_join_writes_reads_back() {
        let address: Address = "wss://[2001:db8::1]:4433".parse().expect("an address");
        for fingerprint in [None, Some([9; 32])] {
            let line = JoinLine::new(address.clone(), "a", TOKEN, fingerprint).expect("a line");
            let config = Config::joined(&line);
            assert!(parse("F", config.text().as_bytes()).is_ok_and(|again| again == config), "{}", config.text());
        }
    }

    #[test]
    fn errors_name_the_place_and_what_was_expected() {
        let with = |more: &str| format!("{{\n \"master\": \"wss://a\",\n \"token\": \"{TOKEN}\",\n {more}}}");
        for (text, place, words) in [
            ("", "1:1", "expected"),
            ("[]", "1:1", "an object"),
            ("{}", "1:1", "a key master"),
            (r#"{"master": "wss://a"}"#, "1:1", "a key token"),
            (r#"{"master": "a"}"#, "1:12", "wss://HOST:PORT"),
            (&with(r#""token": "x""#), "4:2", "only once"),
            (&with(r#""slot": 2"#), "4:2", "one of master"),
            (&with(r#""slots": 0"#), "4:11", "from 1 to 256"),
            (&with(r#""slots": -1"#), "4:11", "whole number"),
            (&with(r#""slots": 1.5"#), "4:11", "whole number"),
            (&with(r#""slots": 257"#), "4:11", "to 256"),
            (&with(r#""depth": 0"#), "4:11", "from 1 to"),
            (&with(r#""filter": "--upload-pack=x""#), "4:12", "one of blob:none"),
            (&with(r#""filter": "tree:0""#), "4:12", "one of blob:none"),
            (&with(r#""pin": "abc""#), "4:9", "64 hexadecimal"),
            (&with(r#""platforms": []"#), "4:15", "1 to 512"),
            (&with(r#""platforms": ["../x"]"#), "4:16", "platform name"),
            (&with(r#""state": "here""#), "4:11", "begins with /"),
            (&with(r#""user": "-c reboot""#), "4:10", "name of a user"),
            (&with(r#""user": 1"#), "4:10", "text"),
            (&with(r#""name": "a b""#), "4:10", "expected a name"),
        ] {
            let error = error(text);
            let named = |line: &str| line.starts_with(&format!("F:{place}: ")) && line.contains(words);
            assert!(error.lines().any(named), "{text}: {error}");
            assert!(!error.contains("expected expected"), "{error}");
        }
        let short = error(r#"{"master": "wss://a", "token": "secret-word"}"#);
        assert!(!short.contains("secret-word"), "{short}");
    }
}
