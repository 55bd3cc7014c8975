//! Record → bytes of a job's log, and those bytes, cut anywhere, → records again.
//!
//! A log is records end to end: a 16-byte header (kind `u8`, channel `u8`, two zero bytes, payload length `u32` little
//! endian, microseconds since the job began `u64` little endian) and the payload. What the job printed is `Data`; the
//! other kinds carry a small JSON text. The offset of a byte in this stream is its sequence number everywhere.
//!
//! A log outlives the versions that wrote it: kinds from [`LATER`] on may come with any version, hold whatever they like,
//! and are passed over by who does not know them. Below it a new kind would be a new format, which older readers refuse.

use crate::job::Verdict;
use crate::limits::{CHANNELS, RECORD_BYTES, STREAMS};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use miniserde::{Deserialize, Serialize, json};

/// Bytes of a record's header.
pub const HEADER_BYTES: usize = 16;

/// The first of the kinds that a reader passes over when it does not know them.
pub const LATER: u8 = 64;

const CHANNEL: u8 = 1;
const DATA: u8 = 2;
const STEP_START: u8 = 3;
const STEP_END: u8 = 4;
const ARTIFACT: u8 = 5;
const NOTE: u8 = 6;
const VERDICT: u8 = 7;

/// Announces a channel before its first byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStart {
    /// `stdout`, `stderr`, later `serial:NAME` or `line:NAME`.
    pub name: String,
}

/// A step begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStart {
    /// Index of the step, from 0.
    pub step: u32,
    /// What is run, as the spec has it (after substitution).
    pub text: String,
}

/// A step has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnd {
    /// Index of the step, from 0.
    pub step: u32,
    /// Exit status; 128 + signal number when a signal ended it.
    pub status: i32,
}

/// A file that matched the artifacts globs, complete on the agent's disk, follows as a stream of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its stream number, from 1.
    pub stream: u16,
    /// Path relative to the workspace, `/` between the parts, never `..`.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, 64 hex digits.
    pub sha256: String,
    /// Whether the file may be executed.
    pub executable: bool,
}

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Announces channel `channel`.
    Channel(u8, ChannelStart),
    /// Bytes printed on an announced channel.
    Data(u8, Vec<u8>),
    /// A step begins.
    StepStart(StepStart),
    /// A step has ended.
    StepEnd(StepEnd),
    /// A file to keep.
    Artifact(Artifact),
    /// A line of Sai's own about this job ("log limit reached", "fetching …").
    Note(String),
    /// The end. Nothing follows it.
    Verdict(Verdict),
}

/// Appends a record to `out`. A payload over `RECORD_BYTES` is the caller's error for `Data` (it cuts); the texts of the
/// other kinds are cut here at a character boundary, since losing the tail of a long command line loses no output.
pub fn encode(record: &Record, micros: u64, out: &mut Vec<u8>) {
    let cut = |text: &str| {
        let mut end = text.len().min(RECORD_BYTES / 8);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].to_string()
    };
    let (kind, channel, payload) = match record {
        Record::Data(channel, bytes) => {
            encode_data(*channel, bytes, micros, out);
            return;
        }
        Record::Channel(channel, start) => (CHANNEL, *channel, json::to_string(start)),
        Record::StepStart(start) => {
            let start = StepStart { step: start.step, text: cut(&start.text) };
            (STEP_START, 0, json::to_string(&start))
        }
        Record::StepEnd(end) => (STEP_END, 0, json::to_string(end)),
        Record::Artifact(artifact) => (ARTIFACT, 0, json::to_string(artifact)),
        Record::Note(text) => (NOTE, 0, cut(text)),
        Record::Verdict(verdict) => {
            let verdict = Verdict { cause: cut(&verdict.cause), ..verdict.clone() };
            (VERDICT, 0, json::to_string(&verdict))
        }
    };
    header(kind, channel, payload.len(), micros, out);
    out.extend_from_slice(payload.as_bytes());
}

/// Appends a `Data` record without building a `Record` first: the hot path of a job that prints much.
/// `bytes` is at most `RECORD_BYTES` long.
pub fn encode_data(channel: u8, bytes: &[u8], micros: u64, out: &mut Vec<u8>) {
    debug_assert!(bytes.len() <= RECORD_BYTES);
    header(DATA, channel, bytes.len(), micros, out);
    out.extend_from_slice(bytes);
}

/// Appends a record of a kind from [`LATER`] on. `payload` is at most `RECORD_BYTES` long.
pub(crate) fn encode_later(kind: u8, channel: u8, payload: &[u8], micros: u64, out: &mut Vec<u8>) {
    debug_assert!(kind >= LATER && payload.len() <= RECORD_BYTES);
    header(kind, channel, payload.len(), micros, out);
    out.extend_from_slice(payload);
}

fn header(kind: u8, channel: u8, length: usize, micros: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&[kind, channel, 0, 0]);
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&micros.to_le_bytes());
}

/// What the decoder sees: output in pieces as they come, everything else whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Bytes printed on a channel; one record may come in several pieces.
    Data {
        /// The channel.
        channel: u8,
        /// Microseconds since the job began.
        micros: u64,
        /// The bytes of this piece.
        bytes: &'a [u8],
    },
    /// Any other record, with its time in microseconds since the job began.
    Record(u64, Record),
    /// A record that is passed over by who does not know its kind. What is on the axis of a board is read by
    /// [`crate::axis::Entry::decode`].
    Later {
        /// Its kind, from [`LATER`].
        kind: u8,
        /// The channel in its header.
        channel: u8,
        /// Microseconds since the job began.
        micros: u64,
        /// Its payload, whole.
        payload: &'a [u8],
    },
}

