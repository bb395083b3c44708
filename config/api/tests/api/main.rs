//! What the crate promises to those who use it: manifests in, objects or diagnostics out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad;
mod crds;
mod examples;
mod good;
mod hostile;
mod support;
