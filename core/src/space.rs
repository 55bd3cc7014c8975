//! Free bytes where a master keeps its files, and writes that find room or none → whether jobs may be started and streams
//! written, and when the free space is looked at.
//!
//! Jobs that run need room for their logs, so that none is started when there is little. Streams wait long before there is
//! none at all, since records must still be written. Where a write has found no room there is none whatever is free, as behind
//! a quota.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Milliseconds between two looks at the free space.
pub const LOOK_MS: Millis = 1_000;
/// Bytes written between two looks at the free space, while there was enough at the last one.
pub const LOOK_BYTES: u64 = 1 << 20;
/// Milliseconds for which no write is tried after one that had no room.
pub const RETRY_MS: Millis = 200;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// So much is free, in bytes, or that cannot be known. At any time, and after `Look`.
    Looked(Option<u64>),
    /// So many bytes are to be written to a stream, now: [`Space::waits_until`] is over. `Write` or `Wait` follows, at once or
    /// after the look.
    Wanted(u64),
    /// That write has found no room, or not for all of it.
    Full,
    /// The [`Space::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// See how much is free: `Looked` follows.
    Look,
    /// What is wanted may be written.
    Write,
    /// It has to wait until [`Space::waits_until`], and is wanted again then.
    Wait,
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
    /// Bytes that were wanted since the last look.
    unlooked: u64,
    /// Whether a write waits for a look.
    wanted: bool,
    /// Until when no write is tried.
    waits_until: Option<Millis>,
    /// Until when a write that had no room counts as saying that there is none: one that is tried again may have none again.
    full_until: Millis,
}

impl Space {
    /// It is low below so many MiB, and below the floor in any case; below the floor, bytes, streams wait.
    #[must_use]
    pub fn new(low_mib: u64, floor: u64) -> Self {
        Self {
            low_mib,
            floor,
            look_at: 0,
            looked: false,
            low: false,
            unlooked: 0,
            wanted: false,
            waits_until: None,
            full_until: 0,
        }
    }

    /// When `Tick` is wanted, on the steady clock.
    pub fn deadline(&self) -> Option<Millis> {
        self.waits_until.into_iter().chain([self.look_at]).min()
    }

