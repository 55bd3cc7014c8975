//! Steps that want boards → what their agent hears of that; and the sessions that they really get → the first broken promise.

use super::host::Directory;
use super::supervisor::Supervisor;
use super::{Bug, Event, Outcome, World};
use sai_core::hub::{Asked, Input as HubInput};
use sai_core::job::{EventId, JobId, JobKey};
use sai_core::ledger::Checkup;
use sai_core::matrix::JobSpec;
use sai_core::plan;
use sai_core::session::Input;
use sai_core::units::WantedBoard;
use sai_core::wire::{Assignment, Session, SessionTold};
use std::collections::BTreeMap;

/// Sessions that a simulated attempt asks for at most.
const MOST: u32 = 3;
/// Looks, of five seconds each, at a world without trouble within which who asks is answered.
const LOOKS: u32 = 8;

/// What gets numbers beside the hub.
#[derive(Clone, Debug)]
pub(super) enum Numbered {
    Session(Asked),
    Check(Checkup),
}

/// A process of a step that has asked for a board.
#[derive(Debug)]
pub(super) struct Asker {
    wanted: WantedBoard,
    /// The session that it was told of.
    job: Option<JobId>,
    /// The attempt of that which has come for it.
    by: Option<JobKey>,
    /// Looks at which it should have been answered, one after the other.
    looks: u32,
}

/// What the processes of an attempt have asked for.
#[derive(Debug, Default)]
pub(super) struct Askers {
    last: u32,
    all: BTreeMap<u32, Asker>,
}

impl World {
    /// A step may want a board, and one that waits may want it no longer.
    pub(super) fn want_boards(&mut self, host: usize, key: JobKey) -> Outcome {
        let here = &self.hosts[host];
        let Some(directory) = here.directories.get(&key) else { return Ok(()) };
        let builds = directory.assignment.as_ref().is_some_and(|assignment| assignment.board.is_none());
        let runs = directory.supervisor.as_ref().is_some_and(Supervisor::runs_a_step);
        if !builds || here.bench.offered.is_empty() {
            return Ok(());
        }
        let last = directory.askers.last;
        let waiting: Vec<u32> =
            directory.askers.all.iter().filter(|(_, asker)| asker.by.is_none()).map(|(number, _)| *number).collect();
        let kinds: Vec<String> = here.bench.offered.iter().map(|board| board.kind.clone()).collect();
        for number in waiting {
            if self.random.chance(5) {
                self.hosts[host].directories.entry(key).or_default().askers.all.remove(&number);
                self.session(host, Input::Session(Session { key, number, board: None }))?;
            }
        }
        if runs && last < MOST && self.random.chance(20) {
            let other = self.random.chance(100).then(|| "nothing".to_string());
            let kind = other.or_else(|| self.random.pick(&kinds)).unwrap_or_default();
            let wanted = WantedBoard { kind, ..WantedBoard::default() };
            let number = last + 1;
            let askers = &mut self.hosts[host].directories.entry(key).or_default().askers;
            askers.last = number;
            askers.all.insert(number, Asker { wanted: wanted.clone(), job: None, by: None, looks: 0 });
            self.session(host, Input::Session(Session { key, number, board: Some(wanted) }))?;
        }
        self.hold_steps(host, key);
        Ok(())
    }

    /// A step that waits for a board, or has one, goes no further meanwhile.
    fn hold_steps(&mut self, host: usize, key: JobKey) {
        let Some(directory) = self.hosts[host].directories.get_mut(&key) else { return };
        let waits = !directory.askers.all.is_empty();
        directory.supervisor.iter_mut().for_each(|supervisor| supervisor.waits_for_board(waits));
    }

    /// A new agent hears from a living supervisor who waits.
    pub(super) fn repeat_asks(&mut self, host: usize) -> Outcome {
        let waiting = |(key, directory): (&JobKey, &Directory)| {
            let all = directory.askers.all.iter().filter(|(_, asker)| asker.by.is_none());
            let asks = |(number, asker): (&u32, &Asker)| Session {
                key: *key,
                number: *number,
                board: Some(asker.wanted.clone()),
            };
            all.map(asks).collect::<Vec<_>>()
        };
        let asks: Vec<Session> = self.hosts[host].directories.iter().flat_map(waiting).collect();
        asks.into_iter().try_for_each(|session| self.session(host, Input::Session(session)))
    }

    /// A supervisor hears what became of a session.
    pub(super) fn told_of_session(&mut self, host: usize, told: SessionTold) -> Outcome {
        let (key, number) = (told.key, told.number);
        if self.bug == Some(Bug::SessionEndUnheard) && told.over.is_some() {
            return Ok(());
        }
        let Some(directory) = self.hosts[host].directories.get_mut(&key) else { return Ok(()) };
        let Some(asker) = directory.askers.all.get_mut(&number).filter(|asker| asker.by.is_none()) else {
            return Ok(());
        };
        let before = asker.job;
        asker.job = told.job.or(before);
        if told.over.is_some() {
            directory.askers.all.remove(&number);
        }
        self.hold_steps(host, key);
        match (before, told.job) {
            (Some(before), Some(job)) if before != job => {
                self.broken("sessions", format!("session {number} of {key} is told as job {before} and as job {job}"))
            }
            _ => Ok(()),
        }
    }

