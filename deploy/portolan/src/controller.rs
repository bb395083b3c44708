//! `portolan controller`: what the LB cluster's objects come to, told in their statuses, and what member clusters need made there.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use portolan_admin::ExplainRequest;
use portolan_controller::{Figures, Options, check_version, control};
use portolan_metrics::ControllerMetrics;
use portolan_model::plan::Plan;
use portolan_source::{KubernetesSource, SourceStatus};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::kubernetes::{ServerArgs, replica_name};
use crate::log;
use crate::ports::PortsArgs;

/// Batches that may wait while one is taken in.
const BATCHES: usize = 16;

#[derive(Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// What this replica is called among those of the controller. Without it, as its pod or its machine is.
    #[arg(long, value_name = "NAME")]
    replica_name: Option<String>,
    #[command(flatten)]
    ports: PortsArgs,
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
    let ports = args.ports.open(state).await?;
    tracing::info!(server = server.url, identity, admin = %args.ports.admin, "controlling");
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
    ports.close().await;
    tracing::info!("bye");
    Ok(ExitCode::SUCCESS)
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
