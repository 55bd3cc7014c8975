//! Digest → a file with that many bytes: the agent's cache, and how what it does not have comes from the master.
//!
//! A file is fetched over https with the agent's token, in the way in which links are made, and goes on where it was cut off.
//! Nothing in the cache is believed: whoever copies a file compares its digest, so that nothing here needs to be durable.

use super::Want;
use crate::blocking::unblock;
use crate::clock;
use crate::link::{Connection, Dialer, plain, within};
use crate::request::{self, Head, STALL, ask};
use rustix::fs::statvfs;
use sai_core::bug;
use sai_core::fetching::{Failure, Fetching, Input, Output};
use sai_core::job::{Blame, JobKey};
use sai_core::limits::Millis;
use smol::Timer;
use smol::io::AsyncReadExt as _;
use smol::lock::Mutex;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Bytes of files that are kept; those that were used longest ago go first. One that is larger stays until the next is fetched.
const CACHE_BYTES: u64 = 1 << 30;
/// Ending of what is not whole yet.
const PARTIAL: &str = ".partial";
/// Bytes of a refusal's own words that are read.
const WORDS_BYTES: usize = 4096;
/// Bytes that are read before they are written.
const PIECE_BYTES: usize = 128 << 10;
/// Time for which a connection is kept for the next file: shorter than masters and proxies do.
const IDLE_MS: Millis = 20_000;
/// Where a file is on this machine, for who may have it; or why it is not to be had.
pub type Here = Arc<dyn Fn(JobKey, &str) -> Result<PathBuf, String> + Send + Sync>;

/// Where files come from.
#[derive(Clone)]
pub enum Source {
    /// From elsewhere. What has no master but the one in its process need not know any way to one.
    There(Arc<dyn There>),
    /// From this machine.
    Here(Here),
}

impl Source {
    /// From a master elsewhere.
    pub fn master(dialer: Dialer) -> Self {
        Self::There(Arc::new(Master { dialer, turn: Mutex::new(None) }))
    }
}

/// Where a file is in the end.
pub type Getting<'a> = Pin<Box<dyn Future<Output = Result<PathBuf, (Blame, String)>> + Send + 'a>>;

/// Who has files elsewhere.
pub trait There: Send + Sync {
    /// Gets one into this directory.
    fn get<'a>(&'a self, directory: &'a Path, want: &'a Want, tell: Tell<'a>) -> Getting<'a>;
}

/// A master elsewhere. It is asked for one file at a time: they share the way to it.
struct Master {
    dialer: Dialer,
    /// Whose turn it is, and the connection that the one before has left, with when.
    turn: Mutex<Option<(Connection, Millis)>>,
}

/// What gets files.
pub struct Fetcher {
    directory: PathBuf,
    source: Source,
}

/// Why there is no file yet.
enum Failed {
    /// It makes no sense to try again here, and whose trouble that is.
    Here(Blame, String),
    /// What that means is decided in the core; the sentence is for people.
    There(Failure, String),
}

/// Tells how many bytes are there, and what is in the way.
pub type Tell<'a> = &'a (dyn Fn(u64, &str) + Send + Sync);

/// How far a file has come, and who decides how it goes on.
struct Progress<'a> {
    have: u64,
    machine: Fetching,
    tell: Tell<'a>,
}

impl Progress<'_> {
    /// Tells the machine something, and carries out what it says but for what is to be done next.
    fn next(&mut self, input: Input, trouble: &str) -> Option<Output> {
        let mut decided = Vec::new();
        self.machine.handle(clock::steady(), input, &mut decided);
        let mut next = None;
        for output in decided {
            match output {
                Output::Tell => (self.tell)(self.have, trouble),
                Output::Bug(what) => {
                    let sentence = bug::sentence(what);
                    crate::say(&sentence);
                    (self.tell)(self.have, &sentence);
                    crate::end_of_tests();
                }
                Output::Ask { .. } | Output::GiveUp { .. } => next = Some(output),
            }
        }
        next
    }
}

fn later(why: impl Into<String>) -> Failed {
    Failed::There(Failure::Later, why.into())
}

