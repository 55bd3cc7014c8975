//! Change → who must hear of it: the state the page shows beside the records, and a notifier that never waits.
//!
//! The hub writes [`Live`] and calls [`Changes::touch`]; each viewer owns a [`Watch`], which holds the set of topics that
//! changed since it last looked. Touching a topic twice is touching it once, and a set that grows past its bound becomes
//! "everything": a viewer's memory is bounded whatever the rate, and nobody waits for a viewer.

use sai_agent::clock::wall;
use sai_core::bug;
use sai_core::forge_page::ForgePage;
use sai_core::hub::Hub;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::limits::Millis;
use sai_core::offset::Offset;
use sai_core::ordered::{Map, Set};
use sai_core::scheduler::{BoardRow, UnitRow};
use sai_core::updating;
use smol::channel;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Topics one viewer remembers one by one; past it, everything it watches is taken as changed. An event of a few hundred
/// jobs then costs one whole fragment instead of hundreds of small ones.
const DIRTY_TOPICS: usize = 64;

/// Changed jobs that are remembered one by one for who keeps sums of them, half a megabyte; past it all count as changed.
const CHANGED_JOBS: usize = 65_536;

/// Changes of jobs whose moment is remembered, 400 KB: those of the time between a page's making and its first question,
/// also on a master whose jobs change hundreds of times a second.
const MOMENTS: usize = 16_384;

/// An agent as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveAgent {
    /// Its name, unique.
    pub name: String,
    /// Host name it announced.
    pub host: String,
    /// Platforms it offers.
    pub platforms: Vec<String>,
    /// Jobs it can run at once.
    pub slots: u32,
    /// Processor cores.
    pub cores: u32,
    /// What people should know of it, a sentence each.
    pub notes: Vec<String>,
    /// One-minute load average × 1000 / cores.
    pub load_permille: u32,
    /// Free space where its jobs work, MiB.
    pub free_mib: u64,
    /// Whether its link is up.
    pub connected: bool,
    /// Since when its link is up, or down, Unix milliseconds.
    pub connected_since: u64,
    /// Attempts it has under way.
    pub running: Vec<JobKey>,
    /// Why it is given no jobs, if so.
    pub set_aside: Option<String>,
    /// What it gets no jobs of for a while, why and until when: a sentence each.
    pub paused: Vec<String>,
    /// That another machine uses its identity, in a sentence, if one came lately.
    pub twin: Option<String>,
    /// What its machine was started from, where that is a card, and how far it is with another image, in a sentence.
    pub card: Option<String>,
    /// How many messages and frames it has sent that were of no known kind.
    pub passed_over: u64,
    /// How far its clock is ahead of the master's, as far as that is known.
    pub clock: Option<Offset>,
    /// When anything of this but its load and free space changed last, Unix milliseconds.
    pub changed_at: u64,
}

impl LiveAgent {
    /// An agent of the hub's, unless it may not join any more.
    pub fn of(hub: &Hub, now: Millis, name: &str) -> Option<Self> {
        let record = hub.agents().get(name).filter(|record| !record.revoked)?;
        let connected = hub.connected().get(name);
        let hello = connected.map(|connected| &connected.hello);
        let load = connected.and_then(|connected| connected.load.as_ref());
        Some(Self {
            name: name.to_string(),
            host: record.host.clone(),
            platforms: hello.map_or_else(|| record.platforms.clone(), |hello| hello.platforms.clone()),
            slots: hello.map_or(0, |hello| hello.slots),
            cores: hello.map_or(0, |hello| hello.cores),
            notes: hello.and_then(|hello| hello.notes.clone()).unwrap_or_default(),
            load_permille: load.map_or(0, |load| load.load_permille),
            free_mib: load.map_or(0, |load| load.free_mib),
            connected: connected.is_some(),
            connected_since: connected.map_or(record.seen_at.unwrap_or(0), |connected| connected.since),
            running: hub.scheduler().runs(name).collect(),
            set_aside: hub.scheduler().aside(name),
            paused: hub.scheduler().paused(now, name),
            twin: hub.twin(now, name),
            card: updating::told(record, hub.update_progress(name).as_deref()),
            passed_over: hub.passed_over(name),
            clock: connected.and_then(|connected| connected.clock_ahead(now)),
            changed_at: 0,
        })
    }
}

impl Live {
    /// The pages of a repository at its forge, if they are known.
    pub fn forge(&self, repository: &str) -> Option<ForgePage> {
        self.repositories.iter().find(|known| known.name == repository)?.forge.clone()
    }
}

