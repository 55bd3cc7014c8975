//! Queued jobs and free agents → which job is next and who gets it.

use super::{Agent, Output, Scheduler};
use crate::job::{JobId, JobKey, JobState};
use crate::limits::Millis;
use crate::ordered::Map;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Scheduler {
    /// Gives jobs away until there is no agent or no job that fits.
    pub(super) fn dispatch(&mut self, now: Millis, out: &mut Vec<Output>) {
        if self.hold.is_some() {
            return;
        }
        while !self.queues.is_empty() && self.has_room() {
            let Some((id, name)) = self.choose(now) else { return };
            self.dequeue(id);
            let Some(job) = self.jobs.get_mut(&id) else { return };
            let record = &mut job.record;
            record.state = JobState::Assigned;
            record.attempt += 1;
            record.agent = Some(name.clone());
            record.assigned_at = Some(now);
            record.started_at = None;
            record.step = None;
            record.verdict = None;
            record.artifacts.clear();
            record.log_bytes = 0;
            let key = JobKey { job: id, attempt: record.attempt };
            self.hold_slot(&name, key);
            self.rearm(id);
            out.push(Output::Changed(id));
            out.push(Output::Assign(name, key));
        }
    }

    /// The next job and its agent: the highest priority first; among equals the repository with the fewest jobs
    /// running, then the oldest job.
    fn choose(&self, now: Millis) -> Option<(JobId, String)> {
        let mut best: Option<((i32, u32, JobId), String)> = None;
        let mut agents: Map<(&str, &str), Option<&str>> = Map::new();
        let may = |agent: &Agent| now >= agent.paused_until;
        for ((priority, repository, platform), ids) in &self.queues {
            let Some(id) = ids.first().copied() else { continue };
            let rank = (*priority, self.running.get(repository).copied().unwrap_or(0), id);
            if best.as_ref().is_some_and(|(other, _)| *other <= rank) {
                continue;
            }
            let avoid = self.jobs.get(&id).and_then(|job| job.avoid.as_deref());
            let agent = match avoid {
                Some(_) => self.agent_for(repository, platform, avoid, may),
                None => *agents
                    .get_or_insert_with((repository, platform), || self.agent_for(repository, platform, None, may)),
            };
            if let Some(agent) = agent {
                best = Some((rank, agent.to_string()));
            }
        }
        best.map(|((_, _, id), agent)| (id, agent))
    }
}
