//! The image for a Raspberry Pi, as its owner meets it: written to a card with one file, started, and told what is wrong with that file.
//!
//! Each start of an emulated Pi takes its time, so of the ways in which an update can be bad each run tries one; `SAI_ROUNDS=2` has both.

mod contained;
mod cuts;
mod mission;
#[path = "../../../agent/tests/roots/mod.rs"]
mod roots;
mod shell;
mod two;
mod zero;

use sai_core::update::Purpose;
use sai_master::update_key::UpdateKey;
use sai_master::updates;
use sai_tests::cross::{agent_for_image, init, root};
use sai_tests::machine::{BOOT, world};
use sai_tests::pi::{Card, Model, Update, Wire, make_image, moment};
use sai_tests::process::{Process, eventually_within};
use sai_tests::proxy::Proxy;
use sai_tests::random::rounds;
use sai_tests::world::World;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// Bytes that an image may have, packed and not.
const PACKED: u64 = 40_000_000;
/// See `PACKED`.
const UNPACKED: u64 = 64_000_000;
/// The kernel's arguments.
const ARGUMENTS: &str = "a/cmdline.txt";
/// The number of the board that joins.
const SERIAL: &str = "10000000c0ffee00";

/// Whether one is contained in the other.
fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

/// Agent and first process of the image.
fn programs() -> &'static [PathBuf; 2] {
    static PROGRAMS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PROGRAMS.get_or_init(|| [agent_for_image("aarch64"), init("aarch64")])
}

/// The image, made once for all that want it.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    let [agent, init] = programs();
    IMAGE.get_or_init(|| make_image(Model::Pi3, agent, init, &root().join("target/image/tried")))
}

/// What the README has people do and write for a card: to make the image, to write it and to let the Pi in, and the card's one file.
fn readme() -> [String; 4] {
    let text = fs::read_to_string(root().join("README.md")).expect("README.md");
    let section = |title: &str| -> Vec<String> {
        let inside = text.split_once(&format!("\n## {title}\n")).expect("a section").1;
        let inside = inside.split("\n## ").next().unwrap_or_default();
        inside.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
    };
    let all = [section("Building the image"), section("A Pi in ten minutes")].concat();
    all.try_into().expect("three commands and a file, which are tried here")
}

/// A card with the image, written as the README says.
fn written(image: &Path, file: &Path) -> Card {
    let [make, write, ..] = readme();
    assert_eq!(make, "cross/image", "what the image was made with");
    Card::write(&write, &image.with_extension("img.gz"), file)
}

#[test]
fn a_card_with_a_join_line_makes_a_pi_that_builds() {
    let image = image();
    let (world, _daemon) = world("pi");
    let size = |path: &Path| fs::metadata(path).expect("a file").len();
    let packed = image.with_extension("img.gz");
    eprintln!("pi3: the image has {} bytes, packed {}", size(image), size(&packed));
    assert!(size(image) <= UNPACKED && size(&packed) <= PACKED, "{} {}", size(image), size(&packed));
    let bill = fs::read_to_string(image.with_extension("cdx.json")).expect("a bill of materials");
    for part in [
        "pkg:deb/debian/git@",
        "pkg:deb/debian/dropbear-bin@",
        "pkg:deb/debian/raspi-firmware@",
        "pkg:cargo/ring@",
        "pkg:cargo/sai-init@",
        "pkg:generic/musl@",
    ] {
        assert!(bill.contains(part), "{part} is not in the bill of materials");
    }

    let _master = world.master();
    let line = world.join_line("shed");
    let card = written(image, &world.directory.join("card.img"));
    mistakes_are_told(&world, &card, &line);
    let wire = Wire::default();
    card.put(contained::ARCHIVE, contained::archive(&world.directory));
    let owner = shell::Person::new(&world.directory, "owner");
    let mut machine = joined(&world, &card, &line, &wire, &owner.public());
    shell::lets_in(&machine, &wire, &world.directory, &owner);
    assert_eq!(eventually_within(BOOT, "its name is known", || wire.ask("SHED")), Ipv4Addr::new(10, 0, 2, 15));
    assert_eq!(wire.ask("barn"), None, "that is nobody's name");
    builds(&world);
    contained::builds(&world);
    machine.kill();
    // Where its card was copied to it is another one, which needs a line of its own.
    let [_, _, add, file] = readme();
    assert_eq!(add, "sudo sai-master agent add shed", "what gave the first line");
    card.put("sai.json", file.replace("LINE", &world.join_line("barn")));
    at_once(&card);
    let wire = Wire::default();
    let other = card.start(&world.directory.join("other"), "10000000deadbee0", &wire);
    other.await_line_for(BOOT, "has drawn an identity of its own");
    eventually_within(BOOT, "the other one has joined", || {
        world.agents().into_iter().find(|agent| agent.name == "barn" && agent.state == "idle")
    });
    // Its file names no key any more.
    shell::lets_nobody_in(&other, &wire);
}

