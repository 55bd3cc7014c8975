//! What a machine finds that cannot be → sentences that come out with what else it says.
//!
//! What an input names may be gone by the time it comes: that is usual, and said where it is passed over. What a machine itself
//! has written down in two places must be in both. Where it is not, going on with a guess would hide the mistake until nobody
//! can find it any more: the machine leaves the one thing undone, goes on with all others, and says so. Who carries it out
//! tells people; tests and the simulation end there.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Sentences kept between two outputs: one mistake is seen in several places.
const KEPT: usize = 8;

/// What people are told of it.
pub fn sentence(what: &str) -> String {
    format!("Sai contradicts itself ({what}), which is a mistake in Sai: please report it")
}

/// What has been found since the machine last said something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bugs(Vec<&'static str>);

impl Bugs {
    /// This was found.
    #[cold]
    pub(crate) fn note(&mut self, what: &'static str) {
        if self.0.len() < KEPT && !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    /// Says what was found, as what the machine's outputs call it.
    pub(crate) fn tell<Output>(&mut self, of: impl Fn(&'static str) -> Output, out: &mut Vec<Output>) {
        if !self.0.is_empty() {
            out.extend(core::mem::take(&mut self.0).into_iter().map(of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn each_is_said_once_and_only_so_many() {
        let (mut bugs, mut out) = (Bugs::default(), vec![]);
        for what in ["a", "b", "a"] {
            bugs.note(what);
        }
        bugs.tell(|what| what, &mut out);
        bugs.tell(|what| what, &mut out);
        assert_eq!(out, ["a", "b"]);
        for what in ["1", "2", "3", "4", "5", "6", "7", "8", "9"] {
            bugs.note(what);
        }
        bugs.tell(|what| what, &mut out);
        assert_eq!(out.len(), 2 + KEPT);
    }
}