/// Folds a log's bytes, in pieces of any size, into items. Memory is bounded by `RECORD_BYTES`.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    head: Vec<u8>,
    payload: Vec<u8>,
    remaining: usize,
    announced: Vec<bool>,
    artifacts: u16,
    ended: bool,
}

impl Decoder {
    /// A decoder at the first byte of a log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and calls `item` for each item in them.
    ///
    /// # Errors
    /// What is wrong with the log, in one sentence: it is the sending agent's fault. The decoder is of no use after it.
    pub fn push(&mut self, mut bytes: &[u8], mut item: impl FnMut(Item<'_>)) -> Result<(), String> {
        loop {
            if self.remaining == 0 {
                if bytes.is_empty() {
                    return Ok(());
                }
                if self.ended {
                    return Err("bytes after the verdict".to_string());
                }
                let take = (HEADER_BYTES - self.head.len()).min(bytes.len());
                self.head.extend_from_slice(&bytes[..take]);
                bytes = &bytes[take..];
                if self.head.len() < HEADER_BYTES {
                    return Ok(());
                }
                self.remaining = self.check_header()?;
            }
            let kind = self.head[0];
            let take = self.remaining.min(bytes.len());
            let (piece, rest) = bytes.split_at(take);
            bytes = rest;
            self.remaining -= take;
            if kind == DATA {
                if !piece.is_empty() {
                    item(Item::Data { channel: self.head[1], micros: self.micros(), bytes: piece });
                }
            } else {
                self.payload.extend_from_slice(piece);
            }
            if self.remaining > 0 {
                return Ok(());
            }
            if kind >= LATER {
                item(Item::Later { kind, channel: self.head[1], micros: self.micros(), payload: &self.payload });
            } else if kind != DATA {
                let record = self.record()?;
                item(Item::Record(self.micros(), record));
            }
            self.head.clear();
            self.payload.clear();
        }
    }

    fn micros(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.head[8..16]);
        u64::from_le_bytes(bytes)
    }

    fn check_header(&self) -> Result<usize, String> {
        let (kind, channel) = (self.head[0], usize::from(self.head[1]));
        let length = u32::from_le_bytes([self.head[4], self.head[5], self.head[6], self.head[7]]) as usize;
        // What the other bytes of a later kind's header mean is not known either; its length is where it always is.
        if !may_be(kind) || (kind < LATER && (self.head[2] != 0 || self.head[3] != 0)) {
            return Err(format!("a record of unknown kind {kind}"));
        }
        if length > RECORD_BYTES {
            return Err(format!("a record of {length} bytes, more than {RECORD_BYTES}"));
        }
        if kind == DATA && !self.announced.get(channel).copied().unwrap_or(false) {
            return Err(format!("output on channel {channel}, which was not announced"));
        }
        // A kind whose payload is JSON cannot be empty, so a zero length there is caught by the parser below; an empty
        // data record or note is allowed and means nothing.
        Ok(length)
    }

    fn record(&mut self) -> Result<Record, String> {
        let channel = self.head[1];
        let text = core::str::from_utf8(&self.payload).map_err(|_| "a record that is not UTF-8".to_string())?;
        let bad = |what: &str| format!("a malformed {what} record");
        Ok(match self.head[0] {
            CHANNEL => {
                let start = json::from_str(text).map_err(|_| bad("channel"))?;
                let index = usize::from(channel);
                if index >= CHANNELS {
                    return Err(format!("channel {index}, of at most {CHANNELS}"));
                }
                if self.announced.len() <= index {
                    self.announced.resize(index + 1, false);
                }
                self.announced[index] = true;
                Record::Channel(channel, start)
            }
            STEP_START => Record::StepStart(json::from_str(text).map_err(|_| bad("step start"))?),
            STEP_END => Record::StepEnd(json::from_str(text).map_err(|_| bad("step end"))?),
            ARTIFACT => {
                let artifact: Artifact = json::from_str(text).map_err(|_| bad("artifact"))?;
                if artifact.stream != self.artifacts + 1 || usize::from(artifact.stream) >= STREAMS {
                    return Err(format!("artifact stream {} after {}", artifact.stream, self.artifacts));
                }
                check_path(&artifact.path)?;
                if artifact.sha256.len() != 64 || !artifact.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return Err(bad("artifact"));
                }
                self.artifacts = artifact.stream;
                Record::Artifact(artifact)
            }
            NOTE => Record::Note(text.to_string()),
            _ => {
                self.ended = true;
                Record::Verdict(json::from_str(text).map_err(|_| bad("verdict"))?)
            }
        })
    }
}

/// Whether a log that this version writes or carries may have records of this kind.
pub fn may_be(kind: u8) -> bool {
    (CHANNEL..=VERDICT).contains(&kind) || kind >= LATER
}

/// Checks a path that an agent reports: relative, no empty, `.` or `..` parts, no control characters, 1 to 1024 bytes.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), String> {
    let bad = path.is_empty()
        || path.len() > 1024
        || path.chars().any(char::is_control)
        || path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if bad { Err(format!("{path:?} is no relative path")) } else { Ok(()) }
}
