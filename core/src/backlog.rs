//! Bytes that a job logs, and what its disk and its master take → when they are written, when more is read, when that is given up.
//!
//! Nothing that was logged is dropped here: what finds no room waits, and what a job prints waits in its pipe, so that the job
//! does. Only a log whose last record waits is given up after a while, since nothing is left whose end that would wait for.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Milliseconds between two tries to write to a disk that has refused.
pub const TRY_MS: Millis = 1_000;
/// Milliseconds that the last record waits for room on the disk.
pub const LAST_MS: Millis = 60_000;
/// Bytes that steps which have ended may leave to be logged beyond what is read of running ones: several pipes full.
pub const REST_BYTES: u64 = 1 << 20;

/// What happens to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// This is to be written: all that has not been. To be said whenever there may be more, and at the [`Backlog::deadline`].
    Waiting {
        /// Its bytes.
        bytes: u64,
        /// Whether the last record of all is in it: nothing follows.
        last: bool,
    },
    /// After `Write`: it is there, all of it.
    Written,
    /// After `Write`: the disk has refused, and nothing of it is there.
    Refused,
    /// So many bytes of the log are durable at the master.
    Acked(u64),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Append what waits to the log: `Written` or `Refused` follows, before anything else.
    Write,
    /// End without the last record: the attempt is one of our own troubles.
    GiveUp,
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// A disk that has refused.
#[derive(Clone, Copy, Debug)]
struct Full {
    since: Millis,
    try_at: Millis,
}

/// The machine. See the file's first line. Times are milliseconds of any clock that goes on evenly.
#[derive(Clone, Debug)]
pub struct Backlog {
    bound: u64,
    length: u64,
    acked: u64,
    waiting: u64,
    /// Since when the last record waits.
    last: Option<Millis>,
    full: Option<Full>,
    writing: bool,
    given_up: bool,
}

impl Backlog {
    /// An empty log that may be so many bytes ahead of the master.
    #[must_use]
    pub fn new(bound: u64) -> Self {
        Self { bound, length: 0, acked: 0, waiting: 0, last: None, full: None, writing: false, given_up: false }
    }

    /// Whether more may be read of what the job prints: the disk takes it, and the master is not too far behind. One read and the
    /// records that tell of it come on top of the bound.
    pub fn may_read(&self) -> bool {
        self.full.is_none() && (self.length + self.waiting).saturating_sub(self.acked) < self.bound
    }

    /// Whether what a step has left behind may be read: nobody prints more of it, and the step's end, which may be what makes
    /// room, is heard behind it. It waits in memory if the disk has no room, so it is bounded.
    pub fn may_read_rest(&self) -> bool {
        let ahead = (self.length + self.waiting).saturating_sub(self.acked);
        self.waiting < REST_BYTES && ahead < self.bound.saturating_add(REST_BYTES)
    }

    /// Whether the disk has refused and not taken anything since.
    pub fn is_full(&self) -> bool {
        self.full.is_some()
    }

