//! Lines that a board prints → its test cases, whether all that were announced have come, and whether that is the end.
//!
//! A console is shared: kernels and loggers print into the middle of a line, and lines go missing. What has the stamp of such a
//! logger is taken out and read by itself, and the line goes on behind it; where noise has no stamp, a result is found in the
//! middle of a line by its shape. What is never done is to take a doubtful line for a success: who counts and finds one missing
//! says that results were lost.

mod formats;
mod tap;

use crate::axis::{Case, CaseResult};
use crate::escape;
use crate::ordered::Map;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most cases that are told apart: the largest suites in the field have some ten thousand.
pub const CASES_MAX: usize = 50_000;
/// Longest name of a case, in bytes; more of it is left out.
pub const NAME_BYTES: usize = 200;
/// Longest part of a line that is kept while a logger prints into it, in bytes.
const HELD_BYTES: usize = 4096;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Test Anything Protocol, versions 12 to 14, and the kernel's KTAP.
    Tap,
    /// CMake's ctest.
    Ctest,
    /// Zephyr's.
    Ztest,
    /// ThrowTheSwitch's Unity.
    Unity,
    /// GoogleTest.
    Gtest,
    /// Rust's `cargo test`.
    Libtest,
}

/// The words for the formats, in the order of [`Format`].
pub const FORMATS: [&str; 6] = ["tap", "ctest", "ztest", "unity", "gtest", "libtest"];

impl Format {
    /// The format that a word stands for.
    pub fn of(word: &str) -> Option<Self> {
        let all = [Self::Tap, Self::Ctest, Self::Ztest, Self::Unity, Self::Gtest, Self::Libtest];
        FORMATS.iter().position(|known| *known == word).and_then(|index| all.get(index).copied())
    }
}

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// A case ended: what tells it from others, its name, how, and what else is said.
    Case { key: String, name: String, result: CaseResult, text: Option<String> },
    /// So many cases more are to come.
    Planned(u64),
    /// There are so many in all.
    Total(u64),
    /// One of the announced parts is over; so many of it failed.
    Ended(u64),
    /// It was given up.
    GaveUp(String),
}

/// What is known so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many cases there should be, where that was said.
    pub planned: Option<u64>,
    /// How many different ones have a result.
    pub seen: u64,
    /// How many of these failed.
    pub failed: u64,
    /// How many failed by what was said at the end.
    pub failed_by_end: u64,
    /// Whether the end was seen.
    pub ended: bool,
    /// Why it was given up, if it was.
    pub gave_up: Option<String>,
}

impl Summary {
    /// Whether each announced case has a result.
    pub fn complete(&self) -> bool {
        self.ended && self.planned == Some(self.seen)
    }

    /// Whether any case failed, or all was given up.
    pub fn bad(&self) -> bool {
        self.failed > 0 || self.failed_by_end > 0 || self.gave_up.is_some()
    }
}

/// The results of a board. See the file's first line.
#[derive(Clone, Debug)]
pub struct Results {
    format: Format,
    /// A line into which something else printed.
    held: Vec<u8>,
    cases: Map<String, CaseResult>,
    summary: Summary,
    /// Of formats that say more than one line about it: what is open.
    open: String,
    /// Parts that were announced and have not ended.
    parts: u64,
}

impl Results {
    /// Nothing is known yet.
    pub fn new(format: Format) -> Self {
        let summary = Summary::default();
        Results { format, held: Vec::new(), cases: Map::new(), summary, open: String::new(), parts: 0 }
    }

    /// What is known so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Takes a line without its end, which is at the byte `at` of its console; the cases that it tells of are appended to `out`.
    pub fn line(&mut self, line: &[u8], at: u64, out: &mut Vec<Case>) {
        match stamp(line) {
            // A logger's line, into which nothing else printed: it may be the results' own, as the kernel's tests are.
            Some((0, length)) => self.whole(line.get(length..).unwrap_or_default(), at, out),
            Some((start, length)) => {
                let (before, logged) = (line.get(..start), line.get(start + length..));
                if self.held.len() + start <= HELD_BYTES {
                    self.held.extend_from_slice(before.unwrap_or_default());
                }
                self.whole(logged.unwrap_or_default(), at, out);
            }
            None if self.held.is_empty() => self.whole(line, at, out),
            None => {
                let mut whole = core::mem::take(&mut self.held);
                whole.extend_from_slice(line);
                self.whole(&whole, at, out);
            }
        }
    }

