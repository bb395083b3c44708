use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1 as networking;
use portolan_api::Names;
use portolan_api::kinds::{PathMatchType, Reach, UpstreamPoolSpec};
use portolan_model::naming;
use serde_json::{Value, json};

use super::class::{self, Owner};
use super::*;
use crate::view::{Change, companion, read};

mod nodes;
mod refusals;
mod status;

/// A member cluster, written down as its API would have it.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) view: View,
    pub(crate) settings: Settings,
    names: Names,
}

impl World {
    pub(crate) fn reach(reach: Reach) -> Self {
        Self { settings: Settings { reach, ..Settings::default() }, ..Self::default() }
    }

    fn adopt(mut self, class: &str) -> Self {
        self.settings.classes = [class.into()].into();
        self
    }

    /// An `Ingress` of class `portolan` with that `spec`.
    fn ingress(mut self, key: &str, mut spec: Value) -> Self {
        if let Some(spec) = spec.as_object_mut() {
            spec.entry("ingressClassName").or_insert("portolan".into());
        }
        self.put_ingress(key, json!({ "spec": spec }));
        self
    }

    pub(crate) fn put_ingress(&mut self, key: &str, object: Value) {
        let object: networking::Ingress = object_of(key, object);
        let key = read::key(&object.metadata, &mut self.names).unwrap();
        self.view.ingress(Change::Put(key, read::ingress(&object, &mut self.names)));
    }

    pub(crate) fn service(mut self, key: &str, spec: Value) -> Self {
        self.put_service(key, json!({ "spec": spec }));
        self
    }

    pub(crate) fn put_service(&mut self, key: &str, object: Value) {
        let object: core::Service = object_of(key, object);
        let key = read::key(&object.metadata, &mut self.names).unwrap();
        self.view.service(Change::Put(key, read::service(&object, &mut self.names)));
    }

    /// The companion that a `Service` has, with these node ports.
    fn companion(mut self, key: &str, ports: &[(u16, u16)]) -> Self {
        let (namespace, name) = key.split_once('/').unwrap();
        let ports: Vec<_> = ports
            .iter()
            .map(|(port, node)| json!({ "port": port, "nodePort": node, "protocol": "TCP" }))
            .collect();
        self.put_service(
            &format!("{namespace}/{}", naming::companion(name)),
            json!({
                "metadata": {
                    "labels": { "app.kubernetes.io/managed-by": "portolan-agent" },
                    "ownerReferences": [{ "apiVersion": "v1", "kind": "Service", "name": name, "uid": "u" }],
                },
                "spec": { "type": "NodePort", "ports": ports, "selector": { "app": name } },
            }),
        );
        self
    }

    fn class(mut self, name: &str, controller: &str, default: bool, created: &str) -> Self {
        let object: networking::IngressClass = serde_json::from_value(json!({
            "metadata": {
                "name": name, "creationTimestamp": created,
                "annotations": { "ingressclass.kubernetes.io/is-default-class": default.to_string() },
            },
            "spec": { "controller": controller },
        }))
        .unwrap();
        self.view.class(Change::Put(name.into(), read::class(&object)));
        self
    }

    pub(crate) fn slice(mut self, key: &str, service: &str, ports: Value, endpoints: Value) -> Self {
        let object: EndpointSlice = object_of(
            key,
            json!({
                "metadata": { "labels": { "kubernetes.io/service-name": service } },
                "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
            }),
        );
        let key = read::key(&object.metadata, &mut self.names).unwrap();
        self.view.slice(Change::Put(key, read::slice(&object, &mut self.names).unwrap()));
        self
    }

    fn node(mut self, name: &str, mut object: Value) -> Self {
        object["metadata"]["name"] = name.into();
        let object: core::Node = serde_json::from_value(object).unwrap();
        self.view.node(Change::Put(name.into(), read::node(&object, &mut self.names)));
        self
    }

    fn secret(mut self, key: &str) -> Self {
        self.view.secret(Change::Put(self::key(key), 1));
        self
    }

