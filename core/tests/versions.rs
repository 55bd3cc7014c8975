//! What peers of other versions say against what is made of it: older ones, and ones that are not written yet.

use miniserde::{Deserialize, json};
use sai_core::clock::Now;
use sai_core::hub::{self, Hub, LinkId, Terms};
use sai_core::job::{Fault, JobKey, JobState, Outcome};
use sai_core::ledger::{AgentRecord, JobRecord, Source};
use sai_core::limits::{PROTOCOL, PROTOCOL_NEWEST};
use sai_core::scheduler::Policy;
use sai_core::session::{self, AgentSession, Description};
use sai_core::versions::{self, Can, Span, WORD_BYTES, WORDS, is_worth_telling};
use sai_core::wire::{AgentMessage, Bye, DataHeader, Hello, MasterMessage, Unread};

const LINK: LinkId = 7;

/// What an agent of the first release says, and with what it has a later one say more.
fn greeting(protocol: u32, more: &str) -> String {
    format!(
        r#"{{"t":"hello","protocol":{protocol},"version":"0.1.0","identity":"{}","host":"shed","platforms":["linux"],"slots":1,"cores":1,"memory_mib":1,"mirrors":[],"jobs":[]{more}}}"#,
        "ab".repeat(16)
    )
}

struct Desk(Hub);

impl Desk {
    fn new() -> Self {
        let mut desk = Self(Hub::new(Terms::default(), Policy::default()));
        desk.give(hub::Input::Agent(AgentRecord {
            name: "shed".to_string(),
            token_sha256: "0".repeat(64),
            added_at: 0,
            identity: None,
            seen_at: None,
            revoked: false,
            host: String::new(),
            platforms: Vec::new(),
            grants: None,
            boards: None,
            card: None,
            update: None,
        }));
        desk.give(hub::Input::LinkUp(LINK, "shed".to_string()));
        desk
    }

    fn give(&mut self, input: hub::Input) -> Vec<hub::Output> {
        let mut out = Vec::new();
        self.0.handle(Now { steady: 1, wall: 1 }, input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, hub::Output::Bug(_))), "{out:?}");
        out
    }

    fn hear(&mut self, text: &str) -> Vec<hub::Output> {
        self.give(hub::Input::of_text(LINK, text))
    }

    fn is_up(&self) -> bool {
        self.0.connected().contains_key("shed")
    }
}

fn said(out: &[hub::Output]) -> usize {
    out.iter().filter(|output| matches!(output, hub::Output::Say(_))).count()
}

fn farewell(out: &[hub::Output]) -> Option<&Bye> {
    out.iter().find_map(|output| match output {
        hub::Output::Send(_, MasterMessage::Bye(bye)) => Some(bye),
        _ => None,
    })
}

fn welcomed(out: &[hub::Output]) -> Option<(u32, Option<Vec<String>>)> {
    out.iter().find_map(|output| match output {
        hub::Output::Send(_, MasterMessage::Welcome(welcome)) => Some((welcome.protocol, welcome.can.clone())),
        _ => None,
    })
}

fn session() -> AgentSession {
    AgentSession::new(Description {
        version: "1".to_string(),
        identity: "ab".repeat(16),
        instance: None,
        host: "shed".to_string(),
        platforms: Vec::new(),
        slots: 1,
        cores: 1,
        memory_mib: 1,
        notes: Vec::new(),
        rooted: None,
        boards: Vec::new(),
        card: None,
    })
}

fn take(session: &mut AgentSession, input: session::Input) -> Vec<session::Output> {
    let mut out = Vec::new();
    session.handle(1, input, &mut out);
    out
}

#[test]
fn the_newest_protocol_that_both_speak_is_spoken() {
    let span = |oldest, newest| Span { oldest, newest };
    for (ours, theirs, shared) in [
        (span(1, 1), span(1, 1), Some(1)),
        (span(1, 2), span(1, 1), Some(1)),
        (span(1, 2), span(1, 3), Some(2)),
        (span(2, 4), span(1, 3), Some(3)),
        (span(2, 2), span(1, 1), None),
        (span(1, 1), span(2, 3), None),
        // None at all.
        (span(1, 3), span(3, 2), None),
        (span(1, u32::MAX), span(0, u32::MAX), Some(u32::MAX)),
    ] {
        assert_eq!(ours.shared(theirs), shared, "{ours} {theirs}");
        assert_eq!(theirs.shared(ours), shared, "{ours} {theirs}");
    }
    assert_eq!(Span::of(1, None), span(1, 1));
    assert_eq!(span(1, 1).to_string(), "protocol 1");
    assert_eq!(span(1, 2).to_string(), "protocols 1 to 2");
}

