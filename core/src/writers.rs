//! Words of several writers, each with its number → those that are next, each once and in order.
//!
//! Whoever says words says again what was not answered, and goes on from there: so a word that comes a second time is passed over, and
//! so is one before which another one is missing.

use crate::ordered::Map;
use alloc::string::String;

/// Writers that are known at most: each program that a person runs at a board is one, and so is each line that they send from a page.
/// One is forgotten for another once so many others have come since it said anything, which takes far longer than it would say a word
/// again.
pub const WRITERS: usize = 1024;

/// See the file's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    /// The last word of each that was taken, and when: how many were taken before.
    last: Map<String, (u64, u64)>,
    taken: u64,
}

impl Writers {
    /// Whether this word is the next of its writer. It is taken then.
    pub fn take(&mut self, writer: &str, number: u64) -> bool {
        let last = self.last.get(writer).map_or(0, |(last, _)| *last);
        if last.checked_add(1) != Some(number) {
            return false;
        }
        self.taken = self.taken.saturating_add(1);
        self.last.insert(String::from(writer), (number, self.taken));
        if self.last.len() > WRITERS {
            let oldest = self.last.iter().min_by_key(|(_, (_, taken))| *taken).map(|(writer, _)| writer.clone());
            oldest.map(|oldest| self.last.remove(&oldest));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn words_are_taken_once_and_in_order_of_each_writer() {
        let mut writers = Writers::default();
        let taken = [("a", 2), ("a", 1), ("a", 1), ("b", 1), ("a", 3), ("a", 2), ("a", 3), ("b", 2), ("a", 0)]
            .map(|(writer, number)| writers.take(writer, number));
        assert_eq!(taken, [false, true, false, true, false, true, true, true, false]);
    }

    #[test]
    fn who_said_nothing_for_longest_makes_room() {
        let mut writers = Writers::default();
        assert!((0..WRITERS).all(|number| writers.take(&format!("w{number}"), 1)));
        assert!(writers.take("w0", 2) && writers.take("one more", 1) && writers.last.len() == WRITERS);
        assert!(!writers.take("w0", 2) && writers.take("w0", 3), "it is known still");
        assert!(!writers.take("w2", 1) && writers.take("w1", 1), "one made room");
        assert!(!writers.take("w8", u64::MAX));
    }
}
