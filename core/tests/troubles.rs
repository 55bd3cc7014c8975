//! Trouble of agents, images and repositories, absences and sleep, against who is kept waiting by it.

mod desk;

use desk::{Desk, GCC, assigned, job, key, of, on, verdict};
use sai_core::job::{Blame, JobState, Outcome, Verdict};
use sai_core::ledger::JobRecord;
use sai_core::scheduler::{Input, Output};

const GOOD: &str = "linux-good/x86_64/gcc";
const BAD: &str = "linux-bad/x86_64/gcc";

fn broken(desk: &mut Desk, id: u64, blame: Blame) -> Vec<Output> {
    let attempt = desk.record(id).attempt;
    let verdict = Verdict { trouble: blame.word(), ..verdict(Outcome::Infra) };
    desk.give(Input::Ended(key(id, attempt), verdict))
}

#[test]
fn a_repository_takes_no_agent_away_from_others() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    for id in 1..=20 {
        desk.queue(vec![of(id, "bad")]);
        assert_eq!(desk.state(id), JobState::Assigned, "job {id}");
        broken(&mut desk, id, Blame::Repository);
        desk.give(Input::Cancel(vec![id], "enough".to_string()));
        assert_eq!(desk.paused("a"), "");
        // Nor does it wait behind the bad ones.
        assert_eq!(assigned(&desk.queue(vec![of(100 + id, "good")])), [("a", key(100 + id, 1))]);
        desk.give(Input::Ended(key(100 + id, 1), verdict(Outcome::Passed)));
    }
    let trouble = desk.scheduler.repository_trouble("bad").expect("counted where it belongs");
    assert_eq!(trouble, "had trouble 20 times in a row, last: the mirror broke");
    assert_eq!(desk.scheduler.repository_trouble("good"), None);
    // A job of it that was never tried is tried at once, one that was waits longer than for trouble of an agent.
    assert_eq!(assigned(&desk.queue(vec![of(21, "bad")])), [("a", key(21, 1))]);
    broken(&mut desk, 21, Blame::Repository);
    assert_eq!(assigned(&desk.pass(29_999)), []);
    // A success ends all of it.
    assert_eq!(assigned(&desk.queue(vec![of(22, "bad")])), [("a", key(22, 1))]);
    desk.give(Input::Ended(key(22, 1), verdict(Outcome::Passed)));
    assert_eq!(desk.scheduler.repository_trouble("bad"), None);
}

#[test]
fn a_broken_image_keeps_only_its_own_jobs_waiting() {
    for blame in [Blame::Platform, Blame::Agent] {
        let mut desk = Desk::new();
        desk.greet("a", &[GOOD, BAD], 1, &[], &[]);
        for id in 1..=3 {
            desk.queue(vec![on(id, BAD)]);
            broken(&mut desk, id, blame);
            desk.give(Input::Cancel(vec![id], "enough".to_string()));
        }
        let paused = format!("{BAD} had trouble 3 times in a row, last: the mirror broke; no job of it for 30 s");
        assert_eq!(desk.paused("a"), paused);
        assert_eq!(assigned(&desk.queue(vec![on(4, BAD)])), []);
        assert_eq!(desk.waiting(4), format!("1 agent offers {BAD}: 1 paused after trouble; no older job waits"));
        assert_eq!(assigned(&desk.queue(vec![on(5, GOOD)])), [("a", key(5, 1))]);
        // That the other image is whole says nothing about this one.
        desk.give(Input::Ended(key(5, 1), verdict(Outcome::Passed)));
        assert_eq!(desk.paused("a"), paused);
        assert_eq!(assigned(&desk.pass(30_000)), [("a", key(4, 1))]);
    }
}

