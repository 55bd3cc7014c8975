//! STM32: our client against a loader written from the note, which stock tools take for one, and over lines with faults.

use crate::line::{Ended, Peer, carry, faults, image};
use crate::pty::{FilePort, Pty, Served, open};
use crate::rom::Rom;
use sai_buddy::flash::stm32::{Settings, Stm32};
use sai_buddy::flash::{Output, Phase, Whose};
use sai_buddy::flashing::flash;
use sai_core::limits::Millis;
use std::process::Command;
use std::time::{Duration, Instant};

const FLASH: u32 = 0x0800_0000;
const F103: u16 = 0x410;
const F405: u16 = 0x413;

fn settings() -> Settings {
    Settings { baud: 115_200, address: FLASH, room: None, chip: None, all: false, go: false }
}

fn run(rom: &mut Rom, settings: Settings, image: &[u8]) -> Ended {
    let mut machine = Stm32::new(settings, image.to_vec()).expect("an image that may be one");
    carry(&mut machine, rom, None)
}

#[test]
fn an_image_is_erased_for_written_and_read_back() {
    for extended in [true, false] {
        let mut rom = Rom { extended, ..Rom::new(F103) };
        let image = image(3000);
        let ended = run(&mut rom, Settings { chip: Some(0x410), ..settings() }, &image);
        let flashed = ended.result.expect("flashed");
        assert_eq!((flashed.chip, flashed.verified), (Some(0x410), true));
        assert_eq!(rom.flash[..3000], image);
        // Three pages of 1 KiB, and none of what is behind.
        assert_eq!((rom.flash[3071], rom.flash[3072], rom.overwritten), (0xff, 0x5a, 0));
        let phases: Vec<Phase> = ended
            .said
            .iter()
            .filter_map(|said| match said {
                Output::Progress(progress) if progress.done == progress.of => Some(progress.phase),
                _ => None,
            })
            .collect();
        assert_eq!(phases, [Phase::Erase, Phase::Write, Phase::Verify]);
    }
}

#[test]
fn an_image_beside_another_leaves_that_alone_and_ram_is_not_erased() {
    let mut rom = Rom::new(F405);
    let image = image(100);
    run(&mut rom, Settings { address: FLASH + 0x8000, ..settings() }, &image).result.expect("flashed");
    assert_eq!(rom.flash[0x8000..0x8064], image);
    assert_eq!((rom.flash[0x7fff], rom.flash[0xc000], rom.erased), (0x5a, 0x5a, 1));
    let mut rom = Rom::new(F405);
    run(&mut rom, Settings { address: 0x2000_0200, go: true, ..settings() }, &image).result.expect("loaded");
    assert_eq!((rom.erased, rom.started), (0, Some(0x2000_0200)));
    assert_eq!(rom.ram[0x200..0x264], image);
}

#[test]
fn nothing_is_erased_for_what_cannot_be() {
    for (length, whose) in [(0, Whose::Image), (65 << 20, Whose::Image)] {
        assert_eq!(Stm32::new(settings(), vec![1; length]).map_err(|failure| failure.whose).err(), Some(whose));
    }
    let small = Settings { room: Some(99), ..settings() };
    assert_eq!(Stm32::new(small, image(100)).map_err(|failure| failure.whose).err(), Some(Whose::Image));
    let mut cases = vec![
        // Another board is in this place.
        (Settings { chip: Some(0x413), ..settings() }, image(100), F103, Whose::Wiring),
        // More than the part has.
        (settings(), image(129 * 1024), F103, Whose::Image),
        // In the middle of a page.
        (Settings { address: FLASH + 0x100, ..settings() }, image(100), F103, Whose::Image),
    ];
    for (settings, image, id, whose) in cases.drain(..) {
        let mut rom = Rom::new(id);
        let failure = run(&mut rom, settings, &image).result.expect_err("it cannot be");
        assert_eq!((failure.whose, rom.erased), (whose, 0), "{}", failure.text);
        assert!(failure.text.contains("nothing was erased"), "{}", failure.text);
        assert!(rom.flash.iter().all(|byte| *byte == 0x5a));
    }
}