impl LiveAgent {
    /// Whether nothing but load, free space and a count differs.
    pub fn is_much_like(&self, other: &Self) -> bool {
        let (load_permille, free_mib, changed_at) = (other.load_permille, other.free_mib, other.changed_at);
        Self { load_permille, free_mib, changed_at, passed_over: other.passed_over, ..self.clone() } == *other
    }
}

/// A repository as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveRepository {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is fetched, without credentials.
    pub url: String,
    /// One sentence: when it was looked at and what came of it.
    pub state: String,
    /// Whether that is trouble.
    pub trouble: bool,
    /// Its pages at its forge, if they are known.
    pub forge: Option<ForgePage>,
}

/// What is known now and is in no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Address of the master itself.
    pub url: String,
    /// Agents by name. Who shows them takes these along, so that the hub need not wait for a page.
    pub agents: Map<String, Arc<LiveAgent>>,
    /// Why each queued job waits.
    pub waiting: Map<JobId, String>,
    /// Repositories, in the configuration's order.
    pub repositories: Vec<LiveRepository>,
    /// What kept jobs of a repository from being begun several times in a row, by its name.
    pub troubles: Map<String, String>,
    /// What there is of each unit, who holds it and until when at most, in a sentence each.
    pub units: Vec<String>,
    /// The same, and who waits, for the page.
    pub unit_table: Vec<UnitRow>,
    /// Boards that agents offer.
    pub boards: Vec<BoardRow>,
    /// Sentences for the top of every page, such as "no new jobs: the disk is nearly full".
    pub notices: Vec<String>,
    /// Durable length of each running attempt's log.
    pub log_lengths: Map<JobKey, u64>,
    /// What machines of the core have found that cannot be, each once: a mistake in Sai.
    pub bugs: Vec<&'static str>,
    /// How often.
    pub bugs_found: u64,
}

impl Live {
    /// A machine has found what cannot be. Whether that is news.
    pub fn note_bug(&mut self, what: &'static str) -> bool {
        self.bugs_found = self.bugs_found.saturating_add(1);
        let news = !self.bugs.contains(&what);
        if news {
            self.bugs.push(what);
        }
        news
    }

    /// Sentences for the top of every page, the mistakes of our own included.
    pub fn all_notices(&self) -> Vec<String> {
        self.notices.iter().cloned().chain(self.bugs.iter().map(|what| bug::sentence(what))).collect()
    }
}

/// Tells people that a machine of the core has found what cannot be: in the log, once each, and wherever there are notices.
pub fn tell_bug(live: &RwLock<Live>, what: &'static str) {
    let news = live.write().unwrap_or_else(PoisonError::into_inner).note_bug(what);
    if news {
        crate::say(&bug::sentence(what));
    }
    sai_agent::end_of_tests();
}

/// A master with fewer events than this is told how to begin.
pub const YOUNG: usize = 2;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// The list of events, or a notice.
    Events,
    /// One event.
    Event(EventId),
    /// One job: its state, or why it waits.
    Job(JobId),
    /// The log of an attempt grew.
    Log(JobKey),
    /// An agent came, went, or does something else.
    Agents,
    /// Units are held by others, or waited for by others.
    Units,
}

/// What a viewer looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The list of events.
    Events,
    /// One event and its jobs.
    Event(EventId, Range<JobId>),
    /// One attempt of a job and its log.
    Job(JobKey),
    /// The agents.
    Agents,
    /// The units.
    Units,
}

impl Scope {
    fn covers(&self, topic: Topic) -> bool {
        match (self, topic) {
            (Self::Events, Topic::Events | Topic::Event(_) | Topic::Job(_)) | (Self::Agents, Topic::Agents) => true,
            (Self::Event(event, _), Topic::Event(touched)) => *event == touched,
            (Self::Event(_, jobs), Topic::Job(job)) => jobs.contains(&job),
            (Self::Job(key), Topic::Job(job)) => key.job == job,
            (Self::Job(key), Topic::Log(touched)) => *key == touched,
            (Self::Units, Topic::Units) => true,
            _ => false,
        }
    }
}

/// What changed since a viewer last looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// The topics, each once.
    pub topics: Set<Topic>,
    /// More topics than are remembered one by one: take everything as changed.
    pub all: bool,
}

struct Watcher {
    scope: Scope,
    dirty: Mutex<Dirty>,
    wake: channel::Sender<()>,
}

/// The notifier. One for the master.
#[derive(Default)]
pub struct Changes {
    watchers: Mutex<Watchers>,
    jobs: Mutex<ChangedJobs>,
    moments: Mutex<Moments>,
}

