//! Lines that strangers can cause → a few for people: what is new at once, and once a minute how many more there were.
//!
//! Whoever may knock at the door may do so a thousand times a second, and each knock would be a line in a journal that the
//! operator wants to read, on a disk that others need. So a line is told with whom it is about, an address or an agent:
//! it is not told again while it goes on, and the count is, whether or not another one comes.

use crate::limits::Millis;
use crate::ordered::Map;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

/// Milliseconds over which lines are counted.
pub const WINDOW_MS: Millis = 60_000;
/// Different lines about one source that are told in that time.
const LINES: usize = 4;
/// Lines that are told at once in that time, whomever they are about: strangers have many addresses.
const AT_ONCE: usize = 16;
/// Sources that are told apart; the others are counted as one.
const SOURCES: usize = 256;
/// Sources whose counts are told one by one at the end of the time.
const COUNTS: usize = 8;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// This is to be told, a line about a source.
    Line {
        /// Whom it is about: an address, an agent, a repository.
        source: String,
        /// The line.
        text: String,
    },
    /// The [`Few::deadline`] has come.
    Tick,
}

/// The lines of one source.
#[derive(Clone, Debug, Default)]
struct Source {
    /// Those that were told.
    told: Vec<String>,
    /// The last one.
    last: String,
    left_out: u64,
}

/// The lines of the last minute.
#[derive(Clone, Debug)]
pub struct Few {
    window_ms: Millis,
    until: Millis,
    at_once: usize,
    sources: Map<String, Source>,
    /// Those of sources beyond [`SOURCES`].
    others: u64,
}

impl Default for Few {
    fn default() -> Self {
        Self::over(WINDOW_MS)
    }
}

impl Few {
    /// Counts over another time than a minute, in milliseconds.
    pub fn over(window_ms: Millis) -> Self {
        Self { window_ms, until: 0, at_once: 0, sources: Map::new(), others: 0 }
    }

    /// When [`Input::Tick`] is wanted: only where there is a count to tell.
    pub fn deadline(&self) -> Option<Millis> {
        let some = self.others > 0 || self.sources.values().any(|source| source.left_out > 0);
        some.then_some(self.until)
    }

    /// Takes an input; lines to tell come out.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<String>) {
        if now >= self.until {
            self.count(out);
            self.until = now.saturating_add(self.window_ms);
        }
        if let Input::Line { source, text } = input {
            self.line(source, text, out);
        }
    }

    fn line(&mut self, source: String, text: String, out: &mut Vec<String>) {
        if !self.sources.contains_key(&source) && self.sources.len() >= SOURCES {
            self.others = self.others.saturating_add(1);
            return;
        }
        let source = self.sources.get_or_default(source);
        source.last.clone_from(&text);
        if source.told.contains(&text) || source.told.len() >= LINES || self.at_once >= AT_ONCE {
            source.left_out = source.left_out.saturating_add(1);
            return;
        }
        self.at_once += 1;
        source.told.push(text.clone());
        out.push(text);
    }

    /// Tells what was left out. What went on is not told anew: its count will be.
    fn count(&mut self, out: &mut Vec<String>) {
        let seconds = self.window_ms.div_ceil(1000);
        self.sources.retain(|_, source| source.left_out > 0);
        let mut others = core::mem::take(&mut self.others);
        for (index, source) in self.sources.values_mut().enumerate() {
            let left_out = core::mem::take(&mut source.left_out);
            if index < COUNTS {
                out.push(format!("{} ({left_out} more such lines in {seconds} s)", source.last));
            } else {
                others = others.saturating_add(left_out);
            }
        }
        if others > 0 {
            out.push(format!("{others} more lines about others in {seconds} s"));
        }
        self.at_once = 0;
    }
}

/// A line about a source.
pub fn line(source: impl Display, text: String) -> Input {
    Input::Line { source: source.to_string(), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(few: &mut Few, now: Millis, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        few.handle(now, input, &mut out);
        out
    }

    fn knock(few: &mut Few, now: Millis, source: &str) -> Vec<String> {
        give(few, now, line(source, format!("a wrong token, from {source}")))
    }

    #[test]
    fn what_goes_on_is_one_line_a_minute_with_the_count() {
        let mut few = Few::default();
        assert_eq!(few.deadline(), None);
        let mut told = Vec::new();
        for at in 0..300_000 {
            told.extend(knock(&mut few, at, "192.0.2.7"));
        }
        assert_eq!(told.len(), 5, "{told:?}");
        assert_eq!(told[0], "a wrong token, from 192.0.2.7");
        assert_eq!(told[1], "a wrong token, from 192.0.2.7 (59999 more such lines in 60 s)");
        // The rest of the last minute is told although nobody knocks any more, and then it is quiet.
        assert_eq!(few.deadline(), Some(300_000));
        assert_eq!(
            give(&mut few, 300_000, Input::Tick),
            ["a wrong token, from 192.0.2.7 (60000 more such lines in 60 s)"]
        );
        assert_eq!(few.deadline(), None);
        // After a quiet minute it is news again.
        assert_eq!(knock(&mut few, 360_000, "192.0.2.7"), ["a wrong token, from 192.0.2.7"]);
        assert!(few.sources.len() == 1);
    }

    #[test]
    fn one_source_hides_no_other_and_no_other_line() {
        let mut few = Few::default();
        for _ in 0..1000 {
            knock(&mut few, 1, "192.0.2.7");
        }
        assert_eq!(knock(&mut few, 2, "192.0.2.8").len(), 1);
        assert_eq!(give(&mut few, 3, line("192.0.2.7", "something else".to_string())), ["something else"]);
        let many = |few: &mut Few| (0..1000).map(|at| give(few, 4, line("192.0.2.9", format!("{at}"))).len()).sum();
        let lines: usize = many(&mut few);
        assert_eq!(lines, LINES, "a stranger's words make no lines of their own");
    }

    #[test]
    fn a_million_sources_are_a_few_lines_and_a_bounded_memory() {
        let mut few = Few::default();
        let mut told = 0;
        for at in 0..1_000_000_u64 {
            told += knock(&mut few, at / 10, &format!("2001:db8::{at:x}")).len();
        }
        told += give(&mut few, 200_000, Input::Tick).len();
        assert!(told <= 2 * (AT_ONCE + COUNTS + 1), "{told}");
        assert!(few.sources.len() <= SOURCES);
        assert_eq!(few.deadline().or(Some(0)), Some(0), "nothing is left to be told");
    }
}
