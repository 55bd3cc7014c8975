//! Inputs of the scheduler, in order, against what it says to do.

mod desk;

use desk::{Desk, GCC, WALL, assigned, job, key, of, verdict};
use sai_core::job::{Blame, Fault, JobId, JobKey, JobState, Outcome};
use sai_core::ledger::JobRecord;
use sai_core::scheduler::{CANCEL_FULL_MS, Input, Output, Policy, Scheduler};

#[test]
fn jobs_of_one_event_take_their_places_before_any_is_given_out() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    let late = JobRecord { priority: 5, ..job(2) };
    let out = desk.queue(vec![job(1), late]);
    assert_eq!(
        out,
        [Output::Changed(1), Output::Changed(2), Output::Changed(2), Output::Assign("a".to_string(), key(2, 1))]
    );
}

#[test]
fn a_cancel_outlives_the_master() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    let out = desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    assert_eq!(out, [Output::Changed(1), Output::Cancel("a".to_string(), key(1, 1), "by anna".to_string())]);
    let record = desk.record(1);
    assert_eq!((record.state, record.fault, record.cause.as_str()), (JobState::Assigned, Fault::Person, "by anna"));

    // Another master has only the record; the agent hears of it again, whether or not it did before.
    let mut desk = Desk::new();
    desk.give(Input::Restore(record.clone(), 60));
    let out = desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    assert_eq!(
        out,
        [Output::Adopt("a".to_string(), key(1, 1)), Output::Cancel("a".to_string(), key(1, 1), "by anna".to_string())]
    );
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Cancelled)));
    assert_eq!((desk.state(1), desk.record(1).cause.as_str()), (JobState::Cancelled, "by anna"));

    // Without its agent it does not begin anew.
    let mut desk = Desk::new();
    desk.give(Input::Restore(record, 60));
    let out = desk.greet("a", &[GCC], 1, &[], &[]);
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 1)), Output::Changed(1)]);
    assert_eq!((desk.state(1), desk.record(1).fault), (JobState::Cancelled, Fault::Person));
}

#[test]
fn who_cancelled_is_told_even_when_the_end_was_untidy() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    let out = desk.give(Input::Ended(key(1, 1), verdict(Outcome::Infra)));
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 1)), Output::Changed(1)]);
    let record = desk.record(1);
    assert_eq!((record.state, record.fault, record.cause.as_str()), (JobState::Cancelled, Fault::Person, "by anna"));
}

#[test]
fn trouble_of_the_master_is_not_held_against_agents() {
    let mut desk = Desk::new();
    desk.up("a", 4);
    desk.queue((1..=4).map(job).collect());
    for id in 1..=4 {
        desk.give(Input::Unwritable(key(id, 1), "the disk is full".to_string()));
    }
    assert_eq!(desk.paused("a"), "");
    assert_eq!(
        (desk.state(1), desk.record(1).infra, desk.record(1).fault),
        (JobState::Queued, 1, Fault::Infrastructure)
    );
    // The same of the agent's own sets it aside.
    desk.pass(2_000);
    for id in 1..=3 {
        desk.give(Input::Broken(key(id, 2), Blame::Agent, "the disk is full".to_string()));
    }
    assert!(desk.paused("a").contains("3 times in a row"));
}

#[test]
fn a_job_that_cannot_be_started_ends_in_any_state() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1), job(2)]);
    let out = desk.give(Input::Impossible(2, "no such job".to_string()));
    assert_eq!(out, [Output::Changed(2)]);
    let out = desk.give(Input::Impossible(1, "no such job".to_string()));
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 1)), Output::Changed(1)]);
    for id in [1, 2] {
        let record = desk.record(id);
        assert_eq!((record.state, record.cause.as_str()), (JobState::Infra, "no such job"));
    }
    assert_eq!(desk.give(Input::Impossible(1, "again".to_string())), []);
    assert_eq!(assigned(&desk.queue(vec![job(3)])), [("a", key(3, 1))]);
}

