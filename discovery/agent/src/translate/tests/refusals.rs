//! What is told of what is not served: in the words of whoever wrote the `Ingress`.

use serde_json::{Value, json};

use super::{World, at, key, on, shop, to};
use crate::translate::{Outcome, PoolSource, place};

fn told(world: World, spec: Value) -> Vec<String> {
    let translation = world.ingress("shop/web", spec).translate("shop/web");
    translation.refusals.iter().map(|refusal| format!("{}: {}", refusal.reason, refusal.told())).collect()
}

#[test]
fn a_refusal_names_the_field_as_it_was_written() {
    let rows = [
        (
            json!({ "rules": [on("a.example", vec![at("/", "Prefix", to("web", 80))]), on("b.example", vec![
                at("/", "Prefix", to("web", 80)), at("/x", "Prefix", to("gone", 80)), at("/y", "Prefix", to("gone", 80)),
            ])] }),
            vec![
                "ServiceNotFound: spec.rules[1].http.paths[1].backend: Service gone does not exist (and 1 more)",
            ],
        ),
        (
            json!({ "defaultBackend": to("gone", 80) }),
            vec!["ServiceNotFound: spec.defaultBackend: Service gone does not exist"],
        ),
        (
            json!({ "defaultBackend": to("web", 80), "tls": [{ "hosts": ["a.example"] }, { "secretName": "gone" }] }),
            vec![
                "NoSecretName: spec.tls[0]: there is no secretName; its hosts have the certificate of a listener or of the Cluster in the LB cluster, if any",
                "SecretNotFound: spec.tls[1].secretName: Secret gone does not exist or is not of type kubernetes.io/tls; it is taken as soon as it does",
            ],
        ),
        (
            json!({ "rules": [on("b.example", vec![at("/", "Prefix", to("web", 80))]), { "host": "a.example" }] }),
            vec![
                "NoBackend: spec.rules[1]: the rule for host a.example has no paths, and there is no default backend",
            ],
        ),
        (
            json!({ "rules": [on("a.example", vec![at("/", "Prefix", to("web", 80)), at("/", "Prefix", to("api", 80))])] }),
            vec![
                "DuplicatePath: spec.rules[0].http.paths[1].path: the path \"/\" stands twice for host a.example; the first counts",
            ],
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(told(shop(), spec.clone()), expected, "{spec}");
    }
    let long = format!("{}.example", "x".repeat(64));
    let spec = json!({ "rules": [
        on("b.example", vec![at("/", "Prefix", to("web", 80))]), on(&long, vec![at("/", "Prefix", to("web", 80))]),
    ] });
    let told = told(shop(), spec);
    assert!(told[0].starts_with("InvalidRule: spec.rules[1].host: "), "{told:?}");
}

#[test]
fn a_path_that_looks_like_an_expression_is_told_of() {
    for (path, kind, expected) in [
        ("/api/.*", "ImplementationSpecific", true),
        ("/x(/|$)(.*)", "ImplementationSpecific", true),
        ("/v[0-9]+", "ImplementationSpecific", true),
        ("/img/\\w", "ImplementationSpecific", true),
        ("/a.b/c+d/~user/e-f", "ImplementationSpecific", false),
        ("/api/.*", "Prefix", false),
        ("/api/.*", "Exact", false),
    ] {
        let spec = json!({ "rules": [on("a.example", vec![at(path, kind, to("web", 80))])] });
        let told = told(shop(), spec);
        let found =
            told.iter().any(|told| told.starts_with("PathExpression: spec.rules[0].http.paths[0].path: "));
        assert_eq!(found, expected, "{path} {kind}: {told:?}");
    }
}

#[test]
fn annotations_that_nobody_knows_are_told_of() {
    let mut world = World::default();
    world.put_service(
        "shop/web",
        json!({
            "metadata": { "annotations": { "portolan.dev/balancng": "LeastRequest", "example.com/other": "x" } },
            "spec": { "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] },
        }),
    );
    world.put_ingress(
        "shop/web",
        json!({
            "metadata": { "annotations": { "portolan.dev/balancing": "LeastRequest", "kubernetes.io/ingress.class": "portolan" } },
            "spec": { "defaultBackend": to("web", 80) },
        }),
    );
    let told: Vec<_> = world.translate("shop/web").refusals.iter().map(|refusal| refusal.told()).collect();
    assert_eq!(
        told,
        [
            "metadata.annotations: portolan.dev/balancing is not known; what is said of a backend stands on its Service",
            "portolan.dev/balancng of Service web is not known; known are portolan.dev/health-check-path, \
             portolan.dev/balancing, portolan.dev/tls-verify, portolan.dev/tls-server-name",
        ]
    );
}

#[test]
fn an_external_name_is_a_host_name_or_an_address() {
    let label = "x".repeat(64);
    for (name, expected) in [
        ("db.example.com", None),
        ("192.0.2.7", None),
        (&*label, Some("InvalidExternalName")),
        ("a..b", Some("InvalidExternalName")),
    ] {
        let world =
            World::default().service("shop/web", json!({ "type": "ExternalName", "externalName": name }));
        let translation =
            world.ingress("shop/web", json!({ "defaultBackend": to("web", 80) })).translate("shop/web");
        assert_eq!(translation.refusals.first().map(|refusal| refusal.reason), expected, "{name}");
        assert_eq!(translation.pools.is_empty(), expected.is_some(), "{name}");
    }
}

/// Regression: events named fields of objects that nobody in the member cluster knows.
#[test]
fn what_the_lb_cluster_says_is_told_in_words_of_the_ingress() {
    let spec = json!({
        "tls": [{ "hosts": ["a.example"], "secretName": "one" }, { "hosts": ["d.example"], "secretName": "two" }],
        "rules": [
            { "http": { "paths": [at("/", "Prefix", to("web", 80))] } },
            on("b.example", vec![at("/", "Prefix", to("api", 80))]),
            on("a.example", vec![at("/", "Prefix", to("web", 80))]),
            on("c.example", vec![at("/", "Prefix", to("api", 80))]),
        ],
    });
    let world = shop().ingress("shop/web", spec);
    let translation = world.translate("shop/web");
    let Outcome::Object(spec) = &translation.object else { panic!("{translation:?}") };
    let rule = spec.rules.iter().position(|rule| rule.hosts.iter().any(|host| host == "c.example")).unwrap();
    let key = key("shop/web");
    let ingress = world.view.ingresses.get(&key).unwrap();
    let no_pool =
        "spec.rules[0].backends[0].pool: UpstreamPool tenant-paris/service.shop.web.80 does not exist";
    let no_endpoints = "spec.rules[0].backends[0].pool: UpstreamPool tenant-paris/a has no endpoints left, as its own conditions say";
    let no_secret = "spec.tls[0].secretName: Secret tenant-paris/secret.shop.one does not exist as one of type kubernetes.io/tls";
    for (message, expected) in [
        (
            format!("spec.rules[{rule}].hosts[1]: c.example belongs to cluster tokyo"),
            "spec.rules[3].host: c.example belongs to cluster tokyo",
        ),
        ("spec.tls[1].hosts[0]: d.example is not covered".to_owned(), "spec.tls[1].hosts[0]: d.example is not covered"),
        (
            "spec.tls[0].secretName: Secret tenant-paris/secret.shop.one is invalid: data[tls.crt]: no certificate".to_owned(),
            "Secret one is invalid: data[tls.crt]: no certificate",
        ),
        // The agent did not write these, and told why.
        (format!("{no_pool}; {no_secret}"), ""),
        (format!("{no_pool}; {no_secret}; y"), "y"),
        (no_pool.to_owned(), ""),
        (no_endpoints.to_owned(), ""),
        (no_secret.to_owned(), ""),
        ("spec.rules[9].hosts[7]: what is gone by now".to_owned(), "what is gone by now"),
        (
            "spec.rules[0].matches: / on a.example is served by HTTPLoadBalancer tenant-paris/ingress.shop.old.web, which comes first".to_owned(),
            "/ on a.example is served by Ingress shop/old.web, which comes first",
        ),
        (
            "HTTPLoadBalancer tenant-paris/web; HTTPLoadBalancer tenant-paris/ingress.a.b, HTTPLoadBalancer tenant-tokyo/ingress.c.d".to_owned(),
            "HTTPLoadBalancer tenant-paris/web; Ingress a/b, Ingress c/d",
        ),
        (
            "a.example belongs to cluster tokyo, whose HTTPLoadBalancer tenant-tokyo/web is older".to_owned(),
            "a.example belongs to cluster tokyo, whose HTTPLoadBalancer tenant-tokyo/web is older",
        ),
        ("no host name can be generated".to_owned(), "no host name can be generated"),
        ("and more".to_owned(), "and more"),
        (
            "x; Pool tenant-paris/service.shop.web.8080: y".to_owned(),
            "x; Pool tenant-paris/service.shop.web.8080: y",
        ),
    ] {
        let found = place::translated("R", &message, &key, ingress, Some(spec), &translation.pools);
        let found: Vec<String> = found.into_iter().map(|(reason, told)| format!("{reason}: {told}")).collect();
        let expected = if expected.is_empty() { String::new() } else { format!("R: {expected}") };
        assert_eq!(found.join(" | "), expected, "{message}");
    }
    // Of several reasons each is an event; what was cut off is none.
    let invalid =
        "CertificateNotFound: spec.tls[0].secretName: Secret tenant-paris/secret.shop.one is invalid: x";
    let mismatch = "CertificateMismatch: spec.tls[1].hosts[0]: d.example is not covered";
    let message =
        format!("{no_pool}; {invalid}; expected a chain; {mismatch}; {invalid}; CertificateMism; and more");
    let found = place::translated("BackendNotFound", &message, &key, ingress, Some(spec), &translation.pools);
    let expected = [
        ("CertificateMismatch", "spec.tls[1].hosts[0]: d.example is not covered"),
        ("CertificateNotFound", "Secret one is invalid: x; expected a chain; Secret one is invalid: x"),
    ];
    assert_eq!(found.iter().map(|(reason, told)| (&**reason, &**told)).collect::<Vec<_>>(), expected);
    assert_eq!(place::of_pool(&PoolSource::Service(key, 80)), "port 80 of Service web");
}
