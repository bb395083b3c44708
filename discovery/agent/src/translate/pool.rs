//! What does a pool look like, and the copies of its endpoints?
//!
//! A pool is checked by connecting to its endpoints, unless the `Service` says `portolan.dev/health-check-path`. What is spoken follows
//! the port's `appProtocol`; where that is TLS, any certificate is taken, unless `portolan.dev/tls-verify` names who vouches for it:
//! `system`, or `ca/<name>` for a `ConfigMap` of this cluster's namespace in the LB cluster. Cost: linear in the endpoints.

use std::collections::BTreeSet;

use portolan_api::is_object_name;
use portolan_api::kinds::{
    Balancing, Endpoint, EndpointSlices, GoDuration, HTTPProbe, HealthCheck, LocalRef, NodePort, PoolTLS,
    Protocol, Reach, TCPProbe, UpstreamPoolSpec,
};
use portolan_model::host::HostName;
use portolan_model::naming;

use super::status::Own;
use super::{PoolSource, Refusal, backend};
use crate::names;
use crate::objects::SliceBody;
use crate::view::{
    Ingress, Key, Name, Port, PortRef, Service, ServiceKind, Settings, Slice, View, Wishes, read::WISHES,
};

/// How many endpoints a pool lists.
const ENDPOINTS: usize = 2048;

/// A pool, reached like that; nothing where what it comes from is gone.
pub fn spec(
    view: &View,
    settings: &Settings,
    reach: Reach,
    cluster: &str,
    source: &PoolSource,
) -> Option<UpstreamPoolSpec> {
    match source {
        PoolSource::Ingress(key) => gateway(Own::of(cluster, settings), key, view.ingresses.get(key)?),
        PoolSource::Service(key, number) => {
            let service = view.services.get(key)?;
            let port = backend::find_port(service, &PortRef::Number(*number));
            let pool = spoken(key, service, port);
            if let ServiceKind::ExternalName(name) = &service.kind {
                let endpoint = endpoint(name.trim_end_matches('.'), *number);
                return Some(UpstreamPoolSpec { endpoints: Some(vec![endpoint]), ..pool });
            }
            let port = port?;
            match reach {
                Reach::PodIP => {
                    let slices = EndpointSlices { port_name: None };
                    Some(UpstreamPoolSpec { endpoint_slices: Some(slices), ..pool })
                }
                Reach::NodePort => {
                    let node_port = node_port(view, key, service, port)?;
                    Some(UpstreamPoolSpec { node_port: Some(node_port), ..pool })
                }
                Reach::Gateway => None,
            }
        }
    }
}

/// The slices of a pool with what their copies are called and hold; none where it has none of its own.
pub fn slices(view: &View, source: &PoolSource) -> Vec<(Name, String, SliceBody)> {
    let PoolSource::Service(key, _) = source else { return Vec::new() };
    let Some(port) = sliced_port(view, source) else { return Vec::new() };
    let pool = source.name();
    let copies = view.slices_of(key).filter_map(|(name, slice)| {
        let body = copy(&pool, slice, port)?;
        Some((name.clone(), names::slice(&pool, &key.namespace, name), body))
    });
    copies.collect()
}

/// The copy of one slice for a pool, if there is to be one.
pub fn slice(view: &View, source: &PoolSource, slice: &Name) -> Option<SliceBody> {
    let PoolSource::Service(key, _) = source else { return None };
    let port = sliced_port(view, source)?;
    let slice = view.slices.get(&Key { namespace: key.namespace.clone(), name: slice.clone() })?;
    (slice.service == key.name).then(|| copy(&source.name(), slice, port))?
}

fn copy(pool: &str, slice: &Slice, port: &Port) -> Option<SliceBody> {
    if slice.endpoints.is_empty() { None } else { SliceBody::of(pool, slice, &port.name) }
}

/// The port of a pool that has slices.
fn sliced_port<'a>(view: &'a View, source: &PoolSource) -> Option<&'a Port> {
    let PoolSource::Service(key, number) = source else { return None };
    let service = view.services.get(key)?;
    if matches!(service.kind, ServiceKind::ExternalName(_)) {
        return None;
    }
    backend::find_port(service, &PortRef::Number(*number))
}

