//! The words that the rest of Portolan is written in: what people wrote ([`intent`]), what clusters have
//! ([`inventory`]), and what both compile to ([`plan`]).
//!
//! Pure data: no I/O, no clock, no async runtime. Whatever exists here has been parsed and is valid on its own;
//! only what needs other objects (does that pool exist, whose host is this) is left to the compiler.
//!
//! ```text
//!  manifests, custom resources ─► Intent, Inventory ─► (compiler) ─► Plan, as Updates ─► snapshots of its consumers
//! ```

pub mod condition;
pub mod host;
pub mod id;
pub mod intent;
pub mod inventory;
pub mod locality;
pub mod naming;
pub mod path;
pub mod plan;
pub mod policy;
pub mod pool;
pub mod proxy;
pub mod redacted;
pub mod route;
mod seconds;
pub mod shard;
