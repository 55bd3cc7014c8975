//! Inputs of the hub, in order, against what it says to write, send and compare.

use sai_core::clock::Now;
use sai_core::hub::{Hub, Input, LinkId, Obsolete, Output, Rebuild, Terms};
use sai_core::job::{Fault, JobId, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::{AgentRecord, EventRecord, JobRecord, Source};
use sai_core::limits::{Millis, PROTOCOL};
use sai_core::matrix::{BoardSpec, JobSpec};
use sai_core::ordered::Map;
use sai_core::record::{self, Artifact, ChannelStart, Record};
use sai_core::scheduler::Policy;
use sai_core::units::{OfferedBoard, WantedBoard};
use sai_core::versions;
use sai_core::wire::{Ack, Adopt, AgentMessage, AtBoard, DataHeader, Hello, Load, MasterMessage, Offer, Refuse, Units};

const GCC: &str = "linux-debian-12/x86_64/gcc";

fn key(job: JobId, attempt: u32) -> JobKey {
    JobKey { job, attempt }
}

fn identity(of: &str) -> String {
    format!("{:0>32}", of.bytes().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn hello(agent: &str, jobs: &[JobKey]) -> Hello {
    Hello {
        protocol: PROTOCOL,
        version: "1".to_string(),
        identity: identity(agent),
        host: format!("{agent}.example"),
        platforms: vec![GCC.to_string()],
        slots: 2,
        cores: 4,
        memory_mib: 1024,
        mirrors: Vec::new(),
        jobs: jobs.to_vec(),
        notes: None,
        instance: None,
        protocol_newest: None,
        can: None,
        rooted: None,
        boards: None,
        card: None,
    }
}

fn agent_record(name: &str) -> AgentRecord {
    AgentRecord {
        name: name.to_string(),
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
    }
}

fn spec() -> JobSpec {
    JobSpec {
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
    }
}

fn event(jobs: u32) -> EventRecord {
    EventRecord {
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
        jobs,
    }
}

fn passed() -> Verdict {
    Verdict {
        outcome: Outcome::Passed,
        fault: Fault::Nobody,
        cause: String::new(),
        step: None,
        status: None,
        trouble: None,
        verdict: None,
    }
}

fn artifact(stream: u16, size: u64) -> Artifact {
    Artifact { stream, path: format!("out/{stream}"), size, sha256: "a".repeat(64), executable: false }
}

fn log(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        record::encode(record, 1, &mut bytes);
    }
    bytes
}

fn stdout() -> Record {
    Record::Channel(0, ChannelStart { name: "stdout".to_string() })
}

/// A hub and the moment it is. What is only for show is left out of what it says.
struct Desk {
    hub: Hub,
    now: Millis,
    links: LinkId,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self { hub: Hub::new(Terms::default(), Policy::default()), now: 1_000_000, links: 0 };
        for name in ["a", "b"] {
            desk.give(Input::Agent(agent_record(name)));
        }
        desk
    }

    /// What the hub says of an input that cannot be.
    fn wrong(&mut self, input: Input) -> &'static str {
        let mut out = Vec::new();
        self.hub.handle(Now { steady: self.now, wall: self.now }, input, &mut out);
        let [Output::Bug(what)] = out.as_slice() else { panic!("{out:?}") };
        what
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.hub.handle(Now { steady: self.now, wall: self.now }, input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        out.retain(|output| !matches!(output, Output::Touch(_) | Output::Say(_) | Output::Complain(..)));
        out
    }

    fn link(&mut self, agent: &str) -> LinkId {
        self.links += 1;
        self.give(Input::LinkUp(self.links, agent.to_string()));
        self.links
    }

    /// A new link of this agent, greeted.
    fn up(&mut self, agent: &str, holds: &[JobKey]) -> (LinkId, Vec<Output>) {
        let link = self.link(agent);
        let out = self.give(Input::Message(link, AgentMessage::Hello(hello(agent, holds))));
        (link, out)
    }

    fn push(&mut self, jobs: u32) -> Vec<Output> {
        self.give(Input::Event(event(jobs), vec![spec(); jobs as usize]))
    }

    fn data(&mut self, link: LinkId, key: JobKey, stream: u16, offset: u64, bytes: &[u8]) -> Vec<Output> {
        self.give(Input::Data(link, DataHeader { key, stream, offset }, bytes.to_vec()))
    }
}

fn sent(out: &[Output]) -> Vec<(LinkId, MasterMessage)> {
    out.iter()
        .filter_map(|output| match output {
            Output::Send(link, message) => Some((*link, message.clone())),
            _ => None,
        })
        .collect()
}

fn records(out: &[Output]) -> Vec<JobRecord> {
    out.iter()
        .filter_map(|output| match output {
            Output::Job(record) => Some(record.clone()),
            _ => None,
        })
        .collect()
}

/// The names of messages, for tests that are about nothing else of them.
fn words(out: &[Output]) -> Vec<&'static str> {
    out.iter()
        .map(|output| match output {
            Output::Event(_) => "event",
            Output::Job(_) => "job",
            Output::Agent(_) => "agent",
            Output::Send(_, MasterMessage::Welcome(_)) => "welcome",
            Output::Send(_, MasterMessage::Assign(_)) => "assign",
            Output::Send(_, MasterMessage::Adopt(_)) => "adopt",
            Output::Send(_, MasterMessage::Ack(_)) => "ack",
            Output::Send(_, MasterMessage::Cancel(_)) => "cancel",
            Output::Send(_, MasterMessage::Forget(_)) => "forget",
            Output::Send(_, MasterMessage::Prefetch(_)) => "prefetch",
            Output::Send(_, MasterMessage::Ping(_)) => "ping",
            Output::Send(_, MasterMessage::Session(_)) => "session",
            Output::Send(_, MasterMessage::Word(_)) => "word",
            Output::Send(_, MasterMessage::Update(_)) => "update",
            Output::Begin(..) => "begin",
            Output::Check(..) => "check",
            Output::Send(_, MasterMessage::Bye(_)) => "bye",
            Output::Close(_) => "close",
            Output::Append { .. } => "append",
            Output::Flush(_) => "flush",
            Output::Seal(..) => "seal",
            Output::Finish(_) => "finish",
            Output::Touch(_) | Output::Say(_) | Output::Complain(..) => "shown",
            Output::Bug(_) => "bug",
        })
        .collect()
}

