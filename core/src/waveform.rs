//! Records of a board's log, a window of time and a number of columns → its lines as they are drawn, whatever the number of edges.
//!
//! A log is read twice: [`Extent`] says how long it is and whose channels it has, [`Plot`] puts what happened into columns. Where several
//! edges are in one column they are one block, so that a drawing is bounded by its columns. Time is nanoseconds since the job began.
//! What nobody has seen is drawn as that and never as a level: before a line's first edge, and where its numbers say that some are missing.

mod window;

pub use self::window::Window;

use crate::axis::{CaseResult, Edge, Entry, Loss, What};
use crate::ordered::Map;
use crate::output_lines::Lines;
use crate::record::{Item, Record};
use crate::vcd::LINE;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// What the channels of consoles are called before their own name.
pub const SERIAL: &str = "serial:";
/// Columns of a drawing: about as many as a wide screen has pixels for it.
pub const COLUMNS: usize = 1200;
/// Places for marks, and as many for test cases: several at one place are one, and how many more.
const SLOTS: usize = 300;
/// Lines and consoles of a drawing each; a board has a dozen.
pub const ROWS: usize = 32;
/// Edges that are told one by one, each with its moment: more are seen better than read.
pub const TOLD: usize = 60;
/// Lines of output in a column whose moments are kept each; of more the last is kept in the place of the one before. A board and who
/// judges it say some lines within a millisecond, with edges between them.
const BEGUN: usize = 4;
/// Characters of a name or a text that are drawn.
const TEXT: usize = 160;

/// How the time of edges is told from that of records.
#[derive(Clone, Copy, Debug, Default)]
struct Axis {
    /// The machine's clock when the job began, in nanoseconds.
    origin: Option<u64>,
}

impl Axis {
    fn clock(&mut self, monotonic_ns: u64, here: u64) {
        self.origin.get_or_insert(monotonic_ns.saturating_sub(here));
    }

    /// Without a clock the first edge is taken to be as old as its record, as in a dump.
    fn edge(&mut self, ns: u64, here: u64) -> u64 {
        ns.saturating_sub(*self.origin.get_or_insert(ns.saturating_sub(here)))
    }
}

fn micros_of(item: &Item<'_>) -> u64 {
    match item {
        Item::Data { micros, .. } | Item::Record(micros, _) | Item::Later { micros, .. } => *micros,
    }
}

/// How long a log is, and what it is of.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    axis: Axis,
    lines: Lines,
    wanted: Option<u64>,
    /// The latest moment of all.
    pub end: u64,
    /// Its edges.
    pub edges: u64,
    /// Whether a channel of it is a line.
    pub has_lines: bool,
    /// When the line of output began that was asked for.
    pub moment: Option<u64>,
}

impl Extent {
    /// Of a log of which nothing was read; `line` is the number of a line of its output whose moment is wanted.
    pub fn new(line: Option<u64>) -> Self {
        Self { wanted: line, ..Self::default() }
    }

    /// Takes the next item.
    pub fn take(&mut self, item: &Item<'_>) {
        let here = micros_of(item).saturating_mul(1000);
        self.end = self.end.max(here);
        let begun = self.lines.take(item);
        if self.wanted.is_some_and(|line| begun.contains(&line)) {
            self.moment = Some(here);
        }
        if let Item::Record(_, Record::Channel(_, start)) = item {
            self.has_lines |= start.name.starts_with(LINE);
        }
        match Entry::of(item) {
            Some(Entry::Clock(clock)) => self.axis.clock(clock.monotonic_ns, here),
            Some(Entry::Edges(edges)) => {
                for edge in edges {
                    self.edges += 1;
                    self.end = self.end.max(self.axis.edge(edge.ns, here));
                }
            }
            _ => {}
        }
    }
}

/// A part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its beginning.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// What is there.
    pub what: Shown,
}

