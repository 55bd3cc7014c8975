//! What a board's owner, hands and lines say while a trial is made there → the records of one log, what is flashed, moved and sent, and
//! the verdict.
//!
//! The judge gets what the log gets, in the same order, and its time comes from the board's owner: a `Tick` is written when the owner
//! has given all that came up to it. So the log that is kept ends with the same rules in the same verdict, without a board.

mod beside;
mod fitting;
mod found;

pub use self::fitting::fits;
pub use self::found::{FLASH_FAILED, Failure, Found, Whose};

use crate::axis::{Clock, Entry, Loss, Mark, Progress, Sent, What};
use crate::bench::{Board, Flasher, Switch};
use crate::console::{self, Piece, Why};
use crate::job::Fault;
use crate::judge::{self, Judge};
use crate::limits::RECORD_BYTES;
use crate::ordered::Map;
use crate::record::{self, ChannelStart, Record, StepEnd, StepStart};
use crate::trial::Trial;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

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
/// Nanoseconds within which what is under way ends when the trial is given up: a tool is killed whole in these.
const CANCEL_NS: u64 = 30_000_000_000;
/// Bytes of a tool that are kept in a log for each console; of what it sends beyond, the length is.
const TOOL_BYTES: u64 = 64 * 1024;

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The board.
    pub board: Board,
    /// By what it is judged; it fits the board ([`fits`]).
    pub trial: Trial,
    /// What `${SAI_…}` stands for.
    pub values: Map<String, String>,
    /// What is flashed before, each with the name of its target; nothing where there is none.
    pub images: Vec<(String, String)>,
    /// Bytes of each console's channel that came before, in the order of their numbers: what they had then is kept apart.
    pub before: Vec<u64>,
    /// Whether edges of the board's lines may be lost without the kernel counting them.
    pub unseen: bool,
    /// The number of the step that is flashing; the test is the next one.
    pub first_step: u32,
    /// CLOCK_MONOTONIC when the log began, in nanoseconds.
    pub began_ns: u64,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// It begins.
    Begin,
    /// A console, by its number, had something.
    Had(u8, console::Entry),
    /// A line had something at this moment, in nanoseconds.
    Lines(u64, Entry),
    /// After `AskMoment`: the owner has given all that consoles had up to here, in nanoseconds, and what lines had was given before.
    Moment(u64),
    /// The owner was replaced: it does not answer what it was asked before.
    Replaced,
    /// After `Flash`: how far it is.
    Progress(Progress),
    /// Something that people should know of.
    Note(String),
    /// After `Flash`: a tool has printed this.
    Printed(Vec<u8>),
    /// After `Flash`: it has printed so many bytes more than are kept.
    PrintedMore(u64),
    /// After `Flash`: the images are there, or whose fault it is that they are not.
    Flashed(Result<Delivered, Failure>),
    /// After `Move`: lines were moved, or why they were not.
    Moved(Result<(), String>),
    /// After `Send`: the bytes went out, or why they did not.
    Sent(Result<(), String>),
    /// Something of ours keeps it from going on.
    Trouble(String),
    /// It is to be given up, which is no verdict.
    Cancel,
    /// The time told by `deadline` has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// This is written to the log, so many microseconds after it began.
    Write(u64, Written),
    /// The images get onto the board, after what was asked for before: `Flashed` follows.
    Flash,
    /// Lines are moved, after what was asked for before: `Moved` follows.
    Move(Way),
    /// Bytes go to a console, after what was asked for before: `Sent` follows.
    Send {
        /// The console's name.
        console: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The owner is asked for a moment: `Moment` follows.
    AskMoment,
    /// What is under way is broken off, and what waits behind it is not begun: each is still answered, whatever became of it.
    Stop,
    /// It is over; without a verdict where it was given up. Nothing follows.
    End(Option<Found>),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// What stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// What every log has, bytes of consoles too.
    Record(Record),
    /// What is on a board's axis.
    Entry(Entry),
}

