//! Change → durable line and record in the index, and key → record: the small records, committed in groups.
//!
//! A group is durable when the journal has it; then the index takes it in, so that who is told of it can read it. The
//! index may fail where the journal does not (sled needs more room): then it is behind until there is room, and no more.

use super::index::{Filling, Index, Trouble, Writes};
use super::journal::{self, Journal, SEGMENT_BYTES, snapshot};
use super::keys::{self, Kind, RECORDS, parse};
use super::lost::Lost;
use super::paths::{free_bytes, is_full};
use super::recover::recover;
use super::{Change, StoreError, carried, unknown};
use miniserde::Deserialize;
use sai_core::job::{EventId, JobKey};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::numbers::Numbers;
use sai_core::ordered::Map;
use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Bytes set aside on disk so that records can still be written when everything else has filled it: thousands of groups.
pub(super) const RESERVE_BYTES: u64 = 8 << 20;
/// The reserve is given up when less than this is free: sled grows by segments of 512 KiB, and opening it anew
/// writes a snapshot.
const FLOOR_BYTES: u64 = 4 << 20;
/// The reserve is made (again) when this much is free.
const AMPLE_BYTES: u64 = 4 * RESERVE_BYTES;

/// What a group of changes comes to.
#[derive(Debug)]
pub(super) struct Staged {
    /// The lines to write; those are none that a later one has replaced.
    lines: Vec<Option<String>>,
    /// Where the last line of a record is.
    places: Map<(usize, Vec<u8>), usize>,
    writes: Writes,
    /// Events deleted by it and the attempts of their jobs, whose files may go once this is durable.
    pub deleted: Vec<(EventId, Vec<JobKey>)>,
    numbers: Numbers,
}

impl Staged {
    fn new(numbers: Numbers) -> Self {
        Self { lines: Vec::new(), places: Map::new(), writes: Writes::new(), deleted: Vec::new(), numbers }
    }

    fn add(&mut self, line: String) {
        let (writes, mut put) = (&mut self.writes, None);
        keys::index(&line, &mut self.numbers, &mut |kind, key, value| {
            if value.is_some() && RECORDS.contains(&kind) {
                put = Some((kind as usize, key.clone()));
            }
            writes.insert((kind as usize, key), value);
        });
        if let Some(key) = put
            && let Some(place) = self.places.insert(key, self.lines.len())
            && let Some(earlier) = self.lines.get_mut(place)
        {
            *earlier = None;
        }
        self.lines.push(Some(line));
    }
}

/// The records on disk. Reading is for any thread; writing for the one thread that commits.
pub(super) struct Ledger {
    state: PathBuf,
    pub index: Index,
    journal: Mutex<Journal>,
    numbers: Mutex<Numbers>,
    /// Whether the index lacks lines that the journal has.
    behind: AtomicBool,
    /// Bytes of the newest snapshot: as many are written to a segment before the next one is made.
    snapshot_bytes: Arc<AtomicU64>,
    compaction: Mutex<Option<JoinHandle<()>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// Opens the ledger under `state`, which the caller has locked. What there is to say of damage is added to `told`.
    pub(super) fn open(state: &Path, lost: &mut Lost, told: &mut Vec<String>) -> Result<Self, StoreError> {
        let recovered = recover(state, lost, told)?;
        let ledger = Self {
            state: state.to_path_buf(),
            index: recovered.index,
            journal: Mutex::new(recovered.journal),
            numbers: Mutex::new(recovered.numbers),
            behind: AtomicBool::new(false),
            snapshot_bytes: Arc::new(AtomicU64::new(recovered.snapshot_bytes)),
            compaction: Mutex::new(None),
        };
        ledger.keep_reserve();
        Ok(ledger)
    }

    /// The numbers that the next event, job and action get.
    pub(super) fn numbers(&self) -> Numbers {
        *locked(&self.numbers)
    }

    /// Bytes of the ledger on disk.
    pub(super) fn size(&self) -> u64 {
        let files = fs::read_dir(journal::directory(&self.state)).into_iter().flatten().flatten();
        let journal: u64 = files.map(|entry| entry.metadata().map_or(0, |file| file.len())).sum();
        journal + self.index.size()
    }

