//! Calls for one repository and its own timer → the core's `watch` → what that asks of git, the store and the hub.

use super::{Call, FirstPokes, Reply, Shared};
use crate::config::Repository;
use crate::forge::{ForgeError, Saifile};
use crate::hub::{Gone, Request};
use crate::store::Change;
use sai_agent::clock::{steady, wall};
use sai_core::bundle::Bundle;
use sai_core::git_text::{Commit, Tip};
use sai_core::hub;
use sai_core::job::EventId;
use sai_core::ledger::{Source, TipRecord};
use sai_core::limits::Millis;
use sai_core::ordered::{Map, Set};
use sai_core::push::RefChange;
use sai_core::saifile::{self, Reading};
use sai_core::sent::Sent;
use sai_core::start::Start;
use sai_core::watch::{self, Answer, Found, Input, Output, Settings, Waiter};
use sai_core::wire::Prefetch;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Records of refs that are written down together: the first look at a large repository has tens of thousands.
const RECORDS: usize = 512;

/// One that looks after a repository.
pub(super) struct Watch {
    pub(super) shared: Shared,
    pub(super) repository: Repository,
    pub(super) machine: watch::Watch,
    pub(super) first: Arc<FirstPokes>,
    /// Hooks that wait to hear.
    pub(super) replies: Map<Waiter, Sender<Answer>>,
    pub(super) waiters: Waiter,
    /// The saifile that was found last, or came with a signed push.
    pub(super) file: Option<Result<Saifile, String>>,
    /// What git said of revisions that were passed.
    pub(super) commits: Map<String, Commit>,
}

impl Watch {
    pub(super) async fn run(mut self, calls: Receiver<Call>) {
        let mut configured = true;
        self.begin().await;
        loop {
            // Of one that is not configured nothing is looked at, and nothing is forgotten.
            let deadline = self.machine.deadline().filter(|_| configured);
            match next(&calls, deadline).await {
                None => return,
                Some(None) => self.give(Input::Tick).await,
                Some(Some(Call::Settings(Some(repository)))) => {
                    self.repository = repository;
                    configured = true;
                    self.begin().await;
                }
                Some(Some(Call::Settings(None))) => configured = false,
                Some(Some(_)) if !configured => {}
                Some(Some(Call::Poke(reference, revision, reply))) => {
                    let waiter = self.waiter(reply).await;
                    self.give(Input::Poke(reference, revision, waiter)).await;
                }
                Some(Some(Call::Start(start, who, reply))) => {
                    // Who has not waited so long looks at the page.
                    let _ = reply.try_send(self.start(&start, &who).await);
                }
                Some(Some(Call::Run(sent, who, reply))) => {
                    let (sent, bundle, saifile) = *sent;
                    let _ = reply.try_send(self.run_sent(sent, bundle, saifile, &who).await);
                }
                Some(Some(Call::Push(push, reply))) => {
                    let waiter = self.waiter(reply).await;
                    self.file = Some(Ok(Saifile { bytes: push.saifile, ..Saifile::default() }));
                    let tip = Tip { reference: push.reference, revision: push.revision };
                    self.give(Input::Push(tip, waiter)).await;
                    self.file = None;
                }
            }
        }
    }

    async fn begin(&mut self) {
        let poll_ms = self.repository.poll_s.map(|seconds| seconds.saturating_mul(1000));
        let poked = self.first.read().into_iter().collect();
        self.give(Input::Settings(Settings { poll_ms, tags: self.repository.tags, poked })).await;
    }

    /// The number of somebody who waits. Those who do not any longer make room.
    async fn waiter(&mut self, reply: Reply) -> Option<Waiter> {
        let gone: Vec<Waiter> =
            self.replies.iter().filter(|(_, reply)| reply.is_closed()).map(|(waiter, _)| *waiter).collect();
        for waiter in gone {
            self.replies.remove(&waiter);
            self.give(Input::Left(waiter)).await;
        }
        let reply = reply?;
        self.waiters += 1;
        self.replies.insert(self.waiters, reply);
        Some(self.waiters)
    }

    /// Gives the machine an input, and the answers to all that it asks then.
    async fn give(&mut self, input: Input) {
        let mut next = Some(input);
        while let Some(input) = next.take() {
            let mut outputs = Vec::new();
            self.machine.handle(steady(), input, &mut outputs);
            for output in outputs {
                if let Some(answer) = self.perform(output).await {
                    next = Some(answer);
                }
            }
        }
    }

