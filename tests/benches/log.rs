//! 169 MB that a step prints on a remote agent → the master's durable file; the floor writes them to a file and syncs it.
//!
//! Ours ends when the agent forgets the job, which the master lets it do only once the verdict behind the last byte is
//! durable. Then a page of a million lines, and searches in them.

use sai_tests::figures::{epoch, heading, median, ms, row, seconds, settle};
use sai_tests::process::eventually;
use sai_tests::repository::{run, saifile};
use sai_tests::world::World;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Times that each is done.
const ROUNDS: usize = 5;
/// Numbers printed.
const NUMBERS: u64 = 20_000_000;
/// Bytes of those.
const BYTES: u64 = 168_888_897;
/// Time between two looks at the memory of master and agent.
const LOOK: Duration = Duration::from_millis(10);
/// Part of the run after which memory should grow no more.
const WARM: f64 = 0.15;

/// A process's resident KiB.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

/// How far a process's memory rose after the warm-up, and its peak, in KiB.
fn rise(samples: &[u64]) -> (u64, u64) {
    let from = (samples.len() as f64 * WARM) as usize;
    let warm = samples.get(from).copied().unwrap_or(0);
    let peak = samples.iter().skip(from).copied().max().unwrap_or(0);
    (peak.saturating_sub(warm), peak)
}

fn main() {
    // The word `page` behind `--` leaves out what comes before it.
    if !std::env::args().any(|word| word == "page") {
        bytes();
    }
    page();
}

/// All that a step prints.
fn bytes() {
    let world = World::new("log");
    let master = world.master();
    let agent = world.agent("far", &["linux-bench/x86_64/gcc"], 1);
    let clock = world.directory.join("clock");
    let copy = world.directory.join("floor");
    world
        .repository
        .write(".sai.json", saifile(&[&format!("echo $EPOCHREALTIME > {}; seq 1 {NUMBERS}", clock.display())]));
    let (mut floors, mut ours) = (Vec::new(), Vec::new());
    let (mut master_rises, mut agent_rises, mut peaks) = (Vec::new(), Vec::new(), (0, 0));
    for round in 1..=ROUNDS as u64 {
        let script = format!("seq 1 {NUMBERS} > {0}; sync {0}", copy.display());
        let _ = std::fs::remove_file(&copy);
        settle();
        floors.push(seconds(|| drop(run(Command::new("sh").args(["-c", &script])))));
        settle();
        let _ = std::fs::remove_file(&clock);
        let (running, pids) = (AtomicBool::new(true), (master.id(), agent.id()));
        let (memory, took) = std::thread::scope(|scope| {
            let sampler = scope.spawn(|| {
                let mut samples = (Vec::new(), Vec::new());
                while running.load(Ordering::Relaxed) {
                    if clock.exists() {
                        samples.0.push(resident(pids.0));
                        samples.1.push(resident(pids.1));
                    }
                    std::thread::sleep(LOOK);
                }
                samples
            });
            world.repository.commit("Go on");
            world.repository.push();
            agent.await_line("is done");
            let end = epoch();
            running.store(false, Ordering::Relaxed);
            let begin = std::fs::read_to_string(&clock).expect("the step's clock");
            (sampler.join().expect("samples"), end - begin.trim().parse::<f64>().expect("a clock"))
        });
        ours.push(took);
        let (master_memory, agent_memory) = (rise(&memory.0), rise(&memory.1));
        master_rises.push(master_memory.0 as f64 / 1024.0);
        agent_rises.push(agent_memory.0 as f64 / 1024.0);
        peaks = (peaks.0.max(master_memory.1), peaks.1.max(agent_memory.1));
        eventually("the event is shown", || world.event(round));
    }
    heading("169 MB of log from a remote agent to the durable file");
    let (least, took) = (median(&floors), median(&ours));
    row("seq, wss, durable", &format!("{least:.2} s"), &format!("{took:.2} s"), (took / least, " x"), Some(2.0));
    let mib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    row("master's memory, rise after warm-up", "", &mib(peaks.0), (median(&master_rises), " MiB"), Some(4.0));
    row("agent's memory, rise after warm-up", "", &mib(peaks.1), (median(&agent_rises), " MiB"), Some(4.0));
    let url = format!("https://127.0.0.1:{}/job/1/log", world.port);
    let raw = world.directory.join("raw");
    run(Command::new("curl").args(["-ksSf", "-o"]).arg(&raw).arg(&url));
    // Before the step's own output stands what git said.
    let bytes = std::fs::read(&raw).unwrap_or_default();
    let printed = bytes.len().checked_sub(BYTES as usize).and_then(|from| bytes.get(from..)).unwrap_or_default();
    let wanted = std::fs::read(&copy).expect("the floor's file");
    let missing =
        wanted.iter().zip(printed).filter(|(one, other)| one != other).count() + wanted.len().abs_diff(printed.len());
    row("bytes missing or wrong", "", "", (missing as f64, ""), Some(0.0));
}

/// The first screen of a log of a million lines.
fn page() {
    let world = World::new("page");
    let _master = world.master();
    let agent = world.agent("far", &["linux-bench/x86_64/gcc"], 1);
    world.repository.push_saifile(&saifile(&["for i in $(seq 10); do seq 1 100000; done"]));
    agent.await_line("is done");
    let url = format!("https://127.0.0.1:{}/job/1", world.port);
    let asked = |url: &str| {
        let curl = || run(Command::new("curl").args(["-ksSf", "-o", "/dev/null", "-w", "%{time_total}", url]));
        median(&(0..ROUNDS).map(|_| curl().parse().expect("a time")).collect::<Vec<f64>>())
    };
    heading("a page with a log of 1 000 000 lines");
    let first = asked(&url);
    row("first screen, TLS handshake included", "", "", (first * 1e3, " ms"), Some(100.0));
    // Beside what grep takes to find as much in a file of the same lines.
    let lines = world.directory.join("lines");
    run(Command::new("sh").args(["-c", &format!("for i in $(seq 10); do seq 1 100000; done > {}", lines.display())]));
    for (what, pattern, address) in [
        ("a text", "777", "q=777"),
        ("an expression, found in a tenth", "[0-9]7$", "q=%5B0-9%5D7%24&regex=1"),
        ("what is nowhere", "error: .*x", "q=error%3A+.*x&regex=1"),
    ] {
        let grep = || seconds(|| drop(Command::new("grep").args(["-c", pattern]).arg(&lines).output().expect("grep")));
        let floor = median(&(0..ROUNDS).map(|_| grep()).collect::<Vec<f64>>());
        let found = asked(&format!("{url}?{address}"));
        row(&format!("search: {what}"), &ms(floor), &ms(found), (found * 1e3, " ms"), Some(300.0));
    }
}
