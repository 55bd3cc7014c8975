//! What two peers say they speak → what both speak, and what either can do beside it.
//!
//! Peers of different versions work together as long as they share one protocol. What can be added without a new one
//! (a message, a kind of frame or of record) is named by a word instead: it is said only to who has said that word.

use crate::limits::{PROTOCOL, PROTOCOL_NEWEST};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// Words that are remembered of one peer: far more than there are, and a bound for what a stranger may fill memory with.
pub const WORDS: usize = 64;
/// Bytes of one such word at most.
pub const WORD_BYTES: usize = 32;

/// What a peer may be able to do beside its protocol. Words that are not here are a later version's, and nothing is made
/// of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Can {
    /// It passes over messages, frames and kinds of record that it does not know. The first release closes the link.
    PassOver,
    /// Agents: it fetches the files of what a job needs. Who does not say so gets no job that needs others.
    Needs,
    /// Masters: it hears what an agent says of units; agents say it to no other.
    Units,
    /// Agents: it runs a job in that of its platforms which the assignment names, and names them in the order in which it
    /// would choose.
    Offered,
    /// Masters: it hears that a step asks for a session at a board; agents say it to no other.
    Sessions,
    /// Agents: it flashes and judges several boards of one job. Who does not say so gets no such job.
    Several,
    /// Agents: it lends a board to a person, and hears their words. Who does not say so gets no such job.
    Leases,
    /// Agents: it checks out what somebody has sent and nobody pushed. Who does not say so gets no such job.
    Bundles,
    /// Agents: it is told of images for its card. Masters: they hear what becomes of those.
    Updates,
}

impl Can {
    /// All of them: what this version says of itself.
    const ALL: [Self; 9] = [
        Self::PassOver,
        Self::Needs,
        Self::Units,
        Self::Offered,
        Self::Sessions,
        Self::Several,
        Self::Leases,
        Self::Bundles,
        Self::Updates,
    ];

    /// The word on the wire: small letters, digits and `-`.
    pub fn word(self) -> &'static str {
        match self {
            Self::PassOver => "pass-over",
            Self::Needs => "needs",
            Self::Units => "units",
            Self::Offered => "offered",
            Self::Sessions => "sessions",
            Self::Several => "several",
            Self::Leases => "leases",
            Self::Bundles => "bundles",
            Self::Updates => "updates",
        }
    }

    /// Whether it is among what a peer has said, as [`heard`] left it.
    pub fn is_in(self, words: Option<&[String]>) -> bool {
        words.is_some_and(|words| words.iter().any(|word| word == self.word()))
    }
}

/// What this version says of itself.
pub fn told() -> Vec<String> {
    Can::ALL.iter().map(|can| can.word().to_string()).collect()
}

/// What is kept of the words of a peer.
pub fn heard(words: Option<Vec<String>>) -> Option<Vec<String>> {
    let letters = |word: &str| word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    words.map(|words| {
        let good = words.into_iter().filter(|word| (1..=WORD_BYTES).contains(&word.len()) && letters(word));
        good.take(WORDS).collect()
    })
}

/// Whether the count of what was passed over is told: at 1, 10, 100 and so on, since a peer says much and a log is short.
pub fn is_worth_telling(count: u64) -> bool {
    count.checked_ilog10().is_some_and(|digits| 10_u64.pow(digits) == count)
}

/// A sentence for people about something of an unknown kind.
pub fn passed_over(what: &str, count: u64) -> String {
    match count {
        1 => format!("{what}, of a kind that this version does not know, is passed over"),
        _ => format!(
            "{what}, of a kind that this version does not know, is passed over; there were {count} of such kinds"
        ),
    }
}

/// Protocols from the oldest to the newest that one side speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The oldest.
    pub oldest: u32,
    /// The newest.
    pub newest: u32,
}

impl Span {
    /// Those of this version.
    pub const OURS: Self = Self { oldest: PROTOCOL, newest: PROTOCOL_NEWEST };

    /// Those of a peer. The first release says one alone.
    pub fn of(oldest: u32, newest: Option<u32>) -> Self {
        Self { oldest, newest: newest.unwrap_or(oldest) }
    }

    /// The newest that both speak, if there is one.
    pub fn shared(self, other: Self) -> Option<u32> {
        let shared = self.newest.min(other.newest);
        (shared >= self.oldest.max(other.oldest)).then_some(shared)
    }

    /// Whether this one is among them.
    pub fn has(self, protocol: u32) -> bool {
        (self.oldest..=self.newest).contains(&protocol)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { oldest, newest } if oldest == newest => write!(out, "protocol {oldest}"),
            Self { oldest, newest } => write!(out, "protocols {oldest} to {newest}"),
        }
    }
}
