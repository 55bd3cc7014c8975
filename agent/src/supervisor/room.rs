//! What the log's backlog decides → bytes in the spool, and room for them where the job itself has taken all there was.

use super::Supervisor;
use super::helpers::ring;
use crate::remove_tree::remove_tree;
use sai_core::backlog::{Input, Output};

impl Supervisor {
    /// Tells the backlog something, and carries out what it says.
    pub(super) fn tell_backlog(&mut self, input: Input) {
        let (mut decided, mut next) = (Vec::new(), Some(input));
        while let Some(input) = next.take() {
            let full = self.backlog.is_full();
            self.backlog.handle(self.now(), input, &mut decided);
            if full && !self.backlog.is_full() {
                // What a helper has told meanwhile was heard by nobody, and it rings once.
                ring(&self.wake);
            }
            for output in std::mem::take(&mut decided) {
                match output {
                    Output::Write if self.write() => {
                        self.batch.clear();
                        next = Some(Input::Written);
                    }
                    Output::Write => next = Some(Input::Refused),
                    Output::GiveUp => self.given_up = true,
                    Output::Bug(what) => self.bug(what),
                }
            }
        }
    }

    /// Appends the batch to the spool, if there is room or can be made.
    fn write(&mut self) -> bool {
        if self.spool.append(&self.batch).is_ok() {
            return true;
        }
        if !self.closed {
            return false;
        }
        // Behind the verdict nobody wants the job's files any more, and often it is they that have taken the room.
        let _ = remove_tree(&self.workspace.work);
        let _ = remove_tree(&self.workspace.job.join("upper"));
        self.spool.append(&self.batch).is_ok()
    }

    /// Gives up what nobody wants any more of a job whose processes are gone, so that the rest of what they printed has room. Only
    /// files to keep are still looked for, in the checkout.
    pub(super) fn make_room(&self) {
        let workspace = &self.workspace;
        let checkout = self.assignment.artifacts.is_empty().then_some(&workspace.source);
        for place in [&workspace.temporary, &workspace.needs, &workspace.home].into_iter().chain(checkout) {
            let _ = remove_tree(place);
        }
    }
}
