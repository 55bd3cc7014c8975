//! Inputs from links, files, hooks and people → the core's hub → commits, appends, messages, and what viewers see.
//!
//! One thread owns the core's machines. It takes what has come in as one turn of the hub; the turn's records go to the ledger
//! and its messages to agents as `turns` says, after they are durable. It never waits for a disk, an agent or
//! a viewer: while too much is queued for the disk it just stops taking frames from links, which then stop their agents.
//! Everything else has a way of its own, so that a cancel, a revocation and the end of a link pass however full the disk.

use crate::lines::Lines;
use crate::live::{Changes, Live, LiveAgent, Topic, YOUNG};
use crate::plans::{keep_new, not_kept};
use crate::store::{Change, Report, Store, StoreError};
use sai_agent::blocking::{detach, unblock};
use sai_agent::clock::{self, Sleep};
use sai_core::clock::Now;
use sai_core::ebb::{self, Ebb};
use sai_core::hearing::{self, Hearing};
use sai_core::hub::{Hub, Input, LinkId, Output, Touch};
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::ActionRecord;
use sai_core::limits::Millis;
use sai_core::matrix::JobSpec;
use sai_core::numbers::Numbers;
use sai_core::ordered::{Map, Set};
use sai_core::scheduler::{BoardRow, UnitRow};
use sai_core::turns::{self, Turns};
use sai_core::wire::MasterMessage;
use smol::channel::{Receiver, Sender, TrySendError};
use smol::future::FutureExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Frames of links that may wait for the hub: with 64 KiB each, 4 MiB of memory.
const FRAMES: usize = 64;
/// Everything else that may wait for it.
const REQUESTS: usize = 256;
/// Reports of commits and files that may wait for the hub, which takes them before anything else.
const REPORTS: usize = 4096;
/// Turns that may wait for the ledger; far fewer than `REPORTS`, so that the ledger never waits for us.
const TURNS: usize = 256;
/// Frames taken as one turn at most, and requests where no frame may depend on one: enough to share a commit, few enough that
/// the first message does not wait long.
const BATCH: usize = 64;
/// Bytes that may wait for the disk before no more frames are taken from links.
const DISK_QUEUE_BYTES: u64 = 32 << 20;
/// Turns whose messages may wait for one agent; one that reads so slowly is as good as gone. A place costs an idle
/// agent 32 bytes, where one for each message would cost a third of a MiB; and however much one turn has to say to an
/// agent that comes back with many jobs, it fits.
pub const OUTBOX: usize = 128;
/// Milliseconds the hub waits for a deadline at most before it looks at the clock again, since timers stand still while
/// the machine sleeps.
const LOOK_MS: Millis = 60_000;
/// Times as long as it took to find out why each job waits, until that is done again: it takes a tenth of the hub's time
/// at most, however many jobs and agents there are.
const WAITING_TIMES: u32 = 9;
/// Milliseconds between two of those times at least, when more than a few jobs wait: nobody reads faster.
const WAITING_MS: Millis = 250;
/// What is said of a disk that takes long.
const SLOW: &str = "the ledger has waited long for its disk";
/// Queued jobs that are few.
const WAITING_JOBS: usize = 64;

/// What is asked of the hub.
pub enum Request {
    /// An input of the core's machine.
    Input(Input),
    /// A link is up; its messages, those of a turn together, go to this outbox, which is dropped to close it.
    Link(LinkId, String, Sender<Vec<MasterMessage>>),
    /// An input, and records that are to become durable with whatever comes of it.
    With(Input, Vec<Change>),
    /// A record of the command line's or a person's that the machine does not decide about.
    Record(Change),
    /// The same for many.
    Records(Vec<Change>),
    /// Answer when everything before this is durable.
    Settled(Sender<Result<(), String>>),
}

enum Control {
    Report(Report),
    Committed(u64, Result<(), StoreError>),
}

