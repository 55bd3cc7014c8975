//! Agents of other versions over a real link → this version's master: the first release, as it was recorded, and one that is
//! not written yet.

use sai_core::job::JobKey;
use sai_core::record::{Artifact, ChannelStart, HEADER_BYTES, Record, StepEnd, StepStart, encode};
use sai_core::wire::{DataHeader, MasterMessage};
use sai_tests::peer::Peer;
use sai_tests::process::eventually;
use sai_tests::recorded::{self, Said};
use sai_tests::repository::saifile;
use sai_tests::world::World;

/// The texts of what was said.
fn texts(said: &[Said]) -> Vec<String> {
    let texts = said.iter().filter_map(|said| match said {
        Said::Text(text) => Some(text.clone()),
        Said::Binary(_) => None,
    });
    texts.collect()
}

/// What the master of the first release said at any time.
fn old_master() -> Vec<String> {
    recorded::links().iter().flat_map(|link| texts(&link.master)).collect()
}

/// Sends what was recorded of some jobs.
fn send(peer: &Peer, said: &[Said], jobs: &[u64]) {
    for said in said {
        if let Said::Binary(bytes) = said {
            let (header, _) = DataHeader::decode(bytes).expect("a piece");
            if jobs.contains(&header.key.job) {
                assert!(peer.binary(bytes.clone()), "the master closed the link");
            }
        }
    }
}

/// The next message that is not an acknowledgement, read as the first release would.
fn next(peer: &Peer, old: &[String]) -> MasterMessage {
    loop {
        let text = peer.heard().expect("the master closed the link");
        recorded::check(&text, old, &["bye"]);
        match MasterMessage::decode(&text).expect("a message") {
            MasterMessage::Ack(_) => {}
            message => return message,
        }
    }
}

