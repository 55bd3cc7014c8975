//! Record → keys and values of the ledger's trees, and those → record again.

use super::StoreError;
use miniserde::{Deserialize, json};
use sai_agent::digest::{Sha256, sha256};
use sai_core::job::EventId;

/// Bytes of one value at most; a longer record is cut into parts, since sled rewrites a page whenever a value of it changes.
pub(super) const VALUE_BYTES: usize = 3 << 10;

/// The trees; the number is the index in `NAMES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event = 0,
    Job = 1,
    Agent = 2,
    User = 3,
    Tip = 4,
    Action = 5,
    /// Hash of a repository's name and event number: finds a quiet repository's events among a busy one's.
    Repository = 6,
    /// Numbers of the jobs that have not ended.
    Unfinished = 7,
    /// Next numbers, written when records are deleted, so that none is ever given twice.
    Mark = 8,
}

pub(super) const NAMES: [&str; 9] =
    ["events", "jobs", "agents", "users", "tips", "actions", "repositories", "unfinished", "marks"];

impl Kind {
    /// Whether keys end in a part number and records may be longer than one value.
    pub(super) fn parted(self) -> bool {
        matches!(self, Self::Event | Self::Job)
    }
}

/// The numbers that the next event, job and action get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub event: u64,
    pub job: u64,
    pub action: u64,
}

impl Numbers {
    pub(super) fn bytes(self) -> Vec<u8> {
        [self.event, self.job, self.action].iter().flat_map(|number| number.to_be_bytes()).collect()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| number(bytes.get(at..)?);
        Some(Self { event: number(0)?, job: number(8)?, action: number(16)? })
    }

    pub(super) fn at_least(&mut self, other: Self) {
        self.event = self.event.max(other.event);
        self.job = self.job.max(other.job);
        self.action = self.action.max(other.action);
    }
}

pub(super) const NUMBERS: &[u8] = b"numbers";

pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?))
}

pub(super) fn repository_hash(name: &str) -> u64 {
    number(&sha256(name.as_bytes())).unwrap_or_default()
}

pub(super) fn tip_key(repository: &str, reference: &str) -> Vec<u8> {
    let mut hash = Sha256::default();
    hash.update(repository.as_bytes());
    hash.update(&[0]);
    hash.update(reference.as_bytes());
    hash.finish().to_vec()
}

pub(super) fn parse<T: Deserialize>(kind: Kind, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let unreadable = || StoreError::Record { kind: NAMES[kind as usize], key: key.escape_ascii().to_string() };
    json::from_str(std::str::from_utf8(bytes).map_err(|_| unreadable())?).map_err(|_| unreadable())
}

pub(super) fn index_key(repository: u64, event: EventId) -> Vec<u8> {
    [repository.to_be_bytes(), event.to_be_bytes()].concat()
}

pub(super) fn part_key(kind: Kind, key: &[u8], part: u16) -> Vec<u8> {
    let mut whole = key.to_vec();
    if kind.parted() {
        whole.extend_from_slice(&part.to_be_bytes());
    }
    whole
}

/// The values of a record's parts, the first with their number before it; none for no record.
pub(super) fn part_values(record: Option<&[u8]>) -> Option<Vec<Vec<u8>>> {
    let Some(record) = record else { return Some(Vec::new()) };
    let mut parts: Vec<Vec<u8>> = record.chunks(VALUE_BYTES).map(<[u8]>::to_vec).collect();
    let count = u16::try_from(parts.len()).ok()?;
    parts.first_mut()?.splice(0..0, count.to_be_bytes());
    Some(parts)
}
