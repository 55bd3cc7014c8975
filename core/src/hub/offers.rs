//! What an agent says that it offers, and of how that stands → what of it can be counted on, for the scheduler.

use super::{Hub, Output, Touch, plain};
use crate::bench::{HEALTH_EVERY_S, TAGS_MAX};
use crate::clock::Now;
use crate::limits::{BOARDS, PLATFORMS, SLOTS};
use crate::ordered::Map;
use crate::platform;
use crate::scheduler::{self, Said};
use crate::units::OfferedBoard;
use crate::wire::{Offer, Units};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Hub {
    /// An agent offers something else than before.
    pub(super) fn offer(&mut self, now: Now, name: String, offer: Offer, out: &mut Vec<Output>) {
        let platforms = good_platforms(offer.platforms);
        let slots = offer.slots.min(SLOTS);
        let rooted = offer.rooted.map(good_platforms);
        let all = offered(&platforms, rooted.as_deref());
        let boards = good_boards(offer.boards);
        if let Some(connected) = self.connected.get_mut(&name) {
            connected.hello.platforms.clone_from(&platforms);
            connected.hello.slots = slots;
            connected.hello.rooted = rooted;
            connected.hello.boards = (!boards.is_empty()).then(|| boards.clone());
        }
        out.push(Output::Touch(Touch::Agent(name.clone())));
        let input = scheduler::Input::AgentOffer { agent: name, platforms: all, slots, boards };
        self.schedule(now, input, out);
    }

    /// An agent says how a board of its stands, or that nothing of an attempt runs there any more.
    pub(super) fn units_told(&mut self, now: Now, name: String, units: Units, out: &mut Vec<Output>) {
        let free = units.state == Units::FREE;
        match (units.board, units.holder) {
            (Some(board), _) => {
                out.push(Output::Touch(Touch::Agent(name.clone())));
                let why = units.why.map(|why| plain(&why));
                let said = match (free, why) {
                    (true, _) => Said::Free(units.grant.unwrap_or(0)),
                    (false, Some(why)) if units.state == Units::UNKNOWN => Said::Gone(why),
                    (false, why) => Said::Busy(why.map(|why| format!("busy: {why}"))),
                };
                self.schedule(now, scheduler::Input::Board { agent: name, board, said }, out);
            }
            (None, Some(key)) if free => self.schedule(now, scheduler::Input::Returned(name, key), out),
            // Words of a later version.
            (None, _) => {}
        }
    }
}

/// What an agent offers, as the scheduler has it.
pub(super) fn offered(platforms: &[String], rooted: Option<&[String]>) -> Vec<String> {
    let rooted = rooted.into_iter().flatten().map(|name| platform::as_root(name));
    platforms.iter().cloned().chain(rooted).collect()
}

/// What is taken of the boards that an agent says it offers.
pub(super) fn good_boards(boards: Option<Vec<OfferedBoard>>) -> Vec<OfferedBoard> {
    let mut good: Map<String, OfferedBoard> = Map::new();
    for mut board in boards.unwrap_or_default().into_iter().take(BOARDS) {
        if let Some(every_s) = board.health.as_mut().and_then(|health| health.every_s.as_mut()) {
            *every_s = (*every_s).max(HEALTH_EVERY_S);
        }
        let parts = board.boards.iter().flatten();
        let names = [&board.name, &board.kind].into_iter().chain(&board.tags).chain(parts);
        let few = board.tags.len() <= TAGS_MAX && board.boards.as_ref().is_none_or(|boards| boards.len() <= BOARDS);
        if few && names.into_iter().all(|name| platform::check_unit(name).is_ok()) {
            good.insert(board.name.clone(), board);
        }
    }
    good.into_values().collect()
}

/// What is taken of the platforms.
pub(super) fn good_platforms(mut platforms: Vec<String>) -> Vec<String> {
    platforms.retain(|name| platform::check_name(name).is_ok());
    platforms.truncate(PLATFORMS);
    platforms
}
