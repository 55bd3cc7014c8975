//! Assignment or job directory → an attempt held by this agent: one task that begins it, follows it and removes it.
//!
//! The task passes growing lengths on, and orders to the supervisor. When the supervisor is gone without a verdict, it
//! has that end written into the log, so that the master hears of it the usual way.

use crate::blocking::unblock;
use crate::job_directory::{self, JobDirectory, Launcher, NO_ROOM, RunnerOptions};
use crate::needs::Want;
use crate::needs::fetch::Fetcher;
use crate::supervised::{self, Progress, Supervised, WORDS};
use sai_core::job::{Blame, JobKey};
use sai_core::ordered::Map;
use sai_core::wire::{Assignment, Session, SessionTold, Word};
use smol::Timer;
use smol::channel::{self, Receiver, Sender};
use smol::future::{self, FutureExt as _};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Bytes of acknowledged log after which its spool is trimmed: it frees whole segments only, so more often is in vain.
const TRIM_BYTES: u64 = 4 << 20;

/// What became of an attempt.
#[derive(Debug)]
pub enum News {
    /// It has a directory from which its streams can be read.
    Begun(Arc<JobDirectory>),
    /// It could not be begun, through whose trouble; nothing of it has run.
    NotBegun(Blame, String),
    /// Its streams have these lengths now, from 0 on.
    Lengths(Vec<u64>),
    /// A step of it wants a session at a board, or none any more.
    Asks(Session),
    /// Its supervisor is gone, so that its instance number is free; nothing will grow any more.
    Ended,
    /// It and all that was left of it is gone; or why it is not.
    Removed(Result<(), String>),
}

/// How an attempt comes to be held.
#[derive(Debug)]
pub enum Origin {
    /// It is assigned: the directory of attempts, what is assigned, options, and how to start a supervisor.
    Assigned(PathBuf, Box<Assignment>, RunnerOptions, Launcher),
    /// Its directory was found when the agent started.
    Found(Arc<JobDirectory>),
}

/// What the task is to do. Only the latest counts, but for words of a person.
#[derive(Clone, Debug, Default)]
struct Wanted {
    acked: u64,
    cancel: Option<String>,
    remove: bool,
    /// What became of the sessions that it has asked for, by their numbers.
    sessions: Map<u32, SessionTold>,
    /// What its person has said since this was looked at. All of it counts; who is not heard says it again.
    words: Vec<Word>,
}

/// The way to an attempt's task. Giving an order never waits.
#[derive(Clone, Debug)]
pub struct Orders {
    wanted: Arc<Mutex<Wanted>>,
    bell: Sender<()>,
}

impl Orders {
    fn new() -> (Self, Receiver<()>) {
        let (bell, rung) = channel::bounded(1);
        (Self { wanted: Arc::default(), bell }, rung)
    }

    /// The master holds this much of the log.
    pub fn acked(&self, log: u64) {
        self.change(|wanted| wanted.acked = wanted.acked.max(log));
    }

    /// The job is to end; its verdict still goes into its log.
    pub fn cancel(&self, why: &str) {
        self.change(|wanted| {
            wanted.cancel.get_or_insert_with(|| why.to_owned());
        });
    }

    /// This became of a session that it has asked for.
    pub fn session(&self, told: SessionTold) {
        self.change(|wanted| drop(wanted.sessions.insert(told.number, told)));
    }

    /// Its person says this.
    pub fn word(&self, word: Word) {
        self.change(|wanted| {
            if wanted.words.len() < WORDS {
                wanted.words.push(word);
            }
        });
    }

    /// The attempt is to be removed from this machine.
    pub fn remove(&self) {
        self.change(|wanted| wanted.remove = true);
    }

    fn change(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
        // A full bell has not been heard yet and will be; a closed one belongs to a task that has ended.
        let _ = self.bell.try_send(());
    }
}

/// What rings at the task's end of [`Orders`].
struct Desk {
    wanted: Arc<Mutex<Wanted>>,
    rung: Receiver<()>,
}

impl Desk {
    /// What is wanted now.
    fn now(&self) -> Wanted {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let words = std::mem::take(&mut wanted.words);
        Wanted { words, ..wanted.clone() }
    }

