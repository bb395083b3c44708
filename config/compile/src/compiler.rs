//! The compiler: takes deltas in, notes what they may reach, and works that out anew.
//!
//! Each entry of the plan is worked out at most once a step, from the objects as they stand after all of the step's
//! deltas, and goes into the update only if it is another than before.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::Arc;

use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::{HostName, HostPattern};
use portolan_model::id::{DEFAULT_PROXY, Kind, ObjectRef, PoolId, SYSTEM_NAMESPACE, tenant_namespace};
use portolan_model::intent::{Cluster, Delta, Object, Spec};
use portolan_model::plan::{Changes, ClusterPlan, Plan, Update, VirtualHost};
use portolan_model::proxy::Proxy;
use portolan_model::shard::ShardedMap;

use crate::age::Aged;
use crate::certificates::{Certificates, Rebound, Use, certificate, covered, no_certificate, release};
use crate::dirty::Dirty;
use crate::hosts::{Hosts, Rights, Verdict, concerning, wider};
use crate::limits::{Ledger, Moved};
use crate::load_balancer::{self, Court};
use crate::names::{Names, reason};
use crate::policies::{self, Policies};
use crate::pools::{self, Resolved};
use crate::shadows::Shadows;
use crate::store::Store;

/// Holds all objects, and the plan that they come to.
#[derive(Debug)]
pub struct Compiler {
    pub(crate) store: Store,
    pub(crate) names: Names,
    pub(crate) hosts: Hosts,
    pub(crate) limits: Ledger,
    /// The load balancers of the catch-all cluster that have a rule without a host.
    pub(crate) catch_all: BTreeSet<Aged>,
    pub(crate) invalid: BTreeMap<ObjectRef, Vec<Condition>>,
    pub(crate) plan: Plan,
    /// Pools that have lost all of their endpoints.
    bereft: BTreeSet<ObjectRef>,
    /// How many objects of a namespace have conditions.
    pub(crate) faults: BTreeMap<Arc<str>, u32>,
    policies: Policies,
    certificates: Certificates,
    shadows: Shadows,
}

