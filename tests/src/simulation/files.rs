//! Saifiles and plans of new events → files that a crash takes, and what the journal carries of them until the shipped machine has
//! had them flushed.

use super::disk::Row;
use super::{Bug, Event, Outcome, World};
use sai_core::job::EventId;
use sai_core::limits::Millis;
use sai_core::lull::{self, Lull, QUIET_MS};
use std::collections::BTreeSet;

/// Flushes of a thousand that fail while there is trouble.
const FAILING: u64 = 100;

/// What a master knows of its events' files.
#[derive(Default)]
pub(super) struct Kept {
    /// Events whose files outlive any crash.
    durable: BTreeSet<EventId>,
    lull: Lull,
    tick: Option<Millis>,
    /// When a group was last written.
    written_at: Millis,
}

impl World {
    /// The files of a new event are there, and can be read until the power goes; the line that carries them.
    pub(super) fn show_files(&mut self, event: EventId, plan: Vec<u8>) -> Row {
        // A number that was lost with a crash is given again.
        self.master.kept.durable.remove(&event);
        self.plans.insert(event, plan.clone());
        Row::Files(event, plan)
    }

    /// A group is durable, and carries the files of these events.
    pub(super) fn group_written(&mut self, events: Vec<EventId>) -> Outcome {
        self.master.kept.written_at = self.now;
        self.lull(lull::Input::Written(events))
    }

    fn lull(&mut self, input: lull::Input) -> Outcome {
        let closing = input == lull::Input::Closing;
        let mut out = Vec::new();
        self.master.kept.lull.handle(self.now, input, &mut out);
        for lull::Output::Flush(events) in out {
            let quiet = self.now - self.master.kept.written_at;
            if closing {
                self.flush_files(events);
            } else if quiet < QUIET_MS {
                return self.broken("a lull", format!("files are flushed {quiet} ms after a group"));
            } else {
                let wait = self.random.between(1, self.master.slow);
                self.after(wait, Event::FilesFlushed(self.master.boot, events));
            }
        }
        let due = self.master.kept.lull.deadline();
        if due != self.master.kept.tick {
            self.master.kept.tick = due;
            due.into_iter().for_each(|due| self.at(due, Event::LullTick(self.master.boot)));
        }
        Ok(())
    }

    pub(super) fn lull_tick(&mut self, boot: u64) -> Outcome {
        if boot != self.master.boot || self.master.kept.tick.is_none_or(|due| due > self.now) {
            return Ok(());
        }
        self.master.kept.tick = None;
        // What waits to be written goes first, and ends the lull.
        if self.master.is_writing() { Ok(()) } else { self.lull(lull::Input::Tick) }
    }

    pub(super) fn files_flushed(&mut self, boot: u64, events: Vec<EventId>) -> Outcome {
        if boot == self.master.boot && self.master.hub.is_some() {
            self.flush_files(events);
        }
        Ok(())
    }

    /// A flush of files ends. After one that fails they stay carried until the next start.
    fn flush_files(&mut self, events: Vec<EventId>) {
        if self.calm.is_none() && self.random.chance(FAILING) {
            return;
        }
        if self.bug != Some(Bug::CarriedTooShort) {
            self.master.kept.durable.extend(events.iter().copied());
        }
        self.summary.flushed_files += events.len() as u64;
        let row = Row::FilesDurable(events);
        self.master.latest.apply(row.clone());
        self.master.durable.apply(row);
    }

    /// With the power goes what was not flushed, all of it or a part.
    pub(super) fn lose_files(&mut self) {
        let open: Vec<EventId> =
            self.plans.keys().copied().filter(|event| !self.master.kept.durable.contains(event)).collect();
        for event in open {
            if self.random.chance(500) {
                self.plans.remove(&event);
            }
        }
        (self.master.kept.lull, self.master.kept.tick) = (Lull::default(), None);
    }

    /// A starting master writes what is carried, and flushes it.
    pub(super) fn write_files_again(&mut self) {
        let carried: Vec<(EventId, Vec<u8>)> =
            self.master.durable.carried.iter().map(|(event, plan)| (*event, plan.clone())).collect();
        let events: Vec<EventId> = carried.iter().map(|(event, _)| *event).collect();
        for (event, plan) in carried {
            self.summary.written_again += u64::from(self.plans.insert(event, plan).is_none());
        }
        self.master.kept.durable.extend(events.iter().copied());
        let row = Row::FilesDurable(events);
        self.master.latest.apply(row.clone());
        self.master.durable.apply(row);
    }

    /// At a master's end nothing is carried but what could not be flushed, and nothing is neither carried nor durable.
    pub(super) fn check_files_at_end(&mut self) -> Outcome {
        self.lull(lull::Input::Closing)?;
        let kept = |event: &EventId| {
            self.master.kept.durable.contains(event) || self.master.durable.carried.contains_key(event)
        };
        if let Some(event) = self.master.durable.events.keys().find(|event| !kept(event)) {
            return self
                .broken("plans are kept", format!("the files of event {event} are neither durable nor carried"));
        }
        Ok(())
    }
}
