//! Free bytes where a master keeps its files → whether jobs may be started, and when that is looked at.
//!
//! Jobs that run need room for their logs, so that none is started when there is little. Where writes already wait for room there
//! is none whatever is free, as behind a quota.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Milliseconds between two looks at the free space.
pub const LOOK_MS: Millis = 1_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// So much is free; and whether something waits to be written. At any time, and after `Look`.
    Looked {
        /// Bytes.
        free: u64,
        /// Whether a write has found no room.
        stalled: bool,
    },
    /// The [`Space::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// See how much is free: `Looked` follows, unless that cannot be known.
    Look,
    /// No more jobs are to be started; so many MiB are free.
    Low(u64),
    /// Jobs may be started again.
    Enough,
}

/// The machine. See the file's first line.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    low_mib: u64,
    floor: u64,
    look_at: Millis,
    looked: bool,
    low: bool,
}

impl Space {
    /// It is low below so many MiB, and below the floor, bytes, in any case.
    #[must_use]
    pub fn new(low_mib: u64, floor: u64) -> Self {
        Self { low_mib, floor, look_at: 0, looked: false, low: false }
    }

    /// When `Tick` is wanted, on the steady clock.
    pub fn deadline(&self) -> Option<Millis> {
        Some(self.look_at)
    }

    /// Whether there was enough at the last look.
    pub fn is_enough(&self) -> bool {
        self.looked && !self.low
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => {
                if self.look_at <= now {
                    self.look_at = now.saturating_add(LOOK_MS);
                    out.push(Output::Look);
                }
            }
            Input::Looked { free, stalled } => {
                let free_mib = free >> 20;
                // Once low, an eighth more is needed to end it, so that it does not flutter.
                let more = if self.low { self.low_mib / 8 } else { 0 };
                let low = stalled || free < self.floor || free_mib < self.low_mib.saturating_add(more);
                if low != self.low {
                    out.push(if low { Output::Low(free_mib) } else { Output::Enough });
                }
                (self.low, self.looked) = (low, true);
                self.look_at = now.saturating_add(LOOK_MS);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(space: &mut Space, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        space.handle(now, input, &mut out);
        out
    }

    fn mib(free: u64) -> Input {
        Input::Looked { free: free << 20, stalled: false }
    }

    #[test]
    fn low_space_is_said_when_it_changes_and_does_not_flutter() {
        let mut space = Space::new(512, 16 << 20);
        assert!(!space.is_enough(), "nobody has looked");
        assert_eq!(give(&mut space, 5, Input::Tick), [Output::Look]);
        assert_eq!(give(&mut space, 6, Input::Tick), []);
        assert_eq!(give(&mut space, 7, mib(512)), []);
        assert_eq!((space.is_enough(), space.deadline()), (true, Some(7 + LOOK_MS)));
        assert_eq!(give(&mut space, 8, mib(511)), [Output::Low(511)]);
        assert_eq!(give(&mut space, 9, mib(575)), []);
        assert_eq!(give(&mut space, 10, mib(576)), [Output::Enough]);
        // Behind a quota nothing may be had of what is free.
        assert_eq!(give(&mut space, 11, Input::Looked { free: 9000 << 20, stalled: true }), [Output::Low(9000)]);
        assert_eq!(give(&mut space, 12, mib(9000)), [Output::Enough]);
        // Without a threshold the floor is one.
        let mut space = Space::new(0, 16 << 20);
        assert_eq!(give(&mut space, 0, mib(16)), []);
        assert_eq!(give(&mut space, 0, Input::Looked { free: (16 << 20) - 1, stalled: false }), [Output::Low(15)]);
    }
}
