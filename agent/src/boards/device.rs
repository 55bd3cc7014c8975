//! Command line of a build's step → a board for as long as a command runs, with a tty for each of its consoles; and the words by which that
//! command flashes, moves and listens to it.

use crate::boards::SOCKET;
use crate::boards::talk::{self, Said};
use crate::{say, terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use sai_buddy::frames::{latin, of_latin};
use sai_buddy::link::Link;
use sai_buddy::pty::Pty;
use sai_core::bench::milliseconds;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// Where a step asks for a board.
const DEVICES: &str = "SAI_DEVICES";
/// Where its command's words are heard.
const WORDS: &str = "SAI_DEVICE_SOCKET";
/// No board was to be had, or it was lost.
const NO_BOARD: u8 = 125;
/// A word did not come to what it asked for.
const FAILED: u8 = 1;
/// A command line is not understood.
const USAGE: u8 = 2;
/// Milliseconds that `expect` waits unless it is said.
const WITHIN_MS: u64 = 30_000;
/// Bytes of one `send`, and of a piece of what is typed.
const SEND_BYTES: usize = 1024;
/// Time that the session has to give the board back.
const GIVEN_BACK: Duration = Duration::from_secs(60);
/// Time between the order to end and the end of a command whose board is gone.
const GRACE: Duration = Duration::from_secs(5);
/// Time between two looks whether the command has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What `sai-agent device --help` says.
pub const HELP: &str = "\
sai-agent device - a board of this machine for a command of a build's step

usage:
  sai-agent device TYPE [TAG]... [--within TIME] -- COMMAND [ARGUMENT]...
      Wait for a board of this type, known for all of these tags, and run COMMAND while it is ours. The wait is a job of its
      own in the master's queue, and its log has all that happens at the board. COMMAND may not ask for a second one.

words, for COMMAND and what it runs:
  sai-agent device flash FILE [TARGET=FILE]...   get images onto the board, as its bench says
  sai-agent device mode MODE                     bring it into a mode of its bench
  sai-agent device play SEQUENCE                 play a sequence of its bench
  sai-agent device power on|off|cycle            switch its supply
  sai-agent device send TEXT                     send TEXT; \\n, \\r, \\t, \\\\ and \\xHH stand for bytes
  sai-agent device expect PATTERN [--within TIME]
      Wait until what the console says has a regular expression, behind what was found before, and print that. [30s]
  sai-agent device console [--within TIME]       print all that the console says, and send it what is typed
  With --console NAME, send, expect and console mean another console than the first.

environment of COMMAND:
  SAI_DEVICE, SAI_DEVICE_CONSOLES      the board's name; the names of its consoles, with blanks between
  SAI_DEVICE_TTY0, SAI_DEVICE_TTY1, …  a tty for each console, in the order of the bench

exit status:
  that of COMMAND, 128 + N where signal N ended it; 0 or 1 of a word, as it came to what it asked for
  2    a command line that is not understood
  125  no board was to be had, or it was lost; standard error says whose fault that is
  126, 127  COMMAND cannot be run, or is not there

example: sai-agent device nucleo-f411 -- sh -e at-board.sh, where at-board.sh may be
  sai-agent device flash fw.bin
  sai-agent device expect READY --within 10s
";

/// Runs it.
pub fn command(words: Vec<OsString>) -> ExitCode {
    let asks = words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h");
    if asks || words.is_empty() {
        terminal::print(HELP);
        return if asks { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
    }
    match run(words) {
        Ok(status) => ExitCode::from(status),
        Err((status, why)) => {
            say(&why);
            ExitCode::from(status)
        }
    }
}

type Failure = (u8, String);

fn usage(why: impl Into<String>) -> Failure {
    (USAGE, format!("{}; see sai-agent device --help", why.into()))
}

fn lost(error: io::Error) -> Failure {
    (NO_BOARD, format!("the board is gone: {error}"))
}

/// Options and words of a command line.
#[derive(Default)]
struct Given {
    words: Vec<String>,
    within_ms: Option<u64>,
    console: Option<String>,
    command: Vec<OsString>,
}

impl Given {
    fn new(arguments: Vec<OsString>) -> Result<Self, Failure> {
        let mut given = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_str().ok_or_else(|| usage("expected text"))?;
            let mut value = || {
                let value = arguments.next().and_then(|value| value.into_string().ok());
                value.ok_or_else(|| usage(format!("expected something behind {text}")))
            };
            match text {
                "--" => {
                    given.command = arguments.by_ref().collect();
                    if given.command.is_empty() {
                        return Err(usage("expected a command behind --"));
                    }
                }
                "--within" => {
                    let time = milliseconds(&value()?);
                    given.within_ms = Some(time.map_err(|expected| usage(format!("--within: {expected}")))?);
                }
                "--console" => given.console = Some(value()?),
                // What is sent or looked for may begin like an option.
                _ if text.starts_with('-') && given.words.is_empty() => {
                    return Err(usage(format!("{text} is not understood")));
                }
                _ => given.words.push(text.to_string()),
            }
        }
        Ok(given)
    }
}

fn run(arguments: Vec<OsString>) -> Result<u8, Failure> {
    let given = Given::new(arguments)?;
    if !given.command.is_empty() {
        return lend(given);
    }
    let (word, rest) = given.words.split_first().ok_or_else(|| usage("expected a type of board"))?;
    let one = || match rest {
        [one] => Ok(one.clone()),
        _ => Err(usage(format!("`{word}` expects one word"))),
    };
    let said = Said { console: given.console.clone(), ..Said::new(word) };
    let mut files = Vec::new();
    let said = match word.as_str() {
        "flash" => {
            if rest.is_empty() {
                return Err(usage("`flash` expects a file"));
            }
            let mut names = Vec::new();
            for image in rest {
                // A file may have such a name, a target no path in it.
                let (target, file) = match image.split_once('=') {
                    Some((target, file)) if !target.contains('/') && !Path::new(image).exists() => (target, file),
                    _ => ("", image.as_str()),
                };
                let open = File::open(file).map_err(|error| (FAILED, format!("{file}: {error}")))?;
                files.push(OwnedFd::from(open));
                names.push(format!("{target}={file}"));
            }
            Said { names: Some(names), ..said }
        }
        "play" | "mode" | "power" => Said { name: Some(one()?), ..said },
        "send" => {
            let bytes = unescaped(&one()?).ok_or_else(|| usage("`send`: expected \\n, \\r, \\t, \\\\ or \\xHH"))?;
            if bytes.is_empty() || bytes.len() > SEND_BYTES {
                return Err(usage(format!("`send` expects 1 to {SEND_BYTES} bytes")));
            }
            Said { text: Some(latin(&bytes)), ..said }
        }
        "expect" => Said { text: Some(one()?), ms: Some(given.within_ms.unwrap_or(WITHIN_MS)), ..said },
        "console" => return console(&given),
        _ => {
            return Err(usage(format!(
                "expected `{word} -- COMMAND`, or one of flash, mode, play, power, send, expect, console"
            )));
        }
    };
    let link = word_link()?;
    let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
    said.send(&link, &files).map_err(lost)?;
    let mut had = |bytes: &[u8]| drop(io::stderr().write_all(bytes));
    let found = loop {
        if let Some(found) = heard(&link, None, &mut had)? {
            break found;
        }
    };
    if word == "expect" {
        let mut line = found;
        line.push(b'\n');
        let _ = io::stdout().write_all(&line);
    }
    Ok(0)
}

/// Waits for the next that a word is told: what it has found, where that is its end.
fn heard(link: &Link, within: Option<Duration>, had: &mut dyn FnMut(&[u8])) -> Result<Option<Vec<u8>>, Failure> {
    let Some(said) = hear(link, within).map_err(lost)? else { return Ok(None) };
    let bytes = said.text.as_deref().and_then(of_latin);
    match said.t.as_str() {
        "had" => had(&bytes.unwrap_or_default()),
        "note" => say(&said.text.unwrap_or_default()),
        "done" => return said.why.map_or(Ok(Some(bytes.unwrap_or_default())), |why| Err((FAILED, why))),
        _ => {}
    }
    Ok(None)
}

/// The next message, if there is one in this time; without one it is waited for.
fn hear(link: &Link, within: Option<Duration>) -> io::Result<Option<Said>> {
    loop {
        match link.receive() {
            Ok(Some(message)) => return Ok(Said::decode(&message.bytes)),
            Ok(None) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let time = within.map(timespec);
        match poll(&mut [PollFd::new(link, PollFlags::IN)], time.as_ref()) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) }
}

/// A socket of the kind that all of this speaks by.
fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

fn link_to(path: &OsStr) -> io::Result<Link> {
    let socket = socket()?;
    talk::at(Path::new(path), |address| connect(&socket, address))?;
    Ok(Link::again(socket))
}

/// A connection of a word to whoever lends the board.
fn word_link() -> Result<Link, Failure> {
    let path = std::env::var_os(WORDS);
    let path = path.ok_or_else(|| usage("this word is for the command of `sai-agent device TYPE -- COMMAND`"))?;
    link_to(&path).map_err(lost)
}

/// Prints what a console says, and sends it what comes by standard input.
fn console(given: &Given) -> Result<u8, Failure> {
    let link = word_link()?;
    Said { console: given.console.clone(), ..Said::new("listen") }.send(&link, &[]).map_err(lost)?;
    let until = given.within_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let mut typing = true;
    let mut print = |bytes: &[u8]| {
        let mut out = io::stdout();
        drop(out.write_all(bytes).and_then(|()| out.flush()));
    };
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(0);
        }
        let input = io::stdin();
        let mut fds = vec![PollFd::new(&link, PollFlags::IN)];
        if typing {
            fds.push(PollFd::new(&input, PollFlags::IN));
        }
        let _ = poll(&mut fds, left.map(timespec).as_ref());
        let typed = fds.get(1).is_some_and(|input| !input.revents().is_empty());
        drop(fds);
        if typed {
            let mut buffer = [0; SEND_BYTES];
            match input.lock().read(&mut buffer) {
                Ok(count @ 1..) => {
                    let text = Some(latin(buffer.get(..count).unwrap_or_default()));
                    let other = word_link()?;
                    let said = Said { console: given.console.clone(), text, ..Said::new("send") };
                    said.send(&other, &[]).map_err(lost)?;
                    while heard(&other, None, &mut |_| {})?.is_none() {}
                }
                _ => typing = false,
            }
        }
        while !matches!(poll(&mut [PollFd::new(&link, PollFlags::IN)], Some(&timespec(Duration::ZERO))), Ok(0)) {
            heard(&link, Some(Duration::ZERO), &mut print)?;
        }
    }
}

