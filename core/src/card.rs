//! What a card says of its system, the image that it is to have, and the files by which its agent and its first process speak of images.

use alloc::string::String;
use miniserde::{Deserialize, Serialize};

/// Milliseconds in which a card that takes no more jobs is waited for, so that what was on its way is heard: more than a link takes.
pub const QUIET_MS: u64 = 2_000;
/// The directory, in an agent's state directory, by which agent and first process of a card's machine tell each other of images.
pub const DIRECTORY: &str = "update";
/// A file there, of the first process: a [`Card`], as JSON. Where it is not there the machine was not started from a card.
pub const CARD: &str = "card";
/// A file there, of the agent: an image that is to be taken, whole and flushed before it is called so.
pub const HANDED: &str = "handed";
/// A file there, of the first process: why that was not taken, in a line.
pub const REFUSED: &str = "refused";
/// Characters that are kept of what a card says of itself.
const WORDS: usize = 128;

/// What a machine that was started from a card says of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Which machines its images are for.
    pub model: String,
    /// The number of the image that runs: seconds since 1970 of what it was made of.
    pub number: u64,
    /// The number of the last image that did not prove itself.
    pub left: Option<u64>,
    /// How often one did not.
    pub lefts: Option<u32>,
    /// The public half of the update key that it believes, in hexadecimal digits; none where its join line had none.
    pub key: Option<String>,
}

impl Card {
    /// What is kept of it.
    #[must_use]
    pub fn plain(self) -> Self {
        let short = |text: &String| text.chars().take(WORDS).filter(|letter| !letter.is_control()).collect();
        Self { model: short(&self.model), key: self.key.as_ref().map(short), ..self }
    }
}

/// An image that an agent's card is to have, as the agent's record has it until it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Bytes of its file.
    pub size: u64,
    /// The agent that is to come back with it first.
    pub after: Option<String>,
    /// How often an image had not proven itself at this card when it was told.
    pub lefts: Option<u32>,
    /// Why it is not tried any more.
    pub failed: Option<String>,
}
