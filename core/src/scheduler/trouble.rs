//! Attempts that ended through trouble → what is counted against whom, and who gets no job for a while because of it.
//!
//! Trouble is counted where its cause is, so that nobody else is kept from working by it: a remote that is away against
//! the repository, everything else against one platform of one agent. That an agent as a whole is broken is not to be
//! told from several of its images being so; then each of its platforms has its own row, and that is soon full. The
//! platform is the one that was offered and used, not the one that was wanted: a broken image that serves `linux` takes
//! no other image away from jobs that want just that.

use super::{Agent, DOUBLINGS, Job, Output, Policy, Scheduler};
use crate::clock::Now;
use crate::job::{Blame, Fault, JobId, JobKey, Outcome, Verdict};
use crate::limits::{Millis, PLATFORMS};
use crate::ordered::{Map, Set};
use crate::platform::{as_root, described, serves};
use crate::units::GivenBoard;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Troubles in a row after which there is a pause.
pub(super) const TROUBLES: u32 = 3;
/// Repositories whose troubles are counted at most: more than one master is configured for.
const REPOSITORIES: usize = 4096;
/// Places where a job met trouble that are remembered: more than it is tried at.
const MET: usize = 16;
/// Characters of a reason that are kept for people.
const WHY: usize = 200;

/// What a board's troubles are counted under, among those of its agent's platforms. No platform has a blank in its name.
pub(super) fn place_of(board: &str) -> String {
    format!("board {board}")
}

/// Troubles in a row, and the pause after them.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    count: u32,
    until: Millis,
    why: String,
}

impl Row {
    pub(super) fn paused(&self, now: Millis) -> bool {
        now < self.until
    }

    /// The row of a name, among at most so many: for a new one the row goes whose pause is over first.
    pub(super) fn of<'a>(rows: &'a mut Map<String, Row>, most: usize, name: &str) -> &'a mut Row {
        if rows.len() >= most && !rows.contains_key(name) {
            let oldest = rows.iter().min_by_key(|(_, row)| row.until).map(|(name, _)| name.clone());
            oldest.map(|name| rows.remove(&name));
        }
        rows.get_or_default(name.to_string())
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn add(&mut self, why: &str) {
        self.count = self.count.saturating_add(1);
        self.why = why.chars().take(WHY).collect();
    }

    /// Begins a pause if the row is long enough for one; gives its end.
    pub(super) fn pause(&mut self, now: Now, policy: &Policy) -> Option<Millis> {
        let more = self.count.checked_sub(TROUBLES)?;
        self.until = now.steady.saturating_add(policy.aside_ms << more.min(DOUBLINGS));
        Some(self.until)
    }

    /// The row in words, and how long its pause still takes.
    pub(super) fn describe(&self, now: Millis) -> Option<(String, u64)> {
        let why = if self.why.is_empty() { String::new() } else { format!(", last: {}", self.why) };
        self.paused(now)
            .then(|| (format!("had trouble {} times in a row{why}", self.count), (self.until - now).div_ceil(1000)))
    }
}

/// The attempts an agent came back with. When its power fails all of them end at once, and that is one trouble.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    keys: Set<JobKey>,
    counted: bool,
}

impl Group {
    /// The agent has greeted with these. If they are what is left of those before, they have the same history.
    pub(super) fn greet(&mut self, holds: &Set<JobKey>) {
        if holds.is_empty() || holds.iter().any(|key| !self.keys.contains(key)) {
            *self = Self { keys: holds.clone(), counted: false };
        }
    }

    /// Whether trouble with this attempt was counted already with that of another.
    fn excuses(&mut self, key: JobKey) -> bool {
        self.keys.contains(&key) && core::mem::replace(&mut self.counted, true)
    }
}

/// Where an attempt met trouble: the agent, which of its platforms, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub agent: String,
    pub platform: String,
    pub blame: Blame,
}

/// How much speaks against a platform of an agent after what a job met. If the trouble was a platform's, that platform goes
/// last, elsewhere too, since images of one name are made alike; if it was the agent's, that agent does.
pub(super) fn weight(met: &[Met], agent: &str, platform: &str) -> u32 {
    let one = |met: &Met| match (met.agent == agent, met.platform == platform, met.blame == Blame::Platform) {
        (true, true, true) => 4,
        (true, true, false) => 3,
        (true, false, false) => 2,
        (false, true, true) => 1,
        _ => 0,
    };
    met.iter().map(one).sum()
}

