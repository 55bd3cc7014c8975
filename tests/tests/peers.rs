//! Agents and viewers that break every rule of the protocol over real links: the master and everybody else go on.

use sai_core::job::JobKey;
use sai_core::record::{Artifact, ChannelStart, Record, encode};
use sai_core::wire::{AgentMessage, DataHeader, Load, MasterMessage, Offer, Refuse};
use sai_tests::peer::{Peer, hello, passed_log};
use sai_tests::process::eventually;
use sai_tests::repository::saifile;
use sai_tests::world::{Job, World};
use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

const PLATFORM: &str = "linux-test-1/x86_64/gcc";

fn first_job(world: &World, event: u64) -> Job {
    world.event(event).expect("the event").jobs.remove(0)
}

/// A job that prints `before`, waits until the file `release` is there, and prints `after`.
fn patient_saifile(world: &World) -> String {
    let release = world.directory.join("release");
    saifile(&[&format!("printf before; while [ ! -e {} ]; do sleep 0.02; done; printf after", release.display())])
}

fn release(world: &World) {
    fs::write(world.directory.join("release"), "").expect("a file");
}

fn data(job: u64, attempt: u32, content: &[u8]) -> Vec<u8> {
    let mut frame = DataHeader { key: JobKey { job, attempt }, stream: 0, offset: 0 }.encode().to_vec();
    frame.extend_from_slice(content);
    frame
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_why_and_let_go() {
    let world = World::new("rude");
    let _master = world.master();
    let line = world.join_line("rude");
    let greeting = || AgentMessage::Hello(hello(1, &[PLATFORM], 0, &[])).encode();
    let load = AgentMessage::Load(Load { load_permille: 0, free_mib: 0 }).encode();
    let mut old = hello(1, &[PLATFORM], 0, &[]);
    old.protocol = 99;
    let old = AgentMessage::Hello(old).encode();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_inside = format!("{{\"t\":\"load\",\"x\":{deep},\"load_permille\":0,\"free_mib\":0}}");
    // Before the greeting.
    for (text, why) in [
        ("", "no message"),
        ("hello", "no message"),
        ("[]", "no message"),
        ("{\"t\":3}", "no message"),
        ("{\"t\":\"explode\"}", "a message (explode) before the greeting"),
        ("{\"t\":\"hello\"}", "malformed hello"),
        ("{\"t\":\"welcome\",\"protocol\":1}", "before the greeting"),
        ("{\"t\":\"hello\",\"t\":\"load\"", "no message"),
        (deep.as_str(), "no message"),
        (deep_inside.as_str(), ""),
        (load.as_str(), "before the greeting"),
        (old.as_str(), "protocol"),
    ] {
        let peer = Peer::dial(&line).expect("a link");
        peer.text(text);
        let said = peer.dismissed();
        assert!(said.contains(why), "{:?}: {said}", &text[..text.len().min(60)]);
    }
    // After it.
    let peer = Peer::join(&line, hello(1, &[PLATFORM], 0, &[]));
    peer.text(greeting());
    assert!(peer.dismissed().contains("second greeting"));
    let mut past_the_end =
        DataHeader { key: JobKey { job: 1, attempt: 1 }, stream: 0, offset: u64::MAX }.encode().to_vec();
    past_the_end.push(1);
    let mut reserved = data(1, 1, b"x");
    reserved[1] = 2;
    for frame in [vec![], vec![1], data(1, 1, b""), data(1, 1, &vec![0; (64 << 10) + 1]), past_the_end, reserved] {
        let peer = Peer::join(&line, hello(1, &[PLATFORM], 0, &[]));
        let length = frame.len();
        peer.binary(frame);
        let said = peer.dismissed();
        assert!(said.contains("binary frame"), "{length} bytes: {said}");
    }
    // More than a frame may have: the link just ends.
    let peer = Peer::join(&line, hello(1, &[PLATFORM], 0, &[]));
    peer.text(" ".repeat((1 << 20) + 1));
    peer.dismissed();
    assert!(world.get("/healthz").is_some());
}

#[test]
fn wrong_revoked_and_stolen_tokens_open_nothing() {
    let world = World::new("tokens");
    let _master = world.master();
    let line = world.join_line("one");
    let wrong = {
        let mut fields: Vec<&str> = line.split(':').collect();
        let token = fields.len() - 2;
        fields[token] = "0123456789abcdef0123456789abcdef0123456789abcdef";
        fields.join(":")
    };
    let refused = Peer::dial(&wrong).expect_err("a wrong token");
    assert!(refused.contains("token refused"), "{refused}");
    // The first machine that comes with a token keeps it; a second identity is a thief.
    let first = Peer::join(&line, hello(1, &[PLATFORM], 0, &[]));
    let thief = Peer::dial(&line).expect("a link, for the token is right");
    thief.say(AgentMessage::Hello(hello(2, &[PLATFORM], 4, &[])));
    let said = thief.dismissed();
    assert!(said.contains("belongs to another machine"), "{said}");
    assert!(first.say(AgentMessage::Load(Load { load_permille: 1, free_mib: 1 })), "the first one stays");
    // The same machine on a new link takes the place of the old link.
    let again = Peer::join(&line, hello(1, &[PLATFORM], 0, &[]));
    first.dismissed();
    assert!(again.say(AgentMessage::Load(Load { load_permille: 1, free_mib: 1 })));
    world.command(&["agent", "revoke", "one"]);
    let said = again.dismissed();
    assert!(said.contains("revoked"), "{said}");
    assert!(Peer::dial(&line).expect_err("a revoked token").contains("token refused"));
    // It stays so after a restart.
    drop(_master);
    let _master = world.master();
    assert!(Peer::dial(&line).expect_err("a revoked token").contains("token refused"));
    // A new token under the old name is for a new machine.
    let anew = world.join_line("one");
    let _second = Peer::join(&anew, hello(2, &[PLATFORM], 0, &[]));
}

#[test]
fn nobody_speaks_for_the_job_of_another() {
    let world = World::new("forger");
    let _master = world.master();
    let _honest = world.agent("honest", &[PLATFORM], 1);
    world.repository.push_saifile(&patient_saifile(&world));
    eventually("the honest agent builds", || world.event(1).filter(|event| event.jobs[0].state == "running"));
    // A second job waits, for the honest agent has one slot.
    world.repository.write("more", "");
    world.repository.push_saifile(&patient_saifile(&world));
    eventually("the second job waits", || world.event(2));
    let forger = Peer::join(&world.join_line("forger"), hello(1, &["other/x86_64"], 4, &[]));
    let begun = world.records(1);
    for (job, attempt) in [(1, 1), (1, 2), (1, 0), (2, 0), (2, 1), (3, 1), (u64::MAX, u32::MAX)] {
        let key = JobKey { job, attempt };
        assert!(forger.piece(key, 0, 0, &passed_log()));
        assert!(forger.piece(key, 0, 5000, &passed_log()));
        assert!(forger.piece(key, 1, 0, b"an artifact"));
        assert!(forger.say(AgentMessage::Refuse(Refuse { key, why: "no".to_string(), trouble: None })));
    }
    // What it said has been read when its next word has an effect.
    forger.say(AgentMessage::Offer(Offer {
        platforms: vec!["other-read/x86_64".to_string()],
        slots: 4,
        rooted: None,
        boards: None,
    }));
    eventually("the forger was heard", || {
        world.agents().iter().any(|agent| agent.platforms == ["other-read/x86_64"]).then_some(())
    });
    let (first, second) = (first_job(&world, 1), first_job(&world, 2));
    assert_eq!((first.state.as_str(), first.attempt), ("running", 1), "{first:?}");
    assert_eq!((second.state.as_str(), second.attempt), ("queued", 0), "{second:?}");
    assert_eq!(world.records(1).text, begun.text);
    release(&world);
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    assert_eq!(world.ended(2).jobs[0].state, "passed");
    assert_eq!(world.records(1).channel("stdout"), b"beforeafter");
    assert_eq!(world.records(2).channel("stdout"), b"beforeafter");
}

/// Has a job given to a peer, lets the peer lie about it, and expects the job to be tried again for this reason.
fn lie(world: &World, peer: &Peer, why: &str, lie: impl FnOnce(&Peer, JobKey)) {
    let assignment = peer.assignment();
    let key = assignment.key;
    lie(peer, key);
    let about = eventually(why, || world.event(1).filter(|event| event.jobs[0].cause.contains(why)));
    assert!(about.jobs[0].attempt >= key.attempt);
    assert_ne!(about.jobs[0].state, "passed");
}

#[test]
fn a_lie_about_ones_own_job_is_trouble_of_ours_and_never_a_result() {
    let world = World::new("liar");
    let _master = world.master();
    let line = world.join_line("liar");
    let peer = Peer::join(&line, hello(1, &[PLATFORM], 1, &[]));
    world.repository.push_saifile(&saifile(&["true"]));
    lie(&world, &peer, "malformed log", |peer, key| {
        peer.piece(key, 0, 0, b"this is no record at all");
    });
    lie(&world, &peer, "malformed log", |peer, key| {
        let mut log = Vec::new();
        encode(&Record::Channel(0, ChannelStart { name: "stdout".to_string() }), 0, &mut log);
        log.extend_from_slice(&passed_log());
        log.extend_from_slice(b"more after the verdict");
        peer.piece(key, 0, 0, &log);
    });
    lie(&world, &peer, "3 times in a row", |peer, key| {
        let artifact = Artifact {
            stream: 1,
            path: "../../etc/passwd".to_string(),
            size: 1,
            sha256: "0".repeat(64),
            executable: false,
        };
        let mut log = Vec::new();
        encode(&Record::Artifact(artifact), 0, &mut log);
        peer.piece(key, 0, 0, &log);
    });
    let job = world.ended(1).jobs.remove(0);
    assert_eq!((job.state.as_str(), job.attempt), ("infra", 3), "{job:?}");
    assert!(job.cause.contains("no relative path"), "{job:?}");
}

#[test]
fn an_artifact_that_is_not_what_was_announced_is_never_kept() {
    let world = World::new("digest");
    let _master = world.master();
    let peer = Peer::join(&world.join_line("liar"), hello(1, &[PLATFORM], 1, &[]));
    world.repository.push_saifile(&saifile(&["true"]));
    lie(&world, &peer, "digest", |peer, key| {
        let artifact =
            Artifact { stream: 1, path: "file".to_string(), size: 4, sha256: "0".repeat(64), executable: false };
        let mut log = Vec::new();
        encode(&Record::Artifact(artifact), 0, &mut log);
        log.extend_from_slice(&passed_log());
        peer.piece(key, 0, 0, &log);
        peer.piece(key, 1, 0, b"fake");
    });
    lie(&world, &peer, "longer than", |peer, key| {
        let artifact =
            Artifact { stream: 1, path: "file".to_string(), size: 4, sha256: "0".repeat(64), executable: false };
        let mut log = Vec::new();
        encode(&Record::Artifact(artifact), 0, &mut log);
        peer.piece(key, 0, 0, &log);
        peer.piece(key, 1, 0, b"longer than it was announced");
    });
}

#[test]
fn pieces_out_of_order_end_the_link_and_lose_nothing() {
    let world = World::new("order");
    let _master = world.master();
    let line = world.join_line("order");
    let peer = Peer::join(&line, hello(1, &[PLATFORM], 1, &[]));
    world.repository.push_saifile(&saifile(&["true"]));
    let key = peer.assignment().key;
    let mut log = Vec::new();
    encode(&Record::Channel(0, ChannelStart { name: "stdout".to_string() }), 0, &mut log);
    encode(&Record::Data(0, b"printed".to_vec()), 0, &mut log);
    log.extend_from_slice(&passed_log());
    peer.piece(key, 0, 0, &log[..20]);
    peer.piece(key, 0, 21, &log[21..]);
    let said = peer.dismissed();
    assert!(said.contains("skips from 20"), "{said}");
    // On the next link the master says how much it has.
    let peer = Peer::join(&line, hello(1, &[PLATFORM], 1, &[key]));
    let Some(MasterMessage::Adopt(adopt)) = peer.next() else { panic!("the job is still the peer's") };
    assert_eq!(adopt.key, key);
    assert!(adopt.lengths.first().is_none_or(|length| *length <= 20), "{adopt:?}");
    peer.piece(key, 60_000, 0, b"a stream that cannot be");
    assert!(peer.dismissed().contains("stream 60000"));
    let peer = Peer::join(&line, hello(1, &[PLATFORM], 1, &[key]));
    let Some(MasterMessage::Adopt(adopt)) = peer.next() else { panic!("the job is still the peer's") };
    let held = adopt.lengths.first().copied().unwrap_or(0) as usize;
    // Pieces that overlap what is there, byte by byte, twice.
    for _ in 0..2 {
        for at in held.saturating_sub(3)..log.len() {
            peer.piece(key, 0, at as u64, &log[at..log.len().min(at + 5)]);
        }
    }
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    assert_eq!(world.log(1), b"printed");
}

#[test]
fn a_flood_of_words_keeps_nobody_waiting() {
    let world = World::new("flood");
    let master = world.master();
    let _honest = world.agent("honest", &[PLATFORM], 1);
    let flooder = Peer::join(&world.join_line("flooder"), hello(1, &["other-flood/x86_64"], 1, &[]));
    world.repository.push_saifile(&patient_saifile(&world));
    eventually("the honest agent builds", || world.event(1).filter(|event| event.jobs[0].state == "running"));
    let before = master.resident_kib();
    let many: Vec<String> = (0..5000).map(|number| format!("other-{number}/x86_64/gcc")).collect();
    let offer = AgentMessage::Offer(Offer { platforms: many, slots: u32::MAX, rooted: None, boards: None }).encode();
    for round in 0..50 {
        assert!(flooder.text(offer.clone()));
        for load in 0..100 {
            assert!(flooder.say(AgentMessage::Load(Load { load_permille: load, free_mib: round })));
        }
    }
    release(&world);
    assert_eq!(world.ended(1).jobs[0].state, "passed");
    assert_eq!(world.records(1).channel("stdout"), b"beforeafter");
    // A greeting that claims as many jobs as fit into a frame: each is answered, or the link ends; nothing else happens.
    let jobs: Vec<JobKey> = (0..20_000).map(|job| JobKey { job, attempt: 1 }).collect();
    let claimer = Peer::dial(&world.join_line("claimer")).expect("a link");
    claimer.say(AgentMessage::Hello(hello(2, &["other/x86_64"], 1, &jobs)));
    claimer.next();
    // One that greets again and again.
    let line = world.join_line("greeter");
    for _ in 0..50 {
        Peer::join(&line, hello(3, &[PLATFORM], 0, &[]));
    }
    world.repository.write("more", "");
    world.repository.push_saifile(&patient_saifile(&world));
    drop(claimer);
    assert_eq!(world.ended(2).jobs[0].state, "passed");
    let grown = master.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "the master grew by {grown} KiB");
}

