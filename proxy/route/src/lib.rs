//! Which route serves this request? Host, path, method, header and query matching with the precedence of the Gateway API's
//! `HTTPRoute`.
//!
//! ```text
//!  Host ─► exact name, else the longest wildcard ─► Index of that host: exact paths ─► regular expressions ─► longest prefixes
//!                 │ nobody's                                     │ nothing matches
//!                 └─► catch-all, or NoHost                       └─► NoRoute
//! ```
//!
//! Pure: no I/O, no clock. A look-up allocates nothing (but where an escaped query value or a header of several fields
//! meets a regular expression), and its cost depends neither on the number of hosts nor on other hosts' routes.

mod conditions;
mod explain;
mod index;
mod pattern;
mod query;
mod router;

pub use explain::{Considered, Explanation, Verdict};
pub use pattern::check_regex;
pub use portolan_model::path::{PathError, normalize as normalize_path};
pub use router::{HostMatch, Matched, Outcome, RequestView, Router};

#[cfg(test)]
mod tests;
