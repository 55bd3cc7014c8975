//! Keys, with or without values → a map or set in the order of its keys, in few bytes of program.
//!
//! It does what `BTreeMap` does, whose balancing makes a program larger by 6 KiB for every type of key and value there is,
//! and whose `collect` adds a sort of 3 KiB. Here entries stand in sorted runs of bounded length, one after the other, so that
//! all there is to generate is two binary searches and what `Vec` has. An insertion moves entries of one run; once for
//! half a run of insertions it also moves the list of runs, which has 24 bytes for each.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::{self, Vec};
use core::borrow::Borrow;
use core::fmt::{self, Debug};
use core::iter::Flatten;
use core::ops::{Bound, RangeBounds};
use core::slice;

use miniserde::de::Visitor;
use miniserde::ser::Fragment;
use miniserde::{Deserialize, Serialize, make_place};

/// Entries in a run: few enough that moving half of them costs no more than finding the place, and enough that there are
/// few runs.
const RUN: usize = 64;

/// A map from keys to values, in the order of the keys.
pub struct Map<K, V> {
    /// None is empty.
    runs: Vec<Vec<(K, V)>>,
    length: usize,
}

/// A set, in the order of what is in it.
pub struct Set<T> {
    map: Map<T, ()>,
}

/// Where an entry is, or belongs: the number of its run, and the number in that run.
#[derive(Clone, Copy)]
struct Place {
    run: usize,
    entry: usize,
}

/// Items in the order of their keys; those with equal ones stay as they were.
pub fn by_key<T, K: Ord>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let numbered = items.into_iter().enumerate().map(|(number, item)| ((key(&item), number), item));
    Map::from_iter(numbered).into_values().collect()
}

impl<K, V> Map<K, V> {
    /// A map without entries, which takes no memory but its own.
    #[must_use]
    pub const fn new() -> Self {
        Self { runs: Vec::new(), length: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// All entries, in order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.runs.iter().flatten())
    }

    /// All entries, in order; values may be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, K, V> {
        IterMut(self.runs.iter_mut().flatten())
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// All values, in the order of their keys; they may be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// All values without their keys, in the order of these.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// The first entry.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The last entry.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// Takes the first entry out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.is_empty()).then(|| self.take(Place { run: 0, entry: 0 }))
    }

    /// Keeps the entries that `keep` is true of.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for run in &mut self.runs {
            run.retain_mut(|(key, value)| keep(key, value));
        }
        self.runs.retain(|run| !run.is_empty());
        self.length = self.runs.iter().map(Vec::len).sum();
    }

    fn at(&self, place: Place) -> Option<&(K, V)> {
        self.runs.get(place.run)?.get(place.entry)
    }

    /// Takes out the entry at a place where one is.
    fn take(&mut self, place: Place) -> (K, V) {
        let run = &mut self.runs[place.run];
        let taken = run.remove(place.entry);
        if run.is_empty() {
            self.runs.remove(place.run);
        } else {
            self.join(place.run);
            self.join(place.run.saturating_sub(1));
        }
        self.length -= 1;
        taken
    }

    /// Appends to a short run the one after it if that is short too, so that a map that shrinks does not end as many
    /// runs of one entry.
    fn join(&mut self, at: usize) {
        let both = self.runs[at].len() + self.runs.get(at + 1).map_or(RUN, Vec::len);
        if both <= RUN / 2 {
            let mut next = self.runs.remove(at + 1);
            self.runs[at].append(&mut next);
        }
    }

    /// Puts an entry where it belongs, and tells where it is then.
    fn put(&mut self, mut place: Place, entry: (K, V)) -> Place {
        self.length += 1;
        let last = self.runs.len().saturating_sub(1);
        match self.runs.get_mut(place.run) {
            None => self.runs.push(Vec::new()),
            Some(run) if run.len() == RUN => {
                // What is filled in order is filled densely: after the last entry of all, a run of its own begins.
                let split = if place.entry == RUN && place.run == last { RUN } else { RUN / 2 };
                let upper = run.split_off(split);
                self.runs.insert(place.run + 1, upper);
                if place.entry >= split {
                    place = Place { run: place.run + 1, entry: place.entry - split };
                }
            }
            Some(_) => {}
        }
        self.runs[place.run].insert(place.entry, entry);
        place
    }
}

