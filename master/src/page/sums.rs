//! Jobs of a large event → what the list of events says of it, kept until one of them changes.
//!
//! Reading ten thousand records takes longer than a page may, so what was read is kept: of an event under way a few bytes
//! for each job, which are read anew job by job as they change, and of one that has ended its sum alone.

use super::archive::Archive;
use super::standing::STATES;
use crate::live::Changes;
use sai_core::job::{JobId, JobState};
use sai_core::ledger::{EventRecord, JobRecord};
use sai_core::ordered::{Map, Set};
use std::sync::{Arc, Mutex, PoisonError};

/// Jobs from which on an event is summed up; up to it each has its cell. It is also how many jobs one page lists: what
/// changes of an event of so many still is sent as some 30 KB, and is drawn within a few frames.
pub const SUMMED_JOBS: u32 = 300;

/// Platforms, and configurations, of an event that are told of at most: more are no longer looked through.
const GROUPS: usize = 100;

/// Jobs that went wrong which are named of an event; more of them means that one cause is behind them.
pub const WRONG_JOBS: usize = 25;

/// Jobs of events under way that are remembered at most, some 20 MB: two pages of the largest events.
const CELLS: usize = 400_000;

/// Ended events whose sums are remembered at most, some kilobytes each.
const SHEETS: usize = 200;

/// How many jobs are in each state: in the order of [`STATES`], zeros left out.
pub type Counts = Vec<(JobState, usize)>;

/// What is said of an event as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many jobs it has.
    pub jobs: usize,
    /// All of them.
    pub counts: Counts,
    /// Those of each platform.
    pub platforms: Groups,
    /// Those of each configuration.
    pub configurations: Groups,
    /// The first of those that went wrong.
    pub wrong: Vec<JobId>,
    /// From when to when any of its jobs was queued or under way, in order and apart from each other; `u64::MAX` is now.
    pub spans: Vec<(u64, u64)>,
}

/// Jobs that have a platform or a configuration in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its place in the matrix, from 0: the same for as long as there is the event.
    pub at: usize,
    /// What they have in common.
    pub name: String,
    /// How they stand.
    pub counts: Counts,
}

/// All platforms, or all configurations, of an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Those to be told of: those with jobs that went wrong come first, else in the order of the matrix.
    pub shown: Vec<Group>,
    /// How many there are.
    pub total: usize,
}

impl Groups {
    fn of(names: &[String], members: impl Iterator<Item = (u32, JobState)>) -> Self {
        let mut states: Vec<Vec<JobState>> = vec![Vec::new(); names.len()];
        for (at, state) in members {
            if let Some(states) = states.get_mut(at as usize) {
                states.push(state);
            }
        }
        let (bad, good): (Vec<_>, Vec<_>) =
            states.into_iter().enumerate().partition(|(_, states)| states.iter().any(|state| state.went_wrong()));
        let shown = bad
            .into_iter()
            .chain(good)
            .take(GROUPS)
            .filter_map(|(at, states)| Some(Group { at, name: names.get(at)?.clone(), counts: counts(states) }));
        Self { shown: shown.collect(), total: names.len() }
    }
}

/// Times from when to when jobs were queued or under way → the same without what they have in common.
pub fn union(mut spans: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    spans.sort_unstable();
    let mut apart: Vec<(u64, u64)> = Vec::new();
    for (from, to) in spans {
        match apart.last_mut() {
            Some((_, until)) if from <= *until => *until = to.max(*until),
            _ => apart.push((from, to)),
        }
    }
    apart
}

/// From when to when a job is, or was, queued or under way.
pub fn span(job: &JobRecord) -> (u64, u64) {
    (job.queued_at, job.ended_at.filter(|_| job.state.ended()).unwrap_or(u64::MAX))
}

/// Counts of states in the order in which they are shown.
pub fn counts(states: impl IntoIterator<Item = JobState>) -> Counts {
    let mut counts: Map<JobState, usize> = Map::new();
    for state in states {
        *counts.get_or_default(state) += 1;
    }
    let mut all: Counts = STATES.into_iter().filter_map(|state| Some((state, *counts.get(&state)?))).collect();
    // Of which a later version may know more; each is a word of its own.
    all.extend(
        counts.iter().filter(|(state, _)| matches!(state, JobState::Other(_))).map(|(state, count)| (*state, *count)),
    );
    all
}

/// What is remembered of one job.
#[derive(Clone, Copy)]
struct Cell {
    id: JobId,
    /// Index of its platform.
    platform: u32,
    /// Index of its configuration.
    configuration: u32,
    state: JobState,
    span: (u64, u64),
}

