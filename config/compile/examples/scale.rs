//! What a large fleet costs: 100,000 `HTTPLoadBalancer`s with one rule each and 10,000 pools on 100 clusters.
//!
//! `cargo run --release -p portolan-compile --example scale [hosts] [steps]`; with the word `hosts` every object names a
//! customer host as well; with `steps` the load comes in steps of 1,000, which leaves what the work itself needs out of the
//! memory reported.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_compile::Compiler;
use portolan_model::host::HostPattern;
use portolan_model::id::{Kind, ObjectRef, PoolId, tenant_namespace};
use portolan_model::intent::{
    AllowedDomain, Cluster, Delta, HttpLoadBalancer, Locality, Meta, Object, Sharing, Spec,
};
use portolan_model::pool::{
    Balancing, EndpointHost, EndpointSource, InlineEndpoint, UpstreamPool, UpstreamProtocol,
};
use portolan_model::route::{Backend, PathMatch, RouteMatch, Rule};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTERS: usize = 100;
const LOAD_BALANCERS: usize = 100_000;
const POOLS: usize = 10_000;

fn main() {
    let asked = |word: &str| std::env::args().any(|argument| argument == word);
    let (with_hosts, in_steps) = (asked("hosts"), asked("steps"));
    let spaces: Vec<Arc<str>> = (0..CLUSTERS).map(|n| tenant_namespace(&cluster_name(n)).into()).collect();
    let clusters = (0..CLUSTERS).map(cluster);
    let pools = (0..POOLS).map(|n| pool(&spaces, n, 1));
    let all: Arc<[RouteMatch]> = Arc::new([]);
    let balancers = (0..LOAD_BALANCERS).map(|n| load_balancer(&spaces, &all, n, with_hosts, None));

    let empty = resident();
    let objects: Vec<Delta> = clusters.chain(pools).chain(balancers).collect();
    let intent = resident();
    let count = objects.len();
    let mut objects = objects.into_iter();
    let step = if in_steps { 1_000 } else { count };
    let (started, busy) = (Instant::now(), busy_time());
    let mut compiler = Compiler::new();
    while objects.len() > 0 {
        compiler.apply(objects.by_ref().take(step));
    }
    let (took, busy) = (started.elapsed(), busy_time().saturating_sub(busy));
    drop(objects);
    let compiled = resident();
    println!(
        "load of {count} objects: {took:?} ({busy:?} of processor time), {} hosts in the plan",
        compiler.plan().hosts.len()
    );
    println!(
        "resident bytes a load balancer: {} of intent, {} of plan and indices",
        intent.saturating_sub(empty) / LOAD_BALANCERS,
        compiled.saturating_sub(intent) / LOAD_BALANCERS
    );
    println!("conditions: {}", compiler.plan().conditions.len());

    let mut held = compiler.plan().clone();
    let mut measure = |what: &str, change: &mut dyn FnMut(usize) -> Delta| {
        let mut times: Vec<Duration> = (0..1000)
            .map(|n| {
                let delta = change(n * 97 % POOLS);
                let started = Instant::now();
                let update = compiler.apply([delta]);
                held = compiler.plan().clone();
                let took = started.elapsed();
                assert!(!update.is_empty());
                took
            })
            .collect();
        times.sort();
        println!("{what}: median {:?}, 99 % {:?}, worst {:?}", times[500], times[990], times[999]);
    };
    measure("change a rule", &mut |n| load_balancer(&spaces, &all, n, with_hosts, Some("/changed")));
    measure("change a pool", &mut |n| pool(&spaces, n, 2));
    measure("delete a load balancer", &mut |n| Delta::Delete(load_balancer_id(&spaces, n)));
    measure("add a load balancer", &mut |n| load_balancer(&spaces, &all, n, with_hosts, None));
    measure("delete a pool in use", &mut |n| Delta::Delete(pool_id(&spaces, n).object()));
    drop(held);
}

fn cluster_name(n: usize) -> String {
    format!("cluster-{n}")
}

fn apply(id: ObjectRef, spec: Spec) -> Delta {
    let meta = Meta { id, created: Some(1_700_000_000), generation: 1, origin: None, place: None };
    Delta::Apply(Arc::new(Object { meta, spec }))
}

fn cluster(n: usize) -> Delta {
    let cluster = Cluster {
        locality: Locality::default(),
        weight: 1,
        drain: false,
        allowed_domains: vec![AllowedDomain { suffix: None, sharing: Sharing::Exclusive }],
        allowed_endpoints: None,
        certificate: None,
    };
    apply(ObjectRef::cluster_scoped(Kind::Cluster, cluster_name(n)), Spec::Cluster(Box::new(cluster)))
}

fn pool_id(spaces: &[Arc<str>], n: usize) -> PoolId {
    PoolId::new(Arc::clone(&spaces[n % CLUSTERS]), format!("pool-{}", n / CLUSTERS))
}

fn pool(spaces: &[Arc<str>], n: usize, weight: u32) -> Delta {
    let endpoint = |last: u8| InlineEndpoint {
        host: EndpointHost::Address(IpAddr::V4(Ipv4Addr::new(10, (n >> 8) as u8, n as u8, last))),
        port: NonZeroU16::MIN,
        weight,
        zone: None,
    };
    let pool = UpstreamPool {
        source: EndpointSource::Inline((1..4).map(endpoint).collect()),
        balancing: Balancing::default(),
        protocol: UpstreamProtocol::default(),
        tls: None,
        health_check: None,
    };
    apply(pool_id(spaces, n).object(), Spec::UpstreamPool(Box::new(pool)))
}

fn load_balancer_id(spaces: &[Arc<str>], n: usize) -> ObjectRef {
    let namespace = Arc::clone(&spaces[n % CLUSTERS]);
    ObjectRef::new(Kind::HttpLoadBalancer, namespace, format!("shop-{}", n / CLUSTERS))
}

fn load_balancer(
    spaces: &[Arc<str>],
    all: &Arc<[RouteMatch]>,
    n: usize,
    with_hosts: bool,
    path: Option<&str>,
) -> Delta {
    let host = with_hosts.then(|| format!("shop-{}.customer-{}.example.com", n / 10, n % 10));
    let host = host.and_then(|host| HostPattern::parse(&host).ok());
    let rule = Rule {
        hosts: host.into_iter().collect(),
        matches: match path {
            Some(path) => {
                Arc::new([RouteMatch { path: PathMatch::Prefix(path.into()), ..RouteMatch::default() }])
            }
            None => Arc::clone(all),
        },
        filters: Arc::new([]),
        backends: Arc::new([Backend { pool: pool_id(spaces, n % POOLS), weight: 1 }]),
        timeouts: None,
    };
    let lb = HttpLoadBalancer { rules: Box::new([rule]), tls: Box::new([]) };
    apply(load_balancer_id(spaces, n), Spec::HttpLoadBalancer(lb))
}

/// The process's resident memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok()).unwrap_or_default()
        * 1024
}

/// The processor time that the process has used, in steps of 10 ms.
fn busy_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
