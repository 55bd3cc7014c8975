//! Groups of the ledger that carry files of new events → when those files are flushed, so that nothing need carry them any more.
//!
//! Flushing them takes the disk for some milliseconds, which the next steps of the same events' jobs would wait for: it is done
//! in a lull, a few at once. Where there is none it is done all the same before too many are carried, since a start would take
//! long, and whoever ends flushes them all.

use crate::job::EventId;
use crate::limits::Millis;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// How long nothing is written before files of events are flushed, in milliseconds: the next steps of their jobs follow sooner.
pub const QUIET_MS: Millis = 1_000;
/// Events whose files are flushed at once: a few milliseconds, should a group come meanwhile.
pub const AT_ONCE: usize = 16;
/// Events whose files may be carried, with or without a lull.
pub const AT_MOST: usize = 256;

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A group is durable, and carries the files of these events.
    Written(Vec<EventId>),
    /// Nothing more will be written.
    Closing,
    /// The [`Lull::deadline`] has come, and nothing waits to be written.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Flush the files of these events, and say in the ledger that they are durable. If that cannot be done they stay carried
    /// until the next start.
    Flush(Vec<EventId>),
}

/// The events whose files are carried.
#[derive(Clone, Debug, Default)]
pub struct Lull {
    carried: VecDeque<EventId>,
    due: Option<Millis>,
}

impl Lull {
    /// When [`Input::Tick`] is wanted, on the steady clock.
    pub fn deadline(&self) -> Option<Millis> {
        self.due
    }

    /// Takes an input and says what is to be done.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        let most = match input {
            Input::Written(events) => {
                self.carried.extend(events);
                self.due = None;
                AT_MOST - 1
            }
            Input::Closing => 0,
            Input::Tick if self.due.is_some_and(|due| due <= now) => {
                self.due = None;
                self.carried.len().saturating_sub(1).min(AT_MOST - 1)
            }
            Input::Tick => AT_MOST - 1,
        };
        while self.carried.len() > most {
            let some = self.carried.drain(..AT_ONCE.min(self.carried.len())).collect();
            out.push(Output::Flush(some));
        }
        self.due = if self.carried.is_empty() { None } else { self.due.or(Some(now.saturating_add(QUIET_MS))) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn give(lull: &mut Lull, now: Millis, input: Input) -> Vec<Vec<EventId>> {
        let mut out = Vec::new();
        lull.handle(now, input, &mut out);
        out.into_iter().map(|Output::Flush(events)| events).collect()
    }

    fn events(from: EventId, to: EventId) -> Vec<EventId> {
        (from..to).collect()
    }

    #[test]
    fn files_are_flushed_in_a_lull_a_few_at_once() {
        let mut lull = Lull::default();
        assert_eq!(lull.deadline(), None);
        assert!(give(&mut lull, 0, Input::Written(events(0, 20))).is_empty());
        assert_eq!(lull.deadline(), Some(QUIET_MS));
        // Whatever is written ends the lull, and one without events does too.
        assert!(give(&mut lull, 900, Input::Written(vec![])).is_empty());
        assert_eq!(lull.deadline(), Some(900 + QUIET_MS));
        assert!(give(&mut lull, 1_500, Input::Tick).is_empty(), "it is not due");
        assert_eq!(lull.deadline(), Some(900 + QUIET_MS));
        assert_eq!(give(&mut lull, 1_900, Input::Tick), [events(0, 16)]);
        assert_eq!(lull.deadline(), Some(1_900 + QUIET_MS));
        assert_eq!(give(&mut lull, 2_900, Input::Tick), [events(16, 20)]);
        assert_eq!(lull.deadline(), None);
        assert!(give(&mut lull, 2_901, Input::Written(vec![])).is_empty());
        assert_eq!(lull.deadline(), None, "nothing is carried");
    }

    #[test]
    fn without_a_lull_no_more_are_carried_than_a_start_can_take() {
        let mut lull = Lull::default();
        let mut flushed = 0;
        for event in 0..10_000 {
            flushed += give(&mut lull, event, Input::Written(vec![event])).concat().len();
            let carried = event as usize + 1 - flushed;
            assert!(carried < AT_MOST, "{carried}");
        }
        let many = give(&mut lull, 0, Input::Written(events(10_000, 11_000)));
        assert!(many.iter().all(|some| some.len() <= AT_ONCE));
        flushed += many.concat().len();
        assert!(11_000 - flushed < AT_MOST);
    }

    #[test]
    fn whoever_ends_leaves_nothing_carried() {
        let mut lull = Lull::default();
        give(&mut lull, 0, Input::Written(events(0, 40)));
        let ends = give(&mut lull, 1, Input::Closing);
        assert_eq!(ends.concat(), events(0, 40));
        assert!(ends.iter().all(|some| some.len() <= AT_ONCE));
        assert_eq!(lull.deadline(), None);
        assert!(give(&mut lull, 2, Input::Closing).is_empty());
    }
}
