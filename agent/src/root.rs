//! A path in a root that strangers have filled → an open file there, never outside: links are followed as they are meant inside.

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, mkdirat, openat, openat2, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Bytes of a file in an image that are read: far more than any list of users has.
const FILE_BYTES: u64 = 4 << 20;
/// Tries to look up a path while something is renamed at the same time.
const TRIES: usize = 100;

/// An open root directory, and the number of the user to whom what is made in it belongs, unless that is ourselves.
#[derive(Debug)]
pub struct Root(OwnedFd, Option<u32>);

/// A path that means this open file, for calls that only take paths.
pub fn magic_path(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl Root {
    /// Opens a directory as a root.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?, None))
    }

    /// The same root, of which all that is made from now on belongs to a user and the group of the same number.
    #[must_use]
    pub fn of(self, user: u32) -> Self {
        Self(self.0, Some(user))
    }

    /// Gives what we have just made to the user of this root.
    fn own(&self, made: &OwnedFd) -> io::Result<()> {
        let Some(user) = self.1 else { return Ok(()) };
        chownat(made, "", Some(Uid::from_raw(user)), Some(Gid::from_raw(user)), AtFlags::EMPTY_PATH)?;
        Ok(())
    }

    /// Opens what a path means inside.
    ///
    /// # Errors
    /// The system's.
    pub fn open_at(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        for _ in 0..TRIES {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS) => {
                    let why = "containers need a kernel that has openat2: Linux 5.6 or later";
                    return Err(io::Error::new(io::ErrorKind::Unsupported, why));
                }
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Whether a path means anything inside.
    pub fn has(&self, path: impl AsRef<Path>) -> bool {
        self.open_at(path.as_ref(), OFlags::PATH, Mode::empty()).is_ok()
    }

    /// Opens a directory, made first where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn directory(&self, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut so_far = PathBuf::from("/");
        let mut open = self.open_at(&so_far, flags, Mode::empty())?;
        for part in path.as_ref().components() {
            let Component::Normal(name) = part else { continue };
            so_far.push(name);
            open = match self.open_at(&so_far, flags, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(&open, name, Mode::from_raw_mode(0o755))?;
                    let made = self.open_at(&so_far, flags, Mode::empty())?;
                    self.own(&made)?;
                    made
                }
                result => result?,
            };
        }
        Ok(open)
    }

    /// Opens a place for something to be mounted on: a directory, or a file, made first where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn mount_point(&self, path: &Path, directory: bool) -> io::Result<OwnedFd> {
        if directory {
            return self.directory(path);
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        match self.open_at(path, OFlags::PATH, Mode::empty()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = self.open_at(path, OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644))?;
                self.own(&made)?;
                self.open_at(path, OFlags::PATH, Mode::empty())
            }
            result => result,
        }
    }

    /// The text of a file; `None` when there is none.
    ///
    /// # Errors
    /// The system's; `InvalidData` for one that is no text.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<Option<String>> {
        match self.open_at(path.as_ref(), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()) {
            Ok(file) => {
                let mut bytes = Vec::new();
                File::from(file).take(FILE_BYTES).read_to_end(&mut bytes)?;
                Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a file that is no link, that everybody may read and that has this content.
    pub fn holds(&self, path: impl AsRef<Path>, content: &[u8]) -> bool {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let Ok(file) = self.open_at(path.as_ref(), flags, Mode::empty()).map(File::from) else { return false };
        let same = file.metadata().is_ok_and(|about| {
            about.is_file() && about.len() == content.len() as u64 && about.permissions().mode() & 0o444 == 0o444
        });
        let mut bytes = Vec::new();
        same && file.take(FILE_BYTES).read_to_end(&mut bytes).is_ok() && bytes == content
    }

    /// Adds text to the end of a file, which is made where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&self, path: impl AsRef<Path>, text: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NONBLOCK | OFlags::NOCTTY;
        File::from(self.open_at(path.as_ref(), flags, Mode::from_raw_mode(0o644))?).write_all(text.as_bytes())
    }

    /// Puts a file with this mode in the place of whatever is there, a link that leads nowhere for instance.
    ///
    /// # Errors
    /// The system's.
    pub fn replace(&self, path: impl AsRef<Path>, content: &[u8], mode: u32) -> io::Result<()> {
        let (Some(parent), Some(name)) = (path.as_ref().parent(), path.as_ref().file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let parent = self.directory(parent)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?;
        self.own(&file)?;
        fchmod(&file, Mode::from_raw_mode(mode))?;
        File::from(file).write_all(content)
    }

    /// Gives a directory, made first where it is missing, to a user and the group of the same number.
    ///
    /// # Errors
    /// The system's.
    pub fn give(&self, path: impl AsRef<Path>, number: u32) -> io::Result<()> {
        let directory = self.directory(path)?;
        chownat(&directory, "", Some(Uid::from_raw(number)), Some(Gid::from_raw(number)), AtFlags::EMPTY_PATH)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dots_lead_nowhere_but_inside() {
        let base = std::env::temp_dir().join(format!("sai-root-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let (inside, outside) = (base.join("inside"), base.join("outside"));
        fs::create_dir_all(inside.join("etc")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("passwd"), "secret").unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../../outside", inside.join("relative")).unwrap();
        symlink("../../outside/passwd", inside.join("etc/passwd")).unwrap();
        symlink("/proc/self/root", inside.join("magic")).unwrap();
        let root = Root::open(&inside).unwrap();

        for path in ["etc/passwd", "absolute/passwd", "relative/passwd", "../outside/passwd", "/../../outside/passwd"] {
            assert!(root.read(path).unwrap().is_none() && !root.has(path), "{path}");
        }
        // What is made through such a link is made inside.
        root.directory("relative/new").unwrap_err();
        root.directory("/../../outside/new").unwrap();
        assert!(inside.join("outside/new").is_dir());
        root.mount_point(Path::new("a/b/file"), false).unwrap();
        assert!(inside.join("a/b/file").is_file());
        root.mount_point(Path::new("a/b/file"), true).unwrap_err();

        assert!(!root.holds("/etc/passwd", b"secret"));
        root.replace("/etc/passwd", b"new", 0o640).unwrap();
        assert!(!root.holds("/etc/passwd", b"new"));
        root.replace("/etc/hosts", b"new", 0o644).unwrap();
        assert!(root.holds("etc/hosts", b"new") && !root.holds("etc/hosts", b"old") && !root.holds("etc/none", b""));
        symlink("hosts", inside.join("etc/link")).unwrap();
        assert!(!root.holds("etc/link", b"new") && !root.holds("etc", b""));
        let mode = fs::metadata(inside.join("etc/passwd")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        root.replace("etc/apt/sources.list", b"deb", 0o644).unwrap();
        assert_eq!(root.read("/etc/apt/sources.list").unwrap().as_deref(), Some("deb"));
        root.append("/etc/passwd", " line").unwrap();
        assert_eq!(root.read("etc/passwd").unwrap().as_deref(), Some("new line"));
        assert_eq!(fs::read_to_string(outside.join("passwd")).unwrap(), "secret");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        fs::remove_dir_all(&base).unwrap();
    }
}
