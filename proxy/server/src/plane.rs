//! The data plane as a whole: workers, listeners that come and go, and the snapshot they serve.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portolan_certs::ContextError;
use portolan_metrics::{Metrics, Reload};
use portolan_model::id::PoolId;
use portolan_model::plan::Update;
use portolan_model::proxy::{AccessLog, ListenAddress, Listener, Proxy};
use tokio::sync::watch;

use crate::accept::{Accept, Ours, WorkerHandle};
use crate::listener::{ListenerState, Open, Sharing, bind};
use crate::pool::Endpoints;
use crate::probe::Prober;
use crate::resolve::{Resolution, Resolver};
use crate::shared::Shared;
use crate::snapshot::{Place, SnapshotBuilder};

/// How long workers may take to drop what they serve.
const GOODBYE: Duration = Duration::from_secs(1);

/// Something that the `Proxy` asks for and this process does not have.
#[derive(Debug, thiserror::Error)]
pub enum Lack {
    /// A listener that listens nowhere. It is tried again.
    #[error("listener {listener}: cannot listen on {address}: {error}")]
    Socket {
        /// The listener's name.
        listener: Arc<str>,
        /// Address and port.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// A listener whose TLS settings cannot be used; it keeps those it had.
    #[error("listener {listener}: its TLS settings cannot be used: {error}")]
    Tls {
        /// The listener's name.
        listener: Arc<str>,
        /// Why.
        error: ContextError,
    },
    /// A log that cannot be written to; lines go where they went before. It is tried again.
    #[error("accessLog: {path} cannot be opened: {error}")]
    AccessLog {
        /// The file.
        path: Arc<str>,
        /// Why.
        error: io::Error,
    },
    /// Endpoints that names stand for and that the pool's cluster may not have.
    #[error("{}: its names resolve to {addresses:?}, which its cluster's allowedEndpointCIDRs or the Proxy's reservedCIDRs do not allow", pool.object())]
    Endpoints {
        /// The pool.
        pool: PoolId,
        /// In order.
        addresses: Vec<IpAddr>,
    },
}

impl Lack {
    /// Whether clients are turned away for it.
    pub fn stops_traffic(&self) -> bool {
        matches!(self, Self::Socket { .. } | Self::Tls { .. })
    }

