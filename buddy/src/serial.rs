//! A console of a board → all that it prints, with its offset and moment, in a ring; what is sent to it; and where it was gone.
//!
//! One thread reads and does nothing else, so that a disk, a network or a judge can be slow for seconds. A tty that hangs up is
//! closed at once, since whoever holds on to it makes it come back under another name, and looked for where it was.

use crate::calls::{self, Counts};
use crate::ports::{Identity, Places, find, user};
use crate::ring::Ring;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{ControlModes, InputModes, OptionalActions, tcgetattr, tcsetattr};
use rustix::time::{ClockId, clock_gettime};
use sai_core::bench::{self, Console};
use sai_core::console::{Piece, Why};
use serialport::TTYPort;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Bytes that are read at once: what n_tty holds.
const READ_BYTES: usize = 4096;
/// Time between two looks for a tty that is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Nanoseconds between two looks at what a UART has counted, while bytes come.
const COUNTS_NS: u64 = 100_000_000;
/// Time after which a tty that takes no byte is said to be stuck: flow control holds it back, or its adapter is wedged.
const SEND: Duration = Duration::from_secs(10);

/// A console that is listened to.
#[derive(Debug)]
pub struct Serial {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    more: Condvar,
    /// Wakes the thread up, to end.
    wake: OwnedFd,
    /// Can be read where there is something to be taken, by whoever waits for other things too.
    ready: OwnedFd,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// The tty while it is there.
    tty: Option<Arc<File>>,
    /// What keeps it from being opened.
    trouble: Option<String>,
    ends: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever failed with it left a ring that can be read.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whoever waits that there is something to be taken.
    fn tell(&self) {
        self.more.notify_all();
        // It fails where it was told often enough.
        let _ = rustix::io::write(&self.ready, &1_u64.to_ne_bytes());
    }
}

impl Serial {
    /// Opens a console and listens from now on, whatever becomes of its tty.
    ///
    /// # Errors
    /// It is not there, is another's, or cannot be set up as it should be.
    pub fn open(console: &Console, places: &Places) -> io::Result<Self> {
        let path = find(console, places).map_err(io::Error::other)?;
        let path = path.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no tty is there"))?;
        // Before it is opened: it may be gone by the time that anybody listens, and its name another's.
        let identity = Identity::of(console, places);
        Self::begin(console, places, Some(open_tty(&path, console)?), identity, 0)
    }

    /// Listens from now on at a tty that somebody else opened, whose channel had so many bytes; or looks for it where there is none, which
    /// brought bytes before and is gone since, or was never there.
    ///
    /// # Errors
    /// It takes no such settings; the system has no more threads.
    pub fn go_on(console: &Console, places: &Places, tty: Option<OwnedFd>, offset: u64) -> io::Result<Self> {
        if let Some(tty) = &tty {
            set_up(tty.as_fd(), console, "the tty")?;
        }
        let identity = tty.as_ref().and_then(|_| Identity::of(console, places));
        Self::begin(console, places, tty.map(File::from), identity, offset)
    }

