//! Pieces that a person sends → a file by its digest, there as a whole or not at all.
//!
//! What is sent is bounded for each person and each file, goes on where it was cut off, and is forgotten after a day unless an
//! event has kept it.

use sai_agent::digest::Sha256;
use sai_agent::pin::fingerprint_text;
use sai_core::bundle::{BUNDLE_BYTES, check_digest};
use sai_core::join::check_agent_name;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Bytes that one person may have here at once: two of the largest, and some more.
const PERSON_BYTES: u64 = 3 * BUNDLE_BYTES;
/// Files of one person at most: each run sends two.
const PERSON_FILES: usize = 256;
/// Bytes of the disk that are left for logs, which are worth more.
const FREE_BYTES: u64 = 1 << 30;
/// How long what was sent is kept here: until the next morning.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// What is not whole yet has this ending.
const PART: &str = "part";
/// Bytes that are compared at once.
const COMPARED_BYTES: usize = 128 << 10;

/// What people have sent.
#[derive(Debug)]
pub struct Uploads {
    directory: PathBuf,
    /// Whose turn it is: two pieces of one file are not written at once.
    turn: Mutex<()>,
}

fn trouble(error: io::Error) -> String {
    format!("what is sent cannot be kept: {error}")
}

fn length(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().filter(|about| about.is_file()).map(|about| about.len())
}

impl Uploads {
    /// Those of a master's state.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("uploads"), turn: Mutex::new(()) }
    }

    fn place(&self, who: &str) -> Result<PathBuf, String> {
        check_agent_name(who)?;
        Ok(self.directory.join(who))
    }

    /// Takes a piece of a file that begins at this byte; how many bytes are there then. A piece that begins elsewhere than what is
    /// there ends changes nothing.
    ///
    /// # Errors
    /// Why it is not taken, in a sentence for whoever sends it.
    pub fn take(&self, who: &str, sha256: &str, size: u64, at: u64, bytes: &[u8]) -> Result<u64, String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        check_digest(sha256)?;
        if size > BUNDLE_BYTES {
            return Err(format!("expected at most {BUNDLE_BYTES} bytes, found {size}"));
        }
        let place = self.place(who)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(trouble)?;
        let (files, left) = forget(&place).map_err(trouble)?;
        let whole = place.join(sha256);
        if let Some(length) = length(&whole) {
            return Ok(length);
        }
        let path = whole.with_extension(PART);
        let there = length(&path).unwrap_or(0);
        if at != there || (bytes.is_empty() && size > 0) {
            return Ok(there);
        }
        let sum = there + bytes.len() as u64;
        if sum > size {
            return Err(format!("expected {size} bytes, found more"));
        }
        if left + bytes.len() as u64 > PERSON_BYTES || (at == 0 && files >= PERSON_FILES) {
            return Err(format!(
                "{who} has sent {files} files of {left} bytes within a day, and there may be {PERSON_FILES} of {PERSON_BYTES}"
            ));
        }
        let space = rustix::fs::statvfs(&place).map_err(|error| trouble(error.into()))?;
        if space.f_bavail.saturating_mul(space.f_frsize) < FREE_BYTES + size {
            return Err("the master's disk has no room for what is sent".to_string());
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(trouble)?;
        file.write_all(bytes).map_err(trouble)?;
        // What is said to be there stays there, whatever is cut.
        file.sync_all().map_err(trouble)?;
        let synced = || File::open(&place).and_then(|place| place.sync_all()).map_err(trouble);
        if there == 0 {
            synced()?;
        }
        if sum == size {
            if digest(&path).map_err(trouble)? != sha256 {
                fs::remove_file(&path).map_err(trouble)?;
                return Err(
                    "what was sent has another SHA-256 than it was said to have; nothing of it is kept".to_string()
                );
            }
            fs::rename(&path, &whole).map_err(trouble)?;
            synced()?;
        }
        Ok(sum)
    }

    /// Removes what is old, whoever has sent it.
    ///
    /// # Errors
    /// The disk's, in a sentence.
    pub fn forget(&self) -> Result<(), String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(trouble)?,
        };
        entries.map(|entry| forget(&entry?.path())).collect::<io::Result<Vec<_>>>().map(drop).map_err(trouble)
    }

    /// Where a file is that somebody has sent whole.
    ///
    /// # Errors
    /// They have not.
    pub fn find(&self, who: &str, sha256: &str) -> Result<(PathBuf, u64), String> {
        check_digest(sha256)?;
        let path = self.place(who)?.join(sha256);
        let length = length(&path).ok_or_else(|| format!("{who} has sent nothing whole with the SHA-256 {sha256}"))?;
        Ok((path, length))
    }
}

