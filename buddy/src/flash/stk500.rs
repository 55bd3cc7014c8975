//! Image → the flash of an AVR, through optiboot or another loader with STK500 version 1 (Atmel's AVR061; Optiboot's
//! `optiboot.c`): signature known, pages written, all of them read back.
//!
//! A command that does not end as it should starts the application, within 16 ms, and so does a second of silence. So nothing is
//! tried again on the way: whatever goes wrong, the board is reset and all is done once more.

use super::{ENTRIES_MAX, Failure, Flashed, Flasher, Input, Meter, Output, Phase, Whose, check_length, shown, wire_ms};
use sai_core::limits::Millis;

const IN_SYNC: u8 = 0x14;
const OK: u8 = 0x10;
const END: u8 = 0x20;

const GET_SYNC: u8 = 0x30;
const LEAVE: u8 = 0x51;
const LOAD_ADDRESS: u8 = 0x55;
const PROGRAM_PAGE: u8 = 0x64;
const READ_PAGE: u8 = 0x74;
const READ_SIGNATURE: u8 = 0x75;
const FLASH: u8 = b'F';

/// Milliseconds for an answer beside the time on the line: a page is erased and written in 10 ms.
const ANSWER_MS: Millis = 500;
/// Milliseconds between two calls: a loader waits for a second, or for half of one, after a reset.
const SYNC_MS: Millis = 60;
/// How often it is called after a reset.
const SYNCS: u32 = 30;
/// Bytes that the protocol's addresses of two bytes reach, of words.
const FLASH_BYTES: u32 = 128 * 1024;

/// An AVR: signature, name, bytes of flash, of a page, and of the largest boot section.
const PARTS: &[(u32, &str, u32, usize, u32)] = &[
    (0x1e_9307, "ATmega8", 8 * 1024, 64, 2048),
    (0x1e_930a, "ATmega88", 8 * 1024, 64, 2048),
    (0x1e_930f, "ATmega88P", 8 * 1024, 64, 2048),
    (0x1e_9406, "ATmega168", 16 * 1024, 128, 2048),
    (0x1e_940b, "ATmega168P", 16 * 1024, 128, 2048),
    (0x1e_9502, "ATmega32", 32 * 1024, 128, 4096),
    (0x1e_950f, "ATmega328P", 32 * 1024, 128, 4096),
    (0x1e_9514, "ATmega328", 32 * 1024, 128, 4096),
    (0x1e_9516, "ATmega328PB", 32 * 1024, 128, 4096),
    (0x1e_9609, "ATmega644", 64 * 1024, 256, 8192),
    (0x1e_960a, "ATmega644P", 64 * 1024, 256, 8192),
    (0x1e_9703, "ATmega1280", 128 * 1024, 256, 8192),
    (0x1e_9705, "ATmega1284P", 128 * 1024, 256, 8192),
];

/// Bytes of the smallest boot section with optiboot in it: what is above that is the image's.
const BOOT_LEAST: u32 = 512;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bits a second, which time-outs depend on.
    pub baud: u32,
    /// Where the image belongs, in bytes.
    pub address: u32,
    /// Bytes that it may have there.
    pub room: Option<u64>,
    /// The signature that the chip must have.
    pub chip: Option<u32>,
    /// Whether the loader starts it. Where the board is reset anyhow, what ran until then would be taken for what runs after.
    pub go: bool,
}

/// What is asked of the loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    /// Whether it is there; so many calls were made.
    Sync(u32),
    /// It is; answers to earlier calls may be on their way.
    Settle,
    Signature,
    /// The address of what is written from a byte of the image on.
    WriteAddress(usize),
    Write(usize),
    ReadAddress(usize),
    Read(usize),
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Entering,
    Talking(Task),
    Over,
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Stk500 {
    settings: Settings,
    image: Vec<u8>,
    state: State,
    /// What came since something was sent.
    came: Vec<u8>,
    /// Bytes that the answer has, with the two around it.
    wanted: usize,
    deadline: Option<Millis>,
    entries: u32,
    chip: Option<u32>,
    page: usize,
    /// Where reading back differed, with what was found.
    differed: Option<(usize, u8)>,
    /// What came instead of a loader's answer since the last reset.
    heard: String,
    meter: Meter,
}

impl Stk500 {
    /// A machine that brings this image to its place.
    ///
    /// # Errors
    /// The image's fault, if it cannot fit; that of the settings, if the address cannot be one.
    pub fn new(settings: Settings, mut image: Vec<u8>) -> Result<Self, Failure> {
        let most = u64::from(FLASH_BYTES.saturating_sub(settings.address));
        check_length(image.len() as u64, Some(settings.room.unwrap_or(most).min(most)))?;
        if !settings.address.is_multiple_of(2) {
            return Err(Failure::new(Whose::Tool, "images begin at an even address, since flash is of words"));
        }
        image.resize(image.len().next_multiple_of(2), 0xff);
        Ok(Stk500 {
            settings,
            image,
            state: State::Idle,
            came: Vec::new(),
            wanted: 0,
            deadline: None,
            entries: 0,
            chip: None,
            page: 0,
            differed: None,
            heard: String::new(),
            meter: Meter::default(),
        })
    }

