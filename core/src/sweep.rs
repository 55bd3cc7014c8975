//! Order to kill → no process of a job is left and all they printed is read, or that was given up: the last rungs of its end.
//!
//! Processes can start others faster than a look finds them, so killing goes on until a look has found none. One that cannot be
//! killed, which waits for a disk that is gone, must not keep the verdict for ever: it is given up, and told of.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Milliseconds after which a killed process counts as one that cannot be killed.
pub const KILL_MS: Millis = 10_000;
/// Milliseconds between two looks at processes that were killed and are not gone yet.
pub const PAUSE_MS: Millis = 2;

/// What happens to a job that is swept away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// All of its processes are to end.
    Begin,
    /// After `Kill`: what was there when that had been done.
    Left {
        /// Processes of the job.
        processes: usize,
        /// Whether somebody of our own is still at work for it.
        helping: bool,
    },
    /// After `Drain`: nothing is left to be read.
    Read,
    /// The time told by `deadline` has come, or something has happened that may have been awaited.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Kill all of its processes that there are, and look again: `Left` follows.
    Kill,
    /// Read what they have printed: `Read` follows, unless there is no room for it yet.
    Drain,
    /// It is over.
    Done {
        /// Processes that could not be killed.
        left: usize,
    },
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Killing {
        since: Millis,
        look_at: Millis,
    },
    Draining {
        left: usize,
    },
}

/// The machine. See the file's first line.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    state: State,
}

impl Sweep {
    /// Whether it has begun and is not over.
    pub fn is_under_way(&self) -> bool {
        self.state != State::Idle
    }

    /// When `Tick` is wanted next. None while it waits for `Read`, which its edge knows more of.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Killing { look_at, .. } => Some(look_at),
            State::Idle | State::Draining { .. } => None,
        }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match (self.state, input) {
            (State::Idle, Input::Begin) => self.state = State::Killing { since: now, look_at: now },
            (State::Killing { .. }, Input::Tick) => out.push(Output::Kill),
            (State::Killing { since, .. }, Input::Left { processes, helping }) => {
                let gave_up = now.saturating_sub(since) >= KILL_MS;
                if (processes > 0 || helping) && !gave_up {
                    self.state = State::Killing { since, look_at: now.saturating_add(PAUSE_MS) };
                } else {
                    self.state = State::Draining { left: processes };
                    out.push(Output::Drain);
                }
            }
            (State::Draining { .. }, Input::Tick) => out.push(Output::Drain),
            (State::Draining { left }, Input::Read) => {
                self.state = State::Idle;
                out.push(Output::Done { left });
            }
            (State::Idle, Input::Left { .. }) => out.push(Output::Bug("left: nobody was killed")),
            (State::Idle | State::Killing { .. }, Input::Read) => out.push(Output::Bug("read: nothing was to be read")),
            // It is under way, or there is nothing to do; a look that came late is of no more use.
            (State::Killing { .. } | State::Draining { .. }, Input::Begin)
            | (State::Idle, Input::Tick)
            | (State::Draining { .. }, Input::Left { .. }) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn step(sweep: &mut Sweep, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        sweep.handle(now, input, &mut out);
        out
    }

    fn left(processes: usize) -> Input {
        Input::Left { processes, helping: false }
    }

    #[test]
    fn killing_goes_on_until_a_look_finds_nobody() {
        let mut sweep = Sweep::default();
        assert_eq!((step(&mut sweep, 5, Input::Tick), sweep.deadline()), (vec![], None));
        assert_eq!(step(&mut sweep, 5, left(1)), [Output::Bug("left: nobody was killed")]);
        assert_eq!(step(&mut sweep, 5, Input::Read), [Output::Bug("read: nothing was to be read")]);
        assert_eq!(step(&mut sweep, 5, Input::Begin), []);
        assert_eq!((sweep.deadline(), sweep.is_under_way()), (Some(5), true));
        for now in [5, 7, 8] {
            // Sooner than it wanted, too: a child that ends wakes its edge up.
            assert_eq!(step(&mut sweep, now, Input::Tick), [Output::Kill]);
            assert_eq!(step(&mut sweep, now, left(3)), []);
            assert_eq!(sweep.deadline(), Some(now + PAUSE_MS));
        }
        // A second order changes nothing of the first.
        assert_eq!(step(&mut sweep, 9, Input::Begin), []);
        assert_eq!(step(&mut sweep, 9, Input::Tick), [Output::Kill]);
        assert_eq!(step(&mut sweep, 9, left(0)), [Output::Drain]);
        assert_eq!(step(&mut sweep, 9, Input::Read), [Output::Done { left: 0 }]);
        assert!(!sweep.is_under_way());
        // And it can be begun again.
        step(&mut sweep, 10, Input::Begin);
        assert_eq!(step(&mut sweep, 10, Input::Tick), [Output::Kill]);
    }

    #[test]
    fn who_cannot_be_killed_is_given_up_and_counted() {
        let mut sweep = Sweep::default();
        step(&mut sweep, 100, Input::Begin);
        assert_eq!(step(&mut sweep, 100 + KILL_MS - 1, left(2)), []);
        assert_eq!(step(&mut sweep, 100 + KILL_MS, left(2)), [Output::Drain]);
        assert_eq!(step(&mut sweep, 100 + KILL_MS, Input::Read), [Output::Done { left: 2 }]);
    }

    #[test]
    fn our_own_helpers_are_waited_for_as_long_and_no_longer() {
        let mut sweep = Sweep::default();
        let helping = Input::Left { processes: 0, helping: true };
        step(&mut sweep, 0, Input::Begin);
        assert_eq!(step(&mut sweep, 1, helping), []);
        assert_eq!(step(&mut sweep, KILL_MS, helping), [Output::Drain]);
        assert_eq!(step(&mut sweep, KILL_MS, Input::Read), [Output::Done { left: 0 }]);
    }

    #[test]
    fn what_was_printed_is_read_however_long_there_is_no_room() {
        let mut sweep = Sweep::default();
        step(&mut sweep, 0, Input::Begin);
        assert_eq!(step(&mut sweep, 0, left(0)), [Output::Drain]);
        assert_eq!(sweep.deadline(), None);
        for now in [1_000, 1_000_000] {
            assert_eq!(step(&mut sweep, now, Input::Tick), [Output::Drain]);
            // A look that came late is of no more use.
            assert_eq!(step(&mut sweep, now, left(1)), []);
        }
        assert_eq!(step(&mut sweep, 1_000_001, Input::Read), [Output::Done { left: 0 }]);
    }
}
