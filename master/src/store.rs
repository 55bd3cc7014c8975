//! Change → durable memory → record: what the master knows, across restarts, crashes and full disks.
//!
//! Small records go to the ledger in groups: what was queued while one group was being written is the next one. Logs,
//! artifacts and saifiles are plain files. A record names a file before the file is made and is deleted before the
//! file is unlinked, so that what a crash leaves between them is a file without a record. So does damage of the ledger:
//! such a file is moved to `lost+found/`, never unlinked at once.

mod carried;
mod files;
mod index;
mod journal;
mod keys;
mod ledger;
mod lengths;
mod lost;
mod packed;
mod paths;
mod recover;
mod report;
mod retention;
mod settling;
mod transfer;
mod unknown;
mod writer;

pub use files::{Files, QUEUE_BYTES};
pub use packed::LogReader;
pub use report::{Report, Reporter};
pub use retention::{GcReport, gc};
pub use transfer::{Exported, export, import};

use keys::Kind;
use ledger::Ledger;
use lost::Lost;
use paths::{Paths, is_full, make_directory, sync_directory};
use rustix::io::Errno;
use sai_agent::clock;
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, TipRecord, UserRecord};
use sai_core::lull::{self, Lull};
use sai_core::numbers::Numbers;
use sai_core::retention::{Watch, Watched};
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

/// Free MiB below which no new job should start, by default: room for the logs of those that run.
pub const LOW_MIB: u64 = 512;
/// Changes that may wait for the ledger, some 16 MiB. Above it [`Store::commit`] waits: the ledger writes as fast as it can.
const QUEUED_CHANGES: usize = 16_384;
/// Changes written as one group at most (or one commit, if it has more), so that the first of them is not kept waiting.
const GROUP_CHANGES: usize = 2048;
/// Old actions deleted at once.
const OLD_ACTIONS: usize = 512;
/// How long to wait for room on a full disk before trying again.
const RETRY: Duration = Duration::from_millis(250);
/// How long another process may have a state before it is said to be in use: one that is just ending lets go of it, and so
/// does a child of whoever had it, which has a copy of the lock until it becomes another program.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// How often that is looked at.
const LOCK_LOOK: Duration = Duration::from_millis(10);
/// Version of what is under the state directory.
const FORMAT: &str = "sai-state 2";
/// The version before it, which had no journal: it is taken over.
const OLD_FORMAT: &str = "sai-state 1";
/// Bytes of the format file and of the lock file that are read at most.
const SMALL_FILE: u64 = 64;

/// What is wrong with the store, and whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Another process has it open.
    Busy {
        /// The state directory.
        state: PathBuf,
        /// Process number of the other one, when it says.
        holder: Option<u32>,
    },
    /// It was made by a version with another format.
    Format {
        /// The state directory.
        state: PathBuf,
        /// What its format file says; none when it is missing.
        found: Option<String>,
    },
    /// What its format file says must be there is not, and to go on would make that final.
    Missing {
        /// The state directory.
        state: PathBuf,
        /// What is not there, a clause.
        what: &'static str,
    },
    /// Records are lost, and all of them were asked for.
    Damaged {
        /// The state directory.
        state: PathBuf,
        /// What was found.
        told: String,
    },
    /// A file or directory of it cannot be used.
    File {
        /// Which.
        path: PathBuf,
        /// What was tried, a verb.
        what: &'static str,
        /// What the system says.
        why: String,
    },
    /// There was no room on the disk until the store was closed.
    Full,
    /// The ledger cannot go on.
    Ledger(String),
    /// A record is not what was written.
    Record {
        /// Its tree.
        kind: &'static str,
        /// Its key, escaped.
        key: String,
    },
    /// The store was closed.
    Closed,
    /// What is imported cannot be, at `FILE:LINE`.
    Import {
        /// `FILE:LINE`.
        at: String,
        /// What was expected there.
        expected: String,
    },
}

impl StoreError {
    fn file(path: &Path, what: &'static str, error: &io::Error) -> Self {
        Self::File { path: path.to_path_buf(), what, why: error.to_string() }
    }

