use std::fs;

use super::*;
use crate::check;

/// Clusters paris and tokyo (of three times the weight), and pools in paris: `up` has an endpoint, `empty` none, `untrusted` an
/// endpoint whose CA bundle is missing; `down` has one that is not healthy and `wavering` one that is unsteady, where health is known. In tokyo there is `up`.
const FLEET: &str = "
{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {name: paris}, spec: {weight: 1, allowedDomains: [{suffix: a.com, sharing: Shared}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {name: tokyo}, spec: {weight: 3, allowedDomains: [{suffix: a.com, sharing: Shared}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: up, namespace: tenant-paris}, spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: up, namespace: tenant-tokyo}, spec: {endpoints: [{address: 10.0.0.2, port: 80}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: down, namespace: tenant-paris}, spec: {endpoints: [{address: 10.0.0.9, port: 80}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: wavering, namespace: tenant-paris}, spec: {endpoints: [{address: 10.0.0.8, port: 80}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: empty, namespace: tenant-paris}, spec: {endpoints: []}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: untrusted, namespace: tenant-paris}, spec: {endpoints: [{address: 10.0.0.3, port: 443}], tls: {serverName: a.com, caRef: {name: gone}}}}
";

fn rule(cluster: &str, backends: &str) -> String {
    format!(
        "---\n{{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {{name: shop, namespace: tenant-{cluster}}}, spec: {{hosts: [a.com], rules: [{{{backends}}}]}}}}\n"
    )
}

/// `outcome status flag`, with `share: ` before each where there are several.
fn said(verdict: &Value) -> Vec<String> {
    let one = |it: &Value| {
        let word = |field: &str| it[field].as_str().unwrap_or("-").to_owned();
        format!("{} {} {}", word("outcome"), it["status"], word("flag"))
    };
    match verdict["outcomes"].as_array() {
        Some(several) => several.iter().map(|it| format!("{}: {}", it["share"], one(it))).collect(),
        None => vec![one(verdict)],
    }
}

/// Each row is what the proxy does, see `decide` and `choose` in proxy/server/src/service.rs.
#[test]
fn verdicts_are_the_proxy_s() {
    const OK: &str = "proxied null -";
    const NP: &str = "no pool 500 NP";
    const NH: &str = "no healthy endpoint 503 NH";
    let half = |first: &str, second: &str| vec![format!("0.5: {first}"), format!("0.5: {second}")];
    let all = |what: &str| vec![what.to_owned()];
    for (say, paris, tokyo, expected) in [
        ("one pool", "backends: [{pool: up}]", "", all(OK)),
        ("no such pool", "backends: [{pool: gone}]", "", all(NP)),
        ("its CA bundle is missing", "backends: [{pool: untrusted}]", "", all(NP)),
        ("no endpoints", "backends: [{pool: empty}]", "", all(NH)),
        ("no healthy ones", "backends: [{pool: down}]", "", all(NH)),
        ("an unsteady one", "backends: [{pool: wavering}]", "", all(OK)),
        (
            "an unsteady one of a shared host",
            "backends: [{pool: wavering}]",
            "backends: [{pool: gone}]",
            all(OK),
        ),
        (
            "a fit one beside it",
            "backends: [{pool: wavering}, {pool: gone}]",
            "backends: [{pool: up}]",
            all(OK),
        ),
        ("weight 0 alone", "backends: [{pool: up, weight: 0}]", "", all(NP)),
        ("all of weight 0", "backends: [{pool: up, weight: 0}, {pool: down, weight: 0}]", "", all(NP)),
        ("one of weight 0", "backends: [{pool: up, weight: 2}, {pool: gone, weight: 0}]", "", all(OK)),
        ("half of it missing", "backends: [{pool: up}, {pool: gone}]", "", half(OK, NP)),
        ("half of it untrusted", "backends: [{pool: up}, {pool: untrusted}]", "", half(OK, NP)),
        ("half of it empty", "backends: [{pool: up}, {pool: empty}]", "", half(OK, NH)),
        ("two reasons", "backends: [{pool: gone}, {pool: empty}]", "", half(NP, NH)),
        (
            "a redirect",
            "filters: [{type: RequestRedirect, requestRedirect: {path: {type: ReplaceFullPath, replaceFullPath: /x}}}]",
            "",
            all("redirected null -"),
        ),
        ("two clusters", "backends: [{pool: up}]", "backends: [{pool: up}]", all(OK)),
        ("the other cluster takes all", "backends: [{pool: empty}]", "backends: [{pool: up}]", all(OK)),
        ("none can", "backends: [{pool: empty}]", "backends: [{pool: gone}]", all(NH)),
        ("none has any weight", "backends: [{pool: up, weight: 0}]", "backends: [{pool: gone}]", all(NH)),
        (
            "a cluster that can, in part",
            "backends: [{pool: up}, {pool: gone}]",
            "backends: [{pool: up}]",
            vec![format!("0.875: {OK}"), format!("0.125: {NP}")],
        ),
        (
            "a cluster that is taken for one that can",
            "backends: [{pool: untrusted}]",
            "backends: [{pool: up}]",
            vec![format!("0.25: {NP}"), format!("0.75: {OK}")],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut text = FLEET.to_owned() + &rule("paris", paris);
        if !tokyo.is_empty() {
            text += &rule("tokyo", tokyo);
        }
        fs::write(folder.path().join("fleet.yaml"), text).unwrap();
        let (compiler, diagnostics) = check::compile(folder.path()).unwrap();
        assert_eq!(diagnostics, [], "{say}");
        let plan = compiler.plan();
        let request = ExplainRequest::parse("http://a.com/", None, []).unwrap();
        let health = |id: &PoolId| {
            let pool = plan.pools.get(id)?;
            Some(
                pool.endpoints
                    .iter()
                    .map(|it| match it.address.to_string().as_str() {
                        "10.0.0.8:80" => (it.address, Fitness::Unsteady),
                        "10.0.0.9:80" => (it.address, Fitness::Unfit),
                        _ => (it.address, Fitness::Fit),
                    })
                    .collect(),
            )
        };
        assert_eq!(said(&explain(plan, &request, &[], health)), expected, "{say}");
        if !paris.contains("down") && !paris.contains("wavering") {
            assert_eq!(said(&explain(plan, &request, &[], |_| None)), expected, "{say}, health unknown");
        }
    }
}

/// What the gate refuses, no rule is asked for.
#[test]
fn requests_that_the_gate_refuses_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = "---\n{apiVersion: portolan.dev/v1alpha1, kind: Proxy, metadata: {name: default}, spec: {lbDomain: lb.test, \
                 listeners: [{name: http, port: 80, protocol: HTTP}], limits: {refuseEncodedSlash: true}}}\n";
    let strict = FLEET.to_owned() + proxy + &rule("paris", "backends: [{pool: up}]");
    fs::write(folder.path().join("fleet.yaml"), strict).unwrap();
    let (compiler, diagnostics) = check::compile(folder.path()).unwrap();
    assert_eq!(diagnostics, []);
    for (method, path, status) in [
        ("GET", "/", json!(null)),
        ("GET", "/%00", json!(400)),
        ("GET", "/a%2Fb", json!(400)),
        ("GET", "/?q=a%2Fb", json!(null)),
        ("GET", "/%zz", json!(400)),
        ("CONNECT", "/", json!(405)),
    ] {
        let request = ExplainRequest::parse(&format!("http://a.com{path}"), Some(method), []).unwrap();
        let verdict = explain(compiler.plan(), &request, &[], |_| None);
        assert_eq!(verdict["status"], status, "{method} {path}: {verdict}");
    }
}

/// Regression: where no other cluster said the same match, or named the shared host at all, a drained one was served.
#[test]
fn a_drained_cluster_gets_nothing_of_shared_hosts() {
    const OK: &str = "proxied null -";
    const NH: &str = "no healthy endpoint 503 NH";
    let rules = |cluster: &str, name: &str, host: &str, path: &str, pool: &str| {
        format!(
            "---\n{{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {{name: {name}, namespace: tenant-{cluster}}}, spec: {{hosts: [{host}], rules: [{{matches: [{{path: {{value: {path}}}}}], backends: [{{pool: {pool}}}]}}]}}}}\n"
        )
    };
    let drained = FLEET.replace(
        "weight: 1, allowedDomains: [",
        "weight: 1, drain: true, allowedDomains: [{suffix: b.com}, ",
    );
    let text = drained
        + &rules("paris", "common", "a.com", "/both", "up")
        + &rules("paris", "more", "a.com", "/both/paris", "up")
        + &rules("paris", "gone", "a.com", "/both/gone", "gone")
        + &rules("paris", "alone", "x.a.com", "/", "up")
        + &rules("paris", "own", "b.com", "/", "up")
        + &rules("tokyo", "common", "a.com", "/both", "up")
        + &rules("tokyo", "gone", "y.a.com", "/", "gone");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("fleet.yaml"), text).unwrap();
    let (compiler, diagnostics) = check::compile(folder.path()).unwrap();
    assert_eq!(diagnostics, []);
    for (url, expected) in [
        ("http://a.com/both", OK),
        ("http://a.com/both/paris", NH),
        ("http://a.com/both/gone", NH),
        ("http://x.a.com/", NH),
        ("http://b.com/", OK),
        ("http://alone.paris.lb.localhost/", OK),
        ("http://more.paris.lb.localhost/both/paris", OK),
        // One cluster that is not drained is as good as a host of its own.
        ("http://y.a.com/", "no pool 500 NP"),
    ] {
        let request = ExplainRequest::parse(url, None, []).unwrap();
        assert_eq!(said(&explain(compiler.plan(), &request, &[], |_| None)), [expected], "{url}");
    }
}

/// Regression: of a host whose claims are refused, and of one that two claim, no more was told than of one that nobody wants.
#[test]
fn refused_claims_are_told() {
    const FLEET: &str = "
{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {name: paris}, spec: {allowedDomains: [{suffix: a.com}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {name: tokyo}, spec: {allowedDomains: [{suffix: a.com}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {name: up, namespace: tenant-paris}, spec: {endpoints: [{address: 10.0.0.1, port: 80}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {name: shop, namespace: tenant-paris}, spec: {hosts: [a.com, evil.example], rules: [{backends: [{pool: up}]}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {name: shop, namespace: tenant-tokyo}, spec: {hosts: [a.com], rules: [{backends: [{pool: up}]}]}}
---
{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {name: oslo}, spec: {limits: {loadBalancers: 0}}}
---
{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {name: shop, namespace: tenant-oslo}, spec: {rules: [{backends: [{pool: up}]}]}}
";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("fleet.yaml"), FLEET).unwrap();
    let (compiler, _) = check::compile(folder.path()).unwrap();
    let see = "nobody serves this host: see who claims it, and why that is refused";
    for (url, status, reason, refused) in [
        (
            "http://evil.example/",
            json!(404),
            json!(see),
            json!(["HTTPLoadBalancer tenant-paris/shop evil.example DomainNotAllowed"]),
        ),
        (
            "http://a.com/",
            Value::Null,
            Value::Null,
            json!(["HTTPLoadBalancer tenant-tokyo/shop a.com HostTaken"]),
        ),
        (
            "http://shop.oslo.lb.localhost/",
            json!(404),
            json!(see),
            json!(["HTTPLoadBalancer tenant-oslo/shop shop.oslo.lb.localhost LimitReached"]),
        ),
        ("http://x.a.com/", json!(404), json!("nobody serves this host"), json!([])),
        ("http://x.paris.lb.localhost/", json!(404), json!("nobody serves this host"), json!([])),
        (
            "http://shop.rome.lb.localhost/",
            json!(404),
            json!("nobody serves this host: there is no Cluster \"rome\""),
            json!([]),
        ),
    ] {
        let request = ExplainRequest::parse(url, None, []).unwrap();
        let verdict = explain(compiler.plan(), &request, &compiler.refused(&request.host), |_| None);
        let word = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
        let told = verdict["refused"].as_array().into_iter().flatten();
        let told: Value =
            told.map(|it| ["object", "host", "reason"].map(|field| word(it, field)).join(" ")).collect();
        assert_eq!((&verdict["status"], &verdict["reason"], told), (&status, &reason, refused), "{url}");
    }
}

#[test]
fn the_certificate_is_what_a_client_gets() {
    let issued = portolan_certs::self_signed(&["shop.a.com", "*.b.com"]).unwrap();
    let fleet = format!(
        "
{{apiVersion: portolan.dev/v1alpha1, kind: Cluster, metadata: {{name: paris}}, spec: {{allowedDomains: [{{suffix: '*'}}]}}}}
---
{{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {{name: shop, namespace: tenant-paris}}, stringData: {{tls.crt: {:?}, tls.key: {:?}}}}}
---
{{apiVersion: portolan.dev/v1alpha1, kind: HTTPLoadBalancer, metadata: {{name: shop, namespace: tenant-paris}}, spec: {{hosts: [shop.a.com, '*.b.com', c.com], rules: [{{backends: [{{pool: up}}]}}], tls: [{{secretName: shop}}]}}}}
",
        issued.chain_pem, issued.key_pem
    );
    let proxy = |listeners: &str| {
        format!(
            "---\n{{apiVersion: portolan.dev/v1alpha1, kind: Proxy, metadata: {{name: default}}, spec: {{lbDomain: lb.localhost, listeners: [{listeners}]}}}}\n"
        )
    };
    let plain = "{name: http, port: 80, protocol: HTTP}";
    let tls =
        |name: &str, port: u16, more: &str| format!("{{name: {name}, port: {port}, protocol: HTTPS{more}}}");
    let default = ", tls: {defaultCertificateRef: {name: shop, namespace: tenant-paris}}";
    let both = format!("{}, {}", tls("one", 443, ""), tls("other", 8443, default));
    let own = "Secret tenant-paris/shop, good until ";
    for (listeners, url, expected) in [
        (plain.to_owned(), "http://c.com/", &[][..]),
        (plain.to_owned(), "https://c.com/", &["there is no listener for HTTPS"]),
        (both.clone(), "https://shop.a.com/", &[own]),
        (both.clone(), "https://x.b.com:8443/", &[own]),
        (
            both.clone(),
            "https://b.com:9443/",
            &["listener one: none, so", "listener other: its default, Secret tenant-paris/shop"],
        ),
        (
            both.clone(),
            "https://c.com:8443/",
            &[
                "listener other: its default, Secret tenant-paris/shop",
                "HTTPLoadBalancer tenant-paris/shop: CertificateMismatch: spec.tls[0].secretName: ",
            ],
        ),
        (
            both,
            "https://c.com/",
            &["listener one: none, so", "HTTPLoadBalancer tenant-paris/shop: CertificateMismatch: "],
        ),
        (
            tls("one", 443, ""),
            "https://c.com/",
            &["listener one: none, so", "HTTPLoadBalancer tenant-paris/shop: CertificateMismatch: "],
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fleet.yaml"), format!("{fleet}{}", proxy(&listeners))).unwrap();
        let (compiler, diagnostics) = check::compile(folder.path()).unwrap();
        let request = ExplainRequest::parse(url, None, []).unwrap();
        let verdict = explain(compiler.plan(), &request, &[], |_| None);
        let said = match &verdict["certificate"] {
            Value::Array(said) => said.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        assert_eq!(said.len(), expected.len(), "{url} {listeners}: {said:?} {diagnostics:?}");
        let none = expected.iter().all(|it| !it.contains("Secret tenant-paris/shop")) && !expected.is_empty();
        assert_eq!(verdict["outcome"] == "handshake refused", none, "{url} {listeners}: {verdict}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.as_str().unwrap().starts_with(expected), "{url} {listeners}: {said}");
        }
    }
}
