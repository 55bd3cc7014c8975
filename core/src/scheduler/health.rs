//! What is known of boards and what their agents say → which of them no job gets until they are found to be well, and when that is to be
//! found out.
//!
//! A board of which its agent says how it is found to be well is checked after trouble, after it was away, and as often as its file says;
//! until it passes after the first two of these nothing but a job that checks it is given it. What is known of a board outlives its agent's
//! link and the master: it stands in the agent's record.

use super::board::{Board, BoardHealth};
use super::trouble::place_of;
use super::{Agent, DOUBLINGS, Output, Policy, Queue, Scheduler};
use crate::clock::Now;
use crate::job::{Blame, Fault, JobId, JobState};
use crate::ledger::{Aside, BoardRecord, Checked, Checkup, JobRecord};
use crate::limits::{BOARDS, Millis};
use crate::ordered::{Map, Set};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Milliseconds after which it is looked at once more whether a check is due by the wall clock, which may be set meanwhile.
const LOOK_MS: Millis = 60 * 60 * 1000;
/// Milliseconds between two checks of a board at least, where nobody asks for one: a plug that is loose is not flashed again and again.
const APART_MS: Millis = 60_000;
/// Boards of an agent of which something is known at most: those that it offers, and as many that it once did.
const RECORDS: usize = 2 * BOARDS;

impl Agent {
    /// Whether one of its boards is given to a job of this queue, as far as what is known of the board goes.
    pub(super) fn lets_use(&self, name: &str, queue: &Queue) -> bool {
        queue.health || self.is_well(name)
    }

    /// Whether nothing is known of a board that keeps it from jobs.
    pub(super) fn is_well(&self, name: &str) -> bool {
        self.records.get(name).is_none_or(|record| record.aside.is_none() && record.unwell.is_none())
    }

    /// What is known of one of its boards, to be changed.
    fn record_of(&mut self, name: &str) -> &mut BoardRecord {
        if !self.records.contains_key(name) && self.records.len() >= RECORDS {
            let Self { records, boards, .. } = self;
            records.retain(|known, record| record.aside.is_some() || boards.contains_key(known));
        }
        self.records.get_or_default(name.to_string())
    }

    /// A board that its agent knows how to check gets no job until that is done.
    pub(super) fn doubt(&mut self, name: &str, why: String) {
        let record = self.record_of(name);
        record.unwell = Some(why);
        if let Some(board) = self.boards.get_mut(name) {
            board.check_at = 0;
        }
    }

    /// Nothing is held against one of its boards. What somebody set aside stays that.
    fn trust(&mut self, name: &str) -> bool {
        self.rows.remove(&place_of(name));
        if let Some(board) = self.boards.get_mut(name) {
            board.troubles.clear();
        }
        // Of most boards nothing is known.
        let Some(record) = self.records.get_mut(name) else { return false };
        record.failed = None;
        record.unwell.take().is_some()
    }

    /// The same of all of them.
    pub(super) fn trust_boards(&mut self) -> bool {
        let names: Set<String> = self.boards.keys().chain(self.records.keys()).cloned().collect();
        // Each of them, also once one has changed.
        names.iter().filter(|name| self.trust(name)).count() > 0
    }

    /// Forgets what only a check could find out of boards that are offered without one now.
    pub(super) fn trust_unchecked(&mut self) -> bool {
        let Self { boards, records, .. } = self;
        let mut changed = false;
        for (name, record) in records.iter_mut() {
            if boards.get(name).is_some_and(|board| board.offered.health.is_none()) {
                changed |= record.unwell.take().is_some();
            }
        }
        changed
    }
}

/// When the next look at a board is, or why it is to be checked now.
enum Next {
    At(Millis),
    Now(String),
    Never,
}

fn next(now: Now, board: &Board, record: Option<&BoardRecord>, policy: &Policy) -> Next {
    let Some(health) = &board.offered.health else { return Next::Never };
    let not_before = board.check_at.max(board.rests_until);
    if now.steady < not_before {
        return Next::At(not_before);
    }
    if board.gone.is_some() {
        return Next::Never;
    }
    if let Some(why) = record.and_then(|record| record.unwell.clone()) {
        // A master that is started again and again does not have it flashed as often.
        let wait = record.and_then(|record| {
            let pause = backoff(policy, record.failed?);
            let left = record.last.as_ref()?.at.saturating_add(pause).saturating_sub(now.wall);
            // Where the clock was set back it says nothing.
            Some(left).filter(|left| *left <= pause)
        });
        if let Some(left) = wait.filter(|left| *left > 0) {
            return Next::At(now.steady.saturating_add(left));
        }
        // Who has it, or that it is away, is told by its agent.
        return if board.free { Next::Now(why) } else { Next::Never };
    }
    let Some(every_s) = health.every_s else { return Next::Never };
    let Some(last) = record.and_then(|record| record.last.as_ref()) else {
        return Next::Now("it was never checked".to_string());
    };
    let left = last.at.saturating_add(every_s.saturating_mul(1000)).saturating_sub(now.wall);
    match left {
        0 => Next::Now("it is time".to_string()),
        left => Next::At(now.steady.saturating_add(left.min(LOOK_MS))),
    }
}

fn backoff(policy: &Policy, failed: u32) -> Millis {
    policy.aside_ms << failed.saturating_sub(1).min(DOUBLINGS)
}

impl Scheduler {
    /// What is known of an agent's boards: when the ledger was last written, at start; nothing, when a machine is new.
    pub(super) fn known_boards(&mut self, agent: &str, records: Map<String, BoardRecord>) {
        if !records.is_empty() {
            self.agents.get_or_default(agent.to_string()).records = records;
        } else if let Some(agent) = self.agents.get_mut(agent) {
            agent.records = records;
        }
    }

