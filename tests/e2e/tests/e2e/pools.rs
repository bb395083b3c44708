//! Pools: balancing, failed tries, health checks, where endpoints come from, what upstreams are told, whose connections are whose.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_e2e::{
    Echo, Portolan, RawUpstream, Setup, app, cluster, eventually, free_port, indent, pool, route, shares,
    within,
};

use crate::streams::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2Upstream, SETTINGS, begin, frame};

fn one(name: &str, requests: u32) -> BTreeMap<String, u32> {
    BTreeMap::from([(name.to_owned(), requests)])
}

fn web(pools: &str) -> String {
    cluster("paris", "") + &route("paris", "web", "rules:\n- backends: [{pool: web}]\n") + pools
}

const WEB: &str = "web.paris.lb.test";

#[test]
fn round_robin_goes_in_turn_and_by_weight() {
    let echoes = ["a", "b", "c", "none"].map(Echo::start);
    let mut spec = "endpoints:\n".to_owned();
    for (echo, weight) in echoes.iter().zip([1, 1, 2, 0]) {
        spec += &format!("- {{address: 127.0.0.1, port: {}, weight: {weight}}}\n", echo.address().port());
    }
    let portolan = Setup::new()
        .spec("workers: 1\n")
        .manifest("fleet.yaml", web(&pool("paris", "web", &[], &spec)))
        .start();
    let counts = shares(&mut portolan.raw(), WEB, 80);
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 20), ("b".to_owned(), 20), ("c".to_owned(), 40)]));
}

#[test]
fn least_request_avoids_the_busy() {
    let (busy, idle) = (Echo::start("busy"), Echo::start("idle"));
    let text = web(&pool("paris", "web", &[busy.address(), idle.address()], "balancing: LeastRequest\n"));
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    // One request hangs; whoever has it is chosen no more while it does.
    let mut hung = portolan.raw();
    hung.send(format!("GET /?delay_ms=8000 HTTP/1.1\r\nHost: {WEB}\r\n\r\n"));
    eventually("a request hangs", || (busy.requests() + idle.requests() == 1).then_some(()));
    let other = if busy.requests() == 1 { "idle" } else { "busy" };
    assert_eq!(shares(&mut portolan.raw(), WEB, 30), one(other, 30));
}

#[test]
fn a_failed_connect_tries_another_endpoint() {
    let echo = Echo::start("alive");
    let dead: Vec<SocketAddr> =
        (0..2).map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).collect();
    let text = web(&pool("paris", "web", &[dead[0], echo.address(), dead[1]], ""));
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    assert_eq!(shares(&mut portolan.raw(), WEB, 30), one("alive", 30));
    let reply = portolan.get(WEB, "/posted").body("x=1").send();
    assert_eq!(reply.status, 200, "nothing was sent yet, so a POST may be tried again too");
    let line = portolan.logged("a retry", |line| line["retries"].as_u64() > Some(0));
    assert_eq!(line["status"], 200);
}

/// A node's port leads to another pod the next time, so the only endpoint is tried again; not after a timeout, unless its pool is probed.
#[test]
fn a_failed_connect_is_tried_again_where_no_other_endpoint_is() {
    let tls = "tls: {serverName: web.test, insecureSkipVerify: true}\n";
    let policy = "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: brief, namespace: tenant-paris}\nspec:\n  \
                  targetRefs: [{kind: HTTPLoadBalancer, name: web}]\n  timeouts: {connect: 300ms}\n";
    let other = Echo::start("other");
    let check = format!("healthCheck: {{tcp: {{}}, port: {}}}\n", other.address().port());
    for (what, check, status, connections) in
        [("closed", "", 502, 3), ("silent", "", 504, 1), ("silent", &*check, 504, 3)]
    {
        let upstream = RawUpstream::start(move |mut client, _| {
            if what == "silent" {
                let _ = client.rest();
            }
        });
        let text = web(&pool("paris", "web", &[upstream.address()], &format!("{tls}{check}"))) + policy;
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        let reply = portolan.get(WEB, "/").send();
        assert_eq!(
            (reply.status, upstream.connections()),
            (status, connections),
            "{what}, {check}: {reply:?}"
        );
    }
}

