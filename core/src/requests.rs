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

/// Whether somebody may say something at the board that an attempt has by a lease.
///
/// # Errors
/// It has none, it is another one's, or the attempt is over.
pub fn may_say(job: JobId, record: Option<&JobRecord>, attempt: u32, who: &str) -> Result<(), String> {
    let leased = record.and_then(|record| Some((record, record.lease.as_ref()?)));
    let (record, leased) = leased.ok_or_else(|| format!("job {job} is nobody's board"))?;
    let person = record.person.as_deref().unwrap_or_default();
    let is_theirs = person == who || leased.people.iter().flatten().any(|other| other == who);
    match is_theirs {
        false => Err(format!("the board of job {job} is {person}'s")),
        true if record.state.ended() || record.attempt != attempt => {
            Err(format!("attempt {attempt} of job {job} is not under way any more"))
        }
        true => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobKey;
    use crate::ledger::Leased;
    use crate::ordered::Map;
    use crate::roles::Powers;
    use crate::units::Grant;
    use crate::words::Word;
    use alloc::vec;

    fn job(id: JobId, state: JobState) -> JobRecord {
        JobRecord { state, ..JobRecord::queued(id, 1, "sai", 1000) }
    }

    fn agent(name: &str, revoked: bool) -> AgentRecord {
        AgentRecord { revoked, ..AgentRecord::added(name.to_string(), "aa".to_string(), 1000, None) }
    }

    fn grant(number: u64) -> Grant {
        let key = JobKey { job: number, attempt: 1 };
        let units = Map::from_iter([("licences".to_string(), 1)]);
        Grant { number, key, units, since: 1000, timeout_s: 60, revoked: None }
    }

    fn user(name: &str, revoked: bool) -> UserRecord {
        let powers = Some(Powers::parse(&["reader"], 1000).expect("a role"));
        UserRecord { name: name.to_string(), token_sha256: "aa".to_string(), added_at: 1000, revoked, powers }
    }

    #[test]
    fn a_cancel_concerns_what_has_not_ended() {
        let later = JobState::Other(Word::of("dreaming").expect("a word"));
        let states = [
            (JobState::Queued, true),
            (JobState::Assigned, true),
            (JobState::Running, true),
            (JobState::Passed, false),
            (JobState::Failed, false),
            (JobState::Cancelled, false),
            (JobState::TimedOut, false),
            (JobState::Expired, false),
            (JobState::Infra, false),
            (later, false),
        ];
        let jobs: Vec<JobRecord> = (1..).zip(states).map(|(id, (state, _))| job(id, state)).collect();
        assert_eq!(to_cancel(&jobs), Ok(vec![1, 2, 3]));
        for (record, (state, open)) in jobs.iter().zip(states) {
            let alone = to_cancel(core::slice::from_ref(record));
            assert_eq!(alone.is_ok(), open, "{state:?}");
        }
        // What waits for others, and what will not run because of another.
        let blocked = JobRecord { blocked: Some(true), ..job(7, JobState::Queued) };
        let skipped = JobRecord { skipped: Some(1), ..job(8, JobState::Cancelled) };
        assert_eq!(to_cancel(&[skipped.clone(), blocked]), Ok(vec![7]));
        assert_eq!(to_cancel(&[skipped]), Err("nothing of it is queued or running".to_string()));
        assert!(to_cancel(&[]).is_err());
    }

    #[test]
    fn a_page_that_was_left_open_ends_nothing_else() {
        // It is queued for the first time: the attempt to come is the first.
        let first = job(1, JobState::Queued);
        assert_eq!((coming_attempt(&first), is_under_way(&first, 1)), (1, Ok(())));
        // That one runs.
        let runs = JobRecord { attempt: 1, assigned_at: Some(1000), ..job(1, JobState::Running) };
        assert_eq!((coming_attempt(&runs), is_under_way(&runs, 1)), (1, Ok(())));
        assert_eq!(is_under_way(&runs, 2), Err("attempt 2 has ended; attempt 1 is under way".to_string()));
        // It has failed, and is queued again: the next one is to come, and the page of the first must not end it.
        let again = JobRecord { state: JobState::Queued, queued_at: 2000, ..runs.clone() };
        assert_eq!((coming_attempt(&again), is_under_way(&again, 2)), (2, Ok(())));
        assert_eq!(is_under_way(&again, 1), Err("attempt 1 has ended; attempt 2 is under way".to_string()));
        // It ended as it ran, or before it was assigned: then the attempt that never began is meant.
        let ended = JobRecord { state: JobState::Failed, ..runs };
        assert_eq!(is_under_way(&ended, 1), Err("attempt 1 has ended; attempt 1 is failed".to_string()));
        let unbegun = JobRecord { state: JobState::Cancelled, ..again };
        assert_eq!(coming_attempt(&unbegun), 2);
        assert!(is_under_way(&unbegun, 2).is_err() && is_under_way(&unbegun, 1).is_err());
        let never = job(1, JobState::Expired);
        assert_eq!((coming_attempt(&never), is_under_way(&never, 1).is_err()), (1, true));
        // A record that says that it runs and of no attempt: the first is meant; and no number wraps.
        let odd = JobRecord { attempt: 0, assigned_at: Some(1000), ..job(1, JobState::Running) };
        assert_eq!(coming_attempt(&odd), 1);
        assert_eq!(coming_attempt(&JobRecord { attempt: u32::MAX, ..job(1, JobState::Queued) }), u32::MAX);
    }

    #[test]
    fn a_grant_is_one_that_an_agent_holds() {
        let holds = AgentRecord { grants: Some(vec![grant(4), grant(6)]), ..agent("shed", false) };
        // Units that are still out are freed also where the token of who has them was revoked.
        let revoked = AgentRecord { grants: Some(vec![grant(5)]), ..agent("attic", true) };
        let agents = [agent("desk", false), holds, revoked];
        for number in 4..=6 {
            assert_eq!(is_granted(&agents, number), Ok(()), "{number}");
        }
        for number in [0, 3, 7] {
            assert_eq!(is_granted(&agents, number), Err(format!("there is no grant {number}")));
        }
        assert!(is_granted(&[], 4).is_err());
    }

    #[test]
    fn an_agent_is_added_once_and_under_a_name_of_its_own() {
        assert_eq!(may_be_added("shed", None, "inside"), Ok(()));
        assert_eq!(may_be_added("shed", Some(&agent("shed", true)), "inside"), Ok(()));
        let taken = may_be_added("shed", Some(&agent("shed", false)), "inside");
        assert!(taken.as_ref().is_err_and(|why| why.contains("revoke it first")), "{taken:?}");
        let inside = may_be_added("inside", Some(&agent("inside", true)), "inside");
        assert!(inside.as_ref().is_err_and(|why| why.contains("inside the master")), "{inside:?}");
        assert!(may_be_added("../shed", None, "inside").is_err());
        assert!(may_be_added("", None, "inside").is_err());
    }

    #[test]
    fn who_has_a_board_speaks_at_it_and_whom_they_let() {
        let people = Some(vec!["bert".to_string()]);
        let lease = Some(Leased { minutes: 5, agent: None, people });
        let held = JobRecord { lease, person: Some("anna".to_string()), attempt: 2, ..job(7, JobState::Running) };
        for who in ["anna", "bert"] {
            assert_eq!(may_say(7, Some(&held), 2, who), Ok(()));
        }
        let refused = |record: Option<&JobRecord>, attempt, who| may_say(7, record, attempt, who).unwrap_err();
        assert_eq!(refused(Some(&held), 2, "carl"), "the board of job 7 is anna's");
        assert_eq!(refused(Some(&held), 1, "anna"), "attempt 1 of job 7 is not under way any more");
        let ended = JobRecord { state: JobState::Passed, ..held.clone() };
        assert_eq!(refused(Some(&ended), 2, "anna"), "attempt 2 of job 7 is not under way any more");
        for none in [None, Some(&JobRecord { lease: None, ..held.clone() })] {
            assert_eq!(refused(none, 2, "anna"), "job 7 is nobody's board");
        }
    }

    #[test]
    fn a_revocation_concerns_an_agent_that_has_a_token() {
        let shed = agent("shed", false);
        assert_eq!(to_revoke("shed", Some(&shed), "inside"), Ok(&shed));
        // Whoever is not sure whether it was done does it again.
        let revoked = agent("shed", true);
        assert_eq!(to_revoke("shed", Some(&revoked), "inside"), Ok(&revoked));
        assert_eq!(to_revoke("shed", None, "inside"), Err("there is no agent \"shed\"".to_string()));
        let named = agent("inside", false);
        let inside = to_revoke("inside", Some(&named), "inside");
        assert!(inside.as_ref().is_err_and(|why| why.contains("has no token")), "{inside:?}");
    }

    #[test]
    fn an_agent_that_gets_no_jobs_anyway_is_not_set_aside() {
        assert_eq!(may_be_set_aside("shed", Some(&agent("shed", false))), Ok(()));
        let revoked = may_be_set_aside("shed", Some(&agent("shed", true)));
        assert!(revoked.as_ref().is_err_and(|why| why.contains("lets it in anew")), "{revoked:?}");
        assert_eq!(may_be_set_aside("shed", None), Err("there is no agent \"shed\"".to_string()));
    }

    #[test]
    fn people_have_names_of_their_own_and_end_once() {
        let users = vec![user("anna", true), user("anna", false), user("bert", true)];
        assert_eq!(may_be_user("anna", &users), Err("there is a user \"anna\" already".to_string()));
        assert_eq!(may_be_user("bert", &users), Ok(()));
        assert_eq!(may_be_user("carl", &users), Ok(()));
        assert!(may_be_user("a b", &users).is_err());
        // The record that is in force ends, with all else as it was.
        let anna = UserRecord { revoked: true, ..user("anna", false) };
        assert_eq!(revoked_user("anna", users.clone()), Ok(anna));
        for name in ["bert", "carl"] {
            assert_eq!(revoked_user(name, users.clone()), Err(format!("there is no user {name:?}")));
        }
    }
}
