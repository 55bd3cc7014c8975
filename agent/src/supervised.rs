//! Control socket of a living supervisor ↔ how far its streams have grown, what is acknowledged, the files that it wants, and
//! the order to end.
//!
//! Both sides send lines. Supervisor: `L STREAM LENGTH`, `W SHA256 SIZE new` or `again` (a file that it wants, one at a time), `F SHA256`
//! (one that it has, and that nobody else will want).
//! Agent: `A LENGTH` (the log's acknowledged length), `C WHY` (cancel), `X` (end at once and leave no process: the attempt is
//! about to be forgotten), and of the file that is wanted `H SHA256 PATH` (here it is), `P SHA256 BYTES WHY` (so far it has
//! come, and what is in the way), `G SHA256 BLAME WHY` (it is not to be had). Of sessions at boards the supervisor says
//! `B NUMBER TYPE TAG…` (a step wants one) or `B NUMBER` (none any more), the agent `B NUMBER JOB` (it is that job) or
//! `B NUMBER JOB WHY` (it is over; 0 where there is none). At a board that a person has by a lease the agent says
//! `S WRITER NUMBER JSON`, a word of that one. What one of them does not know it passes over.

use crate::job_directory::{JobDirectory, connect, reap};
use crate::needs::Want;
use sai_core::job::{Blame, JobKey};
use sai_core::limits::{SESSIONS, STREAMS};
use sai_core::units::WantedBoard;
use sai_core::wire::{Session, SessionTold, Word};
use smol::{Async, Timer, channel};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one line on the control socket at most; a reason to cancel is cut to fit.
pub(crate) const LINE_BYTES: usize = 4096;
/// Lines that wait for a supervisor to read them, where more words of a person are dropped: as many as it takes at once, and some.
pub(crate) const WORDS: usize = 64;
/// Time between the moment a supervisor has its lock and the moment it listens at most, and of dying at most.
const ATTACH_TIME: Duration = Duration::from_secs(10);
/// Time between two tries to attach at most; the first ones come sooner, since one that is going is gone in no time.
const ATTACH_PAUSE: Duration = Duration::from_millis(2);
/// Time between the first two.
const FIRST_PAUSE: Duration = Duration::from_micros(100);

/// News of a supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Length of each stream from 0 on, always at the end of a whole record. News that came meanwhile is summed up in one.
    Lengths(Vec<u64>),
    /// It wants this file.
    Wants(Want),
    /// A step wants a session at a board, or none any more.
    Asks(Session),
    /// It wants this file no more.
    Unwanted(Want),
}

/// An agent's hold on a living supervisor. All of it may be used from several tasks; one of them calls `next`.
#[derive(Debug)]
pub struct Supervised {
    key: JobKey,
    socket: Async<UnixStream>,
    state: Mutex<State>,
    wake: (channel::Sender<()>, channel::Receiver<()>),
}

#[derive(Debug, Default)]
struct State {
    lengths: Vec<u64>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    ack: Option<u64>,
    cancel: Option<String>,
    /// What is to be said of the file that is wanted: only the last of it counts.
    said: Option<String>,
    want: Option<Want>,
    unwanted: Option<Want>,
    /// What is to be said of sessions, one line each.
    told: VecDeque<String>,
    asks: VecDeque<Session>,
}

impl State {
    /// Takes the whole lines received; tells whether a length has changed.
    fn take_lines(&mut self, key: JobKey) -> bool {
        let mut changed = false;
        let Some(end) = self.incoming.iter().rposition(|byte| *byte == b'\n') else { return false };
        for line in self.incoming[..end].split(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(line).unwrap_or_default();
            if let Some(session) = session(key, line).filter(|_| self.asks.len() < 2 * SESSIONS) {
                self.asks.push_back(session);
                continue;
            }
            let mut words = line.split(' ');
            let numbers = match (words.next(), words.next(), words.next()) {
                (Some("L"), Some(stream), Some(length)) => stream.parse::<usize>().ok().zip(length.parse::<u64>().ok()),
                (Some("W"), Some(sha256), Some(size)) => {
                    let again = words.next() == Some("again");
                    self.want =
                        size.parse().ok().and_then(|size| Want::new(key, sha256, size, again)).or(self.want.take());
                    None
                }
                (Some("F"), Some(sha256), None) => {
                    self.unwanted = Want::new(key, sha256, 0, false).or(self.unwanted.take());
                    None
                }
                _ => None,
            };
            let Some((stream, length)) = numbers.filter(|(stream, _)| *stream < STREAMS) else { continue };
            if self.lengths.len() <= stream {
                self.lengths.resize(stream + 1, 0);
            }
            changed |= self.lengths[stream] != length || stream > 0;
            self.lengths[stream] = length;
        }
        self.incoming.drain(..=end);
        changed
    }

