//! A person who is walked through the wiring of a board: cables are pulled from a kernel's directory that is made here, lines are moved
//! by a real owner.

use crate::rig::{LONG, Rig};
use sai_buddy::ports::Places;
use sai_buddy::walking::{self, Person, Walked};
use sai_core::bench;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Somebody with hands: each answer does something to the cables first.
struct Hands {
    told: Vec<String>,
    answers: Vec<Answer>,
}

/// A part of a question, what is done then, and what is said.
type Answer = (&'static str, Box<dyn FnOnce()>, &'static str);

impl Person for Hands {
    fn tell(&mut self, text: &str) {
        self.told.push(text.to_string());
    }

    fn ask(&mut self, text: &str) -> io::Result<String> {
        let (question, hands, answer) = self.answers.remove(0);
        assert!(text.contains(question), "{text}, where {question} was expected");
        hands();
        Ok(answer.to_string())
    }
}

const BENCH: &str = r#"{
    # The consoles, which somebody has confused.
    "boards": { "b": { "type": "t", "consoles": {
        "main": { "usb": "1-1.3", "baud": 9600 }, # the first
        "aux": { "usb": "1-1.4" } } } }
}
"#;

#[test]
fn a_cable_that_is_pulled_tells_its_port_which_the_file_has_from_then_on() {
    let top = std::env::temp_dir().join(format!("sai-walk-{}", std::process::id()));
    let places = Places { sys: top.join("sys"), dev: top.join("dev") };
    fs::create_dir_all(places.sys.join("class/tty")).expect("made");
    fs::create_dir_all(&places.dev).expect("made");
    let plug = |port: &'static str, tty: &'static str| {
        let places = places.clone();
        move || {
            let device = places.sys.join("devices/usb1/1-1").join(port);
            let node = device.join(format!("{port}:1.0")).join(tty).join("tty").join(tty);
            fs::create_dir_all(&node).expect("made");
            for (file, text) in [("serial", "00\u{1b}01\n"), ("idVendor", "0403\n"), ("idProduct", "6001\n")] {
                fs::write(device.join(file), text).expect("written");
            }
            symlink(&node, places.sys.join("class/tty").join(tty)).expect("a link");
            fs::write(places.dev.join(tty), "").expect("written");
        }
    };
    let pull = |port: &'static str, tty: &'static str| {
        let places = places.clone();
        move || {
            fs::remove_file(places.sys.join("class/tty").join(tty)).expect("removed");
            fs::remove_dir_all(places.sys.join("devices/usb1/1-1").join(port)).expect("removed");
        }
    };
    plug("1-1.2", "ttyUSB0")();
    plug("1-1.4", "ttyUSB1")();
    plug("1-1.5", "ttyUSB2")();
    let bench = bench::read("boards.json", BENCH.as_bytes()).expect("a bench");
    let board = bench.board("b").expect("the board");
    let mut person = Hands {
        told: Vec::new(),
        answers: vec![
            ("pull the USB cable of console main", Box::new(pull("1-1.2", "ttyUSB0")), ""),
            // It is put elsewhere at first, where it cannot stay.
            ("plug it in again", Box::new(plug("1-1.6", "ttyUSB0")), ""),
            ("pull the USB cable of console main", Box::new(pull("1-1.6", "ttyUSB0")), ""),
            ("plug it in again", Box::new(plug("1-1.6", "ttyUSB0")), ""),
            ("pull the USB cable of console aux", Box::new(pull("1-1.4", "ttyUSB1")), ""),
            ("plug it in again", Box::new(plug("1-1.4", "ttyUSB1")), ""),
        ],
    };
    let mut walked = Walked::default();
    walking::cables(&mut person, board, &places, &mut walked).expect("walked");
    assert_eq!(walked, Walked { moved: vec![("main".into(), "1-1.6".into())], wrong: Vec::new(), well: 1 });
    let told = person.told.join("\n");
    for line in [
        "console main: no tty is where the file says",
        "USB port 1-1.2 (0403:6001, serial number 00\u{1b}01: ttyUSB0) left",
        "USB port 1-1.6 (0403:6001, serial number 00\u{1b}01: ttyUSB0) came, and not what left: once more",
        "console main hangs at USB port 1-1.6, and the file says 1-1.3",
    ] {
        assert!(told.lines().any(|other| other == line), "{line}: {told}");
    }
    // What it had beside the port stays, its comments too.
    let text = walking::patched(BENCH, "b", &walked.moved).expect("a text");
    assert_eq!(text, BENCH.replace("1-1.3", "1-1.6"));
    assert!(walking::patched(BENCH, "b", &[("main".into(), "1\", \"x\": \"".into())]).is_err());
    assert!(walking::patched(BENCH, "c", &walked.moved).is_err());
    let file = top.join("boards.json");
    fs::write(&file, BENCH).expect("written");
    walking::replace(&file, &text).expect("replaced");
    assert_eq!(fs::read_to_string(&file).expect("the file"), text);
    fs::remove_dir_all(top).expect("removed");
}

