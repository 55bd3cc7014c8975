//! Every protocol against boards that are no loader, or none any more: what babbles, echoes, boots again and again, or is silent ends
//! it within a time, with few words, and with nothing erased.

use crate::line::{Peer, carry, image};
use sai_buddy::flash::stk500::{self, Stk500};
use sai_buddy::flash::stm32::{self, Stm32};
use sai_buddy::flash::uboot::{self, Uboot};
use sai_buddy::flash::ymodem::{Kind, Sender};
use sai_buddy::flash::{Flasher, Output, Whose};
use sai_core::bench::{self, Target};
use sai_core::limits::Millis;
use sai_core::pattern::Pattern;

/// Milliseconds within which it is told that nobody can be flashed there: three ways in, of which a U-Boot may count down for a minute.
const GIVEN_UP_MS: Millis = 10 * 60 * 1000;
/// Bytes of what is told at most.
const TOLD_BYTES: usize = 2_000;

/// Something with a UART.
struct Stranger {
    name: &'static str,
    /// What it answers to a byte.
    answers: fn(u8) -> Vec<u8>,
    /// What it says by itself, and in how many milliseconds again.
    says: Vec<u8>,
    every: Millis,
    next: Option<Millis>,
    /// All that it was told.
    told: Vec<u8>,
    now: Millis,
}

impl Peer for Stranger {
    fn byte(&mut self, now: Millis, byte: u8, out: &mut Vec<u8>) {
        self.now = now;
        self.told.push(byte);
        out.extend((self.answers)(byte));
    }

    fn enter(&mut self, now: Millis, out: &mut Vec<u8>) {
        self.tick(now, out);
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<u8>) {
        self.now = now;
        if self.every > 0 {
            out.extend(&self.says);
            self.next = Some(now + self.every);
        }
    }

    fn deadline(&self) -> Option<Millis> {
        self.next
    }
}

fn strangers() -> Vec<Stranger> {
    let stranger = |name, answers, says: &[u8], every| Stranger {
        name,
        answers,
        says: says.to_vec(),
        every,
        next: (every > 0).then_some(10),
        told: Vec::new(),
        now: 0,
    };
    let silent: fn(u8) -> Vec<u8> = |_| Vec::new();
    let echo: fn(u8) -> Vec<u8> = |byte| vec![byte];
    let terminals = "\x1b[2J\x1b]0;name\x07\x1bc\x1b[99999;1H\u{9b}31m\x08\x08\x7f".as_bytes();
    let bootloop = b"\r\nU-Boot 2023.01\r\n\r\nHit any key to stop autoboot:  2 ";
    vec![
        stranger("silent", silent, b"", 0),
        stranger("an echo", echo, b"", 0),
        stranger("zeros for ever", silent, &[0; 500], 100),
        stranger("all bytes for ever", silent, &(0..=255).collect::<Vec<u8>>(), 100),
        stranger("orders for a terminal", silent, terminals, 100),
        stranger("a lone line without an end", silent, &[b'x'; 1_000], 100),
        stranger("a boot loop", silent, bootloop, 700),
        stranger("an echo in a boot loop", echo, bootloop, 700),
        stranger(
            "a shell that knows nothing",
            |byte| if byte == b'\r' { b"\r\n=> ".to_vec() } else { vec![byte] },
            b"=> ",
            900,
        ),
        stranger("prompts for ever", silent, b"\r\n=> ", 50),
        stranger("it begs for ever", silent, b"CCCC", 50),
        stranger("it refuses for ever", |_| vec![0x15, 0x1f], b"", 0),
        stranger("it takes all for ever", |_| vec![0x06, 0x79, 0x14, 0x10], b"", 0),
        stranger("it is busy for ever", |_| vec![0x76], b"", 0),
        stranger("it breaks off", |_| vec![0x18, 0x18], b"C", 500),
    ]
}

fn machines() -> Vec<(&'static str, Box<dyn Flasher>)> {
    let bytes = || image(3_000);
    let pattern = |text| Pattern::new(text).expect("a pattern");
    let uboot = uboot::Settings {
        uboot: bench::Uboot {
            countdown: pattern("stop autoboot"),
            stop: " ".into(),
            prompt: pattern("^=> $"),
            xmodem: false,
            load: 0x4100_0000,
            write: vec!["erase {target} +{size}".into(), "cp.b {load} {target} {size}".into()],
            verifies: true,
            boot: None,
        },
        target: Target { name: "fw".into(), place: String::new(), address: 0x0410_0000, size: None, alternate: None },
        name: "fw.bin".into(),
    };
    let stm32 = stm32::Settings { baud: 115_200, address: 0x0800_0000, room: None, chip: None, all: false, go: false };
    let stk500 = stk500::Settings { baud: 115_200, address: 0, room: None, chip: None, go: true };
    vec![
        ("uboot", Box::new(Uboot::new(uboot, bytes()).expect("an image"))),
        ("stm32", Box::new(Stm32::new(stm32, bytes()).expect("an image"))),
        ("stk500", Box::new(Stk500::new(stk500, bytes()).expect("an image"))),
        ("xmodem", Box::new(Sender::new(Kind::Xmodem, bytes()).expect("an image"))),
        ("ymodem", Box::new(Sender::new(Kind::Ymodem { name: "fw.bin".into() }, bytes()).expect("an image"))),
    ]
}

#[test]
fn no_stranger_is_flashed_or_waited_for_without_an_end_or_talked_about_at_length() {
    for number in 0..machines().len() {
        for mut stranger in strangers() {
            let (protocol, mut machine) = machines().swap_remove(number);
            let what = format!("{protocol}: {}", stranger.name);
            let ended = carry(machine.as_mut(), &mut stranger, None);
            // By chance the bytes of anything may be what a receiver of XMODEM says, which tells of no more than that they came.
            match ended.result {
                Ok(flashed) => assert!(protocol.ends_with("modem") && !flashed.verified, "{what}: {flashed:?}"),
                Err(failure) => {
                    assert!(matches!(failure.whose, Whose::Board | Whose::Wiring), "{what}: {failure:?}");
                    assert_eq!(failure.text.matches(&failure.text[..10]).count(), 1, "{what}: {failure:?}");
                    assert!(
                        !failure.text.contains(char::is_control) && failure.text.len() < 500,
                        "{what}: {failure:?}"
                    );
                }
            }
            assert!(stranger.now < GIVEN_UP_MS, "{what}: after {} s", stranger.now / 1000);
            let told: usize =
                ended.said.iter().map(|said| if let Output::Note(text) = said { text.len() } else { 0 }).sum();
            assert!(told < TOLD_BYTES, "{what}: {told} bytes of notes");
            // Nothing that erases: a command of U-Boot's, or those of AN3155, which come with their complements.
            let erases = |part: &[u8]| match protocol {
                "uboot" => part.starts_with(b"erase"),
                "stm32" => part.starts_with(&[0x43, 0xbc]) || part.starts_with(&[0x44, 0xbb]),
                "stk500" => part.starts_with(&[0x64]),
                _ => false,
            };
            let erased = (0..stranger.told.len()).any(|at| erases(&stranger.told[at..]));
            assert!(!erased, "{what}: it was told to erase");
        }
    }
}
