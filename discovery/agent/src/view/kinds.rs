//! The objects of a member cluster, as far as they matter here.

use std::net::IpAddr;

use portolan_api::kinds::Reach;

use super::Name;

/// An `Ingress`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingress {
    /// Its uid.
    pub uid: Box<str>,
    /// When it was created, in seconds since 1970.
    pub created: Option<i64>,
    /// `spec.ingressClassName`.
    pub class: Option<Box<str>>,
    /// The annotation `kubernetes.io/ingress.class`, which has precedence.
    pub annotated_class: Option<Box<str>>,
    /// Where what no rule takes goes.
    pub default_backend: Option<Backend>,
    /// Its rules.
    pub rules: Box<[Rule]>,
    /// Its certificates.
    pub tls: Box<[Tls]>,
    /// `status.loadBalancer.ingress`.
    pub status: Box<[StatusEntry]>,
    /// Annotations `portolan.dev/…`: an `Ingress` has none that are known.
    pub unknown: Box<[Box<str>]>,
}

/// A rule of an `Ingress`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Its host.
    pub host: Option<Box<str>>,
    /// Its paths; none where it has no `http`.
    pub paths: Box<[Path]>,
}

/// A path of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// The path, as it stands there.
    pub path: Box<str>,
    /// Its type.
    pub kind: PathKind,
    /// Where it goes.
    pub backend: Backend,
}

/// The type of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// That path alone.
    Exact,
    /// That path and what lies under it.
    Prefix,
    /// What each controller makes of it; here a prefix.
    ImplementationSpecific,
}

/// A backend of an `Ingress`.
#[derive(Clone, Debug, PartialEq)]
pub enum Backend {
    /// A port of a `Service` of the namespace.
    Service {
        /// Its name.
        name: Name,
        /// The port.
        port: PortRef,
    },
    /// Some other object.
    Resource {
        /// Its kind.
        kind: Box<str>,
        /// Its name.
        name: Box<str>,
    },
}

/// A port of a `Service`, as an `Ingress` has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(Box<str>),
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// An entry of `spec.tls` of an `Ingress`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Its hosts.
    pub hosts: Box<[Box<str>]>,
    /// Its `Secret`.
    pub secret: Option<Name>,
}

/// An entry of `status.loadBalancer.ingress` of an `Ingress`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub struct StatusEntry {
    /// An address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<Box<str>>,
    /// A name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Box<str>>,
    /// Its ports, as they stand there: nothing of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<serde_json::Value>,
}

/// A `Service`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// Its uid.
    pub uid: Box<str>,
    /// Its type.
    pub kind: ServiceKind,
    /// Which pods it selects.
    pub selector: Box<[(Box<str>, Box<str>)]>,
    /// Whether nodes hand on only to endpoints of their own (`externalTrafficPolicy: Local`).
    pub local: bool,
    /// Whether endpoints count before they are ready.
    pub publish_not_ready: bool,
    /// Its ports.
    pub ports: Box<[Port]>,
    /// `spec.ipFamilies`.
    pub families: Box<[Box<str>]>,
    /// `spec.ipFamilyPolicy`.
    pub family_policy: Option<Box<str>>,
    /// What its annotations ask for, if anything.
    pub wishes: Option<Box<Wishes>>,
    /// Whose companion it is, where it was written here.
    pub companion: Option<Companion>,
}

/// What a companion of ours is.
#[derive(Clone, Debug, PartialEq)]
pub struct Companion {
    /// The `Service` that owns it, of the same namespace.
    pub of: Name,
    /// A digest of what was written.
    pub digest: u64,
    /// Its revision.
    pub version: u64,
}

/// The type of a `Service`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    /// Addresses of the cluster only, or none at all.
    #[default]
    ClusterIp,
    /// A port on every node.
    NodePort,
    /// A port on every node, unless that is turned off.
    LoadBalancer,
    /// Another name.
    ExternalName(Box<str>),
}

/// A port of a `Service`.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Its name; empty where it has none.
    pub name: Name,
    /// Its number.
    pub number: u16,
    /// Whether it is a TCP port.
    pub tcp: bool,
    /// What is spoken.
    pub app_protocol: Option<Name>,
    /// The port on nodes; 0 where it has none.
    pub node_port: u16,
    /// The port of the pods.
    pub target: PortRef,
}

/// What annotations `portolan.dev/…` of a `Service` ask for, as they stand there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// `health-check-path`: endpoints are asked for that path.
    pub health_check_path: Option<Box<str>>,
    /// `balancing`: how an endpoint is chosen.
    pub balancing: Option<Box<str>>,
    /// `tls-verify`: who vouches for its certificate.
    pub tls_verify: Option<Box<str>>,
    /// `tls-server-name`: sent as server name, and verified.
    pub tls_server_name: Option<Box<str>>,
    /// Others, whole: nobody knows them.
    pub unknown: Box<[Box<str>]>,
}

/// An `EndpointSlice` of a `Service`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slice {
    /// Its `Service`, of the same namespace.
    pub service: Name,
    /// Whether its addresses are IPv6.
    pub v6: bool,
    /// Its TCP ports by name.
    pub ports: Box<[(Name, u16)]>,
    /// Its endpoints.
    pub endpoints: Box<[Endpoint]>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its node.
    pub node: Option<Name>,
    /// Its zone.
    pub zone: Option<Name>,
    /// Whether it takes new requests.
    pub ready: bool,
    /// Whether it still answers.
    pub serving: bool,
    /// Whether it is going away.
    pub terminating: bool,
}

/// A `Node`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its internal addresses.
    pub internal: Box<[IpAddr]>,
    /// Its external addresses.
    pub external: Box<[IpAddr]>,
    /// Its zone.
    pub zone: Option<Name>,
    /// Whether it says that it is ready.
    pub ready: bool,
    /// Whether it is meant for traffic from outside: neither cordoned nor excluded nor about to go.
    pub meant: bool,
    /// Its uid.
    pub uid: Box<str>,
}

/// An `IngressClass`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngressClass {
    /// Whose it is.
    pub controller: Box<str>,
    /// Whether it is meant where an `Ingress` names none.
    pub default: bool,
    /// When it was created, in seconds since 1970.
    pub created: Option<i64>,
}

/// What the LB cluster says of this cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How its applications are reached.
    pub reach: Reach,
    /// Foreign classes that are served too.
    pub classes: Box<[Box<str>]>,
    /// The domain of generated names, once it is known.
    pub domain: Option<Box<str>>,
}
