//! A USB serial adapter of the class for modems (CDC PSTN 1.2), which tells what went wrong on its line → what is recorded of that.

use crate::gadget::{Gadget, Setup, configuration, device};
use crate::guest::Guest;
use crate::usbip::Plug;
use sai_core::axis::{Entry, What};
use sai_core::record::{Decoder, Item};
use std::collections::VecDeque;

/// Endpoints to the host: of what it tells of its line, and of the line's bytes.
const NOTICES: u32 = 1;
const BYTES: u32 = 3;
/// What it tells, each a bit of `SERIAL_STATE`.
const BREAK: u8 = 4;
const FRAMING: u8 = 16;
const PARITY: u8 = 32;
const OVERRUN: u8 = 64;

/// What it says next.
#[derive(Clone, Debug)]
enum Says {
    Notice(u8),
    Bytes(Vec<u8>),
}

/// The adapter. What it says is in order, whichever endpoint it goes by.
#[derive(Clone, Debug, Default)]
pub struct Acm {
    says: VecDeque<Says>,
}

impl Acm {
    /// The line brings bytes.
    fn brings(&mut self, bytes: &[u8]) {
        self.says.push_back(Says::Bytes(bytes.to_vec()));
    }

    /// Something was wrong on the line.
    fn notices(&mut self, what: u8) {
        self.says.push_back(Says::Notice(what));
    }
}

impl Gadget for Acm {
    fn describe(&self) -> (Vec<u8>, Vec<u8>, Vec<String>) {
        let notices = [7, 5, 0x80 | NOTICES as u8, 3, 16, 0, 4];
        let control =
            [9, 4, 0, 0, 1, 2, 2, 1, 0, 5, 0x24, 0, 0x10, 1, 5, 0x24, 1, 0, 1, 4, 0x24, 2, 6, 5, 0x24, 6, 0, 1];
        let data = [9, 4, 1, 0, 2, 10, 0, 0, 0, 7, 5, 2, 2, 0, 2, 0, 7, 5, 0x80 | BYTES as u8, 2, 0, 2, 0];
        let rest = [&control[..], &notices, &data].concat();
        (device(0x5740), configuration(2, &rest), ["Adapter", "A1"].map(ToString::to_string).to_vec())
    }

    fn request(&mut self, setup: Setup, _: &[u8]) -> Option<Vec<u8>> {
        match (setup.kind, setup.request) {
            // Line coding and control lines are taken; a break is none of its capabilities.
            (0x21, 0x20 | 0x22) => Some(Vec::new()),
            (0xa1, 0x21) => Some(vec![0, 0xc2, 1, 0, 0, 0, 8]),
            _ => None,
        }
    }

    fn give(&mut self, endpoint: u32) -> Option<Vec<u8>> {
        match (endpoint, self.says.front()?) {
            (NOTICES, Says::Notice(what)) => {
                let notice = vec![0xa1, 0x20, 0, 0, 0, 0, 2, 0, *what, 0];
                self.says.pop_front();
                Some(notice)
            }
            (BYTES, Says::Bytes(bytes)) => {
                let bytes = bytes.clone();
                self.says.pop_front();
                Some(bytes)
            }
            _ => None,
        }
    }

    fn reset(&mut self) {}
}

/// What a job asks for of a board at it.
const SAIFILE: &str = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": { "board": {
    "type": "t", "pass": "^DONE", "silent": "100s", "timeout": "200s" } } } }"#;

