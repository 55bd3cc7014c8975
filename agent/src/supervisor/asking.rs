//! A file that is wanted ↔ lines of the control socket: what a supervisor asks of its agent, whichever that is.

use super::Supervisor;
use crate::mirror::Trouble;
use crate::needs::Want;
use sai_core::job::Blame;
use sai_core::record::Record;
use std::path::PathBuf;

/// The line that asks for a file.
pub(super) fn line(want: &Want) -> String {
    let what = if want.again { "again" } else { "new" };
    format!("W {} {} {what}\n", want.sha256, want.size)
}

impl Supervisor {
    /// Asks for a file: the agent that is there, and each that comes until there is an answer.
    pub(super) fn want(&mut self, want: Want) {
        if self.teller.stop.asked() {
            self.answer(Err(Trouble::ours("getting the files of needs was stopped")));
            return;
        }
        let line = line(&want);
        for agent in &mut self.agents {
            agent.say(&line);
        }
        self.wanted = Some(want);
    }

    /// A file that an agent has got is wanted no more.
    pub(super) fn unwanted(&mut self, sha256: &str) {
        self.agents.iter_mut().for_each(|agent| agent.say(&format!("F {sha256}\n")));
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn answer(&mut self, answer: Result<PathBuf, Trouble>) {
        self.wanted = None;
        // Nobody waits once the files are there, and then nothing is asked for any more.
        let _ = self.answers.as_ref().map(|answers| answers.try_send(answer));
    }

    /// Takes what an agent says of the file that is wanted. What it says of another one comes too late.
    pub(super) fn hear_of_file(&mut self, line: &str) {
        let Some(want) = &self.wanted else { return };
        let mut parts = line.splitn(3, ' ');
        let (kind, sha256, rest) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
        if sha256 != Some(want.sha256.as_str()) {
            return;
        }
        match kind {
            Some("H") => self.answer(Ok(PathBuf::from(rest))),
            Some("P") => {
                let (bytes, why) = rest.split_once(' ').unwrap_or((rest, ""));
                let colon = if why.is_empty() { "" } else { ": " };
                let note = format!("{bytes} of {} bytes of a file of needs are here{colon}{why}", want.size);
                self.log(&Record::Note(note));
            }
            Some("G") => {
                let (word, why) = rest.split_once(' ').unwrap_or((rest, ""));
                let trouble = Trouble { blame: Blame::of(Some(word)), ..Trouble::ours(why) };
                self.answer(Err(trouble));
            }
            _ => {}
        }
    }
}
