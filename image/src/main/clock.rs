//! Names of time servers → the machine's clock, for as long as it is on: a process of its own, started again like any other.

use crate::machine;
use crate::tell::tell;
use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use sai_init::sntp::{LENGTH, PORT, answer, request};
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

/// The word that this program is started with for it.
pub const WORD: &str = "time";
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// The first pause after a round in which nobody answered, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(64));
/// The pause after an answer: clocks of such boards go wrong by seconds a day.
const STEADY: Duration = Duration::from_secs(1800);
/// Nanoseconds by which the clock may be wrong before it is set, 250 ms: the way to the server and back is not measured.
const WRONG: i128 = 250_000_000;

/// Asks one server after the other until one answers, and again later.
pub fn serve(servers: &[OsString]) -> ExitCode {
    let (mut pause, mut told) = (PAUSES.0, false);
    loop {
        let mut failures = Vec::new();
        let heard = servers.iter().any(|server| {
            let server = server.to_string_lossy();
            ask(&server).map_err(|error| failures.push(format!("{server}: {error}"))).is_ok()
        });
        if heard {
            (pause, told) = (PAUSES.0, false);
            std::thread::sleep(STEADY);
            continue;
        }
        // Once for each time that nobody answers: the network may come minutes later.
        if !told && pause >= PAUSES.1 {
            told = true;
            tell(&format!("time: nobody answers: {}", failures.join("; ")));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

fn ask(server: &str) -> io::Result<()> {
    let mut failure = io::Error::other("the name has no address");
    for address in (server, PORT).to_socket_addrs()? {
        let socket = if address.is_ipv4() {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?
        } else {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?
        };
        match exchange(&socket, address) {
            Ok((seconds, nanoseconds)) => return set(server, seconds, nanoseconds),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn exchange(socket: &UdpSocket, address: std::net::SocketAddr) -> io::Result<(i64, u32)> {
    let mut mark = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut mark)?;
    let mark = u64::from_ne_bytes(mark);
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(address)?;
    socket.send(&request(mark))?;
    let mut packet = [0; LENGTH];
    let length = socket.recv(&mut packet)?;
    answer(&packet[..length], mark).map_err(io::Error::other)
}

fn set(server: &str, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    let now = clock_gettime(ClockId::Realtime);
    let whole = |seconds: i64, nanoseconds: i128| i128::from(seconds) * 1_000_000_000 + nanoseconds;
    let off = whole(seconds, nanoseconds.into()) - whole(now.tv_sec, i128::from(now.tv_nsec));
    if off.abs() >= WRONG {
        clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() })?;
        tell(&format!("the clock is set by {server}: it was wrong by {} ms", off / 1_000_000));
    }
    machine::keep_clock();
    Ok(())
}
