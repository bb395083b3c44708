//! Answers that no upstream gave: status, flag, body, request id, what the access log and the header for trusted clients say.

use std::net::{Ipv4Addr, SocketAddr};

use crate::streams::{Http2, run_async};
use portolan_e2e::{
    Authority, Echo, Key, Portolan, RawUpstream, Setup, app, cluster, free_port, indent, pool, route, secret,
};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: tenant-paris}}\nspec:\n"
    ) + &indent(&format!("targetRefs: [{{kind: HTTPLoadBalancer, name: {name}}}]\n{spec}"), 2)
}

/// A fleet with a way to each failure, `<what>.paris.lb.test`.
fn fleet(echo: &Echo, resets: &RawUpstream, setup: Setup) -> Portolan {
    let dead = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let text = cluster("paris", "certificateRef: {name: generated}\nallowedDomains: [{suffix: shop.test}]\n")
        + &app("paris", "ok", &[echo.address()])
        + &route(
            "paris",
            "narrow",
            "rules:\n- matches: [{path: {value: /only}}]\n  backends: [{pool: ok}]\n",
        )
        + &app("paris", "small", &[echo.address()])
        + &policy("small", "maxRequestBody: 10\n")
        + &app("paris", "slow", &[echo.address()])
        + &policy("slow", "timeouts: {perTry: 300ms}\n")
        + &app("paris", "total", &[echo.address()])
        + &policy("total", "timeouts: {request: 300ms}\n")
        + &route("paris", "rule", "rules:\n- backends: [{pool: ok}]\n  timeouts: {backendRequest: 300ms}\n")
        + &app("paris", "dead", &[dead])
        + &app("paris", "resets", &[resets.address()])
        + &route("paris", "nopool", "rules:\n- backends: [{pool: missing}]\n")
        + &route("paris", "zero", "rules:\n- backends: [{pool: ok, weight: 0}]\n")
        + &route("paris", "zeros", "rules:\n- backends: [{pool: ok, weight: 0}, {pool: small, weight: 0}]\n")
        + &route("paris", "empty", "rules:\n- backends: [{pool: empty}]\n")
        + &pool("paris", "empty", &[], "endpointSlices: {}\n");
    setup.manifest("fleet.yaml", text).start()
}

#[test]
fn each_failure_has_its_status_flag_and_words() {
    let echo = Echo::start("ok");
    let resets = RawUpstream::start(|mut client, _| drop(client.head()));
    let portolan = fleet(&echo, &resets, Setup::new().trusting());
    // host, path, body, status, flag, the object that caused it, the pool
    for (host, path, body, status, flag, object, of_pool) in [
        ("nobody.test", "/", 0, 404, "NR", None, None),
        ("narrow.paris.lb.test", "/other", 0, 404, "NR", None, None),
        ("small.paris.lb.test", "/", 11, 413, "BL", Some("small"), None),
        ("slow.paris.lb.test", "/?delay_ms=5000", 0, 504, "UT", Some("slow"), Some("slow")),
        ("total.paris.lb.test", "/?delay_ms=5000", 0, 504, "UT", Some("total"), Some("total")),
        ("rule.paris.lb.test", "/?delay_ms=5000", 0, 504, "UT", Some("rule"), Some("ok")),
        ("dead.paris.lb.test", "/", 0, 502, "UF", Some("dead"), Some("dead")),
        ("resets.paris.lb.test", "/", 0, 502, "UF", Some("resets"), Some("resets")),
        ("nopool.paris.lb.test", "/", 0, 500, "NP", Some("nopool"), None),
        ("zeros.paris.lb.test", "/", 0, 500, "NP", Some("zeros"), None),
        ("zero.paris.lb.test", "/", 0, 500, "NP", Some("zero"), None),
        ("empty.paris.lb.test", "/", 0, 503, "NH", Some("empty"), Some("empty")),
    ] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let mut curl = portolan.get(host, path).arg(version).header("portolan-explain", "1");
            if body > 0 {
                curl = curl.body(vec![b'x'; body]);
            }
            let reply = curl.send();
            let what = format!("{host} {version}: {reply:?}");
            assert_eq!(reply.status, status, "{what}");
            assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{what}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{what}");
            let id = reply.header("x-request-id").expect("an id").to_owned();
            assert!(reply.text().contains(&format!("flag: {flag}")) && reply.text().contains(&id), "{what}");
            let explain = reply.header("portolan-explain").expect("for a trusted client");
            assert!(explain.contains(&format!("flag={flag}")) && explain.contains("revision="), "{what}");
            let line = portolan.logged_request(&id);
            assert_eq!(
                (line["status"].as_u64(), line["flag"].as_str()),
                (Some(status.into()), Some(flag)),
                "{line}"
            );
            assert!(line["reason"].is_string(), "{line}");
            let route = object.map(|name| format!("tenant-paris/{name}"));
            assert_eq!(line["route"].as_str(), route.as_deref(), "{line}");
            assert_eq!(line["cluster"].as_str(), object.map(|_| "paris"), "{line}");
            let pool = of_pool.map(|name| format!("tenant-paris/{name}"));
            assert_eq!(line["pool"].as_str(), pool.as_deref(), "{line}");
            if let Some(route) = route {
                assert!(explain.contains(&route), "{what}");
            }
        }
        let series = format!("portolan_listener_flagged_requests_total{{listener=\"http\",flag=\"{flag}\"}}");
        assert!(portolan.metric(&series).is_some_and(|count| count >= 2.0), "{series}");
    }
}

