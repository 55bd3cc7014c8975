//! Records of a job's log → segment files of bounded size, and those files → bytes at an offset, until they are acknowledged.
//!
//! A segment is named by the offset of its first byte and begins with a whole record; the next one begins where it ends. So a
//! reader finds the next file by arithmetic, and after a crash a torn record can only be at the end of the last file.
//! Nothing is synced before the verdict: the page cache outlives any of our processes, and a job that runs does not outlive its
//! machine. So after a power cut nothing in here counts unless the attempt had ended, see `job_directory`.

use sai_core::record::{HEADER_BYTES, LATER, may_be};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes after which a segment is closed: small enough that acknowledged bytes leave the disk soon, large enough that opening
/// and unlinking files costs nothing.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// Kind of the last record of a log in its header.
const VERDICT: u8 = 7;
/// Kind of an artifact announcement in its header.
const ARTIFACT: u8 = 5;

fn segment_name(start: u64) -> String {
    format!("{start:016x}")
}

fn segment_start(name: &OsStr) -> Option<u64> {
    let name = name.to_str()?;
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok())?
}

/// Starts of the segments in a spool, rising.
fn segments(spool: &Path) -> io::Result<Vec<u64>> {
    let mut starts = Vec::new();
    for entry in fs::read_dir(spool)? {
        starts.extend(segment_start(&entry?.file_name()));
    }
    starts.sort_unstable();
    Ok(starts)
}

/// The supervisor's end of a spool.
#[derive(Debug)]
pub struct SpoolWriter {
    spool: PathBuf,
    file: File,
    start: u64,
    length: u64,
}

impl SpoolWriter {
    /// Goes on at the end of a spool whose last record is whole.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(spool: &Path) -> io::Result<Self> {
        let start = segments(spool)?.last().copied().unwrap_or(0);
        let path = spool.join(segment_name(start));
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let length = start + file.metadata()?.len();
        Ok(Self { spool: spool.to_path_buf(), file, start, length })
    }

    /// Bytes ever appended.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends whole records.
    ///
    /// # Errors
    /// The disk's; then nothing was appended, and the same records may be tried again.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if self.length - self.start >= SEGMENT_BYTES {
            let path = self.spool.join(segment_name(self.length));
            self.file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            self.start = self.length;
        }
        if let Err(error) = self.file.write_all(records) {
            // A part may have been written. It is cut off again, so that the file always ends with a whole record.
            self.file.set_len(self.length - self.start)?;
            return Err(error);
        }
        self.length += records.len() as u64;
        Ok(())
    }
}

/// What stands at the end of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Offset behind the last whole record.
    pub length: u64,
    /// Offset of that record.
    pub last: u64,
    /// Time of that record, microseconds since the job began.
    pub micros: u64,
    /// Whether that record is the verdict.
    pub verdict: bool,
    /// Whether that record announces an artifact.
    pub artifact: bool,
}

/// Walks the records of the last segment from `known` on (or from its begin) to the last whole one.
fn walk(file: &File, start: u64, known: Tail) -> io::Result<Tail> {
    let size = file.metadata()?.len();
    let mut tail = if known.length > start { known } else { Tail { length: start, ..known } };
    // One read covers many small records; the payloads of large ones are skipped.
    let mut buffer = vec![0; 4096];
    let (mut at, mut held) = (0, 0);
    loop {
        let offset = tail.length - start;
        if offset < at || offset + HEADER_BYTES as u64 > at + held {
            (at, held) = (offset, file.read_at(&mut buffer, offset)? as u64);
        }
        let from = (offset - at) as usize;
        let Some(header) = buffer.get(from..from + HEADER_BYTES).filter(|_| offset + HEADER_BYTES as u64 <= at + held)
        else {
            return Ok(tail);
        };
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let end = offset + HEADER_BYTES as u64 + u64::from(length);
        if !may_be(header[0]) || end > size {
            return Ok(tail);
        }
        let mut micros = [0; 8];
        micros.copy_from_slice(&header[8..16]);
        tail = Tail {
            length: start + end,
            last: tail.length,
            micros: u64::from_le_bytes(micros),
            verdict: header[0] == VERDICT,
            // What a later version has to say after the announcement takes nothing from it.
            artifact: header[0] == ARTIFACT || (header[0] >= LATER && tail.artifact),
        };
    }
}

