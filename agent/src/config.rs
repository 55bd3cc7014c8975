//! Configuration file ↔ what an agent is to do: where its master is, what it offers, where it works.

use crate::pin::{self, Trust};
use sai_core::join::{Address, JoinLine, check_agent_name, check_token};
use sai_core::json::{self, At, Value, shown};
use sai_core::limits::{PLATFORMS, SLOTS};
use sai_core::platform;
use std::env;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Name of the configuration file that `sai-agent join` writes into the state directory.
pub const FILE_NAME: &str = "agent.json";

/// MiB of free space below which no job is accepted, unless the configuration says otherwise: a checkout and its
/// objects fit, and the spools of running jobs can go on growing.
pub const KEEP_FREE_MIB: u64 = 256;

/// Every key a configuration may have.
const KEYS: [&str; 10] =
    ["master", "token", "pin", "name", "platforms", "slots", "parallel", "state", "user", "keep_free_mib"];

/// What a configuration file says; what it leaves out is decided where it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the master listens.
    pub master: Address,
    /// The agent's secret.
    pub token: String,
    /// Whom to believe to be the master.
    pub trust: Trust,
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
    /// The user that steps run as, instead of the agent's own.
    pub user: Option<String>,
    /// MiB of free space below which no job is accepted.
    pub keep_free_mib: u64,
}

impl Config {
    /// What a join line says, and nothing else.
    #[must_use]
    pub fn joined(line: &JoinLine) -> Self {
        Self {
            master: line.address.clone(),
            token: line.token.clone(),
            trust: line.fingerprint.map_or(Trust::System, Trust::Fingerprint),
            name: None,
            platforms: None,
            slots: None,
            parallel: None,
            state: None,
            user: None,
            keep_free_mib: KEEP_FREE_MIB,
        }
    }

    /// The text of a configuration file that [`parse`] reads as this.
    #[must_use]
    pub fn text(&self) -> String {
        let quoted = |text: &str| miniserde::json::to_string(text);
        let mut lines = vec![format!("\"master\": {}", quoted(&self.master.to_string()))];
        lines.push(format!("\"token\": {}", quoted(&self.token)));
        if let Trust::Fingerprint(bytes) = &self.trust {
            lines.push(format!("\"pin\": {}", quoted(&pin::fingerprint_text(bytes))));
        }
        if let Some(name) = &self.name {
            lines.push(format!("\"name\": {}", quoted(name)));
        }
        if let Some(platforms) = &self.platforms {
            lines.push(format!("\"platforms\": {}", miniserde::json::to_string(platforms)));
        }
        for (key, number) in [("slots", self.slots), ("parallel", self.parallel)] {
            if let Some(number) = number {
                lines.push(format!("\"{key}\": {number}"));
            }
        }
        // A path that is no text cannot stand in JSON; it is then the default one or given on the command line.
        if let Some(state) = self.state.as_deref().and_then(Path::to_str) {
            lines.push(format!("\"state\": {}", quoted(state)));
        }
        if let Some(user) = &self.user {
            lines.push(format!("\"user\": {}", quoted(user)));
        }
        if self.keep_free_mib != KEEP_FREE_MIB {
            lines.push(format!("\"keep_free_mib\": {}", self.keep_free_mib));
        }
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
/// One line, `FILE:LINE:COLUMN: expected …` where it is about the text.
pub fn read(file: &Path) -> Result<Config, String> {
    let name = file.display();
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let mode = opened.metadata().map(|about| about.mode()).unwrap_or(0);
    opened
        .take(json::FILE_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("{name} cannot be read: {error}"))?;
    if mode & 0o044 != 0 {
        eprintln!("sai-agent: {name} holds a secret and can be read by others: chmod 600 {name}");
    }
    parse(&bytes).map_err(|at| format!("{name}:{at}"))
}

/// Reads a configuration file's content: an object with `#` comments. Every key but `master` and `token` may be left
/// out; a key that is not known is an error, since it is most likely a known one misspelt.
///
/// # Errors
/// Where it is not as expected.
pub fn parse(bytes: &[u8]) -> Result<Config, At> {
    let tree = json::parse(bytes)?;
    let entries = tree.as_object().ok_or_else(|| tree.at.expected("an object { … }"))?;
    let mut seen: Vec<&str> = Vec::new();
    for (key, _) in entries {
        if !KEYS.contains(&key.value.as_str()) {
            let expected = format!("one of {}, found {}", KEYS.join(", "), shown(&key.value));
            return Err(key.at.expected(expected));
        }
        if seen.contains(&key.value.as_str()) {
            return Err(key.at.expected(format!("{} only once", key.value)));
        }
        seen.push(&key.value);
    }
    let checked = |key: &str, check: &dyn Fn(&str) -> Result<(), String>| {
        let Some(value) = tree.get(key) else { return Ok(None) };
        let text = text(value, key)?;
        check(text).map_err(|error| wanted(value, key, &error))?;
        Ok(Some(text.to_owned()))
    };
    let needed = |key: &str| tree.at.expected(format!("a key {key}; `sai-agent join LINE` writes it"));
    let whole = |key: &str, most: u64| {
        let Some(value) = tree.get(key) else { return Ok(None) };
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        number
            .filter(|number| *number <= most)
            .map(Some)
            .ok_or_else(|| value.at.expected(format!("a whole number up to {most}")).about(key))
    };
    let counted = |key: &str| {
        let number = whole(key, u64::from(SLOTS))?;
        if number == Some(0) {
            return Err(tree.get(key).map_or(tree.at, Value::position).expected("at least 1").about(key));
        }
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    };
    let master = checked("master", &|text| text.parse::<Address>().map(drop))?.ok_or_else(|| needed("master"))?;
    let trust = match tree.get("pin") {
        None => Trust::System,
        Some(value) => Trust::Fingerprint(
            pin::parse_fingerprint(text(value, "pin")?)
                .map_err(|_| value.at.expected("64 hexadecimal digits, the SHA-256 of the certificate").about("pin"))?,
        ),
    };
    let platforms = match tree.get("platforms") {
        None => None,
        Some(value) => Some(platforms(value)?),
    };
    let state = checked("state", &|text| {
        if text.starts_with('/') { Ok(()) } else { Err("expected a path that begins with /".to_owned()) }
    })?;
    Ok(Config {
        master: master.parse().map_err(|error: String| tree.at.expected(error))?,
        token: checked("token", &check_token)?.ok_or_else(|| needed("token"))?,
        trust,
        name: checked("name", &check_agent_name)?,
        platforms,
        slots: counted("slots")?,
        parallel: counted("parallel")?,
        state: state.map(PathBuf::from),
        user: checked("user", &check_user)?,
        keep_free_mib: whole("keep_free_mib", u64::MAX >> 21)?.unwrap_or(KEEP_FREE_MIB),
    })
}

fn text<'a>(value: &'a Value, key: &str) -> Result<&'a str, At> {
    value.as_text().ok_or_else(|| value.at.expected("a text").about(key))
}