/// Has the factory's system started without a look at the others, which halves the time of a start.
fn at_once(card: &Card) -> String {
    let arguments = String::from_utf8(card.get(ARGUMENTS).expect("arguments")).expect("text").trim().to_owned();
    card.put(ARGUMENTS, format!("{} sai.slot=factory\n", arguments.replace("nr_cpus=1", "")));
    arguments
}

/// Nothing begins, and screen and card say why.
fn mistakes_are_told(world: &World, card: &Card, line: &str) {
    card.put("sai.json", format!("{{\n  \"join\": \"{line}\",\n  \"slots\": 0, \"colour\": \"red\"\n}}\n"));
    let arguments = at_once(card);
    let mut machine = card.start(&world.directory.join("shed"), SERIAL, &Wire::default());
    machine.await_line_for(BOOT, "sai.json:3:15: colour: expected one of join, hostname");
    eventually_within(BOOT, "the card says what is wrong", || {
        card.get("sai-errors.txt").filter(|text| text.ends_with(b"\n"))
    });
    machine.kill();
    let told = String::from_utf8(card.get("sai-errors.txt").expect("what is wrong")).expect("text");
    assert!(told.starts_with("sai.json:3:12: slots: expected a whole number from 1 to"), "{told}");
    card.put(ARGUMENTS, arguments + "\n");
    assert!(!told.contains(line) && world.agents().iter().all(|agent| agent.state != "idle"), "{told}");
}

/// The machine, which has joined; the card tells nobody any more by what.
fn joined(world: &World, card: &Card, line: &str, wire: &Wire, key: &str) -> Process {
    card.put(
        "sai.json",
        format!(
            "{{\n  \"join\": \"{line}\", # the one secret\n  \"hosts\": {{ \"localhost\": \"10.0.2.2\" }}, \"ntp\": \"10.0.2.2\",\n  \
             \"platforms\": \"linux-pi/aarch64\", \"slots\": 1, \"images\": {{ \"{}\": \"{}\" }}, \"shell\": \"{key}\"\n}}\n",
            contained::PLATFORM,
            contained::ARCHIVE
        ),
    );
    let machine = card.start(&world.directory.join("shed"), SERIAL, wire);
    let joined = || world.agents().into_iter().find(|agent| agent.name == "shed" && agent.state == "idle");
    eventually_within(BOOT, "the Pi has joined", joined);
    let connected = machine.await_line_for(BOOT, "connected as");
    for line in machine.said().iter().filter(|line| line.contains("] sai: ")) {
        eprintln!("pi3: {line}");
    }
    // The first stage's clock ends with it, and the next kernel's begins.
    let first =
        machine.said().iter().find(|line| line.contains("the factory's system is started")).map(|line| moment(line));
    let (first, second) = (first.expect("a first stage"), moment(&connected));
    eprintln!("pi3: joined {:.1} s after its start, emulated: {first:.1} s and {second:.1} s", first + second);
    // All else of the file is left, and the secret is not on the partition, wherever one looks.
    let left = String::from_utf8(card.get("sai.json").expect("the settings")).expect("text");
    assert!(left.contains("\"join\": \"moved  ") && left.contains("# the one secret"), "{left}");
    // What the card held before it was mended is gone, too; that may be told before the agent is connected.
    let swept = "the free part of the boot partition had 1 old copies of secrets";
    let told = || machine.said().iter().any(|line| line.contains(swept)).then_some(());
    eventually_within(BOOT, "old copies are gone", told);
    let token = line.rsplit(':').nth(1).expect("a token");
    assert!(!holds(&card.bytes()[..128 << 20], token), "the token is on the boot partition");
    assert_eq!(card.get("sai-errors.txt"), None, "nothing is wrong any more");
    machine
}

