//! The writers of the LB cluster: what a member cluster needs to write there, and what is told about each object.
//!
//! ```text
//!  Cluster ─► tenant, admission ─► provision ─► namespaces, accounts, roles, quotas, the admission policy
//!  Batch (source) ─► compiler ─► status ─► writer ─► statuses
//!  Leases of replicas and agents ─┘
//!  listeners ─► ports ─► the proxies' Service
//! ```
//!
//! Two replicas run; the one that holds the `Lease` writes, the other knows as much and waits. It faces no client.

pub mod admission;
mod control;
mod figures;
pub mod join;
mod ports;
mod provision;
mod queue;
mod refusal;
mod status;
pub mod tenant;
mod version;
mod watches;
mod writer;

pub use control::{Options, control};
pub use figures::Figures;
pub use refusal::Refusal;
pub use version::{TooOld, check_version};
