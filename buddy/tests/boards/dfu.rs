//! Loaders that speak DFU, and images, over a bus that changes, shortens, loses and refuses what is transferred → what is in their memory.

use crate::gadget::{self, BASE, BLOCK, CAN_DOWNLOAD, CAN_UPLOAD, Dfu, Gadget, SECTOR, TOLERANT, WILL_DETACH};
use crate::line::image;
use sai_buddy::flash::dfu::{self, Settings};
use sai_buddy::flash::{Failure, Flashed, Flasher, Input, Output, Phase, Transfer, Trouble, Whose};
use sai_core::bench::{Alternate, Setting};
use sai_core::limits::Millis;

/// Milliseconds after which an image of a few blocks hangs.
const HANG_MS: Millis = 30 * 60 * 1000;
/// Transfers after which it goes on for ever.
const TRANSFERS_MAX: usize = 20_000;
const ALL: u8 = CAN_DOWNLOAD | CAN_UPLOAD | TOLERANT;

/// What happens to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// These bits of this byte of it are changed, where it has that.
    Flip(usize, u8),
    /// It brings half of what it should.
    Half,
    /// It brings more.
    Long,
    /// What it asks is done twice.
    Double,
    Stall,
    Late,
    Gone,
}

/// Which it happens to, by those before it.
pub type Fault = (usize, Kind);

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub result: Result<Flashed, Failure>,
    /// Transfers, but for those that opened the device.
    pub transfers: usize,
    pub said: Vec<Output>,
    /// Milliseconds that it took beside transfers.
    pub took: Millis,
}

/// Carries a machine out at a device that is plugged in.
pub fn carry(machine: &mut dyn Flasher, gadget: &mut dyn Gadget, fault: Option<Fault>) -> Ended {
    let (mut now, mut transfers) = (0, 0);
    let (mut said, mut waiting) = (Vec::new(), Vec::new());
    machine.handle(now, Input::Begin, &mut waiting);
    let mut there = true;
    loop {
        assert!(now < HANG_MS && transfers < TRANSFERS_MAX, "it goes on for ever: {fault:?}");
        let mut next = None;
        for output in std::mem::take(&mut waiting) {
            match &output {
                Output::Enter => machine.handle(now, Input::Entered, &mut waiting),
                Output::Transfer(transfer, _) => next = Some(transfer.clone()),
                Output::Done(flashed) => return Ended { result: Ok(*flashed), transfers, said, took: now },
                Output::Failed(failure) => return Ended { result: Err(failure.clone()), transfers, said, took: now },
                Output::Send(_) | Output::Type(_) => panic!("a device at a bus has no line"),
                Output::Progress(_) | Output::Note(_) => {}
            }
            said.push(output);
        }
        if let Some(transfer) = next {
            if transfer == Transfer::Open {
                there = true;
            }
            let kind = fault.filter(|(at, _)| *at == transfers && transfer != Transfer::Open).map(|(_, kind)| kind);
            transfers += usize::from(transfer != Transfer::Open);
            let mut answer = if there { at(gadget, &transfer, kind) } else { Err(Trouble::Gone) };
            if gadget.has_left() {
                there = false;
                if answer.is_err() {
                    answer = Err(Trouble::Gone);
                }
            }
            machine.handle(now, Input::Transferred(&answer), &mut waiting);
        } else if waiting.is_empty() {
            now = now.max(machine.deadline().unwrap_or_else(|| panic!("both wait for each other: {fault:?}")));
            machine.handle(now, Input::Tick, &mut waiting);
        }
    }
}

