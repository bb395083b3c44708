//! End-to-end tests: one binary, a module per subject, a line of the specification per test or table row.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::or_fun_call,
    clippy::type_complexity,
    reason = "a test fails by panicking, and its tables are what they are"
)]

#[path = "e2e/access_log.rs"]
mod access_log;
#[path = "e2e/admin.rs"]
mod admin;
#[path = "e2e/cli.rs"]
mod cli;
#[path = "e2e/drain.rs"]
mod drain;
#[path = "e2e/hosts.rs"]
mod hosts;
#[path = "e2e/limits.rs"]
mod limits;
#[path = "e2e/load.rs"]
mod load;
#[path = "e2e/malformed.rs"]
mod malformed;
#[path = "e2e/own_answers.rs"]
mod own_answers;
#[path = "e2e/pools.rs"]
mod pools;
#[path = "e2e/protocols.rs"]
mod protocols;
#[path = "e2e/reload.rs"]
mod reload;
#[path = "e2e/rotation.rs"]
mod rotation;
#[path = "e2e/routing.rs"]
mod routing;
#[path = "e2e/slow.rs"]
mod slow;
#[path = "e2e/streams.rs"]
mod streams;
#[path = "e2e/tls.rs"]
mod tls;
