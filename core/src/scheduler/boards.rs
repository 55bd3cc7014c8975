//! Boards that agents offer and jobs that want one → which job is given which board, and which are free again.
//!
//! Nothing that is decided here frees a board: it is given only where its agent, on this link, has called it free at its latest
//! grant or a later one. Numbers of grants are larger than any that an agent has said, so that what it said before it heard of a
//! grant never counts after it. A job at a board takes no slot, and none begins while its agent offers no slots.

use super::board::{Board, BoardHolder, BoardRow, KeptFrom, Said};
use super::trouble::{Met, TROUBLES, place_of, weight};
use super::{Agent, Job, Policy, Queue, Scheduler};
use crate::clock::Now;
use crate::job::{JobId, JobKey};
use crate::limits::Millis;
use crate::ordered::{Map, Set};
use crate::units::{GivenBoard, OfferedBoard, WantedBoard, Wants};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Boards that are named where a job waits for one: more would not be read.
const SHOWN: usize = 3;

impl Queue {
    /// What is wanted, the type of a board among it: those that want one of the same take turns.
    pub(super) fn wants(&self) -> Wants {
        let board = self.board.iter().flat_map(WantedBoard::each).map(|board| (place_of(&board.kind), 1));
        self.units.iter().cloned().chain(board).collect()
    }

    /// Whether this agent may be given its jobs.
    pub(super) fn may_go_to(&self, agent: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == agent)
    }
}

impl Agent {
    /// Offers these boards from now on. What it said of those that were there before stands if they are the same.
    pub(super) fn set_boards(&mut self, offered: Vec<OfferedBoard>) {
        let mut before = core::mem::take(&mut self.boards);
        for offered in offered {
            let same = before.remove(&offered.name).filter(|known| known.offered == offered);
            if same.is_none() {
                // Troubles of another one that had its name are not its.
                self.rows.remove(&place_of(&offered.name));
            }
            let anew = || Board {
                latest: 0,
                free: false,
                busy: None,
                gone: None,
                troubles: Map::new(),
                check_at: 0,
                rests_until: 0,
                offered,
            };
            let board = same.unwrap_or_else(anew);
            self.boards.insert(board.offered.name.clone(), board);
        }
    }

