//! Options and words → a guard, an owner, or what somebody wants of one.

use crate::{Failure, print, read, titled, usage};
use sai_buddy::frames::{Asked, Status};
use sai_buddy::guard::{self, Said};
use sai_buddy::link::{self, Link};
use sai_buddy::ports::Places;
use sai_buddy::telling::tell;
use sai_buddy::visit::{Begins, Passed, Visit, Whose};
use sai_buddy::{console, describing, going_on, owner, record, tool};
use sai_core::bench::milliseconds;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::{Duration, Instant};

/// The commands that are about one board.
pub const NAMES: [&str; 10] =
    ["console", "record", "tool", "status", "update", "stop", "owner", "play", "mode", "power"];
/// Those that move lines or power.
const MOVES: [&str; 3] = ["play", "mode", "power"];
/// Time that a tool has unless it is said.
const TOOL: Duration = Duration::from_secs(300);
/// Time in which a guard says what becomes of its update.
const UPDATES: Duration = Duration::from_secs(30);
/// Bytes were lost.
const LOSS: u8 = 3;
/// The time of a tool was over, as `timeout` says it.
const OVER: u8 = 124;

/// What was given beside words.
pub struct Given {
    pub json: bool,
    pub unverified: bool,
    kept: bool,
    update: bool,
    goes_on: bool,
    time: Option<Duration>,
    limit: Option<Duration>,
    directory: Option<PathBuf>,
    /// Where a log goes, and which is judged again.
    pub record: Option<OsString>,
    pub again: Option<OsString>,
    command: Vec<OsString>,
}

/// What went wrong at a board.
pub fn trouble(error: io::Error) -> Failure {
    (1, error.to_string())
}

