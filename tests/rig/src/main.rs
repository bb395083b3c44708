//! `rig`: clusters for people and for scripts; tests use the library.

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Real Kubernetes clusters on one machine, without containers.
#[derive(Debug, Parser)]
#[command(name = "rig", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build what is missing of the binaries.
    Build,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Build => Ok(()),
    }
}
