//! The boot loader in an STM32's ROM, written from AN3155, over a flash that erases pages and clears bits: for tools and machines.

use crate::line::Peer;
use sai_buddy::flash::stm32::part;
use sai_core::limits::Millis;

const FLASH: u32 = 0x0800_0000;
const RAM: u32 = 0x2000_0000;
const ACK: u8 = 0x79;
const NACK: u8 = 0x1f;

#[derive(Clone, Debug)]
pub enum State {
    Unsynced,
    Command,
    Complement(u8),
    Address(u8, Vec<u8>),
    ReadCount(u32),
    ReadSum(u32, u8),
    Write(u32, Vec<u8>),
    Erase(Vec<u8>),
    EraseExtended(Vec<u8>),
}

/// The loader, and the chip around it.
#[derive(Clone, Debug)]
pub struct Rom {
    pub state: State,
    pub id: u16,
    pub extended: bool,
    /// Whether it refuses to be written and read.
    pub protected: bool,
    /// A bit that cannot be cleared any more.
    pub worn: Option<usize>,
    pub flash: Vec<u8>,
    pub ram: Vec<u8>,
    /// Commands that erased something.
    pub erased: usize,
    /// Bytes written that were not erased before.
    pub overwritten: usize,
    /// Where the application was started.
    pub started: Option<u32>,
}

impl Rom {
    pub fn new(id: u16) -> Self {
        let bytes = part(id.into()).expect("a known part").bytes() as usize;
        Rom {
            state: State::Unsynced,
            id,
            extended: true,
            protected: false,
            worn: None,
            // An older program is there.
            flash: vec![0x5a; bytes],
            ram: vec![0; 0x5000],
            erased: 0,
            overwritten: 0,
            started: None,
        }
    }

    fn erase_code(&self) -> u8 {
        if self.extended { 0x44 } else { 0x43 }
    }

    fn memory(&mut self, address: u32, length: usize) -> Option<&mut [u8]> {
        let (memory, start) = if address >= RAM { (&mut self.ram, RAM) } else { (&mut self.flash, FLASH) };
        let from = address.checked_sub(start)? as usize;
        memory.get_mut(from..from + length)
    }

    fn erase(&mut self, pages: &[u16]) -> u8 {
        self.erased += 1;
        let part = part(self.id.into()).expect("a known part");
        for page in pages {
            // Where a page is: the first byte whose pages are this one alone.
            let mut at = 0;
            let mut found = false;
            while at < self.flash.len() {
                let Some(of) = part.pages(FLASH + at as u32, 1) else {
                    at += 128;
                    continue;
                };
                if of == [*page] {
                    let mut end = at + 128;
                    while end < self.flash.len() && part.pages(FLASH + end as u32, 1).is_none() {
                        end += 128;
                    }
                    self.flash[at..end].fill(0xff);
                    found = true;
                    break;
                }
                at += 128;
            }
            if !found {
                return NACK;
            }
        }
        ACK
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> u8 {
        let worn = self.worn;
        let Some(memory) = self.memory(address, bytes.len()) else { return NACK };
        let mut again = 0;
        for (index, (cell, byte)) in memory.iter_mut().zip(bytes).enumerate() {
            if address >= RAM {
                *cell = *byte;
                continue;
            }
            again += usize::from(*cell != 0xff && *cell != *byte);
            *cell &= *byte;
            if worn == Some((address - FLASH) as usize + index) {
                *cell |= 1;
            }
        }
        self.overwritten += again;
        ACK
    }

    fn command(&mut self, code: u8, out: &mut Vec<u8>) {
        let commands = [0x00, 0x01, 0x02, 0x11, 0x21, 0x31, self.erase_code()];
        match code {
            0x00 => {
                out.extend([ACK, commands.len() as u8, 0x31]);
                out.extend(commands);
                out.push(ACK);
            }
            0x01 => out.extend([ACK, 0x31, 0, 0, ACK]),
            0x02 => {
                out.extend([ACK, 1]);
                out.extend(self.id.to_be_bytes());
                out.push(ACK);
            }
            0x11 | 0x31 if self.protected => out.push(NACK),
            0x11 | 0x21 | 0x31 => {
                out.push(ACK);
                self.state = State::Address(code, Vec::new());
            }
            code if code == self.erase_code() => {
                out.push(ACK);
                self.state = if self.extended { State::EraseExtended(Vec::new()) } else { State::Erase(Vec::new()) };
            }
            _ => out.push(NACK),
        }
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum ^ byte)
}

impl Peer for Rom {
    fn enter(&mut self, _now: Millis, _out: &mut Vec<u8>) {
        self.state = State::Unsynced;
    }

