//! Processes of an attempt, and the order to end them → when its verdict may be written: the shipped machine, and an edge that
//! kills, looks, and is sometimes late.

use super::random::Random;
use super::{Bug, Outcome, World};
use sai_core::job::JobKey;
use sai_core::limits::Millis;
use sai_core::sweep::{Input, KILL_MS, Output, Sweep};

/// Milliseconds beyond the time after which processes are given up in which the edge has done so.
const LATE_MS: Millis = 1_000;

#[derive(Clone, Debug)]
struct Process {
    /// How long it takes to be gone when it was killed.
    dies_ms: Millis,
    /// When it is gone, once it was killed.
    gone_at: Option<Millis>,
    /// Whether it has started another one by the time it is gone, which no look has seen before.
    forks: bool,
}

/// What runs of an attempt when its end is decided.
#[derive(Clone, Debug, Default)]
pub(super) struct Processes {
    sweep: Sweep,
    alive: Vec<Process>,
    begun: Option<Millis>,
    looks: u32,
    /// How many were told of as ones that could not be killed, once it is over.
    told: Option<usize>,
}

impl Processes {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut alive = Vec::new();
        for _ in 0..random.below(4) {
            let dies_ms = match random.below(200) {
                // It waits for a disk that is gone.
                0 => 100 * KILL_MS,
                1..=40 => random.between(10, 2_000),
                _ => random.below(5),
            };
            alive.push(Process { dies_ms, gone_at: None, forks: random.chance(200) });
        }
        Self { alive, ..Self::default() }
    }

    fn count(&self) -> usize {
        self.alive.len()
    }

    /// Takes away those that are gone by now; some have left another one behind.
    fn pass(&mut self, now: Millis) {
        let mut born = Vec::new();
        self.alive.retain(|process| {
            let gone = process.gone_at.is_some_and(|at| at <= now);
            if gone && process.forks {
                born.push(Process { dies_ms: process.dies_ms, gone_at: None, forks: false });
            }
            !gone
        });
        self.alive.append(&mut born);
    }

    fn kill(&mut self, now: Millis) {
        for process in &mut self.alive {
            process.gone_at.get_or_insert(now + process.dies_ms);
        }
        self.pass(now);
    }

    /// Goes on with the end; tells how long the edge waits until it does so again, or that it is over.
    fn end(&mut self, now: Millis, bug: Option<Bug>) -> Option<Millis> {
        if self.told.is_some() {
            return None;
        }
        self.pass(now);
        let mut out = Vec::new();
        if self.begun.is_none() {
            self.begun = Some(now);
            self.sweep.handle(now, Input::Begin, &mut out);
        }
        let mut input = Input::Tick;
        loop {
            self.sweep.handle(now, input, &mut out);
            input = match out.pop() {
                None => return Some(self.sweep.deadline().map_or(1, |at| at.saturating_sub(now))),
                Some(Output::Kill) => {
                    self.kill(now);
                    self.looks += 1;
                    let processes = if bug == Some(Bug::KillOnceAndForget) { 0 } else { self.count() };
                    Input::Left { processes, helping: false }
                }
                Some(Output::Drain) => Input::Read,
                Some(Output::Bug(what)) => panic!("the sweep contradicts itself: {what}"),
                Some(Output::Done { left }) => {
                    self.told = Some(left);
                    return None;
                }
            };
        }
    }
}

impl World {
    /// Whether a supervisor may write its verdict; else it comes back here by and by.
    pub(super) fn may_end(&mut self, host: usize, key: JobKey) -> Outcome<bool> {
        let (now, bug) = (self.now, self.bug);
        let supervisor = self.hosts[host].directories.get_mut(&key).and_then(|directory| directory.supervisor.as_mut());
        let Some(processes) = supervisor.map(|supervisor| &mut supervisor.processes) else { return Ok(true) };
        if processes.told.is_some() {
            return Ok(true);
        }
        if let Some(wait) = processes.end(now, bug) {
            let asked = processes.begun.map_or(0, |begun| now - begun);
            if asked > KILL_MS + LATE_MS {
                return self.broken("given up in time", format!("{key} is not given up after {asked} ms"));
            }
            // A machine that is busy looks later than it was asked to.
            let late = self.random.between(1, 200);
            self.after(wait.max(late), super::Event::Grow(host, key));
            return Ok(false);
        }
        let (alive, looks) = (processes.count(), processes.looks);
        let asked = processes.begun.map_or(0, |begun| now - begun);
        if alive > 0 && asked < KILL_MS {
            let seen = format!("{alive} processes of {key} live on, {asked} ms after they were to end");
            return self.broken("nothing outlives its job", seen);
        }
        if processes.told != Some(alive) {
            return self.broken("nothing outlives its job", format!("nobody is told of {alive} processes of {key}"));
        }
        self.summary.swept += u64::from(looks > 1);
        Ok(true)
    }
}
