//! Flushed length of a stream → durable record of it: where a stream goes on after a power cut.
//!
//! A file's own length is no answer then: file systems write it before the bytes, which come back as zeros. So each length
//! is written down, durably, before it is acknowledged; what a file has beyond it is asked for again. `lengths` has entries of
//! `ENTRY_BYTES`, each with a CRC, in a file that was written with zeros before: to write an entry moves no block and
//! changes no size, so that making it durable costs the disk one write and its journal none. Entries of several
//! flushes become durable together.

use super::paths::{is_full, sync_directory};
use sai_core::job::JobKey;
use sai_core::ordered::Map;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of an entry: job, attempt, stream, nothing, length, CRC, nothing.
const ENTRY_BYTES: usize = 32;
/// Bytes of the file at least: some thirty thousand flushes, half an hour of a chatty job, before it is written anew.
const FILE_BYTES: usize = 1 << 20;
/// The file is written anew with room for this many times its entries.
const ROOM: usize = 4;
/// An entry that is not whole is one that a crash left when it is among the last: those of one write. Farther from the end
/// it is damage.
const LAST_ENTRIES: usize = 1024;

type Name = (JobKey, u16);

fn encode((key, stream): Name, length: u64) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    let (content, check) = entry.split_at_mut(24);
    let fields = [&key.job.to_le_bytes()[..], &key.attempt.to_le_bytes(), &stream.to_le_bytes(), &[0; 2]];
    content.copy_from_slice(&[&fields.concat()[..], &length.to_le_bytes()].concat());
    check[..4].copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    entry
}

fn decode(entry: &[u8]) -> Option<(Name, u64)> {
    let (content, check) = entry.split_at_checked(24)?;
    if check.get(..4)? != crc32fast::hash(content).to_le_bytes() || check.get(4..)? != [0; 4] {
        return None;
    }
    let job = u64::from_le_bytes(content.get(..8)?.try_into().ok()?);
    let attempt = u32::from_le_bytes(content.get(8..12)?.try_into().ok()?);
    let stream = u16::from_le_bytes(content.get(12..14)?.try_into().ok()?);
    let length = u64::from_le_bytes(content.get(16..24)?.try_into().ok()?);
    Some(((JobKey { job, attempt }, stream), length))
}

#[derive(Debug)]
struct State {
    file: File,
    /// Bytes of the file, and those with entries.
    bytes: usize,
    used: usize,
    /// What each stream of an attempt under way has durably.
    known: Map<Name, u64>,
    /// Entries that are not written, and how many writes were begun.
    waiting: Vec<u8>,
    begun: u64,
    /// How many writes have ended, and the last one that failed, and why.
    ended: u64,
    failed: (u64, ErrorKind),
    /// Attempts that have ended since the file was written anew, and before that: by then the ledger knows.
    finished: [Vec<JobKey>; 2],
}

/// The durable lengths of all attempts under way.
#[derive(Debug)]
pub(super) struct Lengths {
    path: PathBuf,
    /// Whether a stream without an entry has no durable byte. Not so under a state directory of an older version, or
    /// after damage.
    complete: bool,
    /// Whether the file was not as it was written.
    pub damaged: bool,
    state: Mutex<State>,
    written: Condvar,
}

