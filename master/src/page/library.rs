//! Archive and live state → views: everything the pages, the API and the viewers read goes through here.

use super::archive::Archive;
use super::board::{self, BoardView};
use super::filter::Filter;
use super::first_error::{Finder, FirstError, Remembered};
use super::first_steps::FirstSteps;
use super::history::{self, HistoryView, Run};
use super::log::{LogPage, Wanted, past, read};
use super::log_lines::lines;
use super::narrow::Narrow;
use super::route::Action;
use super::search::SEARCHED_BYTES;
use super::sums::{SUMMED_JOBS, Sums};
use super::test_cases::{self, Cases, RememberedCases};
use super::views::{AgentView, AgentsView, EventView, EventsView, JobView, Past, Visitor, reference_name};
use super::waveform;
use super::whole::Whole;
use crate::action::Done;
use crate::live::{Changes, Live, YOUNG};
use crate::prefix::Prefix;
use crate::rooms::Rooms;
use crate::sessions::Sessions;
use sai_core::job::{EventId, JobId, JobKey, JobState, Outcome};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::ordered::{Map, Set};
use sai_core::platform;
use sai_core::record::Artifact;
use sai_core::requests::{coming_attempt, may_hear};
use sai_core::roles::Deed;
use std::io::{self, Read};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};

/// Events on one page.
pub const EVENTS: usize = 20;

/// Events that are read at once while some are looked for.
const LOOKED_AT_ONCE: usize = 256;

/// Events that one page is looked for in, a tenth of a second; the next page goes on from there.
const LOOKED_AT: usize = 20_000;

/// Jobs that are read for one page, likewise.
const JOBS_READ: u32 = 20_000;

/// Finding the jobs of one event costs as much as reading so many: some 25 µs, and 3 µs for each.
const JOBS_FOUND: u32 = 7;

/// Earlier jobs whose test cases are looked at.
const BEFORE: usize = 30;

/// Bytes that may be read for those, half of what one answer may take; those that were looked at lately cost nothing.
const BEFORE_BYTES: u64 = 8 << 20;

/// Earlier events of a repository among which the one before of the same ref is looked for.
const COMPARED: usize = 200;

/// What people did lately, on the page of agents.
const ACTIONS: usize = 20;

/// Does what people ask for; the second argument is who asks. Gives a sentence, or why it cannot be done.
pub type Act = Box<dyn Fn(Action, String) -> Result<Done, String> + Send + Sync>;

/// Everything the pages need.
pub struct Library {
    /// What is kept.
    pub archive: Box<dyn Archive>,
    /// What is known now.
    pub live: Arc<RwLock<Live>>,
    /// Who must hear of changes.
    pub changes: Arc<Changes>,
    /// Who is signed in.
    pub sessions: Sessions,
    /// What is before all addresses as others see them.
    pub prefix: Prefix,
    /// What the list of events says of large ones.
    pub sums: Sums,
    /// Where those who look at the same are told of it together.
    pub rooms: Arc<Rooms>,
    /// Does what people ask for.
    pub act: Act,
    /// Whether everybody may read; else only the signed-in.
    pub public: bool,
    /// What went wrong in logs that were looked at.
    pub first_errors: Remembered,
    /// Test cases of attempts that were looked at.
    pub known_cases: RememberedCases,
}

