//! Messages and frame headers against their text and bytes, and frames that are none.

use sai_core::card::Card;
use sai_core::job::{Blame, JobKey, Verdict};
use sai_core::ledger::Needed;
use sai_core::limits::CHUNK_BYTES;
use sai_core::ordered::Map;
use sai_core::record::Artifact;
use sai_core::units::{OfferedBoard, OfferedHealth};
use sai_core::wire::{
    Ack, Adopt, AgentMessage, Assignment, AtBoard, Bye, Cancel, DATA_HEADER_BYTES, DataHeader, Forget, Hello, Load,
    MasterMessage, Offer, Prefetch, Refuse, SessionOf, SessionTold, Unread, Update, Updating, Welcome, Word,
};

const KEY: JobKey = JobKey { job: u64::MAX, attempt: u32::MAX };
const ODD: &str = "\"\\ \u{0}\u{1f}\u{7f} é \u{1F600} </script> {\"t\":\"bye\"}";

fn agent_messages() -> Vec<AgentMessage> {
    vec![
        AgentMessage::Hello(Hello {
            protocol: 1,
            version: ODD.to_string(),
            identity: "0".repeat(32),
            host: ODD.to_string(),
            platforms: vec![ODD.to_string(), String::new()],
            slots: u32::MAX,
            cores: 0,
            memory_mib: u64::MAX,
            mirrors: Vec::new(),
            jobs: vec![KEY, JobKey { job: 1, attempt: 1 }],
            notes: Some(vec![ODD.to_string()]),
            instance: None,
            protocol_newest: None,
            can: None,
            rooted: None,
            boards: Some(vec![OfferedBoard {
                name: ODD.to_string(),
                kind: ODD.to_string(),
                tags: vec![ODD.to_string()],
                boards: Some(vec![ODD.to_string()]),
                health: Some(OfferedHealth { timeout_s: u64::MAX, every_s: Some(0) }),
            }]),
            card: Some(Card {
                model: ODD.to_string(),
                number: u64::MAX,
                left: Some(0),
                lefts: Some(u32::MAX),
                key: Some(ODD.to_string()),
            }),
        }),
        AgentMessage::Updating(Updating {
            number: u64::MAX,
            state: ODD.to_string(),
            have: 0,
            why: Some(ODD.to_string()),
        }),
        AgentMessage::Load(Load { load_permille: 0, free_mib: u64::MAX }),
        AgentMessage::Offer(Offer { platforms: Vec::new(), slots: 0, rooted: None, boards: None }),
        AgentMessage::Refuse(Refuse { key: KEY, why: ODD.to_string(), trouble: Some(ODD.to_string()) }),
    ]
}

fn master_messages() -> Vec<MasterMessage> {
    let text = || ODD.to_string();
    vec![
        MasterMessage::Welcome(Welcome { protocol: 1, version: text(), agent: text(), can: None }),
        MasterMessage::Assign(Assignment {
            key: KEY,
            repository: text(),
            url: text().into(),
            reference: text(),
            revision: text(),
            platform: text(),
            configuration: text(),
            steps: vec![text(), String::new()],
            env: Map::from([(text(), text()), (String::new(), String::new())]),
            artifacts: vec![text()],
            timeout_s: u64::MAX,
            step_timeout_s: Some(0),
            log_bytes: u64::MAX,
            log_limit_fails: true,
            submodules: false,
            needs: Some(vec![Needed {
                job: u64::MAX,
                configuration: text(),
                platform: text(),
                attempt: Some(1),
                artifacts: vec![Artifact { stream: 1, path: text(), size: 0, sha256: text(), executable: true }],
            }]),
            root: None,
            offered: None,
            board: Some(AtBoard {
                name: ODD.to_string(),
                grant: u64::MAX,
                trial: ODD.to_string(),
                others: Some(vec![ODD.to_string()]),
            }),
            session: Some(SessionOf { key: KEY, number: u32::MAX }),
            lease: Some("ann".to_string()),
            health: Some(true),
            bundle: None,
        }),
        MasterMessage::Session(SessionTold { key: KEY, number: 1, job: Some(u64::MAX), over: Some(text()) }),
        MasterMessage::Session(SessionTold { key: KEY, number: 1, job: None, over: None }),
        MasterMessage::Word(Word { key: KEY, writer: text(), number: u64::MAX, said: text() }),
        MasterMessage::Update(Update { number: u64::MAX, sha256: text(), size: u64::MAX }),
        MasterMessage::Adopt(Adopt { key: KEY, lengths: vec![0, u64::MAX] }),
        MasterMessage::Adopt(Adopt { key: KEY, lengths: Vec::new() }),
        MasterMessage::Ack(Ack { key: KEY, stream: u16::MAX, length: u64::MAX }),
        MasterMessage::Cancel(Cancel { key: KEY, why: text() }),
        MasterMessage::Forget(Forget { key: KEY }),
        MasterMessage::Prefetch(Prefetch {
            repository: text(),
            url: text().into(),
            reference: text(),
            revision: text(),
        }),
        MasterMessage::Bye(Bye { why: text(), code: None }),
    ]
}

#[test]
fn messages_come_back_as_they_were() {
    for message in agent_messages() {
        assert_eq!(AgentMessage::decode(&message.encode()), Ok(message));
    }
    for message in master_messages() {
        assert_eq!(MasterMessage::decode(&message.encode()), Ok(message));
    }
}

