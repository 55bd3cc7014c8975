//! Lines and power of a board moved by its owner: sequences, modes, switches, what keeps them from being done, and whoever is killed
//! in the middle.

use crate::pty::Pty;
use crate::rig::{Rig, until};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;

/// A board with two lines, a console, and a power supply that is switched by commands.
struct Moved {
    rig: Rig,
    pty: Pty,
    /// The levels at its pins: `nrst`, which is active low, and `boot0`.
    out: PathBuf,
    /// What the supply was told.
    supply: PathBuf,
}

impl Moved {
    fn new(name: &str) -> Moved {
        let name = format!("sai-moves-{name}-{}", std::process::id());
        let supply = PathBuf::from(format!("/dev/shm/{name}.supply"));
        let _ = fs::remove_file(&supply);
        let pty = Pty::new();
        let board = format!(
            r#", "lines": {{ "nrst": {{ "chip": "levels:{name}", "line": 17, "active_low": true, "safe": 0 }},
                "boot0": {{ "chip": "levels:{name}", "line": 27, "safe": 0 }} }},
            "sequences": {{ "reset": ["nrst 1", "wait 400ms", "nrst 0"], "dtr": ["boot0 1", "c0.dtr 1", "nrst 1"] }},
            "modes": {{ "off": ["power off"],
                "loader": {{ "from": "off", "do": ["boot0 1", "power on", "reset"], "settle": "50ms" }},
                "run": {{ "do": ["boot0 0", "reset"] }}, "slow": {{ "do": ["boot0 1", "wait 1s", "boot0 0"] }} }},
            "power": {{ "on": ["sh", "-c", "sleep 0.3; echo on >> {supply}"],
                "off": ["sh", "-c", "echo off >> {supply}; test ! -e {supply}.broken"], "off_time": "100ms" }}"#,
            supply = supply.display()
        );
        let rig = Rig::at(&name, &[&pty.path], "\"baud\": 115200", &board);
        Moved { rig, pty, out: format!("/dev/shm/{name}.out").into(), supply }
    }

    fn levels(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    fn supply(&self) -> String {
        fs::read_to_string(&self.supply).unwrap_or_default()
    }

    /// What a command says, which ends like this.
    fn ends(&self, status: i32, words: &[&str]) -> String {
        let mut all = vec![self.rig.file()];
        all.extend(words.iter().map(|word| (*word).to_string()));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let output = self.rig.run(&all, &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        said
    }

    fn mode(&self) -> String {
        let status = self.rig.well(&[&self.rig.file(), "status", "b"]);
        let mode = status.split("mode ").nth(1).and_then(|rest| rest.split(',').next());
        mode.expect("a mode").to_string()
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        for file in [self.out.clone(), self.supply.clone(), self.supply.with_extension("supply.broken")] {
            let _ = fs::remove_file(file);
        }
    }
}

#[test]
fn sequences_modes_and_power_go_through_an_owner_that_is_started_for_them() {
    let moved = Moved::new("all");
    let mut playing = moved.rig.command(&[&moved.rig.file(), "play", "b", "reset"], &[]).spawn().expect("a player");
    until("the board is held in reset", || moved.levels() == "00");
    assert!(playing.wait().expect("it ends").success());
    assert_eq!(moved.levels(), "10");
    assert_eq!(moved.mode(), "unknown");
    assert_eq!(moved.ends(0, &["mode", "b", "loader"]), "reached off\nreached loader\n");
    assert_eq!((moved.levels().as_str(), moved.supply().as_str()), ("11", "off\non\n"));
    assert_eq!(moved.mode(), "loader");
    assert_eq!(moved.ends(0, &["mode", "b", "run", "--json"]), "{\"reached\":\"run\"}\n");
    assert_eq!((moved.levels().as_str(), moved.mode().as_str()), ("10", "run"));
    assert_eq!(moved.ends(0, &["power", "b", "cycle"]), "");
    assert_eq!((moved.supply().as_str(), moved.mode().as_str()), ("off\non\noff\non\n", "unknown"));
}

#[test]
fn what_cannot_be_moved_is_said_and_leaves_a_mode_that_nobody_knows() {
    let moved = Moved::new("wrong");
    for (words, said) in [
        (["play", "b", "press"], "board b has no sequence \"press\": expected one of dtr, reset"),
        (["mode", "b", "on"], "board b has no mode \"on\": expected one of loader, off, run, slow"),
        (["power", "b", "up"], "power \"up\": expected on, off or cycle"),
    ] {
        let text = moved.ends(1, &words);
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(moved.levels(), "", "an owner was started for what is no name");
    for words in [&["play", "b"][..], &["power", "b"], &["mode", "b", "run", "--kept"], &["mode", "b", "run", "off"]] {
        moved.ends(2, words);
    }
    moved.ends(0, &["mode", "b", "run"]);
    assert_eq!(moved.mode(), "run");
    // A pty has no DTR. What comes after it is not done.
    let text = moved.ends(1, &["play", "b", "dtr"]);
    assert!(text.contains("board b: console c0: "), "{text}");
    assert_eq!((moved.levels().as_str(), moved.mode().as_str()), ("11", "unknown"));
    moved.ends(0, &["mode", "b", "run"]);
    fs::write(moved.supply.with_extension("supply.broken"), "").expect("written");
    let text = moved.ends(1, &["mode", "b", "loader"]);
    assert!(text.contains("\"sh\" ended with exit status: 1"), "{text}");
    assert_eq!((moved.levels().as_str(), moved.mode().as_str()), ("10", "unknown"));
}

#[test]
fn a_way_that_was_begun_ends_after_its_client_and_lets_nobody_in_between() {
    let moved = Moved::new("killed");
    let file = moved.rig.file();
    let mut client = moved.rig.command(&[&file, "mode", "b", "slow"], &[]).spawn().expect("a client");
    until("lines are moved", || moved.levels() == "11");
    let text = moved.ends(1, &["mode", "b", "run"]);
    assert!(text.contains("writes to the board (mode)"), "{text}");
    client.kill().expect("killed");
    client.wait().expect("it ends");
    let output = moved.rig.run(&[&file, "mode", "b", "run"], &[]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    // Its way may have ended at this moment.
    assert!(output.status.success() || text.contains("lines are being moved"), "{text}");
    until("the way ends", || moved.levels() == "10");
    until("the mode is known", || ["slow", "run"].contains(&moved.mode().as_str()));
}

#[test]
fn consoles_go_on_while_a_supply_is_switched() {
    let moved = Moved::new("meanwhile");
    let file = moved.rig.file();
    moved.ends(0, &["mode", "b", "run"]);
    let mut client =
        moved.rig.command(&[&file, "power", "b", "on"], &[]).stderr(Stdio::null()).spawn().expect("it runs");
    let mut board = moved.pty.master.try_clone().expect("a copy");
    board.write_all(b"meanwhile").expect("written");
    // The owner answers before the supply has.
    until("the console has it", || moved.rig.status().contains("\"offset\":9"));
    assert!(client.wait().expect("it ends").success());
    assert_eq!(moved.supply(), "on\n");
}

#[test]
fn a_supply_at_a_line_is_switched_by_its_level() {
    let name = format!("sai-moves-supply-{}", std::process::id());
    let out = PathBuf::from(format!("/dev/shm/{name}.out"));
    let pty = Pty::new();
    let more = format!(
        r#", "lines": {{ "vcc": {{ "chip": "levels:{name}", "line": 4, "active_low": true, "safe": 0 }} }},
        "power": {{ "line": "vcc", "off_time": "300ms" }}"#
    );
    let rig = Rig::at("supply", &[&pty.path], "\"baud\": 115200", &more);
    let level = || fs::read_to_string(&out).unwrap_or_default();
    for (word, expected) in [("on", "0"), ("off", "1"), ("on", "0")] {
        rig.well(&[&rig.file(), "power", "b", word]);
        assert_eq!(level(), expected, "{word}");
    }
    let mut cycle = rig.command(&[&rig.file(), "power", "b", "cycle"], &[]).spawn().expect("it runs");
    until("it is off", || level() == "1");
    assert!(cycle.wait().expect("it ends").success());
    assert_eq!(level(), "0");
    let _ = fs::remove_file(&out);
}