impl Job {
    /// The platform by whose name the troubles of its present attempt are counted: the one that it runs in, or the wanted
    /// one where its agent chose by itself.
    fn place(&self) -> String {
        match &self.record.offered {
            _ if self.record.given.is_some() => self.troubled().map(place_of).unwrap_or_default(),
            Some(offered) if self.record.root == Some(true) => as_root(offered),
            Some(offered) => offered.clone(),
            None => self.wanted.clone(),
        }
    }

    /// The board that its last attempt met trouble at: of several the one that its verdict names.
    pub(super) fn troubled(&self) -> Option<&str> {
        let given = self.record.given.as_ref()?;
        let named =
            given.names().find(|name| self.troubled_at.as_ref().and_then(|found| found.board.as_ref()) == Some(name));
        Some(named.unwrap_or(&given.name))
    }

    /// Remembers that its last attempt met trouble where it was.
    pub(super) fn meet(&mut self, agent: Option<String>, blame: Blame) {
        // A record of an older master does not say where that was.
        let Some(agent) = agent else { return };
        let met = Met { agent, platform: self.place(), blame };
        if !self.met.contains(&met) && self.met.len() < MET {
            self.met.push(met);
        }
    }
}

impl Agent {
    /// Which of its platforms a job gets here, by the name its troubles are counted under: one that had no trouble with it
    /// before the others, then the one that is wanted by its very name, then the first. None if all are paused.
    pub(super) fn place<'a>(&'a self, now: Millis, name: &str, wanted: &'a str, met: &[Met]) -> Option<&'a str> {
        let free = |platform: &&str| self.rows.get(*platform).is_none_or(|row| !row.paused(now));
        if !self.told {
            return Some(wanted).filter(free);
        }
        let serving = self.serving(wanted).filter(free);
        serving.min_by_key(|platform| (weight(met, name, platform), *platform != wanted))
    }

    fn serving(&self, wanted: &str) -> impl Iterator<Item = &str> {
        self.offer.platforms.iter().map(String::as_str).filter(move |offered| serves(offered, wanted))
    }

    /// Those that serve what is wanted and are paused, of one that is told which to use.
    pub(super) fn paused_of(&self, now: Millis, wanted: &str) -> impl Iterator<Item = &str> {
        let paused = move |platform: &&str| self.rows.get(*platform).is_some_and(|row| row.paused(now));
        self.serving(wanted).filter(move |platform| self.told && paused(platform))
    }

    /// Forgets the troubles of what is not offered any more: an image of that name is another one.
    pub(super) fn drop_rows(&mut self) {
        let Self { offer, told, rows, boards, .. } = self;
        let board = |place: &str| boards.keys().any(|name| place_of(name) == place);
        let offered = |platform: &str| match told {
            true => offer.platforms.iter().any(|offered| offered == platform),
            false => offer.platforms.iter().any(|offered| serves(offered, platform)),
        };
        rows.retain(|platform, _| offered(platform) || board(platform));
    }

    pub(super) fn row_of(&mut self, platform: &str) -> &mut Row {
        Row::of(&mut self.rows, PLATFORMS, platform)
    }
}

impl Scheduler {
    /// Somebody sets an agent aside, or takes it back.
    pub(super) fn set_aside(&mut self, agent: &str, aside: bool) {
        let known = self.agents.get_or_default(agent.to_string());
        known.aside = aside;
        if !aside {
            // Who gives it jobs again has put right what was wrong with it.
            known.rows.clear();
            if known.trust_boards() {
                self.noted.insert(agent.to_string());
            }
        }
        self.file(agent);
    }

    /// Trouble that is somebody's: counts it and ends the attempt.
    pub(super) fn broken(&mut self, now: Now, key: JobKey, blame: Blame, why: String, out: &mut Vec<Output>) {
        // Of what was given up before.
        let Some(name) = self.holder(key).map(ToString::to_string) else { return };
        if blame == Blame::Nobody {
            return self.broken_quietly(now, key, why, out);
        }
        let agents = blame != Blame::Repository;
        let excused = agents && self.agents.get_mut(&name).is_some_and(|agent| agent.group.excuses(key));
        if !excused {
            self.trouble(now, &name, key.job, blame, &why);
        } else if let Some(job) = self.jobs.get_mut(&key.job) {
            job.meet(Some(name), blame);
        }
        self.broken_quietly(now, key, why, out);
    }

