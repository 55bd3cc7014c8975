//! Attempts that are given up, or taken back → jobs that are queued again, and those that somebody cancels.

use super::{DOUBLINGS, Output, RELEASED, Scheduler};
use crate::clock::Now;
use crate::job::{Blame, Fault, JobId, JobKey, JobState};
use crate::ledger::{JobRecord, Tried};
use crate::limits::INFRA_ATTEMPTS;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Attempts at boards that a job's record tells of beside its last one: more than one row of troubles.
const TRIED: usize = 8;

impl Scheduler {
    /// Queues a job again, `infra` troubles richer: none for an attempt that never began.
    pub(super) fn again(&mut self, now: Now, key: JobKey, why: String, infra: u32, out: &mut Vec<Output>) {
        // Trouble of an attempt that was given up before.
        if self.holder(key).is_none() {
            return;
        }
        if let Some(name) = self.free_slot(now, key) {
            out.push(Output::Forget(name, key));
        }
        self.requeue(now, key, why, infra, out);
    }

    /// The agent of an attempt did not come back in time. The job is queued again, but nothing of the attempt is thrown
    /// away before another one begins.
    pub(super) fn orphaned(&mut self, now: Now, key: JobKey, why: String, out: &mut Vec<Output>) {
        if self.holder(key).is_none() || self.free_slot(now, key).is_none() {
            return self.bugs.note("orphaned: nobody runs it");
        }
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.record.awaited = Some(true);
        }
        self.requeue(now, key, why, 1, out);
    }

    /// The agent that is believed if it comes back with this attempt, which was given up: no other has been begun.
    pub fn awaited(&self, key: JobKey) -> Option<&str> {
        let record = &self.jobs.get(&key.job)?.record;
        let awaited = record.state == JobState::Queued && record.awaited == Some(true) && record.attempt == key.attempt;
        if awaited { record.agent.as_deref() } else { None }
    }

    /// Gives an attempt back to the agent that was not awaited any longer, if no other has been begun.
    pub(super) fn reclaim(&mut self, key: JobKey, name: &str, out: &mut Vec<Output>) -> bool {
        // An agent may come with what ended long ago.
        let Some(job) = self.jobs.get_mut(&key.job) else { return false };
        let record = &mut job.record;
        let same = record.attempt == key.attempt && record.agent.as_deref() == Some(name);
        if record.state != JobState::Queued || record.awaited != Some(true) || !same {
            return false;
        }
        record.state = if record.started_at.is_some() { JobState::Running } else { JobState::Assigned };
        record.awaited = None;
        record.infra = record.infra.saturating_sub(1);
        record.cause = String::new();
        record.fault = Fault::Nobody;
        self.dequeue(key.job);
        self.hold_slot(name, key);
        self.units.regain(key);
        self.rearm(key.job);
        out.push(Output::Changed(key.job));
        true
    }

    pub(super) fn requeue(&mut self, now: Now, key: JobKey, why: String, infra: u32, out: &mut Vec<Output>) {
        let retry_ms = self.policy.retry_ms;
        let repository_ms = self.repository_wait(key.job);
        let Some(job) = self.jobs.get_mut(&key.job) else { return self.bugs.note("requeue: no such job") };
        job.orphan = None;
        job.seen_since = None;
        if let Some((who, _)) = job.cancelled.take() {
            self.end(now, key.job, JobState::Cancelled, Fault::Person, who, out);
            return;
        }
        let begins_once = job.record.session.is_some() || job.record.lease.is_some();
        if begins_once && job.record.step.is_some() {
            // What its command, or its person, had begun cannot be begun a second time.
            self.end(now, key.job, JobState::Infra, Fault::Infrastructure, why, out);
            return;
        }
        let unwell = job.record.health.is_some() && job.met.last().is_some_and(|met| met.blame == Blame::Platform);
        if infra > 0 && unwell {
            // It has found out what it was to.
            self.end(now, key.job, JobState::Infra, Fault::Infrastructure, why, out);
            return;
        }
        job.record.infra += infra;
        if job.record.infra >= INFRA_ATTEMPTS {
            let cause = format!("{} times in a row, last: {why}", job.record.infra);
            self.end(now, key.job, JobState::Infra, Fault::Infrastructure, cause, out);
            return;
        }
        if infra > 0 {
            let retry_ms = retry_ms << (job.record.infra - 1).min(DOUBLINGS);
            job.not_before = now.steady.saturating_add(retry_ms.max(repository_ms));
        }
        job.waits_since = now.steady;
        let board = job.troubled().filter(|_| infra > 0).map(ToString::to_string);
        let record = &mut job.record;
        if let (Some(board), Some(agent)) = (board, record.agent.clone()) {
            let word = job.troubled_at.as_ref().map(|found| found.word.clone());
            let tried = Tried { attempt: record.attempt, agent, board, word, why: why.clone(), at: now.wall };
            let all = record.tried.get_or_insert_default();
            all.push(tried);
            let more = all.len().saturating_sub(TRIED);
            all.drain(..more);
        }
        record.state = JobState::Queued;
        record.queued_at = now.wall;
        record.cause = why;
        record.fault = Fault::Infrastructure;
        record.step = None;
        self.enqueue(now, key.job);
        out.push(Output::Changed(key.job));
        self.end_sessions(now, key.job, out);
    }

    /// Forgets an ended job, but for what it was that ended.
    pub(super) fn release(&mut self, id: JobId) {
        if self.unfinished(id) {
            return self.bugs.note("release: the job has not ended");
        }
        self.set_timer(id, None);
        let Some(job) = self.jobs.remove(&id) else { return self.bugs.note("release: no such job") };
        self.released.insert(id, (job.record.attempt, job.record.state));
        if self.released.len() > RELEASED {
            self.released.pop_first();
        }
    }

    /// Trouble that ends an attempt and says nothing about its agent.
    pub(super) fn broken_quietly(&mut self, now: Now, key: JobKey, why: String, out: &mut Vec<Output>) {
        self.again(now, key, why, 1, out);
    }

    pub(super) fn impossible(&mut self, now: Now, id: JobId, why: String, out: &mut Vec<Output>) {
        // It has ended meanwhile.
        let Some(record) = self.job(id).filter(|record| !record.state.ended()) else { return };
        let key = JobKey { job: id, attempt: record.attempt };
        if self.holder(key).is_some()
            && let Some(name) = self.free_slot(now, key)
        {
            out.push(Output::Forget(name, key));
        }
        self.end(now, id, JobState::Infra, Fault::Infrastructure, why, out);
    }

    /// Ends jobs that were never taken up again. Each ends by itself, since what it needs is lost with it.
    pub(super) fn lose(&mut self, now: Now, records: Vec<JobRecord>, why: &str, out: &mut Vec<Output>) {
        for record in records.into_iter().filter(|record| !record.state.ended()) {
            let id = record.id;
            if !self.unfinished(id) {
                self.insert(now, record, 0);
                self.end(now, id, JobState::Infra, Fault::Infrastructure, why.to_string(), out);
            }
        }
    }

    pub(super) fn cancel(&mut self, now: Now, ids: Vec<JobId>, who: &str, out: &mut Vec<Output>) {
        // Those that wait for others first, so that none is skipped for one that is cancelled with it.
        let (blocked, others): (Vec<JobId>, Vec<JobId>) = ids.into_iter().partition(|id| self.waits_for_others(*id));
        blocked.iter().for_each(|id| self.unlink(*id));
        for id in blocked.into_iter().chain(others) {
            self.cancel_one(now, id, who.to_string(), out);
        }
    }

    pub(super) fn cancel_one(&mut self, now: Now, id: JobId, who: String, out: &mut Vec<Output>) {
        let until = self.cancel_until(now);
        // It has ended while somebody asked for its end.
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let key = JobKey { job: id, attempt: job.record.attempt };
        match job.record.state {
            JobState::Queued => self.end(now, id, JobState::Cancelled, Fault::Person, who, out),
            JobState::Assigned | JobState::Running => {
                if job.cancelled.is_some() {
                    return;
                }
                // The record says so, since a master that restarts must not let the job go on or begin anew.
                job.record.cause.clone_from(&who);
                job.record.fault = Fault::Person;
                job.cancelled = Some((who.clone(), until));
                let Some(name) = job.record.agent.clone() else {
                    return self.bugs.note("cancel: nobody runs what is under way");
                };
                self.rearm(id);
                out.push(Output::Changed(id));
                if self.agents.get(&name).is_some_and(|agent| agent.connected) {
                    out.push(Output::Cancel(name, key, who));
                } else {
                    self.broken_quietly(now, key, who, out);
                }
            }
            // Ended, and not released yet.
            _ => {}
        }
    }
}

/// Ends the waiting for an agent that was awaited beyond its time; gives what it might still come back with.
pub(super) fn no_longer_awaited(record: &mut JobRecord) -> Option<(String, JobKey)> {
    let awaited = record.awaited.take() == Some(true);
    let key = JobKey { job: record.id, attempt: record.attempt };
    record.agent.clone().filter(|_| awaited).map(|name| (name, key))
}
