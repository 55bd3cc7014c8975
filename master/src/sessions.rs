//! Token → user → session: who is signed in, and whether a request comes from our own pages.
//!
//! Sessions live in memory only: a restart signs everybody out, and nothing on disk can be stolen. The cookie holds 256
//! random bits and is kept only as its SHA-256, so that a look-up does not leak by its timing how near a guess was.

use crate::prefix::Prefix;
use sai_agent::digest::sha256;
use sai_core::ledger::UserRecord;
use sai_core::ordered::Map;
use std::sync::{Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;

/// Name of the cookie. The prefix makes browsers insist on `Secure`, `Path=/` and no `Domain` (RFC 6265bis, 4.1.3.2).
pub const COOKIE: &str = "__Host-sai";

/// Its name where all of the master is below a path, and so is the cookie (RFC 6265bis, 4.1.3.1).
pub const COOKIE_BELOW: &str = "__Secure-sai";

/// The cookie's name, and the path it is for.
fn place(prefix: &Prefix) -> (&'static str, &str) {
    if prefix.is_empty() { (COOKIE, "/") } else { (COOKIE_BELOW, prefix.as_str()) }
}

/// Sessions at once; then the one idle for longest ends. Far above the people one master serves, and 150 KiB at most.
const SESSIONS: usize = 1024;

/// Milliseconds a session may be idle: a working day.
const IDLE_MS: u64 = 12 * 3600 * 1000;

/// Bytes of a cookie's random value.
const SECRET_BYTES: usize = 32;

struct Session {
    user: String,
    seen_at: u64,
    /// What came of the last action, until a page has shown it.
    told: Option<String>,
}

/// Who is signed in.
#[derive(Default)]
pub struct Sessions {
    held: Mutex<Map<[u8; 32], Session>>,
}

/// SHA-256 of a text, as 64 hex digits.
pub fn digest_hex(text: &str) -> String {
    hex(&sha256(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The user whose token this is. Every user is compared, in constant time, whichever matches.
pub fn user_of_token(users: &[UserRecord], token: &str, now_ms: u64) -> Option<String> {
    let digest = digest_hex(token);
    let mut found = None;
    for user in users {
        let same: bool = digest.as_bytes().ct_eq(user.token_sha256.as_bytes()).into();
        if same && lasts(user, now_ms) {
            found = Some(user.name.clone());
        }
    }
    found
}

/// Whether somebody may still be who their token says. `now_ms` is Unix time.
pub fn lasts(user: &UserRecord, now_ms: u64) -> bool {
    !user.revoked && !user.powers.as_ref().is_some_and(|powers| powers.ended(now_ms))
}

impl Sessions {
    /// Nobody is signed in.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Map<[u8; 32], Session>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session and gives the cookie's value. `now` is in milliseconds of a clock that nobody can set.
    ///
    /// # Errors
    /// The system has no randomness: trouble of ours.
    pub fn open(&self, user: &str, now: u64) -> Result<String, String> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|error| format!("no random numbers for a session: {error}"))?;
        let value = hex(&secret);
        let mut held = self.lock();
        held.retain(|_, session| now.saturating_sub(session.seen_at) < IDLE_MS);
        while held.len() >= SESSIONS {
            let Some(idle) = held.iter().min_by_key(|(_, session)| session.seen_at).map(|(key, _)| *key) else { break };
            held.remove(&idle);
        }
        held.insert(sha256(value.as_bytes()), Session { user: user.to_string(), seen_at: now, told: None });
        Ok(value)
    }

    /// The user of a cookie value, if its session is open and was not idle for too long.
    pub fn user(&self, value: &str, now: u64) -> Option<String> {
        let key: [u8; 32] = sha256(value.as_bytes());
        let mut held = self.lock();
        let session = held.get_mut(&key)?;
        if now.saturating_sub(session.seen_at) >= IDLE_MS {
            held.remove(&key);
            return None;
        }
        session.seen_at = session.seen_at.max(now);
        Some(session.user.clone())
    }

    /// Leaves a sentence for the next page of this session: an action's answer is a redirect, which shows nothing.
    pub fn tell(&self, value: &str, sentence: String) {
        if let Some(session) = self.lock().get_mut(&sha256(value.as_bytes())) {
            session.told = Some(sentence);
        }
    }

    /// Takes that sentence: it is shown once.
    pub fn told(&self, value: &str) -> Option<String> {
        self.lock().get_mut(&sha256(value.as_bytes()))?.told.take()
    }

    /// Ends a session.
    pub fn close(&self, value: &str) {
        let key: [u8; 32] = sha256(value.as_bytes());
        self.lock().remove(&key);
    }
}

/// The value of our cookie in a `cookie` header (RFC 6265, 4.2.1).
pub fn cookie<'a>(prefix: &Prefix, header: &'a str) -> Option<&'a str> {
    let (ours, _) = place(prefix);
    header.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == ours && !value.is_empty()).then_some(value)
    })
}

