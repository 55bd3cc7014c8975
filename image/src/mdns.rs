//! A packet of somebody who looks for a name → the answer, if that name is this machine's: multicast DNS, RFC 6762.
//!
//! It says at which address NAME.local is, and nothing else: no services, no names of addresses. Whether the name is free is not asked
//! before, so that a machine can be reached as soon as it has an address; that another one has it too is heard, and told.

use std::net::Ipv4Addr;

/// Where questions and answers go.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
/// The port of both.
pub const PORT: u16 = 5353;
/// Bytes of a packet at most that is looked at: RFC 6762 has no larger ones.
pub const PACKET_MOST: usize = 9000;
/// Labels of a name at most: RFC 1035 allows 255 bytes.
const LABELS_MOST: usize = 127;
/// Questions and records of a packet at most that are looked at; those of other machines' services may be many.
const ENTRIES_MOST: usize = 256;

/// The last label of every name here.
const LOCAL: &[u8] = b"local";
/// Bytes before the first question.
const HEAD: usize = 12;
/// The type of an IPv4 address.
const A: u16 = 1;
/// A question for all there is.
const ANY: u16 = 255;
/// The class of the Internet.
const INTERNET: u16 = 1;
/// The bit beside it: of a question, that an answer to the asker alone is enough; of a record, that it is all there is.
const ALONE: u16 = 0x8000;
/// Seconds for which an answer may be kept.
const KEPT: u32 = 120;
/// Seconds for which one may that goes to somebody who asks as if this were an ordinary server.
const KEPT_ELSEWHERE: u32 = 10;

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To the group.
    Everybody(Vec<u8>),
    /// To whom the question came from.
    Asker(Vec<u8>),
}

/// A packet, and how far it was read.
struct Packet<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Packet<'a> {
    fn number(&mut self) -> Option<u16> {
        let bytes = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// The labels of a name, which may go on where an earlier one has the same end.
    fn name(&mut self) -> Option<Vec<&'a [u8]>> {
        let (mut at, mut next, mut labels) = (self.at, None, Vec::new());
        // Each leads to before the one that led there, so nobody is led round in a circle.
        let mut before = at;
        while labels.len() < LABELS_MOST {
            let length = usize::from(*self.bytes.get(at)?);
            match length >> 6 {
                0 if length == 0 => {
                    self.at = next.unwrap_or(at + 1);
                    return Some(labels);
                }
                0 => {
                    labels.push(self.bytes.get(at + 1..at + 1 + length)?);
                    at += 1 + length;
                }
                3 => {
                    let to = (length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    if to >= before {
                        return None;
                    }
                    next.get_or_insert(at + 2);
                    (at, before) = (to, to);
                }
                _ => return None,
            }
        }
        None
    }
}

fn is(labels: &[&[u8]], name: &str) -> bool {
    matches!(labels, [first, last] if first.eq_ignore_ascii_case(name.as_bytes()) && last.eq_ignore_ascii_case(LOCAL))
}

/// A packet's identifier, whether it is an answer, and its numbers of questions and of answers; `None` where it is neither.
fn head(packet: &mut Packet<'_>) -> Option<(u16, bool, usize, usize)> {
    let (identifier, flags) = (packet.number()?, packet.number()?);
    let (questions, answers) = (packet.number()?.into(), packet.number()?.into());
    packet.at = HEAD;
    // Whatever is no ordinary question and no good answer is for nobody here.
    (flags & 0x780f == 0).then_some((identifier, flags & 0x8000 != 0, questions, answers))
}

/// The answer to a packet that came from this port, at an interface with this address.
pub fn answer(bytes: &[u8], port: u16, name: &str, address: Ipv4Addr) -> Option<Answer> {
    let mut packet = Packet { bytes, at: 0 };
    let (identifier, false, questions, _) = head(&mut packet)? else { return None };
    for _ in 0..questions.min(ENTRIES_MOST) {
        let labels = packet.name()?;
        let (kind, class) = (packet.number()?, packet.number()?);
        if !is(&labels, name) || ![A, ANY].contains(&kind) || ![INTERNET, ANY].contains(&(class & !ALONE)) {
            continue;
        }
        return Some(if port != PORT {
            // It knows nothing of all this: it gets its question back, too.
            Answer::Asker(response(name, address, Some((identifier, kind))))
        } else if class & ALONE != 0 {
            Answer::Asker(response(name, address, None))
        } else {
            Answer::Everybody(response(name, address, None))
        });
    }
    None
}

