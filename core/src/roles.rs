//! Person, deed and repository → whether that person may do it: the one place where that is decided.

use crate::ordered::Map;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use miniserde::{Deserialize, Serialize};

/// Days for which a token can be made at most: ten years.
pub const DAYS_MAX: u64 = 3650;
/// Repositories for which one person can have a role of their own.
pub const REPOSITORIES_MAX: usize = 256;
/// The word for the right to have something built that nobody pushed.
pub const RUN: &str = "run";
/// Stands for all repositories; it can be no name of one.
const EVERYWHERE: &str = "*";
/// Milliseconds in a day.
const DAY_MS: u64 = 86_400_000;

/// What somebody is. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Reader,
    /// Cancels, builds again, gives units back.
    Builder,
    /// Lets agents and people in and out.
    Admin,
}

/// The words for roles, in their order.
pub const ROLES: [&str; 3] = ["reader", "builder", "admin"];

impl Role {
    /// The role that a word stands for.
    pub fn of(word: &str) -> Option<Self> {
        let index = ROLES.iter().position(|known| *known == word)?;
        [Self::Reader, Self::Builder, Self::Admin].get(index).copied()
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Builder => "builder",
            Self::Admin => "admin",
        }
    }
}

/// What somebody may want to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Look at something.
    Read,
    /// Cancel, build again, give units back.
    Build,
    /// Let agents or people in or out, or set agents aside.
    Administer,
    /// Have something built that nobody pushed. It is a right of its own: no role has it.
    Run,
}

/// What a person's record says of what they may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Powers {
    /// A word for the role everywhere.
    pub role: String,
    /// Words for higher roles, by repository.
    pub repositories: Option<Map<String, String>>,
    /// When the token ends, Unix milliseconds.
    pub until: Option<u64>,
    /// Repositories of which they may send what is not pushed to be built, [`EVERYWHERE`] for all; absent where there are none,
    /// and in records of older masters.
    pub runs: Option<Vec<String>>,
}

impl Powers {
    /// Reads the words of a command: `ROLE`, `ROLE@REPOSITORY` and `DAYSd`, in any order. Nothing is a builder for ever.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(words: &[&str], now_ms: u64) -> Result<Self, String> {
        let expected = |word: &str| {
            let roles = ROLES.join(", ");
            format!("{word:?}: expected one of {roles}, {RUN}, such a word with @REPOSITORY, or 1d to {DAYS_MAX}d")
        };
        let (mut role, mut repositories, mut until, mut runs) = (None, Map::new(), None, Vec::new());
        for word in words {
            let days =
                word.strip_suffix('d').and_then(|days| days.parse().ok()).filter(|days| (1..=DAYS_MAX).contains(days));
            if *word == RUN {
                runs.push(EVERYWHERE.to_string());
            } else if let Some(repository) = word.strip_prefix(RUN).and_then(|rest| rest.strip_prefix('@')) {
                let named = !repository.is_empty() && repository != EVERYWHERE;
                runs.push(named.then(|| repository.to_string()).ok_or_else(|| expected(word))?);
            } else if let Some(days) = days {
                until = Some(now_ms.saturating_add(days * DAY_MS));
            } else if let Some((of, repository)) = word.split_once('@') {
                let of = Role::of(of).filter(|_| !repository.is_empty()).ok_or_else(|| expected(word))?;
                repositories.insert(repository.to_string(), of.word().to_string());
            } else {
                role = Some(Role::of(word).ok_or_else(|| expected(word))?);
            }
        }
        if repositories.len() + runs.len() > REPOSITORIES_MAX {
            return Err(format!("expected at most {REPOSITORIES_MAX} repositories"));
        }
        // Who is something for a repository alone only reads elsewhere.
        let role = role.unwrap_or(if repositories.is_empty() { Role::Builder } else { Role::Reader });
        let repositories = Some(repositories).filter(|repositories| !repositories.is_empty());
        let runs = Some(runs).filter(|runs| !runs.is_empty());
        Ok(Self { role: role.word().to_string(), repositories, until, runs })
    }

    /// As a list shows it: `builder, admin@hello`.
    pub fn words(&self) -> String {
        let mut words: Vec<String> = [self.role.clone()].to_vec();
        words.extend(self.repositories.iter().flat_map(Map::iter).map(|(name, role)| format!("{role}@{name}")));
        words.extend(self.runs.iter().flatten().map(|name| match name.as_str() {
            EVERYWHERE => RUN.to_string(),
            name => format!("{RUN}@{name}"),
        }));
        words.join(", ")
    }

    /// Whether the token has ended.
    pub fn ended(&self, now_ms: u64) -> bool {
        self.until.is_some_and(|until| now_ms >= until)
    }
}

