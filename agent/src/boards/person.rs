//! What the supervisor's loop passes on of a person who has a board by a lease → that one's next words.

use super::talk::WORDS;
use sai_core::lending::Asker;
use sai_core::ordered::Map;
use sai_core::wire::WORD_BYTES;
use sai_core::writers::Writers;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixDatagram;

/// A person who has the board, and all programs by which they say words.
pub(super) struct Person {
    /// From the supervisor's loop: `WRITER NUMBER JSON` each.
    words: UnixDatagram,
    writers: Writers,
    /// Whose words are not answered: the writer, and which of its words.
    pub(super) asked: Map<Asker, (String, u64)>,
}

impl Person {
    pub(super) fn new(words: UnixDatagram) -> Self {
        Self { words, writers: Writers::default(), asked: Map::new() }
    }

    /// What can be read when there is one.
    pub(super) fn words(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// The next word that is to be taken: writer, number and what it says. Whoever says one too many says it again.
    pub(super) fn next(&mut self) -> Option<(String, u64, String)> {
        let mut bytes = [0; 2 * WORD_BYTES];
        loop {
            let count = self.words.recv(&mut bytes).ok()?;
            let text = std::str::from_utf8(bytes.get(..count)?).unwrap_or_default();
            let mut parts = text.splitn(3, ' ');
            let (Some(writer), Some(number), Some(said)) = (parts.next(), parts.next(), parts.next()) else { continue };
            let Ok(number) = number.parse() else { continue };
            if self.asked.len() < WORDS && self.writers.take(writer, number) {
                return Some((writer.to_string(), number, said.to_string()));
            }
        }
    }
}
