//! Files that nothing names → `lost+found/`, each with the reason; and the numbers that their names show to be used.
//!
//! Nothing is unlinked because a record of it is missing: that may be the record's fault. What is moved at one time is in
//! one directory, named by that second, under the path it had; its `README` says why.

use super::StoreError;
use super::paths::{make_directory, sync_directory};
use sai_core::numbers::Numbers;
use sai_core::retention::{Age, Evidence};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long what was moved is kept at least: long enough that somebody has looked, also after holidays.
pub(super) const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// What was moved is kept in here.
const NAME: &str = "lost+found";

/// Moves files away, all of one time into one directory.
#[derive(Debug)]
pub(super) struct Lost {
    state: PathBuf,
    directory: Option<PathBuf>,
    /// How many files or directories were moved.
    pub moved: u64,
}

impl Lost {
    pub(super) fn new(state: &Path) -> Self {
        Self { state: state.to_path_buf(), directory: None, moved: 0 }
    }

    /// Where it was moved to, for people.
    pub(super) fn place(&self) -> String {
        self.directory.as_deref().unwrap_or(&self.state.join(NAME)).display().to_string()
    }

    /// A new name for `path`, which is below the state directory, and the reason written down.
    fn place_for(&mut self, path: &Path, why: &str) -> io::Result<PathBuf> {
        let directory = match &self.directory {
            Some(directory) => directory.clone(),
            None => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let free = (now..).map(|second| self.state.join(NAME).join(second.to_string()));
                let directory = free.into_iter().find(|path| !path.exists()).unwrap_or_default();
                make_directory(&directory)?;
                self.directory.insert(directory).clone()
            }
        };
        let relative = path.strip_prefix(&self.state).unwrap_or(path);
        let to = directory.join(relative);
        make_directory(to.parent().unwrap_or(&directory))?;
        let mut readme = OpenOptions::new().create(true).append(true).open(directory.join("README"))?;
        writeln!(readme, "{}: {why}", relative.display())?;
        Ok(to)
    }

    /// Moves a file or directory away.
    pub(super) fn take(&mut self, path: &Path, why: &str) -> Result<(), StoreError> {
        let moved = self.place_for(path, why).and_then(|to| fs::rename(path, to));
        moved.map_err(|error| StoreError::file(path, "move away", &error))?;
        self.moved += 1;
        Ok(())
    }

    /// Keeps bytes that were part of a file.
    pub(super) fn keep(&mut self, path: &Path, bytes: &[u8], why: &str) -> Result<(), StoreError> {
        let kept = self.place_for(path, why).and_then(|to| fs::write(to, bytes));
        kept.map_err(|error| StoreError::file(path, "keep a part of", &error))
    }

    /// Makes the moves durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let synced = sync_directory(directory).and_then(|()| sync_directory(&self.state.join(NAME)));
        synced.map_err(|error| StoreError::file(directory, "sync", &error))
    }
}

/// Directories of what was moved, with the second in which it was.
fn each(state: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(state.join(NAME)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let second = |name: &std::ffi::OsStr| name.to_str()?.parse().ok();
    Ok(entries.flatten().filter_map(|entry| Some((second(&entry.file_name())?, entry.path()))).collect())
}

/// Bytes of a file or of all in a directory.
fn size(path: &Path) -> u64 {
    match fs::read_dir(path) {
        Ok(entries) => entries.flatten().map(|entry| size(&entry.path())).sum(),
        Err(_) => fs::symlink_metadata(path).map_or(0, |metadata| metadata.len()),
    }
}

/// What became of what was moved away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expired {
    /// Bytes freed.
    pub bytes: u64,
    /// Directories left.
    pub left: u64,
    /// Those of them that are old only if the clock is right.
    pub doubtful: u64,
}

/// Removes what was moved more than [`KEPT`] ago, or nothing of it while `whole` is not said: a record may be found again that
/// names it.
pub(super) fn expire(state: &Path, evidence: &Evidence, whole: bool) -> Result<Expired, StoreError> {
    let failed = |path: &Path, error: &io::Error| StoreError::file(path, "clean up", error);
    let mut expired = Expired::default();
    for (second, path) in each(state).map_err(|error| failed(&state.join(NAME), &error))? {
        let age = evidence.age(second.saturating_mul(1000));
        if whole && age == Age::Old {
            expired.bytes += size(&path);
            fs::remove_dir_all(&path).map_err(|error| failed(&path, &error))?;
        } else {
            expired.left += 1;
            expired.doubtful += u64::from(whole && age == Age::Doubtful);
        }
    }
    Ok(expired)
}

/// The numbers behind all that names of files show to be used, moved away or not.
pub(super) fn numbers(state: &Path) -> io::Result<Numbers> {
    let mut numbers = Numbers::FIRST;
    let mut places: Vec<PathBuf> = each(state)?.into_iter().map(|(_, path)| path).collect();
    places.push(state.to_path_buf());
    for place in places {
        for (name, is_event) in [("saifiles", true), ("logs", false), ("artifacts", false)] {
            let entries = match fs::read_dir(place.join(name)) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let name = entry?.file_name();
                let name = name.to_string_lossy();
                let digits = name.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default();
                let Ok(number) = digits.parse::<u64>() else { continue };
                if is_event { numbers.saw_event(number, 0, 0) } else { numbers.saw_job(number) }
            }
        }
    }
    Ok(numbers)
}
