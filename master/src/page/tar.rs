//! Files of an attempt → one tar of them, read while it is sent (POSIX.1-2017, pax; `ustar Interchange Format`).

use super::whole::Whole;
use sai_core::record::Artifact;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::vec::IntoIter;

/// Bytes of a block: headers are one, and contents are filled up to whole ones.
const BLOCK: u64 = 512;

/// Bytes of a name that fit into a header; longer ones, and such as are not ASCII, get a record of their own.
const NAME_BYTES: usize = 100;

/// Bytes of the largest file whose length fits into a header.
const SIZE_MOST: u64 = (1 << 33) - 1;

/// Opens a file of the attempt.
type Open = Box<dyn Fn(&Artifact) -> io::Result<File> + Send>;

/// Bytes of all, one after the other. Each file is opened when its turn comes, and ends in an error unless it is what
/// was kept: who gets all of a tar has the right files.
pub struct Tar {
    artifacts: IntoIter<Artifact>,
    open: Open,
    /// Unix seconds that the files bear.
    at_s: u64,
    /// What is read now.
    part: Box<dyn Read + Send>,
    ended: bool,
}

impl Tar {
    /// A tar of these files.
    pub fn new(artifacts: Vec<Artifact>, at_s: u64, open: Open) -> Self {
        Self { artifacts: artifacts.into_iter(), open, at_s, part: Box::new(io::empty()), ended: false }
    }

    /// Bytes that it will have.
    pub fn length(artifacts: &[Artifact], at_s: u64) -> u64 {
        let each = |artifact: &Artifact| head(artifact, at_s).len() as u64 + artifact.size.next_multiple_of(BLOCK);
        artifacts.iter().map(each).sum::<u64>() + 2 * BLOCK
    }

    fn next(&mut self) -> io::Result<()> {
        self.part = match self.artifacts.next() {
            Some(artifact) => {
                let whole = Whole::new((self.open)(&artifact)?, &artifact)?;
                let filling = artifact.size.next_multiple_of(BLOCK) - artifact.size;
                let head = Cursor::new(head(&artifact, self.at_s));
                Box::new(head.chain(whole).chain(io::repeat(0).take(filling)))
            }
            None => {
                self.ended = true;
                Box::new(io::repeat(0).take(2 * BLOCK))
            }
        };
        Ok(())
    }
}

impl Read for Tar {
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

/// What stands before a file's content.
fn head(artifact: &Artifact, at_s: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if artifact.path.len() > NAME_BYTES || !artifact.path.is_ascii() {
        records.extend(record("path", &artifact.path));
    }
    if artifact.size > SIZE_MOST {
        records.extend(record("size", &artifact.size.to_string()));
    }
    let mut out = Vec::new();
    if !records.is_empty() {
        out.extend(block("sai-pax-header", 0o644, records.len() as u64, at_s, b'x'));
        let length = records.len().next_multiple_of(BLOCK as usize);
        records.resize(length, 0);
        out.extend(records);
    }
    let mode = if artifact.executable { 0o755 } else { 0o644 };
    out.extend(block(&artifact.path, mode, artifact.size.min(SIZE_MOST), at_s, b'0'));
    out
}

/// `LENGTH KEY=VALUE\n`, whose length counts itself.
fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length += 1;
    }
    format!("{length} {key}={value}\n").into_bytes()
}

fn block(name: &str, mode: u64, size: u64, at_s: u64, kind: u8) -> Vec<u8> {
    let name: String = name.chars().filter(char::is_ascii).take(NAME_BYTES).collect();
    let mut out = Vec::with_capacity(BLOCK as usize);
    out.extend(name.as_bytes());
    out.resize(NAME_BYTES, 0);
    // Owner and group are those of who unpacks it.
    for number in [mode, 0, 0] {
        out.extend(format!("{number:07o}\0").as_bytes());
    }
    out.extend(format!("{size:011o}\0{:011o}\0", at_s.min(SIZE_MOST)).as_bytes());
    out.extend(b"        ");
    out.push(kind);
    out.resize(257, 0);
    out.extend(b"ustar\x0000");
    out.resize(BLOCK as usize, 0);
    let sum: u64 = out.iter().map(|byte| u64::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    out.splice(148..156, sum.into_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(path: &str) -> Artifact {
        Artifact { stream: 1, path: path.to_string(), size: 1, sha256: String::new(), executable: false }
    }

    #[test]
    fn a_record_counts_itself_and_large_files_get_one() {
        assert_eq!(record("path", "a"), b"9 path=a\n");
        assert_eq!(record("path", &"a".repeat(91)), format!("101 path={}\n", "a".repeat(91)).as_bytes());
        let large = Artifact { size: SIZE_MOST + 1, ..artifact("a") };
        assert!(head(&large, 0).windows(21).any(|bytes| bytes == b"19 size=8589934592\n\0\0"));
        assert_eq!(head(&artifact("a"), 0).len(), 512);
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
