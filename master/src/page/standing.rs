//! States of jobs, and what a ref is called → how an event stands, in the words of page and API.

use sai_core::job::JobState;

/// How an event stands, all its jobs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its saifile could not be used.
    Invalid,
    /// It has no jobs, and nothing is wrong with that.
    Empty,
    /// None of its jobs has begun.
    Queued,
    /// Some job has not ended, and none has gone wrong.
    Running,
    /// Some job has not ended, and one went wrong already.
    Failing,
    /// All passed.
    Passed,
    /// All ended, not all well.
    Failed,
    /// All ended; some were cancelled, the others passed.
    Cancelled,
    /// All ended, some in a way that only a later version has a word for: none that this one calls a failure.
    Other,
}

impl Standing {
    /// The word on the page and in the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Empty => "empty",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Failing => "failing",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }

    /// Whether nothing of it is under way.
    pub fn ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Failing)
    }
}

/// All ways in which an event can stand, in the order in which they are offered.
pub const STANDINGS: [Standing; 9] = [
    Standing::Failed,
    Standing::Failing,
    Standing::Passed,
    Standing::Running,
    Standing::Queued,
    Standing::Cancelled,
    Standing::Invalid,
    Standing::Empty,
    Standing::Other,
];

/// All states, in the order in which counts of them are given.
pub const STATES: [JobState; 11] = [
    JobState::Failed,
    JobState::TimedOut,
    JobState::Infra,
    JobState::Expired,
    JobState::Cancelled,
    JobState::Skipped,
    JobState::Running,
    JobState::Assigned,
    JobState::Queued,
    JobState::Blocked,
    JobState::Passed,
];

/// The branch or tag of a ref, and which of the two it is.
pub fn reference_name(reference: &str) -> (&'static str, &str) {
    match reference.strip_prefix("refs/heads/") {
        Some(branch) => ("branch", branch),
        None => match reference.strip_prefix("refs/tags/") {
            Some(tag) => ("tag", tag),
            None => ("ref", reference),
        },
    }
}