#[test]
fn messages_are_the_documented_text() {
    let load = AgentMessage::Load(Load { load_permille: 5, free_mib: 6 });
    assert_eq!(load.encode(), r#"{"t":"load","load_permille":5,"free_mib":6}"#);
    let ack = MasterMessage::Ack(Ack { key: JobKey { job: 7, attempt: 2 }, stream: 1, length: 9 });
    assert_eq!(ack.encode(), r#"{"t":"ack","key":{"job":7,"attempt":2},"stream":1,"length":9}"#);
}

#[test]
fn unknown_keys_are_ignored_and_order_does_not_matter() {
    let text = r#" {"free_mib":6, "new":{"x":[1,{}]}, "load_permille":5,"t":"load"} "#;
    assert_eq!(AgentMessage::decode(text), Ok(AgentMessage::Load(Load { load_permille: 5, free_mib: 6 })));
}

#[test]
fn a_field_that_may_be_absent_may_be_absent() {
    let whole = master_messages()[1].encode();
    let text = whole.replace("\"step_timeout_s\":0,", "");
    assert_ne!(whole, text);
    match MasterMessage::decode(&text) {
        Ok(MasterMessage::Assign(assignment)) => assert_eq!(assignment.step_timeout_s, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn texts_that_are_no_message_are_refused() {
    let texts = [
        "",
        "{",
        "null",
        "[]",
        "{}",
        "7",
        "\u{0}",
        r#"{"t":7}"#,
        r#"{"t":"nonsense"}"#,
        r#"{"t":"Load","load_permille":1,"free_mib":1}"#,
        r#"{"t":"load"}"#,
        r#"{"t":"load","load_permille":-1,"free_mib":1}"#,
        r#"{"t":"load","load_permille":4294967296,"free_mib":1}"#,
        r#"{"t":"load","load_permille":"1","free_mib":1}"#,
        r#"{"t":"load","load_permille":1,"free_mib":1} x"#,
        r#"{"t":"refuse","key":{"job":1},"why":""}"#,
        r#"{"t":"refuse","key":"1-1","why":""}"#,
        r#"{"t":"hello","jobs":[{"job":1,"attempt":99999999999}]}"#,
    ];
    for text in texts {
        assert!(AgentMessage::decode(text).is_err(), "{text}");
        assert!(MasterMessage::decode(text).is_err(), "{text}");
    }
    let deep = format!("{{\"t\":\"load\",\"x\":{}", "[".repeat(500_000));
    assert!(AgentMessage::decode(&deep).is_err());
    // Nobody speaks the other's part.
    for message in agent_messages() {
        assert!(matches!(MasterMessage::decode(&message.encode()), Err(Unread::Unknown(_))));
    }
    for message in master_messages() {
        assert!(matches!(AgentMessage::decode(&message.encode()), Err(Unread::Unknown(_))));
    }
}

#[test]
fn a_message_cut_anywhere_is_no_message() {
    for message in agent_messages() {
        let text = message.encode();
        for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert!(AgentMessage::decode(&text[..cut]).is_err(), "{}", &text[..cut]);
        }
    }
}

#[test]
fn a_data_frame_is_the_documented_bytes() {
    let header = DataHeader { key: JobKey { job: 0x0102, attempt: 3 }, stream: 4, offset: 0x0506 };
    let mut frame = header.encode().to_vec();
    assert_eq!(frame, [1, 0, 4, 0, 3, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 6, 5, 0, 0, 0, 0, 0, 0]);
    frame.extend_from_slice(b"content");
    assert_eq!(DataHeader::decode(&frame), Ok((header, &b"content"[..])));
}

#[test]
fn frames_that_are_none_are_refused() {
    let header = DataHeader { key: KEY, stream: 0, offset: 0 };
    let with = |header: &DataHeader, content: &[u8]| [&header.encode()[..], content].concat();
    for length in 0..DATA_HEADER_BYTES {
        assert!(DataHeader::decode(&header.encode()[..length]).is_err());
    }
    assert!(DataHeader::decode(&header.encode()).is_err(), "no content");
    assert!(DataHeader::decode(&with(&header, &vec![0; CHUNK_BYTES])).is_ok());
    assert!(DataHeader::decode(&with(&header, &vec![0; CHUNK_BYTES + 1])).is_err());
    let last = DataHeader { offset: u64::MAX - 1, ..header };
    assert!(DataHeader::decode(&with(&last, b"x")).is_ok());
    assert!(DataHeader::decode(&with(&last, b"xy")).is_err(), "past the end of all streams");
    for (at, value) in [(0, 0), (0, 2), (1, 1)] {
        let mut frame = with(&header, b"x");
        frame[at] = value;
        assert!(DataHeader::decode(&frame).is_err());
    }
}

#[test]
fn whose_trouble_it_is_may_be_unsaid_and_unknown() {
    let old = r#"{"t":"refuse","key":{"job":7,"attempt":2},"why":"no disk"}"#;
    let Ok(AgentMessage::Refuse(refuse)) = AgentMessage::decode(old) else { panic!("an older agent's is refused") };
    assert_eq!(refuse.trouble, None);
    let old = r#"{"outcome":"Infra","fault":"Infrastructure","cause":"no disk","step":null,"status":null}"#;
    assert_eq!(miniserde::json::from_str::<Verdict>(old).map(|verdict| verdict.trouble).ok(), Some(None));
    for blame in [Blame::Agent, Blame::Platform, Blame::Repository] {
        assert_eq!(Blame::of(blame.word().as_deref()), blame);
    }
    for word in [None, Some(""), Some("moon"), Some("Repository")] {
        assert_eq!(Blame::of(word), Blame::Agent);
    }
}
