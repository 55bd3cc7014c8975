//! A process with what it holds ↔ the same one with another program in it: an update closes no file and forgets nothing.
//!
//! The files wait in a socket that becomes the next program's standard input, so that nothing depends on their numbers; the first
//! of them is a memory that holds what the program knew.

use crate::link::{FILES_MAX, Link};
use rustix::fs::{MemfdFlags, memfd_create};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Says on a command line that there is something to go on with.
pub const FLAG: &str = "--goes-on";
/// Bytes of what a program knew at most: the rings of eight fast consoles.
const KNOWN_BYTES: u64 = 256 << 20;
/// Time that a program may take to say which version it is, before it is said to be none.
const SAYS: Duration = Duration::from_secs(10);

/// Sees whether there is a program that at least begins: one that does not is better not begun as the only holder of anything.
///
/// # Errors
/// Why not.
pub fn check(program: &Path) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let began = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("{} --version: {status}", program.display()))),
            None if began.elapsed() > SAYS => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(io::Error::other(format!("{} --version does not end", program.display())));
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Becomes the program, with these arguments, what is known and the files, in their order. Comes back with an error alone.
pub fn go_on<S: AsRef<OsStr>>(program: &Path, arguments: &[S], known: &[u8], files: &[BorrowedFd<'_>]) -> io::Error {
    let prepare = || -> io::Result<Link> {
        let mut memory = File::from(memfd_create("known", MemfdFlags::CLOEXEC)?);
        memory.write_all(known)?;
        memory.rewind()?;
        let (near, far) = Link::pair()?;
        near.send(format!("{}", files.len()).as_bytes(), &[memory.as_fd()])?;
        for some in files.chunks(FILES_MAX) {
            near.send(b"files", some)?;
        }
        Ok(far)
    };
    let link = match prepare() {
        Ok(link) => link,
        Err(error) => return error,
    };
    let error = match link.as_fd().try_clone_to_owned() {
        Ok(input) => Command::new(program).args(arguments).arg(FLAG).stdin(Stdio::from(input)).exec(),
        Err(error) => error,
    };
    // What waits there would hold every file open once more.
    while let Ok(Some(_)) = link.receive() {}
    error
}

/// What the program knew that was there before, and its files.
///
/// # Errors
/// Standard input is no such thing.
pub fn taken() -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "standard input: expected what another process held");
    let link = Link::of(io::stdin().as_fd().try_clone_to_owned()?)?;
    let first = link.receive()?.ok_or_else(strange)?;
    let count: usize = String::from_utf8(first.bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(strange)?;
    let memory = first.files.into_iter().next().ok_or_else(strange)?;
    let mut known = Vec::new();
    File::from(memory).take(KNOWN_BYTES).read_to_end(&mut known)?;
    let mut files = Vec::new();
    while files.len() < count {
        files.extend(link.receive()?.ok_or_else(strange)?.files);
    }
    Ok((known, files))
}
