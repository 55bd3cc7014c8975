//! Queued jobs and free agents → which job is next and who gets it.

use super::{Output, Scheduler};
use crate::job::{JobId, JobKey, JobState};
use crate::limits::Millis;
use crate::ordered::Map;
use alloc::string::String;
use alloc::vec::Vec;

/// What a cold mirror weighs against a busy agent, in thousandths of a full agent: a fetch costs about a third of what
/// sharing the machine with other jobs does.
const COLD_PERMILLE: u64 = 300;

impl Scheduler {
    /// Gives jobs away until there is no agent or no job that fits.
    pub(super) fn dispatch(&mut self, now: Millis, out: &mut Vec<Output>) {
        if self.hold.is_some() {
            return;
        }
        while self.agents.values().any(|agent| agent.free(now)) {
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
        let mut agents: Map<(&str, &str), Option<&String>> = Map::new();
        for ((priority, repository, platform), ids) in &self.queues {
            let Some(id) = ids.first().copied() else { continue };
            let rank = (*priority, self.running.get(repository).copied().unwrap_or(0), id);
            if best.as_ref().is_some_and(|(other, _)| *other <= rank) {
                continue;
            }
            let avoid = self.jobs.get(&id).and_then(|job| job.avoid.as_deref());
            let agent = match avoid {
                Some(_) => self.agent_for(now, repository, platform, avoid),
                None => *agents
                    .get_or_insert_with((repository, platform), || self.agent_for(now, repository, platform, None)),
            };
            if let Some(agent) = agent {
                best = Some((rank, agent.clone()));
            }
        }
        best.map(|((_, _, id), agent)| (id, agent))
    }

    /// The idlest agent that serves the platform; a warm mirror counts for it, having just failed this job against it.
    fn agent_for(&self, now: Millis, repository: &str, platform: &str, avoid: Option<&str>) -> Option<&String> {
        self.agents
            .iter()
            .filter(|(_, agent)| agent.free(now) && agent.serves(platform))
            .min_by_key(|(name, agent)| {
                let busy = agent.runs.len() as u64 * 1000 / u64::from(agent.slots.max(1));
                let cold = if agent.mirrors.contains(repository) { 0 } else { COLD_PERMILLE };
                let load = u64::from(agent.load_permille.min(2000)) / 2;
                (avoid == Some(name.as_str()), busy + cold + load)
            })
            .map(|(name, _)| name)
    }
}
