//! A log's records → the lines, steps and notes a page shows of it, in windows, whatever the log's size.
//!
//! Lines are numbered over all channels in the order in which they begin, so a line has its number (and its address)
//! from its first byte on. Outside the wanted windows bytes are only searched for newlines: a log of a million lines is
//! read through twice, once to count and once to show its two ends, and neither pass keeps more than one line.

use super::ansi::Terminal;
use super::html::Html;
use super::views::Past;
use sai_core::job::Verdict;
use sai_core::limits::CHANNELS;
use sai_core::record::{Artifact, ChannelStart, Decoder, Item, Record, StepEnd, StepStart};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::RangeInclusive;

/// Lines shown from a long log's beginning.
pub const FIRST_LINES: u64 = 1000;
/// Lines shown from a long log's end, where the errors are, and around a line asked for.
pub const LAST_LINES: u64 = 5000;
/// Lines shown before and after one that is shown besides the ends.
const NEAR_LINES: u64 = 50;
/// Bytes of output shown of each end, whatever the number of lines, so that a page stays one that a phone can hold.
const WINDOW_BYTES: u64 = 1 << 20;
/// Steps, notes and gaps on one page; more can only come from an agent that misbehaves.
const MARKS: usize = 2000;
/// Bytes of an unfinished line that are kept while nothing of it is shown, for a follower who joins in the middle.
const PENDING_BYTES: usize = 64 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 128 << 10;

/// What a page shows of a log, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A step begins.
    StepStart {
        /// Its index, from 0.
        step: u32,
        /// What is run.
        text: String,
    },
    /// A step has ended.
    StepEnd {
        /// Its index, from 0.
        step: u32,
        /// What was run.
        text: String,
        /// Its exit status.
        status: i32,
        /// How long it took, microseconds.
        micros: u64,
    },
    /// A line of output; the same number again replaces it.
    Line {
        /// Its number, from 1.
        number: u64,
        /// Name of its channel.
        channel: String,
        /// When it began, microseconds since the job began.
        micros: u64,
        /// What it shows.
        html: Html,
    },
    /// A line of Sai's own.
    Note(String),
    /// Lines that are not on this page.
    Gap(RangeInclusive<u64>),
    /// The end.
    Verdict(Verdict),
    /// From here on the log cannot be read.
    Damage(String),
}

struct Open {
    number: u64,
    shown: bool,
    piece: Option<usize>,
    micros: u64,
}

#[derive(Default)]
struct Channel {
    name: String,
    // Apart, since channels are moved about for each piece of output and a parser's state is more than a kilobyte.
    shown: Option<Box<Terminal>>,
    open: Option<Open>,
    pending: Vec<u8>,
}

/// Folds a log into pieces.
pub struct Folder {
    decoder: Decoder,
    windows: VecDeque<RangeInclusive<u64>>,
    budget: u64,
    // By number; there are at most `CHANNELS`.
    channels: Vec<Channel>,
    pieces: Vec<Piece>,
    marks: usize,
    gap: Option<u64>,
    step: Option<(StepStart, u64)>,
    lines: u64,
    offset: u64,
    text_bytes: u64,
    ended: bool,
    damaged: bool,
    micros: u64,
    verdict: Option<Verdict>,
    artifacts: Vec<Artifact>,
}

impl Channel {
    fn terminal(&mut self) -> &mut Terminal {
        self.shown.get_or_insert_default()
    }
}

impl Folder {
    /// A folder at the first byte of a log that shows the lines of `windows`, which are in rising order.
    pub fn new(windows: impl IntoIterator<Item = RangeInclusive<u64>>) -> Self {
        Self {
            decoder: Decoder::new(),
            windows: windows.into_iter().collect(),
            budget: WINDOW_BYTES,
            channels: Vec::new(),
            pieces: Vec::new(),
            marks: 0,
            gap: None,
            step: None,
            lines: 0,
            offset: 0,
            text_bytes: 0,
            ended: false,
            damaged: false,
            micros: 0,
            verdict: None,
            artifacts: Vec::new(),
        }
    }

    /// What the log tells of its attempt so far, all artifacts it announced among it.
    pub fn past(&mut self) -> Past {
        let artifacts = std::mem::take(&mut self.artifacts);
        Past { verdict: self.verdict.clone(), millis: self.micros / 1000, artifacts }
    }

