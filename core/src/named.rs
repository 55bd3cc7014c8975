//! Revisions that hooks name → what became of each: none of them is lost without a word.
//!
//! A look sees the tips there are. Of pushes that follow each other faster than looks, all but the last are passed over by it,
//! and only the hook has told of them.

use crate::git_text::Tip;
use crate::job::EventId;
use crate::ordered::Map;
use alloc::collections::VecDeque;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most revisions that wait for a look, and most of which is remembered what became of them. Anyone may name some.
pub const NAMED: usize = 64;

/// What became of a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is an event.
    Event(EventId),
    /// A later push came before it was looked at; an event says so.
    Superseded(EventId),
    /// It asks for nothing: it has no saifile.
    NoSaifile,
}

/// The revisions of one repository.
#[derive(Clone, Debug, Default)]
pub struct NamedRevisions {
    /// The order is theirs in time.
    waiting: Vec<Tip>,
    settled: VecDeque<(Tip, Standing)>,
}

impl NamedRevisions {
    /// A hook names one, which waits for the next look.
    pub fn name(&mut self, reference: &str, revision: &str) {
        let tip = Tip { reference: reference.to_string(), revision: revision.to_string() };
        if self.waiting.len() < NAMED && !self.waiting.contains(&tip) && self.superseded(&tip).is_none() {
            self.waiting.push(tip);
        }
    }

    fn superseded(&self, tip: &Tip) -> Option<Standing> {
        self.standing(&tip.reference, &tip.revision).filter(|standing| matches!(standing, Standing::Superseded(_)))
    }

    /// What became of one, as far as that is remembered: the last time, if it was pushed more than once.
    pub fn standing(&self, reference: &str, revision: &str) -> Option<Standing> {
        let settled = self.settled.iter().rev();
        let mut same = settled.filter(|(tip, _)| tip.reference == reference && tip.revision == revision);
        same.next().map(|(_, standing)| *standing)
    }

    /// Remembers what became of one.
    pub fn settle(&mut self, tip: &Tip, standing: Standing) {
        self.waiting.retain(|waiting| waiting != tip);
        self.settled.push_back((tip.clone(), standing));
        if self.settled.len() > NAMED {
            self.settled.pop_front();
        }
    }

    /// After a look that saw these tips: takes those that are none of them any more. One that is a tip waits for its event or,
    /// when it is `known` to have been one, for nothing.
    pub fn take_passed(&mut self, tips: &[Tip], known: &Map<String, String>) -> Vec<Tip> {
        let waiting = core::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return waiting;
        }
        let tips = Map::from_iter(tips.iter().map(|tip| (tip.reference.as_str(), tip.revision.as_str())));
        let (at_tip, passed): (Vec<Tip>, Vec<Tip>) =
            waiting.into_iter().partition(|tip| tips.get(tip.reference.as_str()) == Some(&tip.revision.as_str()));
        self.waiting = at_tip.into_iter().filter(|tip| known.get(&tip.reference) != Some(&tip.revision)).collect();
        // Nor one that was seen as a tip before it was passed.
        passed.into_iter().filter(|tip| self.standing(&tip.reference, &tip.revision).is_none()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    fn tip(reference: &str, revision: &str) -> Tip {
        Tip { reference: reference.to_string(), revision: revision.to_string() }
    }

    #[test]
    fn what_was_named_and_passed_over_is_told_once() {
        let mut named = NamedRevisions::default();
        for revision in ["1", "2", "3", "2"] {
            named.name("main", revision);
        }
        let nothing = Map::new();
        assert_eq!(named.take_passed(&[tip("main", "3")], &nothing), [tip("main", "1"), tip("main", "2")]);
        named.settle(&tip("main", "1"), Standing::Superseded(7));
        named.settle(&tip("main", "3"), Standing::Event(8));
        assert_eq!(named.standing("main", "3"), Some(Standing::Event(8)));
        assert_eq!(named.standing("other", "3"), None);
        // Poked again.
        for revision in ["1", "3"] {
            named.name("main", revision);
        }
        assert_eq!(named.take_passed(&[tip("main", "4")], &nothing), []);
        // One that is at the tip waits until it is an event, however many looks that takes.
        named.name("main", "5");
        for _ in 0..3 {
            assert_eq!(named.take_passed(&[tip("main", "5")], &nothing), []);
        }
        assert_eq!(named.take_passed(&[], &nothing), [tip("main", "5")]);
    }

    #[test]
    fn a_tip_that_is_known_waits_for_nothing_and_strangers_fill_no_memory() {
        let mut named = NamedRevisions::default();
        named.name("main", "1");
        let known = Map::from([("main".to_string(), "1".to_string())]);
        assert_eq!(named.take_passed(&[tip("main", "1")], &known), []);
        assert_eq!(named.take_passed(&[tip("main", "2")], &known), []);
        for number in 0..1000 {
            named.name("main", &format!("{number}"));
            named.settle(&tip("main", &format!("x{number}")), Standing::NoSaifile);
        }
        assert_eq!((named.waiting.len(), named.settled.len()), (NAMED, NAMED));
    }
}