/// What a text stands for.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        let (kind, behind) = rest.split_first()?;
        rest = behind;
        bytes.push(match kind {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'\\' => b'\\',
            b'x' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
                u8::from_str_radix(digits, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

/// Has a board lent, and runs a command meanwhile.
fn lend(given: Given) -> Result<u8, Failure> {
    if given.console.is_some() {
        return Err(usage("a board is lent with all of its consoles"));
    }
    let (kind, tags) = given.words.split_first().ok_or_else(|| usage("expected a type of board before --"))?;
    if std::env::var_os(WORDS).is_some() {
        let why = "no board: a command that has one may not ask for another, since two such could wait for each other";
        return Err((NO_BOARD, why.to_string()));
    }
    let path = std::env::var_os(DEVICES).ok_or((
        NO_BOARD,
        format!(
            "expected ${DEVICES}: this is for steps of jobs at an agent that offers boards (its `boards` in agent.json)"
        ),
    ))?;
    let unreached =
        |error: io::Error| (NO_BOARD, format!("the job's supervisor is not reached at its {SOCKET}: {error}"));
    let link = link_to(&path).map_err(unreached)?;
    let want = Said { name: Some(kind.clone()), names: Some(tags.to_vec()), ..Said::new("want") };
    // Whom the supervisor does not hear it refuses before anything is asked: why, is there to be heard.
    let _ = want.send(&link, &[]);
    let until = given.within_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    let given_to_us = loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let Some(said) = hear(&link, left).map_err(unreached)? else {
            if left.is_some_and(|left| left.is_zero()) {
                return Err((NO_BOARD, format!("no board of type {kind} was free in time")));
            }
            continue;
        };
        match said.t.as_str() {
            "waits" => say(&format!("a board of type {kind} is asked for: job {}", said.job.unwrap_or(0))),
            "refused" => return Err((NO_BOARD, format!("no board: {}", said.why.unwrap_or_default()))),
            "given" => break said,
            _ => {}
        }
    };
    let board = given_to_us.name.unwrap_or_default();
    let consoles = given_to_us.names.unwrap_or_default();
    say(&format!("board {board} is ours"));
    let ours = |error: io::Error| (NO_BOARD, format!("this machine: {error}"));
    let mut ttys = Vec::new();
    for _ in &consoles {
        ttys.push(Pty::new(None).map_err(ours)?);
    }
    let masters: Vec<BorrowedFd<'_>> = ttys.iter().map(|tty| tty.master.as_fd()).collect();
    if !masters.is_empty() {
        Said::new("ttys").send(&link, &masters).map_err(lost)?;
    }
    let heard = Heard::new().map_err(ours)?;
    let (program, rest) = given.command.split_first().ok_or_else(|| usage("expected a command"))?;
    let mut command = Command::new(program);
    command.args(rest).env("SAI_DEVICE", &board).env("SAI_DEVICE_CONSOLES", consoles.join(" "));
    command.env(WORDS, heard.directory.join(SOCKET));
    for (index, tty) in ttys.iter().enumerate() {
        command.env(format!("SAI_DEVICE_TTY{index}"), &tty.path);
    }
    let status = match command.spawn() {
        Ok(child) => attend(&link, &heard, child)?,
        Err(error) => {
            say(&format!("{}: {error}", program.to_string_lossy()));
            if error.kind() == ErrorKind::NotFound { 127 } else { 126 }
        }
    };
    let ended = Said { status: Some(i32::from(status)), ..Said::new("ended") };
    ended.send(&link, &[]).map_err(lost)?;
    let began = Instant::now();
    while let Ok(said) = hear(&link, Some(GIVEN_BACK.saturating_sub(began.elapsed()))) {
        if said.is_none_or(|said| said.t == "over") {
            break;
        }
    }
    Ok(status)
}

/// Sees the command to its end: its exit status.
fn attend(link: &Link, heard: &Heard, mut child: Child) -> Result<u8, Failure> {
    loop {
        if let Some(status) = child.try_wait().map_err(lost)? {
            let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(u8::try_from(status).unwrap_or(1));
        }
        let mut fds = [PollFd::new(link, PollFlags::IN), PollFd::new(&heard.listener, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timespec(LOOK)));
        let [spoke, came] = fds.map(|fd| !fd.revents().is_empty());
        if came && let Ok(word) = accept_with(&heard.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            // One that cannot be passed on is closed, and sees that.
            let _ = Said::new("word").send(link, &[word.as_fd()]);
        }
        if spoke {
            let why = match hear(link, Some(Duration::ZERO)) {
                Ok(Some(said)) if said.t == "refused" => said.why.unwrap_or_default(),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            end(&mut child);
            return Err((NO_BOARD, format!("the board was taken away: {why}")));
        }
    }
}

/// Ends a command whose board is gone.
fn end(child: &mut Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let began = Instant::now();
    while began.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Where the words of the command are heard. It is removed when this is dropped.
struct Heard {
    directory: PathBuf,
    listener: OwnedFd,
}

impl Heard {
    fn new() -> io::Result<Self> {
        let directory = std::env::temp_dir().join(format!("sai-device-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let listener = socket()?;
        let heard = Self { directory, listener };
        talk::at(&heard.directory.join(SOCKET), |address| bind(&heard.listener, address))?;
        listen(&heard.listener, 16)?;
        Ok(heard)
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_stands_there_with_few_signs() {
        let bytes = |text: &str| unescaped(text);
        assert_eq!(bytes("root\\n"), Some(b"root\n".to_vec()));
        assert_eq!(bytes("\\x03\\\\\\r\\t\u{e9}"), Some(b"\x03\\\r\t\xc3\xa9".to_vec()));
        for text in ["\\", "\\q", "\\x", "\\x1", "\\x+1", "\\xzz"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
