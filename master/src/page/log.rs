//! A stored log and which of its lines are wanted → what a page shows of it.
//!
//! A log of a million lines is read through twice, once to count and once to show its two ends, and neither pass keeps more
//! than one line.

use super::log_fold::{Folder, Piece, WINDOW_BYTES};
use super::views::Past;
use std::collections::VecDeque;
use std::io::{self, Read};

/// Lines shown from a long log's beginning.
pub const FIRST_LINES: u64 = 1000;
/// Lines shown from a long log's end, where the errors are, and around a line asked for: as many as a browser paints in a moment.
pub const LAST_LINES: u64 = 3000;
/// Lines shown before and after one that is shown besides the ends.
const NEAR_LINES: u64 = 50;
/// Bytes read at once.
pub const READ_BYTES: usize = 128 << 10;

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
#[derive(Default)]
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

/// All bytes of a log, as they are read.
///
/// # Errors
/// It cannot be read.
pub fn pump(log: &mut dyn Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::super::log_fold::MARKS;
    use super::super::log_fold::tests::{Maker, line, verdict};
    use super::*;
    use sai_core::job::{Fault, Outcome, Verdict};
    use sai_core::record::{Artifact, Record, StepEnd, StepStart};

    fn page(log: &Maker, wanted: Wanted) -> LogPage {
        read(|| Ok(Box::new(io::Cursor::new(log.0.clone()))), wanted).unwrap()
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
        let page = page(&log, Wanted::Ends);
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
        assert_eq!(numbers(&page(&log, Wanted::Ends).pieces), ["1-1000", "gap 1001-17000", "17001-20000"]);
        let around = page(&log, Wanted::Around(10_000, 10_000)).pieces;
        assert_eq!(numbers(&around), ["gap 1-8499", "8500-11500", "gap 11501-20000"]);
        // A range, and lines past the end, of which there are none: the last ones are nearest.
        let around = page(&log, Wanted::Around(100, 2599)).pieces;
        assert_eq!(numbers(&around), ["1-3001", "gap 3002-20000"]);
        let around = page(&log, Wanted::Around(u64::MAX, u64::MAX)).pieces;
        assert_eq!(numbers(&around), ["gap 1-18499", "18500-20000"]);
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
            let page = page(&log, Wanted::Around(wanted, wanted));
            let shown = |piece: &Piece| matches!(piece, Piece::Line { number, .. } if *number == wanted);
            assert!(page.pieces.iter().any(shown), "{wanted}");
            let lines = page.pieces.iter().filter(|piece| matches!(piece, Piece::Line { .. })).count();
            assert!(lines < 250, "{lines}");
        }
    }

    #[test]
    fn a_log_tells_how_its_attempt_ended() {
        let mut log = Maker::new();
        assert!(page(&log, Wanted::Ends).past.verdict.is_none());
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
        let page = page(&log, Wanted::Ends);
        let shown: usize =
            page.pieces.iter().map(|piece| if let Piece::Line { html, .. } = piece { html.len() } else { 0 }).sum();
        assert!(shown > WINDOW_BYTES as usize && shown < 3 * WINDOW_BYTES as usize, "{shown}");
        assert_eq!(page.lines, 300);
        assert!(matches!(page.pieces.last(), Some(Piece::Line { number: 300, .. })));
        assert!(page.pieces.iter().any(|piece| matches!(piece, Piece::Gap(_))));
    }

    #[test]
    fn a_damaged_log_shows_what_came_before() {
        let mut log = Maker::new();
        log.data(1, "good\nhalf");
        log.0.extend_from_slice(&[99; 40]);
        let page = page(&log, Wanted::Ends);
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
        assert_eq!(page(&log, Wanted::Ends).pieces.len(), MARKS + 1);
    }
}