fn at(gadget: &mut dyn Gadget, transfer: &Transfer, kind: Option<Kind>) -> Result<Vec<u8>, Trouble> {
    match kind {
        Some(Kind::Stall) => return Err(Trouble::Stalled),
        Some(Kind::Late) => return Err(Trouble::Late),
        Some(Kind::Gone) => return Err(Trouble::Gone),
        Some(Kind::Double) => drop(at(gadget, transfer, None)),
        _ => {}
    }
    let changed = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        match kind {
            Some(Kind::Flip(at, bits)) => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= bits),
            Some(Kind::Half) => bytes.truncate(bytes.len() / 2),
            Some(Kind::Long) => bytes.extend_from_slice(&[0x55; 7]),
            _ => {}
        }
        bytes
    };
    let setup = |setup: &sai_buddy::flash::usb::Setup, length: usize| gadget::Setup {
        kind: setup.kind,
        request: setup.request,
        value: setup.value,
        index: setup.index,
        length: length as u16,
    };
    match transfer {
        Transfer::Open => Ok(gadget.describe().1),
        Transfer::Claim { setting, .. } => {
            gadget.set(*setting);
            Ok(Vec::new())
        }
        Transfer::In(asked, length) => {
            let answer = gadget::control(gadget, setup(asked, usize::from(*length)), &[]);
            answer.map(|bytes| changed(&bytes)).ok_or(Trouble::Stalled)
        }
        Transfer::Out(asked, bytes) => {
            let bytes = changed(bytes);
            gadget::control(gadget, setup(asked, bytes.len()), &bytes).ok_or(Trouble::Stalled)
        }
        Transfer::BulkIn(endpoint, _) => {
            gadget.give(u32::from(endpoint & 0x7f)).map(|bytes| changed(&bytes)).ok_or(Trouble::Late)
        }
        Transfer::BulkOut(_, bytes) => {
            gadget.take(&changed(bytes));
            Ok(Vec::new())
        }
        Transfer::Reset => {
            gadget.reset();
            Ok(Vec::new())
        }
    }
}

fn settings(place: Alternate) -> Settings {
    Settings { place, room: None, verify: true, go: true }
}

fn plain() -> Settings {
    settings(Alternate { setting: Setting::Number(0), address: None })
}

fn addressed(address: u32) -> Settings {
    settings(Alternate { setting: Setting::Name("Internal Flash".into()), address: Some(address) })
}

fn flash(settings: Settings, image: &[u8], loader: &mut Dfu, fault: Option<Fault>) -> Ended {
    carry(&mut dfu::Dfu::new(settings, image.to_vec()).expect("an image"), loader, fault)
}

fn whole(ended: &Ended, phase: Phase) -> bool {
    let done = |output: &Output| matches!(output, Output::Progress(far) if far.phase == phase && far.done == far.of);
    ended.said.iter().any(done)
}

#[test]
fn images_get_into_the_memory_of_every_kind_of_loader_and_are_read_back() {
    for length in [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17] {
        let image = image(length);
        for attributes in [ALL, ALL & !TOLERANT] {
            for starts in [false, true] {
                let mut loader = Dfu { starts, application: starts, ..Dfu::new(false, attributes) };
                let ended = flash(plain(), &image, &mut loader, None);
                assert_eq!(ended.result, Ok(Flashed { chip: None, verified: true }), "{length} {attributes} {starts}");
                assert!(loader.memory.starts_with(&image), "{length} {attributes} {starts}");
                assert!(whole(&ended, Phase::Write) && whole(&ended, Phase::Verify));
                assert_eq!(loader.application, starts, "the image is started");
            }
        }
        let mut loader = Dfu { application: true, starts: true, ..Dfu::new(false, ALL | WILL_DETACH) };
        assert_eq!(flash(plain(), &image, &mut loader, None).result.map(|flashed| flashed.verified), Ok(true));
        // With addresses, and with sectors of others around.
        for (address, erased) in [(BASE, 1), (BASE + 2 * SECTOR as u32, 1), (BASE + SECTOR as u32 - 4, 2)] {
            let mut loader = Dfu::new(true, ALL);
            let ended = flash(addressed(address), &image, &mut loader, None);
            assert_eq!(ended.result, Ok(Flashed { chip: None, verified: true }), "{length} {address:#x}");
            let at = (address - BASE) as usize;
            assert_eq!(loader.memory[at..at + length], image);
            assert!(loader.erased.len() <= erased && loader.left, "{:x?}", loader.erased);
            let first = at / SECTOR * SECTOR;
            let behind = (at + length).next_multiple_of(SECTOR);
            let others = loader.memory[..first].iter().chain(&loader.memory[behind..]);
            assert!(others.copied().all(|byte| byte == 0x5a), "no other sector was touched");
        }
    }
}