/// Answers one request on each connection as if it kept it, and closes it when the next one arrives.
fn closes_when_reused() -> (RawUpstream, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let upstream = RawUpstream::start(move |mut client, number| {
        let mut answered = false;
        while let Some(head) = client.head() {
            let line = head.lines().next().unwrap_or_default().to_owned();
            log.lock().unwrap().push(format!("{number} {line}"));
            if answered {
                return;
            }
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            answered = true;
        }
    });
    (upstream, seen)
}

#[test]
fn a_dead_reused_connection_is_retried_for_get_and_not_for_post() {
    let (upstream, seen) = closes_when_reused();
    let text = web(&pool("paris", "web", &[upstream.address()], ""));
    let portolan = Setup::new().spec("workers: 1\n").manifest("fleet.yaml", text).start();
    let mut client = portolan.raw();
    let mut ask = |method: &str| {
        let request = format!("{method} / HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 0\r\n\r\n");
        client.send(request).response().unwrap().status
    };
    assert_eq!(ask("GET"), 200);
    assert_eq!(ask("GET"), 200, "on a fresh connection");
    assert_eq!(*seen.lock().unwrap(), ["1 GET / HTTP/1.1", "1 GET / HTTP/1.1", "2 GET / HTTP/1.1"]);
    assert_eq!(ask("GET"), 200, "so that an idle connection is left");
    assert_eq!(ask("POST"), 502, "it may have been acted on");
    let posts = seen.lock().unwrap().iter().filter(|line| line.contains("POST")).count();
    assert_eq!(posts, 1, "and is sent once");
}

/// A body that waited for our word is kept like any other, to be sent again.
#[test]
fn a_dead_reused_connection_is_retried_for_a_put_that_expects() {
    let (upstream, seen) = closes_when_reused();
    let text = web(&pool("paris", "web", &[upstream.address()], ""));
    let portolan = Setup::new().spec("workers: 1\n").manifest("fleet.yaml", text).start();
    let mut client = portolan.raw();
    client.send(format!("GET / HTTP/1.1\r\nHost: {WEB}\r\n\r\n"));
    assert_eq!(client.response().unwrap().status, 200);
    client
        .send(format!("PUT / HTTP/1.1\r\nHost: {WEB}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"));
    assert_eq!(client.response().unwrap().status, 100);
    assert_eq!(client.send("body").response().map(|response| response.status), Some(200));
    assert_eq!(*seen.lock().unwrap(), ["1 GET / HTTP/1.1", "1 PUT / HTTP/1.1", "2 PUT / HTTP/1.1"]);
}

/// RFC 9113 §8.7: what an endpoint refuses, or says it will not look at, has not been acted on; a POST may be sent again.
#[test]
fn a_stream_that_is_refused_is_tried_again() {
    let refuses = Http2Upstream::start(|_, mut respond, number| async move {
        if number == 1 {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return Ok(());
        }
        begin(respond)?.send_data("ok".into(), true)
    });
    let leaves = RawUpstream::start(|mut client, number| {
        let mut until_headers = || {
            client.take(24)?;
            client.send(frame(SETTINGS, 0, 0, &[]));
            loop {
                let head = client.take(9)?;
                client.take(usize::from(head[1]) << 8 | usize::from(head[2]))?;
                if head[3] == HEADERS {
                    return Some(());
                }
            }
        };
        if until_headers().is_none() {
            return;
        }
        // No stream was looked at: last stream 0, NO_ERROR. Else a `:status` of 200, by the static table.
        client.send(if number == 1 {
            frame(GOAWAY, 0, 0, &[0; 8])
        } else {
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88])
        });
        let _ = client.rest();
    });
    for (name, address) in [("REFUSED_STREAM", refuses.address()), ("GOAWAY", leaves.address())] {
        let text = web(&pool("paris", "web", &[address], "protocol: HTTP2\n"));
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        let reply = portolan.get(WEB, "/").body("x=1").send();
        assert_eq!((reply.exit, reply.status), (0, 200), "{name}: {reply:?}");
        assert_eq!(portolan.logged("its line", |_| true)["retries"], 1, "{name}");
    }
    assert_eq!((refuses.requests(), leaves.connections()), (2, 2));
}

