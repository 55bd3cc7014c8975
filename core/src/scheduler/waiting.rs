//! What the scheduler knows → why a job waits and why an agent is given nothing, in a sentence each.

use super::{Job, Scheduler, Wanted, wants};
use crate::job::{JobId, JobState};
use crate::ledger::Needed;
use crate::limits::Millis;
use crate::ordered::Map;
use crate::platform::described;
use crate::units::{Held, Wants};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Older jobs that are counted for the reason why one waits: a page of 10 000 jobs asks for it of each.
const AHEAD: usize = 1000;

/// Needs and holders that are named: more would not be read.
const SHOWN: usize = 3;

/// What is to be said of the agents that offer a platform.
#[derive(Clone)]
enum Standing {
    /// None is connected.
    Away(String),
    /// Some are, and none has room.
    Here(String),
}

impl Scheduler {
    /// Why nothing is given to this agent, if something keeps it from that.
    pub fn aside(&self, agent: &str) -> Option<String> {
        self.agents.get(agent).filter(|agent| agent.aside).map(|_| "set aside by hand".to_string())
    }

    /// Why a queued job waits, in one sentence; `None` when it does not.
    pub fn waiting(&self, now: Millis, id: JobId) -> Option<String> {
        let job = self.jobs.get(&id)?;
        let ahead = || {
            let queues = self.queues.values().chain(self.unoffered.values());
            queues.flat_map(|ids| ids.range(..id)).take(AHEAD).count()
        };
        self.reason(now, job, |wanted| self.standing(now, wanted), ahead)
    }

    /// Why each queued job waits. What they have in common is found out once.
    pub fn reasons(&self, now: Millis) -> Map<JobId, String> {
        let mut standings: Map<Wanted<'_>, Standing> = Map::new();
        let mut ahead = 0;
        let mut reasons = Map::new();
        for (id, job) in &self.jobs {
            let standing = |wanted| standings.get_or_insert_with(wanted, || self.standing(now, wanted)).clone();
            if let Some(reason) = self.reason(now, job, standing, || ahead) {
                reasons.insert(*id, reason);
                ahead += usize::from(job.not_before <= now && job.record.blocked.is_none());
            }
        }
        reasons
    }

    fn reason<'a>(
        &'a self,
        now: Millis,
        job: &'a Job,
        standing: impl FnOnce(Wanted<'a>) -> Standing,
        ahead: impl FnOnce() -> usize,
    ) -> Option<String> {
        let record = &job.record;
        if record.state != JobState::Queued {
            return None;
        }
        if record.blocked == Some(true) {
            return Some(self.what_is_open(job));
        }
        if let Some(why) = &self.hold {
            return Some(format!("no job is started: {why}"));
        }
        if job.not_before > now {
            let seconds = (job.not_before - now).div_ceil(1000);
            return Some(format!("tried again in {seconds} s after: {}", record.cause));
        }
        let wants = wants(record);
        if !wants.is_empty() {
            if !self.units.possible(&wants) {
                let end = span(self.policy.expire_ms);
                return Some(format!("{}; expires {end} after it was queued", self.lacking(&wants)));
            }
            if let Some(why) = self.busy_units(now, job, &wants) {
                return Some(why);
            }
        }
        if let Some(board) = &record.board {
            return Some(self.board_reason(now, job, board));
        }
        Some(match standing(job.asks()) {
            Standing::Away(why) => why,
            Standing::Here(why) => match ahead() {
                0 => format!("{why}; no older job waits"),
                1 => format!("{why}; 1 older job waits too"),
                AHEAD.. => format!("{why}; {AHEAD} or more older jobs wait too"),
                ahead => format!("{why}; {ahead} older jobs wait too"),
            },
        })
    }

