//! U-Boot on an emulated Arm board, with its NOR flash in a file: the countdown stopped, an image sent, written and summed up.

use crate::arm::{Board, PLACE};
use crate::console::{Console, PLACE as CONSOLE_PLACE};
use crate::line::{carry, faults, image};
use crate::pty::{FilePort, open};
use sai_buddy::flash::uboot::{Settings, Uboot};
use sai_buddy::flash::{Failure, Flashed, Flasher, Input, Output, Whose};
use sai_buddy::flashing::{Event, Port, flash};
use sai_core::bench;
use sai_core::pattern::Pattern;
use std::io;
use std::time::Duration;

fn settings(write: &[&str], verifies: bool) -> Settings {
    let pattern = |text| Pattern::new(text).expect("a pattern");
    Settings {
        uboot: bench::Uboot {
            countdown: pattern("stop autoboot"),
            stop: " ".into(),
            prompt: pattern("^=> $"),
            load: 0x4100_0000,
            xmodem: false,
            write: write.iter().map(ToString::to_string).collect(),
            verifies,
            boot: Some("echo begins at {target}".into()),
        },
        target: bench::Target {
            name: "fw".into(),
            place: String::new(),
            address: PLACE,
            size: Some(1 << 20),
            alternate: None,
        },
        name: "fw.bin".into(),
    }
}

const TO_NOR: &[&str] = &["protect off {target} +{size}", "erase {target} +{size}", "cp.b {load} {target} {size}"];

/// A port that changes some bytes on their way to the board, or loses them.
struct Noisy<'a> {
    port: FilePort<'a>,
    sent: usize,
    flip: Vec<usize>,
    lose: Vec<usize>,
}

impl Port for Noisy<'_> {
    fn wait(&mut self, buffer: &mut [u8], within: Duration) -> io::Result<Event> {
        self.port.wait(buffer, within)
    }
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut changed = Vec::new();
        for byte in bytes {
            if !self.lose.contains(&self.sent) {
                changed.push(if self.flip.contains(&self.sent) { byte ^ 0x10 } else { *byte });
            }
            self.sent += 1;
        }
        self.port.send(&changed)
    }
    fn type_slowly(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.port.send(bytes)
    }
    fn enter(&mut self) -> io::Result<()> {
        self.port.enter()
    }
}

fn run(
    board: &mut Board,
    settings: Settings,
    image: &[u8],
    noise: (Vec<usize>, Vec<usize>),
) -> (Result<Flashed, Failure>, Vec<Output>) {
    let mut machine = Uboot::new(settings, image.to_vec()).expect("an image that may be one");
    let tty = open(&board.tty());
    let port = FilePort::new(tty, || board.reset());
    let mut port = Noisy { port, sent: 0, flip: noise.0, lose: noise.1 };
    let mut said = Vec::new();
    let result = flash(&mut machine, &mut port, Duration::from_secs(60), &mut |output| {
        if !matches!(output, Output::Send(_)) {
            said.push(output.clone());
        }
    });
    (result, said)
}

#[test]
fn an_image_gets_into_the_nor_flash_of_a_real_u_boot() {
    let mut board = Board::new("nor", &[]);
    let image = image(5000);
    // Changed and lost on the way: in the header, in the first block of data and in the third.
    let noise = ([40, 700].to_vec(), [2500].to_vec());
    let (result, said) = run(&mut board, settings(TO_NOR, true), &image, noise);
    let flashed = result.unwrap_or_else(|failure| panic!("{failure:?}\n{said:?}"));
    assert!(flashed.verified);
    assert!(board.holds(PLACE, 5000) == image);
    // By the other protocol, whose end is padded in the board's memory and not at its place.
    let mut by_xmodem = settings(TO_NOR, true);
    by_xmodem.uboot.xmodem = true;
    let other = crate::line::image(3000).into_iter().rev().collect::<Vec<_>>();
    let noise = ([60, 900].to_vec(), [2000].to_vec());
    let (result, said) = run(&mut board, by_xmodem, &other, noise);
    assert!(result.as_ref().is_ok_and(|flashed| flashed.verified), "{result:?}\n{said:?}");
    assert!(board.holds(PLACE, 3000) == other && board.holds(PLACE, 3001)[3000] == 0xff);
    let (result, said) = run(&mut board, settings(TO_NOR, true), &image, (Vec::new(), Vec::new()));
    assert!(result.is_ok(), "{result:?}\n{said:?}");
    // A command that fails is told of.
    let bad = ["protect off {target} +{size}", "cp.b {load} {target}"];
    let (result, _) = run(&mut board, settings(&bad, true), &image[..100], (Vec::new(), Vec::new()));
    let failure = result.expect_err("a command without its last argument");
    assert!(failure.whose == Whose::Board && failure.text.contains("cp.b 41000000 4100000"), "{failure:?}");
    // Written to the wrong place: what is at the right one differs, and that is found.
    let wrong = ["protect off 4180000 +{size}", "erase 4180000 +{size}", "cp.b {load} 4180000 {size}"];
    let (result, _) = run(&mut board, settings(&wrong, true), &image[100..200], (Vec::new(), Vec::new()));
    let failure = result.expect_err("it is somewhere else");
    assert!(failure.whose == Whose::Board && failure.text.contains("differs"), "{failure:?}");
    assert!(board.holds(PLACE, 5000) == image);
}

