//! Slow upstreams: what takes too long is 504, or cut where the response has begun.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, socket,
};
use portolan_e2e::{Echo, Portolan, RawUpstream, app, cluster, pool, route};
use std::os::fd::AsRawFd as _;

use super::{HOST, fleet, fleet_http2, nobody_left};
use crate::streams::{Http2, Http2Upstream, begin, run_async, whole};

/// An address where connections are neither accepted nor refused: a queue that is full.
struct BlackHole {
    address: SocketAddr,
    _listener: OwnedFd,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    fn open() -> Self {
        let listener =
            socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
        bind(listener.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).expect("an address");
        listen(&listener, Backlog::new(0).expect("a backlog")).expect("it listens");
        let bound: SockaddrIn = getsockname(listener.as_raw_fd()).expect("an address");
        let address = SocketAddr::from(([127, 0, 0, 1], bound.port()));
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
            assert!(queued.len() < 10, "the queue does not fill");
        }
        Self { address, _listener: listener, _queued: queued }
    }
}

/// An upstream that does this with each connection once it has a request's head, then keeps it open.
fn upstream(says: &'static str) -> RawUpstream {
    RawUpstream::start(move |mut client, _| {
        while let Some(head) = client.head() {
            if head.to_ascii_lowercase().contains("content-length: 4\r\n") && client.take(4).is_none() {
                return;
            }
            client.send(says);
        }
    })
}

