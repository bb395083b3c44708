//! Objects, in few words.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use portolan_compile::Compiler;
use portolan_model::condition::{Condition, Reason};
use portolan_model::host::{HostName, HostPattern};
use portolan_model::id::{Kind, ObjectRef, PoolId};
use portolan_model::intent::*;
use portolan_model::inventory::{EndpointSlice, Node, NodeSet, SliceEndpoint, SlicePort};
use portolan_model::locality::Locality;
use portolan_model::plan::{Plan, VirtualHost};
use portolan_model::policy::{PolicySpec, TrafficPolicy};
use portolan_model::pool::*;
use portolan_model::proxy::Proxy;
use portolan_model::redacted::Redacted;
use portolan_model::route::{Backend, PathMatch, RouteMatch, Rule};

pub fn host(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

pub fn name(text: &str) -> HostName {
    HostName::parse(text).unwrap()
}

/// `paris/shop` is in the namespace of cluster paris; `:ns/name` in namespace `ns`; without a slash it is cluster-scoped.
pub fn id(kind: Kind, text: &str) -> ObjectRef {
    match text.split_once('/') {
        Some((namespace, name)) => match namespace.strip_prefix(':') {
            Some(namespace) => ObjectRef::new(kind, namespace, name),
            None => ObjectRef::new(kind, format!("tenant-{namespace}"), name),
        },
        None => ObjectRef::cluster_scoped(kind, text),
    }
}

pub fn lb_id(text: &str) -> ObjectRef {
    id(Kind::HttpLoadBalancer, text)
}

pub fn object(id: ObjectRef, created: Option<i64>, spec: Spec) -> Object {
    let meta = Meta { id, created, generation: 0, origin: None, host: None, place: None };
    Object { meta, spec }
}

pub fn proxy(change: impl FnOnce(&mut Proxy)) -> Object {
    let mut proxy = Proxy { lb_domain: name("lb.net"), ..Proxy::fallback() };
    change(&mut proxy);
    object(id(Kind::Proxy, "default"), None, Spec::Proxy(Box::new(proxy)))
}

pub fn cluster_spec() -> Cluster {
    Cluster {
        locality: Locality::default(),
        weight: 1,
        drain: false,
        allowed_domains: vec![AllowedDomain { suffix: None, sharing: Sharing::Exclusive }],
        allowed_endpoints: None,
        certificate: None,
        integrated: false,
        limits: Limits::default(),
    }
}

pub fn cluster(named: &str, change: impl FnOnce(&mut Cluster)) -> Object {
    let mut cluster = cluster_spec();
    change(&mut cluster);
    object(id(Kind::Cluster, named), None, Spec::Cluster(Box::new(cluster)))
}

/// `a.com shared`, `* exclusive`.
pub fn domains(entries: &[&str]) -> Vec<AllowedDomain> {
    let entry = |text: &&str| {
        let (suffix, sharing) = text.split_once(' ').unwrap();
        AllowedDomain {
            suffix: (suffix != "*").then(|| name(suffix)),
            sharing: if sharing == "shared" { Sharing::Shared } else { Sharing::Exclusive },
        }
    };
    entries.iter().map(entry).collect()
}

pub fn prefix(path: &str) -> RouteMatch {
    RouteMatch { path: PathMatch::Prefix(path.into()), ..RouteMatch::default() }
}

/// `/path host host > pool`: any part may be missing.
pub fn rule(namespace: &str, text: &str) -> Rule {
    let (before, pool) = text.split_once('>').unwrap_or((text, ""));
    let (paths, hosts): (Vec<_>, Vec<_>) = before.split_whitespace().partition(|word| word.starts_with('/'));
    let backends: Vec<_> = pool
        .split_whitespace()
        .map(|pool| Backend { pool: PoolId::new(namespace, pool), weight: 1 })
        .collect();
    Rule {
        hosts: hosts.into_iter().map(host).collect(),
        inherits_hosts: false,
        matches: paths.into_iter().map(prefix).collect(),
        filters: Arc::new([]),
        backends: backends.into(),
        timeouts: None,
    }
}

pub fn lb(text: &str, created: i64, rules: &[&str]) -> Object {
    let id = lb_id(text);
    let rules = rules.iter().map(|text| rule(&id.namespace, text)).collect();
    object(id, Some(created), Spec::HttpLoadBalancer(HttpLoadBalancer { rules, tls: Box::new([]) }))
}

pub fn with_tls(mut object: Object, bindings: &[(&str, &[&str])]) -> Object {
    let namespace = Arc::clone(&object.meta.id.namespace);
    if let Spec::HttpLoadBalancer(lb) = &mut object.spec {
        let binding = |(secret, hosts): &(&str, &[&str])| TlsBinding {
            hosts: hosts.iter().map(|text| host(text)).collect(),
            secret: ObjectRef::new(Kind::Secret, Arc::clone(&namespace), *secret),
        };
        lb.tls = bindings.iter().map(binding).collect();
    }
    object
}

/// With the origin `kind/namespace/name`, created then if that is known.
pub fn with_origin(mut object: Object, text: &str, created: Option<i64>) -> Object {
    let mut parts = text.split('/').map(Arc::from);
    let mut next = || parts.next().unwrap();
    let (kind, namespace, name) = (next(), next(), next());
    object.meta.origin = Some(Box::new(Origin { kind, namespace, name, uid: "".into(), created }));
    object
}

pub fn policy(text: &str, created: i64, targets: &[ObjectRef], spec: PolicySpec) -> Object {
    let policy = TrafficPolicy { targets: targets.to_vec(), spec };
    object(id(Kind::TrafficPolicy, text), Some(created), Spec::TrafficPolicy(Box::new(policy)))
}

pub fn pool_spec(source: EndpointSource) -> UpstreamPool {
    UpstreamPool {
        source,
        balancing: Balancing::default(),
        protocol: UpstreamProtocol::default(),
        tls: None,
        health_check: None,
    }
}

pub fn pool(text: &str, source: EndpointSource) -> Object {
    object(id(Kind::UpstreamPool, text), None, Spec::UpstreamPool(Box::new(pool_spec(source))))
}

/// Addresses or names, port 80; `=n` behind one is its weight.
pub fn inline(hosts: &[&str]) -> EndpointSource {
    let endpoint = |text: &&str| {
        let (host, weight) = text.split_once('=').map_or((*text, 1), |(host, n)| (host, n.parse().unwrap()));
        let host = match host.parse::<IpAddr>() {
            Ok(address) => EndpointHost::Address(address),
            Err(_) => EndpointHost::Name(name(host)),
        };
        InlineEndpoint { host, port: port(80), weight, zone: None }
    };
    EndpointSource::Inline(hosts.iter().map(endpoint).collect())
}

pub fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

/// Nodes as `name address`, with `!` before those that are not ready.
pub fn nodes(text: &str, nodes: &[&str]) -> Object {
    let node = |text: &&str| {
        let (name, address) = text.split_once(' ').unwrap();
        Node {
            name: name.trim_start_matches('!').into(),
            addresses: address.split_whitespace().map(|it| it.parse().unwrap()).collect(),
            zone: None,
            ready: !name.starts_with('!'),
        }
    };
    object(id(Kind::NodeSet, text), None, Spec::NodeSet(NodeSet { nodes: nodes.iter().map(node).collect() }))
}

/// Endpoints as `address flags` with the flags r(eady), s(erving), t(erminating).
pub fn slice(text: &str, pool: &str, ports: &[(&str, u16)], endpoints: &[&str]) -> Object {
    let endpoint = |text: &&str| {
        let (address, flags) = text.split_once(' ').unwrap();
        SliceEndpoint {
            address: address.parse().unwrap(),
            zone: None,
            ready: flags.contains('r'),
            serving: flags.contains('s'),
            terminating: flags.contains('t'),
        }
    };
    let ports = ports.iter().map(|(name, number)| SlicePort { name: (*name).into(), port: port(*number) });
    let slice = EndpointSlice {
        pool: pool.into(),
        ports: ports.collect(),
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    object(id(Kind::EndpointSlice, text), None, Spec::EndpointSlice(Box::new(slice)))
}

pub fn secret(text: &str, names: &[&str], key: KeyAlgorithm, not_after: i64) -> Object {
    let facts = CertificateFacts {
        names: names.iter().map(|text| host(text)).collect(),
        not_before: 0,
        not_after,
        key,
        serial: "01".to_owned(),
    };
    let secret = TlsSecret { chain: Arc::new([]), key: Redacted(Arc::new([])), facts };
    object(id(Kind::Secret, text), None, Spec::Secret(Box::new(secret)))
}

pub fn ca(text: &str) -> Object {
    object(id(Kind::ConfigMap, text), None, Spec::ConfigMap(CaBundle { pem: Arc::new(*b"PEM") }))
}

pub fn apply(object: Object) -> Delta {
    Delta::Apply(Arc::new(object))
}

pub fn compile(objects: impl IntoIterator<Item = Object>) -> Compiler {
    let mut compiler = Compiler::new();
    compiler.apply(objects.into_iter().map(apply));
    compiler
}

/// The routes of a host as `matches -> object#rule + object#rule`.
pub fn routes(plan: &Plan, pattern: &str) -> Vec<String> {
    plan.hosts.get(&host(pattern)).map(|host| shown(host)).unwrap_or_default()
}

pub fn shown(host: &VirtualHost) -> Vec<String> {
    let route = |route: &portolan_model::plan::Route| {
        let paths: Vec<_> = route
            .matches
            .iter()
            .map(|matching| match &matching.path {
                PathMatch::Prefix(path) | PathMatch::Exact(path) | PathMatch::Regex(path) => path.to_string(),
            })
            .collect();
        let actions: Vec<_> = route
            .actions
            .iter()
            .map(|action| format!("{}/{}#{}", action.cluster(), action.object.name, action.rule))
            .collect();
        format!("{} -> {}", paths.join(" "), actions.join(" + ")).trim_start().to_owned()
    };
    host.routes.iter().map(route).collect()
}

pub fn conditions(compiler: &Compiler, id: &ObjectRef) -> Vec<Condition> {
    compiler.plan().conditions.get(id).map(|found| found.to_vec()).unwrap_or_default()
}

/// What is wrong with an object, as reason and field.
pub fn wrong(compiler: &Compiler, id: &ObjectRef) -> Vec<(Reason, String)> {
    conditions(compiler, id).into_iter().map(|it| (it.reason, it.field)).collect()
}

/// All hosts of a plan with their routes.
pub fn all_routes(plan: &Plan) -> BTreeMap<String, Vec<String>> {
    plan.hosts.iter().map(|(pattern, host)| (pattern.to_string(), shown(host))).collect()
}
