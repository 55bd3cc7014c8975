//! How fast images go by YMODEM, beside `sb`, and onto an STM32, beside stm32flash: `cargo bench -p sai-buddy`.
#![allow(dead_code, unused_imports, reason = "the tests' ptys and peers have more than is measured")]

#[path = "../../tests/src/figures.rs"]
mod figures;
#[path = "../tests/boards/line.rs"]
mod line;
#[path = "../tests/boards/pty.rs"]
mod pty;
#[path = "../tests/boards/rom.rs"]
mod rom;

use figures::{heading, ms, row};
use line::image;
use pty::{FilePort, Pty, Served, open, ready};
use sai_buddy::flash::stm32::{Settings, Stm32};
use sai_buddy::flash::ymodem::{Kind, Sender};
use sai_buddy::flashing::flash;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const RUNS: usize = 5;
/// Time that one transfer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// End of a file, alone in a write.
const EOT: [u8; 1] = [0x04];
/// What a block of 1024 bytes begins with.
const STX: u8 = 0x02;

fn main() -> ExitCode {
    heading("Images onto boards");
    let directory = std::env::temp_dir().join(format!("sai-bench-flash-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory");
    let megabyte = image(1 << 20);
    let file = directory.join("fw.bin");
    fs::write(&file, &megabyte).expect("a file");
    let ours = median(|| data_phase(&directory, &file, Some(&megabyte)));
    let theirs = median(|| data_phase(&directory, &file, None));
    // At least 0.95 times the speed of `sb`.
    told("YMODEM, 1 MiB, data phase to rb; sb", ours, theirs, 1.05);
    let image = image(40_000);
    fs::write(&file, &image).expect("a file");
    let ours = median(|| stm32(&image));
    let theirs = median(|| stm32flash(&file));
    told("STM32, 40 000 bytes, read back; stm32flash", ours, theirs, 1.2);
    fs::remove_dir_all(&directory).expect("removed");
    figures::ended()
}

fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort();
    times[RUNS / 2]
}

/// Medians of ours and of a stock tool's, the floor.
fn told(what: &str, ours: Duration, theirs: Duration, goal: f64) {
    let (ours, theirs) = (ours.as_secs_f64(), theirs.as_secs_f64());
    row(what, &ms(theirs), &ms(ours), (ours / theirs, " x"), Some(goal));
}

fn tool(program: &str, arguments: &[&str], directory: &Path, pty: &Pty) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stderr(Stdio::null());
    command.stdin(open(&pty.path)).stdout(open(&pty.path)).spawn().expect("lrzsz")
}

/// Time from the first block of data to the end of the file, as a wire between the two sees it.
fn data_phase(directory: &Path, file: &Path, ours: Option<&[u8]>) -> Duration {
    let (mut receiving, mut sending) = (Pty::new(), Pty::new());
    let received = directory.join("received");
    // It writes over nothing.
    let _ = fs::remove_dir_all(&received);
    fs::create_dir_all(&received).expect("a directory");
    let mut tools = vec![tool("rb", &["-b"], &received, &receiving)];
    match ours {
        None => tools.push(tool("sb", &["-k", "-b", &file.display().to_string()], directory, &sending)),
        Some(image) => {
            let mut sender = Sender::new(Kind::Ymodem { name: "fw.bin".into() }, image.to_vec()).expect("an image");
            let tty = open(&sending.path);
            std::thread::spawn(move || flash(&mut sender, &mut FilePort::new(tty, || {}), LIMIT, &mut |_| {}));
        }
    }
    let began = Instant::now();
    let mut data = None;
    let took = loop {
        if began.elapsed() > LIMIT {
            // lrzsz's receiver throws away what is there when it has said its word, and waits for seconds then.
            break LIMIT;
        }
        // What comes next is the answer of the other one, so that one of them is waited for in turn.
        if ready(&receiving.master, Duration::ZERO) {
            carry(&mut receiving.master, &mut sending.master);
        }
        if ready(&sending.master, Duration::from_micros(50)) {
            let bytes = carry(&mut sending.master, &mut receiving.master);
            match data {
                None if bytes.first() == Some(&STX) => data = Some(Instant::now()),
                Some(data) if bytes == EOT => break data.elapsed(),
                _ => {}
            }
        }
    };
    for mut tool in tools {
        let _ = tool.kill();
        let _ = tool.wait();
    }
    took
}

fn carry(from: &mut File, to: &mut File) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let count = from.read(&mut buffer).expect("the pty");
    to.write_all(&buffer[..count]).expect("the pty");
    buffer[..count].to_vec()
}

fn served() -> (Pty, Served<rom::Rom>) {
    let pty = Pty::new();
    let served = Served::new(rom::Rom::new(0x413), pty.master.try_clone().expect("a copy"));
    (pty, served)
}

fn stm32(image: &[u8]) -> Duration {
    let (pty, served) = served();
    let settings = Settings { baud: 115_200, address: 0x0800_0000, room: None, chip: None, all: false, go: false };
    let mut machine = Stm32::new(settings, image.to_vec()).expect("an image");
    let mut port = FilePort::new(open(&pty.path), || {});
    let began = Instant::now();
    flash(&mut machine, &mut port, LIMIT, &mut |_| {}).expect("flashed");
    let took = began.elapsed();
    served.end();
    took
}

fn stm32flash(file: &Path) -> Duration {
    let (pty, served) = served();
    let began = Instant::now();
    let mut command = Command::new("stm32flash");
    command.args(["-m", "8n1", "-b", "115200", "-v", "-w"]).arg(file).arg(&pty.path);
    let output = command.output().expect("stm32flash");
    let took = began.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    served.end();
    took
}
