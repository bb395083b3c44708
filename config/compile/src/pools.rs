//! What the endpoints of a pool are, and how they are spoken to.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::{Cluster, Spec};
use portolan_model::inventory::{EndpointSlice, Node, NodeSet, SliceEndpoint};
use portolan_model::plan::{Endpoint, NamedEndpoint, Pool, PoolTls, Trust};
use portolan_model::pool::{
    EndpointHost, EndpointRanges, EndpointSource, InlineEndpoint, Outside, UpstreamPool, UpstreamTls,
    Verification,
};
use portolan_model::proxy::Proxy;

use crate::store::Store;

/// A pool, where there is one, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// As it stands in the plan.
    pub(crate) pool: Option<Pool>,
    pub(crate) conditions: Vec<Condition>,
    /// Whether all of its endpoints are taken from it by what is wrong, whether they are ready or not.
    pub(crate) bereft: bool,
}

/// The pool `id`.
pub(crate) fn resolve(store: &Store, proxy: &Proxy, id: &ObjectRef, pool: &UpstreamPool) -> Resolved {
    let mut found = Found {
        ranges: ranges(store, proxy, &id.namespace),
        endpoints: Vec::new(),
        names: Vec::new(),
        refused: BTreeMap::new(),
        portless: None,
        usable: false,
        conditions: Vec::new(),
    };
    match &pool.source {
        EndpointSource::Inline(listed) => found.inline(listed),
        EndpointSource::Slices { port_name } => {
            for (object, slice) in slices(store, id) {
                found.slice(object, slice, port_name.as_deref());
            }
        }
        EndpointSource::NodePort { port, nodes } => {
            found.nodes(store, &id.namespace, *port, nodes.as_deref());
        }
    }
    let taken = !found.refused.is_empty() || found.portless.is_some() || !found.conditions.is_empty();
    let bereft = taken && !found.usable;
    let tls = pool.tls.as_ref().map(|tls| found.tls(store, tls));
    let Found { ranges, mut endpoints, mut names, refused, portless, mut conditions, .. } = found;
    if let Some((first, count)) = portless {
        conditions.push(Condition::new(
            ConditionType::ResolvedRefs,
            Reason::PortNotFound,
            "spec.endpointSlices.portName",
            format!("{first}{}; its endpoints are left out", and_more(count)),
        ));
    }
    for ((field, outside), (first, count)) in refused {
        conditions.push(not_allowed(field, outside, &first.to_string(), count));
    }
    // Where an address is there twice, the entry that takes new requests counts; between such the first.
    endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.terminating));
    endpoints.dedup_by_key(|endpoint| endpoint.address);
    names.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
    names.dedup_by(|b, a| (&a.name, a.port) == (&b.name, b.port));
    endpoints.shrink_to_fit();
    names.shrink_to_fit();
    let pool = Pool {
        endpoints,
        names,
        ranges,
        balancing: pool.balancing,
        protocol: pool.protocol,
        tls,
        health_check: pool.health_check.clone(),
    };
    Resolved { pool: Some(pool), conditions, bereft }
}

/// What is wrong with the nodes of a `NodeSet`.
pub(crate) fn judge_nodes(store: &Store, proxy: &Proxy, id: &ObjectRef, set: &NodeSet) -> Vec<Condition> {
    let ranges = ranges(store, proxy, &id.namespace);
    let mut refused: BTreeMap<Outside, (String, String, usize)> = BTreeMap::new();
    for (at, node) in set.nodes.iter().enumerate() {
        if let Some(address) = node.addresses.first()
            && let Err(outside) = ranges.check(*address)
        {
            let field = || format!("spec.nodes[{at}].addresses[0]");
            let first = || format!("{address} of node {}", node.name);
            refused.entry(outside).or_insert_with(|| (field(), first(), 0)).2 += 1;
        }
    }
    refused
        .into_iter()
        .map(|(outside, (field, first, count))| not_allowed(field, outside, &first, count))
        .collect()
}

/// Where the endpoints of a namespace may lie.
fn ranges(store: &Store, proxy: &Proxy, namespace: &str) -> EndpointRanges {
    let cluster = store.cluster(namespace);
    let reserved = match cluster {
        Some(Cluster { integrated: true, .. }) => Arc::default(),
        _ => Arc::clone(&proxy.reserved),
    };
    EndpointRanges { allowed: cluster.and_then(|cluster| cluster.allowed_endpoints.clone()), reserved }
}

/// Says of `count` addresses, `first` the first of them, that they may not be used.
fn not_allowed(field: String, outside: Outside, first: &str, count: usize) -> Condition {
    let why = match outside {
        Outside::NotAllowed => "lies outside the addresses that the cluster's endpoints may have",
        Outside::Reserved => {
            "is reserved for the LB cluster itself (spec.reservedCIDRs of the Proxy); only a Cluster with \
             integrated: true may use it"
        }
    };
    let message = format!("{first}{} {why}", and_more(count));
    Condition::new(ConditionType::Accepted, Reason::EndpointNotAllowed, field, message)
}

