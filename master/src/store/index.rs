//! Lines of the journal → sled's trees, and key → record: what the page asks, a tree for each kind.
//!
//! The only file that knows sled. Nothing here is the truth: it is flushed now and then, and made again from the journal
//! when it is missing, behind or not what it was. What sled 0.34.7 does to those who lean on it, and what is done about it:
//! - A byte changed in its files can make it lose records without a word: a sum over all that is in it is kept with the
//!   number of the journal's line it stands at, and compared at each start.
//! - Damage can make it panic, which ends a program: then the next start is one without the index (see [`guarded`]).
//! - A `snap.N.generating` left by a crash makes it refuse the whole store: removed before it is opened.
//! - After one failed write every call fails until it is opened anew: [`Index::reopen`].
//! - It does not give space back: at start an index far larger than its records is made again.

use super::StoreError;
use super::keys::{
    Kind, NAMES, NUMBERS, bytes_of_numbers, index, number, numbers, parse, part_key, part_values, repository_hash,
};
use super::paths::is_full;
use miniserde::Deserialize;
use sai_core::job::JobId;
use sai_core::ledger::EventRecord;
use sai_core::numbers::Numbers;
use sai_core::ordered::Map;
use sled::Transactional;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

/// Bytes of pages sled keeps in memory: all the unfinished and the newest records many times over.
const CACHE_BYTES: u64 = 16 << 20;
/// How often sled's own thread writes what has changed and looks for segments to clean, milliseconds. What a crash takes is in
/// the journal; this much of it is applied again at the next start.
const FLUSH_EVERY_MS: u64 = 1000;
/// An index smaller than this is never made again for its size.
const COMPACT_BYTES: u64 = 32 << 20;
/// An index this many times larger than its records is made again at start.
const COMPACT_TIMES: u64 = 8;
/// How long to wait for sled's background threads to let go of its lock after it was closed.
const REOPEN: Duration = Duration::from_secs(5);
/// Records read under one lock, so that a long export does not hold up commits.
const PAGE: usize = 256;
/// Key of the [`Mark`].
const MARK: &[u8] = b"journal";

/// What lines come to in the trees: the last word on each key, the tree's number before it.
pub(super) type Writes = Map<(usize, Vec<u8>), Option<Vec<u8>>>;

/// A key and its new value; none: no longer any.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// Where the index stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The last line of the journal that is in it.
    pub line: u64,
    /// The numbers that the next event, job and action get, as far as these lines say.
    pub numbers: Numbers,
    /// CRC of that line; 0 when it is not known.
    pub check: u32,
    /// Sum of the digests of all that is in the trees, the marks aside.
    sum: u64,
}

impl Mark {
    /// Where an empty index stands.
    const EMPTY: Self = Self { line: 0, numbers: Numbers::FIRST, check: 0, sum: 0 };

    fn bytes(self) -> Vec<u8> {
        let (line, sum, check) = (self.line.to_be_bytes(), self.sum.to_be_bytes(), self.check.to_be_bytes());
        [&line[..], &sum, &bytes_of_numbers(self.numbers), &check].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let numbers = numbers(bytes.get(16..)?)?;
        // Marks of an earlier version end before it.
        let check = bytes.get(40..44).and_then(|check| check.try_into().ok()).map_or(0, u32::from_be_bytes);
        Some(Self { line: number(bytes)?, sum: number(bytes.get(8..)?)?, numbers, check })
    }
}

/// What a key and value add to the sum.
fn digest(tree: usize, key: &[u8], value: &[u8]) -> u64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&[tree as u8, key.len() as u8]);
    hash.update(key);
    hash.update(value);
    // CRCs are linear; spread over 64 bits by an odd factor and its high half (the finaliser of SplitMix64), sums are not.
    let mixed = (u64::from(hash.finalize()) | (value.len() as u64) << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 32)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

struct Trees {
    db: sled::Db,
    list: Vec<sled::Tree>,
}

/// Why a group could not be written.
#[derive(Debug)]
pub(super) enum Trouble {
    /// There is no room.
    Full,
    /// Anything else.
    Other(StoreError),
}

