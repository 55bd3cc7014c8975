//! Jobs that need others, and jobs that want units: when each begins, by which it is skipped, and whose turn it is.

mod desk;

use desk::{Desk, assigned, job, key, of, verdict};
use sai_core::bundle::Bundle;
use sai_core::job::{Fault, JobId, JobState, Outcome};
use sai_core::ledger::{JobRecord, Needed};
use sai_core::limits::NEEDS_BYTES;
use sai_core::ordered::Map;
use sai_core::record::Artifact;
use sai_core::scheduler::{Holding, Input, Output};

/// A job that needs these.
fn needing(id: JobId, needs: &[JobId]) -> JobRecord {
    let needed = |need: &JobId| Needed {
        job: *need,
        configuration: format!("c{need}"),
        platform: "linux".to_string(),
        attempt: None,
        artifacts: Vec::new(),
    };
    JobRecord {
        configuration: format!("c{id}"),
        needs: (!needs.is_empty()).then(|| needs.iter().map(needed).collect()),
        ..job(id)
    }
}

/// A job of this repository that wants so many licences.
fn wanting(id: JobId, repository: &str, amount: u32) -> JobRecord {
    JobRecord { units: Some(Map::from([("licences".to_string(), amount)])), ..of(id, repository) }
}

fn with_licences(amount: u32) -> Desk {
    let mut desk = Desk::new();
    desk.offer(&[("licences", amount)]);
    desk
}

fn end(desk: &mut Desk, id: JobId, outcome: Outcome) -> Vec<Output> {
    let attempt = desk.record(id).attempt;
    desk.give(Input::Ended(key(id, attempt), verdict(outcome)))
}

fn standing(desk: &Desk, ids: std::ops::RangeInclusive<JobId>) -> Vec<&'static str> {
    ids.map(|id| desk.scheduler.job(id).expect("a job").standing().class()).collect()
}

fn changed(out: &[Output]) -> Vec<JobId> {
    out.iter().filter_map(|output| if let Output::Changed(id) = output { Some(*id) } else { None }).collect()
}

#[test]
fn a_job_begins_when_all_it_needs_has_passed_and_the_attempts_are_pinned() {
    let mut desk = Desk::new();
    desk.up("a", 4);
    let out = desk.queue(vec![needing(1, &[]), needing(2, &[]), needing(3, &[1, 2]), needing(4, &[3])]);
    assert_eq!(assigned(&out), [("a", key(1, 1)), ("a", key(2, 1))]);
    assert_eq!(standing(&desk, 1..=4), ["assigned", "assigned", "blocked", "blocked"]);
    assert_eq!(desk.waiting(3), "needs c1 on linux (job 1, assigned), c2 on linux (job 2, assigned) to pass first");
    let file = Artifact { stream: 1, path: "out".to_string(), size: 3, sha256: "0".repeat(64), executable: false };
    desk.give(Input::Kept(key(1, 1), 0, vec![file.clone()]));
    assert_eq!(changed(&end(&mut desk, 1, Outcome::Passed)), [1]);
    desk.pass(50_000);
    let out = end(&mut desk, 2, Outcome::Passed);
    assert_eq!(changed(&out), [2, 3, 3], "queued and assigned in the turn in which the last need ended");
    assert_eq!(assigned(&out), [("a", key(3, 1))]);
    let record = desk.record(3);
    let needs = record.needs.expect("needs");
    assert_eq!((needs[0].attempt, needs[0].artifacts.as_slice()), (Some(1), [file].as_slice()));
    assert_eq!(record.queued_at, desk.now + desk::WALL);
    assert_eq!(desk.state(4), JobState::Queued);
    assert_eq!(standing(&desk, 4..=4), ["blocked"]);
}

