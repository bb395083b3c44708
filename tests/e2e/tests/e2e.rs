//! End-to-end tests: one binary, a module per subject, a line of the specification per test or table row.

#[path = "e2e/cli.rs"]
mod cli;
#[path = "e2e/hosts.rs"]
mod hosts;
#[path = "e2e/routing.rs"]
mod routing;
#[path = "e2e/malformed.rs"]
mod malformed;
#[path = "e2e/streams.rs"]
mod streams;
