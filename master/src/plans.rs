//! An event from the ledger → its jobs as they were planned when it was made.
//!
//! Whatever goes on with an event or builds it again reads its plan. A saifile is expanded once: another version may find
//! another number of jobs in it, and then none of their numbers would mean what they meant.

pub mod again;

use crate::repositories::read_saifile;
use crate::say;
use crate::store::{Reader, Store};
use sai_core::ledger::EventRecord;
use sai_core::matrix::JobSpec;
use sai_core::plan;
use std::io::ErrorKind;

/// The jobs of an event, in the order of their numbers. One that a version without plans made gets its plan now, from its
/// saifile.
///
/// # Errors
/// Why it has none any more: a sentence for people.
pub fn planned(store: &Store, reader: &Reader, event: &EventRecord) -> Result<Vec<JobSpec>, String> {
    let as_recorded = |found: usize| {
        let recorded = event.jobs as usize;
        if found == recorded { Ok(()) } else { Err(format!("{found} jobs, where {recorded} were made of it")) }
    };
    match reader.plan(event.id) {
        Ok(bytes) => {
            let specs = plan::read(&bytes).map_err(|what| format!("its plan cannot be used: it is {what}"))?;
            as_recorded(specs.len()).map_err(|what| format!("its plan cannot be used: it has {what}"))?;
            Ok(specs)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let bytes = reader.saifile(event.id).map_err(|error| format!("its saifile cannot be read: {error}"))?;
            let mut specs = read_saifile(&bytes, &event.reference).specs;
            as_recorded(specs.len()).map_err(|what| {
                format!(
                    "it has no plan, and its saifile means something else to this version of Sai: {what}; push it again"
                )
            })?;
            // The version that made it let such jobs begin at once, and may have done so.
            specs.iter_mut().for_each(|spec| spec.needs.clear());
            if let Err(error) = store.files().put_plan(event.id, plan::write(&specs).as_bytes()) {
                say(&format!("event {}: its plan cannot be kept: {error}", event.id));
            }
            Ok(specs)
        }
        Err(error) => Err(format!("its plan cannot be read: {error}")),
    }
}
