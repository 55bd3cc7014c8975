//! Boards of which it is to be found out how well they are → jobs that do that, each an event of its own.
//!
//! Such a job is like others: it waits in the one queue, and nothing but the end of its attempt frees the board. What is done there its
//! agent knows.

use super::leases::PLATFORM;
use super::{Hub, Output, Rebuild, Touch};
use crate::clock::Now;
use crate::job::{EventId, JobId};
use crate::ledger::{Checkup, EventRecord, JobRecord, Source};
use crate::limits::JOB_TIMEOUT_S;
use crate::matrix::JobSpec;
use crate::scheduler;
use crate::units::{OfferedBoard, WantedBoard};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// What stands for the repository of what belongs to none: no name of a repository has a plus, and that of a lease begins with a tilde.
const REPOSITORY: &str = "+boards";
/// What stands for the configuration.
const CONFIGURATION: &str = "health";

/// The plan of a check of this board, if its agent says how that is done.
pub fn check_of(offered: &OfferedBoard) -> Option<JobSpec> {
    let health = offered.health.as_ref()?;
    let rig = offered.boards.as_ref().map(|boards| boards.len() as u32);
    let (kind, name) = (offered.kind.clone(), Some(offered.name.clone()));
    let wanted = WantedBoard { kind, name, rig, ..WantedBoard::default() };
    let timeout_s = health.timeout_s.clamp(1, JOB_TIMEOUT_S);
    Some(JobSpec::session(PLATFORM.to_string(), CONFIGURATION.to_string(), wanted, timeout_s))
}

impl Hub {
    /// The plan of a check that the scheduler asks for.
    pub(super) fn check(&mut self, now: Now, of: Checkup, out: &mut Vec<Output>) {
        let hello = self.connected.get(&of.agent).map(|agent| &agent.hello);
        let offered = hello.and_then(|hello| hello.boards.as_ref()?.iter().find(|board| board.name == of.board));
        match offered.and_then(check_of) {
            Some(spec) => out.push(Output::Check(of, spec)),
            // Offered otherwise meanwhile.
            None => self.schedule(now, scheduler::Input::NotChecked(of.agent, of.board), out),
        }
    }

    /// A check has its numbers, or can have none. `person`: who asked for it, where somebody has.
    pub(super) fn check_begins(
        &mut self,
        now: Now,
        of: Checkup,
        spec: JobSpec,
        numbers: Result<(EventId, JobId), String>,
        person: Option<String>,
        out: &mut Vec<Output>,
    ) {
        let (id, first_job) = match numbers {
            Ok(numbers) => numbers,
            Err(why) => {
                out.push(Output::Say(format!("the health of {}/{} cannot be found out: {why}", of.agent, of.board)));
                return self.schedule(now, scheduler::Input::NotChecked(of.agent, of.board), out);
            }
        };
        let event = EventRecord {
            id,
            repository: REPOSITORY.to_string(),
            url: String::new(),
            reference: String::new(),
            revision: String::new(),
            subject: format!("health of {} at {}: {}", of.board, of.agent, of.why),
            author: person.clone().unwrap_or_default(),
            source: Source::Health,
            at: now.wall,
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job,
            jobs: 1,
        };
        let record = JobRecord {
            platform: spec.platform.clone(),
            configuration: spec.configuration.clone(),
            priority: spec.priority,
            steps: spec.steps_shown() as u32,
            health: Some(of),
            ..JobRecord::queued(first_job, id, REPOSITORY, now.wall)
        };
        out.push(Output::Event(event.clone()));
        out.push(Output::Touch(Touch::Event(id)));
        let (specs, jobs, others) = (vec![spec], vec![record], Vec::new());
        self.rebuild(now, Rebuild { event, specs, jobs, others, person }, out);
    }
}
