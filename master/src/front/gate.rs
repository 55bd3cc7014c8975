//! Address → admission: how many connections, requests and wrong tokens one address, and all together, may have.

use super::seats::{self, Phase, Seat, Seats};
use sai_core::ordered::Map;
use smol::channel::{Receiver, bounded};
use smol::lock::{Semaphore, SemaphoreGuardArc};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Over which time wrong tokens are counted.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Most addresses that are remembered although nothing of theirs is connected.
const REMEMBERED: usize = 4096;

/// Which requests wait for each other at the backend. Each lane has places of its own, so that what takes long in one
/// is not felt in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Hooks, and looks whether the master lives: short, and somebody's push waits for them.
    Hook,
    /// Pages and the API.
    Page,
    /// Downloads, whose beginning may take reading a whole log.
    Bulk,
}

/// How many lanes there are.
pub const LANES: usize = 3;

/// How much is admitted.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Connections of all kinds.
    pub connections: usize,
    /// Connections of one address, agents that were welcomed not counted.
    pub connections_per_address: usize,
    /// Requests at the backend at once, and of one address, in the order of [`Lane`].
    pub lanes: [(usize, usize); LANES],
    /// Bytes of memory that request bodies and answers under way may hold together.
    pub held: usize,
    /// Wrong tokens of one address in a minute.
    pub failures_per_minute: u32,
}

/// Counts who is there.
pub struct Gate {
    quotas: Quotas,
    lanes: [Arc<Semaphore>; LANES],
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    seats: Seats,
    /// Bytes that all seats hold.
    held: usize,
    addresses: Map<IpAddr, Entry>,
}

struct Entry {
    connections: usize,
    /// Requests that wait for a place or have one.
    visits: usize,
    failures: u32,
    /// When the first of the failures was.
    since: Instant,
    lanes: [Arc<Semaphore>; LANES],
}

impl Entry {
    /// Whether nothing would be lost by forgetting it.
    fn is_blank(&self, now: Instant) -> bool {
        !self.is_here() && (self.failures == 0 || now.duration_since(self.since) >= FAILURE_WINDOW)
    }

    fn is_here(&self) -> bool {
        self.connections > 0 || self.visits > 0
    }
}

/// A connection that was admitted; it is counted until this is dropped, or until it had to give way.
pub struct Permit {
    gate: Arc<Gate>,
    number: u64,
    cut: Receiver<()>,
}

/// A place among the requests at the backend.
pub struct Place {
    _guards: [SemaphoreGuardArc; 2],
    _visit: Visit,
}

/// An address that is remembered for as long as it waits for a place or has one.
struct Visit {
    gate: Arc<Gate>,
    address: IpAddr,
}

/// The address itself for IPv4; the /64 that one customer has for IPv6.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        four => four,
    }
}

impl Table {
    fn entry(&mut self, address: IpAddr, quotas: &Quotas, now: Instant) -> &mut Entry {
        if self.addresses.len() >= REMEMBERED && !self.addresses.contains_key(&address) {
            self.addresses.retain(|_, entry| !entry.is_blank(now));
            if self.addresses.len() >= REMEMBERED {
                // So many addresses failing at once is one attacker: forget those who left rather than grow.
                self.addresses.retain(|_, entry| entry.is_here());
            }
        }
        self.addresses.get_or_insert_with(address, || Entry {
            connections: 0,
            visits: 0,
            failures: 0,
            since: now,
            lanes: quotas.lanes.map(|(_, own)| Arc::new(Semaphore::new(own))),
        })
    }

    fn connections_of(&self, address: IpAddr) -> usize {
        self.addresses.get(&address).map_or(0, |entry| entry.connections)
    }

    /// Whether one more connection of this owner is admitted, if need be in place of another one.
    fn make_room(&mut self, owner: Option<IpAddr>, quotas: &Quotas, now: Instant) -> bool {
        let share_is_full = owner.is_some_and(|owner| self.connections_of(owner) >= quotas.connections_per_address);
        if !share_is_full && self.seats.len() < quotas.connections {
            return true;
        }
        let counts = |address| self.connections_of(address);
        match seats::gives_way(&self.seats, owner, share_is_full, counts, now) {
            Some(number) => {
                self.leave(number, now);
                true
            }
            None => false,
        }
    }

