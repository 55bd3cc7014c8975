//! What runs and what waits at a master, of whom, and its agents → a table, or JSON.

use crate::answers::{Agent, Agents, Event, EventAndJobs, Events, Job};
use crate::failure::Failure;
use crate::master::Master;
use crate::telling::{colours, ended, plain, state};
use miniserde::{Serialize, json};
use sai_agent::terminal;
use std::fmt::Write as _;

/// Events under way that are looked at: what one person reads at once. They are asked for one by one.
const EVENTS: usize = 50;
/// States of events that are under way, in which they are asked for.
const OPEN: [&str; 3] = ["running", "failing", "queued"];
/// Characters of a reason that are shown: it is a column of a table.
const REASON: usize = 200;

/// One job that has not ended, for programs.
#[derive(Serialize)]
struct Row<'a> {
    job: u64,
    event: u64,
    repository: &'a str,
    #[serde(rename = "ref")]
    reference: &'a str,
    configuration: &'a str,
    platform: &'a str,
    state: &'a str,
    of: &'a str,
    agent: Option<&'a str>,
    attempt: u32,
    step: Option<u32>,
    steps: u32,
    queued_at: &'a str,
    started_at: Option<&'a str>,
    waiting: Option<&'a str>,
}

#[derive(Serialize)]
struct AgentRow<'a> {
    name: &'a str,
    state: &'a str,
    platforms: &'a [String],
    slots: Option<u32>,
    running: &'a [u64],
}

#[derive(Serialize)]
struct All<'a> {
    jobs: Vec<Row<'a>>,
    agents: Vec<AgentRow<'a>>,
    /// Whether more events are under way than were looked at.
    more: bool,
}

/// Who asked for a job: by name, or whose commit it is.
fn of<'a>(event: &'a Event, job: &'a Job) -> &'a str {
    job.person.as_deref().unwrap_or(&event.author)
}

/// Prints it.
///
/// # Errors
/// Whose fault it is that it is not known.
pub fn status(master: &mut Master, json: bool) -> Result<(), Failure> {
    let (events, agents, more) = smol::block_on(look(master))?;
    let text = if json { as_json(&events, &agents, more) } else { table(&events, &agents, more, colours()) };
    terminal::deliver(text.as_bytes()).map_err(|error| Failure::here("standard output", &error))
}

async fn look(master: &mut Master) -> Result<(Vec<EventAndJobs>, Vec<Agent>, bool), Failure> {
    let mut numbers = Vec::new();
    for word in OPEN {
        let list: Events = master.json("GET", &format!("/api/v1/events?state={word}&limit={EVENTS}")).await?;
        numbers.extend(list.events.iter().map(|event| event.id));
    }
    numbers.sort_unstable();
    // One that began meanwhile is in two lists.
    numbers.dedup();
    let more = numbers.len() > EVENTS;
    let mut events = Vec::new();
    for number in numbers.iter().take(EVENTS) {
        events.push(master.json::<EventAndJobs>("GET", &format!("/api/v1/events/{number}")).await?);
    }
    let agents: Agents = master.json("GET", "/api/v1/agents").await?;
    Ok((events, agents.agents, more))
}

fn open(event: &EventAndJobs) -> impl Iterator<Item = &Job> {
    event.jobs.iter().filter(|job| !ended(&job.state))
}

fn as_json(events: &[EventAndJobs], agents: &[Agent], more: bool) -> String {
    let jobs = events.iter().flat_map(|all| {
        open(all).map(|job| Row {
            job: job.id,
            event: job.event,
            repository: &job.repository,
            reference: &all.event.reference,
            configuration: &job.configuration,
            platform: &job.platform,
            state: &job.state,
            of: of(&all.event, job),
            agent: job.agent.as_deref(),
            attempt: job.attempt,
            step: job.step,
            steps: job.steps,
            queued_at: &job.queued_at,
            started_at: job.started_at.as_deref(),
            waiting: job.waiting.as_deref(),
        })
    });
    let agents = agents.iter().map(|agent| AgentRow {
        name: &agent.name,
        state: &agent.state,
        platforms: &agent.platforms,
        slots: agent.slots,
        running: &agent.running,
    });
    json::to_string(&All { jobs: jobs.collect(), agents: agents.collect(), more }) + "\n"
}

/// Lines of a word, a tab, and what there is to say of it.
fn table(events: &[EventAndJobs], agents: &[Agent], more: bool, coloured: bool) -> String {
    let mut out = String::new();
    for all in events {
        let reference = &all.event.reference;
        let branch = reference.strip_prefix("refs/heads/").or_else(|| reference.strip_prefix("refs/tags/"));
        let branch = plain(branch.unwrap_or(reference));
        for job in open(all) {
            let word = state(&job.state, coloured);
            let what =
                format!("{} {branch}\t{}\t{}", plain(&job.repository), plain(&job.configuration), plain(&job.platform));
            let how = match (&job.agent, &job.waiting) {
                (Some(agent), None) => {
                    let step = job.step.map(|step| format!(", step {}/{}", step + 1, job.steps)).unwrap_or_default();
                    format!("on {}{step}", plain(agent))
                }
                (_, Some(why)) => plain(why).chars().take(REASON).collect(),
                (None, None) => String::new(),
            };
            let _ = writeln!(out, "{word}\tjob {}\t{what}\tof {}\t{how}", job.id, plain(of(&all.event, job)));
        }
    }
    if out.is_empty() {
        out.push_str("nothing runs, and nothing waits\n");
    }
    if more {
        let _ = writeln!(out, "more\tthan {EVENTS} events are under way; these are the oldest");
    }
    for agent in agents.iter().filter(|agent| agent.state != "revoked") {
        let slots = agent.slots.map(|slots| format!("{} of {slots} slots", agent.running.len())).unwrap_or_default();
        let platforms = plain(&agent.platforms.join(" "));
        let _ = writeln!(out, "agent\t{}\t{}\t{slots}\t{platforms}", plain(&agent.name), state(&agent.state, coloured));
    }
    out
}