    fn enter(&mut self, out: &mut Vec<Output>) {
        self.entries += 1;
        self.state = State::Entering;
        self.deadline = None;
        out.push(Output::Enter);
    }

    fn begin(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        let address = |offset: usize| {
            let word = (self.settings.address as usize + offset) / 2;
            [LOAD_ADDRESS, word as u8, (word >> 8) as u8, END].to_vec()
        };
        let length = |offset: usize| self.block(offset).len();
        let (bytes, answer) = match task {
            Task::Sync(_) | Task::Settle => ([GET_SYNC, END].to_vec(), 0),
            Task::Signature => ([READ_SIGNATURE, END].to_vec(), 3),
            Task::WriteAddress(offset) | Task::ReadAddress(offset) => (address(offset), 0),
            Task::Write(offset) => {
                let mut bytes = [PROGRAM_PAGE, (length(offset) >> 8) as u8, length(offset) as u8, FLASH].to_vec();
                bytes.extend_from_slice(self.block(offset));
                bytes.push(END);
                (bytes, 0)
            }
            Task::Read(offset) => {
                let length = length(offset);
                ([READ_PAGE, (length >> 8) as u8, length as u8, FLASH, END].to_vec(), length)
            }
            Task::Leave => ([LEAVE, END].to_vec(), 0),
        };
        let within = if matches!(task, Task::Sync(_)) { SYNC_MS } else { ANSWER_MS };
        self.state = State::Talking(task);
        self.came.clear();
        self.wanted = answer + 2;
        self.deadline = Some(now + within + wire_ms(bytes.len() + answer, self.settings.baud));
        out.push(Output::Send(bytes));
    }

    /// The part of the image from an offset on that lies in one page.
    fn block(&self, offset: usize) -> &[u8] {
        let page = self.page.max(2);
        let end = (self.settings.address as usize + offset) / page * page + page - self.settings.address as usize;
        &self.image[offset..self.image.len().min(end)]
    }

    fn came(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        if let Task::Sync(_) = task {
            // Before it answers there may be what the application said, and half of an answer to an earlier call.
            if self.came.ends_with(&[IN_SYNC, OK]) {
                self.state = State::Talking(Task::Settle);
                self.deadline = Some(now + SYNC_MS);
            }
            return;
        }
        if task == Task::Settle {
            return;
        }
        if self.came.first().is_some_and(|first| *first != IN_SYNC) {
            let text = format!("the loader is out of step: {}", shown(&self.came));
            return self.trouble(text, out);
        }
        if self.came.len() < self.wanted {
            return;
        }
        if self.came.last() != Some(&OK) {
            let text = format!("the loader gave another answer than was asked for: {}", shown(&self.came));
            return self.trouble(text, out);
        }
        let answer = self.came[1..self.came.len() - 1].to_vec();
        match task {
            Task::Sync(_) | Task::Settle => {}
            Task::Signature => self.identified(now, &answer, out),
            Task::WriteAddress(offset) => self.begin(now, Task::Write(offset), out),
            Task::Write(offset) => {
                let done = offset + self.block(offset).len();
                self.meter.tell(Phase::Write, done, self.image.len(), out);
                let more = done < self.image.len();
                self.begin(now, if more { Task::WriteAddress(done) } else { Task::ReadAddress(0) }, out);
            }
            Task::ReadAddress(offset) => self.begin(now, Task::Read(offset), out),
            Task::Read(offset) => self.compared(now, offset, &answer, out),
            Task::Leave => self.done(out),
        }
    }

