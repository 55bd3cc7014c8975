//! Action and who asks for it → whether they may, by [`sai_core::roles`]: asked where it is performed, and by the page
//! before it offers or passes on anything.

use crate::action::Action;
use sai_core::job::{EventId, JobId};
use sai_core::ledger::UserRecord;
use sai_core::roles::{Deed, may};

/// Who asks on the command line: who may reach the master's own socket. It can be no user's name.
pub const COMMAND_LINE: &str = "command line";

/// Finds the repositories of what actions are about.
pub struct Objects<'a> {
    /// The repository of a job.
    pub job: &'a dyn Fn(JobId) -> Option<String>,
    /// The repository of an event.
    pub event: &'a dyn Fn(EventId) -> Option<String>,
    /// Who has sent what a job builds, where somebody has.
    pub sender: &'a dyn Fn(JobId) -> Option<String>,
}

/// What an action is, and to something of which repository.
fn deed(action: &Action, of: &Objects<'_>) -> (Deed, Option<String>) {
    match action {
        Action::CancelJob(id) | Action::RebuildJob(id) | Action::RebuildFollowing(id) => (Deed::Build, (of.job)(*id)),
        Action::CancelAttempt(key) => (Deed::Build, (of.job)(key.job)),
        Action::CancelEvent(id) | Action::RebuildEvent(id, _) => (Deed::Build, (of.event)(*id)),
        Action::Start(repository, _) => (Deed::Build, Some(repository.clone())),
        Action::FreeUnits(_) | Action::Lease(_) | Action::CheckBoard(..) => (Deed::Build, None),
        // Whose board it is, is asked where that is known.
        Action::Word(_) | Action::Share(_) | Action::Image(..) => (Deed::Read, None),
        Action::Send(repository, _) | Action::Run(repository, _) => (Deed::Run, Some(repository.clone())),
        Action::Status | Action::AgentList | Action::Rejudge(..) => (Deed::Read, None),
        Action::AgentAdd(_)
        | Action::AgentRevoke(_)
        | Action::SetAside(..)
        | Action::BoardAside(..)
        | Action::AgentUpdate(..)
        | Action::UserAdd(..)
        | Action::UserRevoke(_)
        | Action::UserList
        | Action::Collect => (Deed::Administer, None),
    }
}

/// The job that an action ends, where it is one.
fn ended(action: &Action) -> Option<JobId> {
    match action {
        Action::CancelJob(id) => Some(*id),
        Action::CancelAttempt(key) => Some(key.job),
        _ => None,
    }
}

/// Whether somebody may have an action performed.
///
/// # Errors
/// Why not, in a sentence for that person.
pub fn check(users: &[UserRecord], who: &str, now_ms: u64, action: &Action, of: &Objects<'_>) -> Result<(), String> {
    if who == COMMAND_LINE {
        return Ok(());
    }
    let (deed, repository) = deed(action, of);
    let user = users.iter().find(|user| user.name == who && !user.revoked);
    let user = user.ok_or_else(|| format!("there is no user {who:?} any more"))?;
    let can = |deed| may(user.powers.as_ref(), now_ms, deed, repository.as_deref());
    // Who has something built may end that.
    let own = || ended(action).and_then(of.sender).as_deref() == Some(who);
    if can(deed) || (can(Deed::Run) && own()) {
        return Ok(());
    }
    let takes = match deed {
        Deed::Administer => "an admin",
        Deed::Run => "the right to run what nobody pushed",
        Deed::Build | Deed::Read => "a builder",
    };
    let of = repository.map(|name| format!(" of {name}")).unwrap_or_default();
    let is = user.powers.as_ref().map(|powers| powers.words()).unwrap_or_default();
    Err(format!("{who} is {is}, and this takes {takes}{of}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Piece;
    use sai_core::job::JobKey;
    use sai_core::rebuild::Choice;
    use sai_core::roles::Powers;
    use sai_core::sent::Sent;
    use sai_core::start::Start;

    fn user(name: &str, words: &[&str]) -> UserRecord {
        let powers = Some(Powers::parse(words, 0).unwrap());
        UserRecord { name: name.to_string(), token_sha256: String::new(), added_at: 0, revoked: false, powers }
    }

    #[test]
    fn every_action_is_asked_for_by_its_object() {
        let users = [
            user("reader", &["reader"]),
            user("builder", &["builder"]),
            user("admin", &["admin"]),
            user("own", &["builder@hello"]),
            user("runs", &["reader", "run@hello"]),
            UserRecord { powers: None, ..user("old", &[]) },
            UserRecord { revoked: true, ..user("gone", &["admin"]) },
        ];
        let of = |id: u64| {
            (id < 10).then(|| if [1, 3, 4].contains(&id) { "hello".to_string() } else { "other".to_string() })
        };
        // Of two who have sent what is built one may do so no more.
        let sender =
            |id: u64| [(3, "runs"), (4, "reader")].into_iter().find_map(|(job, who)| (job == id).then(|| who.into()));
        let objects = Objects { job: &of, event: &of, sender: &sender };
        let key = JobKey { job: 1, attempt: 1 };
        let text = || "x".to_string();
        for (action, who) in [
            (Action::CancelJob(1), &["builder", "admin", "own", "old"][..]),
            (Action::CancelJob(3), &["builder", "admin", "own", "runs", "old"]),
            (Action::CancelJob(4), &["builder", "admin", "own", "old"]),
            (Action::RebuildJob(3), &["builder", "admin", "own", "old"]),
            (Action::RebuildFollowing(1), &["builder", "admin", "own", "old"]),
            (Action::CancelAttempt(key), &["builder", "admin", "own", "old"]),
            (Action::RebuildEvent(1, Choice::wrong()), &["builder", "admin", "own", "old"]),
            (Action::CancelEvent(2), &["builder", "admin", "old"]),
            (Action::RebuildJob(99), &["builder", "admin", "old"]),
            (Action::Start("hello".to_string(), Start::default()), &["builder", "admin", "own", "old"]),
            (Action::Start("other".to_string(), Start::default()), &["builder", "admin", "old"]),
            (Action::Run("hello".to_string(), Sent::default()), &["runs", "old"]),
            (Action::Run("other".to_string(), Sent::default()), &["old"]),
            (Action::Send("hello".to_string(), Piece::default()), &["runs", "old"]),
            (Action::FreeUnits(1), &["builder", "admin", "old"]),
            (Action::Image(1, Piece::default()), &["reader", "builder", "admin", "own", "runs", "old"]),
            (Action::AgentAdd(vec![text()]), &["admin", "old"]),
            (Action::AgentRevoke(text()), &["admin", "old"]),
            (Action::SetAside(text(), true), &["admin", "old"]),
            (Action::UserAdd(text(), Powers::default()), &["admin", "old"]),
            (Action::UserRevoke(text()), &["admin", "old"]),
            (Action::Collect, &["admin", "old"]),
            (Action::Status, &["reader", "builder", "admin", "own", "runs", "old"]),
        ] {
            for name in ["reader", "builder", "admin", "own", "runs", "old", "gone", "nobody"] {
                let answer = check(&users, name, 0, &action, &objects);
                assert_eq!(answer.is_ok(), who.contains(&name), "{name} {action:?} {answer:?}");
            }
            assert_eq!(check(&[], COMMAND_LINE, 0, &action, &objects), Ok(()));
        }
        let error = check(&users, "own", 0, &Action::CancelEvent(2), &objects).unwrap_err();
        assert_eq!(error, "own is reader, builder@hello, and this takes a builder of other");
    }
}
