//! Link, job directories and load ↔ the session's decisions: an agent's one loop.
//!
//! One task owns the session and never waits for anything but its inputs. Beside it run a task for the link of the
//! moment, one for each attempt held, and one that fetches ahead; all reach it through one bounded queue.

mod carrying;
mod updates;

use self::carrying::carry;
use self::updates::Place;
use crate::blocking::unblock;
use crate::boards::watch::Watchers;
use crate::clock;
use crate::describe;
use crate::held::{self, News, Orders, Origin};
use crate::image::users;
use crate::job_directory::{JobDirectory, Launcher, RunnerOptions, WENT_DOWN};
use crate::link::{DialError, Frame, Link};
use crate::mirror;
use crate::needs::fetch::{Fetcher, Source};
use crate::offering::{Assigned, Offering};
use crate::state::State;
use sai_core::bug;
use sai_core::card;
use sai_core::job::{Blame, JobKey};
use sai_core::limits::{CHUNK_BYTES, Millis, SLOTS, SPOOL_BYTES};
use sai_core::ordered::Map;
use sai_core::session::{AgentSession, Description, Input, Output, Standing};
use sai_core::wire::{AgentMessage, Assignment, DataHeader, Load, Offer, Prefetch, REVOKED, Update};
use smol::channel::{self, Receiver, Sender};
use smol::future::{self, FutureExt as _};
use smol::{Executor, Task, Timer};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Events that wait for the loop; a sender waits in turn. Each attempt and the link have at most a few under way.
const EVENTS: usize = 64;
/// Messages that wait for the link's writer. More only come when the master does not read; then the link is given up.
const MESSAGES: usize = 64;
/// Revisions to fetch ahead that wait. It is only a hint, so what comes beyond is dropped.
const PREFETCHES: usize = 16;
/// Milliseconds between two looks at load and free space. No wait is longer, so that a machine that slept goes on at once.
const LOOK_MS: Millis = 10_000;
/// Time a link is given to send what is under way when the agent stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time an agent whose token was revoked has to end and remove what it was told to forget.
const LAST_TIME_MS: Millis = 30_000;

/// Where lines for people go, one a call, without a line feed.
pub type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What an agent is to be.
#[derive(Clone)]
pub struct Settings {
    /// What it is called, for people.
    pub host: String,
    /// Platforms and images it offers, and jobs at once.
    pub offering: Offering,
    /// What each job may do at once: `SAI_PARALLEL`.
    pub parallel: u32,
    /// Numeric user and group the steps run as; the agent's own if none.
    pub user: Option<(u32, u32)>,
    /// Variables that each job gets.
    pub env: Map<String, String>,
    /// MiB of free space below which no job is accepted.
    pub keep_free_mib: u64,
    /// Where the files of jobs come from that others need.
    pub files: Source,
    /// How to start a supervisor.
    pub launcher: Launcher,
    /// Where lines for people go.
    pub say: Say,
}

/// What a running agent is told from outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Control {
    /// It offers other platforms, images or slots from now on.
    Offer(Offering),
    /// It ends. Its jobs go on under their supervisors, and the next agent of this state directory adopts them.
    Stop,
}

/// How an agent's serving ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop.
    Stopped,
    /// The master has no use for it any more: its token was revoked, or belongs to another machine. Why, in a line.
    Refused(String),
}

enum Event {
    Dialled(u64, Result<(Link, Vec<String>), DialError>),
    Frame(u64, Frame),
    Taken(u64),
    Unreadable(JobKey, String),
    Gone(u64, String),
    Job(JobKey, News),
    Board(String, Standing),
    Image(Input),
}

/// An attempt held.
struct Job {
    orders: Orders,
    /// From the moment its streams can be read.
    directory: Option<Arc<JobDirectory>>,
    /// Its `SAI_INSTANCE_IDX`, while something of it may run.
    instance: Option<u32>,
    /// Whether it is being removed.
    forgotten: bool,
    _task: Task<()>,
}

/// The link of the moment, or the attempt to make one.
struct Carrier {
    messages: Sender<String>,
    pieces: Sender<Piece>,
    task: Task<()>,
}