/// An error of one of the checks of `sai_core`, which say "expected" themselves, at a value's place.
fn wanted(value: &Value, key: &str, error: &str) -> At {
    value.at.expected(error.strip_prefix("expected ").unwrap_or(error)).about(key)
}

fn platforms(value: &Value) -> Result<Vec<String>, At> {
    let list = value.as_array().ok_or_else(|| value.at.expected("an array of platform names").about("platforms"))?;
    if list.is_empty() || list.len() > PLATFORMS {
        return Err(value.at.expected(format!("1 to {PLATFORMS} platform names")).about("platforms"));
    }
    let mut names = Vec::new();
    for entry in list {
        let name = text(entry, "platforms")?;
        platform::check_name(name).map_err(|error| wanted(entry, "platforms", &error))?;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
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
        parse(text.as_bytes()).map(drop).expect_err(text).to_string()
    }

    #[test]
    fn everything_that_can_be_said() {
        let pin = "ab".repeat(32);
        let text = format!(
            r#"# an agent in the shed
            {{ "master": "wss://ci.example.org:4433", # the page is there too
              "token": "{TOKEN}", "pin": "{pin}", "name": "shed-2",
              "platforms": ["linux-debian-12/x86_64/gcc", "linux-debian-12/x86_64/gcc", "board/stm32"],
              "slots": 3, "parallel": 4, "state": "/srv/sai", "user": "sai", "keep_free_mib": 1000 }}"#
        );
        let config = parse(text.as_bytes()).expect("a configuration");
        assert_eq!(config.master.to_string(), "wss://ci.example.org:4433");
        assert_eq!(config.trust, Trust::Fingerprint([0xab; 32]));
        assert_eq!(config.name.as_deref(), Some("shed-2"));
        assert_eq!(config.platforms.as_deref().map(<[String]>::len), Some(2));
        assert_eq!((config.slots, config.parallel, config.keep_free_mib), (Some(3), Some(4), 1000));
        assert_eq!(config.state.as_deref(), Some(Path::new("/srv/sai")));
        assert_eq!(config.user.as_deref(), Some("sai"));
        assert!(parse(config.text().as_bytes()).is_ok_and(|again| again == config), "{}", config.text());
    }

    #[test]
    fn the_example_says_everything_that_can_be_said() {
        let example = include_str!("../../configs/agent.json");
        let config = parse(example.as_bytes()).expect("the example");
        assert!(config.name.is_some() && config.user.is_some() && config.parallel.is_some());
        for key in KEYS {
            assert!(example.contains(&format!("\"{key}\":")), "{key} is not shown");
        }
    }

    #[test]
    fn what_join_writes_reads_back() {
        let address: Address = "wss://[2001:db8::1]:4433".parse().expect("an address");
        for fingerprint in [None, Some([9; 32])] {
            let line = JoinLine::new(address.clone(), "a", TOKEN, fingerprint).expect("a line");
            let config = Config::joined(&line);
            assert!(parse(config.text().as_bytes()).is_ok_and(|again| again == config), "{}", config.text());
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
            (&with(r#""slots": 0"#), "4:11", "at least 1"),
            (&with(r#""slots": -1"#), "4:11", "whole number"),
            (&with(r#""slots": 1.5"#), "4:11", "whole number"),
            (&with(r#""slots": 257"#), "4:11", "up to 256"),
            (&with(r#""pin": "abc""#), "4:9", "64 hexadecimal"),
            (&with(r#""platforms": []"#), "4:15", "1 to 512"),
            (&with(r#""platforms": ["../x"]"#), "4:16", "platform name"),
            (&with(r#""state": "here""#), "4:11", "begins with /"),
            (&with(r#""user": "-c reboot""#), "4:10", "name of a user"),
            (&with(r#""user": 1"#), "4:10", "a text"),
            (&with(r#""name": "a b""#), "4:10", "expected a name"),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("{place}: ")) && error.contains(words), "{text}: {error}");
            assert!(!error.contains("expected expected"), "{error}");
        }
        let short = error(r#"{"master": "wss://a", "token": "secret-word"}"#);
        assert!(!short.contains("secret-word"), "{short}");
    }
}
