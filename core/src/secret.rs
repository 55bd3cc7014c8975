//! Text that must not be shown ↔ types that print as `***`: secrets, and the URL of a repository with the credentials in it.
//!
//! What holds one can be printed, compared and kept in other types without a thought; the text comes out by `reveal` alone.

use crate::git_names::without_credentials;
use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use miniserde::de::{Deserialize, Visitor};
use miniserde::ser::{Fragment, Serialize};
use miniserde::{Result, make_place};

/// What a secret prints as.
const MASK: &str = "***";

/// A secret: a key, a token, a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Its text: for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_string())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

/// Where a repository is fetched: a URL that may be shown, and the credentials that may not.
///
/// On the wire, and only there, it is the whole URL: an agent needs it, and whoever may be an agent may fetch.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloneUrl {
    shown: String,
    /// The whole URL, if it has more than what is shown.
    whole: Option<Secret>,
}

impl CloneUrl {
    /// The URL without credentials.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The whole URL: for git's credentials and the wire.
    pub fn reveal(&self) -> &str {
        self.whole.as_ref().map_or(&self.shown, Secret::reveal)
    }

    /// Whether there are credentials in it.
    pub fn has_secret(&self) -> bool {
        self.whole.is_some()
    }

    /// The same place for those who may not have the credentials.
    #[must_use]
    pub fn without_secret(&self) -> Self {
        Self { shown: self.shown.clone(), whole: None }
    }

    /// User name and password as git's credential store wants them, before the host: `https://USER:PASSWORD@HOST[:PORT]`, both
    /// percent-encoded as they are in the URL. A lone name is a token with an empty password. None but for the web, since
    /// neither ssh nor git's own protocol takes a password.
    pub fn credential(&self) -> Option<Secret> {
        let (scheme, rest) = self.whole.as_ref()?.reveal().split_once("://")?;
        let authority = rest.split('/').next().unwrap_or(rest);
        let (user, host) = authority.rsplit_once('@')?;
        if !matches!(scheme, "https" | "http") {
            return None;
        }
        let colon = if user.contains(':') { "" } else { ":" };
        Some(Secret(format!("{scheme}://{user}{colon}@{host}")))
    }

    /// Takes the credentials out of a text that somebody else made, such as a server's answer.
    pub fn hide(&self, text: &str) -> String {
        let Some((_, rest)) = self.whole.as_ref().and_then(|whole| whole.reveal().split_once("://")) else {
            return text.to_string();
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        let Some((user, _)) = authority.rsplit_once('@') else { return text.to_string() };
        let mut text = text.replace(&format!("{user}@"), "");
        let password = user.split_once(':').map_or(user, |(_, password)| password);
        for secret in [user, password] {
            if !secret.is_empty() {
                text = text.replace(secret, MASK);
            }
        }
        text
    }
}

impl From<&str> for CloneUrl {
    fn from(url: &str) -> Self {
        let shown = without_credentials(url);
        let whole = (shown != url).then(|| Secret::from(url));
        Self { shown, whole }
    }
}

impl From<String> for CloneUrl {
    fn from(url: String) -> Self {
        Self::from(url.as_str())
    }
}

impl fmt::Display for CloneUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.shown)
    }
}

impl fmt::Debug for CloneUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}{}", self.shown, if self.whole.is_some() { " with ***" } else { "" })
    }
}

make_place!(Place);

impl Serialize for CloneUrl {
    fn begin(&self) -> Fragment<'_> {
        Fragment::Str(Cow::Borrowed(self.reveal()))
    }
}

impl Visitor for Place<CloneUrl> {
    fn string(&mut self, text: &str) -> Result<()> {
        self.out = Some(CloneUrl::from(text));
        Ok(())
    }
}

impl Deserialize for CloneUrl {
    fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
        Place::new(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_printed() {
        let secret = Secret::from("hunter2");
        assert_eq!((format!("{secret} {secret:?}").as_str(), secret.reveal()), ("*** ***", "hunter2"));
        for (url, shown, credential) in [
            ("https://ann:hunter2@host:8443/a.git", "https://host:8443/a.git", Some("https://ann:hunter2@host:8443")),
            ("https://hunter2@host/a", "https://host/a", Some("https://hunter2:@host")),
            ("https://hunter2:@host/a", "https://host/a", Some("https://hunter2:@host")),
            ("ssh://git:hunter2@host/a", "ssh://git@host/a", None),
            ("git://hunter2@host/a", "git://host/a", None),
            ("https://host/a?private_token=hunter2", "https://host/a", None),
        ] {
            let url = CloneUrl::from(url);
            assert_eq!((url.shown(), url.has_secret()), (shown, true));
            assert_eq!(url.credential().as_ref().map(Secret::reveal), credential);
            let printed = format!("{url} {url:?} {:?}", url.without_secret());
            assert!(!printed.contains("hunter2") && url.reveal().contains("hunter2"), "{printed}");
            assert!(!url.without_secret().reveal().contains("hunter2"));
        }
        for url in ["https://host/a@b", "git@host:a", "ssh://git@host/a", "/srv/git/a@b", "file:///a?b"] {
            let url = CloneUrl::from(url);
            assert_eq!((url.has_secret(), url.reveal()), (false, url.shown()));
        }
    }

    #[test]
    fn a_text_of_others_is_cleaned() {
        let url = CloneUrl::from("https://ann:hunter2@host/a");
        assert_eq!(url.hide("at https://ann:hunter2@host/a: hunter2"), "at https://host/a: ***");
        assert_eq!(CloneUrl::from("https://tok3n@host/a").hide("tok3n@host tok3n"), "host ***");
        assert_eq!(CloneUrl::from("https://ann:@host/a").hide("annex"), "annex");
    }

    #[test]
    fn the_wire_has_it_whole() {
        let url = CloneUrl::from("https://ann:hunter2@host/a");
        let text = miniserde::json::to_string(&url);
        assert_eq!(text, "\"https://ann:hunter2@host/a\"");
        assert_eq!(miniserde::json::from_str::<CloneUrl>(&text).ok(), Some(url));
    }
}
