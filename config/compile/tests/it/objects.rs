//! Objects as such: which count, what refers to nothing, policies, pools, certificates.

use std::sync::Arc;
use std::time::Duration;

use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::id::{Kind, ObjectRef, PoolId};
use portolan_model::intent::{Delta, KeyAlgorithm, Object, Spec};
use portolan_model::plan::{Pool, Trust};
use portolan_model::policy::{Policy, PolicySpec};
use portolan_model::pool::{EndpointRanges, EndpointSource, UpstreamTls, Verification};

use crate::fleet::*;

#[test]
fn only_the_default_proxy_counts() {
    let mut other = proxy(|proxy| proxy.workers = Some(port(3)));
    other.meta.id = id(Kind::Proxy, "other");
    let mut compiler = compile([other]);
    assert_eq!(compiler.plan().proxy.workers, None);
    assert_eq!(wrong(&compiler, &id(Kind::Proxy, "other"))[0].0, Reason::NotDefault);
    let update = compiler.apply([apply(proxy(|proxy| proxy.workers = Some(port(4))))]);
    assert_eq!(update.proxy.unwrap().workers, Some(port(4)));
    assert_eq!(compiler.plan().proxy.workers, Some(port(4)));
}

#[test]
fn objects_wait_for_their_cluster() {
    let secret_at = |place: &str| secret(place, &["a.com"], KeyAlgorithm::Rsa, 1);
    for (object, counts) in [
        (lb("paris/shop", 1, &["a.com"]), true),
        (lb("oslo/shop", 1, &["a.com"]), false),
        (lb(":default/shop", 1, &["a.com"]), false),
        (lb(":portolan-system/shop", 1, &["a.com"]), false),
        (lb(":tenant-/shop", 1, &["a.com"]), false),
        (pool("oslo/p", inline(&["10.0.0.1"])), false),
        (secret_at("paris/s"), true),
        (secret_at("oslo/s"), false),
        (secret_at(":portolan-system/s"), true),
        (secret_at(":default/s"), false),
        (ca(":portolan-system/ca"), true),
    ] {
        let id = object.meta.id.clone();
        let compiler = compile([cluster("paris", |_| {}), object]);
        let found = wrong(&compiler, &id);
        assert_eq!(found.is_empty(), counts, "{id}: {found:?}");
        assert!(counts || found[0].0 == Reason::ClusterNotFound, "{id}");
        assert!(counts || compiler.plan().hosts.is_empty() && compiler.plan().pools.is_empty(), "{id}");
    }

    let mut compiler = compile([lb("paris/shop", 1, &["a.com > p"]), pool("paris/p", inline(&["10.0.0.1"]))]);
    compiler.apply([apply(cluster("paris", |_| {}))]);
    let plan = compiler.plan();
    assert_eq!((plan.hosts.len(), plan.pools.len(), plan.conditions.len()), (2, 1, 0));
    compiler.apply([Delta::Delete(id(Kind::Cluster, "paris"))]);
    let plan = compiler.plan();
    assert_eq!((plan.hosts.len(), plan.pools.len(), plan.conditions.len()), (0, 0, 2));
}

#[test]
fn the_last_good_version_stays_in_force() {
    let broken = || Condition::new(ConditionType::Accepted, Reason::Invalid, "spec.rules", "what is this");
    let shop = lb_id("paris/shop");
    let mut compiler = compile([cluster("paris", |_| {}), lb("paris/shop", 1, &["a.com > p"])]);
    let before = routes(compiler.plan(), "a.com");
    compiler.apply([Delta::Invalid(shop.clone(), vec![broken()])]);
    assert_eq!(routes(compiler.plan(), "a.com"), before);
    let found = conditions(&compiler, &shop);
    assert_eq!((found.len(), &found[0]), (2, &broken()), "its own conditions stay too");
    compiler.apply([apply(lb("paris/shop", 1, &["a.com > p"]))]);
    assert_eq!(conditions(&compiler, &shop).len(), 1);
    compiler.apply([Delta::Invalid(shop.clone(), vec![broken()]), Delta::Delete(shop.clone())]);
    assert_eq!((compiler.plan().hosts.len(), compiler.plan().conditions.len()), (0, 0));
}

