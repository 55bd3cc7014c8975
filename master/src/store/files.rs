//! Stream bytes, saifile → plain files, and those files → bytes again: names, durable writing, compression, reading.
//!
//! The only file that knows lz4_flex. Under the state directory: `logs/JOB-ATTEMPT.log` while a job runs, packed into
//! `logs/JOB-ATTEMPT.log.lz4` when it is complete; `artifacts/JOB-ATTEMPT/STREAM`; `saifiles/EVENT.json`.
//! A packed log is LZ4 frames end to end (lz4 Frame Format Description 1.6), which `lz4 -d` reads. Each holds
//! `PIECE_BYTES` and says its length in its header, so that a reader finds its place by headers alone.

use super::lengths::Lengths;
use super::writer::{self, Operation, Shared};
use super::{Change, StoreError, carried};
use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use sai_core::job::{EventId, JobKey};
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Bytes of a log in one LZ4 frame: large enough to pack well, small enough to unpack for one line.
const PIECE_BYTES: usize = 1 << 20;
/// A log shorter than this stays as it is: there is little to gain and two names to sync.
const PACK_FROM_BYTES: u64 = 16 << 10;
/// Bytes that may wait to be written before a caller should stop reading from its links.
pub const QUEUE_BYTES: u64 = 16 << 20;
/// Bytes of a log that are read at once to know what it announced.
const PRUNE_BYTES: usize = 256 << 10;
/// Bytes of a saifile at most when one is read back: far more than the limit for a pushed one.
const SAIFILE_BYTES: u64 = 16 << 20;
/// Bytes of a plan that are read at most: the texts of an event's jobs, of which each byte may take six as JSON, and room for
/// what they need.
const PLAN_BYTES: u64 = 256 << 20;

/// What the files have to tell. All reports come from one thread, in order; the callback must not block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// Bytes are in the file for live viewers, not yet durable.
    Appended {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Bytes the file has now.
        length: u64,
    },
    /// Bytes are durable and may be acknowledged.
    Flushed {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Durable bytes from the beginning.
        length: u64,
    },
    /// The answer to [`Files::seal`].
    Sealed {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Whether length and digest of the durable file are the announced ones.
        ok: bool,
    },
    /// Bytes were not taken (a gap, an overlap, a complete log) or could not be made durable; the file is cut back to
    /// what was. [`Files::lengths`] says where to go on.
    Failed {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// For people.
        why: String,
    },
    /// There is little room: no new job should start. Bytes of running ones wait in the queue, unacknowledged, when it is full.
    Low {
        /// Free space where the state is, MiB.
        free_mib: u64,
    },
    /// There is enough again.
    Enough,
    /// What is flushed when was decided by what cannot be: a mistake in Sai.
    Bug(&'static str),
}

/// Takes reports.
pub type Reporter = Box<dyn Fn(Report) + Send + Sync>;

/// Free bytes for other users than root where `path` is.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// What a saifile or plan is called until it is whole.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("json.tmp")
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory that only the master's user may look into, and those above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Something found under the state directory by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Log(JobKey),
    PackedLog(JobKey),
    Artifacts(JobKey),
    Saifile(EventId),
    Plan(EventId),
    /// Something half written when the master was killed.
    Leftover,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub state: PathBuf,
}

impl Paths {
    pub(super) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    pub(super) fn log(&self, key: JobKey) -> PathBuf {
        self.logs().join(format!("{key}.log"))
    }

    /// Whether an attempt has a log, packed or not.
    pub(super) fn log_exists(&self, key: JobKey) -> bool {
        self.log(key).exists() || self.packed_log(key).exists()
    }

    fn packed_log(&self, key: JobKey) -> PathBuf {
        self.logs().join(format!("{key}.log.lz4"))
    }

    pub(super) fn artifacts(&self, key: JobKey) -> PathBuf {
        self.state.join("artifacts").join(key.to_string())
    }

    /// The file of a stream: 0 is the log.
    pub(super) fn stream(&self, key: JobKey, stream: u16) -> PathBuf {
        if stream == 0 { self.log(key) } else { self.artifacts(key).join(stream.to_string()) }
    }

    pub(super) fn saifiles(&self) -> PathBuf {
        self.state.join("saifiles")
    }

    pub(super) fn saifile(&self, event: EventId) -> PathBuf {
        self.saifiles().join(format!("{event}.json"))
    }

    /// It lies beside the saifile, so that it goes wherever that is copied.
    pub(super) fn plan(&self, event: EventId) -> PathBuf {
        self.saifiles().join(format!("{event}.plan.json"))
    }

