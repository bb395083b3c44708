//! A listener at run time: its settings, its count of connections. (Its TLS is in the Snapshot.)

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use portolan_metrics::ListenerMetrics;
use portolan_model::proxy::{ListenAddress, Listener};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

/// Connections that wait to be accepted, per socket.
const BACKLOG: i32 = 4096;

/// What connections of a listener share. Replaced, not changed, when the listener's settings change: connections keep
/// the one they came with.
pub(crate) struct ListenerState {
    /// The settings.
    pub(crate) spec: Arc<Listener>,
    /// What is counted of it.
    pub(crate) metrics: Arc<ListenerMetrics>,
    /// Its open connections, old settings' included.
    pub(crate) open: Arc<Open>,
    /// Turns true when its connections shall end.
    pub(crate) drain: watch::Receiver<bool>,
}

/// A count of open connections.
#[derive(Debug, Default)]
pub(crate) struct Open(AtomicU32);

impl Open {
    /// Counts one more, unless that would be too many. The count goes down when the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>, limit: u32) -> Option<OpenGuard> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= limit {
            self.0.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(OpenGuard(Arc::clone(self)))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One open connection.
pub(crate) struct OpenGuard(Arc<Open>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Who else may listen on a socket's address and port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Nobody,
    /// Sockets of the same user that share as well; the kernel spreads connections over them.
    Anybody,
}

/// Opens `count` sockets on the listener's address and port.
pub(crate) fn bind(listener: &Listener, count: usize, sharing: Sharing) -> io::Result<Vec<TcpListener>> {
    let port = listener.port.get();
    let (address, v6_only) = match listener.address {
        ListenAddress::Any => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), false),
        ListenAddress::Ip(ip) => (ip, true),
    };
    let bind_all = |address: SocketAddr| {
        (0..count).map(|_| bind_one(address, v6_only, sharing)).collect::<io::Result<Vec<_>>>()
    };
    match bind_all(SocketAddr::new(address, port)) {
        // A machine without IPv6.
        Err(error) if listener.address == ListenAddress::Any && is_unsupported(&error) => {
            bind_all(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))
        }
        bound => bound,
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn bind_one(address: SocketAddr, v6_only: bool, sharing: Sharing) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(v6_only)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Anybody)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // To find out whether nobody else listens, it is enough to have the address.
    if sharing == Sharing::Anybody {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}
