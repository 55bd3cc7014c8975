//! A receiver of YMODEM, written from Forsberg's text: patient, exact, and strict about what comes out of turn.

use crate::line::Peer;
use sai_buddy::flash::ymodem::crc16;
use sai_core::limits::Millis;

/// Milliseconds between two bytes of a block, and between two blocks.
const IN_BLOCK_MS: Millis = 1_000;
const BETWEEN_MS: Millis = 10_000;
const ASK_MS: Millis = 3_000;
const ERRORS_MAX: u32 = 10;

/// The receiver, and what it has.
#[derive(Debug, Default)]
pub struct Receiver {
    pub name: String,
    pub length: Option<usize>,
    pub data: Vec<u8>,
    /// The batch has ended as it should.
    pub complete: bool,
    pub aborted: bool,
    /// XMODEM: no block with a name comes.
    pub xmodem: bool,
    block: Vec<u8>,
    next: u8,
    header: bool,
    asking: bool,
    ended: u32,
    errors: u32,
    deadline: Option<Millis>,
}

impl Receiver {
    pub fn new(xmodem: bool) -> Self {
        Receiver { xmodem, header: !xmodem, next: u8::from(xmodem), asking: true, ..Receiver::default() }
    }

    fn bad(&mut self, now: Millis, out: &mut Vec<u8>) {
        self.block.clear();
        self.errors += 1;
        self.deadline = Some(now + BETWEEN_MS);
        if self.errors > ERRORS_MAX {
            self.abort(out);
        } else {
            out.push(if self.asking { b'C' } else { 0x15 });
        }
    }

    fn abort(&mut self, out: &mut Vec<u8>) {
        self.aborted = true;
        self.deadline = None;
        out.extend([0x18, 0x18]);
    }

    fn whole(&mut self, now: Millis, out: &mut Vec<u8>) {
        let block = std::mem::take(&mut self.block);
        let (head, rest) = block.split_at(3);
        let (payload, sum) = rest.split_at(rest.len() - 2);
        if head[1] != !head[2] || crc16(payload).to_be_bytes() != sum {
            return self.bad(now, out);
        }
        self.deadline = Some(now + BETWEEN_MS);
        if head[1] == self.next.wrapping_sub(1) && !self.header {
            // It has this one; its word for that was lost.
            out.push(0x06);
            return;
        }
        if head[1] != self.next {
            return self.abort(out);
        }
        (self.errors, self.ended) = (0, 0);
        if !self.header {
            self.asking = false;
            self.data.extend(payload);
            self.next = self.next.wrapping_add(1);
            out.push(0x06);
            return;
        }
        let text: Vec<&[u8]> = payload.split(|byte| *byte == 0).collect();
        if text[0].is_empty() {
            self.complete = true;
            self.deadline = None;
            out.push(0x06);
            return;
        }
        self.name = String::from_utf8_lossy(text[0]).into_owned();
        let digits = String::from_utf8_lossy(text[1]).into_owned();
        self.length = digits.split(' ').next().and_then(|digits| digits.parse().ok());
        self.header = false;
        self.next = 1;
        out.extend([0x06, b'C']);
    }
}

impl Peer for Receiver {
    fn enter(&mut self, now: Millis, _out: &mut Vec<u8>) {
        self.deadline = Some(now + 1);
    }

    fn deadline(&self) -> Option<Millis> {
        // Before anything was asked it has just been started.
        self.deadline.or_else(|| (self.asking && !self.complete && !self.aborted).then_some(1))
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<u8>) {
        if self.asking && self.block.is_empty() {
            self.deadline = Some(now + ASK_MS);
            self.errors += 1;
            if self.errors > ERRORS_MAX {
                return self.abort(out);
            }
            return out.push(b'C');
        }
        self.bad(now, out);
    }

    fn byte(&mut self, now: Millis, byte: u8, out: &mut Vec<u8>) {
        if self.complete || self.aborted {
            return;
        }
        if self.block.is_empty() {
            match byte {
                0x01 | 0x02 => {}
                0x04 if !self.header => {
                    self.ended += 1;
                    self.deadline = Some(now + BETWEEN_MS);
                    if self.ended == 1 && !self.xmodem {
                        return out.push(0x15);
                    }
                    out.push(0x06);
                    if self.xmodem {
                        self.complete = true;
                        self.deadline = None;
                        return;
                    }
                    (self.header, self.next, self.asking) = (true, 0, true);
                    return out.push(b'C');
                }
                // A second word for the same end, whose answer was lost.
                0x04 => return out.extend([0x06, b'C']),
                0x18 => return self.abort(out),
                _ => return,
            }
        }
        self.block.push(byte);
        self.deadline = Some(now + IN_BLOCK_MS);
        let size = if self.block[0] == 0x02 { 1024 } else { 128 };
        if self.block.len() == size + 5 {
            self.whole(now, out);
        }
    }
}
