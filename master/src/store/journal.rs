//! Changes as lines of JSON → numbered and checked lines in files → those lines again, and which of them are missing.
//!
//! The journal is what the ledger is; sled beside it is an index that can be made again. Under `journal/`: `N.lines`, a
//! segment, has the changes from line N on; `N.snapshot` all records as line N left them. A line is
//! `CRC NUMBER PLACE/OF JSON`: the CRC-32 of all that follows it, its number, and which line of how many that were
//! committed together. So each byte is checked, a missing line shows as a gap in the numbers, and what a crash left of a
//! group that nobody was told of is known by its end not being there.

pub(super) mod snapshot;
pub(super) mod survey;

use super::paths::{is_full, make_directory, sync_directory};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read as _};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Bytes of one line at most: a job with all the artifacts it may have, and then some.
pub(super) const LINE_BYTES: u64 = 8 << 20;
/// A segment is never closed before it has this many bytes: snapshots of small ledgers would be all that is written.
pub(super) const SEGMENT_BYTES: u64 = 1 << 20;
/// Bytes read from a file at once.
const READ_BYTES: usize = 64 << 10;
/// Digits in a file's name: those of the largest number, so that names sort as numbers do.
const DIGITS: usize = 20;

/// What a file of the journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// All records as a line left them.
    Snapshot,
    /// Changes.
    Segment,
}

pub(super) fn directory(state: &Path) -> PathBuf {
    state.join("journal")
}

pub(super) fn path(directory: &Path, role: Role, number: u64) -> PathBuf {
    let extension = if role == Role::Segment { "lines" } else { "snapshot" };
    directory.join(format!("{number:0DIGITS$}.{extension}"))
}

/// What a name in the journal's directory says; none of ours, nothing.
pub(super) fn recognise(name: &str) -> Option<(Role, u64)> {
    let (digits, extension) = name.split_once('.')?;
    let role = match extension {
        "lines" => Role::Segment,
        "snapshot" => Role::Snapshot,
        _ => return None,
    };
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().map(|number| (role, number)))?
}

/// One line as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub number: u64,
    /// Which line of its group it is, from 1.
    pub place: u64,
    /// How many its group has.
    pub of: u64,
    /// Its CRC, which tells it from another line of that number in another journal.
    pub check: u32,
    pub text: &'a str,
}

/// Adds line `place` of a group of `of` to `out` and returns its CRC. `text` is one line of JSON.
pub(super) fn encode(number: u64, place: u64, of: u64, text: &str, out: &mut Vec<u8>) -> u32 {
    let body = format!("{number} {place}/{of} {text}");
    let check = crc32fast::hash(body.as_bytes());
    out.extend_from_slice(format!("{check:08x} ").as_bytes());
    out.extend_from_slice(body.as_bytes());
    out.push(b'\n');
    check
}

/// Reads a line without its end; none when a byte of it is not what was written.
pub(super) fn decode(bytes: &[u8]) -> Option<Line<'_>> {
    let (said, body) = bytes.split_at_checked(9)?;
    let check = crc32fast::hash(body);
    // Compared as text, since a number has several spellings.
    if said != format!("{check:08x} ").as_bytes() {
        return None;
    }
    let mut words = std::str::from_utf8(body).ok()?.splitn(3, ' ');
    let (number, group, text) = (words.next()?, words.next()?, words.next()?);
    let (place, of) = group.split_once('/')?;
    let line = Line { number: number.parse().ok()?, place: place.parse().ok()?, of: of.parse().ok()?, check, text };
    (1..=line.of).contains(&line.place).then_some(line)
}

