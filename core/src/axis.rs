//! What happens at a board → records of its job's log, on one axis of time, and those → what happened.
//!
//! They are of kinds that readers pass over when they do not know them ([`crate::record::LATER`]). The axis is the machine's
//! monotonic clock; the time in a record's header is that of its source and may be before that of the record in front of it.
//!
//! | kind | payload |
//! |---|---|
//! | 64 `Clock` | JSON: `monotonic_ns`, `boottime_ns`, `realtime_ns`, read together at the start, each minute and at the end |
//! | 65 `Edges` | 16 bytes an edge, little endian: `ns` u64 (monotonic), `sequence` u32, channel u8, level u8, two zero bytes |
//! | 66 `Loss` | JSON: `offset`, `lost` (absent where nobody can know), `why`; of the header's channel |
//! | 67 `Mark` | JSON: `what` (a word), `name`, `text`, `offsets`, `judged`, `away_ms` (of `Back`, where it was seen to go) |
//! | 68 `Sent` | JSON: `writer`, `length`, `bytes` (absent where a person typed; each byte the character of its number) |
//! | 69 `Progress` | JSON: `phase`, `done`, `of` |
//! | 70 `Case` | JSON: `name`, `result` (a word), `at`, `text` |
//! | 71 `Tick` | 8 bytes, little endian: microseconds up to which all sources have said what they had |
//! | 72 `Answer` | JSON: `writer`, `number`, `found` (absent where nothing was looked for), `why` (where it failed) |

use crate::limits::RECORD_BYTES;
use crate::ordered::Map;
use crate::record::{self, Item, LATER};
use crate::words::{Word, written_as_words};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use miniserde::{Deserialize, Serialize, json};

const CLOCK: u8 = LATER;
const EDGES: u8 = LATER + 1;
const LOSS: u8 = LATER + 2;
const MARK: u8 = LATER + 3;
const SENT: u8 = LATER + 4;
const PROGRESS: u8 = LATER + 5;
const CASE: u8 = LATER + 6;
const TICK: u8 = LATER + 7;
const ANSWER: u8 = LATER + 8;

/// Bytes of an edge.
pub const EDGE_BYTES: usize = 16;
/// Most edges of one record.
pub const EDGES_MAX: usize = RECORD_BYTES / EDGE_BYTES;
/// Most bytes that one `Sent` holds; of more, several are made. Each may take six letters in JSON.
pub const SENT_BYTES: usize = 8 * 1024;
/// Longest text in any of these, in bytes: it is one line.
pub const TEXT_BYTES: usize = 1024;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What the clocks say.
    Clock(Clock),
    /// Lines changed.
    Edges(Vec<Edge>),
    /// Something of a channel was lost.
    Loss(u8, Loss),
    /// Something was done to the board, or happened to it.
    Mark(Mark),
    /// Bytes went out on a channel.
    Sent(u8, Sent),
    /// How far something long is.
    Progress(Progress),
    /// A test case of the board has a result.
    Case(Case),
    /// A word of a person has come to its end.
    Answer(Answer),
    /// All sources have said what they had up to this moment, in microseconds since the job began.
    Tick(u64),
}

/// The clocks of the machine, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// CLOCK_MONOTONIC, which all stamps are of. It stands still while the machine sleeps.
    pub monotonic_ns: u64,
    /// CLOCK_BOOTTIME, which does not.
    pub boottime_ns: u64,
    /// CLOCK_REALTIME since 1970: what people's clocks say.
    pub realtime_ns: u64,
}

/// A line changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The line's channel.
    pub channel: u8,
    /// Its level after this.
    pub level: bool,
    /// CLOCK_MONOTONIC as the kernel stamped it, in nanoseconds.
    pub ns: u64,
    /// The kernel's running number of this line's edges, from 1; 0 where the kernel counts none.
    pub sequence: u32,
}

/// Something was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Where: bytes of the channel before, or the sequence number of the last edge before.
    pub offset: u64,
    /// How many bytes or edges; `None` where nobody can know.
    pub lost: Option<u64>,
    /// Why, in a few words for people.
    pub why: String,
}

