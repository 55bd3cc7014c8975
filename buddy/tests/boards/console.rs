//! A board with a console like U-Boot's: a countdown, a line that is typed, a few commands, two memories.

use crate::line::Peer;
use crate::receiver::Receiver;
use sai_buddy::flash::uboot::crc32;
use sai_core::limits::Millis;

pub const LOAD: usize = 0x4100_0000;
pub const PLACE: usize = 0x0410_0000;
const COUNTDOWN_MS: Millis = 1_000;

/// The board.
#[derive(Debug, Default)]
pub struct Console {
    pub ram: Vec<u8>,
    pub flash: Vec<u8>,
    /// Commands that erased or wrote something where nothing was to be.
    pub astray: usize,
    pub booted: bool,
    /// A flash that does not take what is written.
    pub worn: bool,
    pub until: Option<Millis>,
    pub prompt: bool,
    pub line: Vec<u8>,
    pub receiver: Option<Receiver>,
}

impl Console {
    pub fn new() -> Self {
        Console { ram: vec![0; 4096], flash: vec![0x5a; 4096], ..Console::default() }
    }

    fn memory(&mut self, address: usize, length: usize) -> Option<&mut [u8]> {
        let (memory, start) = if address >= LOAD { (&mut self.ram, LOAD) } else { (&mut self.flash, PLACE) };
        let from = address.checked_sub(start)?;
        memory.get_mut(from..from.checked_add(length)?)
    }

    /// Whether a command did what it was to.
    fn run(&mut self, command: &str, now: Millis, out: &mut Vec<u8>) -> Option<bool> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let number =
            |at: usize| words.get(at).and_then(|word| usize::from_str_radix(word.trim_start_matches('+'), 16).ok());
        Some(match words.as_slice() {
            ["true"] => true,
            [load @ ("loadx" | "loady"), _] => {
                let xmodem = *load == "loadx";
                let protocol = if xmodem { "xmodem" } else { "ymodem" };
                let ready = format!("## Ready for binary ({protocol}) download to 0x41000000 at 115200 bps...\r\n");
                out.extend(ready.into_bytes());
                let mut receiver = Receiver::new(xmodem);
                receiver.enter(now, out);
                self.receiver = Some(receiver);
                return None;
            }
            ["crc32", ..] => {
                let sum = number(1)
                    .zip(number(2))
                    .and_then(|(from, length)| self.memory(from, length))
                    .map(|part| crc32(part));
                match sum {
                    Some(sum) => out.extend(format!("crc32 for {} ==> {sum:08x}\r\n", words[1]).into_bytes()),
                    None => out.extend(b"data abort\r\n"),
                }
                sum.is_some()
            }
            ["erase", ..] => {
                self.astray += usize::from(number(1) != Some(PLACE));
                let part = number(1).zip(number(2)).and_then(|(from, length)| self.memory(from, length));
                part.map(|part| part.fill(0xff)).is_some()
            }
            ["cp.b", ..] => {
                self.astray += usize::from(number(2) != Some(PLACE));
                let worn = self.worn;
                let copied = number(1)
                    .zip(number(3))
                    .and_then(|(from, length)| self.memory(from, length))
                    .map(|part| part.to_vec());
                let room = copied.as_ref().zip(number(2)).and_then(|(copied, to)| self.memory(to, copied.len()));
                match (room, &copied) {
                    (Some(room), Some(copied)) => {
                        room.copy_from_slice(copied);
                        room[0] ^= u8::from(worn);
                        true
                    }
                    _ => false,
                }
            }
            ["bootm", place] => {
                self.booted = *place == format!("{PLACE:x}");
                self.prompt = false;
                out.extend(b"## Booting\r\nhello => world\r\n");
                return None;
            }
            _ => {
                out.extend(format!("Unknown command '{command}' - try 'help'\r\n").into_bytes());
                false
            }
        })
    }

    fn enter_line(&mut self, now: Millis, out: &mut Vec<u8>) {
        out.extend(b"\r\n");
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let (command, rest) = line.split_once(';').unwrap_or((&line, ""));
        match self.run(command, now, out) {
            Some(well) => self.finish(well, rest, out),
            None => self.line = rest.as_bytes().to_vec(),
        }
    }

    fn finish(&mut self, well: bool, rest: &str, out: &mut Vec<u8>) {
        match rest.strip_prefix("echo ") {
            Some(echo) => out.extend(format!("{}\r\n", echo.replace("$?", if well { "0" } else { "1" })).into_bytes()),
            None if rest.is_empty() => {}
            None => out.extend(b"Unknown command\r\n"),
        }
        out.extend(b"=> ");
    }
}

impl Peer for Console {
    fn enter(&mut self, now: Millis, out: &mut Vec<u8>) {
        (self.prompt, self.receiver, self.until) = (false, None, Some(now + COUNTDOWN_MS));
        self.line.clear();
        out.extend(b"\r\nU-Boot 2023.01\r\n\r\nHit any key to stop autoboot:  2 ");
    }

    fn deadline(&self) -> Option<Millis> {
        self.receiver.as_ref().and_then(Peer::deadline).or(self.until)
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<u8>) {
        if let Some(receiver) = &mut self.receiver {
            receiver.tick(now, out);
            return self.received(out);
        }
        self.until = None;
        out.extend(b"\x08\x08\x08 0 \r\nStarting kernel ...\r\n");
    }

    fn byte(&mut self, now: Millis, byte: u8, out: &mut Vec<u8>) {
        if let Some(receiver) = &mut self.receiver {
            receiver.byte(now, byte, out);
            return self.received(out);
        }
        if self.until.take().is_some() {
            self.prompt = true;
            return out.extend(b"\x08\x08\x08 0 \r\n=> ");
        }
        match byte {
            _ if !self.prompt => {}
            0x03 => {
                self.line.clear();
                out.extend(b"<INTERRUPT>\r\n=> ");
            }
            b'\r' => self.enter_line(now, out),
            byte => {
                self.line.push(byte);
                out.push(byte);
            }
        }
    }
}

impl Console {
    fn received(&mut self, out: &mut Vec<u8>) {
        let Some(receiver) = self.receiver.take_if(|receiver| receiver.complete || receiver.aborted) else { return };
        let length = receiver.length.unwrap_or(receiver.data.len()).min(self.ram.len()).min(receiver.data.len());
        self.ram[..length].copy_from_slice(&receiver.data[..length]);
        out.extend(format!("## Total Size      = 0x{length:08x}\r\n").into_bytes());
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        self.finish(receiver.complete, &rest, out);
    }
}
