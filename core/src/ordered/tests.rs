//! Maps and sets beside `BTreeMap` and `BTreeSet`, which do the same.

use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;

/// A sequence of numbers that are scattered, and the same in every run.
struct Scattered(u64);

impl Scattered {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What must be true of every map at any time.
fn check<K: Ord, V>(map: &Map<K, V>) {
    assert!(map.runs.iter().all(|run| !run.is_empty() && run.len() <= RUN));
    assert_eq!(map.runs.iter().map(Vec::len).sum::<usize>(), map.len());
    assert!(map.keys().zip(map.keys().skip(1)).all(|(one, next)| one < next));
}

#[test]
fn a_map_does_what_a_btree_map_does() {
    // A few keys that are hit often, and so many that there are hundreds of runs.
    for (seed, keys) in [(1, 10), (2, 100), (3, 1_000), (4, 20_000)] {
        let mut random = Scattered(seed);
        let (mut map, mut model) = (Map::new(), BTreeMap::new());
        for turn in 0..40_000 {
            let key = random.below(keys);
            // Growing first, shrinking later: half of the turns it is one, half of them the other.
            let grow = if turn / 10_000 % 2 == 0 { 7 } else { 2 };
            match random.below(10) {
                choice if choice < grow => assert_eq!(map.insert(key, turn), model.insert(key, turn)),
                8 => assert_eq!(map.pop_first(), model.pop_first()),
                9 => {
                    *map.get_or_insert_with(key, || turn) += 1;
                    *model.entry(key).or_insert(turn) += 1;
                }
                _ => assert_eq!(map.remove(&key), model.remove(&key)),
            }
            assert_eq!(map.get(&key), model.get(&key));
            assert_eq!(map.len(), model.len());
            if turn % 500 == 0 {
                check(&map);
                assert!(map.iter().eq(&model));
                assert!(map.iter().rev().eq(model.iter().rev()));
                assert_eq!(map.first_key_value(), model.first_key_value());
                assert_eq!(map.last_key_value(), model.last_key_value());
                let other = random.below(keys);
                let (low, high) = (key.min(other), key.max(other));
                assert!(map.range(low..high).eq(model.range(low..high)));
                assert!(map.range(low..=high).eq(model.range(low..=high)));
                assert!(map.range(..high).eq(model.range(..high)));
                assert!(map.range(low..).eq(model.range(low..)));
                let after = (Bound::Excluded(low), Bound::Unbounded);
                assert!(map.range(after).eq(model.range(after)));
            }
        }
        map.retain(|key, value| (key + *value) % 3 == 0);
        model.retain(|key, value| (*key + *value) % 3 == 0);
        check(&map);
        assert!(map.iter_mut().eq(&mut model));
        assert!(map.clone().into_iter().eq(model.clone()));
        assert!(map.into_values().eq(model.into_values()));
    }
}

#[test]
fn a_set_does_what_a_btree_set_does() {
    let mut random = Scattered(5);
    let (mut set, mut model) = (Set::new(), BTreeSet::new());
    for _ in 0..20_000 {
        let key = (random.below(20), random.below(40));
        if random.below(3) > 0 {
            assert_eq!(set.insert(key), model.insert(key));
        } else {
            assert_eq!(set.remove(&key), model.remove(&key));
        }
        assert_eq!(set.contains(&key), model.contains(&key));
        assert_eq!((set.first(), set.last()), (model.first(), model.last()));
    }
    assert!(set.range((5, 0)..(9, 3)).eq(model.range((5, 0)..(9, 3))));
    assert_eq!(set.pop_first(), model.pop_first());
    set.retain(|(_, second)| second % 2 == 0);
    model.retain(|(_, second)| second % 2 == 0);
    assert!(set.iter().eq(&model) && set.into_iter().eq(model));
}

#[test]
fn what_is_filled_in_order_fills_its_runs_and_what_is_emptied_joins_them() {
    let mut map: Map<u64, u64> = (0..10_000).map(|number| (number, number)).collect();
    assert_eq!(map.runs.len(), 10_000_usize.div_ceil(RUN));
    for number in 0..10_000 {
        if number % 100 != 0 {
            map.remove(&number);
        }
    }
    check(&map);
    assert!(map.runs.len() <= 100 / (RUN / 4), "{} runs for 100 entries", map.runs.len());
}

#[test]
fn maps_with_the_same_entries_are_equal_however_they_came_about() {
    let up: Map<u64, char> = (0..500).map(|number| (number, 'a')).collect();
    let down: Map<u64, char> = (0..500).rev().map(|number| (number, 'a')).collect();
    assert_ne!(up.runs.len(), down.runs.len());
    assert_eq!(up, down);
    assert_ne!(up, Map::from([(1, 'a')]));
    assert_eq!(Map::from([("a", 1), ("b", 2), ("a", 3)]), Map::from([("b", 2), ("a", 3)]), "the later one stays");
}

#[test]
fn a_map_is_an_object_in_json() {
    let map: Map<String, u32> = Map::from([("b".to_string(), 2), ("a\"".to_string(), 1)]);
    let text = miniserde::json::to_string(&map);
    assert_eq!(text, r#"{"a\"":1,"b":2}"#);
    assert_eq!(miniserde::json::from_str::<Map<String, u32>>(&text).ok(), Some(map));
    assert_eq!(miniserde::json::from_str::<Map<String, u32>>("{}").ok(), Some(Map::new()));
    for wrong in ["[]", "{\"a\":\"b\"}", "1"] {
        assert!(miniserde::json::from_str::<Map<String, u32>>(wrong).is_err(), "{wrong}");
    }
}
