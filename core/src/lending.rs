//! What a board's owner, hands and lines say while a build's step has the board, and what that step asks → the records of one log, what is
//! flashed, moved, sent and answered, and the verdict.
//!
//! Nothing is judged here: the step's command does that, and its exit status is how the session ends. Whoever has the board is gone when
//! its connection is, and from then on nothing more is begun.

use crate::axis::{Clock, Entry, Loss, Mark, Progress, Sent, What};
use crate::bench::{Board, Flasher};
use crate::console::{self, Piece, Why};
use crate::job::{Blame, Fault, Outcome, Verdict};
use crate::limits::RECORD_BYTES;
use crate::ordered::{Map, Set};
use crate::pattern::{Pattern, View};
use crate::record::{ChannelStart, Record, StepEnd, StepStart};
use crate::trying::{Delivered, Failure, Way, Whose, Written, way};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of a console in which a pattern is looked for: what came since the last one that was found, and of more the last.
pub const WINDOW_BYTES: usize = 16 * 1024;
/// Nanoseconds between two records of the clocks.
const CLOCKS_NS: u64 = 60_000_000_000;
/// Nanoseconds within which what is under way ends when the board is given back: a tool is killed whole in these.
const END_NS: u64 = 30_000_000_000;
/// Bytes of a tool that are kept in a log for each console; of what it sends beyond, the length is.
const TOOL_BYTES: u64 = 64 * 1024;
/// What the step's own bytes are called in the log.
pub const WRITER: &str = "step";
/// Whose fault it is that a flash was broken off: the board was given back, or taken away.
const BROKEN_OFF: &str = "lease";

/// A word of the command, by a number of its connection.
pub type Asker = u64;