/// The `set-cookie` header that opens a session in a browser.
pub fn set_cookie(prefix: &Prefix, value: &str) -> String {
    let (name, path) = place(prefix);
    format!("{name}={value}; Path={path}; HttpOnly; Secure; SameSite=Strict; Max-Age={}", IDLE_MS / 1000)
}

/// The `set-cookie` header that ends it.
pub fn clear_cookie(prefix: &Prefix) -> String {
    let (name, path) = place(prefix);
    format!("{name}=; Path={path}; HttpOnly; Secure; SameSite=Strict; Max-Age=0")
}

/// Whether a request that a browser sent with its cookie comes from a page of ours: by `Sec-Fetch-Site` (Fetch Metadata)
/// where there is one, else by `Origin` against `Host`. A browser that says neither is not trusted.
pub fn same_origin(fetch_site: Option<&str>, origin: Option<&str>, host: Option<&str>) -> bool {
    match (fetch_site, origin, host) {
        (Some(site), None, _) => site == "same-origin",
        (site, Some(origin), Some(host)) => {
            site.is_none_or(|site| site == "same-origin")
                && origin.strip_prefix("https://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, token: &str, revoked: bool) -> UserRecord {
        UserRecord { name: name.to_string(), token_sha256: digest_hex(token), added_at: 0, revoked, powers: None }
    }

    #[test]
    fn tokens_name_their_user_unless_revoked() {
        let users = [user("ann", "t1", false), user("bob", "t2", true)];
        assert_eq!(user_of_token(&users, "t1", 0).as_deref(), Some("ann"));
        assert_eq!(user_of_token(&users, "t2", 0), None);
        assert_eq!(user_of_token(&users, "", 0), None);
        assert_eq!(digest_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_session_ends_by_idleness_or_closing() {
        let sessions = Sessions::new();
        let value = sessions.open("ann", 1000).unwrap();
        assert_eq!(value.len(), 64);
        assert_eq!(sessions.user(&value, 1000 + IDLE_MS - 1).as_deref(), Some("ann"));
        assert_eq!(sessions.user(&value, 1000 + 2 * IDLE_MS - 2).as_deref(), Some("ann"));
        assert_eq!(sessions.user(&value, 1000 + 3 * IDLE_MS), None);
        let value = sessions.open("ann", 0).unwrap();
        sessions.tell(&value, "cancelled job 7".to_string());
        assert_eq!(sessions.told(&value).as_deref(), Some("cancelled job 7"));
        assert_eq!((sessions.told(&value), sessions.told("")), (None, None));
        sessions.close(&value);
        assert_eq!(sessions.user(&value, 0), None);
        assert_eq!(sessions.user("", 0), None);
    }

    #[test]
    fn sessions_are_bounded_and_the_idlest_goes_first() {
        let sessions = Sessions::new();
        let first = sessions.open("first", 0).unwrap();
        let second = sessions.open("second", 1).unwrap();
        for at in 0..SESSIONS as u64 - 1 {
            sessions.open("more", 2 + at).unwrap();
        }
        assert_eq!(sessions.lock().len(), SESSIONS);
        assert_eq!(sessions.user(&first, 5), None);
        assert_eq!(sessions.user(&second, 5).as_deref(), Some("second"));
    }

    #[test]
    fn cookies_are_found_by_their_exact_name() {
        let (root, below) = (Prefix::default(), Prefix::of(Some("https://a/sai")));
        assert_eq!(cookie(&root, "a=b; __Host-sai=xyz; c"), Some("xyz"));
        assert_eq!(cookie(&root, "__Host-sai2=xyz; x__Host-sai=1"), None);
        assert_eq!(cookie(&root, "__Host-sai="), None);
        assert!(set_cookie(&root, "v").starts_with("__Host-sai=v; Path=/; HttpOnly; Secure; SameSite=Strict;"));
        // Below a path, so that of a master at another is not taken for it, nor sent there.
        assert_eq!(cookie(&below, "__Host-sai=a; __Secure-sai=b"), Some("b"));
        assert_eq!(cookie(&root, "__Secure-sai=b"), None);
        assert!(set_cookie(&below, "v").starts_with("__Secure-sai=v; Path=/sai; HttpOnly; Secure; SameSite=Strict;"));
        assert!(clear_cookie(&below).starts_with("__Secure-sai=; Path=/sai;"));
    }

    #[test]
    fn foreign_pages_are_told_apart() {
        let host = Some("ci.example:4443");
        assert!(same_origin(Some("same-origin"), Some("https://ci.example:4443"), host));
        assert!(same_origin(None, Some("https://CI.example:4443"), host));
        assert!(same_origin(Some("same-origin"), None, host));
        for (site, origin) in [
            (Some("cross-site"), Some("https://ci.example:4443")),
            (Some("same-site"), None),
            (Some("none"), None),
            (Some("same-origin"), Some("https://evil.example")),
            (None, Some("https://evil.example")),
            (None, Some("http://ci.example:4443")),
            (None, Some("null")),
            (None, None),
        ] {
            assert!(!same_origin(site, origin, host), "{site:?} {origin:?}");
        }
        assert!(!same_origin(None, Some("https://ci.example"), None));
    }
}
