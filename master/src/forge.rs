//! A configured repository → its verified tips, and the saifile of one revision of it.
//!
//! Each repository has a cache: a bare git directory that holds the trees of the revisions looked at, and of their files the
//! saifile alone (gitpartialclone, "blob:none", depth 1). A fetch leaves the revision at [`TIP`], so that the next one
//! transfers what differs. A cache is worth nothing but time: it is made again when its settings change, when it is damaged,
//! and when it has grown to [`PACKS`] packs.
//!
//! The commands are git's own; none of them checks files out, runs hooks or filters, or touches submodules. The remote is
//! named in the cache's configuration and never on a command line, so neither its URL can be an option nor its password be
//! seen by other users; GIT_ALLOW_PROTOCOL confines redirects and submodules to the URL's own protocol.

use crate::git::{Finished, Git, GitError};
use sai_core::git_names::{Protocol, check_ref, check_repository, check_revision, protocol, without_credentials};
use sai_core::git_text::{self, BatchObject, Tip, TipsError};
use sai_core::ordered::Map;
use smol::lock::{Mutex, Semaphore};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Largest saifile, in bytes, as the rules of `.sai.json` state.
pub const SAIFILE_BYTES: u64 = 1 << 20;
/// Most references of one repository. Far more than people look at; a list of them is held in memory and compared.
pub const REFERENCES: usize = 20_000;
/// Longest list of references, in bytes: their number times a long name.
const REFERENCES_BYTES: usize = REFERENCES * 256;
/// How long listing the references may take.
const LIST_TIME: Duration = Duration::from_secs(30);
/// How long one fetch may take: servers that know no filters send whole trees.
const FETCH_TIME: Duration = Duration::from_secs(300);
/// How many gits may run at once, over all repositories.
const GITS: usize = 8;
/// How many packs a cache may have before it is made anew: git opens each of them in every command.
const PACKS: usize = 64;
/// How much of a commit object is read, in bytes: its head and the first line of its message.
const COMMIT_BYTES: usize = 64 << 10;
/// Depths tried, in commits, where a server gives only what lies below a reference's tip.
const DEPTHS: [u32; 4] = [1, 32, 1024, 32768];
/// Our only reference in a cache: the revision fetched last.
const TIP: &str = "refs/sai/tip";
/// The name of the saifile, at the root of the tree.
const SAIFILE: &str = ".sai.json";

/// A repository as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// Its name, checked by [`check_repository`].
    pub name: String,
    /// Where git fetches it from, checked by [`protocol`].
    pub url: String,
    /// Whether its tags are listed beside its branches.
    pub tags: bool,
    /// The private key for ssh, else what ssh itself finds.
    pub ssh_key: Option<PathBuf>,
    /// The file of known host keys for ssh, else what ssh itself finds.
    pub ssh_known_hosts: Option<PathBuf>,
    /// The certificates (PEM) that an https server must be signed by, else the system's.
    pub ca_file: Option<PathBuf>,
}

/// The saifile of a revision, and what is shown of its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saifile {
    /// The bytes of `.sai.json`, at most [`SAIFILE_BYTES`], as they were pushed.
    pub bytes: Vec<u8>,
    /// The first line of the commit's message.
    pub subject: String,
    /// The commit's author.
    pub author: String,
    /// When it was committed, in seconds since 1970.
    pub committed_s: i64,
}

/// Why there are no tips or no saifile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForgeError {
    /// The revision has no `.sai.json` at its root: nothing to build.
    NoSaifile,
    /// Its `.sai.json` has this many bytes.
    TooLarge(u64),
    /// Its `.sai.json` is a directory or a submodule.
    NotAFile,
    /// The object of that name is no commit.
    NotACommit,
    /// The repository has no such revision (any more).
    RevisionGone,
    /// A name, URL, reference or revision was refused before git saw it; the sentence says what was expected.
    Refused(String),
    /// The repository has more than [`REFERENCES`] references.
    TooManyReferences,
    /// The repository cannot be reached, with what git says.
    Unreachable(String),
    /// This machine is at fault: no git, no disk space, no permission.
    Local(String),
}

impl ForgeError {
    /// Whether trying again later may help: the fault is neither the pusher's nor the configuration's.
    pub fn is_infrastructure(&self) -> bool {
        matches!(self, ForgeError::Unreachable(_) | ForgeError::Local(_))
    }
}

