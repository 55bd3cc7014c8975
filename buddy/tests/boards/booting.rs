//! Emulated Arm boards flashed through U-Boot and by a debugger, reset, and judged by what the programs that they got say then: each
//! verdict by a program of its own. Each log is judged once more, and comes to the same verdict.

use crate::arm::{Board, PLACE, program, stm32_program};
use crate::rig::{LONG, Rig};
use sai_buddy::frames::{Asked, Heard};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::console::{Entry, Piece};
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

/// The board on a bench, with a socket in the network that switches it on.
struct Bench {
    // Its owner ends before its tty does, whose number another one may have then.
    rig: Rig,
    board: Board,
}

/// What its U-Boot does when nobody stops it.
const VARIABLES: &[&str] = &["autostart=yes", "bootdelay=1", "bootcmd=bootm 0x04100000"];

impl Bench {
    fn new(name: &str, writable: bool) -> Bench {
        let board = Board::with(name, VARIABLES, writable);
        let flash = format!(
            r#""with": "ymodem-uboot", "mode": "loader", "load": "0x41000000", "countdown": "stop autoboot", "stop": " ",
            "prompt": "^=> $", "verifies": true,
            "write": ["protect off {{target}} +{{size}}", "erase {{target}} +{{size}}", "cp.b {{load}} {{target}} {{size}}"],
            "targets": {{ "app": "{PLACE:#x}", "loader": "0x0" }}"#
        );
        Bench::at(name, board, &flash)
    }

    /// A board that a debugger brings programs to, and compares them; it leaves the board stopped.
    fn debugged(name: &str) -> Bench {
        let board = Board::stm32(name);
        let script = board.directory.join("flash.gdb");
        let compare = "if 'MIS-MATCHED' in gdb.execute('compare-sections', to_string=True):\n    raise gdb.GdbError('it differs')";
        let text = format!(
            "target remote {}\nload\npython\n{compare}\nend\ndisconnect\n",
            board.directory.join("gdb").display()
        );
        fs::write(&script, text).expect("written");
        let flash = format!(
            r#""with": "argv", "argv": ["gdb-multiarch", "-batch", "-nx", "-iex", "set architecture arm", "-x", "{}", "{{image}}"],
            "verifies": true, "timeout": "100s", "targets": {{ "app": "0x08000000" }}"#,
            script.display()
        );
        Bench::at(name, board, &flash)
    }

    fn at(name: &str, board: Board, flash: &str) -> Bench {
        let more = format!(
            r#", "modes": {{ "loader": {{ "do": ["power on"] }}, "run": {{ "do": ["power on"] }} }},
            "power": {{ "on": "{supply}/on", "off": "{supply}/off" }}, "flash": {{ {flash}, "then": "run" }}"#,
            supply = board.supply()
        );
        let mut rig = Rig::at(&format!("boot-{name}"), &[&board.tty()], "\"baud\": 115200", &more);
        rig.commit = "7";
        Bench { rig, board }
    }

    /// Flashes an image and judges what comes: the exit status, and what is said. `each` sees what was said by then.
    fn tries(&mut self, target: &str, image: &[u8], each: &mut dyn FnMut(&mut Board, &str)) -> (Option<i32>, String) {
        let top = self.rig.top.clone();
        fs::write(top.join("fw.img"), image).expect("written");
        // What must come has time to, and what must not is not waited for long.
        let silent = if target == "loader" { "2s" } else { "100s" };
        let timeout = if image.windows(4).any(|text| text == b"fw 6") { "6s" } else { "100s" };
        let text = format!(
            r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "make" }} }},
            "configurations": {{ "fw": {{ "artifacts": "*.img", "board": {{
                "type": "t", "flash": {{ "{target}": "fw.img" }}, "identity": "^fw ${{SAI_COMMIT}}\r?$", "banner": "^U-Boot 20",
                "results": "tap", "pass": "^ALL DONE", "fail": "PANIC", "silent": "{silent}", "timeout": "{timeout}" }} }} }} }}"#
        );
        fs::write(top.join(".sai.json"), text).expect("written");
        let (file, saifile) = (self.rig.file(), top.join(".sai.json").display().to_string());
        let (log, said) = (top.join("log").display().to_string(), top.join("said"));
        let words = [file.as_str(), "test", "b", &saifile, "fw"];
        let mut command = self.rig.command(&words, &["--record", &log]);
        command.env("SAI_COMMIT", "7").stdout(fs::File::create(&said).expect("a file")).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("it runs");
        let began = Instant::now();
        let status = loop {
            let text = fs::read_to_string(&said).expect("what it says");
            each(&mut self.board, &text);
            if let Some(status) = child.try_wait().expect("waited for") {
                break status.code();
            }
            assert!(began.elapsed() < LONG, "it is not judged: {text}");
            thread::sleep(Duration::from_millis(10));
        };
        let text = fs::read_to_string(&said).expect("what it says");
        let again = self.rig.command(&words, &["--again", &log]).env("SAI_COMMIT", "7").output().expect("it runs");
        let points = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(ToString::to_string).collect()
        };
        assert_eq!((again.status.code(), points(&String::from_utf8_lossy(&again.stdout))), (status, points(&text)));
        (status, text)
    }
}

