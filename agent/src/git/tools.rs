//! Directory → what every git in it is run with: its only configuration, and a secret lent to one process while it runs.
//!
//! Git takes a password from a URL, a prompt or a credential helper. A URL ends up among the arguments of git's own helpers,
//! which every user of the machine can read. So git gets the URL without it, and `git credential-store` (gitcredentials(7))
//! gets a file that nobody else may read, which is there for as long as the git process that needs it. It is offered to the
//! host of the URL alone, and to whatever git fetches from that host: the repository, and its submodules there. The password of
//! a proxy is lent the same way; what the agent's configuration says of proxies is in a file of the directory, where agent and
//! supervisors look it up.

use crate::durable;
use crate::proxy::{Proxies, Proxy};
use crate::remove_tree::remove_tree;
use miniserde::{Deserialize, Serialize, json};
use rustix::process::{Pid, test_kill_process};
use sai_core::secret::CloneUrl;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Name of the file with the configuration.
const CONFIGURATION_FILE: &str = ".gitconfig";
/// Name of the file with the proxies, which only this user can read.
const PROXIES_FILE: &str = ".proxies";
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

/// The option by which a git that takes objects in from a file lets pass what one that fetches does.
pub fn strict() -> String {
    let lines = CONFIGURATION.lines().skip_while(|line| *line != "[fetch \"fsck\"]").skip(1);
    let passed = lines.take_while(|line| line.starts_with('\t')).map(|line| line.replace(['\t', ' '], ""));
    format!("--strict={}", passed.collect::<Vec<_>>().join(","))
}

/// What all gits of one directory share.
#[derive(Clone, Debug)]
pub struct Tools {
    /// None for the user's own.
    configuration: Option<PathBuf>,
    secrets: PathBuf,
    proxies: Option<Proxies>,
}

/// The file with the proxies.
#[derive(Serialize, Deserialize)]
struct ProxiesFile {
    proxy: Option<String>,
    direct: Vec<String>,
}

/// Has every git of a directory take these proxies from now on, or those of its environment.
///
/// # Errors
/// The disk's.
pub fn set_proxies(directory: &Path, proxies: Option<&Proxies>) -> io::Result<()> {
    let text = proxies.map(|Proxies { proxy, direct }| {
        json::to_string(&ProxiesFile { proxy: proxy.as_ref().map(Proxy::text), direct: direct.clone() })
    });
    set(directory, PROXIES_FILE, text.as_deref())
}

/// Keeps a setting in a file of a directory, or that there is none.
pub(crate) fn set(directory: &Path, name: &str, value: Option<&str>) -> io::Result<()> {
    let file = directory.join(name);
    // A flash disk is not written to in order to say the same.
    if fs::read_to_string(&file).ok().as_deref() == value {
        return Ok(());
    }
    match value {
        Some(value) => {
            fs::create_dir_all(directory)?;
            durable::write(&file, value.as_bytes())
        }
        None => fs::remove_file(file),
    }
}

/// A configuration with a secret in it or none; the secret is taken back when this is dropped.
#[derive(Debug)]
pub struct Lent {
    configuration: Option<PathBuf>,
    directory: Option<PathBuf>,
}

