//! Repository's pages at its forge → the addresses there of a commit, a branch, a pull request and a comparison.
//!
//! How they are made: GitHub's, GitLab's and Gitea's documentation of their own routes, and cgit's cgitrc(5). Names of
//! branches are others' words; they come out percent-encoded (RFC 3986), so that they stay in the part they belong to.

use alloc::format;
use alloc::string::String;

/// What serves the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// GitHub, or its Enterprise Server.
    GitHub,
    /// GitLab.
    GitLab,
    /// Gitea, Forgejo, Gogs.
    Gitea,
    /// cgit.
    Cgit,
}

/// The words of a configuration for them.
pub const WORDS: [&str; 4] = ["github", "gitlab", "gitea", "cgit"];

/// In the order of [`WORDS`].
pub const KINDS: [Kind; 4] = [Kind::GitHub, Kind::GitLab, Kind::Gitea, Kind::Cgit];

/// Hosts that say what serves them.
const HOSTS: [(&str, Kind); 3] =
    [("github.com", Kind::GitHub), ("gitlab.com", Kind::GitLab), ("codeberg.org", Kind::Gitea)];

/// Bytes of an address at most: longer ones are cut by proxies on the way.
const ADDRESS_BYTES: usize = 2000;

/// Where the pages of one repository are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgePage {
    kind: Kind,
    /// `https://HOST/…` without a slash at its end.
    address: String,
}

/// What is wrong with an address of pages, if anything.
///
/// # Errors
/// What was expected.
pub fn check_address(address: &str) -> Result<(), String> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/[]%+".contains(&byte);
    let good = rest.is_some_and(|rest| !rest.starts_with(['/', ':']) && !rest.is_empty() && rest.bytes().all(fine));
    if good && address.len() <= ADDRESS_BYTES {
        Ok(())
    } else {
        Err("the address of the repository's page, as https://HOST/OWNER/NAME".into())
    }
}

impl ForgePage {
    /// The pages of a repository that is fetched from `url` (without credentials), as far as can be known: `kind` and
    /// `address` are what a configuration says of them, where it says something.
    pub fn new(kind: Option<Kind>, address: Option<&str>, url: &str) -> Option<Self> {
        let known = |address: &str| {
            let host = address.split_once("://")?.1.split('/').next()?;
            HOSTS.iter().find(|(known, _)| *known == host).map(|(_, kind)| *kind)
        };
        let address = match address {
            Some(address) => address,
            None if check_address(url).is_ok() => url,
            None => return None,
        };
        let kind = kind.or_else(|| known(address))?;
        let trimmed = address.trim_end_matches('/');
        // Of cgit, `.git` can be part of the name that it has there.
        let trimmed = if kind == Kind::Cgit { trimmed } else { trimmed.strip_suffix(".git").unwrap_or(trimmed) };
        Some(Self { kind, address: trimmed.into() })
    }

