//! Levels of lines that are looked at every few milliseconds → edges: for chips that tell nobody of edges, as expanders whose interrupt
//! pin leads nowhere.
//!
//! What a line does between two looks is not seen, and an edge has the moment of the look that found it.

use super::{Inputs, Levels, Seen};
use crate::serial::monotonic_ns;
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

/// See the file's first line.
#[derive(Debug)]
pub(super) struct Polled<L> {
    lines: L,
    /// Can be read when it is time for a look.
    timer: OwnedFd,
    /// What the last look found.
    levels: u64,
    /// How many edges were found of each line.
    numbers: [u64; u64::BITS as usize],
}

impl<L: Levels> Polled<L> {
    /// Looks at these lines every so many milliseconds.
    ///
    /// # Errors
    /// The chip is gone.
    pub(super) fn new(lines: L, every_ms: u32) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let every = Duration::from_millis(every_ms.into()).try_into().map_err(io::Error::other)?;
        let times = Itimerspec { it_interval: every, it_value: every };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        let levels = lines.levels()?;
        Ok(Polled { lines, timer, levels, numbers: [0; u64::BITS as usize] })
    }
}

impl<L: Levels> Levels for Polled<L> {
    fn levels(&self) -> io::Result<u64> {
        self.lines.levels()
    }
}

impl<L: Levels> Inputs for Polled<L> {
    fn files(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.timer.as_fd()]
    }

    fn take(&mut self, out: &mut Vec<Seen>) -> io::Result<()> {
        // How many looks are due makes no difference: there is one level to be seen.
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let levels = self.lines.levels()?;
        let (changed, ns) = (levels ^ self.levels, monotonic_ns());
        self.levels = levels;
        for (line, number) in self.numbers.iter_mut().enumerate() {
            if changed >> line & 1 == 1 {
                *number += 1;
                out.push(Seen::Edge { line, level: levels >> line & 1 == 1, ns, number: *number });
            }
        }
        Ok(())
    }

    fn counts_losses(&self) -> bool {
        false
    }
}
