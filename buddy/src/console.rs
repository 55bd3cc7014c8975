//! A terminal ↔ a console of a board: what is typed goes to it, what it says is shown as it is, and Ctrl-] leaves. The recording goes
//! on.

use crate::frames::{Asked, SEND_BYTES, latin};
use crate::listening::{Event, Listening};
use crate::showing;
use crate::telling::tell;
use crate::visit::{Whose, gone};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use sai_core::console::{Entry, Piece, away_ms};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

/// Ctrl-], which leaves, as that of telnet does.
const LEAVE: u8 = 0x1d;

/// Which console is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// The board.
    pub whose: Whose,
    /// The console; the first where it is not said.
    pub console: Option<String>,
    /// Whether programs read what it says.
    pub json: bool,
}

/// A terminal that passes on each key as it is pressed, until it is dropped.
struct Raw(Termios);

impl Raw {
    fn new() -> io::Result<Raw> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// What is under way.
struct State {
    console: String,
    json: bool,
    /// Whether what is typed goes to the board.
    writes: bool,
    /// Bytes that were given to the owner and of which it has not said that they went out.
    on_the_way: usize,
    raw: bool,
    /// Since when the console's tty is gone, in nanoseconds.
    gone: Option<u64>,
}

/// Shows a console until it is left, or standard input ends where that is no terminal.
///
/// # Errors
/// The board has no owner that begins, or no such console; what it says cannot be shown.
pub fn run(wanted: Wanted) -> io::Result<()> {
    let mut listening = Listening::new(wanted.whose, wanted.console.clone(), false)?;
    let first = listening.names().first().cloned();
    let console = wanted.console.or(first).ok_or_else(|| io::Error::other("the board has no console"))?;
    let _raw = if io::stdin().is_terminal() {
        tell(&format!("console {console}; Ctrl-] leaves, the recording goes on"));
        Some(Raw::new()?)
    } else {
        None
    };
    let mut state = State { console, json: wanted.json, writes: true, on_the_way: 0, raw: _raw.is_some(), gone: None };
    claim(&listening)?;
    let mut open = true;
    loop {
        let typed = open && (state.on_the_way == 0 || !state.writes);
        let mut happened = [false; 2];
        {
            let stdin = io::stdin();
            let mut fds = vec![PollFd::new(&listening, PollFlags::IN)];
            if typed {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for (happened, fd) in happened.iter_mut().zip(&fds) {
                *happened = !fd.revents().is_empty();
            }
        }
        if happened[0] {
            while let Some(event) = listening.next(Duration::ZERO)? {
                if !state.hear(&listening, event)? {
                    return Ok(());
                }
            }
        }
        if happened[1] {
            let mut buffer = [0; SEND_BYTES];
            let count = match rustix::io::read(io::stdin().as_fd(), &mut buffer) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => continue,
                other => other?,
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            let (bytes, leaves) = match bytes.iter().position(|byte| *byte == LEAVE) {
                Some(place) if state.raw => (bytes.get(..place).unwrap_or_default(), true),
                _ => (bytes, false),
            };
            if state.writes && !bytes.is_empty() {
                let (console, text) = (Some(state.console.clone()), Some(latin(bytes)));
                state.on_the_way = bytes.len();
                ask(&listening, &Asked { console, text, ..Asked::new("send") })?;
            }
            open = count > 0 && !leaves;
        }
        // Who has typed all wants it to arrive.
        if !open && (state.on_the_way == 0 || !state.writes) {
            return Ok(());
        }
    }
}

fn claim(listening: &Listening) -> io::Result<()> {
    // A person types passwords.
    let name = Some("console".to_string());
    ask(listening, &Asked { name, secret: Some(true), ..Asked::new("claim") })
}

/// Asks an owner; whoever takes the place of one that is gone is told of by what is heard next.
fn ask(listening: &Listening, asked: &Asked) -> io::Result<()> {
    match listening.visit().ask(asked) {
        Err(error) if gone(&error) => Ok(()),
        other => other,
    }
}

impl State {
    /// Takes what was heard. Whether somebody still reads it.
    fn hear(&mut self, listening: &Listening, event: Event) -> io::Result<bool> {
        match event {
            Event::Entry(number, entry) => {
                let name = listening.names().get(usize::from(number)).map_or("", String::as_str);
                if name == self.console {
                    return self.show(&entry);
                }
            }
            Event::Told(told) => match (told.t.as_str(), told.to.as_deref()) {
                ("sent", _) => self.on_the_way = 0,
                ("failed", _) => {
                    let lost = self.on_the_way.saturating_sub(told.sent.unwrap_or(0) as usize);
                    self.on_the_way = 0;
                    self.notice(&format!("{lost} bytes were not sent: {}", told.why.unwrap_or_default()));
                }
                ("refused", Some("claim")) => {
                    self.writes = false;
                    self.notice(&format!("what is typed here goes nowhere: {}", told.why.unwrap_or_default()));
                }
                ("refused", Some("send")) => {
                    self.on_the_way = 0;
                    self.notice(&format!("not sent: {}", told.why.unwrap_or_default()));
                }
                ("refused", Some("listen")) => return Err(io::Error::other(told.why.unwrap_or_default())),
                _ => {}
            },
            Event::Replaced => {
                if self.on_the_way > 0 {
                    self.notice("what was typed last may not have been sent");
                }
                (self.on_the_way, self.writes) = (0, true);
                claim(listening)?;
            }
        }
        Ok(true)
    }

    /// Tells something at the beginning of a line.
    fn notice(&self, text: &str) {
        if self.raw {
            let _ = io::stderr().write_all(b"\r\n");
        }
        tell(&format!("{text}{}", if self.raw { "\r" } else { "" }));
    }

    fn show(&mut self, entry: &Entry) -> io::Result<bool> {
        let away_ms = away_ms(&mut self.gone, entry);
        let mut out = io::stdout().lock();
        let written = match entry {
            _ if self.json => out.write_all(showing::json(&self.console, entry, away_ms).as_bytes()),
            Entry::Came(Piece::Bytes { bytes, .. }) => out.write_all(bytes),
            other => {
                if let Some(text) = showing::notice(&self.console, other, away_ms) {
                    self.notice(&text);
                }
                Ok(())
            }
        };
        match written.and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
            other => other.map(|()| true),
        }
    }
}
