//! What somebody wants done to a job → the master's word that it is, or why not.

use crate::answers::Done;
use crate::failure::Failure;
use crate::follow::path;
use crate::master::Master;
use crate::telling::plain;
use miniserde::{Serialize, json};
use sai_agent::terminal;

/// What can be done to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// End it.
    Cancel,
    /// Run it again.
    Rebuild,
    /// Run it again, with all that needs it.
    RebuildFollowing,
}

#[derive(Serialize)]
struct Told<'a> {
    done: &'a str,
}

/// Does it.
///
/// # Errors
/// Why it is not done, and whose fault that is.
pub fn act(master: &mut Master, deed: Deed, job: u64, attempt: Option<u32>, json: bool) -> Result<(), Failure> {
    let word = match deed {
        Deed::Cancel => "cancel",
        Deed::Rebuild => "rebuild",
        Deed::RebuildFollowing => "rebuild-following",
    };
    let attempt = attempt.map(|attempt| format!("?attempt={attempt}")).unwrap_or_default();
    let done: Done = smol::block_on(master.json("POST", &format!("{}/{word}{attempt}", path(job))))?;
    let text = if json { json::to_string(&Told { done: &done.done }) } else { plain(&done.done) };
    terminal::deliver(format!("{text}\n").as_bytes()).map_err(|error| Failure::here("standard output", &error))
}
