//! A board → the one process that opens its ttys: it records always, lets any number of clients read and one write, gives a pty to
//! a tool, and goes on in another version of itself without a byte missing.
//!
//! What decides is `desk`; here is what is open. A copy of each open file is with the guard, so that this process may die at any
//! moment: the next one takes them back from there, and opens nothing.

mod clients;
mod handing;
mod holding;
mod moving;
mod station;

use self::clients::Seat;
use self::handing::{Driven, Known, Told as Handed};
use self::holding::{held_ports, is_where, make_safe, opened, requested, take_back};
use self::moving::Moving;
use self::station::{Says, Station};
use crate::describing;
use crate::desk::{self, Client, Desk, Mode};
use crate::frames::{self, Asked, Status, Told};
use crate::going_on;
use crate::guard::{self, Said};
use crate::history::History;
use crate::levels;
use crate::lines::{self, Outputs};
use crate::link::{Link, Listener};
use crate::ports::{Places, find};
use crate::serial::{Serial, monotonic_ns};
use crate::telling::tell;
use sai_core::bench::Board;
use sai_core::limits::Millis;
use sai_core::ordered::Map;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Milliseconds between two looks for a guard that is gone.
const GUARD_MS: Millis = 250;
/// Time in which the last bytes of a tool that has ended reach the tty.
const LAST: Duration = Duration::from_secs(1);

/// What an owner is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The file that describes the bench.
    pub file: OsString,
    /// Its board.
    pub board: Board,
    /// What is in the file, or was when it was read.
    pub text: Vec<u8>,
    /// The directory of sockets.
    pub directory: PathBuf,
    /// Where ttys are found.
    pub places: Places,
}

struct Owner {
    setup: Setup,
    program: PathBuf,
    listener: Listener,
    guard: Option<Link>,
    /// When a guard is looked for.
    guard_at: Millis,
    /// The refusal of a guard that was told last.
    guard_said: String,
    stations: Vec<Station>,
    /// Its lines that are driven.
    lines: Vec<Outputs>,
    clients: Map<Client, Seat>,
    next: Client,
    desk: Desk,
    /// What the one writes as who writes, and whether nobody reads it.
    writer: (String, bool),
    /// The console that a tool has.
    tool: Option<usize>,
    /// The lines that are on their way.
    moving: Option<Moving>,
    ends: bool,
}

/// Owns a board until it is told to stop.
///
/// # Errors
/// Another process does; no guard runs; a tty is another's, or cannot be set up.
pub fn run(setup: Setup, goes_on: bool) -> io::Result<()> {
    // Who listens to a UART comes before what builds beside it, where that is allowed.
    let _ = rustix::process::setpriority_process(None, -10);
    // What is started from a terminal outlives it.
    let _ = rustix::process::setsid();
    let program = std::env::current_exe()?;
    let mut owner = if goes_on { Owner::resumed(setup, program)? } else { Owner::new(setup, program)? };
    while !owner.ends {
        owner.turn()?;
    }
    Ok(())
}

fn now() -> Millis {
    monotonic_ns() / 1_000_000
}

