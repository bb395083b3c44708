//! Workers' threads, and how they accept connections.
//!
//! Every worker has a socket of its own for each listener (`SO_REUSEPORT`), so that a connection stays on one core from
//! its first packet to its last upstream byte.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora_core::apps::HttpServerOptions;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::HttpProxy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::listener::{ListenerState, Open};
use crate::serve;
use crate::service::Service;
use crate::shared::Shared;
use crate::worker::Worker;

/// Idle upstream connections that a worker keeps.
const UPSTREAM_POOL: usize = 1024;
/// More tries than any policy allows: the service decides, not Pingora.
const MAX_TRIES: usize = 16;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port is this process's own as long as one of these is there for it.
#[derive(Default)]
pub(crate) struct Ours;

/// A socket to accept on.
pub(crate) struct Accept {
    /// Bound and listening.
    pub(crate) socket: StdListener,
    /// The listener's settings, as they are at each accept.
    pub(crate) state: Arc<ArcSwap<ListenerState>>,
    /// Accepting ends when the sender is gone.
    pub(crate) stop: watch::Receiver<()>,
    /// Dropped once the socket is closed.
    pub(crate) port: Arc<Ours>,
}

/// A running worker, for those who manage it. It ends once the handle is dropped and its connections are done.
pub(crate) struct WorkerHandle {
    accepts: mpsc::UnboundedSender<Accept>,
    up: std::sync::mpsc::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl WorkerHandle {
    /// Starts a worker, which takes some time to come up.
    pub(crate) fn start(index: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (accepts, queue) = mpsc::unbounded_channel();
        let (came_up, up) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || runtime.block_on(run(index, shared, came_up, queue)))?;
        Ok(Self { accepts, up, thread: Some(thread) })
    }

    /// Waits until it is up, for the first to ask: false where it never will be.
    pub(crate) fn comes_up(&self) -> bool {
        self.up.recv().is_ok()
    }

    /// Gives it a socket to accept on.
    pub(crate) fn accept(&self, accept: Accept) {
        // A worker that is gone has no connections to take either.
        let _ = self.accepts.send(accept);
    }

    /// Lets it finish on its own.
    pub(crate) fn retire(mut self) -> Option<JoinHandle<()>> {
        self.thread.take()
    }
}

async fn run(
    index: usize,
    shared: Arc<Shared>,
    up: std::sync::mpsc::Sender<()>,
    mut queue: mpsc::UnboundedReceiver<Accept>,
) {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        max_retries: MAX_TRIES,
        ..ServerConf::default()
    };
    let mut proxy = HttpProxy::new(Service::new(Arc::clone(&shared), index), Arc::new(conf));
    proxy.handle_init_modules();
    let mut options = HttpServerOptions::default();
    // So that it is we who refuse it.
    options.allow_connect_method_proxying = true;
    proxy.server_options = Some(options);
    let (_run, running) = watch::channel(false);
    let (_close, closing) = watch::channel(true);
    let worker = Arc::new(Worker { shared, proxy: Arc::new(proxy), running, closing });
    let open = Arc::new(Open::default());
    let _ = up.send(());
    while let Some(accept) = queue.recv().await {
        // Counted before it runs: the worker must not end without having looked into the socket.
        let Some(accepting) = open.enter(u32::MAX) else { continue };
        let (worker, open) = (Arc::clone(&worker), Arc::clone(&open));
        tokio::spawn(async move {
            let _accepting = accepting;
            accept_loop(worker, accept, open).await;
        });
    }
    // No more sockets will come: the worker stays for the connections it has.
    while open.count() > 0 && !worker.shared.leaving.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn accept_loop(worker: Arc<Worker>, accept: Accept, open: Arc<Open>) {
    let Accept { socket, state, mut stop, port: _port } = accept;
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listening socket cannot be used");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.changed() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((tcp, peer)) => admit(&worker, &state, &open, tcp, peer),
            Err(error) if is_per_connection(&error) => {}
            Err(error) => {
                worker.shared.accept_failed(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // What the kernel has queued for this socket would be reset when it closes.
    let Ok(socket) = listener.into_std() else { return };
    while let Ok((tcp, peer)) = socket.accept() {
        if let Ok(tcp) = tcp.set_nonblocking(true).and_then(|()| TcpStream::from_std(tcp)) {
            admit(&worker, &state, &open, tcp, peer);
        }
    }
}

/// Serves a connection, if there is room for it.
fn admit(
    worker: &Arc<Worker>,
    state: &ArcSwap<ListenerState>,
    open: &Arc<Open>,
    tcp: TcpStream,
    peer: SocketAddr,
) {
    let state = state.load_full();
    let shared = &worker.shared;
    let here = state.open.enter(state.spec.max_connections.unwrap_or(u32::MAX));
    let everywhere = shared.open.enter(shared.max_connections());
    let (Some(here), Some(everywhere), Some(on_worker)) = (here, everywhere, open.enter(u32::MAX)) else {
        state.metrics.shed();
        // Closed without lingering: there is no room to be polite.
        let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
        return;
    };
    let counted = state.metrics.connection();
    let worker = Arc::clone(worker);
    tokio::spawn(async move {
        let _guards = (here, everywhere, on_worker, counted);
        serve::serve(worker, state, tcp, peer).await;
    });
}

/// Whether an accept failed for the one connection's sake.
fn is_per_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}
