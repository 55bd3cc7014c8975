//! Pushes, hooks that get lost and forges that cannot be reached → what the shipped watches of a master make of them.

use super::disk::Row;
use super::{Bug, Event, Outcome, World};
use sai_core::git_text::Tip;
use sai_core::hub::Input;
use sai_core::job::EventId;
use sai_core::ledger::{EventRecord, Source};
use sai_core::limits::Millis;
use sai_core::look::LONGEST_PAUSE_MS;
use sai_core::named::Standing;
use sai_core::ordered::{Map, Set};
use sai_core::push::KnownRefs;
use sai_core::watch::{self, Answer, Found, Settings, Waiter, Watch};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const REPOSITORIES: [&str; 3] = ["alpha", "beta", "gamma"];
const REFERENCES: [&str; 3] = ["refs/heads/main", "refs/heads/next", "refs/heads/fix"];
/// Milliseconds after which a push that a hook has named is an event, counted from when the forge can be reached and the master
/// runs: the longest pause between two looks, and what two looks take with a slow disk.
const SEEN_MS: Millis = LONGEST_PAUSE_MS + 90_000;

/// A revision of a ref.
type Pushed = (String, String);

/// A repository at its forge, and what the master's machine has of it.
#[derive(Debug, Default)]
pub(super) struct Forge {
    name: String,
    tips: BTreeMap<String, String>,
    /// All that was ever pushed.
    pushed: BTreeSet<Pushed>,
    /// Revisions without a saifile.
    without: BTreeSet<String>,
    /// It cannot be reached before.
    down_until: Millis,
    poll_ms: Option<Millis>,
    /// Refs that were poked before its first look, on the master's disk.
    first: BTreeSet<String>,
    /// What its hooks have named to the process that runs, and since when that is no event.
    named: BTreeMap<Pushed, Millis>,
    /// What the master took as it was, or has no saifile.
    left_out: BTreeSet<Pushed>,
    watch: Option<Watch>,
    calls: VecDeque<watch::Input>,
    waiters: BTreeMap<Waiter, Pushed>,
    /// How many hooks have waited.
    asked: Waiter,
    tick: Option<Millis>,
}

impl World {
    /// The repositories of a world, most of which the master has looked at before.
    pub(super) fn found_forges(&mut self) {
        for name in REPOSITORIES {
            let poll_ms = self.random.chance(400).then(|| self.random.between(7_000, 60_000));
            self.forges.push(Forge { name: name.to_string(), poll_ms, ..Forge::default() });
            if self.random.chance(800) {
                let kind = ("refs/heads/".to_string(), Some("looked at".to_string()));
                self.master.durable.apply(Row::Tip(name.to_string(), kind));
            }
        }
    }

    /// Somebody pushes; the hook follows, or the next push comes sooner.
    pub(super) fn push(&mut self) -> Outcome {
        let index = self.random.below(self.forges.len() as u64) as usize;
        let reference = self.random.pick(&REFERENCES).unwrap_or("refs/heads/main").to_string();
        let mut pushes = 1;
        if self.random.chance(250) {
            pushes += self.random.between(1, 2);
        }
        for _ in 0..pushes {
            let revision = format!("{:016x}{:016x}{:08x}", self.random.next(), self.random.next(), index);
            self.note(|| format!("PUSH {revision} to {reference} of {}", REPOSITORIES[index]));
            let without = self.random.chance(40);
            let forge = &mut self.forges[index];
            forge.tips.insert(reference.clone(), revision.clone());
            forge.pushed.insert((reference.clone(), revision.clone()));
            if without {
                forge.without.insert(revision.clone());
            }
            let wait = self.random.between(1, 400);
            self.after(wait, Event::Hook(index, Some((reference.clone(), revision))));
        }
        if self.random.chance(200) && self.calm.is_none() {
            let until = self.now + self.random.between(100, 40_000);
            self.forges[index].down_until = until;
        }
        Ok(())
    }

    /// A hook tells the master, if there is one, and if nothing on the way swallows it.
    pub(super) fn hook(&mut self, index: usize, push: Option<Pushed>) -> Outcome {
        if self.master.hub.is_none() {
            // Who asks for a look without a push waits for the master.
            if push.is_none() {
                self.after(1_000, Event::Hook(index, None));
            }
            return Ok(());
        }
        if self.calm.is_none() && self.random.chance(150) {
            self.summary.lost_hooks += 1;
            return Ok(());
        }
        let now = self.now;
        let signed = self.random.chance(100);
        let forge = &mut self.forges[index];
        let Some((reference, revision)) = push.clone() else {
            forge.calls.push_back(watch::Input::Poke(None, None, None));
            return self.call(index);
        };
        forge.asked += 1;
        let waiter = forge.asked;
        forge.waiters.insert(waiter, (reference.clone(), revision.clone()));
        if !self.master.latest.has_looked(&forge.name) {
            forge.first.insert(reference.clone());
        }
        if signed {
            let tip = Tip { reference, revision };
            forge.calls.push_back(watch::Input::Push(tip, Some(waiter)));
        } else {
            forge.named.entry((reference.clone(), revision.clone())).or_insert(now);
            forge.calls.push_back(watch::Input::Poke(Some(reference), Some(revision), Some(waiter)));
        }
        self.call(index)
    }

