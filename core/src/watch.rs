//! Pokes, signed pushes, the poll timer and what git finds in a repository → looks at it, and what becomes of each push.
//!
//! One thing is under way at a time: what it asks is answered before it is called again. Each push that a look finds becomes an
//! event, and so does each revision that a hook named and a later push has passed. What could not be finished stays unknown, or
//! named, so that the next look finds it again.

use crate::git_names::is_private;
use crate::git_text::Tip;
use crate::job::EventId;
use crate::ledger::Source;
use crate::limits::Millis;
use crate::look::{LookInput, LookOutput, LookSchedule, Trouble};
use crate::named::{NAMED, NamedRevisions, Standing};
use crate::ordered::{Map, Set};
use crate::push::{self, KnownRefs, RefChange, RefPolicy};
use crate::saifile::SAIFILE;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// Number of somebody who waits to hear what becomes of a push, never used again.
pub type Waiter = u64;

/// What is known of a push soon after its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What became of it.
    Standing(Standing),
    /// It was known before.
    Known,
    /// The repository cannot be looked at for now.
    Unreachable,
}

/// What git finds of the saifile of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is there, or something is wrong with it that whoever pushed should hear of.
    File,
    /// There is none.
    Nothing,
    /// The revision is gone: the ref has moved on since.
    Gone,
}

/// How a repository is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Milliseconds between two looks, if it is polled.
    pub poll_ms: Option<Millis>,
    /// Whether tags make events.
    pub tags: bool,
    /// Refs that were poked before the first look in an earlier life.
    pub poked: Vec<String>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is looked after from now on, like this: the first input of all, and whenever the configuration has changed.
    Settings(Settings),
    /// A hook says that there was a push, perhaps to this ref and of this revision, and perhaps waits for an answer.
    Poke(Option<String>, Option<String>, Option<Waiter>),
    /// A signed push tells of a tip.
    Push(Tip, Option<Waiter>),
    /// Somebody does not wait any longer.
    Left(Waiter),
    /// The tips that were asked for, and what HEAD stands for if that was asked too.
    Tips(Vec<Tip>, Option<String>),
    /// Which of the revisions asked for were pushed to that ref just now.
    Passed(Set<String>),
    /// What was found of the saifile that was asked for.
    Saifile(Found),
    /// The event that was asked for is made, with this number.
    Made(EventId),
    /// All that was said up to `Settle` is durable.
    Settled,
    /// What was asked last cannot be had, for this reason: git cannot reach the repository, or there is trouble of ours.
    Failed(String),
    /// The [`Watch::deadline`] has come.
    Tick,
}

/// What is to be done, in order. Questions are the last of an input's outputs, and one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Which tips are there, and what does HEAD stand for if that is wanted? Answer with `Tips` or `Failed`.
    Tips {
        /// Whether that is wanted.
        default_branch: bool,
    },
    /// Which of these revisions are in the recent history of this tip, or look pushed to its ref just now? Answer with `Passed`
    /// or `Failed`.
    Passed {
        /// The tip.
        tip: Tip,
        /// What was the tip before, if that is known.
        known: Option<String>,
        /// The revisions.
        revisions: Vec<String>,
    },
    /// Read the saifile of this push, which agents may fetch ahead. Answer with `Saifile` or `Failed`.
    Saifile(Tip),
    /// Make an event of this push and, in the same commit, note its ref. Answer with `Made` or `Failed`.
    Event(Tip, Source),
    /// Make an event that says: this was passed by that revision, and nothing of it is built. Answer with `Made` or `Failed`.
    Superseded(Tip, String),
    /// Answer with `Settled` when all that was said before is durable, or with `Failed`.
    Settle,
    /// Make durable what was seen of refs.
    Record(Vec<RefChange>),
    /// This ref is no longer there.
    Deleted(String),
    /// A look has been made to its end: what was poked before the first one need not be kept any longer.
    Looked,
    /// Tell somebody who waits; nothing, if it takes too long to wait for.
    Answer(Waiter, Option<Answer>),
    /// Show how the repository is, and whether that is trouble.
    State(String, bool),
    /// For the master's own log.
    Say(String),
    /// The same of what others can cause as often as they like.
    SayOfOthers(String),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// A look under way.
