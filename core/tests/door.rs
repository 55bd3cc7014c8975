//! Links, greetings and what comes by them, against who is let in, and for how long.

use sai_core::clock::Now;
use sai_core::hub::{Hub, Input, LinkId, Output, Terms};
use sai_core::job::JobKey;
use sai_core::ledger::{AgentRecord, EventRecord, Source};
use sai_core::limits::{CHUNK_BYTES, Millis, PROTOCOL, WINDOW_BYTES};
use sai_core::matrix::JobSpec;
use sai_core::offset::{Offset, is_question};
use sai_core::ordered::Map;
use sai_core::record::{self, HEADER_BYTES, Record};
use sai_core::scheduler::Policy;
use sai_core::wire::{AgentMessage, Cancel, Code, DataHeader, Hello, MasterMessage, Pong};

const GCC: &str = "linux-debian-12/x86_64/gcc";
const KEY: JobKey = JobKey { job: 1, attempt: 1 };

/// A hub that knows one agent, and the moment it is.
struct Desk {
    hub: Hub,
    now: Millis,
    links: LinkId,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self { hub: Hub::new(Terms::default(), Policy::default()), now: 5_000, links: 0 };
        desk.give(Input::Agent(AgentRecord {
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
        desk
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.hub.handle(Now { steady: self.now, wall: 77 }, input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        out
    }

    fn link(&mut self) -> LinkId {
        self.links += 1;
        let out = self.give(Input::LinkUp(self.links, "shed".to_string()));
        assert!(told(&out).iter().all(|(link, _)| *link != self.links), "{out:?}");
        self.links
    }

    fn greet(&mut self, link: LinkId, instance: Option<u32>) -> Vec<Output> {
        self.give(Input::Message(link, AgentMessage::Hello(hello(instance))))
    }

    /// Lets time pass, ticking whenever the hub wants to.
    fn pass(&mut self, wait: Millis) -> Vec<Output> {
        let until = self.now + wait;
        let mut out = Vec::new();
        while let Some(due) = self.hub.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            out.extend(self.give(Input::Tick));
        }
        self.now = until;
        out
    }

    fn connected(&self) -> Option<LinkId> {
        self.hub.connected().get("shed").map(|connected| connected.link)
    }

    fn data(&mut self, link: LinkId, stream: u16, offset: u64, length: usize) -> Vec<Output> {
        self.give(Input::Data(link, DataHeader { key: KEY, stream, offset }, vec![0; length]))
    }
}

fn hello(instance: Option<u32>) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: "1".to_string(),
        identity: "ab".repeat(16),
        host: instance.map_or("old".to_string(), |instance| format!("host{instance}")),
        platforms: vec![GCC.to_string()],
        slots: 2,
        cores: 4,
        memory_mib: 1024,
        mirrors: Vec::new(),
        jobs: Vec::new(),
        notes: None,
        instance: instance.map(|instance| format!("{instance:032}")),
        protocol_newest: None,
        can: None,
        rooted: None,
        boards: None,
        card: None,
    }
}

/// What links are told, beside their ends: a word for each message, and the code of a farewell.
fn told(out: &[Output]) -> Vec<(LinkId, String)> {
    let word = |message: &MasterMessage| match message {
        MasterMessage::Welcome(_) => "welcome".to_string(),
        MasterMessage::Ping(_) => "ping".to_string(),
        MasterMessage::Bye(bye) => format!("bye {}", bye.code.clone().unwrap_or_default()),
        MasterMessage::Cancel(Cancel { why, .. }) => format!("cancel {why}"),
        _ => "job".to_string(),
    };
    let sent = out.iter().filter_map(|output| match output {
        Output::Send(_, MasterMessage::Ping(ping)) if is_question(ping.number) => None,
        Output::Send(link, message) => Some((*link, word(message))),
        _ => None,
    });
    sent.collect()
}

fn ping(out: &[Output]) -> u64 {
    let numbers = out.iter().find_map(|output| match output {
        Output::Send(_, MasterMessage::Ping(ping)) if !is_question(ping.number) => Some(ping.number),
        _ => None,
    });
    numbers.expect("a ping")
}

fn pair(link: LinkId, word: &str) -> (LinkId, String) {
    (link, word.to_string())
}

#[test]
fn who_does_not_greet_is_let_go() {
    let mut desk = Desk::new();
    let silent = desk.link();
    assert_eq!(told(&desk.pass(9_999)), []);
    let greeted = desk.link();
    assert_eq!(told(&desk.greet(greeted, Some(1))), [pair(greeted, "welcome")]);
    let out = desk.pass(1);
    assert_eq!(told(&out), [pair(silent, "bye ")]);
    assert!(out.contains(&Output::Close(silent)));
    assert_eq!(told(&desk.pass(1_000_000)), []);
    assert_eq!(desk.connected(), Some(greeted));
    assert_eq!(desk.hub.deadline(), None);
}