#[test]
fn what_needs_a_job_that_did_not_pass_is_skipped_in_the_same_turn_by_the_first_of_them() {
    for (outcome, state, fault, cause) in [
        (Outcome::Failed, "failed", Fault::Job, "c1 on linux/x86_64 (job 1), which it needs, failed"),
        (Outcome::TimedOut, "timed-out", Fault::Job, "c1 on linux/x86_64 (job 1), which it needs, took too long"),
        (Outcome::Cancelled, "cancelled", Fault::Person, "c1 on linux/x86_64 (job 1), which it needs, was cancelled"),
    ] {
        let mut desk = Desk::new();
        desk.up("a", 4);
        desk.queue(vec![needing(1, &[]), needing(2, &[1]), needing(3, &[2]), needing(4, &[])]);
        let out = end(&mut desk, 1, outcome);
        assert_eq!(changed(&out), [1, 2, 3]);
        assert_eq!(standing(&desk, 1..=4), [state, "skipped", "skipped", "assigned"]);
        let record = desk.record(3);
        assert_eq!((record.skipped, record.fault, record.cause.as_str()), (Some(1), fault, cause));
        assert_eq!(record.blocked, None);
    }
    // The chain may be as long as there are jobs, and the job that expires need not have run.
    let mut desk = Desk::new();
    let mut jobs = vec![needing(1, &[])];
    jobs.extend((2..=10_000).map(|id| needing(id, &[id - 1])));
    desk.queue(jobs);
    let out = desk.pass(100_001);
    assert_eq!(changed(&out).len(), 10_000);
    let last = desk.record(10_000);
    assert_eq!((last.skipped, last.fault), (Some(1), Fault::Infrastructure));
}

#[test]
fn a_job_whose_needs_have_more_files_than_an_assignment_can_name_is_told_so() {
    let files = |count: u16, length: usize| -> Vec<Artifact> {
        let path = |stream: u16| format!("{stream:0length$}");
        let file = |stream| Artifact { stream, path: path(stream), size: 3, sha256: "0".repeat(64), executable: false };
        (1..=count).map(file).collect()
    };
    for (length, expected) in [(10, "assigned"), (300, "failed")] {
        let mut desk = Desk::new();
        desk.up("a", 4);
        desk.queue(vec![needing(1, &[]), needing(2, &[]), needing(3, &[1, 2]), needing(4, &[3])]);
        for id in [1, 2] {
            desk.give(Input::Kept(key(id, 1), 0, files(1023, length)));
            end(&mut desk, id, Outcome::Passed);
        }
        let record = desk.record(3);
        assert_eq!(standing(&desk, 3..=3), [expected], "{}", record.cause);
        let size = miniserde::json::to_string(record.needs.as_ref().expect("needs")).len();
        assert!(size <= NEEDS_BYTES, "{size}");
        if expected == "failed" {
            assert_eq!(record.fault, Fault::Spec);
            assert!(record.cause.starts_with("the files of its needs take "), "{}", record.cause);
            assert_eq!(standing(&desk, 4..=4), ["skipped"]);
        }
    }
}

#[test]
fn expiry_counts_from_when_a_job_is_queued() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![needing(1, &[]), JobRecord { platform: "plan9".to_string(), ..needing(2, &[1]) }]);
    desk.pass(30_000);
    end(&mut desk, 1, Outcome::Passed);
    desk.pass(99_000);
    assert_eq!(desk.state(2), JobState::Queued);
    desk.pass(2_000);
    assert_eq!(desk.state(2), JobState::Expired);
}

#[test]
fn jobs_cancelled_together_are_cancelled_and_one_alone_takes_its_dependants_along() {
    let graph = || vec![needing(1, &[]), needing(2, &[1]), needing(3, &[2])];
    let mut desk = Desk::new();
    desk.queue(graph());
    desk.give(Input::Cancel(vec![1, 2, 3], "by anna".to_string()));
    assert_eq!(standing(&desk, 1..=3), ["cancelled", "cancelled", "cancelled"]);
    let mut desk = Desk::new();
    desk.queue(graph());
    desk.give(Input::Cancel(vec![2], "by anna".to_string()));
    assert_eq!(standing(&desk, 1..=3), ["queued", "cancelled", "skipped"]);
    assert_eq!(desk.record(3).skipped, Some(2));
}

#[test]
fn what_is_skipped_with_another_of_its_queueing_is_told_once() {
    let mut desk = Desk::new();
    let skipped = JobRecord { skipped: Some(9), cause: "c9 failed".to_string(), ..needing(1, &[]) };
    assert_eq!(changed(&desk.queue(vec![skipped, needing(2, &[1]), needing(3, &[2])])), [1, 2, 3]);
    assert_eq!(standing(&desk, 1..=3), ["skipped", "skipped", "skipped"]);
}

