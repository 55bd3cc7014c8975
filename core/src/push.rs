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
use crate::ordered::{Map, Set};
use alloc::string::String;
use alloc::vec::Vec;

/// Most pushes of one look: a mirror that pushes thousands of branches at once must not fill the queue in one turn.
pub const EVENTS_A_LOOK: usize = 64;
/// How long after the first look a poke may still make a push of a tip taken quietly, in milliseconds: longer than a hook
/// takes to poke for each branch of one push, too short for strangers to have old branches built one by one.
pub const QUIET_MS: u64 = 60_000;

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
    /// Whether its branches were ever looked at.
    pub looked_at_branches: bool,
    /// Whether its tags were ever looked at.
    pub looked_at_tags: bool,
    /// Reference → the revision last seen at its tip.
    pub refs: Map<String, String>,
    /// References taken quietly by the first look, and until when a poke may still make them pushes.
    quiet: Set<String>,
    quiet_until_ms: u64,
}

/// A change of [`KnownRefs`]: the reference's revision, or `None` when it is forgotten.
pub type RefChange = (String, Option<String>);

/// What a look means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The pushes, the named ones first. Each is to be [`KnownRefs::record`]ed when its event is made.
    pub pushes: Vec<Tip>,
    /// Changes that make no event, already applied.
    pub changes: Vec<RefChange>,
    /// Whether there are more pushes than one look may make: look again.
    pub more: bool,
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

    /// Compares a repository's tips with what is known. `now_ms` is any monotonic clock; `named` are the references of the
    /// pokes that led to this look; `default_branch` is what HEAD stands for, where [`KnownRefs::wants_default_branch`].
    pub fn look(
        &mut self,
        now_ms: u64,
        tips: &[Tip],
        named: &Set<String>,
        default_branch: Option<&str>,
        policy: RefPolicy,
    ) -> Look {
        let mut look = Look::default();
        let (first_branches, first_tags) = (!self.looked_at_branches, policy.tags && !self.looked_at_tags);
        self.looked_at_branches = true;
        self.looked_at_tags |= policy.tags;
        if first_branches || first_tags {
            self.quiet_until_ms = now_ms.saturating_add(QUIET_MS);
        } else if now_ms >= self.quiet_until_ms {
            self.quiet.clear();
        }
        let wanted = tips.iter().filter(|tip| policy.wants(&tip.reference));
        let wanted = Map::from_iter(wanted.map(|tip| (tip.reference.as_str(), tip.revision.as_str())));
        let gone: Vec<String> = self.refs.keys().filter(|name| !wanted.contains_key(name.as_str())).cloned().collect();
        for name in gone {
            self.refs.remove(&name);
            self.quiet.remove(&name);
            look.changes.push((name, None));
        }
        let mut later = Vec::new();
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
                look.pushes.push(tip());
            } else if push {
                later.push(tip());
            } else if moved {
                self.refs.insert(reference.into(), revision.into());
                self.quiet.insert(reference.into());
                look.changes.push((reference.into(), Some(revision.into())));
            }
        }
        // After the tips that were taken quietly: until those are kept, the first look is still to come.
        for (kind, first) in LOOKED_AT.into_iter().zip([first_branches, first_tags]) {
            if first {
                look.changes.push((kind.into(), Some(SEEN.into())));
            }
        }
        look.pushes.append(&mut later);
        look.more = look.pushes.len() > EVENTS_A_LOOK;
        if look.more {
            // What is left over must not be lost where it would look known (a quiet one) or quiet (a first look's).
            for tip in look.pushes.drain(EVENTS_A_LOOK..) {
                self.quiet.remove(&tip.reference);
                if self.refs.remove(&tip.reference).is_some() {
                    look.changes.push((tip.reference, None));
                }
            }
        }
        look
    }

    /// Remembers that an event was made of this tip, or that it can make none (it has no saifile). Returns whether that is
    /// news: a signed push is to be dropped when a look has already made its event.
    pub fn record(&mut self, reference: &str, revision: &str) -> bool {
        let quiet = self.quiet.remove(reference);
        let known = self.refs.get(reference).is_some_and(|known| known == revision);
        if !known {
            self.refs.insert(reference.into(), revision.into());
        }
        quiet || !known
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

    /// A look whose pushes all become events.
    fn look(known: &mut KnownRefs, now_ms: u64, tips: &[Tip], names: &[&str]) -> Vec<Tip> {
        let look = known.look(now_ms, tips, &named(names), Some("refs/heads/main"), BRANCHES);
        for push in &look.pushes {
            assert!(known.record(&push.reference, &push.revision));
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
        let gone = known.look(0, &[], &named(&[]), None, BRANCHES);
        assert_eq!(gone.changes, vec![("refs/heads/main".to_string(), None)]);
        assert_eq!(look(&mut known, 0, &[tip("refs/heads/main", "1")], &[]), [tip("refs/heads/main", "1")]);
    }

    #[test]
    fn tags_only_where_configured_and_the_old_ones_never() {
        let mut known = KnownRefs::default();
        let tips = [tip("refs/heads/main", "1"), tip("refs/tags/v1", "1")];
        assert_eq!(look(&mut known, 0, &tips, &[]), [tip("refs/heads/main", "1")]);
        assert_eq!(known.look(1, &tips, &named(&[]), None, TAGS).pushes, []);
        let tips = [tip("refs/heads/main", "1"), tip("refs/tags/v1", "1"), tip("refs/tags/v2", "1")];
        assert_eq!(known.look(2, &tips, &named(&[]), None, TAGS).pushes, [tip("refs/tags/v2", "1")]);
    }

    #[test]
    fn a_push_not_recorded_comes_again() {
        let mut known = KnownRefs::default();
        look(&mut known, 0, &[], &[]);
        let tips = [tip("refs/heads/main", "1")];
        for _ in 0..2 {
            assert_eq!(known.look(0, &tips, &named(&[]), None, BRANCHES).pushes, tips);
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
                let look = known.look(0, &tips, &names, None, BRANCHES);
                assert_eq!(look.more, round < 2);
                assert!(look.pushes.len() <= EVENTS_A_LOOK);
                for push in look.pushes {
                    known.record(&push.reference, &push.revision);
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
        assert!(known.record("refs/heads/main", "1"));
        assert!(!known.record("refs/heads/main", "1"));
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
        let first = known.look(0, &tips, &named(&[]), Some("refs/heads/main"), TAGS);
        assert_eq!(first.pushes, []);
        // From what that look has changed, the next life knows that it was made.
        for (reference, revision) in first.changes {
            assert!(kept.insert(reference, revision.unwrap()).is_none());
        }
        let mut known = KnownRefs::restored(kept);
        assert!(known.looked_at_branches && known.looked_at_tags);
        assert_eq!(known.look(0, &tips, &named(&[]), None, TAGS), Look::default());
        let moved = [tip("refs/heads/main", "1"), tip("refs/heads/old", "2")];
        assert_eq!(known.look(0, &moved, &named(&[]), None, TAGS).pushes, [tip("refs/heads/old", "2")]);
    }
}
