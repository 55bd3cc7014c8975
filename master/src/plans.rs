//! An event from the ledger → its jobs as they were planned when it was made: what is kept of that is read here, and what it
//! means is the core's to say.

use crate::say;
use crate::store::{Change, Reader, Store};
use sai_agent::blocking::unblock;
use sai_core::job::EventId;
use sai_core::ledger::EventRecord;
use sai_core::matrix::JobSpec;
use sai_core::plan::{self, Kept};
use std::io::{self, ErrorKind};

/// What is kept of an event's plan.
pub(crate) fn kept(reader: &Reader, event: EventId) -> Kept {
    match reader.plan(event) {
        Ok(bytes) => Kept::Plan(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => reader
            .saifile(event)
            .map_or_else(|error| Kept::Nothing(format!("its saifile cannot be read: {error}")), Kept::Saifile),
        Err(error) => Kept::Nothing(format!("its plan cannot be read: {error}")),
    }
}

/// Keeps a plan that an event had none of.
pub(crate) fn keep(store: &Store, event: EventId, specs: &[JobSpec]) {
    if let Err(error) = store.files().put_plan(event, plan::write(specs).as_bytes()) {
        say(&format!("event {event}: its plan cannot be kept: {error}"));
    }
}

/// The jobs of an event, in the order of their numbers. One that a version without plans made gets its plan now, from its
/// saifile.
///
/// # Errors
/// Why it has none any more: a sentence for people.
pub fn planned(store: &Store, reader: &Reader, event: &EventRecord) -> Result<Vec<JobSpec>, String> {
    let planned = plan::of(event, kept(reader, event.id))?;
    if planned.new {
        keep(store, event.id, &planned.specs);
    }
    Ok(planned.specs)
}

/// Keeps the plan of a new event of one job that is made of no saifile. What this gives is to be committed with the event's record.
///
/// # Errors
/// The disk's.
pub(crate) async fn keep_new(store: Store, event: EventId, spec: &JobSpec) -> io::Result<Option<Change>> {
    let plan = plan::write(std::slice::from_ref(spec));
    unblock(move || store.files().put_both(event, b"", Some(plan.as_bytes()))).await
}

/// Why a plan is not kept, for people.
pub(crate) fn not_kept(error: &io::Error) -> String {
    format!("the master cannot keep what is to be done: {error}")
}