#[test]
fn a_need_that_is_built_again_is_waited_for_again() {
    let mut desk = Desk::new();
    desk.up("a", 2);
    desk.queue(vec![needing(1, &[]), needing(2, &[]), needing(3, &[1, 2])]);
    end(&mut desk, 1, Outcome::Passed);
    let first = desk.release(1).expect("ended");
    desk.queue(vec![first]);
    end(&mut desk, 2, Outcome::Passed);
    assert_eq!(standing(&desk, 3..=3), ["blocked"]);
    end(&mut desk, 1, Outcome::Passed);
    assert_eq!(desk.record(3).needs.expect("needs")[0].attempt, Some(2));
}

/// An agent that fetches files or not, and checks out what was sent or not.
fn greeting(agent: &str, needs: bool, bundles: bool) -> Input {
    Input::AgentUp(sai_core::scheduler::Greeting {
        agent: agent.to_string(),
        platforms: vec![desk::GCC.to_string()],
        slots: 2,
        needs,
        several: true,
        leases: true,
        told: true,
        mirrors: Vec::new(),
        holds: Vec::new(),
        boards: Vec::new(),
        bundles,
    })
}

#[test]
fn agents_that_cannot_check_out_what_was_sent_get_no_such_job() {
    let mut desk = Desk::new();
    let bundle = Some(Bundle { person: "ann".to_string(), ..Bundle::default() });
    desk.queue(vec![JobRecord { bundle, ..job(1) }, job(2)]);
    assert_eq!(assigned(&desk.give(greeting("old", true, false))), [("old", key(2, 1))]);
    assert!(desk.waiting(1).contains("new enough to check out what nobody pushed"), "{}", desk.waiting(1));
    assert_eq!(assigned(&desk.give(greeting("new", true, true))), [("new", key(1, 1))]);
}

#[test]
fn agents_that_cannot_fetch_files_get_no_job_that_needs_others() {
    let mut desk = Desk::new();
    desk.queue(vec![needing(1, &[]), needing(2, &[1])]);
    assert_eq!(assigned(&desk.give(greeting("old", false, true))), [("old", key(1, 1))]);
    assert!(assigned(&end(&mut desk, 1, Outcome::Passed)).is_empty());
    assert!(desk.waiting(2).contains("new enough to fetch"), "{}", desk.waiting(2));
    assert_eq!(assigned(&desk.give(greeting("new", true, true))), [("new", key(2, 1))]);
}

#[test]
fn units_are_given_all_or_none_and_return_with_the_verdict() {
    let mut desk = with_licences(3);
    desk.up("a", 9);
    let out = desk.queue(vec![wanting(1, "alpha", 2), wanting(2, "alpha", 2), job(3)]);
    assert_eq!(assigned(&out), [("a", key(1, 1)), ("a", key(3, 1))]);
    let why = desk.waiting(2);
    assert!(why.starts_with("wants 2 of licences, 1 of 3 free; held by job 1-1 on a for 0 s"), "{why}");
    assert!(why.contains("place 1"), "{why}");
    let out = end(&mut desk, 1, Outcome::Failed);
    assert_eq!(assigned(&out), [("a", key(2, 1))]);
    assert!(out.contains(&Output::Holds("a".to_string())));
    assert_eq!(desk.scheduler.grants("a").iter().map(|grant| grant.key).collect::<Vec<_>>(), [key(2, 1)]);
    // What can never be given expires, and says so.
    desk.queue(vec![wanting(4, "alpha", 4)]);
    assert!(desk.waiting(4).starts_with("wants 4 of licences, of which there are 3; expires"), "{}", desk.waiting(4));
    desk.pass(101_000);
    assert_eq!(desk.state(4), JobState::Expired);
}

#[test]
fn the_repository_or_person_served_longest_ago_is_next() {
    let mut desk = with_licences(1);
    desk.up("a", 9);
    desk.queue((1..=100).map(|id| wanting(id, "alpha", 1)).collect());
    desk.queue(vec![wanting(101, "beta", 1)]);
    desk.queue(vec![JobRecord { person: Some("anna".to_string()), ..wanting(102, "alpha", 1) }]);
    desk.queue(vec![JobRecord { priority: 5, ..wanting(103, "alpha", 1) }]);
    let mut order = vec![1];
    for _ in 0..5 {
        let out = end(&mut desk, *order.last().expect("one"), Outcome::Passed);
        order.extend(assigned(&out).iter().map(|(_, key)| key.job));
    }
    assert_eq!(order, [1, 103, 101, 102, 2, 3]);
}

