//! The `portolan` binary: arguments and wiring only.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod check;
mod controller;
mod demo;
mod explain;
mod join;
mod kubernetes;
mod leave;
mod log;
mod ports;
mod print;
mod read;
mod run;
mod state;
mod verdict;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A programmable global load balancer for fleets of Kubernetes clusters.
#[derive(Parser)]
#[command(name = "portolan", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve what the manifests in a folder or the objects of an API server say, and follow their changes.
    Run(run::RunArgs),
    /// Read the manifests in a folder and say what is wrong with them. Exits with 1 if anything is, or if there are none.
    Check(CheckArgs),
    /// Make in the LB cluster what member clusters need there, and tell in each object's status what is in force of it.
    Controller(controller::ControllerArgs),
    /// Say what would become of a request: the route, the pool, the clusters and their shares, and why.
    Explain(explain::ExplainArgs),
    /// Print what a member cluster needs to join: the agent, and its credential for the LB cluster. Or apply it there.
    Join(join::JoinArgs),
    Leave(leave::LeaveArgs),
    /// Print the definitions of the custom resources, for kubectl apply.
    Crds,
    /// Start a demo fleet: two clusters of echo servers, certificates made on the spot, and manifests to edit.
    Demo(demo::DemoArgs),
}

#[derive(Args)]
struct CheckArgs {
    /// The folder.
    folder: PathBuf,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::check(&args.folder),
        Command::Controller(args) => controller::controller(args),
        Command::Explain(args) => explain::explain(&args),
        Command::Join(args) => join::join(args),
        Command::Leave(args) => leave::leave(args),
        Command::Crds => print::out(&portolan_api::crds()).map(|()| ExitCode::SUCCESS),
        Command::Demo(args) => demo::demo(args),
    };
    done.unwrap_or_else(|error| {
        print::err(&format!("portolan: {}\n", portolan_source::one_line(&*error)));
        ExitCode::FAILURE
    })
}