/// Whoever wrote a `Proxy` wants other listeners than the built-in ones.
#[test]
fn a_proxy_that_was_never_understood_has_no_listeners() {
    let broken = || vec![Condition::new(ConditionType::Accepted, Reason::Invalid, "spec", "what is this")];
    let id = id(Kind::Proxy, "default");
    let listeners = |compiler: &portolan_compile::Compiler| compiler.plan().proxy.listeners.len();
    let mut compiler = compile([cluster("paris", |_| {})]);
    assert_eq!(listeners(&compiler), 2, "the built-in ones");
    compiler.apply([Delta::Invalid(id.clone(), broken())]);
    assert_eq!(listeners(&compiler), 0);
    compiler.apply([Delta::Delete(id)]);
    assert_eq!(listeners(&compiler), 2);
}

#[test]
fn what_is_said_twice_changes_nothing() {
    let objects = || {
        [
            cluster("paris", |_| {}),
            lb("paris/shop", 1, &["a.com > p"]),
            pool("paris/p", inline(&["10.0.0.1"])),
            secret("paris/s", &["a.com"], KeyAlgorithm::Rsa, 1),
        ]
    };
    let mut compiler = compile(objects());
    let revision = compiler.plan().revision;
    let update = compiler.apply(objects().map(apply));
    assert!(update.is_empty());
    assert_eq!((update.revision, compiler.plan().revision), (revision, revision));

    let mut moved = lb("paris/shop", 1, &["a.com > p"]);
    moved.meta.generation = 7;
    assert!(compiler.apply([apply(moved)]).is_empty());
    assert_eq!(compiler.object(&lb_id("paris/shop")).unwrap().meta.generation, 7);
}

#[test]
fn one_change_is_one_small_update() {
    let mut compiler = compile([
        cluster("paris", |_| {}),
        lb("paris/shop", 1, &["a.com > p"]),
        lb("paris/api", 1, &["b.com > p"]),
        pool("paris/p", inline(&["10.0.0.1"])),
    ]);
    let update = compiler.apply([apply(lb("paris/shop", 1, &["/v2 a.com > p"]))]);
    let mut hosts: Vec<_> = update.hosts.iter().map(|(pattern, _)| pattern.to_string()).collect();
    hosts.sort();
    assert_eq!(hosts, ["a.com", "shop.paris.lb.localhost"]);
    assert!(update.pools.is_empty() && update.conditions.is_empty());
    let update = compiler.apply([apply(pool("paris/p", inline(&["10.0.0.2"])))]);
    assert_eq!((update.hosts.len(), update.pools.len()), (0, 1));
}

#[test]
fn backends_may_be_missing() {
    let mut compiler = compile([cluster("paris", |_| {}), lb("paris/shop", 1, &["/a > p q", "/b > p"])]);
    let missing = |at: &str| (Reason::BackendNotFound, format!("spec.rules{at}.pool"));
    let shop = lb_id("paris/shop");
    assert_eq!(
        wrong(&compiler, &shop),
        [missing("[0].backends[0]"), missing("[0].backends[1]"), missing("[1].backends[0]")]
    );
    assert_eq!(conditions(&compiler, &shop)[0].kind, ConditionType::ResolvedRefs);
    assert_eq!(routes(compiler.plan(), "shop.paris.lb.localhost").len(), 2);
    compiler.apply([apply(pool("paris/p", inline(&[])))]);
    assert_eq!(wrong(&compiler, &shop), [missing("[0].backends[1]")]);
    compiler.apply([Delta::Delete(id(Kind::UpstreamPool, "paris/p")), apply(pool("paris/q", inline(&[])))]);
    assert_eq!(wrong(&compiler, &shop), [missing("[0].backends[0]"), missing("[1].backends[0]")]);
}

