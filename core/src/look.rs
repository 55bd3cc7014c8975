//! Pokes, the poll timer and results of looks → when to look at a repository.
//!
//! Anyone may send a poke, so a poke is worth one look at most: one look is under way at a time, pokes that come meanwhile
//! become one more look, and looks that find nothing use up a budget ([`FRUITLESS_LOOKS`], refilled each
//! [`REFILL_MS`]). A look that finds a push gives its token back: honest pushes are never delayed, however quickly they come.
//! A repository that cannot be reached is tried again with growing pauses, so no push is lost with it.

use crate::ordered::Set;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How many looks in a row may find nothing before further pokes wait: a few, for pokes that come twice for one push.
pub const FRUITLESS_LOOKS: u64 = 5;
/// How long it takes to earn one more fruitless look, in milliseconds: forged pokes cause one look a second for ever.
pub const REFILL_MS: u64 = 1_000;
/// First pause after a repository could not be reached, in milliseconds.
pub const FIRST_PAUSE_MS: u64 = 1_000;
/// Longest such pause, in milliseconds: a forge that comes back is noticed within a minute, the look itself included.
pub const LONGEST_PAUSE_MS: u64 = 45_000;
/// Most references remembered from pokes for one look: names matter at the first look alone, and are hostile text.
pub const NAMED_REFERENCES: usize = 64;
/// Longest reason kept of a failed look, in bytes.
pub const REASON_BYTES: usize = 500;

/// What happens to a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookInput {
    /// Somebody says there was a push, perhaps to this reference.
    Poke(Option<String>),
    /// The look has ended.
    Found {
        /// How many pushes it found.
        pushes: usize,
        /// Whether it found more than it may make events of.
        more: bool,
    },
    /// The look has failed: the repository could not be reached, for this reason.
    Failed(String),
    /// The [`LookSchedule::deadline`] has come.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookOutput {
    /// Look at the repository now, for pokes that named these references.
    Look(Set<String>),
    /// Something was found that cannot be: a mistake of who carries it out.
    Bug(&'static str),
}

/// Why a repository cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when, in milliseconds of the machine's clock.
    pub since_ms: u64,
    /// How many looks have failed since.
    pub attempts: u32,
    /// When the next is made, in the same milliseconds.
    pub next_ms: u64,
    /// Why the last one failed.
    pub reason: String,
}

impl Trouble {
    /// The trouble as a sentence.
    pub fn describe(&self, now_ms: u64) -> String {
        let since = now_ms.saturating_sub(self.since_ms) / 1000;
        let next = match self.next_ms.saturating_sub(now_ms).div_ceil(1000) {
            0 => String::from("trying again now"),
            seconds => format!("next try in {seconds} s"),
        };
        format!("unreachable for {since} s after {} tries, {next}: {}", self.attempts, self.reason)
    }
}

/// When one repository is looked at. Times are milliseconds of any monotonic clock.
#[derive(Clone, Debug)]
pub struct LookSchedule {
    poll_ms: Option<u64>,
    next_poll_ms: Option<u64>,
    under_way: Option<Set<String>>,
    poked: bool,
    named: Set<String>,
    /// Fruitless looks left, in milliseconds of refill, as of `budget_at_ms`.
    budget_ms: u64,
    budget_at_ms: u64,
    trouble: Option<Trouble>,
}

impl LookSchedule {
    /// A repository that is polled each `poll_ms`, if at all. It is looked at once at the start if it is polled, or if
    /// `catch_up` says that pushes may have been missed while nobody was listening.
    pub fn new(now_ms: u64, poll_ms: Option<u64>, catch_up: bool) -> LookSchedule {
        let poll_ms = poll_ms.map(|ms| ms.max(REFILL_MS));
        LookSchedule {
            poll_ms,
            next_poll_ms: (poll_ms.is_some() || catch_up).then_some(now_ms),
            under_way: None,
            poked: false,
            named: Set::new(),
            budget_ms: FRUITLESS_LOOKS * REFILL_MS,
            budget_at_ms: now_ms,
            trouble: None,
        }
    }

