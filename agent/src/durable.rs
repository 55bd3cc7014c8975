//! Bytes in memory or in the page cache → bytes and names that are there after the power has failed.
//!
//! A file is durable when it was synced, its name when the directory was in which it stands. Most of what an agent writes needs
//! neither: it says something about processes, which end with the power, or is compared with what is wanted at each start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Files that are synced at once: what a journal does for one it does for all that wait, so that a hundred small ones, half a
/// second one by one, take a tenth of that.
const AT_ONCE: usize = 16;
/// Bytes of stack of a thread that syncs.
const STACK_BYTES: usize = 64 << 10;

/// Writes a small file that only this user can read, so that it is there whole or as it was before, even after a power cut.
///
/// # Errors
/// The disk's.
pub fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    sync_directory(file.parent().unwrap_or(Path::new("/")))
}

/// Makes the names in a directory durable.
///
/// # Errors
/// The disk's.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the files of a directory durable, and their names; nothing below them.
///
/// # Errors
/// The disk's.
pub fn sync_files(directory: &Path) -> io::Result<()> {
    let entries = fs::read_dir(directory)?;
    sync_paths(entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?)?;
    sync_directory(directory)
}

/// Makes the content of files durable; not their names. One that is not there is none of them.
///
/// # Errors
/// The disk's.
pub fn sync_paths(paths: Vec<PathBuf>) -> io::Result<()> {
    let (threads, left) = (paths.len().min(AT_ONCE), Mutex::new(paths.into_iter()));
    let sync = || {
        loop {
            let Some(path) = left.lock().unwrap_or_else(PoisonError::into_inner).next() else { return Ok(()) };
            match File::open(path) {
                Ok(file) => file.sync_data()?,
                // It has just been removed, being wanted no more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    };
    thread::scope(|scope| -> io::Result<()> {
        let start = |_| thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, sync);
        let started: Vec<_> = (1..threads).map_while(|number| start(number).ok()).collect();
        let own = sync();
        started
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("a panic"))))?;
        own
    })
}
