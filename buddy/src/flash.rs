//! Image → a board's memory: machines that speak the protocols of boot loaders. Bytes, what became of transfers, and time in; bytes,
//! transfers, orders and progress out.
//!
//! None of them erases anything before it knows that the image can fit and that the chip is the one that was meant, and none calls
//! an image good that was not read back, or summed up by the board, where it came to lie; what cannot be is said: unverified.

pub mod dfu;
pub mod fastboot;
pub mod stk500;
pub mod stm32;
pub mod uboot;
pub mod usb;
pub mod ymodem;

pub use sai_core::trying::{Failure, Whose};

pub use self::usb::{Transfer, Trouble};
pub use sai_core::limits::IMAGE_BYTES;
use sai_core::limits::Millis;

/// How often the way into a loader is gone before it is said that none is there: power supplies and adapters are slow at times.
pub const ENTRIES_MAX: u32 = 3;

/// What happens to a machine.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The image is to get onto the board.
    Begin,
    /// After `Enter`: the board is where it was wanted.
    Entered,
    /// The board said something.
    Bytes(&'a [u8]),
    /// What became of a transfer.
    Transferred(&'a Result<Vec<u8>, Trouble>),
    /// The time told by `deadline` has come.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The board is to be brought into its loader, by the mode that its bench has for that: `Entered` follows. Bytes that come
    /// meanwhile are told.
    Enter,
    /// These bytes go to the board as fast as the line takes them.
    Send(Vec<u8>),
    /// These bytes are typed, as slowly and with as much regard to the board's echo as its console wants.
    Type(Vec<u8>),
    /// This is done at the board's USB device, within so many milliseconds: `Transferred` follows, with what was received. The last
    /// of what is to be done at once.
    Transfer(Transfer, Millis),
    /// How far it is.
    Progress(Progress),
    /// Something worth a line in the log.
    Note(String),
    /// The image is there. Nothing follows.
    Done(Flashed),
    /// It is not. Nothing follows.
    Failed(Failure),
}

/// What is done in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The image goes into the board's memory, from where it is written.
    Load,
    /// Room is made.
    Erase,
    /// The image is written.
    Write,
    /// It is read back, or summed up.
    Verify,
}

impl Phase {
    /// Its word, as it stands in logs.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Load => "load",
            Phase::Erase => "erase",
            Phase::Write => "write",
            Phase::Verify => "verify",
        }
    }
}

/// How far a phase is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which one.
    pub phase: Phase,
    /// Bytes done.
    pub done: u64,
    /// Bytes to be done; 0 where that is not known.
    pub of: u64,
}

/// What became of an image that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flashed {
    /// What the chip said that it is.
    pub chip: Option<u32>,
    /// Whether the board's memory was found to hold the image.
    pub verified: bool,
}

/// A machine that brings one image onto one board.
pub trait Flasher {
    /// Takes one input; what is to be done is appended to `out`.
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>);

    /// When `Tick` is wanted next.
    fn deadline(&self) -> Option<Millis>;
}

/// Checks the length of an image, in bytes, before anything is done with it: its file need not be read for that.
///
/// # Errors
/// The image's fault: it is empty, or longer than `room` or than any that is taken.
pub fn check_length(length: u64, room: Option<u64>) -> Result<(), Failure> {
    let room = room.unwrap_or(IMAGE_BYTES).min(IMAGE_BYTES);
    match length {
        0 => Err(Failure::new(Whose::Image, "the image is empty; nothing was erased")),
        length if length > room => Err(Failure::new(
            Whose::Image,
            format!("the image has {length} bytes, and there is room for {room}; nothing was erased"),
        )),
        _ => Ok(()),
    }
}

/// Milliseconds for which so many bytes are on a line, with start, parity and two stop bits.
pub(crate) fn wire_ms(bytes: usize, baud: u32) -> Millis {
    (bytes as u64 * 12 * 1000).div_ceil(u64::from(baud.max(1)))
}

/// Tells progress when it is a hundredth further, so that a log is not made of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    told: Option<(Phase, u64)>,
}

impl Meter {
    pub(crate) fn tell(&mut self, phase: Phase, done: usize, of: usize, out: &mut Vec<Output>) {
        let (done, of) = (done as u64, of as u64);
        let now = (phase, done * 100 / of.max(1));
        if self.told != Some(now) {
            self.told = Some(now);
            out.push(Output::Progress(Progress { phase, done, of }));
        }
    }
}

/// Bytes as they are shown to people: a few, in hexadecimal digits, with their letters.
pub(crate) fn shown(bytes: &[u8]) -> String {
    /// As many as fit into a line.
    const SHOWN: usize = 16;
    let some = &bytes[..bytes.len().min(SHOWN)];
    let digits: Vec<String> = some.iter().map(|byte| format!("{byte:02x}")).collect();
    let rest = if bytes.len() > SHOWN { " …" } else { "" };
    format!("{}{rest} ({} bytes)", digits.join(" "), bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_cannot_be_one_is_refused_by_its_length_alone() {
        assert_eq!(check_length(0, None).map_err(|failure| failure.whose), Err(Whose::Image));
        assert_eq!(check_length(1 << 30, None).map_err(|failure| failure.whose), Err(Whose::Image));
        assert_eq!(check_length(1 << 30, Some(1 << 40)).map_err(|failure| failure.whose), Err(Whose::Image));
        assert_eq!(check_length(5, Some(4)).map_err(|failure| failure.whose), Err(Whose::Image));
        assert_eq!(check_length(4, Some(4)), Ok(()));
    }

    #[test]
    fn progress_is_told_a_hundred_times_and_at_the_end() {
        let (mut meter, mut out) = (Meter::default(), Vec::new());
        for done in 0..=10_000 {
            meter.tell(Phase::Write, done, 10_000, &mut out);
        }
        assert_eq!(out.len(), 101);
        assert_eq!(out.last(), Some(&Output::Progress(Progress { phase: Phase::Write, done: 10_000, of: 10_000 })));
    }
}
