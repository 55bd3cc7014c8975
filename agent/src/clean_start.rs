//! Program and arguments → a process that has inherited nothing of whoever started us: no signal that is ignored or blocked, no
//! open file that is not meant for it.
//!
//! `nohup`, a shell's `&`, cron and test runners leave signals ignored, and those stay so in all that is started from there: a
//! build that waits for SIGINT or SIGCHLD would wait for ever. The standard library only takes care of SIGPIPE and the mask.

use async_signal::{Signal, Signals};
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawnp};
use nix::sys::signal::SigSet;
use rustix::process::Pid;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// All signals that a library lets us receive, but SIGPIPE, which Rust ignores and takes care of.
const RECEIVABLE: [Signal; 23] = [
    Signal::Hup,
    Signal::Int,
    Signal::Quit,
    Signal::Trap,
    Signal::Abort,
    Signal::Bus,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Alarm,
    Signal::Term,
    Signal::Child,
    Signal::Cont,
    Signal::Tstp,
    Signal::Ttin,
    Signal::Ttou,
    Signal::Urg,
    Signal::Xcpu,
    Signal::Xfsz,
    Signal::Vtalarm,
    Signal::Prof,
    Signal::Winch,
    Signal::Io,
    Signal::Sys,
];
/// Signals that say nothing about whoever started us: SIGPIPE, and the two that belong to the C library.
const OURS: u64 = 1 << 12 | 1 << 31 | 1 << 32;
/// The standard streams: input, output, errors.
const STREAMS: [i32; 3] = [0, 1, 2];

/// Has a command started by fork and exec: the C library's posix_spawn leaves two signals ignored that are its own, in all that
/// is started from there. A group that changes nothing is what makes the standard library do so.
pub fn forked(command: &mut Command) -> &mut Command {
    command.gid(rustix::process::getegid().as_raw())
}

/// Starts a program with these standard streams, our environment and directory.
///
/// # Errors
/// The system's, or `InvalidInput` for a word with a zero byte in it.
pub fn spawn(program: &OsStr, arguments: &[OsString], streams: [BorrowedFd<'_>; 3]) -> io::Result<Pid> {
    if ignored() & !OURS == 0 {
        let [input, output, errors] = streams.map(|stream| stream.try_clone_to_owned().map(Stdio::from));
        let mut command = Command::new(program);
        command.args(arguments).stdin(input?).stdout(output?).stderr(errors?);
        return forked(&mut command).spawn().map(|child| Pid::from_child(&child));
    }
    // Some can neither be received nor made the default in any way but this.
    let word = |bytes: &[u8]| CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    let program = word(program.as_bytes())?;
    let mut words = vec![program.clone()];
    for argument in arguments {
        words.push(word(argument.as_bytes())?);
    }
    let mut environment = Vec::new();
    for (mut name, value) in std::env::vars_os() {
        name.push("=");
        name.push(value);
        environment.push(word(&name.into_vec())?);
    }
    let start = || -> nix::Result<nix::unistd::Pid> {
        let mut attributes = PosixSpawnAttr::init()?;
        attributes.set_flags(PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK)?;
        attributes.set_sigdefault(&SigSet::all())?;
        attributes.set_sigmask(&SigSet::empty())?;
        let mut actions = PosixSpawnFileActions::init()?;
        for (from, to) in streams.iter().zip(STREAMS) {
            actions.add_dup2(from.as_raw_fd(), to)?;
        }
        posix_spawnp(&program, &actions, &attributes, &words, &environment)
    };
    Pid::from_raw(start()?.as_raw()).ok_or_else(|| io::Error::other("a process without a number"))
}

/// Closes all files but the standard streams: for a program that has just begun and has opened none itself.
pub fn close_others() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // With them all known the directory is closed again, which was one of them.
    let numbers: Vec<i32> = numbers.filter(|number| !STREAMS.contains(number)).collect();
    for number in numbers {
        let _ = nix::unistd::close(number);
    }
}

/// Lets every signal through, and ignores none that can be received: for a program that has just begun. What is received by us
/// is by nature not ignored in what we start; nobody reads it here. Of its children's ends such a program could know nothing.
pub fn restore_signals() {
    static RECEIVER: Mutex<Option<Signals>> = Mutex::new(None);
    let _ = SigSet::empty().thread_set_mask();
    let ignored = ignored();
    let receivable = RECEIVABLE.into_iter().filter(|signal| ignored >> (*signal as u32 - 1) & 1 == 1);
    let receivable: Vec<Signal> = receivable.collect();
    if !receivable.is_empty()
        && let (Ok(mut receiver), Ok(signals)) = (RECEIVER.lock(), Signals::new(receivable))
    {
        *receiver = Some(signals);
    }
}

/// The set of signals that this process ignores, by /proc/self/status: the lowest bit is signal 1.
fn ignored() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let set = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}
