//! Lines and power of a board moved by its owner: sequences, modes, switches, what keeps them from being done, and whoever is killed
//! in the middle.

use crate::pty::Pty;
use crate::rig::{Rig, until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

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

/// A socket in the network that is switched by HTTP: what it was asked, and how it stands.
struct Socket {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Socket {
    /// One that answers each request so, by its first line.
    fn new(answers: fn(&str) -> String) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = Vec::new();
                let mut buffer = [0; 512];
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(count) if count > 0 => head.extend(&buffer[..count]),
                        _ => break,
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_string();
                let answer = answers(&line);
                all.lock().expect("a list").push(line);
                // Its head and its body come in two pieces, as of a small machine.
                let (head, body) = answer.split_once("|").unwrap_or((&answer, ""));
                let _ = stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes());
                let _ = stream.write_all(body.as_bytes());
            }
        });
        Socket { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("a list"))
    }
}

#[test]
fn a_socket_in_the_network_is_switched_by_what_it_understands_and_believed_by_what_it_answers() {
    let tasmota = Socket::new(|line| {
        let body = match line {
            "GET /cm?cmnd=Power%20On" => r#"{"POWER":"ON"}"#,
            "GET /cm?cmnd=Power%20Off" => r#"{"POWER1":"OFF"}"#,
            _ => r#"{"Command":"Unknown"}"#,
        };
        format!("HTTP/1.1 200 OK|{body}")
    });
    let plain = Socket::new(|line| match line.starts_with("POST") {
        true => "HTTP/1.1 204 No Content\r\nContent-Length: 0".to_string(),
        false => "HTTP/1.1 200 OK|done".to_string(),
    });
    // One that wants a password says so as if nothing were wrong, and another one by its status.
    let locked =
        Socket::new(|_| r#"HTTP/1.1 200 OK|{"WARNING":"Need user=<username>&password=<password>"}"#.to_string());
    let closed = Socket::new(|_| "HTTP/1.1 401 Unauthorized".to_string());
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (on, off) = ("GET /cm?cmnd=Power%20On", "GET /cm?cmnd=Power%20Off");
    let (post, get) = ("POST /relay/1?key=hush&to=on", "GET /relay/1?key=hush&to=off");
    for (number, power, socket, [on, off]) in [
        (1, format!(r#""tasmota": "http://{}/""#, tasmota.address), &tasmota, [on, off]),
        (
            2,
            format!(r#""on": "POST http://{0}{1}", "off": "http://{0}{2}""#, plain.address, &post[5..], &get[4..]),
            &plain,
            [post, get],
        ),
    ] {
        let pty = Pty::new();
        let more = format!(r#", "power": {{ {power}, "off_time": "100ms" }}"#);
        let rig = Rig::at(&format!("socket-{number}"), &[&pty.path], "\"baud\": 115200", &more);
        for (word, expected) in [("on", &[on][..]), ("off", &[off]), ("cycle", &[off, on])] {
            rig.well(&[&rig.file(), "power", "b", word]);
            assert_eq!(socket.asked(), expected, "{power} {word}");
        }
        let listed = rig.well(&[&rig.file(), "list"]);
        assert!(listed.contains("?***") && !listed.contains("hush"), "{listed}");
    }
    let refused = nobody.to_string();
    for (number, address, why) in [
        (1, &locked.address, "answered \"{\\\"WARNING\\\":\\\"Need user"),
        (2, &closed.address, "answered with status 401"),
        (3, &refused, "Connection refused"),
    ] {
        let pty = Pty::new();
        let more = format!(r#", "modes": {{ "off": ["power off"] }}, "power": {{ "tasmota": "http://{address}" }}"#);
        let rig = Rig::at(&format!("locked-{number}"), &[&pty.path], "\"baud\": 115200", &more);
        let output = rig.run(&[&rig.file(), "mode", "b", "off"], &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(&format!("/cm?***: {why}")), "{said}");
        assert!(!rig.status().contains("\"mode\":\"off\""), "{}", rig.status());
    }
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
