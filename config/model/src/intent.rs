//! What people wrote, one object at a time.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::condition::Condition;
use crate::host::{HostName, HostPattern};
use crate::id::{Kind, ObjectRef};
use crate::inventory::{EndpointSlice, NodeSet};
use crate::locality::Locality;
use crate::policy::TrafficPolicy;
use crate::pool::UpstreamPool;
use crate::proxy::Proxy;
use crate::redacted::Redacted;
use crate::route::Rule;

/// One object: who it is, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Object {
    /// Who it is.
    pub meta: Meta,
    /// What it says.
    pub spec: Spec,
}

/// Who an object is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Meta {
    /// Kind, namespace, name.
    pub id: ObjectRef,
    /// Seconds since 1970 at which it was created in the LB cluster; in a folder as the manifest has it, if it does.
    pub created: Option<i64>,
    /// `metadata.generation`; 0 in a folder.
    pub generation: i64,
    /// Where it was synced from.
    pub origin: Option<Box<Origin>>,
    /// The generated host name that its status says it has.
    pub host: Option<HostName>,
    /// Where it stands, in a folder.
    pub place: Option<Place>,
}

/// The object of a member cluster that an object was synced from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// `Ingress`, say.
    pub kind: Arc<str>,
    /// Its namespace there.
    pub namespace: Arc<str>,
    /// Its name there.
    pub name: Arc<str>,
    /// Its uid there.
    pub uid: Arc<str>,
    /// Seconds since 1970 at which it was created there.
    pub created: Option<i64>,
}

/// Where a manifest stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// The file, relative to the folder.
    pub file: Arc<str>,
    /// The line its document starts on, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What an object says, by its kind. Boxed where it would make the many `HTTPLoadBalancer`s larger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Spec {
    /// See [`Proxy`].
    Proxy(Box<Proxy>),
    /// See [`Cluster`].
    Cluster(Box<Cluster>),
    /// See [`HttpLoadBalancer`].
    HttpLoadBalancer(HttpLoadBalancer),
    /// See [`UpstreamPool`].
    UpstreamPool(Box<UpstreamPool>),
    /// See [`NodeSet`].
    NodeSet(NodeSet),
    /// See [`TrafficPolicy`].
    TrafficPolicy(Box<TrafficPolicy>),
    /// See [`EndpointSlice`].
    EndpointSlice(Box<EndpointSlice>),
    /// See [`TlsSecret`].
    Secret(Box<TlsSecret>),
    /// See [`CaBundle`].
    ConfigMap(CaBundle),
}

impl Spec {
    /// The kind that it belongs to.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Proxy(_) => Kind::Proxy,
            Self::Cluster(_) => Kind::Cluster,
            Self::HttpLoadBalancer(_) => Kind::HttpLoadBalancer,
            Self::UpstreamPool(_) => Kind::UpstreamPool,
            Self::NodeSet(_) => Kind::NodeSet,
            Self::TrafficPolicy(_) => Kind::TrafficPolicy,
            Self::EndpointSlice(_) => Kind::EndpointSlice,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
        }
    }
}

/// One thing that a source has seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    /// The object is there, as said.
    Apply(Arc<Object>),
    /// The object is gone.
    Delete(ObjectRef),
    /// The object is there but cannot be read: its last good version stays in force.
    Invalid(ObjectRef, Vec<Condition>),
}

/// A member cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// Where it is.
    pub locality: Locality,
    /// Its share of hosts that several clusters serve.
    pub weight: u32,
    /// Whether it gets nothing new of these.
    pub drain: bool,
    /// The customer hosts that it may claim.
    pub allowed_domains: Vec<AllowedDomain>,
    /// Where its endpoints may lie, see [`EndpointRanges`](crate::pool::EndpointRanges).
    pub allowed_endpoints: Option<Arc<[IpNet]>>,
    /// The `Secret` for `*.<cluster>.<lb domain>`.
    pub certificate: Option<ObjectRef>,
    /// Whether it is the LB cluster itself, and may use addresses of it.
    pub integrated: bool,
    /// How much it may have.
    pub limits: Limits,
}

/// How much a member cluster may have; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// `HTTPLoadBalancer`s.
    pub load_balancers: Option<u32>,
    /// Rules of all of them.
    pub routes: Option<u32>,
    /// Hosts of all of them, beside the generated ones.
    pub hosts: Option<u32>,
    /// Endpoints of all its pools.
    pub endpoints: Option<u32>,
}

/// A domain that a cluster may claim hosts under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AllowedDomain {
    /// The suffix, itself included; `None` is every domain.
    pub suffix: Option<HostName>,
    /// What happens where other clusters claim the same host.
    pub sharing: Sharing,
}

/// What happens where several clusters claim a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Sharing {
    /// The first owns it.
    #[default]
    Exclusive,
    /// All that share it serve it together.
    Shared,
}

/// Hosts, rules and certificates of one application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpLoadBalancer {
    /// In the order written.
    pub rules: Box<[Rule]>,
    /// For its own hosts.
    pub tls: Box<[TlsBinding]>,
}

/// A certificate for some of an object's hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsBinding {
    /// The hosts; all of the object's without.
    pub hosts: Vec<HostPattern>,
    /// The `Secret`, in the object's namespace.
    pub secret: ObjectRef,
}

/// A `Secret` of type `kubernetes.io/tls`, its certificate and key known to fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsSecret {
    /// `tls.crt`: PEM, the leaf first.
    #[serde(skip)]
    pub chain: Arc<[u8]>,
    /// `tls.key`: PEM.
    pub key: Redacted<Arc<[u8]>>,
    /// What the leaf says.
    pub facts: CertificateFacts,
}

/// What a leaf certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateFacts {
    /// Its DNS names; a wildcard there spans one label.
    pub names: Vec<HostPattern>,
    /// Seconds since 1970; written as RFC 3339 has times.
    #[serde(serialize_with = "rfc_3339")]
    pub not_before: i64,
    /// Likewise.
    #[serde(serialize_with = "rfc_3339")]
    pub not_after: i64,
    /// The key's algorithm.
    pub key: KeyAlgorithm,
    /// Lower-case hexadecimal.
    pub serial: String,
}

fn rfc_3339<S: Serializer>(seconds: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::from_second(*seconds) {
        Ok(time) => serializer.collect_str(&time),
        // Past the year 9999.
        Err(_) => serializer.serialize_i64(*seconds),
    }
}

/// The algorithm of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum KeyAlgorithm {
    /// RFC 5480.
    Ecdsa,
    /// RFC 8410.
    Ed25519,
    /// RFC 8017.
    Rsa,
}

/// A `ConfigMap` with a CA bundle.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CaBundle {
    /// `ca.crt`: PEM, one certificate at least.
    #[serde(skip)]
    pub pem: Arc<[u8]>,
}
