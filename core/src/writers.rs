//! Words of several writers, each with its number → those that are next, each once and in order.
//!
//! Whoever says words says again what was not answered, and goes on from there: so a word that comes a second time is passed over, and
//! so is one before which another one is missing.

use crate::ordered::Map;
use alloc::string::String;

/// Writers that are known at most: each program that a person runs at a board is one, and its name is remembered to its end.
pub const WRITERS: usize = 1024;

/// See the file's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writers {
    last: Map<String, u64>,
}

impl Writers {
    /// Whether this word is the next of its writer. It is taken then.
    pub fn take(&mut self, writer: &str, number: u64) -> bool {
        let last = self.last.get(writer).copied();
        let next = last.unwrap_or(0).checked_add(1) == Some(number);
        if !next || (last.is_none() && self.last.len() >= WRITERS) {
            return false;
        }
        self.last.insert(String::from(writer), number);
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
    fn there_are_not_more_of_them_than_are_remembered() {
        let mut writers = Writers::default();
        assert!((0..WRITERS).all(|number| writers.take(&format!("w{number}"), 1)));
        assert!(!writers.take("one more", 1) && writers.take("w7", 2));
        assert!(!writers.take("w8", u64::MAX));
    }
}
