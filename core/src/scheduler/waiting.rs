//! What the scheduler knows → why a job waits and why an agent is given nothing, in a sentence each.

use super::Scheduler;
use crate::job::{JobId, JobState};
use crate::limits::Millis;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Older jobs that are counted for the reason why one waits: a page of 10 000 jobs asks for it of each.
const AHEAD: usize = 1000;

impl Scheduler {
    /// Why nothing is given to this agent, if something keeps it from that.
    pub fn aside(&self, now: Millis, agent: &str) -> Option<String> {
        let agent = self.agents.get(agent)?;
        if agent.aside {
            Some("set aside by hand".to_string())
        } else if now < agent.paused_until {
            let seconds = (agent.paused_until - now).div_ceil(1000);
            Some(format!("had trouble {} times in a row; gets no job for {seconds} s", agent.troubles))
        } else {
            None
        }
    }

    /// Why a queued job waits, in one sentence; `None` when it does not.
    pub fn waiting(&self, now: Millis, id: JobId) -> Option<String> {
        let job = self.jobs.get(&id)?;
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
        let platform = &record.platform;
        let able: Vec<_> = self.agents.iter().filter(|(_, agent)| agent.serves(platform)).collect();
        let here = able.iter().filter(|(_, agent)| agent.connected).count();
        if here == 0 {
            let hours = self.policy.expire_ms as f64 / 3_600_000.0;
            let end = format!("expires {hours:.1} h after it was queued");
            return Some(match able.first() {
                None => format!("no agent has offered {platform} yet; {end}"),
                Some((name, _)) if able.len() == 1 => format!("{name}, which offers {platform}, is away; {end}"),
                Some(_) => format!("all {} agents that offer {platform} are away; {end}", able.len()),
            });
        }
        let mut reasons = [(0, "busy"), (0, "set aside"), (0, "paused after trouble"), (0, "without slots")];
        for (_, agent) in able.iter().filter(|(_, agent)| agent.connected) {
            let reason = if agent.aside {
                1
            } else if now < agent.paused_until {
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
        let queues = self.queues.values().chain(self.unoffered.values());
        let ahead = queues.flat_map(|ids| ids.range(..id)).take(AHEAD).count();
        let ahead = match ahead {
            0 => "no older job waits".to_string(),
            1 => "1 older job waits too".to_string(),
            AHEAD => format!("{AHEAD} or more older jobs wait too"),
            _ => format!("{ahead} older jobs wait too"),
        };
        Some(format!("{here} {noun} {platform}: {}; {ahead}", reasons.join(", ")))
    }
}