    /// What is wanted, once that has changed. No change is lost when this is dropped while it waits.
    async fn next(&self) -> Wanted {
        if self.rung.recv().await.is_err() {
            // Nobody holds the attempt any more: this agent ends, and the next one goes on.
            future::pending::<()>().await;
        }
        self.now()
    }
}

/// Holds an attempt: the orders, and the task to be run, which passes `news` on in order and has `fetcher` get the files that the
/// attempt needs.
pub fn hold<N, F>(
    key: JobKey,
    origin: Origin,
    fetcher: Arc<Fetcher>,
    news: N,
) -> (Orders, impl Future<Output = ()> + Send)
where
    N: Fn(JobKey, News) -> F + Send + Sync,
    F: Future<Output = ()> + Send,
{
    let (orders, rung) = Orders::new();
    let desk = Desk { wanted: Arc::clone(&orders.wanted), rung };
    let task = async move {
        let news = |what| news(key, what);
        let begun = match origin {
            Origin::Assigned(jobs, assignment, options, launcher) => {
                unblock(move || begin(&jobs, &assignment, &options, &launcher)).await
            }
            Origin::Found(directory) => Ok(directory),
        };
        match begun {
            Ok(directory) => {
                news(News::Begun(Arc::clone(&directory))).await;
                follow(&directory, &desk, &fetcher, &news).await;
                news(News::Removed(remove(directory).await)).await;
            }
            Err((blame, error)) => {
                news(News::NotBegun(blame, format!("the job cannot be started: {error}"))).await;
                news(News::Ended).await;
                while !desk.next().await.remove {}
                news(News::Removed(Ok(()))).await;
            }
        }
    };
    (orders, task)
}

/// Makes the directory of an attempt and starts its supervisor.
fn begin(
    jobs: &Path,
    assignment: &Assignment,
    options: &RunnerOptions,
    launcher: &Launcher,
) -> Result<Arc<JobDirectory>, (Blame, io::Error)> {
    let directory = JobDirectory::create(jobs, assignment).map_err(|error| (Blame::Agent, error))?;
    // Whoever removes an image takes it away and then looks whose options name it; so either that one sees these, or we see
    // that it is gone.
    let layers = options.container.iter().flat_map(|container| &container.layers);
    let missing = || layers.clone().find(|layer| !Path::new(layer).is_dir());
    let ours = |error| (Blame::Agent, error);
    let begun = directory.set_options(options).map_err(ours).and_then(|()| match missing() {
        None => job_directory::start(&directory, launcher).map_err(ours),
        Some(layer) => {
            let why = format!("its image is gone, {layer} is missing");
            Err((Blame::Platform, io::Error::new(io::ErrorKind::NotFound, why)))
        }
    });
    match begun {
        Ok(()) => Ok(Arc::new(directory)),
        Err(error) => {
            // What is left is found at the next start of the agent, and the master does not want it.
            let _ = directory.forget();
            Err(error)
        }
    }
}

/// Follows an attempt until it is to be removed.
async fn follow<F: Future<Output = ()>>(
    directory: &Arc<JobDirectory>,
    desk: &Desk,
    fetcher: &Fetcher,
    news: &impl Fn(News) -> F,
) {
    let mut trimmed = 0;
    loop {
        match supervised::attach(directory).await {
            Ok(Some(supervised)) => {
                if accompany(&supervised, directory, desk, fetcher, news, &mut trimmed).await == Wish::Remove {
                    return;
                }
                // Either it has ended, or only the connection: to attach again tells which.
            }
            Ok(None) => break,
            // A supervisor that does not answer, stopped perhaps, may yet; only removal ends the wait for it.
            Err(_) => {
                let pause = async {
                    Timer::after(Duration::from_secs(1)).await;
                    false
                };
                if async { desk.next().await.remove }.or(pause).await {
                    return;
                }
            }
        }
    }
    // Without a supervisor there is a verdict in the log, or there must be one now. Of an attempt that went down with its machine
    // no more is to be told than that.
    let last = Arc::clone(directory);
    let settled = unblock(move || match last.went_down() {
        true => Ok(None),
        false => {
            job_directory::bury(&last, "the supervisor of the job was killed").and_then(|()| last.lengths().map(Some))
        }
    });
    match settled.await {
        Ok(lengths) => {
            if let Some(lengths) = lengths {
                news(News::Lengths(lengths)).await;
            }
        }
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("{NO_ROOM}: {error}"),
                _ => format!("the job's supervisor is gone and its log unusable: {error}"),
            };
            news(News::NotBegun(Blame::Agent, why)).await;
        }
    }
    news(News::Ended).await;
    loop {
        let wanted = desk.next().await;
        if wanted.remove {
            return;
        }
        trim(directory, wanted.acked, &mut trimmed).await;
    }
}