    /// Gives a watch the next call, unless it waits for an answer.
    fn call(&mut self, index: usize) -> Outcome {
        let forge = &mut self.forges[index];
        if forge.watch.as_ref().is_some_and(|watch| !watch.is_asking())
            && let Some(call) = forge.calls.pop_front()
        {
            return self.watch(index, call);
        }
        Ok(())
    }

    fn watch(&mut self, index: usize, input: watch::Input) -> Outcome {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            self.note(|| format!("  {} << {input:?}", REPOSITORIES[index]));
            let now = self.moment().steady;
            let forge = &mut self.forges[index];
            let Some(watch) = forge.watch.as_mut() else { return Ok(()) };
            let mut said = Vec::new();
            watch.handle(now, input, &mut said);
            if !watch.is_asking() {
                inputs.extend(forge.calls.pop_front());
            }
            for output in said {
                self.note(|| format!("  {} >> {output:?}", REPOSITORIES[index]));
                self.carry(index, output)?;
            }
        }
        let bug = self.bug == Some(Bug::LookNeverRepeated);
        let forge = &mut self.forges[index];
        let due = forge.watch.as_ref().and_then(Watch::deadline).filter(|_| !bug);
        if due != forge.tick {
            forge.tick = due;
            if let Some(due) = due {
                self.at(due, Event::WatchTick(self.master.boot, index));
            }
        }
        Ok(())
    }

    fn carry(&mut self, index: usize, output: watch::Output) -> Outcome {
        match output {
            watch::Output::Settle => self.settle_watch(index),
            watch::Output::Record(changes) => {
                let name = self.forges[index].name.clone();
                let taken = changes.iter().filter_map(|(of, revision)| Some((of.clone(), revision.clone()?)));
                self.forges[index].left_out.extend(taken);
                let rows = changes.into_iter().map(|change| Row::Tip(name.clone(), change)).collect();
                self.write(rows)
            }
            watch::Output::Looked => {
                self.summary.looks += 1;
                self.forges[index].first.clear();
                Ok(())
            }
            watch::Output::Answer(waiter, answer) => self.check_answer(index, waiter, answer),
            watch::Output::Deleted(_)
            | watch::Output::State(..)
            | watch::Output::Say(_)
            | watch::Output::SayOfOthers(_) => Ok(()),
            watch::Output::Bug(what) => self.contradicted(what),
            question => {
                let wait = self.random.between(1, 400);
                self.after(wait, Event::Asked(self.master.boot, index, question));
                Ok(())
            }
        }
    }

    /// A question is answered as things are by now.
    pub(super) fn asked(&mut self, boot: u64, index: usize, question: watch::Output) -> Outcome {
        if boot != self.master.boot || self.master.hub.is_none() {
            return Ok(());
        }
        let forge = &self.forges[index];
        let git =
            matches!(question, watch::Output::Tips { .. } | watch::Output::Passed { .. } | watch::Output::Saifile(_));
        if git && self.now < forge.down_until {
            self.summary.failed_looks += 1;
            return self.watch(index, watch::Input::Failed("no route to host".to_string()));
        }
        let answer = match question {
            watch::Output::Tips { .. } => {
                let tips = forge.tips.iter();
                let tips = tips.map(|(of, revision)| Tip { reference: of.clone(), revision: revision.clone() });
                watch::Input::Tips(tips.collect(), Some("refs/heads/main".to_string()))
            }
            watch::Output::Passed { tip, revisions, .. } => {
                let pushed = |revision: &String| forge.pushed.contains(&(tip.reference.clone(), revision.clone()));
                watch::Input::Passed(Set::from_iter(revisions.into_iter().filter(pushed)))
            }
            watch::Output::Saifile(tip) => {
                let moved = forge.tips.get(&tip.reference) != Some(&tip.revision);
                let without = forge.without.contains(&tip.revision);
                let gone = moved && self.random.chance(500);
                let found = if without { Found::Nothing } else { Found::File };
                watch::Input::Saifile(if gone { Found::Gone } else { found })
            }
            watch::Output::Event(tip, source) => {
                let change = (tip.reference.clone(), Some(tip.revision.clone()));
                let row = Row::Tip(forge.name.clone(), change);
                let specs = self.random_specs();
                watch::Input::Made(self.make_event(index, tip, source, specs, vec![row])?)
            }
            watch::Output::Superseded(tip, _) => {
                self.summary.superseded += 1;
                watch::Input::Made(self.make_event(index, tip, Source::Poke, Vec::new(), Vec::new())?)
            }
            _ => return Ok(()),
        };
        self.watch(index, answer)
    }

    fn make_event(
        &mut self,
        index: usize,
        tip: Tip,
        source: Source,
        specs: Vec<sai_core::matrix::JobSpec>,
        mut rows: Vec<Row>,
    ) -> Outcome<EventId> {
        let (id, first_job) = self.master.numbers.give(specs.len() as u64);
        if self.master.latest.events.contains_key(&id) || self.master.latest.jobs.range(first_job..).next().is_some() {
            return self.broken("numbers", format!("{id} is given to an event and {first_job} to a job, once more"));
        }
        let repository = self.forges[index].name.clone();
        let event = EventRecord {
            id,
            url: format!("https://forge.example/{repository}"),
            repository,
            reference: tip.reference,
            revision: tip.revision,
            subject: "Change something".to_string(),
            author: "Anna".to_string(),
            source,
            at: self.now,
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job,
            jobs: specs.len() as u32,
        };
        let (specs, carried) = self.keep_plan(&event, specs);
        rows.push(carried);
        self.hub_with(Input::Event(event, specs), rows)?;
        Ok(id)
    }

    /// All that was said before is durable.
    pub(super) fn told(&mut self, boot: u64, index: usize, input: watch::Input) -> Outcome {
        if boot == self.master.boot { self.watch(index, input) } else { Ok(()) }
    }

    pub(super) fn watch_tick(&mut self, boot: u64, index: usize) -> Outcome {
        let forge = &mut self.forges[index];
        let due = forge.tick.is_some_and(|due| due <= self.now);
        if boot != self.master.boot || !due {
            return Ok(());
        }
        forge.tick = None;
        self.watch(index, watch::Input::Tick)
    }

    /// With the process goes what was only named to it.
    pub(super) fn crash_watches(&mut self) {
        for forge in &mut self.forges {
            (forge.watch, forge.tick) = (None, None);
            forge.calls.clear();
            forge.waiters.clear();
            forge.named.clear();
        }
    }

    pub(super) fn start_watches(&mut self) -> Outcome {
        for index in 0..self.forges.len() {
            let forge = &mut self.forges[index];
            let of_it = self.master.durable.tips.iter().filter(|((repository, _), _)| *repository == forge.name);
            let refs = Map::from_iter(of_it.map(|((_, reference), revision)| (reference.clone(), revision.clone())));
            forge.watch = Some(Watch::restored(KnownRefs::restored(refs)));
            let poked = forge.first.iter().cloned().collect();
            let settings = Settings { poll_ms: forge.poll_ms, tags: false, poked };
            self.watch(index, watch::Input::Settings(settings))?;
        }
        Ok(())
    }

    /// Every forge can be reached from now on, and each is looked at once more.
    pub(super) fn calm_forges(&mut self) {
        for index in 0..self.forges.len() {
            self.forges[index].down_until = 0;
            self.after(1, Event::Hook(index, None));
        }
    }

    pub(super) fn watches_are_idle(&self) -> bool {
        let idle = |forge: &Forge| {
            let watch = forge.watch.as_ref().filter(|watch| !watch.is_asking() && forge.calls.is_empty());
            // A poke that waits is seen to within a second.
            watch.is_some_and(|watch| watch.deadline().is_none_or(|due| due > self.moment().steady + 1_500))
        };
        self.forges.iter().all(idle)
    }

    /// What a hook is answered is so, and stays so after a crash.
    fn check_answer(&mut self, index: usize, waiter: Waiter, answer: Option<Answer>) -> Outcome {
        let Some((reference, revision)) = self.forges[index].waiters.remove(&waiter) else { return Ok(()) };
        let Some(Answer::Standing(Standing::Event(id) | Standing::Superseded(id))) = answer else { return Ok(()) };
        let event = self.master.durable.events.get(&id);
        if event.is_none_or(|event| event.revision != revision || event.reference != reference) {
            return self
                .broken("true answers", format!("{revision} of {reference} is told to be event {id}: {event:?}"));
        }
        Ok(())
    }

    fn is_event(&self, repository: &str, (reference, revision): &Pushed) -> bool {
        let mut events = self.master.latest.events.values();
        events
            .any(|event| event.repository == repository && event.reference == *reference && event.revision == *revision)
    }

    /// Each revision that a hook named is built in time, or shown as superseded; at the end each tip is.
    pub(super) fn check_pushes(&mut self, at_end: bool) -> Outcome {
        if self.master.hub.is_none() {
            return Ok(());
        }
        for index in 0..self.forges.len() {
            let forge = &self.forges[index];
            let done = |push: &Pushed| forge.left_out.contains(push) || self.is_event(&forge.name, push);
            let open: BTreeMap<Pushed, Millis> =
                forge.named.iter().filter(|(push, _)| !done(push)).map(|(push, at)| (push.clone(), *at)).collect();
            let late = open.iter().find(|(_, at)| at_end || self.now > **at.max(&&forge.down_until) + SEEN_MS);
            if let Some((push, at)) = late {
                let ago = self.now - at;
                return self
                    .broken("pushes are seen", format!("a hook named {push:?} {ago} ms ago, which is no event"));
            }
            let tips = forge.tips.iter().map(|(reference, revision)| (reference.clone(), revision.clone()));
            if let Some(tip) = tips.filter(|_| at_end).find(|tip| !done(tip)) {
                return self.broken("pushes are seen", format!("the tip {tip:?} of {} is no event", forge.name));
            }
            self.forges[index].named = open;
        }
        Ok(())
    }
}
