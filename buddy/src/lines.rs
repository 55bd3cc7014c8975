//! GPIOs of a board, as its bench has them → open files by which levels are set and edges are read, all of a kind by one.
//!
//! A file can be given to another process, which then holds the lines too: that is how a guard keeps levels where they are while
//! owners come and go. What such a process needs besides is the word that says what the file is, and bits for lines: bit n is the
//! n-th line of a group. Everything below `Outputs` and `Inputs` is about levels at pins; `active_low` ends here.

mod cdev_v1;
mod cdev_v2;
pub mod fake;
mod polled;
#[cfg(feature = "pi")]
mod rpi;

use crate::ports::Places;
use gpiocdev::chip::{self, Chip};
use polled::Polled;
use sai_core::bench::{self, Bias, Board, Drive, Line, Pin, Use, Wire};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Requested by the kernel's first interface.
pub const GPIO_V1: &str = "gpio-v1";
/// Requested by its second one.
pub const GPIO_V2: &str = "gpio-v2";
/// A file with a byte for each line, `0` or `1`: a bench without wires.
pub const FILE: &str = "file";

/// A list of a Raspberry Pi's own GPIOs, which are set by register.
pub const PI: &str = bench::PI;

/// What the kernel shows as the user of lines.
const CONSUMER: &str = "sai";

/// Lines that one file is of: those of one chip that are driven in the same way, or read in the same way.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name among the groups of a board, which stays the same as long as the bench does.
    pub name: String,
    /// The chip, by name or label.
    pub chip: String,
    /// The lines, in the order of the bench. No board has more of them than one file can be of.
    pub lines: Vec<Line>,
}

impl Group {
    fn pins(&self) -> impl Iterator<Item = &Pin> {
        self.lines.iter().filter_map(|line| match &line.wire {
            Wire::Gpio(_, pin) => Some(pin),
            Wire::Signal(..) | Wire::UsbPort(_) => None,
        })
    }

    /// What its open file is called among processes: its bits are of these lines in this order, and of no others.
    pub fn held_as(&self) -> String {
        let pins = self.pins().map(|pin| match pin {
            Pin::Offset(offset) => offset.to_string(),
            Pin::Name(name) => name.clone(),
        });
        format!("{}.{}", self.name, pins.collect::<Vec<_>>().join(","))
    }

    /// A bit for each of its lines.
    pub fn mask(&self) -> u64 {
        u64::MAX.checked_shr(u64::BITS - self.lines.len() as u32).unwrap_or(0)
    }

    /// The levels at its pins in which nothing happens to the board.
    pub fn safe(&self) -> u64 {
        self.bits(|line| matches!(line.use_as, Use::Output { safe: true, .. }))
    }

    fn bits(&self, level: impl Fn(&Line) -> bool) -> u64 {
        let lines = self.lines.iter().enumerate();
        lines.fold(0, |bits, (place, line)| bits | (u64::from(level(line) != line.active_low) << place))
    }

    /// Whether its lines are looked at, instead of being asked for edges.
    pub fn is_polled(&self) -> bool {
        reading(self).poll_ms > 0
    }

    /// The place of a line in it.
    pub fn place(&self, line: &str) -> Option<usize> {
        self.lines.iter().position(|other| other.name == line)
    }
}

/// The driven GPIOs of a board, by what they are driven through.
pub fn driven(board: &Board) -> Vec<Group> {
    groups(board, |line| match line.use_as {
        Use::Output { drive: Drive::PushPull, .. } => Some("push-pull".into()),
        Use::Output { drive: Drive::OpenDrain, .. } => Some("open-drain".into()),
        Use::Output { drive: Drive::OpenSource, .. } => Some("open-source".into()),
        Use::Output { drive: Drive::Pulses { .. } | Drive::Function(_), .. } => Some("registers".into()),
        Use::Input { .. } => None,
    })
}

/// Those that are read.
pub fn read(board: &Board) -> Vec<Group> {
    groups(board, |line| match line.use_as {
        Use::Input { bias, debounce_us, poll_ms: 0 } => Some(format!("in-{bias:?}-{debounce_us}").to_lowercase()),
        Use::Input { bias, poll_ms, .. } => Some(format!("in-{bias:?}-polled-{poll_ms}").to_lowercase()),
        Use::Output { .. } => None,
    })
}