#[derive(PartialEq, Eq)]
enum Wish {
    Go,
    Remove,
}

/// Stays with a living supervisor until it is gone or the attempt is to be removed.
async fn accompany<F: Future<Output = ()>>(
    supervised: &Supervised,
    directory: &Arc<JobDirectory>,
    desk: &Desk,
    fetcher: &Fetcher,
    news: &impl Fn(News) -> F,
    trimmed: &mut u64,
) -> Wish {
    enum Next {
        Orders(Wanted),
        Progress(Option<Progress>),
        Fetched,
    }
    // The file that is being fetched, which ends with this: what came of it is kept.
    let mut fetching: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
    let (mut cancelled, mut told) = (false, Map::new());
    let mut next = Next::Orders(desk.now());
    loop {
        match next {
            Next::Orders(wanted) if wanted.remove => return Wish::Remove,
            Next::Orders(wanted) => {
                if let Some(why) = wanted.cancel.filter(|_| !cancelled) {
                    cancelled = true;
                    supervised.cancel(&why);
                }
                for (number, session) in wanted.sessions {
                    if told.get(&number) != Some(&session) {
                        supervised.session(&session);
                        told.insert(number, session);
                    }
                }
                wanted.words.iter().for_each(|word| supervised.word(word));
                if wanted.acked > 0 {
                    supervised.acked(wanted.acked);
                    trim(directory, wanted.acked, trimmed).await;
                }
            }
            Next::Progress(Some(Progress::Lengths(lengths))) => news(News::Lengths(lengths)).await,
            Next::Progress(Some(Progress::Asks(session))) => news(News::Asks(session)).await,
            Next::Progress(Some(Progress::Wants(want))) => fetching = Some(Box::pin(fetch(supervised, fetcher, want))),
            Next::Progress(Some(Progress::Unwanted(want))) => fetcher.forget(want).await,
            Next::Progress(None) => return Wish::Go,
            Next::Fetched => fetching = None,
        }
        // Orders first: a job that prints without a pause must hear of its cancellation.
        let orders = async { Next::Orders(desk.next().await) };
        let fetched = async {
            match &mut fetching {
                Some(fetching) => fetching.await,
                None => future::pending().await,
            }
            Next::Fetched
        };
        next = orders.or(async { Next::Progress(supervised.next().await) }).or(fetched).await;
    }
}

/// Gets a file for a supervisor, and tells it what came of that.
async fn fetch(supervised: &Supervised, fetcher: &Fetcher, want: Want) {
    let tell = |bytes: u64, why: &str| supervised.progress(&want, bytes, why);
    let got = fetcher.get(&want, &tell).await;
    supervised.answer(&want, got.as_deref().map_err(|(blame, why)| (*blame, why.as_str())));
}

/// Frees the disk of what the master holds.
async fn trim(directory: &Arc<JobDirectory>, acked: u64, trimmed: &mut u64) {
    if acked >= trimmed.saturating_add(TRIM_BYTES) {
        *trimmed = acked;
        let directory = Arc::clone(directory);
        // What cannot be trimmed stays until the attempt is removed as a whole.
        let _ = unblock(move || directory.trim(acked)).await;
    }
}

async fn remove(directory: Arc<JobDirectory>) -> Result<(), String> {
    // A piece of a stream may still be being read through the shared one.
    let path = directory.path().to_path_buf();
    unblock(move || JobDirectory::open(&path)?.forget()).await.map_err(|error| error.to_string())
}