    fn boards_like<'a>(&'a self, wanted: &WantedBoard) -> impl Iterator<Item = &'a Board> {
        // What it is to put there is another job's.
        self.boards.values().filter(move |board| self.offer.needs && wanted.is_met_by(&board.offered))
    }

    /// Why it is given no job at a board, if so.
    pub(super) fn keeps_its_boards(&self) -> Option<&'static str> {
        match self {
            Self { connected: false, .. } => Some("its agent is away"),
            Self { aside: true, .. } => Some("its agent is set aside"),
            Self { slots: 0, .. } => Some("its agent takes no jobs now"),
            _ => None,
        }
    }

    /// Trouble at one of its boards. One repository's set that board aside for it alone; those of at least two, three in all, for
    /// everybody. As many as pause one repository do not count for the others: it would keep them from it by itself. Gives
    /// the ends of the pauses that this brings.
    pub(super) fn trouble_at(
        &mut self,
        now: Now,
        name: &str,
        repository: &str,
        why: &str,
        policy: &Policy,
    ) -> Vec<Millis> {
        // One that is not offered any more is given to nobody.
        let Some(board) = self.boards.get_mut(name) else { return Vec::new() };
        let (count, pause) = board.trouble(now, repository, why, policy);
        let checked = board.offered.health.is_some();
        let mut ends: Vec<Millis> = pause.into_iter().collect();
        if count < TROUBLES {
            let row = self.row_of(&place_of(name));
            row.add(why);
            let enough = row.count() >= TROUBLES;
            // Two of one are fewer than make a pause, so that there are others among as many as do.
            match checked {
                true if enough => {
                    let why = format!("had trouble {} times in a row, last: {}", row.count(), row.why());
                    self.doubt(name, why);
                }
                true => {}
                false => ends.extend(row.pause(now, policy)),
            }
        }
        ends
    }

    /// A job of this repository had none at a board.
    pub(super) fn no_trouble_at(&mut self, name: &str, repository: &str) {
        if let Some(board) = self.boards.get_mut(name) {
            board.troubles.remove(repository);
        }
    }

    /// Boards that repositories do not get for a while, each in a sentence.
    pub(super) fn paused_boards(&self, now: Millis) -> impl Iterator<Item = String> {
        self.boards.iter().flat_map(move |(name, board)| {
            board.troubles.iter().filter_map(move |(repository, row)| {
                let (row, seconds) = row.describe(now)?;
                Some(format!("board {name} {row}, all of {repository}; no job of that there for {seconds} s"))
            })
        })
    }

    /// It does not run an attempt any more; false if it did not before.
    pub(super) fn leave(&mut self, key: JobKey) -> bool {
        self.at_boards.remove(&key);
        self.runs.remove(&key)
    }

    /// Those of its boards that a job would get, one for each that it wants and each once: of all that satisfy `usable`, those of the
    /// least `weight` where there is a choice. None where there are not so many.
    fn matching<'a, W: Ord>(
        &'a self,
        wanted: &WantedBoard,
        usable: impl Fn(&Board) -> bool,
        weight: impl Fn(&Board) -> W,
    ) -> Option<Vec<&'a Board>> {
        if !self.offer.needs || (wanted.count() > 1 && !self.several) {
            return None;
        }
        let each: Vec<Vec<&Board>> = wanted
            .each()
            .map(|wanted| {
                let mut boards: Vec<&Board> = self.boards_like(wanted).filter(|board| usable(board)).collect();
                boards.sort_by_key(|board| (weight(board), board.offered.name.clone()));
                boards
            })
            .collect();
        let mut given: Map<&str, usize> = Map::new();
        for index in 0..each.len() {
            if !settle(&each, index, &mut given, &mut Set::new()) {
                return None;
            }
        }
        let board = |index: usize| {
            let name = given.iter().find(|(_, of)| **of == index).map(|(name, _)| *name)?;
            self.boards.get(name)
        };
        let mut boards = (0..each.len()).map(board).collect::<Option<Vec<&Board>>>()?;
        // Which of those that want the same was settled last says nothing: people find them in order.
        let wanted: Vec<&WantedBoard> = wanted.each().collect();
        for (index, one) in wanted.iter().enumerate() {
            for (other, _) in wanted.iter().enumerate().skip(index + 1).filter(|(_, other)| is_alike(one, other)) {
                let name = |at: usize| boards.get(at).map(|board| &board.offered.name);
                if name(other) < name(index) {
                    boards.swap(index, other);
                }
            }
        }
        Some(boards)
    }

    /// Whether as many of its boards as are wanted could be given one day, nothing being held against them.
    fn could_give(&self, queue: &Queue) -> bool {
        let there = |board: &Board| board.gone.is_none() && self.lets_use(&board.offered.name, queue);
        queue.board.as_ref().is_some_and(|wanted| self.matching(wanted, there, |_| ()).is_some())
    }

    /// Whether a person may be given its boards, where one is to be.
    fn may_lend(&self, queue: &Queue) -> bool {
        self.leases || !queue.lease
    }

    /// Whether it offers what this queue's jobs want.
    pub(super) fn suits(&self, queue: &Queue) -> bool {
        match &queue.board {
            Some(wanted) => self.may_lend(queue) && self.matching(wanted, |_| true, |_| ()).is_some(),
            None => self.serves(queue.wanted()),
        }
    }
}

impl Scheduler {
    /// Whether an agent has offered what this queue's jobs want, connected or not.
    pub(super) fn offers(&self, queue: &Queue) -> bool {
        match &queue.board {
            Some(_) => self.bench_agents().any(|(name, agent)| queue.may_go_to(name) && agent.suits(queue)),
            None => self.is_offered(queue.wanted()),
        }
    }

    /// Whether a connected agent offers it.
    pub(super) fn is_here(&self, queue: &Queue) -> bool {
        match &queue.board {
            Some(_) => {
                let mut agents = self.bench_agents().filter(|(name, agent)| agent.connected && queue.may_go_to(name));
                agents.any(|(_, agent)| agent.suits(queue) && agent.could_give(queue))
            }
            None => self.is_served(queue.wanted()),
        }
    }

