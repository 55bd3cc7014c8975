//! What is written at each of several boards of one job → one log, in which each has channels of its own; when all of them go on; and
//! one verdict, the worst.
//!
//! A board's records are told apart by their channels: each board has as many in a row as it could have alone, named
//! `serial:BOARD/CONSOLE`, and what is on no channel elsewhere (marks, ticks, cases) is on its first one. So each board's part of a
//! log can be judged again like the log of one board.

use crate::axis::Entry;
use crate::bench::Board;
use crate::job::Fault;
use crate::judge;
use crate::limits::{CHANNELS, Millis};
use crate::record::{ChannelStart, Item, Record, StepEnd, StepStart};
use crate::trying::{Found, Written};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A board of a job that has several, and where its records are in their log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub board: String,
    /// The first of its channels.
    pub first: u8,
    /// How many there are.
    pub count: u8,
}

/// How the part of one board ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a verdict.
    Found(Found),
    /// It was given up.
    GivenUp,
    /// It has not begun: somebody else has the board.
    Busy(String),
}

/// How far the part of a board is, and goes no further before all others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Nobody else can write to it any more. Nothing was done yet.
    Held,
    /// What is to be on it is there, and it has not been reset.
    Flashed,
}

/// What happens; each with the number of the board's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// This is to be written, so many microseconds after the log began.
    Written(usize, u64, Written),
    /// A board is so far.
    Reached(usize, Reached),
    /// A board's part is over.
    Ended(usize, End),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// This is written, on channels from this one on.
    Write(u64, u8, Written),
    /// All boards are so far, and go on.
    Open(Reached),
    /// All that goes on is given up.
    Stop,
    /// It is over: the worst of what was found, with the name of its board unless all passed.
    End(End, Option<String>),
}

/// Where the records of these boards are in one log, in their order.
///
/// # Errors
/// They have more channels than a log.
pub fn places(boards: &[&Board]) -> Result<Vec<Place>, String> {
    let (mut places, mut first) = (Vec::new(), 0_usize);
    for board in boards {
        // Its consoles, its lines, what a tool prints, and what each console had before.
        let count = board.consoles.len() * 2 + board.lines.len() + 1;
        let (Ok(first_channel), Ok(channels)) = (u8::try_from(first), u8::try_from(count)) else {
            return Err(too_many());
        };
        places.push(Place { board: board.name.clone(), first: first_channel, count: channels });
        first += count;
    }
    if first > CHANNELS { Err(too_many()) } else { Ok(places) }
}

fn too_many() -> String {
    format!(
        "expected boards with at most {CHANNELS} channels together: two for each console, one for each line, one more"
    )
}

/// Where the records of boards are in a log that has channels of these names; none where it is of one board.
pub fn places_in(channels: &[(u8, String)]) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (number, name) in channels {
        // What no board is named by is of none: jobs at one board have such channels.
        let Some((board, _)) = split(name) else { continue };
        match places.iter_mut().find(|place| place.board == board) {
            Some(place) => place.first = place.first.min(*number),
            None => places.push(Place { board: board.to_string(), first: *number, count: 0 }),
        }
    }
    places.sort_by_key(|place| place.first);
    let ends: Vec<u8> = places.iter().skip(1).map(|place| place.first).chain([u8::MAX]).collect();
    for (place, end) in places.iter_mut().zip(ends) {
        place.count = end.saturating_sub(place.first);
    }
    places
}

/// The board in a channel's name, and the name without it.
fn split(name: &str) -> Option<(&str, String)> {
    if let Some(board) = name.strip_prefix("tool:") {
        return Some((board, "tool".to_string()));
    }
    let (kind, rest) = name.split_once(':')?;
    let (board, rest) = rest.split_once('/')?;
    Some((board, format!("{kind}:{rest}")))
}

fn join(board: &str, name: &str) -> String {
    match name.split_once(':') {
        Some((kind, rest)) => format!("{kind}:{board}/{rest}"),
        None => format!("{name}:{board}"),
    }
}

impl Place {
    fn own(&self, channel: u8) -> Option<u8> {
        channel.checked_sub(self.first).filter(|channel| *channel < self.count)
    }

    /// Gives a judge what an item of a log of several boards is of this one, as the log of it alone would have it.
    pub fn hear(&self, item: &Item<'_>, take: &mut dyn FnMut(u64, judge::Input<'_>)) {
        match item {
            Item::Data { channel, micros, bytes } => {
                if let Some(channel) = self.own(*channel) {
                    take(*micros, judge::Input::Bytes(channel, bytes));
                }
            }
            Item::Record(micros, Record::Channel(channel, start)) => {
                if let (Some(channel), Some((_, name))) = (self.own(*channel), split(&start.name)) {
                    take(*micros, judge::Input::Channel(channel, &name));
                }
            }
            Item::Record(..) => {}
            Item::Later { channel, micros, .. } => {
                let entry = Entry::of(item).filter(|_| self.own(*channel).is_some());
                if let Some(entry) = entry.map(|entry| entry.on(|channel| channel.wrapping_sub(self.first))) {
                    take(*micros, judge::Input::Entry(&entry));
                }
            }
        }
    }
}

/// The worst of what was found at boards, by the numbers of their parts: what is nobody's failure but ours before what is the job's,
/// since that may come of it; of several the first. Nothing where all passed.
pub fn worst<'a>(found: impl Iterator<Item = &'a Found> + Clone) -> Option<usize> {
    let ours = found.clone().position(|found| found.fault == Fault::Infrastructure);
    ours.or_else(|| found.clone().position(|found| found.fault != Fault::Nobody))
}