    /// Whether the machine may give it later.
    fn may_come(&self) -> bool {
        matches!(self, Self::Socket { .. } | Self::AccessLog { .. })
    }
}

/// See the module's documentation. Lives on the control thread.
pub struct DataPlane {
    shared: Arc<Shared>,
    builder: SnapshotBuilder,
    prober: Prober,
    resolver: Resolver,
    workers: Vec<WorkerHandle>,
    retired: Vec<std::thread::JoinHandle<()>>,
    listeners: HashMap<Place, Running>,
    /// Ports on which sockets of this process may be open, the last ones of listeners that are gone included.
    ports: HashMap<NonZeroU16, Weak<Ours>>,
    share_ports: bool,
    lacks: Vec<Lack>,
}

struct Running {
    state: Arc<ArcSwap<ListenerState>>,
    port: Arc<Ours>,
    /// By worker.
    stops: Vec<watch::Sender<()>>,
    drain: watch::Sender<bool>,
}

/// What a data plane is started with.
pub struct Options {
    /// Where it counts.
    pub metrics: Arc<Metrics>,
    /// Another DNS server than the machine's own, for pools that name their endpoints.
    pub dns_server: Option<std::net::SocketAddr>,
    /// Whether to listen also where another process of this kind already does; the kernel spreads connections over both.
    pub share_ports: bool,
}

impl DataPlane {
    /// A data plane that listens nowhere yet. To be called within a tokio runtime, which runs its probes.
    pub fn start(options: Options) -> io::Result<Self> {
        trust_store()?;
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), "seed");
        let states = Arc::new(Endpoints::default());
        let builder =
            SnapshotBuilder::new(states, Arc::clone(&options.metrics), seed).map_err(io::Error::other)?;
        let shared = Arc::new(Shared::new(builder.snapshot(), options.metrics, seed)?);
        Ok(Self {
            prober: Prober::new(Arc::clone(&shared)),
            resolver: Resolver::new(options.dns_server),
            shared,
            builder,
            workers: Vec::new(),
            retired: Vec::new(),
            listeners: HashMap::new(),
            ports: HashMap::new(),
            share_ports: options.share_ports,
            lacks: Vec::new(),
        })
    }

    /// Makes an update of the plan the one that new requests see, but for what [`Self::lacks`] says then.
    pub fn apply(&mut self, update: &Update) {
        let began = Instant::now();
        let broken = self.builder.apply(update);
        self.publish();
        self.prober.follow(update, &self.shared.snapshot.load());
        for id in self.resolver.follow(update) {
            self.lacks.retain(|lack| !matches!(lack, Lack::Endpoints { pool: known, .. } if known == id));
        }
        match &update.proxy {
            Some(proxy) => self.listen(proxy),
            None if self.workers.is_empty() => self.listen(&Arc::clone(&self.shared.snapshot.load().proxy)),
            None => {}
        }
        if let Some(broken) = broken {
            self.lacks.retain(|lack| !matches!(lack, Lack::Tls { .. }));
            self.lacks.extend(broken.into_iter().map(|(listener, error)| Lack::Tls { listener, error }));
        }
        let result = if update.is_empty() { Reload::Unchanged } else { Reload::Applied };
        self.shared.metrics.reload(result, update.revision, began.elapsed());
    }

    /// What the `Proxy` asks for and is not there now.
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// Waits until some pool's names resolve to something else, and takes that over. To be called in a loop.
    pub async fn next_resolution(&mut self) {
        let Resolution { pool, endpoints, refused, .. } = self.resolver.next().await;
        self.builder.resolved(&pool, endpoints);
        self.publish();
        self.prober.refresh(&pool, &self.shared.snapshot.load());
        self.lacks.retain(|lack| !matches!(lack, Lack::Endpoints { pool: known, .. } if *known == pool));
        if !refused.is_empty() {
            self.lacks.push(Lack::Endpoints { pool, addresses: refused });
        }
    }

    fn publish(&self) {
        self.shared.snapshot.store(self.builder.snapshot());
    }

    /// Tries again what could not be had.
    pub fn retry(&mut self) {
        if self.lacks.iter().any(Lack::may_come) {
            let proxy = Arc::clone(&self.shared.snapshot.load().proxy);
            self.take(&proxy);
        }
    }

    /// Brings workers and listeners to what the proxy says.
    fn listen(&mut self, proxy: &Proxy) {
        self.shared.limit_connections(proxy.limits.max_connections);
        self.scale(proxy.workers.map_or_else(default_workers, |workers| usize::from(workers.get())));
        self.take(proxy);
    }

    /// Takes from the machine what the proxy asks for, and gives back what it does not.
    fn take(&mut self, proxy: &Proxy) {
        self.lacks.retain(|lack| !lack.may_come());
        if let (Err(error), AccessLog::File(path)) =
            (self.shared.access.configure(&proxy.access_log), &proxy.access_log)
        {
            self.lacks.push(Lack::AccessLog { path: Arc::clone(path), error });
        }
        let gone: Vec<Place> = self
            .listeners
            .keys()
            .filter(|place| {
                !proxy.listeners.iter().any(|listener| (listener.address, listener.port) == **place)
            })
            .copied()
            .collect();
        for listener in &proxy.listeners {
            if let Err(error) = self.listen_on(listener) {
                let (listener, address) = (Arc::clone(&listener.name), address(listener));
                self.lacks.push(Lack::Socket { listener, address, error });
            }
        }
        // New ones first, so that a listener that moves is never nowhere.
        for place in gone {
            if let Some(running) = self.listeners.remove(&place) {
                running.drain.send_replace(true);
            }
        }
        if proxy.listeners.is_empty() {
            tracing::warn!("no listener is left: see the conditions of the Proxy");
        }
    }

    fn listen_on(&mut self, listener: &Arc<Listener>) -> io::Result<()> {
        let place = (listener.address, listener.port);
        if let Some(running) = self.listeners.get_mut(&place) {
            let current = running.state.load_full();
            if current.spec != *listener {
                running.state.store(Arc::new(ListenerState {
                    spec: Arc::clone(listener),
                    metrics: self.shared.metrics.listener(&listener.name),
                    open: Arc::clone(&current.open),
                    drain: current.drain.clone(),
                }));
            }
            return Ok(());
        }
        // Our own sockets share a port with each other, another process's only when told so.
        let ours = self.ports.get(&listener.port).and_then(Weak::upgrade);
        if ours.is_none() && !self.share_ports {
            bind(listener, 1, Sharing::Nobody)?;
        }
        let sockets = bind(listener, self.workers.len(), Sharing::Anybody)?;
        let port = ours.unwrap_or_default();
        self.ports.insert(listener.port, Arc::downgrade(&port));
        let (drain, draining) = watch::channel(false);
        let metrics = self.shared.metrics.listener(&listener.name);
        let state = ListenerState {
            spec: Arc::clone(listener),
            metrics,
            open: Arc::new(Open::default()),
            drain: draining,
        };
        let state = Arc::new(ArcSwap::from_pointee(state));
        let mut running = Running { state, port, stops: Vec::new(), drain };
        for (worker, socket) in self.workers.iter().zip(sockets) {
            running.accept(worker, socket);
        }
        tracing::info!(listener = %listener.name, address = address(listener), "listening");
        self.listeners.insert(place, running);
        Ok(())
    }

    /// Starts or retires workers. New ones take their part of every listener once all are up (each reads the machine's trust store,
    /// which takes a while where there are more of them than cores); retired ones finish what they have.
    fn scale(&mut self, count: usize) {
        while self.workers.len() > count {
            let Some(worker) = self.workers.pop() else { break };
            for running in self.listeners.values_mut() {
                running.stops.truncate(self.workers.len());
            }
            self.retired.extend(worker.retire());
        }
        let mut started = Vec::new();
        for index in self.workers.len()..count {
            match WorkerHandle::start(index, Arc::clone(&self.shared)) {
                Ok(worker) => started.push(worker),
                Err(error) => {
                    tracing::error!(%error, "a worker cannot be started");
                    break;
                }
            }
        }
        started.retain(WorkerHandle::comes_up);
        for worker in started {
            for running in self.listeners.values_mut() {
                let spec = Arc::clone(&running.state.load().spec);
                match bind(&spec, 1, Sharing::Anybody) {
                    Ok(sockets) => sockets.into_iter().for_each(|socket| running.accept(&worker, socket)),
                    Err(error) => {
                        tracing::error!(%error, listener = %spec.name, "a new worker cannot listen")
                    }
                }
            }
            self.workers.push(worker);
        }
    }

    /// Stops accepting, lets requests under way finish, and comes back when the last connection is gone, `deadline` has
    /// passed or `hurry` says so: how many connections were left. Their requests are dropped.
    pub async fn drain(mut self, deadline: Duration, hurry: impl Future<Output = ()>) -> u32 {
        for running in self.listeners.values() {
            running.drain.send_replace(true);
        }
        self.listeners.clear();
        // A worker ends once it has taken what the kernel had queued for it, and its connections are done.
        let workers: Vec<_> =
            self.workers.drain(..).filter_map(WorkerHandle::retire).chain(self.retired.drain(..)).collect();
        tokio::select! {
            () = finished(&workers) => {}
            () = tokio::time::sleep(deadline) => {}
            () = hurry => {}
        }
        let left = self.shared.open.count();
        self.shared.leaving.store(true, Ordering::Relaxed);
        let _ = tokio::time::timeout(GOODBYE, finished(&workers)).await;
        self.shared.access.flush();
        left
    }

    /// What workers and the control thread share, for the admin port.
    pub fn view(&self) -> crate::View {
        crate::View::new(Arc::clone(&self.shared))
    }
}

impl Running {
    fn accept(&mut self, worker: &WorkerHandle, socket: std::net::TcpListener) {
        let (stop, stopped) = watch::channel(());
        self.stops.push(stop);
        let (state, port) = (Arc::clone(&self.state), Arc::clone(&self.port));
        worker.accept(Accept { socket, state, stop: stopped, port });
    }
}

async fn finished(workers: &[std::thread::JoinHandle<()>]) {
    while !workers.iter().all(std::thread::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where a listener listens, in words.
fn address(listener: &Listener) -> String {
    match listener.address {
        ListenAddress::Any => format!("*:{}", listener.port),
        ListenAddress::Ip(ip) => std::net::SocketAddr::new(ip, listener.port.get()).to_string(),
    }
}

/// Whether the machine's trust store can be read. The library reads it for each worker, and panics where it cannot.
fn trust_store() -> io::Result<()> {
    let mut store = rustls::RootCertStore::empty();
    pingora_rustls::load_platform_certs_incl_env_into_store(&mut store).map_err(|error| {
        let hint = "install ca-certificates, or see to SSL_CERT_FILE and SSL_CERT_DIR";
        io::Error::other(format!("the machine's trusted certificates cannot be read ({error}): {hint}"))
    })
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}
