//! The edge of the master's store: what the shipped machine of flushes says → files that are durable, compared, packed; a disk
//! that fails.

use super::disk::File;
use super::room::Operation;
use super::supervisor::digest;
use super::{Bug, Event, Outcome, World};
use sai_core::flushes::{self, Flushes, Name};
use sai_core::hub::Input;
use sai_core::job::JobKey;
use sai_core::limits::Millis;
use sai_core::record::Artifact;
use std::collections::{BTreeMap, VecDeque};

/// Files a process keeps open: few, so that many are closed.
const OPEN_FILES: usize = 3;
/// Flushes of a thousand that fail while there is trouble.
const FAILING: u64 = 4;

/// What the master's process holds of its files.
#[derive(Default)]
pub(super) struct Store {
    flushes: Flushes,
    /// What it is still to be told.
    asked: VecDeque<flushes::Input>,
    /// Whether it is being told.
    working: bool,
    open: VecDeque<Name>,
    digests: BTreeMap<Name, String>,
    /// What is still to be done with the files.
    pub(super) wanted: VecDeque<Operation>,
    pub(super) tick: Option<Millis>,
}

impl Store {
    pub(super) fn ask(&mut self, input: flushes::Input) {
        self.asked.push_back(input);
    }

    /// Whether all of it is durable and nobody waits for that.
    pub(super) fn is_idle(&self) -> bool {
        self.flushes.is_idle() && self.wanted.is_empty()
    }

    /// When its machine wants to hear of the time.
    pub(super) fn deadline(&self) -> Option<Millis> {
        self.flushes.deadline()
    }

    /// As a file is opened, which may close another.
    fn open(&mut self, name: Name, length: u64) {
        if !self.open.contains(&name) {
            self.open.push_back(name);
            if self.open.len() > OPEN_FILES
                && let Some(oldest) = self.open.pop_front()
            {
                self.ask(flushes::Input::Closed(oldest));
            }
        }
        self.ask(flushes::Input::Opened(name, length));
    }
}

impl World {
    /// Bytes are in a file, from this offset on.
    pub(super) fn appended(&mut self, name: Name, offset: u64, length: u64) {
        self.master.store.open(name, offset);
        self.master.store.ask(flushes::Input::Appended(name, length));
    }

    /// A file is complete. There is one without bytes only if there are to be none.
    pub(super) fn seal(&mut self, key: JobKey, artifact: Artifact, follow: &mut Vec<Input>) {
        let name = (key, artifact.stream);
        if artifact.size > 0 && !self.master.files.0.contains_key(&name) {
            follow.push(Input::Sealed(key, artifact.stream, false));
            return;
        }
        let length = self.master.files.0.entry(name).or_default().bytes.len() as u64;
        self.master.store.digests.insert(name, artifact.sha256);
        self.master.store.open(name, length);
        self.master.store.ask(flushes::Input::Seal(name, artifact.size));
    }

    /// Tells the machine all there is to be told, and what comes of that.
    pub(super) fn work_store(&mut self) -> Outcome {
        if std::mem::replace(&mut self.master.store.working, true) {
            return Ok(());
        }
        loop {
            while let Some(input) = self.master.store.asked.pop_front() {
                let mut out = Vec::new();
                self.master.store.flushes.handle(self.now, input, &mut out);
                for output in out {
                    self.carry_out(output)?;
                }
            }
            if !self.write_next()? {
                break;
            }
        }
        self.master.store.working = false;
        self.arm_store();
        Ok(())
    }

    fn carry_out(&mut self, output: flushes::Output) -> Outcome {
        let boot = self.master.boot;
        match output {
            flushes::Output::Flush { name: (key, stream), length, .. } => {
                let wait = self.random.between(1, self.master.slow);
                self.after(wait, Event::Flushed(boot, key, stream, length as usize));
            }
            flushes::Output::Durable((key, stream), length) => self.hub(Input::Flushed(key, stream, length))?,
            flushes::Output::Compare((key, stream)) => {
                let wait = self.random.between(1, 50);
                self.after(wait, Event::Compared(boot, key, stream));
            }
            flushes::Output::Sealed((key, stream), Some(equal)) => self.hub(Input::Sealed(key, stream, equal))?,
            flushes::Output::Sealed((key, _), None) => self.unwritable(key)?,
            flushes::Output::Pack(key, _) => self.pack(key)?,
            flushes::Output::CutBack(name, durable) => {
                if let Some(file) = self.master.files.0.get_mut(&name) {
                    file.bytes.truncate(durable as usize);
                }
                self.unwritable(name.0)?;
            }
            flushes::Output::Forget(name) => {
                self.master.store.digests.remove(&name);
                self.master.store.open.retain(|open| *open != name);
            }
            flushes::Output::Bug(what) => return self.contradicted(what),
        }
        Ok(())
    }

    fn unwritable(&mut self, key: JobKey) -> Outcome {
        self.hub(Input::Unwritable(key, "the disk fails".to_string()))
    }

    /// A log as it is packed: from then on nothing makes more of it durable.
    pub(super) fn pack(&mut self, key: JobKey) -> Outcome {
        let empty = File::default();
        let log = self.master.files.0.get(&(key, 0)).unwrap_or(&empty);
        if log.flushed < log.bytes.len() {
            let seen = format!("of {key} {} bytes are packed, {} are durable", log.bytes.len(), log.flushed);
            return self.broken("durable packs", seen);
        }
        self.summary.packs += 1;
        Ok(())
    }

    pub(super) fn store_tick(&mut self, boot: u64) -> Outcome {
        if boot != self.master.boot || self.master.store.tick.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        self.master.store.tick = None;
        if self.master.store.deadline().is_some_and(|due| due <= self.now) {
            self.master.store.ask(flushes::Input::Tick);
        }
        self.look_at_disk()?;
        self.work_store()
    }

    /// A flush ends.
    pub(super) fn flushed(&mut self, boot: u64, key: JobKey, stream: u16, length: usize) -> Outcome {
        if boot != self.master.boot {
            return Ok(());
        }
        let good = self.calm.is_some() || !self.random.chance(FAILING);
        if good && let Some(file) = self.master.files.0.get_mut(&(key, stream)) {
            file.flushed = file.flushed.max(length.min(file.bytes.len()));
        }
        self.summary.failed_flushes += u64::from(!good);
        self.master.store.ask(flushes::Input::Flushed((key, stream), length as u64, good));
        self.work_store()
    }

    /// A comparison ends.
    pub(super) fn compared(&mut self, boot: u64, key: JobKey, stream: u16) -> Outcome {
        if boot != self.master.boot {
            return Ok(());
        }
        let empty = File::default();
        let file = self.master.files.0.get(&(key, stream)).unwrap_or(&empty);
        let equal = self.master.store.digests.get(&(key, stream)).is_some_and(|wanted| digest(&file.bytes) == *wanted);
        let equal = equal || self.bug == Some(Bug::VerdictBeforeArtifacts);
        self.master.store.ask(flushes::Input::Compared((key, stream), Some(equal)));
        self.work_store()
    }
}
