//! An event's plan and the records of its jobs → what each of them needs, what of that has passed, and by which it is skipped.

use super::Hub;
use crate::job::{JobId, JobState};
use crate::ledger::{EventRecord, JobRecord, Needed};
use crate::matrix::JobSpec;
use crate::ordered::{Map, Set};
use crate::scheduler::skipped_by;
use alloc::vec::Vec;

impl Hub {
    /// Gives the records of jobs that are to run what the plan says that they need and want, as it is met by now.
    pub(super) fn plan(&self, event: &EventRecord, specs: &[JobSpec], jobs: &mut [JobRecord], others: &[JobRecord]) {
        let number = |index: usize| event.first_job + index as u64;
        for record in jobs.iter_mut() {
            let index = record.id.checked_sub(event.first_job).and_then(|index| usize::try_from(index).ok());
            // What its plan has not is told as impossible when it is to begin.
            let Some(spec) = index.and_then(|index| specs.get(index)) else { continue };
            let needed = |need: &u32| {
                let other = specs.get(*need as usize)?;
                Some(Needed {
                    job: number(*need as usize),
                    configuration: other.configuration.clone(),
                    platform: other.platform.clone(),
                    attempt: None,
                    artifacts: Vec::new(),
                })
            };
            let needs: Vec<Needed> = spec.needs.iter().filter_map(needed).collect();
            record.needs = (!needs.is_empty()).then_some(needs);
            record.units = (!spec.units.is_empty()).then(|| spec.units.clone());
            record.board = spec.board.as_ref().map(|board| board.wanted.clone());
            (record.skipped, record.blocked) = (None, None);
        }
        self.meet(jobs, others);
    }

    /// Says of what these jobs still need which attempts have passed, and by which job they are skipped, going by the records
    /// of all others of the event. What is under way, or is among them, is open.
    pub(super) fn meet(&self, jobs: &mut [JobRecord], others: &[JobRecord]) {
        let mine: Set<JobId> = jobs.iter().map(|record| record.id).collect();
        let others: Map<JobId, &JobRecord> = others.iter().map(|record| (record.id, record)).collect();
        for record in jobs {
            let mut skipped = None;
            for needed in record.needs.iter_mut().flatten().filter(|needed| needed.attempt.is_none()) {
                let under_way = self.scheduler.job(needed.job).is_some_and(|other| !other.state.ended());
                if under_way || mine.contains(&needed.job) {
                    continue;
                }
                let other = others.get(&needed.job).filter(|other| self.scheduler.is_newest(other));
                // Of what has changed since it was read nothing is said, and then the job is not queued on it.
                let Some(other) = other else { continue };
                match other.state {
                    JobState::Passed => {
                        needed.attempt = Some(other.attempt);
                        needed.artifacts.clone_from(&other.artifacts);
                    }
                    state if state.ended() => skipped = skipped.or_else(|| Some(skipped_by(other))),
                    _ => {}
                }
            }
            if let Some((first, fault, cause)) = skipped {
                (record.skipped, record.fault, record.cause) = (Some(first), fault, cause);
            }
        }
    }
}
