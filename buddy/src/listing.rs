//! Bench → the table of its boards for people, and the same as JSON for programs.

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
}

#[derive(Serialize)]
struct ConsoleListed {
    name: String,
    at: String,
    baud: u32,
}

#[derive(Serialize)]
struct LineListed {
    name: String,
    at: String,
    input: bool,
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
        Flasher::Uboot(_) => "ymodem-uboot".to_string(),
        Flasher::Stm32 => "stm32".to_string(),
        Flasher::Optiboot => "optiboot".to_string(),
        Flasher::Tool { argv, .. } => argv.first().cloned().unwrap_or_default(),
    }
}

fn supply(supply: &Supply) -> String {
    match supply {
        Supply::UsbPort(port) => format!("USB port {port}"),
        Supply::Line(line) => format!("line {line}"),
        Supply::Commands { on, .. } => on.first().cloned().unwrap_or_default(),
        Supply::Http { on, .. } => on.url.clone(),
    }
}

fn listed(board: &Board) -> BoardListed {
    let consoles = board.consoles.iter();
    let lines = board.lines.iter();
    let targets = board.flash.iter().flat_map(|flash| &flash.targets);
    BoardListed {
        name: board.name.clone(),
        r#type: board.kind.clone(),
        tags: board.tags.clone(),
        consoles: consoles
            .map(|console| ConsoleListed {
                name: console.name.clone(),
                at: tty(&console.tty),
                baud: console.settings.baud,
            })
            .collect(),
        lines: lines
            .map(|line| LineListed {
                name: line.name.clone(),
                at: wire(&line.wire),
                input: matches!(line.use_as, Use::Input { .. }),
            })
            .collect(),
        sequences: board.sequences.keys().cloned().collect(),
        modes: board.modes.keys().cloned().collect(),
        flash: board.flash.as_ref().map(|flash| flasher(&flash.with)),
        targets: targets.map(|target| target.name.clone()).collect(),
        power: board.power.as_ref().map(|power| supply(&power.by)),
        health: board.health.is_some(),
    }
}

/// All of it as JSON, in one line.
pub fn json(bench: &Bench) -> String {
    let rigs = bench.rigs.iter().map(|rig| RigListed {
        name: rig.name.clone(),
        r#type: rig.kind.clone(),
        tags: rig.tags.clone(),
        boards: rig.boards.clone(),
    });
    let all = BenchListed { boards: bench.boards.iter().map(listed).collect(), rigs: rigs.collect() };
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

/// All of it for people: a paragraph for each board, of what it has.
pub fn table(bench: &Bench) -> String {
    let mut text = String::new();
    for board in bench.boards.iter().map(listed) {
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
            let way = if line.input { "read" } else { "driven" };
            row("line", vec![format!("{} at {}, {way}", line.name, line.at)]);
        }
        row("sequences", board.sequences);
        row("modes", board.modes);
        row("flash", board.flash.map(|with| format!("by {with}: {}", board.targets.join(", "))).into_iter().collect());
        row("power", board.power.into_iter().collect());
    }
    for rig in &bench.rigs {
        text.push_str(&format!("{}: {} of {}\n", rig.name, rig.kind, rig.boards.join(", ")));
    }
    // What a file says of itself may hold anything but control characters where names are checked; the rest is escaped.
    sai_core::escape::lines(&text)
}
