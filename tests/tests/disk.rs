//! A disk fills up. The master's: nothing new starts, nothing acknowledged is lost, and room lets everything go on. An agent's while it
//! records a board, which cannot wait: what is lost is told exactly, and is nobody's failure but ours.
//!
//! The state is on a small tmpfs, which takes root to mount; anybody else skips these tests.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sai_buddy::frames::{Asked, Heard};
use sai_buddy::visit::{Begins, Visit, Whose};
use sai_core::axis::Entry;
use sai_core::backlog::REST_BYTES;
use sai_core::console::{self, Piece};
use sai_core::job::{JobKey, Outcome, Verdict};
use sai_core::record::{ChannelStart, Decoder, Record, encode};
use sai_core::wire::MasterMessage;
use sai_tests::boards::{at_step, standing};
use sai_tests::log::Log;
use sai_tests::peer::{Peer, hello, passed_log};
use sai_tests::process::{Process, eventually};
use sai_tests::repository::saifile;
use sai_tests::small_disk::SmallDisk;
use sai_tests::world::World;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What is said of what an agent's full disk does not take.
const NO_ROOM: &str = "the agent's disk has no room for the log";
const PLATFORM: &str = "linux-test-1/x86_64/gcc";

/// How long whatever people ask for may take beside a full disk: it is answered within a second, on a machine that is not
/// busy with other tests as well. What waited for the disk waited for ever.
const SOON: Duration = Duration::from_secs(60);
/// Agents whose logs wait for the disk: with a window each, more than the master keeps in memory for it.
const WRITERS: u64 = 10;

/// Prints `megabytes` that can be told from each other, and keeps as much as a file.
fn wordy(megabytes: u64) -> String {
    format!(
        r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": [
               "seq -w 1000000000 | head -c {0}000000 > file", "cat file", "echo done >&2" ] }} }},
             "configurations": {{ "default": {{ "artifacts": "file" }} }} }}"#,
        megabytes
    )
}

fn wordy_output(megabytes: usize) -> Vec<u8> {
    (1..).flat_map(|number: u32| format!("{number:010}\n").into_bytes()).take(megabytes * 1_000_000).collect()
}

#[test]
fn a_full_disk_stops_new_jobs_and_loses_nothing() {
    let mut world = World::new("full");
    world.set("min_free_mib", "24");
    let Some(disk) = SmallDisk::mount(&world.state(), "160m") else { return };
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 2);
    disk.fill("ballast", 60 << 20);
    // Its file and its log have 40 MB each, and 60 MiB are left.
    world.repository.push_saifile(&wordy(40));
    eventually("the master says that its disk is nearly full", || {
        world.page("/").contains("No job is started: the master").then_some(())
    });
    // A push is seen all the same; its job waits and says why.
    world.repository.push_saifile(&saifile(&["echo later"]));
    let event = eventually("the second push becomes an event", || world.event(2));
    assert_eq!(event.jobs[0].state, "queued");
    let why = eventually("it says why it waits", || world.event(2)?.jobs[0].waiting.clone());
    assert!(why.contains("no job is started: the master's disk is nearly full"), "{why}");
    assert!(world.page("/event/2").contains("disk is nearly full"));
    // All that has room is written, the rest waits at the agent.
    let free = || {
        let space = rustix::fs::statvfs(&disk.path).expect("a file system");
        space.f_bavail * space.f_frsize
    };
    eventually("the disk is as full as it gets", || (free() < 20 << 20).then_some(()));
    let state = world.event(1).expect("the event").jobs[0].state.clone();
    assert_eq!(state, "running", "it is nobody's fault");
    // A master that is killed then starts again on the full disk, and goes on where it was.
    let log = fs::metadata(disk.path.join("logs/1-1.log")).map_or(0, |file| file.len());
    master.kill();
    let _master = world.master();
    assert!(world.event(2).is_some());
    assert!(fs::metadata(disk.path.join("logs/1-1.log")).map_or(0, |file| file.len()) >= log);
    eventually("it still says so", || world.page("/").contains("No job is started: the master").then_some(()));
    assert_eq!(world.event(2).expect("the event").jobs[0].state, "queued");
    disk.free("ballast");
    let job = world.ended(1).jobs.remove(0);
    assert_eq!((job.state.as_str(), job.attempt), ("passed", 1), "{job:?}");
    let wanted = wordy_output(40);
    assert!(world.records(1).channel("stdout") == wanted, "the log");
    assert!(world.get(&job.artifacts[0].download).expect("the artifact") == wanted, "the artifact");
    assert_eq!(world.ended(2).jobs[0].state, "passed");
    assert!(!world.page("/").contains("No job is started"));
    world.tidy(&[world.agent_state("one")]);
}