#[test]
fn nobody_is_late_by_the_time_in_which_nobody_was_heard() {
    let mut desk = Desk::new();
    let (slow, silent) = (desk.link(), desk.link());
    assert_eq!(told(&desk.pass(9_999)), []);
    desk.give(Input::Missed(60_000));
    assert_eq!(told(&desk.pass(60_000)), []);
    assert_eq!(told(&desk.greet(slow, Some(1))), [pair(slow, "welcome")]);
    assert_eq!(told(&desk.pass(1)), [pair(silent, "bye ")]);
    // The answer of one that is alive lies there, too, and its place is not given to another meanwhile.
    let second = desk.link();
    let number = ping(&desk.greet(second, Some(2)));
    desk.give(Input::Slept(60_000));
    assert_eq!(told(&desk.pass(64_999)), []);
    let answer = Input::Message(slow, AgentMessage::Pong(Pong { number, wall: None }));
    assert_eq!(told(&desk.give(answer)), [pair(second, "bye cloned")]);
    assert_eq!((desk.connected(), desk.hub.deadline()), (Some(slow), None));
}

#[test]
fn a_token_has_few_links_that_do_not_greet_and_keeps_nobody_out_by_them() {
    let mut desk = Desk::new();
    let first = desk.link();
    for _ in 0..7 {
        desk.link();
    }
    // One more, of the agent itself: the oldest of the silent ones makes room.
    desk.links += 1;
    let agent = desk.links;
    let out = desk.give(Input::LinkUp(agent, "shed".to_string()));
    assert_eq!(told(&out), [pair(first, "bye ")]);
    assert_eq!(told(&desk.greet(agent, Some(1))), [pair(agent, "welcome")]);
    // Those that end by themselves count no longer.
    for link in 2..=8 {
        desk.give(Input::LinkDown(link));
    }
    for _ in 0..8 {
        desk.link();
    }
}

#[test]
fn a_second_machine_with_one_identity_is_refused_while_the_first_is_alive() {
    let mut desk = Desk::new();
    let first = desk.link();
    desk.greet(first, Some(1));
    let second = desk.link();
    let out = desk.greet(second, Some(2));
    assert_eq!(told(&out), [pair(first, "ping")]);
    // An answer to something else is none.
    assert_eq!(told(&desk.give(Input::Message(first, AgentMessage::Pong(Pong { number: 99, wall: None })))), []);
    let pong = AgentMessage::Pong(Pong { number: ping(&out), wall: None });
    let out = desk.give(Input::Message(first, pong));
    assert_eq!(told(&out), [pair(second, "bye cloned")]);
    let Some(Output::Send(_, MasterMessage::Bye(bye))) = out.iter().find(|out| matches!(out, Output::Send(..))) else {
        panic!("{out:?}")
    };
    assert_eq!(Code::of(bye.code.as_deref()), Some(Code::Cloned));
    assert!(bye.why.starts_with("two machines use shed's identity, and the other (host1) is at work"), "{}", bye.why);
    assert_eq!(desk.connected(), Some(first));
    let twin = "two machines use shed's identity: another, which calls itself host2, was refused once";
    assert_eq!(desk.hub.twin(desk.now, "shed").as_deref(), Some(twin));
    assert_eq!(told(&desk.pass(14 * 60_000)), []);
    assert!(desk.hub.twin(desk.now, "shed").is_some());
    desk.pass(60_000);
    assert_eq!(desk.hub.twin(desk.now, "shed"), None);
}

#[test]
fn a_machine_whose_old_link_is_dead_takes_its_place() {
    // The same process: at once.
    let mut desk = Desk::new();
    let dead = desk.link();
    desk.greet(dead, Some(1));
    let alive = desk.link();
    assert_eq!(told(&desk.greet(alive, Some(1))), [pair(alive, "welcome")]);
    // Another one of it, after a power cut of which nobody has heard: when the old one does not answer.
    let again = desk.link();
    assert_eq!(told(&desk.greet(again, Some(2))), [pair(alive, "ping")]);
    assert_eq!(told(&desk.pass(4_999)), []);
    let out = desk.pass(1);
    assert_eq!(told(&out), [pair(again, "welcome")]);
    assert!(out.contains(&Output::Close(alive)));
    // Or as soon as the end of the old link is noticed.
    let third = desk.link();
    desk.greet(third, Some(3));
    assert_eq!(told(&desk.give(Input::LinkDown(again))), [pair(third, "welcome")]);
    assert_eq!(desk.hub.twin(desk.now, "shed"), None);
    // Older agents say nothing of themselves by which to tell.
    let old = desk.link();
    assert_eq!(told(&desk.greet(old, None)), [pair(old, "welcome")]);
}