/// Cuts a torn record off the end of a spool nobody writes to any more, and tells what stands there.
///
/// # Errors
/// The disk's.
pub fn recover(spool: &Path) -> io::Result<Tail> {
    let mut tail = Tail::default();
    // A segment that was opened but never written tells nothing about the record before it: that one is in the file before.
    let starts = segments(spool)?;
    let last_two = starts.len().saturating_sub(2);
    for start in starts.into_iter().skip(last_two) {
        let file = OpenOptions::new().read(true).write(true).open(spool.join(segment_name(start)))?;
        if tail.length > 0 && tail.length != start {
            // The file before ends early, which a disk that failed has left so: what follows has no place any more.
            fs::remove_file(spool.join(segment_name(start)))?;
            continue;
        }
        tail = walk(&file, start, tail)?;
        file.set_len(tail.length - start)?;
    }
    Ok(tail)
}

/// The agent's end of a spool: reads at any offset that has not been trimmed. Keeps the current file open.
#[derive(Debug)]
pub struct SpoolReader {
    spool: PathBuf,
    current: Option<(u64, File)>,
    tail: Tail,
    oldest: u64,
}

impl SpoolReader {
    /// A reader of this spool.
    pub fn new(spool: PathBuf) -> Self {
        Self { spool, current: None, tail: Tail::default(), oldest: 0 }
    }

    /// Offset behind the last whole record that may be told, which the verdict may only once it is `settled`. Only what is new
    /// since the last call is looked at.
    ///
    /// # Errors
    /// The disk's.
    pub fn length(&mut self, settled: bool) -> io::Result<u64> {
        let last = segments(&self.spool)?.last().copied();
        if let Some(start) = last {
            // Records may also have been added to the file that was the last one before: it ends where this one begins.
            let known = std::mem::take(&mut self.tail);
            let file = File::open(self.spool.join(segment_name(start)))?;
            self.tail = walk(&file, start, known)?;
        }
        Ok(if self.tail.verdict && !settled { self.tail.last } else { self.tail.length })
    }

    /// Reads bytes from `offset` on into `buffer`; 0 at the end. A read never crosses a segment's end.
    ///
    /// # Errors
    /// `NotFound` below what was trimmed; else the disk's.
    pub fn read(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some((start, file)) = self.current.as_ref().filter(|(start, _)| *start <= offset) {
            let read = file.read_at(buffer, offset - start)?;
            if read > 0 {
                return Ok(read);
            }
        }
        // Going on in order, the next file is the one that begins here; after a jump it has to be looked for.
        let start = match self.current {
            Some((start, _)) if start < offset && self.spool.join(segment_name(offset)).exists() => offset,
            _ => match segments(&self.spool)? {
                starts if starts.is_empty() => return Ok(0),
                starts => match starts.into_iter().rfind(|start| *start <= offset) {
                    Some(start) => start,
                    None => return Err(io::Error::new(io::ErrorKind::NotFound, "these bytes of the log were trimmed")),
                },
            },
        };
        let file = File::open(self.spool.join(segment_name(start)))?;
        let read = file.read_at(buffer, offset - start)?;
        self.current = Some((start, file));
        Ok(read)
    }

