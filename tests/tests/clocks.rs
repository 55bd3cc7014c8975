//! Clocks on the wall that are set, hours ahead, years ahead and back: no job is run again for it, and nothing stands still.

use miniserde::Deserialize;
use sai_tests::process::{eventually, eventually_within};
use sai_tests::repository::{git, run, saifile};
use sai_tests::world::World;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PLATFORM: &str = "linux-test-1/x86_64/gcc";
const HOUR_S: i64 = 3600;
const YEAR_S: i64 = 365 * 24 * HOUR_S;
/// Seconds an agent is awaited, the least that may be configured, and a job that nobody serves.
const ORPHAN_S: u64 = 40;
const EXPIRE_S: u64 = 45;

fn unix_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64
}

/// What the API says of the moments at which events came.
#[derive(Deserialize)]
struct Moments {
    events: Vec<Moment>,
}

#[derive(Deserialize)]
struct Moment {
    at: String,
}

/// A job that leaves a line for each time it is run, and ends when it is told to.
fn patient(world: &World) -> String {
    let (ran, release) = (world.directory.join("ran"), world.directory.join("release"));
    saifile(&[&format!(
        "echo \"$SAI_JOB-$SAI_ATTEMPT\" >> {}; printf 'before '; while [ ! -e {} ]; do sleep 0.05; done; printf after",
        ran.display(),
        release.display()
    )])
}

fn ran(world: &World) -> String {
    fs::read_to_string(world.directory.join("ran")).unwrap_or_default()
}

/// Pushes a revision by the hook, and waits until it has passed.
fn builds(world: &World, event: u64) {
    world.repository.push_saifile(&saifile(&[&format!("echo {event}")]));
    let event = world.ended(event);
    assert_eq!((event.jobs[0].state.as_str(), event.jobs[0].attempt), ("passed", 1), "{event:?}");
}

/// What the API says of a job, as far as it is looked at here.
#[derive(Deserialize)]
struct Job {
    clock: Option<Clock>,
}

#[derive(Debug, Deserialize)]
struct Clock {
    ahead_ms: i64,
    bound_ms: u64,
}

#[test]
fn how_far_an_agents_clock_is_ahead_is_measured_and_said_with_its_bound() {
    let mut world = World::new("clock-ahead");
    world.use_own_clocks();
    let _master = world.master();
    for (number, name, ahead_s) in [(1, "ahead", HOUR_S), (2, "behind", -YEAR_S)] {
        world.set_clocks([0, ahead_s]);
        let mut agent = world.agent(name, &[PLATFORM], 1);
        builds(&world, number);
        let text = String::from_utf8(world.get(&format!("/api/v1/jobs/{number}")).expect("a job")).expect("text");
        let clock = miniserde::json::from_str::<Job>(&text).expect("a job").clock.expect("its agent's clock is known");
        let wrong = clock.ahead_ms.abs_diff(ahead_s * 1000);
        assert!(wrong <= clock.bound_ms && clock.bound_ms < 5_000, "{name}: {clock:?}");
        // Programs that draw find it above what happened.
        let timeline =
            String::from_utf8(world.get(&format!("/job/{number}/timeline.json")).expect("it")).expect("text");
        let head =
            format!("\"clock\":{{\"ahead_ms\":{},\"bound_ms\":{}}},\"entries\":[", clock.ahead_ms, clock.bound_ms);
        assert!(timeline.contains(&head), "{timeline}");
        agent.kill();
    }
}

#[test]
fn a_clock_that_is_set_runs_nothing_again_and_locks_nobody_out() {
    let mut world = World::new("clock-set");
    world.use_own_clocks();
    let mut master = world.master();
    let token = world.command(&["user", "add", "ann"]);
    let agent = world.agent("one", &[PLATFORM], 2);
    world.repository.push_saifile(&patient(&world));
    eventually("the job runs", || (ran(&world) == "1-1\n").then_some(()));
    let mut event = 1;
    let mut steps = 0;
    let mut look = |world: &World, master_s: i64, agent_s: i64| {
        world.set_clocks([master_s, agent_s]);
        steps += 1;
        event += 1;
        builds(world, event);
        // The master believes it: what is for people is by that clock.
        let text = String::from_utf8(world.get("/api/v1/events").expect("events")).expect("text");
        let at = &miniserde::json::from_str::<Moments>(&text).expect("events").events[0].at;
        let at: i64 = run(Command::new("date").args(["+%s", "-d", at])).parse().expect("seconds");
        assert!((at - unix_s() - master_s).abs() < 60, "{at} s, with a clock that is {master_s} s ahead");
        // And people and strangers find it as it was.
        let (status, body) = world.post(&format!("/api/v1/jobs/{event}/rebuild"), Some(&token));
        assert_eq!(status, 200, "{body}");
        eventually("it is built again", || {
            world.event(event).filter(|event| event.jobs[0].attempt == 2 && event.jobs[0].state == "passed")
        });
        assert_eq!(world.agents()[0].state, "busy", "its agent is still there");
        assert_eq!(ran(world), "1-1\n", "after step {steps}");
    };
    look(&world, 2 * HOUR_S, 0);
    look(&world, 2 * HOUR_S, 2 * HOUR_S);
    look(&world, 0, 2 * HOUR_S);
    look(&world, -2 * HOUR_S, 0);
    look(&world, 10 * YEAR_S, 0);
    // A master that starts in that future still has its certificate and its agents, and what they run.
    master.kill();
    let mut master = world.master();
    eventually("the agent is back", || world.agents().iter().any(|agent| agent.running == [1]).then_some(()));
    look(&world, 10 * YEAR_S, 10 * YEAR_S);
    look(&world, 0, 10 * YEAR_S);
    world.command(&["gc"]);
    assert_eq!(world.events().len(), 8, "nothing is forgotten");
    // One that starts in the present, with an agent that dials from the future: it knows the certificate by its fingerprint.
    master.kill();
    let _master = world.master();
    eventually("the agent is back", || world.agents().iter().any(|agent| agent.running == [1]).then_some(()));
    look(&world, 0, 0);
    fs::write(world.directory.join("release"), "").expect("a file");
    let job = world.ended(1).jobs.remove(0);
    assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
    assert_eq!(world.records(1).channel("stdout"), b"before after");
    let said = agent.said().join("\n");
    assert_eq!(said.matches("connected as").count(), 3, "once at its start, and once for each of the master's: {said}");
}

