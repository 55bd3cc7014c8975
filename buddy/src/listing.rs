//! Bench → the table of its boards for people, and the same as JSON for programs, with how each is now.

use crate::frames::{Asked, Status};
use crate::ports::{Places, find};
use crate::visit::{Visit, Whose};
use miniserde::Serialize;
use sai_core::bench::{Bench, Board, Flasher, Pin, Supply, Tty, Use, Wire};

#[derive(Serialize)]
struct BenchListed {
    boards: Vec<BoardListed>,
    rigs: Vec<RigListed>,
}

#[derive(Serialize)]
struct RigListed {
    name: String,
    r#type: String,
    tags: Vec<String>,
    boards: Vec<String>,
}

#[derive(Serialize)]
struct BoardListed {
    name: String,
    r#type: String,
    tags: Vec<String>,
    consoles: Vec<ConsoleListed>,
    lines: Vec<LineListed>,
    sequences: Vec<String>,
    modes: Vec<String>,
    flash: Option<String>,
    targets: Vec<String>,
    power: Option<String>,
    health: bool,
    /// The process that owns it; absent where none does.
    owner: Option<u32>,
    /// The mode that it is in, where that is known.
    mode: Option<String>,
    /// What the one writes as who writes to it.
    writer: Option<String>,
}

#[derive(Serialize)]
struct ConsoleListed {
    name: String,
    at: String,
    baud: u32,
    /// The path of its tty, where it is there.
    tty: Option<String>,
    /// What is there instead.
    trouble: Option<String>,
}

#[derive(Serialize)]
struct LineListed {
    name: String,
    at: String,
    input: bool,
    /// The level in which nothing happens to the board; absent where it is read.
    safe: Option<u8>,
    /// The level where nobody holds it, where that is said.
    unheld: Option<u8>,
}

fn tty(tty: &Tty) -> String {
    match tty {
        Tty::Usb(port, 0) => format!("USB port {port}"),
        Tty::Usb(port, interface) => format!("USB port {port}, interface {interface}"),
        Tty::ById(name) => format!("/dev/serial/by-id/{name}"),
        Tty::Path(path) => path.clone(),
    }
}

fn wire(wire: &Wire) -> String {
    match wire {
        Wire::Gpio(chip, Pin::Offset(line)) => format!("{chip} {line}"),
        Wire::Gpio(chip, Pin::Name(name)) => format!("{chip} {name}"),
        Wire::Signal(console, signal) => format!("{} of {console}", format!("{signal:?}").to_uppercase()),
        Wire::UsbPort(port) => format!("power of USB port {port}"),
    }
}

fn flasher(flasher: &Flasher) -> String {
    match flasher {
        Flasher::Tool { argv, .. } => argv.first().cloned().unwrap_or_default(),
        // A board is found at a port, and what is plugged in there is what is flashed.
        _ => match flasher.at_usb() {
            Some(at) => format!("{} at USB port {}", flasher.word(), at.port),
            None => flasher.word().to_string(),
        },
    }
}

fn supply(supply: &Supply) -> String {
    match supply {
        Supply::UsbPort(port) => format!("USB port {port}"),
        Supply::Line(line) => format!("line {line}"),
        Supply::Commands { on, .. } => on.first().cloned().unwrap_or_default(),
        Supply::Http { on, .. } => on.shown(),
    }
}

/// What the owner of a board says, where there is one.
fn status(board: &Board, whose: &Whose) -> Option<Status> {
    let whose = Whose { board: board.name.clone(), ..whose.clone() };
    // One that does not answer is as good as none, and listing has an end.
    let (told, _) = Visit::new(&whose).ok()?.answer(&Asked::new("status")).ok()?;
    told.status
}

