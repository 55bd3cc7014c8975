//! Agents that are there → how far their clocks are ahead, in the records of what they run.

use super::{Connected, Hub, Output};
use crate::clock::Now;
use crate::ledger::JobRecord;
use crate::limits::Millis;
use crate::offset::Offset;
use crate::wire::{MasterMessage, Ping, Pong};
use alloc::vec::Vec;

impl Hub {
    /// Something has come of an agent, or goes there: its clock is asked for, where that is due.
    pub(super) fn ask_clock(&mut self, now: Now, agent: &str, out: &mut Vec<Output>) {
        // One that does not say its instance knows no pings.
        let Some(connected) = self.connected.get_mut(agent).filter(|one| one.hello.instance.is_some()) else { return };
        if let Some((gauge, number)) = connected.clock.asking(now) {
            connected.clock = gauge;
            let link = connected.link;
            out.push(Output::Send(link, MasterMessage::Ping(Ping { number })));
        }
    }

    pub(super) fn clock_told(&mut self, now: Now, agent: &str, pong: &Pong) {
        if let (Some(connected), Some(theirs)) = (self.connected.get_mut(agent), pong.wall) {
            connected.clock = connected.clock.answered(now, pong.number, theirs);
        }
    }

    /// The record with what is known of the clock by which its log is stamped: nothing once it is another's.
    pub(super) fn with_clock(&self, now: Now, record: JobRecord) -> JobRecord {
        let agent = record.agent.as_ref().and_then(|agent| self.connected.get(agent));
        let known = agent.and_then(|agent| agent.clock_ahead(now.steady));
        JobRecord { clock: known.or(record.clock), ..record }
    }
}

impl Connected {
    /// How far its clock is ahead of the master's, as far as that is known.
    pub fn clock_ahead(&self, now: Millis) -> Option<Offset> {
        self.clock.offset(now)
    }
}