#[test]
fn who_claims_anothers_attempt_does_not_end_it() {
    let mut desk = Desk::new();
    let (a, _) = desk.up("a", &[]);
    desk.push(1);
    desk.data(a, key(1, 1), 0, 0, &log(&[stdout()]));
    let (b, out) = desk.up("b", &[key(1, 1)]);
    assert_eq!(words(&out), ["agent", "welcome", "forget"]);
    assert_eq!(sent(&out)[1].0, b);
    // The log goes on at the agent that has the job.
    let rest = log(&[Record::Verdict(passed())]);
    let offset = desk.hub.log_length(key(1, 1)).expect("the attempt is still taken in");
    let out = desk.data(a, key(1, 1), 0, offset, &rest);
    assert_eq!(words(&out), ["append", "flush"]);
    let out = desk.give(Input::Flushed(key(1, 1), 0, offset + rest.len() as u64));
    assert_eq!(words(&out), ["ack", "finish", "forget", "job"]);
    assert_eq!(records(&out)[0].state, JobState::Passed);
}

#[test]
fn who_claims_what_another_is_awaited_with_takes_nothing_of_it() {
    let (mut desk, a, front) = running();
    flushed(&mut desk, 0, front.len());
    desk.give(Input::LinkDown(a));
    desk.now += Policy::default().orphan_ms;
    let out = desk.give(Input::Tick);
    assert_eq!((records(&out)[0].state, records(&out)[0].awaited), (JobState::Queued, Some(true)));
    // It offers nothing that the job wants.
    let link = desk.link("b");
    let greeting = Hello { platforms: Vec::new(), ..hello("b", &[key(1, 1)]) };
    let out = desk.give(Input::Message(link, AgentMessage::Hello(greeting)));
    assert_eq!(words(&out), ["agent", "welcome", "forget"]);
    let (back, out) = desk.up("a", &[key(1, 1)]);
    let adopt = MasterMessage::Adopt(Adopt { key: key(1, 1), lengths: vec![front.len() as u64] });
    assert!(sent(&out).contains(&(back, adopt)), "what it left here is still taken for its: {out:?}");
}

#[test]
fn a_dismissed_link_is_over_at_once() {
    let mut desk = Desk::new();
    let (a, _) = desk.up("a", &[]);
    let out = desk.push(1);
    assert_eq!(words(&out), ["event", "job", "job", "assign"]);
    let out = desk.data(a, key(1, 1), 0, 7, b"beyond a gap");
    assert_eq!(words(&out), ["bye", "close", "agent"]);
    // What is still under way on it means nothing, and no job is given to it.
    assert_eq!(words(&desk.data(a, key(1, 1), 0, 9, b"beyond a gap")), [""; 0]);
    assert_eq!(words(&desk.give(Input::Malformed(a, "noise".to_string()))), [""; 0]);
    let more = EventRecord { id: 2, first_job: 2, ..event(1) };
    assert_eq!(words(&desk.give(Input::Event(more, vec![spec()]))), ["event", "job"]);
    assert_eq!(words(&desk.give(Input::LinkDown(a))), [""; 0]);
    // It comes back and goes on.
    let (_, out) = desk.up("a", &[key(1, 1)]);
    assert_eq!(words(&out), ["agent", "welcome", "adopt", "job", "assign"]);
}

