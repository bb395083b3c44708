//! What is done to heads on their way through: a rule's filters, hop-by-hop and forwarding headers, and answers of the proxy's own.
//!
//! ```text
//!  request ─► hop-by-hop ─► client, forwarding headers ─► rule's filters: edits, rewrite ─► upstream
//!                                                            │ redirect
//!  client  ◄─ own answer ◄───────────────────────────────────┘
//!  client  ◄─ HSTS ◄─ rule's filters: edits ◄─ hop-by-hop ◄─ response
//! ```
//!
//! Pure functions over [`Headers`], which the proxy implements for its library's heads: no I/O, no clock, chance as an
//! argument. What a rule says is parsed once, by [`CompiledFilter::build`]; nothing is parsed per request but the request.

mod answer;
mod edits;
mod filters;
mod forwarded;
mod headers;
mod hop;
mod hsts;
mod redirect;
mod rewrite;

pub use answer::{Format, negotiate, own_answer};
pub use edits::{CompiledEdits, EditError};
pub use filters::{CompiledFilter, FilterError};
pub use forwarded::{Arrival, Client, REQUEST_ID, client, forward, request_id};
pub use headers::{Headers, remove_any};
pub use hop::strip_hop_by_hop;
pub use hsts::hsts_value;
pub use redirect::{CompiledRedirect, RedirectError, RequestTarget, https_location};
pub use rewrite::{CompiledPath, CompiledRewrite, RewriteError};

#[cfg(test)]
mod tests;