#[test]
fn a_body_of_unknown_length_is_limited_too() {
    let echo = Echo::start("ok");
    let resets = RawUpstream::start(|mut client, _| drop(client.head()));
    let portolan = fleet(&echo, &resets, Setup::new());
    let reply = portolan
        .get("small.paris.lb.test", "/")
        .header("Transfer-Encoding", "chunked")
        .body(vec![b'x'; 100])
        .send();
    assert_eq!(reply.status, 413, "{reply:?}");
    assert!(reply.text().contains("flag: BL"), "{reply:?}");
    let reply = portolan
        .get("small.paris.lb.test", "/")
        .header("Transfer-Encoding", "chunked")
        .body("0123456789")
        .send();
    assert_eq!(reply.status, 200, "just as large as allowed: {reply:?}");
}

/// Regression: the reset of a stream whose client was still sending came before its client had read the answer.
#[test]
fn a_client_that_is_still_sending_is_not_reset() {
    let echo = Echo::start("ok");
    let resets = RawUpstream::start(|mut client, _| drop(client.head()));
    let portolan = fleet(&echo, &resets, Setup::new());
    run_async(async {
        let client = Http2::plain(portolan.http()).await;
        let request = http::Request::post("http://small.paris.lb.test/").header("content-length", "100");
        let mut ready = client.send.clone().ready().await.expect("ready");
        let (response, mut body) =
            ready.send_request(request.body(()).expect("a request"), false).expect("sent");
        let mut response = response.await.expect("an answer");
        assert_eq!(response.status(), 413);
        while let Some(data) = response.body_mut().data().await {
            data.expect("a body");
        }
        // What the other side has sent until here was read when a sibling is answered.
        assert_eq!(client.fetch("http://nobody.test/").await.expect("a sibling").0, 404);
        let reset = std::future::poll_fn(|cx| std::task::Poll::Ready(body.poll_reset(cx))).await;
        assert!(reset.is_pending(), "{reset:?}");
        body.send_data(vec![b'x'; 100].into(), true).expect("the stream is open");
    });
}

/// Heads that nothing is believed of get an answer with an id and a date all the same.
#[test]
fn a_refused_head_can_be_found_in_the_log() {
    let portolan = Portolan::start(&[]);
    let mut client = portolan.raw();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    let answer = client.response().expect("an answer");
    assert_eq!(answer.status, 400);
    let field = |name| answer.head.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
    let line = portolan.logged_request(field("x-request-id: "));
    assert_eq!((line["status"].as_u64(), line["flag"].as_str()), (Some(400), Some("BR")), "{line}");
    let date = field("date: ");
    let parsed =
        std::process::Command::new("date").args(["-u", "-d", date, "+%a, %d %b %Y %H:%M:%S GMT"]).output();
    assert_eq!(String::from_utf8_lossy(&parsed.expect("date").stdout).trim(), date);
    assert!(String::from_utf8_lossy(&answer.body).contains(field("x-request-id: ")));
}

