//! Jobs that want a platform and agents that offer some → who runs what, and what became of it.
//!
//! The scheduler owns the records of unfinished jobs; each change comes out as `Changed`, to be made durable before the
//! messages that came out with it are sent. It restores itself from those records alone: what an agent still runs is
//! told by its next greeting.

mod again;
mod board;
mod boards;
mod choice;
mod greeting;
mod health;
mod needs;
mod policy;
mod room;
mod sessions;
mod time;
mod trouble;
mod unit;
mod unit_table;
mod waiting;

pub use self::board::{BoardHealth, BoardHolder, BoardRow, KeptFrom, Said};
pub use self::greeting::Greeting;
pub use self::needs::skipped_by;
pub use self::policy::Policy;
pub use self::time::CANCEL_FULL_MS;
pub use self::unit_table::{Holder, Holding, UnitRow, Waiter};

use self::again::no_longer_awaited;
use self::board::Board;
use self::needs::Open;
use self::room::{Class, Filed, Offer, Wanted};
use self::trouble::{Group, Met, Row};
use crate::bug::Bugs;
use crate::clock::Now;
use crate::job::{Blame, Fault, Finding, JobId, JobKey, JobState, Outcome, Verdict};
use crate::ledger::{BoardRecord, Checkup, JobRecord, Session};
use crate::limits::{JOB_TIMEOUT_S, Millis};
use crate::ordered::{Map, Set};
use crate::platform::as_root;
use crate::record::Artifact;
use crate::requests::Sharing;
use crate::units::{Grant, OfferedBoard, Units, WantedBoard, Wants};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Ended jobs whose number of attempts is remembered: far more than end while somebody's rebuild is under way.
const RELEASED: usize = 4096;
/// Doublings of a waiting time at most.
const DOUBLINGS: u32 = 6;
/// What happens to the scheduler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// New jobs, or ended ones that are to run again, each with the seconds it may take. Those of one event come
    /// together, so that the first does not take the place of one that should go before it. Of what they need the records
    /// say which attempt passed; what is open there is among them or unfinished. One that says by which job it is skipped
    /// is.
    Queue(Vec<(JobRecord, u64)>),
    /// What an agent held when the ledger was last written, at start.
    Granted(String, Vec<Grant>),
    /// What is known of an agent's boards, at start or when it is added.
    Known(String, Map<String, BoardRecord>),
    /// An agent says that nothing of an attempt runs there any more.
    Returned(String, JobKey),
    /// A person takes a grant back, by its number.
    Free(u64),
    /// An unfinished job from the ledger, at start.
    Restore(JobRecord, u64),
    /// Unfinished jobs from the ledger, at start, that nothing can go on with, and why. All of an event come together.
    Lost(Vec<JobRecord>, String),
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
        /// Boards it offers.
        boards: Vec<OfferedBoard>,
    },
    /// An agent says of a board how it stands.
    Board {
        /// The agent's name.
        agent: String,
        /// The board's, at that agent.
        board: String,
        /// What it says.
        said: Said,
    },
    /// A person sets a board of an agent aside, by this name, or takes it back.
    BoardAside(String, String, Option<String>),
    /// After `Check`: it cannot be begun.
    NotChecked(String, String),
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
    /// An attempt ended through trouble, and whose, without a verdict.
    Broken(JobKey, Blame, String),
    /// The master itself cannot go on with an attempt; that says nothing about its agent.
    Unwritable(JobKey, String),
    /// An attempt has asked for a session, of which the job is queued next.
    Session(JobKey, Session),
    /// A job cannot be started anywhere, ever.
    Impossible(JobId, String),
    /// Somebody cancels jobs, at once: what waits for one of them and is among them is cancelled as well, not skipped.
    Cancel(Vec<JobId>, String),
    /// Of an attempt that is about to end: the durable length of its log, and its files.
    Kept(JobKey, u64, Vec<Artifact>),
    /// The record of an ended job is on its way to the disk: it is not asked for here any more.
    Release(JobId),
    /// No job may start (the disk is full), or may again.
    Hold(Option<String>),
    /// Times to go by and units to offer from now on. Deadlines that are running stay as they are, and what is granted stays
    /// granted.
    Settings(Policy, Map<String, u32>),
    /// The master's machine slept for so many milliseconds, in which nobody could reach it: no agent is late for that.
    Slept(Millis),
    /// A person shares the board of a job that is theirs with somebody, or does so no more.
    Share(Sharing),
    /// Time has passed.
    Tick,
}