/// What of the annotations of a `Service` makes no sense.
pub fn wrong_wishes(key: &Key, service: &Service) -> Vec<Refusal> {
    let Some(wishes) = &service.wishes else { return Vec::new() };
    let name = &key.name;
    let mut refusals = Vec::new();
    let mut refuse = |annotation: &str, value: &str, expected: &str| {
        refusals.push(Refusal::new(
            "InvalidAnnotation",
            format!("portolan.dev/{annotation} of Service {name} is {value:?}; expected {expected}"),
        ));
    };
    if let Some(path) = wishes.health_check_path.as_deref().filter(|path| !is_path(path)) {
        refuse("health-check-path", path, "a path such as /healthz");
    }
    if let Some(text) = wishes.balancing.as_deref().filter(|text| balancing(text).is_none()) {
        refuse("balancing", text, "RoundRobin or LeastRequest");
    }
    if let Some(text) = wishes.tls_verify.as_deref().filter(|text| verification(text).is_none()) {
        refuse(
            "tls-verify",
            text,
            "none, system, or ca/ with the name of a ConfigMap; until then it counts as system",
        );
    }
    if let Some(host) = wishes.tls_server_name.as_deref().filter(|host| HostName::parse(host).is_err()) {
        refuse("tls-server-name", host, "a host name");
    }
    for annotation in &wishes.unknown {
        refusals.push(Refusal::new(
            "UnknownAnnotation",
            format!("{annotation} of Service {name} is not known; known are {}", WISHES.join(", ")),
        ));
    }
    refusals
}

/// The node port of a companion, once it has one.
pub fn node_port_of(companion: &Service, port: u16) -> Option<u16> {
    let mut ports = companion.ports.iter().filter(|it| it.tcp && it.number == port);
    ports.next().map(|port| port.node_port).filter(|port| *port != 0)
}

fn node_port(view: &View, key: &Key, service: &Service, port: &Port) -> Option<NodePort> {
    if backend::has_node_port(service, port) {
        let nodes = service.local.then(|| local_nodes(view, key, &port.name));
        return Some(NodePort { port: port.node_port, nodes });
    }
    let companion = Key::new(key.namespace.clone(), naming::companion(&key.name));
    let companion = view.services.get(&companion).filter(|it| it.companion.is_some())?;
    Some(NodePort { port: node_port_of(companion, port.number)?, nodes: None })
}

/// The nodes with a ready endpoint of their own; where none is ready, those whose endpoints still answer.
fn local_nodes(view: &View, key: &Key, port: &str) -> Vec<String> {
    let slices = view.slices_of(key).filter(|(_, slice)| slice.ports.iter().any(|(name, _)| **name == *port));
    let endpoints: Vec<_> = slices.flat_map(|(_, slice)| &slice.endpoints).collect();
    let mut nodes: BTreeSet<&str> =
        endpoints.iter().filter(|it| it.ready).filter_map(|it| it.node.as_deref()).collect();
    if nodes.is_empty() {
        nodes = endpoints.iter().filter(|it| it.serving).filter_map(|it| it.node.as_deref()).collect();
    }
    nodes.into_iter().map(str::to_owned).collect()
}