fn disk(error: &io::Error) -> Failed {
    Failed::Here(Blame::Agent, format!("the agent's cache of files: {error}"))
}

impl Fetcher {
    /// One that keeps files in this directory, which is made when it is needed.
    #[must_use]
    pub fn new(directory: PathBuf, source: Source) -> Self {
        Self { directory, source }
    }

    /// Where a file with this digest is, or was a moment ago. Its content is to be compared.
    ///
    /// # Errors
    /// Why there is none, and whose trouble that is.
    pub async fn get(&self, want: &Want, tell: Tell<'_>) -> Result<PathBuf, (Blame, String)> {
        match &self.source {
            Source::Here(here) => {
                let (here, want) = (Arc::clone(here), want.clone());
                unblock(move || here(want.key, &want.sha256)).await.map_err(|why| (Blame::Repository, why))
            }
            Source::There(there) => there.get(&self.directory, want, tell).await,
        }
    }

    /// Keeps nothing of a file that came from elsewhere. What cannot be removed goes when there is no room.
    pub async fn forget(&self, want: Want) {
        if let Source::There(_) = &self.source {
            let places = [self.directory.join(&want.sha256), partial(&self.directory, &want)];
            let _ = unblock(move || places.iter().try_for_each(|place| remove(place))).await;
        }
    }
}

impl There for Master {
    fn get<'a>(&'a self, directory: &'a Path, want: &'a Want, tell: Tell<'a>) -> Getting<'a> {
        Box::pin(self.try_on(directory, want, tell))
    }
}

impl Master {
    /// Tries until it is there, or it makes no sense to go on.
    async fn try_on(&self, directory: &Path, want: &Want, tell: Tell<'_>) -> Result<PathBuf, (Blame, String)> {
        let mut progress = Progress { have: 0, machine: Fetching::new(want.again), tell };
        let (mut next, mut trouble) = (progress.next(Input::Begin, ""), String::new());
        if crate::is_mistaken("fetching") {
            progress.next(Input::Begin, "");
        }
        loop {
            match next {
                Some(Output::Ask { anew }) => {
                    let mut turn = self.turn.lock().await;
                    progress.next(Input::Asked, "");
                    let fetched = self.fetch(directory, &mut turn, want, anew, &mut progress).await;
                    drop(turn);
                    next = match fetched {
                        Ok(path) => return Ok(path),
                        Err(Failed::Here(blame, why)) => return Err((blame, why)),
                        Err(Failed::There(failure, why)) => {
                            trouble = why;
                            progress.next(Input::Failed(failure), &trouble)
                        }
                    };
                }
                Some(Output::GiveUp { in_vain: 0 }) => return Err((Blame::Repository, trouble)),
                Some(Output::GiveUp { in_vain }) => {
                    let seconds = in_vain / 1000;
                    return Err((Blame::Repository, format!("nothing more of it came within {seconds} s: {trouble}")));
                }
                _ => {
                    let Some(deadline) = progress.machine.deadline() else {
                        return Err((Blame::Agent, "nobody asks for it any more".to_string()));
                    };
                    Timer::after(Duration::from_millis(deadline.saturating_sub(clock::steady()))).await;
                    next = progress.next(Input::Tick, &trouble);
                }
            }
        }
    }

