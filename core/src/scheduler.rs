//! Jobs that want a platform and agents that offer some → who runs what, and what became of it.
//!
//! The scheduler owns the records of unfinished jobs; each change comes out as `Changed`, to be made durable before the
//! messages that came out with it are sent. It restores itself from those records alone: what an agent still runs is
//! told by its next greeting.

mod choice;
mod room;
mod waiting;

use self::room::{Class, Filed};
use crate::job::{Fault, JobId, JobKey, JobState, Outcome, Verdict};
use crate::ledger::JobRecord;
use crate::limits::{INFRA_ATTEMPTS, JOB_TIMEOUT_S, Millis};
use crate::ordered::{Map, Set};
use crate::platform::serves;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Times the scheduler keeps, in milliseconds; the configuration may set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long an agent may be away before its jobs are given to others: longer than a reboot.
    pub orphan_ms: Millis,
    /// How long a job waits for a platform that no connected agent offers.
    pub expire_ms: Millis,
    /// Wait before the first retry after trouble of ours; doubled for each further one.
    pub retry_ms: Millis,
    /// How long an agent may take to end a cancelled job before the master stops waiting for its verdict.
    pub cancel_ms: Millis,
    /// How far past its own timeout a job may be before its agent is no longer believed to end it.
    pub overdue_ms: Millis,
    /// How long an agent that had trouble several times in a row gets no job; doubled for each further time.
    pub aside_ms: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            orphan_ms: 10 * 60_000,
            expire_ms: 24 * 3_600_000,
            retry_ms: 1_000,
            cancel_ms: 60_000,
            overdue_ms: 15 * 60_000,
            aside_ms: 30_000,
        }
    }
}

/// Troubles in a row after which an agent is set aside for a while.
const TROUBLES: u32 = 3;
/// Ended jobs whose number of attempts is remembered: far more than end while somebody's rebuild is under way.
const RELEASED: usize = 4096;
/// Doublings of a waiting time at most.
const DOUBLINGS: u32 = 6;
/// An agent that has greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its name.
    pub agent: String,
    /// Platforms it offers.
    pub platforms: Vec<String>,
    /// Jobs at once.
    pub slots: u32,
    /// Repositories whose mirror it holds.
    pub mirrors: Vec<String>,
    /// Attempts it still holds.
    pub holds: Vec<JobKey>,
}

/// What happens to the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// New jobs, or ended ones that are to run again, each with the seconds it may take. Those of one event come
    /// together, so that the first does not take the place of one that should go before it.
    Queue(Vec<(JobRecord, u64)>),
    /// An unfinished job from the ledger, at start.
    Restore(JobRecord, u64),
    /// An agent has greeted.
    AgentUp(Greeting),
    /// An agent offers something else than before.
    AgentOffer {
        /// Its name.
        agent: String,
        /// Platforms it offers.
        platforms: Vec<String>,
        /// Jobs at once.
        slots: u32,
    },
    /// An agent's load, see [`crate::wire::Load`].
    AgentLoad {
        /// Its name.
        agent: String,
        /// Load × 1000 per core.
        load_permille: u32,
    },
    /// An agent's link is gone.
    AgentDown(String),
    /// An agent may never come back: its token was revoked.
    AgentRevoked(String),
    /// Somebody sets an agent aside, or takes it back.
    SetAside {
        /// Its name.
        agent: String,
        /// Whether it gets no more jobs.
        aside: bool,
    },
    /// The first byte of an attempt has come, or a later step has begun.
    Started(JobKey, Option<u32>),
    /// The verdict of an attempt, all of its streams being durable.
    Ended(JobKey, Verdict),
    /// An attempt ended through trouble that its agent had, without a verdict.
    Broken(JobKey, String),
    /// The master itself cannot go on with an attempt; that says nothing about its agent.
    Unwritable(JobKey, String),
    /// A job cannot be started anywhere, ever.
    Impossible(JobId, String),
    /// Somebody cancels a job.
    Cancel(JobId, String),
    /// No job may start (the disk is full), or may again.
    Hold(Option<String>),
    /// Time has passed.
    Tick,
}

/// What the edge is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The job's record is new: see [`Scheduler::job`]. Ended jobs are released with [`Scheduler::release`].
    Changed(JobId),
    /// Give this attempt to this agent.
    Assign(String, JobKey),
    /// The agent goes on with what it holds.
    Adopt(String, JobKey),
    /// The agent may delete this attempt.
    Forget(String, JobKey),
    /// The agent is to end this attempt.
    Cancel(String, JobKey, String),
}