    /// Removes the segments that lie wholly below `acked`, never the last one.
    ///
    /// # Errors
    /// The disk's.
    pub fn trim(&mut self, acked: u64) -> io::Result<()> {
        if acked < self.oldest.saturating_add(SEGMENT_BYTES) {
            return Ok(());
        }
        let starts = segments(&self.spool)?;
        for pair in starts.windows(2) {
            let [start, end] = *pair else { continue };
            self.oldest = start;
            if end > acked {
                break;
            }
            fs::remove_file(self.spool.join(segment_name(start)))?;
            self.oldest = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::job::{Fault, Outcome, Verdict};
    use sai_core::record::{Record, encode, encode_data};

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sai-spool-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn read_all(reader: &mut SpoolReader, mut offset: u64) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 70_000]);
        loop {
            let read = reader.read(offset, &mut buffer).unwrap();
            if read == 0 {
                return all;
            }
            all.extend_from_slice(&buffer[..read]);
            offset += read as u64;
        }
    }

    #[test]
    fn bytes_come_back_over_segments_and_leave_when_acknowledged() {
        let path = directory("segments");
        let mut writer = SpoolWriter::open(&path).unwrap();
        let mut reader = SpoolReader::new(path.clone());
        assert_eq!(reader.length(true).unwrap(), 0);
        assert_eq!(reader.read(0, &mut [0; 9]).unwrap(), 0);
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        for number in 0..300_u32 {
            batch.clear();
            encode_data(0, &vec![number as u8; 60_000], u64::from(number), &mut batch);
            writer.append(&batch).unwrap();
            all.extend_from_slice(&batch);
            assert_eq!(reader.length(true).unwrap(), all.len() as u64);
        }
        assert!(segments(&path).unwrap().len() >= 4);
        assert_eq!(read_all(&mut reader, 0), all);
        assert_eq!(read_all(&mut SpoolReader::new(path.clone()), 12_345_678), all[12_345_678..]);
        let before = segments(&path).unwrap();
        reader.trim(before[2]).unwrap();
        assert_eq!(segments(&path).unwrap(), before[2..]);
        assert!(reader.read(0, &mut [0; 9]).is_err());
        assert_eq!(read_all(&mut reader, before[2]), all[before[2] as usize..]);
        reader.trim(u64::MAX).unwrap();
        assert_eq!(segments(&path).unwrap(), before[before.len() - 1..]);
        assert_eq!(SpoolReader::new(path.clone()).length(true).unwrap(), all.len() as u64);
        assert_eq!(SpoolWriter::open(&path).unwrap().length(), all.len() as u64);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_torn_record_is_never_shown_and_cut_off() {
        let path = directory("torn");
        let mut records = Vec::new();
        encode_data(0, b"whole", 7, &mut records);
        let whole = records.len() as u64;
        encode_data(0, &[1; 5000], 8, &mut records);
        for cut in [whole as usize, whole as usize + 1, whole as usize + 15, whole as usize + 16, records.len() - 1] {
            fs::write(path.join(segment_name(0)), &records[..cut]).unwrap();
            assert_eq!(SpoolReader::new(path.clone()).length(true).unwrap(), whole);
            let tail = recover(&path).unwrap();
            assert_eq!(tail, Tail { length: whole, last: 0, micros: 7, verdict: false, artifact: false });
            assert_eq!(fs::metadata(path.join(segment_name(0))).unwrap().len(), whole);
        }
        // Records of a later version's are whole ones.
        let mut later = records[..whole as usize].to_vec();
        later.extend_from_slice(&[64, 9, 9, 9, 4, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0xff, 0]);
        let length = later.len() as u64;
        fs::write(path.join(segment_name(0)), [&later[..], &[255, 0, 0, 0, 4, 0, 0, 0]].concat()).unwrap();
        assert_eq!(SpoolReader::new(path.clone()).length(true).unwrap(), length);
        assert_eq!(recover(&path).unwrap(), Tail { length, last: whole, micros: 8, verdict: false, artifact: false });
        // Zeros, as a file system leaves them when it fails.
        fs::write(path.join(segment_name(0)), [&records[..whole as usize], &[0; 100]].concat()).unwrap();
        assert_eq!(recover(&path).unwrap().length, whole);
        let mut writer = SpoolWriter::open(&path).unwrap();
        let mut last = Vec::new();
        let verdict = Verdict {
            outcome: Outcome::Passed,
            fault: Fault::Nobody,
            cause: String::new(),
            step: None,
            status: None,
            trouble: None,
            verdict: None,
        };
        encode(&Record::Verdict(verdict), 9, &mut last);
        writer.append(&last).unwrap();
        // It is not told before it is durable.
        assert_eq!(SpoolReader::new(path.clone()).length(false).unwrap(), whole);
        assert_eq!(SpoolReader::new(path.clone()).length(true).unwrap(), writer.length());
        // A segment that was opened and never written does not hide the verdict before it.
        fs::write(path.join(segment_name(writer.length())), b"").unwrap();
        assert!(recover(&path).unwrap().verdict);
        fs::remove_dir_all(&path).unwrap();
    }
}