/// What `check` says to somebody who answers so.
fn check(rig: &Rig, file: &str, board: &str, answer: &dyn Fn(&str) -> &'static str) -> (Option<i32>, String) {
    let mut command = rig.command(&[file, "check", board], &[]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let (mut to, mut from) = (child.stdin.take().expect("it listens"), child.stdout.take().expect("it speaks"));
    let (mut said, mut begins, mut byte) = (Vec::new(), 0, [0]);
    while from.read(&mut byte).expect("it speaks") > 0 {
        said.push(byte[0]);
        let text = String::from_utf8_lossy(said.get(begins..).unwrap_or_default()).into_owned();
        // A question ends no line.
        if [") ", "] "].iter().any(|end| text.ends_with(end)) {
            begins = said.len();
            writeln!(to, "{}", answer(&text)).expect("it listens");
        }
    }
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&said).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said)
}

#[test]
fn a_line_that_is_moved_tells_which_console_went_quiet_on_whatever_board() {
    let name = format!("sai-walk-{}", std::process::id());
    let at = |end: &str| PathBuf::from(format!("/dev/shm/{name}{end}"));
    let mut rig = Rig::new("walk", 2, "\"baud\": 115200");
    let (first, second) = (rig.link(0).display().to_string(), rig.link(1).display().to_string());
    let line =
        |number: u8, more: &str| format!("{{ \"chip\": \"levels:{name}\", \"line\": {number}, \"safe\": 0{more} }}");
    let text = format!(
        r#"{{ "boards": {{ "b": {{ "type": "t", "consoles": {{ "main": {{ "path": "{first}" }} }},
            "lines": {{ "nrst": {reset}, "key": {key} }},
            "power": {{ "on": ["rm", "-f", "{supply}"], "off": ["touch", "{supply}"] }} }},
        "c": {{ "type": "t", "consoles": {{ "main": {{ "path": "{second}" }} }} }} }} }}"#,
        reset = line(1, ", \"active_low\": true"),
        key = line(2, ""),
        supply = at(".off").display()
    );
    fs::write(rig.file(), text).expect("written");
    // The other board has an owner.
    rig.well(&[&rig.file(), "record", "c", "--for", "10ms"]);
    let ends = Arc::new(AtomicBool::new(false));
    let (stop, pins, off) = (Arc::clone(&ends), at(".out"), at(".off"));
    let mut ttys: Vec<fs::File> = rig.ptys.iter().map(|pty| pty.master.try_clone().expect("a copy")).collect();
    let boards = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let pins = fs::read_to_string(&pins).unwrap_or_else(|_| "10".into());
            // The reset of the first is as it should be, and its key hangs at the reset of the second.
            for (tty, runs) in ttys.iter_mut().zip([pins.starts_with('1') && !off.exists(), pins.ends_with('0')]) {
                if runs {
                    let _ = tty.write_all(b".");
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let began = Instant::now();
    let (status, said) = check(&rig, &rig.file(), "b", &|question| match question {
        _ if began.elapsed() > LONG => panic!("{question}: it takes too long"),
        // Where the machine stands still meanwhile, nobody can tell.
        question if question.contains("is that what") && !question.contains("went quiet") => "r",
        question if question.contains("is that what line key is to do?") => "n",
        _ => "",
    });
    ends.store(true, Ordering::Relaxed);
    boards.join().expect("they end");
    for part in [
        &format!("console main: {}", fs::canonicalize(&first).expect("a tty").display()),
        "console main of b went quiet\nis that what line nrst is to do? [Y/n, r: once more]",
        "console main of c went quiet\nis that what line key is to do? [Y/n, r: once more]",
        "console main of b went quiet\nis that what power is to do? [Y/n, r: once more]",
        "board b is not wired as",
        "line key does not do what it should",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(status, Some(1), "{said}");
    assert!(fs::read_to_string(at(".out")).is_ok_and(|pins| pins == "10") && !at(".off").exists(), "{said}");
    drop(rig.ptys.drain(..));
    for end in [".out", ".off"] {
        let _ = fs::remove_file(at(end));
    }
}

#[test]
fn a_file_that_is_not_there_is_begun_and_one_who_answers_nothing_changes_nothing() {
    let rig = Rig::new("begin", 1, "\"baud\": 115200");
    let file = rig.top.join("new.json").display().to_string();
    let link = rig.link(0).display().to_string();
    let output = rig.run(&[&file, "check", "uno"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("nobody answers any more"), "{said}");
    assert!(fs::metadata(&file).is_err());
    let answers = std::cell::Cell::new(0);
    let link: &'static str = Box::leak(link.into_boxed_str());
    let (status, said) = check(&rig, &file, "uno", &|_| {
        answers.set(answers.get() + 1);
        ["arduino-uno", "s", link][answers.get() - 1]
    });
    assert!(status == Some(0) && said.ends_with("says: 1 things were looked at\n"), "{said}");
    let bench = bench::read(&file, &fs::read(&file).expect("the file")).expect("a bench");
    assert_eq!(bench.board("uno").map(|board| board.kind.as_str()), Some("arduino-uno"));
}
