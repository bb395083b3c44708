//! Which rule takes a request, and what its filters do.

use std::collections::BTreeMap;

use portolan_e2e::{Curl, Echo, Portolan, Reply, Setup, app, cluster, indent, pool, route};

/// Rules whose answers name them in `x-rule`, from their matches.
fn named_rules(rules: &[(&str, &str)]) -> String {
    let rules = rules.iter().map(|(name, matches)| {
        let filter = format!(
            "filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: X-Rule, value: {name}}}]}}}}]\n"
        );
        format!("- matches: [{matches}]\n  backends: [{{pool: web}}]\n") + &indent(&filter, 2)
    });
    format!("rules:\n{}", rules.collect::<String>())
}

/// One Portolan with an application per table, each on `<name>.paris.lb.test`.
fn serve(echo: &Echo, apps: &[(&str, String)]) -> Portolan {
    let mut text = cluster("paris", "") + &pool("paris", "web", &[echo.address()], "");
    for (name, spec) in apps {
        text += &route("paris", name, spec);
    }
    Portolan::start(&[("fleet.yaml", text)])
}

fn ask(portolan: &Portolan, name: &str, line: &str) -> Reply {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut curl = portolan.get(&format!("{name}.paris.lb.test"), target);
    if method != "GET" {
        curl = curl.method(method);
    }
    for field in words {
        let (name, value) = field.split_once(':').unwrap();
        curl = curl.header(name, value);
    }
    curl.send()
}

#[test]
fn every_kind_of_match_and_their_precedence() {
    let tables: &[(&str, &[(&str, &str)], &[(&str, &str)])] = &[
        (
            "paths",
            &[
                ("root", "{path: {value: /}}"),
                ("prefix", "{path: {type: Prefix, value: /a}}"),
                ("longer", "{path: {value: /a/b}}"),
                ("exact", "{path: {type: Exact, value: /a/b/c}}"),
                ("regex", "{path: {type: RegularExpression, value: '/r/[0-9]+(/.*)?'}}"),
                ("escaped", "{path: {type: Exact, value: /caf%c3%a9//%41%2f}}"),
            ],
            &[
                ("GET /", "root"),
                ("GET /x", "root"),
                ("GET /a", "prefix"),
                ("GET /a/", "prefix"),
                ("GET /ab", "root"),
                ("GET /A", "root"),
                ("GET /a/x?q=/a/b", "prefix"),
                ("GET /a/b", "longer"),
                ("GET /a/b/", "longer"),
                ("GET /a/bc", "prefix"),
                ("GET /a/b/c", "exact"),
                ("GET /a/b/c?q=1", "exact"),
                ("GET /a/b/c/", "longer"),
                ("GET /a/b/c/d", "longer"),
                ("GET /r/12", "regex"),
                ("GET /r/12/x", "regex"),
                ("GET /r/x", "root"),
                ("GET /r/12x", "root"),
                // Equivalent paths take the same route.
                ("GET /a/./b/../b/c", "exact"),
                ("GET /%61/b", "longer"),
                ("GET /a%2Fb", "root"),
                ("GET /caf%C3%a9//A%2F", "escaped"),
                ("GET /%63af%c3%A9//%41%2f", "escaped"),
                ("GET /a/x/%2e%2e/b", "longer"),
            ],
        ),
        (
            "conditions",
            &[
                ("any", "{path: {value: /}}"),
                ("post", "{path: {value: /}, method: POST}"),
                ("one-header", "{path: {value: /}, headers: [{name: X-One, value: '1'}]}"),
                (
                    "two-headers",
                    "{path: {value: /}, headers: [{name: X-One, value: '1'}, {name: x-two, value: '2'}]}",
                ),
                (
                    "regex-header",
                    "{path: {value: /}, headers: [{name: X-Re, type: RegularExpression, value: 'v[0-9]+'}]}",
                ),
                ("query", "{path: {value: /}, queryParams: [{name: q, value: '1'}]}"),
                (
                    "two-queries",
                    "{path: {value: /}, queryParams: [{name: q, value: '1'}, {name: p, value: '2'}]}",
                ),
                (
                    "regex-query",
                    "{path: {value: /}, queryParams: [{name: re, type: RegularExpression, value: '[a-z]{2}'}]}",
                ),
                ("longer", "{path: {value: /longer}}"),
            ],
            &[
                ("GET /", "any"),
                ("POST /", "post"),
                ("PUT /", "any"),
                ("GET / X-One:1", "one-header"),
                ("GET / x-one:1", "one-header"),
                ("GET / X-One:11", "any"),
                ("GET / X-One:1 X-Two:2", "two-headers"),
                ("POST / X-One:1 X-Two:2", "post"),
                ("GET / X-Re:v12", "regex-header"),
                ("GET / X-Re:v12x", "any"),
                ("GET /?q=1", "query"),
                ("GET /?q=2", "any"),
                ("GET /?q=1&p=2", "two-queries"),
                ("GET /?q=1 X-One:1", "one-header"),
                ("GET /?re=ab", "regex-query"),
                ("GET /?re=abc", "any"),
                ("GET /longer?q=1 X-One:1", "longer"),
            ],
        ),
        (
            "ties",
            &[
                ("first", "{path: {value: /x}}, {path: {value: /or}}"),
                ("second", "{path: {value: /x}}"),
                (
                    "both",
                    "{path: {value: /and}, method: GET, headers: [{name: a, value: b}], queryParams: [{name: c, value: d}]}",
                ),
            ],
            &[
                ("GET /x", "first"),
                ("GET /or", "first"),
                ("GET /and?c=d a:b", "both"),
                ("GET /and?c=d", "-"),
                ("GET /and a:b", "-"),
                ("POST /and?c=d a:b", "-"),
                ("GET /nothing", "-"),
            ],
        ),
    ];
    let echo = Echo::start("web");
    let apps: Vec<(&str, String)> =
        tables.iter().map(|(name, rules, _)| (*name, named_rules(rules))).collect();
    let portolan = serve(&echo, &apps);
    for (name, _, rows) in tables {
        for (line, expected) in *rows {
            let reply = ask(&portolan, name, line);
            let status = if *expected == "-" { 404 } else { 200 };
            assert_eq!(reply.status, status, "{name}: {line}: {reply:?}");
            assert_eq!(reply.header("x-rule").unwrap_or("-"), *expected, "{name}: {line}");
        }
    }
}

