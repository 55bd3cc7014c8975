//! RequestHead → WebSocketStream: the server's half of RFC 6455's opening handshake.

use super::head::{Rejection, RequestHead};
use super::{Stream, Upgrades};
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::handshake::derive_accept_key;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
pub use async_tungstenite::tungstenite::{Error as SocketError, Message};

/// What agents and pages talk through. Messages and frames have at most 1 MiB; give each socket one writer with a
/// bounded queue and a deadline, and keep a reader running, for that is what answers pings.
pub type Socket = WebSocketStream<Stream>;

/// The writing half of a [`Socket`].
pub type SocketWriter = async_tungstenite::WebSocketSender<Stream>;

/// Largest message and frame that is accepted, in bytes: the protocol's largest frame.
const MESSAGE_LIMIT: usize = 1 << 20;

/// Bytes of read and of write buffer: with the default of 128 KiB each, a thousand idle agents cost 150 MB.
const BUFFER: usize = 4096;

/// Bytes that may wait to be written: one message and what control frames come on top.
const WRITE_LIMIT: usize = BUFFER + MESSAGE_LIMIT + 64 * 1024;

/// Longest token, in bytes; ours have 64.
const TOKEN_LIMIT: usize = 512;

/// Which upgrade a path offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `/agent`: machines with a token.
    Agent,
    /// `/live`: pages in browsers.
    Live,
}

impl Door {
    /// The door at a path.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/agent" => Some(Self::Agent),
            "/live" => Some(Self::Live),
            _ => None,
        }
    }
}

/// Checks that a head asks for a WebSocket, and makes the answer that opens it.
pub fn accept(head: &RequestHead, body: u64) -> Result<String, Rejection> {
    let asks =
        head.method == "GET" && head.has_token("connection", "upgrade") && head.has_token("upgrade", "websocket");
    if !asks {
        return Err(Rejection::new(426, "this address speaks WebSocket (RFC 6455) alone"));
    }
    if body > 0 {
        return Err(Rejection::new(400, "an upgrade has no body"));
    }
    if head.header("sec-websocket-version") != Some("13") {
        return Err(Rejection::new(426, "WebSocket version 13 is expected"));
    }
    // The key is 16 bytes in base64 (RFC 6455 §4.1).
    let key = head.header("sec-websocket-key").filter(|key| key.len() == 24 && key.ends_with("=="));
    let key = key.ok_or_else(|| Rejection::new(400, "sec-websocket-key is missing or malformed"))?;
    Ok(format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    ))
}

/// The token of `authorization: Bearer TOKEN` (RFC 6750 §2.1).
pub fn bearer(head: &RequestHead) -> Option<&str> {
    let (scheme, token) = head.header("authorization")?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= TOKEN_LIMIT).then_some(token)
}

/// Whether a browser sent this from one of our own pages. Browsers name the page's origin with every WebSocket, and
/// send our cookies along whatever it is, so a foreign one must be refused (RFC 6455 §10.2). Programs send none.
pub fn is_same_origin(head: &RequestHead) -> bool {
    let mut origins = head.headers.iter().filter(|(name, _)| name == "origin");
    let Some((_, origin)) = origins.next() else {
        return true;
    };
    let authority = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.strip_suffix(":443").map(str::to_owned).unwrap_or(lower)
    };
    let host = head.header("host").map(authority);
    origins.next().is_none()
        && host.is_some()
        && origin.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
        && origin.get(8..).map(authority) == host
}

/// Turns a connection into a WebSocket; `unread` is what the client sent behind its head.
pub async fn websocket(stream: Stream, unread: Vec<u8>) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_write_buffer_size(WRITE_LIMIT)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_partially_read(stream, unread, Role::Server, Some(config)).await
}

/// Who was let in at which door.
pub enum Admitted<U: Upgrades> {
    /// An agent.
    Agent(U::Agent),
    /// A page.
    Viewer(U::Viewer),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> RequestHead {
        RequestHead {
            method: "GET".to_owned(),
            path: "/live".to_owned(),
            query: String::new(),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        }
    }

    #[test]
    fn only_our_own_pages_and_programs_may_listen() {
        for (host, origin, same) in [
            ("ci.example", "https://ci.example", true),
            ("CI.example:8443", "https://ci.EXAMPLE:8443", true),
            ("ci.example", "https://ci.example:443", true),
            ("ci.example:443", "https://ci.example", true),
            ("[::1]:8443", "https://[::1]:8443", true),
            ("ci.example", "http://ci.example", false),
            ("ci.example", "https://ci.example.evil", false),
            ("ci.example", "https://evil", false),
            ("ci.example:8443", "https://ci.example:9443", false),
            ("ci.example", "null", false),
            ("ci.example", "", false),
            ("ci.example", "https://", false),
        ] {
            assert_eq!(is_same_origin(&head(&[("host", host), ("origin", origin)])), same, "{host} {origin}");
        }
        assert!(is_same_origin(&head(&[("host", "ci.example")])));
        assert!(!is_same_origin(&head(&[("origin", "https://a")])));
        assert!(!is_same_origin(&head(&[("host", "a"), ("origin", "https://a"), ("origin", "https://b")])));
    }

    #[test]
    fn tokens_are_taken_from_bearer_alone() {
        for (value, token) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("Bearer ", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(bearer(&head(&[("authorization", value)])), token, "{value:?}");
        }
        let long = format!("Bearer {}", "a".repeat(TOKEN_LIMIT + 1));
        assert_eq!(bearer(&head(&[("authorization", &long)])), None);
    }

    #[test]
    fn the_handshake_is_that_of_rfc_6455() {
        let good = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let answer = accept(&head(&good), 0).unwrap();
        assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert_eq!(accept(&head(&good), 1).unwrap_err().status, 400);
        for without in 0..good.len() {
            let mut less = good.to_vec();
            less.remove(without);
            let status = accept(&head(&less), 0).unwrap_err().status;
            assert_eq!(status, if without == 3 { 400 } else { 426 });
        }
    }
}
