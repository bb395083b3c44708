//! `NodeSet` and `EndpointSlice`.

use std::net::IpAddr;
use std::num::NonZeroU16;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use portolan_model::intent::Spec;
use portolan_model::inventory::{self, Node, NodeSet, SliceEndpoint, SlicePort};

use super::scalar::{address, object_name};
use super::{Convert, Cx, Flaw};
use crate::contract::POOL_LABEL;
use crate::field::At;
use crate::kinds::NodeSetSpec;

impl Convert for NodeSetSpec {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let at = At::top("spec");
        let at = at.field("nodes");
        let mut nodes: Vec<Node> = Vec::with_capacity(self.nodes.len());
        let mut names = std::collections::HashSet::with_capacity(self.nodes.len());
        for (index, spec) in self.nodes.iter().enumerate() {
            let at = at.index(index);
            let name = cx.check(&at.field("name"), object_name(&spec.name));
            if !names.insert(&*spec.name) {
                cx.error(&at.field("name"), format!("the node {:?} stands twice", spec.name));
            }
            if spec.addresses.is_empty() {
                cx.error(&at.field("addresses"), "a node needs an address");
            }
            let addresses = spec.addresses.iter().enumerate();
            let addresses = addresses
                .filter_map(|(index, text)| cx.check(&at.field("addresses").index(index), address(text)))
                .collect();
            let zone = spec.zone.as_deref().map(|zone| cx.names.share(zone));
            nodes.extend(name.map(|name| Node { name: name.into(), addresses, zone, ready: spec.ready }));
        }
        Some(Spec::NodeSet(NodeSet { nodes }))
    }
}

impl Convert for EndpointSlice {
    fn convert(&self, cx: &mut Cx<'_>) -> Option<Spec> {
        let Some(pool) = cx.pool else {
            cx.ignored = Some("it has no label portolan.dev/pool");
            return None;
        };
        let labels = At::top("metadata");
        let labels = labels.field("labels");
        let pool = cx.check(&labels.field(POOL_LABEL), object_name(pool)).map(|pool| cx.names.share(pool));
        let kind = &*self.address_type;
        if !matches!(kind, "IPv4" | "IPv6") {
            cx.error(&At::top("addressType"), format!("endpoints of type {kind:?} cannot be reached"))
                .expected = Some("IPv4 or IPv6".to_owned());
        }
        let at = At::top("ports");
        let mut ports = Vec::new();
        for (index, port) in self.ports.iter().flatten().enumerate() {
            let at = at.index(index);
            // What is no TCP port is no port for HTTP.
            if port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
                continue;
            }
            let number = port.port.and_then(|port| u16::try_from(port).ok()).and_then(NonZeroU16::new);
            match number {
                Some(number) => ports.push(SlicePort {
                    name: cx.names.share(port.name.as_deref().unwrap_or_default()),
                    port: number,
                }),
                None => {
                    cx.error(&at.field("port"), "the port needs a number").expected =
                        Some("an integer from 1 to 65535".to_owned());
                }
            }
        }
        let at = At::top("endpoints");
        let mut endpoints = Vec::new();
        for (index, endpoint) in self.endpoints.iter().flatten().enumerate() {
            let at = at.index(index);
            let at = at.field("addresses");
            let text = endpoint.addresses.first().map_or("", String::as_str);
            let address = address(text).and_then(|address| of_family(address, kind));
            let Some(address) = cx.check(&at.index(0), address) else { continue };
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            endpoints.push(SliceEndpoint {
                address,
                zone: endpoint.zone.as_deref().map(|zone| cx.names.share(zone)),
                ready,
                serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
                terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
            });
        }
        Some(Spec::EndpointSlice(Box::new(inventory::EndpointSlice { pool: pool?, ports, endpoints })))
    }
}

fn of_family(address: IpAddr, kind: &str) -> Result<IpAddr, Flaw> {
    if address.is_ipv4() == (kind == "IPv4") {
        Ok(address)
    } else {
        Err(Flaw::new(format!("{address} does not fit addressType {kind}"), format!("an {kind} address")))
    }
}
