//! Edges of a board's line in a machine whose kernel keeps some for a reader → those in the log of a trial: all of them, or how many are
//! not there, by either interface of the kernel's.

use crate::guest::{Guest, LONG};
use crate::wires::{LED, NRST, bench};
use sai_core::axis::Entry;
use sai_core::record::{Decoder, Item, Record};
use sai_core::vcd::Dump;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Edges that the kernel keeps for a reader that is late.
const KEPT: u64 = 1024;
/// The same of its first interface.
const KEPT_FIRST: u64 = 16;
/// Nanoseconds between two edges at least that are to be told apart by samples: of fewer there would be too many of these.
const MICROSECOND_NS: u64 = 1_000;
/// Nanoseconds for which a line has its level at least between two edges of which it is said that they are 200 ms long: the kernel's
/// timer counts from when it has heard of the first of them.
const SETTLED_NS: u64 = 100_000_000;
/// How a trial ends that the board has passed.
const VERDICT: &str = "ok 1 - verdict: passed\n1..1\n";

/// The levels of the one line of a log, as sigrok-cli has them of samples so many nanoseconds apart.
fn analysed(directory: &Path, log: &[u8], every: u64) -> Vec<bool> {
    let mut channels = Vec::new();
    let named = Decoder::new().push(log, |item| {
        if let Item::Record(_, Record::Channel(channel, start)) = item {
            channels.push((channel, start.name));
        }
    });
    named.expect("a log");
    let (mut bytes, mut dump) = Dump::new(&channels).expect("a line");
    Decoder::new().push(log, |item| dump.take(&item, &mut bytes)).expect("a log");
    dump.finish(false, &mut bytes);
    let path = directory.join("log.vcd");
    std::fs::write(&path, bytes).expect("written");
    let input = format!("vcd:downsample={every}");
    let mut command = Command::new("timeout");
    command.args(["100", "sigrok-cli", "-I", &input, "-O", "csv:header=false:label=off:time=false:dedup=true", "-i"]);
    let output = command.arg(&path).stdin(Stdio::null()).output().expect("sigrok-cli");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let mut levels: Vec<bool> =
        told.lines().filter_map(|line| ["0", "1"].contains(&line).then_some(line == "1")).collect();
    levels.dedup();
    levels
}

/// Edges that a reader meets in time, and those of one that stands still.
pub fn edges(guest: &mut Guest) {
    bench(guest, "", r#", "sequences": { "reset": ["nrst 1", "wait 20ms", "nrst 0"] }"#);
    let saifile = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": { "board": {
        "type": "t", "pass": "^DONE", "silent": "100s", "timeout": "100s" } } } }"#;
    guest.write("/tmp/.sai.json", saifile);
    guest.moved.clear();
    let test = "sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log";
    guest.well(&format!("{test} >/tmp/said 2>&1 & process=$!"));
    guest.until("grep -q '# test' /tmp/said");
    while !guest.moved.ends_with(&[(NRST, false), (NRST, true)]) {
        guest.look();
    }
    guest.toggle(LED, 40);
    guest.well("kill -STOP $process");
    guest.toggle(LED, KEPT + 32);
    guest.well("kill -CONT $process");
    let (said, log) = passed(guest);
    let (met, lost) = edges_of(&log);
    assert_eq!(lost, [(40, Some(32))], "{met:?}");
    assert!(!says_unseen(&log), "{said}");
    let numbers: Vec<u64> = met.iter().map(|(number, ..)| *number).collect();
    let expected: Vec<u64> = (1..=40).chain(73..=40 + 32 + KEPT).collect();
    assert_eq!(numbers, expected);
    assert!(met.iter().all(|(number, level, _)| *level == (number % 2 == 1)), "{met:?}");
    assert!(met.is_sorted_by_key(|(_, _, ns)| *ns), "{met:?}");
    // A program that people use sees all of them in what is made of the log; where some were lost it takes the line for low.
    let gap = met.windows(2).map(|pair| pair[1].2 - pair[0].2).min().expect("edges");
    assert!(gap > MICROSECOND_NS, "edges {gap} ns apart");
    let levels = analysed(&guest.directory, &log, gap / 3);
    let whole: Vec<bool> = (0..=40 + KEPT).map(|number| number % 2 == 1).collect();
    assert_eq!(levels, whole);
    let again = test.replace("--record", "--again");
    let said = guest.well(&format!("NO_COLOR= {again}"));
    assert!(said.contains("\u{1b}[32mok 1 - verdict: passed\u{1b}[0m\n"), "{said}");
}

/// What a log has of edges: number and moment of each, and where so many were lost.
type Edges = (Vec<(u64, bool, u64)>, Vec<(u64, Option<u64>)>);

fn edges_of(log: &[u8]) -> Edges {
    let (mut met, mut lost) = (Vec::new(), Vec::new());
    let taken = Decoder::new().push(log, |item| {
        let Item::Later { kind, channel, payload, .. } = item else { return };
        match Entry::decode(kind, channel, payload) {
            Some(Entry::Edges(edges)) => {
                met.extend(edges.iter().map(|edge| (u64::from(edge.sequence), edge.level, edge.ns)))
            }
            Some(Entry::Loss(_, loss)) => lost.push((loss.offset, loss.lost)),
            _ => {}
        }
    });
    taken.expect("a log");
    (met, lost)
}

