//! Which pool does a backend of an `Ingress` lead to?
//!
//! | reach | `ClusterIP`, headless | `NodePort`, `LoadBalancer` | `ExternalName` | no selector |
//! | --- | --- | --- | --- | --- |
//! | `NodePort` | a companion's node port | its own node port; a companion's without one | that name | its own node port, else refused |
//! | `PodIP` | its endpoints | its endpoints | that name | its endpoints |
//! | `Gateway` | one pool for the whole `Ingress`: the address in its status | | | |
//!
//! A backend that leads nowhere keeps its rule, with a pool that is not there: its requests must not fall to a wider rule.

use std::net::IpAddr;

use portolan_api::kinds::Reach;
use portolan_model::host::HostName;
use portolan_model::naming;

use super::status::{self, Own};
use super::{PoolSource, Refusal, Ways, pool};
use crate::names;
use crate::objects::Endpoints;
use crate::view::{
    Backend, Ingress, Key, Name, Port, PortRef, Service, ServiceKind, Settings, StatusEntry, View,
};

/// Resolves the backends of one `Ingress`, and notes what they need.
pub(crate) struct Resolver<'a> {
    view: &'a View,
    settings: &'a Settings,
    ways: Ways<'a>,
    own: Own<'a>,
    key: &'a Key,
    ingress: &'a Ingress,
    /// Which field of the `Ingress` names the backend that is looked at.
    place: String,
    /// The pools that there are to be.
    pub(crate) pools: Vec<PoolSource>,
    /// The ports that need companions.
    pub(crate) companions: Vec<(Key, u16)>,
    /// What leads nowhere.
    pub(crate) refusals: Vec<Refusal>,
    /// Whether a companion is under way.
    pub(crate) waiting: bool,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        view: &'a View,
        settings: &'a Settings,
        ways: Ways<'a>,
        own: Own<'a>,
        key: &'a Key,
        ingress: &'a Ingress,
    ) -> Self {
        Self {
            view,
            settings,
            ways,
            own,
            key,
            ingress,
            place: String::new(),
            pools: Vec::new(),
            companions: Vec::new(),
            refusals: Vec::new(),
            waiting: false,
        }
    }

    /// Whether the cluster's own gateway stands before all backends, and knows only the hosts of the `Ingress`.
    pub(crate) fn behind_gateway(&self) -> bool {
        self.ways.gateway
    }

    /// The name of the pool of the backend that stands in that field; of a pool that is not there where it leads nowhere.
    pub(crate) fn pool(&mut self, place: impl Into<String>, backend: &Backend) -> String {
        self.place = place.into();
        if self.behind_gateway() {
            return self.gateway();
        }
        match backend {
            Backend::Resource { kind, name } => {
                self.refuse(
                    "ResourceBackend",
                    format!("the backend {kind} {name} is no Service, and nothing else is served"),
                );
                names::resource_pool(&self.key.namespace, kind, name)
            }
            Backend::Service { name, port } => match self.service(name, port) {
                Ok(source) => {
                    let name = source.name();
                    self.pools.push(source);
                    name
                }
                Err(number) => {
                    let port = number.map_or_else(|| port.to_string(), |number| number.to_string());
                    names::service_pool(&self.key.namespace, name, &port)
                }
            },
        }
    }

    fn gateway(&mut self) -> String {
        let source = PoolSource::Ingress(self.key.clone());
        let name = source.name();
        if gateway_entries(self.ingress, self.own, self.key).next().is_some() {
            self.pools.push(source);
        } else {
            // A controller that starts anew takes its addresses away and gives them back.
            self.waiting = true;
            "status.loadBalancer.ingress".clone_into(&mut self.place);
            self.refuse(
                "NoGatewayAddress",
                "it has no address of the cluster's own ingress controller, which reach Gateway leads to"
                    .to_owned(),
            );
        }
        name
    }

    /// The pool of a port of a `Service`; without one, the number of the port, if it is known.
    fn service(&mut self, name: &Name, wanted: &PortRef) -> Result<PoolSource, Option<u16>> {
        let key = Key { namespace: self.key.namespace.clone(), name: name.clone() };
        let Some(service) = self.view.services.get(&key) else {
            self.refuse("ServiceNotFound", format!("Service {name} does not exist"));
            return Err(match wanted {
                PortRef::Number(number) => Some(*number),
                PortRef::Name(_) => None,
            });
        };
        let Some(port) = find_port(service, wanted) else {
            // A Service that is but a name need not list its ports.
            if let (ServiceKind::ExternalName(_), PortRef::Number(number)) = (&service.kind, wanted) {
                return self.external(key, service, *number);
            }
            self.refuse("PortNotFound", format!("Service {name} has no port {wanted}"));
            return Err(None);
        };
        if !port.tcp {
            self.refuse("PortNotTcp", format!("port {wanted} of Service {name} is not a TCP port"));
            return Err(Some(port.number));
        }
        // These are the Service's, whoever refers to it.
        self.refusals.extend(pool::wrong_wishes(&key, service));
        if let ServiceKind::ExternalName(_) = &service.kind {
            return self.external(key, service, port.number);
        }
        let source = PoolSource::Service(key.clone(), port.number);
        match (self.settings.reach, (self.ways.stands)(&source)) {
            (Reach::PodIP, Some(Endpoints::Nodes)) if !has_node_port(service, port) => {
                // Until its pool has moved it is led to.
                let companion = Key::new(key.namespace.clone(), naming::companion(&key.name));
                if self.view.services.get(&companion).is_some_and(|it| it.companion.is_some()) {
                    self.companions.push((key, port.number));
                }
                Ok(source)
            }
            (Reach::PodIP, _) | (Reach::Gateway, Some(Endpoints::Slices)) => Ok(source),
            (Reach::NodePort, Some(Endpoints::Slices)) => {
                // It need not wait for a companion.
                let waiting = self.waiting;
                let _ = self.node_port(key, service, port);
                self.waiting = waiting;
                Ok(source)
            }
            (Reach::NodePort | Reach::Gateway, _) => self.node_port(key, service, port),
        }
    }

    fn external(&mut self, key: Key, service: &Service, port: u16) -> Result<PoolSource, Option<u16>> {
        let ServiceKind::ExternalName(target) = &service.kind else { return Err(Some(port)) };
        let target = target.trim_end_matches('.');
        if target.is_empty() || target.ends_with(".svc") || target.ends_with(".svc.cluster.local") {
            self.refuse(
                "ClusterLocalName",
                format!("Service {} stands for {target:?}, a name that only this cluster knows", key.name),
            );
            return Err(Some(port));
        }
        if target.parse::<IpAddr>().is_err() && HostName::parse(target).is_err() {
            self.refuse(
                "InvalidExternalName",
                format!("spec.externalName of Service {} is {target:?}, which is no host name", key.name),
            );
            return Err(Some(port));
        }
        Ok(PoolSource::Service(key, port))
    }

    fn node_port(&mut self, key: Key, service: &Service, port: &Port) -> Result<PoolSource, Option<u16>> {
        if has_node_port(service, port) {
            return Ok(PoolSource::Service(key, port.number));
        }
        if service.selector.is_empty() {
            self.refuse(
                "NoSelector",
                format!(
                    "Service {} has neither node ports nor a selector, so nodes cannot lead to it; give it type NodePort, or the Cluster reach PodIP",
                    key.name
                ),
            );
            return Err(Some(port.number));
        }
        let name = naming::companion(&key.name);
        let companion = Key::new(key.namespace.clone(), name.as_str());
        match self.view.services.get(&companion) {
            Some(found) if found.companion.is_none() => {
                self.refuse(
                    "CompanionNameTaken",
                    format!("Service {name} is in the way: it is to lead to Service {}", key.name),
                );
                Err(Some(port.number))
            }
            found => {
                self.companions.push((key.clone(), port.number));
                let node_port = found.and_then(|found| pool::node_port_of(found, port.number));
                if node_port.is_some() {
                    return Ok(PoolSource::Service(key, port.number));
                }
                match self.view.refused_companions.get(&key) {
                    Some(reason) => {
                        self.refuse(
                            "CompanionRefused",
                            format!(
                                "Service {name}, which is to lead to Service {}, was refused: {reason}",
                                key.name
                            ),
                        );
                    }
                    None => self.waiting = true,
                }
                Err(Some(port.number))
            }
        }
    }

    fn refuse(&mut self, reason: &'static str, message: String) {
        self.refusals.push(Refusal::new(reason, message).at(self.place.clone()));
    }
}

/// Whether a port has a node port of its own.
pub(crate) fn has_node_port(service: &Service, port: &Port) -> bool {
    matches!(service.kind, ServiceKind::NodePort | ServiceKind::LoadBalancer) && port.node_port != 0
}

/// The port of that number or name.
pub fn find_port<'a>(service: &'a Service, wanted: &PortRef) -> Option<&'a Port> {
    let fits = |port: &&Port| match wanted {
        PortRef::Number(number) => port.number == *number,
        PortRef::Name(name) => *port.name == **name,
    };
    // A number may stand twice, for TCP and for UDP.
    let mut found = service.ports.iter().filter(fits);
    let first = found.next()?;
    Some(if first.tcp { first } else { found.find(|port| port.tcp).unwrap_or(first) })
}

/// The addresses that the member cluster's own gateway gave an `Ingress`.
pub fn gateway_entries<'a>(
    ingress: &'a Ingress,
    own: Own<'a>,
    key: &'a Key,
) -> impl Iterator<Item = &'a StatusEntry> {
    let is_address = |entry: &StatusEntry| entry.ip.is_some() || entry.hostname.is_some();
    ingress.status.iter().filter(move |entry| is_address(entry) && !status::is_own(entry, own, key))
}
