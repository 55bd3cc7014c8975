//! YMODEM: our sender against `rb`, as fast as `sb`, and over lines with faults.

use crate::line::{carry, faults, image};
use crate::pty::{FilePort, Pty, open};
use crate::receiver::Receiver;
use sai_buddy::flash::ymodem::{Kind, Sender};
use sai_buddy::flash::{Flasher, Input, Output, Whose};
use sai_buddy::flashing::flash;
use sai_core::limits::Millis;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn ymodem(image: &[u8]) -> Sender {
    Sender::new(Kind::Ymodem { name: "fw.bin".into() }, image.to_vec()).expect("an image that may be one")
}

#[test]
fn a_receiver_has_name_length_and_data() {
    for length in [1, 127, 128, 129, 1024, 1025, 5000] {
        let (image, mut receiver) = (image(length), Receiver::new(false));
        carry(&mut ymodem(&image), &mut receiver, None).result.expect("sent");
        assert!(receiver.complete && receiver.name == "fw.bin" && receiver.length == Some(length));
        assert_eq!(receiver.data[..length], image);
        let mut receiver = Receiver::new(true);
        carry(&mut Sender::new(Kind::Xmodem, image.clone()).expect("an image"), &mut receiver, None)
            .result
            .expect("sent");
        assert!(receiver.complete && receiver.data[..length] == image);
        assert!(receiver.data[length..].iter().all(|byte| *byte == 0x1a));
    }
    assert_eq!(Sender::new(Kind::Xmodem, Vec::new()).map_err(|failure| failure.whose).err(), Some(Whose::Image));
}

#[test]
fn one_bad_byte_anywhere_never_makes_a_wrong_image_good() {
    let image = image(140);
    for xmodem in [false, true] {
        let sender = || match xmodem {
            true => Sender::new(Kind::Xmodem, image.clone()).expect("an image"),
            false => ymodem(&image),
        };
        let bytes = carry(&mut sender(), &mut Receiver::new(xmodem), None).bytes;
        let (mut all, mut well) = (0, 0);
        for fault in faults(bytes) {
            let mut receiver = Receiver::new(xmodem);
            let ended = carry(&mut sender(), &mut receiver, Some(fault));
            all += 1;
            if ended.result.is_ok() {
                well += 1;
                assert!(receiver.data.len() >= 140 && receiver.data[..140] == image, "{fault:?}");
                assert!(xmodem || receiver.length == Some(140), "{fault:?}");
            }
        }
        assert!(well * 100 >= all * 98, "{well} of {all}");
    }
}

#[test]
fn a_receiver_that_breaks_off_or_never_comes_ends_it() {
    let said = |sender: &mut Sender, now: Millis, bytes: &[u8]| {
        let mut out = Vec::new();
        sender.handle(now, Input::Bytes(bytes), &mut out);
        out
    };
    let mut sender = ymodem(&[7; 3000]);
    sender.handle(0, Input::Begin, &mut Vec::new());
    // What a loader prints, even where an escape is cancelled in it, is no answer.
    assert_eq!(said(&mut sender, 5, b"## Ready\x18\x18 for binary\r\n"), []);
    // It asks several times before it is answered, and once more, before it can have had the block.
    assert_eq!(said(&mut sender, 10, b"CCC"), []);
    let ticked = |sender: &mut Sender| {
        let (now, mut out) = (sender.deadline().expect("it waits"), Vec::new());
        sender.handle(now, Input::Tick, &mut out);
        out
    };
    assert!(matches!(ticked(&mut sender).as_slice(), [Output::Send(block)] if block.len() == 133));
    assert_eq!(said(&mut sender, 70, b"C"), []);
    assert_eq!(said(&mut sender, 80, b"\x06C"), []);
    assert!(
        matches!(ticked(&mut sender).as_slice(), [Output::Progress(_), Output::Send(block)] if block.len() == 1029)
    );
    let ended = said(&mut sender, 150, b"\x18\x18");
    assert!(matches!(ended.as_slice(), [Output::Failed(failure)] if failure.whose == Whose::Board), "{ended:?}");
    // Silence, and a board that babbles for ever.
    for babble in [false, true] {
        let mut sender = ymodem(&[7; 3000]);
        sender.handle(0, Input::Begin, &mut Vec::new());
        let mut now = 0;
        let failure = loop {
            now = if babble { now + 10 } else { sender.deadline().expect("it waits for something") };
            let mut out = if babble { said(&mut sender, now, &[0; 100]) } else { Vec::new() };
            sender.handle(now, Input::Tick, &mut out);
            if let Some(Output::Failed(failure)) = out.pop() {
                break failure;
            }
        };
        assert!(now <= 60_000 && failure.text.contains("transfer"), "{failure:?}");
    }
}