    fn identified(&mut self, now: Millis, answer: &[u8], out: &mut Vec<Output>) {
        let chip = answer.iter().fold(0, |chip, byte| chip << 8 | u32::from(*byte));
        if let Some(wanted) = self.settings.chip.filter(|wanted| *wanted != chip) {
            if self.entries < ENTRIES_MAX && self.chip != Some(chip) {
                // One changed bit would make another chip of it.
                self.chip = Some(chip);
                return self.trouble(format!("the chip is {chip:#08x}, not {wanted:#08x}"), out);
            }
            let text = format!(
                "the chip is {chip:#08x}, not {wanted:#08x}: another board is in this place; nothing was erased"
            );
            return self.fail(Whose::Wiring, text, out);
        }
        let Some((_, name, bytes, page, boot)) = PARTS.iter().find(|(signature, ..)| *signature == chip) else {
            return self.trouble(format!("the pages of chip {chip:#08x} are not known; nothing was erased"), out);
        };
        self.chip = Some(chip);
        self.page = *page;
        out.push(Output::Note(format!("chip {chip:#08x}: {name}")));
        // Loaders write whole pages, whatever they were sent of one.
        self.image.resize(self.image.len().next_multiple_of(*page), 0xff);
        let end = self.settings.address + self.image.len() as u32;
        if end > bytes - BOOT_LEAST.min(*boot) {
            let text = format!(
                "the image ends at {end:#x}, and {name} has {bytes:#x} bytes with the loader in the last of them; nothing was \
                 erased"
            );
            return self.fail(Whose::Image, text, out);
        }
        if !(self.settings.address as usize).is_multiple_of(*page) {
            let text = format!(
                "images begin at a page of {page} bytes, not at {:#x}; nothing was erased",
                self.settings.address
            );
            return self.fail(Whose::Tool, text, out);
        }
        self.begin(now, Task::WriteAddress(0), out);
    }

    fn compared(&mut self, now: Millis, offset: usize, answer: &[u8], out: &mut Vec<Output>) {
        let block = self.block(offset);
        if let Some(at) = block.iter().zip(answer).position(|(ours, theirs)| ours != theirs) {
            let (ours, theirs) = (block[at], answer[at]);
            let found = (offset + at, theirs);
            let address = self.settings.address as usize + offset + at;
            let text = format!("reading back differs: {address:#06x} holds {theirs:02x} where {ours:02x} was written");
            if self.differed.replace(found) == Some(found) {
                // Twice the same is no noise.
                return self.fail(Whose::Board, text, out);
            }
            return self.trouble(text, out);
        }
        let done = offset + block.len();
        self.meter.tell(Phase::Verify, done, self.image.len(), out);
        if done < self.image.len() {
            self.begin(now, Task::ReadAddress(done), out);
        } else if self.settings.go {
            self.begin(now, Task::Leave, out);
        } else {
            self.done(out);
        }
    }

    /// All is done once more from a reset on, or it is given up.
    fn trouble(&mut self, text: String, out: &mut Vec<Output>) {
        self.heard.clear();
        if self.entries < ENTRIES_MAX {
            out.push(Output::Note(format!("{text}; once more from a reset on")));
            self.enter(out);
        } else {
            let whose = if self.differed.is_some() { Whose::Board } else { Whose::Wiring };
            self.fail(whose, text, out);
        }
    }

    fn done(&mut self, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Done(Flashed { chip: self.chip, verified: true }));
    }

    fn fail(&mut self, whose: Whose, text: String, out: &mut Vec<Output>) {
        self.state = State::Over;
        self.deadline = None;
        out.push(Output::Failed(Failure::new(whose, text)));
    }
}

impl Flasher for Stk500 {
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Begin if self.state == State::Idle => self.enter(out),
            Input::Entered if self.state == State::Entering => self.begin(now, Task::Sync(1), out),
            Input::Bytes(bytes) => {
                for byte in bytes {
                    // The byte before it has ended that, or what is awaited is a time.
                    let State::Talking(task) = self.state else { return };
                    /// More than any answer, less than a board can print in a second.
                    const KEPT: usize = 1024;
                    if self.came.len() == KEPT {
                        self.came.remove(0);
                    }
                    self.came.push(*byte);
                    self.came(now, task, out);
                }
            }
            Input::Tick if self.deadline.is_some_and(|deadline| deadline <= now) => match self.state {
                State::Talking(Task::Sync(tries)) if tries < SYNCS => {
                    // What has come of an answer is kept: the rest may be on its way.
                    let half = self.came.last().copied().filter(|last| *last == IN_SYNC);
                    let heard = std::mem::take(&mut self.came);
                    self.begin(now, Task::Sync(tries + 1), out);
                    self.came.extend(half);
                    if heard.len() > 2 {
                        self.heard = shown(&heard);
                    }
                }
                State::Talking(Task::Sync(_)) => {
                    let text = match self.heard.as_str() {
                        "" => "no loader answers: no power, no TX or RX, no reset, or another baud rate".to_string(),
                        heard => format!("no loader answers; the board said {heard}: another baud rate, or no reset"),
                    };
                    self.trouble(text, out);
                }
                State::Talking(Task::Settle) => self.begin(now, Task::Signature, out),
                // It has started the image, whether or not it said so.
                State::Talking(Task::Leave) => self.done(out),
                State::Talking(task) => {
                    let text = format!("the loader went silent in {task:?}");
                    self.trouble(text, out);
                }
                State::Idle | State::Entering | State::Over => {}
            },
            Input::Begin | Input::Entered | Input::Transferred(_) | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}
