//! Pieces that a person sends → a file by its digest, there as a whole or not at all.
//!
//! What is sent is bounded for each person and each file, goes on where it was cut off, and is forgotten after a day unless an
//! event has kept it; an image for a board after an hour.

use crate::action::Piece;
use sai_agent::digest::Sha256;
use sai_agent::pin::fingerprint_text;
use sai_core::bundle::{BUNDLE_BYTES, check_digest};
use sai_core::job::JobId;
use sai_core::join::check_agent_name;
use sai_core::limits::IMAGE_BYTES;
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
/// How long an image for a board is kept after it was sent or asked for last: it is flashed at once, and somebody who tries one after the
/// other is not to come to the bounds of a day.
const IMAGE_KEPT: Duration = Duration::from_secs(3600);
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

/// The name of a file: what is sent for a board is of the job that has it, and for nobody else.
fn name(of: Option<JobId>, sha256: &str) -> String {
    of.map_or_else(|| sha256.to_string(), |job| format!("{job}-{sha256}"))
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
    /// there ends changes nothing. An image for a board is `of` the job that has it.
    ///
    /// # Errors
    /// Why it is not taken, in a sentence for whoever sends it.
    pub fn take(&self, who: &str, of: Option<JobId>, piece: &Piece) -> Result<u64, String> {
        let Piece { sha256, size, at, bytes } = piece;
        let (size, at) = (*size, *at);
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        check_digest(sha256)?;
        let most = if of.is_some() { IMAGE_BYTES } else { BUNDLE_BYTES };
        if size > most {
            return Err(format!("expected at most {most} bytes, found {size}"));
        }
        let place = self.place(who)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&place).map_err(trouble)?;
        let (files, left) = forget(&place).map_err(trouble)?;
        let whole = place.join(name(of, sha256));
        if let Some(length) = length(&whole) {
            // It is wanted still.
            let touched = File::open(&whole).and_then(|file| file.set_modified(SystemTime::now()));
            return touched.map(|()| length).map_err(trouble);
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
            if digest(&path).map_err(trouble)? != *sha256 {
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
    pub fn find(&self, who: &str, of: Option<JobId>, sha256: &str) -> Result<(PathBuf, u64), String> {
        check_digest(sha256)?;
        let path = self.place(who)?.join(name(of, sha256));
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
        let kept = if entry.file_name().to_string_lossy().contains('-') { IMAGE_KEPT } else { KEPT };
        if old.is_some_and(|age| age > kept) {
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
        let piece = |sha256: &str, size: u64, at: u64, bytes: &[u8]| Piece {
            sha256: sha256.into(),
            size,
            at,
            bytes: bytes.into(),
        };
        let take = |at: u64, bytes: &str| uploads.take("ann", None, &piece(&digest, size, at, bytes.as_bytes()));
        assert_eq!(take(0, ""), Ok(0));
        assert_eq!(take(0, "one "), Ok(4));
        // Sent twice, or behind a gap: who sends goes on from what is there.
        assert_eq!((take(0, "one "), take(9, "three")), (Ok(4), Ok(4)));
        assert!(uploads.find("ann", None, &digest).is_err());
        assert!(take(4, "two three and more").is_err());
        assert_eq!((take(4, "two three"), take(0, "")), (Ok(size), Ok(size)));
        let (path, length) = uploads.find("ann", None, &digest).unwrap();
        assert_eq!((fs::read_to_string(path).unwrap().as_str(), length), (text, size));
        assert!(uploads.find("bob", None, &digest).is_err(), "what one has sent is nobody else's");
        // Other bytes than the digest's are not kept.
        let other = digest_hex("something else");
        assert!(uploads.take("ann", None, &piece(&other, 3, 0, b"abc")).unwrap_err().contains("another SHA-256"));
        assert_eq!(uploads.take("ann", None, &piece(&other, 3, 0, b"")), Ok(0));
        for (who, digest) in [("../ann", digest.as_str()), ("ann", "../../x"), ("ann", &digest.to_uppercase())] {
            assert!(
                uploads.take(who, None, &piece(digest, 3, 0, b"abc")).is_err()
                    && uploads.find(who, None, digest).is_err()
            );
        }
        assert!(uploads.take("ann", None, &piece(&other, BUNDLE_BYTES + 1, 0, b"abc")).is_err());
        // So many, and no more; and not for ever.
        let begin = |number: usize| uploads.take("bob", None, &piece(&digest_hex(&number.to_string()), 9, 0, b"abc"));
        assert!((0..PERSON_FILES).all(|number| begin(number) == Ok(3)));
        assert!(begin(PERSON_FILES).unwrap_err().contains("256 files"));
        let old = SystemTime::now() - KEPT - Duration::from_secs(1);
        let file = uploads.place("bob").unwrap().join(digest_hex("0")).with_extension(PART);
        OpenOptions::new().write(true).open(&file).unwrap().set_modified(old).unwrap();
        uploads.forget().unwrap();
        assert!(!file.exists() && uploads.find("ann", None, &digest).is_ok());
        assert_eq!(begin(PERSON_FILES), Ok(3));
        // An image for a board is another file, of its job alone, smaller, and gone sooner unless it is asked for again.
        let image = |job: u64, size: u64| uploads.take("ann", Some(job), &piece(&digest, size, 0, text.as_bytes()));
        assert!(image(7, IMAGE_BYTES + 1).is_err());
        assert_eq!((image(7, size), image(8, size)), (Ok(size), Ok(size)));
        assert!(uploads.find("ann", Some(7), &digest).is_ok() && uploads.find("ann", Some(9), &digest).is_err());
        let age = |job: u64, age: Duration| {
            let (path, _) = uploads.find("ann", Some(job), &digest).unwrap();
            File::open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        };
        [7, 8].into_iter().for_each(|job| age(job, IMAGE_KEPT - Duration::from_secs(60)));
        assert_eq!(image(7, size), Ok(size));
        age(8, IMAGE_KEPT + Duration::from_secs(1));
        uploads.forget().unwrap();
        assert!(uploads.find("ann", Some(7), &digest).is_ok() && uploads.find("ann", Some(8), &digest).is_err());
        assert!(uploads.find("ann", None, &digest).is_ok());
        fs::remove_dir_all(state).unwrap();
    }
}
