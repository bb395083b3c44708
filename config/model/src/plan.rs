//! What intent and inventory come to: plain, comparable, printable data in which every node says where it came from.
//!
//! A [`Plan`] is a value: cloning it copies pointers. An [`Update`] is the difference between two of them, as a consumer
//! applies it to whatever it builds of the Plan.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::Serialize;

use crate::condition::Condition;
use crate::host::{HostName, HostPattern};
use crate::id::{ObjectRef, PoolId};
use crate::intent::{CaBundle, TlsSecret};
use crate::locality::Locality;
use crate::policy::SharedPolicy;
use crate::pool::{Balancing, EndpointRanges, HealthCheck, UpstreamProtocol};
use crate::proxy::Proxy;
use crate::route::{Backend, Filter, RouteMatch, RuleTimeouts};
use crate::shard::ShardedMap;

/// Everything that is in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Grows by one with each change.
    pub revision: u64,
    /// What every replica does alike.
    pub proxy: Arc<Proxy>,
    /// The member clusters.
    pub clusters: ShardedMap<Arc<str>, Arc<ClusterPlan>>,
    /// Routes by host.
    pub hosts: ShardedMap<HostPattern, Arc<VirtualHost>>,
    /// What rules without a host serve for hosts that nobody else does.
    pub catch_all: Option<Arc<VirtualHost>>,
    /// Pools.
    pub pools: ShardedMap<PoolId, Arc<Pool>>,
    /// Certificates in use, by their `Secret`.
    pub certificates: ShardedMap<ObjectRef, Arc<TlsSecret>>,
    /// Which certificates serve which server names, best first.
    pub server_names: ShardedMap<HostPattern, Arc<[ObjectRef]>>,
    /// What is wrong, by object; objects without an entry are fine.
    pub conditions: ShardedMap<ObjectRef, Arc<[Condition]>>,
}

impl Plan {
    /// The plan of no objects at all.
    pub fn empty() -> Self {
        Self {
            revision: 0,
            proxy: Arc::new(Proxy::fallback()),
            clusters: ShardedMap::default(),
            hosts: ShardedMap::default(),
            catch_all: None,
            pools: ShardedMap::default(),
            certificates: ShardedMap::default(),
            server_names: ShardedMap::default(),
            conditions: ShardedMap::default(),
        }
    }

    /// Makes this plan the one that `update` leads to.
    pub fn apply(&mut self, update: &Update) {
        self.revision = update.revision;
        if let Some(proxy) = &update.proxy {
            self.proxy = Arc::clone(proxy);
        }
        if let Some(catch_all) = &update.catch_all {
            self.catch_all.clone_from(catch_all);
        }
        fn lay<K: Eq + std::hash::Hash + Clone, V: Clone>(
            map: &mut ShardedMap<K, V>,
            changes: &[(K, Option<V>)],
        ) {
            for (key, value) in changes {
                map.set(key.clone(), value.clone());
            }
        }
        lay(&mut self.clusters, &update.clusters);
        lay(&mut self.hosts, &update.hosts);
        lay(&mut self.pools, &update.pools);
        lay(&mut self.certificates, &update.certificates);
        lay(&mut self.server_names, &update.server_names);
        lay(&mut self.conditions, &update.conditions);
    }
}

/// New values by key; `None` where the key is gone.
pub type Changes<K, V> = Vec<(K, Option<V>)>;

/// What changed from one [`Plan`] to the next. Each key stands at most once in its list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The revision it leads to.
    pub revision: u64,
    /// See [`Plan::proxy`].
    pub proxy: Option<Arc<Proxy>>,
    /// See [`Plan::clusters`].
    pub clusters: Changes<Arc<str>, Arc<ClusterPlan>>,
    /// See [`Plan::hosts`].
    pub hosts: Changes<HostPattern, Arc<VirtualHost>>,
    /// See [`Plan::catch_all`]; the outer `None` where it did not change.
    pub catch_all: Option<Option<Arc<VirtualHost>>>,
    /// See [`Plan::pools`].
    pub pools: Changes<PoolId, Arc<Pool>>,
    /// See [`Plan::certificates`].
    pub certificates: Changes<ObjectRef, Arc<TlsSecret>>,
    /// See [`Plan::server_names`].
    pub server_names: Changes<HostPattern, Arc<[ObjectRef]>>,
    /// See [`Plan::conditions`].
    pub conditions: Changes<ObjectRef, Arc<[Condition]>>,
}

