//! Steps of a sequence or mode → levels, switches of power and waits, one after the other, each from the moment at which the one
//! before was done.

use sai_core::bench::{Step, Switch};
use sai_core::limits::Millis;
use std::collections::VecDeque;

/// What happens to a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is to be played.
    Begin,
    /// What was said last has been done.
    Done,
    /// It could not be done: nothing more is.
    Failed,
    /// The time told by `deadline` has come.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lines get these levels, as the board has them, those of one chip or console at the same moment: `Done` follows.
    Set(Vec<(String, bool)>),
    /// The power is switched on, or off: `Done` follows.
    Power(bool),
    /// A mode was reached, and so were those on the way to it.
    Reached(String),
    /// It is over.
    Over,
}

/// What is left to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Say(Output),
    Wait(Millis),
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Something is being done.
    Doing,
    Waiting(Millis),
    Over,
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Sequence {
    parts: VecDeque<Part>,
    state: State,
}

impl Sequence {
    /// A sequence of these steps, none of which plays another ([`sai_core::bench::Board::play`]). A power supply that is switched off
    /// and on is left off for so many milliseconds.
    pub fn new(steps: &[Step], off_ms: Millis) -> Self {
        let mut parts = VecDeque::new();
        append(&mut parts, steps, off_ms);
        Sequence { parts, state: State::Idle }
    }

    /// The way to a mode, as [`sai_core::bench::Board::way_to`] has it.
    pub fn way(modes: &[(String, Vec<Step>, Millis)], off_ms: Millis) -> Self {
        let mut parts = VecDeque::new();
        for (name, steps, settle_ms) in modes {
            append(&mut parts, steps, off_ms);
            parts.push_back(Part::Wait(*settle_ms));
            parts.push_back(Part::Say(Output::Reached(name.clone())));
        }
        Sequence { parts, state: State::Idle }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match (self.state, input) {
            (State::Idle, Input::Begin) | (State::Doing, Input::Done) => self.go_on(now, out),
            (State::Waiting(until), Input::Tick) if until <= now => self.go_on(now, out),
            (State::Idle | State::Doing | State::Waiting(_), Input::Failed) => {
                self.parts.clear();
                self.go_on(now, out);
            }
            _ => {}
        }
    }

    /// When `Tick` is wanted next.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Waiting(until) => Some(until),
            State::Idle | State::Doing | State::Over => None,
        }
    }

    fn go_on(&mut self, now: Millis, out: &mut Vec<Output>) {
        loop {
            match self.parts.pop_front() {
                Some(Part::Wait(0)) => {}
                Some(Part::Wait(time)) => {
                    // A clock of whole milliseconds may be about to move on.
                    self.state = State::Waiting(now.saturating_add(time).saturating_add(1));
                    return;
                }
                Some(Part::Say(said @ Output::Reached(_))) => out.push(said),
                Some(Part::Say(said)) => {
                    self.state = State::Doing;
                    out.push(said);
                    return;
                }
                None => {
                    self.state = State::Over;
                    out.push(Output::Over);
                    return;
                }
            }
        }
    }
}

fn append(parts: &mut VecDeque<Part>, steps: &[Step], off_ms: Millis) {
    let power = |on: bool| Part::Say(Output::Power(on));
    for step in steps {
        match step {
            Step::Set(levels) => parts.push_back(Part::Say(Output::Set(levels.clone()))),
            Step::Wait(time) => parts.push_back(Part::Wait(*time)),
            Step::Power(Switch::On) => parts.push_back(power(true)),
            Step::Power(Switch::Off) => parts.push_back(power(false)),
            Step::Power(Switch::Cycle) => parts.extend([power(false), Part::Wait(off_ms), power(true)]),
            // Looked up by the board already.
            Step::Play(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::bench;

    /// What is said, with when, where each takes as many milliseconds as its edge needs.
    fn played(mut sequence: Sequence, takes: Millis) -> Vec<(Millis, Output)> {
        let (mut now, mut all) = (1_000, Vec::new());
        let mut input = Input::Begin;
        loop {
            let mut out = Vec::new();
            sequence.handle(now, input, &mut out);
            all.extend(out.iter().map(|said| (now - 1_000, said.clone())));
            match (out.last(), sequence.deadline()) {
                (Some(Output::Over), _) => return all,
                (_, Some(deadline)) => (now, input) = (deadline, Input::Tick),
                _ => (now, input) = (now + takes, Input::Done),
            }
        }
    }

    fn set(name: &str, level: bool) -> Output {
        Output::Set([(name.to_string(), level)].to_vec())
    }

    #[test]
    fn each_step_waits_for_the_one_before_and_waits_are_never_shorter() {
        let text = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/boards.json"));
        let bench = bench::read("boards.json", &text.expect("the file")).expect("a bench");
        let board = bench.board("bench-1").expect("the board");
        let reset = board.play("reset").expect("a sequence");
        assert_eq!(
            played(Sequence::new(&reset, 0), 7),
            [(0, set("nrst", true)), (58, set("nrst", false)), (65, Output::Over)]
        );
        let way = board.way_to("loader").expect("a mode");
        let reached = |name: &str| Output::Reached(name.to_string());
        assert_eq!(
            played(Sequence::way(&way, 0), 0),
            [
                (0, Output::Power(false)),
                (0, reached("off")),
                (0, set("boot0", true)),
                (0, Output::Power(true)),
                (0, set("nrst", true)),
                (51, set("nrst", false)),
                (152, reached("loader")),
                (152, Output::Over),
            ]
        );
        let cycle = [Step::Power(Switch::Cycle)];
        let powers = [(0, Output::Power(false)), (2_001, Output::Power(true)), (2_001, Output::Over)];
        assert_eq!(played(Sequence::new(&cycle, 2_000), 0), powers);
    }

    #[test]
    fn what_fails_ends_it_and_what_comes_too_early_or_late_does_nothing() {
        let steps = [Step::Set([("a".to_string(), true)].to_vec()), Step::Wait(10), Step::Power(Switch::On)];
        let mut sequence = Sequence::new(&steps, 0);
        let mut step = |now, input| {
            let mut out = Vec::new();
            sequence.handle(now, input, &mut out);
            out
        };
        assert_eq!(step(0, Input::Done), []);
        assert_eq!(step(0, Input::Begin), [set("a", true)]);
        assert_eq!(step(5, Input::Begin), []);
        assert_eq!(step(5, Input::Done), []);
        assert_eq!(step(15, Input::Tick), []);
        assert_eq!(step(16, Input::Tick), [Output::Power(true)]);
        assert_eq!(step(16, Input::Failed), [Output::Over]);
        assert_eq!(step(17, Input::Done), []);
    }
}
