//! What is kept → what pages read of it.

use crate::store::Reader;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, UserRecord};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};

/// A stored log, opened.
pub struct StoredLog {
    /// Reads it from its first byte; of a log that still grows, later reads give what came in the meantime.
    pub reader: Box<dyn Read + Send>,
    /// Its bytes when it was opened.
    pub length: u64,
}

/// What is kept: records, logs and artifacts. The store's reader is one.
pub trait Archive: Send + Sync {
    /// Events, newest first, older than `before` if given.
    fn events(&self, before: Option<EventId>, repository: Option<&str>, limit: usize) -> Vec<EventRecord>;
    /// One event.
    fn event(&self, id: EventId) -> Option<EventRecord>;
    /// An event's jobs, in matrix order.
    fn jobs(&self, event: EventId) -> Vec<JobRecord>;
    /// One job.
    fn job(&self, id: JobId) -> Option<JobRecord>;
    /// Agents that may join, and those that may no more.
    fn agents(&self) -> Vec<AgentRecord>;
    /// People who may act.
    fn users(&self) -> Vec<UserRecord>;
    /// What people did, newest first, of numbers below `before`.
    fn actions(&self, before: Option<u64>, limit: usize) -> Vec<ActionRecord>;
    /// The log of an attempt.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    fn log(&self, key: JobKey) -> io::Result<StoredLog>;
    /// The same, to be read from this byte on; its length is that of all of it.
    ///
    /// # Errors
    /// As those of [`Archive::log`], or what is before cannot be read.
    fn log_from(&self, key: JobKey, from: u64) -> io::Result<StoredLog> {
        let mut log = self.log(key)?;
        io::copy(&mut (&mut log.reader).take(from), &mut io::sink())?;
        Ok(log)
    }
    /// What somebody has sent for an event.
    ///
    /// # Errors
    /// There is nothing, or it cannot be opened.
    fn bundle(&self, event: EventId) -> io::Result<File> {
        let _ = event;
        Err(io::ErrorKind::NotFound.into())
    }
    /// A file of an attempt, by its stream number.
    ///
    /// # Errors
    /// There is none, or it cannot be opened.
    fn artifact(&self, key: JobKey, stream: u16) -> io::Result<File>;
}

impl Archive for Reader {
    fn events(&self, before: Option<EventId>, repository: Option<&str>, limit: usize) -> Vec<EventRecord> {
        self.events(before, repository, limit)
    }

    fn event(&self, id: EventId) -> Option<EventRecord> {
        self.event(id)
    }

    fn jobs(&self, event: EventId) -> Vec<JobRecord> {
        self.jobs(event)
    }

    fn job(&self, id: JobId) -> Option<JobRecord> {
        self.job(id)
    }

    fn agents(&self) -> Vec<AgentRecord> {
        self.agents()
    }

    fn users(&self) -> Vec<UserRecord> {
        self.users()
    }

    fn actions(&self, before: Option<u64>, limit: usize) -> Vec<ActionRecord> {
        self.actions(before, limit)
    }

    fn log(&self, key: JobKey) -> io::Result<StoredLog> {
        let log = self.log(key)?;
        Ok(StoredLog { length: log.length(), reader: Box::new(log) })
    }

    fn log_from(&self, key: JobKey, from: u64) -> io::Result<StoredLog> {
        let mut log = self.log(key)?;
        log.seek(SeekFrom::Start(from))?;
        Ok(StoredLog { length: log.length(), reader: Box::new(log) })
    }

    fn bundle(&self, event: EventId) -> io::Result<File> {
        File::open(self.bundle_path(event))
    }

    fn artifact(&self, key: JobKey, stream: u16) -> io::Result<File> {
        self.artifact(key, stream)
    }
}
