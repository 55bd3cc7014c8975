//! An open file and levels → these levels at its pins: all that a guard, or an owner that was given the file, needs of it.

use crate::{calls, lines, power};
use std::io;
use std::os::fd::BorrowedFd;

/// A tty: DTR, RTS and BREAK are bits of it.
pub const TTY: &str = "tty";
/// The bit of DTR in a tty's levels.
pub const DTR: u64 = 1;
/// The bit of RTS in a tty's levels.
pub const RTS: u64 = 2;
/// The bit of BREAK.
pub const BREAK: u64 = 4;
/// All that a tty drives beside its data.
pub const ALL: u64 = DTR | RTS | BREAK;
/// The switch of a USB port, whose one bit is whether it has its voltage.
pub const USB_PORT: &str = "usb-port";

/// Sets the levels whose bits are in `mask`, and no others.
///
/// # Errors
/// The system's, or `Unsupported` for what has no levels that are known here.
pub fn set(what: &str, file: BorrowedFd<'_>, mask: u64, levels: u64) -> io::Result<()> {
    let level = |bit: u64| (mask & bit != 0).then_some(levels & bit != 0);
    match what {
        TTY => {
            // Each is tried, whatever has become of the other.
            let lines = match mask & (DTR | RTS) {
                0 => Ok(()),
                _ => calls::set_lines(file, level(DTR), level(RTS)),
            };
            match level(BREAK) {
                // A driver that knows of no BREAK sends none.
                Some(false) => _ = calls::set_break(file, false),
                Some(true) => calls::set_break(file, true)?,
                None => {}
            }
            lines
        }
        USB_PORT if mask != 0 => power::set_switch(file, levels & mask != 0),
        USB_PORT => Ok(()),
        _ => lines::set(what, file, mask, levels),
    }
}
