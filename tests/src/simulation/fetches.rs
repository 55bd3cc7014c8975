//! Files that attempts need → tries to fetch them, as the shipped machine has them, from a master that is away at times and a
//! network that is cut.

use super::{Bug, Event, Outcome, World};
use sai_core::fetching::{Failure, Fetching, Input, LONGEST_PAUSE_MS, Output, UNKNOWN_MS};
use sai_core::job::{JobKey, JobState};
use sai_core::limits::Millis;
use std::collections::{BTreeMap, VecDeque};

/// Tries of a thousand that are cut off while there is trouble.
const FAILING: u64 = 200;
/// Answers of a thousand that say that a file is gone while there is trouble.
const GONE: u64 = 5;
/// Milliseconds by which a try may be late.
const LAG_MS: Millis = 1_000;

/// A file that is on its way to an agent.
#[derive(Debug)]
struct Fetch {
    machine: Fetching,
    /// Pieces that are still to come.
    left: u64,
    /// Since when there was no more of it.
    since: Millis,
    /// When a try ended without it, if none has begun since.
    failed_at: Option<Millis>,
    tick: Option<Millis>,
}

/// The files that are on their way to an agent, one at a time.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    of: BTreeMap<JobKey, Fetch>,
    /// Those that have been asked to be asked for, the first of which is, if `busy`.
    turn: VecDeque<JobKey>,
    busy: bool,
}

impl World {
    /// An attempt's supervisor wants its files, if its agent lives.
    pub(super) fn want_files(&mut self, host: usize, key: JobKey) -> Outcome {
        let here = &self.hosts[host];
        if here.session.is_none() || here.fetches.of.contains_key(&key) {
            return Ok(());
        }
        let fetch = Fetch {
            machine: Fetching::new(self.random.chance(100)),
            left: self.random.between(1, 5),
            since: self.now,
            failed_at: None,
            tick: None,
        };
        self.hosts[host].fetches.of.insert(key, fetch);
        self.fetching(host, key, Input::Begin)
    }

    fn fetching(&mut self, host: usize, key: JobKey, input: Input) -> Outcome {
        let now = self.now;
        let Some(fetch) = self.hosts[host].fetches.of.get_mut(&key) else { return Ok(()) };
        let gone = input == Input::Failed(Failure::Gone);
        match input {
            Input::More => fetch.since = now,
            Input::Failed(_) => fetch.failed_at = Some(now),
            _ => {}
        }
        let mut out = Vec::new();
        fetch.machine.handle(now, input, &mut out);
        let (since, due) = (fetch.since, fetch.machine.deadline());
        for output in out {
            match output {
                Output::Ask { .. } => {
                    if let Some(fetch) = self.hosts[host].fetches.of.get_mut(&key) {
                        fetch.failed_at = None;
                    }
                    self.hosts[host].fetches.turn.push_back(key);
                    self.next_fetch(host)?;
                }
                Output::Tell => {}
                Output::GiveUp { in_vain } => {
                    if !gone && (in_vain < UNKNOWN_MS || now - since < UNKNOWN_MS) {
                        let seen = format!("{key}: given up {} ms after there was more of it", now - since);
                        return self.broken("files of needs", seen);
                    }
                    return self.fetched(host, key, Err("it is not to be had".to_string()));
                }
                Output::Bug(what) => return self.contradicted(what),
            }
        }
        let due = due.filter(|_| self.bug != Some(Bug::FetchNeverRepeated));
        if let Some(fetch) = self.hosts[host].fetches.of.get_mut(&key)
            && fetch.tick != due
        {
            fetch.tick = due;
            let boot = self.hosts[host].boot;
            due.into_iter().for_each(|due| self.at(due, Event::FetchTick(host, boot, key)));
        }
        Ok(())
    }

    pub(super) fn fetch_tick(&mut self, host: usize, boot: u64, key: JobKey) -> Outcome {
        let now = self.now;
        let fetch = self.hosts[host].fetches.of.get_mut(&key);
        let Some(fetch) = fetch.filter(|fetch| fetch.tick.is_some_and(|due| due <= now)) else { return Ok(()) };
        fetch.tick = None;
        if boot == self.hosts[host].boot { self.fetching(host, key, Input::Tick) } else { Ok(()) }
    }

