//! Image → the memory of an STM32, through the boot loader in its ROM (ST's AN3155, Rev 20): chip known, pages erased, image written,
//! all of it read back.
//!
//! A command is a few bytes that the loader acknowledges one after the other. Whatever goes wrong on the way leaves it waiting for
//! bytes that will not come: it gets 0xFF until it refuses, which is a command of none, an address with a wrong sum, an erasure of
//! none, or data that changes no bit of an erased memory. What was written meanwhile is erased and written anew.

mod parts;

pub use parts::{Part, part};

use super::{ENTRIES_MAX, Failure, Flashed, Flasher, Input, Meter, Output, Phase, Whose, check_length, shown, wire_ms};
use sai_core::limits::Millis;
use std::collections::VecDeque;

const ACK: u8 = 0x79;
const NACK: u8 = 0x1f;
/// The loader is at work and will say more.
const BUSY: u8 = 0x76;
const AUTOBAUD: u8 = 0x7f;
/// What means nothing wherever the loader waits for something.
const FILLER: u8 = 0xff;

const GET: u8 = 0x00;
const GET_ID: u8 = 0x02;
const READ: u8 = 0x11;
const GO: u8 = 0x21;
const WRITE: u8 = 0x31;
const ERASE: u8 = 0x43;
const ERASE_EXTENDED: u8 = 0x44;

/// Bytes of one read or write: the most that the protocol has.
const BLOCK: usize = 256;
/// Bytes that flash is written in at most at once, by any of the parts: what is behind the image is erased bytes.
const ALIGN: usize = 32;
/// Pages of one erasure, so that its time has a bound and its progress can be seen.
const PAGES: usize = 8;
/// Milliseconds for a page: the largest sectors take four seconds when they are worn.
const PAGE_MS: Millis = 5_000;
/// Milliseconds for a whole memory.
const MASS_MS: Millis = 35_000;
/// Milliseconds for anything else, beside the time on the line.
const ANSWER_MS: Millis = 1_000;
/// Milliseconds for an answer to the byte by which the loader finds the baud rate.
const SYNC_MS: Millis = 500;
/// How often that is sent before the way into the loader is gone again.
const SYNCS: u32 = 4;
/// Milliseconds after a filler within which a refusal is one of it.
const FILLER_MS: Millis = 200;
/// How many times fillers have been sent when the last were as many as a block waits for.
const BLOCK_FILLED: u32 = 3;
/// How often something may go wrong on the line.
const TROUBLES_MAX: u32 = 6;
/// How often a loader may say that it is busy: it has 35 s for the longest.
const BUSY_MAX: u32 = 1_000;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bits a second, which time-outs depend on.
    pub baud: u32,
    /// Where the image belongs.
    pub address: u32,
    /// Bytes that it may have there.
    pub room: Option<u64>,
    /// What the chip must say that it is.
    pub chip: Option<u32>,
    /// Whether all of the flash may be erased where the pages of a part are not known.
    pub all: bool,
    /// Whether the image is started by the loader. A reset with BOOT0 low is the better start: it leaves nothing behind.
    pub go: bool,
}

/// What is waited for after some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// An acknowledgement.
    Ack,
    /// A count, one byte more than it says, and an acknowledgement.
    Counted,
    /// So many bytes.
    Bytes(usize),
}

/// Bytes out, and what must come back.
#[derive(Clone, Debug)]
struct Exchange {
    send: Vec<u8>,
    expect: Expect,
    within: Millis,
}

/// What the exchanges are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Get,
    Id,
    /// From the so-manieth of the pages on.
    Erase(usize),
    /// All pages, since they are not known.
    EraseAll,
    /// From a byte of the image on.
    Write(usize),
    Read(usize),
    Go,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Entering,
    Syncing {
        tries: u32,
    },
    Talking(Task),
    /// The loader waits for something, and it is being found out when that ends. So many fillers were sent.
    Resyncing {
        task: Task,
        fillers: u32,
    },
    Over,
}

/// The machine. See the file's first line.
#[derive(Debug)]
pub struct Stm32 {
    settings: Settings,
    /// With what fills its last block.
    image: Vec<u8>,
    state: State,
    exchanges: VecDeque<Exchange>,
    /// What came for the exchange at the front.
    came: Vec<u8>,
    deadline: Option<Millis>,
    entries: u32,
    troubles: u32,
    busy: u32,
    /// The task that was refused last.
    refused: Option<Task>,
    /// The block that was found to differ last.
    differed: Option<usize>,
    /// What came that had no meaning.
    strange: Vec<u8>,
    extended: bool,
    chip: Option<u32>,
    pages: Vec<u16>,
    meter: Meter,
}

