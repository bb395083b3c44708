//! What is measured, under which names, and how it is counted without workers getting in each other's way.
//!
//! ```text
//!  table::METRICS ──► Metrics (per process) ──► handles: ListenerMetrics, ClusterMetrics, … (in the Snapshot) ──► requests
//!        └──────────► reference(): deploy/docs/metrics.md        render() ◄── scrape
//! ```
//!
//! A metric that is not in the table cannot be registered; each label states its bound there.

mod cells;
mod controller;
mod handles;
mod metrics;
mod reference;
mod table;

pub use controller::{CONTROLLER_METRICS, Controlled, ControllerMetrics};
pub use handles::{ClusterMetrics, Connect, ConnectionGuard, Handshake, ListenerMetrics};
pub use metrics::{Metrics, PoolEndpoints, Reload};
pub use prometheus::IntCounter;
pub use reference::reference;
pub use table::{Kind, Label, METRICS, Metric};
