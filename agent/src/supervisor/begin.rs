//! What a supervisor is started with → the lock and the listening socket of its job directory.

use crate::job_directory::{JobDirectory, listen};
use rustix::fs::{FlockOperation, flock, fstat};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

/// The lock comes as the standard input from whoever started us; a supervisor started by hand takes it itself. It stays our
/// standard input, as the listening socket stays our standard output: what we start is always given others.
pub(super) fn take_lock(directory: &JobDirectory) -> io::Result<File> {
    let given = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let same = |one: &File, other: &File| -> io::Result<bool> {
        let (one, other) = (fstat(one)?, fstat(other)?);
        Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
    };
    if let Ok(lock) = File::open(directory.path().join("lock"))
        && same(&lock, &given)?
    {
        flock(&given, FlockOperation::NonBlockingLockExclusive)?;
        return Ok(given);
    }
    directory.try_lock()?.ok_or_else(|| io::Error::new(io::ErrorKind::WouldBlock, "another supervisor has the job"))
}

pub(super) fn take_listener(directory: &JobDirectory) -> io::Result<UnixListener> {
    let given = io::stdout().as_fd().try_clone_to_owned()?;
    let listener = match rustix::net::sockopt::socket_acceptconn(&given) {
        Ok(true) => UnixListener::from(given),
        _ => listen(directory)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}
