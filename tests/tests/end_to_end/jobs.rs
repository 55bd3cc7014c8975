//! Which job goes first, what ends one, why one waits, and how one is run again.

use crate::PLATFORM;
use sai_tests::process::eventually;
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::{Job, World};
use std::fs;

/// A job that waits until the file `go` is there.
fn patient(world: &World) -> String {
    format!("while [ ! -e {}/go ]; do sleep 0.02; done", world.directory.display())
}

fn go(world: &World) {
    fs::write(world.directory.join("go"), "").expect("a file");
}

fn await_running(world: &World, event: u64) {
    eventually("the job runs", || {
        world.event(event).filter(|event| event.jobs.iter().any(|job| job.state == "running"))
    });
}

fn waiting(world: &World, event: u64) -> String {
    eventually("the job says why it waits", || world.event(event).and_then(|event| event.jobs[0].waiting.clone()))
}

#[test]
fn a_job_waits_for_a_platform_and_says_so() {
    let world = World::new("waits");
    let _master = world.master();
    world.repository.push_saifile(&saifile(&["true"]));
    let event = eventually("the push becomes an event", || world.event(1));
    assert_eq!(event.jobs.iter().map(|job| job.state.as_str()).collect::<Vec<_>>(), ["queued"]);
    let page = world.page("/event/1");
    assert!(page.contains("no agent has offered linux yet"), "{page}");
    let _agent = world.agent("late", &[PLATFORM], 1);
    assert!(world.ended(1).jobs.iter().all(|job: &Job| job.state == "passed"));
}

#[test]
fn each_reason_to_wait_is_told() {
    let world = World::new("reasons");
    let _master = world.master();
    let mut agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&saifile(&[&patient(&world)]));
    await_running(&world, 1);
    world.repository.write("more", "");
    world.repository.push_saifile(&saifile(&["true"]));
    eventually("the second push", || world.event(2));
    assert!(waiting(&world, 2).contains("1 busy"), "{}", waiting(&world, 2));
    world.command(&["agent", "aside", "one"]);
    go(&world);
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    eventually("it waits for the agent that is set aside", || waiting(&world, 2).contains("set aside").then_some(()));
    assert_eq!(world.agents()[0].state, "aside");
    agent.kill();
    eventually("it waits for the agent that is away", || waiting(&world, 2).contains("is away").then_some(()));
    let _agent = world.agent_again("one");
    eventually("it is still set aside", || waiting(&world, 2).contains("set aside").then_some(()));
    world.command(&["agent", "back", "one"]);
    assert_eq!(world.ended(2).jobs[0].state, "passed");
}

#[test]
fn a_job_that_nobody_can_build_expires() {
    let mut world = World::new("expires");
    world.set("expire_s", "1");
    let mut master = world.master();
    let _agent = world.agent("one", &["other/x86_64"], 1);
    world.repository.push_saifile(&saifile(&["true"]));
    let job = world.ended(1).jobs.remove(0);
    assert_eq!((job.state.as_str(), job.attempt), ("expired", 0), "{job:?}");
    assert!(job.cause.contains("no agent that offers linux came in time"), "{job:?}");
    assert!(world.page("/event/1").contains("expired"));
    // It stays so for a master that starts later, and can be run again.
    master.kill();
    let _master = world.master();
    assert_eq!(world.event(1).expect("the event").jobs[0].state, "expired");
    let _able = world.agent("able", &[PLATFORM], 1);
    world.command(&["rebuild", "job", "1"]);
    assert_eq!(world.ended(1).jobs[0].state, "passed");
}

#[test]
fn the_highest_priority_goes_first() {
    let world = World::new("priority");
    let _master = world.master();
    let order = world.directory.join("order");
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": \"echo $SAI_CONFIGURATION >> {}\"}}}}, \
         \"configurations\": {{\"a\": {{}}, \"low\": {{\"priority\": -5}}, \"high\": {{\"priority\": 50}}, \"b\": {{}}}}}}",
        order.display()
    ));
    eventually("the push", || world.event(1));
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.ended(1);
    assert_eq!(fs::read_to_string(order).expect("the order"), "high\na\nb\nlow\n");
}

