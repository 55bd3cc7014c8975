//! Pokes, signed pushes and the poll timer → events: one task looks after each configured repository.

mod watch;

pub use sai_core::watch::Answer;

use self::watch::Watch;
use crate::config::{Config, Repository};
use crate::forge::{Forge, Saifile};
use crate::hook::VerifiedPush;
use crate::hub::{Gone, HubHandle, Request};
use crate::lines::Lines;
use crate::live::{Changes, Live, LiveRepository, Topic};
use crate::store::{Change, Store};
use sai_agent::blocking::{detach, unblock};
use sai_agent::clock::wall;
use sai_core::changed::{self, Changed};
use sai_core::git_names::check_ref;
use sai_core::git_text::Tip;
use sai_core::hub::{Input, Obsolete};
use sai_core::job::EventId;
use sai_core::ledger::{EventRecord, Source, TipRecord};
use sai_core::look::NAMED_REFERENCES;
use sai_core::ordered::{Map, Set};
use sai_core::plan;
use sai_core::push::KnownRefs;
use sai_core::saifile::{self, Reading};
use sai_core::sent::Sent;
use sai_core::start::Start;
use smol::channel::Sender;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Pokes and pushes that may wait for one repository's task. Pokes beyond it say nothing that those before did not.
const WAITING: usize = 64;
/// How long somebody who starts something waits to hear of it: less than a command waits for its answer.
const START_TIME: Duration = Duration::from_secs(40);
/// Events of a repository among which the one is looked for that a push is compared with.
const LOOKED_THROUGH: usize = 1000;
/// How many of them are read at once.
const AT_ONCE: usize = 50;

/// What the tasks share.
#[derive(Clone)]
pub struct Shared {
    /// Where inputs go.
    pub hub: HubHandle,
    /// Where saifiles go.
    pub store: Store,
    /// Where git's caches are.
    pub forge: Arc<Forge>,
    /// Where states are shown.
    pub live: Arc<RwLock<Live>>,
    /// How viewers hear of them.
    pub changes: Arc<Changes>,
    /// Where what anybody can make them say goes.
    pub lines: Lines,
}

impl Shared {
    /// Makes an event of a push: its saifile is kept, its record and jobs become durable together with `change`.
    ///
    /// # Errors
    /// Our own trouble: the saifile cannot be kept, or the hub is gone.
    pub async fn make_event(
        &self,
        repository: &Repository,
        tip: &Tip,
        source: Source,
        file: Result<Saifile, String>,
        change: Option<Change>,
    ) -> Result<EventId, String> {
        let (file, reading) = match file {
            Ok(file) => {
                let asks = source != Source::Try && saifile::asks_what_changed(&file.bytes, &file.subject);
                let changed = if asks { Some(self.changed(repository, tip).await) } else { None };
                let reading = saifile::of_push(&file.bytes, &tip.reference, &file.subject, changed.as_ref());
                (file, reading)
            }
            Err(why) => (Saifile::default(), Reading { errors: vec![why], ..Reading::default() }),
        };
        self.make(repository, tip, source, file, reading, change).await
    }

    /// What a push changed since the last one to its ref of which something was built.
    async fn changed(&self, repository: &Repository, tip: &Tip) -> Changed {
        let (reader, name, reference) = (self.store.reader(), repository.name.clone(), tip.reference.clone());
        let find = move || {
            let mut before = None;
            for _ in 0..LOOKED_THROUGH / AT_ONCE {
                let events = reader.events(before, Some(&name), AT_ONCE);
                before = Some(events.last()?.id);
                let base = changed::base(events.iter().filter(|event| event.reference == reference));
                if base.is_some() {
                    return base;
                }
            }
            None
        };
        let Some(base) = unblock(find).await else {
            return Changed::Unknown(format!(
                "no earlier push to {} is known of which anything was built",
                tip.reference
            ));
        };
        let place = watch::forge_repository(repository);
        match self.forge.changed(&place, &base.revision, tip).await {
            Ok(Some(names)) => Changed::Files(names, base.words()),
            Ok(None) => Changed::Unknown(changed::too_many(&base.words())),
            Err(error) => {
                Changed::Unknown(format!("what has changed since {} cannot be told, as {error}", base.words()))
            }
        }
    }