    /// Whether nothing was lost of it.
    pub(super) fn is_whole(&self) -> Result<bool, StoreError> {
        self.index.is_empty(Kind::Damage)
    }

    /// Lets go of the files. Reads find nothing from now on.
    pub(super) fn close(&self) {
        if let Some(thread) = locked(&self.compaction).take() {
            let _ = thread.join();
        }
        self.index.close();
    }

    // --- Staging -----------------------------------------------------------------------------------------------

    /// Works out what a group of changes writes and deletes.
    pub(super) fn stage<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) -> Result<Staged, StoreError> {
        let mut staged = Staged::new(self.numbers());
        for change in changes {
            match change {
                Change::DeleteEvent(id) => self.stage_deletion(*id, &mut staged)?,
                change => {
                    if let Some(line) = keys::line(change) {
                        staged.add(self.with_the_unknown(&staged, change, line)?);
                    }
                }
            }
        }
        Ok(staged)
    }

    /// A record's line with what the one before has of a later version's.
    fn with_the_unknown(&self, staged: &Staged, change: &Change, line: String) -> Result<String, StoreError> {
        let Some((kind, key)) = keys::place(change) else { return Ok(line) };
        let place = (kind as usize, key);
        let old = match staged.writes.get(&place) {
            Some(staged) => staged.clone(),
            // Of an index that is closed for want of room nothing is found, and nothing is kept of it.
            None => self.index.get(kind, &place.1)?,
        };
        let kept = old.as_deref().and_then(|old| std::str::from_utf8(old).ok()).map(|old| unknown::kept(old, &line));
        Ok(match kept {
            Some(Cow::Owned(kept)) => kept,
            _ => line,
        })
    }

    /// The record as this group will leave it.
    fn staged<T: Deserialize>(&self, staged: &Staged, kind: Kind, id: u64) -> Result<Option<T>, StoreError> {
        let key = id.to_be_bytes();
        match staged.writes.get(&(kind as usize, key.to_vec())) {
            Some(Some(bytes)) => parse(kind, &key, bytes).map(Some),
            Some(None) => Ok(None),
            None => self.index.record(kind, id),
        }
    }

    fn stage_deletion(&self, id: EventId, staged: &mut Staged) -> Result<(), StoreError> {
        let Some(event) = self.staged::<EventRecord>(staged, Kind::Event, id)? else { return Ok(()) };
        let mut keys = Vec::new();
        for job in event.first_job..event.first_job.saturating_add(u64::from(event.jobs)) {
            if let Some(record) = self.staged::<JobRecord>(staged, Kind::Job, job)? {
                keys.extend((1..=record.attempt).map(|attempt| JobKey { job, attempt }));
            }
        }
        staged.add(keys::line_of_deletion(&event));
        staged.deleted.push((id, keys));
        Ok(())
    }

    /// What says that the files of these events are durable.
    pub(super) fn staged_durable(&self, events: &[EventId]) -> Staged {
        let mut staged = Staged::new(self.numbers());
        events.iter().for_each(|event| staged.add(carried::line_of_durable(*event)));
        staged
    }

    /// Stages the deletion of actions numbered below `before`.
    pub(super) fn stage_old_actions(&self, before: u64, limit: usize, staged: &mut Staged) -> Result<(), StoreError> {
        let old = self.index.oldest(Kind::Action, before, limit)?;
        if let (Some(first), Some(last)) = (old.first(), old.last()) {
            staged.add(keys::line_of_old_actions(*first, last.saturating_add(1)));
        }
        Ok(())
    }

    // --- Writing -----------------------------------------------------------------------------------------------

    /// Makes the index ready for a group that is decided by what is in it. On a full disk it waits for room, see `commit`.
    pub(super) fn catch_up(&self, wait: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        loop {
            match self.mend() {
                Ok(()) => return Ok(()),
                Err(Trouble::Other(error)) => return Err(error),
                Err(Trouble::Full) if self.give_up_reserve() || wait() => {}
                Err(Trouble::Full) => return Err(StoreError::Full),
            }
        }
    }

    /// Writes a staged group, all of it or nothing, and returns when it is durable. On a full disk it waits for room:
    /// `wait` is called between tries and says whether to go on.
    pub(super) fn commit(&self, staged: &Staged, wait: &mut dyn FnMut() -> bool) -> Result<(), StoreError> {
        let lines: Vec<&str> = staged.lines.iter().flatten().map(String::as_str).collect();
        if lines.is_empty() {
            return Ok(());
        }
        self.keep_reserve();
        let (last, check) = loop {
            let mut journal = locked(&self.journal);
            let error = match journal.append(lines.iter().copied()) {
                Ok(()) => break (journal.last(), journal.check()),
                Err(error) => error,
            };
            drop(journal);
            if !is_full(&error) {
                return Err(StoreError::Ledger(format!("its journal cannot be written: {error}")));
            }
            // Either the reserve makes room at once, or whoever filled the disk must.
            if !self.give_up_reserve() && !wait() {
                return Err(StoreError::Full);
            }
        };
        *locked(&self.numbers) = staged.numbers;
        let taken = if self.behind.load(Ordering::Relaxed) {
            self.mend()
        } else {
            self.index.apply(last, check, staged.numbers, &staged.writes)
        };
        if let Err(Trouble::Full) = taken {
            // Durable it is. One more try with what the reserve leaves; else a later commit brings the index up.
            self.behind.store(true, Ordering::Relaxed);
            self.give_up_reserve();
        }
        match (taken, self.mend()) {
            (Err(Trouble::Other(error)), _) | (_, Err(Trouble::Other(error))) => return Err(error),
            _ => {}
        }
        self.turn(staged.numbers);
        Ok(())
    }

    /// Brings the index up to the journal, if it is behind.
    fn mend(&self) -> Result<(), Trouble> {
        if !self.behind.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.index.reopen(&self.state)?;
        let journal = locked(&self.journal);
        let mut filling = Filling::new(&self.index);
        let mut result = Ok(());
        let read = journal.since(self.index.mark().line, &mut |line, text| {
            if result.is_ok() {
                result = filling.take(line, text);
            }
        });
        result?;
        read.map_err(|error| Trouble::Other(StoreError::Ledger(format!("its journal cannot be read: {error}"))))?;
        filling.finish(journal.last(), self.numbers())?;
        self.behind.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Begins a new segment when the open one is as long as the last snapshot, and has a snapshot made beside.
    fn turn(&self, numbers: Numbers) {
        let mut journal = locked(&self.journal);
        let mut compaction = locked(&self.compaction);
        let enough = SEGMENT_BYTES.max(self.snapshot_bytes.load(Ordering::Relaxed));
        if journal.length() < enough || compaction.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        // Without room the open segment goes on.
        let Ok(last) = journal.turn() else { return };
        let (directory, bytes) = (journal::directory(&self.state), Arc::clone(&self.snapshot_bytes));
        let make = move || match snapshot::compact(&directory, last, numbers) {
            Ok(made) => bytes.store(made, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                crate::say(&format!("the journal: {error}; nothing is lost yet, and the next start makes it whole"));
            }
            // A full disk: the next segment's end is the next time.
            Err(_) => {}
        };
        *compaction = std::thread::Builder::new().name("sai-snapshot".to_string()).spawn(make).ok();
    }

    fn reserve(&self) -> PathBuf {
        self.state.join("reserve")
    }

    pub(super) fn give_up_reserve(&self) -> bool {
        fs::remove_file(self.reserve()).is_ok()
    }

    /// Gives the reserve up when the disk is nearly full, before sled meets the end, and makes it when there is room.
    fn keep_reserve(&self) {
        let (Ok(free), path) = (free_bytes(&self.state), self.reserve()) else { return };
        if free < FLOOR_BYTES {
            // Missing is as good as removed; whatever else hinders it, the commit itself will meet.
            self.give_up_reserve();
        } else if free > AMPLE_BYTES && !path.exists() {
            let made = File::create(&path).and_then(|file| {
                let flags = rustix::fs::FallocateFlags::empty();
                rustix::fs::fallocate(&file, flags, 0, RESERVE_BYTES).map_err(Into::into)
            });
            if made.is_err() {
                // A file system without fallocate goes without a reserve.
                let _ = fs::remove_file(&path);
            }
        }
    }
}
