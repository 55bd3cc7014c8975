//! The master's disk without room: what the hub wants written → bytes in files, as the shipped machine of free space says.
//!
//! As in the master's writer all goes in its order, and only ends of attempts, which give room, pass what waits.

use super::store::Store;
use super::{Bug, Event, Outcome, World};
use sai_core::flushes;
use sai_core::hub::Input;
use sai_core::job::JobKey;
use sai_core::limits::Millis;
use sai_core::record::Artifact;
use sai_core::space::{self, Space};
use std::collections::VecDeque;

/// MiB below which a master starts no job.
const LOW_MIB: u64 = 512;
/// Bytes below which its streams wait.
const FLOOR: u64 = 64 << 20;
/// MiB that are free once somebody has filled the disk, or cleared it.
const FILLED_MIB: [u64; 4] = [10, LOW_MIB - 1, LOW_MIB, 2 * LOW_MIB];
/// Milliseconds after which a master has seen that its disk is full: the world looks each five seconds.
const SEEN_MS: Millis = 5_000 + space::LOOK_MS;

/// What the hub wants of the files.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Append { key: JobKey, stream: u16, offset: u64, bytes: Vec<u8> },
    Seal(JobKey, Artifact),
    Flush(JobKey),
    Finish(JobKey),
}

/// The disk of the master's machine, and what its process knows of that.
pub(super) struct Disk {
    /// Bytes that are free.
    free: u64,
    /// Whether a quota leaves nothing of them.
    quota: bool,
    /// Since when there is too little to start a job.
    low_since: Option<Millis>,
    /// Since when there is too little to write to a stream.
    below_since: Option<Millis>,
    space: Space,
}

impl Default for Disk {
    fn default() -> Self {
        let space = Space::new(LOW_MIB, FLOOR);
        Self { free: u64::MAX, quota: false, low_since: None, below_since: None, space }
    }
}

impl Disk {
    fn fill(&mut self, now: Millis, free: u64, quota: bool) {
        (self.free, self.quota) = (free, quota);
        let since = |too_little: bool, since: Option<Millis>| since.or(Some(now)).filter(|_| too_little);
        self.low_since = since(free < LOW_MIB << 20, self.low_since);
        self.below_since = since(free < FLOOR, self.below_since);
    }

    /// When a write is to be tried again.
    pub(super) fn waits_until(&self) -> Option<Millis> {
        self.space.waits_until()
    }
}

impl Store {
    pub(super) fn want(&mut self, operation: Operation) {
        if let Operation::Finish(key) = &operation {
            self.wanted.retain(|wanted| match wanted {
                Operation::Append { key: other, .. } | Operation::Seal(other, _) => other != key,
                Operation::Flush(_) | Operation::Finish(_) => true,
            });
        }
        self.wanted.push_back(operation);
    }

    /// What is done next, if anything may be.
    fn next(&mut self, waits: bool) -> Option<Operation> {
        if !waits {
            return self.wanted.pop_front();
        }
        let place = self.wanted.iter().position(|operation| matches!(operation, Operation::Finish(_)))?;
        self.wanted.remove(place)
    }
}

impl World {
    /// Somebody fills the master's disk, or clears it.
    pub(super) fn fill_disk(&mut self) {
        let quota = self.random.chance(200);
        let mib = self.random.pick(&FILLED_MIB).unwrap_or(LOW_MIB);
        let now = self.moment().steady;
        self.master.disk.fill(now, if quota { u64::MAX } else { mib << 20 }, quota);
    }

    /// Somebody clears it for good.
    pub(super) fn clear_disk(&mut self) -> Outcome {
        let now = self.moment().steady;
        self.master.disk.fill(now, u64::MAX, false);
        self.look_at_disk()
    }

    /// A new process knows nothing of it.
    pub(super) fn start_looking(&mut self) -> Outcome {
        self.master.disk.space = Space::new(LOW_MIB, FLOOR);
        self.look_at_disk()
    }

    /// As each second, the master looks how much is free.
    pub(super) fn look_at_disk(&mut self) -> Outcome {
        self.measure(space::Input::Tick).map(|_| ())
    }

    /// Whether jobs may not be started any more, so that the master must have seen it.
    pub(super) fn is_long_low(&self) -> bool {
        let since = self.master.disk.low_since;
        since.is_some_and(|since| self.moment().steady.saturating_sub(since) > SEEN_MS)
    }