/// What was done, or happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The board was reset.
    Reset,
    /// A sequence was played, up to its end.
    Play,
    /// A mode was reached.
    Mode,
    /// The power was switched.
    Power,
    /// A tty is gone.
    Unplugged,
    /// It is back.
    Back,
    /// The machine slept: nothing was seen in that time.
    Suspend,
    /// Bytes came that were not sent so, as their bits tell, or a break: boards do that while they are switched.
    Noise,
    /// A later version's word.
    Other(Word),
}

written_as_words!(What: Reset, Play, Mode, Power, Unplugged, Back, Suspend, Noise);

/// Something was done to the board, or happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What.
    pub what: What,
    /// The sequence, mode or console that it is about.
    pub name: Option<String>,
    /// More, for people.
    pub text: Option<String>,
    /// Bytes of each console before it, by the console's name.
    pub offsets: Option<Map<String, u64>>,
    /// Whether the board is judged by what comes from here on.
    pub judged: Option<bool>,
    /// Of a tty that is back: milliseconds for which it was gone, by the clock of all stamps. `None` where nobody saw it go, and from
    /// older agents.
    pub away_ms: Option<u64>,
}

/// Bytes went out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Who wrote them: `judge`, a tool, a person.
    pub writer: String,
    /// How many.
    pub length: u64,
    /// The bytes, each as the character of its number, unless a person typed them: there are passwords among these.
    pub bytes: Option<String>,
}

impl Sent {
    /// Bytes that somebody sent and that may be seen.
    pub fn of(writer: &str, bytes: &[u8]) -> Self {
        let text = bytes.iter().copied().map(char::from).collect();
        Sent { writer: writer.to_string(), length: bytes.len() as u64, bytes: Some(text) }
    }

    /// The bytes, where they are told.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let letters = self.bytes.as_ref()?.chars();
        letters.map(|letter| u8::try_from(u32::from(letter)).ok()).collect()
    }
}

/// How far something long is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is done: `erase`, `write`, `verify`.
    pub phase: String,
    /// How much of it.
    pub done: u64,
    /// Of how much; 0 where that is not known.
    pub of: u64,
}

/// How a test case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaseResult {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed,
    /// It was not run, or what it found is not to count.
    Skipped,
    /// A later version's word.
    Other(Word),
}

written_as_words!(CaseResult: Passed, Failed, Skipped);

/// A test case of the board.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub result: CaseResult,
    /// Where it says so: bytes of its console before the end of that line.
    pub at: Option<u64>,
    /// What else it says, for people.
    pub text: Option<String>,
}

/// What became of a word of a person who has the board: see [`crate::wire::Word`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose word.
    pub writer: String,
    /// Which one.
    pub number: u64,
    /// What was found, each byte the character of its number.
    pub found: Option<String>,
    /// Why it failed.
    pub why: Option<String>,
    /// Of a flash that had begun when it failed, so that nobody knows what is on the board: whose fault that is, in a word. Absent
    /// otherwise, and from older agents.
    pub whose: Option<String>,
}

impl Entry {
    /// Appends the record, or several where it is more than one holds. Texts are cut at [`TEXT_BYTES`].
    pub fn encode(&self, micros: u64, out: &mut Vec<u8>) {
        self.encode_on(0, micros, out);
    }

