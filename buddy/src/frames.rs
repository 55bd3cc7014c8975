//! What a board's owner and its clients say to each other ↔ messages of their socket: objects of JSON, and what consoles had as bytes.

use miniserde::{Deserialize, Serialize, json};
pub use sai_core::attending::{ConsoleStatus, Status};
use sai_core::console::{Entry, Piece, Why};
use std::path::{Path, PathBuf};

/// The first byte of a message that is an entry; no object of JSON begins with it.
const ENTRY: u8 = 1;
/// Bytes before the payload of an entry: mark, kind, console, offset, moment.
const HEAD: usize = 19;
/// Bytes that are sent by one request at most.
pub const SEND_BYTES: usize = 1024;

/// In `tool-ended`, as its name: what it was for failed, so that the board's mode is not known.
pub const FAILED: &str = "failed";

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// `listen`, `claim`, `release`, `send`, `tool`, `tool-ended`, `play`, `mode`, `power`, `pulse`, `status`, `bench`, `moment`, `update`, `stop`.
    pub t: String,
    /// The console.
    pub console: Option<String>,
    /// In `listen`: bytes of the channel that it has; from now on where it is not said.
    pub from: Option<u64>,
    /// In `listen`: from the oldest that is kept.
    pub kept: Option<bool>,
    /// In `claim`: what it writes as. In `play`, `mode` and `pulse`: of what name. In `power`: `on`, `off` or `cycle`. In `tool-ended`:
    /// [`FAILED`], if so.
    pub name: Option<String>,
    /// In `claim`: that nobody reads what it sends, but how much it is.
    pub secret: Option<bool>,
    /// In `tool`: bits a second from the beginning, where they are not the console's.
    pub baud: Option<u32>,
    /// In `tool`: whether parity is even, whatever the console's is; a pty keeps none, so that no tool can say it there.
    pub even: Option<bool>,
    /// In `tool`: false where it does not speak by the console, which a board may not even have.
    pub tty: Option<bool>,
    /// In `send`: bytes, each the character of its number.
    pub text: Option<String>,
}

/// What a client is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `granted`, `refused`, `tty` (with its file), `bench` (with the text of its description as a file), `sent`, `failed`, `reached`, `set`, `status`, `moment`, `updating`, `stopping`.
    pub t: String,
    /// To what: the `t` of the request.
    pub to: Option<String>,
    /// Why not.
    pub why: Option<String>,
    /// The path of a tty.
    pub path: Option<String>,
    /// In `tty`: bytes of the channel before the first that the tool is given.
    pub offset: Option<u64>,
    /// In `set`, before a line is moved: when, CLOCK_MONOTONIC in nanoseconds. In `moment`, behind all that the consoles had which the client listens to: up to when, CLOCK_MONOTONIC in nanoseconds.
    pub ns: Option<u64>,
    /// In `sent` and `failed`: how many bytes went out.
    pub sent: Option<u64>,
    /// In the answer to `tool-ended`: bytes that the tool did not read.
    pub unread: Option<u64>,
    /// In the last answer to what moves lines: what could not be done of it, and stands in the way of nothing.
    pub note: Option<String>,
    /// In `reached`: a mode that the board has passed through, or is in.
    pub mode: Option<String>,
    /// In `status`.
    pub status: Option<Status>,
}

impl Asked {
    /// One of this kind.
    pub fn new(t: &str) -> Self {
        Asked { t: t.into(), ..Default::default() }
    }

    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        json::to_string(self).into_bytes()
    }

    /// The one in a message.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        json::from_str(std::str::from_utf8(bytes).ok()?).ok()
    }
}

impl Told {
    /// One of this kind, in answer to something.
    pub fn new(t: &str, to: &str) -> Self {
        Told { t: t.into(), to: Some(to.into()), ..Default::default() }
    }

    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        json::to_string(self).into_bytes()
    }
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// An answer.
    Told(Told),
    /// What a console had: its number in the order of the bench.
    Entry(u8, Entry),
}

impl Heard {
    /// The one in a message; what is malformed, or of a kind that is not known, is none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [ENTRY, ..] => decode(bytes).map(|(console, entry)| Heard::Entry(console, entry)),
            _ => json::from_str(std::str::from_utf8(bytes).ok()?).ok().map(Heard::Told),
        }
    }
}

/// Where the owner of a board listens, below the directory of sockets. No board has a name with a dot in it.
pub fn socket(directory: &Path, board: &str) -> PathBuf {
    directory.join(format!("{board}.board"))
}

