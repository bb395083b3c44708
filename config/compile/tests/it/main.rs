//! What the compiler makes of objects.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "helpers are shared by the modules of this one program, and panic as tests do"
)]

mod fleet;
mod limits;
mod names;
mod objects;
mod order;
mod rules;
