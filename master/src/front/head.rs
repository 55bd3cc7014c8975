//! Bytes → RequestHead and Framing: HTTP/1 (RFC 9112) read so strictly that nothing about where a request ends is
//! ever open to a second opinion.

use crate::http::{CLAIM_HEADER, CLAIMED_HEADER, FAILED_HEADER, PEER_HEADER};
use std::net::IpAddr;

/// Longest head of a request or of a backend's response, in bytes: browsers send about 1 KiB, with cookies 4 KiB.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// Longest request target, in bytes: a hook's, that names a reference of 4 KiB of which each byte is encoded.
const TARGET_LIMIT: usize = 13 * 1024;

/// Most header lines: a browser sends about 20.
const HEADER_LIMIT: usize = 48;

/// What a client asks, as far as its head tells.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
    pub method: String,
    /// From the first slash to the question mark, still percent-encoded; printable ASCII.
    pub path: String,
    /// After the question mark, still percent-encoded; empty when there is none.
    pub query: String,
    /// Names in lower case, values without surrounding blanks, in the order sent. Headers whose values are not
    /// printable ASCII are left out.
    pub headers: Vec<(String, String)>,
    /// Address of the client, an IPv4 one never in IPv6 clothes.
    pub peer: IpAddr,
}

impl RequestHead {
    /// The first header of this name, to be given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated header holds this token, in any case.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .flat_map(|(_, value)| value.split(','))
            .any(|candidate| candidate.trim().eq_ignore_ascii_case(token))
    }

    /// Path and query as they were sent.
    #[must_use]
    pub fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// Where a request ends and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// Bytes of body.
    pub body: u64,
    /// Whether the client wants to hear 100 Continue before it sends the body.
    pub expects_continue: bool,
    /// Whether another request may follow on this connection.
    pub keep_alive: bool,
}

/// An answer that refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Status, 400 to 599.
    pub status: u16,
    /// One line for a human.
    pub text: String,
}

impl Rejection {
    /// A refusal in plain words.
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

/// Looks for the end of a head in bytes that arrive piece by piece, at each byte once.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Bytes looked at.
    at: usize,
    /// Bytes of the current line so far.
    line: usize,
    /// Whether a line with something on it was seen; empty lines before a request are allowed (RFC 9112 §2.2).
    begun: bool,
}

impl Scanner {
    /// The length of the head in `buffer` with its empty line, once it is there. Each call must be given the bytes of
    /// the call before and what arrived since.
    ///
    /// # Errors
    /// A line that ends without carriage return, or a head beyond [`HEAD_LIMIT`].
    pub fn scan(&mut self, buffer: &[u8]) -> Result<Option<usize>, Rejection> {
        while let Some(&byte) = buffer.get(self.at) {
            self.at += 1;
            if self.at > HEAD_LIMIT {
                return Err(Rejection::new(431, "the head of the request is longer than 16 KiB"));
            }
            if byte != b'\n' {
                self.line += 1;
                continue;
            }
            let before = self.at.checked_sub(2).and_then(|before| buffer.get(before));
            if before != Some(&b'\r') {
                return Err(Rejection::new(400, "a line of the request ends without carriage return"));
            }
            let empty = self.line == 1;
            self.line = 0;
            if empty && self.begun {
                return Ok(Some(self.at));
            }
            self.begun |= !empty;
        }
        Ok(None)
    }
}

