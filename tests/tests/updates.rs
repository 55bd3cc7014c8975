//! Images for cards, from a file beside the master to the place where a card's first process takes them: real masters and agents. What
//! that process does with them is seen in `pi`; here its files are written by hand.

use sai_core::update::{Purpose, head};
use sai_tests::pi::Update;
use sai_tests::process::{Process, eventually};
use sai_tests::proxy::Proxy;
use sai_tests::repository::run;
use sai_tests::world::World;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Bytes of what an image unpacks into memory.
const BYTES: usize = 20_000_000;

/// The directory by which agent and first process tell each other of images.
fn place(world: &World, name: &str) -> PathBuf {
    world.agent_state(name).join("update")
}

/// The first process says what the machine was started with; `key` is the public half of an update key.
fn is_card(world: &World, name: &str, number: u64, lefts: u32, key: &str) {
    fs::create_dir_all(place(world, name)).expect("a directory");
    let left = if lefts > 0 { number + 1 } else { 0 };
    let text = format!(
        "{{\"model\": \"pi3\", \"number\": {number}, \"left\": {left}, \"lefts\": {lefts}, \"key\": \"{key}\"}}"
    );
    fs::write(place(world, name).join("card"), text).expect("a card");
}

/// An agent on a card, which believes what came with its join line.
fn card(world: &World, name: &str, number: u64) -> (Process, String) {
    let line = world.join_line(name);
    let token = line.rsplit(':').nth(1).expect("a token");
    let key = token.rsplit_once("_u").expect("an update key").1.to_owned();
    is_card(world, name, number, 0, &key);
    (world.agent_by(name, &line, &[name], 1), key)
}

fn image(world: &World, number: u64) -> String {
    let file = world.directory.join(format!("sai-pi3-{number}.update"));
    let system = (0..BYTES).map(|at| ((at * at) >> 7) as u8 ^ number as u8).collect();
    fs::write(&file, Update::of(number, b"kernel".to_vec(), system).bytes()).expect("an image");
    file.display().to_string()
}

/// What was handed on, once it is there.
fn handed(world: &World, name: &str) -> Vec<u8> {
    let file = place(world, name).join("handed");
    eventually("an image is handed on", || fs::read(&file).ok())
}

fn line(world: &World, name: &str) -> String {
    let list = world.command(&["agent", "list"]);
    list.lines().find(|line| line.starts_with(&format!("{name}\t"))).expect("an agent").to_owned()
}

fn shows(world: &World, name: &str, text: &str) {
    eventually(text, || line(world, name).contains(text).then_some(()));
}

#[test]
fn the_first_card_comes_back_with_an_image_before_the_others_have_it() {
    let world = World::new("updates");
    let mut master = world.master();
    let _desk = world.agent("desk", &["desk"], 1);
    let (mut shed, key) = card(&world, "shed", 1);
    let (mut attic, _) = card(&world, "attic", 1);
    let (file, older) = (image(&world, 2), image(&world, 0));
    for (who, file, why) in [
        ("desk", &file, "desk is not updated this way"),
        ("nobody", &file, "there is no agent \"nobody\""),
        ("built-in", &file, "is a part of this master"),
        ("shed", &older, "--downgrade lets an older one take its place"),
        ("shed", &world.directory.display().to_string(), "expected a file sai-MODEL.update"),
        ("shed", &world.directory.join("none").display().to_string(), "No such file"),
    ] {
        let (status, _, told) = world.try_command(&["agent", "update", who, file]);
        assert!(status == 1 && told.contains(why), "{status} {told}: {why}");
    }

    // A job runs there, and is seen to its end.
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"attic\": {{\"build\": \"until test -e {}; do sleep 0.1; done\"}}}}, \
          \"configurations\": {{\"default\": {{}}}}}}",
        world.directory.join("go").display()
    ));
    eventually("the job runs", || world.event(1).filter(|event| event.jobs[0].state == "running"));
    let told = world.command(&["agent", "update", "all", &file]);
    assert!(told.contains("attic is the first, and the others follow") && told.contains("not to desk"), "{told}");
    shows(&world, "attic", "it is there, and what runs is seen to its end");
    shows(&world, "shed", "image 2 waits until attic has come back with it");
    assert!(!place(&world, "attic").join("handed").exists());
    fs::write(world.directory.join("go"), "").expect("a file");
    let bytes = handed(&world, "attic");
    assert_eq!(world.ended(1).jobs[0].state, "passed");

    // Nothing of it was changed but for the signature.
    let head = head(&bytes).expect("a head");
    assert_eq!(head.signature.map(|by| by.purpose), Some(Purpose::Update));
    assert!(fs::read(&file).expect("an image").ends_with(&bytes[head.length as usize..]));
    assert_eq!(bytes.len() as u64, head.bytes());

    // The first process started the machine with it: the other one follows, whose first process does not take it.
    fs::remove_file(place(&world, "attic").join("handed")).expect("a file");
    attic.kill();
    is_card(&world, "attic", 2, 0, &key);
    let _attic = world.agent_again("attic");
    assert_eq!(handed(&world, "shed"), bytes);
    fs::write(place(&world, "shed").join("refused"), "the moon is full").expect("a word");
    fs::remove_file(place(&world, "shed").join("handed")).expect("a file");
    shows(&world, "shed", "image 2 was not taken: the moon is full");
    assert!(!line(&world, "attic").contains("image 2 "), "it has it, and that is all");
    // It gets jobs again.
    world.repository.push_saifile(
        "{\"schema\": \"sai-1\", \"platforms\": {\"shed\": {\"build\": \"true\"}}, \"configurations\": {\"default\": {}}}",
    );
    assert_eq!(world.ended(2).jobs[0].state, "passed");

    // It is asked for again, and did not prove itself there. A master that was restarted meanwhile knows what it wanted.
    world.command(&["agent", "update", "shed", &file]);
    handed(&world, "shed");
    shed.kill();
    master.kill();
    fs::remove_file(place(&world, "shed").join("handed")).expect("a file");
    is_card(&world, "shed", 1, 1, &key);
    let _master = world.master();
    let _shed = world.agent_again("shed");
    shows(&world, "shed", "image 2 was not taken: it did not prove itself, and the system before it was started again");

    // An older one is signed as such.
    world.command(&["agent", "update", "shed", &older, "--downgrade"]);
    let bytes = handed(&world, "shed");
    assert!(bytes.splitn(4, |byte| *byte == b'\n').nth(2).expect("a third line").starts_with(b"downgrade "));
    let (status, _, told) = world.try_command(&["agent", "update", "attic", &file]);
    assert!(status == 1 && told.contains("attic has this image already"), "{told}");
}

