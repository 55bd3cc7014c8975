//! Boards that people ask for, and their words → jobs at boards, words for agents, and leases that are over.
//!
//! A lease is a job like others: it waits in the one queue, and nothing but the end of its attempt frees the board. How long it lasts is
//! kept in memory: a master that was restarted counts from then on, and the attempt has a bound of its own at its agent.

use super::{Hub, Output, Touch};
use crate::clock::Now;
use crate::job::{EventId, JobId, JobKey, JobState};
use crate::lease::{Lease, MINUTES, MOST_S};
use crate::ledger::{EventRecord, JobRecord, Leased, Source};
use crate::limits::Millis;
use crate::matrix::JobSpec;
use crate::scheduler::{self, BoardRow};
use crate::units::WantedBoard;
use crate::wire::{MasterMessage, Word};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// A board that a person asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    /// The event that it is.
    pub event: EventRecord,
    /// Its only job.
    pub spec: JobSpec,
    /// For how long, and of which agent.
    pub leased: Leased,
    /// Who asks.
    pub person: String,
}

/// What stands for the platform of a job that runs on none.
pub(super) const PLATFORM: &str = "board";

impl Wish {
    /// A person's wish for this board: the event and the job have these numbers. What stands for a repository is `~PERSON`, which is no
    /// repository's name.
    pub fn new(numbers: (EventId, JobId), board: (WantedBoard, Leased), person: &str, at: u64) -> Self {
        let ((id, first_job), (wanted, leased)) = (numbers, board);
        let event = EventRecord {
            id,
            repository: format!("~{person}"),
            url: String::new(),
            reference: String::new(),
            revision: String::new(),
            subject: format!("{wanted}, for {person}"),
            author: person.to_string(),
            source: Source::Lease,
            at,
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job,
            jobs: 1,
        };
        let spec = JobSpec::session(PLATFORM.to_string(), wanted.kind.clone(), wanted, MOST_S);
        Self { event, spec, leased, person: person.to_string() }
    }
}

impl Hub {
    pub(super) fn lease(&mut self, now: Now, wish: Wish, out: &mut Vec<Output>) {
        let Wish { event, spec, leased, person } = wish;
        let record = JobRecord {
            platform: spec.platform.clone(),
            configuration: spec.configuration.clone(),
            priority: spec.priority,
            steps: 1,
            lease: Some(leased),
            ..JobRecord::queued(event.first_job, event.id, &event.repository, now.wall)
        };
        out.push(Output::Event(event.clone()));
        out.push(Output::Touch(Touch::Event(event.id)));
        let (specs, jobs, others, person) = (vec![spec], vec![record], Vec::new(), Some(person));
        self.rebuild(now, super::Rebuild { event, specs, jobs, others, person }, out);
    }

    /// An attempt of a lease begins, or goes on after a restart.
    pub(super) fn lease_begins(&mut self, now: Now, job: JobId) {
        // Most jobs are none.
        let Some(leased) = self.scheduler.job(job).and_then(|record| record.lease.as_ref()) else { return };
        let minutes = if leased.minutes == 0 { MINUTES } else { leased.minutes };
        self.leases.insert(job, Lease::new(now.steady, minutes));
    }

    /// A job's record has changed: a lease lasts while its attempt is under way, and no time of it passes in the queue.
    pub(super) fn lease_follows(&mut self, now: Now, record: &JobRecord) {
        let given = matches!(record.state, JobState::Assigned | JobState::Running);
        if !given {
            self.leases.remove(&record.id);
        } else if !self.leases.contains_key(&record.id) {
            self.lease_begins(now, record.id);
        }
    }

    /// Until when a lease lasts, if its person has the board.
    pub fn lease_until(&self, job: JobId) -> Option<Millis> {
        self.leases.get(&job).map(Lease::until)
    }

    /// The boards, and until when people have them at most, unless they use them and nobody waits.
    pub fn boards(&self, now: Now) -> Vec<BoardRow> {
        let mut rows = self.scheduler.boards(now.steady);
        for holder in rows.iter_mut().filter_map(|row| row.holder.as_mut()) {
            if let Some(until) = self.lease_until(holder.key.job) {
                let left = until.saturating_sub(now.steady);
                holder.until = holder.until.min(now.wall.saturating_add(left));
            }
        }
        rows
    }

    /// A person who has a board says something. Where it cannot be heard it is dropped: who says it hears nothing of it in the log, and
    /// says it again.
    pub(super) fn word(&mut self, now: Now, word: Word, out: &mut Vec<Output>) {
        let JobKey { job, .. } = word.key;
        // It has ended, or waits.
        let Some(agent) = self.scheduler.holder(word.key).map(ToString::to_string) else { return };
        let waits = self.scheduler.is_waited_for(job);
        // It is none, or its time was over just now.
        let Some(lease) = self.leases.get_mut(&job).filter(|lease| !lease.is_over()) else { return };
        lease.used(now.steady, waits);
        self.send(&agent, MasterMessage::Word(word), out);
    }

    pub(super) fn leases_deadline(&self) -> Option<Millis> {
        self.leases.values().filter(|lease| !lease.is_over()).map(Lease::until).min()
    }

    pub(super) fn leases_slept(&mut self, slept: Millis) {
        self.leases.values_mut().for_each(|lease| lease.slept(slept));
    }

    /// Ends those whose time is over.
    pub(super) fn leases_due(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut over: Vec<JobId> = Vec::new();
        for (job, lease) in self.leases.iter_mut().filter(|(_, lease)| !lease.is_over() && lease.until() <= now.steady)
        {
            lease.end();
            over.push(*job);
        }
        if over.is_empty() {
            return;
        }
        self.schedule(now, scheduler::Input::Cancel(over, OVER.to_string()), out);
    }
}

/// Why a lease is ended that nobody has ended.
const OVER: &str = "its time was over";
