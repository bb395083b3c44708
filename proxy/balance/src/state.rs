//! The living state of one endpoint of one pool: how many requests are under way there, and how fit it is for more.
//!
//! Invariant: `in_flight` equals the number of living [`InFlight`] guards. Cost: one relaxed atomic operation each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use portolan_model::id::PoolId;

/// Who an endpoint is, whatever the configuration says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey {
    /// The pool.
    pub pool: PoolId,
    /// The address.
    pub address: SocketAddr,
}

/// Whether an endpoint may get requests, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fitness {
    /// No.
    Unfit,
    /// Where none is fit: unhealthy, but its probes succeed now and then.
    Unsteady,
    /// Yes.
    Fit,
}

impl Fitness {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unfit => "unfit",
            Self::Unsteady => "unsteady",
            Self::Fit => "fit",
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct EndpointState {
    in_flight: AtomicU32,
    fitness: AtomicU8,
}

impl Default for EndpointState {
    fn default() -> Self {
        Self { in_flight: AtomicU32::new(0), fitness: AtomicU8::new(Fitness::Fit as u8) }
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

    /// Whether requests may be sent there; an endpoint is fit until a probe has said otherwise.
    pub fn fitness(&self) -> Fitness {
        match self.fitness.load(Relaxed) {
            0 => Fitness::Unfit,
            1 => Fitness::Unsteady,
            _ => Fitness::Fit,
        }
    }

    /// Says what probes came to.
    pub fn set_fitness(&self, fitness: Fitness) {
        self.fitness.store(fitness as u8, Relaxed);
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
    fn an_endpoint_is_fit_until_told_otherwise() {
        let state = EndpointState::default();
        assert_eq!(state.fitness(), Fitness::Fit);
        for fitness in [Fitness::Unfit, Fitness::Unsteady, Fitness::Fit] {
            state.set_fitness(fitness);
            assert_eq!(state.fitness(), fitness);
        }
    }
}
