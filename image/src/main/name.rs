//! This machine's name and its addresses → answers to whoever looks for NAME.local: a process of its own, started again like any other.

use crate::tell::tell;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with, sockopt};
use sai_init::mdns::{self, Answer, GROUP, PACKET_MOST, PORT};
use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// The word that this program is started with for it.
pub const WORD: &str = "name";
/// What the kernel says of addresses (RTMGRP_IPV4_IFADDR), to whoever listens.
const ADDRESSES: u32 = 0x10;
/// How long after the first announcement the second one follows, and how much time is between two answers to everybody at
/// least: RFC 6762.
const PAUSE: Duration = Duration::from_secs(1);
/// Packets that are read of one address before others have their turn.
const TURN: usize = 64;
/// How far packets go: to the next machine, but RFC 6762 wants to see this.
const HOPS: u32 = 255;

/// An address, and what goes on at it.
struct Place {
    address: Ipv4Addr,
    socket: UdpSocket,
    /// When all were told the last time, and whether that is to be done once more.
    told: Instant,
    again: bool,
}

/// Answers for as long as the machine is on.
pub fn serve(words: &[OsString]) -> ExitCode {
    let Some(name) = words.first().map(|word| word.to_string_lossy().into_owned()) else { return ExitCode::from(2) };
    match answer_all(&name) {
        Ok(never) => match never {},
        Err(error) => {
            tell(&format!("{name}.local: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn answer_all(name: &str) -> io::Result<std::convert::Infallible> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Its first protocol, number 0, is that of routes and addresses.
    let changes = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&changes, &SocketAddrNetlink::new(0, ADDRESSES))?;
    let mut places: Vec<Place> = Vec::new();
    let mut warned = false;
    let mut looked = false;
    loop {
        if !looked || has_changed(&changes) {
            looked = true;
            look(name, &mut places);
        }
        let ours: Vec<Ipv4Addr> = places.iter().map(|place| place.address).collect();
        for place in &mut places {
            if place.again && place.told.elapsed() >= PAUSE {
                (place.told, place.again) = (Instant::now(), false);
                send(place, &mdns::announcement(name, place.address), (GROUP, PORT).into());
            }
            let mut packet = vec![0; PACKET_MOST];
            for _ in 0..TURN {
                // It waits for nothing, so all that goes wrong here goes wrong for one packet.
                let Ok((length, from)) = place.socket.recv_from(&mut packet) else { break };
                let bytes = &packet[..length];
                if let Some(other) = mdns::claimed(bytes, name, &ours).filter(|_| !warned) {
                    warned = true;
                    tell(&format!(
                        "{name}.local is also {other}, says another machine: give one of the two another hostname"
                    ));
                }
                match mdns::answer(bytes, from.port(), name, place.address) {
                    Some(Answer::Asker(answer)) => send(place, &answer, from),
                    Some(Answer::Everybody(answer)) if place.told.elapsed() >= PAUSE => {
                        place.told = Instant::now();
                        send(place, &answer, (GROUP, PORT).into());
                    }
                    Some(Answer::Everybody(_)) | None => {}
                }
            }
        }
        let mut events = vec![PollFd::new(&changes, PollFlags::IN)];
        events.extend(places.iter().map(|place| PollFd::from_borrowed_fd(place.socket.as_fd(), PollFlags::IN)));
        let waits = places.iter().any(|place| place.again).then_some(Timespec { tv_sec: 1, tv_nsec: 0 });
        // Interrupted or not: what has happened is looked for above.
        let _ = poll(&mut events, waits.as_ref());
    }
}

/// What exactly was said is of no consequence: it is looked at what there is now.
fn has_changed(changes: &OwnedFd) -> bool {
    let (mut message, mut changed) = ([0; 8 << 10], false);
    while recv(changes, &mut message, RecvFlags::DONTWAIT).is_ok() {
        changed = true;
    }
    changed
}

/// Leaves addresses that are gone, and begins at those that have come.
fn look(name: &str, places: &mut Vec<Place>) {
    let list = Command::new("/bin/busybox").args(["ip", "-o", "-4", "address"]).output();
    let list = match list {
        Ok(list) => mdns::addresses(&String::from_utf8_lossy(&list.stdout)),
        Err(error) => return tell(&format!("{name}.local: {error}")),
    };
    places.retain(|place| list.contains(&place.address));
    for address in list {
        if places.iter().any(|place| place.address == address) {
            continue;
        }
        match open(address) {
            Ok(socket) => {
                let place = Place { address, socket, told: Instant::now(), again: true };
                send(&place, &mdns::announcement(name, address), (GROUP, PORT).into());
                tell(&format!("{name}.local is {address}"));
                places.push(place);
            }
            Err(error) => tell(&format!("{name}.local at {address}: {error}")),
        }
    }
}

fn open(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    // One for each address, all at the same port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
    sockopt::set_ip_multicast_if(&socket, &address)?;
    sockopt::set_ip_multicast_ttl(&socket, HOPS)?;
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&GROUP, &address)?;
    Ok(socket)
}

/// Who does not hear it asks again.
fn send(place: &Place, packet: &[u8], to: SocketAddr) {
    let _ = place.socket.send_to(packet, to);
}