    /// Takes an input at `now_ms` and says what is to be done.
    pub fn handle(&mut self, now_ms: u64, input: LookInput, out: &mut Vec<LookOutput>) {
        match input {
            LookInput::Poke(reference) => {
                self.poked = true;
                if let Some(reference) = reference.filter(|_| self.named.len() < NAMED_REFERENCES) {
                    self.named.insert(reference);
                }
            }
            LookInput::Found { pushes, more } => {
                if self.under_way.take().is_some() {
                    self.trouble = None;
                    self.next_poll_ms = self.poll_ms.map(|poll| now_ms.saturating_add(poll));
                    if pushes > 0 {
                        self.earn(now_ms);
                        self.budget_ms = (self.budget_ms + REFILL_MS).min(FRUITLESS_LOOKS * REFILL_MS);
                    }
                    self.poked |= more;
                } else {
                    out.push(LookOutput::Bug("found: no look is under way"));
                }
            }
            LookInput::Failed(reason) => {
                if let Some(named) = self.under_way.take() {
                    self.fail(now_ms, reason, named);
                } else {
                    out.push(LookOutput::Bug("failed: no look is under way"));
                }
            }
            LookInput::Tick => {}
        }
        if self.under_way.is_none() && self.deadline().is_some_and(|at| at <= now_ms) {
            self.earn(now_ms);
            if self.poked {
                self.budget_ms = self.budget_ms.saturating_sub(REFILL_MS);
            }
            self.poked = false;
            self.next_poll_ms = None;
            let named = core::mem::take(&mut self.named);
            self.under_way = Some(named.clone());
            out.push(LookOutput::Look(named));
        }
    }

    /// When [`LookInput::Tick`] is wanted; `None` while a look is under way or there is nothing to look for.
    pub fn deadline(&self) -> Option<u64> {
        if self.under_way.is_some() {
            return None;
        }
        let affordable = self.budget_at_ms.saturating_add(REFILL_MS.saturating_sub(self.budget_ms));
        let poke = self.poked.then_some(affordable);
        let timer = match &self.trouble {
            Some(trouble) => Some(trouble.next_ms),
            None => self.next_poll_ms,
        };
        poke.into_iter().chain(timer).min()
    }

    /// Why the repository cannot be looked at, if it cannot.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Brings the budget up to date.
    fn earn(&mut self, now_ms: u64) {
        let earned = now_ms.saturating_sub(self.budget_at_ms);
        self.budget_ms = self.budget_ms.saturating_add(earned).min(FRUITLESS_LOOKS * REFILL_MS);
        self.budget_at_ms = now_ms.max(self.budget_at_ms);
    }