    fn whole(&mut self, line: &[u8], at: u64, out: &mut Vec<Case>) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches('\r');
        let mut said = Vec::new();
        match self.format {
            Format::Tap => self.tap(text, &mut said),
            Format::Ctest => self.ctest(text, &mut said),
            Format::Ztest => self.ztest(text, &mut said),
            Format::Unity => self.unity(text, &mut said),
            Format::Gtest => self.gtest(text, &mut said),
            Format::Libtest => self.libtest(text, &mut said),
        }
        for said in said {
            self.take(said, at, out);
        }
    }

    fn take(&mut self, said: Said, at: u64, out: &mut Vec<Case>) {
        match said {
            Said::Case { key, name, result, text } => {
                let before = self.cases.get(key.as_str()).copied();
                // Summaries at an end say again what was said; what failed once has failed.
                if before == Some(result) || before == Some(CaseResult::Failed) {
                    return;
                }
                if before.is_none() && self.cases.len() >= CASES_MAX {
                    return;
                }
                if before.is_none() {
                    self.summary.seen += 1;
                }
                self.summary.failed += u64::from(result == CaseResult::Failed);
                self.cases.insert(key, result);
                out.push(Case { name, result, at: Some(at), text });
            }
            Said::Planned(more) => {
                self.parts = self.parts.saturating_add(1);
                self.summary.ended = false;
                self.summary.planned = Some(self.summary.planned.unwrap_or(0).saturating_add(more));
            }
            Said::Total(all) => self.summary.planned = Some(all),
            Said::Ended(failed) => {
                self.parts = self.parts.saturating_sub(1);
                self.summary.ended = self.parts == 0;
                self.summary.failed_by_end = self.summary.failed_by_end.saturating_add(failed);
            }
            Said::GaveUp(why) => {
                self.summary.ended = true;
                self.summary.gave_up = Some(why);
            }
        }
    }
}

/// A text that a board chose, as one line of bounded length.
fn tidy(text: &str, most: usize) -> String {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    escape::line(text.get(..end).unwrap_or_default().trim()).to_string()
}

/// A case that is told from others by its name.
fn named(name: &str, result: CaseResult, text: Option<&str>) -> Said {
    let name = tidy(name, NAME_BYTES);
    let text = text.map(|text| tidy(text, NAME_BYTES)).filter(|text| !text.is_empty());
    Said::Case { key: name.clone(), name, result, text }
}

/// The number that a text begins with, and what is behind it.
fn number(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    Some((text.get(..digits)?.parse().ok()?, text.get(digits..)?))
}

/// Where a logger's stamp begins, and its length: the kernel's `[   12.345678] ` (with `<6>` before it or `[    T1] ` after
/// it), or Zephyr's `[00:00:01.234,567] `.
fn stamp(line: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = line.get(from..)?.iter().position(|byte| *byte == b'[') {
        let start = from + at;
        let inside = line.get(start + 1..)?;
        let end = inside.iter().take(40).position(|byte| *byte == b']');
        let is_stamp = end.is_some_and(|end| is_time(inside.get(..end).unwrap_or_default()));
        if let (Some(end), true) = (end, is_stamp) {
            let mut length = end + 2;
            let after = |length: usize| line.get(start + length..).unwrap_or_default();
            // Which processor or thread it was.
            let caller =
                after(length).strip_prefix(b"[").and_then(|rest| rest.iter().take(12).position(|byte| *byte == b']'));
            if let Some(caller) = caller {
                let name = after(length).get(1..1 + caller).unwrap_or_default().trim_ascii_start();
                if matches!(name.first(), Some(b'T' | b'C'))
                    && name.get(1..).is_some_and(|n| n.iter().all(u8::is_ascii_digit))
                {
                    length += caller + 2;
                }
            }
            if after(length).first() == Some(&b' ') {
                length += 1;
            }
            let level = start >= 3 && matches!(line.get(start - 3..start), Some([b'<', b'0'..=b'9', b'>']));
            return Some(if level { (start - 3, length + 3) } else { (start, length) });
        }
        from = start + 1;
    }
    None
}

/// Whether this is the time of a logger's stamp.
fn is_time(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let digits = |part: &[u8], count: usize| part.len() == count && part.iter().all(u8::is_ascii_digit);
    let kernel = text.iter().position(|byte| *byte == b'.').is_some_and(|dot| {
        let (seconds, micros) = (text.get(..dot).unwrap_or_default(), text.get(dot + 1..).unwrap_or_default());
        !seconds.is_empty() && seconds.iter().all(u8::is_ascii_digit) && digits(micros, 6)
    });
    let zephyr = matches!(text, [a, b, b':', c, d, b':', e, f, b'.', g, h, i, b',', j, k, l]
        if [a, b, c, d, e, f, g, h, i, j, k, l].iter().all(|digit| digit.is_ascii_digit()));
    kernel || zephyr
}
