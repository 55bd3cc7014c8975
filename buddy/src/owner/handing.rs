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

/// All of it from bytes: what is known, and the entries of each console. What the version that made them knew besides is passed over.
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
            // One of a kind that came after this version is missing from what is kept, and nothing else is.
            entries.extend(frames::decode(next().ok_or_else(strange)?).map(|(_, entry)| entry));
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

    #[test]
    fn an_older_version_is_gone_on_from_and_of_a_later_one_what_is_known() {
        let part = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        // As it was before there were ways and lines.
        let older = r#"{"mode":null,"guard":false,"consoles":[{"name":"main","offset":9,"tty":true,"entries":0}]}"#;
        let (known, entries) = decode(&part(older.as_bytes())).expect("an older one");
        assert_eq!((known.consoles[0].offset, known.way, known.lines), (9, None, None));
        assert_eq!(entries, [Vec::new()]);
        let later = r#"{"mode":"run","weather":{"wind":[1]},"guard":true,"consoles":[{"name":"main","offset":12,"tty":false,"entries":3,"colour":"red"}],
            "lines":[{"name":"l","what":"gpio-v9","levels":1,"held":true}]}"#;
        let bytes = |offset, text: &[u8]| Entry::Came(Piece::Bytes { offset, ns: 1, bytes: text.to_vec() });
        let (first, last) = (bytes(5, b"ab"), bytes(9, b"cde"));
        let mut unknown = frames::encode(0, &bytes(7, b"??"));
        unknown[1] = 200;
        let parts = [later.as_bytes(), &frames::encode(0, &first), &unknown, &frames::encode(0, &last)];
        let (known, entries) = decode(&parts.map(part).concat()).expect("a later one");
        assert_eq!(known.lines.expect("lines")[0].what, "gpio-v9");
        assert_eq!(entries, [[first, last]]);
    }
}
