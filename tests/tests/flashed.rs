//! `sai board flash` at a laptop: an emulated Arduino Uno with the stock optiboot, its owner and guard, an agent and a master.

use rustix::process::{Pid, Signal, kill_process};
use sai_core::axis::Entry;
use sai_core::record::Decoder;
use sai_tests::bench::Bench;
use sai_tests::boards::program;
use sai_tests::laptop::{Laptop, Way};
use sai_tests::process::eventually;
use sai_tests::repository::run;
use sai_tests::tty::Tty;
use sai_tests::world::World;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The program that says `hello`, as an image of so many bytes.
fn firmware(directory: &Path, name: &str, version: &str, length: usize) -> PathBuf {
    let source = directory.join("program.c");
    fs::write(&source, program()).expect("a program");
    let elf = directory.join(name).with_extension("elf");
    let mut compiler = Command::new("avr-gcc");
    compiler.args(["-mmcu=atmega328p", "-Os", "-DCASE=PASS"]).arg(format!("-DVERSION=\"{version}\""));
    run(compiler.arg("-o").arg(&elf).arg(&source));
    let image = directory.join(name);
    run(Command::new("avr-objcopy").args(["-O", "binary"]).arg(&elf).arg(&image));
    let mut bytes = fs::read(&image).expect("an image");
    bytes.resize(length.max(bytes.len()), 0xa5);
    fs::write(&image, bytes).expect("an image");
    image
}

/// What happened in the log of a job.
fn entries(world: &World, token: &str, job: u64) -> Vec<Entry> {
    let (status, bytes) = world.get_as(&format!("/job/{job}/records"), token);
    let mut entries = Vec::new();
    if status == 200 {
        Decoder::new().push(&bytes, |item| entries.extend(Entry::of(&item))).expect("a log");
    }
    entries
}

/// The lease of whoever leases a board.
fn lease(laptop: &Laptop) -> u64 {
    let (status, said, told) = laptop.sai(&["board", "lease", "arduino-uno"]);
    assert_eq!(status, 0, "{said}{told}");
    said.trim().rsplit(' ').next().and_then(|job| job.parse().ok()).expect("a job")
}

/// Names of all files of an agent, and of a master's uploads, that have to do with images.
fn left(directory: &Path, what: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(left(&path, what));
        } else if what(&entry.file_name().to_string_lossy()) {
            found.push(path);
        }
    }
    found
}

