//! Boards that people have for a while: an emulated Arduino Uno with the stock optiboot, its owner and guard, an agent and a master, and
//! people who ask by the API, as the program on their laptops does.

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{LocalModes, tcgetattr};
use sai_core::axis::{Answer, Entry};
use sai_core::record::Decoder;
use sai_tests::bench::Bench;
use sai_tests::boards::saifile;
use sai_tests::laptop::{Laptop, Way};
use sai_tests::process::eventually;
use sai_tests::random::{Random, rounds, seed};
use sai_tests::repository::run;
use sai_tests::tty::{Tty, pty};
use sai_tests::world::World;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Somebody at a board: their token, and what their program is called there.
struct Person<'a> {
    world: &'a World,
    token: String,
    writer: &'static str,
}

impl<'a> Person<'a> {
    fn new(world: &'a World, name: &'static str, role: &str) -> Self {
        Self { world, token: world.command(&["user", "add", name, role]).trim().to_string(), writer: name }
    }

    /// Asks for a board: the job.
    fn asks(&self, fields: &str) -> Result<u64, (u16, String)> {
        let (status, body) = self.world.post(&format!("/api/v1/boards/lease?{fields}"), Some(&self.token));
        let job = body.rsplit("\"job\":").next().and_then(|rest| rest.trim_end_matches(['}', '\n']).parse().ok());
        job.filter(|_| status == 200).ok_or((status, body))
    }

    /// Says a word at the board of a job.
    fn says(&self, job: u64, number: u64, said: &str) -> (u16, String) {
        let said: String = said.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let fields = format!("attempt=1&writer={}&number={number}&said={said}", self.writer);
        self.world.post(&format!("/api/v1/jobs/{job}/word?{fields}"), Some(&self.token))
    }

    /// Says a word, and again until it is answered.
    fn is_answered(&self, job: u64, number: u64, said: &str) -> Answer {
        eventually(&format!("{said} is answered"), || {
            assert_eq!(self.says(job, number, said).0, 200);
            self.answers(job).into_iter().find(|one| one.writer == self.writer && one.number == number)
        })
    }

    /// What happened in the log of a job.
    fn entries(&self, job: u64) -> Vec<Entry> {
        let (status, bytes) = self.world.get_as(&format!("/job/{job}/records"), &self.token);
        let mut entries = Vec::new();
        if status == 200 {
            Decoder::new().push(&bytes, |item| entries.extend(Entry::of(&item))).expect("a log");
        }
        entries
    }

    fn answers(&self, job: u64) -> Vec<Answer> {
        let of = |entry| if let Entry::Answer(answer) = entry { Some(answer) } else { None };
        self.entries(job).into_iter().filter_map(of).collect()
    }

    /// How somebody is answered who wants to hear what happens there.
    fn hears(&self, job: u64) -> u16 {
        self.world.get_as(&format!("/job/{job}/records"), &self.token).0
    }

    /// Shares a board with somebody, or does so no more.
    fn shares(&self, job: u64, field: &str) -> (u16, String) {
        self.world.post(&format!("/api/v1/jobs/{job}/share?{field}"), Some(&self.token))
    }
}

/// The state of a job, and why it waits or ended.
fn state(world: &World, job: u64) -> (String, String) {
    let event = world.events().into_iter().find_map(|event| {
        let event = world.event(event.id)?;
        event.jobs.iter().any(|one| one.id == job).then_some(event)
    });
    let job = event.expect("an event").jobs.remove(0);
    (job.state, job.waiting.unwrap_or(job.cause))
}

