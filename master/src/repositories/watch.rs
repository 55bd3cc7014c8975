//! Calls for one repository and its own timer → looks at it, and an event of each push they find.

use super::{Answer, Call, FirstPokes, Reading, Reply, SAIFILE, Shared};
use crate::config::Repository;
use crate::forge::{ForgeError, Saifile};
use crate::hook::VerifiedPush;
use crate::hub::{Gone, Request};
use crate::store::Change;
use sai_agent::clock::{steady, wall};
use sai_core::git_names::is_private;
use sai_core::git_text::Tip;
use sai_core::hub::Input;
use sai_core::ledger::{Source, TipRecord};
use sai_core::look::{LookInput, LookOutput, LookSchedule};
use sai_core::named::{NAMED, NamedRevisions, Standing};
use sai_core::ordered::{Map, Set};
use sai_core::push::{self, KnownRefs, RefChange, RefPolicy};
use sai_core::wire::Prefetch;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Records of refs that are written down together: the first look at a large repository has tens of thousands.
const RECORDS: usize = 512;

/// One that looks after a repository.
pub(super) struct Watch {
    pub(super) shared: Shared,
    pub(super) repository: Repository,
    pub(super) known: KnownRefs,
    pub(super) first: Arc<FirstPokes>,
    pub(super) named: NamedRevisions,
    /// Hooks that wait to hear what becomes of these.
    pub(super) waiting: Vec<(Tip, Sender<Answer>)>,
}

