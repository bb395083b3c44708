//! What a backend comes to: its pool, the copies of its slices, its companion.

use super::*;

/// A pool in short.
fn short(pool: Option<UpstreamPoolSpec>) -> String {
    let Some(pool) = pool else { return "none".to_owned() };
    let to = match (&pool.endpoints, &pool.endpoint_slices, &pool.node_port) {
        (Some(endpoints), None, None) => {
            endpoints.iter().map(|it| format!("{}:{}", it.address, it.port)).collect::<Vec<_>>().join(",")
        }
        (None, Some(_), None) => "slices".to_owned(),
        (None, None, Some(port)) => {
            let nodes = port.nodes.as_ref().map(|nodes| format!(" on {}", nodes.join(",")));
            format!("node port {}{}", port.port, nodes.unwrap_or_default())
        }
        other => format!("{other:?}"),
    };
    let tls = pool.tls.map(|tls| match (tls.ca_ref, tls.system_trust) {
        (Some(ca), _) => format!(" TLS {} by {}", tls.server_name, ca.name),
        (None, true) => format!(" TLS {} by the system", tls.server_name),
        (None, false) => format!(" TLS {}", tls.server_name),
    });
    let check =
        pool.health_check.and_then(|check| check.http).map(|http| format!(" checked at {}", http.path));
    format!("{to} {:?}{}{}", pool.protocol, tls.unwrap_or_default(), check.unwrap_or_default())
}

#[test]
fn a_backend_is_reached_as_the_cluster_says() {
    let port = |node: u16| json!([{ "name": "http", "port": 80, "nodePort": node, "targetPort": 8080 }]);
    let pods = json!({ "app": "web" });
    let cluster_ip = json!({ "type": "ClusterIP", "selector": pods, "ports": port(0) });
    let headless = json!({ "type": "ClusterIP", "clusterIP": "None", "selector": pods, "ports": port(0) });
    let node_port = json!({ "type": "NodePort", "selector": pods, "ports": port(30080) });
    let no_node_port = json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "selector": pods, "ports": port(0) });
    let external = json!({ "type": "ExternalName", "externalName": "db.example.com", "ports": port(0) });
    let portless = json!({ "type": "ExternalName", "externalName": "db.example.com." });
    let inner = json!({ "type": "ExternalName", "externalName": "web.other.svc.cluster.local" });
    let selectorless = json!({ "type": "ClusterIP", "ports": port(0) });
    let selectorless_port = json!({ "type": "NodePort", "ports": port(30080) });
    let plain = |world: World| world;
    let with = |world: World| world.companion("shop/web", &[(80, 31234)]);
    let other_port = |world: World| world.companion("shop/web", &[(81, 31234)]);
    let refused = |world: World| world.refuse_companion("shop/web", "exceeded quota");
    let in_the_way = |world: World| world.service("shop/web-portolan", json!({ "type": "ClusterIP" }));
    type Row<'a> = (&'a str, Reach, &'a Value, &'a dyn Fn(World) -> World, &'a str, &'a [&'a str], bool);
    let rows: &[Row<'_>] = &[
        ("ClusterIP, no companion yet", Reach::NodePort, &cluster_ip, &plain, "held", &[], true),
        (
            "ClusterIP with its companion",
            Reach::NodePort,
            &cluster_ip,
            &with,
            "node port 31234 HTTP1",
            &[],
            true,
        ),
        (
            "ClusterIP, the companion lacks this port yet",
            Reach::NodePort,
            &cluster_ip,
            &other_port,
            "held",
            &[],
            true,
        ),
        (
            "ClusterIP, the companion was refused",
            Reach::NodePort,
            &cluster_ip,
            &refused,
            "none",
            &["CompanionRefused"],
            true,
        ),
        (
            "ClusterIP, somebody's Service is called so",
            Reach::NodePort,
            &cluster_ip,
            &in_the_way,
            "none",
            &["CompanionNameTaken"],
            false,
        ),
        (
            "headless with its companion",
            Reach::NodePort,
            &headless,
            &with,
            "node port 31234 HTTP1",
            &[],
            true,
        ),
        ("NodePort needs none", Reach::NodePort, &node_port, &plain, "node port 30080 HTTP1", &[], false),
        (
            "LoadBalancer without node ports, with its companion",
            Reach::NodePort,
            &no_node_port,
            &with,
            "node port 31234 HTTP1",
            &[],
            true,
        ),
        (
            "LoadBalancer without node ports, no companion yet",
            Reach::NodePort,
            &no_node_port,
            &plain,
            "held",
            &[],
            true,
        ),
        ("ExternalName", Reach::NodePort, &external, &plain, "db.example.com:80 HTTP1", &[], false),
        (
            "ExternalName that lists no ports",
            Reach::NodePort,
            &portless,
            &plain,
            "db.example.com:80 HTTP1",
            &[],
            false,
        ),
        (
            "ExternalName of the cluster itself",
            Reach::NodePort,
            &inner,
            &plain,
            "none",
            &["ClusterLocalName"],
            false,
        ),
        ("no selector", Reach::NodePort, &selectorless, &plain, "none", &["NoSelector"], false),
        (
            "no selector, but node ports",
            Reach::NodePort,
            &selectorless_port,
            &plain,
            "node port 30080 HTTP1",
            &[],
            false,
        ),
        ("by pods: ClusterIP", Reach::PodIP, &cluster_ip, &plain, "slices HTTP1", &[], false),
        ("by pods: headless", Reach::PodIP, &headless, &plain, "slices HTTP1", &[], false),
        ("by pods: NodePort", Reach::PodIP, &node_port, &plain, "slices HTTP1", &[], false),
        ("by pods: no selector", Reach::PodIP, &selectorless, &plain, "slices HTTP1", &[], false),
        ("by pods: ExternalName", Reach::PodIP, &external, &plain, "db.example.com:80 HTTP1", &[], false),
    ];
    for (what, reach, service, also, expected, refusals, companion) in rows {
        let world = also(World::reach(*reach).service("shop/web", (*service).clone()));
        let world = world.ingress("shop/web", json!({ "defaultBackend": to("web", 80) }));
        let translation = world.translate("shop/web");
        let pool = translation.pools.first().and_then(|source| world.pool(source));
        let found = if translation.object == Outcome::Held { "held".to_owned() } else { short(pool) };
        assert_eq!(&found, expected, "{what}");
        assert_eq!(reasons(&translation), *refusals, "{what}: {:?}", translation.refusals);
        assert_eq!(!translation.companions.is_empty(), *companion, "{what}");
        // The rule stands in any case, so that nothing wider takes its requests.
        if translation.object != Outcome::Held {
            assert_eq!(rules(&translation), ["- /* -> service.shop.web.80"], "{what}");
        }
    }
}

