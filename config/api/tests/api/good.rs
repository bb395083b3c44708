//! What right manifests mean.

use std::sync::Arc;
use std::time::Duration;

use portolan_api::{Converted, Names, Reader, from_api, kinds};
use portolan_model::host::HostPattern;
use portolan_model::intent::{Object, Sharing, Spec};
use portolan_model::policy::HttpsRedirect;
use portolan_model::pool::{EndpointHost, EndpointSource, Probe, Verification};
use portolan_model::proxy::{AccessLog, Limits, ListenAddress};
use portolan_model::route::{Filter, PathMatch, PathRewrite, TextMatch};

use crate::support::{checks, manifest, one, read, spec};

fn load_balancer(text: &str) -> portolan_model::intent::HttpLoadBalancer {
    match spec("HTTPLoadBalancer", text) {
        Spec::HttpLoadBalancer(load_balancer) => load_balancer,
        other => panic!("{other:?}"),
    }
}

fn pool(text: &str) -> portolan_model::pool::UpstreamPool {
    match spec("UpstreamPool", text) {
        Spec::UpstreamPool(pool) => *pool,
        other => panic!("{other:?}"),
    }
}

fn proxy(text: &str) -> portolan_model::proxy::Proxy {
    match spec("Proxy", text) {
        Spec::Proxy(proxy) => *proxy,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_take_the_hosts_of_their_object() {
    let found = load_balancer(
        "hosts: [WWW.Example.com., \"*.a.example\"]\nrules:\n  - backends: [{pool: a}]\n  - {hosts: [\"**.b.example\"], backends: [{pool: b, weight: 0}]}",
    );
    let hosts: Vec<String> = found.rules.iter().map(|rule| format!("{:?}", rule.hosts)).collect();
    assert_eq!(hosts, ["[www.example.com, *.a.example]", "[**.b.example]"]);
    assert_eq!((found.rules[0].backends[0].weight, found.rules[1].backends[0].weight), (1, 0));
    assert_eq!(found.rules[0].backends[0].pool.to_string(), "tenant-paris/a");
}

#[test]
fn matches_are_normal() {
    for (text, expected) in [
        ("{path: {value: /}}", PathMatch::Prefix("/".into())),
        ("{path: {value: /a/}}", PathMatch::Prefix("/a".into())),
        ("{path: {type: Exact, value: /a/}}", PathMatch::Exact("/a/".into())),
        // As the paths of requests are.
        ("{path: {type: Exact, value: /a%41%2d%2e%7E}}", PathMatch::Exact("/aA-.~".into())),
        ("{path: {value: /x%7ey/}}", PathMatch::Prefix("/x~y".into())),
        ("{path: {value: /caf%c3%a9}}", PathMatch::Prefix("/caf%C3%A9".into())),
        ("{path: {type: Exact, value: //a//b%2fc//}}", PathMatch::Exact("//a//b%2Fc//".into())),
        ("{path: {value: /a//b%2F}}", PathMatch::Prefix("/a//b%2F".into())),
        ("{path: {type: RegularExpression, value: \"/a.*\"}}", PathMatch::Regex("/a.*".into())),
        ("{method: GET}", PathMatch::Prefix("/".into())),
        ("{}", PathMatch::Prefix("/".into())),
    ] {
        let found = load_balancer(&format!("rules: [{{matches: [{text}], backends: [{{pool: a}}]}}]"));
        assert_eq!(found.rules[0].matches[0].path, expected, "{text}");
    }
    let found = load_balancer(
        "rules:\n  - backends: [{pool: a}]\n    matches:\n      - headers: [{name: X-Env, value: \"1\"}]\n        queryParams: [{name: V, type: RegularExpression, value: \"[0-9]+\"}]",
    );
    let found = &found.rules[0].matches[0];
    assert_eq!((&*found.headers[0].name, &found.headers[0].value), ("x-env", &TextMatch::Exact("1".into())));
    assert_eq!((&*found.query[0].name, &found.query[0].value), ("V", &TextMatch::Regex("[0-9]+".into())));
}

#[test]
fn filters_keep_their_order_and_meaning() {
    let found = load_balancer(
        r"rules:
  - backends: [{pool: a}]
    matches: [{path: {value: /a}}]
    filters:
      - type: RequestHeaderModifier
        requestHeaderModifier: {set: [{name: X-A, value: b}], add: [{name: X-A, value: c}], remove: [X-B]}
      - type: URLRewrite
        urlRewrite: {hostname: Up.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}}
  - filters:
      - type: RequestRedirect
        requestRedirect: {scheme: https, port: 8443, path: {type: ReplaceFullPath, replaceFullPath: /b}}",
    );
    let [Filter::RequestHeaders(edits), Filter::Rewrite(rewrite)] = &*found.rules[0].filters else {
        panic!("{found:?}")
    };
    assert_eq!(edits.set, [("x-a".into(), "b".into())]);
    assert_eq!(edits.add, [("x-a".into(), "c".into())]);
    assert_eq!(edits.remove, ["x-b".into()]);
    assert_eq!(rewrite.path, Some(PathRewrite::Prefix("/".into())));
    assert_eq!(rewrite.host.as_ref().map(|host| host.as_str()), Some("up.example"));
    let [Filter::Redirect(redirect)] = &*found.rules[1].filters else { panic!("{found:?}") };
    assert_eq!((redirect.status, redirect.port.map(Into::into)), (302, Some(8443u16)));
    assert_eq!(redirect.path, Some(PathRewrite::Full("/b".into())));
}

#[test]
fn pools_have_one_source_and_sane_defaults() {
    let EndpointSource::Inline(endpoints) =
        pool("endpoints: [{address: \"2001:db8::1\", port: 80}, {address: A.example, port: 81, weight: 3}, {address: a.Localhost., port: 1}]")
            .source
    else {
        panic!()
    };
    assert_eq!(endpoints[0].host, EndpointHost::Address("2001:db8::1".parse().unwrap()));
    assert!(matches!(&endpoints[1].host, EndpointHost::Name(name) if name.as_str() == "a.example"));
    assert_eq!(endpoints[2].host, EndpointHost::Address("127.0.0.1".parse().unwrap()));
    assert_eq!((endpoints[0].weight, endpoints[1].weight), (1, 3));
    assert_eq!(pool("endpointSlices: {}").source, EndpointSource::Slices { port_name: None });
    let found = pool("nodePort: {port: 30080, nodes: []}").source;
    assert!(matches!(found, EndpointSource::NodePort { nodes: Some(nodes), .. } if nodes.is_empty()));

    let found =
        pool("endpoints: []\nhealthCheck: {http: {}}\ntls: {serverName: a.example, caRef: {name: ca}}");
    let check = found.health_check.unwrap();
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(5), Duration::from_secs(2)));
    assert_eq!(check.edge_interval, check.interval);
    assert_eq!((check.healthy_threshold, check.unhealthy_threshold), (2, 3));
    assert_eq!(check.probe, Probe::Http { path: "/".into(), host: None, expected: 200..400 });
    let Verification::Bundle(bundle) = found.tls.unwrap().verification else { panic!() };
    assert_eq!(bundle.to_string(), "ConfigMap tenant-paris/ca");
    assert_eq!(pool("endpoints: []\nhealthCheck: {tcp: {}}").health_check.unwrap().probe, Probe::Tcp);
    for target in ["/?", "/healthz?full=1&of=a/b?c%20d"] {
        let found = pool(&format!("endpoints: []\nhealthCheck: {{http: {{path: {target:?}}}}}"));
        let Probe::Http { path, .. } = found.health_check.unwrap().probe else { panic!() };
        assert_eq!(&*path, target);
    }
}

