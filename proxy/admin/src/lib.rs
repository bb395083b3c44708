//! The admin port: what is in force, what is wrong, how it goes, and why a request ends where it does.
//!
//! ```text
//!  GET /plan ─► guard (whose Host?) ─► endpoints ─► State (the binary's wiring)
//! ```
//!
//! It reads and explains; the only thing it sets is the log level. It knows nothing of the data plane: whatever it shows comes
//! through [`State`]. Work that grows with the configuration runs on threads for blocking work, so that a look at a large
//! plan does not hold up a probe.

mod endpoints;
mod explain;
mod guard;
mod plan;
mod serve;
mod state;
mod text;

pub use explain::{ExplainError, ExplainRequest};
pub use serve::serve;
pub use state::{Scope, Spot, State};
pub use text::to_text;
