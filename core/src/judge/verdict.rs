//! What was seen of a board, and when → the word for it, and whose fault it is.

use super::{Awaited, DONE_WITHIN_US, GONE_US, Judge};
use crate::job::Fault;
use crate::results::Results;
use crate::trial::Step;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// All that was wanted came, and nothing that was not.
    Passed,
    /// A case failed, `fail` was found, or something did not come.
    TestFail,
    /// Nothing came after the reset.
    Silent,
    /// Something came, and neither the identity nor the first step.
    NoBoot,
    /// It boots again and again.
    BootLoop,
    /// The end of the results was seen, and not all of them.
    ResultLost,
    /// Trouble of ours.
    Infra,
}

impl Word {
    /// As it is written beside an outcome.
    pub fn text(self) -> &'static str {
        match self {
            Word::Passed => "passed",
            Word::TestFail => "test-fail",
            Word::Silent => "silent",
            Word::NoBoot => "no-boot",
            Word::BootLoop => "boot-loop",
            Word::ResultLost => "result-lost",
            Word::Infra => "infra",
        }
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Word::Passed => Fault::Nobody,
            Word::Infra => Fault::Infrastructure,
            _ => Fault::Job,
        }
    }
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The word.
    pub word: Word,
    /// One sentence for people; empty where it passed.
    pub cause: String,
}

impl Judgement {
    pub(super) fn of(word: Word, cause: String) -> Self {
        Judgement { word, cause }
    }
}

/// What becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Silent,
    Step,
    Asked,
    Gone,
    All,
}

impl Judge {
    /// What is decided where everything has been taken.
    pub(super) fn judgement(&self) -> Judgement {
        if let Some((Some(hard), _)) = &self.closing {
            return hard.clone();
        }
        if let Some(results) = self.results.as_ref().map(Results::summary) {
            if let Some(why) = &results.gave_up {
                return Judgement::of(Word::TestFail, format!("the tests were given up: {why}"));
            }
            let failed = results.failed.max(results.failed_by_end);
            if failed > 0 {
                let cause = format!("{failed} of {} test cases failed", results.planned.unwrap_or(results.seen));
                return Judgement::of(Word::TestFail, cause);
            }
            if !results.complete() {
                let planned = results.planned.map_or("an unknown number".to_string(), |planned| planned.to_string());
                let cause = format!("{} results came of {planned}", results.seen);
                return self.missing(Word::ResultLost, cause);
            }
        }
        Judgement::of(Word::Passed, String::new())
    }

    /// Something did not come: it may be what was kept from us.
    fn missing(&self, word: Word, cause: String) -> Judgement {
        match &self.lost {
            Some(lost) => Judgement::of(Word::Infra, format!("{cause}, and {lost}")),
            None => Judgement::of(word, cause),
        }
    }

    /// All that becomes due, and when, in microseconds since the job began.
    pub(super) fn limits(&self) -> Vec<(u64, Limit)> {
        // Before it has begun nothing can be late.
        let Some(begun) = self.begun else { return Vec::new() };
        let mut limits = [(begun.saturating_add(self.trial.timeout_ms.saturating_mul(1000)), Limit::All)].to_vec();
        if !self.anything {
            limits.push((begun.saturating_add(self.trial.silent_ms.saturating_mul(1000)), Limit::Silent));
        }
        limits.extend(self.gone.iter().map(|(_, gone)| (gone.saturating_add(GONE_US), Limit::Gone)));
        let after = |millis: u64| self.since.saturating_add(millis.saturating_mul(1000));
        match (&self.awaited, self.trial.steps.get(self.step)) {
            (Awaited::Nothing, Some(Step::Expect { within_ms, .. } | Step::Edge { within_ms, .. }))
                if self.identified =>
            {
                limits.push((after(*within_ms), Limit::Step));
            }
            (Awaited::Nothing, Some(Step::Wait(time))) if self.identified => limits.push((after(*time), Limit::Step)),
            (Awaited::Sent | Awaited::Played(_), _) => {
                limits.push((self.since.saturating_add(DONE_WITHIN_US), Limit::Asked));
            }
            _ => {}
        }
        limits
    }

    /// What is decided by time alone, all that came up to it being known.
    pub(super) fn overdue(&self, up_to: u64) -> Option<Judgement> {
        let (_, limit) = self.limits().into_iter().filter(|(at, _)| *at <= up_to).min_by_key(|(at, _)| *at)?;
        let step = || match self.trial.steps.get(self.step) {
            Some(Step::Expect { pattern, .. }) => format!("step {}: `{pattern}` did not come", self.step + 1),
            Some(Step::Edge { line, to, .. }) => {
                format!("step {}: `{line}` did not change to {}", self.step + 1, u8::from(*to))
            }
            _ => "its time was over".to_string(),
        };
        let nothing = || self.missing(Word::Silent, "nothing came after the reset".to_string());
        Some(match limit {
            Limit::Gone => self.missing(Word::Infra, "the board did not come back".to_string()),
            Limit::Asked => {
                let what = if self.awaited == Awaited::Sent { "sent" } else { "played" };
                Judgement::of(Word::Infra, format!("step {} was not {what}", self.step + 1))
            }
            Limit::Silent | Limit::Step | Limit::All if !self.anything => nothing(),
            Limit::Silent => nothing(),
            Limit::Step | Limit::All if !self.identified => {
                self.missing(Word::NoBoot, "something came, and not the identity of what was flashed".to_string())
            }
            // What never got to its first step has not come up.
            Limit::Step if self.step == 0 => self.missing(Word::NoBoot, step()),
            Limit::Step => self.missing(Word::TestFail, step()),
            Limit::All => {
                let results = self.results.as_ref().map(Results::summary);
                let cause = match results {
                    Some(results) if self.step >= self.trial.steps.len() && !results.bad() => {
                        let planned = results.planned.map_or("?".to_string(), |planned| planned.to_string());
                        format!("its time was over after {} results of {planned}", results.seen)
                    }
                    _ if self.step >= self.trial.steps.len() => "its time was over before it passed".to_string(),
                    _ => format!("its time was over at step {}", self.step + 1),
                };
                self.missing(Word::TestFail, cause)
            }
        })
    }
}
