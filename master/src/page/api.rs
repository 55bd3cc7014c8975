//! Views → JSON: `/api/v1/…`, the same as the pages say, with names that stay.
//!
//! Times are RFC 3339 in UTC, durations milliseconds, sizes bytes; what is not known is `null`. Fields may be added,
//! none is renamed or removed within `v1`.

use super::audit::AuditView;
use super::built_in::{packed, text};
use super::cases::case_word;
use super::test_cases::Cases;
use super::views::{AgentView, EventView, JobView, fault_word, job_took, source_word};
use crate::action;
use crate::live::LiveRepository;
use crate::units::moment;
use miniserde::{Serialize, json};
use sai_core::git_names::without_credentials;
use sai_core::ledger::{JobRecord, UserRecord};
use sai_core::offset::Offset;
use sai_core::ordered::Map;
use sai_core::roles::{Powers, Role};
use sai_core::scheduler::{BoardRow, Holder, Holding, UnitRow, Waiter};

/// `GET /api/v1/openapi.json`: all of this for programs, as OpenAPI 3.1 has it. A test holds each address and key to it.
pub fn description() -> String {
    text(packed!("openapi.json"))
}

/// One event.
#[derive(Serialize)]
struct Event<'a> {
    id: u64,
    repository: &'a str,
    url: String,
    #[serde(rename = "ref")]
    reference: &'a str,
    revision: &'a str,
    subject: &'a str,
    author: &'a str,
    source: &'a str,
    at: String,
    /// A word: invalid, empty, queued, running, failing, passed, failed, cancelled, other.
    state: &'a str,
    /// How many jobs are in each state that some are in.
    counts: Map<String, u64>,
    duration_ms: Option<u64>,
    /// Pages at the forge of the revision and of the ref, where they are known.
    revision_page: Option<String>,
    ref_page: Option<String>,
    errors: &'a [String],
    warnings: &'a [String],
    page: String,
}

/// One job.
#[derive(Serialize)]
struct Job<'a> {
    id: u64,
    event: u64,
    repository: &'a str,
    platform: &'a str,
    configuration: &'a str,
    /// A word: queued, assigned, running, passed, failed, cancelled, timed-out, expired, infra.
    state: &'a str,
    needs: Vec<Need<'a>>,
    skipped_by: Option<u64>,
    units: Map<String, u32>,
    attempt: u32,
    priority: i64,
    /// Whether its steps are root, in a container.
    root: bool,
    agent: Option<&'a str>,
    /// Which of the agent's platforms its last attempt ran in, where the master chose it.
    offered: Option<&'a str>,
    queued_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    duration_ms: Option<u64>,
    steps: u32,
    step: Option<u32>,
    status: Option<i32>,
    /// Of one at a board: `AGENT/BOARD` of its latest attempt, of several each.
    at_boards: Vec<String>,
    /// Why it ended as it did, or why it was queued again.
    cause: &'a str,
    /// Whose fault that is, in a word: nobody, spec, job, infrastructure, person.
    fault: String,
    /// What was found, in a word finer than the state, if its agent had one.
    verdict: Option<Finding<'a>>,
    /// Why it waits, while it does.
    waiting: Option<&'a str>,
    /// Who asked for it by name, where it was no push.
    /// How far the clock of its latest attempt's agent is ahead of the master's.
    clock: Option<Offset>,
    person: Option<&'a str>,
    artifacts: Vec<Artifact<'a>>,
    page: String,
    log: String,
}

/// A word beside a state, and a sentence.
#[derive(Serialize)]
struct Finding<'a> {
    word: &'a str,
    what: Option<&'a str>,
    /// Of several boards the one that it was found at.
    board: Option<&'a str>,
}

/// One file of a job.
#[derive(Serialize)]
struct Artifact<'a> {
    path: &'a str,
    size: u64,
    sha256: &'a str,
    executable: bool,
    download: String,
}

