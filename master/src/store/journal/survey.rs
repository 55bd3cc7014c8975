//! Files of the journal → what of them is as it was written: which lines, whether all, and where the last whole group ends.

use super::{Role, path, read, recognise};
use miniserde::{Deserialize, Serialize, json};
use sai_core::numbers::Numbers;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the journal's form.
const FORMAT: u32 = 1;
/// The first line of a snapshot.
const HEAD: &str = "sai-snapshot";
/// The last line of a snapshot.
const END: &str = "sai-snapshot-end";

/// The first line of a snapshot.
#[derive(Serialize, Deserialize)]
struct Head {
    kind: String,
    format: u32,
    number: u64,
    next_event: u64,
    next_job: u64,
    next_action: u64,
}

#[derive(Serialize, Deserialize)]
struct End {
    kind: String,
    records: u64,
}

pub(super) fn head(number: u64, numbers: Numbers) -> String {
    json::to_string(&Head {
        kind: HEAD.to_string(),
        format: FORMAT,
        number,
        next_event: numbers.event,
        next_job: numbers.job,
        next_action: numbers.action,
    })
}

pub(super) fn end(records: u64) -> String {
    json::to_string(&End { kind: END.to_string(), records })
}

/// Whether a line is one of a snapshot's own, and no record.
pub(in crate::store) fn is_frame(text: &str) -> bool {
    text.starts_with("{\"kind\":\"sai-snapshot")
}

/// Files of the journal by their names: segments and snapshots, each with rising numbers.
///
/// # Errors
/// The disk's.
pub(in crate::store) fn list(directory: &Path) -> io::Result<Vec<(Role, u64)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        found.extend(entry?.file_name().to_str().and_then(recognise));
    }
    found.sort_unstable();
    Ok(found)
}

/// What one file is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Survey {
    pub path: PathBuf,
    /// What its name says.
    pub number: u64,
    /// First and last numbers of good lines without a gap, in the order of the file.
    pub runs: Vec<(u64, u64)>,
    /// Pieces that are no lines.
    pub bad: u64,
    /// Its length.
    pub bytes: u64,
    /// Where its last whole group begins, and where it ends.
    pub group: u64,
    pub whole: u64,
    /// Number of the last line of that group; of a segment without one, of the line before it.
    pub last: u64,
    /// CRC of that line; 0 when there is none.
    pub check: u32,
    /// What its first line says of the next numbers, if it is a snapshot's.
    pub numbers: Option<Numbers>,
    /// Whether all of it is there, as it was written.
    pub intact: bool,
    /// Whether it is a copy of another file.
    pub foreign: bool,
}

impl Survey {
    /// Reads a file and compares all of it.
    pub(in crate::store) fn of(directory: &Path, role: Role, number: u64) -> Self {
        let path = path(directory, role, number);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let (mut bad, mut bytes, mut begun, mut group, mut whole) = (0, 0, 0, 0, 0);
        let (mut last, mut check) = (if role == Role::Segment { number.saturating_sub(1) } else { 0 }, 0);
        let (mut head, mut ended) = (None::<Head>, None::<u64>);
        let opened = read(&path, &mut |line, end| {
            let from = std::mem::replace(&mut bytes, end);
            let Some(line) = line else {
                bad += 1;
                return;
            };
            match runs.last_mut() {
                Some((_, last)) if last.saturating_add(1) == line.number => *last = line.number,
                _ => runs.push((line.number, line.number)),
            }
            if line.place == 1 {
                begun = from;
            }
            let begin = runs.last().map_or(line.number, |run| run.0);
            if line.place == line.of && line.number.saturating_add(1) >= begin.saturating_add(line.of) {
                (group, whole, last, check) = (begun, end, line.number, line.check);
            }
            if role == Role::Snapshot && is_frame(line.text) {
                head = head.take().or_else(|| json::from_str(line.text).ok());
                ended = json::from_str::<End>(line.text).ok().map(|end| end.records);
            }
        });
        // A file that cannot be opened is as good as one bad line.
        bad += u64::from(opened.is_err());
        let first = runs.first().map(|run| run.0);
        let contiguous = bad == 0 && whole == bytes && runs.len() <= 1;
        let head = head.filter(|head| head.kind == HEAD && head.format == FORMAT);
        let (intact, foreign) = match role {
            Role::Segment => (
                contiguous && first.is_none_or(|first| first == number),
                first.is_some_and(|first| first < number || (bad == 0 && first != number)),
            ),
            Role::Snapshot => (
                contiguous
                    && first == Some(1)
                    && ended.and_then(|records| records.checked_add(2)) == Some(last)
                    && head.as_ref().is_some_and(|head| head.number == number),
                head.as_ref().is_some_and(|head| head.number != number),
            ),
        };
        let numbers = head.map(|head| Numbers { event: head.next_event, job: head.next_job, action: head.next_action });
        Self { path, number, runs, bad, bytes, group, whole, last, check, numbers, intact, foreign }
    }
}

/// The numbers in `from..=to` that are in none of the runs, as runs.
pub(in crate::store) fn missing(runs: &mut [(u64, u64)], from: u64, to: u64) -> Vec<(u64, u64)> {
    runs.sort_unstable();
    let (mut next, mut gaps) = (from, Vec::new());
    for (first, last) in runs.iter().copied() {
        if first > to {
            break;
        }
        if first > next {
            gaps.push((next, first - 1));
        }
        next = next.max(last.saturating_add(1));
    }
    if next <= to {
        gaps.push((next, to));
    }
    gaps
}

/// `line 3, lines 5 to 9`.
pub(in crate::store) fn words(runs: &[(u64, u64)]) -> String {
    /// Runs that are named; a person reads no more.
    const NAMED: usize = 8;
    let one = |(first, last): &(u64, u64)| {
        if first == last { format!("line {first}") } else { format!("lines {first} to {last}") }
    };
    let mut words: Vec<String> = runs.iter().take(NAMED).map(one).collect();
    if runs.len() > NAMED {
        words.push(format!("and {} more pieces up to {}", runs.len() - NAMED, runs.last().map_or(0, |run| run.1)));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_and_named() {
        let runs = [(7, 9), (1, 2), (2, 3), (12, 12)];
        assert_eq!(missing(&mut runs.clone(), 1, 13), [(4, 6), (10, 11), (13, 13)]);
        assert_eq!(missing(&mut runs.clone(), 8, 9), []);
        assert_eq!(missing(&mut [], 5, 5), [(5, 5)]);
        assert_eq!(words(&[(4, 6), (10, 10)]), "lines 4 to 6, line 10");
    }
}
