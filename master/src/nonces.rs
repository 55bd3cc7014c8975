//! The nonce of a verified push → fresh or replayed, over restarts of the master.
//!
//! A text file of `REPOSITORY NONCE` lines, appended to before a push is acted on, and rewritten when it has grown to twice
//! what is remembered. It is written, not flushed to the disk: a master that is killed forgets nothing, a machine that loses
//! power may forget the last seconds, and a replay can do no more than have an old revision built again.

use sai_core::git_names::check_repository;
use sai_core::replay::{NONCE_BYTES, NONCES, ReplayWindow};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest file read at the start, in bytes: 32 full windows; beyond it something else has written the file.
const FILE_BYTES: u64 = 32 << 20;

/// The nonces seen, in memory and in a file.
#[derive(Debug)]
pub struct Nonces {
    path: PathBuf,
    file: File,
    window: ReplayWindow,
    /// Lines in the file.
    lines: usize,
}

impl Nonces {
    /// Reads the file, which is made if it is not there. Lines that are no nonces (a torn last one) are dropped.
    ///
    /// # Errors
    /// The file cannot be read or made.
    pub fn open(path: &Path) -> io::Result<Nonces> {
        let mut text = Vec::new();
        match File::open(path) {
            Ok(file) => file.take(FILE_BYTES).read_to_end(&mut text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let mut window = ReplayWindow::default();
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some((repository, nonce)) = line.split_once(' ')
                && check_repository(repository).is_ok()
                && (1..=NONCE_BYTES).contains(&nonce.len())
            {
                window.is_fresh(repository, nonce);
            }
        }
        let (file, lines) = rewrite(path, &window)?;
        Ok(Nonces { path: path.to_path_buf(), file, window, lines })
    }

    /// Remembers the nonce of a push whose signature is genuine; says whether it is fresh.
    ///
    /// # Errors
    /// The file cannot be written; the push is then not to be acted on.
    pub fn is_fresh(&mut self, repository: &str, nonce: &str) -> io::Result<bool> {
        if !self.window.is_fresh(repository, nonce) {
            return Ok(false);
        }
        self.file.write_all(format!("{repository} {nonce}\n").as_bytes())?;
        self.lines += 1;
        if self.lines > 2 * NONCES && self.lines > 2 * self.window.iter().count() {
            (self.file, self.lines) = rewrite(&self.path, &self.window)?;
        }
        Ok(true)
    }

    /// Forgets the nonce of a push that could not be taken, so that it may be sent again.
    ///
    /// # Errors
    /// The file cannot be written; until a restart it is forgotten nevertheless.
    pub fn forget(&mut self, repository: &str, nonce: &str) -> io::Result<()> {
        self.window.forget(repository, nonce);
        (self.file, self.lines) = rewrite(&self.path, &self.window)?;
        Ok(())
    }
}

/// Writes the window to a new file that takes the place of the old one at once.
fn rewrite(path: &Path, window: &ReplayWindow) -> io::Result<(File, usize)> {
    let mut text = String::new();
    let mut lines = 0;
    for (repository, nonce) in window.iter() {
        text += &format!("{repository} {nonce}\n");
        lines += 1;
    }
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    fs::rename(&new, path)?;
    Ok((file, lines))
}
