//! `NodeSet`: the nodes of a member cluster.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::parts::{Status, yes};

/// The nodes of a member cluster: one object, so that a node that goes away is one write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, CustomResource, JsonSchema)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "NodeSet",
    plural = "nodesets",
    category = "portolan",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    doc = "The nodes of a member cluster: one object, so that a node that goes away is one write.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
pub struct NodeSetSpec {
    /// The nodes.
    #[schemars(length(max = 5000))]
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The IP addresses where its node ports answer; the first is used.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 45)))]
    pub addresses: Vec<String>,
    /// Its zone. Decides nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
    /// Whether it is ready and meant for traffic from outside.
    #[serde(default = "yes")]
    pub ready: bool,
}