/// A repository with a program and its tests, which the Pi gets with its own git and runs with its own tools.
fn builds(world: &World) {
    world.repository.write(
        "count.awk",
        "{ for (at = 1; at <= NF; at++) words[$at]++ }\nEND { for (word in words) print words[word], word }\n",
    );
    world.repository.write("tests/two.txt", "one two\ntwo\n");
    world.repository.write("tests/two.expected", "1 one\n2 two\n");
    let steps = [
        "cat /sys/class/gpio/gpiochip*/label; ls /dev/gpiochip0",
        "id -un; git --version; git log --oneline | wc -l; hostname; date +%Y",
        shell::STEP,
        shell::LISTENING,
        "awk -f count.awk tests/two.txt | sort >counted; diff tests/two.expected counted && echo counted well",
    ];
    let build = miniserde::json::to_string(&steps.map(str::to_owned).to_vec());
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-pi/aarch64\": {{\"build\": {build}}}}}, \
          \"configurations\": {{\"default\": {{\"artifacts\": \"counted\"}}}}}}"
    ));
    let event = world.ended_within(BOOT, 1);
    let log = String::from_utf8_lossy(&world.log(1)).into_owned();
    assert_eq!(event.jobs[0].state, "passed", "{event:?}: {log}");
    for part in
        ["pinctrl-bcm2835", "/dev/gpiochip0", "\nsai\n", "git version", "\nshed\n", "refused 42", "counted well"]
    {
        assert!(log.contains(part), "no {part:?} in {log}");
    }
    assert_eq!(shell::listening(&log).into_iter().collect::<Vec<_>>(), [22], "{log}");
    let year = log.lines().find_map(|line| line.parse().ok().filter(|year: &u32| *year > 1000));
    assert!(year.is_some_and(|year| year >= 2024), "a machine without a clock is in {year:?}: {log}");
    assert_eq!(event.jobs[0].artifacts.len(), 1, "{event:?}");
}

/// Seconds in which a new system has to reach the master, so that nobody waits for minutes.
const REJOIN: u32 = 25;
/// When the power is cut, after an update has begun to be written.
const MIDDLE: Duration = Duration::from_secs(1);
/// Bytes of an image that are still to come when it is asked for: an emulated cable brings a few MiB in a minute.
const LEFT: usize = 1 << 20;
/// Bytes that have passed when its way is cut.
const CUT: u64 = 400_000;

/// Has the master give the card an image. Where the master keeps it, signed.
fn gives(world: &World, update: &Update) -> PathBuf {
    let file = world.directory.join(update.name());
    fs::write(&file, update.bytes()).expect("an image");
    world.command(&["agent", "update", "shed", &file.display().to_string()]);
    let files = fs::read_dir(world.state().join("updates")).expect("images").map(|entry| entry.expect("one").path());
    let written = |file: &PathBuf| fs::metadata(file).and_then(|about| about.modified()).expect("a time");
    files.max_by_key(written).expect("the last one")
}

/// The same, and the image is another one before the agent can ask for it: its way is stalled.
fn gives_another(world: &World, update: &Update, then: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let kept = gives(world, update);
    let bytes = fs::read(&kept).expect("an image");
    let (length, then) = (bytes.len(), then(bytes));
    assert_eq!(then.len(), length, "no agent would take another length");
    fs::write(kept, then).expect("an image");
}