#[test]
fn a_revoked_agent_ends_what_it_runs_and_stays_out() {
    let mut desk = Desk::new();
    let (a, _) = desk.up("a", &[]);
    let late = desk.link("a");
    desk.push(1);
    let out = desk.give(Input::Revoke("a".to_string()));
    assert_eq!(words(&out), ["agent", "finish", "forget", "job", "bye", "close", "agent", "bye", "close"]);
    assert_eq!(out.iter().find(|output| matches!(output, Output::Close(_))), Some(&Output::Close(a)));
    assert!(matches!(&out[0], Output::Agent(record) if record.revoked));
    assert_eq!((records(&out)[0].state, records(&out)[0].attempt), (JobState::Queued, 1));
    // A link that was up before it greeted is gone too, and one whose token was read just before is let go.
    assert_eq!(words(&desk.give(Input::Message(late, AgentMessage::Hello(hello("a", &[]))))), [""; 0]);
    desk.links += 1;
    let out = desk.give(Input::LinkUp(desk.links, "a".to_string()));
    assert_eq!(words(&out), ["bye", "close"]);
    assert_eq!(words(&desk.give(Input::Message(desk.links, AgentMessage::Hello(hello("a", &[]))))), [""; 0]);
    let out = desk.give(Input::LinkUp(99, "nobody".to_string()));
    assert_eq!(words(&out), ["bye", "close"]);
}

#[test]
fn a_greeting_that_was_overtaken_ends_nothing() {
    let mut desk = Desk::new();
    let old = desk.link("a");
    let (new, _) = desk.up("a", &[]);
    desk.push(1);
    desk.data(new, key(1, 1), 0, 0, &log(&[stdout()]));
    let out = desk.give(Input::Message(old, AgentMessage::Hello(hello("a", &[]))));
    assert_eq!(words(&out), ["bye", "close"]);
    assert_eq!(out.last(), Some(&Output::Close(old)));
    assert_eq!(desk.hub.scheduler().holder(key(1, 1)), Some("a"));
    assert_eq!(desk.hub.connected().get("a").unwrap().link, new);
}

#[test]
fn an_agent_that_reconnects_takes_the_place_of_its_old_link() {
    let mut desk = Desk::new();
    let (old, _) = desk.up("a", &[]);
    desk.push(1);
    let (new, out) = desk.up("a", &[key(1, 1)]);
    assert_eq!(words(&out), ["agent", "close", "welcome", "adopt"]);
    assert_eq!(out[1], Output::Close(old));
    // The old link's last words and its end mean nothing any more.
    assert_eq!(words(&desk.data(old, key(1, 1), 0, 0, &log(&[stdout()]))), [""; 0]);
    assert_eq!(words(&desk.give(Input::LinkDown(old))), [""; 0]);
    assert_eq!(desk.hub.connected().get("a").unwrap().link, new);
}

#[test]
fn a_job_whose_saifile_no_longer_has_it_ends_at_once() {
    let mut desk = Desk::new();
    let queued = JobRecord { state: JobState::Queued, attempt: 0, ..first_record() };
    let missing = JobRecord { id: 2, ..queued.clone() };
    desk.give(Input::Restore(event(2), vec![spec()], vec![queued, missing]));
    let (_, out) = desk.up("a", &[]);
    let ended: Vec<_> = records(&out).into_iter().filter(|record| record.state == JobState::Infra).collect();
    assert_eq!(ended.iter().map(|record| record.id).collect::<Vec<_>>(), [2]);
    assert!(ended[0].cause.contains("no such job"), "{}", ended[0].cause);
    let assigned = sent(&out).into_iter().filter(|(_, message)| matches!(message, MasterMessage::Assign(_))).count();
    assert_eq!(assigned, 1);
    assert_eq!(desk.hub.scheduler().runs("a").collect::<Vec<_>>(), [key(1, 1)]);
}

#[test]
fn lengths_of_an_attempt_that_was_not_restored_are_not_kept() {
    let mut desk = Desk::new();
    let lengths = Input::Resume(key(7, 1), vec![10]);
    assert_eq!(desk.wrong(lengths), "resume: nothing of this attempt may grow");
    assert_eq!(desk.hub.log_length(key(7, 1)), None);
}

/// The record of the first job of a push, given to an agent.
fn first_record() -> JobRecord {
    let mut desk = Desk::new();
    desk.up("a", &[]);
    let out = desk.push(1);
    records(&out).pop().expect("a record")
}