/// The way to the hub for everybody else.
#[derive(Clone)]
pub struct HubHandle {
    requests: Sender<Request>,
    frames: Sender<Input>,
    links: Arc<AtomicU64>,
    numbers: Arc<Mutex<Numbers>>,
}

/// The hub is no more: the process is ending.
#[derive(Clone, Copy, Debug)]
pub struct Gone;

impl HubHandle {
    /// Gives the hub an input, waiting while it has too many.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn input(&self, input: Input) -> Result<(), Gone> {
        self.request(Request::Input(input)).await
    }

    /// Gives the hub what came by a link, waiting while the disk does not keep up. Only this waits for the disk: whatever
    /// people want, and that links come and go, passes by it.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn frame(&self, input: Input) -> Result<(), Gone> {
        self.frames.send(input).await.map_err(|_| Gone)
    }

    /// Asks something of the hub, waiting while it has too much to do.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn request(&self, request: Request) -> Result<(), Gone> {
        self.requests.send(request).await.map_err(|_| Gone)
    }

    /// Waits until everything asked before is durable.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn settled(&self) -> Result<(), String> {
        let gone = "the master is ending";
        let (sender, receiver) = smol::channel::bounded(1);
        self.request(Request::Settled(sender)).await.map_err(|_| gone)?;
        receiver.recv().await.map_err(|_| gone)?
    }

    /// A number for a new link.
    pub fn new_link(&self) -> LinkId {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// Numbers for a new event and the first of its jobs, of which there are so many.
    pub fn new_event(&self, jobs: u64) -> (EventId, JobId) {
        self.numbers().give(jobs)
    }

    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down that somebody did something.
    ///
    /// # Errors
    /// [`Gone`].
    pub async fn action(&self, who: &str, what: String) -> Result<(), Gone> {
        let id = self.numbers().give_action();
        self.request(Request::Record(Change::Action(ActionRecord {
            id,
            at: clock::wall(),
            who: who.to_string(),
            what,
        })))
        .await
    }
}

/// What of a turn waits for its records.
#[derive(Default)]
struct Release {
    messages: Vec<(LinkId, MasterMessage)>,
    closes: Vec<LinkId>,
    touches: Set<Touch>,
    settled: Vec<Sender<Result<(), String>>>,
}

/// The edge around the core's hub. Made before the store is opened, since the store reports to it.
pub struct HubEdge {
    requests: Receiver<Request>,
    frames: Receiver<Input>,
    control: Receiver<Control>,
    to_control: Sender<Control>,
    handle: HubHandle,
}

/// What the running hub needs.
pub struct Parts {
    /// The machine, restored.
    pub hub: Hub,
    /// What restoring it brought forth.
    pub first: Vec<Output>,
    /// Where records and bytes go.
    pub store: Store,
    /// What viewers read.
    pub live: Arc<RwLock<Live>>,
    /// How viewers hear of it.
    pub changes: Arc<Changes>,
}

impl Default for HubEdge {
    fn default() -> Self {
        Self::new()
    }
}

impl HubEdge {
    /// The two ends: what to run, and how to reach it.
    pub fn new() -> Self {
        let (to_requests, requests) = smol::channel::bounded(REQUESTS);
        let (to_frames, frames) = smol::channel::bounded(FRAMES);
        let (to_control, control) = smol::channel::bounded(REPORTS);
        let handle = HubHandle {
            requests: to_requests,
            frames: to_frames,
            links: Arc::new(AtomicU64::new(1)),
            numbers: Arc::default(),
        };
        Self { requests, frames, control, to_control, handle }
    }

    /// The way to this hub.
    pub fn handle(&self) -> HubHandle {
        self.handle.clone()
    }

    /// Gives numbers from these on, once the ledger is open.
    pub fn number_from(&self, numbers: Numbers) {
        self.handle.numbers().at_least(numbers);
    }

