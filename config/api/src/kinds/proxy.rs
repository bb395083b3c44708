//! `Proxy`: what every proxy replica does alike.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{GoDuration, Locality, SecretRef, Status, is_false, yes};
use super::traffic_policy::PolicySettings;

/// What every proxy replica does alike. Only the one named `default` counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "Proxy",
    plural = "proxies",
    category = "portolan",
    status = "Status",
    derive = "PartialEq",
    doc = "What every proxy replica does alike. Only the one named default counts.",
    printcolumn(name = "Domain", type_ = "string", json_path = ".spec.lbDomain"),
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
#[serde(rename_all = "camelCase")]
pub struct ProxySpec {
    /// Below it lie the generated names: `<label>.<cluster>.<lb domain>`.
    #[schemars(length(min = 1, max = 253))]
    pub lb_domain: String,
    /// Where the proxies are. A request of a host that several clusters serve goes to the nearest of those that can take it: in the same
    /// zone, else in the same region, else anywhere; among these by weight. By weight alone without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// Where connections are accepted.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<Listener>,
    /// Whose word about the client is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// On connections and heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// What is logged of each request; JSON lines on standard output without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// The cluster whose rules without a host catch what nobody else serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub catch_all_cluster: Option<String>,
    /// Worker threads; one per core without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<u16>,
    /// How long a drain may take; `30s` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<GoDuration>,
    /// Below all other policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_policy: Option<PolicySettings>,
    /// What the LB cluster has for itself: its own node, pod and service ranges. Endpoints of a `Cluster` that is not `integrated` may
    /// not lie there, whatever its `allowedEndpointCIDRs` say.
    #[serde(default, rename = "reservedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 49)))]
    pub reserved_cidrs: Vec<String>,
}

/// Where connections are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.tls) || self.protocol == 'HTTPS'")
    .message("tls goes with protocol HTTPS alone").field_path(".tls"))]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name: one DNS label, unique.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// `*` for every address of both families, or one IP address: `0.0.0.0` for IPv4, `::` for IPv6.
    #[serde(default = "any")]
    #[schemars(length(min = 1, max = 45))]
    pub address: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// Whether HTTP/2 is spoken too: by ALPN over TLS, by prior knowledge in plaintext.
    #[serde(default = "yes")]
    pub http2: bool,
    /// TLS; with protocol `HTTPS` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTLS>,
    /// From whom a PROXY protocol header is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections at once; only the limit of the process without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: Option<u32>,
}

fn any() -> String {
    "*".into()
}

/// What a listener speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerProtocol {
    /// In plaintext.
    HTTP,
    /// Over TLS.
    HTTPS,
}

/// TLS towards clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTLS {
    /// The lowest version spoken.
    #[serde(default)]
    pub min_version: TLSVersion,
    /// IANA names of the cipher suites offered, in order; the safe ones without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub cipher_suites: Vec<String>,
    /// The `Secret` for unknown and missing server names, which are refused without; in `portolan-system` unless it
    /// names another namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_certificate_ref: Option<SecretRef>,
    /// Whether a certificate of the process's own making serves where no other does.
    #[serde(default, skip_serializing_if = "is_false")]
    pub self_signed: bool,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TLSVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Versions 1 and 2 of HAProxy's PROXY protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProxyProtocol {
    /// From whom it is read.
    #[serde(rename = "trustedCIDRs")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 49)))]
    pub trusted_cidrs: Vec<String>,
    /// Whether connections without it are closed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
}

/// Whose word about the client is believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAddress {
    /// Proxies in front: their `X-Forwarded-*` and `X-Request-Id` are kept, others' are replaced.
    #[serde(default, rename = "trustedCIDRs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 49)))]
    pub trusted_cidrs: Vec<String>,
    /// How many proxies stand in front, where their addresses are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 16))]
    pub trusted_hops: Option<u8>,
}

/// On connections and heads; what is left out has a safe default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Connections at once in the process; derived from the open-file limit without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: Option<u32>,
    /// A request's head, in bytes; 61440 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_header_bytes: Option<u32>,
    /// Fields of a request's head; 100 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 256))]
    pub max_headers: Option<u16>,
    /// From the first byte to the end of a head, and for a TLS handshake; `10s` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_timeout: Option<GoDuration>,
    /// Bytes a second below which a head or body is given up; 240 without, 0 for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub min_rate: Option<u32>,
    /// Between requests on a connection; `60s` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GoDuration>,
    /// After which a connection is closed once its requests are done; never without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_connection_age: Option<GoDuration>,
    /// Requests on one HTTP/2 connection at once; 100 without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_concurrent_streams: Option<u32>,
    /// Whether `%2F` and `%5C` in a path are refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refuse_encoded_slash: bool,
}

/// Where requests are logged.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.path) == (self.output == 'File')")
    .message("path goes with output File, and with it alone"))]
pub struct AccessLog {
    /// Where to. (Not `Off`: YAML readers of the older kind take that for `false`.)
    #[serde(default)]
    pub output: AccessLogOutput,
    /// The file that lines are appended to; opened again on SIGHUP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub path: Option<String>,
}

/// Where requests are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogOutput {
    /// Nowhere.
    None,
    /// JSON lines on standard output.
    #[default]
    Stdout,
    /// JSON lines appended to a file.
    File,
}
