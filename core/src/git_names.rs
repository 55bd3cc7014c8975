//! Hostile text → a repository name, URL, reference or revision that git may safely be given.
//!
//! Everything here is a refusal by default: what is not plainly one of the accepted forms is an error that names what was
//! expected. The rules stand in git-check-ref-format(1), gitrevisions(7) and the URL section of git-fetch(1).

use crate::ref_name;
use alloc::format;
use alloc::string::{String, ToString};

/// Longest URL accepted, in bytes: git itself, ssh and web servers stop near this length.
pub const URL_BYTES: usize = 2048;
/// Longest reference accepted, in bytes: a ref is also a path of a git directory, which ends at PATH_MAX.
pub const REFERENCE_BYTES: usize = 4096;
/// Longest repository name accepted, in bytes: it becomes one directory name, of which file systems allow 255 bytes.
pub const REPOSITORY_BYTES: usize = 128;

/// How git reaches a repository: the names by which GIT_ALLOW_PROTOCOL (git(1)) knows the transports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// `https://`
    Https,
    /// `http://`
    Http,
    /// `ssh://` and `user@host:path`
    Ssh,
    /// `git://`
    Git,
    /// `file://` and absolute paths
    File,
}

impl Protocol {
    /// The name in GIT_ALLOW_PROTOCOL.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Https => "https",
            Protocol::Http => "http",
            Protocol::Ssh => "ssh",
            Protocol::Git => "git",
            Protocol::File => "file",
        }
    }

    /// The value of GIT_ALLOW_PROTOCOL for a repository of this protocol. Plain http may be redirected to https, never the
    /// other way round.
    pub fn allowed(self) -> &'static str {
        match self {
            Protocol::Http => "http:https",
            other => other.name(),
        }
    }
}

const URL_FORMS: &str =
    "expected https://, http://, ssh://, git:// or file:// with a host and path, user@host:path, or an absolute path";

/// Checks a repository's URL as an operator wrote it.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_url(url: &str) -> Result<(), String> {
    protocol(url).map(|_| ())
}

/// Checks a URL and tells by which protocol git will reach it.
///
/// # Errors
/// As [`check_url`].
pub fn protocol(url: &str) -> Result<Protocol, String> {
    if url.is_empty() || url.len() > URL_BYTES {
        return Err(format!("expected a repository URL of 1 to {URL_BYTES} bytes"));
    }
    if url.chars().any(char::is_control) {
        return Err("expected a repository URL without control characters".to_string());
    }
    if url.starts_with('-') {
        return Err("expected a repository URL, not an option: it begins with '-'".to_string());
    }
    // git decodes URLs, so an encoded NUL or line break is as bad as a plain one (it could split a git:// request).
    let lower = url.to_ascii_lowercase();
    if ["%00", "%0a", "%0d"].iter().any(|code| lower.contains(code)) {
        return Err("expected a repository URL without encoded control characters".to_string());
    }
    if url.split(['/', ':']).any(|part| part == ".." || part.eq_ignore_ascii_case("%2e%2e")) {
        return Err("expected a repository URL without '..' in its path".to_string());
    }
    if url.starts_with('/') {
        return Ok(Protocol::File);
    }
    if let Some((scheme, rest)) = url.split_once("://") {
        let found = match scheme {
            "https" => Protocol::Https,
            "http" => Protocol::Http,
            "ssh" => Protocol::Ssh,
            "git" => Protocol::Git,
            "file" => Protocol::File,
            _ => return Err(URL_FORMS.to_string()),
        };
        if found == Protocol::File {
            // git takes everything after `file://` as a path; a host there would silently be part of it.
            return if rest.starts_with('/') { Ok(found) } else { Err(URL_FORMS.to_string()) };
        }
        let Some((authority, path)) = rest.split_once('/') else {
            return Err(URL_FORMS.to_string());
        };
        if path.is_empty() {
            return Err(URL_FORMS.to_string());
        }
        let host_and_port = check_user(authority)?;
        check_host_and_port(host_and_port)?;
        // Git hands the whole URL to a helper as an argument, which every user of the machine can read.
        if matches!(found, Protocol::Https | Protocol::Http) && path.contains(['?', '#']) {
            return Err("expected a repository URL without '?' and '#': a token goes before the host, \
                        as https://TOKEN@host/path, from where it is kept secret"
                .to_string());
        }
        return Ok(found);
    }
    // user@host:path, the form of scp. `name::rest` is git's syntax for a remote helper, which may run any command.
    let bracketed_end = url.find(']').filter(|_| url.contains('[')).map_or(0, |at| at + 1);
    let Some(colon) = url.get(bracketed_end..).and_then(|rest| rest.find(':')).map(|at| at + bracketed_end) else {
        return Err(URL_FORMS.to_string());
    };
    let (authority, path) = (url.get(..colon).unwrap_or(""), url.get(colon + 1..).unwrap_or(""));
    if authority.contains('/') || path.starts_with(':') || path.starts_with('-') || path.is_empty() {
        return Err(URL_FORMS.to_string());
    }
    let host = check_user(authority)?;
    check_host(host)?;
    Ok(Protocol::Ssh)
}

