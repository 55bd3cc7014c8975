//! What an event's jobs wait for beside an agent: its plan, what they need, and the units they want, over real processes.

use sai_tests::process::eventually;
use sai_tests::world::World;
use std::fs;

const PLATFORM: &str = "linux-debian-12/x86_64/gcc";

/// A saifile with this build text and these configurations.
fn file(build: &str, configurations: &str) -> String {
    format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {build:?}}}}}, \"configurations\": {{{configurations}}}}}"
    )
}

#[test]
fn an_event_goes_on_and_is_built_again_by_its_plan_whatever_its_saifile_would_give_now() {
    let world = World::new("plans");
    let mut master = world.master();
    world.repository.push_saifile(&file("echo ${cmake}", "\"a\": {\"cmake\": \"A\"}, \"b\": {\"cmake\": \"B\"}"));
    eventually("the push becomes an event", || world.event(1));
    master.kill();
    // As if another version were to read it otherwise: one job more, and other texts.
    fs::write(world.state().join("saifiles/1.json"), file("exit 1", "\"x\": {}, \"y\": {}, \"z\": {}"))
        .expect("written");
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 2);
    let states = |number| {
        let jobs = world.ended(number).jobs;
        jobs.iter().map(|job| (job.configuration.clone(), job.state.clone(), job.attempt)).collect::<Vec<_>>()
    };
    let row = |name: &str, attempt| (name.to_string(), "passed".to_string(), attempt);
    assert_eq!(states(1), [row("a", 1), row("b", 1)]);
    world.command(&["rebuild", "job", "2"]);
    eventually("it is built again", || world.event(1).filter(|event| event.jobs[1].attempt == 2));
    assert_eq!(states(1), [row("a", 1), row("b", 2)]);
    assert_eq!(world.log(2), b"B\n");

    // Of an event that an older version made there is no plan: as ever its saifile counts, and a difference is told.
    let plan = world.state().join("saifiles/1.plan.json");
    fs::remove_file(&plan).expect("a plan");
    let (status, _, told) = world.try_command(&["rebuild", "job", "1"]);
    assert!(status != 0 && told.contains("3 jobs, where 2 were made of it"), "{status} {told}");
    fs::write(world.state().join("saifiles/1.json"), file("echo again", "\"a\": {}, \"b\": {}")).expect("written");
    world.command(&["rebuild", "job", "1"]);
    eventually("it is built again", || world.event(1).filter(|event| event.jobs[0].attempt == 2));
    assert_eq!(states(1), [row("a", 2), row("b", 2)]);
    assert!(plan.exists(), "it has one from now on");

    // A damaged one is no reason to guess.
    master.kill();
    fs::write(&plan, "{").expect("written");
    let _master = world.master();
    let (status, _, told) = world.try_command(&["rebuild", "job", "1"]);
    assert!(status != 0 && told.contains("its plan cannot be used"), "{status} {told}");
}
