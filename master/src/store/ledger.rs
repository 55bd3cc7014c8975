//! Change → durable record, and key → record: the small records, a tree for each kind, committed in groups.
//!
//! The only file that knows sled. What sled 0.34.7 does to those who lean on it, and what is done about it here:
//! - A `snap.N.generating` left by a crash makes it refuse the whole store: removed before it is opened.
//! - Its `flush` waits for the pages but not for the file's size and extents (`sync_file_range(2)` warns of it), so a
//!   power cut could take what was acknowledged: each group ends with an `fdatasync` of its file.
//! - After one failed write every call fails until it is opened anew: a full disk is met by giving up a reserve file,
//!   opening it anew and writing the same group again.
//! - It does not give space back: at start a ledger far larger than its records is written anew.

use super::files::{free_bytes, sync_directory};
use super::keys::{
    Kind, NAMES, NUMBERS, Numbers, index_key, number, parse, part_key, part_values, repository_hash, tip_key,
};
use super::{Change, StoreError};
use miniserde::{Deserialize, Serialize, json};
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::ordered::Map;
use sled::Transactional;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// Bytes of pages sled keeps in memory: all the unfinished and the newest records many times over.
const CACHE_BYTES: u64 = 16 << 20;
/// How often sled's own thread looks for segments to clean, milliseconds. Durability does not hang on it.
const CLEAN_EVERY_MS: u64 = 500;
/// Bytes set aside on disk so that records can still be written when everything else has filled it: some thousand groups.
pub(super) const RESERVE_BYTES: u64 = 8 << 20;
/// The reserve is given up when less than this is free: sled grows by segments of 512 KiB, and starting it anew
/// writes a snapshot.
const FLOOR_BYTES: u64 = 4 << 20;
/// The reserve is made (again) when this much is free.
const AMPLE_BYTES: u64 = 4 * RESERVE_BYTES;
/// A ledger smaller than this is never written anew.
const COMPACT_BYTES: u64 = 32 << 20;
/// A ledger this many times larger than its records is written anew at start.
const COMPACT_TIMES: u64 = 8;
/// How long to wait for sled's background threads to let go of its lock after it was closed.
const REOPEN: Duration = Duration::from_secs(5);
/// Records read under one lock, so that a long export does not hold up commits.
const PAGE: usize = 256;

/// What a group of changes comes to: the last word on each key.
#[derive(Debug)]
pub(super) struct Staged {
    writes: Map<(usize, Vec<u8>), Option<Vec<u8>>>,
    /// Events deleted by it and the attempts of their jobs, whose files may go once this is durable.
    pub deleted: Vec<(EventId, Vec<JobKey>)>,
    numbers: Numbers,
}

impl Staged {
    fn put(&mut self, kind: Kind, key: &[u8], value: Option<Vec<u8>>) {
        self.writes.insert((kind as usize, key.to_vec()), value);
    }

    fn json<T: Serialize>(&mut self, kind: Kind, key: &[u8], record: &T) {
        self.put(kind, key, Some(json::to_string(record).into_bytes()));
    }
}

/// A key and its new value; none: no longer any.
type Write = (Vec<u8>, Option<Vec<u8>>);

struct Trees {
    db: sled::Db,
    list: Vec<sled::Tree>,
    file: File,
}

/// Why a group could not be written.
enum Trouble {
    Full,
    Other(StoreError),
}

fn trouble(error: &sled::Error) -> Trouble {
    match error {
        sled::Error::Io(error) if is_full(error) => Trouble::Full,
        error => Trouble::Other(StoreError::Ledger(error.to_string())),
    }
}

/// Whether an error means that there is no room, for everybody or for this user.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The records on disk. Reading is for any thread; writing for the one thread that commits.
pub(super) struct Ledger {
    state: PathBuf,
    directory: PathBuf,
    trees: RwLock<Option<Trees>>,
    numbers: Mutex<Numbers>,
}

