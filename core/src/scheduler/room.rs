//! Agents' platforms, slots, load and mirrors → who has room for a job of a platform, without a look at every agent.
//!
//! Of thousands of agents most offer the same, so they are filed by what they offer; within that those with room stand in
//! the order in which they are given jobs. An agent is lifted out before what it is filed by changes, and filed again after.

use super::trouble::{Met, weight};
use super::{Agent, Scheduler};
use crate::limits::{Millis, SLOTS};
use crate::ordered::{Map, Set};
use crate::platform::serves;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a full agent costs, and a load of two for each core.
const FULL_PERMILLE: u64 = 1000;
/// What a cold mirror weighs against a busy agent, in thousandths of a full agent: a fetch costs about a third of what
/// sharing the machine with other jobs does.
const COLD_PERMILLE: u64 = 300;

/// Agents with room, those that are given jobs first first: what each costs, in thousandths of a full one, and its name.
type Queue = Set<(u64, Arc<str>)>;

/// What is asked of an agent beside a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted<'a> {
    /// The platform.
    pub platform: &'a str,
    /// Whether the job needs others, whose files the agent must know how to fetch.
    pub needs: bool,
    /// Whether what it builds was sent, and the agent must know how to check that out.
    pub bundle: bool,
}

/// What agents are filed by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offer {
    pub platforms: Vec<String>,
    /// Whether it can fetch the files of needs.
    pub needs: bool,
    /// Whether it can check out what was sent.
    pub bundles: bool,
}

impl Offer {
    pub(super) fn serves(&self, wanted: Wanted<'_>) -> bool {
        (self.needs || !wanted.needs)
            && (self.bundles || !wanted.bundle)
            && self.platforms.iter().any(|offered| serves(offered, wanted.platform))
    }
}

/// Agents that offer the same platforms.
#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    /// How many of them there are.
    known: usize,
    /// How many of them are connected.
    here: usize,
    /// Those with room.
    room: Queue,
    /// Of these, those with a mirror of each repository.
    warm: Map<String, Queue>,
}

/// Where an agent is filed, besides what it offers.
#[derive(Clone, Debug)]
pub(super) struct Filed {
    name: Arc<str>,
    here: bool,
    /// What it costs; none if it has no room.
    cost: Option<u64>,
}

impl Agent {
    /// What it costs to give it a job, if it has room for one. Pauses are of platforms, and looked at apart.
    fn cost(&self) -> Option<u64> {
        let busy = self.runs.len().saturating_sub(self.at_boards.len()) as u64;
        let room = self.connected && !self.aside && busy < u64::from(self.slots.min(SLOTS));
        let load = u64::from(self.load_permille.min(2000)) / 2;
        room.then(|| busy * FULL_PERMILLE / u64::from(self.slots.max(1)) + load)
    }
}

impl Class {
    fn put(&mut self, agent: &Agent, filed: &Filed) {
        self.known += 1;
        self.here += usize::from(filed.here);
        if let Some(cost) = filed.cost {
            let entry = (cost, filed.name.clone());
            for repository in &agent.mirrors {
                // Most are there: their names are not copied.
                match self.warm.get_mut(repository) {
                    Some(queue) => _ = queue.insert(entry.clone()),
                    None => _ = self.warm.insert(repository.clone(), Set::from([entry.clone()])),
                }
            }
            self.room.insert(entry);
        }
    }

    fn take(&mut self, agent: &Agent, filed: &Filed) {
        self.known -= 1;
        self.here -= usize::from(filed.here);
        if let Some(cost) = filed.cost {
            let entry = (cost, filed.name.clone());
            self.room.remove(&entry);
            for repository in &agent.mirrors {
                if let Some(queue) = self.warm.get_mut(repository) {
                    queue.remove(&entry);
                    if queue.is_empty() {
                        self.warm.remove(repository);
                    }
                }
            }
        }
    }
}

impl Scheduler {
    /// Takes an agent out of the file.
    pub(super) fn lift(&mut self, name: &str) {
        // One that is new, or not known any more, is nowhere.
        let Some(agent) = self.agents.get_mut(name) else { return };
        // It is lifted out already.
        let Some(filed) = agent.filed.take() else { return };
        let Some(class) = self.classes.get_mut(&agent.offer) else {
            return self.bugs.note("lift: the agent is not where it was filed");
        };
        class.take(agent, &filed);
        if class.known == 0 {
            self.classes.remove(&agent.offer);
        }
    }

    /// Files an agent as it is now.
    pub(super) fn file(&mut self, name: &str) {
        self.lift(name);
        // Its token was revoked before it said what it is filed for.
        let Some(agent) = self.agents.get_mut(name) else { return };
        let filed = Filed { name: name.into(), here: agent.connected, cost: agent.cost() };
        match self.classes.get_mut(&agent.offer) {
            Some(class) => class.put(agent, &filed),
            None => {
                let mut class = Class::default();
                class.put(agent, &filed);
                self.classes.insert(agent.offer.clone(), class);
            }
        }
        agent.filed = Some(filed);
    }

    fn classes_for(&self, wanted: Wanted<'_>) -> impl Iterator<Item = &Class> {
        self.classes.iter().filter(move |(offer, _)| offer.serves(wanted)).map(|(_, class)| class)
    }

    /// Whether an agent has offered it, connected or not.
    pub(super) fn is_offered(&self, wanted: Wanted<'_>) -> bool {
        self.classes_for(wanted).next().is_some()
    }

    /// Whether a connected agent offers it.
    pub(super) fn is_served(&self, wanted: Wanted<'_>) -> bool {
        self.classes_for(wanted).any(|class| class.here > 0)
    }

