//! Whether agents are listened to → the time in which they were not, which makes nobody late at the door.
//!
//! A master takes nothing from its links while too much waits for its disk. What an agent said in time lies in front of the door
//! then, and may lie there for longer than anybody has to say it.

use crate::limits::Millis;
use alloc::vec::Vec;

/// Milliseconds that are worth telling: nobody has as little time, and a disk that is busy takes some of them all the time.
const WORTH_MS: Millis = 1000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Whether what agents say is taken from now on. Told as often as one likes.
    Taken(bool),
    /// The [`Hearing::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Give everybody who must greet or answer so many milliseconds more.
    Missed(Millis),
}

/// Since when nobody is heard.
#[derive(Clone, Debug, Default)]
pub struct Hearing {
    deaf: Option<Millis>,
}

impl Hearing {
    /// When [`Input::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Millis> {
        self.deaf.map(|since| since.saturating_add(WORTH_MS))
    }

    /// Takes an input and says what is to be done. What was missed is to be told before anybody is found late.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        let deaf = match input {
            Input::Taken(taken) => !taken,
            Input::Tick => self.deaf.is_some(),
        };
        let missed = self.deaf.map_or(0, |since| now.saturating_sub(since));
        if missed >= WORTH_MS {
            self.deaf = None;
            out.push(Output::Missed(missed));
        }
        self.deaf = if deaf { self.deaf.or(Some(now)) } else { None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn give(hearing: &mut Hearing, now: Millis, input: Input) -> Option<Millis> {
        let mut out = Vec::new();
        hearing.handle(now, input, &mut out);
        assert!(out.len() < 2);
        out.pop().map(|Output::Missed(missed)| missed)
    }

    #[test]
    fn all_that_was_missed_is_told_once() {
        let mut hearing = Hearing::default();
        assert_eq!((give(&mut hearing, 50_000, Input::Taken(true)), hearing.deadline()), (None, None));
        assert_eq!(give(&mut hearing, 60_000, Input::Taken(false)), None);
        assert_eq!(hearing.deadline(), Some(61_000));
        let mut told = 0;
        for (now, input) in [(60_999, Input::Taken(false)), (61_500, Input::Tick), (61_700, Input::Taken(false))] {
            told += give(&mut hearing, now, input).unwrap_or(0);
        }
        assert_eq!((told, hearing.deadline()), (1500, Some(62_500)));
        assert_eq!(give(&mut hearing, 90_000, Input::Taken(true)), Some(28_500));
        assert_eq!((give(&mut hearing, 99_000, Input::Tick), hearing.deadline()), (None, None));
    }

    #[test]
    fn a_moment_is_not_worth_telling() {
        let mut hearing = Hearing::default();
        give(&mut hearing, 0, Input::Taken(false));
        assert_eq!(give(&mut hearing, 999, Input::Taken(true)), None);
        assert_eq!(give(&mut hearing, 5000, Input::Taken(false)), None);
        assert_eq!(give(&mut hearing, 5999, Input::Taken(true)), None);
    }
}