#[test]
fn a_method_and_a_head_request() {
    let echo = Echo::start("web");
    let rules = named_rules(&[
        ("head", "{method: HEAD}"),
        ("delete", "{method: DELETE}"),
        ("options", "{method: OPTIONS}"),
    ]);
    let portolan = serve(&echo, &[("methods", rules)]);
    for (method, expected) in
        [("HEAD", Some("head")), ("DELETE", Some("delete")), ("OPTIONS", Some("options")), ("GET", None)]
    {
        let reply = ask(&portolan, "methods", &format!("{method} /"));
        assert_eq!(reply.header("x-rule"), expected, "{method}");
    }
}

#[test]
fn headers_of_requests_are_edited() {
    let echo = Echo::start("web");
    let spec = "rules:
- filters:
  - type: RequestHeaderModifier
    requestHeaderModifier:
      set: [{name: X-Set, value: new}, {name: X-Fresh, value: made}]
      add: [{name: X-Add, value: more}]
      remove: [X-Remove, X-Missing]
  backends: [{pool: web}]
";
    let portolan = serve(&echo, &[("edits", spec.to_owned())]);
    let reply = ask(&portolan, "edits", "GET / X-Set:old x-set:older X-Add:one X-Remove:me X-Keep:it");
    for (name, expected) in [
        ("x-set", Some("new")),
        ("x-fresh", Some("made")),
        ("x-add", Some("one, more")),
        ("x-remove", None),
        ("x-keep", Some("it")),
    ] {
        assert_eq!(reply.echoed(name).as_deref(), expected, "{name}");
    }
}

