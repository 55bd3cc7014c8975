//! The log of a board that was tried → the verdict that its records have, by the same rules or others, without a board.

use crate::trying::{Found, Written};
use sai_core::axis::{Entry, Mark};
use sai_core::job::{Fault, Verdict};
use sai_core::judge::{Input, Judge, Output};
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use sai_core::trial::Trial;
use std::io::{self, ErrorKind, Read};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// Judges a log; what it has of cases, notes and consoles is told on the way. Where the board was never reset, its own verdict stands.
///
/// # Errors
/// It cannot be read, is none, or these rules would have sent what was not sent.
pub fn judge(
    mut log: impl Read,
    trial: Trial,
    first_console: &str,
    values: Map<String, String>,
    tell: &mut dyn FnMut(&Written<'_>),
) -> io::Result<Found> {
    let wrong = |text: String| io::Error::new(ErrorKind::InvalidData, text);
    let judge =
        Judge::new(trial, first_console, values).map_err(|expected| wrong(format!("identity: expected {expected}")))?;
    let mut hearing = Hearing { judge, out: Vec::new(), begun: false, recorded: None, last: 0 };
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut found = None;
    loop {
        let count = match log.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            hearing.judge.handle(hearing.last, Input::End, &mut hearing.out);
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        decoder.push(bytes, |item| hearing.item(&item, tell)).map_err(wrong)?;
        for output in std::mem::take(&mut hearing.out) {
            match output {
                Output::Case(case) => tell(&Written::Entry(&Entry::Case(case))),
                Output::Note(note) => tell(&Written::Record(&Record::Note(note))),
                Output::Verdict(judgement) => found = Some(Found::from(judgement)),
                Output::Unknowable(why) => return Err(wrong(format!("cannot be known from here: {why}"))),
                Output::Send { .. } | Output::Play(_) => {}
            }
        }
        if count == 0 {
            break;
        }
    }
    match (hearing.begun, hearing.recorded) {
        (false, Some(recorded)) => Ok(of(recorded)),
        (false, None) => Err(wrong("the board was never reset, and the log has no verdict".into())),
        (true, _) => found.ok_or_else(|| wrong("it comes to no verdict".into())),
    }
}

struct Hearing {
    judge: Judge,
    out: Vec<Output>,
    begun: bool,
    recorded: Option<Verdict>,
    last: u64,
}

impl Hearing {
    fn item(&mut self, item: &Item<'_>, tell: &mut dyn FnMut(&Written<'_>)) {
        match item {
            Item::Data { channel, micros, bytes } => {
                self.hear(*micros, Input::Bytes(*channel, bytes));
                tell(&Written::Data(*channel, bytes));
            }
            Item::Record(micros, Record::Channel(channel, start)) => {
                self.hear(*micros, Input::Channel(*channel, &start.name));
            }
            Item::Record(_, Record::Verdict(verdict)) => self.recorded = Some(verdict.clone()),
            Item::Record(..) => {}
            Item::Later { kind, channel, micros, payload } => {
                let Some(entry) = Entry::decode(*kind, *channel, payload) else { return };
                self.begun |= matches!(&entry, Entry::Mark(Mark { judged: Some(true), .. }));
                self.hear(*micros, Input::Entry(&entry));
                // Cases are told by who judges.
                if matches!(entry, Entry::Mark(_)) {
                    tell(&Written::Entry(&entry));
                }
            }
        }
    }

    fn hear(&mut self, micros: u64, input: Input<'_>) {
        self.last = self.last.max(micros);
        self.judge.handle(micros, input, &mut self.out);
    }
}

/// What a log says of itself.
fn of(verdict: Verdict) -> Found {
    let words = ["passed", "test-fail", "silent", "no-boot", "boot-loop", "result-lost", crate::trying::FLASH_FAILED];
    let word = verdict.verdict.map(|found| found.word).unwrap_or_default();
    let word = words.into_iter().find(|known| *known == word).unwrap_or("infra");
    let fault = if word == "infra" { Fault::Infrastructure } else { verdict.fault };
    Found { word, fault, cause: verdict.cause, step: verdict.step.unwrap_or(0) }
}
