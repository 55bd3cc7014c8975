//! What steps want of boards ↔ lines of the control socket, and the log; and what is done at a board by a job at one, or a session.

use super::Supervisor;
use super::helpers::{Getter, thread, try_board};
use crate::boards::devices::Devices;
use crate::boards::{Files, Work, trial};
use crate::job_directory::{JobDirectory, connect};
use crate::mirror::Trouble;
use sai_core::record::Record;
use sai_core::run::Input;
use sai_core::wire::SessionOf;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// A connection to the supervisor of the build whose step asked for a session: none where that has ended, with all that it ran.
fn build_of(job: &Path, session: &SessionOf) -> Option<UnixStream> {
    let directory = JobDirectory::open(&job.parent()?.join(session.key.to_string())).ok()?;
    connect(&directory).ok()
}

impl Supervisor {
    pub(super) fn try_board(&mut self) {
        let getter = self.getter();
        let job = self.directory.path();
        let words = self.assignment.lease.as_ref().and_then(|_| UnixDatagram::pair().ok());
        let words = words.filter(|(ours, theirs)| [ours, theirs].iter().all(|end| end.set_nonblocking(true).is_ok()));
        let (ours, theirs) = words.unzip();
        self.words = ours;
        let work = Work {
            build: self.assignment.session.as_ref().and_then(|session| build_of(job, session)),
            words: theirs,
            getter,
            images: job.join("work"),
            place: self.options.boards.clone(),
            assignment: self.assignment.clone(),
            files: self.workspace.needs.clone(),
            began_ns: trial::now_ns().saturating_sub(self.begin.elapsed().as_nanos() as u64),
        };
        let (teller, refused) = (self.teller.clone(), Arc::clone(&self.refused));
        let started = thread("board", move || try_board(work, &teller, &refused));
        self.helping = started.is_ok();
        if let Err(error) = started {
            self.input(Input::Tried(Some(Trouble::disk("beginning at the board", &error).verdict())));
        }
    }

    /// What gets the images of the person who has the board.
    fn getter(&mut self) -> Option<Box<dyn Files>> {
        self.assignment.lease.as_ref()?;
        let (sender, answers) = sync_channel(1);
        self.answers = Some(sender);
        Some(Box::new(Getter { key: self.assignment.key, teller: self.teller.clone(), answers }))
    }

    /// Somebody wants a board, or none any more.
    pub(super) fn hear_of_boards(&mut self) {
        for line in self.devices.as_mut().map(Devices::turn).unwrap_or_default() {
            self.agents.iter_mut().for_each(|agent| agent.say(&line));
        }
    }

    /// The person says something who has the board by a lease. Where it cannot be taken now it is said again.
    pub(super) fn hear_word(&self, word: &str) {
        let _ = self.words.as_ref().map(|words| words.send(word.as_bytes()));
    }

    /// An agent says what became of that.
    pub(super) fn told_of_board(&mut self, told: &str) {
        if let Some(note) = self.devices.as_mut().and_then(|devices| devices.told(told)) {
            self.log(&Record::Note(note));
        }
    }

    /// The supervisor of a session comes for whoever wanted it.
    pub(super) fn hand_over(&mut self, at: usize, number: &str) {
        if let Some((devices, agent)) = self.devices.as_mut().zip(self.agents.get(at)) {
            devices.hand_over(number, &agent.socket);
        }
    }
}