    /// What a blocked job waits for.
    fn what_is_open(&self, job: &Job) -> String {
        let named = |needed: &&Needed| job.open.needs.contains(&needed.job);
        let open: Vec<String> = job
            .record
            .needs
            .iter()
            .flatten()
            .filter(named)
            .take(SHOWN)
            .map(|needed| {
                let word = self.job(needed.job).map_or("unknown", |record| record.standing().class());
                format!("{} on {} (job {}, {word})", needed.configuration, needed.platform, needed.job)
            })
            .collect();
        let more = job.open.needs.len().saturating_sub(open.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("needs {}{more} to pass first", open.join(", "))
    }

    /// That there is less of a unit than is wanted.
    pub(super) fn lacking(&self, wants: &Wants) -> String {
        let less = wants.iter().filter(|(unit, amount)| self.units.amount(unit).0 < *amount);
        let told: Vec<String> = less
            .map(|(unit, amount)| format!("{amount} of {unit}, of which there are {}", self.units.amount(unit).0))
            .collect();
        format!("wants {}", told.join(", "))
    }

    /// Why a job does not get its units now: how much is free, who holds the rest since when, until when at most, and its
    /// place among those that wait for one of them.
    fn busy_units(&self, now: Millis, job: &Job, wants: &Wants) -> Option<String> {
        let record = &job.record;
        if self.units.fits(record.id, wants) {
            return None;
        }
        let short = wants.iter().filter(|(unit, amount)| self.units.amount(unit).1 < *amount);
        let mut told: Vec<String> = short
            .map(|(unit, amount)| {
                let (offered, free) = self.units.amount(unit);
                let holders: Vec<&Held> =
                    self.units.held().filter(|held| held.grant.units.contains_key(unit)).collect();
                let mut by: Vec<String> =
                    holders.iter().take(SHOWN).map(|held| self.holder_of_units(now, held)).collect();
                if holders.len() > SHOWN {
                    by.push(format!("{} more", holders.len() - SHOWN));
                }
                let by = if by.is_empty() { String::new() } else { format!("; held by {}", by.join(", ")) };
                format!("wants {amount} of {unit}, {free} of {offered} free{by}")
            })
            .collect();
        if let (true, Some(collector)) = (told.is_empty(), self.units.collector()) {
            told.push(format!("what it wants is kept together for job {collector}"));
        }
        let queue = Self::queue_of(job);
        let shares = |other: &Wants| other.iter().any(|(unit, _)| wants.iter().any(|(wanted, _)| wanted == unit));
        let before = self.queues.iter().filter(|(other, _)| shares(&other.units) && other.order <= queue.order);
        let before =
            before.map(
                |(other, ids)| {
                    if other.order < queue.order { ids.len() } else { ids.range(..record.id).take(AHEAD).count() }
                },
            );
        let place = before.sum::<usize>() + 1;
        Some(format!("{}; place {place} by priority and age, and each repository or person in turn", told.join("; ")))
    }

    /// What there is of each unit, and who holds it, in a sentence each.
    pub fn units_told(&self, now: Millis) -> Vec<String> {
        let told = |unit: &String| {
            let (offered, free) = self.units.amount(unit);
            let holders = self.units.held().filter(|held| held.grant.units.contains_key(unit));
            let by: Vec<String> = holders.map(|held| self.holder_of_units(now, held)).collect();
            let by = if by.is_empty() { String::new() } else { format!("; held by {}", by.join(", ")) };
            format!("{unit}: {free} of {offered} free{by}")
        };
        self.units.names().iter().map(told).collect()
    }

    fn holder_of_units(&self, now: Millis, held: &Held) -> String {
        let Held { agent, grant, .. } = held;
        match held.until {
            None => format!(
                "job {} on {agent} for {} and {} more at most",
                grant.key,
                span(held.age(now)),
                span(grant.timeout_s.saturating_mul(1000).saturating_sub(held.age(now)))
            ),
            Some(until) => format!(
                "job {} on {agent}, which has not said that it ended, for {} and {} more at most (`sai-master unit free {}`)",
                grant.key,
                span(held.age(now)),
                span(until.saturating_sub(now)),
                grant.number
            ),
        }
    }

    /// What is to be said of all agents that offer a platform.
    fn standing(&self, now: Millis, wanted: Wanted<'_>) -> Standing {
        let able: Vec<_> = if self.is_offered(wanted) {
            self.agents.iter().filter(|(_, agent)| agent.serves(wanted)).collect()
        } else {
            Vec::new()
        };
        let mut known = described(wanted.platform);
        if wanted.bundle && able.is_empty() && self.is_offered(Wanted { bundle: false, ..wanted }) {
            known.push_str(" and is new enough to check out what nobody pushed");
        } else if wanted.needs && able.is_empty() && self.is_offered(Wanted { needs: false, ..wanted }) {
            known.push_str(" and is new enough to fetch what other jobs made");
        }
        let here = able.iter().filter(|(_, agent)| agent.connected).count();
        if here == 0 {
            let end = format!("expires {} after it was queued", span(self.policy.expire_ms));
            return Standing::Away(match able.first() {
                None => format!("no agent has offered {known} yet; {end}"),
                Some((name, _)) if able.len() == 1 => format!("{name}, which offers {known}, is away; {end}"),
                Some(_) => format!("all {} agents that offer {known} are away; {end}", able.len()),
            });
        }
        let mut reasons = [(0, "busy"), (0, "set aside"), (0, "paused after trouble"), (0, "without slots")];
        let mut paused = Vec::new();
        for (name, agent) in able.iter().filter(|(_, agent)| agent.connected) {
            let whole = agent.place(now, name, wanted.platform, &[]).is_none();
            if !whole && paused.len() < SHOWN {
                let places = agent.paused_of(now, wanted.platform);
                paused.extend(places.take(SHOWN).map(|platform| format!("{} on {name}", described(platform))));
            }
            let reason = if agent.aside {
                1
            } else if whole {
                2
            } else if agent.slots == 0 {
                3
            } else {
                0
            };
            reasons[reason].0 += 1;
        }
        let reasons: Vec<String> =
            reasons.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
        let noun = if here == 1 { "agent offers" } else { "agents offer" };
        let but = match paused.is_empty() {
            true => String::new(),
            false => format!(" (without {}, paused after trouble)", paused.join(", ")),
        };
        Standing::Here(format!("{here} {noun} {known}: {}{but}", reasons.join(", ")))
    }
}

/// A span of time, milliseconds → `100 s`, `90 min`, `27 h`, `27 h 46 min`, `7 days`.
pub(super) fn span(millis: u64) -> String {
    let minutes = millis / 60_000;
    match (minutes / 60, minutes % 60) {
        (0, 0 | 1) => format!("{} s", millis / 1000),
        (0 | 1, _) => format!("{minutes} min"),
        (hours @ 48.., 0) if hours % 24 == 0 => format!("{} days", hours / 24),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_are_told_as_people_tell_them() {
        for (millis, words) in [
            (40_000, "40 s"),
            (100_000, "100 s"),
            (5_400_000, "90 min"),
            (24 * 3_600_000, "24 h"),
            (100_000_000, "27 h 46 min"),
            (604_800_000, "7 days"),
        ] {
            assert_eq!(span(millis), words);
        }
    }
}
