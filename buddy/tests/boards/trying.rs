//! Boards tried from the command line: an emulated ATmega328P that is flashed through the stock optiboot and prints results, and a
//! loader whose flash is worn. Each log is judged once more, and comes to the same verdict.

use crate::avr::Board;
use crate::pty::{Pty, Served};
use crate::rig::{LONG, Rig, until};
use crate::rom::Rom;
use sai_buddy::frames::{Asked, Heard};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::axis::{self, What};
use sai_core::record::{Decoder, Item};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// An emulated AVR on a bench, whose supply is a file that asks for a reset, and the saifile of what is tried there.
struct Bench {
    // Its owner ends before its tty does, whose number another one may have then.
    rig: Rig,
    board: Board,
    reset: PathBuf,
    /// What the files of its key and its LED begin with.
    levels: PathBuf,
}

const KEYS: &str = r#""type": "t", "flash": "fw.bin", "identity": "^fw ${SAI_COMMIT}$", "banner": "^fw ",
    "test": [{ "expect": "login: $", "within": "15s" }, { "send": "root\n" }, { "expect": "hello (?P<who>\\w+)", "within": "15s" }],
    "results": "tap", "pass": "^ALL DONE""#;

/// The same of a board whose key is pressed.
const KEY: &str = r#""type": "t", "flash": "fw.bin", "identity": "^fw ${SAI_COMMIT}$", "test": [{ "expect": "press it", "within": "15s" },
    { "play": "press" }, { "edge": "led", "to": 1, "within": "15s" }], "results": "tap", "pass": "^ALL DONE""#;

/// Writes the saifile. What must come has time to, and what must not is not waited for long.
fn saifile(path: &Path, case: &str) {
    let silent = if case == "SILENT" { "2s" } else { "10s" };
    let timeout = if case == "NO_BOOT" { "2s" } else { "30s" };
    let keys = if case == "KEY" { KEY } else { KEYS };
    let keys = format!(r#"{keys}, "silent": "{silent}", "timeout": "{timeout}""#);
    let text = format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "linux-debian-12": {{ "build": "make" }} }},
        "configurations": {{ "fw": {{ "artifacts": "*.bin", "board": {{ {keys} }} }} }} }}"#
    );
    fs::write(path.join(".sai.json"), text).expect("written");
}

/// Builds a program that prints as its case says.
fn build(case: &str, version: &str, image: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/avr_program.c");
    let program = image.with_extension("elf");
    let built = Command::new("avr-gcc")
        .args(["-mmcu=atmega328p", "-Os", "-Wall", "-Wextra", "-Werror"])
        .args([format!("-DCASE={case}"), format!("-DVERSION=\"{version}\"")])
        .arg(source)
        .arg("-o")
        .arg(&program)
        .status();
    assert!(built.expect("avr-gcc").success(), "the program cannot be built");
    let made = Command::new("avr-objcopy").args(["-O", "binary"]).arg(&program).arg(image).status();
    assert!(made.expect("avr-objcopy").success(), "no image can be made of it");
}