    /// The same where there may just be no room.
    fn disk(path: &Path, what: &'static str, error: &io::Error) -> Self {
        if is_full(error) { Self::Full } else { Self::file(path, what, error) }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { state, holder } => {
                write!(out, "{}: another master has it open", state.display())?;
                if let Some(process) = holder {
                    write!(out, " (process {process})")?;
                }
                out.write_str("; one process at a time can, to export or collect garbage too: stop that master first")
            }
            Self::Format { state, found: Some(found) } => write!(
                out,
                "{}: holds {found:?}, this version reads {FORMAT:?}: export it with the version that made it, and import that",
                state.display()
            ),
            Self::Format { state, found: None } => write!(
                out,
                "{}: holds a ledger, but no file \"format\" that says which version made it",
                state.display()
            ),
            Self::Missing { state, what } => write!(
                out,
                "{}: {what}, and nothing is begun in its place; put it back from a backup, or take what is left: \
                 `sai-master export --salvage`, and import that into a new state directory",
                state.display()
            ),
            Self::Damaged { state, told } => write!(
                out,
                "{}: {told}; `sai-master export --salvage` gives all that can still be read",
                state.display()
            ),
            Self::File { path, what, why } => write!(out, "{}: cannot {what} it: {why}", path.display()),
            Self::Full => out.write_str("the disk is full"),
            Self::Ledger(why) => write!(out, "the ledger cannot go on: {why}"),
            Self::Record { kind, key } => write!(out, "the ledger is damaged: unreadable record {key} of {kind}"),
            Self::Closed => out.write_str("the store is closed"),
            Self::Import { at, expected } => write!(out, "{at}: expected {expected}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// One thing to remember or forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Keep this event, in place of an earlier one with its number.
    Event(EventRecord),
    /// Keep this job, in place of an earlier one with its number.
    Job(JobRecord),
    /// Keep this agent, in place of an earlier one of that name.
    Agent(AgentRecord),
    /// Keep this user, in place of an earlier one of that name.
    User(UserRecord),
    /// Keep this tip, in place of an earlier one of that ref.
    Tip(TipRecord),
    /// The ref is gone.
    ForgetTip {
        /// Name of the repository.
        repository: String,
        /// The ref.
        reference: String,
    },
    /// Keep this action.
    Action(ActionRecord),
    /// Delete an event, its jobs and, once that is durable, their files.
    DeleteEvent(EventId),
    /// Keep the files of a new event, which [`Files::put_both`] has written, until they are durable themselves.
    Files {
        /// The event.
        event: EventId,
        /// Its saifile.
        saifile: String,
        /// Its plan, if it has jobs.
        plan: Option<String>,
    },
}

/// What a master needs to go on where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Events with jobs that have not ended, oldest first.
    pub events: Vec<EventRecord>,
    /// All jobs of those events, by number, and those that have not ended although the record of their event is gone.
    pub jobs: Vec<JobRecord>,
    /// All agents, by name.
    pub agents: Vec<AgentRecord>,
    /// All users, by name.
    pub users: Vec<UserRecord>,
    /// All tips, in no order.
    pub tips: Vec<TipRecord>,
    /// Number for the next event: never one that was used, even if that event is deleted.
    pub next_event: u64,
    /// Number for the next job, likewise.
    pub next_job: u64,
    /// Number for the next action, likewise.
    pub next_action: u64,
    /// What was found damaged, missing or without a record, and what became of it: for people, in sentences.
    pub told: Vec<String>,
}

/// How to open a store.
pub struct Options {
    /// Free MiB below which [`Report::Low`] is said.
    pub low_mib: u64,
    /// Takes the reports of the files; called from one thread, must not block.
    pub report: Reporter,
}

impl Options {
    /// The default threshold.
    pub fn new(report: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Self { low_mib: LOW_MIB, report: Box::new(report) }
    }
}

/// Called when a commit is durable, or with the reason why it never will be. Runs on the ledger's thread: must not block.
pub type Then = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Commit {
    changes: Vec<Change>,
    /// Besides the changes: actions below this number may go.
    actions_below: Option<u64>,
    then: Then,
}

impl Commit {
    /// What it counts in the queue: empty ones are bounded too.
    fn weight(&self) -> usize {
        1 + self.changes.len()
    }
}

#[derive(Default)]
struct Commits {
    queue: VecDeque<Commit>,
    /// Weight of all in the queue.
    weight: usize,
    closing: bool,
    thread: Option<ThreadId>,
}

struct Inner {
    ledger: Ledger,
    files: Files,
    /// Whether the clock leaps, for those who would delete by it.
    watch: Mutex<Watch>,
    commits: Mutex<Commits>,
    wake: Condvar,
    room: Condvar,
}

impl Inner {
    fn commits(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by every `Store`; when the last one goes, all that is queued is written and the state directory let go.
struct Handle {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<File>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.files.close();
        self.inner.commits().closing = true;
        self.inner.wake.notify_all();
        self.inner.room.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // The last `Store` may go in a callback; that thread ends by itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
        self.inner.ledger.close();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// The master's memory. Clones are the same one.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

impl Store {
    /// Opens the store under `state`, made if there is none, for this process alone, and reads what a master needs to
    /// go on. Files without a record, which a crash or damage may leave, are moved to `lost+found/`; complete logs that are
    /// not packed are. Damage of the ledger is said in [`Restored::told`].
    ///
    /// # Errors
    /// `Busy` when another process has it, `Format` when another version made it, `Missing` when its ledger is not there
    /// any more, and the disk's.
    pub fn open(state: &Path, options: Options) -> Result<(Self, Restored), StoreError> {
        let lock = lock(state)?;
        let (mut lost, mut told) = (Lost::new(state), Vec::new());
        match format(state)? {
            State::New => recover::found(state, Numbers::FIRST, &mut |_| Ok(()))?,
            State::Old => recover::migrate(state, &mut lost, &mut told)?,
            State::Current => {}
        }
        let ledger = Ledger::open(state, &mut lost, &mut told)?;
        let paths = Paths { state: state.to_path_buf() };
        settling::settle(&paths, &ledger)?;
        let mut restored = restore(&ledger)?;
        let mut lives = |key: JobKey| {
            let job = ledger.index.record::<JobRecord>(Kind::Job, key.job);
            // What cannot be told is kept.
            job.map_or(true, |job| job.is_some_and(|job| !job.state.ended() && job.attempt == key.attempt))
        };
        let files = Files::open(paths, options.low_mib, options.report, &mut lives)?;
        if files.lengths_damaged() {
            told.push(
                "how much of the running logs is durable is not known any more; their files' lengths count".to_string(),
            );
        }
        let moved = retention::sweep(&ledger, &files, None, &mut lost)?;
        if moved > 0 {
            told.push(format!("{moved} files without a record were moved to {}", lost.place()));
        }
        lost.sync()?;
        restored.told = told;
        let mut threads = files.start()?;
        let watch = Mutex::new(Watch::begin(clock::now()));
        let inner = Arc::new(Inner {
            ledger,
            files,
            watch,
            commits: Mutex::default(),
            wake: Condvar::new(),
            room: Condvar::new(),
        });
        let writer = Arc::clone(&inner);
        let thread = thread::Builder::new().name("sai-ledger".to_string()).spawn(move || write_groups(&writer));
        let thread = thread.map_err(|error| StoreError::file(state, "start a thread for", &error));
        // The handle comes before the error, so that it ends the threads of the files.
        inner.commits().thread = thread.as_ref().ok().map(|thread| thread.thread().id());
        let failed = thread.map(|thread| threads.push(thread)).err();
        let handle = Arc::new(Handle { inner, threads: Mutex::new(threads), lock: Mutex::new(Some(lock)) });
        match failed {
            None => Ok((Self { handle }, restored)),
            Some(error) => Err(error),
        }
    }

    /// A handle for reading; it finds nothing any more once the last `Store` is gone.
    pub fn reader(&self) -> Reader {
        Reader { inner: Arc::clone(&self.handle.inner) }
    }

    /// Logs, artifacts and saifiles.
    pub fn files(&self) -> &Files {
        &self.handle.inner.files
    }

    /// Queues changes that belong together: after a crash there are all of them or none. `then` is called once they
    /// are durable, in the order of the commits.
    ///
    /// A full disk is no error: the commit waits for room, with those after it, and nothing is released meanwhile.
    /// Any other trouble is final: this commit and all later ones get it, and the master should end.
    ///
    /// Waits while `QUEUED_CHANGES` others are queued, except inside a `then`.
    pub fn commit(&self, changes: Vec<Change>, then: Then) {
        self.push(Commit { changes, actions_below: None, then });
    }

    fn push(&self, commit: Commit) {
        let inner = &self.handle.inner;
        let mut commits = inner.commits();
        let own = commits.thread == Some(thread::current().id());
        while !own && !commits.closing && commits.weight >= QUEUED_CHANGES {
            commits = inner.room.wait(commits).unwrap_or_else(PoisonError::into_inner);
        }
        commits.weight += commit.weight();
        commits.queue.push_back(commit);
        drop(commits);
        inner.wake.notify_one();
    }

    /// Commits and waits until it is durable. Not inside a `then`, which would wait for itself.
    ///
    /// # Errors
    /// Why it is not.
    pub fn commit_now(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.commit_and_wait(changes, None)
    }

    fn commit_and_wait(&self, changes: Vec<Change>, actions_below: Option<u64>) -> Result<(), StoreError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let then: Then = Box::new(move |result| {
            // The receiver waits just below.
            let _ = sender.send(result);
        });
        self.push(Commit { changes, actions_below, then });
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    /// The clock, and since when it goes as it should.
    fn watch_clock(&self) -> Watched {
        self.handle.inner.watch.lock().unwrap_or_else(PoisonError::into_inner).look(clock::now())
    }

    fn ledger(&self) -> &Ledger {
        &self.handle.inner.ledger
    }
}

/// The ledger's thread.
fn write_groups(inner: &Inner) {
    let mut broken: Option<StoreError> = None;
    // Events whose files the journal still carries.
    let mut lull = Lull::default();
    loop {
        let mut commits = inner.commits();
        let mut due = None;
        while commits.queue.is_empty() && due.is_none() {
            let wait = lull.deadline().map(|at| Duration::from_millis(at.saturating_sub(clock::steady())));
            (commits, due) = match wait {
                None if commits.closing => return,
                Some(_) if commits.closing => (commits, Some(lull::Input::Closing)),
                None => (inner.wake.wait(commits).unwrap_or_else(PoisonError::into_inner), None),
                Some(wait) if wait.is_zero() => (commits, Some(lull::Input::Tick)),
                Some(wait) => (inner.wake.wait_timeout(commits, wait).unwrap_or_else(PoisonError::into_inner).0, None),
            };
        }
        if let Some(input) = due {
            drop(commits);
            settle(inner, &mut lull, input, &mut broken);
            continue;
        }
        let (mut group, mut weight) = (Vec::new(), 0);
        while weight < GROUP_CHANGES {
            let Some(commit) = commits.queue.pop_front() else { break };
            weight += commit.weight();
            group.push(commit);
        }
        commits.weight -= weight;
        drop(commits);
        inner.room.notify_all();
        let result = match &broken {
            Some(error) => Err(error.clone()),
            None => write_group(inner, &group),
        };
        let carried = group.iter().flat_map(|commit| &commit.changes).filter_map(|change| match change {
            Change::Files { event, .. } => Some(*event),
            _ => None,
        });
        let written = result.is_ok().then(|| lull::Input::Written(carried.collect()));
        if let Err(error) = &result {
            broken.get_or_insert_with(|| error.clone());
        }
        for commit in group {
            (commit.then)(result.clone());
        }
        if let Some(input) = written {
            settle(inner, &mut lull, input, &mut broken);
        }
    }
}

/// Flushes the files of those events that it is time for.
fn settle(inner: &Inner, lull: &mut Lull, input: lull::Input, broken: &mut Option<StoreError>) {
    let mut outputs = Vec::new();
    lull.handle(clock::steady(), input, &mut outputs);
    for lull::Output::Flush(events) in outputs {
        if broken.is_none()
            && let Err(error) = settle_files(inner, &events)
        {
            *broken = Some(error);
        }
    }
}

/// Makes the files of some events durable, so that the journal need not carry them any longer.
fn settle_files(inner: &Inner, events: &[EventId]) -> Result<(), StoreError> {
    let paths = inner.files.paths();
    // What the disk does not take is carried on: the next start writes it again from the journal.
    if settling::sync(paths, events).is_err() {
        return Ok(());
    }
    match inner.ledger.commit(&inner.ledger.staged_durable(events), &mut || false) {
        Err(StoreError::Full) => Ok(()),
        result => result,
    }
}

fn write_group(inner: &Inner, group: &[Commit]) -> Result<(), StoreError> {
    let mut wait = || {
        let commits = inner.commits();
        let waited = inner.wake.wait_timeout_while(commits, RETRY, |commits| !commits.closing);
        let (commits, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !commits.closing
    };
    let mut changes = group.iter().flat_map(|commit| &commit.changes);
    let before = group.iter().filter_map(|commit| commit.actions_below).max();
    if before.is_some() || changes.any(|change| matches!(change, Change::DeleteEvent(_))) {
        inner.ledger.catch_up(&mut wait)?;
    }
    let mut staged = inner.ledger.stage(group.iter().flat_map(|commit| &commit.changes))?;
    if let Some(before) = before {
        inner.ledger.stage_old_actions(before, OLD_ACTIONS, &mut staged)?;
    }
    inner.ledger.commit(&staged, &mut wait)?;
    for (event, keys) in &staged.deleted {
        // What cannot be unlinked has no record any more and is swept later.
        let _ = fs::remove_file(inner.files.paths().saifile(*event));
        let _ = fs::remove_file(inner.files.paths().plan(*event));
        let _ = fs::remove_file(inner.files.paths().bundle(*event));
        for key in keys {
            inner.files.remove(*key);
        }
    }
    Ok(())
}

/// Locks the state directory for this process.
fn lock(state: &Path) -> Result<File, StoreError> {
    let failed = |what, path: &Path, error: &io::Error| StoreError::file(path, what, error);
    make_directory(state).map_err(|error| failed("make", state, &error))?;
    let path = state.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|error| failed("open", &path, &error))?;
    let until = Instant::now() + LOCK_PATIENCE;
    let locked = loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => thread::sleep(LOCK_LOOK),
            result => break result,
        }
    };
    match locked {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let read = file.take(SMALL_FILE).read_to_string(&mut holder);
            let holder = read.ok().and_then(|_| holder.trim().parse().ok());
            return Err(StoreError::Busy { state: state.to_path_buf(), holder });
        }
        Err(error) => return Err(failed("lock", &path, &error.into())),
    }
    // The number is for the message alone, so that it does not matter whether a full disk has room for it.
    let _ = file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    Ok(file)
}

/// What is under a state directory.
enum State {
    /// Nothing.
    New,
    /// What a version without a journal left.
    Old,
    /// A journal.
    Current,
}

fn format(state: &Path) -> Result<State, StoreError> {
    let path = state.join("format");
    let mut found = String::new();
    match File::open(&path).and_then(|file| file.take(SMALL_FILE).read_to_string(&mut found)) {
        Ok(_) if is_current(found.trim_end()) => Ok(State::Current),
        Ok(_) if found.trim_end() == OLD_FORMAT => Ok(State::Old),
        Ok(_) => Err(StoreError::Format { state: state.to_path_buf(), found: Some(found.trim_end().to_string()) }),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Err(StoreError::Format { state: state.to_path_buf(), found: Some("bytes that are no text".to_string()) })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // A journal says itself what it is: it alone was put back from a backup, or this process' forerunner was ended after
            // the journal was in place and before the format was written.
            if !recover::Pieces::survey(state)?.is_empty() {
                write_format(state)?;
                return Ok(State::Current);
            }
            if state.join("ledger").exists() {
                return Err(StoreError::Format { state: state.to_path_buf(), found: None });
            }
            let used = lost::numbers(state).map_err(|error| StoreError::file(state, "list", &error))?;
            if used.event > 1 || used.job > 1 {
                return Err(StoreError::Missing { state: state.to_path_buf(), what: "its ledger is gone" });
            }
            Ok(State::New)
        }
        Err(error) => Err(StoreError::file(&path, "read", &error)),
    }
}