    /// When `Waiting` is wanted again, although it may not have changed.
    pub fn deadline(&self) -> Option<Millis> {
        self.full.filter(|_| !self.given_up).map(|full| full.try_at)
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Waiting { bytes, last } => {
                self.waiting = bytes;
                if last {
                    self.last.get_or_insert(now);
                }
                let due = self.full.is_none_or(|full| full.try_at <= now);
                if bytes > 0 && due && !self.given_up {
                    self.writing = true;
                    out.push(Output::Write);
                }
            }
            Input::Written => {
                if !core::mem::take(&mut self.writing) {
                    return out.push(Output::Bug("written: nothing was to be"));
                }
                self.length += core::mem::take(&mut self.waiting);
                (self.full, self.last) = (None, None);
            }
            Input::Refused => {
                if !core::mem::take(&mut self.writing) {
                    return out.push(Output::Bug("refused: nothing was to be written"));
                }
                let since = self.full.map_or(now, |full| full.since);
                self.full = Some(Full { since, try_at: now.saturating_add(TRY_MS) });
                // A job may have waited for its disk long before its end: its last record is given its time all the same.
                if self.last.is_some_and(|last| now.saturating_sub(last.max(since)) >= LAST_MS) {
                    self.given_up = true;
                    out.push(Output::GiveUp);
                }
            }
            Input::Acked(length) => {
                let length = length.min(self.length);
                if length > self.acked {
                    self.acked = length;
                    // What it has leaves the disk, which may make the room that was missing.
                    if let Some(full) = &mut self.full {
                        full.try_at = now;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(backlog: &mut Backlog, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        backlog.handle(now, input, &mut out);
        out
    }

    fn waiting(bytes: u64) -> Input {
        Input::Waiting { bytes, last: false }
    }

    #[test]
    fn what_ended_steps_have_left_is_read_at_a_full_disk_up_to_a_bound() {
        let mut backlog = Backlog::new(100);
        step(&mut backlog, 0, waiting(10));
        step(&mut backlog, 0, Input::Refused);
        assert!(!backlog.may_read() && backlog.may_read_rest());
        step(&mut backlog, 1, waiting(REST_BYTES - 1));
        assert!(backlog.may_read_rest());
        step(&mut backlog, 2, waiting(REST_BYTES));
        assert!(!backlog.may_read_rest());
        step(&mut backlog, TRY_MS, waiting(REST_BYTES));
        step(&mut backlog, TRY_MS, Input::Written);
        assert!(!backlog.may_read() && backlog.may_read_rest(), "the master is behind by more than the bound");
        step(&mut backlog, TRY_MS, waiting(100));
        step(&mut backlog, TRY_MS, Input::Written);
        assert!(!backlog.may_read_rest(), "and by more than that");
        step(&mut backlog, TRY_MS, Input::Acked(100));
        assert!(!backlog.may_read() && backlog.may_read_rest());
    }

    #[test]
    fn what_a_job_prints_waits_at_the_bound_and_goes_on_below_it() {
        let mut backlog = Backlog::new(100);
        assert!(backlog.may_read());
        assert_eq!(step(&mut backlog, 0, waiting(99)), [Output::Write]);
        assert!(backlog.may_read());
        assert_eq!(step(&mut backlog, 0, Input::Written), []);
        assert!(backlog.may_read());
        assert_eq!(step(&mut backlog, 1, waiting(1)), [Output::Write]);
        assert!(!backlog.may_read(), "what waits counts");
        assert_eq!(step(&mut backlog, 1, Input::Written), []);
        assert!(!backlog.may_read());
        assert_eq!(backlog.deadline(), None, "no time ends that");
        assert_eq!(step(&mut backlog, 9, Input::Acked(1)), []);
        assert!(backlog.may_read());
        // Of more than there is nothing is believed.
        step(&mut backlog, 9, Input::Acked(u64::MAX));
        assert_eq!(step(&mut backlog, 10, waiting(100)), [Output::Write]);
        assert!(!backlog.may_read());
        // An ack that comes late takes nothing back.
        step(&mut backlog, 10, Input::Written);
        step(&mut backlog, 10, Input::Acked(150));
        step(&mut backlog, 10, Input::Acked(2));
        assert!(backlog.may_read());
    }

    #[test]
    fn a_full_disk_is_tried_each_second_and_at_once_when_there_may_be_room() {
        let mut backlog = Backlog::new(1000);
        step(&mut backlog, 0, waiting(50));
        step(&mut backlog, 0, Input::Written);
        assert_eq!(step(&mut backlog, 5, waiting(10)), [Output::Write]);
        assert_eq!(step(&mut backlog, 5, Input::Refused), []);
        assert!(!backlog.may_read() && backlog.is_full());
        assert_eq!(backlog.deadline(), Some(5 + TRY_MS));
        assert_eq!(step(&mut backlog, 5 + TRY_MS - 1, waiting(20)), []);
        assert_eq!(step(&mut backlog, 5 + TRY_MS, waiting(20)), [Output::Write]);
        assert_eq!(step(&mut backlog, 5 + TRY_MS, Input::Refused), []);
        assert_eq!(step(&mut backlog, 1100, Input::Acked(0)), [], "nothing leaves the disk for that");
        assert_eq!(step(&mut backlog, 1100, waiting(20)), []);
        step(&mut backlog, 1100, Input::Acked(50));
        assert_eq!(backlog.deadline(), Some(1100));
        assert_eq!(step(&mut backlog, 1100, waiting(30)), [Output::Write]);
        assert_eq!(step(&mut backlog, 1100, Input::Written), []);
        assert!(backlog.may_read() && backlog.deadline().is_none());
        assert_eq!(step(&mut backlog, 1100, waiting(0)), []);
    }

    #[test]
    fn a_job_waits_for_its_disk_as_long_as_it_runs() {
        let mut backlog = Backlog::new(1000);
        let mut now = 0;
        assert_eq!(step(&mut backlog, now, waiting(10)), [Output::Write]);
        for _ in 0..10_000 {
            assert_eq!(step(&mut backlog, now, Input::Refused), []);
            now = backlog.deadline().expect("it is tried again");
            assert_eq!(step(&mut backlog, now, waiting(10)), [Output::Write]);
        }
        step(&mut backlog, now, Input::Written);
        assert!(!backlog.is_full());
    }

    /// The last record waits from `ended` on at a disk that is full from 0 on; when that is given up.
    fn given_up(ended: Millis) -> Millis {
        let mut backlog = Backlog::new(1000);
        step(&mut backlog, 0, Input::Waiting { bytes: 10, last: ended == 0 });
        let mut now = 0;
        loop {
            if step(&mut backlog, now, Input::Refused) == [Output::GiveUp] {
                assert_eq!(backlog.deadline(), None);
                let last = Input::Waiting { bytes: 10, last: true };
                assert_eq!(step(&mut backlog, now + TRY_MS, last), [], "it is over");
                return now;
            }
            now = backlog.deadline().expect("it is tried again");
            assert!(now < 10 * LAST_MS, "it is given up");
            let told = step(&mut backlog, now, Input::Waiting { bytes: 10, last: now >= ended });
            assert_eq!(told, [Output::Write]);
        }
    }

    #[test]
    fn a_last_record_waits_a_minute_from_its_own_moment_on() {
        assert_eq!(given_up(0), LAST_MS);
        // The disk was full for longer than that before.
        assert_eq!(given_up(3 * LAST_MS), 4 * LAST_MS);
        // A disk that takes it in the last moment has taken it.
        let mut backlog = Backlog::new(1000);
        let last = Input::Waiting { bytes: 10, last: true };
        step(&mut backlog, 0, last);
        assert_eq!(step(&mut backlog, 0, Input::Refused), []);
        assert_eq!(step(&mut backlog, LAST_MS - 1, last), [Output::Write]);
        assert_eq!(step(&mut backlog, LAST_MS - 1, Input::Refused), []);
        assert_eq!(step(&mut backlog, LAST_MS + TRY_MS, last), [Output::Write]);
        assert_eq!(step(&mut backlog, LAST_MS + TRY_MS, Input::Written), []);
        assert_eq!(backlog.deadline(), None);
    }

    #[test]
    fn what_was_not_to_be_written_is_a_mistake() {
        let mut backlog = Backlog::new(1000);
        assert_eq!(step(&mut backlog, 0, Input::Written), [Output::Bug("written: nothing was to be")]);
        assert_eq!(step(&mut backlog, 0, Input::Refused), [Output::Bug("refused: nothing was to be written")]);
    }
}
