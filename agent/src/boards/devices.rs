//! Processes of a step that want a board ↔ the lines by which a supervisor asks its agent for one: who they are is the kernel's word, and
//! what they say is bounded.
//!
//! Each connection is one session. It is handed over to the supervisor of that session once there is one, and to no other after it.

use crate::boards::talk::{self, Said};
use crate::boards::{PROGRAMS, SOCKET};
use crate::process_tree::descendants;
use rustix::fs::{Mode, chmod};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, accept_with, bind,
    listen, sendmsg, socket_with,
};
use sai_buddy::link::Link;
use sai_core::ordered::Map;
use sai_core::platform::check_unit;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Processes that may wait at once: far more than there are boards at a machine that one build could want.
const ASKERS: usize = 8;
/// Connections that wait to be taken.
const BACKLOG: i32 = 4;
/// Tags that a board may be wanted for.
const TAGS: usize = 16;

/// What a mode has that lets everybody run a program.
const FOR_ALL: u32 = 0o005;
/// Our own program in an image, beside the script that begins it.
const PROGRAM: &str = "program";

/// The script that begins our program in an image. A static one runs in each; one that needs a C library is tried first, since what an
/// image without that one says of it, that there is no such file, is said of a file that is there.
fn in_image() -> String {
    format!(
        "#!/bin/sh\nprogram=${{0%/*}}/{PROGRAM}\nwhy=$(\"$program\" --version 2>&1) && exec \"$program\" \"$@\"\n\
         echo \"sai-agent: the agent of this machine was not built for the C library of this image: $why\" >&2\n\
         echo 'sai-agent: a static one, as cross/build makes it, runs in every image' >&2\nexit 125\n"
    )
}

/// See the file's first line.
#[derive(Debug)]
pub struct Devices {
    listener: OwnedFd,
    /// Those that have not said what they want.
    new: Vec<Link>,
    /// Those that have, by the numbers of their sessions, each with the line that asks.
    waiting: Map<u32, (Link, String)>,
    last: u32,
}

impl Devices {
    /// Listens below a directory of scripts, where our own program is put, too: for steps in an image, where this is one.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(steps: &Path, image: bool) -> io::Result<Self> {
        let programs = steps.join(PROGRAMS);
        DirBuilder::new().mode(0o755).create(&programs)?;
        let found = programs.join("sai-agent");
        let program = if image { programs.join(PROGRAM) } else { found.clone() };
        // It is the same file where that can be, since each job has one.
        let own = fs::canonicalize("/proc/self/exe").ok();
        let own = own.filter(|own| fs::metadata(own).is_ok_and(|about| about.mode() & FOR_ALL == FOR_ALL));
        if own.and_then(|own| fs::hard_link(own, &program).ok()).is_none() {
            fs::copy("/proc/self/exe", &program)?;
            chmod(&program, Mode::from_raw_mode(0o755))?;
        }
        if image {
            let mut script = OpenOptions::new().create_new(true).write(true).mode(0o755).open(found)?;
            script.write_all(in_image().as_bytes())?;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        talk::at(&steps.join(SOCKET), |address| bind(&listener, address))?;
        // Whoever comes is looked at.
        chmod(steps.join(SOCKET), Mode::from_raw_mode(0o666))?;
        listen(&listener, BACKLOG)?;
        Ok(Self { listener, new: Vec::new(), waiting: Map::new(), last: 0 })
    }

    /// What can be read when somebody comes, speaks or goes.
    pub fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let links = self.new.iter().chain(self.waiting.values().map(|(link, _)| link));
        [self.listener.as_fd()].into_iter().chain(links.map(Link::as_fd))
    }

    /// The lines that an agent is told which has just come.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.waiting.values().map(|(_, line)| line.clone())
    }

    /// Hears who comes, speaks or goes: lines for agents.
    pub fn turn(&mut self) -> Vec<String> {
        self.accept();
        let mut lines = Vec::new();
        for link in std::mem::take(&mut self.new) {
            match link.receive() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.new.push(link),
                Ok(Some(message)) => match wanted(&message.bytes) {
                    Ok(words) => {
                        self.last += 1;
                        let line = format!("B {} {words}\n", self.last);
                        lines.push(line.clone());
                        self.waiting.insert(self.last, (link, line));
                    }
                    Err(why) => refuse(&link, why),
                },
                // It is gone, or talks too much.
                Ok(None) | Err(_) => {}
            }
        }
        let spoke = |link: &Link| !matches!(link.receive(), Err(error) if error.kind() == ErrorKind::WouldBlock);
        let gone: Vec<u32> =
            self.waiting.iter().filter(|(_, (link, _))| spoke(link)).map(|(number, _)| *number).collect();
        for number in gone {
            self.waiting.remove(&number);
            lines.push(format!("B {number}\n"));
        }
        lines
    }

    fn accept(&mut self) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            let link = Link::again(socket);
            if !descendants().contains(&link.peer()) {
                refuse(&link, "only steps of this job may ask here".to_string());
            } else if self.new.len() + self.waiting.len() >= ASKERS {
                refuse(&link, format!("{ASKERS} processes of this job wait for boards already"));
            } else {
                self.new.push(link);
            }
        }
    }

    /// Takes what an agent says of a session: the rest of its line behind `B `.
    pub fn told(&mut self, told: &str) -> Option<String> {
        let mut parts = told.splitn(3, ' ');
        let number = parts.next()?.parse().ok()?;
        let job = parts.next()?.parse::<u64>().ok()?;
        // What was handed over is that one's.
        let (link, _) = self.waiting.get(&number)?;
        match parts.next() {
            Some(why) => {
                refuse(link, why.to_string());
                self.waiting.remove(&number);
                None
            }
            None => {
                let _ = Said { job: Some(job), ..Said::new("waits") }.send(link, &[]);
                Some(format!("session {number} at a board is job {job}"))
            }
        }
    }

    /// Hands a connection over to the supervisor of its session, which is at the other end of a socket.
    pub fn hand_over(&mut self, number: &str, to: &impl AsFd) {
        let given = number.parse().ok().and_then(|number: u32| self.waiting.remove(&number));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files: Vec<BorrowedFd<'_>> = given.iter().map(|(link, _)| link.as_fd()).collect();
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&files));
        }
        let word: &[u8] = if files.is_empty() { b"N\n" } else { b"D\n" };
        let _ = sendmsg(to, &[IoSlice::new(word)], &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

fn refuse(link: &Link, why: String) {
    let _ = Said { why: Some(why), ..Said::new("refused") }.send(link, &[]);
}

/// The words of a line, type and tags, that a message asks for.
fn wanted(bytes: &[u8]) -> Result<String, String> {
    let said = Said::decode(bytes).filter(|said| said.t == "want").ok_or("expected what is wanted")?;
    let names: Vec<String> = said.name.into_iter().chain(said.names.unwrap_or_default()).collect();
    if names.is_empty() || names.len() > TAGS {
        return Err(format!("expected a type, and {} tags at most", TAGS - 1));
    }
    for name in &names {
        check_unit(name).map_err(|expected| format!("{name:?}: expected {expected}"))?;
    }
    Ok(names.join(" "))
}
