//! Stream bytes, saifile → plain files: what is asked of the threads that write them.
//!
//! Under the state directory: `logs/JOB-ATTEMPT.log` while a job runs, packed into `logs/JOB-ATTEMPT.log.lz4` when it is
//! complete; `artifacts/JOB-ATTEMPT/STREAM`; `saifiles/EVENT.json`.

use super::lengths::Lengths;
use super::packed::LogReader;
use super::paths::Paths;
use super::report::Reporter;
use super::writer::{self, Operation, Shared};
use super::{Change, StoreError, carried};
use sai_core::job::{EventId, JobKey};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bytes that may wait to be written before a caller should stop reading from its links.
pub const QUEUE_BYTES: u64 = 16 << 20;

/// Logs, artifacts and saifiles of one state directory. What is asked of it happens in the order it was asked, on
/// threads of its own; only those that put saifiles and plans, and [`Files::lengths`], make the caller wait for the disk.
#[derive(Clone)]
pub struct Files {
    shared: Arc<Shared>,
}

impl Files {
    pub(super) fn open(
        paths: Paths,
        low_mib: u64,
        report: Reporter,
        lives: &mut dyn FnMut(JobKey) -> bool,
    ) -> Result<Self, StoreError> {
        paths.make().map_err(|error| StoreError::file(&paths.state, "make directories in", &error))?;
        let lengths = Lengths::open(&paths.state, lives)
            .map_err(|error| StoreError::disk(&paths.state.join("lengths"), "use", &error))?;
        Ok(Self { shared: Arc::new(Shared::new(paths, lengths, low_mib, report)) })
    }

    pub(super) fn start(&self) -> Result<Vec<JoinHandle<()>>, StoreError> {
        writer::start(&self.shared).map_err(|error| StoreError::file(&self.paths().state, "start threads for", &error))
    }

    /// Tells the threads to write what is queued, flush it, and end.
    pub(super) fn close(&self) {
        self.shared.close();
    }

    /// Whether the lengths written down were not as they were written.
    pub(super) fn lengths_damaged(&self) -> bool {
        self.shared.lengths.damaged
    }

    pub(super) fn paths(&self) -> &Paths {
        &self.shared.paths
    }

    /// Appends bytes to a stream. They must begin where its file ends: anything else is reported as `Failed` and
    /// changes nothing. `Appended` follows at once, `Flushed` within some 50 ms, at the latest after a full disk has
    /// room again.
    pub fn append(&self, key: JobKey, stream: u16, offset: u64, bytes: Vec<u8>) {
        self.shared.push(Operation::Append { key, stream, offset, bytes });
    }

    /// Bytes queued and not yet in their files. Above [`QUEUE_BYTES`] callers should stop reading from their links.
    pub fn queued_bytes(&self) -> u64 {
        self.shared.queued_bytes()
    }

    /// After the last byte of a stream: makes it durable and compares its length and SHA-256; answered by `Sealed`.
    pub fn seal(&self, key: JobKey, stream: u16, size: u64, sha256: [u8; 32]) {
        self.shared.push(Operation::Seal { key, stream, size, sha256 });
    }

    /// Somebody waits for the bytes of this attempt (a verdict is among them): makes them durable at once.
    pub fn flush(&self, key: JobKey) {
        self.shared.push(Operation::Flush { key });
    }

    /// The attempt has ended. Its log will be packed in the background, which readers do not notice; what is queued of it
    /// is dropped, and files that its log does not announce, or that are not complete, are unlinked.
    pub fn finish(&self, key: JobKey) {
        self.shared.finish(key, true);
    }

    /// The same for an attempt that ended earlier, of which nothing is unlinked: its log is packed, if it is not yet.
    pub(super) fn pack(&self, key: JobKey) {
        self.shared.finish(key, false);
    }

    /// Unlinks the files of an attempt and drops what is queued for it.
    pub fn remove(&self, key: JobKey) {
        self.shared.remove(key);
    }

    /// Keeps an event's saifile; durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_saifile(&self, event: EventId, bytes: &[u8]) -> io::Result<()> {
        self.paths().write(&self.paths().saifile(event), bytes)
    }

    /// Keeps the plan of an event; durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_plan(&self, event: EventId, bytes: &[u8]) -> io::Result<()> {
        self.paths().write(&self.paths().plan(event), bytes)
    }

    /// Keeps the saifile of a new event and its plan, if it has one. With the change that this returns, which is to be committed
    /// with the event's record, they are durable when that is; without one they are when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_both(&self, event: EventId, saifile: &[u8], plan: Option<&[u8]>) -> io::Result<Option<Change>> {
        let carried = carried::change(event, saifile, plan);
        let both = [(self.paths().saifile(event), Some(saifile)), (self.paths().plan(event), plan)];
        for (path, bytes) in both {
            match (bytes, &carried) {
                (Some(bytes), Some(_)) => Paths::show(&path, bytes)?,
                (Some(bytes), None) => self.paths().write(&path, bytes)?,
                (None, _) => {}
            }
        }
        Ok(carried)
    }

    /// Keeps what somebody has sent for an event, which is durable where it is; its name is when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub fn put_bundle(&self, event: EventId, from: &Path) -> io::Result<()> {
        let to = self.paths().bundle(event);
        // What a master left there that ended before its event was: it is another's, and may be a link to what that one has sent.
        match fs::remove_file(&to) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        if fs::hard_link(from, &to).is_err() {
            fs::copy(from, &to)?;
            fs::File::open(&to)?.sync_all()?;
        }
        super::paths::sync_directory(&self.paths().saifiles())
    }

    /// Durable lengths of the streams 0, 1, … of an attempt after a restart: what was flushed and written down. What a
    /// file has beyond that, which may be anything after a power cut, is cut off. Streams without a file in between have 0.
    ///
    /// # Errors
    /// The disk's, or a packed log that is damaged.
    pub fn lengths(&self, key: JobKey) -> io::Result<Vec<u64>> {
        lengths_of(self.paths(), &self.shared.lengths, key)
    }
}

/// Cuts a file back to what is durable of it, and says how much that is.
fn cut(paths: &Paths, lengths: &Lengths, key: JobKey, stream: u16) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).write(true).open(paths.stream(key, stream))?;
    let length = file.metadata()?.len();
    let durable = match lengths.get(key, stream) {
        Some(durable) => durable.min(length),
        None => length,
    };
    if durable < length {
        file.set_len(durable)?;
    }
    // What a killed process wrote is in the page cache, and not durable before this.
    file.sync_all()?;
    if lengths.get(key, stream) != Some(durable) {
        lengths.record(key, stream, durable)?;
    }
    Ok(durable)
}

/// Durable lengths of an attempt's streams, from 0 on.
fn lengths_of(paths: &Paths, lengths: &Lengths, key: JobKey) -> io::Result<Vec<u64>> {
    let log = match cut(paths, lengths, key, 0) {
        Ok(length) => {
            paths.sync_names(key, 0)?;
            length
        }
        Err(error) if error.kind() == ErrorKind::NotFound => match LogReader::open(paths, key) {
            Ok(log) => log.length(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        },
        Err(error) => return Err(error),
    };
    let mut found = vec![log];
    let entries = match fs::read_dir(paths.artifacts(key)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Some(stream) = entry.file_name().to_str().and_then(|name| name.parse::<u16>().ok()) else { continue };
        let index = usize::from(stream);
        if found.len() <= index {
            found.resize(index + 1, 0);
        }
        if let Some(length) = found.get_mut(index) {
            *length = cut(paths, lengths, key, stream)?;
        }
    }
    paths.sync_names(key, 1)?;
    Ok(found)
}
