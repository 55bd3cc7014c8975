//! Records and what is live beside them → what each page shows. Every renderer starts from one of these.

use super::asked::check_state;
use super::filter::Filter;
use super::first_steps::FirstSteps;
use super::html::path_part;
use super::narrow::Narrow;
pub use super::standing::{STATES, Standing, reference_name};
use super::sums::{self, Counts, Sum};
use super::test_cases::Cases;
use crate::live::{Live, LiveAgent, LiveRepository};
use sai_core::forge_page::ForgePage;
use sai_core::job::{Fault, JobId, JobKey, JobState, Verdict};
use sai_core::ledger::{ActionRecord, AgentRecord, EventRecord, JobRecord, Source};
use sai_core::ordered::Map;
use sai_core::rebuild::WRONG;
use sai_core::record::Artifact;
use sai_core::requests::coming_attempt;
use sai_core::roles::{Deed, Powers, may};
use std::sync::Arc;

/// Who looks, and when.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    /// The signed-in user.
    pub who: Option<String>,
    /// What they may do: everything, where nothing is said, as in their record.
    pub powers: Option<Powers>,
    /// Unix milliseconds.
    pub now: u64,
    /// What every page says at its top.
    pub notices: Vec<String>,
    /// Path and query of the page, so that who signs in comes back to it; empty where nobody can come back to.
    pub address: String,
    /// What came of what they did on the page before, in a sentence.
    pub told: Option<String>,
    /// Whether there are units to look at.
    pub units: bool,
    /// Whether there are boards.
    pub boards: bool,
}

impl Visitor {
    /// Whether to offer something that is done to something of this repository, or of none.
    pub fn may(&self, deed: Deed, repository: Option<&str>) -> bool {
        self.who.is_some() && may(self.powers.as_ref(), self.now, deed, repository)
    }

    /// The address of the form to sign in, from which one comes back here.
    pub fn sign_in(&self) -> String {
        match self.address.as_str() {
            "" | "/" => "/sign-in".to_string(),
            address => format!("/sign-in?to={}", path_part(address)),
        }
    }
}

/// An event and its jobs.
#[derive(Clone, Debug)]
pub struct EventView {
    /// The event.
    pub event: EventRecord,
    /// Its jobs, in matrix order: those that are listed, where there are too many to list all.
    pub jobs: Vec<JobRecord>,
    /// Why those wait that wait.
    pub waiting: Map<JobId, String>,
    /// What is said of all of them, where not all are listed.
    pub sum: Option<Arc<Sum>>,
    /// Which are listed, where that is chosen.
    pub narrow: Narrow,
    /// From which number on there are more that were chosen.
    pub more: Option<JobId>,
    /// Where its repository's pages are at its forge.
    pub forge: Option<ForgePage>,
    /// What the same ref named before, if that is known and asked for.
    pub previous: Option<String>,
}

impl EventView {
    /// Picks out of what is live what concerns this event.
    pub fn new(event: EventRecord, jobs: Vec<JobRecord>, live: &Live) -> Self {
        let waiting = Map::from_iter(jobs.iter().filter_map(|job| Some((job.id, live.waiting.get(&job.id)?.clone()))));
        let forge = live.forge(&event.repository);
        Self { event, jobs, waiting, sum: None, narrow: Narrow::default(), more: None, forge, previous: None }
    }

    /// Whether that no job is listed is an answer.
    ///
    /// # Errors
    /// Which states there are.
    pub fn sense(&self) -> Result<(), String> {
        let state = self.narrow.choice.state.as_deref();
        if self.jobs.is_empty() { check_state(state, &[WRONG]) } else { Ok(()) }
    }

    /// An event as the list shows it whose jobs are too many.
    pub fn summed(event: EventRecord, sum: Arc<Sum>, live: &Live) -> Self {
        Self { sum: Some(sum), ..Self::new(event, Vec::new(), live) }
    }

    /// What stands in place of its jobs, if none were chosen of too many.
    pub fn summary(&self) -> Option<&Sum> {
        self.sum.as_deref().filter(|_| self.narrow.is_empty())
    }

