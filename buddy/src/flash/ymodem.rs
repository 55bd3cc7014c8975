//! Image → blocks of XMODEM-1K or YMODEM, each sent until the receiver has it (Chuck Forsberg, "XMODEM/YMODEM Protocol Reference",
//! 1988). CRC-16 alone: a receiver that asks for checksums of one byte is told so.
//!
//! What a receiver says is one byte, and lines lose and double those. So what came before a block was sent is no answer to it, an
//! unknown byte is none either, and whoever waits in vain is asked again by the receiver, which has the shorter time-out.

use super::{Failure, Flashed, Flasher, Input, Meter, Output, Phase, Whose, check_length, shown};
use sai_core::limits::Millis;

const SOH: u8 = 0x01;
const STX: u8 = 0x02;
const EOT: u8 = 0x04;
const ACK: u8 = 0x06;
const NAK: u8 = 0x15;
const CAN: u8 = 0x18;
const CRC: u8 = b'C';

/// Bytes of a short block and of a long one.
const SHORT: usize = 128;
const LONG: usize = 1024;
/// Milliseconds within which a receiver must have asked for the first block: it asks each few seconds.
const START_MS: Millis = 60_000;
/// Milliseconds for an answer to a block. Receivers wait for at most ten seconds in a block before they ask for it again.
const ANSWER_MS: Millis = 15_000;
/// How often a block is sent at most.
const TRIES: u32 = 10;
/// Milliseconds between the answer to a name and the data, for a receiver that does not ask for it: U-Boot's does so after four
/// seconds in vain.
const READY_MS: Millis = 300;
/// Milliseconds after a file, which the receiver has by then, in which it asks for another one, if it does at all.
const BATCH_MS: Millis = 3_000;
/// Milliseconds for its answer that it knows of there being none: lrzsz's ends at times without it.
const LAST_MS: Millis = 1_000;
/// Milliseconds after a block within which `C` is no answer to it, but was asked before.
const IMPATIENCE_MS: Millis = 200;
/// Milliseconds between being asked by `C` and the block: lrzsz's receiver throws away what comes sooner.
const ASKED_MS: Millis = 50;
/// Milliseconds after a block from which on a request for it says that the receiver had nothing of it. Damage is told at once.
const LOST_MS: Millis = 500;
/// Bytes of a name at most, so that name and length fit a short block.
const NAME_BYTES: usize = 64;
/// Bytes without a meaning that are taken before the first block is asked for: a loader prints some lines.
const JUNK_MAX: usize = 64 * 1024;

/// Which of the two is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// XMODEM-1K: data alone. The receiver has it with up to 1023 bytes of 0x1A behind it.
    Xmodem,
    /// YMODEM: the first block says name and length.
    Ymodem {
        /// The name. What a name of a file may not hold is left out.
        name: String,
    },
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not begun.
    Idle,
    /// The receiver has asked for nothing yet.
    Start,
    /// The block with the name was sent.
    Header,
    /// The receiver has it; it should ask for the data.
    Ready,
    /// A block of data was sent, of so many bytes from the offset on.
    Data,
    /// The end was told.
    End,
    /// The receiver knows; it may ask for another file.
    Batch,
    /// That there is none was told.
    Nothing,
    /// It is over.
    Over,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug)]
pub struct Sender {
    kind: Kind,
    image: Vec<u8>,
    state: State,
    /// Bytes that the receiver has.
    offset: usize,
    /// Blocks that it has, of this file.
    blocks: u8,
    /// Where the block ends that was sent last.
    end: usize,
    tries: u32,
    /// When that was.
    sent: Millis,
    deadline: Option<Millis>,
    /// Whether the receiver has asked for what comes next, which waits for `deadline` alone.
    asked: bool,
    /// Milliseconds between the answer to a block of data and the next one. lrzsz's receiver empties its tty after each answer, and
    /// on a busy machine comes to that when a sender at the other end of a pty has answered long since. None are waited before a
    /// block was lost so, since with most receivers none ever is.
    pause: Millis,
    /// The byte before, while two of the same mean something.
    before: u8,
    junk: usize,
    /// What it said at last that had no meaning.
    strange: Vec<u8>,
    meter: Meter,
}

