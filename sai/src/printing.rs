//! Bytes of a stored log, cut anywhere → what a person reads of it, the bytes that were printed alone, or lines of JSON.

use crate::telling::plain;
use miniserde::{Serialize, json};
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};

/// What is wanted of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// What was printed, and where its steps begin.
    People,
    /// What was printed, byte for byte.
    Raw,
    /// An object for each thing that happened.
    Json,
}

/// One thing that happened, for programs: what is not said is absent.
#[derive(Default, Serialize)]
struct Line<'a> {
    /// `output`, `step`, `step-end`, `artifact`, `note`.
    what: &'a str,
    /// Since the job began.
    micros: u64,
    channel: Option<&'a str>,
    /// Each byte the character of its number.
    bytes: Option<String>,
    step: Option<u32>,
    status: Option<i32>,
    text: Option<&'a str>,
    path: Option<&'a str>,
    size: Option<u64>,
    sha256: Option<&'a str>,
}

/// Prints one attempt's log.
pub struct Printer {
    form: Form,
    coloured: bool,
    decoder: Decoder,
    channels: Map<u8, String>,
    /// Whether the last byte that was printed ended a line.
    at_start: bool,
}

impl Printer {
    /// One at the first byte of a log.
    pub fn new(form: Form, coloured: bool) -> Self {
        Self { form, coloured, decoder: Decoder::new(), channels: Map::new(), at_start: true }
    }

    /// Takes the next bytes, and appends what is to be printed.
    ///
    /// # Errors
    /// The log is damaged, in a sentence.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let Self { form, coloured, decoder, channels, at_start } = self;
        decoder.push(bytes, |item| match (&item, *form) {
            (Item::Data { bytes, .. }, Form::Raw | Form::People) => {
                out.extend_from_slice(bytes);
                *at_start = bytes.ends_with(b"\n");
            }
            (Item::Record(_, Record::Channel(channel, start)), _) => {
                channels.insert(*channel, start.name.clone());
            }
            (_, Form::Json) => {
                if let Some(line) = line(&item, channels) {
                    out.extend_from_slice(line.as_bytes());
                }
            }
            (Item::Record(_, record), Form::People) => {
                if let Some(text) = sentence(record) {
                    out.extend_from_slice(if *at_start { b"" } else { b"\n" });
                    *at_start = true;
                    let text = plain(&text);
                    let text = if *coloured { format!("\x1b[1m{text}\x1b[0m\n") } else { format!("{text}\n") };
                    out.extend_from_slice(text.as_bytes());
                }
            }
            _ => {}
        })
    }

    /// What is still to be printed before anything that is not of the log.
    pub fn close(&mut self) -> &'static str {
        if std::mem::replace(&mut self.at_start, true) || self.form != Form::People { "" } else { "\n" }
    }
}

fn sentence(record: &Record) -> Option<String> {
    Some(match record {
        Record::StepStart(start) => {
            format!("── step {}: {}", start.step + 1, start.text.lines().next().unwrap_or_default())
        }
        Record::StepEnd(end) if end.status != 0 => {
            format!("── step {} ended with status {}", end.step + 1, end.status)
        }
        Record::Note(text) => format!("── {text}"),
        _ => return None,
    })
}

fn line(item: &Item<'_>, channels: &Map<u8, String>) -> Option<String> {
    let line = match item {
        Item::Data { channel, micros, bytes } => Line {
            what: "output",
            micros: *micros,
            channel: channels.get(channel).map(String::as_str),
            bytes: Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
            ..Line::default()
        },
        Item::Record(micros, Record::StepStart(start)) => {
            Line { what: "step", micros: *micros, step: Some(start.step), text: Some(&start.text), ..Line::default() }
        }
        Item::Record(micros, Record::StepEnd(end)) => Line {
            what: "step-end",
            micros: *micros,
            step: Some(end.step),
            status: Some(end.status),
            ..Line::default()
        },
        Item::Record(micros, Record::Artifact(artifact)) => Line {
            what: "artifact",
            micros: *micros,
            path: Some(&artifact.path),
            size: Some(artifact.size),
            sha256: Some(&artifact.sha256),
            ..Line::default()
        },
        Item::Record(micros, Record::Note(text)) => {
            Line { what: "note", micros: *micros, text: Some(text), ..Line::default() }
        }
        _ => return None,
    };
    Some(json::to_string(&line) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::record::{ChannelStart, StepEnd, StepStart, encode};

    /// All that a form makes of a log that comes in pieces of this size.
    fn printed(form: Form, size: usize) -> String {
        let mut log = Vec::new();
        for record in [
            Record::Channel(1, ChannelStart { name: "stdout".to_owned() }),
            Record::StepStart(StepStart { step: 0, text: "make\nand more \u{1b}[2J".to_owned() }),
            Record::Data(1, b"one\ntw".to_vec()),
            Record::Data(1, b"o \xff\x1b[1m".to_vec()),
            Record::StepEnd(StepEnd { step: 0, status: 2 }),
            Record::Note("a \u{1b} note".to_owned()),
        ] {
            encode(&record, 7, &mut log);
        }
        let (mut printer, mut out) = (Printer::new(form, false), Vec::new());
        for piece in log.chunks(size) {
            printer.push(piece, &mut out).unwrap();
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn each_form_is_the_same_however_a_log_is_cut() {
        for form in [Form::People, Form::Raw] {
            assert_eq!(printed(form, 1), printed(form, 1 << 20));
        }
        assert_eq!(printed(Form::Raw, 5), "one\ntwo \u{fffd}\u{1b}[1m");
        let people = "── step 1: make\none\ntwo \u{fffd}\u{1b}[1m\n── step 1 ended with status 2\n── a \\u{1b} note\n";
        assert_eq!(printed(Form::People, 9), people);
        let json = printed(Form::Json, 1 << 20);
        assert_eq!(json.lines().count(), 5, "{json}");
        assert!(
            json.lines().nth(1).is_some_and(|line| line.contains("\"channel\":\"stdout\",\"bytes\":\"one\\ntw\"")),
            "{json}"
        );
    }

    #[test]
    fn a_log_that_is_none_is_told() {
        assert!(Printer::new(Form::Raw, false).push(&[9; 64], &mut Vec::new()).is_err());
    }
}