#[test]
fn a_proxy_has_safe_defaults() {
    let found = proxy(
        r"lbDomain: LB.example.net
listeners:
  - {name: a, port: 80, protocol: HTTP, http2: false}
  - {name: b, port: 443, protocol: HTTPS, address: '::'}
  - {name: c, port: 443, protocol: HTTPS, address: 0.0.0.0, tls: {defaultCertificateRef: {name: edge}}}",
    );
    assert_eq!(found.lb_domain.as_str(), "lb.example.net");
    assert_eq!((found.limits, found.access_log), (Limits::default(), AccessLog::Stdout));
    assert_eq!(found.drain_timeout, Duration::from_secs(30));
    let [a, b, c] = &*found.listeners else { panic!() };
    assert_eq!((a.address, a.http2, &a.tls), (ListenAddress::Any, false, &None));
    assert_eq!((b.address, b.http2), (ListenAddress::Ip("::".parse().unwrap()), true));
    assert!(b.tls.as_ref().is_some_and(|tls| tls.default_certificate.is_none() && !tls.self_signed));
    let certificate = c.tls.as_ref().and_then(|tls| tls.default_certificate.clone()).unwrap();
    assert_eq!(certificate.to_string(), "Secret portolan-system/edge");
    let text = "lbDomain: a.example\nlisteners: [{name: a, port: 443, protocol: HTTPS, tls: {minVersion: \"1.3\", cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]}}]";
    assert_eq!(proxy(text).listeners[0].tls.as_ref().map(|tls| tls.cipher_suites.len()), Some(2));
    let text =
        "lbDomain: a.example\nlisteners: [{name: a, port: 80, protocol: HTTP}]\naccessLog: {output: None}";
    assert_eq!(proxy(text).access_log, AccessLog::Off);
    assert_eq!(proxy(text).reserved.len(), 0);
    let text = "lbDomain: a.example\nlisteners: [{name: a, port: 80, protocol: HTTP}]\nreservedCIDRs: [10.96.0.0/12, 'fd00::/8']";
    assert_eq!(*proxy(text).reserved, ["10.96.0.0/12".parse().unwrap(), "fd00::/8".parse().unwrap()]);
}