impl Ledger {
    /// Opens or makes the ledger under `state`, which the caller has locked.
    pub(super) fn open(state: &Path) -> Result<Self, StoreError> {
        let directory = state.join("ledger");
        finish_swap(state)?;
        let mut trees = open_trees(&directory)?;
        if wasteful(&trees)? {
            trees = compact(state, trees)?;
        }
        let ledger = Self {
            state: state.to_path_buf(),
            directory,
            trees: RwLock::new(Some(trees)),
            numbers: Mutex::new(Numbers { event: 1, job: 1, action: 1 }),
        };
        let mut numbers = Numbers { event: 1, job: 1, action: 1 };
        if let Some(bytes) = ledger.get(Kind::Mark, NUMBERS)? {
            numbers.at_least(Numbers::from_bytes(&bytes).ok_or(StoreError::Record {
                kind: NAMES[Kind::Mark as usize],
                key: NUMBERS.escape_ascii().to_string(),
            })?);
        }
        let after =
            |kind| -> Result<u64, StoreError> { Ok(ledger.last(kind)?.map_or(1, |number| number.saturating_add(1))) };
        numbers.at_least(Numbers { event: after(Kind::Event)?, job: after(Kind::Job)?, action: after(Kind::Action)? });
        *ledger.lock_numbers() = numbers;
        ledger.keep_reserve();
        Ok(ledger)
    }

    /// Makes an empty ledger beside the one of `state`, to be filled and then taken by [`Ledger::take_place`].
    pub(super) fn make_beside(state: &Path) -> Result<Self, StoreError> {
        finish_swap(state)?;
        let directory = state.join("ledger.new");
        let trees = open_trees(&directory)?;
        let numbers = Mutex::new(Numbers { event: 1, job: 1, action: 1 });
        Ok(Self { state: state.to_path_buf(), directory, trees: RwLock::new(Some(trees)), numbers })
    }

    /// Puts a ledger made beside in the place of the one of `state`.
    pub(super) fn take_place(self) -> Result<(), StoreError> {
        self.close();
        drop(self.trees);
        swap(&self.state)
    }

    /// Gives up a ledger made beside.
    pub(super) fn give_up(self) {
        self.close();
        // What cannot be removed now is removed at the next start.
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Whether it holds no record at all.
    pub(super) fn is_empty(&self) -> Result<bool, StoreError> {
        self.with(true, |trees| Ok(trees.list.iter().all(sled::Tree::is_empty)))
    }

    /// The numbers that the next event, job and action get.
    pub(super) fn numbers(&self) -> Numbers {
        *self.lock_numbers()
    }

    fn lock_numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the ledger on disk.
    pub(super) fn size(&self) -> u64 {
        self.with(0, |trees| trees.db.size_on_disk()).unwrap_or_default()
    }

    /// Lets go of the files. Reads find nothing from now on.
    pub(super) fn close(&self) {
        self.trees.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn guard(&self) -> RwLockReadGuard<'_, Option<Trees>> {
        self.trees.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, closed: T, read: impl FnOnce(&Trees) -> Result<T, sled::Error>) -> Result<T, StoreError> {
        match self.guard().as_ref() {
            Some(trees) => read(trees).map_err(|error| StoreError::Ledger(error.to_string())),
            None => Ok(closed),
        }
    }

    // --- Reading -----------------------------------------------------------------------------------------------

    /// The record under a key.
    pub(super) fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(None, |trees| assemble(trees, kind, key))
    }

    /// The record under a number.
    pub(super) fn record<T: Deserialize>(&self, kind: Kind, id: u64) -> Result<Option<T>, StoreError> {
        let key = id.to_be_bytes();
        self.get(kind, &key)?.map(|bytes| parse(kind, &key, &bytes)).transpose()
    }

    /// The record under a name.
    pub(super) fn named<T: Deserialize>(&self, kind: Kind, name: &str) -> Result<Option<T>, StoreError> {
        self.get(kind, name.as_bytes())?.map(|bytes| parse(kind, name.as_bytes(), &bytes)).transpose()
    }

    /// Whether there is a record under a number.
    pub(super) fn contains(&self, kind: Kind, id: u64) -> Result<bool, StoreError> {
        self.with(false, |trees| trees.list[kind as usize].contains_key(part_key(kind, &id.to_be_bytes(), 0)))
    }

