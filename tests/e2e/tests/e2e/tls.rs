//! TLS on both sides: certificates by server name, versions, ciphers, resumption, misdirected requests, HTTPS upstreams, policies.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use portolan_e2e::{
    Authority, Curl, Echo, Key, Nginx, Pair, Portolan, RawClient, Setup, app, cluster, config_map, free_port,
    pool, route, run, secret,
};

fn s_client(address: SocketAddr, args: &[&str]) -> String {
    s_client_saying(address, args, "")
}

fn s_client_saying(address: SocketAddr, args: &[&str], say: &str) -> String {
    let mut command = Command::new("timeout");
    command.args(["20", "openssl", "s_client", "-connect", &address.to_string()]).args(args);
    let output = run(&mut command, say.as_bytes());
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The common name of the certificate that the server shows, or the alert that it refuses with.
fn shown(said: &str) -> String {
    let name = said.lines().find_map(|line| line.strip_prefix("subject=CN = "));
    let alert =
        said.lines().find_map(|line| Some(format!("alert {}", line.split_once("SSL alert number ")?.1)));
    name.map(str::to_owned).or(alert).unwrap_or_else(|| said.to_owned())
}

fn tls_secret(cluster: &str, name: &str, pair: &Pair) -> String {
    secret(&format!("tenant-{cluster}"), name, &pair.chain, &pair.key)
}

/// `www.shop.test` and `api.shop.test` have a certificate each, `*.shop.test` one of its own, generated names another.
struct Fleet {
    authority: Authority,
    _echo: Echo,
    portolan: Portolan,
    /// A listener with a default certificate.
    open: SocketAddr,
}

fn fleet(setup: Setup) -> Fleet {
    let authority = Authority::new("the fleet's CA");
    let echo = Echo::start("web");
    let issue = |names: &[&str]| authority.issue(names, Key::Ecdsa);
    let edge = issue(&["edge.test"]);
    let port = free_port();
    let mut text =
        cluster("paris", "allowedDomains: [{suffix: shop.test}]\ncertificateRef: {name: generated}\n")
            + &pool("paris", "web", &[echo.address()], "")
            + &tls_secret("paris", "generated", &issue(&["*.paris.lb.test"]))
            + &tls_secret("paris", "www", &issue(&["www.shop.test", "two.shop.test"]))
            + &tls_secret("paris", "api", &issue(&["api.shop.test"]))
            + &tls_secret("paris", "wild", &issue(&["*.shop.test"]))
            + &secret("portolan-system", "edge", &edge.chain, &edge.key);
    for (name, hosts) in
        [("www", "www.shop.test, two.shop.test"), ("api", "api.shop.test"), ("wild", "'*.shop.test'")]
    {
        text += &route(
            "paris",
            name,
            &format!(
                "hosts: [{hosts}]\ntls: [{{secretName: {name}}}]\nrules:\n- backends: [{{pool: web}}]\n"
            ),
        );
    }
    let listener = format!(
        "name: open\naddress: 127.0.0.1\nport: {port}\nprotocol: HTTPS\ntls: {{defaultCertificateRef: {{name: edge}}}}\n"
    );
    let portolan = setup.listener(&listener).manifest("fleet.yaml", text).start();
    Fleet { authority, _echo: echo, portolan, open: SocketAddr::from(([127, 0, 0, 1], port)) }
}

#[test]
fn a_certificate_by_server_name() {
    let fleet = fleet(Setup::new());
    let (strict, open) = (fleet.portolan.https(), fleet.open);
    for (name, at_strict, at_open) in [
        ("www.shop.test", "www.shop.test", "www.shop.test"),
        ("WWW.shop.TEST", "www.shop.test", "www.shop.test"),
        ("two.shop.test", "www.shop.test", "www.shop.test"),
        ("api.shop.test", "api.shop.test", "api.shop.test"),
        ("x.shop.test", "*.shop.test", "*.shop.test"),
        ("anything.paris.lb.test", "*.paris.lb.test", "*.paris.lb.test"),
        // `unrecognized_name`, unless there is a default.
        ("x.y.shop.test", "alert 112", "edge.test"),
        ("shop.test", "alert 112", "edge.test"),
        ("nobody.test", "alert 112", "edge.test"),
        ("", "alert 112", "edge.test"),
    ] {
        let args = if name.is_empty() { vec!["-noservername"] } else { vec!["-servername", name] };
        for (address, expected) in [(strict, at_strict), (open, at_open)] {
            for version in ["-tls1_2", "-tls1_3"] {
                let said = s_client(address, &[&args[..], &[version]].concat());
                assert_eq!(shown(&said), expected, "{name} {version}: {said}");
            }
        }
    }
}

#[test]
fn requests_over_tls_are_verified_and_served() {
    let fleet = fleet(Setup::new());
    let ca = fleet.authority.file(fleet.portolan.folder());
    for (host, version) in [
        ("www.shop.test", "--http1.1"),
        ("www.shop.test", "--http2"),
        ("x.shop.test", "--http2"),
        ("www.paris.lb.test", "--http1.1"),
    ] {
        for tls in ["--tlsv1.3", "--tls-max=1.2"] {
            let mut curl = fleet.portolan.get_tls(host, "/x", &ca).arg(version);
            curl = if tls == "--tlsv1.3" { curl.arg(tls) } else { curl.args(&["--tls-max", "1.2"]) };
            let reply = curl.send();
            assert_eq!((reply.exit, reply.status), (0, 200), "{host} {version} {tls}: {reply:?}");
            assert_eq!(reply.version, if version == "--http2" { "HTTP/2" } else { "HTTP/1.1" });
            assert_eq!(reply.echoed("x-forwarded-proto").as_deref(), Some("https"));
        }
    }
    let line = fleet.portolan.logged("a line", |line| line["server_name"] == "x.shop.test");
    assert_eq!(line["listener"], "https");
    assert!(
        line["tls"].as_str().unwrap().contains("1.3") || line["tls"].as_str().unwrap().contains("1.2"),
        "{line}"
    );
}

#[test]
fn ecdsa_and_rsa_side_by_side() {
    let authority = Authority::new("CA");
    let echo = Echo::start("web");
    let text = cluster("paris", "allowedDomains: [{suffix: shop.test}]\n")
        + &pool("paris", "web", &[echo.address()], "")
        + &tls_secret("paris", "ecdsa", &authority.issue(&["www.shop.test"], Key::Ecdsa))
        + &tls_secret("paris", "rsa", &authority.issue(&["www.shop.test"], Key::Rsa))
        + &route(
            "paris",
            "shop",
            "hosts: [www.shop.test]\ntls: [{secretName: rsa}, {secretName: ecdsa}]\nrules:\n- backends: [{pool: web}]\n",
        );
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for (args, expected) in [
        (&["-tls1_3"][..], "Peer signature type: ECDSA"),
        (&["-tls1_3", "-sigalgs", "ECDSA+SHA256"], "Peer signature type: ECDSA"),
        (&["-tls1_3", "-sigalgs", "RSA-PSS+SHA256"], "Peer signature type: RSA-PSS"),
        (&["-tls1_2", "-sigalgs", "ECDSA+SHA256"], "Peer signature type: ECDSA"),
        (&["-tls1_2", "-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"], "Peer signature type: RSA"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "Peer signature type: RSA"),
    ] {
        let said = s_client(portolan.https(), &[&["-servername", "www.shop.test"], args].concat());
        assert!(said.contains(expected), "{args:?}: {said}");
    }
}

#[test]
fn versions_ciphers_and_alpn_are_the_listeners_choice() {
    let ports = [free_port(), free_port(), free_port()];
    let setup = Setup::new()
        .listener(&format!("name: new\naddress: 127.0.0.1\nport: {}\nprotocol: HTTPS\ntls: {{minVersion: \"1.3\"}}\n", ports[0]))
        .listener(&format!(
            "name: choosy\naddress: 127.0.0.1\nport: {}\nprotocol: HTTPS\ntls: {{cipherSuites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_AES_256_GCM_SHA384]}}\n",
            ports[1]
        ))
        .listener(&format!("name: one\naddress: 127.0.0.1\nport: {}\nprotocol: HTTPS\nhttp2: false\n", ports[2]));
    let fleet = fleet(setup);
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let [new, choosy, one] = ports.map(at);
    let both = fleet.portolan.https();
    for (address, args, expected) in [
        (both, &["-tls1_2"][..], "New, TLSv1.2"),
        (both, &["-tls1_3"], "New, TLSv1.3"),
        (both, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], "SSL alert number 40"),
        (new, &["-tls1_3"], "New, TLSv1.3"),
        (new, &["-tls1_2"], "SSL alert number 70"),
        (choosy, &["-tls1_3"], "Cipher is TLS_AES_256_GCM_SHA384"),
        (choosy, &["-tls1_2"], "Cipher is ECDHE-ECDSA-CHACHA20-POLY1305"),
        (choosy, &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "SSL alert number 40"),
        (choosy, &["-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"], "SSL alert number 40"),
        (both, &["-alpn", "h2,http/1.1"], "ALPN protocol: h2"),
        (both, &["-alpn", "http/1.1,h2"], "ALPN protocol: h2"),
        (both, &["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (both, &["-alpn", "nonsense"], "SSL alert number 120"),
        (both, &[], "No ALPN negotiated"),
        (one, &["-alpn", "h2,http/1.1"], "ALPN protocol: http/1.1"),
        (one, &["-alpn", "h2"], "SSL alert number 120"),
        (both, &["-groups", "X25519"], "Server Temp Key: X25519"),
        (both, &["-groups", "P-256"], "Server Temp Key: ECDH, prime256v1"),
    ] {
        let said = s_client(address, &[&["-servername", "www.shop.test"], args].concat());
        assert!(said.contains(expected), "{args:?}: expected {expected}: {said}");
    }
}

#[test]
fn a_post_quantum_key_exchange_is_offered() {
    let fleet = fleet(Setup::new());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let hybrid = rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768;
    let provider = rustls::crypto::CryptoProvider { kx_groups: vec![hybrid], ..provider };
    let mut roots = rustls::RootCertStore::empty();
    let pem = fleet.authority.pem();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(Arc::new(config), "www.shop.test".try_into().unwrap()).unwrap();
    let mut stream = std::net::TcpStream::connect(fleet.portolan.https()).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    assert_eq!(client.negotiated_key_exchange_group().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn sessions_resume_by_ticket_and_over_reloads() {
    let fleet = fleet(Setup::new());
    let session = fleet.portolan.folder().join("session.pem");
    let session = session.to_str().unwrap();
    let ask = "GET / HTTP/1.1\r\nHost: www.shop.test\r\nConnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let common = ["-servername", "www.shop.test", "-ign_eof", version];
        let said =
            s_client_saying(fleet.portolan.https(), &[&common[..], &["-sess_out", session]].concat(), ask);
        assert!(said.contains("New, TLSv1") && said.contains("HTTP/1.1 200"), "{said}");
        for reloads in 0..2 {
            let said =
                s_client_saying(fleet.portolan.https(), &[&common[..], &["-sess_in", session]].concat(), ask);
            assert!(
                said.contains("Reused, TLSv1") && said.contains("HTTP/1.1 200"),
                "{version}, {reloads}: {said}"
            );
            fleet
                .portolan
                .apply("more.yaml", &cluster(&format!("more{}-{reloads}", version.replace('_', "-")), ""));
        }
    }
}

#[test]
fn a_host_of_another_certificate_is_misdirected() {
    let fleet = fleet(Setup::new());
    let ca = fleet.authority.file(fleet.portolan.folder());
    for (name, host, status) in [
        ("www.shop.test", "www.shop.test", 200),
        ("www.shop.test", "www.shop.test:8443", 200),
        ("www.shop.test", "two.shop.test", 200),
        ("www.shop.test", "api.shop.test", 421),
        ("www.shop.test", "www.paris.lb.test", 421),
        ("x.shop.test", "y.shop.test", 200),
        ("x.shop.test", "www.shop.test", 421),
        ("www.paris.lb.test", "api.paris.lb.test", 200),
    ] {
        let reply = fleet.portolan.get_tls(name, "/", &ca).arg("--http2").host(host).send();
        assert_eq!(reply.status, status, "{name} then {host}: {reply:?}");
        assert_eq!(reply.version, "HTTP/2");
    }
    let line = fleet.portolan.logged("a line", |line| line["status"] == 421);
    assert_eq!(line["flag"], "MD");
}

#[test]
fn plain_bytes_on_a_tls_listener_end_the_connection_alone() {
    let fleet = fleet(Setup::new());
    for bytes in [
        &b"\x16\x03\x01\xff\xff\x01"[..],
        &[0; 600],
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    ] {
        let mut client = RawClient::connect(fleet.portolan.https());
        client.send(bytes).finish();
        let rest = client.rest();
        assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    }
    let reply = Curl::new(format!("http://{}/", fleet.portolan.https())).send();
    assert!(
        reply.status == 400 && reply.text().contains("plain HTTP was sent to an HTTPS port"),
        "{reply:?}"
    );
    fleet.portolan.logged_request(reply.header("x-request-id").expect("an id"));
    let ca = fleet.authority.file(fleet.portolan.folder());
    assert_eq!(fleet.portolan.get_tls("www.shop.test", "/", &ca).send().status, 200);
}

fn https_upstream(pair: &Pair) -> Nginx {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = pair.files(folder.path(), "server");
    let server = format!(
        "listen 127.0.0.1:$PORT ssl http2;\nssl_certificate {};\nssl_certificate_key {};\nlocation / {{ return 200 \"$ssl_server_name $server_protocol\"; }}\n",
        chain.display(),
        key.display()
    );
    Nginx::start_in(folder, &server)
}

#[test]
fn https_upstreams_are_verified() {
    let (good, bad) = (Authority::new("good"), Authority::new("bad"));
    let nginx = https_upstream(&good.issue(&["upstream.test"], Key::Ecdsa));
    // Whom it trusts, for which name, by which protocol; status; what the upstream saw.
    let rows = [
        ("good", "{serverName: upstream.test, caRef: {name: good}}", "HTTP1", 200, "upstream.test HTTP/1.1"),
        (
            "good-h2",
            "{serverName: upstream.test, caRef: {name: good}}",
            "HTTP2",
            200,
            "upstream.test HTTP/2.0",
        ),
        ("wrong-name", "{serverName: other.test, caRef: {name: good}}", "HTTP1", 502, ""),
        ("wrong-name-h2", "{serverName: other.test, caRef: {name: good}}", "HTTP2", 502, ""),
        ("wrong-ca", "{serverName: upstream.test, caRef: {name: bad}}", "HTTP1", 502, ""),
        ("wrong-ca-h2", "{serverName: upstream.test, caRef: {name: bad}}", "HTTP2", 502, ""),
        ("system", "{serverName: upstream.test, systemTrust: true}", "HTTP1", 502, ""),
        ("skip", "{serverName: other.test, insecureSkipVerify: true}", "HTTP1", 200, "other.test HTTP/1.1"),
        ("missing", "{serverName: upstream.test, caRef: {name: missing}}", "HTTP1", 500, ""),
    ];
    let mut text = cluster("paris", "")
        + &config_map("tenant-paris", "good", &good.pem())
        + &config_map("tenant-paris", "bad", &bad.pem());
    for (name, tls, protocol, ..) in rows {
        text += &route("paris", name, &format!("rules:\n- backends: [{{pool: {name}}}]\n"));
        text += &pool("paris", name, &[nginx.address()], &format!("tls: {tls}\nprotocol: {protocol}\n"));
    }
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    // Twice, so that connections could be reused: between pools that trust differently they must not be.
    for round in 0..2 {
        for (name, _, _, status, saw) in rows {
            let reply = portolan.get(&format!("{name}.paris.lb.test"), "/").send();
            assert_eq!(reply.status, status, "round {round}: {name}: {reply:?}");
            if status == 200 {
                assert_eq!(reply.text(), saw, "round {round}: {name}");
            }
        }
    }
    // The authority's bundle arrives: the pool serves.
    portolan.apply("late.yaml", &config_map("tenant-paris", "missing", &good.pem()));
    assert_eq!(portolan.get("missing.paris.lb.test", "/").send().status, 200);
    // It changes to another: nothing of the old trust is left.
    portolan.apply("late.yaml", &config_map("tenant-paris", "missing", &bad.pem()));
    assert_eq!(portolan.get("missing.paris.lb.test", "/").send().status, 502);
}

fn policy(name: &str, target: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}, namespace: tenant-paris}}\nspec:\n  targetRefs: [{target}]\n{}",
        portolan_e2e::indent(spec, 2)
    )
}

