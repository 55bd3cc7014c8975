//! STK500: our client against a loader as optiboot is, over lines with faults.

use crate::line::{Ended, carry, faults, image};
use crate::optiboot::Optiboot;
use sai_buddy::flash::Whose;
use sai_buddy::flash::stk500::{Settings, Stk500};

fn settings() -> Settings {
    Settings { baud: 115_200, address: 0, room: None, chip: Some(0x1e_950f), go: true }
}

fn run(board: &mut Optiboot, settings: Settings, image: &[u8]) -> Ended {
    let mut machine = Stk500::new(settings, image.to_vec()).expect("an image that may be one");
    carry(&mut machine, board, None)
}

#[test]
fn an_image_is_written_page_by_page_and_read_back() {
    for length in [1, 128, 129, 5000] {
        let (mut board, image) = (Optiboot::new(), image(length));
        let flashed = run(&mut board, settings(), &image).result.expect("flashed");
        assert_eq!((flashed.chip, flashed.verified), (Some(0x1e_950f), true));
        assert_eq!(board.flash[..length], image);
        let end = length.next_multiple_of(128);
        assert!(board.flash[length..end].iter().all(|byte| *byte == 0xff) && board.flash[end] == 0x5a);
    }
    let (mut board, image) = (Optiboot::new(), image(200));
    run(&mut board, Settings { address: 0x400, ..settings() }, &image).result.expect("flashed");
    assert!(!board.runs, "its loader goes on");
    // Where something else resets it, it starts nothing that could be taken for what follows.
    let mut waits = Optiboot::new();
    let flashed =
        run(&mut waits, Settings { address: 0x400, go: false, ..settings() }, &image).result.expect("flashed");
    assert!(flashed.verified && waits.runs && waits.flash == board.flash);
    assert_eq!((board.flash[0x3ff], &board.flash[0x400..0x4c8]), (0x5a, image.as_slice()));
}

#[test]
fn nothing_is_written_for_what_cannot_be() {
    for length in [0, 129 * 1024] {
        assert_eq!(Stk500::new(settings(), vec![1; length]).map_err(|failure| failure.whose).err(), Some(Whose::Image));
    }
    let other = Some(0x1e_9705);
    let cases = [
        (Settings { chip: other, ..settings() }, 100, [0x1e, 0x95, 0x0f], Whose::Wiring),
        (Settings { chip: None, ..settings() }, 100, [1, 2, 3], Whose::Wiring),
        (settings(), 32 * 1024 - 511, [0x1e, 0x95, 0x0f], Whose::Image),
        (Settings { address: 64, ..settings() }, 100, [0x1e, 0x95, 0x0f], Whose::Tool),
    ];
    for (settings, length, signature, whose) in cases {
        let mut board = Optiboot { signature, ..Optiboot::new() };
        let failure = run(&mut board, settings, &image(length)).result.expect_err("it cannot be");
        assert_eq!((failure.whose, board.written), (whose, 0), "{}", failure.text);
        assert!(failure.text.contains("nothing was erased"), "{}", failure.text);
    }
    let mut board = Optiboot { worn: Some(130), ..Optiboot::new() };
    let failure = run(&mut board, settings(), &[0x40; 300]).result.expect_err("a bit is stuck");
    assert!(failure.whose == Whose::Board && failure.text.contains("0x0082 holds 41 where 40"), "{failure:?}");
}

#[test]
fn one_bad_byte_anywhere_never_makes_a_wrong_image_good() {
    let image = image(200);
    let bytes = run(&mut Optiboot::new(), settings(), &image).bytes;
    let (mut all, mut well) = (0, 0);
    for fault in faults(bytes) {
        let mut board = Optiboot::new();
        let mut machine = Stk500::new(settings(), image.clone()).expect("an image");
        let ended = carry(&mut machine, &mut board, Some(fault));
        all += 1;
        if ended.result.is_ok() {
            well += 1;
            assert_eq!(board.flash[..200], image, "{fault:?}");
        }
    }
    assert_eq!(well, all, "a reset mends everything");
}