#[test]
fn a_rebuild_from_an_old_reading_of_the_record_numbers_no_attempt_twice() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Failed)));
    let old = desk.release(1).expect("an ended job");
    desk.queue(vec![old.clone()]);
    desk.give(Input::Ended(key(1, 2), verdict(Outcome::Passed)));
    let new = desk.release(1).expect("an ended job");
    assert_eq!(desk.queue(vec![old]), []);
    assert_eq!(assigned(&desk.queue(vec![new.clone()])), [("a", key(1, 3))]);
    // While it is under way, another rebuild of it means nothing.
    assert_eq!(desk.queue(vec![new]), []);
}

#[test]
fn an_assignment_that_was_lost_is_no_trouble_of_the_job_but_of_its_agent() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    for attempt in 1..3 {
        desk.give(Input::AgentDown("a".to_string()));
        let out = desk.up("a", 1);
        let again = key(1, attempt + 1);
        assert_eq!(out[0], Output::Forget("a".to_string(), key(1, attempt)));
        assert_eq!(assigned(&out), [("a", again)]);
        assert_eq!(desk.record(1).infra, 0);
    }
    // After the third in a row it is left alone for a while; somebody else would have been preferred before.
    desk.give(Input::AgentDown("a".to_string()));
    assert_eq!(assigned(&desk.up("a", 1)), []);
    assert!(desk.paused("a").contains("came back without it"), "{}", desk.paused("a"));
    assert_eq!(assigned(&desk.pass(30_000)), [("a", key(1, 4))]);
    // Many at once are one trouble.
    desk.up("b", 4);
    desk.queue((2..=5).map(job).collect());
    desk.give(Input::AgentDown("b".to_string()));
    assert_eq!(assigned(&desk.up("b", 4)).len(), 4);
}

