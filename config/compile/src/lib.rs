//! Deltas of intent and inventory to updates of the plan.
//!
//! ```text
//!  Delta ─► store, indices ─► what is dirty ─► limits ─► load balancers ─► owners of hosts ─► hosts, server names ─► Update
//!                                          └─► policies, clusters, the proxy; pools ─► limits ─────────────────────►
//! ```
//!
//! Everything in the [`Plan`](portolan_model::plan::Plan) is a function of the objects alone, so the order in which deltas
//! arrive never shows in it; the indices only say what a change may reach. A bad object becomes conditions and is left
//! out: nothing here fails.
//!
//! Cost: that of what a change reaches. One changed load balancer costs its rules, and for each of its hosts the load
//! balancers that claim the same host.

mod age;
mod certificates;
mod compiler;
mod counts;
mod dirty;
mod hosts;
mod limits;
mod load_balancer;
mod names;
mod policies;
mod pools;
mod shadows;
mod store;

pub use compiler::{Compiler, Refused};
pub use limits::LeftOut;
