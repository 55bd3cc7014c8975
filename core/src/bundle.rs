//! A git bundle that somebody sends to be built although nobody has pushed it ↔ what is kept of it in plans and records, and said
//! on a link: its digest, and what it begins from.

use crate::git_names::{check_ref, check_revision};
use alloc::format;
use alloc::string::{String, ToString};
use miniserde::{Deserialize, Serialize};

/// Bytes of a bundle at most: the history of a large project, or what was done since it was pushed last, many times over.
pub const BUNDLE_BYTES: u64 = 256 << 20;
/// Bytes of it that are sent at once at most: below what a master takes as one body.
pub const PIECE_BYTES: usize = 1 << 20;
/// Bytes before its pack at most: it names one ref, and what it begins from.
pub const HEAD_BYTES: u64 = 64 << 10;
/// The branch below which events of such trees are: none whose name begins so is ever built when it is pushed.
pub const BRANCH: &str = "_run";
/// The one ref that a bundle has.
pub const REFERENCE: &str = "refs/sai/run";

/// What is there before it: a revision that was pushed, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its ref.
    pub reference: String,
    /// The revision.
    pub revision: String,
}

/// A tree that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// SHA-256 of the bundle, 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Its bytes.
    pub size: u64,
    /// What it lacks; absent where it has all of its history.
    pub base: Option<Base>,
    /// Who sent it.
    pub person: String,
}

impl Bundle {
    /// Whether it may be what it says.
    ///
    /// # Errors
    /// What was expected.
    pub fn check(&self) -> Result<(), String> {
        check_digest(&self.sha256)?;
        if !(1..=BUNDLE_BYTES).contains(&self.size) {
            return Err(format!("expected a bundle of 1 to {BUNDLE_BYTES} bytes, found {}", self.size));
        }
        if let Some(base) = &self.base {
            check_ref(&base.reference)?;
            check_revision(&base.revision)?;
        }
        Ok(())
    }
}

/// Checks a digest as it names what is sent.
///
/// # Errors
/// What was expected.
pub fn check_digest(text: &str) -> Result<(), String> {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() == 64 && text.bytes().all(digit) {
        return Ok(());
    }
    Err("expected a SHA-256 of 64 hexadecimal digits in small letters".to_string())
}

/// Where the pack begins in a bundle of which this is the beginning (gitformat-bundle(5)).
///
/// # Errors
/// What was expected.
pub fn pack_begins(head: &[u8]) -> Result<usize, String> {
    let expected =
        || format!("expected a git bundle of version 2 or 3 with at most {HEAD_BYTES} bytes before its pack");
    if !head.starts_with(b"# v2 git bundle\n") && !head.starts_with(b"# v3 git bundle\n") {
        return Err(expected());
    }
    let end = head.windows(2).position(|pair| pair == b"\n\n").ok_or_else(expected)?;
    // What is left out could be fetched by nobody.
    if head[..end].windows(9).any(|line| line == b"\n@filter=") {
        return Err("expected a git bundle from which nothing is filtered".to_string());
    }
    Ok(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_behind_the_first_empty_line() {
        let head = b"# v2 git bundle\n-aa one\nbb refs/sai/run\n\nPACK\n\n";
        assert_eq!(pack_begins(head).map(|at| &head[at..at + 4]), Ok(&b"PACK"[..]));
        for head in
            ["", "PACK", "# v4 git bundle\n\nPACK", "# v2 git bundle\nbb x", "# v3 git bundle\n@filter=blob:none\n\n"]
        {
            assert!(pack_begins(head.as_bytes()).is_err(), "{head}");
        }
    }
}
