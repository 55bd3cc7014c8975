//! Events, newest first → which of them have outlived their use: the decision alone, without a clock or a disk.
//!
//! What is deleted for its age does not come back when a clock that was ahead does. So the clock alone is never believed: see
//! [`Evidence`].

use crate::clock::Now;
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
/// How far the wall clock may be from what the steady one says before that is a leap: more than both drift apart in a year.
const LEAP: Millis = 60 * 60 * 1000;
/// Time without a record that is as good a sign of a clock that leapt while nobody ran: more than a usual holiday's.
const SILENCE: Millis = 7 * DAY;
/// How long the clock must have gone on after a leap or a silence before it is believed: long enough that somebody sees the wrong
/// date, also over a weekend.
const PROBATION: Millis = 4 * DAY;

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

/// Watches that the wall clock goes with the steady one.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    begun: Now,
}

/// What a watched clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Unix milliseconds.
    pub now: Millis,
    /// Since when, by itself, it has gone as it should.
    pub since: Millis,
}

impl Watch {
    /// From here on.
    pub fn begin(now: Now) -> Self {
        Self { begun: now }
    }

    /// What it says now. After a leap, to wherever, it is watched anew.
    pub fn look(&mut self, now: Now) -> Watched {
        let passed = |begun: Now| now.steady.saturating_sub(begun.steady);
        if now.wall.abs_diff(self.begun.wall.saturating_add(passed(self.begun))) > LEAP {
            self.begun = now;
        }
        Watched { now: now.wall, since: now.wall.saturating_sub(passed(self.begun)) }
    }
}

/// What age something has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// Not beyond the limit.
    Young,
    /// Beyond it.
    Old,
    /// Beyond it only if the clock is right, and that is not borne out yet.
    Doubtful,
}

/// Whether something is older than a limit, as far as it is borne out that time has passed: by a process that watched the clock
/// go, and before that by records, one soon after the other. Behind a silence the clock may have leapt; what is older is old
/// when the time since then is enough, or when the clock has gone on since then for some days and nobody has set it back.
#[derive(Clone, Copy, Debug)]
pub struct Evidence {
    limit: Millis,
    now: Millis,
    /// The earliest time that is borne out so far.
    edge: Millis,
    /// Whether there was a silence before that.
    ended: bool,
}

impl Evidence {
    /// What the watched clock alone bears out; `limit` in milliseconds.
    pub fn new(clock: Watched, limit: Millis) -> Self {
        Self { limit, now: clock.now, edge: clock.since, ended: false }
    }

    /// There is a record of this time. They come newest first; what a clock that was ahead has written counts as of the time
    /// of the one after it.
    pub fn record(&mut self, at: Millis) {
        // A leap that is too short to be seen takes from nothing more than half of its time.
        let silence = SILENCE.min(self.limit / 2);
        self.ended |= self.edge.saturating_sub(at) > silence;
        if !self.ended {
            self.edge = self.edge.min(at);
        }
    }

    /// How old something of this time is. All newer records must have been given before.
    pub fn age(&self, at: Millis) -> Age {
        if self.now.saturating_sub(at) <= self.limit {
            return Age::Young;
        }
        let borne_out = self.now.saturating_sub(self.edge);
        // Without a silence all times after the records' first are borne out; so much must be known of any.
        let in_sight = !self.ended && at >= self.edge;
        if in_sight || borne_out >= PROBATION.min(self.limit) { Age::Old } else { Age::Doubtful }
    }
}

/// Judges events one after the other, newest first, over all repositories.
#[derive(Clone, Debug)]
pub struct Retention {
    policy: Policy,
    evidence: Option<Evidence>,
    repositories: Map<String, Seen>,
    last: Option<EventId>,
    /// Events that are kept only because it is in doubt how old they are.
    pub doubtful: u64,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    events: usize,
    refs: Set<String>,
}

