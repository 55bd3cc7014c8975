//! An image that the master tells, what became of its file, whether anything runs, and time → when it is fetched, when it is handed on.
//!
//! The file is fetched while jobs go on. When it is there no job begins any more, and when the last one is gone, with all that the
//! master was to have of it, the machine's first process gets the file: that one believes nothing but the signature.

use crate::card::QUIET_MS;
use crate::limits::Millis;
use crate::wire::{Update, Updating};
use alloc::string::{String, ToString as _};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Fetching,
    /// Whether nothing runs counts from then on, since a job may be on its way.
    Waiting {
        from: Millis,
    },
    Handed,
    Refused,
}

#[derive(Clone, Debug)]
struct Wanted {
    update: Update,
    stage: Stage,
    have: u64,
    why: Option<String>,
}

/// A part of the session, which alone changes it. See the file's first line.
#[derive(Clone, Debug, Default)]
pub(super) struct Updates {
    wanted: Option<Wanted>,
    /// Whether the master of the present link does not know how far it is.
    news: bool,
}

impl Updates {
    /// The master tells of an image: what is to be fetched, if that is not under way.
    pub(super) fn told(&mut self, update: Update) -> Option<Update> {
        self.news = true;
        if self.wanted.as_ref().is_some_and(|known| known.update == update && known.stage != Stage::Refused) {
            return None;
        }
        self.wanted = Some(Wanted { update: update.clone(), stage: Stage::Fetching, have: 0, why: None });
        Some(update)
    }

    /// So much of it is there.
    pub(super) fn fetching(&mut self, have: u64, why: String) {
        if let Some(wanted) = self.wanted.as_mut().filter(|wanted| wanted.stage == Stage::Fetching) {
            wanted.have = have;
            wanted.why = (!why.is_empty()).then_some(why);
            self.news = true;
        }
    }

    /// It is there, or cannot be had.
    pub(super) fn fetched(&mut self, now: Millis, result: Result<(), String>) {
        // Of one that another took the place of meanwhile.
        let Some(wanted) = self.wanted.as_mut().filter(|wanted| wanted.stage == Stage::Fetching) else { return };
        self.news = true;
        match result {
            Ok(()) => {
                wanted.have = wanted.update.size;
                wanted.why = None;
                wanted.stage = Stage::Waiting { from: now + QUIET_MS };
            }
            Err(why) => self.refuse(why),
        }
    }

    /// It is not taken.
    pub(super) fn refuse(&mut self, why: String) {
        if let Some(wanted) = &mut self.wanted {
            (wanted.stage, wanted.why) = (Stage::Refused, Some(why));
            self.news = true;
        }
    }

    /// Whether no job is to begin.
    pub(super) fn is_waiting(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| matches!(wanted.stage, Stage::Waiting { .. } | Stage::Handed))
    }

    /// When it may be handed on, while nothing runs.
    pub(super) fn deadline(&self, quiet: bool) -> Option<Millis> {
        match self.wanted.as_ref()?.stage {
            Stage::Waiting { from } if quiet => Some(from),
            _ => None,
        }
    }

    /// What is handed on now.
    pub(super) fn due(&mut self, now: Millis, quiet: bool) -> Option<Update> {
        let due = self.deadline(quiet).is_some_and(|from| from <= now);
        let wanted = self.wanted.as_mut().filter(|_| due)?;
        wanted.stage = Stage::Handed;
        self.news = true;
        Some(wanted.update.clone())
    }

    /// A new link: nothing of it is known there.
    pub(super) fn forget_told(&mut self) {
        self.news = self.wanted.is_some();
    }

    /// How far it is, if that was not told.
    pub(super) fn news(&mut self) -> Option<Updating> {
        if !core::mem::take(&mut self.news) {
            return None;
        }
        let Wanted { update, stage, have, why } = self.wanted.as_ref()?;
        let state = match stage {
            Stage::Fetching => Updating::FETCHING,
            Stage::Waiting { .. } => Updating::WAITING,
            Stage::Handed => Updating::HANDED,
            Stage::Refused => Updating::REFUSED,
        };
        Some(Updating { number: update.number, state: state.to_string(), have: *have, why: why.clone() })
    }
}
