//! What steps of builds ask of boards, as the hub and an agent's session hear it: each question is one session, however often it is put.

use sai_core::clock::Now;
use sai_core::hub::{Asked, Hub, Input, Output, Terms};
use sai_core::job::{Blame, Fault, JobKey, JobState, Outcome, Verdict};
use sai_core::ledger::{AgentRecord, EventRecord, JobRecord, Source};
use sai_core::limits::{Millis, PROTOCOL, SESSIONS};
use sai_core::matrix::JobSpec;
use sai_core::ordered::Map;
use sai_core::rebuild;
use sai_core::record::{self, ChannelStart, Record, StepStart};
use sai_core::scheduler::Policy;
use sai_core::session::{self, AgentSession, Description};
use sai_core::units::{OfferedBoard, WantedBoard};
use sai_core::versions;
use sai_core::wire::{
    AgentMessage, Assignment, DataHeader, Forget, Hello, MasterMessage, Refuse, Session, SessionOf, SessionTold, Units,
    Welcome,
};

const BUILD: JobKey = JobKey { job: 1, attempt: 1 };

fn wanted(kind: &str) -> WantedBoard {
    WantedBoard { kind: kind.to_string(), ..WantedBoard::default() }
}

fn hello(jobs: &[JobKey]) -> Hello {
    let board = OfferedBoard { name: "bench-1".to_string(), kind: "uno".to_string(), ..OfferedBoard::default() };
    Hello {
        protocol: PROTOCOL,
        version: "1".to_string(),
        identity: "0".repeat(32),
        host: "a".to_string(),
        platforms: vec!["linux".to_string()],
        slots: 1,
        cores: 4,
        memory_mib: 1024,
        mirrors: Vec::new(),
        jobs: jobs.to_vec(),
        notes: None,
        instance: None,
        protocol_newest: None,
        can: Some(versions::told()),
        rooted: None,
        boards: Some(vec![board]),
        card: None,
    }
}

fn spec() -> JobSpec {
    JobSpec {
        platform: "linux".to_string(),
        configuration: "fw".to_string(),
        steps: vec!["make".to_string()],
        env: Map::new(),
        artifacts: Vec::new(),
        timeout_s: Some(77),
        step_timeout_s: None,
        priority: 3,
        root: None,
        needs: Vec::new(),
        units: Map::new(),
        board: None,
        bundle: None,
    }
}

fn event() -> EventRecord {
    EventRecord {
        id: 1,
        repository: "alpha".to_string(),
        url: "https://forge.example/alpha".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: "0123456789abcdef0123456789abcdef01234567".to_string(),
        subject: "s".to_string(),
        author: "ann".to_string(),
        source: Source::Poke,
        at: 0,
        errors: Vec::new(),
        warnings: vec!["w".to_string()],
        first_job: 1,
        jobs: 1,
    }
}

/// A hub with one agent, whose one board is called free, and the records that it would have on its disk.
struct Desk {
    hub: Hub,
    now: Millis,
    link: u64,
    jobs: Map<u64, JobRecord>,
    events: Map<u64, (EventRecord, Vec<JobSpec>)>,
}

impl Desk {
    fn new(spec: JobSpec) -> Self {
        let hub =
            Hub::new(Terms { units: Map::from([("licence".to_string(), 1)]), ..Terms::default() }, Policy::default());
        let mut desk = Self { hub, now: 1_000_000, link: 0, jobs: Map::new(), events: Map::new() };
        desk.greet(&[]);
        desk.free(0);
        desk.events.insert(1, (event(), vec![spec.clone()]));
        desk.give(Input::Event(event(), vec![spec]));
        desk
    }

    fn greet(&mut self, holds: &[JobKey]) -> Vec<Output> {
        if self.hub.agents().is_empty() {
            self.give(Input::Agent(AgentRecord::added("a".to_string(), "0".repeat(64), 0, None)));
        }
        self.link += 1;
        self.give(Input::LinkUp(self.link, "a".to_string()));
        self.say(AgentMessage::Hello(hello(holds)))
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

    fn ask(&mut self, number: u32, kind: &str) -> Vec<Output> {
        self.say(AgentMessage::Session(Session { key: BUILD, number, board: Some(wanted(kind)) }))
    }

    /// Asks for a session that is begun, with these numbers of its event and job.
    fn begin(&mut self, number: u32, numbers: (u64, u64)) -> Vec<Output> {
        let out = self.ask(number, "uno");
        let begins = out.iter().find_map(|output| match output {
            Output::Begin(asked, spec) => Some((asked.clone(), spec.clone())),
            _ => None,
        });
        let (asked, spec) = begins.unwrap_or_else(|| panic!("{out:?}"));
        assert_eq!(asked, Asked { key: BUILD, number, agent: "a".to_string() });
        self.give(Input::Session(asked, spec, Ok(numbers)))
    }

    fn log(&mut self, key: JobKey, records: &[Record]) -> Vec<Output> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| record::encode(record, 1, &mut bytes));
        let offset = self.hub.log_length(key).expect("it is under way");
        self.give(Input::Data(self.link, DataHeader { key, stream: 0, offset }, bytes))
    }

    fn job(&self, id: u64) -> &JobRecord {
        self.jobs.get(&id).expect("a record")
    }
}