    fn translate(&self, key: &str) -> Translation {
        let key = self::key(key);
        super::ingress(&self.view, &self.settings, "paris", &key, self.view.ingresses.get(&key).unwrap())
    }

    fn pool(&self, source: &PoolSource) -> Option<UpstreamPoolSpec> {
        pool::spec(&self.view, &self.settings, "paris", source)
    }

    fn refuse_companion(mut self, key: &str, reason: &str) -> Self {
        self.view.refuse_companion(self::key(key), reason);
        self
    }
}

fn object_of<T: serde::de::DeserializeOwned>(key: &str, mut object: Value) -> T {
    let (namespace, name) = key.split_once('/').unwrap();
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["name"] = name.into();
    if object["metadata"]["uid"].is_null() {
        object["metadata"]["uid"] = "u".into();
    }
    serde_json::from_value(object).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    let (namespace, name) = text.split_once('/').unwrap();
    Key::new(namespace, name)
}

/// The rules, one a line: hosts, paths, where to. A prefix ends in `*`.
fn rules(translation: &Translation) -> Vec<String> {
    let spec = match &translation.object {
        Outcome::Object(spec) => spec,
        Outcome::Held => return vec!["held".to_owned()],
        Outcome::Foreign => return vec!["foreign".to_owned()],
    };
    let rule = |rule: &portolan_api::kinds::HTTPRule| {
        let hosts = if rule.hosts.is_empty() { "-".to_owned() } else { rule.hosts.join(",") };
        let paths = rule.matches.iter().filter_map(|it| it.path.as_ref()).map(|path| match path.kind {
            PathMatchType::Prefix => format!("{}*", path.value),
            _ => path.value.clone(),
        });
        let rewrite =
            rule.filters.iter().filter_map(|filter| filter.url_rewrite.as_ref()?.hostname.as_deref());
        let rewrite: String = rewrite.map(|host| format!(" as {host}")).collect();
        format!("{hosts} {} -> {}{rewrite}", paths.collect::<Vec<_>>().join(","), rule.backends[0].pool)
    };
    spec.rules.iter().map(rule).collect()
}

fn reasons(translation: &Translation) -> Vec<&'static str> {
    translation.refusals.iter().map(|refusal| refusal.reason).collect()
}

fn to(service: &str, port: u16) -> Value {
    json!({ "service": { "name": service, "port": { "number": port } } })
}

fn at(path: &str, kind: &str, backend: Value) -> Value {
    json!({ "path": path, "pathType": kind, "backend": backend })
}

fn on(host: &str, paths: Vec<Value>) -> Value {
    json!({ "host": host, "http": { "paths": paths } })
}

/// Services `web` (port 80, called `http`) and `api` (ports 80 and 8080, called `http` and `admin`) of namespace `shop`, with node ports.
fn shop() -> World {
    World::default()
        .service(
            "shop/web",
            json!({ "type": "NodePort", "selector": { "app": "web" },
                "ports": [{ "name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP" }] }),
        )
        .service(
            "shop/api",
            json!({ "type": "NodePort", "selector": { "app": "api" }, "ports": [
                { "name": "http", "port": 80, "nodePort": 30180 },
                { "name": "admin", "port": 8080, "nodePort": 30181 },
                { "name": "dns", "port": 53, "protocol": "UDP", "nodePort": 30053 } ] }),
        )
}

