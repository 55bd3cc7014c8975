//! Consoles over ptys: every byte at its place, or the number of those that are missing; gone and back under another name.

use crate::line::image;
use crate::pty::Pty;
use sai_buddy::ports::{Places, find};
use sai_buddy::serial::Serial;
use sai_core::bench::{Console, Flow, Parity, Settings, Tty};
use sai_core::console::{Piece, Why};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time after which something that must come will not.
const LONG: Duration = Duration::from_secs(100);

fn console(tty: Tty) -> Console {
    Console {
        name: "main".into(),
        tty,
        serial: None,
        product: None,
        settings: Settings { baud: 115_200, bits: 8, parity: Parity::None, stop: 1, flow: Flow::None },
        dtr: None,
        rts: None,
        pace_ms: 0,
        echo: false,
    }
}

fn at(path: &str) -> Console {
    console(Tty::Path(path.into()))
}

fn open(console: &Console) -> Serial {
    Serial::open(console, &Places::default()).expect("the console")
}

/// What comes until so many bytes are accounted for: kept ones, checked to be at their places, and lost ones.
fn collect(serial: &Serial, expected: &[u8]) -> (u64, u64) {
    let (mut kept, mut lost) = (0, 0);
    while kept + lost < expected.len() as u64 {
        match serial.take(LONG).expect("something comes") {
            Piece::Bytes { offset, bytes, .. } => {
                assert_eq!(offset, kept + lost);
                let from = offset as usize;
                assert!(bytes == expected[from..from + bytes.len()], "other bytes at {offset}");
                kept += bytes.len() as u64;
            }
            Piece::Lost { offset, lost: Some(count), why: Why::Full, .. } => {
                assert_eq!(offset, kept + lost);
                lost += count;
            }
            other => panic!("{other:?}"),
        }
    }
    (kept, lost)
}

/// Waits until the console has accounted for so many bytes.
fn until(serial: &Serial, bytes: u64) {
    let began = Instant::now();
    while serial.offset() < bytes {
        assert!(began.elapsed() < LONG, "{} of {bytes} bytes", serial.offset());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_reader_that_is_late_has_every_byte_or_the_number_of_those_that_are_missing() {
    let sent = image(500_000);
    // At three million bits a second there is room for all of it; at 9600 for the least that there is.
    for (baud, room) in [(3_000_000, 500_000), (9_600, 65_536)] {
        let mut pty = Pty::new();
        let mut console = at(&pty.path);
        console.settings.baud = baud;
        let serial = open(&console);
        // A pty holds its writer back, so that nothing is lost before it is read. Nobody takes anything meanwhile.
        pty.master.write_all(&sent).expect("read by the console");
        until(&serial, 500_000);
        assert_eq!(collect(&serial, &sent), (room, 500_000 - room));
        // After that it goes on as if nothing had been.
        pty.master.write_all(b"more").expect("written");
        let more = serial.take(LONG).expect("it comes");
        assert!(matches!(more, Piece::Bytes { offset: 500_000, bytes, .. } if bytes == b"more"));
    }
}

#[test]
fn bytes_go_out_and_nobody_else_has_the_tty_meanwhile() {
    let mut pty = Pty::new();
    let serial = open(&at(&pty.path));
    let sent = image(300_000);
    let received = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut received = vec![0; 300_000];
            pty.master.read_exact(&mut received).expect("all of it");
            received
        });
        serial.send(&sent).expect("sent");
        reader.join().expect("read")
    });
    assert!(received == sent);
    let error = Serial::open(&at(&pty.path), &Places::default()).expect_err("it is in use");
    let expected = format!("is in use by process {} ", std::process::id());
    assert!(error.kind() == ErrorKind::ResourceBusy && error.to_string().contains(&expected), "{error}");
    drop(serial);
    open(&at(&pty.path));
}

