//! What the workers and the control thread share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use portolan_metrics::Metrics;
use portolan_model::id::PoolId;

use crate::access::AccessLog;
use crate::clock::Clock;
use crate::listener::Open;
use crate::snapshot::Snapshot;

/// File descriptors that are not connections: listeners, logs, watches, probes.
const OTHER_FILES: u64 = 256;
/// Fewer connections than that are worth a word, also where none are asked for.
const FEW: u32 = 4096;

/// See the module's documentation.
pub(crate) struct Shared {
    /// What new requests see.
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// The access log.
    pub(crate) access: AccessLog,
    /// The time of day.
    pub(crate) clock: Clock,
    /// Whether workers are to drop what they serve.
    pub(crate) leaving: AtomicBool,
    /// Open connections of all listeners.
    pub(crate) open: Arc<Open>,
    max_connections: AtomicU32,
    random: AtomicU64,
    /// The second of the last complaint about accepting.
    accept_failures: AtomicU64,
}

impl Shared {
    pub(crate) fn new(snapshot: Arc<Snapshot>, metrics: Arc<Metrics>, seed: u64) -> io::Result<Self> {
        Ok(Self {
            snapshot: ArcSwap::new(snapshot),
            access: AccessLog::start(metrics.dropped_log_lines())?,
            clock: Clock::default(),
            accept_failures: AtomicU64::new(0),
            metrics,
            leaving: AtomicBool::new(false),
            open: Arc::new(Open::default()),
            max_connections: AtomicU32::new(u32::MAX),
            random: AtomicU64::new(seed),
        })
    }

    /// Sets how many connections there may be at once; what the open-file limit allows without. Each connection may need another
    /// one upstream.
    pub(crate) fn limit_connections(&self, wanted: Option<u32>) {
        let files = raise_file_limit();
        let possible = u32::try_from(files.saturating_sub(OTHER_FILES) / 2).unwrap_or(u32::MAX).max(1);
        let expected = wanted.unwrap_or(FEW);
        if expected > possible {
            let needed = u64::from(expected) * 2 + OTHER_FILES;
            let wanted =
                wanted.map_or_else(String::new, |wanted| format!(", and limits.maxConnections is {wanted}"));
            tracing::warn!(
                "the open-file limit of {files} suffices for {possible} connections{wanted}: \
                 raise it to {needed} (LimitNOFILE= in systemd, ulimit -n in a shell)"
            );
        }
        self.max_connections.store(wanted.map_or(possible, |wanted| wanted.min(possible)), Ordering::Relaxed);
    }

    /// How many connections there may be at once.
    pub(crate) fn max_connections(&self) -> u32 {
        self.max_connections.load(Ordering::Relaxed)
    }

    /// Accepting failed. Says so once a second.
    pub(crate) fn accept_failed(&self, error: &io::Error) {
        let second =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.accept_failures.swap(second, Ordering::Relaxed) != second {
            tracing::error!(%error, "connections cannot be accepted");
        }
    }

    /// Probes have come to another verdict about an endpoint.
    pub(crate) fn health_changed(&self, pool: &PoolId, address: SocketAddr, healthy: bool) {
        tracing::info!(%pool, endpoint = %address, healthy, "health changed");
    }

    /// The number of a request's id.
    pub(crate) fn random_id(&self) -> u128 {
        u128::from(self.random()) << 64 | u128::from(self.random())
    }

    /// A number to spread things by, not to keep secrets with (SplitMix64).
    pub(crate) fn random(&self) -> u64 {
        portolan_balance::scramble(self.random.fetch_add(1, Ordering::Relaxed))
    }
}

/// Raises this process's limit of open files as far as it may, and gives what it is.
fn raise_file_limit() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}