#[test]
fn jobs_are_cancelled_by_those_who_may() {
    let world = World::new("cancel");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let token = world.command(&["user", "add", "ann"]);
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux\": {{\"build\": {:?}}}}}, \
         \"configurations\": {{\"a\": {{}}, \"b\": {{}}, \"c\": {{}}}}}}",
        format!("echo begun; ( setsid sleep 1001 & ); {}", patient(&world))
    ));
    await_running(&world, 1);
    eventually("it prints", || (world.records(1).channel("stdout") == b"begun\n").then_some(()));
    for wrong in [None, Some("0123456789abcdef0123456789abcdef0123456789abcdef"), Some("")] {
        let (status, body) = world.post("/api/v1/jobs/1/cancel", wrong);
        assert_eq!(status, 401, "{body}");
    }
    assert_eq!(world.post("/api/v1/jobs/99/cancel", Some(&token)).0, 409);
    assert_eq!(world.post("/api/v1/jobs/1/rebuild", Some(&token)).0, 409, "it has not ended");
    assert_eq!(world.event(1).expect("the event").jobs[0].state, "running");
    let (status, body) = world.post("/api/v1/jobs/1/cancel", Some(&token));
    assert_eq!(status, 200, "{body}");
    let job = eventually("the running job ends", || {
        world.event(1).and_then(|event| event.jobs.into_iter().find(|job| job.id == 1 && job.ended()))
    });
    assert_eq!((job.state.as_str(), job.cause.as_str()), ("cancelled", "cancelled by ann"), "{job:?}");
    assert_eq!(world.records(1).channel("stdout"), b"begun\n");
    // The rest of the event: one runs, one is queued.
    let (status, body) = world.post("/api/v1/events/1/cancel", Some(&token));
    assert_eq!(status, 200, "{body}");
    let event = world.ended(1);
    assert!(event.jobs.iter().all(|job| job.state == "cancelled"), "{event:?}");
    assert_eq!(world.post("/api/v1/events/1/cancel", Some(&token)).0, 409, "nothing is left to cancel");
    world.tidy(&[world.agent_state("one")]);
    // Once revoked, the token opens nothing.
    world.command(&["user", "revoke", "ann"]);
    assert_eq!(world.post("/api/v1/jobs/1/rebuild", Some(&token)).0, 401);
}

#[test]
fn a_job_is_run_again_and_its_first_log_stays() {
    let world = World::new("rebuild");
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let token = world.command(&["user", "add", "ann"]);
    let script = format!("echo attempt $SAI_ATTEMPT; test -e {}/go", world.directory.display());
    world.repository.push_saifile(&saifile(&[&script]));
    let job = world.ended(1).jobs.remove(0);
    assert_eq!((job.state.as_str(), job.attempt), ("failed", 1), "{job:?}");
    assert!(job.cause.contains("step 1 ended with status 1"), "{job:?}");
    go(&world);
    assert_eq!(world.post("/api/v1/jobs/1/rebuild", Some(&token)).0, 200);
    let again = |attempt| {
        eventually("the job is run again", || {
            world.event(1).map(|mut event| event.jobs.remove(0)).filter(|job| job.attempt == attempt && job.ended())
        })
    };
    assert_eq!(again(2).state, "passed");
    // From what is kept alone, and by the command line.
    master.kill();
    let _master = world.master();
    world.command(&["rebuild", "event", "1"]);
    assert_eq!(again(3).state, "passed");
    for attempt in 1..=3 {
        let log = world.get(&format!("/job/1/{attempt}/log")).expect("the log of each attempt");
        assert!(String::from_utf8_lossy(&log).ends_with(&format!("attempt {attempt}\n")));
    }
    assert!(world.get("/job/1/4/log").is_none());
}

#[test]
fn of_an_event_what_went_wrong_or_what_is_named_runs_again() {
    let world = World::new("rebuild-some");
    let _master = world.master();
    let _agents = [world.agent("one", &["here"], 2), world.agent("two", &["there"], 2)];
    let token = world.command(&["user", "add", "ann"]);
    let build = "{ \"build\": [\"${what}\"] }";
    world.repository.push_saifile(&format!(
        "{{ \"schema\": \"sai-1\", \"platforms\": {{ \"here\": {build}, \"there\": {build} }}, \"configurations\": \
         {{ \"good\": {{ \"what\": \"true\" }}, \"bad\": {{ \"what\": \"test $SAI_ATTEMPT != 1\" }} }} }}"
    ));
    assert_eq!(world.ended(1).jobs.len(), 4);
    // Attempts by platform and configuration, once none is under way.
    let attempts = |wanted: [u32; 4]| {
        let of = |platform: &str, configuration: &str, event: &sai_tests::world::Event| {
            let mut jobs = event.jobs.iter();
            jobs.find(|job| (job.platform.as_str(), job.configuration.as_str()) == (platform, configuration))
                .unwrap()
                .attempt
        };
        eventually("what was asked for has run again, and nothing else", || {
            let event = world.event(1).filter(|event| event.jobs.iter().all(|job| job.ended()))?;
            let found = [("here", "good"), ("here", "bad"), ("there", "good"), ("there", "bad")];
            (found.map(|(platform, configuration)| of(platform, configuration, &event)) == wanted).then_some(())
        });
    };
    attempts([1, 1, 1, 1]);
    assert_eq!(world.command(&["rebuild", "event", "1", "failed"]), "rebuilt event 1: jobs that went wrong");
    attempts([1, 2, 1, 2]);
    assert_eq!(world.post("/api/v1/events/1/rebuild?platform=there", Some(&token)).0, 200);
    attempts([1, 2, 2, 3]);
    world.command(&["rebuild", "event", "1", "platform=here", "configuration=good"]);
    attempts([2, 2, 2, 3]);
    // Now all have passed.
    let (status, answer) = world.post("/api/v1/events/1/rebuild?state=wrong", Some(&token));
    assert_eq!((status, answer.contains("there are no jobs that went wrong")), (409, true), "{answer}");
    let (status, _, told) = world.try_command(&["rebuild", "event", "1", "platfrom=here"]);
    assert!(status == 2 && told.contains("expected failed, platform=NAME or configuration=NAME"), "{status} {told}");
}

