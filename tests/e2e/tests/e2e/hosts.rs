//! Host names: generated ones, customers', wildcards, tenants' claims, hosts that clusters share.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use portolan_e2e::{Echo, Portolan, Setup, app, cluster, eventually, free_port, pool, route, shares};

/// Which upstream answers on a host; the status where none does.
fn who(portolan: &Portolan, host: &str) -> String {
    let reply = portolan.get(host, "/").send();
    reply.header("x-upstream").map_or_else(|| reply.status.to_string(), str::to_owned)
}

fn load_balancer(cluster: &str, name: &str, hosts: &str, upstream: &str) -> String {
    route(cluster, name, &format!("hosts: [{hosts}]\nrules:\n- backends: [{{pool: {upstream}}}]\n"))
}

fn originated(cluster: &str, name: &str, namespace: &str, origin: &str, created: &str) -> String {
    route(
        cluster,
        name,
        &format!(
            "origin: {{kind: Ingress, namespace: {namespace}, name: {origin}, creationTimestamp: \"{created}\"}}\nrules:\n- backends: [{{pool: {namespace}}}]\n"
        ),
    )
}

#[test]
fn generated_names() {
    let echoes = ["a", "b", "c"].map(Echo::start);
    let mut text = cluster("paris", "") + &cluster("tokyo", "");
    for (name, echo) in ["a", "b", "c"].into_iter().zip(&echoes) {
        text += &pool("paris", name, &[echo.address()], "");
        text += &pool("tokyo", name, &[echo.address()], "");
    }
    let long = "l".repeat(80);
    // Dots become dashes, capitals small letters; the older keeps a name that two want; the label ends at 63 bytes.
    text += &originated("paris", "ingress.a.my.dotted.name", "a", "my.dotted.name", "2026-01-01T00:00:00Z");
    text += &originated("paris", "ingress.b.twice", "b", "twice", "2026-01-02T00:00:00Z");
    text += &originated("paris", "ingress.a.twice", "a", "twice", "2026-01-03T00:00:00Z");
    text += &originated("tokyo", "ingress.c.twice", "c", "twice", "2026-01-03T00:00:00Z");
    text += &originated("paris", "ingress.c.long", "c", &long, "2026-01-01T00:00:00Z");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for (host, expected) in [
        ("my-dotted-name.paris.lb.test", "a"),
        ("MY-Dotted-Name.Paris.LB.test", "a"),
        ("my-dotted-name.paris.lb.test.", "a"),
        ("my-dotted-name.paris.lb.test:8080", "a"),
        ("twice.paris.lb.test", "b"),
        ("twice.tokyo.lb.test", "c"),
    ] {
        assert_eq!(who(&portolan, host), expected, "{host}");
    }
    let hosts: Vec<String> =
        portolan.admin_json("/plan")["hosts"].as_object().unwrap().keys().cloned().collect();
    // 8 hexadecimal digits of sha256("Ingress/a/twice"), by sha256sum.
    let digits = |text: &str| {
        let output = portolan_e2e::run(&mut std::process::Command::new("sha256sum"), text.as_bytes());
        String::from_utf8(output.stdout).unwrap()[..8].to_owned()
    };
    let younger = format!("twice-{}.paris.lb.test", digits("Ingress/a/twice"));
    assert_eq!(who(&portolan, &younger), "a", "{hosts:?}");
    let cut = format!("{}-{}.paris.lb.test", "l".repeat(54), digits(&format!("Ingress/c/{long}")));
    assert_eq!(who(&portolan, &cut), "c", "{hosts:?}");

    // The name goes to the next in line when its holder goes, and an older one takes it.
    let text = portolan.config().join("fleet.yaml");
    let text = std::fs::read_to_string(text)
        .unwrap()
        .replace("name: ingress.b.twice", "name: ingress.b.once")
        .replace("namespace: b, name: twice", "namespace: b, name: once");
    portolan.apply("fleet.yaml", &text);
    assert_eq!(who(&portolan, "twice.paris.lb.test"), "a");
    assert_eq!(who(&portolan, "once.paris.lb.test"), "b");
}