/// What is in a part of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A line is at a level.
    Level(bool),
    /// More edges, or bytes, than can be told apart, and whether some are missing among them.
    Block {
        /// How many.
        count: u64,
        /// Whether there were more, which nobody has seen.
        lossy: bool,
    },
    /// Nobody knows the level: edges were lost.
    Lost,
    /// Nobody knows the level yet.
    Unseen,
}

/// A line or a console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name, cut.
    pub name: String,
    /// Whether it is a line, whose pieces follow one another; of a console there are blocks where it said something.
    pub is_line: bool,
    /// What is seen of it, in order.
    pub pieces: Vec<Piece>,
    /// Edges, or bytes, in the window.
    pub count: u64,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A test case that failed.
    Failed,
    /// Another one.
    Case,
    /// Something is missing.
    Loss,
    /// What was done to the board, or happened to it.
    Mark,
    /// A step began.
    Step,
    /// Something was sent.
    Sent,
}

/// Something at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: u64,
    /// What it is about.
    pub kind: Kind,
    /// What it was, cut.
    pub text: String,
    /// The line of output before it, from 1; 0 before the first.
    pub line: u64,
    /// Others of its row in the same column, which are left out.
    pub more: u32,
}

/// An edge that is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: u64,
    /// Which of the rows.
    pub row: usize,
    /// The level after it.
    pub level: bool,
    /// The line of output before it, from 1; 0 before the first.
    pub line: u64,
}

/// What is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Of which time.
    pub window: Window,
    /// How long the log is.
    pub end: u64,
    /// Lines first, then consoles.
    pub rows: Vec<Row>,
    /// Lines and consoles for which there is no room.
    pub left_out: usize,
    /// What was done and lost, in order.
    pub marks: Vec<Event>,
    /// Test cases, likewise.
    pub cases: Vec<Event>,
    /// The first edges of the window, in order.
    pub told: Vec<Told>,
    /// All its edges.
    pub edges: u64,
    /// From which moment on which line of output is the last that began, in order: exact, unless many begin in one column.
    pub lines: Vec<(u64, u64)>,
}

const LOW: u8 = 1;
const HIGH: u8 = 2;
const LOST: u8 = 4;
const UNSEEN: u8 = 8;

fn level_bit(level: bool) -> u8 {
    if level { HIGH } else { LOW }
}

/// What is in one column of a row.
#[derive(Clone, Copy, Debug, Default)]
struct Column {
    /// What there is of it.
    seen: u8,
    /// What it ends with.
    last: u8,
    /// When its first edge was.
    at: u64,
    /// Edges, or bytes.
    count: u64,
}

/// A row that is being made.
#[derive(Clone, Debug)]
struct Making {
    channel: u8,
    name: String,
    is_line: bool,
    columns: Vec<Column>,
    /// What a line is since when.
    state: u8,
    since: u64,
    /// Number of its last edge.
    number: u32,
    /// From when on edges are missing that no later number has told of yet.
    missing: Option<u64>,
    count: u64,
}

/// Puts what happened into columns.
#[derive(Clone, Debug)]
pub struct Plot {
    window: Window,
    columns: usize,
    end: u64,
    axis: Axis,
    lines: Lines,
    rows: Vec<Making>,
    left_out: usize,
    /// By row of events and place.
    marks: Map<(bool, usize), Event>,
    told: Vec<Told>,
    edges: u64,
    /// The last line of output that began before the window, and those of each column with their moments.
    before: u64,
    begun: Vec<Vec<(u64, u64)>>,
}

impl Plot {
    /// Of this part of a log that is so long, in at most so many columns.
    pub fn new(window: Window, columns: usize, end: u64) -> Self {
        // None is narrower than what can be told apart.
        let columns = columns.clamp(1, COLUMNS).min(usize::try_from(window.span()).unwrap_or(COLUMNS).max(1));
        Self {
            window,
            columns,
            end,
            axis: Axis::default(),
            lines: Lines::default(),
            rows: Vec::new(),
            left_out: 0,
            marks: Map::new(),
            told: Vec::new(),
            edges: 0,
            before: 0,
            begun: vec![Vec::new(); columns],
        }
    }