    /// How many jobs it has.
    pub fn total(&self) -> usize {
        self.sum.as_ref().map_or(self.jobs.len(), |sum| sum.jobs)
    }

    /// When the last of its jobs ended; `u64::MAX` while one is queued or under way.
    pub fn fresh(&self) -> u64 {
        self.spans().last().map_or(0, |(_, until)| *until)
    }

    /// From when to when any of its jobs was queued or under way; `u64::MAX` is now.
    fn spans(&self) -> Vec<(u64, u64)> {
        match &self.sum {
            Some(sum) => sum.spans.clone(),
            None => sums::union(self.jobs.iter().map(sums::span).collect()),
        }
    }

    /// How many jobs are in each state, none left out, zeros left out.
    pub fn counts(&self) -> Counts {
        match &self.sum {
            Some(sum) => sum.counts.clone(),
            None => sums::counts(self.jobs.iter().map(JobRecord::standing)),
        }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let counts = self.counts();
        let any = |wanted: fn(JobState) -> bool| counts.iter().any(|(state, _)| wanted(*state));
        let bad = any(JobState::went_wrong);
        if counts.is_empty() {
            if self.event.errors.is_empty() { Standing::Empty } else { Standing::Invalid }
        } else if any(|state| !state.ended()) {
            let begun = any(|state| !matches!(state, JobState::Queued | JobState::Blocked));
            if bad {
                Standing::Failing
            } else if begun {
                Standing::Running
            } else {
                Standing::Queued
            }
        } else if bad {
            Standing::Failed
        } else if any(|state| matches!(state, JobState::Other(_))) {
            Standing::Other
        } else if any(|state| matches!(state, JobState::Cancelled | JobState::Skipped)) {
            Standing::Cancelled
        } else {
            Standing::Passed
        }
    }

    /// What was found, in a finer word than how it stands, where all of its jobs that went wrong agree.
    pub fn finding(&self) -> Option<&str> {
        let mut wrong = self.jobs.iter().filter(|job| job.standing().went_wrong());
        let word = wrong.next()?.finding()?;
        wrong.all(|job| job.finding() == Some(word)).then_some(word)
    }

    /// For how long any of its jobs was queued or under way, up to `now`, milliseconds. What lies between a first build
    /// and a later rebuild does not count.
    pub fn took(&self, now: u64) -> Option<u64> {
        let spans = self.spans();
        let total = spans.iter().map(|(from, to)| to.min(&now).saturating_sub(*from)).sum();
        (!spans.is_empty()).then_some(total)
    }
}

/// How long a job ran, or has been running, milliseconds.
pub fn job_took(job: &JobRecord, now: u64) -> Option<u64> {
    // Of a job that is queued anew the record still holds when its attempt before began.
    let started = job.started_at.filter(|at| *at >= job.queued_at)?;
    match (job.state, job.ended_at) {
        (JobState::Queued, _) => None,
        (state, Some(ended)) if state.ended() => Some(ended.saturating_sub(started)),
        _ => Some(now.saturating_sub(started)),
    }
}

/// What made an event, for people.
pub fn source_phrase(source: &Source) -> &str {
    match source {
        Source::Poke => "pushed",
        Source::Hook => "pushed, by webhook",
        Source::Poll => "found by polling",
        Source::Try => "tried",
        Source::Rebuild => "asked for again",
        Source::Start => "started by hand",
        Source::Session => "asked for by a build",
        Source::Lease => "a person at a board",
        Source::Health => "a look at a board's health",
        Source::Run => "sent from a laptop",
        Source::Other(word) => word.as_str(),
    }
}

/// What made an event, in a word.
pub fn source_word(source: &Source) -> &str {
    match source {
        Source::Poke => "poke",
        Source::Hook => "hook",
        Source::Poll => "poll",
        Source::Try => "try",
        Source::Rebuild => "rebuild",
        Source::Start => "start",
        Source::Session => "session",
        Source::Lease => "lease",
        Source::Health => "health",
        Source::Run => "run",
        Source::Other(word) => word.as_str(),
    }
}

