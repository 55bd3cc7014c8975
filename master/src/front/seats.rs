//! Connections and what each is doing → which of them gives way to a newcomer, or to memory that somebody else needs.
//!
//! A full house must not be a closed one: whoever holds the most, and does the least with it, goes first. Who holds
//! little is never asked to make room for one who holds more.

use sai_core::ordered::Map;
use smol::channel::Sender;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Connections that one address has more than a newcomer's, at which they give way to it in a full house before their
/// time: so much at once is no slow line.
const CROWD: usize = 16;

/// What a connection is doing. The first to be named are the first to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Between two requests.
    Idle,
    /// Its first head, or the handshake before it, is not there yet.
    Arriving,
    /// It is being sent an answer.
    Download,
    /// It presented an agent's token and has not been welcomed.
    Ungreeted,
    /// It is an open page.
    Viewer,
    /// Its request is arriving, or waits for its answer.
    Request,
    /// It is an agent at work: it gives way to nobody.
    Known,
}

impl Phase {
    /// How long a connection may be in it, or without moving on in it, before it has to give way: what an honest client
    /// on a slow line needs.
    fn grace(self) -> Option<Duration> {
        match self {
            Self::Idle => Some(Duration::ZERO),
            Self::Download => Some(Duration::from_millis(500)),
            Self::Arriving | Self::Ungreeted => Some(Duration::from_secs(3)),
            Self::Viewer | Self::Request => Some(Duration::from_secs(5)),
            Self::Known => None,
        }
    }
}

/// One connection, as far as that matters here.
#[derive(Debug)]
pub struct Seat {
    /// Whose it is; none where that is not known yet, or does not matter any more.
    pub owner: Option<IpAddr>,
    pub phase: Phase,
    /// Since when, or when it last moved on.
    pub since: Instant,
    /// Bytes of memory it holds beside what every connection does.
    pub held: usize,
    /// The connection ends when this is dropped.
    pub _cut: Sender<()>,
}

/// All connections, by number.
pub type Seats = Map<u64, Seat>;

/// Which connection gives way to one of `newcomer`, who has `has` already: one of its own where its share is used up,
/// else one of whoever has the most. `counts` says how many each owner has.
pub fn gives_way(
    seats: &Seats,
    newcomer: Option<IpAddr>,
    share_is_full: bool,
    counts: impl Fn(IpAddr) -> usize,
    now: Instant,
) -> Option<u64> {
    let count = |owner: Option<IpAddr>| owner.map_or(1, &counts);
    let has = newcomer.map_or(0, &counts);
    let candidates = seats.iter().filter(|(_, seat)| {
        let Some(grace) = seat.phase.grace() else { return false };
        let is_due = now.saturating_duration_since(seat.since) >= grace;
        if share_is_full || seat.owner == newcomer {
            return is_due && seat.owner == newcomer;
        }
        let more = count(seat.owner).saturating_sub(has);
        more >= CROWD || (is_due && more > 0)
    });
    let first = candidates.min_by_key(|(_, seat)| {
        let share = if share_is_full { 0 } else { usize::MAX - count(seat.owner) };
        (share, seat.phase, seat.since)
    });
    first.map(|(number, _)| *number)
}

