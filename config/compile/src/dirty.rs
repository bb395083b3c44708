//! What a delta may reach: takes it into the store and the indices, and notes what has to be worked out anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef, tenant_namespace};
use portolan_model::intent::{Cluster, Delta, HttpLoadBalancer, Object, Spec};
use portolan_model::pool::EndpointSource;
use portolan_model::proxy::Proxy;

use crate::age::{Aged, Between};
use crate::compiler::{Compiler, is_default_proxy};
use crate::hosts::{claimed, concerning};
use crate::load_balancer;
use crate::names::{Names, Renamed};
use crate::store::targets;

/// What has to be worked out anew.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Objects with all that follows from them alone.
    pub(crate) objects: BTreeSet<ObjectRef>,
    /// Tenants of whose objects others may be beyond a limit.
    pub(crate) limits: BTreeSet<Arc<str>>,
    /// Load balancers: what is wrong with them, which certificates they use.
    pub(crate) verdicts: BTreeSet<ObjectRef>,
    /// Hosts that may have another owner.
    pub(crate) owners: BTreeSet<HostPattern>,
    /// Hosts that may have other routes.
    pub(crate) hosts: BTreeSet<HostPattern>,
    /// The routes for hosts that nobody serves.
    pub(crate) catch_all: bool,
}

impl Compiler {
    /// Takes one delta in.
    pub(crate) fn take_in(&mut self, delta: Delta, dirty: &mut Dirty) {
        let (Delta::Delete(id) | Delta::Invalid(id, _)) = &delta else { return self.take(delta, dirty) };
        let proxy = is_default_proxy(id).then(|| id.clone());
        self.take(delta, dirty);
        if let Some(id) = proxy.filter(|id| self.store.get(id).is_none()) {
            let mut proxy = Proxy::fallback();
            if self.invalid.contains_key(&id) {
                // Somebody wants other listeners than the built-in ones, and cannot be understood.
                proxy.listeners.clear();
            }
            self.set_proxy(proxy, dirty);
        }
    }

    fn take(&mut self, delta: Delta, dirty: &mut Dirty) {
        match delta {
            Delta::Apply(object) => {
                let id = object.meta.id.clone();
                self.forgive(&id, dirty);
                self.replace(&id, Some(object), dirty);
            }
            Delta::Delete(id) => {
                self.forgive(&id, dirty);
                self.replace(&id, None, dirty);
            }
            Delta::Invalid(id, conditions) => {
                if id.kind == Kind::Secret {
                    self.touch_users(&id, dirty);
                }
                dirty.objects.insert(id.clone());
                self.invalid.insert(id, conditions);
            }
        }
    }

    fn forgive(&mut self, id: &ObjectRef, dirty: &mut Dirty) {
        if self.invalid.remove(id).is_some() {
            if id.kind == Kind::Secret {
                self.touch_users(id, dirty);
            }
            dirty.objects.insert(id.clone());
        }
    }

    fn replace(&mut self, id: &ObjectRef, new: Option<Arc<Object>>, dirty: &mut Dirty) {
        if self.store.get(id) == new.as_ref() {
            return;
        }
        let old = self.store.replace(id, new.as_ref());
        dirty.objects.insert(id.clone());
        if self.limits.replace(id, old.as_ref(), new.as_ref()) {
            dirty.limits.insert(Arc::clone(&id.namespace));
        }
        let came_or_went = old.is_some() != new.is_some();
        match id.kind {
            Kind::Proxy => {
                if let (true, Some(Spec::Proxy(proxy))) =
                    (is_default_proxy(id), new.as_deref().map(|object| &object.spec))
                {
                    self.set_proxy(Proxy::clone(proxy), dirty);
                }
            }
            Kind::Cluster => self.set_cluster(id, old.as_deref(), new, dirty),
            Kind::HttpLoadBalancer => self.set_load_balancer(id, old, new, dirty),
            Kind::UpstreamPool => {
                if came_or_went {
                    dirty.verdicts.extend(self.users(id, Kind::HttpLoadBalancer));
                }
            }
            Kind::NodeSet => {
                let pools = self.store.of_kind(&id.namespace, Kind::UpstreamPool);
                let on_nodes = pools.filter(|pool| match &pool.spec {
                    Spec::UpstreamPool(pool) => matches!(pool.source, EndpointSource::NodePort { .. }),
                    _ => false,
                });
                dirty.objects.extend(on_nodes.map(|pool| pool.meta.id.clone()));
            }
            Kind::TrafficPolicy => {
                for target in [&old, &new].into_iter().flatten().flat_map(|object| targets(object)) {
                    dirty.objects.extend(self.users(&target, Kind::TrafficPolicy));
                    match target.kind {
                        Kind::Cluster => {
                            let governed = self.store.of_kind(&id.namespace, Kind::HttpLoadBalancer);
                            dirty.objects.extend(governed.map(|lb| lb.meta.id.clone()));
                        }
                        Kind::HttpLoadBalancer => {
                            dirty.objects.insert(target);
                        }
                        _ => {}
                    }
                }
            }
            Kind::EndpointSlice => {
                dirty.objects.extend([&old, &new].into_iter().flatten().flat_map(|object| targets(object)));
            }
            Kind::Secret | Kind::ConfigMap => self.touch_users(id, dirty),
        }
        if came_or_went {
            dirty.objects.extend(self.users(id, Kind::TrafficPolicy));
        }
    }

