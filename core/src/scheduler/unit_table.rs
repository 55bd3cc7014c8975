//! Units, their grants and the queues → the table of them that people read: who holds what, and who waits in which order.

use super::{Queue, Scheduler};
use crate::clock::Now;
use crate::job::{JobId, JobKey};
use crate::limits::Millis;
use crate::ordered::Map;
use crate::units::Held;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Jobs that are named of those that wait for a unit: more would not be read.
const NAMED: usize = 20;
/// Differences between two looks at one end, in milliseconds: of the two clocks that it is told from.
const JITTER_MS: Millis = 2_000;

/// How a holder stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Its attempt is under way, and its agent is there.
    Granted,
    /// Its attempt is under way, and its agent is away.
    Away,
    /// Its attempt was given up, and its agent has not said that nothing of it runs: kept out until then.
    GivenUp,
    /// The same, and its agent's token was revoked: only a person can free it sooner.
    Revoked,
}

impl Holding {
    /// A word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Away => "away",
            Self::GivenUp => "given-up",
            Self::Revoked => "revoked",
        }
    }
}

/// An attempt that holds some of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Number of the grant.
    pub grant: u64,
    /// The attempt.
    pub key: JobKey,
    /// Its agent.
    pub agent: String,
    /// How much of the unit.
    pub amount: u32,
    /// Since when, Unix milliseconds.
    pub since: u64,
    /// Until when at most, Unix milliseconds.
    pub until: u64,
    /// How it stands.
    pub holding: Holding,
}

/// A queued job that lacks nothing but its turn with a unit, or an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The job.
    pub job: JobId,
    /// How much of the unit it wants.
    pub amount: u32,
    /// Whose turn it is then: a repository, or the person who asked.
    pub who: String,
    /// Whether what becomes free is kept together for it.
    pub collects: bool,
}

/// A unit and all there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitRow {
    /// Its name.
    pub name: String,
    /// How much there is.
    pub amount: u32,
    /// How much of it is free.
    pub free: u32,
    /// Who holds it, the oldest grant first.
    pub holders: Vec<Holder>,
    /// Who waits, the next one first; not all of them.
    pub waiters: Vec<Waiter>,
    /// How many wait.
    pub waiting: usize,
}

impl UnitRow {
    /// Whether the same is to be said of it.
    pub fn is_much_like(&self, other: &Self) -> bool {
        let near = |(one, other): (&Holder, &Holder)| {
            let until = one.until.abs_diff(other.until) <= JITTER_MS;
            until && Holder { until: other.until, ..one.clone() } == *other
        };
        let same = self.holders.len() == other.holders.len() && self.holders.iter().zip(&other.holders).all(near);
        same && Self { holders: other.holders.clone(), ..self.clone() } == *other
    }
}

impl Scheduler {
    /// All units, by name.
    pub fn unit_table(&self, now: Now) -> Vec<UnitRow> {
        let row = |name: String| {
            let (amount, free) = self.units.amount(&name);
            let held = self.units.held().filter_map(|held| self.holder_row(now, held, &name));
            let (waiters, waiting) = self.waiters(&name);
            UnitRow { amount, free, holders: held.collect(), waiters, waiting, name }
        };
        self.units.names().into_iter().map(row).collect()
    }

    fn holder_row(&self, now: Now, held: &Held, unit: &str) -> Option<Holder> {
        let amount = *held.grant.units.get(unit)?;
        let Held { agent, grant, .. } = held;
        let holding = match held.until {
            Some(_) if grant.revoked == Some(true) => Holding::Revoked,
            Some(_) => Holding::GivenUp,
            None if self.agents.get(agent).is_some_and(|agent| agent.connected) => Holding::Granted,
            None => Holding::Away,
        };
        let left = match held.until {
            Some(until) => until.saturating_sub(now.steady),
            None => grant
                .timeout_s
                .saturating_mul(1000)
                .saturating_add(self.policy.grace_ms)
                .saturating_sub(held.age(now.steady)),
        };
        Some(Holder {
            grant: grant.number,
            key: grant.key,
            agent: agent.clone(),
            amount,
            since: grant.since,
            until: now.wall.saturating_add(left),
            holding,
        })
    }

    /// The jobs that wait for a unit in the order in which they would be served, were it all that they wait for: those of
    /// the highest priority first, among them each repository or person in turn, of each the oldest job.
    fn waiters(&self, unit: &str) -> (Vec<Waiter>, usize) {
        let amount = |queue: &Queue| {
            let (_, amount) = queue.units.iter().find(|(name, _)| name == unit)?;
            self.units.possible(&queue.units).then_some(*amount)
        };
        self.in_turn(amount, self.units.collector())
    }

    /// The same of the queues that want so much of something, which is kept together for one job perhaps.
    pub(super) fn in_turn(
        &self,
        wants: impl Fn(&Queue) -> Option<u32>,
        collector: Option<JobId>,
    ) -> (Vec<Waiter>, usize) {
        let mut queues = Vec::new();
        let mut waiting = 0;
        for (queue, ids) in &self.queues {
            // It wants nothing of it.
            let Some(amount) = wants(queue) else { continue };
            waiting += ids.len();
            // The next one last.
            let mut jobs: Vec<JobId> = ids.iter().copied().filter(|id| Some(*id) != collector).take(NAMED).collect();
            jobs.reverse();
            jobs.extend(collector.filter(|id| ids.contains(id)));
            queues.push((queue, amount, jobs));
        }
        let mut served: Map<&str, u64> = Map::new();
        let mut turn = u64::MAX / 2;
        let mut waiters: Vec<Waiter> = Vec::new();
        while waiters.len() < NAMED {
            let next = queues.iter_mut().filter_map(|(queue, amount, jobs)| {
                let job = *jobs.last()?;
                let turn = served.get(queue.who()).copied().unwrap_or_else(|| self.turn(queue, job).1);
                Some(((Some(job) != collector, queue.order, turn, job), queue.who(), *amount, jobs))
            });
            // No more of them wait.
            let Some(((first, _, _, job), who, amount, jobs)) = next.min_by_key(|(rank, ..)| *rank) else { break };
            jobs.pop();
            turn += 1;
            served.insert(who, turn);
            waiters.push(Waiter { job, amount, who: who.to_string(), collects: !first });
        }
        (waiters, waiting)
    }
}
