//! A log's records → the lines, steps and notes a page shows of it, in windows, whatever the log's size.
//!
//! Lines are numbered over all channels in the order in which they begin, so a line has its number (and its address)
//! from its first byte on. Outside the wanted windows bytes are only searched for newlines.

use super::ansi::Terminal;
use super::html::Html;
use super::views::Past;
use sai_core::job::Verdict;
use sai_core::limits::CHANNELS;
use sai_core::record::{Artifact, ChannelStart, Decoder, Item, Record, StepEnd, StepStart};
use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Bytes of output shown of each end, whatever the number of lines, so that a page stays one that a phone can hold.
pub const WINDOW_BYTES: u64 = 1 << 20;
/// Steps, notes and gaps on one page; more can only come from an agent that misbehaves.
pub const MARKS: usize = 2000;
/// Bytes of an unfinished line that are kept while nothing of it is shown, for a follower who joins in the middle.
const PENDING_BYTES: usize = 64 << 10;

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
    went_wrong: Option<Piece>,
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
            went_wrong: None,
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
    pub fn channel_names(&self) -> Vec<String> {
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
            channel.open = Some(Open { number: self.lines, shown: false, piece: None, micros: self.micros });
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
                    let end = Piece::StepEnd { step, text: start.text, status, micros };
                    self.went_wrong = (status != 0).then(|| end.clone());
                    self.mark(end);
                }
            }
            Record::Note(text) => self.mark(Piece::Note(text)),
            Record::Verdict(verdict) => {
                self.close_lines();
                self.close_gap();
                self.ended = true;
                self.verdict = Some(verdict.clone());
                // Only the verdict says whether it failed or was ended from outside: who was told of it before is told again.
                self.pieces.extend(self.went_wrong.take().filter(|end| !self.pieces.contains(end)));
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use sai_core::job::{Fault, Outcome};
    use sai_core::ordered::Map;
    use sai_core::record::encode;

    /// A log under construction.
    pub struct Maker(pub Vec<u8>, pub u64);

    impl Maker {
        /// One that has announced its channels.
        pub fn new() -> Self {
            let mut maker = Self(Vec::new(), 0);
            maker.add(&Record::Channel(1, ChannelStart { name: "stdout".to_string() }));
            maker.add(&Record::Channel(2, ChannelStart { name: "stderr".to_string() }));
            maker
        }

        pub fn add(&mut self, record: &Record) {
            self.1 += 1000;
            encode(record, self.1, &mut self.0);
        }

        pub fn data(&mut self, channel: u8, text: &str) {
            self.add(&Record::Data(channel, text.as_bytes().to_vec()));
        }
    }

    /// A line as it is shown.
    pub fn line(number: u64, channel: &str, micros: u64, text: &str) -> Piece {
        let mut html = Html::new();
        html.text(text);
        Piece::Line { number, channel: channel.to_string(), micros, html }
    }

    /// How a job ends that passes.
    pub fn verdict() -> Verdict {
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
            assert!(after.iter().all(|piece| !matches!(piece, Piece::Line { micros: 0, .. })), "{at}: {after:?}");
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
    fn a_step_that_went_wrong_is_told_again_with_the_verdict_that_says_why() {
        let mut log = Maker::new();
        log.add(&Record::StepStart(StepStart { step: 0, text: "make".to_string() }));
        log.add(&Record::StepEnd(StepEnd { step: 0, status: 143 }));
        let cut = log.0.len();
        log.add(&Record::Verdict(verdict()));
        let end = Piece::StepEnd { step: 0, text: "make".to_string(), status: 143, micros: 1000 };
        // One after the other, as a page that is open hears of them, and at once.
        for pieces in [vec![&log.0[..cut], &log.0[cut..]], vec![&log.0[..]]] {
            let mut folder = Folder::new([1..=u64::MAX]);
            let mut taken = Vec::new();
            for bytes in pieces {
                folder.push(bytes);
                taken = folder.take();
                assert_eq!(taken.iter().filter(|piece| **piece == end).count(), 1, "{taken:?}");
            }
            assert_eq!(taken.last(), Some(&Piece::Verdict(verdict())));
        }
    }
}