/// Whether a log says that edges may be missing from it without its knowing.
fn says_unseen(log: &[u8]) -> bool {
    let text = b"edges of its lines may be lost unseen";
    log.windows(text.len()).any(|part| part == text)
}

/// Waits until a log has so many.
fn await_edges(guest: &mut Guest, count: usize) {
    let began = Instant::now();
    while edges_of(&guest.file("/tmp/log")).0.len() < count {
        assert!(began.elapsed() < LONG, "{count} edges are not recorded");
    }
}

/// The board says what the trial waits for, and has passed: what was said of it, and its log.
pub fn passed(guest: &mut Guest) -> (String, Vec<u8>) {
    guest.serial.write_all(b"DONE\r\n").expect("the adapter");
    let (status, _) = guest.run("wait $process");
    let said = guest.well("cat /tmp/said");
    assert!(status == 0 && said.ends_with(VERDICT), "{status}: {said}");
    // Without the board the log says the same.
    let again = "sai-buddy /tmp/b.json test b /tmp/.sai.json fw --again /tmp/log | grep -v '^#'";
    assert_eq!(guest.well(again), VERDICT, "{said}");
    (said, guest.file("/tmp/log"))
}

/// The same where the kernel has the first interface alone: it drops the newest, and nothing tells it but the log's first words.
pub fn unseen(guest: &mut Guest) {
    bench(guest, "", r#", "sequences": { "reset": ["nrst 1", "wait 20ms", "nrst 0"] }"#);
    guest.moved.clear();
    let test = "first-interface /usr/bin/sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log";
    guest.well(&format!("{test} >/tmp/said 2>&1 & process=$!"));
    guest.until("grep -q '# test' /tmp/said");
    while !guest.moved.ends_with(&[(NRST, false), (NRST, true)]) {
        guest.look();
    }
    guest.toggle(LED, 10);
    await_edges(guest, 10);
    guest.well("kill -STOP $process");
    guest.toggle(LED, 32);
    guest.well("kill -CONT $process");
    await_edges(guest, 10 + KEPT_FIRST as usize);
    guest.toggle(LED, 2);
    let (said, log) = passed(guest);
    let (met, lost) = edges_of(&log);
    assert!(says_unseen(&log), "{said}");
    // Of 44 edges.
    let numbers: Vec<u64> = met.iter().map(|(number, ..)| *number).collect();
    assert_eq!((numbers, lost), ((1..=10 + KEPT_FIRST + 2).collect(), Vec::new()));
    assert!(met.iter().all(|(number, level, _)| *level == (number % 2 == 1)), "{met:?}");
    assert!(met.is_sorted_by_key(|(_, _, ns)| *ns), "{met:?}");
}

/// A line that counts when it has kept its level for a while.
pub fn settled(guest: &mut Guest) {
    bench(guest, "", r#", "sequences": { "reset": ["nrst 1", "wait 20ms", "nrst 0"] }"#);
    guest.well(r#"sed -i 's/"direction": "in"/&, "debounce": "200ms", "bias": "pull-down"/' /tmp/b.json"#);
    let test = "sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log";
    guest.well(&format!("{test} >/tmp/said 2>&1 & process=$!"));
    guest.until("grep -q '# test' /tmp/said");
    // It bounces, each time for less than that by far, and stays where it is then.
    for (count, level) in [(1, true), (2, false)] {
        for _ in 0..10 {
            guest.drive(LED, level);
            guest.drive(LED, !level);
        }
        guest.drive(LED, level);
        await_edges(guest, count);
    }
    let (said, log) = passed(guest);
    let (met, lost) = edges_of(&log);
    // Where the emulated machine stands still in between, a bounce may have lasted.
    assert!(met.windows(2).all(|pair| pair[1].1 != pair[0].1 && pair[1].2 - pair[0].2 >= SETTLED_NS), "{met:?}");
    assert!(
        met.first().is_some_and(|(_, level, _)| *level) && met.len() % 2 == 0 && lost.is_empty(),
        "{met:?}: {said}"
    );
}

/// A line that is looked at, by either interface: what it does between two looks is not seen, and the log says so at first.
pub fn polled(guest: &mut Guest) {
    for shim in ["", "first-interface "] {
        bench(guest, "", r#", "sequences": { "reset": ["nrst 1", "wait 20ms", "nrst 0"] }"#);
        guest.well(r#"sed -i 's/"direction": "in"/&, "poll": "50ms"/' /tmp/b.json"#);
        let test = format!("{shim}/usr/bin/sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log");
        guest.well(&format!("{test} >/tmp/said 2>&1 & process=$!"));
        guest.until("grep -q '# test' /tmp/said");
        for (count, level) in [(1, true), (2, false)] {
            guest.drive(LED, level);
            await_edges(guest, count);
        }
        guest.well("kill -STOP $process");
        guest.drive(LED, true);
        guest.drive(LED, false);
        guest.well("kill -CONT $process");
        guest.well("sleep 0.2");
        guest.drive(LED, true);
        await_edges(guest, 3);
        let (said, log) = passed(guest);
        let (met, lost) = edges_of(&log);
        let seen: Vec<(u64, bool)> = met.iter().map(|(number, level, _)| (*number, *level)).collect();
        assert_eq!((seen, lost), (vec![(1, true), (2, false), (3, true)], Vec::new()), "{said}");
        let told = b"looked at, which sees no edges between two looks: led every 50 ms";
        assert!(log.windows(told.len()).any(|part| part == told) && !says_unseen(&log), "{said}");
        guest.drive(LED, false);
    }
}