#[test]
fn clusters_and_policies_mean_what_they_say() {
    let text =
        "allowedDomains: [{suffix: '*'}, {suffix: A.example, sharing: Shared}]\ncertificateRef: {name: tls}";
    let Spec::Cluster(cluster) = spec("Cluster", text) else { panic!() };
    assert_eq!((cluster.weight, cluster.drain), (100, false));
    assert_eq!(cluster.allowed_domains[0].suffix, None);
    assert_eq!(cluster.allowed_domains[1].sharing, Sharing::Shared);
    assert_eq!(cluster.certificate.unwrap().to_string(), "Secret tenant-paris/tls");
    assert_eq!((cluster.integrated, cluster.limits), (false, portolan_model::intent::Limits::default()));
    let text = "integrated: true\nlimits: {loadBalancers: 4, routes: 3, hosts: 0}";
    let Spec::Cluster(cluster) = spec("Cluster", text) else { panic!() };
    let limits = cluster.limits;
    assert_eq!(
        (cluster.integrated, limits.load_balancers, limits.routes, limits.hosts, limits.endpoints),
        (true, Some(4), Some(3), Some(0), None)
    );

    let text = r"targetRefs: [{kind: HTTPLoadBalancer, name: shop}, {kind: Cluster, name: paris}]
timeouts: {request: 0s, perTry: 1m30s}
maxRequestBody: 1048576
httpsRedirect: {}
hsts: {maxAge: 8760h}";
    let Spec::TrafficPolicy(policy) = spec("TrafficPolicy", text) else { panic!() };
    let targets: Vec<_> = policy.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["HTTPLoadBalancer tenant-paris/shop", "Cluster paris"]);
    assert_eq!(policy.spec.request, Some(Duration::ZERO));
    assert_eq!(policy.spec.per_try, Some(Duration::from_secs(90)));
    assert_eq!(policy.spec.connect, None);
    assert_eq!(policy.spec.max_request_body, Some(1 << 20));
    assert_eq!(policy.spec.https_redirect, Some(HttpsRedirect::On { status: 301, port: None }));
    assert_eq!(policy.spec.hsts.unwrap().max_age, Duration::from_secs(8760 * 3600));
    let text =
        "targetRefs: [{kind: Cluster, name: paris}]\nhttpsRedirect: {enabled: false}\nmaxRequestBody: 10Mi";
    let Spec::TrafficPolicy(policy) = spec("TrafficPolicy", text) else { panic!() };
    assert_eq!(policy.spec.https_redirect, Some(HttpsRedirect::Off));
    assert_eq!(policy.spec.max_request_body, Some(10 << 20));
}

