//! Owner and guard as processes: killed and replaced in any order, with every byte at its place and every line where it should be.

use crate::pty::{Pty, ready};
use crate::rig::{LONG, Rig, open_files, until};
use miniserde::json::{Number, Value, from_str};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use sai_buddy::frames;
use sai_buddy::frames::Asked;
use sai_buddy::guard::Said;
use sai_buddy::keeping::Thing;
use sai_buddy::link::{Link, Listener};
use sai_buddy::visit::{Begins, Visit, Whose};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

/// A recorder of all consoles, and what it says.
struct Recorder {
    child: Child,
    out: BufReader<ChildStdout>,
}

/// One line of it: console, what, offset, text.
#[derive(Debug)]
struct Line {
    console: String,
    what: String,
    offset: u64,
    text: Vec<u8>,
    lost: Option<u64>,
}

impl Recorder {
    fn new(rig: &Rig, more: &[&str]) -> Recorder {
        let file = rig.file();
        let mut words = vec![file.as_str(), "record", "b", "--json"];
        words.extend(more);
        let mut child = rig.command(&words, &[]).stdout(Stdio::piped()).spawn().expect("a recorder");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Recorder { child, out }
    }

    fn next(&mut self) -> Option<Line> {
        let mut line = String::new();
        while !line.ends_with('\n') {
            let there = !self.out.buffer().is_empty() || ready(self.out.get_ref(), LONG);
            assert!(there, "the recorder says nothing more than {line:?}");
            if self.out.read_line(&mut line).expect("a line") == 0 {
                return None;
            }
        }
        let Value::Object(line) = from_str(&line).expect("JSON") else { panic!("{line}") };
        let text = |key: &str| match line.get(key) {
            Some(Value::String(text)) => text.clone(),
            _ => String::new(),
        };
        let number = |key: &str| match line.get(key) {
            Some(Value::Number(Number::U64(number))) => Some(*number),
            _ => None,
        };
        Some(Line {
            console: text("console"),
            what: text("what"),
            offset: number("offset").expect("an offset"),
            text: text("bytes").chars().map(|letter| letter as u8).collect(),
            lost: number("lost"),
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a board says: each line has its number.
fn lines(from: u64, count: u64) -> Vec<u8> {
    (from..from + count).flat_map(|number| format!("line {number:08}\r\n").into_bytes()).collect()
}

#[test]
fn updates_of_owner_and_guard_lose_no_byte_and_move_nothing() {
    let mut rig = Rig::new("updates", 1, "\"baud\": 3000000");
    rig.start_owner();
    let process = rig.status();
    let mut recorder = Recorder::new(&rig, &["--kept"]);
    let mut board = rig.ptys[0].master.try_clone().expect("a copy");
    let expected = lines(0, 40_000);
    let saying = expected.clone();
    let told = std::thread::spawn(move || {
        for some in saying.chunks(1_500) {
            board.write_all(some).expect("written");
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    let mut heard = Vec::new();
    let mut updates = 0;
    while heard.len() < expected.len() {
        let line = recorder.next().expect("the recorder goes on");
        assert!(line.what == "bytes" && line.offset == heard.len() as u64, "{line:?} at {}", heard.len());
        heard.extend(line.text);
        // Owner and guard in turn, in the middle of it.
        if heard.len() > (updates + 1) * expected.len() / 8 && updates < 6 {
            updates += 1;
            if updates % 2 == 0 {
                rig.well(&["guard", "--update"])
            } else {
                rig.well(&[&rig.file(), "update", "b"])
            };
        }
    }
    told.join().expect("all was said");
    assert!(heard == expected);
    assert_eq!(updates, 6);
    // The same processes hold the same things.
    let number =
        |text: &str| text.split("\"process\":").nth(1).and_then(|rest| rest.split(',').next().map(String::from));
    let after = rig.status();
    assert_eq!(number(&process), number(&after));
    assert!(after.contains("\"guarded\":true"), "{after}");
    let tty = fs::canonicalize(&rig.ptys[0].path).expect("a tty");
    until("the guard holds the tty", || open_files(rig.guard()).contains(&tty));
}

#[test]
fn an_owner_that_is_killed_is_replaced_by_one_that_opens_nothing() {
    let mut rig = Rig::new("killed", 2, "\"baud\": 115200");
    rig.start_owner();
    let mut recorder = Recorder::new(&rig, &["--kept"]);
    let say = |rig: &Rig, console: usize, text: &str| {
        let mut board = rig.ptys[console].master.try_clone().expect("a copy");
        board.write_all(text.as_bytes()).expect("written");
    };
    say(&rig, 1, "before");
    let line = recorder.next().expect("a line");
    assert_eq!((line.console.as_str(), line.text.as_slice()), ("c1", &b"before"[..]));
    // Nobody can find the ttys any more, so that whoever opened one would fail.
    for index in 0..2 {
        fs::remove_file(rig.link(index)).expect("removed");
    }
    for round in 0..2 {
        rig.kill_owner();
        // What comes while there is no owner waits in the tty, which the guard holds.
        say(&rig, 0, "meanwhile");
        let mut what = Vec::new();
        let mut text = Vec::new();
        while text.len() < 9 {
            let line = recorder.next().expect("it goes on");
            assert!(line.lost.is_none(), "{line:?}");
            what.push((line.console.clone(), line.what.clone()));
            text.extend(line.text);
        }
        assert_eq!(text, b"meanwhile", "round {round}");
        let lost = |console: &str| (console.to_string(), "lost".to_string());
        assert!(what.contains(&lost("c0")) && what.contains(&lost("c1")), "{what:?}");
        // The recorder has started another one; it is ours to kill in the next round.
        let status = rig.status();
        assert!(status.contains("\"mode\":null") || !status.contains("\"mode\""), "{status}");
        assert_eq!(status.matches("\"there\":true").count(), 2, "{status}");
        let process = status.split("\"process\":").nth(1).and_then(|rest| rest.split(',').next());
        let process = process.and_then(|text| text.parse().ok()).and_then(rustix::process::Pid::from_raw);
        if round == 0 {
            rustix::process::kill_process(process.expect("a process"), rustix::process::Signal::KILL).expect("killed");
        }
    }
}

#[test]
fn an_owner_that_dies_as_it_is_found_is_replaced() {
    let rig = Rig::new("dying", 1, "\"baud\": 115200");
    // A process that is killed has sockets until it is gone, and others connect to them: this one is us.
    let dying = Listener::new(&frames::socket(&rig.sockets(), "b")).expect("a socket");
    let mut recorder =
        rig.command(&[&rig.file(), "record", "b", "c0"], &["--for", "100ms"]).spawn().expect("a recorder");
    let mut met = 0;
    until("it is met", || {
        met += usize::from(dying.accept().is_ok());
        met == 3
    });
    drop(dying);
    assert!(recorder.wait().expect("ended").success());
    assert!(rig.status().contains("\"there\":true"));
    rig.well(&[&rig.file(), "stop", "b"]);
}

#[test]
fn a_guard_that_is_killed_is_given_all_of_it_again() {
    let mut rig = Rig::new("guard", 1, "\"baud\": 115200");
    rig.start_owner();
    let tty = fs::canonicalize(&rig.ptys[0].path).expect("a tty");
    until("the guard holds the tty", || open_files(rig.guard()).contains(&tty));
    let mut recorder = Recorder::new(&rig, &["--kept"]);
    rig.kill_guard();
    until("it is noticed", || rig.status().contains("\"guarded\":false"));
    let mut board = rig.ptys[0].master.try_clone().expect("a copy");
    board.write_all(b"alone").expect("written");
    assert_eq!(recorder.next().expect("a line").text, b"alone");
    rig.start_guard();
    until("the guard holds the tty", || open_files(rig.guard()).contains(&tty));
    assert!(rig.status().contains("\"guarded\":true"));
    // What is let go is held by nobody.
    rig.well(&[&rig.file(), "stop", "b"]);
    until("the guard lets it go", || !open_files(rig.guard()).contains(&tty));
    // Nor does who listens start another owner.
    while recorder.next().is_some() {}
    assert_eq!(recorder.child.wait().expect("it ends").code(), Some(1));
    assert_eq!(rig.run(&[&rig.file(), "status", "b"], &[]).status.code(), Some(1));
}

#[test]
fn levels_are_safe_after_an_owners_death_and_are_never_let_go() {
    let mut rig = Rig::new("levels", 1, "\"baud\": 115200");
    let path = rig.top.join("levels");
    let own = |board: &str| {
        let link = Link::connect(&rig.sockets().join("guard.socket")).expect("the guard");
        Said { board: Some(board.into()), ..Said::new("owns") }.send(&link, &[]).expect("said");
        let mut given = None;
        until("the guard answers", || {
            given = link.receive().ok().flatten();
            given.is_some()
        });
        let given = given.expect("an answer");
        (link, Said::of(&given.bytes).expect("JSON"), given.files)
    };
    // Lines 0 and 2 have a safe level, 1 and 0, and line 1 has none.
    fs::write(&path, "011").expect("written");
    let file = fs::File::options().read(true).write(true).open(&path).expect("the file");
    let thing = Thing { name: "lines".into(), what: "file".into(), mask: 0b101, safe: 0b001 };
    let (link, said, _) = own("x");
    assert_eq!((said.t.as_str(), said.things), ("given", Some(Vec::new())));
    Said { things: Some(vec![thing.clone()]), ..Said::new("leaves") }.send(&link, &[file.as_fd()]).expect("said");
    until("the guard holds it", || open_files(rig.guard()).contains(&path));
    drop(file);
    // An update of the guard moves nothing.
    rig.well(&["guard", "--update"]);
    assert_eq!(fs::read_to_string(&path).expect("levels"), "011");
    drop(link);
    until("levels are safe", || fs::read_to_string(&path).expect("levels") == "110");
    assert!(open_files(rig.guard()).contains(&path));
    // The next owner has the same file, and may write to it.
    let (link, said, files) = own("x");
    assert_eq!(said.things, Some(vec![thing]));
    rustix::io::pwrite(&files[0], b"001", 0).expect("written");
    assert_eq!(fs::read_to_string(&path).expect("levels"), "001");
    // Another one is refused while it lives, and whoever says what makes no sense means its death.
    let (_other, said, _) = own("x");
    assert_eq!(said.t, "refused");
    link.send(b"\xff{not json", &[]).expect("said");
    Said { things: Some(Vec::new()), ..Said::new("leaves") }.send(&link, &[files[0].as_fd()]).expect("said");
    until("levels are safe", || fs::read_to_string(&path).expect("levels") == "100");
    rig.kill_guard();
}

#[test]
fn a_list_says_who_owns_a_board_and_who_uses_it() {
    let mut rig = Rig::new("listed", 2, "\"baud\": 9600");
    rig.start_owner();
    let ttys: Vec<_> =
        (0..2).map(|index| fs::canonicalize(rig.link(index)).expect("a tty").display().to_string()).collect();
    let now = |end: &str| {
        let owner = rig.status();
        let process = owner.split("\"process\":").nth(1).and_then(|rest| rest.split(',').next()).expect("a process");
        format!("  now        c0 is {}, c1 is {}, owned by process {process}{end}\n", ttys[0], ttys[1])
    };
    let list = || rig.well(&[&rig.file(), "list"]);
    assert!(list().ends_with(&now("")), "{}", list());
    let visit = Visit::new(&Whose {
        file: rig.file().into(),
        board: "b".into(),
        directory: rig.sockets(),
        begins: Begins::Ourselves,
    })
    .expect("an owner");
    visit.answer(&Asked { name: Some("flash".into()), ..Asked::new("claim") }).expect("granted");
    assert!(list().ends_with(&now(", in use: flash")), "{}", list());
    fs::remove_file(rig.link(1)).expect("removed");
    assert!(list().contains("c1 is not there, "), "{}", list());
    let json = rig.well(&[&rig.file(), "list", "--json"]);
    assert!(json.contains("\"writer\":\"flash\"") && json.contains(&format!("\"tty\":\"{}\"", ttys[0])), "{json}");
}

#[test]
fn nobody_else_may_enter_and_two_do_not_own_one_board() {
    let mut rig = Rig::new("entry", 1, "\"baud\": 115200");
    rig.start_owner();
    let output = rig.run(&[&rig.file(), "owner", "b"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains("another process holds")), (Some(1), true), "{said}");
    let output = rig.run(&["guard"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let mode = fs::metadata(rig.sockets()).expect("the directory");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o700);
    // A directory that others may enter is none for sockets.
    let open = rig.top.join("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("opened");
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_sai-buddy")).arg("guard").arg("--run").arg(&open).output();
    let output = output.expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mode 0700"));
}

#[test]
fn a_tty_that_goes_and_comes_back_is_held_by_owner_and_guard_again() {
    let mut rig = Rig::new("back", 1, "\"baud\": 115200");
    rig.start_owner();
    let mut recorder = Recorder::new(&rig, &["--kept"]);
    let link = rig.link(0);
    fs::remove_file(&link).expect("removed");
    let gone = rig.ptys.pop().expect("a pty");
    let name = gone.path.clone();
    drop(gone);
    assert_eq!(recorder.next().expect("a line").what, "unplugged");
    // Neither holds it, or its name could not be used again.
    until("the guard has closed it", || {
        !open_files(rig.guard()).iter().any(|file| file.to_string_lossy().contains(&name))
    });
    assert!(rig.status().contains("\"there\":false"));
    let back = crate::pty::Pty::new();
    std::os::unix::fs::symlink(&back.path, &link).expect("a link");
    let lost = recorder.next().expect("a line");
    assert_eq!((lost.what.as_str(), lost.lost), ("lost", None));
    assert_eq!(recorder.next().expect("a line").what, "back");
    let path = fs::canonicalize(&back.path).expect("a tty");
    until("the guard holds it", || open_files(rig.guard()).contains(&path));
    rig.ptys.push(back);
}

#[test]
fn a_pty_that_has_ended_is_not_taken_for_the_next_that_has_its_number() {
    let mut rig = Rig::new("number", 1, "\"baud\": 115200");
    rig.start_owner();
    let path = rig.ptys[0].path.clone();
    drop(rig.ptys.pop());
    until("it is gone", || rig.status().contains("\"there\":false"));
    // Its number is the first that is free, here or in another test, which may let go of it again.
    let mut others = Vec::new();
    until("another has its number, and that is told", || {
        if !fs::exists(&path).expect("told") {
            others.push(crate::pty::Pty::new());
        }
        rig.status().contains("its number may be another's")
    });
    assert!(rig.status().contains("\"there\":false"));
    // Whoever makes the link anew says that it is the board's again.
    let link = rig.link(0);
    fs::remove_file(&link).expect("removed");
    let back = crate::pty::Pty::new();
    std::os::unix::fs::symlink(&back.path, &link).expect("a link");
    until("it is back", || rig.status().contains("\"there\":true"));
    rig.ptys.push(back);
}

#[test]
fn a_console_is_typed_to_and_left_and_one_at_a_time_writes() {
    let rig = Rig::new("typed", 1, "\"baud\": 115200, \"pace\": \"1ms\", \"echo\": true");
    let file = rig.file();
    let start = |more: &[&str]| {
        let mut words = vec![file.as_str(), "console", "b"];
        words.extend(more);
        let mut command = rig.command(&words, &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a console")
    };
    // There is no owner: it is started, and stays.
    let mut first = start(&[]);
    until("it writes", || {
        let output = rig.run(&[&file, "status", "b", "--json"], &[]);
        String::from_utf8_lossy(&output.stdout).contains("\"writer\":\"console\"")
    });
    // The second one could not type, and is told so while the first one does.
    let mut second = start(&["--json"]);
    let mut refused = String::new();
    let mut told = BufReader::new(second.stderr.take().expect("what it says"));
    told.read_line(&mut refused).expect("a line");
    assert!(refused.contains("goes nowhere"), "{refused}");
    let mut board = rig.ptys[0].master.try_clone().expect("a copy");
    let echoing = std::thread::spawn(move || {
        let mut heard = Vec::new();
        let mut byte = [0];
        while heard.last() != Some(&b'\n') {
            board.read_exact(&mut byte).expect("a byte");
            heard.push(byte[0]);
            board.write_all(&byte).expect("echoed");
        }
        board.write_all(b"done").expect("said");
        heard
    });
    first.stdin.take().expect("its input").write_all(b"print env\n").expect("typed");
    assert_eq!(echoing.join().expect("heard"), b"print env\n");
    let ended = first.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stdout).starts_with("print env"), "{ended:?}");
    drop(second.stdin.take());
    second.wait().expect("it ends");
    // A board that does not echo gets no more than a byte.
    let mut third = start(&[]);
    third.stdin.take().expect("its input").write_all(b"reset\n").expect("typed");
    let ended = third.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("5 bytes were not sent: the board did not echo 'r'"), "{said}");
    let mut recorded = String::new();
    until("what was typed is recorded by its length", || {
        let output = rig.run(&[&file, "record", "b", "--kept", "--for", "200ms", "--json"], &[]);
        recorded = String::from_utf8(output.stdout).expect("UTF-8");
        recorded.contains("\"writer\":\"console\",\"length\":10")
    });
    assert!(!recorded.contains("print env\",\"lost\""), "{recorded}");
}

#[test]
fn a_terminal_passes_each_key_on_until_it_leaves_and_is_as_it_was_then() {
    let rig = Rig::new("raw", 1, "\"baud\": 115200");
    // As people have one: lines, an echo, and keys that end programs.
    let mut terminal = Pty::new();
    let screen = crate::pty::open(&terminal.path);
    let mut cooked = tcgetattr(&screen).expect("its settings");
    let ours = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    cooked.local_modes |= ours;
    tcsetattr(&screen, OptionalActions::Now, &cooked).expect("set");
    let mut command = rig.command(&[&rig.file(), "console", "b"], &[]);
    let copy = || screen.try_clone().expect("a copy");
    let mut child = command.stdin(copy()).stdout(copy()).stderr(Stdio::null()).spawn().expect("a console");
    until("it writes", || {
        let output = rig.run(&[&rig.file(), "status", "b", "--json"], &[]);
        String::from_utf8_lossy(&output.stdout).contains("\"writer\":\"console\"")
    });
    // Ctrl-C is the board's, and needs no end of a line; what comes is shown as it is.
    terminal.master.write_all(b"a\x03").expect("typed");
    let mut board = rig.ptys[0].master.try_clone().expect("a copy");
    let mut heard = [0; 2];
    board.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"a\x03");
    board.write_all(b"\x1b[1mbold\n").expect("said");
    let mut shown = [0; 9];
    terminal.master.read_exact(&mut shown).expect("shown");
    assert_eq!(&shown, b"\x1b[1mbold\n");
    terminal.master.write_all(b"b\x1dnot this").expect("typed");
    assert!(child.wait().expect("it ends").success());
    let after = tcgetattr(&screen).expect("its settings");
    assert_eq!(after.local_modes, cooked.local_modes);
    // What was typed before has arrived, and the recording goes on.
    board.write_all(b"later").expect("said");
    let mut last = [0; 1];
    board.read_exact(&mut last).expect("heard");
    assert_eq!(&last, b"b");
    until("it is kept", || {
        rig.well_or_loss(&[&rig.file(), "record", "b", "--kept", "--for", "50ms", "--json"]).contains("later")
    });
    assert!(!ready(&board, Duration::ZERO), "what was typed behind it came to the board");
}

#[test]
fn lines_of_a_board_are_safe_when_its_owner_dies_and_where_they_were_when_it_is_updated() {
    let name = format!("sai-lines-{}", std::process::id());
    let out = std::path::PathBuf::from(format!("/dev/shm/{name}.out"));
    let pty = crate::pty::Pty::new();
    let board = format!(
        ", \"lines\": {{ \"nrst\": {{ \"chip\": \"levels:{name}\", \"line\": 17, \"active_low\": true, \"safe\": 0 }}, \
         \"boot0\": {{ \"chip\": \"levels:{name}\", \"line\": 27, \"safe\": 0 }} }}"
    );
    let mut rig = Rig::at("lines", &[&pty.path], "\"baud\": 115200", &board);
    let levels = || fs::read_to_string(&out).expect("levels");
    rig.start_owner();
    assert_eq!(levels(), "10");
    until("the guard holds the lines", || open_files(rig.guard()).contains(&out));
    // The board is in the middle of something.
    fs::write(&out, "01").expect("moved");
    rig.well(&[&rig.file(), "update", "b"]);
    rig.well(&["guard", "--update"]);
    until("they go on", || rig.status().contains("\"guarded\":true"));
    rig.kill_guard();
    until("it is noticed", || rig.status().contains("\"guarded\":false"));
    assert_eq!(levels(), "01", "an update or the guard's death moved a line");
    rig.start_guard();
    until("the guard holds the lines", || open_files(rig.guard()).contains(&out));
    assert_eq!(levels(), "01", "a new guard moved a line");
    rig.kill_owner();
    until("levels are safe", || levels() == "10");
    assert!(open_files(rig.guard()).contains(&out), "the guard has let them go");
    // The next owner has the lines without opening anything: a file of that name would be another one.
    fs::remove_file(&out).expect("removed");
    rig.start_owner();
    assert!(!out.exists(), "the owner has requested the lines once more");
    rig.well(&[&rig.file(), "stop", "b"]);
    until("the guard lets go", || !open_files(rig.guard()).iter().any(|file| file.to_string_lossy().contains(&name)));
}
