//! `UpstreamPool`: a named set of endpoints, how it is balanced, checked and spoken to.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{GoDuration, LocalRef, Status, is_false, one};

/// A named set of endpoints, how it is balanced, checked and spoken to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "UpstreamPool",
    plural = "upstreampools",
    shortname = "pool",
    category = "portolan",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    doc = "A named set of endpoints, how it is balanced, checked and spoken to.",
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol"),
    printcolumn(name = "Balancing", type_ = "string", json_path = ".spec.balancing"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(
        name = "Resolved",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='ResolvedRefs')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new(
    "[has(self.endpoints), has(self.endpointSlices), has(self.nodePort)].filter(x, x).size() == 1"
).message("exactly one of endpoints, endpointSlices and nodePort must be set"))]
#[serde(rename_all = "camelCase")]
pub struct UpstreamPoolSpec {
    /// The endpoints themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub endpoints: Option<Vec<Endpoint>>,
    /// The `EndpointSlice`s of the namespace whose label `portolan.dev/pool` is the pool's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_slices: Option<EndpointSlices>,
    /// A port on the nodes of the namespace's `NodeSet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<NodePort>,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub balancing: Balancing,
    /// What is spoken to endpoints.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS towards endpoints; plaintext without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PoolTLS>,
    /// How endpoints are probed; not at all without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// An endpoint listed in its pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Endpoint {
    /// An IP address, or a DNS name that is resolved again as its TTL says.
    #[schemars(length(min = 1, max = 253))]
    pub address: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Its share among the endpoints; 0 takes it out.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// Its zone. Decides nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
}

/// Which port of the pool's `EndpointSlice`s.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlices {
    /// The port of that name; the only port without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub port_name: Option<String>,
}

/// A port on nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodePort {
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The names of the nodes to use; all eligible ones without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 5000), inner(length(min = 1, max = 253)))]
    pub nodes: Option<Vec<String>>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Balancing {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with fewer requests under way relative to its weight, of two taken at random.
    LeastRequest,
}

/// What is spoken to endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    HTTP1,
    /// HTTP/2: by prior knowledge in plaintext, by ALPN over TLS.
    HTTP2,
}

/// TLS towards endpoints, and who vouches for their certificates.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "[has(self.caRef), has(self.systemTrust) && self.systemTrust, has(self.insecureSkipVerify) && self.insecureSkipVerify].filter(x, x).size() == 1"
).message("exactly one of caRef, systemTrust: true and insecureSkipVerify: true must be set"))]
#[serde(rename_all = "camelCase")]
pub struct PoolTLS {
    /// Sent as server name, and verified.
    #[schemars(length(min = 1, max = 253))]
    pub server_name: String,
    /// A `ConfigMap` of the namespace with CA certificates under `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<LocalRef>,
    /// The machine's own trust store.
    #[serde(default, skip_serializing_if = "is_false")]
    pub system_trust: bool,
    /// Nobody: any certificate is taken.
    #[serde(default, skip_serializing_if = "is_false")]
    pub insecure_skip_verify: bool,
}

/// An active probe of each endpoint: `tcp` or `http`, exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.tcp) != has(self.http)").message("exactly one of tcp and http must be set"))]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// A connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TCPProbe>,
    /// A `GET`, over the pool's TLS if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HTTPProbe>,
    /// Between probes of one endpoint; `100ms` to `1h`.
    #[serde(default = "five_seconds")]
    pub interval: GoDuration,
    /// Between probes of an endpoint while its last sixteen do not agree, so that its death or recovery is known sooner. `100ms` to `1h`; as `interval`
    /// where it is not set, or longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge_interval: Option<GoDuration>,
    /// For one probe.
    #[serde(default = "two_seconds")]
    pub timeout: GoDuration,
    /// Successes in a row that make an endpoint healthy.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
    /// Failures in a row that make it unhealthy.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
    /// Another port than the endpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

fn five_seconds() -> GoDuration {
    GoDuration("5s".into())
}

fn two_seconds() -> GoDuration {
    GoDuration("2s".into())
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

/// A probe that connects, and no more: `tcp: {}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TCPProbe {}

/// A probe that asks for a path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPProbe {
    /// The path.
    #[serde(default = "slash")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
    /// The `Host`; the endpoint's address without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host: Option<String>,
    /// The statuses that count as success; 200 to 399 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_statuses: Option<StatusRange>,
}

fn slash() -> String {
    "/".into()
}

/// A range of statuses, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.from <= self.to").message("from must not be above to"))]
pub struct StatusRange {
    /// The first.
    #[schemars(range(min = 100, max = 599))]
    pub from: u16,
    /// The last.
    #[schemars(range(min = 100, max = 599))]
    pub to: u16,
}