#[test]
fn secrets_are_read_from_either_field() {
    let pem = "-----BEGIN CERTIFICATE-----";
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b, annotations: {x: y}}\ntype: kubernetes.io/tls\n";
    let plain = one(&format!("{head}stringData: {{tls.crt: {pem}, tls.key: k}}\n"));
    let encoded =
        one(&format!("{head}data: {{tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t, tls.key: aw==}}\n"));
    assert_eq!(plain, encoded);
    assert!(!format!("{plain:?}").contains("107"), "the key is shown");
}

/// Regression: the date that a manifest has was ignored, so that only names told who was first.
#[test]
fn a_manifest_says_when_its_object_was_created() {
    for (created, expected) in [
        ("", None),
        ("creationTimestamp: null", None),
        ("creationTimestamp: 1970-01-01T00:01:00Z", Some(60)),
        ("creationTimestamp: \"1970-01-01T01:01:00+01:00\"", Some(60)),
    ] {
        let text = format!(
            "{{apiVersion: portolan.dev/v1alpha1, kind: UpstreamPool, metadata: {{name: a, namespace: tenant-paris, {created}}}, spec: {{endpoints: []}}}}"
        );
        let found = Reader::new(checks()).read("a.yaml", &text);
        assert_eq!(
            found.objects.iter().map(|it| it.meta.created).collect::<Vec<_>>(),
            [expected],
            "{found:?}"
        );
    }
}

#[test]
fn a_status_has_the_name_that_is_kept() {
    let text = manifest("HTTPLoadBalancer", "rules: [{backends: [{pool: shop}]}]");
    for (status, expected) in [
        ("", None),
        ("status: {host: Shop.paris.lb.net}\n", Some("shop.paris.lb.net")),
        ("status: {host: '*'}\n", None),
        ("status: {host: [a]}\n", None),
        ("status:\n", None),
    ] {
        let found = one(&(text.clone() + status)).meta.host;
        assert_eq!(found.map(|host| host.to_string()).as_deref(), expected, "{status}");
    }
}

#[test]
fn statuses_and_unknown_annotations_do_not_matter() {
    let text = manifest("Cluster", "weight: 1");
    let with_status = text.clone() + "status: {conditions: [], anything: else}\n";
    assert_eq!(one(&text).spec, one(&with_status).spec);
}

#[test]
fn objects_know_their_place_and_their_origin() {
    let read = read(&format!(
        "# a comment\n---\n{}---\n\n{}",
        manifest("Cluster", "weight: 1"),
        manifest(
            "HTTPLoadBalancer",
            "origin: {kind: Ingress, namespace: a, name: b, uid: u, creationTimestamp: 1970-01-01T00:01:00Z}\nrules: [{backends: [{pool: shop}]}]"
        )
    ));
    let places: Vec<_> =
        read.objects.iter().map(|object| object.meta.place.clone().unwrap().to_string()).collect();
    assert_eq!(places, ["test.yaml:3", "test.yaml:11"]);
    let origin = read.objects[1].meta.origin.clone().unwrap();
    assert_eq!((&*origin.kind, &*origin.name, &*origin.uid, origin.created), ("Ingress", "b", "u", Some(60)));
}

#[test]
fn lists_and_json_are_read_like_documents() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "portolan.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "paris"}, "spec": {"weight": 1}},
	{"apiVersion": "portolan.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "tokyo"}, "spec": {}}
    ]}"#;
    let read = read(json);
    let ids: Vec<_> = read.objects.iter().map(|object| object.meta.id.to_string()).collect();
    assert_eq!((ids, read.all_diagnostics()), (vec!["Cluster paris".into(), "Cluster tokyo".into()], vec![]));
    assert_eq!(read.objects[0].spec, spec("Cluster", "weight: 1"));
}

#[test]
fn files_without_objects_are_right() {
    for text in
        ["", "\n", "---\n", "# nothing\n---\n...\n---\n", "\u{feff}# nothing", "~\n", "%YAML 1.2\n---\n"]
    {
        let read = read(text);
        assert!(read.objects.is_empty() && read.all_diagnostics().is_empty(), "{text:?}: {read:?}");
    }
}

