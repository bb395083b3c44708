//! Who came first, and indices of objects in that order.
//!
//! Within a tenant an object is as old as its origin in the member cluster, where that is known, else as itself. That date
//! is the tenant's to write, so between tenants it says nothing: there an object is as old as itself, and the namespace
//! decides between equals. The two together are no order (of three objects each could come before the next), hence two types.
//! Objects of unknown age come last. Both orders are total.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::marker::PhantomData;
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

/// What objects are compared by.
pub(crate) trait Order {
    /// The older, the smaller.
    type Age<'a>: Ord;

    fn age(object: &Object) -> Self::Age<'_>;
}

/// The order of one tenant's objects. Equal ages say that it is the same object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Within {}

impl Order for Within {
    type Age<'a> = (bool, i64, (&'a str, &'a str, &'a str), &'a ObjectRef);

    fn age(object: &Object) -> Self::Age<'_> {
        let created = object.meta.origin.as_ref().and_then(|origin| origin.created).or(object.meta.created);
        (created.is_none(), created.unwrap_or_default(), origin(object), &object.meta.id)
    }
}

/// The order of all tenants' objects. Equal ages say that it is the same object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Between {}

impl Order for Between {
    type Age<'a> = (bool, i64, &'a str, &'a ObjectRef);

    fn age(object: &Object) -> Self::Age<'_> {
        let (created, id) = (object.meta.created, &object.meta.id);
        (created.is_none(), created.unwrap_or_default(), &id.namespace, id)
    }
}

/// Why `first` comes before `other` between tenants.
pub(crate) fn why_first(first: &Object, other: &Object) -> &'static str {
    match (first.meta.created, other.meta.created) {
        (Some(first), Some(other)) if first < other => "is older",
        (Some(_), None) => "has a creationTimestamp, which this object has not",
        (Some(_), Some(_)) => "comes first by name: both have the same creationTimestamp",
        (None, _) => "comes first by name: neither has a creationTimestamp",
    }
}

/// An object that compares by age, the older the smaller. Equal means the same age of the same object.
#[derive(Debug)]
pub(crate) struct Aged<O = Within>(Arc<Object>, PhantomData<O>);

impl<O> Aged<O> {
    pub(crate) fn new(object: Arc<Object>) -> Self {
        Self(object, PhantomData)
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.0
    }
}

impl<O> Clone for Aged<O> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl<O: Order> Ord for Aged<O> {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { O::age(&self.0).cmp(&O::age(&other.0)) }
    }
}

impl<O: Order> PartialOrd for Aged<O> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<O: Order> PartialEq for Aged<O> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<O: Order> Eq for Aged<O> {}

/// The objects of one key, oldest first; never empty. Mostly there is one, and then it takes two words. An object must leave
/// under the age with which it came.
#[derive(Debug)]
enum Claims<O> {
    One(Aged<O>),
    #[expect(clippy::box_collection, reason = "keeps the common case at two words")]
    Many(Box<BTreeSet<Aged<O>>>),
}

impl<O: Order> Claims<O> {
    /// Adds an object, in the place of an earlier version of the same age.
    fn add(&mut self, object: &Arc<Object>) {
        let new = Aged::new(Arc::clone(object));
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
        let gone = Aged::new(Arc::clone(object));
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
        one.into_iter().chain(many.into_iter().flatten()).map(Aged::object)
    }
}

/// Objects by key, oldest first.
#[derive(Debug)]
pub(crate) struct Index<K, O = Within>(HashMap<K, Claims<O>, RandomState>);

impl<K, O> Default for Index<K, O> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash, O: Order> Index<K, O> {
    /// Adds `object` under `key`; says whether the key is new.
    pub(crate) fn insert(&mut self, key: K, object: &Arc<Object>) -> bool {
        match self.0.entry(key) {
            Entry::Occupied(mut claims) => {
                claims.get_mut().add(object);
                false
            }
            Entry::Vacant(place) => {
                place.insert(Claims::One(Aged::new(Arc::clone(object))));
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
    pub(crate) fn get<'a, Q>(&'a self, key: &Q) -> impl Iterator<Item = &'a Arc<Object>> + use<'a, K, O, Q>
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
