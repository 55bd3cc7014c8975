//! A configuration's `paths` × the files that a push changed → whether it is built; and what a push is compared with.
//!
//! A push is compared with the last one to the same ref of which anything was built, tree against tree: so neither a forced
//! push nor several quick ones nor one whose saifile was wrong hides a change. Whenever it cannot be known what changed,
//! everything is built.

use crate::glob::Glob;
use crate::job::EventId;
use crate::json::shown;
use crate::ledger::{EventRecord, Source};
use crate::ref_name;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Most files that are held against `paths`: a push that changes more is no small one.
pub const FILES_MAX: usize = 10_000;
/// Longest list of changed files, in bytes: [`FILES_MAX`] of a hundred.
pub const FILES_BYTES: usize = 1 << 20;
/// Most bytes of all globs of a file times bytes of all names: some tenths of a second, whoever wrote them.
const WORK_MAX: usize = 1 << 27;

/// Configurations of which it is said by name that they are not built.
const SHOWN: usize = 8;

/// What is known of the files that a push changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing, for this reason: a clause.
    Unknown(String),
    /// Their names, and since what they changed: a clause, or empty.
    Files(Vec<String>, String),
}

/// A pushed revision that others are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Number of its event.
    pub event: EventId,
    /// The revision.
    pub revision: String,
}

impl Base {
    /// What it is called, in words.
    pub fn words(&self) -> String {
        format!("event {} ({})", self.event, self.revision.get(..9).unwrap_or(&self.revision))
    }
}

/// With what a push is compared: of these events of its ref, the newest first, the one that was a push and was built of.
pub fn base<'a>(mut events: impl Iterator<Item = &'a EventRecord>) -> Option<Base> {
    let pushed = |event: &&EventRecord| matches!(event.source, Source::Poke | Source::Hook | Source::Poll);
    let found = events.find(|event| pushed(event) && event.jobs > 0)?;
    Some(Base { event: found.id, revision: found.revision.clone() })
}

/// Reads what `git diff-tree -z --name-only` prints.
pub fn names(printed: &[u8]) -> Vec<String> {
    printed.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(ref_name::text).collect()
}

/// A glob of `paths` as it is kept: relative to the root of the repository, with `!` before it where it takes away; a `/` at its
/// end means all that is below.
///
/// # Errors
/// What it is expected to be.
pub fn kept(text: &str) -> Result<String, &'static str> {
    let (not, glob) = match text.strip_prefix('!') {
        Some(rest) => ("!", rest.trim_start()),
        None => ("", text),
    };
    let glob = glob.strip_prefix("./").unwrap_or(glob);
    if glob.is_empty() || glob.starts_with(['/', '\\', '~']) || glob.split('/').any(|part| part == "..") {
        return Err("a path relative to the root of the repository, without `..`");
    }
    let below = if glob.ends_with('/') { "**" } else { "" };
    Ok(format!("{not}{glob}{below}"))
}

/// Whether one of these files is meant by these globs: of all that match its name the last one decides. Where the first one
/// takes away, all others are meant to begin with.
pub fn takes(globs: &[String], names: &[String]) -> bool {
    let compiled = globs.iter().map(|text| match text.strip_prefix('!') {
        Some(glob) => (false, Glob::new(glob)),
        None => (true, Glob::new(text)),
    });
    let compiled: Vec<(bool, Glob)> = compiled.collect();
    let otherwise = compiled.first().is_some_and(|(takes, _)| !takes);
    names.iter().any(|name| {
        let last = compiled.iter().rev().find(|(_, glob)| glob.matches(name));
        last.map_or(otherwise, |(takes, _)| *takes)
    })
}

/// The names to hold against the `paths` of a saifile, whose globs have so many bytes and whose name is `file`, or why all of it
/// is built.
///
/// # Errors
/// That reason: a clause.
pub fn usable<'a>(changed: &'a Changed, file: &str, globs: usize) -> Result<&'a [String], String> {
    let (names, since) = match changed {
        Changed::Unknown(why) => return Err(why.clone()),
        Changed::Files(names, since) => (names, since),
    };
    if names.iter().any(|name| name == file) {
        return Err(format!("{file} itself has changed{}", after(since)));
    }
    let bytes: usize = names.iter().map(String::len).sum();
    if names.len() > FILES_MAX || globs.saturating_mul(bytes) > WORK_MAX {
        return Err(too_many(since));
    }
    Ok(names)
}

/// Why all is built where the list of files is too long.
pub fn too_many(since: &str) -> String {
    format!("more files have changed{} than are compared with `paths`", after(since))
}

fn after(since: &str) -> String {
    if since.is_empty() { String::new() } else { format!(" since {since}") }
}

/// What is said of configurations that no changed file is of.
pub fn left_out(names: &[String], changed: &Changed) -> String {
    let since = match changed {
        Changed::Files(_, since) => after(since),
        Changed::Unknown(_) => String::new(),
    };
    let mut list: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{}`", shown(name))).collect();
    if names.len() > SHOWN {
        list.push(format!("{} more", names.len() - SHOWN));
    }
    format!("not built, as no file of their `paths` has changed{since}: {}", list.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_last_glob_that_matches_decides() {
        for (globs, names, taken) in [
            (&["src/**"][..], &["src/a/b.c"][..], true),
            (&["src/**"], &["docs/a", "README"], false),
            (&["src/**", "!**/*.md"], &["src/a.md"], false),
            (&["src/**", "!**/*.md"], &["src/a.md", "src/a.c"], true),
            (&["src/**", "!**/*.md", "src/read.md"], &["src/read.md"], true),
            (&["!docs/**"], &["docs/a"], false),
            (&["!docs/**"], &["docs/a", "Makefile"], true),
            (&["!docs/**", "docs/build/**"], &["docs/build/a"], true),
            (&["*"], &["a/b"], false),
            (&["src/**"], &[], false),
            (&["!docs/**"], &[], false),
        ] {
            assert_eq!(takes(&texts(globs), &texts(names)), taken, "{globs:?} {names:?}");
        }
    }

    #[test]
    fn globs_are_relative_to_the_root() {
        assert_eq!(kept("./src/"), Ok("src/**".to_string()));
        assert_eq!(kept("! docs/"), Ok("!docs/**".to_string()));
        for wrong in ["/src", "!/src", "a/../b", "..", "!", "~/x", "\\x", "./"] {
            assert!(kept(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_read_whatever_they_are() {
        assert_eq!(names(b"a b\0\xff\n\0"), ["a b", "\\xff\\x0a"]);
        assert_eq!(names(b""), Vec::<String>::new());
    }

    #[test]
    fn what_would_take_too_long_is_built() {
        let names = vec!["x".repeat(200); FILES_MAX];
        let files = Changed::Files(names, "event 1 (abc)".to_string());
        assert_eq!(usable(&files, ".sai.json", 0).map(<[String]>::len), Ok(FILES_MAX));
        let globs = WORK_MAX / (200 * FILES_MAX);
        assert!(usable(&files, ".sai.json", globs).is_ok());
        assert!(usable(&files, ".sai.json", globs + 1).unwrap_err().contains("more files have changed since event 1"));
        let changed = Changed::Files(texts(&["a", ".sai.json"]), "event 1 (abc)".to_string());
        assert_eq!(usable(&changed, ".sai.json", 0).unwrap_err(), ".sai.json itself has changed since event 1 (abc)");
    }
}
