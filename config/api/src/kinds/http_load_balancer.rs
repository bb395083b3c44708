//! `HTTPLoadBalancer`: hosts, rules and certificates of one application.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{GoDuration, one};

/// Hosts, rules and certificates of one application, with the semantics of the Gateway API's HTTPRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "HTTPLoadBalancer",
    plural = "httploadbalancers",
    shortname = "hlb",
    category = "portolan",
    namespaced,
    status = "HTTPLoadBalancerStatus",
    derive = "PartialEq",
    doc = "Hosts, rules and certificates of one application, with the semantics of the Gateway API's HTTPRoute.",
    printcolumn(name = "Host", type_ = "string", json_path = ".status.host"),
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
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct HTTPLoadBalancerSpec {
    /// The object of a member cluster that this one was synced from. People leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// The hosts of the rules that name none: `name`, `*.suffix` (one label more) or `**.suffix` (any number).
    /// The generated name serves all rules besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub hosts: Vec<String>,
    /// What happens to requests, by host and match. 4096 hosts in all.
    #[schemars(length(min = 1, max = 1024))]
    pub rules: Vec<HTTPRule>,
    /// Certificates for the hosts: for 4096 in all, where one without hosts is for all of the rules'.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub tls: Vec<TLSBinding>,
}

/// How many hosts the rules of an `HTTPLoadBalancer` may name in all, and how many its certificates; one of these without hosts counts as all of the rules'.
pub const HOSTS_IN_ALL: usize = 4096;

/// What is in force of an `HTTPLoadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPLoadBalancerStatus {
    /// The generated host name: `<label>.<cluster>.<lb domain>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Where clients reach it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub addresses: Vec<String>,
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The object of a member cluster that another was synced from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// `Ingress`, say.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace there.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Its name there.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub uid: String,
    /// When it was created there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Time>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(
    "(has(self.backends) && self.backends.size() > 0) || (has(self.filters) && self.filters.exists(f, f.type == 'RequestRedirect'))"
).message("a rule needs backends or a RequestRedirect filter"))]
#[x_kube(validation = Rule::new(
    "!has(self.filters) || !(self.filters.exists(f, f.type == 'RequestRedirect') && self.filters.exists(f, f.type == 'URLRewrite'))"
).message("RequestRedirect and URLRewrite exclude each other"))]
#[serde(rename_all = "camelCase")]
pub struct HTTPRule {
    /// The hosts it is served on, in place of those of the object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub hosts: Vec<String>,
    /// Any of these must match. Without, everything does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub matches: Vec<HTTPMatch>,
    /// What is done to requests and responses; one of a type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub filters: Vec<HTTPFilter>,
    /// Where requests go, by weight. Required unless a filter redirects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub backends: Vec<Backend>,
    /// What overrides the policy's timeouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RuleTimeouts>,
}

/// All that is said must match.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPMatch {
    /// On the path, without the query. Without: every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// On the method, in capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[A-Z][A-Z_-]*$"))]
    pub method: Option<String>,
    /// On headers, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<ValueMatch>,
    /// On query parameters, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub query_params: Vec<ValueMatch>,
}

/// A match on the path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.type == 'RegularExpression' || self.value.startsWith('/')")
    .message("value must start with '/'").field_path(".value"))]
pub struct PathMatch {
    /// How `value` is meant.
    #[serde(rename = "type", default)]
    pub kind: PathMatchType,
    /// The path, the prefix (whole segments) or the regular expression (over the whole path).
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How a path is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path, byte by byte.
    Exact,
    /// Whole segments.
    #[default]
    Prefix,
    /// A regular expression over the whole path.
    RegularExpression,
}

/// A match on the value of a header or a query parameter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValueMatch {
    /// The name of the header (any case) or the parameter.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// How `value` is meant.
    #[serde(rename = "type", default)]
    pub kind: ValueMatchType,
    /// The value, or a regular expression over the whole of it.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// How a value is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// Byte by byte.
    #[default]
    Exact,
    /// A regular expression over the whole value.
    RegularExpression,
}

