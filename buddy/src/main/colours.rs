//! A text and what it means → the same for a terminal, in a colour, or for whatever else reads it, as it is.

use std::io::IsTerminal;

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
    /// It may be, and somebody should look.
    Doubtful,
    /// What follows is about this.
    Title,
    /// It was said by somebody else.
    Quoted,
    /// No more than it says.
    Plain,
}

/// Whether colours are shown.
#[derive(Clone, Copy, Debug)]
pub struct Colours(bool);

impl Colours {
    /// Those of somebody who reads this: a terminal has some, unless it is asked to have none (no-color.org).
    pub fn of(reader: &impl IsTerminal) -> Colours {
        let none = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Colours(reader.is_terminal() && !none)
    }

    /// The text for that reader; it has nothing in it already that a terminal obeys.
    pub fn show(self, meaning: Meaning, text: &str) -> String {
        // Select graphic rendition (ECMA-48, 8.3.117).
        let number = match meaning {
            Meaning::Good => 32,
            Meaning::Bad => 31,
            Meaning::Doubtful => 33,
            Meaning::Title => 1,
            Meaning::Quoted => 2,
            Meaning::Plain => 0,
        };
        if self.0 && number > 0 { format!("\x1b[{number}m{text}\x1b[0m") } else { text.to_string() }
    }
}
