//! Supervisors of jobs in containers that are killed at every stage: nothing of the job is left on the machine.
#![cfg(feature = "nspawn")]

#[path = "common/root.rs"]
mod root;

mod common;

use common::*;
use root::*;
use sai_agent::container::Upper;
use sai_agent::job_directory::{JobDirectory, bury};
use sai_core::job::{Fault, Outcome};
use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

/// A step that leaves processes of every sort and prints its word when they run.
const BUSY: &str =
    "setsid sleep 1000 & env -i setsid sleep 1001 & (trap '' TERM; sleep 1002) & sleep 1003 & kill -STOP $!
    echo x > /tmp/x; echo ready; while :; do sleep 1; done";

/// Whether a stage is reached.
type Reached = dyn Fn(&JobDirectory, i32) -> bool;

/// Has an attempt buried whose supervisor was killed. False where that was while it made the attempt's end durable: whether the disk has
/// taken all of it nobody knows then, so that it is given up.
fn buried(directory: &JobDirectory) -> bool {
    let ending = directory.path().join("ending").exists();
    match bury(directory, "killed") {
        Ok(()) => true,
        Err(error) if ending && error.kind() == ErrorKind::InvalidData => false,
        Err(error) => panic!("{error}"),
    }
}

/// Kills the supervisor, has the attempt buried and forgotten as an agent does, and looks for what is left.
fn end(directory: JobDirectory, pid: i32, stage: &str) {
    let traces = Traces::of(&directory).see(pid);
    let path = directory.path().to_path_buf();
    kill(pid);
    until("the supervisor's end", || !lives(pid));
    gone(&directory);
    let buried = buried(&directory);
    traces.none_left();
    if buried {
        let log = Log::of(&directory);
        let early = log.outcome() == Outcome::Infra && log.verdict().fault == Fault::Infrastructure;
        // One that was killed between its verdict and its end has all that there is to say.
        assert!(early || log.outcome() == Outcome::Cancelled, "{stage}: {:?}", log.verdict());
    }
    directory.forget().unwrap();
    assert!(!path.exists(), "{stage}");
}

/// Whether the supervisor has this mounted, in the namespace that only it has.
fn mounted(pid: i32, path: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/mountinfo"))
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(4).is_some_and(|at| at.ends_with(path))))
}

#[test]
fn a_supervisor_killed_at_each_stage_leaves_nothing() {
    each_runner("kills-stages", |world, container| {
        for upper in [Upper::Disk, Upper::Tmpfs] {
            let mut container = container.clone();
            container.upper = upper;
            let begin = || {
                let directory = begin(world, &container, &world.assignment(&[BUSY]));
                let pid = supervisor_pid(&directory);
                (directory, pid)
            };
            let stages: [(&str, &Reached); 7] = [
                ("begun", &|_, _| true),
                ("upper made", &|directory, _| directory.path().join("upper").exists()),
                ("root mounted", &|_, pid| mounted(pid, "/root")),
                ("workspace bound", &|_, pid| mounted(pid, "/sai/steps")),
                ("cgroups made", &|directory, _| directory.path().join("cgroups").exists()),
                ("runner started", &|directory, _| directory.path().join("container.err").exists()),
                ("step written", &|directory, _| directory.path().join("steps/run-1").exists()),
            ];
            for (stage, reached) in stages {
                let (directory, pid) = begin();
                until(stage, || reached(&directory, pid));
                end(directory, pid, stage);
            }
            // While the job runs, and while it is taken apart.
            let (directory, pid) = begin();
            let held = hold(&directory);
            wait_for(&directory, &held, "ready\n");
            end(directory, pid, "running");
            let (directory, pid) = begin();
            let held = hold(&directory);
            wait_for(&directory, &held, "ready\n");
            held.cancel("enough");
            until("the end begins", || Log::of(&directory).notes().contains(&"enough"));
            end(directory, pid, "cancelled");
        }
    });
}

#[test]
fn a_supervisor_killed_at_any_moment_leaves_nothing() {
    each_runner("kills-moments", |world, container| {
        for round in 0..20_u64 {
            let directory = begin(world, container, &world.assignment(&["sleep 0.05", "true"]));
            let pid = supervisor_pid(&directory);
            // These only spread the moments: whatever is hit, the outcome is the same.
            std::thread::sleep(Duration::from_millis(11 * round));
            let traces = Traces::of(&directory);
            kill(pid);
            until("the supervisor's end", || !lives(pid));
            gone(&directory);
            buried(&directory);
            traces.none_left();
            directory.forget().unwrap();
        }
        assert_eq!(fs::read_dir(world.jobs()).unwrap().count(), 0);
    });
}

#[test]
fn a_killed_supervisors_job_is_found_when_nobody_has_buried_it() {
    each_runner("kills-forgotten", |world, container| {
        // The machine was off, or the agent was killed too: the next one finds the directory by itself.
        let directory = begin(world, container, &world.assignment(&[BUSY]));
        let held = hold(&directory);
        wait_for(&directory, &held, "ready\n");
        let pid = supervisor_pid(&directory);
        let traces = Traces::of(&directory).see(pid);
        // Another job is going on beside it, which is not to be touched.
        let other = begin(
            world,
            container,
            &world.assignment(&["echo ready; until test -e /sai/tmp/go; do sleep 0.01; done; ls"]),
        );
        let other_held = hold(&other);
        wait_for(&other, &other_held, "ready\n");
        kill(pid);
        until("the supervisor's end", || !lives(pid));
        drop(directory);
        for found in JobDirectory::scan(&world.jobs()).unwrap() {
            if found.key() != other.key() {
                found.forget().unwrap();
            }
        }
        traces.none_left();
        fs::write(other.path().join("work/tmp/go"), "").unwrap();
        finish(&other);
        assert_eq!(Log::of(&other).text("stdout"), "ready\nfile\n");
    });
}

#[test]
fn to_forget_a_running_job_ends_its_container_too() {
    each_runner("kills-forget", |world, container| {
        let directory = begin(world, container, &world.assignment(&[BUSY]));
        let held = hold(&directory);
        wait_for(&directory, &held, "ready\n");
        let pid = supervisor_pid(&directory);
        let traces = Traces::of(&directory).see(pid);
        directory.forget().unwrap();
        until("the supervisor's end", || !lives(pid));
        traces.none_left();
        assert_eq!(fs::read_dir(world.jobs()).unwrap().count(), 0);
    });
}
