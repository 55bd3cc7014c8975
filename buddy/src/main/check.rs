//! A bench, and a person at a terminal → whether it is described well, and whether it is wired so.

use crate::colours::{Colours, Meaning};
use crate::commands::{Given, trouble};
use crate::help::USAGE;
use crate::{Failure, print, read, usage};
use sai_buddy::frames::Asked;
use sai_buddy::listing;
use sai_buddy::ports::Places;
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_buddy::walking::{self, Person, Walked};
use sai_core::bench::{self, Tty};
use sai_core::escape;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead as _, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Longest answer, in bytes.
const ANSWER_BYTES: u64 = 4096;

/// A line for programs: what is not said is null.
#[derive(Default, miniserde::Serialize)]
struct Line<'a> {
    /// What somebody should know.
    tell: Option<&'a str>,
    /// What somebody is to do, or to say: a line on standard input is the answer.
    ask: Option<&'a str>,
    /// At the end: how many boards and rigs a file has, of which no board was named.
    boards: Option<usize>,
    rigs: Option<usize>,
    /// At the end: the board, how much was found as the file says, and consoles whose port is another one now in it.
    board: Option<&'a str>,
    well: Option<usize>,
    moved: Option<Vec<Moved>>,
    /// At the end: what is wrong, in sentences.
    wrong: Option<Vec<String>>,
}

/// A console that hangs at another port than the file said.
#[derive(miniserde::Serialize)]
struct Moved {
    console: String,
    port: String,
}

impl Line<'_> {
    fn print(&self) -> Result<u8, Failure> {
        print(&(miniserde::json::to_string(self) + "\n"))
    }
}

/// Whoever sits at the terminal, or a program in that place.
struct Reader {
    json: bool,
}

impl Person for Reader {
    fn tell(&mut self, text: &str) {
        // That nobody reads it is found when an answer is wanted.
        let _ = match self.json {
            true => Line { tell: Some(text), ..Line::default() }.print(),
            false => print(&(escape::line(text) + "\n")),
        };
    }

    fn ask(&mut self, text: &str) -> io::Result<String> {
        let mut out = io::stdout().lock();
        let text = match self.json {
            true => miniserde::json::to_string(&Line { ask: Some(text), ..Line::default() }) + "\n",
            false => Colours::of(&out).show(Meaning::Title, &escape::line(text)) + " ",
        };
        out.write_all(text.as_bytes()).and_then(|()| out.flush())?;
        let mut answer = String::new();
        match io::Read::take(io::stdin().lock(), ANSWER_BYTES).read_line(&mut answer)? {
            0 => Err(io::Error::new(ErrorKind::UnexpectedEof, "nobody answers any more")),
            _ => Ok(answer.trim().to_string()),
        }
    }
}

impl Given {
    /// Checks a file, or walks a person through the wiring of one of its boards, which is begun where there is no file.
    pub fn check(self, file: &OsString, board: Option<&OsString>) -> Result<u8, Failure> {
        let options: &[&str] = if board.is_some() { &["--run", "--json"] } else { &["--json"] };
        self.has_only("check", options)?;
        let json = self.json;
        let checked = match board {
            Some(board) => self.walk(file, board),
            None => read(file).and_then(|bench| match json {
                true => {
                    Line { boards: Some(bench.boards.len()), rigs: Some(bench.rigs.len()), ..Line::default() }.print()
                }
                false => print(&format!("{}: {}\n", escape::line(&file.to_string_lossy()), listing::count(&bench))),
            }),
        };
        match checked {
            Err((status, text)) if json && status != USAGE => {
                let wrong = Some(text.lines().map(|line| line.trim_start().to_string()).collect());
                Line { wrong, ..Line::default() }.print().map(|_| status)
            }
            other => other,
        }
    }