    async fn make(
        &self,
        repository: &Repository,
        tip: &Tip,
        source: Source,
        file: Saifile,
        reading: Reading,
        change: Option<Change>,
    ) -> Result<EventId, String> {
        self.make_with(repository, tip, source, file, reading, change, None).await
    }

    /// The same with what somebody has sent for it.
    #[allow(clippy::too_many_arguments)]
    async fn make_with(
        &self,
        repository: &Repository,
        tip: &Tip,
        source: Source,
        file: Saifile,
        mut reading: Reading,
        change: Option<Change>,
        bundle: Option<PathBuf>,
    ) -> Result<EventId, String> {
        for spec in &mut reading.specs {
            spec.priority = spec.priority.saturating_add(repository.priority);
        }
        let jobs = reading.specs.len() as u64;
        let (id, first_job) = self.hub.new_event(jobs);
        let Saifile { bytes, subject, author, .. } = file;
        let store = self.store.clone();
        let plan = (!reading.specs.is_empty()).then(|| plan::write(&reading.specs));
        let keep = move || {
            if let Some(bundle) = bundle {
                store.files().put_bundle(id, &bundle)?;
            }
            store.files().put_both(id, &bytes, plan.as_deref().map(str::as_bytes))
        };
        let carried = unblock(keep).await;
        let carried = carried.map_err(|error| format!("the saifile and what it asks for cannot be kept: {error}"))?;
        let record = EventRecord {
            id,
            repository: repository.name.clone(),
            url: repository.url.shown().to_string(),
            reference: tip.reference.clone(),
            revision: tip.revision.clone(),
            subject,
            author,
            source,
            at: wall(),
            errors: reading.errors,
            warnings: reading.warnings,
            first_job,
            jobs: reading.specs.len() as u32,
        };
        if repository.supersede && !reading.specs.is_empty() && !matches!(source, Source::Start | Source::Run) {
            // Before the event: where the master ends between the two, the push is found again, and the event made then.
            let obsolete = Obsolete {
                repository: record.repository.clone(),
                reference: record.reference.clone(),
                before: id,
                but: reading.left_out,
                why: format!("superseded by event {id}, a later push to the same ref"),
            };
            self.hub.input(Input::Obsolete(obsolete)).await.map_err(|Gone| "the master is ending".to_string())?;
        }
        let input = Input::Event(record, reading.specs);
        let request = Request::With(input, change.into_iter().chain(carried).collect());
        self.hub.request(request).await.map_err(|Gone| "the master is ending".to_string())?;
        Ok(id)
    }

    /// Shows how a repository is: a sentence, and whether it tells of trouble.
    fn set_state(&self, repository: &Repository, state: String, trouble: bool) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = live.repositories.iter_mut().find(|shown| shown.name == repository.name) {
            (shown.state, shown.trouble) = (state, trouble);
        }
        drop(live);
        self.changes.touch(Topic::Events);
    }
}

/// Whom to tell.
type Reply = Option<Sender<Answer>>;

enum Call {
    Poke(Option<String>, Option<String>, Reply),
    Push(VerifiedPush, Reply),
    /// Somebody, by name, starts something, and hears of which event it is.
    Start(Start, String, Sender<Result<EventId, String>>),
    /// The same of what they have sent: the bundle's file, and the saifile's bytes.
    Run(Box<(Sent, PathBuf, Vec<u8>)>, String, Sender<Result<EventId, String>>),
    /// The configuration has it otherwise now, or not at all any more.
    Settings(Option<Repository>),
}

/// The way to the tasks.
pub struct Repositories {
    tasks: RwLock<Map<String, Task>>,
    shared: Shared,
    pokes: PathBuf,
    /// Refs that were seen in earlier lives of repositories that are not configured.
    tips: Vec<TipRecord>,
}

