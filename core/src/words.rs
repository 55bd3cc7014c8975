//! A word of an enum on the wire or in a record ↔ its variant; one that only a later version knows is kept as it is.
//!
//! Such a word is at most [`WORD_BYTES`] letters, digits and `-`, so that it may stand anywhere: in a class of a page, on a
//! terminal, in a record. Anything else is malformed, as before.

use core::fmt;

/// Bytes of a word at most: longer than all there are, and short enough to be copied about with every job.
pub const WORD_BYTES: usize = 19;

/// A word that this version does not know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word([u8; WORD_BYTES]);

impl Word {
    /// A word as it was read, if it is one.
    pub fn of(text: &str) -> Option<Self> {
        let good = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let mut bytes = [0; WORD_BYTES];
        bytes.get_mut(..text.len()).filter(|_| good)?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|byte| *byte == 0).unwrap_or(WORD_BYTES);
        // It was made of such text.
        self.0.get(..length).and_then(|word| core::str::from_utf8(word).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Reads and writes an enum by the names of its variants, the last of which is `Other(Word)`.
macro_rules! written_as_words {
    ($name:ident: $($variant:ident),+ $(,)?) => {
        const _: () = {
            use crate::words::Word;
            use alloc::borrow::Cow;
            use miniserde::de::{Deserialize, Visitor};
            use miniserde::ser::{Fragment, Serialize};
            use miniserde::{Error, Result, make_place};

            make_place!(Place);

            impl Serialize for $name {
                fn begin(&self) -> Fragment<'_> {
                    Fragment::Str(Cow::Borrowed(match self {
                        $(Self::$variant => stringify!($variant),)+
                        Self::Other(word) => word.as_str(),
                    }))
                }
            }

            impl Visitor for Place<$name> {
                fn string(&mut self, text: &str) -> Result<()> {
                    self.out = Some(match text {
                        $(stringify!($variant) => $name::$variant,)+
                        _ => $name::Other(Word::of(text).ok_or(Error)?),
                    });
                    Ok(())
                }
            }

            impl Deserialize for $name {
                fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
                    Place::new(out)
                }
            }
        };
    };
}
pub(crate) use written_as_words;

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn only_short_plain_words_are_words() {
        for text in ["RolledBack", "no-boot", "x", "9", &"x".repeat(WORD_BYTES)] {
            assert_eq!(Word::of(text).map(|word| word.as_str().to_string()).as_deref(), Some(text));
        }
        let long = "x".repeat(WORD_BYTES + 1);
        for text in ["", "a b", "é", "a\0", "\0", "\"", "<b>", "a_b", "\u{1b}", long.as_str()] {
            assert_eq!(Word::of(text), None, "{text:?}");
        }
    }
}
