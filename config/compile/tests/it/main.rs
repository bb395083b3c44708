//! What the compiler makes of objects.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod fleet;
mod names;
mod objects;
mod order;
mod rules;