#[test]
fn what_an_agent_says_of_itself_is_bounded() {
    let mut desk = Desk::new();
    let link = desk.link("a");
    let long = "é".repeat(100_000);
    let greeting = Hello {
        host: long.clone(),
        version: long.clone(),
        slots: u32::MAX,
        platforms: vec!["../../etc".to_string(), "-o".to_string(), GCC.to_string()],
        mirrors: vec!["x".to_string(); 100_000],
        ..hello("a", &[])
    };
    desk.give(Input::Message(link, AgentMessage::Hello(greeting)));
    let said = &desk.hub.connected().get("a").unwrap().hello;
    let kept = (said.host.chars().count(), said.version.chars().count(), said.slots, said.mirrors.len());
    assert_eq!(kept, (500, 500, 256, 4096));
    assert_eq!(said.platforms, [GCC]);
    let offer =
        Offer { platforms: vec![GCC.to_string(), "a b".to_string()], slots: u32::MAX, rooted: None, boards: None };
    desk.give(Input::Message(link, AgentMessage::Offer(offer)));
    let said = &desk.hub.connected().get("a").unwrap().hello;
    assert_eq!((said.platforms.len(), said.slots), (1, 256));
    desk.push(1);
    let refuse = AgentMessage::Refuse(Refuse { key: key(1, 1), why: long.clone(), trouble: None });
    let out = desk.give(Input::Message(link, refuse));
    assert!(records(&out).iter().all(|record| record.cause.len() < 1100));
    for identity in ["", "é", "xyz", &long] {
        let link = desk.link("b");
        let greeting = Hello { identity: identity.to_string(), ..hello("b", &[]) };
        assert_eq!(words(&desk.give(Input::Message(link, AgentMessage::Hello(greeting)))), ["bye", "close"]);
    }
}

/// A push of one job, given to agent `a`, whose log has begun.
fn running() -> (Desk, LinkId, Vec<u8>) {
    let mut desk = Desk::new();
    let (a, _) = desk.up("a", &[]);
    desk.push(1);
    let front = log(&[stdout()]);
    let out = desk.data(a, key(1, 1), 0, 0, &front);
    assert_eq!(words(&out), ["append", "job"]);
    (desk, a, front)
}

fn flushed(desk: &mut Desk, stream: u16, length: usize) -> Vec<Output> {
    desk.give(Input::Flushed(key(1, 1), stream, length as u64))
}

#[test]
fn a_push_becomes_records_before_its_assignment() {
    let mut desk = Desk::new();
    let (a, out) = desk.up("a", &[]);
    assert_eq!(words(&out), ["agent", "welcome"]);
    let out = desk.push(1);
    assert_eq!(words(&out), ["event", "job", "job", "assign"]);
    let MasterMessage::Assign(assignment) = &sent(&out)[0].1 else { panic!("{out:?}") };
    assert_eq!(sent(&out)[0].0, a);
    assert_eq!((assignment.key, assignment.url.reveal()), (key(1, 1), "https://forge.example/alpha"));
    assert_eq!((assignment.steps.as_slice(), assignment.timeout_s), (&["make".to_string()][..], 3600));
    assert_eq!((records(&out)[1].state, records(&out)[1].attempt), (JobState::Assigned, 1));
}

#[test]
fn an_ack_names_flushed_bytes_only() {
    let (mut desk, a, front) = running();
    let ack = |length| (a, MasterMessage::Ack(Ack { key: key(1, 1), stream: 0, length }));
    assert_eq!(sent(&flushed(&mut desk, 0, 5)), [ack(5)]);
    assert_eq!(sent(&flushed(&mut desk, 0, 5)), []);
    // Bytes that come a second time are not appended; what is durable of them is said again.
    assert_eq!(desk.data(a, key(1, 1), 0, 0, &front), [Output::Send(a, ack(5).1)]);
    assert_eq!(sent(&flushed(&mut desk, 0, front.len())), [ack(front.len() as u64)]);
    assert_eq!(desk.give(Input::Flushed(key(9, 1), 0, 5)), []);
}

#[test]
fn pieces_that_overlap_are_appended_from_the_end_on() {
    let (mut desk, a, front) = running();
    let whole = log(&[stdout(), Record::Data(0, b"hello".to_vec())]);
    let out = desk.data(a, key(1, 1), 0, 3, &whole[3..]);
    let Output::Append { offset, bytes, .. } = &out[0] else { panic!("{out:?}") };
    assert_eq!((*offset, bytes.as_slice()), (front.len() as u64, &whole[front.len()..]));
}

#[test]
fn an_agent_that_comes_back_is_told_what_is_durable() {
    let (mut desk, a, _) = running();
    flushed(&mut desk, 0, 7);
    desk.data(a, key(1, 1), 2, 0, b"early artifact");
    desk.give(Input::LinkDown(a));
    let (back, out) = desk.up("a", &[key(1, 1), key(8, 1)]);
    let adopt = MasterMessage::Adopt(Adopt { key: key(1, 1), lengths: vec![7, 0, 0] });
    assert!(sent(&out).contains(&(back, adopt)), "{out:?}");
    assert_eq!(words(&out), ["agent", "welcome", "adopt", "forget"]);
}

