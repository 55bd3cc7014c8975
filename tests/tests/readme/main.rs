//! README.md, from top to bottom, as a stranger would follow it: every command in it is run, every file in it is used,
//! and every error it explains is provoked.
//!
//! What the README calls `/etc`, `/srv`, `/var/lib` and `/usr/local/bin` is in a directory of the test's own, and nobody
//! becomes root. Two commands are changed: programs are built by the profile that tests are built with, and the trial of
//! this repository builds one of its two configurations, so that this takes seconds instead of minutes. What is done on a
//! board is done here, by the board's program under emulation.

mod configs;
mod errors;
mod help;
mod programs;
mod stranger;

use sai_tests::repository::{git, run};
use std::path::{Path, PathBuf};
use stranger::Stranger;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("README.md")
}

/// An indented block of the README.
enum Block {
    /// Commands, one a line.
    Commands(Vec<String>),
    /// A file: a saifile or a master's configuration.
    File(String),
    /// The picture.
    Picture,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    let mut before = "";
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("    ") {
            match blocks.last_mut() {
                Some(block) if before.starts_with("    ") => block.push(line),
                _ => blocks.push(vec![line]),
            }
        }
        before = line;
    }
    let sort = |block: Vec<&str>| match block.first() {
        Some(first) if first.starts_with('{') => Block::File(block.join("\n")),
        _ if block.concat().contains('─') => Block::Picture,
        _ => Block::Commands(block.iter().map(ToString::to_string).collect()),
    };
    blocks.into_iter().map(sort).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn commit_all(directory: &Path) {
    run(git(directory).args(["init", "--quiet", "--initial-branch=main"]));
    run(git(directory).args(["add", "--all"]));
    run(git(directory).args(["commit", "--quiet", "-m", "Everything"]));
}

/// Where the README tells of boards, which need no master.
const BOARDS: &str = "## Your first board\n";

/// Where it tells what people do at laptops, with a master that has built something.
const LAPTOP: &str = "## From a laptop\n";

/// Where it tells what they do there with boards, at an agent that has one.
const BOARDS_AT_LAPTOP: &str = "## Boards from a laptop\n";

/// Where it tells of cards for a Raspberry Pi, which are written and started by the tests of those (`pi.rs`).
const CARDS: [&str; 2] = ["## A Pi in ten minutes\n", "## Building the image\n"];

/// A text without one of its sections, and that.
fn without(text: &str, section: &str) -> (String, String) {
    let (before, inside) = text.split_once(section).expect("the section");
    let (inside, after) = inside.split_once("\n## ").expect("a section behind it");
    (format!("{before}\n## {after}"), inside.to_string())
}

#[test]
fn every_command_of_the_readme_works() {
    let sections = [BOARDS, LAPTOP, BOARDS_AT_LAPTOP].iter().chain(&CARDS);
    let text = sections.fold(readme(), |text, section| without(&text, section).0);
    let commands = follow(&mut Stranger::new(), &text);
    assert!(commands >= 20, "only {commands} commands were found");
}

#[test]
fn the_first_board_of_the_readme_passes() {
    let commands = follow(&mut Stranger::new(), &without(&readme(), BOARDS).1);
    assert!(commands >= 8, "only {commands} commands were found");
}

#[test]
fn what_the_readme_does_from_a_laptop_works() {
    let mut stranger = Stranger::new();
    stranger.has_built();
    let commands = follow(&mut stranger, &without(&readme(), LAPTOP).1);
    assert!(commands >= 8, "only {commands} commands were found");
}

#[test]
fn what_the_readme_does_with_boards_from_a_laptop_works() {
    let mut stranger = Stranger::new();
    stranger.has_built();
    stranger.has_a_board();
    let commands = follow(&mut stranger, &without(&readme(), BOARDS_AT_LAPTOP).1);
    assert!(commands >= 5, "only {commands} commands were found");
}

/// Does what a text says, from top to bottom; gives how many commands there were.
fn follow(stranger: &mut Stranger, text: &str) -> usize {
    let mut commands = 0;
    for block in blocks(text) {
        match block {
            Block::Picture => {}
            Block::File(text) => stranger.file(&text),
            Block::Commands(lines) => {
                for line in lines {
                    stranger.command(&line);
                    commands += 1;
                }
            }
        }
    }
    commands
}
