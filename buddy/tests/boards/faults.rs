//! Bad boards, bad images and bad neighbours, met by the real processes: what is promised holds, within a time and a memory, and nothing
//! of a board's reaches a terminal as an order.

use crate::line::image;
use crate::pty::{Pty, Served, open, ready};
use crate::rig::{LONG, Rig, open_files, until};
use crate::rom::Rom;
use rustix::process::{Pid, Signal, kill_process};
use sai_buddy::frames::{Asked, Heard};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::console::{Entry, Piece};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const F405: u16 = 0x413;
/// Bytes that a process of ours may take at most beside what it takes anyway, in KiB: a ring of three seconds, a history, and room.
const TAKES_KIB: u64 = 16 * 1024;

fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// The process of the board's owner.
fn owner(rig: &Rig) -> Pid {
    let status = rig.status();
    let number = status.split("\"process\":").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
    number.and_then(Pid::from_raw).expect("an owner")
}

/// A number of `/proc/PID/FILE`.
fn number(process: impl std::fmt::Display, file: &str, word: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).expect("its state");
    let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or_else(|| panic!("{word} in {text}"));
    line.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

fn visit(rig: &Rig) -> Visit {
    let (file, directory) = (rig.file().into(), rig.sockets());
    Visit::new(&Whose { file, board: "b".into(), directory, begins: Begins::Never }).expect("an owner")
}

/// Writes a saifile whose configuration `fw` has this board.
fn saifile(rig: &Rig, board: &str) -> String {
    let path = rig.top.join(".sai.json");
    let text = format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "make" }} }},
        "configurations": {{ "fw": {{ "artifacts": "*.bin", "board": {{ "type": "t", {board} }} }} }} }}"#
    );
    fs::write(&path, text).expect("written");
    path.display().to_string()
}

const RESET: &str = r#", "sequences": { "reset": ["wait 1ms"] }"#;

