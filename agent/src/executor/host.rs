//! Step → process on this machine itself, in its workspace, as another user when so configured.

use crate::cgroup::{Enclosure, killed_on_the_machine};
use crate::clean_start::forked;
use crate::executor::{Isolated, REF, Step, Workspace};
use crate::mirror::Trouble;
use rustix::fs::{Gid, Uid, fchown};
use rustix::process::Pid;
use sai_core::ref_name;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// What a copy of a file is called until it takes its place.
const COPY: &str = ".sai-copy";

/// Runs steps as plain processes.
#[derive(Debug)]
pub struct Host {
    workspace: Workspace,
    user: Option<(u32, u32)>,
    isolated: Isolated,
    shell: &'static str,
    killed: AtomicU64,
}

impl Host {
    /// An executor in this workspace, as this user and group, or as ourselves.
    pub fn new(workspace: Workspace, user: Option<(u32, u32)>, isolated: Isolated) -> Self {
        let shell = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
        Self { workspace, user, isolated, shell, killed: AtomicU64::new(killed_on_the_machine()) }
    }

    /// Whether the machine has run out of memory since this was asked last, in words.
    pub fn reached(&self) -> Option<String> {
        let now = killed_on_the_machine();
        let kills = now.saturating_sub(self.killed.swap(now, Ordering::Relaxed));
        (kills > 0).then(|| format!("this machine ran out of memory meanwhile, and the kernel killed {kills} on it"))
    }

    /// Whether [`Host::start`] has to wait for the kernel.
    pub fn takes_time(&self) -> bool {
        matches!(&self.isolated, Ok(Some(enclosure)) if enclosure.is_outside())
    }

    /// Has the supervisor enter the job's cgroup, if there is one. Tells what was not to be had.
    ///
    /// # Errors
    /// Trouble of ours, in one line.
    pub fn start(&self) -> Result<Vec<String>, Trouble> {
        let entered =
            self.isolated.as_ref().map_err(|why| Trouble::ours(why.clone()))?.as_ref().map_or(Ok(()), Enclosure::enter);
        Ok(entered.err().map(|error| format!("the job has no cgroup of its own: {error}")).into_iter().collect())
    }

    /// Gives the workspace to the user of the job.
    ///
    /// # Errors
    /// The system's.
    pub fn prepare(&self) -> io::Result<()> {
        match self.user {
            Some((user, group)) => give(&self.workspace.work, user, group, Linked::Stays),
            None => Ok(()),
        }
    }

    /// Starts a step: its script is a file, so that its length is of no consequence and `$0` names it.
    ///
    /// # Errors
    /// The system's.
    pub fn spawn(&self, step: Step<'_>) -> io::Result<Pid> {
        let script = self.workspace.steps.join(format!("step-{}", step.index + 1));
        write_script(&script, step.script)?;
        let mut command = Command::new(self.shell);
        command.arg("-e").arg(script).current_dir(&self.workspace.source).env_clear().envs(step.environment);
        if let Some(reference) = step.environment.get(REF).and_then(|text| ref_name::bytes(text)) {
            command.env(REF, OsString::from_vec(reference));
        }
        command.stdin(Stdio::null()).process_group(0);
        forked(&mut command);
        if let Some((user, group)) = self.user {
            // A step that opens /dev/stdout anew needs to be allowed to.
            for pipe in [&step.stdout, &step.stderr] {
                fchown(pipe, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
            }
            command.uid(user).gid(group);
        }
        let child = command.stdout(step.stdout).stderr(step.stderr).spawn()?;
        Ok(Pid::from_child(&child))
    }
}

/// Writes a script, new: a job that runs as ourselves may have put something in its place.
pub(super) fn write_script(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        file.write_all(b"\n")?;
    }
    Ok(())
}

/// What becomes of a file that is linked to from elsewhere as well (objects shared with a mirror), so that it cannot be given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// It stays ours, and the user may only read it.
    Stays,
    /// A copy of it takes its place, for a user who is to be able to give everything to others.
    Copied,
}

/// Gives a tree that we have made to a user, before anything of the job runs in it.
pub(super) fn give(path: &Path, user: u32, group: u32, linked: Linked) -> io::Result<()> {
    lchown(path, Some(user), Some(group))?;
    let mut waiting = vec![path.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let state = entry.metadata()?;
            let mut own = state.is_dir() || state.nlink() == 1;
            if !own && linked == Linked::Copied && state.is_file() {
                // Nothing of a repository is ever called so where such files are.
                let copy = directory.join(COPY);
                let mut file = OpenOptions::new().create_new(true).write(true).mode(0o444).open(&copy)?;
                io::copy(&mut File::open(entry.path())?, &mut file)?;
                fs::rename(copy, entry.path())?;
                own = true;
            }
            if own {
                lchown(entry.path(), Some(user), Some(group))?;
            }
            if state.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}