    /// Until when no write is tried, on the steady clock, if there was no room for the last one. That is over with the `Tick`.
    pub fn waits_until(&self) -> Option<Millis> {
        self.waits_until
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Tick => {
                self.waits_until = self.waits_until.filter(|until| now < *until);
                if self.look_at <= now {
                    self.look(now, out);
                }
            }
            Input::Wanted(bytes) => {
                self.waits_until = None;
                self.unlooked = self.unlooked.saturating_add(bytes);
                if self.looked && !self.low && self.unlooked < LOOK_BYTES {
                    out.push(Output::Write);
                } else {
                    self.wanted = true;
                    self.look(now, out);
                }
            }
            Input::Full => {
                self.wait(now);
                self.look(now, out);
            }
            Input::Looked(free) => {
                // What cannot be known changes nothing, and keeps no write from being tried.
                let below = free.is_some_and(|free| free < self.floor);
                let wanted = core::mem::take(&mut self.wanted);
                if wanted && below {
                    self.wait(now);
                }
                if let Some(free) = free {
                    self.judge(now, free, out);
                }
                if wanted {
                    out.push(if below { Output::Wait } else { Output::Write });
                }
            }
        }
    }

    fn look(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.unlooked = 0;
        self.look_at = now.saturating_add(LOOK_MS);
        out.push(Output::Look);
    }

    fn wait(&mut self, now: Millis) {
        let until = now.saturating_add(RETRY_MS);
        self.waits_until = Some(until);
        self.full_until = until.saturating_add(LOOK_MS);
    }

    /// Says whether there is enough where that has changed.
    fn judge(&mut self, now: Millis, free: u64, out: &mut Vec<Output>) {
        let free_mib = free >> 20;
        // Once low, an eighth more is needed to end it, so that it does not flutter.
        let more = if self.low { self.low_mib / 8 } else { 0 };
        let full = now < self.full_until;
        let low = full || free < self.floor || free_mib < self.low_mib.saturating_add(more);
        if low != self.low {
            out.push(if low { Output::Low(free_mib) } else { Output::Enough });
        }
        (self.low, self.looked) = (low, true);
        self.look_at = now.saturating_add(LOOK_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: u64 = 16 << 20;

    fn give(space: &mut Space, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        space.handle(now, input, &mut out);
        out
    }

    fn mib(free: u64) -> Input {
        Input::Looked(Some(free << 20))
    }

    #[test]
    fn low_space_is_said_when_it_changes_and_does_not_flutter() {
        let mut space = Space::new(512, FLOOR);
        assert_eq!(give(&mut space, 5, Input::Tick), [Output::Look]);
        assert_eq!(give(&mut space, 6, Input::Tick), []);
        assert_eq!(give(&mut space, 7, mib(512)), []);
        assert_eq!(space.deadline(), Some(7 + LOOK_MS));
        assert_eq!(give(&mut space, 8, mib(511)), [Output::Low(511)]);
        assert_eq!(give(&mut space, 9, mib(575)), []);
        assert_eq!(give(&mut space, 10, mib(576)), [Output::Enough]);
        // Without a threshold the floor is one.
        let mut space = Space::new(0, FLOOR);
        assert_eq!(give(&mut space, 0, mib(16)), []);
        assert_eq!(give(&mut space, 0, Input::Looked(Some(FLOOR - 1))), [Output::Low(15)]);
        // What cannot be known changes nothing.
        assert_eq!(give(&mut space, 0, Input::Looked(None)), []);
    }

    #[test]
    fn a_write_looks_first_while_there_is_little_and_else_once_a_mebibyte() {
        let mut space = Space::new(512, FLOOR);
        // Nobody has looked.
        assert_eq!(give(&mut space, 0, Input::Wanted(1)), [Output::Look]);
        assert_eq!(give(&mut space, 0, mib(9000)), [Output::Write]);
        assert_eq!(give(&mut space, 1, Input::Wanted(LOOK_BYTES - 1)), [Output::Write]);
        assert_eq!(give(&mut space, 2, Input::Wanted(1)), [Output::Look]);
        // Low is not yet full.
        assert_eq!(give(&mut space, 2, mib(16)), [Output::Low(16), Output::Write]);
        assert_eq!(give(&mut space, 3, Input::Wanted(1)), [Output::Look]);
        assert_eq!(give(&mut space, 3, mib(600)), [Output::Enough, Output::Write]);
        assert_eq!(give(&mut space, 4, Input::Wanted(1)), [Output::Write]);
        // A look that nobody waits for lets nothing be written.
        assert_eq!(give(&mut space, 5, mib(600)), []);
        // Where that cannot be known, the disk says what it thinks of it.
        assert_eq!(give(&mut space, 6, Input::Wanted(LOOK_BYTES)), [Output::Look]);
        assert_eq!(give(&mut space, 6, Input::Looked(None)), [Output::Write]);
        // However much is written.
        assert_eq!(give(&mut space, 7, Input::Wanted(u64::MAX)), [Output::Look]);
    }

    #[test]
    fn streams_wait_below_the_floor_so_that_records_have_room() {
        let mut space = Space::new(512, FLOOR);
        assert_eq!(give(&mut space, 0, mib(9000)), []);
        assert_eq!(give(&mut space, 0, Input::Wanted(LOOK_BYTES)), [Output::Look]);
        assert_eq!(give(&mut space, 10, Input::Looked(Some(FLOOR - 1))), [Output::Low(15), Output::Wait]);
        assert_eq!((space.waits_until(), space.deadline()), (Some(10 + RETRY_MS), Some(10 + RETRY_MS)));
        assert_eq!(give(&mut space, 9 + RETRY_MS, Input::Tick), []);
        assert_eq!(space.waits_until(), Some(10 + RETRY_MS));
        assert_eq!(give(&mut space, 10 + RETRY_MS, Input::Tick), []);
        // Then it is over, and nobody is woken for it again.
        assert_eq!((space.waits_until(), space.deadline()), (None, Some(10 + LOOK_MS)));
        assert_eq!(give(&mut space, 10 + RETRY_MS, Input::Wanted(LOOK_BYTES)), [Output::Look]);
        assert_eq!(give(&mut space, 10 + RETRY_MS, mib(16)), [Output::Write]);
    }

    #[test]
    fn a_write_without_room_says_that_there_is_none_whatever_is_free() {
        let mut space = Space::new(512, FLOOR);
        assert_eq!(give(&mut space, 0, mib(9000)), []);
        assert_eq!(give(&mut space, 0, Input::Wanted(1)), [Output::Write]);
        assert_eq!(give(&mut space, 1, Input::Full), [Output::Look]);
        assert_eq!(give(&mut space, 1, mib(9000)), [Output::Low(9000)]);
        let mut now = 1;
        for _ in 0..20 {
            assert_eq!(space.waits_until(), Some(now + RETRY_MS));
            // However late it is woken, what was not tried again meanwhile is as it was.
            now += RETRY_MS + 300;
            assert_eq!(give(&mut space, now, Input::Tick), []);
            assert_eq!(give(&mut space, now, Input::Wanted(1)), [Output::Look]);
            assert_eq!(give(&mut space, now, mib(9000)), [Output::Write]);
            assert_eq!(give(&mut space, now, Input::Full), [Output::Look]);
            assert_eq!(give(&mut space, now, mib(9000)), []);
        }
        // Room has come, or what had none is not wanted any more.
        now += RETRY_MS + LOOK_MS;
        assert_eq!(give(&mut space, now, Input::Tick), [Output::Look]);
        assert_eq!(give(&mut space, now, mib(9000)), [Output::Enough]);
        assert_eq!(give(&mut space, now, Input::Wanted(1)), [Output::Write]);
    }
}
