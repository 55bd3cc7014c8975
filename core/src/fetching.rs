//! Tries to fetch a file that a job needs, and what came of them → when it is asked for again, what is told, when it is given up.
//!
//! A master may be away to be updated, and a network for longer; what has come stays, and each try goes on where the last one
//! ended. So what counts is the time without one more byte, and not how often it was tried or how long it takes in all. The time
//! for which others have their turn is not counted.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Milliseconds until the second try, and between two at most: it doubles.
pub const PAUSE_MS: Millis = 500;
/// See `PAUSE_MS`.
pub const LONGEST_PAUSE_MS: Millis = 15_000;
/// Milliseconds without one more byte, however often it is tried, until a file is given up: as long as a master may be away
/// to be updated, and a bit.
pub const PATIENCE_MS: Millis = 600_000;
/// The same where the master says that this attempt is not held here: so it says until it knows us again.
pub const UNKNOWN_MS: Millis = 60_000;
/// Milliseconds between two words about how far it has come.
pub const WORD_MS: Millis = 10_000;

/// Why a try has ended without the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection that an earlier file has left had ended meanwhile, which says nothing.
    Stale,
    /// The master knows nothing of this attempt.
    Unknown,
    /// Whatever another try may mend.
    Later,
    /// The master has it no more.
    Gone,
}

impl Failure {
    /// What a status other than the ones with a file means.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            404 => Self::Unknown,
            410 => Self::Gone,
            _ => Self::Later,
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The file is wanted.
    Begin,
    /// After `Ask`: it is this one's turn, and it is being asked for.
    Asked,
    /// There are more bytes.
    More,
    /// The try has ended so.
    Failed(Failure),
    /// The [`Fetching::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask the master for what is missing, when it is this one's turn: `Asked` follows, then `More`, then `Failed` or nothing.
    Ask {
        /// Whether what is there is thrown away before.
        anew: bool,
    },
    /// Tell how far it has come, and what was last in the way.
    Tell,
    /// It is not to be had; so long there was no more of it, which is nothing where the master has none.
    GiveUp {
        /// Milliseconds.
        in_vain: Millis,
    },
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    /// `Ask` was said.
    Queued,
    /// It is asked for; since when there was no more of it.
    Asking {
        since: Millis,
    },
    Pausing {
        since: Millis,
        until: Millis,
    },
    Over,
}

/// One file that is wanted. Times are milliseconds of any clock that goes on evenly.
#[derive(Clone, Debug)]
pub struct Fetching {
    state: State,
    anew: bool,
    /// Whether the last try met a stale connection: another one in a row is trouble as any other.
    stale: bool,
    in_vain: Millis,
    pause: Millis,
    word_at: Millis,
}

impl Fetching {
    /// A file that is not asked for yet. What there is of it is thrown away before the first try, if it is wanted `anew`.
    #[must_use]
    pub fn new(anew: bool) -> Self {
        Self { state: State::New, anew, stale: false, in_vain: 0, pause: PAUSE_MS, word_at: 0 }
    }

