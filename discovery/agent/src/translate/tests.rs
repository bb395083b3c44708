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
mod pools;
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
        let ways = Ways { gateway: self.settings.reach == Reach::Gateway, stands: &|_| None };
        let ingress = self.view.ingresses.get(&key).unwrap();
        super::ingress(&self.view, &self.settings, ways, "paris", &key, ingress)
    }

    fn pool(&self, source: &PoolSource) -> Option<UpstreamPoolSpec> {
        pool::spec(&self.view, &self.settings, self.settings.reach, "paris", source)
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