#[test]
fn a_verdict_waits_for_every_artifact() {
    let (mut desk, a, front) = running();
    let verdict = Verdict { cause: "x".repeat(9000), ..passed() };
    let rest = log(&[
        Record::Artifact(artifact(1, 3)),
        Record::Artifact(artifact(2, 0)),
        Record::Artifact(Artifact { path: "out/1".to_string(), ..artifact(3, 1) }),
        Record::Verdict(verdict),
    ]);
    let end = front.len() + rest.len();
    // An empty artifact is complete as soon as it is announced.
    let out = desk.data(a, key(1, 1), 0, front.len() as u64, &rest);
    assert_eq!(words(&out), ["append", "flush", "seal"]);
    assert_eq!(words(&desk.data(a, key(1, 1), 1, 0, b"abc")), ["append"]);
    assert_eq!(words(&flushed(&mut desk, 1, 2)), ["ack"]);
    assert_eq!(words(&flushed(&mut desk, 1, 3)), ["ack", "seal"]);
    assert_eq!(words(&flushed(&mut desk, 0, end)), ["ack"]);
    assert_eq!(words(&flushed(&mut desk, 2, 0)), [""; 0], "the name of an empty file is durable");
    assert_eq!(words(&desk.give(Input::Sealed(key(1, 1), 2, true))), [""; 0]);
    assert_eq!(words(&desk.give(Input::Sealed(key(1, 1), 1, true))), [""; 0]);
    assert_eq!(desk.wrong(Input::Sealed(key(1, 1), 9, true)), "sealed: a stream that was not announced");
    assert_eq!(desk.wrong(Input::Flushed(key(1, 1), 9, 1)), "flushed: a stream of which nothing was appended");
    // Of what is not taken any more the disk may still tell.
    assert_eq!(words(&desk.give(Input::Sealed(key(7, 1), 9, true))), [""; 0]);
    desk.data(a, key(1, 1), 3, 0, b"z");
    assert_eq!(words(&flushed(&mut desk, 3, 1)), ["ack", "seal"]);
    let out = desk.give(Input::Sealed(key(1, 1), 3, true));
    assert_eq!(words(&out), ["finish", "forget", "job"]);
    let record = records(&out).remove(0);
    assert_eq!((record.state, record.log_bytes), (JobState::Passed, end as u64));
    // Of two files with one path the later one counts; a long cause is cut.
    assert_eq!(record.artifacts.iter().map(|artifact| artifact.stream).collect::<Vec<_>>(), [2, 3]);
    assert!(record.cause.len() <= 1024);
    assert_eq!(desk.hub.scheduler().jobs().count(), 0);
    assert_eq!(desk.data(a, key(1, 1), 0, end as u64, b"more"), []);
}

#[test]
fn artifact_bytes_may_come_before_they_are_announced() {
    let (mut desk, a, front) = running();
    assert_eq!(words(&desk.data(a, key(1, 1), 1, 0, b"abc")), ["append"]);
    assert_eq!(words(&flushed(&mut desk, 1, 3)), ["ack"]);
    let rest = log(&[Record::Artifact(artifact(1, 3))]);
    assert_eq!(words(&desk.data(a, key(1, 1), 0, front.len() as u64, &rest)), ["append", "seal"]);
}

#[test]
fn an_artifact_that_is_too_long_or_wrong_ends_the_attempt() {
    let ends = |out: &[Output]| {
        let record = records(out).pop().expect("a record");
        assert_eq!((record.state, record.infra), (JobState::Queued, 1));
        assert_eq!(words(out), ["finish", "forget", "job"]);
        record.cause
    };
    let announce = |desk: &mut Desk, a, front: &[u8]| {
        let rest = log(&[Record::Artifact(artifact(1, 3))]);
        desk.data(a, key(1, 1), 0, front.len() as u64, &rest)
    };
    // More than announced.
    let (mut desk, a, front) = running();
    announce(&mut desk, a, &front);
    let cause = ends(&desk.data(a, key(1, 1), 1, 0, b"abcd"));
    assert_eq!(cause, "stream 1 is longer than the 3 bytes it may have");
    // More than announced, before it was.
    let (mut desk, a, front) = running();
    desk.data(a, key(1, 1), 1, 0, b"abcd");
    let out = announce(&mut desk, a, &front);
    assert!(ends(&out[1..]).contains("more bytes than it may"));
    // Other bytes than announced.
    let (mut desk, a, front) = running();
    announce(&mut desk, a, &front);
    desk.data(a, key(1, 1), 1, 0, b"abc");
    flushed(&mut desk, 1, 3);
    assert!(ends(&desk.give(Input::Sealed(key(1, 1), 1, false))).contains("digest"));
    // An absurd size.
    let (mut desk, a, front) = running();
    let rest = log(&[Record::Artifact(artifact(1, u64::MAX))]);
    let out = desk.data(a, key(1, 1), 0, front.len() as u64, &rest);
    ends(&out[1..]);
}

#[test]
fn a_log_that_is_none_ends_the_attempt_not_the_link() {
    let (mut desk, a, front) = running();
    let out = desk.data(a, key(1, 1), 0, front.len() as u64, &[0; 100]);
    assert_eq!(words(&out), ["append", "finish", "forget", "job"]);
    assert!(records(&out)[0].cause.contains("malformed log"));
    assert!(desk.hub.connected().contains_key("a"));
    // A verdict with something behind it is no verdict.
    let (mut desk, a, front) = running();
    let mut rest = log(&[Record::Verdict(passed())]);
    rest.extend(log(&[stdout()]));
    let out = desk.data(a, key(1, 1), 0, front.len() as u64, &rest);
    assert_eq!(records(&out)[0].state, JobState::Queued);
}