fn groups(board: &Board, kind: impl Fn(&Line) -> Option<String>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in &board.lines {
        let (Wire::Gpio(chip, _), Some(kind)) = (&line.wire, kind(line)) else { continue };
        let name = format!("{chip}.{kind}");
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.lines.push(line.clone()),
            None => groups.push(Group { name, chip: chip.clone(), lines: vec![line.clone()] }),
        }
    }
    groups
}

/// What requests lines of a chip.
pub trait Lines {
    /// Drives the lines of a group, at their safe levels from the first moment: what the file is, and the file.
    ///
    /// # Errors
    /// A line is in use, is none, or cannot be driven like this.
    fn drive(&self, group: &Group) -> io::Result<(&'static str, OwnedFd)>;

    /// Reads the lines of a group, and all that they do.
    ///
    /// # Errors
    /// The same.
    fn read(&self, group: &Group) -> io::Result<Box<dyn Inputs>>;
}

/// Lines that are looked at.
pub trait Levels: std::fmt::Debug + Send {
    /// The levels now, as the board means them: a bit for each line of the group.
    ///
    /// # Errors
    /// The chip is gone.
    fn levels(&self) -> io::Result<u64>;
}

/// Lines that are read, with all that they do.
pub trait Inputs: Levels {
    /// Files that can be read where edges have come.
    fn files(&self) -> Vec<BorrowedFd<'_>>;

    /// Appends what has come, and waits for nothing.
    ///
    /// # Errors
    /// The chip is gone.
    fn take(&mut self, out: &mut Vec<Seen>) -> io::Result<()>;

    /// Whether edges that are lost are counted. Where not, the log says that edges may be lost unseen; that a line is polled, and how
    /// often, stands there anyway.
    fn counts_losses(&self) -> bool;
}

/// What was seen of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It changed.
    Edge {
        /// Its place in the group.
        line: usize,
        /// The level after that, as the board means it.
        level: bool,
        /// CLOCK_MONOTONIC of the kernel, in nanoseconds.
        ns: u64,
        /// How many edges of this line there were, with this one and those that are lost.
        number: u64,
    },
    /// Edges were lost before the next one.
    Lost {
        /// Its place in the group.
        line: usize,
        /// How many; `None` where nobody can know.
        count: Option<u64>,
        /// CLOCK_MONOTONIC when it was found, in nanoseconds: that of the edge after them.
        ns: u64,
    },
}

/// Lines that are driven by one file.
#[derive(Debug)]
pub struct Outputs {
    group: Group,
    what: String,
    file: OwnedFd,
    levels: u64,
}

impl Outputs {
    /// Requests the lines of a group. They get their safe levels.
    ///
    /// # Errors
    /// The chip is not there; a line is in use, is none, or cannot be driven as the bench says.
    pub fn request(group: Group, places: &Places) -> io::Result<Self> {
        let (what, file) = chip(&group, places)?.drive(&group)?;
        let levels = group.safe();
        Ok(Outputs { group, what: what.to_string(), file, levels })
    }

    /// Goes on with a file that somebody else requested or held, and with the levels at its pins. No line moves.
    pub fn go_on(group: Group, what: String, file: OwnedFd, levels: u64) -> Self {
        if what == PI {
            // Pulses end with the process that makes them. What cannot be set is told when it is to be moved.
            let _ = set(&what, file.as_fd(), group.mask(), levels);
        }
        Outputs { group, what, file, levels }
    }

    /// What it drives.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// What the file is, as `set` knows it.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The file, to be given to whoever is to hold the lines too.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The levels at the pins.
    pub fn levels(&self) -> u64 {
        self.levels
    }

    /// Gives lines these levels, as the board means them, at the same moment. What is no line of this group is passed over.
    ///
    /// # Errors
    /// The chip is gone.
    pub fn set(&mut self, levels: &[(String, bool)]) -> io::Result<()> {
        let mut wanted = self.levels;
        let mut mask = 0;
        for (name, level) in levels {
            let Some(place) = self.group.place(name) else { continue };
            let active_low = self.group.lines.get(place).is_some_and(|line| line.active_low);
            mask |= 1 << place;
            wanted = wanted & !(1 << place) | u64::from(*level != active_low) << place;
        }
        if mask != 0 {
            // The first interface knows of no lines that stay as they are, so that all are said.
            set(&self.what, self.file(), self.group.mask(), wanted)?;
            self.levels = wanted;
        }
        Ok(())
    }

