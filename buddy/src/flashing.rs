//! A machine of `flash` and a port to a board → the image on it, or whose fault it is that it is not.

use crate::flash::{Failure, Flashed, Flasher, Input, Output, Transfer, Trouble, Whose};
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

    /// Does something at the board's USB device, within this time: what was received.
    ///
    /// # Errors
    /// What became of it instead.
    fn transfer(&mut self, transfer: &Transfer, within: Duration) -> Result<Vec<u8>, Trouble> {
        let _ = (transfer, within);
        Err(Trouble::Refused("a tty is no USB device".into()))
    }

    /// Is told, when the image is there, how many of the last bytes came after the loader's last one: what it has started may have
    /// said something by then.
    fn beyond(&mut self, count: usize) {
        let _ = count;
    }
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
    // Of what is in it, what the machine has not had yet: a byte at a time, so that the loader's last one is known.
    let mut rest = 0..0;
    let mut out = Vec::new();
    machine.handle(now(), Input::Begin, &mut out);
    loop {
        let mut wanted = None;
        for output in out.drain(..) {
            tell(&output);
            match output {
                Output::Transfer(transfer, within) => wanted = Some((transfer, Duration::from_millis(within))),
                Output::Enter => port.enter().map_err(gone)?,
                Output::Send(bytes) => port.send(&bytes).map_err(gone)?,
                Output::Type(bytes) => port.type_slowly(&bytes).map_err(gone)?,
                Output::Done(flashed) => {
                    port.beyond(rest.len());
                    return Ok(flashed);
                }
                Output::Failed(failure) => return Err(failure),
                Output::Progress(_) | Output::Note(_) => {}
            }
        }
        if let Some(byte) = rest.next().and_then(|place| buffer.get(place)) {
            machine.handle(now(), Input::Bytes(&[*byte]), &mut out);
            continue;
        }
        let left = limit.saturating_sub(began.elapsed());
        // A device that is half through may be left so; one that always answers in time still has an end.
        if left.is_zero() {
            let text = format!("flashing took longer than {} seconds", limit.as_secs());
            return Err(Failure { whose: Whose::Board, text });
        }
        if let Some((transfer, within)) = wanted {
            let answer = port.transfer(&transfer, within.min(left));
            machine.handle(now(), Input::Transferred(&answer), &mut out);
            continue;
        }
        let within = machine.deadline().map_or(left, |deadline| Duration::from_millis(deadline.saturating_sub(now())));
        let event = port.wait(&mut buffer, within.min(left)).map_err(gone)?;
        match event {
            Event::Bytes(count) => rest = 0..count,
            Event::Entered => machine.handle(now(), Input::Entered, &mut out),
            Event::Nothing => machine.handle(now(), Input::Tick, &mut out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::stk500::{Settings, Stk500};

    /// A loader that takes whatever comes for its own; what it has started is heard in the same moment as its last word.
    struct Hasty {
        entering: bool,
        says: Vec<u8>,
        beyond: usize,
    }

    impl Port for Hasty {
        fn wait(&mut self, buffer: &mut [u8], within: Duration) -> io::Result<Event> {
            let count = self.says.len();
            if std::mem::take(&mut self.entering) {
                return Ok(Event::Entered);
            }
            if count == 0 {
                std::thread::sleep(within);
                return Ok(Event::Nothing);
            }
            buffer[..count].copy_from_slice(&self.says);
            self.says.clear();
            Ok(Event::Bytes(count))
        }

        fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
            let image = [&[0x14, 7][..], &[0xff; 255]].concat();
            let said: &[u8] = match bytes {
                // So many bytes of the flash.
                [0x74, _, count, ..] => &[&image[..1 + usize::from(*count)], &[0x10]].concat(),
                [0x75, ..] => &[0x14, 0x1e, 0x95, 0x0f, 0x10],
                [0x51, ..] => b"\x14\x10fw 1.0\r\n",
                _ => &[0x14, 0x10],
            };
            self.says.extend_from_slice(said);
            Ok(())
        }

        fn enter(&mut self) -> io::Result<()> {
            self.entering = true;
            Ok(())
        }

        fn beyond(&mut self, count: usize) {
            self.beyond = count;
        }
    }

    #[test]
    fn what_a_loader_has_started_is_told_from_its_own_last_word() {
        let settings = Settings { baud: 115_200, address: 0, room: None, chip: Some(0x1e_950f), go: true };
        let mut machine = Stk500::new(settings, vec![7]).expect("an image");
        let mut port = Hasty { entering: false, says: Vec::new(), beyond: 0 };
        let flashed = flash(&mut machine, &mut port, Duration::from_secs(10), &mut |_| {}).expect("flashed");
        assert!(flashed.verified);
        assert_eq!(port.beyond, b"fw 1.0\r\n".len());
    }
}