    /// Tells the shipped machine, and carries out what it says. Whether what is wanted may be written.
    fn measure(&mut self, input: space::Input) -> Outcome<bool> {
        let mut inputs = VecDeque::from([input]);
        let mut may_write = false;
        while let Some(input) = inputs.pop_front() {
            let mut said = Vec::new();
            self.master.disk.space.handle(self.now, input, &mut said);
            for output in said {
                match output {
                    space::Output::Look => {
                        let free = (self.bug != Some(Bug::DiskUnseen)).then_some(self.master.disk.free);
                        inputs.push_back(space::Input::Looked(free));
                    }
                    space::Output::Write => may_write = true,
                    space::Output::Wait if self.bug == Some(Bug::FloorUnheeded) => may_write = true,
                    space::Output::Wait => self.summary.waits_for_room += 1,
                    space::Output::Low(free) => {
                        self.summary.low_disks += 1;
                        self.hub(Input::Hold(Some(format!("{free} MiB are free"))))?;
                    }
                    space::Output::Enough => self.hub(Input::Hold(None))?,
                }
            }
        }
        Ok(may_write)
    }

    /// Does what the hub wants of the files, as far as there is room. Whether anything was done.
    pub(super) fn write_next(&mut self) -> Outcome<bool> {
        // Where it is heeded that nothing is written now, only ends of attempts are looked for.
        let waits = self.master.disk.waits_until().is_some() && self.bug != Some(Bug::FloorUnheeded);
        let Some(operation) = self.master.store.next(waits) else { return Ok(false) };
        let mut follow = Vec::new();
        match operation {
            Operation::Append { key, stream, offset, bytes } => {
                if !self.measure(space::Input::Wanted(bytes.len() as u64))? {
                    let rest = Operation::Append { key, stream, offset, bytes };
                    self.master.store.wanted.push_front(rest);
                    return Ok(false);
                }
                // Behind a quota perhaps the file's last page has room for a little.
                let length = bytes.len() as u64;
                // Who does not heed that there is none would write nothing in one moment for ever.
                let most = length.min(4096) + u64::from(self.bug == Some(Bug::FloorUnheeded));
                let room = if self.master.disk.quota { self.random.below(most) } else { length } as usize;
                let (now, later) = bytes.split_at(room.min(bytes.len()));
                self.append(key, stream, offset, now, &mut follow)?;
                if !later.is_empty() {
                    let (offset, bytes) = (offset + now.len() as u64, later.to_vec());
                    self.master.store.wanted.push_front(Operation::Append { key, stream, offset, bytes });
                    self.summary.waits_for_room += 1;
                    self.measure(space::Input::Full)?;
                }
            }
            Operation::Seal(key, artifact) => {
                self.summary.seals += 1;
                self.seal(key, artifact, &mut follow);
            }
            Operation::Flush(key) => {
                if self.bug == Some(Bug::VerdictBeforeArtifacts) {
                    self.pretend_complete(key, &mut follow);
                }
                self.master.store.ask(flushes::Input::Hurry(key));
            }
            Operation::Finish(key) => self.master.store.ask(flushes::Input::Finish(key, true)),
        }
        for input in follow {
            self.hub(input)?;
        }
        Ok(true)
    }

    /// Bytes reach a file.
    fn append(&mut self, key: JobKey, stream: u16, offset: u64, bytes: &[u8], follow: &mut Vec<Input>) -> Outcome {
        let below = self.master.disk.below_since;
        if below.is_some_and(|since| self.moment().steady.saturating_sub(since) > SEEN_MS) {
            return self.broken("room for records", format!("{key} stream {stream} grows below the floor"));
        }
        let file = self.master.files.0.entry((key, stream)).or_default();
        if file.bytes.len() as u64 != offset {
            let length = file.bytes.len();
            return self.broken("append", format!("{key} stream {stream} at {offset}, the file has {length}"));
        }
        file.bytes.extend_from_slice(bytes);
        let length = file.bytes.len() as u64;
        self.check_append(key, stream, offset as usize, bytes)?;
        if self.bug == Some(Bug::AckBeforeFlush) {
            follow.push(Input::Flushed(key, stream, length));
        }
        self.appended((key, stream), offset, length);
        Ok(())
    }

    /// When the store wants to be woken.
    pub(super) fn arm_store(&mut self) {
        let due = self.master.store.deadline().into_iter().chain(self.master.disk.waits_until()).min();
        if due != self.master.store.tick {
            self.master.store.tick = due;
            due.into_iter().for_each(|due| self.at(due, Event::StoreTick(self.master.boot)));
        }
    }
}
