//! What is written into the LB cluster, and is it what is there?
//!
//! A [`Body`] is what is wanted of an object; what the API server hands out is read back into the same shape, its defaults filled in, so
//! that both have one [`digest`] if and only if nothing is to be done. Only digests are kept. Cost: one serialisation, without a buffer.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::ObjectMeta;
use portolan_api::Names;
use portolan_api::contract::{AGENT, POOL_LABEL};
use portolan_api::kinds::{
    HTTPLoadBalancer, HTTPLoadBalancerSpec, NodeSet, NodeSetSpec, UpstreamPool, UpstreamPoolSpec,
};
use serde::Serialize;

use crate::meta::{digest, metadata, version};
use crate::view::{self, Key, Name, read};

/// The kinds that are written, in the order in which they are best written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The nodes.
    NodeSet,
    /// A copy of a certificate.
    Secret,
    /// A pool.
    Pool,
    /// Endpoints of a pool.
    Slice,
    /// What uses all these.
    LoadBalancer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::NodeSet, Kind::Secret, Kind::Pool, Kind::Slice, Kind::LoadBalancer];

    /// The `kind` of its objects.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NodeSet => "NodeSet",
            Self::Secret => "Secret",
            Self::Pool => "UpstreamPool",
            Self::Slice => "EndpointSlice",
            Self::LoadBalancer => "HTTPLoadBalancer",
        }
    }
}

/// An object in the namespace of this cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

impl Id {
    /// The object of that kind and name.
    pub fn new(kind: Kind, name: impl Into<Name>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// What is wanted of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// The nodes.
    NodeSet(NodeSetSpec),
    /// The `Secret` whose certificate is copied, with the digest of that.
    Secret(Key, u64),
    /// A pool.
    Pool(Box<UpstreamPoolSpec>),
    /// Endpoints of a pool.
    Slice(Box<SliceBody>),
    /// An application.
    LoadBalancer(Box<HTTPLoadBalancerSpec>),
}

impl Body {
    /// Its digest.
    pub fn digest(&self) -> u64 {
        match self {
            Self::NodeSet(spec) => digest(spec),
            Self::Secret(_, content) => *content,
            Self::Pool(spec) => digest(spec),
            Self::Slice(body) => digest(body),
            Self::LoadBalancer(spec) => digest(spec),
        }
    }
}

/// What is written of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SliceBody {
    /// The pool.
    pub pool: String,
    /// Whether addresses are IPv6.
    pub v6: bool,
    /// The name of the port.
    pub port_name: String,
    /// The port.
    pub port: u16,
    /// Address, zone, and whether it is ready, serving, terminating.
    pub endpoints: Vec<(String, Option<String>, [bool; 3])>,
}

impl SliceBody {
    /// The copy of a slice for one port of it; nothing where it has none of it.
    pub fn of(pool: &str, slice: &view::Slice, port_name: &str) -> Option<Self> {
        let (name, port) = slice.ports.iter().find(|(name, _)| **name == *port_name)?;
        let endpoints = slice.endpoints.iter().map(|endpoint| {
            let zone = endpoint.zone.as_deref().map(str::to_owned);
            (endpoint.address.to_string(), zone, [endpoint.ready, endpoint.serving, endpoint.terminating])
        });
        Some(Self {
            pool: pool.to_owned(),
            v6: slice.v6,
            port_name: name.to_string(),
            port: *port,
            endpoints: endpoints.collect(),
        })
    }

    /// The object to apply.
    pub fn object(self, name: &str) -> EndpointSlice {
        let mut metadata = metadata(name);
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(POOL_LABEL.to_owned(), self.pool);
        // Kubernetes' own controllers leave alone what another one manages.
        labels.insert("endpointslice.kubernetes.io/managed-by".to_owned(), AGENT.to_owned());
        let endpoints =
            self.endpoints.into_iter().map(|(address, zone, [ready, serving, terminating])| Endpoint {
                addresses: vec![address],
                zone,
                conditions: Some(EndpointConditions {
                    ready: Some(ready),
                    serving: Some(serving),
                    terminating: Some(terminating),
                }),
                ..Endpoint::default()
            });
        EndpointSlice {
            metadata,
            address_type: if self.v6 { "IPv6" } else { "IPv4" }.to_owned(),
            endpoints: Some(endpoints.collect()),
            ports: Some(vec![EndpointPort {
                name: Some(self.port_name),
                port: Some(i32::from(self.port)),
                protocol: Some("TCP".to_owned()),
                app_protocol: None,
            }]),
        }
    }
}