#[test]
fn an_ingress_says_what_the_specification_says() {
    const WEB: &str = "service.shop.web.80";
    const API: &str = "service.shop.api.80";
    let many: Vec<Value> =
        (0..130).map(|n| on(&format!("h{n}.example"), vec![at("/", "Prefix", to("web", 80))])).collect();
    let paths: Vec<Value> = (0..70).map(|n| at(&format!("/{n}"), "Exact", to("web", 80))).collect();
    type Row<'a> = (&'a str, Value, Vec<String>, Vec<&'a str>);
    let rows: Vec<Row<'_>> = vec![
        (
            "a rule with a host",
            json!({ "rules": [on("a.example", vec![at("/", "Prefix", to("web", 80))])] }),
            vec![format!("a.example /* -> {WEB}")],
            vec![],
        ),
        (
            "a rule without a host is for the generated name alone",
            json!({ "rules": [{ "http": { "paths": [at("/", "Prefix", to("web", 80))] } }] }),
            vec![format!("- /* -> {WEB}")],
            vec![],
        ),
        (
            "Exact, Prefix, and ImplementationSpecific, which is a prefix",
            json!({ "rules": [on("a.example", vec![
                at("/one", "Exact", to("web", 80)),
                at("/two", "Prefix", to("api", 80)),
                at("/three", "ImplementationSpecific", to("web", 80)),
            ])] }),
            vec![format!("a.example /one,/three* -> {WEB}"), format!("a.example /two* -> {API}")],
            vec![],
        ),
        (
            "a path that is left out is every path",
            json!({ "rules": [on("a.example", vec![json!({ "pathType": "ImplementationSpecific", "backend": to("web", 80) })])] }),
            vec![format!("a.example /* -> {WEB}")],
            vec![],
        ),
        (
            "a wildcard spans one label, as ours of one star does",
            json!({ "rules": [on("*.a.example", vec![at("/", "Prefix", to("web", 80))])] }),
            vec![format!("*.a.example /* -> {WEB}")],
            vec![],
        ),
        (
            "a default backend alone serves the generated name",
            json!({ "defaultBackend": to("web", 80) }),
            vec![format!("- /* -> {WEB}")],
            vec![],
        ),
        (
            "a default backend takes what no path of a host takes",
            json!({ "defaultBackend": to("web", 80), "rules": [
                on("a.example", vec![at("/api", "Prefix", to("api", 80))]),
                on("b.example", vec![at("/", "Prefix", to("api", 80))]),
            ] }),
            vec![
                format!("a.example /api* -> {API}"),
                format!("b.example /* -> {API}"),
                format!("a.example /* -> {WEB}"),
            ],
            vec![],
        ),
        (
            "a rule without http goes to the default backend",
            json!({ "defaultBackend": to("web", 80), "rules": [{ "host": "a.example" }] }),
            vec![format!("a.example /* -> {WEB}")],
            vec![],
        ),
        (
            "a rule without http and without default backend is refused, its neighbour is not",
            json!({ "rules": [{ "host": "a.example" }, on("b.example", vec![at("/", "Prefix", to("web", 80))])] }),
            vec![format!("b.example /* -> {WEB}")],
            vec!["NoBackend"],
        ),
        (
            "a named port",
            json!({ "rules": [on("a.example", vec![at("/", "Prefix", json!({ "service": { "name": "api", "port": { "name": "admin" } } }))])] }),
            vec!["a.example /* -> service.shop.api.8080".to_owned()],
            vec![],
        ),
        (
            "a resource backend is refused, and does not fall to a wider rule",
            json!({ "rules": [on("a.example", vec![
                at("/icons", "Prefix", json!({ "resource": { "apiGroup": "k8s.example", "kind": "StorageBucket", "name": "icons" } })),
                at("/", "Prefix", to("web", 80)),
            ])] }),
            vec![
                "a.example /icons* -> resource.shop.storagebucket.icons".to_owned(),
                format!("a.example /* -> {WEB}"),
            ],
            vec!["ResourceBackend"],
        ),
        (
            "a Service that does not exist keeps its rule",
            json!({ "rules": [on("a.example", vec![at("/", "Prefix", to("gone", 80))])] }),
            vec!["a.example /* -> service.shop.gone.80".to_owned()],
            vec!["ServiceNotFound"],
        ),
        (
            "a port that does not exist, by number and by name",
            json!({ "rules": [on("a.example", vec![
                at("/a", "Prefix", to("web", 81)),
                at("/b", "Prefix", json!({ "service": { "name": "web", "port": { "name": "grpc" } } })),
            ])] }),
            vec![
                "a.example /a* -> service.shop.web.81".to_owned(),
                "a.example /b* -> service.shop.web.grpc".to_owned(),
            ],
            vec!["PortNotFound", "PortNotFound"],
        ),
        (
            "a UDP port",
            json!({ "rules": [on("a.example", vec![at("/", "Prefix", to("api", 53))])] }),
            vec!["a.example /* -> service.shop.api.53".to_owned()],
            vec!["PortNotTcp"],
        ),
        (
            "of two equal paths the first counts; a slash at the end of a prefix says nothing",
            json!({ "rules": [on("a.example", vec![
                at("/x", "Prefix", to("web", 80)), at("/x/", "Prefix", to("api", 80)), at("/x", "Exact", to("api", 80)),
            ])] }),
            vec![format!("a.example /x* -> {WEB}"), format!("a.example /x -> {API}")],
            vec!["DuplicatePath"],
        ),
        (
            "a path that no request can have is left out, its neighbours are not",
            json!({ "rules": [on("a.example", vec![
                at("/x(/|$)(.*)", "ImplementationSpecific", to("web", 80)), at("/", "Prefix", to("api", 80)),
            ])] }),
            vec![format!("a.example /* -> {API}")],
            vec!["InvalidRule", "PathExpression"],
        ),
        (
            "a host that no certificate could name is left out",
            json!({ "rules": [
                on(&format!("{}.example", "x".repeat(64)), vec![at("/", "Prefix", to("web", 80))]),
                on("b.example", vec![at("/", "Prefix", to("web", 80))]),
            ] }),
            vec![format!("b.example /* -> {WEB}")],
            vec!["InvalidRule"],
        ),
        (
            "where nothing can be served, what was there stays",
            json!({ "rules": [{ "host": "a.example" }] }),
            vec!["held".to_owned()],
            vec!["NoBackend", "NothingServed"],
        ),
        (
            "hosts with the same paths share a rule, up to 64",
            json!({ "rules": many }),
            vec![
                format!("{} /* -> {WEB}", hosts(0..64)),
                format!("{} /* -> {WEB}", hosts(64..128)),
                format!("{} /* -> {WEB}", hosts(128..130)),
            ],
            vec![],
        ),
        (
            "paths of a host share a rule, up to 64",
            json!({ "rules": [on("a.example", paths)] }),
            vec![
                format!("a.example {} -> {WEB}", numbers(0..64)),
                format!("a.example {} -> {WEB}", numbers(64..70)),
            ],
            vec![],
        ),
    ];
    for (what, spec, expected, refused) in rows {
        let translation = shop().ingress("shop/web", spec).translate("shop/web");
        assert_eq!(rules(&translation), expected, "{what}: {:?}", translation.refusals);
        assert_eq!(reasons(&translation), refused, "{what}: {:?}", translation.refusals);
    }
}

