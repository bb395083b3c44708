use std::net::{IpAddr, Ipv4Addr};

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
