//! `portolan run`: what changes in a folder or an API server, through the compiler into the data plane, until told to stop.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use parking_lot::Mutex;
use portolan_compile::Compiler;
use portolan_metrics::Metrics;
use portolan_model::id::Kind;
use portolan_proxy::{DataPlane, Flag, Lack, Options};
use portolan_source::{
    Batch, Folder, FolderWatch, KubernetesOptions, KubernetesSource, ReplicaLease, SourceStatus, Versions,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::kubernetes::{self, ServerArgs};
use crate::ports::PortsArgs;
use crate::read;
use crate::state::State;

/// Batches that may wait while one is taken in.
const BATCHES: usize = 16;
/// Between two tries to listen where it was not possible, and from a batch at least to when its memory is given back.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The folder of manifests (*.yaml, *.yml, *.json). Its changes are in force within 100 ms.
    #[arg(long, required_unless_present = "kubernetes", conflicts_with_all = kubernetes::IDS)]
    config: Option<PathBuf>,
    /// Read the objects of an API server in place of a folder. Changes are in force within 30 ms.
    #[arg(long)]
    kubernetes: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// The name of this replica, under which it says in a Lease what it serves. $POD_NAME without, else $HOSTNAME or the
    /// machine's name.
    #[arg(long, value_name = "NAME", conflicts_with = "config")]
    replica_name: Option<String>,
    /// A folder for the last good state of the API server, private keys included: what a start without the API server serves.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    state_dir: Option<PathBuf>,
    #[command(flatten)]
    ports: PortsArgs,
    /// What is logged: error, warn, info, debug or trace, also by module. The admin port changes it while running.
    #[arg(long, default_value = "info")]
    log: String,
    /// The DNS server for pools that name their endpoints, in place of the machine's.
    #[arg(long)]
    dns_server: Option<SocketAddr>,
    /// Listen also where another Portolan does, and share its connections: start the new one with it, then end the old one,
    /// and no connection is refused in between. Without it, a port in use is an error.
    #[arg(long)]
    share_ports: bool,
    /// How long it goes on taking connections once it is asked to end (SIGTERM), not ready any more, until every load balancer in
    /// front sends elsewhere; then it drains. A second signal cuts it short.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    drain_delay: Duration,
}

/// A duration such as `5s` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration such as 5s or 500ms");
    text.parse::<jiff::SignedDuration>().ok().and_then(|found| found.try_into().ok()).ok_or_else(wrong)
}

impl RunArgs {
    /// What a demo runs with.
    pub(crate) fn of_demo(config: PathBuf, admin: SocketAddr) -> Self {
        Self {
            config: Some(config),
            kubernetes: false,
            server: ServerArgs::default(),
            replica_name: None,
            state_dir: None,
            ports: PortsArgs { admin, metrics: None },
            log: "info".into(),
            dns_server: None,
            share_ports: false,
            drain_delay: Duration::ZERO,
        }
    }
}

/// Where objects come from.
enum Source {
    Folder(PathBuf, FolderWatch),
    Kubernetes(String, KubernetesSource),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder, _) => folder.display().fmt(f),
            Self::Kubernetes(url, _) => f.write_str(url),
        }
    }
}

impl Source {
    fn status(&self) -> SourceStatus {
        match self {
            Self::Folder(..) => SourceStatus::default(),
            Self::Kubernetes(_, source) => source.status(),
        }
    }
}

impl RunArgs {
    /// Starts to read what they name.
    async fn source(&self, batches: mpsc::Sender<Batch>) -> anyhow::Result<(Source, Option<ReplicaLease>)> {
        if let Some(path) = &self.config {
            let folder = Folder::new(path, read::CHECKS);
            return Ok((Source::Folder(path.clone(), FolderWatch::start(folder, batches)?), None));
        }
        let server = self.server.connect().await?;
        let replica = kubernetes::replica_name(self.replica_name.as_deref())?;
        let lease = ReplicaLease::start(server.client.clone(), self.server.namespace(), &replica);
        let options = KubernetesOptions { state_dir: self.state_dir.clone(), ..self.server.options() };
        let source = KubernetesSource::start(&server, options, batches);
        Ok((Source::Kubernetes(server.url, source), Some(lease)))
    }
}

pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    run_then(args, || {})
}

