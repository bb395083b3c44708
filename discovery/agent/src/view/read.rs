//! From the objects of the API to what is kept of them.
//!
//! Total: what an API server would not let through is read as if it were not there. Cost: linear in the object.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portolan_api::Names;
use portolan_api::contract::{AGENT, MANAGED_BY_LABEL};
use portolan_api::kinds::Cluster;
use portolan_model::naming;

use super::{
    Backend, Companion, Endpoint, Ingress, IngressClass, Key, Name, Node, Path, PathKind, Port, PortRef,
    Rule, Service, ServiceKind, Settings, Slice, StatusEntry, Tls, Wishes,
};
use crate::meta::{digest, version};

/// The label of an `EndpointSlice` that names its `Service`.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The object of that metadata.
pub fn key(meta: &ObjectMeta, names: &mut Names) -> Option<Key> {
    let namespace = names.share(meta.namespace.as_deref()?);
    Some(Key { namespace, name: meta.name.as_deref()?.into() })
}

/// An `Ingress`.
pub fn ingress(object: &networking::Ingress, names: &mut Names) -> Ingress {
    let meta = &object.metadata;
    let spec = object.spec.as_ref();
    let rules = spec.and_then(|spec| spec.rules.as_ref()).into_iter().flatten();
    let tls = spec.and_then(|spec| spec.tls.as_ref()).into_iter().flatten();
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    Ingress {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        created: seconds(meta.creation_timestamp.as_ref()),
        class: spec.and_then(|spec| boxed(spec.ingress_class_name.as_ref())),
        annotated_class: boxed(annotation(meta, "kubernetes.io/ingress.class")),
        default_backend: spec.and_then(|spec| backend(spec.default_backend.as_ref()?, names)),
        rules: rules
            .map(|rule| Rule {
                host: boxed(rule.host.as_ref()).filter(|host| !host.is_empty()),
                paths: rule
                    .http
                    .iter()
                    .flat_map(|http| &http.paths)
                    .filter_map(|it| path(it, names))
                    .collect(),
            })
            .collect(),
        tls: tls
            .map(|tls| Tls {
                hosts: tls.hosts.iter().flatten().map(|host| host.as_str().into()).collect(),
                secret: tls.secret_name.as_deref().filter(|name| !name.is_empty()).map(Name::from),
            })
            .collect(),
        status: status
            .and_then(|status| status.ingress.as_ref())
            .into_iter()
            .flatten()
            .map(|entry| StatusEntry {
                ip: boxed(entry.ip.as_ref()),
                hostname: boxed(entry.hostname.as_ref()),
                ports: entry.ports.as_ref().and_then(|ports| serde_json::to_value(ports).ok()),
            })
            .collect(),
        unknown: unknown(meta, &[]),
    }
}

fn path(object: &networking::HTTPIngressPath, names: &mut Names) -> Option<Path> {
    Some(Path {
        path: object.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/").into(),
        kind: match &*object.path_type {
            "Exact" => PathKind::Exact,
            "Prefix" => PathKind::Prefix,
            _ => PathKind::ImplementationSpecific,
        },
        backend: backend(&object.backend, names)?,
    })
}

fn backend(object: &networking::IngressBackend, names: &mut Names) -> Option<Backend> {
    if let Some(resource) = &object.resource {
        return Some(Backend::Resource { kind: (*resource.kind).into(), name: (*resource.name).into() });
    }
    let service = object.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = match (port.number.and_then(|number| u16::try_from(number).ok()), &port.name) {
        (Some(number), _) if number != 0 => PortRef::Number(number),
        (_, Some(name)) => PortRef::Name(name.as_str().into()),
        (_, None) => return None,
    };
    Some(Backend::Service { name: names.share(&service.name), port })
}