    /// An agent came back without attempts that it had not begun, one of which this is: that is one trouble, and the
    /// same as that of those it did bring.
    pub(super) fn lost(&mut self, now: Now, name: &str, id: JobId, why: &str) {
        let counted = |agent: &mut Agent| core::mem::replace(&mut agent.group.counted, true);
        if !self.agents.get_mut(name).is_some_and(counted) {
            self.trouble(now, name, id, Blame::Agent, why);
        }
    }

    /// Remembers that a job met trouble at an agent, and whose it was.
    fn trouble(&mut self, now: Now, name: &str, id: JobId, blame: Blame, why: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.bugs.note("trouble: no such job") };
        if blame == Blame::Repository {
            let repository = job.record.repository.clone();
            if self.repositories.contains_key(&repository) || self.repositories.len() < REPOSITORIES {
                self.repositories.get_or_default(repository).add(why);
            }
            return;
        }
        job.meet(Some(name.to_string()), blame);
        let platform = job.place();
        let Some(agent) = self.agents.get_mut(name) else { return self.bugs.note("trouble: no such agent") };
        if job.record.health.is_some() && blame == Blame::Platform {
            // What it says of the board is told when it has ended.
            return;
        }
        if let Some(board) = job.troubled() {
            let before = agent.is_well(board);
            let ends = agent.trouble_at(now, board, &job.record.repository, why, &self.policy);
            if before && !agent.is_well(board) {
                self.noted.insert(name.to_string());
            }
            self.pauses.extend(ends);
            return;
        }
        let row = agent.row_of(&platform);
        row.add(why);
        self.pauses.extend(row.pause(now, &self.policy));
    }

    /// An attempt has ended by its own doing: if its steps ran, then nothing was in their way.
    pub(super) fn worked(&mut self, name: &str, id: JobId, verdict: &Verdict) {
        let ran = match verdict.outcome {
            Outcome::Passed => true,
            Outcome::Failed | Outcome::TimedOut => verdict.fault == Fault::Job,
            Outcome::Cancelled | Outcome::Infra | Outcome::Other(_) => false,
        };
        // What its steps never came to says nothing.
        let Some(job) = self.jobs.get(&id).filter(|job| ran && job.record.health.is_none()) else { return };
        self.repositories.remove(&job.record.repository);
        if let Some(agent) = self.agents.get_mut(name) {
            agent.rows.remove(&job.place());
            for board in job.record.given.iter().flat_map(GivenBoard::names) {
                agent.rows.remove(&place_of(board));
                agent.no_trouble_at(board, &job.record.repository);
            }
        }
    }

    /// How much later than others of its age a job is tried again, when its repository's troubles are many.
    pub(super) fn repository_wait(&self, id: JobId) -> Millis {
        let row = self.jobs.get(&id).and_then(|job| self.repositories.get(&job.record.repository));
        let more = row.and_then(|row| row.count.checked_sub(TROUBLES));
        more.map_or(0, |more| self.policy.aside_ms << more.min(DOUBLINGS))
    }

    /// Troubles in a row of a repository and the last one's reason, if there were as many as make its jobs wait.
    pub fn repository_trouble(&self, repository: &str) -> Option<String> {
        let row = self.repositories.get(repository).filter(|row| row.count >= TROUBLES)?;
        Some(format!("had trouble {} times in a row, last: {}", row.count, row.why))
    }

    /// Platforms of which an agent gets no job for a while, each with the reason, in a sentence.
    pub fn paused(&self, now: Millis, agent: &str) -> Vec<String> {
        let rows = self.agents.get(agent).into_iter().flat_map(|agent| agent.rows.iter());
        let lines = rows.filter_map(|(platform, row)| {
            let (row, seconds) = row.describe(now)?;
            Some(format!("{} {row}; no job of it for {seconds} s", described(platform)))
        });
        let boards = self.agents.get(agent).into_iter().flat_map(|agent| agent.paused_boards(now));
        lines.chain(boards).collect()
    }
}