#[test]
fn health_checks_take_an_endpoint_out_and_back() {
    let (steady, moody) = (Echo::start("steady"), Echo::start("moody"));
    let http = "healthCheck: {http: {path: /healthz, expectedStatuses: {from: 200, to: 299}}, interval: 100ms, timeout: 1s, healthyThreshold: 2, unhealthyThreshold: 2}\n";
    let tcp =
        "healthCheck: {tcp: {}, interval: 100ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 1}\n";
    let port = free_port();
    let comes_and_goes = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let text = web(&pool("paris", "web", &[steady.address(), moody.address()], http))
        + &route("paris", "tcp", "rules:\n- backends: [{pool: tcp}]\n")
        + &pool("paris", "tcp", &[comes_and_goes], tcp);
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let mut client = portolan.raw();
    assert_eq!(shares(&mut client, WEB, 20).len(), 2);
    moody.set_healthy(false);
    eventually("moody is out", || (shares(&mut client, WEB, 20) == one("steady", 20)).then_some(()));
    eventually("it counts as unhealthy", || {
        (portolan.metric("portolan_pool_endpoints{health=\"unhealthy\",pool=\"tenant-paris/web\"}")
            == Some(1.0))
        .then_some(())
    });
    moody.set_healthy(true);
    eventually("moody is back", || (shares(&mut client, WEB, 20).len() == 2).then_some(()));

    // An endpoint that nobody listens at: first a failed connect, then, once probed, none to try.
    eventually("out by a TCP probe", || {
        (portolan.get("tcp.paris.lb.test", "/").send().status == 503).then_some(())
    });
    let echo = Echo::start_on("back", Ipv4Addr::LOCALHOST.into(), port);
    eventually("back by a TCP probe", || {
        (portolan.get("tcp.paris.lb.test", "/").send().status == 200).then_some(())
    });
    assert_eq!(echo.address(), comes_and_goes);
}

/// An upstream whose probes at `/healthz` fail twice and succeed once, by turns.
pub(crate) fn unsteady() -> RawUpstream {
    let probes = AtomicUsize::new(0);
    RawUpstream::start(move |mut client, _| {
        while let Some(head) = client.head() {
            let ill = head.starts_with("GET /healthz ") && probes.fetch_add(1, Ordering::SeqCst) % 3 < 2;
            let status = if ill { "503 Service Unavailable" } else { "200 OK" };
            client.send(format!("HTTP/1.1 {status}\r\nx-upstream: unsteady\r\nContent-Length: 0\r\n\r\n"));
        }
    })
}

/// Behind a node's port some pods may be dead and others alive, and its probes fail and succeed by turns.
#[test]
fn an_unsteady_endpoint_is_used_where_no_other_is_fit() {
    let unsteady = unsteady();
    let steady = Echo::start("steady");
    let check = "healthCheck: {http: {path: /healthz}, interval: 100ms, timeout: 1s, healthyThreshold: 2, unhealthyThreshold: 2}\n";
    let portolan =
        Portolan::start(&[("fleet.yaml", web(&pool("paris", "web", &[unsteady.address()], check)))]);
    let unhealthy =
        || portolan.metric("portolan_pool_endpoints{health=\"unhealthy\",pool=\"tenant-paris/web\"}");
    eventually("it counts as unhealthy", || (unhealthy() == Some(1.0)).then_some(()));
    let mut client = portolan.raw();
    eventually("it is used", || (shares(&mut client, WEB, 1) == one("unsteady", 1)).then_some(()));
    let verdict = portolan.admin_json(&format!("/explain?url=http://{WEB}/"));
    assert_eq!(verdict["outcome"], "proxied", "{verdict}");
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(shares(&mut client, WEB, 10), one("unsteady", 10));
    }
    assert_eq!(unhealthy(), Some(1.0));

    portolan.apply("fleet.yaml", &web(&pool("paris", "web", &[unsteady.address(), steady.address()], check)));
    eventually("the other takes all", || (shares(&mut client, WEB, 20) == one("steady", 20)).then_some(()));
    steady.set_healthy(false);
    eventually("it is used again", || (shares(&mut client, WEB, 20) == one("unsteady", 20)).then_some(()));
}