#[test]
fn a_tty_that_is_gone_before_anybody_listens_is_not_the_next_that_has_its_number() {
    let opened: Vec<Serial> = (0..40)
        .map(|_| {
            let pty = Pty::new();
            let serial = open(&at(&pty.path));
            drop(pty);
            serial
        })
        .collect();
    for serial in &opened {
        assert!(matches!(serial.take(LONG), Some(Piece::Unplugged { offset: 0, .. })));
    }
    // One has the number of all of them, in this test or another.
    let _next = Pty::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        let taken = opened.iter().filter(|serial| serial.tty().is_ok()).count();
        assert_eq!(taken, 0, "of {} took another's", opened.len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn settings_that_do_not_take_effect_are_an_error() {
    let pty = Pty::new();
    let mut odd = at(&pty.path);
    odd.settings = Settings { baud: 123_457, bits: 8, parity: Parity::None, stop: 2, flow: Flow::Software };
    drop(open(&odd));
    // A pty takes a parity and fewer bits, and forgets them.
    for settings in [Settings { parity: Parity::Even, ..odd.settings }, Settings { bits: 7, ..odd.settings }] {
        odd.settings = settings;
        let error = Serial::open(&odd, &Places::default()).expect_err("no such format");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().ends_with("it has 123457 baud, 8 bits, no parity, 2 stop bits, no RTS and CTS"),
            "{error}"
        );
    }
    // It has no DTR either.
    let wired = Console { dtr: Some(false), ..at(&pty.path) };
    assert!(Serial::open(&wired, &Places::default()).is_err());
    let error = Serial::open(&at("/dev/no-such-tty"), &Places::default()).expect_err("none is there");
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_unplugged_is_found_again_under_another_name() {
    let directory = directory("unplugged");
    let link = directory.join("tty");
    let mut first = Pty::new();
    symlink(&first.path, &link).expect("a link");
    let serial = open(&at(link.to_str().expect("plain")));
    first.master.write_all(b"before").expect("written");
    until(&serial, 6);
    fs::remove_file(&link).expect("removed");
    let name = first.path.clone();
    drop(first);
    assert!(matches!(serial.take(LONG), Some(Piece::Bytes { offset: 0, bytes, .. }) if bytes == b"before"));
    assert!(matches!(serial.take(LONG), Some(Piece::Unplugged { offset: 6, .. })));
    assert_eq!(serial.send(b"x").expect_err("it is gone").kind(), ErrorKind::NotConnected);
    // Whoever held on to the old one would keep its name from being used; nobody does.
    let (mut second, mut third) = (Pty::new(), Pty::new());
    assert!(second.path == name || third.path == name || !Path::new(&name).exists(), "{name} is still held");
    let back = if second.path == name { &mut third } else { &mut second };
    symlink(&back.path, &link).expect("a link");
    assert!(matches!(serial.take(LONG), Some(Piece::Lost { offset: 6, lost: None, why: Why::Away, .. })));
    assert!(matches!(serial.take(LONG), Some(Piece::Back { offset: 6, tty, .. }) if tty == back.path));
    back.master.write_all(b"after").expect("written");
    assert!(matches!(serial.take(LONG), Some(Piece::Bytes { offset: 6, bytes, .. }) if bytes == b"after"));
    serial.send(b"to it").expect("sent");
    let mut heard = [0; 5];
    back.master.read_exact(&mut heard).expect("heard");
    assert_eq!(&heard, b"to it");
    fs::remove_dir_all(directory).expect("removed");
}

fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("sai-serial-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("a directory");
    directory
}

#[test]
fn a_usb_port_leads_to_what_is_plugged_in_there() {
    let top = directory("ports");
    let places = Places { sys: top.join("sys"), dev: top.join("dev") };
    // As the kernel shows it: an adapter of two ttys, and two that were made with the same serial number.
    let adapters = [
        ("1-1.2", "ttyACM0", "1.0"),
        ("1-1.2", "ttyACM1", "1.2"),
        ("1-1.3", "ttyUSB0", "1.0"),
        ("1-1.4", "ttyUSB1", "1.0"),
    ];
    fs::create_dir_all(places.sys.join("class/tty")).expect("made");
    fs::create_dir_all(&places.dev).expect("made");
    for (port, tty, interface) in adapters {
        let device = places.sys.join("devices/usb1/1-1").join(port);
        let node = device.join(format!("{port}:{interface}")).join(tty).join("tty").join(tty);
        fs::create_dir_all(&node).expect("made");
        for (file, text) in [("serial", "0001\n"), ("idVendor", "0403\n"), ("idProduct", "6001\n")] {
            fs::write(device.join(file), text).expect("written");
        }
        symlink(&node, places.sys.join("class/tty").join(tty)).expect("a link");
        fs::write(places.dev.join(tty), "").expect("written");
    }
    let usb = |port: &str, interface| console(Tty::Usb(port.into(), interface));
    let found = |console: &Console| {
        let path = find(console, &places).expect("no other adapter");
        path.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned())
    };
    assert_eq!(found(&usb("1-1.3", 0)).as_deref(), Some("ttyUSB0"));
    assert_eq!(found(&usb("1-1.4", 0)).as_deref(), Some("ttyUSB1"));
    assert_eq!(found(&usb("1-1.2", 1)).as_deref(), Some("ttyACM1"));
    assert_eq!((found(&usb("1-1.2", 2)), found(&usb("1-1", 0))), (None, None));
    let mut checked = usb("1-1.3", 0);
    (checked.serial, checked.product) = (Some("0001".into()), Some("0403:6001".into()));
    assert_eq!(found(&checked).as_deref(), Some("ttyUSB0"));
    checked.serial = Some("0002".into());
    let error = find(&checked, &places).expect_err("another adapter");
    assert!(error.contains("\"0001\", not \"0002\""), "{error}");
    fs::remove_dir_all(top).expect("removed");
}