/// What a word asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Images get onto the board, which is left as after any flash: these, to these places.
    Flash(Vec<(String, String)>),
    /// The same with images that are still to be got; and whether a board will do that does not tell what is on it.
    Get(Vec<(String, String)>, bool),
    /// Lines are moved.
    Move(Way),
    /// Bytes go to a console, the first one where none is named.
    Send(Option<String>, Vec<u8>),
    /// A pattern is to be found in what a console says, within so many milliseconds.
    Expect(Option<String>, Pattern, u64),
    /// All that a console says from now on is wanted.
    Listen(Option<String>),
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody has come for the board.
    Begin,
    /// A console, by its number, had something.
    Had(u8, console::Entry),
    /// A line had something at this moment, in nanoseconds.
    Lines(u64, Entry),
    /// The owner was replaced.
    Replaced,
    /// After `Get`: the images are there, or why they are not.
    Got(Result<(), String>),
    /// After `Flash`: how far it is.
    Progress(Progress),
    /// Something that people should know of.
    Note(String),
    /// After `Flash`: a tool has printed this.
    Printed(Vec<u8>),
    /// After `Flash`: it has printed so many bytes more than are kept.
    PrintedMore(u64),
    /// After `Flash`: the images are there, or why they are not.
    Flashed(Result<Delivered, Failure>),
    /// After `Move`: lines were moved, or why they were not.
    Moved(Result<(), String>),
    /// After `Send`: the bytes went out, or why they did not.
    Sent(Result<(), String>),
    /// A word of the command asks for something.
    Asked(Asker, Word),
    /// That word is gone.
    Left(Asker),
    /// The command has written this to the tty of a console, by its number.
    Typed(u8, Vec<u8>),
    /// The command has ended with this status.
    Ended(i32),
    /// Whoever has the board is gone without a word.
    Gone,
    /// Something of ours keeps it from going on.
    Trouble(String),
    /// It is to end, which is no verdict.
    Cancel,
    /// The time told by `deadline` has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// This is written to the log, so many microseconds after it began.
    Write(u64, Written),
    /// The images that this word names are to be got: `Got` follows.
    Get(Asker),
    /// The images that this word has brought get onto the board: `Flashed` follows.
    Flash(Asker),
    /// Lines are moved: `Moved` follows.
    Move(Way),
    /// Bytes go to a console: `Sent` follows.
    Send(String, Vec<u8>),
    /// The tty of a console, by its number, has this.
    Give(u8, Vec<u8>),
    /// A word that listens has this.
    Had(Asker, Vec<u8>),
    /// A word is told this, for people.
    Tell(Asker, String),
    /// A flash had begun when it failed, and whose fault that is, in a word: `Done` follows.
    Blame(Asker, &'static str),
    /// A word has come to its end: with what it found, or why not.
    Done(Asker, Result<Vec<u8>, String>),
    /// What is under way is broken off, and what waits behind it is not begun: each is still answered.
    Stop,
    /// It is over; without a verdict where it was told to end. Nothing follows.
    End(Option<Verdict>),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

#[derive(Clone, Debug, Default)]
struct Heard {
    name: String,
    /// What came last, and bytes of the channel up to its end as the owner counts them.
    window: Vec<u8>,
    end: u64,
    /// Bytes of it in this log, and of those that a tool has sent.
    count: u64,
    of_tools: u64,
    /// Since when its tty is gone, in nanoseconds.
    gone: Option<u64>,
    listeners: Set<Asker>,
}

/// What was asked of the hands and is not answered.
#[derive(Clone, Debug)]
enum Order {
    /// Its images are not there yet; and whether they need not be found on the board.
    Get(Asker, bool),
    Flash(Asker, bool),
    /// The way that follows a flash.
    Then(Asker, Way),
    Move(Asker, Way),
    Send(Asker),
    Typed(u8),
}

#[derive(Clone, Debug)]
struct Expected {
    asker: Asker,
    console: usize,
    pattern: Pattern,
    until: u64,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct Lending {
    board: Board,
    began_ns: u64,
    /// Whether it is a person who has it, of whose bytes the log has the length alone: there are passwords among them.
    person: bool,
    now: Clock,
    begun: bool,
    consoles: Vec<Heard>,
    orders: VecDeque<Order>,
    expected: Vec<Expected>,
    printed: u64,
    next_clock: u64,
    slept: u64,
    /// How it ends, and until when what is under way may go on.
    ending: Option<(Option<Verdict>, u64)>,
    over: bool,
}

impl Lending {
    /// A board that nobody has come for, in a log that began at this moment of CLOCK_MONOTONIC, in nanoseconds.
    pub fn new(board: Board, began_ns: u64) -> Self {
        let consoles = board.consoles.iter().map(|one| Heard { name: one.name.clone(), ..Heard::default() });
        Self {
            consoles: consoles.collect(),
            board,
            began_ns,
            person: false,
            now: Clock { monotonic_ns: began_ns, boottime_ns: 0, realtime_ns: 0 },
            begun: false,
            orders: VecDeque::new(),
            expected: Vec::new(),
            printed: 0,
            next_clock: 0,
            slept: 0,
            ending: None,
            over: false,
        }
    }

    /// The same, for a person.
    #[must_use]
    pub fn to_a_person(self) -> Self {
        Self { person: true, ..self }
    }

    /// When `Tick` is wanted, CLOCK_MONOTONIC in nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        if self.over || !self.begun {
            return None;
        }
        let expected = self.expected.iter().map(|one| one.until).min();
        let ending = self.ending.as_ref().map(|(_, until)| *until);
        [expected, ending, Some(self.next_clock)].into_iter().flatten().min()
    }

    /// Whether more may be taken of what the command writes to a console's tty: what it wrote before has gone out.
    pub fn takes_typed(&self, console: u8) -> bool {
        let waits = |order: &Order| matches!(order, Order::Typed(other) if *other == console);
        self.ending.is_none() && !self.orders.iter().any(waits)
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Clock, input: Input, out: &mut Vec<Output>) {
        self.now = now;
        // What was under way at the end may still be answered.
        if self.over {
            return;
        }
        match input {
            Input::Begin if !self.begun => self.begin(out),
            Input::Begin => out.push(Output::Bug("begin: it has begun already")),
            _ if !self.begun => out.push(Output::Bug("lent: it has not begun")),
            Input::Had(console, entry) => self.had(usize::from(console), entry, out),
            Input::Lines(ns, entry) => self.entry(ns, entry, out),
            // Who writes to the new one is nobody yet, and what was under way there is not known.
            Input::Replaced => self.fails("the board's owner was replaced".to_string(), out),
            Input::Progress(progress) => {
                let text = format!("{} {} of {}", progress.phase, progress.done, progress.of);
                if let Some(Order::Flash(asker, _)) = self.orders.front() {
                    out.push(Output::Tell(*asker, text));
                }
                self.entry(self.now.monotonic_ns, Entry::Progress(progress), out);
            }
            Input::Note(text) => self.note(text, out),
            Input::Printed(bytes) => self.printed(bytes, out),
            Input::PrintedMore(lost) => {
                let loss = Loss { offset: self.printed, lost: Some(lost), why: Why::Full.word().to_string() };
                self.printed = self.printed.saturating_add(lost);
                self.entry(self.now.monotonic_ns, Entry::Loss(self.board.tool_channel(), loss), out);
            }
            Input::Asked(asker, _) if self.ending.is_some() => {
                out.push(Output::Done(asker, Err("the board is being given back".to_string())));
            }
            Input::Asked(asker, word) => {
                if let Err(why) = self.asked(asker, word, out) {
                    out.push(Output::Done(asker, Err(why)));
                }
            }
            Input::Left(asker) => {
                self.expected.retain(|one| one.asker != asker);
                self.consoles.iter_mut().for_each(|console| _ = console.listeners.remove(&asker));
            }
            Input::Typed(console, bytes) => match self.consoles.get(usize::from(console)) {
                Some(heard) if self.ending.is_none() => {
                    out.push(Output::Send(heard.name.clone(), bytes));
                    self.orders.push_back(Order::Typed(console));
                }
                _ => {}
            },
            Input::Got(got) => self.got(got, out),
            Input::Flashed(flashed) => self.flashed(flashed, out),
            Input::Moved(moved) => self.moved(moved, out),
            Input::Sent(sent) => match self.orders.pop_front() {
                Some(Order::Send(asker)) => out.push(Output::Done(asker, sent.map(|()| Vec::new()))),
                Some(Order::Typed(_)) => {
                    if let Err(why) = sent {
                        self.note(format!("what was written to its tty: {why}"), out);
                    }
                }
                _ => out.push(Output::Bug("sent: this was not asked for")),
            },
            Input::Ended(status) => {
                let cause = if status == 0 { String::new() } else { format!("the command ended with status {status}") };
                let (outcome, fault) = match status {
                    0 => (Outcome::Passed, Fault::Nobody),
                    _ => (Outcome::Failed, Fault::Job),
                };
                self.ends(Some(Verdict { status: Some(status), ..verdict(outcome, fault, cause) }), out);
            }
            Input::Gone => {
                let cause = "the step that had the board is gone".to_string();
                self.ends(Some(verdict(Outcome::Cancelled, Fault::Person, cause)), out);
            }
            Input::Trouble(why) => self.fails(why, out),
            Input::Cancel => self.ends(None, out),
            Input::Tick => {}
        }
        self.go_on(out);
    }

    /// Does what is due, whatever has happened.
    fn go_on(&mut self, out: &mut Vec<Output>) {
        let now = self.now.monotonic_ns;
        if !self.begun {
            return;
        }
        if now >= self.next_clock {
            self.clocks(out);
        }
        let due: Vec<Expected> = self.expected.iter().filter(|one| one.until <= now).cloned().collect();
        self.expected.retain(|one| one.until > now);
        for one in due {
            let why = format!("{:?} did not come in time", one.pattern.text());
            self.note(format!("expect {why}"), out);
            out.push(Output::Done(one.asker, Err(why)));
        }
        if let Some((verdict, until)) = self.ending.take() {
            if self.orders.is_empty() || now >= until {
                self.end(verdict, out);
            } else {
                self.ending = Some((verdict, until));
            }
        }
    }

    fn begin(&mut self, out: &mut Vec<Output>) {
        self.begun = true;
        self.slept = self.now.boottime_ns.saturating_sub(self.now.monotonic_ns);
        let consoles = self.consoles.iter().map(|console| format!("serial:{}", console.name));
        let mut names: Vec<(u8, String)> = (0..).zip(consoles).collect();
        let lines = self.board.read().filter_map(|line| Some((self.board.channel(&line.name)?, &line.name)));
        names.extend(lines.map(|(channel, name)| (channel, format!("line:{name}"))));
        if self.board.flash.as_ref().is_some_and(|how| matches!(how.with, Flasher::Tool { .. })) {
            names.push((self.board.tool_channel(), "tool".to_string()));
        }
        for (channel, name) in names {
            self.record(Record::Channel(channel, ChannelStart { name }), out);
        }
        self.clocks(out);
        let text = format!("session at {}", self.board.name);
        self.record(Record::StepStart(StepStart { step: 0, text }), out);
    }

    /// Something of ours, or of the board, keeps it from going on.
    fn fails(&mut self, why: String, out: &mut Vec<Output>) {
        let trouble = Blame::Platform.word();
        self.ends(Some(Verdict { trouble, ..verdict(Outcome::Infra, Fault::Infrastructure, why) }), out);
    }

    /// Begins the end. The first reason stays.
    fn ends(&mut self, verdict: Option<Verdict>, out: &mut Vec<Output>) {
        if self.ending.is_some() {
            return;
        }
        self.ending = Some((verdict, self.now.monotonic_ns.saturating_add(END_NS)));
        if !self.orders.is_empty() {
            out.push(Output::Stop);
        }
        self.gave_up_getting("the board is being given back".to_string(), out);
        for one in core::mem::take(&mut self.expected) {
            out.push(Output::Done(one.asker, Err("the board is being given back".to_string())));
        }
    }

    fn end(&mut self, verdict: Option<Verdict>, out: &mut Vec<Output>) {
        // What was not answered in time is by now.
        for order in core::mem::take(&mut self.orders) {
            if let Order::Flash(asker, _) = order {
                self.gave_up_flashing(asker, out);
            }
        }
        self.clocks(out);
        let passed = verdict.as_ref().is_some_and(|verdict| verdict.outcome == Outcome::Passed);
        let status = verdict.as_ref().and_then(|verdict| verdict.status).unwrap_or(i32::from(!passed));
        self.record(Record::StepEnd(StepEnd { step: 0, status }), out);
        self.over = true;
        out.push(Output::End(verdict));
    }

    fn gave_up_flashing(&mut self, asker: Asker, out: &mut Vec<Output>) {
        let why = "flashing was broken off: nobody knows what is on the board, nor in which mode it is".to_string();
        self.note(why.clone(), out);
        out.extend([Output::Blame(asker, BROKEN_OFF), Output::Done(asker, Err(why))]);
    }

    /// Whether a board is being flashed, and what a person would do there meanwhile has no place.
    fn is_flashed(&self, word: &Word) -> bool {
        let flashes = |order: &Order| matches!(order, Order::Get(..) | Order::Flash(..) | Order::Then(..));
        let touches = !matches!(word, Word::Expect(..) | Word::Listen(_));
        self.person && touches && self.orders.iter().any(flashes)
    }

    fn console(&self, name: Option<&String>) -> Result<usize, String> {
        let place = match name {
            None => Some(0).filter(|_| !self.consoles.is_empty()),
            Some(name) => self.consoles.iter().position(|console| console.name == *name),
        };
        let names = || self.consoles.iter().map(|console| console.name.as_str()).collect::<Vec<_>>().join(", ");
        place.ok_or_else(|| format!("board {} has the consoles {}", self.board.name, names()))
    }

    fn asked(&mut self, asker: Asker, word: Word, out: &mut Vec<Output>) -> Result<(), String> {
        if self.is_flashed(&word) {
            return Err("the board is being flashed: this was not done".to_string());
        }
        let name = &self.board.name;
        match word {
            Word::Flash(images) => {
                self.may_flash(&images, true)?;
                self.tell_images(&images, out);
                self.orders.push_back(Order::Flash(asker, true));
                out.push(Output::Flash(asker));
            }
            Word::Get(images, unverified) => {
                self.may_flash(&images, unverified)?;
                self.tell_images(&images, out);
                self.orders.push_back(Order::Get(asker, unverified));
                out.push(Output::Get(asker));
            }
            Word::Move(Way::Play(play)) if self.board.play(&play).is_none() => {
                return Err(self.board.lacks_sequence(&play));
            }
            Word::Move(Way::Mode(mode)) if !self.board.modes.contains_key(&mode) => {
                return Err(self.board.lacks_mode(&mode));
            }
            Word::Move(Way::Power(_)) if self.board.power.is_none() => {
                return Err(format!("board {name} has no \"power\" in its bench"));
            }
            Word::Move(way) => {
                self.orders.push_back(Order::Move(asker, way.clone()));
                out.push(Output::Move(way));
            }
            Word::Send(console, bytes) => {
                let place = self.console(console.as_ref())?;
                let name = self.consoles.get(place).map(|console| console.name.clone()).unwrap_or_default();
                self.orders.push_back(Order::Send(asker));
                out.push(Output::Send(name, bytes));
            }
            Word::Expect(console, pattern, ms) => {
                let console = self.console(console.as_ref())?;
                let until = self.now.monotonic_ns.saturating_add(ms.saturating_mul(1_000_000));
                self.expected.push(Expected { asker, console, pattern, until });
                self.look(console, out);
            }
            Word::Listen(console) => {
                let place = self.console(console.as_ref())?;
                if let Some(console) = self.consoles.get_mut(place) {
                    console.listeners.insert(asker);
                }
            }
        }
        Ok(())
    }

    /// Whether images can get onto this board at these places.
    fn may_flash(&self, images: &[(String, String)], unverified: bool) -> Result<(), String> {
        let name = &self.board.name;
        let how = self.board.flash.as_ref().ok_or_else(|| format!("board {name} has no \"flash\" in its bench"))?;
        if let Some((target, _)) = images.iter().find(|(target, _)| how.target(target).is_none()) {
            return Err(format!("board {name} has no target {target:?}"));
        }
        match unverified || how.with.verifies() {
            true => Ok(()),
            false => Err(format!("board {name} does not tell whether an image is there: --unverified allows that")),
        }
    }

    fn tell_images(&self, images: &[(String, String)], out: &mut Vec<Output>) {
        let told: Vec<String> = images.iter().map(|(target, image)| format!("{image} to {target}")).collect();
        self.note(format!("flash {}", told.join(", ")), out);
    }

    /// The images of a person are there, or are not, and the board is as it was.
    fn got(&mut self, got: Result<(), String>, out: &mut Vec<Output>) {
        // The hands may still do what was asked of them before.
        let place = self.orders.iter().position(|order| matches!(order, Order::Get(..)));
        let order = place.and_then(|place| self.orders.get_mut(place));
        match (order, got) {
            (Some(order), Ok(())) => {
                if let Order::Get(asker, unverified) = *order {
                    *order = Order::Flash(asker, unverified);
                    out.push(Output::Flash(asker));
                }
            }
            (_, Err(why)) => self.gave_up_getting(why, out),
            // The board is being given back, and nobody waits for them.
            (None, Ok(())) => {}
        }
    }

    /// Images are not got any more, if any were.
    fn gave_up_getting(&mut self, why: String, out: &mut Vec<Output>) {
        let place = self.orders.iter().position(|order| matches!(order, Order::Get(..)));
        if let Some(Order::Get(asker, _)) = place.and_then(|place| self.orders.remove(place)) {
            self.note(format!("flash: {why}"), out);
            out.push(Output::Done(asker, Err(why)));
        }
    }

    /// Looks for what is expected of a console, in the order in which it was asked for; what was found is looked at no more.
    fn look(&mut self, console: usize, out: &mut Vec<Output>) {
        while let Some(place) = self.expected.iter().position(|one| one.console == console) {
            let (Some(heard), Some(one)) = (self.consoles.get_mut(console), self.expected.get(place)) else {
                return out.push(Output::Bug("look: the board has no such console"));
            };
            // It has not come yet.
            let Some(found) = one.pattern.find(&View::of(&heard.window), 0) else { return };
            let matched = heard.window.get(found.start..found.end).unwrap_or_default().to_vec();
            heard.window.drain(..found.end.min(heard.window.len()));
            out.push(Output::Done(one.asker, Ok(matched)));
            self.expected.remove(place);
        }
    }

    /// What consoles said before proves nothing of what comes now.
    fn forget(&mut self) {
        self.consoles.iter_mut().for_each(|console| console.window.clear());
    }

    fn flashed(&mut self, flashed: Result<Delivered, Failure>, out: &mut Vec<Output>) {
        let Some(Order::Flash(asker, unverified)) = self.orders.pop_front() else {
            return out.push(Output::Bug("flashed: this was not asked for"));
        };
        let delivered = match flashed {
            Ok(delivered) if delivered.verified || unverified => delivered,
            Err(_) if self.ending.is_some() => return self.gave_up_flashing(asker, out),
            failed => {
                // What is too long is told before anything is erased.
                let unverified = || Failure::new(Whose::Tool, "what is on the board was not verified");
                let failure = failed.err().unwrap_or_else(unverified);
                self.note(format!("flash: {} ({})", failure.text, failure.whose.word()), out);
                if failure.whose != Whose::Image {
                    out.push(Output::Blame(asker, failure.whose.word()));
                }
                return out.push(Output::Done(asker, Err(failure.text)));
            }
        };
        if !delivered.verified {
            let text = "what is on the board was not verified".to_string();
            out.push(Output::Tell(asker, text.clone()));
            self.note(text, out);
        }
        match (way(&self.board), delivered.said) {
            (Some(way @ Way::Mode(_)), _) | (Some(way), None) if self.ending.is_none() => {
                self.forget();
                self.orders.push_back(Order::Then(asker, way.clone()));
                out.push(Output::Move(way));
            }
            // Its loader has started it, and it may have said something since.
            (_, said) => {
                for console in &mut self.consoles {
                    let kept = match &said {
                        Some((name, offset)) if *name == console.name => console.end.saturating_sub(*offset),
                        _ => 0,
                    };
                    let gone = console.window.len().saturating_sub(kept as usize);
                    console.window.drain(..gone);
                }
                self.mark(self.now.monotonic_ns, plain(What::Reset), out);
                out.push(Output::Done(asker, Ok(Vec::new())));
            }
        }
    }

    fn moved(&mut self, moved: Result<(), String>, out: &mut Vec<Output>) {
        let (asker, way) = match self.orders.pop_front() {
            Some(Order::Then(asker, way) | Order::Move(asker, way)) => (asker, way),
            _ => return out.push(Output::Bug("moved: this was not asked for")),
        };
        let what = match way {
            Way::Mode(_) => What::Mode,
            Way::Play(_) => What::Play,
            Way::Power(_) => What::Power,
        };
        let name = way.words().1.to_string();
        match moved {
            Ok(()) => {
                self.mark(self.now.monotonic_ns, Mark { name: Some(name), ..plain(what) }, out);
                out.push(Output::Done(asker, Ok(Vec::new())));
            }
            Err(why) => {
                self.note(format!("{name}: {why}"), out);
                out.push(Output::Done(asker, Err(why)));
            }
        }
    }

    fn micros(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.began_ns) / 1000
    }

    fn record(&self, record: Record, out: &mut Vec<Output>) {
        out.push(Output::Write(self.micros(self.now.monotonic_ns), Written::Record(record)));
    }

    fn note(&self, text: String, out: &mut Vec<Output>) {
        self.record(Record::Note(text), out);
    }

    fn entry(&self, ns: u64, entry: Entry, out: &mut Vec<Output>) {
        out.push(Output::Write(self.micros(ns), Written::Entry(entry)));
    }

    fn mark(&self, ns: u64, mark: Mark, out: &mut Vec<Output>) {
        let offsets = self.consoles.iter().map(|console| (console.name.clone(), console.count));
        self.entry(ns, Entry::Mark(Mark { offsets: Some(Map::from_iter(offsets)), ..mark }), out);
    }

    /// Tells the clocks, and whether the machine has slept.
    fn clocks(&mut self, out: &mut Vec<Output>) {
        let now = self.now;
        self.next_clock = now.monotonic_ns.saturating_add(CLOCKS_NS);
        self.entry(now.monotonic_ns, Entry::Clock(now), out);
        let slept = now.boottime_ns.saturating_sub(now.monotonic_ns);
        let more = slept.saturating_sub(self.slept) / 1_000_000;
        if more > 50 {
            self.mark(now.monotonic_ns, Mark { text: Some(format!("{more} ms")), ..plain(What::Suspend) }, out);
        }
        self.slept = slept;
    }

    fn data(&self, ns: u64, channel: u8, bytes: &[u8], out: &mut Vec<Output>) {
        for piece in bytes.chunks(RECORD_BYTES) {
            out.push(Output::Write(self.micros(ns), Written::Record(Record::Data(channel, piece.to_vec()))));
        }
    }

    fn printed(&mut self, bytes: Vec<u8>, out: &mut Vec<Output>) {
        self.printed = self.printed.saturating_add(bytes.len() as u64);
        if let Some(Order::Flash(asker, _)) = self.orders.front() {
            out.push(Output::Had(*asker, bytes.clone()));
        }
        self.data(self.now.monotonic_ns, self.board.tool_channel(), &bytes, out);
    }

    /// A console had something.
    fn had(&mut self, index: usize, entry: console::Entry, out: &mut Vec<Output>) {
        let (ns, end, channel) = (entry.ns(), entry.end(), index as u8);
        let Some(heard) = self.consoles.get_mut(index) else {
            return out.push(Output::Bug("had: the board has no such console"));
        };
        heard.end = end;
        let name = Some(heard.name.clone());
        let away_ms = console::away_ms(&mut heard.gone, &entry);
        match entry {
            console::Entry::Came(Piece::Bytes { bytes, .. }) => {
                heard.count = heard.count.saturating_add(bytes.len() as u64);
                heard.window.extend_from_slice(&bytes);
                let beyond = heard.window.len().saturating_sub(WINDOW_BYTES);
                heard.window.drain(..beyond);
                out.extend(heard.listeners.iter().map(|asker| Output::Had(*asker, bytes.clone())));
                self.data(ns, channel, &bytes, out);
                out.push(Output::Give(channel, bytes));
                self.look(index, out);
            }
            console::Entry::Came(Piece::Lost { lost, why, .. }) => match why {
                Why::Frame | Why::Parity | Why::Break => {
                    let many = lost.map_or("bytes".to_string(), |lost| format!("{lost} times"));
                    let text = Some(format!("{many}, {}", why.word()));
                    self.mark(ns, Mark { name, text, ..plain(What::Noise) }, out);
                }
                Why::Full | Why::Overrun | Why::Away | Why::Died => {
                    let lost = lost.filter(|_| why == Why::Full);
                    let loss = Loss { offset: heard.count, lost, why: why.word().to_string() };
                    heard.count = heard.count.saturating_add(lost.unwrap_or(0));
                    self.entry(ns, Entry::Loss(channel, loss), out);
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
                let tool = writer == "tool";
                heard.of_tools = heard.of_tools.saturating_add(if tool { length } else { 0 });
                let sent = match bytes {
                    Some(_) if !tool && self.person => Sent { writer, length, bytes: None },
                    Some(bytes) if !tool || heard.of_tools <= TOOL_BYTES => Sent::of(&writer, &bytes),
                    _ => Sent { writer, length, bytes: None },
                };
                self.entry(ns, Entry::Sent(channel, sent), out);
            }
        }
    }
}

fn verdict(outcome: Outcome, fault: Fault, cause: String) -> Verdict {
    Verdict { outcome, fault, cause, step: Some(0), status: None, trouble: None, verdict: None }
}

fn plain(what: What) -> Mark {
    Mark { what, name: None, text: None, offsets: None, judged: None, away_ms: None }
}