impl Stm32 {
    /// A machine that brings this image to its place.
    ///
    /// # Errors
    /// The image's fault, if it cannot fit; that of the settings, if the address cannot be one.
    pub fn new(settings: Settings, mut image: Vec<u8>) -> Result<Self, Failure> {
        check_length(image.len() as u64, settings.room)?;
        if !settings.address.is_multiple_of(4) {
            let text = format!("images begin at a multiple of 4, not at {:#x}", settings.address);
            return Err(Failure::new(Whose::Tool, text));
        }
        let align = if parts::is_flash(settings.address) { ALIGN } else { 4 };
        image.resize(image.len().next_multiple_of(align), FILLER);
        if u64::from(settings.address) + image.len() as u64 > 1 << 32 {
            return Err(Failure::new(Whose::Image, "the image reaches beyond the last address; nothing was erased"));
        }
        Ok(Stm32 {
            settings,
            image,
            state: State::Idle,
            exchanges: VecDeque::new(),
            came: Vec::new(),
            deadline: None,
            entries: 0,
            troubles: 0,
            busy: 0,
            refused: None,
            differed: None,
            strange: Vec::new(),
            extended: false,
            chip: None,
            pages: Vec::new(),
            meter: Meter::default(),
        })
    }

    fn send(&mut self, now: Millis, bytes: Vec<u8>, within: Millis, out: &mut Vec<Output>) {
        self.came.clear();
        self.deadline = Some(now + within + wire_ms(bytes.len(), self.settings.baud));
        if !bytes.is_empty() {
            out.push(Output::Send(bytes));
        }
    }

    fn enter(&mut self, out: &mut Vec<Output>) {
        self.entries += 1;
        self.state = State::Entering;
        self.deadline = None;
        out.push(Output::Enter);
    }

    fn sync(&mut self, now: Millis, tries: u32, out: &mut Vec<Output>) {
        self.state = State::Syncing { tries };
        self.send(now, [AUTOBAUD].to_vec(), SYNC_MS, out);
    }

    fn begin(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        self.state = State::Talking(task);
        let command = |code: u8| acknowledged([code, !code].to_vec(), ANSWER_MS);
        let data = |expect: Expect, bytes: usize| {
            let within = ANSWER_MS + wire_ms(bytes, self.settings.baud);
            Exchange { send: Vec::new(), expect, within }
        };
        let at = |offset: usize| {
            let bytes = (self.settings.address + offset as u32).to_be_bytes();
            acknowledged(summed(bytes.to_vec()), ANSWER_MS)
        };
        self.exchanges = match task {
            Task::Get => [command(GET), data(Expect::Counted, BLOCK)].into(),
            Task::Id => [command(GET_ID), data(Expect::Counted, 4)].into(),
            Task::Erase(from) => {
                let pages = &self.pages[from..self.pages.len().min(from + PAGES)];
                let within = PAGE_MS * pages.len() as Millis;
                let count = pages.len() as u16 - 1;
                if self.extended {
                    let bytes = [count].iter().chain(pages).flat_map(|number| number.to_be_bytes()).collect();
                    [command(ERASE_EXTENDED), acknowledged(summed(bytes), within)].into()
                } else {
                    let bytes = [count].iter().chain(pages).map(|number| *number as u8).collect();
                    [command(ERASE), acknowledged(summed(bytes), within)].into()
                }
            }
            Task::EraseAll if self.extended => {
                [command(ERASE_EXTENDED), acknowledged([0xff, 0xff, 0].to_vec(), MASS_MS)].into()
            }
            Task::EraseAll => [command(ERASE), acknowledged([0xff, 0].to_vec(), MASS_MS)].into(),
            Task::Write(offset) => {
                let block = self.block(offset);
                let mut bytes = [(block.len() - 1) as u8].to_vec();
                bytes.extend_from_slice(block);
                [command(WRITE), at(offset), acknowledged(summed(bytes), ANSWER_MS)].into()
            }
            Task::Read(offset) => {
                let length = self.block(offset).len();
                let count = (length - 1) as u8;
                [
                    command(READ),
                    at(offset),
                    acknowledged([count, !count].to_vec(), ANSWER_MS),
                    data(Expect::Bytes(length), length),
                ]
                .into()
            }
            Task::Go => [command(GO), at(0)].into(),
        };
        self.front(now, out);
    }

