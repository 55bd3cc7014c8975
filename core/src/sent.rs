//! Fields of a request → what somebody has sent, and wants built although nobody has pushed it.

use crate::bundle::{BRANCH, Base, Bundle, check_digest};
use crate::git_names::{check_ref, check_revision};
use crate::start::Start;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of a commit's subject, and of its author's name, at most: they are columns of a table.
const TEXT_BYTES: usize = 1024;

/// What somebody wants built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// What was sent before, by its digest.
    pub bundle: Bundle,
    /// The saifile, which was sent before as well.
    pub saifile: String,
    /// The commit in the bundle.
    pub revision: String,
    /// First line of its message.
    pub subject: String,
    /// Its author.
    pub author: String,
    /// The branch it is made on, and what of the saifile is wanted.
    pub start: Start,
}

impl Sent {
    /// Reads words as `name=value`, and those of [`Start::parse`].
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(branch: &str, words: &[(String, String)]) -> Result<Self, String> {
        let mut sent = Self::default();
        let (mut size, mut base, mut base_reference) = (None, None, None);
        let mut rest = Vec::new();
        for (name, value) in words {
            let value = value.clone();
            match name.as_str() {
                "bundle" => sent.bundle.sha256 = value,
                "size" => size = value.parse().ok(),
                "base" => base = Some(value),
                "base-ref" => base_reference = Some(value),
                "saifile" => sent.saifile = value,
                "revision" => sent.revision = value,
                "subject" => sent.subject = cut(&value),
                "author" => sent.author = cut(&value),
                "configuration" | "platform" | "board" | "env" => rest.push(format!("{name}={value}")),
                _ => {
                    return Err(format!(
                        "{name:?}: expected bundle, size, saifile, revision, branch, base, base-ref, subject, author, \
                         configuration, platform, board or env"
                    ));
                }
            }
        }
        sent.start = Start::parse(branch, &rest)?;
        sent.bundle.size = size.ok_or("expected the bundle's size")?;
        sent.bundle.base = match (base_reference, base) {
            (Some(reference), Some(revision)) => Some(Base { reference, revision }),
            (None, None) => None,
            _ => return Err("expected base and base-ref, or neither".to_string()),
        };
        sent.bundle.check()?;
        check_digest(&sent.saifile).map_err(|why| format!("saifile: {why}"))?;
        check_revision(&sent.revision)?;
        Ok(sent)
    }

    /// The ref of its event.
    ///
    /// # Errors
    /// Person and branch together are none that a ref can have.
    pub fn reference(&self, person: &str) -> Result<String, String> {
        let branch = self.start.reference.strip_prefix("refs/").unwrap_or(&self.start.reference);
        let branch = branch.strip_prefix("heads/").unwrap_or(branch);
        let reference = format!("refs/heads/{BRANCH}/{person}/{branch}");
        check_ref(&reference).map(|()| reference)
    }
}

/// One line of so many bytes at most.
fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut end = line.len().min(TEXT_BYTES);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.get(..end).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(changed: &[(&str, &str)]) -> Vec<(String, String)> {
        let (digest, revision) = ("a".repeat(64), "b".repeat(40));
        let mut words: Vec<(String, String)> = [
            ("bundle", digest.as_str()),
            ("size", "7"),
            ("saifile", &digest),
            ("revision", &revision),
            ("base", &revision),
            ("base-ref", "refs/heads/main"),
            ("subject", "One\ntwo"),
            ("configuration", "default"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .to_vec();
        for (name, value) in changed {
            words.retain(|(known, _)| known != name);
            if !value.is_empty() {
                words.push((name.to_string(), value.to_string()));
            }
        }
        words
    }

    #[test]
    fn what_is_sent_is_read_or_told_of() {
        let sent = Sent::parse("topic", &words(&[])).unwrap();
        assert_eq!((sent.subject.as_str(), sent.start.configurations.len()), ("One", 1));
        assert_eq!(sent.reference("ann").unwrap(), "refs/heads/_run/ann/topic");
        assert!(Sent::parse("topic", &words(&[("base", ""), ("base-ref", "")])).unwrap().bundle.base.is_none());
        for (name, value) in [
            ("bundle", "../../etc/passwd"),
            ("bundle", &"A".repeat(64)),
            ("size", "0"),
            ("size", "99999999999"),
            ("size", ""),
            ("saifile", "x"),
            ("revision", "--upload-pack=x"),
            ("base", "HEAD"),
            ("base", ""),
            ("base-ref", "refs/remotes/x"),
            ("base-ref", "-x"),
            ("nonsense", "1"),
        ] {
            assert!(Sent::parse("topic", &words(&[(name, value)])).is_err(), "{name} {value}");
        }
        for branch in ["", "-x y", "a..b", "a/.b"] {
            assert!(Sent::parse(branch, &words(&[])).is_err(), "{branch}");
        }
    }
}
