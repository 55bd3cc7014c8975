//! An open file and levels → these levels at its pins: all that a guard, or an owner that was given the file, needs of it.

use crate::{calls, lines};
use std::io;
use std::os::fd::BorrowedFd;

/// A tty: DTR and RTS are bits of it.
pub const TTY: &str = "tty";
/// The bit of DTR in a tty's levels.
pub const DTR: u64 = 1;
/// The bit of RTS in a tty's levels.
pub const RTS: u64 = 2;

/// Sets the levels whose bits are in `mask`, and no others.
///
/// # Errors
/// The system's, or `Unsupported` for what has no levels that are known here.
pub fn set(what: &str, file: BorrowedFd<'_>, mask: u64, levels: u64) -> io::Result<()> {
    let level = |bit: u64| (mask & bit != 0).then_some(levels & bit != 0);
    match what {
        TTY => calls::set_lines(file, level(DTR), level(RTS)),
        _ => lines::set(what, file, mask, levels),
    }
}
