//! Files and a script → two emulated machines that are wired to each other: a machine with a board, and the board. Its console is the
//! machine's USB serial adapter, a GPIO of the machine its reset pin, and a line of its own a GPIO of the machine, whose kernel sees the
//! edges. The plug can be pulled, and the machine's power cut.

use crate::arm;
use crate::machine::{Board, PLUG, boot, start};
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
/// Lines of the machine's GPIO chip: the board's reset pin, which is active low, and the one that the board drives.
pub const NRST: usize = 2;
/// See `NRST`.
pub const RESULT: usize = 5;
/// The line of the board's GPIO chip that it drives.
const DRIVEN: usize = 2;

/// The machine and its board.
#[derive(Debug)]
pub struct Wired {
    /// The machine, which says what is on its console.
    pub machine: Process,
    orders: Orders,
    wire: Wire,
    directory: PathBuf,
    // It is there as long as the machine is wired to it.
    board: arm::Board,
}

/// The wire to a line of the machine: nothing where the machine is off.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<Mutex<Option<(UnixStream, String)>>>);

impl Wire {
    fn set(&self, to: Option<(UnixStream, String)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    fn drive(&self, level: bool) {
        if let Some((pins, chip)) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // Where the power is cut meanwhile it makes no difference.
            let _ = writeln!(pins, "set_irq_in {chip} unnamed-gpio-in {RESULT} {}", u8::from(level));
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
        let board = arm::Board::new("wired", variables);
        fs::create_dir_all(directory).expect("a directory");
        symlink(board.tty(), directory.join("tty")).expect("a link");
        let chip = board.orders.lock().expect("its orders").pl061();
        let wire = Wire::default();
        let other = wire.clone();
        follow(connect(&board.directory.join("pins")), &chip, DRIVEN, move |level| other.drive(level));
        let machine = boot(directory, Board::Wired(MEMORY), files, script);
        let orders = wired(directory, &board, &wire);
        Self { machine, orders, wire, directory: directory.to_path_buf(), board }
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
        self.machine = start(&self.directory, Board::Wired(MEMORY));
        self.orders = wired(&self.directory, &self.board, &self.wire);
    }
}

/// Wires the machine to its board, and lets it begin.
fn wired(directory: &Path, board: &arm::Board, wire: &Wire) -> Orders {
    let mut orders = Orders::connect(&directory.join("orders"));
    let (chip, pin) = (orders.pl061(), board.reset_pin());
    let pins = follow(connect(&directory.join("pins")), &chip, NRST, move |level| match level {
        true => pin.release(),
        false => pin.hold(),
    });
    wire.set(Some((pins, chip)));
    orders.execute("cont");
    orders
}
