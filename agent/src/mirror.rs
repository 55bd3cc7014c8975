//! (URL, ref, revision) → a bare repository in STATE/mirrors that holds the revision: fetched once, however many jobs want it.
//!
//! A mirror is ours alone: its directory is written by hand, each ref lands under a name made from a digest (so that no two of
//! the remote's can be in each other's way), and its packs only ever become more, until they are packed together.
//!
//! Locks: `fetch.lock` is held by the one that fetches; `packs.lock` is shared by those that link packs into a workspace and
//! exclusive for the one that removes packs. A job for a known revision never waits for another's fetch.

mod partial;

use crate::cache::{Cache, Fetch, NO_FILES, digest, escape, unescape};
use crate::git::cause::{self, Cause};
use crate::git::tools::{self, Tools};
use crate::git::{Git, GitError, Silent, Watch};
use rustix::fs::{FlockOperation, flock};
use sai_core::git_names::{check_ref, check_revision, protocol};
use sai_core::job::{Blame, Fault, Outcome, Verdict};
use sai_core::ordered::Set;
use sai_core::ref_name;
use sai_core::secret::CloneUrl;
use sai_core::wire::Prefetch;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time for one fetch. The job's own limit is usually shorter.
const FETCH_TIME: Duration = Duration::from_secs(3600);
/// Packs in a mirror after which they are packed together: each is three links for each workspace.
const PACKS: usize = 40;
/// Largest file that git may write for a job, in bytes: beyond the packs of the largest repositories there are, and an end to
/// what a hostile one can do to a disk.
const FILE_BYTES: u64 = 64 << 30;
/// Name of the file in the mirrors' directory that says how many commits of a history its mirrors have; all without it.
const DEPTH_FILE: &str = ".depth";
/// Name of the file there that says what of a history its mirrors leave out; nothing without it.
const FILTER_FILE: &str = ".filter";
/// What mirrors may leave out, as git-rev-list(1) names it: the content of files, but for those of revisions that were built.
pub const FILTERS: [&str; 1] = [NO_FILES];
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

    /// The end of an attempt that could not go on through this.
    pub(crate) fn verdict(self) -> Verdict {
        let Self { fault, blame, why: cause } = self;
        let (outcome, trouble) = match fault {
            Fault::Spec => (Outcome::Failed, None),
            _ => (Outcome::Infra, blame.word()),
        };
        Verdict { outcome, fault, cause, step: None, status: None, trouble, verdict: None }
    }

    pub(crate) fn disk(what: &str, error: &io::Error) -> Self {
        Self::ours(format!("{what}: {error}"))
    }
}

/// The mirror of one repository.
#[derive(Debug)]
pub struct Mirror {
    cache: Cache,
    depth: Option<u32>,
    filter: Option<&'static str>,
}

/// While this is held, no pack of the mirror is removed.
#[derive(Debug)]
pub struct PacksHeld {
    _lock: File,
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
    tools::set(mirrors, DEPTH_FILE, depth.map(|depth| depth.to_string()).as_deref())
}

