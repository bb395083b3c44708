//! The custom resources of `portolan.dev/v1alpha1`, as they are spelled in manifests and in the API.
//!
//! These types are the source of the CRDs: bounds, enumerations, patterns and CEL rules stand here and nowhere else,
//! and the reader of manifests checks against the very schema that is generated from them. They take unknown fields
//! without complaint, so that an old process can watch objects that a newer one wrote; the reader of manifests
//! and the API server are the ones who refuse them.

// The derive of schemas repeats each type inside of a function.
#![allow(unreachable_pub)]
// Printer columns repeat their attributes.
#![allow(clippy::duplicated_attributes)]

mod cluster;
mod http_load_balancer;
mod node_set;
mod parts;
mod proxy;
mod traffic_policy;
mod upstream_pool;

pub use cluster::*;
pub use http_load_balancer::*;
pub use node_set::*;
pub use parts::*;
pub use proxy::*;
pub use traffic_policy::*;
pub use upstream_pool::*;
