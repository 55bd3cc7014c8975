//! Attempt, stream, event → the name of a file under the state directory, and back; writing one so that it is durable.

use sai_core::job::{EventId, JobKey};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes of a saifile at most when one is read back: far more than the limit for a pushed one.
const SAIFILE_BYTES: u64 = 16 << 20;
/// Bytes of a plan that are read at most: the texts of an event's jobs, of which each byte may take six as JSON, and room for
/// what they need.
const PLAN_BYTES: u64 = 256 << 20;

/// Whether an error means that there is no room, for everybody or for this user.
pub(super) fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Free bytes for other users than root where `path` is.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// What a saifile or plan is called until it is whole.
fn temporary(path: &Path) -> PathBuf {
    path.with_extension("json.tmp")
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory that only the master's user may look into, and those above it.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Something found under the state directory by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Log(JobKey),
    PackedLog(JobKey),
    Artifacts(JobKey),
    Saifile(EventId),
    Plan(EventId),
    Bundle(EventId),
    /// Something half written when the master was killed.
    Leftover,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub state: PathBuf,
}

impl Paths {
    pub(super) fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    pub(super) fn log(&self, key: JobKey) -> PathBuf {
        self.logs().join(format!("{key}.log"))
    }

    /// Whether an attempt has a log, packed or not.
    pub(super) fn log_exists(&self, key: JobKey) -> bool {
        self.log(key).exists() || self.packed_log(key).exists()
    }

    pub(super) fn packed_log(&self, key: JobKey) -> PathBuf {
        self.logs().join(format!("{key}.log.lz4"))
    }

    pub(super) fn artifacts(&self, key: JobKey) -> PathBuf {
        self.state.join("artifacts").join(key.to_string())
    }

    /// The file of a stream: 0 is the log.
    pub(super) fn stream(&self, key: JobKey, stream: u16) -> PathBuf {
        if stream == 0 { self.log(key) } else { self.artifacts(key).join(stream.to_string()) }
    }

    pub(super) fn saifiles(&self) -> PathBuf {
        self.state.join("saifiles")
    }

    pub(super) fn saifile(&self, event: EventId) -> PathBuf {
        self.saifiles().join(format!("{event}.json"))
    }

    /// It lies beside the saifile, so that it goes wherever that is copied.
    pub(super) fn plan(&self, event: EventId) -> PathBuf {
        self.saifiles().join(format!("{event}.plan.json"))
    }

    /// What somebody has sent to be built, beside its event's saifile.
    pub(super) fn bundle(&self, event: EventId) -> PathBuf {
        self.saifiles().join(format!("{event}.bundle"))
    }

    pub(super) fn make(&self) -> io::Result<()> {
        make_directory(&self.logs())?;
        make_directory(&self.state.join("artifacts"))?;
        make_directory(&self.saifiles())?;
        sync_directory(&self.state)
    }

