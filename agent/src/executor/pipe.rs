//! A pipe between the steps of a job and its supervisor.

use rustix::fs::{CWD, Mode, OFlags, fcntl_setfl, openat};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Bytes a pipe may hold: a job that prints much then seldom waits for us. Pipes stay smaller where the system says so.
const PIPE_BYTES: usize = 1 << 20;

/// One pipe, from the reader's side.
#[derive(Debug)]
pub struct Pipe {
    /// The end to read from, without waiting.
    pub read: OwnedFd,
    /// Our own copy of the other end, which keeps the pipe open from step to step.
    pub write: Option<OwnedFd>,
    /// Whether somebody may still write.
    pub open: bool,
}

impl Pipe {
    /// A pipe that is inherited.
    ///
    /// # Errors
    /// The system's.
    pub fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&read, OFlags::NONBLOCK)?;
        Ok(Self::of(read, write))
    }

    /// A pipe that has a name, by which it is opened at the other end.
    ///
    /// # Errors
    /// The system's.
    pub fn named(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let read = openat(CWD, path, flags | OFlags::RDONLY, Mode::empty())?;
        let write = openat(CWD, path, flags | OFlags::WRONLY, Mode::empty())?;
        Ok(Self::of(read, write))
    }

    fn of(read: OwnedFd, write: OwnedFd) -> Self {
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Self { read, write: Some(write), open: true }
    }
}