    /// The column of a moment, if it is in the window.
    fn column(&self, at: u64) -> Option<usize> {
        column(self.window, self.columns, at)
    }

    /// Takes the next item of the log.
    pub fn take(&mut self, item: &Item<'_>) {
        let here = micros_of(item).saturating_mul(1000);
        let begun = self.lines.take(item);
        if !begun.is_empty() {
            let line = begun.end - 1;
            match self.column(here).and_then(|column| self.begun.get_mut(column)) {
                Some(known) => {
                    if known.len() == BEGUN || known.last().is_some_and(|(at, _)| *at == here) {
                        known.pop();
                    }
                    known.push((here, line));
                }
                None if here < self.window.from => self.before = self.before.max(line),
                None => {}
            }
        }
        match item {
            Item::Data { channel, bytes, .. } => {
                let Some(column) = self.column(here) else { return };
                if let Some(row) = self.rows.iter_mut().find(|row| row.channel == *channel && !row.is_line) {
                    row.count += bytes.len() as u64;
                    if let Some(column) = row.columns.get_mut(column) {
                        column.count += bytes.len() as u64;
                    }
                }
            }
            Item::Record(_, Record::Channel(channel, start)) => self.channel(*channel, &start.name),
            Item::Record(_, Record::StepStart(start)) => {
                let text = start.text.lines().next().unwrap_or_default();
                self.event(here, Kind::Step, format!("step {}: {text}", start.step.saturating_add(1)));
            }
            Item::Record(..) => {}
            Item::Later { .. } => {
                if let Some(entry) = Entry::of(item) {
                    self.happened(here, entry);
                }
            }
        }
    }

    fn channel(&mut self, channel: u8, name: &str) {
        let (is_line, short) = match (name.strip_prefix(LINE), name.strip_prefix(SERIAL)) {
            (Some(short), _) => (true, short),
            (None, Some(short)) => (false, short),
            (None, None) => return,
        };
        if self.rows.iter().any(|row| row.channel == channel) {
            return;
        }
        if self.rows.iter().filter(|row| row.is_line == is_line).count() >= ROWS {
            self.left_out += 1;
            return;
        }
        self.rows.push(Making {
            channel,
            name: cut(short),
            is_line,
            columns: vec![Column::default(); self.columns],
            state: UNSEEN,
            since: 0,
            number: 0,
            missing: None,
            count: 0,
        });
    }

    fn happened(&mut self, here: u64, entry: Entry) {
        match entry {
            Entry::Clock(clock) => self.axis.clock(clock.monotonic_ns, here),
            Entry::Edges(edges) => {
                for edge in edges {
                    let at = self.axis.edge(edge.ns, here);
                    self.edge(at, edge);
                }
            }
            Entry::Loss(channel, loss) => self.loss(here, channel, &loss),
            Entry::Mark(mark) => {
                let mut text = mark_word(&mark.what).to_string();
                for more in [&mark.name, &mark.text].into_iter().flatten() {
                    text = format!("{text} {more}");
                }
                self.event(here, Kind::Mark, text);
            }
            Entry::Sent(_, sent) => {
                self.event(here, Kind::Sent, format!("{} bytes sent by {}", sent.length, sent.writer))
            }
            Entry::Case(case) => {
                let kind = if case.result == CaseResult::Failed { Kind::Failed } else { Kind::Case };
                self.event(here, kind, format!("{} {}", case_word(&case.result), case.name));
            }
            Entry::Answer(_) | Entry::Progress(_) | Entry::Tick(_) => {}
        }
    }