impl Written {
    /// Appends it as it stands in a log; `micros` is its time since the log began.
    pub fn encode(&self, micros: u64, out: &mut Vec<u8>) {
        self.encode_on(0, micros, out);
    }

    /// The same of a board whose first channel is this one in a log of several.
    pub fn encode_on(&self, first: u8, micros: u64, out: &mut Vec<u8>) {
        match self {
            Written::Record(Record::Data(channel, bytes)) => {
                record::encode_data(channel.saturating_add(first), bytes, micros, out);
            }
            Written::Record(Record::Channel(channel, start)) => {
                record::encode(&Record::Channel(channel.saturating_add(first), start.clone()), micros, out);
            }
            Written::Record(record) => record::encode(record, micros, out),
            Written::Entry(entry) => entry.encode_on(first, micros, out),
        }
    }
}

/// How lines are moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// A mode is reached.
    Mode(String),
    /// A sequence is played.
    Play(String),
    /// The power is switched.
    Power(Switch),
}

impl Way {
    /// Its word, and what is meant.
    pub fn words(&self) -> (&'static str, &str) {
        match self {
            Way::Mode(name) => ("mode", name),
            Way::Play(name) => ("play", name),
            Way::Power(switch) => ("power", switch.word()),
        }
    }

    /// The same for people.
    pub(crate) fn text(&self) -> String {
        let (word, what) = self.words();
        format!("{word} {what}")
    }
}

/// What became of images that are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Whether all were found to be there.
    pub verified: bool,
    /// The console by which they came, and bytes of its channel up to the last that the loader said: what follows is said by what was
    /// brought, where the loader starts it. `None` where a tool has flashed, which does not tell.
    pub said: Option<(String, u64)>,
}

/// How a board is reset for a trial, where the bench says.
pub(crate) fn way(board: &Board) -> Option<Way> {
    let then = board.flash.as_ref().and_then(|how| how.then.clone());
    then.map(Way::Mode).or_else(|| board.sequences.contains_key("reset").then(|| Way::Play("reset".to_string())))
}

/// What is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Flashing,
    /// A moment is waited for, behind which the board is reset.
    Resetting,
    Testing,
    Over,
}

/// What was asked of the hands and is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    Flash,
    Reset(Way),
    Play(String),
    Send,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct Trying {
    setup: Setup,
    judge: Judge,
    /// What the judge has said and is not done.
    judged: Vec<judge::Output>,
    stage: Stage,
    now: Clock,
    /// Whether judging has begun.
    begun: bool,
    /// The console, and the bytes of its channel as its owner counts them, behind which it begins.
    begins: Option<(u8, u64)>,
    orders: VecDeque<Order>,
    /// What waits to be written, with the moment at which it was heard.
    held: VecDeque<(u64, u8, console::Entry)>,
    /// Bytes of each console in this log, by its number.
    offsets: Vec<u64>,
    /// Bytes of tools that each has in the log.
    of_tools: Vec<u64>,
    /// Since when each is gone, in nanoseconds.
    gone: Vec<Option<u64>>,
    /// Bytes that a tool has printed.
    of_printer: u64,
    /// Bytes of each console in this log that came before it began, where there are any.
    of_before: Vec<Option<u64>>,
    found: Option<Found>,
    /// Until when what is under way may go on, where it was given up.
    cancelled: Option<u64>,
    /// Whether a moment was asked for.
    asked: bool,
    next_tick: u64,
    /// Whether anything has come since the last one.
    came: bool,
    next_clock: u64,
    /// How long the machine has slept since it was started, in nanoseconds.
    slept: u64,
}