    /// What the store reports to.
    pub fn reporter(&self) -> impl Fn(Report) + Send + Sync + 'static {
        let to_control = self.to_control.clone();
        move |report| {
            // The only error is that the hub is gone, and then nobody waits for reports any more.
            let _ = to_control.send_blocking(Control::Report(report));
        }
    }

    /// Runs until the process ends.
    pub async fn run(self, parts: Parts) {
        let mut running = Running {
            hub: parts.hub,
            store: parts.store,
            live: parts.live,
            changes: parts.changes,
            to_control: self.to_control.clone(),
            handle: self.handle.clone(),
            outboxes: Map::new(),
            ebb: Ebb::default(),
            hearing: Hearing::default(),
            lines: Lines::default(),
            turns: Turns::default(),
            space_hold: None,
            slow_disk: false,
            waiting_stale: true,
            waiting_at: 0,
            aside: Set::new(),
            young: true,
        };
        running.turn(parts.first, Vec::new(), Vec::new());
        let mut sleep = Sleep::watch();
        loop {
            let turns = running.turns.len() < TURNS;
            let room = turns && running.store.files().queued_bytes() < DISK_QUEUE_BYTES;
            let mut missed = running.missed(room);
            let control = async { Some(Next::Control(self.control.recv().await.ok()?)) };
            let request = async {
                if turns {
                    Some(Next::Request(self.requests.recv().await.ok()?))
                } else {
                    smol::future::pending().await
                }
            };
            let frame = async {
                if room { Some(Next::Frame(self.frames.recv().await.ok()?)) } else { smol::future::pending().await }
            };
            let timer = async {
                match running.deadline() {
                    Some(at) => {
                        let wait = at.saturating_sub(clock::steady()).min(LOOK_MS);
                        smol::Timer::after(Duration::from_millis(wait)).await
                    }
                    None => smol::future::pending().await,
                };
                Some(Next::Tick)
            };
            let Some(next) = control.or(request).or(timer).or(frame).await else { return };
            let (controls, mut requests) = self.gather(next, turns, room);
            missed += running.missed(room);
            if missed > 0 {
                requests.insert(0, Request::Input(Input::Missed(missed)));
            }
            if let Some(slept) = sleep.since() {
                requests.insert(0, Request::Input(Input::Slept(slept)));
            }
            running.turn(Vec::new(), controls, requests);
        }
    }

    /// The inputs of a turn, in the order in which they are to be handled: what has come, and what else is there.
    ///
    /// Requests and frames come by two ways, and what a link says may not be heard before the link itself, nor something of a
    /// link that is no more. So frames are handled last. But they are taken first, and then all requests that can have been
    /// there before them: what a frame depends on was sent before it. That it is time comes behind all of them: what has waited
    /// here is not late.
    fn gather(&self, next: Next, turns: bool, room: bool) -> (Vec<Control>, Vec<Request>) {
        let (mut controls, mut requests, mut frames) = (Vec::new(), Vec::new(), Vec::new());
        let mut tick = None;
        match next {
            Next::Control(control) => controls.push(control),
            Next::Request(request) => requests.push(request),
            Next::Frame(input) => frames.push(Request::Input(input)),
            Next::Tick => tick = Some(Request::Input(Input::Tick)),
        }
        while controls.len() < REPORTS {
            let Ok(control) = self.control.try_recv() else { break };
            controls.push(control);
        }
        while room && frames.len() < BATCH {
            let Ok(input) = self.frames.try_recv() else { break };
            frames.push(Request::Input(input));
        }
        let most = if frames.is_empty() { BATCH } else { REQUESTS };
        for _ in 0..most {
            let Some(request) = turns.then(|| self.requests.try_recv().ok()).flatten() else { break };
            requests.push(request);
        }
        requests.append(&mut frames);
        requests.extend(tick);
        (controls, requests)
    }
}

enum Next {
    Control(Control),
    Request(Request),
    Frame(Input),
    Tick,
}

