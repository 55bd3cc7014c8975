//! Jobs whose steps are to be root in a container: how a saifile says so, and which agents get them.

mod desk;

use desk::*;
use sai_core::job::{JobState, Outcome};
use sai_core::ledger::JobRecord;
use sai_core::matrix::expand;
use sai_core::platform::as_root;
use sai_core::repo_spec::read;
use sai_core::scheduler::Input;

const WANTED: &str = "linux-debian-12/x86_64";
const OFFERED: &str = "linux-debian-12/x86_64/gcc";

fn rooted(id: u64) -> JobRecord {
    JobRecord { root: Some(true), ..on(id, WANTED) }
}

#[test]
fn a_configuration_says_it_more_strongly_than_a_platform() {
    let text = r#"{ "schema": "sai-1",
        "platforms": { "a": { "build": "x" }, "b": { "build": "x ${root}", "root": true } },
        "configurations": {
            "usual": {}, "root": { "root": true }, "user": { "root": false }, "value": { "root": "a text", "platforms": "none, b" } } }"#;
    let (spec, warnings) = read(text.as_bytes()).expect("a saifile");
    assert_eq!(warnings, []);
    let jobs = expand(&spec, "refs/heads/main").expect("jobs").jobs;
    let said: Vec<(&str, &str, Option<bool>)> =
        jobs.iter().map(|job| (job.configuration.as_str(), job.platform.as_str(), job.root)).collect();
    let yes = Some(true);
    assert_eq!(
        said,
        [
            ("usual", "a", None),
            ("usual", "b", yes),
            ("root", "a", yes),
            ("root", "b", yes),
            ("user", "a", None),
            ("user", "b", None),
            // As a text it is a value like any other, as it has always been.
            ("value", "b", yes),
        ]
    );
    assert_eq!(jobs.last().expect("a job").steps, ["x a text"]);
    let wrong = r#"{ "schema": "sai-1", "platforms": { "a": { "build": "x", "root": "yes" } },
        "configurations": { "c": { "root": 1 } } }"#;
    let errors: Vec<String> = read(wrong.as_bytes()).expect_err("errors").iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        ["1:66: platforms.a.root: expected true or false", "2:44: configurations.c.root: expected true or false"]
    );
}

#[test]
fn only_agents_that_can_get_them_and_others_are_told_why_they_wait() {
    let mut desk = Desk::new();
    desk.greet("plain", &[OFFERED], 9, &[], &[]);
    let out = desk.queue(vec![rooted(1), on(2, WANTED)]);
    assert_eq!(assigned(&out), [("plain", key(2, 1))]);
    let why = desk.waiting(1);
    assert!(why.starts_with(&format!("no agent has offered {WANTED} with steps as root in a container yet")), "{why}");
    // One that can gets both kinds.
    let out = desk.greet("able", &[OFFERED, &as_root(OFFERED)], 1, &[], &[]);
    assert_eq!(assigned(&out), [("able", key(1, 1))]);
    desk.queue(vec![rooted(3)]);
    let why = desk.waiting(3);
    assert_eq!(why, format!("1 agent offers {WANTED} with steps as root in a container: 1 busy; no older job waits"));
    // It may stop offering it, and begin again.
    let offer = |platforms: &[&str]| Input::AgentOffer {
        agent: "able".to_string(),
        platforms: platforms.iter().map(ToString::to_string).collect(),
        slots: 1,
        boards: Vec::new(),
    };
    desk.give(offer(&[OFFERED]));
    let out = desk.give(Input::Ended(key(1, 1), verdict(Outcome::Passed)));
    assert_eq!(assigned(&out), []);
    let out = desk.give(offer(&[OFFERED, &as_root(OFFERED)]));
    assert_eq!(assigned(&out), [("able", key(3, 1))]);
}

#[test]
fn one_that_nobody_can_run_expires_and_says_so() {
    let mut desk = Desk::new();
    desk.greet("plain", &[OFFERED], 9, &[], &[]);
    desk.queue(vec![rooted(1)]);
    desk.pass(24 * 3_600_000);
    let record = desk.record(1);
    assert_eq!(record.state, JobState::Expired);
    assert_eq!(record.cause, format!("no agent that offers {WANTED} with steps as root in a container came in time"));
}

#[test]
fn trouble_with_roots_is_none_of_other_jobs() {
    let mut desk = Desk::new();
    desk.greet("able", &[OFFERED, &as_root(OFFERED)], 1, &[], &[]);
    desk.queue(vec![rooted(1)]);
    for attempt in 1..=3 {
        desk.give(Input::Broken(key(1, attempt), sai_core::job::Blame::Platform, "no map".to_string()));
        desk.pass(10_000);
    }
    let paused = desk.paused("able");
    assert!(paused.starts_with(&format!("{OFFERED} with steps as root in a container had trouble")), "{paused}");
    let out = desk.queue(vec![on(2, WANTED)]);
    assert_eq!(assigned(&out), [("able", key(2, 1))]);
}
