//! Seed → a whole constellation in one thread: the real machines of the core, simulated edges, faults at any moment,
//! and checks all along.
//!
//! The hub, the flushes of its files, the agents' sessions, and of each attempt its run, its sweep, its backlog and the fetching of
//! what it needs are the shipped ones. Around them are a virtual clock, links that delay, stall and break, a master's disk that forgets what was not flushed, job directories and supervisors that outlive their agent.
//! Same seed, same world. First trouble is made for some virtual minutes; then it stops, and everything must come to
//! its end.

mod benches;
mod bug;
mod checks;
mod disk;
mod faults;
mod fetches;
mod files;
mod forge;
mod host;
mod images;
mod leases;
mod liar;
mod master;
mod network;
mod processes;
mod random;
mod room;
mod sessions;
mod store;
mod supervisor;
mod waits;

pub use bug::Bug;

use checks::Oracle;
use host::Host;
use master::Master;
use network::{Network, Side};
use random::Random;
use sai_core::clock::Now;
use sai_core::hub::{LinkId, Rebuild};
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::EventRecord;
use sai_core::limits::Millis;
use sai_core::matrix::JobSpec;
use sai_core::scheduler::Policy;
use sai_core::watch;
use sessions::Numbered;
use std::collections::BTreeMap;
use std::fmt;

/// Virtual time at which worlds begin: a clock that starts at 0 would hide mistakes with absolute times.
const START: Millis = 1_800_000_000_000;
/// Virtual milliseconds within which everything has ended once trouble has.
const BOUND_MS: Millis = 4 * 3_600_000;
/// Turns of the event loop one world may take: a loop that makes no progress in virtual time ends here.
const TURNS: u64 = 3_000_000;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// What was seen.
    pub seen: String,
    /// Virtual milliseconds since the world began.
    pub at: Millis,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ms: {}: {}", self.at, self.promise, self.seen)
    }
}

/// What happened in a world: shows that the checks had something to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Attempts started.
    pub attempts: u64,
    /// Jobs that ended by a verdict, artifacts and log compared.
    pub decided: u64,
    /// Jobs that ended as cancelled, expired or by trouble of ours.
    pub undecided: u64,
    /// Attempts taken up again over a new link or by a new master.
    pub adopted: u64,
    /// Attempts an agent was told to delete.
    pub forgotten: u64,
    /// Attempts whose agent held them when the master had given them up.
    pub ghosts: u64,
    /// Crashes of the master.
    pub master_crashes: u64,
    /// Crashes of agents.
    pub agent_crashes: u64,
    /// Links cut.
    pub cuts: u64,
    /// Turns of the master lost by a crash.
    pub turns_lost: u64,
    /// Bytes at the master lost by a crash.
    pub bytes_lost: u64,
    /// Lies told by lying agents.
    pub lies: u64,
    /// Times a link's window was full.
    pub full_windows: u64,
    /// Artifacts compared with their digest.
    pub seals: u64,
    /// Agents refused for another identity.
    pub impostors: u64,
    /// Times the master's clock was set.
    pub steps: u64,
    /// Machines refused because another one uses their identity.
    pub twins: u64,
    /// Attempts whose processes were not gone at the first look.
    pub swept: u64,
    /// Jobs skipped because another one did not pass.
    pub skipped: u64,
    /// Jobs started whose needs had passed.
    pub unblocked: u64,
    /// Attempts started that hold units.
    pub granted: u64,
    /// Attempts started at boards.
    pub at_boards: u64,
    /// Sessions at boards that steps had.
    pub sessions: u64,
    /// Boards that people asked for.
    pub leases: u64,
    /// Checks of boards that were begun.
    pub checks: u64,
    /// Boards that people set aside, or took back.
    pub boards_aside: u64,
    /// Words of people that were done at their boards.
    pub words: u64,
    /// Attempts that met a broken image.
    pub broken_images: u64,
    /// Logs packed.
    pub packs: u64,
    /// Flushes that failed.
    pub failed_flushes: u64,
    /// Jobs that ended because a starting master found no plan of them.
    pub lost: u64,
    /// Looks at repositories that were made to their end.
    pub looks: u64,
    /// Questions that a forge did not answer.
    pub failed_looks: u64,
    /// Hooks that nobody heard.
    pub lost_hooks: u64,
    /// Revisions told as passed by a later push.
    pub superseded: u64,
    /// Turns of supervisors that waited for room on their disk.
    pub full_disks: u64,
    /// Attempts given up since there was no room for their verdict.
    pub given_up: u64,
    /// Events whose files were flushed.
    pub flushed_files: u64,
    /// Events whose files a start wrote again.
    pub written_again: u64,
    /// Files of needs that came.
    pub fetched: u64,
    /// Tries to fetch one that failed.
    pub failed_fetches: u64,
    /// What ended steps had left that was read at a full disk.
    pub rests: u64,
    /// Times the master's disk was seen to be nearly full.
    pub low_disks: u64,
    /// Times that a write of the master's waited for room.
    pub waits_for_room: u64,
}

