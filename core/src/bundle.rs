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
