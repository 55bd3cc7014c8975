//! What an owner knows and holds ↔ what the same process knows and holds after an update: not one byte of a console is missing.

use crate::desk::Mode;
use crate::frames;
use crate::history::History;
use miniserde::{Deserialize, Serialize, json};
use sai_core::console::Entry;
use std::io::{self, ErrorKind};

/// What is known, before the entries of all consoles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The mode that the board is in; `None` where it is not known.
    pub mode: Option<String>,
    /// The way to that mode, as the bench had it.
    pub way: Option<String>,
    /// Whether the guard's link is among the files.
    pub guard: bool,
    /// The consoles.
    pub consoles: Vec<Told>,
    /// The lines that are driven, whose files are behind those of the ttys.
    pub lines: Option<Vec<Driven>>,
}

/// Lines that are driven by one file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driven {
    /// What they have in common.
    pub name: String,
    /// What the file is.
    pub what: String,
    /// The levels at the pins.
    pub levels: u64,
}

/// One console.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its name.
    pub name: String,
    /// Bytes of the channel until now.
    pub offset: u64,
    /// Whether its tty is among the files.
    pub tty: bool,
    /// How many entries there are of it.
    pub entries: u64,
}

impl Known {
    /// The mode, for a desk.
    pub fn mode(&self) -> Mode {
        self.mode.clone().map_or(Mode::Unknown, Mode::Reached)
    }
}

/// All of it as bytes.
pub fn encode(known: &Known, histories: &[&History]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |part: &[u8]| {
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    put(json::to_string(known).as_bytes());
    for history in histories {
        for entry in history.entries() {
            put(&frames::encode(0, entry));
        }
    }
    bytes
}

/// All of it from bytes: what is known, and the entries of each console.
///
/// # Errors
/// It is not what `encode` made.
pub fn decode(mut bytes: &[u8]) -> io::Result<(Known, Vec<Vec<Entry>>)> {
    let strange = || io::Error::new(ErrorKind::InvalidData, "what another owner knew is not what it said");
    let mut next = || {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        bytes = rest;
        Some(part)
    };
    let text = std::str::from_utf8(next().ok_or_else(strange)?).map_err(|_| strange())?;
    let known: Known = json::from_str(text).map_err(|_| strange())?;
    let mut consoles = Vec::new();
    for console in &known.consoles {
        let mut entries = Vec::new();
        for _ in 0..console.entries {
            let (_, entry) = next().and_then(frames::decode).ok_or_else(strange)?;
            entries.push(entry);
        }
        consoles.push(entries);
    }
    Ok((known, consoles))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::console::{Piece, Why};

    #[test]
    fn what_is_known_goes_on_and_what_is_cut_does_not() {
        let mut history = History::new(9_600);
        history.push(Entry::Came(Piece::Bytes { offset: 7, ns: 1, bytes: b"abc".to_vec() }), true);
        history.push(Entry::Came(Piece::Lost { offset: 10, ns: 2, lost: Some(4), why: Why::Full }), true);
        let told = Told { name: "main".into(), offset: 14, tty: true, entries: 2 };
        let empty = Told { name: "other".into(), offset: 0, tty: false, entries: 0 };
        let known = Known {
            mode: Some("run".into()),
            way: Some("run\n".into()),
            guard: true,
            consoles: vec![told, empty],
            lines: None,
        };
        let bytes = encode(&known, &[&history, &History::new(9_600)]);
        let (other, entries) = decode(&bytes).expect("as it was");
        assert_eq!(other, known);
        assert_eq!(entries, [history.entries().cloned().collect(), Vec::new()]);
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
    }
}