/// An image as the master keeps it, signed.
fn signed(world: &World, update: &Update) -> PathBuf {
    let key = UpdateKey::load(&world.state()).expect("a key");
    let file = world.directory.join("signed.update");
    fs::write(&file, update.bytes()).expect("an image");
    let head = updates::read_head(&file).expect("a head");
    let kept = updates::keep(&key, &file, &head, Purpose::Update, &[]).expect("an image");
    world.state().join("updates").join(kept.sha256)
}

/// Has most of these images on the card, as when its power was cut while it got them.
fn begin<'a>(world: &World, card: &Card, updates: impl IntoIterator<Item = &'a Update>) {
    let kept = updates.into_iter().map(|update| {
        let kept = signed(world, update);
        (
            format!("{}.partial", kept.file_name().expect("a digest").to_string_lossy()),
            fs::read(&kept).expect("an image"),
        )
    });
    let kept: Vec<(String, Vec<u8>)> = kept.collect();
    let parts = kept.iter().map(|(name, bytes)| (name.clone(), &bytes[..bytes.len() - LEFT]));
    card.lay("/agent/needs", &parts.collect::<Vec<_>>());
}

fn shows(world: &World, text: &str) {
    eventually_within(BOOT, text, || world.command(&["agent", "list"]).contains(text).then_some(()));
}

#[test]
fn an_update_over_the_air_is_tried_once_and_left_where_it_does_not_come_back() {
    let image = image();
    let (mut world, _daemon) = world("pi");
    let proxy = Proxy::start(world.address());
    world.set("url", &format!("\"https://10.0.2.2:{}\"", proxy.address.port()));
    let _master = world.master();
    let card = written(image, &world.directory.join("card.img"));
    let line = world.join_line("shed");
    let hosts = "\"hosts\": { \"localhost\": \"10.0.2.2\" }, \"ntp\": \"10.0.2.2\", \"platforms\": \"linux-pi/aarch64\", \"slots\": 1";
    card.put("sai.json", format!("{{ \"join\": \"{line}\", {hosts} }}\n"));
    let arguments = at_once(&card);
    let wire = Wire::default();
    let start = || card.start(&world.directory.join("shed"), SERIAL, &wire);
    let first = Update::read(&image.with_extension("update"));
    let mut machine = start();
    machine.await_line_for(BOOT, "connected as");

    // What was changed on its way is not taken, nor what may not be older, whoever says so. Neither is looked into, so there is little in it.
    let little = |by: i64| Update::of(first.number.saturating_add_signed(by), b"kernel".to_vec(), b"system".to_vec());
    let other = |bytes: Vec<u8>| {
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let digit = lines[2].last_mut().expect("a signature");
        *digit = if *digit == b'0' { b'1' } else { b'0' };
        lines.join(&b'\n')
    };
    let older = |_| fs::read(signed(&world, &little(-1))).expect("an image");
    proxy.stall(true);
    gives_another(&world, &little(1), other);
    proxy.stall(false);
    shows(&world, "was not taken: its signature is not by the update key that came with this card's join line");
    proxy.stall(true);
    gives_another(&world, &little(2), older);
    proxy.stall(false);
    shows(&world, "was not taken: it is older than the image that is there");

    // One that is as good as what it was written with: its way is cut, and the power while it is written.
    let good = first.newer(3);
    // One that runs, and never reaches the master; and one whose kernel panics when it has the driver that can start it anew.
    let mute = first.newer(4).with_program("bin/sai-agent", "#!/bin/busybox sh\nexec sleep 1000\n");
    let ends =
        "#!/bin/busybox sh\nfor module in $(/bin/busybox cat /modules/first); do /bin/busybox insmod $module; done\n";
    let ends = first.newer(5).with_program("init", ends);
    let bad = [
        (mute, ["this is slot b", "the master was not reached in time"]),
        (ends, ["slot b is started", "Kernel panic"]),
    ];
    let bad = &bad[..(rounds(1) as usize).min(bad.len())];
    machine.kill();
    begin(&world, &card, bad.iter().map(|(update, _)| update).chain([&good]));
    machine = start();
    machine.await_line_for(BOOT, "connected as");
    gives(&world, &good);
    proxy.cut_after(CUT);
    machine.await_line_for(BOOT, &format!("image {} is put into slot a", good.number));
    std::thread::sleep(MIDDLE);
    machine.kill();
    assert!(machine.said().iter().any(|line| line.contains("the link is gone")), "{:#?}", machine.said());
    // A kernel that has panicked does nothing else meanwhile, and of an emulated one's seconds each takes several.
    let arguments = arguments.replace("panic=10", "panic=1");
    card.put(ARGUMENTS, format!("{arguments} sai.rejoin={REJOIN}\n"));
    let ethernet = "\"ethernet\": { \"address\": \"10.0.2.40/24\", \"gateway\": \"10.0.2.2\" }, \"hostname\": \"barn\"";
    let selftest = "\"selftest\": { \"serial\": \"/dev/ttyUSB0\", \"gpio\": \"17,27\" }";
    card.put("sai.json", format!("{{ \"join\": \"moved\", {ethernet}, {hosts}, {selftest} }}\n"));
    machine = card.start_with_adapter(&world.directory.join("shed"), SERIAL, &wire);
    for sign in ["slot a is started", "this is slot a", "slot a has reached the master, and stays"] {
        machine.await_line_for(BOOT, sign);
    }
    shows(&world, &format!("image {}", good.number));
    let said = machine.said();
    assert!(!said.iter().any(|line| line.contains("data partition of") || line.contains("dhcp")), "{said:#?}");
    // It has the address that its file says now, and builds.
    assert_eq!(eventually_within(BOOT, "its name is known", || wire.ask("barn")), Ipv4Addr::new(10, 0, 2, 40));
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"linux-pi/aarch64\": {{\"build\": \"{}\"}}}}, \"configurations\": {{\"default\": {{}}}}}}",
        shell::LISTENING
    ));
    assert_eq!(world.ended_within(BOOT, 1).jobs[0].state, "passed");
    let log = String::from_utf8_lossy(&world.log(1)).into_owned();
    assert!(shell::listening(&log).is_empty(), "its file names no key: {log}");

    reports(&card);

    for (update, signs) in bad {
        gives(&world, update);
        machine.await_line_for(BOOT, &format!("image {} is put into slot b", update.number));
        for sign in *signs {
            machine.await_line_for(BOOT, sign);
        }
        machine.await_line_for(BOOT, "slot b did not prove itself, or is damaged: going on with slot a");
        machine.await_line_for(BOOT, "this is slot a");
        shows(&world, &format!("image {} was not taken: it did not prove itself", update.number));
    }
    machine.kill();
}