/// Checks the part before `@` and returns what follows it.
fn check_user(authority: &str) -> Result<&str, String> {
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Ok(authority);
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._~!$&'()*+,;=:%-".contains(c);
    if user.is_empty()
        || user.starts_with('-')
        || user.to_ascii_lowercase().starts_with("%2d")
        || !user.chars().all(plain)
    {
        return Err("expected a user name before '@' of letters, digits and '._-+', not beginning with '-'".to_string());
    }
    Ok(host)
}

fn check_host_and_port(text: &str) -> Result<(), String> {
    let after_bracket = text.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match text.get(after_bracket..).and_then(|rest| rest.find(':')) {
        Some(at) => (text.get(..after_bracket + at).unwrap_or(""), text.get(after_bracket + at + 1..)),
        None => (text, None),
    };
    check_host(host)?;
    match port {
        None => Ok(()),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok_and(|n| n > 0) => {
            Ok(())
        }
        Some(_) => Err("expected a port of 1 to 65535 after the host".to_string()),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let fine = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            address.contains(':') && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.')
        }
        None => {
            !host.is_empty()
                && !host.starts_with('-')
                && host.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        }
    };
    if fine {
        Ok(())
    } else {
        Err("expected a host name of letters, digits, '.', '_' and '-', not beginning with '-'".to_string())
    }
}

/// The URL as it may be shown to people: without the password or token an operator put into it. The user of ssh is none.
pub fn without_credentials(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_string();
    };
    if scheme == "file" {
        return url.to_string();
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    match user {
        Some(user) if scheme == "ssh" => {
            format!("ssh://{}@{host}{path}", user.split(':').next().unwrap_or(user))
        }
        _ if scheme == "ssh" => url.to_string(),
        // What follows a question mark is for the server, as a token would be.
        _ => format!("{scheme}://{host}{}", path.split(['?', '#']).next().unwrap_or(path)),
    }
}

/// Checks a full reference, a branch (`refs/heads/…`) or tag (`refs/tags/…`), by the rules of git-check-ref-format(1). It is given
/// as its text, see [`ref_name`].
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_ref(reference: &str) -> Result<(), String> {
    let Some(bytes) = ref_name::bytes(reference) else {
        return Err("expected a reference in which a backslash begins an escape, as \\xe9".to_string());
    };
    check_ref_bytes(&bytes)
}

fn check_ref_bytes(reference: &[u8]) -> Result<(), String> {
    let Some(name) = ["refs/heads/", "refs/tags/"].iter().find_map(|kind| reference.strip_prefix(kind.as_bytes()))
    else {
        return Err("expected a reference that begins with refs/heads/ or refs/tags/".to_string());
    };
    if reference.len() > REFERENCE_BYTES {
        return Err(format!("expected a reference of at most {REFERENCE_BYTES} bytes"));
    }
    let forbidden = |byte: &u8| *byte <= b' ' || *byte == 0x7f || b"~^:?*[\\".contains(byte);
    let component = |part: &[u8]| !part.is_empty() && !part.starts_with(b".") && !part.ends_with(b".lock");
    let holds = |pair: &[u8; 2]| name.windows(2).any(|window| window == pair);
    if name.iter().any(forbidden)
        || !name.split(|byte| *byte == b'/').all(component)
        || holds(b"..")
        || holds(b"@{")
        || name.ends_with(b".")
    {
        return Err("expected a branch or tag name as git-check-ref-format(1) allows it".to_string());
    }
    Ok(())
}

