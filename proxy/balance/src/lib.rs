//! Which endpoint gets the next request, and which cluster of those that share a host?
//!
//! ```text
//!  weights, seed ──► Balancer (per Snapshot) ──► pick(random, load, candidate) ──► index of an endpoint
//!  Registry (per process) ──► Arc<EndpointState>: requests under way, health; outlives Snapshots
//! ```
//!
//! Pure: chance is an argument, load and fitness are asked of the caller. Locks are taken only where Snapshots are
//! built, never by a pick.

mod balancer;
mod registry;
mod state;
mod turns;
mod weighted;

pub use balancer::{Balancer, scramble};
pub use registry::Registry;
pub use state::{EndpointKey, EndpointState, Fitness, InFlight};
pub use weighted::{Choice, nearest, weighted, weights_of_nearest};