#[test]
fn times_of_nothing_make_no_busy_loop() {
    let policy =
        Policy { orphan_ms: 0, expire_ms: 0, retry_ms: 0, cancel_ms: 0, overdue_ms: 0, aside_ms: 0, grace_ms: 0 };
    let mut desk = Desk { scheduler: Scheduler::new(policy), ..Desk::new() };
    desk.up("a", 1);
    desk.queue(vec![job(1), job(2)]);
    desk.pass(50);
    assert_eq!((desk.state(1), desk.state(2)), (JobState::Assigned, JobState::Queued));
    let policy = Policy {
        orphan_ms: u64::MAX,
        expire_ms: u64::MAX,
        retry_ms: u64::MAX,
        cancel_ms: u64::MAX,
        overdue_ms: u64::MAX,
        aside_ms: u64::MAX,
        grace_ms: u64::MAX,
    };
    let mut desk = Desk { scheduler: Scheduler::new(policy), ..Desk::new() };
    desk.up("a", 1);
    desk.queue(vec![job(1), job(2)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    assert_eq!(desk.state(1), JobState::Cancelled);
    assert!(desk.waiting(2).contains("away"));
}

#[test]
fn every_cause_of_waiting_is_named() {
    let mut desk = Desk::new();
    desk.queue(vec![job(1), job(2)]);
    assert_eq!(desk.waiting(1), "no agent has offered linux/x86_64 yet; expires 100 s after it was queued");
    desk.up("a", 0);
    assert_eq!(desk.waiting(1), "1 agent offers linux/x86_64: 1 without slots; no older job waits");
    desk.give(Input::SetAside { agent: "a".to_string(), aside: true });
    assert_eq!(desk.waiting(2), "1 agent offers linux/x86_64: 1 set aside; 1 older job waits too");
    desk.up("b", 1);
    assert_eq!(desk.state(1), JobState::Assigned);
    assert_eq!(desk.scheduler.waiting(desk.now, 1), None);
    assert_eq!(desk.waiting(2), "2 agents offer linux/x86_64: 1 busy, 1 set aside; no older job waits");
    desk.give(Input::Hold(Some("the disk is full".to_string())));
    assert_eq!(desk.waiting(2), "no job is started: the disk is full");
    desk.give(Input::Hold(None));
    desk.give(Input::Broken(key(1, 1), Blame::Agent, "the disk broke".to_string()));
    assert_eq!(desk.waiting(1), "tried again in 1 s after: the disk broke");
    desk.give(Input::Broken(key(2, 1), Blame::Agent, "the disk broke".to_string()));
    desk.pass(1_000);
    desk.give(Input::Broken(key(1, 2), Blame::Agent, "the disk broke".to_string()));
    desk.pass(2_000);
    assert_eq!(
        desk.waiting(2),
        "2 agents offer linux/x86_64: 1 set aside, 1 paused after trouble; 1 older job waits too"
    );
    desk.give(Input::AgentDown("b".to_string()));
    desk.give(Input::AgentDown("a".to_string()));
    assert!(desk.waiting(1).starts_with("all 2 agents that offer linux/x86_64 are away"), "{}", desk.waiting(1));
    desk.give(Input::AgentRevoked("a".to_string()));
    assert!(desk.waiting(1).starts_with("b, which offers linux/x86_64, is away"), "{}", desk.waiting(1));
    assert_eq!(desk.scheduler.waiting(desk.now, 77), None);
}

#[test]
fn platforms_match_from_the_left() {
    let mut desk = Desk::new();
    desk.greet("a", &["linux-fedora-32/x86_64-amd/gcc"], 9, &[], &[]);
    let wants = |id, platform: &str| JobRecord { platform: platform.to_string(), ..job(id) };
    let jobs = [
        wants(1, "linux-fedora/x86_64"),
        wants(2, "linux/x86_64-amd/gcc"),
        wants(3, "linux-fed/x86_64"),
        wants(4, "linux-fedora-32/x86_64-amd/gcc/more"),
        wants(5, "linux-debian"),
        wants(6, "linux"),
    ];
    let out = desk.queue(jobs.to_vec());
    let ids: Vec<JobId> = assigned(&out).iter().map(|(_, key)| key.job).collect();
    assert_eq!(ids, [1, 2, 6]);
}

#[test]
fn the_idlest_agent_gets_the_job() {
    let mut desk = Desk::new();
    desk.greet("a", &[GCC], 4, &["alpha"], &[]);
    desk.greet("b", &[GCC], 4, &["alpha"], &[]);
    let out = desk.queue((1..=4).map(job).collect());
    assert_eq!(assigned(&out).iter().map(|(agent, _)| *agent).collect::<Vec<_>>(), ["a", "b", "a", "b"]);
    // One whose processors are busy otherwise comes later.
    desk.give(Input::AgentLoad { agent: "a".to_string(), load_permille: 900 });
    assert_eq!(assigned(&desk.queue(vec![job(5)])), [("b", key(5, 1))]);
    desk.give(Input::AgentLoad { agent: "a".to_string(), load_permille: 0 });
    assert_eq!(assigned(&desk.queue(vec![job(6)])), [("a", key(6, 1))]);
    // Busy is what part of its slots is taken, not how many.
    desk.greet("c", &[GCC], 100, &["alpha"], &[]);
    assert_eq!(assigned(&desk.queue((7..=12).map(job).collect())).iter().filter(|(agent, _)| *agent == "c").count(), 6);
}

#[test]
fn a_warm_mirror_counts_but_not_against_all_load() {
    let mut desk = Desk::new();
    desk.greet("a", &[GCC], 4, &[], &[]);
    desk.greet("b", &[GCC], 4, &["alpha"], &[]);
    assert!(desk.scheduler.warm("b", "alpha") && !desk.scheduler.warm("a", "alpha"));
    let out = desk.queue((1..=3).map(job).collect());
    assert_eq!(assigned(&out).iter().map(|(agent, _)| *agent).collect::<Vec<_>>(), ["b", "b", "a"]);
    // Who has run a job of a repository has its mirror.
    desk.give(Input::Ended(key(3, 1), verdict(Outcome::Passed)));
    assert!(desk.scheduler.warm("a", "alpha"));
}

#[test]
fn repositories_share_and_the_oldest_goes_first_in_each() {
    let mut desk = Desk::new();
    let mut jobs: Vec<_> = (1..=6).map(|id| of(id, "alpha")).collect();
    jobs.extend((7..=8).map(|id| of(id, "beta")));
    desk.queue(jobs);
    let out = desk.up("a", 4);
    assert_eq!(assigned(&out).iter().map(|(_, key)| key.job).collect::<Vec<_>>(), [1, 7, 2, 8]);
    let out = desk.give(Input::Ended(key(7, 1), verdict(Outcome::Passed)));
    assert_eq!(assigned(&out), [("a", key(3, 1))]);
}

#[test]
fn a_higher_priority_goes_first_whatever_else() {
    let mut desk = Desk::new();
    let with = |record: JobRecord, priority| JobRecord { priority, ..record };
    desk.queue(vec![job(1), with(job(2), -5), with(of(3, "beta"), i32::MIN), with(job(4), 7), with(job(5), i32::MAX)]);
    let out = desk.up("a", 5);
    assert_eq!(assigned(&out).iter().map(|(_, key)| key.job).collect::<Vec<_>>(), [5, 4, 1, 2, 3]);
}

#[test]
fn a_cancel_ends_a_job_in_each_state() {
    let mut desk = Desk::new();
    // Queued: at once.
    desk.queue(vec![job(1)]);
    assert_eq!(desk.give(Input::Cancel(vec![1], "by anna".to_string())), [Output::Changed(1)]);
    assert_eq!((desk.state(1), desk.record(1).fault), (JobState::Cancelled, Fault::Person));
    // Running: its agent is asked, once, and has some time to end it.
    desk.up("a", 2);
    desk.queue(vec![job(2), job(3)]);
    desk.give(Input::Started(key(2, 1), Some(0)));
    assert!(desk.give(Input::Cancel(vec![2], "by anna".to_string())).contains(&Output::Cancel(
        "a".to_string(),
        key(2, 1),
        "by anna".to_string()
    )));
    assert_eq!(desk.give(Input::Cancel(vec![2], "by bert".to_string())), []);
    assert_eq!(desk.pass(4_999), []);
    assert_eq!(desk.pass(1), [Output::Forget("a".to_string(), key(2, 1)), Output::Changed(2)]);
    assert_eq!((desk.state(2), desk.record(2).cause.as_str()), (JobState::Cancelled, "by anna"));
    // Its verdict comes too late.
    assert_eq!(desk.give(Input::Ended(key(2, 1), verdict(Outcome::Passed))), []);
    // A verdict that was faster counts.
    desk.give(Input::Cancel(vec![3], "by anna".to_string()));
    desk.give(Input::Ended(key(3, 1), verdict(Outcome::Passed)));
    assert_eq!((desk.state(3), desk.record(3).cause.as_str()), (JobState::Passed, ""));
    // Its agent is away: at once, and the agent is told when it returns.
    desk.queue(vec![job(4)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.give(Input::Cancel(vec![4], "by anna".to_string()));
    assert_eq!(desk.state(4), JobState::Cancelled);
    assert_eq!(desk.greet("a", &[GCC], 2, &[], &[key(4, 1)]), [Output::Forget("a".to_string(), key(4, 1))]);
    // Ended, or never heard of: nothing.
    assert_eq!(desk.give(Input::Cancel(vec![4], "by anna".to_string())), []);
    assert_eq!(desk.give(Input::Cancel(vec![99], "by anna".to_string())), []);
}

#[test]
fn a_cancel_waits_little_while_the_disk_is_full() {
    let full = || Input::Hold(Some("the disk is full".to_string()));
    let cancel = |job| Input::Cancel(vec![job], "by anna".to_string());
    let mut desk = Desk::new();
    desk.up("a", 3);
    desk.queue(vec![job(1), job(2), job(3)]);
    // One was cancelled just before, one while it is full, one not at all.
    desk.give(cancel(1));
    desk.pass(1_000);
    desk.give(full());
    desk.give(cancel(2));
    assert_eq!(desk.pass(CANCEL_FULL_MS - 1), []);
    let ends = |id| [Output::Forget("a".to_string(), key(id, 1)), Output::Changed(id)];
    assert_eq!(desk.pass(1), [ends(1), ends(2)].concat());
    assert_eq!([1, 2, 3].map(|id| desk.state(id)), [JobState::Cancelled, JobState::Cancelled, JobState::Assigned]);
    // What was nearly over is not waited for anew, and with room it is as before.
    desk.give(Input::Hold(None));
    desk.give(cancel(3));
    desk.pass(4_900);
    desk.give(full());
    assert_eq!(desk.pass(100), ends(3));
}

#[test]
fn a_cancelled_job_is_not_tried_again_after_trouble() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    desk.give(Input::Broken(key(1, 1), Blame::Agent, "the link broke".to_string()));
    assert_eq!((desk.state(1), desk.record(1).fault), (JobState::Cancelled, Fault::Person));
}

#[test]
fn an_ended_job_runs_again_under_a_new_number() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Failed)));
    let record = desk.release(1).expect("an ended job");
    assert_eq!((record.state, record.verdict.as_ref()), (JobState::Failed, Some(&verdict(Outcome::Failed))));
    let out = desk.queue(vec![record]);
    assert_eq!(assigned(&out), [("a", key(1, 2))]);
    let record = desk.record(1);
    assert_eq!((record.verdict, record.ended_at, record.infra, record.cause.as_str()), (None, None, 0, ""));
    // The first attempt may still run somewhere; what it says changes nothing.
    assert_eq!(desk.give(Input::Ended(key(1, 1), verdict(Outcome::Passed))), []);
    assert_eq!(desk.give(Input::Started(key(1, 1), Some(3))), []);
    assert_eq!(desk.give(Input::Broken(key(1, 1), Blame::Agent, "old".to_string())), []);
    assert_eq!(desk.greet("b", &[GCC], 1, &[], &[key(1, 1)]), [Output::Forget("b".to_string(), key(1, 1))]);
    assert_eq!(desk.release(1), None, "it has not ended");
}