fn hosts(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("h{n}.example")).collect::<Vec<_>>().join(",")
}

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("/{n}")).collect::<Vec<_>>().join(",")
}

#[test]
fn what_is_too_large_leaves_what_was_there() {
    let rules_of = |n: usize| -> Vec<Value> {
        (0..n)
            .map(|n| on("a.example", vec![at(&format!("/{n}"), "Exact", to(&format!("s{n}"), 80))]))
            .collect()
    };
    let translation = shop().ingress("shop/web", json!({ "rules": rules_of(1025) })).translate("shop/web");
    assert_eq!(rules(&translation), ["held"]);
    assert!(reasons(&translation).contains(&"TooLarge"));
    let translation = shop().ingress("shop/web", json!({ "rules": rules_of(1024) })).translate("shop/web");
    assert_eq!(rules(&translation).len(), 1024);
}

#[test]
fn a_class_says_whose_an_ingress_is() {
    const OURS: &str = "portolan.dev/ingress";
    const THEIRS: &str = "k8s.io/ingress-nginx";
    let (old, new) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
    let none = World::default;
    let classes = || none().class("nginx", THEIRS, false, old).class("edge", OURS, false, old);
    type Row = (&'static str, World, Option<&'static str>, Option<&'static str>, Owner);
    let rows: Vec<Row> = vec![
        ("portolan without an IngressClass", none(), Some("portolan"), None, Owner::Own),
        (
            "portolan with an IngressClass of ours",
            none().class("portolan", OURS, false, old),
            Some("portolan"),
            None,
            Owner::Own,
        ),
        (
            "portolan with an IngressClass of theirs",
            none().class("portolan", THEIRS, false, old),
            Some("portolan"),
            None,
            Owner::Foreign,
        ),
        ("any class whose controller is ours", classes(), Some("edge"), None, Owner::Own),
        ("a class of theirs", classes(), Some("nginx"), None, Owner::Foreign),
        ("a class of theirs that is adopted", classes().adopt("nginx"), Some("nginx"), None, Owner::Adopted),
        ("an adopted class without an IngressClass", none().adopt("old"), Some("old"), None, Owner::Adopted),
        ("a class that nobody knows", classes(), Some("other"), None, Owner::Foreign),
        ("the annotation alone", none(), None, Some("portolan"), Owner::Own),
        ("the annotation has precedence", none(), Some("portolan"), Some("nginx"), Owner::Foreign),
        (
            "the annotation has precedence, the other way",
            classes(),
            Some("nginx"),
            Some("portolan"),
            Owner::Own,
        ),
        ("the annotation names an IngressClass of ours", classes(), None, Some("edge"), Owner::Own),
        ("no class, no default", classes(), None, None, Owner::Foreign),
        ("no class, the default is ours", none().class("edge", OURS, true, old), None, None, Owner::Own),
        (
            "no class, the default is theirs",
            none().class("nginx", THEIRS, true, old),
            None,
            None,
            Owner::Foreign,
        ),
        (
            "no class, the default is adopted",
            none().class("nginx", THEIRS, true, old).adopt("nginx"),
            None,
            None,
            Owner::Adopted,
        ),
        (
            "two defaults: the newest",
            none().class("nginx", THEIRS, true, old).class("edge", OURS, true, new),
            None,
            None,
            Owner::Own,
        ),
        (
            "two defaults: the newest, the other way",
            none().class("nginx", THEIRS, true, new).class("edge", OURS, true, old),
            None,
            None,
            Owner::Foreign,
        ),
    ];
    for (what, world, name, annotation, expected) in rows {
        let ingress = Ingress {
            class: name.map(Box::from),
            annotated_class: annotation.map(Box::from),
            ..Ingress::default()
        };
        assert_eq!(class::owner(&world.view, &world.settings, &ingress), expected, "{what}");
    }
}

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
    let copies = pool::slices(&world.view, &world.settings, &source);
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

    let nodes = World { settings: Settings::default(), ..world };
    assert_eq!(pool::slices(&nodes.view, &nodes.settings, &source), []);
}