/// Reads one head, which [`Scanner`] found to be whole.
///
/// # Errors
/// The answer to give before the connection is closed, for its next byte has no certain meaning any more.
pub fn parse(bytes: &[u8], peer: IpAddr) -> Result<(RequestHead, Framing), Rejection> {
    let bad = |text: &str| Rejection::new(400, text);
    let mut lines = [httparse::EMPTY_HEADER; HEADER_LIMIT];
    let mut request = httparse::Request::new(&mut lines);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(bad("the head of the request is cut")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Rejection::new(431, "the request has more than 48 headers"));
        }
        Err(error) => return Err(bad(&format!("not a request of HTTP/1: {error}"))),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad("not a request of HTTP/1"));
    };
    if !["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].contains(&method) {
        return Err(Rejection::new(501, "this method is not known here"));
    }
    if target.len() > TARGET_LIMIT {
        return Err(Rejection::new(414, "the address is longer than 13 KiB"));
    }
    let absolute = absolute_form(target);
    let (authority, target) = absolute.map_or((None, target), |(authority, target)| (Some(authority), target));
    let origin = target.starts_with('/') || (authority.is_some() && (target.is_empty() || target.starts_with('?')));
    if !origin || !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(bad("the address must begin with a slash or be a whole https:// one, and be percent-encoded"));
    }
    if authority.is_some_and(|authority| authority.is_empty() || !is_authority(authority)) {
        return Err(bad("a host and perhaps a port are expected in the address"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = if path.is_empty() { "/" } else { path };
    let mut head = RequestHead {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Vec::with_capacity(request.headers.len()),
        peer,
    };
    let mut length = None;
    let mut hosts = 0;
    let mut expects_continue = false;
    for line in request.headers.iter() {
        let name = line.name.to_ascii_lowercase();
        let value = std::str::from_utf8(line.value)
            .ok()
            .map(str::trim)
            .filter(|value| value.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic()));
        match name.as_str() {
            "transfer-encoding" => {
                return Err(bad("transfer-encoding is not accepted; send content-length"));
            }
            "content-length" => {
                let value = value.unwrap_or_default();
                if length.is_some() {
                    return Err(bad("content-length was given twice"));
                }
                if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(bad("content-length is not a number"));
                }
                // A number beyond 64 bits is beyond every limit as well.
                length = Some(value.parse().unwrap_or(u64::MAX));
            }
            "host" => {
                hosts += 1;
                if hosts > 1 || !value.is_some_and(is_authority) {
                    return Err(bad("one host header is expected, with a host and perhaps a port"));
                }
                // What the address says counts, and the header does not (RFC 9112 §3.2.2).
                if let Some(authority) = authority {
                    head.headers.push((name, authority.to_owned()));
                    continue;
                }
            }
            "expect" => {
                if !value.unwrap_or_default().eq_ignore_ascii_case("100-continue") {
                    return Err(Rejection::new(417, "only 100-continue can be expected"));
                }
                expects_continue = version == 1;
            }
            _ => {}
        }
        if let Some(value) = value {
            head.headers.push((name, value.to_owned()));
        }
    }
    if version == 1 && hosts == 0 {
        return Err(bad("the host header is missing"));
    }
    let framing = Framing {
        body: length.unwrap_or(0),
        expects_continue,
        // A client of HTTP/1.0 may ask for more, but none of those that exist gains by it.
        keep_alive: version == 1 && !head.has_token("connection", "close"),
    };
    Ok((head, framing))
}

/// Splits a target in absolute form (RFC 9112 §3.2.2), which clients that take us for a proxy send, into what stands for
/// the host and what a target usually is.
fn absolute_form(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    Some(rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())))
}

/// Whether this may be a host and perhaps a port.
fn is_authority(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte))
}

/// The head of a backend's response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Status, 200 to 599.
    pub status: u16,
    /// Reason phrase; clients ignore it.
    pub reason: String,
    /// Names in lower case and values, in the order sent, without framing and hop-by-hop headers.
    pub headers: Vec<(String, String)>,
    /// Content-Length.
    pub length: u64,
    /// Bytes of the body where it does not follow, but waits for whoever has the claim.
    pub claimed: Option<u64>,
    /// Where a wrong token was given, if so.
    pub failed: Option<String>,
    /// Bytes of the head itself.
    pub head: usize,
}

/// Reads the head of a response out of the bytes so far; `None` means that more are needed.
///
/// # Errors
/// What is wrong with the backend, which is ours: a bug.
pub fn parse_response(bytes: &[u8]) -> Result<Option<ResponseHead>, &'static str> {
    let mut lines = [httparse::EMPTY_HEADER; 2 * HEADER_LIMIT];
    let mut response = httparse::Response::new(&mut lines);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_LIMIT => return Ok(None),
        _ => return Err("its response has no readable head"),
    };
    let status =
        response.code.filter(|status| (200..600).contains(status)).ok_or("its response has no final status")?;
    let (mut length, mut claimed, mut failed) = (None, None, None);
    let mut headers = Vec::with_capacity(response.headers.len());
    for line in response.headers.iter() {
        let name = line.name.to_ascii_lowercase();
        let value = String::from_utf8_lossy(line.value).into_owned();
        match name.as_str() {
            "content-length" => length = value.parse().ok(),
            "transfer-encoding" => return Err("its response has no length"),
            CLAIMED_HEADER => claimed = Some(value.parse().map_err(|_| "its response has a claim without length")?),
            FAILED_HEADER => failed = Some(value),
            "connection" | "keep-alive" | "upgrade" | "trailer" | "server" => {}
            _ => headers.push((name, value)),
        }
    }
    Ok(Some(ResponseHead {
        status,
        reason: response.reason.unwrap_or_default().to_owned(),
        headers,
        length: length.ok_or("its response has no length")?,
        claimed,
        failed,
        head,
    }))
}

