//! Inputs of the hub, in order, against what it says to write, send and compare.

use sai_core::hub::{Hub, Input, LinkId, Output, Terms};
use sai_core::job::{Fault, JobId, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::{AgentRecord, EventRecord, JobRecord, Source};
use sai_core::limits::{Millis, PROTOCOL};
use sai_core::matrix::JobSpec;
use sai_core::record::{self, Artifact, ChannelStart, Record};
use sai_core::scheduler::Policy;
use sai_core::wire::{Ack, Adopt, AgentMessage, DataHeader, Hello, Load, MasterMessage, Offer, Refuse};
use std::collections::BTreeMap;

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
    }
}

fn spec() -> JobSpec {
    JobSpec {
        platform: "linux/x86_64".to_string(),
        configuration: "default".to_string(),
        steps: vec!["make".to_string()],
        env: BTreeMap::new(),
        artifacts: vec!["out/*".to_string()],
        timeout_s: None,
        step_timeout_s: None,
        priority: 0,
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
    Verdict { outcome: Outcome::Passed, fault: Fault::Nobody, cause: String::new(), step: None, status: None }
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

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.hub.handle(self.now, input, &mut out);
        out.retain(|output| !matches!(output, Output::Touch(_) | Output::Say(_)));
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
            Output::Send(_, MasterMessage::Bye(_)) => "bye",
            Output::Close(_) => "close",
            Output::Append { .. } => "append",
            Output::Flush(_) => "flush",
            Output::Seal(..) => "seal",
            Output::Finish(_) => "finish",
            Output::Touch(_) | Output::Say(_) => "shown",
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
    assert_eq!(desk.hub.connected()["a"].link, new);
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
    assert_eq!(desk.hub.connected()["a"].link, new);
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
    desk.give(Input::Resume(key(7, 1), vec![10]));
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
    let said = &desk.hub.connected()["a"].hello;
    assert_eq!((said.host.len(), said.version.len(), said.slots, said.mirrors.len()), (1024, 1024, 256, 4096));
    assert_eq!(said.platforms, [GCC]);
    let offer = Offer { platforms: vec![GCC.to_string(), "a b".to_string()], slots: u32::MAX };
    desk.give(Input::Message(link, AgentMessage::Offer(offer)));
    let said = &desk.hub.connected()["a"].hello;
    assert_eq!((said.platforms.len(), said.slots), (1, 256));
    desk.push(1);
    let refuse = AgentMessage::Refuse(Refuse { key: key(1, 1), why: long.clone() });
    let out = desk.give(Input::Message(link, refuse));
    assert!(records(&out).iter().all(|record| record.cause.len() < 1100));
    for identity in ["", "é", "xyz", &long] {
        let link = desk.link("b");
        let greeting = Hello { identity: identity.to_string(), ..hello("b", &[]) };
        assert_eq!(words(&desk.give(Input::Message(link, AgentMessage::Hello(greeting)))), ["bye", "close"]);
    }
}
