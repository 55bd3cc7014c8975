//! A ledger with all that may be in it → what a hub is told at a master's start, and what becomes of what nothing can go on with.

use sai_core::clock::Now;
use sai_core::hub::{self, Hub, Terms};
use sai_core::job::{Fault, JobKey, JobState};
use sai_core::ledger::{AgentRecord, EventRecord, JobRecord, Source};
use sai_core::matrix::JobSpec;
use sai_core::ordered::Map;
use sai_core::plan::{self, Kept};
use sai_core::restart::{Input, Ledger, Output, PIECE_BYTES, Restart};
use sai_core::scheduler::Policy;
use std::collections::VecDeque;

const NOW: Now = Now { steady: 1_000, wall: 5_000 };

fn spec(needs: &[u32]) -> JobSpec {
    JobSpec {
        platform: "linux".to_string(),
        configuration: "a".to_string(),
        steps: vec!["make".to_string()],
        env: Map::new(),
        artifacts: Vec::new(),
        timeout_s: None,
        step_timeout_s: None,
        priority: 0,
        root: None,
        needs: needs.to_vec(),
        units: Map::new(),
        board: None,
        bundle: None,
    }
}

fn event(id: u64, first_job: u64, jobs: u32) -> EventRecord {
    EventRecord {
        id,
        repository: "hello".to_string(),
        url: "https://forge.example/hello".to_string(),
        reference: "refs/heads/main".to_string(),
        revision: "0123456789abcdef0123456789abcdef01234567".to_string(),
        subject: String::new(),
        author: String::new(),
        source: Source::Poke,
        at: 1,
        errors: Vec::new(),
        warnings: Vec::new(),
        first_job,
        jobs,
    }
}

fn job(id: u64, event: u64, state: JobState) -> JobRecord {
    let agent = (!matches!(state, JobState::Queued)).then(|| "shed".to_string());
    let attempt = u32::from(agent.is_some());
    JobRecord { state, agent, attempt, platform: "linux".to_string(), ..JobRecord::queued(id, event, "hello", 1) }
}

/// A start whose every question is answered: the hub after it, what that said, and what was told for people.
fn start(
    ledger: Ledger,
    plan: impl Fn(u64) -> Kept,
    log: impl Fn(JobKey) -> Vec<u8>,
) -> (Hub, Vec<hub::Output>, Vec<Output>) {
    let mut hub = Hub::new(Terms::default(), Policy::default());
    let (mut machine, mut outputs, mut seen) = (Restart::default(), Vec::new(), Vec::new());
    let mut inputs = VecDeque::from([Input::Ledger(ledger)]);
    while let Some(input) = inputs.pop_front() {
        assert!(inputs.is_empty(), "one question at a time");
        let mut said = Vec::new();
        machine.handle(NOW, input, &mut said);
        for output in said {
            seen.push(output.clone());
            match output {
                Output::Hub(input) => hub.handle(NOW, input, &mut outputs),
                Output::Plan(event) => inputs.push_back(Input::Plan(plan(event.id))),
                Output::Lengths(key) => inputs.push_back(Input::Lengths(vec![log(key).len() as u64])),
                Output::Log(key, at, most) => {
                    let at = at as usize;
                    inputs.push_back(Input::Log(log(key)[at..at + most as usize].to_vec()));
                }
                Output::Keep(..) | Output::Say(_) => {}
                Output::Bug(what) => panic!("{what}"),
            }
        }
    }
    (hub, outputs, seen)
}

fn written(specs: &[JobSpec]) -> Kept {
    Kept::Plan(plan::write(specs).into_bytes())
}

fn last(outputs: &[hub::Output], id: u64) -> Option<&JobRecord> {
    let records =
        outputs.iter().filter_map(|output| if let hub::Output::Job(record) = output { Some(record) } else { None });
    records.rev().find(|record| record.id == id)
}

#[test]
fn jobs_of_a_lost_plan_end_in_the_hub_and_all_others_go_on() {
    let blocked = JobRecord { blocked: Some(true), ..job(3, 1, JobState::Queued) };
    let awaited =
        JobRecord { awaited: Some(true), agent: Some("shed".to_string()), attempt: 2, ..job(4, 1, JobState::Queued) };
    let jobs = vec![
        job(1, 1, JobState::Passed),
        job(2, 1, JobState::Running),
        blocked,
        awaited,
        job(5, 2, JobState::Queued),
        // The ledger has lost the event of these two.
        job(8, 3, JobState::Running),
        job(9, 3, JobState::Passed),
    ];
    let ledger = Ledger { events: vec![event(1, 1, 4), event(2, 5, 1)], jobs, ..Ledger::default() };
    let plan = |id| if id == 1 { Kept::Plan(b"{".to_vec()) } else { written(&[spec(&[])]) };
    let (mut hub, mut outputs, seen) = start(ledger, plan, |_| Vec::new());
    for id in [2, 3, 4, 8] {
        let record = last(&outputs, id).unwrap_or_else(|| panic!("job {id} is not told"));
        assert_eq!((&record.state, &record.fault), (&JobState::Infra, &Fault::Infrastructure), "{id}");
        assert_eq!((record.ended_at, record.blocked, record.awaited), (Some(NOW.wall), None, None), "{id}");
        let why = if id == 8 { "the record of its event is gone" } else { "its plan cannot be used" };
        assert!(record.cause.starts_with(why), "{id}: {}", record.cause);
        assert!(hub.scheduler().job(id).is_none(), "{id} is let go");
    }
    assert!(last(&outputs, 1).is_none() && last(&outputs, 9).is_none(), "what has ended stays as it is");
    assert!(hub.scheduler().job(5).is_some(), "the other event goes on");
    let told = seen.iter().filter(|output| matches!(output, Output::Say(_))).count();
    assert_eq!(told, 2, "each lost event is told once");
    // What the hub has ended it knows as ended: a record that was read before asks for nothing any more.
    outputs.clear();
    let stale = JobRecord { attempt: 0, ..job(2, 1, JobState::Queued) };
    let rebuild = hub::Rebuild {
        event: event(1, 1, 4),
        specs: vec![spec(&[]); 4],
        jobs: vec![stale],
        others: Vec::new(),
        person: None,
    };
    hub.handle(NOW, hub::Input::Rebuild(rebuild), &mut outputs);
    assert!(last(&outputs, 2).is_none(), "an old record is not taken for a new one: {outputs:?}");
}

