//! Who is who: kinds of objects, references to them, clusters and their namespaces.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Namespaces of member clusters in the LB cluster start with this.
pub const TENANT_PREFIX: &str = "tenant-";

/// Where objects of the platform itself live, such as the certificate of a listener.
pub const SYSTEM_NAMESPACE: &str = "portolan-system";

/// The longest name of a `Cluster`: that of its namespace is a DNS label.
pub const CLUSTER_NAME_AT_MOST: usize = 63 - TENANT_PREFIX.len();

/// The name of the one `Proxy` that counts.
pub const DEFAULT_PROXY: &str = "default";

/// The kinds of objects that Portolan reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `portolan.dev/v1alpha1`, cluster-scoped, one, named `default`.
    Proxy,
    /// `portolan.dev/v1alpha1`, cluster-scoped: one member cluster.
    Cluster,
    /// `portolan.dev/v1alpha1`: hosts, rules and certificates of one application.
    HttpLoadBalancer,
    /// `portolan.dev/v1alpha1`: a named set of endpoints.
    UpstreamPool,
    /// `portolan.dev/v1alpha1`: the nodes of a member cluster.
    NodeSet,
    /// `portolan.dev/v1alpha1`: settings that attach to other objects.
    TrafficPolicy,
    /// `discovery.k8s.io/v1`.
    EndpointSlice,
    /// Core `v1`, of type `kubernetes.io/tls`.
    Secret,
    /// Core `v1`: a CA bundle.
    ConfigMap,
}

impl Kind {
    /// Every kind, in the order in which they are worth reading.
    pub const ALL: [Kind; 9] = [
        Kind::Proxy,
        Kind::Cluster,
        Kind::HttpLoadBalancer,
        Kind::UpstreamPool,
        Kind::NodeSet,
        Kind::TrafficPolicy,
        Kind::EndpointSlice,
        Kind::Secret,
        Kind::ConfigMap,
    ];

    /// The `kind` of its manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Proxy => "Proxy",
            Kind::Cluster => "Cluster",
            Kind::HttpLoadBalancer => "HTTPLoadBalancer",
            Kind::UpstreamPool => "UpstreamPool",
            Kind::NodeSet => "NodeSet",
            Kind::TrafficPolicy => "TrafficPolicy",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Secret => "Secret",
            Kind::ConfigMap => "ConfigMap",
        }
    }

    /// The `apiVersion` of its manifests.
    pub fn api_version(self) -> &'static str {
        match self {
            Kind::EndpointSlice => "discovery.k8s.io/v1",
            Kind::Secret | Kind::ConfigMap => "v1",
            _ => "portolan.dev/v1alpha1",
        }
    }

    /// Whether its objects live outside any namespace.
    pub fn is_cluster_scoped(self) -> bool {
        matches!(self, Kind::Proxy | Kind::Cluster)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One object, by kind, namespace (empty where cluster-scoped) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// A reference to a namespaced object.
    pub fn new(kind: Kind, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }

    /// A reference to a cluster-scoped object.
    pub fn cluster_scoped(kind: Kind, name: impl Into<Arc<str>>) -> Self {
        Self::new(kind, "", name)
    }

    /// The member cluster whose namespace it lives in, if it lives in one.
    pub fn cluster(&self) -> Option<&str> {
        self.namespace.strip_prefix(TENANT_PREFIX).filter(|name| !name.is_empty())
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A pool, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId {
    /// The namespace of its `UpstreamPool`.
    pub namespace: Arc<str>,
    /// The name of its `UpstreamPool`.
    pub name: Arc<str>,
}

impl PoolId {
    /// The pool of that name in that namespace.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The object that declares it.
    pub fn object(&self) -> ObjectRef {
        ObjectRef::new(Kind::UpstreamPool, self.namespace.clone(), self.name.clone())
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Serialize for PoolId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The namespace that belongs to a member cluster.
pub fn tenant_namespace(cluster: &str) -> String {
    format!("{TENANT_PREFIX}{cluster}")
}
