//! USB devices of the tests → the same, plugged into a machine that reaches them by its network: the kernel's protocol for that
//! (Documentation/usb/usbip_protocol.rst), in which each request of the machine's host controller is a packet.

use crate::gadget::{Gadget, Setup, control};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Time between two looks at what a device has to say while the machine says nothing.
const LOOK: Duration = Duration::from_millis(10);
/// Commands of the machine's: a transfer, and that one is taken back; and what they are answered by.
const SUBMIT: u32 = 1;
const UNLINK: u32 = 2;
const SUBMITTED: u32 = 3;
const UNLINKED: u32 = 4;
/// The kernel's numbers for a refusal (EPIPE), and a transfer that was taken back (ECONNRESET).
const STALL: i32 = -32;
const TAKEN_BACK: i32 = -104;

/// A device that is to be plugged in where somebody connects to its port.
pub struct Plug<G> {
    pub port: u16,
    gadget: Arc<Mutex<G>>,
}

impl<G: Gadget + 'static> Plug<G> {
    pub fn new(gadget: G) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let gadget = Arc::new(Mutex::new(gadget));
        let other = Arc::clone(&gadget);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let gadget = Arc::clone(&other);
                thread::spawn(move || serve(&stream, &gadget));
            }
        });
        Plug { port, gadget }
    }

    /// Looks at the device, or changes it.
    pub fn with<T>(&self, does: impl FnOnce(&mut G) -> T) -> T {
        does(&mut self.gadget.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A packet of the machine's, of 48 bytes; numbers are big-endian, but for the setup packet's.
struct Packet([u8; 48]);

impl Packet {
    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.0[at..at + 4].try_into().expect("four bytes"))
    }

    fn setup(&self) -> Setup {
        let word = |at: usize| u16::from_le_bytes([self.0[at], self.0[at + 1]]);
        Setup { kind: self.0[40], request: self.0[41], value: word(42), index: word(44), length: word(46) }
    }
}

/// An answer: what became of a transfer, or of taking one back.
fn answer(mut stream: &TcpStream, command: u32, number: u32, status: i32, count: usize, bytes: &[u8]) -> Option<()> {
    let mut packet = Vec::new();
    for word in [command, number, 0, 0, 0, status as u32, count as u32, 0, 0, 0, 0, 0] {
        packet.extend_from_slice(&word.to_be_bytes());
    }
    packet.extend_from_slice(bytes);
    stream.write_all(&packet).ok()
}

/// Is the device at one end, up to when it leaves or the other end goes.
fn serve<G: Gadget>(stream: &TcpStream, gadget: &Mutex<G>) {
    let _ = stream.set_nodelay(true);
    let mut waiting: Vec<Waiting> = Vec::new();
    while one(stream, gadget, &mut waiting).is_some() {}
    let _ = stream.shutdown(Shutdown::Both);
}

/// A transfer to the machine that waits for what its endpoint has to say: its number, and bytes at most.
struct Waiting {
    endpoint: u32,
    number: u32,
    length: usize,
}

/// Gives what the device has to say to the transfers that wait for it.
fn give<G: Gadget>(stream: &TcpStream, gadget: &mut G, waiting: &mut Vec<Waiting>) -> Option<()> {
    let mut at = 0;
    while let Some(next) = waiting.get(at) {
        match gadget.give(next.endpoint) {
            Some(mut said) => {
                let Waiting { number, length, .. } = waiting.remove(at);
                said.truncate(length);
                answer(stream, SUBMITTED, number, 0, said.len(), &said)?;
                // What another endpoint has may have waited for this.
                at = 0;
            }
            None => at += 1,
        }
    }
    Some(())
}

fn one<G: Gadget>(mut stream: &TcpStream, gadget: &Mutex<G>, waiting: &mut Vec<Waiting>) -> Option<()> {
    stream.set_read_timeout(Some(LOOK)).ok()?;
    match stream.peek(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            return give(stream, &mut *gadget.lock().unwrap_or_else(PoisonError::into_inner), waiting);
        }
        seen => drop(seen.ok()?),
    }
    stream.set_read_timeout(None).ok()?;
    let mut packet = Packet([0; 48]);
    stream.read_exact(&mut packet.0).ok()?;
    let (command, number, to_host, endpoint) =
        (packet.number(0), packet.number(4), packet.number(12) == 1, packet.number(16));
    if command == UNLINK {
        let meant = packet.number(20);
        let before = waiting.len();
        waiting.retain(|other| other.number != meant);
        let status = if waiting.len() < before { TAKEN_BACK } else { 0 };
        return answer(stream, UNLINKED, number, status, 0, &[]);
    }
    assert_eq!(command, SUBMIT);
    let length = packet.number(24) as usize;
    let mut bytes = vec![0; if to_host { 0 } else { length }];
    stream.read_exact(&mut bytes).ok()?;
    let mut gadget = gadget.lock().unwrap_or_else(PoisonError::into_inner);
    match (endpoint, to_host) {
        (0, _) => {
            let setup = packet.setup();
            // The controller tells nobody that it resets its bus, but asks anew what is there.
            if (setup.kind, setup.request, setup.value >> 8) == (0x80, 6, 1) && gadget.waits_for_reset() {
                gadget.reset();
            }
            let said = control(&mut *gadget, setup, &bytes);
            let left = gadget.has_left();
            match said {
                Some(said) if to_host => answer(stream, SUBMITTED, number, 0, said.len(), &said)?,
                Some(_) => answer(stream, SUBMITTED, number, 0, length, &[])?,
                // Whoever pulls the plug says no word.
                None if left => return None,
                None => answer(stream, SUBMITTED, number, STALL, 0, &[])?,
            }
            if left {
                return None;
            }
        }
        (_, true) => waiting.push(Waiting { endpoint, number, length }),
        (_, false) => {
            gadget.take(&bytes);
            answer(stream, SUBMITTED, number, 0, length, &[])?;
        }
    }
    give(stream, &mut *gadget, waiting)?;
    (!gadget.has_left()).then_some(())
}