/// One agent.
#[derive(Serialize)]
struct Agent<'a> {
    name: &'a str,
    host: &'a str,
    /// A word: idle, busy, aside, away, new, revoked.
    state: &'a str,
    connected: bool,
    since: Option<String>,
    platforms: &'a [String],
    slots: Option<u32>,
    cores: Option<u32>,
    load_permille: Option<u32>,
    free_bytes: Option<u64>,
    set_aside: Option<&'a str>,
    paused: &'a [String],
    twin: Option<&'a str>,
    /// How many messages and frames of kinds that the master does not know it has sent.
    passed_over: u64,
    /// How far its clock is ahead of the master's.
    clock: Option<Offset>,
    /// What its machine was started from, where that is a card.
    card: Option<Card<'a>>,
    /// Numbers of the jobs it runs.
    running: Vec<u64>,
}

/// One repository.
#[derive(Serialize)]
struct Repository<'a> {
    name: &'a str,
    url: &'a str,
    state: &'a str,
}

/// A page of events; the next one is asked for with `?before=` the given number.
#[derive(Serialize)]
struct Events<'a> {
    events: Vec<Event<'a>>,
    before: Option<u64>,
}

/// One event with its jobs.
#[derive(Serialize)]
struct EventAndJobs<'a> {
    event: Event<'a>,
    jobs: Vec<Job<'a>>,
}

/// The agents.
#[derive(Serialize)]
struct Agents<'a> {
    agents: Vec<Agent<'a>>,
}

/// One unit: so much of something.
#[derive(Serialize)]
struct Unit<'a> {
    /// Of a board it is AGENT/BOARD.
    name: String,
    /// A word: amount or board.
    kind: &'a str,
    amount: u32,
    free: u32,
    held: Vec<Held<'a>>,
    /// The jobs that wait for it, the next one first; not all of them.
    waiting: Vec<Waiting<'a>>,
    waiting_count: u64,
    /// Of a board: its agent, its type, what else it is known for, and how it stands in a sentence.
    agent: Option<&'a str>,
    #[serde(rename = "type")]
    board_type: Option<&'a str>,
    tags: Option<&'a [String]>,
    /// Of a rig: the names of its boards.
    boards: Option<&'a [String]>,
    standing: Option<String>,
}

/// An attempt that holds some of a unit.
#[derive(Serialize)]
pub(super) struct Held<'a> {
    grant: u64,
    job: u64,
    attempt: u32,
    agent: &'a str,
    amount: u32,
    since: String,
    /// At most.
    until: String,
    /// A word: granted; away, as its agent is; given-up or revoked, when it is not known whether it still runs.
    state: &'a str,
}

/// A job that waits for a unit.
#[derive(Serialize)]
pub(super) struct Waiting<'a> {
    job: u64,
    amount: u32,
    /// Whose turn it is then.
    turn_of: &'a str,
    /// Whether what becomes free is kept together for it.
    collects: bool,
}

/// The units.
#[derive(Serialize)]
struct Units<'a> {
    units: Vec<Unit<'a>>,
}

/// The repositories.
#[derive(Serialize)]
struct Repositories<'a> {
    repositories: Vec<Repository<'a>>,
}

/// What people did; those before are asked for with `?before=` the given number.
#[derive(Serialize)]
struct Actions<'a> {
    actions: Vec<Deed<'a>>,
    before: Option<u64>,
}

/// One thing that somebody did.
#[derive(Serialize)]
struct Deed<'a> {
    id: u64,
    at: String,
    who: &'a str,
    what: &'a str,
}

/// Test cases.
#[derive(Serialize)]
struct Tests<'a> {
    tests: Vec<Test<'a>>,
    /// Files of tests that cannot be read, and why.
    troubles: &'a [String],
}

/// One of them.
#[derive(Serialize)]
struct Test<'a> {
    name: &'a str,
    /// A word: passed, failed, skipped.
    state: &'a str,
    duration_ms: Option<u64>,
    text: &'a str,
}

/// What a job needs; `attempt` is the one that passed, once it is no longer blocked.
#[derive(Serialize)]
struct Need<'a> {
    job: u64,
    configuration: &'a str,
    platform: &'a str,
    attempt: Option<u32>,
}

/// Whose a token is.
#[derive(Serialize)]
struct Me<'a> {
    name: &'a str,
    /// Words for what that person may do, as `sai-master user list` has them.
    powers: Vec<String>,
    /// When the token ends.
    until: Option<String>,
}

