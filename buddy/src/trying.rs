//! A board and a trial → all that happens at the board as records of one log, what the judge asks for done, and the verdict.
//!
//! The judge gets what the log gets, in the same order, and its time comes from the board's owner: a `Tick` is written when the owner
//! has given all that came up to it. So the log that is kept ends with the same rules in the same verdict, without a board.

pub mod hands;
pub mod watch;

use self::hands::{Hands, Order, Report};
use self::watch::Watch;
use crate::delivering::{self, Delivered, Image};
use crate::flash::{self, Failure};
use crate::frames::{Asked, Told, why_word};
use crate::history::{self, stamp};
use crate::listening::{Event, Listening};
use crate::ports::Places;
use crate::ring::{Piece, Why};
use crate::serial::{boottime_ns, monotonic_ns, realtime_ns};
use crate::visit::Whose;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sai_core::axis::{Clock, Entry, Loss, Mark, Progress, Sent, What};
use sai_core::bench::Board;
use sai_core::job::Fault;
use sai_core::judge::{Input, Judge, Judgement, Output};
use sai_core::ordered::Map;
use sai_core::record::{self, ChannelStart, Record, StepEnd, StepStart};
use sai_core::trial::{Step, Trial};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

/// Nanoseconds between two moments that the owner is asked for while something comes: a prompt, which ends no line, is seen by these.
const TICK_NS: u64 = 50_000_000;
/// The same while nothing comes.
const IDLE_NS: u64 = 1_000_000_000;
/// Nanoseconds within which the kernel gives out an edge that it has stamped.
const EDGES_LATE_NS: u64 = 5_000_000;
/// Nanoseconds between two records of the clocks.
const CLOCKS_NS: u64 = 60_000_000_000;
/// Nanoseconds for which the machine may have slept unnoticed: less than anything that a trial waits for.
const SLEPT_NS: u64 = 50_000_000;
/// Nanoseconds for which what a board says while it is flashed waits to be written, where its loader starts what it has brought: where
/// that begins is known a little later.
const HELD_NS: u64 = 500_000_000;
/// Bytes of a tool that are kept in a log for each console; of what it sends beyond, the length is.
const TOOL_BYTES: u64 = 64 * 1024;

/// What is to be tried.
#[derive(Debug)]
pub struct Wanted {
    /// The board's owner.
    pub whose: Whose,
    /// The board.
    pub board: Board,
    /// Where its lines are found.
    pub places: Places,
    /// By what it is judged.
    pub trial: Trial,
    /// What is flashed before, each image of the trial at its place.
    pub images: Vec<Image>,
    /// What `${SAI_…}` stands for.
    pub values: Map<String, String>,
}

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub enum Written<'a> {
    /// What every log has.
    Record(&'a Record),
    /// Bytes of a channel.
    Data(u8, &'a [u8]),
    /// What is on a board's axis.
    Entry(&'a Entry),
}

impl Written<'_> {
    /// Appends it as it stands in a log; `micros` is its time since the log began.
    pub fn encode(&self, micros: u64, out: &mut Vec<u8>) {
        match self {
            Written::Record(record) => record::encode(record, micros, out),
            Written::Data(channel, bytes) => {
                for piece in bytes.chunks(sai_core::limits::RECORD_BYTES) {
                    record::encode_data(*channel, piece, micros, out);
                }
            }
            Written::Entry(entry) => entry.encode(micros, out),
        }
    }
}

/// Where records go, each with its microseconds since the log began.
pub type Log<'a> = dyn FnMut(u64, &Written<'_>) -> io::Result<()> + 'a;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The word of the verdict.
    pub word: &'static str,
    /// Whose fault it is.
    pub fault: Fault,
    /// One sentence for people; empty where it passed.
    pub cause: String,
    /// The step that decided: 0 is flashing, 1 the test.
    pub step: u32,
}

/// The word where an image did not get onto its board, or not whole.
pub const FLASH_FAILED: &str = "flash-failed";

impl From<Judgement> for Found {
    fn from(judgement: Judgement) -> Found {
        Found { word: judgement.word.text(), fault: judgement.word.fault(), cause: judgement.cause, step: 1 }
    }
}