#[test]
fn headers_of_responses_are_edited() {
    let nginx = portolan_e2e::Nginx::start(
        "listen 127.0.0.1:$PORT;
location / { add_header X-Set old; add_header X-Set older; add_header X-Add one; add_header X-Remove me; add_header X-Keep it; return 200 ok; }",
    );
    let spec = "rules:
- filters:
  - type: ResponseHeaderModifier
    responseHeaderModifier:
      set: [{name: X-Set, value: new}]
      add: [{name: X-Add, value: more}, {name: Cache-Control, value: no-store}]
      remove: [X-Remove, Server]
  backends: [{pool: web}]
";
    let text =
        cluster("paris", "") + &pool("paris", "web", &[nginx.address()], "") + &route("paris", "edits", spec);
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let reply = ask(&portolan, "edits", "GET /");
    for (name, expected) in [
        ("x-set", &["new"][..]),
        ("x-add", &["one", "more"]),
        ("cache-control", &["no-store"]),
        ("x-remove", &[]),
        ("server", &[]),
        ("x-keep", &["it"]),
    ] {
        assert_eq!(reply.all(name), expected, "{name}: {reply:?}");
    }
}

#[test]
fn redirects() {
    let echo = Echo::start("web");
    // path, the redirect, the status, where to ($HTTP is the listener's port)
    let rows = [
        ("/scheme", "{scheme: https}", 302, "https://redirects.paris.lb.test/scheme/x?q=1"),
        (
            "/scheme-port",
            "{scheme: https, port: 8443}",
            302,
            "https://redirects.paris.lb.test:8443/scheme-port/x?q=1",
        ),
        (
            "/scheme-443",
            "{scheme: https, port: 443}",
            302,
            "https://redirects.paris.lb.test/scheme-443/x?q=1",
        ),
        ("/plain", "{scheme: http}", 302, "http://redirects.paris.lb.test/plain/x?q=1"),
        ("/plain-80", "{port: 80}", 302, "http://redirects.paris.lb.test/plain-80/x?q=1"),
        ("/host", "{hostname: other.test, statusCode: 301}", 301, "http://other.test:$HTTP/host/x?q=1"),
        ("/port", "{port: 81}", 302, "http://redirects.paris.lb.test:81/port/x?q=1"),
        (
            "/full",
            "{path: {type: ReplaceFullPath, replaceFullPath: /new}}",
            302,
            "http://redirects.paris.lb.test:$HTTP/new?q=1",
        ),
        (
            "/prefix",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /p}}",
            302,
            "http://redirects.paris.lb.test:$HTTP/p/x?q=1",
        ),
        (
            "/strip",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}",
            302,
            "http://redirects.paris.lb.test:$HTTP/x?q=1",
        ),
        ("/s303", "{hostname: o.test, statusCode: 303}", 303, "http://o.test:$HTTP/s303/x?q=1"),
        ("/s307", "{hostname: o.test, statusCode: 307}", 307, "http://o.test:$HTTP/s307/x?q=1"),
        ("/s308", "{hostname: o.test, statusCode: 308}", 308, "http://o.test:$HTTP/s308/x?q=1"),
        (
            "/all",
            "{scheme: https, hostname: o.test, port: 8443, path: {type: ReplaceFullPath, replaceFullPath: /n}, statusCode: 301}",
            301,
            "https://o.test:8443/n?q=1",
        ),
    ];
    let mut spec = "rules:\n".to_owned();
    for (path, redirect, ..) in rows {
        spec += &format!(
            "- matches: [{{path: {{value: {path}}}}}]\n  filters: [{{type: RequestRedirect, requestRedirect: {redirect}}}]\n"
        );
    }
    let portolan = serve(&echo, &[("redirects", spec)]);
    for (path, redirect, status, location) in rows {
        let reply = ask(&portolan, "redirects", &format!("GET {path}/x?q=1"));
        assert_eq!(reply.status, status, "{redirect}: {reply:?}");
        assert_eq!(reply.header("location"), Some(portolan.fill(location).as_str()), "{redirect}");
        assert_eq!(reply.body, b"");
    }
    let reply = portolan.get("redirects.paris.lb.test", "/s308").arg("--http2-prior-knowledge").send();
    assert_eq!((reply.exit, reply.status), (0, 308), "its stream ends well too: {reply:?}");
    assert_eq!(echo.requests(), 0);
}