fn slice(name: &str, endpoints: &[(SocketAddr, &str)]) -> String {
    // A slice has one port for all of its endpoints.
    endpoints.iter().enumerate().fold(String::new(), |text, (at, (address, conditions))| {
        text + &format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}-{at}\n  namespace: tenant-paris\n  labels: {{portolan.dev/pool: web}}\naddressType: IPv4\nports: [{{name: http, port: {}, protocol: TCP}}, {{name: other, port: 1, protocol: TCP}}]\nendpoints: [{{addresses: [\"{}\"], conditions: {{{conditions}}}}}]\n",
            address.port(),
            address.ip()
        )
    })
}

#[test]
fn endpoints_of_endpoint_slices() {
    let echoes = ["ready", "not-ready", "terminating", "late"].map(Echo::start);
    let text = web(&pool("paris", "web", &[], "endpointSlices: {portName: http}\n"));
    let slices = |ready: &str, late: Option<&Echo>| {
        let mut all = vec![
            (echoes[0].address(), ready),
            (echoes[1].address(), "ready: false"),
            (echoes[2].address(), "ready: false, serving: true, terminating: true"),
        ];
        all.extend(late.map(|late| (late.address(), "")));
        slice("web", &all)
    };
    let portolan = Portolan::start(&[("fleet.yaml", text), ("slices.yaml", slices("ready: true", None))]);
    let mut client = portolan.raw();
    assert_eq!(shares(&mut client, WEB, 20), one("ready", 20));
    portolan.apply("slices.yaml", &slices("ready: true", Some(&echoes[3])));
    assert_eq!(shares(&mut client, WEB, 20).into_keys().collect::<Vec<_>>(), ["late", "ready"]);
    portolan.apply("slices.yaml", &slices("ready: false", None));
    assert_eq!(shares(&mut client, WEB, 20), one("terminating", 20), "it still serves, and nobody else does");
    portolan.withdraw("slices.yaml");
    assert_eq!(shares(&mut client, WEB, 3), one("503", 3));
}

#[test]
fn endpoints_on_node_ports() {
    let port = free_port();
    let node = |name: &str, last: u8| Echo::start_on(name, Ipv4Addr::new(127, 0, 0, last).into(), port);
    let _nodes = [node("one", 2), node("two", 3), node("three", 4)];
    let set = |ready: bool| {
        format!(
            "---\napiVersion: portolan.dev/v1alpha1\nkind: NodeSet\nmetadata: {{name: nodes, namespace: tenant-paris}}\nspec:\n  nodes:\n  - {{name: one, addresses: [127.0.0.2]}}\n  - {{name: two, addresses: [127.0.0.3]}}\n  - {{name: three, addresses: [127.0.0.4], ready: {ready}}}\n"
        )
    };
    let text = web(&pool("paris", "web", &[], &format!("nodePort: {{port: {port}}}\n")))
        + &route("paris", "local", "rules:\n- backends: [{pool: local}]\n")
        + &pool("paris", "local", &[], &format!("nodePort: {{port: {port}, nodes: [two]}}\n"));
    let portolan = Portolan::start(&[("fleet.yaml", text), ("nodes.yaml", set(false))]);
    let mut client = portolan.raw();
    assert_eq!(shares(&mut client, WEB, 20).into_keys().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(shares(&mut client, "local.paris.lb.test", 5), one("two", 5));
    portolan.apply("nodes.yaml", &set(true));
    assert_eq!(shares(&mut client, WEB, 30).into_keys().collect::<Vec<_>>(), ["one", "three", "two"]);
}

/// A DNS server that answers every question for an A record with one address and a TTL of a second; names that begin with `gone.`
/// do not exist.
struct Dns {
    address: SocketAddr,
    answer: Arc<Mutex<Ipv4Addr>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    fn start(answer: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let dns = Self {
            address: socket.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            asked: Arc::default(),
        };
        let (answer, asked) = (Arc::clone(&dns.answer), Arc::clone(&dns.asked));
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let query = &buffer[..length];
                let name = query[12..].iter().position(|&byte| byte == 0).unwrap() + 13;
                let gone = query[13..].starts_with(b"gone");
                let is_a = query[name..name + 2] == [0, 1] && !gone;
                let mut reply = query[..2].to_vec();
                reply.extend([0x84, if gone { 3 } else { 0 }, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
                reply.extend(&query[12..name + 4]);
                if is_a {
                    reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                    reply.extend(answer.lock().unwrap().octets());
                    asked.fetch_add(1, Ordering::SeqCst);
                }
                let _ = socket.send_to(&reply, from);
            }
        });
        dns
    }
}

#[test]
fn names_are_resolved_again_as_their_ttl_says() {
    let port = free_port();
    let _first = Echo::start_on("first", Ipv4Addr::new(127, 0, 0, 5).into(), port);
    let _second = Echo::start_on("second", Ipv4Addr::new(127, 0, 0, 6).into(), port);
    let dns = Dns::start(Ipv4Addr::new(127, 0, 0, 5));
    let text = web(&pool(
        "paris",
        "web",
        &[],
        &format!("endpoints: [{{address: upstream.internal.test, port: {port}}}]\n"),
    ));
    let portolan =
        Setup::new().manifest("fleet.yaml", text).arg("--dns-server").arg(dns.address.to_string()).start();
    let mut client = portolan.raw();
    eventually("the first address serves", || (shares(&mut client, WEB, 5) == one("first", 5)).then_some(()));
    *dns.answer.lock().unwrap() = Ipv4Addr::new(127, 0, 0, 6);
    eventually("the second address serves", || {
        (shares(&mut client, WEB, 5) == one("second", 5)).then_some(())
    });
    // What the cluster may not name is not reached by a name either.
    *dns.answer.lock().unwrap() = Ipv4Addr::new(192, 0, 2, 1);
    eventually("no allowed address is left", || (shares(&mut client, WEB, 3) == one("503", 3)).then_some(()));
    let said = eventually("it is said", || {
        let found = portolan.admin_json("/conditions").to_string();
        found.contains("192.0.2.1").then_some(found)
    });
    assert!(said.contains("tenant-paris/web") && said.contains("allowedEndpointCIDRs"), "{said}");
    assert_eq!(portolan.admin("/readyz").status, 200);
    *dns.answer.lock().unwrap() = Ipv4Addr::new(127, 0, 0, 5);
    eventually("that is said no more", || {
        (!portolan.admin_json("/conditions").to_string().contains("192.0.2.1")).then_some(())
    });
    assert!(dns.asked.load(Ordering::SeqCst) >= 3);
}

/// What is said of a pool's names is said of those that it has now, whether these resolve or not.
#[test]
fn names_that_a_pool_had_are_complained_of_no_more() {
    let dns = Dns::start(Ipv4Addr::new(192, 0, 2, 1));
    let naming = |name: &str| {
        web(&pool("paris", "web", &[], &format!("endpoints: [{{address: {name}, port: 80}}]\n")))
    };
    let portolan = Setup::new()
        .manifest("fleet.yaml", naming("foreign.internal.test"))
        .arg("--dns-server")
        .arg(dns.address.to_string())
        .start();
    let said = || portolan.admin_json("/conditions").to_string().contains("192.0.2.1");
    eventually("it is said", || said().then_some(()));
    portolan.apply("fleet.yaml", &naming("gone.internal.test"));
    eventually("that is said no more", || (!said()).then_some(()));
}

#[test]
fn upstreams_are_told_who_the_client_is() {
    let echo = Echo::start("web");
    let serve = |spec: &str| {
        Setup::new()
            .spec(spec)
            .manifest("fleet.yaml", cluster("paris", "") + &app("paris", "web", &[echo.address()]))
            .start()
    };
    let believing = serve("clientAddress: {trustedCIDRs: [127.0.0.0/8, 10.0.0.0/8]}\n");
    let hopping = serve("clientAddress: {trustedHops: 1}\n");
    let strict = serve("");
    // The header sent, what the upstream gets, the client in the access log.
    for (portolan, sent, forwarded, client) in [
        (&strict, "", "127.0.0.1", "127.0.0.1"),
        (&strict, "203.0.113.9", "127.0.0.1", "127.0.0.1"),
        (&believing, "", "127.0.0.1", "127.0.0.1"),
        (&believing, "203.0.113.9", "203.0.113.9, 127.0.0.1", "203.0.113.9"),
        (
            &believing,
            "1.2.3.4, 203.0.113.9, 10.0.0.7",
            "1.2.3.4, 203.0.113.9, 10.0.0.7, 127.0.0.1",
            "203.0.113.9",
        ),
        (&hopping, "1.2.3.4, 203.0.113.9", "1.2.3.4, 203.0.113.9, 127.0.0.1", "203.0.113.9"),
    ] {
        let path = format!("/{}-{}", portolan.http_port(), sent.replace([' ', ','], "_"));
        let mut curl = portolan.get(WEB, &path);
        if !sent.is_empty() {
            curl = curl.header("X-Forwarded-For", sent);
        }
        let reply = curl.send();
        assert_eq!(reply.echoed("x-forwarded-for").as_deref(), Some(forwarded), "{sent}: {reply:?}");
        let line = portolan.logged("the line", |line| line["path"] == path.as_str());
        assert_eq!(line["client"], client, "{sent}");
    }
    for (portolan, kept) in [(&believing, true), (&strict, false)] {
        let reply = portolan
            .get(WEB, "/")
            .header("X-Request-Id", "from-the-client")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "public.test")
            .header("Forwarded", "for=203.0.113.9")
            .header("X-Real-IP", "203.0.113.9")
            .send();
        let got = |name: &str| reply.echoed(name);
        assert_eq!(got("x-request-id").unwrap() == "from-the-client", kept);
        assert_eq!(got("x-forwarded-proto").unwrap(), if kept { "https" } else { "http" });
        assert_eq!(got("x-forwarded-host").unwrap(), if kept { "public.test" } else { WEB });
        assert_eq!(got("forwarded").is_some(), kept);
        assert_eq!(got("x-real-ip").is_some(), kept);
        let id = got("x-request-id").unwrap();
        assert_eq!(portolan.logged_request(&id)["status"], 200);
    }
    let ids: Vec<_> = (0..2).map(|_| strict.get(WEB, "/").send().echoed("x-request-id").unwrap()).collect();
    assert!(ids[0] != ids[1] && ids[0].len() == 36, "{ids:?}");
}

#[test]
fn hop_by_hop_fields_end_here() {
    let echo = Echo::start("web");
    let portolan = Portolan::start(&[("fleet.yaml", web(&pool("paris", "web", &[echo.address()], "")))]);
    let reply = portolan
        .get(WEB, "/")
        .header("Connection", "X-Nominated, keep-alive")
        .header("X-Nominated", "1")
        .header("Keep-Alive", "timeout=5")
        .header("Proxy-Connection", "keep-alive")
        .header("TE", "gzip")
        .header("X-Kept", "1")
        .send();
    for name in ["x-nominated", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(reply.echoed(name), None, "{name}: {reply:?}");
    }
    assert_eq!(reply.echoed("x-kept").as_deref(), Some("1"));
}

#[test]
fn connections_are_kept_and_never_shared_between_tenants() {
    let upstream = RawUpstream::start(|mut client, _| {
        while client.head().is_some() {
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let same = [upstream.address()];
    let text = cluster("paris", "")
        + &cluster("tokyo", "")
        + &app("paris", "a", &same)
        + &app("paris", "b", &same)
        + &app("tokyo", "a", &same);
    let portolan = Setup::new().spec("workers: 1\n").manifest("fleet.yaml", text).start();
    let mut client = portolan.raw();
    for round in 0..5 {
        for host in ["a.paris.lb.test", "b.paris.lb.test", "a.tokyo.lb.test"] {
            let response = client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().unwrap();
            assert_eq!(response.status, 200, "{round}: {host}");
        }
    }
    assert_eq!(upstream.connections(), 2, "one for each tenant");
}

#[test]
fn a_connect_that_never_answers_ends_in_time() {
    // A listener whose queue is full answers no connect.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || std::net::TcpStream::connect_timeout(&address, Duration::from_millis(50)).ok();
    let mut held = Vec::new();
    within(Duration::from_secs(30), || {
        let connected = connect();
        let stuck = connected.is_none();
        held.extend(connected);
        (stuck || held.len() > 5000).then_some(())
    });
    let policy = "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: p, namespace: tenant-paris}\nspec:\n".to_owned()
        + &indent("targetRefs: [{kind: Cluster, name: paris}]\ntimeouts: {connect: 300ms}\n", 2);
    let text = web(&pool("paris", "web", &[address], "")) + &policy;
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let reply = portolan.get(WEB, "/").send();
    assert_eq!(reply.status, 504, "{reply:?}");
    assert_eq!(portolan.logged("the line", |_| true)["flag"], "UT");
}
