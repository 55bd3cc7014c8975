//! Directory → what every git in it is run with: its only configuration, and a secret lent to one process while it runs.
//!
//! Git takes a password from a URL, a prompt or a credential helper. A URL ends up among the arguments of git's own helpers,
//! which every user of the machine can read. So git gets the URL without it, and `git credential-store` (gitcredentials(7))
//! gets a file that nobody else may read, which is there for as long as the git process that needs it. It is offered to the
//! host of the URL alone, and to whatever git fetches from that host: the repository, and its submodules there.

use crate::remove_tree::remove_tree;
use rustix::process::{Pid, test_kill_process};
use sai_core::secret::CloneUrl;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Name of the file with the configuration.
const CONFIGURATION_FILE: &str = ".gitconfig";
/// Name of the directory of what is lent.
const SECRETS: &str = ".secrets";

/// The only configuration git reads besides that of the repositories we have made ourselves, also in the git-upload-pack that
/// serves a repository on this machine: that one may belong to another user, and gives single objects as other servers do. A
/// repository of ours is a cache that is made anew when it turns out to be broken, so nothing is synced; packs are never
/// unpacked, so that a checkout links few files. Objects are checked as they come; what old programs got wrong without doing
/// harm (a missing address, a mode with a zero in front) is let pass, since such histories cannot be mended any more.
const CONFIGURATION: &str = "[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tfsync = none
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\trecurseSubmodules = false
\tshowForcedUpdates = false
\tfsckObjects = true
[transfer]
\tunpackLimit = 1
[fetch \"fsck\"]
\tbadDate = ignore
\tbadDateOverflow = ignore
\tbadEmail = ignore
\tbadFilemode = ignore
\tbadName = ignore
\tbadTimezone = ignore
\tmissingAuthor = ignore
\tmissingEmail = ignore
\tmissingNameBeforeEmail = ignore
\tmissingSpaceBeforeDate = ignore
\tmissingSpaceBeforeEmail = ignore
\tmultipleAuthors = ignore
\tzeroPaddedDate = ignore
\tzeroPaddedFilemode = ignore
\tmissingTaggerEntry = ignore
\tbadTagName = ignore
[uploadpack]
\tallowFilter = true
\tallowAnySHA1InWant = true
[protocol]
\tversion = 2
\tallow = never
[http]
\tlowSpeedLimit = 1
\tlowSpeedTime = 60
[safe]
\tdirectory = *
[advice]
\tdetachedHead = false
[credential]
\thelper =
";

/// What all gits of one directory share.
#[derive(Clone, Debug)]
pub struct Tools {
    configuration: PathBuf,
    secrets: PathBuf,
}

/// A configuration with a secret in it or none; the secret is taken back when this is dropped.
#[derive(Debug)]
pub struct Lent {
    configuration: PathBuf,
    directory: Option<PathBuf>,
}

impl Lent {
    /// The file that git is to read.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // What cannot be removed now is removed with what a killed process leaves behind.
            let _ = remove_tree(directory);
        }
    }
}

impl Tools {
    /// Makes sure the configuration is in this directory, which is there, and that no secret is that was lent to a process that
    /// was killed.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let tools = Self { configuration: directory.join(CONFIGURATION_FILE), secrets: directory.join(SECRETS) };
        // A flash disk is not written to in order to say the same.
        if !fs::read(&tools.configuration).is_ok_and(|text| text == CONFIGURATION.as_bytes()) {
            let temporary = tools.configuration.with_extension(format!("new-{}", unique()));
            fs::write(&temporary, CONFIGURATION)?;
            fs::rename(temporary, &tools.configuration)?;
        }
        tools.sweep()?;
        Ok(tools)
    }

    fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.secrets) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.split('-').next()?.parse().ok()).and_then(Pid::from_raw);
            if pid.is_none_or(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH)) {
                remove_tree(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The configuration for one git process that may need this URL's credentials.
    ///
    /// # Errors
    /// The disk's.
    pub fn lend(&self, url: &CloneUrl) -> io::Result<Lent> {
        let Some(credential) = url.credential() else {
            return Ok(Lent { configuration: self.configuration.clone(), directory: None });
        };
        let directory = self.secrets.join(unique());
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let lent = Lent { configuration: directory.join("config"), directory: Some(directory.clone()) };
        let file = directory.join("credentials");
        write_private(&file, format!("{}\n", credential.reveal()).as_bytes())?;
        let file = file.to_str().ok_or_else(|| io::Error::other("expected the state directory's path to be UTF-8"))?;
        // A word for the shell by which git starts its helpers, in a value of a configuration.
        let word = format!("'{}'", file.replace('\'', "'\\''"));
        let text = format!("{CONFIGURATION}\thelper = {}\n", quoted(&format!("store --file {word}")));
        write_private(&lent.configuration, text.as_bytes())?;
        Ok(lent)
    }
}

/// A value in git's configuration, git-config(1).
pub(crate) fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A name no other thread or process of this machine has now; it tells whose it is.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_lent_and_taken_back_also_from_the_dead() {
        let directory = std::env::temp_dir().join(format!("sai-tools 'of' \"{}\"", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let tools = Tools::open(&directory).expect("tools");
        let plain = tools.lend(&CloneUrl::from("https://host/a")).expect("no secret");
        assert_eq!(plain.configuration(), directory.join(CONFIGURATION_FILE));
        let lent = tools.lend(&CloneUrl::from("https://ann:hunter2@host/a")).expect("a secret");
        let file = lent.configuration().with_file_name("credentials");
        assert_eq!(fs::read_to_string(&file).expect("credentials"), "https://ann:hunter2@host\n");
        assert_eq!(fs::metadata(&file).expect("credentials").permissions().mode() & 0o777, 0o600);
        let place = file.parent().expect("a directory").to_path_buf();
        assert_eq!(fs::metadata(&place).expect("a directory").permissions().mode() & 0o777, 0o700);
        let text = fs::read_to_string(lent.configuration()).expect("a configuration");
        assert!(!text.contains("hunter2") && text.contains("store --file"), "{text}");
        drop(lent);
        assert!(!place.exists());
        // No process has this number: pid_max is below.
        let dead = directory.join(SECRETS).join("2000000000-1");
        fs::create_dir_all(&dead).expect("a directory");
        let alive = directory.join(SECRETS).join("1-1");
        fs::create_dir_all(&alive).expect("a directory");
        Tools::open(&directory).expect("tools");
        assert!(!dead.exists() && alive.exists());
        fs::remove_dir_all(directory).expect("removed");
    }
}