/// What the edge is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The job's record is new: see [`Scheduler::job`]. An ended one is known until it is released.
    Changed(JobId),
    /// Give this attempt to this agent.
    Assign(String, JobKey),
    /// The agent goes on with what it holds.
    Adopt(String, JobKey),
    /// The agent may delete this attempt.
    Forget(String, JobKey),
    /// The agent is to end this attempt.
    Cancel(String, JobKey, String),
    /// The agent's record is to hold its grants and what is known of its boards, as [`Scheduler::grants`] and
    /// [`Scheduler::board_records`] give them.
    Holds(String),
    /// It is to be found out how well a board is: answer with a job that is queued for that, or with `NotChecked`.
    Check(Checkup),
    /// Something was found that cannot be: a mistake of the scheduler's own, or of who carries it out.
    Bug(&'static str),
}

#[derive(Clone, Debug)]
struct Job {
    record: JobRecord,
    /// What an agent has to offer: see [`wanted`].
    wanted: String,
    timeout_s: u64,
    not_before: Millis,
    /// Since when it waits for an agent, on the steady clock.
    waits_since: Millis,
    /// How long its present attempt was under way with its agent connected, until `seen_since`.
    ran_ms: Millis,
    /// Since when the agent of its present attempt is connected, if it is.
    seen_since: Option<Millis>,
    /// Where its attempts since it was queued met trouble.
    met: Vec<Met>,
    /// What was found where its present attempt met it: of several boards that it has, at which, and what that was.
    troubled_at: Option<Finding>,
    /// Who cancelled it and until when its agent's verdict is awaited.
    cancelled: Option<(String, Millis)>,
    /// Until when its absent agent is awaited.
    orphan: Option<Millis>,
    timer: Option<Millis>,
    /// What it waits for while it is blocked.
    open: Open,
}

#[derive(Clone, Debug, Default)]
struct Agent {
    offer: Offer,
    /// Whether it is told in which of its platforms a job is to run.
    told: bool,
    several: bool,
    leases: bool,
    slots: u32,
    load_permille: u32,
    mirrors: Set<String>,
    connected: bool,
    runs: Set<JobKey>,
    boards: Map<String, Board>,
    /// What is known of those that it offers, or once did.
    records: Map<String, BoardRecord>,
    /// Those that it runs at boards, which take no slots.
    at_boards: Set<JobKey>,
    /// The job for which its boards are kept together as they become free.
    collector: Option<JobId>,
    aside: bool,
    /// Troubles in a row of each platform that it offers, or that jobs wanted where it chooses by itself.
    rows: Map<String, Row>,
    /// Attempts that one and the same cause may have ended.
    group: Group,
    filed: Option<Filed>,
}

impl Agent {
    fn serves(&self, wanted: Wanted<'_>) -> bool {
        self.offer.serves(wanted)
    }
}

/// The platform that an agent has to offer for a job.
fn wanted(record: &JobRecord) -> String {
    if record.root == Some(true) { as_root(&record.platform) } else { record.platform.clone() }
}

/// Jobs that differ in nothing that decides which goes first but their number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Queue {
    /// The highest priority is the first.
    order: i32,
    repository: String,
    platform: String,
    needs: bool,
    bundle: bool,
    /// Who asked, where that is not the repository.
    person: Option<String>,
    units: Wants,
    board: Option<WantedBoard>,
    /// The agent whose boards alone come into question.
    only: Option<String>,
    /// Whether a person is to have the board.
    lease: bool,
    /// Whether it is to be found out how well the board is.
    health: bool,
}

