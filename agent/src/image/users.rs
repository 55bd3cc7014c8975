//! Directory of images ↔ the agents that serve it, the jobs in its images, and what nobody needs any more.
//!
//! | name | what |
//! |---|---|
//! | `PLATFORM/…` | an image, see `scan` |
//! | `PLATFORM/.jobs` | a byte for each job that ran in it |
//! | `.agents/IDENTITY` | a link to the state directory of an agent that serves the images |
//! | `.new-NAME/` | what is being made; the command that makes it holds its `lock` (flock) |
//! | `.old-NAME-N/` | what was replaced or removed, until no job is left that may still run in it |
//! | `.lock` | held while the two above come and go |
//!
//! That a job runs in an image is known by its job directory alone, so that no death of any process can hide it.

use crate::job_directory::JobDirectory;
use crate::remove_tree::remove_tree;
use crate::state;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use sai_core::job::JobKey;
use sai_core::ordered::Set;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Beginning of the name of what is being made.
pub const NEW: &str = ".new-";
/// Beginning of the name of what was replaced or removed.
pub const OLD: &str = ".old-";
/// The directory of links to agents' state directories.
const AGENTS: &str = ".agents";
/// In a platform's directory: a byte for each job.
const JOBS: &str = ".jobs";
/// Time the lock is waited for by who has other things to do. A process that is being started by whoever had it has a copy of
/// it until it runs its program; on a loaded machine that takes a while.
const LOCK_TIME: Duration = Duration::from_secs(2);
/// Time between two tries to take it.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A job that runs in a container, or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The job's directory.
    pub job: PathBuf,
    /// The layers its root is made of.
    pub layers: Vec<PathBuf>,
    /// When that was decided.
    pub since: SystemTime,
}

