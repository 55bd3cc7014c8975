//! How far an image is on its way → that for people: each phase as it begins, and at a terminal how much of it is done.

use sai_core::escape;

/// What people were told last.
#[derive(Debug, Default)]
pub struct Percent {
    terminal: bool,
    /// Whether the line is not at its end.
    open: bool,
    told: Option<(String, Option<u64>)>,
}

impl Percent {
    /// One for a terminal, where a line is written over, or for a file.
    pub fn new(terminal: bool) -> Self {
        Percent { terminal, ..Percent::default() }
    }

    /// What is to be printed when a phase is so far; `before` stands before its word.
    pub fn take(&mut self, before: &str, phase: &str, done: u64, of: u64) -> String {
        let line = escape::line(&format!("{before}{phase}")).to_string();
        let part = done.saturating_mul(100).checked_div(of).map(|part| part.min(100)).filter(|_| self.terminal);
        let begins = self.told.as_ref().is_none_or(|(told, _)| *told != line);
        if !begins && self.told.as_ref().is_some_and(|(_, told)| *told == part) {
            return String::new();
        }
        self.told = Some((line.clone(), part));
        match part {
            Some(part) => {
                let start = if begins { self.close() } else { "\r".to_string() };
                self.open = true;
                format!("{start}{line} {part} %")
            }
            None if begins => self.close() + &line + "\n",
            None => String::new(),
        }
    }

    /// What is to be printed before anything else is.
    pub fn close(&mut self) -> String {
        if std::mem::take(&mut self.open) { "\n".to_string() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_sees_each_hundredth_and_a_file_each_phase() {
        for (terminal, expected) in [
            (true, "a: erase 0 %\ra: erase 100 %\na: write 0 %\ra: write 50 %\n# hello\na: verify 100 %\n"),
            (false, "a: erase\na: write\n# hello\na: verify\n"),
        ] {
            let mut percent = Percent::new(terminal);
            let mut said = String::new();
            for (phase, done, of) in
                [("erase", 0, 3), ("erase", 3, 3), ("write", 0, 1000), ("write", 500, 1000), ("write", 501, 1000)]
            {
                said += &percent.take("a: ", phase, done, of);
            }
            said += &percent.close();
            said += "# hello\n";
            said += &percent.take("a: ", "verify", 9, 3);
            said += &percent.close();
            assert_eq!(said, expected);
        }
        // Of how much is not known, and nothing that a terminal would obey.
        assert_eq!(Percent::new(true).take("\u{1b}[2J", "load", 5, 0), "\\u{1b}[2Jload\n");
    }
}
