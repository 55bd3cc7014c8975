//! Text of `boards.json` → Bench.

use super::steps::{self, Placed};
use super::{
    BOARDS_MAX, Bench, Bias, Board, CONSOLES_MAX, Console, Drive, Flow, LINES_MAX, Line, Mode, Parity, Pin, Rig,
    SEQUENCES_MAX, Settings, Signal, Step, TAGS_MAX, Tty, Use, Wire, wiring,
};
use crate::json::{Position, Spanned, Value, shown};
use crate::limits::Millis;
use crate::ordered::Map;
use crate::platform;
use crate::settings::{self, Reader, Section};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Reads a `boards.json`; `file` is what messages call it.
///
/// # Errors
/// All that is wrong, as lines of `FILE:LINE:COLUMN: PATH: expected …` in file order.
pub fn read(file: &str, bytes: &[u8]) -> Result<Bench, Vec<String>> {
    let tree = settings::parse(file, bytes).map_err(|error| [error].to_vec())?;
    let mut reader = BenchReader { reader: Reader::new(), chip: String::new(), taken: Map::new() };
    let bench = reader.bench(&tree);
    reader.reader.finish(file)?;
    Ok(bench)
}

/// A number of a text that another text has as good as never (FNV-1a of 64 bits): who changed it is no enemy.
fn digest(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(super) struct BenchReader {
    pub(super) reader: Reader,
    /// The chip of lines that name none.
    chip: String,
    /// What only one can have, and who has it since where.
    taken: Map<String, String>,
}

impl BenchReader {
    fn bench(&mut self, tree: &Value) -> Bench {
        let root = self.reader.root(tree, &["chip", "boards", "rigs"]);
        self.chip = self.chip(&root).unwrap_or_else(|| "gpiochip0".to_string());
        let known = ["type", "tags", "chip", "consoles", "lines", "sequences", "modes", "flash", "power", "health"];
        if root.get("boards").is_none() && tree.as_object().is_some() {
            self.reader.wrong(tree, "", "a key boards");
        }
        let mut bench = Bench::default();
        for (name, section) in self.reader.objects(&root, "boards", &known) {
            let path = format!("boards.{}", shown(&name.value));
            if bench.boards.len() == BOARDS_MAX {
                self.reader.wrong_at(name.at, &path, &format!("at most {BOARDS_MAX} boards"));
                break;
            }
            self.name(&name, &path);
            let mut board = self.board(&name.value, &section);
            board.digest = digest(&format!("{} {}", self.chip, section.written()));
            bench.boards.push(board);
        }
        for (name, section) in self.reader.objects(&root, "rigs", &["type", "tags", "boards"]) {
            let rig = self.rig(&name, &section, &bench);
            bench.rigs.push(rig);
        }
        bench
    }

    /// Checks a name that people choose.
    fn name(&mut self, name: &Spanned<String>, path: &str) {
        if let Err(expected) = plain_name(&name.value) {
            self.reader.wrong_at(name.at, path, &expected);
        }
    }

    /// Gives something to `whose`, unless another one has it.
    pub(super) fn take(&mut self, what: String, whose: &str, at: Position, path: &str) {
        if let Some(other) = self.taken.get(&what) {
            let expected = format!("{what} only once: it is {other}");
            self.reader.wrong_at(at, path, &expected);
        } else {
            self.taken.insert(what, format!("{whose}'s ({at})"));
        }
    }

    fn chip(&mut self, section: &Section<'_>) -> Option<String> {
        self.reader.checked(section, "chip", |chip| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
            let name = chip.strip_prefix("/dev/").unwrap_or(chip);
            let good = (1..=32).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.');
            if good { Ok(()) } else { Err("the name or label of a GPIO chip, such as \"gpiochip0\"".to_string()) }
        })
    }

    fn tags(&mut self, section: &Section<'_>) -> Vec<String> {
        let tags = self.reader.checked_texts(section, "tags", platform::check_unit).unwrap_or_default();
        if tags.len() > TAGS_MAX {
            self.reader.report(section, "tags", &format!("at most {TAGS_MAX} tags"));
        }
        tags
    }

    fn rig(&mut self, name: &Spanned<String>, section: &Section<'_>, bench: &Bench) -> Rig {
        let path = format!("rigs.{}", shown(&name.value));
        self.name(name, &path);
        if let Some(board) = bench.board(&name.value) {
            let expected = format!("a name that no board has, found that of `{}`", shown(&board.name));
            self.reader.wrong_at(name.at, &path, &expected);
        }
        let kind = self.reader.needed(section, "type", platform::check_unit).unwrap_or_default();
        let tags = self.tags(section);
        let path = section.path_of("boards");
        let boards = match section.get("boards") {
            Some(value) => self.reader.placed_texts(value, &path),
            None => Vec::new(),
        };
        if boards.len() < 2 {
            self.reader.report(section, "boards", "the names of two boards or more");
        }
        for (at, board) in &boards {
            if bench.board(board).is_none() {
                self.reader.wrong_at(*at, &path, &format!("the name of a board, found `{}`", shown(board)));
            } else {
                self.take(format!("board {board}"), &format!("rig {}", shown(&name.value)), *at, &path);
            }
        }
        Rig { name: name.value.clone(), kind, tags, boards: boards.into_iter().map(|(_, board)| board).collect() }
    }

    fn board(&mut self, name: &str, section: &Section<'_>) -> Board {
        let mut board = Board {
            name: name.to_string(),
            kind: self.reader.needed(section, "type", platform::check_unit).unwrap_or_default(),
            tags: self.tags(section),
            consoles: Vec::new(),
            lines: Vec::new(),
            sequences: Map::new(),
            modes: Map::new(),
            flash: None,
            power: None,
            health: None,
            digest: 0,
        };
        let outer = self.chip(section).map(|chip| core::mem::replace(&mut self.chip, chip));
        let mut wired = Vec::new();
        self.consoles(section, &mut board, &mut wired);
        self.lines(section, &mut board);
        for place in 0..board.consoles.len() {
            let signals = board.said_signals(&board.consoles[place].name);
            (board.consoles[place].dtr, board.consoles[place].rts) = (signals.dtr, signals.rts);
        }
        if let Some(outer) = outer {
            self.chip = outer;
        }
        board.power = self.power(section, &board);
        let sequences = self.sequences(section, &mut board, &wired);
        self.modes(section, &mut board, &sequences);
        board.flash = self.flash(section, &board);
        board.health = self.health(section, &board);
        board
    }

    fn consoles(&mut self, section: &Section<'_>, board: &mut Board, wired: &mut Vec<(String, String)>) {
        let known = [
            "usb",
            "interface",
            "by_id",
            "path",
            "serial",
            "product",
            "baud",
            "bits",
            "parity",
            "stop",
            "flow",
            "dtr",
            "rts",
            "wiring",
            "pace",
            "echo",
        ];
        for (name, section) in self.reader.objects(section, "consoles", &known) {
            let path = format!("boards.{}.consoles.{}", shown(&board.name), shown(&name.value));
            if board.consoles.len() == CONSOLES_MAX {
                self.reader.wrong_at(name.at, &path, &format!("at most {CONSOLES_MAX} consoles of a board"));
                break;
            }
            self.name(&name, &path);
            let wiring = self.reader.word(&section, "wiring", &wiring::NAMES).map(|index| wiring::NAMES[index]);
            if let Some(wiring) = wiring {
                wired.push((wiring.to_string(), name.value.clone()));
                if wired.len() > 1 {
                    self.reader.report(&section, "wiring", "one console of a board with a wiring");
                }
            }
            let idle = wiring.map(wiring::idle);
            let tty = self.tty(&section, &board.name);
            let settings = self.settings(&section);
            let console = Console {
                name: name.value.clone(),
                tty,
                serial: self.reader.checked(&section, "serial", serial),
                product: self.reader.checked(&section, "product", product),
                settings,
                dtr: self.level(&section, "dtr").or(idle.map(|(dtr, _)| dtr)),
                rts: self.level(&section, "rts").or(idle.map(|(_, rts)| rts)),
                pace_ms: self.time(&section, "pace").unwrap_or(0),
                echo: self.reader.boolean(&section, "echo").unwrap_or(false),
            };
            board.consoles.push(console);
        }
    }

    fn tty(&mut self, section: &Section<'_>, board: &str) -> Tty {
        let interface = self.reader.count(section, "interface", 0..=31).unwrap_or(0) as u8;
        let key = self.reader.one_of(section, &["usb", "by_id", "path"]);
        if section.get("interface").is_some() && key.is_some_and(|key| key != "usb") {
            self.reader.report(section, "interface", "`usb` beside it");
        }
        let Some(key) = key else { return Tty::Path(String::new()) };
        let check = match key {
            "usb" => usb_port,
            "by_id" => by_id,
            _ => device,
        };
        let Some(text) = self.reader.checked(section, key, check) else { return Tty::Path(String::new()) };
        let (tty, what) = match key {
            "usb" => (Tty::Usb(text.clone(), interface), format!("interface {interface} of USB port {text}")),
            "by_id" => (Tty::ById(text.clone()), format!("the tty {text}")),
            // A path below by-id is the same one.
            _ => match text.strip_prefix("/dev/serial/by-id/") {
                Some(name) => (Tty::ById(name.to_string()), format!("the tty {name}")),
                None => (Tty::Path(text.clone()), format!("the tty {text}")),
            },
        };
        self.take(what, board, section.place_of(key), &section.path_of(key));
        tty
    }

    fn settings(&mut self, section: &Section<'_>) -> Settings {
        Settings {
            baud: self.reader.count(section, "baud", 50..=20_000_000).unwrap_or(115_200) as u32,
            bits: self.reader.count(section, "bits", 5..=8).unwrap_or(8) as u8,
            parity: match self.reader.word(section, "parity", &["none", "even", "odd"]) {
                Some(1) => Parity::Even,
                Some(2) => Parity::Odd,
                _ => Parity::None,
            },
            stop: self.reader.count(section, "stop", 1..=2).unwrap_or(1) as u8,
            flow: match self.reader.word(section, "flow", &["none", "hardware", "software"]) {
                Some(1) => Flow::Hardware,
                Some(2) => Flow::Software,
                _ => Flow::None,
            },
        }
    }

    fn level(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        self.reader.count(section, key, 0..=1).map(|level| level == 1)
    }

    pub(super) fn time(&mut self, section: &Section<'_>, key: &str) -> Option<Millis> {
        let text = self.reader.checked(section, key, |text| steps::milliseconds(text).map(|_| ()))?;
        steps::milliseconds(&text).ok()
    }

    fn lines(&mut self, section: &Section<'_>, board: &mut Board) {
        let known = [
            "line",
            "chip",
            "dtr",
            "rts",
            "break",
            "usb_port",
            "direction",
            "active_low",
            "safe",
            "unheld",
            "drive",
            "pwm",
            "function",
            "bias",
            "debounce",
            "poll",
        ];
        for (name, section) in self.reader.objects(section, "lines", &known) {
            let path = format!("boards.{}.lines.{}", shown(&board.name), shown(&name.value));
            if board.lines.len() == LINES_MAX {
                self.reader.wrong_at(name.at, &path, &format!("at most {LINES_MAX} lines of a board"));
                break;
            }
            self.name(&name, &path);
            if steps::RESERVED.contains(&name.value.as_str()) {
                self.reader.wrong_at(name.at, &path, "a name that is no word of steps");
            }
            let wire = self.wire(&section, board);
            let gpio = matches!(wire, Wire::Gpio(..));
            let input = self.reader.word(&section, "direction", &["out", "in"]) == Some(1);
            if input && !gpio {
                self.reader.report(&section, "direction", "\"out\": only a GPIO is read");
            }
            let fitting: &[&str] = match (input, gpio) {
                (true, _) => &["bias", "debounce", "poll"],
                (false, true) => &["safe", "drive", "pwm", "function"],
                (false, false) => &["safe"],
            };
            for key in ["bias", "debounce", "poll", "safe", "drive", "pwm", "function", "chip"] {
                let fits = fitting.contains(&key) || (key == "chip" && gpio);
                if !fits && section.get(key).is_some() {
                    let kind = if !gpio {
                        "no GPIO"
                    } else if input {
                        "read"
                    } else {
                        "driven"
                    };
                    self.reader.report(&section, key, &format!("no `{key}` of a line that is {kind}"));
                }
            }
            let safe = self.level(&section, "safe");
            let active_low = self.reader.boolean(&section, "active_low").unwrap_or(false);
            // A USB port has its voltage where nobody has taken it away.
            let resting = matches!(wire, Wire::UsbPort(_)) && !active_low;
            if !input && gpio && safe.is_none() && section.get("safe").is_none() {
                self.reader.lacking(&section, "a key safe: the level, 0 or 1, in which nothing happens to the board");
            }
            let use_as = if input { self.input(&section) } else { self.output(&section, safe.unwrap_or(resting)) };
            self.registers(&section, &wire, use_as);
            let line =
                Line { name: name.value.clone(), wire, active_low, use_as, unheld: self.level(&section, "unheld") };
            board.lines.push(line);
        }
    }

    fn input(&mut self, section: &Section<'_>) -> Use {
        let bias = match self.reader.word(section, "bias", &["as-is", "disabled", "pull-up", "pull-down"]) {
            Some(1) => Bias::Disabled,
            Some(2) => Bias::PullUp,
            Some(3) => Bias::PullDown,
            _ => Bias::AsIs,
        };
        let debounce = self.time(section, "debounce").unwrap_or(0);
        // The kernel keeps it in 32 bits of microseconds; a longer one than a second is a slip.
        if debounce > 1000 {
            self.reader.report(section, "debounce", "a time of at most 1s");
        }
        let poll = self.time(section, "poll").unwrap_or(0);
        // More often is more than a small board has time for, and less often tells little.
        if section.get("poll").is_some() && !(1..=1000).contains(&poll) {
            self.reader.report(section, "poll", "a time from 1ms to 1s");
        }
        if poll > 0 && debounce > 0 {
            self.reader.report(
                section,
                "poll",
                "no `poll` where there is `debounce`, which is of the chip's own edges",
            );
        }
        Use::Input { bias, debounce_us: debounce.min(1000) as u32 * 1000, poll_ms: poll.min(1000) as u32 }
    }

    fn output(&mut self, section: &Section<'_>, safe: bool) -> Use {
        let drive = match self.reader.word(section, "drive", &["push-pull", "open-drain", "open-source"]) {
            Some(1) => Drive::OpenDrain,
            Some(2) => Drive::OpenSource,
            _ => Drive::PushPull,
        };
        let drive = self.more_than_levels(section).unwrap_or(drive);
        Use::Output { safe, drive }
    }

    fn wire(&mut self, section: &Section<'_>, board: &Board) -> Wire {
        let nowhere = Wire::UsbPort(String::new());
        let Some(key) = self.reader.one_of(section, &["line", "dtr", "rts", "break", "usb_port"]) else {
            return nowhere;
        };
        let (at, path) = (section.place_of(key), section.path_of(key));
        match key {
            "line" => {
                let chip = self.chip(section).unwrap_or_else(|| self.chip.clone());
                let value = section.get(key);
                let named = value.and_then(Value::as_text).filter(|name| {
                    (1..=32).contains(&name.len()) && name.bytes().all(|byte| (b'!'..0x7f).contains(&byte))
                });
                let offset = value.and_then(Value::as_integer).and_then(|offset| u32::try_from(offset).ok());
                let pin = match (named, offset.filter(|offset| *offset < 65_536)) {
                    (Some(name), _) => Pin::Name(name.to_string()),
                    (None, Some(offset)) => Pin::Offset(offset),
                    (None, None) => {
                        self.reader.wrong_at(at, &path, "the number of a line from 0 to 65535, or its name");
                        return nowhere;
                    }
                };
                let what = match &pin {
                    Pin::Offset(offset) => format!("line {offset} of {chip}"),
                    Pin::Name(name) => format!("line {name} of {chip}"),
                };
                self.take(what, &board.name, at, &path);
                Wire::Gpio(chip, pin)
            }
            "usb_port" => {
                let Some(port) = self.reader.checked(section, key, usb_port) else { return nowhere };
                self.take(format!("the power of USB port {port}"), &board.name, at, &path);
                Wire::UsbPort(port)
            }
            _ => {
                let Some(console) = self.console_named(section, key, board) else { return nowhere };
                self.take(format!("{key} of console {console} of {}", board.name), &board.name, at, &path);
                let signal = match key {
                    "dtr" => Signal::Dtr,
                    "rts" => Signal::Rts,
                    _ => Signal::Break,
                };
                Wire::Signal(console, signal)
            }
        }
    }

    /// A console of the board under a key.
    pub(super) fn console_named(&mut self, section: &Section<'_>, key: &str, board: &Board) -> Option<String> {
        self.reader.checked(section, key, |name| match board.console(name) {
            Some(_) => Ok(()),
            None => Err(format!("the name of a console of this board, found `{}`", shown(name))),
        })
    }

    /// Steps of one sequence or mode.
    fn steps(&mut self, value: &Value, path: &str, board: &Board, names: &[&str]) -> Placed {
        let mut found = Vec::new();
        for (at, text) in self.reader.placed_texts(value, path) {
            match step_of(&text, board, names) {
                Ok(step) => found.push((at, step)),
                Err(expected) => self.reader.wrong_at(at, path, &expected),
            }
        }
        found
    }

    fn sequences(&mut self, section: &Section<'_>, board: &mut Board, wired: &[(String, String)]) -> Vec<String> {
        let entries = self.reader.entries(section, "sequences", "an object of arrays of steps by name");
        let implied = wired.iter().take(1).flat_map(|(wiring, console)| wiring::sequences(wiring, console));
        let mut names: Vec<&str> = entries.iter().map(|(name, ..)| name.value.as_str()).collect();
        let own = names.len();
        for (name, texts) in implied {
            if names[..own].contains(&name) {
                continue;
            }
            names.push(name);
            let steps = texts.iter().filter_map(|text| step_of(text, board, &[]).ok()).collect();
            board.sequences.insert(name.to_string(), steps);
        }
        if own > SEQUENCES_MAX {
            self.reader.report(section, "sequences", &format!("at most {SEQUENCES_MAX} sequences"));
            return Vec::new();
        }
        for (name, value, path) in &entries {
            self.name(name, path);
            if board.line(&name.value).is_some() || steps::RESERVED.contains(&name.value.as_str()) {
                self.reader.wrong_at(name.at, path, "a name that no line has, and that is no word of steps");
            }
            let steps = self.steps(value, path, board, &names);
            board.sequences.insert(name.value.clone(), steps.into_iter().map(|(_, step)| step).collect());
        }
        for (name, value, path) in &entries {
            let own = [Step::Play(name.value.clone())];
            if let Err(expected) = steps::unrolled(&board.sequences, &own) {
                self.reader.wrong(value, path, &expected);
            }
        }
        names.iter().map(ToString::to_string).collect()
    }

    fn modes(&mut self, section: &Section<'_>, board: &mut Board, sequences: &[String]) {
        let names: Vec<&str> = sequences.iter().map(String::as_str).collect();
        let entries = self.reader.entries(section, "modes", "an object of modes by name");
        if entries.len() > SEQUENCES_MAX {
            return self.reader.report(section, "modes", &format!("at most {SEQUENCES_MAX} modes"));
        }
        for (name, value, path) in &entries {
            self.name(name, path);
            let mut mode = Mode::default();
            let mut steps = *value;
            let mut steps_path = path.clone();
            if value.as_object().is_some() {
                let section = self.reader.section(value, path.clone(), &["from", "do", "settle"]);
                mode.from = self.reader.checked(&section, "from", |from| {
                    let there = entries.iter().any(|(other, ..)| other.value == from);
                    if there {
                        Ok(())
                    } else {
                        Err(format!("the name of a mode of this board, found `{}`", shown(from)))
                    }
                });
                mode.settle_ms = self.time(&section, "settle").unwrap_or(0);
                steps_path = section.path_of("do");
                match section.get("do") {
                    Some(value) => steps = value,
                    None => {
                        self.reader.wrong(value, path, "a key do: the steps to this mode");
                        board.modes.insert(name.value.clone(), mode);
                        continue;
                    }
                }
            }
            let placed = self.steps(steps, &steps_path, board, &names);
            mode.steps = placed.into_iter().map(|(_, step)| step).collect();
            if let Err(expected) = steps::unrolled(&board.sequences, &mode.steps) {
                self.reader.wrong(steps, &steps_path, &expected);
            }
            board.modes.insert(name.value.clone(), mode);
        }
        for (name, value, path) in &entries {
            let mut way = [name.value.as_str()].to_vec();
            while let Some(from) = board.modes.get(way[way.len() - 1]).and_then(|mode| mode.from.as_deref()) {
                let again = way.contains(&from);
                way.push(from);
                if again {
                    // Said where it leads back to itself, and not at each mode on the way there.
                    if from == name.value {
                        let place = value.get("from").unwrap_or(value);
                        let expected = format!("a mode that does not lead to itself ({})", way.join(" ← "));
                        self.reader.wrong(place, &format!("{path}.from"), &expected);
                    }
                    break;
                }
            }
        }
    }
}