#[test]
fn policies_lie_over_each_other() {
    let seconds = |n: u64| Some(Duration::from_secs(n));
    let set = |request, idle| PolicySpec { request, idle, ..PolicySpec::default() };
    let paris = || id(Kind::Cluster, "paris");
    let shop = || lb_id("paris/shop");
    let fleet = || {
        vec![
            cluster("paris", |_| {}),
            cluster("tokyo", |_| {}),
            lb("paris/shop", 1, &["/"]),
            lb("paris/api", 1, &["/"]),
        ]
    };
    let policy_of = |objects: Vec<Object>, lb: &str| -> Arc<Policy> {
        let compiler = compile(fleet().into_iter().chain(objects));
        let host = compiler.generated_host(&lb_id(lb)).unwrap();
        let virtual_host = compiler.plan().hosts.get(&crate::fleet::host(host.as_str())).unwrap().clone();
        Arc::clone(&virtual_host.routes[0].actions[0].policy)
    };
    let default = || proxy(|proxy| proxy.default_policy = set(seconds(1), seconds(1)));
    let on_cluster = || policy("paris/c", 1, &[paris()], set(seconds(2), None));
    let on_shop = || policy("paris/s", 1, &[shop()], set(seconds(3), None));
    for (objects, lb, request, idle) in [
        (vec![], "paris/shop", 3600, 300),
        (vec![default()], "paris/shop", 1, 1),
        (vec![default(), on_cluster()], "paris/shop", 2, 1),
        (vec![default(), on_cluster(), on_shop()], "paris/shop", 3, 1),
        (vec![default(), on_cluster(), on_shop()], "paris/api", 2, 1),
        (vec![on_shop(), policy("paris/t", 2, &[shop()], set(seconds(4), seconds(4)))], "paris/shop", 3, 4),
        (vec![on_shop(), policy("paris/a", 1, &[shop()], set(seconds(4), seconds(4)))], "paris/shop", 4, 4),
        (vec![policy("tokyo/x", 1, &[shop(), paris()], set(seconds(9), None))], "paris/shop", 3600, 300),
    ] {
        let found = policy_of(objects.clone(), lb);
        assert_eq!(
            (found.request, found.idle),
            (seconds(request), Duration::from_secs(idle)),
            "{lb} {objects:#?}"
        );
    }

    let compiler = compile(fleet().into_iter().chain([
        on_shop(),
        policy("paris/t", 2, &[shop()], set(seconds(4), seconds(4))),
        policy(
            "tokyo/x",
            1,
            &[shop(), lb_id("tokyo/none"), paris(), id(Kind::Cluster, "tokyo")],
            set(None, None),
        ),
    ]));
    let found = conditions(&compiler, &id(Kind::TrafficPolicy, "paris/t"));
    assert_eq!(
        (found.len(), found[0].reason, &*found[0].field),
        (1, Reason::Conflicted, "spec.timeouts.request")
    );
    assert!(found[0].message.contains("tenant-paris/s"), "{}", found[0].message);
    let lost = |at| (Reason::TargetNotFound, format!("spec.targetRefs[{at}]"));
    assert_eq!(wrong(&compiler, &id(Kind::TrafficPolicy, "tokyo/x")), [lost(0), lost(1), lost(2)]);
    let [one, two] = ["paris/shop", "paris/api"].map(|lb| policy_of(vec![default()], lb));
    assert_eq!(one, two);
}

fn resolved(objects: Vec<Object>) -> (Arc<Pool>, Vec<(Reason, String)>) {
    let has_cluster = objects.iter().any(|object| object.meta.id.kind == Kind::Cluster);
    let cluster = (!has_cluster).then(|| cluster("paris", |_| {}));
    let compiler = compile(objects.into_iter().chain(cluster));
    let pool = compiler.plan().pools.get(&PoolId::new("tenant-paris", "p")).unwrap();
    (Arc::clone(pool), wrong(&compiler, &id(Kind::UpstreamPool, "paris/p")))
}

fn endpoints(pool: &Pool) -> Vec<String> {
    let shown = pool.endpoints.iter().map(|it| {
        let weight = if it.weight == 1 { String::new() } else { format!("={}", it.weight) };
        format!("{}{weight}{}", it.address, if it.terminating { " going" } else { "" })
    });
    shown.collect()
}

#[test]
fn endpoints_are_listed() {
    let listed =
        ["10.0.0.2=3", "pool.example=2", "10.0.0.1", "10.0.0.2", "10.0.0.9=0", "::ffff:10.0.0.1", "fd00::1"];
    let (pool, wrong) = resolved(vec![pool("paris/p", inline(&listed))]);
    assert_eq!(endpoints(&pool), ["10.0.0.1:80", "10.0.0.2:80=3", "[fd00::1]:80"]);
    assert_eq!((pool.names.len(), pool.names[0].name.as_str(), pool.names[0].weight), (1, "pool.example", 2));
    assert_eq!((pool.ranges.clone(), wrong), (EndpointRanges::default(), vec![]));
}