#[test]
fn an_endpoint_that_does_not_accept_is_504() {
    let hole = BlackHole::open();
    let portolan = Portolan::start(&[("fleet.yaml", fleet(hole.address, "{connect: 500ms}"))]);
    let began = Instant::now();
    let reply = portolan.get(HOST, "/hole").send();
    assert_eq!(reply.status, 504, "{reply:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let line = portolan.logged("the timeout", |line| line["path"] == "/hole");
    assert_eq!(line["flag"], "UT");
    assert_eq!(line["upstream"], hole.address.to_string());
    assert!(line["duration_ms"].as_f64().expect("a number") >= 490.0, "{line}");
    assert!(
        portolan
            .metric("portolan_cluster_connects_total{cluster=\"paris\",result=\"timeout\"}")
            .is_some_and(|count| count >= 1.0)
    );
}

#[test]
fn another_endpoint_takes_what_one_does_not_accept() {
    let hole = BlackHole::open();
    let echo = Echo::start("b");
    let text = fleet(hole.address, "{connect: 300ms}").replace(
        &format!("port: {}}}", hole.address.port()),
        &format!(
            "port: {}}}\n  - {{address: \"127.0.0.1\", port: {}}}",
            hole.address.port(),
            echo.address().port()
        ),
    );
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for _ in 0..4 {
        let reply = portolan.get(HOST, "/").send();
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    assert_eq!(echo.requests(), 4);
}

/// The timeouts, a response that begins too late, and how long each may take.
#[test]
fn a_response_that_does_not_begin_is_504() {
    let silent = upstream("");
    for (path, timeouts) in [
        ("/per-try", "{perTry: 400ms}"),
        ("/request", "{request: 400ms}"),
        ("/request-first", "{request: 400ms, perTry: 30s}"),
        ("/per-try-first", "{request: 30s, perTry: 400ms}"),
    ] {
        let portolan = Portolan::start(&[("fleet.yaml", fleet(silent.address(), timeouts))]);
        for method in ["GET", "POST"] {
            let began = Instant::now();
            let mut client = portolan.raw();
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 0\r\n\r\n"));
            let answer = client.response().expect("an answer");
            let took = began.elapsed();
            assert_eq!(answer.status, 504, "{timeouts}: {answer:?}");
            assert!(
                took >= Duration::from_millis(380) && took < Duration::from_secs(3),
                "{timeouts}: {took:?}"
            );
        }
        let line = portolan.logged("the timeout", |line| line["path"] == path);
        assert_eq!(line["flag"], "UT", "{line}");
        assert_eq!(line["pool"], "tenant-paris/shop", "{line}");
    }
}

/// A rule's time for the whole request covers what comes before the response too, and its end is an answer like any other.
#[test]
fn the_requests_time_covers_every_stage() {
    let hole = BlackHole::open();
    let silent = Http2Upstream::start(|request, respond, _| async move {
        let (mut body, _answer) = (request.into_body(), respond);
        while let Some(data) = body.data().await {
            data?;
        }
        std::future::pending().await
    });
    let rules = "rules:\n- timeouts: {request: 1s}\n  backends: [{pool: shop}]\n";
    let times = fleet(hole.address, "{connect: 5s, perTry: 30s}");
    let policy = &times[times.rfind("---").expect("a policy")..];
    for (path, endpoint, protocol, grpc) in [
        ("/connect", hole.address, "HTTP1", false),
        ("/connect-http2", hole.address, "HTTP2", false),
        ("/answer", silent.address(), "HTTP2", false),
        ("/grpc", silent.address(), "HTTP2", true),
    ] {
        let text = cluster("paris", "")
            + &route("paris", "shop", rules)
            + &pool("paris", "shop", &[endpoint], &format!("protocol: {protocol}\n"))
            + policy;
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        for http2 in [false, true] {
            let began = Instant::now();
            let status = if http2 {
                run_async(async {
                    let client = Http2::plain(portolan.http()).await;
                    let mut request = http::Request::post(format!("http://{HOST}{path}"));
                    if grpc {
                        request = request.header("content-type", "application/grpc").header("te", "trailers");
                    }
                    let mut ready = client.send.clone().ready().await.expect("ready");
                    let request = request.body(()).expect("a request");
                    let (response, mut body) = ready.send_request(request, false).expect("sent");
                    body.send_data("message".into(), true).expect("sent");
                    let response =
                        response.await.unwrap_or_else(|error| panic!("{path}: no answer: {error:?}"));
                    response.status().as_u16()
                })
            } else if grpc {
                continue;
            } else {
                portolan.get(HOST, path).body("message").send().status
            };
            let took = began.elapsed();
            assert_eq!(status, 504, "{path}, HTTP/2: {http2}");
            assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(3), "{path}: {took:?}");
            let protocol = if http2 { "HTTP/2" } else { "HTTP/1.1" };
            let line = portolan.logged(path, |line| line["protocol"] == protocol && line["status"] == 504);
            for (field, value) in
                [("flag", "UT"), ("host", HOST), ("path", path), ("route", "tenant-paris/shop")]
            {
                assert_eq!(line[field], value, "{field}: {line}");
            }
        }
    }
}

/// A rule's own timeouts count in place of its policy's.
#[test]
fn rules_have_timeouts_of_their_own() {
    let echo = Echo::start("a");
    let rules = "rules:\n\
        - matches: [{path: {value: /request}}]\n  timeouts: {request: 300ms}\n  backends: [{pool: shop}]\n\
        - matches: [{path: {value: /backend}}]\n  timeouts: {backendRequest: 300ms}\n  backends: [{pool: shop}]\n\
        - backends: [{pool: shop}]\n";
    let text =
        cluster("paris", "") + &route("paris", "shop", rules) + &pool("paris", "shop", &[echo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for (path, status) in [("/request", 504), ("/backend", 504), ("/other", 200)] {
        let reply = portolan.get(HOST, &format!("{path}?delay_ms=1000")).send();
        assert_eq!(reply.status, status, "{path}: {reply:?}");
        assert_eq!(portolan.get(HOST, path).send().status, 200, "{path}, at once");
    }
}

#[test]
fn a_head_that_comes_in_drips_is_504_too() {
    let drips = RawUpstream::start(|mut client, _| {
        let Some(_) = client.head() else { return };
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" {
            client.send([*byte]);
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = client.rest();
    });
    let portolan = Portolan::start(&[("fleet.yaml", fleet(drips.address(), "{perTry: 500ms}"))]);
    let began = Instant::now();
    assert_eq!(portolan.get(HOST, "/").send().status, 504);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// A body that stops is cut: the client must not take what it has for the whole.
#[test]
fn a_body_that_stops_is_cut() {
    let framings =
        [("Content-Length: 100", "some of it"), ("Transfer-Encoding: chunked", "a\r\nsome of it\r\n")];
    for ((head, body), (method, request)) in
        framings.into_iter().flat_map(|framing| [(framing, ("GET", "")), (framing, ("POST", "body"))])
    {
        let response: &'static str =
            Box::leak(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").into_boxed_str());
        let upstream = upstream(response);
        let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{idle: 400ms}"))]);
        let mut client = portolan.raw();
        client.send(format!(
            "{method} /stops HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {}\r\n\r\n{request}",
            request.len()
        ));
        let began = Instant::now();
        assert!(client.head().expect("a head").starts_with("HTTP/1.1 200"));
        let rest = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(rest.contains("some of it") && !rest.ends_with("0\r\n\r\n"), "{rest:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        let line = portolan.logged("the cut", |line| line["path"] == "/stops");
        assert_eq!(line["status"], 200, "{line}");
        assert_eq!(line["flag"], "UT", "{line}");

        run_async(async {
            let client = Http2::plain(portolan.http()).await;
            let error = client.fetch(&format!("http://{HOST}/")).await.expect_err("a reset");
            assert!(error.is_reset(), "{error:?}");
            assert_eq!(client.fetch("http://nobody.test/").await.expect("a sibling").0, 404);
        });
        nobody_left(&portolan);
    }
}

/// The time for the whole request also ends a body that keeps coming.
#[test]
fn a_body_without_end_is_cut_by_the_requests_time() {
    let endless = RawUpstream::start(|mut client, _| {
        use std::io::Write as _;
        let Some(_) = client.head() else { return };
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while client.stream().write_all(b"4\r\ndrip\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let portolan = Portolan::start(&[("fleet.yaml", fleet(endless.address(), "{request: 700ms}"))]);
    let began = Instant::now();
    let mut client = portolan.raw();
    client.send(format!("GET /endless HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert!(client.head().expect("a head").starts_with("HTTP/1.1 200"));
    let rest = client.rest();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    nobody_left(&portolan);
}

/// Server-sent events come when they come: only the idle time counts between them.
#[test]
fn events_that_come_in_time_are_not_cut() {
    let events = RawUpstream::start(|mut client, _| {
        let Some(_) = client.head() else { return };
        client
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..8 {
            std::thread::sleep(Duration::from_millis(200));
            client.send("9\r\ndata: x\n\n\r\n");
        }
        client.send("0\r\n\r\n");
    });
    let portolan =
        Portolan::start(&[("fleet.yaml", fleet(events.address(), "{idle: 1500ms, perTry: 500ms}"))]);
    let reply = portolan.get(HOST, "/events").send();
    assert_eq!((reply.exit, reply.status), (0, 200), "{reply:?}");
    assert_eq!(reply.text().matches("data: x").count(), 8);
}

/// Over HTTP/2 too a body's pauses have the idle time, whatever the time to its head is; but those of what is no stream have
/// the time of a try, where the client speaks HTTP/2 as well.
#[test]
fn a_body_that_pauses_over_http2_has_the_idle_time() {
    let pauses = Http2Upstream::start(|request, respond, _| async move {
        let mut body = begin(respond)?;
        body.send_data("some".into(), false)?;
        if request.uri().path() == "/for-ever" {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        body.send_data(" more".into(), true)
    });
    let text = fleet_http2(pauses.address(), "{perTry: 1s, idle: 5s}");
    let of_rule = fleet_http2(pauses.address(), "{idle: 5s}")
        .replace("  - backends:", "  - timeouts: {backendRequest: 1s}\n    backends:");
    let mut failures = Vec::new();
    for (name, text) in [("perTry", text), ("backendRequest", of_rule)] {
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            for accept in ["*/*", "text/event-stream"] {
                let reply = portolan.get(HOST, "/pauses").arg(version).header("Accept", accept).send();
                let cut = version == "--http2-prior-knowledge" && accept == "*/*";
                let expected = if cut { (92, "some") } else { (0, "some more") };
                if (reply.exit, reply.text().as_str()) != expected {
                    failures.push(format!("{name} {version} {accept}: {:?} {}", reply.text(), reply.stderr));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let text = fleet_http2(pauses.address(), "{perTry: 1s, idle: 1s}");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let began = Instant::now();
        let reply = portolan.get(HOST, "/for-ever").arg(version).send();
        assert_ne!(reply.exit, 0, "{version}: {reply:?}");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(4), "{version}: {took:?}");
    }
}

/// A client that has said its part for now waits for the endpoint, which goes on: the exchange is not idle.
#[test]
fn a_client_that_only_listens_is_not_cut() {
    const EVENTS: usize = 12;
    let over_http1 = RawUpstream::start(|mut client, _| {
        let Some(_) = client.head() else { return };
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..EVENTS {
            client.send("5\r\nevent\r\n");
            std::thread::sleep(Duration::from_millis(250));
        }
        client.send("0\r\n\r\n");
        let _ = client.rest();
    });
    let over_http2 = Http2Upstream::start(|request, respond, _| async move {
        let (_speaks, mut body) = (request, begin(respond)?);
        for _ in 0..EVENTS {
            body.send_data("event".into(), false)?;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        body.send_data("".into(), true)
    });
    for text in [fleet(over_http1.address(), "{idle: 1s}"), fleet_http2(over_http2.address(), "{idle: 1s}")] {
        let portolan = Portolan::start(&[("fleet.yaml", text.clone())]);
        run_async(async {
            let client = Http2::plain(portolan.http()).await;
            let request = http::Request::post(format!("http://{HOST}/")).body(()).expect("a request");
            let mut ready = client.send.clone().ready().await.expect("ready");
            let (response, mut speaks) = ready.send_request(request, false).expect("sent");
            speaks.send_data("one piece".into(), false).expect("sent");
            let (status, events) = whole(response.await.expect("an answer")).await.expect("no cut");
            assert_eq!((status, events), (200, "event".repeat(EVENTS).into()), "{text}");
        });
    }
}

#[test]
fn an_endpoint_that_does_not_finish_its_handshake_is_504() {
    // It accepts, and never says a word of TLS.
    let silent = RawUpstream::start(|mut client, _| {
        let _ = client.rest();
    });
    let text = cluster("paris", "") + &app("paris", "shop", &[silent.address()]);
    let text = text
        + "  tls: {serverName: shop.test, insecureSkipVerify: true}\n"
        + "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: times, namespace: tenant-paris}\nspec:\n  targetRefs: [{kind: Cluster, name: paris}]\n  timeouts: {connect: 500ms}\n";
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let began = Instant::now();
    let reply = portolan.get(HOST, "/").send();
    assert_eq!(reply.status, 504, "{reply:?}");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}