#[derive(Clone, Debug)]
struct Part {
    place: Place,
    reached: Option<Reached>,
    ended: Option<End>,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct Together {
    parts: Vec<Part>,
    /// The number of the step that is flashing; the test is the next one.
    first_step: u32,
    opened: Option<Reached>,
    stopped: bool,
    /// The step that has begun last in the log, and the worst status of what ended it somewhere.
    step: Option<(u32, i32)>,
    /// When anything of it was, at last.
    last: u64,
}

impl Together {
    /// Of boards at these places, none of which has begun.
    pub fn new(places: Vec<Place>, first_step: u32) -> Self {
        let parts = places.into_iter().map(|place| Part { place, reached: None, ended: None });
        Together { parts: parts.collect(), first_step, opened: None, stopped: false, step: None, last: 0 }
    }

    /// Takes one input; what is to be done is appended to `out`.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        // What parts say has its own time; nothing is waited for here.
        let _ = now;
        let (Input::Written(number, ..) | Input::Reached(number, _) | Input::Ended(number, _)) = &input;
        let number = *number;
        let Some(part) = self.parts.get_mut(number) else {
            // Nobody gives such a number: there are as many as there are places.
            return;
        };
        match input {
            Input::Written(_, micros, written) => {
                let place = part.place.clone();
                self.last = self.last.max(micros);
                self.written(&place, micros, written, out);
            }
            Input::Reached(_, reached) => part.reached = part.reached.max(Some(reached)),
            Input::Ended(_, end) => {
                // What never got so far keeps nobody else waiting; they are given up, unless it comes after all were judged.
                let before = part.reached < Some(Reached::Flashed) || self.opened < Some(Reached::Flashed);
                part.ended = Some(end);
                if before && !self.stopped {
                    self.stopped = true;
                    out.push(Output::Stop);
                }
            }
        }
        for reached in [Reached::Held, Reached::Flashed] {
            let all = self.parts.iter().all(|part| part.reached >= Some(reached));
            if all && self.opened < Some(reached) && !self.stopped {
                self.opened = Some(reached);
                out.push(Output::Open(reached));
            }
        }
        if self.parts.iter().all(|part| part.ended.is_some()) {
            self.end(out);
        }
    }

    fn written(&mut self, place: &Place, micros: u64, written: Written, out: &mut Vec<Output>) {
        let board = &place.board;
        let written = match written {
            Written::Record(Record::Channel(channel, start)) => {
                Written::Record(Record::Channel(channel, ChannelStart { name: join(board, &start.name) }))
            }
            Written::Record(Record::Note(text)) => Written::Record(Record::Note(format!("{board}: {text}"))),
            Written::Record(Record::StepStart(start)) => {
                return self.step_begins(board, micros, start, out);
            }
            Written::Record(Record::StepEnd(end)) => {
                if let Some((step, worst)) = &mut self.step
                    && *step == end.step
                {
                    *worst = (*worst).max(end.status);
                }
                return;
            }
            Written::Entry(Entry::Case(case)) => {
                Written::Entry(Entry::Case(crate::axis::Case { name: format!("{board}: {}", case.name), ..case }))
            }
            other => other,
        };
        out.push(Output::Write(micros, place.first, written));
    }

    fn step_begins(&mut self, board: &str, micros: u64, start: StepStart, out: &mut Vec<Output>) {
        let record = |record| Output::Write(micros, 0, Written::Record(record));
        // The test has one name at all boards.
        let text = if start.step == self.first_step { format!("{board}: {}", start.text) } else { start.text };
        match self.step {
            Some((step, _)) if step >= start.step => {
                if step == self.first_step {
                    out.push(record(Record::Note(text)));
                }
            }
            _ => {
                self.step_ends(micros, out);
                self.step = Some((start.step, 0));
                out.push(record(Record::StepStart(StepStart { step: start.step, text })));
            }
        }
    }

    fn step_ends(&mut self, micros: u64, out: &mut Vec<Output>) {
        if let Some((step, status)) = self.step.take() {
            out.push(Output::Write(micros, 0, Written::Record(Record::StepEnd(StepEnd { step, status }))));
        }
    }

    /// All of them are over.
    fn end(&mut self, out: &mut Vec<Output>) {
        let ends = || self.parts.iter().filter_map(|part| Some((&part.place.board, part.ended.as_ref()?)));
        let found: Vec<(&String, &Found)> = ends()
            .filter_map(|(board, end)| match end {
                End::Found(found) => Some((board, found)),
                End::GivenUp | End::Busy(_) => None,
            })
            .collect();
        let busy = ends().find_map(|(board, end)| match end {
            End::Busy(why) => Some(End::Busy(format!("{board}: {why}"))),
            End::Found(_) | End::GivenUp => None,
        });
        let worst = worst(found.iter().map(|(_, found)| *found)).and_then(|index| found.get(index));
        let (end, board) = match (busy, worst, found.first()) {
            // Nothing was done to any of them.
            (Some(busy), ..) => (busy, None),
            (None, Some((board, found)), _) => {
                let cause = format!("{board}: {}", found.cause);
                (End::Found(Found { cause, ..(*found).clone() }), Some((*board).clone()))
            }
            (None, None, Some((_, passed))) if found.len() == self.parts.len() => (End::Found((*passed).clone()), None),
            (None, None, _) => (End::GivenUp, None),
        };
        self.step_ends(self.last, out);
        out.push(Output::End(end, board));
    }
}