    /// Takes a seat away, which ends its connection.
    fn leave(&mut self, number: u64, now: Instant) {
        if let Some(seat) = self.seats.remove(&number) {
            self.held = self.held.saturating_sub(seat.held);
            self.disown(seat.owner, now);
        }
    }

    /// One connection less of this owner.
    fn disown(&mut self, owner: Option<IpAddr>, now: Instant) {
        let Some(owner) = owner else { return };
        if let Some(entry) = self.addresses.get_mut(&owner) {
            entry.connections = entry.connections.saturating_sub(1);
            if entry.is_blank(now) {
                self.addresses.remove(&owner);
            }
        }
    }
}

impl Gate {
    /// A gate that nothing has passed.
    #[must_use]
    pub fn new(quotas: Quotas) -> Arc<Self> {
        Arc::new(Self {
            quotas,
            lanes: quotas.lanes.map(|(all, _)| Arc::new(Semaphore::new(all))),
            table: Mutex::new(Table::default()),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, unless there are too many of them or of its address and none of those gives way. Whose it
    /// is is not known yet where it comes from a trusted proxy.
    pub fn admit(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Option<Permit> {
        let owner = address.map(key);
        let (sender, cut) = bounded(1);
        let mut table = self.table();
        if !table.make_room(owner, &self.quotas, now) {
            return None;
        }
        if let Some(owner) = owner {
            table.entry(owner, &self.quotas, now).connections += 1;
        }
        table.next += 1;
        let number = table.next;
        table.seats.insert(number, Seat { owner, phase: Phase::Arriving, since: now, held: 0, _cut: sender });
        Some(Permit { gate: Arc::clone(self), number, cut })
    }

    /// Notes a wrong token of an address; whether it was one too many.
    pub fn failed(&self, address: IpAddr, now: Instant) -> bool {
        let mut table = self.table();
        let entry = table.entry(key(address), &self.quotas, now);
        if entry.failures == 0 || now.duration_since(entry.since) >= FAILURE_WINDOW {
            entry.failures = 0;
            entry.since = now;
        }
        entry.failures = entry.failures.saturating_add(1);
        entry.failures > self.quotas.failures_per_minute
    }

    /// Waits for a place among the requests at the backend: first among those of the same address, so that one address
    /// never queues before the others.
    pub async fn place(self: &Arc<Self>, address: IpAddr, lane: Lane) -> Place {
        let address = key(address);
        let lane = lane as usize;
        let own = {
            let mut table = self.table();
            let entry = table.entry(address, &self.quotas, Instant::now());
            entry.visits += 1;
            entry.lanes.get(lane).map(Arc::clone)
        };
        let visit = Visit { gate: Arc::clone(self), address };
        // There is a lane of each number.
        let none = || Arc::new(Semaphore::new(1));
        let all = self.lanes.get(lane).map_or_else(none, Arc::clone);
        let own = own.unwrap_or_else(none).acquire_arc().await;
        Place { _guards: [own, all.acquire_arc().await], _visit: visit }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut table = self.gate.table();
        if let Some(entry) = table.addresses.get_mut(&self.address) {
            entry.visits = entry.visits.saturating_sub(1);
            if entry.is_blank(Instant::now()) {
                table.addresses.remove(&self.address);
            }
        }
    }
}

impl Permit {
    /// Waits until the connection has to give way.
    pub async fn cut(&self) {
        // Nothing is ever sent: the other end goes with the seat.
        let _ = self.cut.recv().await;
    }

    fn seat(&self, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.gate.table().seats.get_mut(&self.number) {
            change(seat);
        }
    }

    /// Says what the connection is doing from now on.
    pub fn enter(&self, phase: Phase) {
        self.seat(|seat| {
            seat.phase = phase;
            seat.since = Instant::now();
        });
    }

    /// Says that the connection moves on with what it is doing.
    pub fn moves(&self) {
        self.seat(|seat| seat.since = Instant::now());
    }

    /// Counts the connection for this address from now on, unless there are too many of it and none of those gives way.
    #[must_use]
    pub fn belongs_to(&self, address: IpAddr) -> bool {
        let (owner, now) = (Some(key(address)), Instant::now());
        let mut table = self.gate.table();
        let Some(before) = table.seats.get(&self.number).map(|seat| seat.owner) else { return false };
        if before == owner {
            return true;
        }
        let quotas = &self.gate.quotas;
        let is_full = owner.is_some_and(|owner| table.connections_of(owner) >= quotas.connections_per_address);
        if is_full && !table.make_room(owner, quotas, now) {
            return false;
        }
        table.entry(key(address), quotas, now).connections += 1;
        table.disown(before, now);
        if let Some(seat) = table.seats.get_mut(&self.number) {
            seat.owner = owner;
        }
        true
    }

    /// No longer counts the connection for its address: whoever was welcomed as an agent is known by name, and a house
    /// may hold a thousand of them behind one address.
    pub fn is_known(&self) {
        let mut table = self.gate.table();
        let Some(seat) = table.seats.get_mut(&self.number) else { return };
        seat.phase = Phase::Known;
        let owner = seat.owner.take();
        table.disown(owner, Instant::now());
    }

    /// Says how many bytes of memory the connection holds from now on, beside what every connection does. Where that is
    /// too much for all together, whoever holds the most gives way; false when that is this one.
    #[must_use]
    pub fn holds(&self, bytes: usize) -> bool {
        let mut table = self.gate.table();
        let Some(seat) = table.seats.get_mut(&self.number) else { return false };
        let before = std::mem::replace(&mut seat.held, bytes);
        table.held = (table.held + bytes).saturating_sub(before);
        while table.held > self.gate.quotas.held {
            let Some(most) = seats::holds_most(&table.seats) else { break };
            table.leave(most, Instant::now());
        }
        table.seats.contains_key(&self.number)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.table().leave(self.number, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::future::poll_once;

    const QUOTAS: Quotas = Quotas {
        connections: 5,
        connections_per_address: 2,
        lanes: [(4, 1); LANES],
        held: 100,
        failures_per_minute: 3,
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_cut(permit: &Permit) -> bool {
        smol::block_on(poll_once(Box::pin(permit.cut()))).is_some()
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let admit = |last| gate.admit(Some(address(last)), now);
        let first = admit(1).unwrap();
        let _second = admit(1).unwrap();
        assert!(admit(1).is_none());
        let _others: Vec<_> = (2..5).map(|last| admit(last).unwrap()).collect();
        assert!(admit(9).is_none(), "five in all");
        drop(first);
        assert!(admit(1).is_some());
    }

    #[test]
    fn whoever_does_nothing_gives_way() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let idle = gate.admit(Some(address(1)), now).unwrap();
        let busy = gate.admit(Some(address(1)), now).unwrap();
        idle.enter(Phase::Idle);
        busy.enter(Phase::Request);
        let later = now + Duration::from_secs(1);
        let third = gate.admit(Some(address(1)), later).expect("in place of the idle one");
        assert!(is_cut(&idle) && !is_cut(&busy) && !is_cut(&third));
        assert!(gate.admit(Some(address(1)), later).is_none());
        drop(idle);
        assert!(gate.admit(Some(address(1)), later).is_none(), "it was not counted any more");
        // In a full house the largest gives way to the others.
        let more: Vec<_> = (2..5).map(|last| gate.admit(Some(address(last)), later).unwrap()).collect();
        let much_later = now + Duration::from_secs(60);
        let newcomer = gate.admit(Some(address(9)), much_later).expect("room is made");
        assert!(is_cut(&third) && !is_cut(&busy) && !more.iter().any(is_cut) && !is_cut(&newcomer));
    }

    #[test]
    fn agents_that_were_welcomed_count_in_all_but_not_for_their_address_and_never_give_way() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let mut agents = Vec::new();
        for _ in 0..5 {
            let permit = gate.admit(Some(address(1)), now).unwrap();
            permit.is_known();
            agents.push(permit);
        }
        assert!(gate.admit(Some(address(2)), now + Duration::from_secs(3600)).is_none());
        agents.clear();
        assert!(gate.table().seats.is_empty());
        assert!(gate.table().addresses.is_empty());
    }

    #[test]
    fn a_customer_has_one_quota_however_many_ipv6_addresses() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let admit = |text: &str| gate.admit(Some(text.parse().unwrap()), now);
        let _held: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|text| admit(text).unwrap()).into_iter().collect();
        assert!(admit("2001:db8::3").is_none());
        assert!(admit("2001:db8:0:1::3").is_some());
        let _four = gate.admit(Some(address(1)), now).unwrap();
        let _same = admit("::ffff:10.0.0.1").unwrap();
        assert_eq!(gate.table().addresses.get(&address(1)).unwrap().connections, 2);
        for _ in 0..3 {
            assert!(!gate.failed("2001:db8::1".parse().unwrap(), now));
        }
        assert!(gate.failed("2001:db8::ffff".parse().unwrap(), now));
    }

    #[test]
    fn a_connection_of_a_proxy_is_counted_for_its_client() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let proxied: Vec<_> = (0..4).map(|_| gate.admit(None, now).unwrap()).collect();
        assert!(proxied[0].belongs_to(address(1)) && proxied[1].belongs_to(address(1)));
        assert!(!proxied[2].belongs_to(address(1)), "the client's share is full");
        assert!(proxied[2].belongs_to(address(2)));
        assert!(proxied[0].belongs_to(address(2)), "the next request is somebody else's");
        assert!(proxied[3].belongs_to(address(1)));
        drop(proxied);
        assert!(gate.table().addresses.is_empty() && gate.table().seats.is_empty());
    }

    #[test]
    fn wrong_tokens_are_forgiven_after_a_minute_and_remembered_without_connection() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        for _ in 0..3 {
            assert!(!gate.failed(address(1), now));
        }
        assert!(gate.failed(address(1), now));
        assert!(!gate.failed(address(2), now), "another address is not to blame");
        assert!(!gate.failed(address(1), now + FAILURE_WINDOW));
    }

    #[test]
    fn the_table_does_not_grow_with_the_number_of_failing_addresses() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        for n in 0..(3 * REMEMBERED as u32) {
            gate.failed(IpAddr::from(n.to_be_bytes()), now);
        }
        assert!(gate.table().addresses.len() <= REMEMBERED);
    }

