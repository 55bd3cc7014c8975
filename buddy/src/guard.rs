//! Connections of owners, with open files → those files, held; and safe levels for the board of an owner that died.
//!
//! The process does nothing else, so that nothing but a fault of the machine ends it: it reads no configuration, starts no program,
//! and writes to no disk.

use crate::going_on;
use crate::keeping::{Input, Keeping, Kept, Output, Peer, Thing};
use crate::levels;
use crate::link::{Link, Listener};
use crate::telling::tell;
use miniserde::{Deserialize, Serialize, json};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, getrlimit, setrlimit};
use sai_core::ordered::Map;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What owners and guard say to each other: one object of JSON a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// `owns`, `given`, `leaves`, `lets-go`, `refused`, `update`, `updating`.
    pub t: String,
    /// The board, in `owns`.
    pub board: Option<String>,
    /// Things, in `given` and `leaves`, in the order of the files beside them.
    pub things: Option<Vec<Thing>>,
    /// Names of things, in `lets-go`.
    pub names: Option<Vec<String>>,
    /// Why, in `refused`.
    pub why: Option<String>,
}

impl Said {
    /// One that is of this kind.
    pub fn new(t: &str) -> Self {
        Said { t: t.into(), ..Default::default() }
    }

    /// Sends it, with files.
    ///
    /// # Errors
    /// The other end is gone, or does not read.
    pub fn send(&self, link: &Link, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        link.send(json::to_string(self).as_bytes(), files)
    }

    /// The one in a message.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        json::from_str(std::str::from_utf8(bytes).ok()?).ok()
    }
}

/// Where a guard listens, below the directory of sockets.
pub fn socket(directory: &Path) -> PathBuf {
    directory.join("guard.socket")
}

struct Guard {
    program: PathBuf,
    directory: PathBuf,
    listener: Listener,
    links: Map<Peer, Link>,
    next: Peer,
    held: Map<(String, String), OwnedFd>,
    machine: Keeping,
}

/// Guards all boards of this machine until it is ended.
///
/// # Errors
/// Another one does; there is no directory for its socket.
pub fn run(directory: &Path, goes_on: bool) -> io::Result<()> {
    // A board has dozens of files, and a soft limit of 1024 is soon reached.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    // What is started from a terminal outlives it.
    let _ = rustix::process::setsid();
    let program = std::env::current_exe()?;
    let mut guard = if goes_on { Guard::resumed(program, directory)? } else { Guard::new(program, directory)? };
    loop {
        guard.turn()?;
    }
}

impl Guard {
    fn new(program: PathBuf, directory: &Path) -> io::Result<Guard> {
        Ok(Guard {
            program,
            directory: directory.to_path_buf(),
            listener: Listener::new(&socket(directory))?,
            links: Map::new(),
            next: 0,
            held: Map::new(),
            machine: Keeping::default(),
        })
    }

    fn resumed(program: PathBuf, directory: &Path) -> io::Result<Guard> {
        let strange = || io::Error::new(ErrorKind::InvalidData, "what another guard held is not what it said");
        let (known, files) = going_on::taken()?;
        let text = String::from_utf8(known).map_err(|_| strange())?;
        let kept: Kept = json::from_str(&text).map_err(|_| strange())?;
        let mut files = files.into_iter();
        let mut file = || files.next().ok_or_else(strange);
        let listener = Listener::of(file()?, file()?);
        let mut links = Map::new();
        for peer in 0..kept.peers.len() as Peer {
            links.insert(peer, Link::of(file()?)?);
        }
        let mut held = Map::new();
        for (board, thing) in &kept.things {
            held.insert((board.clone(), thing.name.clone()), file()?);
        }
        let next = links.len() as Peer;
        let machine = Keeping::from(&kept);
        Ok(Guard { program, directory: directory.to_path_buf(), listener, links, next, held, machine })
    }

