//! What a console had, and what was sent to it → the same, each at its place among the bytes of its channel and at its moment.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Something that a tty had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Bytes {
        /// Bytes of the channel before them.
        offset: u64,
        /// CLOCK_MONOTONIC when the first was read, in nanoseconds.
        ns: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes came that are not here.
    Lost {
        /// Bytes of the channel before them.
        offset: u64,
        /// CLOCK_MONOTONIC when the first was missed, in nanoseconds.
        ns: u64,
        /// How many; `None` where nobody can know. Where they are known they count as bytes of the channel.
        lost: Option<u64>,
        /// Why.
        why: Why,
    },
    /// The tty is gone.
    Unplugged {
        /// Bytes of the channel before.
        offset: u64,
        /// CLOCK_MONOTONIC, in nanoseconds.
        ns: u64,
    },
    /// It is back.
    Back {
        /// Bytes of the channel before.
        offset: u64,
        /// CLOCK_MONOTONIC, in nanoseconds.
        ns: u64,
        /// Its name now; empty where only its owner knew.
        tty: String,
    },
}

/// Why something is missing, or is not what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was no room in memory.
    Full,
    /// The UART or the kernel had no room: bytes are missing somewhere before.
    Overrun,
    /// So many bytes before had no stop bit: they are there, and may be others.
    Frame,
    /// So many bytes before had the other parity.
    Parity,
    /// There was a break condition, which is read as a byte of zeros.
    Break,
    /// Nobody listened: the tty was gone.
    Away,
    /// Whoever listened died with what it had read and not passed on.
    Died,
}

impl Why {
    /// The word for it, for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Why::Full => "no room",
            Why::Overrun => "overrun",
            Why::Frame => "frame",
            Why::Parity => "parity",
            Why::Break => "break",
            Why::Away => "away",
            Why::Died => "died",
        }
    }
}

/// Keeps since when a tty is gone, in nanoseconds; for how many milliseconds it was, where this says that it is back. Both moments are of
/// one clock, whichever owner has told of them, so that the one that goes on after another need not know of the first.
pub fn away_ms(gone: &mut Option<u64>, entry: &Entry) -> Option<u64> {
    match entry {
        Entry::Came(Piece::Unplugged { ns, .. }) => {
            *gone = Some(*ns);
            None
        }
        Entry::Came(Piece::Back { ns, .. }) => gone.take().map(|since| ns.saturating_sub(since) / 1_000_000),
        _ => None,
    }
}

/// What people are told of a tty that is back: its name now, where that is known, and for how long it was gone, where somebody saw it go.
pub fn back(tty: &str, away_ms: Option<u64>) -> String {
    match (tty, away_ms) {
        (tty, None) => String::from(tty),
        ("", Some(ms)) => format!("gone for {ms} ms"),
        (tty, Some(ms)) => format!("{tty}, gone for {ms} ms"),
    }
}

/// Something that a console had, or that was done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It came from the tty.
    Came(Piece),
    /// Bytes went out.
    Sent {
        /// Bytes of the channel before.
        offset: u64,
        /// CLOCK_MONOTONIC, in nanoseconds.
        ns: u64,
        /// Who wrote them.
        writer: String,
        /// How many.
        length: u64,
        /// The bytes, unless a person typed them: there are passwords among these.
        bytes: Option<Vec<u8>>,
    },
}

impl Entry {
    /// Bytes of the channel before it.
    pub fn offset(&self) -> u64 {
        match self {
            Entry::Came(Piece::Bytes { offset, .. })
            | Entry::Came(Piece::Lost { offset, .. })
            | Entry::Came(Piece::Unplugged { offset, .. })
            | Entry::Came(Piece::Back { offset, .. })
            | Entry::Sent { offset, .. } => *offset,
        }
    }

    /// Bytes of the channel after it.
    pub fn end(&self) -> u64 {
        match self {
            Entry::Came(Piece::Bytes { offset, bytes, .. }) => offset + bytes.len() as u64,
            Entry::Came(Piece::Lost { offset, lost: Some(lost), why: Why::Full, .. }) => offset + lost,
            other => other.offset(),
        }
    }

    /// CLOCK_MONOTONIC of it, in nanoseconds.
    pub fn ns(&self) -> u64 {
        match self {
            Entry::Came(Piece::Bytes { ns, .. })
            | Entry::Came(Piece::Lost { ns, .. })
            | Entry::Came(Piece::Unplugged { ns, .. })
            | Entry::Came(Piece::Back { ns, .. })
            | Entry::Sent { ns, .. } => *ns,
        }
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        match self {
            Entry::Came(Piece::Bytes { bytes, .. }) => bytes.len(),
            Entry::Sent { bytes, .. } => bytes.as_ref().map_or(0, Vec::len),
            Entry::Came(_) => 0,
        }
    }
}