#[test]
fn what_has_no_room_in_the_ledger_waits_and_is_never_acknowledged() {
    let mut world = World::new("brimful");
    world.set("min_free_mib", "4");
    let Some(disk) = SmallDisk::mount(&world.state(), "64m") else { return };
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&saifile(&["echo first"]));
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    // Not a byte is left, for as long as it takes to notice; the ledger has a small reserve of its own.
    disk.fill("ballast", 0);
    let mut tokens = Vec::new();
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // Far more than the reserve holds: at some point they wait, or are refused.
            let mut given = Vec::new();
            for number in 0..200 {
                let (status, token, _) = world.try_command(&["user", "add", &format!("user-{number}")]);
                if status == 0 {
                    given.push((number, token.trim().to_string()));
                }
            }
            given
        });
        eventually("the page says so", || world.page("/").contains("No job is started").then_some(()));
        disk.free("ballast");
        tokens = asking.join().expect("they end");
    });
    assert!(!tokens.is_empty());
    master.kill();
    disk.fill("ballast", 0);
    // On a disk without a byte left it starts, or says in a sentence why not; never does it hurt what is there.
    let (status, _, said) = world.try_command(&["user", "list"]);
    assert!(status == 0 || said.contains("full") || said.contains("space"), "{status}: {said}");
    disk.free("ballast");
    let _master = world.master();
    let users = world.command(&["user", "list"]);
    for (number, _) in &tokens {
        assert!(users.lines().any(|user| user == format!("user-{number}\tbuilder")), "user-{number} was acknowledged");
    }
    let (_, token) = &tokens[0];
    assert_eq!(world.post("/api/v1/jobs/1/rebuild", Some(token)).0, 200);
    eventually("the job is run again", || {
        world.event(1).filter(|event| event.jobs[0].attempt == 2 && event.jobs[0].ended())
    });
    world.repository.push_saifile(&saifile(&["echo second"]));
    assert_eq!(world.ended(2).jobs[0].state, "passed");
}

#[test]
fn a_push_to_a_master_without_room_is_built_when_there_is() {
    let mut world = World::new("room");
    world.set("min_free_mib", "4");
    let Some(disk) = SmallDisk::mount(&world.state(), "64m") else { return };
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&saifile(&["echo first"]));
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    disk.fill("ballast", 0);
    world.repository.push_saifile(&saifile(&["echo second"]));
    eventually("the page says so", || world.page("/").contains("No job is started").then_some(()));
    disk.free("ballast");
    let second = world.ended(2).jobs.remove(0);
    assert_eq!(second.state, "passed", "{second:?}");
    // Killed while it has no room, it catches up after.
    disk.fill("ballast", 0);
    world.repository.push_saifile(&saifile(&["echo third"]));
    master.kill();
    disk.free("ballast");
    let _master = world.master();
    let third = world.ended(3).jobs.remove(0);
    assert_eq!(third.state, "passed", "{third:?}");
}

