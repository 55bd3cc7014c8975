//! Units that are offered and wanted → who is granted how much of which, in whose turn, and when it is free again.
//!
//! A unit is what a job occupies besides a slot. Those that the master's configuration names are amounts (three licences);
//! nothing that the master decides frees one: it returns on the word of the agent that it was granted to, at the attempt's
//! own deadline with some grace if that agent stays silent, or by a person. Each grant has a number, and what an agent says
//! counts for the attempt and grant that it names alone.

use crate::clock::Now;
use crate::job::{JobId, JobKey};
use crate::limits::Millis;
use crate::ordered::Map;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use miniserde::{Deserialize, Serialize};

/// Who was served how long ago is remembered of so many pairs of a unit and somebody; of more, those of longest ago go first.
const SERVED: usize = 4096;

/// What a job wants, by the units' names in order.
pub type Wants = Vec<(String, u32)>;

/// A board as an agent offers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedBoard {
    /// Its name, unique at the agent.
    pub name: String,
    /// What it is wanted as.
    pub kind: String,
    /// What else it is known for.
    pub tags: Vec<String>,
    /// Where it is a rig: the names of its boards. It is wanted, given and free as one.
    pub boards: Option<Vec<String>>,
    /// How it is found out whether it is well; absent where that is not known, and from older agents.
    pub health: Option<OfferedHealth>,
}

/// How an agent finds out whether a board of its is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferedHealth {
    /// Seconds that this takes at most.
    pub timeout_s: u64,
    /// Seconds after which it is to be found out again; absent where that is not wanted.
    pub every_s: Option<u64>,
}

/// The board that a job wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WantedBoard {
    /// Its type.
    pub kind: String,
    /// What else it must be known for.
    pub tags: Vec<String>,
    /// Its name at the agent, where it is to be that one.
    pub name: Option<String>,
    /// Where it is a rig: of how many boards.
    pub rig: Option<u32>,
    /// The others that it wants with it, of the same agent: all of them are given in one decision, or none.
    pub others: Option<Vec<WantedBoard>>,
}

impl WantedBoard {
    /// All that is wanted, in order, each as one.
    pub fn each(&self) -> impl Iterator<Item = &Self> {
        core::iter::once(self).chain(self.others.iter().flatten())
    }

    /// How many are wanted.
    pub fn count(&self) -> usize {
        1 + self.others.as_ref().map_or(0, Vec::len)
    }

    /// Whether a board, or a rig, is one; the others are not looked at.
    pub fn is_met_by(&self, offered: &OfferedBoard) -> bool {
        let boards = offered.boards.as_ref().map(|boards| boards.len() as u32);
        let named = self.name.as_ref().is_none_or(|name| *name == offered.name);
        let known = self.tags.iter().all(|tag| offered.tags.contains(tag));
        named && self.rig == boards && self.kind == offered.kind && known
    }
}

impl fmt::Display for WantedBoard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, board) in self.each().enumerate() {
            let and = if index == 0 { "" } else { " and " };
            match (&board.name, board.rig) {
                (Some(name), _) => write!(out, "{and}{name} of type {}", board.kind)?,
                (None, Some(count)) => write!(out, "{and}a rig of type {} with {count} boards", board.kind)?,
                (None, None) => write!(out, "{and}a board of type {}", board.kind)?,
            }
            if !board.tags.is_empty() {
                let with = if board.rig.is_some() { "and" } else { "with" };
                write!(out, " {with} {}", board.tags.join(", "))?;
            }
        }
        if self.count() > 1 { write!(out, " at one agent") } else { Ok(()) }
    }
}

/// The board that an attempt was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenBoard {
    /// Its name at the attempt's agent.
    pub name: String,
    /// Number of the grant; a later one has a larger number.
    pub grant: u64,
    /// The names of the others of the same grant, in the order in which they were wanted.
    pub others: Option<Vec<String>>,
}

impl GivenBoard {
    /// Names of all of them, in order.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        core::iter::once(&self.name).chain(self.others.iter().flatten())
    }
}

