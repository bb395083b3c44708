//! The data plane as a whole: workers, listeners that come and go, and the snapshot they serve.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portolan_metrics::{Metrics, Reload};
use portolan_model::id::PoolId;
use portolan_model::plan::{Endpoint, Update};
use portolan_model::proxy::{ListenAddress, Listener, Proxy};
use tokio::sync::watch;

use crate::accept::{Accept, WorkerHandle};
use crate::listener::{ListenerState, Open, bind};
use crate::pool::Endpoints;
use crate::probe::Prober;
use crate::resolve::Resolver;
use crate::shared::Shared;
use crate::snapshot::{Place, SnapshotBuilder};

/// A listener whose address could not be taken.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: cannot listen on {address}: {source}")]
pub struct ListenError {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Address and port.
    pub address: String,
    /// Why.
    #[source]
    pub source: io::Error,
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
    wanted: Vec<Arc<Listener>>,
}

struct Running {
    state: Arc<ArcSwap<ListenerState>>,
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
            wanted: Vec::new(),
        })
    }

    /// Makes an update of the plan the one that new requests see. What cannot be listened on is given back; all
    /// else is in force.
    pub fn apply(&mut self, update: &Update) -> Vec<ListenError> {
        let began = Instant::now();
        let broken = self.builder.apply(update);
        self.publish();
        self.prober.follow(update, &self.shared.snapshot.load());
        self.resolver.follow(update);
        let mut errors = match &update.proxy {
            Some(proxy) => self.listen(proxy),
            None if self.workers.is_empty() => self.listen(&Arc::clone(&self.shared.snapshot.load().proxy)),
            None => Vec::new(),
        };
        errors.extend(broken.into_iter().map(|(listener, error)| ListenError {
            listener,
            address: "tls".into(),
            source: io::Error::other(error),
        }));
        let result = if update.is_empty() { Reload::Unchanged } else { Reload::Applied };
        self.shared.metrics.reload(result, update.revision, began.elapsed());
        errors
    }

    /// Waits until some pool's names resolve to something else, and takes that over. To be called in a loop.
    pub async fn next_resolution(&mut self) {
        let (pool, endpoints) = self.resolver.next().await;
        self.resolved(&pool, endpoints);
    }

    fn resolved(&mut self, pool: &PoolId, endpoints: Vec<Endpoint>) {
        self.builder.resolved(pool, endpoints);
        self.publish();
        self.prober.refresh(pool, &self.shared.snapshot.load());
    }

    fn publish(&self) {
        self.shared.snapshot.store(self.builder.snapshot());
    }

    /// Tries again what could not be listened on; `None` where there is nothing of that kind.
    pub fn retry(&mut self) -> Option<Vec<ListenError>> {
        if self.wanted.iter().all(|listener| self.listeners.contains_key(&(listener.address, listener.port)))
        {
            return None;
        }
        let proxy = Arc::clone(&self.shared.snapshot.load().proxy);
        Some(self.listen(&proxy))
    }

    /// Brings workers and listeners to what the proxy says.
    fn listen(&mut self, proxy: &Proxy) -> Vec<ListenError> {
        self.shared.access.configure(&proxy.access_log);
        self.shared.limit_connections(proxy.limits.max_connections);
        self.scale(proxy.workers.map_or_else(default_workers, |workers| usize::from(workers.get())));
        self.wanted.clone_from(&proxy.listeners);
        let gone: Vec<Place> = self
            .listeners
            .keys()
            .filter(|place| {
                !proxy.listeners.iter().any(|listener| (listener.address, listener.port) == **place)
            })
            .copied()
            .collect();
        let mut errors = Vec::new();
        for listener in &proxy.listeners {
            if let Err(source) = self.listen_on(listener) {
                let (listener, address) = (Arc::clone(&listener.name), address(listener));
                errors.push(ListenError { listener, address, source });
            }
        }
        // New ones first, so that a listener that moves is never nowhere.
        for place in gone {
            if let Some(running) = self.listeners.remove(&place) {
                running.drain.send_replace(true);
            }
        }
        errors
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
        let sockets = bind(listener, self.workers.len())?;
        let (drain, draining) = watch::channel(false);
        let metrics = self.shared.metrics.listener(&listener.name);
        let state = ListenerState {
            spec: Arc::clone(listener),
            metrics,
            open: Arc::new(Open::default()),
            drain: draining,
        };
        let mut running = Running { state: Arc::new(ArcSwap::from_pointee(state)), stops: Vec::new(), drain };
        for (worker, socket) in self.workers.iter().zip(sockets) {
            running.accept(worker, socket);
        }
        tracing::info!(listener = %listener.name, address = address(listener), "listening");
        self.listeners.insert(place, running);
        Ok(())
    }

    /// Starts or retires workers. New ones take their part of every listener; retired ones finish what they have.
    fn scale(&mut self, count: usize) {
        while self.workers.len() > count {
            let Some(worker) = self.workers.pop() else { break };
            for running in self.listeners.values_mut() {
                running.stops.truncate(self.workers.len());
            }
            self.retired.extend(worker.retire());
        }
        while self.workers.len() < count {
            let started = WorkerHandle::start(self.workers.len(), Arc::clone(&self.shared));
            let worker = match started {
                Ok(worker) => worker,
                Err(error) => {
                    tracing::error!(%error, "a worker cannot be started");
                    return;
                }
            };
            for running in self.listeners.values_mut() {
                let spec = Arc::clone(&running.state.load().spec);
                match bind(&spec, 1) {
                    Ok(sockets) => sockets.into_iter().for_each(|socket| running.accept(&worker, socket)),
                    Err(error) => {
                        tracing::error!(%error, listener = %spec.name, "a new worker cannot listen")
                    }
                }
            }
            self.workers.push(worker);
        }
    }

    /// Stops accepting, lets requests under way finish, and comes back when the last connection is gone or `deadline` has
    /// passed: how many connections were left.
    pub async fn drain(mut self, deadline: Duration) -> u32 {
        for running in self.listeners.values() {
            running.drain.send_replace(true);
        }
        self.listeners.clear();
        // A worker ends once it has taken what the kernel had queued for it, and its connections are done.
        let workers: Vec<_> =
            self.workers.drain(..).filter_map(WorkerHandle::retire).chain(self.retired.drain(..)).collect();
        let began = Instant::now();
        while !workers.iter().all(std::thread::JoinHandle::is_finished) && began.elapsed() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.shared.access.flush();
        self.shared.open.count()
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
        worker.accept(Accept { socket, state: Arc::clone(&self.state), stop: stopped });
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