fn told(out: &[Output]) -> Vec<(u32, Option<u64>, Option<String>)> {
    let told = out.iter().filter_map(|output| match output {
        Output::Send(_, MasterMessage::Session(told)) => Some((told.number, told.job, told.over.clone())),
        _ => None,
    });
    told.collect()
}

fn assigned(out: &[Output]) -> Vec<Assignment> {
    let assigned = out.iter().filter_map(|output| match output {
        Output::Send(_, MasterMessage::Assign(assignment)) => Some(assignment.clone()),
        _ => None,
    });
    assigned.collect()
}

fn began() -> [Record; 2] {
    let start = StepStart { step: 0, text: "session".to_string() };
    [Record::Channel(0, ChannelStart { name: "serial:main".to_string() }), Record::StepStart(start)]
}

#[test]
fn a_step_that_asks_gets_one_session_at_its_own_agent_however_often_it_asks() {
    let mut desk = Desk::new(spec());
    assert_eq!(desk.job(1).state, JobState::Assigned);
    let out = desk.ask(1, "uno");
    assert!(matches!(&out[..], [Output::Begin(..)]), "{out:?}");
    // Until it has its numbers, and after that, the same question is no other session.
    assert!(desk.ask(1, "uno").is_empty());
    let Output::Begin(asked, plan) = out[0].clone() else { panic!("{out:?}") };
    let out = desk.give(Input::Session(asked, plan, Ok((9, 40))));
    let of = desk.job(1).sessions.clone().expect("it is on record with its build");
    assert_eq!((of.len(), of[0].number, of[0].job), (1, 1, 40));
    let [assignment] = &assigned(&out)[..] else { panic!("{out:?}") };
    assert_eq!(assignment.session, Some(SessionOf { key: BUILD, number: 1 }));
    assert_eq!((assignment.key, assignment.configuration.as_str()), (JobKey { job: 40, attempt: 1 }, "fw/device"));
    assert_eq!(assignment.board.as_ref().map(|at| at.name.as_str()), Some("bench-1"));
    assert_eq!((assignment.timeout_s, desk.job(40).priority), (77, 3));
    let event = out.iter().find_map(|output| if let Output::Event(event) = output { Some(event) } else { None });
    let event = event.expect("an event of its own");
    assert_eq!((event.id, event.first_job, event.jobs, event.source), (9, 40, 1, Source::Session));
    // One commit: the event, the record of the build that names it, and its own.
    assert_eq!(told(&out), [(1, Some(40), None)]);
    assert_eq!(told(&desk.ask(1, "uno")), [(1, Some(40), None)]);
    // A second one waits for the board, and nobody hides it.
    let out = desk.begin(2, (10, 41));
    assert_eq!(told(&out), [(2, Some(41), None)]);
    assert!(assigned(&out).is_empty());
    let why = desk.hub.scheduler().waiting(desk.now, 41).expect("it waits");
    assert!(why.contains("job 40 is there"), "{why}");
}

#[test]
fn what_cannot_be_had_is_told_at_once() {
    let mut desk = Desk::new(spec());
    let over = |out: &[Output]| told(out)[0].2.clone().expect("it is over");
    assert!(over(&desk.ask(1, "esp32")).contains("its boards: bench-1 (uno)"));
    assert!(over(&desk.ask(1, "a b")).contains("expected"));
    let other = Session { key: JobKey { job: 1, attempt: 2 }, number: 1, board: Some(wanted("uno")) };
    assert!(over(&desk.say(AgentMessage::Session(other))).contains("does not run any more"));
    // What cannot be kept is nobody's session.
    let out = desk.ask(1, "uno");
    let Output::Begin(asked, plan) = out[0].clone() else { panic!("{out:?}") };
    assert!(over(&desk.give(Input::Session(asked, plan, Err("no room".to_string())))).contains("no room"));
    for number in 1..=SESSIONS as u32 {
        desk.begin(number, (100 + u64::from(number), 1000 + u64::from(number)));
    }
    assert!(over(&desk.ask(SESSIONS as u32 + 1, "uno")).contains("may ask for"));
    // Of a build that holds units, which others may wait for while it waits for theirs.
    let mut desk = Desk::new(JobSpec { units: Map::from([("licence".to_string(), 1)]), ..spec() });
    assert!(over(&desk.ask(1, "uno")).contains("occupies units"));
}

