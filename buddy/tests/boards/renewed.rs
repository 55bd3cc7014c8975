//! A file that is changed under an owner that runs: it is gone by where that is asked for, with every byte and every level at its
//! place, and not at all where somebody writes or the file is none.

use crate::pty::Pty;
use crate::rig::{LONG, Rig, until};
use rustix::termios::tcgetattr;
use sai_buddy::frames::{Asked, Status};
use sai_buddy::listening::{Event, Listening};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::bench;
use sai_core::console::{Entry, Piece};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::SystemTime;

struct Changed {
    rig: Rig,
    pty: Pty,
    out: PathBuf,
}

impl Changed {
    fn new(name: &str) -> Changed {
        let name = format!("sai-{name}-{}", std::process::id());
        let pty = Pty::new();
        let board = format!(
            r#", "lines": {{ "nrst": {{ "chip": "levels:{name}", "line": 17, "active_low": true, "safe": 0 }},
                "boot0": {{ "chip": "levels:{name}", "line": 27, "safe": 0 }} }},
            "sequences": {{ "press": ["nrst 1", "wait 1ms", "nrst 0"] }}, "modes": {{ "run": {{ "do": ["boot0 1"] }} }}"#
        );
        let mut rig = Rig::at(&name, &[&pty.path], "\"baud\": 115200", &board);
        rig.start_owner();
        rig.well(&[&rig.file(), "mode", "b", "run"]);
        Changed { rig, pty, out: format!("/dev/shm/{name}.out").into() }
    }

    fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.rig.file()).expect("a bench");
        assert!(text.contains(from), "{text}");
        fs::write(self.rig.file(), text.replace(from, to)).expect("written");
    }

    fn whose(&self) -> Whose {
        let (file, directory) = (self.rig.file().into(), self.rig.sockets());
        Whose { file, board: "b".into(), directory, begins: Begins::Never }
    }

    fn status(&self) -> Status {
        Visit::new(&self.whose()).and_then(|visit| visit.status()).expect("an owner")
    }

    /// The levels, and when a line was moved last.
    fn levels(&self) -> (String, SystemTime) {
        let moved = fs::metadata(&self.out).and_then(|found| found.modified()).expect("a time");
        (fs::read_to_string(&self.out).expect("levels"), moved)
    }

    fn baud(&self) -> u32 {
        tcgetattr(&self.pty.master).expect("settings").output_speed()
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.out);
    }
}

#[test]
fn a_file_is_read_again_by_the_same_process_and_nothing_moves() {
    let changed = Changed::new("renewed");
    let (file, before, levels) = (changed.rig.file(), changed.status(), changed.levels());
    assert_eq!((levels.0.as_str(), changed.baud(), before.mode.as_deref()), ("11", 115_200, Some("run")));
    let said = |text: &[u8]| (&changed.pty.master).write_all(text).expect("written");
    said(b"before");
    until("it is kept", || changed.status().consoles[0].offset == 6);
    changed.change("\"baud\": 115200", "\"baud\": 9600");
    changed.change(r#""nrst 1", "wait 1ms", "nrst 0""#, r#""boot0 0""#);
    changed.rig.well(&[&file, "update", "b"]);
    until("it goes by it", || changed.status().bench != before.bench);
    let after = changed.status();
    assert_eq!((after.process, after.mode.as_deref(), changed.levels()), (before.process, Some("run"), levels));
    assert_eq!((changed.baud(), after.consoles[0].offset), (9600, 6));
    said(b" and after");
    until("it is kept", || changed.status().consoles[0].offset == 16);
    let mut listening = Listening::new(changed.whose(), None, true).expect("an owner");
    let mut kept = Vec::new();
    while kept.len() < 16 {
        match listening.next(LONG).expect("an owner").expect("something") {
            Event::Entry(0, Entry::Came(Piece::Bytes { bytes, .. })) => kept.extend(bytes),
            Event::Told(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(String::from_utf8_lossy(&kept), "before and after");
    changed.rig.well(&[&file, "play", "b", "press"]);
    assert_eq!(changed.levels().0, "10");

    // Another way to a mode makes another one of it, and whoever moves something has the file read again.
    changed.rig.well(&[&file, "mode", "b", "run"]);
    changed.change(r#""do": ["boot0 1"]"#, r#""do": ["nrst 1", "boot0 1"]"#);
    changed.rig.well(&[&file, "update", "b"]);
    until("its mode is not known", || changed.status().mode.is_none());
    changed.change(r#""press": ["boot0 0"]"#, r#""press": ["nrst 1", "boot0 1"]"#);
    changed.rig.well(&[&file, "play", "b", "press"]);
    assert_eq!((changed.levels().0.as_str(), changed.status().process), ("01", before.process));
}

#[test]
fn who_writes_keeps_the_description_that_was_there_and_a_broken_file_is_not_gone_by() {
    let changed = Changed::new("keeps");
    let (file, before) = (changed.rig.file(), changed.status());
    let text = fs::read_to_string(&file).expect("a bench");
    let writer = Visit::new(&changed.whose()).expect("an owner");
    writer.answer(&Asked { name: Some("judge".into()), ..Asked::new("claim") }).expect("granted");
    changed.change(r#""nrst 1", "wait 1ms", "nrst 0""#, r#""boot0 0""#);
    let output = changed.rig.run(&[&file, "play", "b", "press"], &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("writes to the board (judge)"), "{said}");
    // What it goes by is what it says, whatever is in the file by now.
    let described = writer.described().expect("an owner").expect("a text");
    assert_eq!(String::from_utf8_lossy(&described), text);
    let bench = bench::read("F", &described).expect("a bench");
    assert_eq!((Some(bench.boards[0].digest), changed.status().bench), (before.bench, before.bench));
    drop(writer);
    until("nobody writes", || changed.status().writer.is_none());

    for (from, to, why) in
        [("\"modes\"", "\"mods\"", ": boards.b.mods: expected one of"), ("\"b\":", "\"c\":", "no board \"b\"")]
    {
        fs::write(&file, &text).expect("written");
        changed.change(from, to);
        let visit = Visit::new(&changed.whose()).expect("an owner");
        let refused = visit.answer(&Asked::new("update")).expect_err("a broken file").to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!((changed.status().process, changed.status().bench), (before.process, before.bench));
    }
    // Blanks and comments say nothing.
    fs::write(&file, format!("# Another one.\n{}", text.replace(", ", " , "))).expect("written");
    let same = bench::read("F", &fs::read(&file).expect("a bench")).expect("a bench");
    assert_eq!(Some(same.boards[0].digest), before.bench);
    Visit::new(&changed.whose()).and_then(|visit| visit.renew(&changed.whose(), "test")).expect("an owner");
    assert_eq!((changed.status().process, changed.status().bench), (before.process, before.bench));
}
