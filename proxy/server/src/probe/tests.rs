use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::v2::server::{H2Accept, HttpSession as ServerSession, handshake};
use pingora_core::protocols::l4::stream::Stream;
use pingora_http::ResponseHeader;
use portolan_metrics::Metrics;
use portolan_model::plan::Endpoint;
use portolan_model::pool::{Balancing, EndpointRanges, UpstreamProtocol};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;
use crate::pool::Endpoints;
use crate::snapshot::SnapshotBuilder;

fn settings(timeout: Duration) -> HealthCheck {
    HealthCheck {
        probe: Probe::Http { path: "/healthz".into(), host: None, expected: 200..300 },
        interval: Duration::from_secs(3600),
        timeout,
        healthy_threshold: 1,
        unhealthy_threshold: 1,
        edge_interval: Duration::from_secs(3600),
        port: None,
    }
}

fn plan(address: std::net::SocketAddr, health_check: Option<HealthCheck>) -> Pool {
    Pool {
        endpoints: vec![Endpoint { address, weight: 1, zone: None, terminating: false }],
        names: Vec::new(),
        ranges: EndpointRanges::default(),
        balancing: Balancing::RoundRobin,
        protocol: UpstreamProtocol::Http2,
        tls: None,
        health_check,
    }
}

fn id() -> PoolId {
    PoolId::new("tenant-paris", "web")
}

/// Connections to an HTTP/2 server: how many there were, how many there are, and how their streams were reset.
#[derive(Default)]
struct Seen {
    accepted: AtomicUsize,
    open: AtomicUsize,
    resets: Mutex<Vec<String>>,
}

/// Answers with the status of a path such as `/200`, and more of a body than is waited for; `/0` never.
async fn serve_http2(listener: TcpListener, seen: Arc<Seen>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        seen.accepted.fetch_add(1, Ordering::SeqCst);
        seen.open.fetch_add(1, Ordering::SeqCst);
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut connection = handshake(Box::new(Stream::from(tcp)), None).await.unwrap();
            let digest = Arc::new(Digest::default());
            let mut streams = JoinSet::new();
            while let Ok(Some(H2Accept::Session(session))) =
                ServerSession::from_h2_conn(&mut connection, Arc::clone(&digest)).await
            {
                streams.spawn(answer(session));
            }
            for reset in streams.join_all().await {
                seen.resets.lock().push(reset);
            }
            seen.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// How the stream was reset.
async fn answer(mut session: ServerSession) -> String {
    let status: u16 = session.req_header().uri.path()[1..].parse().unwrap();
    if status > 0 {
        let head = ResponseHeader::build(status, None).unwrap();
        session.write_response_header(Box::new(head), false).unwrap();
        let written = session.write_body(Bytes::from(vec![b'x'; 1 << 20]), true).await;
        assert!(written.is_err(), "all was read");
    }
    format!("{:?}", session.idle().await)
}

#[tokio::test]
async fn each_http2_probe_has_a_connection_of_its_own_that_is_closed() {
    portolan_certs::install_provider().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    tokio::spawn(serve_http2(listener, Arc::clone(&seen)));
    let connector = Arc::new(Connector::new(None));
    let backend = Backend::new(&address.to_string()).unwrap();
    for (number, (path, healthy)) in
        [("/200", true), ("/200", true), ("/503", false), ("/0", false)].into_iter().enumerate()
    {
        let mut settings = settings(Duration::from_millis(300));
        settings.probe = Probe::Http { path: path.into(), host: None, expected: 200..300 };
        let plan = Arc::new(plan(address, Some(settings.clone())));
        let pool = PoolHandle::build(id(), plan, &[], &Endpoints::default(), 0);
        let check = build(&pool, &settings, &connector);
        let outcome = tokio::time::timeout(settings.timeout, check.check(&backend)).await;
        assert_eq!(matches!(outcome, Ok(Ok(()))), healthy, "{path}: {outcome:?}");
        let closed = async {
            while seen.open.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), closed).await.expect(path);
        assert_eq!(seen.accepted.load(Ordering::SeqCst), number + 1, "{path}");
    }
    assert_eq!(*seen.resets.lock(), ["Ok(CANCEL)"; 4]);
}

#[tokio::test]
async fn without_a_health_check_every_endpoint_is_fit() {
    portolan_certs::install_provider().unwrap();
    let metrics = Arc::new(Metrics::new(1, &[], "0.0.0").unwrap());
    let mut builder = SnapshotBuilder::new(Arc::default(), Arc::clone(&metrics), 0).unwrap();
    let shared = Arc::new(Shared::new(builder.snapshot(), metrics, 0).unwrap());
    let mut prober = Prober::new(shared);
    let mut apply = |revision, pool: Option<Pool>| {
        let pools = vec![(id(), pool.map(Arc::new))];
        let update = Update { revision, pools, ..Update::default() };
        builder.apply(&update);
        let snapshot = builder.snapshot();
        prober.follow(&update, &snapshot);
        snapshot
    };
    let address = "127.0.0.1:1".parse().unwrap();
    let fit =
        |snapshot: &Snapshot| snapshot.pools.get(&id()).unwrap().endpoints[0].state.fitness() == Fitness::Fit;
    let checked = || Some(plan(address, Some(settings(Duration::from_secs(1)))));

    // A request under way keeps the state of the endpoint while the pool is gone.
    let held = apply(1, checked());
    held.pools.get(&id()).unwrap().endpoints[0].state.set_fitness(Fitness::Unfit);
    apply(2, None);
    assert!(fit(&apply(3, Some(plan(address, None)))), "the pool was removed and made anew");

    let checked = apply(4, checked());
    checked.pools.get(&id()).unwrap().endpoints[0].state.set_fitness(Fitness::Unfit);
    assert!(fit(&apply(5, Some(plan(address, None)))), "the health check was removed");
}
