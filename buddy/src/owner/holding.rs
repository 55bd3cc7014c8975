//! A board, and what a guard holds of it → its ttys, lines and switches: given back, or opened where the bench means others by now.

use super::{Owner, Setup};
use crate::guard::{self, Said};
use crate::keeping::Thing;
use crate::levels;
use crate::lines::{Group, Outputs};
use crate::link::Link;
use crate::ports::{Places, find};
use crate::power;
use crate::serial::Serial;
use crate::telling::tell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sai_core::bench::{Board, Console, Line, Use, Wire};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

/// Time within which a guard answers, and lets go of an owner that has died.
const GUARD: Duration = Duration::from_secs(10);
/// Time within which a guard has let go of what it was asked to.
const LET_GO: Duration = Duration::from_secs(1);

/// The levels of a console's tty that have a safe one, and these.
fn safe(board: &Board, console: &Console) -> (u64, u64) {
    let signals = board.resting_signals(&console.name);
    let all = [(levels::DTR, signals.dtr), (levels::RTS, signals.rts), (levels::BREAK, signals.sends_break)];
    let known = all.into_iter().filter_map(|(bit, level)| Some((bit, level?)));
    known.fold((0, 0), |(mask, high), (bit, level)| (mask | bit, high | if level { bit } else { 0 }))
}

/// Gives what a console's tty drives its safe levels, as far as it is among these.
pub(super) fn make_safe(board: &Board, console: &Console, tty: BorrowedFd<'_>, among: u64) -> io::Result<()> {
    let (mask, safe) = safe(board, console);
    levels::set(levels::TTY, tty, mask & among, safe)
}

/// The USB port whose power a line is, and whether it has its voltage where nothing happens to the board.
fn port(line: &Line) -> Option<(&str, bool)> {
    match (&line.wire, line.use_as) {
        (Wire::UsbPort(port), Use::Output { safe, .. }) => Some((port, safe != line.active_low)),
        _ => None,
    }
}

/// What the switches of a board's USB ports are called among its things.
pub(super) fn held_ports(board: &Board) -> Vec<String> {
    board.lines.iter().filter_map(port).map(|(port, _)| held_port(port)).collect()
}

/// What the switch of a port is called among the things of a board.
fn held_port(port: &str) -> String {
    format!("USB port {port}")
}

fn port_thing(port: &str, safe: bool) -> Thing {
    Thing { name: held_port(port), what: levels::USB_PORT.into(), mask: 1, safe: safe.into() }
}

fn tty_thing(board: &Board, console: &Console) -> Thing {
    let (mask, safe) = safe(board, console);
    Thing { name: console.name.clone(), what: levels::TTY.into(), mask, safe }
}

fn lines_thing(lines: &Outputs) -> Thing {
    let group = lines.group();
    Thing { name: group.held_as(), what: lines.what().into(), mask: group.mask(), safe: group.safe() }
}

/// Tells what could not be set to its safe level: nobody waits for it.
fn unsafe_still(board: &Board, what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tell(&format!("board {}: {what} cannot be set to its safe level: {error}", board.name));
    }
}

/// Connects to the guard and takes what it holds of the board.
pub(super) fn take_back(setup: &Setup) -> io::Result<(Link, Vec<(Thing, OwnedFd)>)> {
    let began = Instant::now();
    loop {
        let path = guard::socket(&setup.directory);
        let link = Link::connect(&path).map_err(|error| {
            let text = format!("no guard at {}: {error}; `sai-buddy guard` is one", path.display());
            io::Error::new(error.kind(), text)
        })?;
        Said { board: Some(setup.board.name.clone()), ..Said::new("owns") }.send(&link, &[])?;
        let time = Timespec { tv_sec: GUARD.as_secs() as i64, tv_nsec: 0 };
        poll(&mut [PollFd::new(&link, PollFlags::IN)], Some(&time))?;
        let message = link.receive()?.ok_or_else(|| io::Error::other("the guard is gone"))?;
        let said = Said::of(&message.bytes).unwrap_or_else(|| Said::new(""));
        match said.t.as_str() {
            "given" => return Ok((link, said.things.unwrap_or_default().into_iter().zip(message.files).collect())),
            // It may not have noticed yet that the owner before has died.
            _ if began.elapsed() < GUARD => thread::sleep(Duration::from_millis(20)),
            _ => return Err(io::Error::other(format!("the guard refuses: {}", said.why.unwrap_or_default()))),
        }
    }
}

