//! One console of a board, in its owner: what comes goes into its history, what is sent goes out in its pace, and a tool has a pty
//! in its place for a while.

use crate::calls;
use crate::frames;
use crate::history::History;
use crate::pacing::{self, Pacing};
use crate::pty::Pty;
use crate::serial::{Serial, monotonic_ns};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::termios::tcgetattr;
use sai_core::bench::{Console, Parity};
use sai_core::console::{Entry, Piece};
use sai_core::limits::Millis;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Bytes that wait for a tool at most: a UART would not wait for it either, and what it has not read by then it does not read.
const UNREAD_BYTES: usize = 256 * 1024;
/// Bytes of a tool that are taken at once, and no more before these are on the wire: so the tool waits, as on a tty.
const TOOL_BYTES: usize = 1024;
/// Milliseconds after which a tty that takes no byte is said to be stuck: flow control holds it back, or its adapter is wedged.
const STUCK_MS: Millis = 10_000;
/// Bytes of what was sent that are one entry.
const SENT_BYTES: usize = 1024;

/// The pty of a tool.
#[derive(Debug)]
pub struct Tool {
    pub master: OwnedFd,
    /// Held open, so that a tool may close and open it as often as it likes.
    slave: OwnedFd,
    baud: u32,
    even: bool,
    /// What it has not read yet.
    pub unread: Vec<u8>,
    lost: u64,
}

/// See the file's first line.
#[derive(Debug)]
pub struct Station {
    pub console: Console,
    pub serial: Serial,
    pub history: History,
    pub tool: Option<Tool>,
    pacing: Pacing,
    /// What is being written.
    writing: Vec<u8>,
    /// Whether that is a tool's.
    of_tool: bool,
    /// Since when the tty takes nothing.
    stuck: Option<Millis>,
    /// What was sent and is in no entry yet.
    sent: Vec<u8>,
}

/// What a station says to its owner.
#[derive(Debug, PartialEq, Eq)]
pub enum Says {
    /// So many bytes that a client gave have gone out.
    Sent(u64),
    /// So many have, and the others do not.
    Failed(u64, String),
    /// The tty is another one now, or none.
    TtyChanged,
}

impl Station {
    pub fn new(console: Console, serial: Serial, history: History) -> Self {
        let pacing = Pacing::of(&console);
        let (writing, sent) = (Vec::new(), Vec::new());
        Station { console, serial, history, tool: None, pacing, writing, of_tool: false, stuck: None, sent }
    }

    /// Takes what the tty has brought.
    pub fn drain(&mut self, now: Millis, read: bool, writer: (&str, bool), says: &mut Vec<Says>) {
        while let Some(piece) = self.serial.take(Duration::ZERO) {
            match &piece {
                Piece::Bytes { bytes, .. } => {
                    if let Some(tool) = &mut self.tool {
                        let room = UNREAD_BYTES.saturating_sub(tool.unread.len()).min(bytes.len());
                        tool.unread.extend(bytes.iter().take(room));
                        tool.lost += (bytes.len() - room) as u64;
                    }
                    self.pace(now, pacing::Input::Heard(bytes), writer, says);
                }
                Piece::Unplugged { .. } => {
                    self.writing.clear();
                    self.pace(now, pacing::Input::Drop, writer, says);
                    says.push(Says::TtyChanged);
                }
                Piece::Back { .. } => says.push(Says::TtyChanged),
                Piece::Lost { .. } => {}
            }
            self.history.push(Entry::Came(piece), read);
        }
    }

    /// Bytes that may be given to `send` now.
    pub fn room(&self) -> usize {
        self.pacing.room()
    }

    /// Sends bytes, in the console's pace.
    pub fn send(&mut self, now: Millis, bytes: &[u8], writer: (&str, bool), says: &mut Vec<Says>) {
        self.pace(now, pacing::Input::Send(bytes), writer, says);
    }

    /// What waits to be sent is not.
    pub fn drop_sent(&mut self, now: Millis, writer: (&str, bool), says: &mut Vec<Says>) {
        self.pace(now, pacing::Input::Drop, writer, says);
    }

    fn pace(&mut self, now: Millis, input: pacing::Input<'_>, writer: (&str, bool), says: &mut Vec<Says>) {
        let mut out = Vec::new();
        self.pacing.handle(now, input, &mut out);
        for output in out {
            match output {
                pacing::Output::Write(bytes) => {
                    self.of_tool = false;
                    self.writing = bytes;
                    self.write(now, writer, says);
                }
                pacing::Output::Sent(count) => {
                    self.note_sent(writer);
                    says.push(Says::Sent(count));
                }
                pacing::Output::Failed(count, why) => {
                    self.writing.clear();
                    self.note_sent(writer);
                    says.push(Says::Failed(count, why));
                }
            }
        }
    }

    /// Whether the tty is to be waited for, since it took less than there is.
    pub fn waits_for_tty(&self) -> Option<Arc<File>> {
        if self.writing.is_empty() { None } else { self.serial.tty().ok() }
    }

