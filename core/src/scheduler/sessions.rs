//! Sessions that attempts and people ask for → which are on record, with whom they are shared, and their end with the attempt.
//!
//! What an attempt has asked for stands in its own record, which outlives a restart of the master and all links of its agent: so
//! that the same question is always answered by the same session.

use super::{Output, Scheduler};
use crate::clock::Now;
use crate::job::{JobId, JobKey};
use crate::ledger::Session;
use crate::requests::{Sharing, people};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Scheduler {
    /// An attempt has a session more.
    pub(super) fn session(&mut self, key: JobKey, session: Session, out: &mut Vec<Output>) {
        if self.holder(key).is_none() {
            return self.bugs.note("session: nobody runs whose it is");
        }
        let Some(job) = self.jobs.get_mut(&key.job) else { return self.bugs.note("session: no such job") };
        job.record.sessions.get_or_insert_default().push(session);
        out.push(Output::Changed(key.job));
    }

    /// A lease is shared with somebody, or is no more. One that has ended stays as it is: who could hear what happened there can still.
    pub(super) fn share(&mut self, sharing: &Sharing, out: &mut Vec<Output>) {
        let job = self.jobs.get_mut(&sharing.job).filter(|job| !job.record.state.ended());
        if let Some(leased) = job.and_then(|job| job.record.lease.as_mut()) {
            leased.people = people(leased, sharing);
            out.push(Output::Changed(sharing.job));
        }
    }

    /// Ends the sessions of an attempt that has ended or was given up. What they are said to have found stays.
    pub(super) fn end_sessions(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) {
        let sessions = self.jobs.get(&id).and_then(|job| job.record.sessions.clone());
        for session in sessions.into_iter().flatten() {
            if self.unfinished(session.job) {
                self.cancel_one(now, session.job, has_ended(id), out);
            }
        }
    }

    /// Whether a session is cancelled for no other reason than that its build has ended, and its command had begun. What it came upon
    /// then may be what has ended the step that had it, though that end is heard of first.
    pub(super) fn ends_with_its_build(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| {
            let why = job.record.session.as_ref().map(|session| has_ended(session.key.job));
            let who = job.cancelled.as_ref().map(|(who, _)| who);
            job.record.step.is_some() && why.is_some() && who == why.as_ref()
        })
    }
}

/// Why sessions of a build are cancelled at its end.
fn has_ended(build: JobId) -> String {
    format!("job {build}, whose session it was, has ended")
}