#[test]
fn a_board_that_says_everything_for_ever_is_judged_in_time_and_gives_no_orders_to_a_terminal() {
    let pty = Pty::new();
    let mut rig = Rig::at("babbles", &[&pty.path], "\"baud\": 3000000", RESET);
    rig.start_owner();
    let before = number(owner(&rig).as_raw_nonzero(), "status", "VmHWM:");
    let file = saifile(&rig, r#""pass": "^NEVER$", "fail": "^(a*)*b$", "results": "tap", "timeout": "3s""#);
    let over = Arc::new(AtomicBool::new(false));
    let (ends, mut board) = (Arc::clone(&over), pty.master.try_clone().expect("a copy"));
    // As fast as a UART of three million bits a second: zeros, orders for terminals, lines without an end, what patterns stumble over.
    let babbling = thread::spawn(move || {
        let orders =
            "\x1b[2J\x1b]0;you\x07\x1bc\x1b[99999;1H\u{9b}31m\x08\x7f\x0e\r\nok 1 - \x1b[31mred\r\n".as_bytes();
        let parts = [&[0; 2_000][..], orders, &[b'a'; 2_000], b"\r\nnot ok", &[0xff; 500], b"\n# \x1b]52;c;aGk=\x07\n"];
        let began = Instant::now();
        let mut written = 0_u64;
        while !ends.load(Ordering::Relaxed) {
            for part in parts {
                let _ = board.write_all(part);
                written += part.len() as u64;
            }
            while began.elapsed().as_micros() as u64 * 3 / 10 < written {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let _ = board.write_all(b"\r\nlast\r\n");
    });
    // A terminal that shows what comes, as people have one.
    let terminal = Pty::new();
    let (bench, log) = (rig.file(), rig.top.join("log"));
    let words = [bench.as_str(), "test", "b", &file, "fw"];
    let mut command = rig.command(&words, &["--record", &log.display().to_string()]);
    command.stdout(open(&terminal.path)).stderr(open(&terminal.path));
    let began = Instant::now();
    let mut child = command.spawn().expect("it runs");
    let (mut shown, mut largest) = (Vec::new(), 0);
    let mut screen = terminal.master.try_clone().expect("a copy");
    let mut read = |shown: &mut Vec<u8>| {
        let mut buffer = [0; 4096];
        while ready(&screen, Duration::from_millis(10)) {
            let count = screen.read(&mut buffer).expect("the terminal");
            shown.extend_from_slice(&buffer[..count]);
        }
    };
    let status = loop {
        read(&mut shown);
        if let Some(status) = child.try_wait().expect("waited for") {
            break status;
        }
        largest = largest.max(number(child.id(), "status", "VmHWM:"));
        assert!(began.elapsed() < LONG, "it is not judged: {}", String::from_utf8_lossy(&shown));
    };
    read(&mut shown);
    let text = String::from_utf8_lossy(&shown).into_owned();
    // Where the machine stood still something was lost, which is no fault of the board's.
    let lost = text.contains("verdict: infra: ") && text.contains("lost");
    assert!(
        status.code() == Some(1) && text.contains("verdict: test-fail: ") || status.code() == Some(3) && lost,
        "{text}"
    );
    only_colours(&text);
    // All that was said is in the log, and little of it in memory.
    assert!(fs::metadata(&log).expect("a log").len() > 500_000);
    assert!(largest < before + TAKES_KIB, "{largest} KiB to judge it, where an owner began with {before}");
    // The same of a recording that is watched, and of the last words before a verdict.
    let mut command = rig.command(&[&bench, "record", "b"], &["--for", "300ms"]);
    let mut child = command.stdout(open(&terminal.path)).stderr(open(&terminal.path)).spawn().expect("it runs");
    shown.clear();
    while child.try_wait().expect("waited for").is_none() {
        read(&mut shown);
    }
    read(&mut shown);
    assert!(shown.len() > 10_000);
    only_colours(&String::from_utf8_lossy(&shown));
    over.store(true, Ordering::Relaxed);
    babbling.join().expect("it is heard to the end");
    let after = number(owner(&rig).as_raw_nonzero(), "status", "VmHWM:");
    assert!(after < before + TAKES_KIB, "{after} KiB for the owner, which began with {before}");
}

/// Nothing but lines, and colours of ours, is on a terminal.
fn only_colours(text: &str) {
    let mut rest = text;
    while let Some(place) = rest.find(|letter: char| letter.is_control() && !"\r\n\t".contains(letter)) {
        let from = &rest[place..];
        let order = from.strip_prefix("\x1b[").and_then(|after| after.split_once('m'));
        match order {
            Some((number, after)) if number.len() <= 2 && number.chars().all(|digit| digit.is_ascii_digit()) => {
                rest = after
            }
            _ => panic!("{:?}", &from.chars().take(20).collect::<String>()),
        }
    }
}

/// An STM32 whose tty the bench finds by a link.
fn stm32(name: &str, tty: &str) -> Rig {
    let more = r#", "modes": { "run": { "do": ["wait 1ms"] } },
        "flash": { "with": "stm32", "mode": "run", "then": "run", "chip_id": "0x0413", "targets": { "app": "0x08000000" } }"#;
    Rig::at(name, &[tty], "\"baud\": 115200", more)
}

#[test]
fn a_board_that_goes_while_it_is_flashed_is_flashed_when_it_is_back() {
    let pty = Pty::new();
    let mut rig = stm32("gone", &pty.path);
    rig.start_owner();
    let image = image(30_000);
    let path = rig.top.join("image.bin");
    fs::write(&path, &image).expect("written");
    let (file, path) = (rig.file(), path.display().to_string());
    let served = Served::new(Rom::new(F405), pty.master.try_clone().expect("a copy"));
    let log = rig.top.join("said");
    let out = File::create(&log).expect("a file");
    let mut command = rig.command(&[&file, "flash", "b", &path, "--json"], &[]);
    let mut child = command.stdout(out.try_clone().expect("a copy")).stderr(out).spawn().expect("it runs");
    until("it is written", || fs::read_to_string(&log).unwrap_or_default().contains("\"write\""));
    // The cable is pulled: both ends of the tty are gone.
    fs::remove_file(rig.link(0)).expect("removed");
    served.end();
    drop(pty);
    let began = Instant::now();
    until("it is told", || child.try_wait().expect("waited for").is_some());
    let text = fs::read_to_string(&log).expect("what it says");
    assert_eq!(child.wait().expect("it ended").code(), Some(1), "{text}");
    assert!(
        text.contains("wiring: console c0 was unplugged meanwhile: ") && !text.contains("\"verified\":true"),
        "{text}"
    );
    println!("told after {:?}", began.elapsed());
    assert!(!rig.status().contains("\"mode\":\""), "{}", rig.status());
    // It is back, under another name.
    let back = Pty::new();
    symlink(&back.path, rig.link(0)).expect("a link");
    until("it is back", || rig.status().contains("\"there\":true"));
    let served = Served::new(Rom::new(F405), back.master.try_clone().expect("a copy"));
    let output = rig.run(&[&file, "flash", "b", &path], &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(served.end().flash[..30_000] == image);
    assert!(rig.status().contains("\"mode\":\"run\""));
}

#[test]
fn images_of_no_byte_and_of_a_gigabyte_are_refused_before_anything_is_asked_of_a_board() {
    let pty = Pty::new();
    let uboot = r#""with": "ymodem-uboot", "load": "0x41000000", "countdown": "stop", "stop": " ", "prompt": "^=> $",
        "write": ["erase {target} +{size}", "cp.b {load} {target} {size}"], "verifies": true, "targets": { "app": "0x04100000" }"#;
    for (name, flash) in [
        ("uboot", uboot),
        ("stm32", r#""with": "stm32", "targets": { "app": "0x08000000" }"#),
        ("optiboot", r#""with": "optiboot""#),
        ("tool", r#""with": "argv", "argv": ["sh", "-c", "touch $0.flashed", "{image}"], "verifies": true"#),
    ] {
        let more =
            format!(r#", "modes": {{ "run": {{ "do": ["wait 1ms"] }} }}, "flash": {{ {flash}, "mode": "run" }}"#);
        let rig = Rig::at(&format!("sizes-{name}"), &[&pty.path], "\"baud\": 115200", &more);
        for (file, length) in [("none.bin", 0), ("large.bin", 1 << 30)] {
            let path = rig.top.join(file);
            File::create(&path).and_then(|file| file.set_len(length)).expect("a file with a hole");
            let began = Instant::now();
            let output = rig.run(&[&rig.file(), "flash", "b", &path.display().to_string()], &[]);
            let said = said(&output);
            assert!(output.status.code() == Some(1) && said.contains("image: "), "{name} {file}: {said}");
            let why = if length == 0 { "is empty" } else { "has 1073741824 bytes" };
            assert!(said.contains(why) && said.contains("nothing was erased"), "{name} {file}: {said}");
            assert!(began.elapsed() < Duration::from_secs(20), "{name} {file}: {:?}", began.elapsed());
            assert!(!path.with_extension("bin.flashed").exists());
        }
        // A directory, and what is no file that ends.
        for path in [rig.top.clone(), "/dev/zero".into(), rig.top.join("missing")] {
            let output = rig.run(&[&rig.file(), "flash", "b", &path.display().to_string()], &[]);
            assert!(output.status.code() == Some(1) && said(&output).contains("image: "), "{name}: {}", said(&output));
        }
        // Nobody was started for it.
        assert!(!rig.run(&[&rig.file(), "status", "b"], &[]).status.success(), "{name}: an owner was started");
    }
    assert!(!ready(&pty.master, Duration::ZERO), "something was sent");
}

#[test]
fn of_two_benches_with_one_tty_the_first_has_it_and_is_not_disturbed() {
    let mut pty = Pty::new();
    let mut first = Rig::at("first", &[&pty.path], "\"baud\": 115200", "");
    first.start_owner();
    let second = Rig::at("second", &[&pty.path], "\"baud\": 9600", "");
    let process = owner(&first).as_raw_nonzero();
    let output = second.run(&[&second.file(), "record", "b"], &["--for", "1s"]);
    let text = said(&output);
    let expected = format!("console c0: {} is in use by process {process} (sai-buddy)", pty.path);
    assert!(output.status.code() == Some(1) && text.contains(&expected), "{text}");
    // It was not so much as opened, which would have raised its DTR, nor given another speed.
    let tty = rustix::termios::tcgetattr(&pty.master).expect("its settings");
    assert_eq!(tty.output_speed(), 115_200);
    pty.master.write_all(b"undisturbed").expect("written");
    until("all of it is read", || first.status().contains("\"offset\":11"));
    // The owner dies: its guard still has the tty, and the next one of the same bench gets it.
    first.kill_owner();
    let output = second.run(&[&second.file(), "record", "b"], &["--for", "1s"]);
    let text = said(&output);
    assert!(output.status.code() == Some(1) && text.contains(&format!("{} is in use by ", pty.path)), "{text}");
    first.start_owner();
    first.well(&[&first.file(), "stop", "b"]);
    until("the guard lets it go", || !open_files(first.guard()).contains(&PathBuf::from(&pty.path)));
    second.well(&[&second.file(), "record", "b", "--for", "10ms"]);
}

#[test]
fn a_bench_that_means_another_tty_by_the_same_name_is_believed() {
    let ttys = [Pty::new(), Pty::new()];
    let mut rig = Rig::at("moved", &[&ttys[0].path], "\"baud\": 115200", "");
    rig.start_owner();
    let held = |rig: &Rig| {
        let files = open_files(rig.guard());
        ttys.each_ref().map(|pty| files.contains(&PathBuf::from(&pty.path)))
    };
    until("the guard holds it", || held(&rig) == [true, false]);
    let lead = |rig: &Rig, to: usize| {
        fs::remove_file(rig.link(0)).expect("removed");
        symlink(&ttys[to].path, rig.link(0)).expect("a link");
    };
    // Somebody has put the cable elsewhere, and written that down: an update goes by it, and so does the next owner.
    lead(&rig, 1);
    rig.well(&[&rig.file(), "update", "b"]);
    until("the guard holds the other one", || held(&rig) == [false, true]);
    lead(&rig, 0);
    rig.kill_owner();
    rig.start_owner();
    until("the guard holds the first one again", || held(&rig) == [true, false]);
    // A console that is called otherwise now is opened by its new name.
    let text = fs::read_to_string(rig.file()).expect("the bench").replace("\"c0\"", "\"other\"");
    fs::write(rig.file(), text).expect("written");
    rig.kill_owner();
    rig.start_owner();
    assert!(rig.status().contains("\"name\":\"other\"") && rig.status().contains("\"there\":true"), "{}", rig.status());
}

#[test]
fn a_full_disk_under_a_recording_is_told_and_is_no_verdict_on_the_board() {
    let mut pty = Pty::new();
    let mut rig = Rig::at("full", &[&pty.path], "\"baud\": 115200", RESET);
    rig.start_owner();
    let bench = rig.file();
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("/dev/full"));
    pty.master.write_all(b"something").expect("written");
    for more in [&[][..], &["--json"]] {
        let mut command = rig.command(&[&bench, "record", "b", "--kept"], &[&["--for", "100s"], more].concat());
        let output = command.stdout(full()).output().expect("it runs");
        assert!(
            output.status.code() == Some(1) && said(&output).contains("No space left on device"),
            "{}",
            said(&output)
        );
    }
    let file = saifile(&rig, r#""pass": "^DONE""#);
    let words = [bench.as_str(), "test", "b", &file, "fw", "--record"];
    let output = rig.run(&words, &["/dev/full"]);
    let text = said(&output);
    assert!(output.status.code() == Some(3) && text.contains("verdict: infra: "), "{text}");
    assert!(text.contains("/dev/full") && text.contains("No space left on device"), "{text}");
    // A board goes on, whoever cannot write it down.
    assert!(rig.status().contains("\"there\":true"));
}

#[test]
fn an_old_program_that_prints_success_is_no_success_of_an_image_that_never_came() {
    let mut pty = Pty::new();
    // A tool that says that it has written and read back, and has done neither.
    let more = r#", "modes": { "run": { "do": ["wait 1ms"] } },
        "flash": { "with": "argv", "argv": ["true", "{image}"], "verifies": true, "then": "run" }"#;
    let mut rig = Rig::at("old", &[&pty.path], "\"baud\": 115200", more);
    fs::write(rig.top.join("fw.bin"), b"new").expect("written");
    let keys = r#""flash": "fw.bin", "identity": "^fw ${SAI_COMMIT}$", "results": "tap", "pass": "^ALL DONE", "timeout": "2s""#;
    let file = saifile(&rig, keys);
    rig.start_owner();
    let bench = rig.file();
    let mut command = rig.command(&[&bench, "test", "b", &file, "fw"], &[]);
    let mut child = command.env("SAI_COMMIT", "2").stdout(Stdio::piped()).spawn().expect("it runs");
    until("it is judged", || {
        pty.master.write_all(b"fw 1\r\nTAP version 13\r\n1..1\r\nok 1 - all\r\nALL DONE\r\n").expect("it is read");
        thread::sleep(Duration::from_millis(20));
        child.try_wait().expect("waited for").is_some()
    });
    let output = child.wait_with_output().expect("it ended");
    let text = said(&output);
    assert!(output.status.code() == Some(1) && text.contains("not ok 1 - verdict: no-boot: "), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("ok ")), "{text}");
}

#[test]
fn what_a_board_says_first_after_each_of_a_hundred_resets_is_there() {
    let name = format!("sai-resets-{}", std::process::id());
    let out = PathBuf::from(format!("/dev/shm/{name}.out"));
    let pty = Pty::new();
    let more = format!(
        r#", "lines": {{ "nrst": {{ "chip": "levels:{name}", "line": 1, "active_low": true, "safe": 0 }} }},
        "sequences": {{ "reset": ["nrst 1", "wait 5ms", "nrst 0"] }}"#
    );
    let mut rig = Rig::at("resets", &[&pty.path], "\"baud\": 115200", &more);
    rig.start_owner();
    let visit = visit(&rig);
    visit.answer(&Asked { name: Some("job".into()), ..Asked::new("claim") }).expect("granted");
    visit.answer(&Asked::new("listen")).expect("granted");
    let over = Arc::new(AtomicBool::new(false));
    let (ends, pin, mut board) = (Arc::clone(&over), out.clone(), pty.master.try_clone().expect("a copy"));
    // The board: it speaks as soon as its reset is let go.
    let running = thread::spawn(move || {
        let (mut was_held, mut times) = (false, 0_u8);
        while !ends.load(Ordering::Relaxed) {
            let held = fs::read(&pin).expect("levels") == b"0";
            if was_held && !held {
                board.write_all(&[times]).expect("written");
                times += 1;
            }
            was_held = held;
            thread::sleep(Duration::from_micros(200));
        }
        times
    });
    let began = Instant::now();
    let mut heard = 0;
    while heard < 100 {
        visit.ask(&Asked { name: Some("reset".into()), ..Asked::new("play") }).expect("asked");
        let (mut bytes, mut played) = (Vec::new(), None);
        // Where the machine stands still, the emulated board does not see its own reset, and says nothing.
        while played.is_none_or(|played: Instant| bytes.is_empty() && played.elapsed() < Duration::from_secs(1)) {
            assert!(began.elapsed() < LONG, "after reset {heard}: {bytes:?}");
            match visit.hear(Duration::from_millis(100)).expect("an owner") {
                Some((Heard::Told(told), _)) if told.to.as_deref() == Some("play") => {
                    assert_eq!(told.t, "granted");
                    played = Some(Instant::now());
                }
                Some((Heard::Entry(_, Entry::Came(Piece::Bytes { offset, bytes: some, .. })), _)) => {
                    assert_eq!(offset, heard, "a byte of a reset before it is missing");
                    bytes.extend(some);
                }
                _ => {}
            }
        }
        assert!(bytes.is_empty() || bytes == [heard as u8], "{bytes:?} after reset {heard}");
        heard += bytes.len() as u64;
    }
    over.store(true, Ordering::Relaxed);
    assert_eq!(running.join().expect("it ran"), 100, "the board spoke so often");
    let _ = fs::remove_file(&out);
}

#[test]
fn owner_and_guard_that_die_at_once_leave_a_mode_that_nobody_knows_and_the_next_begin_safely() {
    let name = format!("sai-both-{}", std::process::id());
    let out = PathBuf::from(format!("/dev/shm/{name}.out"));
    let pty = Pty::new();
    let more = format!(
        r#", "lines": {{ "boot0": {{ "chip": "levels:{name}", "line": 1, "safe": 0 }} }},
        "modes": {{ "loader": {{ "do": ["boot0 1"] }}, "run": {{ "do": ["boot0 0"] }} }}"#
    );
    let mut rig = Rig::at("both", &[&pty.path], "\"baud\": 115200", &more);
    rig.start_owner();
    rig.well(&[&rig.file(), "mode", "b", "loader"]);
    assert!(rig.status().contains("\"mode\":\"loader\"") && fs::read(&out).expect("levels") == b"1");
    // As when the machine loses its power: nobody is left to hold anything.
    for process in [owner(&rig), Pid::from_raw(rig.guard() as i32).expect("a guard")] {
        kill_process(process, Signal::KILL).expect("killed");
    }
    rig.kill_owner();
    rig.kill_guard();
    // Whoever asks for the board next starts both.
    rig.well(&[&rig.file(), "record", "b", "--for", "10ms"]);
    assert!(!rig.status().contains("\"mode\":\""), "{}", rig.status());
    assert!(rig.status().contains("\"guarded\":true") && fs::read(&out).expect("levels") == b"0", "{}", rig.status());
    rig.well(&[&rig.file(), "mode", "b", "run"]);
    assert!(rig.status().contains("\"mode\":\"run\""));
    let _ = fs::remove_file(&out);
}

/// A user that is not us, as steps are run, and as a system's owners are.
const NOBODY: u32 = 65_534;

/// What runs its words as that user.
fn nobody() -> Command {
    let mut command = Command::new("setpriv");
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".into()];
    command.args(user).stdin(Stdio::null());
    command
}

/// The program where that one may read it.
fn program(name: &str) -> PathBuf {
    let place = Path::new("/dev/shm").join(format!("sai-{name}-{}", std::process::id()));
    fs::copy(env!("CARGO_BIN_EXE_sai-buddy"), &place).expect("a copy");
    place
}

#[test]
fn root_uses_boards_of_the_user_whose_the_sockets_are_and_of_nobody_else() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not root: there is no other user to be");
    }
    let mut rig = Rig::new("system", 1, "\"baud\": 115200");
    rig.kill_guard();
    let (place, sockets) = (program("system"), rig.sockets());
    fs::remove_dir_all(&sockets).expect("removed");
    fs::create_dir(&sockets).expect("made");
    fs::set_permissions(&sockets, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("closed");
    for path in [sockets.as_path(), Path::new(&rig.ptys[0].path)] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    // As the units start them.
    let start =
        |words: &[&str]| nobody().arg(&place).args(words).arg("--run").arg(&sockets).spawn().expect("it starts");
    let file = rig.file();
    let mut guard = start(&["guard"]);
    until("a guard", || sockets.join("guard.socket").exists());
    let mut board = start(&[&file, "owner", "b"]);
    until("root is let in", || rig.run(&[&file, "status", "b"], &[]).status.success());
    let tool = rig.run(&[&file, "tool", "b"], &["--", "sh", "-c", "printf typed >'{tty}'"]);
    assert!(tool.status.success(), "{}", said(&tool));
    let mut heard = [0; 5];
    rig.ptys[0].master.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"typed");
    // Without its unit it is root who starts another one, which the same guard gives the tty.
    board.kill().expect("killed");
    board.wait().expect("ended");
    rig.well(&[&file, "record", "b", "--for", "10ms"]);
    assert!(rig.status().contains("\"guarded\":true") && rig.status().contains("\"there\":true"), "{}", rig.status());
    rig.well(&[&file, "stop", "b"]);
    // Where others may enter, whoever listens may be anybody.
    fs::set_permissions(&sockets, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opened");
    let refused = rig.run(&["guard", "--update"], &[]);
    let text = said(&refused);
    assert!(!refused.status.success() && text.contains(&format!("belongs to user {NOBODY}")), "{text}");
    guard.kill().expect("killed");
    guard.wait().expect("ended");
    fs::remove_file(place).expect("removed");
}

#[test]
fn another_user_can_neither_enter_nor_kill() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("not root: there is no other user to be");
    }
    let mut rig = Rig::new("others", 1, "\"baud\": 115200");
    rig.start_owner();
    let as_nobody = |words: &[&str]| nobody().args(words).output().expect("setpriv");
    let place = program("others");
    let (program, sockets) = (place.display().to_string(), rig.sockets().display().to_string());
    for words in [&["status", "b"][..], &["stop", "b"], &["record", "b"], &["play", "b", "reset"]] {
        let output = as_nobody(&[&[&program, rig.file().as_str()], words, &["--run", &sockets]].concat());
        assert!(!output.status.success(), "{words:?}: {}", said(&output));
    }
    let process = owner(&rig);
    for victim in [process.as_raw_nonzero().get(), rig.guard() as i32] {
        let output = as_nobody(&["kill", "-9", &victim.to_string()]);
        assert!(!output.status.success() && said(&output).contains("not permitted"), "{}", said(&output));
        // Its open files, by which a tty could be had, are nobody else's to see.
        assert!(!as_nobody(&["ls", &format!("/proc/{victim}/fd/")]).status.success());
    }
    assert!(rig.status().contains("\"guarded\":true") && owner(&rig) == process);
    fs::remove_file(place).expect("removed");
}

#[test]
fn nothing_is_done_and_nothing_is_written_while_nothing_happens() {
    let mut rigs = ["idle-a", "idle-b"].map(|name| Rig::new(name, 1, "\"baud\": 115200"));
    rigs.iter_mut().for_each(Rig::start_owner);
    for rig in &rigs {
        let tty = PathBuf::from(&rig.ptys[0].path);
        until("the guard holds the tty", || open_files(rig.guard()).contains(&tty));
    }
    let owners: Vec<i32> = rigs.iter().map(|rig| owner(rig).as_raw_nonzero().get()).collect();
    let guards = rigs.iter().map(|rig| rig.guard() as i32);
    let processes: Vec<i32> = owners.into_iter().chain(guards).collect();
    let done = || -> Vec<[u64; 3]> {
        let of = |process: &i32| {
            // Every thread of it: how often it was woken up, and what the process has written, to sockets and consoles too.
            let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("its threads").flatten();
            let woken = tasks.map(|task| {
                let task = task.file_name().into_string().expect("a number");
                number(format!("{process}/task/{task}"), "status", "voluntary_ctxt_switches:")
            });
            [woken.sum(), number(process, "io", "syscw:"), number(process, "io", "write_bytes:")]
        };
        processes.iter().map(of).collect()
    };
    // The last client may still be on its way out.
    let mut before = done();
    until("all is quiet", || {
        thread::sleep(Duration::from_millis(200));
        std::mem::replace(&mut before, done()) == before
    });
    thread::sleep(Duration::from_secs(2));
    assert_eq!(done(), before, "wakes, writes and bytes written of two owners and their guards");
}
