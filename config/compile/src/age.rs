//! Who came first, and indices of objects in that order.
//!
//! An object is as old as its origin in the member cluster, where that is known, else as itself. Objects of unknown age come
//! last; between equals the namespace decides, then kind, namespace and name of the origin. The order is total.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
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

/// The objects of one key, oldest first; never empty. Mostly there is one, and then it takes two words. An object must leave
/// under the age with which it came.
#[derive(Debug)]
enum Claims {
    One(Aged),
    #[expect(clippy::box_collection, reason = "keeps the common case at two words")]
    Many(Box<BTreeSet<Aged>>),
}

impl Claims {
    /// Adds an object, in the place of an earlier version of the same age.
    fn add(&mut self, object: &Arc<Object>) {
        let new = Aged(Arc::clone(object));
        match self {
            Self::Many(set) => {
                set.replace(new);
            }
            Self::One(old) if *old == new => *old = new,
            Self::One(old) => *self = Self::Many(Box::new(BTreeSet::from([old.clone(), new]))),
        }
    }

    /// Removes an object; says whether none is left.
    fn remove(&mut self, object: &Arc<Object>) -> bool {
        let gone = Aged(Arc::clone(object));
        match self {
            Self::One(one) => *one == gone,
            Self::Many(set) => {
                set.remove(&gone);
                if set.len() == 1
                    && let Some(left) = set.pop_first()
                {
                    *self = Self::One(left);
                }
                false
            }
        }
    }

    /// All objects, oldest first.
    fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        let (one, many) = match self {
            Self::One(one) => (Some(one), None),
            Self::Many(set) => (None, Some(set.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten()).map(|Aged(object)| object)
    }
}

/// Objects by key, oldest first.
#[derive(Debug)]
pub(crate) struct Index<K>(HashMap<K, Claims, RandomState>);

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash> Index<K> {
    /// Adds `object` under `key`; says whether the key is new.
    pub(crate) fn insert(&mut self, key: K, object: &Arc<Object>) -> bool {
        match self.0.entry(key) {
            Entry::Occupied(mut claims) => {
                claims.get_mut().add(object);
                false
            }
            Entry::Vacant(place) => {
                place.insert(Claims::One(Aged(Arc::clone(object))));
                true
            }
        }
    }

    /// Removes `object` from `key`; says whether the key is gone with it.
    pub(crate) fn remove<Q>(&mut self, key: &Q, object: &Arc<Object>) -> bool
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get_mut(key).is_some_and(|claims| claims.remove(object)) && self.0.remove(key).is_some()
    }

    /// The objects of `key`, oldest first.
    pub(crate) fn get<'a, Q>(&'a self, key: &Q) -> impl Iterator<Item = &'a Arc<Object>> + use<'a, K, Q>
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        self.0.get(key).into_iter().flat_map(Claims::iter)
    }

    /// All keys, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}
