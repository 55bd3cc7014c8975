//! Addresses of the configuration → listening sockets.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

/// Connections that the kernel holds until they are accepted: a thousand agents return at once after a restart.
const BACKLOG: i32 = 1024;

/// Bytes that the kernel holds of what a client does not take: with its default of up to 4 MiB, five hundred slow
/// readers would have 2 GiB of the machine's memory. It still moves 4 MB a second over a line of 50 ms.
const SEND_BUFFER: usize = 208 << 10;

/// Listens on each of these. `[::]` takes IPv4 as well, unless that has an address of its own among them; where a
/// machine has no IPv6 it is `0.0.0.0`.
///
/// # Errors
/// An address cannot be had; the text names it.
pub fn all(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let named = |error: Errno| {
            io::Error::new(io::Error::from(error).kind(), format!("cannot listen on {address}: {error}"))
        };
        let four = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
        let any = address.is_ipv6() && address.ip().is_unspecified();
        let apart =
            addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port() && other.port() != 0);
        let listener = match one(*address, any && !apart) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if any && !apart => one(four, false),
            // Beside one for IPv4 it is not missed.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if any => continue,
            other => other,
        };
        listeners.push(listener.map_err(named)?);
    }
    Ok(listeners)
}

fn one(address: SocketAddr, both: bool) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    if address.is_ipv6() {
        // Said aloud, since a sysctl changes the default.
        sockopt::set_ipv6_v6only(&socket, !both)?;
    }
    // A master that is started again finds connections of the last one waiting for their end.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Connections have it from their listener.
    let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER);
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn listeners(texts: &[&str]) -> Vec<TcpListener> {
        let addresses: Vec<SocketAddr> = texts.iter().map(|text| text.parse().expect(text)).collect();
        all(&addresses).expect("listeners")
    }

    #[test]
    fn one_socket_takes_both_families() {
        let [both] = <[TcpListener; 1]>::try_from(listeners(&["[::]:0"])).expect("one");
        let port = both.local_addr().expect("an address").port();
        TcpStream::connect(("127.0.0.1", port)).expect("by IPv4");
        if both.local_addr().expect("an address").is_ipv6() {
            TcpStream::connect(("::1", port)).expect("by IPv6");
            assert_eq!(both.accept().expect("IPv4").1.ip().to_canonical(), IpAddr::from([127, 0, 0, 1]));
        }
    }

    #[test]
    fn both_families_may_be_named_and_a_taken_address_is() {
        let first = listeners(&["0.0.0.0:0"]);
        let port = first[0].local_addr().expect("an address").port();
        drop(first);
        let both = listeners(&[&format!("0.0.0.0:{port}"), &format!("[::]:{port}")]);
        assert!(!both.is_empty());
        let taken = all(&[format!("0.0.0.0:{port}").parse().expect("an address")]).expect_err("taken");
        assert!(taken.to_string().starts_with(&format!("cannot listen on 0.0.0.0:{port}: ")), "{taken}");
    }
}