impl From<Failure> for Found {
    fn from(failure: Failure) -> Found {
        let (word, fault) = match failure.whose {
            // It cannot be on any board.
            flash::Whose::Image => (FLASH_FAILED, Fault::Job),
            flash::Whose::Board => (FLASH_FAILED, Fault::Infrastructure),
            flash::Whose::Wiring | flash::Whose::Tool | flash::Whose::Sai => ("infra", Fault::Infrastructure),
        };
        Found { word, fault, cause: failure.text, step: 0 }
    }
}

fn infra(step: u32, error: &io::Error) -> Found {
    Found { word: "infra", fault: Fault::Infrastructure, cause: error.to_string(), step }
}

/// How a board is reset for a trial, where the bench says: a word of a request, and a name.
fn reset(board: &Board) -> Option<(&'static str, &str)> {
    let then = board.flash.as_ref().and_then(|how| how.then.as_deref());
    then.map(|mode| ("mode", mode)).or_else(|| board.sequences.contains_key("reset").then_some(("play", "reset")))
}

/// Whether a trial can be made on a board.
///
/// # Errors
/// What the board lacks.
pub fn fits(trial: &Trial, board: &Board) -> Result<(), String> {
    let name = &board.name;
    if trial.kind != board.kind {
        return Err(format!("a board of type {:?} is wanted, and {name} is of type {:?}", trial.kind, board.kind));
    }
    if let Some(tag) = trial.tags.iter().find(|tag| !board.tags.contains(tag)) {
        return Err(format!("a board with tag {tag:?} is wanted, and {name} has it not"));
    }
    let steps = trial.steps.iter().filter_map(|step| match step {
        Step::Expect { console, .. } | Step::Send { console, .. } => console.as_ref(),
        _ => None,
    });
    if let Some(console) = trial.console.iter().chain(steps).find(|console| board.console(console).is_none()) {
        return Err(format!("board {name} has no console {console:?}"));
    }
    for step in &trial.steps {
        match step {
            Step::Play(sequence) if board.play(sequence).is_none() => {
                return Err(format!("board {name} has no sequence {sequence:?}"));
            }
            Step::Edge { line, .. } if !crate::lines::read(board).iter().any(|group| group.place(line).is_some()) => {
                return Err(format!("board {name} has no line {line:?} that is read"));
            }
            _ => {}
        }
    }
    if board.consoles.is_empty() {
        return Err(format!("board {name} has no console"));
    }
    match &board.flash {
        None if !trial.images.is_empty() => return Err(format!("board {name} has no \"flash\" in its bench")),
        Some(how) if !trial.images.is_empty() => {
            if let Some((target, _)) = trial.images.iter().find(|(target, _)| delivering::target(how, target).is_none())
            {
                return Err(format!("board {name} has no target {target:?}"));
            }
            if !trial.unverified && !delivering::verifies(&how.with) {
                let text = "does not tell whether an image is there: \"unverified\": true would allow that";
                return Err(format!("board {name} {text}"));
            }
        }
        _ if reset(board).is_none() => {
            let text =
                "nothing is flashed, and board {name} has no sequence \"reset\" and no \"then\" of its \"flash\"";
            return Err(text.replace("{name}", name));
        }
        _ => {}
    }
    Ok(())
}

/// Tries a board. What is written is on the way to be judged; `stopped` is asked again and again whether it is to be given up, which
/// is no verdict.
pub fn run(wanted: Wanted, stopped: &dyn Fn() -> bool, log: &mut Log<'_>) -> Option<Found> {
    let flashes = !wanted.images.is_empty();
    let first = u32::from(!flashes);
    let sitting = match Sitting::new(wanted, log) {
        Ok(sitting) => sitting,
        Err(error) => return Some(infra(first, &error)),
    };
    match sitting.whole(stopped) {
        Ok(found) => found,
        Err((step, error)) => Some(infra(step, &error)),
    }
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Flashing,
    /// A moment is waited for, behind which the board is reset.
    Resetting,
    Judging,
}