/// A claim to a host that does not stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose it is.
    pub object: ObjectRef,
    /// What it claims: the host, or a wildcard that matches it.
    pub pattern: HostPattern,
    /// Why it does not stand.
    pub reason: Reason,
    /// The same for a person.
    pub message: String,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiler {
    /// Without any objects.
    pub fn new() -> Self {
        let plan = Plan::empty();
        Self {
            store: Store::default(),
            names: Names::new(plan.proxy.lb_domain.clone()),
            hosts: Hosts::default(),
            limits: Ledger::default(),
            catch_all: BTreeSet::new(),
            invalid: BTreeMap::new(),
            plan,
            bereft: BTreeSet::new(),
            faults: BTreeMap::new(),
            policies: Policies::default(),
            certificates: Certificates::default(),
            shadows: Shadows::default(),
        }
    }

    /// Takes the deltas in, one after the other, as one step of the plan. The update says how the plan differs from the one
    /// before; where it does not, the update is empty and the revision stays.
    pub fn apply(&mut self, deltas: impl IntoIterator<Item = Delta>) -> Update {
        let proxy = Arc::clone(&self.plan.proxy);
        let mut dirty = Dirty::default();
        for delta in deltas {
            self.take_in(delta, &mut dirty);
        }
        let mut update = Update::default();
        if self.plan.proxy != proxy {
            update.proxy = Some(Arc::clone(&self.plan.proxy));
        }
        self.keep_limits(&mut dirty);
        self.serve(&mut dirty);
        self.follow_owners(&mut dirty);
        let mut rebound = Rebound::default();
        self.resolve_pools(&mut dirty, &mut update);
        let fences = self.names.fences();
        for pattern in
            std::mem::take(&mut dirty.hosts).into_iter().filter(|pattern| !fences.contains(pattern))
        {
            let host = self.virtual_host(&pattern);
            dirty.verdicts.extend(self.shadows.set(&pattern, host.as_deref()));
            put(&mut self.plan.hosts, &mut update.hosts, pattern, host);
        }
        self.judge_load_balancers(&mut dirty, &mut rebound, &mut update);
        for id in &dirty.objects {
            self.work_out(id, &mut rebound, &mut update);
        }
        rebound.secrets.extend(dirty.objects.into_iter().filter(|id| id.kind == Kind::Secret));
        if dirty.catch_all {
            let members = self.catch_all.iter().map(Aged::object);
            let catch_all = load_balancer::merge(&self.store, members, |rule| rule.hosts.is_empty(), false);
            if self.plan.catch_all != catch_all {
                self.plan.catch_all.clone_from(&catch_all);
                update.catch_all = Some(catch_all);
            }
        }
        for fence in fences {
            let host = self.fenced(&fence);
            put(&mut self.plan.hosts, &mut update.hosts, fence, host);
        }
        for name in rebound.names {
            let secrets = self.certificates.serving(&self.store, &name);
            put(&mut self.plan.server_names, &mut update.server_names, name, secrets);
        }
        for secret in rebound.secrets {
            let used = self.certificates.used(&self.store, &secret).cloned().map(Arc::new);
            put(&mut self.plan.certificates, &mut update.certificates, secret, used);
        }
        if !update.is_empty() {
            self.plan.revision += 1;
        }
        update.revision = self.plan.revision;
        update
    }

    /// The plan that all deltas so far come to. Its clone is cheap.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether an object, as it is now, cannot be read.
    pub fn is_invalid(&self, id: &ObjectRef) -> bool {
        self.invalid.contains_key(id)
    }

    /// An object as it was last read without error.
    pub fn object(&self, id: &ObjectRef) -> Option<&Arc<Object>> {
        self.store.get(id)
    }

    /// How many objects of a kind there are.
    pub fn number(&self, kind: Kind) -> usize {
        self.store.number(kind)
    }

    /// All objects of a kind, in no order.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.store.all_of_kind(kind)
    }

    /// The generated host name of an `HTTPLoadBalancer` that counts. One that a limit leaves out keeps its name, though nothing is
    /// served there.
    pub fn generated_host(&self, id: &ObjectRef) -> Option<HostName> {
        let object = self.store.live(id)?;
        load_balancer::spec(object)?;
        self.names.of(object).ok()
    }

    /// The claims to a host that do not stand, its own name's before those of wildcards.
    pub fn refused(&self, host: &str) -> Vec<Refused> {
        let Ok(name) = HostName::parse(host) else { return Vec::new() };
        let host = HostPattern::Exact(name);
        let above = wider(&host);
        let holder = self.names.holder(host.name().as_str());
        let mut refused = Vec::new();
        if let Some(left_out) = holder.filter(|holder| self.limits.excess(&holder.meta.id).is_some())
            && let Some((reason, message)) = self.court().refusal(left_out, &host)
        {
            let object = left_out.meta.id.clone();
            refused.push(Refused { object, pattern: host.clone(), reason, message });
        }
        for pattern in std::iter::once(&host).chain(&above) {
            for object in self.hosts.claimants(pattern, |_| true) {
                let id = &object.meta.id;
                let why = if *pattern == host && holder.is_some_and(|holder| holder.meta.id == *id) {
                    // It is its own, and nobody's to allow.
                    None
                } else if self.store.counts(id) {
                    self.court().refusal(object, pattern)
                } else {
                    let Condition { reason, message, .. } = misplaced(id);
                    Some((reason, message))
                };
                refused.extend(why.map(|(reason, message)| Refused {
                    object: id.clone(),
                    pattern: pattern.clone(),
                    reason,
                    message,
                }));
            }
        }
        refused
    }

    fn court(&self) -> Court<'_> {
        Court {
            store: &self.store,
            names: &self.names,
            hosts: &self.hosts,
            limits: &self.limits,
            bereft: &self.bereft,
            invalid: &self.invalid,
            shadows: &self.shadows,
        }
    }

    pub(crate) fn rights(&self) -> Rights<'_> {
        Rights { store: &self.store, lb_domain: self.names.domain(), limits: &self.limits }
    }

    /// Settles what is beyond the limits of the tenants where that may have changed.
    fn keep_limits(&mut self, dirty: &mut Dirty) {
        for namespace in std::mem::take(&mut dirty.limits) {
            let beyond = self.limits.beyond(&namespace, self.rights());
            let Moved { objects, hosts } = self.limits.settle(&namespace, beyond);
            for name in objects {
                let id = ObjectRef::new(Kind::HttpLoadBalancer, Arc::clone(&namespace), name);
                let lb = self.store.get(&id).and_then(|object| load_balancer::spec(object));
                dirty.owners.extend(lb.map(concerning).unwrap_or_default());
                dirty.objects.insert(id);
            }
            dirty.owners.extend(hosts);
        }
    }

    /// Compiles the rules of the load balancers that may have changed.
    fn serve(&mut self, dirty: &mut Dirty) {
        let load_balancers: BTreeSet<_> =
            dirty.objects.extract_if(.., |id| id.kind == Kind::HttpLoadBalancer).collect();
        for id in &load_balancers {
            let Some(object) = self.store.get(id).cloned() else { continue };
            let Some(lb) = load_balancer::spec(&object) else { continue };
            let counts = self.store.counts(id) && self.limits.excess(id).is_none();
            let served = counts.then(|| {
                let policy = self.policies.effective(&self.store, &self.plan.proxy.default_policy, &object);
                load_balancer::serve(id, lb, &policy)
            });
            if self.store.served(id).map(|served| &**served) == served.as_ref() {
                continue;
            }
            self.store.set_served(id, served.map(Arc::new));
            dirty.hosts.extend(self.names.of(&object).ok().map(HostPattern::Exact));
            dirty.hosts.extend(concerning(lb));
            dirty.catch_all |= self.catch_all.contains(&Aged::new(object));
        }
        dirty.verdicts.extend(load_balancers);
    }

    /// Finds the hosts below wildcards whose owner changed, and the load balancers that all this concerns.
    fn follow_owners(&mut self, dirty: &mut Dirty) {
        let wildcards: Vec<_> = dirty.owners.iter().filter(|host| host.is_wildcard()).cloned().collect();
        for wildcard in wildcards {
            let rights = Rights { store: &self.store, lb_domain: self.names.domain(), limits: &self.limits };
            if self.hosts.head_changed(&wildcard, rights) {
                dirty.owners.extend(self.hosts.below(&wildcard).cloned());
            }
        }
        for host in &dirty.owners {
            dirty.verdicts.extend(self.hosts.concerned(host).map(|object| object.meta.id.clone()));
        }
        dirty.hosts.append(&mut dirty.owners);
    }

    fn judge_load_balancers(&mut self, dirty: &mut Dirty, rebound: &mut Rebound, update: &mut Update) {
        for id in std::mem::take(&mut dirty.verdicts) {
            let court = self.court();
            let (conditions, uses) = match self.store.get(&id) {
                Some(object) if self.store.counts(&id) => match load_balancer::spec(object) {
                    Some(lb) => court.judge(object, lb),
                    None => Default::default(),
                },
                Some(_) => (vec![misplaced(&id)], Vec::new()),
                None => Default::default(),
            };
            self.certificates.set(&id, uses, rebound);
            self.set_conditions(id, conditions, update);
        }
    }

    /// Works out one object of any other kind.
    fn work_out(&mut self, id: &ObjectRef, rebound: &mut Rebound, update: &mut Update) {
        let object = self.store.get(id).cloned();
        let spec = object.as_ref().filter(|_| self.store.counts(id)).map(|object| &object.spec);
        let mut conditions = Vec::new();
        let mut uses = Vec::new();
        match spec {
            None if object.is_some() => conditions.push(misplaced(id)),
            Some(Spec::Proxy(proxy)) => (conditions, uses) = self.judge_proxy(id, proxy),
            Some(Spec::Cluster(cluster)) => (conditions, uses) = self.judge_cluster(id, cluster),
            Some(Spec::NodeSet(set)) => {
                conditions = pools::judge_nodes(&self.store, &self.plan.proxy, id, set);
            }
            Some(Spec::TrafficPolicy(policy)) => {
                conditions = object
                    .as_ref()
                    .map(|object| policies::judge(&self.store, object, policy))
                    .unwrap_or_default();
            }
            _ => {}
        }
        match id.kind {
            Kind::Proxy | Kind::Cluster => self.certificates.set(id, uses, rebound),
            _ => {}
        }
        if id.kind == Kind::Cluster {
            let plan = match spec {
                Some(Spec::Cluster(cluster)) => Some(Arc::new(cluster_plan(cluster))),
                _ => None,
            };
            put(&mut self.plan.clusters, &mut update.clusters, Arc::clone(&id.name), plan);
        }
        self.set_conditions(id.clone(), conditions, update);
    }

    /// Works out the pools that may have changed. Those of tenants whose endpoints are limited wait until all these are counted.
    fn resolve_pools(&mut self, dirty: &mut Dirty, update: &mut Update) {
        let pools = dirty.objects.extract_if(.., |id| id.kind == Kind::UpstreamPool).collect::<Vec<_>>();
        let mut limited: BTreeMap<ObjectRef, Resolved> = BTreeMap::new();
        let mut tenants: BTreeSet<Arc<str>> = BTreeSet::new();
        for id in pools {
            let resolved = self.resolve(&id);
            if !self.limits.has(&id.namespace) {
                self.put_pool(id, resolved, dirty, update);
                continue;
            }
            tenants.insert(Arc::clone(&id.namespace));
            match (self.store.get(&id), &resolved.pool) {
                (Some(object), Some(pool)) if self.limits.measure(object, pool) => {
                    limited.insert(id, resolved);
                }
                _ => self.put_pool(id, resolved, dirty, update),
            }
        }
        for namespace in tenants {
            for name in self.limits.share_out(&namespace) {
                let id = ObjectRef::new(Kind::UpstreamPool, Arc::clone(&namespace), name);
                if let Entry::Vacant(place) = limited.entry(id) {
                    let resolved = self.resolve(place.key());
                    place.insert(resolved);
                }
            }
        }
        for (id, mut resolved) in limited {
            let Resolved { pool, conditions, bereft } = &mut resolved;
            if let Some(pool) = pool
                && let Some(cut) = self.limits.cut(&id, pool)
            {
                conditions.push(cut);
                *bereft |= pool.endpoints.is_empty() && pool.names.is_empty();
            }
            self.put_pool(id, resolved, dirty, update);
        }
    }

    /// A pool with all endpoints that it may have, and what is wrong with it.
    fn resolve(&self, id: &ObjectRef) -> Resolved {
        match self.store.get(id) {
            None => Resolved::default(),
            Some(_) if !self.store.counts(id) => {
                Resolved { conditions: vec![misplaced(id)], ..Resolved::default() }
            }
            Some(object) => match &object.spec {
                Spec::UpstreamPool(spec) => pools::resolve(&self.store, &self.plan.proxy, id, spec),
                _ => Resolved::default(),
            },
        }
    }

    fn put_pool(&mut self, id: ObjectRef, resolved: Resolved, dirty: &mut Dirty, update: &mut Update) {
        let Resolved { pool, conditions, bereft } = resolved;
        let key = PoolId::new(Arc::clone(&id.namespace), Arc::clone(&id.name));
        put(&mut self.plan.pools, &mut update.pools, key, pool.map(Arc::new));
        let changed = if bereft { self.bereft.insert(id.clone()) } else { self.bereft.remove(&id) };
        if changed {
            dirty.verdicts.extend(self.users(&id, Kind::HttpLoadBalancer));
        }
        self.set_conditions(id, conditions, update);
    }

    fn judge_proxy(&self, id: &ObjectRef, proxy: &Proxy) -> (Vec<Condition>, Vec<Use>) {
        let mut conditions = Vec::new();
        let mut uses = Vec::new();
        if !is_default_proxy(id) {
            let message = format!("only the Proxy named {DEFAULT_PROXY} counts");
            return (
                vec![Condition::new(ConditionType::Accepted, Reason::NotDefault, "metadata.name", message)],
                uses,
            );
        }
        for (at, listener) in proxy.listeners.iter().enumerate() {
            let tls = listener.tls.as_ref();
            if let Some(secret) = tls.and_then(|tls| tls.default_certificate.as_ref()) {
                match certificate(&self.store, secret) {
                    Some(_) => uses.push((None, secret.clone())),
                    None => {
                        let field = format!("spec.listeners[{at}].tls.defaultCertificateRef");
                        conditions.push(no_certificate(field, secret, self.wrong(secret)));
                    }
                }
            }
        }
        if let Some(cluster) = &proxy.catch_all_cluster
            && self.store.cluster(&tenant_namespace(cluster)).is_none()
        {
            conditions.push(Condition::new(
                ConditionType::ResolvedRefs,
                Reason::ClusterNotFound,
                "spec.catchAllCluster",
                format!("Cluster {cluster} does not exist"),
            ));
        }
        (conditions, uses)
    }

    fn judge_cluster(&self, id: &ObjectRef, cluster: &Cluster) -> (Vec<Condition>, Vec<Use>) {
        let mut conditions = Vec::new();
        let mut uses = Vec::new();
        let Some(secret) = &cluster.certificate else { return (conditions, uses) };
        let field = "spec.certificateRef";
        match (certificate(&self.store, secret), self.names.cluster_wildcard(&id.name)) {
            (None, _) => conditions.push(no_certificate(field.to_owned(), secret, self.wrong(secret))),
            (Some(found), Ok(wildcard)) => match covered(&found.facts, &wildcard) {
                Some(name) => uses.push((Some(name), secret.clone())),
                None => conditions.push(Condition::new(
                    ConditionType::ResolvedRefs,
                    Reason::CertificateMismatch,
                    field,
                    format!("the certificate in {secret} does not cover {wildcard}"),
                )),
            },
            (Some(_), Err(error)) => conditions.push(Condition::new(
                ConditionType::Accepted,
                reason(&error),
                "metadata.name",
                format!("no host names can be generated: {error}"),
            )),
        }
        (conditions, uses)
    }

    /// What is wrong with an object that cannot be read.
    fn wrong(&self, id: &ObjectRef) -> Option<&[Condition]> {
        self.invalid.get(id).map(Vec::as_slice)
    }

    fn virtual_host(&self, pattern: &HostPattern) -> Option<Arc<VirtualHost>> {
        if let HostPattern::Exact(name) = pattern
            && name.is_under(self.names.domain())
        {
            return self.store.served(&self.names.holder(name.as_str())?.meta.id).cloned();
        }
        let rights = self.rights();
        let shared = self.hosts.is_shared(pattern, rights);
        let mut verdicts: BTreeMap<&str, bool> = BTreeMap::new();
        let claimants = self.hosts.claimants(pattern, |object| rights.is_within(object, pattern));
        let claimants = claimants.into_iter().filter(|object| {
            let namespace = &*object.meta.id.namespace;
            *verdicts
                .entry(namespace)
                .or_insert_with(|| matches!(self.hosts.verdict(namespace, pattern, rights), Verdict::Serves))
        });
        load_balancer::merge(&self.store, claimants, |rule| rule.hosts.contains(pattern), shared)
    }

    /// Keeps off the names under the lb domain that are nobody's what would take them: a customer's wildcard above, or the catch-all. The
    /// fence, being more specific, decides in its place, and has no routes.
    fn fenced(&self, fence: &HostPattern) -> Option<Arc<VirtualHost>> {
        let met = self.plan.catch_all.is_some()
            || wider(fence).iter().any(|wildcard| self.plan.hosts.get(wildcard).is_some());
        met.then(|| Arc::new(VirtualHost { routes: Box::new([]), shared: false }))
    }

    fn set_conditions(&mut self, id: ObjectRef, found: Vec<Condition>, update: &mut Update) {
        let mut conditions = self.invalid.get(&id).cloned().unwrap_or_default();
        conditions.extend(found);
        let conditions: Option<Arc<[Condition]>> = (!conditions.is_empty()).then(|| conditions.into());
        match (self.plan.conditions.get(&id).is_some(), conditions.is_some()) {
            (false, true) => *self.faults.entry(Arc::clone(&id.namespace)).or_default() += 1,
            (true, false) => release(&mut self.faults, &id.namespace),
            (true, true) | (false, false) => {}
        }
        put(&mut self.plan.conditions, &mut update.conditions, id, conditions);
    }
}

