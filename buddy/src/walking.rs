//! A board of a bench, and a person beside it → what is wired otherwise than the bench says, and the bench's file with what was found.
//!
//! Each cable is pulled once by the person, each line and supply is moved once by us, and it is told what that did: which USB device
//! left, and which console went quiet, on this board or on another one that has an owner; which lines that are read have changed.

use crate::frames::{Asked, Heard as Frame};
use crate::listening::{Event, Listening};
use crate::ports::{Adapter, Places, adapters};
use crate::serial::monotonic_ns;
use crate::trying::watch::Watch;
use crate::visit::{Visit, Whose};
use sai_core::axis;
use sai_core::bench::{Bench, Board, Console, Line, Supply, Tty, Use};
use sai_core::console::{Entry, Piece};
use sai_core::json::{self, Value};
use sai_core::ordered::{Map, Set};
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time for which consoles are listened to before something is moved, and after it.
const LISTENS: Duration = Duration::from_millis(1_500);
/// Nanoseconds after which what was moved has had its effect.
const TAKES_NS: u64 = 500_000_000;
/// Time within which an owner says that a line was moved: machines stand still at times.
const PULSE: Duration = Duration::from_secs(30);
/// Time within which what is plugged in, or pulled, is seen by the kernel.
const PLUGGED: Duration = Duration::from_secs(10);
/// Time between two looks at what is plugged in.
const LOOK: Duration = Duration::from_millis(50);

/// The person.
pub trait Person {
    /// Tells a line.
    fn tell(&mut self, text: &str);

    /// Asks, and waits for an answer.
    ///
    /// # Errors
    /// Nobody answers any more.
    fn ask(&mut self, text: &str) -> io::Result<String>;
}

/// What a walk has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Consoles that hang at another USB port than the bench says, with that port.
    pub moved: Vec<(String, String)>,
    /// What else is not as the bench says, for people.
    pub wrong: Vec<String>,
    /// How much was found as it says.
    pub well: usize,
}

/// Whether an answer is a yes, as that of who only presses Enter.
pub fn yes(answer: &str) -> bool {
    matches!(answer.trim(), "" | "y" | "Y" | "yes")
}

fn skips(answer: &str) -> bool {
    matches!(answer.trim(), "s" | "S" | "skip")
}

fn named(adapter: &Adapter) -> String {
    let serial = if adapter.serial.is_empty() { String::new() } else { format!(", serial number {}", adapter.serial) };
    format!("USB port {} ({}{serial}: {})", adapter.port, adapter.product, adapter.ttys.join(", "))
}

/// Waits until something is plugged in otherwise than before, and gives what it is then.
fn changed(places: &Places, before: &[Adapter]) -> Vec<Adapter> {
    let began = Instant::now();
    loop {
        let now = adapters(places);
        if now != before || began.elapsed() > PLUGGED {
            return now;
        }
        thread::sleep(LOOK);
    }
}

/// Adapters that are in `some` and not in `others`.
fn lacking<'a>(some: &'a [Adapter], others: &[Adapter]) -> Vec<&'a Adapter> {
    some.iter().filter(|one| !others.iter().any(|other| other.port == one.port)).collect()
}

/// Finds the USB port of an adapter by having it pulled: `None` where it is passed over.
///
/// # Errors
/// Nobody answers any more.
pub fn find_port(person: &mut dyn Person, places: &Places, console: &str) -> io::Result<Option<String>> {
    loop {
        let before = adapters(places);
        let answer =
            person.ask(&format!("pull the USB cable of console {console}, then press Enter (s: pass it over)"))?;
        if skips(&answer) {
            return Ok(None);
        }
        let without = changed(places, &before);
        let left = lacking(&before, &without);
        let found = match left.as_slice() {
            [one] => {
                person.tell(&format!("{} left", named(one)));
                Some(one.port.clone())
            }
            [] => {
                person.tell("no USB device with a tty left");
                None
            }
            several => {
                let names: Vec<String> = several.iter().map(|one| named(one)).collect();
                person.tell(&format!("more than one left: {}", names.join("; ")));
                None
            }
        };
        if !left.is_empty() {
            person.ask("plug it in again where it was, then press Enter")?;
            let back = changed(places, &without);
            let came = lacking(&back, &without);
            if let Some(port) = &found
                && !came.iter().any(|one| one.port == *port)
            {
                let names: Vec<String> = came.iter().map(|one| named(one)).collect();
                let names =
                    if names.is_empty() { "nothing came".to_string() } else { format!("{} came", names.join("; ")) };
                person.tell(&format!("{names}, and not what left: once more"));
                continue;
            }
        }
        if found.is_some() {
            return Ok(found);
        }
    }
}