impl Summary {
    /// Adds another world's.
    pub fn add(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.decided += other.decided;
        self.undecided += other.undecided;
        self.adopted += other.adopted;
        self.forgotten += other.forgotten;
        self.ghosts += other.ghosts;
        self.master_crashes += other.master_crashes;
        self.agent_crashes += other.agent_crashes;
        self.cuts += other.cuts;
        self.turns_lost += other.turns_lost;
        self.bytes_lost += other.bytes_lost;
        self.lies += other.lies;
        self.full_windows += other.full_windows;
        self.seals += other.seals;
        self.impostors += other.impostors;
        self.steps += other.steps;
        self.twins += other.twins;
        self.swept += other.swept;
        self.skipped += other.skipped;
        self.unblocked += other.unblocked;
        self.granted += other.granted;
        self.at_boards += other.at_boards;
        self.sessions += other.sessions;
        self.leases += other.leases;
        self.checks += other.checks;
        self.boards_aside += other.boards_aside;
        self.words += other.words;
        self.broken_images += other.broken_images;
        self.packs += other.packs;
        self.failed_flushes += other.failed_flushes;
        self.lost += other.lost;
        self.looks += other.looks;
        self.failed_looks += other.failed_looks;
        self.lost_hooks += other.lost_hooks;
        self.superseded += other.superseded;
        self.full_disks += other.full_disks;
        self.given_up += other.given_up;
        self.flushed_files += other.flushed_files;
        self.written_again += other.written_again;
        self.fetched += other.fetched;
        self.failed_fetches += other.failed_fetches;
        self.rests += other.rests;
        self.low_disks += other.low_disks;
        self.waits_for_room += other.waits_for_room;
    }
}

/// What is to happen at some moment. The numbers called `boot` tell whether the process it was meant for still runs.
#[derive(Clone, Debug)]
enum Event {
    /// The next frame of a link arrives at this side.
    Arrive(LinkId, Side),
    /// This side notices that its link is gone.
    Gone(LinkId, Side),
    /// The master's listener has the connection.
    Accept(LinkId),
    /// The agent's dial has succeeded.
    Connected(LinkId),
    /// The writer of this agent's link can take more.
    Writable(usize, u64, LinkId),
    AgentTick(usize, u64),
    MasterTick(u64),
    /// The group of turns under way in the ledger is durable.
    Committed(u64),
    /// A file was flushed to this length.
    Flushed(u64, JobKey, u16, usize),
    /// An artifact was compared with its digest.
    Compared(u64, JobKey, u16),
    /// Few bytes have waited long enough for a flush.
    StoreTick(u64),
    /// Nothing was written for long enough to flush files of events.
    LullTick(u64),
    /// Files of events were flushed.
    FilesFlushed(u64, Vec<EventId>),
    /// An agent asks for a file of needs, or for more of it.
    Fetch(usize, u64, JobKey),
    /// A file of needs is to be asked for again.
    FetchTick(usize, u64, JobKey),
    /// A job directory's supervisor is to be started.
    Spawn(usize, u64, JobKey),
    /// A supervisor writes.
    Grow(usize, JobKey),
    /// The agent notices that streams have grown.
    Notice(usize, u64, JobKey),
    StartAgent(usize),
    StartMaster,
    /// Somebody pushes.
    Push,
    /// A hook tells of a push to a repository, or somebody asks for a look.
    Hook(usize, Option<(String, String)>),
    /// What the watch of a repository asks reaches who is to answer it.
    Asked(u64, usize, watch::Output),
    /// An answer reaches the watch of a repository.
    Told(u64, usize, watch::Input),
    /// The time that the watch of a repository waits for has come.
    WatchTick(u64, usize),
    /// Somebody cancels, rebuilds, holds, sets aside, revokes.
    Person,
    /// A session has its numbers.
    Numbered(u64, Box<(Numbered, JobSpec)>, (EventId, JobId)),
    /// What somebody asked to be rebuilt reaches the hub.
    Rebuild(u64, Rebuild),
    /// Something breaks.
    Trouble,
    /// Nothing breaks any more.
    Calm,
    /// A look at everything.
    Inspect,
}

type Outcome<T = ()> = Result<T, Violation>;

struct World {
    now: Millis,
    /// How far the clock of the master's machine is ahead, or behind, after somebody has set it.
    skew: i64,
    sequence: u64,
    events: BTreeMap<(Millis, u64), Event>,
    random: Random,
    bug: Option<Bug>,
    trace: bool,
    calm: Option<Millis>,
    temper: faults::Temper,
    policy: Policy,
    network: Network,
    master: Master,
    hosts: Vec<Host>,
    forges: Vec<forge::Forge>,
    oracle: Oracle,
    /// What each event's saifile gives.
    saifiles: BTreeMap<EventId, (EventRecord, Vec<JobSpec>)>,
    /// What the master's disk has of it.
    plans: BTreeMap<EventId, Vec<u8>>,
    summary: Summary,
}