    /// Does what the machine says; the answer, if it was a question.
    async fn perform(&mut self, output: Output) -> Option<Input> {
        let asked = match output {
            Output::Tips { default_branch } => self.tips(default_branch).await,
            Output::Passed { tip, known, revisions } => self.passed(tip, known, revisions).await,
            Output::Saifile(tip) => self.saifile(&tip).await,
            Output::Event(tip, source) => self.event(&tip, source).await,
            Output::Superseded(tip, by) => self.superseded(&tip, &by).await,
            Output::Settle => self.shared.hub.settled().await.map(|()| Input::Settled),
            Output::Record(changes) => {
                if let Err(why) = self.record(changes).await {
                    self.say(&why);
                }
                return None;
            }
            Output::Deleted(reference) => {
                if let Err(why) = self.deleted(reference).await {
                    self.say(&why);
                }
                return None;
            }
            Output::Looked => {
                self.first.looked();
                return None;
            }
            Output::Answer(waiter, answer) => {
                if let Some((reply, answer)) = self.replies.remove(&waiter).zip(answer) {
                    // Who has not waited so long looks at the page.
                    let _ = reply.try_send(answer);
                }
                return None;
            }
            Output::State(state, trouble) => {
                self.shared.set_state(&self.repository, state, trouble);
                return None;
            }
            Output::Say(what) => {
                self.say(&what);
                return None;
            }
            Output::SayOfOthers(what) => {
                let name = &self.repository.name;
                self.shared.lines.say(format_args!("repository {name}"), format!("repository {name}: {what}"));
                return None;
            }
            Output::Bug(what) => {
                crate::live::tell_bug(&self.shared.live, what);
                return None;
            }
        };
        Some(asked.unwrap_or_else(Input::Failed))
    }

    fn forge_repository(&self) -> crate::forge::Repository {
        forge_repository(&self.repository)
    }

    fn say(&self, what: &str) {
        crate::say(&format!("repository {}: {what}", self.repository.name));
    }

    async fn tips(&self, default_branch: bool) -> Result<Input, String> {
        let (forge, place) = (&self.shared.forge, self.forge_repository());
        let tips = forge.tips(&place).await.map_err(|error| error.to_string())?;
        let default_branch =
            if default_branch { forge.default_branch(&place).await.map_err(|error| error.to_string())? } else { None };
        Ok(Input::Tips(tips, default_branch))
    }

    async fn passed(&mut self, tip: Tip, known: Option<String>, revisions: Vec<String>) -> Result<Input, String> {
        let place = self.forge_repository();
        self.commits = match self.shared.forge.passed(&place, &tip, known, revisions, wall() / 1000).await {
            Err(error) if error.is_infrastructure() => return Err(error.to_string()),
            found => found.unwrap_or_default(),
        };
        Ok(Input::Passed(Set::from_iter(self.commits.keys().cloned())))
    }

    async fn saifile(&mut self, tip: &Tip) -> Result<Input, String> {
        let prefetch = Prefetch {
            repository: self.repository.name.clone(),
            url: self.repository.url.clone(),
            reference: tip.reference.clone(),
            revision: tip.revision.clone(),
        };
        self.shared.hub.input(hub::Input::Expected(prefetch)).await.map_err(ending)?;
        let file = self.shared.forge.saifile(&self.forge_repository(), &tip.reference, &tip.revision).await;
        let found = match &file {
            Err(error) if error.is_infrastructure() => return Err(error.to_string()),
            Err(ForgeError::RevisionGone) => Found::Gone,
            Err(ForgeError::NoSaifile) => Found::Nothing,
            _ => Found::File,
        };
        self.file = Some(file.map_err(|error| error.to_string()));
        Ok(Input::Saifile(found))
    }

    async fn event(&mut self, tip: &Tip, source: Source) -> Result<Input, String> {
        let change = self.change((tip.reference.clone(), Some(tip.revision.clone())));
        let file = self.file.take().unwrap_or_else(|| Ok(Saifile::default()));
        self.shared.make_event(&self.repository, tip, source, file, Some(change)).await.map(Input::Made)
    }

