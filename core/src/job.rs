//! What a job is called, which states it passes through, and how one attempt of it ends.

use crate::words::{Word, written_as_words};
use alloc::string::{String, ToString};
use core::fmt;
use miniserde::{Deserialize, Serialize};

/// Number of a job, unique in one master's life.
pub type JobId = u64;
/// Number of an event (one push, poll or rebuild), unique in one master's life.
pub type EventId = u64;

/// One attempt of one job. Every message about a job carries it, so that a ghost's report is dropped in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobKey {
    /// The job.
    pub job: JobId,
    /// Which attempt of it, from 1.
    pub attempt: u32,
}

impl fmt::Display for JobKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.job, self.attempt)
    }
}

impl core::str::FromStr for JobKey {
    type Err = String;
    /// Reads `JOB-ATTEMPT`, the form in which keys name directories and files.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected JOB-ATTEMPT, two numbers".to_string();
        let (job, attempt) = text.split_once('-').ok_or_else(expected)?;
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !plain(job) || !plain(attempt) {
            return Err(expected());
        }
        Ok(Self { job: job.parse().map_err(|_| expected())?, attempt: attempt.parse().map_err(|_| expected())? })
    }
}

/// Where a job stands. `Blocked → Queued → Assigned → Running →` one of the ended states.
///
/// Records have neither `Blocked` nor `Skipped`: see [`crate::ledger::JobRecord::standing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// Waits for other jobs of its event to pass.
    Blocked,
    /// Waits for an agent.
    Queued,
    /// Given to an agent that has not shown a byte of it yet.
    Assigned,
    /// An agent runs it.
    Running,
    /// Every step ended with status 0.
    Passed,
    /// A step ended otherwise: the job's own doing.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// It, or a step of it, took longer than allowed.
    TimedOut,
    /// No agent that could serve it came in time.
    Expired,
    /// Trouble of ours, more often than we retry. Never called a failure of the job.
    Infra,
    /// Never begun, since a job that it needs ended without having passed.
    Skipped,
    /// A later version's word. Nothing is done with such a job: it counts as ended, and not as passed.
    Other(Word),
}

written_as_words!(JobState: Blocked, Queued, Assigned, Running, Passed, Failed, Cancelled, TimedOut, Expired, Infra, Skipped);

impl JobState {
    /// Whether the job has ended and will not change again.
    pub fn ended(self) -> bool {
        !matches!(self, Self::Blocked | Self::Queued | Self::Assigned | Self::Running)
    }

    /// Whether it is one that somebody should look at.
    pub fn went_wrong(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Expired | Self::Infra)
    }

    /// The word by which the page's styles know this state. A word that is not known is grey, whatever it may be.
    pub fn class(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Queued => "queued",
            Self::Assigned => "assigned",
            Self::Running => "running",
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed-out",
            Self::Expired => "expired",
            Self::Infra => "infra",
            Self::Skipped => "skipped",
            Self::Other(_) => "other",
        }
    }

    /// The word for this state on the page, in the API and on the terminal.
    pub fn word(&self) -> &str {
        match self {
            Self::Other(word) => word.as_str(),
            known => known.class(),
        }
    }
}

/// How one attempt ended, as its supervisor writes it at the end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step ended with status 0.
    Passed,
    /// A step ended otherwise.
    Failed,
    /// The master asked for the end.
    Cancelled,
    /// The job or a step took too long.
    TimedOut,
    /// Trouble of the agent's own (mirror, disk, supervisor killed): to be tried again elsewhere.
    Infra,
    /// A later version's word. The job has then ended in a state of that name.
    Other(Word),
}

written_as_words!(Outcome: Passed, Failed, Cancelled, TimedOut, Infra);

impl Outcome {
    /// The state of a job whose attempt ended so, for good.
    pub fn state(self) -> JobState {
        match self {
            Self::Passed => JobState::Passed,
            Self::Failed => JobState::Failed,
            Self::Cancelled => JobState::Cancelled,
            Self::TimedOut => JobState::TimedOut,
            Self::Infra => JobState::Infra,
            Self::Other(word) => JobState::Other(word),
        }
    }
}

/// Whose fault an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody's: it passed.
    Nobody,
    /// The user's spec: the revision, the saifile, a glob.
    Spec,
    /// The job's own steps.
    Job,
    /// Our own side: agent, disk, network.
    Infrastructure,
    /// Somebody who asked for it (cancel).
    Person,
    /// A later version's word. Nobody is counted on for it.
    Other(Word),
}

written_as_words!(Fault: Nobody, Spec, Job, Infrastructure, Person);

/// Whose trouble an end as [`Outcome::Infra`], or a refusal, tells of: who else is kept from meeting it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blame {
    /// The agent's: no job is safe from it there.
    #[default]
    Agent,
    /// One platform's on this agent (a broken image): jobs of its other platforms are none the worse.
    Platform,
    /// The repository's (a remote that is away): it would have been the same on every agent.
    Repository,
    /// Nobody's: what was given away had been taken by somebody else meanwhile. It counts against nothing.
    Nobody,
}

impl Blame {
    /// The word in [`Verdict::trouble`] and [`crate::wire::Refuse::trouble`]; none stands for the agent.
    pub fn word(self) -> Option<String> {
        match self {
            Self::Agent => None,
            Self::Platform => Some("platform".to_string()),
            Self::Repository => Some("repository".to_string()),
            Self::Nobody => Some("nobody".to_string()),
        }
    }

    /// Reads such a word. One that is not known is from a newer agent and counts as no word does.
    pub fn of(word: Option<&str>) -> Self {
        match word {
            Some("platform") => Self::Platform,
            Some("repository") => Self::Repository,
            Some("nobody") => Self::Nobody,
            _ => Self::Agent,
        }
    }
}

/// The last record of every log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// Whose fault that is.
    pub fault: Fault,
    /// One sentence for people, empty when it passed.
    pub cause: String,
    /// Index of the step that decided, from 0.
    pub step: Option<u32>,
    /// Exit status of that step; 128 + signal number when a signal ended it.
    pub status: Option<i32>,
    /// See [`Blame`]; absent unless the outcome is `Infra`, and in logs of older agents.
    pub trouble: Option<String>,
    /// What was found, in a word finer than the outcome: whoever knows it not goes by the outcome, and shows it.
    pub verdict: Option<Finding>,
}

/// A word beside an outcome, as `no-boot`, and what it means here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The word, as [`Word`] has them.
    pub word: String,
    /// One sentence for people, or none.
    pub what: Option<String>,
    /// In a job at several boards: the one of its agent that this was found at.
    pub board: Option<String>,
}