/// Has the cables of all consoles pulled.
///
/// # Errors
/// Nobody answers any more.
pub fn cables(person: &mut dyn Person, board: &Board, places: &Places, walked: &mut Walked) -> io::Result<()> {
    board.consoles.iter().try_for_each(|console| cable(person, console, places, walked))
}

/// Moves all lines of a board, and switches its power.
///
/// # Errors
/// Nobody answers any more; the board has no owner that begins, or somebody else writes to it.
pub fn wires(
    person: &mut dyn Person,
    whose: &Whose,
    bench: &Bench,
    board: &Board,
    places: &Places,
    walked: &mut Walked,
) -> io::Result<()> {
    let lines: Vec<&Line> = board.lines.iter().filter(|line| is_played(line, board)).collect();
    if lines.is_empty() && board.power.is_none() {
        return Ok(());
    }
    let visit = Visit::begin(whose)?;
    visit.answer(&Asked { name: Some("check".into()), ..Asked::new("claim") })?;
    let mut ears = Ears::new(whose, bench, board, places)?;
    for line in lines {
        let name = &line.name;
        let about =
            format!("line {name}: press Enter, and it is 1 for a second and a half, then 0 again (s: pass it over)");
        let Use::Output { safe, .. } = line.use_as else { continue };
        let about = if safe { about.replace("is 1 for", "is 0 for").replace("then 0", "then 1") } else { about };
        let words = (about.as_str(), &*format!("line {name}"));
        moved(person, &mut ears, places, words, || pulse(&visit, name), walked)?;
    }
    if board.power.is_some() {
        let about = "power: press Enter, and it is switched off, then on again (s: pass it over)";
        moved(person, &mut ears, places, (about, "power"), || cycle(&visit), walked)?;
    }
    Ok(())
}

/// Whether a line is moved by itself: what switches the power is, as that.
fn is_played(line: &Line, board: &Board) -> bool {
    let by = board.power.as_ref().map(|power| &power.by);
    let supplies = matches!(by, Some(Supply::Line(name)) if *name == line.name);
    matches!(line.use_as, Use::Output { .. }) && !supplies
}

fn cable(person: &mut dyn Person, console: &Console, places: &Places, walked: &mut Walked) -> io::Result<()> {
    let name = &console.name;
    let found = crate::ports::find(console, places);
    match &found {
        Ok(Some(path)) => person.tell(&format!("console {name}: {}", path.display())),
        Ok(None) => person.tell(&format!("console {name}: no tty is where the file says")),
        Err(error) => person.tell(&format!("console {name}: {error}")),
    }
    let Tty::Usb(port, _) = &console.tty else {
        match found {
            Ok(Some(_)) => walked.well += 1,
            _ => walked.wrong.push(format!("console {name} has no tty")),
        }
        return Ok(());
    };
    match find_port(person, places, name)? {
        None => walked.wrong.push(format!("console {name} was passed over")),
        Some(there) if there == *port => walked.well += 1,
        Some(there) => {
            person.tell(&format!("console {name} hangs at USB port {there}, and the file says {port}"));
            walked.moved.push((name.clone(), there));
        }
    }
    Ok(())
}

/// Who listens to the consoles of the board, and of others that have an owner, and looks at the lines of the board that are read.
struct Ears {
    all: Vec<(String, Listening)>,
    watch: Watch,
    board: Board,
}

/// What a console had.
#[derive(Clone, Debug, Default)]
struct Heard {
    console: String,
    before: usize,
    during: usize,
    after: usize,
}

impl Ears {
    fn new(whose: &Whose, bench: &Bench, board: &Board, places: &Places) -> io::Result<Ears> {
        let mut all = vec![(board.name.clone(), Listening::new(whose.clone(), None, false)?)];
        for other in bench.boards.iter().filter(|other| other.name != board.name) {
            let whose = Whose { board: other.name.clone(), ..whose.clone() };
            // One that nobody owns is left as it is: opening its ttys may reset it.
            if Visit::new(&whose).is_ok()
                && let Ok(listening) = Listening::new(whose, None, false)
            {
                all.push((other.name.clone(), listening));
            }
        }
        Ok(Ears { all, watch: Watch::new(board, places)?, board: board.clone() })
    }

