//! Records, or an older snapshot and the segments after it → a snapshot, written beside and moved into place when it is whole.
//!
//! Lines are copied as they are: keys and kinds that this version does not know are kept.

use super::survey::{self, Survey};
use super::{Line, Role, encode, path, read};
use crate::store::keys::{Effect, effect};
use crate::store::paths::sync_directory;
use sai_core::numbers::Numbers;
use sai_core::ordered::Map;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Snapshots kept, each with the segment after it: enough that what damages one, or is noticed late, can be filled from another.
pub(in crate::store) const KEPT: usize = 7;

/// A snapshot that is being written.
pub(in crate::store) struct Writer {
    out: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    line: u64,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins the snapshot of what line `number` left.
    ///
    /// # Errors
    /// The disk's, here and below.
    pub(in crate::store) fn begin(directory: &Path, number: u64, numbers: Numbers) -> io::Result<Self> {
        let path = path(directory, Role::Snapshot, number);
        let temporary = path.with_extension("snapshot.tmp");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut writer = Self { out: BufWriter::new(file), path, temporary, line: 0, buffer: Vec::new() };
        writer.record(&survey::head(number, numbers))?;
        Ok(writer)
    }

    pub(in crate::store) fn record(&mut self, text: &str) -> io::Result<()> {
        self.line += 1;
        self.buffer.clear();
        encode(self.line, 1, 1, text, &mut self.buffer);
        self.out.write_all(&self.buffer)
    }

    /// Makes it durable and gives it its name. Returns its bytes.
    pub(in crate::store) fn finish(mut self) -> io::Result<u64> {
        self.record(&survey::end(self.line - 1))?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let bytes = file.metadata()?.len();
        fs::rename(&self.temporary, &self.path)?;
        if let Some(directory) = self.path.parent() {
            sync_directory(directory)?;
        }
        Ok(bytes)
    }
}

/// What became of a key after the older snapshot.
type Fates = Map<(usize, Vec<u8>), u64>;

/// Writes the snapshot of what line `number` left from the newest one before it and the segments between, and removes the
/// oldest ones. Returns its bytes.
///
/// # Errors
/// The disk's; `InvalidData` when what it is made from is not as it was written: then nothing is written or removed.
pub(in crate::store) fn compact(directory: &Path, number: u64, numbers: Numbers) -> io::Result<u64> {
    let damaged = |path: &Path| io::Error::new(ErrorKind::InvalidData, format!("{} is damaged", path.display()));
    let all = survey::list(directory)?;
    let older = all.iter().rfind(|(role, older)| *role == Role::Snapshot && *older < number);
    let Some((_, older)) = older.copied() else {
        return Err(io::Error::new(ErrorKind::InvalidData, "there is no snapshot to begin with"));
    };
    let base = Survey::of(directory, Role::Snapshot, older);
    if !base.intact {
        return Err(damaged(&base.path));
    }
    let between = |(role, first): &&(Role, u64)| *role == Role::Segment && (older + 1..=number).contains(first);
    let mut segments = Vec::new();
    let mut last = older;
    for (_, first) in all.iter().filter(between) {
        let segment = Survey::of(directory, Role::Segment, *first);
        if !segment.intact || segment.number != last.saturating_add(1) {
            return Err(damaged(&segment.path));
        }
        last = segment.last;
        segments.push(segment.path);
    }
    if last != number {
        return Err(damaged(&path(directory, Role::Segment, last.saturating_add(1))));
    }
    // First what became of each key, then the lines that are the last word on theirs: no record is held in memory.
    let mut fates = Fates::new();
    for segment in &segments {
        each(segment, &mut |line| {
            match effect(line.text) {
                Effect::Put(kind, key) => {
                    fates.insert((kind as usize, key), line.number);
                }
                Effect::Delete(keys) => {
                    for (kind, key) in keys {
                        fates.insert((kind as usize, key), line.number);
                    }
                }
            }
            Ok(())
        })?;
    }
    let mut writer = Writer::begin(directory, number, numbers)?;
    each(&base.path, &mut |line| {
        let stays = match effect(line.text) {
            _ if survey::is_frame(line.text) => false,
            Effect::Put(kind, key) => !fates.contains_key(&(kind as usize, key)),
            Effect::Delete(_) => false,
        };
        if stays { writer.record(line.text) } else { Ok(()) }
    })?;
    for segment in &segments {
        each(segment, &mut |line| {
            let stays = match effect(line.text) {
                Effect::Put(kind, key) => fates.get(&(kind as usize, key)) == Some(&line.number),
                Effect::Delete(_) => false,
            };
            if stays { writer.record(line.text) } else { Ok(()) }
        })?;
    }
    let bytes = writer.finish()?;
    prune(directory)?;
    Ok(bytes)
}

/// Calls `take` with each good line until it fails.
fn each(path: &Path, take: &mut dyn FnMut(Line<'_>) -> io::Result<()>) -> io::Result<()> {
    let mut result = Ok(());
    read(path, &mut |line, _| {
        if let (Some(line), Ok(())) = (line, &result) {
            result = take(line);
        }
    })?;
    result
}

/// Removes all but the newest snapshots, and the segments that end before the oldest of those.
///
/// # Errors
/// The disk's.
pub(in crate::store) fn prune(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        // Half a snapshot, of a time when there was no room or the master was killed. Only one is written at a time.
        if entry.file_name().as_encoded_bytes().ends_with(b".snapshot.tmp") {
            fs::remove_file(entry.path())?;
        }
    }
    let all = survey::list(directory)?;
    let snapshots: Vec<u64> =
        all.iter().filter(|(role, _)| *role == Role::Snapshot).map(|(_, number)| *number).collect();
    let Some(oldest) = snapshots.len().checked_sub(KEPT).and_then(|first| snapshots.get(first)) else { return Ok(()) };
    for (role, number) in all {
        // A segment that begins at or before a snapshot's line ends there too: segments are closed for snapshots.
        let old = match role {
            Role::Snapshot => number < *oldest,
            Role::Segment => number <= *oldest,
        };
        if old {
            fs::remove_file(path(directory, role, number))?;
        }
    }
    Ok(())
}
