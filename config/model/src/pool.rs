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
    /// Between probes of one whose last sixteen do not agree.
    #[serde(serialize_with = "crate::seconds::one")]
    pub edge_interval: Duration,
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

/// Where the endpoints of a cluster may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndpointRanges {
    /// Within these; without, anywhere but at loopback, link-local, multicast and unspecified addresses.
    pub allowed: Option<Arc<[IpNet]>>,
    /// Whatever is allowed, not within these: the LB cluster has them for itself. Empty for a cluster that may use them.
    pub reserved: Arc<[IpNet]>,
}

/// Why an endpoint may not lie at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// It is not within what is allowed.
    NotAllowed,
    /// It is within what is reserved.
    Reserved,
}

impl EndpointRanges {
    /// Whether an endpoint may lie at `address`. An IPv4 address written as IPv6 counts as the IPv4 address.
    pub fn check(&self, address: IpAddr) -> Result<(), Outside> {
        let address = address.to_canonical();
        if self.reserved.iter().any(|range| range.contains(&address)) {
            return Err(Outside::Reserved);
        }
        let allowed = match &self.allowed {
            Some(ranges) => ranges.iter().any(|range| range.contains(&address)),
            None => {
                let link_local = match address {
                    IpAddr::V4(v4) => v4.is_link_local(),
                    IpAddr::V6(v6) => v6.is_unicast_link_local(),
                };
                !(link_local || address.is_loopback() || address.is_multicast() || address.is_unspecified())
            }
        };
        if allowed { Ok(()) } else { Err(Outside::NotAllowed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_lie_where_they_may() {
        let ranges =
            |texts: &[&str]| -> Arc<[IpNet]> { texts.iter().map(|it| it.parse().unwrap()).collect() };
        let may = Ok(());
        let not = Err(Outside::NotAllowed);
        let ten = Some(&["10.0.0.0/8", "fd00::/8"][..]);
        for (address, allowed, reserved, expected) in [
            ("10.1.2.3", None, &[][..], may),
            ("203.0.113.9", None, &[], may),
            ("2001:db8::1", None, &[], may),
            ("127.0.0.1", None, &[], not),
            ("::1", None, &[], not),
            ("::ffff:127.0.0.1", None, &[], not),
            ("169.254.169.254", None, &[], not),
            ("fe80::1", None, &[], not),
            ("0.0.0.0", None, &[], not),
            ("::", None, &[], not),
            ("224.0.0.1", None, &[], not),
            ("ff02::1", None, &[], not),
            ("10.1.2.3", ten, &[], may),
            ("::ffff:10.1.2.3", ten, &[], may),
            ("fd00::1", ten, &[], may),
            ("11.1.2.3", ten, &[], not),
            ("127.0.0.1", Some(&["127.0.0.0/8"]), &[], may),
            ("10.1.2.3", Some(&[]), &[], not),
            ("10.1.2.3", None, &["10.1.0.0/16"], Err(Outside::Reserved)),
            ("10.2.2.3", None, &["10.1.0.0/16"], may),
            ("10.1.2.3", ten, &["10.1.0.0/16"], Err(Outside::Reserved)),
            ("::ffff:10.1.2.3", ten, &["fd01::/16", "10.1.0.0/16"], Err(Outside::Reserved)),
            ("fd01::1", ten, &["fd01::/16"], Err(Outside::Reserved)),
            ("11.1.2.3", ten, &["10.1.0.0/16"], not),
        ] {
            let within = EndpointRanges { allowed: allowed.map(ranges), reserved: ranges(reserved) };
            assert_eq!(within.check(address.parse().unwrap()), expected, "{address} {within:?}");
        }
    }
}