/// What was done.
#[derive(Serialize)]
struct Done<'a> {
    done: &'a str,
    /// The job that was made, where one was.
    job: Option<u64>,
}

/// What is wrong.
#[derive(Serialize)]
struct Wrong<'a> {
    error: &'a str,
}

fn event_json<'a>(view: &'a EventView, now: u64) -> Event<'a> {
    let event = &view.event;
    Event {
        id: event.id,
        repository: &event.repository,
        url: without_credentials(&event.url),
        reference: &event.reference,
        revision: &event.revision,
        subject: &event.subject,
        author: &event.author,
        source: source_word(&event.source),
        at: moment(event.at),
        state: view.standing().word(),
        counts: Map::from_iter(
            view.counts().into_iter().map(|(state, count)| (state.word().to_string(), count as u64)),
        ),
        duration_ms: view.took(now),
        revision_page: view.forge.as_ref().map(|forge| forge.commit(&event.revision)),
        ref_page: view.forge.as_ref().and_then(|forge| forge.reference(&event.reference)),
        errors: &event.errors,
        warnings: &event.warnings,
        page: format!("/event/{}", event.id),
    }
}

/// The boards of a job's latest attempt.
fn at_boards(job: &JobRecord) -> Vec<String> {
    let agent = job.agent.as_deref().unwrap_or_default();
    job.given.iter().flat_map(|given| given.names()).map(|board| format!("{agent}/{board}")).collect()
}

fn job_json<'a>(job: &'a JobRecord, waiting: Option<&'a str>, now: u64) -> Job<'a> {
    Job {
        id: job.id,
        event: job.event,
        repository: &job.repository,
        platform: &job.platform,
        configuration: &job.configuration,
        state: job.word(),
        needs: job
            .needs
            .iter()
            .flatten()
            .map(|needed| Need {
                job: needed.job,
                configuration: &needed.configuration,
                platform: &needed.platform,
                attempt: needed.attempt,
            })
            .collect(),
        skipped_by: job.skipped,
        units: job.units.clone().unwrap_or_default(),
        attempt: job.attempt,
        priority: i64::from(job.priority),
        root: job.root == Some(true),
        agent: job.agent.as_deref(),
        offered: job.offered.as_deref(),
        queued_at: moment(job.queued_at),
        started_at: job.started_at.map(moment),
        ended_at: job.ended_at.map(moment),
        duration_ms: job_took(job, now),
        steps: job.steps,
        step: job.step,
        status: job.verdict.as_ref().and_then(|verdict| verdict.status),
        at_boards: at_boards(job),
        cause: &job.cause,
        fault: fault_word(&job.fault).to_string(),
        verdict: job.verdict.as_ref().filter(|_| job.state.ended()).and_then(|verdict| verdict.verdict.as_ref()).map(
            |finding| Finding { word: &finding.word, what: finding.what.as_deref(), board: finding.board.as_deref() },
        ),
        waiting,
        clock: job.clock,
        person: job.person.as_deref(),
        artifacts: job
            .artifacts
            .iter()
            .map(|artifact| Artifact {
                path: &artifact.path,
                size: artifact.size,
                sha256: &artifact.sha256,
                executable: artifact.executable,
                download: super::artifact_list::address(job.id, job.attempt, artifact),
            })
            .collect(),
        page: format!("/job/{}", job.id),
        log: format!("/api/v1/jobs/{}/log", job.id),
    }
}

/// `GET /api/v1/events`: `{"events":[…],"before":N or null}`.
pub fn events(events: &[EventView], before: Option<u64>, now: u64) -> String {
    json::to_string(&Events { events: events.iter().map(|view| event_json(view, now)).collect(), before })
}

/// `GET /api/v1/events/ID`: `{"event":{…},"jobs":[…]}`.
pub fn event(view: &EventView, now: u64) -> String {
    let jobs = view.jobs.iter().map(|job| job_json(job, view.waiting.get(&job.id).map(String::as_str), now)).collect();
    json::to_string(&EventAndJobs { event: event_json(view, now), jobs })
}

/// `GET /api/v1/jobs/ID`.
pub fn job(view: &JobView, now: u64) -> String {
    json::to_string(&job_json(&view.job, view.waiting.as_deref(), now))
}

