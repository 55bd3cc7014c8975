//! What the lines of a board do, in a machine that has them: resets by DTR and RTS, parity, boot pins, edges (`edges`), unplugging and
//! the power of a USB port, and what is left of all that when its owner dies, each as the hardware beyond saw it.

use crate::edges::{edges, passed, polled, settled, unseen};
use crate::guest::{Guest, LONG};
use crate::pty::Served;
use crate::rom::Rom;
use sai_core::axis::{Entry, What};
use sai_core::record::{Decoder, Item};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// Lines of the PL061.
const BOOT0: usize = 1;
pub const NRST: usize = 2;
pub const LED: usize = 5;

/// What guard and owners of two boards that are idle may take together, in KiB: an agent has the rest of 4 MiB.
const IDLE_KIB: u64 = 2_048;

const STATUS: &str = "sai-buddy /tmp/b.json status b --json";

/// A board at the USB port where the adapter is, and at lines.
pub fn bench(guest: &mut Guest, console: &str, more: &str) {
    let text = format!(
        r#"{{ "chip": "gpiochip0", "boards": {{ "b": {{ "type": "t",
        "consoles": {{ "main": {{ "usb": "1-2", "serial": "BENCH7"{console} }} }},
        "lines": {{ "boot0": {{ "line": {BOOT0}, "safe": 0 }}, "nrst": {{ "line": {NRST}, "active_low": true, "safe": 0 }},
            "led": {{ "line": {LED}, "direction": "in" }} }}, "power": {{ "usb_port": "1-2" }}{more} }} }} }}"#
    );
    // The owner of the bench before it ends, if there is one.
    guest.run("sai-buddy /tmp/b.json stop b");
    guest.until("! sai-buddy /tmp/b.json status b");
    guest.write("/tmp/b.json", &text);
}

/// Orders of DTR (1) and RTS (2) in FTDI's requests: both at once.
fn modem_lines(told: &str) -> Vec<u8> {
    let orders = told.lines().filter_map(|line| line.split_once("control 0x4001, value 0x3")?.1.parse().ok());
    orders.collect()
}

