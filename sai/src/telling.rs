//! A line for a person → a terminal or a file, with nothing of a stranger's in it that a terminal obeys.

use sai_agent::terminal;
use sai_core::escape;
use sai_core::job::JobState;
use std::io::{self, IsTerminal as _};

/// Tells something beside what was asked for, on standard error.
pub fn tell(line: &str) {
    terminal::tell("sai", line);
}

/// Whether what is printed may be coloured: it goes to a terminal, and nobody minds (https://no-color.org).
pub fn colours() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && !plain
}

/// A stranger's text as it may stand in a line.
pub fn plain(text: &str) -> String {
    escape::line(text)
}

/// A state's word in its colour.
pub fn state(word: &str, coloured: bool) -> String {
    let colour = match word {
        "passed" | "idle" => 32,
        "queued" | "blocked" | "assigned" | "running" | "busy" => 33,
        _ => 31,
    };
    let word = plain(word);
    if coloured { format!("\x1b[{colour}m{word}\x1b[0m") } else { word }
}

/// Whether a job that stands so has ended, by the master's word for it. What only a later version has a word for has.
pub fn ended(word: &str) -> bool {
    let open = [JobState::Blocked, JobState::Queued, JobState::Assigned, JobState::Running];
    !open.iter().any(|state| state.word() == word) && word != "blocked"
}

/// A moment of these days, Unix milliseconds, as people read it.
pub fn moment(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Milliseconds as people read them.
pub fn seconds(millis: u64) -> String {
    let tenths = millis.saturating_add(50) / 100;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_of_day() {
        assert_eq!(moment(1_764_510_127_999), "13:42:07 UTC");
        assert_eq!(moment(0), "00:00:00 UTC");
    }
}
