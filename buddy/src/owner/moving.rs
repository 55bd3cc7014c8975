//! A sequence, a mode or a switch of power that a client asks for → lines and supplies moved, one step after the other, while consoles
//! go on.
//!
//! What was begun is brought to its end even where the client has gone: lines that stay halfway are worse than those that nobody asked
//! for any more.

use super::{Owner, now};
use crate::desk::{self, Client};
use crate::frames::{Asked, Told};
use crate::sequence::{Input, Output, Sequence};
use crate::serial::monotonic_ns;
use crate::{calls, power};
use rustix::io::Errno;
use sai_core::bench::{Board, OFF_MS, Signal, Step, Supply, Switch, Use, Wire};
use sai_core::limits::Millis;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

/// Milliseconds for which a pulse takes a line from its safe level: long enough for a board to go quiet that prints now and then.
const PULSE_MS: Millis = 1_500;

/// What a client wants moved.
#[derive(Debug)]
pub struct Way {
    /// The word of its request.
    pub word: &'static str,
    sequence: Sequence,
}

/// What is being moved.
#[derive(Debug)]
pub struct Moving {
    client: Client,
    way: Way,
    /// The mode that it is the way to.
    mode: Option<String>,
    /// A supply that is being switched.
    switching: Option<Switching>,
    /// What has kept a step from being done.
    why: Option<String>,
    /// What could not be done, and is no reason to do no more.
    note: Option<String>,
}

/// A thread that switches a supply: commands and requests take their time, and consoles do not wait for them.
#[derive(Debug)]
struct Switching {
    /// Hung up when there is something to be taken.
    ended: UnixStream,
    told: Receiver<io::Result<()>>,
}

impl Moving {
    /// When it goes on by itself.
    pub fn deadline(&self) -> Option<u64> {
        self.way.sequence.deadline()
    }

    /// What is to be waited for.
    pub fn woken(&self) -> Option<BorrowedFd<'_>> {
        self.switching.as_ref().map(|switching| switching.ended.as_fd())
    }
}

/// What a request of one of the words `play`, `mode`, `power` and `pulse` asks of a board.
///
/// # Errors
/// The board has nothing of this name.
pub fn way(board: &Board, asked: &Asked) -> Result<Way, String> {
    let off_ms = board.power.as_ref().map_or(OFF_MS, |power| power.off_ms);
    let name = asked.name.as_deref().unwrap_or_default();
    match asked.t.as_str() {
        "mode" => {
            let way = board.way_to(name).ok_or_else(|| board.lacks_mode(name))?;
            Ok(Way { word: "mode", sequence: Sequence::way(&way, off_ms) })
        }
        "power" => {
            let switch = Switch::of(name)?;
            if board.power.is_none() {
                return Err(format!("board {} has no \"power\" in its bench", board.name));
            }
            Ok(Way { word: "power", sequence: Sequence::new(&[Step::Power(switch)], off_ms) })
        }
        "pulse" => {
            let line = board.lines.iter().find(|line| line.name == name);
            let safe = line.and_then(|line| match line.use_as {
                Use::Output { safe, .. } => Some(safe),
                Use::Input { .. } => None,
            });
            let safe = safe.ok_or_else(|| format!("board {} has no line {name:?} that is driven", board.name))?;
            let set = |level: bool| Step::Set(vec![(name.to_string(), level)]);
            Ok(Way { word: "pulse", sequence: Sequence::new(&[set(!safe), Step::Wait(PULSE_MS), set(safe)], off_ms) })
        }
        _ => {
            let steps = board.play(name).ok_or_else(|| board.lacks_sequence(name))?;
            Ok(Way { word: "play", sequence: Sequence::new(&steps, off_ms) })
        }
    }
}

/// Whether a driver says that it has no BREAK, or the adapter that it has none: ttyACM without that capability, by kernel.
fn knows_no_break(error: &io::Error) -> bool {
    let known = [Errno::NOTTY, Errno::OPNOTSUPP, Errno::PIPE, Errno::INVAL];
    known.iter().any(|known| error.raw_os_error() == Some(known.raw_os_error()))
}

impl Owner {
    /// Begins to move what a client was granted.
    pub(super) fn begin_moving(&mut self, client: Client, way: Option<Way>, mode: Option<String>) {
        let Some(way) = way else { return self.happens(desk::Input::Moved(None)) };
        self.moving = Some(Moving { client, way, mode, switching: None, why: None, note: None });
        self.move_on(Input::Begin);
    }

    /// Goes on where time has come, or where a supply has been switched.
    pub(super) fn moving_turn(&mut self) {
        let Some(moving) = &mut self.moving else { return };
        let Some(switching) = &moving.switching else { return self.move_on(Input::Tick) };
        let result = match switching.told.try_recv() {
            Err(TryRecvError::Empty) => return,
            Ok(result) => result,
            Err(TryRecvError::Disconnected) => Err(io::Error::other("what switches the power has failed")),
        };
        moving.switching = None;
        let input = self.done(result);
        self.move_on(input);
    }

