//! Files that the journal carries → durable files, in a lull or at a start, and the line that says so.

use super::index::Index;
use super::keys::{Kind, text};
use super::ledger::Ledger;
use super::paths::{Paths, is_full, make_directory, sync_directory};
use super::{StoreError, carried};
use sai_agent::durable::sync_paths;
use sai_core::job::EventId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

fn files(paths: &Paths, event: EventId) -> [PathBuf; 2] {
    [paths.saifile(event), paths.plan(event)]
}

/// Makes the files of some events durable. Those of an event that was deleted meanwhile are not there.
///
/// # Errors
/// The disk's.
pub(super) fn sync(paths: &Paths, events: &[EventId]) -> io::Result<()> {
    sync_paths(events.iter().flat_map(|event| files(paths, *event)).collect())?;
    sync_directory(&paths.saifiles())
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
        found.extend(carried::read(text(Kind::Other, key, record)?));
        Ok(())
    })?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    // Of a state that was put back from its journal, or imported, that is all there is.
    make_directory(&paths.saifiles()).map_err(|error| failed(&paths.saifiles(), error))?;
    let mut events = Vec::new();
    for (event, texts) in found {
        let mut written = true;
        // Of one that was deleted nothing is wanted.
        let wanted = index.contains(Kind::Event, event)?;
        for (path, text) in files(paths, event).into_iter().zip(texts).filter(|_| wanted) {
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
