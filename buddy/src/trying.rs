//! A board and a trial → the trial made there as its machine says: what consoles and lines have is heard, what is asked for is done, and
//! the log is given away.
//!
//! Nothing is decided here but what is waited for; see `sai_core::trying`.

pub mod hands;
pub mod watch;

use self::hands::{Hands, Order, Report};
use self::watch::Watch;
use crate::delivering::Image;
use crate::flash;
use crate::frames::{Asked, Told};
use crate::listening::{Event, Listening};
use crate::ports::Places;
use crate::serial::{boottime_ns, monotonic_ns, realtime_ns};
use crate::stop::Stop;
use crate::telling;
use crate::visit::{Whose, gone};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sai_core::axis::{Clock, Progress};
use sai_core::bench::Board;
use sai_core::bug;
use sai_core::ordered::Map;
use sai_core::record::Record;
use sai_core::together::Reached;
use sai_core::trial::Trial;
use sai_core::trying::{Found, Input, Output, Setup, Trying, Written};
use std::fmt;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Nanoseconds between two looks at lines, whose edges of a second that is over are counted then.
const LOOK_NS: u64 = 1_000_000_000;

/// What is to be tried.
#[derive(Debug)]
pub struct Wanted {
    /// The board's owner.
    pub whose: Whose,
    /// The board.
    pub board: Board,
    /// Where its lines are found.
    pub places: Places,
    /// By what it is judged; it fits the board (`sai_core::trying::fits`).
    pub trial: Trial,
    /// What is flashed before, each image of the trial at its place.
    pub images: Vec<Image>,
    /// What `${SAI_…}` stands for.
    pub values: Map<String, String>,
    /// The number of the step that is flashing; the test is the next one.
    pub first_step: u32,
    /// CLOCK_MONOTONIC when the log began, in nanoseconds.
    pub began_ns: u64,
    /// The word that it is to be given up. It is heard at any time, in the middle of flashing too.
    pub cancel: Stop,
    /// Where it is one of several boards that are tried together: where it waits for the others.
    pub gate: Option<Gate>,
}

/// Where the trial of a board waits for those of others.
pub struct Gate {
    /// Tells how far this one is.
    pub reached: Box<dyn Fn(Reached) + Send>,
    /// The word that nobody else writes to any of the boards.
    pub held: Stop,
    /// The word that what is to be on each of them is there.
    pub flashed: Stop,
}

impl fmt::Debug for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Gate")
    }
}

impl Gate {
    /// Waits until all are so far; false where it is given up meanwhile.
    fn waits(&self, reached: Reached, cancel: &Stop) -> bool {
        (self.reached)(reached);
        let opens = if reached == Reached::Held { &self.held } else { &self.flashed };
        loop {
            if cancel.said() {
                return false;
            }
            if opens.said() {
                return true;
            }
            let files = opens.file().into_iter().chain(cancel.file());
            let mut fds: Vec<PollFd<'_>> = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
            let _ = poll(&mut fds, None);
        }
    }
}

/// Where records go, the beginnings and ends of the steps among them, each with its microseconds since the log began. Who
/// gives an error ends the trial and is given no more; who has no room (`StorageFull`) is, and counts it.
pub type Log<'a> = dyn FnMut(u64, &Written) -> io::Result<()> + 'a;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a verdict.
    Found(Found),
    /// It was given up, which is no verdict. What was under way is broken off, and the log tells what that leaves.
    GivenUp,
    /// It has not begun: somebody else writes to the board, as is told. Nothing was done to it, and nothing is in the log.
    Busy(String),
}

/// Tries a board.
pub fn run(wanted: Wanted, log: &mut Log<'_>) -> Ended {
    let step = wanted.first_step.saturating_add(u32::from(wanted.images.is_empty()));
    let trouble = |error: io::Error| Ended::Found(Found::infra(error.to_string(), step));
    let (says, stop) = match Stop::pair() {
        Ok(pair) => pair,
        Err(error) => return trouble(error),
    };
    let hands = match Hands::new(&wanted.whose, wanted.board.clone(), stop, sai_core::judge::WRITER) {
        Ok(hands) => hands,
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Ended::Busy(error.to_string()),
        Err(error) => return trouble(error),
    };
    if let Some(gate) = &wanted.gate {
        // One on which nothing is put is where the others come to.
        let all = gate.waits(Reached::Held, &wanted.cancel);
        if !all || (wanted.images.is_empty() && !gate.waits(Reached::Flashed, &wanted.cancel)) {
            return Ended::GivenUp;
        }
    }
    match Sitting::new(wanted, hands, says, log) {
        Ok(sitting) => sitting.whole(),
        // Its file was read again a moment ago.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ended::Busy(error.to_string()),
        Err(error) => trouble(error),
    }
}