#[test]
fn agents_of_all_versions_that_share_a_protocol_are_welcomed() {
    let newer =
        format!(r#","protocol_newest":{},"can":["pass-over","telepathy"],"mood":{{"is":[1]}}"#, PROTOCOL_NEWEST + 7);
    for (text, protocol, skips) in [
        (greeting(PROTOCOL, ""), PROTOCOL, false),
        (greeting(PROTOCOL, r#","protocol_newest":null,"can":null"#), PROTOCOL, false),
        (greeting(PROTOCOL, &newer), PROTOCOL_NEWEST, true),
    ] {
        let mut desk = Desk::new();
        let out = desk.hear(&text);
        let (welcomed, can) = welcomed(&out).expect("a welcome");
        assert_eq!(welcomed, protocol, "{text}");
        assert!(Can::PassOver.is_in(can.as_deref()), "what this master can do is said");
        assert_eq!(desk.0.connected().get("shed").map(|shed| shed.can(Can::PassOver)), Some(skips));
    }
    for text in [
        greeting(PROTOCOL_NEWEST + 1, ""),
        greeting(PROTOCOL_NEWEST + 1, r#","protocol_newest":99"#),
        greeting(PROTOCOL, r#","protocol_newest":0"#),
    ] {
        let mut desk = Desk::new();
        let out = desk.hear(&text);
        let bye = farewell(&out).expect("a farewell");
        assert!(bye.why.contains("protocol 1") && bye.code.is_none(), "{bye:?}");
        assert!(!desk.is_up());
    }
    // What is malformed stays so.
    for more in [r#","protocol_newest":"2""#, r#","can":"pass-over""#, r#","can":[7]"#] {
        assert!(farewell(&Desk::new().hear(&greeting(PROTOCOL, more))).is_some(), "{more}");
    }
}

#[test]
fn of_what_a_peer_says_that_it_can_only_short_words_are_kept() {
    let long = "x".repeat(WORD_BYTES + 1);
    let words = ["", "pass-over", "Pass", "a b", "\u{1b}[2J", "é", long.as_str(), "x9-"];
    let heard = versions::heard(Some(words.map(ToString::to_string).to_vec()));
    assert_eq!(heard, Some(vec!["pass-over".to_string(), "x9-".to_string()]));
    let many = (0..5_000).map(|number| format!("w{number}")).collect();
    assert_eq!(versions::heard(Some(many)).map(|words| words.len()), Some(WORDS));
    assert_eq!(versions::heard(None), None);
    assert!(!Can::PassOver.is_in(None));
    assert_eq!(versions::heard(Some(versions::told())), Some(versions::told()), "our own words are good ones");
}

#[test]
fn what_is_of_no_known_kind_is_passed_over_and_counted() {
    let mut desk = Desk::new();
    desk.hear(&greeting(PROTOCOL, ""));
    let mut lines = 0;
    for count in 1..=500 {
        let out = match count % 2 {
            0 => desk.hear("{\"t\":\"units\\u001b[2J\",\"board\":\"bench-1\"}"),
            _ => desk.give(hub::Input::of_binary(LINK, &[9, 1, 2])),
        };
        assert!(farewell(&out).is_none() && desk.is_up());
        assert_eq!(desk.0.passed_over("shed"), count);
        lines += said(&out);
        for output in &out {
            if let hub::Output::Say(line) = output {
                assert!(!line.contains('\u{1b}') && line.len() < 200, "{line}");
            }
        }
    }
    assert_eq!(lines, 3, "the first, the tenth and the hundredth are told");
    // It goes on as if nothing had been said.
    desk.hear(r#"{"t":"load","load_permille":5,"free_mib":6}"#);
    assert_eq!(desk.0.connected().get("shed").and_then(|shed| shed.load.as_ref()).map(|load| load.free_mib), Some(6));
    // A new link does not make it told anew.
    desk.give(hub::Input::LinkDown(LINK));
    desk.give(hub::Input::LinkUp(LINK, "shed".to_string()));
    desk.hear(&greeting(PROTOCOL, ""));
    assert_eq!(said(&desk.hear(r#"{"t":"rigs"}"#)), 0);
    // Before its greeting nobody is listened to.
    let mut desk = Desk::new();
    assert!(farewell(&desk.hear(r#"{"t":"rigs"}"#)).is_some());
}

#[test]
fn an_agent_passes_over_what_it_does_not_know_and_keeps_its_link() {
    let mut here = session();
    take(&mut here, session::Input::Connected { mirrors: Vec::new() });
    assert!(!here.master_can(Can::PassOver));
    // Even before the welcome: its master may have more to say than this version knows.
    let said = take(&mut here, session::Input::of_text(r#"{"t":"motd","text":"hi"}"#).expect("no fault"));
    assert!(matches!(&said[..], [session::Output::Say(line)] if line.contains("motd")), "{said:?}");
    let text = format!(r#"{{"t":"welcome","protocol":{PROTOCOL},"version":"9","agent":"shed","can":["pass-over"]}}"#);
    take(&mut here, session::Input::of_text(&text).expect("no fault"));
    assert!(here.is_up() && here.master_can(Can::PassOver));
    for count in 2..=99 {
        let out = take(&mut here, session::Input::of_binary(&[count, 0]));
        assert_eq!(out.len(), usize::from(count == 10), "{out:?}");
        assert!(here.is_up());
    }
    for text in ["", "{}", "[]", r#"{"t":7}"#, r#"{"t":"ack","key":7}"#] {
        assert!(session::Input::of_text(text).is_err(), "{text}");
    }
    take(&mut here, session::Input::Disconnected { jitter_permille: 0 });
    assert!(!here.master_can(Can::PassOver), "the next master may be an older one");
    // A master of the first release.
    take(&mut here, session::Input::Connected { mirrors: Vec::new() });
    let text = r#"{"t":"welcome","protocol":1,"version":"0.1.0","agent":"shed"}"#;
    take(&mut here, session::Input::of_text(text).expect("no fault"));
    assert!(here.is_up() && !here.master_can(Can::PassOver));
}

#[test]
fn a_greeting_is_one_that_masters_of_the_first_release_take() {
    let out = take(&mut session(), session::Input::Connected { mirrors: Vec::new() });
    let [session::Output::Send(message)] = &out[..] else { panic!("{out:?}") };
    let AgentMessage::Hello(Hello { protocol, .. }) = message else { panic!("{message:?}") };
    assert_eq!(*protocol, 1, "they compare this number with theirs, and let no other in");
}

fn read<T: Deserialize>(text: &str) -> T {
    json::from_str(text).unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn words_of_a_later_version_are_kept_as_they_are_and_are_no_success() {
    for (word, state) in
        [("Queued", JobState::Queued), ("TimedOut", JobState::TimedOut), ("Skipped", JobState::Skipped)]
    {
        let quoted = format!("\"{word}\"");
        assert_eq!((read::<JobState>(&quoted), json::to_string(&state)), (state, quoted.clone()));
    }
    let state: JobState = read("\"RolledBack\"");
    assert_eq!((state.word(), state.class(), state.ended()), ("RolledBack", "other", true));
    assert_ne!(state, JobState::Passed);
    for word in ["\"RolledBack\"", "\"x-9\""] {
        assert_eq!(json::to_string(&read::<JobState>(word)), word);
        assert_eq!(json::to_string(&read::<Outcome>(word)), word);
        assert_eq!(json::to_string(&read::<Fault>(word)), word);
        assert_eq!(json::to_string(&read::<Source>(word)), word);
    }
    for text in ["\"\"", "\"a b\"", "\"é\"", "7", "null", "{}", "\"a-word-that-is-far-too-long\""] {
        assert!(json::from_str::<JobState>(text).is_err() && json::from_str::<Fault>(text).is_err(), "{text}");
    }
}

/// The record of a job whose only attempt ended with this verdict.
fn after(verdict: &str) -> JobRecord {
    let mut desk = Desk::new();
    desk.hear(&greeting(PROTOCOL, ""));
    let event = r#"{"id":1,"repository":"alpha","url":"https://forge.example/alpha","reference":"refs/heads/main",
        "revision":"0123456789abcdef0123456789abcdef01234567","subject":"","author":"","source":"Poke","at":0,"errors":[],
        "warnings":[],"first_job":1,"jobs":1}"#;
    let spec = r#"{"platform":"linux","configuration":"default","steps":["make"],"env":{},"artifacts":[],"priority":0,
        "needs":[],"units":{}}"#;
    desk.give(hub::Input::Event(read(event), vec![read(spec)]));
    let key = JobKey { job: 1, attempt: 1 };
    let mut log = vec![64, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 7, 0, 0, 0];
    log.extend_from_slice(&(verdict.len() as u32).to_le_bytes());
    log.extend_from_slice(&[0; 8]);
    log.extend_from_slice(verdict.as_bytes());
    let (length, header) = (log.len() as u64, DataHeader { key, stream: 0, offset: 0 });
    desk.give(hub::Input::Data(LINK, header, log));
    let out = desk.give(hub::Input::Flushed(key, 0, length));
    let record = out.into_iter().find_map(|output| match output {
        hub::Output::Job(record) => Some(record),
        _ => None,
    });
    record.unwrap_or_else(|| panic!("{verdict} ends nothing"))
}

#[test]
fn a_verdict_may_say_more_than_its_outcome() {
    let silent = r#"{"outcome":"Failed","fault":"Job","cause":"step 3 failed","step":2,"status":1,
        "verdict":{"word":"no-boot","what":"nothing but \u001b[2J noise","more":[1]},"judge":"later"}"#;
    let record = after(silent);
    assert_eq!((record.state, record.fault), (JobState::Failed, Fault::Job));
    let finding = record.verdict.and_then(|verdict| verdict.verdict).expect("what was found");
    assert_eq!((finding.word.as_str(), finding.what.as_deref()), ("no-boot", Some("nothing but  [2J noise")));
    let long = "x".repeat(20_000);
    for (finding, kept) in [
        (r#"{"word":"silent"}"#.to_string(), true),
        (r#"{"word":"silent","what":null}"#.to_string(), true),
        (format!(r#"{{"word":"silent","what":"{long}"}}"#), true),
        (format!(r#"{{"word":"{long}"}}"#), false),
        (r#"{"word":"<script>","what":"x"}"#.to_string(), false),
    ] {
        let text = r#"{"outcome":"Failed","fault":"Job","cause":"","step":null,"status":null,"verdict":"#;
        let record = after(&format!("{text}{finding}}}"));
        let found = record.verdict.and_then(|verdict| verdict.verdict);
        assert_eq!(found.is_some(), kept, "{finding}");
        assert!(found.and_then(|found| found.what).is_none_or(|what| what.len() <= 500));
    }
}

#[test]
fn an_attempt_that_ends_in_a_way_only_a_later_version_knows_has_ended_and_has_not_passed() {
    let record = after(r#"{"outcome":"Quarantined","fault":"Board","cause":"x","step":null,"status":null}"#);
    assert_eq!((record.state.word(), record.state.ended()), ("Quarantined", true));
    assert_eq!(json::to_string(&record.fault), "\"Board\"");
    assert!(record.ended_at.is_some() && record.infra == 0, "it is not run again");
}

#[test]
fn unknown_kinds_are_told_from_malformed_ones() {
    let unknown = |text: &str| matches!(AgentMessage::decode(text), Err(Unread::Unknown(_)));
    assert!(unknown(r#"{"t":"rigs"}"#) && unknown(r#"{"t":"","x":1}"#));
    assert!(!unknown(r#"{"T":"units"}"#) && !unknown(r#"{"t":"rigs""#) && !unknown(r#"{"t":"load"}"#));
    let unknown = |frame: &[u8]| matches!(DataHeader::decode(frame), Err(Unread::Unknown(_)));
    assert!(unknown(&[2]) && unknown(&[0; 100]) && unknown(&[255; 100_000]));
    assert!(!unknown(&[]) && !unknown(&[1]) && !unknown(&[1; 40]), "a piece of a stream that is none");
}

#[test]
fn a_count_is_told_when_it_has_a_digit_more() {
    let told: Vec<u64> = (0..=10_001).filter(|count| is_worth_telling(*count)).collect();
    assert_eq!(told, [1, 10, 100, 1_000, 10_000]);
    assert!(!is_worth_telling(u64::MAX));
}
