//! A machine → what is found when its hardware is tried, one check for each kind; with a person or a wire where somebody said there is one.

use crate::lines::{self, Group, Outputs, Seen};
use crate::ports::{Adapter, Places, adapters};
use crate::serial::{Serial, monotonic_ns};
use sai_core::bench::{Bias, Console, Drive, Flow, Line, Parity, Pin, Settings, Tty, Use, Wire};
use sai_core::console::Piece;
use sai_core::selftest::{self, CHANGES, Check, Followed, Outcome};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Time for a level to get from one end of a wire to the other, and to be seen there.
const SETTLES: Duration = Duration::from_millis(250);
/// Changes after which a line that has not moved at all is given up.
const STILL: usize = 8;
/// Time between two looks whether it has.
const LOOK: Duration = Duration::from_micros(100);
/// Time for which a serial line says nothing more, before it and after it is tried.
const QUIET: Duration = Duration::from_millis(300);
/// The longest that bytes may take from one end of a wire to the other: an adapter keeps some for 16 ms.
const UNDERWAY: Duration = Duration::from_secs(3);
/// Time for a person to pull a plug, and to put it back.
const PULLED: Duration = Duration::from_secs(60);
/// Time since its start in which a machine finds what is plugged into it.
const FOUND: Duration = Duration::from_secs(30);
/// Time between two looks at what is plugged in.
const PLUGS: Duration = Duration::from_millis(50);
/// Time for a network to come up: a machine that has just started shakes hands with a switch, or looks for a radio network.
const NETWORK: Duration = Duration::from_secs(20);
/// Blocks that are flushed to a disk, one after the other.
const FLUSHES: usize = 64;
/// Bytes of each.
const BLOCK: usize = 4096;

/// What is tried beside that which needs nobody.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// GPIOs of a chip that a wire leads from and to.
    pub gpio: Option<(u32, u32)>,
    /// The chip; the kernel's first one where it is not said.
    pub chip: Option<String>,
    /// A serial line with a wire from TX to RX, and its speed.
    pub serial: Option<(String, u32)>,
    /// Whether a person is there to pull a plug.
    pub unplug: bool,
    /// A directory on the disk that is to be tried.
    pub disk: Option<PathBuf>,
}

/// What this machine is.
pub fn machine(places: &Places) -> Vec<(&'static str, String)> {
    let system = rustix::system::uname();
    let said = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let kernel = format!("{} {} {}", said(system.sysname()), said(system.release()), said(system.machine()));
    let model = read(&tree(places).join("model")).unwrap_or_else(|| "no device tree names it".to_owned());
    let memory = read(Path::new("/proc/meminfo")).unwrap_or_default();
    let memory = memory.lines().next().unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    vec![("machine", model), ("kernel", kernel), ("memory", memory)]
}

/// Tries everything. `ask` tells a person what to do.
pub fn run(wanted: &Wanted, places: &Places, ask: &mut dyn FnMut(&str)) -> Vec<Check> {
    let check = |name, proves, (outcome, found)| Check { name, outcome, found, proves };
    vec![
        check("firmware", "the Pi's own firmware started this kernel", firmware(places)),
        check("watchdog", "it counts and is fed; not that a machine that hangs is started anew", watchdog(places)),
        check("disk", "it takes what is flushed in the time that is said", disk(wanted)),
        check("gpio", "lines are driven and read, and edges stamped", gpio(wanted, places)),
        check("serial", "the line loses and changes nothing at this speed", serial(wanted, places)),
        check("usb", "a device is seen to go, and found again at its port", usb(wanted, places, ask)),
        check("cable", "the kernel has a driver for it, and it reaches a switch", network(places, false)),
        check("radio", "its firmware is loaded, and it is in a network", network(places, true)),
    ]
}

fn tree(places: &Places) -> PathBuf {
    places.sys.join("firmware/devicetree/base")
}

/// A text of the kernel's, without its end.
fn read(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).to_owned())
}

fn firmware(places: &Places) -> (Outcome, String) {
    let tree = tree(places);
    let Some(model) = read(&tree.join("model")).filter(|model| model.contains("Raspberry Pi")) else {
        return (Outcome::Absent, "this is no Raspberry Pi".to_owned());
    };
    match fs::read(tree.join("system/linux,revision")).ok().and_then(|bytes| bytes.try_into().ok()) {
        Some(revision) => (Outcome::Passed, format!("board revision {:x}", u32::from_be_bytes(revision))),
        None => {
            let text =
                "no board revision is in the device tree, as a Pi's firmware writes it: something else started it";
            (Outcome::Absent, format!("{model}, but {text}"))
        }
    }
}

