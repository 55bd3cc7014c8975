//! Operation → bytes in files → Report: one thread writes, a few flush side by side, one packs and unlinks.
//!
//! Several flushes at once are not for the processor: a journalling file system puts flushes that wait together into
//! one commit, so that four threads finish several times as many small logs as one. When which stream is flushed, and what
//! follows, is decided in [`sai_core::flushes`]; whether there is room for one, in [`sai_core::space`].

mod beside;

use super::ledger::RESERVE_BYTES;
use super::lengths::Lengths;
use super::paths::{Paths, free_bytes, is_full};
use super::report::{Report, Reporter};
use sai_agent::clock::steady;
use sai_core::flushes::{Flushes, Input, Name, Output};
use sai_core::job::JobKey;
use sai_core::ordered::Map;
use sai_core::space::{self, Space};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Threads that flush.
const FLUSHERS: usize = 4;
/// Streams whose file is kept open.
const OPEN_FILES: usize = 256;
/// Bytes an operation counts in the queue besides its content, so that empty ones are bounded too.
const OPERATION_BYTES: u64 = 64;
/// Bytes of free space below which streams wait, so that records can still be written: the ledger's reserve twice.
const FLOOR_BYTES: u64 = 2 * RESERVE_BYTES;

/// What is asked of the writer.
pub(super) enum Operation {
    Append { key: JobKey, stream: u16, offset: u64, bytes: Vec<u8> },
    Seal { key: JobKey, stream: u16, size: u64, sha256: [u8; 32] },
    Flush { key: JobKey },
    Finish { key: JobKey, prune: bool },
}

impl Operation {
    fn key(&self) -> JobKey {
        match self {
            Self::Append { key, .. } | Self::Seal { key, .. } | Self::Flush { key } | Self::Finish { key, .. } => *key,
        }
    }

    fn bytes(&self) -> u64 {
        let content = if let Self::Append { bytes, .. } = self { bytes.len() as u64 } else { 0 };
        content + OPERATION_BYTES
    }
}

/// What a flusher found.
struct Done {
    key: JobKey,
    stream: u16,
    what: Outcome,
}

enum Outcome {
    Flushed(u64, io::Result<()>),
    Sealed(io::Result<bool>),
}

#[derive(Default)]
struct Queue {
    operations: VecDeque<Operation>,
    removals: Vec<JobKey>,
    done: Vec<Done>,
    closing: bool,
}

/// Work for the flushers.
enum Task {
    Flush { key: JobKey, stream: u16, file: Option<Arc<File>>, length: u64, new: bool },
    Seal { key: JobKey, stream: u16, sha256: [u8; 32] },
}

#[derive(Default)]
struct Tasks {
    flushes: VecDeque<Task>,
    seals: VecDeque<Task>,
    sealing: usize,
    removals: VecDeque<JobKey>,
    /// Each with whether files that are not whole are unlinked.
    packing: VecDeque<(JobKey, bool)>,
    closing: bool,
}

/// What the threads and their callers share.
pub(super) struct Shared {
    pub paths: Paths,
    pub lengths: Lengths,
    low_mib: u64,
    report: Reporter,
    queue: Mutex<Queue>,
    queue_wake: Condvar,
    queued: AtomicU64,
    tasks: Mutex<Tasks>,
    tasks_wake: Condvar,
    archive_wake: Condvar,
}