/// The text of a reference that was given as bytes, or as a branch's plain name.
///
/// # Errors
/// As [`check_ref`].
pub fn pushed_ref(given: &[u8]) -> Result<String, String> {
    let whole = if given.starts_with(b"refs/") { given.to_vec() } else { [b"refs/heads/", given].concat() };
    check_ref_bytes(&whole).map(|()| ref_name::text(&whole))
}

/// The name of a branch's reference, without `refs/heads/`.
pub fn branch(reference: &str) -> Option<&str> {
    reference.strip_prefix("refs/heads/")
}

/// The name of a tag's reference, without `refs/tags/`.
pub fn tag(reference: &str) -> Option<&str> {
    reference.strip_prefix("refs/tags/")
}

/// Whether pushes to this reference are ignored: branches that begin with `_` are people's scratch paper.
pub fn is_private(reference: &str) -> bool {
    branch(reference).is_some_and(|name| name.starts_with('_'))
}

/// Checks a revision: a whole object name, 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits. Nothing else of
/// gitrevisions(7) is accepted, so a revision can be neither an option nor a refspec nor a path.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_revision(revision: &str) -> Result<(), String> {
    let digits = revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if digits && (revision.len() == 40 || revision.len() == 64) {
        Ok(())
    } else {
        Err("expected a revision of 40 or 64 lower-case hexadecimal digits".to_string())
    }
}

/// Whether this is the all-zero object name by which git tells hooks "no such object" (githooks(5)).
pub fn is_null_revision(revision: &str) -> bool {
    check_revision(revision).is_ok() && revision.bytes().all(|b| b == b'0')
}