    /// One try.
    async fn fetch(
        &self,
        directory: &Path,
        turn: &mut Option<(Connection, Millis)>,
        want: &Want,
        anew: bool,
        progress: &mut Progress<'_>,
    ) -> Result<PathBuf, Failed> {
        let (place, wanted) = (directory.to_path_buf(), want.clone());
        let (file, from) = match unblock(move || look(&place, &wanted, anew)).await? {
            Found::Whole(path) => return Ok(path),
            Found::Part(file, length) => (file, length),
        };
        progress.have = from;
        let left = turn.take().filter(|(_, until)| clock::steady() < *until);
        let used = left.is_some();
        let mut connection = match left {
            Some((connection, _)) => connection,
            None => self.dialer.connect().await.map_err(|error| later(error.to_string()))?,
        };
        let Want { key, sha256, size, .. } = want;
        let path =
            format!("/agent/v1/files/{}/{}/{sha256}{}", key.job, key.attempt, if want.again { "?again" } else { "" });
        let range = if from > 0 { format!("range: bytes={from}-\r\n") } else { String::new() };
        let asked = ask(&mut connection, &self.dialer.request("GET", &path, &range)).await;
        let (head, mut bytes) = match asked {
            Err(_) if used => {
                return Err(Failed::There(Failure::Stale, "connections to the master end at once".to_string()));
            }
            asked => asked.map_err(|error| later(format!("asking the master for a file: {error}")))?,
        };
        let from = match (head.status, head.from) {
            (200, _) => 0,
            (206, Some(first)) if first == from => from,
            _ => return Err(refused(head, bytes, &mut connection).await),
        };
        if head.length != Some(size - from) {
            return Err(later("what stands before the master changes the length of its files"));
        }
        let (mut at, file) = (from, Arc::new(file));
        progress.have = from;
        while at < *size {
            while bytes.len() < PIECE_BYTES && ((at + bytes.len() as u64) < *size) {
                let mut piece = [0; 16 << 10];
                match within(STALL, connection.read(&mut piece)).await {
                    Some(Ok(count)) if count > 0 => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
                    // What came before the cut is kept.
                    _ if !bytes.is_empty() => break,
                    Some(Err(error)) => return Err(later(format!("the connection broke off: {error}"))),
                    _ => return Err(later("the connection broke off")),
                }
            }
            bytes.truncate(usize::try_from(size - at).unwrap_or(usize::MAX));
            let (out, piece, offset) = (Arc::clone(&file), std::mem::take(&mut bytes), at);
            at += piece.len() as u64;
            let partial = partial(directory, want);
            let written = unblock(move || {
                // On a full disk a part would keep the room from the log that tells of it.
                out.write_all_at(&piece, offset).inspect_err(|_| drop(remove(&partial)))
            });
            written.await.map_err(|error| disk(&error))?;
            progress.have = at;
            progress.next(Input::More, "");
        }
        if head.stays {
            *turn = Some((connection, clock::steady() + IDLE_MS));
        }
        let (place, wanted) = (directory.to_path_buf(), want.clone());
        match unblock(move || look(&place, &wanted, false)).await? {
            Found::Whole(path) => Ok(path),
            Found::Part(..) => Err(later("the agent's cache of files is changed from elsewhere")),
        }
    }
}

/// What an answer without a file means.
async fn refused(head: Head, bytes: Vec<u8>, connection: &mut Connection) -> Failed {
    let words = plain(&String::from_utf8_lossy(&request::body(connection, &head, bytes, WORDS_BYTES).await));
    let failure = Failure::of_status(head.status);
    let what = match failure {
        Failure::Gone => "the master has it no more".to_string(),
        Failure::Unknown => "the master gives it to nobody by this attempt".to_string(),
        Failure::Later | Failure::Stale => format!("the master answers with status {}", head.status),
    };
    Failed::There(failure, format!("{what}: {words}"))
}

/// What there is of a file.
enum Found {
    Whole(PathBuf),
    Part(File, u64),
}

/// Where a file is as long as it is not whole.
fn partial(directory: &Path, want: &Want) -> PathBuf {
    directory.join(format!("{}{PARTIAL}", want.sha256))
}

/// Looks for a file, all or a part of it, and makes room for what is still to come; `anew` throws away what is there.
fn look(directory: &Path, want: &Want, anew: bool) -> Result<Found, Failed> {
    find(directory, want, anew).unwrap_or_else(|error| Err(disk(&error)))
}

