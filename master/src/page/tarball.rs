//! Files of an attempt → one tar of them, read while it is sent. The library writes to what waits for nobody, so that of it the
//! heads are taken, which are short and known before any file is opened.

use super::whole::Whole;
use sai_core::record::Artifact;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::vec::IntoIter;
use tar::{Builder, EntryType, Header};

/// Bytes of a block: contents are filled up to whole ones, and two of nothing are the end.
const BLOCK: u64 = 512;
/// See there.
const END: u64 = 2 * BLOCK;

/// Opens a file of the attempt.
type Open = Box<dyn Fn(&Artifact) -> io::Result<File> + Send>;

/// Bytes of all, one after the other. Each file is opened when its turn comes, and ends in an error unless it is what
/// was kept: who gets all of a tar has the right files.
pub struct Tarball {
    artifacts: IntoIter<Artifact>,
    open: Open,
    /// Unix seconds that the files bear.
    at_s: u64,
    /// What is read now.
    part: Box<dyn Read + Send>,
    ended: bool,
}

impl Tarball {
    /// A tar of these files.
    pub fn new(artifacts: Vec<Artifact>, at_s: u64, open: Open) -> Self {
        Self { artifacts: artifacts.into_iter(), open, at_s, part: Box::new(io::empty()), ended: false }
    }

    /// Bytes that it will have.
    ///
    /// # Errors
    /// A path that no tar may hold.
    pub fn length(artifacts: &[Artifact], at_s: u64) -> io::Result<u64> {
        let each = |artifact: &Artifact| Ok(head(artifact, at_s)?.len() as u64 + artifact.size.next_multiple_of(BLOCK));
        Ok(artifacts.iter().map(each).sum::<io::Result<u64>>()? + END)
    }

    fn next(&mut self) -> io::Result<()> {
        self.part = match self.artifacts.next() {
            Some(artifact) => {
                let whole = Whole::new((self.open)(&artifact)?, &artifact)?;
                let filling = artifact.size.next_multiple_of(BLOCK) - artifact.size;
                let head = Cursor::new(head(&artifact, self.at_s)?);
                Box::new(head.chain(whole).chain(io::repeat(0).take(filling)))
            }
            None => {
                self.ended = true;
                Box::new(io::repeat(0).take(END))
            }
        };
        Ok(())
    }
}

impl Read for Tarball {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let taken = self.part.read(out)?;
            if taken > 0 || out.is_empty() || self.ended {
                return Ok(taken);
            }
            self.next()?;
        }
    }
}

/// Whether a path stays below where a tar is unpacked. Agents announce no other; what one of them could have said anyway
/// is not passed on.
pub fn stays_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains(['\0', '\n'])
}

/// Those of the files that are in a folder, at any depth; all of them if none is named.
pub fn within<'a>(artifacts: &'a [Artifact], folder: &'a str) -> impl Iterator<Item = &'a Artifact> {
    let folder = folder.trim_matches('/');
    artifacts.iter().filter(move |artifact| {
        let rest = artifact.path.strip_prefix(folder);
        let inside = folder.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'));
        inside && stays_below(&artifact.path)
    })
}

/// What stands before a file's content. Owner and group are those of who unpacks it.
fn head(artifact: &Artifact, at_s: u64) -> io::Result<Vec<u8>> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(if artifact.executable { 0o755 } else { 0o644 });
    header.set_size(artifact.size);
    header.set_mtime(at_s);
    let mut builder = Builder::new(Vec::new());
    builder.append_data(&mut header, &artifact.path, io::empty())?;
    let mut head = builder.into_inner()?;
    head.truncate(head.len().saturating_sub(END as usize));
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(path: &str) -> Artifact {
        Artifact { stream: 1, path: path.to_string(), size: 1, sha256: String::new(), executable: false }
    }

    #[test]
    fn a_head_is_one_block_or_has_the_name_before_it_and_none_leads_elsewhere() {
        let length = |artifact: Artifact| head(&artifact, 0).map(|head| head.len());
        assert_eq!(length(artifact("a")).expect("a head"), 512);
        assert_eq!(length(Artifact { size: 1 << 40, ..artifact("a") }).expect("a head"), 512);
        assert_eq!(length(artifact("é/".repeat(60).trim_end_matches('/'))).expect("a head"), 3 * 512);
        for path in ["/etc/passwd", "../a", "a/../../b"] {
            assert!(length(artifact(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_folder_is_whole_parts_of_paths_and_nothing_climbs_out() {
        let all = ["out/a", "out/b/c", "outer/d", "e", "out/../../etc/f", "/g", "out//h"].map(artifact);
        let of = |folder: &'static str| within(&all, folder).map(|artifact| artifact.path.as_str()).collect::<Vec<_>>();
        assert_eq!(of("out"), ["out/a", "out/b/c"]);
        assert_eq!(of("out/b/"), ["out/b/c"]);
        assert_eq!(of(""), ["out/a", "out/b/c", "outer/d", "e"]);
        assert!(of("nothing").is_empty());
    }
}