#[test]
fn the_form_follows_accept() {
    let echo = Echo::start("ok");
    let resets = RawUpstream::start(|mut client, _| drop(client.head()));
    let portolan = fleet(&echo, &resets, Setup::new());
    for (accept, kind) in [
        ("*/*", "text/plain; charset=utf-8"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/html;q=0.1, application/json", "application/json"),
        ("image/png", "text/plain; charset=utf-8"),
    ] {
        let reply = portolan.get("nobody.test", "/").header("Accept", accept).send();
        assert_eq!((reply.status, reply.header("content-type")), (404, Some(kind)), "{accept}");
        let id = reply.header("x-request-id").unwrap();
        assert!(reply.text().contains(id), "{accept}: {reply:?}");
        match kind {
            "application/json" => {
                let json = reply.json();
                assert_eq!(
                    (json["status"].as_u64(), json["flag"].as_str()),
                    (Some(404), Some("NR")),
                    "{json}"
                );
                assert_eq!(json["requestId"], id);
            }
            "text/html; charset=utf-8" => assert!(reply.text().starts_with("<!doctype html>"), "{reply:?}"),
            _ => {}
        }
    }
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for host in ["nobody.test", "dead.paris.lb.test", "empty.paris.lb.test"] {
            let reply = portolan.get(host, "/").arg(version).method("HEAD").send();
            assert_eq!((reply.exit, reply.body.len()), (0, 0), "{version} {host}: {reply:?}");
            assert!(reply.status >= 404, "{version} {host}: {reply:?}");
            assert_ne!(reply.header("content-length"), Some("0"), "as a GET would say");
        }
    }
}

#[test]
fn only_trusted_clients_are_told_who_handled_them() {
    let echo = Echo::start("ok");
    let resets = RawUpstream::start(|mut client, _| drop(client.head()));
    for (setup, told) in [(Setup::new().trusting(), true), (Setup::new(), false)] {
        let portolan = fleet(&echo, &resets, setup);
        for host in ["ok.paris.lb.test", "nobody.test"] {
            let reply = portolan.get(host, "/").header("portolan-explain", "1").send();
            assert_eq!(reply.header("portolan-explain").is_some(), told, "{host}: {reply:?}");
            let reply = portolan.get(host, "/").send();
            assert_eq!(reply.header("portolan-explain"), None, "who does not ask is not told");
        }
        let reply = portolan.get("ok.paris.lb.test", "/").header("portolan-explain", "1").send();
        assert_eq!(reply.echoed("portolan-explain"), None, "the upstream does not see the question");
        if told {
            let words = reply.header("portolan-explain").unwrap();
            for expected in [
                "object=tenant-paris/ok",
                "rule=0",
                "pool=tenant-paris/ok",
                &format!("upstream={}", echo.address()),
            ] {
                assert!(words.contains(expected), "{expected}: {words}");
            }
        }
    }
}

#[test]
fn a_misdirected_request_is_said_to_be() {
    let (echo, authority) = (Echo::start("ok"), Authority::new("CA"));
    let mut text = cluster("paris", "allowedDomains: [{suffix: shop.test}]\n")
        + &pool("paris", "web", &[echo.address()], "");
    for name in ["a", "b"] {
        let pair = authority.issue(&[&format!("{name}.shop.test")], Key::Ecdsa);
        text += &secret("tenant-paris", name, &pair.chain, &pair.key);
        text += &route(
            "paris",
            name,
            &format!(
                "hosts: [{name}.shop.test]\ntls: [{{secretName: {name}}}]\nrules:\n- backends: [{{pool: web}}]\n"
            ),
        );
    }
    let portolan = Setup::new().trusting().manifest("fleet.yaml", text).start();
    let ca = authority.file(portolan.folder());
    let reply = portolan
        .get_tls("a.shop.test", "/", &ca)
        .arg("--http2")
        .host("b.shop.test")
        .header("portolan-explain", "1")
        .send();
    assert_eq!(reply.status, 421, "{reply:?}");
    assert!(reply.header("portolan-explain").unwrap().contains("flag=MD"));
    assert!(reply.text().contains("flag: MD"));
}
