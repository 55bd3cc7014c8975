//! A file of somebody's → a word that what is under way is to be broken off, heard wherever it waits.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the file's first line. Its copies hear the same word.
#[derive(Clone, Debug, Default)]
pub struct Stop(Option<Arc<OwnedFd>>);

impl Stop {
    /// Nobody ever says it.
    pub fn never() -> Stop {
        Stop(None)
    }

    /// It is said when this can be read, or has hung up; nothing is read from it.
    pub fn when(file: OwnedFd) -> Stop {
        Stop(Some(Arc::new(file)))
    }

    /// One, and what says it when it is dropped.
    ///
    /// # Errors
    /// The system has no more files.
    pub fn pair() -> io::Result<(UnixStream, Stop)> {
        let (says, hears) = UnixStream::pair()?;
        Ok((says, Stop::when(hears.into())))
    }

    /// What can be waited for, if it can ever be said.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|file| file.as_fd())
    }

    /// Whether it has been said.
    pub fn said(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for it, and no longer than this: whether it has been said.
    pub fn wait(&self, within: Duration) -> bool {
        let began = Instant::now();
        loop {
            let left = within.saturating_sub(began.elapsed());
            let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut fds: Vec<PollFd<'_>> =
                self.0.iter().map(|file| PollFd::new(file.as_ref(), PollFlags::IN)).collect();
            match poll(&mut fds, Some(&time)) {
                Ok(count) if count > 0 => return true,
                // What cannot be waited for is not said; whoever waits has an end of its own.
                _ if left.is_zero() => return false,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// An error where it has been said.
    ///
    /// # Errors
    /// It has.
    pub fn check(&self) -> io::Result<()> {
        if self.said() { Err(given_up()) } else { Ok(()) }
    }
}

/// What is said of something that was broken off.
pub fn given_up() -> io::Error {
    io::Error::other("it was given up")
}