/// Has the mirrors of a directory leave this out from now on, one of [`FILTERS`], or nothing; as [`set_depth`].
///
/// # Errors
/// The disk's.
pub fn set_filter(mirrors: &Path, filter: Option<&str>) -> io::Result<()> {
    tools::set(mirrors, FILTER_FILE, filter)
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
    let mut watch = Silent::new().map_err(|error| error.to_string())?;
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
    pub fn open(mirrors: &Path, name: &str, url: &CloneUrl, revision: &str) -> Result<Self, Trouble> {
        let protocol = protocol(url.reveal()).map_err(|why| Trouble::specs(format!("repository {name}: {why}")))?;
        check_revision(revision).map_err(|why| Trouble::specs(format!("revision {revision:?}: {why}")))?;
        fs::create_dir_all(mirrors).map_err(|error| Trouble::disk("the mirrors' directory", &error))?;
        let mirrors = fs::canonicalize(mirrors).map_err(|error| Trouble::disk("the mirrors' directory", &error))?;
        let tools = Tools::open(&mirrors).map_err(|error| Trouble::disk("git's configuration", &error))?;
        // The length of a revision tells the hash of the repository, which cannot change in a mirror.
        let sha256 = revision.len() == 64;
        let short: String = escape(name).chars().take(180).collect();
        let hash = digest(&format!("{} {sha256}", url.shown()));
        let cache = Cache {
            path: mirrors.join(format!("{short}-{hash}.git")),
            url: url.clone(),
            protocols: protocol.allowed(),
            sha256,
            tools,
            environment: Vec::new(),
            file_bytes: FILE_BYTES,
        };
        Ok(Self { depth: read_depth(&mirrors), filter: read_filter(&mirrors), cache })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.cache.path
    }

    /// The repository's URL.
    pub fn url(&self) -> &CloneUrl {
        &self.cache.url
    }

    /// The configuration of a repository that is made of it, see [`Cache::format`].
    pub(crate) fn format(&self, remote: &str) -> String {
        self.cache.format(remote, self.partial())
    }

    /// How to run git for this repository.
    pub(crate) fn git(&self) -> Git<'_> {
        self.cache.git(FETCH_TIME)
    }

    /// The same mirror for whom no file may be larger than this, in bytes.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.cache.file_bytes = bytes;
        self
    }

    /// Makes sure the revision is here. One fetch at a time; who waited looks again before fetching.
    ///
    /// # Errors
    /// The spec's fault when the repository has no such revision, ours in all other cases.
    pub fn ensure(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<PacksHeld, Trouble> {
        check_ref(reference).map_err(|why| Trouble::specs(format!("ref {reference:?}: {why}")))?;
        check_revision(revision).map_err(|why| Trouble::specs(format!("revision {revision:?}: {why}")))?;
        if self.cache.exists() {
            let held = self.hold_packs(watch)?;
            if self.holds(revision) {
                return Ok(held);
            }
        }
        fs::create_dir_all(self.path()).map_err(|error| Trouble::disk("the mirror's directory", &error))?;
        let _fetching = self.lock("fetch.lock", FlockOperation::NonBlockingLockExclusive, watch)?;
        if !self.holds(revision) {
            if self.cache.exists() && self.partial() != self.filter {
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
        let path = self.path().join(name);
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
        self.cache.has(revision) && (self.partial().is_none() || self.is_complete(revision))
    }

    /// What this mirror leaves out, which is not what it would if it were made now.
    fn partial(&self) -> Option<&'static str> {
        self.cache.partial()
    }

    fn fetch_and_heal(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<(), Trouble> {
        let new = !self.cache.exists();
        // Of a fetch that was killed.
        self.cache.remove_unfinished();
        let mut done = self.fetch_all(reference, revision, watch);
        if let Err((trouble, true)) = &done
            && !new
            && !watch.stop().asked()
        {
            watch.note(&format!("{}; making the mirror anew", trouble.why));
            self.throw_away(watch)?;
            done = self.fetch_all(reference, revision, watch);
        }
        if done.is_err() {
            self.cache.remove_unfinished();
        }
        done.map_err(
            |(trouble, _)| if cause::lacks_objects(&trouble.why) { Trouble::specs(trouble.why) } else { trouble },
        )
    }

    /// Fetches, and then what the filter left out of the revision itself.
    fn fetch_all(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<(), (Trouble, bool)> {
        self.fetch(reference, revision, watch)?;
        if self.partial().is_some() { self.complete(revision, watch) } else { Ok(()) }
    }

    fn throw_away(&self, watch: &mut dyn Watch) -> Result<(), Trouble> {
        let _alone = self.lock("packs.lock", FlockOperation::NonBlockingLockExclusive, watch)?;
        let removed = self.cache.throw_away(&["fetch.lock", "packs.lock"]);
        removed.map_err(|error| Trouble::disk("removing a broken mirror", &error))
    }

    /// Fetches. The error tells whether the mirror itself may be what is broken.
    fn fetch(&self, reference: &str, revision: &str, watch: &mut dyn Watch) -> Result<(), (Trouble, bool)> {
        let new = !self.cache.exists();
        if new {
            let made = self.cache.initialise(self.filter);
            made.map_err(|error| (Trouble::disk("making the mirror", &error), false))?;
        }
        let shown = self.url().shown();
        watch.note(&format!("fetching {reference} from {shown}"));
        let mut wanted = OsString::from("+");
        wanted.push(OsString::from_vec(ref_name::bytes(reference).unwrap_or_default()));
        wanted.push(format!(":refs/sai/{}", digest(reference)));
        let names_nothing = |error: &GitError| matches!(cause::of_fetch(error), Cause::Absent | Cause::Unadvertised);
        match self.run_fetch(&wanted, self.depth, new, watch) {
            Ok(()) if self.cache.has(revision) => return Ok(()),
            // The ref has moved on to a history without the revision, or is gone: ask for the revision itself.
            Ok(()) => {}
            Err(error) if names_nothing(&error) => {}
            Err(error) => return Err(self.blame(&error)),
        }
        watch.note(&match self.depth {
            None => format!("{reference} does not hold {revision} any more, fetching that"),
            Some(depth) => format!("the last {depth} of {reference} do not hold {revision}, fetching that"),
        });
        let by_number = OsString::from(format!("+{revision}:refs/sai/{revision}"));
        let mut by_revision = self.run_fetch(&by_number, self.depth, false, watch);
        if self.depth.is_some() && !self.cache.has(revision) && !watch.stop().asked() {
            // It may be deeper in the ref's history, on a server that gives nobody a revision by its number.
            watch.note(&format!("fetching all of {reference}"));
            by_revision = self.run_fetch(&wanted, None, false, watch);
        }
        match by_revision {
            Ok(()) if self.cache.has(revision) => Ok(()),
            Err(error) if !names_nothing(&error) => Err(self.blame(&error)),
            Ok(()) | Err(_) => Err((Trouble::specs(format!("revision {revision} not found in {shown}")), false)),
        }
    }

    fn run_fetch(
        &self,
        refspec: &OsStr,
        depth: Option<u32>,
        first: bool,
        watch: &mut dyn Watch,
    ) -> Result<(), GitError> {
        let fetch = Fetch { wanted: &[refspec], depth, tags: true, time: FETCH_TIME };
        let result = self.cache.fetch(&fetch, watch);
        if first && result.is_ok() {
            // A first fetch may have brought thousands of tags, one file each.
            let _ = self.git().run(self.path(), &["pack-refs", "--all"], watch);
        }
        result
    }

    /// Whose trouble a failed fetch is, and whether the mirror itself may be what is broken.
    fn blame(&self, error: &GitError) -> (Trouble, bool) {
        let shown = self.url().shown();
        let text = format!("fetching {shown}: {error}");
        match cause::of_fetch(error) {
            Cause::Content => (Trouble::specs(format!("{shown} cannot be fetched: {}", cause::sentence(error))), false),
            Cause::Machine => (Trouble::ours(text), false),
            Cause::Remote | Cause::Absent | Cause::Unadvertised => (Trouble::of_repository(text), false),
            // With a new mirror it is the server that says what nobody understands.
            Cause::Copy | Cause::Unknown => (Trouble::of_repository(text), true),
        }
    }

    /// Packs many packs into few. What fails here fails again, and matters, when it is used.
    fn pack_together(&self, watch: &mut dyn Watch) {
        if self.cache.packs() > PACKS
            && let Ok(_alone) = self.lock("packs.lock", FlockOperation::NonBlockingLockExclusive, watch)
        {
            // Git cannot tell what of a few packs a server has promised to give later, only of all.
            let which = if self.partial().is_some() { "-a" } else { "--geometric=2" };
            let _ = self.git().run(self.path(), &["repack", which, "-d", "-q"], watch);
            let _ = self.git().run(self.path(), &["pack-refs", "--all"], watch);
        }
    }
}

impl From<(Trouble, bool)> for Trouble {
    fn from((trouble, _): (Trouble, bool)) -> Self {
        trouble
    }
}