fn trouble(error: &sled::Error) -> Trouble {
    match error {
        sled::Error::Io(error) if is_full(error) => Trouble::Full,
        error => Trouble::Other(StoreError::Ledger(error.to_string())),
    }
}

/// What was found where an index should be.
pub(super) enum Opened {
    /// It is what it was when it was written last.
    Good(Index),
    /// The same, but it takes far more room than its records.
    Wasteful(Index),
    /// There is none.
    Absent,
    /// It cannot be relied on, for this reason.
    Damaged(String),
}

/// The records as the journal had them at the mark. Reading is for any thread; writing for the one thread that commits.
pub(super) struct Index {
    directory: PathBuf,
    trees: RwLock<Option<Trees>>,
    mark: Mutex<Mark>,
}

impl Index {
    /// Opens the index under `state`, which the caller has locked, and compares all of it with its sum.
    ///
    /// # Errors
    /// `Full`: there is no room to open it.
    pub(super) fn open(state: &Path) -> Result<Opened, StoreError> {
        let directory = state.join("ledger");
        finish_swap(state)?;
        if !directory.exists() {
            return Ok(Opened::Absent);
        }
        match guarded(state, || open_trees(&directory).and_then(|trees| compare(&trees).map(|found| (trees, found)))) {
            Some(Ok((trees, Some((mark, wasteful))))) => {
                let index = Self { directory, trees: RwLock::new(Some(trees)), mark: Mutex::new(mark) };
                Ok(if wasteful { Opened::Wasteful(index) } else { Opened::Good(index) })
            }
            Some(Ok((_, None))) => Ok(Opened::Damaged("its records are not what was written".to_string())),
            Some(Err(StoreError::Full)) => Err(StoreError::Full),
            Some(Err(error)) => Ok(Opened::Damaged(error.to_string())),
            None => Ok(Opened::Damaged("it could not be opened to its end".to_string())),
        }
    }

    /// Opens what a version without a journal kept, where nothing but sled's own checks tells whether it is whole.
    pub(super) fn open_old(state: &Path) -> Result<Self, StoreError> {
        let directory = state.join("ledger");
        finish_swap(state)?;
        // One that was killed meanwhile looks like one that panicked; and it cannot be made again from anything.
        let open = || guarded(state, || open_trees(&directory));
        match open().or_else(open) {
            Some(Ok(trees)) => {
                let mut mark = Mark::EMPTY;
                let numbers = trees.list[Kind::Mark as usize].get(NUMBERS);
                let numbers = numbers.map_err(|error| StoreError::Ledger(error.to_string()))?;
                if let Some(bytes) = numbers {
                    mark.numbers.at_least(super::keys::numbers(&bytes).ok_or_else(|| StoreError::Record {
                        kind: NAMES[Kind::Mark as usize],
                        key: NUMBERS.escape_ascii().to_string(),
                    })?);
                }
                Ok(Self { directory, trees: RwLock::new(Some(trees)), mark: Mutex::new(mark) })
            }
            Some(Err(error)) => Err(error),
            None => Err(StoreError::Ledger("sled, which kept it, cannot read it any more".to_string())),
        }
    }

    /// Makes an empty index beside the one of `state`, to be filled and then taken by [`Index::take_place`].
    pub(super) fn make_beside(state: &Path) -> Result<Self, StoreError> {
        finish_swap(state)?;
        let directory = state.join("ledger.new");
        let trees = open_trees(&directory)?;
        Ok(Self { directory, trees: RwLock::new(Some(trees)), mark: Mutex::new(Mark::EMPTY) })
    }

    /// Puts an index made beside in the place of the one of `state`, which is no longer open.
    pub(super) fn take_place(self, state: &Path) -> Result<Self, StoreError> {
        let written = self.with(0, |trees| trees.db.flush());
        self.close();
        written?;
        swap(state)?;
        let directory = state.join("ledger");
        let trees = open_trees(&directory)?;
        let mark = self.mark();
        // A disk that failed meanwhile may have got less than sled says: then all that it lacks would be taken for nobody's.
        if compare(&trees)?.is_none_or(|(found, _)| found != mark) {
            let why = format!("{} is not what was just written; is the disk failing?", directory.display());
            return Err(StoreError::Ledger(why));
        }
        Ok(Self { directory, trees: RwLock::new(Some(trees)), mark: Mutex::new(mark) })
    }

