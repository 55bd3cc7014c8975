//! A fault of a program that `cross/build` made → the line of its source, by what the program said of it and `cross/where`.
//!
//! No program of ours has a fault that could be asked for. So a copy of the source has one: in the first process of the image, which is
//! the smallest of them.

use rustix::process::Signal;
use sai_tests::cross::{emulate, prepare, root};
use sai_tests::process::Process;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A processor whose functions have other addresses than their instructions: the lowest bit says that they are Thumb.
const TARGET: &str = "armv7";
const PROGRAM: &str = "sai-init";

/// What the copy has more: by a word it waits, by another one it looks for a byte where none is.
const BEGINNING: &str = "fn main() -> ExitCode {\n";
const ASKED: &str = r#"    if let Some(word) = std::env::args().nth(1) {
        if word == "wait" {
            eprintln!("waiting");
            std::thread::park();
        }
        return faulty(&word);
    }
"#;
const FAULTY: &str = r#"
#[inline(never)]
fn faulty(word: &str) -> ExitCode {
    ExitCode::from(word.as_bytes()[7])
}
"#;

/// The copy, and where it builds: at the same place each time, so that what has not changed is not built again.
fn copy() -> (PathBuf, PathBuf) {
    let place = root().join("target/faults");
    let source = place.join("source");
    if source.exists() {
        fs::remove_dir_all(&source).expect("the copy of an earlier run");
    }
    fs::create_dir_all(&source).expect("a directory");
    let mut from = Command::new("tar")
        .args(["--exclude=./target", "--exclude=./.git", "-cf", "-", "-C"])
        .arg(root())
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar can be run");
    let all = from.stdout.take().expect("a pipe");
    let to = Command::new("tar").args(["-xf", "-", "-C"]).arg(&source).stdin(all).status().expect("tar can be run");
    assert!(from.wait().is_ok_and(|status| status.success()) && to.success(), "the source is copied");
    (source, place.join("output"))
}

/// Runs a script of the copy's `cross`, and gives what it says.
fn script(name: &str, words: &[&str]) -> Output {
    let (source, output) = (root().join("target/faults/source"), root().join("target/faults/output"));
    let mut command = Command::new(source.join("cross").join(name));
    command.args(words).env("SAI_CROSS_OUTPUT", output).env("SAI_CROSS_TOOLS", root().join("target/cross/tools"));
    prepare(&mut command);
    command.output().expect("a script of cross can be run")
}

fn both(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// The line of a text that has this in it, counted as editors do.
fn line_of(text: &str, what: &str) -> usize {
    text.lines().position(|line| line.contains(what)).expect("a line of the copy") + 1
}

#[test]
fn a_fault_in_a_stripped_program_is_found_by_its_address() {
    emulate();
    let (source, output) = copy();
    let main = source.join("image/src/main.rs");
    let text = fs::read_to_string(&main).expect("a source file");
    assert!(text.contains(BEGINNING), "{text}");
    let text = text.replace(BEGINNING, &format!("{BEGINNING}{ASKED}")) + FAULTY;
    fs::write(&main, &text).expect("a source file");
    let built = script("build", &["-p", PROGRAM, TARGET]);
    assert!(built.status.success(), "{}", both(&built));
    let program = output.join(TARGET).join(PROGRAM);

    let ended = Command::new(&program).arg("fault").output().expect("the program can be run");
    let said = both(&ended);
    assert_eq!(ended.status.signal(), Some(Signal::ABORT.as_raw()), "it ends as after any panic: {said}");
    let told = said.lines().find_map(|line| line.split_once(": cross/where ")).expect(&said);
    assert_eq!(told.0, "sai-init 0.1.0 ends by a fault of its own; its source tells where");
    let words: Vec<&str> = told.1.split(' ').collect();
    assert_eq!((words[0], &words[2..4]), ("--build", &[PROGRAM, TARGET][..]), "{said}");

    let found = script("where", &words);
    let places = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.status.success(), "{}", both(&found));
    eprintln!("{places}");
    let place = |what: &str| format!("sai/image/src/main.rs:{}", line_of(&text, what));
    let line = place("word.as_bytes()[7]");
    let fault = places.split("\ncalled by ").next().unwrap_or_default();
    assert!(fault.starts_with("fault at ") && fault.contains(&format!("sai_init::faulty at {line}")), "{places}");
    let caller =
        |line: &str| line.starts_with("called by sai_init::main") && line.contains(&place("return faulty(&word)"));
    assert!(places.lines().any(caller), "{places}");

    // Of another program it would name lines that are not.
    let changed = words[1].replace(|_: char| true, "0");
    let other = script("where", &[&["--build", &changed], &words[2..]].concat());
    let why = format!("cross/where: this is build {}, not {changed}", words[1]);
    assert!(!other.status.success() && both(&other).contains(&why), "{}", both(&other));
    signals_of_others_are_no_faults(&program);
}

/// Whoever sends such a signal has it end the program as ever, and nothing is told of a fault.
fn signals_of_others_are_no_faults(program: &Path) {
    let mut waiting = Process::start("a program that waits", Command::new(program).arg("wait"));
    waiting.await_line("waiting");
    waiting.signal(Signal::TRAP);
    assert_eq!(waiting.wait().signal(), Some(Signal::TRAP.as_raw()));
    assert!(!waiting.said().iter().any(|line| line.contains("cross/where")), "{:?}", waiting.said());
}