fn and_more(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

struct Found {
    ranges: EndpointRanges,
    endpoints: Vec<Endpoint>,
    names: Vec<NamedEndpoint>,
    /// By field and reason: the first address left out, and how many.
    refused: BTreeMap<(String, Outside), (IpAddr, usize)>,
    /// What is wrong with the first slice that has not the port, and how many there are.
    portless: Option<(String, usize)>,
    /// Whether any endpoint may be used, once it is ready.
    usable: bool,
    conditions: Vec<Condition>,
}

impl Found {
    fn inline(&mut self, listed: &[InlineEndpoint]) {
        for (at, endpoint) in listed.iter().enumerate().filter(|(_, endpoint)| endpoint.weight > 0) {
            let InlineEndpoint { host, port, weight, zone } = endpoint;
            match host {
                EndpointHost::Address(address) => {
                    let field = || format!("spec.endpoints[{at}].address");
                    self.add(field, *address, *port, *weight, zone.clone(), false);
                }
                EndpointHost::Name(name) => {
                    self.usable = true;
                    self.names.push(NamedEndpoint {
                        name: name.clone(),
                        port: *port,
                        weight: *weight,
                        zone: zone.clone(),
                    });
                }
            }
        }
    }

    fn slice(&mut self, object: &ObjectRef, slice: &EndpointSlice, port_name: Option<&str>) {
        let port = match (port_name, &*slice.ports) {
            (None, [port]) => Some(port),
            (name, ports) => ports.iter().find(|port| *port.name == *name.unwrap_or_default()),
        };
        let Some(port) = port else {
            // A Service without endpoints has a slice without ports.
            if !slice.endpoints.is_empty() {
                let ports = slice.ports.iter().map(|port| format!("{:?}", &*port.name)).collect::<Vec<_>>();
                let wrong = || match port_name {
                    _ if ports.is_empty() => format!("{object} has no TCP port"),
                    Some(name) => format!("{object} has no port {name:?}, but: {}", ports.join(", ")),
                    None => format!(
                        "{object} has not one port, but: {}; expected the name of one",
                        ports.join(", ")
                    ),
                };
                self.portless.get_or_insert_with(|| (wrong(), 0)).1 += 1;
            }
            return;
        };
        for SliceEndpoint { address, zone, ready, serving, terminating } in &slice.endpoints {
            if *ready || (*serving && *terminating) {
                self.add(String::new, *address, port.port, 1, zone.clone(), !*ready);
            } else {
                self.check(String::new, *address);
            }
        }
    }

    fn nodes(&mut self, store: &Store, namespace: &str, port: NonZeroU16, only: Option<&[Arc<str>]>) {
        if store.of_kind(namespace, Kind::NodeSet).next().is_none() {
            self.conditions.push(Condition::new(
                ConditionType::ResolvedRefs,
                Reason::NodesNotFound,
                "spec.nodePort",
                format!(
                    "namespace {namespace} has no NodeSet; expected the one that the cluster's agent writes"
                ),
            ));
        }
        let meant = |node: &Node| only.is_none_or(|only| only.contains(&node.name));
        for (node, address) in all_nodes(store, namespace).filter(|(node, _)| meant(node)) {
            if node.ready {
                self.add(String::new, address, port, 1, node.zone.clone(), false);
            } else {
                self.check(String::new, address);
            }
        }
    }

    fn add(
        &mut self,
        field: impl FnOnce() -> String,
        address: IpAddr,
        port: NonZeroU16,
        weight: u32,
        zone: Option<Arc<str>>,
        terminating: bool,
    ) {
        let address = address.to_canonical();
        if self.check(field, address) {
            let address = SocketAddr::new(address, port.get());
            self.endpoints.push(Endpoint { address, weight, zone, terminating });
        }
    }

    /// Whether an endpoint may lie there; takes note of it, whether it is ready or not.
    fn check(&mut self, field: impl FnOnce() -> String, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let checked = self.ranges.check(address);
        match checked {
            Ok(()) => self.usable = true,
            Err(outside) => self.refused.entry((field(), outside)).or_insert((address, 0)).1 += 1,
        }
        checked.is_ok()
    }

    fn tls(&mut self, store: &Store, tls: &UpstreamTls) -> PoolTls {
        let trust = match &tls.verification {
            Verification::System => Trust::System,
            Verification::Insecure => Trust::Insecure,
            Verification::Bundle(bundle) => match store.live(bundle).map(|object| &object.spec) {
                Some(Spec::ConfigMap(ca)) => Trust::Bundle(ca.clone()),
                _ => {
                    self.conditions.push(Condition::new(
                        ConditionType::ResolvedRefs,
                        Reason::CaNotFound,
                        "spec.tls.caRef",
                        format!(
                            "{bundle} does not exist or holds no ca.crt; no connection is made without it"
                        ),
                    ));
                    Trust::Missing(bundle.clone())
                }
            },
        };
        PoolTls { server_name: tls.server_name.clone(), trust }
    }
}

/// How many nodes of a namespace take traffic.
pub(crate) fn ready_nodes(store: &Store, namespace: &str) -> usize {
    all_nodes(store, namespace).filter(|(node, _)| node.ready).count()
}

/// The nodes of a namespace, each once, with the address that is used.
fn all_nodes<'a>(store: &'a Store, namespace: &str) -> impl Iterator<Item = (&'a Node, IpAddr)> + use<'a> {
    let mut sets: Vec<_> = store.of_kind(namespace, Kind::NodeSet).collect();
    sets.sort_unstable_by(|a, b| a.meta.id.cmp(&b.meta.id));
    let mut nodes: BTreeMap<&str, &Node> = BTreeMap::new();
    for object in sets {
        if let Spec::NodeSet(set) = &object.spec {
            for node in &set.nodes {
                nodes.entry(&node.name).or_insert(node);
            }
        }
    }
    nodes.into_values().filter_map(|node| Some((node, *node.addresses.first()?)))
}

fn slices<'a>(
    store: &'a Store,
    pool: &ObjectRef,
) -> impl Iterator<Item = (&'a ObjectRef, &'a EndpointSlice)> {
    store.users(pool, Kind::EndpointSlice).filter_map(|object| match &object.spec {
        Spec::EndpointSlice(slice) => Some((&object.meta.id, &**slice)),
        _ => None,
    })
}