impl Lengths {
    /// Opens the file under `state`, keeping of it what is of attempts that `lives` says are under way.
    pub(super) fn open(state: &Path, lives: &mut dyn FnMut(JobKey) -> bool) -> io::Result<Self> {
        let path = state.join("lengths");
        let (bytes, mut complete) = match fs::read(&path) {
            Ok(bytes) => (bytes, true),
            Err(error) if error.kind() == ErrorKind::NotFound => (Vec::new(), false),
            Err(error) => return Err(error),
        };
        let mut known = Map::new();
        let entries = bytes.chunks(ENTRY_BYTES);
        let used = entries.clone().rposition(|entry| entry.iter().any(|byte| *byte != 0)).map_or(0, |last| last + 1);
        for (index, entry) in entries.take(used).enumerate() {
            match decode(entry) {
                Some((name, length)) => {
                    known.insert(name, length);
                }
                None => complete &= index + LAST_ENTRIES >= used,
            }
        }
        if !complete {
            // The last entry of a stream may be the damaged one.
            known.clear();
        }
        known.retain(|(key, _), _| lives(*key));
        let damaged = !complete && !bytes.is_empty();
        let (file, bytes, used) = match write_anew(&path, &known) {
            // Without room the file that is there goes on.
            Err(error) if is_full(&error) && complete => {
                (OpenOptions::new().read(true).write(true).open(&path)?, bytes.len(), used * ENTRY_BYTES)
            }
            made => made?,
        };
        let state = State {
            file,
            bytes,
            used,
            known,
            waiting: Vec::new(),
            begun: 0,
            ended: 0,
            failed: (0, ErrorKind::Other),
            finished: Default::default(),
        };
        Ok(Self { path, complete, damaged, state: Mutex::new(state), written: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes of a stream are durable; none when only its file can tell.
    pub(super) fn get(&self, key: JobKey, stream: u16) -> Option<u64> {
        let known = self.lock().known.get(&(key, stream)).copied();
        known.or(self.complete.then_some(0))
    }

    /// An attempt has ended: once that is in the ledger, nothing of it will be asked any more.
    pub(super) fn finish(&self, key: JobKey) {
        self.lock().finished[0].push(key);
    }

    /// Writes a length down and returns when that is durable, with those of others that wait too.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn record(&self, key: JobKey, stream: u16, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.waiting.extend_from_slice(&encode((key, stream), length));
        // What waits now is in the write after the one under way.
        let mine = state.begun + 1;
        while state.begun > state.ended && state.ended < mine {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.ended < mine {
            state.begun = mine;
            let entries = std::mem::take(&mut state.waiting);
            let result;
            if entries.len() <= state.bytes - state.used {
                let (file, at) = (state.file.try_clone(), state.used as u64);
                drop(state);
                result = file.and_then(|file| {
                    file.write_all_at(&entries, at)?;
                    file.sync_data()
                });
                state = self.lock();
                if result.is_ok() {
                    state.used += entries.len();
                    state.take(&entries);
                }
            } else {
                // Rare, and short: all others may wait.
                result = state.renew(&self.path, &entries);
            }
            state.ended = mine;
            if let Err(error) = &result {
                state.failed = (mine, error.kind());
            }
            drop(state);
            self.written.notify_all();
            return result;
        }
        // A later failure may count for this one too: its bytes are sent again, and nothing is worse.
        if state.failed.0 >= mine { Err(state.failed.1.into()) } else { Ok(()) }
    }
}

impl State {
    /// These entries are durable.
    fn take(&mut self, entries: &[u8]) {
        for (name, length) in entries.chunks(ENTRY_BYTES).filter_map(decode) {
            self.known.insert(name, length);
        }
    }

    /// Writes the file anew with these entries, without what has ended.
    fn renew(&mut self, path: &Path, entries: &[u8]) -> io::Result<()> {
        let before = self.known.iter().map(|(name, length)| (*name, *length));
        let mut known = Map::from_iter(before.chain(entries.chunks(ENTRY_BYTES).filter_map(decode)));
        let finished = std::mem::take(&mut self.finished[1]);
        known.retain(|(key, _), _| !finished.contains(key));
        self.finished.swap(0, 1);
        (self.file, self.bytes, self.used) = write_anew(path, &known)?;
        self.known = known;
        Ok(())
    }
}

/// Writes a file with these entries and room for more, and puts it in place.
fn write_anew(path: &Path, known: &Map<Name, u64>) -> io::Result<(File, usize, usize)> {
    let mut bytes: Vec<u8> = known.iter().flat_map(|(name, length)| encode(*name, *length)).collect();
    let used = bytes.len();
    bytes.resize(FILE_BYTES.max(used * ROOM), 0);
    let temporary = path.with_extension("tmp");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_all());
    if let Err(error) = written {
        if is_full(&error) {
            // It would only take what others may need.
            let _ = fs::remove_file(&temporary);
        }
        return Err(error);
    }
    fs::rename(&temporary, path)?;
    sync_directory(path.parent().unwrap_or(path))?;
    Ok((file, bytes.len(), used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const KEY: JobKey = JobKey { job: 7, attempt: 2 };

    fn place(name: &str) -> PathBuf {
        place_in(&std::env::temp_dir(), name)
    }

    fn place_in(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(format!("sai-lengths-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn lengths_outlive_the_process_and_many_of_them() {
        // Nine thousand flushes of a disk take minutes, and no power is cut here.
        let place = place_in(Path::new("/dev/shm"), "many");
        let lengths = Arc::new(Lengths::open(&place, &mut |_| true).unwrap());
        assert_eq!(lengths.get(KEY, 0), None, "an older version wrote none down");
        let threads: Vec<_> = (0..4_u16)
            .map(|stream| {
                let lengths = Arc::clone(&lengths);
                std::thread::spawn(move || {
                    // More than fit in one file.
                    for length in 1..=9000 {
                        lengths.record(KEY, stream, length).unwrap();
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(fs::metadata(place.join("lengths")).unwrap().len(), FILE_BYTES as u64);
        drop(lengths);
        let lengths = Lengths::open(&place, &mut |_| true).unwrap();
        assert_eq!(
            (0..5).map(|stream| lengths.get(KEY, stream)).collect::<Vec<_>>(),
            [9000, 9000, 9000, 9000, 0].map(Some)
        );
        // A later one counts, also when it is smaller.
        lengths.record(KEY, 1, 5).unwrap();
        lengths.record(JobKey { job: 8, attempt: 1 }, 0, 1).unwrap();
        drop(lengths);
        let lengths = Lengths::open(&place, &mut |key| key == KEY).unwrap();
        assert_eq!(lengths.get(KEY, 1), Some(5));
        assert_eq!(lengths.get(JobKey { job: 8, attempt: 1 }, 0), Some(0), "not under way");
        lengths.finish(KEY);
        for length in 0..(2 * FILE_BYTES / ENTRY_BYTES + 2) as u64 {
            lengths.record(JobKey { job: 9, attempt: 1 }, 0, length).unwrap();
        }
        assert_eq!(lengths.get(KEY, 1), Some(0));
        fs::remove_dir_all(place).unwrap();
    }

    #[test]
    fn what_a_crash_leaves_is_ignored_and_damage_makes_files_the_truth() {
        let place = place("torn");
        let lengths = Lengths::open(&place, &mut |_| true).unwrap();
        for length in 1..=2000 {
            lengths.record(KEY, 0, length).unwrap();
        }
        drop(lengths);
        let good = fs::read(place.join("lengths")).unwrap();
        let mut torn = good.clone();
        torn[1999 * ENTRY_BYTES + 3] ^= 1;
        fs::write(place.join("lengths"), torn).unwrap();
        assert_eq!(Lengths::open(&place, &mut |_| true).unwrap().get(KEY, 0), Some(1999));
        let mut bad = good;
        bad[17] ^= 1;
        fs::write(place.join("lengths"), bad).unwrap();
        let lengths = Lengths::open(&place, &mut |_| true).unwrap();
        assert_eq!((lengths.get(KEY, 0), lengths.get(KEY, 1)), (None, None));
        fs::remove_dir_all(place).unwrap();
    }
}