#[test]
fn an_agents_words_are_shown_as_words() {
    let world = World::new("words");
    let _master = world.master();
    let escape = "\x1b]0;title\x07\x1b[2J<script>alert(1)</script>\r\n\u{202e}";
    let mut greeting = hello(1, &[PLATFORM], 1, &[]);
    greeting.host = escape.repeat(10_000);
    greeting.version = escape.repeat(100);
    greeting.platforms.extend([escape.to_string(), "../../etc".to_string(), "x".repeat(100_000)]);
    greeting.mirrors = vec![escape.to_string(); 1000];
    let peer = Peer::join(&world.join_line("artist"), greeting);
    let list = world.command(&["agent", "list"]);
    assert!(list.len() < 2000 && !list.chars().any(|letter| letter.is_control() && letter != '\t'), "{list:?}");
    assert_eq!(world.agents()[0].platforms, [PLATFORM]);
    let page = world.page("/agents");
    assert!(!page.contains("<script>alert") && !page.contains('\x1b') && page.len() < 60_000, "{}", page.len());
    world.repository.push_saifile(&saifile(&["true"]));
    let key = peer.assignment().key;
    peer.say(AgentMessage::Refuse(Refuse { key, why: escape.repeat(5_000), trouble: None }));
    eventually("the refusal is heard", || world.event(1).filter(|event| event.jobs[0].cause.contains("title")));
    let page = world.page("/job/1");
    assert!(!page.contains("<script>alert") && !page.contains('\x1b') && page.len() < 60_000, "{}", page.len());
    // An identity is stored, too.
    let mut greeting = hello(1, &[PLATFORM], 1, &[]);
    greeting.identity = "1".repeat(500_000);
    let thief = Peer::dial(&world.join_line("other")).expect("a link");
    thief.say(AgentMessage::Hello(greeting));
    assert!(thief.dismissed().contains("identity"));
}

