//! The probe state machine of one endpoint: what its probes came to, and when the next is due.
//!
//! Invariants: an endpoint is usable until a probe has said otherwise; the very first probe decides at once; after that
//! a verdict changes only when `threshold` results in a row contradict it, so an endpoint that flaps faster than that keeps
//! the verdict it had. One that appeared before it was ready, as those of a new application do, is probed often at first, and so is one whose last
//! probes do not agree.
//!
//! Behind one address there may be several backends, as behind a node port, some of them dead: its probes succeed and fail by turns; or an endpoint is
//! about to be well again. Such a one is *unsteady*, and where no healthy one is left it is better than none.
//!
//! Cost: a few integer operations per probe, 32 bytes per endpoint.

use std::time::{Duration, Instant};

use portolan_model::pool::HealthCheck;

/// Probes are spread by this share of their interval, so that endpoints that appeared together drift apart.
const JITTER: f64 = 0.1;

/// The first probe of an endpoint comes within its interval, but no later than this.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// So many probes of an endpoint that was not healthy yet come that soon after each other.
const EARLY: u32 = 10;

/// What probes say about an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not probed yet.
    #[default]
    Unknown,
    /// Answers as expected.
    Healthy,
    /// Does not.
    Unhealthy,
}

/// What one probe came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered as expected, in time.
    Success,
    /// It was not.
    Failure,
}

/// The probe state of one endpoint.
#[derive(Clone, Debug)]
pub struct EndpointHealth {
    health: Health,
    /// Results in a row that contradict `health`.
    contradictions: u32,
    /// What the last probes came to, the latest in the lowest bit; 1 is success.
    recent: u16,
    /// Probes before it was healthy for the first time; `EARLY` from then on.
    early: u32,
    due: Instant,
}

impl EndpointHealth {
    /// An endpoint that has just appeared; its first probe comes soon, at a moment that `random` chooses.
    pub fn new(now: Instant, check: &HealthCheck, random: u64) -> Self {
        let within = check.interval.min(FIRST_WITHIN);
        Self {
            health: Health::Unknown,
            contradictions: 0,
            recent: 0,
            early: 0,
            due: now + within.mul_f64(unit(random)),
        }
    }

    /// What the probes so far come to.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether it is unhealthy, but its last probe succeeded, or the last sixteen went to and fro.
    pub fn is_unsteady(&self) -> bool {
        self.health == Health::Unhealthy && (self.changes() > 1 || self.recent & 1 == 1)
    }

    /// How often the last sixteen probes changed from success to failure or back.
    fn changes(&self) -> u32 {
        ((self.recent ^ self.recent >> 1) & 0x7fff).count_ones()
    }

    /// When the next probe is to start.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Takes in what a probe that ended at `now` came to and sets the next one; gives back the verdict where it changed.
    pub fn record(
        &mut self,
        now: Instant,
        outcome: Outcome,
        check: &HealthCheck,
        random: u64,
    ) -> Option<Health> {
        self.recent = match (self.health, outcome) {
            (Health::Unknown, Outcome::Success) => u16::MAX,
            (Health::Unknown, Outcome::Failure) => 0,
            (_, outcome) => self.recent << 1 | u16::from(outcome == Outcome::Success),
        };
        let changed = self.judge(outcome, check);
        self.early = if self.health == Health::Healthy { EARLY } else { (self.early + 1).min(EARLY) };
        let mut interval = check.interval;
        if self.early < EARLY {
            interval = interval.min(FIRST_WITHIN);
        }
        if self.changes() > 0 {
            interval = interval.min(check.edge_interval);
        }
        self.due = next_probe(now, interval, random);
        changed
    }

    fn judge(&mut self, outcome: Outcome, check: &HealthCheck) -> Option<Health> {
        let (verdict, threshold) = match outcome {
            Outcome::Success => (Health::Healthy, check.healthy_threshold),
            Outcome::Failure => (Health::Unhealthy, check.unhealthy_threshold),
        };
        if verdict == self.health {
            self.contradictions = 0;
            return None;
        }
        self.contradictions += 1;
        if self.health != Health::Unknown && self.contradictions < threshold {
            return None;
        }
        self.health = verdict;
        self.contradictions = 0;
        Some(verdict)
    }
}

/// One interval from `now`, give or take a tenth.
fn next_probe(now: Instant, interval: Duration, random: u64) -> Instant {
    now + interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * unit(random))
}

/// A number in 0..1, from 53 random bits.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