    /// What is to be kept of an agent's boards.
    pub fn board_records(&self, agent: &str) -> Map<String, BoardRecord> {
        let records = self.agents.get(agent).into_iter().flat_map(|agent| agent.records.iter());
        let told = records.filter(|(_, record)| **record != BoardRecord::default());
        told.map(|(name, record)| (name.clone(), record.clone())).collect()
    }

    /// Asks for a check of each board for which one is due, and has itself woken for the next.
    pub(super) fn check_boards(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut due: Vec<Checkup> = Vec::new();
        let mut later: Vec<(String, String, Millis)> = Vec::new();
        for (name, agent) in self.bench_agents().filter(|(_, agent)| agent.keeps_its_boards().is_none()) {
            // This is looked at whenever anything may begin.
            for (board, known) in agent.boards.iter().filter(|(_, known)| known.offered.health.is_some()) {
                let record = agent.records.get(board);
                let idle = !self.checks.contains_key(&(name.to_string(), board.clone()));
                let aside = record.is_some_and(|record| record.aside.is_some());
                if !idle || aside {
                    continue;
                }
                match next(now, known, record, &self.policy) {
                    Next::Now(why) => {
                        due.push(Checkup { agent: name.to_string(), board: board.clone(), why });
                    }
                    Next::At(at) if at != known.check_at => later.push((name.to_string(), board.clone(), at)),
                    Next::At(_) | Next::Never => {}
                }
            }
        }
        for (agent, board, at) in later {
            self.look_later(&agent, &board, at);
        }
        for of in due {
            self.checks.insert((of.agent.clone(), of.board.clone()), None);
            out.push(Output::Check(of));
        }
    }

    fn look_later(&mut self, agent: &str, board: &str, at: Millis) {
        if let Some(board) = self.agents.get_mut(agent).and_then(|agent| agent.boards.get_mut(board)) {
            board.check_at = at;
            self.pauses.insert(at);
        }
    }

    /// A check that was asked for cannot be begun.
    pub(super) fn not_checked(&mut self, now: Now, agent: &str, board: &str) {
        self.checks.remove(&(agent.to_string(), board.to_string()));
        self.look_later(agent, board, now.steady.saturating_add(self.policy.aside_ms));
    }

    /// A job that checks a board is known.
    pub(super) fn checks_board(&mut self, record: &JobRecord) {
        if let Some(of) = &record.health {
            self.checks.insert((of.agent.clone(), of.board.clone()), Some(record.id));
        }
    }

    /// A job has ended, of which the record is new: one that checked a board has said whether it is well, or has not.
    pub(super) fn checked(&mut self, now: Now, id: JobId) {
        // Most jobs check none.
        let Some(job) = self.jobs.get(&id) else { return };
        // Nor is this one.
        let Some(of) = job.record.health.clone() else { return };
        let pair = (of.agent.clone(), of.board.clone());
        if self.checks.get(&pair) == Some(&Some(id)) {
            self.checks.remove(&pair);
        }
        let troubled = job.met.last().is_some_and(|met| met.blame == Blame::Platform);
        let passed = match job.record.state {
            JobState::Passed => true,
            // What its agent's file says cannot be done, and the board was not asked.
            JobState::Failed if job.record.fault == Fault::Spec => {
                return self.look_later(&of.agent, &of.board, now.steady.saturating_add(self.policy.aside_ms));
            }
            JobState::Failed | JobState::TimedOut => false,
            JobState::Infra if troubled => false,
            // Whatever ended it, it was not the board.
            _ => return self.look_later(&of.agent, &of.board, now.steady.saturating_add(self.policy.aside_ms)),
        };
        let why = match job.record.cause.as_str() {
            "" => format!("job {id} did not find it well"),
            cause => format!("job {id} did not find it well: {cause}"),
        };
        // Its agent's token may have been revoked.
        let Some(agent) = self.agents.get_mut(&of.agent) else { return };
        if let Some(board) = agent.boards.get_mut(&of.board) {
            board.rests_until = now.steady.saturating_add(APART_MS);
        }
        let record = agent.record_of(&of.board);
        record.last = Some(Checked { job: id, at: now.wall, passed });
        if passed {
            agent.trust(&of.board);
            if let Some(board) = agent.boards.get_mut(&of.board) {
                board.check_at = 0;
            }
        } else {
            let failed = record.failed.unwrap_or(0).saturating_add(1);
            (record.unwell, record.failed) = (Some(why), Some(failed));
            let at = now.steady.saturating_add(backoff(&self.policy, failed));
            self.look_later(&of.agent, &of.board, at);
        }
        self.noted.insert(of.agent);
    }

    /// A person sets a board aside, or takes it back: then nothing is held against it.
    pub(super) fn set_board_aside(&mut self, now: Now, agent: &str, board: &str, aside: Option<String>) {
        let known = self.agents.get_or_default(agent.to_string());
        if aside.is_none() {
            known.trust(board);
        }
        known.record_of(board).aside = aside.map(|by| Aside { by, at: now.wall });
        self.noted.insert(agent.to_string());
    }

    /// Tells of whom something is to be kept.
    pub(super) fn tell_noted(&mut self, out: &mut Vec<Output>) {
        out.extend(core::mem::take(&mut self.noted).into_iter().map(Output::Holds));
    }

    /// What people are told of a board's health.
    pub(super) fn health_of(&self, agent: &str, board: &str) -> BoardHealth {
        let record = self.agents.get(agent).and_then(|agent| agent.records.get(board)).cloned().unwrap_or_default();
        let check = self.checks.get(&(agent.to_string(), board.to_string())).copied().flatten();
        BoardHealth { record, check }
    }
}