    fn done(&mut self, result: io::Result<()>) -> Input {
        match (result, &mut self.moving) {
            (Err(error), Some(moving)) => {
                moving.why = Some(error.to_string());
                Input::Failed
            }
            _ => Input::Done,
        }
    }

    fn move_on(&mut self, first: Input) {
        let mut next = Some(first);
        // A board has no more than so many steps.
        while let Some(input) = next.take() {
            let Some(moving) = &mut self.moving else { return };
            let (client, word) = (moving.client, moving.way.word);
            let mut out = Vec::new();
            moving.way.sequence.handle(now(), input, &mut out);
            for output in out {
                match output {
                    Output::Set(levels) => {
                        if word == "pulse" {
                            let told = Told { ns: Some(monotonic_ns()), ..Told::new("set", word) };
                            self.answer(client, &told, None);
                        }
                        let result = self.set(&levels);
                        next = Some(self.done(result));
                    }
                    Output::Power(on) => {
                        if let Some(result) = self.switch(on) {
                            next = Some(self.done(result));
                        }
                    }
                    Output::Reached(mode) => {
                        self.answer(client, &Told { mode: Some(mode), ..Told::new("reached", word) }, None);
                    }
                    Output::Over => return self.moved(),
                }
            }
        }
    }

    fn moved(&mut self) {
        let Some(moving) = self.moving.take() else { return };
        let (told, mode) = match moving.why {
            None => (Told { note: moving.note, ..Told::new("granted", moving.way.word) }, moving.mode),
            // Lines stay where the last step that was done has left them.
            why => (Told { why, ..Told::new("failed", moving.way.word) }, None),
        };
        self.answer(moving.client, &told, None);
        self.happens(desk::Input::Moved(mode));
    }

    /// Gives lines these levels, as the board means them.
    fn set(&mut self, levels: &[(String, bool)]) -> io::Result<()> {
        for lines in &mut self.lines {
            let name = &lines.group().name.clone();
            lines.set(levels).map_err(|error| io::Error::new(error.kind(), format!("lines {name}: {error}")))?;
        }
        let mut note = None;
        for station in &self.stations {
            let console = &station.console.name;
            let (mut dtr, mut rts, mut sent) = (None, None, None);
            for (name, level) in levels {
                let Some(line) = self.setup.board.line(name) else { continue };
                match &line.wire {
                    Wire::Signal(of, signal) if of == console => {
                        let level = Some(*level != line.active_low);
                        match signal {
                            Signal::Dtr => dtr = level,
                            Signal::Rts => rts = level,
                            Signal::Break => sent = level,
                        }
                    }
                    Wire::Signal(..) | Wire::Gpio(..) | Wire::UsbPort(_) => {}
                }
            }
            let named = |error: io::Error| io::Error::new(error.kind(), format!("console {console}: {error}"));
            if dtr.is_some() || rts.is_some() {
                station.serial.set_lines(dtr, rts).map_err(named)?;
            }
            if let Some(on) = sent {
                match station.serial.tty().and_then(|tty| calls::set_break(tty.as_fd(), on)) {
                    // A reset that could be had without it is better than none.
                    Err(error) if knows_no_break(&error) => {
                        note = Some(format!("console {console}: its adapter sends no BREAK ({error})"));
                    }
                    other => other.map_err(named)?,
                }
            }
        }
        if let (Some(note), Some(moving)) = (note, &mut self.moving) {
            moving.note.get_or_insert(note);
        }
        for (name, level) in levels {
            let place = self.setup.board.lines.iter().position(|line| line.name == *name);
            // Its hub may have been plugged in since the board has its owner.
            place.into_iter().for_each(|place| self.leave_port(place));
            if let Some(line) = place.and_then(|place| self.setup.board.lines.get(place))
                && let Wire::UsbPort(port) = &line.wire
            {
                power::usb_port(port, *level != line.active_low, &self.setup.places)?;
            }
        }
        Ok(())
    }

    /// Switches the power: what came of it, where that is known at once.
    fn switch(&mut self, on: bool) -> Option<io::Result<()>> {
        let Some(supply) = self.setup.board.power.as_ref().map(|power| power.by.clone()) else {
            return Some(Err(io::Error::other("the board has no \"power\" in its bench")));
        };
        if let Supply::Line(line) = &supply {
            return Some(self.set(&[(line.clone(), on)]));
        }
        let places = self.setup.places.clone();
        let (tell, told) = sync_channel(1);
        let begun = UnixStream::pair().and_then(|(ended, ends)| {
            thread::Builder::new().name("power".into()).spawn(move || {
                let mut no_line = |_: &str, _: bool| Err(io::Error::other("a line is not switched from here"));
                let _ = tell.send(power::switch(&supply, on, &places, &mut no_line));
                // It is there before the other end is woken.
                drop(ends);
            })?;
            Ok(ended)
        });
        match (begun, &mut self.moving) {
            (Ok(ended), Some(moving)) => {
                moving.switching = Some(Switching { ended, told });
                None
            }
            (Ok(_), None) => None,
            (Err(error), _) => Some(Err(error)),
        }
    }
}
