//! Who has which address?
//!
//! All follows from three numbers: the fleet's (0 to 15), the node's within the fleet (from 1) and the cluster's within the fleet (from 0), so
//! that sixteen fleets stand beside each other on one machine. Pods and Services of different clusters have the same addresses, as in
//! real life.

use std::net::Ipv4Addr;

/// How many fleets fit on a machine.
pub(crate) const FLEETS: u8 = 16;
/// How many nodes fit into a fleet.
pub(crate) const NODES: u8 = 15;
/// The addresses of Services, in every cluster.
pub(crate) const SERVICES: &str = "10.96.0.0/16";
/// The address of the API server as a Service.
pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The addresses of pods, in every cluster.
pub(crate) const PODS: &str = "10.244.0.0/16";

/// The addresses of one fleet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// The number of the fleet.
    pub(crate) fleet: u8,
}

impl Addresses {
    /// A node's, and that of the wan's end of its link; together a /30.
    pub(crate) fn node(self, node: u8) -> (Ipv4Addr, Ipv4Addr) {
        let net = self.fleet * 16 + node;
        (Ipv4Addr::new(172, 30, net, 2), Ipv4Addr::new(172, 30, net, 1))
    }

    /// The range of all nodes.
    pub(crate) fn nodes(self) -> String {
        format!("172.30.{}.0/20", self.fleet * 16)
    }

    /// The host's, and that of the wan's end of its link; together a /30.
    pub(crate) fn host(self) -> (Ipv4Addr, Ipv4Addr) {
        (Ipv4Addr::new(172, 29, self.fleet, 2), Ipv4Addr::new(172, 29, self.fleet, 1))
    }

    /// The range for a cluster's Services of type LoadBalancer.
    pub(crate) fn load_balancers(self, cluster: u8) -> String {
        format!("10.{}.{cluster}.0/24", 200 + self.fleet)
    }

    /// The range for those of all clusters.
    pub(crate) fn all_load_balancers(self) -> String {
        format!("10.{}.0.0/16", 200 + self.fleet)
    }
}

/// The range of a node's pods: by its number within its cluster, from 1.
pub(crate) fn pods(node: usize) -> String {
    format!("10.244.{node}.0/24")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fleets_do_not_overlap() {
        let (first, last) = (Addresses { fleet: 0 }, Addresses { fleet: FLEETS - 1 });
        assert_eq!(first.node(1), (Ipv4Addr::new(172, 30, 1, 2), Ipv4Addr::new(172, 30, 1, 1)));
        assert_eq!(last.node(NODES).0, Ipv4Addr::new(172, 30, 255, 2));
        assert_eq!((first.nodes(), last.nodes()), ("172.30.0.0/20".to_owned(), "172.30.240.0/20".to_owned()));
        assert_eq!(last.host().0, Ipv4Addr::new(172, 29, 15, 2));
        assert_eq!(last.load_balancers(2), "10.215.2.0/24");
        assert_eq!(last.all_load_balancers(), "10.215.0.0/16");
        assert_eq!(pods(2), "10.244.2.0/24");
    }
}
