//! (URL, ref, revision) → a bare repository in STATE/mirrors that holds the revision: fetched once, however many jobs want it.
//!
//! A mirror is ours alone: its directory is written by hand, each ref lands under a name made from a digest (so that no two of
//! the remote's can be in each other's way), and its packs only ever become more, until they are packed together. Whether a
//! revision is there is looked up in the packs' indexes (gitformat-pack(5)) without a process.
//!
//! Locks: `fetch.lock` is held by the one that fetches; `packs.lock` is shared by those that link packs into a workspace and
//! exclusive for the one that removes packs. A job for a known revision never waits for another's fetch.

mod partial;

use crate::digest::sha256;
use crate::git::{Git, GitError, Stop, Watch, hide, write_configuration};
use crate::remove_tree::remove_tree;
use rustix::fs::{FlockOperation, flock};
use sai_core::git_names::{check_ref, check_revision, protocol, without_credentials};
use sai_core::job::{Blame, Fault};
use sai_core::ordered::Set;
use sai_core::wire::Prefetch;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time for one fetch. The job's own limit is usually shorter.
const FETCH_TIME: Duration = Duration::from_secs(3600);
/// Packs in a mirror after which they are packed together: each is three links for each workspace.
const PACKS: usize = 40;
/// Name of git's own list of the commits at which a history was cut off, see gitrepository-layout(5).
pub(crate) const SHALLOW: &str = "shallow";
/// Name of the file in the mirrors' directory that says how many commits of a history its mirrors have; all without it.
const DEPTH_FILE: &str = ".depth";
/// Name of the file there that says what of a history its mirrors leave out; nothing without it.
const FILTER_FILE: &str = ".filter";
/// What mirrors may leave out, as git-rev-list(1) names it: the content of files, but for those of revisions that were built.
pub const FILTERS: [&str; 1] = ["blob:none"];
/// Time after which a job that waits for another's fetch says so.
const WAIT_NOTE: Duration = Duration::from_secs(1);

/// Why a checkout could not be made, and whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The spec's, or ours.
    pub fault: Fault,
    /// Whose trouble it is, when the fault is ours.
    pub blame: Blame,
    /// One sentence for people.
    pub why: String,
}

impl Trouble {
    pub(crate) fn ours(why: impl Into<String>) -> Self {
        Self { fault: Fault::Infrastructure, blame: Blame::Agent, why: why.into() }
    }

    /// Trouble that would be the same on every agent: it is held against the repository alone.
    pub(crate) fn of_repository(why: impl Into<String>) -> Self {
        Self { blame: Blame::Repository, ..Self::ours(why) }
    }

    /// Trouble with what this agent has for one platform: jobs of its other platforms are none the worse.
    pub(crate) fn of_platform(why: impl Into<String>) -> Self {
        Self { blame: Blame::Platform, ..Self::ours(why) }
    }

    pub(crate) fn specs(why: impl Into<String>) -> Self {
        Self { fault: Fault::Spec, blame: Blame::Repository, why: why.into() }
    }

    pub(crate) fn disk(what: &str, error: &io::Error) -> Self {
        Self::ours(format!("{what}: {error}"))
    }
}

/// The mirror of one repository.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    configuration: PathBuf,
    url: String,
    secret: Option<String>,
    protocols: &'static str,
    sha256: bool,
    depth: Option<u32>,
    filter: Option<&'static str>,
}

/// While this is held, no pack of the mirror is removed.
#[derive(Debug)]
pub struct PacksHeld {
    _lock: File,
}

/// Names become directory names: letters, digits, `.`, `_` and `-` stay, everything else becomes `%XX`.
fn escape(name: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn unescape(name: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), name.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(text: &str) -> String {
    hex(&sha256(text.as_bytes())[..8])
}

/// Names of the repositories that have a mirror here, each once.
pub fn names(mirrors: &Path) -> Vec<String> {
    let entries = fs::read_dir(mirrors).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let name = entry.file_name();
        let (name, hash) = name.to_str()?.strip_suffix(".git")?.rsplit_once('-')?;
        (hash.len() == 16).then(|| unescape(name))?
    });
    Set::from_iter(found).into_iter().collect()
}

