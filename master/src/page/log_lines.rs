//! A log's records → its lines, one after the other: what is read of a log beside its page, whatever its size.
//!
//! Numbers are those of the page: lines are counted over all channels in the order in which they begin. At most one line
//! of each channel is held.

use super::ansi::Terminal;
use sai_core::axis::Entry;
use sai_core::limits::CHANNELS;
use sai_core::record::{Decoder, Item, Record};
use std::borrow::Cow;
use std::io::{self, Read};

/// Bytes of one line that are looked at; what a longer one says behind them is in the raw log.
const LINE_BYTES: usize = 64 << 10;

/// Bytes read at once.
const READ_BYTES: usize = 128 << 10;

/// One line.
pub struct Line<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// The step that printed it, from 0; none of what comes before the first.
    pub step: Option<u32>,
    /// Whether it was printed as an error.
    pub stderr: bool,
    /// Whether a board had printed it before the job was at it.
    pub before: bool,
    /// What it shows, without what only a terminal obeys.
    pub text: &'a [u8],
}

/// One thing of a log.
pub enum Seen<'a> {
    /// A line.
    Line(Line<'a>),
    /// What happened at a board.
    Entry(Entry),
}

/// What a console had printed before is on a channel of its own, whose name ends so.
const BEFORE: &str = ":before";

/// A line that has begun: its number, and its bytes so far.
#[derive(Default)]
struct Open {
    number: u64,
    bytes: Vec<u8>,
}

#[derive(Default)]
struct Channel {
    stderr: bool,
    before: bool,
    open: Option<Open>,
}

#[derive(Default)]
struct Scanner {
    channels: Vec<Channel>,
    terminal: Terminal,
    step: Option<u32>,
    lines: u64,
    bytes: u64,
}

/// Reads a log and gives each line to `take`, which says whether to go on. At most `most` bytes of output are read.
///
/// Gives whether all was read.
///
/// # Errors
/// The log cannot be read.
pub fn lines(log: &mut dyn Read, most: u64, mut take: impl FnMut(Line<'_>) -> bool) -> io::Result<bool> {
    seen(log, most, |seen| match seen {
        Seen::Line(line) => take(line),
        Seen::Entry(_) => true,
    })
}

/// The same with what happened at a board between them.
///
/// # Errors
/// The log cannot be read.
pub fn seen(log: &mut dyn Read, most: u64, mut take: impl FnMut(Seen<'_>) -> bool) -> io::Result<bool> {
    let (mut decoder, mut scanner) = (Decoder::new(), Scanner::default());
    let mut buffer = vec![0; READ_BYTES];
    let mut more = true;
    while more && scanner.bytes < most {
        let length = match log.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let pushed = decoder.push(buffer.get(..length).unwrap_or_default(), |item| match item {
            _ if !more => {}
            Item::Data { channel, bytes, .. } => more = scanner.data(channel, bytes, &mut take),
            Item::Record(_, record) => more = scanner.record(record, &mut take),
            Item::Later { .. } => more = Entry::of(&item).is_none_or(|entry| take(Seen::Entry(entry))),
        });
        // What is behind damage cannot be told apart from it; the page says so.
        if length == 0 || pushed.is_err() {
            scanner.close(&mut take);
            return Ok(true);
        }
    }
    Ok(!more)
}

/// What a line shows. Most lines are their bytes.
fn shown<'a>(terminal: &mut Terminal, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    // Counted rather than searched for, which the compiler does many bytes at once.
    let odd = bytes.iter().fold(0_u32, |odd, byte| odd | u32::from(matches!(byte, 0x1b | b'\r' | 0x08)));
    if odd == 0 {
        return Cow::Borrowed(bytes);
    }
    terminal.write(bytes);
    Cow::Owned(terminal.take_text().into_bytes())
}

impl Scanner {
    fn data(&mut self, channel: u8, mut bytes: &[u8], take: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        self.bytes += bytes.len() as u64;
        let Some(channel) = self.channels.get_mut(usize::from(channel)) else { return true };
        while !bytes.is_empty() {
            let (part, rest) = match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 1..)),
                None => (bytes, None),
            };
            bytes = rest.unwrap_or_default();
            let (step, stderr, before) = (self.step, channel.stderr, channel.before);
            if rest.is_some() && channel.open.is_none() {
                self.lines += 1;
                let part = part.get(..LINE_BYTES).unwrap_or(part);
                let text = shown(&mut self.terminal, part);
                if !take(Seen::Line(Line { number: self.lines, step, stderr, before, text: &text })) {
                    return false;
                }
                continue;
            }
            let lines = &mut self.lines;
            let open = channel.open.get_or_insert_with(|| {
                *lines += 1;
                Open { number: *lines, bytes: Vec::new() }
            });
            let room = LINE_BYTES.saturating_sub(open.bytes.len()).min(part.len());
            open.bytes.extend_from_slice(part.get(..room).unwrap_or_default());
            if rest.is_some()
                && let Some(open) = channel.open.take()
            {
                let text = shown(&mut self.terminal, &open.bytes);
                if !take(Seen::Line(Line { number: open.number, step, stderr, before, text: &text })) {
                    return false;
                }
            }
        }
        true
    }

    fn record(&mut self, record: Record, take: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        match record {
            Record::Channel(number, start) => {
                let number = usize::from(number);
                if number < CHANNELS && self.channels.len() <= number {
                    self.channels.resize_with(number + 1, Channel::default);
                }
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.stderr = start.name == "stderr";
                    channel.before = start.name.ends_with(BEFORE);
                }
                true
            }
            Record::StepStart(start) => {
                let more = self.close(take);
                self.step = Some(start.step);
                more
            }
            Record::StepEnd(_) | Record::Verdict(_) => self.close(take),
            Record::Note(_) | Record::Artifact(_) | Record::Data(..) => true,
        }
    }

    /// Ends the lines that have no end.
    fn close(&mut self, take: &mut impl FnMut(Seen<'_>) -> bool) -> bool {
        let mut more = true;
        for channel in &mut self.channels {
            let Some(open) = channel.open.take().filter(|_| more) else { continue };
            let text = shown(&mut self.terminal, &open.bytes);
            let (stderr, before) = (channel.stderr, channel.before);
            more = take(Seen::Line(Line { number: open.number, step: self.step, stderr, before, text: &text }));
        }
        more
    }
}