impl Owner {
    fn new(setup: Setup, program: PathBuf) -> io::Result<Owner> {
        let listener = Listener::new(&frames::socket(&setup.directory, &setup.board.name))?;
        let (guard, given) = take_back(&setup)?;
        let mut given: Map<String, (String, OwnedFd)> =
            given.into_iter().map(|(thing, file)| (thing.name, (thing.what, file))).collect();
        let driven = lines::driven(&setup.board);
        // What the bench no longer has, or calls otherwise, is let go before it is opened again.
        let ports = held_ports(&setup.board);
        let is_known = |name: &String| {
            let consoles = setup.board.consoles.iter().any(|console| console.name == *name);
            consoles || ports.contains(name) || driven.iter().any(|group| group.held_as() == *name)
        };
        let mut gone: Vec<String> = given.keys().filter(|name| !is_known(name)).cloned().collect();
        for console in &setup.board.consoles {
            let elsewhere = given.get(&console.name).is_some_and(|(_, tty)| !is_where(console, &setup.places, tty));
            gone.extend(elsewhere.then(|| console.name.clone()));
        }
        let let_go = !gone.is_empty();
        if let_go {
            given.retain(|name, _| !gone.contains(name));
            Said { names: Some(gone), ..Said::new("lets-go") }.send(&guard, &[])?;
        }
        let mut stations = Vec::new();
        for console in &setup.board.consoles {
            let named = |error: io::Error| io::Error::new(error.kind(), format!("console {}: {error}", console.name));
            let serial = match given.remove(&console.name) {
                // A guard of before this version knew of no BREAK, and what is safe may be otherwise by now.
                Some((_, tty)) => make_safe(&setup.board, console, tty.as_fd(), levels::ALL)
                    .and_then(|()| Serial::go_on(console, &setup.places, Some(tty), 0)),
                None => match find(console, &setup.places).map_err(io::Error::other) {
                    Ok(None) => Serial::go_on(console, &setup.places, None, 0),
                    Ok(Some(_)) => opened(&setup.board, console, &setup.places),
                    Err(error) => Err(error),
                },
            };
            let history = History::new(console.settings.baud);
            stations.push(Station::new(console.clone(), serial.map_err(named)?, history));
        }
        let mut held = Vec::new();
        for group in driven {
            held.push(match given.remove(&group.held_as()) {
                Some((what, file)) => {
                    // The guard has set them so when the owner before died, by what its bench said.
                    let levels = group.safe();
                    let mut lines = Outputs::go_on(group, what, file, levels);
                    lines.make_safe()?;
                    lines
                }
                None => requested(&group, &setup.places, let_go)?,
            });
        }
        let mut owner = Owner::of(setup, program, listener, stations, Desk::default());
        owner.lines = held;
        owner.guard = Some(guard);
        owner.make_ports_safe();
        owner.leave_all();
        Ok(owner)
    }

    fn of(setup: Setup, program: PathBuf, listener: Listener, stations: Vec<Station>, desk: Desk) -> Owner {
        Owner {
            setup,
            program,
            listener,
            guard: None,
            guard_at: 0,
            guard_said: String::new(),
            stations,
            lines: Vec::new(),
            clients: Map::new(),
            next: 0,
            desk,
            writer: (String::new(), false),
            tool: None,
            moving: None,
            ends: false,
        }
    }

    fn resumed(setup: Setup, program: PathBuf) -> io::Result<Owner> {
        let strange = || io::Error::new(ErrorKind::InvalidData, "what another owner held is not what it said");
        let (bytes, files) = going_on::taken()?;
        let (known, entries) = handing::decode(&bytes)?;
        let mut files = files.into_iter();
        let mut file = || files.next().ok_or_else(strange);
        let listener = Listener::of(file()?, file()?);
        let guard = if known.guard { Some(Link::again(file()?)) } else { None };
        let mut before = Map::new();
        for (console, entries) in known.consoles.iter().zip(entries) {
            let tty = if console.tty { Some(file()?) } else { None };
            before.insert(console.name.clone(), (tty, console.offset, entries));
        }
        let (mut held, mut gone) = (Map::new(), Vec::new());
        for lines in known.lines.iter().flatten() {
            held.insert(lines.name.clone(), (lines.what.clone(), file()?, lines.levels));
        }
        let groups = lines::driven(&setup.board);
        // Those that the bench has otherwise now are let go, and may be among those that are requested.
        held.retain(|name, _| {
            let is_known = groups.iter().any(|group| group.held_as() == *name);
            gone.extend((!is_known).then(|| name.clone()));
            is_known
        });
        if let (Some(guard), false) = (&guard, gone.is_empty()) {
            let _ = Said { names: Some(gone.clone()), ..Said::new("lets-go") }.send(guard, &[]);
        }
        let (mut driven, mut new) = (Vec::new(), false);
        for group in groups {
            driven.push(match held.remove(&group.held_as()) {
                Some((what, file, levels)) => Outputs::go_on(group, what, file, levels),
                None => {
                    new = true;
                    requested(&group, &setup.places, !gone.is_empty())?
                }
            });
        }
        let (mut stations, mut elsewhere) = (Vec::new(), Vec::new());
        for console in &setup.board.consoles {
            let (mut tty, offset, entries) = before.remove(&console.name).unwrap_or_default();
            if tty.take_if(|tty| !is_where(console, &setup.places, tty)).is_some() {
                elsewhere.push(console.name.clone());
            }
            let mut history = History::new(console.settings.baud);
            for entry in entries {
                history.push(entry, true);
            }
            let serial = Serial::go_on(console, &setup.places, tty, offset)?;
            stations.push(Station::new(console.clone(), serial, history));
        }
        // Lines that were requested anew are where they are safe, and a mode that is reached otherwise now is another one.
        let same = |mode: &Mode| match (mode, &known.way) {
            (Mode::Reached(name), Some(way)) => setup.board.told_way_to(name).as_ref() == Some(way),
            (Mode::Reached(name), None) => setup.board.modes.contains_key(name),
            (Mode::Unknown | Mode::Moving, _) => false,
        };
        let mode = Some(known.mode()).filter(|mode| !new && gone.is_empty() && same(mode));
        let mut owner = Owner::of(setup, program, listener, stations, Desk::going_on(mode.unwrap_or_default()));
        owner.guard = guard;
        owner.lines = driven;
        let gone: Vec<String> = before.into_iter().map(|(name, _)| name).chain(elsewhere).collect();
        if !gone.is_empty() {
            owner.say_to_guard(&Said { names: Some(gone), ..Said::new("lets-go") }, &[]);
        }
        // What is safe may be otherwise by now, too.
        owner.leave_all();
        Ok(owner)
    }