/// Names, each once, and the index of each.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    numbers: Map<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.to_string());
        self.numbers.insert(name.to_string(), number);
        number
    }
}

/// What is remembered of an event.
#[derive(Default)]
struct Sheet {
    first_job: JobId,
    end_job: JobId,
    /// Empty when it has ended: then it is read as a whole if it changes.
    cells: Vec<Cell>,
    platforms: Vec<String>,
    configurations: Vec<String>,
    /// Jobs that have changed since they were read.
    stale: Set<JobId>,
    sum: Arc<Sum>,
    /// When it was asked for last, in askings.
    asked: u64,
}

impl Sheet {
    fn read(archive: &dyn Archive, event: &EventRecord) -> Self {
        let mut sheet = Self { first_job: event.first_job, ..Self::default() };
        sheet.end_job = event.first_job.saturating_add(u64::from(event.jobs));
        let (mut platforms, mut configurations, mut whole) = (Names::default(), Names::default(), true);
        for job in archive.jobs(event.id) {
            whole &= job.id == event.first_job + sheet.cells.len() as u64;
            sheet.cells.push(Cell {
                id: job.id,
                platform: platforms.number(&job.platform),
                configuration: configurations.number(&job.configuration),
                state: job.standing(),
                span: span(&job),
            });
        }
        (sheet.platforms, sheet.configurations) = (platforms.names, configurations.names);
        sheet.add_up();
        if !whole {
            // A record is lost, so that places say nothing of numbers.
            sheet.cells = Vec::new();
        }
        sheet
    }

    /// Reads what has changed; gives up (`false`) where only a whole reading helps.
    fn read_stale(&mut self, archive: &dyn Archive) -> bool {
        if self.stale.is_empty() {
            return true;
        }
        for id in std::mem::take(&mut self.stale).iter() {
            let at = usize::try_from(id - self.first_job).unwrap_or(usize::MAX);
            let (Some(cell), Some(job)) = (self.cells.get_mut(at), archive.job(*id)) else { return false };
            (cell.state, cell.span) = (job.standing(), span(&job));
        }
        self.add_up();
        true
    }

    fn add_up(&mut self) {
        let cells = &self.cells;
        let wrong = cells.iter().filter(|cell| cell.state.went_wrong()).map(|cell| cell.id);
        self.sum = Arc::new(Sum {
            jobs: cells.len(),
            counts: counts(cells.iter().map(|cell| cell.state)),
            platforms: Groups::of(&self.platforms, cells.iter().map(|cell| (cell.platform, cell.state))),
            configurations: Groups::of(&self.configurations, cells.iter().map(|cell| (cell.configuration, cell.state))),
            wrong: wrong.take(WRONG_JOBS).collect(),
            spans: union(cells.iter().map(|cell| cell.span).collect()),
        });
        if self.cells.iter().all(|cell| cell.state.ended()) {
            // It changes no more, unless it is built again, and then as a whole.
            self.cells = Vec::new();
            (self.platforms, self.configurations) = (Vec::new(), Vec::new());
        }
    }
}

/// Sums of the large events that were asked for lately.
#[derive(Default)]
pub struct Sums {
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    sheets: Map<u64, Sheet>,
    askings: u64,
}

impl Sums {
    /// The sum of an event as it is now.
    pub fn of(&self, archive: &dyn Archive, changes: &Changes, event: &EventRecord) -> Arc<Sum> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.askings += 1;
        let asked = held.askings;
        // What changes from here on is stale again.
        match changes.take_jobs() {
            None => held.sheets.clear(),
            Some(changed) => {
                for sheet in held.sheets.values_mut() {
                    sheet.stale.extend(changed.range(sheet.first_job..sheet.end_job).copied());
                }
            }
        }
        let sheet = held.sheets.get_or_insert_with(event.id, || Sheet::read(archive, event));
        if !sheet.read_stale(archive) {
            *sheet = Sheet::read(archive, event);
        }
        sheet.asked = asked;
        let sum = sheet.sum.clone();
        held.forget();
        sum
    }
}

impl Held {
    /// Forgets what was not asked for the longest, while there is too much.
    fn forget(&mut self) {
        while self.sheets.len() > SHEETS || self.sheets.values().map(|sheet| sheet.cells.len()).sum::<usize>() > CELLS {
            let oldest = self.sheets.iter().min_by_key(|(_, sheet)| sheet.asked).map(|(id, _)| *id);
            match oldest {
                Some(id) if self.sheets.len() > 1 => _ = self.sheets.remove(&id),
                _ => return,
            }
        }
    }
}