impl Queue {
    fn wanted(&self) -> Wanted<'_> {
        Wanted { platform: &self.platform, needs: self.needs, bundle: self.bundle }
    }

    /// Whose turn it is with units.
    fn who(&self) -> &str {
        self.person.as_deref().unwrap_or(&self.repository)
    }
}

impl Job {
    fn asks(&self) -> Wanted<'_> {
        let needs = self.record.needs.as_ref().is_some_and(|needs| !needs.is_empty());
        // At a board there is no checkout.
        let bundle = self.record.bundle.is_some() && self.record.board.is_none();
        Wanted { platform: &self.wanted, needs, bundle }
    }
}

fn wants(record: &JobRecord) -> Wants {
    let units = record.units.iter().flatten();
    units.map(|(unit, amount)| (unit.clone(), *amount)).collect()
}

/// The machine. See the file's first line.
#[derive(Clone, Debug, Default)]
pub struct Scheduler {
    policy: Policy,
    jobs: Map<JobId, Job>,
    agents: Map<String, Agent>,
    /// The agents again, by what they offer.
    classes: Map<Offer, Class>,
    queues: Map<Queue, Set<JobId>>,
    /// Queues for platforms that no agent has offered: not looked at for each slot that becomes free.
    unoffered: Map<Queue, Set<JobId>>,
    running: Map<String, u32>,
    timers: Set<(Millis, JobId)>,
    /// When a pause of an agent ends.
    pauses: Set<Millis>,
    /// Troubles in a row of each repository, on whatever agent.
    repositories: Map<String, Row>,
    hold: Option<String>,
    units: Units,
    /// Agents that offer boards.
    benches: Set<String>,
    /// The job that finds out how well a board of an agent is, once it has a number.
    checks: Map<(String, String), Option<JobId>>,
    /// Agents of which something is to be kept.
    noted: Set<String>,
    /// The largest number of a grant of a board that was given, or told of.
    last_board_grant: u64,
    /// Blocked jobs, by what they need.
    dependants: Map<JobId, Set<JobId>>,
    /// Attempts of jobs that were released last.
    released: Map<JobId, (u32, JobState)>,
    bugs: Bugs,
}

impl Scheduler {
    /// A scheduler that knows nothing yet and offers no units.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// One that offers these.
    pub fn offering(policy: Policy, amounts: Map<String, u32>) -> Self {
        let mut scheduler = Self::new(policy);
        scheduler.units.offer(amounts);
        scheduler
    }

    /// The record of an unfinished job, or of an ended one not yet released.
    pub fn job(&self, id: JobId) -> Option<&JobRecord> {
        self.jobs.get(&id).map(|job| &job.record)
    }

    /// All jobs known, in order.
    pub fn jobs(&self) -> impl Iterator<Item = &JobRecord> {
        self.jobs.values().map(|job| &job.record)
    }

