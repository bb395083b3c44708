//! Limits on connections, time, bodies and streams; and what an idle connection costs.

use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use portolan_e2e::{
    Authority, Echo, Key, Portolan, RawClient, RawUpstream, Setup, app, cluster, eventually, secret,
};

use crate::streams::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, Http2, RST_STREAM, SETTINGS, Wire, literals,
    run_async, tls_config,
};

const HOST: &str = "shop.paris.lb.test";

fn start(setup: Setup, echo: &Echo) -> Portolan {
    setup.manifest("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()])).start()
}

fn keep_alive(address: SocketAddr) -> Option<RawClient> {
    let mut client = RawClient::of(TcpStream::connect(address).ok()?);
    client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    (client.response()?.status == 200).then_some(client)
}

fn shed(portolan: &Portolan, listener: &str) -> f64 {
    portolan
        .metric(&format!("portolan_listener_shed_connections_total{{listener=\"{listener}\"}}"))
        .unwrap_or_default()
}

#[test]
fn a_listener_has_a_limit_of_its_own() {
    let echo = Echo::start("a");
    let other =
        format!("name: other\naddress: 127.0.0.1\nport: {}\nprotocol: HTTP\n", portolan_e2e::free_port());
    let portolan = start(Setup::new().http("maxConnections: 5").listener(&other), &echo);
    let mut clients: Vec<RawClient> = (0..5).map(|_| keep_alive(portolan.http()).expect("room")).collect();
    for n in 1..=3 {
        assert!(keep_alive(portolan.http()).is_none(), "a sixth connection was served");
        eventually("it is counted", || (shed(&portolan, "http") == f64::from(n)).then_some(()));
    }
    // Those who are in are served, and one who leaves makes room.
    for client in &mut clients {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status, 200);
    }
    drop(clients.pop());
    eventually("there is room again", || keep_alive(portolan.http()));
    assert_eq!(shed(&portolan, "other"), 0.0);
    // The limit follows the manifest.
    portolan.apply("proxy.yaml", &Setup::new().http("maxConnections: 8").proxy());
    eventually("there is more room", || keep_alive(portolan.http()));
}

#[test]
fn the_process_has_a_limit() {
    let echo = Echo::start("a");
    let port = portolan_e2e::free_port();
    let listener = format!("name: other\naddress: 127.0.0.1\nport: {port}\nprotocol: HTTP\n");
    let portolan = start(Setup::new().spec("limits: {maxConnections: 6}").listener(&listener), &echo);
    let other: SocketAddr = ([127, 0, 0, 1], port).into();
    let here: Vec<RawClient> = (0..3).map(|_| keep_alive(portolan.http()).expect("room")).collect();
    let there: Vec<RawClient> = (0..3).map(|_| keep_alive(other).expect("room")).collect();
    assert!(keep_alive(portolan.http()).is_none());
    assert!(keep_alive(other).is_none());
    eventually("both are counted", || {
        (shed(&portolan, "http") + shed(&portolan, "other") >= 2.0).then_some(())
    });
    drop(here);
    eventually("there is room again", || keep_alive(other));
    drop(there);
}

#[test]
fn a_limit_that_the_open_files_do_not_allow_is_said() {
    let echo = Echo::start("a");
    let portolan = start(Setup::new().spec("limits: {maxConnections: 9000000}"), &echo);
    eventually("it is said", || portolan.output().contains("open-file limit").then_some(()));
    assert!(portolan.output().contains("LimitNOFILE"), "{}", portolan.output());
}