#[test]
fn a_session_ends_with_its_build_and_is_not_begun_twice() {
    // Queued or under way, by the end of the build or by its attempt being given up.
    for lost in [false, true] {
        let mut desk = Desk::new(spec());
        desk.begin(1, (9, 40));
        desk.begin(2, (10, 41));
        desk.log(JobKey { job: 40, attempt: 1 }, &began());
        let out = match lost {
            true => desk.say(AgentMessage::Refuse(Refuse {
                key: BUILD,
                why: "x".to_string(),
                trouble: Blame::Agent.word(),
            })),
            false => desk.give(Input::Cancel(vec![1], "ann".to_string())),
        };
        if !lost {
            assert_eq!(desk.job(40).fault, Fault::Nobody, "the build has not ended yet");
            let refuse = Refuse { key: BUILD, why: "x".to_string(), trouble: None };
            desk.say(AgentMessage::Refuse(refuse));
        } else {
            assert_eq!(told(&out).last().map(|told| (told.0, told.1)), Some((2, Some(41))));
        }
        assert_eq!(desk.job(41).state, JobState::Cancelled);
        assert_eq!(
            (desk.job(40).state, desk.job(40).fault),
            (JobState::Running, Fault::Person),
            "it is being cancelled"
        );
        // Its board is its own until its agent says otherwise.
        assert!(desk.hub.scheduler().boards(desk.now).iter().all(|board| !board.free));
        if lost {
            // The next attempt of the build asks anew.
            desk.now += 60_000;
            desk.give(Input::Tick);
            assert_eq!((desk.job(1).attempt, desk.job(1).sessions.clone()), (2, None));
        }
    }
    // One whose command had begun ends with its own trouble; one that had not waits for its board again.
    for begun in [true, false] {
        let mut desk = Desk::new(spec());
        desk.begin(1, (9, 40));
        if begun {
            desk.log(JobKey { job: 40, attempt: 1 }, &began());
        }
        let key = JobKey { job: 40, attempt: 1 };
        let out =
            desk.say(AgentMessage::Refuse(Refuse { key, why: "x".to_string(), trouble: Some("nobody".to_string()) }));
        let state = if begun { JobState::Infra } else { JobState::Queued };
        assert_eq!(desk.job(40).state, state);
        assert_eq!(told(&out).len(), usize::from(begun));
        let over = told(&desk.ask(1, "uno"))[0].2.is_some();
        assert_eq!(over, begun);
    }
}

#[test]
fn what_has_ended_a_session_and_its_build_is_told_though_the_build_is_heard_of_first() {
    for (person, state) in [(false, JobState::Infra), (true, JobState::Cancelled)] {
        let mut desk = Desk::new(spec());
        desk.begin(1, (9, 40));
        let key = JobKey { job: 40, attempt: 1 };
        desk.log(key, &began());
        if person {
            desk.give(Input::Cancel(vec![40], "ann".to_string()));
        }
        desk.say(AgentMessage::Refuse(Refuse { key: BUILD, why: "x".to_string(), trouble: Blame::Agent.word() }));
        assert_eq!((desk.job(40).state, desk.job(40).fault), (JobState::Running, Fault::Person));
        let verdict = Verdict {
            outcome: Outcome::Infra,
            fault: Fault::Infrastructure,
            cause: "the disk is full".to_string(),
            step: None,
            status: None,
            trouble: Blame::Agent.word(),
            verdict: None,
        };
        desk.log(key, &[Record::Verdict(verdict)]);
        let length = desk.hub.log_length(key).expect("it is under way");
        desk.give(Input::Flushed(key, 0, length));
        let job = desk.job(40);
        assert_eq!(job.state, state);
        assert_eq!(job.cause, if person { "ann" } else { "the disk is full" });
        assert_eq!(job.fault, if person { Fault::Person } else { Fault::Infrastructure });
    }
}

#[test]
fn nobody_rebuilds_a_session_and_who_wants_none_any_more_gets_none() {
    let mut desk = Desk::new(spec());
    desk.begin(1, (9, 40));
    desk.begin(2, (10, 41));
    desk.say(AgentMessage::Session(Session { key: BUILD, number: 2, board: None }));
    assert_eq!(desk.job(41).state, JobState::Cancelled);
    let session = EventRecord { id: 10, first_job: 41, ..event() };
    let why = rebuild::of(session, vec![spec()], vec![desk.job(41).clone()], &[41], false, None).expect_err("refused");
    assert!(why.contains("rebuild that"), "{why}");
}