#[test]
fn a_push_that_says_so_is_shown_and_not_built() {
    let world = World::new("skip");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&saifile(&["true"]));
    assert_eq!(world.ended(1).jobs.len(), 1);
    for (number, subject, jobs) in [(2, "Mend a word [skip ci]", 0), (3, "Mend another", 1)] {
        world.repository.write("words", subject);
        world.repository.commit(subject);
        world.repository.push();
        let event = eventually("the push is an event", || world.event(number));
        assert_eq!(event.jobs.len(), jobs, "{subject}");
    }
    assert!(world.page("/event/2").contains("subject says [skip ci]: nothing of it is built"));
    assert_eq!(world.ended(3).jobs[0].state, "passed");
}

#[test]
fn what_was_pushed_over_or_deleted_is_built_no_further_where_that_is_wanted() {
    let mut world = World::new("supersede");
    let url = format!("{:?}", world.repository.bare);
    world.set("repositories", &format!("{{\"project\": {{\"url\": {url}, \"supersede\": true}}}}"));
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let push = |subject: &str, branch: &str| {
        world.repository.write("words", format!("{subject} {branch}"));
        world.repository.commit(subject);
        run(git(&world.repository.work).args(["push", "--quiet", "--force", "origin", &format!("HEAD:{branch}")]));
    };
    let states = |event: u64, wanted: [&str; 2]| {
        eventually(&format!("the jobs of event {event} are {wanted:?}"), || {
            let event = world.event(event)?;
            let mut states: Vec<String> = event.jobs.iter().map(|job| job.state.clone()).collect();
            states.sort();
            (states == wanted).then_some(event)
        })
    };
    let wait = format!("test -e {}/go || sleep 100000", world.directory.display());
    let file = saifile(&[&wait]).replace("\"default\": {}", "\"a\": {}, \"b\": {}");
    // One runs, and one waits for it.
    world.repository.push_saifile(&file);
    states(1, ["queued", "running"]);
    // A push that builds nothing, and one elsewhere, end nothing.
    push("Words [skip ci]", "refs/heads/main");
    eventually("the push is an event", || world.event(2));
    push("Words", "refs/heads/other");
    eventually("the push is an event", || world.event(3));
    states(1, ["queued", "running"]);
    push("More words", "refs/heads/main");
    let event = states(1, ["cancelled", "cancelled"]);
    assert!(event.jobs.iter().all(|job| job.cause.contains("superseded by event 4")), "{event:?}");
    states(3, ["queued", "running"]);
    // The branch goes, and what it named.
    run(git(&world.repository.work).args(["push", "--quiet", "origin", ":refs/heads/other"]));
    let event = states(3, ["cancelled", "cancelled"]);
    assert!(event.jobs.iter().all(|job| job.cause.contains("refs/heads/other was deleted")), "{event:?}");
    states(4, ["queued", "running"]);
}

#[test]
fn jobs_and_steps_end_when_their_time_is_over() {
    let world = World::new("timeout");
    let _master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 3);
    world.repository.push_saifile(
        r#"{ "schema": "sai-1",
             "platforms": { "linux": { "build": ["echo first", "echo second; ( setsid sleep 1001 & ); sleep 1000", "echo third"] } },
             "configurations": { "job": { "timeout": "1s" }, "step": { "step_timeout": 1 },
                                 "none": { "timeout": 0 } } }"#,
    );
    let invalid = eventually("the push", || world.event(1));
    assert!(invalid.event.errors.iter().any(|error| error.contains(".sai.json:4:")), "{invalid:?}");
    world.repository.push_saifile(
        r#"{ "schema": "sai-1",
             "platforms": { "linux": { "build": ["echo first", "echo second; ( setsid sleep 1001 & ); sleep 1000", "echo third"] } },
             "configurations": { "job": { "timeout": "10s" }, "step": { "step_timeout": 5 } } }"#,
    );
    // Time for a checkout and two lines on a machine that has much to do.
    let event = world.ended(2);
    for (job, cause) in event.jobs.iter().zip(["the job took longer than 10 s", "step 2 took longer than 5 s"]) {
        assert_eq!((job.state.as_str(), job.cause.as_str()), ("timed-out", cause), "{job:?}");
        let log = world.records(job.id);
        assert_eq!(log.channel("stdout"), b"first\nsecond\n");
        assert!(log.notes.iter().any(|note| note.contains(cause)), "{:?}", log.notes);
    }
    world.tidy(&[world.agent_state("one")]);
}
