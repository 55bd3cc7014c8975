//! Records and appended bytes → what of them is there after a crash.

use super::random::Random;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::{AgentRecord, EventRecord, JobRecord};
use sai_core::numbers::Numbers;
use sai_core::push::RefChange;
use sai_core::restart;
use std::collections::BTreeMap;

/// A record to make durable.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Event(EventRecord),
    Job(JobRecord),
    Agent(AgentRecord),
    /// What was seen of a repository's ref.
    Tip(String, RefChange),
    /// What an event's files hold.
    Files(EventId, Vec<u8>),
    /// Files of events that are durable themselves.
    FilesDurable(Vec<EventId>),
}

/// The master's small records.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) events: BTreeMap<EventId, EventRecord>,
    pub(super) jobs: BTreeMap<JobId, JobRecord>,
    pub(super) agents: BTreeMap<String, AgentRecord>,
    /// By repository and ref.
    pub(super) tips: BTreeMap<(String, String), String>,
    /// Files of events that may not be durable themselves.
    pub(super) carried: BTreeMap<EventId, Vec<u8>>,
    /// The next ones.
    pub(super) numbers: Numbers,
}

impl Ledger {
    /// What a starting master reads of it.
    pub(super) fn unfinished(&self) -> restart::Ledger {
        let unfinished = |event: &EventId| {
            let jobs = self.jobs.values().filter(|job| job.event == *event);
            jobs.clone().any(|job| !job.state.ended()).then(|| jobs.cloned().collect::<Vec<_>>())
        };
        let found: Vec<_> =
            self.events.values().filter_map(|event| Some((event.clone(), unfinished(&event.id)?))).collect();
        let (events, jobs): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let agents = self.agents.values().cloned().collect();
        restart::Ledger { agents, inside: None, events, jobs: jobs.concat() }
    }

    /// Whether the branches of a repository were ever looked at.
    pub(super) fn has_looked(&self, repository: &str) -> bool {
        self.tips.contains_key(&(repository.to_string(), "refs/heads/".to_string()))
    }

    pub(super) fn apply(&mut self, row: Row) {
        match row {
            Row::Event(record) => {
                self.numbers.saw_event(record.id, record.first_job, u64::from(record.jobs));
                self.events.insert(record.id, record);
            }
            Row::Job(record) => {
                self.numbers.saw_job(record.id);
                self.jobs.insert(record.id, record);
            }
            Row::Agent(record) => {
                self.agents.insert(record.name.clone(), record);
            }
            Row::Tip(repository, (reference, Some(revision))) => {
                self.tips.insert((repository, reference), revision);
            }
            Row::Tip(repository, (reference, None)) => {
                self.tips.remove(&(repository, reference));
            }
            Row::Files(event, plan) => {
                self.carried.insert(event, plan);
            }
            Row::FilesDurable(events) => self.carried.retain(|event, _| !events.contains(event)),
        }
    }
}

/// A stream's file at the master.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// Length that outlives any crash.
    pub(super) flushed: usize,
}

/// The files of all streams.
#[derive(Clone, Debug, Default)]
pub(super) struct Files(pub(super) BTreeMap<(JobKey, u16), File>);

impl Files {
    /// Length that outlives any crash.
    pub(super) fn durable(&self, key: JobKey, stream: u16) -> u64 {
        self.0.get(&(key, stream)).map_or(0, |file| file.flushed as u64)
    }

    /// Loses what was not flushed: all, some or nothing of it.
    pub(super) fn crash(&mut self, random: &mut Random) {
        for file in self.0.values_mut() {
            let beyond = (file.bytes.len() - file.flushed) as u64;
            let kept = match random.below(3) {
                0 => 0,
                1 => beyond,
                _ => random.below(beyond + 1),
            };
            file.bytes.truncate(file.flushed + kept as usize);
        }
    }

    /// What a starting master does before it trusts a length: it flushes the file.
    pub(super) fn recover(&mut self) {
        for file in self.0.values_mut() {
            file.flushed = file.bytes.len();
        }
    }

    /// Durable lengths of an attempt's streams, from 0 on.
    pub(super) fn lengths(&self, key: JobKey) -> Vec<u64> {
        let mut lengths = Vec::new();
        for ((_, stream), file) in self.0.range((key, 0)..=(key, u16::MAX)) {
            lengths.resize(usize::from(*stream) + 1, 0);
            lengths[usize::from(*stream)] = file.flushed as u64;
        }
        lengths
    }
}