/// A `Service`.
pub fn service(object: &core::Service, names: &mut Names) -> Service {
    let meta = &object.metadata;
    let Some(spec) = &object.spec else { return Service::default() };
    let read = Service {
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        kind: match spec.type_.as_deref() {
            Some("NodePort") => ServiceKind::NodePort,
            Some("LoadBalancer") => ServiceKind::LoadBalancer,
            Some("ExternalName") => {
                ServiceKind::ExternalName(spec.external_name.as_deref().unwrap_or_default().into())
            }
            _ => ServiceKind::ClusterIp,
        },
        selector: pairs(spec.selector.as_ref()),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        ports: spec.ports.iter().flatten().filter_map(|it| port(it, names)).collect(),
        families: spec.ip_families.iter().flatten().map(|family| family.as_str().into()).collect(),
        family_policy: boxed(spec.ip_family_policy.as_ref()),
        wishes: wishes(meta),
        companion: None,
    };
    Service { companion: companion(meta, &read), ..read }
}

/// Whose companion it is: what has our label may also be a copy that somebody made of one.
fn companion(meta: &ObjectMeta, read: &Service) -> Option<Companion> {
    if label(meta, MANAGED_BY_LABEL) != Some(AGENT) {
        return None;
    }
    let called = meta.name.as_deref()?;
    let mut owners = meta.owner_references.iter().flatten().filter(|owner| owner.kind == "Service");
    let of = naming::companion_owner(called, owners.clone().map(|owner| owner.name.as_str()))?;
    let uid = owners.find(|owner| owner.name == of).map_or("", |owner| owner.uid.as_str());
    let shape = super::companion::seen(read, uid);
    Some(Companion { of: of.into(), digest: digest(&shape), version: version(meta) })
}

fn port(object: &core::ServicePort, names: &mut Names) -> Option<Port> {
    let number = u16::try_from(object.port).ok()?;
    Some(Port {
        name: names.share(object.name.as_deref().unwrap_or_default()),
        number,
        tcp: object.protocol.as_deref().is_none_or(|protocol| protocol == "TCP"),
        app_protocol: object.app_protocol.as_deref().map(|protocol| names.share(protocol)),
        node_port: object.node_port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0),
        target: match &object.target_port {
            Some(IntOrString::Int(port)) => PortRef::Number(u16::try_from(*port).unwrap_or(number)),
            Some(IntOrString::String(name)) => PortRef::Name(name.as_str().into()),
            None => PortRef::Number(number),
        },
    })
}

/// What annotations of ours begin with.
const OURS: &str = "portolan.dev/";

/// The annotations of ours that a `Service` may have.
pub const WISHES: [&str; 4] = [
    "portolan.dev/health-check-path",
    "portolan.dev/balancing",
    "portolan.dev/tls-verify",
    "portolan.dev/tls-server-name",
];

fn wishes(meta: &ObjectMeta) -> Option<Box<Wishes>> {
    let [health_check_path, balancing, tls_verify, tls_server_name] =
        WISHES.map(|name| boxed(annotation(meta, name)));
    let unknown = unknown(meta, &WISHES);
    let wishes = Wishes { health_check_path, balancing, tls_verify, tls_server_name, unknown };
    (wishes != Wishes::default()).then(|| Box::new(wishes))
}

/// The annotations of ours that are none of those.
fn unknown(meta: &ObjectMeta, known: &[&str]) -> Box<[Box<str>]> {
    let names = meta.annotations.iter().flatten().map(|(name, _)| name.as_str());
    let ours = names.filter(|name| name.starts_with(OURS) && !known.contains(name));
    ours.map(Box::from).collect()
}

/// An `EndpointSlice`; nothing where it belongs to no `Service`, or its endpoints are names.
pub fn slice(object: &discovery::EndpointSlice, names: &mut Names) -> Option<Slice> {
    let service = label(&object.metadata, SERVICE_NAME)?;
    let slice = endpoints(object, names)?;
    Some(Slice { service: names.share(service), ..slice })
}

