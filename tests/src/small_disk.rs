//! A size → a file system that has no more room than that, so that it is full when a test wants it to be.

use crate::repository::run;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own, below a directory of a test.
#[derive(Debug)]
pub struct SmallDisk {
    /// Where it is mounted.
    pub path: PathBuf,
}

impl SmallDisk {
    /// Mounts one; `None` for those who may not.
    pub fn mount(path: &Path, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can mount a small disk");
            return None;
        }
        fs::create_dir_all(path).expect("a directory");
        let options = format!("size={size},mode=700");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path));
        Some(Self { path: path.to_path_buf() })
    }

    /// Takes up room until this many bytes are left. With 0 it takes all there is.
    pub fn fill(&self, name: &str, leave: u64) {
        let mut file = fs::File::create(self.path.join(name)).expect("a file");
        let block = vec![0; 64 << 10];
        loop {
            let space = rustix::fs::statvfs(&self.path).expect("a file system");
            let free = space.f_bavail * space.f_frsize;
            let length = free.saturating_sub(leave).min(block.len() as u64) as usize;
            if length == 0 || file.write_all(&block[..length]).is_err() {
                return;
            }
        }
    }

    /// Whether nothing more has room.
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.path).expect("a file system").f_bavail == 0
    }

    /// Gives back what a file of [`SmallDisk::fill`] has taken.
    pub fn free(&self, name: &str) {
        fs::remove_file(self.path.join(name)).expect("the file is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a master may still have something open when a test has failed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}