impl Bench {
    fn new(name: &str, then: &str) -> Bench {
        let levels = format!("sai-avr-{name}-{}", std::process::id());
        let board = Board::with_pins(name, Some(&Path::new("/dev/shm").join(&levels)));
        let reset = board.directory.join("reset");
        let more = format!(
            r#", "lines": {{ "key": {{ "chip": "levels:{levels}", "line": 2, "safe": 0 }},
                "led": {{ "chip": "levels:{levels}", "line": 8, "direction": "in" }} }},
            "sequences": {{ "press": ["key 1", "wait 1s", "key 0"] }},
            "modes": {{ "loader": {{ "do": ["power on"] }}, "run": {{ "do": ["power on"] }} }},
            "power": {{ "off": ["true"], "on": ["sh", "-c", "touch {reset}; while test -e {reset}; do sleep 0.01; done"] }},
            "flash": {{ "with": "optiboot", "mode": "loader"{then} }}"#,
            reset = reset.display()
        );
        let rig = Rig::at(&format!("try-{name}"), &[&board.tty], "\"baud\": 115200", &more);
        Bench { board, rig, reset, levels: Path::new("/dev/shm").join(levels) }
    }

    /// Tries the board, which ends like this.
    fn ends(&mut self, case: &str, status: i32, end: &str, each: &mut dyn FnMut(&mut Board, &str)) {
        let (found, text) = self.tries(case, each);
        assert!(found == Some(status) && text.contains(end), "{case}: {end} did not come: {found:?} {text}");
    }

    /// Tries the board, and judges the log again: the exit status, and what is said.
    fn tries(&mut self, case: &str, each: &mut dyn FnMut(&mut Board, &str)) -> (Option<i32>, String) {
        saifile(&self.rig.top, case);
        build(case, "1.0", &self.rig.top.join("fw.bin"));
        let (file, saifile) = (self.rig.file(), self.rig.top.join(".sai.json").display().to_string());
        let log = self.rig.top.join("log").display().to_string();
        let words = [file.as_str(), "test", "b", &saifile, "fw"];
        let said = self.rig.top.join("said");
        let out = fs::File::create(&said).expect("a file");
        let mut command = self.rig.command(&words, &["--record", &log]);
        command.env("SAI_COMMIT", "1.0").stdout(out).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("it runs");
        let began = Instant::now();
        let status = loop {
            if self.reset.exists() {
                self.board.order("reset");
                fs::remove_file(&self.reset).expect("removed");
            }
            let text = fs::read_to_string(&said).expect("what it says");
            each(&mut self.board, &text);
            if let Some(status) = child.try_wait().expect("waited for") {
                break status.code();
            }
            assert!(began.elapsed() < LONG, "{case} is not judged: {text}");
            thread::sleep(Duration::from_millis(5));
        };
        let text = fs::read_to_string(&said).expect("what it says");
        assert_eq!(again(&self.rig, &words, &log), (status, points(&text)), "{text}");
        (status, text)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for end in ["out", "in"] {
            let _ = fs::remove_file(self.levels.with_extension(end));
        }
    }
}

/// The test points of a text, which is all that is the same in a log that is judged again.
fn points(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.starts_with('#')).map(ToString::to_string).collect()
}

fn again(rig: &Rig, words: &[&str], log: &str) -> (Option<i32>, Vec<String>) {
    let output = rig.command(words, &["--again", log]).env("SAI_COMMIT", "1.0").output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code(), points(&String::from_utf8_lossy(&output.stdout)))
}

#[test]
fn an_avr_that_its_loader_starts_is_judged_from_its_first_byte_on() {
    let mut bench = Bench::new("starts", "");
    let passes = "ok 1 - boots # SKIP\nok 2 - counts\nok 3 - verdict: passed\n1..3\n";
    for (case, status, end) in [
        ("PASS", 0, passes),
        ("FAIL", 1, "not ok 2 - counts\n# | fw 1.0\n# | login: hello root\n"),
        ("NO_BOOT", 1, "not ok 1 - verdict: no-boot: something came, and not the identity of what was flashed\n1..1\n"),
        ("RESULT_LOST", 1, "not ok 3 - verdict: result-lost: 2 results came of 3\n1..3\n"),
        ("KEY", 0, "ok 1 - pressed\nok 2 - verdict: passed\n1..2\n"),
        ("PASS", 0, passes),
    ] {
        bench.ends(case, status, end, &mut |_, _| ());
    }
}

#[test]
fn an_avr_that_is_reset_is_silent_or_boots_again_and_again() {
    let mut bench = Bench::new("resets", r#", "then": "run""#);
    for (case, end) in [
        ("SILENT", "not ok 1 - verdict: silent: nothing came after the reset\n1..1\n"),
        ("BOOT_LOOP", "not ok 1 - verdict: boot-loop: its banner came 3 times\n1..1\n"),
    ] {
        bench.ends(case, 1, end, &mut |_, _| ());
    }
    bench.ends("PASS", 0, "verdict: passed\n1..3\n", &mut |_, _| ());
}

#[test]
fn a_console_that_is_cut_is_nobodys_failure_but_ours() {
    let mut bench = Bench::new("cut", "");
    let (mut cut, link) = (false, bench.rig.link(0));
    let (found, text) = bench.tries("WAIT", &mut |board, said| {
        if !cut && said.contains("ok 1 - waits\n") {
            // The number of its tty may be another one's then.
            fs::remove_file(&link).expect("removed");
            board.cut();
            cut = true;
        }
    });
    assert!(cut && found == Some(3) && text.contains("verdict: infra: "), "{found:?} {text}");
    assert!(text.contains("console c0 was unplugged"), "{text}");
}

/// What becomes of a board's owner while one of its ttys is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Stays,
    /// It goes on as another program, and finds the tty.
    Updates,
    /// It dies; the tty is back before another one begins.
    Dies,
}