    /// Gives all of them their safe levels.
    ///
    /// # Errors
    /// The chip is gone.
    pub fn make_safe(&mut self) -> io::Result<()> {
        set(&self.what, self.file(), self.group.mask(), self.group.safe())?;
        self.levels = self.group.safe();
        Ok(())
    }
}

/// Sets the levels at pins whose bits are in `mask`, which has all lines of the file.
///
/// # Errors
/// The system's, or `Unsupported` for a file that is nothing known here.
pub fn set(what: &str, file: BorrowedFd<'_>, mask: u64, levels: u64) -> io::Result<()> {
    match what {
        GPIO_V1 => cdev_v1::set(file, levels),
        GPIO_V2 => cdev_v2::set(file, mask, levels),
        FILE => fake::set(file, mask, levels),
        #[cfg(feature = "pi")]
        PI => rpi::set(file, mask, levels),
        _ => Err(io::Error::new(ErrorKind::Unsupported, format!("{what:?} has no levels that are known"))),
    }
}

/// The chips that this machine's kernel shows: name, label and lines of each.
pub fn chips() -> Vec<String> {
    let info = |path: &PathBuf| Chip::from_path(path).and_then(|chip| chip.info()).ok();
    let found = chip::chips().unwrap_or_default();
    let found = found.iter().filter_map(info);
    found.map(|info| format!("{} ({}, {} lines)", info.name, info.label, info.num_lines)).collect()
}

/// Reads lines of a group.
///
/// # Errors
/// The chip is not there; a line is in use, is none, or cannot be read as the bench says.
pub fn inputs(group: &Group, places: &Places) -> io::Result<Box<dyn Inputs>> {
    chip(group, places)?.read(group)
}

/// What requests lines of the chip of a group.
fn chip(group: &Group, places: &Places) -> io::Result<Box<dyn Lines>> {
    if let Some(name) = group.chip.strip_prefix(fake::PREFIX) {
        return Ok(Box::new(fake::Levels::new(&places.dev.join("shm").join(name))));
    }
    if group.chip == PI {
        return registers();
    }
    Ok(Box::new(Kernel { path: found(&group.chip, places)? }))
}

#[cfg(feature = "pi")]
fn registers() -> io::Result<Box<dyn Lines>> {
    Ok(Box::new(rpi::Registers::new()?))
}

#[cfg(not(feature = "pi"))]
fn registers() -> io::Result<Box<dyn Lines>> {
    let text = "the chip \"pi\" is for a Raspberry Pi's own GPIOs: this sai-buddy was built without its feature `pi`";
    Err(io::Error::new(ErrorKind::Unsupported, text))
}

/// The chip of this name or label.
fn found(name: &str, places: &Places) -> io::Result<PathBuf> {
    let path = places.dev.join(name.strip_prefix("/dev/").unwrap_or(name));
    if path.exists() {
        return Ok(path);
    }
    let labelled =
        |path: &PathBuf| Chip::from_path(path).and_then(|chip| chip.info()).is_ok_and(|info| info.label == name);
    let mut all = chip::chips().unwrap_or_default().into_iter().filter(labelled);
    match (all.next(), all.next()) {
        (Some(path), None) => Ok(path),
        (Some(_), Some(_)) => Err(io::Error::other(format!("several GPIO chips have the label {name:?}: name one"))),
        (None, _) => {
            let text = format!("no GPIO chip has the name or label {name:?}");
            Err(io::Error::new(ErrorKind::NotFound, text))
        }
    }
}

/// A chip that the kernel has a driver for.
#[derive(Debug)]
struct Kernel {
    path: PathBuf,
}

impl Kernel {
    /// The numbers of the lines of a group.
    fn offsets(&self, group: &Group) -> io::Result<Vec<u32>> {
        let chip = Chip::from_path(&self.path).map_err(io::Error::other)?;
        let offset = |pin: &Pin| match pin {
            Pin::Offset(offset) => Ok(*offset),
            Pin::Name(name) => {
                let found = chip.find_line_info(name).map(|info| info.offset);
                found.ok_or_else(|| {
                    io::Error::new(ErrorKind::NotFound, format!("{} has no line {name:?}", self.path.display()))
                })
            }
        };
        group.pins().map(offset).collect()
    }