impl Shared {
    pub(super) fn new(paths: Paths, lengths: Lengths, low_mib: u64, report: Reporter) -> Self {
        Self {
            paths,
            lengths,
            low_mib,
            report,
            queue: Mutex::default(),
            queue_wake: Condvar::new(),
            queued: AtomicU64::new(0),
            tasks: Mutex::default(),
            tasks_wake: Condvar::new(),
            archive_wake: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, operation: Operation) {
        self.queued.fetch_add(operation.bytes(), Ordering::Relaxed);
        self.lock().operations.push_back(operation);
        self.queue_wake.notify_one();
    }

    /// Nothing more of this attempt is wanted: what is queued of it, and waits for room, makes room.
    pub(super) fn finish(&self, key: JobKey, prune: bool) {
        let mut queue = self.lock();
        let mut freed = 0;
        queue.operations.retain(|operation| {
            let keep =
                operation.key() != key || !matches!(operation, Operation::Append { .. } | Operation::Seal { .. });
            if !keep {
                freed += operation.bytes();
            }
            keep
        });
        let finish = Operation::Finish { key, prune };
        self.queued.fetch_add(finish.bytes(), Ordering::Relaxed);
        self.queued.fetch_sub(freed, Ordering::Relaxed);
        queue.operations.push_back(finish);
        drop(queue);
        self.queue_wake.notify_one();
    }

    pub(super) fn remove(&self, key: JobKey) {
        self.lock().removals.push(key);
        self.queue_wake.notify_one();
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        self.queued.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.queue_wake.notify_all();
    }

    fn done(&self, key: JobKey, stream: u16, what: Outcome) {
        self.lock().done.push(Done { key, stream, what });
        self.queue_wake.notify_one();
    }
}

/// Starts the threads. They end after [`Shared::close`], when all is written and flushed.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    let mut spawn = |name: String, run: Box<dyn FnOnce() + Send>| -> io::Result<()> {
        threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    };
    for number in 0..FLUSHERS {
        let shared = Arc::clone(shared);
        spawn(format!("sai-flush-{number}"), Box::new(move || beside::flush_all(&shared)))?;
    }
    let archive = Arc::clone(shared);
    spawn("sai-archive".to_string(), Box::new(move || beside::archive_all(&archive)))?;
    let writer = Arc::clone(shared);
    spawn("sai-files".to_string(), Box::new(move || Writer::new(writer).run()))?;
    Ok(threads)
}

/// What the writer holds of a stream that was used lately or is not all durable.
struct Stream {
    file: Option<Arc<File>>,
    /// What to compare it with once it is durable.
    digest: Option<[u8; 32]>,
    /// When it was last used, counted in operations.
    used: u64,
}

struct Writer {
    shared: Arc<Shared>,
    streams: Map<Name, Stream>,
    flushes: Flushes,
    open: usize,
    used: u64,
    space: Space,
}

impl Writer {
    fn new(shared: Arc<Shared>) -> Self {
        let space = Space::new(shared.low_mib, FLOOR_BYTES);
        Self { shared, streams: Map::new(), flushes: Flushes::default(), open: 0, used: 0, space }
    }

    fn say(&self, report: Report) {
        (self.shared.report)(report);
    }

