//! A ref that was pushed over or deleted → the jobs of earlier pushes to it that nobody wants any longer.

use super::{Hub, Plan};
use crate::job::{EventId, JobId};
use crate::ledger::Source;
use crate::ordered::Set;
use crate::repo_spec::board_named;
use alloc::string::String;
use alloc::vec::Vec;

/// What nobody wants any longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obsolete {
    /// The repository's name.
    pub repository: String,
    /// The ref.
    pub reference: String,
    /// The first event of it that is wanted.
    pub before: EventId,
    /// Configurations that the later push does not build although its ref does: what of them is under way is all that will be
    /// known of them.
    pub but: Vec<String>,
    /// Why, for people.
    pub why: String,
}

impl Hub {
    /// The jobs that this is about.
    pub(super) fn obsolete(&self, obsolete: &Obsolete) -> Vec<JobId> {
        let of_it = self.plans.values().filter(|Plan { event, .. }| {
            // What somebody tries or starts is that person's own, whatever becomes of the ref it is of, and a session ends with its build.
            event.id < obsolete.before
                && (&event.repository, &event.reference) == (&obsolete.repository, &obsolete.reference)
                && !matches!(event.source, Source::Try | Source::Start | Source::Session | Source::Run)
        });
        of_it.flat_map(|plan| unwanted(plan, &obsolete.but)).collect()
    }
}

/// The jobs of a plan but those of these configurations, and what they need.
fn unwanted(plan: &Plan, but: &[String]) -> Vec<JobId> {
    let stays =
        |name: &String| but.iter().any(|one| one == name || board_named(name).is_some_and(|(whole, _)| whole == one));
    let mut waiting: Vec<JobId> =
        plan.specs.iter().filter(|(_, spec)| stays(&spec.configuration)).map(|(job, _)| *job).collect();
    let mut stay: Set<JobId> = waiting.iter().copied().collect();
    while let Some(job) = waiting.pop() {
        let needs = plan.specs.get(&job).map(|spec| spec.needs.as_slice()).unwrap_or_default();
        let needs = needs.iter().map(|need| plan.event.first_job + u64::from(*need));
        waiting.extend(needs.filter(|need| stay.insert(*need)));
    }
    plan.specs.keys().copied().filter(|job| !stay.contains(job)).collect()
}
