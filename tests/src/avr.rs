//! An emulated Arduino Uno → a bench that has it: the stock optiboot in simavr, its UART on a pty. A pty has no DTR, so that its reset
//! is pulled by what stands for its power supply.

use crate::repository::run;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const OPTIBOOT: &str = "/usr/share/arduino/hardware/arduino/avr/bootloaders/optiboot/optiboot_atmega328.hex";

/// The board. It ends when it is dropped.
#[derive(Debug)]
pub struct Avr {
    child: Child,
    stop: Arc<AtomicBool>,
    resetter: Option<JoinHandle<()>>,
    reset: PathBuf,
    /// The path of its tty.
    pub tty: String,
}

impl Avr {
    /// Builds the board's program in a directory, and starts it.
    pub fn new(directory: &Path) -> Avr {
        let (program, reset) = (directory.join("avr_board"), directory.join("reset"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../buddy/tests/fixtures/avr_board.c");
        let mut gcc = Command::new("gcc");
        gcc.args(["-O2", "-I/usr/include/simavr"]).arg(source).arg("-o").arg(&program);
        run(gcc.args(["-lsimavr", "-lelf", "-lutil"]));
        let mut board = Command::new(program);
        board.arg(OPTIBOOT).arg(directory.join("flash"));
        let mut child =
            board.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the board");
        let mut orders = child.stdin.take().expect("it takes orders");
        let mut answers = BufReader::new(child.stdout.take().expect("it answers")).lines();
        // simavr says some lines of its own.
        let tty = answers.by_ref().map_while(Result::ok).find(|line| line.starts_with("/dev/pts/")).expect("its tty");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, asked) = (Arc::clone(&stop), reset.clone());
        let resetter = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if asked.exists() {
                    writeln!(orders, "reset").expect("it takes orders");
                    let done = answers.by_ref().map_while(Result::ok).any(|line| line.trim() == "ok");
                    assert!(done, "the board is gone");
                    fs::remove_file(&asked).expect("removed");
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        Avr { child, stop, resetter: Some(resetter), reset, tty }
    }

    /// What stands for DTR in a bench: keys of a board.
    pub fn resets(&self) -> String {
        format!(
            r#""power": {{ "off": ["true"], "on": ["sh", "-c", "touch {reset}; while test -e {reset}; do sleep 0.01; done"] }},
            "sequences": {{ "loader": ["power on"], "reset": ["power on"] }}"#,
            reset = self.reset.display()
        )
    }
}

impl Drop for Avr {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(resetter) = self.resetter.take() {
            let _ = resetter.join();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