fn watchdog(places: &Places) -> (Outcome, String) {
    let place = places.sys.join("class/watchdog/watchdog0");
    let Some(identity) = read(&place.join("identity")) else {
        return (Outcome::Absent, "the kernel shows none".to_owned());
    };
    let timeout = read(&place.join("timeout")).unwrap_or_default();
    match read(&place.join("state")).as_deref() {
        Some("active") => (Outcome::Passed, format!("{identity} starts the machine anew after {timeout} s")),
        _ => (Outcome::Unasked, format!("{identity} is there, and nobody has started it")),
    }
}

fn disk(wanted: &Wanted) -> (Outcome, String) {
    let Some(directory) = &wanted.disk else {
        return (Outcome::Unasked, "say --disk DIR to flush a few blocks to the disk that it is on".to_owned());
    };
    let file = directory.join(format!(".sai-selftest-{}", std::process::id()));
    let flushed = flush(&file);
    let removed = fs::remove_file(&file);
    match flushed.and_then(|times| removed.map(|()| times)) {
        Ok(mut times) => {
            times.sort_unstable();
            let ms = |time: Option<&Duration>| time.map_or(0, |time| time.as_millis());
            let (middle, last) = (ms(times.get(times.len() / 2)), ms(times.last()));
            (
                Outcome::Passed,
                format!("{FLUSHES} flushes of {BLOCK} bytes: {middle} ms in the middle, {last} ms at most"),
            )
        }
        Err(error) => (Outcome::Failed, format!("{}: {error}", directory.display())),
    }
}

fn flush(path: &Path) -> io::Result<Vec<Duration>> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    let bytes = selftest::bytes();
    let blocks = bytes.chunks(BLOCK).cycle().take(FLUSHES);
    blocks
        .map(|block| {
            let began = Instant::now();
            file.write_all(block)?;
            file.sync_data()?;
            Ok(began.elapsed())
        })
        .collect()
}

fn gpio(wanted: &Wanted, places: &Places) -> (Outcome, String) {
    let Some((out, into)) = wanted.gpio else {
        let named = lines::chips();
        return match named.is_empty() {
            true => (Outcome::Absent, "the kernel has no GPIO chip, or shows us none".to_owned()),
            false => {
                let text = "say --gpio OUT,IN with a wire from one to the other";
                (Outcome::Unasked, format!("{}; {text}", named.join(", ")))
            }
        };
    };
    let chip = wanted.chip.clone().unwrap_or_else(|| "gpiochip0".to_owned());
    match follow(&chip, out, into, places) {
        Ok(followed) => selftest::wire(out, into, &followed),
        Err(error) => (Outcome::Failed, error.to_string()),
    }
}

/// A group of one line.
fn group(chip: &str, pin: u32, kind: &str, use_as: Use) -> Group {
    let wire = Wire::Gpio(chip.to_owned(), Pin::Offset(pin));
    let line = Line { name: format!("GPIO {pin}"), wire, active_low: false, use_as, unheld: None };
    Group { name: format!("{chip}.{kind}"), chip: chip.to_owned(), lines: vec![line] }
}

fn follow(chip: &str, out: u32, into: u32, places: &Places) -> io::Result<Followed> {
    // What is not driven is 0, so that without a wire it does not follow by chance.
    let reads = Use::Input { bias: Bias::PullDown, debounce_us: 0, poll_ms: 0 };
    let drives = Use::Output { safe: false, drive: Drive::PushPull };
    let mut outputs = Outputs::request(group(chip, out, "push-pull", drives), places)?;
    let mut inputs = lines::inputs(&group(chip, into, "in-pulldown-0", reads), places)?;
    let (mut followed, mut seen) = (Followed::default(), Vec::new());
    // What it did before is of no use.
    thread::sleep(SETTLES);
    inputs.take(&mut seen)?;
    let name = format!("GPIO {out}");
    for change in 0..CHANGES {
        let set = change % 2 == 0;
        let (began, at) = (Instant::now(), monotonic_ns());
        outputs.set(&[(name.clone(), set)])?;
        seen.clear();
        let read = loop {
            inputs.take(&mut seen)?;
            let read = inputs.levels()? & 1 == 1;
            let reported = seen.iter().any(|seen| matches!(seen, Seen::Edge { level, .. } if *level == set));
            if read == set && reported || began.elapsed() >= SETTLES {
                break read;
            }
            thread::sleep(LOOK);
        };
        followed.levels.push((set, read));
        for seen in &seen {
            match seen {
                Seen::Edge { ns, .. } => {
                    followed.edges += 1;
                    followed.latest_ns = followed.latest_ns.max(ns.saturating_sub(at));
                }
                Seen::Lost { count, .. } => followed.lost += count.unwrap_or(1),
            }
        }
        if change + 1 == STILL && followed.edges == 0 {
            break;
        }
    }
    Ok(followed)
}