struct Running {
    hub: Hub,
    store: Store,
    live: Arc<RwLock<Live>>,
    changes: Arc<Changes>,
    to_control: Sender<Control>,
    handle: HubHandle,
    outboxes: Map<LinkId, Sender<Vec<MasterMessage>>>,
    ebb: Ebb,
    hearing: Hearing,
    /// What agents can make it say.
    lines: Lines,
    turns: Turns<Change, Release>,
    /// Why jobs are held because the disk is nearly full.
    space_hold: Option<String>,
    /// Whether the ledger's disk takes its time.
    slow_disk: bool,
    waiting_stale: bool,
    /// When the reasons may be found out next.
    waiting_at: Millis,
    /// Agents that are shown as given no jobs: what is said of them changes with time.
    young: bool,
    aside: Set<String>,
}

impl Running {
    fn deadline(&self) -> Option<Millis> {
        let waiting = self.waiting_stale.then_some(self.waiting_at);
        let machines = [self.hub.deadline(), self.turns.deadline(), self.ebb.deadline(), self.hearing.deadline()];
        machines.into_iter().chain([waiting]).flatten().min()
    }

    /// Milliseconds in which no frames were taken, as they are or are not from now on; told once.
    fn missed(&mut self, taken: bool) -> Millis {
        let mut outputs = Vec::new();
        self.hearing.handle(clock::steady(), hearing::Input::Taken(taken), &mut outputs);
        outputs.into_iter().map(|hearing::Output::Missed(missed)| missed).sum()
    }

    fn turn(&mut self, outputs: Vec<Output>, controls: Vec<Control>, requests: Vec<Request>) {
        let now = clock::now();
        let (mut release, mut changes, mut written) = (Release::default(), Vec::new(), Vec::new());
        self.perform(outputs, &mut release, &mut changes);
        for control in controls {
            let mut outputs = Vec::new();
            match control {
                Control::Committed(group, result) => written.push(committed(group, &result)),
                Control::Report(report) => self.report(now, report, &mut outputs),
            }
            self.perform(outputs, &mut release, &mut changes);
        }
        for request in requests {
            let mut outputs = Vec::new();
            // The last of two changes of one record counts, so that changes must keep the order of their causes.
            let after = match request {
                Request::Input(input) => {
                    match &input {
                        Input::LinkDown(link) => _ = self.outboxes.remove(link),
                        // A pause may have ended with this.
                        Input::Tick => self.waiting_stale |= !self.aside.is_empty(),
                        _ => {}
                    }
                    self.hub.handle(now, input, &mut outputs);
                    Vec::new()
                }
                Request::Link(link, agent, outbox) => {
                    self.outboxes.insert(link, outbox);
                    self.hub.handle(now, Input::LinkUp(link, agent), &mut outputs);
                    Vec::new()
                }
                Request::With(input, more) => {
                    self.hub.handle(now, input, &mut outputs);
                    more
                }
                Request::Record(change) => vec![change],
                Request::Records(more) => more,
                Request::Settled(sender) => {
                    release.settled.push(sender);
                    Vec::new()
                }
            };
            self.perform(outputs, &mut release, &mut changes);
            changes.extend(after);
        }
        self.refresh(now, &release.touches);
        self.give_back(now);
        let turn = turns::Input::Turn { changes, release };
        for input in written.into_iter().chain([turn, turns::Input::Tick]) {
            let mut outputs = Vec::new();
            self.turns.handle(now.steady, input, &mut outputs);
            for output in outputs {
                match output {
                    turns::Output::Commit(group, changes) => {
                        let to_control = self.to_control.clone();
                        let then = move |result| {
                            let _ = to_control.send_blocking(Control::Committed(group, result));
                        };
                        self.store.commit(changes, Box::new(then));
                    }
                    turns::Output::Release(release) => self.release(release),
                    turns::Output::Slow(slow) => {
                        self.slow_disk = slow;
                        crate::say(if slow { SLOW } else { "the disk of the ledger has answered" });
                        self.tell();
                    }
                    turns::Output::Bug(what) => crate::live::tell_bug(&self.live, what),
                }
            }
        }
    }

