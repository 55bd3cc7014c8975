//! The two clocks of an edge → one moment: how long things take, and what is told to people.

use crate::limits::Millis;

/// A moment, as an edge reads it. The two have nothing to do with each other: a machine without a battery for its clock
/// starts in 1970 and is then put right by decades, and nothing may come due, or wait, because of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that nobody can set and that never goes back; where it began means nothing. Every
    /// duration and deadline is of this one, and none of them is written down, since it begins anew with the machine.
    pub steady: Millis,
    /// Milliseconds since the Unix epoch, as the machine believes: for people, records and certificates alone.
    pub wall: Millis,
}