/// One that looks after a repository, or would again once it is configured.
#[derive(Clone)]
struct Task {
    calls: Sender<Call>,
    first: Arc<FirstPokes>,
    configured: bool,
}

/// The pokes of a repository that was never looked at, on disk before they are answered.
///
/// Of any other repository a look at start catches up with what was pushed while no master listened. The first look
/// builds only what somebody named, so that those names must outlive a master that is killed before it.
struct FirstPokes {
    file: PathBuf,
    /// False once a look has been made.
    wanted: Mutex<bool>,
}

impl FirstPokes {
    fn note(&self, reference: &str) -> io::Result<()> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = self.read();
        if !*wanted || noted.contains(reference) || noted.len() >= NAMED_REFERENCES {
            return Ok(());
        }
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.file)?;
        writeln!(file, "{reference}")?;
        file.sync_all()?;
        match self.file.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }

    fn read(&self) -> Set<String> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        let names = text.lines().filter(|name| check_ref(name).is_ok()).map(ToString::to_string);
        Set::from_iter(names.take(NAMED_REFERENCES))
    }

    fn looked(&self) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *wanted) {
            // A file that stays only names refs whose tips are known by then.
            let _ = std::fs::remove_file(&self.file);
        }
    }
}

impl Repositories {
    /// Starts a task for each configured repository; `restored` are the refs seen in earlier lives.
    ///
    /// # Errors
    /// The directory of first pokes cannot be made.
    pub fn start(config: &Config, state: &Path, shared: &Shared, restored: &[TipRecord]) -> io::Result<Self> {
        let pokes = state.join("pokes");
        DirBuilder::new().recursive(true).mode(0o700).create(&pokes)?;
        let tips = restored.iter().filter(|tip| !config.repositories.contains_key(&tip.repository)).cloned().collect();
        let all = Self { tasks: RwLock::new(Map::new()), shared: shared.clone(), pokes, tips };
        all.show(config);
        for repository in config.repositories.values() {
            let refs = restored.iter().filter(|tip| tip.repository == repository.name);
            all.begin(repository, refs);
        }
        Ok(all)
    }

