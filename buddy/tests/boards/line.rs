//! A machine and a peer, joined by a line with at most one fault → how it ended. Time is counted, not waited for.

use sai_buddy::flash::{Failure, Flashed, Flasher, Input, Output};
use sai_core::limits::Millis;

/// Milliseconds after which a transfer of a few bytes hangs.
const HANG_MS: Millis = 30 * 60 * 1000;
/// Outputs after which it goes on for ever.
const STEPS_MAX: usize = 200_000;

/// The other end of the line.
pub trait Peer {
    /// Takes one byte; what it says is appended to `out`.
    fn byte(&mut self, now: Millis, byte: u8, out: &mut Vec<u8>);
    /// It is reset into its loader.
    fn enter(&mut self, now: Millis, out: &mut Vec<u8>);
    /// The time told by `deadline` has come.
    fn tick(&mut self, _now: Millis, _out: &mut Vec<u8>) {}
    /// When it wants to be ticked.
    fn deadline(&self) -> Option<Millis> {
        None
    }
}

/// What happens to a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// These bits are changed.
    Flip(u8),
    /// It is lost.
    Drop,
    /// It comes twice.
    Double,
}

/// Which byte it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whether it is one of ours, or one of the peer's.
    pub ours: bool,
    /// Bytes before it in that direction.
    pub at: usize,
    /// What happens.
    pub kind: Kind,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// What the machine says.
    pub result: Result<Flashed, Failure>,
    /// Bytes of ours, and of the peer's.
    pub bytes: (usize, usize),
    /// What it said on the way.
    pub said: Vec<Output>,
}

/// Carries a machine out.
pub fn carry(machine: &mut dyn Flasher, peer: &mut dyn Peer, fault: Option<Fault>) -> Ended {
    let mut now = 0;
    let mut bytes = (0, 0);
    let mut said = Vec::new();
    let mut waiting = Vec::new();
    machine.handle(now, Input::Begin, &mut waiting);
    for _ in 0..STEPS_MAX {
        assert!(now < HANG_MS, "it hangs: {fault:?}");
        let mut heard = Vec::new();
        let mut entered = false;
        for output in std::mem::take(&mut waiting) {
            match &output {
                Output::Enter => {
                    peer.enter(now, &mut heard);
                    entered = true;
                }
                Output::Send(sent) | Output::Type(sent) => {
                    for byte in faulty(sent, true, &mut bytes.0, fault) {
                        peer.byte(now, byte, &mut heard);
                    }
                }
                Output::Done(flashed) => return Ended { result: Ok(*flashed), bytes, said },
                Output::Failed(failure) => return Ended { result: Err(failure.clone()), bytes, said },
                Output::Transfer(..) => panic!("a line has no transfers"),
                Output::Progress(_) | Output::Note(_) => {}
            }
            said.push(output);
        }
        if entered {
            machine.handle(now, Input::Entered, &mut waiting);
        }
        if heard.is_empty() && waiting.is_empty() {
            let Some(next) = machine.deadline().into_iter().chain(peer.deadline()).min() else {
                panic!("both wait for each other: {fault:?}");
            };
            now = now.max(next);
            if peer.deadline().is_some_and(|deadline| deadline <= now) {
                peer.tick(now, &mut heard);
            }
            if machine.deadline().is_some_and(|deadline| deadline <= now) {
                machine.handle(now, Input::Tick, &mut waiting);
            }
        }
        let heard = faulty(&heard, false, &mut bytes.1, fault);
        if !heard.is_empty() {
            machine.handle(now, Input::Bytes(&heard), &mut waiting);
        }
    }
    panic!("it goes on for ever: {fault:?}");
}

fn faulty(bytes: &[u8], ours: bool, count: &mut usize, fault: Option<Fault>) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in bytes {
        match fault.filter(|fault| fault.ours == ours && fault.at == *count).map(|fault| fault.kind) {
            None => out.push(*byte),
            Some(Kind::Flip(bits)) => out.push(byte ^ bits),
            Some(Kind::Drop) => {}
            Some(Kind::Double) => out.extend([*byte, *byte]),
        }
        *count += 1;
    }
    out
}

/// Every fault of one byte of a transfer with so many of them. Of the flips those that have bitten: the lowest bit, the highest, and
/// what makes a NACK of STM32's acknowledgement, or of XMODEM's.
pub fn faults(bytes: (usize, usize)) -> impl Iterator<Item = Fault> {
    let kinds = [
        Kind::Flip(0x01),
        Kind::Flip(0x80),
        Kind::Flip(0x79 ^ 0x1f),
        Kind::Flip(0x06 ^ 0x15),
        Kind::Drop,
        Kind::Double,
    ];
    let places = (0..bytes.0).map(|at| (true, at)).chain((0..bytes.1).map(|at| (false, at)));
    places.flat_map(move |(ours, at)| kinds.map(|kind| Fault { ours, at, kind }))
}

/// An image with all kinds of bytes in it.
pub fn image(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}