    /// Takes what the lines did since the last time: the name of each that has changed, how often, and its level at the end.
    fn seen(&mut self) -> io::Result<Vec<(String, u64, bool)>> {
        let mut entries = Vec::new();
        self.watch.take(&mut entries)?;
        let mut seen: Map<u8, (u64, bool)> = Map::new();
        for (_, entry) in entries {
            let axis::Entry::Edges(edges) = entry else { continue };
            for edge in edges {
                let (count, level) = seen.get_or_default(edge.channel);
                *count += 1;
                *level = edge.level;
            }
        }
        let named =
            self.board.lines.iter().filter_map(|line| Some((line.name.clone(), self.board.channel(&line.name)?)));
        let named = named.filter_map(|(name, channel)| seen.get(&channel).map(|(count, level)| (name, *count, *level)));
        Ok(named.collect())
    }

    /// Takes what came since the last time, as it was before, between and after two moments, in nanoseconds.
    fn heard(&mut self, begins: u64, ends: u64) -> io::Result<Vec<Heard>> {
        let mut all = Vec::new();
        for (board, listening) in &mut self.all {
            let names = listening.names().iter().map(|name| format!("{name} of {board}"));
            let mut heard: Vec<Heard> = names.map(|console| Heard { console, ..Heard::default() }).collect();
            while let Some(event) = listening.next(Duration::ZERO)? {
                if let Event::Entry(number, entry) = event
                    && let Entry::Came(Piece::Bytes { bytes, .. }) = &entry
                    && let Some(console) = heard.get_mut(usize::from(number))
                {
                    let count = match entry.ns() {
                        ns if ns < begins => &mut console.before,
                        ns if ns < ends => &mut console.during,
                        _ => &mut console.after,
                    };
                    *count += bytes.len();
                }
            }
            all.extend(heard);
        }
        Ok(all)
    }
}

/// Takes a line from its safe level and back: the moments, in nanoseconds, between which it was elsewhere.
fn pulse(visit: &Visit, line: &str) -> io::Result<(u64, u64)> {
    visit.ask(&Asked { name: Some(line.into()), ..Asked::new("pulse") })?;
    let mut moments = Vec::new();
    loop {
        let Some((Frame::Told(told), _)) = visit.hear(PULSE)? else {
            return Err(io::Error::new(ErrorKind::TimedOut, "the owner of the board does not answer"));
        };
        match (told.t.as_str(), told.ns) {
            ("set", Some(ns)) => moments.push(ns),
            ("granted", _) => break,
            _ => return Err(io::Error::other(told.why.unwrap_or_default())),
        }
    }
    match moments.as_slice() {
        [begins, ends] => Ok((*begins, *ends)),
        _ => Err(io::Error::other("the owner of the board does not say when it was moved")),
    }
}

/// Switches the power off and on: the moments, in nanoseconds, between which it was off.
fn cycle(visit: &Visit) -> io::Result<(u64, u64)> {
    let switch = |to: &str| visit.moves(&Asked { name: Some(to.into()), ..Asked::new("power") }, &mut |_| {});
    switch("off")?;
    let begins = monotonic_ns();
    thread::sleep(LISTENS);
    let ends = monotonic_ns();
    switch("on")?;
    Ok((begins, ends))
}

/// Has something moved, tells what that did, and asks whether it should.
fn moved(
    person: &mut dyn Person,
    ears: &mut Ears,
    places: &Places,
    (question, what): (&str, &str),
    act: impl Fn() -> io::Result<(u64, u64)> + Copy,
    walked: &mut Walked,
) -> io::Result<()> {
    if skips(&person.ask(question)?) {
        walked.wrong.push(format!("{what} was passed over"));
        return Ok(());
    }
    loop {
        if !act_and_tell(person, ears, places, what, act, walked)? {
            return Ok(());
        }
        let answer = person.ask(&format!("is that what {what} is to do? [Y/n, r: once more]"))?;
        if answer.trim() == "r" {
            continue;
        }
        if yes(&answer) {
            walked.well += 1;
        } else {
            walked.wrong.push(format!("{what} does not do what it should"));
        }
        return Ok(());
    }
}

