//! How much a tenant has, beside how much it may have, and what of it is beyond.
//!
//! The rule, for each tenant by itself, its objects taken oldest first (as within a tenant, see [`crate::age`]):
//!
//! - An `HTTPLoadBalancer` that would be one too many, or whose rules would be too many, is left out whole: some of its rules alone
//!   might send requests elsewhere than all of them. It uses nothing up, so younger ones may still fit. It keeps its generated name, and claims no host.
//! - Of those that are left, the hosts that they claim count in the order written, each once, and only those that lie under
//!   the cluster's domains, whoever owns them. A host too many is refused to all of the tenant's objects; they keep the rest.
//! - A pool with more endpoints than are left keeps the first, by address, those that take new requests before those that
//!   are going away, addresses before names. (A name counts once, whatever it resolves to.)
//!
//! So all this follows from the tenant's objects and its `Cluster`, from nothing that other tenants do.
//!
//! Cost: nothing for tenants without limits, O(change) for those within theirs; where more is wanted than a limit, a step with changes of the tenant
//! costs O(its objects).

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{HttpLoadBalancer, Limits, Object};
use portolan_model::plan::Pool;

use crate::age::Aged;
use crate::hosts::Rights;
use crate::load_balancer::spec;

type Map<K, V> = HashMap<K, V, RandomState>;
type Set<K> = HashSet<K, RandomState>;

/// The tenants that have limits.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Map<Arc<str>, Account>);

/// A tenant that has limits.
#[derive(Debug, Default)]
struct Account {
    limits: Limits,
    load_balancers: BTreeSet<Aged>,
    /// Rules of all of these.
    routes: u64,
    /// What their rules name, and in how many of them.
    hosts: Map<HostPattern, u32>,
    beyond: Beyond,
    /// With the number of their endpoints, whether they are kept or not.
    pools: BTreeMap<Aged, u32>,
    endpoints: u64,
    /// How many endpoints those pools keep that do not keep all.
    cut: Map<Arc<str>, u32>,
}

/// What is beyond a tenant's limits.
#[derive(Debug, Default)]
pub(crate) struct Beyond {
    /// `HTTPLoadBalancer`s that are left out, by name.
    objects: Map<Arc<str>, Excess>,
    /// Hosts that are refused.
    hosts: Set<HostPattern>,
}

/// How much of a cluster's is beyond its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// `HTTPLoadBalancer`s that are left out.
    pub load_balancers: usize,
    /// Hosts that are left out of those that are served.
    pub hosts: usize,
    /// Pools that do not keep all of their endpoints.
    pub pools: usize,
}

/// The limit that an `HTTPLoadBalancer` is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// That many of them.
    LoadBalancers(u32),
    /// That many rules.
    Routes(u32),
}

/// What is beyond a tenant's limits now and was not before, or the other way round.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// `HTTPLoadBalancer`s, by name.
    pub(crate) objects: Vec<Arc<str>>,
    /// Hosts.
    pub(crate) hosts: Vec<HostPattern>,
}

impl Ledger {
    /// Whether a tenant has limits.
    pub(crate) fn has(&self, namespace: &str) -> bool {
        self.0.contains_key(namespace)
    }

