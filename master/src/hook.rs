//! The parts of an HTTP request to `/hook/REPO` → a poke, or a verified push.
//!
//! - `GET /hook/REPO?ref=…&rev=…` is a poke by anyone: it says that looking at the repository may be worth while.
//! - `POST /hook/REPO` is signed with the repository's secret. The push webhooks of GitHub, Gitea, Forgejo and GitLab are
//!   pokes too; the original's own notification (`multipart/form-data`, `authorization: sai sha256=HEX`) carries the saifile
//!   and is a push by itself. Its signature says that whoever holds the secret wants this saifile run at this revision; that
//!   the repository has such a revision is found out by the agent that fetches it.
//!
//! Signatures are compared in constant time. Whatever is wrong with a signature, the answer is the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use miniserde::Deserialize;
use multer::bytes::Bytes;
use ring::hmac;
use sai_agent::digest::sha256;
use sai_core::git_names::{REFERENCE_BYTES, check_ref, check_revision, is_null_revision, is_private, pushed_ref};
use sai_core::ordered::{Map, Set};
use sai_core::ref_name;
use sai_core::replay::NONCE_BYTES;
use sai_core::secret::Secret;
use std::convert::Infallible;
use subtle::ConstantTimeEq;

/// Largest body of a hook, in bytes: a saifile of 1 MiB in base64 and what surrounds it.
pub const BODY_BYTES: usize = 2 << 20;
/// Largest saifile in a notification, in bytes.
const SAIFILE_BYTES: usize = crate::forge::SAIFILE_BYTES as usize;
/// Longest query of a poke, in bytes: a reference with each byte encoded, and a revision.
const QUERY_BYTES: usize = 3 * REFERENCE_BYTES + 256;
/// Secrets that are tried on a hook for a repository that is not there: each costs a digest of the body.
const SECRETS_TRIED: usize = 32;
/// Where hooks live.
const PREFIX: &str = "/hook/";

const UNSIGNED: &str = "expected a signature made with this repository's secret";

/// The parts of a request that matter here.
#[derive(Clone, Copy, Debug)]
pub struct HookRequest<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path as it was sent, without the query.
    pub path: &'a str,
    /// What follows `?`, or nothing.
    pub query: &'a str,
    /// Names, in any case, and values.
    pub headers: &'a [(String, String)],
    /// The whole body.
    pub body: &'a [u8],
}

/// What a hook needs to know of a configured repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HookSecret {
    /// The secret its hooks are signed with, as text (of the original: 64 hexadecimal digits). Without one no signed hook is
    /// accepted.
    pub secret: Option<Secret>,
}

/// A push told by somebody who holds the secret, with its saifile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPush {
    /// The configured repository.
    pub repository: String,
    /// A checked reference.
    pub reference: String,
    /// A checked revision.
    pub revision: String,
    /// The saifile's bytes.
    pub saifile: Vec<u8>,
    /// The notification's nonce: the push is a replay if it was seen before.
    pub nonce: String,
}

/// What a hook asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookOutcome {
    /// Look at the repository.
    Poke {
        /// The configured repository.
        repository: String,
        /// The reference that was pushed, if told.
        reference: Option<String>,
        /// Its revision, if told. A hint: what counts is what the look finds.
        revision: Option<String>,
    },
    /// Make an event of this push.
    Push(VerifiedPush),
    /// Nothing, for this reason, which goes with status 200.
    Ignored(String),
}

/// Why a hook is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookError {
    /// The HTTP status.
    pub status: u16,
    /// What was expected, in a sentence.
    pub text: String,
}

fn error<T>(status: u16, text: impl Into<String>) -> Result<T, HookError> {
    Err(HookError { status, text: text.into() })
}

