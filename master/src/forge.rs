//! A configured repository → its verified tips, and the saifile of one revision of it.
//!
//! Each repository has a cache: a bare git directory that holds the trees of the revisions looked at, and of their files the
//! saifile alone (gitpartialclone, "blob:none", depth 1). A fetch leaves the revision at [`TIP`], so that the next one
//! transfers what differs. A cache is worth nothing but time: it is made again when its settings change, when it is damaged,
//! and when it has grown to [`PACKS`] packs.
//!
//! The commands are git's own; none of them checks files out or touches submodules. What a git may do is said where all of
//! them are run, in the agent's crate, which has the cache too.

use sai_agent::blocking::unblock;
use sai_agent::cache::{Cache, Fetch, NO_FILES, REMOTE};
use sai_agent::git::cause::{Cause, lacks_objects, of_fetch, sentence};
use sai_agent::git::tools::Tools;
use sai_agent::git::{GitError, Stop, Watch};
use sai_core::changed;
use sai_core::git_names::{Protocol, check_ref, check_repository, check_revision, protocol};
use sai_core::git_text::{self, BatchObject, Tip, TipsError};
use sai_core::ordered::Map;
use sai_core::ref_name;
use sai_core::secret::CloneUrl;
use smol::lock::{Mutex, MutexGuardArc, Semaphore};
use std::ffi::{OsStr, OsString};
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
/// Most references of one repository. A list of them is held in memory and compared: some 30 MB.
pub const REFERENCES: usize = 100_000;
/// Longest list of references, in bytes: their number times a long name.
const REFERENCES_BYTES: usize = REFERENCES * 256;
/// Largest file a git of a look may write, in bytes: a pack of trees is far below it, and a hostile one must not fill the disk.
const FILE_BYTES: u64 = 1 << 30;
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
/// How much of a history is looked through for revisions that were passed, in commits from the tip: those of many quick pushes.
const PASSED_DEPTH: u32 = 64;
/// How many commits that may be, with all that was merged.
const PASSED_COMMITS: usize = 4096;
/// How many revisions that are not in the history are asked for at a time: anyone may name some.
const STRANGERS: usize = 4;
/// How old one that is not in the history may be, in seconds: it was made for the push, so the hook of that follows soon.
const YOUNG_S: u64 = 3600;
/// Bytes of what git says about one entry of a tree, or the two texts of a commit.
const LINE_BYTES: usize = 64 << 10;
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
    pub url: CloneUrl,
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// What the revision holds cannot be taken by anybody: broken objects, a file beyond all bounds.
    Content(String),
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
            ForgeError::Content(said) => write!(f, "the revision cannot be fetched: {said}"),
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
    shared: Arc<Shared>,
    running: Arc<Semaphore>,
    caches: std::sync::Mutex<Map<String, Arc<Mutex<CacheState>>>>,
}

/// What every call needs.
struct Shared {
    root: PathBuf,
    tools: Tools,
    list_time: Duration,
    fetch_time: Duration,
    stop: Stop,
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
struct Held {
    cache: Cache,
    shared: Arc<Shared>,
    state: MutexGuardArc<CacheState>,
}

/// Nobody reads what a look's git has to say while it runs.
struct Deaf<'a>(&'a Stop);

impl Watch for Deaf<'_> {
    fn note(&mut self, _: &str) {}
    fn output(&mut self, _: &[u8]) {}
    fn stop(&self) -> &Stop {
        self.0
    }
}

