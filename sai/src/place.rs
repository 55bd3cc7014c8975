//! File of a person's own ↔ which master they use, what they know it by, and the token that they show it.

use miniserde::json;
use sai_agent::durable;
use sai_agent::pin::{Trust, fingerprint_text, parse_fingerprint};
use sai_core::join::{Address, check_token};
use sai_core::json::FILE_MAX;
use sai_core::settings::{self, Reader};
use std::env;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The file's name in the directory of this program.
const FILE: &str = "login.json";
/// What a fingerprint is, for who writes one.
pub const FINGERPRINT: &str = "64 hexadecimal digits, the SHA-256 of the certificate";

/// What `sai login` has proven.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Where the master listens.
    pub master: Address,
    /// Whom to believe to be the master.
    pub trust: Trust,
    /// The person's secret.
    pub token: String,
    /// Who that is.
    pub person: Option<String>,
}

/// Where a login is kept: `sai` in `$XDG_CONFIG_HOME` (XDG base directory specification) or `~/.config`.
///
/// # Errors
/// What to do when this user has no home.
pub fn file() -> Result<PathBuf, String> {
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|base| base.join("sai").join(FILE))
        .ok_or_else(|| "neither XDG_CONFIG_HOME nor HOME is set: nobody knows where a login is kept".to_owned())
}

impl Login {
    fn text(&self) -> String {
        let quoted = |text: &str| json::to_string(text);
        let mut lines = vec![format!("\"master\": {}", quoted(&self.master.to_string()))];
        if let Trust::Fingerprint(fingerprint) = &self.trust {
            lines.push(format!("\"pin\": {}", quoted(&fingerprint_text(fingerprint))));
        }
        lines.push(format!("\"token\": {}", quoted(&self.token)));
        lines.extend(self.person.iter().map(|person| format!("\"person\": {}", quoted(person))));
        format!("# Written by `sai login`; the token in it is a secret.\n{{\n  {}\n}}\n", lines.join(",\n  "))
    }

    fn parse(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let tree = settings::parse(name, bytes)?;
        let mut reader = Reader::new();
        let root = reader.root(&tree, &["master", "pin", "token", "person"]);
        let master = reader.needed(&root, "master", |text| text.parse::<Address>().map(drop));
        let token = reader.needed(&root, "token", check_token);
        let pin =
            reader.checked(&root, "pin", |text| parse_fingerprint(text).map(drop).map_err(|_| FINGERPRINT.to_owned()));
        let person = reader.text(&root, "person");
        reader.finish(name).map_err(|errors| errors.join("\n"))?;
        let master = master.and_then(|text| text.parse().ok()).ok_or_else(|| format!("{name}: expected a master"))?;
        let trust = pin.and_then(|text| parse_fingerprint(&text).ok()).map_or(Trust::System, Trust::Fingerprint);
        Ok(Self { master, trust, token: token.unwrap_or_default(), person })
    }

    /// Reads a login, if there is one; with a warning where others can read it, too.
    ///
    /// # Errors
    /// The disk's, or what was expected at which line and column.
    pub fn read(file: &Path) -> Result<Option<(Self, Option<String>)>, String> {
        let name = file.display().to_string();
        let opened = match File::open(file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| format!("{name} cannot be read: {error}"))?,
        };
        let mode = opened.metadata().map(|about| about.mode()).unwrap_or(0);
        let mut bytes = Vec::new();
        let read = opened.take(FILE_MAX as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("{name} cannot be read: {error}"))?;
        let open = mode & 0o077 != 0;
        let warning = open.then(|| format!("{name} holds a secret and can be read by others: chmod 600 {name}"));
        Ok(Some((Self::parse(&name, &bytes)?, warning)))
    }

    /// Keeps it where its user alone can read it.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self, file: &Path) -> Result<(), String> {
        let wrong = |error| format!("{} cannot be written: {error}", file.display());
        if let Some(directory) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(wrong)?;
        }
        durable::write(file, self.text().as_bytes()).map_err(wrong)
    }
}

/// Forgets a login; false where there was none.
///
/// # Errors
/// The disk's.
pub fn forget(file: &Path) -> Result<bool, String> {
    match fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(format!("{} cannot be removed: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_what_is_wrong_has_its_place() {
        for (trust, person) in [(Trust::System, None), (Trust::Fingerprint([7; 32]), Some("ann".to_owned()))] {
            let master = "https://ci.example.org/sai".parse().unwrap();
            let login = Login { master, trust, token: "0123456789abcdef".to_owned(), person };
            assert!(Login::parse("f", login.text().as_bytes()).is_ok_and(|read| read == login));
        }
        let text = "{\"master\": \"wss://a\",\n \"token\": \"0123456789abcdef\", \"pin\": \"07\"}";
        let error = Login::parse("f", text.as_bytes()).err().unwrap();
        assert!(error.starts_with("f:2:") && error.contains("64 hexadecimal digits"), "{error}");
        let error = Login::parse("f", b"{\"master\": \"wss://a\"}").err().unwrap();
        assert!(error.contains("token"), "{error}");
    }
}