struct Sitting<'a, 'b> {
    trying: Trying,
    listening: Listening,
    hands: Hands,
    /// Has the hands break off what they do, when it is dropped.
    stops: Option<UnixStream>,
    watch: Watch,
    log: &'a mut Log<'b>,
    /// Whether the log takes no more.
    deaf: bool,
    cancel: Stop,
    cancelled: bool,
    consoles: Vec<String>,
    digest: u64,
    began_ns: u64,
    images: Vec<Image>,
    gate: Option<Gate>,
    /// Whether the board is reset after it was flashed, and its loader starts nothing that counts.
    resets: bool,
    /// What became of the images, while the other boards are waited for.
    flashed: Option<Input>,
    ended: Option<Option<Found>>,
}

fn now() -> Clock {
    Clock { monotonic_ns: monotonic_ns(), boottime_ns: boottime_ns(), realtime_ns: realtime_ns() }
}

impl<'a, 'b> Sitting<'a, 'b> {
    fn new(wanted: Wanted, hands: Hands, stops: UnixStream, log: &'a mut Log<'b>) -> io::Result<Self> {
        let Wanted { whose, board, places, trial, images, values, first_step, began_ns, cancel, gate } = wanted;
        let listening = Listening::new(whose, None, true)?;
        let watch = Watch::new(&board, &places)?;
        let digest = board.digest;
        let resets = board.flash.as_ref().is_some_and(|how| how.then.is_some());
        let consoles = board.consoles.iter().map(|console| console.name.clone()).collect();
        let names = images.iter().map(|image| (image.name.clone(), image.target.name.clone())).collect();
        let unseen = watch.may_lose_unseen();
        let before = listening.began().to_vec();
        let setup = Setup { board, trial, values, images: names, before, unseen, first_step, began_ns };
        let trying = Trying::new(setup).map_err(io::Error::other)?;
        let sitting = Sitting {
            trying,
            listening,
            hands,
            stops: Some(stops),
            watch,
            log,
            deaf: false,
            cancel,
            cancelled: false,
            consoles,
            digest,
            began_ns,
            images,
            gate,
            resets,
            flashed: None,
            ended: None,
        };
        sitting.same_bench()?;
        Ok(sitting)
    }

    /// All of it, up to the end.
    fn whole(mut self) -> Ended {
        self.happens(Input::Begin);
        if telling::is_mistaken("trying") {
            self.happens(Input::Begin);
        }
        let found = loop {
            if let Some(found) = self.ended.take() {
                break found;
            }
            if let Err(error) = self.turn() {
                self.happens(Input::Trouble(error.to_string()));
            }
        };
        // Lines are let come to where they are on their way to.
        while self.hands.wait(&self.cancel) {
            self.stops = None;
        }
        found.map_or(Ended::GivenUp, Ended::Found)
    }

