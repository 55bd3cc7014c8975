//! A machine of `flash` and a port to a board → the image on it, or whose fault it is that it is not.

use crate::flash::{Failure, Flashed, Flasher, Input, Output, Whose};
use sai_core::limits::Millis;
use std::io;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const READ_BYTES: usize = 4096;

/// What a port says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many bytes came.
    Bytes(usize),
    /// The mode is reached that `enter` asked for.
    Entered,
    /// Nothing happened in the time that was given.
    Nothing,
}

/// What reaches a board.
pub trait Port {
    /// Waits for bytes, which are put into `buffer`, or for the end of the way that `enter` began, and no longer than `within`.
    ///
    /// # Errors
    /// The board's tty is gone.
    fn wait(&mut self, buffer: &mut [u8], within: Duration) -> io::Result<Event>;

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The board's tty is gone.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Types bytes, as slowly as the board's console wants.
    ///
    /// # Errors
    /// The board's tty is gone.
    fn type_slowly(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(bytes)
    }

    /// Begins the way into the board's loader.
    ///
    /// # Errors
    /// A line or supply cannot be moved.
    fn enter(&mut self) -> io::Result<()>;
}

/// Carries a machine out to its end, and for no longer than `limit`. What it says on the way is told.
///
/// # Errors
/// Why the image is not there.
pub fn flash(
    machine: &mut dyn Flasher,
    port: &mut dyn Port,
    limit: Duration,
    tell: &mut dyn FnMut(&Output),
) -> Result<Flashed, Failure> {
    let began = Instant::now();
    let now = || Millis::try_from(began.elapsed().as_millis()).unwrap_or(Millis::MAX);
    let gone =
        |error: io::Error| Failure { whose: Whose::Wiring, text: format!("the board cannot be reached: {error}") };
    let mut buffer = [0; READ_BYTES];
    let mut out = Vec::new();
    machine.handle(now(), Input::Begin, &mut out);
    loop {
        for output in out.drain(..) {
            tell(&output);
            match output {
                Output::Enter => port.enter().map_err(gone)?,
                Output::Send(bytes) => port.send(&bytes).map_err(gone)?,
                Output::Type(bytes) => port.type_slowly(&bytes).map_err(gone)?,
                Output::Done(flashed) => return Ok(flashed),
                Output::Failed(failure) => return Err(failure),
                Output::Progress(_) | Output::Note(_) => {}
            }
        }
        let left = limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            let text = format!("flashing took longer than {} seconds", limit.as_secs());
            return Err(Failure { whose: Whose::Board, text });
        }
        let within = machine.deadline().map_or(left, |deadline| Duration::from_millis(deadline.saturating_sub(now())));
        let event = port.wait(&mut buffer, within.min(left)).map_err(gone)?;
        let input = match event {
            Event::Bytes(count) => Input::Bytes(buffer.get(..count).unwrap_or_default()),
            Event::Entered => Input::Entered,
            Event::Nothing => Input::Tick,
        };
        machine.handle(now(), input, &mut out);
    }
}
