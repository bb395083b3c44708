//! Pools as people and agents declare them: where endpoints come from, how they are balanced, checked and spoken to.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;

use crate::host::HostName;
use crate::id::ObjectRef;

/// An `UpstreamPool`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UpstreamPool {
    /// Where its endpoints come from.
    pub source: EndpointSource,
    /// How one is chosen.
    pub balancing: Balancing,
    /// What is spoken to them.
    pub protocol: UpstreamProtocol,
    /// TLS towards them; plaintext without.
    pub tls: Option<UpstreamTls>,
    /// How they are probed; not at all without.
    pub health_check: Option<HealthCheck>,
}

/// Where a pool's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum EndpointSource {
    /// Listed in the pool.
    Inline(Vec<InlineEndpoint>),
    /// `EndpointSlice`s of the namespace whose label `portolan.dev/pool` is the pool's name.
    Slices {
        /// The slices' port of that name; the only port without.
        port_name: Option<Arc<str>>,
    },
    /// A port on the nodes of the namespace's `NodeSet`.
    NodePort {
        /// The port.
        port: NonZeroU16,
        /// The nodes to use; all eligible ones without (`externalTrafficPolicy: Local` names them).
        nodes: Option<Vec<Arc<str>>>,
    },
}

/// An endpoint listed in its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineEndpoint {
    /// An address, or a DNS name that is resolved again as its TTL says.
    pub host: EndpointHost,
    /// The port.
    pub port: NonZeroU16,
    /// Its share among the endpoints; 0 takes it out.
    pub weight: u32,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// An address or a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum EndpointHost {
    /// Literal.
    Address(IpAddr),
    /// To be resolved.
    Name(HostName),
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Balancing {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with fewer requests under way relative to its weight, of two taken at random.
    LeastRequest,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge in plaintext, by ALPN over TLS.
    Http2,
}

/// TLS towards endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct UpstreamTls {
    /// Sent as server name, and verified.
    pub server_name: HostName,
    /// Who vouches for the endpoint.
    pub verification: Verification,
}

/// Who vouches for an endpoint's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Verification {
    /// The machine's own trust store.
    System,
    /// The certificates in that `ConfigMap` of the namespace (key `ca.crt`).
    Bundle(ObjectRef),
    /// Nobody: said in so many words by the pool.
    Insecure,
}

/// An active probe per endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// Between probes of one endpoint.
    #[serde(serialize_with = "crate::seconds::one")]
    pub interval: Duration,
    /// For one probe.
    #[serde(serialize_with = "crate::seconds::one")]
    pub timeout: Duration,
    /// Successes in a row that make an endpoint healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    pub unhealthy_threshold: u32,
    /// Another port than the endpoint's own.
    pub port: Option<NonZeroU16>,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Probe {
    /// A connection.
    Tcp,
    /// `GET path`, over the pool's TLS if it has any.
    Http {
        /// The path.
        path: Arc<str>,
        /// The `Host`; the endpoint's address without.
        host: Option<HostName>,
        /// Statuses that count as success.
        expected: Range<u16>,
    },
}

/// Whether an endpoint may lie at `address`: within `allowed`; without it anywhere but at loopback, link-local, multicast and
/// unspecified addresses. An IPv4 address written as IPv6 counts as the IPv4 address.
pub fn endpoint_allowed(address: IpAddr, allowed: Option<&[IpNet]>) -> bool {
    let address = address.to_canonical();
    match allowed {
        Some(ranges) => ranges.iter().any(|range| range.contains(&address)),
        None => {
            let link_local = match address {
                IpAddr::V4(v4) => v4.is_link_local(),
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            };
            !(link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lie_where_they_may() {
        let ten: &[IpNet] = &["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        for (address, allowed, expected) in [
            ("10.1.2.3", None, true),
            ("203.0.113.9", None, true),
            ("2001:db8::1", None, true),
            ("127.0.0.1", None, false),
            ("::1", None, false),
            ("::ffff:127.0.0.1", None, false),
            ("169.254.169.254", None, false),
            ("fe80::1", None, false),
            ("0.0.0.0", None, false),
            ("::", None, false),
            ("224.0.0.1", None, false),
            ("ff02::1", None, false),
            ("10.1.2.3", Some(ten), true),
            ("::ffff:10.1.2.3", Some(ten), true),
            ("fd00::1", Some(ten), true),
            ("11.1.2.3", Some(ten), false),
            ("127.0.0.1", Some(&["127.0.0.0/8".parse().unwrap()]), true),
            ("10.1.2.3", Some(&[]), false),
        ] {
            assert_eq!(
                endpoint_allowed(address.parse().unwrap(), allowed),
                expected,
                "{address} {allowed:?}"
            );
        }
    }
}