/// A log that has not ended, a little shorter than what an agent may send before it is acknowledged.
fn long_log() -> Vec<u8> {
    let mut log = Vec::new();
    encode(&Record::Channel(0, ChannelStart { name: "stdout".to_string() }), 0, &mut log);
    while log.len() < 4_000_000 {
        encode(&Record::Data(0, vec![b'x'; 60_000]), 0, &mut log);
    }
    log
}

#[test]
fn cancelling_revoking_and_leaving_pass_by_a_full_disk_and_free_it() {
    let mut world = World::new("passing");
    world.set("min_free_mib", "4");
    let Some(disk) = SmallDisk::mount(&world.state(), "96m") else { return };
    let mut master = world.master();
    let token = world.command(&["user", "add", "ann"]);
    let _filler = world.agent("filler", &["filler-1/x86_64/gcc"], 1);
    let mut leaver = world.agent("leaver", &[PLATFORM], 1);
    let writers: Vec<Peer> = (0..WRITERS)
        .map(|number| {
            let name = format!("writer-{number}");
            Peer::join(&world.join_line(&name), hello(u128::from(number), &["writer-1/x86_64"], 1, &[]))
        })
        .collect();
    // Of the first configurations each is for a writer; a job that is to be cancelled fills the disk by a file, far from its
    // end, and one that has nothing to do with any of that runs beside them.
    let stop = world.directory.join("stop");
    let configurations: Vec<String> = (0..WRITERS)
        .map(|number| format!("\"w{number}\": {{\"platforms\": \"none, writer\"}}"))
        .chain([
            "\"fill\": {\"platforms\": \"none, filler\", \"artifacts\": \"file\"}".to_string(),
            "\"wait\": {\"platforms\": \"none, linux-test\"}".to_string(),
        ])
        .collect();
    world.repository.push_saifile(&format!(
        "{{\"schema\": \"sai-1\", \"platforms\": {{\"writer\": {{\"build\": \"true\"}}, \
         \"filler\": {{\"build\": \"head -c 300000000 /dev/zero > file\"}}, \
         \"linux-test\": {{\"build\": \"while [ ! -e {} ]; do sleep 0.05; done; echo went on\"}}}}, \
         \"configurations\": {{{}}}}}",
        stop.display(),
        configurations.join(", ")
    ));
    let event = eventually("the jobs", || world.event(1));
    let id =
        |configuration: &str| event.jobs.iter().find(|job| job.configuration == configuration).expect("that job").id;
    let state = |id: u64| {
        let jobs = world.event(1).expect("the event").jobs;
        jobs.into_iter().find(|job| job.id == id).expect("that job").state
    };
    let (fill, wait) = (id("fill"), id("wait"));
    eventually("the other job runs", || (state(wait) == "running").then_some(()));
    let free = || {
        let space = rustix::fs::statvfs(&disk.path).expect("a file system");
        space.f_bavail * space.f_frsize
    };
    eventually("the disk is as full as it gets", || (free() < 20 << 20).then_some(()));
    let file = disk.path.join(format!("artifacts/{fill}-1"));
    assert!(file.exists(), "what has arrived of the file");
    // Now the others' logs: more than the master keeps in memory, so that it takes no more frames of anybody.
    let sent = AtomicUsize::new(0);
    let log = long_log();
    std::thread::scope(|scope| {
        let keys: Vec<JobKey> = writers.iter().map(|writer| writer.assignment().key).collect();
        for (writer, key) in writers.iter().zip(&keys) {
            let (log, sent, key) = (&log, &sent, *key);
            scope.spawn(move || {
                for (number, piece) in log.chunks(60_000).enumerate() {
                    if !writer.piece(key, 0, number as u64 * 60_000, piece) {
                        return;
                    }
                    sent.fetch_add(piece.len(), Ordering::Relaxed);
                }
            });
        }
        let mut before = 0;
        eventually("no more is taken of them", || {
            std::thread::sleep(Duration::from_millis(500));
            let now = sent.load(Ordering::Relaxed);
            (std::mem::replace(&mut before, now) == now && now > 24 << 20).then_some(())
        });

        let soon = |what: &str, ask: &dyn Fn()| {
            let begin = Instant::now();
            ask();
            eprintln!("{what}: {:?}", begin.elapsed());
            assert!(begin.elapsed() < SOON, "{what} took {:?}", begin.elapsed());
        };
        soon("a page", &|| drop(world.page("/")));
        leaver.kill();
        soon("the end of a link", &|| {
            eventually("the agent is away", || {
                world.agents().iter().any(|agent| agent.name == "leaver" && agent.state == "away").then_some(())
            });
        });
        soon("a revocation", &|| {
            world.command(&["agent", "revoke", "writer-0"]);
            let told = std::iter::from_fn(|| writers[0].next()).any(|message| matches!(message, MasterMessage::Bye(_)));
            assert!(told, "it is told and let go");
        });
        assert!(file.exists() && free() < 20 << 20, "nothing has made room so far");
        soon("a cancel", &|| {
            let (status, body) = world.post(&format!("/api/v1/jobs/{fill}/cancel"), Some(&token));
            assert_eq!(status, 200, "{body}");
        });
    });
    // What was half there goes with the job, and gives its room to the others; the agent's last word, which has none, is not
    // waited for.
    let begin = Instant::now();
    eventually("the job has ended", || (state(fill) == "cancelled").then_some(()));
    eventually("what had arrived of its file is gone", || (!file.exists()).then_some(()));
    assert!(begin.elapsed() < SOON, "the job took {:?} to end", begin.elapsed());
    assert!(free() > 24 << 20, "there is room again");
    let _leaver = world.agent_again("leaver");
    fs::write(&stop, "").expect("a file");
    eventually("the other job goes on to its end", || (state(wait) == "passed").then_some(()));
    let verdict = passed_log();
    for writer in &writers[1..] {
        // Its key is known by what is acknowledged of it.
        let key = eventually("all of its log is acknowledged", || match writer.next() {
            Some(MasterMessage::Ack(ack)) if ack.length == log.len() as u64 => Some(ack.key),
            Some(_) => None,
            None => panic!("the master has closed the link"),
        });
        assert!(writer.piece(key, 0, log.len() as u64, &verdict));
    }
    eventually("their jobs end", || {
        let jobs = world.event(1).expect("the event").jobs;
        let passed = jobs.iter().filter(|job| job.configuration.starts_with('w') && job.state == "passed").count();
        // All but the revoked one's; the one that waited begins with the same letter.
        (passed as u64 == WRITERS).then_some(())
    });
    // Nothing acknowledged is lost, also not by a kill.
    master.kill();
    let _master = world.master();
    for job in world.event(1).expect("the event").jobs {
        if job.configuration.starts_with('w') && job.id != wait && job.state == "passed" {
            let printed = world.records(job.id).channel("stdout").len();
            assert_eq!(printed % 60_000, 0);
            assert!(printed >= 3_900_000, "{printed} bytes of job {}", job.id);
        }
    }
    assert_eq!(state(fill), "cancelled");
    assert_eq!(state(wait), "passed");
    world.command(&["gc"]);
}