    /// Sends what the exchange at the front begins with.
    fn front(&mut self, now: Millis, out: &mut Vec<Output>) {
        if let Some(exchange) = self.exchanges.front() {
            let (bytes, within) = (exchange.send.clone(), exchange.within);
            self.send(now, bytes, within, out);
        }
    }

    fn block(&self, offset: usize) -> &[u8] {
        &self.image[offset..self.image.len().min(offset + BLOCK)]
    }

    /// Takes bytes that belong to a task. Whether some were taken from the beginning, and how many.
    fn talked(&mut self, now: Millis, task: Task, byte: u8, out: &mut Vec<Output>) {
        let Some(expect) = self.exchanges.front().map(|exchange| exchange.expect) else {
            let Failure { whose, text } = Failure::bug("talked: no exchange is under way");
            return self.fail(whose, text, out);
        };
        match expect {
            Expect::Ack => match byte {
                ACK => self.answered(now, task, out),
                NACK => self.refused(now, task, out),
                BUSY if self.busy < BUSY_MAX => {
                    self.busy += 1;
                    self.front_again(now);
                }
                _ => {
                    self.note_strange(byte);
                    self.trouble(now, task, out);
                }
            },
            Expect::Counted => {
                self.came.push(byte);
                let needed = self.came.first().map_or(1, |count| usize::from(*count) + 3);
                if self.came.len() == needed {
                    match byte {
                        ACK => self.answered(now, task, out),
                        _ => self.trouble(now, task, out),
                    }
                }
            }
            Expect::Bytes(length) => {
                self.came.push(byte);
                if self.came.len() == length {
                    self.answered(now, task, out);
                }
            }
        }
    }

    /// The loader asks for more time for what is under way.
    fn front_again(&mut self, now: Millis) {
        if let Some(exchange) = self.exchanges.front() {
            self.deadline = Some(now + exchange.within);
        }
    }

    fn answered(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        self.exchanges.pop_front();
        if !self.exchanges.is_empty() {
            return self.front(now, out);
        }
        let came = std::mem::take(&mut self.came);
        if self.refused == Some(task) {
            self.refused = None;
        }
        match task {
            Task::Get => {
                // The count, the loader's version, commands, and the acknowledgement.
                let commands = came.get(2..came.len().saturating_sub(1)).unwrap_or_default();
                if !commands.contains(&READ) || !commands.contains(&WRITE) || !commands.contains(&GET_ID) {
                    return self.trouble(now, task, out);
                }
                self.extended = commands.contains(&ERASE_EXTENDED);
                if !self.extended && !commands.contains(&ERASE) {
                    return self.fail(Whose::Board, "this loader can erase nothing".into(), out);
                }
                self.begin(now, Task::Id, out);
            }
            Task::Id => match came.as_slice() {
                [1, high, low, _] => self.identified(now, u32::from(u16::from_be_bytes([*high, *low])), out),
                _ => self.trouble(now, task, out),
            },
            Task::Erase(from) => {
                let done = self.pages.len().min(from + PAGES);
                self.meter.tell(Phase::Erase, done, self.pages.len(), out);
                self.begin(now, if done < self.pages.len() { Task::Erase(done) } else { Task::Write(0) }, out);
            }
            Task::EraseAll => {
                self.meter.tell(Phase::Erase, 1, 1, out);
                self.begin(now, Task::Write(0), out);
            }
            Task::Write(offset) => {
                let done = offset + self.block(offset).len();
                self.meter.tell(Phase::Write, done, self.image.len(), out);
                self.begin(now, if done < self.image.len() { Task::Write(done) } else { Task::Read(0) }, out);
            }
            Task::Read(offset) => self.compared(now, offset, &came, out),
            Task::Go => self.done(out),
        }
    }