/// `GET /api/v1/jobs/ID/tests`: `{"tests":[…],"troubles":[…]}`.
pub fn tests(cases: &Cases) -> String {
    let tests = cases.cases.iter().map(|case| Test {
        name: &case.name,
        state: case_word(&case.result),
        duration_ms: case.millis,
        text: case.text.trim_end(),
    });
    json::to_string(&Tests { tests: tests.collect(), troubles: &cases.troubles })
}

/// A card, and the image that it is to have.
#[derive(Serialize)]
struct Card<'a> {
    model: &'a str,
    image: u64,
    wanted: Option<u64>,
    /// Why it was not taken, if so.
    failed: Option<&'a str>,
    /// All of that and how far it is, in a sentence.
    text: Option<&'a str>,
}

fn card(agent: &AgentView) -> Option<Card<'_>> {
    let record = agent.record.as_ref()?;
    let (card, wanted) = (record.card.as_ref()?, record.update.as_ref());
    Some(Card {
        model: &card.model,
        image: card.number,
        wanted: wanted.map(|wanted| wanted.number),
        failed: wanted.and_then(|wanted| wanted.failed.as_deref()),
        text: agent.live.as_ref().and_then(|live| live.card.as_deref()),
    })
}

/// `GET /api/v1/agents`: `{"agents":[…]}`.
pub fn agents(agents: &[AgentView]) -> String {
    let agents = agents
        .iter()
        .map(|agent| {
            let (live, record) = (agent.live.as_ref(), agent.record.as_ref());
            let connected = live.filter(|live| live.connected);
            Agent {
                name: &agent.name,
                host: live.map(|live| &live.host).or(record.map(|record| &record.host)).map_or("", String::as_str),
                state: agent.word(),
                connected: agent.connected(),
                since: live
                    .map(|live| live.connected_since)
                    .filter(|at| *at > 0)
                    .or(record.and_then(|record| record.seen_at))
                    .map(moment),
                platforms: live
                    .map(|live| &live.platforms)
                    .or(record.map(|record| &record.platforms))
                    .map_or(&[], Vec::as_slice),
                slots: connected.map(|live| live.slots),
                cores: connected.map(|live| live.cores),
                load_permille: connected.map(|live| live.load_permille),
                free_bytes: connected.map(|live| live.free_mib.saturating_mul(1 << 20)),
                set_aside: live.and_then(|live| live.set_aside.as_deref()),
                paused: live.map_or(&[], |live| live.paused.as_slice()),
                twin: live.and_then(|live| live.twin.as_deref()),
                passed_over: live.map_or(0, |live| live.passed_over),
                clock: connected.and_then(|live| live.clock),
                card: card(agent),
                running: live.map(|live| live.running.iter().map(|key| key.job).collect()).unwrap_or_default(),
            }
        })
        .collect();
    json::to_string(&Agents { agents })
}

fn unit_json(row: &UnitRow) -> Unit<'_> {
    Unit {
        name: row.name.clone(),
        kind: "amount",
        amount: row.amount,
        free: row.free,
        held: row.holders.iter().map(held_json).collect(),
        waiting: row.waiters.iter().map(waiting_json).collect(),
        waiting_count: row.waiting as u64,
        agent: None,
        board_type: None,
        tags: None,
        boards: None,
        standing: None,
    }
}

/// Who has a board.
pub(super) fn holder_json(row: &BoardRow) -> Option<Held<'_>> {
    row.holder.as_ref().map(|holder| Held {
        grant: holder.grant,
        job: holder.key.job,
        attempt: holder.key.attempt,
        agent: &row.agent,
        amount: 1,
        since: moment(holder.since),
        until: moment(holder.until),
        state: Holding::Granted.word(),
    })
}

fn board_json(row: &BoardRow) -> Unit<'_> {
    Unit {
        name: format!("{}/{}", row.agent, row.offered.name),
        kind: "board",
        amount: 1,
        free: u32::from(row.free),
        held: holder_json(row).into_iter().collect(),
        waiting: row.waiters.iter().map(waiting_json).collect(),
        waiting_count: row.waiting as u64,
        agent: Some(&row.agent),
        board_type: Some(&row.offered.kind),
        tags: Some(&row.offered.tags),
        boards: row.offered.boards.as_deref(),
        standing: Some(row.told()),
    }
}

