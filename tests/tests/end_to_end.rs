//! A push becomes jobs on agents, seen from outside: real processes, real git, a real hook.

use sai_tests::process::eventually;
use sai_tests::repository::saifile;
use sai_tests::world::{Job, World};

#[test]
fn a_push_is_built_by_an_agent_that_joined() {
    let world = World::new("push");
    let _master = world.master();
    let _agent = world.agent("one", &["linux-test-1/x86_64/gcc"], 2);
    let revision = world.repository.push_saifile(&saifile(&["printf 'a\\0b\\xff no newline'", "echo err >&2"]));
    eventually("the push becomes an event", || world.event(1));
    let event = world.ended(1);
    assert_eq!(event.event.revision, revision);
    let states: Vec<&str> = event.jobs.iter().map(|job| job.state.as_str()).collect();
    assert_eq!(states, ["passed"], "{event:?}");
    assert_eq!(event.jobs[0].agent.as_deref(), Some("one"));
    let log = world.log(event.jobs[0].id);
    let printed = b"a\0b\xff no newline";
    assert!(log.windows(printed.len()).any(|window| window == printed), "{log:?}");
    eventually("the agent forgets the job", || {
        world.job_directories(&world.agent_state("one")).is_empty().then_some(())
    });
}

#[test]
fn a_job_waits_for_a_platform_and_says_so() {
    let world = World::new("waits");
    let _master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    let event = eventually("the push becomes an event", || world.event(1));
    assert_eq!(event.jobs.iter().map(|job| job.state.as_str()).collect::<Vec<_>>(), ["queued"]);
    let page = String::from_utf8(world.get("/event/1").expect("the event's page")).expect("UTF-8");
    assert!(page.contains("no agent has offered linux yet"), "{page}");
    let _agent = world.agent("late", &["linux-test-1/x86_64/gcc"], 1);
    assert!(world.ended(1).jobs.iter().all(|job: &Job| job.state == "passed"));
}