/// What was tried of its hardware is on the card. The system before this one may have left a report, too, and was not on for long.
fn reports(card: &Card) {
    let report = eventually_within(BOOT, "its hardware is tried", || {
        let report = card.get("sai-selftest.txt").and_then(|report| String::from_utf8(report).ok())?;
        report.contains("passed    serial").then_some(report)
    });
    eprintln!("{report}");
    for part in [
        "machine    Raspberry Pi 3 Model B",
        // What emulation cannot show is not said to be well.
        "not there firmware",
        "not asked watchdog",
        "not there radio",
        "passed    disk       64 flushes",
        "passed    serial     16384 bytes came back as they were sent",
        "cable      eth0 (cdc_ether)",
        "not asked usb        0403:6001 at USB port 1-1.2",
        "FAILED    gpio       GPIO 27 stays 0 whatever GPIO 17 is: is there a wire",
    ] {
        assert!(report.contains(part), "no {part:?} in {report}");
    }
}

#[test]
fn the_same_image_is_made_again() {
    let first = fs::read(image()).expect("an image");
    let world = World::new("pi-again");
    // A file system says when it was written to, in steps of two seconds.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let [agent, init] = programs();
    let second = fs::read(make_image(Model::Pi3, agent, init, &world.directory)).expect("an image");
    let same = first.iter().zip(&second).take_while(|(one, other)| one == other).count();
    assert!(first == second, "{} bytes and {}, the same up to {same}", first.len(), second.len());
}
