//! An agent's boards, what their owners say of them and which attempts are there → what the master is told of each.
//!
//! A board is free only where its owner calls it so and nothing of an attempt can be there any more. What is told names the
//! latest grant that this agent has heard of: the master knows by it whether that was said before or after it gave the board.

use crate::job::JobKey;
use crate::ordered::Map;
use crate::units::OfferedBoard;
use crate::wire::Units;
use alloc::format;
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

/// A board, or a rig, that is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Board {
    /// Its boards, whose owners say how they stand: itself, where it is no rig.
    parts: Vec<String>,
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
    /// How each board stands, by its owner; those of a rig each.
    standings: Map<String, Standing>,
    /// Attempts that are at boards, or may be, each with the names of what it was given, and the grant.
    at: Map<JobKey, (Vec<String>, u64)>,
}

impl Boards {
    /// Offers these from now on. How those stand that were there before is known; all are to be told of anew.
    pub(super) fn offer(&mut self, offered: Vec<OfferedBoard>) {
        let mut before = core::mem::take(&mut self.known);
        let mut standings = core::mem::take(&mut self.standings);
        for board in &offered {
            let known = before.remove(&board.name).unwrap_or_default();
            let held = self.at.values().filter(|(names, _)| names.contains(&board.name));
            let latest = held.map(|(_, grant)| *grant).max();
            let latest = known.latest.max(latest.unwrap_or(0));
            let parts = board.boards.clone().unwrap_or_else(|| [board.name.clone()].to_vec());
            for part in &parts {
                self.standings.insert(part.clone(), standings.remove(part).unwrap_or_default());
            }
            self.known.insert(board.name.clone(), Board { parts, latest, told: None });
        }
        self.offered = offered;
    }

    /// What a greeting and an offer say; none where there are none.
    pub(super) fn offered(&self) -> Option<Vec<OfferedBoard>> {
        (!self.offered.is_empty()).then(|| self.offered.clone())
    }

    /// An attempt is at boards from now on, or was found there.
    pub(super) fn give(&mut self, key: JobKey, names: Vec<String>, grant: u64) {
        for name in &names {
            if let Some(board) = self.known.get_mut(name) {
                board.latest = board.latest.max(grant);
            }
        }
        self.at.insert(key, (names, grant));
    }

    /// Nothing of an attempt can be at a board any more. Gives those whose owners are to be asked, since what was known of them is from
    /// before: only what they say from now on counts.
    pub(super) fn leave(&mut self, key: JobKey) -> Vec<String> {
        let left = self.at.remove(&key).map(|(names, _)| names).unwrap_or_default();
        let parts = left.iter().filter_map(|name| self.known.get(name)).flat_map(|board| board.parts.clone());
        let parts: Vec<String> = parts.collect();
        for part in &parts {
            self.standings.insert(part.clone(), Standing::default());
        }
        parts
    }

    /// An owner says how its board stands. Of one that is not offered that was asked too late.
    pub(super) fn stand(&mut self, name: &str, standing: Standing) {
        if let Some(known) = self.standings.get_mut(name) {
            *known = standing;
        }
    }

    /// There is another master, or the same one that knows nothing: all is told again.
    pub(super) fn forget_told(&mut self) {
        for board in self.known.values_mut() {
            board.told = None;
        }
    }

    /// How one stands that is offered. A rig is free where all of its boards are; what is in the way at one of them is told with its name.
    fn standing(&self, name: &str, board: &Board) -> Standing {
        let each = board.parts.iter().map(|part| (part, self.standings.get(part).cloned().unwrap_or_default()));
        let mut all: Vec<(&String, Standing)> = each.filter(|(_, standing)| *standing != Standing::Free).collect();
        // Somebody who is there is more than what nobody knows.
        all.sort_by_key(|(_, standing)| !matches!(standing, Standing::Busy(_)));
        let Some((part, standing)) = all.into_iter().next() else { return Standing::Free };
        let named = |text: String| if part == name { text } else { format!("{part}: {text}") };
        match standing {
            Standing::Busy(who) => Standing::Busy(named(who)),
            Standing::Unknown(why) => Standing::Unknown(why.map(named)),
            Standing::Free => Standing::Free,
        }
    }

    /// What the master is to be told that it has not been told yet.
    pub(super) fn news(&mut self) -> Vec<Units> {
        let mut news = Vec::new();
        for (name, board) in &self.known {
            let here = self.at.iter().filter(|(_, (names, _))| names.contains(name));
            let holder = here.max_by_key(|(_, (_, grant))| *grant).map(|(key, (_, grant))| (*key, *grant));
            let (state, why) = match (self.standing(name, board), holder) {
                (_, Some(_)) => (Units::BUSY, None),
                (Standing::Free, None) => (Units::FREE, None),
                (Standing::Busy(who), None) => (Units::BUSY, Some(who)),
                (Standing::Unknown(why), None) => (Units::UNKNOWN, why),
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
                news.push(units);
            }
        }
        for units in &news {
            if let Some(board) = units.board.as_ref().and_then(|name| self.known.get_mut(name)) {
                board.told = Some(units.clone());
            }
        }
        news
    }
}
