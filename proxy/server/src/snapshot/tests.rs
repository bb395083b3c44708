use std::net::{IpAddr, Ipv4Addr};

use portolan_model::host::HostName;
use portolan_model::plan::{NamedEndpoint, Pool};
use portolan_model::pool::{Balancing, EndpointRanges, UpstreamProtocol};
use portolan_model::proxy::ListenerTls;

use super::*;

fn listener(name: &str, port: u16, tls: bool) -> Arc<Listener> {
    Arc::new(Listener {
        name: name.into(),
        address: ListenAddress::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        port: NonZeroU16::new(port).unwrap(),
        tls: tls.then(|| ListenerTls { self_signed: true, ..ListenerTls::default() }),
        http2: true,
        proxy_protocol: None,
        max_connections: None,
    })
}

fn update(revision: u64, listeners: &[&Arc<Listener>]) -> Update {
    let listeners = listeners.iter().map(|listener| Arc::clone(listener)).collect();
    let proxy = Arc::new(Proxy { listeners, ..Proxy::fallback() });
    Update { revision, proxy: Some(proxy), ..Update::default() }
}

/// Connections are accepted with the old settings until the listeners follow a snapshot, and those that the kernel has
/// queued for a removed one even later.
#[test]
fn a_connection_accepted_with_old_settings_finds_its_tls() {
    portolan_certs::install_provider().unwrap();
    let metrics = Arc::new(Metrics::new(1, &[], "0.0.0").unwrap());
    let (before, other) = (listener("before", 8443, true), listener("other", 9443, true));
    for (what, after) in [
        ("unchanged", vec![&before]),
        ("renamed", vec![&listener("after", 8443, true)]),
        ("renamed to another's name", vec![&listener("other", 8443, true)]),
        ("moved", vec![&listener("before", 8444, true)]),
        ("now in plaintext", vec![&listener("before", 8443, false)]),
        ("removed", vec![]),
    ] {
        let mut builder = SnapshotBuilder::new(Arc::default(), Arc::clone(&metrics), 0).unwrap();
        assert!(builder.apply(&update(1, &[&before, &other])).is_none_or(|broken| broken.is_empty()));
        assert!(builder.apply(&update(2, &after)).is_none_or(|broken| broken.is_empty()));
        assert!(builder.snapshot().listener_tls(&before).is_some(), "{what}");
        builder.apply(&update(3, &[&other]));
        builder.apply(&update(4, &[&other]));
        assert!(builder.snapshot().listener_tls(&before).is_none(), "{what}: it is not kept for ever");
    }
}

/// Regression: addresses that a cluster may no longer have got requests for as long as the name did not resolve again.
#[test]
fn what_a_name_came_to_is_dropped_when_its_cluster_may_no_longer_have_it() {
    let metrics = Arc::new(Metrics::new(1, &[], "0.0.0").unwrap());
    let mut builder = SnapshotBuilder::new(Arc::default(), metrics, 0).unwrap();
    let id = PoolId::new("tenant-paris", "web");
    let named = NamedEndpoint {
        name: HostName::parse("web.example.com").unwrap(),
        port: NonZeroU16::new(80).unwrap(),
        weight: 1,
        zone: None,
    };
    let pool = |allowed: &str| Pool {
        endpoints: Vec::new(),
        names: vec![named.clone()],
        ranges: EndpointRanges {
            allowed: Some(Arc::new([allowed.parse().unwrap()])),
            ..EndpointRanges::default()
        },
        balancing: Balancing::RoundRobin,
        protocol: UpstreamProtocol::Http1,
        tls: None,
        health_check: None,
    };
    let follow = |builder: &mut SnapshotBuilder, allowed| {
        let pools = vec![(id.clone(), Some(Arc::new(pool(allowed))))];
        builder.apply(&Update { pools, revision: 2, ..Update::default() });
        let snapshot = builder.snapshot();
        let endpoints = &snapshot.pools.get(&id).unwrap().endpoints;
        endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>()
    };
    assert!(follow(&mut builder, "10.0.0.0/8").is_empty());
    let found = ["10.1.0.1:80", "10.2.0.1:80"].map(|address| Endpoint {
        address: address.parse().unwrap(),
        weight: 1,
        zone: None,
        terminating: false,
    });
    builder.resolved(&id, found.to_vec());
    assert_eq!(follow(&mut builder, "10.0.0.0/8"), ["10.1.0.1:80", "10.2.0.1:80"]);
    assert_eq!(follow(&mut builder, "10.1.0.0/16"), ["10.1.0.1:80"]);
    // Back again: what was dropped comes with the next answer.
    assert_eq!(follow(&mut builder, "10.0.0.0/8"), ["10.1.0.1:80"]);
}