    fn fail(&mut self, now_ms: u64, mut reason: String, named: Set<String>) {
        let mut end = REASON_BYTES.min(reason.len());
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        let (since_ms, attempts) =
            self.trouble.as_ref().map_or((now_ms, 0), |trouble| (trouble.since_ms, trouble.attempts));
        let pause = FIRST_PAUSE_MS.checked_shl(attempts.min(32)).unwrap_or(LONGEST_PAUSE_MS);
        let next_ms = now_ms.saturating_add(pause.min(LONGEST_PAUSE_MS));
        let attempts = attempts.saturating_add(1);
        self.trouble = Some(Trouble { since_ms, attempts, next_ms, reason });
        let room = NAMED_REFERENCES.saturating_sub(self.named.len());
        self.named.extend(named.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn poke(reference: &str) -> LookInput {
        LookInput::Poke(Some(reference.to_string()))
    }

    fn found(pushes: usize) -> LookInput {
        LookInput::Found { pushes, more: false }
    }

    /// The names of the look that the input causes, if it causes one.
    fn give(schedule: &mut LookSchedule, now_ms: u64, input: LookInput) -> Option<Vec<String>> {
        let mut out = Vec::new();
        schedule.handle(now_ms, input, &mut out);
        assert!(out.len() <= 1);
        out.pop().map(|output| match output {
            LookOutput::Look(named) => named.into_iter().collect(),
            LookOutput::Bug(what) => alloc::vec![what.to_string()],
        })
    }

    #[test]
    fn the_first_poke_looks_at_once_and_pokes_meanwhile_become_one_more_look() {
        let mut schedule = LookSchedule::new(0, None, false);
        assert_eq!(schedule.deadline(), None);
        assert_eq!(give(&mut schedule, 5, poke("a")), Some(alloc::vec!["a".to_string()]));
        assert_eq!(give(&mut schedule, 6, poke("b")), None);
        assert_eq!(give(&mut schedule, 7, poke("c")), None);
        assert_eq!(schedule.deadline(), None);
        assert_eq!(give(&mut schedule, 8, found(1)), Some(alloc::vec!["b".to_string(), "c".to_string()]));
        assert_eq!(give(&mut schedule, 9, found(1)), None);
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn forged_pokes_cause_one_look_a_second_and_honest_ones_are_not_delayed() {
        let mut schedule = LookSchedule::new(0, None, false);
        let mut looks = 0;
        for now_ms in 0..60_000 {
            if give(&mut schedule, now_ms, LookInput::Poke(None)).is_some() {
                looks += 1;
                give(&mut schedule, now_ms, found(0));
            }
        }
        assert!((60..=66).contains(&looks), "{looks}");
        // The last poke is not lost: its look comes when it is affordable.
        let at = schedule.deadline().unwrap();
        assert!(at <= 61_000 && give(&mut schedule, at, LookInput::Tick).is_some());

        let mut schedule = LookSchedule::new(0, None, false);
        for now_ms in 0..1000 {
            assert!(give(&mut schedule, now_ms, poke("a")).is_some(), "{now_ms}");
            assert_eq!(give(&mut schedule, now_ms, found(1)), None);
        }
    }

    #[test]
    fn polling() {
        let mut schedule = LookSchedule::new(0, Some(60_000), false);
        assert_eq!(schedule.deadline(), Some(0));
        assert!(give(&mut schedule, 0, LookInput::Tick).is_some());
        assert_eq!(give(&mut schedule, 500, found(0)), None);
        assert_eq!(schedule.deadline(), Some(60_500));
        assert_eq!(give(&mut schedule, 60_499, LookInput::Tick), None);
        assert!(give(&mut schedule, 60_500, LookInput::Tick).is_some());
    }

    #[test]
    fn pushes_missed_while_nobody_listened_are_looked_for_once() {
        let mut schedule = LookSchedule::new(7, None, true);
        assert!(give(&mut schedule, 7, LookInput::Tick).is_some());
        give(&mut schedule, 8, found(0));
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn more_than_one_look_may_take_is_looked_for_at_once() {
        let mut schedule = LookSchedule::new(0, None, false);
        give(&mut schedule, 0, LookInput::Poke(None));
        assert!(give(&mut schedule, 1, LookInput::Found { pushes: 64, more: true }).is_some());
    }

    #[test]
    fn an_unreachable_repository_is_tried_with_growing_pauses_and_no_name_is_lost() {
        let mut schedule = LookSchedule::new(0, None, false);
        let mut now_ms = 0;
        assert!(give(&mut schedule, now_ms, poke("a")).is_some());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(give(&mut schedule, now_ms, LookInput::Failed("no route".to_string())), None);
            let next_ms = schedule.deadline().unwrap();
            pauses.push((next_ms - now_ms) / 1000);
            now_ms = next_ms;
            assert_eq!(give(&mut schedule, now_ms, LookInput::Tick), Some(alloc::vec!["a".to_string()]));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 45, 45, 45, 45, 45, 45]);
        let trouble = schedule.trouble().unwrap();
        assert_eq!(
            trouble.describe(trouble.next_ms - 44_500),
            "unreachable for 288 s after 12 tries, next try in 45 s: no route"
        );
        give(&mut schedule, now_ms, found(1));
        assert_eq!(schedule.trouble(), None);
        assert_eq!(schedule.deadline(), None);
    }

    #[test]
    fn a_poke_shortens_the_pause_within_the_budget() {
        let mut schedule = LookSchedule::new(0, Some(1_000_000), false);
        assert!(give(&mut schedule, 0, LookInput::Tick).is_some());
        give(&mut schedule, 0, LookInput::Failed("x".repeat(REASON_BYTES - 1) + "é"));
        assert_eq!(schedule.trouble().unwrap().reason.len(), REASON_BYTES - 1);
        assert!(give(&mut schedule, 10, LookInput::Poke(None)).is_some());
    }

    #[test]
    fn the_names_of_a_flood_are_bounded_and_a_result_without_a_look_is_nothing() {
        let mut schedule = LookSchedule::new(0, None, false);
        give(&mut schedule, 0, LookInput::Poke(None));
        for n in 0..1000 {
            give(&mut schedule, 0, poke(&n.to_string()));
        }
        assert_eq!(give(&mut schedule, 0, found(1)).unwrap().len(), NAMED_REFERENCES);
        give(&mut schedule, 0, found(1));
        let stray = LookInput::Failed("stray".to_string());
        assert_eq!(give(&mut schedule, 0, stray), Some(alloc::vec!["failed: no look is under way".to_string()]));
        let stray = give(&mut schedule, 0, found(1));
        assert_eq!(stray, Some(alloc::vec!["found: no look is under way".to_string()]));
        assert_eq!(schedule.trouble(), None);
    }
}
