//! What steps want of boards ↔ lines of the control socket, and the log.

use super::Supervisor;
use crate::boards::devices::Devices;
use sai_core::record::Record;

impl Supervisor {
    /// Somebody wants a board, or none any more.
    pub(super) fn hear_of_boards(&mut self) {
        for line in self.devices.as_mut().map(Devices::turn).unwrap_or_default() {
            self.agents.iter_mut().for_each(|agent| agent.say(&line));
        }
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
