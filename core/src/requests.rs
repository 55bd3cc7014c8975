//! What a person asks for, and the records as they are → whom it concerns, or why it cannot be.

use crate::job::{JobId, JobState};
use crate::join::check_agent_name;
use crate::ledger::{AgentRecord, JobRecord, Leased, SHARED_MAX, UserRecord};
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

/// Somebody with whom the board of a job is shared from now on, or is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// The job.
    pub job: JobId,
    /// Who.
    pub person: String,
    /// Whether it is.
    pub shared: bool,
}

/// Whether somebody may say something at the board that an attempt has by a lease.
///
/// # Errors
/// It has none, it is another one's, or the attempt is over.
pub fn may_say(job: JobId, record: Option<&JobRecord>, attempt: u32, who: &str) -> Result<(), String> {
    let leased = record.filter(|record| record.lease.is_some());
    let record = leased.ok_or_else(|| format!("job {job} is nobody's board"))?;
    let person = record.person.as_deref().unwrap_or_default();
    match person == who {
        false => Err(format!("the board of job {job} is {person}'s")),
        true if record.state.ended() || record.attempt != attempt => {
            Err(format!("attempt {attempt} of job {job} is not under way any more"))
        }
        true => Ok(()),
    }
}

/// Whether somebody may share a board with another person, or share it no more.
///
/// # Errors
/// It is not theirs, its job is over, there is no such person, or there are too many.
pub fn may_share(sharing: &Sharing, record: Option<&JobRecord>, who: &str, users: &[UserRecord]) -> Result<(), String> {
    let Sharing { job, person, shared } = sharing;
    let attempt = record.map_or(0, |record| record.attempt);
    may_say(*job, record, attempt, who)?;
    let people = record.and_then(|record| record.lease.as_ref()?.people.clone()).unwrap_or_default();
    let is_one = users.iter().any(|user| user.name == *person && !user.revoked);
    match (shared, people.contains(person)) {
        (true, _) if person == who => Err("it is yours already".to_string()),
        (true, false) if !is_one => Err(format!("there is no user {person:?}")),
        (true, false) if people.len() >= SHARED_MAX => Err(format!("it is shared with {SHARED_MAX} people already")),
        (false, false) => Err(format!("it is not shared with {person}")),
        _ => Ok(()),
    }
}

/// With whom a lease is shared then, as far as there is room.
pub fn people(leased: &Leased, sharing: &Sharing) -> Option<Vec<String>> {
    let others = leased.people.iter().flatten().filter(|other| **other != sharing.person);
    let mut people: Vec<String> = others.cloned().collect();
    if sharing.shared && people.len() < SHARED_MAX {
        people.push(sharing.person.clone());
    }
    Some(people).filter(|people| !people.is_empty())
}