fn serial(wanted: &Wanted, places: &Places) -> (Outcome, String) {
    let Some((path, baud)) = &wanted.serial else {
        let ttys: Vec<String> = adapters(places).into_iter().flat_map(|adapter| adapter.ttys).collect();
        let there = if ttys.is_empty() { "no adapter on USB".to_owned() } else { ttys.join(", ") };
        return (Outcome::Unasked, format!("{there}; say --serial TTY with a wire from its TX to its RX"));
    };
    match echo(path, *baud, places) {
        Ok((sent, came, trouble, ms)) => selftest::echo(&sent, &came, &trouble, ms, *baud),
        Err(error) => (Outcome::Failed, format!("{path}: {error}")),
    }
}

/// What was sent, what came, what went wrong meanwhile, and in how many milliseconds.
type Echo = (Vec<u8>, Vec<u8>, Vec<String>, u64);

fn echo(path: &str, baud: u32, places: &Places) -> io::Result<Echo> {
    let settings = Settings { baud, bits: 8, parity: Parity::None, stop: 1, flow: Flow::None };
    let console = Console {
        name: "selftest".to_owned(),
        tty: Tty::Path(path.to_owned()),
        serial: None,
        product: None,
        settings,
        dtr: None,
        rts: None,
        pace_ms: 0,
        echo: false,
    };
    let open = || Serial::open(&console, places);
    let line = within(starting(), || open().ok()).map_or_else(open, |(line, _)| Ok(line))?;
    while line.take(QUIET).is_some() {}
    let sent = selftest::bytes();
    let (mut came, mut trouble) = (Vec::new(), Vec::new());
    let began = Instant::now();
    let mut last = Duration::ZERO;
    line.send(&sent)?;
    // A little longer than it takes, to see whether more comes than was sent.
    while let Some(piece) = line.take(if came.len() < sent.len() { UNDERWAY } else { QUIET }) {
        match piece {
            Piece::Bytes { bytes, .. } => {
                came.extend(bytes);
                last = began.elapsed();
            }
            Piece::Lost { why, .. } => trouble.push(why.word().to_owned()),
            Piece::Unplugged { .. } => {
                trouble.push("the tty went away".to_owned());
                break;
            }
            Piece::Back { .. } => {}
        }
        if came.len() > sent.len() * 2 {
            break;
        }
    }
    Ok((sent, came, trouble, u64::try_from(last.as_millis()).unwrap_or(u64::MAX)))
}

fn usb(wanted: &Wanted, places: &Places, ask: &mut dyn FnMut(&str)) -> (Outcome, String) {
    let plugged = || Some(adapters(places)).filter(|all| !all.is_empty());
    let before = within(starting(), plugged).map_or_else(Vec::new, |(all, _)| all);
    let named = |adapter: &Adapter| format!("{} at USB port {}", adapter.product, adapter.port);
    let list = || before.iter().map(named).collect::<Vec<_>>().join(", ");
    if before.is_empty() {
        return (Outcome::Absent, "no serial adapter is on USB".to_owned());
    }
    if !wanted.unplug {
        return (Outcome::Unasked, format!("{}; say --unplug, and pull one when that is asked for", list()));
    }
    ask(&format!(
        "pull the plug of {} now",
        if before.len() > 1 { "one of the serial adapters" } else { "the serial adapter" }
    ));
    let is_gone = |adapter: &&Adapter| !adapters(places).iter().any(|now| now.port == adapter.port);
    let Some((gone, _)) = within(PULLED, || before.iter().find(is_gone)) else {
        return (Outcome::Failed, format!("none of {} went in {} s", list(), PULLED.as_secs()));
    };
    ask(&format!("{} is gone: plug it in again where it was", named(gone)));
    let back = || adapters(places).into_iter().find(|now| now.port == gone.port && now.product == gone.product);
    match within(PULLED, back) {
        Some((now, _)) => {
            let names = format!("{} and then {}", gone.ttys.join(", "), now.ttys.join(", "));
            (Outcome::Passed, format!("{} went and came back, as {names}", named(gone)))
        }
        None => (Outcome::Failed, format!("{} went, and did not come back in {} s", named(gone), PULLED.as_secs())),
    }
}