    /// Calls `found` with all that has a name of ours, and when it was last written.
    pub(super) fn each(&self, mut found: impl FnMut(Found, &Path, Option<SystemTime>)) -> io::Result<()> {
        for directory in [self.logs(), self.state.join("artifacts"), self.saifiles()] {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                let Some(what) = name.to_str().and_then(|name| Self::recognise(&directory, name)) else { continue };
                let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
                found(what, &entry.path(), modified);
            }
        }
        Ok(())
    }

    fn recognise(directory: &Path, name: &str) -> Option<Found> {
        if name.ends_with(".tmp") {
            return Some(Found::Leftover);
        }
        match directory.file_name()?.to_str()? {
            "logs" => match name.strip_suffix(".lz4") {
                Some(log) => Some(Found::PackedLog(log.strip_suffix(".log")?.parse().ok()?)),
                None => Some(Found::Log(name.strip_suffix(".log")?.parse().ok()?)),
            },
            "artifacts" => Some(Found::Artifacts(name.parse().ok()?)),
            _ if name.ends_with(".bundle") => Some(Found::Bundle(name.strip_suffix(".bundle")?.parse().ok()?)),
            _ => match name.strip_suffix(".plan.json") {
                Some(event) => Some(Found::Plan(event.parse().ok()?)),
                None => Some(Found::Saifile(name.strip_suffix(".json")?.parse().ok()?)),
            },
        }
    }

    /// Bytes that the files of an attempt take.
    pub(super) fn size(&self, key: JobKey) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let artifacts = fs::read_dir(self.artifacts(key)).into_iter().flatten().flatten();
        let artifacts: u64 = artifacts.map(|entry| size(&entry.path())).sum();
        size(&self.log(key)) + size(&self.packed_log(key)) + artifacts
    }

    /// Unlinks the files of an attempt; those that are open stay readable.
    pub(super) fn remove(&self, key: JobKey) -> io::Result<()> {
        let absent = |result: io::Result<()>| match result {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        absent(fs::remove_file(self.log(key)))?;
        absent(fs::remove_file(self.packed_log(key)))?;
        absent(fs::remove_dir_all(self.artifacts(key)))
    }

    /// Opens a stream's file for appending. `fresh`: its first byte comes, so that it may have to be made.
    pub(super) fn open_stream(&self, key: JobKey, stream: u16, fresh: bool) -> io::Result<File> {
        let path = self.stream(key, stream);
        if stream > 0 && fresh {
            make_directory(&self.artifacts(key))?;
        }
        if stream == 0 && self.packed_log(key).exists() {
            return Err(io::Error::other("the log is complete"));
        }
        OpenOptions::new().read(true).write(true).create(fresh).truncate(false).mode(0o600).open(path)
    }

    /// Makes the name of a stream's file durable.
    pub(super) fn sync_names(&self, key: JobKey, stream: u16) -> io::Result<()> {
        if stream == 0 {
            return sync_directory(&self.logs());
        }
        sync_directory(&self.artifacts(key))?;
        sync_directory(&self.state.join("artifacts"))
    }

    /// Writes a saifile or plan; durable when this returns.
    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = Self::draft(path, bytes)?;
        file.sync_all()?;
        fs::rename(temporary(path), path)?;
        sync_directory(&self.saifiles())
    }

    /// Writes what a saifile or plan is to be beside its place.
    fn draft(path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(temporary(path))?;
        file.write_all(bytes)?;
        Ok(file)
    }

    /// Writes a saifile or plan; whole for whoever reads it, and lost with the power.
    pub(super) fn show(path: &Path, bytes: &[u8]) -> io::Result<()> {
        Self::draft(path, bytes)?;
        fs::rename(temporary(path), path)
    }

    pub(super) fn read_saifile(&self, event: EventId) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.saifile(event))?.take(SAIFILE_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_plan(&self, event: EventId) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.plan(event))?.take(PLAN_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_recognised() {
        let logs = Path::new("/s/logs");
        let key = JobKey { job: 7, attempt: 2 };
        assert_eq!(Paths::recognise(logs, "7-2.log"), Some(Found::Log(key)));
        assert_eq!(Paths::recognise(logs, "7-2.log.lz4"), Some(Found::PackedLog(key)));
        assert_eq!(Paths::recognise(logs, "7-2.log.lz4.tmp"), Some(Found::Leftover));
        assert_eq!(Paths::recognise(logs, "notes.txt"), None);
        assert_eq!(Paths::recognise(Path::new("/s/artifacts"), "7-2"), Some(Found::Artifacts(key)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.json"), Some(Found::Saifile(12)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.plan.json"), Some(Found::Plan(12)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.bundle"), Some(Found::Bundle(12)));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "12.plan.json.tmp"), Some(Found::Leftover));
        assert_eq!(Paths::recognise(Path::new("/s/saifiles"), "x.json"), None);
    }
}
