//! Address → admission: how many connections, requests and wrong tokens one address, and all together, may have.

use sai_core::ordered::Map;
use smol::lock::{Semaphore, SemaphoreGuardArc};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Over which time wrong tokens are counted.
const FAILURE_WINDOW: Duration = Duration::from_secs(60);

/// Most addresses that are remembered although nothing of theirs is connected.
const REMEMBERED: usize = 4096;

/// How much is admitted.
#[derive(Clone, Copy, Debug)]
pub struct Quotas {
    /// Connections of all kinds.
    pub connections: usize,
    /// Connections of one address, agents that were let in not counted.
    pub connections_per_address: usize,
    /// Requests at the backend at once, and of one address.
    pub forwards: (usize, usize),
    /// Request bodies beyond a head's size in memory at once, and of one address.
    pub uploads: (usize, usize),
    /// Wrong tokens of one address in a minute.
    pub failures_per_minute: u32,
}

/// Counts who is there.
pub struct Gate {
    quotas: Quotas,
    forwards: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    connections: usize,
    addresses: Map<IpAddr, Entry>,
}

struct Entry {
    connections: usize,
    failures: u32,
    /// When the first of the failures was.
    since: Instant,
    forwards: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

impl Entry {
    /// Whether nothing would be lost by forgetting it.
    fn is_blank(&self, now: Instant) -> bool {
        self.connections == 0 && (self.failures == 0 || now.duration_since(self.since) >= FAILURE_WINDOW)
    }
}

/// A connection that was admitted; it is counted until this is dropped.
pub struct Permit {
    gate: Arc<Gate>,
    address: IpAddr,
    /// Whether the connection still counts for its address.
    counted: bool,
}

/// A place among the requests at the backend, or among the bodies in memory.
pub struct Place(#[allow(dead_code, reason = "held, never read")] [SemaphoreGuardArc; 2]);

/// The address itself for IPv4; the /64 that one customer has for IPv6.
fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() >> 64 << 64)),
        four => four,
    }
}

