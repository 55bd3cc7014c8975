//! A board → the levels of a console's DTR, RTS and BREAK in which nothing happens to it: what its tty is set to when it is opened, and
//! when whoever moved them has died.

use super::{Board, Signal, Step, Use, Wire};

/// Levels of what a tty drives beside its data, 1 being asserted; `None` is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// DTR.
    pub dtr: Option<bool>,
    /// RTS.
    pub rts: Option<bool>,
    /// BREAK.
    pub sends_break: Option<bool>,
}

impl Signals {
    fn of(&mut self, signal: Signal) -> &mut Option<bool> {
        match signal {
            Signal::Dtr => &mut self.dtr,
            Signal::Rts => &mut self.rts,
            Signal::Break => &mut self.sends_break,
        }
    }

    /// Those of a console that steps move by no other name, as far as nothing is said of them.
    fn moved_by(&mut self, steps: &[Step], console: &str) {
        for step in steps {
            let Step::Set(levels) = step else { continue };
            for (name, _) in levels {
                if let Some((of, signal)) = signal(name)
                    && of == console
                {
                    self.of(signal).get_or_insert(signal != Signal::Break);
                }
            }
        }
    }
}

/// The console and the signal of a name like `main.dtr`.
pub(super) fn signal(name: &str) -> Option<(&str, Signal)> {
    let (console, signal) = name.split_once('.')?;
    let signal = match signal {
        "dtr" => Signal::Dtr,
        "rts" => Signal::Rts,
        "break" => Signal::Break,
        _ => return None,
    };
    Some((console, signal))
}

impl Board {
    /// What is said of a console's signals: by its `dtr` and `rts`, and by lines of the board that are these, which know better.
    pub fn said_signals(&self, console: &str) -> Signals {
        let mut signals = Signals::default();
        if let Some(console) = self.console(console) {
            (signals.dtr, signals.rts) = (console.dtr, console.rts);
        }
        for line in &self.lines {
            if let (Wire::Signal(of, signal), Use::Output { safe, .. }) = (&line.wire, line.use_as)
                && of == console
            {
                *signals.of(*signal) = Some(safe != line.active_low);
            }
        }
        signals
    }

    /// The same, and of signals that steps move without anything being said of them: DTR and RTS as the kernel has them of a tty that
    /// is opened, which is asserted, and no BREAK.
    pub fn resting_signals(&self, console: &str) -> Signals {
        let mut signals = self.said_signals(console);
        for steps in self.sequences.values() {
            signals.moved_by(steps, console);
        }
        for mode in self.modes.values() {
            signals.moved_by(&mode.steps, console);
        }
        signals
    }

    /// Its GPIOs that are driven and may leave their safe level when nobody holds them any more, each with the level that it has then,
    /// where that is said.
    pub fn unsafe_unheld(&self) -> impl Iterator<Item = (&str, Option<bool>)> {
        self.lines.iter().filter_map(|line| match (&line.wire, line.use_as) {
            (Wire::Gpio(..), Use::Output { safe, .. }) if line.unheld != Some(safe) => {
                Some((line.name.as_str(), line.unheld))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn board(text: &str) -> Board {
        let bench = crate::bench::read("b.json", text.as_bytes()).expect("a bench");
        bench.boards.into_iter().next().expect("a board")
    }

    #[test]
    fn what_a_line_says_counts_before_its_console_and_what_nobody_says_is_as_it_is_opened() {
        let board = board(
            r#"{ "boards": { "b": { "type": "t",
                "consoles": { "main": { "path": "/dev/ttyS0", "dtr": 1 }, "other": { "path": "/dev/ttyS1" }, "third": { "path": "/dev/ttyS2", "rts": 0 } },
                "lines": { "io0": { "dtr": "main", "safe": 1, "active_low": true }, "halt": { "break": "third", "safe": 0 } },
                "sequences": { "reset": ["io0 1", "wait 1ms", "io0 0, main.rts 0"] },
                "modes": { "run": { "do": ["other.break 1", "third.dtr 1"] } } } } }"#,
        );
        let signals = |dtr, rts, sends_break| Signals { dtr, rts, sends_break };
        assert_eq!(board.said_signals("main"), signals(Some(false), None, None));
        assert_eq!(board.resting_signals("main"), signals(Some(false), Some(true), None));
        assert_eq!(board.resting_signals("other"), signals(None, None, Some(false)));
        assert_eq!(board.resting_signals("third"), signals(Some(true), Some(false), Some(false)));
        // As a tty is opened, which moves nothing that nothing is said of.
        let console = |name: &str| board.console(name).map(|console| (console.dtr, console.rts));
        assert_eq!(console("main"), Some((Some(false), None)));
        assert_eq!(console("third"), Some((None, Some(false))));
        assert_eq!(board.resting_signals("none"), Signals::default());
    }

    #[test]
    fn a_line_is_safe_to_be_let_go_where_its_bench_says_so() {
        let board = board(
            r#"{ "chip": "gpiochip0", "boards": { "b": { "type": "t", "lines": {
                "still": { "line": 1, "safe": 1, "unheld": 1 }, "falls": { "line": 2, "safe": 1, "unheld": 0 },
                "unknown": { "line": 3, "safe": 0 }, "led": { "line": 4, "direction": "in" } } } } }"#,
        );
        let told: Vec<_> = board.unsafe_unheld().collect();
        assert_eq!(told, [("falls", Some(false)), ("unknown", None)]);
    }
}