    fn walk(self, file: &OsString, board: &OsString) -> Result<u8, Failure> {
        let shown = escape::line(&file.to_string_lossy());
        let name = board.to_string_lossy().into_owned();
        let (person, places) = (&mut Reader { json: self.json }, Places::default());
        if fs::metadata(file).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            begin(person, file, &name, &places)?;
        }
        let mut bench = read(file)?;
        let find = |bench: &bench::Bench| {
            let names: Vec<&str> = bench.boards.iter().map(|board| board.name.as_str()).collect();
            bench
                .board(&name)
                .cloned()
                .ok_or_else(|| (1, format!("no board {name:?}: expected one of {}", names.join(", "))))
        };
        let mut walked = Walked::default();
        walking::cables(person, &find(&bench)?, &places, &mut walked).map_err(trouble)?;
        // Whoever is started by it may be anywhere.
        let path = std::path::absolute(file).map_err(trouble)?;
        let whose = Whose {
            file: path.clone().into(),
            board: name.clone(),
            directory: self.directory(),
            begins: Begins::Ourselves,
        };
        if !walked.moved.is_empty() {
            let answer = person.ask(&format!("write that to {shown}? [Y/n]")).map_err(trouble)?;
            if !walking::yes(&answer) {
                return Err((1, format!("board {name} is not wired as {shown} says")));
            }
            write(&path, &name, &walked)?;
            person.tell(&format!("written to {shown}"));
            walked.well += walked.moved.len();
            bench = read(file)?;
            // An owner goes by the file that it was started with.
            if let Ok(owner) = Visit::new(&whose) {
                owner.answer(&Asked::new("stop")).map_err(trouble)?;
            }
        }
        walking::wires(person, &whose, &bench, &find(&bench)?, &places, &mut walked).map_err(trouble)?;
        if self.json {
            let moved = walked.moved.into_iter().map(|(console, port)| Moved { console, port }).collect();
            let status = u8::from(!walked.wrong.is_empty());
            let (board, well, moved, wrong) = (Some(&*name), Some(walked.well), Some(moved), Some(walked.wrong));
            return Line { board, well, moved, wrong, ..Line::default() }.print().map(|_| status);
        }
        if walked.wrong.is_empty() {
            let text = format!("board {name} is wired as {shown} says: {} things were looked at", walked.well);
            return print(&(Colours::of(&io::stdout()).show(Meaning::Good, &text) + "\n"));
        }
        Err((1, format!("board {name} is not wired as {shown} says:\n  {}", walked.wrong.join("\n  "))))
    }
}

/// Writes what a walk has found into a file, which must be a bench with it.
fn write(path: &Path, board: &str, walked: &Walked) -> Result<(), Failure> {
    let named = |text: String| (1, format!("{}: {text}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| named(error.to_string()))?;
    let text = walking::patched(&text, board, &walked.moved).map_err(named)?;
    bench::read(&path.to_string_lossy(), text.as_bytes()).map_err(|errors| (1, errors.join("\n  ")))?;
    walking::replace(path, &text).map_err(|error| named(error.to_string()))
}

/// Begins a file with one board, whose console is found by its cable.
fn begin(person: &mut dyn Person, file: &OsString, board: &str, places: &Places) -> Result<(), Failure> {
    let shown = escape::line(&file.to_string_lossy());
    person.tell(&format!("there is no {shown}: it is begun with board {board}"));
    let kind = person.ask("of what type is it, as jobs want it? (arduino-uno, nucleo-f411, ...)").map_err(trouble)?;
    let place = match walking::find_port(person, places, "main").map_err(trouble)? {
        Some(port) => Tty::Usb(port, 0),
        None => Tty::Path(person.ask("what is the path of its tty? (/dev/ttyAMA0, ...)").map_err(trouble)?),
    };
    let text = walking::begun(board, &kind, &place);
    bench::read(&file.to_string_lossy(), text.as_bytes()).map_err(|errors| usage(errors.join("\n  ")))?;
    walking::replace(&PathBuf::from(file), &text).map_err(|error| (1, format!("{shown}: {error}")))?;
    person.tell(&format!("written to {shown}"));
    Ok(())
}