#[test]
fn rewrites() {
    let echo = Echo::start("web");
    // the rule's path, the rewrite, asked for, what goes upstream, its host
    let own = "rewrites.paris.lb.test";
    let rows = [
        ("/full", "{path: {type: ReplaceFullPath, replaceFullPath: /new}}", "/full/x?q=1", "/new?q=1", own),
        (
            "/prefix",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /p/}}",
            "/prefix/x?q=1",
            "/p/x?q=1",
            own,
        ),
        ("/alone", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /p}}", "/alone", "/p", own),
        ("/strip", "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}", "/strip", "/", own),
        (
            "/strip2",
            "{path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}",
            "/strip2/a//b",
            "/a//b",
            own,
        ),
        ("/host", "{hostname: internal.test}", "/host/x", "/host/x", "internal.test"),
        (
            "/both",
            "{hostname: internal.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}",
            "/both/%2F?x=%20",
            "/b/%2F?x=%20",
            "internal.test",
        ),
    ];
    let mut spec = "rules:\n".to_owned();
    for (path, rewrite, ..) in rows {
        spec += &format!(
            "- matches: [{{path: {{value: {path}}}}}]\n  backends: [{{pool: web}}]\n  filters: [{{type: URLRewrite, urlRewrite: {rewrite}}}]\n"
        );
    }
    let portolan = serve(&echo, &[("rewrites", spec)]);
    for (_, rewrite, asked, target, host) in rows {
        let reply = ask(&portolan, "rewrites", &format!("GET {asked}"));
        assert_eq!(reply.status, 200, "{rewrite}: {reply:?}");
        assert_eq!(reply.json()["target"], target, "{rewrite}");
        assert_eq!(reply.echoed("host").as_deref(), Some(host), "{rewrite}");
        assert_eq!(
            reply.echoed("x-forwarded-host").as_deref(),
            Some(own),
            "{rewrite}: as the client spelled it"
        );
    }
}

#[test]
fn the_host_is_rewritten_over_http2_too() {
    let echo = Echo::start("web");
    let spec = "rules:\n- backends: [{pool: web}]\n  filters: [{type: URLRewrite, urlRewrite: {hostname: internal.test}}]\n";
    let text = cluster("paris", "")
        + &pool("paris", "web", &[echo.address()], "protocol: HTTP2\n")
        + &route("paris", "web", spec);
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let reply = portolan.get("web.paris.lb.test", "/x").arg("--http2-prior-knowledge").send();
    assert_eq!(reply.json()["target"], "http://internal.test/x", "{reply:?}");
}

/// Over HTTP/2 a target carries its authority, whatever becomes of its path.
#[test]
fn a_path_that_changes_keeps_its_authority() {
    let echo = Echo::start("web");
    let rewrite = |kind: &str| format!("filters: [{{type: URLRewrite, urlRewrite: {{path: {kind}}}}}]");
    let spec = format!(
        "rules:\n- backends: [{{pool: web}}]\n\
         - matches: [{{path: {{value: /full}}}}]\n  backends: [{{pool: web}}]\n  {}\n\
         - matches: [{{path: {{value: /prefix}}}}]\n  backends: [{{pool: web}}]\n  {}\n",
        rewrite("{type: ReplaceFullPath, replaceFullPath: /new}"),
        rewrite("{type: ReplacePrefixMatch, replacePrefixMatch: /p}"),
    );
    let own = "web.paris.lb.test";
    for (protocol, before) in [("HTTP1", String::new()), ("HTTP2", format!("http://{own}"))] {
        let text = cluster("paris", "")
            + &pool("paris", "web", &[echo.address()], &format!("protocol: {protocol}\n"))
            + &route("paris", "web", &spec);
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        for (asked, target) in [
            ("/same?q=1", "/same?q=1"),
            ("/%7Eme", "/~me"),
            ("/%7Eme?q=%7E", "/~me?q=%7E"),
            ("/a/./b", "/a/b"),
            ("/a/../b/", "/b/"),
            ("/full/x?q=1", "/new?q=1"),
            ("/prefix/x?q=1", "/p/x?q=1"),
            ("/x/../prefix/%7E", "/p/~"),
        ] {
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                let reply = portolan.get(own, asked).arg(version).send();
                let what = format!("{version} {asked} to {protocol}: {reply:?}");
                assert_eq!((reply.exit, reply.status), (0, 200), "{what}");
                assert_eq!(reply.json()["target"], format!("{before}{target}"), "{what}");
                assert_eq!(reply.echoed("x-forwarded-host").as_deref(), Some(own), "{what}");
                if protocol == "HTTP1" {
                    assert_eq!(reply.echoed("host").as_deref(), Some(own), "{what}");
                }
            }
        }
    }
}