#[test]
fn customer_hosts_and_wildcards() {
    let echoes = ["exact", "one", "any", "deep"].map(Echo::start);
    let mut text = cluster("paris", "allowedDomains: [{suffix: shop.test}, {suffix: xn--mller-kva.test}]\n");
    for (name, echo) in ["exact", "one", "any", "deep"].into_iter().zip(&echoes) {
        text += &pool("paris", name, &[echo.address()], "");
    }
    text += &load_balancer("paris", "exact", "www.shop.test, shop.test", "exact");
    text += &load_balancer("paris", "one", "'*.shop.test'", "one");
    text += &load_balancer("paris", "any", "'**.any.shop.test'", "any");
    text += &load_balancer("paris", "deep", "'*.deep.any.shop.test'", "deep");
    text += &load_balancer("paris", "idn", "www.xn--mller-kva.test", "exact");
    text += &load_balancer("paris", "foreign", "www.other.test, notshop.test", "exact");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for (host, expected) in [
        ("www.shop.test", "exact"),
        ("WWW.SHOP.TEST", "exact"),
        ("shop.test", "exact"),
        ("x.shop.test", "one"),
        ("x.y.shop.test", "404"),
        ("any.shop.test", "one"),
        ("x.any.shop.test", "any"),
        ("x.y.any.shop.test", "any"),
        ("deep.any.shop.test", "any"),
        ("x.deep.any.shop.test", "deep"),
        ("x.y.deep.any.shop.test", "any"),
        ("www.xn--mller-kva.test", "exact"),
        // Not under an allowed domain, though it ends like one.
        ("www.other.test", "404"),
        ("notshop.test", "404"),
        // The generated name serves the rules all the same.
        ("foreign.paris.lb.test", "exact"),
        ("exact.paris.lb.test", "exact"),
    ] {
        assert_eq!(who(&portolan, host), expected, "{host}");
    }
    let conditions = portolan.admin_json("/conditions").to_string();
    assert!(conditions.contains("www.other.test") && conditions.contains("notshop.test"), "{conditions}");
}

