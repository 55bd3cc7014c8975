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
        self.check_boards(now, out);
        while !self.queues.is_empty() && (self.has_room() || self.has_board()) {
            self.choose_collector();
            self.choose_board_collectors();
            // None of those that wait fits an agent with room.
            let Some((id, name, boards)) = self.choose(now) else { return };
            self.dequeue(id);
            let (Some(job), Some(agent)) = (self.jobs.get_mut(&id), self.agents.get(&name)) else {
                return self.bugs.note("dispatch: no such job, or agent");
            };
            let queue = Self::queue_of(job);
            (job.ran_ms, job.troubled_at) = (0, None);
            let alone = agent.told && boards.is_empty();
            let place = agent.place(now.steady, &name, &job.wanted, &job.met).filter(|_| alone);
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
            record.given = None;
            record.sessions = None;
            let key = JobKey { job: id, attempt: record.attempt };
            if !boards.is_empty() {
                let given = self.give_boards(&name, &boards);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.record.given = given;
                }
                self.units.serve(queue.who(), &queue.wants());
            }
            self.hold_slot(&name, key);
            self.grant_units(now, &name, key, &queue, out);
            self.watch(now, id, true);
            self.rearm(id);
            out.push(Output::Changed(id));
            out.push(Output::Assign(name, key));
        }
    }

    /// The next job, its agent, and the boards that it is given there: the highest priority first; among equals the repository
    /// with the fewest jobs running, then the oldest job. A job that wants units comes into question only if all of them are
    /// free, and of those that want the same one, or boards of one type, only that whose turn it is.
    fn choose(&self, now: Now) -> Option<(JobId, String, Vec<String>)> {
        type Found<'a> = (&'a str, Vec<&'a str>);
        let mut best: Option<((i32, u32, JobId), Found<'_>)> = None;
        let mut agents: Map<(&str, Wanted<'_>), Option<&str>> = Map::new();
        let mut turns = Vec::new();
        for (queue, ids) in &self.queues {
            // Who collects goes before an older one that came back to its queue: else neither would be served.
            let of_units = self.units.collector().filter(|id| ids.contains(id));
            let collector = of_units.or_else(|| self.collects_boards(queue));
            // A queue of which the last has gone is taken away.
            let Some(id) = collector.or(ids.first().copied()) else { continue };
            let rank = (queue.order, self.running.get(&queue.repository).copied().unwrap_or(0), id);
            let alone = queue.units.is_empty() && queue.board.is_none();
            let later = alone && best.as_ref().is_some_and(|(other, _)| *other <= rank);
            if later || !self.units.fits(id, &queue.units) {
                continue;
            }
            let met = self.jobs.get(&id).map_or(&[][..], |job| &job.met);
            let found = || self.agent_for(now.steady, &queue.repository, queue.wanted(), met);
            let agent: Option<Found<'_>> = match (&queue.board, met) {
                (Some(board), _) => self.boards_for(now.steady, id, queue, board, met),
                (None, [_, ..]) => found().map(|agent| (agent, Vec::new())),
                (None, []) => {
                    let known = agents.get_or_insert_with((queue.repository.as_str(), queue.wanted()), found);
                    known.map(|agent| (agent, Vec::new()))
                }
            };
            match agent {
                Some(agent) if alone => best = Some((rank, agent)),
                Some(agent) => turns.push((self.turn(queue, id), rank, queue.wants(), agent)),
                None => {}
            }
        }
        turns.sort_unstable_by_key(|(turn, ..)| *turn);
        let mut taken: Set<String> = Set::new();
        for (_, rank, wants, agent) in turns {
            let first = !wants.iter().any(|(unit, _)| taken.contains(unit.as_str()));
            if first && best.as_ref().is_none_or(|(other, _)| rank < *other) {
                best = Some((rank, agent));
            }
            taken.extend(wants.into_iter().map(|(unit, _)| unit));
        }
        best.map(|((_, _, id), (agent, boards))| {
            (id, agent.to_string(), boards.into_iter().map(ToString::to_string).collect())
        })
    }
}