    fn begin(
        console: &Console,
        places: &Places,
        tty: Option<File>,
        identity: Option<Identity>,
        offset: u64,
    ) -> io::Result<Self> {
        let tty = tty.map(Arc::new);
        let ring = Ring::beginning(Ring::room_for(console.settings.baud), offset);
        let state = State { ring, tty: tty.clone(), trouble: None, ends: false };
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        let ready = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { state: Mutex::new(state), more: Condvar::new(), wake, ready });
        let (listening, console, places) = (Arc::clone(&shared), console.clone(), places.clone());
        let listen = move || listen(&listening, tty, identity, &console, &places);
        let thread = thread::Builder::new().name("console".into()).spawn(listen)?;
        Ok(Serial { shared, thread: Some(thread) })
    }

    /// Listens no longer: the tty, which stays open, and the bytes of the channel until then. What has not been taken still can be.
    pub fn stop(&mut self) -> (Option<Arc<File>>, u64) {
        self.end();
        let state = self.shared.lock();
        (state.tty.clone(), state.ring.offset())
    }

    fn end(&mut self) {
        self.shared.lock().ends = true;
        let _ = rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Readable from when something can be taken until `rest`.
    pub fn woken(&self) -> BorrowedFd<'_> {
        self.shared.ready.as_fd()
    }

    /// Waits to be woken once more: to be said before what there is is taken, so that nothing that comes meanwhile is missed.
    pub fn rest(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.shared.ready, &mut count);
    }

    /// Waits for the next piece, and no longer than this.
    pub fn take(&self, within: Duration) -> Option<Piece> {
        let state = self.shared.lock();
        let waited = self.shared.more.wait_timeout_while(state, within, |state| state.ring.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.ring.take()
    }

    /// Bytes of the channel until now.
    pub fn offset(&self) -> u64 {
        self.shared.lock().ring.offset()
    }

    /// What keeps a tty that is gone from being used again.
    pub fn trouble(&self) -> Option<String> {
        self.shared.lock().trouble.clone()
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The tty is gone, or takes nothing.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let tty = self.tty()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            match rustix::io::write(&tty, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [PollFd::new(&*tty, PollFlags::OUT)];
                    if poll(&mut fds, Some(&time(SEND)))? == 0 {
                        return Err(io::Error::new(ErrorKind::TimedOut, "the tty takes no byte"));
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sets DTR and RTS, both at the same moment.
    ///
    /// # Errors
    /// The tty is gone, or has none.
    pub fn set_lines(&self, dtr: Option<bool>, rts: Option<bool>) -> io::Result<()> {
        calls::set_lines(self.tty()?.as_fd(), dtr, rts)
    }

    /// Sets another speed, as a tool asks for while it has the console.
    ///
    /// # Errors
    /// The tty is gone, or takes no such speed.
    pub fn set_baud(&self, baud: u32) -> io::Result<()> {
        let tty = self.tty()?;
        let mut termios = tcgetattr(&tty)?;
        termios.set_speed(baud)?;
        tcsetattr(&tty, OptionalActions::Now, &termios)?;
        Ok(())
    }

    /// Sets another parity, which a pty has not.
    ///
    /// # Errors
    /// The tty is gone.
    pub fn set_parity(&self, parity: bench::Parity) -> io::Result<()> {
        let tty = self.tty()?;
        let mut termios = tcgetattr(&tty)?;
        termios.control_modes.set(ControlModes::PARENB, parity != bench::Parity::None);
        termios.control_modes.set(ControlModes::PARODD, parity == bench::Parity::Odd);
        tcsetattr(&tty, OptionalActions::Now, &termios)?;
        Ok(())
    }

    /// The tty, to be given to another process or waited for.
    ///
    /// # Errors
    /// It is gone.
    pub fn tty(&self) -> io::Result<Arc<File>> {
        let tty = self.shared.lock().tty.clone();
        tty.ok_or_else(|| io::Error::new(ErrorKind::NotConnected, "the tty is gone"))
    }
}

impl Drop for Serial {
    fn drop(&mut self) {
        self.end();
    }
}

/// Opens a tty and sets it up. Opening asserts DTR and RTS, which is the kernel's doing; both get what the console wants in one call,
/// and closing changes neither.
fn open_tty(path: &Path, console: &Console) -> io::Result<File> {
    if let Some(user) = user(path) {
        let text = format!("{} is in use by {user}", path.display());
        return Err(io::Error::new(ErrorKind::ResourceBusy, text));
    }
    // What else it is set to is set and looked at below, as it is for a tty that another one opened.
    let builder = serialport::new(path.to_string_lossy(), console.settings.baud).preserve_dtr_on_open();
    let port = TTYPort::open(&builder).map_err(|error| {
        let text = format!("{} cannot be opened: {error}", path.display());
        io::Error::new(
            if matches!(error.kind, serialport::ErrorKind::Io(_)) { ErrorKind::Other } else { ErrorKind::NotFound },
            text,
        )
    })?;
    let tty = calls::file_of(port);
    set_up(tty.as_fd(), console, &path.display().to_string())?;
    if console.dtr.is_some() || console.rts.is_some() {
        calls::set_lines(tty.as_fd(), console.dtr, console.rts)?;
    }
    let flags = fcntl_getfl(&tty)?;
    fcntl_setfl(&tty, flags | OFlags::NONBLOCK)?;
    low_latency(tty.as_fd(), path);
    Ok(File::from(tty))
}

/// Sets up what an open tty does with bytes, whatever was done to it before. Lines stay as they are.
fn set_up(tty: BorrowedFd<'_>, console: &Console, name: &str) -> io::Result<()> {
    let settings = &console.settings;
    let mut termios = tcgetattr(tty)?;
    // It checks parity on input, without a mark, which turns bytes that are slightly wrong into zeros.
    termios.input_modes -= InputModes::INPCK | InputModes::PARMRK | InputModes::IGNBRK | InputModes::BRKINT;
    termios.input_modes.set(InputModes::IXON | InputModes::IXOFF, settings.flow == bench::Flow::Software);
    termios.control_modes -= ControlModes::HUPCL | FORMAT;
    termios.control_modes |= format(settings);
    termios.set_speed(settings.baud)?;
    tcsetattr(tty, OptionalActions::Now, &termios)?;
    let actual = tcgetattr(tty)?;
    let modes = actual.control_modes & FORMAT;
    if modes != format(settings) || actual.output_speed() != settings.baud {
        let bits = [ControlModes::CS8, ControlModes::CS7, ControlModes::CS6, ControlModes::CS5];
        let bits = bits.iter().position(|bits| modes & ControlModes::CSIZE == *bits).map_or(0, |place| 8 - place);
        let has = |mode: ControlModes, yes: &'static str, no: &'static str| if modes.contains(mode) { yes } else { no };
        let parity = has(ControlModes::PARENB, has(ControlModes::PARODD, "odd parity", "even parity"), "no parity");
        let stop = has(ControlModes::CSTOPB, "2 stop bits", "1 stop bit");
        let flow = has(ControlModes::CRTSCTS, "", "no ");
        let speed = actual.output_speed();
        let text = format!(
            "{name} takes no such settings: it has {speed} baud, {bits} bits, {parity}, {stop}, {flow}RTS and CTS"
        );
        return Err(io::Error::new(ErrorKind::Unsupported, text));
    }
    Ok(())
}

/// What of a tty's modes says how characters look on the wire, and whether RTS and CTS hold them back.
const FORMAT: ControlModes = ControlModes::CSIZE
    .union(ControlModes::PARENB)
    .union(ControlModes::PARODD)
    .union(ControlModes::CSTOPB)
    .union(ControlModes::CRTSCTS);

/// The same of a console.
fn format(settings: &bench::Settings) -> ControlModes {
    let mut modes = match settings.bits {
        5 => ControlModes::CS5,
        6 => ControlModes::CS6,
        7 => ControlModes::CS7,
        _ => ControlModes::CS8,
    };
    modes.set(ControlModes::PARENB, settings.parity != bench::Parity::None);
    modes.set(ControlModes::PARODD, settings.parity == bench::Parity::Odd);
    modes.set(ControlModes::CSTOPB, settings.stop == 2);
    modes.set(ControlModes::CRTSCTS, settings.flow == bench::Flow::Hardware);
    modes
}

/// Has each byte told at once, where a driver has such a setting. One that cannot be asked for it may have a file for it.
fn low_latency(tty: BorrowedFd<'_>, path: &Path) {
    if calls::set_low_latency(tty).is_err() {
        let name = path.file_name().unwrap_or_default();
        let _ = std::fs::write(Path::new("/sys/bus/usb-serial/devices").join(name).join("latency_timer"), "1");
    }
}

/// The thread: reads while the tty is there, which is what `before` says, and looks for it while it is not.
fn listen(
    shared: &Shared,
    mut tty: Option<Arc<File>>,
    mut before: Option<Identity>,
    console: &Console,
    places: &Places,
) {
    let mut was_there = tty.is_some() || shared.lock().ring.offset() > 0;
    loop {
        if let Some(open) = tty.take() {
            if read_all(shared, &open) {
                return;
            }
            let mut state = shared.lock();
            state.tty = None;
            let (offset, ns) = (state.ring.offset(), monotonic_ns());
            state.ring.note(Piece::Unplugged { offset, ns });
            was_there = true;
            shared.tell();
        }
        let mut fds = [PollFd::new(&shared.wake, PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&time(LOOK_AGAIN))), Ok(0)) && shared.lock().ends {
            return;
        }
        // In this order, so that what it is never is that of one which came later.
        let now = Identity::of(console, places);
        let found = find(console, places).and_then(|path| match (&path, &before, &now) {
            (Some(_), Some(before), Some(now)) => before.comes_back_as(now).map(|()| path),
            // It came in this moment, and is looked at the next time.
            (Some(_), Some(_), None) => Ok(None),
            _ => Ok(path),
        });
        let trouble = match found {
            Ok(None) => None,
            Err(error) => Some(error),
            Ok(Some(path)) => match open_tty(&path, console) {
                Err(error) => Some(error.to_string()),
                Ok(open) => {
                    let open = Arc::new(open);
                    let mut state = shared.lock();
                    state.tty = Some(Arc::clone(&open));
                    let (offset, ns) = (state.ring.offset(), monotonic_ns());
                    if was_there {
                        state.ring.lose(ns, None, Why::Away);
                    }
                    state.ring.note(Piece::Back { offset, ns, tty: path.display().to_string() });
                    shared.tell();
                    tty = Some(open);
                    before = now;
                    None
                }
            },
        };
        shared.lock().trouble = trouble;
    }
}

/// Reads until the tty hangs up. Whether the console is no longer wanted.
fn read_all(shared: &Shared, tty: &File) -> bool {
    let mut buffer = [0; READ_BYTES];
    let mut before = calls::counts(tty.as_fd()).ok();
    let mut counted = monotonic_ns();
    // Whether something has come since: of the last of it is told when nothing follows, too.
    let mut uncounted = false;
    loop {
        let mut fds = [PollFd::new(tty, PollFlags::IN), PollFd::new(&shared.wake, PollFlags::IN)];
        let time = (before.is_some() && uncounted).then(|| time(Duration::from_nanos(COUNTS_NS)));
        match poll(&mut fds, time.as_ref()) {
            Ok(0) => {
                let mut state = shared.lock();
                counted = monotonic_ns();
                uncounted = false;
                before = count_up(tty.as_fd(), before, counted, &mut state.ring);
                drop(state);
                shared.tell();
            }
            Ok(_) if !fds[1].revents().is_empty() && shared.lock().ends => return true,
            _ => {}
        }
        if fds[0].revents().is_empty() {
            continue;
        }
        match rustix::io::read(tty, &mut buffer) {
            Ok(count) if count > 0 => {
                let mut state = shared.lock();
                // Whoever takes what there is, after a moment, has all with a stamp before it.
                let ns = monotonic_ns();
                state.ring.push(ns, buffer.get(..count).unwrap_or_default());
                uncounted = ns.saturating_sub(counted) < COUNTS_NS;
                if !uncounted {
                    counted = ns;
                    before = count_up(tty.as_fd(), before, ns, &mut state.ring);
                }
                drop(state);
                shared.tell();
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => {
                let mut state = shared.lock();
                count_up(tty.as_fd(), before, monotonic_ns(), &mut state.ring);
                return false;
            }
        }
    }
}

/// Notes what a UART has counted since the last look.
fn count_up(tty: BorrowedFd<'_>, before: Option<Counts>, ns: u64, ring: &mut Ring) -> Option<Counts> {
    let now = calls::counts(tty).ok()?;
    tell_counts(now, before.unwrap_or(now), ns, ring);
    Some(now)
}

/// Notes by how much each count is further than it was.
fn tell_counts(now: Counts, before: Counts, ns: u64, ring: &mut Ring) {
    let kinds = [
        (now.overrun, before.overrun, Why::Overrun),
        (now.frame, before.frame, Why::Frame),
        (now.parity, before.parity, Why::Parity),
        (now.breaks, before.breaks, Why::Break),
    ];
    for (now, before, why) in kinds {
        // They begin anew after 32 bits.
        let more = u64::from((now as u32).wrapping_sub(before as u32));
        if more > 0 {
            // How many bytes an overrun took is not known, only that there was one.
            ring.lose(ns, (why != Why::Overrun).then_some(more), why);
        }
    }
}

/// CLOCK_MONOTONIC, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// CLOCK_REALTIME since 1970, in nanoseconds.
pub fn realtime_ns() -> u64 {
    nanoseconds(ClockId::Realtime)
}

/// CLOCK_BOOTTIME, in nanoseconds.
pub fn boottime_ns() -> u64 {
    nanoseconds(ClockId::Boottime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn time(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told where the counts were these and are those.
    fn told(before: Counts, now: Counts) -> Vec<(Why, Option<u64>)> {
        let mut ring = Ring::new(64);
        ring.push(1, b"bytes");
        tell_counts(now, before, 2, &mut ring);
        let pieces = std::iter::from_fn(|| ring.take());
        let lost = pieces.filter_map(|piece| match piece {
            Piece::Lost { offset, ns, lost, why } => {
                assert_eq!((offset, ns), (5, 2), "behind the bytes that are there, which stay");
                Some((why, lost))
            }
            _ => None,
        });
        lost.collect()
    }

    #[test]
    fn each_count_that_has_grown_is_told_by_how_much_and_of_an_overrun_nobody_knows_what_it_cost() {
        let before = Counts { overrun: 7, frame: 100, parity: 0, breaks: 3 };
        assert_eq!(told(before, before), []);
        let now = Counts { overrun: 9, frame: 101, parity: 20, breaks: 5 };
        let all = [(Why::Overrun, None), (Why::Frame, Some(1)), (Why::Parity, Some(20)), (Why::Break, Some(2))];
        assert_eq!(told(before, now), all);
        assert_eq!(told(before, Counts { parity: 1, ..before }), [(Why::Parity, Some(1))]);
    }

    #[test]
    fn counts_that_begin_anew_after_32_bits_have_grown_by_what_came() {
        let last = u64::from(u32::MAX);
        let before = Counts { overrun: last, frame: last - 1, parity: last, breaks: last };
        let now = Counts { overrun: last, frame: 1, parity: 0, breaks: last };
        assert_eq!(told(before, now), [(Why::Frame, Some(3)), (Why::Parity, Some(1))]);
        // The kernel's two counts of overruns are one here: the first of them has begun anew, the second has not.
        let (before, now) = (Counts { overrun: last + 5, ..before }, Counts { overrun: 6, ..before });
        assert_eq!(told(before, now), [(Why::Overrun, None)]);
        let same = Counts { overrun: last + 1, ..before };
        assert_eq!(told(same, Counts { overrun: 0, ..before }), [], "it counts on in 32 bits");
    }

    #[test]
    fn a_driver_that_counts_nothing_has_nothing_told() {
        let tty = File::open("/dev/ptmx").expect("a pty");
        let mut ring = Ring::new(64);
        assert_eq!(count_up(tty.as_fd(), None, 1, &mut ring), None);
        let counted = Some(Counts { frame: 1, ..Counts::default() });
        assert_eq!(count_up(tty.as_fd(), counted, 1, &mut ring), None);
        assert!(ring.is_empty());
    }
}