#[test]
fn a_gateway_in_between_is_reached_by_the_address_in_the_status() {
    let status = json!({ "loadBalancer": { "ingress": [
        { "ip": "192.0.2.7" }, { "hostname": "lb.cloud.example" }, { "hostname": "web.paris.lb.example.net" },
    ] } });
    let spec = json!({ "ingressClassName": "nginx", "rules": [
        on("a.example", vec![at("/", "Prefix", to("web", 80)), at("/api", "Prefix", to("api", 80))]),
        on("*.b.example", vec![at("/", "Prefix", to("web", 80))]),
        { "http": { "paths": [at("/x", "Exact", to("web", 80))] } },
    ] });
    let mut world = World::reach(Reach::Gateway).adopt("nginx");
    world.put_ingress("shop/web", json!({ "spec": spec, "status": status }));
    let translation = world.translate("shop/web");
    // A gateway knows the hosts of the Ingress, and no generated name.
    assert_eq!(
        rules(&translation),
        [
            "a.example /*,/api* -> ingress.shop.web as a.example",
            "*.b.example /* -> ingress.shop.web",
            "- /x -> ingress.shop.web",
        ]
    );
    assert_eq!(translation.pools, [PoolSource::Ingress(key("shop/web"))]);
    assert_eq!(short(world.pool(&translation.pools[0])), "192.0.2.7:80,lb.cloud.example:80 HTTP1");

    let mut spec = spec.clone();
    spec["tls"] = json!([{ "hosts": ["a.example"], "secretName": "a" }]);
    world.put_ingress("shop/web", json!({ "spec": spec, "status": status }));
    let pool = world.pool(&PoolSource::Ingress(key("shop/web")));
    assert_eq!(short(pool), "192.0.2.7:443,lb.cloud.example:443 HTTP1 TLS a.example");

    // Our own name is no way to a gateway.
    let status = json!({ "loadBalancer": { "ingress": [{ "hostname": "web.paris.lb.example.net" }] } });
    world.put_ingress("shop/web", json!({ "spec": spec, "status": status }));
    let translation = world.translate("shop/web");
    assert!(reasons(&translation).contains(&"NoGatewayAddress"), "{:?}", translation.refusals);
    assert_eq!(translation.pools, []);
}