/// In the middle of a trial characters come without a stop bit, with the other parity, a break, and more than the adapter holds: how many
/// of each is in the log, and how many the last has cost nobody knows.
#[test]
fn what_an_adapter_says_went_wrong_on_its_line_is_in_the_log_by_number() {
    let acm = Plug::new(Acm::default());
    let mut guest = Guest::loaders("acm");
    guest.plug(1, acm.port);
    guest.until("test -e /dev/ttyACM0");
    guest.write(
        "/tmp/b.json",
        r#"{ "boards": { "b": { "type": "t", "consoles": { "main": { "usb": "1-1", "serial": "A1" } }, "sequences": { "reset": ["main.break 1", "wait 1ms", "main.break 0"] } } } }"#,
    );
    guest.write("/tmp/.sai.json", SAIFILE);
    guest.well("sai-buddy /tmp/b.json record b --kept --json >/tmp/record 2>/tmp/record-said &");
    // Who only listens is there before anything happens, and has the last of it when it has.
    guest.until("sai-buddy /tmp/b.json status b --json | grep 'there.:true'");
    guest.well("sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log >/tmp/said 2>&1 & process=$!");
    guest.until("grep -q '\"judged\":true' /tmp/log");
    acm.with(|acm| {
        acm.brings(b"whole\r\n");
        for what in [FRAMING, FRAMING | PARITY, PARITY, PARITY, BREAK] {
            acm.notices(what);
        }
        acm.brings(b"odd\r\n");
    });
    guest.until("grep -q 'odd' /tmp/log && grep -q '3 times, parity' /tmp/log && grep -q '1 times, break' /tmp/log");
    acm.with(|acm| {
        acm.notices(OVERRUN);
        acm.brings(b"rest\r\n");
    });
    guest.until("grep -q '\"why\":\"overrun\"' /tmp/log");
    // The line that follows an overrun may be the rest of one, for all that anybody knows.
    acm.with(|acm| acm.brings(b"next\r\nDONE\r\n"));
    let (status, _) = guest.run("wait $process");
    let said = guest.well("cat /tmp/said");
    assert!(status == 0 && said.ends_with("ok 1 - verdict: passed\n1..1\n"), "{status}: {said}");
    // Its reset has a BREAK, and all else of it is done.
    assert!(said.contains("# console main: its adapter sends no BREAK"), "{said}");
    let again = "sai-buddy /tmp/b.json test b /tmp/.sai.json fw --again /tmp/log | grep -v '^#'";
    assert_eq!(guest.well(again), "ok 1 - verdict: passed\n1..1\n", "{said}");
    let (mut noise, mut lost, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
    let taken = Decoder::new().push(&guest.file("/tmp/log"), |item| match (&item, Entry::of(&item)) {
        (Item::Data { channel: 0, bytes: some, .. }, _) => bytes.extend_from_slice(some),
        (_, Some(Entry::Mark(mark))) if mark.what == What::Noise => noise.push(mark.text.unwrap_or_default()),
        (_, Some(Entry::Loss(0, loss))) => lost.push((loss.lost, loss.why)),
        _ => {}
    });
    taken.expect("a log");
    // A break is read as a byte of zeros.
    assert_eq!(String::from_utf8_lossy(&bytes), "whole\r\n\0odd\r\nrest\r\nnext\r\nDONE\r\n");
    assert_eq!(sums(noise.iter().map(|text| text.split_once(" times, ").expect("a number"))), [2, 3, 1], "{noise:?}");
    assert_eq!(lost, [(None, "overrun".to_string())]);
    // Who only listens is told the same.
    guest.until("grep DONE /tmp/record");
    let told = guest.well("cat /tmp/record /tmp/record-said");
    let each = told.lines().filter_map(|line| {
        let (_, rest) = line.split_once("\"lost\":")?;
        let (count, rest) = rest.split_once(",\"why\":\"")?;
        Some((count, rest.split_once('"')?.0))
    });
    assert_eq!(sums(each), [2, 3, 1], "{told}");
}

/// How many there are of frame, parity and break in all, however many each piece tells.
fn sums<'a>(each: impl Iterator<Item = (&'a str, &'a str)>) -> [u64; 3] {
    let mut sums = [0; 3];
    for (count, why) in each {
        if let Some(place) = ["frame", "parity", "break"].iter().position(|other| *other == why) {
            sums[place] += count.parse::<u64>().expect("a number");
        }
    }
    sums
}