/// Reads a request to `/hook/…`. `repositories` holds the configured ones by name.
///
/// # Errors
/// [`HookError`]: 400 for what cannot be read, 401 unsigned or forged, 404 no such repository, 405, 413, 415.
pub fn receive(request: &HookRequest<'_>, repositories: &Map<String, HookSecret>) -> Result<HookOutcome, HookError> {
    let name = request.path.strip_prefix(PREFIX).unwrap_or("");
    let name = percent_decoded(name).and_then(|name| String::from_utf8(name).ok()).unwrap_or_default();
    let Some((name, secret)) = repositories.get_key_value(name.trim_end_matches('/')) else {
        let known = known_to(request, repositories);
        if known.is_empty() {
            return error(404, "no such repository");
        }
        return error(404, format!("no such repository; those with this secret are: {}", known.join(", ")));
    };
    if request.body.len() > BODY_BYTES {
        return error(413, format!("expected a body of at most {BODY_BYTES} bytes"));
    }
    match request.method {
        "GET" => poke(name, request.query),
        "POST" => {
            let secret = secret.secret.as_ref().map(Secret::reveal);
            let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
                return error(401, UNSIGNED);
            };
            signed(name, secret, request)
        }
        _ => error(405, "expected GET or POST"),
    }
}

/// `GET`: a poke by anyone.
fn poke(repository: &str, query: &str) -> Result<HookOutcome, HookError> {
    if query.len() > QUERY_BYTES {
        return error(400, format!("expected a query of at most {QUERY_BYTES} bytes"));
    }
    let (mut reference, mut revision): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let slot = match key {
            "ref" => &mut reference,
            "rev" => &mut revision,
            _ => continue,
        };
        let Some(value) = percent_decoded(&value.replace('+', "%20")) else {
            return error(400, format!("{key}: expected percent-encoded text"));
        };
        *slot = Some(value).filter(|value| !value.is_empty());
    }
    let revision = revision.map(|revision| String::from_utf8_lossy(&revision).into_owned());
    poke_for(repository, reference.as_deref(), revision)
}

/// A poke, its texts checked. A reference may be given as a branch's plain name.
fn poke_for(repository: &str, reference: Option<&[u8]>, revision: Option<String>) -> Result<HookOutcome, HookError> {
    let reference = match reference.map(pushed_ref).transpose() {
        Ok(reference) => reference,
        Err(expected) => return error(400, format!("ref: {expected}")),
    };
    if let Some(Err(expected)) = revision.as_deref().map(check_revision) {
        return error(400, format!("rev: {expected}"));
    }
    if let Some(ignored) = unless_ignored(reference.as_deref(), None) {
        return Ok(ignored);
    }
    // Of what was deleted a look finds nothing to build, but jobs that nobody wants any longer.
    let revision = revision.filter(|revision| !is_null_revision(revision));
    Ok(HookOutcome::Poke { repository: repository.to_string(), reference, revision })
}

fn unless_ignored(reference: Option<&str>, revision: Option<&str>) -> Option<HookOutcome> {
    if reference.is_some_and(is_private) {
        return Some(HookOutcome::Ignored("branches that begin with '_' are ignored".to_string()));
    }
    if revision.is_some_and(is_null_revision) {
        return Some(HookOutcome::Ignored("the reference was deleted".to_string()));
    }
    None
}

/// `POST`: which signature there is tells which format it is.
fn signed(repository: &str, secret: &str, request: &HookRequest<'_>) -> Result<HookOutcome, HookError> {
    // Gitea can be told to send an authorization of any other kind beside its signature.
    if let Some(rest) = header(request, "authorization").and_then(|value| value.strip_prefix("sai ")) {
        return notification(repository, secret, rest, request);
    }
    if is_genuine(secret, request) { webhook(repository, request) } else { error(401, UNSIGNED) }
}

/// Whether a webhook of a forge is signed with this secret.
fn is_genuine(secret: &str, request: &HookRequest<'_>) -> bool {
    let by_hmac = ["x-hub-signature-256", "x-forgejo-signature", "x-gitea-signature"]
        .iter()
        .find_map(|name| header(request, name));
    match (by_hmac, header(request, "x-gitlab-token")) {
        (Some(signature), _) => {
            let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
            verify(hmac::HMAC_SHA256, secret, request.body, hex)
        }
        // GitLab sends the secret itself. Digests are compared, so that its length cannot be found out either.
        (None, Some(token)) => sha256(token.as_bytes()).ct_eq(&sha256(secret.as_bytes())).into(),
        (None, None) => false,
    }
}

