//! Queued jobs and free agents → which job is next and who gets it.

use super::{Output, Scheduler, Wanted, no_longer_awaited};
use crate::clock::Now;
use crate::job::{JobId, JobKey, JobState};
use crate::ordered::{Map, Set};
use crate::platform::unrooted;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

impl Scheduler {
    /// Gives jobs away until there is no agent or no job that fits.
    pub(super) fn dispatch(&mut self, now: Now, out: &mut Vec<Output>) {
        if self.hold.is_some() {
            return;
        }
        while !self.queues.is_empty() && self.has_room() {
            self.choose_collector();
            // None of those that wait fits an agent with room.
            let Some((id, name)) = self.choose(now) else { return };
            self.dequeue(id);
            let (Some(job), Some(agent)) = (self.jobs.get_mut(&id), self.agents.get(&name)) else {
                return self.bugs.note("dispatch: no such job, or agent");
            };
            let queue = Self::queue_of(job);
            job.ran_ms = 0;
            let place = agent.place(now.steady, &name, &job.wanted, &job.met).filter(|_| agent.told);
            let record = &mut job.record;
            if record.state != JobState::Queued || record.blocked == Some(true) {
                return self.bugs.note("dispatch: the job does not wait for an agent");
            }
            record.offered = place.map(|place| unrooted(place).to_string());
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
            self.grant_units(now, &name, key, &queue, out);
            self.watch(now, id, true);
            self.rearm(id);
            out.push(Output::Changed(id));
            out.push(Output::Assign(name, key));
        }
    }

    /// The next job and its agent: the highest priority first; among equals the repository with the fewest jobs
    /// running, then the oldest job. A job that wants units comes into question only if all of them are free, and of those
    /// that want the same one only that whose turn it is.
    fn choose(&self, now: Now) -> Option<(JobId, String)> {
        let mut best: Option<((i32, u32, JobId), String)> = None;
        let mut agents: Map<(&str, Wanted<'_>), Option<&str>> = Map::new();
        let mut turns = Vec::new();
        for (queue, ids) in &self.queues {
            // Who collects goes before an older one that came back to its queue: else neither would be served.
            let collector = self.units.collector().filter(|id| ids.contains(id));
            // A queue of which the last has gone is taken away.
            let Some(id) = collector.or(ids.first().copied()) else { continue };
            let rank = (queue.order, self.running.get(&queue.repository).copied().unwrap_or(0), id);
            let alone = queue.units.is_empty();
            let later = alone && best.as_ref().is_some_and(|(other, _)| *other <= rank);
            if later || (!alone && !self.units.fits(id, &queue.units)) {
                continue;
            }
            let met = self.jobs.get(&id).map_or(&[][..], |job| &job.met);
            let found = || self.agent_for(now.steady, &queue.repository, queue.wanted(), met);
            let agent = match met {
                [_, ..] => found(),
                [] => *agents.get_or_insert_with((queue.repository.as_str(), queue.wanted()), found),
            };
            match agent {
                Some(agent) if alone => best = Some((rank, agent.to_string())),
                Some(agent) => turns.push((self.turn(queue, id), rank, queue, agent)),
                None => {}
            }
        }
        turns.sort_unstable_by_key(|(turn, ..)| *turn);
        let mut taken: Set<&str> = Set::new();
        for (_, rank, queue, agent) in turns {
            let mut units = queue.units.iter().map(|(unit, _)| unit.as_str());
            let first = !units.clone().any(|unit| taken.contains(unit));
            if first && best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, agent.to_string()));
            }
            taken.extend(&mut units);
        }
        best.map(|((_, _, id), agent)| (id, agent))
    }
}