#[test]
fn certificates_are_named_whether_they_are_there_or_not() {
    let tls = json!([
        { "hosts": ["a.example", "*.b.example"], "secretName": "one" },
        { "hosts": ["c.example"], "secretName": "one" },
        { "secretName": "two" },
        { "hosts": ["d.example"] },
    ]);
    let spec = json!({ "tls": tls, "rules": [on("a.example", vec![at("/", "Prefix", to("web", 80))])] });
    let world = shop().secret("shop/one").ingress("shop/web", spec);
    let translation = world.translate("shop/web");
    let Outcome::Object(spec) = &translation.object else { panic!("{translation:?}") };
    let bindings: Vec<_> = spec.tls.iter().map(|it| (&*it.secret_name, it.hosts.join(","))).collect();
    assert_eq!(
        bindings,
        [
            ("secret.shop.one", "*.b.example,a.example,c.example".to_owned()),
            ("secret.shop.two", "a.example".to_owned()),
        ]
    );
    assert_eq!(translation.secrets, [key("shop/one"), key("shop/two")]);
    assert_eq!(reasons(&translation), ["NoSecretName", "SecretNotFound"]);
    let translation = world.secret("shop/two").translate("shop/web");
    assert_eq!(reasons(&translation), ["NoSecretName"]);
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
