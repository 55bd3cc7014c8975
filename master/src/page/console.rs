//! A log's records → the bytes of one console, as they came.

use super::made::Maker;
use sai_core::record::{Item, Record};

/// What the channels of consoles are called before their own name.
pub const SERIAL: &str = "serial:";

/// Makes the bytes of one channel.
pub struct Console {
    name: String,
    /// Those that have this name.
    channels: Vec<u8>,
    there: bool,
}

impl Console {
    /// Those of the console of this name.
    pub fn new(name: &str) -> Self {
        Self { name: format!("{SERIAL}{name}"), channels: Vec::new(), there: false }
    }

    /// Whether the log has such a console.
    pub fn is_there(&self) -> bool {
        self.there
    }
}

impl Maker for Console {
    fn take(&mut self, item: &Item<'_>, out: &mut Vec<u8>) {
        match item {
            Item::Record(_, Record::Channel(channel, start)) => {
                self.channels.retain(|known| known != channel);
                if start.name == self.name {
                    self.channels.push(*channel);
                    self.there = true;
                }
            }
            Item::Data { channel, bytes, .. } if self.channels.contains(channel) => out.extend_from_slice(bytes),
            _ => {}
        }
    }

    fn finish(&mut self, _damage: Option<&str>, _out: &mut Vec<u8>) {}
}
