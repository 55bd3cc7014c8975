//! Boards that people ask for, as the hub and an agent's session hear of them: how long they are kept, and where words go.

use sai_core::clock::Now;
use sai_core::hub::{Hub, Input, Output, Terms, Wish};
use sai_core::job::{JobKey, JobState, Outcome, Verdict};
use sai_core::lease::MOST_S;
use sai_core::ledger::{AgentRecord, JobRecord, Leased};
use sai_core::limits::{Millis, PROTOCOL};
use sai_core::ordered::Map;
use sai_core::rebuild;
use sai_core::record::{self, Record, StepStart};
use sai_core::scheduler::Policy;
use sai_core::session::{self, AgentSession, Description};
use sai_core::units::{OfferedBoard, WantedBoard};
use sai_core::versions::{self, Can};
use sai_core::wire::{AgentMessage, DataHeader, Hello, MasterMessage, Units, Welcome, Word};

const MINUTE: Millis = 60_000;

/// A hub with one agent, whose board is called free.
struct Desk {
    hub: Hub,
    now: Millis,
    link: u64,
    can: Vec<String>,
    jobs: Map<u64, JobRecord>,
}

impl Desk {
    fn new(can: Vec<String>) -> Self {
        let hub = Hub::new(Terms::default(), Policy::default());
        let mut desk = Self { hub, now: 1_000_000, link: 0, can, jobs: Map::new() };
        desk.give(Input::Agent(AgentRecord::added("a".to_string(), "0".repeat(64), 0, None)));
        desk.greet(&[]);
        desk.free(0);
        desk
    }

    fn greet(&mut self, jobs: &[JobKey]) -> Vec<Output> {
        self.link += 1;
        self.give(Input::LinkUp(self.link, "a".to_string()));
        let board = OfferedBoard { name: "bench-1".to_string(), kind: "uno".to_string(), ..OfferedBoard::default() };
        self.say(AgentMessage::Hello(Hello {
            protocol: PROTOCOL,
            version: "1".to_string(),
            identity: "0".repeat(32),
            host: "a".to_string(),
            platforms: Vec::new(),
            slots: 1,
            cores: 4,
            memory_mib: 1024,
            mirrors: Vec::new(),
            jobs: jobs.to_vec(),
            notes: None,
            instance: None,
            protocol_newest: None,
            can: Some(self.can.clone()),
            rooted: None,
            boards: Some(vec![board]),
            card: None,
        }))
    }

    fn free(&mut self, grant: u64) -> Vec<Output> {
        let (board, state) = (Some("bench-1".to_string()), Units::FREE.to_string());
        self.say(AgentMessage::Units(Units { board, state, holder: None, grant: Some(grant), why: None }))
    }

    fn say(&mut self, message: AgentMessage) -> Vec<Output> {
        self.give(Input::Message(self.link, message))
    }

    fn give(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.hub.handle(Now { steady: self.now, wall: self.now }, input, &mut out);
        assert!(!out.iter().any(|output| matches!(output, Output::Bug(_))), "{out:?}");
        for output in &out {
            if let Output::Job(record) = output {
                self.jobs.insert(record.id, record.clone());
            }
        }
        out
    }

    /// Asks for the board, for so many minutes.
    fn ask(&mut self, number: u64, person: &str, minutes: u64) -> Vec<Output> {
        self.give(Input::Lease(wish(number, person, minutes)))
    }

    fn word(&mut self, key: JobKey, number: u64) -> Vec<Output> {
        let word = Word { key, writer: "w".to_string(), number, said: "{\"t\":\"x\"}".to_string() };
        self.give(Input::Word(word))
    }

    /// Time passes, tick by tick as the hub asks for them; gives what was cancelled.
    fn pass(&mut self, time: Millis) -> Vec<JobKey> {
        let end = self.now + time;
        let mut cancelled = Vec::new();
        while let Some(due) = self.hub.deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            cancelled.extend(self.give(Input::Tick).iter().filter_map(|output| match output {
                Output::Send(_, MasterMessage::Cancel(cancel)) => Some(cancel.key),
                _ => None,
            }));
        }
        self.now = end;
        cancelled
    }

    /// The attempt's log has this.
    fn log(&mut self, key: JobKey, records: &[Record]) {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record::encode(record, 0, &mut bytes));
        let offset = self.hub.log_length(key).expect("it is taken in");
        let length = offset + bytes.len() as u64;
        self.give(Input::Data(self.link, DataHeader { key, stream: 0, offset }, bytes));
        self.give(Input::Flushed(key, 0, length));
    }
}