#[derive(Clone, Debug, Default)]
struct Look {
    named: Set<String>,
    tips: Map<String, String>,
    before: Map<String, String>,
    /// Revisions that were named and are no tips, which is not known of them yet.
    passed: Vec<Tip>,
    /// Those that are to be told.
    superseded: VecDeque<Tip>,
    pushes: VecDeque<Tip>,
    found: usize,
    more: bool,
    without: Vec<String>,
}

/// What was asked last.
#[derive(Clone, Debug)]
enum Asked {
    Tips(Look),
    Passed(Look, Vec<Tip>),
    Superseded(Look, Tip),
    Saifile(Look, Tip),
    Event(Look, Tip),
    Settle(Result<Look, String>),
    Pushed(Tip, Option<Waiter>),
    Told(Tip, Option<Waiter>),
}

/// The machine of one repository. See the file's first line.
#[derive(Clone, Debug)]
pub struct Watch {
    tags: bool,
    schedule: LookSchedule,
    known: KnownRefs,
    named: NamedRevisions,
    /// Who waits to hear of which push.
    waiting: Vec<(Tip, Waiter)>,
    asked: Option<Asked>,
    /// Whether it was said that the repository cannot be reached.
    told: bool,
}

impl Watch {
    /// A repository of which this was known in an earlier life. It waits for its settings.
    pub fn restored(known: KnownRefs) -> Self {
        let (named, waiting) = (NamedRevisions::default(), Vec::new());
        let schedule = LookSchedule::new(0, None, false);
        Self { tags: false, schedule, known, named, waiting, asked: None, told: false }
    }

    /// When [`Input::Tick`] is wanted; never while something is asked.
    pub fn deadline(&self) -> Option<Millis> {
        if self.asked.is_some() { None } else { self.schedule.deadline() }
    }

    /// Whether something is asked: only its answer is taken now.
    pub fn is_asking(&self) -> bool {
        self.asked.is_some()
    }

    /// What is known of its refs.
    pub fn known(&self) -> &KnownRefs {
        &self.known
    }

