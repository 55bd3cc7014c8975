//! Trials made by a program that holds the library, as an agent's supervisor does: nothing is started that may not be, what the board said
//! before is kept, and they are given up at any moment, with the board left as the log says.

use crate::pty::{Pty, Served};
use crate::rig::{LONG, Rig, until};
use crate::rom::Rom;
use rustix::process::{Pid, test_kill_process};
use sai_buddy::delivering::Image;
use sai_buddy::frames::Asked;
use sai_buddy::ports::Places;
use sai_buddy::serial::monotonic_ns;
use sai_buddy::stop::Stop;
use sai_buddy::trying::{Ended, Wanted, run};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::axis::Entry;
use sai_core::bench;
use sai_core::job::Fault;
use sai_core::ordered::Map;
use sai_core::record::{Decoder, Item, Record};
use sai_core::trial;
use sai_core::trying::Written;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

fn whose(top: &Path) -> Whose {
    let (file, directory) = (top.join("boards.json").into(), top.join("run"));
    Whose { file, board: "b".into(), directory, begins: Begins::Never }
}

fn wanted(top: &Path, image: Option<&Path>, cancel: Stop) -> Wanted {
    let bench = bench::read("boards.json", &fs::read(top.join("boards.json")).expect("a bench")).expect("a bench");
    let board = bench.boards[0].clone();
    let flash = if image.is_some() { r#""flash": "fw.bin","# } else { "" };
    let text = format!(r#"{{ "type": "t", {flash} "pass": "^DONE", "silent": "10m", "timeout": "10m" }}"#);
    let trial = trial::all_of(&text).expect("a trial").alone().expect("one board");
    let target = board.flash.as_ref().map(|how| how.targets[0].clone());
    let images = image.zip(target).map(|(path, target)| Image::read(path, &target).expect("an image"));
    let (places, values, began_ns) = (Places::default(), Map::new(), monotonic_ns());
    let images = images.into_iter().collect();
    Wanted { whose: whose(top), board, places, trial, images, values, first_step: 1, began_ns, cancel, gate: None }
}

/// Tries the board, and has it given up once this holds of what is written: how it ended, and what is in the log for people.
fn given_up(
    rig: &Rig,
    image: Option<&Path>,
    when: impl Fn(&Written) -> bool,
    mut give_up: impl FnMut(UnixStream),
) -> (Ended, Vec<String>) {
    let (says, cancel) = Stop::pair().expect("files");
    let (mut says, mut told, mut at): (Option<UnixStream>, _, _) = (Some(says), Vec::new(), Instant::now());
    let ended = run(wanted(&rig.top, image, cancel), &mut |_, written| {
        if says.is_some() && when(written) {
            at = Instant::now();
            says.take().map(&mut give_up);
        }
        match written {
            Written::Record(Record::StepStart(start)) => told.push(format!("begins {}", start.step)),
            Written::Record(Record::StepEnd(end)) => told.push(format!("ends {} {}", end.step, end.status)),
            // What the chip is, is told too.
            Written::Record(Record::Note(text)) if !text.contains(": chip ") => told.push(text.clone()),
            _ => {}
        }
        Ok(())
    });
    assert!(at.elapsed() < LONG / 2, "it went on for {:?}", at.elapsed());
    (ended, told)
}

const BROKEN: &str = "flashing was broken off: nobody knows what is on the board, nor in which mode it is";

#[test]
fn who_may_start_nothing_is_told_that_a_board_has_no_owner() {
    let rig = Rig::new("never", 1, "\"baud\": 115200");
    let Ended::Found(found) = run(wanted(&rig.top, None, Stop::never()), &mut |_, _| Ok(())) else {
        panic!("a verdict")
    };
    assert_eq!((found.word, found.fault, found.step), ("infra", Fault::Infrastructure, 2));
    assert_eq!(found.cause, "board b has no owner");
    assert!(!rig.sockets().join("b.board").exists());
}

#[test]
fn a_board_that_somebody_writes_to_is_busy_and_stays_untouched() {
    let mut rig = Rig::new("busy", 1, "\"baud\": 115200");
    rig.start_owner();
    let other = Visit::new(&whose(&rig.top)).expect("an owner");
    other.answer(&Asked { name: Some("console".into()), ..Asked::new("claim") }).expect("granted");
    let mut written = 0;
    let ended = run(wanted(&rig.top, None, Stop::never()), &mut |_, _| {
        written += 1;
        Ok(())
    });
    assert!(matches!(&ended, Ended::Busy(why) if why.contains("writes to the board (console)")), "{ended:?}");
    assert_eq!(written, 0);
}

#[test]
fn a_trial_is_given_up_in_the_middle_of_a_write_a_way_and_a_test() {
    let pty = Pty::new();
    let served = Served::new(Rom::new(0x413), pty.master.try_clone().expect("a copy"));
    let more = r#", "modes": { "run": { "do": ["wait 1s"] }, "loader": { "do": ["wait 1ms"] } }, "sequences": { "reset": ["wait 1ms"] },
        "flash": { "with": "stm32", "mode": "loader", "then": "run", "targets": { "app": "0x08000000" } }"#;
    let mut rig = Rig::at("given-up", &[&pty.path], "\"baud\": 115200", more);
    rig.start_owner();
    let image = rig.top.join("fw.bin");
    fs::write(&image, vec![0xa5; 200_000]).expect("written");
    let writes = |written: &Written| matches!(written, Written::Entry(Entry::Progress(progress)) if progress.phase == "write" && progress.done > 0);
    let (ended, told) = given_up(&rig, Some(&image), writes, drop);
    assert_eq!((&ended, told), (&Ended::GivenUp, ["begins 1", BROKEN, "ends 1 1"].map(String::from).to_vec()));
    until("the tool is closed", || rig.status().contains("\"writer\":null"));
    assert!(!rig.status().contains("\"mode\":\""), "{}", rig.status());
    let rom = served.end();
    assert!(rom.flash[..200_000].iter().any(|byte| *byte != 0xa5), "it was written to its end");
    // On the way that its reset is: lines come to where they are on their way to.
    fs::write(&image, [0xa5; 256]).expect("written");
    let served = Served::new(Rom::new(0x413), pty.master.try_clone().expect("a copy"));
    let judged = |written: &Written| matches!(written, Written::Entry(Entry::Mark(mark)) if mark.judged == Some(true));
    let (ended, told) = thread::scope(|scope| {
        let rig = &rig;
        let once_it_moves = |says: UnixStream| {
            scope.spawn(move || {
                until("it moves", || !rig.status().contains("\"mode\":\"loader\""));
                drop(says);
            });
        };
        given_up(rig, Some(&image), judged, once_it_moves)
    });
    let whole = ["begins 1", "ends 1 0", "begins 2", "ends 2 1"].map(String::from).to_vec();
    assert_eq!((&ended, &told), (&Ended::GivenUp, &whole));
    assert!(rig.status().contains("\"mode\":\"run\""), "{}", rig.status());
    drop(served.end());
    // While nothing comes.
    let (ended, told) = given_up(&rig, None, |written| matches!(written, Written::Entry(Entry::Tick(_))), drop);
    assert_eq!((&ended, &told[..]), (&Ended::GivenUp, &["begins 2".to_string(), "ends 2 1".to_string()][..]));
}

#[test]
fn what_a_board_said_before_is_in_the_log_of_the_next_trial_and_is_not_judged() {
    let pty = Pty::new();
    let mut rig = Rig::at("before", &[&pty.path], "\"baud\": 115200", r#", "sequences": { "reset": ["wait 1ms"] }"#);
    rig.start_owner();
    let mut console = pty.master.try_clone().expect("a copy");
    console.write_all(b"DONE\r\n").expect("written");
    until("it is kept", || rig.status().contains("\"offset\":6"));
    let (mut names, mut said): (Vec<_>, Vec<(u8, Vec<u8>)>) = (Vec::new(), Vec::new());
    let ended = run(wanted(&rig.top, None, Stop::never()), &mut |_, written| {
        match written {
            Written::Record(Record::Channel(number, start)) => names.push((*number, start.name.clone())),
            Written::Record(Record::Data(number, bytes)) => said.push((*number, bytes.clone())),
            Written::Entry(Entry::Mark(mark)) if mark.judged == Some(true) => console.write_all(b"new\r\nDONE\r\n")?,
            _ => {}
        }
        Ok(())
    });
    assert!(matches!(&ended, Ended::Found(found) if found.word == "passed"), "{ended:?}");
    assert_eq!(names, [(0, "serial:c0".to_string()), (2, "serial:c0:before".to_string())]);
    let of = |number: u8| said.iter().filter(|(of, _)| *of == number).flat_map(|(_, bytes)| bytes.clone()).collect();
    let all: [Vec<u8>; 2] = [of(2), of(0)];
    assert_eq!(all, [b"DONE\r\n".to_vec(), b"new\r\nDONE\r\n".to_vec()]);
}

#[test]
fn an_owner_of_another_bench_is_told_of_and_nothing_is_done() {
    let mut rig = Rig::new("other-bench", 1, "\"baud\": 115200");
    rig.start_owner();
    let text = fs::read_to_string(rig.file()).expect("a bench");
    fs::write(rig.file(), text.replace("\"c0\"", "\"main\"")).expect("written");
    let mut written = 0;
    let ended = run(wanted(&rig.top, None, Stop::never()), &mut |_, _| {
        written += 1;
        Ok(())
    });
    let Ended::Found(found) = ended else { panic!("{ended:?}") };
    assert_eq!((found.word, found.fault, written), ("infra", Fault::Infrastructure, 0));
    assert_eq!(found.cause, "the board's owner has the consoles c0, and the bench main: it is to be stopped");
    // It is not written to any more.
    fs::write(rig.file(), text).expect("written");
    until("the board is free", || rig.status().contains("\"writer\":null"));
}

#[test]
fn what_a_tool_prints_is_kept_so_far_and_counted_beyond() {
    let pty = Pty::new();
    let more = r#", "sequences": { "reset": ["wait 1ms"] }, "flash": { "with": "argv", "verifies": true,
        "argv": ["sh", "-c", "head -c 3000000 /dev/zero; echo the end >&2; exit 9", "sh", "{image}"] }"#;
    let rig = Rig::at("prints", &[&pty.path], "\"baud\": 115200", more);
    let saifile = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": {
        "artifacts": "*.bin", "board": { "type": "t", "flash": "fw.bin", "pass": "^DONE" } } } }"#;
    let path = |name: &str| rig.top.join(name).display().to_string();
    fs::write(path(".sai.json"), saifile).expect("written");
    fs::write(path("fw.bin"), "image").expect("written");
    let output = rig.run(&[&rig.file(), "test", "b", &path(".sai.json"), "fw"], &["--record", &path("log")]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.code() == Some(3) && said.contains("verdict: flash-failed: the tool ended with "), "{said}");
    let (mut kept, mut lost) = (0, Vec::new());
    let log = fs::read(path("log")).expect("a log");
    let taken = Decoder::new().push(&log, |item| match (Entry::of(&item), item) {
        (Some(Entry::Loss(1, loss)), _) => lost.push((loss.offset, loss.lost)),
        (_, Item::Data { channel: 1, bytes, .. }) => kept += bytes.len(),
        _ => {}
    });
    taken.expect("a log");
    assert_eq!((kept, lost), (1 << 20, vec![(1 << 20, Some(3_000_000 + 8 - (1 << 20)))]));
}