#[cfg(test)]
mod tests {
    use super::super::log_fold::Folder;
    use super::super::raw_text::RawText;
    use super::*;
    use sai_core::record::{ChannelStart, LATER, StepEnd, StepStart, encode};

    /// A log, and the same with records of a later version's between all others.
    fn logs() -> [Vec<u8>; 2] {
        let records = [
            Record::Channel(1, ChannelStart { name: "stdout".to_string() }),
            Record::Channel(2, ChannelStart { name: "stderr".to_string() }),
            Record::StepStart(StepStart { step: 0, text: "make".to_string() }),
            Record::Data(1, b"one\nhalf an ".to_vec()),
            Record::Data(2, b"error: no such file\n".to_vec()),
            Record::Data(1, b"other\nlast".to_vec()),
            Record::Note("kept nothing".to_string()),
            Record::StepEnd(StepEnd { step: 0, status: 2 }),
        ];
        let mut logs = [Vec::new(), Vec::new()];
        for record in records {
            for log in &mut logs {
                encode(&record, 7, log);
            }
            logs[1].extend_from_slice(&[LATER, 1, 3, 4, 4, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, b'\n', 0xff, 2, 7]);
        }
        logs
    }

    #[test]
    fn records_of_later_versions_change_nothing_that_is_shown_or_found() {
        let [plain, later] = logs();
        let read = |log: &[u8]| {
            let mut found = Vec::new();
            let all = lines(&mut &*log, u64::MAX, |line| {
                found.push((line.number, line.step, line.stderr, line.text.to_vec()));
                true
            });
            assert!(all.unwrap());
            found
        };
        assert_eq!(read(&later), read(&plain));
        assert_eq!(read(&plain).len(), 4);
        let shown = |log: &[u8]| {
            let mut folder = Folder::new([1..=u64::MAX]);
            folder.push(log);
            (folder.finish(), folder.lines(), folder.text_bytes())
        };
        assert_eq!(shown(&later), shown(&plain));
        let text = |log: Vec<u8>| {
            let mut text = String::new();
            RawText::new(Box::new(io::Cursor::new(log)), 0).read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(text(later), "one\nhalf an error: no such file\nother\nlast");
    }
}
