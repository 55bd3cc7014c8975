//! Boards at agents: what the edge of one hears of them → its session's inputs; and the boards that attempts really hold → the first broken promise.

use super::host::Directory;
use super::supervisor::Supervisor;
use super::{Bug, Outcome, World};
use sai_core::bench::HEALTH_EVERY_S;
use sai_core::hub::{self, check_of};
use sai_core::job::{JobKey, JobState};
use sai_core::ledger::{AgentRecord, BoardRecord, Checkup, JobRecord};
use sai_core::matrix::BoardSpec;
use sai_core::ordered::Map;
use sai_core::scheduler::Scheduler;
use sai_core::session::{Input, Standing};
use sai_core::units::{OfferedBoard, OfferedHealth, WantedBoard};
use sai_core::wire::Assignment;
use std::collections::BTreeMap;

/// Types of boards in every world.
const KINDS: [&str; 2] = ["uno", "esp32"];

/// What keeps a board from being used for a moment.
pub(super) const UNPLUGGED: &str = "console main is not there";

/// The boards of a machine. What its owners know outlives its agent.
#[derive(Debug, Default)]
pub(super) struct Bench {
    pub(super) offered: Vec<OfferedBoard>,
    /// The latest grant that each was held at.
    latest: BTreeMap<String, u64>,
    /// Who was given which.
    given: BTreeMap<JobKey, Vec<String>>,
}

/// Whether there is a board for each that is wanted, found by trying all.
pub(super) fn all_are_there(wanted: &[&WantedBoard], boards: &[&OfferedBoard]) -> bool {
    let Some((first, rest)) = wanted.split_first() else { return true };
    (0..boards.len()).any(|taken| {
        let others: Vec<&OfferedBoard> = [&boards[..taken], &boards[taken + 1..]].concat();
        first.is_met_by(boards[taken]) && all_are_there(rest, &others)
    })
}

impl Bench {
    /// What its machine had written down is gone; the boards are not.
    pub(super) fn lose_memory(&mut self) {
        self.latest.clear();
        self.given.clear();
    }
}

impl World {
    /// The boards of a new machine: some have none.
    pub(super) fn random_bench(&mut self) -> Bench {
        let boards = if self.random.chance(600) { self.random.between(1, 3) } else { 0 };
        let mut offered = Vec::new();
        for index in 0..boards {
            let kind = self.random.pick(&KINDS).unwrap_or("uno").to_string();
            let name = format!("bench-{index}");
            let parts = ["left", "right"].map(|part| format!("{name}-{part}")).to_vec();
            let boards = self.random.chance(200).then_some(parts);
            let health = self.random.chance(500).then(|| {
                let every_s = self.random.chance(300).then_some(HEALTH_EVERY_S);
                OfferedHealth { timeout_s: 600, every_s }
            });
            offered.push(OfferedBoard { name, kind, boards, health, ..OfferedBoard::default() });
        }
        Bench { offered, ..Bench::default() }
    }

    /// What a job wants of them: most want none.
    pub(super) fn random_board(&mut self) -> Option<BoardSpec> {
        if !self.random.chance(120) {
            return None;
        }
        let mut wanted = self.random_wanted();
        if self.random.chance(200) {
            wanted.rig = Some(2);
        } else if self.random.chance(250) {
            wanted.others = Some([self.random_wanted()].to_vec());
        }
        Some(BoardSpec { wanted, trial: "{}".to_string() })
    }

    pub(super) fn random_wanted(&mut self) -> WantedBoard {
        let kind = self.random.pick(&KINDS).unwrap_or("uno").to_string();
        WantedBoard { kind, ..WantedBoard::default() }
    }

    /// Somebody sets a board aside, takes one back, or has its health found out.
    pub(super) fn person_about_board(&mut self) -> Outcome {
        let host = self.random.below(self.hosts.len() as u64) as usize;
        let (agent, offered) = (self.hosts[host].name.clone(), self.hosts[host].bench.offered.clone());
        let Some(offered) = self.random.pick(&offered.iter().collect::<Vec<_>>()).cloned() else { return Ok(()) };
        match check_of(&offered).filter(|_| self.random.chance(400)) {
            Some(spec) => {
                let of = Checkup { agent, board: offered.name, why: "asked for by anna".to_string() };
                self.number(super::sessions::Numbered::Check(of), spec);
                Ok(())
            }
            None => {
                let by = self.random.chance(500).then(|| "anna".to_string());
                self.summary.boards_aside += 1;
                if by.is_none() {
                    self.oracle.taken_back.insert((agent.clone(), offered.name.clone()));
                }
                self.hub(hub::Input::BoardAside(agent, offered.name, by))
            }
        }
    }