/// Whose fault something was, for people.
pub fn fault_word(fault: &Fault) -> &str {
    match fault {
        Fault::Nobody => "nobody",
        Fault::Spec => "the spec",
        Fault::Job => "the job itself",
        Fault::Infrastructure => "the infrastructure",
        Fault::Person => "on request",
        Fault::Other(word) => word.as_str(),
    }
}

/// The page of events.
#[derive(Clone, Debug, Default)]
pub struct EventsView {
    /// The events, newest first.
    pub events: Vec<EventView>,
    /// What is looked for.
    pub filter: Filter,
    /// Repositories that can be chosen.
    pub repositories: Vec<LiveRepository>,
    /// Events older than this number are shown.
    pub before: Option<u64>,
    /// Where to go on, if there may be older ones: before this number.
    pub next: Option<u64>,
    /// What to do first, where there is hardly anything yet.
    pub steps: Option<FirstSteps>,
}

impl EventsView {
    /// Whether that nothing was found is an answer: nothing is in a state that there is not.
    ///
    /// # Errors
    /// Which there are.
    pub fn sense(&self) -> Result<(), String> {
        if self.events.is_empty() { check_state(self.filter.state.as_deref(), &[]) } else { Ok(()) }
    }
}

/// One attempt of a job.
#[derive(Clone, Debug)]
pub struct JobView {
    /// The job.
    pub job: JobRecord,
    /// Its event, if it is still known.
    pub event: Option<EventRecord>,
    /// Which attempt is shown, from 1.
    pub attempt: u32,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
    /// What the log tells of the shown attempt, if the record tells of a later one.
    pub past: Option<Past>,
    /// Its test cases, if they were asked for.
    pub tests: Option<Arc<Cases>>,
    /// Where its repository's pages are at its forge.
    pub forge: Option<ForgePage>,
    /// Whether others need it.
    pub needed: bool,
    /// Whether it waits for a platform that no agent offers, as far as that was asked.
    pub unserved: bool,
}

/// An attempt that the job's record no longer tells of, as its log does.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// How it ended; none when its agent was lost before it could say.
    pub verdict: Option<Verdict>,
    /// How long it ran, milliseconds.
    pub millis: u64,
    /// Its files, complete ones only.
    pub artifacts: Vec<Artifact>,
}

impl Past {
    /// How it ended.
    pub fn state(&self) -> JobState {
        self.verdict.as_ref().map_or(JobState::Infra, |verdict| verdict.outcome.state())
    }
}

impl JobView {
    /// The attempt that is shown.
    pub fn key(&self) -> JobKey {
        JobKey { job: self.job.id, attempt: self.attempt }
    }

    /// Whether the shown attempt is the current one, which the record tells of.
    pub fn current(&self) -> bool {
        self.attempt == coming_attempt(&self.job)
    }

    /// How the shown attempt stands.
    pub fn state(&self) -> JobState {
        if self.current() { self.job.standing() } else { self.past.as_ref().map_or(JobState::Infra, Past::state) }
    }

    /// The files of the shown attempt.
    pub fn artifacts(&self) -> &[Artifact] {
        match &self.past {
            Some(past) if !self.current() => &past.artifacts,
            _ if self.current() && self.job.state != JobState::Queued => &self.job.artifacts,
            _ => &[],
        }
    }

    /// Whether more can come to the shown attempt's log.
    pub fn live(&self) -> bool {
        self.current() && !self.job.state.ended()
    }
}

/// One agent: what is on record and what is live.
#[derive(Clone, Debug)]
pub struct AgentView {
    /// Its name.
    pub name: String,
    /// On record; an integrated agent has none.
    pub record: Option<AgentRecord>,
    /// Live, if it was seen since the master started.
    pub live: Option<Arc<LiveAgent>>,
    /// The jobs it runs.
    pub jobs: Vec<JobRecord>,
    /// Names of the boards it offers, each with a word for how it stands.
    pub boards: Vec<(String, &'static str)>,
}

impl AgentView {
    /// Whether its link is up.
    pub fn connected(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.connected)
    }

