//! Boards at agents: what the edge of one hears of them → its session's inputs; and the boards that attempts really hold → the first broken promise.

use super::host::Directory;
use super::supervisor::Supervisor;
use super::{Bug, Outcome, World};
use sai_core::job::JobKey;
use sai_core::matrix::BoardSpec;
use sai_core::session::{Input, Standing};
use sai_core::units::{OfferedBoard, WantedBoard};
use sai_core::wire::Assignment;
use std::collections::BTreeMap;

/// Types of boards in every world.
const KINDS: [&str; 2] = ["uno", "esp32"];

/// The boards of a machine. What its owners know outlives its agent.
#[derive(Debug, Default)]
pub(super) struct Bench {
    pub(super) offered: Vec<OfferedBoard>,
    /// The latest grant that each was held at.
    latest: BTreeMap<String, u64>,
    /// Who was given which.
    given: BTreeMap<JobKey, String>,
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
        let boards = if self.random.chance(600) { self.random.between(1, 2) } else { 0 };
        let mut offered = Vec::new();
        for index in 0..boards {
            let kind = self.random.pick(&KINDS).unwrap_or("uno").to_string();
            offered.push(OfferedBoard { name: format!("bench-{index}"), kind, tags: Vec::new() });
        }
        Bench { offered, ..Bench::default() }
    }

    /// What a job wants of them: most want none.
    pub(super) fn random_board(&mut self) -> Option<BoardSpec> {
        if !self.random.chance(120) {
            return None;
        }
        let kind = self.random.pick(&KINDS).unwrap_or("uno").to_string();
        Some(BoardSpec { wanted: WantedBoard { kind, tags: Vec::new() }, trial: "{}".to_string() })
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
            (!ended).then(|| Input::AtBoard { key: *key, name: board.name.clone(), grant: board.grant })
        };
        let found: Vec<Input> = here.directories.iter().filter_map(at).collect();
        // Of grants that were before its own, and before those, it knows nothing.
        self.hosts[host].bench.latest.clear();
        for input in found {
            if let Input::AtBoard { name, grant, .. } = &input {
                let latest = self.hosts[host].bench.latest.entry(name.clone()).or_default();
                *latest = (*latest).max(*grant);
            }
            self.session(host, input)?;
        }
        let names: Vec<String> = self.hosts[host].bench.offered.iter().map(|board| board.name.clone()).collect();
        let said: Vec<Input> = names.into_iter().flat_map(|name| self.owner_says(name)).collect();
        said.into_iter().try_for_each(|input| self.session(host, input))
    }

    /// The owner of a board is asked. At times somebody at the machine has it for a moment.
    fn owner_says(&mut self, name: String) -> Vec<Input> {
        let somebody = self.random.chance(100).then(|| Standing::Busy("ann, sai-buddy".to_string()));
        let said = somebody.into_iter().chain([Standing::Free]);
        said.map(|standing| Input::Board { name: name.clone(), standing }).collect()
    }

    /// An attempt has ended there, or never began: its board is free, whatever of its log is still to be sent.
    pub(super) fn leave_board(&mut self, host: usize, key: JobKey) -> Vec<Input> {
        let Some(name) = self.hosts[host].bench.given.get(&key).cloned() else { return Vec::new() };
        let said = self.owner_says(name);
        [Input::LeftBoard { key }].into_iter().chain(said).collect()
    }

    /// An attempt as an agent begins it: it was given a board that is there, and nothing else holds it. Gives what a planted fault says.
    pub(super) fn check_board(&mut self, host: usize, assignment: &Assignment) -> Outcome<Vec<Input>> {
        let Some(board) = &assignment.board else { return Ok(Vec::new()) };
        let key = assignment.key;
        let here = &self.hosts[host];
        if !here.bench.offered.iter().any(|offered| offered.name == board.name) {
            return self.broken("boards", format!("{key} is given {} of {}, which has none", board.name, here.name));
        }
        let runs = |other: &JobKey| {
            let directory = here.directories.get(other);
            directory.is_some_and(|here| here.supervisor.as_ref().is_none_or(|one| !one.has_ended()))
        };
        let mut others = here.bench.given.iter().filter(|(other, name)| **name == board.name && **other != key);
        if let Some((other, _)) = others.find(|(other, _)| runs(other)) {
            return self.broken("boards", format!("{key} is given {} of {}, where {other} is", board.name, here.name));
        }
        let latest = here.bench.latest.get(&board.name).copied().unwrap_or(0);
        if board.grant <= latest {
            return self.broken("boards", format!("{key} is given {} at {}, after {latest}", board.name, board.grant));
        }
        let bench = &mut self.hosts[host].bench;
        bench.latest.insert(board.name.clone(), board.grant);
        bench.given.insert(key, board.name.clone());
        self.summary.at_boards += 1;
        if self.bug == Some(Bug::BoardFreeWhileHeld) {
            return Ok(self.leave_board(host, key));
        }
        Ok(Vec::new())
    }
}
