//! Artifacts of an ended job → lines that say where they lie, and copies under the names they had.

use crate::store::Reader;
use sai_core::escape;
use sai_core::job::JobKey;
use sai_core::ledger::JobRecord;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Says where the files of a job are, and copies them if somewhere is asked for. False when one could not be copied.
pub fn keep(
    reader: &Reader,
    state: &Path,
    copies: Option<&Path>,
    job: &JobRecord,
    alone: bool,
    out: &mut String,
) -> bool {
    let key = JobKey { job: job.id, attempt: job.attempt };
    let mut all = true;
    for artifact in &job.artifacts {
        let path = escape::line(&artifact.path);
        let place = match copies {
            None => Ok(state.join("artifacts").join(key.to_string()).join(artifact.stream.to_string())),
            Some(copies) => {
                let place = place(copies, job, alone).join(&artifact.path);
                copy(reader, key, artifact.stream, &place).map(|()| place)
            }
        };
        let place = match place {
            Ok(place) => escape::line(&place.display().to_string()),
            Err(error) => {
                all = false;
                format!("not copied: {error}")
            }
        };
        let _ = writeln!(out, "\t{path} ({} bytes, sha256 {}): {place}", artifact.size, artifact.sha256);
    }
    all
}

/// The directory for copies of a job's files: a job alone needs none of its own.
fn place(copies: &Path, job: &JobRecord, alone: bool) -> PathBuf {
    if alone { copies.to_path_buf() } else { copies.join(part(&job.configuration)).join(part(&job.platform)) }
}

/// A name as one part of a path: what a repository calls its configurations leads nowhere else.
fn part(name: &str) -> String {
    let plain = |letter: char| if letter.is_alphanumeric() || "._-+".contains(letter) { letter } else { '_' };
    let part: String = name.chars().map(plain).collect();
    if part.starts_with('.') { format!("_{part}") } else { part }
}

/// Copies one whole or not at all, and never through a link that somebody put there.
fn copy(reader: &Reader, key: JobKey, stream: u16, place: &Path) -> io::Result<()> {
    let directory = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let mut draft = place.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut from = reader.artifact(key, stream)?;
    let _ = fs::remove_file(&draft);
    let copied = File::create_new(&draft).and_then(|mut to| io::copy(&mut from, &mut to)).map(drop);
    copied.and_then(|()| fs::rename(&draft, place)).inspect_err(|_| drop(fs::remove_file(&draft)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_directory() {
        assert_eq!(part("release"), "release");
        assert_eq!(part("linux-debian-13/x86_64/gcc"), "linux-debian-13_x86_64_gcc");
        assert_eq!(part("../../etc"), "_.._.._etc");
        assert_eq!(part(".."), "_..");
    }
}
