//! File and what is on record of it → its bytes and, in place of their end, an error if they are not those that were kept.

use sai_agent::digest::Sha256;
use sai_core::record::Artifact;
use std::fs::File;
use std::io::{self, ErrorKind, Read};

/// Bytes of the largest file that is read as a whole, some hundredths of a second, for each part of it that is asked for. Of a
/// larger one a part is compared by the file's length alone: to read that for a part, or to remember that it was, would let a
/// stranger keep the master busy by asking for a byte of each.
const PART_OF_BYTES: u64 = 16 << 20;

/// Reads a file to its end only if it has the digest that is on record: whoever gets all bytes got the right ones.
pub struct Whole {
    file: File,
    left: u64,
    digest: Option<Sha256>,
    wanted: String,
}

impl Whole {
    /// A reader of all of a file.
    ///
    /// # Errors
    /// It has not the length that is on record.
    pub fn new(file: File, artifact: &Artifact) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length != artifact.size {
            let why = format!("it is damaged: {length} bytes are there of {}", artifact.size);
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        Ok(Self { file, left: length, digest: Some(Sha256::default()), wanted: artifact.sha256.clone() })
    }

    /// Looks at all of a file before a part of it is given, unless it is larger than [`PART_OF_BYTES`].
    ///
    /// # Errors
    /// It is not what was kept.
    pub fn check_for_a_part(mut self) -> io::Result<()> {
        if self.left <= PART_OF_BYTES { io::copy(&mut self, &mut io::sink()).map(drop) } else { Ok(()) }
    }
}

impl Read for Whole {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let damaged = || io::Error::new(ErrorKind::InvalidData, "the file is not what was kept");
        if out.is_empty() || self.left == 0 && self.digest.is_none() {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        let taken = match out.get_mut(..most) {
            Some(out) if most > 0 => self.file.read(out)?,
            _ => 0,
        };
        if taken == 0 && self.left > 0 {
            return Err(damaged());
        }
        if let Some(digest) = &mut self.digest {
            digest.update(out.get(..taken).unwrap_or_default());
        }
        self.left -= taken as u64;
        // The last piece is given only when all of them are right.
        if self.left == 0 {
            let digest = self.digest.take().map(Sha256::finish).unwrap_or_default();
            let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            if !hex.eq_ignore_ascii_case(&self.wanted) {
                return Err(damaged());
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_never_comes_to_its_end() {
        let path = std::env::temp_dir().join(format!("sai-whole-{}", std::process::id()));
        let content: Vec<u8> = (0..300_000_u32).map(|number| number as u8).collect();
        let hex: String = sai_agent::digest::sha256(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        let artifact =
            Artifact { stream: 1, path: "a".to_string(), size: 300_000, sha256: hex.clone(), executable: false };
        let read = |bytes: &[u8], artifact: &Artifact| -> io::Result<Vec<u8>> {
            std::fs::write(&path, bytes)?;
            let mut all = Vec::new();
            Whole::new(File::open(&path)?, artifact)?.read_to_end(&mut all)?;
            Ok(all)
        };
        assert!(read(&content, &artifact).unwrap() == content);
        for at in [0, 4095, 299_999] {
            let mut changed = content.clone();
            changed[at] ^= 1;
            assert_eq!(read(&changed, &artifact).unwrap_err().kind(), ErrorKind::InvalidData);
        }
        assert!(read(&content[1..], &artifact).unwrap_err().to_string().contains("299999 bytes are there of 300000"));
        let part = |bytes: &[u8], artifact: &Artifact| -> io::Result<()> {
            std::fs::write(&path, bytes)?;
            Whole::new(File::open(&path)?, artifact)?.check_for_a_part()
        };
        part(&content, &artifact).unwrap();
        let mut changed = content.clone();
        changed[299_999] ^= 1;
        assert_eq!(part(&changed, &artifact).unwrap_err().kind(), ErrorKind::InvalidData);
        let nothing: String = sai_agent::digest::sha256(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        let empty = Artifact { size: 0, sha256: nothing, ..artifact };
        assert!(read(b"", &empty).unwrap().is_empty());
        std::fs::remove_file(path).unwrap();
    }
}