#[test]
fn a_job_nobody_can_serve_expires() {
    let mut desk = Desk::new();
    desk.queue(vec![job(1)]);
    assert_eq!(desk.pass(99_999), []);
    assert_eq!(desk.pass(1), [Output::Changed(1)]);
    let record = desk.record(1);
    assert_eq!((record.state, record.fault), (JobState::Expired, Fault::Infrastructure));
    assert_eq!(record.cause, "no agent that offers linux/x86_64 came in time");
    // One that waits for its turn does not.
    desk.up("a", 1);
    desk.queue(vec![job(2), job(3)]);
    desk.give(Input::Started(key(2, 1), None));
    let mut waited = 0;
    while desk.state(2) == JobState::Running {
        desk.pass(10_000);
        waited += 10_000;
        assert!(waited < 200_000);
    }
    assert_ne!(desk.state(3), JobState::Expired);
}

#[test]
fn an_orphan_is_awaited_then_given_to_another() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Started(key(1, 1), Some(0)));
    desk.give(Input::AgentDown("a".to_string()));
    assert_eq!(desk.up("b", 1), []);
    assert_eq!(desk.pass(9_999), []);
    assert_eq!(desk.scheduler.holder(key(1, 1)), Some("a"));
    let out = desk.pass(1);
    assert_eq!(out, [Output::Changed(1)]);
    assert_eq!((desk.record(1).infra, desk.record(1).cause.as_str()), (1, "a did not come back"));
    // Only now that another begins nothing more is wanted of the first.
    let out = desk.pass(1_000);
    assert_eq!(out[0], Output::Forget("a".to_string(), key(1, 1)));
    assert_eq!(assigned(&out), [("b", key(1, 2))]);
    // The ghost is told to go, and may work for others.
    let out = desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 1))]);
    assert_eq!(assigned(&desk.queue(vec![job(2)])), [("a", key(2, 1))]);
}