impl Retention {
    /// Nothing judged yet.
    pub fn new(policy: Policy, clock: Watched) -> Self {
        let evidence = policy.days.map(|days| Evidence::new(clock, days.saturating_mul(DAY)));
        Self { policy, evidence, repositories: Map::new(), last: None, doubtful: 0 }
    }

    /// Whether this event may be deleted; `finished`: none of its jobs is still to end.
    ///
    /// Never one with an unfinished job, and never the newest of its ref: people expect the last result of a branch to
    /// stay. Events must come newest first, each once.
    pub fn expired(&mut self, event: &EventRecord, finished: bool) -> bool {
        debug_assert!(self.last.is_none_or(|last| event.id < last), "events must come newest first");
        self.last = Some(event.id);
        let age = self.evidence.as_mut().map_or(Age::Young, |evidence| {
            evidence.record(event.at);
            evidence.age(event.at)
        });
        let seen = self.repositories.get_or_default(event.repository.clone());
        seen.events = seen.events.saturating_add(1);
        let newest_of_ref = seen.refs.len() < KEPT_REFS && seen.refs.insert(event.reference.clone());
        if !finished || newest_of_ref {
            return false;
        }
        let expired = age == Age::Old || seen.events > self.policy.events;
        self.doubtful += u64::from(age == Age::Doubtful && !expired);
        expired
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

    /// A clock that was watched for as long as there are events.
    fn watched(now: Millis) -> Watched {
        Watched { now, since: 0 }
    }

    #[test]
    fn keeps_the_newest_of_each_repository() {
        let mut retention = Retention::new(Policy { events: 2, days: None }, watched(0));
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
        let mut retention = Retention::new(Policy { events: 1, days: None }, watched(0));
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
        let mut retention = Retention::new(Policy { events: 100, days: Some(2) }, watched(10 * DAY));
        assert!(!retention.expired(&event(4, "a", "main", 0), true), "the newest of its ref, however old");
        assert!(!retention.expired(&event(3, "a", "main", 8 * DAY), true), "two days to the millisecond");
        assert!(retention.expired(&event(2, "a", "main", 8 * DAY - 1), true));
        assert!(!retention.expired(&event(1, "a", "main", 11 * DAY), true), "a clock that went back is no age");
    }

    #[test]
    fn the_number_of_spared_refs_is_bounded() {
        let mut retention = Retention::new(Policy { events: 0, days: None }, watched(0));
        let newest = KEPT_REFS as EventId + 10;
        let kept =
            (0..newest).filter(|n| !retention.expired(&event(newest - n, "a", &format!("b{n}"), 0), true)).count();
        assert_eq!(kept, KEPT_REFS);
    }

    /// What becomes of events, their times in days and the newest first, after `days` days: those that are deleted, and how many
    /// are in doubt.
    fn deleted(clock: Watched, days: u64, at: &[u64]) -> (Vec<u64>, u64) {
        let mut retention = Retention::new(Policy { events: 1000, days: Some(days) }, clock);
        let newest = at.len() as EventId;
        // The newest of its ref stays anyway.
        assert!(!retention.expired(&event(newest + 1, "a", "main", clock.now), true));
        let mut judge = |(index, at): (usize, &u64)| {
            retention.expired(&event(newest - index as EventId, "a", "main", at * DAY), true).then_some(*at)
        };
        let gone = at.iter().enumerate().filter_map(&mut judge).collect();
        (gone, retention.doubtful)
    }

    /// Minutes of a machine that runs: the wall clock, and what it watched.
    fn at(day: Millis, since: Millis) -> Watched {
        Watched { now: day * DAY, since: since * DAY }
    }

    #[test]
    fn a_clock_that_is_ten_years_ahead_deletes_nothing() {
        let all: Vec<u64> = (0..100).rev().collect();
        // All is well: those of more than thirty days go.
        assert_eq!(deleted(at(100, 100), 30, &all).0, (0..70).rev().collect::<Vec<_>>());
        // The clock leaps while nobody runs, or under a running master, which begins to watch anew.
        let ahead = 100 + 3650;
        let silent = |since| {
            let mut retention = Retention::new(Policy { events: 1000, days: Some(30) }, at(ahead, since));
            let gone: Vec<_> =
                (0..100).rev().filter(|day| retention.expired(&event(day + 1, "a", "main", day * DAY), true)).collect();
            (gone.len(), retention.doubtful)
        };
        assert_eq!(silent(ahead), (0, 99));
        // With pushes that have the wrong time too.
        assert_eq!(deleted(at(ahead, ahead), 30, &[&[ahead, ahead][..], &all].concat()), (Vec::new(), 100));
        assert_eq!(deleted(at(ahead + 3, ahead + 3), 30, &[&[ahead + 2, ahead][..], &all].concat()).1, 100);
        // Nobody has set it back in four days, be they seen by a running master or by records.
        assert_eq!(silent(ahead - 4), (99, 0));
        assert_eq!(deleted(at(ahead + 4, ahead + 4), 30, &[&[ahead + 2, ahead][..], &all].concat()).0.len(), 100);
    }

    #[test]
    fn a_clock_that_was_ahead_and_is_right_again_is_believed() {
        let all: Vec<u64> = (0..100).rev().collect();
        let with = [&[100, 3750, 3749][..], &all].concat();
        assert_eq!(deleted(at(100, 100), 30, &with).0, (0..70).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_leap_too_short_to_be_seen_takes_half_of_the_time_at_most() {
        let all: Vec<u64> = (0..100).rev().collect();
        for days in [1, 2, 7, 14, 365] {
            for leap in 0..400 {
                let now = 99 + leap;
                let (gone, doubtful) = deleted(at(now, now), days, &all);
                let youngest = gone.first().map(|at| 99 - at);
                assert!(youngest.is_none_or(|age| age >= days / 2), "{days} days, a leap of {leap}: {youngest:?}");
                assert_eq!(gone.len() as u64 + doubtful, all.iter().filter(|at| now - **at > days).count() as u64);
            }
        }
    }

    #[test]
    fn a_machine_that_is_off_at_weekends_and_holidays_deletes_all_the_same() {
        // Pushes from Monday to Friday, but for two weeks; the machine was switched on this morning.
        let worked = |day: &u64| day % 7 < 5 && !(70..84).contains(day);
        let pushes = |until: u64| (0..until).rev().filter(worked).collect::<Vec<_>>();
        let old = |now: u64| pushes(now).into_iter().filter(|day| now - day > 30).count();
        let gone = |now| deleted(at(now, now), 30, &pushes(now)).0.len();
        assert_eq!((gone(66), old(66)), (old(66), 26));
        assert_eq!(gone(84), 0, "after the holidays it may be the clock");
        assert_eq!(gone(88), old(88), "and on Friday it is not");
    }

    #[test]
    fn a_leap_is_noticed_and_a_drift_is_not() {
        let now = |steady, wall| Now { steady: steady * DAY, wall: wall * DAY };
        let mut watch = Watch::begin(now(7, 1000));
        assert_eq!(watch.look(now(27, 1020)), at(1020, 1000));
        let drifted = Now { wall: 1050 * DAY + LEAP, ..now(57, 0) };
        assert_eq!(watch.look(drifted).since, 1000 * DAY + LEAP);
        // Ten years ahead, and back; a clock that starts in 1970 is put right.
        assert_eq!(watch.look(now(58, 4700)), at(4700, 4700));
        assert_eq!(watch.look(now(60, 4702)), at(4702, 4700));
        assert_eq!(watch.look(now(61, 1054)), at(1054, 1054));
        let mut watch = Watch::begin(now(0, 0));
        assert_eq!(watch.look(now(0, 20_000)), at(20_000, 20_000));
    }
}