impl Given {
    /// Takes options out of the arguments.
    pub fn new(arguments: &mut pico_args::Arguments, command: Vec<OsString>) -> Result<Given, Failure> {
        let mut time = |name: &'static str| -> Result<Option<Duration>, Failure> {
            let text: Option<String> =
                arguments.opt_value_from_str(name).map_err(|error| usage(format!("{name}: {error}")))?;
            let parsed = text.map(|text| milliseconds(&text).map_err(|error| usage(format!("{name}: {error}"))));
            Ok(parsed.transpose()?.map(Duration::from_millis))
        };
        let (time, limit) = (time("--for")?, time("--limit")?);
        let mut word = |name: &'static str| -> Result<Option<OsString>, Failure> {
            let word = arguments.opt_value_from_os_str(name, |word| Ok::<_, String>(word.to_os_string()));
            word.map_err(|error| usage(format!("{name}: {error}")))
        };
        let (directory, record, again) = (word("--run")?, word("--record")?, word("--again")?);
        Ok(Given {
            json: arguments.contains("--json"),
            unverified: arguments.contains("--unverified"),
            kept: arguments.contains("--kept"),
            update: arguments.contains("--update"),
            goes_on: arguments.contains(going_on::FLAG),
            time,
            limit,
            directory: directory.map(PathBuf::from),
            record,
            again,
            command,
        })
    }

    /// Refuses what a command does not take.
    pub fn has_only(&self, name: &str, options: &[&str]) -> Result<(), Failure> {
        let given = [
            ("--json", self.json),
            ("--kept", self.kept),
            ("--unverified", self.unverified),
            ("--update", self.update),
            (going_on::FLAG, self.goes_on),
            ("--for", self.time.is_some()),
            ("--limit", self.limit.is_some()),
            ("--run", self.directory.is_some()),
            ("--record", self.record.is_some()),
            ("--again", self.again.is_some()),
            ("-- COMMAND", !self.command.is_empty()),
        ];
        match given.iter().find(|(option, given)| *given && !options.contains(option)) {
            Some((option, _)) => Err(usage(format!("`{name}` has no {option}"))),
            None => Ok(()),
        }
    }

    /// The directory of sockets.
    pub fn directory(&self) -> PathBuf {
        self.directory.clone().unwrap_or_else(link::directory)
    }

    /// Guards all boards, or lets the guard that runs go on as another program.
    pub fn guard(self) -> Result<u8, Failure> {
        self.has_only("guard", &["--update", "--run", going_on::FLAG])?;
        let directory = self.directory();
        if !self.update {
            return guard::run(&directory, self.goes_on).map(|()| 0).map_err(trouble);
        }
        let path = guard::socket(&directory);
        let link = Link::connect(&path).map_err(|error| (1, format!("no guard at {}: {error}", path.display())))?;
        Said::new("update").send(&link, &[]).map_err(trouble)?;
        let began = Instant::now();
        while began.elapsed() < UPDATES {
            match link.receive() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
                Ok(Some(message)) => {
                    let said = Said::of(&message.bytes).unwrap_or_else(|| Said::new(""));
                    return match said.t.as_str() {
                        "updating" => Ok(0),
                        _ => Err((1, said.why.unwrap_or_default())),
                    };
                }
                Ok(None) | Err(_) => break,
            }
        }
        Err((1, "the guard does not say that it goes on".into()))
    }

    /// Does what is about one board.
    pub fn at_board(
        self,
        name: &str,
        file: &OsString,
        board: &OsString,
        console: Option<&OsString>,
    ) -> Result<u8, Failure> {
        let options: &[&str] = match name {
            "console" => &["--run", "--json"],
            "record" => &["--run", "--json", "--kept", "--for"],
            "tool" => &["--run", "--limit", "-- COMMAND"],
            "status" | "play" | "mode" | "power" => &["--run", "--json"],
            "owner" => &["--run", going_on::FLAG],
            _ => &["--run"],
        };
        self.has_only(name, options)?;
        if MOVES.contains(&name) && console.is_none() {
            let what = if name == "power" { "on, off or cycle" } else { "a name" };
            return Err(usage(format!("`{name}` expects BOARD and {what}")));
        }
        if console.is_some() && !MOVES.contains(&name) && !["console", "record", "tool"].contains(&name) {
            return Err(usage(format!("`{name}` is about all of a board")));
        }
        let bench = read(file)?;
        let board = board.to_string_lossy();
        let Some(found) = bench.board(&board).cloned() else {
            let names: Vec<&str> = bench.boards.iter().map(|board| board.name.as_str()).collect();
            return Err((1, format!("no board {board:?}: expected one of {}", names.join(", "))));
        };
        let console = console.map(|console| console.to_string_lossy().into_owned());
        if let Some(what) = &console
            && MOVES.contains(&name)
        {
            // What is no name is told before an owner is started for it.
            let asked = Asked { name: Some(what.clone()), ..Asked::new(name) };
            owner::can_move(&found, &asked).map_err(|text| (1, text))?;
        } else if let Some(name) = &console
            && found.console(name).is_none()
        {
            return Err((1, found.lacks_console(name)));
        }
        // Whoever is started by it may be anywhere.
        let file = std::path::absolute(file).map_err(trouble)?.into_os_string();
        let directory = self.directory();
        let whose = Whose {
            file: file.clone(),
            board: found.name.clone(),
            directory: directory.clone(),
            begins: Begins::Ourselves,
        };
        let there = || Visit::new(&whose).map_err(|error| (1, format!("board {board} has no owner: {error}")));
        match name {
            "owner" => {
                let (board, text) = describing::board(&file, &board).map_err(|errors| (1, errors.join("\n  ")))?;
                let setup = owner::Setup { file, board, text, directory, places: Places::default() };
                owner::run(setup, self.goes_on).map(|()| 0).map_err(trouble)
            }
            "console" => {
                let wanted = console::Wanted { whose, console, json: self.json };
                console::run(wanted).map(|()| 0).map_err(trouble)
            }
            "record" => {
                if console.is_none() && found.consoles.len() > 1 && !self.json {
                    return Err(usage("`record` expects CONSOLE or --json where a board has several"));
                }
                let wanted = record::Wanted { whose, console, kept: self.kept, time: self.time, json: self.json };
                let ended = record::run(wanted).map_err(trouble)?;
                Ok(if ended == record::Ended::WithLoss { LOSS } else { 0 })
            }
            "tool" => {
                if self.command.is_empty() {
                    return Err(usage("`tool` expects -- COMMAND"));
                }
                let visit = Visit::begin_by(&whose, &found, name).map_err(trouble)?;
                let limit = self.limit.unwrap_or(TOOL);
                let ended = tool::run(&visit, console.as_deref(), &self.command, limit).map_err(trouble)?;
                match ended.status {
                    Some(status) => Ok(code(status)),
                    None => Err((OVER, format!("it was killed after {} ms", limit.as_millis()))),
                }
            }
            "play" | "mode" | "power" => {
                let visit = Visit::begin_by(&whose, &found, name).map_err(trouble)?;
                visit.answer(&Asked { name: Some(name.into()), ..Asked::new("claim") }).map_err(trouble)?;
                let asked = Asked { name: console, ..Asked::new(name) };
                let mut printed = Ok(0);
                // What cannot be told keeps nothing from being done.
                let moved = visit.moves(&asked, &mut |passed| match passed {
                    Passed::Mode(mode) if printed.is_ok() => printed = print(&reached(mode, self.json)),
                    Passed::Mode(_) => {}
                    Passed::Note(note) => tell(note),
                });
                moved.map_err(|error| (1, format!("board {board}: {error}")))?;
                printed
            }
            "status" => {
                let (told, _) = there()?.answer(&Asked::new("status")).map_err(trouble)?;
                let status = told.status.ok_or_else(|| (1, "the owner says nothing".to_string()))?;
                print(&if self.json { miniserde::json::to_string(&status) + "\n" } else { titled(&table(&status)) })
            }
            other => {
                there()?.answer(&Asked::new(other)).map_err(trouble)?;
                if other == "stop" {
                    found.unsafe_unheld().for_each(|(line, level)| tell(&let_go(line, level)));
                }
                Ok(0)
            }
        }
    }
}

