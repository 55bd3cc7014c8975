//! Connected agent ↔ lines of the control socket, on the supervisor's side: nothing here waits.

use crate::supervised::LINE_BYTES;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// One end of a connected agent.
pub(super) struct Agent {
    pub(super) socket: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    told: Vec<u64>,
    pub(super) gone: bool,
}

impl Agent {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, incoming: Vec::new(), outgoing: Vec::new(), told: Vec::new(), gone: false }
    }

    /// Whether something is left to say.
    pub(super) fn is_behind(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Says how long the streams are, unless it still has to take what was said before.
    pub(super) fn tell(&mut self, lengths: &[u64]) {
        loop {
            if self.outgoing.is_empty() {
                for (stream, length) in lengths.iter().enumerate() {
                    if self.told.get(stream) != Some(length) {
                        self.outgoing.extend_from_slice(format!("L {stream} {length}\n").as_bytes());
                    }
                }
                self.told = lengths.to_vec();
            }
            if self.outgoing.is_empty() {
                return;
            }
            match self.socket.write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.gone = error.kind() != io::ErrorKind::WouldBlock;
                    return;
                }
            }
        }
    }

    /// Has it told a line, whole.
    pub(super) fn say(&mut self, line: &str) {
        self.outgoing.extend_from_slice(line.as_bytes());
    }

    /// What it has said, line by line.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        let mut buffer = [0; LINE_BYTES];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(read) if read > 0 && self.incoming.len() < 2 * LINE_BYTES => {
                    self.incoming.extend_from_slice(&buffer[..read]);
                    if self.incoming.len() >= LINE_BYTES {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                _ => {
                    self.gone = true;
                    break;
                }
            }
        }
        let Some(end) = self.incoming.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let lines: Vec<u8> = self.incoming.drain(..=end).collect();
        String::from_utf8_lossy(&lines).lines().map(str::to_string).collect()
    }
}
