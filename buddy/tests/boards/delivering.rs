//! Boards flashed by `sai-buddy flash` through their owners: an emulated ATmega328P with the stock optiboot, whose resets are its
//! bench's modes.

use crate::avr::{Board, program};
use crate::pty::{Pty, Served};
use crate::rig::{Rig, open_files, until};
use crate::rom::Rom;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

/// The emulated board on a bench. Its power supply is a file that asks for a reset.
struct Bench {
    // Its owner ends before its tty does, whose number another one may have then.
    rig: Rig,
    board: Board,
    reset: PathBuf,
    /// What its boot pin has.
    boot0: PathBuf,
}

impl Bench {
    fn new(name: &str, flash: &str) -> Bench {
        let board = Board::new(name);
        let reset = board.directory.join("reset");
        let levels = format!("sai-{name}-{}", std::process::id());
        let boot0 = PathBuf::from(format!("/dev/shm/{levels}.out"));
        let more = format!(
            r#", "lines": {{ "boot0": {{ "chip": "levels:{levels}", "line": 1, "safe": 0 }} }},
            "modes": {{ "loader": {{ "do": ["boot0 1", "power on"] }}, "run": {{ "do": ["power off", "boot0 0"] }} }},
            "power": {{ "off": ["true"], "on": ["sh", "-c", "touch {reset}; while test -e {reset}; do sleep 0.01; done"] }},
            "flash": {{ {flash}, "mode": "loader", "then": "run" }}"#,
            reset = reset.display()
        );
        let rig = Rig::at(&format!("flash-{name}"), &[&board.tty], "\"baud\": 115200", &more);
        Bench { board, rig, reset, boot0 }
    }

    /// Flashes an image, and resets the board as it is asked to: the exit status, and what is said.
    fn flash(&mut self, words: &[&str]) -> (Option<i32>, String) {
        let file = self.rig.file();
        let mut all = vec![file.as_str(), "flash", "b"];
        all.extend(words);
        let mut command = self.rig.command(&all, &[]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        until("it ends", || {
            self.reset();
            child.try_wait().expect("waited for").is_some()
        });
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    }

    fn reset(&mut self) {
        if self.reset.exists() {
            self.board.order("reset");
            fs::remove_file(&self.reset).expect("removed");
        }
    }

    /// Begins to flash, and comes back when it is written: who flashes, and where that is told.
    fn begin(&mut self, image: &str) -> (Child, PathBuf) {
        let (file, log) = (self.rig.file(), self.board.directory.join("said"));
        let mut command = self.rig.command(&[&file, "flash", "b", image, "--json"], &[]);
        let said = fs::File::create(&log).expect("a file");
        let child = command.stdout(said.try_clone().expect("a copy")).stderr(said).spawn().expect("it runs");
        until("it is written", || {
            self.reset();
            fs::read_to_string(&log).unwrap_or_default().contains("\"write\"")
        });
        (child, log)
    }

    fn image(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.board.directory.join(name);
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.boot0);
    }
}

#[test]
fn an_avr_is_flashed_through_its_owner_and_nothing_is_erased_where_it_must_not_be() {
    let mut bench = Bench::new(
        "owner",
        r#""with": "optiboot", "chip_id": "0x1e950f", "targets": { "app": "0x0", "data": "0x6000" }"#,
    );
    let ours = program(3001, 1);
    let image = bench.image("ours.bin", &ours);
    let (status, said) = bench.flash(&[&image]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(": write\n") && said.ends_with("flashed and verified\n"), "{said}");
    assert!(bench.board.flash()[..3001] == ours);
    assert!(bench.rig.status().contains("\"mode\":\"run\""), "{}", bench.rig.status());
    let json = bench.flash(&["--json", &format!("app={image}")]);
    assert!(json.0 == Some(0) && json.1.ends_with("\"verified\":true}\n"), "{json:?}");
    // What cannot be one is told before anything is asked of the board.
    for (words, expected) in [
        (bench.image("none.bin", &[]), "image: "),
        (bench.image("large.bin", &[0; 300_000]), "image: "),
        ("boot=x.bin".into(), "no target \"boot\": expected one of app, data"),
        ("missing.bin".into(), "missing.bin"),
    ] {
        let (status, said) = bench.flash(&[&words]);
        assert!(status == Some(1) && said.contains(expected), "{words}: {said}");
    }
    // Of two, the first is not begun where the second cannot fit.
    let (other, large) = (bench.image("other.bin", &program(3001, 2)), bench.image("large.bin", &[0; 250_000]));
    let (status, said) = bench.flash(&[&format!("app={other}"), &format!("data={large}")]);
    assert!(status == Some(1) && said.contains("image: "), "{said}");
    assert!(bench.rig.status().contains("\"mode\":\"run\""));
    assert!(bench.board.flash()[..3001] == ours);
}