    /// An error of the kernel, with who has the lines where it is that they are in use.
    fn explained(&self, group: &Group, error: impl std::fmt::Display) -> io::Error {
        let chip = Chip::from_path(&self.path);
        let users = group.lines.iter().zip(self.offsets(group).unwrap_or_default()).filter_map(|(line, offset)| {
            let info = chip.as_ref().ok()?.line_info(offset).ok()?;
            info.used.then(|| format!("line {} ({offset}) is used by {:?}", line.name, info.consumer))
        });
        let users: Vec<String> = users.collect();
        let who = if users.is_empty() { error.to_string() } else { users.join(", ") };
        io::Error::other(format!("lines of {} cannot be had: {who}", self.path.display()))
    }

    /// Requests lines to be read, by whichever interface the kernel has.
    fn request(&self, group: &Group, offsets: &[u32]) -> io::Result<Box<dyn Inputs>> {
        let second = self.has(gpiocdev::AbiVersion::V2);
        let poll_ms = reading(group).poll_ms;
        Ok(match (second, poll_ms) {
            (true, 0) => Box::new(cdev_v2::Edges::request(&self.path, group, offsets)?),
            (false, 0) => Box::new(cdev_v1::Edges::request(&self.path, group, offsets)?),
            (true, _) => Box::new(Polled::new(cdev_v2::Edges::request(&self.path, group, offsets)?, poll_ms)?),
            (false, _) => Box::new(Polled::new(cdev_v1::Read::request(&self.path, group, offsets)?, poll_ms)?),
        })
    }

    /// Whether the kernel has an interface.
    fn has(&self, version: gpiocdev::AbiVersion) -> bool {
        Chip::from_path(&self.path).is_ok_and(|chip| chip.supports_abi_version(version).is_ok())
    }
}

impl Lines for Kernel {
    fn drive(&self, group: &Group) -> io::Result<(&'static str, OwnedFd)> {
        let offsets = self.offsets(group)?;
        // Kernels may be built without the first interface, which is called deprecated.
        let file = match self.has(gpiocdev::AbiVersion::V1) {
            true => cdev_v1::drive(&self.path, group, &offsets).map(|file| (GPIO_V1, file)),
            false => cdev_v2::drive(&self.path, group, &offsets).map(|file| (GPIO_V2, file)),
        };
        file.map_err(|error| self.explained(group, error))
    }

    fn read(&self, group: &Group) -> io::Result<Box<dyn Inputs>> {
        let offsets = self.offsets(group)?;
        self.request(group, &offsets).map_err(|error| self.explained(group, error))
    }
}

/// How lines are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    bias: Bias,
    debounce_us: u32,
    poll_ms: u32,
}

/// How those of a group are: all of one in the same way.
fn reading(group: &Group) -> Reading {
    match group.lines.first().map(|line| line.use_as) {
        Some(Use::Input { bias, debounce_us, poll_ms }) => Reading { bias, debounce_us, poll_ms },
        _ => Reading { bias: Bias::AsIs, debounce_us: 0, poll_ms: 0 },
    }
}