/// Lets one world live from its seed to its end. With `trace`, each step is printed to stderr.
///
/// # Errors
/// The first promise that was broken.
pub fn run(seed: u64, bug: Option<Bug>, trace: bool) -> Result<Summary, Violation> {
    let mut world = World::new(seed, bug, trace);
    world.live()?;
    Ok(world.summary)
}

impl World {
    fn new(seed: u64, bug: Option<Bug>, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let mut policy = Policy {
            orphan_ms: random.between(20_000, 120_000),
            expire_ms: 20 * 60_000,
            retry_ms: 1_000,
            cancel_ms: 20_000,
            overdue_ms: 60_000,
            aside_ms: 10_000,
            grace_ms: 60_000,
        };
        let temper = faults::Temper::new(&mut random);
        let orphan_ms = policy.orphan_ms;
        if bug == Some(Bug::OrphanNeverTimedOut) {
            policy.orphan_ms = 1_000 * 3_600_000;
        }
        let mut world = Self {
            now: START,
            skew: 0,
            sequence: 0,
            events: BTreeMap::new(),
            random,
            bug,
            trace,
            calm: None,
            temper,
            policy,
            network: Network::default(),
            master: Master::default(),
            hosts: Vec::new(),
            forges: Vec::new(),
            oracle: Oracle::new(orphan_ms),
            saifiles: BTreeMap::new(),
            plans: BTreeMap::new(),
            summary: Summary::default(),
        };
        world.populate();
        world
    }

    fn live(&mut self) -> Outcome {
        let mut turns = 0;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            turns += 1;
            if turns > TURNS {
                return self.broken("progress", format!("{TURNS} steps and no end; now {event:?}"));
            }
            if matches!(event, Event::Inspect) {
                if self.inspect()? {
                    return self.farewell();
                }
                self.after(5_000, Event::Inspect);
            } else {
                self.happen(event)?;
            }
        }
        self.broken("progress", "nothing is left to happen".to_string())
    }

    fn happen(&mut self, event: Event) -> Outcome {
        match event {
            Event::Arrive(link, Side::Master) => self.arrive_at_master(link),
            Event::Arrive(link, Side::Agent) => self.arrive_at_agent(link),
            Event::Gone(link, Side::Master) => self.master_loses(link),
            Event::Gone(link, Side::Agent) => self.agent_loses(link),
            Event::Accept(link) => self.accept(link),
            Event::Connected(link) => self.connected(link),
            Event::Writable(host, boot, link) => self.writable(host, boot, link),
            Event::AgentTick(host, boot) => self.agent_tick(host, boot),
            Event::MasterTick(boot) => self.master_tick(boot),
            Event::Committed(boot) => self.committed(boot),
            Event::Flushed(boot, key, stream, length) => self.flushed(boot, key, stream, length),
            Event::Compared(boot, key, stream) => self.compared(boot, key, stream),
            Event::StoreTick(boot) => self.store_tick(boot),
            Event::LullTick(boot) => self.lull_tick(boot),
            Event::FilesFlushed(boot, events) => self.files_flushed(boot, events),
            Event::Fetch(host, boot, key) => self.fetch(host, boot, key),
            Event::FetchTick(host, boot, key) => self.fetch_tick(host, boot, key),
            Event::Spawn(host, boot, key) => self.spawn(host, boot, key),
            Event::Grow(host, key) => self.grow(host, key),
            Event::Notice(host, boot, key) => self.notice(host, boot, key),
            Event::StartAgent(host) => self.start_agent(host),
            Event::StartMaster => self.start_master(),
            Event::Push => self.push(),
            Event::Hook(forge, push) => self.hook(forge, push),
            Event::Asked(boot, forge, question) => self.asked(boot, forge, question),
            Event::Told(boot, forge, answer) => self.told(boot, forge, answer),
            Event::WatchTick(boot, forge) => self.watch_tick(boot, forge),
            Event::Person => self.person(),
            Event::Numbered(boot, what, numbers) => self.numbered(boot, *what, numbers),
            Event::Rebuild(boot, rebuild) => self.rebuilt(boot, rebuild),
            Event::Trouble => self.trouble(),
            Event::Calm => self.calm(),
            Event::Inspect => Ok(()),
        }
    }

    fn at(&mut self, at: Millis, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.now), self.sequence), event);
    }

    fn after(&mut self, wait: Millis, event: Event) {
        self.at(self.now.saturating_add(wait), event);
    }

    fn broken<T>(&self, promise: &'static str, seen: String) -> Outcome<T> {
        Err(Violation { promise, seen, at: self.now - START })
    }

    /// A machine says that it has found what cannot be.
    fn contradicted<T>(&self, what: &'static str) -> Outcome<T> {
        self.broken("no machine contradicts itself", what.to_string())
    }

    /// This moment as the master's machine sees it.
    fn moment(&self) -> Now {
        let wall = self.now.saturating_add_signed(self.skew);
        Now { steady: if self.bug == Some(Bug::DurationsOfTheWall) { wall } else { self.now }, wall }
    }

    fn note(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{:>9} {}", self.now - START, what());
        }
    }
}
