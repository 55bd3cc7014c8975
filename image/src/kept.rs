//! What is known of a machine's systems → two sectors of its card, of which a power cut leaves one as it was, and back.
//!
//! They lie before the first partition, so that neither a file system that is damaged nor one that is not there yet is in the way
//! of a start. They are written in turn, and the newer whole one counts.

use crate::digest::digest;
use miniserde::{Deserialize, Serialize};
use sai_core::slots::{Kept, System, Trial};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Where they are on the card: in the middle of the first MiB, each in a page of its own.
pub const PLACES: [u64; 2] = [512 << 10, 516 << 10];
/// What each begins with.
const MAGIC: &str = "sai-systems 1\n";

/// The text of one, behind which its digest stands.
#[derive(Serialize, Deserialize)]
struct Text {
    turn: u64,
    factory: u64,
    good: String,
    number: u64,
    trial: Option<u64>,
    started: Option<bool>,
    left: Option<u64>,
    /// Absent where an image of before there were updates over the air has written it.
    lefts: Option<u32>,
    starts: u32,
}

/// The sector that is written in this turn, and which one it is.
pub fn sector(kept: &Kept, turn: u64) -> (u64, [u8; SECTOR]) {
    let text = miniserde::json::to_string(&Text {
        turn,
        factory: kept.factory,
        good: kept.good.word().to_owned(),
        number: kept.number,
        trial: kept.trial.as_ref().map(|trial| trial.number),
        started: kept.trial.as_ref().map(|trial| trial.started),
        left: kept.left,
        lefts: Some(kept.lefts),
        starts: kept.starts,
    });
    let text = format!("{MAGIC}{text}\n{}\n", digest(text.as_bytes()));
    let mut sector = [0; SECTOR];
    // Six numbers, a word and a digest: it is never as long as a sector.
    for (to, from) in sector.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    (PLACES[usize::from(turn % 2 == 1)], sector)
}

/// What two sectors say, and the turn in which that was written.
pub fn read(sectors: &[[u8; SECTOR]; 2]) -> Option<(Kept, u64)> {
    sectors.iter().filter_map(one).max_by_key(|(_, turn)| *turn)
}

fn one(sector: &[u8; SECTOR]) -> Option<(Kept, u64)> {
    let mut lines = std::str::from_utf8(sector).ok()?.strip_prefix(MAGIC)?.split('\n');
    let (text, sum) = (lines.next()?, lines.next()?);
    if sum != digest(text.as_bytes()) {
        return None;
    }
    let text: Text = miniserde::json::from_str(text).ok()?;
    // What may have been started is not started again.
    let trial = text.trial.map(|number| Trial { number, started: text.started.unwrap_or(true) });
    let Text { turn, factory, number, left, starts, .. } = text;
    let lefts = text.lefts.unwrap_or(0);
    Some((Kept { factory, good: System::of(&text.good)?, number, trial, left, lefts, starts }, turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_whole_one_counts() {
        let mut sectors = [[0; SECTOR]; 2];
        assert_eq!(read(&sectors), None, "a card that was just written");
        let kept = |number: u64, started: bool| Kept {
            good: System::B,
            left: Some(u64::MAX),
            lefts: u32::MAX,
            starts: u32::MAX,
            trial: Some(Trial { number, started }),
            ..Kept::new(u64::MAX)
        };
        for turn in 0..4 {
            let kept = kept(turn, turn > 2);
            let (place, sector) = sector(&kept, turn);
            let index = PLACES.iter().position(|other| *other == place).expect("a place");
            sectors[index] = sector;
            assert_eq!(read(&sectors), Some((kept, turn)));
        }
        // The power goes while the next is written.
        let (place, new) = sector(&kept(9, false), 4);
        for cut in [0, 5, 20, 100, 200] {
            let mut sectors = sectors;
            sectors[usize::from(place == PLACES[1])][..cut].copy_from_slice(&new[..cut]);
            assert_eq!(read(&sectors).map(|(_, turn)| turn), Some(3), "{cut}");
        }
    }

    #[test]
    fn the_longest_one_is_whole() {
        let longest = Kept {
            good: System::Factory,
            left: Some(u64::MAX),
            lefts: u32::MAX,
            starts: u32::MAX,
            trial: Some(Trial { number: u64::MAX, started: false }),
            ..Kept::new(u64::MAX)
        };
        let (_, sector) = sector(&longest, u64::MAX);
        assert_eq!((sector[SECTOR - 1], one(&sector)), (0, Some((longest, u64::MAX))));
    }
}