    /// Gives memory back when most links have gone: beside the hub, since it takes a while.
    fn give_back(&mut self, now: Now) {
        let mut outputs = Vec::new();
        self.ebb.handle(now.steady, ebb::Input::Links(self.outboxes.len()), &mut outputs);
        if !outputs.is_empty() {
            detach(unblock(sai_agent::calls::give_back_memory));
        }
    }

    /// Brings up to date what every page says at its top.
    fn tell(&self) {
        let held = self.space_hold.iter().map(|why| format!("No job is started: {why}."));
        let slow = self.slow_disk.then(|| format!("Nothing goes on: {SLOW}."));
        self.live.write().unwrap_or_else(PoisonError::into_inner).notices = held.chain(slow).collect();
    }

    /// Does at once what may be done at once, and puts the rest into the turn.
    fn perform(&self, outputs: Vec<Output>, release: &mut Release, changes: &mut Vec<Change>) {
        let files = self.store.files();
        for output in outputs {
            match output {
                Output::Event(record) => changes.push(Change::Event(record)),
                Output::Job(record) => changes.push(Change::Job(record)),
                Output::Agent(record) => changes.push(Change::Agent(record)),
                Output::Begin(asked, spec) => {
                    self.number(spec, move |spec, numbers| Input::Session(asked, spec, numbers));
                }
                Output::Check(of, spec) => {
                    self.number(spec, move |spec, numbers| Input::Check(of, spec, numbers, None));
                }
                Output::Send(link, message) => release.messages.push((link, message)),
                Output::Close(link) => release.closes.push(link),
                Output::Append { key, stream, offset, bytes } => files.append(key, stream, offset, bytes),
                Output::Flush(key) => files.flush(key),
                Output::Seal(key, artifact) => match digest(&artifact.sha256) {
                    Some(sha256) => files.seal(key, artifact.stream, artifact.size, sha256),
                    // The decoder lets only 64 hex digits pass.
                    None => crate::say(&format!("job {key}: artifact {:?} has no digest", artifact.path)),
                },
                Output::Finish(key) => files.finish(key),
                Output::Touch(touch) => {
                    release.touches.insert(touch);
                }
                Output::Say(text) => crate::say(&text),
                Output::Complain(agent, text) => self.lines.say(agent, text),
                Output::Bug(what) => crate::live::tell_bug(&self.live, what),
            }
        }
    }

    /// Gives an event of one job its numbers, and keeps its plan, beside the hub: that may wait for the disk.
    fn number(
        &self,
        spec: JobSpec,
        input: impl FnOnce(JobSpec, Result<(EventId, JobId), String>) -> Input + Send + 'static,
    ) {
        let numbers = self.handle.new_event(1);
        let (store, handle) = (self.store.clone(), self.handle.clone());
        detach(async move {
            let (numbers, carried) = match keep_new(store, numbers.0, &spec).await {
                Ok(carried) => (Ok(numbers), carried),
                Err(error) => (Err(not_kept(&error)), None),
            };
            // Were the hub gone, so would be this master; whoever asked for it asks the next one.
            let input = input(spec, numbers);
            let _ = handle.request(Request::With(input, carried.into_iter().collect())).await;
        });
    }

