//! What an agent says when its link is up → what it offers from now on, and which attempts it goes on with.

use super::room::Offer;
use super::{Output, Scheduler};
use crate::clock::Now;
use crate::job::{JobKey, JobState};
use crate::ordered::Set;
use crate::units::OfferedBoard;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// An agent that has greeted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its name.
    pub agent: String,
    /// Platforms it offers.
    pub platforms: Vec<String>,
    /// Jobs at once.
    pub slots: u32,
    /// Whether it can fetch the files of what a job needs.
    pub needs: bool,
    /// Whether it runs jobs that have several boards.
    pub several: bool,
    /// Whether it lends boards to people.
    pub leases: bool,
    /// Whether it checks out what somebody has sent.
    pub bundles: bool,
    /// Whether it runs a job in that of its platforms which the master says; else it chooses by itself.
    pub told: bool,
    /// Repositories whose mirror it holds.
    pub mirrors: Vec<String>,
    /// Attempts it still holds.
    pub holds: Vec<JobKey>,
    /// Boards that it offers.
    pub boards: Vec<OfferedBoard>,
}

impl Scheduler {
    pub(super) fn agent_up(&mut self, now: Now, greeting: Greeting, out: &mut Vec<Output>) {
        let name = greeting.agent;
        self.lift(&name);
        let agent = self.agents.get_or_default(name.clone());
        agent.offer = Offer { platforms: greeting.platforms, needs: greeting.needs, bundles: greeting.bundles };
        agent.told = greeting.told;
        agent.several = greeting.several;
        agent.leases = greeting.leases;
        agent.slots = greeting.slots;
        agent.mirrors = Set::from_iter(greeting.mirrors);
        agent.connected = true;
        let mine: Vec<JobKey> = agent.runs.iter().copied().collect();
        let holds = Set::from_iter(greeting.holds.iter().copied());
        agent.group.greet(&holds);
        // What was said of its boards on another link says nothing now.
        agent.boards.clear();
        self.set_boards(&name, greeting.boards);
        self.file(&name);
        self.offered(&name);
        for key in &holds {
            if self.reclaim(*key, &name, out) || self.holder(*key) == Some(name.as_str()) {
                self.watch(now, key.job, true);
                out.push(Output::Adopt(name.clone(), *key));
                let cancelled = self.jobs.get_mut(&key.job).and_then(|job| {
                    job.orphan = None;
                    job.cancelled.as_ref().map(|(who, _)| who.clone())
                });
                self.rearm(key.job);
                if let Some(who) = cancelled {
                    out.push(Output::Cancel(name.clone(), *key, who));
                }
            } else {
                out.push(Output::Forget(name.clone(), *key));
            }
        }
        for key in mine {
            if !holds.contains(&key) {
                // The assignment never arrived, or the agent lost its disk: either way this attempt is no more, and the
                // agent could not start it twice, since it never hears of this key again.
                let why = format!("{name} came back without it");
                if self.job(key.job).is_some_and(|record| record.state == JobState::Assigned) {
                    // It counts for the agent, once a greeting, so that one which dies of every job it gets is paused;
                    // and not for the job, which has not begun.
                    self.lost(now, &name, key.job, &why);
                    self.again(now, key, why, 0, out);
                } else {
                    self.broken_quietly(now, key, why, out);
                }
            }
        }
        // What it did not bring is not there, and so occupies nothing.
        let gone: Vec<JobKey> =
            self.units.at(&name).map(|grant| grant.key).filter(|key| !holds.contains(key)).collect();
        for key in gone {
            self.returned(&name, key, out);
        }
    }
}
