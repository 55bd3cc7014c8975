//! Images that are broken, and jobs that met them → where the master may send these jobs next.

use super::{Outcome, World};
use sai_core::job::JobState;
use sai_core::ledger::JobRecord;
use sai_core::platform::serves;
use sai_core::wire::Assignment;

/// What an agent says of an attempt in a broken image.
pub(super) const BROKEN_IMAGE: &str = "nothing runs in this image";

impl World {
    /// Breaks an image of a host with several, now and then.
    pub(super) fn break_image(&mut self) {
        let Some(host) = self.hosts.last_mut() else { return };
        if host.platforms.len() > 1 && self.random.chance(500) {
            host.bad = host.platforms.first().cloned();
        }
    }

    /// Remembers where a job met trouble, and whether it was a broken image, as the hub has heard it, until it is queued by
    /// somebody anew.
    pub(super) fn note_broken_image(&mut self, record: &JobRecord) {
        if record.infra == 0 {
            self.oracle.met.remove(&record.id);
        } else if record.state == JobState::Queued
            && let (Some(agent), Some(offered)) = (&record.agent, &record.offered)
        {
            let broken = record.cause.contains(BROKEN_IMAGE);
            let met = self.oracle.met.entry(record.id).or_default();
            *met.entry((agent.clone(), offered.clone())).or_default() |= broken;
            self.summary.broken_images += u64::from(broken);
        }
    }

    /// A job goes to a broken image a second time only where its agent offers nothing else for it.
    pub(super) fn check_image(&self, name: &str, assignment: &Assignment) -> Outcome {
        let (Some(hub), Some(offered)) = (&self.master.hub, &assignment.offered) else { return Ok(()) };
        // Whether it met trouble there, on any agent, and whether the image was broken.
        let met = |platform: &String| {
            let met = self.oracle.met.get(&assignment.key.job).into_iter().flatten();
            met.filter(|((_, other), _)| other == platform).map(|(_, broken)| *broken).reduce(|one, other| one | other)
        };
        let paused = hub.scheduler().paused(self.now, name);
        let free = |platform: &&String| !paused.iter().any(|why| why.starts_with(&format!("{platform} ")));
        let all = hub.connected().get(name).map_or(&[][..], |connected| &connected.hello.platforms);
        let serving = || all.iter().filter(|platform| serves(platform, &assignment.platform)).filter(free);
        if !serving().any(|platform| platform == offered) {
            return self.broken("another image", format!("{} is to run in {offered} of {name}", assignment.key));
        }
        match serving().find(|platform| met(offered) == Some(true) && met(platform).is_none()) {
            Some(other) => self.broken(
                "another image",
                format!("{} is given {offered} of {name} again, and {other} is there", assignment.key),
            ),
            None => Ok(()),
        }
    }
}