/// A step of a board that has sequences of these names.
fn step_of(text: &str, board: &Board, names: &[&str]) -> Result<Step, String> {
    let driven = |name: &str| match board.line(name) {
        Some(line) if matches!(line.use_as, Use::Output { .. }) => Ok(()),
        Some(_) => Err(format!("a line that is driven, found `{}`, which is read", shown(name))),
        None => Err(format!("a line of this board, found `{}`", shown(name))),
    };
    steps::step(text, board.power.is_some(), driven, |name| names.contains(&name))
}

/// Checks a name: it is an option, a channel of a log and a word of a step.
fn plain_name(name: &str) -> Result<(), String> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if plain && begins_well && name.len() <= 32 {
        Ok(())
    } else {
        Err("a name of 1 to 32 letters, digits and `_ -`, beginning with no `-`".to_string())
    }
}

/// Checks a USB port as sysfs names it: a bus, and the ports of hubs on the way.
pub(super) fn usb_port(port: &str) -> Result<(), String> {
    let number = |part: &str| (1..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    let good = port.split_once('-').is_some_and(|(bus, ports)| {
        number(bus) && ports.split('.').all(number) && ports.split('.').count() <= 7 && !bus.starts_with('0')
    });
    if good { Ok(()) } else { Err("a USB port as it is in /sys/bus/usb/devices, such as \"1-1.2\"".to_string()) }
}

/// Checks the serial number that a USB device must have.
pub(super) fn serial(serial: &str) -> Result<(), String> {
    let good = (1..=126).contains(&serial.len()) && serial.bytes().all(|byte| (b' '..0x7f).contains(&byte));
    if good { Ok(()) } else { Err("a serial number, 1 to 126 printable letters".to_string()) }
}

/// Checks the vendor and product that a USB device must have.
pub(super) fn product(product: &str) -> Result<(), String> {
    let hex = |part: &str| part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let good = product.split_once(':').is_some_and(|(vendor, product)| hex(vendor) && hex(product));
    if good { Ok(()) } else { Err("vendor and product such as \"0403:6001\"".to_string()) }
}

fn by_id(name: &str) -> Result<(), String> {
    let good = (1..=255).contains(&name.len())
        && name.bytes().all(|byte| (b'!'..0x7f).contains(&byte) && byte != b'/')
        && !name.starts_with('.');
    if good { Ok(()) } else { Err("a name as it is in /dev/serial/by-id".to_string()) }
}

fn device(path: &str) -> Result<(), String> {
    let parts = path.strip_prefix("/dev/").map(|rest| rest.split('/'));
    let good = path.len() <= 255
        && path.bytes().all(|byte| (b'!'..0x7f).contains(&byte))
        && parts.is_some_and(|mut parts| parts.all(|part| !matches!(part, "" | "." | "..")));
    if good { Ok(()) } else { Err("a path below /dev without `..`".to_string()) }
}
