//! Files and a script, or a card → two emulated machines that are wired to each other: a machine with a board, and the board. Its console
//! is the machine's USB serial adapter, a GPIO of the machine its reset pin, and a line of its own a GPIO of the machine. The plug can be
//! pulled, and the machine's power cut.

use crate::arm;
use crate::machine::{self, Board, PLUG};
use crate::pi;
use crate::process::Process;
use crate::qemu::{Orders, connect};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Memory of the machine, MiB.
const MEMORY: u32 = 256;
/// Lines of a machine's GPIO chip.
#[derive(Clone, Copy, Debug)]
pub struct Pins {
    /// The board's reset pin, which is active low.
    pub reset: usize,
    /// The one that the board drives.
    pub driven: usize,
}
/// Those of the machine `virt`, whose kernel sees the edges.
pub const VIRTUAL: Pins = Pins { reset: 2, driven: 5 };
/// Those of an emulated Pi, whose kernel is told of no edges.
pub const PI: Pins = Pins { reset: 17, driven: 22 };
/// Registers of a BCM2837 that set a GPIO to 1 and to 0 (BCM2835 ARM Peripherals, 6.1): what they are told of a pin that is read is the
/// level that QEMU has of it.
const GPSET0: u32 = 0x3f20_001c;
/// See `GPSET0`.
const GPCLR0: u32 = 0x3f20_0028;
/// The line of the board's GPIO chip that it drives.
const DRIVEN: usize = 2;

/// What has the board.
#[derive(Debug)]
enum Kind {
    /// A machine `virt` that has been booted.
    Virtual,
    /// A Pi of this serial number, its card, and the wire to its network.
    Pi(pi::Card, String, pi::Wire),
}

/// The machine and its board.
#[derive(Debug)]
pub struct Wired {
    /// The machine, which says what is on its console.
    pub machine: Process,
    kind: Kind,
    orders: Orders,
    wire: Wire,
    directory: PathBuf,
    // It is there as long as the machine is wired to it.
    board: arm::Board,
}

/// A GPIO chip, as QEMU has it.
#[derive(Clone, Debug)]
enum Chip {
    Pl061(String),
    Bcm2837,
}

impl Chip {
    /// Where QEMU has it.
    fn path(&self) -> &str {
        match self {
            Self::Pl061(path) => path,
            Self::Bcm2837 => "/machine/soc/peripherals/gpio",
        }
    }

    /// The order that gives a pin a level from outside.
    fn drive(&self, pin: usize, level: bool) -> String {
        match self {
            Self::Pl061(path) => format!("set_irq_in {path} unnamed-gpio-in {pin} {}", u8::from(level)),
            Self::Bcm2837 => format!("writel {:#x} {:#x}", if level { GPSET0 } else { GPCLR0 }, 1_u32 << pin),
        }
    }
}

/// The wire to a pin of the machine: nothing where the machine is off.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Option<(UnixStream, Chip, usize)>>>);

impl Wire {
    fn set(&self, to: Option<(UnixStream, Chip, usize)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    fn drive(&self, level: bool) {
        if let Some((pins, chip, pin)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Where the power is cut meanwhile it makes no difference.
            let _ = writeln!(pins, "{}", chip.drive(*pin, level));
        }
    }
}

/// Has each level that a machine gives to a line of its GPIO chip told to `each`, until the machine is gone: its pins.
fn follow(pins: UnixStream, chip: &str, line: usize, each: impl Fn(bool) + Send + 'static) -> UnixStream {
    let mut hand = pins.try_clone().expect("a copy");
    let mut pins = BufReader::new(pins);
    writeln!(hand, "irq_intercept_out {chip}").expect("QEMU listens");
    let mut answer = String::new();
    pins.read_line(&mut answer).expect("an answer");
    assert_eq!(answer, "OK\n");
    // What comes then may be a long time coming.
    hand.set_read_timeout(None).expect("no time-out");
    thread::spawn(move || {
        for said in pins.lines().map_while(Result::ok) {
            if let ["IRQ", word, number] = said.split(' ').collect::<Vec<_>>()[..]
                && number.parse() == Ok(line)
            {
                each(word == "raise");
            }
        }
    });
    hand
}

impl Wired {
    /// Boots the machine with these files, each at a path, and has it run a script; its board's U-Boot knows these variables.
    pub fn boot(directory: &Path, variables: &[&str], files: &[(&Path, &str)], script: &str) -> Self {
        let (board, wire) = wired_board(directory, variables);
        let machine = machine::boot(directory, Board::Wired(MEMORY), files, script);
        Self::of(Kind::Virtual, machine, board, wire, directory)
    }

