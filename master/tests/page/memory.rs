//! An archive in memory, for tests of what reads one.

use sai_core::job::{EventId, JobId, JobKey, JobState};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, Source, UserRecord};
use sai_core::record::{Record, encode};
use sai_master::page::archive::{Archive, StoredLog};
use sai_master::sessions::digest_hex;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A log that grows while it is read.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn add(&self, micros: u64, record: &Record) {
        encode(record, micros, &mut self.0.lock().unwrap());
    }
}

struct LogReader(Log, usize);

impl Read for LogReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let log = self.0.0.lock().unwrap();
        let length = (&log[self.1..]).read(out)?;
        self.1 += length;
        Ok(length)
    }
}

#[derive(Default)]
pub struct Held {
    pub events: BTreeMap<EventId, EventRecord>,
    pub jobs: BTreeMap<JobId, JobRecord>,
    pub agents: Vec<AgentRecord>,
    pub users: Vec<UserRecord>,
    pub actions: Vec<ActionRecord>,
    pub logs: BTreeMap<JobKey, Log>,
    pub files: BTreeMap<(JobKey, u16), PathBuf>,
    /// How often all jobs of an event were read.
    pub readings: usize,
}

#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Held>>);

impl Memory {
    pub fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    pub fn job_state(&self, id: JobId, state: JobState, now: u64) {
        self.change(|held| {
            let job = held.jobs.get_mut(&id).unwrap();
            job.state = state;
            if state == JobState::Running {
                job.attempt = job.attempt.max(1);
                job.started_at = Some(now);
            }
            if state.ended() {
                job.ended_at = Some(now);
            }
        });
    }
}

impl Archive for Memory {
    fn events(&self, before: Option<EventId>, repository: Option<&str>, limit: usize) -> Vec<EventRecord> {
        self.change(|held| {
            held.events
                .range(..before.unwrap_or(u64::MAX))
                .rev()
                .map(|(_, event)| event)
                .filter(|event| repository.is_none_or(|name| event.repository == name))
                .take(limit)
                .cloned()
                .collect()
        })
    }

    fn event(&self, id: EventId) -> Option<EventRecord> {
        self.change(|held| held.events.get(&id).cloned())
    }

    fn jobs(&self, event: EventId) -> Vec<JobRecord> {
        self.change(|held| {
            held.readings += 1;
            let Some(record) = held.events.get(&event) else { return Vec::new() };
            let jobs = record.first_job..record.first_job + u64::from(record.jobs);
            held.jobs.range(jobs).map(|(_, job)| job).filter(|job| job.event == event).cloned().collect()
        })
    }

    fn job(&self, id: JobId) -> Option<JobRecord> {
        self.change(|held| held.jobs.get(&id).cloned())
    }

    fn agents(&self) -> Vec<AgentRecord> {
        self.change(|held| held.agents.clone())
    }

    fn users(&self) -> Vec<UserRecord> {
        self.change(|held| held.users.clone())
    }

    fn actions(&self, before: Option<u64>, limit: usize) -> Vec<ActionRecord> {
        let older = |action: &&ActionRecord| before.is_none_or(|before| action.id < before);
        self.change(|held| held.actions.iter().rev().filter(older).take(limit).cloned().collect())
    }

    fn log(&self, key: JobKey) -> io::Result<StoredLog> {
        let log = self.change(|held| held.logs.get(&key).cloned()).ok_or(io::ErrorKind::NotFound)?;
        let length = log.0.lock().unwrap().len() as u64;
        Ok(StoredLog { reader: Box::new(LogReader(log, 0)), length })
    }

    fn artifact(&self, key: JobKey, stream: u16) -> io::Result<File> {
        File::open(self.change(|held| held.files.get(&(key, stream)).cloned()).ok_or(io::ErrorKind::NotFound)?)
    }
}

pub fn user(name: &str, token: &str) -> UserRecord {
    UserRecord { name: name.to_string(), token_sha256: digest_hex(token), added_at: 0, revoked: false, powers: None }
}

pub fn event(id: EventId, repository: &str, subject: &str, at: u64) -> EventRecord {
    EventRecord {
        id,
        repository: repository.to_string(),
        url: format!("https://git.example/{repository}"),
        reference: "refs/heads/main".to_string(),
        revision: format!("{:040x}", u128::from(id) * 0x1234_5678_9abc_def0_1234_5678),
        subject: subject.to_string(),
        author: "Ann Author".to_string(),
        source: Source::Hook,
        at,
        errors: Vec::new(),
        warnings: Vec::new(),
        first_job: id * 1000,
        jobs: 0,
    }
}

pub fn job(event: &EventRecord, index: u64, platform: &str, configuration: &str, state: JobState) -> JobRecord {
    let begun = !matches!(state, JobState::Queued | JobState::Expired);
    JobRecord {
        platform: platform.to_string(),
        configuration: configuration.to_string(),
        state,
        attempt: u32::from(begun),
        agent: begun.then(|| format!("rock-{}", index % 5)),
        assigned_at: begun.then_some(event.at + 500),
        started_at: (begun && state != JobState::Assigned).then_some(event.at + 900 + index * 200),
        ended_at: state.ended().then_some(event.at + 40_000 + index * 977),
        steps: 2,
        ..JobRecord::queued(event.first_job + index, event.id, &event.repository, event.at)
    }
}