/// Calls `take` with each line of a file, or with none for what is no line, and with where it ends in the file. A part
/// that cannot be read is no line, and neither is what follows it.
///
/// # Errors
/// The file cannot be opened.
pub(super) fn read(path: &Path, take: &mut dyn FnMut(Option<Line<'_>>, u64)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_BYTES, File::open(path)?);
    let (mut buffer, mut end) = (Vec::new(), 0);
    loop {
        buffer.clear();
        let Ok(taken) = (&mut reader).take(LINE_BYTES + 1).read_until(b'\n', &mut buffer) else {
            take(None, end);
            return Ok(());
        };
        if taken == 0 {
            return Ok(());
        }
        end += taken as u64;
        take(buffer.strip_suffix(b"\n").and_then(decode), end);
    }
}

/// The open end of the journal. One thread writes.
#[derive(Debug)]
pub(super) struct Journal {
    directory: PathBuf,
    file: File,
    /// Number of the first line of the open segment.
    first: u64,
    /// Bytes of it that are durable.
    length: u64,
    /// Number of the next line.
    next: u64,
    /// CRC of the last line, if this process wrote it; else 0.
    check: u32,
}

impl Journal {
    /// Goes on behind line `last`, the last of the group in bytes `group` of the segment that begins with line `first`.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn resume(directory: &Path, first: u64, group: Range<u64>, last: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path(directory, Role::Segment, first))?;
        let length = group.end;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
        }
        // What a killed process wrote is in the page cache, and not durable before this. Had its flush failed, the pages would
        // be taken for clean and stay there alone (fsync(2)), so they are written once more. Every group before it is durable, or
        // it would not have been followed.
        let mut bytes = vec![0; usize::try_from(length.saturating_sub(group.start)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, group.start)?;
        match file.write_all_at(&bytes, group.start) {
            // Few file systems need room for that, and a full disk is no reason not to start.
            Err(error) if is_full(&error) => {}
            written => written?,
        }
        file.sync_data()?;
        Ok(Self { directory: directory.to_path_buf(), file, first, length, next: last.saturating_add(1), check: 0 })
    }

    /// Begins a segment behind line `last`.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn begin(directory: &Path, last: u64) -> io::Result<Self> {
        make_directory(directory)?;
        let next = last.saturating_add(1);
        let path = path(directory, Role::Segment, next);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.sync_all()?;
        sync_directory(directory)?;
        Ok(Self { directory: directory.to_path_buf(), file, first: next, length: 0, next, check: 0 })
    }

    /// Number of the last line; 0 before the first.
    pub(super) fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// CRC of the last line; 0 when it is not known.
    pub(super) fn check(&self) -> u32 {
        self.check
    }

    /// Bytes of the open segment.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Writes a group of lines and returns when it is durable: all of them or, after a crash or an error, none.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn append<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> io::Result<()> {
        let of = texts.len() as u64;
        let (mut bytes, mut check) = (Vec::new(), self.check);
        for (index, text) in texts.enumerate() {
            let index = index as u64;
            check = encode(self.next.saturating_add(index), index + 1, of, text, &mut bytes);
        }
        let written = self.file.write_all_at(&bytes, self.length).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is left of it would be cut off at the next start, being no whole group; but the next group comes first.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.next = self.next.saturating_add(of);
        self.check = check;
        Ok(())
    }

    /// Closes the open segment and begins the next one. Returns the number of the last line of the closed one.
    ///
    /// # Errors
    /// The disk's; then the open segment stays open.
    pub(super) fn turn(&mut self) -> io::Result<u64> {
        let last = self.last();
        if self.first > last {
            return Ok(last);
        }
        *self = Self::begin(&self.directory, last)?;
        Ok(last)
    }

    /// Calls `take` with every line after `number` that is in the files, in order.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn since(&self, number: u64, take: &mut dyn FnMut(u64, &str)) -> io::Result<()> {
        let mut firsts: Vec<u64> = survey::list(&self.directory)?
            .into_iter()
            .filter_map(|(role, first)| (role == Role::Segment).then_some(first))
            .collect();
        let begin = firsts.iter().rposition(|first| *first <= number.saturating_add(1)).unwrap_or(0);
        firsts.drain(..begin);
        for first in firsts {
            read(&path(&self.directory, Role::Segment, first), &mut |line, _| {
                if let Some(line) = line.filter(|line| line.number > number && line.number < self.next) {
                    take(line.number, line.text);
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_line_is_checked() {
        let mut bytes = Vec::new();
        let text = "{\"kind\":\"user\"}";
        let check = encode(4711, 2, 3, text, &mut bytes);
        assert_eq!(bytes.pop(), Some(b'\n'));
        assert_eq!(decode(&bytes), Some(Line { number: 4711, place: 2, of: 3, check, text }));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(decode(&changed), None, "bit {bit} of byte {at}");
            }
            assert_eq!(decode(&bytes[..at]), None);
        }
    }

    #[test]
    fn only_our_own_names_are_recognised() {
        let name = |role, number| path(Path::new(""), role, number).display().to_string();
        for (role, number) in [(Role::Segment, 1), (Role::Snapshot, u64::MAX)] {
            assert_eq!(recognise(&name(role, number)), Some((role, number)));
        }
        for name in ["1.lines", "00000000000000000001.lines.bak", "00000000000000000001.snapshot.tmp", "x"] {
            assert_eq!(recognise(name), None, "{name}");
        }
    }
}
