//! What the crate promises to those who use it: manifests in, objects or diagnostics out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper that fails ends its test; clippy.toml allows it in test functions alone"
)]

mod bad;
mod crds;
mod examples;
mod good;
mod hostile;
mod support;