/// The repositories whose secret a hook is signed with: whoever has it may know them.
fn known_to<'a>(request: &HookRequest<'_>, repositories: &'a Map<String, HookSecret>) -> Vec<&'a str> {
    if request.method != "POST" || request.body.len() > BODY_BYTES {
        return Vec::new();
    }
    let authorization = header(request, "authorization").and_then(|value| value.strip_prefix("sai "));
    let notified = authorization.and_then(signature).zip(file_part(request).ok());
    let (mut fitting, mut tried) = (Set::new(), Set::new());
    for secret in repositories.values().filter_map(|repository| repository.secret.as_ref().map(Secret::reveal)) {
        if secret.is_empty() || tried.len() >= SECRETS_TRIED || !tried.insert(secret) {
            continue;
        }
        let genuine = match &notified {
            Some(((algorithm, hex), part)) => verify(*algorithm, secret, part, hex),
            None => is_genuine(secret, request),
        };
        if genuine {
            fitting.insert(secret);
        }
    }
    let has = |repository: &HookSecret| repository.secret.as_ref().is_some_and(|it| fitting.contains(it.reveal()));
    repositories.iter().filter(|(_, repository)| has(repository)).map(|(name, _)| name.as_str()).collect()
}

/// The algorithm and digits of the original's signature.
fn signature(text: &str) -> Option<(hmac::Algorithm, &str)> {
    let (name, hex) = text.trim().split_once('=')?;
    let algorithm = match name {
        "sha256" => hmac::HMAC_SHA256,
        "sha384" => hmac::HMAC_SHA384,
        "sha512" => hmac::HMAC_SHA512,
        _ => return None,
    };
    Some((algorithm, hex))
}

/// The value of a header; none if it is given more than once.
fn header<'a>(request: &HookRequest<'a>, name: &str) -> Option<&'a str> {
    let mut values = request.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value.trim())
}

/// Whether `hex` is the HMAC of the body, RFC 2104.
fn verify(algorithm: hmac::Algorithm, secret: &str, body: &[u8], hex: &str) -> bool {
    let key = hmac::Key::new(algorithm, secret.as_bytes());
    from_hex(hex).is_some_and(|expected| hmac::verify(&key, body, &expected).is_ok())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// What is read of a forge's push: GitHub, Gitea and Forgejo agree on `ref` and `after`, as does GitLab.
#[derive(Deserialize)]
struct Webhook {
    #[serde(rename = "ref")]
    reference: Option<String>,
    after: Option<String>,
    /// GitLab: the commit of a pushed tag, whose `after` is the tag object.
    checkout_sha: Option<String>,
}

/// A genuine webhook of a forge.
fn webhook(repository: &str, request: &HookRequest<'_>) -> Result<HookOutcome, HookError> {
    let event = ["x-github-event", "x-forgejo-event", "x-gitea-event", "x-gitlab-event"]
        .iter()
        .find_map(|name| header(request, name))
        .unwrap_or("");
    if !["push", "Push Hook", "Tag Push Hook"].contains(&event) {
        return Ok(HookOutcome::Ignored("only push events are used".to_string()));
    }
    let kind = header(request, "content-type").unwrap_or("");
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return error(415, "expected content type application/json: choose it in the webhook's settings");
    }
    let Some(push) = json::<Webhook>(request.body) else {
        return error(400, "expected a push event in JSON");
    };
    let Some(reference) = push.reference else {
        return error(400, "ref: expected the pushed reference");
    };
    if reference.starts_with("refs/") && !reference.starts_with("refs/heads/") && !reference.starts_with("refs/tags/") {
        return Ok(HookOutcome::Ignored("only branches and tags are used".to_string()));
    }
    poke_for(repository, Some(reference.as_bytes()), push.checkout_sha.or(push.after))
}

fn json<T: Deserialize>(bytes: &[u8]) -> Option<T> {
    miniserde::json::from_str(std::str::from_utf8(bytes).ok()?).ok()
}

/// The original's notification, as its hook script for git servers sends it.
#[derive(Deserialize)]
struct Notification {
    schema: String,
    action: String,
    repository: NotifiedRepository,
    #[serde(rename = "ref")]
    reference: String,
    hash: String,
    nonce: String,
    saifile_len: u64,
    saifile: String,
}