fn wish(number: u64, person: &str, minutes: u64) -> Wish {
    let wanted = WantedBoard { kind: "uno".to_string(), ..WantedBoard::default() };
    let leased = Leased { minutes, agent: None, people: None };
    Wish::new((number, number), (wanted, leased), person, 0)
}

fn assigned(out: &[Output]) -> Option<(JobKey, Option<String>)> {
    out.iter().find_map(|output| match output {
        Output::Send(_, MasterMessage::Assign(assignment)) => Some((assignment.key, assignment.lease.clone())),
        _ => None,
    })
}

fn passed_on(out: &[Output]) -> Vec<u64> {
    let word = |output: &Output| match output {
        Output::Send(_, MasterMessage::Word(word)) => Some(word.number),
        _ => None,
    };
    out.iter().filter_map(word).collect()
}

const FIRST: JobKey = JobKey { job: 1, attempt: 1 };

#[test]
fn a_lease_is_kept_by_use_and_no_longer_than_that_while_somebody_waits() {
    let mut desk = Desk::new(versions::told());
    let out = desk.ask(1, "ann", 30);
    assert_eq!(assigned(&out), Some((FIRST, Some("ann".to_string()))));
    assert_eq!(desk.pass(20 * MINUTE), []);
    assert_eq!(passed_on(&desk.word(FIRST, 1)), [1]);
    assert_eq!(desk.pass(20 * MINUTE), []);
    assert_eq!(passed_on(&desk.word(FIRST, 2)), [2]);
    // From now on somebody waits: the board is ann's for 30 minutes from here, whatever she does.
    assert_eq!(assigned(&desk.ask(2, "bob", 1)), None);
    assert_eq!(desk.pass(29 * MINUTE), []);
    assert_eq!(passed_on(&desk.word(FIRST, 3)), [3]);
    assert_eq!(desk.pass(MINUTE), [FIRST]);
    assert_eq!(passed_on(&desk.word(FIRST, 4)), [0; 0], "its time is over");
    // That it is to end frees nothing: its agent says when it is free.
    assert!(desk.jobs.get(&1).is_some_and(|job| !job.state.ended()));
    let cause = "its time was over".to_string();
    let (outcome, fault) = (Outcome::Cancelled, sai_core::job::Fault::Person);
    let verdict =
        Verdict { outcome, fault, cause: cause.clone(), step: None, status: None, trouble: None, verdict: None };
    desk.log(FIRST, &[Record::Verdict(verdict)]);
    let job = desk.jobs.get(&1).expect("a record");
    assert_eq!((job.state, &job.cause), (JobState::Cancelled, &cause));
    let given = job.given.as_ref().expect("a board").grant;
    let next = assigned(&desk.free(given));
    assert_eq!(next, Some((JobKey { job: 2, attempt: 1 }, Some("bob".to_string()))));
}

#[test]
fn use_prolongs_a_lease_up_to_a_bound() {
    let mut desk = Desk::new(versions::told());
    desk.ask(1, "ann", 60);
    let mut minutes = 0;
    while desk.pass(10 * MINUTE).is_empty() {
        minutes += 10;
        desk.word(FIRST, minutes);
        assert!(minutes < 24 * 60);
    }
    assert_eq!((minutes + 10) * 60, MOST_S);
}

#[test]
fn a_word_goes_to_who_has_the_board_and_to_nobody_else() {
    let mut desk = Desk::new(versions::told());
    assert_eq!(passed_on(&desk.word(FIRST, 1)), [0; 0]);
    desk.ask(1, "ann", 30);
    assert_eq!(passed_on(&desk.word(JobKey { attempt: 2, ..FIRST }, 1)), [0; 0]);
    desk.give(Input::LinkDown(desk.link));
    assert_eq!(passed_on(&desk.word(FIRST, 1)), [0; 0]);
    desk.greet(&[FIRST]);
    assert_eq!(passed_on(&desk.word(FIRST, 1)), [1]);
}

