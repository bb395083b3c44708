//! What is wrong with an object, in the words of Kubernetes statuses.

use std::fmt;

use serde::Serialize;

/// The aspect that a condition speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum ConditionType {
    /// The object as such is valid and in force.
    Accepted,
    /// Everything that it refers to exists and may be used.
    ResolvedRefs,
}

/// Why a condition is not true. Stable: people alert on these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Reason {
    /// The manifest cannot be read, or a value in it is out of bounds.
    Invalid,
    /// Its namespace belongs to no `Cluster`.
    ClusterNotFound,
    /// The host lies under none of the allowed domains of its cluster.
    DomainNotAllowed,
    /// Another tenant owns the host.
    HostTaken,
    /// An older object of the same cluster has the same match on the same host.
    RouteTaken,
    /// The generated host name would not be a valid name.
    HostTooLong,
    /// No `UpstreamPool` of that name in the namespace.
    BackendNotFound,
    /// The `UpstreamPool` has no endpoints left because of what its own conditions say.
    NoEndpoints,
    /// No `Secret` of that name and type.
    CertificateNotFound,
    /// The certificate does not cover the host that it is meant for.
    CertificateMismatch,
    /// No `ConfigMap` of that name with a CA bundle.
    CaNotFound,
    /// An endpoint lies outside the address ranges that its cluster may use, or in reserved ones.
    EndpointNotAllowed,
    /// Its cluster may not have that many.
    LimitReached,
    /// No `NodeSet` in the namespace.
    NodesNotFound,
    /// An `EndpointSlice` of the pool has no port of that name, or several and none is named.
    PortNotFound,
    /// What a policy points at does not exist.
    TargetNotFound,
    /// An older policy already sets that for the target.
    Conflicted,
    /// Only the `Proxy` named `default` counts.
    NotDefault,
}

/// One thing that is wrong with one object. Whatever is right has no condition here: an object without any is
/// accepted, resolved and in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// What it speaks of.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Why it is not true.
    pub reason: Reason,
    /// The field it stands in, as `spec.rules[0].backends[1].pool`; empty where it is the object as a whole.
    pub field: String,
    /// What was found and what was expected, for a person.
    pub message: String,
}

impl Condition {
    /// A condition on one field.
    pub fn new(
        kind: ConditionType,
        reason: Reason,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, reason, field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{:?}: {}", self.reason, self.message)
        } else {
            write!(f, "{:?}: {}: {}", self.reason, self.field, self.message)
        }
    }
}