/// Runs; calls `up` once the first configuration is in force.
pub(crate) fn run_then(args: RunArgs, up: impl FnOnce()) -> anyhow::Result<ExitCode> {
    let log = crate::log::start(&args.log)?;
    portolan_certs::install_provider().context("cannot use the cryptography library")?;
    if let Some(folder) = &args.config {
        anyhow::ensure!(folder.is_dir(), "{} is not a folder", folder.display());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(control(args, log, up))
}

async fn control(args: RunArgs, log: crate::log::Handle, up: impl FnOnce()) -> anyhow::Result<ExitCode> {
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let metrics = Arc::new(Metrics::new(cores, Flag::names(), env!("CARGO_PKG_VERSION"))?);
    let mut plane = DataPlane::start(Options {
        metrics: Arc::clone(&metrics),
        dns_server: args.dns_server,
        share_ports: args.share_ports,
    })?;
    let compiler = Arc::new(Mutex::new(Compiler::new()));
    let (batches, mut queue) = mpsc::channel(BATCHES);
    let (source, mut lease) = args.source(batches).await?;
    let state = Arc::new(State::new(
        args.config.clone(),
        source.status(),
        Arc::clone(&compiler),
        plane.view(),
        Arc::clone(&metrics),
        log,
    ));

    let ports = args.ports.open(state.clone()).await?;

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut up = Some(up);
    let mut retry = tokio::time::interval(QUIET);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unsettled: Option<Instant> = None;
    let mut taken_in: Option<Versions> = None;
    let mut leaves_at: Option<tokio::time::Instant> = None;
    loop {
        let leave = async {
            match leaves_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let asked = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            batch = queue.recv() => {
                let Some(batch) = batch else { anyhow::bail!("{source} is no longer watched") };
                taken_in.get_or_insert_default().merge(&batch.versions);
                take_in(batch, args.config.as_deref(), &mut compiler.lock(), &mut plane, &state, &metrics);
                tell(lease.as_ref(), &plane, taken_in);
                unsettled = Some(Instant::now());
                if let Some(up) = up.take() {
                    let admin = args.ports.admin;
                    match portolan_admin::State::not_ready(&*state) {
                        None => tracing::info!(%source, %admin, "ready"),
                        Some(reason) => tracing::warn!(%source, %admin, reason, "not ready"),
                    }
                    up();
                }
            }
            () = plane.next_resolution() => state.lacks(plane.lacks()),
            _ = retry.tick() => {
                if unsettled.take_if(|since| since.elapsed() >= QUIET).is_some() {
                    give_memory_back();
                }
                plane.retry();
                state.lacks(plane.lacks());
                tell(lease.as_ref(), &plane, taken_in);
            }
            _ = hangup.recv() => {
                match &source {
                    Source::Folder(_, watch) => {
                        tracing::info!("reading all manifests again, and opening the access log again");
                        watch.reload();
                    }
                    Source::Kubernetes(..) => tracing::info!("opening the access log again"),
                }
                plane.view().reopen_logs();
            }
            () = asked => {
                if leaves_at.is_some() || args.drain_delay.is_zero() {
                    break;
                }
                tracing::info!(delay = ?args.drain_delay, "not ready any more; draining after a delay");
                state.drain();
                leaves_at = Some(tokio::time::Instant::now() + args.drain_delay);
            }
            () = leave => break,
        }
    }
    drop(source);
    state.drain();
    let deadline = compiler.lock().plan().proxy.drain_timeout;
    tracing::info!(connections = plane.view().connections(), deadline = ?deadline, "draining");
    let again = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let ended = async {
        if let Some(lease) = lease.take() {
            lease.end().await;
        }
    };
    let (left, ()) = tokio::join!(plane.drain(deadline, again), ended);
    ports.close().await;
    if left > 0 {
        tracing::warn!(connections = left, "left with connections still open");
    }
    tracing::info!("bye");
    Ok(ExitCode::SUCCESS)
}

/// Has the allocator give back what a batch left behind. It waits a second, lest the memory be wanted again, and then looks only
/// when something large is freed: on a quiet process never. Of 100,000 hosts just loaded this is 8 to 13 MB, 5 to 7 % of
/// what is resident.
fn give_memory_back() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20)));
}

/// Says what of all that was taken in is in force here. A `Proxy` is not while one of its listeners is closed.
fn tell(lease: Option<&ReplicaLease>, plane: &DataPlane, taken_in: Option<Versions>) {
    let (Some(lease), Some(taken_in)) = (lease, taken_in) else { return };
    let lacking = plane.lacks().iter().any(Lack::stops_traffic);
    lease.serves(&if lacking { taken_in.without(Kind::Proxy) } else { taken_in });
}

/// One step from one configuration to the next.
fn take_in(
    batch: Batch,
    folder: Option<&Path>,
    compiler: &mut Compiler,
    plane: &mut DataPlane,
    state: &State,
    metrics: &Metrics,
) {
    for diagnostic in &batch.diagnostics {
        read::log(diagnostic);
    }
    let deltas = batch.deltas.len();
    let update = compiler.apply(batch.deltas);
    plane.apply(&update);
    let mut untold = Vec::new();
    for (object, conditions) in &update.conditions {
        let place = compiler.object(object).and_then(|known| known.meta.place.clone());
        let conditions = conditions.iter().flat_map(|conditions| conditions.iter());
        let news = conditions.filter(|condition| !read::is_told(object, condition, &batch.diagnostics));
        untold.extend(news.map(|condition| (object, condition, place.clone())));
    }
    for ((object, condition, place), spot) in untold.iter().zip(read::locate(folder, &untold, read::AGAIN)) {
        match place {
            Some(place) => tracing::warn!("{}", read::told(object, condition, place, spot)),
            None => tracing::warn!(%object, "{condition}"),
        }
    }
    metrics.set_objects(Kind::ALL.map(|kind| (kind.as_str(), compiler.number(kind))));
    state.in_force(compiler.plan().clone(), &batch.files, batch.diagnostics);
    state.lacks(plane.lacks());
    if !update.is_empty() {
        let (hosts, pools) = (compiler.plan().hosts.len(), compiler.plan().pools.len());
        tracing::info!(revision = update.revision, changes = deltas, hosts, pools, "configuration in force");
    }
}