fn assigned(peer: &Peer, old: &[String], job: u64) {
    loop {
        match next(peer, old) {
            MasterMessage::Assign(assignment) if assignment.key.job == job => return,
            MasterMessage::Forget(_) | MasterMessage::Prefetch(_) | MasterMessage::Assign(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_agent_of_the_first_release_works_as_it_did() {
    let world = World::new("first-release");
    let _master = world.master();
    let ann = world.command(&["user", "add", "ann"]);
    let line = world.join_line("shed");
    let (links, old) = (recorded::links(), old_master());
    let [trial, first, second] = links.as_slice() else { panic!("{} links", links.len()) };
    let greet = |said: &[Said]| {
        let peer = Peer::dial(&line).expect("let in");
        let hello = texts(said).remove(0);
        assert!(peer.text(hello));
        let welcome = peer.heard().unwrap_or_default();
        recorded::check(&welcome, &old, &[]);
        assert!(welcome.contains("\"welcome\",\"protocol\":1,"), "{welcome}");
        peer
    };
    drop(greet(&trial.agent));
    let peer = greet(&first.agent);
    for text in texts(&first.agent).iter().skip(1) {
        peer.text(text.clone());
    }
    world.repository.push_saifile(
        r#"{ "schema": "sai-1", "platforms": { "linux": { "build": "${cmake}" } }, "configurations": {
            "good": { "cmake": "echo building fast", "artifacts": "out/*" }, "bad": { "cmake": "exit 3" },
            "long": { "cmake": "sleep 1000" } } }"#,
    );
    assigned(&peer, &old, 2);
    send(&peer, &first.agent, &[1, 2]);
    assigned(&peer, &old, 3);
    send(&peer, &first.agent, &[3]);
    let state = |job: usize| world.event(1).map(|event| event.jobs[job].state.clone()).unwrap_or_default();
    eventually("two have ended and one runs", || {
        ([state(0), state(1), state(2)] == ["passed", "failed", "running"]).then_some(())
    });
    drop(peer);
    let peer = greet(&second.agent);
    match next(&peer, &old) {
        MasterMessage::Adopt(adopt) => {
            assert_eq!((adopt.key, adopt.lengths), (JobKey { job: 3, attempt: 1 }, vec![234]))
        }
        other => panic!("{other:?}"),
    }
    let (status, text) = world.post("/api/v1/jobs/3/cancel", Some(ann.trim()));
    assert_eq!(status, 200, "{text}");
    assert!(matches!(next(&peer, &old), MasterMessage::Cancel(cancel) if cancel.key.job == 3));
    send(&peer, &second.agent, &[3]);
    assert!(matches!(next(&peer, &old), MasterMessage::Forget(forget) if forget.key.job == 3));
    assert_eq!(state(2), "cancelled");
    let jobs = world.event(1).expect("an event").jobs;
    let files: Vec<_> = jobs[0].artifacts.iter().map(|file| (file.path.as_str(), file.size)).collect();
    assert_eq!(files, [("out/file.txt", 5), ("out/large.bin", 150_000)]);
    assert_eq!(world.get(&jobs[0].artifacts[1].download).expect("its bytes"), vec![b'x'; 150_000]);
    assert_eq!(world.log(1), b"building fast\n");
    assert_eq!(world.records(2).statuses, [3]);
    assert!(peer.text(r#"{"t":"load","load_permille":1,"free_mib":1}"#), "the link stays");
}

/// A record of a kind that only a later version knows.
fn later(kind: u8, payload: &[u8], out: &mut Vec<u8>) {
    let mut header = [0; HEADER_BYTES];
    (header[0], header[1], header[2]) = (kind, 9, 7);
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// A record of a kind that is known, with more in its payload than is.
fn with_more(record: &Record, out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    encode(record, 5, &mut bytes);
    let mut payload = String::from_utf8(bytes.split_off(HEADER_BYTES)).expect("JSON");
    payload.replace_range(0..1, r#"{"later":{"x":[1,"}"]},"#);
    bytes[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(payload.as_bytes());
}

/// The log of a job at a board, as it may be one day.
fn future_log() -> Vec<u8> {
    let mut log = Vec::new();
    later(64, b"clock \xff\0", &mut log);
    with_more(&Record::Channel(1, ChannelStart { name: "serial:main".to_string() }), &mut log);
    with_more(&Record::StepStart(StepStart { step: 0, text: "flash".to_string() }), &mut log);
    later(70, &[7; 60_000], &mut log);
    encode(&Record::Data(1, b"U-Boot\nlo".to_vec()), 6, &mut log);
    later(255, b"", &mut log);
    encode(&Record::Data(1, b"gin:\n".to_vec()), 7, &mut log);
    with_more(&Record::StepEnd(StepEnd { step: 0, status: 0 }), &mut log);
    let sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881".to_string();
    with_more(
        &Record::Artifact(Artifact { stream: 1, path: "trace.vcd".to_string(), size: 1, sha256, executable: false }),
        &mut log,
    );
    later(100, b"{}", &mut log);
    let verdict = br#"{"outcome":"Failed","fault":"Job","cause":"the board says nothing","step":0,"status":null,
        "verdict":{"word":"no-boot","what":"no <identity> was seen"},"case":{"failed":["a"]}}"#;
    log.extend_from_slice(&[7, 0, 0, 0]);
    log.extend_from_slice(&(verdict.len() as u32).to_le_bytes());
    log.extend_from_slice(&[0; 8]);
    log.extend_from_slice(verdict);
    log
}

#[test]
fn an_agent_of_a_version_that_is_not_written_yet_loses_nothing() {
    let world = World::new("future");
    let mut master = world.master();
    let peer = Peer::dial(&world.join_line("bench")).expect("let in");
    let unknown = |count: &mut u64| {
        *count += 2;
        assert!(peer.text(r#"{"t":"rigs","rig":"bench-1","state":"free","grant":7}"#));
        assert!(peer.binary([&[7_u8; 30][..], &[0xff; 1000]].concat()));
    };
    let mut count = 0;
    peer.text(format!(
        r#"{{"t":"hello","protocol":1,"protocol_newest":9,"can":["pass-over","units","a{}"],"version":"9.9.9","identity":"{}","host":"bench","platforms":["linux"],"slots":1,"cores":1,"memory_mib":1,"mirrors":[],"jobs":[],"rigs":[{{"type":"nucleo"}}]}}"#,
        "x".repeat(100),
        "ab".repeat(16)
    ));
    let welcome = peer.heard().expect("a welcome");
    assert!(welcome.contains("\"protocol\":1,") && welcome.contains("\"can\":[\"pass-over\""), "{welcome}");
    unknown(&mut count);
    world.repository.push_saifile(&saifile(&["true"]));
    let key = peer.assignment().key;
    let log = future_log();
    let mut offset = 0;
    for piece in log.chunks(10_000) {
        assert!(peer.piece(key, 0, offset, piece));
        offset += piece.len() as u64;
        unknown(&mut count);
    }
    assert!(peer.piece(key, 1, 0, b"x"));
    let event = world.ended(1);
    assert_eq!((event.jobs[0].state.as_str(), event.jobs[0].attempt), ("failed", 1), "{}", event.jobs[0].cause);
    assert_eq!(event.jobs[0].artifacts.len(), 1);
    unknown(&mut count);
    let metrics = || String::from_utf8(world.get("/metrics").unwrap_or_default()).unwrap_or_default();
    eventually("all of it is counted", || metrics().contains(&format!("sai_passed_over {count}\n")).then_some(()));
    let status = world.command(&["status"]);
    assert!(status.contains(&format!("newer\tbench has said {count} things of kinds")), "{status}");
    // The link has stayed, and so does each byte, also when master and agent are gone and the log is packed.
    assert!(peer.text(r#"{"t":"load","load_permille":1,"free_mib":1,"moon":"full"}"#));
    let whole = || {
        assert_eq!(world.get("/job/1/records").expect("the log"), log);
        assert_eq!(world.log(1), b"U-Boot\nlogin:\n");
        let page = world.page("/job/1");
        assert!(page.contains("no-boot") && page.contains("no &lt;identity&gt; was seen"), "{page}");
        assert!(!page.contains("cannot be read"), "{page}");
        let job = world.page("/api/v1/jobs/1");
        assert!(job.contains(r#""verdict":{"word":"no-boot","what":"no <identity> was seen","board":null}"#), "{job}");
    };
    whole();
    drop(peer);
    master.kill();
    let _master = world.master();
    whole();
}
