//! `portolan run`: the folder's changes through the compiler into the data plane, until told to stop.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use parking_lot::Mutex;
use portolan_admin::Scope;
use portolan_compile::Compiler;
use portolan_metrics::Metrics;
use portolan_model::id::Kind;
use portolan_proxy::{DataPlane, Flag, Options};
use portolan_source::{Batch, Folder, FolderWatch};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use crate::read;
use crate::state::State;

/// Batches that may wait while one is taken in.
const BATCHES: usize = 16;
/// Between two tries to listen where it was not possible, and from a batch at least to when its memory is given back.
const QUIET: Duration = Duration::from_secs(2);

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The folder of manifests (*.yaml, *.yml, *.json). Its changes are in force within 100 ms.
    #[arg(long)]
    config: PathBuf,
    /// Where the admin port listens: everything about the process, and the log level. Keep it local.
    #[arg(long, default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
    /// Where /metrics, /livez and /readyz are offered to scrapers and probes from elsewhere. Nowhere without.
    #[arg(long)]
    metrics: Option<SocketAddr>,
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
}

impl RunArgs {
    /// What a demo runs with.
    pub(crate) fn of_demo(config: PathBuf, admin: SocketAddr) -> Self {
        Self { config, admin, metrics: None, log: "info".into(), dns_server: None, share_ports: false }
    }
}

pub(crate) fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    run_then(args, || {})
}

/// Runs; calls `up` once the first configuration is in force.
pub(crate) fn run_then(args: RunArgs, up: impl FnOnce()) -> anyhow::Result<ExitCode> {
    let log = crate::log::start(&args.log)?;
    portolan_certs::install_provider().context("cannot use the cryptography library")?;
    anyhow::ensure!(args.config.is_dir(), "{} is not a folder", args.config.display());
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
    let state = Arc::new(State::new(
        args.config.clone(),
        Arc::clone(&compiler),
        plane.view(),
        Arc::clone(&metrics),
        log,
    ));

    let (stop, stopped) = watch::channel(false);
    let mut ports = vec![admin(args.admin, &state, Scope::Full, stopped.clone()).await?];
    if let Some(address) = args.metrics {
        ports.push(admin(address, &state, Scope::Probes, stopped.clone()).await?);
    }

    let (batches, mut queue) = mpsc::channel(BATCHES);
    let folder = Folder::new(&args.config, read::CHECKS);
    let source = FolderWatch::start(folder, batches)?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut up = Some(up);
    let mut retry = tokio::time::interval(QUIET);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unsettled: Option<Instant> = None;
    loop {
        tokio::select! {
            batch = queue.recv() => {
                let Some(batch) = batch else { anyhow::bail!("the folder is no longer watched") };
                take_in(batch, &args.config, &mut compiler.lock(), &mut plane, &state, &metrics);
                unsettled = Some(Instant::now());
                if let Some(up) = up.take() {
                    let (folder, admin) = (args.config.display(), args.admin);
                    match portolan_admin::State::not_ready(&*state) {
                        None => tracing::info!(%folder, %admin, "ready"),
                        Some(reason) => tracing::warn!(%folder, %admin, reason, "not ready"),
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
            }
            _ = hangup.recv() => {
                tracing::info!("reading all manifests again, and opening the access log again");
                source.reload();
                plane.view().reopen_logs();
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
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
    let left = plane.drain(deadline, again).await;
    let _ = stop.send(true);
    for port in ports {
        let _ = tokio::time::timeout(Duration::from_millis(200), port).await;
    }
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

/// One step from one configuration to the next.
fn take_in(
    batch: Batch,
    folder: &Path,
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

async fn admin(
    address: SocketAddr,
    state: &Arc<State>,
    scope: Scope,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<tokio::task::JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let state: Arc<dyn portolan_admin::State> = state.clone();
    Ok(tokio::spawn(portolan_admin::serve(listener, state, scope, async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    })))
}
