//! A map that is cheap to copy and to change: the structural sharing below Plans and Snapshots.
//!
//! A clone copies pointers to shards; a change copies the one shard that it falls in, if another copy still holds
//! it. With n entries a look-up costs two hashes' worth of work, a change after a clone O(shards + n / shards).

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde::ser::{Serialize, SerializeMap, Serializer};

const SHARDS: usize = 512;

type Shard<K, V> = HashMap<K, V, FixedState>;

/// A persistent hash map; see the module's documentation.
#[derive(Clone, Debug)]
pub struct ShardedMap<K, V> {
    shards: Arc<[Arc<Shard<K, V>>]>,
    len: usize,
}

impl<K, V> Default for ShardedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(Shard::with_hasher(FixedState::default()));
        Self { shards: (0..SHARDS).map(|_| Arc::clone(&empty)).collect(), len: 0 }
    }
}

impl<K: Eq + Hash, V> ShardedMap<K, V> {
    fn shard<Q: Hash + ?Sized>(key: &Q) -> usize {
        // The maps below hash with another state, so that a shard's keys do not share their table's bits.
        (FixedState::with_seed(0x706f_7274).hash_one(key) >> 40) as usize % SHARDS
    }

    /// The value of `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.shards[Self::shard(key)].get(key)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> ShardedMap<K, V> {
    fn shard_mut(&mut self, index: usize) -> &mut Shard<K, V> {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[index])
    }

    /// Sets the value of `key`; gives back the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = Self::shard(&key);
        let before = self.shard_mut(index).insert(key, value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Removes `key`; gives back its value.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let index = Self::shard(key);
        if !self.shards[index].contains_key(key) {
            return None;
        }
        let before = self.shard_mut(index).remove(key);
        self.len -= usize::from(before.is_some());
        before
    }

    /// Sets or removes.
    pub fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.insert(key, value),
            None => self.remove(&key),
        };
    }
}

impl<K: Eq + Hash, V: PartialEq> PartialEq for ShardedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self.shards.iter().zip(other.shards.iter()).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

impl<K: Ord + Eq + Hash + Serialize, V: Serialize> Serialize for ShardedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        let mut map = serializer.serialize_map(Some(entries.len()))?;
        for (key, value) in entries {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_map_and_leaves_its_clones_alone(steps in prop::collection::vec((0u16..2000, prop::option::of(0u8..9)), 0..400)) {
            let mut map = ShardedMap::default();
            let mut oracle = HashMap::new();
            for (key, value) in steps {
                let (before, length) = (map.clone(), oracle.len());
                match value {
                    Some(value) => prop_assert_eq!(map.insert(key, value), oracle.insert(key, value)),
                    None => prop_assert_eq!(map.remove(&key), oracle.remove(&key)),
                }
                prop_assert_eq!(before.len(), length);
                prop_assert_eq!(map.len(), oracle.len());
                prop_assert_eq!(map.get(&key), oracle.get(&key));
            }
            prop_assert_eq!(map.iter().map(|(k, v)| (*k, *v)).collect::<HashMap<_, _>>(), oracle);
        }
    }
}