    /// The chip has said what it is; nothing was erased until now.
    fn identified(&mut self, now: Millis, chip: u32, out: &mut Vec<Output>) {
        self.chip = Some(chip);
        if let Some(wanted) = self.settings.chip.filter(|wanted| *wanted != chip) {
            let text = format!(
                "the chip is {chip:#06x}, not {wanted:#06x}: another board is in this place; nothing was erased"
            );
            return self.fail(Whose::Wiring, text, out);
        }
        let known = part(chip);
        let name = known.map_or("a part that is not known here", |part| part.name);
        out.push(Output::Note(format!("chip {chip:#06x}: {name}")));
        if !parts::is_flash(self.settings.address) {
            return self.begin(now, Task::Write(0), out);
        }
        let Some(known) = known else {
            if self.settings.all && self.settings.address == parts::FLASH {
                return self.begin(now, Task::EraseAll, out);
            }
            let text =
                format!("the pages of chip {chip:#06x} are not known, and only all of it could be erased; nothing was");
            return self.fail(Whose::Tool, text, out);
        };
        match known.pages(self.settings.address, self.image.len()) {
            // The older command has one byte for a page.
            Some(pages) if self.extended || pages.last().is_none_or(|last| *last < 0xff) => {
                self.pages = pages;
                self.meter.tell(Phase::Erase, 0, self.pages.len(), out);
                self.begin(now, Task::Erase(0), out);
            }
            Some(_) => {
                self.fail(Whose::Board, "this loader cannot erase pages beyond 254; nothing was erased".into(), out)
            }
            None => {
                let text = format!(
                    "the image has {} bytes and belongs at {:#010x}, and {name} has {} bytes at {:#010x}, in whole pages; \
                     nothing was erased",
                    self.image.len(),
                    self.settings.address,
                    known.bytes(),
                    parts::FLASH
                );
                self.fail(Whose::Image, text, out);
            }
        }
    }

    fn compared(&mut self, now: Millis, offset: usize, came: &[u8], out: &mut Vec<Output>) {
        let block = self.block(offset);
        let done = offset + block.len();
        if let Some(at) = block.iter().zip(came).position(|(ours, theirs)| ours != theirs) {
            let (ours, theirs) = (block[at], came[at]);
            if self.differed.replace(offset) != Some(offset) && self.troubles < TROUBLES_MAX {
                // The line may have changed it, and the memory be right.
                return self.trouble(now, Task::Read(offset), out);
            }
            let address = u64::from(self.settings.address) + (offset + at) as u64;
            let text = format!("reading back differs: {address:#010x} holds {theirs:02x} where {ours:02x} was written");
            return self.fail(Whose::Board, text, out);
        }
        self.meter.tell(Phase::Verify, done, self.image.len(), out);
        match (done < self.image.len(), self.settings.go) {
            (true, _) => self.begin(now, Task::Read(done), out),
            (false, true) => self.begin(now, Task::Go, out),
            (false, false) => self.done(out),
        }
    }

    /// The loader refuses: it waits for a command now, unless this was the line's doing.
    fn refused(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        if self.refused != Some(task) {
            self.refused = Some(task);
            return self.trouble(now, task, out);
        }
        let (what, address) = match task {
            Task::Get | Task::Id => ("to say what it is", None),
            Task::Erase(_) | Task::EraseAll => ("to erase", None),
            Task::Write(offset) => ("to write", Some(offset)),
            Task::Read(offset) => ("to read", Some(offset)),
            Task::Go => ("to start the image", Some(0)),
        };
        let place = address.map(|offset| format!(" at {:#010x}", u64::from(self.settings.address) + offset as u64));
        let text = format!(
            "the loader refuses {what}{}: that memory is protected, or there is none; a protection is taken away only by \
             erasing everything, which is not done here",
            place.unwrap_or_default()
        );
        self.fail(Whose::Board, text, out);
    }

    /// Something went wrong on the line: what the loader waits for is not known.
    fn trouble(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        self.troubles += 1;
        if self.troubles > TROUBLES_MAX {
            let text = format!("bytes are changed or lost on the way to the loader, again and again{}", self.hint());
            return self.fail(Whose::Wiring, text, out);
        }
        self.exchanges.clear();
        // Nothing is sent before what is still coming has come.
        self.state = State::Resyncing { task, fillers: 0 };
        self.send(now, Vec::new(), FILLER_MS, out);
    }