#[test]
fn a_sender_that_was_too_quick_is_slower_from_then_on() {
    let mut sender = ymodem(&[7; 9000]);
    let mut now = 0;
    sender.handle(now, Input::Begin, &mut Vec::new());
    let mut until_sent = |now: &mut Millis, bytes: &[u8]| {
        let (mut out, began) = (Vec::new(), *now);
        sender.handle(*now, Input::Bytes(bytes), &mut out);
        while !out.iter().any(|output| matches!(output, Output::Send(_))) {
            assert!(!matches!(out.last(), Some(Output::Failed(_))), "{out:?}");
            *now = sender.deadline().expect("it waits for something");
            sender.handle(*now, Input::Tick, &mut out);
        }
        *now - began
    };
    until_sent(&mut now, b"C");
    until_sent(&mut now, b"\x06C");
    assert_eq!(until_sent(&mut now, b"\x06"), 0, "nothing was lost");
    now += 90;
    until_sent(&mut now, b"\x15");
    assert_eq!(until_sent(&mut now, b"\x06"), 0, "a block was damaged, which has nothing to do with when it came");
    let pauses: Vec<Millis> = (0..4)
        .map(|_| {
            now += 3_000;
            until_sent(&mut now, b"\x15");
            until_sent(&mut now, b"\x06")
        })
        .collect();
    assert_eq!(pauses, [2, 8, 32, 50], "blocks were lost");
    // Who breaks off meanwhile is heard.
    let mut out = Vec::new();
    sender.handle(now, Input::Bytes(b"\x06\x18\x18"), &mut out);
    assert!(matches!(out.as_slice(), [Output::Failed(_)]), "{out:?}");
}

/// `rb` at a pty, in a directory of its own.
struct Rb {
    child: Child,
    directory: PathBuf,
}

impl Rb {
    fn new(pty: &Pty) -> Self {
        let directory = std::env::temp_dir().join(format!("sai-rb-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let ends = (Stdio::from(open(&pty.path)), Stdio::from(open(&pty.path)));
        let child = Command::new("timeout")
            .args(["110", "rb", "-b"])
            .current_dir(&directory)
            .stdin(ends.0)
            .stdout(ends.1)
            .stderr(Stdio::null())
            .spawn()
            .expect("rb");
        Rb { child, directory }
    }

    /// What it received, if all was well.
    fn received(mut self, name: &str) -> Option<Vec<u8>> {
        let status = self.child.wait().expect("it ends");
        let data = fs::read(self.directory.join(name)).ok();
        fs::remove_dir_all(&self.directory).expect("removed");
        data.filter(|_| status.success())
    }
}

#[test]
fn rb_receives_what_was_sent_byte_for_byte() {
    let (pty, image) = (Pty::new(), image(100_000));
    let rb = Rb::new(&pty);
    let mut port = FilePort::new(pty.master.try_clone().expect("a copy"), || {});
    let mut sender = ymodem(&image);
    flash(&mut sender, &mut port, Duration::from_secs(100), &mut |_| {}).expect("sent");
    assert!(rb.received("fw.bin").expect("rb is content") == image);
}
