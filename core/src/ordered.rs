//! Items → an ordered map or set, by one insertion after the other.
//!
//! `collect` would sort them first, with a stable sort that makes every program larger by 3 KiB for each type there is: all
//! together a fortieth of the master. Inserting is slower only by a part of what is done with such a map afterwards.

use alloc::collections::{BTreeMap, BTreeSet};

/// A map; of two values with the same key the later one stays.
pub fn map<K: Ord, V>(items: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(items);
    map
}

/// A set.
pub fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(items);
    set
}