impl Forge {
    /// Keeps caches in `root`, which is made, for its owner alone, if it is not there.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(root: &Path) -> io::Result<Forge> {
        DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let (tools, stop) = (Tools::open(&root)?, Stop::new()?);
        let shared = Arc::new(Shared { root, tools, list_time: LIST_TIME, fetch_time: FETCH_TIME, stop });
        Ok(Forge { shared, running: Arc::new(Semaphore::new(GITS)), caches: std::sync::Mutex::default() })
    }

    /// Allows other times for listing references and for one fetch, where the network asks for it.
    ///
    /// # Errors
    /// The system's.
    pub fn time_limits(self, list_time: Duration, fetch_time: Duration) -> io::Result<Forge> {
        let (root, tools) = (self.shared.root.clone(), self.shared.tools.clone());
        Ok(Forge { shared: Arc::new(Shared { root, tools, list_time, fetch_time, stop: Stop::new()? }), ..self })
    }

    /// The tips of a repository's branches, and tags if they are wanted, by `git ls-remote`.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn tips(&self, repository: &Repository) -> Result<Vec<Tip>, ForgeError> {
        let kinds: &[&str] = if repository.tags { &["--heads", "--tags"] } else { &["--heads"] };
        let list = self.with(repository, false, move |held| held.list(kinds, &[])).await?;
        git_text::tips(&list, REFERENCES).map_err(|error| match error {
            TipsError::TooMany => ForgeError::TooManyReferences,
            TipsError::Line(line) => ForgeError::Unreachable(format!("line {line} of git ls-remote is no reference")),
        })
    }

    /// The reference that the repository's HEAD stands for, if it has one.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn default_branch(&self, repository: &Repository) -> Result<Option<String>, ForgeError> {
        let list = self.with(repository, false, |held| held.list(&["--symref"], &["HEAD"])).await?;
        Ok(git_text::default_branch(&list))
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
        let (reference, revision) = (reference.to_string(), revision.to_string());
        let sha256 = revision.len() == 64;
        self.with(repository, sha256, move |held| {
            let first = held.saifile(&reference, &revision);
            let Err(Trouble::Cache { unfiltered, .. }) = first else {
                return first.map_err(Trouble::into_error);
            };
            // Either the cache is damaged or the server gives no single files: both are mended by a new cache.
            held.state.unfiltered |= unfiltered;
            held.make_anew()?;
            held.saifile(&reference, &revision).map_err(|trouble| match trouble {
                Trouble::Cache { said, .. } if lacks_objects(&said) => ForgeError::Content(said),
                trouble => trouble.into_error(),
            })
        })
        .await
    }

    /// Which of these revisions were pushed to a reference before the one at its tip, and after the one that was `known` there
    /// before: those in its history, and of others, which were pushed over, those that are younger than [`YOUNG_S`].
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn passed(
        &self,
        repository: &Repository,
        tip: &Tip,
        known: Option<String>,
        revisions: Vec<String>,
        now_s: u64,
    ) -> Result<Map<String, git_text::Commit>, ForgeError> {
        let tip = tip.clone();
        let sha256 = tip.revision.len() == 64;
        self.with(repository, sha256, move |held| {
            held.passed(&tip, known.as_deref(), &revisions, now_s).map_err(Trouble::into_error)
        })
        .await
    }

    /// Names of the files that differ between the trees of `base` and of a tip, both revisions that were pushed to its ref. None:
    /// there are too many.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub async fn changed(
        &self,
        repository: &Repository,
        base: &str,
        tip: &Tip,
    ) -> Result<Option<Vec<String>>, ForgeError> {
        check_ref(&tip.reference).map_err(ForgeError::Refused)?;
        [base, &tip.revision].into_iter().try_for_each(check_revision).map_err(ForgeError::Refused)?;
        let (base, tip) = (base.to_string(), tip.clone());
        let sha256 = tip.revision.len() == 64;
        self.with(repository, sha256, move |held| held.changed(&base, &tip).map_err(Trouble::into_error)).await
    }

    /// Lets `work` have a repository's cache, in a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        repository: &Repository,
        sha256: bool,
        work: impl FnOnce(&mut Held) -> Result<T, ForgeError> + Send + 'static,
    ) -> Result<T, ForgeError> {
        let state = self.state(&repository.name).lock_arc().await;
        let slot = self.running.acquire_arc().await;
        let (shared, repository) = (self.shared.clone(), repository.clone());
        unblock(move || {
            let _slot = slot;
            work(&mut Held::new(shared, &repository, state, sha256)?)
        })
        .await
    }

    fn state(&self, name: &str) -> Arc<Mutex<CacheState>> {
        let mut caches = match self.caches.lock() {
            Ok(caches) => caches,
            // The map is whole whatever happened to a thread that held it.
            Err(poisoned) => poisoned.into_inner(),
        };
        caches.get_or_default(name.to_string()).clone()
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

impl Held {
    fn new(
        shared: Arc<Shared>,
        repository: &Repository,
        state: MutexGuardArc<CacheState>,
        sha256: bool,
    ) -> Result<Self, ForgeError> {
        check_repository(&repository.name).map_err(ForgeError::Refused)?;
        let protocol = protocol(repository.url.reveal()).map_err(ForgeError::Refused)?;
        // '%' cannot be part of a name, so two names never share a directory.
        let name = repository.name.replace('/', "%2F") + if sha256 { "%sha256" } else { "%sha1" };
        let cache = Cache {
            path: shared.root.join(name),
            url: repository.url.clone(),
            protocols: protocol.allowed(),
            sha256,
            tools: shared.tools.clone(),
            environment: environment(repository, protocol),
            file_bytes: FILE_BYTES,
        };
        let mut held = Self { cache, shared, state };
        held.prepare()?;
        Ok(held)
    }

    fn local(&self, error: &io::Error) -> ForgeError {
        ForgeError::Local(format!("{}: {error}", self.cache.path.display()))
    }

    fn filter(&self) -> Option<&'static str> {
        (!self.state.unfiltered).then_some(NO_FILES)
    }

    /// Makes the cache if it is not there or has other settings, and mends what a killed git left behind.
    fn prepare(&mut self) -> Result<(), ForgeError> {
        let configuration = self.cache.configuration(self.filter());
        let is =
            |name: &str, text: &str| fs::read(self.cache.path.join(name)).is_ok_and(|bytes| bytes == text.as_bytes());
        let whole = is("config", &configuration)
            && is("HEAD", "ref: refs/heads/none\n")
            && self.cache.partial() == self.filter()
            && self.cache.packs() < PACKS;
        if !whole {
            return self.make_anew();
        }
        if !self.state.trusted {
            self.cache.remove_leftovers().map_err(|error| self.local(&error))?;
            self.state.trusted = true;
        }
        Ok(())
    }

    fn make_anew(&mut self) -> Result<(), ForgeError> {
        let made = self.cache.throw_away(&[]).and_then(|()| self.cache.initialise(self.filter()));
        made.map_err(|error| self.local(&error))?;
        self.state.trusted = true;
        Ok(())
    }

    fn git<A: AsRef<OsStr>>(
        &mut self,
        arguments: &[A],
        input: &str,
        output_bytes: usize,
        time: Duration,
    ) -> Result<Vec<u8>, GitError> {
        // Until git has ended by itself, the cache may be left with its locks.
        self.state.trusted = false;
        let git = self.cache.git(time);
        let mut watch = Deaf(&self.shared.stop);
        let done = git.ask(&self.cache.path, arguments, input.as_bytes(), output_bytes, &mut watch);
        self.state.trusted = matches!(done, Ok(_) | Err(GitError::Failed { signal: None, .. }));
        done
    }

    /// Asks the remote for a list.
    fn list(&mut self, options: &[&str], names: &[&str]) -> Result<Vec<u8>, ForgeError> {
        let arguments = [&["ls-remote", "--quiet"], options, &["--", REMOTE], names].concat();
        let time = self.shared.list_time;
        self.git(&arguments, "", REFERENCES_BYTES, time).map_err(|error| match (of_fetch(&error), &error) {
            (_, GitError::TooMuch(_)) => ForgeError::TooManyReferences,
            (Cause::Machine, _) => ForgeError::Local(said(&error)),
            _ => ForgeError::Unreachable(said(&error)),
        })
    }

    fn saifile(&mut self, reference: &str, revision: &str) -> Result<Saifile, Trouble> {
        if !self.cache.has(revision) {
            self.fetch(reference, revision)?;
        }
        let time = self.shared.fetch_time;
        let arguments = ["ls-tree", "-z", "--end-of-options", revision, "--", SAIFILE];
        let entry = match self.git(&arguments, "", LINE_BYTES, time) {
            Err(GitError::Failed { said, .. }) if said.contains("not a tree object") => {
                return Err(ForgeError::NotACommit.into());
            }
            listed => listed.map_err(|error| self.judge(&error))?,
        };
        let entry = git_text::tree_entry(&entry).map(|(kind, object)| (kind.to_string(), object.to_string()));
        let blob = match &entry {
            Some((kind, object)) if kind == "blob" => object.as_str(),
            // What is no commit has no saifile either.
            _ => revision,
        };
        if !self.cache.has(blob) {
            self.state.trusted = false;
            let mut watch = Deaf(&self.shared.stop);
            let fetched = self.cache.fetch_objects(&format!("{blob}\n"), time, &mut watch);
            fetched.map_err(|error| self.judge(&error))?;
            self.state.trusted = true;
        }
        let bytes = usize::try_from(SAIFILE_BYTES).unwrap_or(usize::MAX) + COMMIT_BYTES;
        let printed = match self.git(&["cat-file", "--batch"], &format!("{blob}\n{revision}\n"), bytes, time) {
            // The sizes come first.
            Ok(printed) | Err(GitError::TooMuch(printed)) => printed,
            Err(error) => return Err(self.judge(&error)),
        };
        let mut rest = printed.as_slice();
        let saifile = git_text::next_object(&mut rest);
        if let Some(BatchObject::Found { kind: "blob", size, .. }) = saifile
            && size > SAIFILE_BYTES
        {
            return Err(ForgeError::TooLarge(size).into());
        }
        let commit = if blob == revision { saifile.clone() } else { git_text::next_object(&mut rest) };
        match (entry, saifile, commit) {
            (_, _, Some(BatchObject::Found { kind: "tree" | "blob" | "tag", .. })) => {
                Err(ForgeError::NotACommit.into())
            }
            (None, _, Some(BatchObject::Found { .. })) => Err(ForgeError::NoSaifile.into()),
            (Some((kind, _)), _, Some(BatchObject::Found { .. })) if kind != "blob" => Err(ForgeError::NotAFile.into()),
            (_, Some(BatchObject::Found { content, .. }), Some(BatchObject::Found { content: commit, .. })) => {
                let git_text::Commit { mut subject, mut author, committed_s } = git_text::commit(commit);
                if git_text::is_encoded(commit)
                    && let Some(texts) = self.decoded(revision)
                {
                    (author, subject) = texts;
                }
                Ok(Saifile { bytes: content.to_vec(), subject, author, committed_s })
            }
            _ => Err(Trouble::Cache { said: "the fetched revision cannot be read".to_string(), unfiltered: false }),
        }
    }

    fn passed(
        &mut self,
        tip: &Tip,
        known: Option<&str>,
        revisions: &[String],
        now_s: u64,
    ) -> Result<Map<String, git_text::Commit>, Trouble> {
        self.fetch_to_tip(PASSED_DEPTH, OsStr::new(&tip.revision)).map_err(|error| self.judge(&error))?;
        let not = known.filter(|known| self.cache.has(known)).map(|known| format!("^{known}"));
        let most = format!("--max-count={PASSED_COMMITS}");
        let mut arguments = vec!["rev-list", &most, &tip.revision];
        arguments.extend(not.as_deref());
        let bytes = PASSED_COMMITS * (tip.revision.len() + 1);
        let time = self.shared.fetch_time;
        let list = self.git(&arguments, "", bytes, time).map_err(|error| self.judge(&error))?;
        let list = String::from_utf8_lossy(&list).into_owned();
        let (mut found, mut strangers) = (Map::new(), 0);
        for revision in revisions {
            let between = list.lines().any(|line| line == revision);
            if !between && !self.cache.has(revision) {
                strangers += 1;
                if strangers > STRANGERS || self.fetch_to_tip(1, OsStr::new(revision)).is_err() {
                    continue;
                }
            }
            let Ok(commit) = self.git(&["cat-file", "commit", revision], "", COMMIT_BYTES, time) else { continue };
            let mut shown = git_text::commit(&commit);
            let young = u64::try_from(shown.committed_s).is_ok_and(|at| at.saturating_add(YOUNG_S) > now_s);
            if between || (young && known != Some(revision)) {
                if git_text::is_encoded(&commit)
                    && let Some(texts) = self.decoded(revision)
                {
                    (shown.author, shown.subject) = texts;
                }
                found.insert(revision.clone(), shown);
            }
        }
        Ok(found)
    }

    fn changed(&mut self, base: &str, tip: &Tip) -> Result<Option<Vec<String>>, Trouble> {
        if !self.cache.has(&tip.revision) {
            self.fetch(&tip.reference, &tip.revision)?;
        }
        // One that was pushed over is no longer below the ref, so there is no looking for it there.
        if !self.cache.has(base) {
            self.fetch_to_tip(1, OsStr::new(base)).map_err(|error| self.judge(&error))?;
        }
        // By names alone, so that no file needs to be there.
        let options = ["diff-tree", "-r", "-z", "--name-only", "--no-renames", "--no-ext-diff", "--end-of-options"];
        let arguments = [&options[..], &[base, &tip.revision]].concat();
        match self.git(&arguments, "", changed::FILES_BYTES, self.shared.list_time) {
            Ok(printed) => Ok(Some(changed::names(&printed))),
            Err(GitError::TooMuch(_)) => Ok(None),
            Err(error) => Err(self.judge(&error)),
        }
    }

    /// Author and subject of a commit that says in which encoding it is written. Git knows them all, and that it may not know
    /// one is no reason not to build.
    fn decoded(&mut self, revision: &str) -> Option<(String, String)> {
        let arguments = ["log", "-1", "--encoding=UTF-8", "--format=%an%x00%s", "--end-of-options", revision];
        let time = self.shared.list_time;
        git_text::author_and_subject(&self.git(&arguments, "", LINE_BYTES, time).ok()?)
    }

    fn fetch(&mut self, reference: &str, revision: &str) -> Result<(), Trouble> {
        match self.fetch_to_tip(1, OsStr::new(revision)) {
            Ok(()) => return Ok(()),
            Err(error) if of_fetch(&error) == Cause::Unadvertised => {}
            Err(error) => return Err(self.judge(&error)),
        }
        // Protocol version 0, which ssh falls back to where sshd does not accept GIT_PROTOCOL, gives tips alone.
        let reference = OsString::from_vec(ref_name::bytes(reference).unwrap_or_default());
        for depth in DEPTHS {
            self.fetch_to_tip(depth, &reference).map_err(|error| self.judge(&error))?;
            if self.cache.has(revision) {
                return Ok(());
            }
        }
        Err(ForgeError::RevisionGone.into())
    }

    /// Fetches a checked reference or revision to [`TIP`].
    fn fetch_to_tip(&mut self, depth: u32, source: &OsStr) -> Result<(), GitError> {
        let mut wanted = OsString::from("+");
        wanted.push(source);
        wanted.push(":");
        wanted.push(TIP);
        let time = self.shared.fetch_time;
        let fetch = Fetch { wanted: &[&wanted], depth: Some(depth), tags: false, time };
        self.state.trusted = false;
        let done = self.cache.fetch(&fetch, &mut Deaf(&self.shared.stop));
        self.state.trusted = done.is_ok();
        done
    }

    /// Whose fault a failed git is, by what it says.
    fn judge(&self, error: &GitError) -> Trouble {
        let cache = |unfiltered| Trouble::Cache { said: said(error), unfiltered };
        match of_fetch(error) {
            Cause::Absent => ForgeError::RevisionGone.into(),
            Cause::Unadvertised if !self.state.unfiltered => cache(true),
            Cause::Content => ForgeError::Content(sentence(error)).into(),
            Cause::Machine => ForgeError::Local(said(error)).into(),
            Cause::Remote => ForgeError::Unreachable(said(error)).into(),
            _ => cache(false),
        }
    }
}