#[test]
fn an_orphan_that_returns_goes_on() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Started(key(1, 1), Some(0)));
    desk.give(Input::AgentDown("a".to_string()));
    desk.pass(9_000);
    let out = desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    assert_eq!(out, [Output::Adopt("a".to_string(), key(1, 1))]);
    assert_eq!(desk.pass(9_000), []);
    assert_eq!(desk.state(1), JobState::Running);
    // A cancel that was lost with the link is said again.
    desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    desk.give(Input::AgentDown("a".to_string()));
    let out = desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    assert_eq!(out.len(), 2);
    assert_eq!(out[1], Output::Cancel("a".to_string(), key(1, 1), "by anna".to_string()));
}

#[test]
fn a_job_its_agent_does_not_end_in_time_is_taken_away() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.up("b", 1);
    desk.queue(vec![job(1)]);
    // 60 s of its own and 20 s of ours.
    assert_eq!(desk.pass(79_999), []);
    let out = desk.pass(1);
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 1)), Output::Changed(1)]);
    assert_eq!(desk.record(1).cause, "a did not end it in time");
    // Not by the same agent, as long as there is another.
    assert_eq!(assigned(&desk.pass(1_000)), [("b", key(1, 2))]);
}

#[test]
fn trouble_of_ours_is_retried_ever_later_and_not_for_ever() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Infra)));
    let record = desk.record(1);
    assert_eq!((record.state, record.infra, record.cause.as_str()), (JobState::Queued, 1, "the mirror broke"));
    assert_eq!((record.verdict, record.fault), (None, Fault::Infrastructure));
    assert_eq!(desk.pass(999), []);
    assert_eq!(assigned(&desk.pass(1)), [("a", key(1, 2))]);
    desk.give(Input::Broken(key(1, 2), Blame::Agent, "the disk broke".to_string()));
    assert_eq!(desk.pass(1_999), []);
    assert_eq!(assigned(&desk.pass(1)), [("a", key(1, 3))]);
    let out = desk.give(Input::Broken(key(1, 3), Blame::Agent, "the disk broke".to_string()));
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 3)), Output::Changed(1)]);
    let record = desk.record(1);
    assert_eq!((record.state, record.fault), (JobState::Infra, Fault::Infrastructure));
    assert_eq!(record.cause, "3 times in a row, last: the disk broke");
    // A rebuild begins to count anew.
    let record = desk.release(1).expect("an ended job");
    desk.queue(vec![record]);
    assert_eq!(desk.record(1).infra, 0);
}

