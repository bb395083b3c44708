//! How much of what a cluster brings is in force.
//!
//! Cost: a look at all objects of that cluster, and for each of its hosts at the wildcards above it.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, PoolId, tenant_namespace};
use portolan_model::plan::Counts;

use crate::compiler::Compiler;
use crate::hosts::Verdict;
use crate::limits::LeftOut;
use crate::{load_balancer, pools};

impl Compiler {
    /// What a member cluster has in force; nothing where there is no such `Cluster`.
    pub fn counts(&self, cluster: &str) -> Counts {
        let namespace = tenant_namespace(cluster);
        if self.store.cluster(&namespace).is_none() {
            return Counts::default();
        }
        let mut counts = Counts {
            nodes: u32::try_from(pools::ready_nodes(&self.store, &namespace)).unwrap_or(u32::MAX),
            ..Counts::default()
        };
        let mut hosts: BTreeSet<&HostPattern> = BTreeSet::new();
        for object in self.store.of_kind(&namespace, Kind::HttpLoadBalancer) {
            if let Some(lb) = load_balancer::spec(object)
                && self.store.served(&object.meta.id).is_some()
            {
                counts.load_balancers = counts.load_balancers.saturating_add(1);
                counts.routes = counts.routes.saturating_add(count(lb.rules.iter()));
                hosts.extend(lb.rules.iter().flat_map(|rule| rule.hosts.iter()));
            }
        }
        counts.hosts = count(hosts.into_iter().filter(|host| {
            !self.limits.is_beyond(&namespace, host)
                && matches!(self.hosts.verdict(&namespace, host, self.rights()), Verdict::Serves)
        }));
        counts.faults = self.faults.get(&*namespace).copied().unwrap_or_default();
        for object in self.store.of_kind(&namespace, Kind::UpstreamPool) {
            let id = &object.meta.id;
            let key = PoolId::new(Arc::clone(&id.namespace), Arc::clone(&id.name));
            if let Some(pool) = self.plan.pools.get(&key) {
                let endpoints = count(pool.endpoints.iter()).saturating_add(count(pool.names.iter()));
                counts.endpoints = counts.endpoints.saturating_add(endpoints);
            }
        }
        counts
    }

    /// What of a member cluster's is left out for its limits. Costs nothing.
    pub fn left_out(&self, cluster: &str) -> LeftOut {
        self.limits.left_out(&tenant_namespace(cluster))
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
