//! What a step that has a board, its supervisors and the words of its command say to each other ↔ messages of one kind of socket.

use miniserde::{Deserialize, Serialize, json};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::SocketAddrUnix;
use sai_buddy::link::Link;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

/// Words of a command, or of a person, that may be under way at once.
pub const WORDS: usize = 16;

/// A message. Which of its keys it has is said by its word:
///
/// | word | from | to | keys, and files |
/// |---|---|---|---|
/// | `want` | the step | its job's supervisor | `name`: type of board; `names`: tags |
/// | `waits` | that supervisor | the step | `job`: the session |
/// | `refused` | any supervisor | the step | `why`: there is none, or none any more |
/// | `given` | the session's supervisor | the step | `name`: the board; `names`: its consoles |
/// | `ttys` | the step | that supervisor | the files of its ttys, in the order of the consoles |
/// | `word` | the step | that supervisor | a connection of a word of the command |
/// | `ended` | the step | that supervisor | `status`: of the command |
/// | `over` | that supervisor | the step | the board is let go |
/// | `flash` | a word | that supervisor | `names`: `TARGET=FILE` or `=FILE`, and each file |
/// | `flash` | a person's word | that supervisor | `names`: the same; `digests`: `SHA256 SIZE` of each; `unverified` |
/// | `play`, `mode`, `power` | a word | that supervisor | `name` |
/// | `expect` | a word | that supervisor | `text`: pattern; `console`; `ms` |
/// | `send` | a word | that supervisor | `text`: bytes as characters; `console` |
/// | `listen` | a word | that supervisor | `console` |
/// | `note` | that supervisor | a word | `text`: for people |
/// | `had` | that supervisor | a word | `text`: bytes as characters |
/// | `done` | that supervisor | a word | `why` where it failed |
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The word.
    pub t: String,
    /// See the table.
    pub name: Option<String>,
    /// See the table.
    pub names: Option<Vec<String>>,
    /// See the table.
    pub digests: Option<Vec<String>>,
    /// See the table.
    pub unverified: Option<bool>,
    /// See the table.
    pub console: Option<String>,
    /// See the table.
    pub text: Option<String>,
    /// See the table.
    pub why: Option<String>,
    /// See the table.
    pub ms: Option<u64>,
    /// See the table.
    pub job: Option<u64>,
    /// See the table.
    pub status: Option<i32>,
}

impl Said {
    /// One of this word.
    pub fn new(t: &str) -> Self {
        Self { t: t.to_string(), ..Default::default() }
    }

    /// Sends it, at once or not at all.
    ///
    /// # Errors
    /// The other end is gone, or does not read.
    pub fn send(&self, link: &Link, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        link.send(json::to_string(self).as_bytes(), files)
    }

    /// The one in a message.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        json::from_str(std::str::from_utf8(bytes).ok()?).ok()
    }
}

/// Does something with the address of a socket, which may lie deeper than an address is long.
///
/// # Errors
/// The system's.
pub fn at<T>(path: &Path, with: impl FnOnce(&SocketAddrUnix) -> Result<T, Errno>) -> io::Result<T> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok(with(&SocketAddrUnix::new(&short)?)?)
}
