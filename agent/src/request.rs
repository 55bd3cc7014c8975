//! Head of a request → head of the response on a connection to a master, and what of its body came with it.
//!
//! What agents and people's programs ask by is this much HTTP: one request after the other, and answers that say how long they
//! are. Everything that masters say does.

pub use crate::answer::{Head, answer};
use crate::link::{Connection, within};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Time without a byte until a connection is given up: longer than the master lets a request wait for its turn.
pub const STALL: Duration = Duration::from_secs(60);

/// Sends a request and reads the head of the response, with what of the body came with it.
///
/// # Errors
/// The connection's, or the answer is none.
pub async fn ask(connection: &mut Connection, request: &str) -> io::Result<(Head, Vec<u8>)> {
    let late = || Err(ErrorKind::TimedOut.into());
    let exchange = async {
        connection.write_all(request.as_bytes()).await?;
        connection.flush().await?;
        answer(connection).await
    };
    within(STALL, exchange).await.unwrap_or_else(late)
}

/// The body of a response as far as it comes, and so many bytes of it at most. The connection is of no more use where there are
/// more.
pub async fn body(connection: &mut Connection, head: &Head, mut bytes: Vec<u8>, most: usize) -> Vec<u8> {
    let length = head.length.unwrap_or(0).min(most as u64);
    let rest = length.saturating_sub(bytes.len() as u64);
    let _ = within(STALL, connection.take(rest).read_to_end(&mut bytes)).await;
    bytes.truncate(most);
    bytes
}
