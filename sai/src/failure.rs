//! What keeps somebody from what they asked for → an exit status, and a line that says whose fault it is.

use std::io;

/// All went as it was asked for, or the job passed.
pub const PASSED: u8 = 0;
/// The job failed, or the master says no to what was asked.
pub const FAILED: u8 = 1;
/// The command line is not understood.
pub const USAGE: u8 = 2;
/// Trouble that is not the job's: on the way to the master, at it, or on this machine.
pub const TROUBLE: u8 = 3;

/// A flash that had begun failed: nobody knows what is on the board.
pub const FLASH_FAILED: u8 = 4;

/// An exit status other than 0, and the line that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub u8, pub String);

impl Failure {
    /// What was asked for cannot be, whoever asks.
    pub fn refused(why: impl Into<String>) -> Self {
        Self(FAILED, why.into())
    }

    /// Nobody understands what was asked for.
    pub fn usage(why: impl Into<String>) -> Self {
        Self(USAGE, why.into())
    }

    /// It could be, but something is in the way.
    pub fn trouble(why: impl Into<String>) -> Self {
        Self(TROUBLE, why.into())
    }

    /// Trouble of this machine with a file, say.
    pub fn here(what: &str, error: &io::Error) -> Self {
        Self(TROUBLE, format!("{what}: {error}"))
    }
}