#[test]
fn a_log_longer_than_allowed_ends_the_attempt() {
    let terms = Terms { log_bytes: 0, ..Terms::default() };
    let mut desk = Desk { hub: Hub::new(terms, Policy::default()), ..Desk::new() };
    desk.give(Input::Agent(agent_record("a")));
    let (a, _) = desk.up("a", &[]);
    desk.push(1);
    let record = log(&[stdout(), Record::Data(0, vec![b'x'; 60_000])]);
    let mut offset = 0;
    loop {
        let bytes = if offset == 0 { &record[..] } else { &record[log(&[stdout()]).len()..] };
        let out = desk.data(a, key(1, 1), 0, offset, bytes);
        offset += bytes.len() as u64;
        if !words(&out).contains(&"append") {
            assert_eq!(records(&out)[0].state, JobState::Queued);
            break;
        }
        assert!(offset < 9 << 20, "Sai's own records have 8 MiB");
        desk.give(Input::Flushed(key(1, 1), 0, offset));
    }
    assert!(offset > 8 << 20);
}

#[test]
fn who_was_not_given_a_job_cannot_speak_for_it() {
    let (mut desk, _, front) = running();
    let (b, _) = desk.up("b", &[]);
    let lie = log(&[Record::Verdict(passed())]);
    assert_eq!(desk.data(b, key(1, 1), 0, front.len() as u64, &lie), []);
    assert_eq!(desk.data(b, key(1, 1), 0, 999, &lie), []);
    assert_eq!(desk.data(b, key(1, 2), 0, 0, &lie), []);
    assert_eq!(desk.data(b, key(77, 1), 0, 0, &lie), []);
    let refuse = AgentMessage::Refuse(Refuse { key: key(1, 1), why: "no".to_string(), trouble: None });
    assert_eq!(desk.give(Input::Message(b, refuse)), []);
    assert_eq!(desk.hub.log_length(key(1, 1)), Some(front.len() as u64));
    // Nor can a link that has not greeted.
    let c = desk.link("a");
    assert_eq!(desk.data(c, key(1, 1), 0, front.len() as u64, &lie), []);
}

#[test]
fn frames_out_of_bounds_close_the_link() {
    let (mut desk, a, _) = running();
    assert_eq!(words(&desk.data(a, key(1, 1), 1024, 0, b"x")), ["bye", "close", "agent"]);
    let (mut desk, a, _) = running();
    assert_eq!(words(&desk.data(a, key(1, 1), 0, 1 << 20, b"x")), ["bye", "close", "agent"]);
    let (mut desk, a, _) = running();
    let out = desk.data(a, key(1, 1), 0, u64::MAX, b"x");
    assert_eq!(records(&out)[0].state, JobState::Queued);
}

#[test]
fn greetings_out_of_turn_or_of_another_machine_close_the_link() {
    let mut desk = Desk::new();
    let (a, _) = desk.up("a", &[]);
    let out = desk.give(Input::Message(a, AgentMessage::Hello(hello("a", &[]))));
    assert_eq!(words(&out), ["bye", "close", "agent"]);
    let link = desk.link("a");
    let load = AgentMessage::Load(Load { load_permille: 1, free_mib: 1 });
    assert_eq!(words(&desk.give(Input::Message(link, load.clone()))), ["bye", "close"]);
    let link = desk.link("a");
    let other = Hello { identity: identity("z"), ..hello("a", &[]) };
    assert_eq!(words(&desk.give(Input::Message(link, AgentMessage::Hello(other)))), ["bye", "close"]);
    let link = desk.link("a");
    let other = Hello { protocol: PROTOCOL + 1, ..hello("a", &[]) };
    assert_eq!(words(&desk.give(Input::Message(link, AgentMessage::Hello(other)))), ["bye", "close"]);
    assert_eq!(desk.give(Input::Message(99, load)), []);
    let (_, out) = desk.up("a", &[]);
    assert_eq!(words(&out), ["agent", "welcome"]);
}

/// What a ledger would hold after these outputs, and a hub made from it.
fn restarted(jobs: &[JobRecord], lengths: &[u64], log: &[u8], pieces: usize) -> (Desk, Vec<Output>) {
    let mut desk = Desk::new();
    desk.give(Input::Restore(event(1), vec![spec()], jobs.to_vec()));
    let mut out = desk.give(Input::Resume(key(1, 1), lengths.to_vec()));
    for piece in log.chunks(pieces) {
        out.extend(desk.give(Input::Replay(key(1, 1), piece.to_vec())));
    }
    (desk, out)
}