    /// Agents that offer boards: of thousands there are few.
    pub(super) fn bench_agents(&self) -> impl Iterator<Item = (&str, &Agent)> {
        self.benches.iter().filter_map(|name| Some((name.as_str(), self.agents.get(name)?)))
    }

    /// An agent offers these boards from now on.
    pub(super) fn set_boards(&mut self, name: &str, boards: Vec<OfferedBoard>) {
        let Some(agent) = self.agents.get_mut(name) else { return self.bugs.note("set_boards: no such agent") };
        agent.set_boards(boards);
        agent.drop_rows();
        if agent.trust_unchecked() {
            self.noted.insert(name.to_string());
        }
        if agent.boards.is_empty() {
            self.benches.remove(name);
        } else {
            self.benches.insert(name.to_string());
        }
    }

    /// An agent says of a board that it is free at a grant, or who has it, or what keeps it from being used.
    pub(super) fn board_said(&mut self, name: &str, board: &str, said: Said) {
        // Its token was revoked meanwhile.
        let Some(agent) = self.agents.get_mut(name) else { return };
        // Of a board that it does not offer nothing is to be known.
        let Some(known) = agent.boards.get_mut(board) else { return };
        match said {
            Said::Free(grant) => {
                self.last_board_grant = self.last_board_grant.max(grant);
                // What was said before the latest grant was heard of says nothing of it.
                if grant < known.latest {
                    return;
                }
                (known.free, known.busy) = (true, None);
                let back = known.gone.take().filter(|_| known.offered.health.is_some());
                if let Some(why) = back.filter(|_| agent.is_well(board)) {
                    agent.doubt(board, format!("is back, it was not to be used: {why}"));
                    self.noted.insert(name.to_string());
                }
            }
            Said::Busy(who) => (known.free, known.busy) = (false, who),
            Said::Gone(why) => (known.free, known.busy, known.gone) = (false, Some(why.clone()), Some(why)),
        }
    }

    /// Whether any board at all can be given.
    pub(super) fn has_board(&self) -> bool {
        let free = |agent: &Agent| agent.keeps_its_boards().is_none() && agent.boards.values().any(|board| board.free);
        self.bench_agents().any(|(_, agent)| free(agent))
    }

    /// Settles for which job an agent's boards are kept together as they become free: the first in order that wants several of them and
    /// has not all. One that was chosen stays that until it is served, or cannot be.
    pub(super) fn choose_board_collectors(&mut self) {
        let several = |queue: &&Queue| queue.board.as_ref().is_some_and(|wanted| wanted.count() > 1);
        if !self.queues.keys().any(|queue| several(&queue)) {
            return self.agents.values_mut().for_each(|agent| agent.collector = None);
        }
        let mut turns: Vec<_> = self.queues.iter().filter(|(queue, _)| several(queue)).collect();
        // Nothing is kept for a job that could not begin even so, since it wants units that another one has.
        turns.retain(|(queue, ids)| ids.first().is_some_and(|id| self.units.fits(*id, &queue.units)));
        turns.sort_by_key(|(queue, ids)| ids.first().map(|id| self.turn(queue, *id)));
        let mut chosen: Vec<(String, Option<JobId>)> = Vec::new();
        let mut taken: Set<JobId> = Set::new();
        for (name, agent) in self.bench_agents() {
            let can =
                |queue: &Queue| agent.keeps_its_boards().is_none() && agent.suits(queue) && agent.could_give(queue);
            let stays = agent.collector.filter(|id| turns.iter().any(|(queue, ids)| ids.contains(id) && can(queue)));
            let lacks = |queue: &Queue| {
                let free = queue.board.as_ref().and_then(|wanted| agent.matching(wanted, |board| board.free, |_| ()));
                free.is_none()
            };
            let next = || {
                let wait = turns.iter().filter(|(queue, _)| can(queue) && lacks(queue));
                wait.filter_map(|(_, ids)| ids.first().copied()).find(|id| !taken.contains(id))
            };
            let collector = stays.or_else(next);
            taken.extend(collector);
            chosen.push((name.to_string(), collector));
        }
        for (name, collector) in chosen {
            if let Some(agent) = self.agents.get_mut(&name) {
                agent.collector = collector;
            }
        }
    }