    fn failed(&self, (key, stream): Name, why: impl ToString) {
        self.say(Report::Failed { key, stream, why: why.to_string() });
    }

    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        self.measure(space::Input::Tick);
        loop {
            if self.space.deadline().is_some_and(|at| at <= steady()) {
                self.measure(space::Input::Tick);
            }
            if self.flushes.deadline().is_some_and(|at| at <= steady()) {
                self.decide(Input::Tick, None);
            }
            let mut queue = shared.lock();
            let removals = std::mem::take(&mut queue.removals);
            if !removals.is_empty() {
                self.purge(&mut queue, &removals);
            }
            let done = std::mem::take(&mut queue.done);
            let may_write = self.space.waits_until().is_none();
            let operation = if may_write {
                queue.operations.pop_front()
            } else {
                // What ends needs no room, and may give some.
                let place = queue.operations.iter().position(|operation| matches!(operation, Operation::Finish { .. }));
                place.and_then(|place| queue.operations.remove(place))
            };
            if done.is_empty() && operation.is_none() && removals.is_empty() {
                if queue.closing && (queue.operations.is_empty() || !may_write) {
                    drop(queue);
                    self.decide(Input::HurryAll, None);
                    if self.flushes.is_idle() {
                        break;
                    }
                    queue = shared.lock();
                }
                if queue.done.is_empty() && queue.removals.is_empty() {
                    let due = self.flushes.deadline().into_iter().chain(self.space.deadline()).min();
                    let due = due.map_or(space::LOOK_MS, |at| at.saturating_sub(steady()));
                    // An operation that came meanwhile has left its notification behind: look again before waiting.
                    if !may_write || queue.operations.is_empty() {
                        drop(shared.queue_wake.wait_timeout(queue, Duration::from_millis(due)));
                    }
                }
                continue;
            }
            drop(queue);
            for key in removals {
                self.remove(key);
            }
            for done in done {
                self.take(done);
            }
            if let Some(operation) = operation {
                self.perform(operation);
            }
        }
        let mut tasks = shared.tasks();
        tasks.closing = true;
        drop(tasks);
        shared.tasks_wake.notify_all();
        shared.archive_wake.notify_all();
    }

    /// Drops what is queued for attempts that are to be removed.
    fn purge(&mut self, queue: &mut Queue, removals: &[JobKey]) {
        let mut freed = 0;
        queue.operations.retain(|operation| {
            let keep = !removals.contains(&operation.key());
            if !keep {
                freed += operation.bytes();
            }
            keep
        });
        self.shared.queued.fetch_sub(freed, Ordering::Relaxed);
    }

    fn remove(&mut self, key: JobKey) {
        self.shared.lengths.finish(key);
        self.decide(Input::Remove(key), None);
        let mut tasks = self.shared.tasks();
        tasks.packing.retain(|(packing, _)| *packing != key);
        tasks.removals.push_back(key);
        drop(tasks);
        self.shared.archive_wake.notify_one();
    }

    fn forget(&mut self, name: Name) {
        if let Some(stream) = self.streams.remove(&name) {
            self.open -= usize::from(stream.file.is_some());
        }
    }

    fn perform(&mut self, operation: Operation) {
        self.used += 1;
        let bytes = operation.bytes();
        match operation {
            Operation::Append { key, stream, offset, bytes } => {
                let length = bytes.len();
                let rest = self.append((key, stream), offset, bytes);
                let left = rest.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64 + OPERATION_BYTES);
                self.shared.queued.fetch_sub(length as u64 + OPERATION_BYTES - left, Ordering::Relaxed);
                if let Some((offset, bytes)) = rest {
                    self.shared.lock().operations.push_front(Operation::Append { key, stream, offset, bytes });
                }
                return;
            }
            Operation::Seal { key, stream, size, sha256 } => {
                let name = (key, stream);
                match self.open(name, size == 0) {
                    Ok(()) => {
                        if let Some(stream) = self.streams.get_mut(&name) {
                            stream.digest = Some(sha256);
                        }
                        self.decide(Input::Seal(name, size), None);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        self.say(Report::Sealed { key, stream, ok: false });
                    }
                    Err(error) => self.failed(name, error),
                }
            }
            Operation::Flush { key } => self.decide(Input::Hurry(key), None),
            Operation::Finish { key, prune } => {
                self.shared.lengths.finish(key);
                self.decide(Input::Finish(key, prune), None);
            }
        }
        self.shared.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn pack(&self, key: JobKey, prune: bool) {
        let mut tasks = self.shared.tasks();
        match tasks.packing.iter_mut().find(|(packing, _)| *packing == key) {
            Some((_, also)) => *also |= prune,
            None => tasks.packing.push_back((key, prune)),
        }
        drop(tasks);
        self.shared.archive_wake.notify_one();
    }

    /// Makes sure that a stream is known and its file open.
    fn open(&mut self, name: Name, fresh: bool) -> io::Result<()> {
        if self.streams.get(&name).is_some_and(|stream| stream.file.is_some()) {
            if let Some(stream) = self.streams.get_mut(&name) {
                stream.used = self.used;
            }
            return Ok(());
        }
        if self.open >= OPEN_FILES {
            self.evict();
        }
        let file = self.shared.paths.open_stream(name.0, name.1, fresh)?;
        let length = file.metadata()?.len();
        self.open += 1;
        let used = self.used;
        let file = Some(Arc::new(file));
        match self.streams.get_mut(&name) {
            Some(stream) => (stream.file, stream.used) = (file, used),
            None => {
                self.streams.insert(name, Stream { file, digest: None, used });
                // Bytes of an earlier process were synced when it asked for the lengths; flushing them again costs little.
                self.decide(Input::Opened(name, length), None);
            }
        }
        Ok(())
    }

    /// Closes the file that was not used for the longest time; a stream that is all durable is forgotten with it.
    fn evict(&mut self) {
        let oldest =
            self.streams.iter().filter(|(_, stream)| stream.file.is_some()).min_by_key(|(_, stream)| stream.used);
        let Some(name) = oldest.map(|(name, _)| *name) else { return };
        self.decide(Input::Closed(name), None);
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.file = None;
            self.open -= 1;
        }
    }

    /// Writes bytes; returns those for which there was no room, with their offset.
    fn append(&mut self, name: Name, offset: u64, mut bytes: Vec<u8>) -> Option<(u64, Vec<u8>)> {
        if !self.measure(space::Input::Wanted(bytes.len() as u64)) {
            return Some((offset, bytes));
        }
        if let Err(error) = self.open(name, offset == 0) {
            if is_full(&error) {
                self.measure(space::Input::Full);
                return Some((offset, bytes));
            }
            self.failed(name, format!("cannot append: {error}"));
            return None;
        }
        let length = self.flushes.length(name).unwrap_or(0);
        if length != offset {
            self.failed(name, format!("bytes from {offset} on, but the file has {length}"));
            return None;
        }
        let mut written = 0;
        let mut trouble = None;
        if let Some(file) = self.streams.get(&name).and_then(|stream| stream.file.as_ref()) {
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                match file.write_at(rest, offset + written as u64) {
                    Ok(0) => trouble = Some(io::Error::from(io::ErrorKind::WriteZero)),
                    Ok(taken) => written += taken,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => trouble = Some(error),
                }
                if trouble.is_some() {
                    break;
                }
            }
        }
        if written > 0 {
            let length = offset + written as u64;
            self.say(Report::Appended { key: name.0, stream: name.1, length });
            self.decide(Input::Appended(name, length), None);
        }
        match trouble {
            None => None,
            Some(error) if is_full(&error) => {
                self.measure(space::Input::Full);
                bytes.drain(..written);
                Some((offset + written as u64, bytes))
            }
            Some(error) => {
                self.failed(name, format!("cannot append: {error}"));
                None
            }
        }
    }

    /// Tells the machine what there is to know of room, and carries out what it says. Whether what is wanted may be written.
    fn measure(&mut self, input: space::Input) -> bool {
        let (mut next, mut outputs, mut may_write) = (Some(input), Vec::new(), false);
        while let Some(input) = next.take() {
            self.space.handle(steady(), input, &mut outputs);
            for output in outputs.drain(..) {
                match output {
                    space::Output::Look => {
                        next = Some(space::Input::Looked(free_bytes(&self.shared.paths.state).ok()));
                    }
                    space::Output::Write => may_write = true,
                    space::Output::Wait => may_write = false,
                    space::Output::Low(free_mib) => self.say(Report::Low { free_mib }),
                    space::Output::Enough => self.say(Report::Enough),
                }
            }
        }
        may_write
    }

    fn take(&mut self, done: Done) {
        let name = (done.key, done.stream);
        match done.what {
            Outcome::Flushed(length, Ok(())) => self.decide(Input::Flushed(name, length, true), None),
            Outcome::Flushed(length, Err(error)) => self.decide(Input::Flushed(name, length, false), Some(error)),
            Outcome::Sealed(Ok(equal)) => self.decide(Input::Compared(name, Some(equal)), None),
            Outcome::Sealed(Err(error)) => self.decide(Input::Compared(name, None), Some(error)),
        }
    }

    /// Tells the machine what happened, and carries out what it says. The trouble is that of what happened.
    fn decide(&mut self, input: Input, mut trouble: Option<io::Error>) {
        let mut outputs = Vec::new();
        self.flushes.handle(steady(), input, &mut outputs);
        for output in outputs {
            match output {
                Output::Flush { name: (key, stream), length, new } => {
                    let file = self.streams.get(&(key, stream)).and_then(|stream| stream.file.clone());
                    self.shared.tasks().flushes.push_back(Task::Flush { key, stream, file, length, new });
                    self.shared.tasks_wake.notify_one();
                }
                Output::Durable((key, stream), length) => self.say(Report::Flushed { key, stream, length }),
                Output::Compare((key, stream)) => {
                    let sha256 = self.streams.get(&(key, stream)).and_then(|stream| stream.digest).unwrap_or_default();
                    self.shared.tasks().seals.push_back(Task::Seal { key, stream, sha256 });
                    self.shared.tasks_wake.notify_one();
                }
                Output::Sealed((key, stream), Some(ok)) => self.say(Report::Sealed { key, stream, ok }),
                Output::Sealed(name, None) => {
                    self.failed(name, format!("cannot read it back: {}", shown(trouble.take())));
                }
                Output::Pack(key, prune) => self.pack(key, prune),
                Output::CutBack(name, durable) => {
                    let cut = File::options().write(true).open(self.shared.paths.stream(name.0, name.1));
                    let cut = cut.and_then(|file| file.set_len(durable)).err();
                    let cut = cut.map(|error| format!(", nor cut back: {error}")).unwrap_or_default();
                    let why = shown(trouble.take());
                    self.failed(name, format!("cannot be made durable beyond {durable}: {why}{cut}"));
                }
                Output::Forget(name) => self.forget(name),
                Output::Bug(what) => self.say(Report::Bug(what)),
            }
        }
    }
}

fn shown(trouble: Option<io::Error>) -> String {
    trouble.map(|error| error.to_string()).unwrap_or_default()
}
