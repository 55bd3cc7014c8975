//! Saifile and plan of a new event → a line of the journal that has them too → after a power cut, the files again.
//!
//! A hook waits until its event is durable. Two files, their names and the record were three flushes of the disk one after the
//! other; carried by the record's own group they are one. The files are flushed when the core says so (`lull`), and another
//! line says that they are durable. Lines without that one, at a start, are what a power cut may have taken.

use super::Change;
use super::StoreError;
use super::files::Paths;
use super::index::{Index, is_full};
use super::keys::{Kind, parse};
use super::ledger::Ledger;
use miniserde::{Deserialize, Serialize, json};
use sai_agent::durable::sync_paths;
use sai_core::job::EventId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of saifile and plan together that are carried: nearly all are far smaller, and those that are not would be most of the
/// journal. Their hooks wait for two more flushes.
pub(super) const CARRIED_BYTES: usize = 16 << 10;
/// The kind of such lines. A version that does not know it keeps them as it found them.
const KIND: &str = "files";

/// A line: what an event's files hold or, with `gone`, that they are durable.
#[derive(Deserialize, Serialize)]
struct Line {
    kind: String,
    /// The event's number.
    key: String,
    saifile: Option<String>,
    plan: Option<String>,
    gone: Option<bool>,
}

impl Line {
    fn of(event: EventId) -> Self {
        Self { kind: KIND.to_string(), key: event.to_string(), saifile: None, plan: None, gone: None }
    }
}

/// The change that carries an event's files; none when they are too large for it, or no text.
pub(super) fn change(event: EventId, saifile: &[u8], plan: Option<&[u8]>) -> Option<Change> {
    if saifile.len() + plan.map_or(0, <[u8]>::len) > CARRIED_BYTES {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let plan = match plan {
        Some(plan) => Some(text(plan)?),
        None => None,
    };
    Some(Change::Files { event, saifile: text(saifile)?, plan })
}

pub(super) fn line(event: EventId, saifile: &str, plan: Option<&str>) -> String {
    json::to_string(&Line { saifile: Some(saifile.to_string()), plan: plan.map(str::to_string), ..Line::of(event) })
}

pub(super) fn line_of_durable(event: EventId) -> String {
    json::to_string(&Line { gone: Some(true), ..Line::of(event) })
}

fn files(paths: &Paths, event: EventId) -> [PathBuf; 2] {
    [paths.saifile(event), paths.plan(event)]
}

/// Makes the files of some events durable. Those of an event that was deleted meanwhile are not there.
///
/// # Errors
/// The disk's.
pub(super) fn sync(paths: &Paths, events: &[EventId]) -> io::Result<()> {
    sync_paths(events.iter().flat_map(|event| files(paths, *event)).collect())?;
    super::files::sync_directory(&paths.saifiles())
}

/// At a start: writes the files that a power cut took, as their lines have them, and says in the journal that they are durable.
///
/// # Errors
/// The disk's.
pub(super) fn settle(paths: &Paths, ledger: &Ledger) -> Result<(), StoreError> {
    let events = match write_again(paths, &ledger.index) {
        Err(StoreError::Full) if ledger.give_up_reserve() => write_again(paths, &ledger.index),
        events => events,
    }?;
    match ledger.commit(&ledger.staged_durable(&events), &mut || false) {
        // There is no room to say it: the next start looks at them again.
        Err(StoreError::Full) => Ok(()),
        result => result,
    }
}

/// Returns the events that have lines and whose files are durable now.
fn write_again(paths: &Paths, index: &Index) -> Result<Vec<EventId>, StoreError> {
    let failed = |path: &Path, error: io::Error| StoreError::disk(path, "write", &error);
    let mut found = Vec::new();
    index.each(Kind::Other, |key, record| {
        // Whatever else is of no known kind is some later version's.
        if let Ok(line) = parse::<Line>(Kind::Other, key, record)
            && line.kind == KIND
            && let Ok(event) = line.key.parse::<EventId>()
        {
            found.push((event, line));
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Of a state that was put back from its journal, or imported, that is all there is.
    super::files::make_directory(&paths.saifiles()).map_err(|error| failed(&paths.saifiles(), error))?;
    let mut events = Vec::new();
    for (event, line) in found {
        let mut written = true;
        // Of one that was deleted nothing is wanted.
        let wanted = index.contains(Kind::Event, event)?;
        for (path, text) in files(paths, event).into_iter().zip([line.saifile, line.plan]).filter(|_| wanted) {
            let Some(text) = text else { continue };
            // Also where it is as it should be: after a flush that failed only the page cache may have it, and no other flush
            // would write it.
            match Paths::show(&path, text.as_bytes()) {
                // It stays carried: the next start tries again.
                Err(error) if is_full(&error) && fs::read(&path).is_ok_and(|bytes| bytes == text.as_bytes()) => {
                    written = false;
                }
                shown => shown.map_err(|error| failed(&path, error))?,
            }
        }
        if written {
            events.push(event);
        }
    }
    sync(paths, &events).map_err(|error| failed(&paths.saifiles(), error))?;
    Ok(events)
}