    /// Waits for something to happen, and does what is to be done about it.
    fn turn(&mut self) -> io::Result<()> {
        let (mut came, mut spoke, mut gone) = (false, Vec::new(), Vec::new());
        {
            let mut fds = vec![PollFd::new(&self.listener, PollFlags::IN)];
            fds.extend(self.links.values().map(|link| PollFd::new(link, PollFlags::IN)));
            // Of what is held nothing is wanted but that it is there.
            fds.extend(self.held.values().map(|file| PollFd::new(file, PollFlags::empty())));
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => return Ok(()),
                other => other?,
            };
            let mut happened = fds.iter().map(|fd| !fd.revents().is_empty());
            came |= happened.next().unwrap_or(false);
            spoke.extend(self.links.keys().zip(&mut happened).filter(|(_, happened)| *happened).map(|(peer, _)| *peer));
            gone.extend(
                self.held.keys().zip(&mut happened).filter(|(_, happened)| *happened).map(|(key, _)| key.clone()),
            );
        }
        for (board, name) in gone {
            self.happens(Input::HungUp(board, name), Vec::new());
        }
        for peer in spoke {
            self.hear(peer);
        }
        if came {
            match self.listener.accept() {
                Ok(link) => {
                    let peer = self.next;
                    self.next += 1;
                    self.links.insert(peer, link);
                    self.happens(Input::Came(peer), Vec::new());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => tell(&format!("guard: a peer was not let in: {error}")),
            }
        }
        Ok(())
    }

    fn hear(&mut self, peer: Peer) {
        let Some(link) = self.links.get(&peer) else { return };
        let message = match link.receive() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(Some(message)) => message,
            Ok(None) | Err(_) => return self.happens(Input::Gone(peer), Vec::new()),
        };
        let said = Said::of(&message.bytes).unwrap_or_default();
        let input = match said.t.as_str() {
            "owns" => Input::Owns(peer, said.board.unwrap_or_default()),
            "leaves" => {
                let things = said.things.unwrap_or_default();
                if things.len() != message.files.len() {
                    return self.happens(Input::Gone(peer), Vec::new());
                }
                Input::Leaves(peer, things)
            }
            "lets-go" => Input::LetsGo(peer, said.names.unwrap_or_default()),
            "update" => return self.update(peer),
            // A later version's word means nothing here.
            _ => return,
        };
        self.happens(input, message.files);
    }

    fn happens(&mut self, input: Input, files: Vec<OwnedFd>) {
        if let Input::Gone(peer) = input {
            self.links.remove(&peer);
        }
        let mut files = files.into_iter();
        let mut out = Vec::new();
        self.machine.handle(0, input, &mut out);
        for output in out {
            match output {
                Output::Hold(board, thing) => {
                    if let Some(file) = files.next() {
                        self.held.insert((board, thing.name), file);
                    }
                }
                Output::Close(board, name) => {
                    self.held.remove(&(board, name));
                }
                Output::Secure(board, thing) => {
                    let Some(file) = self.held.get(&(board.clone(), thing.name.clone())) else { continue };
                    if let Err(error) = levels::set(&thing.what, file.as_fd(), thing.mask, thing.safe) {
                        tell(&format!("guard: board {board}: {} cannot be set to its safe level: {error}", thing.name));
                    }
                }
                Output::Give(peer, board, things) => self.give(peer, &board, things),
                Output::Refuse(peer, why) => {
                    if let Some(link) = self.links.remove(&peer) {
                        let _ = Said { why: Some(why), ..Said::new("refused") }.send(&link, &[]);
                    }
                }
            }
        }
    }

    fn give(&mut self, peer: Peer, board: &str, things: Vec<Thing>) {
        let Some(link) = self.links.get(&peer) else { return };
        let held = things.iter().filter_map(|thing| self.held.get(&(board.to_string(), thing.name.clone())));
        let files: Vec<BorrowedFd<'_>> = held.map(OwnedFd::as_fd).collect();
        let said = Said { things: Some(things), ..Said::new("given") };
        if said.send(link, &files).is_err() {
            self.happens(Input::Gone(peer), Vec::new());
        }
    }

    /// Becomes the program that is at our own's place now.
    fn update(&mut self, peer: Peer) {
        let error = match going_on::check(&self.program) {
            Ok(()) => {
                if let Some(link) = self.links.get(&peer) {
                    let _ = Said::new("updating").send(link, &[]);
                }
                let known = json::to_string(&self.machine.kept());
                let mut files: Vec<BorrowedFd<'_>> = self.listener.files().to_vec();
                files.extend(self.links.values().map(Link::as_fd));
                files.extend(self.held.values().map(OwnedFd::as_fd));
                let arguments = ["guard".as_ref(), "--run".as_ref(), self.directory.as_os_str()];
                going_on::go_on(&self.program, &arguments, known.as_bytes(), &files)
            }
            Err(error) => error,
        };
        tell(&format!("guard: goes on as it is: {error}"));
        if let Some(link) = self.links.get(&peer) {
            let _ = Said { why: Some(error.to_string()), ..Said::new("refused") }.send(link, &[]);
        }
    }
}
