//! When is a burst of events over? After some quiet, or some time after its first event, whichever is first.
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

/// How long bursts may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// So long without an event ends one.
    pub(crate) quiet: Duration,
    /// It ends so long after its first event.
    pub(crate) at_most: Duration,
}

/// A burst under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Burst {
    pace: Pace,
    first: Instant,
    last: Instant,
}

impl Burst {
    /// A burst whose first event is now.
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, first: now, last: now }
    }

    /// Another event belongs to it.
    pub(crate) fn event(&mut self, now: Instant) {
        self.last = now;
    }

    /// When it is over, if nothing else happens.
    pub(crate) fn over_at(&self) -> Instant {
        (self.last + self.pace.quiet).min(self.first + self.pace.at_most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_ends_after_quiet_or_at_its_longest() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let pace = Pace { quiet: Duration::from_millis(20), at_most: Duration::from_millis(80) };
        for (events, over) in [
            (&[0][..], 20),
            (&[0, 5, 10], 30),
            (&[0, 19, 38, 57], 77),
            (&[0, 19, 38, 57, 70], 80),
            (&[0, 19, 38, 57, 76, 79], 80),
        ] {
            let mut burst = Burst::new(pace, at(events[0]));
            events.iter().for_each(|&millis| burst.event(at(millis)));
            assert_eq!(burst.over_at(), at(over), "{events:?}");
        }
    }
}
