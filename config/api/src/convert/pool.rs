//! `UpstreamPool`.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use portolan_model::id::{Kind, ObjectRef};
use portolan_model::intent::Spec;
use portolan_model::pool::{
    Balancing, EndpointHost, EndpointSource, HealthCheck, InlineEndpoint, Probe, UpstreamPool,
    UpstreamProtocol, UpstreamTls, Verification,
};

use super::path::with_query;
use super::scalar::{address, host_name, object_name, positive};
use super::{Convert, Cx, Flaw};
use crate::field::At;
use crate::kinds::{self, Endpoint, GoDuration, NodePort, PoolTLS, StatusRange, UpstreamPoolSpec};

impl Convert for UpstreamPoolSpec {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let at = At::top("spec");
        let source = source(cx, &at, self);
        let tls = self.tls.as_ref().and_then(|tls| upstream_tls(cx, &at.field("tls"), tls));
        let check = self.health_check.as_ref();
        let health_check = check.and_then(|check| health_check(cx, &at.field("healthCheck"), check));
        Some(Spec::UpstreamPool(Box::new(UpstreamPool {
            source: source?,
            balancing: match self.balancing {
                kinds::Balancing::RoundRobin => Balancing::RoundRobin,
                kinds::Balancing::LeastRequest => Balancing::LeastRequest,
            },
            protocol: match self.protocol {
                kinds::Protocol::HTTP1 => UpstreamProtocol::Http1,
                kinds::Protocol::HTTP2 => UpstreamProtocol::Http2,
            },
            tls,
            health_check,
        })))
    }
}

fn source(cx: &mut Cx<'_>, at: &At<'_>, spec: &UpstreamPoolSpec) -> Option<EndpointSource> {
    match (&spec.endpoints, &spec.endpoint_slices, &spec.node_port) {
        (Some(endpoints), None, None) => {
            Some(EndpointSource::Inline(inline(cx, &at.field("endpoints"), endpoints)))
        }
        (None, Some(slices), None) => Some(EndpointSource::Slices {
            port_name: slices.port_name.as_deref().map(|name| cx.names.share(name)),
        }),
        (None, None, Some(node_port)) => self::node_port(cx, &at.field("nodePort"), node_port),
        (None, None, None) => {
            cx.error(at, "the pool says nothing of its endpoints").expected =
                Some("one of endpoints, endpointSlices and nodePort".to_owned());
            None
        }
        _ => {
            cx.error(at, "the pool has several sources of endpoints").expected =
                Some("exactly one of endpoints, endpointSlices and nodePort".to_owned());
            None
        }
    }
}

fn inline(cx: &mut Cx<'_>, at: &At<'_>, specs: &[Endpoint]) -> Vec<InlineEndpoint> {
    let mut seen = HashSet::with_capacity(specs.len());
    let mut endpoints = Vec::with_capacity(specs.len());
    for (index, spec) in specs.iter().enumerate() {
        let at = at.index(index);
        let host = cx.check(&at.field("address"), endpoint_host(&spec.address));
        let port = cx.port(&at.field("port"), spec.port);
        let (Some(host), Some(port)) = (host, port) else { continue };
        if !seen.insert((host.clone(), port)) {
            cx.error(&at, format!("the endpoint {} port {port} stands twice", spec.address));
        }
        let zone = spec.zone.as_deref().map(|zone| cx.names.share(zone));
        endpoints.push(InlineEndpoint { host, port, weight: spec.weight, zone });
    }
    endpoints
}

fn endpoint_host(text: &str) -> Result<EndpointHost, Flaw> {
    if let Ok(address) = address(text) {
        return Ok(EndpointHost::Address(address));
    }
    const EXPECTED: &str = "an IP address or a DNS name; the port has a field of its own";
    // No top-level domain is a number: 10.0.0.256 is a mistyped address.
    let last = text.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Flaw::new(format!("{text:?} is not an IP address"), EXPECTED));
    }
    let name = host_name(text).map_err(|mut flaw| {
        flaw.expected = Some(EXPECTED.to_owned());
        flaw
    })?;
    // RFC 6761 §6.3: it needs no resolver, and whether it is allowed can be told at once.
    let local = last.eq_ignore_ascii_case("localhost");
    Ok(if local { EndpointHost::Address(Ipv4Addr::LOCALHOST.into()) } else { EndpointHost::Name(name) })
}

