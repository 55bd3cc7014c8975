//! The tips of a repository → the pushes that become events.
//!
//! - A branch whose tip is not the one last seen is a push, also when it moves back to an old revision.
//! - The very first look at a repository takes the tips as they are, so that configuring an old repository does not build
//!   all its branches: only the branches named by whoever poked are pushes, or the default branch when none was named.
//!   The others are taken *quietly*; for [`QUIET_MS`] a poke that names one still makes it a push, because the first push to
//!   a new repository may carry several branches, poked one after the other while the first look is under way.
//! - Tags are pushes only where a repository is configured so; branches that begin with `_` never are.
//! - A deleted reference is forgotten, so its coming back is a push.
//! - One look makes at most [`EVENTS_A_LOOK`] pushes; the rest are not marked as seen, so the next look makes them.

use crate::git_names::{branch, is_private, tag};
use crate::git_text::Tip;
use crate::limits::Millis;
use crate::ordered::{Map, Set};
use alloc::string::String;
use alloc::vec::Vec;

/// Most pushes of one look: a mirror that pushes thousands of branches at once must not fill the queue in one turn.
pub const EVENTS_A_LOOK: usize = 64;
/// How long after the first look a poke may still make a push of a tip taken quietly, in milliseconds: longer than a hook
/// takes to poke for each branch of one push, too short for strangers to have old branches built one by one.
pub const QUIET_MS: Millis = 60_000;

/// What stands among the known references, where no reference can, once branches and once tags were looked at: a signed
/// push makes a reference known too, and it must not make the first look after a restart take all others for pushed.
const LOOKED_AT: [&str; 2] = ["refs/heads/", "refs/tags/"];
/// The revision noted with it.
const SEEN: &str = "looked at";

/// Which references of a repository make events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefPolicy {
    /// Whether tags do; branches always do.
    pub tags: bool,
}

impl RefPolicy {
    fn wants(self, reference: &str) -> bool {
        match branch(reference) {
            Some(_) => !is_private(reference),
            None => self.tags && tag(reference).is_some(),
        }
    }
}

/// What is remembered of a repository's references. Its changes are to be kept over restarts, see [`KnownRefs::restored`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownRefs {
    looked_at_branches: bool,
    looked_at_tags: bool,
    /// Reference → the revision last seen at its tip.
    refs: Map<String, String>,
    /// References taken quietly by the first look, and until when a poke may still make them pushes.
    quiet: Set<String>,
    quiet_until_ms: Millis,
}

/// A change of [`KnownRefs`]: the reference's revision, or `None` when it is forgotten.
pub type RefChange = (String, Option<String>);

/// What happens to a repository's references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A look has seen these tips.
    Look {
        /// All of them.
        tips: Vec<Tip>,
        /// The references of the pokes that led to this look.
        named: Set<String>,
        /// What HEAD stands for, where [`KnownRefs::wants_default_branch`].
        default_branch: Option<String>,
        /// Which of them make events.
        policy: RefPolicy,
    },
    /// A signed push tells of a tip.
    Told(Tip),
    /// An event was made of this tip, or it can make none (it has no saifile).
    Made(Tip),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Keep this change, which makes no event and is applied already.
    Change(RefChange),
    /// This reference is no longer there.
    Deleted(String),
    /// This is a push: `Made` follows when its event is made. Those that were named come first.
    Push(Tip),
    /// There are more pushes than one look may make: look again.
    More,
}

impl KnownRefs {
    /// What was known in an earlier life: all its changes and what was recorded, the latest of each reference.
    pub fn restored(mut refs: Map<String, String>) -> KnownRefs {
        let [looked_at_branches, looked_at_tags] = LOOKED_AT.map(|kind| refs.remove(kind).is_some());
        KnownRefs { looked_at_branches, looked_at_tags, refs, ..KnownRefs::default() }
    }

    /// Whether [`KnownRefs::look`] will ask for the default branch: a first look with nobody naming a reference.
    pub fn wants_default_branch(&self, named: &Set<String>) -> bool {
        !self.looked_at_branches && named.is_empty()
    }

    /// Whether its branches were ever looked at.
    pub fn looked_at_branches(&self) -> bool {
        self.looked_at_branches
    }

    /// Reference → the revision last seen at its tip.
    pub fn refs(&self) -> &Map<String, String> {
        &self.refs
    }