    /// Lets go what a turn leads to, now that its records are durable.
    fn release(&mut self, release: Release) {
        let mut messages: Map<LinkId, Vec<MasterMessage>> = Map::new();
        for (link, message) in release.messages {
            messages.get_or_default(link).push(message);
        }
        for (link, messages) in messages {
            let Some(outbox) = self.outboxes.get(&link) else { continue };
            if let Err(TrySendError::Full(_)) = outbox.try_send(messages) {
                self.lines.say("", "an agent does not read what it is sent; its link is closed".to_string());
                self.outboxes.remove(&link);
            }
        }
        for link in release.closes {
            self.outboxes.remove(&link);
        }
        let jobs = release.touches.iter().any(|touch| matches!(touch, Touch::Event(_)));
        let agents = release.touches.iter().any(|touch| matches!(touch, Touch::Agent(_)));
        for touch in release.touches {
            self.changes.touch(match touch {
                Touch::Event(id) => Topic::Event(id),
                Touch::Job(id) => Topic::Job(id),
                Touch::Log(key) => Topic::Log(key),
                Touch::Agent(_) => continue,
            });
        }
        if agents {
            self.changes.touch(Topic::Agents);
            // While there is hardly an event yet, their list tells of the first agent.
            self.young = self.young && self.store.reader().events(None, None, YOUNG).len() < YOUNG;
        }
        if jobs || (agents && self.young) {
            self.changes.touch(Topic::Events);
        }
        for sender in release.settled {
            let _ = sender.try_send(Ok(()));
        }
    }

    /// Shows why no job is started, or that jobs are.
    fn hold(&mut self, why: Option<String>) -> Input {
        crate::say(why.as_deref().unwrap_or("the master's disk has room again; jobs are started"));
        self.space_hold.clone_from(&why);
        self.tell();
        Input::Hold(why)
    }

    fn report(&mut self, now: Now, report: Report, outputs: &mut Vec<Output>) {
        let input = match report {
            Report::Appended { key, stream: 0, length } => {
                // What was given up is still written for a moment.
                if self.hub.scheduler().holder(key).is_some() {
                    let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
                    live.log_lengths.insert(key, length);
                }
                // It waits for no record: whoever is at a board's console is not to wait for the disk of others.
                self.changes.touch(Topic::Log(key));
                return;
            }
            Report::Appended { .. } => return,
            Report::Flushed { key, stream, length } => Input::Flushed(key, stream, length),
            Report::Sealed { key, stream, ok } => Input::Sealed(key, stream, ok),
            Report::Failed { key, why, .. } => Input::Unwritable(key, why),
            Report::Bug(what) => return crate::live::tell_bug(&self.live, what),
            Report::Low { free_mib } => {
                self.hold(Some(format!("the master's disk is nearly full ({free_mib} MiB free)")))
            }
            Report::Enough => self.hold(None),
        };
        self.hub.handle(now, input, outputs);
    }

