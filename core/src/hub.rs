//! Frames of all agents, flushed lengths and new work → records to make durable, messages to release after them, bytes
//! to append: the master's whole decision about running jobs.
//!
//! Everything of one `handle` call is one turn. The edge makes the turn's records durable first and only then releases
//! its messages; bytes may be appended at once, since an ack is only made from a flushed length that comes back in.

mod clocks;
mod door;
mod health;
mod intake;
mod leases;
mod needs;
mod obsolete;
mod offers;
mod sessions;
mod updates;

pub use self::health::check_of;
pub use self::leases::Wish;
pub use self::obsolete::Obsolete;
pub use self::sessions::Asked;

use self::door::{Contest, Twin};
use self::intake::Intake;
use crate::bug::Bugs;
use crate::card::Wanted;
use crate::clock::Now;
use crate::job::{Blame, EventId, JobId, JobKey, JobState};
use crate::lease::Lease;
use crate::ledger::{AgentRecord, Checkup, EventRecord, JobRecord};
use crate::limits::{JOB_TIMEOUT_S, LOG_BYTES, Millis, STREAMS};
use crate::matrix::JobSpec;
use crate::offset::Gauge;
use crate::ordered::{Map, Set};
use crate::record::Artifact;
use crate::requests::Sharing;
use crate::scheduler::{self, Policy, Scheduler};
use crate::secret::CloneUrl;
use crate::stream::StreamReceiver;
use crate::versions::Can;
use crate::wire::AtBoard;
use crate::wire::{
    Adopt, AgentMessage, Assignment, Cancel, DataHeader, Forget, Hello, Load, MasterMessage, Prefetch, SessionOf,
    Unread, Updating, Word,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Number of a link, never used again; later links have larger ones.
pub type LinkId = u64;

/// Characters that are kept of what an agent says for people: it stands in a table, a ledger and on terminals.
const WORDS: usize = 500;
/// Agents told to fetch ahead for one revision at most: more would only load the forge.
const PREFETCHERS: usize = 8;

/// Sentences about itself that an agent may have shown: far more than there is to say.
const NOTES: usize = 16;

/// Mirrors of one agent that are remembered: more repositories than one master is configured for.
const MIRRORS: usize = 4096;

/// What the configuration says about every job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The master's version.
    pub version: String,
    /// Bytes of log a job may write.
    pub log_bytes: u64,
    /// Whether more than that fails the job.
    pub log_limit_fails: bool,
    /// Seconds a job may take when its spec does not say.
    pub timeout_s: u64,
    /// Whether submodules are checked out, by repository; absent means no.
    pub submodules: Map<String, bool>,
    /// Where each repository is fetched, credentials and all: records have them not.
    pub places: Map<String, CloneUrl>,
    /// Units that this master has, with the amount of each.
    pub units: Map<String, u32>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            version: String::new(),
            log_bytes: LOG_BYTES,
            log_limit_fails: false,
            timeout_s: JOB_TIMEOUT_S,
            submodules: Map::new(),
            places: Map::new(),
            units: Map::new(),
        }
    }
}

