//! Loaders that are USB devices, plugged into a machine with Debian's kernel: flashed by what is built in, and, so that they are known to
//! be what they say, by dfu-util and fastboot, in the same places with the same image.

use crate::gadget::{CAN_DOWNLOAD, CAN_UPLOAD, Dfu, Fastboot, SECTOR, TOLERANT, WILL_DETACH};
use crate::guest::Guest;
use crate::usbip::Plug;
use std::io::{Read as _, Write as _};

/// Bytes of the image: several blocks, and a part of one.
const LENGTH: usize = 9_001;

const BENCH: &str = r#"{ "boards": {
    "plain": { "type": "t", "flash": { "with": "dfu", "usb": "1-1", "product": "0483:df11", "targets": { "app": "firmware" } } },
    "leaves": { "type": "t", "flash": { "with": "dfu", "usb": "1-2", "serial": "S1", "targets": { "app": "0" } } },
    "st": { "type": "t", "consoles": { "main": { "path": "/dev/ttyS0" } }, "flash": { "with": "dfu", "usb": "1-3", "targets": { "app": { "at": "0x08001000", "alt": "Internal Flash" } } } },
    "fast": { "type": "t", "flash": { "with": "fastboot", "usb": "1-4", "serial": "F1", "expects": { "product": "panda" },
        "targets": { "kernel": "boot" } } },
    "by-dfu-util": { "type": "t", "flash": { "with": "argv", "argv": ["dfu-util", "-p", "1-3", "-a", "0", "-s", "0x08001000:leave", "-D", "{image}"] } },
    "by-fastboot": { "type": "t", "flash": { "with": "argv", "argv": ["fastboot", "-s", "F1", "flash", "boot", "{image}"] } },
    "by-mistake": { "type": "t", "flash": { "with": "argv", "argv": ["dfu-util", "-p", "1-9", "-a", "0", "-D", "{image}"] } },
    "other": { "type": "t", "flash": { "with": "dfu", "usb": "1-5", "product": "0483:df12" } } } }"#;

/// What has dfu-util tell a program to leave for its loader, and waits for that: libusb hears of what is plugged in by udev alone, which
/// the machine has not, so it does not see it come by itself.
fn detached(port: u32) -> String {
    let protocol = format!("/sys/bus/usb/devices/1-{port}/1-{port}:1.0/bInterfaceProtocol");
    format!("dfu-util -p 1-{port} -e; until grep -q 02 {protocol}; do sleep 0.1; done 2>/dev/null")
}

/// What a job asks for of a board whose loader is a USB device: it is flashed, and what it says then is judged.
const SAIFILE: &str = r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "make" } }, "configurations": { "fw": {
    "artifacts": "image", "board": { "type": "t", "flash": "image", "test": [{ "expect": "^ready", "within": "100s" }, { "send": "go\n" }],
    "results": "tap", "pass": "^DONE", "silent": "100s", "timeout": "200s" } } } }"#;

/// A whole trial at it.
fn judged(guest: &mut Guest) {
    guest.write("/tmp/.sai.json", SAIFILE);
    guest.well("sai-buddy /tmp/b.json test st /tmp/.sai.json fw --record /tmp/log >/tmp/said 2>&1 & process=$!");
    guest.until("grep -q '# test' /tmp/said");
    guest.uart.write_all(b"ready\r\n").expect("the UART");
    let (mut asked, mut byte) = (Vec::new(), [0]);
    while !asked.ends_with(b"go\n") {
        guest.uart.read_exact(&mut byte).expect("what the board is told");
        asked.extend(byte);
    }
    guest.uart.write_all(b"TAP version 13\r\n1..1\r\nok 1 - led\r\nDONE\r\n").expect("the UART");
    let (status, _) = guest.run("wait $process");
    let said = guest.well("cat /tmp/said");
    assert!(
        status == 0 && said.contains("ok 1 - led") && said.ends_with("verdict: passed\n1..2\n"),
        "{status}: {said}"
    );
    let points = "grep -v '^#'";
    let again = guest.well(&format!("sai-buddy /tmp/b.json test st /tmp/.sai.json fw --again /tmp/log | {points}"));
    assert_eq!(again, guest.well(&format!("{points} /tmp/said")), "{said}");
}