    /// The job of a queue for which an agent's boards are kept together, if it has one.
    pub(super) fn collects_boards(&self, queue: &Queue) -> Option<JobId> {
        let ids = self.queues.get(queue).filter(|_| queue.board.as_ref().is_some_and(|wanted| wanted.count() > 1))?;
        self.bench_agents().find_map(|(_, agent)| agent.collector.filter(|id| ids.contains(id)))
    }

    /// Boards of an agent that are kept for another job than this one.
    fn kept_for_another<'a>(&self, agent: &'a Agent, id: JobId) -> Set<&'a str> {
        let other = agent.collector.filter(|other| *other != id).and_then(|other| self.jobs.get(&other));
        let wanted = other.and_then(|job| job.record.board.as_ref());
        let well = |board: &Board| agent.is_well(&board.offered.name);
        let kept = wanted.and_then(|wanted| agent.matching(wanted, well, |board| !board.free));
        kept.into_iter().flatten().map(|board| board.offered.name.as_str()).collect()
    }

    /// The boards that a job is given, all that it wants or none: where it met no trouble, of an agent with few others under way.
    pub(super) fn boards_for<'a>(
        &'a self,
        now: Millis,
        id: JobId,
        queue: &Queue,
        wanted: &WantedBoard,
        met: &[Met],
    ) -> Option<(&'a str, Vec<&'a str>)> {
        let mut found = Vec::new();
        let given = |(name, agent): &(&str, &Agent)| {
            queue.may_go_to(name) && agent.may_lend(queue) && agent.keeps_its_boards().is_none()
        };
        for (name, agent) in self.bench_agents().filter(given) {
            let kept = self.kept_for_another(agent, id);
            let usable = |board: &Board| {
                let name = board.offered.name.as_str();
                // What is held against a board is what a check of it is for.
                let paused = !queue.health && agent.rows.get(&place_of(name)).is_some_and(|row| row.paused(now));
                let fit = !paused && agent.lets_use(name, queue);
                board.free && !kept.contains(name) && fit && board.paused_for(now, &queue.repository).is_none()
            };
            let against = |board: &Board| weight(met, name, &place_of(&board.offered.name));
            if let Some(boards) = agent.matching(wanted, usable, against) {
                let against: u32 = boards.iter().map(|board| against(board)).sum();
                found.push(((against, agent.at_boards.len(), name), boards));
            }
        }
        let ((_, _, agent), boards) = found.into_iter().min_by_key(|(rank, _)| *rank)?;
        Some((agent, boards.into_iter().map(|board| board.offered.name.as_str()).collect()))
    }

    /// Gives boards away, all by one grant.
    pub(super) fn give_boards(&mut self, agent: &str, names: &[String]) -> Option<GivenBoard> {
        let Some(agent) = self.agents.get_mut(agent) else {
            self.bugs.note("give_boards: no such agent");
            return None;
        };
        if !names.iter().all(|name| agent.boards.get(name).is_some_and(|board| board.free)) {
            self.bugs.note("give_boards: one is not free");
            return None;
        }
        self.last_board_grant += 1;
        for name in names {
            if let Some(board) = agent.boards.get_mut(name) {
                (board.latest, board.free) = (self.last_board_grant, false);
            }
        }
        let (name, others) = names.split_first()?;
        let others = (!others.is_empty()).then(|| others.to_vec());
        Some(GivenBoard { name: name.clone(), grant: self.last_board_grant, others })
    }

    /// All boards, by agent and name.
    pub fn boards(&self, now: Millis) -> Vec<BoardRow> {
        let mut rows = self.board_rows(now);
        for row in &mut rows {
            let wants = |queue: &Queue| {
                let each = queue.board.as_ref().filter(|_| queue.may_go_to(&row.agent))?.each();
                let count = each.filter(|wanted| wanted.is_met_by(&row.offered)).count();
                (count > 0).then_some(count as u32)
            };
            let collector = self.agents.get(&row.agent).and_then(|agent| agent.collector);
            let (waiters, waiting) = self.in_turn(wants, collector);
            (row.waiters, row.waiting) = (waiters, waiting);
        }
        rows
    }

    /// The same without who waits, which each of those would ask for.
    fn board_rows(&self, now: Millis) -> Vec<BoardRow> {
        let mut held: Map<(&str, &str), BoardHolder> = Map::new();
        for (name, agent) in self.bench_agents() {
            for key in &agent.at_boards {
                let job = self.jobs.get(&key.job);
                // Of an attempt that was lost meanwhile nothing is told.
                let Some((job, given)) = job.and_then(|job| Some((job, job.record.given.as_ref()?))) else { continue };
                let since = job.record.assigned_at.unwrap_or(job.record.queued_at);
                let until = since.saturating_add(job.timeout_s.saturating_mul(1000));
                let holder = BoardHolder { key: *key, grant: given.grant, since, until };
                held.extend(given.names().map(|board| ((name, board.as_str()), holder.clone())));
            }
        }
        let mut rows = Vec::new();
        for (name, agent) in self.bench_agents() {
            for (board, known) in &agent.boards {
                let holder = held.get(&(name, board.as_str())).cloned();
                let pause = agent.rows.get(&place_of(board)).and_then(|row| row.describe(now));
                let kept = agent.keeps_its_boards();
                let health = self.health_of(name, board);
                let unfit = health.keeps();
                let (what, pause_s) = match (kept, &holder, &known.busy, pause) {
                    (Some(kept), ..) => (kept.to_string(), None),
                    (None, Some(holder), ..) => (format!("job {} is there", holder.key.job), None),
                    (None, None, Some(busy), _) => (busy.clone(), None),
                    (None, None, None, _) if unfit.is_some() => (unfit.clone().unwrap_or_default(), None),
                    (None, None, None, Some((row, seconds))) => (row, Some(seconds)),
                    (None, None, None, None) if known.free => ("free".to_string(), None),
                    (None, None, None, None) => ("its agent has not called it free yet".to_string(), None),
                };
                let fit = pause_s.is_none() && unfit.is_none();
                let idle = kept.is_none() && holder.is_none() && known.busy.is_none() && fit;
                let kept_from = known.troubles.iter().filter_map(|(repository, row)| {
                    let (why, seconds) = row.describe(now)?;
                    Some(KeptFrom { repository: repository.clone(), why, seconds })
                });
                rows.push(BoardRow {
                    agent: name.to_string(),
                    free: idle && known.free,
                    waiting: 0,
                    waiters: Vec::new(),
                    kept_from: kept_from.collect(),
                    offered: known.offered.clone(),
                    holder,
                    what,
                    pause_s,
                    health,
                });
            }
        }
        rows
    }

    /// Whether somebody waits who would do with the board that a job has.
    pub fn is_waited_for(&self, id: JobId) -> bool {
        let given = self.jobs.get(&id).and_then(|job| Some((job.record.agent.as_ref()?, job.record.given.as_ref()?)));
        let board = given.and_then(|(agent, given)| Some((agent, self.agents.get(agent)?.boards.get(&given.name)?)));
        // It waits itself, or its agent is away.
        let Some((agent, board)) = board else { return false };
        let wants = |queue: &Queue| {
            let mut each = queue.board.iter().flat_map(WantedBoard::each);
            queue.may_go_to(agent) && each.any(|wanted| wanted.is_met_by(&board.offered))
        };
        self.queues.keys().any(wants)
    }

    /// Boards that are offered now and would do for a job, each with how it stands.
    pub(super) fn told_of_boards(&self, now: Millis, job: &Job) -> String {
        let queue = Self::queue_of(job);
        let fits = |row: &BoardRow| {
            let mut wanted = queue.board.iter().flat_map(WantedBoard::each);
            queue.may_go_to(&row.agent) && wanted.any(|wanted| wanted.is_met_by(&row.offered))
        };
        let rows = self.board_rows(now).into_iter().filter(fits);
        let here = rows.filter(|row| self.agents.get(&row.agent).is_some_and(|agent| agent.connected));
        let told: Vec<String> =
            here.take(SHOWN).map(|row| format!("{}/{} ({})", row.agent, row.offered.name, row.told())).collect();
        told.join(", ")
    }

    /// Why a job does not get a board now.
    pub(super) fn board_reason(&self, now: Millis, job: &Job, wanted: &WantedBoard) -> String {
        let rows = self.board_rows(now);
        let queue = Self::queue_of(job);
        let fits =
            |row: &&BoardRow| queue.may_go_to(&row.agent) && wanted.each().any(|wanted| wanted.is_met_by(&row.offered));
        let (fitting, others): (Vec<&BoardRow>, Vec<&BoardRow>) = rows.iter().filter(fits).partition(|row| {
            let agent = self.agents.get(&row.agent);
            let new = |agent: &Agent| agent.offer.needs && agent.may_lend(&queue);
            agent.is_some_and(|agent| new(agent) && (agent.several || wanted.count() == 1))
        });
        let mut benches = self.bench_agents().filter(|(name, _)| queue.may_go_to(name));
        let all = benches.any(|(_, agent)| agent.matching(wanted, |_| true, |_| ()).is_some());
        if fitting.is_empty() || !all {
            let end = super::waiting::span(self.policy.expire_ms);
            let old = match queue.lease {
                _ if others.is_empty() => "",
                true => " and is new enough to lend it to people",
                false => " and is new enough to fetch what other jobs made",
            };
            return format!("no agent has offered {wanted}{old} yet; expires {end} after it was queued");
        }
        let gathers = self.bench_agents().find(|(_, agent)| agent.collector == Some(job.record.id));
        let gathers =
            gathers.map_or_else(String::new, |(name, _)| format!("; those of {name} are kept together for it"));
        let told = |row: &&BoardRow| {
            let board = self.agents.get(&row.agent).and_then(|agent| agent.boards.get(&row.offered.name));
            let own = board.filter(|_| row.free).and_then(|board| board.paused_for(now, &job.record.repository));
            match own {
                Some((why, seconds)) => format!(
                    "{}/{} ({why}, all of this repository; no job of it for {seconds} s)",
                    row.agent, row.offered.name
                ),
                None => format!("{}/{} ({})", row.agent, row.offered.name, row.told()),
            }
        };
        let mut told: Vec<String> = fitting.iter().take(SHOWN).map(told).collect();
        if fitting.len() > SHOWN {
            told.push(format!("{} more", fitting.len() - SHOWN));
        }
        let same = |other: &Queue| other.board.as_ref().is_some_and(|board| board.kind == wanted.kind);
        let before = self.queues.iter().filter(|(other, _)| same(other) && other.order <= queue.order);
        let before = before.map(|(other, ids)| match other.order < queue.order {
            true => ids.len(),
            false => ids.range(..job.record.id).count(),
        });
        let place = before.sum::<usize>() + 1;
        format!(
            "wants {wanted}: {}; place {place} by priority and age, and each repository or person in turn{gathers}",
            told.join(", ")
        )
    }
}

/// Whether two of one job are met by the same boards.
fn is_alike(one: &WantedBoard, other: &WantedBoard) -> bool {
    (&one.kind, &one.tags, &one.name, one.rig) == (&other.kind, &other.tags, &other.name, other.rig)
}

/// Gives one that is wanted a board of those that do for it, those before each another one if need be: an augmenting path.
fn settle<'a>(each: &[Vec<&'a Board>], index: usize, given: &mut Map<&'a str, usize>, seen: &mut Set<&'a str>) -> bool {
    for board in each.get(index).into_iter().flatten() {
        let name = board.offered.name.as_str();
        if !seen.insert(name) {
            continue;
        }
        let before = given.get(name).copied();
        if before.is_none_or(|other| settle(each, other, given, seen)) {
            given.insert(name, index);
            return true;
        }
    }
    false
}
