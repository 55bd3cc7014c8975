//! A scheduler on a desk: inputs go in, time passes, what it says comes out.

#![allow(dead_code, reason = "each test file uses a part of it")]

use sai_core::clock::Now;
use sai_core::job::{Fault, JobId, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::JobRecord;
use sai_core::limits::Millis;
use sai_core::scheduler::{Greeting, Input, Output, Policy, Scheduler};

/// How far the wall clock is from the steady one.
pub const WALL: Millis = 1_700_000_000_000;

pub const GCC: &str = "linux-debian-12/x86_64/gcc";

pub fn key(job: JobId, attempt: u32) -> JobKey {
    JobKey { job, attempt }
}

pub fn job(id: JobId) -> JobRecord {
    JobRecord {
        platform: "linux/x86_64".to_string(),
        configuration: "default".to_string(),
        steps: 1,
        ..JobRecord::queued(id, 1, "alpha", 0)
    }
}

/// A job that wants this platform.
pub fn on(id: JobId, platform: &str) -> JobRecord {
    JobRecord { platform: platform.to_string(), ..job(id) }
}

pub fn of(id: JobId, repository: &str) -> JobRecord {
    JobRecord { repository: repository.to_string(), ..job(id) }
}

pub fn verdict(outcome: Outcome) -> Verdict {
    let (fault, cause) = match outcome {
        Outcome::Passed => (Fault::Nobody, ""),
        Outcome::Infra => (Fault::Infrastructure, "the mirror broke"),
        Outcome::Cancelled => (Fault::Person, "asked to"),
        _ => (Fault::Job, "step 1 ended with status 2"),
    };
    Verdict { outcome, fault, cause: cause.to_string(), step: None, status: None, trouble: None, verdict: None }
}

fn policy() -> Policy {
    Policy {
        orphan_ms: 10_000,
        expire_ms: 100_000,
        retry_ms: 1_000,
        cancel_ms: 5_000,
        overdue_ms: 20_000,
        aside_ms: 30_000,
        grace_ms: 40_000,
    }
}

/// A scheduler and the moment it is.
pub struct Desk {
    /// Whether agents that greet are told in which of their platforms a job is to run.
    pub told: bool,
    pub scheduler: Scheduler,
    pub now: Millis,
}

impl Desk {
    pub fn new() -> Self {
        Self { told: true, scheduler: Scheduler::new(policy()), now: 1_000_000 }
    }

    /// Offers these units from now on.
    pub fn offer(&mut self, units: &[(&str, u32)]) {
        let units = units.iter().map(|(unit, amount)| (unit.to_string(), *amount)).collect();
        self.give(Input::Settings(policy(), units));
    }

    /// Lets an ended job go; gives its record, or none when it has not ended.
    pub fn release(&mut self, id: JobId) -> Option<JobRecord> {
        let record = self.scheduler.job(id).filter(|record| record.state.ended()).cloned()?;
        assert_eq!(self.give(Input::Release(id)), []);
        assert_eq!(self.scheduler.job(id), None);
        Some(record)
    }

    pub fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.scheduler.handle(self.moment(), input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        out
    }

    /// Lets time pass up to `now + wait`, ticking whenever the scheduler wants to.
    pub fn pass(&mut self, wait: Millis) -> Vec<Output> {
        let until = self.now + wait;
        let mut out = Vec::new();
        while let Some(due) = self.scheduler.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.scheduler.handle(self.moment(), Input::Tick, &mut out);
            assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        }
        self.now = until;
        out
    }

    /// The wall clock says something else altogether.
    pub fn moment(&self) -> Now {
        Now { steady: self.now, wall: self.now + WALL }
    }

    pub fn queue(&mut self, jobs: Vec<JobRecord>) -> Vec<Output> {
        self.give(Input::Queue(jobs.into_iter().map(|record| (record, 60)).collect()))
    }

    pub fn up(&mut self, agent: &str, slots: u32) -> Vec<Output> {
        self.greet(agent, &[GCC], slots, &[], &[])
    }

    pub fn greet(
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
            needs: true,
            several: true,
            leases: true,
            told: self.told,
            mirrors: own(mirrors),
            holds: holds.to_vec(),
            boards: Vec::new(),
            bundles: true,
        }))
    }

    pub fn state(&self, id: JobId) -> JobState {
        self.scheduler.job(id).expect("a job that was queued").state
    }

    pub fn record(&self, id: JobId) -> JobRecord {
        self.scheduler.job(id).expect("a job that was queued").clone()
    }

    /// What this agent gets no jobs of, and why.
    pub fn paused(&self, agent: &str) -> String {
        self.scheduler.paused(self.now, agent).join("; ")
    }

    pub fn waiting(&self, id: JobId) -> String {
        self.scheduler.waiting(self.now, id).unwrap_or_default()
    }
}

/// Who was given what, in order.
pub fn assigned(out: &[Output]) -> Vec<(&str, JobKey)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Assign(agent, key) => Some((agent.as_str(), *key)),
            _ => None,
        })
        .collect()
}