    /// When `Tick` is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Pausing { until, .. } => Some(until),
            State::New | State::Queued | State::Asking { .. } | State::Over => None,
        }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match (self.state, input) {
            (State::New, Input::Begin) => {
                self.word_at = now.saturating_add(WORD_MS);
                self.ask(out);
            }
            (State::Queued, Input::Asked) => self.state = State::Asking { since: now },
            (State::Asking { .. }, Input::More) => {
                self.state = State::Asking { since: now };
                (self.in_vain, self.pause, self.stale) = (0, PAUSE_MS, false);
                self.tell(now, out);
            }
            (State::Asking { since }, Input::Failed(failure)) => self.failed(now, since, failure, out),
            (State::Pausing { since, until }, Input::Tick) => {
                if until <= now {
                    self.in_vain = self.in_vain.saturating_add(now.saturating_sub(since));
                    self.ask(out);
                }
            }
            // Nothing is waited for.
            (State::New | State::Queued | State::Asking { .. } | State::Over, Input::Tick) => {}
            (_, Input::Begin) => out.push(Output::Bug("begin: the file is wanted already")),
            (_, Input::Asked) => out.push(Output::Bug("asked: it was not this one's turn")),
            (_, Input::More | Input::Failed(_)) => out.push(Output::Bug("fetched: nothing is asked for")),
        }
    }

    fn ask(&mut self, out: &mut Vec<Output>) {
        self.state = State::Queued;
        out.push(Output::Ask { anew: core::mem::take(&mut self.anew) });
    }

    fn tell(&mut self, now: Millis, out: &mut Vec<Output>) {
        if now >= self.word_at {
            self.word_at = now.saturating_add(WORD_MS);
            out.push(Output::Tell);
        }
    }

    fn failed(&mut self, now: Millis, since: Millis, failure: Failure, out: &mut Vec<Output>) {
        let patience = match failure {
            Failure::Stale if !self.stale => {
                self.stale = true;
                return self.ask(out);
            }
            Failure::Gone => {
                self.state = State::Over;
                return out.push(Output::GiveUp { in_vain: 0 });
            }
            Failure::Unknown => UNKNOWN_MS,
            Failure::Later | Failure::Stale => PATIENCE_MS,
        };
        self.stale = false;
        self.in_vain = self.in_vain.saturating_add(now.saturating_sub(since));
        if self.in_vain >= patience {
            self.state = State::Over;
            return out.push(Output::GiveUp { in_vain: self.in_vain });
        }
        self.tell(now, out);
        self.state = State::Pausing { since: now, until: now.saturating_add(self.pause) };
        self.pause = LONGEST_PAUSE_MS.min(2 * self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(fetching: &mut Fetching, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        fetching.handle(now, input, &mut out);
        out
    }

    const ASK: Output = Output::Ask { anew: false };

    /// Begun and asked for.
    fn asked(now: Millis, anew: bool) -> Fetching {
        let mut fetching = Fetching::new(anew);
        assert_eq!(step(&mut fetching, now, Input::Begin), [Output::Ask { anew }]);
        assert_eq!(step(&mut fetching, now, Input::Asked), []);
        fetching
    }

    /// Tries that fail at once, from `now` on until it is given up: when each began, and how long that took.
    fn tries(fetching: &mut Fetching, mut now: Millis, failure: Failure) -> (Vec<Millis>, Millis) {
        let mut begun = alloc::vec![now];
        loop {
            let out = step(fetching, now, Input::Failed(failure));
            if let Some(Output::GiveUp { in_vain }) = out.last() {
                assert_eq!(fetching.deadline(), None);
                return (begun, *in_vain);
            }
            now = fetching.deadline().expect("another try");
            assert_eq!(step(fetching, now - 1, Input::Tick), []);
            assert_eq!(step(fetching, now, Input::Tick), [ASK]);
            assert_eq!(step(fetching, now, Input::Asked), []);
            begun.push(now);
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_patience_ends() {
        let (begun, in_vain) = tries(&mut asked(1000, false), 1000, Failure::Later);
        let pauses: Vec<Millis> = begun.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses[..6], [500, 1000, 2000, 4000, 8000, 15_000]);
        assert!(pauses[5..].iter().all(|pause| *pause == LONGEST_PAUSE_MS));
        assert!((PATIENCE_MS..PATIENCE_MS + LONGEST_PAUSE_MS).contains(&in_vain), "{in_vain}");
        let (begun, in_vain) = tries(&mut asked(0, false), 0, Failure::Unknown);
        assert!((UNKNOWN_MS..UNKNOWN_MS + LONGEST_PAUSE_MS).contains(&in_vain) && begun.len() > 5, "{in_vain}");
    }

    #[test]
    fn one_more_byte_begins_anew() {
        let mut fetching = asked(0, false);
        step(&mut fetching, 0, Input::Failed(Failure::Later));
        step(&mut fetching, 500, Input::Tick);
        // Others have their turn for longer than anybody would wait, which is not counted.
        let now = 500 + 2 * PATIENCE_MS;
        step(&mut fetching, now, Input::Asked);
        let slow = now + PATIENCE_MS - 501;
        assert_eq!(step(&mut fetching, slow, Input::More), [Output::Tell]);
        assert_eq!(step(&mut fetching, slow + PATIENCE_MS - 1, Input::Failed(Failure::Later)), [Output::Tell]);
        assert_eq!(fetching.deadline(), Some(slow + PATIENCE_MS - 1 + PAUSE_MS), "the first pause again");
        step(&mut fetching, slow + PATIENCE_MS - 1 + PAUSE_MS, Input::Tick);
        step(&mut fetching, slow + 2 * PATIENCE_MS, Input::Asked);
        let out = step(&mut fetching, slow + 2 * PATIENCE_MS, Input::Failed(Failure::Later));
        assert_eq!(out, [Output::GiveUp { in_vain: PATIENCE_MS - 1 + PAUSE_MS }]);
    }

    #[test]
    fn a_try_that_hangs_counts_in_full() {
        let mut fetching = asked(0, false);
        let out = step(&mut fetching, PATIENCE_MS - 1, Input::Failed(Failure::Later));
        assert_eq!(out, [Output::Tell]);
        let mut fetching = asked(0, false);
        let out = step(&mut fetching, PATIENCE_MS, Input::Failed(Failure::Later));
        assert_eq!(out, [Output::GiveUp { in_vain: PATIENCE_MS }]);
    }

    #[test]
    fn a_connection_that_had_ended_costs_one_try_and_no_time() {
        let mut fetching = asked(0, false);
        assert_eq!(step(&mut fetching, 0, Input::Failed(Failure::Stale)), [ASK]);
        step(&mut fetching, 0, Input::Asked);
        assert_eq!(step(&mut fetching, 0, Input::Failed(Failure::Stale)), [], "twice in a row is trouble");
        assert_eq!(fetching.deadline(), Some(PAUSE_MS));
    }

    #[test]
    fn what_is_gone_is_given_up_at_once_and_what_is_wanted_anew_is_so_once() {
        let mut fetching = asked(0, true);
        step(&mut fetching, 0, Input::Failed(Failure::Later));
        assert_eq!(step(&mut fetching, 500, Input::Tick), [ASK]);
        step(&mut fetching, 500, Input::Asked);
        let status = |status| Failure::of_status(status);
        assert_eq!(
            [404, 410, 500, 301, 0].map(status).map(|failure| failure == Failure::Later),
            [false, false, true, true, true]
        );
        assert_eq!(step(&mut fetching, 500, Input::Failed(status(410))), [Output::GiveUp { in_vain: 0 }]);
    }

    #[test]
    fn words_come_seldom() {
        let mut fetching = asked(0, false);
        let told = (0..=WORD_MS * 3).filter(|now| !step(&mut fetching, *now, Input::More).is_empty());
        assert_eq!(told.collect::<Vec<_>>(), [WORD_MS, 2 * WORD_MS, 3 * WORD_MS]);
    }

    #[test]
    fn what_nobody_asked_for_is_a_mistake() {
        let mut fetching = Fetching::new(false);
        assert!(matches!(step(&mut fetching, 0, Input::More)[..], [Output::Bug(_)]));
        assert!(matches!(step(&mut fetching, 0, Input::Asked)[..], [Output::Bug(_)]));
        step(&mut fetching, 0, Input::Begin);
        assert!(matches!(step(&mut fetching, 0, Input::Begin)[..], [Output::Bug(_)]));
        assert!(matches!(step(&mut fetching, 0, Input::Failed(Failure::Later))[..], [Output::Bug(_)]));
    }
}
