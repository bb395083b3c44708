//! Which nodes take traffic, and where?
//!
//! Those that are ready and meant for it. Where none of these is ready, all that are meant count as ready: that a whole cluster dies at once is rarer
//! than that its kubelets cannot say that they live, and health checks find out which. Cost: linear in the nodes.

use std::net::IpAddr;

use portolan_api::kinds::{self, NodeSetSpec};

use super::Refusal;
use crate::view::{Name, Node, View};

/// Which address of a node answers on its node ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NodeAddress {
    /// The internal one: the LB cluster reaches the network of the nodes.
    #[default]
    #[value(name = "InternalIP")]
    Internal,
    /// The external one.
    #[value(name = "ExternalIP")]
    External,
}

impl NodeAddress {
    fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "InternalIP",
            Self::External => "ExternalIP",
        }
    }
}

/// How many nodes the API takes.
const NODES: usize = 5000;

/// How many addresses of a node.
const ADDRESSES: usize = 16;

/// Of how many nodes it is told that they have no address.
const TOLD: usize = 16;

/// The `NodeSet`: every node that has such an address, by name.
pub fn set(view: &View, which: NodeAddress) -> NodeSetSpec {
    let all = none_ready(view, which).is_some();
    let ready = |node: &Node| node.meant && (node.ready || all);
    let mut nodes: Vec<_> =
        view.nodes.iter().filter(|(_, node)| !addresses(node, which).is_empty()).collect();
    // Beyond the bound those that take traffic come first.
    nodes.sort_unstable_by(|(a, x), (b, y)| (!ready(x), a).cmp(&(!ready(y), b)));
    nodes.truncate(NODES);
    nodes.sort_unstable_by_key(|(name, _)| *name);
    let nodes = nodes.into_iter().map(|(name, node)| kinds::Node {
        name: name.to_string(),
        addresses: addresses(node, which).iter().take(ADDRESSES).map(IpAddr::to_string).collect(),
        zone: node.zone.as_deref().map(str::to_owned),
        ready: ready(node),
    });
    NodeSetSpec { nodes: nodes.collect() }
}

/// That no node is ready, though some are meant to take traffic.
pub fn none_ready(view: &View, which: NodeAddress) -> Option<Refusal> {
    let meant = || view.nodes.iter().filter(|(_, node)| node.meant && !addresses(node, which).is_empty());
    let count = meant().count();
    if count == 0 || meant().any(|(_, node)| node.ready) {
        return None;
    }
    let message = format!("none of {count} nodes says that it is ready; all count, and health checks decide");
    Some(Refusal::new("NoNodeReady", message))
}

/// That no node is meant to take traffic, though there are some.
pub fn none_meant(view: &View) -> Option<Refusal> {
    let count = view.nodes.iter().count();
    if count == 0 || view.nodes.iter().any(|(_, node)| node.meant) {
        return None;
    }
    let message = format!(
        "all of {count} nodes are cordoned or excluded from load balancers: by node ports no application is reached"
    );
    Some(Refusal::new("NoNodeMeant", message))
}

/// The first nodes that would take traffic, had they such an address.
pub fn without_address(view: &View, which: NodeAddress) -> Vec<(Name, Refusal)> {
    let nodes = view.nodes.iter().filter(|(_, node)| node.meant && addresses(node, which).is_empty());
    let mut names: Vec<&Name> = nodes.map(|(name, _)| name).collect();
    names.sort_unstable();
    names.truncate(TOLD);
    let message = format!(
        "status.addresses: it has no {}, so it takes no traffic from the LB cluster; see --node-address of portolan-agent",
        which.as_str()
    );
    names.into_iter().map(|name| (name.clone(), Refusal::new("NoNodeAddress", message.clone()))).collect()
}

fn addresses(node: &Node, which: NodeAddress) -> &[IpAddr] {
    match which {
        NodeAddress::Internal => &node.internal,
        NodeAddress::External => &node.external,
    }
}