/// Whether somebody may hear what happens in a job: its log, and all that is made of it. What a person does at a board that they
/// have is theirs, and of whom they let; admins have to know what became of a board.
pub fn may_hear(record: &JobRecord, who: Option<&str>, administers: bool) -> bool {
    let Some(leased) = &record.lease else { return true };
    let is_let = |who: &str| leased.people.iter().flatten().any(|other| other == who);
    administers || who.is_some_and(|who| record.person.as_deref() == Some(who) || is_let(who))
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
    fn who_has_a_board_speaks_at_it() {
        let people = Some(vec!["bert".to_string()]);
        let lease = Some(Leased { minutes: 5, agent: None, people });
        let held = JobRecord { lease, person: Some("anna".to_string()), attempt: 2, ..job(7, JobState::Running) };
        assert_eq!(may_say(7, Some(&held), 2, "anna"), Ok(()));
        let refused = |record: Option<&JobRecord>, attempt, who| may_say(7, record, attempt, who).unwrap_err();
        // Whom it is shared with hears; two who type would not know of each other.
        for who in ["bert", "carl"] {
            assert_eq!(refused(Some(&held), 2, who), "the board of job 7 is anna's");
        }
        assert_eq!(refused(Some(&held), 1, "anna"), "attempt 1 of job 7 is not under way any more");
        let ended = JobRecord { state: JobState::Passed, ..held.clone() };
        assert_eq!(refused(Some(&ended), 2, "anna"), "attempt 2 of job 7 is not under way any more");
        for none in [None, Some(&JobRecord { lease: None, ..held.clone() })] {
            assert_eq!(refused(none, 2, "anna"), "job 7 is nobody's board");
        }
    }

    #[test]
    fn what_a_person_does_at_a_board_is_heard_by_whom_they_let() {
        let leased = Leased { minutes: 5, agent: None, people: Some(vec!["bert".to_string()]) };
        let held = JobRecord { lease: Some(leased), person: Some("anna".to_string()), ..job(7, JobState::Running) };
        for (who, administers, hears) in [
            (Some("anna"), false, true),
            (Some("bert"), false, true),
            (Some("carl"), false, false),
            (Some("carl"), true, true),
            (None, false, false),
        ] {
            assert_eq!(may_hear(&held, who, administers), hears, "{who:?} {administers}");
            let ended = JobRecord { state: JobState::Passed, ..held.clone() };
            assert_eq!(may_hear(&ended, who, administers), hears, "what is over is no more others' than before");
            assert!(may_hear(&JobRecord { lease: None, ..held.clone() }, who, administers));
        }
        // A record that names nobody is nobody's.
        assert!(!may_hear(
            &JobRecord { person: None, lease: held.lease, ..job(7, JobState::Passed) },
            Some("anna"),
            false
        ));
    }

    #[test]
    fn a_board_is_shared_with_people_by_whose_it_is() {
        let users = [user("anna", false), user("bert", false), user("carl", true), user("dora", false)];
        let leased = |people: &[&str]| Leased {
            minutes: 5,
            agent: None,
            people: Some(people.iter().map(|person| (*person).to_string()).collect()),
        };
        let held = |people: &[&str]| JobRecord {
            lease: Some(leased(people)),
            person: Some("anna".to_string()),
            attempt: 1,
            ..job(7, JobState::Running)
        };
        let asked = |person: &str, shared: bool, record: &JobRecord, who: &str| {
            may_share(&Sharing { job: 7, person: person.to_string(), shared }, Some(record), who, &users)
        };
        let one = held(&["bert"]);
        assert_eq!(asked("dora", true, &one, "anna"), Ok(()));
        // Whoever is not sure whether it was done does it again.
        assert_eq!(asked("bert", true, &one, "anna"), Ok(()));
        assert_eq!(asked("bert", false, &one, "anna"), Ok(()));
        let queued = JobRecord { state: JobState::Queued, attempt: 0, ..held(&[]) };
        assert_eq!(asked("bert", true, &queued, "anna"), Ok(()));
        let many: Vec<String> = (0..SHARED_MAX).map(|number| format!("p{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (person, shared, record, who, why) in [
            ("dora", true, &one, "bert", "is anna's"),
            ("dora", false, &one, "anna", "is not shared with dora"),
            ("carl", true, &one, "anna", "no user \"carl\""),
            ("eve", true, &one, "anna", "no user \"eve\""),
            ("anna", true, &one, "anna", "yours already"),
            ("dora", true, &held(&many), "anna", "16 people already"),
            ("dora", true, &JobRecord { state: JobState::Passed, ..held(&[]) }, "anna", "not under way any more"),
            ("dora", true, &job(7, JobState::Running), "anna", "nobody's board"),
        ] {
            let told = asked(person, shared, record, who).unwrap_err();
            assert!(told.contains(why), "{person} {who}: {told}");
        }
        assert!(asked("p3", true, &held(&many), "anna").is_ok(), "who hears it already needs no room");
        // What comes of it: nobody twice, nobody beyond the bound.
        let comes = |before: &[&str], person: &str, shared: bool| {
            people(&leased(before), &Sharing { job: 7, person: person.to_string(), shared })
        };
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>());
        assert_eq!(comes(&["bert"], "dora", true), names(&["bert", "dora"]));
        assert_eq!(comes(&["bert", "dora"], "bert", true), names(&["dora", "bert"]));
        assert_eq!(comes(&["bert"], "bert", false), None);
        assert_eq!(comes(&many, "dora", true), names(&many));
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
