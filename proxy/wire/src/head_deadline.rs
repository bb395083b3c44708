//! Has a client taken too long over a request head?
//!
//! Timeouts per read let a client hold a connection for years at one byte a minute. This is the total: a head must be
//! whole by `limit`, and after a grace its bytes must have come at no less than a minimum rate. Pure arithmetic on
//! the time given; the answer says when to ask again, so that the owner keeps one timer and no ticks.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The time one request head may take, from its first byte or from the accepted connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadDeadline {
    /// When the head began.
    pub started: Instant,
    /// The whole head must have arrived this long after `started`.
    pub limit: Duration,
    /// The rate is not asked for in this first stretch, which pays for the round trips of a connection's start.
    pub grace: Duration,
    /// Bytes per second that must have come on average, not counting the grace; `None` asks for no rate.
    pub min_rate: Option<NonZeroU32>,
}

/// What [`HeadDeadline::check`] says of a head that is not whole yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In time. With no further byte, the head is too late or too slow at `until`: ask again then.
    Wait {
        /// When to ask again.
        until: Instant,
    },
    /// The limit has passed.
    TooLate,
    /// Fewer bytes came than the minimum rate asks for.
    TooSlow,
}

impl HeadDeadline {
    /// Judges a head of which `bytes` bytes have come by `now`.
    pub fn check(&self, now: Instant, bytes: u64) -> Verdict {
        let late = self.started + self.limit;
        if now >= late {
            return Verdict::TooLate;
        }
        let Some(rate) = self.min_rate else { return Verdict::Wait { until: late } };
        let slow =
            self.started + self.grace + Duration::from_secs(bytes.min(u64::from(u32::MAX))) / rate.get();
        if now >= slow { Verdict::TooSlow } else { Verdict::Wait { until: slow.min(late) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limit 10 s, grace 2 s, 100 bytes per second: rows of (milliseconds, bytes, verdict).
    #[test]
    fn verdicts() {
        let started = Instant::now();
        let at = |ms| started + Duration::from_millis(ms);
        let wait = |ms| Verdict::Wait { until: at(ms) };
        let deadline = HeadDeadline {
            started,
            limit: Duration::from_secs(10),
            grace: Duration::from_secs(2),
            min_rate: NonZeroU32::new(100),
        };
        let rows = [
            (0, 0, wait(2_000)),
            (1_999, 0, wait(2_000)),
            (2_000, 0, Verdict::TooSlow),
            (2_000, 1, wait(2_010)),
            (2_010, 1, Verdict::TooSlow),
            (5_000, 300, Verdict::TooSlow),
            (5_000, 301, wait(5_010)),
            (5_000, 100_000, wait(10_000)),
            (9_999, u64::MAX, wait(10_000)),
            (10_000, u64::MAX, Verdict::TooLate),
            (10_000, 0, Verdict::TooLate),
        ];
        for (ms, bytes, verdict) in rows {
            assert_eq!(deadline.check(at(ms), bytes), verdict, "{bytes} bytes at {ms} ms");
        }
    }

    #[test]
    fn without_a_rate_only_the_limit_counts() {
        let started = Instant::now();
        let limit = Duration::from_secs(10);
        let deadline = HeadDeadline { started, limit, grace: Duration::ZERO, min_rate: None };
        assert_eq!(
            deadline.check(started + Duration::from_secs(9), 0),
            Verdict::Wait { until: started + limit }
        );
        assert_eq!(deadline.check(started + limit, 0), Verdict::TooLate);
    }

    /// Asking again exactly at `until`, with nothing new, is never answered by `Wait`: the owner cannot spin.
    #[test]
    fn until_is_decisive() {
        let started = Instant::now();
        let deadline = HeadDeadline {
            started,
            limit: Duration::from_secs(10),
            grace: Duration::from_millis(500),
            min_rate: NonZeroU32::new(7),
        };
        for bytes in 0..200 {
            let Verdict::Wait { until } = deadline.check(started, bytes) else { panic!("{bytes}") };
            assert!(!matches!(deadline.check(until, bytes), Verdict::Wait { .. }), "{bytes}");
        }
    }
}