/// A TLS connection by `openssl` that asks for a live socket, its output held back until it is read.
fn viewer(world: &World, address: &str) -> Child {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", world.port)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl can be run");
    let head = format!(
        "GET {address} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        world.port
    );
    child.stdin.as_mut().expect("a pipe").write_all(head.as_bytes()).expect("openssl reads");
    child
}

#[test]
fn a_viewer_that_never_reads_costs_nothing_but_itself() {
    let world = World::new("viewer");
    let mut master = world.master();
    let _agent = world.agent("one", &[PLATFORM], 1);
    let go = world.directory.join("go");
    let script = format!(
        "while [ ! -e {} ]; do sleep 0.02; done; yes 'a line of fifty bytes, as a compiler prints them' | head -c 50000000",
        go.display()
    );
    world.repository.push_saifile(&saifile(&[&script]));
    eventually("the job runs", || world.event(1).filter(|event| event.jobs[0].state == "running"));
    let mut deaf: Vec<Child> = (0..8).map(|_| viewer(&world, "/live?job=1-1&from=0")).collect();
    deaf.extend((0..4).map(|_| viewer(&world, "/live?page=events")));
    let mut reader = viewer(&world, "/live?job=1-1&from=0");
    let mut stream = reader.stdout.take().expect("a pipe");
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all
    });
    let before = master.resident_kib();
    fs::write(go, "").expect("a file");
    let mut most = before;
    let event = eventually("the job ends", || {
        most = most.max(master.resident_kib());
        world.event(1).filter(|event| event.jobs.iter().all(Job::ended))
    });
    assert_eq!(event.jobs[0].state, "passed");
    assert_eq!(world.records(1).channel("stdout").len(), 50_000_000);
    eprintln!("master: {before} KiB before, {most} KiB at most");
    assert!(most - before < 48 << 10, "the master grew from {before} to {most} KiB");
    master.kill();
    for child in deaf.iter_mut().chain([&mut reader]) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let seen = reading.join().expect("the reader");
    let text = String::from_utf8_lossy(&seen);
    assert!(text.starts_with("HTTP/1.1 101"), "{}", &text[..text.len().min(200)]);
    assert!(text.contains("as a compiler prints them"), "the one who reads sees the log");
}

