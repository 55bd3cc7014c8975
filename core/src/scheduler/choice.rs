//! Queued jobs and free agents → which job is next and who gets it.

use super::{Output, Scheduler, no_longer_awaited};
use crate::clock::Now;
use crate::job::{JobId, JobKey, JobState};
use crate::ordered::Map;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Scheduler {
    /// Gives jobs away until there is no agent or no job that fits.
    pub(super) fn dispatch(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.hold.is_some() {
            return;
        }
        while !self.queues.is_empty() && self.has_room() {
            let Some((id, name)) = self.choose(now) else { return };
            self.dequeue(id);
            let Some(job) = self.jobs.get_mut(&id) else { return };
            job.ran_ms = 0;
            let record = &mut job.record;
            // From here on another attempt counts, whatever became of that one.
            out.extend(no_longer_awaited(record).map(|(name, key)| Output::Forget(name, key)));
            record.state = JobState::Assigned;
            record.attempt += 1;
            record.agent = Some(name.clone());
            record.assigned_at = Some(now.wall);
            record.started_at = None;
            record.step = None;
            record.verdict = None;
            record.artifacts.clear();
            record.log_bytes = 0;
            let key = JobKey { job: id, attempt: record.attempt };
            self.hold_slot(&name, key);
            self.watch(now, id, true);
            self.rearm(id);
            out.push(Output::Changed(id));
            out.push(Output::Assign(name, key));
        }
    }

    /// The next job and its agent: the highest priority first; among equals the repository with the fewest jobs
    /// running, then the oldest job.
    fn choose(&self, now: Now) -> Option<(JobId, String)> {
        let mut best: Option<((i32, u32, JobId), String)> = None;
        let mut agents: Map<(&str, &str), Option<&str>> = Map::new();
        for ((priority, repository, platform), ids) in &self.queues {
            let Some(id) = ids.first().copied() else { continue };
            let rank = (*priority, self.running.get(repository).copied().unwrap_or(0), id);
            if best.as_ref().is_some_and(|(other, _)| *other <= rank) {
                continue;
            }
            let avoid = self.jobs.get(&id).and_then(|job| job.avoid.as_deref());
            let agent = match avoid {
                Some(_) => self.agent_for(now.steady, repository, platform, avoid),
                None => *agents.get_or_insert_with((repository, platform), || {
                    self.agent_for(now.steady, repository, platform, None)
                }),
            };
            if let Some(agent) = agent {
                best = Some((rank, agent.to_string()));
            }
        }
        best.map(|((_, _, id), agent)| (id, agent))
    }
}
