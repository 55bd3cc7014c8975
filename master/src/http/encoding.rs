//! Response → Response as gzip, where the client takes it and the body gains by it (RFC 9110 §8.4 and §12.5.3).
//!
//! Compressed is only what is made anew for each request: pages, answers of the API, the texts of logs. What has an entity tag
//! or can be asked for in parts is a file as a job made it, and its tag and its ranges are those of just these bytes, so it
//! is sent as it is. So are answers to what changes something: one of them holds a token for a new machine, and the length
//! of a compressed page that repeats a stranger's words would tell of it (BREACH).

use super::{Body, Request, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Cursor, Read as _, Write as _};

/// Bytes below which a body gains nothing: with its head it fits into one packet of 1500 bytes.
const LEAST_BYTES: u64 = 1 << 10;

/// Bytes that are compressed at most: what a worker then has in memory is twice as much, beside the 350 KiB of the
/// compressor. The largest pages have about 2 MB; a longer log is sent as it is.
const MOST_BYTES: u64 = 4 << 20;

/// Media types of what we write as text; types that jobs' files have are not asked.
const TEXTS: [&str; 8] = [
    "text/html",
    "text/plain",
    "text/css",
    "text/javascript",
    "application/json",
    "image/svg+xml",
    "application/atom+xml",
    "application/openmetrics-text",
];

/// Encodes the body, and says that it depends on what the client takes; or leaves the response as it is.
#[must_use]
pub fn encode(request: &Asked, mut response: Response) -> Response {
    if !request.reads || !is_text_of_ours(&response) {
        return response;
    }
    let length = response.body.length();
    if !(LEAST_BYTES..=MOST_BYTES).contains(&length) {
        return response;
    }
    // A cache between keeps both apart, also where this client got it plain.
    response.headers.push(("vary", "accept-encoding".to_owned()));
    if !request.takes_gzip {
        return response;
    }
    let plain = match response.body {
        Body::Bytes(bytes) => bytes,
        Body::Reader { reader, length } => {
            let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            match reader.take(length).read_to_end(&mut bytes) {
                Ok(read) if read as u64 == length => bytes,
                // It ends early: the client is to see that by a cut connection, as without us.
                _ => {
                    response.body = Body::Reader { reader: Box::new(Cursor::new(bytes)), length };
                    return response;
                }
            }
        }
        file @ Body::File { .. } => {
            response.body = file;
            return response;
        }
    };
    match gzip(&plain) {
        Some(packed) => {
            response.headers.push(("content-encoding", "gzip".to_owned()));
            response.body = Body::Bytes(packed);
        }
        None => response.body = Body::Bytes(plain),
    }
    response
}

/// What of a request matters here; it is looked at before the handler takes the request.
pub struct Asked {
    /// Whether it only reads.
    reads: bool,
    /// Whether the client takes gzip.
    takes_gzip: bool,
}

impl Asked {
    /// Looks at a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let accepted =
            request.headers.iter().filter(|(name, _)| name == "accept-encoding").map(|(_, value)| value.as_str());
        Self { reads: matches!(request.method.as_str(), "GET" | "HEAD"), takes_gzip: takes_gzip(accepted) }
    }
}

/// Whether a client takes gzip by its `Accept-Encoding` headers. Without one it is said to take anything, but then it is a
/// program that may not know how.
fn takes_gzip<'a>(accepted: impl Iterator<Item = &'a str>) -> bool {
    let (mut named, mut any) = (None, false);
    for choice in accepted.flat_map(|header| header.split(',')) {
        let (coding, parameters) = choice.split_once(';').unwrap_or((choice, ""));
        let wanted = is_wanted(parameters);
        match coding.trim() {
            "*" => any = wanted,
            coding if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") => {
                named = Some(wanted)
            }
            _ => {}
        }
    }
    named.unwrap_or(any)
}

/// Whether a weight is more than zero; what cannot be read is not taken for a wish.
fn is_wanted(parameters: &str) -> bool {
    let parameters = parameters.trim();
    if parameters.is_empty() {
        return true;
    }
    let weight = parameters.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.and_then(|(_, weight)| weight.trim().parse::<f32>().ok()).is_some_and(|weight| weight > 0.0 && weight <= 1.0)
}

/// Whether this is a whole text that we wrote for this request.
fn is_text_of_ours(response: &Response) -> bool {
    let has = |wanted: &str| response.headers.iter().any(|(name, _)| *name == wanted);
    let kind = response.headers.iter().find(|(name, _)| *name == "content-type").map_or("", |(_, value)| value);
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let whole = !matches!(response.status, 204 | 206 | 304) && !has("accept-ranges") && !has("content-range");
    whole && !has("etag") && !has("content-encoding") && TEXTS.contains(&kind)
}