    fn event(&mut self, at: u64, kind: Kind, text: String) {
        let Some(column) = self.column(at) else { return };
        let key = (matches!(kind, Kind::Failed | Kind::Case), column * SLOTS / self.columns.max(SLOTS));
        let event = Event { at, kind, text: cut(&text), line: self.lines.count(), more: 0 };
        match self.marks.get_mut(&key) {
            // Of several the one is named that people look for first.
            Some(known) if event.kind < known.kind => *known = Event { more: known.more.saturating_add(1), ..event },
            Some(known) => known.more = known.more.saturating_add(1),
            None => _ = self.marks.insert(key, event),
        }
    }

    fn loss(&mut self, here: u64, channel: u8, loss: &Loss) {
        let mut name = channel.to_string();
        if let Some(row) = self.rows.iter_mut().find(|row| row.channel == channel) {
            name.clone_from(&row.name);
            // What a later number has told of already is drawn where it was.
            if row.is_line && (row.number == 0 || loss.offset >= u64::from(row.number)) {
                row.missing.get_or_insert(here.max(row.since));
            }
        }
        let lost = loss.lost.map_or_else(|| "an unknown number".to_string(), |lost| lost.to_string());
        self.event(here, Kind::Loss, format!("{name}: {lost} lost, {}", loss.why));
    }

    fn edge(&mut self, at: u64, edge: Edge) {
        let (window, columns) = (self.window, self.columns);
        let Some(index) = self.rows.iter().position(|row| row.channel == edge.channel && row.is_line) else { return };
        let Some(row) = self.rows.get_mut(index) else { return };
        let gap = row.number > 0 && edge.sequence > row.number.saturating_add(1);
        let missing = row.missing.take();
        if gap {
            // Somewhere since the last edge that was seen.
            row.fill(window, row.since, at, LOST);
        } else if let Some(from) = missing {
            row.fill(window, row.since, from, row.state);
            row.fill(window, from, at, LOST);
        } else {
            row.fill(window, row.since, at, row.state);
        }
        (row.state, row.since) = (level_bit(edge.level), row.since.max(at));
        row.number = edge.sequence;
        let Some(column) = column(window, columns, at) else { return };
        row.count += 1;
        self.edges += 1;
        if let Some(column) = row.columns.get_mut(column) {
            if column.count == 0 {
                column.at = at;
            }
            column.count += 1;
            column.seen |= row.state;
            column.last = row.state;
        }
        if self.told.len() < TOLD {
            self.told.push(Told { at, row: index, level: edge.level, line: 0 });
        }
    }

    /// Nothing follows.
    pub fn finish(mut self) -> Drawing {
        let (window, end) = (self.window, self.end);
        for row in self.rows.iter_mut().filter(|row| row.is_line) {
            match row.missing.take() {
                Some(from) => {
                    row.fill(window, row.since, from, row.state);
                    row.fill(window, from, end, LOST);
                }
                None => row.fill(window, row.since, end, row.state),
            }
        }
        // Their order stays, and which of them each edge is of.
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by_key(|index| self.rows.get(*index).is_some_and(|row| !row.is_line));
        let place = |row: usize| order.iter().position(|index| *index == row).unwrap_or(row);
        let mut lines = vec![(window.from, self.before)];
        for (at, line) in self.begun.iter().flatten() {
            if lines.last().is_some_and(|(after, before)| at >= after && line > before) {
                lines.push((*at, *line));
            }
        }
        // An edge is recorded when it was told of, which may be after what was said later.
        let line = |at: u64| lines.iter().rev().find(|(from, _)| *from <= at).map_or(0, |(_, line)| *line);
        let told = self.told.into_iter().map(|told| Told { row: place(told.row), line: line(told.at), ..told });
        let mut told: Vec<Told> = told.collect();
        told.sort_by_key(|told| told.at);
        let rows = order.iter().filter_map(|index| self.rows.get(*index)).map(|row| row.drawn(window)).collect();
        let (mut marks, mut cases) = (Vec::new(), Vec::new());
        for ((is_case, _), event) in self.marks {
            if is_case { &mut cases } else { &mut marks }.push(event);
        }
        marks.sort_by_key(|event| event.at);
        cases.sort_by_key(|event| event.at);
        let (left_out, edges) = (self.left_out, self.edges);
        Drawing { window, end, rows, left_out, marks, cases, told, edges, lines }
    }
}