/// A piece of a stream on its way to the link.
struct Piece {
    directory: Arc<JobDirectory>,
    header: DataHeader,
    length: usize,
}

/// Runs an agent until it is told to stop: adopts what an earlier one left, dials with `dial` whenever there is no link,
/// and does what the master says. When `controls` is closed it runs for ever.
///
/// # Errors
/// When the jobs that are there cannot be found out: one line for people.
pub async fn serve<D, F>(
    state: &State,
    settings: Settings,
    dial: D,
    controls: Receiver<Control>,
) -> Result<Ended, String>
where
    D: Fn() -> F,
    F: Future<Output = Result<Link, DialError>> + Send + 'static,
{
    let executor = Executor::new();
    let (events, inbox) = channel::bounded(EVENTS);
    let (prefetches, to_fetch) = channel::bounded(PREFETCHES);
    let mirrors = state.mirrors();
    let _fetcher = executor.spawn(async move {
        while let Ok(prefetch) = to_fetch.recv().await {
            let mirrors = mirrors.clone();
            // Why it failed is told by the job that comes, if one does.
            let _ = unblock(move || mirror::prefetch(&mirrors, &prefetch)).await;
        }
    });
    let load = describe::load(state.directory());
    let room = describe::has_room(true, load.free_mib, settings.keep_free_mib);
    let offer = settings.offering.offer();
    let place = Place(state.directory().join(card::DIRECTORY));
    let session = AgentSession::new(Description {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        identity: state.identity().to_owned(),
        instance: instance(),
        host: settings.host.clone(),
        platforms: offer.platforms,
        slots: if room { offer.slots } else { 0 },
        cores: describe::cores(),
        memory_mib: describe::memory_mib(),
        notes: settings.offering.notes.clone(),
        rooted: offer.rooted,
        boards: offer.boards.unwrap_or_default(),
        card: place.card(),
    });
    let fetcher = Arc::new(Fetcher::new(state.needs(), settings.files.clone()));
    let mut agent = Agent {
        state,
        fetcher,
        settings,
        dial,
        executor: &executor,
        session,
        jobs: Map::new(),
        inputs: VecDeque::new(),
        events,
        prefetches,
        carrier: None,
        generation: 0,
        load,
        told_load: false,
        room,
        complaint: String::new(),
        last: None,
        watchers: Watchers::default(),
        place,
        image: None,
    };
    agent.watch();
    executor.run(agent.run(inbox, controls)).await
}

struct Agent<'a, D> {
    state: &'a State,
    fetcher: Arc<Fetcher>,
    settings: Settings,
    dial: D,
    executor: &'a Executor<'static>,
    session: AgentSession,
    jobs: Map<JobKey, Job>,
    /// Inputs that outputs gave rise to.
    inputs: VecDeque<Input>,
    events: Sender<Event>,
    prefetches: Sender<Prefetch>,
    carrier: Option<Carrier>,
    /// Number of the carrier, so that what an earlier one still has to say is known as such.
    generation: u64,
    load: Load,
    /// Whether the master knows `load`, on this link.
    told_load: bool,
    /// Whether there is space for jobs.
    room: bool,
    /// The trouble with the link that was said last, so as not to repeat it at each attempt.
    complaint: String,
    /// Why it is to end, and when at the latest.
    last: Option<(String, Millis)>,
    /// Who asks the owners of its boards.
    watchers: Watchers,
    /// Where images for this machine's card go.
    place: Place,
    /// Who gets the one that is wanted.
    image: Option<Task<()>>,
}

