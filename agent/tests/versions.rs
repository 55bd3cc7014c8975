//! Masters of other versions over real TLS → this version's agent: the first release, by what was recorded of it, and one that
//! is not written yet.

mod master;
#[path = "../../tests/src/recorded.rs"]
#[allow(dead_code, reason = "the other side is tried elsewhere")]
mod recorded;
mod wss;

use async_tungstenite::tungstenite::Message;
use master::{Master, Place, assignment, repository};
use miniserde::json::{self, Value};
use recorded::Said;
use sai_agent::link::Frame;
use sai_core::job::{JobKey, Outcome};
use sai_core::join::JoinLine;
use sai_core::record::LATER;
use sai_core::wire::{DataHeader, MasterMessage};
use smol::process::{Child, Command, Stdio};
use smol::stream::StreamExt as _;
use std::collections::BTreeMap;
use wss::{Server, TOKEN, identity, within};

/// What the first release's agent says beside what was recorded.
const ALSO: [&str; 2] = ["offer", "refuse"];

fn agent(server: &Server, place: &Place) -> Child {
    let line = JoinLine::new(server.address(), "shed", TOKEN, Some(identity().1)).expect("a line").to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sai-agent"));
    command.args(["join", &line, "--platform", "linux", "--slots", "3", "--state"]).arg(place.join("state"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("the agent")
}

/// Three jobs: one with a file, one that fails, one that is to be cancelled.
fn jobs(place: &Place, master: &mut Master) {
    let repository = repository(place);
    let mut first = assignment(1, &repository, &["echo building; mkdir out; printf 'made\n' > out/file.txt"]);
    first.artifacts.push("out/*".to_owned());
    master.assign(first);
    master.assign(assignment(2, &repository, &["exit 3"]));
    master.assign(assignment(3, &repository, &["echo long; sleep 1000"]));
}

fn key(job: u64) -> JobKey {
    JobKey { job, attempt: 1 }
}

/// Attends one link, with each message made what the other version would say, until all jobs are done or it is gone.
async fn attend(server: &Server, master: &mut Master, heard: impl Fn(&Frame), say: impl Fn(&str) -> Vec<Message>) {
    let mut websocket = server.accept().await;
    let mut cancelled = false;
    while let Some(Ok(message)) = websocket.next().await {
        let frame = match message {
            Message::Text(text) => Frame::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => Frame::Binary(bytes.into()),
            _ => continue,
        };
        heard(&frame);
        let mut messages = master.take(&frame);
        let printed =
            |master: &Master| master.attempts.get(&key(3)).is_some_and(|attempt| !attempt.log().printed.is_empty());
        if !cancelled && master.done.len() == 2 && printed(master) {
            cancelled = true;
            messages.push(master.cancel(key(3)));
        }
        for message in messages {
            for message in say(&message.encode()) {
                if websocket.send(message).await.is_err() {
                    return;
                }
            }
        }
        if master.done.len() == 3 {
            return;
        }
    }
}

fn outcomes(master: &Master) -> Vec<Outcome> {
    (1..=3).map(|job| master.attempts[&key(job)].log().verdict.expect("a verdict").outcome).collect()
}

#[test]
fn an_agent_works_for_a_master_of_the_first_release() {
    let place = Place::new("versions-first");
    let links = recorded::links();
    let texts = |said: &[Said]| -> Vec<String> {
        let texts = said.iter().filter_map(|said| if let Said::Text(text) = said { Some(text.clone()) } else { None });
        texts.collect()
    };
    let old_agent: Vec<String> = links.iter().flat_map(|link| texts(&link.agent)).collect();
    let old_master: Vec<String> = links.iter().flat_map(|link| texts(&link.master)).collect();
    let shapes: BTreeMap<String, Vec<String>> = old_master.iter().map(|text| recorded::shape(text)).collect();
    let welcome = old_master.iter().find(|text| text.contains("\"welcome\"")).expect("a welcome").clone();
    // It closes the link for what it does not know, and compares the protocol's number.
    let heard = |frame: &Frame| match frame {
        Frame::Text(text) => {
            recorded::check(text, &old_agent, &ALSO);
            assert!(!text.contains("\"hello\"") || text.contains("\"protocol\":1,"), "{text}");
        }
        Frame::Binary(bytes) => {
            DataHeader::decode(bytes).expect("a piece of a stream, the only frame it knows");
        }
    };
    // It says what was recorded, with today's values, and no key more.
    let say = |text: &str| {
        let (name, _) = recorded::shape(text);
        if name == "welcome" {
            return vec![Message::text(welcome.clone())];
        }
        let Ok(Value::Object(mut members)) = json::from_str(text) else { panic!("{text}") };
        let keys = &shapes[&name];
        let more: Vec<String> = members.keys().filter(|key| !keys.contains(key)).cloned().collect();
        more.iter().for_each(|key| drop(members.remove(key)));
        assert_eq!(members.len(), keys.len(), "{text}");
        vec![Message::text(json::to_string(&Value::Object(members)))]
    };
    within(async {
        let server = Server::new().await;
        let mut master = Master::default();
        jobs(&place, &mut master);
        let _agent = agent(&server, &place);
        // The trial of joining, and then the link.
        attend(&server, &mut master, heard, say).await;
        attend(&server, &mut master, heard, say).await;
        assert_eq!(outcomes(&master), [Outcome::Passed, Outcome::Failed, Outcome::Cancelled]);
        assert_eq!(master.attempts[&key(1)].streams[1], b"made\n");
        for attempt in master.attempts.values() {
            // Kinds that it would take for damage.
            let mut log = attempt.streams[0].as_slice();
            while let Some(header) = log.get(..16) {
                let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
                assert!((1..=7).contains(&header[0]) && header[0] < LATER, "a record of kind {}", header[0]);
                log = &log[16 + length..];
            }
        }
    });
}

#[test]
fn an_agent_loses_nothing_with_a_master_of_a_version_that_is_not_written_yet() {
    let place = Place::new("versions-future");
    let say = |text: &str| {
        let mut more = text.to_owned();
        more.replace_range(0..1, r#"{"later":{"t":[1,"}"]},"#);
        if matches!(MasterMessage::decode(text), Ok(MasterMessage::Welcome(_))) {
            more.insert_str(more.len() - 1, r#","boards":["bench-1"]"#);
            more = more.replace("\"can\":null", "\"can\":[\"pass-over\",\"sessions\"]");
        }
        vec![
            Message::text(r#"{"t":"grant","board":"bench-1","number":7}"#),
            Message::text(more),
            Message::binary(vec![9, 1, 2, 3]),
            Message::binary(Vec::new()),
        ]
    };
    within(async {
        let server = Server::new().await;
        let mut master = Master::default();
        jobs(&place, &mut master);
        let _agent = agent(&server, &place);
        attend(&server, &mut master, |_| {}, say).await;
        attend(&server, &mut master, |_| {}, say).await;
        assert_eq!(outcomes(&master), [Outcome::Passed, Outcome::Failed, Outcome::Cancelled]);
        assert_eq!(master.attempts[&key(1)].streams[1], b"made\n");
        assert_eq!(master.hellos.len(), 2, "no link was given up");
    });
}
