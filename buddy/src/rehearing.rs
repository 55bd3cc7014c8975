//! The log of a board that was tried → the verdict that its records have, by the same rules or others, without a board.

use sai_core::axis::Entry;
use sai_core::job::{Fault, Verdict};
use sai_core::judge::{Input, Judge, Output};
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use sai_core::trial::Trial;
use sai_core::trying::{self, Found, Written};
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
    tell: &mut dyn FnMut(&Written),
) -> io::Result<Found> {
    let wrong = |text: String| io::Error::new(ErrorKind::InvalidData, text);
    let judge =
        Judge::new(trial, first_console, values).map_err(|expected| wrong(format!("identity: expected {expected}")))?;
    let mut hearing = Hearing { judge, out: Vec::new(), step: 0, recorded: None };
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut found = None;
    loop {
        let count = match log.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            hearing.judge.handle(0, Input::End, &mut hearing.out);
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        decoder.push(bytes, |item| hearing.item(&item, tell)).map_err(wrong)?;
        for output in std::mem::take(&mut hearing.out) {
            match output {
                Output::Case(case) => tell(&Written::Entry(Entry::Case(case))),
                Output::Note(note) => tell(&Written::Record(Record::Note(note))),
                Output::Verdict(judgement) => found = Some(Found::judged(judgement, hearing.step)),
                Output::Unknowable(why) => return Err(wrong(format!("cannot be known from here: {why}"))),
                Output::Send { .. } | Output::Play(_) => {}
            }
        }
        if count == 0 {
            break;
        }
    }
    match (hearing.judge.begun(), hearing.recorded) {
        (false, Some(recorded)) => Ok(of(recorded)),
        (false, None) => Err(wrong("the board was never reset, and the log has no verdict".into())),
        (true, _) => found.ok_or_else(|| wrong("it comes to no verdict".into())),
    }
}

struct Hearing {
    judge: Judge,
    out: Vec<Output>,
    /// The step that has begun last.
    step: u32,
    recorded: Option<Verdict>,
}

impl Hearing {
    fn item(&mut self, item: &Item<'_>, tell: &mut dyn FnMut(&Written)) {
        let entry = Entry::of(item);
        if let Some((micros, input)) = Input::of(item, entry.as_ref()) {
            self.judge.handle(micros, input, &mut self.out);
        }
        match (item, &entry) {
            (Item::Data { channel, bytes, .. }, _) => {
                tell(&Written::Record(Record::Data(*channel, bytes.to_vec())));
            }
            (Item::Record(_, Record::StepStart(start)), _) => self.step = start.step,
            (Item::Record(_, Record::Verdict(verdict)), _) => self.recorded = Some(verdict.clone()),
            // Cases are told by who judges.
            (_, Some(mark @ Entry::Mark(_))) => tell(&Written::Entry(mark.clone())),
            _ => {}
        }
    }
}

/// What a log says of itself.
fn of(verdict: Verdict) -> Found {
    let words = ["passed", "test-fail", "silent", "no-boot", "boot-loop", "result-lost", trying::FLASH_FAILED];
    let word = verdict.verdict.map(|found| found.word).unwrap_or_default();
    let word = words.into_iter().find(|known| *known == word).unwrap_or("infra");
    let fault = if word == "infra" { Fault::Infrastructure } else { verdict.fault };
    Found { word, fault, cause: verdict.cause, step: verdict.step.unwrap_or(0) }
}
