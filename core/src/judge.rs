//! Records of a board's log → what is sent and played next, its test cases, and the verdict.
//!
//! Time reaches it by records alone: what came before a moment is known when a `Tick` says so. So a log that was stored is judged
//! again without a board, and with the same rules to the same end. It begins at a mark that says so; what the board printed
//! before is an older image's. Whatever is missing where something of a console was lost is nobody's failure but ours.

mod streams;
mod verdict;

pub use self::verdict::{Judgement, Word};

use self::streams::{Line, Stream};
use crate::axis::{Entry, Mark, What};
use crate::bench::CONSOLES_MAX;
use crate::escape;
use crate::ordered::Map;
use crate::pattern::Pattern;
use crate::record::{Item, Record};
use crate::results::Results;
use crate::trial::{self, Part, Step, Trial};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Who sent what the judge asked for, in `Sent`.
pub const WRITER: &str = "judge";
/// Microseconds for which all is still taken after what decides, so that the text of a panic is whole.
pub const DRAIN_US: u64 = 500_000;
/// Microseconds within which what was asked for is sent or played.
pub const DONE_WITHIN_US: u64 = 60_000_000;
/// Microseconds for which a tty may be gone.
pub const GONE_US: u64 = 10_000_000;
/// Microseconds by which text may come later than an edge of the same moment: the 16 ms that an adapter keeps a byte where it is not told
/// otherwise, and as much again for a reader that is not run at once. A kernel stamps edges as they are.
pub const LATE_US: u64 = 32_000;
/// Edges that are remembered for a step that comes to them later.
const EDGES_KEPT: usize = 1024;
/// Longest text of a board's in a cause, in bytes.
const QUOTED_BYTES: usize = 120;