    #[test]
    fn one_address_takes_only_its_share_of_places_and_one_lane_none_of_another() {
        let gate = Gate::new(QUOTAS);
        smol::block_on(async {
            let held = gate.place(address(1), Lane::Page).await;
            assert!(poll_once(Box::pin(gate.place(address(1), Lane::Page))).await.is_none());
            assert!(poll_once(Box::pin(gate.place(address(2), Lane::Page))).await.is_some());
            assert!(poll_once(Box::pin(gate.place(address(1), Lane::Hook))).await.is_some());
            drop(held);
            assert!(poll_once(Box::pin(gate.place(address(1), Lane::Page))).await.is_some());
        });
        assert!(gate.table().addresses.is_empty());
    }

    #[test]
    fn whoever_holds_the_most_memory_gives_way() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let [one, two, three] = [1, 2, 3].map(|last| gate.admit(Some(address(last)), now).unwrap());
        assert!(one.holds(60) && two.holds(40));
        assert!(two.holds(30) && three.holds(10), "what was given back is free");
        assert!(three.holds(20));
        assert!(is_cut(&one) && !is_cut(&two));
        assert!(!three.holds(200), "more than there is");
        assert!(is_cut(&three) && !is_cut(&two));
        assert_eq!(gate.table().held, 30);
    }
}