/// When jobs changed, Unix milliseconds, as long as that is remembered.
struct Moments {
    all: VecDeque<(u64, JobId)>,
    /// Up to when changes may have been forgotten.
    forgotten: u64,
}

impl Default for Moments {
    /// Of what was before this process nothing is known.
    fn default() -> Self {
        Self { all: VecDeque::new(), forgotten: wall() }
    }
}

/// When each job changed last, as far as that is remembered.
pub struct Touched {
    last: Map<JobId, u64>,
    forgotten: u64,
}

impl Touched {
    /// The moment up to which a job may have changed, Unix milliseconds.
    pub fn last(&self, job: JobId) -> u64 {
        self.last.get(&job).copied().unwrap_or(self.forgotten)
    }
}

/// Jobs that have changed since they were asked for last.
#[derive(Default)]
struct ChangedJobs {
    jobs: Set<JobId>,
    /// More than are remembered one by one.
    all: bool,
}

#[derive(Default)]
struct Watchers {
    next: u64,
    // Log topics come far more often than any other and concern one attempt, so viewers of jobs are found by job.
    of_jobs: Map<JobId, Map<u64, Arc<Watcher>>>,
    others: Map<u64, Arc<Watcher>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere cannot leave these maps half changed: each change is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watcher {
    fn touch(&self, topic: Topic) {
        if !self.scope.covers(topic) {
            return;
        }
        {
            let mut dirty = lock(&self.dirty);
            if dirty.all {
                return;
            }
            dirty.topics.insert(topic);
            if dirty.topics.len() > DIRTY_TOPICS {
                *dirty = Dirty { topics: Set::new(), all: true };
            }
        }
        // A full channel means that the viewer has been woken already and has not looked yet.
        let _ = self.wake.try_send(());
    }
}

impl Changes {
    /// A notifier nobody watches yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The jobs that have changed since the last call; none if there are too many to name.
    pub fn take_jobs(&self) -> Option<Set<JobId>> {
        let changed = std::mem::take(&mut *lock(&self.jobs));
        (!changed.all).then_some(changed.jobs)
    }

    /// When the jobs changed that changed lately.
    pub fn touched(&self) -> Touched {
        let moments = lock(&self.moments);
        Touched { last: moments.all.iter().map(|(at, job)| (*job, *at)).collect(), forgotten: moments.forgotten }
    }

    /// Says that `topic` changed. Never blocks for long and never waits for a viewer.
    pub fn touch(&self, topic: Topic) {
        if let Topic::Job(job) = topic {
            let mut changed = lock(&self.jobs);
            if !changed.all {
                changed.jobs.insert(job);
                if changed.jobs.len() > CHANGED_JOBS {
                    *changed = ChangedJobs { jobs: Set::new(), all: true };
                }
            }
            drop(changed);
            let mut moments = lock(&self.moments);
            moments.all.push_back((wall(), job));
            if moments.all.len() > MOMENTS
                && let Some((at, _)) = moments.all.pop_front()
            {
                moments.forgotten = at;
            }
        }
        let watchers = lock(&self.watchers);
        if let Topic::Log(JobKey { job, .. }) | Topic::Job(job) = topic {
            for watcher in watchers.of_jobs.get(&job).into_iter().flat_map(Map::values) {
                watcher.touch(topic);
            }
        }
        if !matches!(topic, Topic::Log(_)) {
            for watcher in watchers.others.values() {
                watcher.touch(topic);
            }
        }
    }

    /// Begins to watch. The watch ends when it is dropped.
    pub fn watch(self: &Arc<Self>, scope: Scope) -> Watch {
        let (wake, woken) = channel::bounded(1);
        let watcher = Arc::new(Watcher { scope, dirty: Mutex::default(), wake });
        let mut watchers = lock(&self.watchers);
        watchers.next += 1;
        let number = watchers.next;
        match watcher.scope {
            Scope::Job(key) => watchers.of_jobs.get_or_default(key.job).insert(number, watcher.clone()),
            _ => watchers.others.insert(number, watcher.clone()),
        };
        drop(watchers);
        Watch { changes: self.clone(), number, watcher, woken }
    }