/// Unix milliseconds now.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Library {
    /// What is live. The hub holds the lock for moments only, and nobody may hold it while reading a file.
    pub fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How far it has come, as long as anything of it is to be done.
    pub fn first_steps(&self) -> Option<FirstSteps> {
        self.young().filter(|steps| !(steps.people && steps.agents && steps.pushed))
    }

    /// How far it has come, as long as that is of interest: a page that shows it is told of the last step, too.
    pub fn young(&self) -> Option<FirstSteps> {
        let events = self.archive.events(None, None, YOUNG).len();
        let people = self.archive.users().iter().any(|user| !user.revoked);
        let live = self.live();
        let agents = live.agents.values().any(|agent| agent.connected);
        let repository = live.repositories.first().map(|repository| repository.name.clone());
        let steps = FirstSteps { url: live.url.clone(), repository, people, agents, pushed: events > 0 };
        (events < YOUNG).then_some(steps)
    }

    /// Somebody who looks, now.
    pub fn visitor(&self, who: Option<String>) -> Visitor {
        let live = self.live();
        let notices = live.all_notices();
        let (boards, units) = (!live.boards.is_empty(), !live.unit_table.is_empty());
        let of = |who: &String| self.archive.users().into_iter().find(|user| user.name == *who && !user.revoked);
        let powers = who.as_ref().and_then(of).and_then(|user| user.powers);
        Visitor { who, powers, now: now(), notices, units, boards, ..Visitor::default() }
    }

    fn view(&self, event: EventRecord) -> EventView {
        let jobs = self.archive.jobs(event.id);
        EventView::new(event, jobs, &self.live())
    }

    /// An event as the list shows it: one with many jobs is summed up.
    pub fn listed(&self, event: EventRecord) -> EventView {
        if event.jobs > SUMMED_JOBS {
            let sum = self.sums.of(&*self.archive, &self.changes, &event);
            EventView::summed(event, sum, &self.live())
        } else {
            self.view(event)
        }
    }

    /// A page of the list of events.
    pub fn events(&self, before: Option<EventId>, filter: Filter, limit: usize) -> EventsView {
        let mut view = EventsView { before, repositories: self.live().repositories.clone(), ..EventsView::default() };
        // One more than is shown tells whether there is one.
        let piece = if filter.is_narrow() { LOOKED_AT_ONCE } else { limit + 1 };
        view.next = self.look_through(before, &filter, piece, |event| {
            let listed = self.listed(event);
            let mut read = 0;
            if filter.is_of_jobs() {
                read = listed.event.jobs;
                let summed = listed.sum.is_some().then(|| self.archive.jobs(listed.event.id));
                if !filter.takes_jobs(listed.standing(), summed.as_ref().unwrap_or(&listed.jobs)) {
                    return (read, false);
                }
            }
            view.events.push(listed);
            (read, view.events.len() >= limit)
        });
        view.steps = if before.is_none() && filter == Filter::default() { self.first_steps() } else { None };
        view.filter = filter;
        view
    }

    /// Whether a job waits for a platform that no agent offers which is let in.
    pub fn is_unserved(&self, view: &JobView) -> bool {
        let offers = |platforms: &[String]| platforms.iter().any(|name| platform::serves(name, &view.job.platform));
        view.waiting.is_some()
            && view.job.board.is_none()
            && !self.live().agents.values().any(|agent| offers(&agent.platforms))
            && !self.archive.agents().iter().any(|agent| !agent.revoked && offers(&agent.platforms))
    }

    /// The jobs of one configuration on one platform, newest first, of events older than `before`.
    pub fn history(&self, before: Option<EventId>, filter: Filter) -> HistoryView {
        let forge = filter.repository.as_ref().and_then(|repository| self.live().forge(repository));
        let mut view = HistoryView { forge, ..HistoryView::default() };
        let is = |name: &str, wanted: &Option<String>| wanted.as_deref() == Some(name);
        let same =
            |job: &JobRecord| (is(&job.configuration, &filter.configuration), is(&job.platform, &filter.platform));
        view.next = self.look_through(before, &filter, LOOKED_AT_ONCE, |event| {
            let read = event.jobs;
            let jobs = self.archive.jobs(event.id);
            if let Some(job) = jobs.iter().find(|job| same(job) == (true, true)).cloned() {
                if view.runs.is_empty() {
                    let beside = |job: &JobRecord| matches!(same(job), (true, false) | (false, true));
                    view.neighbours = jobs.into_iter().filter(beside).collect();
                }
                view.runs.push(Run { event, job });
            }
            (read, view.runs.len() >= history::RUNS)
        });
        view.filter = filter;
        view
    }

    /// A board and who was there, at least so many, of events older than `before`; none if nobody knows of one.
    pub fn board(&self, agent: &str, board: &str, before: Option<EventId>, limit: usize) -> Option<BoardView> {
        let row = self.live().boards.iter().find(|row| row.agent == agent && row.offered.name == board).cloned();
        let mut stays = Vec::new();
        let next = self.look_through(before, &Filter::default(), LOOKED_AT_ONCE, |event| {
            // Of an event the job that was queued last comes first, as of all the newest event does.
            for job in self.archive.jobs(event.id).iter().rev() {
                stays.extend(board::stays(job, agent, board));
            }
            (event.jobs, stays.len() >= limit)
        });
        let known = row.is_some() || before.is_some() || !stays.is_empty() || next.is_some();
        known.then(|| BoardView { name: (agent.to_string(), board.to_string()), row, stays, next })
    }

    /// Hands out the events older than `before` that the filter takes, newest first and read `piece` at a time, until there
    /// are enough or as many were looked at as one answer may cost. `take` says how many jobs it read, and whether it has
    /// enough. Gives the event before which the next answer goes on, if there is one.
    fn look_through(
        &self,
        before: Option<EventId>,
        filter: &Filter,
        piece: usize,
        mut take: impl FnMut(EventRecord) -> (u32, bool),
    ) -> Option<EventId> {
        let (mut below, mut looked_at, mut jobs_read, mut enough) = (before, 0, 0, false);
        loop {
            let events = self.archive.events(below, filter.repository.as_deref(), piece);
            let last = events.len() < piece;
            for event in events {
                if enough || looked_at >= LOOKED_AT || jobs_read >= JOBS_READ {
                    return below;
                }
                looked_at += 1;
                below = Some(event.id);
                if filter.takes(&event) {
                    let (read, has_enough) = take(event);
                    jobs_read += if read > 0 { read.saturating_add(JOBS_FOUND) } else { 0 };
                    enough = has_enough;
                }
            }
            if last {
                return None;
            }
        }
    }

    /// One event.
    pub fn event(&self, id: EventId) -> Option<EventView> {
        let mut view = self.view(self.archive.event(id)?);
        view.previous = self.previous(&view);
        Some(view)
    }

    /// What an event's ref named before, where the two can be compared at the forge.
    fn previous(&self, view: &EventView) -> Option<String> {
        let (event, _) = (&view.event, view.forge.as_ref()?);
        let earlier = self.archive.events(Some(event.id), Some(&event.repository), COMPARED);
        let earlier = earlier.into_iter().find(|earlier| earlier.reference == event.reference)?;
        Some(earlier.revision).filter(|revision| *revision != event.revision)
    }

    /// One event as its page shows it: of many jobs those that are chosen, up to as many as one page lists; those that went
    /// wrong if none are.
    pub fn event_page(&self, id: EventId, narrow: Narrow) -> Option<EventView> {
        let event = self.archive.event(id)?;
        if event.jobs <= SUMMED_JOBS && narrow.is_empty() {
            return self.event(id);
        }
        let sum = self.sums.of(&*self.archive, &self.changes, &event);
        let mut jobs = if narrow.is_empty() {
            sum.wrong.iter().filter_map(|id| self.archive.job(*id)).collect()
        } else {
            let mut jobs = self.archive.jobs(id);
            jobs.retain(|job| narrow.takes(job));
            jobs
        };
        let more = jobs.get(SUMMED_JOBS as usize).map(|job| job.id);
        jobs.truncate(SUMMED_JOBS as usize);
        let mut view = EventView { sum: Some(sum), narrow, more, ..EventView::new(event, jobs, &self.live()) };
        view.previous = self.previous(&view);
        Some(view)
    }

    /// One attempt of a job; the current one if none is given, or the one to come while it is queued.
    pub fn job(&self, id: JobId, attempt: Option<u32>) -> Option<JobView> {
        let job = self.archive.job(id)?;
        let coming = coming_attempt(&job);
        let attempt = attempt.unwrap_or(coming);
        if attempt > coming {
            return None;
        }
        let (waiting, forge) = {
            let live = self.live();
            (live.waiting.get(&id).cloned(), live.forge(&job.repository))
        };
        let event = self.archive.event(job.event);
        Some(JobView { event, attempt, waiting, past: None, tests: None, job, forge, needed: false, unserved: false })
    }

    /// Whether somebody may hear what happens in a job. In one that there is not, nothing does.
    pub fn hears(&self, visitor: &Visitor, id: JobId) -> bool {
        let administers = visitor.may(Deed::Administer, None);
        self.archive.job(id).is_none_or(|job| may_hear(&job, visitor.who.as_deref(), administers))
    }

    /// Whether other jobs of its event need a job.
    pub fn is_needed(&self, job: &JobRecord) -> bool {
        let needs = |other: &JobRecord| other.needs.iter().flatten().any(|needed| needed.job == job.id);
        self.archive.jobs(job.event).iter().any(needs)
    }

    /// Adds what only the log of an earlier attempt tells of it.
    pub fn with_past(&self, mut view: JobView) -> JobView {
        if !view.current() {
            // Without a log nothing is known of it but that it was.
            let told = self.archive.log(view.key()).and_then(|mut log| past(&mut log.reader)).unwrap_or_default();
            view.past = Some(self.complete(view.key(), told));
        }
        view
    }

    /// The test cases of an attempt that has ended.
    pub fn cases(&self, view: &JobView) -> Arc<Cases> {
        let log = self.archive.log(view.key());
        if view.live() || log.is_err() && view.artifacts().is_empty() {
            return Arc::default();
        }
        let length = log.as_ref().map_or(0, |log| log.length);
        let key = view.key();
        let open = |artifact: &Artifact| -> io::Result<Box<dyn Read>> {
            Ok(Box::new(Whole::new(self.archive.artifact(key, artifact.stream)?, artifact)?))
        };
        self.known_cases.get(key, length, || test_cases::read(view.artifacts(), open, || Ok(log?.reader)))
    }

    /// The same of the jobs before: of the same configuration, platform and branch, newest first, as many as can be read
    /// in a moment.
    pub fn cases_before(&self, view: &JobView) -> Vec<(Run, Arc<Cases>)> {
        let Some(event) = &view.event else { return Vec::new() };
        let filter = Filter {
            repository: Some(event.repository.clone()),
            branch: Some(reference_name(&event.reference).1.to_string()),
            configuration: Some(view.job.configuration.clone()),
            platform: Some(view.job.platform.clone()),
            ..Filter::default()
        };
        let mut left = BEFORE_BYTES;
        let mut all = Vec::new();
        for run in self.history(Some(event.id), filter).runs.into_iter().take(BEFORE) {
            let Some(view) = self.job(run.job.id, Some(run.job.attempt)).filter(|view| !view.live()) else { continue };
            let known = self.known_cases.has(view.key());
            let cost = if known { 0 } else { test_cases::cost(view.artifacts(), view.job.log_bytes) };
            let Some(rest) = left.checked_sub(cost) else { break };
            left = rest;
            all.push((run, self.cases(&view)));
        }
        all
    }

    /// The waveform of an attempt, if its log has lines of a board.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn wave(&self, key: JobKey, asked: waveform::Asked) -> io::Result<Option<waveform::Wave>> {
        match waveform::read(|| Ok(self.archive.log(key)?.reader), asked) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read,
        }
    }

    /// What went wrong first in an attempt that failed.
    pub fn first_error(&self, view: &JobView) -> Option<FirstError> {
        // Of an earlier attempt only its log tells that it failed, and where.
        let verdict = if view.current() { view.job.verdict.clone() } else { None };
        if view.current() && view.job.state != JobState::Failed {
            return None;
        }
        let log = self.archive.log(view.key()).ok()?;
        self.first_errors.get(view.key(), log.length, || {
            let verdict = match verdict {
                Some(verdict) => verdict,
                None => past(&mut *self.archive.log(view.key()).ok()?.reader).ok()?.verdict?,
            };
            if verdict.outcome != Outcome::Failed {
                return None;
            }
            let mut finder = Finder::new(verdict.step);
            let mut reader = log.reader;
            lines(&mut *reader, SEARCHED_BYTES, |line| {
                finder.line(&line);
                true
            })
            .ok()?;
            finder.finish()
        })
    }

    /// Leaves of the announced files those that are there as announced, the last of each path.
    pub fn complete(&self, key: JobKey, mut past: Past) -> Past {
        let announced = std::mem::take(&mut past.artifacts);
        for artifact in announced {
            let length = self.archive.artifact(key, artifact.stream).and_then(|file| file.metadata());
            if length.is_ok_and(|length| length.len() == artifact.size) {
                past.artifacts.retain(|earlier| earlier.path != artifact.path);
                past.artifacts.push(artifact);
            }
        }
        past
    }

    /// What a page shows of an attempt's log; nothing if there is none yet.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn log(&self, key: JobKey, wanted: Wanted) -> io::Result<LogPage> {
        match read(|| Ok(self.archive.log(key)?.reader), wanted) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LogPage::default()),
            result => result,
        }
    }

    /// The agents, those on record and those that are live: first those that are connected, by name.
    pub fn agents(&self, with_actions: bool) -> AgentsView {
        let records = self.archive.agents().into_iter();
        let mut records = Map::from_iter(records.map(|record| (record.name.clone(), record)));
        let (mut live, repositories, rows) = {
            let live = self.live();
            let mut repositories = live.repositories.clone();
            for repository in &mut repositories {
                if let Some(trouble) = live.troubles.get(&repository.name) {
                    repository.state = format!("{}; its jobs {trouble}", repository.state);
                }
            }
            (live.agents.clone(), repositories, live.boards.clone())
        };
        let names = Set::from_iter(records.keys().chain(live.keys()).cloned());
        let agents = names.into_iter().map(|name| {
            let live = live.remove(&name);
            let keys = live.as_ref().map(|live| live.running.as_slice()).unwrap_or_default();
            let jobs = keys.iter().filter_map(|key| self.archive.job(key.job)).collect();
            let boards = rows.iter().filter(|row| row.agent == name);
            let boards = boards.map(|row| (row.offered.name.clone(), row.state())).collect();
            AgentView { record: records.remove(&name), live, jobs, boards, name }
        });
        let (mut agents, away): (Vec<AgentView>, Vec<AgentView>) = agents.partition(AgentView::connected);
        agents.extend(away);
        let actions = if with_actions { self.archive.actions(None, ACTIONS) } else { Vec::new() };
        AgentsView { agents, repositories, actions }
    }
}
