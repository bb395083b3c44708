//! Is an endpoint fit for requests, and when is it probed next? The prober (in the proxy crate) does the I/O and
//! asks here; nothing here knows a clock, a socket or chance.
//!
//! ```text
//!  prober: due()? ─► probe ─► record(now, outcome, settings, random) ─► Some(verdict) where it changed
//! ```

mod state;

pub use state::{EndpointHealth, Health, Outcome};
