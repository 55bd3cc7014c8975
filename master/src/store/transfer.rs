//! Records → lines of JSON → records: the way out of one state directory and into another.
//!
//! The first line is `{"kind":"sai-export",…}` with the format's version and the next numbers; each other line is one
//! record as it is kept, with its kind in front; the last one counts them, so that an export that was cut is never taken
//! for whole. Logs, artifacts and saifiles are plain files and are copied as such.

use super::index::{Index, Opened};
use super::journal::LINE_BYTES;
use super::keys::{Effect, Kind, RECORDS, effect, text, with_kind};
use super::lost;
use super::recover::{Pieces, Plan, found};
use super::{State, StoreError, format, lock};
use miniserde::{Deserialize, Serialize, json};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, TipRecord, UserRecord};
use sai_core::numbers::Numbers;
use sai_core::ordered::Map;
use std::io::{self, BufRead, Read, Write};
use std::path::Path;

/// Version of the exported form.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    format: u32,
    next_event: u64,
    next_job: u64,
    next_action: u64,
}

#[derive(Serialize, Deserialize)]
struct End {
    kind: String,
    records: u64,
}

#[derive(Deserialize)]
struct Tag {
    kind: String,
}

/// What was exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records written.
    pub records: u64,
    /// What there is to say, in sentences.
    pub told: Vec<String>,
    /// Whether some could not be read any more.
    pub lost: bool,
}

/// Writes every record under `state` as a line of JSON. Nothing there is moved, removed or mended. With `salvage` what can
/// still be read of a damaged ledger is written; without it only a whole one is.
///
/// # Errors
/// `Damaged`, `Busy`, `Missing`, `Format`, the disk's, or that of writing to `out`.
pub fn export(state: &Path, salvage: bool, out: &mut dyn Write) -> Result<Exported, StoreError> {
    let _lock = lock(state)?;
    let missing = |what| StoreError::Missing { state: state.to_path_buf(), what };
    let kept = format(state)?;
    let mut exported = Exported::default();
    let mut records: Map<(usize, Vec<u8>), String> = Map::new();
    let mut numbers = lost::numbers(state).map_err(|error| StoreError::file(state, "list", &error))?;
    let mut take = |text: &str| {
        match effect(text) {
            // It tells of this state directory, and what is moved away in it.
            Effect::Put(Kind::Damage, _) => {}
            Effect::Put(kind, key) => {
                records.insert((kind as usize, key), text.to_string());
            }
            Effect::Delete(keys) => {
                for (kind, key) in keys {
                    records.remove(&(kind as usize, key));
                }
            }
        }
        Ok(())
    };
    match kept {
        State::New => return Err(missing("there is no ledger")),
        State::Old => {
            let index = Index::open_old(state)?;
            numbers.at_least(index.mark().numbers);
            for kind in RECORDS {
                index.each(kind, |key, record| take(&with_kind(kind, text(kind, key, record)?)))?;
            }
            index.close();
        }
        State::Current => {
            let pieces = Pieces::survey(state)?;
            if pieces.is_empty() && !salvage {
                return Err(missing("its journal is gone"));
            }
            let index = match Index::open(state) {
                Ok(Opened::Good(index) | Opened::Wasteful(index)) if pieces.made(index.mark()) => Some(index),
                _ => None,
            };
            if let Some(index) = &index {
                numbers.at_least(index.mark().numbers);
            }
            let mut plan = Plan::make(&pieces, index.as_ref().map(|index| index.mark().line));
            if plan.lost() && !salvage {
                return Err(StoreError::Damaged { state: state.to_path_buf(), told: plan.told.join("; ") });
            }
            plan.records(&pieces, index.as_ref(), &mut take)?;
            exported.lost = plan.lost();
            exported.told.append(&mut plan.told);
            numbers.at_least(pieces.numbers());
            if let Some(index) = index {
                index.close();
            }
        }
    }
    for (kind, key) in records.keys() {
        let Some(number) = super::keys::number(key) else { continue };
        match *kind {
            kind if kind == Kind::Event as usize => numbers.saw_event(number, 0, 0),
            kind if kind == Kind::Job as usize => numbers.saw_job(number),
            kind if kind == Kind::Action as usize => numbers.saw_action(number),
            _ => {}
        }
    }
    exported.records = records.len() as u64;
    let head = Head {
        kind: "sai-export".to_string(),
        format: FORMAT,
        next_event: numbers.event,
        next_job: numbers.job,
        next_action: numbers.action,
    };
    let end = End { kind: "sai-export-end".to_string(), records: exported.records };
    let mut write = || -> io::Result<()> {
        writeln!(out, "{}", json::to_string(&head))?;
        for record in records.values() {
            writeln!(out, "{record}")?;
        }
        writeln!(out, "{}", json::to_string(&end))?;
        out.flush()
    };
    write().map_err(|error| StoreError::file(Path::new("export"), "write", &error))?;
    Ok(exported)
}

