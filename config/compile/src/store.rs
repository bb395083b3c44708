//! What objects there are, and who refers to whom.
//!
//! Only objects in namespaces that count are looked at by others: namespaces of a `Cluster` that exists, and for `Secret`s
//! and `ConfigMap`s the system's own.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_model::id::{Kind, ObjectRef, SYSTEM_NAMESPACE};
use portolan_model::intent::{Cluster, Object, Spec};
use portolan_model::plan::VirtualHost;
use portolan_model::pool::Verification;

use crate::age::Index;

/// An object, and for an `HTTPLoadBalancer` what it serves: all of its rules, one route each.
#[derive(Debug)]
struct Entry {
    object: Arc<Object>,
    served: Option<Arc<VirtualHost>>,
}

impl Borrow<str> for Entry {
    fn borrow(&self) -> &str {
        &self.object.meta.id.name
    }
}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.object.meta.id.name.hash(state);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.object.meta.id.name == other.object.meta.id.name
    }
}

impl Eq for Entry {}

#[derive(Debug, Default)]
struct Namespace {
    cluster: Option<Arc<Object>>,
    objects: BTreeMap<Kind, HashSet<Entry, RandomState>>,
}

/// All objects by namespace, kind and name.
#[derive(Debug, Default)]
pub(crate) struct Store {
    namespaces: HashMap<Arc<str>, Namespace, RandomState>,
    users: Index<(ObjectRef, Kind)>,
    numbers: BTreeMap<Kind, usize>,
}

impl Store {
    /// Puts `new` in the place of the object `id`; gives back the one before.
    pub(crate) fn replace(&mut self, id: &ObjectRef, new: Option<&Arc<Object>>) -> Option<Arc<Object>> {
        let namespace = self.namespaces.entry(Arc::clone(&id.namespace)).or_default();
        let objects = namespace.objects.entry(id.kind).or_default();
        let (old, served) = match objects.take(&*id.name) {
            Some(Entry { object, served }) => (Some(object), served),
            None => (None, None),
        };
        if let Some(new) = new {
            objects.insert(Entry { object: Arc::clone(new), served });
        } else if objects.is_empty() {
            namespace.objects.remove(&id.kind);
            self.drop_if_empty(&id.namespace);
        }
        let number = self.numbers.entry(id.kind).or_default();
        if let Some(old) = &old {
            *number = number.saturating_sub(1);
            for target in targets(old) {
                self.users.remove(&(target, id.kind), old);
            }
        }
        if let Some(new) = new {
            *number += 1;
            for target in targets(new) {
                self.users.insert((target, id.kind), new);
            }
        }
        old
    }

    /// Makes `namespace` that of `cluster`.
    pub(crate) fn set_cluster(&mut self, namespace: &str, cluster: Option<Arc<Object>>) {
        if !self.namespaces.contains_key(namespace) {
            self.namespaces.insert(namespace.into(), Namespace::default());
        }
        if let Some(entry) = self.namespaces.get_mut(namespace) {
            entry.cluster = cluster;
        }
        self.drop_if_empty(namespace);
    }

    fn drop_if_empty(&mut self, namespace: &str) {
        if self.namespaces.get(namespace).is_some_and(|it| it.cluster.is_none() && it.objects.is_empty()) {
            self.namespaces.remove(namespace);
        }
    }

    fn entry(&self, id: &ObjectRef) -> Option<&Entry> {
        self.namespaces.get(&id.namespace)?.objects.get(&id.kind)?.get(&*id.name)
    }

    /// The object `id`.
    pub(crate) fn get(&self, id: &ObjectRef) -> Option<&Arc<Object>> {
        self.entry(id).map(|entry| &entry.object)
    }

    /// The object `id`, if it stands where objects of its kind count.
    pub(crate) fn live(&self, id: &ObjectRef) -> Option<&Arc<Object>> {
        self.get(id).filter(|_| self.counts(id))
    }