#[derive(Clone, Debug)]
struct Job {
    record: JobRecord,
    timeout_s: u64,
    not_before: Millis,
    avoid: Option<String>,
    /// Who cancelled it and until when its agent's verdict is awaited.
    cancelled: Option<(String, Millis)>,
    /// Until when its absent agent is awaited.
    orphan: Option<Millis>,
    timer: Option<Millis>,
}

#[derive(Clone, Debug, Default)]
struct Agent {
    platforms: Vec<String>,
    slots: u32,
    load_permille: u32,
    mirrors: Set<String>,
    connected: bool,
    runs: Set<JobKey>,
    aside: bool,
    troubles: u32,
    paused_until: Millis,
    filed: Option<Filed>,
}

impl Agent {
    fn serves(&self, platform: &str) -> bool {
        self.platforms.iter().any(|offered| serves(offered, platform))
    }
}

/// Jobs that differ in nothing that decides which goes first but their number.
type Queue = (i32, String, String);

/// The machine. See the file's first line.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    policy: Policy,
    jobs: Map<JobId, Job>,
    agents: Map<String, Agent>,
    /// The agents again, by what they offer.
    classes: Map<Vec<String>, Class>,
    /// When pauses of agents end, and whose.
    pauses: Set<(Millis, String)>,
    queues: Map<Queue, Set<JobId>>,
    /// Queues for platforms that no agent has offered: not looked at for each slot that becomes free.
    unoffered: Map<Queue, Set<JobId>>,
    running: Map<String, u32>,
    timers: Set<(Millis, JobId)>,
    hold: Option<String>,
    /// Attempts of jobs that were released last.
    released: Map<JobId, u32>,
}