/// Checks the name under which a repository is configured: parts of letters, digits and `._-` that begin with a letter, digit
/// or `_`, joined by `/`. Such a name needs no escaping in a URL's path.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_repository(name: &str) -> Result<(), String> {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    };
    if name.len() <= REPOSITORY_BYTES && name.split('/').all(part) {
        Ok(())
    } else {
        Err(format!(
            "expected a repository name of at most {REPOSITORY_BYTES} letters, digits, '.', '_', '-', in parts joined by '/'"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_every_accepted_form() {
        for (url, expected) in [
            ("https://example.org/a.git", Protocol::Https),
            ("https://user:token@example.org:8443/a/b.git", Protocol::Https),
            ("http://127.0.0.1:8080/a", Protocol::Http),
            ("ssh://git@example.org:2222/~me/a.git", Protocol::Ssh),
            ("ssh://git@[::1]:22/a.git", Protocol::Ssh),
            ("git@example.org:group/a.git", Protocol::Ssh),
            ("example.org:a", Protocol::Ssh),
            ("git@[fe80::1]:a.git", Protocol::Ssh),
            ("git://example.org/a.git", Protocol::Git),
            ("file:///srv/git/a b.git", Protocol::File),
            ("/srv/git/a:b.git", Protocol::File),
        ] {
            assert_eq!(protocol(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn hostile_urls_are_refused() {
        for url in [
            "",
            "-uevil",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c touch% /tmp/x",
            "ext::ssh://x/y",
            "fd::3/x",
            "transport::https://example.org/a",
            "ssh://-oProxyCommand=touch/x",
            "ssh://-oProxyCommand=touch@example.org/x",
            "ssh://%2doProxyCommand=x@example.org/x",
            "ssh://git@-oProxyCommand=x/y",
            "ssh://%2doProxyCommand=x/y",
            "-oProxyCommand=x:y",
            "git@-oProxyCommand=x:y",
            "git@host:-x",
            "host::path",
            "ssh://host:0/x",
            "ssh://host:22x/x",
            "ssh://host:+22/x",
            "ssh:///x",
            "https://",
            "https://host",
            "https://host/",
            "https:///x",
            "https://ho st/x",
            "git://host/a%0aextra",
            "https://host/a\nb",
            "file://host/x",
            "file:///srv/../etc",
            "/srv/git/../../etc",
            "host:../x",
            "https://host/%2e%2E/x",
            "https://host/x?private_token=secret",
            "http://host/x#y",
            "ftp://host/x",
            "HTTPS://host/x",
            "relative/path",
            "./x",
            "host",
            "user@:x",
            "@host:x",
            "[::1:x",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
        assert!(check_url(&format!("https://host/{}", "a".repeat(URL_BYTES))).is_err());
    }

    #[test]
    fn credentials_are_not_shown() {
        assert_eq!(without_credentials("https://u:p@host/a@b"), "https://host/a@b");
        assert_eq!(without_credentials("https://host/a@b"), "https://host/a@b");
        assert_eq!(without_credentials("https://host/a?private_token=t"), "https://host/a");
        assert_eq!(without_credentials("git@host:a"), "git@host:a");
        assert_eq!(without_credentials("ssh://git:p@host/a"), "ssh://git@host/a");
        assert_eq!(without_credentials("ssh://git@host/a"), "ssh://git@host/a");
    }

    #[test]
    fn references() {
        for reference in [
            "refs/heads/main",
            "refs/heads/a/b-c",
            "refs/tags/v1.0",
            "refs/heads/ä",
            "refs/heads/a@b",
            "refs/heads/_x",
            "refs/heads/-dash2",
            "refs/heads/--",
            "refs/heads/@",
            "refs/heads/a./b",
            "refs/heads/$(x)'\"",
            "refs/heads/caf\\xe9",
        ] {
            assert_eq!(check_ref(reference), Ok(()), "{reference}");
        }
        for reference in [
            "",
            "main",
            "HEAD",
            "refs/pull/1/head",
            "refs/heads",
            "refs/heads/",
            "refs/heads//a",
            "refs/heads/a/",
            "refs/heads/.a",
            "refs/heads/a/.b",
            "refs/heads/a.lock",
            "refs/heads/a.lock/b",
            "refs/heads/a..b",
            "refs/heads/../x",
            "refs/heads/a b",
            "refs/heads/a~1",
            "refs/heads/a^",
            "refs/heads/a:b",
            "refs/heads/a?",
            "refs/heads/*",
            "refs/heads/a[b",
            "refs/heads/a\\b",
            "refs/heads/a.",
            "refs/heads/a@{1}",
            "refs/heads/a\nb",
            "refs/heads/a\u{7f}",
            "refs/heads/a\\x0ab",
            "refs/heads/a\\x5cb",
            "+refs/heads/main",
            "--upload-pack=x",
        ] {
            assert!(check_ref(reference).is_err(), "{reference:?}");
        }
        assert!(check_ref(&format!("refs/heads/{}", "a".repeat(REFERENCE_BYTES))).is_err());
        assert_eq!(pushed_ref(b"caf\xe9").as_deref(), Ok("refs/heads/caf\\xe9"));
        assert_eq!(pushed_ref(b"refs/tags/-x").as_deref(), Ok("refs/tags/-x"));
        assert!(pushed_ref(b"refs/notes/x").is_err() && pushed_ref(b"a\\xe9").is_err());
        assert!(is_private("refs/heads/_x") && !is_private("refs/heads/a/_x") && !is_private("refs/tags/_x"));
    }

    #[test]
    fn revisions() {
        let sha1 = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(check_revision(sha1), Ok(()));
        assert_eq!(check_revision(&"a".repeat(64)), Ok(()));
        for revision in [
            "",
            "HEAD",
            "-x",
            "--all",
            "0123456",
            &"a".repeat(41),
            &"A".repeat(40),
            &"g".repeat(40),
            &format!("{sha1}^"),
            &format!("+{}", &sha1[1..]),
        ] {
            assert!(check_revision(revision).is_err(), "{revision}");
        }
        assert!(is_null_revision(&"0".repeat(40)) && !is_null_revision(sha1) && !is_null_revision("0"));
    }

    #[test]
    fn repository_names() {
        for name in ["a", "libwebsockets", "group/project.x", "a-b_c", "_x"] {
            assert_eq!(check_repository(name), Ok(()), "{name}");
        }
        for name in
            ["", "/a", "a/", "a//b", "..", "a/../b", ".git", "-a", "a b", "a%2fb", "ä", "a\0b", &"a".repeat(129)]
        {
            assert!(check_repository(name).is_err(), "{name:?}");
        }
    }
}
