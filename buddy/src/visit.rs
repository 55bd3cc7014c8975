//! A board's name → a connection to its owner, which is started with its guard where there is none, and found again where it was
//! replaced.

use crate::frames::{self, Asked, Heard, Status, Told};
use crate::guard;
use crate::link::Link;
use crate::owner;
use crate::stop::{self, Stop};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use sai_core::bench::Board;
use sai_core::json::FILE_MAX;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time within which an owner or guard that was started listens, and one that was asked answers: those before may have to be waited
/// for, and machines stand still at times.
const BEGINS: Duration = Duration::from_secs(30);
/// Time for which one who is to stop waits for the end of what is being moved.
const MOVED: Duration = Duration::from_secs(10);
/// Time in which a system's own services start an owner or the guard again that has died.
const SERVED: Duration = Duration::from_secs(2);
/// Time between two looks whether one that begins listens.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes of what one that did not begin has said.
const SAID_BYTES: u64 = 4096;

/// What is told on the way of what is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed<'a> {
    /// A mode that the board has passed through, or is in.
    Mode(&'a str),
    /// What could not be done, and keeps nothing else from being done.
    Note(&'a str),
}

/// Which board is meant.
#[derive(Clone, Debug)]
pub struct Whose {
    /// The file that describes the bench.
    pub file: OsString,
    /// The name of the board.
    pub board: String,
    /// The directory of sockets.
    pub directory: PathBuf,
    /// What becomes its owner, and the guard, where there is none.
    pub begins: Begins,
}

/// What is started to be the owner of a board, or the guard of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begins {
    /// Nothing: somebody else sees to them, and whoever comes while there is none is told so.
    Never,
    /// The program that we are.
    Ourselves,
    /// A program, with the first words of its command line; those of `sai-buddy` follow.
    Program(Vec<OsString>),
}

impl Begins {
    /// The beginning of a command line, if something may be started.
    fn words(&self) -> io::Result<Option<Vec<OsString>>> {
        Ok(match self {
            Begins::Never => None,
            Begins::Ourselves => Some(vec![std::env::current_exe()?.into_os_string()]),
            Begins::Program(words) => Some(words.clone()),
        })
    }
}

/// A connection to an owner.
#[derive(Debug)]
pub struct Visit {
    link: Link,
    stop: Stop,
}

