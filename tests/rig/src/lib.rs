//! The rig: real Kubernetes clusters on one machine, without containers.
//!
//! ```text
//!  host ── rig0 ── wan ─┬─ lb-1     etcd, API server, controllers, kube-proxy, kubelet ── pod, pod, …
//!                       ├─ paris-1  the same
//!                       └─ paris-2  kube-proxy, kubelet ── pod, pod, …
//! ```
//!
//! Each box is a network namespace, each line a veth pair. The binaries are those of the Kubernetes project, built from pinned Go modules;
//! the kubelet is ours and runs pods as processes in namespaces of their own. See [`fleet`].

mod addresses;
pub mod binaries;
mod client;
pub mod cloud;
pub mod cluster;
pub mod conformance;
pub mod fleet;
pub mod gateway_api;
pub mod kubelet;
mod machine;
pub mod net;
mod pki;
pub mod process;
pub mod scheduler;
mod site;
pub mod wait;

pub use cluster::{Cluster, Node};
pub use fleet::{Fleet, Kept, Options};
pub use site::built;
