//! Blocking work (checkout, artifacts, waiting for children) → messages to the poll loop.

use crate::artifacts::{Collector, Found};
use crate::boards::{Files, Work};
use crate::checkout::check_out;
use crate::executor::{Executor, Workspace, check_environment};
use crate::git::{Stop, Watch};
use crate::mirror::Trouble;
use crate::needs::{Want, get, lay_out};
use crate::remove_tree::remove_tree;
use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use sai_core::backlog::REST_BYTES;
use sai_core::job::{JobKey, Verdict};
use sai_core::record::Artifact;
use sai_core::secret::CloneUrl;
use sai_core::wire::Assignment;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender};

/// Bytes of stack of the helper threads.
const STACK_BYTES: usize = 512 << 10;

/// Bytes that the log of a job wants at its end, at most: what its pipes hold, a batch, and a few records.
const ROOM_BYTES: u64 = 4 << 20;

/// What a helper thread tells.
pub(super) enum Event {
    Note(String),
    Git(Vec<u8>),
    Want(Want),
    Unwanted(String),
    NeedsReady,
    Prepared,
    PrepareFailed(Trouble),
    Artifact(Artifact),
    Collected(Box<Collector>, Option<String>),
    Board(Vec<u8>),
    Tried(Result<Option<Verdict>, Trouble>),
}

/// A helper thread's way to the poll loop.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) events: SyncSender<Event>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) stop: Arc<Stop>,
}

impl Teller {
    pub(super) fn tell(&self, event: Event) {
        // Nobody listens any more only when the process is about to end.
        let _ = self.events.send(event);
        ring(&self.wake);
    }
}

impl Watch for Teller {
    fn note(&mut self, text: &str) {
        self.tell(Event::Note(text.to_string()));
    }

    fn output(&mut self, bytes: &[u8]) {
        self.tell(Event::Git(bytes.to_vec()));
    }

    fn stop(&self) -> &Stop {
        &self.stop
    }
}

/// What is needed to make the place for the steps ready.
pub(super) struct Prepare {
    pub(super) mirrors: PathBuf,
    pub(super) assignment: Assignment,
    /// Where to fetch from, credentials and all.
    pub(super) url: CloneUrl,
    pub(super) workspace: Workspace,
    pub(super) executor: Arc<Executor>,
    pub(super) teller: Teller,
    /// What the agent says of the file that is wanted; an error that it is wanted no more.
    pub(super) answers: Receiver<Result<PathBuf, Trouble>>,
}

impl Prepare {
    /// Does it. A container comes up while the checkout is made.
    pub(super) fn run(mut self) {
        match self.prepare() {
            Ok(()) => self.teller.tell(Event::Prepared),
            Err(trouble) => {
                // No step will see what is there, and the log that tells why wants room.
                if !self.teller.stop.asked() || self.is_short_of_room() {
                    let Workspace { source, needs, .. } = &self.workspace;
                    let _ = remove_tree(source);
                    let _ = remove_tree(needs);
                }
                self.teller.tell(Event::PrepareFailed(trouble));
            }
        }
    }

    fn is_short_of_room(&self) -> bool {
        let space = statvfs(&self.workspace.job);
        space.is_ok_and(|space| space.f_bavail.saturating_mul(space.f_frsize) < ROOM_BYTES)
    }

    fn prepare(&mut self) -> Result<(), Trouble> {
        if self.assignment.board.is_some() {
            // No step runs there, so that neither a checkout nor a container is of use.
            return self.get_needs();
        }
        check_environment(&self.assignment.env).map_err(Trouble::specs)?;
        self.get_needs().map_err(|trouble| self.executor.explain(trouble))?;
        self.get_bundle().map_err(|trouble| self.executor.explain(trouble))?;
        let (started, checked_out) = std::thread::scope(|threads| {
            let executor = &self.executor;
            let start = executor.takes_time().then(|| {
                let builder = std::thread::Builder::new().name("start".to_string()).stack_size(STACK_BYTES);
                builder.spawn_scoped(threads, || executor.start())
            });
            let checked_out = check_out(&self.mirrors, &self.assignment, &self.url, &self.workspace, &mut self.teller);
            let started = match start {
                Some(Ok(thread)) => {
                    thread.join().unwrap_or_else(|_| Err(Trouble::ours("making the container: a panic")))
                }
                Some(Err(error)) => Err(Trouble::disk("starting a thread", &error)),
                None => executor.start(),
            };
            (started, checked_out)
        });
        for note in started? {
            self.teller.note(&note);
        }
        checked_out.map_err(|trouble| self.executor.explain(trouble))?;
        self.executor.prepare(&self.teller.stop)
    }
}

