//! Portolan among real clusters.
//!
//! ```text
//!  client ─► address of the small cloud ─► lb: portolan-proxy, portolan-controller
//!                                             ▲ tenant-paris   ▲ tenant-tokyo
//!                                        paris: portolan-agent   tokyo: portolan-agent
//! ```
//!
//! The clusters are the rig's; Portolan is installed from the chart that is shipped, with the RBAC that it ships, and clusters join by
//! `portolan join`: nothing here knows a shorter way. See [`World`].

mod app;
mod http;
mod load;
mod names;
mod tools;
mod world;

pub use app::App;
pub use http::{Connection, Reply, get, request};
pub use load::{Load, Report};
pub use names::Names;
pub use tools::Kubectl;
pub use world::{DOMAIN, Settings, World, pause};
