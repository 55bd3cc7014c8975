//! The jobs of an event ↔ the JSON that is kept of them beside the saifile.
//!
//! What is restored or rebuilt reads the plan and never expands the saifile again: another version of Sai may understand a
//! saifile otherwise, and the numbers of an event's jobs must go on meaning what they meant.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::graph;
use crate::ledger::EventRecord;
use crate::limits::JOBS_MAX;
use crate::matrix::JobSpec;
use crate::saifile;
use miniserde::{Deserialize, Serialize, json};

/// A plan as it is kept. Unknown keys are ignored, so that a later version may add some; new ones are optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    jobs: Vec<JobSpec>,
}

/// The plan of an event with these jobs, in the order of their numbers.
pub fn write(jobs: &[JobSpec]) -> String {
    json::to_string(&Plan { jobs: jobs.to_vec() })
}

/// The jobs of a plan, in the order of their numbers.
///
/// # Errors
/// It is no plan: whoever wrote it was interrupted, or the disk is damaged.
pub fn read(bytes: &[u8]) -> Result<Vec<JobSpec>, String> {
    let text = core::str::from_utf8(bytes).map_err(|_| "a plan that is not UTF-8".to_string())?;
    let plan: Plan = json::from_str(text).map_err(|_| "a plan that is not as it was written".to_string())?;
    let inside = |job: &JobSpec| job.needs.iter().all(|need| (*need as usize) < plan.jobs.len());
    if plan.jobs.len() > JOBS_MAX || !plan.jobs.iter().all(inside) {
        return Err("a plan whose jobs need others than its own".to_string());
    }
    let needs: Vec<&[u32]> = plan.jobs.iter().map(|job| job.needs.as_slice()).collect();
    if !graph::unending(&needs).is_empty() {
        return Err("a plan of jobs that wait for one another".to_string());
    }
    Ok(plan.jobs)
}

/// What is kept of an event's plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Its bytes.
    Plan(Vec<u8>),
    /// There is none, as of an event that a version without plans made: its saifile.
    Saifile(Vec<u8>),
    /// Nothing can be read, for this reason: a sentence without its end.
    Nothing(String),
}

/// The jobs of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// In the order of their numbers.
    pub specs: Vec<JobSpec>,
    /// Whether they were just read from the saifile: they are the event's plan from now on, and are to be kept.
    pub new: bool,
}

/// The jobs of an event, by what is kept of its plan.
///
/// # Errors
/// Why nothing can go on with it: a sentence for people.
pub fn of(event: &EventRecord, kept: Kept) -> Result<Planned, String> {
    let as_recorded = |found: usize| {
        let recorded = event.jobs as usize;
        if found == recorded { Ok(()) } else { Err(format!("{found} jobs, where {recorded} were made of it")) }
    };
    match kept {
        Kept::Plan(bytes) => {
            let specs = read(&bytes).map_err(|what| format!("its plan cannot be used: it is {what}"))?;
            as_recorded(specs.len()).map_err(|what| format!("its plan cannot be used: it has {what}"))?;
            Ok(Planned { specs, new: false })
        }
        Kept::Saifile(bytes) => {
            let mut specs = saifile::read(&bytes, &event.reference).specs;
            as_recorded(specs.len()).map_err(|what| {
                format!(
                    "it has no plan, and its saifile means something else to this version of Sai: {what}; push it again"
                )
            })?;
            // The version that made it let such jobs begin at once, and may have done so.
            specs.iter_mut().for_each(|spec| spec.needs.clear());
            Ok(Planned { specs, new: true })
        }
        Kept::Nothing(why) => Err(why),
    }
}