#[test]
fn an_image_of_a_laptop_gets_onto_the_board_of_its_person_and_whose_fault_it_is_otherwise_is_told() {
    let bench = Bench::new("flashed");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    bench.await_standing("free");
    let (ann, bob) = (Laptop::new(world, "ann"), Laptop::new(world, "bob"));
    let token = ann.log_in(world, "ann", &["builder"], world.port);
    let bobs = bob.log_in(world, "bob", &["builder"], world.port);
    firmware(&ann.home, "fw.bin", "one", 0);
    let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno", "fw.bin"]);
    assert!(status == 1 && told.contains("you have no such board"), "{told}");
    let job = lease(&ann);

    let (status, said, told) = ann.sai(&["board", "flash", "arduino-uno", "fw.bin"]);
    assert_eq!((status, said.as_str()), (0, ""), "{told}");
    for line in ["sai: flash fw.bin to ", "sai: write ", "sai: verify ", "sai: flashed"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    // It runs, and it is the one.
    let (status, said, told) = ann.sai(&["board", "expect", "arduino-uno", "fw one", "--within", "20"]);
    assert!(status == 0 && said == "fw one\n", "{said}{told}");
    assert_eq!(ann.sai(&["board", "send", "arduino-uno", "root\\n"]).0, 0);
    let (status, _, told) = ann.sai(&["board", "expect", "arduino-uno", "hello root", "--within", "20"]);
    assert_eq!(status, 0, "{told}");
    let log = entries(world, &token, job);
    let wrote = |entry: &Entry| matches!(entry, Entry::Progress(progress) if progress.phase == "write");
    assert!(log.iter().any(wrote), "{log:?}");
    // Neither the job nor the agent keeps it.
    let sha256 = run(Command::new("sha256sum").arg(ann.home.join("fw.bin")));
    let sha256 = sha256.split(' ').next().expect("a digest").to_string();
    eventually("nothing of it is left", || {
        let is_one = |name: &str| name.starts_with(&sha256) || name.starts_with("image-");
        left(&world.agent_state("a"), &is_one).is_empty().then_some(())
    });
    // Another version is another file, and a name with a target in front is one as well.
    firmware(&ann.home, "fw.bin", "two", 0);
    let (status, _, told) = ann.sai(&["board", "flash", "a/uno-1", "flash=fw.bin"]);
    assert!(status == 1 && told.contains("has no target \"flash\""), "{told}");
    let (status, _, told) = ann.sai(&["board", "flash", "a/uno-1", "fw.bin"]);
    assert_eq!(status, 0, "{told}");
    let (status, _, told) = ann.sai(&["board", "expect", "arduino-uno", "fw two", "--within", "20"]);
    assert_eq!(status, 0, "{told}");

    // What cannot be is told, and the board is as it was.
    let (status, _, told) = bob.sai(&["board", "flash", "arduino-uno", "../laptop-ann/fw.bin"]);
    assert!(status == 1 && told.contains("you have no such board"), "{told}");
    let (status, why) = world.post(&format!("/api/v1/jobs/{job}/image/{sha256}?size=1&at=0"), Some(&bobs));
    assert!(status == 409 && why.contains("is ann's"), "{status} {why}");
    let (status, why) = world.post(&format!("/api/v1/jobs/{job}/image/{sha256}?size=67108865&at=0"), Some(&token));
    assert!(status == 409 && why.contains("expected at most 67108864 bytes"), "{status} {why}");
    for (name, length, says) in [
        ("empty", 0, "expected a file of 1 to 67108864 bytes"),
        ("huge", (64 << 20) + 1, "expected a file of 1 to 67108864 bytes"),
        ("long", 40_000, "not flashed: "),
    ] {
        fs::File::create(ann.home.join(name)).and_then(|file| file.set_len(length)).expect("a file");
        let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno", name]);
        assert!(status == 1 && told.contains(says) && told.contains(name), "{name}: {status} {told}");
    }
    let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno", "nowhere"]);
    assert!(status == 1 && told.contains("nowhere: No such file"), "{told}");
    let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno"]);
    assert!(status == 2 && told.contains("see sai board --help"), "{told}");
    // What was never sent is nobody's, though the agent is told that it is there.
    let said = format!(r#"{{"t":"flash","names":["=x"],"digests":["{} 7"]}}"#, "0".repeat(64));
    let said: String = said.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let word = format!("/api/v1/jobs/{job}/word?attempt=1&writer=w&number=1&said={said}");
    assert_eq!(world.post(&word, Some(&token)).0, 200);
    let answer = eventually("it is answered", || {
        let of = |entry| if let Entry::Answer(answer) = entry { Some(answer) } else { None };
        entries(world, &token, job).into_iter().filter_map(of).find(|answer| answer.writer == "w")
    });
    let why = answer.why.expect("it is refused");
    assert!(why.contains("gives it to nobody") && answer.whose.is_none(), "{why}");
    // One that is damaged at the master has not its digest, and gets nowhere.
    firmware(&ann.home, "fw.bin", "three", 3000);
    let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno", "fw.bin"]);
    assert_eq!(status, 0, "{told}");
    let of_job = format!("{job}-");
    let sent = left(&world.state().join("uploads"), &|name: &str| name.starts_with(&of_job));
    assert!(sent.len() >= 3, "{sent:?}");
    for file in &sent {
        let mut bytes = fs::read(file).expect("what was sent");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(file, bytes).expect("written");
    }
    let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno", "fw.bin"]);
    assert!(status == 1 && told.contains("has not the SHA-256") && told.contains("not flashed: "), "{status} {told}");
    sent.iter().for_each(|file| fs::remove_file(file).expect("removed"));
    let (status, _, told) = ann.sai(&["board", "flash", "arduino-uno", "fw.bin"]);
    assert_eq!(status, 0, "{told}");
    assert_eq!(ann.sai(&["board", "release", "arduino-uno"]).0, 0);
    bench.await_standing("free");
    let (status, why) = world.post(&format!("/api/v1/jobs/{job}/image/{sha256}?size=1&at=0"), Some(&token));
    assert!(status == 409 && why.contains("not under way any more"), "{status} {why}");
}

/// What happens while a board is flashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Typed,
    Cut,
    Master,
    Agent,
    Released,
    Cancelled,
    Supervisor,
}

/// Longer than it takes to flash the board, and than any word waits for a link.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn whatever_happens_while_a_board_is_flashed_is_told_and_leaves_a_board_that_can_be_had() {
    let bench = Bench::new("flashing");
    let world = &bench.world;
    let mut master = world.master();
    let mut agent = bench.agent();
    bench.await_standing("free");
    let (ann, bob, way) = (Laptop::new(world, "ann"), Laptop::new(world, "bob"), Way::to(world.address()));
    let token = ann.log_in(world, "ann", &["builder"], way.port);
    bob.log_in(world, "bob", &["builder"], world.port);
    firmware(&ann.home, "fw.bin", "long", 30_000);
    for (harm, status, says) in [
        (Harm::Typed, 0, "flashed"),
        (Harm::Cut, 0, "flashed"),
        (Harm::Master, 0, "flashed"),
        (Harm::Agent, 0, "flashed"),
        (Harm::Released, 4, "nobody knows what is on the board"),
        (Harm::Cancelled, 4, "nobody knows what is on the board"),
        (Harm::Supervisor, 4, "nobody knows what is on the board"),
    ] {
        let job = lease(&ann);
        let mut flash = ann.command(&["board", "flash", "arduino-uno", "fw.bin"]);
        let flash: Child = flash.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sai");
        eventually("it is written", || {
            let wrote =
                |entry: &Entry| matches!(entry, Entry::Progress(one) if one.phase == "write" && one.done > 2000);
            entries(world, &token, job).iter().any(wrote).then_some(())
        });
        match harm {
            Harm::Typed => {
                for words in [
                    &["board", "send", "arduino-uno", "rm -r /\\n"][..],
                    &["board", "play", "arduino-uno", "reset"],
                    &["board", "mode", "arduino-uno", "run"],
                    &["board", "flash", "arduino-uno", "fw.bin"],
                ] {
                    let (status, _, told) = ann.sai(words);
                    assert!(status == 1 && told.contains("is being flashed"), "{words:?}: {told}");
                }
            }
            Harm::Cut => {
                way.close(true);
                std::thread::sleep(LONG);
                way.close(false);
            }
            Harm::Master => {
                master.kill();
                master = world.master();
            }
            Harm::Agent => {
                agent.kill();
                agent = world.agent_again("a");
            }
            Harm::Released => assert_eq!(ann.sai(&["board", "release", "arduino-uno"]).0, 0),
            Harm::Cancelled => drop(world.command(&["cancel", "job", &job.to_string()])),
            Harm::Supervisor => {
                let job = world.job_processes().iter().find_map(|line| line.split(':').next()?.parse().ok());
                kill_process(job.and_then(Pid::from_raw).expect("a supervisor"), Signal::KILL).expect("killed");
            }
        }
        let output = flash.wait_with_output().expect("it ends");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(status) && told.contains(says), "{harm:?}: {:?} {told}", output.status);
        let over = matches!(harm, Harm::Released | Harm::Cancelled | Harm::Supervisor);
        if over {
            // Whoever is next finds a board in a mode that is known, and flashes it.
            bench.await_standing("free");
            lease(&bob);
            let (status, _, told) = bob.sai(&["board", "flash", "arduino-uno", "../laptop-ann/fw.bin"]);
            assert_eq!(status, 0, "{harm:?}: {told}");
        }
        let of = if over { &bob } else { &ann };
        let (status, _, told) = of.sai(&["board", "expect", "arduino-uno", "fw long", "--within", "20"]);
        assert_eq!(status, 0, "{harm:?}: {told}");
        assert_eq!(of.sai(&["board", "release", "arduino-uno"]).0, 0);
        bench.await_standing("free");
    }
    drop((master, agent));
}

