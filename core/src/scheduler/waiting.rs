//! What the scheduler knows → why a job waits and why an agent is given nothing, in a sentence each.

use super::{Job, Scheduler};
use crate::job::{JobId, JobState};
use crate::limits::Millis;
use crate::ordered::Map;
use crate::platform::described;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Older jobs that are counted for the reason why one waits: a page of 10 000 jobs asks for it of each.
const AHEAD: usize = 1000;

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
        self.reason(now, job, |platform| self.standing(now, platform), ahead)
    }

    /// Why each queued job waits. What they have in common is found out once.
    pub fn reasons(&self, now: Millis) -> Map<JobId, String> {
        let mut standings: Map<&str, Standing> = Map::new();
        let mut ahead = 0;
        let mut reasons = Map::new();
        for (id, job) in &self.jobs {
            let standing = |platform| standings.get_or_insert_with(platform, || self.standing(now, platform)).clone();
            if let Some(reason) = self.reason(now, job, standing, || ahead) {
                reasons.insert(*id, reason);
                ahead += usize::from(job.not_before <= now);
            }
        }
        reasons
    }

    fn reason<'a>(
        &'a self,
        now: Millis,
        job: &'a Job,
        standing: impl FnOnce(&'a str) -> Standing,
        ahead: impl FnOnce() -> usize,
    ) -> Option<String> {
        let record = &job.record;
        if record.state != JobState::Queued {
            return None;
        }
        if let Some(why) = &self.hold {
            return Some(format!("no job is started: {why}"));
        }
        if job.not_before > now {
            let seconds = (job.not_before - now).div_ceil(1000);
            return Some(format!("tried again in {seconds} s after: {}", record.cause));
        }
        Some(match standing(&job.wanted) {
            Standing::Away(why) => why,
            Standing::Here(why) => match ahead() {
                0 => format!("{why}; no older job waits"),
                1 => format!("{why}; 1 older job waits too"),
                AHEAD.. => format!("{why}; {AHEAD} or more older jobs wait too"),
                ahead => format!("{why}; {ahead} older jobs wait too"),
            },
        })
    }

    /// What is to be said of all agents that offer a platform.
    fn standing(&self, now: Millis, platform: &str) -> Standing {
        let able: Vec<_> = if self.is_offered(platform) {
            self.agents.iter().filter(|(_, agent)| agent.serves(platform)).collect()
        } else {
            Vec::new()
        };
        let known = described(platform);
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
        for (_, agent) in able.iter().filter(|(_, agent)| agent.connected) {
            let reason = if agent.aside {
                1
            } else if agent.paused_for(now, platform) {
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
        Standing::Here(format!("{here} {noun} {known}: {}", reasons.join(", ")))
    }
}

/// A span of time, milliseconds → `100 s`, `90 min`, `27 h`, `27 h 46 min`, `7 days`.
fn span(millis: u64) -> String {
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
