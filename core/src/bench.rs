//! `boards.json` → Bench: the boards that hang off a machine, how each is reached, reset, flashed and powered, and what belongs
//! together, with what is wrong with it by line and column.
//!
//! Levels are what a line means to the board, 0 or 1: `active_low` turns them around at the pin, and nowhere else is that thought of.
//! The same holds for DTR, RTS and BREAK, where 1 is asserted.

mod flash;
mod lacking;
mod loader;
mod reading;
mod registers;
mod resting;
mod steps;
mod wiring;

pub use self::reading::read;
pub use self::resting::Signals;
pub use self::steps::milliseconds;

use crate::limits::{CHANNELS, Millis};
use crate::ordered::Map;
use crate::pattern::Pattern;
use crate::units::{OfferedBoard, OfferedHealth};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most boards of a machine: more ports than hubs can be chained to.
pub const BOARDS_MAX: usize = 64;
/// Most consoles of a board, and most lines: together they are channels of one log, with room for the job's own.
pub const CONSOLES_MAX: usize = 8;
/// Most lines of a board.
pub const LINES_MAX: usize = 48;
/// Most sequences, and most modes, of a board.
pub const SEQUENCES_MAX: usize = 64;
/// Most steps of a sequence or mode, with those that it leads through counted in.
pub const STEPS_MAX: usize = 1_000;
/// Longest wait of one step, and longest of all the steps that one leads through, in milliseconds.
pub const WAIT_MAX_MS: Millis = 10 * 60 * 1000;
/// Most words of a command.
pub const WORDS_MAX: usize = 256;
/// Most places that images can be put at.
pub const TARGETS_MAX: usize = 32;
/// Most tags of a board.
pub const TAGS_MAX: usize = 32;
/// Seconds that flashing may take, unless a board says otherwise: a slow loader and an image of a few megabytes.
pub const FLASH_TIMEOUT_S: u64 = 300;
/// Seconds between two looks at a board's health at least, where they are by time: flash memory wears out.
pub const HEALTH_EVERY_S: u64 = 600;
/// Seconds between two such looks at most.
pub const HEALTH_EVERY_MAX_S: u64 = 365 * 24 * 60 * 60;
/// Seconds that a look at a board's health may take beside flashing and what its file allows: owner, modes, reset.
const HEALTH_MORE_S: u64 = 60;
/// Milliseconds for which `power cycle` leaves the power off, unless a board says otherwise: its capacitors empty in these.
pub const OFF_MS: Millis = 2_000;

/// The chip that stands for a Raspberry Pi's own GPIOs, by their registers.
pub const PI: &str = "pi";
/// GPIOs that it has at most.
const PI_PINS: u32 = 54;
/// Most pulses a second: they are made by a thread that sleeps in between.
const HERTZ_MAX: u32 = 10_000;

/// All boards of a machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bench {
    /// In file order, each name once.
    pub boards: Vec<Board>,
    /// Boards that are wired together, and wanted as one.
    pub rigs: Vec<Rig>,
}

/// Boards that are wired together.
#[derive(Clone, Debug, PartialEq)]
pub struct Rig {
    /// Its name; no board has it.
    pub name: String,
    /// What it is wanted as.
    pub kind: String,
    /// What else it is known for.
    pub tags: Vec<String>,
    /// Names of its boards, at least two; no board is in two rigs.
    pub boards: Vec<String>,
}

/// One board.
#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// Its name, a place on a bench.
    pub name: String,
    /// What it is wanted as.
    pub kind: String,
    /// What else it is known for.
    pub tags: Vec<String>,
    /// Its ttys, in file order.
    pub consoles: Vec<Console>,
    /// Its lines, in file order.
    pub lines: Vec<Line>,
    /// Named ways to move lines.
    pub sequences: Map<String, Vec<Step>>,
    /// Named states with the way to each.
    pub modes: Map<String, Mode>,
    /// How an image gets onto it.
    pub flash: Option<Flash>,
    /// How it is switched on and off.
    pub power: Option<Power>,
    /// How it is found out whether it is well.
    pub health: Option<Health>,
    /// A number of what its file says of it, blanks and comments left out: another one where anything else is said.
    pub digest: u64,
}

