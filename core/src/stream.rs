//! A stream's lengths at its two ends → what to send next, what to append, what to acknowledge.
//!
//! A stream only grows. Its byte offset is its sequence number: the sender resumes at whatever length the receiver
//! names, the receiver appends only what lies beyond its own length, and an ack names flushed bytes.

/// The end that has the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSender {
    length: u64,
    sent: u64,
    acked: u64,
}

impl StreamSender {
    /// A stream of which nothing has been written yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The stream has grown to this length; a smaller one is an old report and changes nothing.
    pub fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// The receiver, on a new link, holds this much. What lies beyond it is sent (again). False when the receiver holds
    /// more than was ever written here: then this copy of the stream cannot go on.
    #[must_use]
    pub fn resume(&mut self, held: u64) -> bool {
        if held > self.length {
            return false;
        }
        self.acked = self.acked.max(held);
        self.sent = held;
        true
    }

    /// The receiver holds this much durably. False when that is more than was ever written here.
    ///
    /// It may be more than was sent on this link: bytes of the link before it may be flushed after the receiver has
    /// said from where to go on. They need not be sent again.
    #[must_use]
    pub fn ack(&mut self, length: u64) -> bool {
        if length > self.length {
            return false;
        }
        self.sent = self.sent.max(length);
        self.acked = self.acked.max(length);
        true
    }

    /// The next piece to send, at most `most` bytes: offset and length. It counts as sent from now on.
    pub fn next(&mut self, most: u64) -> Option<(u64, u64)> {
        let length = (self.length - self.sent).min(most);
        if length == 0 {
            return None;
        }
        let offset = self.sent;
        self.sent += length;
        Some((offset, length))
    }

    /// Bytes sent and not acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.acked)
    }

    /// Bytes written so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked
    }
}

/// What a receiver makes of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Nothing of it is new.
    Old,
    /// Append it without its first `skip` bytes.
    Append {
        /// Bytes at its front that are here already.
        skip: u64,
    },
    /// It begins beyond the end: something is missing, so the link must be resumed.
    Gap,
}

/// The end that keeps the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamReceiver {
    length: u64,
    durable: u64,
}

impl StreamReceiver {
    /// A stream of which this much is on disk.
    pub fn at(length: u64) -> Self {
        Self { length, durable: length }
    }

    /// Decides about a piece and counts what is to be appended.
    pub fn offer(&mut self, offset: u64, length: u64) -> Accept {
        let Some(end) = offset.checked_add(length) else { return Accept::Gap };
        if offset > self.length {
            return Accept::Gap;
        }
        if end <= self.length {
            return Accept::Old;
        }
        let skip = self.length - offset;
        self.length = end;
        Accept::Append { skip }
    }

    /// The file is flushed to this length. True when that is news worth an ack.
    #[must_use]
    pub fn flushed(&mut self, length: u64) -> bool {
        let length = length.min(self.length);
        let news = length > self.durable;
        if news {
            self.durable = length;
        }
        news
    }

    /// Bytes appended, flushed or not.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes flushed.
    pub fn durable(&self) -> u64 {
        self.durable
    }
}