/// Units that an attempt occupies. Kept with its agent's record, which outlives the job's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its number; a later grant has a larger one.
    pub number: u64,
    /// Who holds them.
    pub key: JobKey,
    /// How much of which.
    pub units: Map<String, u32>,
    /// Since when, Unix milliseconds.
    pub since: u64,
    /// Seconds that the attempt may take.
    pub timeout_s: u64,
    /// Whether its agent's token was revoked since: whoever has that name then cannot speak for it.
    pub revoked: Option<bool>,
}

/// A grant and what is known of its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The agent that runs the attempt, or did when it was last heard of.
    pub agent: String,
    /// The grant.
    pub grant: Grant,
    /// The moment on the steady clock when it was given.
    from: Millis,
    /// When it returns by itself, on the steady clock: only where the attempt was given up and its agent has not said that
    /// nothing of it runs any more.
    pub until: Option<Millis>,
}

impl Held {
    /// For how long it is held, in this master's life.
    pub fn age(&self, now: Millis) -> Millis {
        now.saturating_sub(self.from)
    }
}

/// A part of the scheduler, which alone changes it. See the file's first line.
#[derive(Clone, Debug, Default)]
pub struct Units {
    offered: Map<String, u32>,
    held: Map<u64, Held>,
    numbers: Map<JobKey, u64>,
    used: Map<String, u32>,
    served: Map<(String, String), u64>,
    turn: u64,
    last: u64,
    /// The job for which what becomes free is kept together.
    collector: Option<(JobId, Wants)>,
}

impl Units {
    /// Offers these amounts from now on. What is granted stays granted, even where there is less now.
    pub(crate) fn offer(&mut self, amounts: Map<String, u32>) {
        self.offered = amounts;
    }

    /// Whether all that is wanted could be there at once.
    pub fn possible(&self, wants: &Wants) -> bool {
        wants.iter().all(|(unit, amount)| self.offered.get(unit).is_some_and(|offered| offered >= amount))
    }

    /// How much there is of a unit, and how much of it is free.
    pub fn amount(&self, unit: &str) -> (u32, u32) {
        let offered = self.offered.get(unit).copied().unwrap_or(0);
        (offered, offered.saturating_sub(self.used.get(unit).copied().unwrap_or(0)))
    }

