//! Stock tools at a loader, and the same through the owner's pty: `cargo bench -p sai-buddy --bench tools`. The direct run is the floor,
//! and both take turns.
#![allow(dead_code, unused_imports, reason = "the tests' ptys, boards and benches have more than is measured")]

#[path = "../tests/boards/avr.rs"]
mod avr;
#[path = "../../tests/src/figures.rs"]
mod figures;
#[path = "../tests/boards/line.rs"]
mod line;
#[path = "../tests/boards/pty.rs"]
mod pty;
#[path = "../tests/boards/rig.rs"]
mod rig;
#[path = "../tests/boards/rom.rs"]
mod rom;

use avr::{Board, program};
use figures::{heading, ms, row};
use line::image;
use pty::{Pty, Served};
use rig::Rig;
use rom::Rom;
use std::fs;
use std::process::{Command, ExitCode, Output};
use std::time::{Duration, Instant};

const RUNS: usize = 5;
/// Time that one run may take, as the tool's own limit.
const LIMIT: &str = "60s";
/// What a run through the owner may take beside half as much again.
const BESIDE: Duration = Duration::from_millis(200);
/// A chip whose flash the loader has.
const F405: u16 = 0x413;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(command: &mut Command) -> Duration {
    let began = Instant::now();
    let output: Output = command.output().expect("it runs");
    let took = began.elapsed();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    took
}

fn told(tool: &str, direct: Vec<Duration>, through: Vec<Duration>) {
    let (direct, through) = (median(direct), median(through));
    let beside = through.saturating_sub(BESIDE);
    let (direct, through) = (direct.as_secs_f64(), through.as_secs_f64());
    row(tool, &ms(direct), &ms(through), (beside.as_secs_f64() / direct, " x"), Some(1.5));
}

/// The words of a tool behind `sai-buddy tool`.
fn through(rig: &Rig, words: &[&str]) -> Command {
    let mut rest = vec!["--limit", LIMIT, "--"];
    rest.extend(words);
    rest.push("{tty}");
    rig.command(&[&rig.file(), "tool", "b"], &rest)
}

fn direct(words: &[&str], tty: &str) -> Command {
    let mut command = Command::new("timeout");
    command.arg(LIMIT).args(words).arg(tty);
    command
}

fn main() -> ExitCode {
    heading("Stock tools, at a loader and through the owner of a board");
    let mut rig = Rig::new("bench-tools", 1, "\"baud\": 115200");
    rig.start_owner();
    let file = rig.top.join("image.bin");
    fs::write(&file, image(40_000)).expect("a file");
    let file = file.display().to_string();
    let words = ["stm32flash", "-m", "8n1", "-b", "115200", "-v", "-w", &file];
    let alone = Pty::new();
    let (mut directs, mut throughs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let served = Served::new(Rom::new(F405), alone.master.try_clone().expect("a copy"));
        directs.push(timed(&mut direct(&words, &alone.path)));
        served.end();
        let served = Served::new(Rom::new(F405), rig.ptys[0].master.try_clone().expect("a copy"));
        throughs.push(timed(&mut through(&rig, &words)));
        served.end();
    }
    told("stm32flash, 40 000 bytes, beside 200 ms", directs, throughs);
    drop(rig);

    let mut board = Board::new("bench-tools");
    let tty = board.tty.clone();
    let (mut directs, mut throughs) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let file = board.directory.join("image.bin");
        fs::write(&file, program(8_000, run as u8)).expect("a file");
        let memory = format!("flash:w:{}:r", file.display());
        let words = ["avrdude", "-q", "-p", "m328p", "-c", "arduino", "-b", "115200", "-D", "-U", &memory, "-P"];
        board.order("reset");
        directs.push(timed(&mut direct(&words, &tty)));
        let mut rig = Rig::at("bench-avrdude", &[&tty], "\"baud\": 115200", "");
        rig.start_owner();
        board.order("reset");
        throughs.push(timed(&mut through(&rig, &words)));
    }
    told("avrdude, 8 000 bytes, beside 200 ms", directs, throughs);
    figures::ended()
}
