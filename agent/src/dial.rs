//! Names of hosts → addresses → the first TCP connection that one of them takes ("happy eyeballs", RFC 8305).

use crate::blocking::unblock;
use smol::Timer;
use smol::future::{self, FutureExt as _};
use smol::net::TcpStream;
use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// Addresses of one name that are tried: a name with more has a problem of its own.
const ADDRESSES: usize = 16;
/// Time after which the next address is tried beside those that have not answered yet: RFC 8305 §5.
const STAGGER: Duration = Duration::from_millis(250);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// An address, and which of the hosts has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the host.
    pub host: usize,
    /// The address.
    pub address: SocketAddr,
}

/// Looks all hosts up at once, for so long at most. The candidates are in the hosts' order, and those of one host take
/// turns of IPv6 and IPv4, the first as the system has it (RFC 8305 §4).
///
/// # Errors
/// Why no host has an address.
pub async fn look_up(hosts: &[(usize, String, u16)], limit: Duration) -> Result<VecDeque<Candidate>, String> {
    type Found = io::Result<Vec<SocketAddr>>;
    let mut lookups: Vec<(usize, Option<Found>, Boxed<Found>)> = Vec::new();
    for (host, name, port) in hosts {
        let (name, port) = (name.clone(), *port);
        let work = unblock(move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter));
        lookups.push((*host, None, Box::pin(work)));
    }
    let all = future::poll_fn(|context| {
        let mut waiting = false;
        for (_, found, lookup) in lookups.iter_mut().filter(|(_, found, _)| found.is_none()) {
            match lookup.as_mut().poll(context) {
                Poll::Ready(result) => *found = Some(result),
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    });
    let late = async {
        Timer::after(limit).await;
    };
    all.or(late).await;
    let (mut candidates, mut why) = (VecDeque::new(), "the name has no address".to_owned());
    for (host, found, _) in lookups {
        match found {
            Some(Ok(addresses)) => {
                let addresses = interleave(addresses).into_iter().take(ADDRESSES);
                candidates.extend(addresses.map(|address| Candidate { host, address }));
            }
            Some(Err(error)) => why = error.to_string(),
            None => "nobody says what address the name has".clone_into(&mut why),
        }
    }
    if candidates.is_empty() { Err(why) } else { Ok(candidates) }
}

fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut out, mut second) = (Vec::new(), second.into_iter());
    for address in first {
        out.push(address);
        out.extend(second.next());
    }
    out.extend(second);
    out
}

/// Connects to the first candidate that answers. The next is tried when the one before fails, or has not answered for
/// [`STAGGER`]. What failed is taken out of the list, and so is the one that answered; those that had not yet stay.
///
/// # Errors
/// Why the last of them failed.
pub async fn first(candidates: &mut VecDeque<Candidate>, limit: Duration) -> Result<(TcpStream, Candidate), String> {
    enum Event {
        Ended(usize, io::Result<TcpStream>),
        Next,
        Late,
    }
    let mut attempts: Vec<(Candidate, Boxed<io::Result<TcpStream>>)> = Vec::new();
    let mut why = "no address is left".to_owned();
    let mut late = Timer::after(limit);
    let mut start = true;
    loop {
        if start && let Some(candidate) = candidates.pop_front() {
            attempts.push((candidate, Box::pin(TcpStream::connect(candidate.address))));
        }
        if attempts.is_empty() {
            return Err(why);
        }
        let more = !candidates.is_empty();
        let ended = future::poll_fn(|context| {
            for (index, (_, attempt)) in attempts.iter_mut().enumerate() {
                if let Poll::Ready(result) = attempt.as_mut().poll(context) {
                    return Poll::Ready(Event::Ended(index, result));
                }
            }
            Poll::Pending
        });
        let next = async {
            if !more {
                future::pending::<()>().await;
            }
            Timer::after(STAGGER).await;
            Event::Next
        };
        let over = async {
            (&mut late).await;
            Event::Late
        };
        start = true;
        match ended.or(next).or(over).await {
            Event::Ended(index, result) => {
                let (candidate, _) = attempts.swap_remove(index);
                match result {
                    Ok(stream) => {
                        attempts.into_iter().rev().for_each(|(candidate, _)| candidates.push_front(candidate));
                        return Ok((stream, candidate));
                    }
                    Err(error) => why = error.to_string(),
                }
            }
            Event::Next => {}
            Event::Late => {
                candidates.clear();
                return Err(format!("no answer within {}", seconds(limit)));
            }
        }
    }
}

/// A time in seconds, with tenths where there are any. (Those of floating point cost 10 KB of program.)
pub(crate) fn seconds(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis() / 100) {
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let read =
            |text: &str| text.split(' ').map(|text| text.parse().expect("an address")).collect::<Vec<SocketAddr>>();
        let mixed = read("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1");
        assert_eq!(interleave(mixed), read("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1"));
        let four = read("1.1.1.1:1 [::1]:1 2.2.2.2:1");
        assert_eq!(interleave(four), read("1.1.1.1:1 [::1]:1 2.2.2.2:1"));
        assert!(interleave(Vec::new()).is_empty());
    }

    #[test]
    fn the_last_of_many_addresses_is_reached_and_silent_ones_hold_nobody_up() {
        smol::block_on(async {
            let listener = smol::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("its address").port();
            // A listener whose queue is full answers nobody, as one behind a firewall does not.
            let silent = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .expect("a socket");
            let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
            rustix::net::bind(&silent, &any).expect("a port");
            rustix::net::listen(&silent, 0).expect("a listener");
            let silent: SocketAddr =
                rustix::net::getsockname(&silent).map(|name| name.try_into().expect("an address")).expect("its name");
            let mut held = Vec::new();
            for _ in 0..4 {
                let connecting = async { TcpStream::connect(silent).await.ok() };
                let late = async {
                    Timer::after(Duration::from_millis(50)).await;
                    None
                };
                held.push(connecting.or(late).await);
            }
            let refused: SocketAddr = "127.0.0.1:1".parse().expect("an address");
            let good: SocketAddr = format!("127.0.0.1:{port}").parse().expect("an address");
            let list = [refused, silent, refused, refused, refused, good];
            let mut candidates: VecDeque<Candidate> =
                list.into_iter().enumerate().map(|(host, address)| Candidate { host, address }).collect();
            let (_, found) = first(&mut candidates, Duration::from_secs(60)).await.expect("a connection");
            assert_eq!((found.host, found.address), (5, good));
            let mut none: VecDeque<Candidate> = [refused; 3].map(|address| Candidate { host: 0, address }).into();
            assert!(first(&mut none, Duration::from_secs(60)).await.expect_err("nobody").contains("refused"));
        });
    }
}