impl Prepare {
    /// Lays out the files of the jobs that this one needs.
    fn get_needs(&mut self) -> Result<(), Trouble> {
        let Self { assignment, workspace, answers, teller, .. } = self;
        let Some(needs) = assignment.needs.as_deref().filter(|needs| !needs.is_empty()) else { return Ok(()) };
        let asker = teller.clone();
        let mut ask = |want: &Want| ask(&asker, answers, want);
        lay_out(assignment.key, needs, &workspace.needs, &mut ask, teller)?;
        asker.tell(Event::NeedsReady);
        Ok(())
    }

    /// Gets what somebody has sent to be built.
    fn get_bundle(&mut self) -> Result<(), Trouble> {
        let Self { assignment, workspace, answers, teller, .. } = self;
        let Some(bundle) = assignment.bundle.as_ref() else { return Ok(()) };
        bundle.check().map_err(|why| Trouble::specs(format!("what was sent: {why}")))?;
        let asker = teller.clone();
        let mut ask = |want: &Want| ask(&asker, answers, want);
        let file = Artifact {
            stream: 1,
            path: "sent.bundle".to_string(),
            size: bundle.size,
            sha256: bundle.sha256.clone(),
            executable: false,
        };
        teller.note(&format!("getting what {} has sent, {} bytes", bundle.person, bundle.size));
        get(assignment.key, &file, "what was sent", &workspace.bundle(), &mut ask, teller)
    }
}

/// Has the agent asked for a file, and waits for its answer.
fn ask(teller: &Teller, answers: &Receiver<Result<PathBuf, Trouble>>, want: &Want) -> Result<PathBuf, Trouble> {
    teller.tell(Event::Want(want.clone()));
    answers.recv().unwrap_or_else(|RecvError| Err(Trouble::ours("the supervisor is ending")))
}

/// What gets the files that a person wants at a board: none of them stays in the agent's cache.
pub(super) struct Getter {
    pub(super) key: JobKey,
    pub(super) teller: Teller,
    /// What the agent says of the file that is wanted.
    pub(super) answers: Receiver<Result<PathBuf, Trouble>>,
}

impl Files for Getter {
    fn get(&mut self, file: &Artifact, to: &Path) -> Result<(), Trouble> {
        let Self { key, teller, answers } = self;
        let asker = teller.clone();
        let got = get(*key, file, &file.path, to, &mut |want| ask(&asker, answers, want), teller);
        asker.tell(Event::Unwanted(file.sha256.clone()));
        got
    }
}

/// Collects artifacts.
pub(super) fn collect(mut collector: Box<Collector>, last: bool, teller: &Teller) {
    let mut tell = |found| {
        teller.tell(match found {
            Found::Artifact(artifact) => Event::Artifact(artifact),
            Found::Note(text) => Event::Note(text),
        });
    };
    let trouble = collector.collect(last, &teller.stop, &mut tell).err();
    let trouble = trouble.map(|error| format!("collecting artifacts: {error}"));
    teller.tell(Event::Collected(collector, trouble));
}

/// Flashes and tests a board. What runs there cannot wait for a full disk, and its records do in memory: up to a bound, at which it ends.
pub(super) fn try_board(work: Work, teller: &Teller, waiting: &AtomicU64) {
    let room = || waiting.load(Ordering::Relaxed) < REST_BYTES;
    let mut log = |records| {
        teller.events.send(Event::Board(records)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        ring(&teller.wake);
        Ok(())
    };
    let tried = work.run(&teller.stop, &room, &mut log);
    teller.tell(Event::Tried(tried));
}

pub(super) fn ring(wake: &OwnedFd) {
    let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
}

/// Tells the poll loop that a child has ended, without collecting it: that is the loop's. It waits for a token before it looks
/// again.
pub(super) fn watch_children(tokens: &Receiver<()>, wake: &OwnedFd) {
    while tokens.recv().is_ok() {
        while matches!(waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT), Err(Errno::INTR)) {}
        ring(wake);
    }
}

pub(super) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_string()).stack_size(STACK_BYTES).spawn(work).map(|_| ())
}
