//! A level that changes at a pin → its record in a log, by the kernel's stamps of both: `cargo bench -p sai-buddy --bench edges`.
//!
//! The machine is emulated, so that the figures are of it and of no board; the kernel, its PL061 and the program are the real ones.
//! When the edge was is its stamp, CLOCK_MONOTONIC; when its record was written is what the kernel's tracer says of `write`, by the same
//! clock.
#![allow(dead_code, unused_imports, reason = "the tests' machine does more than is measured")]

#[path = "../../tests/src/figures.rs"]
mod figures;
#[path = "../tests/boards/guest.rs"]
mod guest;
#[path = "../../tests/src/qemu.rs"]
mod qemu;

use figures::{heading, row};
use guest::Guest;
use sai_core::axis::Entry;
use sai_core::record::{Decoder, Item};
use std::io::Write as _;

/// Edges that are measured.
const EDGES: u64 = 200;
/// The line of the PL061 that is read.
const LED: usize = 5;

/// Number and moment (microseconds) of each edge, with the bytes of the log up to and with its record.
fn edges(log: &[u8]) -> Vec<(u64, u64, usize)> {
    let mut found = Vec::new();
    let mut decoder = Decoder::new();
    // Byte by byte, so that it is known where each record ends.
    for (at, byte) in log.iter().enumerate() {
        let taken = decoder.push(&[*byte], |item| {
            let Item::Later { kind, channel, payload, .. } = item else { return };
            if let Some(Entry::Edges(edges)) = Entry::decode(kind, channel, payload) {
                found.extend(edges.iter().map(|edge| (u64::from(edge.sequence), edge.ns / 1000, at + 1)));
            }
        });
        taken.expect("a log");
    }
    found
}

/// Of each `write` to a file: when, in microseconds, and the bytes of the file after it.
fn writes(trace: &str, file: &str) -> Vec<(u64, usize)> {
    let mut written = 0;
    let mut all = Vec::new();
    for line in trace.lines() {
        let Some((before, call)) = line.split_once(": sys_write(") else { continue };
        let fd = call.split_once("fd: ").and_then(|(_, rest)| rest.split(',').next());
        if fd != Some(file) {
            continue;
        }
        let number = |text: &str| usize::from_str_radix(text.trim_end_matches([')', ' ']), 16).expect("a count");
        written += call.split_once("count: ").map_or(0, |(_, rest)| number(rest));
        let stamp = before.split_whitespace().last().expect("a moment");
        let (seconds, micros) = stamp.split_once('.').expect("seconds");
        let micros: u64 = micros.parse().expect("microseconds");
        all.push((seconds.parse::<u64>().expect("seconds") * 1_000_000 + micros, written));
    }
    all
}

fn main() {
    let mut guest = Guest::new("bench-edges");
    guest.write(
        "/tmp/b.json",
        &format!(
            r#"{{ "chip": "gpiochip0", "boards": {{ "b": {{ "type": "t", "consoles": {{ "main": {{ "usb": "1-2" }} }},
            "lines": {{ "nrst": {{ "line": 2, "safe": 0 }}, "led": {{ "line": {LED}, "direction": "in" }} }},
            "sequences": {{ "reset": ["nrst 1", "wait 20ms", "nrst 0"] }} }} }} }}"#
        ),
    );
    let saifile = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": { "board": {
        "type": "t", "pass": "^DONE", "silent": "100s", "timeout": "10m" } } } }"#;
    guest.write("/tmp/.sai.json", saifile);
    guest.well("mkdir -p /tmp/trace && mount -t tracefs trace /tmp/trace");
    guest.well("echo mono >/tmp/trace/trace_clock && echo 4096 >/tmp/trace/buffer_size_kb");
    let test = "sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log";
    guest.well(&format!("{test} >/tmp/said 2>&1 & process=$!"));
    guest.until("ls -l /proc/$process/fd | grep -q /tmp/log");
    guest
        .well("file=$(for fd in /proc/$process/fd/*; do test \"$(readlink $fd)\" != /tmp/log || echo ${fd##*/}; done)");
    let file = guest.well("printf '%x' $file").trim().to_string();
    guest.until("grep -q '# test' /tmp/said");
    // What was written before is not traced, and counted here.
    guest.well("kill -STOP $process");
    let before = guest.file("/tmp/log").len();
    guest.well("echo $process >/tmp/trace/set_event_pid && echo 1 >/tmp/trace/events/syscalls/sys_enter_write/enable");
    guest.well("kill -CONT $process");
    guest.toggle(LED, EDGES);
    guest.serial.write_all(b"DONE\r\n").expect("the adapter");
    guest.well("wait $process");
    let (log, trace) = (guest.file("/tmp/log"), guest.well("cat /tmp/trace/trace"));
    let writes = writes(&trace, &file);
    let mut took: Vec<u64> = edges(&log)
        .into_iter()
        .filter_map(|(_, edge, end)| {
            let (written, _) = writes.iter().find(|(_, bytes)| before + bytes >= end)?;
            Some(written.saturating_sub(edge))
        })
        .collect();
    took.sort_unstable();
    assert!(took.len() as u64 >= EDGES * 9 / 10, "{} of {EDGES} edges are in the log and the trace", took.len());
    heading("An edge at the kernel to its record in a log, on an emulated Cortex-A53");
    let of = format!("{} edges", took.len());
    row("median", "", &of, (took[took.len() / 2] as f64 / 1000.0, " ms"), None);
    row("worst", "", &of, (took[took.len() - 1] as f64 / 1000.0, " ms"), None);
}
