//! Two ends of a tty: one for a machine or a peer of ours, one that a tool opens.

use crate::line::Peer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use sai_buddy::flashing::{Event, Port};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The two ends, raw. The second is its path, held open so that the first one does not hang up between two users.
pub struct Pty {
    pub master: File,
    pub path: String,
    _held: File,
}

impl Pty {
    pub fn new() -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let path = ptsname(&master, Vec::new()).expect("its name").into_string().expect("plain");
        let held = open(&path);
        let mut raw = tcgetattr(&held).expect("its settings");
        raw.make_raw();
        tcsetattr(&held, OptionalActions::Now, &raw).expect("raw");
        Pty { master: File::from(master), path, _held: held }
    }
}

/// Opens a tty, which does not become anybody's terminal.
pub fn open(path: &str) -> File {
    // O_NOCTTY, on every processor that Linux runs these tests on.
    const NOCTTY: i32 = 0o400;
    OpenOptions::new().read(true).write(true).custom_flags(NOCTTY).open(path).expect("the tty")
}

/// Whether there is something to read within this time.
pub fn ready(file: &impl AsFd, within: Duration) -> bool {
    let time = Timespec { tv_sec: within.as_secs() as i64, tv_nsec: i64::from(within.subsec_nanos()) };
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&time)), Ok(count) if count > 0)
}

/// A port on a file, with a way in that is a closure.
pub struct FilePort<'a> {
    pub file: File,
    pub enter: Box<dyn FnMut() + 'a>,
    pub entered: bool,
}

impl<'a> FilePort<'a> {
    pub fn new(file: File, enter: impl FnMut() + 'a) -> Self {
        FilePort { file, enter: Box::new(enter), entered: false }
    }
}

impl Port for FilePort<'_> {
    fn wait(&mut self, buffer: &mut [u8], within: Duration) -> io::Result<Event> {
        // What was said before the way in is told before its end, as an owner's port does.
        let at_once = self.entered && !ready(&self.file, Duration::ZERO);
        if at_once {
            self.entered = false;
            return Ok(Event::Entered);
        }
        if !ready(&self.file, within) {
            return Ok(Event::Nothing);
        }
        self.file.read(buffer).map(Event::Bytes)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn enter(&mut self) -> io::Result<()> {
        (self.enter)();
        self.entered = true;
        Ok(())
    }
}

/// A peer that answers at the end of a pty until it is taken back.
pub struct Served<P> {
    thread: Option<JoinHandle<P>>,
    stop: Arc<AtomicBool>,
}

impl<P: Peer + Send + 'static> Served<P> {
    pub fn new(mut peer: P, mut master: File) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            peer.enter(0, &mut Vec::new());
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                if !ready(&master, Duration::from_millis(20)) {
                    continue;
                }
                let Ok(count) = master.read(&mut buffer) else { continue };
                let mut out = Vec::new();
                for byte in &buffer[..count] {
                    peer.byte(0, *byte, &mut out);
                }
                master.write_all(&out).expect("room in the pty");
            }
            peer
        });
        Served { thread: Some(thread), stop }
    }

    pub fn end(mut self) -> P {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it runs").join().expect("it does not fail")
    }
}
