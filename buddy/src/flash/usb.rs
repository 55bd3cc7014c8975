//! What a USB device says of itself → its interfaces; and what can be done at one, by which the machines for loaders that are USB
//! devices speak (USB 2.0, chapter 9).
//!
//! A machine sees nothing of a device but what transfers bring: bytes that anybody may have made up.

use super::{Failure, Whose};
use sai_core::limits::Millis;

/// Milliseconds for a transfer that is no work for the device: USB gives it 5 s for any request (9.2.6.1).
pub const REQUEST_MS: Millis = 5_000;
/// Milliseconds for a device to be found and opened, beside the time that it takes to come.
pub const OPEN_MS: Millis = 10_000;
/// Milliseconds for which a loader is waited for at its port: boards take some seconds to start, and hubs to tell.
pub const COMES_MS: Millis = 20_000;
/// Milliseconds between two looks for it.
pub const LOOK_MS: Millis = 100;
/// Longest descriptor of a configuration: its length has 16 bits, and no loader has as much.
const CONFIGURATION_MAX: usize = 4096;
/// Most settings of interfaces of a device: more than any loader has memories.
const SETTINGS_MAX: usize = 64;

/// Types of descriptors.
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;

/// A request at the control pipe, as its setup packet has it, but for the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// What kind of request, and for whom: `bmRequestType`, with the direction in its highest bit.
    pub kind: u8,
    /// Which request.
    pub request: u8,
    /// Its value.
    pub value: u16,
    /// Its index.
    pub index: u16,
}

/// Something that is done at a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// The device at the board's port is opened, if it is the one that is meant: the descriptor of its configuration is received,
    /// with all that belongs to it. One that was open before is closed.
    Open,
    /// An interface is claimed, with a setting of it.
    Claim {
        /// Which interface.
        interface: u8,
        /// Which setting.
        setting: u8,
    },
    /// A request that asks for so many bytes at most.
    In(Setup, u16),
    /// A request that brings these.
    Out(Setup, Vec<u8>),
    /// So many bytes at most are received from a bulk endpoint, up to the end of one transfer of the device.
    BulkIn(u8, usize),
    /// These are sent to a bulk endpoint.
    BulkOut(u8, Vec<u8>),
    /// The device is reset, and closed.
    Reset,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing is plugged in there, or it was pulled out.
    Gone,
    /// What is there is another device: which.
    Another(String),
    /// The device refuses what was asked (STALL).
    Stalled,
    /// The time is over.
    Late,
    /// The system refuses it, and why.
    Refused(String),
    /// It was to be broken off.
    GivenUp,
}

impl Trouble {
    /// It as the end of a sentence that says what was being done.
    pub fn text(&self) -> String {
        match self {
            Trouble::Gone => "the device is not there any more".into(),
            Trouble::Another(what) => format!("another device is there: {what}"),
            Trouble::Stalled => "the device refuses it".into(),
            Trouble::Late => "the device does not answer".into(),
            Trouble::Refused(why) => why.clone(),
            Trouble::GivenUp => "it was given up".into(),
        }
    }
}

/// A setting of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The interface.
    pub number: u8,
    /// The setting of it.
    pub setting: u8,
    /// Class, subclass and protocol.
    pub class: (u8, u8, u8),
    /// The number of the text that is its name; 0 where it has none.
    pub name: u8,
    /// Addresses of its endpoints for bulk data, in which the highest bit says that it is the device's to send.
    pub bulk: Vec<u8>,
    /// Descriptors that no standard of the bus itself knows, each with its length and type.
    pub others: Vec<Vec<u8>>,
}

/// The interfaces that a configuration has, in its order.
///
/// # Errors
/// It is none.
pub fn interfaces(configuration: &[u8]) -> Result<Vec<Interface>, String> {
    if configuration.len() > CONFIGURATION_MAX {
        return Err(format!("the descriptors of the device have {} bytes", configuration.len()));
    }
    let mut found: Vec<Interface> = Vec::new();
    let mut rest = configuration;
    while let [length, kind, ..] = rest {
        let (length, kind) = (usize::from(*length), *kind);
        if length < 2 || length > rest.len() {
            return Err("the descriptors of the device end in the middle of one".into());
        }
        let (one, behind) = rest.split_at(length);
        rest = behind;
        match (kind, one) {
            (INTERFACE, [_, _, number, setting, _, class, subclass, protocol, name, ..]) => {
                if found.len() == SETTINGS_MAX {
                    return Err(format!("the device has more than {SETTINGS_MAX} settings of interfaces"));
                }
                let class = (*class, *subclass, *protocol);
                let (bulk, others) = (Vec::new(), Vec::new());
                found.push(Interface { number: *number, setting: *setting, class, name: *name, bulk, others });
            }
            (ENDPOINT, [_, _, address, attributes, _, _, _, ..]) => {
                if let Some(interface) = found.last_mut().filter(|_| attributes & 3 == 2) {
                    interface.bulk.push(*address);
                }
            }
            (INTERFACE | ENDPOINT, _) => return Err("the descriptors of the device are too short".into()),
            _ => found.last_mut().into_iter().for_each(|interface| interface.others.push(one.to_vec())),
        }
    }
    match rest {
        [] => Ok(found),
        _ => Err("the descriptors of the device end in the middle of one".into()),
    }
}

