//! The living state of one endpoint of one pool: how many requests are under way there, and whether it may get more.
//!
//! Invariant: `in_flight` equals the number of living [`InFlight`] guards. Cost: one relaxed atomic operation each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use portolan_model::id::PoolId;

/// Who an endpoint is, whatever the configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The pool.
    pub pool: PoolId,
    /// The address.
    pub address: SocketAddr,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct EndpointState {
    in_flight: AtomicU32,
    usable: AtomicBool,
}

impl Default for EndpointState {
    fn default() -> Self {
        Self { in_flight: AtomicU32::new(0), usable: AtomicBool::new(true) }
    }
}

impl EndpointState {
    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Requests under way.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Whether requests may be sent there; so it is until a probe has said otherwise.
    pub fn is_usable(&self) -> bool {
        self.usable.load(Relaxed)
    }

    /// Says what probes came to.
    pub fn set_usable(&self, usable: bool) {
        self.usable.store(usable, Relaxed);
    }
}

/// A request under way.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_under_way_are_counted() {
        let state = Arc::new(EndpointState::default());
        let (first, second) = (state.begin(), state.begin());
        assert_eq!(state.in_flight(), 2);
        drop(first);
        assert_eq!(state.in_flight(), 1);
        drop(second);
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn an_endpoint_is_usable_until_told_otherwise() {
        let state = EndpointState::default();
        assert!(state.is_usable());
        state.set_usable(false);
        assert!(!state.is_usable());
    }
}