    /// Whether any agent at all has room.
    pub(super) fn has_room(&self) -> bool {
        self.classes.values().any(|class| !class.room.is_empty())
    }

    /// The idlest agent that serves what is wanted and is not paused for it. A warm mirror counts for it. Where, and in what,
    /// the job met trouble it goes only if there is nothing else.
    pub(super) fn agent_for(&self, now: Millis, repository: &str, wanted: Wanted<'_>, met: &[Met]) -> Option<&str> {
        let mut best: Option<(u32, u64, &str)> = None;
        for class in self.classes_for(wanted) {
            for (queue, more) in [(class.warm.get(repository), 0), (Some(&class.room), COLD_PERMILLE)] {
                for (cost, name) in queue.into_iter().flatten() {
                    // Those after it cost no less.
                    if best.is_some_and(|best| best <= (0, cost + more, name.as_ref())) {
                        break;
                    }
                    let agent = self.agents.get(name.as_ref());
                    let place = agent.and_then(|agent| agent.place(now, name, wanted.platform, met));
                    // None of its places is of use now: all are paused, or it is not known any more.
                    let Some(place) = place else { continue };
                    let found = (weight(met, name, place), cost + more, name.as_ref());
                    best = Some(best.map_or(found, |best| best.min(found)));
                    if found.0 == 0 {
                        break;
                    }
                }
            }
        }
        best.map(|(_, _, name)| name)
    }

    /// Agents with room and a mirror of this repository, the idlest of each kind first.
    pub fn warm_with_room(&self, repository: &str) -> impl Iterator<Item = &str> {
        let queues = self.classes.values().filter_map(move |class| class.warm.get(repository));
        queues.flatten().map(|(_, name)| name.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Greeting, Input, Policy};
    use super::*;
    use crate::clock::Now;
    use crate::job::Blame;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    /// Numbers that are scattered, and the same in every run.
    struct Scattered(u64);

    impl Scattered {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % bound
        }
    }

    /// The agent found by a look at every one.
    fn plain<'a>(scheduler: &'a Scheduler, repository: &str, wanted: Wanted<'_>, met: &[Met]) -> Option<&'a str> {
        let able = scheduler.agents.iter().filter(|(_, agent)| agent.cost().is_some() && agent.serves(wanted));
        let least = able.min_by_key(|(name, agent)| {
            let cold = if agent.mirrors.contains(repository) { 0 } else { COLD_PERMILLE };
            let place = agent.place(0, name, wanted.platform, met).unwrap_or_default();
            (weight(met, name, place), agent.cost().unwrap_or_default() + cold)
        });
        least.map(|(name, _)| name.as_str())
    }

    #[test]
    fn the_file_finds_whom_a_look_at_every_agent_finds() {
        let offers = [
            vec!["linux-debian-12/x86_64/gcc"],
            vec!["linux-debian-12/x86_64/gcc", "rtos/arm", "linux-debian-13/x86_64/gcc"],
            vec![],
            vec!["rtos/arm"],
        ];
        let repositories = ["alpha", "beta", "gamma"];
        let mut random = Scattered(7);
        let mut scheduler = Scheduler::new(Policy::default());
        let mut out = Vec::new();
        for turn in 0..20_000 {
            let agent = format!("agent{}", random.below(12));
            let platforms = offers[random.below(4) as usize].iter().map(ToString::to_string).collect();
            let input = match random.below(8) {
                0 => Input::AgentUp(Greeting {
                    agent,
                    platforms,
                    slots: random.below(4) as u32,
                    needs: random.below(2) == 0,
                    bundles: random.below(2) == 0,
                    several: random.below(2) == 0,
                    leases: random.below(2) == 0,
                    told: random.below(2) == 0,
                    mirrors: repositories.iter().filter(|_| random.below(3) == 0).map(ToString::to_string).collect(),
                    holds: Vec::new(),
                    boards: Vec::new(),
                }),
                1 => Input::AgentOffer { agent, platforms, slots: random.below(4) as u32, boards: Vec::new() },
                2 => Input::AgentDown(agent),
                3 if random.below(4) == 0 => Input::AgentRevoked(agent),
                4 => Input::SetAside { agent, aside: random.below(2) == 0 },
                _ => Input::AgentLoad { agent, load_permille: random.below(3000) as u32 },
            };
            scheduler.handle(Now { steady: turn, wall: turn }, input, &mut out);
            assert!(!out.drain(..).any(|output| matches!(output, super::super::Output::Bug(_))));
            for platform in ["linux", "linux-debian/x86_64", "rtos", "plan9"] {
                let met: Vec<Met> = (0..random.below(4))
                    .map(|_| Met {
                        agent: format!("agent{}", random.below(12)),
                        platform: [platform, "linux-debian-12/x86_64/gcc"][random.below(2) as usize].to_string(),
                        blame: [Blame::Agent, Blame::Platform][random.below(2) as usize],
                    })
                    .collect();
                let repository = repositories[random.below(3) as usize];
                let wanted = Wanted { platform, needs: random.below(2) == 0, bundle: random.below(2) == 0 };
                let found = scheduler.agent_for(turn, repository, wanted, &met);
                assert_eq!(found, plain(&scheduler, repository, wanted, &met), "turn {turn}");
                let able = |agent: &&Agent| agent.serves(wanted);
                assert_eq!(scheduler.is_offered(wanted), scheduler.agents.values().any(|agent| able(&agent)));
                let here = scheduler.agents.values().filter(able).any(|agent| agent.connected);
                assert_eq!(scheduler.is_served(wanted), here, "turn {turn}");
            }
            assert_eq!(scheduler.has_room(), scheduler.agents.values().any(|agent| agent.cost().is_some()));
        }
        assert!(scheduler.classes.len() <= 2 * offers.len());
    }
}