    /// A word for its state.
    pub fn word(&self) -> &'static str {
        match (&self.live, &self.record) {
            (_, Some(record)) if record.revoked => "revoked",
            (Some(live), _) if live.connected && live.set_aside.is_some() => "aside",
            (Some(live), _) if live.connected && !live.running.is_empty() => "busy",
            (Some(live), _) if live.connected => "idle",
            (None, Some(record)) if record.seen_at.is_none() => "new",
            _ => "away",
        }
    }
}

/// The page of agents.
#[derive(Clone, Debug, Default)]
pub struct AgentsView {
    /// The agents, by name.
    pub agents: Vec<AgentView>,
    /// Repositories and how they stand.
    pub repositories: Vec<LiveRepository>,
    /// What people did lately, newest first; empty for who is not signed in.
    pub actions: Vec<ActionRecord>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An event for tests.
    pub(crate) fn event(id: u64, jobs: u32) -> EventRecord {
        EventRecord {
            id,
            repository: "hello".to_string(),
            url: "https://git.example/hello".to_string(),
            reference: "refs/heads/main".to_string(),
            revision: "0123456789abcdef0123456789abcdef01234567".to_string(),
            subject: "Say hello".to_string(),
            author: "Ann".to_string(),
            source: Source::Hook,
            at: 1_795_354_322_000,
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job: id * 1000,
            jobs,
        }
    }

    /// A job for tests.
    pub(crate) fn job(id: u64, platform: &str, configuration: &str, state: JobState) -> JobRecord {
        let at = 1_795_354_322_000;
        let begun = !matches!(state, JobState::Queued | JobState::Expired);
        JobRecord {
            platform: platform.to_string(),
            configuration: configuration.to_string(),
            state,
            attempt: u32::from(begun),
            agent: begun.then(|| "rock".to_string()),
            assigned_at: begun.then_some(at + 1000),
            started_at: (begun && state != JobState::Assigned).then_some(at + 2000),
            ended_at: state.ended().then_some(at + 64_000),
            steps: 2,
            ..JobRecord::queued(id, id / 1000, "hello", at)
        }
    }

    fn standing(states: &[JobState]) -> Standing {
        let jobs = states.iter().enumerate().map(|(at, state)| job(at as u64, "linux", "default", *state)).collect();
        EventView::new(event(1, states.len() as u32), jobs, &Live::default()).standing()
    }

    #[test]
    fn a_state_of_a_later_version_is_shown_as_it_is_and_in_grey() {
        let later: JobState = miniserde::json::from_str("\"unseen\"").unwrap();
        let mut view = EventView::new(event(1, 2), vec![job(1000, "linux", "a", JobState::Passed)], &Live::default());
        assert_eq!(view.standing(), Standing::Passed);
        view.jobs.push(job(1001, "linux", "b", later));
        assert_eq!((view.standing(), view.standing().ended()), (Standing::Other, true));
        assert_eq!(view.counts(), [(JobState::Passed, 1), (later, 1)]);
        let mut html = crate::page::html::Html::new();
        crate::page::layout::state_badge(&mut html, later);
        assert_eq!(html.into_string(), "<span class=\"badge other\">unseen</span>");
        view.jobs.push(job(1002, "linux", "c", JobState::Failed));
        assert_eq!(view.standing(), Standing::Failed);
    }

    #[test]
    fn an_event_has_a_finer_word_where_all_that_went_wrong_have_it() {
        let found = |id: u64, state: JobState, word: &str| {
            let finding = Some(sai_core::job::Finding { word: word.to_string(), what: None, board: None });
            let (outcome, fault) = (sai_core::job::Outcome::Failed, sai_core::job::Fault::Job);
            let cause = String::new();
            let end = sai_core::job::Verdict {
                outcome,
                fault,
                cause,
                step: None,
                status: None,
                trouble: None,
                verdict: finding,
            };
            JobRecord { verdict: Some(end), ..job(id, "linux", "fw/board", state) }
        };
        let passed = job(1000, "linux", "fw", JobState::Passed);
        let view = |jobs: Vec<JobRecord>| EventView::new(event(1, jobs.len() as u32), jobs, &Live::default());
        let boot = |id| found(id, JobState::Failed, "no-boot");
        assert_eq!(view(vec![passed.clone(), boot(1001), boot(1002)]).finding(), Some("no-boot"));
        assert_eq!(view(vec![boot(1001), found(1002, JobState::Failed, "silent")]).finding(), None);
        assert_eq!(view(vec![boot(1001), job(1002, "linux", "x", JobState::Failed)]).finding(), None);
        assert_eq!(view(vec![passed, found(1001, JobState::Queued, "no-boot")]).finding(), None);
    }