/// What is said unasked of a new address.
pub fn announcement(name: &str, address: Ipv4Addr) -> Vec<u8> {
    response(name, address, None)
}

/// An address at which another machine says that this one's name is.
pub fn claimed(bytes: &[u8], name: &str, ours: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let mut packet = Packet { bytes, at: 0 };
    let (_, true, questions, answers) = head(&mut packet)? else { return None };
    for _ in 0..questions.min(ENTRIES_MOST) {
        packet.name()?;
        packet.at += 4;
    }
    for _ in 0..answers.min(ENTRIES_MOST) {
        let labels = packet.name()?;
        let kind = packet.number()?;
        // Class, and for how long it may be kept.
        packet.at += 6;
        let length = usize::from(packet.number()?);
        let data = bytes.get(packet.at..packet.at + length)?;
        packet.at += length;
        if let (A, [a, b, c, d]) = (kind, data)
            && is(&labels, name)
            && !ours.contains(&Ipv4Addr::new(*a, *b, *c, *d))
        {
            return Some(Ipv4Addr::new(*a, *b, *c, *d));
        }
    }
    None
}

fn response(name: &str, address: Ipv4Addr, elsewhere: Option<(u16, u16)>) -> Vec<u8> {
    let (identifier, questions) = elsewhere.map_or((0, 0), |(identifier, _)| (identifier, 1));
    let mut packet = Vec::new();
    // An answer by who knows: one record.
    for number in [identifier, 0x8400, questions, 1, 0, 0] {
        packet.extend(number.to_be_bytes());
    }
    let mut labels = Vec::new();
    for label in [name.as_bytes(), LOCAL] {
        // Of a host's name that was checked: 63 bytes at most.
        labels.push(label.len().min(63) as u8);
        labels.extend(&label[..label.len().min(63)]);
    }
    labels.push(0);
    if let Some((_, kind)) = elsewhere {
        packet.extend(&labels);
        packet.extend(kind.to_be_bytes());
        packet.extend(INTERNET.to_be_bytes());
    }
    packet.extend(&labels);
    let (class, kept) = if elsewhere.is_some() { (INTERNET, KEPT_ELSEWHERE) } else { (INTERNET | ALONE, KEPT) };
    packet.extend(A.to_be_bytes());
    packet.extend(class.to_be_bytes());
    packet.extend(kept.to_be_bytes());
    packet.extend(4u16.to_be_bytes());
    packet.extend(address.octets());
    packet
}