/// Two ends of a tty, raw: ours, and the path of a console's.
fn tty() -> (fs::File, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
    grantpt(&ours).expect("granted");
    unlockpt(&ours).expect("unlocked");
    let path = ptsname(&ours, Vec::new()).expect("its name").into_string().expect("plain");
    (fs::File::from(ours), path)
}

/// Has who talks end with whatever it is in: a test that fails while somebody talks would wait for that for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A board at an agent whose disk is a small one: a pty at which somebody talks, and each line says which it is.
struct Talker {
    world: World,
    disk: SmallDisk,
    link: PathBuf,
    tty: fs::File,
}

impl Talker {
    /// `None` for those who may not mount a disk.
    fn new(name: &str) -> Option<Self> {
        let world = World::new(name);
        let disk = SmallDisk::mount(&world.agent_state("a"), "64m")?;
        // Steps are another user's.
        fs::set_permissions(&disk.path, Permissions::from_mode(0o755)).expect("it is ours");
        let (tty, path) = tty();
        let link = PathBuf::from("/dev/shm").join(world.directory.file_name().expect("a name"));
        let _ = fs::remove_file(&link);
        symlink(&path, &link).expect("a link");
        let text = format!(
            r#"{{ "boards": {{ "talks": {{ "type": "talker", "consoles": {{ "main": {{ "path": "{}", "baud": 3000000 }} }},
                "sequences": {{ "reset": ["wait 1ms"] }} }} }} }}"#,
            link.display()
        );
        fs::write(world.directory.join("boards.json"), text).expect("a bench");
        Some(Self { world, disk, link, tty })
    }

    fn agent(&self) -> Process {
        let settings = [
            format!("\"boards\": {:?}", self.world.directory.join("boards.json")),
            format!("\"boards_run\": {:?}", self.world.directory.join("run")),
            "\"user\": \"nobody\"".to_string(),
            // It takes no job where less is left.
            "\"keep_free_mib\": 8".to_string(),
        ];
        let agent = self.world.agent_with("a", &["linux"], 1, &settings.each_ref().map(String::as_str));
        self.await_free();
        agent
    }

    fn await_free(&self) {
        eventually("the board is free", || (standing(&self.world, "a/talks") == "free").then_some(()));
    }

    /// Pushes what never passes within so much time: the job, once it listens to the board.
    fn begin(&self, timeout: &str) -> u64 {
        self.world.repository.push_saifile(&format!(
            r#"{{ "schema": "sai-1", "platforms": {{ "linux": {{ "build": "true" }} }}, "configurations": {{ "fw": {{
                "board": {{ "type": "talker", "pass": "^NEVER$", "timeout": "{timeout}" }} }} }} }}"#
        ));
        at_step(&self.world, 1, "fw", 2)
    }

    /// Pushes what has a step that asks for the board and does nothing at it: the job of the session, once it is the step's.
    fn begin_session(&self) -> u64 {
        self.world.repository.push_saifile(
            r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "sai-agent device talker -- sleep 1000" } },
                 "configurations": { "step": {} } }"#,
        );
        eventually("the board is the step's", || {
            let session = self.world.event(3)?.jobs.into_iter().next()?;
            let begun = session.state == "running" && self.world.records(session.id).steps.contains(&0);
            begun.then_some(session.id)
        })
    }

    /// Says so many lines at a time, a hundred times a second, until it is to end; counts the bytes.
    fn talk(&self, lines: usize, said: &AtomicUsize, ends: &AtomicBool) {
        while !ends.load(Ordering::Relaxed) {
            for _ in 0..lines {
                let number = said.load(Ordering::Relaxed) / 11;
                (&self.tty).write_all(format!("{number:010}\n").as_bytes()).expect("it is heard");
                said.fetch_add(11, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until nobody writes to the board any more, for which the disk has no room up to then. Who has left it sends the last of it
    /// and gives room back.
    fn await_left(&self) {
        let writer = || self.visit().status().expect("an owner").writer;
        let mut full = false;
        eventually("the board is left", || {
            let left = writer().is_none();
            full = if left { full } else { self.disk.is_full() };
            left.then_some(())
        });
        assert!(full, "the disk has room");
    }

    fn visit(&self) -> Visit {
        let (file, directory) = (self.world.directory.join("boards.json").into(), self.world.directory.join("run"));
        let whose = Whose { file, board: "talks".into(), directory, begins: Begins::Never };
        Visit::new(&whose).expect("an owner")
    }

    /// Listens beside whoever is at the board, until it is to end: where each piece begins and ends that its owner tells of the console,
    /// which is told to everybody in the same pieces.
    fn pieces(&self, visit: &Visit, ends: &AtomicBool) -> Vec<Range<u64>> {
        let mut pieces = Vec::new();
        loop {
            match visit.hear(Duration::from_millis(100)).expect("an owner") {
                Some((Heard::Entry(0, console::Entry::Came(Piece::Bytes { offset, bytes, .. })), _)) => {
                    pieces.push(offset..offset + bytes.len() as u64);
                }
                Some((Heard::Entry(_, entry), _)) => panic!("{entry:?} besides what is said"),
                Some((Heard::Told(_), _)) => {}
                None if ends.load(Ordering::Relaxed) => return pieces,
                None => {}
            }
        }
    }

    /// The log of a job's first attempt.
    fn log(&self, job: u64) -> Vec<u8> {
        self.world.get(&format!("/job/{job}/1/records")).expect("the log can be downloaded")
    }

    /// The same, taken apart.
    fn records(&self, job: u64) -> Log {
        Log::read(&self.log(job)).expect("a log")
    }

    /// Waits until the console has said so much in it.
    fn await_said(&self, job: u64, bytes: usize) {
        eventually("some of it is there", || (self.records(job).channel("serial:main").len() > bytes).then_some(()));
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.link);
    }
}

/// What is said from one byte on, so many of them.
fn spoken(from: usize, count: usize) -> Vec<u8> {
    let first = from / 11;
    let lines = (first..).flat_map(|number| format!("{number:010}\n").into_bytes());
    lines.skip(from - first * 11).take(count).collect()
}

/// Whether each line is the one after that before it.
fn in_order(text: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    // What came first and last may be a part of a line.
    let numbers: Vec<&str> = text.split('\n').filter(|line| line.len() == 10).collect();
    let whole = text.split('\n').count();
    if numbers.len() + 2 < whole {
        return Err(format!("{whole} lines, of which {} are whole", numbers.len()));
    }
    let first: u64 = numbers.first().and_then(|line| line.parse().ok()).ok_or("no number")?;
    match numbers.iter().zip(first..).find(|(line, number)| **line != format!("{number:010}")) {
        Some((line, number)) => Err(format!("{line} where {number} was expected")),
        None => Ok(()),
    }
}

#[test]
fn a_board_at_a_full_disk_has_an_exact_loss_and_is_not_to_blame() {
    let Some(talker) = Talker::new("full-boards") else { return };
    let _master = talker.world.master();
    let _agent = talker.agent();
    let said = AtomicUsize::new(0);

    let job = talker.begin("10m");
    // A trial ends with the first piece for which there is no room.
    let (verdict, pieces) = lost(&talker, job, &said);
    assert_eq!(pieces, 1);
    // It would be tried again.
    talker.world.command(&["cancel", "job", &job.to_string()]);
    let word = verdict.verdict.as_ref().map(|found| found.word.as_str());
    let found = (verdict.outcome, word, verdict.trouble.as_deref());
    assert_eq!(found, (Outcome::Infra, Some("infra"), None), "{verdict:?}");
    let (_, again, why) = talker.world.try_command(&["rejudge", &format!("{job}-1")]);
    assert!(again.contains("infra"), "{again}{why}");
    talker.await_free();

    // So it is where a step has the board, whose command is told so; it has begun something that nothing begins a second time.
    let session = talker.begin_session();
    let (verdict, _) = lost(&talker, session, &said);
    assert_eq!((verdict.outcome, verdict.trouble.as_deref()), (Outcome::Infra, None), "{verdict:?}");
    talker.await_free();
    let (build, session) = (talker.world.ended(2), talker.world.ended(3));
    assert_eq!((build.jobs[0].state.as_str(), session.jobs[0].state.as_str()), ("failed", "infra"));
    assert_eq!(session.jobs[0].attempt, 1);
    let log = String::from_utf8_lossy(&talker.world.log(build.jobs[0].id)).into_owned();
    assert!(log.contains(&format!("the board was taken away: {NO_ROOM}")), "{log}");
}

/// Fills the disk under a job that listens to a board which talks, until the board is left, and frees it then: how its attempt ends, with
/// all in its log that came up to there, byte for byte, and how much came after that, which is whole pieces: so many.
fn lost(talker: &Talker, job: u64, said: &AtomicUsize) -> (Verdict, usize) {
    let (before, ends) = (said.load(Ordering::Relaxed), AtomicBool::new(false));
    let visit = talker.visit();
    eventually("its owner has heard all that was said", || {
        (visit.status().expect("an owner").consoles[0].offset == before as u64).then_some(())
    });
    visit.answer(&Asked::new("listen")).expect("heard");
    let (verdict, pieces) = std::thread::scope(|scope| {
        let over = Ends(&ends);
        let listens = scope.spawn(|| talker.pieces(&visit, &ends));
        scope.spawn(|| talker.talk(200, said, &ends));
        talker.await_said(job, 100_000);
        talker.disk.fill("ballast", 0);
        // What waits in memory has a bound, and the board is left when that is reached, with a disk that is as full as before.
        talker.await_left();
        talker.disk.free("ballast");
        let verdict = eventually("its attempt ends", || talker.records(job).verdict);
        drop(over);
        (verdict, listens.join().expect("it listens"))
    });
    assert!(verdict.cause.contains(NO_ROOM), "{verdict:?}");
    let raw = talker.log(job);
    let kept = Log::read(&raw).expect("a log").channel("serial:main").to_vec();
    let mut lost = Vec::new();
    let taken = Decoder::new().push(&raw, |item| {
        if let Some(Entry::Loss(_, loss)) = Entry::of(&item) {
            lost.push(loss);
        }
    });
    taken.expect("a log");
    let [loss] = &lost[..] else { panic!("one loss: {lost:?}") };
    assert_eq!((loss.offset, loss.why.as_str()), (kept.len() as u64, NO_ROOM));
    // What the bound counts are records: of a board that is heard in small pieces a good part is not the board's own bytes.
    assert!(raw.len() as u64 > REST_BYTES, "{} bytes were kept", raw.len());
    assert!(kept == spoken(before, kept.len()), "something else was kept than what was said");
    // The board goes on talking, and of what it says the log lacks what came to who listened for it.
    let from = before as u64 + loss.offset;
    let to = from + loss.lost.expect("a number");
    let missing: Vec<&Range<u64>> = pieces.iter().filter(|piece| piece.start >= from && piece.end <= to).collect();
    let ends = (missing.first().map(|piece| piece.start), missing.last().map(|piece| piece.end));
    assert_eq!(ends, (Some(from), Some(to)), "{loss:?} of {:?}", pieces.iter().rfind(|piece| piece.start < to));
    assert_eq!(missing.iter().map(|piece| piece.end - piece.start).sum::<u64>(), to - from);
    (verdict, missing.len())
}

#[test]
fn a_board_at_a_full_disk_is_left_at_its_own_time_and_loses_nothing() {
    let Some(talker) = Talker::new("full-in-time") else { return };
    let _master = talker.world.master();
    let _agent = talker.agent();
    let job = talker.begin("20s");
    let (said, ends) = (AtomicUsize::new(0), AtomicBool::new(false));
    let verdict = std::thread::scope(|scope| {
        let _ends = Ends(&ends);
        scope.spawn(|| talker.talk(10, &said, &ends));
        talker.await_said(job, 1_000);
        talker.disk.fill("ballast", 0);
        talker.await_left();
        talker.disk.free("ballast");
        eventually("its attempt ends", || talker.records(job).verdict)
    });
    let word = verdict.verdict.as_ref().map(|found| found.word.as_str());
    assert_eq!((verdict.outcome, word), (Outcome::Failed, Some("test-fail")), "{verdict:?}");
    let log = talker.records(job);
    assert_eq!(in_order(log.channel("serial:main")), Ok(()));
}