    /// Names of the channels that were announced.
    fn channel_names(&self) -> Vec<String> {
        self.channels.iter().map(|channel| channel.name.clone()).filter(|name| !name.is_empty()).collect()
    }

    /// Lines begun so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes of the log taken so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes of output so far: the length of the raw download.
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Whether nothing more can come: the verdict was seen, or the log is damaged.
    pub fn ended(&self) -> bool {
        self.ended || self.damaged
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.damaged {
            return;
        }
        self.offset += bytes.len() as u64;
        let mut decoder = std::mem::take(&mut self.decoder);
        let result = decoder.push(bytes, |item| match item {
            Item::Data { channel, micros, bytes } => {
                self.micros = micros;
                self.data(channel, micros, bytes);
            }
            Item::Record(micros, record) => {
                self.micros = micros;
                self.record(micros, record);
            }
            Item::Later { micros, .. } => self.micros = micros,
        });
        self.decoder = decoder;
        if let Err(what) = result {
            self.damaged = true;
            self.close_lines();
            self.close_gap();
            self.pieces.push(Piece::Damage(what));
        }
    }

    /// Everything from here on is shown, beginning with the lines that are under way.
    pub fn follow(&mut self) {
        self.gap = None;
        self.windows = VecDeque::from([self.lines + 1..=u64::MAX]);
        for channel in &mut self.channels {
            if let Some(open) = channel.open.as_mut().filter(|open| !open.shown) {
                open.shown = true;
                let mut terminal = Box::new(Terminal::new());
                terminal.write(&channel.pending);
                channel.pending.clear();
                channel.shown = Some(terminal);
            }
        }
    }

    /// Nothing is shown until [`Folder::follow`].
    pub fn skip(&mut self) {
        self.windows.clear();
        for channel in &mut self.channels {
            if let Some(open) = &mut channel.open {
                open.shown = false;
                open.piece = None;
                channel.pending.clear();
            }
        }
    }

    /// What is new since the last call. Lines under way are shown as they stand, and come again when they change.
    pub fn take(&mut self) -> Vec<Piece> {
        for channel in &mut self.channels {
            let Some(index) = channel.open.as_mut().and_then(|open| open.piece.take()) else { continue };
            if let Some(Piece::Line { html, .. }) = self.pieces.get_mut(index) {
                *html = channel.terminal().html();
            }
        }
        std::mem::take(&mut self.pieces)
    }

    /// What is new, with the gap at the end if there is one.
    pub fn finish(&mut self) -> Vec<Piece> {
        self.close_gap();
        self.take()
    }

    fn shows(&mut self, line: u64) -> bool {
        while self.windows.front().is_some_and(|window| *window.end() < line) {
            self.windows.pop_front();
            self.budget = WINDOW_BYTES;
        }
        self.windows.front().is_some_and(|window| window.contains(&line))
    }

    fn data(&mut self, number: u8, micros: u64, mut bytes: &[u8]) {
        self.text_bytes += bytes.len() as u64;
        // The channel is taken out of its place while it is worked on, so that lines can be counted beside it.
        let Some(mut channel) = self.channels.get_mut(usize::from(number)).map(std::mem::take) else { return };
        while !bytes.is_empty() {
            let mut open = match channel.open.take() {
                Some(open) => open,
                None => {
                    let next = self.lines + 1;
                    if !self.shows(next) {
                        bytes = self.skip_lines(&mut channel, next, bytes);
                        continue;
                    }
                    self.close_gap();
                    self.lines = next;
                    Open { number: next, shown: true, piece: None, micros }
                }
            };
            let (part, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
                None => (bytes, None),
            };
            bytes = rest.unwrap_or_default();
            if open.shown {
                channel.terminal().write(part);
                self.spend(open.number, part.len());
                let index = *open.piece.get_or_insert_with(|| {
                    let (number, channel, micros) = (open.number, channel.name.clone(), open.micros);
                    self.pieces.push(Piece::Line { number, channel, micros, html: Html::new() });
                    self.pieces.len() - 1
                });
                if rest.is_some() {
                    if let Some(Piece::Line { html, .. }) = self.pieces.get_mut(index) {
                        *html = channel.terminal().newline();
                    }
                    continue;
                }
            } else if rest.is_some() {
                channel.pending.clear();
                continue;
            } else {
                let room = PENDING_BYTES.saturating_sub(channel.pending.len()).min(part.len());
                channel.pending.extend_from_slice(part.get(..room).unwrap_or_default());
            }
            channel.open = Some(open);
        }
        if let Some(place) = self.channels.get_mut(usize::from(number)) {
            *place = channel;
        }
    }