/// Whether an open tty is still the one that the bench means.
pub(super) fn is_where(console: &Console, places: &Places, tty: &OwnedFd) -> bool {
    match find(console, places) {
        Ok(Some(path)) => {
            let device = std::fs::metadata(path).map(|found| found.rdev()).ok();
            device == rustix::fs::fstat(tty).map(|found| found.st_rdev).ok()
        }
        Ok(None) => true,
        Err(_) => false,
    }
}

/// Opens a console. One that the guard is asked to let go may still be held for a moment.
pub(super) fn opened(board: &Board, console: &Console, places: &Places) -> io::Result<Serial> {
    let began = Instant::now();
    loop {
        let serial = Serial::open(console, places).and_then(|serial| {
            // An adapter goes on with a BREAK whose owner and guard have died.
            make_safe(board, console, serial.tty()?.as_fd(), levels::BREAK)?;
            Ok(serial)
        });
        match serial {
            Err(error) if error.kind() == ErrorKind::ResourceBusy && began.elapsed() < LET_GO => {
                thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Requests lines. Some of them may be let go by the guard only in a moment, as part of others.
pub(super) fn requested(group: &Group, places: &Places, let_go: bool) -> io::Result<Outputs> {
    let began = Instant::now();
    loop {
        match Outputs::request(group.clone(), places) {
            Err(_) if let_go && began.elapsed() < LET_GO => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(io::Error::new(error.kind(), format!("lines {}: {error}", group.name))),
            Ok(lines) => return Ok(lines),
        }
    }
}

impl Owner {
    /// Tells the guard that a console has another tty now, or none.
    pub(super) fn tty_changed(&mut self, index: usize) {
        let Some(station) = self.stations.get(index) else { return };
        let name = station.console.name.clone();
        match station.serial.tty() {
            Ok(tty) => {
                let thing = tty_thing(&self.setup.board, &station.console);
                self.say_to_guard(&Said { things: Some(vec![thing]), ..Said::new("leaves") }, &[tty.as_fd()]);
            }
            Err(_) => self.say_to_guard(&Said { names: Some(vec![name]), ..Said::new("lets-go") }, &[]),
        }
    }

    /// Leaves a copy of all that is open with the guard.
    pub(super) fn leave_all(&mut self) {
        let held = self.stations.iter().filter_map(|station| Some((&station.console, station.serial.tty().ok()?)));
        let held: Vec<_> = held.map(|(console, tty)| (tty_thing(&self.setup.board, console), tty)).collect();
        let mut files: Vec<BorrowedFd<'_>> = held.iter().map(|(_, tty)| tty.as_fd()).collect();
        files.extend(self.lines.iter().map(Outputs::file));
        let mut things: Vec<Thing> = held.iter().map(|(thing, _)| thing.clone()).collect();
        things.extend(self.lines.iter().map(lines_thing));
        if let Some(guard) = &self.guard
            && (Said { things: Some(things), ..Said::new("leaves") }).send(guard, &files).is_err()
        {
            self.guard = None;
        }
        for place in 0..self.setup.board.lines.len() {
            self.leave_port(place);
        }
    }

    /// Leaves the switch of a port with the guard, as its hub has it now, if that is what the line at this place is.
    pub(super) fn leave_port(&mut self, place: usize) {
        let Some((port, safe)) = self.setup.board.lines.get(place).and_then(port) else { return };
        let said = Said { things: Some(vec![port_thing(port, safe)]), ..Said::new("leaves") };
        match power::usb_switch(port, &self.setup.places) {
            Ok((_, switch)) => self.say_to_guard(&said, &[switch.as_fd()]),
            Err(error) => {
                tell(&format!("board {}: its guard cannot switch USB port {port}: {error}", self.setup.board.name));
            }
        }
    }

    /// Gives all that is driven the levels in which nothing happens to the board.
    pub(super) fn make_all_safe(&mut self) {
        let board = &self.setup.board;
        for lines in &mut self.lines {
            let result = lines.make_safe();
            unsafe_still(board, &lines.group().name, result);
        }
        for station in &self.stations {
            // One that is unplugged drives nothing.
            if let Ok(tty) = station.serial.tty() {
                unsafe_still(
                    board,
                    &station.console.name,
                    make_safe(board, &station.console, tty.as_fd(), levels::ALL),
                );
            }
        }
        self.make_ports_safe();
    }

    /// The same of the power of USB ports. A hub that is not there gives none.
    pub(super) fn make_ports_safe(&self) {
        let board = &self.setup.board;
        for (port, safe) in board.lines.iter().filter_map(port) {
            unsafe_still(board, &held_port(port), power::usb_port(port, safe, &self.setup.places));
        }
    }
}
