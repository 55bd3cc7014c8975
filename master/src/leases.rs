//! A board that a person asks for, or a word at one that is theirs → an event with a plan of one job, or a message for its agent.

use crate::action::{Done, Piece};
use crate::actions::{Actions, ENDING};
use crate::hub::Request;
use crate::plans::{keep_new, not_kept};
use crate::rights::COMMAND_LINE;
use sai_agent::blocking::unblock;
use sai_agent::clock::wall;
use sai_core::hub::{Input, Wish};
use sai_core::job::JobId;
use sai_core::lease::Asking;
use sai_core::requests::{self, Sharing};
use sai_core::wire::Word;
use std::sync::PoisonError;

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
        let board = asking.of(&boards)?;
        let (id, job) = self.hub.new_event(1);
        let wish = Wish::new((id, job), board, who, wall());
        let what = format!("asked for {}: job {job}", wish.event.subject);
        let carried = keep_new(self.store.clone(), id, &wish.spec).await.map_err(|error| not_kept(&error))?;
        self.hub.request(Request::With(Input::Lease(wish), carried.into_iter().collect())).await.map_err(|_| ENDING)?;
        let text = self.done(who, what).await?;
        Ok(Done { text, job: Some(job) })
    }

    /// Says a word at a board.
    ///
    /// # Errors
    /// It is not that person's, or nobody could hear it now.
    pub(super) async fn word(&self, word: Word, who: &str) -> Result<String, String> {
        let id = word.key.job;
        let record = self.reader.job(id);
        requests::may_say(id, record.as_ref(), word.key.attempt, who)?;
        let agent = record.and_then(|record| record.agent).unwrap_or_default();
        let live =
            self.live.read().unwrap_or_else(PoisonError::into_inner).agents.get(&agent).map(|live| live.connected);
        if live != Some(true) {
            return Err(format!("{agent} is away now"));
        }
        self.hub.input(Input::Word(word)).await.map_err(|_| ENDING)?;
        Ok("it was passed on; the log tells what becomes of it".to_string())
    }

    /// Takes a piece of an image for a board; how many bytes are there then.
    ///
    /// # Errors
    /// The board is not that person's, or the piece cannot be kept.
    pub(super) async fn image(&self, job: JobId, piece: Piece, who: &str) -> Result<String, String> {
        let record = self.reader.job(job);
        let attempt = record.as_ref().map_or(0, |record| record.attempt);
        requests::may_say(job, record.as_ref(), attempt, who)?;
        let (uploads, who) = (self.uploads.clone(), who.to_string());
        unblock(move || uploads.take(&who, Some(job), &piece)).await.map(|there| there.to_string())
    }

    /// Shares a board with somebody, or does so no more.
    ///
    /// # Errors
    /// It is not that person's, or there is no such other one.
    pub(super) async fn share(&self, sharing: Sharing, who: &str) -> Result<String, String> {
        let record = self.reader.job(sharing.job);
        requests::may_share(&sharing, record.as_ref(), who, &self.reader.users())?;
        let Sharing { job, person, shared } = sharing.clone();
        self.hub.input(Input::Share(sharing)).await.map_err(|_| ENDING)?;
        let what = if shared { "shared the board of job" } else { "ended the sharing of the board of job" };
        self.done(who, format!("{what} {job} with {person}")).await
    }
}