/// How long what is not there may still be found: no time where the machine has been on for long.
fn starting() -> Duration {
    FOUND.saturating_sub(Duration::from_nanos(monotonic_ns()))
}

/// Looks for something again and again, and says after what time it was there.
fn within<T>(time: Duration, look: impl Fn() -> Option<T>) -> Option<(T, Duration)> {
    let began = Instant::now();
    loop {
        let elapsed = began.elapsed();
        match look() {
            Some(found) => return Some((found, elapsed)),
            None if elapsed >= time => return None,
            None => thread::sleep(PLUGS),
        }
    }
}

fn network(places: &Places, wireless: bool) -> (Outcome, String) {
    let all = places.sys.join("class/net");
    let names = || -> Vec<String> {
        let entries = fs::read_dir(&all).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| entry.path().join("device").exists())
            .filter(|entry| ["phy80211", "wireless"].iter().any(|of| entry.path().join(of).exists()) == wireless)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let state = |name: &String| read(&all.join(name).join("operstate"));
    let is_up = |name: &String| state(name).is_some_and(|state| state == "up");
    // What Documentation/networking/operstates.rst calls so is a driver that tells nothing of its link.
    let is_mute = |name: &&String| state(name).is_some_and(|state| state == "unknown");
    let driver = |name: &str| {
        let driver = fs::read_link(all.join(name).join("device/driver")).ok();
        let driver = driver.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        format!("{name} ({})", driver.unwrap_or_else(|| "no driver is named".to_owned()))
    };
    let listed = names().iter().map(|name| driver(name)).collect::<Vec<_>>().join(", ");
    if listed.is_empty() {
        return (Outcome::Absent, format!("no {} interface", if wireless { "wireless" } else { "wired" }));
    }
    match (within(NETWORK, || names().into_iter().find(is_up)), names().iter().find(is_mute)) {
        (Some((name, _)), _) => (Outcome::Passed, format!("{} is up", driver(&name))),
        (None, _) if wireless => (Outcome::Unasked, format!("{listed}: in no network")),
        (None, Some(mute)) => {
            (Outcome::Unasked, format!("{}: its driver does not say whether a cable is plugged in", driver(mute)))
        }
        (None, None) => (Outcome::Unasked, format!("{listed}: no cable is plugged in")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pty::Pty;
    use std::io::Read as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn machine_at(name: &str) -> (PathBuf, Places) {
        let top = std::env::temp_dir().join(format!("sai-selftest-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        let places = Places { sys: top.join("sys"), dev: top.join("dev") };
        fs::create_dir_all(places.dev.join("shm")).expect("a directory");
        (top, places)
    }

    fn put(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }

    #[test]
    fn without_hardware_it_is_said_what_is_not_there() {
        let (top, places) = machine_at("nothing");
        let checks = run(&Wanted::default(), &places, &mut |_| {});
        for name in ["firmware", "watchdog", "usb", "cable", "radio"] {
            let check = checks.iter().find(|check| check.name == name).expect("a check");
            assert_eq!(check.outcome, Outcome::Absent, "{check:?}");
        }
        assert!(checks.iter().all(|check| !matches!(check.outcome, Outcome::Passed | Outcome::Failed)), "{checks:?}");
        fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn what_a_pi_shows_is_found() {
        let (top, places) = machine_at("pi");
        let base = tree(&places);
        put(&base.join("model"), b"Raspberry Pi 3 Model B Rev 1.2\0");
        assert!(matches!(firmware(&places), (Outcome::Absent, text) if text.contains("something else started it")));
        put(&base.join("system/linux,revision"), &[0, 0xa0, 0x20, 0x82]);
        assert_eq!(firmware(&places), (Outcome::Passed, "board revision a02082".to_owned()));
        let watched = places.sys.join("class/watchdog/watchdog0");
        put(&watched.join("identity"), b"Broadcom BCM2835 Watchdog timer\n");
        put(&watched.join("timeout"), b"15\n");
        put(&watched.join("state"), b"inactive\n");
        assert_eq!(watchdog(&places).0, Outcome::Unasked);
        put(&watched.join("state"), b"active\n");
        assert!(matches!(watchdog(&places), (Outcome::Passed, text) if text.ends_with("after 15 s")));
        let radio = places.sys.join("class/net/wlan0");
        put(&radio.join("operstate"), b"up\n");
        for directory in ["device", "phy80211"] {
            fs::create_dir_all(radio.join(directory)).expect("a directory");
        }
        assert!(matches!(network(&places, true), (Outcome::Passed, text) if text.starts_with("wlan0")));
        assert_eq!(network(&places, false).0, Outcome::Absent);
        let wired = places.sys.join("class/net/eth0");
        fs::create_dir_all(wired.join("device")).expect("a directory");
        put(&wired.join("operstate"), b"up\n");
        assert!(matches!(network(&places, false), (Outcome::Passed, text) if text.starts_with("eth0")));
        fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn a_disk_is_flushed_to_and_left_as_it_was() {
        let (top, _) = machine_at("disk");
        let wanted = |place: &Path| Wanted { disk: Some(place.to_path_buf()), ..Wanted::default() };
        assert_eq!(disk(&wanted(&top)).0, Outcome::Passed);
        assert_eq!(disk(&wanted(&top.join("none"))).0, Outcome::Failed);
        assert_eq!(fs::read_dir(&top).expect("a directory").count(), 1, "nothing but what was there");
        fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn a_wire_between_two_lines_is_followed() {
        let (top, places) = machine_at("wire");
        let ends = AtomicBool::new(false);
        let wanted = Wanted { gpio: Some((17, 27)), chip: Some("levels:loop".to_owned()), ..Wanted::default() };
        let wired = std::thread::scope(|scope| {
            scope.spawn(|| {
                // The wire: what one line is, the other one is told.
                let (out, into) = (places.dev.join("shm/loop.out"), places.dev.join("shm/loop.in-pulldown-0.in"));
                let mut last = b'0';
                while !ends.load(Ordering::Relaxed) {
                    let level = fs::read(&out).ok().and_then(|levels| levels.first().copied()).unwrap_or(last);
                    if level != last && into.exists() {
                        let mut pipe = fs::OpenOptions::new().write(true).open(&into).expect("a pipe");
                        pipe.write_all(&[b'a', level]).expect("it is read");
                        last = level;
                    }
                    thread::sleep(Duration::from_micros(50));
                }
            });
            let found = gpio(&wanted, &places);
            ends.store(true, Ordering::Relaxed);
            found
        });
        assert!(matches!(&wired, (Outcome::Passed, text) if text.contains("in all 200 changes")), "{wired:?}");
        let cut = gpio(&wanted, &places);
        assert!(matches!(&cut, (Outcome::Failed, text) if text.contains("stays 0")), "{cut:?}");
        let none = gpio(&Wanted { chip: Some("gpiochip77".to_owned()), ..wanted }, &places);
        assert!(matches!(&none, (Outcome::Failed, text) if text.contains("gpiochip77")), "{none:?}");
        fs::remove_dir_all(top).expect("removed");
    }

    #[test]
    fn a_wire_from_a_serial_line_to_itself_gives_all_back() {
        for (change, outcome) in [(None, Outcome::Passed), (Some(5_000), Outcome::Failed)] {
            let Pty { master, slave, path } = Pty::new(None).expect("a pty");
            // The wire ends when the line is closed, which is the only one that has it open.
            drop(slave);
            let path = path.display().to_string();
            let wire = std::thread::spawn(move || {
                let mut master = fs::File::from(master);
                let (mut buffer, mut count) = ([0; 4096], 0);
                while count < selftest::BYTES {
                    let Ok(length) = master.read(&mut buffer) else { continue };
                    if let Some(place) = change.filter(|place| (count..count + length).contains(place)) {
                        buffer[place - count] ^= 0x20;
                    }
                    master.write_all(&buffer[..length]).expect("it is read");
                    count += length;
                }
                // It is there until the line is closed.
                while master.read(&mut buffer).is_ok() {}
            });
            let wanted = Wanted { serial: Some((path, 115_200)), ..Wanted::default() };
            let found = serial(&wanted, &Places::default());
            assert_eq!(found.0, outcome, "{found:?}");
            assert!(change.is_none() || found.1.contains("byte 5000 was sent as"), "{found:?}");
            wire.join().expect("the wire ends");
        }
    }
}
