//! A loader as optiboot is, over a flash of pages: strict about the ends of commands, and gone after what it does not like.

use crate::line::Peer;
use sai_core::limits::Millis;

const PAGE: usize = 128;
/// Milliseconds of silence after which the application starts.
const WATCHDOG_MS: Millis = 1_000;

/// The loader, and the chip around it.
#[derive(Clone, Debug)]
pub struct Optiboot {
    pub signature: [u8; 3],
    pub flash: Vec<u8>,
    /// Pages written.
    pub written: usize,
    /// A bit of this byte that stays as it is.
    pub worn: Option<usize>,
    pub address: usize,
    pub command: Vec<u8>,
    pub runs: bool,
    pub until: Millis,
}

impl Optiboot {
    pub fn new() -> Self {
        let signature = [0x1e, 0x95, 0x0f];
        Optiboot {
            signature,
            flash: vec![0x5a; 32 * 1024],
            written: 0,
            worn: None,
            address: 0,
            command: Vec::new(),
            runs: false,
            until: 0,
        }
    }

    /// Bytes of a command with its terminator, as far as can be said.
    fn length(&self) -> usize {
        match self.command[0] {
            0x55 => 4,
            0x64 if self.command.len() < 4 => 4,
            0x64 => 5 + usize::from(u16::from_be_bytes([self.command[1], self.command[2]])),
            0x74 => 5,
            0x56 => 6,
            0x42 => 22,
            0x45 => 7,
            0x41 => 3,
            _ => 2,
        }
    }
}

impl Peer for Optiboot {
    fn enter(&mut self, now: Millis, _out: &mut Vec<u8>) {
        self.command.clear();
        self.runs = true;
        self.until = now + WATCHDOG_MS;
    }

    fn byte(&mut self, now: Millis, byte: u8, out: &mut Vec<u8>) {
        if now > self.until {
            self.runs = false;
        }
        if !self.runs {
            return;
        }
        self.until = now + WATCHDOG_MS;
        self.command.push(byte);
        if self.command.len() < self.length() {
            return;
        }
        let command = std::mem::take(&mut self.command);
        if command.last() != Some(&0x20) {
            // The application starts, and says so.
            self.runs = false;
            out.extend(b"hello\r\n");
            return;
        }
        out.push(0x14);
        match command[0] {
            0x55 => self.address = 2 * usize::from(u16::from_le_bytes([command[1], command[2]])),
            0x64 => {
                let start = self.address / PAGE * PAGE % self.flash.len();
                let mut page = [0x33; PAGE];
                for (cell, byte) in page.iter_mut().zip(&command[4..command.len() - 1]) {
                    *cell = *byte;
                }
                self.flash[start..start + PAGE].copy_from_slice(&page);
                if let Some(worn) = self.worn.filter(|worn| (start..start + PAGE).contains(worn)) {
                    self.flash[worn] |= 1;
                }
                self.written += 1;
            }
            0x74 => {
                let length = usize::from(u16::from_be_bytes([command[1], command[2]]));
                out.extend((0..length).map(|index| self.flash[(self.address + index) % self.flash.len()]));
            }
            0x75 => out.extend(self.signature),
            0x51 => self.runs = false,
            _ => {}
        }
        out.push(0x10);
    }
}