#[test]
fn a_job_that_met_trouble_in_one_image_gets_another_and_the_bad_one_is_set_aside_alone() {
    let mut desk = Desk::new();
    desk.greet("a", &[BAD, GOOD], 2, &[], &[]);
    for id in 1..=3 {
        assert_eq!(assigned(&desk.queue(vec![on(id, "linux")])), [("a", key(id, 1))]);
        assert_eq!(desk.record(id).offered.as_deref(), Some(BAD), "its agent's first choice");
        broken(&mut desk, id, Blame::Platform);
        assert_eq!(assigned(&desk.pass(1_000)), [("a", key(id, 2))]);
        assert_eq!(desk.record(id).offered.as_deref(), Some(GOOD));
        desk.give(Input::Ended(key(id, 2), verdict(Outcome::Passed)));
        assert_eq!(desk.state(id), JobState::Passed);
    }
    let paused = format!("{BAD} had trouble 3 times in a row, last: the mirror broke; no job of it for 29 s");
    assert_eq!(desk.paused("a"), paused, "what passed in the other image says nothing about it");
    // Who wants no more than linux gets the good one from the first attempt on, who wants the bad one waits.
    desk.queue(vec![on(4, "linux"), on(5, BAD), on(6, "linux//gcc"), on(7, "linux")]);
    assert_eq!(desk.record(4).offered.as_deref(), Some(GOOD));
    assert_eq!((desk.state(5), desk.record(6).offered.as_deref()), (JobState::Queued, Some(GOOD)));
    let why = format!("1 agent offers linux: 1 busy (without {BAD} on a, paused after trouble); 1 older job waits too");
    assert_eq!(desk.waiting(7), why);
    // After the pause it is tried once more, and is doubled by the next trouble.
    desk.give(Input::Ended(key(4, 1), verdict(Outcome::Passed)));
    desk.give(Input::Ended(key(6, 1), verdict(Outcome::Passed)));
    desk.give(Input::Ended(key(7, 1), verdict(Outcome::Passed)));
    assert_eq!(assigned(&desk.pass(29_000)), [("a", key(5, 1))]);
    broken(&mut desk, 5, Blame::Platform);
    assert!(desk.paused("a").ends_with("no job of it for 60 s"), "{}", desk.paused("a"));
}

#[test]
fn an_image_that_is_made_anew_begins_anew() {
    let mut desk = Desk::new();
    desk.greet("a", &[BAD, GOOD], 1, &[], &[]);
    for id in 1..=3 {
        desk.queue(vec![on(id, BAD)]);
        broken(&mut desk, id, Blame::Platform);
        desk.give(Input::Cancel(vec![id], "enough".to_string()));
    }
    assert_ne!(desk.paused("a"), "");
    let offer = |platforms: &[&str]| Input::AgentOffer {
        agent: "a".to_string(),
        platforms: platforms.iter().map(ToString::to_string).collect(),
        slots: 1,
        boards: Vec::new(),
    };
    desk.give(offer(&[GOOD]));
    assert_eq!(desk.paused("a"), "");
    desk.give(offer(&[BAD, GOOD]));
    assert_eq!(assigned(&desk.queue(vec![on(4, BAD)])), [("a", key(4, 1))]);
}

#[test]
fn after_trouble_of_an_image_another_image_goes_first_and_after_an_agents_another_agent() {
    let mut desk = Desk::new();
    // A fleet with the same bad image everywhere, made alike.
    for name in ["a", "b", "c"] {
        desk.greet(name, &[BAD, GOOD], 1, &[], &[]);
    }
    assert_eq!(assigned(&desk.queue(vec![on(1, "linux")])), [("a", key(1, 1))]);
    broken(&mut desk, 1, Blame::Platform);
    desk.pass(1_000);
    assert_eq!((desk.state(1), desk.record(1).offered.as_deref()), (JobState::Assigned, Some(GOOD)));
    desk.give(Input::Ended(key(1, 2), verdict(Outcome::Passed)));
    // Where an agent is the trouble, what it offers beside that is none the better.
    let mut desk = Desk::new();
    desk.greet("a", &[BAD, GOOD], 1, &["alpha"], &[]);
    desk.greet("b", &[BAD], 1, &[], &[]);
    assert_eq!(assigned(&desk.queue(vec![on(1, "linux")])), [("a", key(1, 1))]);
    broken(&mut desk, 1, Blame::Agent);
    assert_eq!(assigned(&desk.pass(1_000)), [("b", key(1, 2))]);
    broken(&mut desk, 1, Blame::Platform);
    // Both have failed it: what is left is the other image.
    assert_eq!(assigned(&desk.pass(2_000)), [("a", key(1, 3))]);
    assert_eq!(desk.record(1).offered.as_deref(), Some(GOOD));
}

