//! What has become of a process or a container → the end of a step, or of all.

use super::Supervisor;
use crate::executor::{Pipe, Running};
use rustix::io::ioctl_fionread;
use rustix::process::WaitStatus;
use sai_core::record::Record;
use sai_core::run::Input;

/// The exit status of a step that ended with its container: that of one that was killed.
pub(super) const KILLED: i32 = 128 + 9;

impl Supervisor {
    pub(super) fn step_ended(&mut self, status: i32) {
        self.step = None;
        let held = |pipe: &Pipe| ioctl_fionread(&pipe.read).unwrap_or(0);
        self.exited = Some((status, [held(&self.pipes[0]), held(&self.pipes[1])]));
    }

    /// Takes what the container tells of the end of steps.
    pub(super) fn look_inside(&mut self) {
        let Some(contained) = self.executor.contained().filter(|_| self.step == Some(Running::Inside)) else { return };
        let ended = contained.take_statuses();
        if let Some((_, status)) = ended.into_iter().find(|(step, _)| *step == self.run.step()) {
            self.step_ended(status);
        }
    }

    /// A container ends with us, or because the job has killed what is in it, or through somebody outside.
    pub(super) fn container_ended(&mut self, status: WaitStatus) {
        self.look_inside();
        if let Some(contained) = self.executor.contained() {
            contained.set_ended();
        }
        let inside = self.step == Some(Running::Inside);
        if let (Some(number), None) = (status.terminating_signal(), self.killing_since) {
            let why = format!("the container's runner was ended by signal {number}");
            self.input(Input::Lost { why });
        } else if inside {
            if self.killing_since.is_none() {
                self.log(&Record::Note(
                    "the container has ended before the step, whose processes it took along".into(),
                ));
            }
            self.step_ended(KILLED);
        }
    }
}

/// The convention of shells: 128 + signal number for one that a signal ended.
pub(super) fn exit_status(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