    fn byte(&mut self, _now: Millis, byte: u8, out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.state, State::Command) {
            State::Unsynced if byte == 0x7f => out.push(ACK),
            State::Unsynced => self.state = State::Unsynced,
            State::Command => self.state = State::Complement(byte),
            State::Complement(code) if code ^ byte == 0xff => self.command(code, out),
            State::Complement(_) => out.push(NACK),
            State::Address(code, mut bytes) => {
                bytes.push(byte);
                if bytes.len() < 5 {
                    self.state = State::Address(code, bytes);
                    return;
                }
                let address = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                if sum(&bytes) != 0 || self.memory(address, 1).is_none() {
                    out.push(NACK);
                    return;
                }
                out.push(ACK);
                match code {
                    0x11 => self.state = State::ReadCount(address),
                    0x31 => self.state = State::Write(address, Vec::new()),
                    _ => {
                        self.started = Some(address);
                        self.state = State::Unsynced;
                    }
                }
            }
            State::ReadCount(address) => self.state = State::ReadSum(address, byte),
            State::ReadSum(address, count) => {
                let read = self.memory(address, usize::from(count) + 1).map(|memory| memory.to_vec());
                match read.filter(|_| count ^ byte == 0xff) {
                    Some(read) => {
                        out.push(ACK);
                        out.extend(read);
                    }
                    None => out.push(NACK),
                }
            }
            State::Write(address, mut bytes) => {
                bytes.push(byte);
                let needed = usize::from(bytes[0]) + 3;
                if bytes.len() < needed {
                    self.state = State::Write(address, bytes);
                } else if sum(&bytes) != 0 {
                    out.push(NACK);
                } else {
                    let answer = self.write(address, &bytes[1..needed - 1]);
                    out.push(answer);
                }
            }
            State::Erase(mut bytes) => {
                bytes.push(byte);
                let needed = if bytes[0] == 0xff { 2 } else { usize::from(bytes[0]) + 3 };
                if bytes.len() < needed {
                    self.state = State::Erase(bytes);
                } else if bytes[0] == 0xff && byte == 0 {
                    self.erased += 1;
                    self.flash.fill(0xff);
                    out.push(ACK);
                } else if sum(&bytes) != 0 {
                    out.push(NACK);
                } else {
                    let pages: Vec<u16> = bytes[1..needed - 1].iter().map(|page| u16::from(*page)).collect();
                    let answer = self.erase(&pages);
                    out.push(answer);
                }
            }
            State::EraseExtended(mut bytes) => {
                bytes.push(byte);
                let count = u16::from_be_bytes([bytes[0], *bytes.get(1).unwrap_or(&0)]);
                let needed = if count >= 0xfff0 { 3 } else { 2 * usize::from(count) + 5 };
                if bytes.len() < needed.max(3) {
                    self.state = State::EraseExtended(bytes);
                } else if sum(&bytes) != 0 {
                    out.push(NACK);
                } else if count >= 0xfff0 {
                    self.erased += 1;
                    self.flash.fill(0xff);
                    out.push(ACK);
                } else {
                    let pages: Vec<u16> = bytes[2..needed - 1]
                        .chunks_exact(2)
                        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                        .collect();
                    let answer = self.erase(&pages);
                    out.push(answer);
                }
            }
        }
    }
}
