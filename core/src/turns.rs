//! What turns of a machine lead to → groups of changes for the disk, and what may be let go when they are durable.
//!
//! Nobody hears of a turn before all it changes is durable, and turns are let go in their order. A disk takes as long for many
//! changes as for one, so that those of the turns that come while it is busy become one group.

use crate::limits::Millis;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Groups that are at the disk at once: the one it writes, and the next, so that it does not wait for us in between.
pub const COMMITS: usize = 2;

/// How long a group may take before it is said that the disk is slow, in milliseconds: a card with wear to level takes a
/// second or two.
pub const PATIENCE_MS: Millis = 10_000;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input<Change, Release> {
    /// A turn.
    Turn {
        /// What it changes, in order.
        changes: Vec<Change>,
        /// What waits for that.
        release: Release,
    },
    /// The group with this number is durable, and with it all before it.
    Committed(u64),
    /// The [`Turns::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<Change, Release> {
    /// Make these durable, all of them or none, after the groups given out before.
    Commit(u64, Vec<Change>),
    /// Let go what a turn leads to.
    Release(Release),
    /// The disk is slow, or is not any more.
    Slow(bool),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// A turn whose release waits.
#[derive(Clone, Debug)]
struct Turn<Release> {
    /// The group that its changes are in; 0 when it has none.
    group: u64,
    release: Release,
}

/// A group at the disk.
#[derive(Clone, Copy, Debug)]
struct Commit {
    group: u64,
    since: Millis,
}

/// The turns that are not let go yet.
#[derive(Clone, Debug)]
pub struct Turns<Change, Release> {
    turns: VecDeque<Turn<Release>>,
    /// Changes of the group that is given out next.
    next: Vec<Change>,
    /// Its number.
    group: u64,
    at_disk: VecDeque<Commit>,
    durable: u64,
    slow: bool,
}

impl<Change, Release> Default for Turns<Change, Release> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), next: Vec::new(), group: 1, at_disk: VecDeque::new(), durable: 0, slow: false }
    }
}

impl<Change, Release> Turns<Change, Release> {
    /// How many turns wait.
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        let oldest = self.at_disk.front().filter(|_| !self.slow)?;
        Some(oldest.since.saturating_add(PATIENCE_MS))
    }

    /// Takes an input and says what is to be done.
    pub fn handle(&mut self, now: Millis, input: Input<Change, Release>, out: &mut Vec<Output<Change, Release>>) {
        match input {
            Input::Turn { changes, release } => {
                let group = if changes.is_empty() { 0 } else { self.group };
                self.next.extend(changes);
                self.turns.push_back(Turn { group, release });
            }
            Input::Committed(group) if group >= self.group => {
                out.push(Output::Bug("committed: a group that was not given out"));
            }
            Input::Committed(group) => {
                self.durable = self.durable.max(group);
                self.at_disk.retain(|commit| commit.group > group);
                if let Some(next) = self.at_disk.front_mut() {
                    // It had to wait for the one before.
                    next.since = now;
                }
                if core::mem::take(&mut self.slow) {
                    out.push(Output::Slow(false));
                }
            }
            Input::Tick => {
                if self.deadline().is_some_and(|at| at <= now) {
                    self.slow = true;
                    out.push(Output::Slow(true));
                }
            }
        }
        let held = self.turns.iter().position(|turn| turn.group > self.durable).unwrap_or(self.turns.len());
        out.extend(self.turns.drain(..held).map(|turn| Output::Release(turn.release)));
        if !self.next.is_empty() && self.at_disk.len() < COMMITS {
            self.at_disk.push_back(Commit { group: self.group, since: now });
            out.push(Output::Commit(self.group, core::mem::take(&mut self.next)));
            self.group += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    type Out = Vec<Output<char, u32>>;

    fn give(turns: &mut Turns<char, u32>, now: Millis, input: Input<char, u32>) -> Out {
        let mut out = Vec::new();
        turns.handle(now, input, &mut out);
        out
    }

    fn turn(changes: &str, release: u32) -> Input<char, u32> {
        Input::Turn { changes: changes.chars().collect(), release }
    }

    #[test]
    fn nothing_is_let_go_before_what_it_changes_is_durable() {
        let mut turns = Turns::default();
        assert_eq!(give(&mut turns, 0, turn("", 1)), [Output::Release(1)]);
        assert_eq!(
            give(&mut turns, 0, Input::Committed(1)),
            [Output::Bug("committed: a group that was not given out")]
        );
        assert_eq!(give(&mut turns, 0, turn("ab", 2)), [Output::Commit(1, vec!['a', 'b'])]);
        // One that changes nothing does not overtake.
        assert_eq!(give(&mut turns, 0, turn("", 3)), []);
        assert_eq!(turns.len(), 2);
        assert_eq!(give(&mut turns, 0, Input::Committed(1)), [Output::Release(2), Output::Release(3)]);
        assert!(turns.is_empty());
    }

    #[test]
    fn what_comes_while_the_disk_is_busy_is_one_group() {
        let mut turns = Turns::default();
        assert_eq!(give(&mut turns, 0, turn("a", 1)), [Output::Commit(1, vec!['a'])]);
        assert_eq!(give(&mut turns, 0, turn("b", 2)), [Output::Commit(2, vec!['b'])]);
        for (change, number) in [("c", 3), ("d", 4), ("", 5), ("e", 6)] {
            assert_eq!(give(&mut turns, 0, turn(change, number)), []);
        }
        let next = Output::Commit(3, vec!['c', 'd', 'e']);
        assert_eq!(give(&mut turns, 0, Input::Committed(1)), [Output::Release(1), next]);
        assert_eq!(give(&mut turns, 0, Input::Committed(2)), [Output::Release(2)]);
        let released = [3, 4, 5, 6].map(Output::Release);
        assert_eq!(give(&mut turns, 0, Input::Committed(3)), released);
    }

    #[test]
    fn a_later_group_says_that_those_before_are_durable_too() {
        let mut turns = Turns::default();
        give(&mut turns, 0, turn("a", 1));
        give(&mut turns, 0, turn("b", 2));
        assert_eq!(give(&mut turns, 0, Input::Committed(2)), [Output::Release(1), Output::Release(2)]);
        assert_eq!(give(&mut turns, 0, Input::Committed(1)), []);
        assert_eq!(turns.deadline(), None);
    }

    #[test]
    fn a_disk_that_hangs_is_told_once_and_so_is_its_return() {
        let mut turns = Turns::default();
        assert_eq!(turns.deadline(), None);
        give(&mut turns, 5, turn("a", 1));
        give(&mut turns, 6, turn("b", 2));
        let due = 5 + PATIENCE_MS;
        assert_eq!(turns.deadline(), Some(due));
        assert_eq!(give(&mut turns, due - 1, Input::Tick), []);
        assert_eq!(give(&mut turns, due, Input::Tick), [Output::Slow(true)]);
        assert_eq!(turns.deadline(), None);
        assert_eq!(give(&mut turns, due + 9, Input::Tick), []);
        assert_eq!(give(&mut turns, due + 10, Input::Committed(1)), [Output::Slow(false), Output::Release(1)]);
        assert_eq!(turns.deadline(), Some(due + 10 + PATIENCE_MS), "the next had to wait for it");
    }
}
