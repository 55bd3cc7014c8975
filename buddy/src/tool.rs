//! Program and arguments → the same, run with a tty of the board's owner in place of the board's, up to its end or its time limit, and
//! nothing left of it.
//!
//! The owner never lets go of the tty itself: it passes on what both sides say and records it, follows the speed that the tool sets,
//! and takes the pty away when the tool, or whoever started it, has ended.

use crate::frames::Asked;
use crate::stop::Stop;
use crate::visit::Visit;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, PipeReader, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Words of a command that stand for the tty of the console.
const TTY: &[u8] = b"{tty}";
/// Time in which what was killed is gone.
const GONE: Duration = Duration::from_secs(10);
/// Time between two looks at whether a tool has ended.
const LOOK: Duration = Duration::from_millis(2);

/// Bytes of what it prints that are read at once, and how often in a row: together more than a pipe holds.
const PIPE_BYTES: usize = 4096;
const PIPES: usize = 32;

/// Who has what a tool prints.
pub type Says<'a> = dyn FnMut(&[u8]) + 'a;

/// How a tool ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status; `None` where its time was over.
    pub status: Option<ExitStatus>,
    /// Bytes of the board that it did not read.
    pub unread: u64,
}

/// Runs a tool. The visit is to be of nobody who listens.
///
/// # Errors
/// Somebody else writes to the board; the program cannot be started.
pub fn run(visit: &Visit, console: Option<&str>, argv: &[OsString], limit: Duration) -> io::Result<Ended> {
    visit.answer(&Asked { name: Some("tool".into()), ..Asked::new("claim") })?;
    let ended = run_held(visit, console, argv, limit, None);
    let _ = visit.answer(&Asked::new("release"))?;
    ended
}

/// The same for somebody who is the one that writes already, and stays so; `says` has what the program prints, unless it is to print
/// where we do.
///
/// # Errors
/// The program cannot be started; the owner is gone.
pub fn run_held(
    visit: &Visit,
    console: Option<&str>,
    argv: &[OsString],
    limit: Duration,
    says: Option<&mut Says<'_>>,
) -> io::Result<Ended> {
    // One that names no tty reaches the board on another way.
    let speaks = argv.iter().any(|word| word.as_bytes().windows(TTY.len()).any(|part| part == TTY));
    let asked = Asked { console: console.map(Into::into), tty: Some(speaks), ..Asked::new("tool") };
    let (told, _tty) = visit.answer(&asked)?;
    let words: Vec<OsString> = if speaks {
        // An owner may be another user's, who is not to say which file a tool of ours opens.
        let path = told.path.filter(|path| is_pty(path)).ok_or_else(|| io::Error::other("the owner gives no pty"))?;
        argv.iter().map(|word| with_tty(word, &path)).collect()
    } else {
        argv.to_vec()
    };
    let status = run_whole(&words, limit, says, visit.stop());
    // Where it was broken off the owner sees that by our end, and does not take the board's mode for known.
    visit.stop().check()?;
    // It is taken away from it in any case.
    let (told, _) = visit.answer(&Asked::new("tool-ended"))?;
    Ok(Ended { status: status?, unread: told.unread.unwrap_or(0) })
}