impl Sender {
    /// A sender of this image.
    ///
    /// # Errors
    /// The image's fault: it is empty, or too long.
    pub fn new(kind: Kind, image: Vec<u8>) -> Result<Self, Failure> {
        check_length(image.len() as u64, None)?;
        Ok(Sender {
            kind,
            image,
            state: State::Idle,
            offset: 0,
            blocks: 0,
            end: 0,
            tries: 0,
            sent: 0,
            deadline: None,
            asked: false,
            pause: 0,
            before: 0,
            junk: 0,
            strange: Vec::new(),
            meter: Meter::default(),
        })
    }

    /// The image.
    pub fn image(&self) -> &[u8] {
        &self.image
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn header(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        if let Kind::Ymodem { name } = &self.kind {
            let plain = |letter: &char| letter.is_ascii_graphic() && *letter != '/';
            payload.extend(name.chars().filter(plain).take(NAME_BYTES).map(|letter| letter as u8));
            if payload.is_empty() {
                payload.extend_from_slice(b"image");
            }
            payload.push(0);
            payload.extend_from_slice(self.image.len().to_string().as_bytes());
        }
        payload
    }

    /// Sends what the state asks for, for the first time or again.
    fn send(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.tries += 1;
        self.sent = now;
        let within = if self.state == State::Nothing { LAST_MS } else { ANSWER_MS };
        self.deadline = Some(now + within);
        self.before = 0;
        let bytes = match self.state {
            State::Header => block(0, &self.header(), 0, SHORT),
            State::Nothing => block(0, &[], 0, SHORT),
            State::Data => {
                let rest = &self.image[self.offset..];
                // A long block for a few bytes at the end would be mostly padding.
                let size = if rest.len() > SHORT { LONG } else { SHORT };
                let length = rest.len().min(size);
                self.end = self.offset + length;
                block(self.blocks.wrapping_add(1), &rest[..length], 0x1a, size)
            }
            State::End => [EOT].to_vec(),
            State::Idle | State::Start | State::Ready | State::Batch | State::Over => return,
        };
        out.push(Output::Send(bytes));
    }

    fn next(&mut self, state: State, now: Millis, out: &mut Vec<Output>) {
        self.state = state;
        self.tries = 0;
        self.send(now, out);
    }

    /// Sends the block after what the receiver has, or the end.
    fn go_on(&mut self, now: Millis, out: &mut Vec<Output>) {
        self.meter.tell(Phase::Load, self.offset, self.image.len(), out);
        let state = if self.offset < self.image.len() { State::Data } else { State::End };
        self.next(state, now, out);
    }

    fn done(&mut self, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        // The receiver has what its sums allow; nobody has looked at where it put it.
        out.push(Output::Done(Flashed { chip: None, verified: false }));
    }

    fn fail(&mut self, whose: Whose, text: String, out: &mut Vec<Output>) {
        if self.state != State::Start {
            // A receiver that is left in the middle would take what comes next for blocks.
            out.push(Output::Send([CAN; 5].to_vec()));
        }
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Failed(Failure::new(whose, text)));
    }

    /// Takes one byte. Whether something was sent because of it, so that what came together with it is no answer to that.
    fn byte(&mut self, now: Millis, byte: u8, out: &mut Vec<Output>) -> bool {
        let before = std::mem::replace(&mut self.before, byte);
        if byte == CAN && before == CAN && self.state != State::Start {
            self.state = State::Over;
            self.deadline = None;
            let text = format!("the board broke off the transfer at byte {} of {}", self.offset, self.image.len());
            out.push(Output::Failed(Failure::new(Whose::Board, text)));
            return true;
        }
        if self.asked {
            // It repeats itself, or says what it will say again.
            return false;
        }
        match (self.state, byte) {
            (State::Start | State::Ready | State::Batch, CRC) | (State::Ready, NAK) => {
                self.asked = true;
                self.deadline = Some(now + ASKED_MS);
            }
            (State::Start, NAK) if before == NAK => {
                let text = "the board asks for blocks without CRC, which would let damage through";
                self.fail(Whose::Board, text.into(), out);
                return true;
            }
            (State::Header, ACK) => {
                self.state = State::Ready;
                self.deadline = Some(now + READY_MS);
            }
            (State::Data, ACK) => {
                self.offset = self.end;
                self.blocks = self.blocks.wrapping_add(1);
                if self.pause == 0 {
                    self.go_on(now, out);
                    return true;
                }
                self.asked = true;
                self.deadline = Some(now + self.pause);
            }
            (State::End, ACK) => match self.kind {
                Kind::Xmodem => self.done(out),
                Kind::Ymodem { .. } => {
                    self.state = State::Batch;
                    self.deadline = Some(now + BATCH_MS);
                }
            },
            // A doubled ACK of the last block stood for that of the end.
            (State::Batch, NAK) => {
                self.state = State::End;
                return self.again(now, out);
            }
            (State::Nothing, ACK) => self.done(out),
            (State::Header | State::Data | State::End | State::Nothing, NAK) => return self.again(now, out),
            // Receivers ask so for the first blocks, U-Boot's for any, and may have asked several times before they were heard once.
            (State::Header | State::Data | State::Nothing, CRC) => {
                if now >= self.sent + IMPATIENCE_MS {
                    return self.again(now, out);
                }
            }
            (State::Start, _) => {
                self.junk += 1;
                if self.junk > JUNK_MAX {
                    let text =
                        format!("the board prints on and on, and asks for no transfer: {}", shown(&self.strange));
                    self.fail(Whose::Board, text, out);
                    return true;
                }
                self.note_strange(byte);
            }
            _ => self.note_strange(byte),
        }
        false
    }

