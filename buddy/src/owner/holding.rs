//! A board, and what a guard holds of it → its ttys and lines: given back, or opened where the bench means others by now.

use super::Setup;
use crate::guard::{self, Said};
use crate::keeping::Thing;
use crate::levels;
use crate::lines::{Group, Outputs};
use crate::link::Link;
use crate::ports::{Places, find};
use crate::serial::Serial;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sai_core::bench::{Board, Console, Signal, Use, Wire};
use sai_core::ordered::Map;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::thread;
use std::time::{Duration, Instant};

/// Time within which a guard answers, and lets go of an owner that has died.
const GUARD: Duration = Duration::from_secs(10);
/// Time within which a guard has let go of what it was asked to.
const LET_GO: Duration = Duration::from_secs(1);

/// The levels of a console's tty that have a safe one, and these.
fn safe(board: &Board, console: &Console) -> (u64, u64) {
    let mut levels = Map::new();
    levels.extend(console.dtr.map(|level| (levels::DTR, level)));
    levels.extend(console.rts.map(|level| (levels::RTS, level)));
    for line in &board.lines {
        let (Wire::Signal(of, signal), Use::Output { safe, .. }) = (&line.wire, line.use_as) else { continue };
        let bit = match signal {
            Signal::Dtr => levels::DTR,
            Signal::Rts => levels::RTS,
            Signal::Break => continue,
        };
        if *of == console.name {
            levels.insert(bit, safe != line.active_low);
        }
    }
    let mask = levels.keys().fold(0, |mask, bit| mask | bit);
    let high = levels.iter().filter(|(_, level)| **level);
    (mask, high.fold(0, |bits, (bit, _)| bits | bit))
}

pub(super) fn tty_thing(board: &Board, console: &Console) -> Thing {
    let (mask, safe) = safe(board, console);
    Thing { name: console.name.clone(), what: levels::TTY.into(), mask, safe }
}

pub(super) fn lines_thing(lines: &Outputs) -> Thing {
    let group = lines.group();
    Thing { name: group.held_as(), what: lines.what().into(), mask: group.mask(), safe: group.safe() }
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
pub(super) fn opened(console: &Console, places: &Places) -> io::Result<Serial> {
    let began = Instant::now();
    loop {
        match Serial::open(console, places) {
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