    pub(crate) fn users(&self, target: &ObjectRef, by: Kind) -> impl Iterator<Item = ObjectRef> {
        self.store.users(target, by).map(|object| object.meta.id.clone())
    }

    /// Marks all that uses a `Secret` or `ConfigMap`.
    fn touch_users(&self, id: &ObjectRef, dirty: &mut Dirty) {
        dirty.verdicts.extend(self.users(id, Kind::HttpLoadBalancer));
        for kind in [Kind::Cluster, Kind::Proxy, Kind::UpstreamPool] {
            dirty.objects.extend(self.users(id, kind));
        }
    }

    fn set_load_balancer(
        &mut self,
        id: &ObjectRef,
        old: Option<Arc<Object>>,
        new: Option<Arc<Object>>,
        dirty: &mut Dirty,
    ) {
        let of = |object: &Option<Arc<Object>>, which: fn(&HttpLoadBalancer) -> Vec<HostPattern>| {
            object.as_deref().and_then(load_balancer::spec).map(which).unwrap_or_default()
        };
        let (before, after) = (of(&old, concerning), of(&new, concerning));
        let same_claims = of(&old, claimed) == of(&new, claimed);
        let mut renamed = Renamed::default();
        if let Some(old) = &old {
            self.names.remove(old, &mut renamed);
            for host in &before {
                self.hosts.remove(host, old);
            }
        }
        if let Some(new) = &new {
            self.names.add(new, &mut renamed);
            for host in &after {
                self.hosts.add(host, new);
            }
        }
        dirty.renamed(renamed);
        if let Some(old) = &old {
            dirty.catch_all |= self.catch_all.remove(&Aged::new(Arc::clone(old)));
        }
        if let Some(new) = &new
            && self.catches_all(&id.namespace, new)
        {
            dirty.catch_all |= self.catch_all.insert(Aged::new(Arc::clone(new)));
        }
        let aged = |object: &Option<Arc<Object>>| object.clone().map(Aged::<Between>::new);
        let hosts =
            if aged(&old) == aged(&new) && same_claims { &mut dirty.hosts } else { &mut dirty.owners };
        hosts.extend(before);
        hosts.extend(after);
    }

    fn catches_all(&self, namespace: &str, object: &Object) -> bool {
        let chosen = self.plan.proxy.catch_all_cluster.as_ref();
        chosen.is_some_and(|cluster| *namespace == tenant_namespace(cluster))
            && load_balancer::spec(object).is_some_and(|lb| lb.rules.iter().any(|rule| rule.hosts.is_empty()))
    }