    fn at(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    /// Of a commit.
    pub fn commit(&self, revision: &str) -> String {
        let revision = encoded(revision, false);
        self.at(&match self.kind {
            Kind::GitHub | Kind::Gitea => format!("commit/{revision}"),
            Kind::GitLab => format!("-/commit/{revision}"),
            Kind::Cgit => format!("commit/?id={revision}"),
        })
    }

    /// Of a branch, a tag or a pull request, whichever a ref is of.
    pub fn reference(&self, reference: &str) -> Option<String> {
        if let Some(branch) = reference.strip_prefix("refs/heads/") {
            let (path, value) = (encoded(branch, true), encoded(branch, false));
            return Some(self.at(&match self.kind {
                Kind::GitHub => format!("tree/{path}"),
                Kind::GitLab => format!("-/tree/{path}"),
                Kind::Gitea => format!("src/branch/{path}"),
                Kind::Cgit => format!("log/?h={value}"),
            }));
        }
        if let Some(tag) = reference.strip_prefix("refs/tags/") {
            let (path, value) = (encoded(tag, true), encoded(tag, false));
            return Some(self.at(&match self.kind {
                Kind::GitHub => format!("tree/{path}"),
                Kind::GitLab => format!("-/tags/{path}"),
                Kind::Gitea => format!("src/tag/{path}"),
                Kind::Cgit => format!("tag/?h={value}"),
            }));
        }
        let (kind, number) = reference.strip_prefix("refs/")?.split_once('/')?;
        let number = number.split('/').next().filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        match (kind, self.kind) {
            ("pull", Kind::GitHub) => Some(self.at(&format!("pull/{number}"))),
            ("pull", Kind::Gitea) => Some(self.at(&format!("pulls/{number}"))),
            ("merge-requests", Kind::GitLab) => Some(self.at(&format!("-/merge_requests/{number}"))),
            _ => None,
        }
    }

    /// Of what changed between two commits.
    pub fn comparison(&self, old: &str, new: &str) -> String {
        let (old, new) = (encoded(old, false), encoded(new, false));
        self.at(&match self.kind {
            Kind::GitHub | Kind::Gitea => format!("compare/{old}...{new}"),
            Kind::GitLab => format!("-/compare/{old}...{new}"),
            Kind::Cgit => format!("diff/?id={new}&id2={old}"),
        })
    }
}

/// Percent-encoded but for what RFC 3986 leaves alone, and for slashes where parts of a path are meant.
fn encoded(text: &str, parts: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (parts && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_forge_has_addresses_of_its_own() {
        let url = "https://forge.example/group/hello.git";
        for (kind, commit, branch, tag, change) in [
            (Kind::GitHub, "commit/ab12", "tree/topic/x%23y", "tree/v1%2B2", "compare/ab12...cd34"),
            (Kind::GitLab, "-/commit/ab12", "-/tree/topic/x%23y", "-/tags/v1%2B2", "-/compare/ab12...cd34"),
            (Kind::Gitea, "commit/ab12", "src/branch/topic/x%23y", "src/tag/v1%2B2", "compare/ab12...cd34"),
        ] {
            let page = ForgePage::new(Some(kind), None, url).unwrap();
            let at = |rest: &str| format!("https://forge.example/group/hello/{rest}");
            assert_eq!(page.commit("ab12"), at(commit));
            assert_eq!(page.reference("refs/heads/topic/x#y"), Some(at(branch)));
            assert_eq!(page.reference("refs/tags/v1+2"), Some(at(tag)));
            assert_eq!(page.comparison("ab12", "cd34"), at(change));
        }
        let page = ForgePage::new(Some(Kind::Cgit), Some("http://git.example/hello.git/"), url).unwrap();
        assert_eq!(page.commit("ab12"), "http://git.example/hello.git/commit/?id=ab12");
        assert_eq!(
            page.reference("refs/heads/a&h=b/c").as_deref(),
            Some("http://git.example/hello.git/log/?h=a%26h%3Db%2Fc")
        );
        assert_eq!(page.comparison("ab12", "cd34"), "http://git.example/hello.git/diff/?id=cd34&id2=ab12");
    }

    #[test]
    fn pull_requests_are_found_where_their_forge_has_them() {
        let page = |kind| ForgePage::new(Some(kind), None, "https://f.example/a/b").unwrap();
        let of = |kind, reference: &str| page(kind).reference(reference);
        assert_eq!(of(Kind::GitHub, "refs/pull/12/head").as_deref(), Some("https://f.example/a/b/pull/12"));
        assert_eq!(of(Kind::Gitea, "refs/pull/12/head").as_deref(), Some("https://f.example/a/b/pulls/12"));
        let merge = of(Kind::GitLab, "refs/merge-requests/3/head");
        assert_eq!(merge.as_deref(), Some("https://f.example/a/b/-/merge_requests/3"));
        for (kind, reference) in
            [(Kind::GitLab, "refs/pull/1/head"), (Kind::GitHub, "refs/pull/x/head"), (Kind::Cgit, "refs/notes/1")]
        {
            assert_eq!(of(kind, reference), None, "{reference}");
        }
    }

    #[test]
    fn known_hosts_need_no_setting_and_others_do() {
        let found = |url: &str| ForgePage::new(None, None, url).map(|page| page.commit("1"));
        assert_eq!(found("https://github.com/a/b.git").as_deref(), Some("https://github.com/a/b/commit/1"));
        assert_eq!(found("https://gitlab.com/a/b").as_deref(), Some("https://gitlab.com/a/b/-/commit/1"));
        for url in ["https://github.com.evil.example/a", "git@github.com:a/b", "/srv/git/a", "https://g.example/a"] {
            assert_eq!(found(url), None, "{url}");
        }
        let said = ForgePage::new(None, Some("https://codeberg.org/a/b"), "/srv/git/a");
        assert_eq!(said.map(|page| page.commit("1")).as_deref(), Some("https://codeberg.org/a/b/commit/1"));
    }

    #[test]
    fn addresses_are_of_the_web_and_plain() {
        for good in ["https://g.example/a/b", "http://127.0.0.1:3000/a", "https://[::1]/a.git"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in
            ["javascript:alert(1)", "https://", "https:///a", "https://a/?b", "https://a/<b>", "//a", "https://u@a/b"]
        {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