    /// Passes over lines from `next` on that no window holds, and gives what is left of `bytes`.
    fn skip_lines<'a>(&mut self, channel: &mut Channel, next: u64, bytes: &'a [u8]) -> &'a [u8] {
        let until = self.windows.front().map_or(u64::MAX, |window| *window.start());
        let (taken, newlines) = pass_newlines(bytes, until.saturating_sub(next));
        let (passed, rest) = bytes.split_at(taken);
        self.gap.get_or_insert(next);
        self.lines += newlines;
        if passed.last() != Some(&b'\n') {
            self.lines += 1;
            let start = passed.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let tail = passed.get(start..).unwrap_or_default();
            channel.pending.clear();
            channel.pending.extend_from_slice(tail.get(..PENDING_BYTES).unwrap_or(tail));
            channel.open = Some(Open { number: self.lines, shown: false, piece: None, micros: 0 });
        }
        rest
    }

    /// Counts what was shown; a window that shows too much ends early, unless it is the last, which its maker bounded.
    fn spend(&mut self, line: u64, bytes: usize) {
        self.budget = self.budget.saturating_sub(bytes as u64);
        if self.budget == 0
            && self.windows.len() > 1
            && let Some(window) = self.windows.front_mut()
        {
            *window = *window.start()..=line;
        }
    }

    fn close_gap(&mut self) {
        if let Some(first) = self.gap.take() {
            self.mark(Piece::Gap(first..=self.lines));
        }
    }

    fn close_lines(&mut self) {
        for channel in &mut self.channels {
            channel.pending.clear();
            let Some(open) = channel.open.take().filter(|open| open.shown) else { continue };
            let html = channel.terminal().newline();
            match open.piece.and_then(|index| self.pieces.get_mut(index)) {
                Some(Piece::Line { html: shown, .. }) => *shown = html,
                _ => {
                    let (number, channel, micros) = (open.number, channel.name.clone(), open.micros);
                    self.pieces.push(Piece::Line { number, channel, micros, html });
                }
            }
        }
    }

    fn mark(&mut self, piece: Piece) {
        self.marks += 1;
        if self.marks < MARKS || matches!(piece, Piece::Verdict(_)) {
            self.pieces.push(piece);
        } else if self.marks == MARKS {
            self.pieces.push(Piece::Note("more steps and notes are left out; the raw records have them".to_string()));
        }
    }

    fn record(&mut self, micros: u64, record: Record) {
        match record {
            Record::Channel(number, ChannelStart { name }) => {
                let number = usize::from(number);
                if number < CHANNELS && self.channels.len() <= number {
                    self.channels.resize_with(number + 1, Channel::default);
                }
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.name = name;
                }
            }
            Record::StepStart(start) => {
                self.close_lines();
                self.close_gap();
                self.mark(Piece::StepStart { step: start.step, text: start.text.clone() });
                self.step = Some((start, micros));
            }
            Record::StepEnd(StepEnd { step, status }) => {
                self.close_lines();
                self.close_gap();
                if let Some((start, since)) = self.step.take().filter(|(start, _)| start.step == step) {
                    let micros = micros.saturating_sub(since);
                    self.mark(Piece::StepEnd { step, text: start.text, status, micros });
                }
            }
            Record::Note(text) => self.mark(Piece::Note(text)),
            Record::Verdict(verdict) => {
                self.close_lines();
                self.close_gap();
                self.ended = true;
                self.verdict = Some(verdict.clone());
                self.mark(Piece::Verdict(verdict));
            }
            // Shown from the job's record as long as that tells of this attempt.
            Record::Artifact(artifact) => self.artifacts.push(artifact),
            Record::Data(..) => {}
        }
    }
}