    /// The record of an agent as it is written: a board that was set aside stays that until somebody takes it back.
    pub(super) fn check_aside(&self, record: &AgentRecord) -> Outcome {
        let before = self.master.latest.agents.get(&record.name);
        // Another machine's boards are others.
        let same = before.filter(|before| {
            !record.revoked && before.token_sha256 == record.token_sha256 && before.added_at == record.added_at
        });
        let aside = |boards: &Option<Map<String, BoardRecord>>, name: &String| {
            boards.as_ref().and_then(|boards| boards.get(name)).is_some_and(|board| board.aside.is_some())
        };
        let boards = same.and_then(|before| before.boards.as_ref());
        let lost = |name: &&String| {
            let pair = (record.name.clone(), (*name).clone());
            let was = same.is_some_and(|before| aside(&before.boards, name));
            was && !aside(&record.boards, name) && !self.oracle.taken_back.contains(&pair)
        };
        match boards.and_then(|boards| boards.keys().find(lost)) {
            Some(name) => self.broken("unwell boards", format!("{name} of {} is aside no more", record.name)),
            None => Ok(()),
        }
    }

    /// A record as a turn has decided on it: what is given a board with which something is wrong finds out how well that is.
    pub(super) fn check_given(&self, record: &JobRecord) -> Outcome {
        let (Some(agent), Some(given)) = (&record.agent, &record.given) else { return Ok(()) };
        if record.state != JobState::Assigned || record.health.is_some() {
            return Ok(());
        }
        let known = self.master.latest.agents.get(agent).and_then(|record| record.boards.as_ref());
        let unfit = |name: &&String| {
            let record = known.and_then(|known| known.get(name.as_str()));
            record.is_some_and(|record| record.aside.is_some() || record.unwell.is_some())
        };
        match given.names().find(unfit) {
            Some(name) => self.broken("unwell boards", format!("job {} is given {name} of {agent}", record.id)),
            None => Ok(()),
        }
    }

    /// Whether a job is one at a board.
    pub(super) fn is_at_board(&self, key: JobKey) -> bool {
        self.master.latest.jobs.get(&key.job).is_some_and(|record| record.board.is_some())
    }

    /// A new agent finds out which attempts are at boards, and asks the owners of all of them.
    pub(super) fn find_boards(&mut self, host: usize) -> Outcome {
        let here = &self.hosts[host];
        let at = |(key, directory): (&JobKey, &Directory)| {
            let board = directory.assignment.as_ref()?.board.as_ref()?;
            let ended = directory.supervisor.as_ref().is_some_and(Supervisor::has_ended);
            let names = board.names().cloned().collect();
            (!ended).then_some(Input::AtBoard { key: *key, names, grant: board.grant })
        };
        let found: Vec<Input> = here.directories.iter().filter_map(at).collect();
        // Of grants that were before its own, and before those, it knows nothing.
        self.hosts[host].bench.latest.clear();
        for input in found {
            if let Input::AtBoard { names, grant, .. } = &input {
                for name in names {
                    let latest = self.hosts[host].bench.latest.entry(name.clone()).or_default();
                    *latest = (*latest).max(*grant);
                }
            }
            self.session(host, input)?;
        }
        let names: Vec<String> = self.hosts[host].bench.offered.iter().map(|board| board.name.clone()).collect();
        let said: Vec<Input> = names.into_iter().flat_map(|name| self.owners_say(host, &name)).collect();
        said.into_iter().try_for_each(|input| self.session(host, input))
    }

    /// The owners of a board, or of those of a rig, are asked.
    fn owners_say(&mut self, host: usize, unit: &str) -> Vec<Input> {
        let offered = self.hosts[host].bench.offered.iter().find(|offered| offered.name == unit);
        let parts = offered.and_then(|offered| offered.boards.clone()).unwrap_or_else(|| vec![unit.to_string()]);
        parts.into_iter().flat_map(|part| self.owner_says(part)).collect()
    }

    /// The owner of a board is asked. At times somebody at the machine has it for a moment.
    pub(super) fn owner_says(&mut self, name: String) -> Vec<Input> {
        let somebody = self.random.chance(100).then(|| Standing::Busy("ann, sai-buddy".to_string()));
        let gone = self.random.chance(100).then(|| Standing::Unknown(Some(UNPLUGGED.to_string())));
        let said = somebody.into_iter().chain(gone).chain([Standing::Free]);
        said.map(|standing| Input::Board { name: name.clone(), standing }).collect()
    }