impl<D, F> Agent<'_, D>
where
    D: Fn() -> F,
    F: Future<Output = Result<Link, DialError>> + Send + 'static,
{
    async fn run(&mut self, inbox: Receiver<Event>, controls: Receiver<Control>) -> Result<Ended, String> {
        self.adopt().await?;
        if !self.room {
            self.say_room();
        }
        let mut look_at = clock::steady() + LOOK_MS;
        self.take(Input::Tick);
        loop {
            enum Next {
                Control(Control),
                Event(Event),
                Time,
            }
            if let Some((why, until)) = self.last.take() {
                if clock::steady() >= until || !self.jobs.values().any(|job| job.forgotten) {
                    self.farewell().await;
                    return Ok(Ended::Refused(why));
                }
                self.last = Some((why, until));
            }
            let due = self.session.deadline().map_or(look_at, |due| due.min(look_at));
            let due = self.last.as_ref().map_or(due, |(_, until)| due.min(*until));
            let control = async {
                match controls.recv().await {
                    Ok(control) => Next::Control(control),
                    Err(_) => future::pending().await,
                }
            };
            let event = async {
                match inbox.recv().await {
                    Ok(event) => Next::Event(event),
                    Err(_) => future::pending().await,
                }
            };
            let time = async {
                Timer::after(Duration::from_millis(due.saturating_sub(clock::steady()))).await;
                Next::Time
            };
            match control.or(event).or(time).await {
                Next::Control(Control::Stop) => {
                    self.farewell().await;
                    return Ok(Ended::Stopped);
                }
                Next::Control(Control::Offer(offering)) => {
                    self.settings.offering = offering;
                    self.watch();
                    self.offer();
                }
                Next::Event(event) => self.event(event),
                Next::Time => {
                    if clock::steady() >= look_at {
                        look_at = clock::steady() + LOOK_MS;
                        self.look();
                    }
                    self.take(Input::Tick);
                }
            }
            self.settle();
        }
    }

    fn say(&self, line: &str) {
        (self.settings.say)(line);
    }

    /// Takes hold of what an earlier agent of this directory left.
    async fn adopt(&mut self) -> Result<(), String> {
        let jobs = self.state.jobs();
        let failed = |error: io::Error| format!("{} cannot be read: {error}", self.state.jobs().display());
        let found = unblock(move || {
            let mut found = Vec::new();
            for directory in JobDirectory::scan(&jobs)? {
                // An attempt whose parts cannot be read is held all the same: the master then gives it up.
                let lengths = directory.lengths().unwrap_or_default();
                let instance = directory.options().map(|options| options.instance).ok();
                found.push((directory, lengths, instance));
            }
            Ok(found)
        });
        let found: Vec<(JobDirectory, Vec<u64>, Option<u32>)> = found.await.map_err(failed)?;
        for (directory, lengths, instance) in found {
            let key = directory.key();
            let (ended, went_down) = (directory.ended(), directory.went_down());
            self.take(Input::Found { key, lengths });
            let at = directory.assignment().ok().and_then(|assignment| assignment.board);
            let at = at.filter(|_| !ended && !went_down);
            if let Some(at) = at.clone() {
                self.take(Input::AtBoard { key, names: at.names().cloned().collect(), grant: at.grant });
            }
            if went_down {
                self.say(&format!("job {key}: {WENT_DOWN}"));
                self.take(Input::StartFailed { key, blame: Blame::Agent, why: WENT_DOWN.to_owned() });
            } else {
                self.say(&format!("job {key} is adopted{}", if ended { ", it has ended" } else { "" }));
            }
            let directory = Arc::new(directory);
            self.hold(
                key,
                Origin::Found(Arc::clone(&directory)),
                instance.filter(|_| !ended && !went_down),
                Some(directory),
            );
        }
        Ok(())
    }

    fn hold(&mut self, key: JobKey, origin: Origin, instance: Option<u32>, directory: Option<Arc<JobDirectory>>) {
        let events = self.events.clone();
        let news = move |key, news| {
            let events = events.clone();
            // The loop outlives its tasks; were it gone, nobody would want the news.
            async move { drop(events.send(Event::Job(key, news)).await) }
        };
        let (orders, task) = held::hold(key, origin, Arc::clone(&self.fetcher), news);
        let task = self.executor.spawn(task);
        self.jobs.insert(key, Job { orders, directory, instance, forgotten: false, _task: task });
    }

    /// Lets the session take an input, and does what comes of it.
    fn take(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.settle();
    }

    /// Lets the session take the inputs that wait, and those they give rise to.
    fn settle(&mut self) {
        let mut outputs = Vec::new();
        while let Some(input) = self.inputs.pop_front() {
            self.session.handle(clock::steady(), input, &mut outputs);
            for output in outputs.drain(..) {
                self.carry_out(output);
            }
            if self.session.is_up() && !self.told_load {
                self.told_load = true;
                self.complaint.clear();
                self.inputs.push_back(Input::Load(self.load.clone()));
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Dialled(generation, result) if generation == self.generation => match result {
                Ok((link, mirrors)) => {
                    self.carry(link);
                    self.take(Input::Connected { mirrors });
                }
                Err(DialError::Refused(why)) if why.starts_with(REVOKED) => {
                    self.carry_out(Output::End { why: format!("the master says: {}", &why[REVOKED.len()..]) });
                }
                Err(error) => self.disconnect(&error.to_string()),
            },
            Event::Frame(generation, frame) if generation == self.generation => {
                let input = match frame {
                    Frame::Text(text) => Input::of_text(&text),
                    Frame::Binary(bytes) => Ok(Input::of_binary(&bytes)),
                };
                match input {
                    Ok(input) => self.take(input),
                    Err(error) => self.disconnect(&format!("the master broke the protocol: {error}")),
                }
            }
            Event::Taken(generation) if generation == self.generation => self.take(Input::Writable),
            Event::Gone(generation, why) if generation == self.generation => {
                self.disconnect(&format!("the link is gone: {why}"));
            }
            // Of a link that was given up before.
            Event::Dialled(..) | Event::Frame(..) | Event::Taken(_) | Event::Gone(..) => {}
            Event::Unreadable(key, why) => self.take(Input::StartFailed { key, blame: Blame::Agent, why }),
            Event::Job(key, news) => self.news(key, news),
            Event::Board(name, standing) => self.take(Input::Board { name, standing }),
            Event::Image(input) => self.take(input),
        }
    }

    fn news(&mut self, key: JobKey, news: News) {
        match news {
            News::Begun(directory) => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.directory = Some(directory);
                }
            }
            News::NotBegun(blame, why) => {
                self.say(&format!("job {key}: {why}"));
                // First, or the master would give the job right back to us.
                if self.settings.offering.withdraw_missing() {
                    self.offer();
                }
                self.take(Input::StartFailed { key, blame, why });
            }
            News::Lengths(lengths) => self.take(Input::Lengths { key, lengths }),
            News::Asks(session) => self.take(Input::Session(session)),
            News::Ended => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.instance = None;
                }
                self.take(Input::LeftBoard { key });
            }
            News::Removed(result) => {
                self.jobs.remove(&key);
                if result.is_ok() {
                    self.take(Input::Gone { key });
                }
                match result {
                    Ok(()) => self.say(&format!("job {key} is done")),
                    Err(why) => self.say(&format!(
                        "job {key} cannot be removed from {}, the next start tries again: {why}",
                        self.state.jobs().display()
                    )),
                }
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial if self.last.is_some() => {}
            Output::Dial => self.dial(),
            Output::End { why } => self.last = Some((why, clock::steady() + LAST_TIME_MS)),
            Output::Close { why } => self.disconnect(&why),
            Output::Send(mut message) => {
                if let AgentMessage::Pong(pong) = &mut message {
                    pong.wall = Some(clock::wall());
                }
                let sent = self.carrier.as_ref().map(|carrier| carrier.messages.try_send(message.encode()));
                if let Some(Err(error)) = sent
                    && error.is_full()
                {
                    self.disconnect("the master does not read what it is sent");
                }
            }
            Output::SendData { key, stream, offset, length } => {
                let header = DataHeader { key, stream, offset };
                let directory = self.jobs.get(&key).and_then(|job| job.directory.clone());
                let length = usize::try_from(length).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
                if let (Some(carrier), Some(directory)) = (&self.carrier, directory) {
                    // There is room: the session sends one at a time, and is told when it was taken.
                    let _ = carrier.pieces.try_send(Piece { directory, header, length });
                } else {
                    let why = "the job's directory is gone".to_owned();
                    self.inputs.extend([Input::StartFailed { key, blame: Blame::Agent, why }, Input::Writable]);
                }
            }
            Output::Start(assignment) => self.start(assignment),
            Output::Cancel { key, why } => {
                if let Some(job) = self.jobs.get(&key) {
                    self.say(&format!("job {key} is to end: {why}"));
                    job.orders.cancel(&why);
                }
            }
            Output::Trim { key, log } => {
                if let Some(job) = self.jobs.get(&key) {
                    job.orders.acked(log);
                }
            }
            Output::Forget { key } => {
                if let Some(job) = self.jobs.get_mut(&key) {
                    job.forgotten = true;
                    job.orders.remove();
                }
            }
            Output::Session(told) => {
                if let Some(job) = self.jobs.get(&told.key) {
                    job.orders.session(told);
                }
            }
            Output::Word(word) => {
                if let Some(job) = self.jobs.get(&word.key) {
                    job.orders.word(word);
                }
            }
            Output::Look(board) => self.watchers.look(&board),
            Output::Prefetch(prefetch) => drop(self.prefetches.try_send(prefetch)),
            Output::Fetch(update) => self.fetch(update),
            Output::Hand(update) => match self.place.hand(&update) {
                Ok(()) => self.say(&format!("image {} is handed to the machine's first process", update.number)),
                Err(error) => self.inputs.push_back(Input::Refused(format!("the agent's disk: {error}"))),
            },
            Output::Say(line) => self.say(&line),
            Output::Bug(what) => {
                self.say(&bug::sentence(what));
                crate::end_of_tests();
            }
        }
    }

    fn start(&mut self, assignment: Assignment) {
        let key = assignment.key;
        let taken = |number: &u32| self.jobs.values().any(|job| job.instance == Some(*number));
        let free = (0..SLOTS).find(|number| !taken(number)).filter(|_| !self.jobs.contains_key(&key));
        let Some(instance) = free else {
            let why = "this agent holds more jobs than it can".to_owned();
            self.inputs.extend([Input::StartFailed { key, blame: Blame::Agent, why }, Input::LeftBoard { key }]);
            return;
        };
        let Assignment { repository, platform, configuration, offered, .. } = &assignment;
        let root = assignment.root == Some(true);
        let board = assignment.board.as_ref().map(|at| at.names().cloned().collect::<Vec<_>>().join(", "));
        let boards = self.settings.offering.bench.as_ref().map(|bench| bench.place.clone());
        let container = match self.settings.offering.assigned(platform, offered.as_deref(), root, instance) {
            // What is done at a board is no step of a stranger's, and runs on the machine itself.
            _ if board.is_some() => None,
            Ok(Assigned::Container(container, directory)) => {
                // The count is for people; that it cannot be kept does not matter.
                self.executor.spawn(unblock(move || drop(users::count(&directory)))).detach();
                Some(container)
            }
            Ok(Assigned::Host) => None,
            Err(why) => {
                self.inputs.push_back(Input::StartFailed { key, blame: Blame::Platform, why });
                return;
            }
        };
        let place = offered.as_ref().filter(|place| *place != platform);
        let place = place.map_or_else(String::new, |place| format!(" in {place}"));
        let place = board.as_ref().map_or(place, |board| format!(" at {board}"));
        self.say(&format!("job {key} begins: {repository} {platform} {configuration}{place}"));
        let options = RunnerOptions {
            instance,
            parallel: self.settings.parallel,
            user: self.settings.user.map(|(user, _)| user),
            group: self.settings.user.map(|(_, group)| group),
            mirrors: self.state.mirrors().to_string_lossy().into_owned(),
            spool_bytes: SPOOL_BYTES,
            container,
            env: Some(self.settings.env.clone()).filter(|env| !env.is_empty()),
            devices: (boards.is_some() && board.is_none()).then_some(true),
            boards: boards.filter(|_| board.is_some()),
        };
        let launcher = self.settings.launcher.clone();
        let origin = Origin::Assigned(self.state.jobs(), Box::new(assignment), options, launcher);
        self.hold(key, origin, Some(instance), None);
    }

    fn dial(&mut self) {
        self.generation += 1;
        let generation = self.generation;
        let link = (self.dial)();
        let mirrors = self.state.mirrors();
        let events = self.events.clone();
        let task = self.executor.spawn(async move {
            let result = match link.await {
                Ok(link) => Ok((link, unblock(move || mirror::names(&mirrors)).await)),
                Err(error) => Err(error),
            };
            let _ = events.send(Event::Dialled(generation, result)).await;
        });
        // Nothing can be sent before the link is up: the queues of a dial lead nowhere.
        self.carrier = Some(Carrier { messages: channel::bounded(1).0, pieces: channel::bounded(1).0, task });
    }

    fn carry(&mut self, link: Link) {
        let (messages, to_send) = channel::bounded(MESSAGES);
        let (pieces, to_read) = channel::bounded(1);
        let task = self.executor.spawn(carry(self.generation, link, to_send, to_read, self.events.clone()));
        self.carrier = Some(Carrier { messages, pieces, task });
    }

    /// Gives the link up, or up trying to make it, and says why unless that is known.
    fn disconnect(&mut self, why: &str) {
        if self.complaint != why {
            why.clone_into(&mut self.complaint);
            self.say(&format!("{why}; trying again"));
        }
        self.carrier = None;
        self.generation += 1;
        self.told_load = false;
        let mut random = [0; 2];
        // Without randomness the agents of a constellation redial in step, which is no more than a burden.
        let _ = getrandom::fill(&mut random);
        let jitter_permille = u32::from(u16::from_le_bytes(random)) % 1001;
        self.inputs.push_back(Input::Disconnected { jitter_permille });
        if crate::is_mistaken("session") {
            self.inputs.push_back(Input::Disconnected { jitter_permille });
        }
    }

    /// Gets an image for this machine's card, while all else goes on.
    fn fetch(&mut self, update: Update) {
        self.say(&format!("image {} is fetched for this machine's card", update.number));
        let (events, fetcher, place) = (self.events.clone(), Arc::clone(&self.fetcher), self.place.clone());
        // One that was wanted before is so no more.
        self.image = Some(self.executor.spawn(async move {
            // Where the loop has much to do the next one will tell.
            let tell =
                |have: u64, why: &str| drop(events.try_send(Event::Image(Input::Fetching(have, why.to_owned()))));
            let fetched = place.fetch(&fetcher, &update, &tell).await;
            let _ = events.send(Event::Image(Input::Fetched(fetched))).await;
        }));
    }

    /// Looks at load and free space, and tells the master what is worth it.
    fn look(&mut self) {
        self.inputs.extend(self.place.refused().map(Input::Refused));
        let now = describe::load(self.state.directory());
        let room = describe::has_room(self.room, now.free_mib, self.settings.keep_free_mib);
        if describe::worth_telling(&self.load, &now) {
            self.load = now;
            self.inputs.push_back(Input::Load(self.load.clone()));
        }
        if room != self.room {
            self.room = room;
            self.say_room();
            self.offer();
        }
    }

    fn say_room(&self) {
        let directory = self.state.directory().display();
        let least = self.settings.keep_free_mib;
        if self.room {
            self.say(&format!("there is space in {directory} again: accepting jobs"));
        } else {
            self.say(&format!(
                "less than {least} MiB are free in {directory}: no jobs are accepted until there is space"
            ));
        }
    }

    /// Has the boards that are offered watched, and no other.
    fn watch(&mut self) {
        let events = self.events.clone();
        // The loop outlives its watchers; were it gone, nobody would want to know.
        let tell = move |name, standing| drop(events.send_blocking(Event::Board(name, standing)));
        for name in self.watchers.set(self.settings.offering.bench.as_ref(), tell) {
            // What its owner said went by another description, by which no job is to begin any more.
            self.take(Input::Board { name, standing: Standing::default() });
        }
    }

    fn offer(&mut self) {
        let offer = self.settings.offering.offer();
        let slots = if self.room { offer.slots } else { 0 };
        self.take(Input::Offer(Offer { slots, ..offer }));
    }

    /// Lets the link send what is under way, and ends it.
    async fn farewell(&mut self) {
        if let Some(Carrier { messages, pieces, task }) = self.carrier.take() {
            drop((messages, pieces));
            let time = async {
                Timer::after(FAREWELL).await;
            };
            task.or(time).await;
        }
    }
}

/// Names this process; none if the system has no randomness, which is not worth an agent.
fn instance() -> Option<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
