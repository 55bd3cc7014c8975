//! Directories as an earlier release left them, killed at work → this release's master and agent, which go on from there.
//!
//! `fixtures/0.1/directories.tar.xz` holds what master and agent of version 0.1.0 had on their disks when both were killed:
//! two events, of whose six jobs four had ended, one ran (and ended while nobody heard it), and one waits for a platform.

use sai_core::job::Outcome;
use sai_tests::process::eventually;
use sai_tests::repository::run;
use sai_tests::world::{Job, World};
use std::fs;
use std::process::Command;

/// The token of the user `ann` there.
const ANN: &str = "1a90bc7aa04bf7f6f8f63bc0dc75c6c70b810db221795fe1";
/// The address that its agent dials.
const OLD_ADDRESS: &str = "wss://localhost:24433";

/// A world in which the earlier release was killed at work.
fn earlier() -> World {
    let mut world = World::new("upgrade");
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/0.1/directories.tar.xz");
    run(Command::new("tar").args(["-xJf", archive, "--no-same-owner", "-C"]).arg(&world.directory));
    fs::rename(world.directory.join("state"), world.state()).expect("the master's directory");
    fs::rename(world.directory.join("agent"), world.agent_state("shed")).expect("the agent's directory");
    let file = world.agent_state("shed").join("agent.json");
    let text = fs::read_to_string(&file).expect("a configuration");
    assert!(text.contains(OLD_ADDRESS), "{text}");
    fs::write(&file, text.replace(OLD_ADDRESS, &format!("wss://localhost:{}", world.port))).expect("a configuration");
    let repository = format!("{{\"hello\": {{\"url\": {:?}}}}}", world.repository.bare);
    world.set("repositories", &repository);
    world
}

/// A job's number, configuration, state and attempt.
fn summary(job: &Job) -> (u64, &str, &str, u32) {
    (job.id, job.configuration.as_str(), job.state.as_str(), job.attempt)
}

#[test]
fn what_an_earlier_release_kept_is_there_and_what_it_ran_goes_on() {
    let world = earlier();
    let mut master = world.master();
    let first = world.event(1).expect("the first event");
    let jobs: Vec<_> = first.jobs.iter().map(summary).collect();
    assert_eq!(jobs, [(1, "good", "passed", 1), (2, "bad", "failed", 1)]);
    let log = world.records(1);
    assert_eq!(log.text, b"building fast\n");
    assert_eq!(log.verdict.expect("a verdict").outcome, Outcome::Passed);
    let artifact = first.jobs[0].artifacts.first().expect("an artifact").download.clone();
    assert_eq!(world.get(&artifact).expect("its bytes"), b"made\n");
    assert_eq!(world.records(2).statuses, [0, 3]);

    // The job that ran ended while master and agent were dead; nothing of it is run again.
    let _agent = world.agent_again("shed");
    let ended = eventually("the job that ran has ended", || {
        let job = world.event(2)?.jobs.into_iter().find(|job| job.id == 5)?;
        job.ended().then_some(job)
    });
    assert_eq!(summary(&ended), (5, "long", "passed", 1));
    assert_eq!(world.records(5).text, b"building\nbegun\nended\n");
    let waits =
        world.event(2).expect("the second event").jobs.into_iter().find(|job| job.id == 6).expect("the last job");
    assert_eq!(summary(&waits), (6, "waits", "queued", 0));

    // People, tokens and numbers go on as well.
    let (status, text) = world.post("/api/v1/jobs/6/cancel", Some(ANN));
    assert_eq!(status / 100, 2, "{text}");
    let cancelled = eventually("the last job has ended", || {
        world.event(2)?.jobs.into_iter().find(|job| job.id == 6 && job.ended())
    });
    assert_eq!(cancelled.state, "cancelled");
    world.repository.push_saifile(
        r#"{"schema": "sai-1", "platforms": {"linux": {"build": "echo new"}}, "configurations": {"default": {}}}"#,
    );
    let hook = format!("https://127.0.0.1:{}/hook/hello", world.port);
    run(Command::new("curl").args(["-ksSf", &hook]));
    let new = world.ended(3);
    assert_eq!(new.jobs.iter().map(|job| (job.id, job.state.as_str())).collect::<Vec<_>>(), [(7, "passed")]);

    // And once more, now that all of it has been written by this release.
    master.kill();
    let _master = world.master();
    let states: Vec<_> = world.events().into_iter().map(|event| (event.id, event.state)).collect();
    assert_eq!(states.len(), 3);
    assert_eq!(world.records(5).text, b"building\nbegun\nended\n");
    assert_eq!(world.log(7), b"new\n");
}