/// Makes the directory of images if need be, and writes down that an agent serves it.
///
/// # Errors
/// The disk's.
pub fn register(images: &Path, identity: &str, state: &Path) -> io::Result<()> {
    let agents = images.join(AGENTS);
    DirBuilder::new().recursive(true).mode(0o755).create(&agents)?;
    let link = agents.join(identity);
    if fs::read_link(&link).is_ok_and(|target| target == state) {
        return Ok(());
    }
    let new = agents.join(format!(".{identity}"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => symlink(state, &new)?,
    }
    fs::rename(new, link)
}

/// The state directories of the agents that serve a directory of images, running or not.
///
/// # Errors
/// The disk's.
pub fn agents(images: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(images.join(AGENTS)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Set::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        match fs::canonicalize(entry.path()) {
            Ok(state) => _ = found.insert(state),
            // An agent whose state was deleted has no jobs any more.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found.into_iter().collect())
}

/// Every job in a container of an agent that serves these images, unless it has ended.
///
/// # Errors
/// The disk's: then it cannot be known.
pub fn uses(images: &Path) -> io::Result<Vec<Use>> {
    let mut found = Vec::new();
    for state in agents(images)? {
        let entries = match fs::read_dir(state.join("jobs")) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let job = entry?.path();
            let is_attempt = job.file_name().and_then(OsStr::to_str).is_some_and(|name| name.parse::<JobKey>().is_ok());
            match is_attempt.then(|| use_of(&job)) {
                None | Some(Ok(None)) => {}
                Some(Ok(Some(use_))) => found.push(use_),
                // It was removed while we looked.
                Some(Err(error)) if error.kind() == ErrorKind::NotFound => {}
                Some(Err(error)) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// What the job in a job directory uses.
fn use_of(job: &Path) -> io::Result<Option<Use>> {
    let directory = JobDirectory::open(job)?;
    if directory.ended() || directory.went_down() {
        return Ok(None);
    }
    let Some(container) = directory.options()?.container else { return Ok(None) };
    let since = fs::metadata(job.join("options"))?.modified()?;
    let layers = container.layers.into_iter().map(PathBuf::from).collect();
    Ok(Some(Use { job: directory.path().to_path_buf(), layers, since }))
}

/// Has the agents that serve a directory of images, and run, look through it again. Tells which do.
///
/// # Errors
/// The system's, as when they are another user's.
pub fn tell(images: &Path) -> io::Result<Vec<Pid>> {
    let mut told = Vec::new();
    for directory in agents(images)? {
        if let Some(pid) = state::holder(&directory) {
            kill_process(pid, Signal::HUP)?;
            told.push(pid);
        }
    }
    Ok(told)
}

/// Counts a job that runs in the image of a platform's directory.
///
/// # Errors
/// The disk's.
pub fn count(platform: &Path) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(platform.join(JOBS))?.write_all(b".")
}

/// The jobs that were counted.
pub fn counted(platform: &Path) -> u64 {
    fs::metadata(platform.join(JOBS)).map_or(0, |about| about.len())
}

/// Takes the lock under which what is being made and what was replaced come and go.
///
/// # Errors
/// The disk's.
pub fn lock(images: &Path) -> io::Result<File> {
    let file = lock_file(images)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

fn lock_file(images: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(images.join(".lock"))
}

/// Takes that lock unless somebody keeps it.
fn lock_soon(images: &Path) -> io::Result<Option<File>> {
    let file = lock_file(images)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK_TIME => thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what commands that were killed have left half made, and what was replaced and is used no longer. Tells what.
/// While somebody else is at that, it is left to whoever comes next.
///
/// # Errors
/// The disk's.
pub fn sweep(images: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(images) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(NEW) || name.starts_with(OLD) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Ok(names);
    }
    let Some(_lock) = lock_soon(images)? else { return Ok(Vec::new()) };
    let mut removed = Vec::new();
    for name in names {
        let path = images.join(&name);
        let unused = if name.starts_with(NEW) { is_abandoned(&path)? } else { is_unused(&path, &uses(images)?)? };
        if unused {
            #[cfg(feature = "nspawn")]
            super::trial::sweep(&path);
            remove_tree(&path)?;
            removed.push(name);
        }
    }
    Ok(removed)
}

/// Whether the command that made this is gone.
pub(super) fn is_abandoned(path: &Path) -> io::Result<bool> {
    match File::open(path.join("lock")) {
        Ok(lock) => match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(error.into()),
        },
        // Killed before it had a lock.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether no job is left from before this was put aside. Its own time is that moment: nothing changes in it any more.
fn is_unused(path: &Path, uses: &[Use]) -> io::Result<bool> {
    let replaced = fs::symlink_metadata(path)?.modified()?;
    Ok(uses.iter().all(|use_| use_.since > replaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_found_by_their_links_and_jobs_are_counted_by_bytes() {
        let root = std::env::temp_dir().join(format!("sai-users-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let (images, state, moved) = (root.join("images"), root.join("state"), root.join("moved"));
        fs::create_dir_all(&state).expect("a state");
        fs::create_dir_all(&moved).expect("a state");
        assert_eq!(agents(&images).expect("no agents"), Vec::<PathBuf>::new());
        for place in [&state, &state, &moved] {
            register(&images, "0123", place).expect("a link");
        }
        register(&images, "4567", &root.join("gone")).expect("a link");
        assert_eq!(agents(&images).expect("agents"), [fs::canonicalize(&moved).expect("a path")]);
        assert_eq!(tell(&images).expect("nobody runs"), []);
        let platform = images.join("os");
        assert!(count(&platform).is_err());
        fs::create_dir(&platform).expect("a platform");
        assert_eq!(counted(&platform), 0);
        for _ in 0..3 {
            count(&platform).expect("a file");
        }
        assert_eq!(counted(&platform), 3);
        fs::remove_dir_all(&root).expect("the end");
    }

    #[test]
    fn what_is_half_made_goes_unless_its_maker_lives() {
        let images = std::env::temp_dir().join(format!("sai-sweep-{}", std::process::id()));
        let _ = fs::remove_dir_all(&images);
        for name in [".new-killed/base/etc", ".new-alive/base", ".new-unlocked", ".old-a-1/env", "os/base"] {
            fs::create_dir_all(images.join(name)).expect("a directory");
        }
        File::create(images.join(".new-killed/lock")).expect("a file");
        let lock = File::create(images.join(".new-alive/lock")).expect("a file");
        flock(&lock, FlockOperation::LockExclusive).expect("a lock");
        let mut removed = sweep(&images).expect("a sweep");
        removed.sort();
        assert_eq!(removed, [".new-killed", ".new-unlocked", ".old-a-1"]);
        assert!(images.join("os/base").exists() && images.join(".new-alive/base").exists());
        fs::remove_dir_all(&images).expect("the end");
    }

    #[test]
    fn what_was_replaced_is_kept_for_the_jobs_from_before() {
        let path = std::env::temp_dir().join(format!("sai-unused-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        let replaced = fs::metadata(&path).and_then(|about| about.modified()).expect("a time");
        let second = Duration::from_secs(1);
        let begun = |since| Use { job: "/j/1-1".into(), layers: Vec::new(), since };
        for (since, unused) in [(replaced - second, false), (replaced, false), (replaced + second, true)] {
            assert_eq!(is_unused(&path, &[begun(since)]).expect("a directory"), unused);
        }
        assert!(is_unused(&path, &[]).expect("a directory"));
        fs::remove_dir_all(&path).expect("the end");
    }
}