/// This machine's addresses, as `ip -o -4 address` lists them, without those that nobody else sees.
pub fn addresses(list: &str) -> Vec<Ipv4Addr> {
    let address = |line: &str| -> Option<Ipv4Addr> {
        let (_, rest) = line.split_once(" inet ")?;
        rest.split(['/', ' ']).next()?.parse().ok()
    };
    let seen = list.lines().filter_map(address).filter(|address| !address.is_loopback());
    let mut addresses: Vec<Ipv4Addr> = seen.collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

    /// A question, as RFC 6762 has it.
    fn question(labels: &[u8], kind: u16, class: u16) -> Vec<u8> {
        let mut packet = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        packet.extend(labels);
        packet.extend(kind.to_be_bytes());
        packet.extend(class.to_be_bytes());
        packet
    }

    const SHED: &[u8] = b"\x04sHed\x05LOCAL\x00";

    #[test]
    fn whoever_looks_for_the_name_finds_the_address() {
        let everybody = b"\0\0\x84\0\0\0\0\x01\0\0\0\0\x04shed\x05local\0\0\x01\x80\x01\0\0\0\x78\0\x04\xc0\0\x02\x07";
        for kind in [A, ANY] {
            let asked = question(SHED, kind, INTERNET);
            assert_eq!(answer(&asked, PORT, "shed", OURS), Some(Answer::Everybody(everybody.to_vec())));
        }
        let alone = question(SHED, A, INTERNET | ALONE);
        assert_eq!(answer(&alone, PORT, "shed", OURS), Some(Answer::Asker(everybody.to_vec())));
        assert_eq!(announcement("shed", OURS), everybody);
        // As a resolver that knows only ordinary servers.
        let Some(Answer::Asker(elsewhere)) = answer(&question(SHED, A, INTERNET), 40_000, "shed", OURS) else {
            panic!("no answer")
        };
        let expected =
            b"\x12\x34\x84\0\0\x01\0\x01\0\0\0\0\x04shed\x05local\0\0\x01\0\x01\x04shed\x05local\0\0\x01\0\x01\0\0\0\x0a\0\x04\xc0\0\x02\x07";
        assert_eq!(elsewhere, expected);
    }

    #[test]
    fn other_names_and_questions_are_passed_over() {
        for (labels, kind, class) in [
            (&b"\x04shad\x05local\0"[..], A, INTERNET),
            (b"\x04shed\x07example\0", A, INTERNET),
            (b"\x01x\x04shed\x05local\0", A, INTERNET),
            (SHED, 28, INTERNET),
            (SHED, A, 3),
        ] {
            assert_eq!(answer(&question(labels, kind, class), PORT, "shed", OURS), None);
        }
        // The second question is the one, and its name ends as the first one's.
        let mut two = question(b"\x01x\x05local\0", A, INTERNET);
        two[5] = 2;
        two.extend(b"\x04shed\xc0\x0e\0\x01\0\x01");
        assert!(answer(&two, PORT, "shed", OURS).is_some());
        let said = announcement("shed", OURS);
        assert_eq!(answer(&said, PORT, "shed", OURS), None, "an answer is no question");
    }

    #[test]
    fn a_name_that_another_has_is_heard() {
        let other = Ipv4Addr::new(192, 0, 2, 8);
        let said = announcement("SHED", other);
        assert_eq!(claimed(&said, "shed", &[OURS]), Some(other));
        assert_eq!(claimed(&said, "shed", &[OURS, other]), None, "what this one says itself comes back");
        assert_eq!(claimed(&said, "barn", &[OURS]), None);
        assert_eq!(claimed(&question(SHED, A, INTERNET), "shed", &[OURS]), None);
    }

    #[test]
    fn no_packet_leads_astray() {
        let mut whole = question(b"\x01x\x05local\0", A, INTERNET);
        whole[5] = 2;
        whole.extend(b"\x04shed\xc0\x0e\0\x01\0\x01");
        for packet in
            [whole, announcement("shed", OURS), question(b"\xc0\x0c", A, INTERNET), question(b"\xc0\x0e", A, 1)]
        {
            for length in 0..packet.len() {
                let _ = (answer(&packet[..length], PORT, "shed", OURS), claimed(&packet[..length], "shed", &[]));
            }
            for at in 0..packet.len() {
                for value in [0, 1, 63, 64, 0xc0, 0xff] {
                    let mut other = packet.clone();
                    other[at] = value;
                    let _ = (answer(&other, PORT, "shed", OURS), claimed(&other, "shed", &[]));
                }
            }
        }
        let endless: Vec<u8> = std::iter::repeat_n([1, b'x'], 4000).flatten().collect();
        assert_eq!(answer(&question(&endless, A, INTERNET), PORT, "shed", OURS), None);
    }

    #[test]
    fn addresses_are_those_that_others_see() {
        let list = "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever\n\
            2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\\       valid_lft forever\n\
            3: usb0    inet 192.0.2.7 peer 192.0.2.8/32 scope global usb0\n";
        assert_eq!(addresses(list), [Ipv4Addr::new(10, 0, 2, 15), OURS]);
        assert!(addresses("").is_empty());
    }
}
