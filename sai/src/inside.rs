//! A directory and a path that a stranger chose → a place in it, and never one outside of it.
//!
//! Each part of the path is opened below the one before, and none is followed where it is a link: neither a name nor what lies in
//! the directory leads out of it.

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, renameat, statat, unlinkat};
use sai_core::record::check_path;
use std::fs::File;
use std::io;
use std::path::Path;

/// Rights of directories that are made, as far as the user's mask lets them.
const DIRECTORY: Mode = Mode::from_raw_mode(0o777);

/// A directory that holds a file of a stranger's, and the file's name there.
#[derive(Debug)]
pub struct Inside {
    directory: OwnedFd,
    name: String,
}

fn below(directory: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match mkdirat(directory, name, DIRECTORY) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?)
}

impl Inside {
    /// The place of a path in a directory, both made as far as they are not there.
    ///
    /// # Errors
    /// The path is no relative one, leads through a link, or the disk's.
    pub fn new(directory: &Path, path: &str) -> io::Result<Self> {
        check_path(path).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
        std::fs::create_dir_all(directory)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = open(directory, flags, Mode::empty())?;
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        for folder in folders.split('/').filter(|folder| !folder.is_empty()) {
            at = below(&at, folder)?;
        }
        Ok(Self { directory: at, name: name.to_owned() })
    }

    /// Opens what is there under its name, where that is a file.
    ///
    /// # Errors
    /// There is none, it is a link or something else, or the disk's.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat(&self.directory, self.name.as_str(), flags, Mode::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Whether anything is there under its name.
    pub fn is_there(&self) -> bool {
        statat(&self.directory, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens a file beside it for what is not whole yet, with what is in it from before.
    ///
    /// # Errors
    /// The disk's, or something else is there.
    pub fn part(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = File::from(openat(&self.directory, name, flags, Mode::from_raw_mode(0o600))?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Gives a file beside it its name.
    ///
    /// # Errors
    /// The disk's.
    pub fn rename(&self, part: &str) -> io::Result<()> {
        Ok(renameat(&self.directory, part, &self.directory, self.name.as_str())?)
    }

    /// Removes a file beside it.
    pub fn remove(&self, part: &str) {
        let _ = unlinkat(&self.directory, part, AtFlags::empty());
    }
}

/// The rights that a new file of this user has, or one that may be executed.
pub fn mode(executable: bool) -> Mode {
    // It can be asked for by setting it alone, and a program with one thread is disturbed by nobody meanwhile.
    let mask = rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::umask(mask);
    Mode::from_raw_mode(if executable { 0o777 } else { 0o666 }) & !mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_leads_out_of_the_directory() {
        let place = std::env::temp_dir().join(format!("sai-inside-{}", std::process::id()));
        let (told, outside) = (place.join("told"), place.join("outside"));
        std::fs::create_dir_all(&told).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        symlink(&outside, told.join("away")).unwrap();
        symlink(outside.join("file"), told.join("link")).unwrap();
        for bad in ["", ".", "..", "/etc/passwd", "a/../../b", "a//b", "a/./b", "a\n", "../outside/file", "away/file"] {
            assert!(Inside::new(&told, bad).is_err(), "{bad}");
        }
        // A link in the place of the file is replaced, and what it leads to is not.
        let link = Inside::new(&told, "link").unwrap();
        assert!(link.open().is_err() && link.is_there());
        assert!(link.part("link").is_err());
        std::io::Write::write_all(&mut link.part(".part").unwrap(), b"mine").unwrap();
        link.rename(".part").unwrap();
        assert_eq!(std::fs::read(told.join("link")).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        let deep = Inside::new(&told, "a/b/c d").unwrap();
        drop(deep.part(".part").unwrap());
        deep.rename(".part").unwrap();
        assert!(told.join("a/b/c d").is_file() && deep.open().is_ok());
        std::fs::remove_dir_all(&place).unwrap();
    }
}
