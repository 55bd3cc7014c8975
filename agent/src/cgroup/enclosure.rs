//! A job on the machine itself → a cgroup around its supervisor and all it starts, by which what a killed supervisor has left is
//! found: whatever it has done to its parents, session, environment and directory.
//!
//! It has no limits, so it stands below the cgroup of the agent, which need not be divided for it. An agent that is not root can
//! have one where its own cgroup was handed to it (`Delegate=yes` of a systemd unit).

use super::{Hierarchy, OWN, PREFIX, machine};
use rustix::fs::{Access, access};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the name of a cgroup begins with that is made only to see whether one can be.
const PROBE: &str = "sai-probe-";

/// A job's cgroup that its supervisor is in, or is still to enter.
#[derive(Debug)]
pub struct Enclosure {
    /// Of version 2, where entering it takes the kernel a grace period, ten milliseconds and more.
    to_enter: Option<PathBuf>,
}

/// The hierarchies in which a cgroup has a way to be killed as a whole: the freezer of version 1, since there a process
/// with one thread enters at once, then version 2.
fn fitting(hierarchies: &[Hierarchy]) -> impl Iterator<Item = (&Hierarchy, bool)> {
    let freezer = |it: &&Hierarchy| it.controllers.as_ref().is_some_and(|all| all.iter().any(|name| name == "freezer"));
    let first = hierarchies.iter().filter(freezer).map(|it| (it, false));
    first.chain(hierarchies.iter().filter(|it| it.controllers.is_none()).map(|it| (it, true)))
}

/// Below which cgroup those of jobs stand: the agent's, or the one above where that was divided.
fn parent_of_jobs(hierarchy: &Hierarchy) -> &Path {
    let own = &hierarchy.directory;
    own.parent().filter(|_| own.ends_with(OWN)).unwrap_or(own)
}

/// Makes a cgroup for a job, after it has noted it down in the file `record`, by which [`super::remove`] finds it, and puts the
/// calling process into it, which has one thread, if that takes no time. None: there is no place for one.
///
/// # Errors
/// When it cannot be noted down.
pub fn enclose(name: &str, record: &Path) -> io::Result<Option<Enclosure>> {
    for (hierarchy, second_version) in fitting(&machine()) {
        let directory = parent_of_jobs(hierarchy).join(format!("{PREFIX}{name}"));
        fs::write(record, format!("{}\n", directory.display()))?;
        if fs::create_dir(&directory).is_err() {
            continue;
        }
        if second_version {
            return Ok(Some(Enclosure { to_enter: Some(directory) }));
        }
        if fs::write(directory.join("tasks"), "0").is_ok() {
            return Ok(Some(Enclosure { to_enter: None }));
        }
        let _ = fs::remove_dir(&directory);
    }
    match fs::remove_file(record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(None),
    }
}

impl Enclosure {
    /// Whether the calling process is still to enter.
    pub fn is_outside(&self) -> bool {
        self.to_enter.is_some()
    }

    /// Has the calling process enter, with all its threads, if it has not yet. What it started before stays outside.
    ///
    /// # Errors
    /// The system's.
    pub fn enter(&self) -> io::Result<()> {
        match &self.to_enter {
            Some(directory) => fs::write(directory.join("cgroup.procs"), "0"),
            None => Ok(()),
        }
    }
}

/// Why jobs on the machine itself can have no cgroups of their own here, in a sentence; `None` where they can.
pub fn enclosing_trouble() -> Option<String> {
    let machine = machine();
    let mut reasons = Vec::new();
    for (hierarchy, _) in fitting(&machine) {
        match probe(parent_of_jobs(hierarchy), &hierarchy.directory) {
            Ok(()) => return None,
            Err(error) => reasons.push(format!("{}: {error}", hierarchy.directory.display())),
        }
    }
    let why = if reasons.is_empty() { "this machine has none".to_string() } else { reasons.join("; ") };
    Some(format!(
        "jobs have no cgroup of their own ({why}), so a process that hides from its job can outlive one whose supervisor was killed"
    ))
}

/// Whether cgroups can be made below one, and entered from another: the kernel wants the right to write to both lists.
fn probe(parent: &Path, own: &Path) -> io::Result<()> {
    for list in [parent, own] {
        access(list.join("cgroup.procs"), Access::WRITE_OK)?;
    }
    let directory = parent.join(format!("{PROBE}{}", std::process::id()));
    fs::create_dir(&directory)?;
    fs::remove_dir(&directory)
}
