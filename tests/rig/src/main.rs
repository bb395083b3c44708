//! `rig`: clusters for people and for scripts; tests use the library.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use portolan_rig::binaries::Binaries;
use portolan_rig::{Fleet, Kept, Options, cloud, cluster, conformance, kubelet, scheduler};
use tokio::runtime::Runtime;
use tracing_subscriber::EnvFilter;

/// Real Kubernetes clusters on one machine, without containers.
#[derive(Debug, Parser)]
#[command(name = "rig", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say in one sentence what this machine lacks to carry clusters, if it lacks something.
    Check,
    /// Build the binaries that are missing: some minutes, once.
    Build,
    /// Start a fleet, and leave it running.
    Up {
        /// The names of its clusters.
        #[arg(long, value_delimiter = ',', default_value = "lb,paris,tokyo")]
        clusters: Vec<String>,
        /// Nodes of each cluster.
        #[arg(long, default_value_t = 1)]
        nodes: usize,
        /// Give Services of type LoadBalancer an address.
        #[arg(long)]
        cloud: bool,
        /// A binary that containers of an image run, as NAME=PATH.
        #[arg(long = "image", value_parser = image)]
        images: Vec<(String, PathBuf)>,
    },
    /// End what `up` started, and remove what crashed tests left.
    Down {
        /// The number of one fleet, as `status` says it; all if there is none.
        fleet: Option<u8>,
    },
    /// What runs, and how it is.
    Status,
    /// kubectl, in a cluster that `up` started.
    Kubectl {
        /// The cluster's name.
        cluster: String,
        /// What kubectl is told.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// The Gateway API's conformance suite, in a cluster of its own.
    Conformance(conformance::Options),
    /// The kubelet of one node.
    #[command(hide = true)]
    Kubelet(kubelet::Options),
    /// What watches over one container of a kubelet.
    #[command(hide = true)]
    Shim {
        /// The folder of its run.
        dir: PathBuf,
    },
    /// The scheduler of one cluster.
    #[command(hide = true)]
    Scheduler(scheduler::Options),
    /// The cloud of one cluster.
    #[command(hide = true)]
    Cloud(cloud::Options),
}

fn main() -> ExitCode {
    // The client calls an API server that is on its way up an error.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Cli::parse().command {
        // Threads of a runtime would keep it from entering namespaces.
        Command::Shim { dir } => kubelet::shim(&dir),
        command => Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(run(command))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Check => Fleet::can_start(),
        Command::Build => Binaries::find().map(drop),
        Command::Up { clusters, nodes, cloud, images } => {
            let options = Options::new(clusters).nodes(nodes).cloud(cloud);
            up(images.iter().fold(options, |options, (name, path)| options.image(name, path))).await
        }
        Command::Down { fleet } => {
            for number in Kept::end(fleet)? {
                println!("fleet {number} is gone");
            }
            Ok(())
        }
        Command::Status => status().await,
        Command::Kubectl { cluster, args } => kubectl(&cluster, &args),
        Command::Conformance(options) => tokio::select! {
            done = conformance::run(options) => done,
            // Dropped half-way, it leaves nothing.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        },
        Command::Kubelet(options) => kubelet::run(options).await,
        Command::Shim { dir } => kubelet::shim(&dir),
        Command::Scheduler(options) => scheduler::run(options).await,
        Command::Cloud(options) => cloud::run(options).await,
    }
}

fn image(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("it is NAME=PATH")?;
    let path = std::path::absolute(path).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), path))
}

async fn up(options: Options) -> Result<()> {
    let fleet = tokio::select! {
        fleet = Fleet::up(options) => fleet?,
        // Dropped half-way, it leaves nothing.
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    };
    println!("{}", fleet.report());
    fleet.keep()
}

async fn status() -> Result<()> {
    for fleet in Kept::all()? {
        println!("fleet {}: {}, {} MB", fleet.number, fleet.dir.display(), fleet.memory() / 1_000_000);
        for (name, kubeconfig) in fleet.clusters() {
            println!("  {name}: {}; {}", objects(&kubeconfig).await, kubeconfig.display());
            for (process, record) in fleet.processes(&name) {
                println!(
                    "    {process}: {}",
                    if record.is_alive() { record.pid().to_string() } else { "ended".into() }
                );
            }
        }
    }
    Ok(())
}

/// Nodes and pods of a cluster, or why they cannot be told.
async fn objects(kubeconfig: &std::path::Path) -> String {
    let ask = async {
        let client = cluster::connect(kubeconfig).await?;
        let (nodes, pods) = (Api::<Node>::all(client.clone()), Api::<Pod>::all(client));
        let ready = nodes
            .list(&Default::default())
            .await?
            .items
            .iter()
            .filter(|node| cluster::is_ready(node))
            .count();
        anyhow::Ok(format!("{ready} nodes ready, {} pods", pods.list(&Default::default()).await?.items.len()))
    };
    match tokio::time::timeout(std::time::Duration::from_secs(5), ask).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => format!("the API server says: {error}"),
        Err(_) => "the API server does not answer".to_owned(),
    }
}

fn kubectl(cluster: &str, args: &[String]) -> Result<()> {
    let fleets = Kept::all()?;
    let mut configs = fleets.iter().flat_map(Kept::clusters).filter(|(name, _)| name == cluster);
    let (Some((_, config)), another) = (configs.next(), configs.next()) else {
        bail!("no cluster {cluster} is up: see `rig status`");
    };
    if let Some((_, another)) = another {
        bail!(
            "two clusters are called {cluster}: use kubectl --kubeconfig with {} or {}",
            config.display(),
            another.display()
        );
    }
    let kubectl = Binaries::built()?.kubectl;
    Err(std::process::Command::new(kubectl).env("KUBECONFIG", config).args(args).exec().into())
}