#[test]
fn an_api_object_comes_to_the_same_as_a_manifest() {
    let text = manifest(
        "HTTPLoadBalancer",
        "hosts: [a.example]\nrules: [{backends: [{pool: shop}], timeouts: {request: 5s}}]",
    );
    let resource = serde_json::json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "HTTPLoadBalancer",
        "metadata": {
            "name": "shop", "namespace": "tenant-paris", "generation": 3, "creationTimestamp": "1970-01-01T00:00:09Z"
        },
        "spec": {
            "hosts": ["a.example"],
            "rules": [{"backends": [{"pool": "shop"}], "timeouts": {"request": "5s"}, "later": true}],
        },
    });
    let resource: kinds::HTTPLoadBalancer = serde_json::from_value(resource).unwrap();
    let Ok(Converted::Object(found)) = from_api(&resource, &checks(), &mut Names::default()) else {
        panic!()
    };
    assert_eq!((found.meta.created, found.meta.generation, &found.meta.place), (Some(9), 3, &None));
    let Object { meta, spec } = one(&text);
    assert_eq!((found.meta.id, found.spec), (meta.id, spec));

    let mut kept = resource.clone();
    let status =
        kinds::HTTPLoadBalancerStatus { host: Some("Shop.paris.lb.net".into()), ..Default::default() };
    kept.status = Some(status);
    let Ok(Converted::Object(found)) = from_api(&kept, &checks(), &mut Names::default()) else {
        panic!("not converted")
    };
    assert_eq!(found.meta.host.map(|host| host.to_string()).as_deref(), Some("shop.paris.lb.net"));

    let mut wrong = resource;
    wrong.spec.hosts.push("a b".into());
    wrong.spec.rules[0].backends[0].pool = "Shop".into();
    let errors = from_api(&wrong, &checks(), &mut Names::default()).unwrap_err();
    let paths: Vec<_> = errors.iter().map(|error| error.path.to_string()).collect();
    assert_eq!(paths, ["spec.hosts[1]", "spec.rules[0].backends[0].pool"]);
}

#[test]
fn what_is_alike_is_kept_once() {
    let text = manifest("HTTPLoadBalancer", "rules: [{backends: [{pool: shop}]}]");
    let mut reader = Reader::new(checks());
    let a = reader.read("a.yaml", &text).objects.remove(0);
    let b = reader.read("b.yaml", &text).objects.remove(0);
    assert!(Arc::ptr_eq(&a.meta.id.namespace, &b.meta.id.namespace));
    let (Spec::HttpLoadBalancer(a_spec), Spec::HttpLoadBalancer(b_spec)) = (&a.spec, &b.spec) else {
        panic!()
    };
    let (a_rule, b_rule) = (&a_spec.rules[0], &b_spec.rules[0]);
    assert!(Arc::ptr_eq(&a_rule.hosts, &b_rule.hosts) && Arc::ptr_eq(&a_rule.filters, &b_rule.filters));
    assert!(Arc::ptr_eq(&a.meta.id.name, &a_rule.backends[0].pool.name));
    assert!(matches!(HostPattern::parse("a.example"), Ok(HostPattern::Exact(_))));
}

/// Timing is for people: `cargo test -p portolan-api --release -- --ignored --nocapture speed`.
#[test]
#[ignore = "measures"]
fn speed() {
    let text: String = (0..100_000)
        .map(|n| {
            format!(
                "---\napiVersion: portolan.dev/v1alpha1\nkind: HTTPLoadBalancer\nmetadata:\n  name: app-{n}\n  namespace: tenant-c{}\nspec:\n  hosts:\n    - app-{n}.example.com\n  rules:\n    - matches:\n        - path:\n            type: Prefix\n            value: /\n      backends:\n        - pool: app-{}\n",
                n % 10,
                n % 10_000
            )
        })
        .collect();
    let before = resident();
    let start = std::time::Instant::now();
    let read = Reader::new(checks()).read("big.yaml", &text);
    let each = start.elapsed() / 100_000;
    println!("{} objects, {each:?} each, {} bytes of text each", read.objects.len(), text.len() / 100_000);
    println!("{} bytes resident each", (resident() - before) / 100_000);
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_file_is_empty_where_no_document_stands_in_it() {
    for (text, empty) in [
        ("", true),
        ("# nothing\n---\n\n---\n# at all\n", true),
        ("---\n~\n", true),
        ("apiVersion: v1\nkind: List\nitems: []\n", false),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", false),
        ("words\n", false),
    ] {
        assert_eq!(read(text).is_empty(), empty, "{text:?}");
    }
}
