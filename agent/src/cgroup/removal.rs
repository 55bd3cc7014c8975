//! List of a job's cgroups → none of them left, and no process that was in them.

use super::{PREFIX, read};
use crate::process_tree::signal;
use rustix::process::Signal;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time to wait for killed processes to be gone.
const KILL_TIME: Duration = Duration::from_secs(10);
/// Longest time to wait for a cgroup to stand still, so that its processes start no others while they are killed.
const FREEZE_TIME: Duration = Duration::from_millis(500);
/// Time between two looks at what is dying or coming to a stand.
const PAUSE: Duration = Duration::from_millis(1);
/// Cgroups that are looked at below one of a job's. A job that may make any has no use for so many.
const MOST: usize = 10_000;

/// Kills what is left in the cgroups that were noted down in a file, and removes them.
///
/// # Errors
/// When one cannot be removed; a file that is missing names none.
pub fn remove(record: &Path) -> io::Result<()> {
    let begin = Instant::now();
    for line in read(record).lines() {
        let directory = Path::new(line);
        let ours = directory.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX));
        if !ours || !directory.is_absolute() {
            continue;
        }
        loop {
            let all = with_all_below(directory);
            match all.iter().rev().try_for_each(fs::remove_dir) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => break,
                // A process that is dying is still in it for a moment.
                Err(_) if begin.elapsed() < KILL_TIME => {
                    kill(directory, &all);
                    std::thread::sleep(PAUSE);
                }
                Err(error) => return Err(io::Error::new(error.kind(), format!("{line}: {error}"))),
            }
        }
    }
    Ok(())
}

/// A cgroup and those below it, each after the one that it is in.
pub(super) fn with_all_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_path_buf()];
    let mut next = 0;
    while let Some(directory) = found.get(next).filter(|_| found.len() < MOST) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let inner: Vec<PathBuf> = inner.map(|entry| entry.path()).collect();
        found.extend(inner);
        next += 1;
    }
    found
}

/// Kills every process in a cgroup and those below it. However fast they start others, none escapes where the kernel kills
/// them all at once, or stops them first.
fn kill(directory: &Path, all: &[PathBuf]) {
    if all.iter().all(|inner| read(&inner.join("cgroup.procs")).is_empty())
        || fs::write(directory.join("cgroup.kill"), "1").is_ok()
    {
        return;
    }
    freeze(directory);
    for inner in all {
        for pid in read(&inner.join("cgroup.procs")).lines().filter_map(|line| line.parse().ok()) {
            // 0 is a process that this namespace of processes does not show.
            if pid > 1 {
                signal(pid, Signal::KILL);
            }
        }
    }
    // In version 1 what stands still dies only when it goes on, and the job may have stopped a part of itself.
    for inner in all {
        let _ = fs::write(inner.join("freezer.state"), "THAWED");
    }
}

/// Stops a cgroup, where it can be: version 1 by the freezer, version 2 by a file of its own.
fn freeze(directory: &Path) {
    let (order, word, state, still) = if directory.join("freezer.state").exists() {
        ("freezer.state", "FROZEN", "freezer.state", "FROZEN")
    } else {
        ("cgroup.freeze", "1", "cgroup.events", "frozen 1")
    };
    if fs::write(directory.join(order), word).is_err() {
        return;
    }
    let begin = Instant::now();
    while begin.elapsed() < FREEZE_TIME && !read(&directory.join(state)).lines().any(|line| line == still) {
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_found_from_the_outside_in_and_only_ours_are_removed() {
        let base = std::env::temp_dir().join(format!("sai-removal-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let ours = base.join("sai-1");
        let deep = (0..100).fold(ours.clone(), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        fs::create_dir_all(ours.join("e")).unwrap();
        let other = base.join("other");
        fs::create_dir_all(&other).unwrap();
        let all = with_all_below(&ours);
        assert!(all.len() == 102 && all[0] == ours && all.ends_with(&[deep]), "{all:?}");
        let record = base.join("cgroups");
        let lines = [ours.to_str().unwrap(), other.to_str().unwrap(), "sai-relative", "/missing/sai-2"];
        fs::write(&record, lines.join("\n")).unwrap();
        remove(&record).unwrap();
        assert!(!ours.exists() && other.exists());
        remove(&base.join("missing")).unwrap();
        fs::remove_dir_all(&base).unwrap();
    }
}
