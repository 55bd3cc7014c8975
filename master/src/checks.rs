//! A board of an agent → that board set aside or taken back, or an event with a plan of one job that finds out how well it is.

use crate::action::Done;
use crate::actions::{Actions, ENDING};
use crate::hub::Request;
use crate::plans::{keep_new, not_kept};
use crate::rights::COMMAND_LINE;
use sai_core::hub::{Input, check_of};
use sai_core::job::{EventId, JobId};
use sai_core::ledger::Checkup;
use sai_core::scheduler::BoardRow;
use std::sync::PoisonError;

impl Actions {
    fn board(&self, agent: &str, board: &str) -> Option<BoardRow> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.boards.iter().find(|row| row.agent == agent && row.offered.name == board).cloned()
    }

    /// Sets a board aside, or takes it back.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn set_board_aside(
        &self,
        agent: String,
        board: String,
        aside: bool,
        who: &str,
    ) -> Result<String, String> {
        let known = || self.reader.agent(&agent).and_then(|record| record.boards).unwrap_or_default();
        if self.board(&agent, &board).is_none() && !known().contains_key(&board) {
            return Err(no_board(&agent, &board));
        }
        let what = if aside { "set aside" } else { "took back" };
        let what = format!("{what} board {board} of {agent}");
        let by = aside.then(|| who.to_string());
        self.hub.input(Input::BoardAside(agent, board, by)).await.map_err(|_| ENDING)?;
        self.done(who, what).await
    }

    /// Has it found out how well a board is.
    ///
    /// # Errors
    /// There is none, nobody knows how, or that is being done.
    pub(super) async fn check_board(&self, agent: String, board: String, who: &str) -> Result<Done, String> {
        let row = self.board(&agent, &board).ok_or_else(|| no_board(&agent, &board))?;
        if let Some(job) = row.health.check {
            return Err(format!("job {job} finds that out already"));
        }
        let spec = check_of(&row.offered).ok_or_else(|| {
            format!("{agent} does not know how: its file of boards says so in \"health\" of {board}, and that it is of a new enough version")
        })?;
        let numbers: (EventId, JobId) = self.hub.new_event(1);
        let carried = keep_new(self.store.clone(), numbers.0, &spec).await.map_err(|error| not_kept(&error))?;
        let what = format!("had the health of board {board} of {agent} found out: job {}", numbers.1);
        let person = (who != COMMAND_LINE).then(|| who.to_string());
        let of = Checkup { agent, board, why: format!("asked for by {who}") };
        let input = Input::Check(of, spec, Ok(numbers), person);
        self.hub.request(Request::With(input, carried.into_iter().collect())).await.map_err(|_| ENDING)?;
        let text = self.done(who, what).await?;
        Ok(Done { text, job: Some(numbers.1) })
    }
}

fn no_board(agent: &str, board: &str) -> String {
    format!("no agent {agent:?} that is known offers a board {board:?}")
}