impl Trying {
    /// A trial that has not begun.
    ///
    /// # Errors
    /// What was expected, where the identity cannot be made with these values.
    pub fn new(setup: Setup) -> Result<Self, String> {
        let first = setup.board.consoles.first().map(|console| console.name.clone()).unwrap_or_default();
        let judge = Judge::new(setup.trial.clone(), &first, setup.values.clone())
            .map_err(|expected| format!("identity: expected {expected}"))?;
        let consoles = setup.board.consoles.len();
        Ok(Trying {
            judge,
            judged: Vec::new(),
            stage: Stage::New,
            now: Clock { monotonic_ns: setup.began_ns, boottime_ns: 0, realtime_ns: 0 },
            begun: false,
            begins: None,
            orders: VecDeque::new(),
            held: VecDeque::new(),
            offsets: vec![0; consoles],
            of_tools: vec![0; consoles],
            gone: vec![None; consoles],
            of_printer: 0,
            of_before: vec![None; consoles],
            found: None,
            cancelled: None,
            asked: false,
            next_tick: 0,
            came: false,
            next_clock: 0,
            slept: 0,
            setup,
        })
    }

    /// When `Tick` is wanted, CLOCK_MONOTONIC in nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        if matches!(self.stage, Stage::New | Stage::Over) {
            return None;
        }
        let held = self.held.front().map(|(heard, ..)| heard.saturating_add(HELD_NS));
        let tick = (self.begun && !self.asked && self.cancelled.is_none()).then_some(self.next_tick);
        held.into_iter().chain(tick).chain(self.cancelled).chain([self.next_clock]).min()
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Clock, input: Input, out: &mut Vec<Output>) {
        self.now = now;
        self.recount(&input);
        match (self.stage, input) {
            // What was under way at the end may still be answered.
            (Stage::Over, _) => return,
            (Stage::New, Input::Begin) => self.begin(out),
            (Stage::New, _) => out.push(Output::Bug("tried: it has not begun")),
            (_, Input::Begin) => out.push(Output::Bug("begin: it has begun already")),
            (_, Input::Had(console, _)) if usize::from(console) >= self.offsets.len() => {
                out.push(Output::Bug("had: the board has no such console"));
            }
            (_, Input::Had(console, entry)) if self.is_before(console, &entry) => {
                if let Some(rest) = self.had_before(console, entry, out) {
                    return self.handle(now, Input::Had(console, rest), out);
                }
            }
            (_, Input::Had(console, entry)) if self.holds() => {
                self.held.push_back((self.now.monotonic_ns, console, entry));
            }
            (_, Input::Had(console, entry)) => {
                self.release(0, out);
                self.had(console, entry, out);
            }
            (_, Input::Lines(ns, entry)) => {
                self.came = true;
                self.entry(ns, entry, out);
            }
            (_, Input::Moment(_)) if !self.asked => out.push(Output::Bug("moment: none was asked for")),
            (_, Input::Moment(ns)) => self.moment(ns, out),
            (_, Input::Replaced) => self.asked = false,
            (_, Input::Progress(progress)) => self.entry(self.now.monotonic_ns, Entry::Progress(progress), out),
            (_, Input::Printed(_) | Input::PrintedMore(_)) if !self.orders.contains(&Order::Flash) => {
                out.push(Output::Bug("printed: nothing is flashed"));
            }
            (_, Input::Printed(bytes)) => self.printed(bytes, out),
            (_, Input::PrintedMore(lost)) => self.printed_more(lost, out),
            (_, Input::Note(text)) => self.record(Record::Note(text), out),
            (_, Input::Flashed(flashed)) => match self.orders.pop_front() {
                Some(Order::Flash) => self.flashed(flashed, out),
                _ => out.push(Output::Bug("flashed: this was not asked for")),
            },
            (_, Input::Moved(moved)) => match self.orders.pop_front() {
                Some(Order::Reset(way)) => self.reset(way, moved, out),
                Some(Order::Play(name)) => match moved {
                    Ok(()) => self.mark_now(Mark { name: Some(name), ..plain(What::Play) }, out),
                    // The judge comes to it when its time is over, in a log that is read again too.
                    Err(why) => self.record(Record::Note(format!("play {name}: {why}")), out),
                },
                _ => out.push(Output::Bug("moved: this was not asked for")),
            },
            (_, Input::Sent(sent)) => match (self.orders.pop_front(), sent) {
                (Some(Order::Send), Ok(())) => {}
                (Some(Order::Send), Err(why)) => self.record(Record::Note(format!("what was to be sent: {why}")), out),
                _ => out.push(Output::Bug("sent: this was not asked for")),
            },
            (_, Input::Trouble(why)) => self.found = Some(Found::infra(why, self.step())),
            (_, Input::Cancel) => {
                if self.cancelled.is_none() {
                    self.cancelled = Some(self.now.monotonic_ns.saturating_add(CANCEL_NS));
                    if !self.orders.is_empty() {
                        out.push(Output::Stop);
                    }
                }
            }
            (_, Input::Tick) => {}
        }
        self.go_on(out);
    }

    /// Does what is due, whatever has happened.
    fn go_on(&mut self, out: &mut Vec<Output>) {
        let now = self.now.monotonic_ns;
        self.release(if self.holds() { HELD_NS } else { 0 }, out);
        if !matches!(self.stage, Stage::New | Stage::Over) && now >= self.next_clock {
            self.clocks(out);
        }
        self.obey(out);
        match (self.cancelled, self.found.take()) {
            (Some(until), found) => {
                if self.orders.is_empty() || found.is_some() || now >= until {
                    self.end(None, out);
                }
            }
            (None, Some(found)) => self.end(Some(found), out),
            (None, None) => {
                let wants = self.stage == Stage::Resetting || self.begins.is_some() || self.begun;
                if wants && !self.asked && (now >= self.next_tick || !self.begun) {
                    self.asked = true;
                    out.push(Output::AskMoment);
                }
            }
        }
    }

    fn begin(&mut self, out: &mut Vec<Output>) {
        self.slept = self.now.boottime_ns.saturating_sub(self.now.monotonic_ns);
        let consoles = self.setup.board.consoles.iter().map(|console| format!("serial:{}", console.name));
        let mut names: Vec<(u8, String)> = (0..).zip(consoles).collect();
        let lines = self.setup.board.read().map(|line| (self.setup.board.channel(&line.name), line));
        names.extend(lines.filter_map(|(channel, line)| Some((channel?, format!("line:{}", line.name)))));
        let tool = self.setup.board.flash.as_ref().is_some_and(|how| matches!(how.with, Flasher::Tool { .. }));
        if tool && !self.setup.images.is_empty() {
            names.push((self.setup.board.tool_channel(), "tool".to_string()));
        }
        let micros = self.micros(self.setup.began_ns);
        for (channel, name) in names {
            self.judge.handle(micros, judge::Input::Channel(channel, &name), &mut self.judged);
            self.record(Record::Channel(channel, ChannelStart { name }), out);
        }
        let lines = self.setup.board.by_register().join(", ");
        if !lines.is_empty() {
            let text = format!("set by register, which keeps no other program from moving them: {lines}");
            self.record(Record::Note(text), out);
        }
        let polled = self.setup.board.polled().map(|(name, every)| format!("{name} every {every} ms"));
        let polled = polled.collect::<Vec<_>>().join(", ");
        if !polled.is_empty() {
            let text = format!("looked at, which sees no edges between two looks: {polled}");
            self.record(Record::Note(text), out);
        }
        if self.setup.unseen {
            let text = "edges of its lines may be lost unseen: the kernel does not count them";
            self.record(Record::Note(text.to_string()), out);
        }
        self.clocks(out);
        if self.setup.images.is_empty() {
            self.stage = Stage::Resetting;
            return self.begin_step("test".to_string(), out);
        }
        self.stage = Stage::Flashing;
        let names = self.setup.images.iter().map(|(image, target)| format!("{image} to {target}"));
        let text = format!("flash {}", names.collect::<Vec<_>>().join(", "));
        self.begin_step(text, out);
        self.orders.push_back(Order::Flash);
        out.push(Output::Flash);
    }

    /// The end of it, with a verdict unless it was given up.
    fn end(&mut self, found: Option<Found>, out: &mut Vec<Output>) {
        let status = i32::from(found.as_ref().is_none_or(|found| found.fault != Fault::Nobody));
        if self.orders.contains(&Order::Flash) {
            if self.cancelled.is_none() {
                out.push(Output::Stop);
            }
            self.gave_up_flashing(out);
        }
        self.release(0, out);
        self.clocks(out);
        self.record(Record::StepEnd(StepEnd { step: self.step(), status }), out);
        // What the judge says to this comes too late, in a log that is read again too.
        self.judged.clear();
        self.stage = Stage::Over;
        out.push(Output::End(found));
    }

    fn gave_up_flashing(&mut self, out: &mut Vec<Output>) {
        let text = "flashing was broken off: nobody knows what is on the board, nor in which mode it is";
        self.record(Record::Note(text.to_string()), out);
    }

    fn step(&self) -> u32 {
        self.setup.first_step.saturating_add(u32::from(self.stage != Stage::Flashing))
    }

    fn begin_step(&mut self, text: String, out: &mut Vec<Output>) {
        self.record(Record::StepStart(StepStart { step: self.step(), text }), out);
    }

    fn micros(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.setup.began_ns) / 1000
    }

    fn record(&self, record: Record, out: &mut Vec<Output>) {
        out.push(Output::Write(self.micros(self.now.monotonic_ns), Written::Record(record)));
    }

    /// Writes what is on the axis, and has it judged.
    fn entry(&mut self, ns: u64, entry: Entry, out: &mut Vec<Output>) {
        let micros = self.micros(ns);
        self.judge.handle(micros, judge::Input::Entry(&entry), &mut self.judged);
        out.push(Output::Write(micros, Written::Entry(entry)));
    }

    /// Does what the judge has asked for.
    fn obey(&mut self, out: &mut Vec<Output>) {
        for output in core::mem::take(&mut self.judged) {
            match output {
                judge::Output::Case(case) => {
                    let micros = self.micros(self.now.monotonic_ns);
                    out.push(Output::Write(micros, Written::Entry(Entry::Case(case))));
                }
                judge::Output::Note(text) => self.record(Record::Note(text), out),
                // It is given up: nothing more is done to the board.
                _ if self.cancelled.is_some() => {}
                judge::Output::Send { console, bytes } => {
                    self.orders.push_back(Order::Send);
                    out.push(Output::Send { console, bytes });
                }
                judge::Output::Play(name) => {
                    self.orders.push_back(Order::Play(name.clone()));
                    out.push(Output::Move(Way::Play(name)));
                }
                judge::Output::Verdict(judgement) => self.found = Some(Found::judged(judgement, self.step())),
                // What is sent is what it asked for, since nobody else writes as the judge.
                judge::Output::Unknowable(cause) => self.found = Some(Found::infra(cause, self.step())),
            }
        }
    }

    /// Tells the clocks, and whether the machine has slept.
    fn clocks(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        self.next_clock = now.monotonic_ns.saturating_add(CLOCKS_NS);
        self.entry(now.monotonic_ns, Entry::Clock(now), out);
        let slept = now.boottime_ns.saturating_sub(now.monotonic_ns);
        if slept > self.slept.saturating_add(SLEPT_NS) {
            let text = Some(format!("{} ms", (slept - self.slept) / 1_000_000));
            self.mark_now(Mark { text, ..plain(What::Suspend) }, out);
        }
        self.slept = slept;
    }

    fn mark_now(&mut self, mark: Mark, out: &mut Vec<Output>) {
        self.mark(self.now.monotonic_ns, mark, out);
    }

    fn mark(&mut self, ns: u64, mark: Mark, out: &mut Vec<Output>) {
        let names = self.setup.board.consoles.iter().map(|console| console.name.clone());
        let offsets = Some(Map::from_iter(names.zip(self.offsets.iter().copied())));
        self.entry(ns, Entry::Mark(Mark { offsets, ..mark }), out);
    }

    /// Whether what is heard waits.
    fn holds(&self) -> bool {
        self.stage == Stage::Flashing && !matches!(way(&self.setup.board), Some(Way::Mode(_)))
    }

    /// Writes what has waited for so many nanoseconds.
    fn release(&mut self, late: u64, out: &mut Vec<Output>) {
        let now = self.now.monotonic_ns;
        while let Some((heard, console, entry)) = self.held.pop_front() {
            if heard.saturating_add(late) > now {
                self.held.push_front((heard, console, entry));
                return;
            }
            self.had(console, entry, out);
        }
    }

    /// The owner has given all that came up to a moment.
    fn moment(&mut self, ns: u64, out: &mut Vec<Output>) {
        self.asked = false;
        if self.cancelled.is_some() {
            // Nothing is judged any more.
            return;
        }
        if self.stage == Stage::Resetting {
            match way(&self.setup.board) {
                Some(way) => {
                    self.judge_from(ns, Some(way.words().1.to_string()), out);
                    self.orders.push_back(Order::Reset(way.clone()));
                    out.push(Output::Move(way));
                }
                None => {
                    let why = "the bench has no way to reset the board".to_string();
                    self.found = Some(Found::infra(why, self.step()));
                }
            }
            return;
        }
        if self.begins.take().is_some() {
            self.judge_from(ns, None, out);
        }
        // Edges that were stamped before are here by now.
        let late = if self.setup.board.read().next().is_none() { 0 } else { EDGES_LATE_NS };
        let up_to = self.micros(ns.saturating_sub(late));
        self.entry(ns, Entry::Tick(up_to), out);
        let began = self.setup.began_ns;
        let at = |micros: u64| began.saturating_add(micros.saturating_mul(1000)).saturating_add(late);
        let deadline = self.judge.deadline().map_or(u64::MAX, at);
        let pause = if core::mem::take(&mut self.came) { TICK_NS } else { IDLE_NS };
        self.next_tick = deadline.clamp(ns.saturating_add(TICK_NS / 10), ns.saturating_add(pause));
    }

    /// The board is judged by what comes from here on.
    fn judge_from(&mut self, ns: u64, name: Option<String>, out: &mut Vec<Output>) {
        self.begun = true;
        self.stage = Stage::Testing;
        self.next_tick = ns.saturating_add(TICK_NS);
        self.mark(ns, Mark { name, judged: Some(true), ..plain(What::Reset) }, out);
    }

    fn reset(&mut self, way: Way, moved: Result<(), String>, out: &mut Vec<Output>) {
        if let Err(why) = moved {
            self.found = Some(Found::infra(format!("{}: {why}", way.text()), self.step()));
            return;
        }
        let what = match way {
            Way::Mode(_) => What::Mode,
            Way::Play(_) => What::Reset,
            Way::Power(_) => What::Power,
        };
        self.mark_now(Mark { name: Some(way.words().1.to_string()), ..plain(what) }, out);
    }

    /// A console had something.
    fn had(&mut self, console: u8, entry: console::Entry, out: &mut Vec<Output>) {
        let ns = entry.ns();
        if !self.came {
            // What is said now and ends no line is looked at soon.
            self.came = true;
            self.next_tick = self.next_tick.min(self.now.monotonic_ns.saturating_add(TICK_NS));
        }
        let index = usize::from(console);
        let name = self.setup.board.consoles.get(index).map(|console| console.name.clone());
        let end = entry.end();
        let away_ms = self.gone.get_mut(index).and_then(|gone| console::away_ms(gone, &entry));
        match entry {
            console::Entry::Came(Piece::Bytes { offset, bytes, .. }) => match self.begins {
                Some((of, begins)) if of == console && begins < end => {
                    let (before, after) = bytes.split_at(begins.saturating_sub(offset) as usize);
                    self.data(ns, console, before, out);
                    self.begins = None;
                    self.judge_from(ns, None, out);
                    self.data(ns, console, after, out);
                }
                _ => self.data(ns, console, &bytes, out),
            },
            console::Entry::Came(Piece::Lost { lost, why, .. }) => match why {
                Why::Frame | Why::Parity | Why::Break => {
                    let many = lost.map_or("bytes".to_string(), |lost| format!("{lost} times"));
                    let text = Some(format!("{many}, {}", why.word()));
                    self.mark(ns, Mark { name, text, ..plain(What::Noise) }, out);
                }
                Why::Full | Why::Overrun | Why::Away | Why::Died => {
                    let lost = lost.filter(|_| why == Why::Full);
                    let offset = self.offsets.get(index).copied().unwrap_or(0);
                    let loss = Loss { offset, lost, why: why.word().to_string() };
                    self.entry(ns, Entry::Loss(console, loss), out);
                    self.count(index, lost.unwrap_or(0));
                }
            },
            console::Entry::Came(Piece::Unplugged { .. }) => {
                self.mark(ns, Mark { name, ..plain(What::Unplugged) }, out);
            }
            console::Entry::Came(Piece::Back { tty, .. }) => {
                let text = Some(console::back(&tty, away_ms));
                self.mark(ns, Mark { name, text, away_ms, ..plain(What::Back) }, out);
            }
            console::Entry::Sent { writer, length, bytes, .. } => {
                let sent = match bytes {
                    Some(bytes) if writer != "tool" || self.keeps(index, length) => Sent::of(&writer, &bytes),
                    _ => Sent { writer, length, bytes: None },
                };
                self.entry(ns, Entry::Sent(console, sent), out);
            }
        }
    }

    /// Whether bytes of a tool are still kept.
    fn keeps(&mut self, console: usize, length: u64) -> bool {
        self.of_tools.get_mut(console).is_some_and(|kept| {
            *kept = kept.saturating_add(length);
            *kept <= TOOL_BYTES
        })
    }

    fn count(&mut self, console: usize, bytes: u64) {
        if let Some(offset) = self.offsets.get_mut(console) {
            *offset = offset.saturating_add(bytes);
        }
    }

    fn data(&mut self, ns: u64, console: u8, bytes: &[u8], out: &mut Vec<Output>) {
        let micros = self.micros(ns);
        for piece in bytes.chunks(RECORD_BYTES) {
            self.judge.handle(micros, judge::Input::Bytes(console, piece), &mut self.judged);
            out.push(Output::Write(micros, Written::Record(Record::Data(console, piece.to_vec()))));
            self.count(usize::from(console), piece.len() as u64);
        }
    }

    fn flashed(&mut self, flashed: Result<Delivered, Failure>, out: &mut Vec<Output>) {
        let delivered = match flashed {
            Ok(delivered) => delivered,
            Err(_) if self.cancelled.is_some() => return self.gave_up_flashing(out),
            Err(failure) => {
                self.found = Some(Found::flashed(failure, self.step()));
                return;
            }
        };
        if !delivered.verified {
            self.record(Record::Note("what is on the board was not verified".to_string()), out);
        }
        if self.cancelled.is_some() {
            // It came too late for what was under way, and the step ends with the trial.
            return;
        }
        self.record(Record::StepEnd(StepEnd { step: self.step(), status: 0 }), out);
        self.stage = Stage::Testing;
        self.begin_step("test".to_string(), out);
        let number = |name: &str| self.setup.board.consoles.iter().position(|console| console.name == name);
        let said = delivered.said.and_then(|(console, offset)| Some((number(&console)? as u8, offset)));
        match (way(&self.setup.board), said) {
            (Some(Way::Mode(_)), _) | (Some(_), None) => self.stage = Stage::Resetting,
            // Its loader has started it, and it may have said something since, which waits.
            (_, Some(said)) => self.begins = Some(said),
            (None, None) => {
                self.release(0, out);
                self.judge_from(self.now.monotonic_ns, None, out);
            }
        }
    }
}

fn plain(what: What) -> Mark {
    Mark { what, name: None, text: None, offsets: None, judged: None, away_ms: None }
}
