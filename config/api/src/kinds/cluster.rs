//! `Cluster`: one member cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{Locality, SecretRef, is_false};

/// One member cluster. Its name is one DNS label; its objects live in the namespace `tenant-<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    category = "portolan",
    status = "ClusterStatus",
    derive = "PartialEq",
    doc = "One member cluster. Its name is one DNS label; its objects live in the namespace tenant-<name>.",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 56")
        .message("the name must be one DNS label of at most 56 characters"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Synced", type_ = "string", json_path = ".status.conditions[?(@.type=='Synced')].status"),
    printcolumn(name = "Seen", type_ = "date", json_path = ".status.agent.lastSeen"),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agent.version"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.counts.nodes"),
    printcolumn(name = "Apps", type_ = "integer", json_path = ".status.counts.loadBalancers"),
    printcolumn(name = "Hosts", type_ = "integer", json_path = ".status.counts.hosts"),
    printcolumn(name = "Endpoints", type_ = "integer", json_path = ".status.counts.endpoints"),
    printcolumn(name = "Faults", type_ = "integer", json_path = ".status.counts.faults"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".spec.weight"),
    printcolumn(name = "Drain", type_ = "boolean", json_path = ".spec.drain"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.locality.region", priority = 1),
    printcolumn(
        name = "Limits",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='WithinLimits')].reason",
        priority = 1
    ),
    printcolumn(name = "Suffix", type_ = "string", json_path = ".status.hostSuffix", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Where it is. Of the hosts that several clusters serve, those nearest to the proxies (`Proxy.spec.locality`) that can take a request do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// Its share of the hosts that several clusters serve.
    #[serde(default = "hundred")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: u32,
    /// Whether it gets nothing new of these.
    #[serde(default, skip_serializing_if = "is_false")]
    pub drain: bool,
    /// The customer hosts that it may claim; without: its generated names only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub allowed_domains: Vec<AllowedDomain>,
    /// Where its endpoints may lie; anything but loopback, link-local, multicast and unspecified addresses without.
    #[serde(default, rename = "allowedEndpointCIDRs", skip_serializing_if = "Option::is_none")]
    // What the API server's admission can check in one go.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 49)))]
    pub allowed_endpoint_cidrs: Option<Vec<String>>,
    /// The `Secret` for `*.<cluster>.<lb domain>`; in the cluster's namespace unless it names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ref: Option<SecretRef>,
    /// How the LB cluster reaches its applications. Read by its agent.
    #[serde(default)]
    pub reach: Reach,
    /// Names of foreign `IngressClass`es, or of classes without such an object, that its agent serves beside `portolan`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub classes: Vec<String>,
    /// Whether it is the LB cluster itself, whose own node, pod and service addresses it may then use.
    #[serde(default, skip_serializing_if = "is_false")]
    pub integrated: bool,
    /// How much it may have; the oldest objects count first, and what is beyond is left out with a condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ClusterLimits>,
}

/// How applications of a member cluster are reached from the LB cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reach {
    /// A node port on its nodes.
    #[default]
    NodePort,
    /// The addresses of pods: their network is routed.
    PodIP,
    /// The address of the cluster's own ingress, as the `Ingress` has it in its status.
    Gateway,
}

/// How much a member cluster may have. Nothing said is no limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLimits {
    /// `HTTPLoadBalancer`s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub load_balancers: Option<u32>,
    /// Rules of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub routes: Option<u32>,
    /// Hosts of all of them, beside the generated ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub hosts: Option<u32>,
    /// Endpoints of all its pools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub endpoints: Option<u32>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            locality: None,
            weight: hundred(),
            drain: false,
            allowed_domains: Vec::new(),
            allowed_endpoint_cidrs: None,
            certificate_ref: None,
            reach: Reach::default(),
            classes: Vec::new(),
            integrated: false,
            limits: None,
        }
    }
}

fn hundred() -> u32 {
    100
}

/// What is in force of a `Cluster`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What its generated names end in: `<cluster>.<lb domain>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_suffix: Option<String>,
    /// Its agent, once there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// What it has in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// `Accepted`, `ResolvedRefs`, `Programmed`, `WithinLimits`: none of its objects is left out for one of `limits`, `Synced`:
    /// what its agent may write is written, and `Ready`: its agent was seen lately, and nothing is wrong with itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The agent of a cluster, as the controller saw it last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it gave the last sign of life; written once a minute at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// What a cluster has in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Nodes that take traffic.
    #[serde(default)]
    pub nodes: u32,
    /// `HTTPLoadBalancer`s.
    #[serde(default)]
    pub load_balancers: u32,
    /// Rules of all of them.
    #[serde(default)]
    pub routes: u32,
    /// Hosts of all of them, beside the generated ones.
    #[serde(default)]
    pub hosts: u32,
    /// Endpoints of all its pools.
    #[serde(default)]
    pub endpoints: u32,
    /// Objects that something is wrong with: their conditions say what.
    #[serde(default)]
    pub faults: u32,
}

/// A domain that a cluster may claim hosts under.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AllowedDomain {
    /// The suffix, itself included; `*` for every domain.
    #[schemars(length(min = 1, max = 253))]
    pub suffix: String,
    /// What happens where other clusters claim the same host.
    #[serde(default)]
    pub sharing: Sharing,
}

/// What happens where several clusters claim a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Sharing {
    /// The first owns it.
    #[default]
    Exclusive,
    /// All that share it serve it together.
    Shared,
}