impl AsFd for Visit {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

/// Whether nobody listens there.
fn nobody(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// Whether who listens in a directory are services with a user of their own: if we began another one in the place of one that has died,
/// it would be root's, and in the way of the one that its service starts.
fn is_served(directory: &Path) -> bool {
    let found = fs::symlink_metadata(directory);
    rustix::process::geteuid().is_root() && found.is_ok_and(|found| found.is_dir() && found.uid() != 0)
}

/// Whether whoever listened there is gone: a process that was killed may let others connect for a moment, and die then.
pub fn gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

impl Visit {
    /// Connects to an owner that is there.
    ///
    /// # Errors
    /// There is none.
    pub fn new(whose: &Whose) -> io::Result<Visit> {
        let link = Link::connect(&frames::socket(&whose.directory, &whose.board))?;
        Ok(Visit { link, stop: Stop::never() })
    }

    /// The same, which waits for nothing any more once it is told to stop.
    pub fn until(self, stop: Stop) -> Visit {
        Visit { stop, ..self }
    }

    /// The word that it waits for nothing any more.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Connects to the owner, which is started where there is none and that is allowed, and answers.
    ///
    /// # Errors
    /// There is none; it does not begin, and says why.
    pub fn begin(whose: &Whose) -> io::Result<Visit> {
        let answering = || {
            let visit = Visit::new(whose)?;
            visit.answer(&Asked::new("status"))?;
            Ok(visit)
        };
        let began = Instant::now();
        loop {
            let found = match answering() {
                Err(error) if nobody(&error) => match whose.begins.words()? {
                    None => Err(io::Error::new(error.kind(), format!("board {} has no owner", whose.board))),
                    Some(_) if is_served(&whose.directory) && began.elapsed() < SERVED => {
                        thread::sleep(LOOK);
                        continue;
                    }
                    Some(words) => {
                        start_guard(&words, &whose.directory)?;
                        let arguments = owner::arguments(&whose.file, &whose.board, &whose.directory);
                        start(&words, &arguments, &whose.directory, &whose.board, answering)
                    }
                },
                other => other,
            };
            match found {
                Err(error) if gone(&error) && began.elapsed() < BEGINS => thread::sleep(LOOK),
                other => return other,
            }
        }
    }

    /// The same by what our file says of the board: an owner that goes by another description of it reads its file again, as `name`,
    /// unless somebody else writes to the board, who keeps what was there when he began.
    ///
    /// # Errors
    /// There is none; it does not begin; it keeps the description that it has, and says why.
    pub fn begin_by(whose: &Whose, board: &Board, name: &str) -> io::Result<Visit> {
        let visit = Visit::begin(whose)?;
        let status = visit.status()?;
        if status.writer.is_some() || status.bench.is_none_or(|digest| digest == board.digest) {
            return Ok(visit);
        }
        let not = |why: &str| format!("the board's owner does not go by what the file says now: {why}");
        let visit = visit.renew(whose, name).map_err(|error| io::Error::new(error.kind(), not(&error.to_string())))?;
        match visit.status()?.bench {
            Some(digest) if digest != board.digest => Err(io::Error::other(not("it reads another file"))),
            _ => Ok(visit),
        }
    }

    /// Has an owner read its file again, with all that it holds: it goes on as the same process, and no line moves.
    ///
    /// # Errors
    /// `ResourceBusy` where somebody else writes to the board, or the file is none to go by; it goes on as it was.
    pub fn renew(self, whose: &Whose, name: &str) -> io::Result<Visit> {
        // Nobody begins with what is about to be otherwise.
        self.answer(&Asked { name: Some(name.into()), ..Asked::new("claim") })?;
        self.answer(&Asked::new("update"))?;
        drop(self);
        Visit::begin(whose)
    }

    /// What the owner says of its board.
    ///
    /// # Errors
    /// It is gone, or says nothing.
    pub fn status(&self) -> io::Result<Status> {
        let (told, _) = self.answer(&Asked::new("status"))?;
        told.status.ok_or_else(|| io::Error::other("the owner says nothing of its board"))
    }

    /// The text of the file that the owner goes by, as it was when it read it; nothing of an owner that is too old to give it.
    ///
    /// # Errors
    /// It is gone, or what it gives cannot be read.
    pub fn described(&self) -> io::Result<Option<Vec<u8>>> {
        let file = match self.answer(&Asked::new("bench")) {
            Err(error) if error.kind() == ErrorKind::ResourceBusy => return Ok(None),
            answered => answered?.1.into_iter().next(),
        };
        let Some(file) = file else { return Ok(None) };
        let mut bytes = Vec::new();
        File::from(file).take(FILE_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The process of the owner: an update leaves it as it is.
    pub fn process(&self) -> i32 {
        self.link.peer()
    }

    /// Asks for something.
    ///
    /// # Errors
    /// The owner is gone, or reads nothing.
    pub fn ask(&self, asked: &Asked) -> io::Result<()> {
        let began = Instant::now();
        loop {
            match self.link.send(&asked.encode(), &[]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock && began.elapsed() < BEGINS => {
                    self.stop.check()?;
                    thread::sleep(Duration::from_millis(1));
                }
                other => return other,
            }
        }
    }

    /// The next that the owner says, if it says something within this time; what is of no kind that is known is passed over.
    ///
    /// # Errors
    /// `UnexpectedEof` where the owner is gone; it is to stop, and there is nothing to be heard.
    pub fn hear(&self, within: Duration) -> io::Result<Option<(Heard, Vec<OwnedFd>)>> {
        self.hear_until(within, &self.stop)
    }

    fn hear_until(&self, within: Duration, stop: &Stop) -> io::Result<Option<(Heard, Vec<OwnedFd>)>> {
        let began = Instant::now();
        loop {
            match self.link.receive() {
                Ok(None) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(Some(message)) => {
                    if let Some(heard) = Heard::decode(&message.bytes) {
                        return Ok(Some((heard, message.files)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let left = within.saturating_sub(began.elapsed());
                    let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
                    let files = [self.link.as_fd()].into_iter().chain(stop.file());
                    let mut fds: Vec<PollFd<'_>> =
                        files.map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect();
                    match poll(&mut fds, Some(&time)) {
                        Ok(0) if left.is_zero() => return Ok(None),
                        Ok(_) if fds.get(1).is_some_and(|stop| !stop.revents().is_empty()) => {
                            return Err(stop::given_up());
                        }
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks for something and waits for the answer. What consoles have meanwhile is passed over.
    ///
    /// # Errors
    /// Why it was refused, or that the owner is gone.
    pub fn answer(&self, asked: &Asked) -> io::Result<(Told, Vec<OwnedFd>)> {
        self.ask(asked)?;
        self.answered(&asked.t)
    }

    /// Has lines or power moved, and waits until they are: an owner that lives always comes to the end of it. Each mode that is reached
    /// on the way is told, and what could not be done without its mattering.
    ///
    /// # Errors
    /// Why it was refused, or a step could not be done; that the owner is gone.
    pub fn moves(&self, asked: &Asked, passes: &mut dyn FnMut(Passed<'_>)) -> io::Result<()> {
        self.ask(asked)?;
        let mut stopped: Option<Instant> = None;
        loop {
            let heard = match stopped {
                None => self.hear(BEGINS),
                Some(at) if at.elapsed() < MOVED => self.hear_until(MOVED.saturating_sub(at.elapsed()), &Stop::never()),
                Some(_) => Err(stop::given_up()),
            };
            let told = match heard {
                Ok(Some((Heard::Told(told), _))) => told,
                Ok(_) => continue,
                // The owner goes on to the end of it, and who comes next could move nothing before.
                Err(_) if stopped.is_none() && self.stop.said() => {
                    stopped = Some(Instant::now());
                    continue;
                }
                Err(error) => return Err(error),
            };
            match told.t.as_str() {
                _ if told.to.as_deref() != Some(asked.t.as_str()) && told.t != "refused" => {}
                "refused" => return Err(io::Error::new(ErrorKind::ResourceBusy, told.why.unwrap_or_default())),
                "failed" => return Err(io::Error::other(told.why.unwrap_or_default())),
                "reached" => passes(Passed::Mode(told.mode.as_deref().unwrap_or_default())),
                _ => {
                    told.note.iter().for_each(|note| passes(Passed::Note(note)));
                    return Ok(());
                }
            }
        }
    }

    /// Waits for the answer to something.
    ///
    /// # Errors
    /// Why it was refused, or that the owner is gone.
    pub fn answered(&self, to: &str) -> io::Result<(Told, Vec<OwnedFd>)> {
        let began = Instant::now();
        while let Some((heard, files)) = self.hear(BEGINS.saturating_sub(began.elapsed()))? {
            match heard {
                Heard::Told(told) if told.t == "refused" => {
                    return Err(io::Error::new(ErrorKind::ResourceBusy, told.why.unwrap_or_default()));
                }
                Heard::Told(told) if told.to.as_deref() == Some(to) => return Ok((told, files)),
                Heard::Told(_) | Heard::Entry(..) => {}
            }
        }
        Err(io::Error::new(ErrorKind::TimedOut, "the owner of the board does not answer"))
    }
}

/// Sees to it that a guard runs, where something may be started for a board.
///
/// # Errors
/// None begins, and why.
pub fn begin_guard(whose: &Whose) -> io::Result<()> {
    match whose.begins.words()? {
        Some(words) => start_guard(&words, &whose.directory),
        None => Ok(()),
    }
}

fn start_guard(words: &[OsString], directory: &Path) -> io::Result<()> {
    let connect = || Link::connect(&guard::socket(directory));
    let began = Instant::now();
    loop {
        match connect() {
            Err(error) if nobody(&error) && is_served(directory) && began.elapsed() < SERVED => thread::sleep(LOOK),
            Err(error) if nobody(&error) => break,
            other => return other.map(drop),
        }
    }
    let arguments = ["guard".into(), "--run".into(), directory.as_os_str().to_os_string()];
    // No board has this name.
    start(words, &arguments, directory, "guard.process", connect).map(drop)
}

/// Starts a program, to stay when we end, and waits for what is to come of it.
fn start<T>(
    words: &[OsString],
    arguments: &[OsString],
    directory: &Path,
    name: &str,
    mut ready: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    crate::link::keep_private(directory)?;
    let said = directory.join(format!("{name}.log"));
    // Where the directory is another one's, nobody is led elsewhere by what lies there.
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let log = open(&said, flags, Mode::RUSR | Mode::WUSR)?;
    let (program, first) = words.split_first().ok_or_else(|| io::Error::other("expected a program"))?;
    let mut command = Command::new(program);
    command.args(first).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn()?;
    let began = Instant::now();
    loop {
        match ready() {
            // One that cannot begin may have let us in before it knew.
            Err(error) if nobody(&error) || gone(&error) => {}
            other => return other,
        }
        // Another one that was started at the same moment may be the one that listens.
        let ended = child.try_wait()?.is_some();
        if ended && let Ok(other) = ready() {
            return Ok(other);
        }
        if ended || began.elapsed() > BEGINS {
            let _ = child.kill();
            let _ = child.wait();
            let mut text = String::new();
            File::open(&said)?.take(SAID_BYTES).read_to_string(&mut text)?;
            let text = text.trim().trim_start_matches("sai-buddy: ").to_string();
            return Err(io::Error::other(if text.is_empty() { format!("{name} does not begin") } else { text }));
        }
        thread::sleep(LOOK);
    }
}
