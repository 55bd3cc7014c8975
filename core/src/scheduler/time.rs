//! The steady clock and the one timer of each job → what is due: agents that stay away or do not end a job, cancels
//! that take too long, jobs that nobody serves.

use super::{Output, Scheduler, wants};
use crate::clock::Now;
use crate::job::{Blame, Fault, JobId, JobKey, JobState};
use crate::limits::Millis;
use crate::platform::described;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Milliseconds that an agent has to end a cancelled job while the master's disk is full. What it still has to say may find
/// no room until the job has ended, and what is removed then is the room.
pub const CANCEL_FULL_MS: Millis = 2_000;

impl Scheduler {
    pub(super) fn set_timer(&mut self, id: JobId, timer: Option<Millis>) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("set_timer: no such job") };
        if let Some(old) = job.timer.take() {
            self.timers.remove(&(old, id));
        }
        job.timer = timer;
        if let Some(at) = timer {
            self.timers.insert((at, id));
        }
    }

    /// Sets the job's one timer to whatever comes first for it.
    pub(super) fn rearm(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return self.bugs.note("rearm: no such job") };
        let record = &job.record;
        let timer = match record.state {
            JobState::Queued if record.blocked == Some(true) => None,
            JobState::Queued => {
                let queue = Self::queue_of(job);
                let mut queues = [&self.queues, &self.unoffered].into_iter().filter_map(|queues| queues.get(&queue));
                let waiting = queues.any(|ids| ids.contains(&id));
                Some(if waiting { job.waits_since.saturating_add(self.policy.expire_ms) } else { job.not_before })
            }
            JobState::Assigned | JobState::Running => {
                let allowed = job.timeout_s.saturating_mul(1000).saturating_add(self.policy.overdue_ms);
                let overdue = job.seen_since.map(|at| at.saturating_add(allowed.saturating_sub(job.ran_ms)));
                let cancelled = job.cancelled.as_ref().map(|(_, until)| *until);
                [overdue, cancelled, job.orphan].into_iter().flatten().min()
            }
            _ => None,
        };
        self.set_timer(id, timer);
    }

    pub(super) fn tick(&mut self, now: Now, out: &mut Vec<Output>) {
        while self.pauses.first().is_some_and(|until| *until <= now.steady) {
            self.pauses.pop_first();
        }
        self.units_due(now, out);
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now.steady {
                break;
            }
            self.timers.pop_first();
            self.due(now, id, out);
        }
    }

    fn due(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.timer = None;
        }
        let Some(job) = self.jobs.get(&id) else { return self.bugs.note("due: no such job") };
        let record = &job.record;
        let key = JobKey { job: id, attempt: record.attempt };
        match record.state {
            JobState::Queued if now.steady >= job.waits_since.saturating_add(self.policy.expire_ms) => {
                let (wanted, wants) = (job.asks(), wants(record));
                let possible = self.units.possible(&wants);
                if possible && self.is_here(&Self::queue_of(job)) {
                    // It waits for its turn, which will come; look again in as long a time, but never at once.
                    self.set_timer(id, Some(now.steady.saturating_add(self.policy.expire_ms.max(1_000))));
                } else {
                    let platform = described(wanted.platform);
                    let cause = match possible {
                        false => self.lacking(&wants),
                        true if record.board.is_some() => {
                            let board = record.board.as_ref().map(ToString::to_string).unwrap_or_default();
                            let there = self.told_of_boards(now.steady, job);
                            match there.is_empty() {
                                true => format!("no agent that offers {board} came in time"),
                                false => format!("{board} was not to be had in time: {there}"),
                            }
                        }
                        true if wanted.bundle => {
                            format!("no agent that offers {platform} and checks out what was not pushed came in time")
                        }
                        true if wanted.needs => {
                            format!("no agent that offers {platform} and fetches files came in time")
                        }
                        true => format!("no agent that offers {platform} came in time"),
                    };
                    self.end(now, id, JobState::Expired, Fault::Infrastructure, cause, out);
                }
            }
            JobState::Queued => self.enqueue(now, id),
            JobState::Assigned | JobState::Running => {
                let name = record.agent.clone().unwrap_or_default();
                if job.orphan.is_some_and(|until| now.steady >= until) {
                    self.orphaned(now, key, format!("{name} did not come back"), out);
                } else if job.cancelled.as_ref().is_some_and(|(_, until)| now.steady >= *until) {
                    self.broken_quietly(now, key, String::new(), out);
                } else {
                    self.rearm(id);
                    if self.jobs.get(&id).and_then(|job| job.timer).is_some_and(|at| at <= now.steady) {
                        self.broken(now, key, Blame::Agent, format!("{name} did not end it in time"), out);
                    }
                }
            }
            _ => self.bugs.note("due: the job has ended"),
        }
    }

    pub(super) fn agent_down(&mut self, now: Now, name: &str) {
        // Its link goes after its token was revoked.
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.connected = false;
        let runs: Vec<JobKey> = agent.runs.iter().copied().collect();
        self.file(name);
        for key in runs {
            self.watch(now, key.job, false);
            if let Some(job) = self.jobs.get_mut(&key.job) {
                job.orphan = Some(now.steady.saturating_add(self.policy.orphan_ms));
            }
            self.rearm(key.job);
        }
    }

    pub(super) fn agent_revoked(&mut self, now: Now, name: &str, out: &mut Vec<Output>) {
        self.agent_down(now, name);
        let runs: Vec<JobKey> = self.runs(name).collect();
        for key in runs {
            self.broken_quietly(now, key, format!("{name}'s token was revoked"), out);
        }
        if self.units.revoke(name) {
            out.push(Output::Holds(name.to_string()));
        }
        self.lift(name);
        self.agents.remove(name);
        self.benches.remove(name);
    }

    /// The agent of this job is connected from now on, or is not any more.
    pub(super) fn watch(&mut self, now: Now, id: JobId, connected: bool) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("watch: no such job") };
        if let Some(since) = job.seen_since.take() {
            job.ran_ms = job.ran_ms.saturating_add(now.steady.saturating_sub(since));
        }
        if connected {
            job.seen_since = Some(now.steady);
        }
    }

    /// Until when the verdict of a job is awaited that is cancelled now.
    pub(super) fn cancel_until(&self, now: Now) -> Millis {
        let full = self.hold.as_ref().map(|_| CANCEL_FULL_MS);
        now.steady.saturating_add(full.map_or(self.policy.cancel_ms, |full| full.min(self.policy.cancel_ms)))
    }

    /// Gives no more jobs out because the disk is full, or gives them out again.
    pub(super) fn hold(&mut self, now: Now, why: Option<String>) {
        self.hold = why;
        if self.hold.is_none() {
            return;
        }
        let until = self.cancel_until(now);
        let held: Vec<JobId> = self.agents.values().flat_map(|agent| agent.runs.iter().map(|key| key.job)).collect();
        for id in held {
            // Only what is cancelled has a moment to be moved.
            let Some((_, by)) = self.jobs.get_mut(&id).and_then(|job| job.cancelled.as_mut()) else { continue };
            *by = until.min(*by);
            self.rearm(id);
        }
    }

    /// Moves what is awaited of agents by the time in which none could have come.
    pub(super) fn slept(&mut self, slept: Millis) {
        let held: Vec<JobId> = self.agents.values().flat_map(|agent| agent.runs.iter().map(|key| key.job)).collect();
        for id in held {
            if let Some(job) = self.jobs.get_mut(&id) {
                let later = |at: &mut Millis| *at = at.saturating_add(slept);
                job.seen_since.iter_mut().for_each(later);
                job.orphan.iter_mut().for_each(later);
                job.cancelled.iter_mut().for_each(|(_, until)| later(until));
            }
            self.rearm(id);
        }
    }
}
