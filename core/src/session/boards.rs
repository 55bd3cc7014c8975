//! An agent's boards, what their owners say of them and which attempts are there → what the master is told of each.
//!
//! A board is free only where its owner calls it so and nothing of an attempt can be there any more. What is told names the
//! latest grant that this agent has heard of: the master knows by it whether that was said before or after it gave the board.

use crate::job::JobKey;
use crate::ordered::Map;
use crate::units::OfferedBoard;
use crate::wire::Units;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// How a board stands, by its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its owner has not said, or cannot be asked, or does not know its mode: why, for people, where something is in the way.
    Unknown(Option<String>),
    /// Nobody writes to it, and nothing of it is moved.
    Free,
    /// Somebody who is no job of ours has it: who, for people.
    Busy(String),
}

impl Default for Standing {
    fn default() -> Self {
        Self::Unknown(None)
    }
}

/// A board that is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Board {
    standing: Standing,
    /// Number of the latest grant that was heard of.
    latest: u64,
    /// What the master of the present link was told last.
    told: Option<Units>,
}

/// A part of the session, which alone changes it. See the file's first line.
#[derive(Clone, Debug, Default)]
pub(super) struct Boards {
    offered: Vec<OfferedBoard>,
    known: Map<String, Board>,
    /// Attempts that are at a board, or may be, each with the board's name and its grant.
    at: Map<JobKey, (String, u64)>,
}

impl Boards {
    /// Offers these from now on. How those stand that were there before is known; all are to be told of anew.
    pub(super) fn offer(&mut self, offered: Vec<OfferedBoard>) {
        let mut before = core::mem::take(&mut self.known);
        for board in &offered {
            let known = before.remove(&board.name).unwrap_or_default();
            let latest = self.at.values().filter(|(name, _)| *name == board.name).map(|(_, grant)| *grant).max();
            let latest = known.latest.max(latest.unwrap_or(0));
            self.known.insert(board.name.clone(), Board { latest, told: None, ..known });
        }
        self.offered = offered;
    }

    /// What a greeting and an offer say; none where there are none.
    pub(super) fn offered(&self) -> Option<Vec<OfferedBoard>> {
        (!self.offered.is_empty()).then(|| self.offered.clone())
    }

    /// An attempt is at a board from now on, or was found there.
    pub(super) fn give(&mut self, key: JobKey, name: &str, grant: u64) {
        if let Some(board) = self.known.get_mut(name) {
            board.latest = board.latest.max(grant);
        }
        self.at.insert(key, (name.to_string(), grant));
    }

    /// Nothing of an attempt can be at a board any more.
    pub(super) fn leave(&mut self, key: JobKey) {
        let left = self.at.remove(&key);
        if let Some(board) = left.and_then(|(name, _)| self.known.get_mut(&name)) {
            // What was known of it is from before: only what its owner says from now on counts.
            board.standing = Standing::default();
        }
    }

    /// An owner says how its board stands. Of one that is not offered that was asked too late.
    pub(super) fn stand(&mut self, name: &str, standing: Standing) {
        if let Some(board) = self.known.get_mut(name) {
            board.standing = standing;
        }
    }

    /// There is another master, or the same one that knows nothing: all is told again.
    pub(super) fn forget_told(&mut self) {
        for board in self.known.values_mut() {
            board.told = None;
        }
    }

    /// What the master is to be told that it has not been told yet.
    pub(super) fn news(&mut self) -> Vec<Units> {
        let mut news = Vec::new();
        for (name, board) in &mut self.known {
            let here = self.at.iter().filter(|(_, (other, _))| other == name);
            let holder = here.max_by_key(|(_, (_, grant))| *grant).map(|(key, (_, grant))| (*key, *grant));
            let (state, why) = match (&board.standing, holder) {
                (_, Some(_)) => (Units::BUSY, None),
                (Standing::Free, None) => (Units::FREE, None),
                (Standing::Busy(who), None) => (Units::BUSY, Some(who.clone())),
                (Standing::Unknown(why), None) => (Units::UNKNOWN, why.clone()),
            };
            let grant = holder.map_or(board.latest, |(_, grant)| grant);
            let units = Units {
                board: Some(name.clone()),
                state: state.to_string(),
                holder: holder.map(|(key, _)| key),
                grant: (grant > 0).then_some(grant),
                why,
            };
            if board.told.as_ref() != Some(&units) {
                board.told = Some(units.clone());
                news.push(units);
            }
        }
        news
    }
}
