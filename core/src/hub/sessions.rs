//! What steps of builds ask of boards → sessions: jobs of their own at the same agent, each once however often it is asked for.
//!
//! The number of a session is its attempt's. Which job has it stands in the attempt's record, so that a question which is repeated,
//! since an agent, a link or this master was lost meanwhile, is answered by the session that there is.

use super::{Hub, Output, Touch};
use crate::clock::Now;
use crate::job::{EventId, JobId, JobKey};
use crate::ledger::{self, EventRecord, JobRecord, Source};
use crate::limits::SESSIONS;
use crate::matrix::JobSpec;
use crate::platform;
use crate::scheduler;
use crate::units::WantedBoard;
use crate::wire::{MasterMessage, Session, SessionTold};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

/// A session that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The attempt whose step asks.
    pub key: JobKey,
    /// Which of its sessions.
    pub number: u32,
    /// The agent of both.
    pub agent: String,
}

impl Hub {
    pub(super) fn session_asked(&mut self, now: Now, agent: &str, session: Session, out: &mut Vec<Output>) {
        let Session { key, number, board } = session;
        let asked = Asked { key, number, agent: agent.to_string() };
        match (self.session_known(&asked), board) {
            (Err(why), _) => self.tell_session(&asked, None, Some(why), out),
            (Ok(Some(job)), None) => {
                let why = "whoever asked for it wants it no longer".to_string();
                self.schedule(now, scheduler::Input::Cancel(vec![job], why), out);
            }
            (Ok(Some(job)), Some(_)) => {
                let over = self.session_over(job);
                self.tell_session(&asked, Some(job), over, out);
            }
            (Ok(None), None) => self.tell_session(&asked, None, Some("it was not begun".to_string()), out),
            (Ok(None), Some(wanted)) => match self.session_refused(&asked, &wanted) {
                Some(why) => self.tell_session(&asked, None, Some(why), out),
                None => {
                    if self.beginning.insert((key, number))
                        && let Some(spec) = self.session_spec(&asked, wanted)
                    {
                        out.push(Output::Begin(asked, spec));
                    }
                }
            },
        }
    }

    /// The job that a session is, if there is one; why there can be none where nothing of its attempt runs.
    fn session_known(&self, asked: &Asked) -> Result<Option<JobId>, String> {
        let of = self.scheduler.job(asked.key.job).filter(|_| self.scheduler.holder(asked.key) == Some(&asked.agent));
        let of = of.ok_or("the attempt that asks for it does not run any more")?;
        Ok(of.sessions.iter().flatten().find(|session| session.number == asked.number).map(|session| session.job))
    }

    /// Why a session is over, if it is.
    fn session_over(&self, job: JobId) -> Option<String> {
        match self.scheduler.job(job) {
            Some(record) if !record.state.ended() => None,
            _ => Some(format!("job {job} has ended")),
        }
    }

    /// Why an attempt gets no session at such a board.
    fn session_refused(&self, asked: &Asked, wanted: &WantedBoard) -> Option<String> {
        let of = self.scheduler.job(asked.key.job)?;
        if of.units.as_ref().is_some_and(|units| !units.is_empty()) || of.board.is_some() {
            let text =
                "a job that occupies units itself may not ask for a board: two such jobs could wait for each other";
            return Some(text.to_string());
        }
        let sessions = of.sessions.as_deref().unwrap_or_default();
        if sessions.len() >= SESSIONS {
            return Some(format!("an attempt may ask for {SESSIONS} sessions"));
        }
        if sessions.last().is_some_and(|last| last.number >= asked.number) {
            return Some(format!("session {} was asked for too late", asked.number));
        }
        if let Err(expected) = platform::check_unit(&wanted.kind) {
            return Some(format!("expected {expected}"));
        }
        let boards = self.connected.get(&asked.agent).and_then(|agent| agent.hello.boards.as_deref());
        let boards = boards.unwrap_or_default();
        if boards.iter().any(|board| wanted.is_met_by(board)) {
            return None;
        }
        let offered: Vec<String> = boards.iter().map(|board| format!("{} ({})", board.name, board.kind)).collect();
        let offered = if offered.is_empty() { "none".to_string() } else { offered.join(", ") };
        Some(format!("{} offers no such thing as {wanted}; its boards: {offered}", asked.agent))
    }

