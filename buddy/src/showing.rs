//! What a console had → text for people, or a line of JSON for programs.

use crate::frames::latin;
use miniserde::{Serialize, json};
use sai_core::console::{self, Entry, Piece};

/// One entry, as programs read it: what is not said is absent.
#[derive(Serialize)]
struct Line<'a> {
    console: &'a str,
    /// `bytes`, `lost`, `unplugged`, `back`, `sent`.
    what: &'a str,
    offset: u64,
    /// CLOCK_MONOTONIC of this machine.
    ns: u64,
    /// Each byte the character of its number.
    bytes: Option<String>,
    lost: Option<u64>,
    why: Option<&'a str>,
    tty: Option<&'a str>,
    /// Milliseconds for which a tty that is back was gone, where that was heard.
    away_ms: Option<u64>,
    writer: Option<&'a str>,
    length: Option<u64>,
}

/// An entry of a console as a line of JSON; `away_ms` is what [`console::away_ms`] has made of it.
pub fn json(console: &str, entry: &Entry, away_ms: Option<u64>) -> String {
    let mut line = Line {
        console,
        what: "",
        offset: entry.offset(),
        ns: entry.ns(),
        bytes: None,
        lost: None,
        why: None,
        tty: None,
        away_ms,
        writer: None,
        length: None,
    };
    match entry {
        Entry::Came(Piece::Bytes { bytes, .. }) => (line.what, line.bytes) = ("bytes", Some(latin(bytes))),
        Entry::Came(Piece::Lost { lost, why, .. }) => {
            (line.what, line.lost, line.why) = ("lost", *lost, Some(why.word()));
        }
        Entry::Came(Piece::Unplugged { .. }) => line.what = "unplugged",
        Entry::Came(Piece::Back { tty, .. }) => (line.what, line.tty) = ("back", Some(tty.as_str())),
        Entry::Sent { writer, length, bytes, .. } => {
            (line.what, line.writer, line.length) = ("sent", Some(writer.as_str()), Some(*length));
            line.bytes = bytes.as_deref().map(latin);
        }
    }
    json::to_string(&line) + "\n"
}

/// What people are told beside the bytes; `away_ms` is what [`console::away_ms`] has made of it.
pub fn notice(console: &str, entry: &Entry, away_ms: Option<u64>) -> Option<String> {
    let place = format!("console {console}, byte {}", entry.offset());
    match entry {
        Entry::Came(Piece::Bytes { .. }) | Entry::Sent { .. } => None,
        Entry::Came(Piece::Lost { lost: None, why, .. }) => {
            Some(format!("{place}: bytes may be missing ({})", why.word()))
        }
        Entry::Came(Piece::Lost { lost: Some(lost), why, .. }) => {
            Some(format!("{place}: {lost} {} ({})", plural(*lost), why.word()))
        }
        Entry::Came(Piece::Unplugged { .. }) => Some(format!("{place}: unplugged")),
        Entry::Came(Piece::Back { tty, .. }) => Some(format!("{place}: {}", back(tty, away_ms))),
    }
}

/// A tty is back.
fn back(tty: &str, away_ms: Option<u64>) -> String {
    let named = if tty.is_empty() { "back, " } else { "back as " };
    format!("{named}{}", console::back(tty, away_ms))
}

fn plural(lost: u64) -> &'static str {
    if lost == 1 { "byte is not as it was sent" } else { "bytes are not as they were sent" }
}

/// Whether something is missing because of it, or may be.
pub fn is_loss(entry: &Entry) -> bool {
    matches!(entry, Entry::Came(Piece::Lost { .. }))
}