/// The same as gzip (RFC 1952), if that is less.
fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    // A third, so that the vector seldom grows; HTML becomes an eighth.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 3), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok().filter(|packed| packed.len() < plain.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;

    const PAGE: &str = "<li class=\"cell passed\"><a href=\"/job/1\">passed</a></li>\n";

    fn asked(method: &str, accepted: &[&str]) -> Asked {
        let headers = accepted.iter().map(|value| ("accept-encoding".to_owned(), (*value).to_owned())).collect();
        Asked::of(&Request { method: method.to_owned(), headers, ..Request::default() })
    }

    fn page(kind: &str) -> Response {
        Response::bytes(200, kind, PAGE.repeat(100))
    }

    fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    fn is_packed(response: &Response) -> bool {
        header(response, "content-encoding") == Some("gzip")
    }

    fn bytes(response: Response) -> Vec<u8> {
        let mut read = Vec::new();
        match response.body {
            Body::Bytes(bytes) => read = bytes,
            Body::Reader { mut reader, .. } => drop(reader.read_to_end(&mut read).unwrap()),
            Body::File { .. } => panic!("a file"),
        }
        read
    }

    fn unpacked(response: Response) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(bytes(response).as_slice()).read_to_end(&mut plain).unwrap();
        plain
    }

    #[test]
    fn who_takes_gzip_gets_it_and_nobody_else() {
        for (accepted, wanted) in [
            (&["gzip, deflate, br, zstd"][..], true),
            (&["GZip"], true),
            (&["x-gzip"], true),
            (&["br", "gzip"], true),
            (&["*"], true),
            (&["br;q=1, gzip;q=0.1"], true),
            (&["*;q=0, gzip"], true),
            (&[], false),
            (&[""], false),
            (&["identity"], false),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["*;q=0"], false),
            (&["gzipped, xgzip"], false),
            (&["gzip;q=NaN"], false),
            (&["gzip;q=-1"], false),
            (&["gzip;q"], false),
            (&[",,;;==,"], false),
        ] {
            let response = encode(&asked("GET", accepted), page("text/html; charset=utf-8"));
            assert_eq!(is_packed(&response), wanted, "{accepted:?}");
            assert_eq!(header(&response, "vary"), Some("accept-encoding"), "{accepted:?}");
            let read = if wanted { unpacked(response) } else { bytes(response) };
            assert_eq!(read, PAGE.repeat(100).as_bytes(), "{accepted:?}");
        }
    }

    #[test]
    fn what_is_tagged_partial_small_large_or_no_text_stays_as_it_is() {
        let plain = |what: &str, response: Response| {
            let before = response.body.length();
            let response = encode(&asked("GET", &["gzip"]), response);
            assert!(!is_packed(&response), "{what}");
            assert_eq!(response.body.length(), before, "{what}");
        };
        plain("tagged", page("text/html").with("etag", "\"sha256:1\""));
        plain("ranges", page("text/html").with("accept-ranges", "bytes"));
        plain("packed", page("text/html").with("content-encoding", "br"));
        plain("part", Response { status: 206, ..page("text/html") });
        plain("unchanged", Response { status: 304, ..page("text/html") });
        plain("binary", page("application/octet-stream"));
        plain("unknown", page("text/htmlish"));
        plain("small", Response::text(200, "a".repeat(1000)));
        plain("large", Response::text(200, "a".repeat(MOST_BYTES as usize)));
        let noise: Vec<u8> = (0..100).flat_map(|byte| sai_agent::digest::sha256(&[byte])).collect();
        plain("noise", Response::bytes(200, "text/plain", noise));
        let answer = encode(&asked("POST", &["gzip"]), page("text/html"));
        assert!(!is_packed(&answer) && header(&answer, "vary").is_none());
    }

    #[test]
    fn a_text_that_is_read_is_packed_and_one_that_ends_early_is_cut() {
        let text = |bytes: String, length| Response {
            body: Body::Reader { reader: Box::new(Cursor::new(bytes.into_bytes())), length },
            ..Response::text(200, "")
        };
        let whole = PAGE.repeat(1000);
        let response = encode(&asked("GET", &["gzip"]), text(whole.clone(), whole.len() as u64));
        assert!(is_packed(&response));
        assert!(response.body.length() < whole.len() as u64 / 20);
        assert_eq!(unpacked(response), whole.as_bytes());
        let longer = encode(&asked("GET", &["gzip"]), text(whole.clone() + "more", whole.len() as u64));
        assert_eq!(unpacked(longer), whole.as_bytes());
        let cut = encode(&asked("GET", &["gzip"]), text(whole.clone(), whole.len() as u64 + 1));
        assert!(!is_packed(&cut));
        assert_eq!(cut.body.length(), whole.len() as u64 + 1);
        assert_eq!(bytes(cut), whole.as_bytes());
    }
}
