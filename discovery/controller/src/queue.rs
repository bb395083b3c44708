//! What is to be looked at, and when.
//!
//! Pure; bounded by the number of things: each stands in it once, at the earliest time asked for.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    due: BTreeSet<(Instant, K)>,
    at: HashMap<K, Instant>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { due: BTreeSet::new(), at: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// It is due at that time, or before if that was asked for already.
    pub(crate) fn mark(&mut self, id: &K, at: Instant) {
        match self.at.get_mut(id) {
            Some(before) if *before <= at => return,
            Some(before) => {
                self.due.remove(&(*before, id.clone()));
                *before = at;
            }
            None => {
                self.at.insert(id.clone(), at);
            }
        }
        self.due.insert((at, id.clone()));
    }

    /// Forget it.
    pub(crate) fn remove(&mut self, id: &K) {
        if let Some(at) = self.at.remove(id) {
            self.due.remove(&(at, id.clone()));
        }
    }

    /// The next one that is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, id) = self.due.pop_first()?;
        self.at.remove(&id);
        Some(id)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_due_once_at_the_earliest_time_asked_for() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let [a, b, c] = ["a", "b", "c"];
        let mut queue = Queue::default();
        queue.mark(&a, at(5));
        queue.mark(&b, at(3));
        queue.mark(&a, at(2));
        queue.mark(&a, at(9));
        queue.mark(&c, at(1));
        queue.remove(&c);
        assert_eq!(queue.next(), Some(at(2)));
        assert_eq!(queue.pop(at(1)), None);
        assert_eq!(queue.pop(at(4)), Some(a));
        assert_eq!(queue.pop(at(4)), Some(b));
        assert_eq!((queue.pop(at(100)), queue.next()), (None, None));
    }
}
