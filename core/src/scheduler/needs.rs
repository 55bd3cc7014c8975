//! Jobs that end → those that need them: unblocked, with what passed pinned, or skipped by the one that did not.
//!
//! What becomes of a job and of those that wait for it is one turn, and so one commit: no record ever says that a job waits
//! for what has ended already. A blocked job's record is not written while it waits, since what it waits for is in the records
//! of those others; what is met is kept beside it until nothing is open.

use super::{Output, Scheduler};
use crate::clock::Now;
use crate::job::{Fault, JobId, JobState};
use crate::ledger::{JobRecord, Needed};
use crate::limits::NEEDS_BYTES;
use crate::ordered::{Map, Set};
use crate::record::Artifact;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use miniserde::json;

/// What a blocked job waits for, and what it does not wait for any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    pub needs: Set<JobId>,
    /// The attempt that passed, and its files.
    met: Map<JobId, (u32, Arc<Vec<Artifact>>)>,
}

/// By which job those are skipped that need one which ended like this: the one that never passed, whose fault that is, and
/// a sentence.
pub fn skipped_by(record: &JobRecord) -> (JobId, Fault, String) {
    if let Some(first) = record.skipped {
        return (first, record.fault, record.cause.clone());
    }
    let what = match record.state {
        JobState::Cancelled => "was cancelled",
        JobState::TimedOut => "took too long",
        JobState::Expired => "waited too long for an agent",
        JobState::Infra => "ended by trouble that is not its own",
        _ => "failed",
    };
    let cause = format!("{} on {} (job {}), which it needs, {what}", record.configuration, record.platform, record.id);
    (record.id, record.fault, cause)
}

/// Bytes that needs take at most in an assignment, beside what they are named by.
fn bytes(needs: &[Needed]) -> usize {
    needs.iter().map(|needed| json::to_string(needed).len()).sum()
}