/// How long a console was gone, by its marks' stamps and as the last of them says, and its text; and where bytes may be missing.
fn away(log: &[u8]) -> (u64, Option<u64>, String, Vec<(u64, String)>) {
    let (mut gone, mut back, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    let decoded = Decoder::new().push(log, |item| {
        let Item::Later { micros, .. } = &item else { return };
        match axis::Entry::of(&item) {
            Some(axis::Entry::Mark(mark)) if mark.what == What::Unplugged => gone.push(*micros),
            Some(axis::Entry::Mark(mark)) if mark.what == What::Back => {
                back.push((*micros, mark.away_ms, mark.text.unwrap_or_default()));
            }
            Some(axis::Entry::Loss(0, loss)) => missing.push((loss.offset, loss.why)),
            _ => {}
        }
    });
    decoded.expect("a log");
    let ([gone], [(back, away_ms, text)]) = (&gone[..], &back[..]) else { panic!("{gone:?} and {back:?}") };
    (back - gone, *away_ms, text.clone(), missing)
}

#[test]
fn a_console_that_comes_back_within_a_trial_has_a_gap_with_its_length_and_the_trial_goes_on() {
    for meanwhile in [Meanwhile::Stays, Meanwhile::Updates, Meanwhile::Dies] {
        let mut pty = Pty::new();
        let more = r#", "sequences": { "reset": ["wait 1ms"] }"#;
        let mut rig = Rig::at(&format!("try-away-{meanwhile:?}"), &[&pty.path], "\"baud\": 115200", more);
        rig.start_owner();
        // What came before the trial is counted by the first owner alone.
        pty.master.write_all(b"before the trial").expect("written");
        until("it is read", || rig.status().contains("\"offset\":16"));
        let text = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": { "board": {
            "type": "t", "test": [{ "expect": "one", "within": "100s" }, { "expect": "two", "within": "100s" }],
            "silent": "100s", "timeout": "100s" } } } }"#;
        fs::write(rig.top.join(".sai.json"), text).expect("written");
        let (file, saifile, log) = (rig.file(), rig.top.join(".sai.json"), rig.top.join("log"));
        let (saifile, path) = (saifile.display().to_string(), log.display().to_string());
        let words = [file.as_str(), "test", "b", &saifile, "fw"];
        let said = rig.top.join("said");
        let out = fs::File::create(&said).expect("a file");
        let mut child = rig.command(&words, &["--record", &path]).stdout(out).spawn().expect("it runs");
        let says = |text: &str| fs::read_to_string(&said).expect("what it says").contains(text);
        until("it is judged", || fs::read(&log).is_ok_and(|log| log.windows(6).any(|part| part == b"judged")));
        pty.master.write_all(b"one\r\n").expect("written");
        until("it is heard", || fs::read(&log).expect("the log").windows(3).any(|part| part == b"one"));
        fs::remove_file(rig.link(0)).expect("removed");
        drop(pty);
        until("it is gone", || says("# console c0 is unplugged\n"));
        let mut back = Pty::new();
        match meanwhile {
            Meanwhile::Stays => {}
            Meanwhile::Updates => drop(rig.well(&[&file, "update", "b"])),
            // It finds nothing any more.
            Meanwhile::Dies => rig.stop_owner(),
        }
        symlink(&back.path, rig.link(0)).expect("a link");
        if meanwhile == Meanwhile::Dies {
            // Who tries the board begins the next one.
            rig.kill_owner();
        }
        until("it is back", || says("# console c0 is back: "));
        // Of the line in which something is missing nobody knows what it was.
        back.master.write_all(b"rest\r\ntwo\r\n").expect("written");
        let status = child.wait().expect("it ends").code();
        let text = fs::read_to_string(&said).expect("what it says");
        assert!(status == Some(0) && text.ends_with("ok 1 - verdict: passed\n1..1\n"), "{meanwhile:?}: {text}");
        assert_eq!(again(&rig, &words, &path), (status, points(&text)), "{meanwhile:?}: {text}");
        let (micros, away_ms, shown, missing) = away(&fs::read(&log).expect("the log"));
        // The stamps of records are whole microseconds since the log began.
        let apart = micros.abs_diff(away_ms.expect("its length") * 1000);
        assert!(apart <= 1001, "{meanwhile:?}: {micros} µs are told as {away_ms:?} ms");
        let length = format!("gone for {} ms", away_ms.unwrap_or_default());
        assert!(shown.ends_with(&length) && text.contains(&format!("# console c0 is back: {shown}\n")), "{text}");
        // What the next owner has opened is there from its beginning on, under whatever name.
        let named = if meanwhile == Meanwhile::Dies { length } else { format!("{}, {length}", back.path) };
        assert_eq!(shown, named, "{meanwhile:?}");
        let why = if meanwhile == Meanwhile::Dies { "died" } else { "away" };
        assert_eq!(missing, [(5, why.to_string())], "{meanwhile:?}");
    }
}