#[test]
fn weights_share_requests_out() {
    let echoes: Vec<Echo> = ["heavy", "light", "none"].map(Echo::start).into();
    let mut text = cluster("paris", "");
    for echo in &echoes {
        let name = if echo.address() == echoes[0].address() {
            "heavy"
        } else if echo.address() == echoes[1].address() {
            "light"
        } else {
            "none"
        };
        text += &pool("paris", name, &[echo.address()], "");
    }
    text += &route(
        "paris",
        "split",
        "rules:\n- backends: [{pool: heavy, weight: 80}, {pool: light, weight: 20}, {pool: none, weight: 0}]\n",
    );
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let mut client = portolan.raw();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    const ASKED: u32 = 1000;
    for _ in 0..ASKED {
        let response = client.send("GET / HTTP/1.1\r\nHost: split.paris.lb.test\r\n\r\n").response().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        *counts.entry(json["name"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    // Six standard deviations of a fair draw: 76.
    let heavy = counts["heavy"];
    assert!(heavy.abs_diff(ASKED * 80 / 100) < 76, "{counts:?}");
    assert_eq!(counts.get("none"), None);
}

#[test]
fn a_catch_all_takes_what_nobody_else_serves() {
    let (own, all) = (Echo::start("own"), Echo::start("all"));
    let text = cluster("paris", "")
        + &cluster("tokyo", "")
        + &app("paris", "shop", &[own.address()])
        + &app("tokyo", "any", &[all.address()]);
    let portolan = Setup::new().spec("catchAllCluster: tokyo\n").manifest("fleet.yaml", text).start();
    for (host, expected) in [
        ("shop.paris.lb.test", "own"),
        ("any.tokyo.lb.test", "all"),
        ("elsewhere.test", "all"),
        ("127.0.0.1", "all"),
    ] {
        let reply = portolan.get(host, "/").send();
        assert_eq!(reply.json()["name"], expected, "{host}");
    }
    for host in ["nobody.paris.lb.test", "nobody.tokyo.lb.test", "lb.test"] {
        assert_eq!(portolan.get(host, "/").send().status, 404, "{host} is a cluster's or nobody's");
    }
    // HTTP/1.0 may do without a host; the HTTP/1.1 that goes upstream may not (RFC 9112 §3.2).
    let response = portolan.raw().send("GET / HTTP/1.0\r\n\r\n").response().unwrap();
    assert_eq!(response.status, 200, "{response:?}");
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    let headers = json["headers"].as_array().unwrap();
    assert!(headers.contains(&serde_json::json!(["host", all.address().to_string()])), "{json}");
}

#[test]
fn nobodys_host_gets_404() {
    let echo = Echo::start("web");
    let portolan = serve(&echo, &[("shop", "rules: [{backends: [{pool: web}]}]\n".to_owned())]);
    for host in ["nobody.test", "paris.lb.test", "x.shop.paris.lb.test", "shop.tokyo.lb.test", "lb.test"] {
        let reply = Curl::new(format!("http://{}/", portolan.http())).host(host).send();
        assert_eq!(reply.status, 404, "{host}");
    }
}
