//! Attempts that ended through trouble → what is counted against whom, and who gets no job for a while because of it.
//!
//! Trouble is counted where its cause is, so that nobody else is kept from working by it: a remote that is away against
//! the repository, everything else against one platform of one agent. That an agent as a whole is broken is not to be
//! told from several of its images being so; then each of its platforms has its own row, and that is soon full.

use super::{Agent, DOUBLINGS, Output, Policy, Scheduler};
use crate::clock::Now;
use crate::job::{Blame, Fault, JobId, JobKey, Outcome, Verdict};
use crate::limits::{Millis, PLATFORMS};
use crate::ordered::Set;
use crate::platform::described;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Troubles in a row after which there is a pause.
const TROUBLES: u32 = 3;
/// Repositories whose troubles are counted at most: more than one master is configured for.
const REPOSITORIES: usize = 4096;
/// Characters of a reason that are kept for people.
const WHY: usize = 200;

/// Troubles in a row, and the pause after them.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    count: u32,
    until: Millis,
    why: String,
}

impl Row {
    pub(super) fn paused(&self, now: Millis) -> bool {
        now < self.until
    }

    fn add(&mut self, why: &str) {
        self.count = self.count.saturating_add(1);
        self.why = why.chars().take(WHY).collect();
    }

    /// Begins a pause if the row is long enough for one; gives its end.
    fn pause(&mut self, now: Now, policy: &Policy) -> Option<Millis> {
        let more = self.count.checked_sub(TROUBLES)?;
        self.until = now.steady.saturating_add(policy.aside_ms << more.min(DOUBLINGS));
        Some(self.until)
    }

    /// The row in words, and how long its pause still takes.
    pub(super) fn describe(&self, now: Millis) -> Option<(String, u64)> {
        let why = if self.why.is_empty() { String::new() } else { format!(", last: {}", self.why) };
        self.paused(now)
            .then(|| (format!("had trouble {} times in a row{why}", self.count), (self.until - now).div_ceil(1000)))
    }
}

/// The attempts an agent came back with. When its power fails all of them end at once, and that is one trouble.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    keys: Set<JobKey>,
    counted: bool,
}

impl Group {
    /// The agent has greeted with these. If they are what is left of those before, they have the same history.
    pub(super) fn greet(&mut self, holds: &Set<JobKey>) {
        if holds.is_empty() || holds.iter().any(|key| !self.keys.contains(key)) {
            *self = Self { keys: holds.clone(), counted: false };
        }
    }

    /// Whether trouble with this attempt was counted already with that of another.
    fn excuses(&mut self, key: JobKey) -> bool {
        self.keys.contains(&key) && core::mem::replace(&mut self.counted, true)
    }
}

impl Agent {
    fn row_of(&mut self, platform: &str) -> &mut Row {
        if self.rows.len() >= PLATFORMS && !self.rows.contains_key(platform) {
            let oldest = self.rows.iter().min_by_key(|(_, row)| row.until).map(|(name, _)| name.clone());
            oldest.map(|name| self.rows.remove(&name));
        }
        self.rows.get_or_default(platform.to_string())
    }
}

impl Scheduler {
    /// Trouble that is somebody's: counts it and ends the attempt.
    pub(super) fn broken(&mut self, now: Now, key: JobKey, blame: Blame, why: String, out: &mut Vec<Output>) {
        let Some(name) = self.holder(key).map(ToString::to_string) else { return };
        let agents = blame != Blame::Repository;
        let excused = agents && self.agents.get_mut(&name).is_some_and(|agent| agent.group.excuses(key));
        if !excused {
            self.trouble(now, &name, key.job, blame, &why);
        } else if let Some(job) = self.jobs.get_mut(&key.job) {
            job.avoid = Some(name);
        }
        self.broken_quietly(now, key, why, out);
    }

    /// An agent came back without attempts that it had not begun, one of which this is: that is one trouble, and the
    /// same as that of those it did bring.
    pub(super) fn lost(&mut self, now: Now, name: &str, id: JobId, why: &str) {
        let counted = |agent: &mut Agent| core::mem::replace(&mut agent.group.counted, true);
        if !self.agents.get_mut(name).is_some_and(counted) {
            self.trouble(now, name, id, Blame::Agent, why);
        }
    }

    /// Remembers that a job met trouble at an agent, and whose it was.
    fn trouble(&mut self, now: Now, name: &str, id: JobId, blame: Blame, why: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if blame == Blame::Repository {
            let repository = job.record.repository.clone();
            if self.repositories.contains_key(&repository) || self.repositories.len() < REPOSITORIES {
                self.repositories.get_or_default(repository).add(why);
            }
            return;
        }
        job.avoid = Some(name.to_string());
        let platform = job.wanted.clone();
        let Some(agent) = self.agents.get_mut(name) else { return };
        let row = agent.row_of(&platform);
        row.add(why);
        self.pauses.extend(row.pause(now, &self.policy));
    }

    /// An attempt has ended by its own doing: if its steps ran, then nothing was in their way.
    pub(super) fn worked(&mut self, name: &str, id: JobId, verdict: &Verdict) {
        let ran = match verdict.outcome {
            Outcome::Passed => true,
            Outcome::Failed | Outcome::TimedOut => verdict.fault == Fault::Job,
            Outcome::Cancelled | Outcome::Infra | Outcome::Other(_) => false,
        };
        let Some(job) = self.jobs.get(&id).filter(|_| ran) else { return };
        self.repositories.remove(&job.record.repository);
        if let Some(agent) = self.agents.get_mut(name) {
            agent.rows.remove(&job.wanted);
        }
    }

    /// How much later than others of its age a job is tried again, when its repository's troubles are many.
    pub(super) fn repository_wait(&self, id: JobId) -> Millis {
        let row = self.jobs.get(&id).and_then(|job| self.repositories.get(&job.record.repository));
        let more = row.and_then(|row| row.count.checked_sub(TROUBLES));
        more.map_or(0, |more| self.policy.aside_ms << more.min(DOUBLINGS))
    }

    /// Troubles in a row of a repository and the last one's reason, if there were as many as make its jobs wait.
    pub fn repository_trouble(&self, repository: &str) -> Option<String> {
        let row = self.repositories.get(repository).filter(|row| row.count >= TROUBLES)?;
        Some(format!("had trouble {} times in a row, last: {}", row.count, row.why))
    }

    /// Platforms of which an agent gets no job for a while, each with the reason, in a sentence.
    pub fn paused(&self, now: Millis, agent: &str) -> Vec<String> {
        let rows = self.agents.get(agent).into_iter().flat_map(|agent| agent.rows.iter());
        let lines = rows.filter_map(|(platform, row)| {
            let (row, seconds) = row.describe(now)?;
            Some(format!("{} {row}; no job of it for {seconds} s", described(platform)))
        });
        lines.collect()
    }
}