/// Whether what a format file says is this version's format, or that with what may be added to it: what a later version
/// writes `sai-state 2.7` for has kinds and keys that an earlier one keeps without knowing them.
fn is_current(found: &str) -> bool {
    let more = found.strip_prefix(FORMAT);
    more.is_some_and(|more| more.is_empty() || more.strip_prefix('.').is_some_and(|minor| minor.parse::<u32>().is_ok()))
}

fn write_format(state: &Path) -> Result<(), StoreError> {
    let path = state.join("format");
    let write = || -> io::Result<()> {
        let temporary = state.join("format.tmp");
        let mut file = File::create(&temporary)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_directory(state)
    };
    write().map_err(|error| StoreError::disk(&path, "write", &error))
}

fn restore(ledger: &Ledger) -> Result<Restored, StoreError> {
    let mut events: Vec<EventRecord> = Vec::new();
    let mut jobs = Vec::new();
    for job in ledger.index.unfinished(0, u64::MAX)? {
        let Some(job) = ledger.index.record::<JobRecord>(Kind::Job, job)? else { continue };
        if events.last().is_some_and(|event| event.id == job.event) {
            continue;
        }
        let Some(event) = ledger.index.record::<EventRecord>(Kind::Event, job.event)? else {
            jobs.push(job);
            continue;
        };
        for id in event.first_job..event.first_job.saturating_add(u64::from(event.jobs)) {
            jobs.extend(ledger.index.record::<JobRecord>(Kind::Job, id)?);
        }
        events.push(event);
    }
    let numbers = ledger.numbers();
    Ok(Restored {
        events,
        jobs,
        agents: ledger.index.all(Kind::Agent)?,
        users: ledger.index.all(Kind::User)?,
        tips: ledger.index.all(Kind::Tip)?,
        next_event: numbers.event,
        next_job: numbers.job,
        next_action: numbers.action,
        told: Vec::new(),
    })
}

