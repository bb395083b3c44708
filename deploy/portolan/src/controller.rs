//! `portolan controller`: what the LB cluster's objects come to, told in their statuses, and what member clusters need made there.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use portolan_admin::{ExplainRequest, Scope};
use portolan_controller::{Figures, Options, check_version, control};
use portolan_metrics::ControllerMetrics;
use portolan_model::plan::Plan;
use portolan_source::{KubernetesSource, SourceStatus};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::kubernetes::{ServerArgs, replica_name};
use crate::log;

/// Batches that may wait while one is taken in.
const BATCHES: usize = 16;

#[derive(Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What this replica is called among those of the controller. Without it, as its pod or its machine is.
    #[arg(long, value_name = "NAME")]
    replica_name: Option<String>,
    /// Where the admin port listens: everything about the process, and the log level. Keep it local.
    #[arg(long, default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Where /metrics, /livez and /readyz are offered to scrapers and probes from elsewhere. Nowhere without.
    #[arg(long)]
    metrics: Option<SocketAddr>,
    /// What is logged: error, warn, info, debug or trace, also by module. The admin port changes it while running.
    #[arg(long, default_value = "info")]
    log: String,
}

pub(crate) fn controller(args: ControllerArgs) -> anyhow::Result<ExitCode> {
    let log = log::start(&args.log)?;
    portolan_certs::install_provider().context("cannot use the cryptography library")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(run(args, log))
}

async fn run(args: ControllerArgs, log: log::Handle) -> anyhow::Result<ExitCode> {
    let identity = replica_name(args.replica_name.as_deref())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = args.server.connect().await?;
    // A server that does not answer yet may be older too; whoever starts this starts it again.
    let version = server.client.apiserver_version().await;
    check_version(&version.with_context(|| format!("{} does not say its version", server.url))?)?;

    let (batches, queue) = mpsc::channel(BATCHES);
    let source = KubernetesSource::start(&server, args.server.options(), batches);
    let (plans, plan) = watch::channel(None);
    let figures = Arc::new(Figures::default());
    let state: Arc<dyn portolan_admin::State> = Arc::new(State {
        plan,
        source: source.status(),
        figures: Arc::clone(&figures),
        metrics: ControllerMetrics::new(env!("CARGO_PKG_VERSION"))?,
        log,
    });
    let (stop, stopped) = watch::channel(false);
    let mut ports = vec![admin(args.admin, &state, Scope::Full, &stopped).await?];
    if let Some(address) = args.metrics {
        ports.push(admin(address, &state, Scope::Probes, &stopped).await?);
    }
    tracing::info!(server = server.url, identity, admin = %args.admin, "controlling");
    let options = Options {
        client: server.client,
        system: args.server.namespace().to_owned(),
        identity,
        plans,
        figures,
    };
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    control(options, queue, told).await;
    drop(source);
    let _ = stop.send(true);
    for port in ports {
        let _ = port.await;
    }
    tracing::info!("bye");
    Ok(ExitCode::SUCCESS)
}

async fn admin(
    address: SocketAddr,
    state: &Arc<dyn portolan_admin::State>,
    scope: Scope,
    stopped: &watch::Receiver<bool>,
) -> anyhow::Result<tokio::task::JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let (state, mut stopped) = (Arc::clone(state), stopped.clone());
    Ok(tokio::spawn(portolan_admin::serve(listener, state, scope, async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    })))
}

/// The process as its admin port sees it.
struct State {
    plan: watch::Receiver<Option<Plan>>,
    source: SourceStatus,
    figures: Arc<Figures>,
    metrics: ControllerMetrics,
    log: log::Handle,
}

impl portolan_admin::State for State {
    fn plan(&self) -> Plan {
        self.plan.borrow().clone().unwrap_or_else(Plan::empty)
    }

    fn diagnostics(&self) -> Value {
        let now = Instant::now();
        let troubles = self.source.troubles().into_iter();
        troubles.map(|trouble| json!({"severity": "error", "message": trouble.message(now)})).collect()
    }

    fn metrics(&self) -> String {
        self.metrics.render(&self.figures.read())
    }

    fn not_ready(&self) -> Option<String> {
        let knows = self.plan.borrow().is_some();
        (!knows).then(|| "not everything has been read yet".to_owned())
    }

    fn explain(&self, _: &ExplainRequest) -> Result<Value, String> {
        Err("the controller serves no requests: ask the admin port of a replica of the proxy".to_owned())
    }

    fn certificates(&self) -> Value {
        json!([])
    }

    fn set_log_level(&self, filter: &str) -> Result<(), String> {
        log::set(&self.log, filter)
    }

    fn log_level(&self) -> String {
        log::level(&self.log)
    }
}