/// Tries a wrong token; the status.
fn guess(world: &World) -> u16 {
    world.post("/api/v1/jobs/1/rebuild", Some("0123456789abcdef")).0
}

#[test]
fn a_clock_that_is_set_back_stops_nothing() {
    let mut world = World::new("clock-back");
    world.use_own_clocks();
    world.set_clocks([2 * HOUR_S, 0]);
    world.set("orphan_s", &ORPHAN_S.to_string());
    world.set("expire_s", &EXPIRE_S.to_string());
    world.set("repositories", &format!("{{\"project\": {{\"url\": {:?}, \"poll_s\": 1}}}}", world.repository.bare));
    let _master = world.master();
    fs::remove_file(world.repository.bare.join("hooks/post-receive")).expect("the hook");
    // Wrong tokens are counted over a minute of real time, which begins anew with no step of a clock.
    let mut statuses: Vec<u16> = (0..22).map(|_| guess(&world)).collect();
    world.set_clocks([4 * HOUR_S, 0]);
    statuses.push(guess(&world));
    world.set_clocks([2 * HOUR_S, 0]);
    assert!(statuses[..20].iter().all(|status| *status == 401) && statuses[20..].iter().all(|status| *status == 429));
    let mut ghost = world.agent("ghost", &[PLATFORM], 1);
    // One job is with an agent that goes away, and one waits for a platform that nobody has.
    let text = patient(&world)
        .replace("\"platforms\": {", "\"platforms\": {\"nowhere\": {\"build\": \"true\", \"default\": true}, ");
    world.repository.push_saifile(&text);
    eventually("the job runs", || ran(&world).ends_with("-1\n").then_some(()));
    let patient_job = ran(&world).split('-').next().and_then(|id| id.parse::<u64>().ok()).expect("a number");
    ghost.kill();
    eventually("it is seen to be away", || world.agents().iter().any(|agent| agent.state == "away").then_some(()));
    let begin = Instant::now();
    let _other = world.agent("other", &[PLATFORM], 1);
    world.set_clocks([0, 0]);
    // Looks go on: nobody tells of this push. What is pushed now waits for nothing.
    run(git(&world.repository.work).args(["checkout", "-q", "-B", "quick"]));
    world.repository.push_saifile(&saifile(&["echo quick"]));
    let event = world.ended(2);
    assert_eq!(event.jobs[0].state, "passed", "{event:?}");
    // And what was awaited before the step comes when it would have come.
    let ended =
        eventually_within(Duration::from_secs(2 * EXPIRE_S), "the job is given to another, and one expires", || {
            let jobs = world.event(1)?.jobs;
            let expired = jobs.iter().any(|job| job.platform == "nowhere" && job.state == "expired");
            let other = jobs.iter().any(|job| job.id == patient_job && job.attempt == 2 && job.state == "running");
            (expired && other).then(|| begin.elapsed())
        });
    assert!(ended >= Duration::from_secs(ORPHAN_S), "not before its time: {ended:?}");
    fs::write(world.directory.join("release"), "").expect("a file");
    let jobs = world.ended(1).jobs;
    let job = jobs.iter().find(|job| job.id == patient_job).expect("that job");
    assert_eq!((job.state.as_str(), job.attempt, job.agent.as_deref()), ("passed", 2, Some("other")), "{job:?}");
    // The minute is over, by the clock that nobody sets.
    eventually_within(Duration::from_secs(90), "wrong tokens are told as that again", || {
        std::thread::sleep(Duration::from_millis(500));
        (guess(&world) == 401).then_some(())
    });
}