fn count_newlines(bytes: &[u8]) -> u64 {
    // Sums of at most 255 fit a byte, which lets the compiler compare many bytes at once.
    bytes.chunks(255).map(|chunk| u64::from(chunk.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>())).sum()
}

/// How many bytes hold the first `wanted` lines, and how many newlines are in them; all of `bytes` if there are fewer.
fn pass_newlines(bytes: &[u8], wanted: u64) -> (usize, u64) {
    let (mut taken, mut passed) = (0, 0);
    for chunk in bytes.chunks(4096) {
        let newlines = count_newlines(chunk);
        if passed + newlines >= wanted {
            for (at, _) in chunk.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
                passed += 1;
                if passed >= wanted {
                    return (taken + at + 1, passed);
                }
            }
        } else {
            passed += newlines;
        }
        taken += chunk.len();
    }
    (taken, passed)
}

/// Which part of a log a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its beginning and its end.
    Ends,
    /// Those, and the lines around this one.
    EndsAnd(u64),
    /// The lines around these.
    Around(u64, u64),
}

/// What a page shows of a log.
pub struct LogPage {
    /// The pieces, in order.
    pub pieces: Vec<Piece>,
    /// All its lines.
    pub lines: u64,
    /// Bytes of the log that were read: where a follower goes on.
    pub offset: u64,
    /// Whether its verdict was seen.
    pub ended: bool,
    /// What it tells of its attempt.
    pub past: Past,
    /// Names of its channels.
    pub channels: Vec<String>,
}

/// Reads a log twice: to count, and to show.
///
/// # Errors
/// The log cannot be opened or read.
pub fn read(open: impl Fn() -> io::Result<Box<dyn Read + Send>>, wanted: Wanted) -> io::Result<LogPage> {
    let (target, most) = match wanted {
        Wanted::Ends | Wanted::EndsAnd(_) => (u64::MAX, WINDOW_BYTES),
        // Of what one page can hold, one half may come before the lines that were asked for.
        Wanted::Around(first, _) => (first, WINDOW_BYTES / 2),
    };
    let (lines, from) = survey(&mut *open()?, target, most)?;
    let windows = match wanted {
        // Where the two meet there is no gap, unless the first one uses up its budget of bytes.
        Wanted::Ends => {
            let last = from.max(lines.saturating_sub(LAST_LINES) + 1);
            vec![1..=FIRST_LINES.min(last - 1), last..=u64::MAX]
        }
        Wanted::EndsAnd(line) => {
            let last = from.max(lines.saturating_sub(LAST_LINES) + 1);
            let first = FIRST_LINES.min(last - 1);
            let near = line.saturating_sub(NEAR_LINES).max(first + 1)..=line.saturating_add(NEAR_LINES).min(last - 1);
            // Where the line is in one of the ends there is nothing between them.
            [1..=first, near, last..=u64::MAX].into_iter().filter(|window| !window.is_empty()).collect()
        }
        Wanted::Around(first, last) => {
            let (first, last) = (first.min(lines).max(1), last.min(lines));
            let around = LAST_LINES.saturating_sub(last.saturating_sub(first)) / 2;
            let first = first.saturating_sub(around).max(from);
            // A second, unreachable window keeps the first one under its budget of bytes.
            vec![first..=first.saturating_add(LAST_LINES), u64::MAX..=u64::MAX]
        }
    };
    let mut folder = Folder::new(windows);
    pump(&mut *open()?, |bytes| folder.push(bytes))?;
    let pieces = folder.finish();
    let lines = lines.max(folder.lines());
    let channels = folder.channel_names();
    Ok(LogPage { pieces, lines, offset: folder.offset(), ended: folder.ended(), past: folder.past(), channels })
}

/// What a log tells of its attempt.
///
/// # Errors
/// It cannot be read.
pub fn past(log: &mut dyn Read) -> io::Result<Past> {
    let mut folder = Folder::new([]);
    pump(log, |bytes| folder.push(bytes))?;
    Ok(folder.past())
}