/// When a loader that is not there yet is looked for again.
///
/// # Errors
/// It had its time, and why it is not there.
pub fn look_again(now: Millis, until: Millis, why: &str) -> Result<Millis, Failure> {
    if now < until {
        return Ok(now + LOOK_MS);
    }
    let text = format!("no loader came to the board's USB port within {} s: {why}", COMES_MS / 1000);
    Err(Failure::new(Whose::Wiring, text))
}

/// The request for a text of the device by its number, in a language; that of number 0 brings the languages.
pub fn asks_text(number: u8, language: u16) -> Transfer {
    let setup = Setup { kind: 0x80, request: 6, value: 0x300 | u16::from(number), index: language };
    Transfer::In(setup, 255)
}

/// The first language of a device.
///
/// # Errors
/// It has none.
pub fn language(bytes: &[u8]) -> Result<u16, String> {
    match bytes {
        [length, 3, low, high, ..] if *length >= 4 => Ok(u16::from_le_bytes([*low, *high])),
        _ => Err("the device has no language for its texts".into()),
    }
}

/// A text of a device.
///
/// # Errors
/// It is none.
pub fn text(bytes: &[u8]) -> Result<String, String> {
    match bytes {
        [length, 3, rest @ ..] if usize::from(*length) == bytes.len() && rest.len().is_multiple_of(2) => {
            let (units, _) = rest.as_chunks::<2>();
            Ok(String::from_utf16_lossy(&units.iter().map(|unit| u16::from_le_bytes(*unit)).collect::<Vec<u16>>()))
        }
        _ => Err("a text of the device is none".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: [u8; 41] = [
        9, 2, 41, 0, 1, 1, 0, 0x80, 50, // configuration
        9, 4, 0, 0, 2, 0xff, 0x42, 3, 7, // interface
        7, 5, 0x81, 2, 0, 2, 0, // in, 512 bytes
        7, 5, 0x01, 2, 64, 0, 0, // out
        9, 0x21, 0xb, 0, 0, 0, 4, 0x1a, 1, // of a class
    ];

    #[test]
    fn descriptors_are_read_whole_or_refused() {
        let found = interfaces(&WHOLE).expect("interfaces");
        let bulk = [0x81, 1].to_vec();
        let others = [WHOLE[32..].to_vec()].to_vec();
        let class = (0xff, 0x42, 3);
        assert_eq!(found, [Interface { number: 0, setting: 0, class, name: 7, bulk, others }]);
        let ends = [0, 9, 18, 25, 32, 41];
        for end in 0..WHOLE.len() {
            assert_eq!(interfaces(&WHOLE[..end]).is_ok(), ends.contains(&end), "{end}");
        }
        // Whatever else it says, there is an end to it.
        for place in 0..WHOLE.len() {
            for value in 0..=255 {
                let mut bytes = WHOLE;
                bytes[place] = value;
                let _ = interfaces(&bytes);
            }
        }
        assert!(interfaces(&[9, 4, 0, 0, 0, 0, 0, 0, 0].repeat(65)).is_err());
    }

    #[test]
    fn texts_are_texts() {
        assert_eq!(text(&[6, 3, b'a', 0, 0xe4, 0]).as_deref(), Ok("aä"));
        assert_eq!(text(&[2, 3]).as_deref(), Ok(""));
        for wrong in [&[][..], &[1], &[6, 3, b'a', 0], &[5, 3, b'a', 0, 0], &[4, 2, b'a', 0]] {
            assert!(text(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(language(&[4, 3, 9, 4]), Ok(0x409));
        assert!(language(&[2, 3]).is_err() && language(&[]).is_err());
    }
}
