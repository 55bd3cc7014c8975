//! RequestHead and body → response on the wire: one exchange with the backend behind the unix socket, streamed to the
//! client piece by piece.

use super::head::{self, Rejection, RequestHead, ResponseHead};
use super::{Limits, Stream, within, write};
use crate::http::PEER_HEADER;
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

/// Bytes relayed at a time: few enough that a client which never reads holds little, enough to be quick.
const PIECE: usize = 64 * 1024;

/// A backend that has begun to answer.
pub struct Exchange {
    backend: Async<UnixStream>,
    response: ResponseHead,
    /// What came with the head: the beginning of the body.
    begun: Vec<u8>,
}

/// Sends a request to the backend and waits for the head of its response.
///
/// # Errors
/// The answer to give instead; the client's connection is still in order.
pub async fn ask(
    socket: &Path,
    limits: &Limits,
    head: &RequestHead,
    body: &[u8],
    deadline: Instant,
) -> Result<Exchange, Rejection> {
    let work = async {
        let mut backend = Async::<UnixStream>::connect(socket).await?;
        backend.write_all(head::for_backend(head, body.len(), PEER_HEADER).as_bytes()).await?;
        backend.write_all(body).await?;
        let mut begun = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let read = backend.read(&mut piece).await?;
            begun.extend_from_slice(piece.get(..read).unwrap_or_default());
            match head::parse_response(&begun).map_err(io::Error::other)? {
                Some(response) => {
                    begun.drain(..response.head.min(begun.len()));
                    return io::Result::Ok(Exchange { backend, response, begun });
                }
                None if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                None => {}
            }
        }
    };
    match within(deadline.saturating_duration_since(Instant::now()), work).await {
        Some(Ok(exchange)) => Ok(exchange),
        Some(Err(error)) => Err(Rejection::new(502, format!("the master's pages do not answer: {error}"))),
        None => Err(Rejection::new(
            504,
            format!("the master's pages did not answer within {} s", limits.first_byte.as_secs()),
        )),
    }
}

impl Exchange {
    /// Sends the response to the client.
    ///
    /// # Errors
    /// When either side went away, stalled, or the backend's body is shorter than it said: the connection must then be
    /// closed, which is how the client learns that its download is cut.
    pub async fn relay(
        mut self,
        limits: &Limits,
        stream: &mut Stream,
        is_head: bool,
        keep_alive: bool,
    ) -> io::Result<()> {
        let response = &self.response;
        let mut out = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason);
        for (name, value) in &response.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        // These have no body whatever their headers say (RFC 9110 §6.4.1).
        let bodiless = matches!(response.status, 204 | 304);
        if !bodiless {
            out.push_str(&format!("content-length: {}\r\n", response.length));
        }
        out.push_str(if keep_alive { "connection: keep-alive\r\n\r\n" } else { "connection: close\r\n\r\n" });

        let mut left = if is_head || bodiless { 0 } else { response.length };
        let mut piece = out.into_bytes();
        let begun = usize::try_from(left).unwrap_or(usize::MAX).min(self.begun.len());
        piece.extend_from_slice(self.begun.get(..begun).unwrap_or_default());
        left -= begun as u64;
        // A small response leaves in one TLS record, head and body together.
        write(limits, stream, &piece).await?;
        if left > 0 {
            piece.clear();
            piece.resize(usize::try_from(left).unwrap_or(PIECE).min(PIECE), 0);
        }
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            let space = piece.get_mut(..room).unwrap_or_default();
            let read =
                within(limits.backend_stall, self.backend.read(space)).await.ok_or(io::ErrorKind::TimedOut)??;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            write(limits, stream, space.get(..read).unwrap_or_default()).await?;
            left -= read as u64;
        }
        Ok(())
    }
}