#[test]
fn no_fault_of_one_transfer_makes_a_wrong_image_good_or_has_no_end() {
    let image = image(2 * BLOCK + 5);
    let kinds = [
        Kind::Flip(0, 0x01),
        Kind::Flip(1, 0x80),
        Kind::Flip(3, 0x80),
        Kind::Flip(4, 0x01),
        Kind::Flip(4, 0x0f),
        Kind::Flip(700, 0x10),
        Kind::Half,
        Kind::Long,
        Kind::Double,
        Kind::Stall,
        Kind::Late,
        Kind::Gone,
    ];
    let nontolerant = Dfu { application: true, starts: true, ..Dfu::new(false, ALL & !TOLERANT) };
    for (settings, loader) in
        [(plain(), Dfu::new(false, ALL)), (plain(), nontolerant), (addressed(BASE + 4), Dfu::new(true, ALL))]
    {
        let transfers = flash(settings.clone(), &image, &mut loader.clone(), None).transfers;
        let mut failed = 0;
        for fault in (0..transfers).flat_map(|at| kinds.map(|kind| (at, kind))) {
            let mut other = loader.clone();
            let ended = flash(settings.clone(), &image, &mut other, Some(fault));
            let at = settings.place.address.map_or(0, |address| (address - BASE) as usize);
            if ended.result.is_ok() {
                assert!(other.memory[at..].starts_with(&image), "{fault:?} makes a wrong image good");
            } else {
                failed += 1;
            }
        }
        assert!(failed > transfers, "{failed} of {transfers} transfers with a fault");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_changed() {
    let refused = |settings: Settings, image: &[u8], mut loader: Dfu, whose: Whose, text: &str| {
        let before = loader.memory.clone();
        let ended = flash(settings, image, &mut loader, None);
        let failure = ended.result.expect_err(text);
        assert!(failure.text.contains(text) && failure.whose == whose, "{failure:?}");
        assert!(loader.memory == before && loader.erased.is_empty(), "{text}");
    };
    let image = image(100);
    let new = |extended| Dfu::new(extended, ALL);
    let numbered = |number| settings(Alternate { setting: Setting::Number(number), address: None });
    refused(numbered(7), &image, new(false), Whose::Wiring, "no alternate setting 7, but 0, 1; nothing was erased");
    let named = settings(Alternate { setting: Setting::Name("x".into()), address: None });
    refused(named, &image, new(false), Whose::Wiring, "no alternate setting \"x\", but 0 (firmware), 1 (data)");
    refused(addressed(BASE), &image, new(false), Whose::Wiring, "no alternate setting \"Internal Flash\"");
    let first = settings(Alternate { setting: Setting::Number(0), address: Some(BASE) });
    refused(first, &image, new(false), Whose::Tool, "the loader has no addresses");
    refused(plain(), &image, new(true), Whose::Tool, "the loader wants addresses");
    refused(plain(), &image, Dfu::new(false, CAN_DOWNLOAD), Whose::Tool, "cannot be read back");
    refused(plain(), &image, Dfu::new(false, CAN_UPLOAD), Whose::Wiring, "does not take images");
    refused(addressed(0x2000_0000), &image, new(true), Whose::Image, "no memory at 0x20000000");
    let end = BASE + 16 * SECTOR as u32 - 50;
    refused(addressed(end), &image, new(true), Whose::Image, "no memory at 0x08010000");
    let longer = Settings { room: Some(99), ..plain() };
    assert!(dfu::Dfu::new(longer, image.clone()).is_err_and(|failure| failure.whose == Whose::Image));
    assert!(dfu::Dfu::new(addressed(u32::MAX), image.clone()).is_err());
    // One whose bench says that it cannot be read is written, and called so.
    let mut loader = Dfu::new(false, CAN_DOWNLOAD);
    let ended = flash(Settings { verify: false, ..plain() }, &image, &mut loader, None);
    assert_eq!(ended.result, Ok(Flashed { chip: None, verified: false }));
    assert!(loader.memory.starts_with(&image));
}

#[test]
fn what_others_have_left_is_mended_and_what_is_broken_is_said() {
    let image = image(3 * BLOCK);
    for state in [5, 6, 9, 10] {
        for extended in [false, true] {
            let mut loader = Dfu::new(extended, ALL).left_in(state);
            let settings = if extended { addressed(BASE) } else { plain() };
            let ended = flash(settings, &image, &mut loader, None);
            assert!(ended.result.is_ok_and(|flashed| flashed.verified), "left in state {state}");
        }
    }
    let mut worn = Dfu { worn: Some(BLOCK + 3), ..Dfu::new(true, ALL) };
    let failure = flash(addressed(BASE), &image, &mut worn, None).result.expect_err("worn memory");
    assert!(failure.whose == Whose::Board && failure.text.contains("reading back differs: 0x080004"), "{failure:?}");
    let mut pulled = Dfu { pulled_after: Some(1), ..Dfu::new(false, ALL) };
    let failure = flash(plain(), &image, &mut pulled, None).result.expect_err("a pulled plug");
    assert!(failure.whose == Whose::Wiring && failure.text.contains("not there any more"), "{failure:?}");
    // It may want to be left alone for hours: that has a bound, and so has everything.
    let mut slow = Dfu { poll: 0x00ff_ffff, ..Dfu::new(false, ALL) };
    let ended = flash(plain(), &image, &mut slow, None);
    assert!(ended.result.is_ok() && ended.took < 10 * 60_000, "{} ms", ended.took);
}

/// What answers everything with the same bytes.
struct Parrot(Vec<u8>, Vec<u8>);

impl Gadget for Parrot {
    fn describe(&self) -> (Vec<u8>, Vec<u8>, Vec<String>) {
        (Vec::new(), self.0.clone(), vec!["a".into(); 8])
    }

    fn request(&mut self, _: gadget::Setup, _: &[u8]) -> Option<Vec<u8>> {
        Some(self.1.clone())
    }

    fn give(&mut self, _endpoint: u32) -> Option<Vec<u8>> {
        Some(self.1.clone())
    }

    fn reset(&mut self) {}
}

#[test]
fn no_stranger_is_flashed_or_waited_for_without_an_end() {
    let loader = Dfu::new(false, ALL).describe().1;
    let application = Dfu { application: true, ..Dfu::new(false, ALL) }.describe().1;
    for state in 0..=11 {
        let mut stranger = Parrot(loader.clone(), vec![0, 1, 0, 0, state, 0]);
        let machine = &mut dfu::Dfu::new(plain(), image(50)).expect("an image");
        assert!(carry(machine, &mut stranger, None).result.is_err(), "always in state {state}");
    }
    for (configuration, text) in [
        (application, "stays where it is"),
        (Vec::new(), "does not speak DFU"),
        (vec![0; 20], "in the middle of one"),
        (gadget::Fastboot::new().describe().1, "does not speak DFU"),
    ] {
        let mut stranger = Parrot(configuration, vec![0; 6]);
        let ended = carry(&mut dfu::Dfu::new(plain(), image(50)).expect("an image"), &mut stranger, None);
        let failure = ended.result.expect_err(text);
        assert!(failure.whose == Whose::Wiring && failure.text.contains(text), "{failure:?}");
        assert!((20_000..22_000).contains(&ended.took), "{} ms", ended.took);
    }
}