impl Watch {
    pub(super) async fn run(mut self, calls: Receiver<Call>) {
        while let Some(settings) = self.look_after(&calls).await {
            let mut settings = settings;
            // Of one that is not configured nothing is looked at, and nothing is forgotten.
            while settings.is_none() {
                match calls.recv().await {
                    Ok(Call::Settings(again)) => settings = again,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            if let Some(repository) = settings {
                self.repository = repository;
            }
        }
    }

    /// Looks after it until it is configured otherwise; none when nobody can call any more.
    async fn look_after(&mut self, calls: &Receiver<Call>) -> Option<Option<Repository>> {
        // Pushes may have come while no master listened: one look catches up with them, unless nothing was ever seen.
        let catch_up = self.known.looked_at_branches();
        let poll_ms = self.repository.poll_s.map(|seconds| seconds.saturating_mul(1000));
        let mut schedule = LookSchedule::new(steady(), poll_ms, catch_up);
        let mut inputs: VecDeque<LookInput> =
            self.first.read().into_iter().map(|reference| LookInput::Poke(Some(reference))).collect();
        let mut told = false;
        loop {
            let mut outputs = Vec::new();
            if let Some(input) = inputs.pop_front() {
                schedule.handle(steady(), input, &mut outputs);
            }
            for output in outputs {
                match output {
                    LookOutput::Look(named) => inputs.push_back(self.look(&named).await),
                    LookOutput::Bug(what) => crate::live::tell_bug(&self.shared.live, what),
                }
            }
            if !inputs.is_empty() {
                continue;
            }
            // Who still waits would do so until the next look, which is not due: too many have found nothing.
            self.answer(schedule.trouble().is_some());
            self.waiting.clear();
            if let Some(trouble) = schedule.trouble() {
                // Once: it is tried again and again, and the page has the last reason.
                if !std::mem::replace(&mut told, true) {
                    self.say_of_others(&trouble.describe(steady()));
                }
                self.shared.set_state(&self.repository, trouble.describe(steady()), true);
            } else if std::mem::take(&mut told) {
                self.say_of_others("can be reached again");
            }
            let call = async { calls.recv().await.ok().map(Some) };
            let timer = async {
                match schedule.deadline() {
                    Some(at) => smol::Timer::after(Duration::from_millis(at.saturating_sub(steady()))).await,
                    None => smol::future::pending().await,
                };
                Some(None)
            };
            match call.or(timer).await {
                None => return None,
                Some(Some(Call::Settings(repository))) => return Some(repository),
                Some(None) => inputs.push_back(LookInput::Tick),
                Some(Some(Call::Poke(reference, revision, reply))) => {
                    if self.poked(reference.as_deref(), revision, reply) {
                        inputs.push_back(LookInput::Poke(reference));
                    }
                }
                Some(Some(Call::Push(push, reply))) => self.push(push, reply).await,
            }
        }
    }

    fn forge_repository(&self) -> crate::forge::Repository {
        crate::forge::Repository {
            name: self.repository.name.clone(),
            url: self.repository.url.clone(),
            tags: self.repository.tags,
            ..crate::forge::Repository::default()
        }
    }

    fn say(&self, what: &str) {
        crate::say(&format!("repository {}: {what}", self.repository.name));
    }

    /// The same of what others can cause as often as they like: who can poke, or whose server comes and goes.
    fn say_of_others(&self, what: &str) {
        let name = &self.repository.name;
        self.shared.lines.say(format_args!("repository {name}"), format!("repository {name}: {what}"));
    }

    /// Remembers what a hook has named, and who waits to hear of it. Whether a look is wanted: of several branches in one push
    /// the first poke has made the others known.
    fn poked(&mut self, reference: Option<&str>, revision: Option<String>, reply: Reply) -> bool {
        let Some((reference, revision)) = reference.zip(revision) else { return true };
        if let Some(standing) = self.named.standing(reference, &revision)
            && self.known.refs().get(reference) == Some(&revision)
        {
            if let Some(reply) = reply {
                let _ = reply.try_send(Answer::Standing(standing));
            }
            return false;
        }
        // What the look would leave out is nobody's push.
        let branch = reference.starts_with("refs/heads/") && !is_private(reference);
        let tag = self.repository.tags && reference.starts_with("refs/tags/");
        if !(branch || tag) {
            return true;
        }
        if branch {
            // The revision of a pushed tag may be the tag's own, which no tip shows.
            self.named.name(reference, &revision);
        }
        let tip = Tip { reference: reference.to_string(), revision };
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        if let Some(reply) = reply.filter(|_| self.waiting.len() < NAMED) {
            self.waiting.push((tip, reply));
        }
        true
    }

    /// Tells those who wait what became of their pushes, as far as a look has found out.
    fn answer(&mut self, unreachable: bool) {
        let waiting = std::mem::take(&mut self.waiting);
        for (tip, reply) in waiting {
            let known = self.known.refs().get(&tip.reference) == Some(&tip.revision);
            let answer = match self.named.standing(&tip.reference, &tip.revision) {
                Some(standing) => Answer::Standing(standing),
                None if unreachable => Answer::Unreachable,
                None if known => Answer::Known,
                None => {
                    self.waiting.push((tip, reply));
                    continue;
                }
            };
            // Who has not waited so long looks at the page.
            let _ = reply.try_send(answer);
        }
    }

    async fn look(&mut self, named: &Set<String>) -> LookInput {
        let looked = self.try_look(named).await;
        let settled = self.shared.hub.settled().await;
        self.answer(looked.is_err());
        match looked {
            Ok((pushes, more, state)) => {
                // What it found is with the hub; a push of the first look is safe once its event is durable.
                if settled.is_ok() {
                    self.first.looked();
                }
                self.shared.set_state(&self.repository, state, false);
                LookInput::Found { pushes, more }
            }
            Err(why) => LookInput::Failed(why),
        }
    }

    async fn try_look(&mut self, named: &Set<String>) -> Result<(usize, bool, String), String> {
        let forge = self.shared.forge.clone();
        let place = self.forge_repository();
        let tips = forge.tips(&place).await.map_err(|error| error.to_string())?;
        let default_branch = if self.known.wants_default_branch(named) {
            forge.default_branch(&place).await.map_err(|error| error.to_string())?
        } else {
            None
        };
        let before = self.known.refs().clone();
        let policy = RefPolicy { tags: self.repository.tags };
        let (mut said, mut pushes, mut changes, mut more) = (Vec::new(), Vec::new(), Vec::new(), false);
        let input = push::Input::Look { tips: tips.clone(), named: named.clone(), default_branch, policy };
        self.known.handle(steady(), input, &mut said);
        for output in said {
            match output {
                push::Output::Change(change) => changes.push(change),
                push::Output::Push(tip) => pushes.push(tip),
                push::Output::More => more = true,
            }
        }
        self.record(changes).await?;
        let passed = self.named.take_passed(&tips, self.known.refs());
        self.tell_passed(&place, &tips, &before, passed).await?;
        let source = if named.is_empty() { Source::Poll } else { Source::Poke };
        let (found, mut without) = (pushes.len(), Vec::new());
        for tip in &pushes {
            self.shared.hub.input(Input::Expected(self.prefetch(tip))).await.map_err(ending)?;
            let file = match forge.saifile(&place, &tip.reference, &tip.revision).await {
                Ok(file) => Ok(file),
                // Our trouble: the push stays unseen and is found again by the next look.
                Err(error) if error.is_infrastructure() => return Err(error.to_string()),
                // It moved on while we looked; the next look sees where to.
                Err(ForgeError::RevisionGone) => continue,
                // Nobody asked for anything to be built.
                Err(ForgeError::NoSaifile) => {
                    self.record(vec![(tip.reference.clone(), Some(tip.revision.clone()))]).await?;
                    self.made(tip);
                    self.named.settle(tip, Standing::NoSaifile);
                    without.push(tip.reference.as_str());
                    continue;
                }
                Err(error) => Err(error.to_string()),
            };
            self.event(tip, source, file).await?;
        }
        let state = match without.first() {
            Some(first) if without.len() == 1 => format!("in order; {first} has no {SAIFILE}"),
            Some(first) => format!("in order; {first} and {} more have no {SAIFILE}", without.len() - 1),
            None => "in order".to_string(),
        };
        Ok((found, more, state))
    }

    /// Writes down what was seen of refs.
    async fn record(&self, changes: Vec<RefChange>) -> Result<(), String> {
        let change = |(reference, revision): RefChange| {
            let repository = self.repository.name.clone();
            match revision {
                Some(revision) => Change::Tip(TipRecord { repository, reference, revision }),
                None => Change::ForgetTip { repository, reference },
            }
        };
        let mut changes = changes.into_iter().map(change).peekable();
        while changes.peek().is_some() {
            let some = changes.by_ref().take(RECORDS).collect();
            self.shared.hub.request(Request::Records(some)).await.map_err(ending)?;
        }
        Ok(())
    }

    /// Makes an event of each revision that a hook named and that a later push has passed, so that nobody misses it. Anyone may
    /// name a revision: what was not pushed just now is none.
    async fn tell_passed(
        &mut self,
        place: &crate::forge::Repository,
        tips: &[Tip],
        before: &Map<String, String>,
        mut passed: Vec<Tip>,
    ) -> Result<(), String> {
        while let Some(first) = passed.first().cloned() {
            let (these, others) = passed.into_iter().partition(|tip| tip.reference == first.reference);
            passed = others;
            let these: Vec<Tip> = these;
            let Some(tip) = tips.iter().find(|tip| tip.reference == first.reference) else {
                self.say_of_others(&format!("{} was deleted before it was looked at", first.reference));
                continue;
            };
            let revisions = these.iter().map(|tip| tip.revision.clone()).collect();
            let known = before.get(&first.reference).cloned();
            let found = self.shared.forge.passed(place, tip, known, revisions, wall() / 1000).await;
            let found = match found {
                Err(error) if error.is_infrastructure() => return Err(error.to_string()),
                found => found.unwrap_or_default(),
            };
            for tip_passed in these {
                let Some(commit) = found.get(&tip_passed.revision) else {
                    let (reference, revision) = (&tip_passed.reference, &tip_passed.revision);
                    self.say_of_others(&format!(
                        "a hook named {revision} of {reference}, which was not pushed there just now"
                    ));
                    continue;
                };
                let (subject, author) = (commit.subject.clone(), commit.author.clone());
                let file = Saifile { subject, author, ..Saifile::default() };
                let why = format!("superseded by {} before it was looked at: nothing of it is built", tip.revision);
                let reading = Reading { warnings: vec![why], ..Reading::default() };
                let made = self.shared.make(&self.repository, &tip_passed, Source::Poke, file, reading, None).await?;
                self.named.settle(&tip_passed, Standing::Superseded(made));
            }
        }
        Ok(())
    }

    fn prefetch(&self, tip: &Tip) -> Prefetch {
        Prefetch {
            repository: self.repository.name.clone(),
            url: self.repository.url.clone(),
            reference: tip.reference.clone(),
            revision: tip.revision.clone(),
        }
    }

    fn made(&mut self, tip: &Tip) {
        self.known.handle(steady(), push::Input::Made(tip.clone()), &mut Vec::new());
    }

    async fn event(&mut self, tip: &Tip, source: Source, file: Result<Saifile, String>) -> Result<(), String> {
        let change = Change::Tip(TipRecord {
            repository: self.repository.name.clone(),
            reference: tip.reference.clone(),
            revision: tip.revision.clone(),
        });
        let made = self.shared.make_event(&self.repository, tip, source, file, Some(change)).await?;
        self.made(tip);
        self.named.settle(tip, Standing::Event(made));
        Ok(())
    }

    /// A signed push brings its saifile, so that nothing needs to be fetched before its jobs start.
    async fn push(&mut self, push: VerifiedPush, reply: Reply) {
        let tip = Tip { reference: push.reference, revision: push.revision };
        let mut said = Vec::new();
        self.known.handle(steady(), push::Input::Told(tip.clone()), &mut said);
        if said.contains(&push::Output::Push(tip.clone())) {
            let file = Saifile { bytes: push.saifile, ..Saifile::default() };
            if let Err(why) = self.event(&tip, Source::Hook, Ok(file)).await {
                self.say(&why);
            }
        }
        if let Some(reply) = reply {
            let standing = self.named.standing(&tip.reference, &tip.revision);
            let _ = reply.try_send(standing.map_or(Answer::Known, Answer::Standing));
        }
    }
}

fn ending(_: Gone) -> String {
    "the master is ending".to_string()
}
