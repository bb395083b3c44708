//! The plan compiled for the request path, and the builder that follows the plan's updates.
//!
//! A request takes the [`Snapshot`] once and sees one world to its end. What lives (health, requests under way) is not in it
//! but referenced from it. The cost of an update follows the update: maps share their shards with the snapshot before.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use portolan_certs::{CertStore, ContextError, ListenerContext, ServerTls};
use portolan_filter::CompiledFilter;
use portolan_metrics::{ClusterMetrics, Metrics};
use portolan_model::host::HostPattern;
use portolan_model::id::PoolId;
use portolan_model::plan::{Action, ClusterPlan, Endpoint, Update, VirtualHost};
use portolan_model::proxy::{ListenAddress, Listener, Proxy};
use portolan_model::shard::ShardedMap;
use portolan_route::Router;

use crate::pool::{Endpoints, PoolHandle};

/// See the module's documentation.
#[derive(Clone)]
pub(crate) struct Snapshot {
    /// The plan's revision.
    pub(crate) revision: u64,
    /// What every replica does alike.
    pub(crate) proxy: Arc<Proxy>,
    /// Routes.
    pub(crate) router: Router<HostHandle>,
    /// Member clusters.
    pub(crate) clusters: ShardedMap<Arc<str>, Arc<ClusterHandle>>,
    /// Pools.
    pub(crate) pools: ShardedMap<PoolId, Arc<PoolHandle>>,
    /// Certificates.
    pub(crate) certificates: Arc<CertStore>,
    /// TLS of the listeners that have it.
    tls: HashMap<Place, ListenerContext>,
    /// TLS of the places that had it until the last change: connections may yet come from their listeners' queues.
    last_tls: HashMap<Place, ListenerContext>,
}

/// Where a listener listens: what makes it the same one, whatever it is named.
pub(crate) type Place = (ListenAddress, NonZeroU16);

impl Snapshot {
    /// TLS of a listener that speaks it, removed only just perhaps; `None` where its settings make no TLS.
    pub(crate) fn listener_tls(&self, listener: &Listener) -> Option<ListenerContext> {
        let place = (listener.address, listener.port);
        self.tls.get(&place).or_else(|| self.last_tls.get(&place)).cloned()
    }
}

/// A member cluster, with what is counted of it.
pub(crate) struct ClusterHandle {
    /// What the plan says.
    pub(crate) plan: Arc<ClusterPlan>,
    /// What is counted.
    pub(crate) metrics: Arc<ClusterMetrics>,
}

/// An action's filters, in their order.
type Filters = Box<[CompiledFilter]>;

/// A host's routes with their filters compiled.
pub(crate) struct HostHandle {
    plan: Arc<VirtualHost>,
    /// By route and action; empty where there are none.
    filters: Box<[Box<[Filters]>]>,
}

impl Borrow<VirtualHost> for HostHandle {
    fn borrow(&self) -> &VirtualHost {
        &self.plan
    }
}

impl HostHandle {
    fn build(plan: &Arc<VirtualHost>) -> Arc<Self> {
        let filtered =
            plan.routes.iter().any(|route| route.actions.iter().any(|action| !action.filters.is_empty()));
        let filters = if filtered {
            plan.routes
                .iter()
                .map(|route| route.actions.iter().map(|action| compile(action)).collect())
                .collect()
        } else {
            Box::default()
        };
        Arc::new(Self { plan: Arc::clone(plan), filters })
    }

    /// Whether clusters share the host.
    pub(crate) fn is_shared(&self) -> bool {
        self.plan.shared
    }

    /// An action of one of the routes.
    pub(crate) fn action(&self, route: usize, action: usize) -> Option<&Arc<Action>> {
        self.plan.routes.get(route)?.actions.get(action)
    }

    /// The filters of an action.
    pub(crate) fn filters(&self, route: usize, action: usize) -> &[CompiledFilter] {
        self.filters
            .get(route)
            .and_then(|actions| actions.get(action))
            .map(|filters| &**filters)
            .unwrap_or_default()
    }
}

/// Compiles an action's filters. What the reader lets through compiles; what does not is left out and said.
fn compile(action: &Action) -> Filters {
    let build = |filter| {
        CompiledFilter::build(filter).inspect_err(|error| tracing::error!(object = %action.object, rule = action.rule, %error, "a filter is left out"))
    };
    action.filters.iter().filter_map(|filter| build(filter).ok()).collect()
}

/// Follows the plan and what names resolve to.
pub(crate) struct SnapshotBuilder {
    snapshot: Snapshot,
    resolved: HashMap<PoolId, Vec<Endpoint>>,
    tls: ServerTls,
    states: Arc<Endpoints>,
    metrics: Arc<Metrics>,
    seed: u64,
}