#[test]
fn all_that_waits_is_restored_before_a_log_is_read_and_each_log_whole() {
    let length = 2 * PIECE_BYTES as usize + 7;
    let jobs = vec![job(1, 1, JobState::Running), job(2, 2, JobState::Queued), job(3, 2, JobState::Assigned)];
    let ledger = Ledger { events: vec![event(1, 1, 1), event(2, 2, 2)], jobs, ..Ledger::default() };
    let log = |key: JobKey| if key.job == 1 { vec![b'x'; length] } else { Vec::new() };
    let plan = |id| written(&vec![spec(&[]); id as usize]);
    let (_, _, seen) = start(ledger, plan, log);
    let inputs: Vec<&hub::Input> =
        seen.iter().filter_map(|output| if let Output::Hub(input) = output { Some(input) } else { None }).collect();
    let restored = inputs.iter().rposition(|input| matches!(input, hub::Input::Restore(..)));
    let resumed = inputs.iter().position(|input| matches!(input, hub::Input::Resume(..)));
    assert!(restored < resumed, "{inputs:?}");
    let resumed: Vec<u64> = inputs
        .iter()
        .filter_map(|input| if let hub::Input::Resume(key, _) = input { Some(key.job) } else { None })
        .collect();
    assert_eq!(resumed, [1, 3], "and of what waits nothing is read");
    let pieces: Vec<usize> = inputs
        .iter()
        .filter_map(|input| if let hub::Input::Replay(_, bytes) = input { Some(bytes.len()) } else { None })
        .collect();
    assert_eq!(pieces, [PIECE_BYTES as usize, PIECE_BYTES as usize, 7]);
}

#[test]
fn the_agent_inside_is_added_once() {
    let inside = || Some("builtin".to_string());
    let known = AgentRecord::added("builtin".to_string(), String::new(), 1, None);
    let other = AgentRecord { token_sha256: "aa".to_string(), ..known.clone() };
    let revoked = AgentRecord { revoked: true, ..known.clone() };
    for (agents, inside, last) in [
        (vec![], None, None),
        (vec![], inside(), Some(NOW.wall)),
        (vec![known.clone()], inside(), Some(1)),
        // Of earlier versions, which let anybody be called so.
        (vec![other], inside(), Some(NOW.wall)),
        (vec![revoked], inside(), Some(NOW.wall)),
    ] {
        let ledger = Ledger { agents, inside, ..Ledger::default() };
        let (hub, ..) = start(ledger, |_| Kept::Nothing(String::new()), |_| Vec::new());
        let found = hub.agents().get("builtin");
        assert_eq!(found.map(|agent| agent.added_at), last);
        assert!(found.is_none_or(|agent| agent.token_sha256.is_empty() && !agent.revoked && !agent.may_join()));
    }
}

#[test]
fn an_event_of_before_plans_gets_one_and_waits_for_nothing() {
    let text = br#"{"schema": "sai-1", "platforms": {"linux": {"build": "true"}},
        "configurations": {"a": {}, "b": {"needs": "a"}}}"#;
    let read = sai_core::saifile::read(text, "refs/heads/main");
    assert_eq!((read.specs.len(), &read.errors), (2, &Vec::new()), "{read:?}");
    let jobs = vec![job(1, 1, JobState::Queued), job(2, 1, JobState::Queued)];
    let ledger = Ledger { events: vec![event(1, 1, 2)], jobs, ..Ledger::default() };
    let (_, outputs, seen) = start(ledger, |_| Kept::Saifile(text.to_vec()), |_| Vec::new());
    let kept = seen.iter().find_map(|output| if let Output::Keep(1, specs) = output { Some(specs) } else { None });
    assert!(kept.is_some_and(|specs| specs.len() == 2 && specs.iter().all(|spec| spec.needs.is_empty())), "{seen:?}");
    assert!(last(&outputs, 1).is_none_or(|record| !record.state.ended()));
}

#[test]
fn an_answer_to_nothing_is_told() {
    let mut machine = Restart::default();
    for input in [Input::Log(vec![1]), Input::Lengths(Vec::new()), Input::Plan(Kept::Nothing(String::new()))] {
        let mut said = Vec::new();
        machine.handle(NOW, input, &mut said);
        assert_eq!(said, [Output::Bug("restart: an answer to nothing")]);
    }
}