impl Gate {
    /// A gate that nothing has passed.
    #[must_use]
    pub fn new(quotas: Quotas) -> Arc<Self> {
        Arc::new(Self {
            quotas,
            forwards: Arc::new(Semaphore::new(quotas.forwards.0)),
            uploads: Arc::new(Semaphore::new(quotas.uploads.0)),
            table: Mutex::new(Table::default()),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, unless there are too many of them or of its address.
    pub fn admit(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Permit> {
        let address = key(address);
        let mut table = self.table();
        if table.connections >= self.quotas.connections {
            return None;
        }
        if table.addresses.len() >= REMEMBERED && !table.addresses.contains_key(&address) {
            table.addresses.retain(|_, entry| !entry.is_blank(now));
            if table.addresses.len() >= REMEMBERED {
                // So many addresses failing at once is one attacker: forget those who left rather than grow.
                table.addresses.retain(|_, entry| entry.connections > 0);
            }
        }
        let entry = table.addresses.get_or_insert_with(address, || Entry {
            connections: 0,
            failures: 0,
            since: now,
            forwards: Arc::new(Semaphore::new(self.quotas.forwards.1)),
            uploads: Arc::new(Semaphore::new(self.quotas.uploads.1)),
        });
        if entry.connections >= self.quotas.connections_per_address {
            return None;
        }
        entry.connections += 1;
        table.connections += 1;
        Some(Permit { gate: Arc::clone(self), address, counted: true })
    }
}

impl Permit {
    /// Whether this address may present another token.
    #[must_use]
    pub fn may_try(&self, now: Instant) -> bool {
        let table = self.gate.table();
        table.addresses.get(&self.address).is_none_or(|entry| {
            entry.failures < self.gate.quotas.failures_per_minute || now.duration_since(entry.since) >= FAILURE_WINDOW
        })
    }

    /// Notes a wrong token.
    pub fn failed(&self, now: Instant) {
        if let Some(entry) = self.gate.table().addresses.get_mut(&self.address) {
            if entry.failures == 0 || now.duration_since(entry.since) >= FAILURE_WINDOW {
                entry.failures = 0;
                entry.since = now;
            }
            entry.failures = entry.failures.saturating_add(1);
        }
    }

    /// No longer counts the connection for its address: whoever was let in as an agent is known by name, and a house
    /// may hold a thousand of them behind one address.
    pub fn is_known(&mut self) {
        if std::mem::take(&mut self.counted) {
            let mut table = self.gate.table();
            if let Some(entry) = table.addresses.get_mut(&self.address) {
                entry.connections = entry.connections.saturating_sub(1);
            }
        }
    }

    /// Waits for a place among the requests at the backend.
    pub async fn forward(&self) -> Place {
        self.place(&self.gate.forwards, |entry| &entry.forwards).await
    }

    /// Waits for a place among the bodies in memory.
    pub async fn upload(&self) -> Place {
        self.place(&self.gate.uploads, |entry| &entry.uploads).await
    }

    /// Waits first among those of the same address, so that one address never queues before the others.
    async fn place(&self, all: &Arc<Semaphore>, own: impl Fn(&Entry) -> &Arc<Semaphore>) -> Place {
        let own = self.gate.table().addresses.get(&self.address).map(|entry| Arc::clone(own(entry)));
        // An entry with a connection is never forgotten; if it were, all would share as they do globally.
        let own = own.unwrap_or_else(|| Arc::new(Semaphore::new(1)));
        Place([own.acquire_arc().await, all.acquire_arc().await])
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.is_known();
        let now = Instant::now();
        let mut table = self.gate.table();
        table.connections = table.connections.saturating_sub(1);
        if table.addresses.get(&self.address).is_some_and(|entry| entry.is_blank(now)) {
            table.addresses.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTAS: Quotas = Quotas {
        connections: 5,
        connections_per_address: 2,
        forwards: (4, 1),
        uploads: (4, 1),
        failures_per_minute: 3,
    };

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let first = gate.admit(address(1), now).unwrap();
        let _second = gate.admit(address(1), now).unwrap();
        assert!(gate.admit(address(1), now).is_none());
        let _others: Vec<_> = (2..5).map(|last| gate.admit(address(last), now).unwrap()).collect();
        assert!(gate.admit(address(9), now).is_none(), "five in all");
        drop(first);
        assert!(gate.admit(address(1), now).is_some());
    }

    #[test]
    fn agents_that_were_let_in_count_in_all_but_not_for_their_address() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let mut agents = Vec::new();
        for _ in 0..5 {
            let mut permit = gate.admit(address(1), now).unwrap();
            permit.is_known();
            agents.push(permit);
        }
        assert!(gate.admit(address(2), now).is_none());
        agents.clear();
        assert_eq!(gate.table().connections, 0);
        assert!(gate.table().addresses.is_empty());
    }

    #[test]
    fn a_customer_has_one_quota_however_many_ipv6_addresses() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let _held: Vec<_> = ["2001:db8::1", "2001:db8::2"]
            .map(|text| gate.admit(text.parse().unwrap(), now).unwrap())
            .into_iter()
            .collect();
        assert!(gate.admit("2001:db8::3".parse().unwrap(), now).is_none());
        assert!(gate.admit("2001:db8:0:1::3".parse().unwrap(), now).is_some());
        let _four = gate.admit(address(1), now).unwrap();
        let _same = gate.admit("::ffff:10.0.0.1".parse().unwrap(), now).unwrap();
        assert_eq!(gate.table().addresses.get(&address(1)).unwrap().connections, 2);
    }

    #[test]
    fn wrong_tokens_are_forgiven_after_a_minute_and_remembered_without_connection() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        for _ in 0..3 {
            let permit = gate.admit(address(1), now).unwrap();
            assert!(permit.may_try(now));
            permit.failed(now);
        }
        let permit = gate.admit(address(1), now).unwrap();
        assert!(!permit.may_try(now));
        assert!(gate.admit(address(2), now).unwrap().may_try(now), "another address is not to blame");
        assert!(permit.may_try(now + FAILURE_WINDOW));
        permit.failed(now + FAILURE_WINDOW);
        assert!(permit.may_try(now + FAILURE_WINDOW));
    }

    #[test]
    fn the_table_does_not_grow_with_the_number_of_failing_addresses() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        for n in 0..(3 * REMEMBERED as u32) {
            let permit = gate.admit(IpAddr::from(n.to_be_bytes()), now).unwrap();
            permit.failed(now);
        }
        assert!(gate.table().addresses.len() <= REMEMBERED);
    }

    #[test]
    fn one_address_takes_only_its_share_of_places() {
        let gate = Gate::new(QUOTAS);
        let now = Instant::now();
        let one = gate.admit(address(1), now).unwrap();
        let two = gate.admit(address(2), now).unwrap();
        smol::block_on(async {
            let _held = one.forward().await;
            let blocked = smol::future::poll_once(Box::pin(one.forward())).await;
            assert!(blocked.is_none());
            assert!(smol::future::poll_once(Box::pin(two.forward())).await.is_some());
            assert!(smol::future::poll_once(Box::pin(one.upload())).await.is_some());
        });
    }
}