/// All lines of a log, and the first of those before `target` (or before its end) from which on there are about `most`
/// bytes of output at most.
fn survey(log: &mut dyn Read, target: u64, most: u64) -> io::Result<(u64, u64)> {
    let mut folder = Folder::new([]);
    // Where the last `most` bytes begin: lines and bytes before each piece read.
    let mut ring: VecDeque<(u64, u64)> = VecDeque::new();
    let mut until = 0;
    pump(log, |bytes| {
        let sought = folder.lines() < target;
        if sought {
            ring.push_back((folder.lines(), folder.text_bytes()));
        }
        folder.push(bytes);
        if sought {
            until = folder.text_bytes();
            while ring.get(1).is_some_and(|(_, before)| until - before >= most) {
                ring.pop_front();
            }
        }
    })?;
    let from = match ring.front() {
        Some((before, text)) if until - text >= most => before + 1,
        _ => 1,
    };
    Ok((folder.lines(), from))
}

fn pump(log: &mut dyn Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match log.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => take(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A log's output alone, byte for byte as it was printed, all channels in the order seen.
pub struct RawText {
    log: Box<dyn Read + Send>,
    decoder: Decoder,
    text: Vec<u8>,
    at: usize,
    skip: u64,
}

impl RawText {
    /// The output of `log` from its byte `from` on.
    pub fn new(log: Box<dyn Read + Send>, from: u64) -> Self {
        Self { log, decoder: Decoder::new(), text: Vec::new(), at: 0, skip: from }
    }

    /// How many bytes of output a log holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn measure(log: &mut dyn Read) -> io::Result<u64> {
        let mut folder = Folder::new([]);
        pump(log, |bytes| folder.push(bytes))?;
        Ok(folder.text_bytes())
    }
}

impl Read for RawText {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut buffer = Vec::new();
        while self.at == self.text.len() {
            buffer.resize(READ_BYTES, 0);
            let length = self.log.read(&mut buffer)?;
            if length == 0 {
                return Ok(0);
            }
            self.text.clear();
            self.at = 0;
            let (text, skip) = (&mut self.text, &mut self.skip);
            let result = self.decoder.push(buffer.get(..length).unwrap_or_default(), |item| {
                if let Item::Data { bytes, .. } = item {
                    let passed = usize::try_from(*skip).unwrap_or(usize::MAX).min(bytes.len());
                    *skip -= passed as u64;
                    text.extend_from_slice(bytes.get(passed..).unwrap_or_default());
                }
            });
            if let (Err(what), true) = (result, self.text.is_empty()) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
        let ready = self.text.get(self.at..).unwrap_or_default();
        let length = ready.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), ready.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::job::{Fault, Outcome};
    use sai_core::ordered::Map;
    use sai_core::record::encode;

    /// A log under construction.
    struct Maker(Vec<u8>, u64);

    impl Maker {
        fn new() -> Self {
            let mut maker = Self(Vec::new(), 0);
            maker.add(&Record::Channel(1, ChannelStart { name: "stdout".to_string() }));
            maker.add(&Record::Channel(2, ChannelStart { name: "stderr".to_string() }));
            maker
        }

        fn add(&mut self, record: &Record) {
            self.1 += 1000;
            encode(record, self.1, &mut self.0);
        }

        fn data(&mut self, channel: u8, text: &str) {
            self.add(&Record::Data(channel, text.as_bytes().to_vec()));
        }

        fn page(&self, wanted: Wanted) -> LogPage {
            read(|| Ok(Box::new(io::Cursor::new(self.0.clone()))), wanted).unwrap()
        }
    }

    fn line(number: u64, channel: &str, micros: u64, text: &str) -> Piece {
        let mut html = Html::new();
        html.text(text);
        Piece::Line { number, channel: channel.to_string(), micros, html }
    }

    fn verdict() -> Verdict {
        Verdict {
            outcome: Outcome::Passed,
            fault: Fault::Nobody,
            cause: String::new(),
            step: None,
            status: Some(0),
            trouble: None,
            verdict: None,
        }
    }

    #[test]
    fn channels_interleave_and_lines_keep_the_order_in_which_they_began() {
        let mut log = Maker::new();
        log.add(&Record::StepStart(StepStart { step: 0, text: "make".to_string() }));
        log.data(1, "hal");
        log.data(2, "warning\n");
        log.data(1, "lo\nno newline");
        log.add(&Record::StepEnd(StepEnd { step: 0, status: 2 }));
        log.add(&Record::Note("kept 1 file".to_string()));
        log.add(&Record::Verdict(verdict()));
        let page = log.page(Wanted::Ends);
        assert_eq!((page.lines, page.offset, page.ended), (3, log.0.len() as u64, true));
        assert_eq!(
            page.pieces,
            [
                Piece::StepStart { step: 0, text: "make".to_string() },
                line(1, "stdout", 4000, "hallo"),
                line(2, "stderr", 5000, "warning"),
                line(3, "stdout", 6000, "no newline"),
                Piece::StepEnd { step: 0, text: "make".to_string(), status: 2, micros: 4000 },
                Piece::Note("kept 1 file".to_string()),
                Piece::Verdict(verdict()),
            ]
        );
    }

    fn numbers(pieces: &[Piece]) -> Vec<String> {
        let mut out: Vec<(u64, u64, bool)> = Vec::new();
        for piece in pieces {
            let (first, last, gap) = match piece {
                Piece::Line { number, html, .. } => {
                    assert_eq!(html.as_str(), format!("line {number}"));
                    (*number, *number, false)
                }
                Piece::Gap(lines) => (*lines.start(), *lines.end(), true),
                _ => continue,
            };
            match out.last_mut() {
                Some(before) if !before.2 && !gap && before.1 + 1 == first => before.1 = last,
                _ => out.push((first, last, gap)),
            }
        }
        out.iter().map(|(first, last, gap)| format!("{}{first}-{last}", if *gap { "gap " } else { "" })).collect()
    }

    #[test]
    fn a_long_log_shows_its_ends_or_the_lines_around_one() {
        let mut log = Maker::new();
        for number in 1..=20_000 {
            // Records that end anywhere in a line.
            let text = format!("line {number}\n");
            let (head, tail) = text.split_at(number % text.len());
            log.data(1, head);
            log.data(1, tail);
        }
        assert_eq!(numbers(&log.page(Wanted::Ends).pieces), ["1-1000", "gap 1001-15000", "15001-20000"]);
        let around = log.page(Wanted::Around(10_000, 10_000)).pieces;
        assert_eq!(numbers(&around), ["gap 1-7499", "7500-12500", "gap 12501-20000"]);
        // A range, and lines past the end, of which there are none: the last ones are nearest.
        let around = log.page(Wanted::Around(100, 4099)).pieces;
        assert_eq!(numbers(&around), ["1-5001", "gap 5002-20000"]);
        let around = log.page(Wanted::Around(u64::MAX, u64::MAX)).pieces;
        assert_eq!(numbers(&around), ["gap 1-17499", "17500-20000"]);
    }

    #[test]
    fn a_line_that_is_asked_for_is_shown_however_long_those_before_it_are() {
        let mut log = Maker::new();
        let long = "x".repeat(10_000);
        for _ in 0..400 {
            log.data(1, &long);
            log.data(1, "\n");
        }
        for wanted in [1, 2, 60, 200, 300, 400] {
            let page = log.page(Wanted::Around(wanted, wanted));
            let shown = |piece: &Piece| matches!(piece, Piece::Line { number, .. } if *number == wanted);
            assert!(page.pieces.iter().any(shown), "{wanted}");
            let lines = page.pieces.iter().filter(|piece| matches!(piece, Piece::Line { .. })).count();
            assert!(lines < 250, "{lines}");
        }
    }

    #[test]
    fn a_log_tells_how_its_attempt_ended() {
        let mut log = Maker::new();
        assert!(log.page(Wanted::Ends).past.verdict.is_none());
        let artifact =
            Artifact { stream: 1, path: "a".to_string(), size: 1, sha256: "ab".repeat(32), executable: false };
        log.add(&Record::Artifact(artifact.clone()));
        let verdict = Verdict {
            outcome: Outcome::Cancelled,
            fault: Fault::Person,
            cause: "cancelled by ann".to_string(),
            step: Some(0),
            status: Some(143),
            trouble: None,
            verdict: None,
        };
        log.1 = 64_000_000;
        log.add(&Record::Verdict(verdict.clone()));
        let told = past(&mut io::Cursor::new(log.0.clone())).unwrap();
        assert_eq!((told.verdict, told.millis, told.artifacts), (Some(verdict), 64_001, vec![artifact]));
    }

    #[test]
    fn each_end_is_bounded_in_bytes_too() {
        let mut log = Maker::new();
        let long = "x".repeat(60_000);
        for _ in 0..300 {
            log.data(1, &long);
            log.data(1, "\n");
        }
        let page = log.page(Wanted::Ends);
        let shown: usize =
            page.pieces.iter().map(|piece| if let Piece::Line { html, .. } = piece { html.len() } else { 0 }).sum();
        assert!(shown > WINDOW_BYTES as usize && shown < 3 * WINDOW_BYTES as usize, "{shown}");
        assert_eq!(page.lines, 300);
        assert!(matches!(page.pieces.last(), Some(Piece::Line { number: 300, .. })));
        assert!(page.pieces.iter().any(|piece| matches!(piece, Piece::Gap(_))));
    }

    #[test]
    fn a_follower_goes_on_in_the_middle_of_a_line() {
        let mut log = Maker::new();
        log.data(1, "one\ntwo-a");
        let cut = log.0.len();
        log.data(1, "two-b");
        log.data(1, "\nthree\n");
        for at in (cut..log.0.len()).chain(0..cut) {
            let mut folder = Folder::new([]);
            folder.push(&log.0[..at]);
            folder.follow();
            let before = folder.take();
            folder.push(&log.0[at..]);
            let mut after = before;
            after.extend(folder.take());
            let last: Map<u64, String> = after
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Line { number, html, .. } => Some((*number, html.as_str().to_string())),
                    _ => None,
                })
                .collect();
            let texts: Vec<_> = last.values().map(String::as_str).collect();
            assert!(["one", "two-atwo-b", "three"].ends_with(&texts), "{at}: {texts:?}");
            assert!(at >= log.0.len() - 6 || texts.last() == Some(&"three"), "{at}: {texts:?}");
        }
    }

    #[test]
    fn lines_under_way_come_again_until_they_are_whole() {
        let mut log = Maker::new();
        let mut folder = Folder::new([1..=u64::MAX]);
        folder.push(&log.0);
        let mut shown = Vec::new();
        for text in ["10%", "\r20%", "\r100%\n", "next\n"] {
            log.0.clear();
            log.data(1, text);
            folder.push(&log.0);
            shown.extend(folder.take());
        }
        assert_eq!(
            shown,
            [
                line(1, "stdout", 3000, "10%"),
                line(1, "stdout", 3000, "20%"),
                line(1, "stdout", 3000, "100%"),
                line(2, "stdout", 6000, "next"),
            ]
        );
        assert!(folder.take().is_empty());
    }

    #[test]
    fn a_damaged_log_shows_what_came_before() {
        let mut log = Maker::new();
        log.data(1, "good\nhalf");
        log.0.extend_from_slice(&[99; 40]);
        let page = log.page(Wanted::Ends);
        assert!(page.ended);
        assert!(matches!(
            page.pieces.as_slice(),
            [Piece::Line { number: 1, .. }, Piece::Line { number: 2, .. }, Piece::Damage(_)]
        ));
    }

    #[test]
    fn marks_are_bounded() {
        let mut log = Maker::new();
        for _ in 0..10_000 {
            log.add(&Record::Note("again".to_string()));
        }
        log.add(&Record::Verdict(verdict()));
        assert_eq!(log.page(Wanted::Ends).pieces.len(), MARKS + 1);
    }

    #[test]
    fn the_raw_text_is_what_was_printed_from_any_byte_on() {
        let mut log = Maker::new();
        let mut printed = String::new();
        for number in 0..500 {
            let text = format!("{number}\0\u{1b}[31m\n");
            log.data(1 + (number % 2) as u8, &text);
            printed.push_str(&text);
            log.add(&Record::Note("not printed".to_string()));
        }
        assert_eq!(RawText::measure(&mut log.0.as_slice()).unwrap(), printed.len() as u64);
        for from in [0, 1, 1234, printed.len(), printed.len() + 5] {
            let mut text = Vec::new();
            RawText::new(Box::new(io::Cursor::new(log.0.clone())), from as u64).read_to_end(&mut text).unwrap();
            assert_eq!(text, printed.as_bytes().get(from..).unwrap_or_default());
        }
    }
}