impl fmt::Display for ForgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForgeError::NoSaifile => write!(f, "the revision has no {SAIFILE} at its root"),
            ForgeError::TooLarge(bytes) => {
                write!(f, "{SAIFILE}: expected at most {SAIFILE_BYTES} bytes, it has {bytes}")
            }
            ForgeError::NotAFile => write!(f, "{SAIFILE}: expected a file"),
            ForgeError::NotACommit => write!(f, "expected a commit at the reference's tip"),
            ForgeError::RevisionGone => write!(f, "the repository has no such revision any more"),
            ForgeError::Refused(expected) => write!(f, "{expected}"),
            ForgeError::TooManyReferences => {
                write!(f, "expected at most {REFERENCES} references in the repository")
            }
            ForgeError::Unreachable(said) => write!(f, "the repository cannot be reached: {said}"),
            ForgeError::Local(said) => write!(f, "git fails on this machine: {said}"),
        }
    }
}

impl std::error::Error for ForgeError {}

/// The caches of all repositories. Calls for one repository wait for each other; calls for several run side by side.
pub struct Forge {
    root: PathBuf,
    list_time: Duration,
    fetch_time: Duration,
    running: Semaphore,
    caches: std::sync::Mutex<Map<String, Arc<Mutex<CacheState>>>>,
}

/// What is known of a repository's cache since this process started.
#[derive(Default)]
struct CacheState {
    /// The cache was left in order by the last git of ours.
    trusted: bool,
    /// The server gives no single files: fetch whole trees.
    unfiltered: bool,
}

/// A cache while it is held: nobody else uses its directory.
struct Cache<'a> {
    repository: &'a Repository,
    protocol: Protocol,
    directory: PathBuf,
    settings: PathBuf,
    state: &'a mut CacheState,
    sha256: bool,
    list_time: Duration,
    fetch_time: Duration,
}

impl Forge {
    /// Keeps caches in `root`, which is made, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(root: &Path) -> io::Result<Forge> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let (list_time, fetch_time) = (LIST_TIME, FETCH_TIME);
        Ok(Forge { root, list_time, fetch_time, running: Semaphore::new(GITS), caches: std::sync::Mutex::default() })
    }

    /// Allows other times for listing references and for one fetch, where the network asks for it.
    pub fn time_limits(mut self, list: Duration, fetch: Duration) -> Forge {
        (self.list_time, self.fetch_time) = (list, fetch);
        self
    }

    /// The tips of a repository's branches, and tags if they are wanted, by `git ls-remote`.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn tips(&self, repository: &Repository) -> Result<Vec<Tip>, ForgeError> {
        let state = self.state(&repository.name);
        let mut state = state.lock().await;
        let _slot = self.running.acquire().await;
        let mut cache = self.cache(repository, &mut state, false)?;
        let kinds: &[&str] = if repository.tags { &["--heads", "--tags"] } else { &["--heads"] };
        let arguments = [&["ls-remote", "--quiet"], kinds, &["--", "o"]].concat();
        let done = cache.ask(&arguments).await?;
        if done.cut {
            return Err(ForgeError::TooManyReferences);
        }
        git_text::tips(&done.stdout, REFERENCES).map_err(|error| match error {
            TipsError::TooMany => ForgeError::TooManyReferences,
            TipsError::Line(line) => ForgeError::Unreachable(format!("line {line} of git ls-remote is no reference")),
        })
    }

    /// The reference that the repository's HEAD stands for, if it has one.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn default_branch(&self, repository: &Repository) -> Result<Option<String>, ForgeError> {
        let state = self.state(&repository.name);
        let mut state = state.lock().await;
        let _slot = self.running.acquire().await;
        let mut cache = self.cache(repository, &mut state, false)?;
        let done = cache.ask(&["ls-remote", "--quiet", "--symref", "--", "o", "HEAD"]).await?;
        Ok(git_text::default_branch(&done.stdout))
    }

    /// The saifile of `revision`, which is or was the tip of `reference`. A revision fetched before needs no network.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn saifile(
        &self,
        repository: &Repository,
        reference: &str,
        revision: &str,
    ) -> Result<Saifile, ForgeError> {
        check_ref(reference).map_err(ForgeError::Refused)?;
        check_revision(revision).map_err(ForgeError::Refused)?;
        let state = self.state(&repository.name);
        let mut state = state.lock().await;
        let _slot = self.running.acquire().await;
        let mut cache = self.cache(repository, &mut state, revision.len() == 64)?;
        let first = cache.saifile(reference, revision).await;
        let Err(Trouble::Cache { unfiltered, .. }) = first else {
            return first.map_err(Trouble::into_error);
        };
        // Either the cache is damaged or the server gives no single files: both are mended by a new cache.
        cache.state.unfiltered |= unfiltered;
        cache.remove()?;
        cache.prepare()?;
        cache.saifile(reference, revision).await.map_err(Trouble::into_error)
    }

    fn state(&self, name: &str) -> Arc<Mutex<CacheState>> {
        let mut caches = match self.caches.lock() {
            Ok(caches) => caches,
            // The map is whole whatever happened to a thread that held it.
            Err(poisoned) => poisoned.into_inner(),
        };
        caches.get_or_default(name.to_string()).clone()
    }

    fn cache<'a>(
        &self,
        repository: &'a Repository,
        state: &'a mut CacheState,
        sha256: bool,
    ) -> Result<Cache<'a>, ForgeError> {
        check_repository(&repository.name).map_err(ForgeError::Refused)?;
        let protocol = protocol(&repository.url).map_err(ForgeError::Refused)?;
        // '%' cannot be part of a name, so two names never share a directory.
        let name = repository.name.replace('/', "%2F") + if sha256 { "%sha256" } else { "%sha1" };
        let directory = self.root.join(name);
        let settings = directory.join("sai-settings");
        let mut cache = Cache {
            repository,
            protocol,
            directory,
            settings,
            state,
            sha256,
            list_time: self.list_time,
            fetch_time: self.fetch_time,
        };
        cache.prepare()?;
        Ok(cache)
    }
}

