//! A ledger's records, plans and lengths of logs → what a hub that knows nothing yet is told, in order: a master's start.
//!
//! Whatever had not ended is given to the hub before anything of a log is read, so that an end found there meets all that
//! waits for it. What nothing can go on with, since its plan or its event is gone, is given to the hub as lost: it ends there
//! as everything else does, and no record changes behind the hub's back.

use crate::clock::Now;
use crate::hub::{self, may_still_grow};
use crate::job::{EventId, JobKey};
use crate::ledger::{AgentRecord, EventRecord, JobRecord};
use crate::matrix::JobSpec;
use crate::ordered::Map;
use crate::plan::{self, Kept};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of a log that are read and taken in at a time.
pub const PIECE_BYTES: u64 = 64 << 10;

/// What a ledger has that a master goes on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Agents that may join, or might once.
    pub agents: Vec<AgentRecord>,
    /// The name of the agent inside the master, if it is to have one.
    pub inside: Option<String>,
    /// Events with jobs that have not ended.
    pub events: Vec<EventRecord>,
    /// All jobs of those events, and whatever has not ended although its event is gone.
    pub jobs: Vec<JobRecord>,
}

/// What is found.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The records.
    Ledger(Ledger),
    /// What is kept of the plan that was asked for.
    Plan(Kept),
    /// The durable lengths of the streams of the attempt that was asked for.
    Lengths(Vec<u64>),
    /// The next bytes of its log: at least one, and no more than were asked for.
    Log(Vec<u8>),
}

/// What is to be done, in order. Each question is answered before there is another.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Give this to the hub.
    Hub(hub::Input),
    /// What is kept of this event's plan? Answer with `Plan`.
    Plan(EventRecord),
    /// Keep this plan, which the event has from now on; that it cannot be kept does no harm.
    Keep(EventId, Vec<JobSpec>),
    /// How long are the streams of this attempt? Answer with `Lengths`.
    Lengths(JobKey),
    /// Read the log of this attempt, from this offset on and at most so many bytes. Answer with `Log`.
    Log(JobKey, u64, u64),
    /// For the master's own log.
    Say(String),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// What was asked last.
#[derive(Clone, Debug)]
enum Asked {
    Plan(EventRecord, Vec<JobRecord>),
    Lengths(JobKey),
    Log { key: JobKey, at: u64, end: u64 },
}

/// The machine. See the file's first line. It wants to hear of no time, and has ended when it asks nothing.
#[derive(Clone, Debug, Default)]
pub struct Restart {
    events: VecDeque<(EventRecord, Vec<JobRecord>)>,
    attempts: VecDeque<JobKey>,
    asked: Option<Asked>,
}

impl Restart {
    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match (self.asked.take(), input) {
            (None, Input::Ledger(ledger)) => self.begin(now, ledger, out),
            (Some(Asked::Plan(event, jobs)), Input::Plan(kept)) => self.planned(event, jobs, kept, out),
            (Some(Asked::Lengths(key)), Input::Lengths(lengths)) => {
                let end = lengths.first().copied().unwrap_or(0);
                out.push(Output::Hub(hub::Input::Resume(key, lengths)));
                self.read(key, 0, end, out);
            }
            (Some(Asked::Log { key, at, end }), Input::Log(bytes)) => {
                let after = at.saturating_add(bytes.len() as u64);
                if after == at || after > end {
                    out.push(Output::Bug("log: not what was asked for"));
                }
                out.push(Output::Hub(hub::Input::Replay(key, bytes)));
                self.read(key, after.max(at.saturating_add(1)), end, out);
            }
            (asked, _) => {
                self.asked = asked;
                out.push(Output::Bug("restart: an answer to nothing"));
                return;
            }
        }
        self.ask(out);
    }

    fn begin(&mut self, now: Now, ledger: Ledger, out: &mut Vec<Output>) {
        let Ledger { agents, inside, events, jobs } = ledger;
        // One that was added or revoked under this name, which earlier versions allowed, is not the one inside.
        let is_inside =
            |agent: &AgentRecord, name: &str| agent.name == name && agent.token_sha256.is_empty() && !agent.revoked;
        let new = inside.filter(|name| !agents.iter().any(|agent| is_inside(agent, name)));
        let new = new.map(|name| AgentRecord::added(name, String::new(), now.wall, None));
        out.extend(agents.into_iter().chain(new).map(|agent| Output::Hub(hub::Input::Agent(agent))));
        let mut of_event: Map<EventId, Vec<JobRecord>> = Map::new();
        for job in jobs {
            of_event.get_or_default(job.event).push(job);
        }
        for event in events {
            let jobs = of_event.remove(&event.id).unwrap_or_default();
            self.events.push_back((event, jobs));
        }
        while let Some((event, jobs)) = of_event.pop_first() {
            lose(event, jobs, "the record of its event is gone".to_string(), out);
        }
    }

    fn planned(&mut self, event: EventRecord, jobs: Vec<JobRecord>, kept: Kept, out: &mut Vec<Output>) {
        match plan::of(&event, kept) {
            Ok(planned) => {
                if planned.new {
                    out.push(Output::Keep(event.id, planned.specs.clone()));
                }
                let growing = jobs.iter().filter(|job| may_still_grow(job));
                self.attempts.extend(growing.map(|job| JobKey { job: job.id, attempt: job.attempt }));
                out.push(Output::Hub(hub::Input::Restore(event, planned.specs, jobs)));
            }
            Err(why) => lose(event.id, jobs, why, out),
        }
    }

    fn read(&mut self, key: JobKey, at: u64, end: u64, out: &mut Vec<Output>) {
        if at < end {
            self.asked = Some(Asked::Log { key, at, end });
            out.push(Output::Log(key, at, PIECE_BYTES.min(end - at)));
        }
    }

    /// Asks the next question, if none is open.
    fn ask(&mut self, out: &mut Vec<Output>) {
        if self.asked.is_some() {
            return;
        }
        if let Some((event, jobs)) = self.events.pop_front() {
            out.push(Output::Plan(event.clone()));
            self.asked = Some(Asked::Plan(event, jobs));
        } else if let Some(key) = self.attempts.pop_front() {
            out.push(Output::Lengths(key));
            self.asked = Some(Asked::Lengths(key));
        }
    }
}

/// Gives an event's jobs up.
fn lose(event: EventId, mut jobs: Vec<JobRecord>, why: String, out: &mut Vec<Output>) {
    jobs.retain(|job| !job.state.ended());
    out.push(Output::Say(format!("event {event}: {why}; its jobs end, as trouble of ours")));
    out.push(Output::Hub(hub::Input::Lost(jobs, why)));
}
