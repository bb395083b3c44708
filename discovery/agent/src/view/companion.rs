//! Which companion does a `Service` need?
//!
//! A `Service` without node ports gets another one beside it, of type `NodePort`, with the same pods and the ports that are used. Its owner is
//! that `Service`, so that it goes with it. Everything that was written is in a [`Shape`], so that edits by others are seen.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service as Object, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use portolan_model::naming;
use serde::Serialize;

use super::{Key, Port, PortRef, Service, ServiceKind};
use crate::meta::metadata;

/// What counts of a companion.
#[derive(Debug, PartialEq, Serialize)]
pub struct Shape<'a> {
    owner: &'a str,
    node_port: bool,
    local: bool,
    selector: &'a [(Box<str>, Box<str>)],
    publish_not_ready: bool,
    families: &'a [Box<str>],
    family_policy: Option<&'a str>,
    ports: Vec<(&'a str, u16, String)>,
}

/// What is there.
pub fn seen<'a>(companion: &'a Service, owner: &'a str) -> Shape<'a> {
    Shape {
        owner,
        node_port: companion.kind == ServiceKind::NodePort,
        local: companion.local,
        selector: &companion.selector,
        publish_not_ready: companion.publish_not_ready,
        families: &companion.families,
        family_policy: companion.family_policy.as_deref(),
        ports: ports(companion.ports.iter()),
    }
}

/// What is wanted for the used ports of a `Service`.
pub fn wanted<'a>(service: &'a Service, used: &BTreeSet<u16>) -> Shape<'a> {
    Shape {
        owner: &service.uid,
        node_port: true,
        local: false,
        selector: &service.selector,
        publish_not_ready: service.publish_not_ready,
        families: &service.families,
        family_policy: service.family_policy.as_deref(),
        ports: ports(used_ports(service, used)),
    }
}

fn ports<'a>(ports: impl Iterator<Item = &'a Port>) -> Vec<(&'a str, u16, String)> {
    ports.map(|port| (&*port.name, port.number, port.target.to_string())).collect()
}

fn used_ports<'a>(service: &'a Service, used: &BTreeSet<u16>) -> impl Iterator<Item = &'a Port> {
    service.ports.iter().filter(|port| port.tcp && used.contains(&port.number))
}

/// The object to apply.
pub fn object(key: &Key, service: &Service, used: &BTreeSet<u16>) -> Object {
    let mut metadata = metadata(&naming::companion(&key.name));
    metadata.namespace = Some(key.namespace.to_string());
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Service".to_owned(),
        name: key.name.to_string(),
        uid: service.uid.to_string(),
        ..OwnerReference::default()
    }]);
    let ports = used_ports(service, used).map(|port| ServicePort {
        name: Some(port.name.to_string()).filter(|name| !name.is_empty()),
        port: i32::from(port.number),
        protocol: Some("TCP".to_owned()),
        target_port: Some(match &port.target {
            PortRef::Number(number) => IntOrString::Int(i32::from(*number)),
            PortRef::Name(name) => IntOrString::String(name.to_string()),
        }),
        ..ServicePort::default()
    });
    let selector = service.selector.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    Object {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("NodePort".to_owned()),
            external_traffic_policy: Some("Cluster".to_owned()),
            selector: Some(selector.collect()),
            publish_not_ready_addresses: Some(service.publish_not_ready),
            ip_families: Some(service.families.iter().map(|family| family.to_string()).collect()),
            ip_family_policy: service.family_policy.as_deref().map(str::to_owned),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
