//! What a trusted proxy says of its client → the client's address: X-Forwarded-For, and the PROXY protocol in both forms.
//!
//! Only a peer whose own address is in `trusted_proxies` is believed. From all others the header means nothing, and the
//! protocol's first byte is no TLS.

use smol::Async;
use smol::io::AsyncReadExt as _;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::str::FromStr;

/// Longest header of version 1 in bytes, its line end included (PROXY protocol §2.1).
const TEXT_LIMIT: usize = 107;

/// Longest header of version 2 behind its first 16 bytes: what proxies append to the addresses is a few hundred.
const BINARY_LIMIT: usize = 2048;

/// The first 12 bytes of version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Entries of X-Forwarded-For that are looked at, from the right: longer chains of our own proxies there are not.
const HOPS: usize = 16;

/// A block of addresses, such as `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that count.
    bits: u32,
}

impl Network {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(32 - self.bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).checked_shr(128 - self.bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;
    /// Reads `ADDRESS` or `ADDRESS/BITS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "an address as 192.0.2.7, or a block as 10.0.0.0/8 or fd00::/8".to_owned();
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| expected())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|bits| *bits <= most).ok_or_else(expected)?
            }
            Some(_) => return Err(expected()),
        };
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.bits)
    }
}

/// The proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(pub Vec<Network>);

impl Proxies {
    /// Whether what this peer says of its client is believed.
    #[must_use]
    pub fn trust(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(peer))
    }

    /// The client of a request: the rightmost address of X-Forwarded-For that is no trusted proxy's, for each proxy
    /// appends whom it heard, and only what trusted ones appended is true. Without such an address it is the last
    /// trusted one that was named.
    #[must_use]
    pub fn client<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer;
        for entry in forwarded.rev().flat_map(|line| line.rsplit(',')).take(HOPS) {
            if !self.trust(client) {
                break;
            }
            let Some(address) = address(entry.trim()) else { break };
            client = address;
        }
        client
    }
}

/// An entry of X-Forwarded-For: an address, which some proxies give a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(address, _)| address)?,
        None if text.matches(':').count() == 1 => text.split_once(':').map(|(address, _)| address)?,
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// Whether a connection's first byte begins a header of the PROXY protocol.
#[must_use]
pub fn begins(byte: u8) -> bool {
    byte == b'P' || byte == b'\r'
}

/// Reads a header of the PROXY protocol off a connection; the client's address, or none where the proxy speaks for
/// itself, as it does to see whether we live.
///
/// # Errors
/// What comes is no such header.
pub async fn read(tcp: &Async<TcpStream>) -> io::Result<Option<IpAddr>> {
    let mut tcp = tcp;
    let mut header = vec![0; 1];
    tcp.read_exact(&mut header).await?;
    if header == b"P" {
        // One byte at a time, since those behind the line end belong to TLS.
        while !header.ends_with(b"\r\n") {
            if header.len() >= TEXT_LIMIT {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut byte = [0];
            tcp.read_exact(&mut byte).await?;
            header.extend_from_slice(&byte);
        }
        return text(&header);
    }
    header.resize(16, 0);
    tcp.read_exact(header.get_mut(1..).unwrap_or_default()).await?;
    let [.., high, low] = header.as_slice() else { return Err(io::ErrorKind::InvalidData.into()) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !header.starts_with(SIGNATURE) || length > BINARY_LIMIT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; length];
    tcp.read_exact(&mut rest).await?;
    binary(&header, &rest)
}

/// `PROXY TCP4 CLIENT OWN PORT PORT`, `PROXY TCP6 …` or `PROXY UNKNOWN…` (§2.1).
fn text(line: &[u8]) -> io::Result<Option<IpAddr>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let line = std::str::from_utf8(line).map_err(|_| invalid())?;
    let mut words = line.trim_end().split(' ');
    match (words.next(), words.next()) {
        (Some("PROXY"), Some("UNKNOWN")) => Ok(None),
        (Some("PROXY"), Some("TCP4" | "TCP6")) => {
            let client = words.next().and_then(|word| word.parse::<IpAddr>().ok()).ok_or_else(invalid)?;
            if words.count() == 3 { Ok(Some(client.to_canonical())) } else { Err(invalid()) }
        }
        _ => Err(invalid()),
    }
}

