//! What needs clusters: root, Go, and seconds or minutes a test, so all of it is ignored unless asked for (`../test.sh`, `make test`). One binary, a
//! module per subject; what takes minutes stands in `slow`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and fails")]

#[path = "clusters/binaries.rs"]
mod binaries;
#[path = "clusters/certify.rs"]
mod certify;
#[path = "clusters/conformance.rs"]
mod conformance;
#[path = "clusters/fleet.rs"]
mod fleet;
#[path = "clusters/objects.rs"]
mod objects;
#[path = "clusters/pods.rs"]
mod pods;
#[path = "clusters/probes.rs"]
mod probes;
#[path = "clusters/slow.rs"]
mod slow;