    fn session_spec(&mut self, asked: &Asked, wanted: WantedBoard) -> Option<JobSpec> {
        let timeout_s = self.scheduler.job(asked.key.job).map(|of| self.timeout_s(of));
        let Some((of, timeout_s)) = self.scheduler.job(asked.key.job).zip(timeout_s) else {
            self.bugs.note("session: no such job");
            return None;
        };
        let configuration = format!("{}/device", of.configuration);
        let spec = JobSpec::session(of.platform.clone(), configuration, wanted, timeout_s);
        Some(JobSpec { priority: of.priority, ..spec })
    }

    /// A session has its numbers: it is queued in the turn in which its attempt's record tells of it.
    pub(super) fn session_begins(
        &mut self,
        now: Now,
        asked: Asked,
        spec: JobSpec,
        numbers: Result<(EventId, JobId), String>,
        out: &mut Vec<Output>,
    ) {
        if !self.beginning.remove(&(asked.key, asked.number)) {
            return self.bugs.note("session: nobody asked for it");
        }
        let (id, job) = match numbers {
            Ok(numbers) => numbers,
            Err(why) => return self.tell_session(&asked, None, Some(why), out),
        };
        // Its attempt may have ended meanwhile.
        match self.session_known(&asked) {
            Ok(None) => {}
            Ok(Some(_)) => return self.bugs.note("session: it has numbers already"),
            Err(why) => return self.tell_session(&asked, None, Some(why), out),
        }
        let of = self.scheduler.job(asked.key.job);
        let Some((of, plan)) = of.and_then(|of| Some((of, self.plans.get(&of.event)?))) else {
            return self.bugs.note("session: no plan of the job that asks for it");
        };
        let event = EventRecord {
            id,
            subject: format!("session {} of job {}, {} on {}", asked.number, of.id, of.configuration, of.platform),
            source: Source::Session,
            at: now.wall,
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job: job,
            jobs: 1,
            ..plan.event.clone()
        };
        let record = JobRecord {
            platform: spec.platform.clone(),
            configuration: spec.configuration.clone(),
            priority: spec.priority,
            steps: 1,
            session: Some(ledger::SessionOf { key: asked.key, number: asked.number, agent: asked.agent.clone() }),
            ..JobRecord::queued(job, id, &of.repository, now.wall)
        };
        out.push(Output::Event(event.clone()));
        out.push(Output::Touch(Touch::Event(id)));
        let session = ledger::Session { number: asked.number, job };
        self.schedule(now, scheduler::Input::Session(asked.key, session), out);
        self.tell_session(&asked, Some(job), None, out);
        let (specs, jobs, others, person) = (vec![spec], vec![record], Vec::new(), None);
        self.rebuild(now, super::Rebuild { event, specs, jobs, others, person }, out);
    }

    /// Tells the agent of an attempt that a session of it is over; one that is away asks again.
    pub(super) fn session_ended(&mut self, record: &JobRecord, out: &mut Vec<Output>) {
        // Most jobs are none.
        let Some(of) = &record.session else { return };
        let asked = Asked { key: of.key, number: of.number, agent: of.agent.clone() };
        let why = if record.cause.is_empty() { "it has ended".to_string() } else { record.cause.clone() };
        self.tell_session(&asked, Some(record.id), Some(why), out);
    }

    fn tell_session(&self, asked: &Asked, job: Option<JobId>, over: Option<String>, out: &mut Vec<Output>) {
        let told = SessionTold { key: asked.key, number: asked.number, job, over };
        self.send(&asked.agent, MasterMessage::Session(told), out);
    }
}