fn held_json(holder: &Holder) -> Held<'_> {
    Held {
        grant: holder.grant,
        job: holder.key.job,
        attempt: holder.key.attempt,
        agent: &holder.agent,
        amount: holder.amount,
        since: moment(holder.since),
        until: moment(holder.until),
        state: holder.holding.word(),
    }
}

pub(super) fn waiting_json(waiter: &Waiter) -> Waiting<'_> {
    Waiting { job: waiter.job, amount: waiter.amount, turn_of: &waiter.who, collects: waiter.collects }
}

/// `GET /api/v1/units`: `{"units":[…]}`.
pub fn units(table: &[UnitRow], boards: &[BoardRow]) -> String {
    json::to_string(&Units { units: table.iter().map(unit_json).chain(boards.iter().map(board_json)).collect() })
}

/// `GET /api/v1/actions`: `{"actions":[…],"before":N or null}`.
pub fn actions(view: &AuditView) -> String {
    let actions = view.actions.iter().map(|action| Deed {
        id: action.id,
        at: moment(action.at),
        who: &action.who,
        what: &action.what,
    });
    json::to_string(&Actions { actions: actions.collect(), before: view.next })
}

/// `GET /api/v1/repositories`: `{"repositories":[…]}`.
pub fn repositories(repositories: &[LiveRepository]) -> String {
    let repositories = repositories
        .iter()
        .map(|repository| Repository { name: &repository.name, url: &repository.url, state: &repository.state })
        .collect();
    json::to_string(&Repositories { repositories })
}

/// `GET /api/v1/me`.
pub fn me(user: &UserRecord) -> String {
    let words = user.powers.as_ref().map_or_else(|| Role::Admin.word().to_string(), Powers::words);
    let powers = words.split(", ").map(str::to_string).collect();
    let until = user.powers.as_ref().and_then(|powers| powers.until).map(moment);
    json::to_string(&Me { name: &user.name, powers, until })
}

/// The answer to an action: `{"done":"…","job":N or null}`.
pub fn done(done: &action::Done) -> String {
    json::to_string(&Done { done: &done.text, job: done.job })
}

/// Any error: `{"error":"…"}`.
pub fn wrong(text: &str) -> String {
    json::to_string(&Wrong { error: text })
}

#[cfg(test)]
mod tests {
    use super::super::views::tests::{event as event_record, job as job_record};
    use super::*;
    use crate::live::Live;
    use miniserde::json::{Number, Value};
    use sai_core::job::JobState;

    fn object(text: &str) -> miniserde::json::Object {
        match json::from_str(text).unwrap() {
            Value::Object(object) => object,
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn an_event_and_its_jobs_read_back() {
        let mut live = Live::default();
        live.waiting.insert(1000, "no agent \"offers\" it".to_string());
        let jobs = vec![
            job_record(1000, "w", "default", JobState::Queued),
            job_record(1001, "l", "default", JobState::Passed),
        ];
        let view = EventView::new(event_record(1, 2), jobs, &live);
        let answer = object(&event(&view, 0));
        let Some(Value::Object(event)) = answer.get("event") else { panic!() };
        assert!(matches!(event.get("state"), Some(Value::String(state)) if state == "running"));
        assert!(matches!(event.get("ref"), Some(Value::String(reference)) if reference == "refs/heads/main"));
        assert!(matches!(event.get("at"), Some(Value::String(at)) if at == "2026-11-22T13:32:02Z"));
        let Some(Value::Array(jobs)) = answer.get("jobs") else { panic!() };
        let Some(Value::Object(job)) = jobs.iter().next() else { panic!() };
        assert!(matches!(job.get("waiting"), Some(Value::String(why)) if why == "no agent \"offers\" it"));
        assert!(matches!(job.get("agent"), Some(Value::Null)));
        let list = object(&events(&[view], Some(1), 0));
        assert!(matches!(list.get("before"), Some(Value::Number(Number::U64(1)))));
    }
}