#[test]
fn the_table_of_units_says_who_holds_them_and_who_is_next() {
    let mut desk = with_licences(1);
    desk.up("a", 9);
    desk.queue((1..=100).map(|id| wanting(id, "alpha", 1)).collect());
    desk.queue(vec![wanting(101, "beta", 1), wanting(102, "beta", 1)]);
    desk.queue(vec![JobRecord { person: Some("anna".to_string()), ..wanting(103, "alpha", 1) }]);
    desk.queue(vec![JobRecord { priority: 5, ..wanting(104, "alpha", 1) }]);
    // It can never be served, and stands in nobody's way.
    desk.queue(vec![wanting(105, "gamma", 2)]);
    let table = |desk: &Desk| desk.scheduler.unit_table(desk.moment()).remove(0);
    let row = table(&desk);
    assert_eq!((row.name.as_str(), row.amount, row.free, row.waiting), ("licences", 1, 0, 103));
    let holder = &row.holders[0];
    assert_eq!((holder.key, holder.agent.as_str(), holder.amount), (key(1, 1), "a", 1));
    assert_eq!(holder.until - holder.since, 100_000, "its own time and the grace");
    assert_eq!(holder.holding, Holding::Granted);
    // The order is the one in which they are then served.
    let told: Vec<JobId> = row.waiters.iter().map(|waiter| waiter.job).collect();
    assert_eq!(told[..7], [104, 101, 103, 2, 102, 3, 4]);
    assert_eq!(row.waiters[2].who, "anna");
    let mut order = Vec::new();
    let mut last = 1;
    while order.len() < told.len() {
        let out = end(&mut desk, last, Outcome::Passed);
        last = assigned(&out)[0].1.job;
        order.push(last);
    }
    assert_eq!(order, told);

    // Its agent goes away, the attempt is given up, the token is revoked: what is said follows.
    desk.give(Input::AgentDown("a".to_string()));
    assert_eq!(table(&desk).holders[0].holding, Holding::Away);
    let before = table(&desk);
    desk.pass(5_000);
    assert!(table(&desk).is_much_like(&before), "that time passes is no news");
    desk.pass(5_000);
    assert_eq!(table(&desk).holders[0].holding, Holding::GivenUp);
    assert!(!table(&desk).is_much_like(&before));
    desk.give(Input::AgentRevoked("a".to_string()));
    assert_eq!(table(&desk).holders[0].holding, Holding::Revoked);
    let grant = table(&desk).holders[0].grant;
    desk.give(Input::Free(grant));
    assert_eq!((table(&desk).free, table(&desk).holders.len()), (1, 0));
}

#[test]
fn one_that_wants_several_collects_them_and_hides_none_that_wants_another() {
    let mut desk = with_licences(2);
    desk.offer(&[("licences", 2), ("rig", 1)]);
    desk.up("a", 9);
    desk.queue(vec![wanting(1, "alpha", 1), wanting(2, "alpha", 1)]);
    desk.queue(vec![wanting(3, "beta", 2)]);
    desk.queue((4..=20).map(|id| wanting(id, "alpha", 1)).collect());
    let rig = JobRecord { units: Some(Map::from([("rig".to_string(), 1)])), ..of(30, "gamma") };
    assert_eq!(assigned(&desk.queue(vec![rig])), [("a", key(30, 1))]);
    assert!(assigned(&end(&mut desk, 1, Outcome::Passed)).is_empty(), "it is kept for job 3");
    assert!(desk.waiting(4).contains("kept together for job 3"), "{}", desk.waiting(4));
    let first = desk.scheduler.unit_table(desk.moment())[0].waiters[0].clone();
    assert_eq!((first.job, first.amount, first.collects), (3, 2, true));
    assert_eq!(assigned(&end(&mut desk, 2, Outcome::Passed)), [("a", key(3, 1))]);
    assert_eq!(assigned(&end(&mut desk, 3, Outcome::Passed)).len(), 2);
    // An older job that comes back to its queue does not stand in its way.
    let mut other = with_licences(2);
    other.up("a", 9);
    other.queue(vec![wanting(1, "alpha", 2), wanting(5, "alpha", 2)]);
    end(&mut other, 1, Outcome::Passed);
    let again = other.release(1).expect("ended");
    other.queue(vec![wanting(6, "alpha", 2)]);
    assert_eq!(other.scheduler.units().collector(), Some(6));
    other.queue(vec![again]);
    assert_eq!(assigned(&end(&mut other, 5, Outcome::Passed)), [("a", key(6, 1))]);
    // Who collects and is cancelled keeps nothing from anybody.
    desk.queue(vec![wanting(40, "beta", 2)]);
    end(&mut desk, 4, Outcome::Passed);
    let held: Vec<JobId> = desk.scheduler.grants("a").iter().map(|grant| grant.key.job).collect();
    assert_eq!(held.len(), 2, "beta was served last, so it is alpha's turn: {held:?}");
}