    /// The same with a Pi that starts from this card.
    pub fn pi(directory: &Path, variables: &[&str], card: pi::Card, serial: &str) -> Self {
        let (board, wire) = wired_board(directory, variables);
        let network = pi::Wire::default();
        let machine = card.start_wired(directory, serial, &network);
        Self::of(Kind::Pi(card, serial.to_string(), network), machine, board, wire, directory)
    }

    fn of(kind: Kind, machine: Process, board: arm::Board, wire: Wire, directory: &Path) -> Self {
        let orders = wired(&kind, directory, &board, &wire);
        Self { machine, kind, orders, wire, directory: directory.to_path_buf(), board }
    }

    /// Moves the line that the board drives, by hand.
    pub fn touch(&self, level: bool) {
        self.wire.drive(level);
    }

    /// Pulls the plug of the board's console.
    pub fn pull(&mut self) {
        self.orders.give(&format!(r#"{{"execute":"device_del","arguments":{{"id":"{PLUG}"}}}}"#));
    }

    /// Puts it in again.
    pub fn plug(&mut self) {
        let what = r#""driver":"usb-serial","chardev":"board1","bus":"hub.0","port":"1","serial":"BOARD1","always-plugged":true"#;
        self.orders.give(&format!(r#"{{"execute":"device_add","arguments":{{"id":"{PLUG}",{what}}}}}"#));
    }

    /// Cuts the machine's power; the board has its own.
    pub fn cut(&mut self) {
        self.machine.kill();
        self.wire.set(None);
    }

    /// Switches it on again.
    pub fn switch_on(&mut self) {
        self.machine = match &self.kind {
            Kind::Virtual => machine::start(&self.directory, Board::Wired(MEMORY)),
            Kind::Pi(card, serial, network) => card.start_wired(&self.directory, serial, network),
        };
        self.orders = wired(&self.kind, &self.directory, &self.board, &self.wire);
    }
}

/// A board whose U-Boot knows these variables, with its console where a machine in this directory looks for it, and a wire to that.
fn wired_board(directory: &Path, variables: &[&str]) -> (arm::Board, Wire) {
    let board = arm::Board::new("wired", variables);
    fs::create_dir_all(directory).expect("a directory");
    symlink(board.tty(), directory.join("tty")).expect("a link");
    let chip = board.orders.lock().expect("its orders").pl061();
    let wire = Wire::default();
    let other = wire.clone();
    follow(connect(&board.directory.join("pins")), &chip, DRIVEN, move |level| other.drive(level));
    (board, wire)
}

/// Wires the machine to its board, and lets it begin.
fn wired(kind: &Kind, directory: &Path, board: &arm::Board, wire: &Wire) -> Orders {
    let mut orders = Orders::connect(&directory.join("orders"));
    let (chip, pins) = match kind {
        Kind::Virtual => (Chip::Pl061(orders.pl061()), VIRTUAL),
        Kind::Pi(..) => (Chip::Bcm2837, PI),
    };
    let reset = board.reset_pin();
    let hand = follow(connect(&directory.join("pins")), chip.path(), pins.reset, move |level| match level {
        true => reset.release(),
        false => reset.hold(),
    });
    wire.set(Some((hand, chip, pins.driven)));
    orders.execute("cont");
    orders
}
