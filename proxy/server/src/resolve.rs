//! Pools that name their endpoints: names are resolved in the background, again and again as their TTL says.
//!
//! A name that stops resolving keeps the addresses it had: health checks decide whether they still serve.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use portolan_model::id::PoolId;
use portolan_model::plan::{Endpoint, NamedEndpoint, Pool, Update};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Answers are not asked for again sooner, whatever their TTL.
const SOONEST: Duration = Duration::from_secs(1);
/// Answers are asked for again after this at the latest.
const LATEST: Duration = Duration::from_secs(300);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// What a pool's names resolve to now.
pub(crate) struct Resolution {
    pub(crate) pool: PoolId,
    plan: Arc<Pool>,
    /// In order.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Addresses that the cluster may not have.
    pub(crate) refused: Vec<IpAddr>,
}

/// What a name came to.
#[derive(Clone, Default)]
struct Known {
    endpoints: Vec<Endpoint>,
    refused: Vec<IpAddr>,
}

/// See the module's documentation. Needs a tokio runtime.
pub(crate) struct Resolver {
    resolver: Option<Arc<TokioResolver>>,
    results: mpsc::Receiver<Resolution>,
    sender: mpsc::Sender<Resolution>,
    pools: HashMap<PoolId, (Arc<Pool>, AbortHandle)>,
}

impl Resolver {
    /// Asks `server`, or whom the machine asks.
    pub(crate) fn new(server: Option<SocketAddr>) -> Self {
        let (sender, results) = mpsc::channel(64);
        let resolver = match build(server) {
            Ok(resolver) => Some(Arc::new(resolver)),
            Err(error) => {
                tracing::warn!(%error, "names of endpoints cannot be resolved");
                None
            }
        };
        Self { resolver, results, sender, pools: HashMap::new() }
    }

    /// Starts and ends the resolution of pools as an update says: gives those whose names, or what these may resolve to, are not what
    /// they were.
    pub(crate) fn follow<'a>(&mut self, update: &'a Update) -> Vec<&'a PoolId> {
        let mut ended = Vec::new();
        for (id, pool) in &update.pools {
            let same = match (self.pools.get(id), pool) {
                (Some((before, _)), Some(pool)) => before.names == pool.names && before.ranges == pool.ranges,
                _ => false,
            };
            if same {
                continue;
            }
            if let Some((_, task)) = self.pools.remove(id) {
                task.abort();
                ended.push(id);
            }
            let (Some(pool), Some(resolver)) = (pool, &self.resolver) else { continue };
            if !pool.names.is_empty() {
                let task = follow(Arc::clone(resolver), id.clone(), Arc::clone(pool), self.sender.clone());
                self.pools.insert(id.clone(), (Arc::clone(pool), tokio::spawn(task).abort_handle()));
            }
        }
        ended
    }

    /// The next pool whose names resolve to something else than before. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Resolution {
        loop {
            match self.results.recv().await {
                Some(resolution) => {
                    let current = self.pools.get(&resolution.pool);
                    // What the names were before may still be on its way.
                    if current.is_some_and(|(plan, _)| Arc::ptr_eq(plan, &resolution.plan)) {
                        return resolution;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }
}

fn build(server: Option<SocketAddr>) -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = match server {
        None => TokioResolver::builder_tokio()?,
        Some(server) => {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            TokioResolver::builder_with_config(
                ResolverConfig::from_parts(None, Vec::new(), vec![config]),
                Default::default(),
            )
        }
    };
    builder.options_mut().ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
    builder.options_mut().cache_size = 0;
    builder.build()
}

/// Resolves all names of a pool for as long as it is there.
async fn follow(
    resolver: Arc<TokioResolver>,
    id: PoolId,
    pool: Arc<Pool>,
    results: mpsc::Sender<Resolution>,
) {
    let mut known = vec![(Instant::now(), Known::default()); pool.names.len()];
    let mut last = None;
    // Until then what was found for the pool before stays.
    let mut answered = false;
    // Each is told once, until it resolves again.
    let mut told = vec![false; pool.names.len()];
    loop {
        for ((named, (due, found)), told) in pool.names.iter().zip(&mut known).zip(&mut told) {
            if *due > Instant::now() {
                continue;
            }
            match resolver.lookup_ip(format!("{}.", named.name)).await {
                Ok(answer) => {
                    answered = true;
                    if std::mem::take(told) {
                        tracing::info!(pool = %id, name = %named.name, "an endpoint's name resolves again");
                    }
                    *found = judge(&pool, named, answer.iter().map(|ip| ip.to_canonical()));
                    *due = answer.valid_until().clamp(Instant::now() + SOONEST, Instant::now() + LATEST);
                }
                Err(error) => {
                    if !std::mem::replace(told, true) {
                        tracing::warn!(pool = %id, name = %named.name, %error, "an endpoint's name does not resolve; asking on");
                    }
                    *due = Instant::now() + AGAIN;
                }
            }
        }
        let mut all: Vec<Endpoint> =
            known.iter().flat_map(|(_, found)| found.endpoints.iter().cloned()).collect();
        all.sort();
        all.dedup_by(|a, b| a.address == b.address);
        let mut refused: Vec<IpAddr> = known.iter().flat_map(|(_, found)| found.refused.clone()).collect();
        refused.sort();
        refused.dedup();
        let now = (all, refused);
        if answered && last.as_ref() != Some(&now) {
            let (endpoints, refused) = now.clone();
            let resolution = Resolution { pool: id.clone(), plan: Arc::clone(&pool), endpoints, refused };
            if results.send(resolution).await.is_err() {
                return;
            }
            last = Some(now);
        }
        let next = known.iter().map(|(due, _)| *due).min().unwrap_or_else(Instant::now);
        tokio::time::sleep_until(next.into()).await;
    }
}

fn judge(pool: &Pool, named: &NamedEndpoint, addresses: impl Iterator<Item = IpAddr>) -> Known {
    let (allowed, refused): (Vec<_>, Vec<_>) = addresses.partition(|&ip| pool.ranges.check(ip).is_ok());
    let endpoint = |ip| Endpoint {
        address: SocketAddr::new(ip, named.port.get()),
        weight: named.weight,
        zone: named.zone.clone(),
        terminating: false,
    };
    Known { endpoints: allowed.into_iter().map(endpoint).collect(), refused }
}