#[test]
fn hundreds_of_idle_agents_cost_little_and_change_nothing() {
    const MANY: u64 = 400;
    let world = World::new("idle");
    let master = world.master();
    let before = master.resident_kib();
    let mut peers = Vec::new();
    for number in 0..MANY {
        let line = sai_master::admin::ask(&world.state(), &["agent", "add", &format!("idle-{number}")]);
        let line = line.expect("its own master").expect("a running master").expect("a join line");
        peers.push(Peer::join(&line, hello(u128::from(number), &["other-idle/x86_64"], 1, &[])));
    }
    let each = master.resident_kib().saturating_sub(before) / MANY;
    eprintln!("{each} KiB of the master for each idle agent");
    assert!(each < 64, "{each} KiB for each idle agent");
    assert_eq!(world.agents().iter().filter(|agent| agent.state == "idle").count() as u64, MANY);
    let _agent = world.agent("one", &[PLATFORM], 1);
    world.repository.push_saifile(&saifile(&["echo done"]));
    let job = world.ended(1).jobs.remove(0);
    assert_eq!((job.state.as_str(), job.agent.as_deref()), ("passed", Some("one")), "{job:?}");
    drop(peers);
    eventually("all are seen to be gone", || {
        world.agents().iter().all(|agent| agent.state == "away" || agent.name == "one").then_some(())
    });
}