#[derive(Deserialize)]
struct NotifiedRepository {
    name: String,
}

fn notification(
    repository: &str,
    secret: &str,
    signed: &str,
    request: &HookRequest<'_>,
) -> Result<HookOutcome, HookError> {
    let Some((algorithm, hex)) = signature(signed) else {
        return error(401, UNSIGNED);
    };
    let part = file_part(request)?;
    if !verify(algorithm, secret, &part, hex) {
        return error(401, UNSIGNED);
    }
    let Some(told) = json::<Notification>(&part) else {
        return error(
            400,
            "expected valid JSON with schema, action, repository.name, ref, hash, nonce, saifile_len and saifile \
             (some versions of the original's hook script leave out the comma after repository.name)",
        );
    };
    if told.schema != "com-warmcat-sai-notification" {
        return error(400, "schema: expected \"com-warmcat-sai-notification\"");
    }
    if told.action != "repo-update" {
        return error(400, "action: expected \"repo-update\"");
    }
    // A notification of another repository with the same secret must not be turned against this one.
    if told.repository.name != repository && Some(told.repository.name.as_str()) != repository.rsplit('/').next() {
        return error(400, "repository.name: expected the repository that the path names");
    }
    if let Err(expected) = check_ref(&told.reference) {
        return error(400, format!("ref: {expected}"));
    }
    if let Err(expected) = check_revision(&told.hash) {
        return error(400, format!("hash: {expected}"));
    }
    if told.nonce.is_empty() || told.nonce.len() > NONCE_BYTES || !told.nonce.bytes().all(|b| b.is_ascii_graphic()) {
        return error(400, format!("nonce: expected 1 to {NONCE_BYTES} printable ASCII characters without blanks"));
    }
    let reference = ref_name::canonical(&told.reference).unwrap_or(told.reference);
    if let Some(ignored) = unless_ignored(Some(&reference), Some(&told.hash)) {
        return Ok(ignored);
    }
    let Ok(saifile) = STANDARD.decode(&told.saifile) else {
        return error(400, "saifile: expected base64 (RFC 4648, padded, without line breaks)");
    };
    // The original's hook script counts the base64 text.
    let lengths = [told.saifile.len(), saifile.len()];
    if !lengths.iter().any(|&length| u64::try_from(length) == Ok(told.saifile_len)) {
        return error(400, "saifile_len: expected the length of saifile, in base64 or decoded");
    }
    if saifile.is_empty() || saifile.len() > SAIFILE_BYTES {
        return error(413, format!("saifile: expected 1 to {SAIFILE_BYTES} bytes"));
    }
    Ok(HookOutcome::Push(VerifiedPush {
        repository: repository.to_string(),
        reference,
        revision: told.hash,
        saifile,
        nonce: told.nonce,
    }))
}

/// The bytes of the one file part of a multipart body, RFC 7578.
fn file_part(request: &HookRequest<'_>) -> Result<Bytes, HookError> {
    let expected =
        || HookError { status: 400, text: "expected multipart/form-data with exactly one part, a file".to_string() };
    let kind = header(request, "content-type").ok_or_else(expected)?;
    let boundary = multer::parse_boundary(kind).map_err(|_| expected())?;
    let body = smol::stream::once(Ok::<_, Infallible>(Bytes::copy_from_slice(request.body)));
    // The body is in memory, so nothing here ever waits.
    smol::block_on(async {
        let mut parts = multer::Multipart::new(body, boundary);
        let part = parts.next_field().await.ok().flatten().ok_or_else(expected)?;
        if part.file_name().is_none() {
            return Err(expected());
        }
        let bytes = part.bytes().await.map_err(|_| expected())?;
        match parts.next_field().await {
            Ok(None) => Ok(bytes),
            _ => Err(expected()),
        }
    })
}

/// Decodes `%XX`, RFC 3986 section 2.1; `None` if it is not well-formed.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        bytes.extend(from_hex(code)?);
        bytes.extend(rest.as_bytes());
    }
    Some(bytes)
}