    /// Builds what somebody wants built, whatever was pushed. What would make no job makes no event.
    async fn start(&self, start: &Start, who: &str) -> Result<EventId, String> {
        let (forge, mut place) = (&self.shared.forge, self.forge_repository());
        place.tags = start.reference.starts_with("refs/tags/");
        let tips = forge.tips(&place).await.map_err(|error| error.to_string())?;
        let tip = tips.into_iter().find(|tip| tip.reference == start.reference);
        let tip = tip.ok_or_else(|| format!("{} has no {}", self.repository.name, start.reference))?;
        let tip = Tip { revision: start.revision.clone().unwrap_or(tip.revision), ..tip };
        let file = forge.saifile(&place, &tip.reference, &tip.revision).await.map_err(|error| error.to_string())?;
        let mut reading = saifile::of_start(&file.bytes, &tip.reference, start);
        if reading.specs.is_empty() {
            let why = [reading.errors, reading.warnings].concat();
            return Err(format!("nothing of {} would be built: {}", tip.revision, why.join("; ")));
        }
        let words = start.words();
        let what = if words.is_empty() { String::new() } else { format!(": {words}") };
        reading.warnings.push(format!("started by {who}{what}"));
        self.shared.make(&self.repository, &tip, Source::Start, file, reading, None).await
    }

    /// Builds what somebody has sent. It has a ref of its own, so that nothing of it is taken for what was pushed.
    async fn run_sent(&self, sent: Sent, place: PathBuf, saifile: Vec<u8>, who: &str) -> Result<EventId, String> {
        let tip = Tip { reference: sent.reference(who)?, revision: sent.revision.clone() };
        let mut reading = saifile::of_start(&saifile, &sent.start.reference, &sent.start);
        if reading.specs.is_empty() {
            let why = [reading.errors, reading.warnings].concat();
            return Err(format!("nothing of what was sent would be built: {}", why.join("; ")));
        }
        let bundle = Bundle { person: who.to_string(), ..sent.bundle.clone() };
        for spec in &mut reading.specs {
            spec.bundle = Some(bundle.clone());
        }
        let words = sent.start.words();
        let what = if words.is_empty() { String::new() } else { format!(": {words}") };
        reading.warnings.push(format!("sent by {who}{what}"));
        let file = Saifile { bytes: saifile, subject: sent.subject, author: sent.author, ..Saifile::default() };
        self.shared.make_with(&self.repository, &tip, Source::Run, file, reading, None, Some(place)).await
    }

    /// Where the configuration wants it, what a ref that is gone named is built no further.
    async fn deleted(&self, reference: String) -> Result<(), String> {
        if !self.repository.supersede {
            return Ok(());
        }
        let (repository, why) = (self.repository.name.clone(), format!("{reference} was deleted"));
        let obsolete = hub::Obsolete { repository, reference, before: EventId::MAX, but: Vec::new(), why };
        self.shared.hub.input(hub::Input::Obsolete(obsolete)).await.map_err(ending)
    }

    async fn superseded(&mut self, tip: &Tip, by: &str) -> Result<Input, String> {
        let Commit { subject, author, .. } = self.commits.remove(&tip.revision).unwrap_or_default();
        let file = Saifile { subject, author, ..Saifile::default() };
        let why = format!("superseded by {by} before it was looked at: nothing of it is built");
        let reading = Reading { warnings: vec![why], ..Reading::default() };
        self.shared.make(&self.repository, tip, Source::Poke, file, reading, None).await.map(Input::Made)
    }

    fn change(&self, (reference, revision): RefChange) -> Change {
        let repository = self.repository.name.clone();
        match revision {
            Some(revision) => Change::Tip(TipRecord { repository, reference, revision }),
            None => Change::ForgetTip { repository, reference },
        }
    }

    /// Writes down what was seen of refs.
    async fn record(&self, changes: Vec<RefChange>) -> Result<(), String> {
        let mut changes = changes.into_iter().map(|change| self.change(change)).peekable();
        while changes.peek().is_some() {
            let some = changes.by_ref().take(RECORDS).collect();
            self.shared.hub.request(Request::Records(some)).await.map_err(ending)?;
        }
        Ok(())
    }
}

/// A repository, as git is told of it.
pub(super) fn forge_repository(repository: &Repository) -> crate::forge::Repository {
    let (name, url, tags) = (repository.name.clone(), repository.url.clone(), repository.tags);
    crate::forge::Repository { name, url, tags, ..crate::forge::Repository::default() }
}

/// The next call, or none when the moment has come; nothing at all when nobody can call any more.
async fn next(calls: &Receiver<Call>, deadline: Option<Millis>) -> Option<Option<Call>> {
    let call = async { calls.recv().await.ok().map(Some) };
    let timer = async {
        match deadline {
            Some(at) => smol::Timer::after(Duration::from_millis(at.saturating_sub(steady()))).await,
            None => smol::future::pending().await,
        };
        Some(None)
    };
    call.or(timer).await
}

fn ending(_: Gone) -> String {
    "the master is ending".to_string()
}
