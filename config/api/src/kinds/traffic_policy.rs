//! `TrafficPolicy`: settings that attach to other objects.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{ByteSize, GoDuration, Status, is_false, yes};

/// Settings that attach to `HTTPLoadBalancer`s of the namespace, or to the `Cluster` that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    shortname = "tp",
    category = "portolan",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    doc = "Settings that attach to HTTPLoadBalancers of the namespace, or to the Cluster that it belongs to.",
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
pub struct TrafficPolicySpec {
    /// What it attaches to.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// What it sets: time limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Of a request's body, in bytes or as `10Mi`; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<ByteSize>,
    /// Whether plain HTTP is answered with a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_redirect: Option<HTTPSRedirect>,
    /// `Strict-Transport-Security` on responses over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<HSTS>,
}

/// What a policy attaches to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TargetRef {
    /// The kind.
    pub kind: TargetKind,
    /// The name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// What policies attach to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// One of the namespace.
    HTTPLoadBalancer,
    /// The one that the namespace belongs to: all that lies in it.
    Cluster,
}

/// The settings of a policy, where it has no targets of its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicySettings {
    /// Time limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Of a request's body, in bytes or as `10Mi`; 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<ByteSize>,
    /// Whether plain HTTP is answered with a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https_redirect: Option<HTTPSRedirect>,
    /// `Strict-Transport-Security` on responses over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<HSTS>,
}

/// Time limits; what is left out comes from the less specific policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// To a connection with the endpoint, TLS included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<GoDuration>,
    /// For one try, to the response's head; from the end of the request's body, where it has one. Where client and endpoint both speak
    /// HTTP/2 also for each wait for more of a response, unless the request has a body, asks for events or is gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try: Option<GoDuration>,
    /// From the request's head to the response's end; `0s` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GoDuration>,
    /// Between two pieces of a body, in either direction; for an upgraded connection too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<GoDuration>,
}

/// What is done with requests over plain HTTP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPSRedirect {
    /// Whether they are redirected; `false` undoes what a less specific policy says.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The status.
    #[serde(default = "moved")]
    #[x_kube(validation = Rule::new("self in [301, 302, 307, 308]").message("must be 301, 302, 307 or 308"))]
    pub status_code: u16,
    /// The port in the new URL, if not 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

fn moved() -> u16 {
    301
}

/// RFC 6797.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HSTS {
    /// How long clients remember; `0s` tells them to forget.
    pub max_age: GoDuration,
    /// Whether names below the host are meant too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub include_subdomains: bool,
    /// Whether the owner asks for a place in the browsers' lists.
    #[serde(default, skip_serializing_if = "is_false")]
    pub preload: bool,
}