#[test]
fn endpoints_lie_where_they_may() {
    let refused = |at| (Reason::EndpointNotAllowed, format!("spec.endpoints[{at}].address"));
    let listed = || pool("paris/p", inline(&["127.0.0.1", "10.0.0.1", "169.254.169.254"]));
    let (pool, wrong) = resolved(vec![listed()]);
    assert_eq!((endpoints(&pool), wrong), (vec!["10.0.0.1:80".to_owned()], vec![refused(0), refused(2)]));
    let ranges: Arc<[_]> = Arc::new(["127.0.0.0/8".parse().unwrap()]);
    let local = cluster("paris", |cluster| cluster.allowed_endpoints = Some(Arc::clone(&ranges)));
    let (pool, wrong) = resolved(vec![listed(), local]);
    assert_eq!((endpoints(&pool), wrong), (vec!["127.0.0.1:80".to_owned()], vec![refused(1), refused(2)]));
    assert_eq!(pool.ranges.allowed, Some(ranges));
}

#[test]
fn endpoints_lie_in_no_reserved_range() {
    let reserved = |ranges: &[&str]| {
        proxy(|proxy| proxy.reserved = ranges.iter().map(|range| range.parse().unwrap()).collect())
    };
    let member = |integrated, allowed: Option<&str>| {
        cluster("paris", |cluster| {
            cluster.integrated = integrated;
            cluster.allowed_endpoints = allowed.map(|range| Arc::new([range.parse().unwrap()]) as _);
        })
    };
    let listed =
        || pool("paris/p", inline(&["10.96.0.1", "10.97.0.1", "10.1.0.1", "127.0.0.1", "pool.example"]));
    for (say, integrated, allowed, expected) in [
        ("a member", false, None, "10.1.0.1:80"),
        ("whatever it is allowed", false, Some("10.0.0.0/8"), "10.1.0.1:80"),
        ("the LB cluster itself", true, None, "10.1.0.1:80 10.96.0.1:80 10.97.0.1:80"),
        ("within what it is allowed", true, Some("10.96.0.0/16"), "10.96.0.1:80"),
    ] {
        let ranges = ["10.96.0.0/15", "127.0.0.0/8"];
        let (pool, _) = resolved(vec![reserved(&ranges), listed(), member(integrated, allowed)]);
        assert_eq!(endpoints(&pool).join(" "), expected, "{say}");
        assert_eq!(pool.ranges.reserved.len(), if integrated { 0 } else { 2 }, "{say}: for its names");
    }

    let id = id(Kind::UpstreamPool, "paris/p");
    let mut compiler = compile([listed(), member(false, None)]);
    let mut after = |object| {
        compiler.apply([apply(object)]);
        conditions(&compiler, &id).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let told = after(reserved(&["10.96.0.0/16"]));
    assert_eq!(
        told[0],
        "EndpointNotAllowed: spec.endpoints[0].address: 10.96.0.1 is reserved for the LB cluster itself \
         (spec.reservedCIDRs of the Proxy); only a Cluster with integrated: true may use it"
    );
    assert_eq!(told.len(), 2);
    assert_eq!(after(member(true, None)).len(), 1, "127.0.0.1 it is not allowed either");
    assert_eq!(after(member(false, None)).len(), 2);
    assert_eq!(after(reserved(&[])).len(), 1);
}

#[test]
fn endpoints_come_from_slices() {
    let slices = |port_name: Option<&str>| {
        pool("paris/p", EndpointSource::Slices { port_name: port_name.map(Arc::from) })
    };
    let web = &[("http", 80), ("admin", 81)][..];
    let one = || slice("paris/one", "p", web, &["10.0.0.1 rs", "10.0.0.2 st", "10.0.0.3 s", "10.0.0.4 t"]);
    let two = || slice("paris/two", "p", web, &["10.0.0.2 rs", "10.0.0.5 st", "127.0.0.1 r"]);
    let unnamed = || slice("paris/one", "p", &[("", 8080)], &["10.0.0.1 r"]);
    for (objects, expected) in [
        (vec![slices(Some("http")), one()], &["10.0.0.1:80", "10.0.0.2:80 going"][..]),
        (vec![slices(Some("http")), one(), two()], &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.5:80 going"]),
        (vec![slices(Some("admin")), two()], &["10.0.0.2:81", "10.0.0.5:81 going"]),
        (vec![slices(Some("grpc")), one()], &[]),
        (vec![slices(None), one()], &[]),
        (vec![slices(None), unnamed()], &["10.0.0.1:8080"]),
        (vec![slices(None), slice("paris/one", "other", &[("", 80)], &["10.0.0.1 r"])], &[]),
        (vec![slices(None), slice("tokyo/one", "p", &[("", 80)], &["10.0.0.1 r"])], &[]),
    ] {
        assert_eq!(endpoints(&resolved(objects.clone()).0), expected, "{objects:#?}");
    }
    // Regression: endpoints were left out in silence where the port could not be told.
    let portless =
        |object: &[Object]| {
            let compiler = compile(object.iter().cloned().chain([cluster("paris", |_| {})]));
            let found = conditions(&compiler, &id(Kind::UpstreamPool, "paris/p"));
            assert!(
                found.iter().all(|it| it.reason == Reason::EndpointNotAllowed
                    || it.field == "spec.endpointSlices.portName")
            );
            let mut messages =
                found.into_iter().filter(|it| it.reason == Reason::PortNotFound).map(|it| it.message);
            messages.next().unwrap_or_default()
        };
    let ports = "\"http\", \"admin\"";
    let left_out = "its endpoints are left out";
    for (objects, expected) in [
        (vec![slices(Some("http")), one(), two()], String::new()),
        (vec![slices(Some("grpc"))], String::new()),
        (vec![slices(None), slice("paris/one", "p", &[], &[])], String::new()),
        (
            vec![slices(None), slice("paris/one", "p", &[], &["10.0.0.9 r"])],
            format!("EndpointSlice tenant-paris/one has no TCP port; {left_out}"),
        ),
        (
            vec![slices(Some("grpc")), one()],
            format!("EndpointSlice tenant-paris/one has no port \"grpc\", but: {ports}; {left_out}"),
        ),
        (
            vec![slices(Some("grpc")), one(), two()],
            format!(
                "EndpointSlice tenant-paris/one has no port \"grpc\", but: {ports} (and 1 more); {left_out}"
            ),
        ),
        (
            vec![slices(None), one(), slice("paris/two", "p", &[("", 80)], &["10.0.0.9 r"])],
            format!(
                "EndpointSlice tenant-paris/one has not one port, but: {ports}; expected the name of one; {left_out}"
            ),
        ),
    ] {
        assert_eq!(portless(&objects), expected);
    }
    let mut compiler = compile([cluster("paris", |_| {}), slices(Some("http")), one(), two()]);
    let update = compiler.apply([Delta::Delete(id(Kind::EndpointSlice, "paris/two"))]);
    assert_eq!(endpoints(update.pools[0].1.as_ref().unwrap()), ["10.0.0.1:80", "10.0.0.2:80 going"]);
}

#[test]
fn endpoints_are_ports_on_nodes() {
    let on = |nodes: Option<&[&str]>| {
        let nodes = nodes.map(|nodes| nodes.iter().map(|node| Arc::from(*node)).collect());
        pool("paris/p", EndpointSource::NodePort { port: port(30080), nodes })
    };
    let set = || nodes("paris/a", &["n1 10.0.0.1 10.9.0.1", "!n2 10.0.0.2", "n3 10.0.0.3"]);
    for (objects, expected) in [
        (vec![on(None), set()], &["10.0.0.1:30080", "10.0.0.3:30080"][..]),
        (vec![on(Some(&["n3", "n2", "n9"])), set()], &["10.0.0.3:30080"]),
        (vec![on(Some(&[])), set()], &[]),
        (
            vec![on(None), set(), nodes("paris/b", &["n1 10.0.0.7", "n4 10.0.0.4"])],
            &["10.0.0.1:30080", "10.0.0.3:30080", "10.0.0.4:30080"],
        ),
        (vec![on(None), nodes("tokyo/a", &["n1 10.0.0.1"])], &[]),
    ] {
        assert_eq!(endpoints(&resolved(objects.clone()).0), expected, "{objects:#?}");
    }
    assert_eq!(resolved(vec![on(None)]).1, [(Reason::NodesNotFound, "spec.nodePort".to_owned())]);
}

/// Regression: a pool with nothing left was told of at the pool alone.
#[test]
fn a_pool_that_keeps_no_endpoint_is_told_of_where_it_is_used() {
    let within = |ranges: &[&str]| {
        let ranges = ranges.iter().map(|it| it.parse().unwrap()).collect();
        cluster("paris", |cluster| cluster.allowed_endpoints = Some(ranges))
    };
    let on_nodes = pool("paris/on", EndpointSource::NodePort { port: port(30080), nodes: None });
    let set = nodes("paris/nodes", &["n1 10.0.0.1", "n2 10.0.0.2", "!n3 10.0.0.3"]);
    let listed = pool("paris/listed", inline(&["10.0.0.1", "10.0.0.2"]));
    let empty = pool("paris/empty", inline(&[]));
    let app = lb("paris/a", 0, &["/ > on listed", "/empty > empty"]);
    let mut compiler = compile([within(&["10.0.0.2/32"]), on_nodes, set.clone(), listed, empty, app]);
    let (lb, nodes) = (lb_id("paris/a"), id(Kind::NodeSet, "paris/nodes"));
    let partly = [(Reason::EndpointNotAllowed, "spec.nodes[0].addresses[0]".to_owned())];
    assert_eq!((wrong(&compiler, &lb), &*wrong(&compiler, &nodes)), (vec![], &partly[..]));
    let told = &conditions(&compiler, &nodes)[0].message;
    assert!(told.starts_with("10.0.0.1 of node n1 (and 1 more) lies outside"), "{told}");
    assert_eq!(compiler.counts("paris").faults, 3);
    let bereft = [0, 1].map(|at| (Reason::NoEndpoints, format!("spec.rules[0].backends[{at}].pool")));
    compiler.apply([apply(within(&["10.1.0.0/16"]))]);
    assert_eq!((&*wrong(&compiler, &lb), &*wrong(&compiler, &nodes)), (&bereft[..], &partly[..]));
    compiler.apply([apply(within(&["10.0.0.0/16"]))]);
    assert_eq!(compiler.plan().conditions.len(), 0);
    compiler.apply([Delta::Delete(nodes.clone())]);
    assert_eq!(wrong(&compiler, &lb), bereft[..1]);
    compiler.apply([apply(set)]);
    assert_eq!((compiler.plan().conditions.len(), compiler.counts("paris").faults), (0, 0));
    // It follows from what its endpoints may be, not from whether they are ready.
    let sliced = pool("paris/listed", EndpointSource::Slices { port_name: None });
    let some =
        |flags: &str| slice("paris/s", "listed", &[("", 80)], &["11.0.0.1 r", &format!("10.0.0.1 {flags}")]);
    compiler.apply([apply(sliced), apply(some("r"))]);
    assert_eq!(wrong(&compiler, &lb), []);
    compiler.apply([apply(some("-"))]);
    assert_eq!(wrong(&compiler, &lb), []);
    assert_eq!(wrong(&compiler, &id(Kind::UpstreamPool, "paris/listed")).len(), 1);
    compiler.apply([apply(slice("paris/s", "listed", &[("", 80)], &["11.0.0.1 r"]))]);
    assert_eq!(wrong(&compiler, &lb), bereft[1..]);
    compiler.apply([apply(slice("paris/s", "listed", &[("", 80)], &["11.0.0.1 -"]))]);
    assert_eq!(wrong(&compiler, &lb), bereft[1..]);
    compiler.apply([apply(slice("paris/s", "listed", &[("", 80)], &[]))]);
    assert_eq!((compiler.plan().conditions.len(), compiler.counts("paris").faults), (0, 0));
    let unread = Condition::new(ConditionType::Accepted, Reason::Invalid, "spec", "no");
    compiler.apply([Delta::Invalid(lb_id("paris/b"), vec![unread])]);
    assert_eq!(compiler.counts("paris").faults, 1);
}

#[test]
fn a_missing_ca_is_never_trust() {
    let mut secure = pool("paris/p", inline(&[]));
    let bundle = id(Kind::ConfigMap, "paris/ca");
    if let Spec::UpstreamPool(spec) = &mut secure.spec {
        let verification = Verification::Bundle(bundle.clone());
        spec.tls = Some(UpstreamTls { server_name: name("a.com"), verification });
    }
    let mut compiler = compile([cluster("paris", |_| {}), secure]);
    let trust = |compiler: &portolan_compile::Compiler| {
        let pool = compiler.plan().pools.get(&PoolId::new("tenant-paris", "p")).unwrap();
        pool.tls.as_ref().unwrap().trust.clone()
    };
    assert_eq!(trust(&compiler), Trust::Missing(bundle.clone()));
    assert_eq!(
        wrong(&compiler, &id(Kind::UpstreamPool, "paris/p")),
        [(Reason::CaNotFound, "spec.tls.caRef".to_owned())]
    );
    compiler.apply([apply(ca("paris/ca"))]);
    assert!(matches!(trust(&compiler), Trust::Bundle(_)));
    assert!(compiler.plan().conditions.is_empty());
}

/// Server names as `name: secret secret`.
fn server_names(compiler: &portolan_compile::Compiler) -> Vec<String> {
    let shown =
        |secrets: &[ObjectRef]| secrets.iter().map(|it| it.name.to_string()).collect::<Vec<_>>().join(" ");
    let names = compiler.plan().server_names.iter();
    let mut names: Vec<_> =
        names.map(|(pattern, secrets)| format!("{pattern}: {}", shown(secrets))).collect();
    names.sort();
    names
}

#[test]
fn certificates_serve_accepted_hosts() {
    use KeyAlgorithm::{Ecdsa, Rsa};
    let missing = |at: &str| (Reason::CertificateNotFound, format!("spec.tls{at}.secretName"));
    let mismatch = |at: &str| (Reason::CertificateMismatch, format!("spec.tls{at}"));
    let s = || secret("paris/s", &["a.com", "*.a.com"], Rsa, 5);
    let rules = &["a.com *.a.com", "b.com"][..];
    for (say, rules, tls, secrets, names, wrong_fields) in [
        (
            "all of its hosts",
            rules,
            &[("s", &[][..])][..],
            vec![s()],
            &["*.a.com: s", "a.com: s"][..],
            vec![mismatch("[0].secretName")],
        ),
        ("the named ones", rules, &[("s", &["a.com"])], vec![s()], &["a.com: s"], vec![]),
        ("a host under a rule's wildcard", rules, &[("s", &["x.a.com"])], vec![s()], &["x.a.com: s"], vec![]),
        (
            "those under a wildcard",
            &["x.a.com", "y.a.com z.y.a.com"],
            &[("s", &["*.a.com"])],
            vec![s()],
            &["x.a.com: s", "y.a.com: s"],
            vec![],
        ),
        ("any labels get the first", &["**.a.com"], &[("s", &[])], vec![s()], &["*.a.com: s"], vec![]),
        (
            "its own generated name",
            rules,
            &[("g", &["shop.paris.lb.net"])],
            vec![secret("paris/g", &["*.paris.lb.net"], Rsa, 1)],
            &["shop.paris.lb.net: g"],
            vec![],
        ),
        (
            "all of its hosts, the generated one among them",
            &["a.com"],
            &[("g", &[])],
            vec![secret("paris/g", &["a.com", "*.paris.lb.net"], Rsa, 1)],
            &["a.com: g", "shop.paris.lb.net: g"],
            vec![],
        ),
        (
            "its generated name is all it has",
            &["/"],
            &[("g", &[])],
            vec![secret("paris/g", &["*.paris.lb.net"], Rsa, 1)],
            &["shop.paris.lb.net: g"],
            vec![],
        ),
        ("nor does it cover that", &["/"], &[("s", &[])], vec![s()], &[], vec![mismatch("[0].secretName")]),
        (
            "under its wildcard, but another's",
            &["**.com"],
            &[("s", &["x.taken.com", "lb.com"])],
            vec![s(), lb("tokyo/t", 0, &["x.taken.com"])],
            &[],
            vec![(Reason::HostTaken, "spec.tls[0].hosts[0]".to_owned()), mismatch("[0].hosts[1]")],
        ),
        ("no such secret", rules, &[("s", &["a.com"])], vec![], &[], vec![missing("[0]")]),
        (
            "a secret elsewhere",
            rules,
            &[("s", &["a.com"])],
            vec![secret("tokyo/s", &["a.com"], Rsa, 1)],
            &[],
            vec![missing("[0]")],
        ),
        (
            "not covered",
            rules,
            &[("s", &["a.com", "b.com"])],
            vec![s()],
            &["a.com: s"],
            vec![mismatch("[0].hosts[1]")],
        ),
        (
            "not a host of the object",
            rules,
            &[("s", &["c.com"])],
            vec![s()],
            &[],
            vec![(Reason::Invalid, "spec.tls[0].hosts[0]".to_owned())],
        ),
        (
            "not accepted",
            &["a.com", "no.net"],
            &[("n", &["no.net"])],
            vec![secret("paris/n", &["no.net"], Rsa, 1)],
            &[],
            vec![(Reason::DomainNotAllowed, "spec.rules[1].hosts[0]".to_owned())],
        ),
        (
            "best first",
            &["a.com"],
            &[("s", &[]), ("e", &[]), ("late", &[]), ("t", &[])],
            vec![
                s(),
                secret("paris/e", &["a.com"], Ecdsa, 1),
                secret("paris/late", &["a.com"], Rsa, 9),
                secret("paris/t", &["a.com"], Rsa, 5),
            ],
            &["a.com: e late s t"],
            vec![],
        ),
    ] {
        let paris = cluster("paris", |cluster| cluster.allowed_domains = domains(&["com exclusive"]));
        let shop = with_tls(lb("paris/shop", 1, rules), tls);
        let tokyo = cluster("tokyo", |_| {});
        let compiler = compile([proxy(|_| {}), paris, tokyo, shop].into_iter().chain(secrets));
        assert_eq!(server_names(&compiler), names, "{say}");
        assert_eq!(wrong(&compiler, &lb_id("paris/shop")), wrong_fields, "{say}");
        let used = compiler.plan().certificates.len();
        let bound: std::collections::BTreeSet<_> =
            compiler.plan().server_names.iter().flat_map(|(_, it)| it.to_vec()).collect();
        assert_eq!(used, bound.len(), "{say}: only certificates in use");
    }
}

#[test]
fn a_renewed_certificate_takes_its_place() {
    let secret_until =
        |named: &str, end| secret(&format!("paris/{named}"), &["a.com"], KeyAlgorithm::Rsa, end);
    let shop = with_tls(lb("paris/shop", 1, &["a.com"]), &[("s", &[]), ("t", &[])]);
    let mut compiler = compile([cluster("paris", |_| {}), shop, secret_until("s", 1), secret_until("t", 2)]);
    assert_eq!(server_names(&compiler), ["a.com: t s"]);
    let update = compiler.apply([apply(secret_until("s", 3))]);
    assert_eq!(server_names(&compiler), ["a.com: s t"]);
    assert_eq!((update.certificates.len(), update.server_names.len(), update.hosts.len()), (1, 1, 0));
    compiler.apply([Delta::Delete(id(Kind::Secret, "paris/s"))]);
    assert_eq!(server_names(&compiler), ["a.com: t"]);
    assert_eq!(compiler.plan().certificates.len(), 1);
}

#[test]
fn clusters_and_listeners_have_certificates() {
    let system = |named: &str, names: &[&str]| {
        secret(&format!(":portolan-system/{named}"), names, KeyAlgorithm::Rsa, 1)
    };
    let of = |named: &str| id(Kind::Secret, &format!(":portolan-system/{named}"));
    let fleet = || {
        [
            proxy(|proxy| {
                Arc::make_mut(&mut proxy.listeners[1]).tls.as_mut().unwrap().default_certificate =
                    Some(of("default"))
            }),
            cluster("paris", |cluster| cluster.certificate = Some(of("paris"))),
        ]
    };
    let mut compiler = compile(fleet());
    let gone = |field: &str| vec![(Reason::CertificateNotFound, field.to_owned())];
    assert_eq!(
        wrong(&compiler, &id(Kind::Proxy, "default")),
        gone("spec.listeners[1].tls.defaultCertificateRef")
    );
    assert_eq!(wrong(&compiler, &id(Kind::Cluster, "paris")), gone("spec.certificateRef"));
    let of_paris = id(Kind::Cluster, "paris");
    let told = |compiler: &portolan_compile::Compiler| conditions(compiler, &of_paris)[0].message.clone();
    let none = "Secret portolan-system/paris does not exist as one of type kubernetes.io/tls";
    assert_eq!(told(&compiler), none);
    let broken = Condition::new(ConditionType::Accepted, Reason::Invalid, "data[tls.crt]", "no PEM");
    let secret = ObjectRef::new(Kind::Secret, "portolan-system", "paris");
    compiler.apply([Delta::Invalid(secret.clone(), vec![broken])]);
    assert_eq!(told(&compiler), "Secret portolan-system/paris is invalid: data[tls.crt]: no PEM");
    compiler.apply([Delta::Delete(secret)]);
    assert_eq!(told(&compiler), none);
    compiler.apply([apply(system("default", &["x.org"])), apply(system("paris", &["*.paris.lb.net"]))]);
    assert_eq!(server_names(&compiler), ["*.paris.lb.net: paris"]);
    assert_eq!((compiler.plan().certificates.len(), compiler.plan().conditions.len()), (2, 0));
    compiler.apply([apply(system("paris", &["paris.lb.net"]))]);
    assert_eq!(
        wrong(&compiler, &id(Kind::Cluster, "paris")),
        [(Reason::CertificateMismatch, "spec.certificateRef".to_owned())]
    );
    assert_eq!((server_names(&compiler).len(), compiler.plan().certificates.len()), (0, 1));
}
