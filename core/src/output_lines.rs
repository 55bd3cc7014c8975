//! Items of a log → the numbers of the lines of output that begin with each, as pages number them.
//!
//! Lines are numbered over all channels in the order in which they begin, and the end of a step ends those under way.

use crate::record::{Item, Record};
use alloc::vec::Vec;
use core::ops::Range;

/// Counts them.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// Whether a line is under way, by number of the channel; only those that were announced, or are below one, have lines.
    open: Vec<bool>,
    count: u64,
}

impl Lines {
    /// Lines so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next item; gives the numbers of the lines that begin with it.
    pub fn take(&mut self, item: &Item<'_>) -> Range<u64> {
        let next = self.count + 1;
        let none = next..next;
        match item {
            Item::Data { channel, bytes, .. } => {
                let Some(open) = self.open.get_mut(usize::from(*channel)) else { return none };
                let Some((last, before)) = bytes.split_last() else { return none };
                // A line begins with the first byte, and behind each newline that is not the last of all.
                let inside = before.iter().filter(|byte| **byte == b'\n').count() as u64;
                let begun = inside + u64::from(!*open);
                *open = *last != b'\n';
                self.count += begun;
                next..next + begun
            }
            Item::Record(_, Record::Channel(channel, _)) => {
                let needed = usize::from(*channel) + 1;
                if self.open.len() < needed {
                    self.open.resize(needed, false);
                }
                none
            }
            Item::Record(_, Record::StepStart(_) | Record::StepEnd(_) | Record::Verdict(_)) => {
                self.open.fill(false);
                none
            }
            _ => none,
        }
    }
}