    fn set_cluster(
        &mut self,
        id: &ObjectRef,
        old: Option<&Object>,
        new: Option<Arc<Object>>,
        dirty: &mut Dirty,
    ) {
        let spec = |object: Option<&Object>| match object.map(|object| &object.spec) {
            Some(Spec::Cluster(cluster)) => Some(Cluster::clone(cluster)),
            _ => None,
        };
        let (before, after) = (spec(old), spec(new.as_deref()));
        let namespace: Arc<str> = tenant_namespace(&id.name).into();
        self.store.set_cluster(&namespace, new);
        let (was, is) = (before.as_ref(), after.as_ref());
        let other_domains = was.map(|it| &it.allowed_domains) != is.map(|it| &it.allowed_domains);
        let ranges = |it: &Cluster| (it.allowed_endpoints.clone(), it.integrated);
        let limits = |it: Option<&Cluster>| it.map(|it| it.limits).unwrap_or_default();
        let (before_limits, new_limits) = (limits(was), limits(is));
        let other_endpoints =
            was.map(ranges) != is.map(ranges) || before_limits.endpoints != new_limits.endpoints;
        if before_limits != new_limits {
            self.limits.set(&namespace, new_limits, self.store.in_namespace(&namespace));
            let load_balancers = self.store.of_kind(&namespace, Kind::HttpLoadBalancer);
            dirty.verdicts.extend(load_balancers.map(|object| object.meta.id.clone()));
        }
        if self.limits.has(&namespace) && (other_domains || before_limits != new_limits) {
            dirty.limits.insert(Arc::clone(&namespace));
        }
        if before.is_some() != after.is_some() {
            for object in self.store.in_namespace(&namespace) {
                dirty.objects.insert(object.meta.id.clone());
                if object.meta.id.kind == Kind::Secret {
                    self.touch_users(&object.meta.id, dirty);
                }
            }
            dirty.catch_all = true;
            dirty.objects.extend(self.store.all_of_kind(Kind::Proxy).map(|proxy| proxy.meta.id.clone()));
        }
        if other_domains {
            for object in self.store.of_kind(&namespace, Kind::HttpLoadBalancer) {
                dirty.verdicts.insert(object.meta.id.clone());
                for host in load_balancer::spec(object).map(concerning).unwrap_or_default() {
                    if host.is_wildcard() {
                        dirty.owners.extend(self.hosts.below(&host).cloned());
                    }
                    dirty.owners.insert(host);
                }
            }
        }
        if other_endpoints {
            for kind in [Kind::UpstreamPool, Kind::NodeSet] {
                let concerned = self.store.of_kind(&namespace, kind);
                dirty.objects.extend(concerned.map(|object| object.meta.id.clone()));
            }
        }
    }

    fn set_proxy(&mut self, new: Proxy, dirty: &mut Dirty) {
        if *self.plan.proxy == new {
            return;
        }
        let old = std::mem::replace(&mut self.plan.proxy, Arc::new(new));
        let new = Arc::clone(&self.plan.proxy);
        if old.lb_domain != new.lb_domain {
            self.rename_all(dirty);
            dirty.limits.extend(self.limits.namespaces().cloned());
        }
        if old.reserved != new.reserved {
            for kind in [Kind::UpstreamPool, Kind::NodeSet] {
                let concerned = self.store.all_of_kind(kind);
                dirty.objects.extend(concerned.map(|object| object.meta.id.clone()));
            }
        }
        if old.default_policy != new.default_policy {
            let all = self.store.all_of_kind(Kind::HttpLoadBalancer);
            dirty.objects.extend(all.map(|lb| lb.meta.id.clone()));
        }
        if old.catch_all_cluster != new.catch_all_cluster {
            let namespace = new.catch_all_cluster.as_ref().map(|cluster| tenant_namespace(cluster));
            let members = namespace.iter().flat_map(|it| self.store.of_kind(it, Kind::HttpLoadBalancer));
            let members = members.filter(|object| self.catches_all(&object.meta.id.namespace, object));
            self.catch_all = members.map(|object| Aged::new(Arc::clone(object))).collect();
            dirty.catch_all = true;
        }
    }

    /// Everything that lies under the old or the new lb domain changes.
    fn rename_all(&mut self, dirty: &mut Dirty) {
        dirty.hosts.extend(self.names.fences());
        let mut renamed = Renamed { names: self.names.all().cloned().collect(), ..Renamed::default() };
        self.names = Names::new(self.plan.proxy.lb_domain.clone());
        for object in self.store.all_of_kind(Kind::HttpLoadBalancer) {
            self.names.add(object, &mut renamed);
            dirty.verdicts.insert(object.meta.id.clone());
        }
        dirty.renamed(renamed);
        dirty.owners.extend(self.hosts.all().cloned());
        dirty.objects.extend(self.store.all_of_kind(Kind::Cluster).map(|cluster| cluster.meta.id.clone()));
    }
}

impl Dirty {
    fn renamed(&mut self, renamed: Renamed) {
        self.hosts.extend(renamed.names.into_iter().map(HostPattern::Exact));
        self.verdicts.extend(renamed.objects);
    }
}
