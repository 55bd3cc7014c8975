//! Bytes of a connection → the head of a response, and what of its body came with it.

use httparse::{EMPTY_HEADER, Status};
use smol::io::{AsyncRead, AsyncReadExt as _};
use std::io::{self, ErrorKind};

/// Bytes of a response's head, and headers in it, at most: what proxies add to ours is little.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 64;

/// What a response says before its body.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Bytes of the body, where they are as they were stored.
    pub length: Option<u64>,
    /// The first byte of a part.
    pub from: Option<u64>,
    /// Bytes of the whole, of which that is a part, or of which there are no more.
    pub whole: Option<u64>,
    /// `sai-state`: how a job stands whose log this is.
    pub state: Option<String>,
    /// `sec-websocket-accept`: what a link is taken by, where all else says that it is taken, and nothing that was not asked for
    /// (RFC 6455, 4.1).
    pub accept: Option<String>,
    /// Whether the connection may be used again.
    pub stays: bool,
}

/// Reads the head of the response to what was sent, with what of the body came with it.
///
/// # Errors
/// The connection's; its end is [`ErrorKind::UnexpectedEof`], and what is no answer [`ErrorKind::InvalidData`].
pub async fn answer(connection: &mut (impl AsyncRead + Unpin)) -> io::Result<(Head, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = connection.read(&mut piece).await?;
        if count == 0 || bytes.len() > HEAD_BYTES {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(piece.get(..count).unwrap_or_default());
        if let Some((head, length)) = head(&bytes).map_err(|()| io::Error::from(ErrorKind::InvalidData))? {
            bytes.drain(..length);
            return Ok((head, bytes));
        }
    }
}

/// Reads the head of a response, if it is whole, and how long it is.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, ()> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let Status::Complete(length) = response.parse(bytes).map_err(drop)? else { return Ok(None) };
    let mut head = Head {
        status: response.code.unwrap_or(0),
        length: None,
        from: None,
        whole: None,
        state: None,
        accept: None,
        stays: response.version == Some(1),
    };
    let (mut upgrade, mut switches, mut unasked) = (false, false, false);
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        let named = |name: &str| header.name.eq_ignore_ascii_case(name);
        if named("content-length") {
            head.length = value.parse().ok();
        } else if named("content-range") {
            let range = value.strip_prefix("bytes ").and_then(|range| range.split_once('/'));
            head.from = range.and_then(|(part, _)| part.split('-').next()?.parse().ok());
            head.whole = range.and_then(|(_, whole)| whole.parse().ok());
        } else if named("sai-state") {
            head.state = Some(value.to_owned());
        } else if named("sec-websocket-accept") {
            head.accept = Some(value.to_owned());
        } else if named("upgrade") {
            upgrade = value.eq_ignore_ascii_case("websocket");
        } else if named("connection") {
            let mut words = value.split(',').map(str::trim);
            switches |= words.clone().any(|word| word.eq_ignore_ascii_case("upgrade"));
            head.stays &= !words.any(|word| word.eq_ignore_ascii_case("close"));
        } else if named("sec-websocket-extensions") || named("sec-websocket-protocol") {
            unasked = true;
        } else if named("transfer-encoding") || named("content-encoding") {
            // Such a body has another length than its file.
            head.length = None;
        }
    }
    head.accept = head.accept.filter(|_| upgrade && switches && !unasked);
    Ok(Some((head, length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_whatever_stands_in_between_makes_of_them() {
        let read = |text: &str| head(text.replace('\n', "\r\n").as_bytes()).ok().flatten();
        let (whole, length) = read("HTTP/1.1 200 OK\nContent-Length: 7\n\nabc").expect("a head");
        assert_eq!((whole.status, whole.length, whole.from, whole.stays), (200, Some(7), None, true));
        assert_eq!(length, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".len());
        let (part, _) = read("HTTP/1.1 206 x\ncontent-range: bytes 5-9/10\ncontent-length: 5\nConnection: close\n\n")
            .expect("a head");
        assert_eq!(
            (part.status, part.length, part.from, part.whole, part.stays),
            (206, Some(5), Some(5), Some(10), false)
        );
        let (none, _) = read("HTTP/1.1 416 x\ncontent-range: bytes */10\nsai-state: running\n\n").expect("a head");
        assert_eq!((none.from, none.whole, none.state.as_deref()), (None, Some(10), Some("running")));
        for changed in ["transfer-encoding: chunked", "content-encoding: gzip"] {
            let (head, _) = read(&format!("HTTP/1.1 200 OK\ncontent-length: 7\n{changed}\n\n")).expect("a head");
            assert_eq!(head.length, None, "{changed}");
        }
        let link = "HTTP/1.1 101 x\nUpgrade: WebSocket\nConnection: keep-alive, Upgrade\nsec-websocket-accept: a\n";
        let accept = |text: &str| read(&format!("{text}\n")).expect("a head").0.accept;
        assert_eq!(accept(link).as_deref(), Some("a"));
        for wrong in [
            link.replace("WebSocket", "h2c"),
            link.replace("Upgrade: WebSocket\n", ""),
            link.replace(", Upgrade", ""),
            format!("{link}sec-websocket-extensions: permessage-deflate\n"),
            format!("{link}sec-websocket-protocol: chat\n"),
        ] {
            assert_eq!(accept(&wrong), None, "{wrong}");
        }
        assert!(!read("HTTP/1.0 200 OK\n\n").expect("a head").0.stays);
        assert!(read("HTTP/1.1 200 OK\ncontent-len").is_none());
        for wrong in ["", "no HTTP at all\n\n", "HTTP/1.1 -1 x\n\n", "\u{1}\n\n"] {
            assert!(read(wrong).is_none(), "{wrong:?}");
        }
    }
}
