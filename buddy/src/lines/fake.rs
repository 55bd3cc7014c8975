//! Files of memory → lines: a bench without wires, to try a `boards.json` on, and for tests.
//!
//! The chip `levels:NAME` is `/dev/shm/NAME.out`, with a byte for each line that is driven, `0` or `1` as at its pin, in the order of
//! the bench, and `/dev/shm/NAME.in`, a pipe into which `a1` is written where the first line that is read becomes 1, and `b0` where
//! the second becomes 0. Lines that are driven or read in several ways have several of these, with the way in the name.

use super::{FILE, Group, Inputs, Lines, Seen};
use crate::serial::monotonic_ns;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What such a chip's name begins with.
pub const PREFIX: &str = "levels:";
/// Who may read and write these files.
const OURS: Mode = Mode::RUSR.union(Mode::WUSR);
/// Bytes that are taken from a pipe at once.
const READ_BYTES: usize = 4096;

/// See the file's first line.
#[derive(Debug)]
pub struct Levels {
    path: PathBuf,
}

impl Levels {
    /// One whose files begin with this path.
    pub fn new(path: &Path) -> Self {
        Levels { path: path.to_path_buf() }
    }

    fn file(&self, group: &Group, plain: &str, end: &str) -> PathBuf {
        let kind = group.name.rsplit_once('.').map_or("", |(_, kind)| kind);
        let mut name = OsString::from(&self.path);
        if kind != plain {
            name.push(".");
            name.push(kind);
        }
        name.push(end);
        name.into()
    }
}

impl Lines for Levels {
    fn drive(&self, group: &Group) -> io::Result<(&'static str, OwnedFd)> {
        let path = self.file(group, "push-pull", ".out");
        // Nobody is led elsewhere by a link that others put there.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = open(path, flags, OURS)?;
        set(file.as_fd(), group.mask(), group.safe())?;
        Ok((FILE, file))
    }

    fn read(&self, group: &Group) -> io::Result<Box<dyn Inputs>> {
        let path = self.file(group, "in-asis-0", ".in");
        match mknodat(CWD, &path, FileType::Fifo, OURS, 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        // Open for writing too, so that it has no end when a writer goes.
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let pipe = open(path, flags, Mode::empty())?;
        if !FileType::from_raw_mode(rustix::fs::fstat(&pipe)?.st_mode).is_fifo() {
            return Err(io::Error::other(format!("{} is no pipe", self.path.display())));
        }
        let numbers = vec![0; group.lines.len()];
        Ok(Box::new(Edges { group: group.clone(), pipe, levels: 0, numbers, line: None }))
    }
}

/// Writes levels.
pub(super) fn set(file: BorrowedFd<'_>, mask: u64, levels: u64) -> io::Result<()> {
    for place in (0..u64::from(u64::BITS)).filter(|place| mask >> place & 1 == 1) {
        let level = if levels >> place & 1 == 1 { b"1" } else { b"0" };
        rustix::io::pwrite(file, level, place)?;
    }
    Ok(())
}

/// Edges from a pipe.
#[derive(Debug)]
struct Edges {
    group: Group,
    pipe: OwnedFd,
    levels: u64,
    numbers: Vec<u64>,
    /// The line that the next level is of.
    line: Option<usize>,
}

impl super::Levels for Edges {
    fn levels(&self) -> io::Result<u64> {
        Ok(self.levels)
    }
}

impl Inputs for Edges {
    fn files(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.pipe.as_fd()]
    }

    fn take(&mut self, out: &mut Vec<Seen>) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let count = match rustix::io::read(&self.pipe, &mut buffer) {
            Err(Errno::AGAIN | Errno::INTR) => 0,
            other => other?,
        };
        for byte in buffer.iter().take(count) {
            if byte.is_ascii_lowercase() {
                self.line = Some(usize::from(byte - b'a'));
            }
            let (Some(line), b'0' | b'1') = (self.line, byte) else { continue };
            let (Some(number), Some(of)) = (self.numbers.get_mut(line), self.group.lines.get(line)) else { continue };
            *number += 1;
            let level = (*byte == b'1') != of.active_low;
            self.levels = self.levels & !(1 << line) | u64::from(level) << line;
            out.push(Seen::Edge { line, level, ns: monotonic_ns(), number: *number });
        }
        Ok(())
    }

    fn counts_losses(&self) -> bool {
        true
    }
}