impl<K: Ord, V> Map<K, V> {
    /// Where the first entry is of which `before` is not true, which it must be of the first ones and none after.
    fn first_not(&self, mut before: impl FnMut(&K) -> bool) -> Place {
        // The last run that has one of which it is true, and so the one where the first is of which it is not, unless
        // that begins the next; there an insertion would do as well, a lookup would not.
        let run = self.runs.partition_point(|run| run.last().is_some_and(|(key, _)| before(key)));
        match self.runs.get(run) {
            Some(found) => Place { run, entry: found.partition_point(|(key, _)| before(key)) },
            // After the last entry, which is in the last run, if there is one.
            None => match self.runs.last() {
                Some(last) => Place { run: run - 1, entry: last.len() },
                None => Place { run: 0, entry: 0 },
            },
        }
    }

    /// Where a key is, else where it belongs.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Place, Place>
    where
        K: Borrow<Q>,
    {
        let place = self.first_not(|held| held.borrow() < key);
        match self.at(place) {
            Some((held, _)) if held.borrow() == key => Ok(place),
            _ => Err(place),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// A key as it is held, and its value.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.at(self.find(key).ok()?).map(|(key, value)| (key, value))
    }

    /// The value of a key, to be changed.
    #[must_use]
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        Some(&mut self.runs[place.run][place.entry].1)
    }

    /// Whether a key is there.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Sets the value of a key and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(place) => Some(core::mem::replace(&mut self.runs[place.run][place.entry].1, value)),
            Err(place) => {
                self.put(place, (key, value));
                None
            }
        }
    }

    /// Takes a key and its value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.find(key).ok()?;
        Some(self.take(place).1)
    }

    /// The value of a key, which `make` gives it if it has none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = match self.find(&key) {
            Ok(place) => place,
            Err(place) => self.put(place, (key, make())),
        };
        &mut self.runs[place.run][place.entry].1
    }

    /// The value of a key, which is the default one if it has none.
    pub fn get_or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.get_or_insert_with(key, V::default)
    }

    /// The entries whose keys are in a range, in order.
    pub fn range<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q>) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let from = match range.start_bound() {
            Bound::Included(start) => self.first_not(|key| key.borrow() < start),
            Bound::Excluded(start) => self.first_not(|key| key.borrow() <= start),
            Bound::Unbounded => Place { run: 0, entry: 0 },
        };
        let runs = self.runs.get(from.run..).unwrap_or_default();
        let entries = Iter(runs.iter().flatten()).skip(from.entry);
        entries.take_while(move |(key, _)| match range.end_bound() {
            Bound::Included(end) => (*key).borrow() <= end,
            Bound::Excluded(end) => (*key).borrow() < end,
            Bound::Unbounded => true,
        })
    }
}

impl<T> Set<T> {
    /// A set with nothing in it, which takes no memory but its own.
    #[must_use]
    pub const fn new() -> Self {
        Self { map: Map::new() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.map.clear();
    }

    /// All, in order.
    pub fn iter(&self) -> Keys<'_, T> {
        Keys(self.map.iter())
    }

    /// The first.
    #[must_use]
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// The last.
    #[must_use]
    pub fn last(&self) -> Option<&T> {
        self.iter().next_back()
    }

    /// Takes the first out.
    pub fn pop_first(&mut self) -> Option<T> {
        self.map.pop_first().map(|(key, ())| key)
    }

    /// Keeps those that `keep` is true of.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.map.retain(|key, ()| keep(key));
    }
}

impl<T: Ord> Set<T> {
    /// Whether one is there.
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.map.contains_key(key)
    }

    /// Adds one; whether it was not there.
    pub fn insert(&mut self, key: T) -> bool {
        self.map.insert(key, ()).is_none()
    }

    /// Takes one out; whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.map.remove(key).is_some()
    }

    /// Those in a range, in order.
    pub fn range<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q>) -> impl Iterator<Item = &T>
    where
        T: Borrow<Q>,
    {
        self.map.range(range).map(|(key, ())| key)
    }
}

/// The entries of a [`Map`].
pub struct Iter<'a, K, V>(Flatten<slice::Iter<'a, Vec<(K, V)>>>);