#[test]
fn a_contest_survives_what_its_sides_do_meanwhile() {
    let mut desk = Desk::new();
    let first = desk.link();
    desk.greet(first, Some(1));
    // The newcomer gives up and comes again; a third one comes.
    let second = desk.link();
    let number = ping(&desk.greet(second, Some(2)));
    let again = desk.link();
    let out = desk.greet(again, Some(2));
    assert_eq!(told(&out), []);
    assert!(out.contains(&Output::Close(second)));
    desk.give(Input::LinkDown(second));
    let third = desk.link();
    assert_eq!(told(&desk.greet(third, Some(3))), [pair(third, "bye cloned")]);
    let out = desk.give(Input::Message(first, AgentMessage::Pong(Pong { number, wall: None })));
    assert_eq!(told(&out), [pair(again, "bye cloned")]);
    // The newcomer goes before the answer; nothing is left of it.
    let fourth = desk.link();
    let number = ping(&desk.greet(fourth, Some(4)));
    desk.give(Input::LinkDown(fourth));
    assert_eq!(told(&desk.give(Input::Message(first, AgentMessage::Pong(Pong { number, wall: None })))), []);
    assert_eq!(told(&desk.pass(100_000)), []);
    // Whoever says something before it is let in breaks the rules.
    let fifth = desk.link();
    desk.greet(fifth, Some(5));
    assert_eq!(told(&desk.greet(fifth, Some(5))), [pair(fifth, "bye ")]);
    // A revocation is for all of them.
    let sixth = desk.link();
    desk.greet(sixth, Some(6));
    let out = desk.give(Input::Revoke("shed".to_string()));
    assert_eq!(told(&out), [pair(first, "bye revoked"), pair(sixth, "bye revoked")]);
    assert_eq!((desk.connected(), desk.hub.deadline()), (None, None));
}

#[test]
fn who_has_no_business_here_any_more_is_told_so_in_a_word() {
    let mut desk = Desk::new();
    let first = desk.link();
    desk.greet(first, Some(1));
    let other = desk.link();
    let stranger = Hello { identity: "cd".repeat(16), ..hello(Some(2)) };
    let out = desk.give(Input::Message(other, AgentMessage::Hello(stranger)));
    assert_eq!(told(&out), [pair(other, "bye revoked")]);
    let said = out.iter().any(|output| match output {
        Output::Send(_, MasterMessage::Bye(bye)) => bye.why.contains("belongs to another machine (host1)"),
        _ => false,
    });
    assert!(said, "{out:?}");
    let out = desk.give(Input::Revoke("shed".to_string()));
    assert_eq!(told(&out), [pair(first, "bye revoked")]);
    desk.links += 1;
    let out = desk.give(Input::LinkUp(desk.links, "shed".to_string()));
    assert_eq!(told(&out), [pair(desk.links, "bye revoked")]);
}

/// A desk with a job that is under way, and the link of its agent.
fn running() -> (Desk, LinkId) {
    let mut desk = Desk::new();
    let link = desk.link();
    desk.greet(link, Some(1));
    let spec = JobSpec {
        platform: "linux/x86_64".to_string(),
        configuration: "default".to_string(),
        steps: vec!["make".to_string()],
        env: Map::new(),
        artifacts: vec!["out/*".to_string()],
        timeout_s: None,
        step_timeout_s: None,
        priority: 0,
        root: None,
        needs: Vec::new(),
        units: Map::new(),
        board: None,
        bundle: None,
    };
    let event = EventRecord {
        id: 1,
        repository: "alpha".to_string(),
        url: "https://forge.example/alpha".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: "0123456789abcdef0123456789abcdef01234567".to_string(),
        subject: String::new(),
        author: String::new(),
        source: Source::Poke,
        at: 0,
        errors: Vec::new(),
        warnings: Vec::new(),
        first_job: 1,
        jobs: 1,
    };
    desk.give(Input::Event(event, vec![spec]));
    assert_eq!(desk.hub.scheduler().holder(KEY), Some("shed"));
    (desk, link)
}

