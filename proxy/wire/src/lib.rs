//! May the bytes a client sent go on to the parser behind?
//!
//! Three judges, none of which reads a socket or a clock, or allocates:
//!
//! ```text
//!  socket ─► proxy_protocol ─► (TLS) ─► http1::Gate ─► HTTP/1 parser
//!                 whose address?          │    ▲
//!                                         ▼    │ too slow?
//!                                  refusal     head_deadline
//! ```
//!
//! The owner of the connection feeds bytes and lets pass what it is told to; whatever is refused never reaches the
//! parser, so the parser's leniency cannot make it read a message otherwise than an upstream does.

pub mod head_deadline;
pub mod http1;
pub mod proxy_protocol;