#[test]
fn who_knows_no_leases_is_given_none_and_that_is_why_it_waits() {
    let can = versions::told().into_iter().filter(|word| word != Can::Leases.word()).collect();
    let mut desk = Desk::new(can);
    assert_eq!(assigned(&desk.ask(1, "ann", 30)), None);
    let now = Now { steady: desk.now, wall: desk.now };
    let why = desk.hub.scheduler().waiting(now.steady, 1).expect("it waits");
    assert!(why.contains("new enough to lend it to people"), "{why}");
    desk.can = versions::told();
    desk.greet(&[]);
    assert!(assigned(&desk.free(0)).is_some());
}

#[test]
fn after_a_restart_a_lease_goes_on_and_what_was_begun_is_not_begun_again() {
    let mut desk = Desk::new(versions::told());
    desk.ask(1, "ann", 30);
    desk.log(FIRST, &[Record::StepStart(StepStart { step: 0, text: "session at bench-1".to_string() })]);
    let record = desk.jobs.get(&1).cloned().expect("a record");
    assert_eq!(record.step, Some(0));
    let Wish { event, spec, .. } = wish(1, "ann", 30);
    let mut again = Desk::new(versions::told());
    again.give(Input::Restore(event.clone(), vec![spec.clone()], vec![record]));
    again.give(Input::Resume(FIRST, vec![0]));
    again.greet(&[FIRST]);
    assert_eq!(passed_on(&again.word(FIRST, 7)), [7]);
    assert_eq!(again.pass(29 * MINUTE), []);
    assert_eq!(again.pass(MINUTE), [FIRST]);
    // Without it, its agent has lost what was done.
    desk.give(Input::LinkDown(desk.link));
    let out = desk.greet(&[]);
    assert_eq!(assigned(&out), None);
    let job = desk.jobs.get(&1).expect("a record").clone();
    assert_eq!(job.state, JobState::Infra);
    let asked = rebuild::of(event, vec![spec], vec![job], &[1], false, None);
    assert!(asked.is_err_and(|why| why.contains("ask for one anew")));
}

#[test]
fn no_time_of_a_lease_passes_while_it_waits_again() {
    let mut desk = Desk::new(versions::told());
    desk.ask(1, "ann", 60);
    desk.give(Input::LinkDown(desk.link));
    // Its agent stays away before anything has begun, and it waits for a board once more: for longer than it would have lasted.
    assert_eq!(desk.pass(90 * MINUTE), []);
    let state = |desk: &Desk| desk.jobs.get(&1).expect("a record").state;
    assert_eq!((state(&desk), desk.hub.lease_until(1)), (JobState::Queued, None));
    // The agent comes with it after all: it is hers from now on.
    desk.greet(&[FIRST]);
    assert!(!state(&desk).ended() && desk.hub.lease_until(1) == Some(desk.now + 60 * MINUTE));
    assert_eq!(passed_on(&desk.word(FIRST, 1)), [1]);
    assert_eq!(desk.pass(60 * MINUTE), [FIRST]);
}

#[test]
fn an_agent_hands_a_word_to_what_it_holds() {
    let description = Description {
        version: "1".to_string(),
        identity: "0".repeat(32),
        instance: None,
        host: "a".to_string(),
        platforms: Vec::new(),
        rooted: None,
        slots: 1,
        cores: 1,
        memory_mib: 1,
        notes: Vec::new(),
        boards: Vec::new(),
        card: None,
    };
    let mut session = AgentSession::new(description);
    let mut give = |input| {
        let mut out = Vec::new();
        session.handle(0, input, &mut out);
        out
    };
    let word = Word { key: FIRST, writer: "w".to_string(), number: 1, said: "{}".to_string() };
    give(session::Input::Tick);
    give(session::Input::Connected { mirrors: Vec::new() });
    let welcome = Welcome { protocol: PROTOCOL, version: "1".to_string(), agent: "a".to_string(), can: None };
    give(session::Input::Message(MasterMessage::Welcome(welcome)));
    let said = || session::Input::Message(MasterMessage::Word(word.clone()));
    assert!(!give(said()).contains(&session::Output::Word(word.clone())));
    give(session::Input::Found { key: FIRST, lengths: vec![0] });
    assert!(give(said()).contains(&session::Output::Word(word.clone())));
}