    /// Removes the index of a journal that is to be another's.
    pub(super) fn forget(state: &Path) -> Result<(), StoreError> {
        let directory = state.join("ledger");
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::file(&directory, "remove", &error)),
            _ => Ok(()),
        }
    }

    /// Where it stands.
    pub(super) fn mark(&self) -> Mark {
        *self.lock_mark()
    }

    fn lock_mark(&self) -> MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of it on disk.
    pub(super) fn size(&self) -> u64 {
        self.with(0, |trees| trees.db.size_on_disk()).unwrap_or_default()
    }

    /// Writes what has changed and lets go of the files. Reads find nothing from now on.
    pub(super) fn close(&self) {
        if let Some(trees) = self.trees.write().unwrap_or_else(PoisonError::into_inner).take() {
            // What could not be written is in the journal.
            let _ = trees.db.flush();
        }
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

    /// The highest number of a record of a kind.
    pub(super) fn last(&self, kind: Kind) -> Result<Option<u64>, StoreError> {
        self.with(None, |trees| highest(&trees.list[kind as usize], &[], 0, u64::MAX))
    }

    /// Whether it holds no record of a kind.
    pub(super) fn is_empty(&self, kind: Kind) -> Result<bool, StoreError> {
        self.with(true, |trees| Ok(trees.list[kind as usize].is_empty()))
    }

    /// At most `limit` numbers of a kind below `before`, the lowest first.
    pub(super) fn oldest(&self, kind: Kind, before: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        self.with(Vec::new(), |trees| {
            let keys = trees.list[kind as usize].range(..before.to_be_bytes().to_vec()).keys().take(limit);
            keys.filter_map(|key| key.map(|key| number(&key)).transpose()).collect()
        })
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

    /// Takes in what lines of the journal up to `line`, whose CRC is `check`, change. Not durable: that is the journal's affair.
    pub(super) fn apply(&self, line: u64, check: u32, numbers: Numbers, writes: &Writes) -> Result<(), Trouble> {
        // Readers see all of a group or nothing.
        let guard = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        // Closed by a failed reopening: there is still no room.
        let trees = guard.as_ref().ok_or(Trouble::Full)?;
        let before = self.mark();
        let mut mark = Mark { line, check: if before.line == line { before.check } else { check }, ..before };
        mark.numbers.at_least(numbers);
        let mut operations: Vec<Vec<Write>> = vec![Vec::new(); NAMES.len()];
        for ((tree, key), value) in writes {
            match [Kind::Event, Kind::Job].into_iter().find(|kind| *kind as usize == *tree) {
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
        for (tree, operations) in operations.iter().enumerate() {
            for (key, value) in operations {
                let old = trees.list[tree].get(key).map_err(|error| trouble(&error))?;
                mark.sum = mark.sum.wrapping_sub(old.map_or(0, |old| digest(tree, key, &old)));
                mark.sum = mark.sum.wrapping_add(value.as_ref().map_or(0, |value| digest(tree, key, value)));
            }
        }
        operations[Kind::Mark as usize] = vec![(MARK.to_vec(), Some(mark.bytes()))];
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
        *self.lock_mark() = mark;
        Ok(())
    }

    /// Opens it anew after a failed write. It may have lost what was not written: its mark says where it stands now.
    pub(super) fn reopen(&self, state: &Path) -> Result<(), Trouble> {
        let mut guard = self.trees.write().unwrap_or_else(PoisonError::into_inner);
        drop(guard.take());
        let opened = guarded(state, || {
            open_trees(&self.directory).and_then(|trees| compare(&trees).map(|found| (trees, found)))
        });
        let damaged =
            || Trouble::Other(StoreError::Ledger("its index is damaged; the next start makes it again".to_string()));
        match opened {
            Some(Ok((trees, Some((mark, _))))) => {
                *guard = Some(trees);
                *self.lock_mark() = mark;
                Ok(())
            }
            Some(Err(StoreError::Full)) => Err(Trouble::Full),
            Some(Err(error)) => Err(Trouble::Other(error)),
            Some(Ok((_, None))) | None => Err(damaged()),
        }
    }
}

/// Lines on their way into an index.
pub(super) struct Filling<'a> {
    index: &'a Index,
    writes: Writes,
    line: u64,
    numbers: Numbers,
}

impl<'a> Filling<'a> {
    /// Lines taken in at once.
    const GROUP: usize = 512;

    pub(super) fn new(index: &'a Index) -> Self {
        let mark = index.mark();
        Self { index, writes: Writes::new(), line: mark.line, numbers: mark.numbers }
    }

    /// Takes a line of the journal in; those of a snapshot are what line `line` left.
    pub(super) fn take(&mut self, line: u64, text: &str) -> Result<(), Trouble> {
        self.line = self.line.max(line);
        let writes = &mut self.writes;
        index(text, &mut self.numbers, &mut |kind, key, value| {
            writes.insert((kind as usize, key), value);
        });
        if self.writes.len() < Self::GROUP { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), Trouble> {
        self.index.apply(self.line, 0, self.numbers, &self.writes)?;
        self.writes.clear();
        Ok(())
    }

    /// Takes in what is left; the index stands at `line` from now on, and at least at these numbers.
    pub(super) fn finish(mut self, line: u64, numbers: Numbers) -> Result<(), Trouble> {
        self.line = self.line.max(line);
        self.numbers.at_least(numbers);
        self.write()
    }
}

/// Runs what may make sled panic. None when it did, now or the last time, or when it was killed meanwhile: a file is there while
/// it runs. A program that is built to end with any panic ends, and finds the file when it is started again. No damage that was
/// tried made sled panic here (a thousand changed bits, cuts, zeros, files of another time): what is not as it was is an error.
fn guarded<T>(state: &Path, open: impl FnOnce() -> T) -> Option<T> {
    let file = state.join("ledger.opening");
    if file.exists() {
        // It is removed when what it warned of is out of the way, or has proved to be harmless the second time.
        let _ = fs::remove_file(&file);
        return None;
    }
    // Without room for it all is as it would be without this.
    let _ = File::create(&file);
    let result = catch_unwind(AssertUnwindSafe(open)).ok();
    let _ = fs::remove_file(&file);
    result
}

/// Compares the trees with their sum: where they stand and whether they take far too much room; none when they differ.
fn compare(trees: &Trees) -> Result<Option<(Mark, bool)>, StoreError> {
    let ledger = |error: sled::Error| StoreError::Ledger(error.to_string());
    let mark = trees.list[Kind::Mark as usize].get(MARK).map_err(ledger)?;
    let Some(mark) = mark.and_then(|bytes| Mark::from_bytes(&bytes)) else { return Ok(None) };
    let (mut sum, mut live) = (0_u64, 0_u64);
    for (tree, list) in trees.list.iter().enumerate().filter(|(tree, _)| *tree != Kind::Mark as usize) {
        for pair in list {
            let (key, value) = pair.map_err(ledger)?;
            sum = sum.wrapping_add(digest(tree, &key, &value));
            live += (key.len() + value.len()) as u64;
        }
    }
    let size = trees.db.size_on_disk().map_err(ledger)?;
    let wasteful = size >= COMPACT_BYTES && live.saturating_mul(COMPACT_TIMES) < size;
    Ok((sum == mark.sum).then_some((mark, wasteful)))
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
        .flush_every_ms(Some(FLUSH_EVERY_MS));
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
    let list = NAMES.iter().map(|name| db.open_tree(name)).collect::<Result<_, _>>();
    match list {
        Ok(list) => Ok(Trees { db, list }),
        Err(error) => Err(match trouble(&error) {
            Trouble::Full => StoreError::Full,
            Trouble::Other(error) => error,
        }),
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
    if old.exists() {
        fs::remove_dir_all(&old).map_err(|error| step(&old, error))?;
    }
    Ok(())
}

/// Puts right what a crash in [`swap`] left: without `ledger` the old one is still it.
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
    Ok(())
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