/// How they are driven.
fn driving(group: &Group) -> Drive {
    match group.lines.first().map(|line| line.use_as) {
        Some(Use::Output { drive, .. }) => drive,
        _ => Drive::PushPull,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::bench;
    use std::fs;
    use std::io::Write as _;

    const BENCH: &str = r#"{ "chip": "levels:NAME", "boards": { "b": { "type": "t", "lines": {
        "nrst": { "line": 17, "active_low": true, "safe": 0 },
        "led": { "line": 22, "direction": "in", "active_low": true },
        "boot": { "line": 3, "safe": 0 },
        "key": { "line": 4, "safe": 1, "drive": "open-drain" },
        "busy": { "line": 5, "direction": "in" } } } } }"#;

    #[test]
    fn lines_of_a_pi_are_told_of_and_want_its_feature() {
        let text = r#"{ "chip": "pi", "boards": { "b": { "type": "t", "lines": { "a": { "line": 4, "safe": 0 },
            "fan": { "line": 18, "safe": 0, "pwm": "50Hz 50%" }, "key": { "line": 5, "direction": "in" },
            "other": { "chip": "gpiochip1", "line": 4, "safe": 0 } } } } }"#;
        let bench = bench::read("boards.json", text.as_bytes()).expect("a bench");
        let board = bench.board("b").expect("the board");
        assert_eq!(board.by_register(), ["a", "fan"]);
        let names: Vec<String> = driven(board).iter().map(Group::held_as).collect();
        assert_eq!(names, ["pi.push-pull.4", "pi.registers.18", "gpiochip1.push-pull.4"]);
        let [plain, ..] = &driven(board)[..] else { panic!("no lines") };
        // This machine is none.
        let error = Outputs::request(plain.clone(), &Places::default()).expect_err("no registers").to_string();
        let expected =
            if cfg!(feature = "pi") { "registers of the GPIOs cannot be had" } else { "without its feature `pi`" };
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn lines_are_driven_at_safe_levels_from_the_first_moment_and_go_on_in_other_hands() {
        let shm = std::env::temp_dir().join(format!("sai-lines-{}/shm", std::process::id()));
        fs::create_dir_all(&shm).expect("a directory");
        let top = shm.parent().expect("a directory");
        let places = Places { sys: "/nonexistent".into(), dev: top.to_path_buf() };
        let bench = bench::read("boards.json", BENCH.replace("NAME", "bench").as_bytes()).expect("a bench");
        let board = bench.board("b").expect("the board");
        let held = |name: &str| fs::read_to_string(shm.join(name)).expect("levels");
        let [main, open_drain] = <[Group; 2]>::try_from(driven(board)).expect("two ways of driving");
        assert_eq!(open_drain.name, "levels:bench.open-drain");
        assert_eq!((main.mask(), main.safe(), open_drain.safe()), (0b11, 0b01, 1));
        let mut lines = Outputs::request(main.clone(), &places).expect("lines");
        Outputs::request(open_drain, &places).expect("a line");
        // The pin of a reset that is active low is high where nothing happens.
        assert_eq!((held("bench.out").as_str(), held("bench.open-drain.out").as_str()), ("10", "1"));
        let both = [("nrst".to_string(), true), ("boot".to_string(), true), ("key".to_string(), false)];
        lines.set(&both).expect("set");
        assert_eq!((held("bench.out").as_str(), lines.levels()), ("01", 0b10));
        // Somebody else goes on with the file, moves one, and the other stays as it is.
        let file = lines.file().try_clone_to_owned().expect("a copy");
        let (what, levels) = (lines.what().to_string(), lines.levels());
        drop(lines);
        let mut lines = Outputs::go_on(main, what, file, levels);
        assert_eq!(held("bench.out"), "01");
        lines.set(&[("nrst".to_string(), false)]).expect("set");
        assert_eq!(held("bench.out"), "11");
        lines.make_safe().expect("set");
        assert_eq!(held("bench.out"), "10");
        assert_eq!(set("what", lines.file(), 1, 1).map_err(|error| error.kind()), Err(ErrorKind::Unsupported));

        let [group] = <[Group; 1]>::try_from(read(board)).expect("one way of reading");
        let mut inputs = inputs(&group, &places).expect("lines");
        let mut pipe = fs::File::options().write(true).open(shm.join("bench.in")).expect("a pipe");
        pipe.write_all(b"a1 b1 a0 c1 x").expect("written");
        let mut seen = Vec::new();
        inputs.take(&mut seen).expect("edges");
        inputs.take(&mut seen).expect("nothing more");
        let edges = seen.iter().map(|seen| match seen {
            Seen::Edge { line, level, number, .. } => (*line, *level, *number),
            Seen::Lost { .. } => panic!("{seen:?}"),
        });
        assert_eq!(edges.collect::<Vec<_>>(), [(0, false, 1), (1, true, 1), (0, true, 2)]);
        assert_eq!((inputs.levels().expect("levels"), inputs.counts_losses()), (0b11, true));
        fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn a_chip_that_is_not_there_is_told() {
        let text = BENCH.replace("levels:NAME", "gpiochip77");
        let bench = bench::read("boards.json", text.as_bytes()).expect("a bench");
        let group = driven(bench.board("b").expect("the board")).remove(0);
        let error = Outputs::request(group, &Places::default()).expect_err("no such chip");
        assert_eq!(error.to_string(), "no GPIO chip has the name or label \"gpiochip77\"");
    }
}