    /// Gives the machine something, and does what it says.
    fn happens(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut out = Vec::new();
            self.trying.handle(now(), input, &mut out);
            for output in out {
                if let Err(error) = self.carry_out(output) {
                    next = Some(Input::Trouble(error.to_string()));
                }
            }
        }
    }

    fn carry_out(&mut self, output: Output) -> io::Result<()> {
        match output {
            Output::Write(..) if self.deaf => {}
            Output::Write(micros, written) => {
                let result = (self.log)(micros, &written);
                self.deaf = result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::StorageFull);
                return result;
            }
            Output::Flash => self.hands.ask(Order::Flash(std::mem::take(&mut self.images))),
            Output::Move(way) => self.hands.ask(Order::Move(way)),
            Output::Send { console, bytes } => self.hands.ask(Order::Send(console, bytes)),
            Output::AskMoment => {
                return match self.listening.visit().ask(&Asked::new("moment")) {
                    // Who takes its place is asked again.
                    Err(error) if gone(&error) => Ok(()),
                    asked => asked,
                };
            }
            Output::Stop => self.stops = None,
            Output::End(found) => self.ended = Some(found),
            Output::Bug(what) => {
                let note = Written::Record(Record::Note(bug::sentence(what)));
                let micros = monotonic_ns().saturating_sub(self.began_ns) / 1000;
                let result = self.carry_out(Output::Write(micros, note));
                telling::end_of_tests();
                return result;
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        while let Some(event) = self.listening.next(Duration::ZERO)? {
            self.hear(event)?;
        }
        self.edges()?;
        while let Some(report) = self.hands.report() {
            self.reported(report);
        }
        if self.gate.as_ref().is_none_or(|gate| gate.flashed.said())
            && let Some(flashed) = self.flashed.take()
        {
            self.happens(flashed);
        }
        if !self.cancelled && self.cancel.said() {
            self.cancelled = true;
            if let Some(flashed) = self.flashed.take() {
                self.happens(flashed);
            }
            self.happens(Input::Cancel);
        }
        self.happens(Input::Tick);
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let now = monotonic_ns();
        let look = if self.watch.is_empty() { u64::MAX } else { now.saturating_add(LOOK_NS) };
        let left = self.trying.deadline().unwrap_or(now).min(look).saturating_sub(now);
        let time = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 };
        let cancel = self.cancel.file().filter(|_| !self.cancelled);
        let gate = self.gate.as_ref().filter(|_| self.flashed.is_some()).and_then(|gate| gate.flashed.file());
        let files = [self.listening.as_fd(), self.hands.woken()]
            .into_iter()
            .chain(self.watch.files())
            .chain(cancel)
            .chain(gate);
        let mut fds: Vec<PollFd<'_>> = files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn edges(&mut self) -> io::Result<()> {
        if self.watch.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        self.watch.take(&mut entries)?;
        self.watch.settle(monotonic_ns(), &mut entries);
        for (ns, entry) in entries {
            self.happens(Input::Lines(ns, entry));
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Entry(console, entry) => self.happens(Input::Had(console, entry)),
            Event::Told(Told { t, ns: Some(ns), .. }) if t == "moment" => {
                // Edges that were stamped before are here by now.
                self.edges()?;
                self.happens(Input::Moment(ns));
            }
            Event::Told(told) if told.t == "refused" => {
                let why = told.why.unwrap_or_default();
                return Err(io::Error::other(format!("the board's owner says: {why}")));
            }
            Event::Told(_) => {}
            Event::Replaced => {
                self.same_bench()?;
                self.happens(Input::Replaced);
            }
        }
        Ok(())
    }

    /// Consoles are told by number, which an owner of another bench counts otherwise; and it moves other lines by the same names.
    fn same_bench(&self) -> io::Result<()> {
        let same = self.listening.bench().is_none_or(|digest| digest == self.digest);
        if self.listening.names() == self.consoles {
            let text = "the board's owner goes by another description of it by now";
            return if same { Ok(()) } else { Err(io::Error::new(io::ErrorKind::ResourceBusy, text)) };
        }
        let (theirs, ours) = (self.listening.names().join(", "), self.consoles.join(", "));
        let text = format!("the board's owner has the consoles {theirs}, and the bench {ours}: it is to be stopped");
        Err(io::Error::other(text))
    }

    fn reported(&mut self, report: Report) {
        let text = |result: io::Result<()>| result.map_err(|error| error.to_string());
        self.happens(match report {
            Report::Flashing(_, flash::Output::Progress(progress)) => {
                let (phase, done, of) = (progress.phase.word().to_string(), progress.done, progress.of);
                Input::Progress(Progress { phase, done, of })
            }
            Report::Flashing(image, flash::Output::Note(note)) => Input::Note(format!("{image}: {note}")),
            Report::Flashing(..) => return,
            Report::Printed(bytes) => Input::Printed(bytes),
            Report::PrintedMore(lost) => Input::PrintedMore(lost),
            Report::Flashed(flashed) => {
                if let (Some(gate), Ok(delivered), false) = (&self.gate, &flashed, self.cancelled) {
                    (gate.reached)(Reached::Flashed);
                    // Boards that are wired together are reset when all of them have what they are to run. One that its loader has
                    // started is under way already, and what it says counts.
                    if self.resets || delivered.said.is_none() {
                        self.flashed = Some(Input::Flashed(flashed));
                        return;
                    }
                }
                Input::Flashed(flashed)
            }
            Report::Noted(note) => Input::Note(note),
            Report::Moved(moved) => Input::Moved(text(moved)),
            Report::Sent(sent) => Input::Sent(text(sent)),
        });
    }
}
