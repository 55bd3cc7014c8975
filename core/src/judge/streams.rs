//! Bytes of a console, as they come → its lines, where each ends and when it came.

use crate::pattern::{Found, Pattern, View};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Longest line, in bytes; what is longer is cut into several. A pattern is searched for in one line.
pub const LINE_BYTES: usize = 4096;
/// Bytes of lines that wait for a step to look at them; of more, the oldest go.
const WAITING_BYTES: usize = 256 * 1024;

/// A line of a console.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// Without its end.
    pub(super) bytes: Vec<u8>,
    /// Bytes of the console up to and with its end.
    pub(super) end: u64,
    /// When its last byte came, in microseconds since the job began.
    pub(super) micros: u64,
    /// Whether something of it was lost, so that it means nothing good.
    pub(super) doubtful: bool,
    /// Where in it the board may have begun anew, since we moved it there: what it said before has no end then.
    cut: Option<usize>,
    /// From where on a step looks at it: before that another one has found what it waited for.
    from: usize,
}

impl Line {
    /// Whether a pattern is in it, or in what came after the board may have begun anew.
    pub(super) fn has(&self, pattern: &Pattern) -> bool {
        find(pattern, &self.bytes, 0, self.cut).is_some()
    }
}

/// The first place of a pattern in a line from a place on; where it may have been cut, also as if it began there.
fn find(pattern: &Pattern, bytes: &[u8], from: usize, cut: Option<usize>) -> Option<Found> {
    let whole = pattern.find(&View::of(bytes), from);
    whole.or_else(|| {
        let cut = cut.filter(|cut| *cut > 0)?;
        let found = pattern.find(&View::of(bytes.get(cut..)?), from.saturating_sub(cut))?;
        Some(Found { start: cut + found.start, end: cut + found.end, ..found })
    })
}

/// A console.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    /// Bytes so far, those that were lost too.
    pub(super) offset: u64,
    /// The line that has no end yet.
    open: Vec<u8>,
    open_micros: u64,
    open_from: usize,
    open_cut: Option<usize>,
    doubtful: bool,
    /// Whether that line has grown since the last tick.
    grown: bool,
    waiting: VecDeque<Line>,
    waiting_bytes: usize,
}

impl Stream {
    /// Takes bytes; each line that ends in them is given to `take` and then waits for a step.
    pub(super) fn push(&mut self, bytes: &[u8], micros: u64, mut take: impl FnMut(&Line)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LINE_BYTES) {
                self.offset += part.len() as u64;
                self.open.extend_from_slice(part);
                self.open_micros = micros;
                self.grown = true;
                if part.ends_with(b"\n") || self.open.len() >= LINE_BYTES {
                    let mut bytes = core::mem::take(&mut self.open);
                    if bytes.ends_with(b"\n") {
                        bytes.pop();
                        while bytes.ends_with(b"\r") {
                            bytes.pop();
                        }
                    }
                    let from = core::mem::take(&mut self.open_from).min(bytes.len());
                    let doubtful = core::mem::take(&mut self.doubtful);
                    let cut = core::mem::take(&mut self.open_cut).map(|cut| cut.min(bytes.len()));
                    let line = Line { bytes, end: self.offset, micros, doubtful, cut, from };
                    take(&line);
                    self.waiting_bytes += line.bytes.len() + 1;
                    self.waiting.push_back(line);
                }
            }
        }
        while self.waiting_bytes > WAITING_BYTES {
            let gone = self.waiting.pop_front().map_or(self.waiting_bytes, |line| line.bytes.len() + 1);
            self.waiting_bytes -= gone;
        }
    }

    /// Something was lost here.
    pub(super) fn lose(&mut self, lost: u64) {
        self.offset = self.offset.saturating_add(lost);
        self.doubtful = true;
    }

    /// The board was moved, and may begin anew from here on.
    pub(super) fn cut(&mut self) {
        self.open_cut = Some(self.open.len());
    }

    /// Forgets what came up to now.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.open_from = 0;
        self.open_cut = None;
        self.doubtful = false;
        self.waiting.clear();
        self.waiting_bytes = 0;
    }

    /// The first place of a pattern in what no step has looked past yet, and when its line came; what is before is looked past.
    /// On a tick the open line is looked at too.
    pub(super) fn find(&mut self, pattern: &Pattern, by: u64, on_tick: bool) -> Option<(Found, u64)> {
        while let Some(line) = self.waiting.front_mut() {
            let found = find(pattern, &line.bytes, line.from, line.cut).filter(|_| line.micros <= by && !line.doubtful);
            if let Some(found) = found {
                line.from = found.end.max(found.start + 1);
                let micros = line.micros;
                return Some((found, micros));
            }
            if line.micros > by {
                return None;
            }
            self.waiting_bytes -= line.bytes.len() + 1;
            self.waiting.pop_front();
        }
        let found = self.found_in_open(pattern, self.open_from).filter(|_| on_tick && self.open_micros <= by)?;
        self.open_from = found.end.max(found.start + 1);
        Some((found, self.open_micros))
    }

    /// Where a pattern is in the line that has no end yet: not where more of it may be on its way.
    pub(super) fn found_in_open(&self, pattern: &Pattern, from: usize) -> Option<Found> {
        if self.open.is_empty() || self.doubtful {
            return None;
        }
        find(pattern, &self.open, from, self.open_cut).filter(|found| !self.grown || found.end < self.open.len())
    }

    /// The line that has no end yet, with when its last byte came.
    pub(super) fn open(&self) -> (&[u8], u64) {
        (&self.open, self.open_micros)
    }

    /// A tick is over.
    pub(super) fn ticked(&mut self) {
        self.grown = false;
    }
}