    /// The same of a board whose first channel is this one in a log of several: what is on no channel is on that.
    pub fn encode_on(&self, first: u8, micros: u64, out: &mut Vec<u8>) {
        let mut put = |kind: u8, channel: u8, payload: &[u8]| {
            record::encode_later(kind, channel.saturating_add(first), payload, micros, out);
        };
        match self {
            Entry::Clock(clock) => put(CLOCK, 0, json::to_string(clock).as_bytes()),
            Entry::Edges(edges) => {
                for edges in edges.chunks(EDGES_MAX) {
                    let mut payload = Vec::with_capacity(edges.len() * EDGE_BYTES);
                    for edge in edges {
                        payload.extend_from_slice(&edge.ns.to_le_bytes());
                        payload.extend_from_slice(&edge.sequence.to_le_bytes());
                        payload.extend_from_slice(&[edge.channel.saturating_add(first), u8::from(edge.level), 0, 0]);
                    }
                    put(EDGES, 0, &payload);
                }
            }
            Entry::Loss(channel, loss) => {
                let loss = Loss { why: cut(&loss.why), ..loss.clone() };
                put(LOSS, *channel, json::to_string(&loss).as_bytes());
            }
            Entry::Mark(mark) => {
                let texts = (mark.name.as_deref().map(cut), mark.text.as_deref().map(cut));
                let mark = Mark { name: texts.0, text: texts.1, ..mark.clone() };
                put(MARK, 0, json::to_string(&mark).as_bytes());
            }
            Entry::Sent(channel, sent) => match sent.bytes() {
                Some(bytes) if !bytes.is_empty() => {
                    for piece in bytes.chunks(SENT_BYTES) {
                        let sent = Sent::of(&cut(&sent.writer), piece);
                        put(SENT, *channel, json::to_string(&sent).as_bytes());
                    }
                }
                bytes => {
                    let text = bytes.map(|_| String::new());
                    let sent = Sent { writer: cut(&sent.writer), length: sent.length, bytes: text };
                    put(SENT, *channel, json::to_string(&sent).as_bytes());
                }
            },
            Entry::Progress(progress) => {
                let progress = Progress { phase: cut(&progress.phase), ..progress.clone() };
                put(PROGRESS, 0, json::to_string(&progress).as_bytes());
            }
            Entry::Case(case) => {
                let case = Case { name: cut(&case.name), text: case.text.as_deref().map(cut), ..case.clone() };
                put(CASE, 0, json::to_string(&case).as_bytes());
            }
            Entry::Answer(answer) => {
                let texts = (answer.found.as_deref().map(cut), answer.why.as_deref().map(cut));
                let answer = Answer { found: texts.0, why: texts.1, ..answer.clone() };
                put(ANSWER, 0, json::to_string(&answer).as_bytes());
            }
            Entry::Tick(up_to) => put(TICK, 0, &up_to.to_le_bytes()),
        }
    }

    /// The same on other channels.
    pub fn on(self, channel: impl Fn(u8) -> u8) -> Entry {
        match self {
            Entry::Edges(edges) => {
                let moved = edges.into_iter().map(|edge| Edge { channel: channel(edge.channel), ..edge });
                Entry::Edges(moved.collect())
            }
            Entry::Loss(of, loss) => Entry::Loss(channel(of), loss),
            Entry::Sent(of, sent) => Entry::Sent(channel(of), sent),
            other => other,
        }
    }

    /// The entry that an item of a log is, if it is one.
    pub fn of(item: &Item<'_>) -> Option<Entry> {
        match item {
            Item::Later { kind, channel, payload, .. } => Entry::decode(*kind, *channel, payload),
            Item::Data { .. } | Item::Record(..) => None,
        }
    }

    /// The entry in a record of a later kind, or `None` if it is of no kind that is known here, or malformed: such a record
    /// means nothing, and is passed over as those of other versions are.
    pub fn decode(kind: u8, channel: u8, payload: &[u8]) -> Option<Entry> {
        let text = || core::str::from_utf8(payload).ok();
        Some(match kind {
            CLOCK => Entry::Clock(json::from_str(text()?).ok()?),
            EDGES => {
                let (edges, rest) = payload.as_chunks::<EDGE_BYTES>();
                if !rest.is_empty() {
                    return None;
                }
                let edge = |bytes: &[u8; EDGE_BYTES]| {
                    let [a, b, c, d, e, f, g, h, i, j, k, l, channel, level, ..] = *bytes;
                    Edge {
                        channel,
                        level: level != 0,
                        ns: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                        sequence: u32::from_le_bytes([i, j, k, l]),
                    }
                };
                Entry::Edges(edges.iter().map(edge).collect())
            }
            LOSS => Entry::Loss(channel, json::from_str(text()?).ok()?),
            MARK => Entry::Mark(json::from_str(text()?).ok()?),
            SENT => {
                let sent: Sent = json::from_str(text()?).ok()?;
                let told = sent.bytes.is_some();
                let bytes = sent.bytes();
                // A text that is none of bytes would count for what it is not.
                if told && bytes.is_none_or(|bytes| bytes.len() as u64 != sent.length) {
                    return None;
                }
                Entry::Sent(channel, sent)
            }
            PROGRESS => Entry::Progress(json::from_str(text()?).ok()?),
            CASE => Entry::Case(json::from_str(text()?).ok()?),
            ANSWER => Entry::Answer(json::from_str(text()?).ok()?),
            TICK => Entry::Tick(u64::from_le_bytes(payload.try_into().ok()?)),
            _ => return None,
        })
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}
