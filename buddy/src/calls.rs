//! Calls on ttys that no crate wraps safely → safe functions: the one place of this crate where something is unsafe.
#![allow(unsafe_code, reason = "no crate wraps these calls")]

use rustix::ioctl::{Getter, NoArg, Setter, ioctl};
use serialport::TTYPort;
use std::ffi::{c_int, c_uint, c_ulong};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, IntoRawFd as _, OwnedFd};

/// `TIOCM_DTR` and `TIOCM_RTS`.
const DTR: c_int = 0x002;
const RTS: c_int = 0x004;

/// The file of a port, to be polled and closed like any other. Dropping the port itself would let others open the tty while copies
/// of it are still in use.
pub fn file_of(port: TTYPort) -> OwnedFd {
    // SAFETY: the port gives up its open file, which nothing else closes.
    unsafe { OwnedFd::from_raw_fd(port.into_raw_fd()) }
}

/// A copy of an open file that its owner shows by number alone.
///
/// # Errors
/// There are too many open files.
pub fn copy_of(owner: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the owner is borrowed, and keeps its file open as long as it is.
    unsafe { BorrowedFd::borrow_raw(owner.as_raw_fd()) }.try_clone_to_owned()
}

/// What a UART has counted since it was opened first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that came while the one before was still in the UART, or while the kernel had no room.
    pub overrun: u64,
    /// Bytes without a stop bit.
    pub frame: u64,
    /// Bytes with the other parity.
    pub parity: u64,
    /// Break conditions.
    pub breaks: u64,
}

/// Asks for the counts: `TIOCGICOUNT`.
///
/// # Errors
/// `ENOTTY` where a driver counts nothing, as that of a pty.
pub fn counts(tty: BorrowedFd<'_>) -> io::Result<Counts> {
    /// `struct serial_icounter_struct`: modem lines, bytes, then what went wrong, then room.
    #[repr(C)]
    struct Counters {
        lines: [c_int; 4],
        bytes: [c_int; 2],
        frame: c_int,
        overrun: c_int,
        parity: c_int,
        breaks: c_int,
        buffer: c_int,
        reserved: [c_int; 9],
    }
    // SAFETY: TIOCGICOUNT fills this structure, and reads nothing.
    let counters = unsafe { ioctl(tty, Getter::<0x545d, Counters>::new()) }?;
    // They are counted up in 32 bits, and mean nothing but by their difference.
    let count = |count: c_int| u64::from(count as u32);
    Ok(Counts {
        overrun: count(counters.overrun) + count(counters.buffer),
        frame: count(counters.frame),
        parity: count(counters.parity),
        breaks: count(counters.breaks),
    })
}

/// Sets DTR and RTS in one call, so that no circuit sees one without the other: `TIOCMGET`, `TIOCMSET`. `None` leaves one as it is.
///
/// # Errors
/// `ENOTTY` where there are no such lines.
pub fn set_lines(tty: BorrowedFd<'_>, dtr: Option<bool>, rts: Option<bool>) -> io::Result<()> {
    // SAFETY: TIOCMGET writes one int, and reads nothing.
    let mut bits = unsafe { ioctl(tty, Getter::<0x5415, c_int>::new()) }?;
    for (bit, level) in [(DTR, dtr), (RTS, rts)] {
        match level {
            Some(true) => bits |= bit,
            Some(false) => bits &= !bit,
            None => {}
        }
    }
    // SAFETY: TIOCMSET reads one int, and writes nothing.
    unsafe { ioctl(tty, Setter::<0x5418, c_int>::new(bits)) }?;
    Ok(())
}

/// `struct serial_struct`, with the padding that C gives it.
#[repr(C)]
struct Settings {
    /// Its type, line, port and interrupt.
    place: [c_int; 4],
    flags: c_int,
    /// FIFO, divisor and base of the baud rate.
    rate: [c_int; 3],
    close_delay: u16,
    io_type: [u8; 2],
    hub6: c_int,
    closing_wait: [u16; 2],
    memory: usize,
    register_shift: u16,
    port_high: c_uint,
    map_base: c_ulong,
}

/// `ASYNC_LOW_LATENCY`.
const LOW_LATENCY: c_int = 1 << 13;

fn serial_settings(tty: BorrowedFd<'_>) -> io::Result<Settings> {
    // SAFETY: TIOCGSERIAL fills this structure, and reads nothing.
    Ok(unsafe { ioctl(tty, Getter::<0x541e, Settings>::new()) }?)
}

/// Whether a tty's driver gives each byte at once: `TIOCGSERIAL`.
///
/// # Errors
/// `ENOTTY` where a driver has no such setting.
pub fn has_low_latency(tty: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(serial_settings(tty)?.flags & LOW_LATENCY != 0)
}

/// Has a tty's driver give each byte at once, instead of after 16 ms where an FTDI waits for more of them: `TIOCSSERIAL`. Nothing else
/// is changed, and whoever may open a tty may do this.
///
/// # Errors
/// `ENOTTY` where a driver has no such setting.
pub fn set_low_latency(tty: BorrowedFd<'_>) -> io::Result<()> {
    let mut settings = serial_settings(tty)?;
    settings.flags |= LOW_LATENCY;
    // SAFETY: TIOCSSERIAL reads this structure, and writes nothing.
    unsafe { ioctl(tty, Setter::<0x541f, Settings>::new(settings)) }?;
    Ok(())
}

/// Begins or ends a break condition: `TIOCSBRK`, `TIOCCBRK`.
///
/// # Errors
/// The driver knows of none.
pub fn set_break(tty: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: neither takes an argument.
    let set = unsafe { if on { ioctl(tty, NoArg::<0x5427>::new()) } else { ioctl(tty, NoArg::<0x5428>::new()) } };
    Ok(set?)
}
