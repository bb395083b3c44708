//! `Cluster`: one member cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{SecretRef, is_false};

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
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.locality.region"),
    printcolumn(name = "Weight", type_ = "integer", json_path = ".spec.weight"),
    printcolumn(name = "Drain", type_ = "boolean", json_path = ".spec.drain"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// Where it is. Decides nothing yet.
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
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 49)))]
    pub allowed_endpoint_cidrs: Option<Vec<String>>,
    /// The `Secret` for `*.<cluster>.<lb domain>`; in the cluster's namespace unless it names another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_ref: Option<SecretRef>,
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
    /// `Accepted`, `ResolvedRefs` and `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// Where a cluster is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Locality {
    /// Such as `eu-west`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// Such as `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
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