#[test]
fn an_agent_with_trouble_is_left_alone_ever_longer() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    let mut next = 1;
    let mut trouble = |desk: &mut Desk| {
        let key = loop {
            if let Some(key) = desk.scheduler.runs("a").next() {
                break key;
            }
            desk.queue(vec![job(next)]);
            next += 1;
        };
        desk.give(Input::Broken(key, Blame::Agent, "trouble".to_string()));
        desk.give(Input::Cancel(vec![key.job], "enough".to_string()));
    };
    trouble(&mut desk);
    trouble(&mut desk);
    assert_eq!(desk.paused("a"), "");
    trouble(&mut desk);
    assert_eq!(desk.paused("a"), format!("{GCC} had trouble 3 times in a row, last: trouble; no job of it for 30 s"));
    desk.queue(vec![job(1000)]);
    assert_eq!(assigned(&desk.pass(29_999)), []);
    assert_eq!(assigned(&desk.pass(1)), [("a", key(1000, 1))]);
    desk.give(Input::Broken(key(1000, 1), Blame::Agent, "trouble".to_string()));
    assert!(desk.paused("a").ends_with("for 60 s"));
    // A good end makes up for all of it.
    let out = desk.pass(60_000);
    assert_eq!(assigned(&out), [("a", key(1000, 2))]);
    desk.give(Input::Ended(key(1000, 2), verdict(Outcome::Failed)));
    desk.queue(vec![job(1001)]);
    desk.give(Input::Broken(key(1001, 1), Blame::Agent, "trouble".to_string()));
    assert_eq!(desk.paused("a"), "");
}

#[test]
fn an_agent_set_aside_keeps_what_it_runs_and_gets_no_more() {
    let mut desk = Desk::new();
    desk.up("a", 2);
    desk.queue(vec![job(1)]);
    desk.give(Input::SetAside { agent: "a".to_string(), aside: true });
    assert_eq!(assigned(&desk.queue(vec![job(2)])), []);
    assert_eq!(desk.scheduler.runs("a").count(), 1);
    // It stays so when it comes back.
    desk.give(Input::AgentDown("a".to_string()));
    assert_eq!(assigned(&desk.greet("a", &[GCC], 2, &[], &[key(1, 1)])), []);
    assert_eq!(assigned(&desk.give(Input::SetAside { agent: "a".to_string(), aside: false })), [("a", key(2, 1))]);
}

