//! Two consoles at 300 kB/s each beside two busy loops, with whoever writes it down standing still for two seconds: how many bytes a UART
//! would have lost. `cargo bench -p sai-buddy --bench consoles -- 60` takes that many seconds.
#![allow(dead_code, unused_imports, reason = "the tests' ptys and benches have more than is measured")]

#[path = "../../tests/src/figures.rs"]
mod figures;
#[path = "../tests/boards/line.rs"]
mod line;
#[path = "../tests/boards/pty.rs"]
mod pty;
#[path = "../tests/boards/rig.rs"]
mod rig;

use figures::{heading, row};
use rig::Rig;
use rustix::fs::{OFlags, fcntl_setfl};
use sai_buddy::frames::{Asked, Heard};
use sai_buddy::serial::monotonic_ns;
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::console::{Entry, Piece};
use std::fs::{self, File};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes a second of each console: three million bits.
const RATE: u64 = 300_000;
/// Bytes that a UART brings at once; a pty holds ten times as many.
const AT_ONCE: u64 = 1_500;
/// For which the reader stands still, in the middle of it.
const STALL: Duration = Duration::from_secs(2);
/// Seconds unless it is said.
const SECONDS: u64 = 10;

/// Nanoseconds of bytes that a pty holds, below which nothing may be lost.
const HELD_NS: u64 = 50_000_000;

/// Writes at the rate and never waits: bytes written, and when how many found no room.
fn write(tty: &File, time: Duration) -> (u64, Vec<(u64, u64)>) {
    fcntl_setfl(tty, OFlags::RDWR | OFlags::NONBLOCK).expect("no waiting");
    let bytes = vec![b'x'; AT_ONCE as usize];
    let began = Instant::now();
    let mut due = 0;
    let mut written = 0;
    let mut dropped = Vec::new();
    while began.elapsed() < time {
        // What a pause of this thread itself holds up does not come all at once, as from no UART.
        let now = began.elapsed().as_micros() as u64 * RATE / 1_000_000;
        if now >= due + AT_ONCE {
            due = now - now % AT_ONCE;
            let count = rustix::io::write(tty, &bytes).unwrap_or(0) as u64;
            written += count;
            if count < AT_ONCE {
                dropped.push((monotonic_ns(), AT_ONCE - count));
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    (written, dropped)
}

/// Processor time of a process in ticks of a hundredth of a second, and its nice value.
fn stat(process: i32) -> (u64, i64) {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).expect("its state");
    let fields: Vec<&str> = text.rsplit_once(") ").expect("its name").1.split(' ').collect();
    let number = |index: usize| fields[index].parse::<i64>().expect("a number");
    ((number(11) + number(12)) as u64, number(16))
}

fn main() -> ExitCode {
    let seconds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(SECONDS);
    let time = Duration::from_secs(seconds);
    let mut rig = Rig::new("consoles", 2, "\"baud\": 3000000");
    rig.start_owner();
    let whose =
        Whose { file: rig.file().into(), board: "b".into(), directory: rig.sockets(), begins: Begins::Ourselves };
    let visit = Visit::new(&whose).expect("the owner");
    visit.answer(&Asked { kept: Some(true), ..Asked::new("listen") }).expect("granted");
    let over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..2)
        .map(|_| {
            let over = Arc::clone(&over);
            thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        })
        .collect();
    let before = stat(visit.process()).0;
    let began = Instant::now();
    let (mut written, mut kept, mut lost) = (0, 0, 0);
    // Of each console: its gaps that are too long, and the worst.
    let mut gaps = [Vec::new(), Vec::new()];
    let mut worst = 0;
    let mut dropped = Vec::new();
    thread::scope(|scope| {
        let writers: Vec<_> = rig.ptys.iter().map(|pty| scope.spawn(|| write(&pty.master, time))).collect();
        let mut last = [0; 2];
        let mut stalled = false;
        // What is on its way when the writers have ended comes within this time.
        while let Some((heard, _)) = visit.hear(Duration::from_secs(3)).expect("the owner goes on") {
            if !stalled && began.elapsed() > time / 2 {
                stalled = true;
                thread::sleep(STALL);
            }
            let Heard::Entry(console, entry) = heard else { continue };
            let before = std::mem::replace(&mut last[usize::from(console)], entry.ns());
            let gap = if before == 0 { 0 } else { entry.ns().saturating_sub(before) };
            worst = worst.max(gap);
            if gap >= HELD_NS {
                gaps[usize::from(console)].push((before, entry.ns()));
            }
            match entry {
                Entry::Came(Piece::Bytes { bytes, .. }) => kept += bytes.len() as u64,
                Entry::Came(Piece::Lost { lost: some, .. }) => lost += some.unwrap_or(1),
                _ => {}
            }
        }
        for (writer, gaps) in writers.into_iter().zip(&gaps) {
            let (some, none) = writer.join().expect("written");
            written += some;
            // The moment of the write is taken after it.
            let in_gap = |at: u64| gaps.iter().any(|(from, to)| (*from..=to + 1_000_000).contains(&at));
            dropped.extend(none.into_iter().map(|(at, count)| (in_gap(at), count)));
        }
    });
    let (after, nice) = stat(visit.process());
    over.store(true, Ordering::Relaxed);
    busy.into_iter().for_each(|thread| thread.join().expect("ended"));
    let sum =
        |in_gap: bool| dropped.iter().filter(|(in_one, _)| *in_one == in_gap).map(|(_, count)| count).sum::<u64>();
    println!(
        "two consoles, {RATE} B/s each, {seconds} s, two busy loops, a reader that stands still for {} s:\n\
         {written} bytes came, {kept} recorded, {lost} lost to the reader; {} found no room in a pty while it was read each \
         50 ms, {} in the {} gaps that were longer\n\
         worst gap between two reads {:.1} ms; owner {:.1} % of a processor, nice {nice}",
        STALL.as_secs(),
        sum(false),
        sum(true),
        gaps.iter().map(Vec::len).sum::<usize>(),
        worst as f64 / 1e6,
        (after - before) as f64 / seconds as f64,
    );
    // A writer that stood still itself has tried nothing.
    assert!(written >= 2 * RATE * seconds * 8 / 10, "{written} bytes came in {seconds} s");
    heading("Two consoles beside two busy loops");
    let of = format!("{written} B");
    row("bytes lost by us", "0 B", &of, ((lost + sum(false)) as f64, " B"), Some(0.0));
    row(
        "bytes recorded, of those that came",
        &of,
        &format!("{kept} B"),
        ((written - kept) as f64, " B lack"),
        Some(0.0),
    );
    row("longest gap between two reads", "50 ms held", "", (worst as f64 / 1e6, " ms"), None);
    figures::ended()
}