    /// Whether a record of an ended job is how it ended last, as far as that is remembered.
    pub fn is_newest(&self, record: &JobRecord) -> bool {
        self.released.get(&record.id).is_none_or(|last| *last == (record.attempt, record.state))
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

    /// When `Tick` is due on the steady clock, if ever.
    pub fn deadline(&self) -> Option<Millis> {
        let timer = self.timers.first().map(|(at, _)| *at);
        [self.pauses.first().copied(), timer, self.units.deadline()].into_iter().flatten().min()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.take(now, input, out);
        self.tell_noted(out);
        self.bugs.tell(Output::Bug, out);
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Queue(jobs) => self.queue(now, jobs, out),
            Input::Restore(record, timeout_s) => self.restore(now, record, timeout_s, out),
            Input::Lost(records, why) => self.lose(now, records, &why, out),
            Input::Granted(agent, grants) => {
                for grant in grants {
                    self.units.restore(now.steady, self.policy.grace_ms, &agent, grant);
                }
            }
            // It cannot be gone while it is under way: that is said by its verdict.
            Input::Returned(agent, key) if self.holder(key) == Some(agent.as_str()) => {}
            Input::Returned(agent, key) => self.returned(&agent, key, out),
            Input::Free(number) => self.free_units(number, out),
            Input::AgentUp(greeting) => self.agent_up(now, greeting, out),
            Input::Known(agent, records) => self.known_boards(&agent, records),
            Input::Board { agent, board, said } => self.board_said(&agent, &board, said),
            Input::BoardAside(agent, board, by) => self.set_board_aside(now, &agent, &board, by),
            Input::NotChecked(agent, board) => self.not_checked(now, &agent, &board),
            Input::AgentOffer { agent, platforms, slots, boards } => {
                self.lift(&agent);
                // One whose token was revoked meanwhile is not known any more.
                if let Some(known) = self.agents.get_mut(&agent) {
                    known.offer.platforms = platforms;
                    known.slots = slots;
                    self.set_boards(&agent, boards);
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
            Input::SetAside { agent, aside } => self.set_aside(&agent, aside),
            Input::Started(key, step) => {
                self.started(now, key, step, out);
                // This comes with every piece of every log, and makes room for no job.
                return;
            }
            Input::Ended(key, verdict) => self.ended(now, key, verdict, out),
            Input::Broken(key, blame, why) => self.broken(now, key, blame, why, out),
            Input::Unwritable(key, why) => self.broken_quietly(now, key, why, out),
            Input::Session(key, session) => self.session(key, session, out),
            Input::Impossible(job, why) => self.impossible(now, job, why, out),
            Input::Cancel(jobs, who) => self.cancel(now, jobs, &who, out),
            Input::Share(sharing) => self.share(&sharing, out),
            Input::Kept(key, log_bytes, artifacts) => {
                if let Some(job) = self.jobs.get_mut(&key.job).filter(|job| job.record.attempt == key.attempt) {
                    job.record.log_bytes = log_bytes;
                    job.record.artifacts = artifacts;
                }
                return;
            }
            Input::Release(id) => {
                self.release(id);
                // The job had ended before: nothing has become free now.
                return;
            }
            Input::Settings(policy, amounts) => {
                self.policy = policy;
                self.units.offer(amounts);
            }
            Input::Hold(why) => self.hold(now, why),
            Input::Slept(slept) => {
                self.slept(slept);
                self.units.slept(slept);
            }
            Input::Tick => self.tick(now, out),
        }
        self.dispatch(now, out);
    }

    fn queue(&mut self, now: Now, jobs: Vec<(JobRecord, u64)>, out: &mut Vec<Output>) {
        let mut taken = Vec::new();
        for (mut record, timeout_s) in jobs {
            let id = record.id;
            // A record that was read before an attempt which has begun and ended since asks for what has happened already;
            // taken at its word it would number that attempt a second time.
            let old = self.released.get(&id).is_some_and(|(attempt, _)| *attempt > record.attempt);
            if old || self.unfinished(id) {
                continue;
            }
            record.state = JobState::Queued;
            record.queued_at = now.wall;
            record.infra = 0;
            record.awaited = None;
            record.ended_at = None;
            if record.skipped.is_none() {
                record.cause = String::new();
                record.fault = Fault::Nobody;
            }
            self.insert(now, record, timeout_s);
            taken.push(id);
        }
        for id in self.block(taken) {
            self.begin(now, id, out);
        }
    }

    fn insert(&mut self, now: Now, record: JobRecord, timeout_s: u64) {
        let job = Job {
            wanted: wanted(&record),
            record,
            timeout_s: if timeout_s == 0 { JOB_TIMEOUT_S } else { timeout_s },
            not_before: 0,
            waits_since: now.steady,
            ran_ms: 0,
            troubled_at: None,
            seen_since: None,
            met: Vec::new(),
            cancelled: None,
            orphan: None,
            timer: None,
            open: Open::default(),
        };
        self.checks_board(&job.record);
        self.jobs.insert(job.record.id, job);
    }

    fn restore(&mut self, now: Now, record: JobRecord, timeout_s: u64, out: &mut Vec<Output>) {
        let (id, state) = (record.id, record.state);
        let (key, agent) = (JobKey { job: id, attempt: record.attempt }, record.agent.clone());
        self.last_board_grant = self.last_board_grant.max(record.given.as_ref().map_or(0, |given| given.grant));
        self.insert(now, record, timeout_s);
        match (state, agent) {
            (JobState::Assigned | JobState::Running, Some(agent)) => {
                self.hold_slot(&agent, key);
                self.units.regain(key);
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.orphan = Some(now.steady.saturating_add(self.policy.orphan_ms));
                    if job.record.fault == Fault::Person {
                        let until = now.steady.saturating_add(self.policy.cancel_ms);
                        job.cancelled = Some((job.record.cause.clone(), until));
                    }
                }
                self.rearm(id);
            }
            (JobState::Queued, agent) => {
                if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.record.infra > 0) {
                    job.meet(agent, Blame::Agent);
                }
                self.resume(now, id, out);
            }
            (JobState::Assigned | JobState::Running, None) => {
                let why = "its record says that it is under way, and names no agent".to_string();
                self.end(now, id, JobState::Infra, Fault::Infrastructure, why, out);
            }
            _ => {
                self.jobs.remove(&id);
                self.bugs.note("restore: the job has ended");
            }
        }
    }

