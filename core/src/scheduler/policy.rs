//! What a configuration sets, or nothing → the times that the scheduler keeps.

use crate::limits::Millis;

/// Times the scheduler keeps, in milliseconds; the configuration may set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long an agent may be away before its jobs are given to others: longer than a reboot.
    pub orphan_ms: Millis,
    /// How long a job waits for a platform that no connected agent offers.
    pub expire_ms: Millis,
    /// Wait before the first retry after trouble of ours; doubled for each further one.
    pub retry_ms: Millis,
    /// How long an agent may take to end a cancelled job before the master stops waiting for its verdict.
    pub cancel_ms: Millis,
    /// How far past its own timeout a job may be before its agent is no longer believed to end it. Only time in which
    /// the agent was connected counts.
    pub overdue_ms: Millis,
    /// How long an agent that had trouble with a platform several times in a row gets no job of it; doubled for each
    /// further time.
    pub aside_ms: Millis,
    /// How long after its own deadline an attempt that was given up still counts as holding its units, as long as its agent
    /// does not say otherwise.
    pub grace_ms: Millis,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            orphan_ms: 10 * 60_000,
            expire_ms: 24 * 3_600_000,
            retry_ms: 1_000,
            cancel_ms: 60_000,
            overdue_ms: 15 * 60_000,
            aside_ms: 30_000,
            grace_ms: 15 * 60_000,
        }
    }
}