#[test]
fn a_master_that_has_just_started_knows_where_a_job_met_trouble() {
    let mut desk = Desk::new();
    let record = JobRecord {
        agent: Some("a".to_string()),
        attempt: 1,
        infra: 1,
        offered: Some(BAD.to_string()),
        ..on(1, "linux")
    };
    desk.give(Input::Restore(record, 60));
    assert_eq!(assigned(&desk.greet("a", &[BAD, GOOD], 1, &[], &[])), [("a", key(1, 2))]);
    assert_eq!(desk.record(1).offered.as_deref(), Some(GOOD));
}

#[test]
fn an_agent_that_chooses_by_itself_is_judged_by_what_was_wanted() {
    let mut desk = Desk::new();
    desk.told = false;
    desk.greet("a", &[BAD, GOOD], 1, &[], &[]);
    for id in 1..=3 {
        desk.queue(vec![on(id, "linux")]);
        assert_eq!(desk.record(id).offered, None);
        broken(&mut desk, id, Blame::Platform);
        desk.give(Input::Cancel(vec![id], "enough".to_string()));
    }
    assert!(desk.paused("a").starts_with("linux had trouble 3 times in a row"), "{}", desk.paused("a"));
    assert_eq!(assigned(&desk.queue(vec![on(4, "linux")])), []);
    assert_eq!(assigned(&desk.queue(vec![on(5, GOOD)])), [("a", key(5, 1))]);
}

#[test]
fn steps_that_are_root_have_troubles_of_their_own() {
    let mut desk = Desk::new();
    let rooted = ["linux-bad/x86_64/gcc", "linux-good/x86_64/gcc"].map(sai_core::platform::as_root);
    desk.greet("a", &[BAD, GOOD, &rooted[0], &rooted[1]], 1, &[], &[]);
    desk.queue(vec![JobRecord { root: Some(true), ..on(1, "linux") }]);
    assert_eq!(desk.record(1).offered.as_deref(), Some(BAD));
    broken(&mut desk, 1, Blame::Platform);
    desk.pass(1_000);
    assert_eq!((desk.state(1), desk.record(1).offered.as_deref()), (JobState::Assigned, Some(GOOD)));
}

#[test]
fn a_success_ends_the_pause_with_the_count() {
    let mut desk = Desk::new();
    desk.up("a", 4);
    desk.queue((1..=4).map(job).collect());
    for id in 1..=3 {
        broken(&mut desk, id, Blame::Agent);
    }
    assert_ne!(desk.paused("a"), "");
    // A fourth, begun before, does well.
    assert_eq!(assigned(&desk.queue(vec![job(5)])), []);
    let out = desk.give(Input::Ended(key(4, 1), verdict(Outcome::Failed)));
    assert_eq!(desk.paused("a"), "");
    assert_eq!(assigned(&out), [("a", key(5, 1))]);
    broken(&mut desk, 5, Blame::Agent);
    assert_eq!(desk.paused("a"), "", "the row begins anew");
}

#[test]
fn who_gives_an_agent_jobs_again_ends_its_pauses() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    for id in 1..=3 {
        desk.queue(vec![job(id)]);
        broken(&mut desk, id, Blame::Agent);
        desk.give(Input::Cancel(vec![id], "enough".to_string()));
    }
    assert_eq!(assigned(&desk.queue(vec![job(4)])), []);
    let out = desk.give(Input::SetAside { agent: "a".to_string(), aside: false });
    assert_eq!(assigned(&out), [("a", key(4, 1))]);
}