    /// The namespaces of all tenants that have limits.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.keys()
    }

    /// Sets the limits of the tenant whose objects are `objects`. Those without any are let go by [`Self::settle`].
    pub(crate) fn set<'a>(
        &mut self,
        namespace: &Arc<str>,
        limits: Limits,
        objects: impl Iterator<Item = &'a Arc<Object>>,
    ) {
        match self.0.entry(Arc::clone(namespace)) {
            Entry::Occupied(mut account) => account.get_mut().limits = limits,
            Entry::Vacant(place) if limits != Limits::default() => {
                let account = place.insert(Account { limits, ..Account::default() });
                objects.for_each(|object| account.add(object));
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Takes note of a changed object; says whether that may change what is beyond.
    pub(crate) fn replace(
        &mut self,
        id: &ObjectRef,
        old: Option<&Arc<Object>>,
        new: Option<&Arc<Object>>,
    ) -> bool {
        let Some(account) = self.0.get_mut(&id.namespace) else { return false };
        if let Some(old) = old {
            account.remove(old);
        }
        if let Some(new) = new {
            account.add(new);
        }
        id.kind == Kind::HttpLoadBalancer && !account.is_settled() && !weigh_the_same(old, new)
    }

    /// What of a tenant's `HTTPLoadBalancer`s and hosts is beyond its limits.
    pub(crate) fn beyond(&self, namespace: &str, rights: Rights<'_>) -> Beyond {
        self.0.get(namespace).map(|account| account.judge(namespace, rights)).unwrap_or_default()
    }

    /// Makes that what is beyond; says how it differs from before.
    pub(crate) fn settle(&mut self, namespace: &str, beyond: Beyond) -> Moved {
        let Some(account) = self.0.get_mut(namespace) else { return Moved::default() };
        let objects = moved(&account.beyond.objects, &beyond.objects).cloned().collect();
        let hosts = account.beyond.hosts.symmetric_difference(&beyond.hosts).cloned().collect();
        account.beyond = beyond;
        if account.limits == Limits::default() {
            self.0.remove(namespace);
        }
        Moved { objects, hosts }
    }

    /// The limit that an `HTTPLoadBalancer` is beyond.
    pub(crate) fn excess(&self, id: &ObjectRef) -> Option<Excess> {
        self.0.get(&id.namespace)?.beyond.objects.get(&id.name).copied()
    }

    /// How much of a tenant's is beyond its limits.
    pub(crate) fn left_out(&self, namespace: &str) -> LeftOut {
        self.0.get(namespace).map_or_else(LeftOut::default, |account| LeftOut {
            load_balancers: account.beyond.objects.len(),
            hosts: account.beyond.hosts.len(),
            pools: account.cut.len(),
        })
    }

    /// Whether a host is refused to a tenant for its limit.
    pub(crate) fn is_beyond(&self, namespace: &str, host: &HostPattern) -> bool {
        self.0.get(namespace).is_some_and(|account| account.beyond.hosts.contains(host))
    }

    /// Takes note of what endpoints a pool would have; says whether it has to wait for [`Self::share_out`].
    pub(crate) fn measure(&mut self, object: &Arc<Object>, pool: &Pool) -> bool {
        let Some(account) = self.0.get_mut(&object.meta.id.namespace) else { return false };
        if account.limits.endpoints.is_none() {
            return false;
        }
        let found = u32::try_from(pool.endpoints.len() + pool.names.len()).unwrap_or(u32::MAX);
        let before = account.pools.insert(Aged::new(Arc::clone(object)), found);
        account.endpoints = account.endpoints.saturating_sub(before.unwrap_or_default().into());
        account.endpoints += u64::from(found);
        true
    }

    /// Shares the endpoints that a tenant may have out among its pools; gives the names of those that get another number of
    /// them than before.
    pub(crate) fn share_out(&mut self, namespace: &str) -> Vec<Arc<str>> {
        let Some(account) = self.0.get_mut(namespace) else { return Vec::new() };
        let mut cut = Map::default();
        if let Some(mut left) = account.limits.endpoints
            && account.endpoints > left.into()
        {
            for (pool, found) in &account.pools {
                if *found > left {
                    cut.insert(Arc::clone(&pool.object().meta.id.name), left);
                }
                left = left.saturating_sub(*found);
            }
        }
        let moved = moved(&account.cut, &cut).cloned().collect();
        account.cut = cut;
        moved
    }

    /// Takes from a pool the endpoints that are beyond its tenant's limit, and says so.
    pub(crate) fn cut(&self, id: &ObjectRef, pool: &mut Pool) -> Option<Condition> {
        let account = self.0.get(&id.namespace)?;
        let (limit, kept) = (account.limits.endpoints?, *account.cut.get(&id.name)?);
        let found = pool.endpoints.len() + pool.names.len();
        let kept = kept as usize;
        if kept < pool.endpoints.len() {
            pool.endpoints.sort_by_key(|endpoint| (endpoint.terminating, endpoint.address));
            pool.endpoints.truncate(kept);
            pool.endpoints.sort_by_key(|endpoint| endpoint.address);
            pool.endpoints.shrink_to_fit();
        }
        pool.names.truncate(kept - pool.endpoints.len());
        pool.names.shrink_to_fit();
        let what = format!("keeps {kept} of its {found} endpoints");
        Some(reached("", message(id, &what, limit, "endpoints", "older pools' endpoints count first")))
    }

    /// Why a host is refused to a tenant.
    pub(crate) fn host_message(&self, id: &ObjectRef, host: &HostPattern) -> Option<String> {
        let account = self.0.get(&id.namespace)?;
        let limit = account.limits.hosts.filter(|_| account.beyond.hosts.contains(host))?;
        Some(message(id, &format!("{host} is left out"), limit, "hosts", "older claims count first"))
    }
}

impl Excess {
    /// Why the object `id` is left out.
    pub(crate) fn message(self, id: &ObjectRef, lb: &HttpLoadBalancer) -> String {
        match self {
            Self::LoadBalancers(limit) => {
                message(id, "left out", limit, "loadBalancers", "older ones count first")
            }
            Self::Routes(limit) => {
                let rules = lb.rules.len();
                let what = format!("left out with its {rules} rule{}", if rules == 1 { "" } else { "s" });
                message(id, &what, limit, "routes", "rules of older HTTPLoadBalancers count first")
            }
        }
    }
}

/// The condition of what is beyond a limit.
pub(crate) fn reached(field: impl Into<String>, message: String) -> Condition {
    Condition::new(ConditionType::Accepted, Reason::LimitReached, field, message)
}

fn message(id: &ObjectRef, what: &str, limit: u32, field: &str, first: &str) -> String {
    let cluster = id.cluster().unwrap_or_default();
    format!(
        "{what}: spec.limits.{field} of Cluster {cluster} is {limit}, and {first}; remove what is not needed, or have the limit raised"
    )
}

impl Account {
    fn add(&mut self, object: &Arc<Object>) {
        if let Some(lb) = spec(object) {
            self.load_balancers.insert(Aged::new(Arc::clone(object)));
            self.routes += lb.rules.len() as u64;
            for host in written(lb) {
                *self.hosts.entry(host.clone()).or_default() += 1;
            }
        } else if object.meta.id.kind == Kind::UpstreamPool {
            self.pools.insert(Aged::new(Arc::clone(object)), 0);
        }
    }

    fn remove(&mut self, object: &Arc<Object>) {
        if let Some(lb) = spec(object) {
            self.load_balancers.remove(&Aged::new(Arc::clone(object)));
            self.routes = self.routes.saturating_sub(lb.rules.len() as u64);
            for host in written(lb) {
                if let Some(count) = self.hosts.get_mut(host) {
                    *count = count.saturating_sub(1);
                    if *count == 0 {
                        self.hosts.remove(host);
                    }
                }
            }
        } else if let Some(found) = self.pools.remove(&Aged::new(Arc::clone(object))) {
            self.endpoints = self.endpoints.saturating_sub(found.into());
        }
    }

    /// Whether nothing of `HTTPLoadBalancer`s and hosts is beyond, nor was it before.
    fn is_settled(&self) -> bool {
        self.fits() && self.beyond.objects.is_empty() && self.beyond.hosts.is_empty()
    }

    fn fits(&self) -> bool {
        let within = |count: u64, limit: Option<u32>| limit.is_none_or(|most| count <= most.into());
        within(self.load_balancers.len() as u64, self.limits.load_balancers)
            && within(self.routes, self.limits.routes)
            && within(self.hosts.len() as u64, self.limits.hosts)
    }

    fn judge(&self, namespace: &str, rights: Rights<'_>) -> Beyond {
        let mut beyond = Beyond::default();
        if self.fits() {
            return beyond;
        }
        let (mut number, mut routes) = (0u64, 0u64);
        let mut kept: Set<&HostPattern> = Set::default();
        let full = |count: u64, limit: Option<u32>| limit.filter(|most| count > (*most).into());
        for object in self.load_balancers.iter().map(Aged::object) {
            let Some(lb) = spec(object) else { continue };
            let rules = lb.rules.len() as u64;
            let excess = full(number + 1, self.limits.load_balancers).map(Excess::LoadBalancers);
            let excess = excess.or_else(|| full(routes + rules, self.limits.routes).map(Excess::Routes));
            if let Some(excess) = excess {
                beyond.objects.insert(Arc::clone(&object.meta.id.name), excess);
                continue;
            }
            number += 1;
            routes += rules;
            let Some(most) = self.limits.hosts else { continue };
            for host in written(lb).filter(|host| rights.sharing(namespace, host).is_some()) {
                if kept.len() < most as usize {
                    kept.insert(host);
                } else if !kept.contains(host) {
                    beyond.hosts.insert(host.clone());
                }
            }
        }
        beyond
    }
}

/// The hosts that an object's rules name, in the order written.
fn written(lb: &HttpLoadBalancer) -> impl Iterator<Item = &HostPattern> {
    lb.rules.iter().flat_map(|rule| rule.hosts.iter())
}

/// Whether two versions of an `HTTPLoadBalancer` count the same, and in the same order.
fn weigh_the_same(old: Option<&Arc<Object>>, new: Option<&Arc<Object>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return false };
    let (Some(before), Some(after)) = (spec(old), spec(new)) else { return false };
    Aged::<crate::age::Within>::new(Arc::clone(old)) == Aged::new(Arc::clone(new))
        && before.rules.len() == after.rules.len()
        && written(before).eq(written(after))
}

/// The keys whose value is another, or there no more.
fn moved<'a, K: Eq + Hash, V: PartialEq>(
    before: &'a Map<K, V>,
    after: &'a Map<K, V>,
) -> impl Iterator<Item = &'a K> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    gone.chain(after.iter().filter(|(key, value)| before.get(*key) != Some(value)).map(|(key, _)| key))
}
