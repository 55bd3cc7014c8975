//! What comes on the channels of a board → how much of it its log keeps: each channel has a share of the log's limit.
//!
//! A console that babbles takes nothing away from another one, and nothing from what is judged: the judge hears all of it as it
//! comes. What a log does not keep stands in it as one loss of the channel.

use crate::limits::Millis;
use crate::ordered::Map;
use alloc::vec::Vec;

/// One channel: where it is, what is kept, and what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Channel {
    /// Bytes of a console, or edges of a line, that have come until now.
    position: u64,
    /// Bytes of the log that it has taken.
    taken: u64,
    /// Where the first was that is not kept, and how many are not.
    beyond: Option<(u64, u64)>,
}

/// What comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Bytes of a console.
    Bytes {
        /// Its channel.
        channel: u8,
        /// How many.
        bytes: u64,
    },
    /// An edge of a line.
    Edge {
        /// Its channel.
        channel: u8,
        /// Bytes of the log that it costs.
        bytes: u64,
    },
    /// So many are missing for another reason, which the log tells.
    Lost {
        /// The channel.
        channel: u8,
        /// How many.
        lost: u64,
    },
    /// The disk takes no more of the log: nothing that comes from now on is kept.
    Full,
    /// Nothing comes any more.
    End,
}

/// What the log gets of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// So many of the bytes, the first ones, or the edge (1) or not (0).
    Keep(u64),
    /// What it has not got of a channel.
    Beyond {
        /// The channel.
        channel: u8,
        /// Bytes or edges of it before.
        offset: u64,
        /// How many it has not got.
        lost: u64,
    },
}

/// The machine. See the file's first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    each: u64,
    full: bool,
    channels: Map<u8, Channel>,
}

impl Shares {
    /// So many bytes of log for so many channels.
    pub fn new(bytes: u64, channels: usize) -> Self {
        Self { each: bytes / channels.max(1) as u64, full: false, channels: Map::new() }
    }

    /// Takes what comes.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        // All that comes is decided at once.
        let _ = now;
        let (each, full) = (self.each, self.full);
        match input {
            Input::Bytes { channel, bytes } => {
                let known = self.channels.get_or_default(channel);
                // Once something is missing, all that follows is: one loss tells of it.
                let room = if full || known.beyond.is_some() { 0 } else { each.saturating_sub(known.taken) };
                let kept = room.min(bytes);
                known.taken += kept;
                known.leave(kept, bytes - kept);
                out.push(Output::Keep(kept));
            }
            Input::Edge { channel, bytes } => {
                let known = self.channels.get_or_default(channel);
                let kept = !full && known.beyond.is_none() && known.taken.saturating_add(bytes) <= each;
                known.taken += if kept { bytes } else { 0 };
                known.leave(u64::from(kept), u64::from(!kept));
                out.push(Output::Keep(u64::from(kept)));
            }
            Input::Lost { channel, lost } => {
                let known = self.channels.get_or_default(channel);
                known.position = known.position.saturating_add(lost);
            }
            // Whatever has room by then: what a channel has lost is one piece, up to its end.
            Input::Full => self.full = true,
            Input::End => {
                let beyond = self.channels.iter().filter_map(|(channel, known)| {
                    let (offset, lost) = known.beyond?;
                    Some(Output::Beyond { channel: *channel, offset, lost })
                });
                out.extend(beyond);
            }
        }
    }

    /// Never: nothing is decided by time.
    pub fn deadline(&self) -> Option<Millis> {
        None
    }
}

impl Channel {
    fn leave(&mut self, kept: u64, left: u64) {
        self.position = self.position.saturating_add(kept);
        if left > 0 {
            let (at, lost) = self.beyond.unwrap_or((self.position, 0));
            self.beyond = Some((at, lost.saturating_add(left)));
            self.position = self.position.saturating_add(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn give(shares: &mut Shares, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        shares.handle(0, input, &mut out);
        out
    }

    #[test]
    fn a_channel_that_babbles_takes_nothing_from_another_and_its_loss_is_exact() {
        let mut shares = Shares::new(200, 2);
        let bytes = |shares: &mut Shares, channel, bytes| give(shares, Input::Bytes { channel, bytes });
        let beyond = |channel, offset, lost| Output::Beyond { channel, offset, lost };
        assert_eq!(bytes(&mut shares, 0, 60), [Output::Keep(60)]);
        assert_eq!(give(&mut shares, Input::Lost { channel: 0, lost: 5 }), []);
        assert_eq!(bytes(&mut shares, 0, 60), [Output::Keep(40)]);
        assert_eq!(give(&mut shares, Input::End), [beyond(0, 105, 20)]);
        assert_eq!(bytes(&mut shares, 0, 1_000), [Output::Keep(0)]);
        assert_eq!(bytes(&mut shares, 1, 100), [Output::Keep(100)]);
        let edge = |shares: &mut Shares, bytes| give(shares, Input::Edge { channel: 2, bytes });
        assert!((0..10).all(|_| edge(&mut shares, 10) == [Output::Keep(1)]));
        assert_eq!((edge(&mut shares, 10), edge(&mut shares, 1)), (vec![Output::Keep(0)], vec![Output::Keep(0)]));
        assert_eq!(give(&mut shares, Input::End), [beyond(0, 105, 1_020), beyond(2, 10, 2)]);
        // Where nothing is to be kept, nothing is.
        assert_eq!(bytes(&mut Shares::new(0, 0), 0, 3), [Output::Keep(0)]);
    }

    #[test]
    fn what_comes_to_a_full_disk_is_one_exact_loss_of_each_channel() {
        let mut shares = Shares::new(1_000, 2);
        assert_eq!(give(&mut shares, Input::Bytes { channel: 0, bytes: 60 }), [Output::Keep(60)]);
        assert_eq!(give(&mut shares, Input::Edge { channel: 1, bytes: 20 }), [Output::Keep(1)]);
        assert_eq!(give(&mut shares, Input::Full), []);
        assert_eq!(give(&mut shares, Input::Bytes { channel: 0, bytes: 7 }), [Output::Keep(0)]);
        assert_eq!(give(&mut shares, Input::Bytes { channel: 0, bytes: 5 }), [Output::Keep(0)]);
        assert_eq!(give(&mut shares, Input::Edge { channel: 1, bytes: 20 }), [Output::Keep(0)]);
        let beyond = |channel, offset, lost| Output::Beyond { channel, offset, lost };
        assert_eq!(give(&mut shares, Input::End), [beyond(0, 60, 12), beyond(1, 1, 1)]);
    }
}