#[test]
fn what_was_sent_before_an_update_of_the_owner_is_sent_once() {
    let mut pty = Pty::new();
    let mut rig =
        Rig::at("try-updated", &[&pty.path], "\"baud\": 115200", r#", "sequences": { "reset": ["wait 1ms"] }"#);
    rig.start_owner();
    let text = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": { "board": {
        "type": "t", "test": [{ "expect": "login: $", "within": "100s" }, { "send": "root\n" }, { "expect": "done", "within": "100s" }],
        "silent": "100s", "timeout": "100s" } } } }"#;
    fs::write(rig.top.join(".sai.json"), text).expect("written");
    let (file, saifile, log) = (rig.file(), rig.top.join(".sai.json"), rig.top.join("log"));
    let (saifile, path) = (saifile.display().to_string(), log.display().to_string());
    let words = [file.as_str(), "test", "b", &saifile, "fw"];
    let child = rig.command(&words, &["--record", &path]).stdout(Stdio::piped()).spawn().expect("it runs");
    let has = |text: &str| String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).contains(text);
    until("it is judged", || has("judged\":true"));
    pty.master.write_all(b"login: ").expect("written");
    until("it is sent", || has("\"writer\":\"judge\""));
    // No byte of the board's is between what was sent and what the next owner tells first.
    rig.well(&[&file, "update", "b"]);
    pty.master.write_all(b"\r\ndone\r\n").expect("written");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.ends_with("ok 1 - verdict: passed\n1..1\n"), "{said}");
    let kept = String::from_utf8_lossy(&fs::read(&log).expect("the log")).into_owned();
    assert_eq!(kept.matches("\"writer\":\"judge\"").count(), 1, "{kept}");
}

#[test]
fn an_image_that_does_not_stay_on_its_board_is_judged_by_nothing_that_runs_there() {
    let pty = Pty::new();
    let mut rom = Rom::new(0x413);
    rom.worn = Some(2_000);
    let served = Served::new(rom, pty.master.try_clone().expect("a copy"));
    let more = r#", "modes": { "run": { "do": ["wait 1ms"] } },
        "flash": { "with": "stm32", "mode": "run", "then": "run", "chip_id": "0x0413", "targets": { "app": "0x08000000" } }"#;
    let rig = Rig::at("try-worn", &[&pty.path], "\"baud\": 115200", more);
    saifile(&rig.top, "");
    fs::write(rig.top.join("fw.bin"), vec![0; 5_000]).expect("written");
    let (saifile, log) = (rig.top.join(".sai.json").display().to_string(), rig.top.join("log").display().to_string());
    let file = rig.file();
    let words = [file.as_str(), "test", "b", &saifile, "fw"];
    let output = rig.command(&words, &["--record", &log]).env("SAI_COMMIT", "1.0").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(3) && text.contains("not ok 1 - verdict: flash-failed: "), "{text}");
    assert_eq!(again(&rig, &words, &log), (Some(3), points(&text)));
    assert!(served.end().erased > 0);
}