fn environment(repository: &Repository, protocol: Protocol) -> Vec<(&'static str, OsString)> {
    let mut environment = Vec::new();
    if protocol == Protocol::Ssh && std::env::var_os("GIT_SSH_COMMAND").is_none() {
        let mut ssh = OsString::from("ssh -oBatchMode=yes -oConnectTimeout=10");
        if let Some(key) = &repository.ssh_key {
            ssh.push(" -oIdentitiesOnly=yes -oIdentityFile=");
            ssh.push(quoted(key));
        }
        if let Some(hosts) = &repository.ssh_known_hosts {
            ssh.push(" -oUserKnownHostsFile=");
            ssh.push(quoted(hosts));
        }
        environment.push(("GIT_SSH_COMMAND", ssh));
    }
    if let Some(file) = &repository.ca_file {
        environment.push(("GIT_SSL_CAINFO", file.into()));
    }
    environment
}

/// What git said, as one line.
fn said(error: &GitError) -> String {
    let said = match error {
        GitError::Failed { said, .. } => said.as_str(),
        GitError::TimedOut(time) => return format!("no answer within {} s", time.as_secs()),
        other => return other.to_string(),
    };
    let mut text = String::new();
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()).take(6) {
        text += if text.is_empty() { "" } else { "; " };
        text.extend(line.chars().filter(|c| !c.is_control()).take(300));
    }
    text
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