    /// Writes what there is to say, as far as the socket takes it.
    fn flush(&mut self, mut socket: &UnixStream) -> io::Result<()> {
        loop {
            if self.outgoing.is_empty() {
                if let Some(why) = self.cancel.take() {
                    self.outgoing = line(&format!("C {why}"));
                } else if let Some(said) = self.said.take() {
                    self.outgoing = line(&said);
                } else if let Some(told) = self.told.pop_front() {
                    self.outgoing = line(&told);
                } else if let Some(length) = self.ack.take() {
                    self.outgoing = format!("A {length}\n").into_bytes();
                } else {
                    return Ok(());
                }
            }
            match socket.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a line says that a step wants of boards.
fn session(key: JobKey, line: &str) -> Option<Session> {
    let mut words = line.strip_prefix("B ")?.split(' ');
    let number = words.next()?.parse().ok()?;
    let kind = words.next().map(str::to_owned);
    let board =
        kind.map(|kind| WantedBoard { kind, tags: words.map(str::to_owned).collect(), ..WantedBoard::default() });
    Some(Session { key, number, board })
}

/// A text as one line that is no longer than a line may be.
fn line(text: &str) -> Vec<u8> {
    let mut line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    while line.len() >= LINE_BYTES {
        line.pop();
    }
    line.push('\n');
    line.into_bytes()
}

/// Takes hold of the supervisor of an attempt. `None`: none lives; the attempt has ended or is to be buried.
///
/// # Errors
/// The system's; `TimedOut` when there is a supervisor that does not answer.
pub async fn attach(directory: &JobDirectory) -> io::Result<Option<Supervised>> {
    let begin = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        reap();
        if directory.try_lock()?.is_some() {
            return Ok(None);
        }
        match connect(directory) {
            Ok(socket) => {
                let socket = Async::new(socket)?;
                let (key, state) = (directory.key(), Mutex::default());
                return Ok(Some(Supervised { key, socket, state, wake: channel::bounded(1) }));
            }
            Err(error) if begin.elapsed() > ATTACH_TIME => return Err(error),
            // It is about to listen or about to be gone.
            Err(_) => {
                Timer::after(pause).await;
                pause = ATTACH_PAUSE.min(2 * pause);
            }
        }
    }
}

impl Supervised {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for news. `None`: the supervisor is gone; see [`JobDirectory::ended`] whether it left a verdict.
    pub async fn next(&self) -> Option<Progress> {
        loop {
            let blocked = {
                let mut state = self.state();
                if let Some(want) = state.want.take() {
                    return Some(Progress::Wants(want));
                }
                if let Some(unwanted) = state.unwanted.take() {
                    return Some(Progress::Unwanted(unwanted));
                }
                if let Some(session) = state.asks.pop_front() {
                    return Some(Progress::Asks(session));
                }
                // A peer that is gone is noticed by reading, after what it had still to say.
                let _ = state.flush(self.socket.get_ref());
                let mut buffer = [0; 16384];
                match self.socket.get_ref().read(&mut buffer) {
                    Ok(0) => return None,
                    Ok(read) => {
                        state.incoming.extend_from_slice(&buffer[..read]);
                        if state.take_lines(self.key) {
                            return Some(Progress::Lengths(state.lengths.clone()));
                        }
                        continue;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return None,
                }
                !state.outgoing.is_empty()
            };
            let readable = async { drop(self.socket.readable().await) };
            let woken = async {
                let _ = self.wake.1.recv().await;
            };
            if blocked {
                let writable = async { drop(self.socket.writable().await) };
                smol::future::or(readable, smol::future::or(writable, woken)).await;
            } else {
                smol::future::or(readable, woken).await;
            }
        }
    }

    /// Tells it that the log is durable at the master up to here, so that a job that waits for room goes on.
    pub fn acked(&self, log: u64) {
        let mut state = self.state();
        state.ack = Some(log);
        self.say(&mut state);
    }

    /// Orders the end of the job; its verdict comes through its log.
    pub fn cancel(&self, why: &str) {
        let mut state = self.state();
        state.cancel = Some(why.to_string());
        self.say(&mut state);
    }

    /// Tells where the file is that it wants, or why it cannot be had and whose trouble that is.
    pub fn answer(&self, want: &Want, answer: Result<&Path, (Blame, &str)>) {
        let text = answer.and_then(|path| {
            let path = path.to_str().filter(|path| path.len() < LINE_BYTES / 2 && !path.contains(char::is_control));
            path.ok_or((Blame::Agent, "the path of this agent's directory is too long, or no text"))
        });
        self.tell_of(match text {
            Ok(path) => format!("H {} {path}", want.sha256),
            Err((blame, why)) => format!("G {} {} {why}", want.sha256, blame.word().as_deref().unwrap_or("agent")),
        });
    }

    /// Tells how much there is of the file that it wants, and what is in the way.
    pub fn progress(&self, want: &Want, bytes: u64, why: &str) {
        self.tell_of(format!("P {} {bytes} {why}", want.sha256));
    }

    /// Tells what became of a session that a step wants.
    pub fn session(&self, told: &SessionTold) {
        let why = told.over.as_ref().map_or_else(String::new, |why| format!(" {why}"));
        let mut state = self.state();
        state.told.push_back(format!("B {} {}{why}", told.number, told.job.unwrap_or(0)));
        self.say(&mut state);
    }

    /// Tells what a person says who has the board by a lease.
    pub fn word(&self, word: &Word) {
        let mut state = self.state();
        // Who is not heard says it again.
        if state.told.len() < WORDS {
            state.told.push_back(format!("S {} {} {}", word.writer, word.number, word.said));
        }
        self.say(&mut state);
    }

    fn tell_of(&self, line: String) {
        let mut state = self.state();
        state.said = Some(line);
        self.say(&mut state);
    }

    fn say(&self, state: &mut State) {
        if state.flush(self.socket.get_ref()).is_ok() && !state.outgoing.is_empty() {
            let _ = self.wake.0.try_send(());
        }
    }
}
