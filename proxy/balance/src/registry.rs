//! Living state by stable key: the same key has the same value for as long as anybody holds it, so that a Snapshot built
//! after a reload finds the state of the one before.
//!
//! Invariant: at most one living value per key. Cost: a lock and a hash per look-up, when Snapshots are built and never
//! per request; what nobody holds any more is swept out each time the registry has doubled.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Below this many entries sweeping is not worth it.
const SMALL: usize = 64;

/// See the module's documentation.
#[derive(Debug)]
pub struct Registry<K, V> {
    inner: Mutex<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    entries: HashMap<K, Weak<V>>,
    sweep_at: usize,
}

impl<K, V> Default for Registry<K, V> {
    fn default() -> Self {
        Self { inner: Mutex::new(Inner { entries: HashMap::new(), sweep_at: SMALL }) }
    }
}

impl<K: Eq + Hash, V> Registry<K, V> {
    /// The value of `key`, made by `make` where there is none that anybody still holds.
    pub fn get_or_create(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = inner.entries.get(&key).and_then(Weak::upgrade) {
            return value;
        }
        if inner.entries.len() >= inner.sweep_at {
            inner.entries.retain(|_, value| value.strong_count() > 0);
            inner.sweep_at = SMALL.max(inner.entries.len() * 2);
        }
        let value = Arc::new(make());
        inner.entries.insert(key, Arc::downgrade(&value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_keeps_its_value_while_it_is_held() {
        let registry = Registry::default();
        let first = registry.get_or_create("a", || 1);
        let second = registry.get_or_create("a", || 2);
        assert!(Arc::ptr_eq(&first, &second));
        drop((first, second));
        assert_eq!(*registry.get_or_create("a", || 3), 3);
    }

    #[test]
    fn what_nobody_holds_is_swept_out() {
        let registry = Registry::default();
        let held: Vec<_> = (0..10).map(|key| registry.get_or_create(key, || key)).collect();
        for key in 10..10_000 {
            registry.get_or_create(key, || key);
        }
        assert!(registry.inner.lock().unwrap().entries.len() <= SMALL);
        for (key, value) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(value, &registry.get_or_create(key, || 99)));
        }
    }

    #[test]
    fn concurrent_look_ups_agree() {
        let registry = Registry::default();
        let values = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    scope.spawn({
                        let registry = &registry;
                        move || registry.get_or_create("a", || thread)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(values.iter().all(|value| Arc::ptr_eq(value, &values[0])));
    }
}
