//! What joins the nodes of all clusters, and the host?
//!
//! A namespace with a routed link to each node. Where a packet for a pod goes depends on where it comes from, for pods of different clusters have
//! the same addresses: each cluster has a routing table, used for what its own nodes send. A cut is a rule that drops packets without a
//! word, as a broken network does; connections notice nothing until they time out, and go on if it is healed before.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;

use super::{Namespace, ip};
use crate::addresses::{Addresses, PODS};

/// The table of the first cluster.
const TABLE: u32 = 100;

/// The network between the clusters of a fleet.
#[derive(Debug)]
pub struct Wan {
    namespace: Namespace,
    addresses: Addresses,
}

/// A connection that can be cut: of one node, or between two sets of nodes.
#[derive(Clone, Debug)]
pub struct Link {
    wan: Arc<Wan>,
    /// Elements of the sets `cut` and `parted`.
    elements: Vec<(&'static str, String)>,
}

impl Wan {
    /// Makes it, and joins the host to it.
    pub(crate) fn create(addresses: Addresses) -> Result<Self> {
        let fleet = addresses.fleet;
        let namespace = Namespace::create(&format!("rig{fleet}-wan"))?;
        let name = namespace.name();
        let (host, wan) = addresses.host();
        ip(
            None,
            &format!(
                "link add rig{fleet} type veth peer name host netns {name}\n\
                 address add {host}/30 dev rig{fleet}\n\
                 link set rig{fleet} up"
            ),
        )?;
        namespace.ip(&format!("address add {wan}/30 dev host\nlink set host up"))?;
        let route = |range| ip(None, &format!("route add {range} via {wan}"));
        route(addresses.nodes())?;
        route(addresses.all_load_balancers())?;
        namespace.nft(
            "table inet rig {
               set cut { type ifname; }
               set parted { type ifname . ifname; }
               chain forward {
                 type filter hook forward priority 0;
                 iifname @cut drop
                 oifname @cut drop
                 iifname . oifname @parted drop
               }
             }",
        )?;
        Ok(Self { namespace, addresses })
    }

    /// Joins a node's namespace to it; `pods` is the range of its pods, which the other nodes of its cluster reach.
    pub(crate) fn join(&self, node: &Namespace, number: u8, cluster: u8, pods: &str) -> Result<()> {
        let (address, gateway) = self.addresses.node(number);
        let (link, table) = (interface(number), TABLE + u32::from(cluster));
        node.ip(&format!(
            "link add eth0 type veth peer name {link} netns {}\n\
             address add {address}/30 dev eth0\n\
             link set eth0 up\n\
             route add default via {gateway}",
            self.namespace.name()
        ))?;
        // Outside of its cluster nobody knows the way back to a pod.
        node.nft(&format!(
            "table ip rig {{
               chain postrouting {{
                 type nat hook postrouting priority srcnat;
                 ip saddr {PODS} ip daddr != {PODS} oifname eth0 masquerade
               }}
             }}"
        ))?;
        self.namespace.ip(&format!(
            "address add {gateway}/30 dev {link}\n\
             link set {link} up\n\
             rule add iif {link} lookup {table}\n\
             route add {pods} via {address} table {table}"
        ))
    }

    /// Sends a range of addresses to a node, who takes all of them for its own.
    pub(crate) fn route_to(&self, node: &Namespace, address: Ipv4Addr, range: &str) -> Result<()> {
        node.ip(&format!("route add local {range} dev lo"))?;
        self.namespace.ip(&format!("route add {range} via {address}"))
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Link {
    /// A node's link to everybody else.
    pub(crate) fn of(wan: &Arc<Wan>, node: u8) -> Self {
        Self { wan: Arc::clone(wan), elements: vec![("cut", interface(node))] }
    }

    /// What joins some nodes with others.
    pub(crate) fn between(wan: &Arc<Wan>, some: &[u8], others: &[u8]) -> Self {
        let pairs = some.iter().flat_map(|&a| others.iter().map(move |&b| (interface(a), interface(b))));
        let both = pairs.flat_map(|(a, b)| [format!("{a} . {b}"), format!("{b} . {a}")]);
        Self { wan: Arc::clone(wan), elements: both.map(|pair| ("parted", pair)).collect() }
    }

    /// Drops every packet on it, in both directions, until it is healed.
    pub fn cut(&self) -> Result<()> {
        self.change(&["add"])
    }

    /// Lets packets pass again.
    pub fn heal(&self) -> Result<()> {
        // To delete what is not there would be an error.
        self.change(&["add", "delete"])
    }

    fn change(&self, verbs: &[&str]) -> Result<()> {
        let lines = verbs.iter().flat_map(|verb| {
            self.elements
                .iter()
                .map(move |(set, element)| format!("{verb} element inet rig {set} {{ {element} }}\n"))
        });
        self.wan.namespace.nft(&lines.collect::<String>())
    }
}

/// The wan's end of a node's link.
fn interface(node: u8) -> String {
    format!("n{node}")
}

#[cfg(test)]
mod tests;