/// Has something moved, and tells what that did. Whether it could be.
fn act_and_tell(
    person: &mut dyn Person,
    ears: &mut Ears,
    places: &Places,
    what: &str,
    act: impl FnOnce() -> io::Result<(u64, u64)>,
    walked: &mut Walked,
) -> io::Result<bool> {
    // What came while the person thought about it is of no use.
    ears.heard(0, 0)?;
    thread::sleep(LISTENS);
    ears.seen()?;
    let before = adapters(places);
    let stop = AtomicBool::new(false);
    let (result, left) = thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut left = Set::new();
            while !stop.load(Ordering::Relaxed) {
                left.extend(lacking(&before, &adapters(places)).into_iter().map(named));
                thread::sleep(LOOK);
            }
            left
        });
        let result = act();
        stop.store(true, Ordering::Relaxed);
        (result, looks.join().unwrap_or_default())
    });
    let (begins, ends) = match result {
        Ok(moments) => moments,
        Err(error) => {
            person.tell(&format!("{what} cannot be moved: {error}"));
            walked.wrong.push(format!("{what} cannot be moved"));
            return Ok(false);
        }
    };
    thread::sleep(LISTENS);
    for one in &left {
        person.tell(&format!("{one} left"));
    }
    let mut nothing = left.is_empty();
    for heard in ears.heard(begins + TAKES_NS, ends)? {
        let Heard { console, before, during, after } = heard;
        let said = match (before > 0, during > 0) {
            (true, false) => format!("console {console} went quiet"),
            (false, true) => format!("console {console} began to say something ({during} bytes)"),
            (false, false) if after > 0 => format!("console {console} said something after it ({after} bytes)"),
            _ => continue,
        };
        nothing = false;
        person.tell(&said);
    }
    for (line, count, level) in ears.seen()? {
        nothing = false;
        let times = if count == 1 { "once".to_string() } else { format!("{count} times") };
        person.tell(&format!("line {line} changed {times}, and is {} now", u8::from(level)));
    }
    if nothing {
        let lines = if ears.watch.is_empty() { "" } else { ", no line changed" };
        person.tell(&format!("no console went quiet or began to speak{lines}, and no USB device left"));
    }
    Ok(true)
}

/// Puts other USB ports for consoles of a board into the text of a bench; all else stays as it is, with its comments.
///
/// # Errors
/// The text is another than was read.
pub fn patched(text: &str, board: &str, moved: &[(String, String)]) -> Result<String, String> {
    let tree = json::parse(text.as_bytes()).map_err(|at| at.to_string())?;
    let mut places: Vec<(usize, usize, String)> = Vec::new();
    for (console, port) in moved {
        let keys = ["boards", board, "consoles", console, "usb"];
        let value = keys.iter().try_fold(&tree, |value: &Value, key| value.get(key));
        let (value, old) = value
            .and_then(|value| Some((value, value.as_text()?)))
            .ok_or_else(|| format!("console {console} has no USB port in the file any more"))?;
        let at = value.position().offset as usize;
        // A port has no letter that is written otherwise than it is.
        let end = at + old.len() + 2;
        if text.get(at..end) != Some(&format!("\"{old}\"")) || !port.bytes().all(|byte| b"-.0123456789".contains(&byte))
        {
            return Err(format!("the port of console {console} cannot be changed to {}", json::shown(port)));
        }
        places.push((at, end, format!("\"{port}\"")));
    }
    places.sort();
    let (mut out, mut from) = (String::new(), 0);
    for (at, end, port) in places {
        out.push_str(text.get(from..at).unwrap_or_default());
        out.push_str(&port);
        from = end;
    }
    out.push_str(text.get(from..).unwrap_or_default());
    Ok(out)
}

/// The text of a bench with one board and one console, to begin with.
pub fn begun(board: &str, kind: &str, place: &Tty) -> String {
    let (key, value) = match place {
        Tty::Usb(port, _) => ("usb", port),
        Tty::ById(name) => ("by_id", name),
        Tty::Path(path) => ("path", path),
    };
    let quoted = |text: &str| miniserde::json::to_string(text);
    format!(
        "{{\n    \"boards\": {{\n        {}: {{\n            \"type\": {},\n            \"consoles\": {{ \"main\": {{ \"{key}\": {}, \"baud\": 115200 }} }}\n        }}\n    }}\n}}\n",
        quoted(board),
        quoted(kind),
        quoted(value)
    )
}

/// Writes a file whole or not at all, with the permissions of the one in its place.
///
/// # Errors
/// The system's.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    // What a link leads to is written, and the link stays.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_path_buf(),
        found => found?,
    };
    let mut new = path.clone().into_os_string();
    new.push(".new");
    let mut file = fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    if let Ok(before) = fs::metadata(&path) {
        file.set_permissions(before.permissions())?;
    }
    file.sync_all()?;
    fs::rename(&new, &path)
}