/// What happens to the hub.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// An agent that may join, from the ledger or newly added.
    Agent(AgentRecord),
    /// Its token was revoked.
    Revoke(String),
    /// A link whose token belongs to this agent is up.
    LinkUp(LinkId, String),
    /// A link is gone.
    LinkDown(LinkId),
    /// An agent said something.
    Message(LinkId, AgentMessage),
    /// An agent sent a piece of a stream.
    Data(LinkId, DataHeader, Vec<u8>),
    /// A peer broke the protocol below the level of messages.
    Malformed(LinkId, String),
    /// A peer said something of a kind that this version does not know: what, for people.
    Unknown(LinkId, String),
    /// A new event and what its saifile asks for; the event's `first_job` numbers them.
    Event(EventRecord, Vec<JobSpec>),
    /// An event with unfinished jobs, from the ledger at start.
    Restore(EventRecord, Vec<JobSpec>, Vec<JobRecord>),
    /// Unfinished jobs from the ledger, at start, that nothing can go on with, and why.
    Lost(Vec<JobRecord>, String),
    /// At start, after `Restore`: the durable lengths of an attempt under way.
    Resume(JobKey, Vec<u64>),
    /// At start: the next durable bytes of its log.
    Replay(JobKey, Vec<u8>),
    /// Ended jobs of an event are to run again.
    Rebuild(Rebuild),
    /// A push was seen; its saifile is not read yet.
    Expected(Prefetch),
    /// A stream is flushed to this length.
    Flushed(JobKey, u16, u64),
    /// A complete artifact was compared with its announced digest.
    Sealed(JobKey, u16, bool),
    /// A stream cannot be written.
    Unwritable(JobKey, String),
    /// See [`scheduler::Input::Cancel`].
    Cancel(Vec<JobId>, String),
    /// What was pushed is built no further.
    Obsolete(Obsolete),
    /// After `Begin`: the numbers of the event and the job that a session is, which are on the disk with its plan; or why they cannot be.
    Session(Asked, JobSpec, Result<(EventId, JobId), String>),
    /// A person asks for a board: the numbers of event and job are on the disk with its plan.
    Lease(Wish),
    /// After `Check`, or where a person asks for one: as for `Session`, and that person.
    Check(Checkup, JobSpec, Result<(EventId, JobId), String>, Option<String>),
    /// See [`scheduler::Input::BoardAside`].
    BoardAside(String, String, Option<String>),
    /// A person who has a board says something.
    Word(Word),
    /// A person shares a board that they have, or does so no more.
    Share(Sharing),
    /// A person gives these agents an image, the first of them before the others.
    Update(Vec<String>, Wanted),
    /// A person takes back what a grant gave, by its number.
    FreeUnits(u64),
    /// See [`scheduler::Input::SetAside`].
    SetAside(String, bool),
    /// See [`scheduler::Input::Hold`].
    Hold(Option<String>),
    /// For so many milliseconds nobody was heard: who must greet or answer by now has as much more time. Nothing else has: a job
    /// that was cancelled at a full disk, and is the only one that can make room there, ends without a word of its agent.
    Missed(Millis),
    /// The same for the machine's sleep. See [`scheduler::Input::Slept`].
    Slept(Millis),
    /// The configuration says something else about jobs now. Those that were assigned go on by what they were told.
    Settings(Terms, Policy),
    /// Time has passed.
    Tick,
}

impl Input {
    /// What a text frame of an agent's is.
    pub fn of_text(link: LinkId, text: &str) -> Self {
        AgentMessage::decode(text)
            .map_or_else(|unread| Self::unread(link, unread), |message| Self::Message(link, message))
    }

    /// What a binary frame of an agent's is.
    pub fn of_binary(link: LinkId, frame: &[u8]) -> Self {
        match DataHeader::decode(frame) {
            Ok((header, content)) => Self::Data(link, header, content.to_vec()),
            Err(unread) => Self::unread(link, unread),
        }
    }

    fn unread(link: LinkId, unread: Unread) -> Self {
        match unread {
            Unread::Unknown(what) => Self::Unknown(link, what),
            Unread::Malformed(why) => Self::Malformed(link, why),
        }
    }
}

/// Which jobs of an event are to run again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuild {
    /// The event.
    pub event: EventRecord,
    /// All of its jobs as they were planned.
    pub specs: Vec<JobSpec>,
    /// The records of those that are to run.
    pub jobs: Vec<JobRecord>,
    /// The records of all others of the event: what has passed is not run again for those that need it.
    pub others: Vec<JobRecord>,
    /// Who asked, if that was a person.
    pub person: Option<String>,
}