/// Bytes as a text, each as the character of its number.
pub fn latin(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// The bytes of such a text.
pub fn of_latin(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
}

/// Why something is missing, as its number.
const WHYS: [Why; 7] = [Why::Full, Why::Overrun, Why::Frame, Why::Parity, Why::Break, Why::Away, Why::Died];

/// An entry as a message.
pub fn encode(console: u8, entry: &Entry) -> Vec<u8> {
    let (kind, payload) = match entry {
        Entry::Came(Piece::Bytes { bytes, .. }) => (0, bytes.clone()),
        Entry::Came(Piece::Lost { lost, why, .. }) => {
            let why = WHYS.iter().position(|other| other == why).unwrap_or(0);
            let mut payload = vec![why as u8, u8::from(lost.is_some())];
            payload.extend(lost.unwrap_or(0).to_le_bytes());
            (1, payload)
        }
        Entry::Came(Piece::Unplugged { .. }) => (2, Vec::new()),
        Entry::Came(Piece::Back { tty, .. }) => (3, tty.clone().into_bytes()),
        Entry::Sent { writer, length, bytes, .. } => {
            let mut payload = length.to_le_bytes().to_vec();
            payload.extend([u8::from(bytes.is_some()), writer.len().min(255) as u8]);
            payload.extend(writer.bytes().take(255));
            payload.extend(bytes.iter().flatten());
            (4, payload)
        }
    };
    let mut message = Vec::with_capacity(HEAD + payload.len());
    message.extend([ENTRY, kind, console]);
    message.extend(entry.offset().to_le_bytes());
    message.extend(entry.ns().to_le_bytes());
    message.extend(payload);
    message
}

/// The entry in a message, and the number of its console.
pub fn decode(message: &[u8]) -> Option<(u8, Entry)> {
    let (head, payload) = message.split_first_chunk::<HEAD>()?;
    let [ENTRY, kind, console, ..] = *head else { return None };
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?));
    let (offset, ns) = (number(&head[3..])?, number(&head[11..])?);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let entry = match kind {
        0 => Entry::Came(Piece::Bytes { offset, ns, bytes: payload.to_vec() }),
        1 => {
            let (why, known) = (*payload.first()?, *payload.get(1)?);
            let lost = number(&payload[2..])?;
            Entry::Came(Piece::Lost {
                offset,
                ns,
                lost: (known != 0).then_some(lost),
                why: *WHYS.get(usize::from(why))?,
            })
        }
        2 => Entry::Came(Piece::Unplugged { offset, ns }),
        3 => Entry::Came(Piece::Back { offset, ns, tty: text(payload)? }),
        4 => {
            let (shown, letters) = (*payload.get(8)?, usize::from(*payload.get(9)?));
            let (writer, bytes) = payload[10..].split_at_checked(letters)?;
            let length = number(payload)?;
            Entry::Sent { offset, ns, writer: text(writer)?, length, bytes: (shown != 0).then(|| bytes.to_vec()) }
        }
        _ => return None,
    };
    Some((console, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_out_as_they_went_in_and_a_cut_one_is_none() {
        let (offset, ns) = (u64::MAX - 1, 3);
        let sent = |bytes| Entry::Sent { offset, ns, writer: "judge".into(), length: 3, bytes };
        let entries = [
            Entry::Came(Piece::Bytes { offset, ns, bytes: (0..=255).collect() }),
            Entry::Came(Piece::Lost { offset, ns, lost: Some(7), why: Why::Full }),
            Entry::Came(Piece::Lost { offset, ns, lost: None, why: Why::Away }),
            Entry::Came(Piece::Unplugged { offset, ns }),
            Entry::Came(Piece::Back { offset, ns, tty: "/dev/ttyUSB1".into() }),
            sent(Some(b"abc".to_vec())),
            sent(None),
        ];
        for entry in entries {
            let message = encode(5, &entry);
            assert_eq!(Heard::decode(&message), Some(Heard::Entry(5, entry.clone())));
            // Whatever is missing or changed, it never fails otherwise.
            for length in 0..message.len() {
                let _ = Heard::decode(&message[..length]);
                let mut changed = message.clone();
                changed[length] ^= 0xff;
                let _ = Heard::decode(&changed);
            }
            assert_eq!(decode(&message[..HEAD - 1]), None);
        }
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(of_latin(&latin(&all)), Some(all));
        assert_eq!(of_latin("€"), None);
    }
}