/// A tty of a board.
#[derive(Clone, Debug, PartialEq)]
pub struct Console {
    /// Its name.
    pub name: String,
    /// Where it is found.
    pub tty: Tty,
    /// The serial number that its adapter must have.
    pub serial: Option<String>,
    /// Vendor and product that its adapter must have, as `0403:6001`.
    pub product: Option<String>,
    /// How it is set up.
    pub settings: Settings,
    /// The level of DTR when it is opened, which is that of a line that it is; `None` leaves what the driver does.
    pub dtr: Option<bool>,
    /// The same of RTS.
    pub rts: Option<bool>,
    /// Milliseconds between two bytes that are sent, for boards that lose bytes otherwise.
    pub pace_ms: Millis,
    /// Whether the board must have echoed a byte before the next is sent.
    pub echo: bool,
}

/// Where a tty is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tty {
    /// A USB port, which stays the same whatever is plugged in where else: bus, ports of hubs, and the interface of the adapter.
    Usb(String, u8),
    /// A name below `/dev/serial/by-id`.
    ById(String),
    /// A path below `/dev`.
    Path(String),
}

/// How a tty is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bits a second.
    pub baud: u32,
    /// Bits of a character, 5 to 8.
    pub bits: u8,
    /// Its parity.
    pub parity: Parity,
    /// Stop bits, 1 or 2.
    pub stop: u8,
    /// Who holds back whom.
    pub flow: Flow,
}

/// Parity of characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parity {
    /// No bit for it.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Flow control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Nobody holds back anybody.
    None,
    /// RTS and CTS.
    Hardware,
    /// XON and XOFF.
    Software,
}

/// Something of a board that has a level.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub wire: Wire,
    /// Whether the pin is low where the level is 1.
    pub active_low: bool,
    /// Whether it is driven or read.
    pub use_as: Use,
    /// The level that the board has where nobody holds the line; `None` where that is not known, and it must be held always.
    pub unheld: Option<bool>,
}

/// Where a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// A GPIO: a chip by name or label, and a line of it.
    Gpio(String, Pin),
    /// DTR, RTS or BREAK of a console.
    Signal(String, Signal),
    /// The power of a USB port.
    UsbPort(String),
}

/// Which line of a GPIO chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By its number.
    Offset(u32),
    /// By the name that the device tree gives to it.
    Name(String),
}

/// What a tty drives beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Data terminal ready.
    Dtr,
    /// Request to send.
    Rts,
    /// The break condition.
    Break,
}

/// What a line is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Driven by us.
    Output {
        /// The level in which nothing happens to the board.
        safe: bool,
        /// How it is driven.
        drive: Drive,
    },
    /// Driven by the board; its edges are recorded.
    Input {
        /// What holds it where the board does not.
        bias: Bias,
        /// Microseconds for which a level must last to count.
        debounce_us: u32,
        /// Milliseconds between two looks at its level, for a chip that tells nobody of edges; 0 where the chip's edges are taken.
        poll_ms: u32,
    },
}

/// How an output is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// Both levels.
    PushPull,
    /// Low alone.
    OpenDrain,
    /// High alone.
    OpenSource,
    /// At 1 by pulses, so many a second, high for so many hundredths of the time; at 0 low. A Raspberry Pi's own GPIOs alone.
    Pulses {
        /// Pulses a second.
        hertz: u32,
        /// Hundredths of the time for which it is high.
        percent: u8,
    },
    /// At 1 by what this alternate function of the chip is, 0 to 5; at 0 not at all. A Raspberry Pi's own GPIOs alone.
    Function(u8),
}

/// What holds an input where nobody drives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bias {
    /// What the chip does by itself.
    AsIs,
    /// Nothing.
    Disabled,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
}

/// One step of a sequence or mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Lines get these levels, those of one chip or console at the same moment.
    Set(Vec<(String, bool)>),
    /// Nothing happens for so many milliseconds.
    Wait(Millis),
    /// The power is switched.
    Power(Switch),
    /// A sequence is played; there is none left after [`Board::play`].
    Play(String),
}

/// What is done to a power supply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It is switched on.
    On,
    /// It is switched off.
    Off,
    /// It is switched off, and on after a while.
    Cycle,
}

impl Switch {
    /// What a word stands for.
    ///
    /// # Errors
    /// What was expected.
    pub fn of(word: &str) -> Result<Self, String> {
        match word {
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            "cycle" => Ok(Self::Cycle),
            _ => Err(format!("power {word:?}: expected on, off or cycle")),
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cycle => "cycle",
        }
    }
}

/// A named state of a board.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mode {
    /// The mode to pass through before.
    pub from: Option<String>,
    /// What is done then.
    pub steps: Vec<Step>,
    /// Milliseconds after which it is reached.
    pub settle_ms: Millis,
}