    /// The next in turn is asked for.
    fn next_fetch(&mut self, host: usize) -> Outcome {
        let fetches = &mut self.hosts[host].fetches;
        let Some(key) = fetches.turn.front().copied().filter(|_| !fetches.busy) else { return Ok(()) };
        fetches.busy = true;
        self.fetching(host, key, Input::Asked)?;
        self.try_again(host, key);
        Ok(())
    }

    fn try_again(&mut self, host: usize, key: JobKey) {
        let wait = self.random.between(1, 400);
        let boot = self.hosts[host].boot;
        self.after(wait, Event::Fetch(host, boot, key));
    }

    /// What comes of asking the master, as things are by now.
    pub(super) fn fetch(&mut self, host: usize, boot: u64, key: JobKey) -> Outcome {
        if boot != self.hosts[host].boot {
            return Ok(());
        }
        let supervisor = self.hosts[host].directories.get(&key).and_then(|directory| directory.supervisor.as_ref());
        if !supervisor.is_some_and(|supervisor| supervisor.wants_files()) {
            // Its attempt has ended meanwhile.
            self.hosts[host].fetches.of.remove(&key);
            return self.pass_turn(host);
        }
        let trouble = self.calm.is_none();
        let failure = if self.master.hub.is_none() || (trouble && self.random.chance(FAILING)) {
            Some(Failure::Later)
        } else if !self.is_promised(host, key) {
            Some(Failure::of_status(404))
        } else if trouble && self.random.chance(GONE) {
            Some(Failure::of_status(410))
        } else {
            None
        };
        if let Some(failure) = failure {
            self.summary.failed_fetches += 1;
            self.fetching(host, key, Input::Failed(failure))?;
            return self.pass_turn(host);
        }
        let left = self.hosts[host].fetches.of.get_mut(&key).map_or(0, |fetch| {
            fetch.left = fetch.left.saturating_sub(1);
            fetch.left
        });
        self.fetching(host, key, Input::More)?;
        if left > 0 {
            self.try_again(host, key);
            return Ok(());
        }
        self.summary.fetched += 1;
        self.fetched(host, key, Ok(()))?;
        self.pass_turn(host)
    }

    /// Whether the master's records say that this machine's agent holds the attempt.
    fn is_promised(&self, host: usize, key: JobKey) -> bool {
        self.master.latest.jobs.get(&key.job).is_some_and(|job| {
            let held = matches!(job.state, JobState::Assigned | JobState::Running) && job.attempt == key.attempt;
            held && job.agent.as_ref() == Some(&self.hosts[host].name)
        })
    }

    fn pass_turn(&mut self, host: usize) -> Outcome {
        let fetches = &mut self.hosts[host].fetches;
        fetches.turn.pop_front();
        fetches.busy = false;
        self.next_fetch(host)
    }

    /// A supervisor hears what came of its files.
    fn fetched(&mut self, host: usize, key: JobKey, got: Result<(), String>) -> Outcome {
        self.hosts[host].fetches.of.remove(&key);
        let now = self.now;
        let directory = self.hosts[host].directories.get_mut(&key);
        if let Some(supervisor) = directory.and_then(|directory| directory.supervisor.as_mut()) {
            supervisor.fetched(&mut self.random, now, got);
        }
        Ok(())
    }

    /// What could not be had is asked for again before long.
    pub(super) fn check_fetches(&self) -> Outcome {
        for host in &self.hosts {
            let late = |fetch: &Fetch| fetch.failed_at.filter(|at| self.now - at > LONGEST_PAUSE_MS + LAG_MS);
            if let Some((key, at)) = host.fetches.of.iter().find_map(|(key, fetch)| Some((key, late(fetch)?))) {
                let ago = self.now - at;
                return self.broken("files of needs", format!("{key}: a try failed {ago} ms ago, and none followed"));
            }
        }
        Ok(())
    }
}