/// A board with a key and a LED, both files of memory: when its key is pressed the LED goes on, unless it is broken. Where it is
/// not, whoever tries it makes a mistake: it is in the log, and changes nothing.
fn with_led(name: &str, broken: bool) -> (Option<i32>, String) {
    let levels = format!("sai-try-{name}-{}", std::process::id());
    let at = |end: &str| PathBuf::from(format!("/dev/shm/{levels}{end}"));
    let pty = Pty::new();
    let more = format!(
        r#", "lines": {{ "nrst": {{ "chip": "levels:{levels}", "line": 1, "active_low": true, "safe": 0 }},
            "key": {{ "chip": "levels:{levels}", "line": 2, "safe": 0 }},
            "led": {{ "chip": "levels:{levels}", "line": 3, "direction": "in" }} }},
        "sequences": {{ "reset": ["nrst 1", "wait 1s", "nrst 0"], "press": ["key 1", "wait 1s", "key 0"] }}"#
    );
    let rig = Rig::at(&format!("try-{name}"), &[&pty.path], "\"baud\": 115200", &more);
    let text = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": { "board": {
        "type": "t", "test": [{ "expect": "READY", "within": "100s" }, { "play": "press" }, { "edge": "led", "to": 1, "within": "WITHIN" }],
        "silent": "100s" } } } }"#;
    fs::write(rig.top.join(".sai.json"), text.replace("WITHIN", if broken { "1s" } else { "100s" })).expect("written");
    let (file, saifile, log) = (rig.file(), rig.top.join(".sai.json"), rig.top.join("log"));
    let (saifile, log) = (saifile.display().to_string(), log.display().to_string());
    let words = [file.as_str(), "test", "b", &saifile, "fw"];
    let mut command = rig.command(&words, &["--record", &log]);
    if !broken {
        command.env("SAI_TESTS_MISTAKES", "trying");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    // What the board does: a reset is seen by its pin, which is low then.
    let (mut console, mut was_reset, mut pressed) = (pty.master.try_clone().expect("a copy"), false, false);
    let began = Instant::now();
    while child.try_wait().expect("waited for").is_none() {
        let pins = fs::read_to_string(at(".out")).unwrap_or_default();
        if was_reset && pins.starts_with('1') {
            console.write_all(b"READY\r\n").expect("written");
        }
        was_reset = pins.starts_with('0');
        if !broken && !pressed && pins.ends_with('1') {
            pressed = true;
            let mut led = fs::File::options().write(true).open(at(".in")).expect("the LED");
            led.write_all(b"a1 ").expect("written");
        }
        assert!(began.elapsed() < LONG, "it is not judged");
        thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(again(&rig, &words, &log), (output.status.code(), points(&said)), "{said}");
    let kept = String::from_utf8_lossy(&fs::read(&log).expect("the log")).into_owned();
    assert_eq!(kept.contains("Sai contradicts itself (begin: it has begun already)"), !broken, "{kept}");
    for end in [".out", ".in"] {
        let _ = fs::remove_file(at(end));
    }
    (output.status.code(), said)
}

#[test]
fn a_key_that_is_pressed_is_seen_at_a_led_or_is_said_not_to_be() {
    let (status, said) = with_led("led", false);
    assert_eq!((status, points(&said)), (Some(0), vec!["ok 1 - verdict: passed".into(), "1..1".into()]), "{said}");
    let (status, said) = with_led("dark", true);
    assert!(status == Some(1) && said.contains("verdict: test-fail: step 3: `led` did not change to 1\n"), "{said}");
}

#[test]
fn nothing_is_older_than_a_moment_that_was_told_before_it() {
    let mut rig = Rig::new("moments", 2, "\"baud\": 115200");
    rig.start_owner();
    let (file, directory) = (rig.file().into(), rig.sockets());
    let visit = Visit::new(&Whose { file, board: "b".into(), directory, begins: Begins::Ourselves }).expect("an owner");
    visit.answer(&Asked { kept: Some(true), ..Asked::new("listen") }).expect("heard");
    let ends = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = rig.ptys.iter().map(|pty| pty.master.try_clone().expect("a copy")).collect();
    let write = |mut tty: fs::File| {
        let ends = Arc::clone(&ends);
        thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                let _ = tty.write_all(b"0123456789");
                thread::sleep(Duration::from_micros(200));
            }
        })
    };
    let writers: Vec<_> = writers.into_iter().map(write).collect();
    let (mut moments, mut last, mut entries) = (0, 0, 0);
    let began = Instant::now();
    while moments < 300 || entries < 300 {
        assert!(began.elapsed() < LONG, "{moments} moments and {entries} entries");
        if moments * 3 <= entries {
            visit.ask(&Asked::new("moment")).expect("asked");
            moments += 1;
        }
        match visit.hear(Duration::from_secs(1)).expect("an owner") {
            Some((Heard::Told(told), _)) => {
                let ns = told.ns.expect("a moment");
                assert!(ns >= last, "{ns} after {last}");
                last = ns;
            }
            Some((Heard::Entry(_, entry), _)) => {
                entries += 1;
                assert!(entry.ns() >= last, "{} after the moment {last}", entry.ns());
            }
            None => {}
        }
    }
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("it ends while its console is read");
    }
}