/// Whose memory is taken back first: the largest piece of the one who holds the most.
pub fn holds_most(seats: &Seats) -> Option<u64> {
    let mut sums: Map<Option<IpAddr>, usize> = Map::new();
    for seat in seats.values().filter(|seat| seat.held > 0) {
        *sums.get_or_default(seat.owner) += seat.held;
    }
    let (owner, _) = sums.iter().max_by_key(|(_, sum)| **sum)?;
    // Of equal ones the one that has not moved for longest.
    let own = seats.iter().filter(|(_, seat)| seat.owner == *owner && seat.held > 0);
    own.max_by_key(|(_, seat)| (seat.held, std::cmp::Reverse(seat.since))).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    struct House {
        seats: Seats,
        begun: Instant,
    }

    impl House {
        fn new() -> Self {
            Self { seats: Map::new(), begun: Instant::now() }
        }

        /// Adds a connection of an address that has been in its phase since this many seconds after the beginning.
        fn seat(&mut self, owner: u8, phase: Phase, second: u64) -> u64 {
            let number = self.seats.len() as u64;
            let since = self.begun + Duration::from_secs(second);
            let seat = Seat { owner: Some(address(owner)), phase, since, held: 0, _cut: smol::channel::bounded(1).0 };
            self.seats.insert(number, seat);
            number
        }

        fn gives_way(&self, newcomer: u8, share_is_full: bool) -> Option<u64> {
            let counts = |owner| self.seats.values().filter(|seat| seat.owner == Some(owner)).count();
            let now = self.begun + Duration::from_secs(100);
            gives_way(&self.seats, Some(address(newcomer)), share_is_full, counts, now)
        }
    }

    #[test]
    fn who_does_the_least_goes_first_and_the_oldest_of_those() {
        let mut house = House::new();
        house.seat(1, Phase::Known, 0);
        assert_eq!(house.gives_way(1, true), None, "an agent never");
        let request = house.seat(1, Phase::Request, 0);
        assert_eq!(house.gives_way(1, true), Some(request));
        let viewer = house.seat(1, Phase::Viewer, 0);
        assert_eq!(house.gives_way(1, true), Some(viewer));
        house.seat(1, Phase::Download, 20);
        let slowest = house.seat(1, Phase::Download, 10);
        assert_eq!(house.gives_way(1, true), Some(slowest));
        let silent = house.seat(1, Phase::Arriving, 50);
        assert_eq!(house.gives_way(1, true), Some(silent));
        let idle = house.seat(1, Phase::Idle, 100);
        assert_eq!(house.gives_way(1, true), Some(idle));
    }

    #[test]
    fn nobody_gives_way_before_its_time() {
        let mut house = House::new();
        house.seat(1, Phase::Arriving, 98);
        house.seat(1, Phase::Request, 96);
        house.seat(1, Phase::Download, 100);
        assert_eq!(house.gives_way(1, true), None);
        assert_eq!(house.gives_way(2, false), None);
    }

    #[test]
    fn an_address_makes_room_for_itself_and_the_largest_for_all_others() {
        let mut house = House::new();
        let one = house.seat(1, Phase::Idle, 0);
        for second in 1..5 {
            house.seat(2, Phase::Request, second);
        }
        assert_eq!(house.gives_way(3, false), Some(1), "the oldest of the largest");
        assert_eq!(house.gives_way(1, false), Some(1));
        assert_eq!(house.gives_way(1, true), Some(one), "its own share is its own affair");
        assert_eq!(house.gives_way(2, false), Some(1), "nobody has more than the largest but itself");
        let mut house = House::new();
        house.seat(1, Phase::Idle, 0);
        house.seat(2, Phase::Known, 0);
        house.seat(2, Phase::Known, 0);
        assert_eq!(house.gives_way(2, false), None, "who has more does not push out who has less");
    }

    #[test]
    fn a_crowd_of_one_address_has_no_time_of_grace() {
        let mut house = House::new();
        for _ in 0..CROWD {
            house.seat(1, Phase::Ungreeted, 100);
        }
        assert_eq!(house.gives_way(2, false), Some(0));
        house.seat(2, Phase::Arriving, 100);
        assert_eq!(house.gives_way(2, false), None, "not so much more than the other");
        assert_eq!(house.gives_way(1, true), None, "nor is it a crowd to itself");
    }

    #[test]
    fn memory_is_taken_from_whoever_holds_the_most() {
        let mut house = House::new();
        assert_eq!(holds_most(&house.seats), None);
        for (owner, second, held) in [(1, 0, 50), (2, 0, 30), (2, 1, 31), (2, 2, 31), (3, 0, 0)] {
            let number = house.seat(owner, Phase::Download, second);
            house.seats.get_mut(&number).expect("a seat").held = held;
        }
        assert_eq!(holds_most(&house.seats), Some(2), "the largest piece, and the older one, of the second");
    }
}
