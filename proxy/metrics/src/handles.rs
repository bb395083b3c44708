//! What requests count with: a handle per listener and per cluster, resolved when a Snapshot is built.
//!
//! Cost: each call is one to four uncontended atomic additions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use crate::cells::{Cells, DURATION_CELLS, observe};
use crate::table::{CODES, FLAGS};

/// How a TLS handshake with a client ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// In TLS 1.2.
    Tls12,
    /// In TLS 1.3.
    Tls13,
    /// Refused for its server name.
    UnknownName,
    /// Otherwise not.
    Failed,
    /// Not in time.
    Timeout,
}

/// The values of `result`, by [`Handshake`].
pub(crate) const HANDSHAKES: [&str; 5] = ["tls1.2", "tls1.3", "unknown_name", "failed", "timeout"];

/// How a connection to an endpoint came about, or did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// Opened.
    New,
    /// Taken from those kept.
    Reused,
    /// Refused, reset, or its TLS failed.
    Failed,
    /// Not in time.
    Timeout,
}

/// The values of `result`, by [`Connect`].
pub(crate) const CONNECTS: [&str; 4] = ["new", "reused", "failed", "timeout"];

/// Where each kind of count begins in a block.
pub(crate) mod at {
    use super::*;

    pub(crate) const CODE: usize = 0;
    pub(crate) const FLAG: usize = CODE + CODES.len();
    pub(crate) const DURATION: usize = FLAG + FLAGS;
    pub(crate) const OWN: usize = DURATION + DURATION_CELLS;

    pub(crate) const RECEIVED: usize = OWN;
    pub(crate) const SENT: usize = OWN + 1;
    pub(crate) const ACCEPTED: usize = OWN + 2;
    pub(crate) const SHED: usize = OWN + 3;
    pub(crate) const HANDSHAKE: usize = OWN + 4;
    pub(crate) const LISTENER_END: usize = HANDSHAKE + HANDSHAKES.len();

    pub(crate) const RETRIES: usize = OWN;
    pub(crate) const CONNECT: usize = OWN + 1;
    pub(crate) const CLUSTER_END: usize = CONNECT + CONNECTS.len();
}

/// Counts an end: its class, its flag, and how long it took.
fn count_end<const N: usize>(cells: &Cells<N>, status: u16, flag: Option<usize>) {
    let mine = cells.mine();
    let class = usize::from(status / 100);
    mine[at::CODE + if class < CODES.len() { class } else { 0 }].fetch_add(1, Relaxed);
    if let Some(flag) = flag {
        mine[at::FLAG + flag.min(FLAGS - 1)].fetch_add(1, Relaxed);
    }
}

/// What is counted at a listener.
pub struct ListenerMetrics {
    pub(crate) cells: Cells<{ at::LISTENER_END }>,
    pub(crate) open: AtomicI64,
}

impl ListenerMetrics {
    pub(crate) fn new(shards: usize) -> Self {
        Self { cells: Cells::new(shards), open: AtomicI64::new(0) }
    }

    /// A request ended after `duration`: with that status, 0 where none was sent, and the flag of that index, if any.
    pub fn request(&self, status: u16, flag: Option<usize>, duration: Duration) {
        count_end(&self.cells, status, flag);
        observe(&self.cells.mine()[at::DURATION..at::OWN], duration);
    }

    /// Bytes of bodies went by.
    pub fn bytes(&self, received: u64, sent: u64) {
        let mine = self.cells.mine();
        for (cell, bytes) in [(at::RECEIVED, received), (at::SENT, sent)] {
            if bytes > 0 {
                mine[cell].fetch_add(bytes, Relaxed);
            }
        }
    }

    /// A connection was accepted; it is open until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> ConnectionGuard {
        self.cells.mine()[at::ACCEPTED].fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        ConnectionGuard(Arc::clone(self))
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> i64 {
        self.open.load(Relaxed)
    }

    /// A connection was closed at once for a limit on connections.
    pub fn shed(&self) {
        self.cells.mine()[at::SHED].fetch_add(1, Relaxed);
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, result: Handshake) {
        self.cells.mine()[at::HANDSHAKE + result as usize].fetch_add(1, Relaxed);
    }
}

/// An open connection.
pub struct ConnectionGuard(Arc<ListenerMetrics>);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// What is counted of requests routed to a cluster.
pub struct ClusterMetrics {
    pub(crate) cells: Cells<{ at::CLUSTER_END }>,
}

impl ClusterMetrics {
    pub(crate) fn new(shards: usize) -> Self {
        Self { cells: Cells::new(shards) }
    }

    /// A request ended: with that status, 0 where none was sent, and the flag of that index, if any.
    pub fn request(&self, status: u16, flag: Option<usize>) {
        count_end(&self.cells, status, flag);
    }

    /// The head of an endpoint's response came after `duration`.
    pub fn response(&self, duration: Duration) {
        observe(&self.cells.mine()[at::DURATION..at::OWN], duration);
    }

    /// A connection was taken for a request, or was to be.
    pub fn connect(&self, result: Connect) {
        self.cells.mine()[at::CONNECT + result as usize].fetch_add(1, Relaxed);
    }

    /// Another try begins.
    pub fn retry(&self) {
        self.cells.mine()[at::RETRIES].fetch_add(1, Relaxed);
    }
}
