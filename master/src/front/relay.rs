//! RequestHead and body → response on the wire: one exchange with the backend behind the unix socket, then the client,
//! piece by piece. A client that takes its time keeps nobody at the backend.

use super::gate::Permit;
use super::head::{self, Rejection, RequestHead, ResponseHead};
use super::{Limits, Stream, within, write};
use crate::http::{Backend, Body, Claim, INLINE_BYTES};
use sai_agent::blocking::unblock;
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Bytes relayed at a time: few enough that a client which never reads holds little, enough to be quick.
const PIECE: usize = 64 * 1024;

/// The backend's answer; it is done with it.
pub struct Answer {
    /// Its head.
    pub response: ResponseHead,
    body: Body,
}

/// Sends a request to the backend and waits for its response.
///
/// # Errors
/// The answer to give instead; the client's connection is still in order.
pub async fn ask(
    backend: &Backend,
    limits: &Limits,
    head: &RequestHead,
    body: &[u8],
    deadline: Instant,
) -> Result<Answer, Rejection> {
    // What was left for us under this goes with it, whatever happens.
    let claim = backend.bodies.claim();
    let work = exchange(backend, head, body, &claim);
    match within(deadline.saturating_duration_since(Instant::now()), work).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(error)) => Err(Rejection::new(502, format!("the master's pages do not answer: {error}"))),
        None => Err(Rejection::new(
            504,
            format!("the master's pages did not answer within {} s", limits.first_byte.as_secs()),
        )),
    }
}

async fn exchange(backend: &Backend, head: &RequestHead, body: &[u8], claim: &Claim) -> io::Result<Answer> {
    let mut stream = Async::<UnixStream>::connect(&backend.socket).await?;
    stream.write_all(head::for_backend(head, body.len(), claim.number()).as_bytes()).await?;
    stream.write_all(body).await?;
    let mut begun = Vec::new();
    let mut piece = [0; 4096];
    let response = loop {
        let read = stream.read(&mut piece).await?;
        begun.extend_from_slice(piece.get(..read).unwrap_or_default());
        match head::parse_response(&begun).map_err(io::Error::other)? {
            Some(response) => break response,
            None if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    };
    begun.drain(..response.head.min(begun.len()));
    let bodiless = head.method == "HEAD" || matches!(response.status, 204 | 304);
    let body = if response.claimed.is_some() {
        claim.take().ok_or_else(|| io::Error::other("its response has no body"))?
    } else if bodiless {
        Body::Bytes(Vec::new())
    } else {
        let length = usize::try_from(response.length).ok().filter(|length| *length <= INLINE_BYTES);
        let length = length.ok_or_else(|| io::Error::other("its response is longer than it may be here"))?;
        let there = begun.len().min(length);
        begun.resize(length, 0);
        stream.read_exact(begun.get_mut(there..).unwrap_or_default()).await?;
        Body::Bytes(begun)
    };
    Ok(Answer { response, body })
}

impl Answer {
    /// Sends the response to the client.
    ///
    /// # Errors
    /// When the client went away or is too slow, or the body is shorter than it said: the connection must then be
    /// closed, which is how the client learns that its download is cut.
    pub async fn relay(
        self,
        limits: &Limits,
        stream: &mut Stream,
        permit: &Permit,
        keep_alive: bool,
    ) -> io::Result<()> {
        let response = &self.response;
        let mut out = format!("HTTP/1.1 {} {}\r\n", response.status, response.reason);
        for (name, value) in &response.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        // These have no length (RFC 9110 §8.6).
        if !matches!(response.status, 204 | 304) {
            out.push_str(&format!("content-length: {}\r\n", response.claimed.unwrap_or(response.length)));
        }
        out.push_str(if keep_alive { "connection: keep-alive\r\n\r\n" } else { "connection: close\r\n\r\n" });
        let mut client = Reader { limits, stream, permit, begun: Instant::now(), taken: 0 };
        if !permit.holds(self.body.memory().max(PIECE)) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut head = out.into_bytes();
        match self.body {
            Body::Bytes(bytes) => {
                // A small response leaves in one TLS record, head and body together.
                let (first, rest) = bytes.split_at(bytes.len().min(PIECE));
                head.extend_from_slice(first);
                client.take(&head).await?;
                for piece in rest.chunks(PIECE) {
                    client.take(piece).await?;
                }
            }
            mut body => {
                let mut piece = head;
                while body.length() > 0 {
                    let begun = piece.len();
                    (body, piece) = within(limits.backend_stall, unblock(move || filled(body, piece)))
                        .await
                        .ok_or(io::ErrorKind::TimedOut)??;
                    if piece.len() == begun {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    client.take(&piece).await?;
                    piece.clear();
                }
                if !piece.is_empty() {
                    client.take(&piece).await?;
                }
            }
        }
        let _ = permit.holds(0);
        Ok(())
    }
}

/// Adds the next bytes of a body to a piece.
fn filled(mut body: Body, mut piece: Vec<u8>) -> io::Result<(Body, Vec<u8>)> {
    let begun = piece.len();
    let more = usize::try_from(body.length()).unwrap_or(PIECE).min(PIECE);
    piece.resize(begun + more, 0);
    let read = body.read(piece.get_mut(begun..).unwrap_or_default())?;
    piece.truncate(begun + read);
    Ok((body, piece))
}

/// A client that is being sent an answer.
struct Reader<'a> {
    limits: &'a Limits,
    stream: &'a mut Stream,
    permit: &'a Permit,
    begun: Instant,
    /// Bytes it took.
    taken: u64,
}

impl Reader<'_> {
    /// Has it take some bytes, unless it is slower than anybody needs to be.
    async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        write(self.limits, self.stream, bytes).await?;
        self.taken += bytes.len() as u64;
        self.permit.moves();
        let time = self.begun.elapsed();
        if time > self.limits.write_time && self.taken / time.as_secs().max(1) < self.limits.read_rate {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}
