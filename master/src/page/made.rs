//! A log's records → a file that is made of them while it is sent.
//!
//! It is made twice, once to know its length and once to be sent, from the same bytes of the log. So a maker may not depend on the
//! pieces in which output comes, and keeps no more than it says.

use sai_core::record::{Decoder, Item};
use sai_core::vcd::Dump;
use std::io::{self, Read};

/// Bytes of a log that are read at once: what is made of them is a few times as much, and in memory.
const READ_BYTES: usize = 32 << 10;

/// Makes a file of items.
pub trait Maker: Send {
    /// Takes the next item, and appends what is made of it.
    fn take(&mut self, item: &Item<'_>, out: &mut Vec<u8>);
    /// Nothing follows; `damage` says why no more of the log can be read, where that is so.
    fn finish(&mut self, damage: Option<&str>, out: &mut Vec<u8>);
}

impl Maker for Dump {
    fn take(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        Dump::take(self, item, out);
    }

    fn finish(&mut self, damage: Option<&str>, out: &mut Vec<u8>) {
        Dump::finish(self, damage.is_some(), out);
    }
}

/// The bytes of a file that is made.
pub struct Made<M> {
    log: Box<dyn Read + Send>,
    decoder: Decoder,
    maker: M,
    ready: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<M: Maker> Made<M> {
    /// The file that a maker makes of a log, with `head` before it.
    pub fn new(log: Box<dyn Read + Send>, head: Vec<u8>, maker: M) -> Self {
        Self { log, decoder: Decoder::new(), maker, ready: head, at: 0, ended: false }
    }

    /// How long it is, and the maker as it then is.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn measure(mut self) -> io::Result<(u64, M)> {
        let mut length = self.ready.len() as u64;
        while self.more()? {
            length += self.ready.len() as u64;
        }
        Ok((length, self.maker))
    }

    /// Makes the next piece in place of the one that was taken; false at the end.
    fn more(&mut self) -> io::Result<bool> {
        self.ready.clear();
        self.at = 0;
        if self.ended {
            return Ok(false);
        }
        let mut buffer = vec![0; READ_BYTES];
        let length = loop {
            match self.log.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let (maker, ready) = (&mut self.maker, &mut self.ready);
        let pushed = self.decoder.push(buffer.get(..length).unwrap_or_default(), |item| maker.take(&item, ready));
        if length == 0 || pushed.is_err() {
            self.ended = true;
            self.maker.finish(pushed.err().as_deref(), &mut self.ready);
        }
        Ok(true)
    }
}

impl<M: Maker> Read for Made<M> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.ready.len() {
            if !self.more()? {
                return Ok(0);
            }
        }
        let ready = self.ready.get(self.at..).unwrap_or_default();
        let length = ready.len().min(out.len());
        if let (Some(to), Some(from)) = (out.get_mut(..length), ready.get(..length)) {
            to.copy_from_slice(from);
        }
        self.at += length;
        Ok(length)
    }
}

/// Names of the channels of a log, in the order of their announcement.
///
/// # Errors
/// It cannot be read.
pub fn channels(log: Box<dyn Read + Send>) -> io::Result<Vec<(u8, String)>> {
    struct Names(Vec<(u8, String)>);
    impl Maker for Names {
        fn take(&mut self, item: &Item<'_>, _out: &mut Vec<u8>) {
            if let Item::Record(_, sai_core::record::Record::Channel(channel, start)) = item
                && !self.0.iter().any(|(known, _)| known == channel)
            {
                self.0.push((*channel, start.name.clone()));
            }
        }
        fn finish(&mut self, _damage: Option<&str>, _out: &mut Vec<u8>) {}
    }
    Ok(Made::new(log, Vec::new(), Names(Vec::new())).measure()?.1.0)
}