/// Version and command, family and transport, length, and the addresses (§2.2).
fn binary(header: &[u8], rest: &[u8]) -> io::Result<Option<IpAddr>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let (Some(command), Some(family)) = (header.get(12), header.get(13)) else { return Err(invalid()) };
    match (command, family) {
        // LOCAL: the proxy's own connection.
        (0x20, _) => Ok(None),
        (0x21, 0x11) if rest.len() >= 12 => {
            let four: [u8; 4] = rest.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)?;
            Ok(Some(Ipv4Addr::from(four).into()))
        }
        (0x21, 0x21) if rest.len() >= 36 => {
            let six: [u8; 16] = rest.get(..16).and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)?;
            Ok(Some(IpAddr::from(Ipv6Addr::from(six)).to_canonical()))
        }
        // Unix sockets and what has no address.
        (0x21, 0x00 | 0x31) => Ok(None),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(blocks: &[&str]) -> Proxies {
        Proxies(blocks.iter().map(|text| text.parse().expect(text)).collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn blocks_hold_their_addresses_alone() {
        let trusted = proxies(&["127.0.0.1", "10.0.0.0/8", "192.0.2.128/25", "fd00::/8", "::1"]);
        for inside in ["127.0.0.1", "10.255.0.1", "192.0.2.200", "fdab::1", "::1", "::ffff:10.1.2.3"] {
            assert!(trusted.trust(ip(inside)), "{inside}");
        }
        for outside in ["127.0.0.2", "11.0.0.1", "192.0.2.127", "fe80::1", "::2", "::"] {
            assert!(!trusted.trust(ip(outside)), "{outside}");
        }
        let all = proxies(&["0.0.0.0/0", "::/0"]);
        assert!(all.trust(ip("203.0.113.9")) && all.trust(ip("2001:db8::1")));
        assert!(!Proxies::default().trust(ip("127.0.0.1")));
        for wrong in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "::/129", "host", "10.0.0"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_client_is_whom_the_last_trusted_proxy_heard() {
        let trusted = proxies(&["10.0.0.0/8"]);
        for (peer, lines, client) in [
            ("10.0.0.1", &["203.0.113.9"][..], "203.0.113.9"),
            // What the client itself wrote stands to the left and is not looked at.
            ("10.0.0.1", &["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["6.6.6.6", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.3,10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("10.0.0.1", &["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", &["203.0.113.9:5000"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // A stranger's header means nothing.
            ("203.0.113.7", &["127.0.0.1"], "203.0.113.7"),
        ] {
            assert_eq!(trusted.client(ip(peer), lines.iter().copied()), ip(client), "{peer} {lines:?}");
        }
        let long = vec!["10.0.0.9"; 1000].join(",");
        assert_eq!(trusted.client(ip("10.0.0.1"), [long.as_str()].into_iter()), ip("10.0.0.9"));
    }

    #[test]
    fn both_forms_of_the_protocol_are_read() {
        let line = |text: &str| super::text(text.as_bytes());
        assert_eq!(line("PROXY TCP4 203.0.113.9 10.0.0.1 5000 443\r\n").expect("a client"), Some(ip("203.0.113.9")));
        assert_eq!(line("PROXY TCP6 2001:db8::9 ::1 5000 443\r\n").expect("a client"), Some(ip("2001:db8::9")));
        assert_eq!(line("PROXY UNKNOWN ffff::1 whatever\r\n").expect("nobody"), None);
        for wrong in ["PROXY\r\n", "PROXY TCP4 x 10.0.0.1 1 2\r\n", "PROXY TCP4 1.2.3.4\r\n", "POST / HTTP/1.1\r\n"] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
        let header = |command, family| [SIGNATURE.as_slice(), &[command, family, 0, 0]].concat();
        let four = [203, 0, 113, 9, 10, 0, 0, 1, 1, 2, 3, 4];
        assert_eq!(binary(&header(0x21, 0x11), &four).expect("a client"), Some(ip("203.0.113.9")));
        let six = [ip("2001:db8::9"), ip("::1")].map(|address| match address {
            IpAddr::V6(six) => six.octets(),
            IpAddr::V4(_) => [0; 16],
        });
        let six = [six.concat(), vec![1, 2, 3, 4]].concat();
        assert_eq!(binary(&header(0x21, 0x21), &six).expect("a client"), Some(ip("2001:db8::9")));
        assert_eq!(binary(&header(0x20, 0), &[]).expect("the proxy"), None);
        assert!(binary(&header(0x21, 0x11), &four[..11]).is_err());
        assert!(binary(&header(0x11, 0x11), &four).is_err());
        assert!(binary(&header(0x21, 0x12), &four).is_err());
    }
}
