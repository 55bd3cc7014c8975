//! Bytes of a tty, with what went wrong among them → the same in order, each at its place, in a memory of a fixed size.
//!
//! A UART cannot wait. What comes while there is no room is lost, and the place and the number of it are not: they stand between
//! what was kept before and after.

use sai_core::console::{Piece, Why};
use std::collections::VecDeque;

/// Bytes of a piece at most: one record of a log.
pub const PIECE_BYTES: usize = 4096;
/// Nanoseconds for which bytes are put into one piece, with the stamp of the first: less than anybody at a console can tell.
pub const PIECE_NS: u64 = 1_000_000;
/// Pieces that are no bytes at most: who does not take them is told of the last ones together.
const NOTES_MAX: usize = 1024;

/// The memory. See the file's first line.
#[derive(Debug)]
pub struct Ring {
    pieces: VecDeque<Piece>,
    room: usize,
    held: usize,
    notes: usize,
    offset: u64,
}

impl Ring {
    /// A memory for so many bytes.
    pub fn new(room: usize) -> Self {
        Ring::beginning(room, 0)
    }

    /// The same, of a channel that had so many bytes before.
    pub fn beginning(room: usize, offset: u64) -> Self {
        Ring { pieces: VecDeque::new(), room, held: 0, notes: 0, offset }
    }

    /// Bytes for a tty of so many bits a second: what it brings in three seconds, and no less than some screens.
    pub fn room_for(baud: u32) -> usize {
        (baud as usize / 10 * 3).clamp(64 * 1024, 16 << 20)
    }

    /// Bytes of the channel until now, with those that are lost.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there is nothing to be taken.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Puts bytes in, as far as there is room.
    pub fn push(&mut self, ns: u64, bytes: &[u8]) {
        let (kept, over) = bytes.split_at(bytes.len().min(self.room - self.held));
        let mut rest = kept;
        while !rest.is_empty() {
            let count = match self.pieces.back_mut() {
                Some(Piece::Bytes { ns: began, bytes, .. })
                    if bytes.len() < PIECE_BYTES && ns.saturating_sub(*began) < PIECE_NS =>
                {
                    let count = rest.len().min(PIECE_BYTES - bytes.len());
                    bytes.extend_from_slice(&rest[..count]);
                    count
                }
                _ => {
                    let count = rest.len().min(PIECE_BYTES);
                    let bytes = rest[..count].to_vec();
                    self.pieces.push_back(Piece::Bytes { offset: self.offset, ns, bytes });
                    count
                }
            };
            self.offset += count as u64;
            self.held += count;
            rest = &rest[count..];
        }
        if !over.is_empty() {
            self.lose(ns, Some(over.len() as u64), Why::Full);
        }
    }

    /// Notes that something is missing here, or is not what was sent. Of bytes that never came here (`Full`) the number counts on.
    pub fn lose(&mut self, ns: u64, count: Option<u64>, why: Why) {
        let offset = self.offset;
        if why == Why::Full {
            self.offset += count.unwrap_or(0);
        }
        match self.pieces.back_mut() {
            Some(Piece::Lost { lost: Some(lost), why: before, .. }) if *before == why && count.is_some() => {
                *lost += count.unwrap_or(0);
            }
            _ => self.note(Piece::Lost { offset, ns, lost: count, why }),
        }
    }

    /// Notes that the tty is gone, or back.
    pub fn note(&mut self, piece: Piece) {
        if self.notes == NOTES_MAX {
            // Between two of these there are bytes or there is nothing to tell; the oldest of them says the least.
            let oldest = self.pieces.iter().position(|piece| !matches!(piece, Piece::Bytes { .. }));
            if let Some(oldest) = oldest {
                self.pieces.remove(oldest);
                self.notes -= 1;
            }
        }
        self.notes += 1;
        self.pieces.push_back(piece);
    }

    /// Takes the oldest piece out.
    pub fn take(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front();
        match &piece {
            Some(Piece::Bytes { bytes, .. }) => self.held -= bytes.len(),
            Some(_) => self.notes -= 1,
            None => {}
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_counted_where_it_is_missing() {
        let mut ring = Ring::new(10);
        ring.push(0, b"0123456");
        ring.push(1, b"789abc");
        ring.push(2, b"def");
        let bytes = |offset, ns, bytes: &[u8]| Some(Piece::Bytes { offset, ns, bytes: bytes.to_vec() });
        assert_eq!(ring.take(), bytes(0, 0, b"0123456789"));
        ring.push(3, b"g");
        assert_eq!(ring.take(), Some(Piece::Lost { offset: 10, ns: 1, lost: Some(6), why: Why::Full }));
        assert_eq!(ring.take(), bytes(16, 3, b"g"));
        assert_eq!((ring.take(), ring.offset(), ring.is_empty()), (None, 17, true));
    }

    #[test]
    fn pieces_are_of_one_moment_and_notes_do_not_grow_for_ever() {
        let mut ring = Ring::new(1 << 20);
        ring.push(0, &[1; PIECE_BYTES + 1]);
        ring.push(PIECE_NS, b"x");
        let offsets: Vec<u64> = std::iter::from_fn(|| match ring.take() {
            Some(Piece::Bytes { offset, .. }) => Some(offset),
            _ => None,
        })
        .collect();
        assert_eq!(offsets, [0, 4096, 4097]);
        for ns in 0..5_000 {
            ring.note(Piece::Unplugged { offset: 1, ns });
            ring.lose(ns, None, Why::Away);
        }
        assert_eq!(std::iter::from_fn(|| ring.take()).count(), NOTES_MAX);
    }
}