#[test]
fn a_prompt_of_before_the_reset_is_not_typed_at() {
    let mut machine = Uboot::new(settings(TO_NOR, true), image(100)).expect("an image that may be one");
    let mut out = Vec::new();
    let typed = |out: &mut Vec<Output>| {
        let all = out.drain(..).filter_map(|output| if let Output::Type(bytes) = output { Some(bytes) } else { None });
        String::from_utf8_lossy(&all.collect::<Vec<_>>().concat()).into_owned()
    };
    machine.handle(0, Input::Begin, &mut out);
    machine.handle(10, Input::Bytes(b"\r\n=> "), &mut out);
    machine.handle(5_000, Input::Tick, &mut out);
    assert_eq!(typed(&mut out), "");
    // The way there is at its end; what the board said before may be its prompt still, which it says again when it is asked.
    machine.handle(6_000, Input::Entered, &mut out);
    machine.handle(9_000, Input::Tick, &mut out);
    assert_eq!(typed(&mut out), "\x03");
    machine.handle(9_001, Input::Bytes(b"<INTERRUPT>\r\n=> "), &mut out);
    assert_eq!(typed(&mut out), "true;echo sai$?");
}

/// A way in that ends with a wait may be longer than the countdown, and the reset may come in the middle of another one.
#[test]
fn a_countdown_is_stopped_before_the_way_in_is_at_its_end() {
    let mut machine = Uboot::new(settings(TO_NOR, true), image(100)).expect("an image that may be one");
    let mut out = Vec::new();
    machine.handle(0, Input::Begin, &mut out);
    machine.handle(10, Input::Bytes(b"Hit any key to stop autoboot:  2 "), &mut out);
    assert!(out.contains(&Output::Type(b" ".to_vec())), "{out:?}");
    out.clear();
    machine.handle(20, Input::Bytes(b"\x08\x08\x08 0 \r\n=> "), &mut out);
    assert_eq!(out, []);
    machine.handle(30, Input::Entered, &mut out);
    machine.handle(260, Input::Tick, &mut out);
    assert_eq!(out, [Output::Type(b" \x03".to_vec())]);
    machine.handle(270, Input::Bytes(b"\r\nU-Boot\r\n=> <INTERRUPT>\r\n=> "), &mut out);
    assert_eq!(out.last(), Some(&Output::Type(b"true;echo sai$?".to_vec())));
}

/// A power supply may be given minutes, and nothing is begun anew meanwhile, whatever the board was at before.
#[test]
fn a_way_in_may_be_long() {
    let mut machine = Uboot::new(settings(TO_NOR, true), image(100)).expect("an image that may be one");
    let mut out = Vec::new();
    machine.handle(0, Input::Begin, &mut out);
    assert_eq!((&out[..], machine.deadline()), (&[Output::Enter][..], None));
    machine.handle(10, Input::Bytes(b"Hit any key to stop autoboot:  2 "), &mut out);
    while let Some(at) = machine.deadline() {
        machine.handle(at, Input::Tick, &mut out);
    }
    assert_eq!(out.iter().filter(|output| **output == Output::Enter).count(), 1, "{out:?}");
    out.clear();
    machine.handle(500_000, Input::Entered, &mut out);
    machine.handle(500_010, Input::Bytes(b"\r\nHit any key to stop autoboot:  2 "), &mut out);
    assert_eq!(out, [Output::Type(b" ".to_vec())]);
}

/// What is said to the board that is none but a console.
fn at_console(boot: &str) -> Settings {
    let mut settings = settings(&["erase {target} +{size}", "cp.b {load} {target} {size}"], true);
    settings.uboot.boot = Some(boot.into());
    settings.target.address = CONSOLE_PLACE as u32;
    settings
}

#[test]
fn one_bad_byte_anywhere_never_makes_a_wrong_image_good_nor_erases_another_place() {
    let image = image(100);
    for xmodem in [false, true] {
        let machine = || {
            let mut settings = at_console("bootm {target}");
            settings.uboot.xmodem = xmodem;
            Uboot::new(settings, image.clone()).expect("an image that may be one")
        };
        let mut console = Console::new();
        let ended = carry(&mut machine(), &mut console, None);
        assert!(ended.result.expect("flashed").verified && console.booted && console.astray == 0);
        let (mut all, mut well) = (0, 0);
        for fault in faults(ended.bytes) {
            let mut console = Console::new();
            let ended = carry(&mut machine(), &mut console, Some(fault));
            all += 1;
            assert_eq!(console.astray, 0, "{fault:?}");
            if ended.result.is_ok() {
                well += 1;
                assert!(console.flash[..100] == image, "{fault:?}");
            }
        }
        // What is not known to have been done is not done twice.
        assert!(well * 100 >= all * 80, "{well} of {all}");
        println!("{well} of {all}");
    }
}

#[test]
fn what_a_u_boot_cannot_or_will_not_is_said() {
    let run = |settings: Settings, console: &mut Console| {
        let mut machine = Uboot::new(settings, image(100)).expect("an image that may be one");
        carry(&mut machine, console, None).result.expect_err("it cannot be")
    };
    let failure = run(at_console("bootm {target}"), &mut Console { worn: true, ..Console::new() });
    assert!(failure.whose == Whose::Board && failure.text.contains("differs"), "{failure:?}");
    let mut keyed = at_console("bootm {target}");
    keyed.uboot.countdown = Pattern::new("Press SPACE").expect("a pattern");
    let failure = run(keyed, &mut Console::new());
    assert!(failure.whose == Whose::Board && failure.text.contains("Starting kernel"), "{failure:?}");
    // 1 GiB, nothing at all, more than its place has, and a line that no board takes.
    for length in [0, 65 << 20, (1 << 20) + 1] {
        let failure = Uboot::new(settings(TO_NOR, true), vec![0; length]).expect_err("no image");
        assert_eq!(failure.whose, Whose::Image);
    }
    let long = "x".repeat(250);
    assert_eq!(Uboot::new(settings(&[&long], true), image(9)).expect_err("too long").whose, Whose::Tool);
}