    /// The next filler: by ones, so that the end of a command is seen, and once as many as a block waits for.
    fn fill(&mut self, now: Millis, task: Task, fillers: u32, out: &mut Vec<Output>) {
        let bytes = match fillers {
            0 | 1 | BLOCK_FILLED..=6 => 1,
            2 => BLOCK + 1,
            // What answered was not the loader, but a program that says such bytes too.
            _ if task == Task::Get && self.entries < ENTRIES_MAX => return self.enter(out),
            _ => {
                let text = format!("the loader does not answer any more{}", self.hint());
                return self.fail(Whose::Wiring, text, out);
            }
        };
        self.state = State::Resyncing { task, fillers: fillers + 1 };
        self.send(now, [FILLER].repeat(bytes), FILLER_MS, out);
    }

    /// The loader waits for a command. A block that was under way may be half written, and memory is not written twice.
    fn resynced(&mut self, now: Millis, task: Task, out: &mut Vec<Output>) {
        let task = match task {
            Task::Write(_) if !self.pages.is_empty() => Task::Erase(0),
            Task::Write(_) if parts::is_flash(self.settings.address) => Task::EraseAll,
            task => task,
        };
        self.begin(now, task, out);
    }

    fn hint(&self) -> String {
        match self.strange.as_slice() {
            [] => String::new(),
            strange => format!("; it said {}", shown(strange)),
        }
    }

    fn note_strange(&mut self, byte: u8) {
        /// As many as are shown.
        const KEPT: usize = 16;
        if self.strange.len() < KEPT {
            self.strange.push(byte);
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

    fn late(&mut self, now: Millis, out: &mut Vec<Output>) {
        match self.state {
            State::Syncing { tries } if tries < SYNCS => self.sync(now, tries + 1, out),
            State::Syncing { .. } if self.entries < ENTRIES_MAX => self.enter(out),
            State::Syncing { .. } => {
                let text = match self.strange.as_slice() {
                    [] => {
                        "nothing answers: no power, no TX or RX, or the board did not start with BOOT0 high".to_string()
                    }
                    strange if strange.iter().all(|byte| *byte == AUTOBAUD) => {
                        "the line echoes what is sent: TX and RX are tied, or another program is there".to_string()
                    }
                    _ => format!(
                        "what answers is no loader of ST's: another program runs (BOOT0), or bits are changed (parity must be \
                         even, with 8 bits){}",
                        self.hint()
                    ),
                };
                self.fail(Whose::Wiring, text, out);
            }
            State::Talking(task) => self.trouble(now, task, out),
            State::Resyncing { task, fillers } => match self.came.as_slice() {
                // The last of a block may have begun another command.
                [.., NACK] if fillers > 0 && fillers != BLOCK_FILLED => self.resynced(now, task, out),
                _ => self.fill(now, task, fillers, out),
            },
            State::Idle | State::Entering | State::Over => {}
        }
    }
}

impl Flasher for Stm32 {
    fn handle(&mut self, now: Millis, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Begin if self.state == State::Idle => self.enter(out),
            Input::Entered if self.state == State::Entering => {
                self.strange.clear();
                self.sync(now, 1, out);
            }
            Input::Bytes(bytes) => {
                for byte in bytes {
                    match self.state {
                        State::Syncing { .. } => match *byte {
                            // A loader that knows the baud rate already takes it for a command that is none.
                            ACK | NACK => self.begin(now, Task::Get, out),
                            other => self.note_strange(other),
                        },
                        State::Talking(task) => self.talked(now, task, *byte, out),
                        State::Resyncing { .. } => {
                            /// Refusals of a block of fillers, and what came before.
                            const MOST: usize = 4 * BLOCK;
                            self.came.push(*byte);
                            if self.came.len() > MOST {
                                let text = format!("the board talks on and on{}", self.hint());
                                self.fail(Whose::Wiring, text, out);
                            }
                        }
                        State::Idle | State::Entering | State::Over => {}
                    }
                }
            }
            Input::Tick if self.deadline.is_some_and(|deadline| deadline <= now) => self.late(now, out),
            Input::Begin | Input::Entered | Input::Transferred(_) | Input::Tick => {}
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.deadline
    }
}

fn acknowledged(send: Vec<u8>, within: Millis) -> Exchange {
    Exchange { send, expect: Expect::Ack, within }
}

/// Bytes with their sum, which is the exclusive or of all.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = bytes.iter().fold(0, |sum, byte| sum ^ byte);
    bytes.push(sum);
    bytes
}
