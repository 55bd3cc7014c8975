//! Records → lines of JSON → records: the way out of the ledger's format, and into the next one's.
//!
//! The first line is `{"kind":"sai-export",…}` with the format's version and the next numbers; each other line is one
//! record as it is kept, with its kind in front. Logs, artifacts and saifiles are plain files and are copied as such.

use super::keys::{Kind, Numbers};
use super::ledger::Ledger;
use super::{Change, Reader, StoreError, lock};
use miniserde::{Deserialize, Serialize, json};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, TipRecord, UserRecord};
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// Version of the exported form.
const FORMAT: u32 = 1;
/// Bytes of one line at most: a job with all the artifacts it may have, and then some.
const LINE_BYTES: u64 = 8 << 20;
/// Records written as one group.
const GROUP: usize = 256;

const KINDS: [(Kind, &str); 6] = [
    (Kind::Event, "event"),
    (Kind::Job, "job"),
    (Kind::Agent, "agent"),
    (Kind::User, "user"),
    (Kind::Tip, "tip"),
    (Kind::Action, "action"),
];

#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    format: u32,
    next_event: u64,
    next_job: u64,
    next_action: u64,
}

#[derive(Deserialize)]
struct Tag {
    kind: String,
}

/// Writes every record as a line of JSON and returns how many. Records committed meanwhile may be in it or not.
///
/// # Errors
/// The ledger's, or that of writing to `out`.
pub fn export(reader: &Reader, out: &mut dyn Write) -> Result<u64, StoreError> {
    let ledger = &reader.inner.ledger;
    let written = |error: io::Error| StoreError::file(Path::new("export"), "write", &error);
    let numbers = ledger.numbers();
    let head = Head {
        kind: "sai-export".to_string(),
        format: FORMAT,
        next_event: numbers.event,
        next_job: numbers.job,
        next_action: numbers.action,
    };
    writeln!(out, "{}", json::to_string(&head)).map_err(written)?;
    let mut count = 0;
    for (kind, name) in KINDS {
        ledger.each(kind, |_, record| {
            count += 1;
            let mut line = || -> io::Result<()> {
                write!(out, "{{\"kind\":\"{name}\",")?;
                // A record is a JSON object with at least one key: what follows its brace follows ours.
                out.write_all(record.get(1..).unwrap_or_default())?;
                out.write_all(b"\n")
            };
            line().map_err(written)
        })?;
    }
    out.flush().map_err(written)?;
    Ok(count)
}

/// Fills an empty or new state directory with exported records and returns how many. `name` is what messages call the
/// input. All of it is taken or, when anything is wrong, nothing.
///
/// # Errors
/// `Import` as `NAME:LINE: expected …`; `Busy`, `Format` and the disk's.
pub fn import(state: &Path, input: &mut dyn BufRead, name: &str) -> Result<u64, StoreError> {
    let _lock = lock(state)?;
    let current = Ledger::open(state)?;
    let empty = current.is_empty()?;
    current.close();
    if !empty {
        let expected = format!("an empty state directory to fill; {} holds records already", state.display());
        return Err(StoreError::Import { at: name.to_string(), expected });
    }
    drop(current);
    let fresh = Ledger::make_beside(state)?;
    match fill(&fresh, input, name) {
        Ok(count) => fresh.take_place().map(|()| count),
        Err(error) => {
            fresh.give_up();
            Err(error)
        }
    }
}

fn fill(ledger: &Ledger, input: &mut dyn BufRead, name: &str) -> Result<u64, StoreError> {
    let mut line = Vec::new();
    let mut number = 0;
    let mut numbers = None;
    let mut group = Vec::new();
    let mut count = 0;
    loop {
        line.clear();
        number += 1;
        let wrong = |expected: String| StoreError::Import { at: format!("{name}:{number}"), expected };
        let taken = input.take(LINE_BYTES + 1).read_until(b'\n', &mut line);
        let taken = taken.map_err(|error| wrong(format!("a readable file, not: {error}")))?;
        if taken as u64 > LINE_BYTES {
            return Err(wrong(format!("at most {LINE_BYTES} bytes in a line")));
        }
        if taken == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).map_err(|_| wrong("UTF-8".to_string()))?.trim_end();
        if numbers.is_none() {
            numbers = Some(head(text).map_err(wrong)?);
            continue;
        }
        group.push(record(text).map_err(wrong)?);
        count += 1;
        if group.len() >= GROUP {
            ledger.commit(&ledger.stage(&group)?, || false)?;
            group.clear();
        }
    }
    let Some(numbers) = numbers else {
        return Err(StoreError::Import { at: format!("{name}:1"), expected: HEAD.to_string() });
    };
    let mut staged = ledger.stage(&group)?;
    ledger.stage_numbers(numbers, &mut staged);
    ledger.commit(&staged, || false)?;
    Ok(count)
}

const HEAD: &str = "the first line of an export, {\"kind\":\"sai-export\",…}";

fn head(text: &str) -> Result<Numbers, String> {
    let head: Head = json::from_str(text).map_err(|_| HEAD.to_string())?;
    if head.kind != "sai-export" {
        return Err(HEAD.to_string());
    }
    if head.format != FORMAT {
        return Err(format!("format {FORMAT}, not {}", head.format));
    }
    Ok(Numbers { event: head.next_event, job: head.next_job, action: head.next_action })
}

fn record(text: &str) -> Result<Change, String> {
    fn read<T: Deserialize>(text: &str, what: &str) -> Result<T, String> {
        json::from_str(text).map_err(|_| format!("{what} record with all its keys"))
    }
    let tag: Tag = json::from_str(text).map_err(|_| "an object with a \"kind\"".to_string())?;
    Ok(match tag.kind.as_str() {
        "event" => Change::Event(read::<EventRecord>(text, "an event")?),
        "job" => Change::Job(read::<JobRecord>(text, "a job")?),
        "agent" => Change::Agent(read::<AgentRecord>(text, "an agent")?),
        "user" => Change::User(read::<UserRecord>(text, "a user")?),
        "tip" => Change::Tip(read::<TipRecord>(text, "a tip")?),
        "action" => Change::Action(read::<ActionRecord>(text, "an action")?),
        other => {
            let known = KINDS.map(|(_, name)| name).join(", ");
            return Err(format!("one of the kinds {known}, not {other:?}"));
        }
    })
}