/// The entries of a [`Map`], with values that may be changed.
pub struct IterMut<'a, K, V>(Flatten<slice::IterMut<'a, Vec<(K, V)>>>);

/// What is in a [`Set`].
pub struct Keys<'a, T>(Iter<'a, T, ()>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V> Iterator for IterMut<'a, K, V> {
    type Item = (&'a K, &'a mut V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (&*key, value))
    }
}

impl<K, V> DoubleEndedIterator for IterMut<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (&*key, value))
    }
}

impl<'a, T> Iterator for Keys<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, ())| key)
    }
}

impl<T> DoubleEndedIterator for Keys<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, ())| key)
    }
}

impl<T> Clone for Keys<'_, T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = IterMut<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = Flatten<vec::IntoIter<Vec<(K, V)>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.runs.into_iter().flatten()
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = Keys<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What was in a [`Set`].
pub struct IntoKeys<T>(Flatten<vec::IntoIter<Vec<(T, ())>>>);

impl<T> Iterator for IntoKeys<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next().map(|(key, ())| key)
    }
}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = IntoKeys<T>;

    fn into_iter(self) -> Self::IntoIter {
        IntoKeys(self.map.into_iter())
    }
}

/// Of two values with the same key the later one stays.
impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, items: I) {
        for (key, value) in items {
            self.insert(key, value);
        }
    }
}

impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, items: I) {
        for key in items {
            self.insert(key);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(items: I) -> Self {
        let mut map = Self::new();
        map.extend(items);
        map
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut set = Self::new();
        set.extend(items);
        set
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(items: [(K, V); N]) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(items: [T; N]) -> Self {
        items.into_iter().collect()
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Clone, V: Clone> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        Self { runs: self.runs.clone(), length: self.length }
    }
}

impl<T: Clone> Clone for Set<T> {
    fn clone(&self) -> Self {
        Self { map: self.map.clone() }
    }
}

impl<K: Debug, V: Debug> Debug for Map<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self).finish()
    }
}

impl<T: Debug> Debug for Set<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self).finish()
    }
}

/// Equal is what has the same entries, in whatever runs.
impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.iter().eq(other)
    }
}

impl<K: Eq, V: Eq> Eq for Map<K, V> {}

impl<T: PartialEq> PartialEq for Set<T> {
    fn eq(&self, other: &Self) -> bool {
        self.map == other.map
    }
}

impl<T: Eq> Eq for Set<T> {}

impl<V: Serialize> Serialize for Map<String, V> {
    fn begin(&self) -> Fragment<'_> {
        struct Entries<'a, V>(Iter<'a, String, V>);

        impl<V: Serialize> miniserde::ser::Map for Entries<'_, V> {
            fn next(&mut self) -> Option<(Cow<'_, str>, &dyn Serialize)> {
                let (key, value) = self.0.next()?;
                Some((Cow::Borrowed(key), value))
            }
        }

        Fragment::Map(Box::new(Entries(self.iter())))
    }
}

make_place!(Slot);

impl<V: Deserialize> Deserialize for Map<String, V> {
    fn begin(out: &mut Option<Self>) -> &mut dyn Visitor {
        Slot::new(out)
    }
}

impl<V: Deserialize> Visitor for Slot<Map<String, V>> {
    fn map(&mut self) -> miniserde::Result<Box<dyn miniserde::de::Map + '_>> {
        Ok(Box::new(Builder { out: &mut self.out, map: Map::new(), key: None, value: None }))
    }
}

/// A map that is being read: a key and its value are in it as soon as the next key comes.
struct Builder<'a, V> {
    out: &'a mut Option<Map<String, V>>,
    map: Map<String, V>,
    key: Option<String>,
    value: Option<V>,
}

impl<V> Builder<'_, V> {
    fn shift(&mut self) {
        if let (Some(key), Some(value)) = (self.key.take(), self.value.take()) {
            self.map.insert(key, value);
        }
    }
}

impl<V: Deserialize> miniserde::de::Map for Builder<'_, V> {
    fn key(&mut self, key: &str) -> miniserde::Result<&mut dyn Visitor> {
        self.shift();
        self.key = Some(key.into());
        Ok(V::begin(&mut self.value))
    }

    fn finish(&mut self) -> miniserde::Result<()> {
        self.shift();
        *self.out = Some(core::mem::take(&mut self.map));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