/// Where the endpoints of a pool stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoints {
    /// In slices that bear its name.
    Slices,
    /// On the nodes.
    Nodes,
    /// In itself.
    Pool,
}

impl Endpoints {
    /// Those of a pool.
    pub fn of(spec: &UpstreamPoolSpec) -> Self {
        match (&spec.endpoint_slices, &spec.node_port) {
            (Some(_), _) => Self::Slices,
            (None, Some(_)) => Self::Nodes,
            (None, None) => Self::Pool,
        }
    }
}

/// What is there of an object that was written here.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its digest.
    pub digest: u64,
    /// Its `metadata.resourceVersion`.
    pub version: u64,
    /// What its status says is wrong: reason and message.
    pub refusals: Box<[(Box<str>, Box<str>)]>,
    /// Of a pool, where its endpoints stand.
    pub endpoints: Option<Endpoints>,
    /// More, of an `HTTPLoadBalancer`.
    pub load_balancer: Option<Box<FoundLoadBalancer>>,
}

impl Found {
    /// One of that digest and revision, of which nothing else is known.
    pub fn new(digest: u64, version: u64) -> Self {
        Self { digest, version, refusals: Box::default(), endpoints: None, load_balancer: None }
    }
}

/// What is there of an `HTTPLoadBalancer`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FoundLoadBalancer {
    /// Its generated host name.
    pub host: Option<Box<str>>,
    /// The pools and `Secret`s that it names.
    pub uses: Box<[Id]>,
}

/// A kind that can be read back.
pub trait ReadBack {
    /// What it comes to, with its name.
    fn found(&self, names: &mut Names) -> Option<(Name, Found)>;
}

fn plain(meta: &ObjectMeta, digest: u64) -> Option<(Name, Found)> {
    Some((meta.name.as_deref()?.into(), Found::new(digest, version(meta))))
}

type Conditions = [k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition];

/// What conditions refuse. That something is not in force everywhere yet is no refusal.
fn refusals(conditions: &Conditions) -> Box<[(Box<str>, Box<str>)]> {
    let refused =
        conditions.iter().filter(|condition| condition.status == "False" && condition.type_ != "Programmed");
    refused.map(|condition| (condition.reason.as_str().into(), condition.message.as_str().into())).collect()
}

impl ReadBack for NodeSet {
    fn found(&self, _: &mut Names) -> Option<(Name, Found)> {
        let (name, mut found) = plain(&self.metadata, digest(&self.spec))?;
        found.refusals = self.status.as_ref().map(|status| refusals(&status.conditions)).unwrap_or_default();
        Some((name, found))
    }
}

impl ReadBack for UpstreamPool {
    fn found(&self, _: &mut Names) -> Option<(Name, Found)> {
        let (name, mut found) = plain(&self.metadata, digest(&self.spec))?;
        found.endpoints = Some(Endpoints::of(&self.spec));
        found.refusals = self.status.as_ref().map(|status| refusals(&status.conditions)).unwrap_or_default();
        Some((name, found))
    }
}

impl ReadBack for HTTPLoadBalancer {
    fn found(&self, _: &mut Names) -> Option<(Name, Found)> {
        let (name, mut found) = plain(&self.metadata, digest(&self.spec))?;
        let pools = self.spec.rules.iter().flat_map(|rule| &rule.backends);
        let secrets = self.spec.tls.iter().map(|binding| Id::new(Kind::Secret, &*binding.secret_name));
        let mut uses: Vec<Id> =
            pools.map(|backend| Id::new(Kind::Pool, &*backend.pool)).chain(secrets).collect();
        uses.sort_unstable();
        uses.dedup();
        let status = self.status.as_ref();
        found.refusals = status.map(|status| refusals(&status.conditions)).unwrap_or_default();
        found.load_balancer = Some(Box::new(FoundLoadBalancer {
            host: status.and_then(|status| status.host.as_deref()).map(Box::from),
            uses: uses.into(),
        }));
        Some((name, found))
    }
}

impl ReadBack for Secret {
    fn found(&self, _: &mut Names) -> Option<(Name, Found)> {
        plain(&self.metadata, read::secret(self).unwrap_or(0))
    }
}

impl ReadBack for EndpointSlice {
    fn found(&self, names: &mut Names) -> Option<(Name, Found)> {
        let pool = read::label(&self.metadata, POOL_LABEL).unwrap_or_default();
        let body = read::endpoints(self, names).and_then(|slice| {
            let (port, _) = slice.ports.first()?;
            SliceBody::of(pool, &slice, port)
        });
        plain(&self.metadata, body.map_or(0, |body| digest(&body)))
    }
}