#[test]
fn people_have_a_board_one_after_the_other_and_what_they_say_is_done_once() {
    let bench = Bench::new("leases");
    let world = &bench.world;
    let _master = world.master();
    let mut agent = bench.agent();
    bench.await_standing("free");
    let [ann, bob, eve, root] = [("ann", "builder"), ("bob", "builder"), ("eve", "reader"), ("root", "admin")]
        .map(|(name, role)| Person::new(world, name, role));
    world.repository.push_saifile(&saifile(&[("PASS", "")]));
    assert!(world.ended(1).jobs.iter().all(|job| job.state == "passed"));
    bench.await_standing("free");

    // Who may, and what there is.
    let (status, why) = eve.asks("type=arduino-uno").expect_err("she only reads");
    assert!(status == 403 && why.contains("takes a builder"), "{status} {why}");
    let (status, why) = ann.asks("type=esp32").expect_err("there is none");
    assert!(status == 409 && why.contains("a/uno-1 (arduino-uno)"), "{status} {why}");
    let (status, why) = ann.asks("tpye=esp32").expect_err("a slip");
    assert!(status == 400 && why.contains("expected one board, or one type"), "{status} {why}");

    let job = ann.asks("type=arduino-uno&minutes=5").expect("a board");
    bench.await_standing(&format!("job {job} is there"));
    let other = bob.asks("board=a/uno-1").expect("it is asked for");
    let (waits, why) = state(world, other);
    assert!(waits == "queued" && why.contains(&format!("job {job} is there")), "{waits} {why}");

    // What is said is done once, however often, and in order.
    let answer = ann.is_answered(job, 1, r#"{"t":"mode","name":"run"}"#);
    assert_eq!(answer.why, None);
    let answer = ann.is_answered(job, 2, r#"{"t":"expect","text":"login: $","ms":30000}"#);
    assert_eq!(answer.found.as_deref(), Some("login: "));
    assert_eq!(ann.says(job, 4, r#"{"t":"send","text":"too early\n"}"#).0, 200);
    for _ in 0..3 {
        assert_eq!(ann.says(job, 3, r#"{"t":"send","text":"root\n"}"#).0, 200);
    }
    let answer = ann.is_answered(job, 3, r#"{"t":"send","text":"root\n"}"#);
    assert_eq!(answer.why, None);
    let answer = ann.is_answered(job, 4, r#"{"t":"expect","text":"hello root","ms":30000}"#);
    assert_eq!(answer.found.as_deref(), Some("hello root"));
    let answer = ann.is_answered(job, 5, r#"{"t":"play","name":"no such"}"#);
    assert!(answer.why.as_ref().is_some_and(|why| why.contains("no sequence")), "{answer:?}");
    let sent: Vec<_> = ann
        .entries(job)
        .into_iter()
        .filter_map(|entry| if let Entry::Sent(_, sent) = entry { Some(sent) } else { None })
        .collect();
    // What a person types may be a password.
    assert_eq!(sent.iter().map(|sent| (sent.writer.as_str(), sent.length)).collect::<Vec<_>>(), [("ann", 5)]);
    assert!(sent.iter().all(|sent| sent.bytes.is_none()));
    let (status, why) = bob.says(job, 1, r#"{"t":"mode","name":"run"}"#);
    assert!(status == 409 && why.contains("is ann's"), "{status} {why}");
    let (status, why) = ann.says(job, 6, "[1]");
    assert!(status == 400 && why.contains("expected a line of JSON"), "{status} {why}");

    // Whom she shares it with hears what happens there, and so do admins; nobody else does, and she alone speaks.
    let all_hear = || [&ann, &bob, &eve, &root].map(|person| person.hears(job));
    assert_eq!(all_hear(), [200, 403, 403, 200]);
    assert_eq!(world.get(&format!("/job/{job}/records")).filter(|bytes| !bytes.is_empty()), None);
    for (who, field, says) in [
        (&bob, "with=bob", "is ann's"),
        (&ann, "with=zoe", "no user"),
        (&ann, "without=eve", "not shared with eve"),
        (&ann, "with=ann", "yours already"),
    ] {
        let (status, why) = who.shares(job, field);
        assert!(status == 409 && why.contains(says), "{field}: {status} {why}");
    }
    assert_eq!(ann.shares(job, "with=eve").0, 200);
    eventually("she may hear", || (all_hear() == [200, 403, 200, 200]).then_some(()));
    assert_eq!(eve.says(job, 1, r#"{"t":"release"}"#).0, 409);
    assert_eq!(ann.shares(job, "without=eve").0, 200);
    eventually("she may no more", || (all_hear() == [200, 403, 403, 200]).then_some(()));
    assert_eq!(ann.shares(job, "with=bob").0, 200);

    // Whoever gives it back has passed, and the next one has it at once.
    ann.is_answered(job, 6, r#"{"t":"release"}"#);
    bench.await_standing(&format!("job {other} is there"));
    assert_eq!(state(world, job), ("passed".to_string(), String::new()));
    assert_eq!(ann.says(job, 7, r#"{"t":"release"}"#).0, 409);
    assert_eq!((all_hear(), ann.shares(job, "with=eve").0), ([200, 200, 403, 200], 409), "what is over stays so");
    let answer = bob.is_answered(other, 1, r#"{"t":"mode","name":"run"}"#);
    assert_eq!(answer.why, None);

    // The agent's death takes the board from nobody.
    agent.kill();
    agent = world.agent_again("a");
    let answer = eventually("he goes on", || {
        let (status, _) = bob.says(other, 2, r#"{"t":"expect","text":"login: $","ms":30000}"#);
        assert!(matches!(status, 200 | 409));
        bob.answers(other).into_iter().find(|one| one.number == 2)
    });
    assert_eq!((answer.found.as_deref(), bob.answers(other).len()), (Some("login: "), 2));
    world.command(&["cancel", "job", &other.to_string()]);
    bench.await_standing("free");
    assert_eq!(state(world, other).0, "cancelled");
    drop(agent);
}

/// Lines that are typed.
const LINES: usize = 1000;

#[test]
fn what_is_typed_over_a_link_that_breaks_arrives_once_and_in_order_and_the_board_stays_theirs() {
    let bench = Tty::new("typing");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    let (ann, bob, way) = (Laptop::new(world, "ann"), Laptop::new(world, "bob"), Way::to(world.address()));
    ann.log_in(world, "ann", &[], way.port);
    bob.log_in(world, "bob", &[], world.port);
    eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    let (status, said, told) = ann.sai(&["board", "lease", "tty+here"]);
    assert!(status == 0 && said.starts_with("a/tty-1\tjob "), "{said}{told}");
    let (status, _, told) = bob.sai(&["board", "play", "a/tty-1", "reset"]);
    assert!(status == 1 && told.contains("you have no such board"), "{told}");
    let (status, _, told) = ann.sai(&["board", "play", "tty", "press"]);
    assert!(status == 1 && told.contains("has no sequence"), "{told}");
    let (status, said, _) = ann.sai(&["board", "list", "--json"]);
    assert!(status == 0 && said.contains("\"board\":\"a/tty-1\",\"type\":\"tty\""), "{said}");

    // The board gives back what it hears, so that the console has it too.
    let (over, mut board) = (AtomicBool::new(false), bench.boards[0].try_clone().expect("a tty"));
    let mut console = ann.command(&["board", "console", "tty"]);
    let mut console = console.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sai");
    let (mut typed, mut shown) = (console.stdin.take().expect("stdin"), console.stdout.take().expect("stdout"));
    let (arrived, took) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(2));
                way.cut();
            }
        });
        let hears = scope.spawn(|| {
            let (mut lines, mut took) = (Vec::new(), Vec::new());
            let mut reader = BufReader::new(bench.boards[0].try_clone().expect("a tty"));
            while lines.len() < LINES {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                board.write_all(line.as_bytes()).expect("the board answers");
                let sent = line.split(' ').next().and_then(|moment| moment.parse::<u128>().ok()).unwrap_or_default();
                took.push(now().saturating_sub(sent));
                lines.push(line);
            }
            (lines, took)
        });
        for number in 0..LINES {
            typed.write_all(format!("{} line {number}\n", now()).as_bytes()).expect("it is typed");
            std::thread::sleep(Duration::from_millis(8));
        }
        let heard = hears.join().expect("the board hears");
        over.store(true, Ordering::Relaxed);
        heard
    });
    for (number, line) in arrived.iter().enumerate() {
        assert!(line.ends_with(&format!(" line {number}\n")), "{number}: {line:?}");
    }
    drop(typed);
    let mut all = String::new();
    shown.read_to_string(&mut all).expect("what it shows");
    assert_eq!(console.wait().expect("it ends").code(), Some(0));
    assert_eq!(all, arrived.concat());
    let mut took = took;
    took.sort_unstable();
    let at = |part: usize| Duration::from_micros(took[took.len() * part / 100] as u64);
    eprintln!("from a key to the board's tty: median {:?}, of a hundred the slowest ten {:?}", at(50), at(90));

    // Who waits may think better of it.
    let mut waits = bob.command(&["board", "lease", "a/tty-1"]);
    let mut waits = waits.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sai");
    let mut told = String::new();
    BufReader::new(waits.stderr.take().expect("stderr")).read_line(&mut told).expect("a line");
    assert!(told.contains("waits: ") && told.contains("sai board release gives it up"), "{told}");
    let until = told.split_once("one is free by ").and_then(|(_, rest)| rest.split(' ').next()).expect("until when");
    let until = run(Command::new("date").args(["+%s", "-d", until])).parse::<u64>().expect("a moment");
    let left = until.saturating_sub(now() as u64 / 1_000_000);
    assert!((20 * 60..=30 * 60).contains(&left), "a lease lasts half an hour from its last use: {left} s");
    let (status, _, told) = bob.sai(&["board", "release", "a/tty-1"]);
    assert!(status == 0 && told.contains("does not wait any more"), "{told}");
    assert_eq!(waits.wait().expect("it ends").code(), Some(1));
    let (status, _, told) = bob.sai(&["board", "release", "tty"]);
    assert!(status == 1 && told.contains("you have no such board"), "{told}");

    // It was theirs all the time, and is free when they say so.
    let (status, _, told) = ann.sai(&["board", "release", "tty"]);
    assert_eq!(status, 0, "{told}");
    let began = Instant::now();
    let (status, said, told) = bob.sai(&["board", "lease", "a/tty-1", "--minutes", "1"]);
    assert!(status == 0 && said.starts_with("a/tty-1\t"), "{said}{told}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let (status, said, told) = bob.sai(&["board", "send", "a/tty-1", "hello\\r\\x21"]);
    assert_eq!((status, said.as_str()), (0, ""), "{told}");
    let mut heard = [0; 7];
    bench.boards[0].try_clone().expect("a tty").read_exact(&mut heard).expect("it arrives");
    assert_eq!(&heard, b"hello\r!");
    (&bench.boards[0]).write_all(b"ok then\n").expect("the board answers");
    let (status, said, told) = bob.sai(&["board", "expect", "a/tty-1", "ok \\w+", "--within", "20"]);
    assert_eq!((status, said.as_str()), (0, "ok then\n"), "{told}");
    let (status, _, told) = bob.sai(&["board", "expect", "a/tty-1", "never", "--within", "1"]);
    assert!(status == 1 && told.contains("did not come in time"), "{told}");
    assert_eq!(bob.sai(&["board", "release", "a/tty-1"]).0, 0);
    for words in [&["board"][..], &["board", "lease"], &["board", "lease", "a b"], &["board", "send", "tty", "\\q"]] {
        let (status, _, told) = bob.sai(words);
        assert!(status == 2 && told.contains("expected"), "{words:?}: {told}");
    }
}

#[test]
fn a_terminal_gives_each_key_to_the_board_and_is_as_before_when_it_is_left() {
    let bench = Tty::new("terminal");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    let ann = Laptop::new(world, "ann");
    ann.log_in(world, "ann", &[], world.port);
    eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    assert_eq!(ann.sai(&["board", "lease", "tty"]).0, 0);
    let (mut keys, path) = pty();
    let terminal = || OpenOptions::new().read(true).write(true).open(&path).expect("a terminal");
    let held = terminal();
    let before = tcgetattr(&held).expect("its settings").local_modes;
    let mut console = ann.command(&["board", "console", "tty"]);
    let mut console = console.stdin(terminal()).stdout(terminal()).stderr(Stdio::piped()).spawn().expect("sai");
    let modes = || tcgetattr(&held).expect("its settings").local_modes;
    eventually("no key means anything to the terminal", || (!modes().intersects(LocalModes::ISIG)).then_some(()));
    // Ctrl-C is the board's, and nothing waits for the end of a line.
    let mut heard = [0; 3];
    keys.write_all(b"a\x03b").expect("keys");
    bench.boards[0].try_clone().expect("a tty").read_exact(&mut heard).expect("it arrives");
    assert_eq!(&heard, b"a\x03b");
    (&bench.boards[0]).write_all(b"login: ").expect("the board says something");
    let mut shown = [0; 7];
    keys.read_exact(&mut shown).expect("it is shown");
    assert_eq!(&shown, b"login: ");
    keys.write_all(b"c\x1d").expect("keys");
    assert_eq!(console.wait().expect("it ends").code(), Some(0));
    bench.boards[0].try_clone().expect("a tty").read_exact(&mut heard[..1]).expect("what was typed before");
    assert_eq!((heard[0], modes()), (b'c', before));
    assert_eq!(ann.sai(&["board", "release", "tty"]).0, 0, "it was hers all the time");
}

#[test]
fn whom_a_board_is_shared_with_hears_its_console_and_its_record_is_whole() {
    let bench = Tty::new("shared");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    let (ann, bob) = (Laptop::new(world, "ann"), Laptop::new(world, "bob"));
    ann.log_in(world, "ann", &[], world.port);
    bob.log_in(world, "bob", &["reader"], world.port);
    eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    let (status, _, told) = bob.sai(&["board", "join", "tty"]);
    assert!(status == 1 && told.contains("no person has such a board"), "{told}");
    assert_eq!(ann.sai(&["board", "lease", "tty"]).0, 0);
    (&bench.boards[0]).write_all(b"before he came\n").expect("the board says something");
    for word in ["join", "record"] {
        let (status, said, told) = bob.sai(&["board", word, "tty"]);
        assert!(status == 1 && said.is_empty() && told.contains("to whom they share it with"), "{word}: {told}");
    }
    let (status, _, told) = ann.sai(&["board", "share", "tty", "zoe"]);
    assert!(status == 1 && told.contains("no user"), "{told}");
    let (status, _, told) = bob.sai(&["board", "share", "tty", "bob"]);
    assert!(status == 1 && told.contains("you have no such board"), "{told}");
    let (status, _, told) = ann.sai(&["board", "share", "tty", "bob"]);
    assert!(status == 0 && told.contains("with bob"), "{told}");

    let started = |word: &str, of: &Laptop| {
        let mut command = of.command(&["board", word, "a/tty-1"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sai")
    };
    let mut joined = started("join", &bob);
    let mut line = String::new();
    let mut shown = BufReader::new(joined.stdout.take().expect("stdout"));
    shown.read_line(&mut line).expect("what was said last");
    assert_eq!(line, "before he came\n");
    let recorded = [started("record", &bob), started("record", &ann)];
    let mut all = b"before he came\n".to_vec();
    for number in 0..200 {
        let line = format!("{number} \x1b[31m\u{0}\u{ff}\n");
        (&bench.boards[0]).write_all(line.as_bytes()).expect("the board says something");
        all.extend_from_slice(line.as_bytes());
    }
    line.clear();
    shown.read_line(&mut line).expect("what it says now");
    assert!(line.starts_with("0 "), "{line:?}");
    eventually("all of it has come", || {
        let (status, said, _) = ann.sai(&["board", "expect", "tty", "199 ", "--within", "1"]);
        (status == 0 && said.starts_with("199")).then_some(())
    });
    // Its supply is switched once for each word.
    for (word, switched) in [("cycle", "off on"), ("off", "off"), ("on", "on")] {
        let _ = fs::remove_file(world.directory.join("supply"));
        let (status, _, told) = ann.sai(&["board", "power", "tty", word]);
        assert_eq!(status, 0, "{told}");
        let text = fs::read_to_string(world.directory.join("supply")).expect("it was switched");
        assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), switched);
    }
    let (status, _, told) = ann.sai(&["board", "power", "tty", "up"]);
    assert!(status == 1 && told.contains("expected on, off or cycle"), "{told}");
    assert_eq!(ann.sai(&["board", "release", "tty"]).0, 0);
    let told = joined.wait_with_output().expect("it ends with the lease");
    let said = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.status.success() && said.contains("with ann, who types") && said.contains("lease is over"), "{said}");
    for record in recorded {
        let told = record.wait_with_output().expect("it ends with the lease");
        let said = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(told.status.success() && told.stdout == all, "{} of {}: {said}", told.stdout.len(), all.len());
    }
}

/// Longer than anything typed waits for a link.
const LONG: Duration = Duration::from_secs(7);

#[test]
fn what_is_typed_while_the_link_is_down_for_long_is_told_and_never_typed_late() {
    let bench = Tty::new("late");
    let world = &bench.world;
    let _master = world.master();
    let _agent = bench.agent();
    let (ann, way) = (Laptop::new(world, "ann"), Way::to(world.address()));
    ann.log_in(world, "ann", &[], way.port);
    eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    assert_eq!(ann.sai(&["board", "lease", "tty"]).0, 0);
    let (mut keys, path) = pty();
    let terminal = || OpenOptions::new().read(true).write(true).open(&path).expect("a terminal");
    let _held = terminal();
    let mut console = ann.command(&["board", "console", "tty"]);
    let mut console = console.stdin(terminal()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("sai");
    let mut told = BufReader::new(console.stderr.take().expect("stderr"));
    let mut tells = |wanted: &str| {
        let mut line = String::new();
        while !line.contains(wanted) {
            line.clear();
            assert!(told.read_line(&mut line).expect("a line") > 0, "it ended without saying {wanted:?}");
        }
    };
    let mut board = bench.boards[0].try_clone().expect("a tty");
    let mut hears = |count: usize| {
        let mut heard = vec![0; count];
        board.read_exact(&mut heard).expect("it arrives");
        String::from_utf8_lossy(&heard).into_owned()
    };
    // What a terminal gives before its program has it in hand may wait for the end of a line.
    tells("Ctrl-] leaves");
    keys.write_all(b"before ").expect("keys");
    assert_eq!(hears(7), "before ");

    way.close(true);
    keys.write_all(b"rm -r /").expect("keys");
    std::thread::sleep(LONG);
    keys.write_all(b"soon ").expect("keys");
    std::thread::sleep(Duration::from_secs(1));
    way.close(false);
    assert_eq!(hears(5), "soon ", "what is a moment old is typed");
    tells("it came too late, and was not done");
    keys.write_all(b"after\x1d").expect("keys");
    assert_eq!(hears(5), "after");
    assert_eq!(console.wait().expect("it ends").code(), Some(0));
    assert_eq!(ann.sai(&["board", "release", "tty"]).0, 0);
}

/// How often a process has waited for something, and been woken, by now; and how much time of a processor it took, in milliseconds.
fn spent(process: u32) -> (u64, u64) {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs").flatten();
    let (mut waits, mut ran) = (0, 0);
    for task in tasks {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let wait = |line: &str| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok();
        waits += read("status").lines().find_map(wait).unwrap_or(0);
        // In nanoseconds.
        ran += read("schedstat").split(' ').next().and_then(|ran| ran.parse::<u64>().ok()).unwrap_or(0);
    }
    (waits, ran / 1_000_000)
}

/// How long nothing happens at a console.
const IDLE: Duration = Duration::from_secs(10);
/// Keys that are typed, and lines that are said.
const KEYS: usize = 100;

#[test]
fn a_console_at_which_nothing_happens_costs_nothing_and_what_is_said_there_is_shown_at_once() {
    let bench = Tty::new("idle");
    let world = &bench.world;
    let master = world.master();
    let _agent = bench.agent();
    let ann = Laptop::new(world, "ann");
    ann.log_in(world, "ann", &[], world.port);
    eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    assert_eq!(ann.sai(&["board", "lease", "tty"]).0, 0);
    let mut console = ann.command(&["board", "console", "tty"]);
    let mut console = console.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sai");
    let mut typed = console.stdin.take().expect("stdin");
    let mut shown = BufReader::new(console.stdout.take().expect("stdout"));
    let mut board = BufReader::new(bench.boards[0].try_clone().expect("a tty"));
    let mut line = String::new();
    let (mut said, mut keys) = (Vec::new(), Vec::new());
    for number in 0..=KEYS {
        let began = Instant::now();
        (&bench.boards[0]).write_all(format!("line {number}\n").as_bytes()).expect("the board says something");
        line.clear();
        shown.read_line(&mut line).expect("it is shown");
        assert_eq!(line, format!("line {number}\n"));
        said.push(began.elapsed());
        let began = Instant::now();
        typed.write_all(format!("key {number}\n").as_bytes()).expect("it is typed");
        line.clear();
        board.read_line(&mut line).expect("it arrives");
        assert_eq!(line, format!("key {number}\n"));
        keys.push(began.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    // The first of each is the beginning's.
    let of = |all: &mut Vec<Duration>| {
        all.remove(0);
        all.sort_unstable();
        (all[KEYS / 2], all[KEYS * 9 / 10])
    };
    let (said, keys) = (of(&mut said), of(&mut keys));
    eprintln!("from the board's tty to the terminal: median {:?}, of a hundred the slowest ten {:?}", said.0, said.1);
    eprintln!("from a key to the board's tty: median {:?}, of a hundred the slowest ten {:?}", keys.0, keys.1);
    // What the last key's answer brings has come by then.
    std::thread::sleep(Duration::from_secs(6));
    let processes = [console.id(), master.id()];
    let before = processes.map(spent);
    std::thread::sleep(IDLE);
    let spent = [0, 1].map(|of| {
        let (now, before) = (spent(processes[of]), before[of]);
        (now.0 - before.0, now.1 - before.1)
    });
    eprintln!("idle for {IDLE:?}: (waits, ms of processor) of sai {:?}, of the master {:?}", spent[0], spent[1]);
    assert!(spent[0].0 < 20 && spent[1].0 < 400, "{spent:?}");
    drop(typed);
    assert_eq!(console.wait().expect("it ends").code(), Some(0));
    assert_eq!(ann.sai(&["board", "release", "tty"]).0, 0);
}

/// Rounds of kills and cuts in each run of the tests; `SAI_ROUNDS` makes more of them.
const ROUNDS: u64 = 12;

/// What is done to whom while two people want one board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    Cut,
    Agent,
    Master,
    Supervisor,
    Laptops,
}

#[test]
fn whatever_is_killed_or_cut_around_leases_the_board_is_lost_to_nobody_and_given_to_one() {
    let (rounds, mut random) = (rounds(ROUNDS), Random::new(seed("leases", 1)));
    let bench = Tty::new("rounds");
    let world = &bench.world;
    let mut master = world.master();
    let mut agent = bench.agent();
    let (ann, bob, way) = (Laptop::new(world, "ann"), Laptop::new(world, "bob"), Way::to(world.address()));
    ann.log_in(world, "ann", &[], way.port);
    bob.log_in(world, "bob", &[], way.port);
    let free = || eventually("the board is free", || ann.sai(&["board", "list"]).1.contains("\tfree").then_some(()));
    let harms = [Harm::Cut, Harm::Agent, Harm::Master, Harm::Supervisor, Harm::Laptops];
    let (mut had, mut infra) = (0, 0);
    for round in 0..rounds {
        free();
        let harm = harms[(round % harms.len() as u64) as usize];
        let before = world.events().iter().map(|event| event.id).max().unwrap_or(0);
        let asks = |laptop: &Laptop| {
            let mut command = laptop.command(&["board", "lease", "a/tty-1", "--minutes", "5"]);
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("sai")
        };
        let mut people = [asks(&ann), asks(&bob)];
        std::thread::sleep(Duration::from_millis(random.below(600)));
        match harm {
            Harm::Cut => way.cut(),
            Harm::Agent => {
                agent.kill();
                agent = world.agent_again("a");
            }
            Harm::Master => {
                master.kill();
                master = world.master();
            }
            Harm::Supervisor => {
                let job = world.job_processes().iter().find_map(|line| line.split(':').next()?.parse().ok());
                let _ = job.and_then(Pid::from_raw).map(|process| kill_process(process, Signal::KILL));
            }
            Harm::Laptops => people.iter_mut().for_each(|person| drop(person.kill())),
        }
        // One of them has it, or nobody, as the hub wrote it down; whoever has it gives it back, and the other is next.
        let jobs = || {
            let events = world.events().into_iter().filter(|event| event.id > before && event.source == "lease");
            events.filter_map(|event| world.event(event.id)?.jobs.into_iter().next()).collect::<Vec<_>>()
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let all = jobs();
            let attempts = |all: &[sai_tests::world::Job]| -> Vec<(u64, u32)> {
                all.iter().filter(|job| job.state == "running").map(|job| (job.id, job.attempt)).collect()
            };
            let running = attempts(&all);
            if let [first, _, ..] = running[..] {
                // They are read one after the other: the first may have ended before the next began.
                assert!(!attempts(&jobs()).contains(&first), "round {round}, {harm:?}: {running:?} have one board");
                continue;
            }
            let running: Vec<u64> = running.into_iter().map(|(job, _)| job).collect();
            let over = all.iter().all(sai_tests::world::Job::ended);
            let waits = people.iter_mut().any(|person| person.try_wait().expect("sai").is_none());
            if over && !waits {
                break;
            }
            assert!(Instant::now() < deadline, "round {round}, {harm:?}: {all:?}");
            if running.is_empty() {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
            had += 1;
            // By whoever has it, or from elsewhere where that one is not there any more.
            let given = [&ann, &bob].iter().any(|laptop| laptop.sai(&["board", "release", "a/tty-1"]).0 == 0);
            if !given {
                world.try_command(&["cancel", "job", &running[0].to_string()]);
            }
        }
        infra += jobs().iter().filter(|job| job.state == "infra").count();
        let trouble = jobs().into_iter().find(|job| job.state == "infra" && harm != Harm::Supervisor);
        assert!(trouble.is_none(), "round {round}, {harm:?}: {trouble:?}");
        for mut person in people {
            let _ = person.wait();
        }
    }
    free();
    assert!(had >= rounds, "{had} leases in {rounds} rounds");
    eprintln!("{rounds} rounds: the board was had {had} times, and {infra} times its supervisor was killed under it");
}

/// Microseconds of a clock that all threads of this test share.
fn now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros())
}
