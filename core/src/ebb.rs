//! How many links there are → when memory is given back to the system, since most of them have gone.
//!
//! What thousands of links took is free again when they are gone, but in pieces between what is in use, and an allocator keeps
//! those for whoever comes next. Looking for them takes a while and empties what would be needed soon, so it is done after the
//! ebb alone.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Links that must have gone: each took some 30 KiB, so that less than 8 MiB is nothing to look for.
const GONE: usize = 256;
/// How long after that, in milliseconds: who was cut off by a network is back within it, and the last of a crowd have gone.
const SETTLES_MS: Millis = 10_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// So many links there are.
    Links(usize),
    /// The [`Ebb::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give back what is free.
    GiveBack,
}

/// The links since memory was last given back.
#[derive(Clone, Debug, Default)]
pub struct Ebb {
    links: usize,
    most: usize,
    due: Option<Millis>,
}

impl Ebb {
    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        self.due
    }

    /// Takes an input and says what is to be done.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        if let Input::Links(links) = input {
            self.links = links;
            self.most = self.most.max(links);
        }
        let low = self.most - self.links >= GONE && self.links <= self.most / 2;
        self.due = if low { self.due.or(Some(now.saturating_add(SETTLES_MS))) } else { None };
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.most = self.links;
            out.push(Output::GiveBack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(ebb: &mut Ebb, now: Millis, input: Input) -> bool {
        let mut out = Vec::new();
        ebb.handle(now, input, &mut out);
        !out.is_empty()
    }

    #[test]
    fn memory_is_given_back_once_after_most_have_gone() {
        let mut ebb = Ebb::default();
        assert!(!give(&mut ebb, 0, Input::Links(5000)));
        assert!(!give(&mut ebb, 1, Input::Links(2501)));
        assert_eq!(ebb.deadline(), None);
        assert!(!give(&mut ebb, 2, Input::Links(2500)));
        assert!(!give(&mut ebb, 9, Input::Links(3)));
        assert_eq!(ebb.deadline(), Some(2 + SETTLES_MS));
        assert!(!give(&mut ebb, 1 + SETTLES_MS, Input::Tick));
        assert!(give(&mut ebb, 2 + SETTLES_MS, Input::Tick));
        assert_eq!(ebb.deadline(), None);
        assert!(!give(&mut ebb, 3 + SETTLES_MS, Input::Links(0)), "three are not worth it");
    }

    #[test]
    fn who_comes_back_in_time_finds_what_there_was() {
        let mut ebb = Ebb::default();
        give(&mut ebb, 0, Input::Links(1000));
        give(&mut ebb, 1, Input::Links(0));
        assert!(ebb.deadline().is_some());
        give(&mut ebb, 2, Input::Links(900));
        assert_eq!(ebb.deadline(), None);
        assert!(!give(&mut ebb, 3 * SETTLES_MS, Input::Tick));
    }
}