    /// Waits for something to happen, and does what is to be done about it.
    fn turn(&mut self) -> io::Result<()> {
        self.stations_turn();
        self.moving_turn();
        self.serve();
        self.look_for_guard();
        let happened = self.wait()?;
        if happened.guard {
            self.hear_guard();
        }
        for client in happened.clients {
            self.hear(client);
        }
        if happened.came {
            match self.listener.accept() {
                Ok(link) => {
                    let client = self.next;
                    self.next += 1;
                    let process = link.peer();
                    self.clients.insert(client, Seat::new(link, self.stations.len()));
                    self.happens(desk::Input::Came(client, process));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => tell(&format!("board {}: a client was not let in: {error}", self.setup.board.name)),
            }
        }
        Ok(())
    }

    fn stations_turn(&mut self) {
        let now = now();
        let mut all = Vec::new();
        for (index, station) in self.stations.iter_mut().enumerate() {
            let writer = (self.writer.0.as_str(), self.writer.1);
            let read = self.clients.values().any(|seat| seat.reads(index));
            let mut says = Vec::new();
            station.serial.rest();
            station.drain(now, read, writer, &mut says);
            station.turn(now, writer, &mut says);
            station.pass(now, writer, &mut says);
            all.extend(says.into_iter().map(|said| (index, said)));
        }
        for (index, said) in all {
            self.station_says(index, said);
        }
    }

    fn station_says(&mut self, index: usize, said: Says) {
        let told = match said {
            Says::TtyChanged => return self.tty_changed(index),
            Says::Sent(count) => Told { sent: Some(count), ..Told::new("sent", "send") },
            Says::Failed(count, why) => Told { sent: Some(count), why: Some(why), ..Told::new("failed", "send") },
        };
        if let Some((client, _)) = self.desk.writer() {
            self.answer(client, &told, None);
        }
    }

    fn say_to_guard(&mut self, said: &Said, files: &[BorrowedFd<'_>]) {
        if let Some(guard) = &self.guard
            && said.send(guard, files).is_err()
        {
            self.guard = None;
        }
    }

    /// Finds a guard again that was killed: all that it held is held here.
    fn look_for_guard(&mut self) {
        if self.guard.is_some() || now() < self.guard_at {
            return;
        }
        self.guard_at = now() + GUARD_MS;
        if let Ok(link) = Link::connect(&guard::socket(&self.setup.directory)) {
            self.guard = Some(link);
            let board = self.setup.board.name.clone();
            self.say_to_guard(&Said { board: Some(board), ..Said::new("owns") }, &[]);
            self.leave_all();
        }
    }

    fn hear_guard(&mut self) {
        let Some(guard) = &self.guard else { return };
        match guard.receive() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(Some(message)) => {
                let said = Said::of(&message.bytes).unwrap_or_else(|| Said::new(""));
                if said.t == "refused" {
                    let why = said.why.unwrap_or_default();
                    if why != self.guard_said {
                        tell(&format!("board {}: the guard refuses: {why}", self.setup.board.name));
                    }
                    (self.guard, self.guard_said) = (None, why);
                }
            }
            Ok(None) | Err(_) => self.guard = None,
        }
    }

    fn happens(&mut self, input: desk::Input) {
        let mut out = Vec::new();
        self.desk.handle(now(), input.clone(), &mut out);
        for output in out {
            self.carry_out(&input, output);
        }
    }

    fn carry_out(&mut self, input: &desk::Input, output: desk::Output) {
        let to = clients::asked_by(input);
        match output {
            desk::Output::Grant(client) => match input {
                // What was sent is told when it went out.
                desk::Input::Send(_) => {}
                desk::Input::ToolEnded(_) => {}
                _ => self.answer(client, &Told::new("granted", to), None),
            },
            desk::Output::Refuse(client, why) => {
                self.answer(client, &Told { why: Some(why), ..Told::new("refused", to) }, None);
            }
            desk::Output::Close(client) => {
                self.serve_one(client);
                self.clients.remove(&client);
            }
            desk::Output::OpenTool(client) => self.open_tool(client),
            desk::Output::CloseTool => {
                let ended = matches!(input, desk::Input::ToolEnded(_));
                let unread = self.close_tool(ended);
                if let desk::Input::ToolEnded(client) = input {
                    let told = Told { unread: Some(unread), ..Told::new("granted", to) };
                    self.answer(*client, &told, None);
                }
            }
            desk::Output::DropSent => {
                let mut says = Vec::new();
                for station in &mut self.stations {
                    station.drop_sent(now(), (&self.writer.0, self.writer.1), &mut says);
                }
            }
            desk::Output::Move(client, mode) => {
                let way = self.clients.get_mut(&client).and_then(|seat| seat.way.take());
                self.begin_moving(client, way, mode);
            }
            desk::Output::Update(client) => self.update(client),
            desk::Output::Stop(client) => {
                self.make_all_safe();
                let ports = held_ports(&self.setup.board);
                let ttys = self.stations.iter().map(|station| station.console.name.clone());
                let names = ttys.chain(ports).chain(self.lines.iter().map(|lines| lines.group().held_as())).collect();
                self.say_to_guard(&Said { names: Some(names), ..Said::new("lets-go") }, &[]);
                self.answer(client, &Told::new("granted", to), None);
                // Whoever listens would start another one in its place.
                let clients: Vec<Client> = self.clients.keys().copied().collect();
                for client in clients {
                    self.answer(client, &Told::new("stopping", to), None);
                    self.serve_one(client);
                }
                self.ends = true;
            }
        }
    }

    fn open_tool(&mut self, client: Client) {
        let Some(index) = self.clients.get(&client).and_then(|seat| seat.tool_console) else {
            return self.answer(client, &Told::new("granted", "tool"), None);
        };
        let settings = self.clients.get(&client).map(|seat| seat.tool_settings).unwrap_or_default();
        let writer = (self.writer.0.as_str(), self.writer.1);
        let opened = match self.stations.get_mut(index) {
            Some(station) => {
                station.drop_sent(now(), writer, &mut Vec::new());
                station.open_tool(settings)
            }
            None => Err(io::Error::new(ErrorKind::NotFound, "the board has no console")),
        };
        match opened {
            Ok((path, file)) => {
                self.tool = Some(index);
                let offset = self.stations.get(index).map(|station| station.history.end());
                let told = Told { path: Some(path), offset, ..Told::new("tty", "tool") };
                self.answer(client, &told, Some(file));
            }
            Err(error) => {
                let mut out = Vec::new();
                self.desk.handle(now(), desk::Input::ToolEnded(client), &mut out);
                self.answer(client, &Told { why: Some(error.to_string()), ..Told::new("refused", "tool") }, None);
            }
        }
    }

    /// Closes the pty of a tool. What one that ended had still to send goes out before.
    fn close_tool(&mut self, ended: bool) -> u64 {
        let Some(station) = self.tool.take().and_then(|index| self.stations.get_mut(index)) else { return 0 };
        let writer = (self.writer.0.as_str(), self.writer.1);
        let began = Instant::now();
        while ended && began.elapsed() < LAST {
            station.turn(now(), writer, &mut Vec::new());
            if station.takes_of_tool() {
                station.pass(now(), writer, &mut Vec::new());
                if station.takes_of_tool() {
                    break;
                }
            }
            thread::sleep(Duration::from_millis(1));
        }
        station.close_tool()
    }

    /// Becomes the program that is at our own's place now. Clients are not taken along: they come again, with what they have.
    fn update(&mut self, client: Client) {
        // The file as it is now is what it goes on by, and without one it would not.
        let described = describing::board(&self.setup.file, &self.setup.board.name).map_err(|errors| errors.join("\n"));
        let checked = described.and_then(|_| going_on::check(&self.program).map_err(|error| error.to_string()));
        if let Err(why) = checked {
            let why = Some(why);
            return self.answer(client, &Told { why, ..Told::new("refused", "update") }, None);
        }
        self.answer(client, &Told::new("updating", "update"), None);
        self.serve();
        let mut held = Vec::new();
        for station in &mut self.stations {
            let (tty, offset) = station.serial.stop();
            // The thread is gone; what it brought is taken, and what comes now waits in the kernel.
            station.drain(now(), true, (&self.writer.0, self.writer.1), &mut Vec::new());
            held.push((tty, offset));
        }
        let consoles = self.stations.iter().zip(&held).map(|(station, (tty, offset))| Handed {
            name: station.console.name.clone(),
            offset: *offset,
            tty: tty.is_some(),
            entries: station.history.entries().count() as u64,
        });
        let mode = self.mode();
        let way = mode.as_ref().and_then(|mode| self.setup.board.told_way_to(mode));
        let driven = self.lines.iter().map(|lines| Driven {
            name: lines.group().held_as(),
            what: lines.what().into(),
            levels: lines.levels(),
        });
        let (consoles, driven) = (consoles.collect(), Some(driven.collect()));
        let known = Known { mode, way, guard: self.guard.is_some(), consoles, lines: driven };
        let histories: Vec<&History> = self.stations.iter().map(|station| &station.history).collect();
        let bytes = handing::encode(&known, &histories);
        let mut files: Vec<BorrowedFd<'_>> = self.listener.files().to_vec();
        files.extend(self.guard.as_ref().map(Link::as_fd));
        files.extend(held.iter().filter_map(|(tty, _)| Some(tty.as_ref()?.as_fd())));
        files.extend(self.lines.iter().map(Outputs::file));
        let arguments = arguments(&self.setup.file, &self.setup.board.name, &self.setup.directory);
        let error = going_on::go_on(&self.program, &arguments, &bytes, &files);
        tell(&format!("board {}: its owner goes on as it is: {error}", self.setup.board.name));
        for (station, (tty, offset)) in self.stations.iter_mut().zip(held) {
            let tty = tty.and_then(|tty| tty.as_fd().try_clone_to_owned().ok());
            match Serial::go_on(&station.console, &self.setup.places, tty, offset) {
                Ok(serial) => station.serial = serial,
                Err(error) => tell(&format!("console {}: {error}", station.console.name)),
            }
        }
    }

    fn status(&self) -> Status {
        Status {
            board: self.setup.board.name.clone(),
            process: std::process::id(),
            mode: self.mode(),
            writer: self.desk.writer().map(|(_, name)| name.to_string()),
            guarded: self.guard.is_some(),
            consoles: self.stations.iter().map(Station::status).collect(),
            bench: Some(self.setup.board.digest),
        }
    }

    /// The mode that the board is in, where that is known.
    fn mode(&self) -> Option<String> {
        match self.desk.mode() {
            Mode::Reached(mode) => Some(mode.clone()),
            Mode::Unknown | Mode::Moving => None,
        }
    }
}

/// The arguments of an owner's command line.
pub fn arguments(file: &OsString, board: &str, directory: &Path) -> [OsString; 5] {
    [file.clone(), "owner".into(), board.into(), "--run".into(), directory.as_os_str().to_os_string()]
}

/// Whether a board has what a `play`, `mode` or `power` asks for.
///
/// # Errors
/// It has not, and what it has.
pub fn can_move(board: &Board, asked: &Asked) -> Result<(), String> {
    moving::way(board, asked).map(drop)
}