    #[test]
    fn an_event_stands_as_its_jobs_do() {
        use JobState::*;
        assert_eq!(standing(&[]), Standing::Empty);
        assert_eq!(standing(&[Queued, Queued]), Standing::Queued);
        assert_eq!(standing(&[Queued, Passed]), Standing::Running);
        assert_eq!(standing(&[Running, Failed]), Standing::Failing);
        assert_eq!(standing(&[Passed, Infra]), Standing::Failed);
        assert_eq!(standing(&[Passed, Cancelled]), Standing::Cancelled);
        assert_eq!(standing(&[Passed, Passed]), Standing::Passed);
        let mut invalid = EventView::new(event(1, 0), Vec::new(), &Live::default());
        invalid.event.errors.push(".sai.json:1:1: expected {".to_string());
        assert_eq!(invalid.standing(), Standing::Invalid);
    }

    #[test]
    fn an_event_took_as_long_as_something_of_it_was_under_way() {
        const HOUR: u64 = 3_600_000;
        let mut jobs = [
            job(1000, "linux", "a", JobState::Passed),
            job(1001, "linux", "b", JobState::Passed),
            job(1002, "linux", "c", JobState::Queued),
        ];
        let at = jobs[0].queued_at;
        jobs[1].ended_at = Some(at + 70_000);
        let took = |jobs: &[JobRecord], now| EventView::new(event(1, 3), jobs.to_vec(), &Live::default()).took(now);
        assert_eq!(took(&jobs[..2], u64::MAX), Some(70_000), "the two overlap");
        // The second is built again after three days, and ran for a minute then.
        (jobs[1].queued_at, jobs[1].ended_at) = (at + 72 * HOUR, Some(at + 72 * HOUR + 60_000));
        assert_eq!(took(&jobs[..2], u64::MAX), Some(64_000 + 60_000));
        assert_eq!(took(&jobs[2..], at + 5000), Some(5000));
        assert_eq!(took(&[], at), None);
    }

    #[test]
    fn the_record_speaks_of_the_attempt_that_is_under_way_to_come_or_was_last() {
        let mut again = job(1, "linux", "default", JobState::Failed);
        assert_eq!(coming_attempt(&again), 1);
        (again.state, again.queued_at, again.ended_at) = (JobState::Queued, again.queued_at + 100_000, None);
        assert_eq!((coming_attempt(&again), job_took(&again, u64::MAX)), (2, None));
        // Cancelled in the queue: that was the second attempt, and it took no time.
        (again.state, again.ended_at) = (JobState::Cancelled, Some(again.queued_at + 9));
        assert_eq!((coming_attempt(&again), job_took(&again, u64::MAX)), (2, None));
        assert_eq!(coming_attempt(&job(1, "linux", "default", JobState::Queued)), 1);
        assert_eq!(coming_attempt(&job(1, "linux", "default", JobState::Expired)), 1);
    }

    #[test]
    fn a_queued_job_has_no_duration_even_after_an_earlier_attempt() {
        let mut waiting = job(1, "linux", "default", JobState::Running);
        assert_eq!(job_took(&waiting, waiting.queued_at + 5000), Some(3000));
        waiting.state = JobState::Queued;
        assert_eq!(job_took(&waiting, waiting.queued_at + 5000), None);
        assert_eq!(job_took(&job(1, "linux", "default", JobState::Passed), u64::MAX), Some(62_000));
    }

    #[test]
    fn refs_are_told_apart() {
        assert_eq!(reference_name("refs/heads/a/b"), ("branch", "a/b"));
        assert_eq!(reference_name("refs/tags/v1"), ("tag", "v1"));
        assert_eq!(reference_name("refs/notes/x"), ("ref", "refs/notes/x"));
    }
}