impl Update {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.proxy.is_none()
            && self.catch_all.is_none()
            && self.clusters.is_empty()
            && self.hosts.is_empty()
            && self.pools.is_empty()
            && self.certificates.is_empty()
            && self.server_names.is_empty()
            && self.conditions.is_empty()
    }
}

/// A member cluster, for those who choose between clusters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterPlan {
    /// Its share.
    pub weight: u32,
    /// Whether it gets nothing new of what others serve too.
    pub drain: bool,
    /// Where it is.
    pub locality: Locality,
}

/// What a member cluster has in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Nodes that take traffic.
    pub nodes: u32,
    /// `HTTPLoadBalancer`s.
    pub load_balancers: u32,
    /// Rules of all of them.
    pub routes: u32,
    /// Hosts that it serves, beside the generated ones.
    pub hosts: u32,
    /// Endpoints of all its pools; one that is given by a DNS name counts once.
    pub endpoints: u32,
    /// Objects that something is wrong with: their conditions say what.
    pub faults: u32,
}

/// The routes of one host pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualHost {
    /// Older objects first, rules as written within them: the order that decides between equal matches.
    pub routes: Box<[Route]>,
    /// Whether it belongs to clusters together: one that is drained gets nothing of it.
    pub shared: bool,
}

/// What is done with requests that match. Several clusters that share a host and say the same match have one route for it with
/// an action each; so a rule may come to several routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Any of these; empty means everything.
    pub matches: Arc<[RouteMatch]>,
    /// One for each cluster that serves it, never empty, by cluster name.
    pub actions: Box<[Arc<Action>]>,
}

/// What one rule does, with where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// The `HTTPLoadBalancer`.
    pub object: ObjectRef,
    /// Which of its rules, from 0.
    pub rule: u32,
    /// Applied in their order.
    pub filters: Arc<[Filter]>,
    /// By weight; a pool may be missing from the plan.
    pub backends: Arc<[Backend]>,
    /// What overrides the policy's timeouts, where anything does.
    pub timeouts: Option<Box<RuleTimeouts>>,
    /// What is in force for it.
    pub policy: SharedPolicy,
}

impl Action {
    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &str {
        self.object.cluster().unwrap_or_default()
    }
}

/// A pool with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Sorted by address, without repetition.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints still to be resolved.
    pub names: Vec<NamedEndpoint>,
    /// Where these may lie; `endpoints` do already.
    pub ranges: EndpointRanges,
    /// How one is chosen.
    pub balancing: Balancing,
    /// What is spoken to them.
    pub protocol: UpstreamProtocol,
    /// TLS towards them.
    pub tls: Option<PoolTls>,
    /// How they are probed.
    pub health_check: Option<HealthCheck>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// Its share, above 0.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Whether it is taken only where nothing better is left: it still serves, but is going away.
    pub terminating: bool,
}

/// An endpoint given by a DNS name: every address of the name is an endpoint of that weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NamedEndpoint {
    /// To be resolved.
    pub name: HostName,
    /// The port.
    pub port: NonZeroU16,
    /// Its share.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// TLS towards a pool's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct PoolTls {
    /// Sent and verified.
    pub server_name: HostName,
    /// Who vouches.
    pub trust: Trust,
}

/// Who vouches for an endpoint's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Trust {
    /// The machine's own trust store.
    System,
    /// These certificates.
    Bundle(CaBundle),
    /// Nobody, as the pool says in so many words.
    Insecure,
    /// Somebody who is missing: no connection may be made.
    Missing(ObjectRef),
}