pub(crate) fn is_default_proxy(id: &ObjectRef) -> bool {
    id.kind == Kind::Proxy && &*id.name == DEFAULT_PROXY && id.namespace.is_empty()
}

fn cluster_plan(cluster: &Cluster) -> ClusterPlan {
    ClusterPlan { weight: cluster.weight, drain: cluster.drain, locality: cluster.locality.clone() }
}

fn misplaced(id: &ObjectRef) -> Condition {
    let message = match id.cluster() {
        Some(cluster) => {
            format!("namespace {} belongs to Cluster {cluster}, which does not exist", id.namespace)
        }
        None if matches!(id.kind, Kind::Secret | Kind::ConfigMap) => {
            format!(
                "namespace {:?} is neither a cluster's (tenant-<name>) nor {SYSTEM_NAMESPACE}",
                id.namespace
            )
        }
        None => format!("namespace {:?} belongs to no cluster; expected tenant-<name>", id.namespace),
    };
    Condition::new(ConditionType::Accepted, Reason::ClusterNotFound, "metadata.namespace", message)
}

/// Sets an entry of the plan and notes it, if it is another than before.
fn put<K: Eq + Hash + Clone, V: PartialEq + Clone>(
    map: &mut ShardedMap<K, V>,
    changes: &mut Changes<K, V>,
    key: K,
    value: Option<V>,
) {
    if map.get(&key) != value.as_ref() {
        map.set(key.clone(), value.clone());
        changes.push((key, value));
    }
}
