//! Frames handed to a link → the moment each arrives at the other side, in order, unless the link breaks before.

use super::random::Random;
use sai_core::hub::LinkId;
use sai_core::limits::Millis;
use std::collections::{BTreeMap, VecDeque};

/// Who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Agent,
    Master,
}

/// One WebSocket message, or the end of the connection seen in order after the messages before it.
#[derive(Clone, Debug)]
pub(super) enum Frame {
    Text(String),
    Binary(Vec<u8>),
    End,
}

#[derive(Debug, Default)]
struct Way {
    frames: VecDeque<Frame>,
    last: Millis,
    open: bool,
}

/// One connection. `open` of a way says that its receiver still listens.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) host: usize,
    to_agent: Way,
    to_master: Way,
    stalled: Millis,
    slow: u64,
}

impl Link {
    fn way(&mut self, to: Side) -> &mut Way {
        match to {
            Side::Agent => &mut self.to_agent,
            Side::Master => &mut self.to_master,
        }
    }
}

/// All connections there are or were.
#[derive(Debug, Default)]
pub(super) struct Network {
    links: BTreeMap<LinkId, Link>,
    last: LinkId,
}

impl Network {
    pub(super) fn dial(&mut self, random: &mut Random, host: usize) -> LinkId {
        self.last += 1;
        let slow = if random.chance(150) { random.between(100, 4000) } else { random.between(1, 60) };
        let to_agent = Way { open: true, ..Way::default() };
        let link = Link { host, to_agent, to_master: Way::default(), stalled: 0, slow };
        self.links.insert(self.last, link);
        self.last
    }

    pub(super) fn host(&self, link: LinkId) -> Option<usize> {
        self.links.get(&link).map(|link| link.host)
    }

    /// Whether this side listens on the link.
    pub(super) fn open(&mut self, link: LinkId, side: Side) -> bool {
        self.links.get_mut(&link).is_some_and(|link| link.way(side).open)
    }

    pub(super) fn set_open(&mut self, link: LinkId, side: Side, open: bool) {
        if let Some(link) = self.links.get_mut(&link) {
            let way = link.way(side);
            way.open = open;
            if !open {
                way.frames.clear();
            }
        }
    }

    /// Puts a frame under way; when it arrives, `None` when the link no longer carries anything that way.
    pub(super) fn send(
        &mut self,
        now: Millis,
        random: &mut Random,
        link: LinkId,
        to: Side,
        frame: Frame,
    ) -> Option<Millis> {
        let link = self.links.get_mut(&link)?;
        let (slow, stalled) = (link.slow, link.stalled);
        let way = link.way(to);
        if !way.open || stalled == Millis::MAX {
            return None;
        }
        way.last = way.last.max(now + random.below(slow) + 1).max(stalled);
        way.frames.push_back(frame);
        Some(way.last)
    }

    /// The frame that arrives now, or the later moment at which it will because the link stalls.
    pub(super) fn arrive(&mut self, now: Millis, link: LinkId, to: Side) -> Result<Option<Frame>, Millis> {
        let Some(link) = self.links.get_mut(&link) else { return Ok(None) };
        if now < link.stalled {
            return Err(link.stalled);
        }
        Ok(link.way(to).frames.pop_front())
    }

    pub(super) fn stall(&mut self, link: LinkId, until: Millis) {
        if let Some(link) = self.links.get_mut(&link) {
            link.stalled = link.stalled.max(until);
        }
    }

    /// Loses all that is under way; neither side knows yet.
    pub(super) fn cut(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.to_agent.frames.clear();
            link.to_master.frames.clear();
            link.stalled = Millis::MAX;
        }
    }

    pub(super) fn is_cut(&self, link: LinkId) -> bool {
        self.links.get(&link).is_none_or(|link| link.stalled == Millis::MAX)
    }

    /// Whether what is sent on it now arrives in a moment.
    pub(super) fn carries(&self, now: Millis, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|link| link.stalled <= now)
    }

    /// Links on which somebody still listens.
    pub(super) fn living(&self) -> Vec<LinkId> {
        let living = self.links.iter().filter(|(_, link)| link.to_agent.open || link.to_master.open);
        living.map(|(link, _)| *link).collect()
    }

    /// Drops links nobody can hear anything of any more, but those of which an agent has yet to learn that.
    pub(super) fn sweep(&mut self, awaited: &[LinkId]) {
        self.links.retain(|name, link| {
            awaited.contains(name)
                || link.to_agent.open
                || link.to_master.open
                || !link.to_agent.frames.is_empty()
                || !link.to_master.frames.is_empty()
        });
    }
}