/// A pool without endpoints, spoken to as the port says.
fn spoken(key: &Key, service: &Service, port: Option<&Port>) -> UpstreamPoolSpec {
    let none = Wishes::default();
    let wishes = service.wishes.as_deref().unwrap_or(&none);
    let app_protocol = port.and_then(|port| port.app_protocol.as_deref()).unwrap_or_default();
    let (protocol, tls) = match &*app_protocol.to_ascii_lowercase() {
        "kubernetes.io/h2c" | "h2c" | "grpc" | "http2" => (Protocol::HTTP2, false),
        "https" | "kubernetes.io/wss" | "wss" => (Protocol::HTTP1, true),
        "grpcs" | "h2" => (Protocol::HTTP2, true),
        _ => (Protocol::HTTP1, false),
    };
    let server_name = match (wishes.tls_server_name.as_deref(), &service.kind) {
        (Some(host), _) if HostName::parse(host).is_ok() => host.to_owned(),
        (_, ServiceKind::ExternalName(name)) if HostName::parse(name).is_ok() => {
            name.trim_end_matches('.').to_owned()
        }
        _ => format!("{}.{}.svc", key.name, key.namespace),
    };
    // A wish that makes no sense is not a wish to take any certificate.
    let verify = wishes
        .tls_verify
        .as_deref()
        .map_or(Verification::None, |text| verification(text).unwrap_or(Verification::System));
    let path = wishes.health_check_path.as_deref().filter(|path| is_path(path));
    UpstreamPoolSpec {
        protocol,
        tls: tls.then(|| pool_tls(server_name, verify)),
        health_check: Some(health_check(path)),
        balancing: wishes.balancing.as_deref().and_then(balancing).unwrap_or_default(),
        ..UpstreamPoolSpec::default()
    }
}

/// The pool of an `Ingress` behind the cluster's own gateway: over TLS where the `Ingress` has certificates, since such gateways answer plain
/// HTTP with a redirect then. Whose certificate that is cannot be known, so any is taken.
fn gateway(own: Own<'_>, key: &Key, ingress: &Ingress) -> Option<UpstreamPoolSpec> {
    let tls = !ingress.tls.is_empty();
    let port = if tls { 443 } else { 80 };
    let entries = backend::gateway_entries(ingress, own, key);
    let addresses = entries.filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()));
    let addresses: BTreeSet<&str> = addresses.collect();
    if addresses.is_empty() {
        return None;
    }
    let endpoints = addresses.into_iter().take(ENDPOINTS).map(|address| endpoint(address, port));
    let named = ingress.tls.iter().flat_map(|tls| &tls.hosts);
    let ruled = ingress.rules.iter().filter_map(|rule| rule.host.as_ref());
    let server_name = named.chain(ruled).find(|host| HostName::parse(host).is_ok());
    let server_name =
        server_name.map_or_else(|| format!("{}.{}.svc", key.name, key.namespace), |host| host.to_string());
    Some(UpstreamPoolSpec {
        endpoints: Some(endpoints.collect()),
        tls: tls.then(|| pool_tls(server_name, Verification::None)),
        health_check: Some(health_check(None)),
        ..UpstreamPoolSpec::default()
    })
}

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint { address: address.to_owned(), port, weight: 1, zone: None }
}

enum Verification<'a> {
    None,
    System,
    Ca(&'a str),
}

fn verification(text: &str) -> Option<Verification<'_>> {
    match text {
        "none" => Some(Verification::None),
        "system" => Some(Verification::System),
        _ => text.strip_prefix("ca/").filter(|name| is_object_name(name)).map(Verification::Ca),
    }
}

fn pool_tls(server_name: String, verify: Verification<'_>) -> PoolTLS {
    let tls = PoolTLS { server_name, ..PoolTLS::default() };
    match verify {
        Verification::None => PoolTLS { insecure_skip_verify: true, ..tls },
        Verification::System => PoolTLS { system_trust: true, ..tls },
        Verification::Ca(name) => PoolTLS { ca_ref: Some(LocalRef { name: name.to_owned() }), ..tls },
    }
}

fn health_check(path: Option<&str>) -> HealthCheck {
    let check = HealthCheck {
        interval: GoDuration("2s".to_owned()),
        edge_interval: Some(GoDuration("500ms".to_owned())),
        timeout: GoDuration("1s".to_owned()),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        ..HealthCheck::default()
    };
    match path {
        Some(path) => {
            let http = HTTPProbe { path: path.to_owned(), ..HTTPProbe::default() };
            HealthCheck { http: Some(http), ..check }
        }
        None => HealthCheck { tcp: Some(TCPProbe {}), ..check },
    }
}

fn balancing(text: &str) -> Option<Balancing> {
    match text {
        "RoundRobin" => Some(Balancing::RoundRobin),
        "LeastRequest" => Some(Balancing::LeastRequest),
        _ => None,
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 1024 && path.bytes().all(|byte| byte.is_ascii_graphic())
}