/// The column of a moment, if it is in the window; its end is in the last one.
fn column(window: Window, columns: usize, at: u64) -> Option<usize> {
    let within = at >= window.from && at <= window.to;
    within.then(|| (window.place(at, columns as u64) as usize).min(columns - 1))
}

impl Making {
    /// Something was so from one moment to another.
    fn fill(&mut self, window: Window, from: u64, to: u64, what: u8) {
        if to <= from || to <= window.from || from >= window.to {
            return;
        }
        let columns = self.columns.len() as u64;
        // What ends where a column begins is not in it.
        let (first, last) = (window.place(from, columns), window.place(to.min(window.to) - 1, columns));
        for column in self.columns.iter_mut().take(last as usize + 1).skip(first as usize) {
            column.seen |= what;
            column.last = what;
        }
    }

    fn drawn(&self, window: Window) -> Row {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut put = |from: u64, to: u64, what: Shown| {
            if let Some(before) = pieces.last_mut().filter(|before| before.to == from) {
                let joined = match (before.what, what) {
                    (Shown::Block { count, lossy }, Shown::Block { count: more, lossy: also }) if lossy == also => {
                        Some(Shown::Block { count: count + more, lossy })
                    }
                    (one, other) if one == other && !matches!(one, Shown::Block { .. }) => Some(one),
                    _ => None,
                };
                if let Some(what) = joined {
                    *before = Piece { to, what, ..*before };
                    return;
                }
            }
            if to > from {
                pieces.push(Piece { from, to, what });
            }
        };
        let columns = self.columns.len() as u64;
        for (index, column) in self.columns.iter().enumerate() {
            let (from, to) = (window.moment(index as u64, columns), window.moment(index as u64 + 1, columns));
            let unknown = |seen: u8| if seen & LOST != 0 { Shown::Lost } else { Shown::Unseen };
            let is_unknown = column.seen & (LOST | UNSEEN) != 0;
            match column {
                Column { count: 0, .. } if !self.is_line => {}
                Column { count, .. } if !self.is_line => put(from, to, Shown::Block { count: *count, lossy: false }),
                Column { seen: 0, .. } => {}
                Column { count: 0, seen, .. } if is_unknown => put(from, to, unknown(*seen)),
                Column { count: 0, seen, .. } => put(from, to, Shown::Level(*seen == HIGH)),
                // One edge stands where it was, whatever the width of a column.
                Column { count: 1, seen, last, at } if *last & (LOW | HIGH) != 0 => {
                    let before = if is_unknown { unknown(*seen) } else { Shown::Level(seen & !last == HIGH) };
                    // The same level twice: the other one was not seen, but nothing says that it was not there.
                    let before = if *seen == *last { Shown::Level(*last == HIGH) } else { before };
                    put(from, *at, before);
                    put(*at, to.max(*at), Shown::Level(*last == HIGH));
                }
                Column { count: 1, .. } => put(from, to, Shown::Lost),
                Column { count, seen, .. } => {
                    put(from, to, Shown::Block { count: *count, lossy: seen & LOST != 0 });
                }
            }
        }
        Row { name: self.name.clone(), is_line: self.is_line, pieces, count: self.count }
    }
}

fn mark_word(what: &What) -> &str {
    match what {
        What::Reset => "reset",
        What::Play => "play",
        What::Mode => "mode",
        What::Power => "power",
        What::Unplugged => "unplugged",
        What::Back => "back",
        What::Suspend => "suspended",
        What::Noise => "noise",
        What::Other(word) => word.as_str(),
    }
}

fn case_word(result: &CaseResult) -> &str {
    match result {
        CaseResult::Passed => "passed",
        CaseResult::Failed => "failed",
        CaseResult::Skipped => "skipped",
        CaseResult::Other(word) => word.as_str(),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT).collect()
}
