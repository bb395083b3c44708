//! What is there in the member cluster, as far as it matters here?
//!
//! ```text
//!  watches ──► Change ──► View ──► Touched: which Ingresses, Services, Secrets have to be looked at again
//! ```
//!
//! Objects are kept slim: what is not used is dropped while reading ([`read`]), names that many share are kept once. The indices always
//! agree with the objects. A list that is taken again ends in the same view as the changes that were missed.
//! Cost of a change: the size of its object and of what refers to it.

pub mod companion;
mod kinds;
pub mod read;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use portolan_model::naming;

pub use self::kinds::*;

/// A name that is shared.
pub type Name = Arc<str>;

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl Key {
    /// The object of that name in that namespace.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Change<K, V> {
    /// All that is there follows, and then [`Change::Listed`].
    Restart,
    /// That is there.
    Put(K, V),
    /// That is there, and cannot be read: what it said before stands.
    Kept(K),
    /// That is gone.
    Gone(K),
    /// What was neither put nor kept since [`Change::Restart`] is gone.
    Listed,
}

/// What has to be looked at again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// These.
    pub ingresses: BTreeSet<Key>,
    /// Their pools, and their companions.
    pub services: BTreeSet<Key>,
    /// `EndpointSlice`s, each with its `Service`.
    pub slices: BTreeSet<(Key, Key)>,
    /// Their copies.
    pub secrets: BTreeSet<Key>,
    /// The `NodeSet`.
    pub nodes: bool,
    /// Every `Ingress`.
    pub all: bool,
}

impl Touched {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Objects of one kind.
#[derive(Clone, Debug)]
pub struct Shelf<K, V> {
    objects: HashMap<K, V>,
    /// What was said to be there since the list began, while one is under way.
    listing: Option<HashSet<K>>,
    listed: bool,
}

impl<K, V> Default for Shelf<K, V> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listing: None, listed: false }
    }
}

impl<K: Clone + Eq + Hash, V: PartialEq> Shelf<K, V> {
    /// The object of that name.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.objects.get(key)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.objects.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether a full list was in.
    pub fn listed(&self) -> bool {
        self.listed
    }

    /// Takes a change, and tells of each object that is another now: what it was, and what it is.
    pub fn apply(&mut self, change: Change<K, V>, mut changed: impl FnMut(&K, Option<V>, Option<&V>)) {
        match change {
            Change::Restart => self.listing = Some(HashSet::new()),
            Change::Put(key, value) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(key.clone());
                }
                let known = self.objects.get_mut(&key);
                match known {
                    Some(known) if *known == value => {}
                    Some(known) => {
                        let old = std::mem::replace(known, value);
                        changed(&key, Some(old), Some(known));
                    }
                    None => {
                        let value = self.objects.entry(key.clone()).or_insert(value);
                        changed(&key, None, Some(value));
                    }
                }
            }
            Change::Kept(key) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(key);
                }
            }
            Change::Gone(key) => {
                if let Some(old) = self.objects.remove(&key) {
                    changed(&key, Some(old), None);
                }
            }
            Change::Listed => {
                self.listed = true;
                let Some(seen) = self.listing.take() else { return };
                let gone: Vec<K> = self.objects.keys().filter(|key| !seen.contains(key)).cloned().collect();
                for key in gone {
                    if let Some(old) = self.objects.remove(&key) {
                        changed(&key, Some(old), None);
                    }
                }
            }
        }
    }
}

/// The member cluster.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Its `Ingress`es, whosever they are.
    pub ingresses: Shelf<Key, Ingress>,
    /// Its `Service`s.
    pub services: Shelf<Key, Service>,
    /// Its `EndpointSlice`s.
    pub slices: Shelf<Key, Slice>,
    /// Its `Node`s.
    pub nodes: Shelf<Name, Node>,
    /// Its `IngressClass`es.
    pub classes: Shelf<Name, IngressClass>,
    /// Digests of its `Secret`s with certificates.
    pub secrets: Shelf<Key, u64>,
    /// Why a companion could not be written, where it could not.
    pub refused_companions: HashMap<Key, Box<str>>,
    by_service: HashMap<Key, BTreeSet<Key>>,
    by_secret: HashMap<Key, BTreeSet<Key>>,
    slices_of: HashMap<Key, BTreeSet<Name>>,
    touched: Touched,
}

impl View {
    /// What changed since it was asked last.
    pub fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// Whether a full list of every kind was in. Without `Ingress`es nothing is known, so what is not served counts as listed, save these.
    pub fn listed(&self) -> bool {
        self.ingresses.listed()
            && self.services.listed()
            && self.slices.listed()
            && self.nodes.listed()
            && self.classes.listed()
            && self.secrets.listed()
    }

    /// That `Ingress` has to be looked at again.
    pub fn touch_ingress(&mut self, ingress: &Key) {
        self.touched.ingresses.insert(ingress.clone());
    }

    /// The nodes have to be looked at again.
    pub fn touch_nodes(&mut self) {
        self.touched.nodes = true;
    }

    /// Everything has to be looked at again.
    pub fn touch_all(&mut self) {
        self.touched.all = true;
        self.touched.nodes = true;
    }

