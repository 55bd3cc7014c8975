//! What a person asks for, and the records as they are → whom it concerns, or why it cannot be.

use crate::job::{JobId, JobState};
use crate::join::check_agent_name;
use crate::ledger::{AgentRecord, JobRecord, UserRecord};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// The attempt that a job's record speaks of: the current or last one, or the one to come while it is queued. That is
/// also the one that never began when it was cancelled or expired in the queue.
pub fn coming_attempt(job: &JobRecord) -> u32 {
    let begun = job.state != JobState::Queued && job.assigned_at.is_some_and(|at| at >= job.queued_at);
    if begun { job.attempt.max(1) } else { job.attempt.saturating_add(1) }
}

/// Those of these jobs that a cancel ends.
///
/// # Errors
/// There is none.
pub fn to_cancel(jobs: &[JobRecord]) -> Result<Vec<JobId>, String> {
    let open: Vec<JobId> = jobs.iter().filter(|job| !job.state.ended()).map(|job| job.id).collect();
    if open.is_empty() { Err("nothing of it is queued or running".to_string()) } else { Ok(open) }
}

/// Whether this attempt of a job can be cancelled, and not another: a page that was left open must not end what it does not show.
///
/// # Errors
/// It has ended; what is under way instead.
pub fn is_under_way(job: &JobRecord, attempt: u32) -> Result<(), String> {
    let now = coming_attempt(job);
    if now == attempt && !job.state.ended() {
        return Ok(());
    }
    let what = if job.state.ended() { job.state.word() } else { "under way" };
    Err(format!("attempt {attempt} has ended; attempt {now} is {what}"))
}

/// Whether an agent holds this grant of units.
///
/// # Errors
/// None does.
pub fn is_granted(agents: &[AgentRecord], grant: u64) -> Result<(), String> {
    let grants = agents.iter().flat_map(|agent| agent.grants.iter().flatten());
    let known = grants.into_iter().any(|known| known.number == grant);
    if known { Ok(()) } else { Err(format!("there is no grant {grant}")) }
}

fn known<'a>(name: &str, record: Option<&'a AgentRecord>) -> Result<&'a AgentRecord, String> {
    record.ok_or_else(|| format!("there is no agent {name:?}"))
}

/// Whether an agent of this name may be let in; `inside` is the name of the one in the master.
///
/// # Errors
/// The name is no name, or taken.
pub fn may_be_added(name: &str, record: Option<&AgentRecord>, inside: &str) -> Result<(), String> {
    check_agent_name(name)?;
    if name == inside {
        return Err(format!("{name:?} is the agent inside the master, which needs no join line; take another name"));
    }
    if record.is_some_and(|record| !record.revoked) {
        return Err(format!("there is an agent {name:?} already; revoke it first if this is to replace it"));
    }
    Ok(())
}

/// The agent whose token is to be revoked; `inside` is the name of the one in the master.
///
/// # Errors
/// There is none, or it has no token.
pub fn to_revoke<'a>(name: &str, record: Option<&'a AgentRecord>, inside: &str) -> Result<&'a AgentRecord, String> {
    if name == inside {
        return Err(format!(
            "{name:?} is the agent inside this master and has no token; `agent aside {name}` gives it no more jobs, and \
             \"builtin\": false in the configuration switches it off"
        ));
    }
    known(name, record)
}

/// Whether an agent can be set aside, or be given jobs again.
///
/// # Errors
/// There is none, or it gets none anyway.
pub fn may_be_set_aside(name: &str, record: Option<&AgentRecord>) -> Result<(), String> {
    if known(name, record)?.revoked {
        return Err(format!("{name:?} is revoked and gets no jobs; `agent add {name}` lets it in anew"));
    }
    Ok(())
}

/// Whether somebody of this name may be let act.
///
/// # Errors
/// The name is no name, or taken.
pub fn may_be_user(name: &str, users: &[UserRecord]) -> Result<(), String> {
    check_agent_name(name)?;
    if users.iter().any(|user| user.name == name && !user.revoked) {
        return Err(format!("there is a user {name:?} already"));
    }
    Ok(())
}

/// Who may act no more.
///
/// # Errors
/// There is nobody of that name.
pub fn revoked_user(name: &str, users: Vec<UserRecord>) -> Result<UserRecord, String> {
    let user = users.into_iter().find(|user| user.name == name && !user.revoked);
    user.map(|user| UserRecord { revoked: true, ..user }).ok_or_else(|| format!("there is no user {name:?}"))
}
