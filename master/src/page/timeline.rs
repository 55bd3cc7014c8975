//! A log's records → JSON with all that happened, on one axis of time: what programs draw or look through.
//!
//! `{"job":…,"attempt":…,"clock":…,"entries":[…]}`, with how far the clock of its agent is ahead of the master's, where that is known; an entry has `us`, microseconds since the job began as its source stamped it (of different
//! sources they may step back), `kind`, `channel` where it is about one, and the keys of its record. Of output it says which bytes of
//! its channel came, from which offset on.

use super::made::Maker;
use miniserde::{Serialize, json};
use sai_core::axis::{Edge, Entry};
use sai_core::job::JobKey;
use sai_core::offset::Offset;
use sai_core::ordered::Map;
use sai_core::record::{Item, Record};
use std::fmt::Write as _;

/// Output of a channel at one moment, whatever the pieces it comes in.
struct Output {
    channel: u8,
    micros: u64,
    offset: u64,
    length: u64,
}

/// Makes it.
pub struct Timeline {
    names: Map<u8, String>,
    /// Bytes of each channel so far.
    offsets: Map<u8, u64>,
    output: Option<Output>,
    first: bool,
}

#[derive(Serialize)]
struct EdgeEntry {
    ns: u64,
    level: u8,
    sequence: u32,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct OutputEntry {
    offset: u64,
    length: u64,
}

#[derive(Serialize)]
struct Other {
    number: u8,
    length: u64,
}

#[derive(Serialize)]
struct TickEntry {
    up_to: u64,
}

impl Timeline {
    /// What comes before the entries, and who makes these.
    pub fn new(key: JobKey, clock: Option<Offset>) -> (Vec<u8>, Self) {
        let clock = clock.map(|clock| format!("\"clock\":{},", json::to_string(&clock))).unwrap_or_default();
        let head = format!("{{\"job\":{},\"attempt\":{},{clock}\"entries\":[", key.job, key.attempt);
        (head.into_bytes(), Self { names: Map::new(), offsets: Map::new(), output: None, first: true })
    }

    /// Appends an entry; `keys` are written as an object.
    fn entry(&mut self, micros: u64, kind: &str, channel: Option<u8>, keys: &impl Serialize, out: &mut Vec<u8>) {
        let mut text = String::from(if self.first { "\n" } else { ",\n" });
        self.first = false;
        let _ = write!(text, "{{\"us\":{micros},\"kind\":\"{kind}\"");
        if let Some(channel) = channel {
            let name = self.names.get(&channel).cloned().unwrap_or_else(|| channel.to_string());
            let _ = write!(text, ",\"channel\":{}", json::to_string(&name));
        }
        let keys = json::to_string(keys);
        if let Some(rest) = keys.strip_prefix('{').filter(|rest| *rest != "}") {
            text.push(',');
            text.push_str(rest);
        } else {
            text.push('}');
        }
        out.extend_from_slice(text.as_bytes());
    }

    /// Writes down the output that is known to be over.
    fn flush(&mut self, out: &mut Vec<u8>) {
        if let Some(Output { channel, micros, offset, length }) = self.output.take() {
            self.entry(micros, "bytes", Some(channel), &OutputEntry { offset, length }, out);
        }
    }

    fn happened(&mut self, micros: u64, entry: &Entry, out: &mut Vec<u8>) {
        match entry {
            Entry::Clock(clock) => self.entry(micros, "clock", None, clock, out),
            Entry::Edges(edges) => {
                for Edge { channel, level, ns, sequence } in edges.iter().copied() {
                    let keys = EdgeEntry { ns, level: u8::from(level), sequence };
                    self.entry(micros, "edge", Some(channel), &keys, out);
                }
            }
            Entry::Loss(channel, loss) => self.entry(micros, "loss", Some(*channel), loss, out),
            Entry::Mark(mark) => self.entry(micros, "mark", None, mark, out),
            Entry::Sent(channel, sent) => self.entry(micros, "sent", Some(*channel), sent, out),
            Entry::Progress(progress) => self.entry(micros, "progress", None, progress, out),
            Entry::Case(case) => self.entry(micros, "case", None, case, out),
            Entry::Answer(answer) => self.entry(micros, "answer", None, answer, out),
            Entry::Tick(up_to) => self.entry(micros, "tick", None, &TickEntry { up_to: *up_to }, out),
        }
    }
}

impl Maker for Timeline {
    fn take(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        if let Item::Data { channel, micros, bytes } = item {
            let offset = self.offsets.get_or_default(*channel);
            let (before, length) = (*offset, bytes.len() as u64);
            *offset += length;
            match &mut self.output {
                Some(open) if (open.channel, open.micros) == (*channel, *micros) => open.length += length,
                _ => {
                    self.flush(out);
                    self.output = Some(Output { channel: *channel, micros: *micros, offset: before, length });
                }
            }
            return;
        }
        self.flush(out);
        match item {
            Item::Record(micros, record) => match record {
                Record::Channel(channel, start) => {
                    self.names.insert(*channel, start.name.clone());
                    self.entry(*micros, "channel", Some(*channel), start, out);
                }
                Record::StepStart(start) => self.entry(*micros, "step-start", None, start, out),
                Record::StepEnd(end) => self.entry(*micros, "step-end", None, end, out),
                Record::Artifact(artifact) => self.entry(*micros, "artifact", None, artifact, out),
                Record::Note(text) => self.entry(*micros, "note", None, &Text { text }, out),
                Record::Verdict(verdict) => self.entry(*micros, "verdict", None, verdict, out),
                Record::Data(..) => {}
            },
            Item::Later { kind, channel, micros, payload } => match Entry::decode(*kind, *channel, payload) {
                Some(entry) => self.happened(*micros, &entry, out),
                None => {
                    let keys = Other { number: *kind, length: payload.len() as u64 };
                    self.entry(*micros, "other", None, &keys, out);
                }
            },
            Item::Data { .. } => {}
        }
    }

    fn finish(&mut self, damage: Option<&str>, out: &mut Vec<u8>) {
        self.flush(out);
        if let Some(text) = damage {
            self.entry(0, "damage", None, &Text { text }, out);
        }
        out.extend_from_slice(b"\n]}\n");
    }
}