    /// That `Service`, and what refers to it, has to be looked at again.
    pub fn touch_service(&mut self, service: &Key) {
        touch(&mut self.touched, &self.by_service, service);
    }

    /// The slices of a `Service`, by name.
    pub fn slices_of(&self, service: &Key) -> impl Iterator<Item = (&Name, &Slice)> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|name| {
            let key = Key { namespace: Arc::clone(&service.namespace), name: Arc::clone(name) };
            Some((name, self.slices.get(&key)?))
        })
    }

    /// Takes a change of an `Ingress`.
    pub fn ingress(&mut self, change: Change<Key, Ingress>) {
        let Self { ingresses, by_service, by_secret, touched, .. } = self;
        ingresses.apply(change, |key, old, new| {
            if let Some(old) = &old {
                references(
                    key,
                    old,
                    |service| unlink(by_service, service, key),
                    |secret| unlink(by_secret, secret, key),
                );
            }
            if let Some(new) = new {
                references(
                    key,
                    new,
                    |service| link(by_service, service, key),
                    |secret| link(by_secret, secret, key),
                );
            }
            touched.ingresses.insert(key.clone());
        });
    }

    /// Takes a change of a `Service`.
    pub fn service(&mut self, change: Change<Key, Service>) {
        let Self { services, by_service, touched, refused_companions, .. } = self;
        services.apply(change, |key, old, new| {
            touch(touched, by_service, key);
            // A changed Service may get the companion that it did not get before.
            refused_companions.remove(key);
            // One that is not ours may be in the way.
            let named = naming::companion_owner(&key.name, []).map(Name::from);
            let owner = |service: Option<&Service>| service?.companion.as_ref().map(|it| Arc::clone(&it.of));
            for owner in [owner(old.as_ref()), owner(new), named].into_iter().flatten() {
                let owner = Key { namespace: Arc::clone(&key.namespace), name: owner };
                refused_companions.remove(&owner);
                touch(touched, by_service, &owner);
            }
        });
    }

    /// Takes a change of an `EndpointSlice`.
    pub fn slice(&mut self, change: Change<Key, Slice>) {
        let Self { slices, slices_of, touched, .. } = self;
        slices.apply(change, |key, old, new| {
            let service = |slice: &Slice| Key {
                namespace: Arc::clone(&key.namespace),
                name: Arc::clone(&slice.service),
            };
            if let Some(old) = &old {
                let service = service(old);
                if let Some(names) = slices_of.get_mut(&service) {
                    names.remove(&key.name);
                    if names.is_empty() {
                        slices_of.remove(&service);
                    }
                }
                touched.slices.insert((key.clone(), service));
            }
            if let Some(new) = new {
                let service = service(new);
                slices_of.entry(service.clone()).or_default().insert(Arc::clone(&key.name));
                touched.slices.insert((key.clone(), service));
            }
        });
    }

    /// Takes a change of a `Node`.
    pub fn node(&mut self, change: Change<Name, Node>) {
        let touched = &mut self.touched;
        self.nodes.apply(change, |_, _, _| touched.nodes = true);
    }

    /// Takes a change of an `IngressClass`.
    pub fn class(&mut self, change: Change<Name, IngressClass>) {
        let touched = &mut self.touched;
        self.classes.apply(change, |_, _, _| touched.all = true);
    }

    /// Takes a change of a `Secret`.
    pub fn secret(&mut self, change: Change<Key, u64>) {
        let Self { secrets, by_secret, touched, .. } = self;
        secrets.apply(change, |key, old, new| {
            touched.secrets.insert(key.clone());
            // What its content is does not matter to those that name it.
            if old.is_some() != new.is_some() {
                touched.ingresses.extend(by_secret.get(key).into_iter().flatten().cloned());
            }
        });
    }

    /// Notes why a companion could not be written.
    pub fn refuse_companion(&mut self, service: Key, reason: &str) {
        if self.refused_companions.get(&service).is_none_or(|known| **known != *reason) {
            self.touch_service(&service);
            self.refused_companions.insert(service, reason.into());
        }
    }
}

fn touch(touched: &mut Touched, by_service: &HashMap<Key, BTreeSet<Key>>, service: &Key) {
    touched.ingresses.extend(by_service.get(service).into_iter().flatten().cloned());
    touched.services.insert(service.clone());
}

fn references(key: &Key, ingress: &Ingress, mut service: impl FnMut(Key), mut secret: impl FnMut(Key)) {
    let paths = ingress.rules.iter().flat_map(|rule| &rule.paths).map(|path| &path.backend);
    for backend in paths.chain(&ingress.default_backend) {
        if let Backend::Service { name, .. } = backend {
            service(Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(name) });
        }
    }
    for name in ingress.tls.iter().filter_map(|tls| tls.secret.as_ref()) {
        secret(Key { namespace: Arc::clone(&key.namespace), name: Arc::clone(name) });
    }
}

fn link(index: &mut HashMap<Key, BTreeSet<Key>>, of: Key, key: &Key) {
    index.entry(of).or_default().insert(key.clone());
}

fn unlink(index: &mut HashMap<Key, BTreeSet<Key>>, of: Key, key: &Key) {
    if let Some(keys) = index.get_mut(&of) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(&of);
        }
    }
}