/// Reads records and files. Cheap to clone, for any thread; each call may wait for the disk.
///
/// Records that cannot be read (the ledger is being opened anew on a full disk, or is broken) count as absent here: the
/// commits tell.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
}

impl Reader {
    /// At most `limit` events numbered below `before`, of one repository or of all, newest first.
    pub fn events(&self, before: Option<EventId>, repository: Option<&str>, limit: usize) -> Vec<EventRecord> {
        let before = before.unwrap_or(u64::MAX);
        let found = match repository {
            Some(repository) => self.inner.ledger.index.events_of(repository, before, limit),
            None => self.inner.ledger.index.newest(Kind::Event, 0, before, limit),
        };
        found.unwrap_or_default()
    }

    /// One event.
    pub fn event(&self, id: EventId) -> Option<EventRecord> {
        self.inner.ledger.index.record(Kind::Event, id).unwrap_or_default()
    }

    /// The jobs of an event, in matrix order.
    pub fn jobs(&self, event: EventId) -> Vec<JobRecord> {
        let Some(event) = self.event(event) else { return Vec::new() };
        let end = event.first_job.saturating_add(u64::from(event.jobs));
        let mut jobs = self.inner.ledger.index.newest(Kind::Job, event.first_job, end, usize::MAX).unwrap_or_default();
        jobs.reverse();
        jobs
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Option<JobRecord> {
        self.inner.ledger.index.record(Kind::Job, id).unwrap_or_default()
    }

    /// All agents, by name.
    pub fn agents(&self) -> Vec<AgentRecord> {
        self.inner.ledger.index.all(Kind::Agent).unwrap_or_default()
    }

    /// One agent.
    pub fn agent(&self, name: &str) -> Option<AgentRecord> {
        self.inner.ledger.index.named(Kind::Agent, name).unwrap_or_default()
    }

    /// All users, by name.
    pub fn users(&self) -> Vec<UserRecord> {
        self.inner.ledger.index.all(Kind::User).unwrap_or_default()
    }

    /// At most `limit` actions with numbers below `before`, newest first.
    pub fn actions(&self, before: Option<u64>, limit: usize) -> Vec<ActionRecord> {
        self.inner.ledger.index.newest(Kind::Action, 0, before.unwrap_or(u64::MAX), limit).unwrap_or_default()
    }

    /// An event's saifile as it was pushed.
    ///
    /// # Errors
    /// The disk's; `NotFound` when none was kept.
    pub fn saifile(&self, event: EventId) -> io::Result<Vec<u8>> {
        self.inner.files.paths().read_saifile(event)
    }

    /// What was planned for an event, see [`sai_core::plan`].
    ///
    /// # Errors
    /// The disk's; `NotFound` for an event without jobs, and for one that a version without plans made.
    pub fn plan(&self, event: EventId) -> io::Result<Vec<u8>> {
        self.inner.files.paths().read_plan(event)
    }

    /// The log of an attempt: its record stream, also while it grows.
    ///
    /// # Errors
    /// The disk's; `NotFound` when there is no byte of it; `InvalidData` when a packed one is damaged.
    pub fn log(&self, key: JobKey) -> io::Result<LogReader> {
        LogReader::open(self.inner.files.paths(), key)
    }

    /// An artifact of an attempt, also while it grows.
    ///
    /// # Errors
    /// The disk's; `NotFound` when there is no byte of it, and for stream 0, which is the log.
    pub fn artifact(&self, key: JobKey, stream: u16) -> io::Result<File> {
        if stream == 0 {
            return Err(ErrorKind::NotFound.into());
        }
        File::open(self.artifact_path(key, stream))
    }

    /// Where what somebody has sent for an event is, if it is there.
    pub fn bundle_path(&self, event: EventId) -> PathBuf {
        self.inner.files.paths().bundle(event)
    }

    /// Where the file of an artifact is, if it is there.
    pub fn artifact_path(&self, key: JobKey, stream: u16) -> PathBuf {
        self.inner.files.paths().stream(key, stream)
    }
}