#[test]
fn idle_connections_of_http2_get_goaway() {
    let echo = Echo::start("a");
    let portolan = start(Setup::new().spec("limits: {idleTimeout: 1s}"), &echo);
    let mut frames = Frames::open(Wire::plain(portolan.http()));
    let request = literals(&[(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", "/")]);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &request);
    let began = Instant::now();
    let mut goaway = false;
    while let Some(frame) = frames.next() {
        goaway |= frame.kind == GOAWAY;
    }
    assert!(goaway);
    assert!(
        began.elapsed() >= Duration::from_millis(900) && began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

/// A stream that is under way is no idleness, however long it takes.
#[test]
fn a_long_stream_is_not_idle() {
    let echo = Echo::start("a");
    let portolan = start(Setup::new().spec("limits: {idleTimeout: 1s, headerTimeout: 1s}"), &echo);
    run_async(async {
        let client = Http2::plain(portolan.http()).await;
        assert_eq!(client.fetch(&format!("http://{HOST}/?delay_ms=2500")).await.expect("an answer").0, 200);
    });
    let mut client = portolan.raw();
    client.send(format!("GET /?delay_ms=2500 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(client.response().expect("an answer").status, 200);
}

#[test]
fn connections_have_a_maximum_age() {
    let echo = Echo::start("a");
    let portolan = start(Setup::new().spec("limits: {maxConnectionAge: 1s}"), &echo);
    // HTTP/1.1: it ends in good order, with the first response past its age.
    let mut client = portolan.raw();
    let began = Instant::now();
    let last = loop {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let answer = client.response().expect("an answer");
        assert_eq!(answer.status, 200);
        if answer.head.to_ascii_lowercase().contains("connection: close") {
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(5), "it lives for ever");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(last >= Duration::from_millis(900), "{last:?}");
    assert_eq!(client.rest(), b"");
    // HTTP/2: GOAWAY, and the stream that is under way ends well.
    let mut frames = Frames::open(Wire::plain(portolan.http()));
    let request = literals(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/?delay_ms=2000"),
    ]);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &request);
    let (mut goaway, mut ended) = (None, None);
    while let Some(frame) = frames.next() {
        match frame.kind {
            GOAWAY => goaway = goaway.or(Some(Instant::now())),
            DATA if frame.flags & END_STREAM != 0 => ended = Some(Instant::now()),
            _ => {}
        }
    }
    assert!(goaway.expect("GOAWAY") < ended.expect("the stream ended well"));
}

#[test]
fn bodies_have_a_limit() {
    let echo = Echo::start("a");
    let policy = "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: small, namespace: tenant-paris}\nspec:\n  targetRefs: [{kind: HTTPLoadBalancer, name: shop}]\n  maxRequestBody: 1Ki\n";
    let fleet = cluster("paris", "") + &app("paris", "shop", &[echo.address()]) + policy;
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    let post = |framing: &str, body: &str| {
        let mut client = portolan.raw();
        client.send(format!("POST /body HTTP/1.1\r\nHost: {HOST}\r\n{framing}\r\n\r\n{body}"));
        client.response().expect("an answer")
    };
    let chunks =
        |count: usize| format!("{}0\r\n\r\n", format!("200\r\n{}\r\n", "x".repeat(512)).repeat(count));
    assert_eq!(post("Content-Length: 1024", &"x".repeat(1024)).status, 200);
    assert_eq!(post("Transfer-Encoding: chunked", &chunks(2)).status, 200);
    let before = echo.requests();
    // Announced: refused before a byte of it is asked for.
    assert_eq!(post("Content-Length: 1025", "").status, 413);
    assert_eq!(post("Content-Length: 1025\r\nExpect: 100-continue", "").status, 413);
    assert_eq!(echo.requests(), before, "it went upstream");
    // Counted.
    assert_eq!(post("Transfer-Encoding: chunked", &chunks(3)).status, 413);
    assert_eq!(
        post("Transfer-Encoding: chunked", &format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(2048))).status,
        413
    );
    let line = portolan.logged("the refusal", |line| line["status"] == 413);
    assert_eq!((&line["flag"], &line["route"]), (&"BL".into(), &"tenant-paris/shop".into()), "{line}");
    run_async(async {
        let client = Http2::plain(portolan.http()).await;
        let request = http::Request::post(format!("http://{HOST}/body")).body(()).expect("a request");
        let mut ready = client.send.clone().ready().await.expect("ready");
        let (response, mut body) = ready.send_request(request, false).expect("sent");
        let _ = body.send_data(vec![b'x'; 2048].into(), true);
        assert_eq!(response.await.expect("an answer").status(), 413);
        assert_eq!(client.fetch(&format!("http://{HOST}/")).await.expect("a sibling").0, 200);
    });
}

/// What goes through an upgraded connection is no body.
#[test]
fn an_upgraded_connection_has_no_limit() {
    const SENT: usize = 256 << 10;
    let upstream = RawUpstream::start(|mut client, _| {
        let Some(_) = client.head() else { return };
        client.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        for _ in 0..SENT / 1024 {
            let Some(piece) = client.take(1024) else { return };
            client.send(piece);
        }
    });
    let policy = "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: small, namespace: tenant-paris}\nspec:\n  targetRefs: [{kind: HTTPLoadBalancer, name: shop}]\n  maxRequestBody: 64Ki\n";
    let fleet = cluster("paris", "") + &app("paris", "shop", &[upstream.address()]) + policy;
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    let mut client = portolan.raw();
    client.send(format!(
        "GET /up HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    ));
    assert!(client.head().expect("a head").starts_with("HTTP/1.1 101"));
    for sent in 0..SENT / 1024 {
        client.send([b'x'; 1024]);
        assert!(client.take(1024).is_some(), "cut after {sent} KiB");
    }
    assert_eq!(client.rest(), b"");
    let line = portolan.logged("the connection's line", |line| line["path"] == "/up");
    assert_eq!((&line["status"], &line["flag"]), (&101.into(), &serde_json::Value::Null), "{line}");
}

#[test]
fn streams_have_a_limit() {
    let echo = Echo::start("a");
    let portolan = start(Setup::new().spec("limits: {maxConcurrentStreams: 3}"), &echo);
    let mut frames = Frames::open(Wire::plain(portolan.http()));
    let request = literals(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", HOST),
        (":path", "/?delay_ms=800"),
    ]);
    for stream in [1, 3, 5, 7] {
        frames.send(HEADERS, END_STREAM | END_HEADERS, stream, &request);
    }
    let (mut announced, mut refused, mut ended) = (None, Vec::new(), Vec::new());
    while ended.len() < 3 {
        let frame = frames.next().expect("more frames");
        match frame.kind {
            SETTINGS => {
                let setting = frame.payload.chunks(6).find(|setting| setting[..2] == [0, 3]);
                announced = announced.or(setting.map(|setting| setting[5]));
            }
            RST_STREAM => refused.push((frame.stream, frame.payload[3])),
            DATA if frame.flags & END_STREAM != 0 => ended.push(frame.stream),
            _ => {}
        }
    }
    ended.sort_unstable();
    assert_eq!(announced, Some(3));
    assert_eq!(refused, [(7, 7)], "REFUSED_STREAM for the fourth");
    assert_eq!(ended, [1, 3, 5]);
}

/// Raises the limit of open files for this process and those it starts, as far as it may: what it is then.
fn raise_files(wanted: u64) -> u64 {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    for (soft, hard) in [(wanted.max(soft), wanted.max(hard)), (hard, hard)] {
        if setrlimit(Resource::RLIMIT_NOFILE, soft, hard).is_ok() {
            return soft;
        }
    }
    soft
}

/// Opens so many connections by eight threads, each with one request behind it.
fn crowd<T: Send>(count: usize, open: impl Fn() -> T + Sync) -> Vec<T> {
    let crowd = Mutex::new(Vec::with_capacity(count));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (crowd, open) = (&crowd, &open);
            scope.spawn(move || {
                for _ in (thread..count).step_by(8) {
                    let one = open();
                    crowd.lock().expect("no panic").push(one);
                }
            });
        }
    });
    crowd.into_inner().expect("no panic")
}

/// Resident memory once it has not grown for a moment.
fn settled_rss(portolan: &Portolan) -> u64 {
    let mut last = (portolan.rss_kib(), Instant::now());
    eventually("memory settles", || {
        let now = portolan.rss_kib();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(300)).then_some(now)
    })
}

#[test]
fn ten_thousand_idle_connections() {
    // Two files per connection are set aside by the process, and 256 more.
    let files = raise_files(40_000);
    let count = usize::try_from((files.saturating_sub(1_000)) / 2).expect("a count").min(10_000);
    if count < 10_000 {
        println!("the open-file limit of {files} suffices for {count} connections only");
    }
    let echo = Echo::start("a");
    let setup = Setup::new().spec("limits: {idleTimeout: 300s}");
    let portolan = start(setup, &echo);
    // What comes with the first requests is not a connection's.
    drop(crowd(200, || keep_alive(portolan.http()).expect("served")));
    eventually("they are gone", || {
        (portolan.metric("portolan_listener_connections{listener=\"http\"}") == Some(0.0)).then_some(())
    });
    let before = settled_rss(&portolan);
    let began = Instant::now();
    let mut idle = crowd(count, || keep_alive(portolan.http()).expect("served"));
    let opened = began.elapsed();
    assert_eq!(portolan.metric("portolan_listener_connections{listener=\"http\"}"), Some(count as f64));
    let grown = settled_rss(&portolan).saturating_sub(before);
    let each = grown as f64 / count as f64;
    println!(
        "{count} idle HTTP connections: {each:.2} KiB of resident memory each (opened in {opened:?}, debug build)"
    );
    assert!(each <= 16.0, "{each:.2} KiB");
    // Each of them is alive.
    for client in idle.iter_mut().step_by(500) {
        client.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert_eq!(client.response().expect("an answer").status, 200);
    }
    drop(idle);
    eventually("they are gone", || {
        (portolan.metric("portolan_listener_connections{listener=\"http\"}") == Some(0.0)).then_some(())
    });
}

#[test]
fn idle_connections_over_tls() {
    const COUNT: usize = 2_000;
    raise_files(40_000);
    let echo = Echo::start("a");
    let authority = Authority::new("idle");
    let pair = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
    let fleet = cluster("paris", "certificateRef: {name: generated}")
        + &secret("tenant-paris", "generated", &pair.chain, &pair.key)
        + &app("paris", "shop", &[echo.address()]);
    let portolan = Setup::new()
        .spec("limits: {idleTimeout: 300s, headerTimeout: 30s}")
        .manifest("fleet.yaml", fleet)
        .start();
    let config = tls_config(&authority, &[b"http/1.1"]);
    let open = || {
        let mut wire = Wire::tls(portolan.https(), &config, HOST);
        wire.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        assert!(wire.some().starts_with(b"HTTP/1.1 200"));
        wire
    };
    drop(crowd(100, open));
    eventually("they are gone", || {
        (portolan.metric("portolan_listener_connections{listener=\"https\"}") == Some(0.0)).then_some(())
    });
    let before = settled_rss(&portolan);
    let began = Instant::now();
    let idle = crowd(COUNT, open);
    let opened = began.elapsed();
    assert_eq!(portolan.metric("portolan_listener_connections{listener=\"https\"}"), Some(COUNT as f64));
    let each = settled_rss(&portolan).saturating_sub(before) as f64 / COUNT as f64;
    println!(
        "{COUNT} idle TLS connections: {each:.2} KiB of resident memory each (opened in {opened:?}, debug build)"
    );
    assert!(each <= 40.0, "{each:.2} KiB");
    drop(idle);
}
