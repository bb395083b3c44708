//! What is told about each object, and when: the controller's view of the fleet, pure, fed by watches and the compiler.
//!
//! ```text
//!  compiler: conditions, names, counts ─┐
//!  objects as they stand (known)  ──────┤
//!  replicas' Leases: what they serve ───┼─► Ledger ─► due() ─► Write ─► status subresource
//!  agents' Leases: who is alive ────────┤
//!  the Service's addresses ─────────────┘
//! ```
//!
//! Invariant: a status speaks of a generation only once the compiler has judged it, and is written only if it says something
//! else than what stands there. Cost: that of what changed; a second's tick looks at each cluster and each replica once.

mod agents;
mod conditions;
mod heard;
mod known;
mod ledger;
mod replicas;

pub(crate) use self::known::Seen;
pub(crate) use self::ledger::{KINDS, Ledger, Outcome, Write};