    /// How many watch now.
    pub fn watching(&self) -> usize {
        let watchers = lock(&self.watchers);
        watchers.others.len() + watchers.of_jobs.values().map(Map::len).sum::<usize>()
    }
}

/// One viewer's view of the changes.
pub struct Watch {
    changes: Arc<Changes>,
    number: u64,
    watcher: Arc<Watcher>,
    woken: channel::Receiver<()>,
}

impl Watch {
    /// Waits until something changed since the last call, and takes it.
    pub async fn changed(&self) -> Dirty {
        loop {
            let dirty = std::mem::take(&mut *lock(&self.watcher.dirty));
            if dirty.all || !dirty.topics.is_empty() {
                return dirty;
            }
            // The sender lives in `self.watcher`, so this fails never; were it to, waiting for ever is right.
            if self.woken.recv().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watchers = lock(&self.changes.watchers);
        match self.watcher.scope {
            Scope::Job(key) => {
                if let Some(of_job) = watchers.of_jobs.get_mut(&key.job) {
                    of_job.remove(&self.number);
                    if of_job.is_empty() {
                        watchers.of_jobs.remove(&key.job);
                    }
                }
            }
            _ => {
                watchers.others.remove(&self.number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{About, status};

    #[test]
    fn a_mistake_of_ours_is_on_every_page_once_and_counted() {
        let mut live = Live { notices: vec!["full".to_string()], ..Live::default() };
        assert!(live.note_bug("end: no such job"));
        assert!(!live.note_bug("end: no such job"));
        assert!(live.note_bug("due: no such job"));
        let notices = live.all_notices();
        assert_eq!((notices.len(), live.bugs_found), (3, 3));
        assert!(notices[1].contains("(end: no such job)") && notices[1].contains("please report it"), "{notices:?}");
        let about = About { url: String::new(), fingerprint: None, state: ".".into(), since: 0 };
        assert!(status(&about, &[], &live).contains("notice\tSai contradicts itself (due: no such job)"));
    }
    use smol::future::{block_on, poll_once};

    fn topics(dirty: &Dirty) -> Vec<Topic> {
        dirty.topics.iter().copied().collect()
    }

    #[test]
    fn a_watch_hears_its_own_topics_once_each() {
        let changes = Arc::new(Changes::new());
        let event = changes.watch(Scope::Event(3, 10..12));
        let key = JobKey { job: 11, attempt: 1 };
        let job = changes.watch(Scope::Job(key));
        for _ in 0..1000 {
            changes.touch(Topic::Job(11));
            changes.touch(Topic::Log(key));
            changes.touch(Topic::Log(JobKey { job: 11, attempt: 2 }));
            changes.touch(Topic::Job(12));
            changes.touch(Topic::Event(4));
            changes.touch(Topic::Agents);
        }
        assert_eq!(topics(&block_on(event.changed())), [Topic::Job(11)]);
        assert_eq!(topics(&block_on(job.changed())), [Topic::Job(11), Topic::Log(key)]);
        assert!(block_on(poll_once(event.changed())).is_none());
        assert!(block_on(poll_once(job.changed())).is_none());
    }

    #[test]
    fn a_slow_watch_stays_bounded_and_then_sees_everything() {
        let changes = Arc::new(Changes::new());
        let watch = changes.watch(Scope::Events);
        for id in 0..100_000 {
            changes.touch(Topic::Event(id));
        }
        let dirty = block_on(watch.changed());
        assert!(dirty.all && dirty.topics.is_empty());
        changes.touch(Topic::Event(7));
        assert_eq!(topics(&block_on(watch.changed())), [Topic::Event(7)]);
    }

    #[test]
    fn moments_of_changes_are_bounded_and_never_too_early() {
        let changes = Changes::new();
        let begun = wall();
        changes.touch(Topic::Job(7));
        let touched = changes.touched();
        assert!(touched.last(7) >= begun && touched.last(8) <= touched.last(7));
        let before = touched.last(7);
        for job in 0..MOMENTS as u64 {
            changes.touch(Topic::Job(1000 + job));
        }
        // The first is forgotten, and so may be others: any may have changed up to then.
        let touched = changes.touched();
        assert!(touched.last(7) >= before && touched.last(8) >= before && touched.last.len() == MOMENTS);
    }

    #[test]
    fn a_dropped_watch_is_forgotten() {
        let changes = Arc::new(Changes::new());
        let watches: Vec<_> =
            (0..10).map(|job| changes.watch(Scope::Job(JobKey { job: job % 3, attempt: 1 }))).collect();
        let agents = changes.watch(Scope::Agents);
        assert_eq!(changes.watching(), 11);
        drop(watches);
        drop(agents);
        assert_eq!(changes.watching(), 0);
        assert!(lock(&changes.watchers).of_jobs.is_empty());
    }

    #[test]
    fn a_touch_from_another_thread_wakes() {
        let changes = Arc::new(Changes::new());
        let watch = changes.watch(Scope::Agents);
        let toucher = changes.clone();
        let thread = std::thread::spawn(move || toucher.touch(Topic::Agents));
        assert_eq!(topics(&block_on(watch.changed())), [Topic::Agents]);
        thread.join().unwrap();
    }
}
