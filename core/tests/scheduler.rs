//! Inputs of the scheduler, in order, against what it says to do.

use sai_core::job::{Fault, JobId, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::JobRecord;
use sai_core::limits::Millis;
use sai_core::scheduler::{Greeting, Input, Output, Policy, Scheduler};

const GCC: &str = "linux-debian-12/x86_64/gcc";

fn key(job: JobId, attempt: u32) -> JobKey {
    JobKey { job, attempt }
}

fn job(id: JobId) -> JobRecord {
    JobRecord {
        id,
        event: 1,
        repository: "alpha".to_string(),
        platform: "linux/x86_64".to_string(),
        configuration: "default".to_string(),
        priority: 0,
        state: JobState::Queued,
        attempt: 0,
        infra: 0,
        agent: None,
        queued_at: 0,
        assigned_at: None,
        started_at: None,
        ended_at: None,
        cause: String::new(),
        fault: Fault::Nobody,
        verdict: None,
        steps: 1,
        step: None,
        log_bytes: 0,
        artifacts: Vec::new(),
    }
}

fn of(id: JobId, repository: &str) -> JobRecord {
    JobRecord { repository: repository.to_string(), ..job(id) }
}

fn verdict(outcome: Outcome) -> Verdict {
    let (fault, cause) = match outcome {
        Outcome::Passed => (Fault::Nobody, ""),
        Outcome::Infra => (Fault::Infrastructure, "the mirror broke"),
        Outcome::Cancelled => (Fault::Person, "asked to"),
        _ => (Fault::Job, "step 1 ended with status 2"),
    };
    Verdict { outcome, fault, cause: cause.to_string(), step: None, status: None }
}

/// A scheduler and the moment it is.
struct Desk {
    scheduler: Scheduler,
    now: Millis,
}

impl Desk {
    fn new() -> Self {
        let policy = Policy {
            orphan_ms: 10_000,
            expire_ms: 100_000,
            retry_ms: 1_000,
            cancel_ms: 5_000,
            overdue_ms: 20_000,
            aside_ms: 30_000,
        };
        Self { scheduler: Scheduler::new(policy), now: 1_000_000 }
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.scheduler.handle(self.now, input, &mut out);
        out
    }

    /// Lets time pass up to `now + wait`, ticking whenever the scheduler wants to.
    fn pass(&mut self, wait: Millis) -> Vec<Output> {
        let until = self.now + wait;
        let mut out = Vec::new();
        while let Some(due) = self.scheduler.deadline(self.now).filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.scheduler.handle(self.now, Input::Tick, &mut out);
        }
        self.now = until;
        out
    }

    fn queue(&mut self, jobs: Vec<JobRecord>) -> Vec<Output> {
        self.give(Input::Queue(jobs.into_iter().map(|record| (record, 60)).collect()))
    }

    fn up(&mut self, agent: &str, slots: u32) -> Vec<Output> {
        self.greet(agent, &[GCC], slots, &[], &[])
    }

    fn greet(
        &mut self,
        agent: &str,
        platforms: &[&str],
        slots: u32,
        mirrors: &[&str],
        holds: &[JobKey],
    ) -> Vec<Output> {
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        self.give(Input::AgentUp(Greeting {
            agent: agent.to_string(),
            platforms: own(platforms),
            slots,
            mirrors: own(mirrors),
            holds: holds.to_vec(),
        }))
    }

    fn state(&self, id: JobId) -> JobState {
        self.scheduler.job(id).expect("a job that was queued").state
    }

    fn record(&self, id: JobId) -> JobRecord {
        self.scheduler.job(id).expect("a job that was queued").clone()
    }

    fn waiting(&self, id: JobId) -> String {
        self.scheduler.waiting(self.now, id).unwrap_or_default()
    }
}

/// Who was given what, in order.
fn assigned(out: &[Output]) -> Vec<(&str, JobKey)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Assign(agent, key) => Some((agent.as_str(), *key)),
            _ => None,
        })
        .collect()
}

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
    let out = desk.give(Input::Cancel(1, "by anna".to_string()));
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
    desk.give(Input::Cancel(1, "by anna".to_string()));
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
    assert_eq!(desk.scheduler.aside(desk.now, "a"), None);
    assert_eq!(
        (desk.state(1), desk.record(1).infra, desk.record(1).fault),
        (JobState::Queued, 1, Fault::Infrastructure)
    );
    // The same of the agent's own sets it aside.
    desk.pass(2_000);
    for id in 1..=3 {
        desk.give(Input::Broken(key(id, 2), "the disk is full".to_string()));
    }
    assert!(desk.scheduler.aside(desk.now, "a").expect("a reason").contains("3 times in a row"));
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
    let old = desk.scheduler.release(1).expect("an ended job");
    desk.queue(vec![old.clone()]);
    desk.give(Input::Ended(key(1, 2), verdict(Outcome::Passed)));
    let new = desk.scheduler.release(1).expect("an ended job");
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
    assert!(desk.scheduler.aside(desk.now, "a").is_some());
    assert_eq!(assigned(&desk.pass(30_000)), [("a", key(1, 4))]);
    // Many at once are one trouble.
    desk.up("b", 4);
    desk.queue((2..=5).map(job).collect());
    desk.give(Input::AgentDown("b".to_string()));
    assert_eq!(assigned(&desk.up("b", 4)).len(), 4);
}

#[test]
fn times_of_nothing_make_no_busy_loop() {
    let policy = Policy { orphan_ms: 0, expire_ms: 0, retry_ms: 0, cancel_ms: 0, overdue_ms: 0, aside_ms: 0 };
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
    };
    let mut desk = Desk { scheduler: Scheduler::new(policy), ..Desk::new() };
    desk.up("a", 1);
    desk.queue(vec![job(1), job(2)]);
    desk.give(Input::AgentDown("a".to_string()));
    desk.give(Input::Cancel(1, "by anna".to_string()));
    assert_eq!(desk.state(1), JobState::Cancelled);
    assert!(desk.waiting(2).contains("away"));
}