#[test]
fn a_port_says_what_is_spoken_and_annotations_say_more() {
    let rows: &[(&str, Value, &str, &[&str])] = &[
        ("", json!({}), "HTTP1", &[]),
        ("http", json!({}), "HTTP1", &[]),
        ("kubernetes.io/ws", json!({}), "HTTP1", &[]),
        ("kubernetes.io/h2c", json!({}), "HTTP2", &[]),
        ("grpc", json!({}), "HTTP2", &[]),
        ("HTTPS", json!({}), "HTTP1 TLS web.shop.svc", &[]),
        ("kubernetes.io/wss", json!({}), "HTTP1 TLS web.shop.svc", &[]),
        ("grpcs", json!({}), "HTTP2 TLS web.shop.svc", &[]),
        ("https", json!({ "portolan.dev/tls-server-name": "web.internal" }), "HTTP1 TLS web.internal", &[]),
        (
            "https",
            json!({ "portolan.dev/tls-verify": "system" }),
            "HTTP1 TLS web.shop.svc by the system",
            &[],
        ),
        (
            "https",
            json!({ "portolan.dev/tls-verify": "ca/shop-ca" }),
            "HTTP1 TLS web.shop.svc by shop-ca",
            &[],
        ),
        (
            "https",
            json!({ "portolan.dev/tls-verify": "yes" }),
            "HTTP1 TLS web.shop.svc by the system",
            &["InvalidAnnotation"],
        ),
        (
            "https",
            json!({ "portolan.dev/tls-verify": "ca/../../shop-ca" }),
            "HTTP1 TLS web.shop.svc by the system",
            &["InvalidAnnotation"],
        ),
        ("", json!({ "portolan.dev/health-check-path": "/healthz" }), "HTTP1 checked at /healthz", &[]),
        ("", json!({ "portolan.dev/health-check-path": "healthz" }), "HTTP1", &["InvalidAnnotation"]),
        ("", json!({ "portolan.dev/balancing": "Fastest" }), "HTTP1", &["InvalidAnnotation"]),
    ];
    for (protocol, annotations, expected, refusals) in rows {
        let mut world = World::default();
        let mut port = json!({ "port": 80, "nodePort": 30080 });
        if !protocol.is_empty() {
            port["appProtocol"] = (*protocol).into();
        }
        world.put_service(
            "shop/web",
            json!({ "metadata": { "annotations": annotations }, "spec": { "type": "NodePort", "ports": [port] } }),
        );
        let world = world.ingress("shop/web", json!({ "defaultBackend": to("web", 80) }));
        let translation = world.translate("shop/web");
        assert_eq!(
            short(world.pool(&translation.pools[0])),
            format!("node port 30080 {expected}"),
            "{protocol} {annotations}"
        );
        assert_eq!(reasons(&translation), *refusals, "{protocol} {annotations}");
    }
    let mut world = World::default();
    world.put_service(
        "shop/web",
        json!({ "metadata": { "annotations": { "portolan.dev/balancing": "LeastRequest" } },
            "spec": { "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30080 }] } }),
    );
    let pool = world.pool(&PoolSource::Service(key("shop/web"), 80)).unwrap();
    assert_eq!(pool.balancing, portolan_api::kinds::Balancing::LeastRequest);
}

#[test]
fn with_a_local_policy_only_nodes_with_ready_endpoints_are_used() {
    let end = |address: &str, node: &str, ready: bool, serving: bool| json!({ "addresses": [address], "nodeName": node, "conditions": { "ready": ready, "serving": serving, "terminating": !ready } });
    let http = json!([{ "name": "http", "port": 8080, "protocol": "TCP" }]);
    let local = |endpoints: Value| {
        World::default()
            .service(
                "shop/web",
                json!({ "type": "NodePort", "externalTrafficPolicy": "Local", "selector": { "app": "web" },
                    "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }] }),
            )
            .slice("shop/web-1", "web", http.clone(), endpoints)
            // A slice of another port, and one of another Service.
            .slice(
                "shop/web-2",
                "web",
                json!([{ "name": "admin", "port": 9 }]),
                json!([end("10.0.0.9", "n9", true, true)]),
            )
            .slice("shop/api-1", "api", http.clone(), json!([end("10.0.0.8", "n8", true, true)]))
    };
    let rows = [
        (
            json!([
                end("10.0.0.1", "n2", true, true),
                end("10.0.0.2", "n1", true, true),
                end("10.0.0.3", "n1", true, true)
            ]),
            "n1,n2",
        ),
        (json!([end("10.0.0.1", "n1", true, true), end("10.0.0.2", "n2", false, true)]), "n1"),
        // None is ready: those that still answer.
        (json!([end("10.0.0.1", "n1", false, true), end("10.0.0.2", "n2", false, false)]), "n1"),
        (json!([]), ""),
    ];
    for (endpoints, expected) in rows {
        let world = local(endpoints);
        let pool = world.pool(&PoolSource::Service(key("shop/web"), 80));
        assert_eq!(short(pool), format!("node port 30080 on {expected} HTTP1"));
    }
}

#[test]
fn slices_are_copied_for_the_port_that_is_used() {
    let endpoints = json!([
        { "addresses": ["10.0.0.2"], "zone": "a", "nodeName": "n1", "conditions": { "ready": false, "serving": true, "terminating": true } },
        { "addresses": ["10.0.0.1"], "conditions": { "ready": true } },
    ]);
    let ports = json!([
        { "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "admin", "port": 9090, "protocol": "TCP" },
        { "name": "http", "port": 8080, "protocol": "UDP" },
    ]);
    let world = World::reach(Reach::PodIP)
        .service(
            "shop/web",
            json!({ "selector": { "app": "web" }, "ports": [
                { "name": "http", "port": 80, "targetPort": 8080 }, { "name": "admin", "port": 81, "targetPort": 9090 } ] }),
        )
        .slice("shop/web-1", "web", ports.clone(), endpoints)
        .slice("shop/web-2", "web", ports.clone(), json!([]))
        .slice("shop/web-3", "web", json!([{ "name": "admin", "port": 9090 }]), json!([{ "addresses": ["10.0.0.3"] }]));
    let source = PoolSource::Service(key("shop/web"), 80);
    let copies = pool::slices(&world.view, &source);
    let [(_, name, body)] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!(*name, names::slice("service.shop.web.80", "shop", "web-1"));
    assert_eq!((&*body.pool, &*body.port_name, body.port), ("service.shop.web.80", "http", 8080));
    assert_eq!(
        body.endpoints,
        [
            ("10.0.0.1".to_owned(), None, [true, true, false]),
            ("10.0.0.2".to_owned(), Some("a".to_owned()), [false, true, true]),
        ]
    );
    // What is written reads back as what was meant.
    let object = body.clone().object(name);
    let (read, found) = crate::objects::ReadBack::found(&object, &mut Names::default()).unwrap();
    assert_eq!((&*read, found.digest), (&**name, crate::meta::digest(body)));
}

#[test]
fn a_companion_has_the_used_ports_and_reads_back_as_it_was_written() {
    let world = World::default().service(
        "shop/web",
        json!({ "selector": { "app": "web" }, "publishNotReadyAddresses": true, "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "ports": [
            { "name": "http", "port": 80, "targetPort": "web" }, { "name": "admin", "port": 81, "targetPort": 9090 },
            { "name": "dns", "port": 53, "protocol": "UDP" } ] }),
    );
    let key = key("shop/web");
    let service = world.view.services.get(&key).unwrap();
    let used = [80, 53].into();
    let object = companion::object(&key, service, &used);
    assert_eq!(object.metadata.name.as_deref(), Some("web-portolan"));
    let ports = object.spec.as_ref().unwrap().ports.as_ref().unwrap();
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [80]);
    let read = read::service(&object, &mut Names::default());
    let companion = read.companion.unwrap();
    assert_eq!(&*companion.of, "web");
    assert_eq!(companion.digest, crate::meta::digest(&companion::wanted(service, &used)));
    assert_ne!(companion.digest, crate::meta::digest(&companion::wanted(service, &[80, 81].into())));
}

/// Regression: whatever had the label was deleted as a companion that nobody needs, copies that people made of one among them.
#[test]
fn a_companion_is_called_after_its_owner() {
    let owner = |name: &str| json!([{ "apiVersion": "v1", "kind": "Service", "name": name, "uid": "u" }]);
    for (name, owners, expected) in [
        ("web-portolan", owner("web"), Some("web")),
        ("web-portolan", owner("other"), None),
        ("my-copy", owner("web"), None),
        ("my-own", json!([]), None),
        ("left-portolan", json!([]), Some("left")),
    ] {
        let object: core::Service = serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "shop", "ownerReferences": owners,
                "labels": { "app.kubernetes.io/managed-by": "portolan-agent" } },
            "spec": { "type": "NodePort" },
        }))
        .unwrap();
        let read = read::service(&object, &mut Names::default());
        assert_eq!(read.companion.as_ref().map(|it| &*it.of), expected, "{name}: {owners}");
    }
}