#[test]
fn a_transfer_that_is_cut_goes_on() {
    let mut world = World::new("updates-cut");
    let proxy = Proxy::start(world.address());
    world.set("url", &format!("\"https://{}\"", proxy.address));
    let _master = world.master();
    let (mut shed, _) = card(&world, "shed", 1);
    let file = image(&world, 2);
    // How much of it is there, and then nothing more of it comes.
    let stopped = |more: u64| {
        eventually("some of it is there", || {
            let files = fs::read_dir(world.agent_state("shed").join("needs")).ok()?;
            let lengths = files.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
            let length = lengths.max().filter(|length| *length >= more)?;
            proxy.stall(true);
            Some(length)
        })
    };
    let (status, ..) = world.try_command(&["agent", "update", "shed", &file]);
    assert_eq!(status, 0);
    let before = stopped(3_000_000);
    assert!(before < BYTES as u64, "it is in the middle");
    shed.kill();
    // As much as is missing passes once, and not all of it.
    proxy.cut();
    proxy.cut_after(BYTES as u64 - before + 1_500_000);
    proxy.stall(false);
    let shed = world.agent_starts("shed");
    let bytes = handed(&world, "shed");
    assert!(fs::read(&file).expect("an image").ends_with(&bytes[bytes.len() - BYTES..]));
    assert!(!shed.said().iter().any(|line| line.contains("the link is gone")), "{:#?}", shed.said());
}

#[test]
fn an_image_is_signed_elsewhere_by_the_lines_that_tell_how() {
    let world = World::new("updates-signed");
    let mut master = world.master();
    let (_shed, _) = card(&world, "shed", 1);
    let elsewhere = world.directory.join("elsewhere");
    fs::create_dir(&elsewhere).expect("a directory");
    fs::rename(world.state().join("update.key"), elsewhere.join("update.key")).expect("a key");
    master.kill();
    let _master = world.master();
    let file = image(&world, 2);
    let (status, _, told) = world.try_command(&["agent", "update", "shed", &file]);
    assert!(status == 1 && told.contains("sign it where that is"), "{told}");

    fs::rename(&file, elsewhere.join("sai-pi3.update")).expect("an image");
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pi.md")).expect("docs/pi.md");
    let signs = |line: &&str| line.starts_with("    (head ") || line.starts_with("    openssl pkeyutl ");
    let lines: Vec<&str> = text.lines().filter(signs).map(str::trim).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    run(Command::new("sh").args(["-ec", &lines.join("\n")]).current_dir(&elsewhere));
    let signed = elsewhere.join("sai-pi3-signed.update").display().to_string();
    let (status, _, told) = world.try_command(&["agent", "update", "shed", &signed, "--downgrade"]);
    assert!(status == 1 && told.contains("for no downgrade"), "{told}");
    world.command(&["agent", "update", "shed", &signed]);
    assert_eq!(handed(&world, "shed"), fs::read(&signed).expect("an image"));
}
