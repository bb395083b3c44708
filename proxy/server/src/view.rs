//! What others may see of the running data plane.

use std::net::SocketAddr;
use std::sync::Arc;

use portolan_balance::Fitness;
use portolan_certs::Listed;
use portolan_metrics::PoolEndpoints;
use portolan_model::id::PoolId;

use crate::shared::Shared;

/// See the module's documentation.
#[derive(Clone)]
pub struct View(Arc<Shared>);

impl View {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The revision that new requests see.
    pub fn revision(&self) -> u64 {
        self.0.snapshot.load().revision
    }

    /// Open connections of clients.
    pub fn connections(&self) -> u32 {
        self.0.open.count()
    }

    /// The certificates, those that expire first in front.
    pub fn certificates(&self) -> Vec<Listed> {
        self.0.snapshot.load().certificates.listing()
    }

    /// The endpoints of a pool as they are now, resolved names included, and how fit each is; `None` where there is no such pool.
    pub fn endpoints(&self, pool: &PoolId) -> Option<Vec<(SocketAddr, Fitness)>> {
        let snapshot = self.0.snapshot.load();
        let pool = snapshot.pools.get(pool)?;
        Some(pool.endpoints.iter().map(|endpoint| (endpoint.address, endpoint.state.fitness())).collect())
    }

    /// Brings the gauges up to date that are read from the snapshot, and gives all metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let snapshot = self.0.snapshot.load_full();
        self.0.metrics.set_earliest_expiry(snapshot.certificates.earliest_expiry());
        let mut pools: Vec<(String, PoolEndpoints)> = snapshot
            .pools
            .iter()
            .map(|(id, pool)| {
                let mut counts = PoolEndpoints::default();
                for endpoint in &pool.endpoints {
                    let count = match (pool.plan.health_check.is_some(), endpoint.state.fitness()) {
                        (false, _) => &mut counts.unknown,
                        (true, Fitness::Fit) => &mut counts.healthy,
                        (true, Fitness::Unsteady | Fitness::Unfit) => &mut counts.unhealthy,
                    };
                    *count += 1;
                }
                (id.to_string(), counts)
            })
            .collect();
        pools.sort_by(|a, b| a.0.cmp(&b.0));
        self.0.metrics.set_pools(pools.iter().map(|(id, counts)| (id.as_str(), *counts)));
        self.0.metrics.render()
    }

    /// Opens the access log's file again, as after it was rotated.
    pub fn reopen_logs(&self) {
        self.0.access.reopen();
    }
}