/// How an image gets onto a board.
#[derive(Clone, Debug, PartialEq)]
pub struct Flash {
    /// By what.
    pub with: Flasher,
    /// The console that it goes by.
    pub console: Option<String>,
    /// The mode that is reached before.
    pub mode: Option<String>,
    /// The mode that is reached after.
    pub then: Option<String>,
    /// What the chip must say that it is, before anything is erased.
    pub chip_id: Option<u32>,
    /// Bits a second while it is flashed; the console's where it is not said.
    pub baud: Option<u32>,
    /// Places for images, in file order; the first is meant where none is named. At least one.
    pub targets: Vec<Target>,
    /// Seconds that it may take.
    pub timeout_s: u64,
}

/// A place for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// The address, partition or setting, as it was written.
    pub place: String,
    /// The address, where that is one.
    pub address: u32,
    /// Bytes that an image may have there.
    pub size: Option<u64>,
    /// What it is to a loader that speaks DFU.
    pub alternate: Option<Alternate>,
}

/// A place of a loader that speaks DFU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternate {
    /// Which of its memories.
    pub setting: Setting,
    /// Where in that, by ST's extension; a loader without it has images at the one place that they belong.
    pub address: Option<u32>,
}

/// An alternate setting of a USB interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// By its number.
    Number(u8),
    /// By its name, of which ST's extension has more behind a slash that is not part of it.
    Name(String),
}

/// What flashes a board.
#[derive(Clone, Debug, PartialEq)]
pub enum Flasher {
    /// U-Boot at the console, by YMODEM.
    Uboot(Uboot),
    /// The boot loader in ST's parts, AN3155.
    Stm32,
    /// STK500 version 1, as optiboot and older loaders of Arduinos speak it.
    Optiboot,
    /// A loader that speaks DFU at a USB port.
    Dfu(AtUsb),
    /// A loader that speaks fastboot at a USB port.
    Fastboot {
        /// Where it is.
        at: AtUsb,
        /// Variables of it, and what each must hold before anything is sent.
        expects: Vec<(String, String)>,
    },
    /// A tool, which gets a tty of ours.
    Tool {
        /// Program and arguments, with `{image}`, `{tty}`, `{baud}` and `{target}` in them.
        argv: Vec<String>,
        /// Whether it reads back what it wrote. Where not, the board is said to be unverified.
        verifies: bool,
    },
}

/// What is plugged into a USB port, and what it must be to be a board's loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtUsb {
    /// The port, which stays the same whatever is plugged in where else.
    pub port: String,
    /// Vendor and product that the loader must have, as `0483:df11`.
    pub product: Option<String>,
    /// The serial number that it must have.
    pub serial: Option<String>,
    /// Whether what was flashed is found to be there: read back by DFU, checked by a loader that speaks fastboot.
    pub verifies: bool,
}

/// What is said to a U-Boot. In texts that are sent `{load}`, `{size}` and `{target}` stand for addresses and length, in
/// hexadecimal digits.
#[derive(Clone, Debug, PartialEq)]
pub struct Uboot {
    /// When its countdown is seen.
    pub countdown: Pattern,
    /// What is sent then.
    pub stop: String,
    /// When it waits for a command.
    pub prompt: Pattern,
    /// Where in memory images are received.
    pub load: u32,
    /// Whether they are received by XMODEM, for a loader that was built without YMODEM; their ends are padded in memory then.
    pub xmodem: bool,
    /// Commands that bring what was received to its place.
    pub write: Vec<String>,
    /// Whether its checksum is taken of the place (where that is memory it can read), or of what was received alone.
    pub verifies: bool,
    /// The last command, if any.
    pub boot: Option<String>,
}

/// How a board is switched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Power {
    /// By what.
    pub by: Supply,
    /// Milliseconds for which a cycle leaves it off.
    pub off_ms: Millis,
}

/// What switches the power of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The port of a USB hub.
    UsbPort(String),
    /// A line of the board, by name.
    Line(String),
    /// Commands that switch it on and off.
    Commands {
        /// Program and arguments that switch it on.
        on: Vec<String>,
        /// And off.
        off: Vec<String>,
    },
    /// Requests that switch it on and off.
    Http {
        /// What switches it on.
        on: Request,
        /// And off.
        off: Request,
    },
}

