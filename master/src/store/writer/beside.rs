//! Tasks → flushed, digested, packed and removed files: what the threads beside the writer do.

use super::{Outcome, Shared, Task};
use crate::store::paths::{Paths, is_full};
use sai_agent::digest::Sha256;
use sai_core::job::JobKey;
use sai_core::space::RETRY_MS;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// How many flushers may compute digests, so that flushes never wait for a long one.
const SEALERS: usize = 2;
/// How long to wait for room before trying again.
const RETRY: Duration = Duration::from_millis(RETRY_MS);
/// Niceness of packing, which is never urgent.
const PACK_NICE: i32 = 10;

/// Flushes and computes digests until there is no more to do and nothing will come.
pub(super) fn flush_all(shared: &Shared) {
    let mut tasks = shared.tasks();
    loop {
        let task = match tasks.flushes.pop_front() {
            Some(task) => Some(task),
            None if tasks.sealing < SEALERS => tasks.seals.pop_front().inspect(|_| tasks.sealing += 1),
            None => None,
        };
        let Some(task) = task else {
            if tasks.closing {
                return;
            }
            tasks = shared.tasks_wake.wait(tasks).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(tasks);
        match task {
            Task::Flush { key, stream, file, length, new } => {
                let result = flush(shared, key, stream, file, length, new);
                shared.done(key, stream, Outcome::Flushed(length, result));
                tasks = shared.tasks();
            }
            Task::Seal { key, stream, sha256 } => {
                let result = digest(&shared.paths, key, stream).map(|digest| digest == sha256);
                shared.done(key, stream, Outcome::Sealed(result));
                tasks = shared.tasks();
                tasks.sealing -= 1;
            }
        }
    }
}

/// Makes bytes durable, then their file's name, and then writes down how many they are.
fn flush(shared: &Shared, key: JobKey, stream: u16, file: Option<Arc<File>>, length: u64, new: bool) -> io::Result<()> {
    match file {
        Some(file) => file.sync_data()?,
        // Its descriptor was needed for another stream: what counts is the file.
        None => File::open(shared.paths.stream(key, stream))?.sync_data()?,
    }
    if new {
        shared.paths.sync_names(key, stream)?;
    }
    loop {
        match shared.lengths.record(key, stream, length) {
            // Only when the file is written anew does it need room; the bytes wait for it unacknowledged, as others do.
            Err(error) if is_full(&error) && !shared.lock().closing => std::thread::sleep(RETRY),
            result => return result,
        }
    }
}

fn digest(paths: &Paths, key: JobKey, stream: u16) -> io::Result<[u8; 32]> {
    let mut file = File::open(paths.stream(key, stream))?;
    let mut hash = Sha256::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            taken => hash.update(&buffer[..taken]),
        }
    }
}

/// Unlinks and packs, the same.
pub(super) fn archive_all(shared: &Shared) {
    // On Linux this concerns the calling thread alone (setpriority(2), "C library/kernel differences").
    let _ = rustix::process::setpriority_process(None, PACK_NICE);
    let mut tasks = shared.tasks();
    loop {
        if let Some(key) = tasks.removals.pop_front() {
            drop(tasks);
            // What could not be unlinked has no record any more and is swept later.
            let _ = shared.paths.remove(key);
            tasks = shared.tasks();
        } else if tasks.closing {
            // A log that is not packed now is packed after the next start.
            return;
        } else if let Some((key, prune)) = tasks.packing.pop_front() {
            drop(tasks);
            if prune {
                // What is left is found by the next garbage collection.
                let _ = shared.paths.prune(key);
            }
            // A log that cannot be packed (a full disk) is as good as it is.
            let _ = shared.paths.pack(key);
            tasks = shared.tasks();
        } else {
            tasks = shared.archive_wake.wait(tasks).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