#[test]
fn a_protected_or_worn_part_is_told_of() {
    let mut rom = Rom { protected: true, ..Rom::new(F103) };
    let failure = run(&mut rom, settings(), &image(300)).result.expect_err("it is protected");
    assert_eq!(failure.whose, Whose::Board);
    assert!(failure.text.contains("refuses to write at 0x08000000"), "{}", failure.text);
    let mut rom = Rom { worn: Some(260), ..Rom::new(F103) };
    let failure = run(&mut rom, settings(), &[0x40; 300]).result.expect_err("a bit is stuck");
    assert_eq!(failure.whose, Whose::Board);
    assert!(failure.text.contains("0x08000104 holds 41 where 40 was written"), "{}", failure.text);
}

#[test]
fn one_bad_byte_anywhere_never_makes_a_wrong_image_good() {
    let image = image(280);
    let settings = Settings { chip: Some(0x410), ..settings() };
    let bytes = run(&mut Rom::new(F103), settings.clone(), &image).bytes;
    let (mut all, mut well) = (0, 0);
    for fault in faults(bytes) {
        let mut rom = Rom::new(F103);
        let mut machine = Stm32::new(settings.clone(), image.clone()).expect("an image");
        let ended = carry(&mut machine, &mut rom, Some(fault));
        all += 1;
        match ended.result {
            Ok(_) => {
                well += 1;
                assert_eq!(rom.flash[..280], image, "{fault:?}");
                assert_eq!(rom.overwritten, 0, "{fault:?}: memory was written twice");
            }
            Err(failure) => assert!(matches!(failure.whose, Whose::Wiring | Whose::Board), "{fault:?}: {failure:?}"),
        }
    }
    // A changed chip id is rightly another chip; nearly everything else is mended.
    assert!(well * 100 >= all * 95, "{well} of {all}");
}

/// What is no loader.
struct Other(fn(u8) -> Vec<u8>);

impl Peer for Other {
    fn byte(&mut self, _now: Millis, byte: u8, out: &mut Vec<u8>) {
        out.extend(self.0(byte));
    }
    fn enter(&mut self, _now: Millis, _out: &mut Vec<u8>) {}
}

#[test]
fn what_is_no_loader_is_said_to_be_none() {
    let cases: [(Other, &str); 5] = [
        (Other(|_| Vec::new()), "nothing answers"),
        (Other(|byte| vec![byte]), "echoes"),
        (Other(|_| b"yes? why? ".to_vec()), "it said"),
        (Other(|_| vec![0x79; 5000]), "talks on and on"),
        (Other(|_| vec![0; 300]), "no loader of ST's"),
    ];
    for (mut other, text) in cases {
        let mut machine = Stm32::new(settings(), image(100)).expect("an image");
        let failure = carry(&mut machine, &mut other, None).result.expect_err("no loader is there");
        assert!(failure.whose == Whose::Wiring && failure.text.contains(text), "{failure:?}, not {text}");
    }
}

/// Flashes over a pty and says how long that took.
fn over_a_pty(image: &[u8]) -> (Duration, Rom) {
    let pty = Pty::new();
    let served = Served::new(Rom::new(F405), pty.master.try_clone().expect("a copy"));
    let mut machine = Stm32::new(settings(), image.to_vec()).expect("an image");
    let mut port = FilePort::new(open(&pty.path), || {});
    let began = Instant::now();
    flash(&mut machine, &mut port, Duration::from_secs(100), &mut |_| {}).expect("flashed");
    (began.elapsed(), served.end())
}

/// The same by stm32flash.
fn by_stm32flash(image: &[u8]) -> (Duration, Rom) {
    let pty = Pty::new();
    let served = Served::new(Rom::new(F405), pty.master.try_clone().expect("a copy"));
    let file = std::env::temp_dir().join(format!("sai-stm32-{}.bin", std::process::id()));
    std::fs::write(&file, image).expect("a file");
    let began = Instant::now();
    let command = ["20", "stm32flash", "-m", "8n1", "-b", "115200", "-v", "-w"];
    let output = Command::new("timeout").args(command).arg(&file).arg(&pty.path).output().expect("stm32flash");
    let took = began.elapsed();
    std::fs::remove_file(&file).expect("removed");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (took, served.end())
}

#[test]
fn our_client_and_stock_stm32flash_leave_the_same_at_the_same_loader() {
    let image = image(40_000);
    let (ours, rom) = over_a_pty(&image);
    let (theirs, other) = by_stm32flash(&image);
    assert_eq!(rom.flash[..40_000], image);
    assert_eq!(other.flash[..40_000], image);
    println!("40 000 bytes written and read back: {ours:?}, stm32flash {theirs:?}");
}