/// Something that a rule does: the field that `type` names must be set, and no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.requestHeaderModifier) == (self.type == 'RequestHeaderModifier')")
    .message("requestHeaderModifier goes with type RequestHeaderModifier, and with it alone"))]
#[x_kube(validation = Rule::new("has(self.responseHeaderModifier) == (self.type == 'ResponseHeaderModifier')")
    .message("responseHeaderModifier goes with type ResponseHeaderModifier, and with it alone"))]
#[x_kube(validation = Rule::new("has(self.requestRedirect) == (self.type == 'RequestRedirect')")
    .message("requestRedirect goes with type RequestRedirect, and with it alone"))]
#[x_kube(validation = Rule::new("has(self.urlRewrite) == (self.type == 'URLRewrite')")
    .message("urlRewrite goes with type URLRewrite, and with it alone"))]
#[serde(rename_all = "camelCase")]
pub struct HTTPFilter {
    /// Which of the fields below is set.
    #[serde(rename = "type")]
    pub kind: FilterType,
    /// Changes the request before it goes upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes the response before it goes downstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// Answers with a redirect; what it leaves out stays as in the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// Changes host or path of the request that goes upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<URLRewrite>,
}

/// The types of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterType {
    /// See `requestHeaderModifier`.
    RequestHeaderModifier,
    /// See `responseHeaderModifier`.
    ResponseHeaderModifier,
    /// See `requestRedirect`.
    RequestRedirect,
    /// See `urlRewrite`.
    URLRewrite,
}

/// Changes of headers, applied in the order set, add, remove. A name occurs once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderModifier {
    /// Replaces all fields of the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub set: Vec<HeaderValue>,
    /// Adds a field beside what is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub add: Vec<HeaderValue>,
    /// Removes all fields of the name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub remove: Vec<String>,
}

/// A header.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderValue {
    /// Its name, in any case.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Its value.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// The new scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// The new host; no wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    /// The new port. Without: the scheme's own where the scheme is set, else the listener's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// The new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// The status.
    #[serde(default = "found")]
    #[x_kube(validation = Rule::new("self in [301, 302, 303, 307, 308]").message("must be 301, 302, 303, 307 or 308"))]
    pub status_code: u16,
}

fn found() -> u16 {
    302
}

/// A URL's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// A rewrite; what it leaves out stays as in the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct URLRewrite {
    /// The new `Host`; no wildcard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub hostname: Option<String>,
    /// The new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// How a path changes: the field that `type` names must be set, and no other. The query stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("has(self.replaceFullPath) == (self.type == 'ReplaceFullPath')")
    .message("replaceFullPath goes with type ReplaceFullPath, and with it alone"))]
#[x_kube(validation = Rule::new("has(self.replacePrefixMatch) == (self.type == 'ReplacePrefixMatch')")
    .message("replacePrefixMatch goes with type ReplacePrefixMatch, and with it alone"))]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    /// Which of the fields below is set.
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    /// The whole new path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub replace_full_path: Option<String>,
    /// What takes the place of the prefix that matched; only in rules that match prefixes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub replace_prefix_match: Option<String>,
}

/// The ways to change a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// See `replaceFullPath`.
    ReplaceFullPath,
    /// See `replacePrefixMatch`.
    ReplacePrefixMatch,
}

/// A pool and its share of a rule's requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// The name of an `UpstreamPool` of the namespace.
    #[schemars(length(min = 1, max = 253))]
    pub pool: String,
    /// Its share, relative to the sum; 0 means none.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
}

/// Timeouts of one rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleTimeouts {
    /// From the request's head to the response's end; `0s` for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<GoDuration>,
    /// For one try, as `timeouts.perTry` of a `TrafficPolicy`; not longer than `request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<GoDuration>,
}

/// A certificate for some hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TLSBinding {
    /// The hosts; all of the object's without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub hosts: Vec<String>,
    /// The name of a `Secret` of type `kubernetes.io/tls` of the namespace.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}
