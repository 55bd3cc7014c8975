//! What a console had, and what was sent to it → the last of it, for any number of readers, each at its own place.
//!
//! A reader that is late is told how many bytes it missed, and costs nobody else anything. What is kept while nobody reads is what
//! the board did between two jobs.

use crate::ring::{PIECE_BYTES, Ring};
use sai_core::console::{Entry, Piece, Why};
use std::collections::VecDeque;

/// Bytes that are kept of a console at least.
pub const KEPT_BYTES: usize = 256 * 1024;
/// Nanoseconds of bytes that are put together while nobody reads: 256 KiB would take ten times as much otherwise.
const TOGETHER_NS: u64 = 100_000_000;
/// Entries at most: the smallest are notes, and bytes that come one by one.
const ENTRIES_MAX: usize = 64 * 1024;

/// The place of a reader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the next entry, counted from the first that there ever was.
    entry: u64,
    /// Bytes of the channel that it has, with those that it was told are missing.
    offset: u64,
}

/// The memory. See the file's first line.
#[derive(Debug)]
pub struct History {
    entries: VecDeque<Entry>,
    /// Number of the first of them.
    first: u64,
    room: usize,
    held: usize,
    end: u64,
}

impl History {
    /// A memory for a tty of so many bits a second.
    pub fn new(baud: u32) -> Self {
        let room = Ring::room_for(baud).max(KEPT_BYTES);
        History { entries: VecDeque::new(), first: 0, room, held: 0, end: 0 }
    }

    /// Bytes of the channel until now.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// What is kept, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Keeps an entry. Whether somebody reads says how fine the stamps are to be.
    pub fn push(&mut self, entry: Entry, read: bool) {
        self.end = self.end.max(entry.end());
        self.held += entry.held();
        if let (
            false,
            Some(Entry::Came(Piece::Bytes { offset: begin, ns: began, bytes: before })),
            Entry::Came(Piece::Bytes { offset, ns, bytes }),
        ) = (read, self.entries.back_mut(), &entry)
            // What another version has between them is not here.
            && *begin + before.len() as u64 == *offset
            && before.len() + bytes.len() <= PIECE_BYTES
            && ns.saturating_sub(*began) < TOGETHER_NS
        {
            before.extend_from_slice(bytes);
        } else {
            self.entries.push_back(entry);
        }
        while self.held > self.room || self.entries.len() > ENTRIES_MAX {
            let Some(gone) = self.entries.pop_front() else { return };
            self.held -= gone.held();
            self.first += 1;
        }
    }

    /// The place behind all that there is.
    pub fn now(&self) -> Place {
        Place { entry: self.first + self.entries.len() as u64, offset: self.end }
    }

    /// The place of the oldest that is kept.
    pub fn oldest(&self) -> Place {
        let offset = self.entries.front().map_or(self.end, Entry::offset);
        Place { entry: self.first, offset }
    }

    /// The place of a reader that has so many bytes of the channel. One that has more than there ever were has them of another.
    pub fn at(&self, offset: u64) -> Place {
        if offset > self.end {
            return self.oldest();
        }
        let before = self.entries.iter().take_while(|entry| entry.end() <= offset && entry.offset() < offset).count();
        Place { entry: self.first + before as u64, offset }
    }

    /// The next entry for a reader, whose place moves on. What it missed is an entry of its own.
    pub fn next(&self, place: &mut Place) -> Option<Entry> {
        place.entry = place.entry.max(self.first);
        let index = usize::try_from(place.entry - self.first).ok()?;
        let entry = self.entries.get(index)?.clone();
        if entry.offset() > place.offset {
            let lost = Some(entry.offset() - place.offset);
            let missed = Piece::Lost { offset: place.offset, ns: entry.ns(), lost, why: Why::Full };
            place.offset = entry.offset();
            return Some(Entry::Came(missed));
        }
        place.entry += 1;
        let had = place.offset.saturating_sub(entry.offset());
        place.offset = place.offset.max(entry.end());
        match entry {
            // A reader that came back has the beginning of it.
            Entry::Came(Piece::Bytes { offset, ns, bytes }) if had > 0 => {
                let rest = bytes.get(usize::try_from(had).ok()?..).unwrap_or_default().to_vec();
                Some(Entry::Came(Piece::Bytes { offset: offset + had, ns, bytes: rest }))
            }
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(offset: u64, ns: u64, count: usize) -> Entry {
        let bytes = (0..count).map(|index| (offset as usize + index) as u8).collect();
        Entry::Came(Piece::Bytes { offset, ns, bytes })
    }

    /// All that a reader gets from its place on: bytes kept, and bytes missed.
    fn read(history: &History, place: &mut Place) -> (u64, u64) {
        let (mut kept, mut lost) = (0, 0);
        let mut at = place.offset;
        while let Some(entry) = history.next(place) {
            assert!(entry.offset() >= at);
            at = entry.end();
            match entry {
                Entry::Came(Piece::Bytes { offset, bytes, .. }) => {
                    assert!(bytes.iter().zip(offset..).all(|(byte, at)| *byte == at as u8));
                    kept += bytes.len() as u64;
                }
                Entry::Came(Piece::Lost { lost: Some(count), .. }) => lost += count,
                other => panic!("{other:?}"),
            }
        }
        (kept, lost)
    }

    #[test]
    fn each_reader_has_all_of_it_or_the_number_of_what_it_missed() {
        let mut history = History::new(9_600);
        let (mut quick, mut slow, mut all) = (history.now(), history.now(), (0, 0));
        for index in 0..1_000 {
            history.push(bytes(index * 1_000, index * 1_000_000, 1_000), true);
            let (kept, lost) = read(&history, &mut quick);
            all = (all.0 + kept, all.1 + lost);
        }
        assert_eq!(all, (1_000_000, 0));
        let (kept, lost) = read(&history, &mut slow);
        assert_eq!((kept, kept + lost), (262_000, 1_000_000));
        assert_eq!(read(&history, &mut slow), (0, 0));
        let mut kept = history.oldest();
        assert_eq!(read(&history, &mut kept), (262_000, 0));
    }

    #[test]
    fn a_reader_that_comes_back_goes_on_in_the_middle() {
        let mut history = History::new(9_600);
        for index in 0..400 {
            history.push(bytes(index * 1_000, index * 1_000_000, 1_000), true);
        }
        for (has, kept, lost) in [(399_500, 500, 0), (399_000, 1_000, 0), (400_000, 0, 0), (1_000, 262_000, 137_000)] {
            assert_eq!(read(&history, &mut history.at(has)), (kept, lost), "{has}");
        }
        // It was another channel that had so many.
        assert_eq!(read(&history, &mut history.at(500_000)), (262_000, 0));
    }

    #[test]
    fn bytes_that_nobody_reads_are_put_together_and_others_keep_their_moments() {
        for (live, most) in [(false, 100), (true, 10_000)] {
            let mut history = History::new(115_200);
            for index in 0..10_000 {
                history.push(bytes(index, index * 1_000_000, 1), live);
            }
            assert_eq!(history.entries.len(), most);
            assert_eq!(read(&history, &mut history.oldest()), (10_000, 0));
        }
        let mut history = History::new(115_200);
        for ns in 0..2 * ENTRIES_MAX as u64 {
            history.push(Entry::Came(Piece::Unplugged { offset: 0, ns }), true);
        }
        assert_eq!(history.entries.len(), ENTRIES_MAX);
    }
}