    fn make(&self) -> io::Result<()> {
        make_directory(&self.logs())?;
        make_directory(&self.state.join("artifacts"))?;
        make_directory(&self.saifiles())?;
        sync_directory(&self.state)
    }

    /// Calls `found` with all that has a name of ours, and when it was last written.
    pub(super) fn each(&self, mut found: impl FnMut(Found, &Path, Option<SystemTime>)) -> io::Result<()> {
        for directory in [self.logs(), self.state.join("artifacts"), self.saifiles()] {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(what) = name.to_str().and_then(|name| Self::recognise(&directory, name)) else { continue };
                let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                found(what, &entry.path(), modified);
            }
        }
        Ok(())
    }

    fn recognise(directory: &Path, name: &str) -> Option<Found> {
        if name.ends_with(".tmp") {
            return Some(Found::Leftover);
        }
        match directory.file_name()?.to_str()? {
            "logs" => match name.strip_suffix(".lz4") {
                Some(log) => Some(Found::PackedLog(log.strip_suffix(".log")?.parse().ok()?)),
                None => Some(Found::Log(name.strip_suffix(".log")?.parse().ok()?)),
            },
            "artifacts" => Some(Found::Artifacts(name.parse().ok()?)),
            _ => match name.strip_suffix(".plan.json") {
                Some(event) => Some(Found::Plan(event.parse().ok()?)),
                None => Some(Found::Saifile(name.strip_suffix(".json")?.parse().ok()?)),
            },
        }
    }

    /// Bytes that the files of an attempt take.
    pub(super) fn size(&self, key: JobKey) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let artifacts = fs::read_dir(self.artifacts(key)).into_iter().flatten().flatten();
        let artifacts: u64 = artifacts.map(|entry| size(&entry.path())).sum();
        size(&self.log(key)) + size(&self.packed_log(key)) + artifacts
    }

    /// Unlinks the files of an attempt; those that are open stay readable.
    pub(super) fn remove(&self, key: JobKey) -> io::Result<()> {
        let absent = |result: io::Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        absent(fs::remove_file(self.log(key)))?;
        absent(fs::remove_file(self.packed_log(key)))?;
        absent(fs::remove_dir_all(self.artifacts(key)))
    }

    /// Opens a stream's file for appending. `fresh`: its first byte comes, so that it may have to be made.
    pub(super) fn open_stream(&self, key: JobKey, stream: u16, fresh: bool) -> io::Result<File> {
        let path = self.stream(key, stream);
        if stream > 0 && fresh {
            make_directory(&self.artifacts(key))?;
        }
        if stream == 0 && self.packed_log(key).exists() {
            return Err(io::Error::other("the log is complete"));
        }
        OpenOptions::new().read(true).write(true).create(fresh).truncate(false).mode(0o600).open(path)
    }

    /// Makes the name of a stream's file durable.
    pub(super) fn sync_names(&self, key: JobKey, stream: u16) -> io::Result<()> {
        if stream == 0 {
            return sync_directory(&self.logs());
        }
        sync_directory(&self.artifacts(key))?;
        sync_directory(&self.state.join("artifacts"))
    }

    /// Writes a saifile or plan; durable when this returns.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = Self::draft(path, bytes)?;
        file.sync_all()?;
        fs::rename(temporary(path), path)?;
        sync_directory(&self.saifiles())
    }

    /// Writes what a saifile or plan is to be beside its place.
    fn draft(path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(temporary(path))?;
        file.write_all(bytes)?;
        Ok(file)
    }

    /// Writes a saifile or plan; whole for whoever reads it, and lost with the power.
    pub(super) fn show(path: &Path, bytes: &[u8]) -> io::Result<()> {
        Self::draft(path, bytes)?;
        fs::rename(temporary(path), path)
    }

    pub(super) fn read_saifile(&self, event: EventId) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.saifile(event))?.take(SAIFILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_plan(&self, event: EventId) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.plan(event))?.take(PLAN_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Cuts a file back to what is durable of it, and says how much that is.
    fn cut(&self, lengths: &Lengths, key: JobKey, stream: u16) -> io::Result<u64> {
        let file = OpenOptions::new().read(true).write(true).open(self.stream(key, stream))?;
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

    fn lengths(&self, lengths: &Lengths, key: JobKey) -> io::Result<Vec<u64>> {
        let log = match self.cut(lengths, key, 0) {
            Ok(length) => {
                self.sync_names(key, 0)?;
                length
            }
            Err(error) if error.kind() == ErrorKind::NotFound => match LogReader::open(self, key) {
                Ok(log) => log.length(),
                Err(error) if error.kind() == ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let mut found = vec![log];
        let entries = match fs::read_dir(self.artifacts(key)) {
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
                *length = self.cut(lengths, key, stream)?;
            }
        }
        self.sync_names(key, 1)?;
        Ok(found)
    }

    /// Unlinks the files of an ended attempt that are not as its log announced them. A log that cannot be read decides
    /// nothing: damage to it must not cost files that are whole.
    pub(super) fn prune(&self, key: JobKey) -> io::Result<()> {
        let directory = self.artifacts(key);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut sizes: Map<u16, u64> = Map::new();
        let mut left = false;
        let mut decoder = Decoder::new();
        let mut buffer = vec![0; PRUNE_BYTES];
        match LogReader::open(self, key) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(mut log) => loop {
                let taken = log.read(&mut buffer)?;
                let read = decoder.push(buffer.get(..taken).unwrap_or_default(), |item| {
                    if let Item::Record(_, Record::Artifact(artifact)) = item {
                        sizes.insert(artifact.stream, artifact.size);
                    }
                });
                read.map_err(io::Error::other)?;
                if taken == 0 {
                    break;
                }
            },
        }
        for entry in entries {
            let entry = entry?;
            let stream = entry.file_name().to_str().and_then(|name| name.parse::<u16>().ok());
            let announced = stream.and_then(|stream| sizes.get(&stream));
            if announced == Some(&entry.metadata()?.len()) {
                left = true;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        if left { Ok(()) } else { fs::remove_dir(directory) }
    }

    /// Packs a complete log: written beside, synced, renamed, and only then is the plain one unlinked.
    pub(super) fn pack(&self, key: JobKey) -> io::Result<()> {
        let plain_path = self.log(key);
        let plain = File::open(&plain_path)?;
        let length = plain.metadata()?.len();
        if length < PACK_FROM_BYTES {
            return Ok(());
        }
        let packed_path = self.packed_log(key);
        let temporary = packed_path.with_extension("lz4.tmp");
        let packed = || -> io::Result<()> {
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            let mut piece = Vec::with_capacity(PIECE_BYTES);
            loop {
                piece.clear();
                (&plain).take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
                if piece.is_empty() {
                    break;
                }
                let info = FrameInfo::new()
                    .block_mode(BlockMode::Independent)
                    .block_size(BlockSize::Max1MB)
                    .content_checksum(true)
                    .content_size(Some(piece.len() as u64));
                let mut frame = FrameEncoder::with_frame_info(info, Vec::with_capacity(PIECE_BYTES / 2));
                frame.write_all(&piece)?;
                out.write_all(&frame.finish().map_err(io::Error::other)?)?;
            }
            out.sync_all()?;
            if plain.metadata()?.len() != length {
                return Err(io::Error::other("the log grew while it was packed"));
            }
            fs::rename(&temporary, &packed_path)?;
            sync_directory(&self.logs())
        };
        if let Err(error) = packed() {
            // A full disk is the likely reason: leave nothing behind. The plain log is as good; the next start tries anew.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        fs::remove_file(&plain_path)
    }
}

/// One frame of a packed log.
struct Frame {
    /// Bytes of the log in it.
    length: u64,
    /// Where the next one begins in the file.
    end: u64,
}

/// Reads the headers of the frame at an offset of the file; none at the end of the file.
fn frame_at(file: &File, offset: u64) -> io::Result<Option<Frame>> {
    let foreign = || io::Error::new(ErrorKind::InvalidData, "a packed log that Sai did not write or that is damaged");
    // Magic number, two bytes of flags, content size, header checksum, size of the first block.
    let mut head = [0; 19];
    let size = file.metadata()?.len();
    if offset >= size {
        return Ok(None);
    }
    file.read_exact_at(&mut head, offset).map_err(|_| foreign())?;
    let [m0, m1, m2, m3, flags, _, l0, l1, l2, l3, l4, l5, l6, l7, _, b0, b1, b2, b3] = head;
    // Version 1, blocks independent and without checksum, content size and content checksum present.
    if [m0, m1, m2, m3] != [0x04, 0x22, 0x4d, 0x18] || flags != 0b0110_1100 {
        return Err(foreign());
    }
    let length = u64::from_le_bytes([l0, l1, l2, l3, l4, l5, l6, l7]);
    if length == 0 || length > PIECE_BYTES as u64 {
        return Err(foreign());
    }
    let mut block = u32::from_le_bytes([b0, b1, b2, b3]);
    let mut end = offset + 19;
    while block != 0 {
        // The highest bit says that the block is stored as it is.
        end += u64::from(block & 0x7fff_ffff);
        let mut next = [0; 4];
        file.read_exact_at(&mut next, end).map_err(|_| foreign())?;
        block = u32::from_le_bytes(next);
        end += 4;
    }
    let end = end + 4;
    if end > size {
        return Err(foreign());
    }
    Ok(Some(Frame { length, end }))
}

/// A log's bytes, packed or not. Seeking unpacks nothing but the frame it ends in.
#[derive(Debug)]
pub struct LogReader {
    file: File,
    /// Bytes of the log, when it is packed; a plain one may still grow.
    packed: Option<u64>,
    position: u64,
    /// The unpacked frame and its offset in the log.
    piece: (u64, Vec<u8>),
    /// Offset in the log and in the file of a frame's beginning, from which to look further.
    mark: (u64, u64),
}

impl LogReader {
    pub(super) fn open(paths: &Paths, key: JobKey) -> io::Result<Self> {
        let new = |file, packed| Self { file, packed, position: 0, piece: (0, Vec::new()), mark: (0, 0) };
        match File::open(paths.log(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            plain => return Ok(new(plain?, None)),
        }
        // The packed one has its name before the plain one loses it, so that one of the two is always there.
        let file = File::open(paths.packed_log(key))?;
        let (mut length, mut offset) = (0, 0);
        while let Some(frame) = frame_at(&file, offset)? {
            length += frame.length;
            offset = frame.end;
        }
        Ok(new(file, Some(length)))
    }

    /// Bytes of the log, as of now when it still grows.
    pub fn length(&self) -> u64 {
        self.packed.unwrap_or_else(|| self.file.metadata().map_or(0, |metadata| metadata.len()))
    }

    /// Unpacks the frame that holds the current position.
    fn unpack(&mut self) -> io::Result<()> {
        if self.mark.0 > self.position {
            self.mark = (0, 0);
        }
        while let Some(frame) = frame_at(&self.file, self.mark.1)? {
            let (start, offset) = self.mark;
            if start + frame.length > self.position {
                let mut content = std::mem::take(&mut self.piece.1);
                content.clear();
                (&self.file).seek(SeekFrom::Start(offset))?;
                let packed = (&self.file).take(frame.end - offset);
                // One byte more than there may be: only at its end does the decoder compare the checksum.
                FrameDecoder::new(packed).take(frame.length + 1).read_to_end(&mut content)?;
                if content.len() as u64 != frame.length {
                    return Err(io::Error::new(ErrorKind::InvalidData, "a packed log that is damaged"));
                }
                self.piece = (start, content);
                return Ok(());
            }
            self.mark = (start + frame.length, frame.end);
        }
        Ok(())
    }
}

impl Read for LogReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(length) = self.packed else {
            let taken = self.file.read_at(buffer, self.position)?;
            self.position += taken as u64;
            return Ok(taken);
        };
        if self.position >= length || buffer.is_empty() {
            return Ok(0);
        }
        let held = |piece: &(u64, Vec<u8>), position: u64| {
            usize::try_from(position.checked_sub(piece.0)?).ok().filter(|at| *at < piece.1.len())
        };
        if held(&self.piece, self.position).is_none() {
            self.unpack()?;
        }
        let Some(rest) = held(&self.piece, self.position).and_then(|at| self.piece.1.get(at..)) else { return Ok(0) };
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.position += taken as u64;
        Ok(taken)
    }
}

impl Seek for LogReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
        };
        self.position = position.ok_or_else(|| io::Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

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

    /// Durable lengths of the streams 0, 1, … of an attempt after a restart: what was flushed and written down. What a
    /// file has beyond that, which may be anything after a power cut, is cut off. Streams without a file in between have 0.
    ///
    /// # Errors
    /// The disk's, or a packed log that is damaged.
    pub fn lengths(&self, key: JobKey) -> io::Result<Vec<u64>> {
        self.paths().lengths(&self.shared.lengths, key)
    }
}

/// Bytes of free space below which streams wait, so that records can still be written: the ledger's reserve twice.
pub(super) const FLOOR_BYTES: u64 = 2 * super::ledger::RESERVE_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_recognised() {
        let logs = Path::new("/s/logs");
        let key = JobKey { job: 7, attempt: 2 };
        assert_eq!(Paths::recognise(logs, "7-2.log"), Some(Found::Log(key)));
        assert_eq!(Paths::recognise(logs, "7-2.log.lz4"), Some(Found::PackedLog(key)));
        assert_eq!(Paths::recognise(logs, "7-2.log.lz4.tmp"), Some(Found::Leftover));
        assert_eq!(Paths::recognise(logs, "notes.txt"), None);
        assert_eq!(Paths::recognise(Path::new("/s/artifacts"), "7-2"), Some(Found::Artifacts(key)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.json"), Some(Found::Saifile(12)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.plan.json"), Some(Found::Plan(12)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.plan.json.tmp"), Some(Found::Leftover));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "x.json"), None);
    }
}
