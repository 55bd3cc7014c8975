//! What an agent offers and says of a board, and what is known of it → how it stands, for people.

use super::Policy;
use super::trouble::Row;
use super::unit_table::Waiter;
use crate::clock::Now;
use crate::job::{JobId, JobKey};
use crate::ledger::BoardRecord;
use crate::limits::Millis;
use crate::ordered::Map;
use crate::units::OfferedBoard;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Repositories whose troubles at one board are counted at most.
const REPOSITORIES: usize = 64;

/// A board as its agent told of it on its present link.
#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) offered: OfferedBoard,
    /// Number of the latest grant on this link.
    pub(super) latest: u64,
    pub(super) free: bool,
    /// Who has it, where that is no job.
    pub(super) busy: Option<String>,
    /// What keeps it from being used by anybody, as its agent says.
    pub(super) gone: Option<String>,
    /// Troubles in a row of each repository there: those of one take it away from that one alone.
    pub(super) troubles: Map<String, Row>,
    /// It is not looked at before this whether its health is to be found out.
    pub(super) check_at: Millis,
    /// Nor before this.
    pub(super) rests_until: Millis,
}

impl Board {
    /// One more trouble of a repository there. Gives how many in a row that makes, and the end of the pause that it brings.
    pub(super) fn trouble(&mut self, now: Now, repository: &str, why: &str, policy: &Policy) -> (u32, Option<Millis>) {
        let row = Row::of(&mut self.troubles, REPOSITORIES, repository);
        row.add(why);
        (row.count(), row.pause(now, policy))
    }

    /// Why a repository gets it not now, where it is paused for that one alone, and for how many seconds.
    pub(super) fn paused_for(&self, now: Millis, repository: &str) -> Option<(String, u64)> {
        self.troubles.get(repository)?.describe(now)
    }
}

/// What an agent says of how a board of its stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It is free, and this is the latest grant that the agent knows of it.
    Free(u64),
    /// Somebody has it: who, where that is no job.
    Busy(Option<String>),
    /// It cannot be used, and why.
    Gone(String),
}

/// What people are told of a board's health.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BoardHealth {
    /// What is known of it.
    pub record: BoardRecord,
    /// The job that is to find out how well it is, under way or queued.
    pub check: Option<JobId>,
}

impl BoardHealth {
    /// Why no job gets it but one that checks it, if so.
    pub fn keeps(&self) -> Option<String> {
        let aside = self.record.aside.as_ref().map(|aside| format!("set aside by {}", aside.by));
        aside.or_else(|| {
            let why = self.record.unwell.as_ref()?;
            Some(match self.check {
                Some(job) => format!("{why}; job {job} finds out whether it is well"),
                None => format!("{why}; no job gets it until it is found to be well"),
            })
        })
    }
}

/// A board that is offered, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardRow {
    /// Its agent.
    pub agent: String,
    /// What its agent says of it.
    pub offered: OfferedBoard,
    /// The attempt that has it, if one has.
    pub holder: Option<BoardHolder>,
    /// Whether it can be given.
    pub free: bool,
    /// How it stands, for people.
    pub what: String,
    /// Seconds for which no job gets it after trouble.
    pub pause_s: Option<u64>,
    /// Jobs that wait and would do with it.
    pub waiting: usize,
    /// Those of them that are next, in order.
    pub waiters: Vec<Waiter>,
    /// Repositories that do not get it for a while.
    pub kept_from: Vec<KeptFrom>,
    /// What is known of its health, and whether somebody has set it aside.
    pub health: BoardHealth,
}

/// A repository that does not get a board after trouble there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFrom {
    /// The repository.
    pub repository: String,
    /// Why, for people.
    pub why: String,
    /// Seconds for which no job of it gets the board.
    pub seconds: u64,
}

/// An attempt at a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoardHolder {
    /// The attempt.
    pub key: JobKey,
    /// Number of its grant.
    pub grant: u64,
    /// Since when, Unix milliseconds.
    pub since: u64,
    /// Until when at most, Unix milliseconds, unless its agent is away meanwhile.
    pub until: u64,
}

impl BoardRow {
    /// Whether the same is to be said of it, but for time that passes.
    pub fn is_much_like(&self, other: &Self) -> bool {
        let kept = |row: &Self| {
            row.kept_from.iter().map(|kept| (kept.repository.clone(), kept.why.clone())).collect::<Vec<_>>()
        };
        let paused = self.pause_s.is_some() == other.pause_s.is_some() && kept(self) == kept(other);
        // How long a lease lasts moves with each use of it.
        let there = |row: &Self| row.holder.as_ref().map(|holder| (holder.key, holder.grant));
        let same = paused && there(self) == there(other);
        let (pause_s, kept_from, holder) = (other.pause_s, other.kept_from.clone(), other.holder.clone());
        same && Self { pause_s, kept_from, holder, ..self.clone() } == *other
    }

    /// How it stands, in a word.
    pub fn state(&self) -> &'static str {
        let aside = self.pause_s.is_some() || self.health.keeps().is_some();
        match (self.free, &self.holder) {
            (true, _) => "free",
            (false, Some(_)) => "busy",
            (false, None) if aside => "aside",
            (false, None) => "away",
        }
    }

    /// How it stands in a sentence.
    pub fn told(&self) -> String {
        match self.pause_s {
            Some(seconds) => format!("{}; no job for {seconds} s", self.what),
            None => self.what.clone(),
        }
    }
}