/// An HTTP request without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whether it is a POST; else it is a GET.
    pub post: bool,
    /// `http://HOST[:PORT]/…`.
    pub url: String,
    /// What the answer must have in it, beside a status that says that it is one.
    pub answer: Option<&'static str>,
}

impl Request {
    /// The address for people: without what is asked there, which may have a password in it.
    pub fn shown(&self) -> String {
        match self.url.split_once('?') {
            Some((place, _)) => format!("{place}?***"),
            None => self.url.clone(),
        }
    }
}

/// How it is found out whether a board is well.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Images that are known to be good, by target; an empty name is the first target's.
    pub images: Vec<(String, String)>,
    /// What such an image prints.
    pub pass: Pattern,
    /// Within how many milliseconds after its reset.
    pub within_ms: Millis,
    /// After how many seconds this is found out again; only when there is a reason where it is `None`.
    pub every_s: Option<u64>,
}

impl Flash {
    /// The place of this name; an empty one is the first.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| name.is_empty() || target.name == name)
    }
}

impl Flasher {
    /// Its word, as `with` has it.
    pub fn word(&self) -> &'static str {
        match self {
            Flasher::Uboot(_) => "ymodem-uboot",
            Flasher::Stm32 => "stm32",
            Flasher::Optiboot => "optiboot",
            Flasher::Dfu(_) => "dfu",
            Flasher::Fastboot { .. } => "fastboot",
            Flasher::Tool { .. } => "argv",
        }
    }

    /// Where its loader is, if that is a USB device which is spoken to itself.
    pub fn at_usb(&self) -> Option<&AtUsb> {
        match self {
            Flasher::Dfu(at) | Flasher::Fastboot { at, .. } => Some(at),
            Flasher::Uboot(_) | Flasher::Stm32 | Flasher::Optiboot | Flasher::Tool { .. } => None,
        }
    }

    /// Whether what is flashed like this is found to be there.
    pub fn verifies(&self) -> bool {
        match self {
            Flasher::Uboot(uboot) => uboot.verifies,
            Flasher::Stm32 | Flasher::Optiboot => true,
            Flasher::Dfu(at) | Flasher::Fastboot { at, .. } => at.verifies,
            Flasher::Tool { verifies, .. } => *verifies,
        }
    }
}

impl Bench {
    /// The board of this name.
    pub fn board(&self, name: &str) -> Option<&Board> {
        self.boards.iter().find(|board| board.name == name)
    }

    /// What an agent offers of it. A board of a rig is not among these: it is wanted together with the others, as the rig, or not at all.
    #[must_use]
    pub fn offered(&self) -> Vec<OfferedBoard> {
        let alone = |board: &&Board| !self.rigs.iter().any(|rig| rig.boards.contains(&board.name));
        let offered = |board: &Board| {
            let (name, kind, tags) = (board.name.clone(), board.kind.clone(), board.tags.clone());
            OfferedBoard { name, kind, tags, boards: None, health: health(&[board]) }
        };
        let rigs = self.rigs.iter().map(|rig| {
            let (name, kind, tags) = (rig.name.clone(), rig.kind.clone(), rig.tags.clone());
            let health = health(&self.unit(&rig.name));
            OfferedBoard { name, kind, tags, boards: Some(rig.boards.clone()), health }
        });
        self.boards.iter().filter(alone).map(offered).chain(rigs).collect()
    }

    /// The boards of what is offered by this name: those of a rig in their order, or the one.
    pub fn unit(&self, name: &str) -> Vec<&Board> {
        match self.rigs.iter().find(|rig| rig.name == name) {
            Some(rig) => rig.boards.iter().filter_map(|board| self.board(board)).collect(),
            None => self.board(name).into_iter().collect(),
        }
    }
}

/// How it is found out whether these are well, which are looked at at the same time: not at all, unless it is known of each.
fn health(boards: &[&Board]) -> Option<OfferedHealth> {
    let each: Option<Vec<(&Health, u64)>> = boards
        .iter()
        .map(|board| {
            let flash_s = board.flash.as_ref().map_or(0, |flash| flash.timeout_s);
            board.health.as_ref().map(|health| (health, flash_s))
        })
        .collect();
    let each = each.filter(|each| !each.is_empty())?;
    let longest = each.iter().map(|(health, flash_s)| {
        let images = health.images.len() as u64;
        flash_s.saturating_mul(images).saturating_add(health.within_ms.div_ceil(1000))
    });
    let timeout_s = longest.max()?.saturating_add(HEALTH_MORE_S);
    Some(OfferedHealth { timeout_s, every_s: each.iter().filter_map(|(health, _)| health.every_s).min() })
}

