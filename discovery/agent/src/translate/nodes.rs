//! Which nodes take traffic, and where?

use std::net::IpAddr;

use portolan_api::kinds::{self, NodeSetSpec};

use crate::view::{Node, View};

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

/// How many nodes the API takes.
const NODES: usize = 5000;

/// How many addresses of a node.
const ADDRESSES: usize = 16;

/// The `NodeSet`: every node that has such an address, by name.
pub fn set(view: &View, which: NodeAddress) -> NodeSetSpec {
    let mut nodes: Vec<_> =
        view.nodes.iter().filter(|(_, node)| !addresses(node, which).is_empty()).collect();
    // Beyond the bound those that take traffic come first.
    nodes.sort_unstable_by(|(a, x), (b, y)| (!x.eligible, a).cmp(&(!y.eligible, b)));
    nodes.truncate(NODES);
    nodes.sort_unstable_by_key(|(name, _)| *name);
    let nodes = nodes.into_iter().map(|(name, node)| kinds::Node {
        name: name.to_string(),
        addresses: addresses(node, which).iter().take(ADDRESSES).map(IpAddr::to_string).collect(),
        zone: node.zone.as_deref().map(str::to_owned),
        ready: node.eligible,
    });
    NodeSetSpec { nodes: nodes.collect() }
}

fn addresses(node: &Node, which: NodeAddress) -> &[IpAddr] {
    match which {
        NodeAddress::Internal => &node.internal,
        NodeAddress::External => &node.external,
    }
}
