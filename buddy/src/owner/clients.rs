//! The clients of an owner: what they ask is given to its desk, and each is sent what it has not had yet, as fast as it reads.

use super::moving::{self, Moving, Way};
use super::{Owner, now};
use crate::desk::{Client, Input, Mode};
use crate::frames::{self, Asked, FAILED, SEND_BYTES, Told};
use crate::history::Place;
use crate::link::Link;
use crate::serial::monotonic_ns;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Answers that wait for a client at most; what it asks beyond is not read before it has read some of them.
const ANSWERS_MAX: usize = 16;
/// Entries that one client is sent in a row.
const IN_A_ROW: usize = 256;

/// A client.
#[derive(Debug)]
pub struct Seat {
    link: Link,
    /// Its place in the history of each console, where it reads it.
    places: Vec<Option<Place>>,
    answers: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// Whether it has to read something before it can be sent more.
    full: bool,
    /// The console that it wants for a tool.
    pub tool_console: Option<usize>,
    /// The speed that it wants then, and whether even parity.
    pub tool_settings: (Option<u32>, bool),
    /// What it wants moved.
    pub way: Option<Way>,
    /// The moment up to which it wants to have all, in nanoseconds.
    moment: Option<u64>,
}

impl Seat {
    pub fn new(link: Link, consoles: usize) -> Self {
        let places = vec![None; consoles];
        let answers = VecDeque::new();
        let (tool_console, tool_settings) = (None, (None, false));
        Seat { link, places, answers, full: false, tool_console, tool_settings, way: None, moment: None }
    }

    /// Whether it reads this console.
    pub fn reads(&self, console: usize) -> bool {
        self.places.get(console).is_some_and(Option::is_some)
    }
}

/// What has happened.
#[derive(Debug, Default)]
pub struct Happened {
    pub guard: bool,
    pub came: bool,
    pub clients: Vec<Client>,
}

/// The word of the request that an input of the desk comes from.
pub fn asked_by(input: &Input) -> &'static str {
    match input {
        Input::Claim(..) => "claim",
        Input::Release(_) => "release",
        Input::Send(_) => "send",
        Input::Tool(_) => "tool",
        Input::ToolEnded(_) => "tool-ended",
        Input::Move(_, Some(_)) => "mode",
        Input::Move(_, None) => "play",
        Input::Update(_) => "update",
        Input::Stop(_) => "stop",
        Input::Came(..) | Input::Moved(_) | Input::Gone(_) => "connect",
    }
}