fn node_port(cx: &mut Cx<'_>, at: &At<'_>, spec: &NodePort) -> Option<EndpointSource> {
    let port = cx.port(&at.field("port"), spec.port);
    let at = at.field("nodes");
    let nodes = spec.nodes.as_ref().map(|names| {
        let names = names.iter().enumerate();
        names
            .filter_map(|(index, name)| cx.check(&at.index(index), object_name(name)))
            .map(Arc::from)
            .collect::<Vec<Arc<str>>>()
    });
    Some(EndpointSource::NodePort { port: port?, nodes })
}

fn upstream_tls(cx: &mut Cx<'_>, at: &At<'_>, spec: &PoolTLS) -> Option<UpstreamTls> {
    let server_name = cx.check(&at.field("serverName"), host_name(&spec.server_name));
    let verification = match (&spec.ca_ref, spec.system_trust, spec.insecure_skip_verify) {
        (Some(reference), false, false) => {
            let at = at.field("caRef");
            let name = cx.check(&at.field("name"), object_name(&reference.name));
            name.map(|name| {
                Verification::Bundle(ObjectRef::new(Kind::ConfigMap, Arc::clone(&cx.id.namespace), name))
            })
        }
        (None, true, false) => Some(Verification::System),
        (None, false, true) => Some(Verification::Insecure),
        (None, false, false) => {
            cx.error(at, "nobody vouches for the endpoints' certificates").expected =
                Some("one of caRef, systemTrust: true and insecureSkipVerify: true".to_owned());
            None
        }
        _ => {
            cx.error(at, "several ways to verify the endpoints' certificates").expected =
                Some("exactly one of caRef, systemTrust: true and insecureSkipVerify: true".to_owned());
            None
        }
    };
    Some(UpstreamTls { server_name: server_name?, verification: verification? })
}

fn health_check(cx: &mut Cx<'_>, at: &At<'_>, spec: &kinds::HealthCheck) -> Option<HealthCheck> {
    let probe = match (&spec.tcp, &spec.http) {
        (Some(_), None) => Some(Probe::Tcp),
        (None, Some(http)) => {
            let at = at.field("http");
            let path = cx.check(&at.field("path"), with_query(&http.path));
            let host = http.host.as_deref();
            let host = host.and_then(|text| cx.check(&at.field("host"), host_name(text)));
            let StatusRange { from, to } =
                http.expected_statuses.clone().unwrap_or(StatusRange { from: 200, to: 399 });
            if from > to || from < 100 || to > 599 {
                cx.error(&at.field("expectedStatuses"), format!("{from} to {to} is no range of statuses"))
                    .expected = Some("from and to between 100 and 599, from not above to".to_owned());
            }
            path.map(|()| Probe::Http {
                path: (*http.path).into(),
                host,
                expected: from..to.saturating_add(1),
            })
        }
        (None, None) | (Some(_), Some(_)) => {
            cx.error(at, "a health check asks one thing").expected =
                Some("exactly one of tcp: {} and http".to_owned());
            None
        }
    };
    let mut interval_of = |name: &str, text: &GoDuration| {
        let at = at.field(name);
        let interval = cx.check(&at, positive(text))?;
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&interval) {
            cx.error(&at, format!("{:?} is out of bounds", text.0)).expected = Some("100ms to 1h".to_owned());
        }
        Some(interval)
    };
    let interval = interval_of("interval", &spec.interval);
    let edge_interval = match &spec.edge_interval {
        Some(text) => interval_of("edgeInterval", text),
        None => interval,
    };
    let timeout = cx.check(&at.field("timeout"), positive(&spec.timeout));
    for (name, threshold) in
        [("healthyThreshold", spec.healthy_threshold), ("unhealthyThreshold", spec.unhealthy_threshold)]
    {
        if threshold == 0 {
            cx.error(&at.field(name), "must be 1 at least");
        }
    }
    let port = cx.optional_port(&at.field("port"), spec.port);
    Some(HealthCheck {
        probe: probe?,
        interval: interval?,
        edge_interval: edge_interval?,
        timeout: timeout?,
        healthy_threshold: spec.healthy_threshold,
        unhealthy_threshold: spec.unhealthy_threshold,
        port,
    })
}