#[test]
fn a_board_that_cannot_be_read_back_takes_an_image_by_leave_and_a_lease_that_ends_in_the_middle_ends_that() {
    let bench = Tty::new("unverified");
    let world = &bench.world;
    let (file, there) = (world.directory.join("boards-1.json"), world.directory.join("there"));
    // What the tool does while this file is there takes longer than the lease.
    let slow = world.directory.join("slow");
    let text = fs::read_to_string(&file).expect("a bench");
    let script = format!("test -e {} && sleep 100; cat \"$0\" >{}", slow.display(), there.display());
    let argv = format!(
        "\"flash\": {{ \"with\": \"argv\", \"argv\": [\"sh\", \"-c\", {script:?}, \"{{image}}\"] }}, \"power\":"
    );
    fs::write(&file, text.replace("\"power\":", &argv)).expect("a bench");
    let _master = world.master();
    let _agent = bench.agent();
    let (ann, bob) = (Laptop::new(world, "ann"), Laptop::new(world, "bob"));
    ann.log_in(world, "ann", &["builder"], world.port);
    bob.log_in(world, "bob", &["builder"], world.port);
    eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    let (status, said, told) = ann.sai(&["board", "lease", "tty", "--minutes", "1"]);
    let job =
        said.trim().rsplit(' ').next().filter(|_| status == 0).unwrap_or_else(|| panic!("{said}{told}")).to_owned();
    fs::write(ann.home.join("fw.bin"), "an image").expect("an image");
    let (status, _, told) = ann.sai(&["board", "flash", "tty", "fw.bin"]);
    assert!(status == 1 && told.contains("--unverified allows that") && !there.exists(), "{told}");
    let (status, _, told) = ann.sai(&["board", "flash", "tty", "fw.bin", "--unverified"]);
    assert!(status == 0 && told.contains("was not verified"), "{told}");
    assert_eq!(fs::read(&there).expect("it is there"), b"an image");

    // Somebody waits, so that using it makes it no longer.
    let mut waits = bob.command(&["board", "lease", "tty"]);
    let waits = waits.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sai");
    fs::write(&slow, "").expect("a file");
    fs::remove_file(&there).expect("what was flashed before");
    let (status, _, told) = ann.sai(&["board", "flash", "tty", "fw.bin", "--unverified"]);
    assert!(status == 4 && told.contains("nobody knows what is on the board"), "{status} {told}");
    let output = waits.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    let ended = String::from_utf8(world.get(&format!("/api/v1/jobs/{job}")).expect("a job")).expect("text");
    assert!(ended.contains("\"ended_at\":\"") && !there.exists(), "{ended}");
    // It is the next one's, whole.
    fs::remove_file(&slow).expect("a file");
    fs::write(bob.home.join("other.bin"), "another image").expect("an image");
    let (status, _, told) = bob.sai(&["board", "flash", "tty", "other.bin", "--unverified"]);
    assert_eq!(status, 0, "{told}");
    assert_eq!(fs::read(&there).expect("it is there"), b"another image");
    assert_eq!(bob.sai(&["board", "release", "tty"]).0, 0);
}
