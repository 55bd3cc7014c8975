//! Path inside a root file system → file, without ever leaving it: the root's own links are followed as its programs would.

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, mkdirat, openat, openat2, unlinkat,
};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Bytes of a file that is read; lists of users are far shorter.
const FILE_BYTES: u64 = 4 << 20;

/// A root file system, open.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens one.
    ///
    /// # Errors
    /// The system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(openat(CWD, path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
    }

    fn open_inside(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)?)
    }

    /// Whether there is anything at a path.
    pub fn has(&self, path: &str) -> bool {
        self.open_inside(path, OFlags::PATH).is_ok()
    }

    /// A directory, made where it is missing.
    ///
    /// # Errors
    /// The system's.
    pub fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        let mut made = String::new();
        let mut directory = self.open_inside(".", OFlags::PATH | OFlags::DIRECTORY)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            made.push('/');
            made.push_str(name);
            directory = self.open_inside(&made, OFlags::PATH | OFlags::DIRECTORY)?;
        }
        Ok(directory)
    }

    /// The text of a file; empty when there is none.
    ///
    /// # Errors
    /// The system's.
    pub fn read(&self, path: &str) -> io::Result<String> {
        match self.open_inside(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => {
                let mut text = Vec::new();
                File::from(file).take(FILE_BYTES).read_to_end(&mut text)?;
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// Puts a new file in the place of whatever is there, even a link.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, path: &str, text: &str, mode: u32) -> io::Result<()> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.directory(parent)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&parent, name, flags, Mode::RUSR | Mode::WUSR)?;
        fchmod(&file, Mode::from_raw_mode(mode))?;
        File::from(file).write_all(text.as_bytes())
    }

    /// Adds to a file that is there.
    ///
    /// # Errors
    /// The system's.
    pub fn append(&self, path: &str, text: &str) -> io::Result<()> {
        File::from(self.open_inside(path, OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK)?)
            .write_all(text.as_bytes())
    }

    /// Gives a directory, made where it is missing, to a user and the group of the same number.
    ///
    /// # Errors
    /// The system's.
    pub fn give(&self, path: &str, number: u32) -> io::Result<()> {
        let directory = self.directory(path)?;
        chownat(&directory, "", Some(Uid::from_raw(number)), Some(Gid::from_raw(number)), AtFlags::EMPTY_PATH)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn links_lead_nowhere_outside() {
        let base = std::env::temp_dir().join(format!("sai-image-root-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        let inside = base.join("root");
        fs::create_dir_all(inside.join("real/etc")).expect("a directory");
        fs::write(base.join("victim"), "outside").expect("a file");
        // A machine's own file, seen from inside, is the root's own or none.
        symlink("/real/etc", inside.join("etc")).expect("a link");
        symlink(base.join("victim"), inside.join("real/etc/passwd")).expect("a link");
        symlink("../../../victim", inside.join("real/etc/group")).expect("a link");
        let root = Root::open(&inside).expect("a root");
        assert!(root.has("etc") && !root.has("etc/passwd") && !root.has("../victim"));
        assert_eq!(root.read("etc/passwd").expect("no file"), "");
        assert!(root.append("etc/group", "x").is_err());
        root.write("etc/passwd", "inside", 0o644).expect("a file");
        root.write("etc/apt/sources.list", "deb", 0o640).expect("a file");
        root.append("etc/passwd", "!").expect("a file");
        assert_eq!(fs::read_to_string(inside.join("real/etc/passwd")).expect("a file"), "inside!");
        let mode = fs::metadata(inside.join("real/etc/apt/sources.list")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        assert_eq!(fs::read_to_string(base.join("victim")).expect("a file"), "outside");
        root.directory("etc/a/b").expect("directories");
        assert!(inside.join("real/etc/a/b").is_dir());
        fs::remove_dir_all(&base).expect("the end");
    }
}
