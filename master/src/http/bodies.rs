//! A response's body, from the worker that made it to the front that sends it: what is only being sent keeps no worker.
//!
//! A client takes a body as slowly as it likes. Were it written through the server's own connection, a worker would wait
//! for that client; so what is long stays in this process's memory or file, and the front fetches it here by number.

use super::Body;
use sai_core::ordered::Map;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that a body made while it is sent may keep in memory for itself: a packed log is unpacked by the MiB.
const READER_BYTES: usize = 1 << 20;

/// Bodies that are expected or wait to be fetched.
#[derive(Default)]
pub struct Bodies {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    expected: Map<u64, Option<Body>>,
}

/// The right to one body. What was given for it and not taken goes with it.
pub struct Claim {
    bodies: Arc<Bodies>,
    number: u64,
}

impl Bodies {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects a body.
    #[must_use]
    pub fn claim(self: &Arc<Self>) -> Claim {
        let mut table = self.table();
        table.next += 1;
        let number = table.next;
        table.expected.insert(number, None);
        Claim { bodies: Arc::clone(self), number }
    }

    /// Leaves a body for whoever expects it; gives it back if nobody does.
    pub(super) fn give(&self, number: u64, body: Body) -> Result<(), Body> {
        match self.table().expected.get_mut(&number) {
            Some(place @ None) => {
                *place = Some(body);
                Ok(())
            }
            _ => Err(body),
        }
    }
}

impl Claim {
    /// Names this claim to the server.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The body, if one was given.
    #[must_use]
    pub fn take(&self) -> Option<Body> {
        self.bodies.table().expected.get_mut(&self.number).and_then(Option::take)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.bodies.table().expected.remove(&self.number);
    }
}

impl Body {
    /// Bytes it has.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } | Self::Reader { length, .. } => *length,
        }
    }

    /// Bytes of memory it takes for as long as it is being sent.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File { .. } => 0,
            Self::Reader { .. } => READER_BYTES,
        }
    }

    /// Fills `piece` with its next bytes; fewer only where the body ends. May block.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < piece.len() && self.length() > 0 {
            let most = usize::try_from(self.length()).unwrap_or(usize::MAX).min(piece.len() - filled);
            let room = piece.get_mut(filled..filled + most).unwrap_or_default();
            let read = match self {
                Self::Bytes(bytes) => {
                    // Whoever sends much of these takes them out instead of reading them.
                    bytes.drain(..most).zip(room).for_each(|(byte, place)| *place = byte);
                    most
                }
                Self::File { file, offset, length } => {
                    let read = retry(|| File::read_at(file, room, *offset))?;
                    *offset += read as u64;
                    *length -= read as u64;
                    read
                }
                Self::Reader { reader, length } => {
                    let read = retry(|| reader.read(room))?;
                    *length -= read as u64;
                    read
                }
            };
            if read == 0 {
                break;
            }
            filled += read;
        }
        Ok(filled)
    }
}

/// Reads again when a signal came in between.
fn retry(mut read: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_goes_to_the_one_who_expects_it_and_nowhere_else() {
        let bodies = Arc::new(Bodies::default());
        let claim = bodies.claim();
        assert!(bodies.give(claim.number() + 1, Body::Bytes(vec![1])).is_err());
        assert!(claim.take().is_none());
        assert!(bodies.give(claim.number(), Body::Bytes(vec![1])).is_ok());
        assert!(bodies.give(claim.number(), Body::Bytes(vec![2])).is_err(), "once");
        assert!(matches!(claim.take(), Some(Body::Bytes(bytes)) if bytes == [1]));
        assert!(claim.take().is_none());
        let number = claim.number();
        drop(claim);
        assert!(bodies.give(number, Body::Bytes(vec![3])).is_err(), "nobody waits any more");
        assert!(bodies.table().expected.is_empty());
    }

    #[test]
    fn bodies_are_read_piece_by_piece_to_their_length_and_no_further() {
        let path = std::env::temp_dir().join(format!("sai-bodies-{}", std::process::id()));
        std::fs::write(&path, "0123456789").expect("a file");
        let file = || File::open(&path).expect("a file");
        for (mut body, whole) in [
            (Body::Bytes(b"0123456789".to_vec()), "0123456789"),
            (Body::File { file: file(), offset: 2, length: 7 }, "2345678"),
            (Body::File { file: file(), offset: 8, length: 70 }, "89"),
            (Body::Reader { reader: Box::new(&b"0123456789"[..]), length: 4 }, "0123"),
            (Body::Reader { reader: Box::new(&b"01"[..]), length: 4 }, "01"),
        ] {
            let mut all = Vec::new();
            let mut piece = [0; 3];
            loop {
                let read = body.read(&mut piece).expect("bytes");
                all.extend_from_slice(&piece[..read]);
                if read < piece.len() {
                    break;
                }
            }
            assert_eq!(String::from_utf8_lossy(&all), whole);
        }
        std::fs::remove_file(&path).expect("the file");
    }
}