#[test]
fn loaders_at_usb_are_flashed_by_what_is_built_in_as_by_the_tools_for_them() {
    let all = CAN_DOWNLOAD | CAN_UPLOAD;
    let program = |attributes| Dfu { application: true, starts: true, ..Dfu::new(false, attributes) };
    let (plain, leaves) = (Plug::new(program(all)), Plug::new(program(all | TOLERANT | WILL_DETACH)));
    let (st, fast) = (Plug::new(Dfu::new(true, all | TOLERANT)), Plug::new(Fastboot::new()));
    let other = Plug::new(Dfu::new(false, all | TOLERANT));
    let mut guest = Guest::loaders("loaders");
    for (port, listens) in (1..).zip([plain.port, leaves.port, st.port, fast.port, other.port]) {
        guest.plug(port, listens);
    }
    guest.write("/tmp/b.json", BENCH);
    guest.well(&format!("head -c {LENGTH} /bin/busybox >/tmp/image"));
    let image = guest.file("/tmp/image");
    // Another device is in the place of this one, and stays there.
    guest.well("(sai-buddy /tmp/b.json flash other /tmp/image; echo $?) >/tmp/other 2>&1 </dev/null &");

    let st_place = SECTOR..SECTOR + LENGTH;
    for built_in in [false, true] {
        let mut flash = |board: &str, tool: &str, ends: &str| match built_in {
            true => {
                let said = guest.well(&format!("sai-buddy /tmp/b.json flash {board} /tmp/image --unverified"));
                assert!(said.ends_with(ends), "{board}: {said}");
            }
            false => drop(guest.well(tool)),
        };
        let verified = "flashed and verified\n";
        plain.with(|loader| loader.memory.fill(0));
        // It takes for an error that another device is there after the reset that it asks for.
        let tool = format!("{} && (dfu-util -p 1-1 -a firmware -D /tmp/image -R || [ $? = 74 ])", detached(1));
        flash("plain", &tool, verified);
        plain.with(|loader| assert!(loader.memory.starts_with(&image) && loader.left, "{built_in}"));
        leaves.with(|loader| loader.memory.fill(0));
        flash("leaves", &format!("{} && dfu-util -p 1-2 -a 0 -D /tmp/image", detached(2)), verified);
        leaves.with(|loader| assert!(loader.memory.starts_with(&image), "{built_in}"));
        st.with(|loader| {
            loader.memory.fill(0);
            loader.left = false;
        });
        flash("st", "dfu-util -p 1-3 -a 0 -s 0x08001000:leave -D /tmp/image", verified);
        st.with(|loader| {
            assert!(loader.memory[st_place.clone()] == image && loader.left, "{built_in}");
            // The image is in three sectors, and no other was touched.
            assert!(loader.memory[..SECTOR].iter().chain(&loader.memory[4 * SECTOR..]).all(|byte| *byte == 0));
        });
        fast.with(|loader| loader.partitions.insert("boot".into(), Vec::new()));
        flash("fast", "fastboot -s F1 flash boot /tmp/image && fastboot -s F1 reboot", "flashed, unverified\n");
        fast.with(|loader| assert!(loader.partitions["boot"] == image && std::mem::take(&mut loader.rebooted)));
    }

    // The tools as a bench names them, by their owner, with what they print.
    st.with(|loader| loader.memory.fill(0));
    fast.with(|loader| loader.partitions.insert("boot".into(), Vec::new()));
    for (board, port, prints) in [("by-dfu-util", 3, "Download\t"), ("by-fastboot", 4, "Writing 'boot'")] {
        // It has left for what it was given before, and the tools do not wait for it.
        guest.until(&format!("cat /sys/bus/usb/devices/1-{port}/1-{port}:1.0/bInterfaceNumber"));
        let said = guest.well(&format!("sai-buddy /tmp/b.json flash {board} /tmp/image --unverified 2>&1"));
        assert!(said.contains(prints) && said.ends_with("flashed, unverified\n"), "{board}: {said}");
    }
    st.with(|loader| assert!(loader.memory[st_place.clone()] == image && loader.left));
    fast.with(|loader| assert!(loader.partitions["boot"] == image));
    let (status, said) = guest.run("sai-buddy /tmp/b.json flash by-mistake /tmp/image --unverified 2>&1");
    assert!(status == 1 && said.contains("the tool ended with exit status: 74"), "{status}: {said}");

    st.with(|loader| loader.memory.fill(0));
    judged(&mut guest);
    st.with(|loader| assert!(loader.memory[st_place] == image && loader.left));

    let (status, said) = guest.run("sai-buddy /tmp/b.json flash fast /tmp/image");
    assert!(status == 1 && said.contains("--unverified allows that"), "{said}");
    let said = guest.well("sai-buddy /tmp/b.json list");
    assert!(said.contains("by dfu at USB port 1-3: app") && said.contains("by fastboot at USB port 1-4"), "{said}");
    // The plug is pulled in the middle of it.
    st.with(|loader| loader.pulled_after = Some(loader.blocks + 3));
    let (status, said) = guest.run("sai-buddy /tmp/b.json flash st /tmp/image");
    assert!(status == 1 && said.contains("wiring: ") && said.contains("the device is not there any more"), "{said}");
    fast.with(|loader| loader.pulled_after = Some(1000));
    let (status, said) = guest.run("sai-buddy /tmp/b.json flash fast /tmp/image --unverified");
    assert!(status == 1 && said.contains("wiring: to take the image: the device is not there any more"), "{said}");

    let said = guest.until("tail -n 1 /tmp/other | grep -x 1 && cat /tmp/other");
    assert!(said.contains("another device is there: 0483:df11, not 0483:df12"), "{said}");
    other.with(|loader| assert!(loader.memory.iter().all(|byte| *byte == 0x5a), "nothing was erased"));
}