    /// An attempt has ended there, or never began: its board is free, whatever of its log is still to be sent.
    pub(super) fn leave_board(&mut self, host: usize, key: JobKey) -> Vec<Input> {
        // Whether it is at one is known where it was given it.
        self.hosts[host].bench.given.get(&key).map(|_| Input::LeftBoard { key }).into_iter().collect()
    }

    /// An attempt as an agent begins it: it was given a board that is there, and nothing else holds it. Gives what a planted fault says.
    pub(super) fn check_board(&mut self, host: usize, assignment: &Assignment) -> Outcome<Vec<Input>> {
        let Some(board) = &assignment.board else { return Ok(Vec::new()) };
        let key = assignment.key;
        let here = &self.hosts[host];
        let names: Vec<String> = board.names().cloned().collect();
        if let Some(name) = names.iter().find(|name| !here.bench.offered.iter().any(|offered| offered.name == **name)) {
            return self.broken("boards", format!("{key} is given {name} of {}, which has none", here.name));
        }
        // What was wanted is given as a whole, and each board once.
        let spec = self.master.latest.jobs.get(&key.job).and_then(|record| record.board.clone());
        let of = |name: &String| here.bench.offered.iter().find(|offered| offered.name == *name);
        let fits = |wanted: &WantedBoard| {
            let each = wanted.each().zip(&names);
            let met = each.filter(|(wanted, name)| of(name).is_some_and(|offered| wanted.is_met_by(offered))).count();
            met == names.len() && wanted.count() == names.len()
        };
        let twice = names.iter().enumerate().any(|(index, name)| names[..index].contains(name));
        if twice || spec.as_ref().is_some_and(|wanted| !fits(wanted)) {
            return self.broken("boards", format!("{key} is given {names:?} where it wants {spec:?}"));
        }
        let runs = |other: &JobKey| {
            let directory = here.directories.get(other);
            directory.is_some_and(|here| here.supervisor.as_ref().is_none_or(|one| !one.has_ended()))
        };
        for name in &names {
            let mut others = here.bench.given.iter().filter(|(other, given)| given.contains(name) && **other != key);
            if let Some((other, _)) = others.find(|(other, _)| runs(other)) {
                return self.broken("boards", format!("{key} is given {name} of {}, where {other} is", here.name));
            }
            let latest = here.bench.latest.get(name).copied().unwrap_or(0);
            if board.grant <= latest {
                return self.broken("boards", format!("{key} is given {name} at {}, after {latest}", board.grant));
            }
        }
        let grant = board.grant;
        let bench = &mut self.hosts[host].bench;
        bench.latest.extend(names.iter().map(|name| (name.clone(), grant)));
        bench.given.insert(key, names);
        self.summary.at_boards += 1;
        if self.bug == Some(Bug::BoardFreeWhileHeld) {
            return Ok(self.leave_board(host, key));
        }
        Ok(Vec::new())
    }

    /// Boards that are free and all that a job waits for stand idle for nobody.
    pub(super) fn check_boards_idle(&self, scheduler: &Scheduler) -> Outcome {
        let boards = scheduler.boards(self.now);
        let queued: Vec<(&JobRecord, &WantedBoard, String)> = scheduler
            .jobs()
            .filter_map(|record| Some((record, record.board.as_ref()?, scheduler.waiting(self.now, record.id)?)))
            .filter(|(_, _, why)| why.starts_with("wants a ") && !why.contains("all of this repository"))
            .collect();
        for (record, wanted, why) in &queued {
            // What is kept together for another one may stand idle.
            let kept = |agent: &str, offered: &OfferedBoard| {
                let keeps = format!("those of {agent} are kept together for it");
                let others = queued.iter().filter(|(other, _, why)| other.id != record.id && why.contains(&keeps));
                others.into_iter().any(|(_, wanted, _)| wanted.each().any(|wanted| wanted.is_met_by(offered)))
            };
            // A step is lent one of the agent where it runs.
            let may_go_to = |agent: &str| record.only_agent().is_none_or(|only| only == agent);
            let free = boards.iter().filter(|row| row.free && may_go_to(&row.agent));
            let free = free.filter(|row| !kept(&row.agent, &row.offered));
            let mut by_agent: BTreeMap<&str, Vec<&OfferedBoard>> = BTreeMap::new();
            for row in free {
                by_agent.entry(&row.agent).or_default().push(&row.offered);
            }
            let each: Vec<&WantedBoard> = wanted.each().collect();
            if by_agent.values().any(|free| all_are_there(&each, free)) {
                return self.broken("no idling", format!("job {} waits for a board: {why}", record.id));
            }
        }
        Ok(())
    }
}
