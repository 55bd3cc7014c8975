//! Layers of an image → whether a runner can make a container of them in which a step runs; and what is kept of the answer.
//!
//! It is a container as jobs have one, with changes in memory, and nothing of it is left. What is found out stands in the file
//! that says what the image was made of, a line for each runner: `runs RUNNER` or `fails RUNNER: WHY`.

use crate::container::{Container, Network, Runner, Upper};
use crate::executor::{Ended, Executor, Running, Step, Workspace, isolate};
use crate::git::Stop;
use crate::job_directory::{CGROUPS, RunnerOptions};
use sai_core::ordered::Map;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// In a platform's directory: what its image was made of, and when, by the time of the file.
pub const MADE: &str = ".made";
/// Both runners.
pub const RUNNERS: [Runner; 2] = [Runner::Nspawn, Runner::Bwrap];
/// Time for a step that does nothing.
const STEP_TIME: Duration = Duration::from_secs(30);
/// Time between two looks at it.
const LOOK: Duration = Duration::from_millis(2);
/// MiB of changes: there are next to none.
const UPPER_MIB: u64 = 16;
/// Characters of a reason that are kept.
const WHY: usize = 400;

/// In a staging directory: where a runner is tried.
pub fn place(staging: &Path, runner: Runner) -> PathBuf {
    staging.join(format!("try-{}", runner.word()))
}

/// Tries a runner. The calling process has one thread, and ends after this: what is left ends with it.
///
/// # Errors
/// Why no step runs, in one line.
pub fn run(runner: Runner, layers: &[String], place: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", place.display());
    // As a supervisor has one.
    rustix::process::setsid().map_err(|error| format!("making a session: {error}"))?;
    let make = |names: &[&str]| {
        let make = |name: &&str| DirBuilder::new().recursive(true).mode(0o711).create(place.join(name));
        names.iter().try_for_each(make).map_err(failed)
    };
    make(&["steps", "work"])?;
    // A runner that is another user already has to find its way through.
    if let Some(staging) = place.parent() {
        fs::set_permissions(staging, fs::Permissions::from_mode(0o711)).map_err(failed)?;
    }
    let workspace = Workspace::of(place);
    let container = Container {
        upper: Upper::Tmpfs,
        upper_mib: Some(UPPER_MIB),
        layers: layers.to_vec(),
        ..Container::plain(runner, Network::None)
    };
    let options = RunnerOptions::inside(container);
    // Our own number says nothing in a namespace of processes of its own.
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|error| error.to_string())?;
    let marker = format!("{}=trial-{:016x}", crate::job_directory::MARKER, u64::from_ne_bytes(number));
    let isolated = isolate(&workspace, &options, &marker);
    make(&["work/src", "work/home", "work/tmp"])?;
    let executor = Executor::new(&workspace, &options, &marker, isolated).map_err(failed)?;
    // What the loop prints into has to be open at the other end.
    let [output, errors] = executor.outputs().map_err(failed)?;
    let result = try_step(&executor, &output, &errors);
    let _ = executor.cleanup();
    result
}

fn try_step(executor: &Executor, output: &crate::executor::Pipe, errors: &crate::executor::Pipe) -> Result<(), String> {
    let stop = Stop::new().map_err(|error| error.to_string())?;
    // The thread that starts it stays in its cgroups, which are to be removed.
    let started = std::thread::scope(|threads| threads.spawn(|| executor.start()).join());
    started.map_err(|_| "making the container: a panic".to_string())?.map_err(|trouble| trouble.why)?;
    executor.prepare(&stop).map_err(|trouble| trouble.why)?;
    let end = |pipe: &crate::executor::Pipe| -> io::Result<std::os::fd::OwnedFd> {
        pipe.write.as_ref().ok_or(io::ErrorKind::BrokenPipe)?.try_clone()
    };
    let started = || -> io::Result<Running> {
        let environment = Map::new();
        let (stdout, stderr) = (end(output)?, end(errors)?);
        executor.spawn(Step { index: 0, script: "exit 0\n", environment: &environment, stdout, stderr })
    };
    started().map_err(|error| format!("starting a step: {error}"))?;
    let begin = Instant::now();
    while begin.elapsed() < STEP_TIME {
        let ended = executor.contained().map(|contained| contained.take_statuses()).unwrap_or_default();
        match ended.first() {
            Some((0, Ended { status: 0, .. })) => return Ok(()),
            Some((_, Ended { status, .. })) => {
                let mut said = [0; 512];
                let read = rustix::io::read(&errors.read, &mut said[..]).unwrap_or(0);
                let said = String::from_utf8_lossy(said.get(..read).unwrap_or_default()).trim().to_string();
                return Err(format!("a step that does nothing ended with status {status}: {said}"));
            }
            None => std::thread::sleep(LOOK),
        }
    }
    Err(format!("a step that does nothing took longer than {} s", STEP_TIME.as_secs()))
}

/// The line that is kept.
pub fn line(runner: Runner, result: &Result<(), String>) -> String {
    match result {
        Ok(()) => format!("runs {}\n", runner.word()),
        Err(why) => {
            let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
            let why: String = why.chars().map(plain).take(WHY).collect();
            format!("fails {}: {why}\n", runner.word())
        }
    }
}

/// What was found out last of a runner, in the text of such a file; `None` when it was never tried.
pub fn found(text: &str, runner: Runner) -> Option<Result<(), String>> {
    let word = runner.word();
    text.lines().rev().find_map(|line| match line.split_once(' ')? {
        ("runs", rest) if rest == word => Some(Ok(())),
        ("fails", rest) => Some(Err(rest.strip_prefix(word)?.strip_prefix(": ")?.to_string())),
        _ => None,
    })
}

/// Removes the cgroups of trials in a staging directory that somebody has left.
pub fn sweep(staging: &Path) {
    for runner in RUNNERS {
        let _ = crate::cgroup::remove(&place(staging, runner).join(CGROUPS));
    }
}

/// What people are told of an image whose place this is: a line for each runner that cannot run it.
pub fn complaints(platform: &str, place: &Path) -> Vec<String> {
    let text = fs::read_to_string(place.join(MADE)).unwrap_or_default();
    let failed = RUNNERS.into_iter().filter_map(|runner| Some((runner, found(&text, runner)?.err()?)));
    failed.map(|(runner, why)| format!("{platform} cannot be run by {}: {why}", runner.program())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_counts() {
        let fails = line(Runner::Nspawn, &Err("no\nshell: x".to_string()));
        assert_eq!(fails, "fails nspawn: no shell: x\n");
        let text = format!("copy of /x, packages none\n{fails}{}", line(Runner::Bwrap, &Ok(())));
        assert_eq!(found(&text, Runner::Nspawn), Some(Err("no shell: x".to_string())));
        assert_eq!(found(&text, Runner::Bwrap), Some(Ok(())));
        let text = format!("{text}updated\n{}", line(Runner::Nspawn, &Ok(())));
        assert_eq!(found(&text, Runner::Nspawn), Some(Ok(())));
        assert_eq!(found("runs\nfails nspawn\nfails bwrap:x\nruns nspawnx\n", Runner::Nspawn), None);
    }
}
