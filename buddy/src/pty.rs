//! A speed → a tty that no hardware hangs at: for a program that is to have one, and the end at which its bytes come and go.

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// Both ends.
#[derive(Debug)]
pub struct Pty {
    /// Where what is written to the tty is read.
    pub master: OwnedFd,
    /// The tty, raw; whoever holds it lets others open and close it as often as they like.
    pub slave: OwnedFd,
    /// Where others open it.
    pub path: PathBuf,
}

impl Pty {
    /// Makes one, of this speed if any is said.
    ///
    /// # Errors
    /// The system has no more of them, or none at all.
    pub fn new(baud: Option<u32>) -> io::Result<Pty> {
        let none = |error: io::Error| {
            // A small system may have mounted nothing there.
            io::Error::new(error.kind(), format!("no pty is to be had (devpts at /dev/pts): {error}"))
        };
        Pty::made(baud).map_err(none)
    }

    fn made(baud: Option<u32>) -> io::Result<Pty> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = PathBuf::from(OsString::from_vec(ptsname(&master, Vec::new())?.into_bytes()));
        let slave = open(&path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
        let mut termios = tcgetattr(&slave)?;
        termios.make_raw();
        if let Some(baud) = baud {
            termios.set_speed(baud)?;
        }
        tcsetattr(&slave, OptionalActions::Now, &termios)?;
        Ok(Pty { master, slave, path })
    }
}
