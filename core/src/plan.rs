//! The jobs of an event ↔ the JSON that is kept of them beside the saifile.
//!
//! What is restored or rebuilt reads the plan and never expands the saifile again: another version of Sai may understand a
//! saifile otherwise, and the numbers of an event's jobs must go on meaning what they meant.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::graph;
use crate::limits::JOBS_MAX;
use crate::matrix::JobSpec;
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