    /// Takes one input; what is to be done is appended to `out`. Times are of any monotonic clock.
    pub fn handle(&mut self, now: Millis, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Look { tips, named, default_branch, policy } => {
                self.look(now, &tips, &named, default_branch.as_deref(), policy, out);
            }
            // A look has made its event already.
            Input::Told(tip) if self.refs.get(&tip.reference) == Some(&tip.revision) => {}
            Input::Told(tip) if is_private(&tip.reference) => {}
            Input::Told(tip) => out.push(Output::Push(tip)),
            Input::Made(tip) => {
                self.quiet.remove(&tip.reference);
                self.refs.insert(tip.reference, tip.revision);
            }
        }
    }

    /// Compares a repository's tips with what is known.
    fn look(
        &mut self,
        now: Millis,
        tips: &[Tip],
        named: &Set<String>,
        default_branch: Option<&str>,
        policy: RefPolicy,
        out: &mut Vec<Output>,
    ) {
        let (first_branches, first_tags) = (!self.looked_at_branches, policy.tags && !self.looked_at_tags);
        self.looked_at_branches = true;
        self.looked_at_tags |= policy.tags;
        if first_branches || first_tags {
            self.quiet_until_ms = now.saturating_add(QUIET_MS);
        } else if now >= self.quiet_until_ms {
            self.quiet.clear();
        }
        let wanted = tips.iter().filter(|tip| policy.wants(&tip.reference));
        let wanted = Map::from_iter(wanted.map(|tip| (tip.reference.as_str(), tip.revision.as_str())));
        let gone: Vec<String> = self.refs.keys().filter(|name| !wanted.contains_key(name.as_str())).cloned().collect();
        let there: Set<&str> = tips.iter().map(|tip| tip.reference.as_str()).collect();
        for name in gone {
            // One that is only not wanted any more is still there.
            if !there.contains(name.as_str()) {
                out.push(Output::Deleted(name.clone()));
            }
            self.refs.remove(&name);
            self.quiet.remove(&name);
            out.push(Output::Change((name, None)));
        }
        let (mut pushes, mut later) = (Vec::new(), Vec::new());
        for (&reference, &revision) in &wanted {
            let is_named = named.contains(reference);
            let first = if branch(reference).is_some() { first_branches } else { first_tags };
            let moved = self.refs.get(reference).map(String::as_str) != Some(revision);
            let chosen = is_named || (named.is_empty() && default_branch == Some(reference));
            let push = match (first, moved) {
                // A signed push may have come before the first look: what it told is already built.
                (true, true) => chosen,
                (true, false) => false,
                (false, true) => true,
                (false, false) => is_named && self.quiet.contains(reference),
            };
            let tip = || Tip { reference: reference.into(), revision: revision.into() };
            if push && is_named {
                pushes.push(tip());
            } else if push {
                later.push(tip());
            } else if moved {
                self.refs.insert(reference.into(), revision.into());
                self.quiet.insert(reference.into());
                out.push(Output::Change((reference.into(), Some(revision.into()))));
            }
        }
        // After the tips that were taken quietly: until those are kept, the first look is still to come.
        for (kind, first) in LOOKED_AT.into_iter().zip([first_branches, first_tags]) {
            if first {
                out.push(Output::Change((kind.into(), Some(SEEN.into()))));
            }
        }
        pushes.append(&mut later);
        let left_over = pushes.split_off(EVENTS_A_LOOK.min(pushes.len()));
        let more = !left_over.is_empty();
        // What is left over must not be lost where it would look known (a quiet one) or quiet (a first look's).
        for tip in left_over {
            self.quiet.remove(&tip.reference);
            if self.refs.remove(&tip.reference).is_some() {
                out.push(Output::Change((tip.reference, None)));
            }
        }
        out.extend(pushes.into_iter().map(Output::Push));
        out.extend(more.then_some(Output::More));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    const BRANCHES: RefPolicy = RefPolicy { tags: false };
    const TAGS: RefPolicy = RefPolicy { tags: true };

    fn tip(reference: &str, revision: &str) -> Tip {
        Tip { reference: reference.to_string(), revision: revision.to_string() }
    }

    fn named(names: &[&str]) -> Set<String> {
        names.iter().map(ToString::to_string).collect()
    }

    /// What a look means.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Look {
        pushes: Vec<Tip>,
        changes: Vec<RefChange>,
        deleted: Vec<String>,
        more: bool,
    }

    fn see(
        known: &mut KnownRefs,
        now: Millis,
        tips: &[Tip],
        named: &Set<String>,
        default: Option<&str>,
        policy: RefPolicy,
    ) -> Look {
        let (tips, named) = (tips.to_vec(), named.clone());
        let default_branch = default.map(ToString::to_string);
        let mut look = Look::default();
        for output in give(known, now, Input::Look { tips, named, default_branch, policy }) {
            match output {
                Output::Change(change) => look.changes.push(change),
                Output::Deleted(reference) => look.deleted.push(reference),
                Output::Push(tip) => look.pushes.push(tip),
                Output::More => look.more = true,
            }
        }
        look
    }

    fn give(known: &mut KnownRefs, now: Millis, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        known.handle(now, input, &mut out);
        out
    }

    fn made(known: &mut KnownRefs, tip: &Tip) {
        assert_eq!(give(known, 0, Input::Made(tip.clone())), []);
    }

    /// A look whose pushes all become events.
    fn look(known: &mut KnownRefs, now_ms: u64, tips: &[Tip], names: &[&str]) -> Vec<Tip> {
        let look = see(known, now_ms, tips, &named(names), Some("refs/heads/main"), BRANCHES);
        for push in &look.pushes {
            made(known, push);
        }
        look.pushes
    }

    #[test]
    fn the_first_look_builds_the_default_branch_alone() {
        let mut known = KnownRefs::default();
        let tips = [tip("refs/heads/a", "1"), tip("refs/heads/main", "2"), tip("refs/heads/_x", "3")];
        assert!(known.wants_default_branch(&named(&[])));
        assert_eq!(look(&mut known, 0, &tips, &[]), [tip("refs/heads/main", "2")]);
        assert!(!known.wants_default_branch(&named(&[])));
        assert_eq!(look(&mut known, 1, &tips, &[]), []);
        assert!(!known.refs.contains_key("refs/heads/_x"));
    }

    #[test]
    fn the_first_look_after_a_poke_builds_what_was_named() {
        let mut known = KnownRefs::default();
        let tips = [tip("refs/heads/a", "1"), tip("refs/heads/b", "1"), tip("refs/heads/main", "2")];
        assert_eq!(look(&mut known, 0, &tips, &["refs/heads/a"]), [tip("refs/heads/a", "1")]);
        // The second branch of the same push is poked for while the first look is under way, or soon after it.
        assert_eq!(look(&mut known, 10, &tips, &["refs/heads/b"]), [tip("refs/heads/b", "1")]);
        assert_eq!(look(&mut known, 20, &tips, &["refs/heads/b", "refs/heads/a"]), []);
        assert_eq!(
            look(&mut known, QUIET_MS, &tips, &["refs/heads/main"]),
            [],
            "an old branch is not built for a stranger"
        );
    }

    #[test]
    fn moves_also_back_are_pushes_and_deleted_references_are_forgotten() {
        let mut known = KnownRefs::default();
        look(&mut known, 0, &[tip("refs/heads/main", "1")], &[]);
        assert_eq!(look(&mut known, 0, &[tip("refs/heads/main", "2")], &[]), [tip("refs/heads/main", "2")]);
        assert_eq!(look(&mut known, 0, &[tip("refs/heads/main", "1")], &[]), [tip("refs/heads/main", "1")]);
        let gone = see(&mut known, 0, &[], &named(&[]), None, BRANCHES);
        assert_eq!(gone.changes, vec![("refs/heads/main".to_string(), None)]);
        assert_eq!(gone.deleted, ["refs/heads/main"]);
        assert_eq!(look(&mut known, 0, &[tip("refs/heads/main", "1")], &[]), [tip("refs/heads/main", "1")]);
    }

    #[test]
    fn what_is_forgotten_but_there_is_not_deleted() {
        // A tag, where tags are no longer wanted.
        let mut known = KnownRefs::default();
        let tips = [tip("refs/heads/main", "1"), tip("refs/tags/v1", "1")];
        see(&mut known, 0, &tips, &named(&[]), None, RefPolicy { tags: true });
        let look = see(&mut known, 0, &tips, &named(&[]), None, BRANCHES);
        assert_eq!((look.changes, look.deleted), (vec![("refs/tags/v1".to_string(), None)], vec![]));
        // A branch whose push is left to the next look, since there are too many.
        let mut known = KnownRefs::default();
        let name = |number: usize| format!("refs/heads/b{number}");
        let of = |revision: &str| (0..=EVENTS_A_LOOK).map(|number| tip(&name(number), revision)).collect::<Vec<Tip>>();
        see(&mut known, 0, &of("1"), &named(&[]), None, BRANCHES);
        let look = see(&mut known, QUIET_MS, &of("2"), &named(&[]), None, BRANCHES);
        assert_eq!((look.more, look.changes.len(), look.deleted), (true, 1, vec![]));
    }

    #[test]
    fn tags_only_where_configured_and_the_old_ones_never() {
        let mut known = KnownRefs::default();
        let tips = [tip("refs/heads/main", "1"), tip("refs/tags/v1", "1")];
        assert_eq!(look(&mut known, 0, &tips, &[]), [tip("refs/heads/main", "1")]);
        assert_eq!(see(&mut known, 1, &tips, &named(&[]), None, TAGS).pushes, []);
        let tips = [tip("refs/heads/main", "1"), tip("refs/tags/v1", "1"), tip("refs/tags/v2", "1")];
        assert_eq!(see(&mut known, 2, &tips, &named(&[]), None, TAGS).pushes, [tip("refs/tags/v2", "1")]);
    }

    #[test]
    fn a_push_not_recorded_comes_again() {
        let mut known = KnownRefs::default();
        look(&mut known, 0, &[], &[]);
        let tips = [tip("refs/heads/main", "1")];
        for _ in 0..2 {
            assert_eq!(see(&mut known, 0, &tips, &named(&[]), None, BRANCHES).pushes, tips);
        }
    }

    #[test]
    fn many_pushes_come_in_portions_the_named_first_and_none_is_lost() {
        for first in [false, true] {
            let mut known = KnownRefs::default();
            if !first {
                look(&mut known, 0, &[], &[]);
            }
            let tips: Vec<Tip> = (0..150).map(|n| tip(&format!("refs/heads/b{n:03}"), "1")).collect();
            let all: Vec<String> = tips.iter().map(|tip| tip.reference.clone()).collect();
            let names = if first { all.iter().cloned().collect() } else { named(&["refs/heads/b149"]) };
            let mut seen = Vec::new();
            for round in 0..3 {
                let look = see(&mut known, 0, &tips, &names, None, BRANCHES);
                assert_eq!(look.more, round < 2);
                assert!(look.pushes.len() <= EVENTS_A_LOOK);
                for push in look.pushes {
                    made(&mut known, &push);
                    seen.push(push.reference);
                }
            }
            assert!(first || seen[0] == "refs/heads/b149");
            seen.sort();
            assert_eq!(seen, all);
        }
    }

    #[test]
    fn a_signed_push_and_a_look_make_one_event() {
        let mut known = KnownRefs::default();
        let told = || Input::Told(tip("refs/heads/main", "1"));
        assert_eq!(give(&mut known, 0, told()), [Output::Push(tip("refs/heads/main", "1"))]);
        made(&mut known, &tip("refs/heads/main", "1"));
        assert_eq!(give(&mut known, 0, told()), []);
        assert_eq!(give(&mut known, 0, Input::Told(tip("refs/heads/_x", "1"))), [], "nobody else is to see it");
        // The look that follows is the first one all the same.
        let tips = [tip("refs/heads/main", "1"), tip("refs/heads/old", "0")];
        assert_eq!(look(&mut known, 0, &tips, &[]), []);
        assert_eq!(
            look(&mut known, 0, &[tips[0].clone(), tip("refs/heads/old", "2")], &[]),
            [tip("refs/heads/old", "2")]
        );
    }

    #[test]
    fn a_signed_push_before_the_first_look_does_not_make_old_branches_pushes_after_a_restart() {
        let mut kept = Map::from([("refs/heads/main".to_string(), "1".to_string())]);
        let tips = [tip("refs/heads/main", "1"), tip("refs/heads/old", "0")];
        let mut known = KnownRefs::restored(kept.clone());
        assert!(!known.looked_at_branches);
        let first = see(&mut known, 0, &tips, &named(&[]), Some("refs/heads/main"), TAGS);
        assert_eq!(first.pushes, []);
        // From what that look has changed, the next life knows that it was made.
        for (reference, revision) in first.changes {
            assert!(kept.insert(reference, revision.unwrap()).is_none());
        }
        let mut known = KnownRefs::restored(kept);
        assert!(known.looked_at_branches && known.looked_at_tags);
        assert_eq!(see(&mut known, 0, &tips, &named(&[]), None, TAGS), Look::default());
        let moved = [tip("refs/heads/main", "1"), tip("refs/heads/old", "2")];
        assert_eq!(see(&mut known, 0, &moved, &named(&[]), None, TAGS).pushes, [tip("refs/heads/old", "2")]);
    }
}
