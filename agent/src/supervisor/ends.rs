//! What has become of a process or a container → the end of a step, or of all.

use super::Supervisor;
use crate::executor::container::Contained;
use crate::executor::{Ended, Pipe, Running};
use rustix::io::ioctl_fionread;
use rustix::process::WaitStatus;
use sai_core::record::Record;
use sai_core::run::Input;

impl Supervisor {
    pub(super) fn step_ended(&mut self, ended: Ended) {
        self.step = None;
        let limit = self.executor.reached(ended);
        let held = |pipe: &Pipe| ioctl_fionread(&pipe.read).unwrap_or(0);
        self.exited = Some(Exited { ended, limit, left: [held(&self.pipes[0]), held(&self.pipes[1])] });
    }

    /// Takes what the container tells of the end of steps.
    pub(super) fn look_inside(&mut self) {
        let Some(contained) = self.executor.contained().filter(|_| self.step == Some(Running::Inside)) else { return };
        let ended = contained.take_statuses();
        if let Some((_, ended)) = ended.into_iter().find(|(step, _)| *step == self.run.step()) {
            self.step_ended(ended);
        }
    }

    /// A container ends with us, or because the job has killed what is in it, or through somebody outside.
    pub(super) fn container_ended(&mut self, status: WaitStatus) {
        self.look_inside();
        if let Some(contained) = self.executor.contained() {
            contained.set_ended();
        }
        let inside = self.step == Some(Running::Inside);
        if let (Some(number), false) = (status.terminating_signal(), self.sweep.is_under_way()) {
            let why = format!("the container's runner was ended by signal {number}");
            self.input(Input::Lost { why });
        } else if inside {
            if !self.sweep.is_under_way() {
                let mut note = "the container has ended before the step, whose processes it took along".to_string();
                let words = self.executor.contained().map_or_else(String::new, Contained::words_of_the_loop);
                if !words.is_empty() {
                    note.push_str("; its shell said: ");
                    note.push_str(&words);
                }
                self.log(&Record::Note(note));
            }
            self.step_ended(Ended::KILLED);
        }
    }
}

/// What is known of a step that has ended, until all it had printed by then is read.
pub(super) struct Exited {
    pub(super) ended: Ended,
    pub(super) limit: Option<String>,
    /// Bytes of its output that are still in the pipes.
    pub(super) left: [u64; 2],
}

impl Exited {
    pub(super) fn input(self) -> Input {
        let Ended { status, signalled } = self.ended;
        Input::StepExited { status, signalled, limit: self.limit }
    }
}

/// The convention of shells: 128 + signal number for one that a signal ended.
pub(super) fn ended(status: WaitStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => Ended { status, signalled: false },
        (None, Some(signal)) => Ended { status: 128 + signal, signalled: true },
        (None, None) => Ended { status: -1, signalled: false },
    }
}
