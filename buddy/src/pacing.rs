//! Bytes to send → the same, as slowly and with as much regard to the board's echo as its console wants.
//!
//! A board may lose what comes while it does something else, and then answers to a command that nobody gave.

use sai_core::bench::Console;
use sai_core::limits::Millis;
use std::collections::VecDeque;

/// Bytes that wait to be sent at most.
pub const WAITING_BYTES: usize = 4096;
/// Milliseconds within which a byte must have come back from a board that echoes.
pub const ECHO_MS: Millis = 1_000;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// These are to be sent, after those that wait.
    Send(&'a [u8]),
    /// What was said last has been written.
    Written,
    /// The board said something.
    Heard(&'a [u8]),
    /// What waits is not to be sent: its writer, or the tty, is gone.
    Drop,
    /// The time told by `deadline` has come.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// These go out: `Written` follows.
    Write(Vec<u8>),
    /// All was sent, with so many bytes since that was said last.
    Sent(u64),
    /// So many bytes were sent, and nothing else is.
    Failed(u64, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// So many bytes are being written.
    Writing(usize),
    /// Nothing is sent before this moment.
    Waiting(Millis),
    /// This byte is to come back, until this moment.
    Echo(u8, Millis),
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Pacing {
    pace_ms: Millis,
    echo: bool,
    waiting: VecDeque<u8>,
    state: State,
    last: u8,
    sent: u64,
}

impl Pacing {
    /// One for a console.
    pub fn of(console: &Console) -> Self {
        Pacing {
            pace_ms: console.pace_ms,
            echo: console.echo,
            waiting: VecDeque::new(),
            state: State::Idle,
            last: 0,
            sent: 0,
        }
    }

    /// Bytes that may be sent now.
    pub fn room(&self) -> usize {
        WAITING_BYTES - self.waiting.len()
    }

    /// Whether nothing waits or is on its way.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// When `Tick` is wanted next.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Waiting(until) | State::Echo(_, until) => Some(until),
            State::Idle | State::Writing(_) => None,
        }
    }

    /// Takes one input; what is to be done is appended to `out`. What there is no room for is not sent.
    pub fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match (input, self.state) {
            (Input::Send(bytes), state) => {
                self.waiting.extend(bytes.iter().take(self.room()));
                if state == State::Idle {
                    self.go_on(out);
                }
            }
            (Input::Written, State::Writing(count)) => {
                self.sent += count as u64;
                // A board does with others what it likes: a return is two bytes to some, and control characters nothing.
                let echoed = self.echo && (self.last.is_ascii_graphic() || self.last == b' ');
                match (echoed, self.pace_ms) {
                    (true, _) => self.state = State::Echo(self.last, now + ECHO_MS),
                    (false, 0) => self.go_on(out),
                    // A clock of whole milliseconds may be about to move on.
                    (false, pace) => self.state = State::Waiting(now + pace + 1),
                }
            }
            (Input::Heard(bytes), State::Echo(byte, _)) if bytes.contains(&byte) => match self.pace_ms {
                0 => self.go_on(out),
                pace => self.state = State::Waiting(now + pace + 1),
            },
            (Input::Tick, State::Waiting(until)) if until <= now => self.go_on(out),
            (Input::Tick, State::Echo(byte, until)) if until <= now => {
                let text = format!("the board did not echo {:?} within {ECHO_MS} ms", char::from(byte));
                self.fail(text, out);
            }
            (Input::Drop, state) if state != State::Idle => self.fail("it was broken off".into(), out),
            _ => {}
        }
    }

    fn go_on(&mut self, out: &mut Vec<Output>) {
        let count = if self.echo || self.pace_ms > 0 { 1 } else { self.waiting.len() };
        let bytes: Vec<u8> = self.waiting.drain(..count.min(self.waiting.len())).collect();
        match bytes.last() {
            Some(last) => {
                self.last = *last;
                self.state = State::Writing(bytes.len());
                out.push(Output::Write(bytes));
            }
            None => {
                self.state = State::Idle;
                out.push(Output::Sent(std::mem::take(&mut self.sent)));
            }
        }
    }

    fn fail(&mut self, text: String, out: &mut Vec<Output>) {
        self.waiting.clear();
        self.state = State::Idle;
        out.push(Output::Failed(std::mem::take(&mut self.sent), text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pacing(pace_ms: Millis, echo: bool) -> Pacing {
        Pacing { pace_ms, echo, waiting: VecDeque::new(), state: State::Idle, last: 0, sent: 0 }
    }

    fn give(pacing: &mut Pacing, now: Millis, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        pacing.handle(now, input, &mut out);
        out
    }

    fn write(text: &str) -> [Output; 1] {
        [Output::Write(text.into())]
    }

    #[test]
    fn what_needs_no_regard_goes_at_once() {
        let mut pacing = pacing(0, false);
        assert_eq!(give(&mut pacing, 0, Input::Send(b"abc")), write("abc"));
        assert_eq!(give(&mut pacing, 1, Input::Send(b"de")), []);
        assert_eq!(give(&mut pacing, 2, Input::Written), write("de"));
        assert_eq!(give(&mut pacing, 3, Input::Written), [Output::Sent(5)]);
        assert!(pacing.is_idle() && pacing.deadline().is_none());
        give(&mut pacing, 4, Input::Send(&[0; 5_000]));
        give(&mut pacing, 4, Input::Send(&[0; 5_000]));
        assert_eq!(give(&mut pacing, 5, Input::Written), [Output::Write([0; WAITING_BYTES].to_vec())]);
    }

    #[test]
    fn a_slow_board_gets_one_byte_at_a_time_and_the_time_is_never_shorter() {
        let mut pacing = pacing(10, false);
        assert_eq!(give(&mut pacing, 0, Input::Send(b"ab")), write("a"));
        assert_eq!(give(&mut pacing, 5, Input::Written), []);
        assert_eq!(pacing.deadline(), Some(16));
        assert_eq!(give(&mut pacing, 15, Input::Tick), []);
        assert_eq!(give(&mut pacing, 16, Input::Tick), write("b"));
        give(&mut pacing, 16, Input::Written);
        assert_eq!(give(&mut pacing, 27, Input::Tick), [Output::Sent(2)]);
    }

    #[test]
    fn a_byte_that_does_not_come_back_ends_it() {
        let mut pacing = pacing(0, true);
        give(&mut pacing, 0, Input::Send(b"a\rbc"));
        assert_eq!(give(&mut pacing, 1, Input::Written), []);
        assert_eq!(give(&mut pacing, 2, Input::Heard(b"noise")), []);
        // The echo may come with other things around it; of a return there may be none.
        assert_eq!(give(&mut pacing, 3, Input::Heard(b"..a..")), write("\r"));
        assert_eq!(give(&mut pacing, 4, Input::Written), write("b"));
        give(&mut pacing, 5, Input::Written);
        assert_eq!(give(&mut pacing, 5 + ECHO_MS, Input::Tick).len(), 1);
        assert!(pacing.is_idle());
        assert_eq!(give(&mut pacing, 9_000, Input::Send(b"d")), write("d"));
        let failed = give(&mut pacing, 9_000, Input::Drop);
        assert_eq!(failed, [Output::Failed(0, "it was broken off".into())]);
        assert_eq!(give(&mut pacing, 9_001, Input::Written), []);
    }
}