/// Whether a person may do this, to something of this repository or to what is of none.
///
/// Who was let in before there were roles (`None`) may do everything, as then. A role of a later version's is a reader's.
/// What is of no repository, as agents and people are, is decided by the role everywhere alone.
pub fn may(powers: Option<&Powers>, now_ms: u64, deed: Deed, repository: Option<&str>) -> bool {
    let Some(powers) = powers else { return true };
    if deed == Deed::Run {
        let mut runs = powers.runs.iter().flatten();
        return !powers.ended(now_ms) && runs.any(|name| name == EVERYWHERE || Some(name.as_str()) == repository);
    }
    let role = |word: &str| Role::of(word).unwrap_or(Role::Reader);
    let own = repository.and_then(|name| powers.repositories.as_ref()?.get(name)).map(|word| role(word));
    let role = role(&powers.role).max(own.unwrap_or(Role::Reader));
    let needed = match deed {
        Deed::Read => Role::Reader,
        Deed::Build => Role::Builder,
        Deed::Administer | Deed::Run => Role::Admin,
    };
    !powers.ended(now_ms) && role >= needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use miniserde::json;

    fn powers(words: &[&str]) -> Powers {
        Powers::parse(words, 1000).unwrap()
    }

    #[test]
    fn each_role_may_what_it_says_and_what_those_before_it_may() {
        for (words, repository, allowed) in [
            (&["reader"][..], None, [true, false, false]),
            (&["builder"], None, [true, true, false]),
            (&[], None, [true, true, false]),
            (&["admin"], None, [true, true, true]),
            (&["builder@hello"], Some("hello"), [true, true, false]),
            (&["builder@hello"], Some("other"), [true, false, false]),
            (&["builder@hello"], None, [true, false, false]),
            (&["admin@hello"], None, [true, false, false]),
            (&["admin", "reader@hello"], Some("hello"), [true, true, true]),
        ] {
            let powers = powers(words);
            for (deed, allowed) in [Deed::Read, Deed::Build, Deed::Administer].into_iter().zip(allowed) {
                assert_eq!(may(Some(&powers), 1000, deed, repository), allowed, "{words:?} {repository:?} {deed:?}");
            }
        }
        assert!(may(None, 0, Deed::Administer, None), "as it was before there were roles");
    }

    #[test]
    fn a_token_ends_and_a_word_of_a_later_version_gives_nothing() {
        let powers = powers(&["2d", "admin"]);
        let end = 1000 + 2 * DAY_MS;
        assert!(may(Some(&powers), end - 1, Deed::Administer, None));
        assert!(!may(Some(&powers), end, Deed::Read, None));
        let later: Powers =
            json::from_str("{\"role\":\"auditor\",\"repositories\":{\"a\":\"admin\"},\"more\":1}").unwrap();
        assert!(may(Some(&later), 0, Deed::Read, None) && !may(Some(&later), 0, Deed::Build, None));
        assert!(may(Some(&later), 0, Deed::Build, Some("a")));
        assert_eq!(later.words(), "auditor, admin@a");
    }

    #[test]
    fn to_run_is_a_right_of_its_own() {
        for (words, repository, allowed) in [
            (&["admin"][..], "hello", false),
            (&["reader", "run"], "hello", true),
            (&["run@hello", "2d"], "hello", true),
            (&["run@hello"], "other", false),
        ] {
            assert_eq!(may(Some(&powers(words)), 1000, Deed::Run, Some(repository)), allowed, "{words:?} {repository}");
        }
        let powers = powers(&["builder", "run@hello", "run", "2d"]);
        assert_eq!(powers.words(), "builder, run@hello, run");
        assert!(!may(Some(&powers), 1000 + 2 * DAY_MS, Deed::Run, Some("hello")));
        assert!(Powers::parse(&["run@"], 0).is_err() && Powers::parse(&["run@*"], 0).is_err());
        assert!(may(None, 0, Deed::Run, Some("hello")), "as it was before there were roles");
    }

    #[test]
    fn words_are_understood_or_told_of() {
        for bad in ["", "root", "builder@", "@hello", "0d", "3651d", "d", "-1d"] {
            let error = Powers::parse(&[bad], 0).unwrap_err();
            assert!(error.contains("expected one of reader, builder, admin, run"), "{error}");
        }
    }
}