    fn note_strange(&mut self, byte: u8) {
        /// As many as are shown.
        const KEPT: usize = 32;
        if self.strange.len() == KEPT {
            self.strange.remove(0);
        }
        self.strange.push(byte);
    }

    fn again(&mut self, now: Millis, out: &mut Vec<Output>) -> bool {
        if self.tries >= TRIES {
            let text = format!(
                "the board refused the block at byte {} of {} {TRIES} times: bytes are changed or lost on the way",
                self.offset,
                self.image.len()
            );
            self.fail(Whose::Wiring, text, out);
        } else {
            self.was_lost(now);
            self.send(now, out);
        }
        true
    }

    /// Is slower from now on, if the block of data was lost as a whole.
    fn was_lost(&mut self, now: Millis) {
        if self.state == State::Data && now >= self.sent + LOST_MS {
            self.pause = (self.pause * 4).clamp(2, ASKED_MS);
        }
    }
}

impl Flasher for Sender {
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Begin if self.state == State::Idle => {
                self.state = State::Start;
                self.deadline = Some(now + START_MS);
            }
            Input::Bytes(bytes) if !matches!(self.state, State::Idle | State::Over) => {
                for byte in bytes {
                    if self.byte(now, *byte, out) || self.state == State::Over {
                        return;
                    }
                }
            }
            Input::Tick if self.asked && self.deadline.is_some_and(|deadline| deadline <= now) => {
                self.asked = false;
                match (self.state, &self.kind) {
                    (State::Start, Kind::Ymodem { .. }) => self.next(State::Header, now, out),
                    (State::Batch, _) => self.next(State::Nothing, now, out),
                    _ => self.go_on(now, out),
                }
            }
            Input::Tick if self.deadline.is_some_and(|deadline| deadline <= now) => match self.state {
                State::Batch => self.done(out),
                // It has all of the file and has said so; that nothing follows is of no interest to whoever is silent now.
                State::Nothing => self.done(out),
                State::Start => {
                    let text = match self.strange.as_slice() {
                        [] => "nothing came from the board: no transfer was asked for".to_string(),
                        strange => format!("the board asked for no transfer, it said {}", shown(strange)),
                    };
                    self.fail(Whose::Board, text, out);
                }
                State::Ready => self.go_on(now, out),
                // The receiver may have lost both the block and its own patience.
                _ if self.tries < TRIES => {
                    self.was_lost(now);
                    self.send(now, out);
                }
                _ => {
                    let text = format!("no answer at byte {} of {}", self.offset, self.image.len());
                    self.fail(Whose::Wiring, text, out);
                }
            },
            Input::Begin | Input::Entered | Input::Transferred(_) | Input::Bytes(_) | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}

fn block(number: u8, payload: &[u8], padding: u8, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 5);
    bytes.extend_from_slice(&[if size == LONG { STX } else { SOH }, number, !number]);
    bytes.extend_from_slice(payload);
    bytes.resize(size + 3, padding);
    let sum = crc16(&bytes[3..]);
    bytes.extend_from_slice(&sum.to_be_bytes());
    bytes
}

/// CRC-16/XMODEM: polynomial 0x1021, from 0, most significant bit first.
pub fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    bytes.iter().fold(0, |sum, byte| (sum << 8) ^ TABLE[usize::from((sum >> 8) as u8 ^ byte)])
}

const fn table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut sum = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = sum;
        index += 1;
    }
    table
}
