//! Units that queued jobs want → whose turn it is, who collects, and what returns when an attempt ends or is given up.

use super::{Output, Queue, Scheduler};
use crate::clock::Now;
use crate::job::{JobId, JobKey};
use crate::ordered::Set;
use crate::units::{Grant, Held, Units};
use alloc::string::ToString;
use alloc::vec::Vec;

/// Whose turn it is: the higher priority, then who was served longest ago, then the older job. The least is first.
pub(super) type Turn = (i32, u64, JobId);

impl Scheduler {
    /// What is offered and held.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// What an agent's record is to say that it holds.
    pub fn grants(&self, agent: &str) -> Vec<Grant> {
        self.units.at(agent).cloned().collect()
    }

    pub(super) fn turn(&self, queue: &Queue, id: JobId) -> Turn {
        (queue.order, self.units.served(queue.who(), &queue.wants()), id)
    }

    /// An agent's word that nothing of an attempt runs there any more.
    pub(super) fn returned(&mut self, agent: &str, key: JobKey, out: &mut Vec<Output>) {
        let speaks = |held: &&Held| held.agent == agent && held.grant.revoked.is_none();
        let number = self.units.of(key).filter(speaks).map(|held| held.grant.number);
        if let Some(number) = number {
            self.free_units(number, out);
        }
    }

    pub(super) fn free_units(&mut self, number: u64, out: &mut Vec<Output>) {
        out.extend(self.units.free(number).map(Output::Holds));
    }

    /// Takes back what nobody has spoken of until its time was over.
    pub(super) fn units_due(&mut self, now: Now, out: &mut Vec<Output>) {
        for number in self.units.due(now.steady) {
            self.free_units(number, out);
        }
    }

    pub(super) fn grant_units(&mut self, now: Now, agent: &str, key: JobKey, queue: &Queue, out: &mut Vec<Output>) {
        if queue.units.is_empty() {
            return;
        }
        let Some(job) = self.jobs.get(&key.job) else { return self.bugs.note("grant_units: no such job") };
        if !self.units.fits(key.job, &queue.units) {
            self.bugs.note("grant_units: more than is free");
        }
        let timeout_s = job.timeout_s;
        self.units.grant(now, agent, queue.who(), key, &queue.units, timeout_s);
        out.push(Output::Holds(agent.to_string()));
    }

    /// Settles for whom units are kept together: the first in order that wants several and has not all of them, unless one
    /// before it waits for one of the same. Who was chosen stays that until it is served, or cannot be.
    pub(super) fn choose_collector(&mut self) {
        if let Some(job) = self.units.collector() {
            let waits = |(queue, ids): (&Queue, &Set<JobId>)| ids.contains(&job) && self.could(queue);
            if self.queues.iter().any(waits) {
                return;
            }
            self.units.let_go();
        }
        let mut turns: Vec<(Turn, &Queue)> = Vec::new();
        for (queue, ids) in self.queues.iter().filter(|(queue, _)| !queue.units.is_empty() && self.could(queue)) {
            turns.extend(ids.first().map(|id| (self.turn(queue, *id), queue)));
        }
        turns.sort_unstable_by_key(|(turn, _)| *turn);
        let mut before: Set<&str> = Set::new();
        let mut chosen = None;
        for ((_, _, id), queue) in turns {
            if self.units.fits(id, &queue.units) {
                continue;
            }
            let several = queue.units.iter().map(|(_, amount)| *amount).sum::<u32>() > 1;
            if several && !queue.units.iter().any(|(unit, _)| before.contains(unit.as_str())) {
                chosen = Some((id, queue.units.clone()));
                break;
            }
            before.extend(queue.units.iter().map(|(unit, _)| unit.as_str()));
        }
        if let Some((id, units)) = chosen {
            self.units.collect(id, units);
        }
    }

    /// Whether a job of this queue could be started if others were not there.
    fn could(&self, queue: &Queue) -> bool {
        self.units.possible(&queue.units) && self.is_here(queue)
    }
}