#[test]
fn a_restarted_master_goes_on_in_the_middle_of_a_record() {
    let record = first_record();
    let whole = log(&[stdout(), Record::Data(0, b"hello".to_vec()), Record::Verdict(passed())]);
    for cut in 0..whole.len() {
        let (mut desk, _) = restarted(std::slice::from_ref(&record), &[cut as u64], &whole[..cut], 7);
        let (a, out) = desk.up("a", &[key(1, 1)]);
        let adopt = MasterMessage::Adopt(Adopt { key: key(1, 1), lengths: vec![cut as u64] });
        assert!(sent(&out).contains(&(a, adopt)), "{out:?}");
        desk.data(a, key(1, 1), 0, cut as u64, &whole[cut..]);
        let out = flushed(&mut desk, 0, whole.len());
        assert_eq!(words(&out), ["ack", "finish", "forget", "job"], "cut at {cut}");
    }
}

#[test]
fn a_restarted_master_ends_what_was_complete() {
    let record = first_record();
    let whole = log(&[stdout(), Record::Verdict(passed())]);
    for pieces in [1, 5, 1000] {
        let (mut desk, out) = restarted(std::slice::from_ref(&record), &[whole.len() as u64], &whole, pieces);
        assert_eq!(words(&out).last(), Some(&"job"));
        assert_eq!(records(&out).last().map(|record| record.state), Some(JobState::Passed));
        // Its agent still has it, and is told to forget it.
        let (_, out) = desk.up("a", &[key(1, 1)]);
        assert_eq!(words(&out), ["agent", "welcome", "forget"]);
    }
}

#[test]
fn a_restarted_master_compares_again_what_it_had_not_heard_of() {
    let record = first_record();
    let whole = log(&[stdout(), Record::Artifact(artifact(1, 3)), Record::Verdict(passed())]);
    let (mut desk, out) = restarted(&[record], &[whole.len() as u64, 3], &whole, 1000);
    assert_eq!(words(&out), ["flush", "job", "seal"]);
    let out = desk.give(Input::Sealed(key(1, 1), 1, true));
    assert_eq!(words(&out), ["finish", "job"]);
    assert_eq!(records(&out)[0].state, JobState::Passed);
}

#[test]
fn forget_that_was_lost_with_a_link_is_said_again() {
    let (mut desk, a, front) = running();
    let rest = log(&[Record::Verdict(passed())]);
    desk.data(a, key(1, 1), 0, front.len() as u64, &rest);
    let out = flushed(&mut desk, 0, front.len() + rest.len());
    assert!(words(&out).contains(&"forget"));
    for _ in 0..2 {
        desk.give(Input::LinkDown(desk.links));
        let (_, out) = desk.up("a", &[key(1, 1)]);
        assert_eq!(words(&out), ["agent", "welcome", "forget"]);
    }
}

#[test]
fn what_a_ref_was_before_is_cancelled_and_nothing_else() {
    let mut desk = Desk::new();
    let (_, _) = desk.up("a", &[]);
    let pushed = |id: u64, repository: &str, reference: &str, source: Source| EventRecord {
        id,
        repository: repository.to_string(),
        reference: reference.to_string(),
        source,
        first_job: id * 10,
        ..event(2)
    };
    for event in [
        pushed(1, "alpha", "refs/heads/main", Source::Hook),
        pushed(2, "alpha", "refs/heads/other", Source::Poke),
        pushed(3, "beta", "refs/heads/main", Source::Poke),
        pushed(4, "alpha", "refs/heads/main", Source::Try),
        pushed(5, "alpha", "refs/heads/main", Source::Poll),
        pushed(6, "alpha", "refs/heads/main", Source::Start),
    ] {
        desk.give(Input::Event(event, vec![spec(); 2]));
    }
    let of = |reference: &str, before| {
        Input::Obsolete(Obsolete {
            repository: "alpha".to_string(),
            reference: reference.to_string(),
            before,
            but: Vec::new(),
            why: "superseded".to_string(),
        })
    };
    // The first two jobs run, and are ended by their agent; none of the others is of a ref and number that was named.
    let out = desk.give(of("refs/heads/main", 5));
    assert_eq!(words(&out), ["job", "cancel", "job", "cancel"]);
    assert!(records(&out).iter().all(|job| job.event == 1 && job.cause == "superseded"), "{out:?}");
    assert_eq!(desk.give(of("refs/heads/gone", 99)), []);
    let out = desk.give(of("refs/heads/main", u64::MAX));
    assert_eq!(
        records(&out).iter().map(|job| (job.id, job.state)).collect::<Vec<_>>(),
        [(50, JobState::Cancelled), (51, JobState::Cancelled)]
    );
}

#[test]
fn what_a_later_push_leaves_out_goes_on_with_all_that_it_needs() {
    let mut desk = Desk::new();
    let named = |configuration: &str, needs: &[u32]| JobSpec {
        configuration: configuration.to_string(),
        needs: needs.to_vec(),
        ..spec()
    };
    let specs = vec![
        named("core", &[]),
        named("docs", &[]),
        named("core/board", &[3]),
        named("images", &[4]),
        named("base", &[]),
    ];
    desk.give(Input::Event(event(5), specs));
    let out = desk.give(Input::Obsolete(Obsolete {
        repository: event(5).repository,
        reference: event(5).reference,
        before: u64::MAX,
        but: vec!["core".to_string(), "nothing".to_string()],
        why: "superseded".to_string(),
    }));
    let ended: Vec<(String, JobState)> =
        records(&out).iter().map(|job| (job.configuration.clone(), job.state)).collect();
    assert_eq!(ended, [("docs".to_string(), JobState::Cancelled)], "{out:?}");
}