/// Whether a path is that of the other end of a pty.
fn is_pty(path: &str) -> bool {
    let number = path.strip_prefix("/dev/pts/");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A word with the path of the tty in it, where that is asked for: as part of one word, whatever is in it.
fn with_tty(word: &OsStr, path: &str) -> OsString {
    let mut bytes = word.as_bytes();
    let mut whole = Vec::new();
    while let Some(place) = bytes.windows(TTY.len()).position(|part| part == TTY) {
        whole.extend_from_slice(&bytes[..place]);
        whole.extend_from_slice(path.as_bytes());
        bytes = &bytes[place + TTY.len()..];
    }
    whole.extend_from_slice(bytes);
    OsString::from_vec(whole)
}

/// Runs a command up to its end, the limit or the word to stop, after which neither it nor anything that it has started is left.
fn run_whole(
    words: &[OsString],
    limit: Duration,
    says: Option<&mut Says<'_>>,
    stop: &Stop,
) -> io::Result<Option<ExitStatus>> {
    let (program, arguments) = words.split_first().ok_or_else(|| io::Error::other("expected a command"))?;
    // What leaves its parents behind becomes ours. What we have started before, as an owner of the board, is no part of it.
    set_child_subreaper(Some(getpid()))?;
    let before = children(getpid());
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", program.to_string_lossy()));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).process_group(0);
    let mut printed = Printed { pipe: None, says };
    if printed.says.is_some() {
        let (pipe, prints) = io::pipe()?;
        fcntl_setfl(&pipe, OFlags::RDONLY | OFlags::NONBLOCK)?;
        command.stdout(prints.try_clone()?).stderr(prints);
        printed.pipe = Some(pipe);
    }
    let mut child = command.spawn().map_err(named)?;
    // Its ends of the pipe are ours no more.
    drop(command);
    let began = Instant::now();
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if began.elapsed() >= limit => break None,
            None => {
                printed.pass();
                if stop.wait(LOOK) {
                    break None;
                }
            }
        }
    };
    let began = Instant::now();
    while sweep(&before) {
        if began.elapsed() > GONE {
            return Err(io::Error::other("processes of the tool cannot be killed"));
        }
        thread::sleep(LOOK);
    }
    printed.pass();
    if status.is_none() {
        stop.check()?;
    }
    Ok(status)
}

/// What a tool prints, on its way to somebody.
struct Printed<'a, 'b> {
    pipe: Option<PipeReader>,
    says: Option<&'a mut Says<'b>>,
}

impl Printed<'_, '_> {
    /// Passes on what is there, and no more than it can print in the meantime: it is looked after as well.
    fn pass(&mut self) {
        let (Some(pipe), Some(says)) = (&mut self.pipe, &mut self.says) else { return };
        let mut buffer = [0; PIPE_BYTES];
        for _ in 0..PIPES {
            match pipe.read(&mut buffer) {
                Ok(count) if count > 0 => says(buffer.get(..count).unwrap_or_default()),
                _ => return,
            }
        }
    }
}

/// Kills all that descends from us but for these and what they have started. Whether something was left.
fn sweep(others: &[Pid]) -> bool {
    let left = descendants(others);
    for process in &left {
        let _ = kill_process(*process, Signal::KILL);
    }
    for process in &left {
        // Those that are no children of ours become so when their parents have ended.
        let _ = waitpid(Some(*process), WaitOptions::NOHANG);
    }
    !left.is_empty()
}

/// All processes that we or others of them have started, but for these and theirs.
fn descendants(others: &[Pid]) -> Vec<Pid> {
    /// As many as are looked at in one go; what is beyond is found in the next.
    const MOST: usize = 4096;
    let mut found = Vec::new();
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            if found.len() < MOST && !others.contains(&child) {
                found.push(child);
                parents.push(child);
            }
        }
    }
    found
}

/// What a process has started and is there, or not taken note of.
fn children(parent: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero())).into_iter().flatten().flatten();
    let texts = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
    let texts: Vec<String> = texts.collect();
    let words = texts.iter().flat_map(|text| text.split_whitespace());
    words.filter_map(|word| Pid::from_raw(word.parse().ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tty_takes_its_place_in_any_word_and_nothing_else_is_read_into_one() {
        for (word, expected) in [
            ("{tty}", "/dev/pts/7"),
            ("-P{tty}:x{tty}", "-P/dev/pts/7:x/dev/pts/7"),
            ("a; $(b) {t} {tty", "a; $(b) {t} {tty"),
            ("", ""),
        ] {
            assert_eq!(with_tty(OsStr::new(word), "/dev/pts/7"), expected);
        }
        let odd = OsStr::from_bytes(b"\xff{tty}");
        assert_eq!(with_tty(odd, "t").as_bytes(), b"\xfft");
    }
}