struct Sitting<'a, 'b> {
    board: Board,
    listening: Listening,
    hands: Hands,
    watch: Watch,
    judge: Judge,
    log: &'a mut Log<'b>,
    /// CLOCK_MONOTONIC when the log began.
    began: u64,
    images: Vec<Image>,
    stage: Stage,
    /// Whether judging has begun.
    begun: bool,
    /// The console, and the bytes of its channel as its owner counts them, behind which it begins.
    begins: Option<(u8, u64)>,
    /// Whether the board is being reset.
    resets: bool,
    /// What waits to be written, with the moment at which it was heard.
    held: VecDeque<(u64, u8, history::Entry)>,
    /// Bytes of each console in this log, by its number.
    offsets: Vec<u64>,
    /// Bytes of tools that each has in the log.
    of_tools: Vec<u64>,
    /// What the judge wants to be told of next.
    outputs: Vec<Output>,
    found: Option<Found>,
    /// Whether a moment was asked for.
    asked: bool,
    next_tick: u64,
    /// Whether anything has come since the last one.
    came: bool,
    next_clock: u64,
    /// How long the machine has slept since it was started, in nanoseconds.
    slept: u64,
}

impl<'a, 'b> Sitting<'a, 'b> {
    fn new(wanted: Wanted, log: &'a mut Log<'b>) -> io::Result<Self> {
        let Wanted { whose, board, places, trial, images, values } = wanted;
        let first = board.consoles.first().map(|console| console.name.clone()).unwrap_or_default();
        let judge = Judge::new(trial, &first, values)
            .map_err(|expected| io::Error::other(format!("identity: expected {expected}")))?;
        let hands = Hands::new(&whose, board.clone())?;
        let listening = Listening::new(whose, None, false)?;
        let consoles = board.consoles.len();
        let names = board.lines.iter().map(|line| line.name.clone()).collect::<Vec<_>>();
        let channel = |line: &str| {
            let place = names.iter().position(|name| name == line).unwrap_or(names.len());
            (consoles + place) as u8
        };
        let watch = Watch::new(&board, &places, channel)?;
        let began = monotonic_ns();
        let mut sitting = Sitting {
            listening,
            hands,
            watch,
            judge,
            log,
            began,
            stage: if images.is_empty() { Stage::Resetting } else { Stage::Flashing },
            images,
            begun: false,
            begins: None,
            resets: false,
            held: VecDeque::new(),
            offsets: vec![0; consoles],
            of_tools: vec![0; consoles],
            outputs: Vec::new(),
            found: None,
            asked: false,
            next_tick: began,
            came: false,
            next_clock: began,
            slept: boottime_ns().saturating_sub(began),
            board,
        };
        sitting.name_channels(channel)?;
        Ok(sitting)
    }

    fn name_channels(&mut self, channel: impl Fn(&str) -> u8) -> io::Result<()> {
        let consoles = self.board.consoles.iter().map(|console| format!("serial:{}", console.name));
        let mut names: Vec<(u8, String)> = (0..).zip(consoles).collect();
        let read = crate::lines::read(&self.board);
        let lines = read.iter().flat_map(|group| &group.lines);
        names.extend(lines.map(|line| (channel(&line.name), format!("line:{}", line.name))));
        for (channel, name) in names {
            self.record(&Record::Channel(channel, ChannelStart { name: name.clone() }))?;
            self.judge(self.began, Input::Channel(channel, &name));
        }
        if self.watch.may_lose_unseen() {
            self.record(&Record::Note("edges of its lines may be lost unseen: the kernel does not count them".into()))?;
        }
        Ok(())
    }

