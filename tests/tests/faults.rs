//! A fault of a program that `cross/build` made → the line of its source, by what the program said of it and `cross/where`.
//!
//! None of the programs that people use has a fault that could be asked for, so there is one for this.

use rustix::process::Signal;
use sai_tests::cross::{emulate, faulty, prepare, root};
use sai_tests::process::Process;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// A processor whose functions have other addresses than their instructions: the lowest bit says that they are Thumb.
const TARGET: &str = "armv7";
const PROGRAM: &str = "sai-faulty";

/// Asks for the place of a fault.
fn where_is(words: &[&str]) -> Output {
    let mut command = Command::new(root().join("cross/where"));
    command.args(words);
    prepare(&mut command);
    command.output().expect("cross/where can be run")
}

fn both(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// The line of a text that has this in it, counted as editors do.
fn line_of(text: &str, what: &str) -> usize {
    text.lines().position(|line| line.contains(what)).expect("a line of the source") + 1
}

#[test]
fn a_fault_in_a_stripped_program_is_found_by_its_address() {
    emulate();
    let program = faulty(TARGET);
    let text = fs::read_to_string(root().join("cross/faulty/src/main.rs")).expect("a source file");

    let ended = Command::new(&program).arg("fault").output().expect("the program can be run");
    let said = both(&ended);
    assert_eq!(ended.status.signal(), Some(Signal::ABORT.as_raw()), "it ends as after any panic: {said}");
    let told = said.lines().find_map(|line| line.split_once(": cross/where ")).expect(&said);
    assert_eq!(told.0, "sai-faulty 0.1.0 ends by a fault of its own; its source tells where");
    let words: Vec<&str> = told.1.split(' ').collect();
    assert_eq!((words[0], &words[2..4]), ("--build", &[PROGRAM, TARGET][..]), "{said}");

    let found = where_is(&words);
    let places = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(found.status.success(), "{}", both(&found));
    eprintln!("{places}");
    let place = |what: &str| format!("sai/cross/faulty/src/main.rs:{}", line_of(&text, what));
    let line = place("word.as_bytes()[word.len() + 1]");
    let fault = places.split("\ncalled by ").next().unwrap_or_default();
    assert!(fault.starts_with("fault at ") && fault.contains(&format!("sai_faulty::faulty at {line}")), "{places}");
    let caller =
        |line: &str| line.starts_with("called by sai_faulty::main") && line.contains(&place("=> faulty(word)"));
    assert!(places.lines().any(caller), "{places}");

    // Of another program it would name lines that are not.
    let changed = words[1].replace(|_: char| true, "0");
    let other = where_is(&[&["--build", &changed], &words[2..]].concat());
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