#[test]
fn a_power_cut_is_one_trouble_however_many_jobs_it_ended() {
    let mut desk = Desk::new();
    desk.up("a", 6);
    desk.queue((1..=6).map(job).collect());
    for id in 1..=5 {
        desk.give(Input::Started(key(id, 1), Some(0)));
    }
    // The sixth had not reached the disk.
    desk.give(Input::AgentDown("a".to_string()));
    let held: Vec<_> = (1..=5).map(|id| key(id, 1)).collect();
    desk.greet("a", &[GCC], 6, &[], &held);
    for id in 1..=2 {
        broken(&mut desk, id, Blame::Agent);
    }
    // The link breaks in between; what is left is of the same cut.
    desk.give(Input::AgentDown("a".to_string()));
    desk.greet("a", &[GCC], 6, &[], &held[2..]);
    for id in 3..=5 {
        broken(&mut desk, id, Blame::Agent);
    }
    assert_eq!(desk.paused("a"), "");
    // It was one, so two more make three.
    desk.queue((11..=12).map(job).collect());
    broken(&mut desk, 11, Blame::Agent);
    assert_eq!(desk.paused("a"), "");
    broken(&mut desk, 12, Blame::Agent);
    assert!(desk.paused("a").contains("3 times in a row"), "{}", desk.paused("a"));
}

#[test]
fn a_power_cut_is_one_trouble_for_a_master_that_has_just_started_too() {
    let mut desk = Desk::new();
    let records = (1..=6).map(|id| JobRecord {
        state: JobState::Running,
        attempt: 1,
        agent: Some("a".to_string()),
        assigned_at: Some(7),
        started_at: Some(8),
        ..job(id)
    });
    for record in records {
        desk.give(Input::Restore(record, 60));
    }
    let held: Vec<_> = (1..=6).map(|id| key(id, 1)).collect();
    desk.greet("a", &[GCC], 6, &[], &held);
    for id in 1..=6 {
        broken(&mut desk, id, Blame::Agent);
    }
    assert_eq!(desk.paused("a"), "");
}

#[test]
fn only_time_with_the_agent_connected_makes_a_job_overdue() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Started(key(1, 1), Some(0)));
    // 60 s of its own and 20 s of ours, in pieces of 9 s with absences of 9 s, each shorter than it is awaited.
    for _ in 0..8 {
        assert_eq!(desk.pass(9_000), []);
        desk.give(Input::AgentDown("a".to_string()));
        assert_eq!(desk.pass(9_000), []);
        desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    }
    assert_eq!(desk.pass(7_999), []);
    assert_eq!(desk.state(1), JobState::Running);
    assert_eq!(desk.pass(1).last(), Some(&Output::Changed(1)));
    assert_eq!(desk.record(1).cause, "a did not end it in time");
}

#[test]
fn a_master_that_was_away_for_long_takes_what_its_agents_have() {
    let mut desk = Desk::new();
    // It was assigned years ago, as the clock on the wall says, which may be wrong in both directions.
    for (id, at) in [(1, 5), (2, u64::MAX / 2)] {
        let record = JobRecord {
            state: JobState::Running,
            attempt: 1,
            agent: Some("a".to_string()),
            queued_at: at,
            assigned_at: Some(at),
            started_at: Some(at),
            ..job(id)
        };
        desk.give(Input::Restore(record, 60));
    }
    desk.give(Input::Restore(JobRecord { queued_at: 5, ..job(3) }, 60));
    assert_eq!(desk.pass(9_000), []);
    desk.greet("a", &[GCC], 2, &[], &[key(1, 1), key(2, 1)]);
    assert_eq!(desk.pass(50_000), []);
    for id in [1, 2] {
        desk.give(Input::Ended(key(id, 1), verdict(Outcome::Passed)));
        assert_eq!(desk.state(id), JobState::Passed);
    }
    assert_eq!(desk.state(3), JobState::Assigned);
}