    fn micros(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.began) / 1000
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        let micros = self.micros(monotonic_ns());
        (self.log)(micros, &Written::Record(record))
    }

    /// Writes what is on the axis, and has it judged.
    fn entry(&mut self, ns: u64, entry: &Entry) -> io::Result<()> {
        let micros = self.micros(ns);
        (self.log)(micros, &Written::Entry(entry))?;
        self.judge(ns, Input::Entry(entry));
        Ok(())
    }

    fn judge(&mut self, ns: u64, input: Input<'_>) {
        let micros = self.micros(ns);
        self.judge.handle(micros, input, &mut self.outputs);
    }

    /// Does what the judge has asked for.
    fn obey(&mut self) -> io::Result<()> {
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send { console, bytes } => self.hands.ask(Order::Send(console, bytes)),
                Output::Play(name) => self.hands.ask(Order::Move("play", name)),
                Output::Case(case) => {
                    let micros = self.micros(monotonic_ns());
                    (self.log)(micros, &Written::Entry(&Entry::Case(case)))?;
                }
                Output::Note(text) => self.record(&Record::Note(text))?,
                Output::Verdict(judgement) => self.found = Some(judgement.into()),
                // What is sent is what it asked for, since nobody else writes as the judge.
                Output::Unknowable(cause) => {
                    self.found = Some(Found { word: "infra", fault: Fault::Infrastructure, cause, step: 1 });
                }
            }
        }
        Ok(())
    }

    fn step(&self) -> u32 {
        u32::from(self.stage != Stage::Flashing)
    }

    /// All of it, up to the verdict. An error comes with the step that it belongs to.
    fn whole(mut self, stopped: &dyn Fn() -> bool) -> Result<Option<Found>, (u32, io::Error)> {
        let found = self.until_found(stopped);
        let step = self.step();
        let status = match &found {
            Ok(Some(found)) => i32::from(found.word != "passed"),
            _ => 1,
        };
        // What keeps it from being written is told by what kept the rest.
        let ended = self.clocks().and_then(|()| self.record(&Record::StepEnd(StepEnd { step, status })));
        match (found, ended) {
            (Ok(found), Ok(())) => Ok(found),
            (Err(error), _) | (_, Err(error)) => Err((step, error)),
        }
    }

    fn until_found(&mut self, stopped: &dyn Fn() -> bool) -> io::Result<Option<Found>> {
        self.clocks()?;
        let images = std::mem::take(&mut self.images);
        let text = match self.stage {
            Stage::Flashing => {
                let names = images.iter().map(|image| format!("{} to {}", image.path.display(), image.target.name));
                format!("flash {}", names.collect::<Vec<_>>().join(", "))
            }
            _ => "test".into(),
        };
        self.record(&Record::StepStart(StepStart { step: self.step(), text }))?;
        if self.stage == Stage::Flashing {
            self.hands.ask(Order::Flash(images));
        }
        while self.found.is_none() {
            if stopped() {
                return Ok(None);
            }
            self.turn()?;
        }
        Ok(self.found.take())
    }

    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        while let Some(event) = self.listening.next(std::time::Duration::ZERO)? {
            self.hear(event)?;
            self.obey()?;
        }
        self.edges()?;
        while let Some(report) = self.hands.report() {
            self.reported(report)?;
            self.obey()?;
        }
        let now = monotonic_ns();
        self.release(now)?;
        if now >= self.next_clock {
            self.clocks()?;
        }
        let wants = self.stage == Stage::Resetting || self.begins.is_some() || self.begun;
        if wants && !self.asked && (now >= self.next_tick || !self.begun) {
            self.listening.visit().ask(&Asked::new("moment"))?;
            self.asked = true;
        }
        self.obey()
    }

    fn wait(&mut self) -> io::Result<()> {
        let now = monotonic_ns();
        let tick = if self.asked || !self.begun { u64::MAX } else { self.next_tick };
        let first = self.stage == Stage::Resetting && !self.asked;
        let until = if first { now } else { tick.min(self.next_clock).min(now + IDLE_NS) };
        let left = until.saturating_sub(now);
        let time = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 };
        let files: Vec<BorrowedFd<'_>> =
            [self.listening.as_fd(), self.hands.woken()].into_iter().chain(self.watch.files()).collect();
        let mut fds: Vec<PollFd<'_>> = files.iter().map(|file| PollFd::new(file, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&time)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the clocks, and whether the machine has slept.
    fn clocks(&mut self) -> io::Result<()> {
        let monotonic_ns = monotonic_ns();
        self.next_clock = monotonic_ns + CLOCKS_NS;
        let clock = Clock { monotonic_ns, boottime_ns: boottime_ns(), realtime_ns: realtime_ns() };
        let slept = clock.boottime_ns.saturating_sub(monotonic_ns);
        self.entry(monotonic_ns, &Entry::Clock(clock))?;
        if slept > self.slept + SLEPT_NS {
            let text = Some(format!("{} ms", (slept - self.slept) / 1_000_000));
            self.mark(monotonic_ns, Mark { text, ..plain(What::Suspend) })?;
        }
        self.slept = slept;
        Ok(())
    }

    fn mark(&mut self, ns: u64, mark: Mark) -> io::Result<()> {
        let names = self.board.consoles.iter().map(|console| console.name.clone());
        let offsets = Some(Map::from_iter(names.zip(self.offsets.iter().copied())));
        self.entry(ns, &Entry::Mark(Mark { offsets, ..mark }))
    }

    fn edges(&mut self) -> io::Result<()> {
        if self.watch.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        self.watch.take(&mut entries)?;
        self.watch.settle(monotonic_ns(), &mut entries);
        for (ns, entry) in entries {
            self.came = true;
            self.entry(ns, &entry)?;
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Entry(console, entry) if self.holds() => {
                self.held.push_back((monotonic_ns(), console, entry));
                Ok(())
            }
            Event::Entry(console, entry) => {
                self.release(monotonic_ns())?;
                self.had(console, entry)
            }
            Event::Told(Told { t, ns: Some(ns), .. }) if t == "moment" => self.moment(ns),
            Event::Told(told) if told.t == "refused" => {
                let why = told.why.unwrap_or_default();
                Err(io::Error::other(format!("the board's owner says: {why}")))
            }
            Event::Told(_) => Ok(()),
            Event::Replaced => {
                self.asked = false;
                Ok(())
            }
        }
    }

    /// Whether what is heard waits.
    fn holds(&self) -> bool {
        self.stage == Stage::Flashing && !matches!(reset(&self.board), Some(("mode", _)))
    }

    /// Writes what has waited for long enough.
    fn release(&mut self, now: u64) -> io::Result<()> {
        let late = if self.holds() { HELD_NS } else { 0 };
        while self.held.front().is_some_and(|(heard, ..)| heard.saturating_add(late) <= now) {
            // It was there just now.
            let Some((_, console, entry)) = self.held.pop_front() else { break };
            self.had(console, entry)?;
        }
        Ok(())
    }

    /// The owner has given all that came up to a moment.
    fn moment(&mut self, ns: u64) -> io::Result<()> {
        self.asked = false;
        if self.stage == Stage::Resetting {
            let way = reset(&self.board).map(|(word, name)| (word, name.to_string()));
            let (word, name) = way.ok_or_else(|| io::Error::other("the bench has no way to reset the board"))?;
            self.begin(ns, Some(name.clone()))?;
            self.resets = true;
            self.hands.ask(Order::Move(word, name));
            return Ok(());
        }
        if self.begins.take().is_some() {
            self.begin(ns, None)?;
        }
        // Edges that were stamped before are here by now.
        self.edges()?;
        let late = if self.watch.is_empty() { 0 } else { EDGES_LATE_NS };
        let up_to = self.micros(ns.saturating_sub(late));
        self.entry(ns, &Entry::Tick(up_to))?;
        let deadline = self.judge.deadline().map_or(u64::MAX, |at| self.began + at.saturating_mul(1000) + late);
        let pause = if std::mem::take(&mut self.came) { TICK_NS } else { IDLE_NS };
        self.next_tick = deadline.clamp(ns + TICK_NS / 10, ns + pause);
        Ok(())
    }

    /// The board is judged by what comes from here on.
    fn begin(&mut self, ns: u64, name: Option<String>) -> io::Result<()> {
        self.begun = true;
        self.stage = Stage::Judging;
        self.next_tick = ns + TICK_NS;
        self.mark(ns, Mark { name, judged: Some(true), ..plain(What::Reset) })
    }

    /// A console had something.
    fn had(&mut self, console: u8, entry: history::Entry) -> io::Result<()> {
        let ns = stamp(&entry);
        if !self.came {
            // What is said now and ends no line is looked at soon.
            self.came = true;
            self.next_tick = self.next_tick.min(monotonic_ns() + TICK_NS);
        }
        let index = usize::from(console);
        let name = self.board.consoles.get(index).map(|console| console.name.clone());
        let end = entry.end();
        if let history::Entry::Came(Piece::Bytes { offset, bytes, .. }) = &entry
            && let Some((_, begins)) = self.begins.filter(|(of, begins)| *of == console && *begins < end)
        {
            let (before, after) = bytes.split_at(begins.saturating_sub(*offset) as usize);
            self.data(ns, console, before)?;
            self.begins = None;
            self.begin(ns, None)?;
            return self.data(ns, console, after);
        }
        match entry {
            history::Entry::Came(Piece::Bytes { bytes, .. }) => self.data(ns, console, &bytes)?,
            history::Entry::Came(Piece::Lost { lost, why, .. }) => match why {
                Why::Frame | Why::Parity | Why::Break => {
                    let many = lost.map_or("bytes".to_string(), |lost| format!("{lost} times"));
                    let text = Some(format!("{many}, {}", why_word(why)));
                    self.mark(ns, Mark { name, text, ..plain(What::Noise) })?;
                }
                Why::Full | Why::Overrun | Why::Away | Why::Died => {
                    let lost = lost.filter(|_| why == Why::Full);
                    let offset = self.offsets.get(index).copied().unwrap_or(0);
                    self.entry(ns, &Entry::Loss(console, Loss { offset, lost, why: why_word(why).into() }))?;
                    self.count(index, lost.unwrap_or(0));
                }
            },
            history::Entry::Came(Piece::Unplugged { .. }) => {
                self.mark(ns, Mark { name, ..plain(What::Unplugged) })?;
            }
            history::Entry::Came(Piece::Back { tty, .. }) => {
                self.mark(ns, Mark { name, text: Some(tty), ..plain(What::Back) })?;
            }
            history::Entry::Sent { writer, length, bytes, .. } => {
                let sent = match bytes {
                    Some(bytes) if writer != "tool" || self.keeps(index, length) => Sent::of(&writer, &bytes),
                    _ => Sent { writer, length, bytes: None },
                };
                self.entry(ns, &Entry::Sent(console, sent))?;
            }
        }
        Ok(())
    }

    /// Whether bytes of a tool are still kept.
    fn keeps(&mut self, console: usize, length: u64) -> bool {
        let Some(kept) = self.of_tools.get_mut(console) else { return false };
        *kept += length;
        *kept <= TOOL_BYTES
    }

    fn count(&mut self, console: usize, bytes: u64) {
        if let Some(offset) = self.offsets.get_mut(console) {
            *offset += bytes;
        }
    }

    fn data(&mut self, ns: u64, console: u8, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let micros = self.micros(ns);
        (self.log)(micros, &Written::Data(console, bytes))?;
        self.judge(ns, Input::Bytes(console, bytes));
        self.count(usize::from(console), bytes.len() as u64);
        Ok(())
    }

    fn reported(&mut self, report: Report) -> io::Result<()> {
        match report {
            Report::Flashing(_, flash::Output::Progress(progress)) => {
                let (phase, done, of) = (progress.phase.word().to_string(), progress.done, progress.of);
                self.entry(monotonic_ns(), &Entry::Progress(Progress { phase, done, of }))
            }
            Report::Flashing(image, flash::Output::Note(note)) => {
                self.record(&Record::Note(format!("{image}: {note}")))
            }
            Report::Flashing(..) => Ok(()),
            Report::Flashed(Err(failure)) => {
                self.found = Some(failure.into());
                Ok(())
            }
            Report::Flashed(Ok(delivered)) => self.flashed(delivered),
            Report::Moved(word, name, moved) if std::mem::take(&mut self.resets) => {
                moved.map_err(|error| io::Error::other(format!("{word} {name}: {error}")))?;
                let what = if word == "mode" { What::Mode } else { What::Reset };
                self.mark(monotonic_ns(), Mark { name: Some(name), ..plain(what) })
            }
            Report::Moved(_, name, Ok(())) => self.mark(monotonic_ns(), Mark { name: Some(name), ..plain(What::Play) }),
            // The judge comes to it when its time is over, in a log that is read again too.
            Report::Moved(word, name, Err(error)) => self.record(&Record::Note(format!("{word} {name}: {error}"))),
            Report::Sent(Err(error)) => self.record(&Record::Note(format!("what was to be sent: {error}"))),
            Report::Sent(Ok(())) => Ok(()),
        }
    }

    fn flashed(&mut self, delivered: Delivered) -> io::Result<()> {
        if !delivered.verified {
            self.record(&Record::Note("what is on the board was not verified".into()))?;
        }
        self.record(&Record::StepEnd(StepEnd { step: 0, status: 0 }))?;
        self.stage = Stage::Judging;
        self.record(&Record::StepStart(StepStart { step: 1, text: "test".into() }))?;
        let number = |name: &str| self.board.consoles.iter().position(|console| console.name == name);
        match (reset(&self.board), delivered.said) {
            (Some(("mode", _)), _) | (Some(_), None) => self.stage = Stage::Resetting,
            // Its loader has started it, and it may have said something since, which waits.
            (_, Some((console, offset))) => self.begins = number(&console).map(|console| (console as u8, offset)),
            (None, None) => {
                self.release(u64::MAX)?;
                self.begin(monotonic_ns(), None)?;
            }
        }
        Ok(())
    }
}

fn plain(what: What) -> Mark {
    Mark { what, name: None, text: None, offsets: None, judged: None }
}
