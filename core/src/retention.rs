//! Events, newest first → which of them have outlived their use: the decision alone, without a clock or a disk.

use crate::job::EventId;
use crate::ledger::EventRecord;
use crate::limits::Millis;
use crate::ordered::{Map, Set};
use alloc::string::String;

/// Events kept for each repository unless the configuration says otherwise: some months of a busy project.
pub const KEPT_EVENTS: usize = 1000;

/// Refs of one repository whose newest event is kept however old it is. More than people look at; it bounds what a
/// server that makes a branch for every change leaves behind.
pub const KEPT_REFS: usize = 1000;

const DAY: Millis = 24 * 60 * 60 * 1000;

/// What the configuration says about keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Events kept for each repository.
    pub events: usize,
    /// Days after which an event may go even when there are fewer; none: never for its age.
    pub days: Option<u64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { events: KEPT_EVENTS, days: None }
    }
}

/// Judges events one after the other, newest first, over all repositories.
#[derive(Clone, Debug)]
pub struct Retention {
    policy: Policy,
    now: Millis,
    repositories: Map<String, Seen>,
    last: Option<EventId>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    events: usize,
    refs: Set<String>,
}

impl Retention {
    /// Nothing judged yet; `now` in Unix milliseconds.
    pub fn new(policy: Policy, now: Millis) -> Self {
        Self { policy, now, repositories: Map::new(), last: None }
    }

    /// Whether this event may be deleted; `finished`: none of its jobs is still to end.
    ///
    /// Never one with an unfinished job, and never the newest of its ref: people expect the last result of a branch to
    /// stay. Events must come newest first, each once.
    pub fn expired(&mut self, event: &EventRecord, finished: bool) -> bool {
        debug_assert!(self.last.is_none_or(|last| event.id < last), "events must come newest first");
        self.last = Some(event.id);
        let seen = self.repositories.get_or_default(event.repository.clone());
        seen.events = seen.events.saturating_add(1);
        let newest_of_ref = seen.refs.len() < KEPT_REFS && seen.refs.insert(event.reference.clone());
        if !finished || newest_of_ref {
            return false;
        }
        let age = self.now.saturating_sub(event.at);
        let old = self.policy.days.is_some_and(|days| age > days.saturating_mul(DAY));
        old || seen.events > self.policy.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Source;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn event(id: EventId, repository: &str, branch: &str, at: Millis) -> EventRecord {
        EventRecord {
            id,
            repository: repository.to_string(),
            url: String::new(),
            reference: format!("refs/heads/{branch}"),
            revision: String::new(),
            subject: String::new(),
            author: String::new(),
            source: Source::Poke,
            at,
            errors: Vec::new(),
            warnings: Vec::new(),
            first_job: 0,
            jobs: 0,
        }
    }

    #[test]
    fn keeps_the_newest_of_each_repository() {
        let mut retention = Retention::new(Policy { events: 2, days: None }, 0);
        let gone: Vec<_> = (1..=9)
            .rev()
            .map(|id| event(id, if id % 3 == 0 { "a" } else { "b" }, "main", 0))
            .filter(|event| retention.expired(event, true))
            .map(|event| event.id)
            .collect();
        assert_eq!(gone, [5, 4, 3, 2, 1]);
    }

    #[test]
    fn spares_the_unfinished_and_the_newest_of_each_ref() {
        let mut retention = Retention::new(Policy { events: 1, days: None }, 0);
        let judge = |retention: &mut Retention, id, branch: &str, finished| {
            retention.expired(&event(id, "a", branch, 0), finished)
        };
        assert!(!judge(&mut retention, 9, "main", true), "the newest of main");
        assert!(!judge(&mut retention, 8, "main", false), "unfinished");
        assert!(judge(&mut retention, 7, "main", true));
        assert!(!judge(&mut retention, 6, "old-branch", true), "the newest of its ref");
        assert!(judge(&mut retention, 5, "old-branch", true));
    }

    #[test]
    fn age_deletes_even_when_there_are_few() {
        let mut retention = Retention::new(Policy { events: 100, days: Some(2) }, 10 * DAY);
        assert!(!retention.expired(&event(4, "a", "main", 0), true), "the newest of its ref, however old");
        assert!(!retention.expired(&event(3, "a", "main", 8 * DAY), true), "two days to the millisecond");
        assert!(retention.expired(&event(2, "a", "main", 8 * DAY - 1), true));
        assert!(!retention.expired(&event(1, "a", "main", 11 * DAY), true), "a clock that went back is no age");
    }

    #[test]
    fn the_number_of_spared_refs_is_bounded() {
        let mut retention = Retention::new(Policy { events: 0, days: None }, 0);
        let newest = KEPT_REFS as EventId + 10;
        let kept =
            (0..newest).filter(|n| !retention.expired(&event(newest - n, "a", &format!("b{n}"), 0), true)).count();
        assert_eq!(kept, KEPT_REFS);
    }
}