/// The endpoints of an `EndpointSlice`, whosever it is; nothing where they are names.
pub fn endpoints(object: &discovery::EndpointSlice, names: &mut Names) -> Option<Slice> {
    let v6 = match &*object.address_type {
        "IPv4" => false,
        "IPv6" => true,
        _ => return None,
    };
    let ports = object.ports.iter().flatten().filter_map(|port| {
        let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let number = port.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Some((names.share(port.name.as_deref().unwrap_or_default()), number.filter(|_| tcp)?))
    });
    let ports = ports.collect();
    let endpoints = object.endpoints.iter().flatten().filter_map(|it| endpoint(it, v6, names));
    let mut endpoints: Vec<Endpoint> = endpoints.collect();
    // Their order means nothing, and changes.
    endpoints.sort_by_key(|endpoint| endpoint.address);
    Some(Slice { service: names.share(""), v6, ports, endpoints: endpoints.into() })
}

fn endpoint(object: &discovery::Endpoint, v6: bool, names: &mut Names) -> Option<Endpoint> {
    let address: IpAddr = object.addresses.first()?.parse().ok()?;
    let conditions = object.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    (address.is_ipv6() == v6).then(|| Endpoint {
        address,
        node: object.node_name.as_deref().map(|node| names.share(node)),
        zone: object.zone.as_deref().map(|zone| names.share(zone)),
        ready,
        serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
        terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
    })
}

/// The label that takes a node out of load balancing, whatever its value.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The label of a node that names its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Taints of nodes that are gone or about to go: shut down and not coming back; picked by the cluster's autoscaler.
const GOING: [&str; 2] = ["node.kubernetes.io/out-of-service", "ToBeDeletedByClusterAutoscaler"];

/// A `Node`.
pub fn node(object: &core::Node, names: &mut Names) -> Node {
    let meta = &object.metadata;
    let status = object.status.as_ref();
    let of_type = |kind: &str| -> Box<[IpAddr]> {
        let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let addresses = addresses.filter(|address| address.type_ == kind);
        addresses.filter_map(|address| address.address.parse().ok()).collect()
    };
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.filter(|condition| condition.type_ == "Ready").any(|ready| ready.status == "True");
    let spec = object.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let mut taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
    let going = meta.deletion_timestamp.is_some() || taints.any(|taint| GOING.contains(&&*taint.key));
    Node {
        internal: of_type("InternalIP"),
        external: of_type("ExternalIP"),
        zone: label(meta, ZONE).filter(|zone| !zone.is_empty()).map(|zone| names.share(zone)),
        ready,
        meant: !cordoned && !going && label(meta, EXCLUDED).is_none(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
    }
}

/// An `IngressClass`.
pub fn class(object: &networking::IngressClass) -> IngressClass {
    let meta = &object.metadata;
    let default = annotation(meta, "ingressclass.kubernetes.io/is-default-class");
    IngressClass {
        controller: object
            .spec
            .as_ref()
            .and_then(|spec| spec.controller.as_deref())
            .unwrap_or_default()
            .into(),
        default: default.is_some_and(|value| value == "true"),
        created: seconds(meta.creation_timestamp.as_ref()),
    }
}

/// A digest of a `Secret` with a certificate; nothing where it has none.
pub fn secret(object: &core::Secret) -> Option<u64> {
    if object.type_.as_deref() != Some("kubernetes.io/tls") {
        return None;
    }
    let data = object.data.as_ref()?;
    Some(digest(&(data.get("tls.crt"), data.get("tls.key"))))
}

/// What a `Cluster` says to its agent.
pub fn settings(cluster: &Cluster) -> Settings {
    let suffix = cluster.status.as_ref().and_then(|status| status.host_suffix.as_deref());
    Settings {
        reach: cluster.spec.reach,
        classes: cluster.spec.classes.iter().map(|class| class.as_str().into()).collect(),
        // The name of a cluster is one label.
        domain: suffix.and_then(|suffix| suffix.split_once('.')).map(|(_, domain)| domain.into()),
    }
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a String> {
    meta.annotations.as_ref()?.get(name)
}

/// The value of a label.
pub fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

fn boxed(text: Option<&String>) -> Option<Box<str>> {
    text.map(|text| text.as_str().into())
}

fn pairs(map: Option<&BTreeMap<String, String>>) -> Box<[(Box<str>, Box<str>)]> {
    map.into_iter().flatten().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

fn seconds(time: Option<&Time>) -> Option<i64> {
    time.map(|time| time.0.as_second())
}