    /// When `turn` is wanted next.
    pub fn deadline(&self) -> Option<Millis> {
        let stuck = self.stuck.map(|since| since + STUCK_MS);
        self.pacing.deadline().into_iter().chain(stuck.filter(|_| !self.of_tool)).min()
    }

    /// Goes on with what is to be written, and with what time has come for.
    pub fn turn(&mut self, now: Millis, writer: (&str, bool), says: &mut Vec<Says>) {
        self.write(now, writer, says);
        self.pace(now, pacing::Input::Tick, writer, says);
        if !self.of_tool && self.stuck.is_some_and(|since| now >= since + STUCK_MS) {
            self.stuck = None;
            self.writing.clear();
            self.pace(now, pacing::Input::Drop, writer, says);
        }
    }

    fn write(&mut self, now: Millis, writer: (&str, bool), says: &mut Vec<Says>) {
        if self.writing.is_empty() {
            return;
        }
        let written = match self.serial.tty() {
            Ok(tty) => rustix::io::write(&*tty, &self.writing),
            Err(_) => Err(Errno::IO),
        };
        match written {
            Ok(count) => {
                self.stuck = None;
                self.sent.extend(self.writing.drain(..count));
                if self.sent.len() >= SENT_BYTES || self.of_tool {
                    self.note_sent(writer);
                }
                if self.writing.is_empty() && !self.of_tool {
                    self.pace(now, pacing::Input::Written, writer, says);
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => self.stuck = self.stuck.or(Some(now)),
            Err(_) => {
                self.writing.clear();
                self.pace(now, pacing::Input::Drop, writer, says);
            }
        }
    }

    /// Tells readers what went out.
    fn note_sent(&mut self, (name, secret): (&str, bool)) {
        if self.sent.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.sent);
        let (offset, ns, length) = (self.history.end(), monotonic_ns(), bytes.len() as u64);
        let writer = if self.of_tool { "tool" } else { name }.to_string();
        let bytes = (self.of_tool || !secret).then_some(bytes);
        self.history.push(Entry::Sent { offset, ns, writer, length, bytes }, true);
    }

    /// Gives a pty to a tool, which stands for the console until `close_tool`: its path, and a copy to keep it open.
    ///
    /// # Errors
    /// The system has no more of them.
    pub fn open_tool(&mut self, (baud, even): (Option<u32>, bool)) -> io::Result<(String, OwnedFd)> {
        let baud = baud.unwrap_or(self.console.settings.baud);
        let Pty { master, slave, path } = Pty::new(Some(baud))?;
        fcntl_setfl(&master, OFlags::RDWR | OFlags::NONBLOCK)?;
        if baud != self.console.settings.baud {
            self.serial.set_baud(baud)?;
        }
        if even {
            self.serial.set_parity(Parity::Even)?;
        }
        let path = path.into_os_string().into_string().map_err(|_| io::Error::other("a pty without a name"))?;
        let copy = slave.try_clone()?;
        self.tool = Some(Tool { master, slave, baud, even, unread: Vec::new(), lost: 0 });
        Ok((path, copy))
    }

    /// Whether more of what a tool sends may be taken.
    pub fn takes_of_tool(&self) -> bool {
        self.writing.is_empty()
    }

    /// Passes bytes on between a tool and the tty, as far as both take them.
    pub fn pass(&mut self, now: Millis, writer: (&str, bool), says: &mut Vec<Says>) {
        let Some(tool) = &mut self.tool else { return };
        if !tool.unread.is_empty()
            && let Ok(count) = rustix::io::write(&tool.master, &tool.unread)
        {
            tool.unread.drain(..count);
        }
        if !self.writing.is_empty() {
            return;
        }
        let mut buffer = [0; TOOL_BYTES];
        let Ok(count) = rustix::io::read(&tool.master, &mut buffer) else { return };
        // What it sets it has set before it writes.
        if let Ok(baud) = tcgetattr(&tool.slave).map(|termios| termios.output_speed())
            && baud != tool.baud
            && baud != 0
        {
            tool.baud = baud;
            let _ = self.serial.set_baud(baud);
        }
        self.of_tool = true;
        self.writing = buffer.get(..count).unwrap_or_default().to_vec();
        self.write(now, writer, says);
    }

    /// Closes the pty of a tool: bytes that it left unread.
    pub fn close_tool(&mut self) -> u64 {
        let Some(tool) = self.tool.take() else { return 0 };
        if tool.baud != self.console.settings.baud {
            let _ = self.serial.set_baud(self.console.settings.baud);
        }
        if tool.even {
            let _ = self.serial.set_parity(self.console.settings.parity);
        }
        self.writing.clear();
        self.stuck = None;
        tool.lost + tool.unread.len() as u64
    }

    /// How the console is.
    pub fn status(&self) -> frames::ConsoleStatus {
        frames::ConsoleStatus {
            name: self.console.name.clone(),
            offset: self.history.end(),
            there: self.serial.tty().is_ok(),
            trouble: self.serial.trouble(),
            low_latency: self.serial.tty().and_then(|tty| calls::has_low_latency(tty.as_fd())).ok(),
        }
    }
}