    /// Takes an input and says what is to be done.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match (self.asked.take(), input) {
            (asked, Input::Left(waiter)) => {
                self.waiting.retain(|(_, other)| *other != waiter);
                self.asked = asked;
                return;
            }
            (None, Input::Settings(settings)) => self.settle(now, settings, out),
            (None, Input::Poke(reference, revision, waiter)) => self.poked(now, reference, revision, waiter, out),
            (None, Input::Push(tip, waiter)) => self.pushed(now, tip, waiter, out),
            (None, Input::Tick) => self.give(now, LookInput::Tick, out),
            (Some(Asked::Tips(look)), Input::Tips(tips, default_branch)) => {
                self.seen(now, look, tips, default_branch, out);
            }
            (Some(Asked::Passed(look, these)), Input::Passed(found)) => self.found_passed(look, these, &found, out),
            (Some(Asked::Superseded(look, tip)), Input::Made(event)) => {
                self.named.settle(&tip, Standing::Superseded(event));
                self.go_on(look, out);
            }
            (Some(Asked::Saifile(look, tip)), Input::Saifile(found)) => self.read(now, look, tip, found, out),
            (Some(Asked::Event(look, tip)), Input::Made(event)) => {
                self.made(now, &tip, Standing::Event(event));
                self.go_on(look, out);
            }
            (Some(Asked::Pushed(tip, waiter)), Input::Made(event)) => {
                self.made(now, &tip, Standing::Event(event));
                out.push(Output::Settle);
                self.asked = Some(Asked::Told(tip, waiter));
            }
            (Some(Asked::Told(tip, waiter)), Input::Settled) => self.tell(&tip, waiter, out),
            (Some(Asked::Pushed(_, waiter) | Asked::Told(_, waiter)), Input::Failed(why)) => {
                out.push(Output::Say(why));
                out.extend(waiter.map(|waiter| Output::Answer(waiter, None)));
            }
            (Some(Asked::Settle(looked)), Input::Settled) => self.looked(now, looked, true, out),
            (Some(Asked::Settle(looked)), Input::Failed(_)) => self.looked(now, looked, false, out),
            (Some(Asked::Tips(look)), Input::Failed(why)) => self.fail(look, Vec::new(), why, out),
            (Some(Asked::Passed(look, these)), Input::Failed(why)) => self.fail(look, these, why, out),
            (Some(Asked::Superseded(look, tip)), Input::Failed(why)) => self.fail(look, vec![tip], why, out),
            (Some(Asked::Saifile(look, _) | Asked::Event(look, _)), Input::Failed(why)) => {
                self.fail(look, Vec::new(), why, out);
            }
            (asked, _) => {
                self.asked = asked;
                out.push(Output::Bug("watch: not what was asked"));
                return;
            }
        }
        if self.asked.is_none() {
            self.rest(now, out);
        }
    }

    fn settle(&mut self, now: Millis, settings: Settings, out: &mut Vec<Output>) {
        self.tags = settings.tags;
        self.told = false;
        // Pushes may have come while nobody listened: one look catches up with them, unless nothing was ever seen.
        self.schedule = LookSchedule::new(now, settings.poll_ms, self.known.looked_at_branches());
        for reference in settings.poked {
            let mut said = Vec::new();
            self.schedule.handle(now, LookInput::Poke(Some(reference)), &mut said);
            self.begin(said, out);
        }
    }

    /// Gives the schedule an input, and begins the look that it may want.
    fn give(&mut self, now: Millis, input: LookInput, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.schedule.handle(now, input, &mut said);
        self.begin(said, out);
    }

    fn begin(&mut self, said: Vec<LookOutput>, out: &mut Vec<Output>) {
        for output in said {
            match output {
                LookOutput::Look(named) => {
                    out.push(Output::Tips { default_branch: self.known.wants_default_branch(&named) });
                    self.asked = Some(Asked::Tips(Look { named, ..Look::default() }));
                }
                LookOutput::Bug(what) => out.push(Output::Bug(what)),
            }
        }
    }

    /// Says how things are when nothing is under way.
    fn rest(&mut self, now: Millis, out: &mut Vec<Output>) {
        // Who still waits would do so until the next look, which is not due: too many have found nothing.
        self.answer(self.schedule.trouble().is_some(), out);
        out.extend(self.waiting.drain(..).map(|(_, waiter)| Output::Answer(waiter, None)));
        match self.schedule.trouble().map(|trouble: &Trouble| trouble.describe(now)) {
            Some(trouble) => {
                // Once: it is tried again and again, and the page has the last reason.
                if !core::mem::replace(&mut self.told, true) {
                    out.push(Output::SayOfOthers(trouble.clone()));
                }
                out.push(Output::State(trouble, true));
            }
            None if core::mem::take(&mut self.told) => {
                out.push(Output::SayOfOthers("can be reached again".to_string()));
            }
            None => {}
        }
    }

    /// Remembers what a hook has named, and who waits to hear of it. Of several branches in one push the first poke has made the
    /// others known: then no look is wanted.
    fn poked(
        &mut self,
        now: Millis,
        reference: Option<String>,
        revision: Option<String>,
        waiter: Option<Waiter>,
        out: &mut Vec<Output>,
    ) {
        if let Some((reference, revision)) = reference.clone().zip(revision) {
            if let Some(standing) = self.named.standing(&reference, &revision)
                && self.known.refs().get(&reference) == Some(&revision)
            {
                out.extend(waiter.map(|waiter| Output::Answer(waiter, Some(Answer::Standing(standing)))));
                return;
            }
            // What the look would leave out is nobody's push.
            let branch = reference.starts_with("refs/heads/") && !is_private(&reference);
            let tag = self.tags && reference.starts_with("refs/tags/");
            if branch {
                // The revision of a pushed tag may be the tag's own, which no tip shows.
                self.named.name(&reference, &revision);
            }
            match waiter.filter(|_| (branch || tag) && self.waiting.len() < NAMED) {
                Some(waiter) => self.waiting.push((Tip { reference, revision }, waiter)),
                None => out.extend(waiter.map(|waiter| Output::Answer(waiter, None))),
            }
        } else {
            out.extend(waiter.map(|waiter| Output::Answer(waiter, None)));
        }
        self.give(now, LookInput::Poke(reference), out);
    }

    /// A signed push brings its saifile, so that nothing needs to be fetched before its jobs start.
    fn pushed(&mut self, now: Millis, tip: Tip, waiter: Option<Waiter>, out: &mut Vec<Output>) {
        let mut said = Vec::new();
        self.known.handle(now, push::Input::Told(tip.clone()), &mut said);
        if said.contains(&push::Output::Push(tip.clone())) {
            out.push(Output::Event(tip.clone(), Source::Hook));
            self.asked = Some(Asked::Pushed(tip, waiter));
        } else {
            self.tell(&tip, waiter, out);
        }
    }

    fn tell(&self, tip: &Tip, waiter: Option<Waiter>, out: &mut Vec<Output>) {
        let standing = self.named.standing(&tip.reference, &tip.revision);
        let answer = standing.map_or(Answer::Known, Answer::Standing);
        out.extend(waiter.map(|waiter| Output::Answer(waiter, Some(answer))));
    }

    /// Tells those who wait what became of their pushes, as far as a look has found out.
    fn answer(&mut self, unreachable: bool, out: &mut Vec<Output>) {
        for (tip, waiter) in core::mem::take(&mut self.waiting) {
            let known = self.known.refs().get(&tip.reference) == Some(&tip.revision);
            let answer = match self.named.standing(&tip.reference, &tip.revision) {
                Some(standing) => Answer::Standing(standing),
                None if unreachable => Answer::Unreachable,
                None if known => Answer::Known,
                None => {
                    self.waiting.push((tip, waiter));
                    continue;
                }
            };
            out.push(Output::Answer(waiter, Some(answer)));
        }
    }

    /// Compares the tips with what is known of them.
    fn seen(
        &mut self,
        now: Millis,
        mut look: Look,
        tips: Vec<Tip>,
        default_branch: Option<String>,
        out: &mut Vec<Output>,
    ) {
        look.before = self.known.refs().clone();
        let (mut said, mut changes) = (Vec::new(), Vec::new());
        let (named, policy) = (look.named.clone(), RefPolicy { tags: self.tags });
        let input = push::Input::Look { tips: tips.clone(), named, default_branch, policy };
        self.known.handle(now, input, &mut said);
        for output in said {
            match output {
                push::Output::Change(change) => changes.push(change),
                // Before it is noted, so that it is told again where that was not kept.
                push::Output::Deleted(reference) => out.push(Output::Deleted(reference)),
                push::Output::Push(tip) => look.pushes.push_back(tip),
                push::Output::More => look.more = true,
            }
        }
        if !changes.is_empty() {
            out.push(Output::Record(changes));
        }
        look.found = look.pushes.len();
        look.passed = self.named.take_passed(&tips, self.known.refs());
        look.tips = Map::from_iter(tips.into_iter().map(|tip| (tip.reference, tip.revision)));
        self.go_on(look, out);
    }

    /// Asks what is next in a look: first for what was passed, of which the hook has told, then for the pushes.
    fn go_on(&mut self, mut look: Look, out: &mut Vec<Output>) {
        if let Some(tip) = look.superseded.pop_front() {
            let by = look.tips.get(&tip.reference).cloned().unwrap_or_default();
            out.push(Output::Superseded(tip.clone(), by));
            self.asked = Some(Asked::Superseded(look, tip));
            return;
        }
        while let Some(first) = look.passed.first().cloned() {
            let passed = core::mem::take(&mut look.passed);
            let (these, others) = passed.into_iter().partition(|tip| tip.reference == first.reference);
            look.passed = others;
            let these: Vec<Tip> = these;
            let Some(revision) = look.tips.get(&first.reference).cloned() else {
                out.push(Output::SayOfOthers(format!("{} was deleted before it was looked at", first.reference)));
                continue;
            };
            let known = look.before.get(&first.reference).cloned();
            let revisions = these.iter().map(|tip| tip.revision.clone()).collect();
            out.push(Output::Passed { tip: Tip { reference: first.reference, revision }, known, revisions });
            self.asked = Some(Asked::Passed(look, these));
            return;
        }
        if let Some(tip) = look.pushes.pop_front() {
            out.push(Output::Saifile(tip.clone()));
            self.asked = Some(Asked::Saifile(look, tip));
            return;
        }
        self.end(Ok(look), out);
    }

    /// Anyone may name a revision: what was not pushed just now is none.
    fn found_passed(&mut self, mut look: Look, these: Vec<Tip>, found: &Set<String>, out: &mut Vec<Output>) {
        for tip in these {
            if found.contains(&tip.revision) {
                look.superseded.push_back(tip);
            } else {
                let (reference, revision) = (&tip.reference, &tip.revision);
                out.push(Output::SayOfOthers(format!(
                    "a hook named {revision} of {reference}, which was not pushed there just now"
                )));
            }
        }
        self.go_on(look, out);
    }

    fn read(&mut self, now: Millis, mut look: Look, tip: Tip, found: Found, out: &mut Vec<Output>) {
        match found {
            Found::File => {
                let source = if look.named.is_empty() { Source::Poll } else { Source::Poke };
                out.push(Output::Event(tip.clone(), source));
                self.asked = Some(Asked::Event(look, tip));
            }
            // Where to is for the next look to see, which may be the only one that ever does: the hook of it may be lost.
            Found::Gone => {
                look.more = true;
                self.go_on(look, out);
            }
            // Nobody asked for anything to be built.
            Found::Nothing => {
                out.push(Output::Record(vec![(tip.reference.clone(), Some(tip.revision.clone()))]));
                self.made(now, &tip, Standing::NoSaifile);
                look.without.push(tip.reference);
                self.go_on(look, out);
            }
        }
    }

    fn made(&mut self, now: Millis, tip: &Tip, standing: Standing) {
        self.known.handle(now, push::Input::Made(tip.clone()), &mut Vec::new());
        self.named.settle(tip, standing);
    }

    /// A look that cannot go on. What was named and is not told yet is named again, since no look sees it by itself.
    fn fail(&mut self, mut look: Look, these: Vec<Tip>, why: String, out: &mut Vec<Output>) {
        let passed = core::mem::take(&mut look.passed);
        for tip in these.into_iter().chain(core::mem::take(&mut look.superseded)).chain(passed) {
            self.named.name(&tip.reference, &tip.revision);
        }
        self.end(Err(why), out);
    }

    fn end(&mut self, looked: Result<Look, String>, out: &mut Vec<Output>) {
        out.push(Output::Settle);
        self.asked = Some(Asked::Settle(looked));
    }

    fn looked(&mut self, now: Millis, looked: Result<Look, String>, durable: bool, out: &mut Vec<Output>) {
        self.answer(looked.is_err(), out);
        match looked {
            Ok(look) => {
                // A push of the first look is safe once its event is durable.
                if durable {
                    out.push(Output::Looked);
                }
                let state = match look.without.first() {
                    Some(first) if look.without.len() == 1 => format!("in order; {first} has no {SAIFILE}"),
                    Some(first) => format!("in order; {first} and {} more have no {SAIFILE}", look.without.len() - 1),
                    None => "in order".to_string(),
                };
                out.push(Output::State(state, false));
                self.give(now, LookInput::Found { pushes: look.found, more: look.more }, out);
            }
            Err(why) => self.give(now, LookInput::Failed(why), out),
        }
    }
}
