//! Questions and answers by two clocks → how far one is ahead of the other, and by how much that may be wrong.
//!
//! An answer was given at some moment between the question and its coming: half the way there and back is the bound (D. Mills, RFC
//! 5905, 8). It is asked again when something comes of the other side anyway, so that an idle one is left alone.

use crate::clock::Now;
use crate::limits::Millis;
use miniserde::{Deserialize, Serialize};

/// Milliseconds between two questions.
const AGAIN_MS: Millis = 10_000;
/// Milliseconds after which a question that was not answered is asked anew.
const LOST_MS: Millis = 30_000;
/// Of how many milliseconds one may be lost or won by a clock that runs too fast or slow: 100 of a million, as crystals do.
const DRIFT: Millis = 10_000;
/// What reading both clocks in whole milliseconds may cost.
const READING_MS: Millis = 1;
/// Marks numbers of these questions among those of others.
const MARK: u64 = 1 << 62;

/// Whether a ping of this number asks for a clock.
pub fn is_question(number: u64) -> bool {
    number & MARK != 0
}

/// How far a clock is ahead of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// Milliseconds; below 0 it is behind.
    pub ahead_ms: i64,
    /// By how many milliseconds that may be wrong, either way.
    pub bound_ms: u64,
}

impl Offset {
    /// What follows from a question at one moment, and its answer, which came at another and told this Unix time in milliseconds.
    fn of(asked: Now, came: Now, theirs: u64) -> Self {
        let way = came.steady.saturating_sub(asked.steady);
        let then = asked.wall.saturating_add(way / 2);
        let ahead_ms = i64::try_from(i128::from(theirs) - i128::from(then)).unwrap_or(i64::MAX);
        Self { ahead_ms, bound_ms: way.div_ceil(2).saturating_add(READING_MS) }
    }

    /// The same so many milliseconds later.
    fn aged(self, age: Millis) -> Self {
        Self { bound_ms: self.bound_ms.saturating_add(age.div_ceil(DRIFT)), ..self }
    }

    /// Whether both can be true.
    fn agrees(self, other: Self) -> bool {
        self.ahead_ms.abs_diff(other.ahead_ms) <= self.bound_ms.saturating_add(other.bound_ms)
    }
}

/// What is known of the clock at the other end of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    /// The question that is not answered, and when it was asked.
    asked: Option<(u64, Now)>,
    count: u64,
    known: Option<(Offset, Millis)>,
}

impl Gauge {
    /// The number of the question to ask now, where one is due.
    pub fn asking(self, now: Now) -> Option<(Self, u64)> {
        let waits = self.asked.is_some_and(|(_, at)| now.steady.saturating_sub(at.steady) < LOST_MS);
        let fresh = self.known.is_some_and(|(_, at)| now.steady.saturating_sub(at) < AGAIN_MS);
        let number = MARK | self.count;
        (!waits && !fresh)
            .then_some((Self { asked: Some((number, now)), count: self.count.saturating_add(1), ..self }, number))
    }

    /// What is known once an answer has come: the better of what was and is known, unless the clock was set in between.
    pub fn answered(self, now: Now, number: u64, theirs: u64) -> Self {
        let Some((_, asked)) = self.asked.filter(|(asked, _)| *asked == number) else { return self };
        let new = Offset::of(asked, now, theirs);
        let old = self.known.map(|(old, at)| (old.aged(now.steady.saturating_sub(at)), at));
        let kept = old.filter(|(old, _)| old.agrees(new) && old.bound_ms < new.bound_ms);
        Self { asked: None, known: Some((kept.map_or(new, |(old, _)| old), now.steady)), ..self }
    }

    /// How far it is ahead, as far as that is known now.
    pub fn offset(self, now: Millis) -> Option<Offset> {
        self.known.map(|(known, at)| known.aged(now.saturating_sub(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(steady: Millis, ahead: Millis) -> Now {
        Now { steady, wall: 1_000_000 + steady + ahead }
    }

    /// Asks at one moment and is answered at another, whatever the other clock says in between.
    fn ask(gauge: Gauge, asked: Now, came: Now, theirs: u64) -> Gauge {
        let (gauge, number) = gauge.asking(asked).expect("it is due");
        gauge.answered(came, number, theirs)
    }

    #[test]
    fn what_is_said_is_never_wrong_by_more_than_its_bound() {
        for ahead in [-50_000_i64, -3, 0, 1, 7_000_000] {
            for (there, back) in [(0, 0), (1, 0), (0, 9), (40, 2), (500, 500)] {
                let theirs = (1_000_000 + 100 + there as i64 + ahead) as u64;
                let gauge = ask(Gauge::default(), at(100, 0), at(100 + there + back, 0), theirs);
                let found = gauge.offset(100 + there + back).unwrap();
                assert!(found.ahead_ms.abs_diff(ahead) <= found.bound_ms, "{ahead} {there} {back}: {found:?}");
                assert!(found.bound_ms <= (there + back).div_ceil(2) + 1, "{found:?}");
            }
        }
    }

    #[test]
    fn a_good_answer_is_kept_until_it_is_old_or_the_clock_was_set() {
        let good = ask(Gauge::default(), at(0, 0), at(2, 0), 1_000_001);
        let known = |gauge: Gauge, now| gauge.offset(now).unwrap();
        assert_eq!(known(good, 2), Offset { ahead_ms: 0, bound_ms: 2 });
        assert_eq!(known(good, 10_003).bound_ms, 4, "clocks drift");
        // A slow one says less.
        let slow = ask(good, at(20_000, 0), at(20_300, 0), 1_020_000);
        assert_eq!(known(slow, 20_300), Offset { ahead_ms: 0, bound_ms: 5 });
        // By an hour it is another clock.
        let set = ask(slow, at(40_000, 0), at(40_300, 0), 1_040_150 + 3_600_000);
        assert_eq!(known(set, 40_300), Offset { ahead_ms: 3_600_000, bound_ms: 151 });
        let better = ask(set, at(60_000, 0), at(60_004, 0), 1_060_002 + 3_600_010);
        assert_eq!(known(better, 60_004), Offset { ahead_ms: 3_600_010, bound_ms: 3 });
    }

    #[test]
    fn it_is_asked_now_and_then_and_only_the_answer_to_that_counts() {
        let (gauge, first) = Gauge::default().asking(at(0, 0)).unwrap();
        assert_eq!(gauge.asking(at(LOST_MS - 1, 0)), None, "one is under way");
        assert_eq!(gauge.answered(at(5, 0), first + 1, 7), gauge);
        let (again, second) = gauge.asking(at(LOST_MS, 0)).unwrap();
        assert!(second != first && again.answered(at(LOST_MS, 0), first, 7) == again);
        let known = again.answered(at(LOST_MS, 0), second, 1_030_000);
        assert_eq!(known.asking(at(LOST_MS + AGAIN_MS - 1, 0)), None);
        assert!(known.asking(at(LOST_MS + AGAIN_MS, 0)).is_some());
        // What makes no sense is bounded, whoever says it.
        let odd = ask(Gauge::default(), at(0, 0), at(1, 0), u64::MAX);
        assert_eq!(odd.offset(1).map(|offset| offset.ahead_ms), Some(i64::MAX));
    }
}