/// What the edge is to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make this record durable.
    Event(EventRecord),
    /// Make this record durable.
    Job(JobRecord),
    /// Make this record durable.
    Agent(AgentRecord),
    /// Give this session, whose plan is of this one job, numbers; answer with `Session`.
    Begin(Asked, JobSpec),
    /// Give this check of a board the same; answer with `Check`.
    Check(Checkup, JobSpec),
    /// Send, once the turn's records are durable.
    Send(LinkId, MasterMessage),
    /// Close the link, after what was sent to it; answer with `LinkDown`.
    Close(LinkId),
    /// Append to a stream's file at exactly this offset.
    Append {
        /// The attempt.
        key: JobKey,
        /// The stream.
        stream: u16,
        /// Length of the file before.
        offset: u64,
        /// What to append.
        bytes: Vec<u8>,
    },
    /// A verdict waits for the flush of this attempt's files.
    Flush(JobKey),
    /// Compare this complete artifact with its digest; answer with `Sealed`.
    Seal(JobKey, Artifact),
    /// No more bytes of this attempt will come.
    Finish(JobKey),
    /// Something that is shown has changed.
    Touch(Touch),
    /// For the master's own log.
    Say(String),
    /// Tell the operator this about an agent, who may cause it any number of times: see [`crate::few`].
    Complain(String, String),
    /// Something was found that cannot be: a mistake of the hub's own, or of who carries it out.
    Bug(&'static str),
}

/// What has changed for those who look.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touch {
    /// An event or one of its jobs.
    Event(EventId),
    /// A job.
    Job(JobId),
    /// An attempt's log has grown.
    Log(JobKey),
    /// An agent, by name.
    Agent(String),
}

/// An agent as it is connected now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Its link.
    pub link: LinkId,
    /// What it said of itself, kept up to date.
    pub hello: Hello,
    /// What it said last of its load.
    pub load: Option<Load>,
    /// When it greeted, Unix milliseconds.
    pub since: Millis,
    /// What is known of its clock.
    clock: Gauge,
}

impl Connected {
    /// Whether it has said that it can do this.
    pub fn can(&self, can: Can) -> bool {
        can.is_in(self.hello.can.as_deref())
    }
}

#[derive(Clone, Debug)]
struct Plan {
    event: EventRecord,
    specs: Map<JobId, JobSpec>,
}

/// The machine. See the file's first line.
#[derive(Clone, Debug, Default)]
pub struct Hub {
    terms: Terms,
    scheduler: Scheduler,
    agents: Map<String, AgentRecord>,
    links: Map<LinkId, String>,
    /// Links of each agent that have not greeted, the oldest first, and by when they must.
    ungreeted: Map<String, Vec<(LinkId, Millis)>>,
    greet_by: Set<(Millis, LinkId)>,
    contests: Map<String, Contest>,
    contest_by: Set<(Millis, String)>,
    twins: Map<String, Twin>,
    connected: Map<String, Connected>,
    /// How much each agent has said that was of no known kind.
    passed_over: Map<String, u64>,
    plans: Map<EventId, Plan>,
    intakes: Map<JobKey, Intake>,
    /// Sessions that have no numbers yet.
    beginning: Set<(JobKey, u32)>,
    /// How long people have boards, by job.
    leases: Map<JobId, Lease>,
    /// How far agents are with the images that they were told.
    updating: Map<String, Updating>,
    bugs: Bugs,
}

impl Hub {
    /// A hub that knows nothing yet.
    pub fn new(terms: Terms, policy: Policy) -> Self {
        let scheduler = Scheduler::offering(policy, terms.units.clone());
        Self { terms, scheduler, ..Self::default() }
    }

    /// Who runs what.
    pub fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    /// Agents connected now, by name.
    pub fn connected(&self) -> &Map<String, Connected> {
        &self.connected
    }

    /// How many messages and frames of an agent were of kinds that this version does not know.
    pub fn passed_over(&self, agent: &str) -> u64 {
        self.passed_over.get(agent).copied().unwrap_or(0)
    }

    /// Agents that may join, by name.
    pub fn agents(&self) -> &Map<String, AgentRecord> {
        &self.agents
    }

    /// Length of an attempt's log as appended, flushed or not, while it is under way.
    pub fn log_length(&self, key: JobKey) -> Option<u64> {
        self.intakes.get(&key).map(|intake| intake.streams.first().map_or(0, StreamReceiver::length))
    }

    /// When `Tick` is due on the steady clock, if ever.
    pub fn deadline(&self) -> Option<Millis> {
        [self.scheduler.deadline(), self.door_deadline(), self.leases_deadline()].into_iter().flatten().min()
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.take(now, input, out);
        self.bugs.tell(Output::Bug, out);
    }

