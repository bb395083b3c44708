//! End-to-end tests: one binary, a module per subject, a line of the specification per test or table row.

#[path = "e2e/routing.rs"]
mod routing;
