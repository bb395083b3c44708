//! The data plane: the only crate that knows Pingora.
//!
//! ```text
//!  Plan's updates ─► DataPlane (control thread) ─► Snapshot, one ArcSwap ─► every request
//!                        │
//!                        ├─► listeners: sockets for each worker, come and go
//!                        ├─► prober: health of endpoints      ├─► resolver: names of endpoints
//!                        ▼
//!  worker (thread, runtime, Pingora proxy):  accept ─► serve ─► conn (gate, deadlines) ─► Pingora ─► service
//! ```

mod accept;
mod access;
mod answer;
mod clock;
mod conn;
mod context;
mod deadlines;
mod failure;
mod forward;
mod info;
mod line;
mod listener;
mod plane;
mod pool;
mod probe;
mod record;
mod request;
mod resolve;
mod serve;
mod service;
mod shared;
mod snapshot;
mod tls;
mod view;
mod watch;
mod worker;

pub use failure::Flag;
pub use plane::{DataPlane, Lack, Options};
pub use request::refusal;
pub use view::View;