#[test]
fn while_jobs_are_held_none_starts_and_all_go_on() {
    let mut desk = Desk::new();
    desk.up("a", 2);
    desk.queue(vec![job(1)]);
    assert_eq!(desk.give(Input::Hold(Some("the disk is full".to_string()))), []);
    assert_eq!(assigned(&desk.queue(vec![job(2)])), []);
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Passed)));
    assert_eq!(desk.state(1), JobState::Passed);
    assert_eq!(assigned(&desk.give(Input::Hold(None))), [("a", key(2, 1))]);
}

#[test]
fn slots_that_shrink_end_nothing_and_are_not_filled() {
    let mut desk = Desk::new();
    desk.up("a", 3);
    desk.queue((1..=4).map(job).collect());
    let offer = |slots| Input::AgentOffer {
        agent: "a".to_string(),
        platforms: vec![GCC.to_string()],
        slots,
        boards: Vec::new(),
    };
    assert_eq!(desk.give(offer(1)), []);
    assert_eq!(desk.scheduler.runs("a").count(), 3);
    for id in 1..=2 {
        assert_eq!(assigned(&desk.give(Input::Ended(key(id, 1), verdict(Outcome::Passed)))), []);
    }
    assert_eq!(assigned(&desk.give(Input::Ended(key(3, 1), verdict(Outcome::Passed)))), [("a", key(4, 1))]);
    // No announcement is believed beyond the limit.
    desk.queue((5..=400).map(job).collect());
    desk.give(offer(u32::MAX));
    assert_eq!(desk.scheduler.runs("a").count(), 256);
}

#[test]
fn a_revoked_agent_loses_all_it_runs() {
    let mut desk = Desk::new();
    desk.up("a", 2);
    desk.queue(vec![job(1), job(2)]);
    desk.give(Input::Started(key(1, 1), None));
    desk.up("b", 1);
    let out = desk.give(Input::AgentRevoked("a".to_string()));
    assert_eq!(assigned(&out), []);
    assert_eq!((desk.state(1), desk.state(2)), (JobState::Queued, JobState::Queued));
    assert_eq!(assigned(&desk.pass(1_000)), [("b", key(1, 2))]);
    assert_eq!(desk.scheduler.runs("a").count(), 0);
    // Shares are counted anew: the job it lost is not counted as running.
    desk.queue(vec![of(3, "beta")]);
    let out = desk.give(Input::Ended(key(1, 2), verdict(Outcome::Passed)));
    assert_eq!(assigned(&out), [("b", key(2, 2))]);
}

#[test]
fn a_restored_job_waits_for_its_agent_and_keeps_its_slot() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1), job(2)]);
    desk.give(Input::Started(key(1, 1), Some(0)));
    let records = [desk.record(1), desk.record(2)];
    let mut desk = Desk::new();
    for record in &records {
        assert_eq!(desk.give(Input::Restore(record.clone(), 60)), []);
    }
    assert_eq!(desk.scheduler.holder(key(1, 1)), Some("a"));
    let out = desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    assert_eq!(out, [Output::Adopt("a".to_string(), key(1, 1))]);
    let out = desk.give(Input::Ended(key(1, 1), verdict(Outcome::Passed)));
    assert_eq!(assigned(&out), [("a", key(2, 1))]);
    // Its agent does not come back to this master: it is awaited for as long as after a lost link.
    let mut desk = Desk::new();
    desk.give(Input::Restore(records[0].clone(), 60));
    desk.pass(9_999);
    assert_eq!(desk.state(1), JobState::Running);
    desk.pass(1);
    assert_eq!((desk.state(1), desk.record(1).infra), (JobState::Queued, 1));
}

#[test]
fn an_attempt_speaks_only_through_its_agent() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    assert_eq!(desk.scheduler.holder(key(1, 1)), Some("a"));
    assert_eq!(desk.scheduler.holder(key(1, 2)), None);
    assert_eq!(desk.scheduler.holder(key(2, 1)), None);
    assert_eq!(desk.greet("b", &[GCC], 0, &[], &[key(1, 1)]), [Output::Forget("b".to_string(), key(1, 1))]);
    assert_eq!(desk.scheduler.holder(key(1, 1)), Some("a"));
}

