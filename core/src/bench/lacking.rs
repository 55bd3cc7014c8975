//! A name of something that a board has not → what is said of that, with the names that it has.

use super::Board;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Board {
    /// Of a sequence.
    pub fn lacks_sequence(&self, name: &str) -> String {
        self.lacks("sequence", name, &mut self.sequences.keys())
    }

    /// Of a mode.
    pub fn lacks_mode(&self, name: &str) -> String {
        self.lacks("mode", name, &mut self.modes.keys())
    }

    /// Of a console.
    pub fn lacks_console(&self, name: &str) -> String {
        self.lacks("console", name, &mut self.consoles.iter().map(|console| &console.name))
    }

    fn lacks(&self, what: &str, name: &str, names: &mut dyn Iterator<Item = &String>) -> String {
        let names: Vec<&str> = names.map(String::as_str).collect();
        let has = if names.is_empty() { "it has none".into() } else { format!("expected one of {}", names.join(", ")) };
        format!("board {} has no {what} {name:?}: {has}", self.name)
    }
}