#[test]
fn rules_name_hosts_of_their_own() {
    let echo = Echo::start("web");
    let text = cluster("paris", "allowedDomains: [{suffix: '*'}]\n")
        + &pool("paris", "web", &[echo.address()], "")
        + &route(
            "paris",
            "shop",
            "hosts: [default.test]
rules:
- hosts: [own.test]
  matches: [{path: {value: /own}}]
  backends: [{pool: web}]
- matches: [{path: {value: /rest}}]
  backends: [{pool: web}]
",
        )
        + &app("paris", "nameless", &[echo.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for (host, path, status) in [
        ("own.test", "/own", 200),
        ("own.test", "/rest", 404),
        ("default.test", "/rest", 200),
        ("default.test", "/own", 404),
        ("shop.paris.lb.test", "/own", 200),
        ("shop.paris.lb.test", "/rest", 200),
        ("nameless.paris.lb.test", "/own", 200),
        ("anything.test", "/own", 404),
    ] {
        assert_eq!(portolan.get(host, path).send().status, status, "{host}{path}");
    }
}

#[test]
fn a_host_belongs_to_its_first_tenant() {
    let (paris, tokyo) = (Echo::start("paris"), Echo::start("tokyo"));
    let allowed = "allowedDomains: [{suffix: shop.test}]\n";
    let claim = |cluster: &str, host: &str, created: &str| {
        route(
            cluster,
            "claim",
            &format!(
                "origin: {{kind: Ingress, namespace: n, name: claim, creationTimestamp: \"{created}\"}}\nhosts: [\"{host}\"]\nrules:\n- backends: [{{pool: web}}]\n"
            ),
        )
    };
    let text = cluster("paris", allowed)
        + &cluster("tokyo", allowed)
        + &pool("paris", "web", &[paris.address()], "")
        + &pool("tokyo", "web", &[tokyo.address()], "");
    let portolan = Portolan::start(&[
        ("fleet.yaml", text),
        ("paris.yaml", claim("paris", "www.shop.test", "2026-02-01T00:00:00Z")),
        ("tokyo.yaml", claim("tokyo", "www.shop.test", "2026-01-01T00:00:00Z")),
    ]);
    // What a tenant says of its claim's age does not help it against another: in a folder the name decides.
    assert_eq!(who(&portolan, "www.shop.test"), "paris");
    assert_eq!(who(&portolan, "claim.tokyo.lb.test"), "tokyo", "the generated name is not disputed");
    let conditions = portolan.admin_json("/conditions")["conditions"].to_string();
    assert!(conditions.contains("www.shop.test") && conditions.contains("tenant-paris"), "{conditions}");

    // A wildcard owns what lies under it.
    portolan.apply("paris.yaml", &claim("paris", "**.shop.test", "2026-02-01T00:00:00Z"));
    assert_eq!(who(&portolan, "www.shop.test"), "paris", "the first one's wildcard");
    // The first claim goes: the second one serves.
    portolan.withdraw("paris.yaml");
    assert_eq!(who(&portolan, "www.shop.test"), "tokyo");
    assert_eq!(portolan.admin_json("/conditions")["conditions"].as_array().unwrap().len(), 0);
    // The second one's wildcard serves the rest.
    portolan.apply("paris.yaml", &claim("paris", "www.shop.test", "2026-02-01T00:00:00Z"));
    portolan.apply("tokyo.yaml", &claim("tokyo", "**.shop.test", "2026-01-01T00:00:00Z"));
    assert_eq!(
        (who(&portolan, "www.shop.test"), who(&portolan, "x.shop.test")),
        ("paris".to_owned(), "tokyo".to_owned())
    );
}

#[test]
fn rules_of_one_tenant_merge() {
    let (older, younger) = (Echo::start("older"), Echo::start("younger"));
    let object = |name: &str, path: &str, created: &str| {
        route(
            "paris",
            name,
            &format!(
                "origin: {{kind: Ingress, namespace: n, name: {name}, creationTimestamp: \"{created}\"}}\nhosts: [www.shop.test]\nrules:\n\
                 - matches: [{{path: {{value: /both}}}}, {{path: {{value: {path}}}}}]\n  backends: [{{pool: {name}}}]\n"
            ),
        )
    };
    let text = cluster("paris", "allowedDomains: [{suffix: shop.test}]\n")
        + &pool("paris", "older", &[older.address()], "")
        + &pool("paris", "younger", &[younger.address()], "")
        + &object("younger", "/b", "2026-02-01T00:00:00Z")
        + &object("older", "/a", "2026-01-01T00:00:00Z");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    for (path, expected) in [("/a", "older"), ("/b", "younger"), ("/both", "older")] {
        let reply = portolan.get("www.shop.test", path).send();
        assert_eq!(reply.header("x-upstream"), Some(expected), "{path}: {reply:?}");
    }
}

#[test]
fn a_shared_host_is_one_application_over_clusters() {
    let (paris, tokyo) = (Echo::start("paris"), Echo::start("tokyo"));
    let fleet = |cluster_name: &str, more: &str| {
        cluster(cluster_name, &format!("allowedDomains: [{{suffix: app.test, sharing: Shared}}]\n{more}"))
    };
    let check = "healthCheck: {http: {path: /healthz}, interval: 100ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 1}\n";
    let application = |name: &str, echo: &Echo| {
        load_balancer(name, "app", "www.app.test", "web")
            + &load_balancer(name, "own", &format!("{name}.app.test"), "web")
            + &pool(name, "web", &[echo.address()], check)
    };
    let portolan = Setup::new()
        .manifest("paris.yaml", fleet("paris", "weight: 300\n"))
        .manifest("tokyo.yaml", fleet("tokyo", "weight: 100\n"))
        .manifest("apps.yaml", application("paris", &paris) + &application("tokyo", &tokyo))
        .start();
    let mut client = portolan.raw();
    const ASKED: u32 = 800;
    let counts = shares(&mut client, "www.app.test", ASKED);
    assert_eq!(counts.len(), 2, "{counts:?}");
    // Six standard deviations of a fair draw: 74.
    assert!(counts["paris"].abs_diff(ASKED * 3 / 4) < 74, "{counts:?}");

    // A drained cluster gets nothing of the shared host, and keeps its own names.
    portolan.apply("paris.yaml", &fleet("paris", "drain: true\n"));
    assert_eq!(shares(&mut client, "www.app.test", 50), BTreeMap::from([("tokyo".to_owned(), 50)]));
    assert_eq!(who(&portolan, "app.paris.lb.test"), "paris");
    assert_eq!((&*who(&portolan, "paris.app.test"), &*who(&portolan, "tokyo.app.test")), ("503", "tokyo"));

    // So does a cluster without healthy endpoints, until it is well again.
    portolan.apply("paris.yaml", &fleet("paris", "weight: 100\n"));
    tokyo.set_healthy(false);
    eventually("tokyo gets nothing", || {
        (shares(&mut client, "www.app.test", 40) == BTreeMap::from([("paris".to_owned(), 40)])).then_some(())
    });
    tokyo.set_healthy(true);
    eventually("tokyo gets its share", || (shares(&mut client, "www.app.test", 40).len() == 2).then_some(()));

    // Both gone: an answer of our own.
    paris.set_healthy(false);
    tokyo.set_healthy(false);
    eventually("nobody is healthy", || {
        (shares(&mut client, "www.app.test", 5) == BTreeMap::from([("503".to_owned(), 5)])).then_some(())
    });
}

#[test]
fn the_nearest_clusters_of_a_shared_host_take_it() {
    let places = [
        ("paris", "{region: eu, zone: eu-a}"),
        ("lyon", "{region: eu, zone: eu-b}"),
        ("tokyo", "{region: ap}"),
    ];
    let check = "healthCheck: {http: {path: /healthz}, interval: 100ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 1}\n";
    let echoes = places.map(|(name, _)| Echo::start(name));
    let mut fleet = String::new();
    for ((name, place), echo) in places.iter().zip(&echoes) {
        let spec = format!("allowedDomains: [{{suffix: app.test, sharing: Shared}}]\nlocality: {place}\n");
        fleet += &cluster(name, &spec);
        fleet += &load_balancer(name, "app", "www.app.test", "web");
        fleet += &pool(name, "web", &[echo.address()], check);
    }
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    let mut client = portolan.raw();
    assert_eq!(shares(&mut client, "www.app.test", 200).len(), 3, "nobody said where the proxy is");

    let [paris, lyon, tokyo] = &echoes;
    let mut all_go_to = |name: &str| {
        let expected = BTreeMap::from([(name.to_owned(), 40)]);
        eventually(name, || (shares(&mut client, "www.app.test", 40) == expected).then_some(()));
        let verdict = portolan.admin_json("/explain?url=http://www.app.test/");
        for cluster in verdict["clusters"].as_array().unwrap() {
            let share = if cluster["cluster"] == *name { 1.0 } else { 0.0 };
            assert_eq!(cluster["share"], share, "{name}: {verdict}");
        }
    };
    portolan.apply("proxy.yaml", &Setup::new().spec("locality: {region: eu, zone: eu-a}\n").proxy());
    all_go_to("paris");
    paris.set_healthy(false);
    all_go_to("lyon");
    lyon.set_healthy(false);
    all_go_to("tokyo");
    paris.set_healthy(true);
    all_go_to("paris");
    tokyo.set_healthy(false);
    portolan.apply("proxy.yaml", &Setup::new().spec("locality: {region: ap, zone: ap-a}\n").proxy());
    all_go_to("paris");
}

/// A cluster whose endpoints are unsteady takes a shared host where no other has a fit one, however near it is.
#[test]
fn an_unsteady_cluster_takes_a_shared_host_where_no_other_can() {
    let (paris, tokyo) = (crate::pools::unsteady(), Echo::start("tokyo"));
    let check = "healthCheck: {http: {path: /healthz}, interval: 100ms, timeout: 1s, healthyThreshold: 2, unhealthyThreshold: 1}\n";
    let mut fleet = String::new();
    for (name, region, address) in [("paris", "eu", paris.address()), ("tokyo", "ap", tokyo.address())] {
        let spec = format!(
            "allowedDomains: [{{suffix: app.test, sharing: Shared}}]\nlocality: {{region: {region}}}\n"
        );
        fleet += &cluster(name, &spec);
        fleet += &load_balancer(name, "app", "www.app.test", "web");
        fleet += &pool(name, "web", &[address], check);
    }
    let portolan = Setup::new().spec("locality: {region: eu}\n").manifest("fleet.yaml", fleet).start();
    let mut client = portolan.raw();
    let all = |name: &str| BTreeMap::from([(name.to_owned(), 40)]);
    let mut all_go_to = |name: &str| {
        eventually(name, || (shares(&mut client, "www.app.test", 40) == all(name)).then_some(()))
    };
    all_go_to("tokyo");
    tokyo.set_healthy(false);
    all_go_to("unsteady");
    let verdict = portolan.admin_json("/explain?url=http://www.app.test/");
    let share = |at: usize| verdict["clusters"][at]["share"].as_f64();
    assert_eq!((share(0), share(1)), (Some(1.0), Some(0.0)), "{verdict}");
    tokyo.set_healthy(true);
    all_go_to("tokyo");
}

#[test]
fn sharing_takes_two() {
    let (paris, tokyo) = (Echo::start("paris"), Echo::start("tokyo"));
    let text = cluster("paris", "allowedDomains: [{suffix: app.test, sharing: Shared}]\n")
        + &cluster("tokyo", "allowedDomains: [{suffix: app.test}]\n")
        + &load_balancer("paris", "app", "www.app.test", "web")
        + &load_balancer("tokyo", "app", "www.app.test", "web")
        + &pool("paris", "web", &[paris.address()], "")
        + &pool("tokyo", "web", &[tokyo.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let counts = shares(&mut portolan.raw(), "www.app.test", 40);
    assert_eq!(counts.len(), 1, "{counts:?}");
    assert_eq!(portolan.admin_json("/conditions")["conditions"].as_array().unwrap().len(), 1);
}

/// Whether a cluster that gets nothing could take the request is asked at the cost of nobody's turn.
#[test]
fn a_cluster_that_gets_nothing_takes_no_turns() {
    let (one, two, tokyo) = (Echo::start("one"), Echo::start("two"), Echo::start("tokyo"));
    let shared = "allowedDomains: [{suffix: app.test, sharing: Shared}]\n";
    for nothing in ["drain: true\n", "weight: 0\n"] {
        let text = cluster("paris", shared)
            + &cluster("tokyo", &format!("{shared}{nothing}"))
            + &load_balancer("paris", "app", "www.app.test", "web")
            + &load_balancer("tokyo", "app", "www.app.test", "web")
            + &pool("paris", "web", &[one.address(), two.address()], "balancing: RoundRobin\n")
            + &pool("tokyo", "web", &[tokyo.address()], "");
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        let counts = shares(&mut portolan.raw(), "www.app.test", 100);
        let even = |name: &str| counts.get(name).is_some_and(|count| (40..=60).contains(count));
        assert!(counts.len() == 2 && even("one") && even("two"), "{nothing}: {counts:?}");
    }
}

/// A link that is cut takes all endpoints of a cluster with it; three tries would not find them all.
#[test]
fn a_retry_goes_to_another_cluster() {
    let alive = Echo::start("alive");
    let dead: Vec<_> = (0..4).map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).collect();
    let fleet = |name: &str| cluster(name, "allowedDomains: [{suffix: app.test, sharing: Shared}]\n");
    let text = fleet("paris")
        + &fleet("tokyo")
        + &load_balancer("paris", "app", "www.app.test", "web")
        + &load_balancer("tokyo", "app", "www.app.test", "web")
        + &pool("paris", "web", &dead, "")
        + &pool("tokyo", "web", &[alive.address()], "");
    let portolan = Portolan::start(&[("fleet.yaml", text)]);
    let counts = shares(&mut portolan.raw(), "www.app.test", 60);
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["alive"], "{counts:?}");
}

/// What was sent to one cluster is not sent to another that redirects, whatever backends stand beside its redirect.
#[test]
fn a_retry_goes_to_no_cluster_that_redirects() {
    let alive = Echo::start("alive");
    let dead: Vec<_> = (0..2).map(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()))).collect();
    let fleet = |name: &str| cluster(name, "allowedDomains: [{suffix: app.test, sharing: Shared}]\n");
    let redirect = "filters: [{type: RequestRedirect, requestRedirect: {hostname: other.test}}]";
    let to_https = "---\napiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: secure, namespace: tenant-tokyo}\nspec:\n  \
                    targetRefs: [{kind: HTTPLoadBalancer, name: app}]\n  httpsRedirect: {enabled: true}\n";
    for (rule, policy) in [
        (redirect.to_owned(), ""),
        (format!("{redirect}\n  backends: [{{pool: web}}]"), ""),
        ("backends: [{pool: web}]".to_owned(), to_https),
    ] {
        let text = fleet("paris")
            + &fleet("tokyo")
            + &load_balancer("paris", "app", "www.app.test", "web")
            + &route("tokyo", "app", &format!("hosts: [www.app.test]\nrules:\n- {rule}\n"))
            + &pool("paris", "web", &[dead[0], alive.address(), dead[1]], "")
            + &pool("tokyo", "web", &[dead[0]], "")
            + policy;
        let portolan = Portolan::start(&[("fleet.yaml", text)]);
        let counts = shares(&mut portolan.raw(), "www.app.test", 60);
        let redirected = if policy.is_empty() { "302" } else { "301" };
        assert_eq!(counts.keys().collect::<Vec<_>>(), [redirected, "alive"], "{rule}{policy}: {counts:?}");
    }
}