    /// Brings what viewers read up to date: what was touched, and nothing else.
    fn refresh(&mut self, clock: Now, touches: &Set<Touch>) {
        let now = clock.steady;
        let jobs = touches.iter().any(|touch| matches!(touch, Touch::Job(_)));
        let mut agents = Set::from_iter(
            touches.iter().filter_map(|touch| if let Touch::Agent(name) = touch { Some(name) } else { None }),
        );
        self.waiting_stale |= jobs || !agents.is_empty();
        let reasons = self.waiting_stale && now >= self.waiting_at;
        if !jobs && agents.is_empty() && !reasons {
            return;
        }
        let scheduler = self.hub.scheduler();
        let begun = Instant::now();
        let waiting = reasons.then(|| scheduler.reasons(now));
        if let Some(waiting) = &waiting {
            let least = if waiting.len() > WAITING_JOBS { WAITING_MS } else { 0 };
            let pause = u64::try_from((begun.elapsed() * WAITING_TIMES).as_millis()).unwrap_or(Millis::MAX);
            self.waiting_stale = false;
            self.waiting_at = now.saturating_add(pause.max(least));
            agents.extend(self.aside.iter());
        }
        let shown: Vec<(&String, Option<LiveAgent>)> =
            agents.iter().map(|name| (*name, LiveAgent::of(&self.hub, now, name))).collect();
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let mut units = false;
        let mut aside = Set::new();
        for (name, agent) in shown {
            match agent {
                Some(mut agent) => {
                    if agent.set_aside.is_some() || !agent.paused.is_empty() || agent.twin.is_some() {
                        aside.insert(name.clone());
                    }
                    match live.agents.get(name) {
                        Some(before) if agent.is_much_like(before) => agent.changed_at = before.changed_at,
                        _ => agent.changed_at = clock.wall,
                    }
                    live.agents.insert(name.clone(), Arc::new(agent));
                }
                None => _ = live.agents.remove(name),
            }
        }
        for touch in touches {
            if let Touch::Job(id) = touch {
                let attempts = JobKey { job: *id, attempt: 0 }..=JobKey { job: *id, attempt: u32::MAX };
                let known: Vec<JobKey> = live.log_lengths.range(attempts).map(|(key, _)| *key).collect();
                for key in known.into_iter().filter(|key| scheduler.holder(*key).is_none()) {
                    live.log_lengths.remove(&key);
                }
            }
        }
        if let Some(waiting) = waiting {
            live.waiting = waiting;
            live.units = self.hub.scheduler().units_told(now);
            let table = self.hub.scheduler().unit_table(clock);
            let like = |(one, other): (&UnitRow, &UnitRow)| one.is_much_like(other);
            units = table.len() != live.unit_table.len() || !table.iter().zip(&live.unit_table).all(like);
            live.unit_table = table;
            let boards = self.hub.boards(clock);
            let like = |(one, other): (&BoardRow, &BoardRow)| one.is_much_like(other);
            units |= boards.len() != live.boards.len() || !boards.iter().zip(&live.boards).all(like);
            live.boards = boards;
            let troubles = live.repositories.iter().filter_map(|repository| {
                let trouble = self.hub.scheduler().repository_trouble(&repository.name)?;
                Some((repository.name.clone(), trouble))
            });
            live.troubles = troubles.collect();
        }
        drop(live);
        if units {
            self.changes.touch(Topic::Units);
        }
        let touched: Vec<String> = agents.into_iter().filter(|name| !aside.contains(*name)).cloned().collect();
        for name in touched {
            self.aside.remove(&name);
        }
        self.aside.extend(aside);
    }
}

/// A group that has been written.
fn committed(group: u64, result: &Result<(), StoreError>) -> turns::Input<Change, Release> {
    if let Err(error) = result {
        // The group's messages must not go out. Without its records in the ledger this process would decide on a
        // memory that a restart does not have, so the only safe way on is to end: agents keep building and come
        // back to what the ledger does have.
        crate::say(&format!("the ledger cannot be written, so this master ends: {error}"));
        std::process::exit(i32::from(crate::EXIT_STORE));
    }
    turns::Input::Committed(group)
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sai_core::wire::{AgentMessage, Pong};

    /// Whatever the hub is about to take, a link comes before what it says: here behind all the requests that can wait.
    #[test]
    fn no_link_is_heard_before_it_is_known_or_found_late_when_it_is_there() {
        for frame_first in [true, false] {
            let edge = HubEdge::new();
            let handle = edge.handle();
            smol::block_on(async {
                for _ in 1..REQUESTS {
                    let (settled, _) = smol::channel::bounded(1);
                    handle.request(Request::Settled(settled)).await.expect("a hub");
                }
                let (outbox, _) = smol::channel::bounded(1);
                handle.request(Request::Link(7, "one".to_owned(), outbox)).await.expect("a hub");
                handle
                    .frame(Input::Message(7, AgentMessage::Pong(Pong { number: 1, wall: None })))
                    .await
                    .expect("a hub");
            });
            let next = if frame_first { Next::Frame(edge.frames.try_recv().expect("a frame")) } else { Next::Tick };
            let (controls, requests) = edge.gather(next, true, true);
            assert!(controls.is_empty());
            let link = requests.iter().position(|request| matches!(request, Request::Link(7, ..)));
            let said = requests.iter().position(|request| matches!(request, Request::Input(Input::Message(7, _))));
            assert!(link.is_some() && link < said, "the link is number {link:?}, what it says {said:?}");
            let late = requests.iter().position(|request| matches!(request, Request::Input(Input::Tick)));
            assert!(frame_first || said < late, "what it says is number {said:?}, that it is late {late:?}");
        }
    }
}