/// Removes what is old of a person's; how many files and bytes are left.
fn forget(place: &Path) -> io::Result<(usize, u64)> {
    let (mut files, mut left) = (0, 0);
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        let about = entry.metadata()?;
        let old = about.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if old.is_some_and(|age| age > KEPT) {
            fs::remove_file(entry.path())?;
        } else {
            files += 1;
            left += about.len();
        }
    }
    Ok((files, left))
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut digest, mut piece) = (File::open(path)?, Sha256::default(), vec![0; COMPARED_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(fingerprint_text(&digest.finish())),
            count => digest.update(piece.get(..count).unwrap_or_default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::digest_hex;

    #[test]
    fn what_is_sent_is_whole_or_not_there() {
        let state = std::env::temp_dir().join(format!("sai-uploads-{}", std::process::id()));
        let uploads = Uploads::new(&state);
        let text = "one two three";
        let (digest, size) = (digest_hex(text), text.len() as u64);
        let take = |at: u64, bytes: &str| uploads.take("ann", &digest, size, at, bytes.as_bytes());
        assert_eq!(take(0, ""), Ok(0));
        assert_eq!(take(0, "one "), Ok(4));
        // Sent twice, or behind a gap: who sends goes on from what is there.
        assert_eq!((take(0, "one "), take(9, "three")), (Ok(4), Ok(4)));
        assert!(uploads.find("ann", &digest).is_err());
        assert!(take(4, "two three and more").is_err());
        assert_eq!((take(4, "two three"), take(0, "")), (Ok(size), Ok(size)));
        let (path, length) = uploads.find("ann", &digest).unwrap();
        assert_eq!((fs::read_to_string(path).unwrap().as_str(), length), (text, size));
        assert!(uploads.find("bob", &digest).is_err(), "what one has sent is nobody else's");
        // Other bytes than the digest's are not kept.
        let other = digest_hex("something else");
        assert!(uploads.take("ann", &other, 3, 0, b"abc").unwrap_err().contains("another SHA-256"));
        assert_eq!(uploads.take("ann", &other, 3, 0, b""), Ok(0));
        for (who, digest) in [("../ann", digest.as_str()), ("ann", "../../x"), ("ann", &digest.to_uppercase())] {
            assert!(uploads.take(who, digest, 3, 0, b"abc").is_err() && uploads.find(who, digest).is_err());
        }
        assert!(uploads.take("ann", &other, BUNDLE_BYTES + 1, 0, b"abc").is_err());
        // So many, and no more; and not for ever.
        let begin = |number: usize| uploads.take("bob", &digest_hex(&number.to_string()), 9, 0, b"abc");
        assert!((0..PERSON_FILES).all(|number| begin(number) == Ok(3)));
        assert!(begin(PERSON_FILES).unwrap_err().contains("256 files"));
        let old = SystemTime::now() - KEPT - Duration::from_secs(1);
        let file = uploads.place("bob").unwrap().join(digest_hex("0")).with_extension(PART);
        OpenOptions::new().write(true).open(&file).unwrap().set_modified(old).unwrap();
        uploads.forget().unwrap();
        assert!(!file.exists() && uploads.find("ann", &digest).is_ok());
        assert_eq!(begin(PERSON_FILES), Ok(3));
        fs::remove_dir_all(state).unwrap();
    }
}