impl Lent {
    /// The file that git is to read in place of the user's configuration and the system's.
    pub fn configuration(&self) -> Option<&Path> {
        self.configuration.as_deref()
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
        let proxies = match fs::read_to_string(directory.join(PROXIES_FILE)) {
            Ok(text) => Some(read_proxies(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let (configuration, secrets) = (directory.join(CONFIGURATION_FILE), directory.join(SECRETS));
        let tools = Self { configuration: Some(configuration.clone()), secrets, proxies };
        // A flash disk is not written to in order to say the same.
        if !fs::read(&configuration).is_ok_and(|text| text == CONFIGURATION.as_bytes()) {
            let temporary = configuration.with_extension(format!("new-{}", unique()));
            fs::write(&temporary, CONFIGURATION)?;
            fs::rename(temporary, &configuration)?;
        }
        tools.sweep()?;
        Ok(tools)
    }

    /// For a repository of the user's who started this program, by that user's own configuration. It asks no server for anything.
    pub fn of_user() -> Self {
        Self { configuration: None, secrets: PathBuf::new(), proxies: None }
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

    /// What a git process may not inherit of the environment, and what it gets instead, where the proxies are configured.
    pub(crate) fn proxies(&self) -> Option<&Proxies> {
        self.proxies.as_ref()
    }

    /// The configuration for one git process that may need this URL's credentials, and those of a proxy.
    ///
    /// # Errors
    /// The disk's.
    pub fn lend(&self, url: &CloneUrl) -> io::Result<Lent> {
        let credential = url.credential();
        let proxy = self.proxies.as_ref().map(|proxies| through(proxies, url.shown())).unwrap_or_default();
        if self.configuration.is_none() || credential.is_none() && proxy.is_empty() {
            return Ok(Lent { configuration: self.configuration.clone(), directory: None });
        }
        let directory = self.secrets.join(unique());
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let configuration = directory.join("config");
        let lent = Lent { configuration: Some(configuration.clone()), directory: Some(directory.clone()) };
        let mut text = CONFIGURATION.to_owned();
        if let Some(credential) = credential {
            let file = directory.join("credentials");
            write_private(&file, format!("{}\n", credential.reveal()).as_bytes())?;
            let file =
                file.to_str().ok_or_else(|| io::Error::other("expected the state directory's path to be UTF-8"))?;
            // A word for the shell by which git starts its helpers, in a value of a configuration.
            let word = format!("'{}'", file.replace('\'', "'\\''"));
            text.push_str(&format!("\thelper = {}\n", quoted(&format!("store --file {word}"))));
        }
        text.push_str(&proxy);
        write_private(&configuration, text.as_bytes())?;
        Ok(lent)
    }
}

fn read_proxies(text: &str) -> io::Result<Proxies> {
    let bad =
        || io::Error::new(io::ErrorKind::InvalidData, format!("{PROXIES_FILE} is damaged: start the agent again"));
    let ProxiesFile { proxy, direct } = json::from_str(text).map_err(|_| bad())?;
    let proxy = proxy.map(|text| Proxy::parse(&text)).transpose().map_err(|_| bad())?;
    Ok(Proxies { proxy, direct })
}

/// The part of git's configuration that names the proxy on the way to a web server, and that this URL's own is reached without
/// it where it is: git itself knows no ports in the list of such hosts, and not every one knows networks.
fn through(proxies: &Proxies, url: &str) -> String {
    let Some(proxy) = &proxies.proxy else { return String::new() };
    let mut text = format!("[http]\n\tproxy = {}\n", quoted(&proxy.text()));
    if let Some((scheme @ ("http" | "https"), rest)) = url.split_once("://") {
        let place = rest.split('/').next().unwrap_or(rest);
        let port = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match place.rsplit_once(':') {
            Some((host, digits)) if !digits.ends_with(']') => (host, digits.parse().unwrap_or(port)),
            _ => (place, port),
        };
        if proxies.to(host.trim_matches(['[', ']']), port).is_none() {
            text.push_str(&format!("[http {}]\n\tproxy =\n", quoted(&format!("{scheme}://{place}"))));
        }
    }
    text
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
        assert_eq!(plain.configuration(), Some(&*directory.join(CONFIGURATION_FILE)));
        let lent = tools.lend(&CloneUrl::from("https://ann:hunter2@host/a")).expect("a secret");
        let configuration = lent.configuration().expect("a configuration").to_path_buf();
        let file = configuration.with_file_name("credentials");
        assert_eq!(fs::read_to_string(&file).expect("credentials"), "https://ann:hunter2@host\n");
        assert_eq!(fs::metadata(&file).expect("credentials").permissions().mode() & 0o777, 0o600);
        let place = file.parent().expect("a directory").to_path_buf();
        assert_eq!(fs::metadata(&place).expect("a directory").permissions().mode() & 0o777, 0o700);
        let text = fs::read_to_string(&configuration).expect("a configuration");
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