/// What happens.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A channel has this name: `serial:CONSOLE` or `line:LINE`.
    Channel(u8, &'a str),
    /// Bytes of a channel.
    Bytes(u8, &'a [u8]),
    /// Anything else of the axis.
    Entry(&'a Entry),
    /// The log ends here, at whatever time.
    End,
}

impl<'a> Input<'a> {
    /// What an item of a stored log is to a judge, with the time of its record; `entry` is what the item has of the axis, by
    /// [`Entry::of`]. Live and stored logs are heard alike, so that they are judged alike.
    pub fn of(item: &'a Item<'a>, entry: Option<&'a Entry>) -> Option<(u64, Input<'a>)> {
        match item {
            Item::Data { channel, micros, bytes } => Some((*micros, Input::Bytes(*channel, bytes))),
            Item::Record(micros, Record::Channel(channel, start)) => {
                Some((*micros, Input::Channel(*channel, &start.name)))
            }
            Item::Record(..) => None,
            Item::Later { micros, .. } => entry.map(|entry| (*micros, Input::Entry(entry))),
        }
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a console; `Sent` by [`WRITER`] follows in the log.
    Send {
        /// The console's name.
        console: String,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Play a sequence; a mark that it was played follows in the log.
    Play(String),
    /// A test case of the board has a result.
    Case(crate::axis::Case),
    /// Something that people should know of.
    Note(String),
    /// The log does not say what would have come of this: other bytes were sent than these rules send.
    Unknowable(String),
    /// It is over. Nothing follows.
    Verdict(Judgement),
}

/// What a step waits for beside bytes and edges.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Sent,
    Played(String),
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct Judge {
    trial: Trial,
    identity: Option<Pattern>,
    /// Values for `${…}`: what Sai says, then what was captured.
    values: Map<String, Vec<u8>>,
    /// Name of the console that is judged.
    console: String,
    names: Map<String, u8>,
    streams: Map<u8, Stream>,
    begun: Option<u64>,
    /// Whether anything came since.
    anything: bool,
    identified: bool,
    step: usize,
    /// From when on a step is late.
    since: u64,
    /// From when on an edge is one that it waits for: what a sequence brings about comes before its end, and what bytes bring about
    /// may come before it is written down that they went out.
    edges_from: u64,
    awaited: Awaited,
    /// The machine's clock when the job began, which the stamps of edges are of.
    origin_ns: Option<u64>,
    /// What was asked to be sent and is not said to have been.
    unsent: VecDeque<u8>,
    edges: VecDeque<(u8, bool, u64)>,
    results: Option<Results>,
    banners: u64,
    passed: Option<u64>,
    /// What is kept from us since it began, if anything.
    lost: Option<String>,
    /// The consoles that are unplugged, each since when.
    gone: Vec<(String, u64)>,
    /// What has decided, and until when more is taken.
    closing: Option<(Option<Judgement>, u64)>,
    over: bool,
}

impl Judge {
    /// A judge of a trial on a board whose first console has this name; `values` are put in for `${SAI_…}`.
    ///
    /// # Errors
    /// What was expected, where the identity cannot be made with these values.
    pub fn new(trial: Trial, first_console: &str, values: Map<String, String>) -> Result<Self, String> {
        let values = Map::from_iter(values.into_iter().map(|(name, value)| (name, value.into_bytes())));
        let filled = trial.identity.as_ref().map(|text| {
            trial::fill(text, |name| values.get(name).map(|value| Pattern::literal(value)))
                .and_then(|text| Pattern::new(&text))
        });
        let identity = filled.transpose()?;
        Ok(Judge {
            console: trial.console.clone().unwrap_or_else(|| first_console.to_string()),
            results: trial.results.map(Results::new),
            identified: identity.is_none(),
            identity,
            trial,
            values,
            names: Map::new(),
            streams: Map::new(),
            begun: None,
            anything: false,
            step: 0,
            since: 0,
            edges_from: 0,
            awaited: Awaited::Nothing,
            origin_ns: None,
            unsent: VecDeque::new(),
            edges: VecDeque::new(),
            banners: 0,
            passed: None,
            lost: None,
            gone: Vec::new(),
            closing: None,
            over: false,
        })
    }

    /// Takes what is next in the log; `now` is the time of its record, in microseconds since the job began.
    pub fn handle(&mut self, now: u64, input: Input<'_>, out: &mut Vec<Output>) {
        if self.over {
            return;
        }
        match input {
            Input::End => return self.log_ends(out),
            Input::Channel(channel, name) => {
                self.names.insert(name.to_string(), channel);
            }
            Input::Bytes(channel, bytes) => self.bytes(now, channel, bytes, out),
            Input::Entry(Entry::Edges(edges)) => {
                for edge in edges.iter().filter(|_| self.begun.is_some()) {
                    let micros = self.origin_ns.map_or(now, |origin| edge.ns.saturating_sub(origin) / 1000);
                    self.edges.push_back((edge.channel, edge.level, micros));
                }
                while self.edges.len() > EDGES_KEPT {
                    self.edges.pop_front();
                }
            }
            Input::Entry(Entry::Clock(clock)) => {
                let origin = clock.monotonic_ns.saturating_sub(now.saturating_mul(1000));
                self.origin_ns.get_or_insert(origin);
            }
            Input::Entry(Entry::Loss(channel, loss)) => {
                self.streams.get_or_default(*channel).lose(loss.lost.unwrap_or(0));
                if self.begun.is_some() {
                    let many = loss.lost.map_or("something".to_string(), |lost| format!("{lost}"));
                    self.lost = Some(format!("{many} of {} lost: {}", self.name_of(*channel), escape::line(&loss.why)));
                }
            }
            Input::Entry(Entry::Mark(mark)) => self.mark(now, mark, out),
            Input::Entry(Entry::Sent(_, sent)) if sent.writer == WRITER => {
                self.sent(now, &sent.bytes().unwrap_or_default(), out)
            }
            Input::Entry(Entry::Tick(up_to)) => self.tick(*up_to, out),
            Input::Entry(_) => {}
        }
        self.advance(now, false, out);
    }

    /// Whether the log has come to the mark from which on the board is judged.
    pub fn begun(&self) -> bool {
        self.begun.is_some()
    }

    fn log_ends(&mut self, out: &mut Vec<Output>) {
        if matches!(self.awaited, Awaited::Nothing) {
            self.end(Judgement::of(Word::Infra, "the log ends before the verdict".to_string()), out);
        } else {
            out.push(Output::Unknowable("the log ends before what would be sent".to_string()));
        }
    }

    fn name_of(&self, channel: u8) -> String {
        let found = self.names.iter().find(|(_, number)| **number == channel);
        found.map_or_else(|| format!("channel {channel}"), |(name, _)| name.clone())
    }

    fn channel(&self, console: Option<&str>) -> Option<u8> {
        self.names.get(format!("serial:{}", console.unwrap_or(&self.console)).as_str()).copied()
    }

    fn mark(&mut self, now: u64, mark: &Mark, out: &mut Vec<Output>) {
        match mark.what {
            What::Suspend if self.begun.is_some() => {
                self.end(Judgement::of(Word::Infra, "the machine slept during the test".to_string()), out);
            }
            What::Unplugged if self.begun.is_some() => {
                // A damaged log may tell of more than a board can have.
                if self.gone.len() < CONSOLES_MAX {
                    self.gone.push((mark.name.clone().unwrap_or_default(), now));
                }
                self.lost = Some(format!("console {} was unplugged", mark.name.as_deref().unwrap_or("?")));
            }
            What::Back => self.gone.retain(|(name, _)| name != mark.name.as_deref().unwrap_or_default()),
            What::Reset | What::Mode | What::Power => self.streams.values_mut().for_each(Stream::cut),
            What::Play if mark.name.as_ref().is_some_and(|name| self.awaited == Awaited::Played(name.clone())) => {
                self.next(now);
            }
            _ => {}
        }
        if mark.judged == Some(true) && self.begun.is_none() {
            // What was shown before is no proof of what was flashed since.
            let before = self.identity.is_some() && self.identified;
            if before {
                let note = "the board showed this identity before it was flashed, so that it proves nothing";
                out.push(Output::Note(note.to_string()));
            }
            self.identified = self.identity.is_none();
            self.begun = Some(now);
            (self.since, self.edges_from) = (now, now);
            for stream in self.streams.values_mut() {
                stream.forget();
            }
        }
    }

    fn bytes(&mut self, now: u64, channel: u8, bytes: &[u8], out: &mut Vec<Output>) {
        if !self.names.iter().any(|(name, number)| *number == channel && name.starts_with("serial:")) {
            return;
        }
        let judged = self.channel(None) == Some(channel);
        self.anything |= judged && self.begun.is_some() && !bytes.is_empty();
        let mut stream = core::mem::take(self.streams.get_or_default(channel));
        let mut lines: Vec<Line> = Vec::new();
        stream.push(bytes, now, |line| lines.push(line.clone()));
        self.streams.insert(channel, stream);
        for line in lines {
            self.line(&line, judged, out);
        }
    }

    /// A whole line; on a tick the open one is looked at by `open`.
    fn line(&mut self, line: &Line, judged: bool, out: &mut Vec<Output>) {
        let has = |pattern: &Option<Pattern>| pattern.as_ref().is_some_and(|pattern| line.has(pattern));
        let (identity, fail, pass) = (has(&self.identity), has(&self.trial.fail), has(&self.trial.pass));
        if self.begun.is_none() {
            self.identified |= judged && identity;
            return;
        }
        if fail {
            self.failed(&line.bytes, line.micros);
        }
        if !judged || line.doubtful {
            return;
        }
        self.identify(identity, line.micros);
        if let Some((banner, times)) = &self.trial.banner {
            self.banners += u64::from(line.has(banner));
            if self.banners >= *times {
                let cause = format!("its banner came {} times", self.banners);
                self.close(Some(Judgement::of(Word::BootLoop, cause)), line.micros);
            }
        }
        if !self.identified {
            return;
        }
        if pass {
            self.passed.get_or_insert(line.micros);
        }
        if let Some(results) = &mut self.results {
            let mut cases = Vec::new();
            results.line(&line.bytes, line.end, &mut cases);
            out.extend(cases.into_iter().map(Output::Case));
        }
    }

    fn identify(&mut self, found: bool, micros: u64) {
        if found && !self.identified {
            self.identified = true;
            self.since = self.since.max(micros);
            self.edges_from = self.edges_from.max(self.since.saturating_sub(LATE_US));
        }
    }

    fn failed(&mut self, line: &[u8], micros: u64) {
        let cause = format!("`fail` was found in {}", quoted(line));
        self.close(Some(Judgement::of(Word::TestFail, cause)), micros);
    }

    /// Something decides: the first that does, or the first that does in spite of all being well so far.
    fn close(&mut self, hard: Option<Judgement>, micros: u64) {
        match &mut self.closing {
            None => self.closing = Some((hard, micros.saturating_add(DRAIN_US))),
            Some((before @ None, _)) => *before = hard,
            Some(_) => {}
        }
    }

    fn sent(&mut self, now: u64, bytes: &[u8], out: &mut Vec<Output>) {
        let same = bytes.iter().all(|byte| self.unsent.pop_front() == Some(*byte));
        if !same {
            self.unsent.clear();
            self.over = true;
            let what = format!("{} was sent where these rules send something else", quoted(bytes));
            out.push(Output::Unknowable(what));
        } else if self.unsent.is_empty() && self.awaited == Awaited::Sent {
            self.next(now);
        }
    }

    /// The step is done.
    fn next(&mut self, now: u64) {
        let asked = core::mem::replace(&mut self.awaited, Awaited::Nothing) != Awaited::Nothing;
        self.step += 1;
        self.since = self.since.max(now);
        if !asked {
            self.edges_from = now;
        }
    }

    /// Goes on with the steps as far as what is known allows.
    fn advance(&mut self, now: u64, on_tick: bool, out: &mut Vec<Output>) {
        while !self.over && self.begun.is_some() && self.identified && self.awaited == Awaited::Nothing {
            // All are done.
            let Some(step) = self.trial.steps.get(self.step).cloned() else { break };
            match step {
                Step::Expect { pattern, console, within_ms } => {
                    let escaped = |name: &str| self.values.get(name).map(|value| Pattern::literal(value));
                    let filled = trial::fill(&pattern, escaped).and_then(|text| Pattern::new(&text));
                    let Ok(pattern) = filled else {
                        let cause = format!("step {}: what was captured makes too long a pattern", self.step + 1);
                        return self.end(Judgement::of(Word::TestFail, cause), out);
                    };
                    let by = self.since.saturating_add(within_ms.saturating_mul(1000));
                    // The log has not named it yet.
                    let Some(channel) = self.channel(console.as_deref()) else { break };
                    let stream = self.streams.get_or_default(channel);
                    // It has not come yet, and its limit is looked at elsewhere.
                    let Some((found, micros)) = stream.find(&pattern, by, on_tick) else { break };
                    for (name, bytes) in found.captures {
                        self.values.insert(name, bytes);
                    }
                    let before = self.edges_from;
                    self.next(micros);
                    self.edges_from = before.max(micros.saturating_sub(LATE_US));
                }
                Step::Send { text, console } => {
                    let mut bytes = Vec::new();
                    for part in trial::parts(&text) {
                        match part {
                            Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                            Part::Name(name) => bytes.extend(self.values.get(name).into_iter().flatten()),
                        }
                    }
                    self.unsent.extend(&bytes);
                    self.awaited = Awaited::Sent;
                    self.since = self.since.max(now);
                    self.edges_from = self.since;
                    let console = console.unwrap_or_else(|| self.console.clone());
                    out.push(Output::Send { console, bytes });
                }
                Step::Play(name) => {
                    self.awaited = Awaited::Played(name.clone());
                    self.since = self.since.max(now);
                    self.edges_from = self.since;
                    out.push(Output::Play(name));
                }
                Step::Edge { line, to, within_ms } => {
                    // The log has not named it yet.
                    let Some(channel) = self.names.get(format!("line:{line}").as_str()).copied() else { break };
                    let span = self.edges_from..=self.since.saturating_add(within_ms.saturating_mul(1000));
                    let fits = |edge: &(u8, bool, u64)| edge.0 == channel && edge.1 == to && span.contains(&edge.2);
                    // Nor has this come.
                    let Some(at) = self.edges.iter().position(fits) else { break };
                    let micros = self.edges[at].2;
                    self.edges.drain(..=at);
                    self.next(micros);
                }
                Step::Wait(time) => {
                    let until = self.since.saturating_add(time.saturating_mul(1000));
                    if !on_tick || now < until {
                        break;
                    }
                    self.next(until);
                }
            }
        }
        self.conclude(now);
    }

    /// Looks whether all that was wanted is there.
    fn conclude(&mut self, now: u64) {
        let begun = self.begun.is_some() && self.identified;
        let results = self.results.as_ref().map(Results::summary);
        let ended = results.is_none_or(|results| results.ended);
        let bad = results.is_some_and(|results| results.ended && results.bad());
        let said = match &self.trial.pass {
            Some(_) => self.passed.is_some(),
            None => ended,
        };
        let done = self.step >= self.trial.steps.len();
        if begun && ((done && said) || bad) {
            self.close(None, now);
        }
    }

    fn tick(&mut self, up_to: u64, out: &mut Vec<Output>) {
        self.open();
        self.advance(up_to, true, out);
        for stream in self.streams.values_mut() {
            stream.ticked();
        }
        if let Some((_, until)) = &self.closing {
            if up_to >= *until {
                let judgement = self.judgement();
                self.end(judgement, out);
            }
            return;
        }
        if let Some(judgement) = self.overdue(up_to) {
            self.end(judgement, out);
        }
    }

    /// Looks at the lines that have no end yet: a prompt has none.
    fn open(&mut self) {
        let judged = self.channel(None);
        let mut found = Vec::new();
        for (channel, stream) in self.streams.iter() {
            let has = |pattern: &Option<Pattern>| {
                pattern.as_ref().is_some_and(|pattern| stream.found_in_open(pattern, 0).is_some())
            };
            let (line, micros) = stream.open();
            let judged = judged == Some(*channel);
            let fail = has(&self.trial.fail).then(|| line.to_vec());
            found.push((fail, judged && has(&self.identity), judged && has(&self.trial.pass), micros));
        }
        if self.begun.is_none() {
            return;
        }
        for (fail, identity, pass, micros) in found {
            if let Some(line) = fail {
                self.failed(&line, micros);
            }
            self.identify(identity, micros);
            if pass && self.identified {
                self.passed.get_or_insert(micros);
            }
        }
    }

    fn end(&mut self, judgement: Judgement, out: &mut Vec<Output>) {
        self.over = true;
        out.push(Output::Verdict(judgement));
    }

    /// The next moment at which a tick would change something, in microseconds since the job began.
    pub fn deadline(&self) -> Option<u64> {
        if self.over {
            return None;
        }
        let closing = self.closing.as_ref().map(|(_, until)| *until);
        closing.into_iter().chain(self.limits().into_iter().map(|(at, _)| at)).min()
    }
}

/// A text of the board's as it may stand in a cause.
fn quoted(bytes: &[u8]) -> String {
    let cut = bytes.get(..QUOTED_BYTES.min(bytes.len())).unwrap_or_default();
    let text = String::from_utf8_lossy(cut);
    let more = if bytes.len() > QUOTED_BYTES { "…" } else { "" };
    format!("`{}{more}`", escape::line(text.trim_end_matches('\r')))
}