#[test]
fn an_agent_that_does_not_come_back_keeps_its_units_until_it_speaks_or_their_time_is_over() {
    // 60 s that the job may take, and 40 s of grace.
    let mut desk = with_licences(1);
    desk.up("a", 1);
    desk.queue(vec![wanting(1, "alpha", 1)]);
    desk.up("b", 1);
    desk.give(Input::AgentDown("a".to_string()));
    let out = desk.pass(15_000);
    assert!(assigned(&out).is_empty(), "given up, and still held: {out:?}");
    assert!(desk.waiting(1).contains("which has not said that it ended"), "{}", desk.waiting(1));
    assert!(desk.waiting(1).contains("sai-master unit free 1"), "{}", desk.waiting(1));
    assert_eq!(assigned(&desk.pass(84_000)), []);
    assert_eq!(assigned(&desk.pass(2_000)), [("b", key(1, 2))]);

    // It comes back without the attempt.
    let mut desk = with_licences(1);
    desk.up("a", 1);
    desk.queue(vec![wanting(1, "alpha", 1)]);
    desk.give(Input::Started(key(1, 1), None));
    desk.give(Input::AgentDown("a".to_string()));
    desk.pass(15_000);
    assert_eq!(assigned(&desk.up("a", 1)).len(), 1);

    // It comes back with one that was given up meanwhile, and must say itself that it is gone.
    let mut desk = with_licences(1);
    desk.up("a", 1);
    desk.queue(vec![wanting(1, "alpha", 1)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.pass(15_000);
    desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    desk.queue(vec![wanting(2, "alpha", 1)]);
    assert!(assigned(&desk.greet("a", &[desk::GCC], 2, &[], &[key(1, 1)])).is_empty());
    assert!(assigned(&desk.give(Input::Returned("b".to_string(), key(1, 1)))).is_empty(), "another's word");
    assert_eq!(assigned(&desk.give(Input::Returned("a".to_string(), key(1, 1)))), [("a", key(2, 1))]);
    // While one is under way only its verdict frees.
    desk.give(Input::Returned("a".to_string(), key(2, 1)));
    assert_eq!(desk.scheduler.grants("a").len(), 1);
    // A person may.
    desk.queue(vec![wanting(3, "alpha", 1)]);
    let number = desk.scheduler.grants("a")[0].number;
    assert_eq!(assigned(&desk.give(Input::Free(number))), [("a", key(3, 1))]);
}

#[test]
fn a_restart_gives_nothing_twice() {
    let mut desk = with_licences(2);
    desk.up("a", 2);
    desk.queue(vec![wanting(1, "alpha", 1), wanting(2, "alpha", 1)]);
    let (records, grants) = ([desk.record(1), desk.record(2)], desk.scheduler.grants("a"));
    // The second was given up and ended before the restart, its agent never heard of.
    let mut desk = with_licences(2);
    desk.give(Input::Granted("a".to_string(), grants));
    desk.give(Input::Restore(records[0].clone(), 60));
    desk.up("b", 9);
    assert!(assigned(&desk.queue(vec![wanting(3, "beta", 1)])).is_empty());
    let first = |desk: &mut Desk| desk.scheduler.units().held().map(|held| held.until.is_some()).collect::<Vec<_>>();
    assert_eq!(first(&mut desk), [false, true], "the first is under way");
    let out = desk.greet("a", &[desk::GCC], 2, &[], &[key(1, 1)]);
    assert_eq!(assigned(&out), [("b", key(3, 1))], "it came back without the second");
}