    fn last(&self, kind: Kind) -> Result<Option<u64>, StoreError> {
        self.with(None, |trees| highest(&trees.list[kind as usize], &[], 0, u64::MAX))
    }

    /// At most `limit` records of a numbered kind with numbers in `from..to`, the highest first.
    pub(super) fn newest<T: Deserialize>(
        &self,
        kind: Kind,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<T>, StoreError> {
        let found = self.with(Vec::new(), |trees| {
            let (mut found, mut below) = (Vec::new(), to);
            while found.len() < limit
                && let Some(id) = highest(&trees.list[kind as usize], &[], from, below)?
            {
                below = id;
                let id = id.to_be_bytes();
                if let Some(bytes) = assemble(trees, kind, &id)? {
                    found.push((id, bytes));
                }
            }
            Ok(found)
        })?;
        found.iter().map(|(key, bytes)| parse(kind, key, bytes)).collect()
    }

    /// At most `limit` events of one repository with numbers below `before`, newest first.
    pub(super) fn events_of(
        &self,
        repository: &str,
        before: u64,
        limit: usize,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let hash = repository_hash(repository);
        let found = self.with(Vec::new(), |trees| {
            let (mut found, mut below) = (Vec::new(), before);
            while found.len() < limit
                && let Some(id) = highest(&trees.list[Kind::Repository as usize], &hash.to_be_bytes(), 0, below)?
            {
                below = id;
                let id = id.to_be_bytes();
                if let Some(bytes) = assemble(trees, Kind::Event, &id)? {
                    found.push((id, bytes));
                }
            }
            Ok(found)
        })?;
        let mut events = Vec::with_capacity(found.len());
        for (key, bytes) in found {
            let event: EventRecord = parse(Kind::Event, &key, &bytes)?;
            // Two names with the same 64 bits of SHA-256 would share an index range.
            if event.repository == repository {
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Every record of a kind in the order of the keys, as JSON, in pages between which commits may come.
    pub(super) fn each(
        &self,
        kind: Kind,
        mut record: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut from: Vec<u8> = Vec::new();
        loop {
            let page = self.with(Vec::new(), |trees| {
                let mut page = Vec::new();
                for key in trees.list[kind as usize].range(from.clone()..).keys() {
                    let key = key?;
                    if kind.parted() && key.get(8..) != Some(&[0, 0]) {
                        continue;
                    }
                    let key = if kind.parted() { key.get(..8).unwrap_or_default().to_vec() } else { key.to_vec() };
                    if let Some(bytes) = assemble(trees, kind, &key)? {
                        page.push((key, bytes));
                    }
                    if page.len() >= PAGE {
                        break;
                    }
                }
                Ok(page)
            })?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            // The least key after this record: past all its parts, or just longer than it.
            from = last.clone();
            from.extend_from_slice(if kind.parted() { &[0xff, 0xff, 0] } else { &[0] });
            for (key, bytes) in &page {
                record(key, bytes)?;
            }
        }
    }

    /// Every record of a kind, read.
    pub(super) fn all<T: Deserialize>(&self, kind: Kind) -> Result<Vec<T>, StoreError> {
        let mut records = Vec::new();
        self.each(kind, |key, bytes| {
            records.push(parse(kind, key, bytes)?);
            Ok(())
        })?;
        Ok(records)
    }

    /// The jobs that have not ended, in order.
    pub(super) fn unfinished(&self, from: JobId, to: JobId) -> Result<Vec<JobId>, StoreError> {
        let range = from.to_be_bytes().to_vec()..to.to_be_bytes().to_vec();
        if range.is_empty() {
            return Ok(Vec::new());
        }
        self.with(Vec::new(), |trees| {
            let keys = trees.list[Kind::Unfinished as usize].range(range).keys();
            keys.filter_map(|key| key.map(|key| number(&key)).transpose()).collect()
        })
    }

    // --- Writing -----------------------------------------------------------------------------------------------

    /// Works out what a group of changes writes and deletes.
    pub(super) fn stage<'a>(&self, changes: impl IntoIterator<Item = &'a Change>) -> Result<Staged, StoreError> {
        let mut staged = Staged { writes: Map::new(), deleted: Vec::new(), numbers: self.numbers() };
        for change in changes {
            match change {
                Change::Event(event) => {
                    staged.json(Kind::Event, &event.id.to_be_bytes(), event);
                    let index = index_key(repository_hash(&event.repository), event.id);
                    staged.put(Kind::Repository, &index, Some(Vec::new()));
                    staged.numbers.event = staged.numbers.event.max(event.id.saturating_add(1));
                    let jobs_end = event.first_job.saturating_add(u64::from(event.jobs));
                    staged.numbers.job = staged.numbers.job.max(jobs_end);
                }
                Change::Job(job) => {
                    staged.json(Kind::Job, &job.id.to_be_bytes(), job);
                    let unfinished = (!job.state.ended()).then(Vec::new);
                    staged.put(Kind::Unfinished, &job.id.to_be_bytes(), unfinished);
                    staged.numbers.job = staged.numbers.job.max(job.id.saturating_add(1));
                }
                Change::Agent(agent) => staged.json(Kind::Agent, agent.name.as_bytes(), agent),
                Change::User(user) => staged.json(Kind::User, user.name.as_bytes(), user),
                Change::Tip(tip) => staged.json(Kind::Tip, &tip_key(&tip.repository, &tip.reference), tip),
                Change::ForgetTip { repository, reference } => {
                    staged.put(Kind::Tip, &tip_key(repository, reference), None);
                }
                Change::Action(action) => {
                    staged.json(Kind::Action, &action.id.to_be_bytes(), action);
                    staged.numbers.action = staged.numbers.action.max(action.id.saturating_add(1));
                }
                Change::DeleteEvent(id) => self.stage_deletion(*id, &mut staged)?,
            }
        }
        Ok(staged)
    }

    /// The record as this group will leave it.
    fn staged<T: Deserialize>(&self, staged: &Staged, kind: Kind, id: u64) -> Result<Option<T>, StoreError> {
        let key = id.to_be_bytes();
        match staged.writes.get(&(kind as usize, key.to_vec())) {
            Some(Some(bytes)) => parse(kind, &key, bytes).map(Some),
            Some(None) => Ok(None),
            None => self.record(kind, id),
        }
    }

    fn stage_deletion(&self, id: EventId, staged: &mut Staged) -> Result<(), StoreError> {
        let Some(event) = self.staged::<EventRecord>(staged, Kind::Event, id)? else { return Ok(()) };
        let mut keys = Vec::new();
        for job in event.first_job..event.first_job.saturating_add(u64::from(event.jobs)) {
            if let Some(record) = self.staged::<JobRecord>(staged, Kind::Job, job)? {
                keys.extend((1..=record.attempt).map(|attempt| JobKey { job, attempt }));
            }
            staged.put(Kind::Job, &job.to_be_bytes(), None);
            staged.put(Kind::Unfinished, &job.to_be_bytes(), None);
        }
        staged.put(Kind::Repository, &index_key(repository_hash(&event.repository), id), None);
        staged.put(Kind::Event, &id.to_be_bytes(), None);
        let numbers = staged.numbers.bytes();
        staged.put(Kind::Mark, NUMBERS, Some(numbers));
        staged.deleted.push((id, keys));
        Ok(())
    }

    /// Stages the numbers themselves (an import knows them without the records).
    pub(super) fn stage_numbers(&self, numbers: Numbers, staged: &mut Staged) {
        staged.numbers.at_least(numbers);
        let bytes = staged.numbers.bytes();
        staged.put(Kind::Mark, NUMBERS, Some(bytes));
    }

    /// Stages the deletion of actions numbered below `before`.
    pub(super) fn stage_old_actions(&self, before: u64, limit: usize, staged: &mut Staged) -> Result<(), StoreError> {
        let keys = self.with(Vec::new(), |trees| {
            let range = ..before.to_be_bytes().to_vec();
            trees.list[Kind::Action as usize].range(range).keys().take(limit).collect::<Result<Vec<_>, _>>()
        })?;
        for key in keys {
            staged.put(Kind::Action, &key, None);
        }
        Ok(())
    }

    /// Writes a staged group, all of it or nothing, and returns when it is durable. On a full disk it waits for room:
    /// `wait` is called between tries and says whether to go on.
    pub(super) fn commit(&self, staged: &Staged, mut wait: impl FnMut() -> bool) -> Result<(), StoreError> {
        if staged.writes.is_empty() {
            return Ok(());
        }
        self.keep_reserve();
        loop {
            match self.write(staged) {
                Ok(()) => {
                    *self.lock_numbers() = staged.numbers;
                    return Ok(());
                }
                Err(Trouble::Other(error)) => return Err(error),
                Err(Trouble::Full) => {
                    // Either the reserve makes room at once, or whoever filled the disk must.
                    let reserved = fs::remove_file(self.reserve()).is_ok();
                    if !reserved && !wait() {
                        return Err(StoreError::Full);
                    }
                    match self.reopen() {
                        Ok(()) | Err(Trouble::Full) => {}
                        Err(Trouble::Other(error)) => return Err(error),
                    }
                }
            }
        }
    }

    fn write(&self, staged: &Staged) -> Result<(), Trouble> {
        let guard = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        // Closed by a failed reopening: there is still no room.
        let trees = guard.as_ref().ok_or(Trouble::Full)?;
        let mut operations: Vec<Vec<Write>> = vec![Vec::new(); NAMES.len()];
        for ((tree, key), value) in &staged.writes {
            let kind = [Kind::Event, Kind::Job].into_iter().find(|kind| *kind as usize == *tree);
            match kind {
                Some(kind) => {
                    let parts = part_values(value.as_deref()).ok_or_else(|| {
                        Trouble::Other(StoreError::Ledger(format!("a record of {} is too long", NAMES[*tree])))
                    })?;
                    let old = parts_of(trees, kind, key).map_err(|error| trouble(&error))?;
                    let stale = (u16::try_from(parts.len()).unwrap_or(u16::MAX)..old).map(|part| (part, None));
                    let fresh = (0..).zip(parts.into_iter().map(Some));
                    operations[*tree]
                        .extend(fresh.chain(stale).map(|(part, value)| (part_key(kind, key, part), value)));
                }
                None => operations[*tree].push((key.clone(), value.clone())),
            }
        }
        let result: sled::transaction::TransactionResult<(), ()> = trees.list.as_slice().transaction(|views| {
            for (view, operations) in views.iter().zip(&operations) {
                for (key, value) in operations {
                    match value {
                        Some(value) => view.insert(key.as_slice(), value.as_slice())?,
                        None => view.remove(key.as_slice())?,
                    };
                }
            }
            Ok(())
        });
        if let Err(sled::transaction::TransactionError::Storage(error)) = result {
            return Err(trouble(&error));
        }
        drop(guard);
        // Only this thread writes or reopens, so that what is flushed here is what was written above.
        let guard = self.guard();
        let trees = guard.as_ref().ok_or(Trouble::Full)?;
        trees.db.flush().map_err(|error| trouble(&error))?;
        trees.file.sync_data().map_err(|error| trouble(&sled::Error::Io(error)))
    }

    fn reopen(&self) -> Result<(), Trouble> {
        let mut guard = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        let opened = open_trees(&self.directory);
        *guard = Some(opened.map_err(|error| match error {
            StoreError::Full => Trouble::Full,
            error => Trouble::Other(error),
        })?);
        Ok(())
    }

    fn reserve(&self) -> PathBuf {
        self.state.join("reserve")
    }

    /// Gives the reserve up when the disk is nearly full, before sled meets the end, and makes it when there is room.
    fn keep_reserve(&self) {
        let (Ok(free), path) = (free_bytes(&self.state), self.reserve()) else { return };
        if free < FLOOR_BYTES {
            // Missing is as good as removed; whatever else hinders it, the commit itself will meet.
            let _ = fs::remove_file(&path);
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

/// The highest number in `from..below` that follows `prefix` in a key of this tree.
///
/// sled can walk backwards itself, but that puts a constant of a MiB into the program, a third of all the rest. Numbers
/// are mostly dense, so one look finds the one just below; a gap costs two looks for each doubling of it.
fn highest(tree: &sled::Tree, prefix: &[u8], from: u64, below: u64) -> Result<Option<u64>, sled::Error> {
    let lowest = |low: u64, high: u64| -> Result<Option<u64>, sled::Error> {
        let range = [prefix, &low.to_be_bytes()].concat()..[prefix, &high.to_be_bytes()].concat();
        let key = if range.is_empty() { None } else { tree.range(range).keys().next().transpose()? };
        Ok(key.and_then(|key| number(key.get(prefix.len()..)?)))
    };
    let mut width = 1_u64;
    let mut found = loop {
        let low = below.saturating_sub(width).max(from);
        match lowest(low, below)? {
            Some(found) => break found,
            None if low <= from => return Ok(None),
            None => width = width.saturating_mul(2),
        }
    };
    let mut high = below;
    while high - found > 1 {
        let middle = found + (high - found) / 2;
        match lowest(middle, high)? {
            Some(more) => found = more,
            None => high = middle,
        }
    }
    Ok(Some(found))
}

/// How many parts the record under a key has now.
fn parts_of(trees: &Trees, kind: Kind, key: &[u8]) -> Result<u16, sled::Error> {
    let first = trees.list[kind as usize].get(part_key(kind, key, 0))?;
    Ok(first.and_then(|first| Some(u16::from_be_bytes(first.get(..2)?.try_into().ok()?))).unwrap_or_default())
}

fn assemble(trees: &Trees, kind: Kind, key: &[u8]) -> Result<Option<Vec<u8>>, sled::Error> {
    let tree = &trees.list[kind as usize];
    let Some(first) = tree.get(part_key(kind, key, 0))? else { return Ok(None) };
    if !kind.parted() {
        return Ok(Some(first.to_vec()));
    }
    let (count, rest) = first.split_at_checked(2).unwrap_or_default();
    let count = count.try_into().map_or(0, u16::from_be_bytes);
    let mut record = rest.to_vec();
    for part in 1..count {
        if let Some(value) = tree.get(part_key(kind, key, part))? {
            record.extend_from_slice(&value);
        }
    }
    Ok(Some(record))
}

fn open_trees(directory: &Path) -> Result<Trees, StoreError> {
    let failed = |what: &Path, error: &std::io::Error| {
        if is_full(error) { StoreError::Full } else { StoreError::file(what, "open", error) }
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| failed(directory, &error))?;
    // sled takes any `snap.*` for a snapshot, also one it was still writing when it was killed: the rename that would
    // have made it one never happened, so nothing is lost with it.
    for entry in fs::read_dir(directory).map_err(|error| failed(directory, &error))?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
        }
    }
    let config = sled::Config::new()
        .path(directory)
        .cache_capacity(CACHE_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(CLEAN_EVERY_MS));
    let begun = Instant::now();
    let db = loop {
        match config.open() {
            Ok(db) => break db,
            // Nobody else can hold it, the state directory being ours: a thread of its earlier self still does.
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && begun.elapsed() < REOPEN =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => {
                return Err(match trouble(&error) {
                    Trouble::Full => StoreError::Full,
                    Trouble::Other(error) => error,
                });
            }
        }
    };
    let open = || -> Result<Trees, sled::Error> {
        let list = NAMES.iter().map(|name| db.open_tree(name)).collect::<Result<_, _>>()?;
        db.flush()?;
        // sled writes its settings without a sync; an empty settings file after a power cut would be taken for new.
        File::open(directory.join("conf"))?.sync_all()?;
        let file = File::options().read(true).write(true).open(directory.join("db"))?;
        file.sync_all()?;
        sync_directory(directory)?;
        sync_directory(directory.parent().unwrap_or(directory))?;
        Ok(Trees { db: db.clone(), list, file })
    };
    open().map_err(|error| match trouble(&error) {
        Trouble::Full => StoreError::Full,
        Trouble::Other(error) => error,
    })
}

/// Whether so little of a ledger is records that it is worth writing anew.
fn wasteful(trees: &Trees) -> Result<bool, StoreError> {
    let ledger = |error: sled::Error| StoreError::Ledger(error.to_string());
    let size = trees.db.size_on_disk().map_err(ledger)?;
    if size < COMPACT_BYTES {
        return Ok(false);
    }
    let mut live: u64 = 0;
    for pair in trees.list.iter().flat_map(sled::Tree::iter) {
        let (key, value) = pair.map_err(ledger)?;
        live = live.saturating_add((key.len() + value.len()) as u64);
        if live.saturating_mul(COMPACT_TIMES) > size {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Copies every record into a new ledger and puts that in the place of the old.
fn compact(state: &Path, trees: Trees) -> Result<Trees, StoreError> {
    let ledger = |error: sled::Error| StoreError::Ledger(error.to_string());
    let directory = state.join("ledger.new");
    let copied = open_trees(&directory).and_then(|new| {
        for (from, to) in trees.list.iter().zip(&new.list) {
            for pair in from.iter() {
                let (key, value) = pair.map_err(ledger)?;
                to.insert(key, value).map_err(ledger)?;
            }
        }
        new.db.flush().map_err(ledger)?;
        new.file.sync_all().map_err(|error| StoreError::file(&directory, "sync", &error))
    });
    match copied {
        Ok(()) => {
            drop(trees);
            swap(state)?;
            open_trees(&state.join("ledger"))
        }
        // The old one is as good as it was: no reason not to start, and the leftover goes at the next start.
        Err(_) => Ok(trees),
    }
}

/// `ledger.new` becomes `ledger`. Two renames: what a crash between them leaves is put right by [`finish_swap`].
fn swap(state: &Path) -> Result<(), StoreError> {
    let (current, new, old) = (state.join("ledger"), state.join("ledger.new"), state.join("ledger.old"));
    let step = |what: &Path, error: std::io::Error| StoreError::file(what, "replace", &error);
    if current.exists() {
        fs::rename(&current, &old).map_err(|error| step(&current, error))?;
    }
    fs::rename(&new, &current).map_err(|error| step(&new, error))?;
    sync_directory(state).map_err(|error| step(state, error))?;
    if old.exists() {
        fs::remove_dir_all(&old).map_err(|error| step(&old, error))?;
    }
    Ok(())
}

/// Puts right what a crash in [`swap`] left: without `ledger` the old one is still the truth.
fn finish_swap(state: &Path) -> Result<(), StoreError> {
    let (current, new, old) = (state.join("ledger"), state.join("ledger.new"), state.join("ledger.old"));
    let step = |what: &Path, error: std::io::Error| StoreError::file(what, "put right", &error);
    if !current.exists() && old.exists() {
        fs::rename(&old, &current).map_err(|error| step(&old, error))?;
    }
    for leftover in [new, old] {
        if leftover.exists() {
            fs::remove_dir_all(&leftover).map_err(|error| step(&leftover, error))?;
        }
    }
    sync_directory(state).map_err(|error| step(state, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_from_the_highest_down_across_gaps() {
        let directory = std::env::temp_dir().join(format!("sai-highest-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let db = sled::Config::new().path(&directory).open().unwrap();
        let tree = db.open_tree("t").unwrap();
        let numbers = [1, 2, 3, 64, 65, 1000, 1001, 1002, 70_000, 1 << 40, u64::MAX - 1];
        for number in numbers {
            // Two parts of each, and the same numbers below other prefixes.
            for prefix in [&b""[..], &7_u64.to_be_bytes()[..], &8_u64.to_be_bytes()[..]] {
                tree.insert([prefix, &number.to_be_bytes(), &[0, 0]].concat(), b"").unwrap();
                tree.insert([prefix, &number.to_be_bytes(), &[0, 1]].concat(), b"").unwrap();
            }
        }
        let prefix = 7_u64.to_be_bytes();
        for from in [0, 3, 66, 1001, 1 << 41] {
            for below in [0, 1, 2, 66, 1003, 70_000, u64::MAX] {
                let (mut found, mut next) = (Vec::new(), below);
                while let Some(number) = highest(&tree, &prefix, from, next).unwrap() {
                    found.push(number);
                    next = number;
                }
                let wanted: Vec<u64> = numbers.iter().rev().copied().filter(|id| (from..below).contains(id)).collect();
                assert_eq!(found, wanted, "{from}..{below}");
            }
        }
        drop((tree, db));
        fs::remove_dir_all(&directory).unwrap();
    }
}