/// Resets by wiring, and what esptool and avrdude do there.
fn resets(guest: &mut Guest) {
    // The kernel raises both when a tty is opened; from there on each goes as the bench says.
    for (wiring, opened, reset, loader) in [
        ("esp-classic", [3, 0], &[0, 2, 0][..], &[0, 3, 2, 1, 0][..]),
        ("esp-usb-jtag", [3, 0], &[2, 0], &[0, 0, 1, 1, 3, 2, 2, 2, 0]),
        ("arduino", [3, 3], &[0, 3], &[0, 3]),
    ] {
        bench(guest, &format!(r#", "wiring": "{wiring}""#), "");
        let (_, from) = guest.told(0);
        guest.well("sai-buddy /tmp/b.json record b --for 10ms");
        guest.until(&format!("{STATUS} | grep 'there.:true'"));
        let (told, from) = guest.told(from);
        assert_eq!(modem_lines(&told), opened, "{wiring} is opened: {told}");
        guest.well("sai-buddy /tmp/b.json play b reset");
        let (told, from) = guest.told(from);
        assert_eq!(modem_lines(&told), reset, "{wiring} is reset: {told}");
        guest.well("sai-buddy /tmp/b.json play b loader");
        let (told, _) = guest.told(from);
        assert_eq!(modem_lines(&told), loader, "{wiring} enters its loader: {told}");
    }
}

/// An STM32's loader at the other end of the adapter: parity and rate as ST's loaders talk, and its pins.
fn stm32(guest: &mut Guest) {
    bench(
        guest,
        r#", "baud": 9600"#,
        r#", "modes": { "loader": { "do": ["boot0 1", "nrst 1", "wait 20ms", "nrst 0"], "settle": "20ms" },
            "run": { "do": ["boot0 0", "nrst 1", "wait 20ms", "nrst 0"] } },
        "flash": { "with": "stm32", "mode": "loader", "then": "run", "chip_id": "0x0413", "baud": 57600, "targets": { "app": "0x08000000" } }"#,
    );
    let line = File::from(OwnedFd::from(guest.serial.try_clone().expect("a copy")));
    let served = Served::new(Rom::new(0x413), line);
    guest.well("head -c 3000 /bin/busybox >/tmp/image");
    let image = guest.file("/tmp/image");
    let (_, from) = guest.told(0);
    guest.moved.clear();
    // The machine's console is a terminal, and colours are for those.
    let said = guest.well("NO_COLOR= sai-buddy /tmp/b.json flash b /tmp/image");
    assert!(said.ends_with("\u{1b}[32mflashed and verified\u{1b}[0m\n"), "{said}");
    let said = guest.well("NO_COLOR= sai-buddy /tmp/b.json list");
    assert!(said.starts_with("\u{1b}[1mb: t\u{1b}[0m\n"), "{said}");
    let (_, said) = guest.run("NO_COLOR= sai-buddy /tmp/b.json play b none");
    assert!(said.starts_with("\u{1b}[31msai-buddy: board b has no sequence \"none\""), "{said}");
    let said = guest.well("sai-buddy /tmp/b.json list; NO_COLOR= sai-buddy /tmp/b.json list | cat");
    assert!(!said.contains('\u{1b}'), "{said}");
    let rom = served.end();
    assert!(rom.flash[..image.len()] == image && rom.overwritten == 0);
    // BOOT0 stands before the reset is let go, both times.
    guest.look();
    let [into, out] = [true, false].map(|boot0| [(BOOT0, boot0), (NRST, false), (NRST, true)]);
    assert!(guest.moved.ends_with(&[into, out].concat()), "{:?}", guest.moved);
    let (told, _) = guest.told(from);
    // Of 3 MHz an FTDI makes 57 553 baud where 57 600 are wanted.
    let words = ["parity ", "baud rate "];
    let settings: Vec<&str> =
        told.lines().filter_map(|line| words.iter().find_map(|word| Some(line.split_once(word)?.1))).collect();
    let (even, none) = ("E, data bits 8, stop bits 1", "N, data bits 8, stop bits 1");
    assert!(settings.windows(2).any(|pair| pair == ["57553", even]), "{settings:?}");
    assert!(settings.ends_with(&[none, "9600"]), "{settings:?}");
}

/// Formats of characters as the adapter is told them, and one that it has not.
fn formats(guest: &mut Guest) {
    for (keys, told) in [
        (r#", "baud": 1500000, "bits": 7, "parity": "odd", "stop": 2"#, "parity O, data bits 7, stop bits 2"),
        (r#", "baud": 300, "parity": "even""#, "parity E, data bits 8, stop bits 1"),
        (r#", "flow": "hardware""#, "flow control 1"),
    ] {
        bench(guest, keys, "");
        let (_, from) = guest.told(0);
        guest.well("sai-buddy /tmp/b.json record b --for 10ms");
        let (all, _) = guest.told(from);
        assert!(all.contains(told), "{keys}: {all}");
    }
    assert_eq!(guest.well("cat /sys/bus/usb-serial/devices/ttyUSB0/latency_timer"), "1\n", "a byte is told at once");
    bench(guest, r#", "bits": 6"#, "");
    let (status, said) = guest.run("sai-buddy /tmp/b.json record b --for 10ms");
    assert!(status == 1 && said.contains("takes no such settings: it has 115200 baud, 8 bits, no parity"), "{said}");
}

/// Formats that a UART of the machine's own has, and a console that is called by its adapter's name.
fn at_names(guest: &mut Guest) {
    let text =
        |tty: &str| format!(r#"{{ "boards": {{ "u": {{ "type": "t", "consoles": {{ "main": {{ {tty} }} }} }} }} }}"#);
    for (keys, words) in [
        (r#""bits": 5, "stop": 2"#, &["cs5", "cstopb", "-ixon"][..]),
        (r#""bits": 6, "parity": "odd", "flow": "software""#, &["cs6", "parodd", "ixon", "ixoff"]),
    ] {
        guest.write("/tmp/u.json", &text(&format!(r#""path": "/dev/ttyS0", {keys}"#)));
        guest.well("sai-buddy /tmp/u.json record u --for 10ms");
        let settings = guest.well("stty -F /dev/ttyS0 -a");
        let has = |word: &&str| settings.split_whitespace().any(|other| other.trim_end_matches(';') == *word);
        assert!(words.iter().all(has), "{keys}: {settings}");
        guest.well("sai-buddy /tmp/u.json stop u");
        guest.until("! sai-buddy /tmp/u.json status u");
    }
    // There is no udev here, which makes these links.
    guest.well("mkdir -p /dev/serial/by-id && ln -s ../../ttyUSB0 /dev/serial/by-id/usb-BENCH7-port0");
    guest.write("/tmp/u.json", &text(r#""by_id": "usb-BENCH7-port0""#));
    guest.well("sai-buddy /tmp/b.json stop b; sai-buddy /tmp/u.json record u --kept >/tmp/named & named=$!");
    guest.until("sai-buddy /tmp/u.json status u --json | grep 'there.:true'");
    guest.serial.write_all(b"by its name").expect("the adapter");
    guest.until("grep 'by its name' /tmp/named");
    guest.well("kill $named; sai-buddy /tmp/u.json stop u");
    guest.until("! sai-buddy /tmp/u.json status u");
}

/// Lines that are driven one way alone, by either interface: where they are not, they are inputs.
fn driven_one_way(guest: &mut Guest) {
    /// Data, with the lines as an address, and directions (Arm's DDI 0190: `GPIODATA`, `GPIODIR`).
    const DATA: u64 = 0x0903_03fc;
    const DIRECTIONS: u64 = 0x0903_0400;
    const DRAIN: u32 = 1 << 3;
    const SOURCE: u32 = 1 << 4;
    for shim in ["first-interface", "second-interface"] {
        bench(guest, "", r#", "sequences": { "low": ["drain 0, source 0"], "high": ["drain 1, source 1"] }"#);
        let more = r#""drain": { "line": 3, "safe": 1, "drive": "open-drain" }, "source": { "line": 4, "safe": 0, "drive": "open-source" }, "#;
        guest.well(&format!("sed -i 's/\"led\": {{/{more}&/' /tmp/b.json"));
        guest.well(&format!("{shim} /usr/bin/sai-buddy /tmp/b.json play b low"));
        let found = |guest: &mut Guest| {
            let (data, directions) = (guest.register(DATA), guest.register(DIRECTIONS));
            [DRAIN, SOURCE].map(|line| (directions & line != 0).then_some(data & line != 0))
        };
        assert_eq!(found(guest), [Some(false), None], "{shim}");
        guest.well("sai-buddy /tmp/b.json play b high");
        assert_eq!(found(guest), [None, Some(true)], "{shim}");
    }
}

/// A UART of the machine's own, a 16550A: breaks and overruns, as its driver counts them.
fn counted(guest: &mut Guest) {
    guest.write(
        "/tmp/u.json",
        r#"{ "boards": { "u": { "type": "t", "consoles": { "main": { "path": "/dev/ttyS0" } } } } }"#,
    );
    guest.well("sai-buddy /tmp/u.json record u --kept --json >/tmp/counted & counted=$!");
    guest.until("sai-buddy /tmp/u.json status u --json | grep 'there.:true'");
    guest.uart.write_all(b"before").expect("the UART");
    guest.until("grep before /tmp/counted");
    // Nothing follows the last of them.
    for number in 1..=3 {
        guest.order(r#"{"execute":"chardev-send-break","arguments":{"id":"uart"}}"#);
        guest.until(&format!("grep brk:{number} /proc/tty/driver/serial"));
    }
    let breaks = r#"sed -n 's/.*"lost":\([0-9]*\),"why":"break".*/\1/p' /tmp/counted | awk '{ sum += $1 } END { print sum + 0 }'"#;
    guest.until(&format!("test $({breaks}) = 3"));
    guest.overrun(40);
    guest.until("grep '\"why\":\"overrun\"' /tmp/counted");
    guest.uart.write_all(b"after").expect("the UART");
    guest.until("grep after /tmp/counted");
    let told = guest.well("cat /tmp/counted");
    let overruns: Vec<&str> = told.lines().filter(|line| line.contains("overrun")).collect();
    // How many bytes it has cost is not known.
    let unknown = overruns.iter().all(|line| line.contains("\"lost\":null") || !line.contains("\"lost\":"));
    assert!(overruns.len() == 1 && unknown, "{told}");
    assert!(guest.well("cat /proc/tty/driver/serial").contains("brk:3 oe:1"), "{told}");
    guest.well("kill $counted; sai-buddy /tmp/u.json stop u");
}

/// A program goes through the wiring in a person's place, and the test has the hands: cables, a light at a line, a port's power.
fn walked(guest: &mut Guest) {
    bench(guest, "", "");
    guest.well("mkfifo /tmp/answers && exec 9<>/tmp/answers");
    guest.well("sai-buddy /tmp/b.json check b --json </tmp/answers >/tmp/walk 2>&1 & walk=$!");
    let asked = |guest: &mut Guest, question: &str| {
        guest.until(&format!("tail -n 1 /tmp/walk | grep '\"ask\":\"{question}'"));
    };
    let answer = |guest: &mut Guest, text: &str| drop(guest.well(&format!("echo {text} >&9")));
    asked(guest, "pull the USB cable of console main");
    guest.order(r#"{"execute":"device_del","arguments":{"id":"one"}}"#);
    guest.until("! test -e /dev/ttyUSB0");
    answer(guest, "");
    asked(guest, "plug it in again where it was");
    guest.order(
        r#"{"execute":"device_add","arguments":{"driver":"usb-serial","id":"one","chardev":"adapter","bus":"hub.0","port":"2","serial":"BENCH7"}}"#,
    );
    guest.until("test -e /dev/ttyUSB0");
    answer(guest, "");
    asked(guest, "line boot0: press Enter");
    guest.look();
    guest.moved.clear();
    answer(guest, "");
    for level in [true, false] {
        let began = Instant::now();
        while !guest.moved.contains(&(BOOT0, level)) {
            assert!(began.elapsed() < LONG, "{:?}", guest.moved);
            guest.look();
        }
        guest.drive(LED, level);
    }
    asked(guest, "is that what line boot0 is to do");
    answer(guest, "y");
    asked(guest, "line nrst: press Enter");
    answer(guest, "");
    asked(guest, "is that what line nrst is to do");
    answer(guest, "n");
    asked(guest, "power: press Enter");
    answer(guest, "");
    asked(guest, "is that what power is to do");
    answer(guest, "y");
    let (status, _) = guest.run("wait $walk");
    let said = guest.well("cat /tmp/walk");
    assert_eq!(status, 1, "{said}");
    let tells = |text: &str| said.lines().filter(|line| line.contains(&format!("\"tell\":\"{text}"))).count();
    // As its cable was pulled, and as its power was.
    assert_eq!(tells("USB port 1-2 (0403:6001, serial number BENCH7: ttyUSB0) left"), 2, "{said}");
    assert_eq!(tells("line led changed 2 times, and is 0 now"), 1, "{said}");
    assert_eq!(tells("no console went quiet or began to speak, no line changed, and no USB device left"), 1, "{said}");
    let end = r#""board":"b","well":3,"moved":[],"wrong":["line nrst does not do what it should"]"#;
    assert!(said.trim_end().ends_with(&format!("{end}}}")), "{said}");
    guest.well("exec 9>&-");
}

/// The adapter is unplugged, something else takes its name, and it comes back.
fn unplugged(guest: &mut Guest) {
    bench(guest, "", "");
    let record = "sai-buddy /tmp/b.json record b";
    guest
        .well(&format!("{record} --kept --json >/tmp/record & record=$!; {record} --kept >/tmp/heard 2>&1 & hears=$!"));
    guest.until(&format!("{STATUS} | grep 'there.:true'"));
    guest.serial.write_all(b"one").expect("the adapter");
    guest.until("grep one /tmp/heard");
    guest.order(r#"{"execute":"device_del","arguments":{"id":"one"}}"#);
    guest.until("grep '\"unplugged\"' /tmp/record");
    guest.until("! test -e /dev/ttyUSB0");
    guest.order(
        r#"{"execute":"chardev-add","arguments":{"id":"none","backend":{"type":"ringbuf","data":{"size":4096}}}}"#,
    );
    let add = |id: &str, line: &str, port: &str, serial: &str| {
        format!(
            r#"{{"execute":"device_add","arguments":{{"driver":"usb-serial","id":"{id}","chardev":"{line}","bus":"hub.0","port":"{port}","serial":"{serial}"}}}}"#
        )
    };
    guest.order(&add("two", "none", "3", "OTHER"));
    guest.until("test -e /dev/ttyUSB0");
    guest.order(&add("one", "adapter", "2", "BENCH7"));
    guest.until("grep '\"back\"' /tmp/record");
    guest.serial.write_all(b"two").expect("the adapter");
    guest.until("grep two /tmp/heard");
    let told = guest.well("cat /tmp/record");
    let moment = |what: &str| -> u64 {
        let line = told.lines().find(|line| line.contains(&format!("\"{what}\""))).expect("it is told");
        let ns = line.split_once("\"ns\":").and_then(|(_, rest)| rest.split_once(','));
        ns.expect("its moment").0.parse().expect("a number")
    };
    assert!(told.contains("\"/dev/ttyUSB1\"") && moment("back") > moment("unplugged"), "{told}");
    assert!(told.contains("\"why\":\"away\""), "{told}");
    let ms = (moment("back") - moment("unplugged")) / 1_000_000;
    assert!(told.contains(&format!("\"tty\":\"/dev/ttyUSB1\",\"away_ms\":{ms},")), "{told}");
    let heard = guest.well("cat /tmp/heard");
    assert!(heard.contains(&format!("back as /dev/ttyUSB1, gone for {ms} ms\n")), "{heard}");
    away(guest, &add("one", "adapter", "2", "BENCH7"));
    // Its port loses its power, and has it again. The emulated controller sees who is there then where nobody else is.
    guest.order(r#"{"execute":"device_del","arguments":{"id":"two"}}"#);
    guest.until("! test -e /dev/ttyUSB0");
    let switch = "cat /sys/bus/usb/devices/1-0:1.0/usb1-port2/disable";
    guest.well("sai-buddy /tmp/b.json power b off");
    assert_eq!(guest.well(switch), "1\n");
    guest.until("test $(grep -c '\"unplugged\"' /tmp/record) = 3");
    guest.well("sai-buddy /tmp/b.json power b on");
    assert_eq!(guest.well(switch), "0\n");
    guest.until("test $(grep -c '\"back\"' /tmp/record) = 3");
    guest.serial.write_all(b"three").expect("the adapter");
    guest.until("grep three /tmp/heard");
}

/// Orders of DTR (1) and RTS (2), each with both, and of BREAK (4, with nothing beside it), in FTDI's requests.
fn signals(told: &str) -> Vec<u32> {
    let value = |line: &str, request: &str| {
        let (_, value) = line.split_once(&format!("control {request}, value 0x"))?;
        u32::from_str_radix(value, 16).ok()
    };
    let orders = told.lines().filter_map(|line| match value(line, "0x4001") {
        Some(lines) => Some(lines & 3),
        // Bit 14 of what says how characters look.
        None => value(line, "0x4004").map(|format| format >> 12 & 4),
    });
    orders.collect()
}

/// Processes of sai-buddy whose command line has this word.
fn processes(guest: &mut Guest, word: &str) -> String {
    let all = "for p in $(pidof sai-buddy); do tr '\\0' ' ' </proc/$p/cmdline | grep -q";
    guest.well(&format!("{all} ' {word} ' && echo -n \" $p\"; done; true"))
}

/// Owner and guard are killed while all that a board has is where something happens to it: by either interface of the kernel's GPIOs.
fn killed(guest: &mut Guest) {
    let switch = "cat /sys/bus/usb/devices/1-0:1.0/usb1-port3/disable";
    for (shim, file) in [("first-interface /usr/bin/", "gpio-linehandle"), ("second-interface /usr/bin/", "gpio-line")]
    {
        bench(guest, "", r#", "sequences": { "hold": ["boot0 1, nrst 1, en 1, main.rts 0, halt 1, vbus 0"] }"#);
        let more =
            r#""en": { "dtr": "main", "safe": 0 }, "halt": { "break": "main" }, "vbus": { "usb_port": "1-3" }, "#;
        guest.well(&format!("sed -i 's/\"led\": {{/{more}&/' /tmp/b.json"));
        let (_, from) = guest.told(0);
        guest.well(&format!("{shim}sai-buddy /tmp/b.json record b --for 10ms"));
        guest.until(&format!("{STATUS} | grep 'there.:true' | grep 'guarded.:true' | grep 'low_latency.:true'"));
        // Nothing is said of RTS but that a step moves it, so that it rests as the kernel has it of a tty that is opened.
        let (told, _) = guest.told(from);
        assert!(signals(&told).ends_with(&[2, 0]), "{shim}opened: {told}");
        let hold = |guest: &mut Guest| {
            guest.look();
            guest.moved.clear();
            let (_, from) = guest.told(0);
            guest.well("sai-buddy /tmp/b.json play b hold");
            guest.look();
            assert_eq!(guest.moved, [(BOOT0, true), (NRST, false)]);
            let (told, from) = guest.told(from);
            assert!(signals(&told).ends_with(&[1, 4]), "{shim}held: {told}");
            assert_eq!(guest.well(switch), "1\n");
            guest.moved.clear();
            from
        };
        let from = hold(guest);
        let guard = processes(guest, "guard");
        let held = guest.well(&format!("ls -l /proc/{}/fd", guard.trim()));
        assert!(held.contains(&format!("anon_inode:{file}\n")), "{held}");
        let owner = processes(guest, "owner");
        guest.well(&format!("kill -9{owner}"));
        // There is no owner before somebody wants something of the board: it is the guard's doing.
        guest.until(&format!("{switch} | grep 0"));
        let began = Instant::now();
        let (told, from) = loop {
            let (told, end) = guest.told(from);
            guest.look();
            let all = signals(&told).len() == 2 && guest.moved.len() == 2;
            if all || began.elapsed() > LONG {
                break (told, end);
            }
        };
        assert_eq!(signals(&told), [2, 0], "{shim}killed: {told}");
        assert_eq!(guest.moved, [(BOOT0, false), (NRST, true)]);
        // The next one moves nothing, and goes on with the same.
        guest.well(&format!("{shim}sai-buddy /tmp/b.json record b --for 10ms"));
        let (told, _) = guest.told(from);
        assert!(signals(&told).chunks(2).all(|orders| orders == [2, 0]), "{shim}taken back: {told}");
        let from = hold(guest);
        let all = processes(guest, "guard") + &processes(guest, "owner");
        guest.well(&format!("kill -9{all}"));
        guest.until("! pidof sai-buddy");
        assert_eq!(guest.well(switch), "1\n");
        // Nobody has held anything, and whoever comes now sets it right.
        guest.well(&format!("{shim}sai-buddy /tmp/b.json record b --for 10ms"));
        guest.until(&format!("{switch} | grep 0"));
        let (told, _) = guest.told(from);
        assert!(signals(&told).ends_with(&[2, 0]), "{shim}begun anew: {told}");
        guest.look();
        assert_eq!(guest.moved, [(BOOT0, false), (NRST, true)]);
        let said = guest.well("sai-buddy /tmp/b.json stop b 2>&1");
        assert!(said.contains("nobody holds line boot0 any more: \"unheld\" does not say"), "{said}");
        guest.until("! sai-buddy /tmp/b.json status b");
        let guard = processes(guest, "guard");
        guest.well(&format!("kill -9{guard}"));
    }
}

/// The same in the middle of a trial, which goes on: its log has the gap and its length.
fn away(guest: &mut Guest, add: &str) {
    guest.well(r#"sed -i 's/"power"/"sequences": { "reset": ["nrst 1", "nrst 0"] }, &/' /tmp/b.json; sai-buddy /tmp/b.json update b"#);
    guest.well(
        "rm /tmp/log; sai-buddy /tmp/b.json test b /tmp/.sai.json fw --record /tmp/log >/tmp/said 2>&1 & process=$!",
    );
    guest.until("grep '\"judged\":true' /tmp/log");
    guest.order(r#"{"execute":"device_del","arguments":{"id":"one"}}"#);
    guest.until("grep '# console main is unplugged' /tmp/said");
    // The emulated adapter lets go of its line a little after the machine has seen it go.
    let (began, asks) = (Instant::now(), r#"{"execute":"query-chardev"}"#);
    let lets_go = |answer: String| {
        answer.split('{').any(|one| one.contains("\"adapter\"") && one.contains("\"frontend-open\": false"))
    };
    while !lets_go(guest.order(asks)) {
        assert!(began.elapsed() < LONG, "the adapter keeps its line");
    }
    guest.order(add);
    guest.until("grep '# console main is back: /dev/ttyUSB' /tmp/said");
    // Of the line in which something is missing nobody knows what it was.
    guest.serial.write_all(b"rest\r\n").expect("the adapter");
    let (said, log) = passed(guest);
    let (mut marks, mut missing) = (Vec::new(), Vec::new());
    let taken = Decoder::new().push(&log, |item| {
        let Item::Later { micros, .. } = &item else { return };
        match Entry::of(&item) {
            Some(Entry::Mark(mark)) if matches!(mark.what, What::Unplugged | What::Back) => {
                marks.push((*micros, mark.away_ms));
            }
            Some(Entry::Loss(0, loss)) => missing.push((loss.lost, loss.why)),
            _ => {}
        }
    });
    taken.expect("a log");
    let [(gone, None), (back, Some(ms))] = marks[..] else { panic!("{marks:?}: {said}") };
    // Both moments are whole microseconds since the log began.
    assert!((back - gone).abs_diff(ms * 1000) <= 1001, "{marks:?}");
    assert!(said.contains(&format!(", gone for {ms} ms\n")), "{said}");
    assert_eq!(missing, [(None, "away".to_string())]);
}

/// Two boards of which nothing is wanted: what owners and guard take of the memory, and what they do.
fn idle(guest: &mut Guest) {
    guest.order(
        r#"{"execute":"device_add","arguments":{"driver":"usb-serial","id":"two","chardev":"none","bus":"hub.0","port":"3","serial":"OTHER"}}"#,
    );
    bench(guest, "", "");
    guest.well("sai-buddy guard --update; killall sai-buddy; true");
    guest.until("! pidof sai-buddy");
    let board = |name: &str, port: u8| {
        let lines = format!(r#""lines": {{ "l": {{ "line": {port}, "safe": 0 }} }}"#);
        format!(r#""{name}": {{ "type": "t", "consoles": {{ "main": {{ "usb": "1-{port}" }} }}, {lines} }}"#)
    };
    let text = format!(r#"{{ "chip": "gpiochip0", "boards": {{ {}, {} }} }}"#, board("b", 2), board("c", 3));
    guest.write("/tmp/b.json", &text);
    for name in ["b", "c"] {
        guest.well(&format!("sai-buddy /tmp/b.json record {name} --for 10ms"));
        guest.until(&format!("sai-buddy /tmp/b.json status {name} --json | grep 'there.:true' | grep 'guarded.:true'"));
    }
    let processes = guest.well("pidof sai-buddy");
    assert_eq!(processes.split_whitespace().count(), 3, "{processes}");
    let done = "for p in $(pidof sai-buddy); do grep -E 'syscw|write_bytes' /proc/$p/io; cat /proc/$p/task/*/status | grep voluntary; done";
    let (mut before, mut quiet) = (guest.well(done), guest.well(done));
    while before != quiet {
        before = std::mem::replace(&mut quiet, guest.well(&format!("sleep 1; {done}")));
    }
    assert_eq!(
        guest.well(&format!("sleep 3; {done}")),
        quiet,
        "what they have written, and how often they were woken up"
    );
    let sizes = guest.well("for p in $(pidof sai-buddy); do awk '/^Pss:/ { print $2 }' /proc/$p/smaps_rollup; done");
    let sizes: Vec<u64> = sizes.split_whitespace().map(|size| size.parse().expect("KiB")).collect();
    println!("guard and owners of two idle boards: {sizes:?} KiB, proportionally");
    assert!(sizes.len() == 3 && sizes.iter().sum::<u64>() <= IDLE_KIB, "{sizes:?} KiB");
}

#[test]
fn resets_parity_edges_and_plugs_are_what_the_hardware_beyond_sees() {
    let mut guest = Guest::new("wires");
    resets(&mut guest);
    formats(&mut guest);
    stm32(&mut guest);
    at_names(&mut guest);
    driven_one_way(&mut guest);
    killed(&mut guest);
    edges(&mut guest);
    unseen(&mut guest);
    settled(&mut guest);
    polled(&mut guest);
    counted(&mut guest);
    walked(&mut guest);
    unplugged(&mut guest);
    idle(&mut guest);
}
