//! SIGTERM: no new connections, what is under way ends well, then the process does; a deadline, and a second signal, cut it short.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portolan_e2e::{Echo, Portolan, RawClient, RawUpstream, Setup, app, cluster, eventually, within};

use crate::streams::{END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Http2, Wire, literals, runtime};

const HOST: &str = "shop.paris.lb.test";

fn start(echo: &Echo, spec: &str) -> Portolan {
    let fleet = cluster("paris", "") + &app("paris", "shop", &[echo.address()]);
    Setup::new().spec(spec).manifest("fleet.yaml", fleet).start()
}

fn under_way(portolan: &Portolan, connections: usize) {
    eventually("all are connected", || {
        portolan
            .metric("portolan_listener_connections{listener=\"http\"}")
            .filter(|&open| open as usize >= connections)
    });
}

fn refuses(portolan: &Portolan) {
    eventually("nobody listens any more", || TcpStream::connect(portolan.http()).is_err().then_some(()));
}

#[test]
fn requests_under_way_are_finished() {
    let echo = Echo::start("a");
    let mut portolan = start(&echo, "");
    let runtime = runtime();
    // HTTP/1.1: an answer that takes its time; a body that comes in pieces over the signal.
    let mut waiting = portolan.raw();
    waiting.send(format!("GET /waiting?delay_ms=1500 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let mut uploading = portolan.raw();
    uploading.send(format!("POST /uploading HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n01234"));
    // HTTP/2: two streams.
    let http2 = runtime.block_on(Http2::plain(portolan.http()));
    let first = runtime.block_on(http2.get(&format!("http://{HOST}/stream?delay_ms=1500"))).expect("sent");
    let second = runtime.block_on(http2.get(&format!("http://{HOST}/stream?delay_ms=1000"))).expect("sent");
    runtime.block_on(async {
        // The connection's task writes while we wait for the upstream to have them.
        let mut seen = 0;
        while seen < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen = portolan.metric("portolan_listener_connections{listener=\"http\"}").unwrap_or_default()
                as usize;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    under_way(&portolan, 3);

    portolan.signal(Signal::SIGTERM);
    refuses(&portolan);
    assert!(portolan.exit_within(Duration::ZERO).is_none(), "left with requests under way");
    uploading.send("56789");
    let answer = uploading.response().expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.to_ascii_lowercase().contains("connection: close"), "{answer:?}");
    let answer = waiting.response().expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.to_ascii_lowercase().contains("connection: close"), "{answer:?}");
    runtime.block_on(async {
        assert_eq!(first.await.expect("an answer").status(), 200);
        assert_eq!(second.await.expect("an answer").status(), 200);
    });
    let began = Instant::now();
    drop((waiting, uploading, http2, runtime));
    assert_eq!(portolan.exit_within(Duration::from_secs(5)), Some(0), "{}", portolan.output());
    println!("drain: left {:?} after the last request", began.elapsed());
    let lines = portolan.access_log();
    for path in ["/waiting?delay_ms=1500", "/uploading", "/stream?delay_ms=1500", "/stream?delay_ms=1000"] {
        assert!(
            lines.iter().any(|line| line["path"] == path && line["status"] == 200),
            "{path} is not in the log: {lines:?}"
        );
    }
}

#[test]
fn http2_hears_goaway_and_finishes_its_streams() {
    let echo = Echo::start("a");
    let mut portolan = start(&echo, "");
    let mut frames = Frames::open(Wire::plain(portolan.http()));
    let request = literals(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/?delay_ms=1000"),
    ]);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &request);
    under_way(&portolan, 1);
    portolan.signal(Signal::SIGTERM);
    let (mut goaways, mut answered) = (Vec::new(), false);
    while let Some(frame) = frames.next() {
        match frame.kind {
            GOAWAY => goaways.push(u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes"))),
            _ if frame.stream == 1 && frame.flags & END_STREAM != 0 => answered = true,
            _ => {}
        }
    }
    assert!(answered, "the stream was not finished");
    assert!(!goaways.is_empty(), "no GOAWAY");
    assert_eq!(portolan.exit_within(Duration::from_secs(5)), Some(0), "{}", portolan.output());
}

#[test]
fn idle_connections_do_not_hold_it() {
    let echo = Echo::start("a");
    let mut portolan = start(&echo, "");
    let mut silent = portolan.raw();
    let mut idle = portolan.raw();
    idle.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(idle.response().expect("an answer").status, 200);
    let mut http2 = Frames::open(Wire::plain(portolan.http()));
    under_way(&portolan, 3);
    let began = Instant::now();
    portolan.signal(Signal::SIGTERM);
    assert_eq!(idle.rest(), b"");
    assert_eq!(silent.rest(), b"");
    let mut goaway = false;
    while let Some(frame) = http2.next() {
        goaway |= frame.kind == GOAWAY;
    }
    assert!(goaway);
    assert_eq!(portolan.exit_within(Duration::from_secs(10)), Some(0), "{}", portolan.output());
    println!("drain: left {:?} after SIGTERM with idle connections alone", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

/// A request that was on its way when the signal came is still served.
#[test]
fn a_request_that_crosses_the_signal_is_served() {
    let echo = Echo::start("a");
    let mut portolan = start(&echo, "");
    let mut client = portolan.raw();
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(client.response().expect("an answer").status, 200);
    portolan.signal(Signal::SIGTERM);
    client.send(format!("GET /crossing HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let answer = client.response().expect("an answer");
    assert_eq!(answer.status, 200);
    assert_eq!(client.rest(), b"");
    assert_eq!(portolan.exit_within(Duration::from_secs(5)), Some(0));
}

/// A WebSocket has no end of its own: it goes on while it is drained, and is cut by the deadline.
#[test]
fn a_websocket_goes_on_until_the_deadline() {
    let upstream = RawUpstream::start(|mut client, _| {
        let Some(_) = client.head() else { return };
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        while let Some(bytes) = client.take(4) {
            client.send(bytes);
        }
    });
    let fleet = cluster("paris", "") + &app("paris", "shop", &[upstream.address()]);
    let mut portolan = Setup::new().spec("drainTimeout: 2s").manifest("fleet.yaml", fleet).start();
    let mut client = portolan.raw();
    client.send(format!(
        "GET /ws HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ));
    assert!(client.head().expect("a head").starts_with("HTTP/1.1 101"));
    let began = Instant::now();
    portolan.signal(Signal::SIGTERM);
    refuses(&portolan);
    for _ in 0..5 {
        client.send("ping");
        assert_eq!(client.take(4).as_deref(), Some(&b"ping"[..]));
    }
    assert_eq!(client.rest(), b"");
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1800) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(portolan.exit_within(Duration::from_secs(5)), Some(0), "{}", portolan.output());
    assert!(portolan.output().contains("left with connections still open"), "{}", portolan.output());
}

#[test]
fn the_deadline_cuts() {
    let echo = Echo::start("a");
    let mut portolan = start(&echo, "drainTimeout: 1s");
    let mut client = portolan.raw();
    client.send(format!("GET /?delay_ms=20000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    under_way(&portolan, 1);
    let began = Instant::now();
    portolan.signal(Signal::SIGTERM);
    assert_eq!(portolan.exit_within(Duration::from_secs(8)), Some(0), "{}", portolan.output());
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert!(client.response().is_none());
    let line = portolan.logged("the request that was cut", |line| line["flag"] == "DR");
    assert_eq!(
        (line["path"].as_str(), line["pool"].as_str()),
        (Some("/?delay_ms=20000"), Some("tenant-paris/shop")),
        "{line}"
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let echo = Echo::start("a");
        let mut portolan = start(&echo, "");
        let mut client = portolan.raw();
        client.send(format!("GET /?delay_ms=20000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        under_way(&portolan, 1);
        portolan.signal(Signal::SIGINT);
        refuses(&portolan);
        let began = Instant::now();
        portolan.signal(second);
        assert!(portolan.exit_within(Duration::from_secs(5)).is_some(), "{}", portolan.output());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        portolan.logged("the request that was cut", |line| line["flag"] == "DR");
    }
}

#[test]
fn readiness_goes_first() {
    let echo = Echo::start("a");
    let mut portolan = start(&echo, "");
    let mut client = portolan.raw();
    client.send(format!("GET /?delay_ms=1500 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    under_way(&portolan, 1);
    assert_eq!(portolan.admin("/readyz").status, 200);
    portolan.signal(Signal::SIGTERM);
    let not_ready = within(Duration::from_secs(3), || {
        Some(portolan.admin("/readyz")).filter(|answer| answer.status == 503)
    });
    let not_ready = not_ready.expect("503 while it drains");
    assert!(String::from_utf8_lossy(&not_ready.body).contains("draining"), "{not_ready:?}");
    assert_eq!(portolan.admin("/livez").status, 200);
    assert!(portolan.metric("portolan_build_info").is_some() || portolan.admin("/metrics").status == 200);
    assert_eq!(client.response().expect("an answer").status, 200);
    assert_eq!(portolan.exit_within(Duration::from_secs(5)), Some(0));
}

/// Connections that the kernel has queued but nobody has accepted yet are served, not reset.
#[test]
fn what_is_queued_is_served() {
    let echo = Echo::start("a");
    for _ in 0..3 {
        let mut portolan = start(&echo, "workers: 1");
        // A crowd comes right before the signal.
        let mut crowd: Vec<RawClient> = (0..100).map(|_| portolan.raw()).collect();
        for client in &mut crowd {
            client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        }
        portolan.signal(Signal::SIGTERM);
        let mut answers: Vec<Option<u16>> =
            crowd.iter_mut().map(|client| Some(client.response()?.status)).collect();
        answers.dedup();
        assert_eq!(answers, [Some(200)], "{}", portolan.output());
        drop(crowd);
        assert_eq!(portolan.exit_within(Duration::from_secs(8)), Some(0));
    }
}