/// Has the mirrors of a directory hold this many commits of each history from now on, or all: boards with little room want
/// few. All that fetch, the agent and the supervisors of jobs under way, look it up there.
///
/// # Errors
/// The disk's.
pub fn set_depth(mirrors: &Path, depth: Option<u32>) -> io::Result<()> {
    set(mirrors, DEPTH_FILE, depth.map(|depth| depth.to_string()))
}

/// Has the mirrors of a directory leave this out from now on, one of [`FILTERS`], or nothing; as [`set_depth`].
///
/// # Errors
/// The disk's.
pub fn set_filter(mirrors: &Path, filter: Option<&str>) -> io::Result<()> {
    set(mirrors, FILTER_FILE, filter.map(str::to_owned))
}

fn set(mirrors: &Path, name: &str, value: Option<String>) -> io::Result<()> {
    let file = mirrors.join(name);
    // A flash disk is not written to in order to say the same.
    if fs::read_to_string(&file).ok() == value {
        return Ok(());
    }
    match value {
        Some(value) => {
            fs::create_dir_all(mirrors)?;
            let temporary = mirrors.join(format!("{name}-new"));
            fs::write(&temporary, value)?;
            fs::rename(temporary, file)
        }
        None => fs::remove_file(file),
    }
}

fn read_depth(mirrors: &Path) -> Option<u32> {
    fs::read_to_string(mirrors.join(DEPTH_FILE)).ok()?.trim().parse().ok()
}

fn read_filter(mirrors: &Path) -> Option<&'static str> {
    let text = fs::read_to_string(mirrors.join(FILTER_FILE)).ok()?;
    FILTERS.into_iter().find(|filter| *filter == text.trim())
}

/// Fetches a revision into its mirror, so that a job for it finds it there. Blocks.
///
/// # Errors
/// One sentence for people.
pub fn prefetch(mirrors: &Path, wanted: &Prefetch) -> Result<(), String> {
    struct Silent(Stop);
    impl Watch for Silent {
        fn note(&mut self, _: &str) {}
        fn output(&mut self, _: &[u8]) {}
        fn stop(&self) -> &Stop {
            &self.0
        }
    }
    let mut watch = Silent(Stop::new().map_err(|error| error.to_string())?);
    Mirror::open(mirrors, &wanted.repository, &wanted.url, &wanted.revision)
        .and_then(|mirror| mirror.ensure(&wanted.reference, &wanted.revision, &mut watch))
        .map(|_held| ())
        .map_err(|trouble| trouble.why)
}