#[test]
fn an_agent_that_comes_back_late_is_believed_as_long_as_no_other_attempt_has_begun() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::Started(key(1, 1), Some(0)));
    desk.give(Input::AgentDown("a".to_string()));
    assert_eq!(desk.pass(30_000), [Output::Changed(1)]);
    assert_eq!((desk.state(1), desk.record(1).infra), (JobState::Queued, 1));
    let out = desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]);
    assert_eq!(out, [Output::Changed(1), Output::Adopt("a".to_string(), key(1, 1))]);
    let record = desk.record(1);
    assert_eq!((record.state, record.attempt, record.infra), (JobState::Running, 1, 0));
    let out = desk.give(Input::Ended(key(1, 1), verdict(Outcome::Passed)));
    assert_eq!(out, [Output::Forget("a".to_string(), key(1, 1)), Output::Changed(1)]);
    assert_eq!(desk.state(1), JobState::Passed);
}

#[test]
fn an_end_that_becomes_durable_late_is_believed_too() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.pass(30_000);
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Passed)));
    assert_eq!((desk.state(1), desk.record(1).attempt), (JobState::Passed, 1));
}

#[test]
fn a_new_master_still_believes_who_comes_late() {
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1), job(2)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.pass(30_000);
    let mut next = Desk::new();
    for id in [1, 2] {
        next.give(Input::Restore(desk.record(id), 60));
    }
    let out = next.greet("a", &[GCC], 1, &[], &[key(1, 1), key(2, 1)]);
    assert!(out.contains(&Output::Adopt("a".to_string(), key(1, 1))), "{out:?}");
    // The other has had no attempt that could be believed.
    assert!(out.contains(&Output::Forget("a".to_string(), key(2, 1))), "{out:?}");
}

#[test]
fn what_is_not_awaited_any_more_is_forgotten() {
    let awaited = || {
        let mut desk = Desk::new();
        desk.up("a", 1);
        desk.queue(vec![job(1)]);
        desk.give(Input::AgentDown("a".to_string()));
        desk.pass(30_000);
        desk
    };
    let forget = Output::Forget("a".to_string(), key(1, 1));
    // Another attempt begins.
    let mut desk = awaited();
    let out = desk.up("b", 1);
    assert_eq!(out, [forget.clone(), Output::Changed(1), Output::Assign("b".to_string(), key(1, 2))]);
    assert_eq!(desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]), std::slice::from_ref(&forget));
    desk.give(Input::Ended(key(1, 1), verdict(Outcome::Failed)));
    assert_eq!(desk.state(1), JobState::Assigned);
    // Somebody cancels the job.
    let mut desk = awaited();
    assert_eq!(desk.give(Input::Cancel(vec![1], "by anna".to_string())), [forget.clone(), Output::Changed(1)]);
    // Another machine says that it has it.
    let mut desk = awaited();
    let out = desk.greet("b", &[GCC], 0, &[], &[key(1, 1)]);
    assert_eq!(out, [Output::Forget("b".to_string(), key(1, 1))]);
    // An attempt that ended through trouble is not one that is awaited.
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.queue(vec![job(1)]);
    broken(&mut desk, 1, Blame::Agent);
    assert_eq!(desk.greet("a", &[GCC], 1, &[], &[key(1, 1)]), [forget]);
}

#[test]
fn nobody_is_late_for_the_time_in_which_the_master_slept() {
    const NIGHT: u64 = 8 * 3_600_000;
    let mut desk = Desk::new();
    desk.up("a", 1);
    desk.up("b", 1);
    desk.queue(vec![job(1), job(2)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.now += NIGHT;
    desk.give(Input::Slept(NIGHT));
    assert_eq!(desk.pass(9_999), []);
    assert_eq!((desk.state(1), desk.state(2)), (JobState::Assigned, JobState::Assigned));
    desk.pass(1);
    assert_eq!(desk.state(1), JobState::Queued);
    desk.pass(70_000);
    assert_ne!(desk.record(2).cause, "", "b did not end it in time");
}
