//! Stream → requests and responses: one client that speaks HTTP, its requests one after the other.

use super::gate::Permit;
use super::head::{self, Framing, HEAD_LIMIT, Rejection, RequestHead, Scanner};
use super::seats::Phase;
use super::{Limits, Shared, Stream, Upgrades, relay, within, write};
use smol::Async;
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::io;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Content type of answers that the front gives itself.
const PLAIN: &str = "content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n";

/// Bytes of body whose memory is not counted: no more than a head may have.
const SMALL_BODY: usize = HEAD_LIMIT;

/// Bytes read at a time from a body that is not small.
const BODY_PIECE: usize = 64 * 1024;

/// How long and how much is read from a client that is being refused, so that it reads the reason before the
/// connection is reset (RFC 9112 §9.6).
const LINGER: (Duration, usize) = (Duration::from_secs(1), 1 << 20);

/// What follows a response.
pub enum After {
    /// The client's next request.
    Next,
    /// The orderly end of the connection.
    Close,
    /// Its end without a word, because the response could not be finished.
    Cut,
}

/// A client that speaks HTTP.
pub struct Client {
    pub stream: Stream,
    /// Bytes that arrived and belong to the next head or body.
    pub buffer: Vec<u8>,
    /// Whom the connection comes from: the client itself, or an HTTP proxy.
    pub peer: IpAddr,
}

impl Client {
    /// Reads some more bytes; `Ok(0)` means that the client will send no more.
    async fn read_more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4096];
        let read = self.stream.read(&mut piece).await?;
        self.buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
        Ok(read)
    }

    /// Waits for the next request; `None` when the client is done, or has been silent until `first_by`.
    pub async fn next_head(
        &mut self,
        limits: &Limits,
        first_by: Instant,
    ) -> Result<Option<(RequestHead, Framing)>, Rejection> {
        let mut scanner = Scanner::default();
        let mut by = first_by;
        let mut begun = false;
        loop {
            if let Some(length) = scanner.scan(&self.buffer)? {
                let parsed = head::parse(self.buffer.get(..length).unwrap_or_default(), self.peer)?;
                self.buffer.drain(..length.min(self.buffer.len()));
                return Ok(Some(parsed));
            }
            if !begun && !self.buffer.is_empty() {
                begun = true;
                // The first head has its time since the accept, and gains none by its first byte.
                by = by.min(Instant::now() + limits.head_time);
            }
            match within(by.saturating_duration_since(Instant::now()), self.read_more()).await {
                Some(Ok(read)) if read > 0 => {}
                None if begun => {
                    return Err(Rejection::new(408, "the head of the request took too long"));
                }
                _ => return Ok(None),
            }
        }
    }

    /// Reads a body whole. What arrived of it is counted, not what was promised.
    async fn body(&mut self, limits: &Limits, permit: &Permit, framing: Framing) -> Result<Vec<u8>, Rejection> {
        let length = usize::try_from(framing.body).map_err(|_| Rejection::new(413, "the body is too large"))?;
        if framing.expects_continue && self.buffer.len() < length {
            let go_on = write(limits, &mut self.stream, b"HTTP/1.1 100 Continue\r\n\r\n").await;
            go_on.map_err(|_| Rejection::new(408, "the client went away"))?;
        }
        let needed = Duration::from_secs(framing.body / limits.write_rate.max(1));
        let by = Instant::now() + limits.body_time.min(limits.head_time + needed);
        let mut piece = Vec::new();
        while self.buffer.len() < length {
            let reading = async {
                if length <= SMALL_BODY {
                    return self.read_more().await;
                }
                piece.resize(BODY_PIECE, 0);
                let read = self.stream.read(&mut piece).await?;
                self.buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
                Ok(read)
            };
            match within(by.saturating_duration_since(Instant::now()), reading).await {
                Some(Ok(read)) if read > 0 => {}
                _ => {
                    return Err(Rejection::new(408, "the body of the request did not arrive in time"));
                }
            }
            if self.buffer.len() > SMALL_BODY && !permit.holds(self.buffer.capacity()) {
                return Err(Rejection::new(503, "too much is being sent to the master; try again"));
            }
        }
        let next = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, next))
    }

    /// Hands a request to the backend and its response to the client.
    pub async fn forward<U: Upgrades>(
        &mut self,
        shared: &Shared<U>,
        permit: &Permit,
        head: &RequestHead,
        framing: Framing,
    ) -> Result<After, Rejection> {
        let limits = &shared.limits;
        let limit = shared.upgrades.body_limit(head, limits.body);
        if framing.body > limit {
            return Err(Rejection::new(413, format!("the body is larger than {limit} bytes")));
        }
        let body = self.body(limits, permit, framing).await?;
        let by = Instant::now() + limits.first_byte;
        let place = within(limits.first_byte, shared.gate.place(head.peer, shared.upgrades.lane(head)));
        let place = place.await.ok_or_else(|| Rejection::new(503, "the master is busy; try again"))?;
        let answer = relay::ask(&shared.backend, limits, head, &body, by).await?;
        // From here on only the client is waited for, by whom nobody else may be held up.
        drop(place);
        drop(body);
        if let Some(place) = &answer.response.failed {
            shared.failed(head.peer, place)?;
        }
        permit.enter(Phase::Download);
        Ok(match answer.relay(limits, &mut self.stream, permit, framing.keep_alive).await {
            Ok(()) if framing.keep_alive => After::Next,
            Ok(()) => After::Close,
            Err(_) => After::Cut,
        })
    }

    /// Says why, and closes: what follows on this connection has no certain meaning.
    pub async fn refuse(mut self, limits: &Limits, rejection: &Rejection) {
        let reason = match rejection.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            408 => "Request Timeout",
            413 => "Content Too Large",
            426 => "Upgrade Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Refused",
        };
        let extra = match rejection.status {
            401 => "www-authenticate: Bearer\r\n",
            426 => "upgrade: websocket\r\nsec-websocket-version: 13\r\n",
            429 | 503 => "retry-after: 60\r\n",
            _ => "",
        };
        let answer = format!(
            "HTTP/1.1 {} {reason}\r\n{PLAIN}{extra}content-length: {}\r\nconnection: close\r\n\r\n{}\n",
            rejection.status,
            rejection.text.len() + 1,
            rejection.text
        );
        if write(limits, &mut self.stream, answer.as_bytes()).await.is_ok() {
            self.close().await;
        }
    }

    /// Closes so that the client can tell the end from a cut (RFC 8446 §6.1).
    pub async fn close(mut self) {
        let _ = within(LINGER.0, self.stream.close()).await;
        linger(self.stream.get_ref().0).await;
    }
}

/// Tells a client without TLS what it did wrong, in words that a browser shows.
pub async fn plain(mut tcp: Async<TcpStream>) {
    let text = "this is an https port: the address must begin with https://\n";
    let answer =
        format!("HTTP/1.1 400 Bad Request\r\n{PLAIN}content-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
    let _ = within(LINGER.0, tcp.write_all(answer.as_bytes())).await;
    linger(&tcp).await;
}

/// Ends our side and reads on for a moment, since unread bytes would turn the close into a reset that destroys the
/// answer on its way.
async fn linger(tcp: &Async<TcpStream>) {
    let _ = tcp.get_ref().shutdown(Shutdown::Write);
    let mut reader = tcp;
    let _ = within(LINGER.0, async {
        let mut scrap = vec![0; 16 * 1024];
        let mut read = 0;
        while read < LINGER.1 {
            match reader.read(&mut scrap).await {
                Ok(count) if count > 0 => read += count,
                _ => break,
            }
        }
    })
    .await;
}
