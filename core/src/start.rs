//! Words of a command ↔ what somebody starts by hand: a ref, perhaps a revision of it, and which of its jobs with which variables.

use crate::git_names::{check_ref, check_revision};
use crate::json::{At, Position, shown};
use crate::ordered::Map;
use crate::platform;
use crate::repo_spec::{ENV_MAX, RepoSpec, board_named, check_variable};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Most configurations, platforms and types of boards that are named: more are written as a saifile.
pub const NAMES_MAX: usize = 256;
/// Most bytes of all words: they are in an event's record, and variables in each of its jobs.
pub const WORDS_BYTES: usize = 16 * 1024;

/// What somebody starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// The branch, or a whole ref.
    pub reference: String,
    /// The revision; else what the ref's is then.
    pub revision: Option<String>,
    /// Only these configurations, and what they need; all where there is none.
    pub configurations: Vec<String>,
    /// Only on such platforms, see [`platform::serves`]; on all where there is none.
    pub platforms: Vec<String>,
    /// Only what is done at a board of such a type, and what that needs; all where there is none.
    pub boards: Vec<String>,
    /// Variables of the steps, stronger than the saifile's.
    pub env: Map<String, String>,
}

impl Start {
    /// Reads a branch or whole ref, and words in any order: `revision=REVISION`, and as often as wanted `configuration=NAME`,
    /// `platform=NAME`, `board=TYPE` and `env=NAME=VALUE`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(reference: &str, words: &[impl AsRef<str>]) -> Result<Self, String> {
        let reference = match reference {
            "" => return Err("expected a branch".to_string()),
            whole if whole.starts_with("refs/") => whole.to_string(),
            branch => format!("refs/heads/{branch}"),
        };
        check_ref(&reference)?;
        let mut start = Self { reference, ..Self::default() };
        let bytes: usize = words.iter().map(|word| word.as_ref().len()).sum();
        if bytes > WORDS_BYTES {
            return Err(format!("expected at most {WORDS_BYTES} bytes of names and variables, found {bytes}"));
        }
        for word in words.iter().map(AsRef::as_ref) {
            match word.split_once('=') {
                Some(("revision", revision)) => {
                    check_revision(revision)?;
                    if start.revision.replace(revision.to_string()).is_some() {
                        return Err("expected one revision".to_string());
                    }
                }
                Some(("configuration", name)) if !name.is_empty() => start.configurations.push(name.to_string()),
                Some(("platform", name)) if !name.is_empty() => {
                    platform::check_wanted(name).map_err(|expected| format!("{word:?}: expected {expected}"))?;
                    start.platforms.push(name.to_string());
                }
                Some(("board", kind)) if !kind.is_empty() => start.boards.push(kind.to_string()),
                Some(("env", variable)) => {
                    let expected = || format!("{word:?}: expected env=NAME=VALUE");
                    let (name, value) = variable.split_once('=').ok_or_else(expected)?;
                    check_variable(name).map_err(|expected| format!("{word:?}: expected {expected}"))?;
                    if value.contains('\0') {
                        return Err(format!("{word:?}: expected text without U+0000"));
                    }
                    start.env.insert(name.to_string(), value.to_string());
                }
                _ => {
                    let known = "revision=REVISION, configuration=NAME, platform=NAME, board=TYPE or env=NAME=VALUE";
                    return Err(format!("{word:?}: expected {known}"));
                }
            }
        }
        let names = start.configurations.len() + start.platforms.len() + start.boards.len();
        if names > NAMES_MAX || start.env.len() > ENV_MAX {
            return Err(format!("expected at most {NAMES_MAX} names and {ENV_MAX} variables"));
        }
        Ok(start)
    }

    /// Whether a job of a configuration by one of these names, on this platform, at boards of these types, is wanted.
    pub fn takes(&self, names: &[&str], platform: &str, boards: &[&str]) -> bool {
        let named = |wanted: &String| names.contains(&wanted.as_str());
        let at_it = |wanted: &String| boards.contains(&wanted.as_str());
        (self.configurations.is_empty() || self.configurations.iter().any(named))
            && (self.platforms.is_empty() || self.platforms.iter().any(|wanted| platform::serves(platform, wanted)))
            && (self.boards.is_empty() || self.boards.iter().any(at_it))
    }

    /// Whether all that is named is there.
    ///
    /// # Errors
    /// What is not: a slip of whoever starts it, at the file's beginning.
    pub fn check(&self, spec: &RepoSpec) -> Result<(), At> {
        let known = |wanted: &&String| {
            let of_board = board_named(wanted).map(|(name, _)| name);
            spec.configurations.iter().any(|one| one.name == **wanted || of_board == Some(one.name.as_str()))
        };
        let wrong = |what: &str, name: &String| {
            Err(Position::START.expected(format!("a {what} of this file, found `{}`", shown(name))))
        };
        if let Some(name) = self.configurations.iter().find(|wanted| !known(wanted)) {
            return wrong("configuration", name);
        }
        let of_platforms = spec.platforms.iter().flat_map(|one| &one.boards);
        let of_configurations = spec.configurations.iter().filter_map(|one| one.boards.as_ref()).flatten();
        let kinds: Vec<&str> = of_platforms.chain(of_configurations).flat_map(|board| board.kinds()).collect();
        if let Some(name) = self.boards.iter().find(|wanted| !kinds.contains(&wanted.as_str())) {
            return wrong("type of board", name);
        }
        let served = |wanted: &&String| spec.platforms.iter().any(|one| platform::serves(&one.name, wanted));
        match self.platforms.iter().find(|wanted| !served(wanted)) {
            Some(name) => wrong("platform", name),
            None => Ok(()),
        }
    }

    /// What is wanted, for people: nothing where all of it is.
    pub fn words(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.configurations.iter().map(|name| format!("configuration={name}")));
        words.extend(self.platforms.iter().map(|name| format!("platform={name}")));
        words.extend(self.boards.iter().map(|kind| format!("board={kind}")));
        words.extend(self.env.iter().map(|(name, value)| format!("env={name}={value}")));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_what_is_started() {
        let revision = "a".repeat(40);
        let words = [
            &format!("revision={revision}"),
            "configuration=a=b",
            "platform=linux",
            "board=uno",
            "env=A=b=c",
            "env=B=",
        ];
        let start = Start::parse("main", &words).unwrap();
        assert_eq!(start.reference, "refs/heads/main");
        assert_eq!(start.revision, Some(revision));
        assert_eq!(start.words(), "configuration=a=b platform=linux board=uno env=A=b=c env=B=");
        assert!(start.takes(&["a=b"], "linux-debian/x86_64", &["x", "uno"]) && !start.takes(&["a"], "linux", &["uno"]));
        assert!(!start.takes(&["a=b"], "linux", &["x"]) && !start.takes(&["a=b"], "linux", &[]));
        assert_eq!(Start::parse("refs/tags/v1", &[""; 0]).unwrap().reference, "refs/tags/v1");
    }

    #[test]
    fn what_is_no_such_word_is_told() {
        let long = format!("env=A={}", "x".repeat(WORDS_BYTES));
        for word in [
            "revision=abc",
            "configuration=",
            "platform=",
            "platform=a b",
            "env=A",
            "env=1=x",
            "env=SAI_JOB=1",
            "env=A=\0",
            "failed",
            "",
            &long,
        ] {
            let error = Start::parse("main", &[word]).unwrap_err();
            assert!(error.contains("expected"), "{word}: {error}");
        }
        let revision = format!("revision={}", "a".repeat(40));
        assert!(Start::parse("main", &[&revision, &revision]).is_err());
        for reference in ["", "a..b", "-x/", "refs/heads/", "a b"] {
            assert!(Start::parse(reference, &[""; 0]).is_err(), "{reference}");
        }
        let many: Vec<String> = (0..=NAMES_MAX).map(|number| format!("configuration=c{number}")).collect();
        assert!(Start::parse("main", &many).unwrap_err().contains("at most"));
    }
}