impl SnapshotBuilder {
    /// Of the empty plan. `seed` spreads where round robins of several replicas begin.
    pub(crate) fn new(
        states: Arc<Endpoints>,
        metrics: Arc<Metrics>,
        seed: u64,
    ) -> Result<Self, ContextError> {
        let snapshot = Snapshot {
            revision: 0,
            proxy: Arc::new(Proxy::fallback()),
            router: Router::default(),
            clusters: ShardedMap::default(),
            pools: ShardedMap::default(),
            certificates: Arc::default(),
            tls: HashMap::new(),
            last_tls: HashMap::new(),
        };
        Ok(Self { snapshot, resolved: HashMap::new(), tls: ServerTls::new()?, states, metrics, seed })
    }

    /// Follows an update of the plan. Listeners whose settings make no TLS are given back, where the update could change that;
    /// they keep what they had.
    pub(crate) fn apply(&mut self, update: &Update) -> Option<Vec<(Arc<str>, ContextError)>> {
        let snapshot = &mut self.snapshot;
        snapshot.revision = update.revision;
        if let Some(proxy) = &update.proxy {
            snapshot.proxy = Arc::clone(proxy);
        }
        for (name, cluster) in &update.clusters {
            let handle = cluster.as_ref().map(|plan| {
                Arc::new(ClusterHandle { plan: Arc::clone(plan), metrics: self.metrics.cluster(name) })
            });
            snapshot.clusters.set(Arc::clone(name), handle);
        }
        let hosts: Vec<(HostPattern, Option<Arc<HostHandle>>)> = update
            .hosts
            .iter()
            .map(|(pattern, host)| (pattern.clone(), host.as_ref().map(HostHandle::build)))
            .collect();
        snapshot.router.apply(&hosts);
        if let Some(catch_all) = &update.catch_all {
            snapshot.router.set_catch_all(catch_all.as_ref().map(HostHandle::build));
        }
        for (id, plan) in &update.pools {
            match plan {
                Some(plan) if !plan.names.is_empty() => {
                    // What the cluster may no longer have is not kept until its name resolves again.
                    if let Some(resolved) = self.resolved.get_mut(id) {
                        resolved.retain(|endpoint| plan.ranges.check(endpoint.address.ip()).is_ok());
                    }
                }
                _ => drop(self.resolved.remove(id)),
            }
            let resolved = self.resolved.get(id).map(Vec::as_slice).unwrap_or_default();
            let handle = plan.as_ref().map(|plan| {
                Arc::new(PoolHandle::build(id.clone(), Arc::clone(plan), resolved, &self.states, self.seed))
            });
            snapshot.pools.set(id.clone(), handle);
        }
        if update.proxy.is_none()
            && update.certificates.is_empty()
            && update.server_names.is_empty()
            && update.revision > 1
        {
            return None;
        }
        Arc::make_mut(&mut snapshot.certificates).apply(&update.certificates, &update.server_names);
        let own_name = format!("*.{}", snapshot.proxy.lb_domain);
        let mut errors = Vec::new();
        let mut contexts = HashMap::new();
        for listener in &snapshot.proxy.listeners {
            let Some(settings) = &listener.tls else { continue };
            let place = (listener.address, listener.port);
            let store = Arc::clone(&snapshot.certificates);
            match self.tls.listener(
                settings,
                listener.http2,
                &[snapshot.proxy.lb_domain.as_str(), &own_name, "localhost"],
                store,
            ) {
                Ok(context) => {
                    contexts.insert(place, context);
                }
                Err(error) => {
                    errors.push((Arc::clone(&listener.name), error));
                    if let Some(before) = snapshot.tls.remove(&place) {
                        contexts.insert(place, before);
                    }
                }
            }
        }
        snapshot.last_tls = std::mem::replace(&mut snapshot.tls, contexts);
        snapshot.last_tls.retain(|place, _| !snapshot.tls.contains_key(place));
        Some(errors)
    }

    /// Follows what a pool's names resolve to now.
    pub(crate) fn resolved(&mut self, id: &PoolId, endpoints: Vec<Endpoint>) {
        let Some(handle) = self.snapshot.pools.get(id) else { return };
        let rebuilt =
            PoolHandle::build(id.clone(), Arc::clone(&handle.plan), &endpoints, &self.states, self.seed);
        self.snapshot.pools.insert(id.clone(), Arc::new(rebuilt));
        self.resolved.insert(id.clone(), endpoints);
    }

    /// As things stand.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests;