#[test]
fn a_board_that_u_boot_flashes_is_judged_by_the_program_that_it_got() {
    let mut bench = Bench::new("verdicts", true);
    let well = program(b"fw 7\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\nok 2 - timer\r\nALL DONE\r\n");
    for (image, status, verdict) in [
        (well.clone(), 0, "ok 3 - verdict: passed\n1..3\n"),
        (
            program(b"fw 7\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\nnot ok 2 - timer\r\nALL DONE\r\n"),
            1,
            "not ok 3 - verdict: test-fail: ",
        ),
        // The one before it was of the same version: what the loader says is none of it.
        (program(b"fw 6\r\nTAP version 13\r\n1..1\r\nok 1 - uart\r\nALL DONE\r\n"), 1, "verdict: no-boot: "),
        (program(b"fw 7\r\nTAP version 13\r\n1..3\r\nok 1 - uart\r\nALL DONE\r\n"), 1, "verdict: result-lost: "),
        (program(b"starting\r\n\x01"), 1, "verdict: boot-loop: its banner came 3 times\n"),
        // Out of the loop: the countdown is stopped again.
        (well.clone(), 0, "ok 3 - verdict: passed\n1..3\n"),
    ] {
        let (found, said) = bench.tries("app", &image, &mut |_, _| ());
        assert!(found == Some(status) && said.contains(verdict), "{verdict:?}: {found:?} {said}");
        assert!(bench.board.holds(PLACE, image.len()) == image, "{verdict:?}");
    }
    // A loader that is none: the board says nothing any more.
    let dead = [0x00, 0x00, 0x00, 0x14].repeat(16);
    let (found, said) = bench.tries("loader", &dead, &mut |_, _| ());
    assert!(found == Some(1) && said.contains("verdict: silent: nothing came after the reset\n"), "{found:?} {said}");
    assert!(bench.board.holds(0, dead.len()) == dead);
}

#[test]
fn a_flash_that_cannot_be_written_and_a_console_that_is_cut_are_no_fault_of_the_program() {
    let mut bench = Bench::new("protected", false);
    let image = program(b"fw 7\r\nTAP version 13\r\n1..1\r\nok 1 - uart\r\nALL DONE\r\n");
    let (found, said) = bench.tries("app", &image, &mut |_, _| ());
    assert!(found == Some(3) && said.contains("not ok 1 - verdict: flash-failed: "), "{found:?} {said}");
    drop(bench);
    let mut bench = Bench::new("cut", true);
    let waits = program(b"fw 7\r\nTAP version 13\r\n1..2\r\nok 1 - uart\r\n\x02ok 2 - timer\r\nALL DONE\r\n");
    let (mut cut, link) = (false, bench.rig.link(0));
    let (found, said) = bench.tries("app", &waits, &mut |board, said| {
        if !cut && said.contains("ok 1 - uart\n") {
            // The number of its tty may be another one's then.
            fs::remove_file(&link).expect("removed");
            board.cut();
            cut = true;
        }
    });
    assert!(found == Some(3) && said.contains("verdict: infra: "), "{found:?} {said}");
}

/// A board is started so often, each time as soon as it has said all, and each time every byte of that is there from the first on.
fn heard_whole(rig: &Rig, text: &[u8]) {
    const RESETS: usize = 50;
    let (file, directory) = (rig.file().into(), rig.sockets());
    let visit = Visit::new(&Whose { file, board: "b".into(), directory, begins: Begins::Never }).expect("an owner");
    visit.answer(&Asked { name: Some("job".into()), ..Asked::new("claim") }).expect("granted");
    visit.answer(&Asked::new("listen")).expect("granted");
    let (mut heard, mut end) = (Vec::new(), None);
    for number in 0..RESETS {
        visit.ask(&Asked { name: Some("on".into()), ..Asked::new("power") }).expect("asked");
        let mut granted = false;
        while heard.len() < text.len() || !granted {
            match visit.hear(LONG).expect("an owner") {
                Some((Heard::Told(told), _)) => granted |= told.t == "granted",
                Some((Heard::Entry(_, Entry::Came(Piece::Bytes { offset, bytes, .. })), _)) => {
                    assert_eq!(*end.get_or_insert(offset), offset, "bytes are missing at reset {number}");
                    end = Some(offset + bytes.len() as u64);
                    heard.extend(bytes);
                }
                other => panic!("reset {number}: {other:?} behind {:?}", String::from_utf8_lossy(&heard)),
            }
        }
        assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(text), "reset {number}");
        heard.clear();
    }
}

#[test]
fn a_microcontroller_is_flashed_by_a_debugger_and_judged() {
    let mut bench = Bench::debugged("debugger");
    for (text, status, verdict) in [
        ("fw 7\r\nTAP version 13\r\n1..1\r\nok 1 - uart\r\nALL DONE\r\n", 0, "ok 2 - verdict: passed\n"),
        ("fw 7\r\nTAP version 13\r\n1..1\r\nnot ok 1 - uart\r\nALL DONE\r\n", 1, "verdict: test-fail: "),
    ] {
        let (found, said) = bench.tries("app", &stm32_program(text.as_bytes()), &mut |_, _| ());
        assert!(found == Some(status) && said.contains(verdict), "{found:?} {said}");
        // What the tool prints is told, and kept.
        assert!(said.contains("# | Loading section .text"), "{said}");
        let log = fs::read(bench.rig.top.join("log")).expect("a log");
        assert!(log.windows(15).any(|text| text == b"Loading section"));
        heard_whole(&bench.rig, text.as_bytes());
    }
    // What is none for a debugger is told by it, and what is on the board is not judged.
    let (found, said) = bench.tries("app", b"no program", &mut |_, _| ());
    assert!(found == Some(3) && said.contains("verdict: flash-failed: the tool ended with "), "{found:?} {said}");
}
