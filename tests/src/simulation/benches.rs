//! Boards at agents: what the edge of one says of them → frames; and the boards that attempts really hold → the first broken promise.

use super::network::{Frame, Side};
use super::{Bug, Outcome, World};
use sai_core::job::JobKey;
use sai_core::matrix::BoardSpec;
use sai_core::session::AgentSession;
use sai_core::units::{OfferedBoard, WantedBoard};
use sai_core::wire::{AgentMessage, Assignment, Units};
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

    /// What an agent says of its boards, beside what its session says.
    pub(super) fn offer_boards(&self, host: usize, message: &mut AgentMessage) {
        let offered = &self.hosts[host].bench.offered;
        let boards = || (!offered.is_empty()).then(|| offered.clone());
        match message {
            AgentMessage::Hello(hello) => hello.boards = boards(),
            AgentMessage::Offer(offer) => offer.boards = boards(),
            _ => {}
        }
    }

    /// The agent was welcomed: it calls each board free that nothing of it holds.
    pub(super) fn call_boards_free(&mut self, host: usize) {
        let names: Vec<String> = self.hosts[host].bench.offered.iter().map(|board| board.name.clone()).collect();
        names.iter().for_each(|name| self.call_free(host, name));
    }

    /// An attempt has ended there, or never began: its board is free, whatever of its log is still to be sent.
    pub(super) fn leave_board(&mut self, host: usize, key: JobKey) {
        if let Some(name) = self.hosts[host].bench.given.get(&key).cloned() {
            self.call_free(host, &name);
        }
    }

    fn call_free(&mut self, host: usize, name: &str) {
        let here = &self.hosts[host];
        let holds = |key: &JobKey| {
            let directory = here.directories.get(key);
            directory.is_some_and(|here| here.supervisor.as_ref().is_none_or(|one| !one.has_ended()))
        };
        let held = here.bench.given.iter().any(|(key, board)| board == name && holds(key));
        // Before its greeting is answered it says nothing; then it says of all boards how they are.
        let is_up = here.session.as_ref().is_some_and(AgentSession::is_up);
        let Some(link) = here.link.filter(|_| is_up) else { return };
        if held && self.bug != Some(Bug::BoardFreeWhileHeld) {
            return;
        }
        let grant = Some(here.bench.latest.get(name).copied().unwrap_or(0));
        let (board, state) = (Some(name.to_string()), Units::FREE.to_string());
        let said = AgentMessage::Units(Units { board, state, holder: None, grant, why: None });
        self.send(link, Side::Master, Frame::Text(said.encode()));
    }

    /// An attempt as an agent begins it: it was given a board that is there, and nothing else holds it.
    pub(super) fn check_board(&mut self, host: usize, assignment: &Assignment) -> Outcome {
        let Some(board) = &assignment.board else { return Ok(()) };
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
            let name = board.name.clone();
            self.call_free(host, &name);
        }
        Ok(())
    }
}
