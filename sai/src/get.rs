//! A job and names of its files → those files in a directory, each compared with its digest before it has its name.

use crate::answers::{Artifact, Job};
use crate::failure::Failure;
use crate::follow::path;
use crate::inside::{Inside, mode};
use crate::master::{Master, Trouble, Waiting};
use crate::telling::{plain, tell};
use miniserde::{Serialize, json};
use rustix::fs::fchmod;
use sai_agent::digest::Sha256;
use sai_agent::pin::fingerprint_text;
use sai_agent::terminal;
use sai_core::glob;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for which a file is asked for while nothing more of it comes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes that are compared at once.
const PIECE_BYTES: usize = 128 << 10;
/// Times that a file is fetched whose bytes are others than its digest says.
const TIMES: u32 = 2;

/// What is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// The job.
    pub job: u64,
    /// Paths or globs; all files where there is none.
    pub names: Vec<String>,
    /// Where they go; else into a directory of the job's own.
    pub directory: Option<PathBuf>,
    /// Whether a file that is there and differs is replaced.
    pub force: bool,
    /// For programs.
    pub json: bool,
}

/// A file that is there now, for programs.
#[derive(Serialize)]
struct Got<'a> {
    path: &'a str,
    file: String,
    size: u64,
    sha256: &'a str,
    /// Whether it was there already.
    kept: bool,
}

/// Fetches files.
///
/// # Errors
/// Whose fault it is that one of them is not there.
pub fn get(master: &mut Master, wanted: &Wanted) -> Result<(), Failure> {
    smol::block_on(async {
        let job: Job = master.patient(&path(wanted.job), Duration::ZERO).await?;
        let directory = wanted.directory.clone().unwrap_or_else(|| PathBuf::from(format!("job-{}", job.id)));
        let mut shown = Vec::new();
        for artifact in chosen(&job, &wanted.names)? {
            shown.push(fetch(master, &directory, artifact, wanted).await?);
        }
        let text: String = shown.into_iter().map(|line| line + "\n").collect();
        terminal::deliver(text.as_bytes()).map_err(|error| Failure::here("standard output", &error))
    })
}

/// The files of a job that are named.
///
/// # Errors
/// A name is none of any.
pub fn chosen<'a>(job: &'a Job, names: &[String]) -> Result<Vec<&'a Artifact>, Failure> {
    let is = |artifact: &Artifact, name: &String| artifact.path == *name || glob::matches(name, &artifact.path);
    if let Some(name) = names.iter().find(|name| !job.artifacts.iter().any(|artifact| is(artifact, name))) {
        let has: Vec<String> = job.artifacts.iter().take(20).map(|artifact| plain(&artifact.path)).collect();
        let has = if has.is_empty() { "has none".to_owned() } else { format!("has {}", has.join(", ")) };
        return Err(Failure::refused(format!("job {} has no file {}; it {has}", job.id, plain(name))));
    }
    if job.artifacts.is_empty() {
        return Err(Failure::refused(format!("job {} ({}) has no files", job.id, plain(&job.state))));
    }
    let wanted = |artifact: &&Artifact| names.is_empty() || names.iter().any(|name| is(artifact, name));
    Ok(job.artifacts.iter().filter(wanted).collect())
}

/// Fetches one file; the line that says so.
async fn fetch(master: &mut Master, directory: &Path, artifact: &Artifact, wanted: &Wanted) -> Result<String, Failure> {
    let shown = format!("{}/{}", directory.display(), artifact.path);
    let wrong = |error: io::Error| Failure::here(&plain(&shown), &error);
    let sha256 = artifact.sha256.to_ascii_lowercase();
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) || !artifact.download.starts_with('/')
    {
        return Err(Failure::trouble(format!("the master says nothing usable of {}", plain(&artifact.path))));
    }
    let place = Inside::new(directory, &artifact.path).map_err(wrong)?;
    let told = |kept| {
        let line =
            Got { path: &artifact.path, file: shown.clone(), size: artifact.size, sha256: &artifact.sha256, kept };
        if wanted.json { json::to_string(&line) } else { plain(&shown) }
    };
    if place.is_there() {
        let same = place.open().and_then(|mut file| digest(&mut file)).is_ok_and(|found| found == sha256);
        if same {
            return Ok(told(true));
        }
        if !wanted.force {
            return Err(Failure::refused(format!(
                "{} is there already, and differs; --force replaces it",
                plain(&shown)
            )));
        }
    }
    // Of another digest it is another file, so that what is there of it is a beginning of this one, or is found out.
    let part = format!(".sai-{sha256}.part");
    let mut file = place.part(&part).map_err(wrong)?;
    for time in 1..=TIMES {
        fill(master, artifact, &mut file).await?;
        if digest(&mut file).map_err(wrong)? == sha256 {
            fchmod(&file, mode(artifact.executable)).map_err(|error| wrong(error.into()))?;
            file.sync_all().map_err(wrong)?;
            place.rename(&part).map_err(wrong)?;
            return Ok(told(false));
        }
        if time < TIMES {
            tell(&format!("{} came damaged; it is fetched once more", plain(&artifact.path)));
        }
        file.set_len(0).map_err(wrong)?;
    }
    place.remove(&part);
    Err(Failure::trouble(format!(
        "{}: the master gives other bytes than its digest says; nothing was kept",
        plain(&artifact.path)
    )))
}

/// Brings what is there of a file to its length.
async fn fill(master: &mut Master, artifact: &Artifact, file: &mut File) -> Result<(), Failure> {
    let wrong = |error: io::Error| Failure::here(&plain(&artifact.path), &error);
    let mut length = file.seek(SeekFrom::End(0)).map_err(wrong)?;
    if length > artifact.size {
        file.set_len(0).map_err(wrong)?;
        length = file.seek(SeekFrom::Start(0)).map_err(wrong)?;
    }
    let mut waiting = Waiting::new(PATIENCE);
    while length < artifact.size {
        let from = length;
        let mut take = |bytes: &[u8]| {
            // What is longer than it should be is no file of this digest.
            if bytes.len() as u64 > artifact.size - length {
                return Err(io::Error::other("more came than the file has bytes"));
            }
            file.write_all(bytes)?;
            length += bytes.len() as u64;
            Ok(())
        };
        let came = master.bytes(&artifact.download, from, &mut take).await;
        if length > from {
            waiting.came();
        }
        match came {
            Ok(_) if length == artifact.size => {}
            Ok(_) => waiting.pause("the master has less of the file than it says".to_owned()).await?,
            Err(Trouble::Link(why)) => waiting.pause(why).await?,
            Err(trouble) => return Err(trouble.into()),
        }
    }
    Ok(())
}

/// The digest of all of a file, which is at its end then.
fn digest(file: &mut File) -> io::Result<String> {
    let (mut digest, mut piece) = (Sha256::default(), vec![0; PIECE_BYTES]);
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(fingerprint_text(&digest.finish())),
            count => digest.update(piece.get(..count).unwrap_or_default()),
        }
    }
}