/// What becomes of a line that its owner has let go at its safe level.
fn let_go(line: &str, level: Option<bool>) -> String {
    match level {
        Some(level) => {
            format!("nobody holds line {line} any more: it is at {} then, which is not its safe level", u8::from(level))
        }
        None => format!("nobody holds line {line} any more: \"unheld\" does not say which level it has then"),
    }
}

/// The exit status of a tool as our own: that of a shell where a signal ended it.
fn code(status: ExitStatus) -> u8 {
    let signal = status.signal().map(|signal| 128 + signal);
    u8::try_from(status.code().or(signal).unwrap_or(1)).unwrap_or(1)
}

/// A mode that was reached, for people or programs.
fn reached(mode: &str, json: bool) -> String {
    #[derive(miniserde::Serialize)]
    struct Reached<'a> {
        reached: &'a str,
    }
    if json { miniserde::json::to_string(&Reached { reached: mode }) + "\n" } else { format!("reached {mode}\n") }
}

fn table(status: &Status) -> String {
    let mode = status.mode.as_deref().unwrap_or("unknown");
    let writer = status.writer.as_deref().unwrap_or("nobody");
    let guarded = if status.guarded { "guarded" } else { "not guarded" };
    let mut text =
        format!("{}: process {}, {guarded}, mode {mode}, written to by {writer}\n", status.board, status.process);
    for console in &status.consoles {
        let there = match (&console.trouble, console.there) {
            (Some(trouble), false) => format!(", gone: {trouble}"),
            (None, false) => ", gone".to_string(),
            (_, true) => String::new(),
        };
        text.push_str(&format!("  console    {}: {} bytes{there}\n", console.name, console.offset));
    }
    sai_core::escape::lines(&text)
}