    fn hold_slot(&mut self, agent: &str, key: JobKey) {
        let known = self.agents.get_or_default(agent.to_string());
        known.runs.insert(key);
        if self.jobs.get(&key.job).is_some_and(|job| job.record.board.is_some()) {
            known.at_boards.insert(key);
        }
        self.file(agent);
        let Some(job) = self.jobs.get(&key.job) else { return self.bugs.note("hold_slot: no such job") };
        *self.running.get_or_default(job.record.repository.clone()) += 1;
    }

    fn free_slot(&mut self, now: Now, key: JobKey) -> Option<String> {
        let Some(job) = self.jobs.get(&key.job) else {
            self.bugs.note("free_slot: no such job");
            return None;
        };
        let Some(name) = job.record.agent.clone() else {
            self.bugs.note("free_slot: nobody runs it");
            return None;
        };
        if self.agents.get_mut(&name).is_some_and(|agent| agent.leave(key)) {
            let repository = job.record.repository.clone();
            if let Some(count) = self.running.get_mut(&repository) {
                *count -= 1;
                if *count == 0 {
                    self.running.remove(&repository);
                }
            } else {
                self.bugs.note("free_slot: nothing of its repository runs");
            }
            self.units.lose(now.steady, self.policy.grace_ms, key);
            self.file(&name);
        } else {
            self.bugs.note("free_slot: its agent does not run it");
        }
        Some(name)
    }

    fn queue_of(job: &Job) -> Queue {
        Queue {
            order: job.record.priority.saturating_neg(),
            repository: job.record.repository.clone(),
            platform: job.wanted.clone(),
            needs: job.asks().needs,
            bundle: job.asks().bundle,
            person: job.record.person.clone(),
            units: wants(&job.record),
            board: job.record.board.clone(),
            only: job.record.only_agent().cloned(),
            lease: job.record.lease.is_some(),
            health: job.record.health.is_some(),
        }
    }

