//! An image for cards, and what agents say when they come or get on with it → which one is told of it, when it has it, and when the
//! others are told.
//!
//! The first of them is told alone. Where it does not come back with the image, none of the others is told: a bad one costs a card a
//! start. What is wanted stands in the agents' records, so that a master which was restarted goes on with it.

use super::{Hub, Output, Touch, plain};
use crate::card::Wanted;
use crate::versions::Can;
use crate::wire::{MasterMessage, Update, Updating};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

/// A MiB, in which progress is told.
const MIB: u64 = 1 << 20;

impl Hub {
    /// How far an agent is with the image that it was told, in words.
    pub fn update_progress(&self, name: &str) -> Option<String> {
        let updating = self.updating.get(name)?;
        let what = match updating.state.as_str() {
            Updating::FETCHING => {
                let size = self.agents.get(name)?.update.as_ref()?.size;
                format!("{} of {} MiB are there", updating.have / MIB, size.div_ceil(MIB))
            }
            Updating::WAITING => "it is there, and what runs is seen to its end".to_string(),
            Updating::HANDED => "the machine is started with it".to_string(),
            word => plain(word),
        };
        Some(match &updating.why {
            Some(why) => format!("{what}; {}", plain(why)),
            None => what,
        })
    }

    /// These agents are to have an image, the first of them before the others.
    pub(super) fn update(&mut self, names: &[String], wanted: &Wanted, out: &mut Vec<Output>) {
        // Who waits for one of these to come back with something else waits in vain.
        let others: Vec<String> = self.agents.keys().filter(|name| !names.contains(name)).cloned().collect();
        for other in others {
            let after = self.agents.get(&other).and_then(|record| record.update.as_ref()?.after.clone());
            if let Some(first) = after.filter(|first| names.contains(first)) {
                self.give_up(&other, format!("{first} was to have it first, and is to have another one now"), out);
            }
        }
        for name in names {
            // One that was never let in, or is not any more.
            let Some(record) = self.agents.get_mut(name) else { continue };
            let after = names.first().filter(|first| *first != name).cloned();
            record.update = Some(Wanted { after, lefts: None, failed: None, ..wanted.clone() });
            self.updating.remove(name);
            self.changed_update(name, out);
            self.tell_update(name, out);
        }
    }

    /// An agent has greeted.
    pub(super) fn update_greeted(&mut self, name: &str, out: &mut Vec<Output>) {
        self.updating.remove(name);
        let Some(record) = self.agents.get_mut(name) else { return self.bugs.note("update: no such agent") };
        // Most agents are no cards, or have what they are to have.
        let (Some(wanted), Some(card)) = (&record.update, &record.card) else { return };
        let number = wanted.number;
        if card.number == number {
            record.update = None;
            out.push(Output::Say(format!("agent {name} has come back with image {number}")));
            self.changed_update(name, out);
            for other in self.waiting_for(name, number) {
                if let Some(wanted) = self.agents.get_mut(&other).and_then(|record| record.update.as_mut()) {
                    wanted.after = None;
                }
                self.changed_update(&other, out);
                self.tell_update(&other, out);
            }
        } else if wanted.failed.is_some() {
            // It is told once more when somebody asks for it.
        } else if card.left == Some(number) && wanted.lefts.is_some_and(|before| card.lefts.unwrap_or(0) > before) {
            let why = "it did not prove itself, and the system before it was started again".to_string();
            self.update_failed(name, number, why, out);
        } else {
            self.tell_update(name, out);
        }
    }

    /// An agent says how far it is.
    pub(super) fn update_said(&mut self, name: &str, updating: Updating, out: &mut Vec<Output>) {
        let wanted = self.agents.get(name).and_then(|record| record.update.as_ref());
        // Of one that is wanted no more.
        if wanted.is_none_or(|wanted| wanted.number != updating.number || wanted.failed.is_some()) {
            return;
        }
        out.push(Output::Touch(Touch::Agent(name.to_string())));
        if updating.state == Updating::REFUSED {
            let why = updating.why.as_deref().map_or_else(|| "it was refused".to_string(), plain);
            self.update_failed(name, updating.number, why, out);
        } else {
            self.updating.insert(name.to_string(), updating);
        }
    }

    /// An agent is let in no more.
    pub(super) fn update_revoked(&mut self, name: &str, out: &mut Vec<Output>) {
        self.updating.remove(name);
        // Most are to have none.
        let Some(wanted) = self.agents.get_mut(name).and_then(|record| record.update.take()) else { return };
        self.changed_update(name, out);
        for other in self.waiting_for(name, wanted.number) {
            self.give_up(&other, format!("{name}, which was to have it first, was revoked"), out);
        }
    }

    /// Those that wait until this agent has come back with an image.
    fn waiting_for(&self, first: &str, number: u64) -> Vec<String> {
        let waits = |wanted: &Wanted| wanted.after.as_deref() == Some(first) && wanted.number == number;
        let waiting = self.agents.values().filter(|record| record.update.as_ref().is_some_and(waits));
        waiting.map(|record| record.name.clone()).collect()
    }

    fn update_failed(&mut self, name: &str, number: u64, why: String, out: &mut Vec<Output>) {
        for other in self.waiting_for(name, number) {
            self.give_up(&other, format!("{name}, which was to have it first, has not taken it"), out);
        }
        self.give_up(name, why, out);
    }

    fn give_up(&mut self, name: &str, why: String, out: &mut Vec<Output>) {
        self.updating.remove(name);
        let Some(wanted) = self.agents.get_mut(name).and_then(|record| record.update.as_mut()) else {
            return self.bugs.note("update: nothing is wanted that could be given up");
        };
        out.push(Output::Say(format!("agent {name} does not get image {}: {why}", wanted.number)));
        (wanted.failed, wanted.after) = (Some(why), None);
        self.changed_update(name, out);
    }

    fn changed_update(&self, name: &str, out: &mut Vec<Output>) {
        out.extend(self.agents.get(name).cloned().map(Output::Agent));
        out.push(Output::Touch(Touch::Agent(name.to_string())));
    }

    /// Tells an agent of the image that it is to have, if its turn has come and it can be told.
    fn tell_update(&mut self, name: &str, out: &mut Vec<Output>) {
        // It is told when it comes.
        if self.connected.get(name).is_none_or(|connected| !connected.can(Can::Updates)) {
            return;
        }
        let Some(record) = self.agents.get_mut(name) else { return self.bugs.note("update: no such agent") };
        let lefts = record.card.as_ref().and_then(|card| card.lefts).unwrap_or(0);
        let told = |wanted: &&mut Wanted| wanted.after.is_none() && wanted.failed.is_none();
        // It waits for another, or is not tried any more.
        let Some(wanted) = record.update.as_mut().filter(told) else { return };
        if wanted.lefts.is_none() {
            wanted.lefts = Some(lefts);
            out.push(Output::Agent(record.clone()));
        }
        if let Some(Wanted { number, sha256, size, .. }) = record.update.clone() {
            self.send(name, MasterMessage::Update(Update { number, sha256, size }), out);
        }
    }
}