    /// Whether an object of that kind and namespace counts.
    pub(crate) fn counts(&self, id: &ObjectRef) -> bool {
        if id.kind.is_cluster_scoped() {
            return id.namespace.is_empty();
        }
        self.cluster(&id.namespace).is_some()
            || (&*id.namespace == SYSTEM_NAMESPACE && matches!(id.kind, Kind::Secret | Kind::ConfigMap))
    }

    /// The `Cluster` that a namespace belongs to.
    pub(crate) fn cluster(&self, namespace: &str) -> Option<&Cluster> {
        match &self.namespaces.get(namespace)?.cluster.as_ref()?.spec {
            Spec::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    /// What the `HTTPLoadBalancer` `id` serves.
    pub(crate) fn served(&self, id: &ObjectRef) -> Option<&Arc<VirtualHost>> {
        self.entry(id)?.served.as_ref()
    }

    /// Keeps what the `HTTPLoadBalancer` `id` serves.
    pub(crate) fn set_served(&mut self, id: &ObjectRef, served: Option<Arc<VirtualHost>>) {
        if let Some(namespace) = self.namespaces.get_mut(&id.namespace)
            && let Some(objects) = namespace.objects.get_mut(&id.kind)
            && let Some(entry) = objects.take(&*id.name)
        {
            objects.insert(Entry { served, ..entry });
        }
    }

    /// All objects of a namespace, in no order.
    pub(crate) fn in_namespace<'a>(
        &'a self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let objects = self.namespaces.get(namespace).into_iter().flat_map(|it| it.objects.values());
        objects.flatten().map(|entry| &entry.object)
    }

    /// The objects of one kind in a namespace, in no order.
    pub(crate) fn of_kind<'a>(
        &'a self,
        namespace: &str,
        kind: Kind,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let objects = self.namespaces.get(namespace).and_then(|it| it.objects.get(&kind));
        objects.into_iter().flatten().map(|entry| &entry.object)
    }

    /// How many objects of one kind there are, in all namespaces.
    pub(crate) fn number(&self, kind: Kind) -> usize {
        self.numbers.get(&kind).copied().unwrap_or_default()
    }

    /// The objects of one kind in all namespaces, in no order.
    pub(crate) fn all_of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.namespaces
            .values()
            .filter_map(move |it| it.objects.get(&kind))
            .flatten()
            .map(|entry| &entry.object)
    }

    /// The objects of kind `by` that refer to `target`, oldest first.
    pub(crate) fn users<'a>(
        &'a self,
        target: &ObjectRef,
        by: Kind,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        self.users.get(&(target.clone(), by))
    }
}

/// What an object refers to.
pub(crate) fn targets(object: &Object) -> Vec<ObjectRef> {
    let mut targets = Vec::new();
    match &object.spec {
        Spec::Proxy(proxy) => {
            let tls = proxy.listeners.iter().filter_map(|listener| listener.tls.as_ref());
            targets.extend(tls.filter_map(|tls| tls.default_certificate.clone()));
        }
        Spec::Cluster(cluster) => targets.extend(cluster.certificate.clone()),
        Spec::HttpLoadBalancer(lb) => {
            let backends = lb.rules.iter().flat_map(|rule| rule.backends.iter());
            targets.extend(backends.map(|backend| backend.pool.object()));
            targets.extend(lb.tls.iter().map(|binding| binding.secret.clone()));
        }
        Spec::UpstreamPool(pool) => {
            if let Some(Verification::Bundle(bundle)) = pool.tls.as_ref().map(|tls| &tls.verification) {
                targets.push(bundle.clone());
            }
        }
        Spec::TrafficPolicy(policy) => targets.extend(policy.targets.iter().cloned()),
        Spec::EndpointSlice(slice) => {
            let namespace = Arc::clone(&object.meta.id.namespace);
            targets.push(ObjectRef::new(Kind::UpstreamPool, namespace, Arc::clone(&slice.pool)));
        }
        Spec::NodeSet(_) | Spec::Secret(_) | Spec::ConfigMap(_) => {}
    }
    targets
}