#[test]
fn a_rebuild_runs_under_a_new_number_while_the_ghost_is_sent_away() {
    let (mut desk, a, _) = running();
    desk.give(Input::LinkDown(a));
    desk.give(Input::Cancel(vec![1], "by anna".to_string()));
    let (_, _) = desk.up("b", &[]);
    let ended = JobRecord { state: JobState::Cancelled, ended_at: Some(desk.now), ..first_record() };
    let out = desk.give(Input::Rebuild(Rebuild {
        event: event(1),
        specs: vec![spec()],
        jobs: vec![ended],
        others: Vec::new(),
        person: None,
    }));
    assert_eq!(words(&out), ["job", "job", "assign"]);
    assert_eq!(records(&out)[1].attempt, 2);
    let (back, out) = desk.up("a", &[key(1, 1)]);
    assert_eq!(words(&out), ["agent", "welcome", "forget"]);
    assert_eq!(desk.data(back, key(1, 1), 0, 0, &log(&[stdout()])), []);
    assert_eq!(desk.hub.scheduler().holder(key(1, 2)), Some("b"));
}

#[test]
fn those_with_a_warm_mirror_and_a_free_slot_fetch_ahead() {
    let mut desk = Desk::new();
    let warm = Hello { mirrors: vec!["alpha".to_string()], slots: 1, ..hello("a", &[]) };
    let a = desk.link("a");
    desk.give(Input::Message(a, AgentMessage::Hello(warm)));
    desk.up("b", &[]);
    let text = |text: &str| text.to_string();
    let prefetch = sai_core::wire::Prefetch {
        repository: text("alpha"),
        url: "https://forge.example/alpha".into(),
        reference: text("refs/heads/main"),
        revision: text("0123456789abcdef0123456789abcdef01234567"),
    };
    let out = desk.give(Input::Expected(prefetch.clone()));
    assert_eq!(out, [Output::Send(a, MasterMessage::Prefetch(prefetch.clone()))]);
    desk.push(1);
    assert_eq!(desk.give(Input::Expected(prefetch)), [], "it is busy");
}

#[test]
fn a_board_is_offered_called_free_and_given_with_what_is_to_be_done_there() {
    let mut desk = Desk::new();
    let link = desk.link("a");
    let offered = |name: &str, kind: &str| OfferedBoard {
        name: name.to_string(),
        kind: kind.to_string(),
        ..OfferedBoard::default()
    };
    // What cannot be a name is nothing that a job could be given.
    let boards = Some(vec![offered("bench-1", "uno"), offered("../x", "uno"), offered("y", "a b")]);
    desk.give(Input::Message(
        link,
        AgentMessage::Hello(Hello { boards, can: Some(versions::told()), ..hello("a", &[]) }),
    ));
    assert_eq!(desk.hub.connected().get("a").and_then(|one| one.hello.boards.as_ref()).map(Vec::len), Some(1));
    let wanted = WantedBoard { kind: "uno".to_string(), ..WantedBoard::default() };
    let trial = r#"{"type":"uno","pass":"OK"}"#.to_string();
    let board = Some(BoardSpec { wanted: wanted.clone(), trial: trial.clone() });
    let out = desk.give(Input::Event(event(1), vec![JobSpec { steps: Vec::new(), board, ..spec() }]));
    let record = records(&out).pop().expect("a record");
    assert_eq!((record.board, record.given), (Some(wanted), None));
    let units = |state: &str, grant| {
        let board = Some("bench-1".to_string());
        AgentMessage::Units(Units {
            board,
            state: state.to_string(),
            holder: None,
            grant,
            why: Some("a\u{7}b".to_string()),
        })
    };
    assert_eq!(sent(&desk.give(Input::Message(link, units("in use", None)))), []);
    assert!(desk.hub.scheduler().waiting(0, 1).is_some_and(|why| why.contains("busy: a b")));
    let out = desk.give(Input::Message(link, units(Units::FREE, Some(4))));
    let [(to, MasterMessage::Assign(assignment))] = &sent(&out)[..] else { panic!("{out:?}") };
    assert_eq!((*to, &assignment.steps), (link, &Vec::new()));
    assert_eq!(assignment.board, Some(AtBoard { name: "bench-1".to_string(), grant: 5, trial, others: None }));
    let record = records(&out).pop().expect("a record");
    assert_eq!(record.given.map(|given| given.grant), Some(5), "it is on record before it is given");
    // Of one that was let go, and of an agent that offers none, nothing is heard.
    let (other, _) = desk.up("b", &[]);
    assert_eq!(sent(&desk.give(Input::Message(other, units(Units::FREE, Some(9))))), []);
}
