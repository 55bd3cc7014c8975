//! /proc → the processes of a job, to end them all: whatever has become of their parents, sessions and signals.

use rustix::process::{Pid, Signal, kill_process};
use sai_core::ordered::{Map, Set};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest time to wait for killed processes to be gone; one in an uninterruptible system call can take for ever.
const KILL_TIME: Duration = Duration::from_secs(10);

/// What /proc/PID/stat tells of a process, see proc_pid_stat(5).
#[derive(Clone, Copy, Debug)]
pub struct ProcessState {
    /// Its parent.
    pub parent: i32,
    /// Its session.
    pub session: i32,
    /// Whether it has ended and waits to be reaped.
    pub zombie: bool,
    /// When it started, in clock ticks since boot.
    pub started: u64,
}

/// Reads the state of one process; `None` when it is gone.
pub fn state(pid: i32) -> Option<ProcessState> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in parentheses and may contain anything, parentheses too.
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(close + 2..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(ProcessState {
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// The number of a process in the one namespace of processes that is below ours and that it is in.
pub fn inner_pid(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace();
    let (_ours, inner) = (numbers.next()?, numbers.next()?);
    if numbers.next().is_some() { None } else { inner.parse().ok() }
}

/// Every process there is, with its state.
fn all() -> Map<i32, ProcessState> {
    let mut processes = Map::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some((pid, state)) = pid.and_then(|pid| Some((pid, state(pid)?))) {
            processes.insert(pid, state);
        }
    }
    processes
}

/// The children of a process as the kernel lists them for each of its threads, where it does.
fn children(pid: i32, found: &mut Vec<i32>) -> Option<()> {
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let list = fs::read_to_string(task.path().join("children")).ok()?;
        found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    Some(())
}

/// Every living descendant of the calling process, nearest first.
pub fn descendants() -> Vec<i32> {
    let own = std::process::id() as i32;
    if !Path::new("/proc/thread-self/children").exists() {
        // A kernel without CONFIG_PROC_CHILDREN.
        let processes = all();
        let mut family = Set::from_iter([own]);
        extend_to_descendants(&processes, &mut family);
        family.remove(&own);
        return family.into_iter().collect();
    }
    let mut found = Vec::new();
    let _ = children(own, &mut found);
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        // One that ends meanwhile hands its children to us: the next round sees them.
        let _ = children(pid, &mut found);
        next += 1;
    }
    found
}

fn extend_to_descendants(processes: &Map<i32, ProcessState>, family: &mut Set<i32>) {
    loop {
        let before = family.len();
        let new = processes.iter().filter(|(_, state)| family.contains(&state.parent)).map(|(pid, _)| *pid);
        let new: Vec<i32> = new.collect();
        family.extend(new);
        if family.len() == before {
            return;
        }
    }
}

/// Sends a signal to a process, if it still is there.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// How to know the processes of a job whose supervisor is dead.
#[derive(Debug)]
pub struct Traces<'a> {
    /// What each of them has in its environment, unless it has thrown it away: `NAME=VALUE`.
    pub marker: &'a str,
    /// The supervisor's pid, which is also its session's number, and when it started: in this boot, if at all.
    pub session: Option<(i32, u64)>,
    /// A directory in which only they have business.
    pub workspace: &'a Path,
}

impl Traces<'_> {
    fn left_by(&self, pid: i32, own_namespace: Option<&Path>) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == self.marker.as_bytes()) {
            return true;
        }
        // A path means this directory only in our own mount namespace.
        let inside = fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|path| {
            let mut path = path.as_os_str().as_bytes();
            path = path.strip_suffix(b" (deleted)").unwrap_or(path);
            Path::new(std::ffi::OsStr::from_bytes(path)).starts_with(self.workspace)
        });
        inside
            && own_namespace.is_some()
            && fs::read_link(format!("/proc/{pid}/ns/mnt")).ok().as_deref() == own_namespace
    }

    fn find(&self) -> Set<i32> {
        let own = std::process::id() as i32;
        let processes = all();
        let own_namespace = fs::read_link("/proc/self/ns/mnt").ok();
        let session = self.session.filter(|(session, _)| {
            // While a process has the session's number as its own, the number has been given anew (the supervisor is dead).
            processes.get(session).is_none_or(|state| state.zombie)
        });
        let left = processes.iter().filter(|(pid, state)| {
            **pid != own
                && !state.zombie
                && (session.is_some_and(|(session, since)| state.session == session && state.started >= since)
                    || self.left_by(**pid, own_namespace.as_deref()))
        });
        let mut family = Set::from_iter(left.map(|(pid, _)| *pid));
        extend_to_descendants(&processes, &mut family);
        family.retain(|pid| *pid != own && processes.get(pid).is_some_and(|state| !state.zombie));
        family
    }

    /// Kills all of them. Tells how many are left that could not be killed.
    pub fn sweep(&self) -> usize {
        let begin = Instant::now();
        loop {
            let found = self.find();
            if found.is_empty() || begin.elapsed() > KILL_TIME {
                return found.len();
            }
            for pid in found {
                signal(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Identifies this boot of the kernel: numbers of processes mean nothing in another one.
pub fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}
