//! An emulated ATmega328P with the stock optiboot: flashed by us and by stock avrdude, with the same in its flash afterwards.

use crate::line::image;
use crate::pty::{FilePort, open};
use sai_buddy::flash::Whose;
use sai_buddy::flash::stk500::{Settings, Stk500};
use sai_buddy::flashing::flash;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const OPTIBOOT: &str = "/usr/share/arduino/hardware/arduino/avr/bootloaders/optiboot/optiboot_atmega328.hex";

/// The board. It ends with what it is told through.
pub struct Board {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub directory: PathBuf,
    pub tty: String,
}

impl Board {
    pub fn new(name: &str) -> Self {
        Board::with_pins(name, None)
    }

    /// One whose key and LED are lines of a bench, of a chip of files that begin with this.
    pub fn with_pins(name: &str, levels: Option<&Path>) -> Self {
        let directory = std::env::temp_dir().join(format!("sai-avr-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let program = directory.join("avr_board");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/avr_board.c");
        let built = Command::new("gcc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-I/usr/include/simavr"])
            .arg(source)
            .arg("-o")
            .arg(&program)
            .args(["-lsimavr", "-lelf", "-lutil"])
            .status()
            .expect("gcc");
        assert!(built.success(), "the board cannot be built");
        let mut child = Command::new(program)
            .arg(OPTIBOOT)
            .arg(directory.join("flash"))
            .args(levels)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the board");
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("its answers"));
        let mut tty = String::new();
        // simavr says some lines of its own.
        while !tty.starts_with("/dev/pts/") {
            tty.clear();
            assert!(answers.read_line(&mut tty).expect("a line") > 0, "the board does not start");
        }
        Board { child, orders, answers, directory, tty: tty.trim().to_string() }
    }

    pub fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().expect("it listens"), "{order}").expect("it listens");
        let mut line = String::new();
        while line.trim() != "ok" {
            line.clear();
            assert!(self.answers.read_line(&mut line).expect("a line") > 0, "the board is gone");
        }
    }

    /// Pulls its cable: the other end of the pty is gone.
    pub fn cut(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn flash(&mut self) -> Vec<u8> {
        self.order("save");
        fs::read(self.directory.join("flash")).expect("its flash")
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// An image that stays where it begins when it runs.
pub fn program(length: usize, last: u8) -> Vec<u8> {
    let mut program = image(length);
    program[..2].copy_from_slice(&[0xff, 0xcf]);
    program[length - 1] = last;
    program
}

#[test]
fn our_client_and_stock_avrdude_leave_the_same_at_the_stock_optiboot() {
    let mut board = Board::new("client");
    let tty = board.tty.clone();
    let wanted = |chip| Settings { baud: 115_200, address: 0, room: None, chip: Some(chip), go: true };
    let run = |board: &mut Board, settings, image: &[u8]| {
        let mut machine = Stk500::new(settings, image.to_vec()).expect("an image that may be one");
        let mut port = FilePort::new(open(&tty), || board.order("reset"));
        flash(&mut machine, &mut port, Duration::from_secs(100), &mut |_| {})
    };
    let ours = program(3001, 1);
    let flashed = run(&mut board, wanted(0x1e_950f), &ours).expect("flashed");
    assert!(flashed.verified && flashed.chip == Some(0x1e_950f));
    assert!(board.flash()[..3001] == ours);
    // Another chip was meant: what is there stays.
    let failure = run(&mut board, wanted(0x1e_9705), &program(3001, 2)).expect_err("another chip");
    assert!(failure.whose == Whose::Wiring && failure.text.contains("0x1e950f, not 0x1e9705"), "{failure:?}");
    assert!(board.flash()[..3001] == ours);
    let theirs = program(3001, 3);
    let file = board.directory.join("theirs.bin");
    fs::write(&file, &theirs).expect("a file");
    board.order("reset");
    let output = Command::new("timeout")
        .args(["20", "avrdude", "-q", "-p", "m328p", "-c", "arduino", "-b", "115200", "-D", "-P", &tty, "-U"])
        .arg(format!("flash:w:{}:r", file.display()))
        .output()
        .expect("avrdude");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(board.flash()[..3001] == theirs);
}