impl Owner {
    /// Waits until something has happened, or it is time for something.
    pub(super) fn wait(&mut self) -> io::Result<Happened> {
        let mut deadline = self.stations.iter().filter_map(|station| station.deadline()).min();
        deadline = deadline.into_iter().chain(self.moving.as_ref().and_then(Moving::deadline)).min();
        if self.guard.is_none() {
            deadline = deadline.into_iter().chain([self.guard_at]).min();
        }
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_sub(now());
            Timespec { tv_sec: (left / 1000) as i64, tv_nsec: (left % 1000 * 1_000_000) as i64 }
        });
        let ttys: Vec<_> = self.stations.iter().filter_map(|station| station.waits_for_tty()).collect();
        let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
        if let Some(guard) = &self.guard {
            fds.push(PollFd::new(guard, PollFlags::IN));
        }
        for seat in self.clients.values() {
            let mut flags = if seat.answers.len() < ANSWERS_MAX { PollFlags::IN } else { PollFlags::empty() };
            flags |= if seat.full { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::new(&seat.link, flags));
        }
        for station in &self.stations {
            fds.push(PollFd::from_borrowed_fd(station.serial.woken(), PollFlags::IN));
            if let Some(tool) = &station.tool {
                let mut flags = if station.takes_of_tool() { PollFlags::IN } else { PollFlags::empty() };
                flags |= if tool.unread.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                fds.push(PollFd::new(&tool.master, flags));
            }
        }
        let switched = self.moving.as_ref().and_then(Moving::woken);
        fds.extend(switched.map(|ended| PollFd::from_borrowed_fd(ended, PollFlags::IN)));
        fds.extend(ttys.iter().map(|tty| PollFd::new(&**tty, PollFlags::OUT)));
        match poll(&mut fds, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(Happened::default()),
            other => other?,
        };
        let mut happened = fds.iter().map(|fd| fd.revents());
        let came = happened.next().is_some_and(|events| !events.is_empty());
        let guard = self.guard.is_some() && happened.next().is_some_and(|events| !events.is_empty());
        let spoke = |events: &PollFlags| events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
        let clients = self.clients.keys().zip(happened).filter(|(_, events)| spoke(events)).map(|(client, _)| *client);
        Ok(Happened { guard, came, clients: clients.collect() })
    }

    /// Sends to all clients what they have not had yet.
    pub(super) fn serve(&mut self) {
        let clients: Vec<Client> = self.clients.keys().copied().collect();
        for client in clients {
            self.serve_one(client);
        }
    }

    pub(super) fn serve_one(&mut self, client: Client) {
        let Some(seat) = self.clients.get_mut(&client) else { return };
        seat.full = false;
        let mut broken = false;
        while let Some((bytes, file)) = seat.answers.front() {
            let files: Vec<BorrowedFd<'_>> = file.iter().map(OwnedFd::as_fd).collect();
            match seat.link.send(bytes, &files) {
                Ok(()) => drop(seat.answers.pop_front()),
                Err(error) => {
                    seat.full = error.kind() == ErrorKind::WouldBlock;
                    broken = !seat.full;
                    break;
                }
            }
        }
        for (index, (station, place)) in self.stations.iter().zip(&mut seat.places).enumerate() {
            let Some(place) = place else { continue };
            for _ in 0..IN_A_ROW {
                let before = *place;
                if seat.full || broken {
                    break;
                }
                let Some(entry) = station.history.next(place) else { break };
                if let Err(error) = seat.link.send(&frames::encode(index as u8, &entry), &[]) {
                    *place = before;
                    seat.full = error.kind() == ErrorKind::WouldBlock;
                    broken = !seat.full;
                }
            }
            // There is more, and the others have their turn first.
            let mut next = *place;
            seat.full |= station.history.next(&mut next).is_some();
        }
        if let Some(ns) = seat.moment.filter(|_| !seat.full && !broken) {
            let told = Told { ns: Some(ns), ..Told::new("moment", "moment") };
            match seat.link.send(&told.encode(), &[]) {
                Ok(()) => seat.moment = None,
                Err(error) => {
                    seat.full = error.kind() == ErrorKind::WouldBlock;
                    broken = !seat.full;
                }
            }
        }
        if broken {
            self.gone(client);
        }
    }

    fn gone(&mut self, client: Client) {
        if self.clients.remove(&client).is_some() {
            self.happens(Input::Gone(client));
        }
    }

    /// Has an answer sent to a client.
    pub(super) fn answer(&mut self, client: Client, told: &Told, file: Option<OwnedFd>) {
        if let Some(seat) = self.clients.get_mut(&client) {
            seat.answers.push_back((told.encode(), file));
        }
    }

    /// Takes what a client asks.
    pub(super) fn hear(&mut self, client: Client) {
        let Some(seat) = self.clients.get(&client) else { return };
        let message = match seat.link.receive() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => return self.gone(client),
        };
        let Some(asked) = Asked::decode(&message.bytes) else { return self.gone(client) };
        let named = asked.console.as_deref();
        let console = match named {
            None => Some(0),
            Some(name) => self.stations.iter().position(|station| station.console.name == name),
        };
        let Some(console) = console else {
            let why = Some(format!("the board has no console {:?}", named.unwrap_or_default()));
            return self.answer(client, &Told { why, ..Told::new("refused", &asked.t) }, None);
        };
        match asked.t.as_str() {
            "listen" => self.listen(client, named.map(|_| console), &asked),
            "status" => {
                let status = Some(self.status());
                self.answer(client, &Told { status, ..Told::new("status", "status") }, None);
            }
            "bench" => match self.described() {
                Ok(file) => self.answer(client, &Told::new("bench", "bench"), Some(file)),
                Err(error) => {
                    self.answer(client, &Told { why: Some(error.to_string()), ..Told::new("refused", "bench") }, None);
                }
            },
            "moment" => {
                // What was stamped before this is in the ring by now, or in what readers have had.
                let ns = monotonic_ns();
                self.stations_turn();
                if let Some(seat) = self.clients.get_mut(&client) {
                    seat.moment = Some(ns);
                }
            }
            "claim" => {
                let name = asked.name.clone().unwrap_or_default();
                self.happens(Input::Claim(client, name.clone()));
                if self.desk.writer().is_some_and(|(writer, _)| writer == client) {
                    self.writer = (name, asked.secret.unwrap_or(false));
                }
            }
            "release" => self.happens(Input::Release(client)),
            "send" => self.send(client, console, &asked),
            "tool" => {
                if let Some(seat) = self.clients.get_mut(&client) {
                    seat.tool_console = asked.tty.unwrap_or(true).then_some(console);
                    seat.tool_settings = (asked.baud, asked.even.unwrap_or(false));
                }
                self.happens(Input::Tool(client));
            }
            "tool-ended" => {
                let failed = asked.name.as_deref() == Some(FAILED) && self.desk.has_tool();
                let failed = failed && self.desk.writer().is_some_and(|(writer, _)| writer == client);
                self.happens(Input::ToolEnded(client));
                // Half an image may be on the board, wherever its lines are.
                if failed && *self.desk.mode() != Mode::Moving {
                    self.happens(Input::Moved(None));
                }
            }
            "mode" | "play" | "power" | "pulse" => match moving::way(&self.setup.board, &asked) {
                Ok(way) => {
                    let mode = asked.name.filter(|_| asked.t == "mode");
                    if let Some(seat) = self.clients.get_mut(&client) {
                        seat.way = Some(way);
                    }
                    self.happens(Input::Move(client, mode));
                }
                Err(why) => {
                    self.answer(client, &Told { why: Some(why), ..Told::new("refused", &asked.t) }, None);
                }
            },
            "update" => self.happens(Input::Update(client)),
            "stop" => self.happens(Input::Stop(client)),
            other => {
                let why = Some("this owner knows no such request".to_string());
                self.answer(client, &Told { why, ..Told::new("refused", other) }, None);
            }
        }
    }

    /// The text of the file that it goes by, to be read by another process.
    fn described(&self) -> io::Result<OwnedFd> {
        let mut memory = File::from(memfd_create("bench", MemfdFlags::CLOEXEC)?);
        memory.write_all(&self.setup.text)?;
        memory.rewind()?;
        Ok(memory.into())
    }

    fn listen(&mut self, client: Client, console: Option<usize>, asked: &Asked) {
        let Some(seat) = self.clients.get_mut(&client) else { return };
        for (index, (station, place)) in self.stations.iter().zip(&mut seat.places).enumerate() {
            if console.is_none_or(|console| console == index) {
                let history = &station.history;
                *place = Some(match (asked.from, asked.kept) {
                    (Some(from), _) => history.at(from),
                    (None, Some(true)) => history.oldest(),
                    (None, _) => history.now(),
                });
            }
        }
        self.answer(client, &Told::new("granted", "listen"), None);
    }

    fn send(&mut self, client: Client, console: usize, asked: &Asked) {
        let bytes = asked.text.as_deref().and_then(frames::of_latin).unwrap_or_default();
        let room = self.stations.get(console).map_or(0, |station| station.room());
        if bytes.is_empty() || bytes.len() > SEND_BYTES || bytes.len() > room {
            let why = Some(format!("expected 1 to {SEND_BYTES} bytes, after those before have gone out"));
            return self.answer(client, &Told { why, ..Told::new("refused", "send") }, None);
        }
        self.happens(Input::Send(client));
        if self.desk.may_send(client)
            && let Some(station) = self.stations.get_mut(console)
        {
            let mut says = Vec::new();
            station.send(now(), &bytes, (&self.writer.0, self.writer.1), &mut says);
            for said in says {
                self.station_says(console, said);
            }
        }
    }
}