/// The head to send to the backend: the client's headers without framing, hop-by-hop and forged ones, and ours.
#[must_use]
pub fn for_backend(head: &RequestHead, body: usize, claim: u64) -> String {
    let mut out = format!("{} {} HTTP/1.1\r\n", head.method, head.target());
    for (name, value) in &head.headers {
        let ours = matches!(
            name.as_str(),
            PEER_HEADER
                | CLAIM_HEADER
                | "connection"
                | "content-length"
                | "expect"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "trailer"
                | "upgrade"
        );
        // Headers that Connection names are meant for this hop alone (RFC 9110 §7.6.1).
        if !ours && (name == "host" || !head.has_token("connection", name)) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    out.push_str(&format!(
        "{PEER_HEADER}: {}\r\n{CLAIM_HEADER}: {claim}\r\nconnection: close\r\ncontent-length: {body}\r\n\r\n",
        head.peer
    ));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn read(text: &str) -> Result<(RequestHead, Framing), Rejection> {
        let length = Scanner::default().scan(text.as_bytes())?.expect("a whole head");
        parse(&text.as_bytes()[..length], PEER)
    }

    #[test]
    fn an_ordinary_request_is_understood() {
        let (head, framing) =
            read("\r\nPOST /a%20b?x=1&y HTTP/1.1\r\nHost: ci:8443\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello")
                .unwrap();
        assert_eq!((head.method.as_str(), head.path.as_str(), head.query.as_str()), ("POST", "/a%20b", "x=1&y"));
        assert_eq!(head.header("x-a"), Some("b"));
        assert_eq!(framing, Framing { body: 5, expects_continue: false, keep_alive: true });
    }

    #[test]
    fn versions_and_connection_decide_about_a_next_request() {
        assert!(!read("GET / HTTP/1.0\r\n\r\n").unwrap().1.keep_alive);
        assert!(!read("GET / HTTP/1.1\r\nhost: a\r\nconnection: Foo, Close\r\n\r\n").unwrap().1.keep_alive);
        assert!(read("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap().1.keep_alive);
    }

    #[test]
    fn framing_that_could_be_read_in_two_ways_is_refused() {
        for (lines, status) in [
            ("host: a\r\ncontent-length: 5\r\ncontent-length: 5", 400),
            ("host: a\r\ncontent-length: 5, 5", 400),
            ("host: a\r\ncontent-length: +5", 400),
            ("host: a\r\ncontent-length: -1", 400),
            ("host: a\r\ncontent-length: 0x5", 400),
            ("host: a\r\ncontent-length:", 400),
            ("host: a\r\ntransfer-encoding: chunked", 400),
            ("host: a\r\ntransfer-encoding: xchunked\r\ncontent-length: 5", 400),
            ("host: a\r\nTransfer-Encoding:\tidentity", 400),
            ("host: a\r\nx: y\r\n folded: z", 400),
            ("host: a\r\nname : value", 400),
            ("host: a\r\nx: a\0b", 400),
            ("host: a\r\nhost: b", 400),
            ("host: a b", 400),
            ("host: a/b", 400),
            ("x: y", 400),
            ("host: a\r\nexpect: wonders", 417),
            ("host: a\nx: y", 400),
            ("host: a\r\nx: y\rz: w", 400),
        ] {
            let text = format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n");
            assert_eq!(read(&text).map(|_| ()).unwrap_err().status, status, "{lines:?}");
        }
    }

    #[test]
    fn odd_request_lines_are_refused() {
        for (line, status) in [
            ("GET * HTTP/1.1", 400),
            ("GET /a\0b HTTP/1.1", 400),
            ("GET /a#b HTTP/1.1", 400),
            ("GET /\u{e9} HTTP/1.1", 400),
            ("GET / HTTP/2.0", 400),
            ("GET /", 400),
            ("GET  / HTTP/1.1", 400),
            ("CONNECT a:443 HTTP/1.1", 501),
            ("TRACE / HTTP/1.1", 501),
            ("get / HTTP/1.1", 501),
        ] {
            assert_eq!(read(&format!("{line}\r\nhost: a\r\n\r\n")).map(|_| ()).unwrap_err().status, status, "{line:?}");
        }
        let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(TARGET_LIMIT));
        assert_eq!(read(&long).map(|_| ()).unwrap_err().status, 414);
    }

    #[test]
    fn a_whole_address_is_read_as_its_parts() {
        for (target, path, query, host) in [
            ("https://ci.example:4433/a?b", "/a", "b", "ci.example:4433"),
            ("HTTP://CI.example", "/", "", "CI.example"),
            ("https://[::1]:4433?x=https://y/z", "/", "x=https://y/z", "[::1]:4433"),
            ("/a?to=https://b/c", "/a", "to=https://b/c", "other"),
        ] {
            let (head, _) = read(&format!("GET {target} HTTP/1.1\r\nhost: other\r\n\r\n")).unwrap();
            assert_eq!((head.path.as_str(), head.query.as_str(), head.header("host")), (path, query, Some(host)));
        }
        for target in ["https:///a", "https://u:p@a/", "ftp://a/", "https://a\\b/", "https://a#b", "a/b", "*", "://a/"]
        {
            let refused = read(&format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")).map(|_| ()).unwrap_err();
            assert_eq!(refused.status, 400, "{target}");
        }
        // The header must be there all the same.
        assert_eq!(read("GET https://a/ HTTP/1.1\r\n\r\n").map(|_| ()).unwrap_err().status, 400);
    }

    #[test]
    fn heads_are_bounded_in_bytes_and_lines() {
        let mut scanner = Scanner::default();
        let endless = vec![b'a'; HEAD_LIMIT + 1];
        assert_eq!(scanner.scan(&endless).unwrap_err().status, 431);
        let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(HEADER_LIMIT));
        assert_eq!(read(&many).map(|_| ()).unwrap_err().status, 431);
        assert!(Scanner::default().scan(&b"\r\n".repeat(HEAD_LIMIT)).is_err());
    }

    #[test]
    fn the_end_is_found_wherever_the_bytes_are_cut() {
        let text = b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /next";
        let end = text.len() - b"GET /next".len();
        for cut in 0..text.len() {
            let mut scanner = Scanner::default();
            let found = scanner.scan(&text[..cut]).unwrap().or_else(|| scanner.scan(text).unwrap());
            assert_eq!(found, Some(end), "{cut}");
        }
    }

    #[test]
    fn the_backend_sees_our_framing_and_our_address_alone() {
        let (head, _) = read(
            "GET /a?b HTTP/1.1\r\nhost: h\r\nSai-Peer: 6.6.6.6\r\nSai-Claim: 4\r\nconnection: keep-alive, x-hop, host\r\nx-hop: 1\r\nte: trailers\r\n\
             content-length: 0\r\nexpect: 100-continue\r\nupgrade: h2c\r\ncookie: caf\u{e9}\r\nx-kept: 1\r\n\r\n",
        )
        .unwrap();
        assert_eq!(
            for_backend(&head, 7, 5),
            "GET /a?b HTTP/1.1\r\nhost: h\r\nx-kept: 1\r\nsai-peer: 127.0.0.1\r\nsai-claim: 5\r\nconnection: close\r\ncontent-length: 7\r\n\r\n"
        );
    }

    #[test]
    fn a_response_is_read_once_it_is_whole() {
        let text = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nX-A: b\r\n\r\nabc";
        for cut in 0..text.len() - 3 {
            assert!(parse_response(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let head = parse_response(text).unwrap().unwrap();
        assert_eq!((head.status, head.length, head.head), (200, 3, text.len() - 3));
        assert_eq!(head.headers, [("x-a".to_owned(), "b".to_owned())]);
        assert!(parse_response(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse_response(b"HTTP/1.1 100 Continue\r\n\r\n").is_err());
    }
}