    fn enqueue(&mut self, now: Now, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return self.bugs.note("enqueue: no such job") };
        if job.not_before <= now.steady {
            let queue = Self::queue_of(job);
            let offered =
                self.queues.contains_key(&queue) || (!self.unoffered.contains_key(&queue) && self.offers(&queue));
            let queues = if offered { &mut self.queues } else { &mut self.unoffered };
            queues.get_or_default(queue).insert(id);
        }
        self.rearm(id);
    }

    /// An agent offers something new: queues that waited for it come among the others.
    fn offered(&mut self, name: &str) {
        // Revoked meanwhile.
        let Some(agent) = self.agents.get(name) else { return };
        let found: Vec<Queue> =
            self.unoffered.keys().filter(|queue| queue.may_go_to(name) && agent.suits(queue)).cloned().collect();
        for queue in found {
            if let Some(ids) = self.unoffered.remove(&queue) {
                self.queues.get_or_default(queue).extend(ids);
            }
        }
    }

    fn dequeue(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return self.bugs.note("dequeue: no such job") };
        let queue = Self::queue_of(job);
        for queues in [&mut self.queues, &mut self.unoffered] {
            if let Some(ids) = queues.get_mut(&queue) {
                ids.remove(&id);
                if ids.is_empty() {
                    queues.remove(&queue);
                }
            }
        }
    }

    fn started(&mut self, now: Now, key: JobKey, step: Option<u32>, out: &mut Vec<Output>) {
        // What was given up says more for a while.
        if self.holder(key).is_none() {
            return;
        }
        let Some(job) = self.jobs.get_mut(&key.job) else { return self.bugs.note("started: no such job") };
        let record = &mut job.record;
        let first = record.state == JobState::Assigned;
        if first {
            record.state = JobState::Running;
            record.started_at = Some(now.wall);
        }
        if first || (step.is_some() && record.step != step) {
            record.step = step.or(record.step);
            out.push(Output::Changed(key.job));
        }
    }

    fn ended(&mut self, now: Now, key: JobKey, verdict: Verdict, out: &mut Vec<Output>) {
        if self.holder(key).is_none() {
            let agent = self.job(key.job).and_then(|record| record.agent.clone());
            // The attempt was given up meanwhile, and another one counts.
            if !agent.is_some_and(|agent| self.reclaim(key, &agent, out)) {
                return;
            }
        }
        if verdict.outcome == Outcome::Infra
            && self.ends_with_its_build(key.job)
            && let Some(job) = self.jobs.get_mut(&key.job)
        {
            job.cancelled = None;
        }
        let cancelled = self.jobs.get(&key.job).and_then(|job| job.cancelled.clone());
        let state = match verdict.outcome {
            // Who cancelled a job does not want it tried again because its end was untidy.
            Outcome::Infra if cancelled.is_some() => JobState::Cancelled,
            Outcome::Infra => {
                if let Some(job) = self.jobs.get_mut(&key.job) {
                    job.troubled_at = verdict.verdict;
                }
                self.broken(now, key, Blame::of(verdict.trouble.as_deref()), verdict.cause, out);
                return;
            }
            outcome => outcome.state(),
        };
        let cause = match (&cancelled, state) {
            (Some((who, _)), JobState::Cancelled) => who.clone(),
            _ => verdict.cause.clone(),
        };
        if let Some(name) = self.free_slot(now, key) {
            self.worked(&name, key.job, &verdict);
            if let (Some(agent), Some(job)) = (self.agents.get_mut(&name), self.jobs.get(&key.job)) {
                agent.mirrors.insert(job.record.repository.clone());
            }
            self.file(&name);
            self.returned(&name, key, out);
            out.push(Output::Forget(name, key));
        }
        let fault = if cancelled.is_some() && state == JobState::Cancelled { Fault::Person } else { verdict.fault };
        if let Some(job) = self.jobs.get_mut(&key.job) {
            job.record.verdict = Some(verdict);
        }
        self.end(now, key.job, state, fault, cause, out);
    }

    fn end(&mut self, now: Now, id: JobId, state: JobState, fault: Fault, cause: String, out: &mut Vec<Output>) {
        self.dequeue(id);
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("end: no such job") };
        let record = &mut job.record;
        if record.state.ended() {
            return self.bugs.note("end: the job has ended before");
        }
        out.extend(no_longer_awaited(record).map(|(name, key)| Output::Forget(name, key)));
        record.state = state;
        record.ended_at = Some(now.wall);
        record.fault = fault;
        record.cause = cause;
        self.set_timer(id, None);
        self.unlink(id);
        self.checked(now, id);
        out.push(Output::Changed(id));
        self.end_sessions(now, id, out);
        self.follow(now, id, out);
    }
}