    /// Names of all units that are offered or held.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.offered.keys().cloned().collect();
        names.extend(self.used.keys().filter(|unit| !self.offered.contains_key(unit.as_str())).cloned());
        names
    }

    /// All grants, the oldest first.
    pub fn held(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// Whether a job can have all that it wants now, leaving what another one collects.
    pub fn fits(&self, job: JobId, wants: &Wants) -> bool {
        let kept = |unit: &String| match &self.collector {
            Some((collector, wants)) if *collector != job => {
                wants.iter().find(|(other, _)| other == unit).map_or(0, |(_, amount)| *amount)
            }
            _ => 0,
        };
        wants.iter().all(|(unit, amount)| self.amount(unit).1 >= amount.saturating_add(kept(unit)))
    }

    /// The job that collects.
    pub fn collector(&self) -> Option<JobId> {
        self.collector.as_ref().map(|(job, _)| *job)
    }

    /// Keeps together what becomes free of what a job wants, until it is served or [`Self::let_go`].
    pub(crate) fn collect(&mut self, job: JobId, wants: Wants) {
        self.collector = Some((job, wants));
    }

    /// Nobody collects any more.
    pub(crate) fn let_go(&mut self) {
        self.collector = None;
    }

    /// When somebody was last served of what is wanted, as a number that grows with each grant; 0 for never.
    pub fn served(&self, who: &str, wants: &Wants) -> u64 {
        let turn = |(unit, _): &(String, u32)| self.served.get(&(unit.clone(), who.to_string())).copied().unwrap_or(0);
        wants.iter().map(turn).max().unwrap_or(0)
    }

    /// It is somebody's turn with something that is not given here.
    pub(crate) fn serve(&mut self, who: &str, wants: &Wants) {
        self.turn += 1;
        for (unit, _) in wants {
            self.served.insert((unit.clone(), who.to_string()), self.turn);
        }
        if self.served.len() > SERVED {
            let oldest = self.served.iter().min_by_key(|(_, turn)| **turn).map(|(pair, _)| pair.clone());
            oldest.map(|pair| self.served.remove(&pair));
        }
    }

    /// Gives an attempt all that it wants.
    pub(crate) fn grant(&mut self, now: Now, agent: &str, who: &str, key: JobKey, wants: &Wants, timeout_s: u64) {
        self.last += 1;
        self.serve(who, wants);
        if self.collector() == Some(key.job) {
            self.let_go();
        }
        let units = Map::from_iter(wants.iter().cloned());
        let grant = Grant { number: self.last, key, units, since: now.wall, timeout_s, revoked: None };
        self.put(Held { agent: agent.to_string(), grant, from: now.steady, until: None });
    }

    /// A grant from the ledger: as long as nothing else is said, its attempt was given up.
    pub(crate) fn restore(&mut self, now: Millis, grace_ms: Millis, agent: &str, grant: Grant) {
        self.last = self.last.max(grant.number);
        if self.held.contains_key(&grant.number) || self.numbers.contains_key(&grant.key) {
            return;
        }
        let key = grant.key;
        self.put(Held { agent: agent.to_string(), grant, from: now, until: None });
        self.lose(now, grace_ms, key);
    }

    fn put(&mut self, held: Held) {
        for (unit, amount) in &held.grant.units {
            let used = self.used.get_or_default(unit.clone());
            *used = used.saturating_add(*amount);
        }
        self.numbers.insert(held.grant.key, held.grant.number);
        self.held.insert(held.grant.number, held);
    }

    /// An attempt is given up, and whether it runs on is not known.
    pub(crate) fn lose(&mut self, now: Millis, grace_ms: Millis, key: JobKey) {
        let Some(held) = self.numbers.get(&key).and_then(|number| self.held.get_mut(number)) else { return };
        let allowed = held.grant.timeout_s.saturating_mul(1000).saturating_add(grace_ms);
        held.until = Some(held.from.saturating_add(allowed).max(now));
    }

    /// An agent's token was revoked: nobody can speak for what it holds any more. True if it holds anything.
    pub(crate) fn revoke(&mut self, agent: &str) -> bool {
        let mut any = false;
        for held in self.held.values_mut().filter(|held| held.agent == agent) {
            held.grant.revoked = Some(true);
            any = true;
        }
        any
    }

    /// The attempt is under way, after all.
    pub(crate) fn regain(&mut self, key: JobKey) {
        if let Some(held) = self.numbers.get(&key).and_then(|number| self.held.get_mut(number)) {
            held.until = None;
        }
    }

    /// The grant of an attempt, if it holds any.
    pub fn of(&self, key: JobKey) -> Option<&Held> {
        self.held.get(self.numbers.get(&key)?)
    }

    /// Grants of an agent.
    pub fn at<'a>(&'a self, agent: &'a str) -> impl Iterator<Item = &'a Grant> {
        self.held.values().filter(move |held| held.agent == agent).map(|held| &held.grant)
    }

    /// Takes a grant back; gives the agent that had it.
    pub(crate) fn free(&mut self, number: u64) -> Option<String> {
        let held = self.held.remove(&number)?;
        self.numbers.remove(&held.grant.key);
        for (unit, amount) in &held.grant.units {
            if let Some(used) = self.used.get_mut(unit) {
                *used = used.saturating_sub(*amount);
                if *used == 0 {
                    self.used.remove(unit);
                }
            }
        }
        Some(held.agent)
    }

    /// When the next grant returns by itself.
    pub fn deadline(&self) -> Option<Millis> {
        self.held.values().filter_map(|held| held.until).min()
    }

    /// Numbers of the grants that return by now.
    pub fn due(&self, now: Millis) -> Vec<u64> {
        let due = self.held.values().filter(|held| held.until.is_some_and(|until| until <= now));
        due.map(|held| held.grant.number).collect()
    }

    /// Moves what is awaited by the time in which nobody could have come.
    pub(crate) fn slept(&mut self, slept: Millis) {
        for held in self.held.values_mut() {
            held.from = held.from.saturating_add(slept);
            held.until = held.until.map(|until| until.saturating_add(slept));
        }
    }
}