fn find(directory: &Path, want: &Want, anew: bool) -> io::Result<Result<Found, Failed>> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(&want.sha256);
    let partial = partial(directory, want);
    if anew {
        remove(&path)?;
        remove(&partial)?;
    }
    match OpenOptions::new().write(true).open(&path) {
        Ok(file) if file.metadata()?.len() == want.size => {
            // It is in use now, and others are to go before it.
            file.set_modified(SystemTime::now())?;
            return Ok(Ok(Found::Whole(path)));
        }
        Ok(_) => remove(&path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&partial)?;
    let mut length = file.metadata()?.len();
    if length > want.size {
        file.set_len(0)?;
        length = 0;
    }
    if length == want.size {
        fs::rename(&partial, &path)?;
        return Ok(Ok(Found::Whole(path)));
    }
    // Another copy of it is made for the job.
    let free = make_room(directory, &partial, want.size, (want.size - length).saturating_add(want.size))?;
    if free < want.size - length {
        let why = format!("a file of {} bytes is needed, and {free} are free in {}", want.size, directory.display());
        return Ok(Err(Failed::Here(Blame::Agent, why)));
    }
    Ok(Ok(Found::Part(file, length)))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what was used longest ago until there is room for a file of this size in the cache, and so many bytes are free on
/// the disk. Tells how many are.
fn make_room(directory: &Path, but: &Path, size: u64, wanted: u64) -> io::Result<u64> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // One that was removed meanwhile needs no more room.
        if let Ok(state) = entry.metadata()
            && entry.path() != but
        {
            files.push((state.modified()?, state.len(), entry.path()));
        }
    }
    files.sort_unstable();
    let mut sum = files.iter().map(|(_, length, _)| *length).fold(size, u64::saturating_add);
    let free = || statvfs(directory).map(|space| space.f_bavail.saturating_mul(space.f_frsize));
    for (_, length, path) in files {
        if sum <= CACHE_BYTES && free()? >= wanted {
            break;
        }
        remove(&path)?;
        sum = sum.saturating_sub(length);
    }
    Ok(free()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(digit: &str, size: u64) -> Want {
        Want::new(JobKey { job: 1, attempt: 1 }, &digit.repeat(64), size, false).expect("a digest")
    }

    #[test]
    fn the_cache_is_bounded_and_what_was_used_longest_ago_goes_first() {
        let directory = std::env::temp_dir().join(format!("sai-cache-bound-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let make = |digit: &str, size: u64, age: u64| {
            let want = want(digit, size);
            assert!(matches!(find(&directory, &want, false).unwrap(), Ok(Found::Part(_, 0))));
            let partial = partial(&directory, &want);
            // A file of holes is as long, and takes no room.
            File::options().write(true).open(&partial).unwrap().set_len(size).unwrap();
            assert!(matches!(find(&directory, &want, false).unwrap(), Ok(Found::Whole(_))));
            let file = File::options().write(true).open(directory.join(&want.sha256)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        };
        let there = || {
            let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<String> = names.map(|name| name.to_str().unwrap()[..1].to_string()).collect();
            names.sort_unstable();
            names.concat()
        };
        make("1", CACHE_BYTES / 4, 30);
        make("2", CACHE_BYTES / 4, 20);
        make("3", CACHE_BYTES / 4, 10);
        make("4", CACHE_BYTES / 4, 5);
        assert_eq!(there(), "1234");
        // The oldest has just been used.
        assert!(matches!(find(&directory, &want("1", CACHE_BYTES / 4), false).unwrap(), Ok(Found::Whole(_))));
        make("5", CACHE_BYTES / 4, 0);
        assert_eq!(there(), "1345");
        make("6", CACHE_BYTES, 0);
        assert_eq!(there(), "6");
        // One that is damaged, or longer than it should be, is fetched from its beginning.
        assert!(matches!(find(&directory, &want("6", CACHE_BYTES), true).unwrap(), Ok(Found::Part(_, 0))));
        assert_eq!(there(), "6");
        fs::write(directory.join("7".repeat(64)), "four").unwrap();
        assert!(matches!(find(&directory, &want("7", 3), false).unwrap(), Ok(Found::Part(_, 0))));
        fs::write(partial(&directory, &want("7", 3)), "fo").unwrap();
        assert!(matches!(find(&directory, &want("7", 3), false).unwrap(), Ok(Found::Part(_, 2))));
        let Ok(Err(Failed::Here(Blame::Agent, why))) = find(&directory, &want("8", u64::MAX / 4), false) else {
            panic!("a file larger than the disk")
        };
        assert!(why.contains("are free in"), "{why}");
        fs::remove_dir_all(directory).unwrap();
    }
}