#[test]
fn a_master_that_restarts_answers_the_same_question_by_the_same_session() {
    let mut desk = Desk::new(spec());
    let Output::Begin(asked, plan) = desk.ask(1, "uno")[0].clone() else { panic!("no session") };
    desk.give(Input::Session(asked, plan.clone(), Ok((9, 40))));
    let (build, session) = (desk.job(1).clone(), desk.job(40).clone());
    let mut after = Desk::new(spec());
    after.hub = Hub::new(Terms::default(), Policy::default());
    after.give(Input::Restore(event(), vec![spec()], vec![build]));
    let own = EventRecord { id: 9, first_job: 40, source: Source::Session, ..event() };
    after.give(Input::Restore(own, vec![plan], vec![session]));
    after.greet(&[BUILD, JobKey { job: 40, attempt: 1 }]);
    assert_eq!(told(&after.ask(1, "uno")), [(1, Some(40), None)]);
    // And it still ends with its build.
    after.give(Input::Cancel(vec![1], "ann".to_string()));
    after.say(AgentMessage::Refuse(Refuse { key: BUILD, why: "x".to_string(), trouble: None }));
    assert_eq!(after.job(40).fault, Fault::Person);
}

/// An agent that holds a build, and what it says.
struct Agent(AgentSession);

impl Agent {
    fn give(&mut self, input: session::Input) -> Vec<session::Output> {
        let mut out = Vec::new();
        self.0.handle(1_000, input, &mut out);
        out.retain(|output| !matches!(output, session::Output::Say(_)));
        out
    }

    fn link(&mut self, can: Vec<String>) -> Vec<session::Output> {
        self.give(session::Input::Connected { mirrors: Vec::new() });
        let welcome = Welcome { protocol: PROTOCOL, version: "1".to_string(), agent: "a".to_string(), can: Some(can) };
        self.give(session::Input::Message(MasterMessage::Welcome(welcome)))
    }
}

fn asks(out: &[session::Output]) -> Vec<Session> {
    let asks = out.iter().filter_map(|output| match output {
        session::Output::Send(AgentMessage::Session(session)) => Some(session.clone()),
        _ => None,
    });
    asks.collect()
}

#[test]
fn an_agent_asks_on_each_link_until_it_is_over() {
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
    let mut agent = Agent(AgentSession::new(description));
    let session = Session { key: BUILD, number: 1, board: Some(wanted("uno")) };
    // Of an attempt that it does not hold there is nothing to ask.
    assert_eq!(agent.give(session::Input::Session(session.clone())), []);
    agent.give(session::Input::Found { key: BUILD, lengths: Vec::new() });
    assert_eq!(agent.give(session::Input::Session(session.clone())), [], "there is no link");
    for _ in 0..2 {
        assert_eq!(asks(&agent.link(versions::told())), std::slice::from_ref(&session));
        agent.give(session::Input::Disconnected { jitter_permille: 0 });
    }
    agent.link(versions::told());
    let told = |over: Option<&str>| {
        let over = over.map(str::to_string);
        SessionTold { key: BUILD, number: 1, job: Some(40), over }
    };
    let hear = |told| session::Input::Message(MasterMessage::Session(told));
    assert_eq!(agent.give(hear(told(None))), [session::Output::Session(told(None))]);
    let none = Session { board: None, ..session.clone() };
    assert_eq!(asks(&agent.give(session::Input::Session(none.clone()))), std::slice::from_ref(&none));
    assert_eq!(agent.give(hear(told(Some("x")))), [session::Output::Session(told(Some("x")))]);
    // Nothing is told, or asked, of what is over.
    assert_eq!(agent.give(hear(told(Some("x")))), []);
    assert_eq!(agent.give(session::Input::Session(none)), []);
    // A master that knows no sessions is asked for none.
    agent.give(session::Input::Disconnected { jitter_permille: 0 });
    agent.link(vec!["pass-over".to_string()]);
    let out = agent.give(session::Input::Session(session.clone()));
    assert!(matches!(&out[..], [session::Output::Session(told)] if told.over.is_some()), "{out:?}");
    // With an attempt its questions are forgotten.
    agent.give(session::Input::Disconnected { jitter_permille: 0 });
    agent.give(session::Input::Session(session));
    agent.link(versions::told());
    agent.give(session::Input::Message(MasterMessage::Forget(Forget { key: BUILD })));
    agent.give(session::Input::Disconnected { jitter_permille: 0 });
    assert_eq!(asks(&agent.link(versions::told())), []);
}