#[test]
fn an_agent_that_sends_beyond_its_window_is_let_go() {
    let (mut desk, link) = running();
    // Whole records, as much as an agent may send before it hears of any of it.
    let piece = RECORD as u64;
    let pieces = WINDOW_BYTES / piece;
    let data = |desk: &mut Desk, offset: u64| {
        let mut bytes = Vec::new();
        record::encode(&Record::Note("x".repeat(RECORD - HEADER_BYTES)), 0, &mut bytes);
        desk.give(Input::Data(link, DataHeader { key: KEY, stream: 0, offset }, bytes))
    };
    for index in 0..pieces {
        assert_eq!(told(&data(&mut desk, index * piece)), []);
    }
    // What is flushed makes room for as much again.
    assert_eq!(told(&desk.give(Input::Flushed(KEY, 0, piece))), [pair(link, "job")]);
    assert_eq!(told(&data(&mut desk, pieces * piece)), []);
    let out = data(&mut desk, (pieces + 1) * piece);
    assert_eq!(told(&out), [pair(link, "bye ")]);
    assert!(out.contains(&Output::Close(link)));
    // It may come back, and begins to count anew.
    let again = desk.link();
    let hello = Hello { jobs: vec![KEY], ..hello(Some(1)) };
    assert_eq!(
        told(&desk.give(Input::Message(again, AgentMessage::Hello(hello)))),
        [pair(again, "welcome"), pair(again, "job")]
    );
}

/// Bytes of a record that is kept whole: a power of two, so that a window is a whole number of them.
const RECORD: usize = 4096;

#[test]
fn artifacts_that_no_log_announces_are_not_kept_without_a_bound() {
    let (mut desk, link) = running();
    for index in 0..16_u16 {
        assert_eq!(told(&desk.data(link, 1, u64::from(index) * CHUNK_BYTES as u64, CHUNK_BYTES)), [], "piece {index}");
        desk.give(Input::Flushed(KEY, 1, u64::from(index + 1) * CHUNK_BYTES as u64));
    }
    let out = desk.data(link, 1, 16 * CHUNK_BYTES as u64, 1);
    assert_eq!(told(&out), [pair(link, "bye ")]);
    assert!(!out.iter().any(|output| matches!(output, Output::Append { .. })), "{out:?}");
    // Many small ones are as many files.
    let (mut desk, link) = running();
    for stream in 1..=16 {
        assert_eq!(told(&desk.data(link, stream, 0, 1)), [], "stream {stream}");
    }
    assert_eq!(told(&desk.data(link, 17, 0, 1)), [pair(link, "bye ")]);
}

/// The number by which a clock is asked for.
fn question(out: &[Output]) -> Option<u64> {
    out.iter().find_map(|output| match output {
        Output::Send(_, MasterMessage::Ping(ping)) if is_question(ping.number) => Some(ping.number),
        _ => None,
    })
}

#[test]
fn the_clock_of_an_agent_is_asked_for_when_it_is_heard_and_stands_in_the_records_of_its_jobs() {
    let mut desk = Desk::new();
    let link = desk.link();
    let asked = question(&desk.greet(link, Some(1))).expect("it is asked for");
    let ahead = |desk: &Desk| desk.hub.connected().get("shed").and_then(|connected| connected.clock_ahead(desk.now));
    assert_eq!(ahead(&desk), None);
    desk.now += 6;
    desk.give(pong_of(link, asked, Some(77 + 3 + 2_000)));
    assert_eq!(ahead(&desk), Some(Offset { ahead_ms: 2_000, bound_ms: 4 }));
    // Nobody asks an agent that says nothing.
    let silent = desk.pass(3_600_000);
    assert_eq!(question(&silent), None);
    // An older agent answers without saying what its clock says, or knows no pings.
    let (mut old, link) = (Desk::new(), 1);
    assert_eq!(old.link(), link);
    let number = question(&old.greet(link, Some(1))).expect("it is asked for");
    old.give(pong_of(link, number, None));
    assert_eq!(ahead(&old), None);
    let mut oldest = Desk::new();
    let link = oldest.link();
    assert_eq!(question(&oldest.greet(link, None)), None);

    // Its first question was lost, and one is enough.
    let (mut desk, link) = running();
    desk.now += 30_000;
    let number = question(&desk.data(link, 1, 0, 1)).expect("something has come of it");
    assert_eq!(question(&desk.data(link, 1, 1, 1)), None);
    desk.give(pong_of(link, number, Some(70)));
    let mut bytes = Vec::new();
    record::encode(&Record::Note("it begins".to_string()), 0, &mut bytes);
    let out = desk.give(Input::Data(link, DataHeader { key: KEY, stream: 0, offset: 0 }, bytes));
    let records: Vec<_> =
        out.iter().filter_map(|out| if let Output::Job(job) = out { job.clock } else { None }).collect();
    assert_eq!(records, [Offset { ahead_ms: -7, bound_ms: 1 }], "{out:?}");
}

fn pong_of(link: LinkId, number: u64, wall: Option<u64>) -> Input {
    Input::Message(link, AgentMessage::Pong(Pong { number, wall }))
}
