//! What member clusters have: nodes, endpoints.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use serde::Serialize;

/// The `NodeSet` of a member cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeSet {
    /// Its nodes.
    pub nodes: Vec<Node>,
}

/// A node of a member cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Where its node ports answer; the first is used.
    pub addresses: Vec<IpAddr>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Whether it is ready and meant for traffic from outside (not cordoned, not excluded).
    pub ready: bool,
}

/// An `EndpointSlice` that belongs to a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EndpointSlice {
    /// The pool's name (label `portolan.dev/pool`).
    pub pool: Arc<str>,
    /// Its ports.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlicePort {
    /// Empty where the slice has one unnamed port.
    pub name: Arc<str>,
    /// The number.
    pub port: NonZeroU16,
}

/// An endpoint of an `EndpointSlice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SliceEndpoint {
    /// Its address: Kubernetes uses the first only.
    pub address: IpAddr,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// Whether it takes new requests.
    pub ready: bool,
    /// Whether it still answers.
    pub serving: bool,
    /// Whether it is going away.
    pub terminating: bool,
}
