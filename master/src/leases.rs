//! A board that a person asks for, or a word at one that is theirs → an event with a plan of one job, or a message for its agent.

use crate::action::Done;
use crate::actions::{Actions, ENDING};
use crate::hub::Request;
use crate::rights::COMMAND_LINE;
use sai_agent::blocking::unblock;
use sai_agent::clock::wall;
use sai_core::hub::{Input, Wish};
use sai_core::lease::{Asking, MOST_S};
use sai_core::ledger::{EventRecord, JobRecord, Source};
use sai_core::matrix::{BoardSpec, JobSpec};
use sai_core::ordered::Map;
use sai_core::plan;
use sai_core::wire::Word;
use std::sync::PoisonError;

/// What stands for the platform of a job that runs on none.
const PLATFORM: &str = "board";

/// What stands for the repository of what a person has without one. It can be no repository's name.
fn of_nobody(person: &str) -> String {
    format!("~{person}")
}

impl Actions {
    /// Asks for a board.
    ///
    /// # Errors
    /// There is none, or what is to be done cannot be kept.
    pub(super) async fn lease(&self, asking: &Asking, who: &str) -> Result<Done, String> {
        if who == COMMAND_LINE {
            return Err("a board is a person's; sign in as one".to_string());
        }
        let boards = self.live.read().unwrap_or_else(PoisonError::into_inner).boards.clone();
        let (wanted, leased) = asking.of(&boards)?;
        let subject = format!("{wanted}, for {who}");
        let spec = JobSpec {
            platform: PLATFORM.to_string(),
            configuration: wanted.kind.clone(),
            steps: Vec::new(),
            env: Map::new(),
            artifacts: Vec::new(),
            timeout_s: Some(MOST_S),
            step_timeout_s: None,
            priority: 0,
            root: None,
            needs: Vec::new(),
            units: Map::new(),
            board: Some(BoardSpec { wanted, trial: String::new() }),
            bundle: None,
        };
        let (id, job) = self.hub.new_event(1);
        let (store, plan) = (self.store.clone(), plan::write(std::slice::from_ref(&spec)));
        let carried = unblock(move || store.files().put_both(id, b"", Some(plan.as_bytes()))).await;
        let carried = carried.map_err(|error| format!("the master cannot keep what is to be done: {error}"))?;
        let event = EventRecord {
            id,
            repository: of_nobody(who),
            url: String::new(),
            reference: String::new(),
            revision: String::new(),
            subject: subject.clone(),
            author: who.to_string(),
            source: Source::Lease,
            at: wall(),
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job: job,
            jobs: 1,
        };
        let input = Input::Lease(Wish { event, spec, leased, person: who.to_string() });
        self.hub.request(Request::With(input, carried.into_iter().collect())).await.map_err(|_| ENDING)?;
        let text = self.done(who, format!("asked for {subject}: job {job}")).await?;
        Ok(Done { text, job: Some(job) })
    }

    /// Says a word at a board.
    ///
    /// # Errors
    /// It is not that person's, or nobody could hear it now.
    pub(super) async fn word(&self, word: Word, who: &str) -> Result<String, String> {
        let id = word.key.job;
        let record = self.reader.job(id).filter(|record| record.lease.is_some());
        let record = record.ok_or_else(|| format!("job {id} is nobody's board"))?;
        if !is_theirs(&record, who) {
            let person = record.person.unwrap_or_default();
            return Err(format!("the board of job {id} is {person}'s"));
        }
        if record.state.ended() || record.attempt != word.key.attempt {
            return Err(format!("attempt {} of job {id} is not under way any more", word.key.attempt));
        }
        let agent = record.agent.unwrap_or_default();
        let live =
            self.live.read().unwrap_or_else(PoisonError::into_inner).agents.get(&agent).map(|live| live.connected);
        if live != Some(true) {
            return Err(format!("{agent} is away now"));
        }
        self.hub.input(Input::Word(word)).await.map_err(|_| ENDING)?;
        Ok("it was passed on; the log tells what becomes of it".to_string())
    }
}

/// Whether somebody may use the board of a lease.
fn is_theirs(record: &JobRecord, who: &str) -> bool {
    let others = record.lease.iter().flat_map(|leased| leased.people.iter().flatten());
    record.person.as_deref() == Some(who) || others.into_iter().any(|person| person == who)
}
