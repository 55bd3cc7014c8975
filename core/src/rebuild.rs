//! Jobs that somebody wants to run again → those that run: with what was skipped because of them, or all that need them.

use crate::hub::Rebuild;
use crate::job::{JobId, JobState};
use crate::ledger::{EventRecord, JobRecord};
use crate::matrix::JobSpec;
use crate::ordered::{Map, Set};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What `person` asks for: those of these jobs of an event that have ended, with all that need them if `following`.
///
/// # Errors
/// None of them has ended, or one needs a job that did not pass: a sentence for people.
pub fn of(
    event: EventRecord,
    specs: Vec<JobSpec>,
    jobs: Vec<JobRecord>,
    ids: &[JobId],
    following: bool,
    person: Option<String>,
) -> Result<Rebuild, String> {
    let chosen = choose(&event, &specs, &jobs, ids, following)?;
    let (jobs, others) = jobs.into_iter().partition(|job| chosen.contains(&job.id));
    Ok(Rebuild { event, specs, jobs, others, person })
}

/// The jobs of an event that are to run, by number.
fn choose(
    event: &EventRecord,
    specs: &[JobSpec],
    jobs: &[JobRecord],
    ids: &[JobId],
    following: bool,
) -> Result<Set<JobId>, String> {
    let known: Map<JobId, &JobRecord> = jobs.iter().map(|job| (job.id, job)).collect();
    let ended = |id: &JobId| known.get(id).is_some_and(|job| job.state.ended());
    let mut chosen: Set<JobId> = ids.iter().copied().filter(ended).collect();
    if chosen.is_empty() {
        return Err("nothing of it has ended yet".to_string());
    }
    let needs = |id: JobId| {
        let index = id.checked_sub(event.first_job).and_then(|index| usize::try_from(index).ok());
        let needs = index.and_then(|index| specs.get(index)).map(|spec| spec.needs.as_slice()).unwrap_or_default();
        needs.iter().map(|need| event.first_job + u64::from(*need))
    };
    let asked = chosen.clone();
    if following {
        let mut dependants: Map<JobId, Vec<JobId>> = Map::new();
        for job in jobs {
            needs(job.id).for_each(|need| dependants.get_or_default(need).push(job.id));
        }
        let mut waiting: Vec<JobId> = asked.iter().copied().collect();
        while let Some(id) = waiting.pop() {
            for dependant in dependants.get(&id).into_iter().flatten() {
                if ended(dependant) && chosen.insert(*dependant) {
                    waiting.push(*dependant);
                }
            }
        }
    }
    let skipped = jobs.iter().filter(|job| job.state.ended() && job.skipped.is_some_and(|by| asked.contains(&by)));
    chosen.extend(skipped.map(|job| job.id));
    for id in &asked {
        let failed = |need: &JobId| {
            let other = known.get(need).filter(|_| !chosen.contains(need));
            other.is_some_and(|other| other.state.ended() && other.state != JobState::Passed)
        };
        if let Some(other) = needs(*id).find(failed).and_then(|need| known.get(&need)) {
            let first = other.skipped.unwrap_or(other.id);
            return Err(format!(
                "job {id} needs job {} ({} on {}), which did not pass; rebuild job {first}, and what was skipped because of \
                 it runs again too",
                other.id, other.configuration, other.platform
            ));
        }
    }
    Ok(chosen)
}