#[test]
fn first_bytes_and_steps_are_recorded_once() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.now += 5;
    assert_eq!(desk.give(Input::Started(key(1, 1), None)), [Output::Changed(1)]);
    assert_eq!(desk.give(Input::Started(key(1, 1), None)), []);
    assert_eq!(desk.give(Input::Started(key(1, 1), Some(0))), [Output::Changed(1)]);
    assert_eq!(desk.give(Input::Started(key(1, 1), Some(0))), []);
    let record = desk.record(1);
    assert_eq!((record.state, record.step, record.started_at), (JobState::Running, Some(0), Some(desk.now + WALL)));
}

#[test]
fn ten_thousand_jobs_are_given_out_fast() {
    let began = std::time::Instant::now();
    let mut desk = Desk::new();
    for agent in 0..50 {
        desk.up(&format!("agent{agent}"), 4);
    }
    // Platforms that nobody offers must not be looked for again and again.
    let lost = |id: JobId| JobRecord { platform: format!("plan9-{id}/mips"), ..job(id) };
    desk.queue((20_001..=22_000).map(lost).collect());
    let repositories = ["alpha", "beta", "gamma", "delta"];
    let out = desk.queue((1..=10_000).map(|id| of(id, repositories[id as usize % 4])).collect());
    let mut running: Vec<JobKey> = assigned(&out).iter().map(|(_, key)| *key).collect();
    assert_eq!(running.len(), 200);
    let mut done = 0;
    while let Some(key) = running.pop() {
        let out = desk.give(Input::Ended(key, verdict(Outcome::Passed)));
        running.extend(assigned(&out).iter().map(|(_, key)| *key));
        desk.release(key.job);
        done += 1;
    }
    assert_eq!(done, 10_000);
    // 0.13 s on one core.
    assert!(began.elapsed().as_secs() < 60, "{:?}", began.elapsed());
    eprintln!("10 000 jobs in {:?}", began.elapsed());
    for id in 20_001..=22_000 {
        assert!(!desk.waiting(id).is_empty());
    }
}

/// Time in which so many agents come, tell their load, are given two jobs each and go, and each waiting job is explained.
fn a_day_with(agents: u64) -> std::time::Duration {
    let begun = std::time::Instant::now();
    let mut desk = Desk::new();
    let lost = |id: JobId| JobRecord { platform: "plan9/mips".to_string(), ..job(id) };
    desk.queue((1..=20).map(|id| lost(1_000_000 + id)).collect());
    for agent in 0..agents {
        let name = format!("agent{agent}");
        desk.greet(&name, &[GCC, "linux-debian-11/x86_64/gcc"], 1, &["alpha"], &[]);
        desk.give(Input::AgentLoad { agent: name, load_permille: (agent % 100) as u32 });
        desk.scheduler.deadline();
    }
    let mut running = assigned(&desk.queue((1..=2 * agents).map(job).collect())).len();
    assert_eq!(running as u64, agents);
    let reasons = desk.scheduler.reasons(desk.now);
    assert_eq!(reasons.len() as u64, agents + 20);
    let oldest = reasons.values().next().cloned();
    assert_eq!(oldest, desk.scheduler.waiting(desk.now, *reasons.keys().next().expect("a job that waits")));
    for id in 1..=2 * agents {
        let attempt = desk.record(id).attempt;
        running += assigned(&desk.give(Input::Ended(key(id, attempt), verdict(Outcome::Passed)))).len();
        desk.release(id);
    }
    assert_eq!(running as u64, 2 * agents);
    for agent in 0..agents {
        desk.give(Input::AgentDown(format!("agent{agent}")));
    }
    begun.elapsed()
}

#[test]
fn what_agents_cost_grows_as_their_number_does_and_not_as_its_square() {
    let least = |agents| (0..3).map(|_| a_day_with(agents)).min().unwrap_or_default();
    let (few, many) = (least(500), least(4000));
    // Eight times as many; sixty-four times as long would be the square.
    assert!(many < few * 24, "{few:?} for 500 agents, {many:?} for 4000");
}