#[test]
fn redirects_to_https_and_hsts() {
    let authority = Authority::new("CA");
    let echo = Echo::start("web");
    let generated = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
    let text = cluster("paris", "certificateRef: {name: generated}\n")
        + &tls_secret("paris", "generated", &generated)
        + &app("paris", "plain", &[echo.address()])
        + &app("paris", "strict", &[echo.address()])
        + &app("paris", "odd", &[echo.address()])
        + &policy("all", "{kind: Cluster, name: paris}", "httpsRedirect: {}\nhsts: {maxAge: 1h}\n")
        + &policy("plain", "{kind: HTTPLoadBalancer, name: plain}", "httpsRedirect: {enabled: false}\n")
        + &policy(
            "odd",
            "{kind: HTTPLoadBalancer, name: odd}",
            "httpsRedirect: {statusCode: 308, port: 8443}\nhsts: {maxAge: 8760h, includeSubdomains: true, preload: true}\n",
        );
    let portolan = Setup::new().trusting().manifest("fleet.yaml", text).start();
    let ca = authority.file(portolan.folder());
    for (name, status, location) in [
        ("plain", 200, None),
        ("strict", 301, Some("https://strict.paris.lb.test/a?b=c")),
        ("odd", 308, Some("https://odd.paris.lb.test:8443/a?b=c")),
    ] {
        let reply = portolan.get(&format!("{name}.paris.lb.test"), "/a?b=c").send();
        assert_eq!((reply.status, reply.header("location")), (status, location), "{name}: {reply:?}");
        assert_eq!(reply.header("strict-transport-security"), None, "never over plain HTTP");
    }
    for (name, hsts) in [("strict", "max-age=3600"), ("odd", "max-age=31536000; includeSubDomains; preload")]
    {
        let reply = portolan.get_tls(&format!("{name}.paris.lb.test"), "/", &ca).send();
        assert_eq!(
            (reply.status, reply.header("strict-transport-security")),
            (200, Some(hsts)),
            "{name}: {reply:?}"
        );
    }
    // A trusted proxy in front that ended TLS says so.
    let reply = portolan.get("strict.paris.lb.test", "/").header("X-Forwarded-Proto", "https").send();
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[test]
fn a_certificate_of_its_own_making() {
    let portolan =
        Setup::new().https("tls: {selfSigned: true}\n").manifest("fleet.yaml", cluster("paris", "")).start();
    for name in ["x.paris.lb.test", "nobody.test"] {
        let said = s_client(portolan.https(), &["-servername", name]);
        assert!(said.contains("BEGIN CERTIFICATE"), "{said}");
    }
}
