//! A large fleet: load balancers with one rule each and pools, spread over clusters.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::Result;
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef, PoolId, tenant_namespace};
use portolan_model::intent::{
    AllowedDomain, Cluster, Delta, HttpLoadBalancer, Limits, Meta, Object, Sharing, Spec,
};
use portolan_model::locality::Locality;
use portolan_model::plan::{Action, Route, VirtualHost};
use portolan_model::policy::Policy;
use portolan_model::pool::{
    Balancing, EndpointHost, EndpointSource, InlineEndpoint, UpstreamPool, UpstreamProtocol,
};
use portolan_model::route::{Backend, PathMatch, RouteMatch, Rule};
use portolan_route::Router;

/// Hosts, each with one route.
pub(crate) const HOSTS: usize = 100_000;
/// Pools of two endpoints.
pub(crate) const POOLS: usize = 10_000;

const CLUSTERS: usize = 100;

/// The generated name of a load balancer.
pub(crate) fn host_name(n: usize) -> String {
    format!("shop-{}.cluster-{}.lb.example.net", n / CLUSTERS, n % CLUSTERS)
}

/// Routes with one action each, by their matches.
pub(crate) fn virtual_host(matches: impl IntoIterator<Item = RouteMatch>) -> Arc<VirtualHost> {
    let policy = Arc::new(Policy::default());
    let routes = (0..).zip(matches).map(|(rule, matching)| Route {
        matches: Arc::new([matching]),
        actions: Box::new([Arc::new(Action {
            object: load_balancer_id(0),
            rule,
            filters: Arc::new([]),
            backends: Arc::new([Backend { pool: pool_id(0), weight: 1 }]),
            timeouts: None,
            policy: Arc::clone(&policy),
        })]),
    });
    Arc::new(VirtualHost { routes: routes.collect(), shared: false })
}

/// A router that knows all hosts by name.
pub(crate) fn router() -> Result<Router> {
    let all = virtual_host([RouteMatch::default()]);
    let mut router = Router::default();
    let hosts = (0..HOSTS).map(|n| Ok((HostPattern::parse(&host_name(n))?, Some(Arc::clone(&all)))));
    router.apply(&hosts.collect::<Result<Vec<_>>>()?);
    Ok(router)
}

/// All objects of the fleet.
pub(crate) fn objects() -> impl Iterator<Item = Delta> {
    let load_balancers = (0..HOSTS).map(|n| load_balancer(n, "/"));
    (0..CLUSTERS).map(cluster).chain((0..POOLS).map(|n| pool(n, 1))).chain(load_balancers)
}

/// A load balancer whose one rule serves a path prefix.
pub(crate) fn load_balancer(n: usize, prefix: &str) -> Delta {
    let rule = Rule {
        hosts: Arc::new([]),
        inherits_hosts: true,
        matches: Arc::new([RouteMatch { path: PathMatch::Prefix(prefix.into()), ..RouteMatch::default() }]),
        filters: Arc::new([]),
        backends: Arc::new([Backend { pool: pool_id(n % POOLS), weight: 1 }]),
        timeouts: None,
    };
    apply(
        load_balancer_id(n),
        Spec::HttpLoadBalancer(HttpLoadBalancer { rules: Box::new([rule]), tls: Box::new([]) }),
    )
}

/// A pool of two endpoints of a weight.
pub(crate) fn pool(n: usize, weight: u32) -> Delta {
    let endpoint = |last: u8| InlineEndpoint {
        host: EndpointHost::Address(IpAddr::V4(Ipv4Addr::new(10, (n >> 8) as u8, n as u8, last))),
        port: NonZeroU16::MIN,
        weight,
        zone: None,
    };
    let pool = UpstreamPool {
        source: EndpointSource::Inline((1..=2).map(endpoint).collect()),
        balancing: Balancing::default(),
        protocol: UpstreamProtocol::default(),
        tls: None,
        health_check: None,
    };
    apply(pool_id(n).object(), Spec::UpstreamPool(Box::new(pool)))
}

fn cluster(n: usize) -> Delta {
    let cluster = Cluster {
        locality: Locality::default(),
        weight: 1,
        drain: false,
        allowed_domains: vec![AllowedDomain { suffix: None, sharing: Sharing::Exclusive }],
        allowed_endpoints: None,
        certificate: None,
        integrated: false,
        limits: Limits::default(),
    };
    apply(ObjectRef::cluster_scoped(Kind::Cluster, format!("cluster-{n}")), Spec::Cluster(Box::new(cluster)))
}

fn pool_id(n: usize) -> PoolId {
    PoolId::new(namespace(n), format!("pool-{}", n / CLUSTERS))
}

fn load_balancer_id(n: usize) -> ObjectRef {
    ObjectRef::new(Kind::HttpLoadBalancer, namespace(n), format!("shop-{}", n / CLUSTERS))
}

fn namespace(n: usize) -> String {
    tenant_namespace(&format!("cluster-{}", n % CLUSTERS))
}

fn apply(id: ObjectRef, spec: Spec) -> Delta {
    let meta = Meta { id, created: None, generation: 0, origin: None, host: None, place: None };
    Delta::Apply(Arc::new(Object { meta, spec }))
}
