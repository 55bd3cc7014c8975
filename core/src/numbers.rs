//! Events, jobs and actions that there were → the numbers that the next ones get, none of which was ever given.
//!
//! What has a number may be deleted, and an address that names it must not come to mean something else. So what counts is all
//! that ever was on record, and after damage what may have been.

use crate::job::{EventId, JobId};

/// Jobs that one lost line may have told of: far more than a saifile makes. So many numbers are passed over for it.
pub const JOBS_A_LINE: u64 = 4096;

/// The numbers that the next event, job and action get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// An event's.
    pub event: EventId,
    /// A job's.
    pub job: JobId,
    /// An action's.
    pub action: u64,
}

impl Default for Numbers {
    fn default() -> Self {
        Self::FIRST
    }
}

impl Numbers {
    /// Those of the first ones.
    pub const FIRST: Self = Self { event: 1, job: 1, action: 1 };

    /// Passes over what was given elsewhere.
    pub fn at_least(&mut self, other: Self) {
        self.event = self.event.max(other.event);
        self.job = self.job.max(other.job);
        self.action = self.action.max(other.action);
    }

    /// There was this event, with so many jobs.
    pub fn saw_event(&mut self, event: EventId, first_job: JobId, jobs: u64) {
        let (event, job) = (event.saturating_add(1), first_job.saturating_add(jobs));
        self.at_least(Self { event, job, ..Self::FIRST });
    }

    /// There was this job.
    pub fn saw_job(&mut self, job: JobId) {
        self.job = self.job.max(job.saturating_add(1));
    }

    /// There was this action.
    pub fn saw_action(&mut self, action: u64) {
        self.action = self.action.max(action.saturating_add(1));
    }

    /// So many lines are lost, each of which may have told of any of them.
    pub fn pass_over(&mut self, lines: u64) {
        self.event = self.event.saturating_add(lines);
        self.job = self.job.saturating_add(lines.saturating_mul(JOBS_A_LINE));
        self.action = self.action.saturating_add(lines);
    }

    /// Gives a number to an action.
    pub fn give_action(&mut self) -> u64 {
        let given = self.action;
        self.saw_action(given);
        given
    }

    /// Gives a number to an event, and numbers without a gap to its jobs, of which this is the first.
    pub fn give(&mut self, jobs: u64) -> (EventId, JobId) {
        let given = (self.event, self.job);
        self.saw_event(given.0, given.1, jobs);
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_given_twice_whatever_is_deleted_or_lost() {
        let mut numbers = Numbers::FIRST;
        assert_eq!(numbers.give(3), (1, 1));
        assert_eq!(numbers.give(0), (2, 4));
        assert_eq!(numbers.give(1), (3, 4));
        // A start reads what there is, in any order.
        let mut read = Numbers::FIRST;
        read.saw_job(2);
        read.saw_event(3, 4, 1);
        read.saw_event(1, 1, 3);
        read.saw_action(7);
        assert_eq!(read, Numbers { event: 4, job: 5, action: 8 });
        assert_eq!(read.give(2), (4, 5));
        read.pass_over(2);
        assert_eq!(read, Numbers { event: 7, job: 7 + 2 * JOBS_A_LINE, action: 10 });
        assert_eq!((read.give_action(), read.give_action()), (10, 11));
        // Somebody acts while a start reads what there is: none of either is given again.
        let mut given = Numbers::FIRST;
        assert_eq!((given.give_action(), given.give(2)), (1, (1, 1)));
        given.at_least(Numbers { action: 2, event: 9, job: 1 });
        assert_eq!((given.give_action(), given.give(1)), (2, (9, 3)));
        read.at_least(Numbers { event: 9, ..Numbers::FIRST });
        assert_eq!((read.event, read.action), (9, 12));
        // The largest number there is: nothing wraps.
        read.saw_event(u64::MAX, u64::MAX, 4);
        read.saw_action(u64::MAX);
        assert_eq!((read.give(4), read.give_action()), ((u64::MAX, u64::MAX), u64::MAX));
    }
}