impl Board {
    /// The console of this name.
    pub fn console(&self, name: &str) -> Option<&Console> {
        self.consoles.iter().find(|console| console.name == name)
    }

    /// The line of this name: one of `lines`, or `CONSOLE.dtr`, `.rts` or `.break`.
    pub fn line(&self, name: &str) -> Option<Line> {
        let named = self.lines.iter().find(|line| line.name == name).cloned();
        named.or_else(|| {
            let (console, signal) = resting::signal(name)?;
            let found = self.console(console)?;
            let idle = match signal {
                Signal::Dtr => found.dtr.unwrap_or(true),
                Signal::Rts => found.rts.unwrap_or(true),
                Signal::Break => false,
            };
            Some(Line {
                name: name.to_string(),
                wire: Wire::Signal(console.to_string(), signal),
                active_low: false,
                use_as: Use::Output { safe: idle, drive: Drive::PushPull },
                unheld: None,
            })
        })
    }

    /// The lines that are read, each of a GPIO chip, in file order.
    pub fn read(&self) -> impl Iterator<Item = &Line> {
        let read = |line: &&Line| matches!((&line.use_as, &line.wire), (Use::Input { .. }, Wire::Gpio(..)));
        self.lines.iter().filter(read)
    }

    /// Those that are looked at from time to time, and milliseconds between two looks.
    pub fn polled(&self) -> impl Iterator<Item = (&str, u32)> {
        self.read().filter_map(|line| match line.use_as {
            Use::Input { poll_ms, .. } if poll_ms > 0 => Some((line.name.as_str(), poll_ms)),
            _ => None,
        })
    }

    /// The channel of a line in the board's logs: behind its consoles, which are those of their numbers.
    pub fn channel(&self, line: &str) -> Option<u8> {
        let place = self.lines.iter().position(|other| other.name == line)?;
        u8::try_from(self.consoles.len() + place).ok()
    }

    /// The channel of what a tool prints that flashes it: behind its lines.
    pub fn tool_channel(&self) -> u8 {
        (self.consoles.len() + self.lines.len()) as u8
    }

    /// The channel of what a console had before a job, if there is room for it: behind the tool's.
    pub fn before_channel(&self, console: u8) -> Option<u8> {
        let channel = self.tool_channel().checked_add(1)?.checked_add(console)?;
        (usize::from(channel) < CHANNELS).then_some(channel)
    }

    /// The steps of a sequence with those that it plays in their places, or `None` if there is no such sequence.
    pub fn play(&self, sequence: &str) -> Option<Vec<Step>> {
        self.sequences.get(sequence).map(|steps| self.unrolled(steps))
    }

    /// The modes to pass through to a mode, in order, each with its steps and the milliseconds to wait after them. `None` if there
    /// is no such mode.
    pub fn way_to(&self, mode: &str) -> Option<Vec<(String, Vec<Step>, Millis)>> {
        let mut way = Vec::new();
        let mut next = Some(mode);
        while let Some(name) = next {
            let mode = self.modes.get(name)?;
            way.insert(0, (name.to_string(), self.unrolled(&mode.steps), mode.settle_ms));
            next = mode.from.as_deref();
            if way.len() > self.modes.len() {
                return None;
            }
        }
        Some(way)
    }

    /// The way to a mode as a text, the same where the same is done on it. `None` if there is no such mode.
    pub fn told_way_to(&self, mode: &str) -> Option<String> {
        let mut text = String::new();
        for (name, steps, settle_ms) in self.way_to(mode)? {
            text.push_str(&name);
            for step in &steps {
                match step {
                    Step::Set(levels) => levels.iter().for_each(|(line, level)| {
                        text.push_str(&format!(", {line} {}", u8::from(*level)));
                    }),
                    Step::Wait(ms) => text.push_str(&format!("; wait {ms}")),
                    Step::Power(switch) => {
                        text.push_str("; power ");
                        text.push_str(switch.word());
                    }
                    Step::Play(name) => text.push_str(&format!("; {name}")),
                }
            }
            text.push_str(&format!("; settle {settle_ms}\n"));
        }
        Some(text)
    }

    fn unrolled(&self, steps: &[Step]) -> Vec<Step> {
        steps::unrolled(&self.sequences, steps).unwrap_or_default()
    }
}