/// Why a step with a cache failed.
enum Trouble {
    /// As [`ForgeError`]; the cache is in order.
    Final(ForgeError),
    /// A fresh cache may help, one that fetches whole trees if `unfiltered`.
    Cache { said: String, unfiltered: bool },
}

impl Trouble {
    fn into_error(self) -> ForgeError {
        match self {
            Trouble::Final(error) => error,
            Trouble::Cache { said, .. } => ForgeError::Unreachable(said),
        }
    }
}

impl From<ForgeError> for Trouble {
    fn from(error: ForgeError) -> Trouble {
        Trouble::Final(error)
    }
}

impl Cache<'_> {
    /// Makes the cache if it is not there or has other settings, and mends what a killed git left behind.
    fn prepare(&mut self) -> Result<(), ForgeError> {
        let fail = |error: io::Error| ForgeError::Local(format!("{}: {error}", self.directory.display()));
        let configuration = self.configuration();
        let settings = self.settings_text();
        let is =
            |name: &str, text: &str| fs::read(self.directory.join(name)).is_ok_and(|bytes| bytes == text.as_bytes());
        let whole = is("config", &configuration)
            && is("sai-settings", &settings)
            && is("HEAD", "ref: refs/sai/none\n")
            && count_packs(&self.directory) < PACKS;
        if whole {
            if !self.state.trusted {
                remove_leftovers(&self.directory, 0).map_err(fail)?;
                self.state.trusted = true;
            }
            return Ok(());
        }
        self.remove()?;
        let fail = |error: io::Error| ForgeError::Local(format!("{}: {error}", self.directory.display()));
        // What `git init --bare` makes, without the spawn; HEAD, by which git knows a repository, comes last.
        for part in ["objects/pack", "objects/info", "refs"] {
            DirBuilder::new().recursive(true).mode(0o700).create(self.directory.join(part)).map_err(fail)?;
        }
        fs::write(&self.settings, settings).map_err(fail)?;
        fs::write(self.directory.join("config"), configuration).map_err(fail)?;
        fs::write(self.directory.join("HEAD"), "ref: refs/sai/none\n").map_err(fail)?;
        self.state.trusted = true;
        Ok(())
    }

    fn remove(&mut self) -> Result<(), ForgeError> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ForgeError::Local(format!("{}: {error}", self.directory.display())))
            }
            _ => Ok(()),
        }
    }

    /// The cache's own configuration, git-config(1).
    fn configuration(&self) -> String {
        let url = self.repository.url.replace('\\', "\\\\").replace('"', "\\\"");
        let format = if self.sha256 { "\tobjectFormat = sha256\n" } else { "" };
        let (partial, promisor) = if self.state.unfiltered {
            ("", "")
        } else {
            ("\tpartialClone = o\n", "\tpromisor = true\n\tpartialclonefilter = blob:none\n")
        };
        format!(
            "[core]\n\trepositoryformatversion = 1\n\tbare = true\n[extensions]\n{format}{partial}\
             [remote \"o\"]\n\turl = \"{url}\"\n{promisor}"
        )
    }

    /// What stands in for the user's and the system's configuration, also in the git-upload-pack that serves a local
    /// repository: that one may belong to another user, and gives single objects as other servers do.
    fn settings_text(&self) -> String {
        let mut text = String::from(
            "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tfsync = none\n[gc]\n\tauto = 0\n\
             [maintenance]\n\tauto = false\n[fetch]\n\tfsckObjects = true\n\tshowForcedUpdates = false\n\
             \trecurseSubmodules = false\n[protocol]\n\tallow = never\n\tversion = 2\n[credential]\n\thelper =\n\
             [http]\n\tlowSpeedLimit = 1\n\tlowSpeedTime = 30\n",
        );
        if self.protocol == Protocol::File {
            text += "[safe]\n\tdirectory = *\n[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n";
        }
        text
    }

    fn environment(&self) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![("GIT_ALLOW_PROTOCOL", self.protocol.allowed().into())];
        if self.protocol == Protocol::Ssh {
            let mut ssh = OsString::from("ssh -oBatchMode=yes -oConnectTimeout=10");
            if let Some(key) = &self.repository.ssh_key {
                ssh.push(" -oIdentitiesOnly=yes -oIdentityFile=");
                ssh.push(quoted(key));
            }
            if let Some(hosts) = &self.repository.ssh_known_hosts {
                ssh.push(" -oUserKnownHostsFile=");
                ssh.push(quoted(hosts));
            }
            environment.push(("GIT_SSH_COMMAND", ssh));
        }
        if let Some(file) = &self.repository.ca_file {
            environment.push(("GIT_SSL_CAINFO", file.into()));
        }
        environment
    }

    async fn git(
        &mut self,
        arguments: &[&str],
        input: &str,
        output_bytes: usize,
        time: Duration,
    ) -> Result<Finished, ForgeError> {
        let environment = self.environment();
        // Until git has ended by itself, the cache may be left with its locks.
        self.state.trusted = false;
        let git = Git {
            directory: &self.directory,
            settings: &self.settings,
            environment: &environment,
            arguments,
            input: input.as_bytes(),
            output_bytes,
            time,
        };
        let done = git.run().await.map_err(|error| match error {
            GitError::Start(error) => ForgeError::Local(format!("git: {error}")),
            GitError::TimedOut => ForgeError::Unreachable(format!("no answer within {} s", time.as_secs())),
        })?;
        self.state.trusted = !done.cut;
        if done.stderr.contains("No space left on device") || done.stderr.contains("Disk quota exceeded") {
            return Err(ForgeError::Local(self.said(&done)));
        }
        Ok(done)
    }

    /// Asks the remote for a list.
    async fn ask(&mut self, arguments: &[&str]) -> Result<Finished, ForgeError> {
        let done = self.git(arguments, "", REFERENCES_BYTES, self.list_time).await?;
        if done.success || done.cut { Ok(done) } else { Err(ForgeError::Unreachable(self.said(&done))) }
    }

    async fn saifile(&mut self, reference: &str, revision: &str) -> Result<Saifile, Trouble> {
        if !self.has(revision) {
            self.fetch(reference, revision).await?;
        }
        let saifile_and_commit = format!("{revision}:{SAIFILE}\n{revision}\n");
        let bytes = usize::try_from(SAIFILE_BYTES).unwrap_or(usize::MAX) + COMMIT_BYTES;
        let done = self.git(&["cat-file", "--batch"], &saifile_and_commit, bytes, self.fetch_time).await?;
        if !done.success && !done.cut {
            return Err(self.judge(&done));
        }
        let mut printed = done.stdout.as_slice();
        let saifile = git_text::next_object(&mut printed);
        let commit = git_text::next_object(&mut printed);
        match (saifile, commit) {
            (Some(BatchObject::Found { kind: "blob", size, .. }), _) if size > SAIFILE_BYTES => {
                Err(ForgeError::TooLarge(size).into())
            }
            (
                Some(BatchObject::Found { kind: "blob", content, .. }),
                Some(BatchObject::Found { content: commit, .. }),
            ) => {
                let bytes = content.to_vec();
                let git_text::Commit { subject, author, committed_s } = git_text::commit(commit);
                Ok(Saifile { bytes, subject, author, committed_s })
            }
            (Some(BatchObject::Missing), Some(BatchObject::Found { kind: "commit", .. })) => {
                Err(ForgeError::NoSaifile.into())
            }
            (Some(BatchObject::Found { kind: "tree" | "commit", .. }), _) => Err(ForgeError::NotAFile.into()),
            (Some(BatchObject::Missing), Some(BatchObject::Found { .. })) => Err(ForgeError::NotACommit.into()),
            _ => Err(Trouble::Cache { said: "the fetched revision cannot be read".to_string(), unfiltered: false }),
        }
    }

    /// Whether a revision was fetched before: git's `shallow` file names what was fetched at depth 1. A commit without parents
    /// is not in it, but at least the one fetched last is known by our reference.
    fn has(&self, revision: &str) -> bool {
        ["shallow", TIP].iter().any(|name| {
            fs::read(self.directory.join(name))
                .is_ok_and(|list| list.split(|&b| b == b'\n').any(|line| line == revision.as_bytes()))
        })
    }

    async fn fetch(&mut self, reference: &str, revision: &str) -> Result<(), Trouble> {
        let done = self.fetch_to_tip(1, revision).await?;
        if done.success {
            return Ok(());
        }
        if !done.stderr.contains("unadvertised object") {
            return Err(self.judge(&done));
        }
        // Protocol version 0, which ssh falls back to where sshd does not accept GIT_PROTOCOL, gives tips alone.
        for depth in DEPTHS {
            let done = self.fetch_to_tip(depth, reference).await?;
            if !done.success {
                return Err(self.judge(&done));
            }
            let count = format!("--max-count={depth}");
            let bytes = usize::try_from(depth).unwrap_or(usize::MAX).saturating_mul(revision.len() + 1);
            let list = self.git(&["rev-list", &count, TIP], "", bytes, self.fetch_time).await?;
            if list.stdout.split(|&b| b == b'\n').any(|line| line == revision.as_bytes()) {
                return Ok(());
            }
        }
        Err(ForgeError::RevisionGone.into())
    }

    /// Fetches a checked reference or revision to [`TIP`].
    async fn fetch_to_tip(&mut self, depth: u32, source: &str) -> Result<Finished, ForgeError> {
        let depth = format!("--depth={depth}");
        let source = format!("+{source}:{TIP}");
        let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-auto-gc", "--no-write-fetch-head"];
        arguments.extend(["--no-recurse-submodules", depth.as_str()]);
        if !self.state.unfiltered {
            arguments.push("--filter=blob:none");
        }
        arguments.extend(["--", "o", source.as_str()]);
        self.git(&arguments, "", 64 << 10, self.fetch_time).await
    }

    /// Whose fault a failed git is, by what it says.
    fn judge(&self, done: &Finished) -> Trouble {
        let said = done.stderr.as_str();
        let says = |texts: &[&str]| texts.iter().any(|text| said.contains(text));
        if says(&["not our ref", "couldn't find remote ref"]) {
            return ForgeError::RevisionGone.into();
        }
        if says(&["unadvertised object"]) && !self.state.unfiltered {
            return Trouble::Cache { said: self.said(done), unfiltered: true };
        }
        let of_the_other_side = [
            "remote error:",
            "Could not read from remote repository",
            "unable to access",
            "unable to connect",
            "Could not resolve",
            "Connection refused",
            "Connection timed out",
            "timed out",
            "does not exist",
            "Authentication failed",
            "could not read Username",
            "terminal prompts disabled",
            "Permission denied",
            "hung up unexpectedly",
            "early EOF",
            "not allowed",
        ];
        if says(&of_the_other_side) {
            return ForgeError::Unreachable(self.said(done)).into();
        }
        Trouble::Cache { said: self.said(done), unfiltered: false }
    }

    /// What git said, as one line without credentials.
    fn said(&self, done: &Finished) -> String {
        let mut text = String::new();
        for line in done.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).take(6) {
            text += if text.is_empty() { "" } else { "; " };
            text.extend(line.chars().filter(|c| !c.is_control()).take(300));
        }
        if text.is_empty() {
            text = "git failed without a word".to_string();
        }
        text.replace(&self.repository.url, &without_credentials(&self.repository.url))
    }
}

/// A path as one word of the shell command that GIT_SSH_COMMAND is, and in it as one word of an ssh_config(5) value, written
/// so that ssh expands nothing in it.
fn quoted(path: &Path) -> OsString {
    let mut word = b"'\"".to_vec();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' => word.extend(b"%%"),
            b'\'' => word.extend(b"'\\''"),
            b'"' | b'\\' => word.extend([b'\\', byte]),
            _ => word.push(byte),
        }
    }
    word.extend(b"\"'");
    OsString::from_vec(word)
}

/// How many packs a cache has.
fn count_packs(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory.join("objects/pack")) else {
        return 0;
    };
    entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ending| ending == "pack")).count()
}

/// Removes the locks and unfinished packs of a git that was killed. No git of ours runs in this directory meanwhile.
fn remove_leftovers(directory: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_dir() {
            // Loose objects' directories are many and hold no locks.
            if depth < 4 && name.len() > 2 {
                remove_leftovers(&entry.path(), depth + 1)?;
            }
        } else if name.ends_with(".lock") || name.starts_with("tmp_") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