impl Scheduler {
    pub(super) fn unfinished(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.record.state.ended())
    }

    /// Whether a job is blocked.
    pub(super) fn waits_for_others(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.record.standing() == JobState::Blocked)
    }

    /// What a blocked job still waits for.
    pub fn open(&self, id: JobId) -> impl Iterator<Item = JobId> + '_ {
        self.jobs.get(&id).into_iter().flat_map(|job| job.open.needs.iter().copied())
    }

    /// Writes down what a blocked job waits for. Those that have passed before are remembered too: they may be built again.
    fn link(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("link: no such job") };
        for needed in job.record.needs.iter_mut().flatten() {
            let artifacts = Arc::new(core::mem::take(&mut needed.artifacts));
            match needed.attempt.take() {
                Some(attempt) => _ = job.open.met.insert(needed.job, (attempt, artifacts)),
                None => _ = job.open.needs.insert(needed.job),
            }
            self.dependants.get_or_default(needed.job).insert(id);
        }
    }

    /// A job waits for no others from now on.
    pub(super) fn unlink(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("unlink: no such job") };
        job.record.blocked = None;
        job.open = Open::default();
        for needed in job.record.needs.iter().flatten() {
            if let Some(dependants) = self.dependants.get_mut(&needed.job) {
                dependants.remove(&id);
                if dependants.is_empty() {
                    self.dependants.remove(&needed.job);
                }
            }
        }
    }

    fn dependants_of(&self, id: JobId) -> Vec<JobId> {
        self.dependants.get(&id).map(|dependants| dependants.iter().copied().collect()).unwrap_or_default()
    }

    /// Blocks those of the jobs just taken that need what has not passed; gives those that are left.
    pub(super) fn block(&mut self, taken: Vec<JobId>) -> Vec<JobId> {
        for id in &taken {
            let Some(job) = self.jobs.get_mut(id) else {
                self.bugs.note("block: no such job");
                continue;
            };
            let open = job.record.needs.iter().flatten().any(|needed| needed.attempt.is_none());
            job.record.blocked = (open && job.record.skipped.is_none()).then_some(true);
            if job.record.blocked.is_some() {
                self.link(*id);
            }
        }
        // Of what is neither under way nor said to have passed nothing is known any more: it ended while this was asked for.
        let lacks = |id: &JobId| self.open(*id).any(|need| !self.unfinished(need));
        let mut unknown: Vec<JobId> = taken.iter().copied().filter(lacks).collect();
        while let Some(id) = unknown.pop() {
            self.unlink(id);
            if self.jobs.remove(&id).is_some() {
                let waits = |other: &JobId| self.open(*other).any(|need| need == id);
                unknown.extend(self.dependants_of(id).into_iter().filter(waits));
            }
        }
        let left: Vec<JobId> = taken.into_iter().filter(|id| self.jobs.contains_key(id)).collect();
        // Those that wait for other things still wait for these, too, however they ended before.
        for id in &left {
            for dependant in self.dependants_of(*id) {
                if let Some(job) = self.jobs.get_mut(&dependant) {
                    job.open.met.remove(id);
                    job.open.needs.insert(*id);
                }
            }
        }
        left
    }

    /// Queues a job that was just taken, or says that it is blocked or skipped.
    pub(super) fn begin(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get(&id) else { return self.bugs.note("begin: no such job") };
        if job.record.state.ended() {
            // One that was taken with it has ended, and was followed.
            return;
        }
        if let Some(first) = job.record.skipped {
            let by = (first, job.record.fault, job.record.cause.clone());
            self.skip(now, id, by, out);
            self.follow(now, id, out);
        } else if job.record.blocked.is_some() {
            out.push(Output::Changed(id));
        } else if self.ready(now, id, out) {
            self.follow(now, id, out);
        }
    }

    /// Goes on with a job of which the ledger says that it waits, for others or an agent.
    pub(super) fn resume(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) {
        if !self.waits_for_others(id) {
            self.enqueue(now, id);
            return;
        }
        self.link(id);
        if self.jobs.get(&id).is_some_and(|job| job.record.skipped.is_some()) {
            // Neither this nor the next is what a master leaves behind, whose turns are whole.
            self.begin(now, id, out);
        } else if self.open(id).next().is_none() && self.unblock(now, id, out) {
            self.follow(now, id, out);
        }
    }

    /// Tells all that need a job which has just ended.
    pub(super) fn follow(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) {
        // Not by recursion: a chain may be as long as there are jobs.
        let mut ended = vec![id];
        while let Some(id) = ended.pop() {
            let dependants = self.dependants_of(id);
            if dependants.is_empty() {
                continue;
            }
            let Some(job) = self.jobs.get(&id) else {
                self.bugs.note("follow: no such job");
                continue;
            };
            if job.record.state == JobState::Passed {
                let passed = (job.record.attempt, Arc::new(job.record.artifacts.clone()));
                for dependant in dependants {
                    let Some(job) = self.jobs.get_mut(&dependant) else {
                        self.bugs.note("follow: no such dependant");
                        continue;
                    };
                    job.open.needs.remove(&id);
                    job.open.met.insert(id, passed.clone());
                    if job.open.needs.is_empty() && self.unblock(now, dependant, out) {
                        ended.push(dependant);
                    }
                }
            } else {
                let by = skipped_by(&job.record);
                for dependant in dependants {
                    self.skip(now, dependant, by.clone(), out);
                    ended.push(dependant);
                }
            }
        }
    }

    /// Queues a job of which all needs have passed, and pins which attempts those were. True if that ended it.
    fn unblock(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            self.bugs.note("unblock: no such job");
            return false;
        };
        let open = core::mem::take(&mut job.open);
        let record = &mut job.record;
        for needed in record.needs.iter_mut().flatten() {
            if let Some((attempt, artifacts)) = open.met.get(&needed.job) {
                needed.attempt = Some(*attempt);
                needed.artifacts = artifacts.to_vec();
            }
        }
        record.queued_at = now.wall;
        job.waits_since = now.steady;
        self.unlink(id);
        self.ready(now, id, out)
    }

    /// Queues a job that needs no more. True if that ended it.
    fn ready(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) -> bool {
        let Some(job) = self.jobs.get_mut(&id) else {
            self.bugs.note("ready: no such job");
            return false;
        };
        let record = &mut job.record;
        let size = bytes(record.needs.as_deref().unwrap_or_default());
        let fits = size <= NEEDS_BYTES;
        if !fits {
            record.state = JobState::Failed;
            record.fault = Fault::Spec;
            record.cause = format!("the files of its needs take {size} bytes to name, more than {NEEDS_BYTES}");
            record.ended_at = Some(now.wall);
            record.needs.iter_mut().flatten().for_each(|needed| needed.artifacts.clear());
        }
        if fits {
            self.enqueue(now, id);
        }
        out.push(Output::Changed(id));
        !fits
    }

    fn skip(&mut self, now: Now, id: JobId, by: (JobId, Fault, String), out: &mut Vec<Output>) {
        self.unlink(id);
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("skip: no such job") };
        let record = &mut job.record;
        if record.state != JobState::Queued {
            return self.bugs.note("skip: the job does not wait");
        }
        record.state = JobState::Cancelled;
        record.ended_at = Some(now.wall);
        let (first, fault, cause) = by;
        (record.skipped, record.fault, record.cause) = (Some(first), fault, cause);
        out.push(Output::Changed(id));
    }
}