#[test]
fn another_chip_in_the_slot_keeps_what_it_has_and_its_mode_is_not_known() {
    let mut bench = Bench::new("other-chip", r#""with": "optiboot", "chip_id": "0x1e9705""#);
    let before = bench.board.flash();
    let image = bench.image("ours.bin", &program(3001, 1));
    let (status, said) = bench.flash(&[&image]);
    assert!(status == Some(1) && said.contains("wiring: ") && said.contains("0x1e950f, not 0x1e9705"), "{said}");
    assert!(bench.board.flash() == before);
    until("the tool is closed", || bench.rig.status().contains("\"writer\":null"));
    assert!(!bench.rig.status().contains("\"mode\":\""), "{}", bench.rig.status());
}

#[test]
fn a_client_that_is_killed_in_the_middle_leaves_a_mode_that_nobody_knows() {
    let mut bench = Bench::new("killed", r#""with": "optiboot""#);
    let image = bench.image("ours.bin", &program(20_000, 1));
    let (mut child, _) = bench.begin(&image);
    child.kill().expect("killed");
    child.wait().expect("ended");
    until("the tool is closed", || bench.rig.status().contains("\"writer\":null"));
    assert!(!bench.rig.status().contains("\"mode\":\""), "{}", bench.rig.status());
    let (status, said) = bench.flash(&[&image]);
    assert_eq!(status, Some(0), "{said}");
    assert!(bench.rig.status().contains("\"mode\":\"run\""));
}

#[test]
fn owner_and_guard_killed_in_the_middle_leave_safe_levels_and_a_board_that_is_flashed_again() {
    let mut bench = Bench::new("deaths", r#""with": "optiboot""#);
    let image = bench.image("ours.bin", &program(6_000, 1));
    let boot0 = bench.boot0.clone();
    let level = || fs::read_to_string(&boot0).expect("levels");
    let process = |rig: &Rig| -> Pid {
        let status = rig.status();
        let number = status.split("\"process\":").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
        number.and_then(Pid::from_raw).expect("an owner")
    };
    // Somebody listens all the time.
    let heard = bench.board.directory.join("heard");
    let out = fs::File::create(&heard).expect("a file");
    let mut recorder = bench.rig.command(&[&bench.rig.file(), "record", "b", "--json"], &[]);
    let mut recorder = recorder.stdout(out).spawn().expect("a recorder");
    for round in 0..2 {
        // The owner: what it did not end, nobody takes for done.
        let (mut child, log) = bench.begin(&image);
        assert_eq!(level(), "1");
        kill_process(process(&bench.rig), Signal::KILL).expect("killed");
        let mut status = None;
        until("it is told", || {
            status = child.try_wait().expect("waited for");
            status.is_some()
        });
        let said = fs::read_to_string(&log).expect("what it says");
        assert!(status.and_then(|status| status.code()) == Some(1) && said.contains("wiring: "), "{said}");
        until("levels are safe", || level() == "0");
        assert!(open_files(bench.rig.guard()).contains(&boot0), "the guard has let it go");
        until("there is another owner", || bench.rig.run(&[&bench.rig.file(), "status", "b"], &[]).status.success());
        assert!(!bench.rig.status().contains("\"mode\":\""), "{}", bench.rig.status());
        let (status, said) = bench.flash(&[&image]);
        assert_eq!(status, Some(0), "{said}");
        // The guard: the owner holds all of it, and goes on.
        let (mut child, log) = bench.begin(&image);
        bench.rig.kill_guard();
        until("it ends", || {
            bench.reset();
            child.try_wait().expect("waited for").is_some()
        });
        let said = fs::read_to_string(&log).expect("what it says");
        assert!(said.ends_with("\"verified\":true}\n"), "{said}");
        bench.rig.start_guard();
        until("the guard holds it", || open_files(bench.rig.guard()).contains(&boot0));
        assert!(bench.rig.status().contains("\"mode\":\"run\"") && level() == "0", "{}", bench.rig.status());
        // Who listens has heard of the death, and hears what followed.
        let heard = fs::read_to_string(&heard).expect("what is heard");
        assert!(heard.matches("\"died\"").count() > round, "{heard}");
        assert!(recorder.try_wait().expect("waited for").is_none());
    }
    recorder.kill().expect("killed");
    recorder.wait().expect("ended");
    let (status, said) = bench.flash(&[&image]);
    assert_eq!(status, Some(0), "{said}");
}

#[test]
fn a_tool_that_verifies_nothing_must_be_allowed_to() {
    let flash = r#""with": "argv", "argv": ["sh", "-c", "test -c $0 && cat \"$1\" > \"$1.there\"", "{tty}", "{image}"], "verifies": false"#;
    let mut bench = Bench::new("unverified", flash);
    let image = bench.image("an image; $(false).bin", b"image");
    let (status, said) = bench.flash(&[&image]);
    assert!(status == Some(1) && said.contains("--unverified allows that"), "{said}");
    let (status, said) = bench.flash(&["--unverified", &image]);
    assert!(status == Some(0) && said.ends_with("flashed, unverified\n"), "{said}");
    assert_eq!(fs::read(format!("{image}.there")).expect("what the tool wrote"), b"image");
}

#[test]
fn an_stm32_is_flashed_by_the_lines_of_its_board_and_another_chip_keeps_what_it_has() {
    let name = format!("sai-flash-stm32-{}", std::process::id());
    let out = PathBuf::from(format!("/dev/shm/{name}.out"));
    let bytes = crate::line::image(5_000);
    for (chip, status) in [("0x0413", 0), ("0x0431", 1)] {
        let pty = Pty::new();
        let served = Served::new(Rom::new(0x413), pty.master.try_clone().expect("a copy"));
        let more = format!(
            r#", "lines": {{ "boot0": {{ "chip": "levels:{name}", "line": 27, "safe": 0 }} }},
            "modes": {{ "loader": {{ "do": ["boot0 1"], "settle": "20ms" }}, "run": {{ "do": ["boot0 0"] }} }},
            "flash": {{ "with": "stm32", "mode": "loader", "then": "run", "chip_id": "{chip}",
                "targets": {{ "app": "0x08000000" }} }}"#
        );
        let rig = Rig::at(&format!("stm32-{chip}"), &[&pty.path], "\"baud\": 115200", &more);
        let image = rig.top.join("image.bin");
        fs::write(&image, &bytes).expect("written");
        let output = rig.run(&[&rig.file(), "flash", "b", &image.display().to_string()], &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        let rom = served.end();
        let levels = fs::read_to_string(&out).expect("levels");
        if status == 0 {
            assert!(rom.flash[..5_000] == bytes && rom.overwritten == 0);
            assert!(levels == "0" && rig.status().contains("\"mode\":\"run\""), "{levels} {}", rig.status());
        } else {
            assert!(said.contains("wiring: "), "{said}");
            assert_eq!(rom.erased, 0);
        }
    }
    let _ = fs::remove_file(&out);
}
