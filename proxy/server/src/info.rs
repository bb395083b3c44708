//! What is known of a connection and of the request on it, for those whom Pingora calls without either.
//!
//! The task that serves a request carries an [`Incoming`]; [`Incoming::current`] gives it to the request's context.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use portolan_filter::Arrival;
use portolan_model::route::Scheme;
use portolan_wire::http1::Refusal;

use crate::listener::ListenerState;
use crate::watch::Watch;

/// A client's connection.
pub(crate) struct ConnInfo {
    /// Where it came in, with the settings of that time.
    pub(crate) listener: Arc<ListenerState>,
    /// The client, as the PROXY protocol says or else the socket.
    pub(crate) peer: SocketAddr,
    /// TLS, if spoken.
    pub(crate) tls: Option<TlsInfo>,
    /// How its requests arrive.
    pub(crate) arrival: Arrival,
    /// When it was accepted.
    pub(crate) accepted: Instant,
    /// Why the gate refused the body of the running request.
    refusal: Mutex<Option<Refusal>>,
    slow_body: AtomicBool,
    switched: AtomicBool,
}

/// What a handshake agreed on.
pub(crate) struct TlsInfo {
    /// The name that the client asked for, normalised.
    pub(crate) server_name: Option<Box<str>>,
    /// `TLSv1.3`, say.
    pub(crate) version: &'static str,
    /// Whether HTTP/2 was chosen.
    pub(crate) http2: bool,
}

impl ConnInfo {
    pub(crate) fn new(
        listener: Arc<ListenerState>,
        peer: SocketAddr,
        local: SocketAddr,
        tls: Option<TlsInfo>,
        accepted: Instant,
    ) -> Self {
        let scheme = if tls.is_some() { Scheme::Https } else { Scheme::Http };
        Self {
            arrival: Arrival::new(peer.ip(), scheme, local.port()),
            listener,
            peer,
            tls,
            accepted,
            refusal: Mutex::new(None),
            slow_body: AtomicBool::new(false),
            switched: AtomicBool::new(false),
        }
    }

    /// The gate refuses what the running request goes on with.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock() = Some(refusal);
    }

    /// Why the gate refused the running request's body, if it did.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        *self.refusal.lock()
    }

    /// The running request's body came too slowly.
    pub(crate) fn set_slow_body(&self) {
        self.slow_body.store(true, Ordering::Relaxed);
    }

    /// Whether the running request's body came too slowly.
    pub(crate) fn slow_body(&self) -> bool {
        self.slow_body.load(Ordering::Relaxed)
    }

    /// The response is 101: what follows is no HTTP/1.
    pub(crate) fn switch_protocols(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Whether the response was 101.
    pub(crate) fn switched_protocols(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }
}

/// A request and its connection.
#[derive(Clone)]
pub(crate) struct Incoming {
    /// The connection.
    pub(crate) conn: Arc<ConnInfo>,
    /// The deadlines of the request.
    pub(crate) watch: Arc<Watch>,
}

tokio::task_local! {
    static CURRENT: Incoming;
}

impl Incoming {
    /// Runs `request` as the one that this is about.
    pub(crate) fn scope<F: Future>(self, request: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, request)
    }

    /// The one of the running task.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }
}
