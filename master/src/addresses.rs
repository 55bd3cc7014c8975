//! What the kernel tells of this machine's network → the addresses under which others may reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Where to ask the way to: addresses that are nobody's (RFC 5737, RFC 3849), and nothing is sent.
const ELSEWHERE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// Addresses of this machine that are of use elsewhere: first those it would send from to the rest of the world.
#[must_use]
pub fn of_this_machine() -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = ELSEWHERE.iter().filter_map(|target| source(target)).collect();
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    found.extend(of_ipv4(&read("/proc/net/fib_trie")));
    found.extend(of_ipv6(&read("/proc/net/if_inet6")));
    let mut addresses = Vec::new();
    for address in found {
        if is_of_use(address) && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The address from which this machine would send to another.
fn source(target: &str) -> Option<IpAddr> {
    let any = if target.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether an address means this machine to others, too: neither loopback nor of one cable alone.
fn is_of_use(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => !four.is_loopback() && !four.is_link_local() && !four.is_unspecified(),
        IpAddr::V6(six) => !six.is_loopback() && !six.is_unicast_link_local() && !six.is_unspecified(),
    }
}

/// Local addresses in the kernel's routing table: each stands in a line `|-- ADDRESS` before one that says `host LOCAL`.
fn of_ipv4(table: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in table.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line.ends_with("host LOCAL") {
            addresses.extend(last.map(IpAddr::V4));
        }
    }
    addresses
}

/// Addresses of interfaces: 32 hexadecimal digits each, then index, prefix, scope, flags and name.
fn of_ipv6(table: &str) -> Vec<IpAddr> {
    let addresses = table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next().filter(|digits| digits.len() == 32)?;
        Some(IpAddr::V6(Ipv6Addr::from_bits(u128::from_str_radix(digits, 16).ok()?)))
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect(text)).collect()
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     +-- 127.0.0.0/8 2 0 2\n        \
                    |-- 127.0.0.1\n           /32 host LOCAL\n     |-- 192.168.1.0\n        /24 link UNICAST\n     \
                    |-- 192.168.1.7\n        /32 host LOCAL\n     |-- 192.168.1.255\n        /32 link BROADCAST\n";
        assert_eq!(of_ipv4(trie), addresses(&["127.0.0.1", "192.168.1.7"]));
        let inet6 = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe800000000000000000000000000001 02 40 20 80     eth0\n\
                     20010db8000000000000000000000007 02 40 00 80     eth0\nnonsense\n";
        assert_eq!(of_ipv6(inet6), addresses(&["::1", "fe80::1", "2001:db8::7"]));
        let of_use: Vec<IpAddr> =
            of_ipv4(trie).into_iter().chain(of_ipv6(inet6)).filter(|address| is_of_use(*address)).collect();
        assert_eq!(of_use, addresses(&["192.168.1.7", "2001:db8::7"]));
    }

    #[test]
    fn what_is_found_on_this_machine_is_its_own() {
        for address in of_this_machine() {
            UdpSocket::bind((address, 0)).unwrap_or_else(|error| panic!("{address}: {error}"));
        }
    }
}