impl Scheduler {
    /// A scheduler that knows nothing yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// The record of an unfinished job, or of an ended one not yet released.
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id).map(|job| &job.record)
    }

    /// All jobs known, in order.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.values().map(|job| &job.record)
    }

    /// Lets the caller add to a record (steps seen, artifacts, log length); the scheduler itself reads none of these.
    pub fn annotate(&mut self, id: JobId, change: impl FnOnce(&mut JobRecord)) {
        if let Some(job) = self.jobs.get_mut(&id) {
            change(&mut job.record);
        }
    }

    /// Forgets an ended job and returns its record.
    pub fn release(&mut self, id: JobId) -> Option<JobRecord> {
        if !self.jobs.get(&id)?.record.state.ended() {
            return None;
        }
        self.set_timer(id, None);
        let record = self.jobs.remove(&id)?.record;
        self.released.insert(id, record.attempt);
        if self.released.len() > RELEASED {
            self.released.pop_first();
        }
        Some(record)
    }

    /// The agent that may speak for this attempt: it was assigned and has not ended.
    pub fn holder(&self, key: JobKey) -> Option<&str> {
        let record = &self.jobs.get(&key.job)?.record;
        let live = matches!(record.state, JobState::Assigned | JobState::Running) && record.attempt == key.attempt;
        if live { record.agent.as_deref() } else { None }
    }

    /// Attempts an agent has been given and not ended.
    pub fn runs(&self, agent: &str) -> impl Iterator<Item = JobKey> + '_ {
        self.agents.get(agent).into_iter().flat_map(|agent| agent.runs.iter().copied())
    }

    /// Whether an agent is known to hold a mirror of this repository.
    pub fn warm(&self, agent: &str, repository: &str) -> bool {
        self.agents.get(agent).is_some_and(|agent| agent.mirrors.contains(repository))
    }

    /// When `Tick` is due, if ever.
    pub fn deadline(&self, now: Millis) -> Option<Millis> {
        let paused = self.pauses.iter().map(|(until, _)| *until).find(|until| *until > now);
        let timer = self.timers.first().map(|(at, _)| *at);
        [paused, timer].into_iter().flatten().min()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Queue(jobs) => {
                for (record, timeout_s) in jobs {
                    self.queue(now, record, timeout_s, out);
                }
            }
            Input::Restore(record, timeout_s) => self.restore(now, record, timeout_s),
            Input::AgentUp(greeting) => self.agent_up(now, greeting, out),
            Input::AgentOffer { agent, platforms, slots } => {
                self.lift(&agent);
                if let Some(known) = self.agents.get_mut(&agent) {
                    known.platforms = platforms;
                    known.slots = slots;
                }
                self.file(&agent);
                self.offered(&agent);
            }
            Input::AgentLoad { agent, load_permille } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    agent.load_permille = load_permille;
                }
                self.file(&agent);
                // Load decides between agents, never whether a job can start.
                return;
            }
            Input::AgentDown(agent) => self.agent_down(now, &agent),
            Input::AgentRevoked(agent) => self.agent_revoked(now, &agent, out),
            Input::SetAside { agent, aside } => {
                self.agents.get_or_default(agent.clone()).aside = aside;
                self.file(&agent);
            }
            Input::Started(key, step) => {
                self.started(now, key, step, out);
                // This comes with every piece of every log, and makes room for no job.
                return;
            }
            Input::Ended(key, verdict) => self.ended(now, key, verdict, out),
            Input::Broken(key, why) => self.broken(now, key, why, out),
            Input::Unwritable(key, why) => self.broken_quietly(now, key, why, out),
            Input::Impossible(job, why) => self.impossible(now, job, why, out),
            Input::Cancel(job, who) => self.cancel(now, job, who, out),
            Input::Hold(why) => self.hold = why,
            Input::Tick => self.tick(now, out),
        }
        self.dispatch(now, out);
    }

    fn queue(&mut self, now: Millis, mut record: JobRecord, timeout_s: u64, out: &mut Vec<Output>) {
        let id = record.id;
        // A record that was read before an attempt which has begun and ended since asks for what has happened already;
        // taken at its word it would number that attempt a second time.
        let old = self.released.get(&id).is_some_and(|attempt| *attempt > record.attempt);
        if old || self.jobs.get(&id).is_some_and(|job| !job.record.state.ended()) {
            return;
        }
        record.state = JobState::Queued;
        record.queued_at = now;
        record.infra = 0;
        record.ended_at = None;
        record.cause = String::new();
        record.fault = Fault::Nobody;
        self.insert(record, timeout_s);
        self.enqueue(now, id);
        out.push(Output::Changed(id));
    }

    fn insert(&mut self, record: JobRecord, timeout_s: u64) {
        let timeout_s = if timeout_s == 0 { JOB_TIMEOUT_S } else { timeout_s };
        let job = Job { record, timeout_s, not_before: 0, avoid: None, cancelled: None, orphan: None, timer: None };
        self.jobs.insert(job.record.id, job);
    }

    fn restore(&mut self, now: Millis, record: JobRecord, timeout_s: u64) {
        let (id, state) = (record.id, record.state);
        let (key, agent) = (JobKey { job: id, attempt: record.attempt }, record.agent.clone());
        self.insert(record, timeout_s);
        match (state, agent) {
            (JobState::Assigned | JobState::Running, Some(agent)) => {
                self.hold_slot(&agent, key);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.orphan = Some(now.saturating_add(self.policy.orphan_ms));
                    if job.record.fault == Fault::Person {
                        job.cancelled = Some((job.record.cause.clone(), now.saturating_add(self.policy.cancel_ms)));
                    }
                }
                self.rearm(id);
            }
            (JobState::Queued, _) => self.enqueue(now, id),
            _ => {}
        }
    }

    fn hold_slot(&mut self, agent: &str, key: JobKey) {
        self.agents.get_or_default(agent.to_string()).runs.insert(key);
        self.file(agent);
        if let Some(job) = self.jobs.get(&key.job) {
            *self.running.get_or_default(job.record.repository.clone()) += 1;
        }
    }

    fn free_slot(&mut self, key: JobKey) -> Option<String> {
        let job = self.jobs.get(&key.job)?;
        let name = job.record.agent.clone()?;
        if self.agents.get_mut(&name).is_some_and(|agent| agent.runs.remove(&key)) {
            let repository = job.record.repository.clone();
            if let Some(count) = self.running.get_mut(&repository) {
                *count -= 1;
                if *count == 0 {
                    self.running.remove(&repository);
                }
            }
            self.file(&name);
        }
        Some(name)
    }

    fn queue_of(record: &JobRecord) -> Queue {
        // The highest priority is the first key.
        (record.priority.saturating_neg(), record.repository.clone(), record.platform.clone())
    }

    fn enqueue(&mut self, now: Millis, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        if job.not_before <= now {
            let queue = Self::queue_of(&job.record);
            let offered =
                self.queues.contains_key(&queue) || (!self.unoffered.contains_key(&queue) && self.is_offered(&queue.2));
            let queues = if offered { &mut self.queues } else { &mut self.unoffered };
            queues.get_or_default(queue).insert(id);
        }
        self.rearm(id);
    }

    /// An agent offers something new: queues that waited for it come among the others.
    fn offered(&mut self, name: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let found: Vec<Queue> = self.unoffered.keys().filter(|queue| agent.serves(&queue.2)).cloned().collect();
        for queue in found {
            if let Some(ids) = self.unoffered.remove(&queue) {
                self.queues.get_or_default(queue).extend(ids);
            }
        }
    }

    fn dequeue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let queue = Self::queue_of(&job.record);
        for queues in [&mut self.queues, &mut self.unoffered] {
            if let Some(ids) = queues.get_mut(&queue) {
                ids.remove(&id);
                if ids.is_empty() {
                    queues.remove(&queue);
                }
            }
        }
    }

    fn set_timer(&mut self, id: JobId, timer: Option<Millis>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let Some(old) = job.timer.take() {
            self.timers.remove(&(old, id));
        }
        job.timer = timer;
        if let Some(at) = timer {
            self.timers.insert((at, id));
        }
    }

    /// Sets the job's one timer to whatever comes first for it.
    fn rearm(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let record = &job.record;
        let timer = match record.state {
            JobState::Queued => {
                let queue = Self::queue_of(record);
                let mut queues = [&self.queues, &self.unoffered].into_iter().filter_map(|queues| queues.get(&queue));
                let waiting = queues.any(|ids| ids.contains(&id));
                Some(if waiting { record.queued_at.saturating_add(self.policy.expire_ms) } else { job.not_before })
            }
            JobState::Assigned | JobState::Running => {
                let overdue = record.assigned_at.map(|at| {
                    at.saturating_add(job.timeout_s.saturating_mul(1000)).saturating_add(self.policy.overdue_ms)
                });
                let cancelled = job.cancelled.as_ref().map(|(_, until)| *until);
                [overdue, cancelled, job.orphan].into_iter().flatten().min()
            }
            _ => None,
        };
        self.set_timer(id, timer);
    }

    fn agent_up(&mut self, now: Millis, greeting: Greeting, out: &mut Vec<Output>) {
        let name = greeting.agent;
        self.lift(&name);
        let agent = self.agents.get_or_default(name.clone());
        agent.platforms = greeting.platforms;
        agent.slots = greeting.slots;
        agent.mirrors = Set::from_iter(greeting.mirrors);
        agent.connected = true;
        let mine: Vec<JobKey> = agent.runs.iter().copied().collect();
        self.file(&name);
        self.offered(&name);
        let holds = Set::from_iter(greeting.holds.iter().copied());
        for key in &holds {
            if self.holder(*key) == Some(name.as_str()) {
                out.push(Output::Adopt(name.clone(), *key));
                let cancelled = self.jobs.get_mut(&key.job).and_then(|job| {
                    job.orphan = None;
                    job.cancelled.as_ref().map(|(who, _)| who.clone())
                });
                self.rearm(key.job);
                if let Some(who) = cancelled {
                    out.push(Output::Cancel(name.clone(), *key, who));
                }
            } else {
                out.push(Output::Forget(name.clone(), *key));
            }
        }
        let mut troubled = false;
        for key in mine {
            if !holds.contains(&key) {
                // The assignment never arrived, or the agent lost its disk: either way this attempt is no more, and the
                // agent could not start it twice, since it never hears of this key again.
                let why = format!("{name} came back without it");
                if self.job(key.job).is_some_and(|record| record.state == JobState::Assigned) {
                    // It counts for the agent, once a greeting, so that one which dies of every job it gets is set
                    // aside; and not for the job, which has not begun.
                    if !troubled {
                        self.trouble(now, &name, key.job);
                        troubled = true;
                    }
                    self.again(now, key, why, 0, out);
                } else {
                    self.broken_quietly(now, key, why, out);
                }
            }
        }
    }

    fn agent_down(&mut self, now: Millis, name: &str) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.connected = false;
        let runs: Vec<JobKey> = agent.runs.iter().copied().collect();
        self.file(name);
        for key in runs {
            if let Some(job) = self.jobs.get_mut(&key.job) {
                job.orphan = Some(now.saturating_add(self.policy.orphan_ms));
            }
            self.rearm(key.job);
        }
    }

    fn agent_revoked(&mut self, now: Millis, name: &str, out: &mut Vec<Output>) {
        self.agent_down(now, name);
        let runs: Vec<JobKey> = self.runs(name).collect();
        for key in runs {
            self.broken_quietly(now, key, format!("{name}'s token was revoked"), out);
        }
        self.lift(name);
        self.agents.remove(name);
    }

    fn started(&mut self, now: Millis, key: JobKey, step: Option<u32>, out: &mut Vec<Output>) {
        if self.holder(key).is_none() {
            return;
        }
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        let record = &mut job.record;
        let first = record.state == JobState::Assigned;
        if first {
            record.state = JobState::Running;
            record.started_at = Some(now);
        }
        if first || (step.is_some() && record.step != step) {
            record.step = step.or(record.step);
            out.push(Output::Changed(key.job));
        }
    }

    fn ended(&mut self, now: Millis, key: JobKey, verdict: Verdict, out: &mut Vec<Output>) {
        if self.holder(key).is_none() {
            return;
        }
        let cancelled = self.jobs.get(&key.job).and_then(|job| job.cancelled.clone());
        let state = match verdict.outcome {
            Outcome::Passed => JobState::Passed,
            Outcome::Failed => JobState::Failed,
            Outcome::TimedOut => JobState::TimedOut,
            Outcome::Cancelled => JobState::Cancelled,
            // Who cancelled a job does not want it tried again because its end was untidy.
            Outcome::Infra if cancelled.is_some() => JobState::Cancelled,
            Outcome::Infra => {
                self.broken(now, key, verdict.cause, out);
                return;
            }
        };
        let cause = match (&cancelled, state) {
            (Some((who, _)), JobState::Cancelled) => who.clone(),
            _ => verdict.cause.clone(),
        };
        if let Some(name) = self.free_slot(key) {
            if let (Some(agent), Some(job)) = (self.agents.get_mut(&name), self.jobs.get(&key.job)) {
                agent.troubles = 0;
                agent.mirrors.insert(job.record.repository.clone());
            }
            self.file(&name);
            out.push(Output::Forget(name, key));
        }
        let fault = if cancelled.is_some() && state == JobState::Cancelled { Fault::Person } else { verdict.fault };
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.record.verdict = Some(verdict);
        }
        self.end(now, key.job, state, fault, cause, out);
    }

    fn end(&mut self, now: Millis, id: JobId, state: JobState, fault: Fault, cause: String, out: &mut Vec<Output>) {
        self.dequeue(id);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.record.state = state;
        job.record.ended_at = Some(now);
        job.record.fault = fault;
        job.record.cause = cause;
        self.set_timer(id, None);
        out.push(Output::Changed(id));
    }

    /// Trouble that says something about the agent.
    fn broken(&mut self, now: Millis, key: JobKey, why: String, out: &mut Vec<Output>) {
        let Some(name) = self.holder(key).map(ToString::to_string) else { return };
        self.trouble(now, &name, key.job);
        self.broken_quietly(now, key, why, out);
    }

    /// Remembers that an agent had trouble with a job.
    fn trouble(&mut self, now: Millis, name: &str, id: JobId) {
        if let Some(agent) = self.agents.get_mut(name) {
            agent.troubles = agent.troubles.saturating_add(1);
            if agent.troubles >= TROUBLES {
                let doublings = (agent.troubles - TROUBLES).min(DOUBLINGS);
                self.pauses.remove(&(agent.paused_until, name.to_string()));
                agent.paused_until = now.saturating_add(self.policy.aside_ms << doublings);
                self.pauses.insert((agent.paused_until, name.to_string()));
            }
        }
        if let Some(job) = self.jobs.get_mut(&id) {
            job.avoid = Some(name.to_string());
        }
    }

    /// Trouble that ends an attempt and says nothing about its agent.
    fn broken_quietly(&mut self, now: Millis, key: JobKey, why: String, out: &mut Vec<Output>) {
        self.again(now, key, why, 1, out);
    }

    fn impossible(&mut self, now: Millis, id: JobId, why: String, out: &mut Vec<Output>) {
        let Some(record) = self.job(id).filter(|record| !record.state.ended()) else { return };
        let key = JobKey { job: id, attempt: record.attempt };
        if self.holder(key).is_some()
            && let Some(name) = self.free_slot(key)
        {
            out.push(Output::Forget(name, key));
        }
        self.end(now, id, JobState::Infra, Fault::Infrastructure, why, out);
    }

    /// Queues a job again, `infra` troubles richer: none for an attempt that never began.
    fn again(&mut self, now: Millis, key: JobKey, why: String, infra: u32, out: &mut Vec<Output>) {
        if self.holder(key).is_none() {
            return;
        }
        if let Some(name) = self.free_slot(key) {
            out.push(Output::Forget(name, key));
        }
        let retry_ms = self.policy.retry_ms;
        let Some(job) = self.jobs.get_mut(&key.job) else { return };
        job.orphan = None;
        if let Some((who, _)) = job.cancelled.take() {
            self.end(now, key.job, JobState::Cancelled, Fault::Person, who, out);
            return;
        }
        job.record.infra += infra;
        if job.record.infra >= INFRA_ATTEMPTS {
            let cause = format!("{} times in a row, last: {why}", job.record.infra);
            self.end(now, key.job, JobState::Infra, Fault::Infrastructure, cause, out);
            return;
        }
        if infra > 0 {
            job.not_before = now.saturating_add(retry_ms << (job.record.infra - 1).min(DOUBLINGS));
        }
        let record = &mut job.record;
        record.state = JobState::Queued;
        record.queued_at = now;
        record.cause = why;
        record.fault = Fault::Infrastructure;
        record.step = None;
        self.enqueue(now, key.job);
        out.push(Output::Changed(key.job));
    }

    fn cancel(&mut self, now: Millis, id: JobId, who: String, out: &mut Vec<Output>) {
        let until = now.saturating_add(self.policy.cancel_ms);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let key = JobKey { job: id, attempt: job.record.attempt };
        match job.record.state {
            JobState::Queued => self.end(now, id, JobState::Cancelled, Fault::Person, who, out),
            JobState::Assigned | JobState::Running => {
                if job.cancelled.is_some() {
                    return;
                }
                // The record says so, since a master that restarts must not let the job go on or begin anew.
                job.record.cause.clone_from(&who);
                job.record.fault = Fault::Person;
                job.cancelled = Some((who.clone(), until));
                let Some(name) = job.record.agent.clone() else { return };
                self.rearm(id);
                out.push(Output::Changed(id));
                if self.agents.get(&name).is_some_and(|agent| agent.connected) {
                    out.push(Output::Cancel(name, key, who));
                } else {
                    self.broken_quietly(now, key, who, out);
                }
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Output>) {
        while self.pauses.first().is_some_and(|(until, _)| *until <= now) {
            self.pauses.pop_first();
        }
        while let Some((at, id)) = self.timers.first().copied() {
            if at > now {
                break;
            }
            self.set_timer(id, None);
            self.due(now, id, out);
        }
    }

    fn due(&mut self, now: Millis, id: JobId, out: &mut Vec<Output>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let record = &job.record;
        let key = JobKey { job: id, attempt: record.attempt };
        match record.state {
            JobState::Queued if now >= record.queued_at.saturating_add(self.policy.expire_ms) => {
                let platform = record.platform.clone();
                if self.is_served(&platform) {
                    // It waits for its turn, which will come; look again in as long a time, but never at once.
                    self.set_timer(id, Some(now.saturating_add(self.policy.expire_ms.max(1_000))));
                } else {
                    let cause = format!("no agent that offers {platform} came in time");
                    self.end(now, id, JobState::Expired, Fault::Infrastructure, cause, out);
                }
            }
            JobState::Queued => self.enqueue(now, id),
            JobState::Assigned | JobState::Running => {
                let name = record.agent.clone().unwrap_or_default();
                if job.orphan.is_some_and(|until| now >= until) {
                    self.broken_quietly(now, key, format!("{name} did not come back"), out);
                } else if job.cancelled.as_ref().is_some_and(|(_, until)| now >= *until) {
                    self.broken_quietly(now, key, String::new(), out);
                } else {
                    self.rearm(id);
                    if self.jobs.get(&id).and_then(|job| job.timer).is_some_and(|at| at <= now) {
                        self.broken(now, key, format!("{name} did not end it in time"), out);
                    }
                }
            }
            _ => {}
        }
    }
}