/// Fills an empty or new state directory with exported records and returns how many. `name` is what messages call the
/// input. All of it is taken or, when anything is wrong, nothing. Kinds that this version does not know are kept.
///
/// # Errors
/// `Import` as `NAME:LINE: expected …`; `Busy`, `Format` and the disk's.
pub fn import(state: &Path, input: &mut dyn BufRead, name: &str) -> Result<u64, StoreError> {
    let _lock = lock(state)?;
    let expected = format!("an empty state directory to fill; {} holds records already", state.display());
    let occupied = StoreError::Import { at: name.to_string(), expected };
    let mut used = lost::numbers(state).map_err(|error| StoreError::file(state, "list", &error))?;
    match format(state)? {
        State::New => {}
        State::Old => return Err(occupied),
        State::Current => {
            let pieces = Pieces::survey(state)?;
            used.at_least(pieces.numbers());
            let plan = Plan::make(&pieces, None);
            let mut empty = !pieces.is_empty() && !plan.lost();
            plan.records(&pieces, None, &mut |_| {
                empty = false;
                Ok(())
            })?;
            if !empty {
                return Err(occupied);
            }
            Index::forget(state)?;
        }
    }
    let mut input = Lines { input, name, number: 0, line: Vec::new() };
    let more = input.next()?;
    let head = json::from_str::<Head>(input.text()?).ok().filter(|head| more && head.kind == "sai-export");
    let head = head.ok_or_else(|| input.wrong(HEAD.to_string()))?;
    if head.format != FORMAT {
        return Err(input.wrong(format!("format {FORMAT}, not {}", head.format)));
    }
    let mut numbers = Numbers { event: head.next_event, job: head.next_job, action: head.next_action };
    numbers.at_least(used);
    let mut count = 0;
    found(state, numbers, &mut |take| input.records(&mut count, take))?;
    Ok(count)
}

const HEAD: &str = "the first line of an export, {\"kind\":\"sai-export\",…}";

/// The lines of what is imported.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    name: &'a str,
    number: u64,
    line: Vec<u8>,
}

impl Lines<'_> {
    fn wrong(&self, expected: String) -> StoreError {
        StoreError::Import { at: format!("{}:{}", self.name, self.number), expected }
    }

    /// Goes to the next line; false behind the last.
    fn next(&mut self) -> Result<bool, StoreError> {
        self.line.clear();
        self.number += 1;
        let taken = (&mut self.input).take(LINE_BYTES + 1).read_until(b'\n', &mut self.line);
        let taken = taken.map_err(|error| self.wrong(format!("a readable file, not: {error}")))?;
        if taken as u64 > LINE_BYTES {
            return Err(self.wrong(format!("at most {LINE_BYTES} bytes in a line")));
        }
        Ok(taken > 0)
    }

    fn text(&self) -> Result<&str, StoreError> {
        std::str::from_utf8(&self.line).map(str::trim_end).map_err(|_| self.wrong("UTF-8".to_string()))
    }

    /// Gives all records to `take`, up to the line that counts them.
    fn records(
        &mut self,
        count: &mut u64,
        take: &mut dyn FnMut(&str) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        while self.next()? {
            let text = self.text()?;
            if check(text, *count).map_err(|expected| self.wrong(expected))? {
                return if self.next()? {
                    Err(self.wrong("nothing after the last line of an export".to_string()))
                } else {
                    Ok(())
                };
            }
            take(text)?;
            *count += 1;
        }
        Err(self.wrong(format!(
            "the last line of an export, {{\"kind\":\"sai-export-end\",\"records\":{count}}}: this one was cut"
        )))
    }
}

/// Whether a line is the last one, after `count` records; else it is a record, or what was expected is said.
fn check(text: &str, count: u64) -> Result<bool, String> {
    fn read<T: Deserialize>(text: &str, what: &str) -> Result<bool, String> {
        json::from_str::<T>(text).map(|_| false).map_err(|_| format!("{what} record with all its keys"))
    }
    let tag: Tag = json::from_str(text).map_err(|_| "an object with a \"kind\"".to_string())?;
    match tag.kind.as_str() {
        "event" => read::<EventRecord>(text, "an event"),
        "job" => read::<JobRecord>(text, "a job"),
        "agent" => read::<AgentRecord>(text, "an agent"),
        "user" => read::<UserRecord>(text, "a user"),
        "tip" => read::<TipRecord>(text, "a tip"),
        "action" => read::<ActionRecord>(text, "an action"),
        "sai-export-end" => match json::from_str::<End>(text) {
            Ok(end) if end.records == count => Ok(true),
            Ok(end) => Err(format!("{} records before this line, not {count}", end.records)),
            Err(_) => Err("how many records there are".to_string()),
        },
        // What only a journal has; and lines of kinds that later versions may have begin otherwise.
        kind if kind.starts_with("sai-") || kind.starts_with("delete-") || kind == "damage" => {
            Err(format!("a record, not {kind:?}"))
        }
        _ => Ok(false),
    }
}