/// Says to this same program that it is the one that tries.
const INNER: &str = "SAI_TEST_GIVES_UP_A_TOOL";

#[test]
fn a_tool_that_is_given_up_is_killed_with_all_that_it_has_started() {
    if let Some(top) = std::env::var_os(INNER) {
        // Whoever runs a tool takes what descends from it for the tool's: another test of this process would lose its own.
        let image = Path::new(&top).join("fw.bin");
        let started = image.with_extension("bin.started");
        let (says, cancel) = Stop::pair().expect("files");
        thread::spawn(move || {
            until("the tool has started", || started.exists());
            drop(says);
        });
        let ended = run(wanted(Path::new(&top), Some(&image), cancel), &mut |_, _| Ok(()));
        assert_eq!(ended, Ended::GivenUp);
        return;
    }
    let script = "sleep 1000 & echo $! $$ > \"$1.new\"; mv \"$1.new\" \"$1\"; sleep 1000";
    let pty = Pty::new();
    let more = format!(
        r#", "sequences": {{ "reset": ["wait 1ms"] }}, "flash": {{ "with": "argv", "argv": ["sh", "-c", {script:?}, "sh", "{{image}}.started"], "verifies": true }}"#
    );
    let mut rig = Rig::at("given-up-tool", &[&pty.path], "\"baud\": 115200", &more);
    rig.start_owner();
    let image = rig.top.join("fw.bin");
    fs::write(&image, "image").expect("written");
    let mut inner = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "held::a_tool_that_is_given_up_is_killed_with_all_that_it_has_started"])
        .env(INNER, &rig.top)
        .stdin(Stdio::null())
        .spawn()
        .expect("it runs");
    until("it ends", || inner.try_wait().expect("waited for").is_some());
    assert!(inner.wait().expect("ended").success());
    let started = fs::read_to_string(rig.top.join("fw.bin.started")).expect("processes");
    let processes: Vec<Pid> = started.split_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect();
    assert_eq!(processes.len(), 2, "{started}");
    for process in processes {
        until("it is gone", || test_kill_process(process).is_err());
    }
    until("the tool is closed", || rig.status().contains("\"writer\":null"));
}
