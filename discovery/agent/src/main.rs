//! The `portolan-agent` binary: arguments and wiring only.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use portolan_agent::run::{Options, run};
use portolan_agent::translate::nodes::NodeAddress;
use portolan_source::Access;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Keeps a member cluster in sync with the LB cluster: its Ingresses, what they need, and its nodes go there; names come back into their status.
///
/// It needs a Secret `portolan-agent-credential` in its namespace, which `portolan join <cluster>` makes. Several replicas may run: one works, the
/// others stand by.
#[derive(Parser)]
#[command(name = "portolan-agent", version, max_term_width = 100)]
struct Cli {
    /// A kubeconfig for the member cluster; the pod's own ServiceAccount without.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig other than its current one.
    #[arg(long, value_name = "NAME", requires = "kubeconfig")]
    context: Option<String>,
    /// The agent's namespace in the member cluster: its credential and its Lease are there.
    #[arg(long, value_name = "NAME", default_value = "portolan-agent")]
    namespace: String,
    /// What this replica is called, and no other; the host's name without.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    identity: Option<String>,
    /// The uid of the pod that is called so: events about the whole cluster are told there; at the Deployment without.
    #[arg(long, env = "POD_UID", value_name = "UID")]
    pod_uid: Option<String>,
    /// Which address of nodes the LB cluster reaches.
    #[arg(long, value_enum, default_value = "InternalIP", value_name = "TYPE")]
    node_address: NodeAddress,
    /// Where /livez, /readyz and /metrics are served; `off` for nowhere.
    #[arg(long, default_value = "0.0.0.0:9902", value_name = "ADDRESS:PORT")]
    metrics: String,
    /// How many writes a second go into the LB cluster at most; twice that at once after a rest.
    #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    write_rate: u16,
    /// How many seconds the tokens that it asks for last; each is renewed after a seventh of that.
    #[arg(long, default_value_t = 604_800, hide = true, value_parser = clap::value_parser!(u32).range(600..))]
    token_seconds: u32,
    /// What is logged: error, warn, info, debug or trace, also by module.
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log: String,
}

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("portolan-agent: {}", portolan_source::one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<()> {
    log(&cli.log)?;
    let listen = match &*cli.metrics {
        "off" => None,
        address => Some(address.parse::<SocketAddr>().with_context(|| {
            format!("--metrics {address:?} is no address and port such as 0.0.0.0:9902, nor off")
        })?),
    };
    let identity = match cli.identity.filter(|identity| !identity.is_empty()) {
        Some(identity) => identity,
        None => host_name().context("this replica has no name; give it one with --identity")?,
    };
    let options = Options {
        access: Access { kubeconfig: cli.kubeconfig, context: cli.context, as_kubectl: false },
        namespace: cli.namespace,
        identity,
        pod_uid: cli.pod_uid.filter(|uid| !uid.is_empty()),
        node_address: cli.node_address,
        listen,
        write_rate: f64::from(cli.write_rate),
        token_lifetime: Duration::from_secs(u64::from(cli.token_seconds)),
    };
    // One thread: what there is to do is little, and memory is dear.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        run(options, stop).await.map_err(anyhow::Error::from)
    })
}

fn host_name() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name = name.trim();
    anyhow::ensure!(!name.is_empty(), "the host has no name");
    Ok(name.to_owned())
}

fn log(text: &str) -> anyhow::Result<()> {
    // What the library below tells of errors is told here as well, once.
    let filter = EnvFilter::try_new(format!("kube_client=off,kube_runtime=off,{text}"));
    let filter = filter.with_context(|| format!("{text:?} is no log level"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if std::io::stderr().is_terminal() {
        lines.with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("cannot start the log: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the chart named an argument that was called otherwise here.
    #[test]
    fn the_charts_arguments_are_known() {
        let template = include_str!("../../../deploy/charts/portolan-agent/templates/agent.yaml");
        let (_, arguments) = template.split_once("args: {{ concat (list ").unwrap();
        let (arguments, _) = arguments.split_once(')').unwrap();
        let arguments: Vec<&str> = arguments.split_whitespace().map(|word| word.trim_matches('"')).collect();
        assert!(!arguments.is_empty());
        if let Err(error) = Cli::try_parse_from(["portolan-agent"].into_iter().chain(arguments)) {
            panic!("{error}");
        }
    }
}