    /// Starts the task of one of which these refs are known.
    fn begin<'a>(&self, repository: &Repository, refs: impl Iterator<Item = &'a TipRecord>) {
        let refs = Map::from_iter(refs.map(|tip| (tip.reference.clone(), tip.revision.clone())));
        let known = KnownRefs::restored(refs);
        let (calls, receiver) = smol::channel::bounded(WAITING);
        let wanted = Mutex::new(!known.looked_at_branches());
        let first = Arc::new(FirstPokes { file: self.pokes.join(&repository.name), wanted });
        let task = Task { calls, first: first.clone(), configured: true };
        self.tasks.write().unwrap_or_else(PoisonError::into_inner).insert(repository.name.clone(), task);
        let (shared, repository) = (self.shared.clone(), repository.clone());
        let machine = sai_core::watch::Watch::restored(known);
        let (replies, commits) = (Map::new(), Map::new());
        let watch = Watch { shared, repository, machine, first, replies, waiters: 0, file: None, commits };
        detach(watch.run(receiver));
    }

    /// Shows the configured ones, with the states they have.
    fn show(&self, config: &Config) {
        let mut live = self.shared.live.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut live.repositories);
        live.repositories = config
            .repositories
            .values()
            .map(|repository| {
                let before = before.iter().find(|shown| shown.name == repository.name);
                let state = before.map_or("not looked at yet", |shown| &shown.state).to_string();
                let trouble = before.is_some_and(|shown| shown.trouble);
                let url = repository.url.shown().to_string();
                let (name, forge) = (repository.name.clone(), repository.forge.clone());
                LiveRepository { name, url, state, trouble, forge }
            })
            .collect();
        drop(live);
        self.shared.changes.touch(Topic::Events);
    }

    /// Goes on by another configuration. What is known of a repository outlives its absence from it.
    pub async fn change(&self, old: &Config, new: &Config) {
        self.show(new);
        for name in old.repositories.keys().filter(|name| !new.repositories.contains_key(*name)) {
            self.settle(name, None).await;
        }
        for (name, repository) in
            new.repositories.iter().filter(|(name, now)| old.repositories.get(*name) != Some(*now))
        {
            if !self.settle(name, Some(repository)).await {
                self.begin(repository, self.tips.iter().filter(|tip| tip.repository == *name));
            }
        }
    }

    /// Tells a task of it. False when there is none.
    async fn settle(&self, name: &str, repository: Option<&Repository>) -> bool {
        let calls = {
            let mut tasks = self.tasks.write().unwrap_or_else(PoisonError::into_inner);
            let Some(task) = tasks.get_mut(name) else { return false };
            task.configured = repository.is_some();
            task.calls.clone()
        };
        calls.send(Call::Settings(repository.cloned())).await.is_ok()
    }

    fn task(&self, name: &str) -> Option<Task> {
        let tasks = self.tasks.read().unwrap_or_else(PoisonError::into_inner);
        tasks.get(name).filter(|task| task.configured).cloned()
    }

    /// Somebody says that there was a push. False when there is no such repository.
    ///
    /// # Errors
    /// The poke cannot be kept, and must be sent again.
    pub fn poke(
        &self,
        repository: &str,
        reference: Option<String>,
        revision: Option<String>,
        reply: Reply,
    ) -> io::Result<bool> {
        let Some(Task { calls, first, .. }) = self.task(repository) else { return Ok(false) };
        if let Some(reference) = &reference {
            first.note(reference)?;
        }
        // A full queue holds a poke already, so that the look this one asks for is made.
        let _ = calls.try_send(Call::Poke(reference, revision, reply));
        Ok(true)
    }

    /// Somebody, by name, starts something by hand: the number of its event.
    ///
    /// # Errors
    /// Why nothing is started, in a sentence for that person.
    pub async fn start_by_hand(&self, repository: &str, start: Start, who: &str) -> Result<EventId, String> {
        self.call(repository, |reply| Call::Start(start, who.to_string(), reply)).await
    }

    /// Somebody, by name, has something built that they have sent: the number of its event.
    ///
    /// # Errors
    /// Why nothing is built, in a sentence for that person.
    pub async fn run_sent(
        &self,
        repository: &str,
        sent: Sent,
        bundle: PathBuf,
        saifile: Vec<u8>,
        who: &str,
    ) -> Result<EventId, String> {
        let sent = Box::new((sent, bundle, saifile));
        self.call(repository, |reply| Call::Run(sent, who.to_string(), reply)).await
    }

    async fn call(
        &self,
        repository: &str,
        call: impl FnOnce(Sender<Result<EventId, String>>) -> Call,
    ) -> Result<EventId, String> {
        let Task { calls, .. } =
            self.task(repository).ok_or_else(|| format!("no repository {repository:?} is configured"))?;
        let (reply, answer) = smol::channel::bounded(1);
        calls.try_send(call(reply)).map_err(|_| format!("too much waits for {repository} already; try again"))?;
        let answered = async { answer.recv().await.unwrap_or_else(|_| Err("the master is ending".to_string())) };
        let late = async {
            smol::Timer::after(START_TIME).await;
            let seconds = START_TIME.as_secs();
            Err(format!("{repository} has not answered within {seconds} s; what is started is shown once it has"))
        };
        smol::future::or(answered, late).await
    }

    /// A signed push with its saifile. False when there is no such repository, or too many pushes wait for it.
    ///
    /// # Errors
    /// The push cannot be kept, and must be sent again.
    pub fn push(&self, push: VerifiedPush, reply: Reply) -> io::Result<bool> {
        let Some(Task { calls, first, .. }) = self.task(&push.repository) else { return Ok(false) };
        // Were the master killed before its event is made, a look would find it.
        first.note(&push.reference)?;
        Ok(calls.try_send(Call::Push(push, reply)).is_ok())
    }
}