fn listed(board: &Board, whose: &Whose, places: &Places) -> BoardListed {
    let status = status(board, whose);
    let consoles = board.consoles.iter();
    let lines = board.lines.iter();
    let targets = board.flash.iter().flat_map(|flash| &flash.targets);
    BoardListed {
        name: board.name.clone(),
        r#type: board.kind.clone(),
        tags: board.tags.clone(),
        consoles: consoles
            .map(|console| {
                let found = find(console, places);
                let trouble = found.as_ref().err().cloned();
                let there = found.ok().flatten().map(|path| path.display().to_string());
                let (name, at) = (console.name.clone(), tty(&console.tty));
                ConsoleListed { name, at, baud: console.settings.baud, tty: there, trouble }
            })
            .collect(),
        lines: lines
            .map(|line| LineListed {
                name: line.name.clone(),
                at: wire(&line.wire),
                input: matches!(line.use_as, Use::Input { .. }),
                safe: match line.use_as {
                    Use::Output { safe, .. } => Some(safe.into()),
                    Use::Input { .. } => None,
                },
                unheld: line.unheld.map(u8::from),
            })
            .collect(),
        sequences: board.sequences.keys().cloned().collect(),
        modes: board.modes.keys().cloned().collect(),
        flash: board.flash.as_ref().map(|flash| flasher(&flash.with)),
        targets: targets.map(|target| target.name.clone()).collect(),
        power: board.power.as_ref().map(|power| supply(&power.by)),
        health: board.health.is_some(),
        owner: status.as_ref().map(|status| status.process),
        mode: status.as_ref().and_then(|status| status.mode.clone()),
        writer: status.and_then(|status| status.writer),
    }
}

/// All of it as JSON, in one line.
pub fn json(bench: &Bench, whose: &Whose, places: &Places) -> String {
    let rigs = bench.rigs.iter().map(|rig| RigListed {
        name: rig.name.clone(),
        r#type: rig.kind.clone(),
        tags: rig.tags.clone(),
        boards: rig.boards.clone(),
    });
    let boards = bench.boards.iter().map(|board| listed(board, whose, places));
    let all = BenchListed { boards: boards.collect(), rigs: rigs.collect() };
    miniserde::json::to_string(&all) + "\n"
}

/// How much there is, in one line for people.
pub fn count(bench: &Bench) -> String {
    let many = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (boards, rigs) = (bench.boards.len(), bench.rigs.len());
    match rigs {
        0 => many(boards, "board"),
        _ => format!("{}, {}", many(boards, "board"), many(rigs, "rig")),
    }
}

/// How a board is now.
fn now(board: &BoardListed) -> String {
    let mut parts: Vec<String> = Vec::new();
    for console in &board.consoles {
        parts.push(match (&console.tty, &console.trouble) {
            (Some(tty), _) => format!("{} is {tty}", console.name),
            (None, Some(trouble)) => format!("{}: {trouble}", console.name),
            (None, None) => format!("{} is not there", console.name),
        });
    }
    match board.owner {
        Some(process) => parts.push(format!("owned by process {process}")),
        None => parts.push("owned by nobody".into()),
    }
    parts.extend(board.mode.as_ref().map(|mode| format!("mode {mode}")));
    parts.extend(board.writer.as_ref().map(|writer| format!("in use: {writer}")));
    parts.join(", ")
}

/// All of it for people: a paragraph for each board, of what it has.
pub fn table(bench: &Bench, whose: &Whose, places: &Places) -> String {
    let mut text = String::new();
    for board in bench.boards.iter().map(|board| listed(board, whose, places)) {
        let now = now(&board);
        let tags = if board.tags.is_empty() { String::new() } else { format!(" ({})", board.tags.join(", ")) };
        text.push_str(&format!("{}: {}{tags}\n", board.name, board.r#type));
        let mut row = |what: &str, items: Vec<String>| {
            if !items.is_empty() {
                text.push_str(&format!("  {what:<10} {}\n", items.join(", ")));
            }
        };
        for console in &board.consoles {
            row("console", vec![format!("{} at {}, {} baud", console.name, console.at, console.baud)]);
        }
        for line in &board.lines {
            let way = line.safe.map_or("read".to_string(), |safe| format!("driven, safe at {safe}"));
            let mut words = vec![format!("{} at {}, {way}", line.name, line.at)];
            words.extend(line.unheld.map(|level| format!("{level} where nobody holds it")));
            row("line", words);
        }
        row("sequences", board.sequences);
        row("modes", board.modes);
        row("flash", board.flash.map(|with| format!("by {with}: {}", board.targets.join(", "))).into_iter().collect());
        row("power", board.power.into_iter().collect());
        row("now", vec![now]);
    }
    for rig in &bench.rigs {
        text.push_str(&format!("{}: {} of {}\n", rig.name, rig.kind, rig.boards.join(", ")));
    }
    // What a file says of itself may hold anything but control characters where names are checked; the rest is escaped.
    sai_core::escape::lines(&text)
}