impl Mirror {
    /// The mirror of a repository, which may not be there yet.
    ///
    /// # Errors
    /// The spec's fault when URL or revision are not ones that git may be given; else the disk's.
    pub fn open(mirrors: &Path, name: &str, url: &str, revision: &str) -> Result<Self, Trouble> {
        let protocol = protocol(url).map_err(|why| Trouble::specs(format!("repository {name}: {why}")))?;
        check_revision(revision).map_err(|why| Trouble::specs(format!("revision {revision:?}: {why}")))?;
        fs::create_dir_all(mirrors).map_err(|error| Trouble::disk("the mirrors' directory", &error))?;
        let mirrors = fs::canonicalize(mirrors).map_err(|error| Trouble::disk("the mirrors' directory", &error))?;
        let configuration = mirrors.join(".gitconfig");
        write_configuration(&configuration).map_err(|error| Trouble::disk("git's configuration", &error))?;
        // The length of a revision tells the hash of the repository, which cannot change in a mirror.
        let sha256 = revision.len() == 64;
        let short: String = escape(name).chars().take(180).collect();
        let hash = digest(&format!("{url} {sha256}"));
        let shown = without_credentials(url);
        let secret = (shown != url).then(|| {
            let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
            authority.rsplit_once('@').map_or(String::new(), |(secret, _)| secret.to_string())
        });
        Ok(Self {
            depth: read_depth(&mirrors),
            filter: read_filter(&mirrors),
            path: mirrors.join(format!("{short}-{hash}.git")),
            configuration,
            url: url.to_string(),
            secret: secret.filter(|secret| !secret.is_empty()),
            protocols: protocol.allowed(),
            sha256,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The repository's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether objects are named by SHA-256.
    pub fn is_sha256(&self) -> bool {
        self.sha256
    }

    /// `USER:PASSWORD` of the URL.
    pub(crate) fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// How to run git for this repository.
    pub(crate) fn git(&self) -> Git<'_> {
        Git {
            configuration: &self.configuration,
            protocols: self.protocols,
            secret: self.secret.as_deref(),
            time: FETCH_TIME,
        }
    }

    /// Makes sure the revision is here. One fetch at a time; who waited looks again before fetching.
    ///
    /// # Errors
    /// The spec's fault when the repository has no such revision, ours in all other cases.
    pub fn ensure(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<PacksHeld, Trouble> {
        check_ref(reference).map_err(|why| Trouble::specs(format!("ref {reference:?}: {why}")))?;
        check_revision(revision).map_err(|why| Trouble::specs(format!("revision {revision:?}: {why}")))?;
        if self.path.join("HEAD").exists() {
            let held = self.hold_packs(watch)?;
            if self.holds(revision) {
                return Ok(held);
            }
        }
        fs::create_dir_all(&self.path).map_err(|error| Trouble::disk("the mirror's directory", &error))?;
        let _fetching = self.lock("fetch.lock", FlockOperation::NonBlockingLockExclusive, watch)?;
        if !self.holds(revision) {
            if self.path.join("HEAD").exists() && self.partial() != self.filter {
                watch.note("the mirror was made by another setting of `filter`, making it anew");
                self.throw_away(watch)?;
            }
            self.fetch_and_heal(reference, revision, watch)?;
            self.pack_together(watch);
        }
        self.hold_packs(watch)
    }

    /// Throws the mirror away and fetches it anew: for when it turns out that objects in it are broken.
    ///
    /// # Errors
    /// As [`Mirror::ensure`].
    pub fn replace(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<PacksHeld, Trouble> {
        let _fetching = self.lock("fetch.lock", FlockOperation::NonBlockingLockExclusive, watch)?;
        self.throw_away(watch)?;
        self.fetch_all(reference, revision, watch)?;
        self.hold_packs(watch)
    }

    fn hold_packs(&self, watch: &mut dyn Watch) -> Result<PacksHeld, Trouble> {
        let lock = self.lock("packs.lock", FlockOperation::NonBlockingLockShared, watch)?;
        Ok(PacksHeld { _lock: lock })
    }

    fn lock(&self, name: &str, operation: FlockOperation, watch: &mut dyn Watch) -> Result<File, Trouble> {
        let disk = |error: io::Error| Trouble::disk("the mirror's lock", &error);
        let path = self.path.join(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(disk)?;
        let begin = Instant::now();
        let (mut pause, mut said) = (Duration::from_millis(1), false);
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                Err(error) => return Err(disk(error.into())),
            }
            if watch.stop().asked() {
                return Err(Trouble::ours("stopped while waiting for the mirror"));
            }
            if begin.elapsed() > FETCH_TIME {
                return Err(Trouble::ours("another job's fetch did not end"));
            }
            if begin.elapsed() > WAIT_NOTE && !said {
                said = true;
                watch.note("waiting for another job's fetch of this repository");
            }
            watch.stop().wait(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether all that a checkout of this revision needs is here.
    pub fn holds(&self, revision: &str) -> bool {
        self.has(revision) && (self.partial().is_none() || self.is_complete(revision))
    }

    /// Whether an object of this name is in one of the packs, or loose.
    fn has(&self, revision: &str) -> bool {
        let Some(name) = bytes_of(revision) else { return false };
        let objects = self.path.join("objects");
        let (first, rest) = revision.split_at(2);
        if objects.join(first).join(rest).exists() {
            return true;
        }
        let packs = fs::read_dir(objects.join("pack")).into_iter().flatten().flatten();
        let indexes = packs.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "idx"));
        indexes.into_iter().any(|index| index.with_extension("pack").exists() && is_in(&index, &name).unwrap_or(false))
    }

    /// Writes the directory of an empty bare repository, gitrepository-layout(5).
    fn initialise(&self) -> io::Result<()> {
        for directory in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "refs/sai"] {
            fs::create_dir_all(self.path.join(directory))?;
        }
        if self.filter.is_some() {
            fs::write(self.path.join(partial::COMPLETE), "")?;
        }
        let configuration = format!("[core]\n\tbare = true\n{}", self.format(partial::REMOTE));
        fs::write(self.path.join("config"), configuration)?;
        fs::write(self.path.join("HEAD"), "ref: refs/heads/none\n")
    }

    fn fetch_and_heal(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<(), Trouble> {
        let new = !self.path.join("HEAD").exists();
        let first = self.fetch_all(reference, revision, watch);
        match first {
            Err((trouble, broken)) if broken && !new && !watch.stop().asked() => {
                watch.note(&format!("{}; making the mirror anew", trouble.why));
                self.throw_away(watch)?;
                self.fetch_all(reference, revision, watch).map_err(Trouble::from)
            }
            other => other.map_err(Trouble::from),
        }
    }

    /// Fetches, and then what the filter left out of the revision itself.
    fn fetch_all(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<(), (Trouble, bool)> {
        self.fetch(reference, revision, watch)?;
        match self.partial() {
            Some(filter) => self.complete(revision, filter, watch),
            None => Ok(()),
        }
    }

    fn throw_away(&self, watch: &mut dyn Watch) -> Result<(), Trouble> {
        let _alone = self.lock("packs.lock", FlockOperation::NonBlockingLockExclusive, watch)?;
        let disk = |error: io::Error| Trouble::disk("removing a broken mirror", &error);
        let _ = fs::remove_file(self.path.join("HEAD"));
        for entry in fs::read_dir(&self.path).map_err(disk)? {
            let entry = entry.map_err(disk)?;
            let name = entry.file_name();
            if entry.file_type().map_err(disk)?.is_dir() {
                remove_tree(&entry.path()).map_err(disk)?;
            } else if name != "fetch.lock" && name != "packs.lock" {
                fs::remove_file(entry.path()).map_err(disk)?;
            }
        }
        Ok(())
    }

    /// Fetches. The error tells whether the mirror itself may be what is broken.
    fn fetch(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<(), (Trouble, bool)> {
        let new = !self.path.join("HEAD").exists();
        if new {
            self.initialise().map_err(|error| (Trouble::disk("making the mirror", &error), false))?;
        }
        let shown = without_credentials(&self.url);
        watch.note(&format!("fetching {reference} from {shown}"));
        let wanted = format!("+{reference}:refs/sai/{}", digest(reference));
        let by_name = self.run_fetch(&wanted, self.depth, new, watch);
        if by_name.is_ok() && self.has(revision) {
            return Ok(());
        }
        match by_name {
            Err(GitError::Failed(said)) if !names_nothing(&said) => {
                let broken = !remote_is_to_blame(&said);
                return Err((self.explain(&GitError::Failed(said)), broken));
            }
            Err(error @ (GitError::TimedOut(_) | GitError::Stopped | GitError::System(_))) => {
                return Err((self.explain(&error), false));
            }
            // The ref has moved on to a history without the revision, or is gone: ask for the revision itself.
            Ok(()) | Err(GitError::Failed(_)) => {}
        }
        watch.note(&match self.depth {
            None => format!("{reference} does not hold {revision} any more, fetching that"),
            Some(depth) => format!("the last {depth} of {reference} do not hold {revision}, fetching that"),
        });
        let mut by_revision = self.run_fetch(&format!("+{revision}:refs/sai/{revision}"), self.depth, false, watch);
        if self.depth.is_some() && !self.has(revision) && !watch.stop().asked() {
            // It may be deeper in the ref's history, on a server that gives nobody a revision by its number.
            watch.note(&format!("fetching all of {reference}"));
            by_revision = self.run_fetch(&wanted, None, false, watch);
        }
        match by_revision {
            Ok(()) if self.has(revision) => Ok(()),
            Err(GitError::Failed(said)) if !names_nothing(&said) => {
                let broken = !remote_is_to_blame(&said);
                Err((self.explain(&GitError::Failed(said)), broken))
            }
            Ok(()) | Err(GitError::Failed(_)) => {
                Err((Trouble::specs(format!("revision {revision} not found in {shown}")), false))
            }
            Err(error) => Err((self.explain(&error), false)),
        }
    }

    fn run_fetch(&self, refspec: &str, depth: Option<u32>, first: bool, watch: &mut dyn Watch) -> Result<(), GitError> {
        let mut arguments = vec![
            "fetch",
            // Percentages would fill a log that is read long after; what goes wrong is said all the same.
            "--quiet",
            "--no-write-fetch-head",
            "--no-auto-gc",
            "--no-recurse-submodules",
        ];
        let depth = depth.map(|depth| format!("--depth={depth}"));
        match &depth {
            Some(depth) => arguments.push(depth),
            // One that was shallow gets the rest of its history.
            None if self.path.join(SHALLOW).exists() => arguments.push("--unshallow"),
            None => {}
        }
        let url = self.remote_url();
        let filter = self.partial().map(|filter| format!("--filter={filter}"));
        match &filter {
            Some(filter) => {
                arguments.splice(0..0, ["-c", &url]);
                arguments.extend([filter, "--", partial::REMOTE, refspec]);
            }
            None => arguments.extend(["--", &self.url, refspec]),
        }
        let result = self.git().run(&self.path, &arguments, watch);
        if first && result.is_ok() {
            // A first fetch may have brought thousands of tags, one file each.
            let _ = self.git().run(&self.path, &["pack-refs", "--all"], watch);
        }
        result
    }

    fn explain(&self, error: &GitError) -> Trouble {
        let text = format!("fetching {}: {error}", without_credentials(&self.url));
        let text = self.secret.as_deref().map_or(text.clone(), |secret| hide(&text, secret));
        match error {
            GitError::Failed(said) if remote_is_to_blame(said) || names_nothing(said) => Trouble::of_repository(text),
            _ => Trouble::ours(text),
        }
    }

    /// Packs many packs into few. What fails here fails again, and matters, when it is used.
    fn pack_together(&self, watch: &mut dyn Watch) {
        let pack = self.path.join("objects/pack");
        let packs = fs::read_dir(pack).into_iter().flatten().flatten();
        let count = packs.filter(|entry| entry.path().extension().is_some_and(|end| end == "pack")).count();
        if count > PACKS
            && let Ok(_alone) = self.lock("packs.lock", FlockOperation::NonBlockingLockExclusive, watch)
        {
            // Git cannot tell what of a few packs a server has promised to give later, only of all.
            let which = if self.partial().is_some() { "-a" } else { "--geometric=2" };
            let _ = self.git().run(&self.path, &["repack", which, "-d", "-q"], watch);
            let _ = self.git().run(&self.path, &["pack-refs", "--all"], watch);
        }
    }
}

impl From<(Trouble, bool)> for Trouble {
    fn from((trouble, _): (Trouble, bool)) -> Self {
        trouble
    }
}

/// Whether git says that the remote has no such ref or object.
fn names_nothing(said: &str) -> bool {
    ["couldn't find remote ref", "not our ref", "unadvertised object", "no such remote ref", "remote did not send all"]
        .iter()
        .any(|sign| said.contains(sign))
}

/// Whether git says that the remote or the way to it fails: then the mirror is not to blame.
fn remote_is_to_blame(said: &str) -> bool {
    [
        "Could not resolve",
        "unable to access",
        "Could not read from remote",
        "unable to connect",
        "Connection",
        "Permission denied",
        "Authentication failed",
        "could not read Username",
        "could not read Password",
        "terminal prompts disabled",
        "early EOF",
        "hung up unexpectedly",
        "timed out",
        "not appear to be a git repository",
        "not found",
        "not allowed",
        "No space left",
    ]
    .iter()
    .any(|sign| said.contains(sign))
}

fn bytes_of(name: &str) -> Option<Vec<u8>> {
    if !name.is_ascii() || !matches!(name.len(), 40 | 64) {
        return None;
    }
    (0..name.len() / 2).map(|at| u8::from_str_radix(name.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

/// Looks an object up in the index of a pack, version 2 of gitformat-pack(5): magic, version, 256 cumulated counts by first
/// byte, then the sorted names.
fn is_in(index: &Path, name: &[u8]) -> io::Result<bool> {
    const MAGIC: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
    let file = File::open(index)?;
    let mut head = [0; 8 + 256 * 4];
    file.read_exact_at(&mut head, 0)?;
    if head[..8] != MAGIC {
        return Ok(false);
    }
    let count = |first: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&head[8 + 4 * first..12 + 4 * first]);
        u64::from(u32::from_be_bytes(bytes))
    };
    let Some(first) = name.first().map(|byte| usize::from(*byte)) else { return Ok(false) };
    let (mut low, mut high) = (if first == 0 { 0 } else { count(first - 1) }, count(first));
    let mut found = vec![0; name.len()];
    while low < high {
        let middle = low + (high - low) / 2;
        file.read_exact_at(&mut found, head.len() as u64 + middle * name.len() as u64)?;
        match found.as_slice().cmp(name) {
            std::cmp::Ordering::Equal => return Ok(true),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(false)
}
