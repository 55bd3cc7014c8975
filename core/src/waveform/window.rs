//! What is wanted of a log's time, and how long it is → the part that is shown, and those to which one goes from there.

use alloc::vec::Vec;

/// The shortest window, in nanoseconds: no clock of a line is finer.
const SHORTEST: u64 = 1000;

/// A part of a log's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub from: u64,
    /// Its end, which is later.
    pub to: u64,
}

impl Window {
    /// The part of a log of this length that is wanted, or all of it; where only a moment is wanted that is outside, around it.
    pub fn of(wanted: Option<(u64, u64)>, end: u64, moment: Option<u64>) -> Self {
        let end = end.max(SHORTEST);
        let (from, to) = wanted.filter(|(from, to)| from < to && *from < end).unwrap_or((0, end));
        let window = Self { from, to: to.min(end) }.at_least(end);
        match moment {
            Some(at) if at < window.from || at > window.to => {
                let from = at.saturating_sub(window.span() / 2);
                Self { from, to: from.saturating_add(window.span()) }.at_least(end)
            }
            _ => window,
        }
    }

    /// The same within a log, and no shorter than can be told apart.
    fn at_least(self, end: u64) -> Self {
        let span = self.span().max(SHORTEST).min(end);
        let from = self.from.min(end - span);
        Self { from, to: from + span }
    }

    /// How long it is.
    pub fn span(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// Half of it, around its middle.
    pub fn nearer(self, end: u64) -> Self {
        let quarter = self.span() / 4;
        Self { from: self.from + quarter, to: self.to - quarter }.at_least(end)
    }

    /// Twice as much, around its middle.
    pub fn farther(self, end: u64) -> Self {
        let half = self.span() / 2;
        Self { from: self.from.saturating_sub(half), to: self.to.saturating_add(half).min(end) }.at_least(end)
    }

    /// The part before it that is as long, half of it the same.
    pub fn earlier(self) -> Self {
        let by = (self.span() / 2).min(self.from);
        Self { from: self.from - by, to: self.to - by }
    }

    /// The part behind it likewise.
    pub fn later(self, end: u64) -> Self {
        let by = (self.span() / 2).min(end.saturating_sub(self.to));
        Self { from: self.from + by, to: self.to + by }
    }

    /// Where a moment is, in parts of the whole: `0` at its beginning, `parts` at its end.
    pub fn place(self, at: u64, parts: u64) -> u64 {
        let within = at.clamp(self.from, self.to) - self.from;
        (u128::from(within) * u128::from(parts) / u128::from(self.span().max(1))) as u64
    }

    /// The moment at which a part of the whole begins.
    pub(super) fn moment(self, part: u64, parts: u64) -> u64 {
        self.from + (u128::from(self.span()) * u128::from(part) / u128::from(parts.max(1))) as u64
    }

    /// Moments of an axis, at most so many, at round numbers; and how far they are apart.
    pub fn ticks(self, most: u64) -> (u64, Vec<u64>) {
        let mut step = 1;
        'found: loop {
            for by in [1, 2, 5] {
                if self.span() / (step * by) < most {
                    step *= by;
                    break 'found;
                }
            }
            // The longest of windows has 20 digits.
            match step.checked_mul(10).filter(|step| step.checked_mul(5).is_some()) {
                Some(next) => step = next,
                None => break,
            }
        }
        let mut ticks = Vec::new();
        let mut at = self.from.div_ceil(step).saturating_mul(step);
        while at <= self.to && ticks.len() as u64 <= most {
            ticks.push(at);
            let Some(next) = at.checked_add(step) else { break };
            at = next;
        }
        (step, ticks)
    }
}
