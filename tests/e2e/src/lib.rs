//! What end-to-end tests stand on: a running Portolan, upstreams behind it, clients before it.
//!
//! ```text
//!  curl, openssl, h2load, RawClient ─► Portolan (the built binary, a folder of its own) ─► Echo, RawUpstream, Nginx, Python
//! ```
//!
//! Every test starts what it needs on ports of its own and ends it by its own process id; tests run beside each other. Nothing
//! sleeps for a fixed time where it can wait for a condition: see `wait`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on says so and fails

mod authority;
mod curl;
mod echo;
mod manifest;
mod portolan;
mod ports;
mod process;
mod raw;
mod upstream;
mod wait;

pub use authority::{Authority, Key, Pair};
pub use curl::{Curl, Reply};
pub use echo::{Echo, shares};
pub use manifest::{app, cluster, config_map, indent, pool, route, secret};
pub use portolan::{Portolan, Setup, binary};
pub use ports::free_port;
pub use process::{Child, have, run};
pub use raw::{RawClient, RawResponse, RawUpstream};
pub use upstream::{Nginx, Python};
pub use wait::{eventually, within};