    /// An assignment as an agent begins it: a session is one job, at the machine whose step asked.
    pub(super) fn check_session(&mut self, host: usize, assignment: &Assignment) -> Outcome {
        let Some(of) = assignment.session.as_ref().filter(|_| !self.hosts[host].liar) else { return Ok(()) };
        let (key, job) = (of.key, assignment.key.job);
        let known = *self.oracle.sessions.entry((key, of.number)).or_insert(job);
        if known != job {
            return self.broken("sessions", format!("session {} of {key} is job {known} and job {job}", of.number));
        }
        let (at, name) = (self.oracle.attempts.get(&key).map(|attempt| attempt.host), &self.hosts[host].name);
        if at.is_none_or(|at| self.hosts[at].name != *name) {
            return self.broken("sessions", format!("job {job} of {key} is at {name}, where that one never was"));
        }
        Ok(())
    }

    /// The supervisor of a session comes for whoever asked: whether there is still somebody.
    pub(super) fn come_for(&mut self, host: usize, assignment: &Assignment) -> bool {
        let Some(of) = &assignment.session else { return false };
        let directory = self.hosts[host].directories.get_mut(&of.key);
        let Some(asker) = directory.and_then(|directory| directory.askers.all.get_mut(&of.number)) else {
            return false;
        };
        if asker.by.is_some() {
            return false;
        }
        asker.by = Some(assignment.key);
        self.summary.sessions += 1;
        true
    }

    /// A supervisor is gone: with a build's its askers, and with a session's what it had given.
    pub(super) fn leave_sessions(&mut self, host: usize, key: JobKey) {
        let here = &mut self.hosts[host];
        let Some(directory) = here.directories.get_mut(&key) else { return };
        let askers = std::mem::take(&mut directory.askers.all);
        let of = directory.assignment.as_ref().and_then(|assignment| assignment.session.clone());
        for by in askers.into_values().filter_map(|asker| asker.by) {
            let session = here.directories.get_mut(&by).and_then(|directory| directory.supervisor.as_mut());
            session.into_iter().for_each(Supervisor::step_is_gone);
        }
        let Some(of) = of else { return };
        if let Some(directory) = here.directories.get_mut(&of.key)
            && directory.askers.all.get(&of.number).is_some_and(|asker| asker.by == Some(key))
        {
            directory.askers.all.remove(&of.number);
        }
        self.hold_steps(host, of.key);
    }

    /// Once nothing breaks any more, who asks is answered: told of a session, and of its end.
    pub(super) fn check_askers(&mut self) -> Outcome {
        let Some(hub) = self.master.hub.as_ref().filter(|_| self.calm.is_some()) else { return Ok(()) };
        let mut late = None;
        for host in self.hosts.iter_mut().filter(|host| !host.liar && !host.is_copy) {
            // A link that was cut before that, or stalls, may look well for a minute.
            let link = hub.connected().get(&host.name).map(|connected| connected.link);
            let here = link.is_some_and(|link| host.link == Some(link) && self.network.carries(self.now, link));
            for (key, directory) in &mut host.directories {
                for (number, asker) in &mut directory.askers.all {
                    let ended = |job: JobId| self.master.latest.jobs.get(&job).is_none_or(|job| job.state.ended());
                    let waits = here && asker.by.is_none() && asker.job.is_none_or(ended);
                    asker.looks = if waits { asker.looks + 1 } else { 0 };
                    if asker.looks > LOOKS {
                        late = Some(format!("session {number} of {key}, {asker:?}, is not answered"));
                    }
                }
            }
        }
        late.map_or(Ok(()), |late| self.broken("sessions", late))
    }

    /// An event of one job gets its numbers, and its plan is kept, which may wait for the disk.
    pub(super) fn number(&mut self, what: Numbered, spec: JobSpec) {
        let numbers = self.master.numbers.give(1);
        let wait = self.random.between(1, self.master.slow.max(1));
        self.after(wait, Event::Numbered(self.master.boot, Box::new((what, spec)), numbers));
    }

    pub(super) fn numbered(&mut self, boot: u64, what: (Numbered, JobSpec), numbers: (EventId, JobId)) -> Outcome {
        if boot != self.master.boot || self.master.hub.is_none() {
            return Ok(());
        }
        let (what, spec) = what;
        // A number that was lost with a crash is given again.
        self.saifiles.remove(&numbers.0);
        let row = self.show_files(numbers.0, plan::write(std::slice::from_ref(&spec)).into_bytes());
        let input = match what {
            Numbered::Session(asked) => HubInput::Session(asked, spec, Ok(numbers)),
            Numbered::Check(of) => {
                self.summary.checks += 1;
                HubInput::Check(of, spec, Ok(numbers), None)
            }
        };
        self.hub_with(input, vec![row])
    }
}
