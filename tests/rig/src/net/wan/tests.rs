use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::*;
use crate::fleet::claim::Claim;
use crate::net::join_pod;

const PORT: u16 = 8080;

/// Whom a listener at an address sees when somebody connects to it.
fn seen(from: Option<&Namespace>, address: Ipv4Addr, at: &Namespace) -> String {
    let to = SocketAddr::from((address, PORT));
    let listener = at.run(|| TcpListener::bind(to)).expect("inside").expect("a listener");
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(5)).expect("a connection");
    let _client = from.map_or_else(connect, |from| from.run(connect).expect("inside"));
    listener.accept().expect("it comes").1.ip().to_string()
}

#[test]
fn packets_find_their_way_by_where_they_come_from() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let parent = tempfile::tempdir().expect("a folder");
    let claim = Claim::first_free(parent.path()).expect("a number is free");
    let addresses = Addresses { fleet: claim.number() };
    let wan = Wan::create(addresses).expect("a wan");
    // Node 1 and 2 are of one cluster, node 3 of another, whose pods have the addresses of node 1's.
    let place = |node: u8, cluster: u8, pods: u8| {
        let name = format!("rig{}-{node}", addresses.fleet);
        let (namespace, address) = (Namespace::create(&name).expect("a namespace"), addresses.node(node).0);
        wan.join(&namespace, node, cluster, &format!("10.244.{pods}.0/24")).expect("joined");
        let pod = Namespace::create(&format!("{name}-pod")).expect("a namespace");
        let own = Ipv4Addr::new(10, 244, pods, 2);
        join_pod(&namespace, &pod, own).expect("joined");
        (namespace, address, pod, own)
    };
    let (one, one_at, one_pod, one_pod_at) = place(1, 0, 1);
    let (two, two_at, two_pod, two_pod_at) = place(2, 0, 2);
    let (three, three_at, three_pod, three_pod_at) = place(3, 1, 1);
    assert_eq!(one_pod_at, three_pod_at);

    let rows: [(&str, Option<&Namespace>, Ipv4Addr, &Namespace, Ipv4Addr); 9] = [
        ("host to node", None, three_at, &three, addresses.host().0),
        ("node to node", Some(&one), three_at, &three, one_at),
        ("pod to pod beyond", Some(&one_pod), two_pod_at, &two_pod, one_pod_at),
        ("and back", Some(&two_pod), one_pod_at, &one_pod, two_pod_at),
        ("node to pod beyond", Some(&two), one_pod_at, &one_pod, two_at),
        ("pod to a node of its cluster", Some(&one_pod), two_at, &two, one_at),
        ("pod to another cluster", Some(&one_pod), three_at, &three, one_at),
        ("pod of the other cluster", Some(&three_pod), one_at, &one, three_at),
        ("node to its pod", Some(&three), three_pod_at, &three_pod, three_at),
    ];
    for (what, from, to, at, source) in rows {
        assert_eq!(seen(from, to, at), source.to_string(), "{what}");
    }

    wan.route_to(&three, three_at, &addresses.load_balancers(1)).expect("routed");
    let service = Ipv4Addr::new(10, 200 + addresses.fleet, 1, 77);
    assert_eq!(seen(None, service, &three), addresses.host().0.to_string());
    assert_eq!(seen(Some(&one_pod), service, &three), one_at.to_string());
}