    fn take(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Agent(record) => {
                out.push(Output::Touch(Touch::Agent(record.name.clone())));
                if let Some(grants) = record.grants.clone() {
                    self.schedule(now, scheduler::Input::Granted(record.name.clone(), grants), out);
                }
                let boards = record.boards.clone().unwrap_or_default();
                self.schedule(now, scheduler::Input::Known(record.name.clone(), boards), out);
                self.agents.insert(record.name.clone(), record);
            }
            Input::Revoke(name) => self.revoke(now, &name, out),
            Input::LinkUp(link, agent) => self.link_up(now, link, agent, out),
            Input::LinkDown(link) => self.link_down(now, link, out),
            Input::Message(link, message) => self.message(now, link, message, out),
            Input::Data(link, header, bytes) => self.data(now, link, header, &bytes, out),
            Input::Malformed(link, why) => self.dismiss(now, link, why, None, out),
            Input::Unknown(link, what) => self.pass_over(now, link, &what, out),
            Input::Event(record, specs) => self.event(now, record, specs, out),
            Input::Restore(event, specs, jobs) => self.restore(now, event, specs, jobs, out),
            Input::Lost(jobs, why) => self.schedule(now, scheduler::Input::Lost(jobs, why), out),
            Input::Resume(key, lengths) => {
                let Some(intake) = self.intakes.get_mut(&key) else {
                    return self.bugs.note("resume: nothing of this attempt may grow");
                };
                intake.streams = lengths.into_iter().take(STREAMS).map(StreamReceiver::at).collect();
            }
            Input::Replay(key, bytes) => self.fold(now, key, &bytes, out),
            Input::Rebuild(rebuild) => self.rebuild(now, rebuild, out),
            Input::Expected(prefetch) => self.prefetch(&prefetch, out),
            Input::Flushed(key, stream, length) => self.flushed(now, key, stream, length, out),
            Input::Sealed(key, stream, right) => self.sealed(now, key, stream, right, out),
            Input::Unwritable(key, why) => {
                out.push(Output::Say(format!("job {key}: {why}")));
                self.schedule(now, scheduler::Input::Unwritable(key, why), out);
            }
            Input::Cancel(jobs, who) => self.schedule(now, scheduler::Input::Cancel(jobs, who), out),
            Input::Obsolete(obsolete) => {
                let jobs = self.obsolete(&obsolete);
                self.schedule(now, scheduler::Input::Cancel(jobs, obsolete.why), out);
            }
            Input::Session(asked, spec, numbers) => self.session_begins(now, asked, spec, numbers, out),
            Input::Lease(wish) => self.lease(now, wish, out),
            Input::Check(of, spec, numbers, person) => self.check_begins(now, of, spec, numbers, person, out),
            Input::BoardAside(agent, board, by) => {
                // Revoked meanwhile.
                if self.agents.get(&agent).is_some_and(AgentRecord::may_join) {
                    out.push(Output::Touch(Touch::Agent(agent.clone())));
                    self.schedule(now, scheduler::Input::BoardAside(agent, board, by), out);
                }
            }
            Input::Word(word) => self.word(now, word, out),
            Input::Update(names, wanted) => self.update(&names, &wanted, out),
            Input::Share(sharing) => self.schedule(now, scheduler::Input::Share(sharing), out),
            Input::FreeUnits(number) => self.schedule(now, scheduler::Input::Free(number), out),
            Input::SetAside(agent, aside) => {
                out.push(Output::Touch(Touch::Agent(agent.clone())));
                self.schedule(now, scheduler::Input::SetAside { agent, aside }, out);
            }
            Input::Hold(why) => self.schedule(now, scheduler::Input::Hold(why), out),
            Input::Missed(missed) => self.door_missed(missed),
            Input::Slept(slept) => {
                self.door_missed(slept);
                self.leases_slept(slept);
                self.schedule(now, scheduler::Input::Slept(slept), out);
            }
            Input::Settings(terms, policy) => {
                let units = terms.units.clone();
                self.terms = terms;
                self.schedule(now, scheduler::Input::Settings(policy, units), out);
                self.schedule(now, scheduler::Input::Tick, out);
            }
            Input::Tick => {
                self.door_tick(now, out);
                self.leases_due(now, out);
                self.schedule(now, scheduler::Input::Tick, out);
            }
        }
    }

    /// Lets the scheduler take an input and carries its outputs on.
    fn schedule(&mut self, now: Now, input: scheduler::Input, out: &mut Vec<Output>) {
        let mut outputs = Vec::new();
        self.scheduler.handle(now, input, &mut outputs);
        for output in outputs {
            match output {
                scheduler::Output::Changed(id) => self.changed(now, id, out),
                scheduler::Output::Assign(agent, key) => {
                    if let Some(assignment) = self.assignment(key) {
                        self.intakes.insert(key, Intake::default());
                        self.lease_begins(now, key.job);
                        self.send(&agent, MasterMessage::Assign(assignment), out);
                        self.ask_clock(now, &agent, out);
                    } else {
                        let why = "its saifile, as this master reads it, has no such job".to_string();
                        self.schedule(now, scheduler::Input::Impossible(key.job, why), out);
                    }
                    out.push(Output::Touch(Touch::Agent(agent)));
                }
                scheduler::Output::Adopt(agent, key) => {
                    let Some(intake) = self.intakes.get(&key) else {
                        self.bugs.note("adopt: nothing is taken of this attempt");
                        continue;
                    };
                    let lengths = intake.streams.iter().map(StreamReceiver::durable).collect();
                    self.send(&agent, MasterMessage::Adopt(Adopt { key, lengths }), out);
                }
                scheduler::Output::Forget(agent, key) => {
                    // An agent may claim to hold what is another's: it is told to forget it, and the other goes on.
                    // What somebody else is still awaited with is kept for that one, too.
                    let of_another = self.scheduler.awaited(key).is_some_and(|awaited| awaited != agent);
                    let over = self.scheduler.holder(key).is_none() && !of_another;
                    if over && self.intakes.remove(&key).is_some() {
                        out.push(Output::Finish(key));
                    }
                    self.send(&agent, MasterMessage::Forget(Forget { key }), out);
                    out.push(Output::Touch(Touch::Agent(agent)));
                }
                scheduler::Output::Cancel(agent, key, why) => {
                    self.send(&agent, MasterMessage::Cancel(Cancel { key, why }), out);
                }
                scheduler::Output::Holds(agent) => {
                    let grants = self.scheduler.grants(&agent);
                    let boards = self.scheduler.board_records(&agent);
                    match self.agents.get_mut(&agent) {
                        Some(record) => {
                            record.grants = (!grants.is_empty()).then_some(grants);
                            record.boards = (!boards.is_empty()).then_some(boards);
                            out.push(Output::Agent(record.clone()));
                        }
                        None => self.bugs.note("holds: no such agent"),
                    }
                    out.push(Output::Touch(Touch::Agent(agent)));
                }
                scheduler::Output::Check(of) => self.check(now, of, out),
                scheduler::Output::Bug(what) => out.push(Output::Bug(what)),
            }
        }
    }

    fn changed(&mut self, now: Now, id: JobId, out: &mut Vec<Output>) {
        // One that ended in this turn was told whole when it changed first.
        let Some(record) = self.scheduler.job(id).cloned() else { return };
        self.lease_follows(now, &record);
        if record.state.ended() {
            self.session_ended(&record, out);
            self.schedule(now, scheduler::Input::Release(id), out);
            if let Some(plan) = self.plans.get_mut(&record.event) {
                plan.specs.remove(&id);
                if plan.specs.is_empty() {
                    self.plans.remove(&record.event);
                }
            }
        }
        out.push(Output::Touch(Touch::Job(id)));
        out.push(Output::Touch(Touch::Event(record.event)));
        out.push(Output::Job(self.with_clock(now, record)));
    }

    fn link_of(&self, agent: &str) -> Option<LinkId> {
        self.connected.get(agent).map(|connected| connected.link)
    }

    fn send(&self, agent: &str, message: MasterMessage, out: &mut Vec<Output>) {
        if let Some(link) = self.link_of(agent) {
            out.push(Output::Send(link, message));
        }
    }

    fn assignment(&self, key: JobKey) -> Option<Assignment> {
        let record = self.scheduler.job(key.job)?;
        let plan = self.plans.get(&record.event)?;
        let spec = plan.specs.get(&key.job)?;
        Some(Assignment {
            key,
            repository: record.repository.clone(),
            url: self.place(&plan.event),
            reference: plan.event.reference.clone(),
            revision: plan.event.revision.clone(),
            platform: record.platform.clone(),
            configuration: record.configuration.clone(),
            steps: spec.steps.clone(),
            env: spec.env.clone(),
            artifacts: spec.artifacts.clone(),
            timeout_s: spec.timeout_s.unwrap_or(self.terms.timeout_s),
            step_timeout_s: spec.step_timeout_s,
            log_bytes: self.terms.log_bytes,
            log_limit_fails: self.terms.log_limit_fails,
            submodules: self.terms.submodules.get(&record.repository).copied().unwrap_or(false),
            needs: record.needs.clone(),
            root: record.root,
            offered: record.offered.clone(),
            board: spec.board.as_ref().zip(record.given.as_ref()).map(|(spec, given)| AtBoard {
                name: given.name.clone(),
                grant: given.grant,
                trial: spec.trial.clone(),
                others: given.others.clone(),
            }),
            session: record.session.as_ref().map(|of| SessionOf { key: of.key, number: of.number }),
            lease: record.lease.as_ref().map(|_| record.person.clone().unwrap_or_default()),
            health: record.health.as_ref().map(|_| true),
            bundle: record.bundle.clone(),
        })
    }

    /// Where an event's repository is fetched: as it is configured now, credentials and all, if that is where it was then.
    fn place(&self, event: &EventRecord) -> CloneUrl {
        let recorded = CloneUrl::from(event.url.as_str());
        let configured = self.terms.places.get(&event.repository);
        configured.filter(|place| place.shown() == recorded.shown()).cloned().unwrap_or(recorded)
    }

    fn message(&mut self, now: Now, link: LinkId, message: AgentMessage, out: &mut Vec<Output>) {
        // What a link says that was let go is not heard any more.
        let Some(name) = self.links.get(&link).cloned() else { return };
        let greeted = self.link_of(&name) == Some(link);
        match message {
            AgentMessage::Hello(_) if greeted => self.dismiss(now, link, "a second greeting".to_string(), None, out),
            AgentMessage::Hello(hello) => self.hello(now, link, name, hello, out),
            _ if !greeted => self.dismiss(now, link, "a message before the greeting".to_string(), None, out),
            AgentMessage::Load(load) => {
                let input = scheduler::Input::AgentLoad { agent: name.clone(), load_permille: load.load_permille };
                if let Some(connected) = self.connected.get_mut(&name) {
                    connected.load = Some(load);
                }
                self.schedule(now, input, out);
                out.push(Output::Touch(Touch::Agent(name)));
            }
            AgentMessage::Offer(offer) => self.offer(now, name, offer, out),
            AgentMessage::Session(asked) => self.session_asked(now, &name, asked, out),
            AgentMessage::Updating(updating) => self.update_said(&name, updating, out),
            AgentMessage::Pong(pong) => {
                self.clock_told(now, &name, &pong);
                self.pong(now, &name, pong.number, out);
            }
            AgentMessage::Refuse(refuse) => {
                if self.scheduler.holder(refuse.key) == Some(name.as_str()) {
                    let blame = Blame::of(refuse.trouble.as_deref());
                    self.broken(now, refuse.key, blame, format!("{name}: {}", plain(&refuse.why)), out);
                    self.schedule(now, scheduler::Input::Returned(name, refuse.key), out);
                }
            }
            AgentMessage::Units(units) => self.units_told(now, name, units, out),
        }
    }

    /// Ends an attempt through trouble that its agent, or we, had.
    fn broken(&mut self, now: Now, key: JobKey, blame: Blame, why: String, out: &mut Vec<Output>) {
        out.push(Output::Say(format!("job {key}: {why}")));
        self.schedule(now, scheduler::Input::Broken(key, blame, why), out);
    }

    fn event(&mut self, now: Now, record: EventRecord, specs: Vec<JobSpec>, out: &mut Vec<Output>) {
        out.push(Output::Event(record.clone()));
        out.push(Output::Touch(Touch::Event(record.id)));
        let mut jobs = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            jobs.push(JobRecord {
                platform: spec.platform.clone(),
                configuration: spec.configuration.clone(),
                priority: spec.priority,
                root: spec.root,
                steps: spec.steps_shown() as u32,
                bundle: spec.bundle.clone(),
                ..JobRecord::queued(record.first_job + index as u64, record.id, &record.repository, now.wall)
            });
        }
        let sent = specs.iter().find_map(|spec| spec.bundle.as_ref());
        let person = sent.map(|bundle| bundle.person.clone());
        let (event, others) = (record, Vec::new());
        self.rebuild(now, Rebuild { event, specs, jobs, others, person }, out);
    }

    fn remember(&mut self, event: EventRecord, specs: Vec<JobSpec>, jobs: &[JobRecord]) {
        let first = event.first_job;
        let id = event.id;
        let plan = self.plans.get_or_insert_with(id, || Plan { event, specs: Map::new() });
        let wanted = Set::from_iter(jobs.iter().map(|record| record.id));
        for (index, spec) in specs.into_iter().enumerate() {
            let job = first + index as u64;
            if wanted.contains(&job) {
                plan.specs.insert(job, spec);
            }
        }
        if plan.specs.is_empty() {
            self.plans.remove(&id);
        }
    }

    fn timeout_s(&self, record: &JobRecord) -> u64 {
        let spec = self.plans.get(&record.event).and_then(|plan| plan.specs.get(&record.id));
        spec.and_then(|spec| spec.timeout_s).unwrap_or(self.terms.timeout_s)
    }

    fn rebuild(&mut self, now: Now, rebuild: Rebuild, out: &mut Vec<Output>) {
        let Rebuild { event, specs, mut jobs, others, person } = rebuild;
        let id = event.id;
        self.plan(&event, &specs, &mut jobs, &others);
        for record in &mut jobs {
            record.person.clone_from(&person);
        }
        self.remember(event, specs, &jobs);
        let timed = |record: JobRecord| {
            let timeout_s = self.timeout_s(&record);
            (record, timeout_s)
        };
        let jobs = jobs.into_iter().map(timed).collect();
        self.schedule(now, scheduler::Input::Queue(jobs), out);
        // What the scheduler did not take needs no steps.
        if let Some(plan) = self.plans.get_mut(&id) {
            plan.specs.retain(|job, _| self.scheduler.job(*job).is_some());
            if plan.specs.is_empty() {
                self.plans.remove(&id);
            }
        }
    }

    fn restore(
        &mut self,
        now: Now,
        event: EventRecord,
        specs: Vec<JobSpec>,
        jobs: Vec<JobRecord>,
        out: &mut Vec<Output>,
    ) {
        let (mut jobs, others): (Vec<JobRecord>, Vec<JobRecord>) =
            jobs.into_iter().partition(|record| !record.state.ended());
        self.meet(&mut jobs, &others);
        self.remember(event, specs, &jobs);
        for record in jobs {
            let timeout_s = self.timeout_s(&record);
            if may_still_grow(&record) {
                self.intakes.insert(JobKey { job: record.id, attempt: record.attempt }, Intake::default());
            }
            let id = record.id;
            let given = matches!(record.state, JobState::Assigned | JobState::Running);
            self.schedule(now, scheduler::Input::Restore(record, timeout_s), out);
            if given {
                self.lease_begins(now, id);
            }
        }
    }

    fn prefetch(&self, prefetch: &Prefetch, out: &mut Vec<Output>) {
        let links = self.scheduler.warm_with_room(&prefetch.repository).filter_map(|name| self.link_of(name));
        for link in links.take(PREFETCHERS) {
            out.push(Output::Send(link, MasterMessage::Prefetch(prefetch.clone())));
        }
    }
}

/// Whether more may come of a job's last attempt: it is under way, or was not given up for good.
pub fn may_still_grow(record: &JobRecord) -> bool {
    match record.state {
        JobState::Assigned | JobState::Running => true,
        JobState::Queued => record.awaited == Some(true),
        _ => false,
    }
}

/// An agent's words as they may stand anywhere: no control characters, which a terminal would obey, and not too many.
fn plain(text: &str) -> String {
    text.chars().take(WORDS).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
