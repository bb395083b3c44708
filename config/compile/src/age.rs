//! Who came first, and indices of objects in that order.
//!
//! An object is as old as its origin in the member cluster, where that is known, else as itself. Objects of unknown age come
//! last; between equals the namespace decides, then kind, namespace and name of the origin. The order is total.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_model::id::ObjectRef;
use portolan_model::intent::{Object, Origin};

/// Kind, namespace and name of what an object was synced from; its own without.
pub(crate) fn origin(object: &Object) -> (&str, &str, &str) {
    match object.meta.origin.as_deref() {
        Some(Origin { kind, namespace, name, .. }) => (kind, namespace, name),
        None => (object.meta.id.kind.as_str(), &object.meta.id.namespace, &object.meta.id.name),
    }
}

type Age<'a> = (bool, i64, &'a str, (&'a str, &'a str, &'a str), &'a ObjectRef);

fn age(object: &Object) -> Age<'_> {
    let created = object.meta.origin.as_ref().and_then(|origin| origin.created).or(object.meta.created);
    let id = &object.meta.id;
    (created.is_none(), created.unwrap_or_default(), &id.namespace, origin(object), id)
}

/// An object that compares by age, the older the smaller. Equal means the same age of the same object.
#[derive(Clone, Debug)]
pub(crate) struct Aged(pub(crate) Arc<Object>);

impl Ord for Aged {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { age(&self.0).cmp(&age(&other.0)) }
    }
}

impl PartialOrd for Aged {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Aged {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Aged {}

/// The objects of one key; never empty. Mostly there is one, and then it takes two words.
#[derive(Debug)]
enum Claims {
    One(Aged),
    #[expect(clippy::box_collection, reason = "keeps the common case at two words")]
    Many(Box<BTreeSet<Aged>>),
}

/// Objects by key, oldest first. An object must leave under the age with which it came.
#[derive(Debug)]
pub(crate) struct Index<K>(BTreeMap<K, Claims>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Index<K> {
    /// Adds `object` under `key`.
    pub(crate) fn insert(&mut self, key: K, object: &Arc<Object>) {
        let new = Aged(Arc::clone(object));
        match self.0.get_mut(&key) {
            None => {
                self.0.insert(key, Claims::One(new));
            }
            Some(Claims::Many(set)) => {
                set.replace(new);
            }
            Some(claims @ Claims::One(_)) => {
                if let Claims::One(old) = claims
                    && *old != new
                {
                    *claims = Claims::Many(Box::new(BTreeSet::from([old.clone(), new])));
                } else {
                    *claims = Claims::One(new);
                }
            }
        }
    }

    /// Removes `object` from `key`.
    pub(crate) fn remove<Q>(&mut self, key: &Q, object: &Arc<Object>)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let gone = Aged(Arc::clone(object));
        let empty = match self.0.get_mut(key) {
            None => false,
            Some(Claims::One(one)) => *one == gone,
            Some(claims @ Claims::Many(_)) => {
                let mut left = None;
                if let Claims::Many(set) = claims {
                    set.remove(&gone);
                    if set.len() == 1 {
                        left = set.pop_first();
                    }
                }
                if let Some(left) = left {
                    *claims = Claims::One(left);
                }
                false
            }
        };
        if empty {
            self.0.remove(key);
        }
    }

    /// The objects of `key`, oldest first.
    pub(crate) fn get<'a, Q>(&'a self, key: &Q) -> impl Iterator<Item = &'a Arc<Object>> + use<'a, K, Q>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (one, many) = match self.0.get(key) {
            None => (None, None),
            Some(Claims::One(one)) => (Some(one), None),
            Some(Claims::Many(set)) => (None, Some(set.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten()).map(|Aged(object)| object)
    }

    /// The oldest object of `key`.
    pub(crate) fn oldest<'a, Q>(&'a self, key: &Q) -> Option<&'a Arc<Object>>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key).next()
    }

    /// Whether there is nothing at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All keys, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// The keys from `start` on, in order.
    pub(crate) fn keys_from<'a>(&'a self, start: &'a K) -> impl Iterator<Item = &'a K> {
        self.0.range(start..).map(|(key, _)| key)
    }
}
