//! How long has somebody been silent? A clock that stands still while the API server cannot be asked.
//!
//! Pure. What shows no sign of life by way of an API server that does not answer may well be alive: for liveness, the time of an outage
//! does not count.

use std::time::{Duration, Instant};

/// An API server that was reached so long ago may be away; it is asked more often.
const DOUBT: Duration = Duration::from_secs(6);

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    reached: Option<Instant>,
    /// Of all outages so far.
    lost: Duration,
}

impl Heard {
    /// The API server answered then.
    pub(crate) fn reached(&mut self, at: Instant) {
        if let Some(before) = self.reached {
            let gap = at.saturating_duration_since(before);
            if gap > DOUBT {
                self.lost += gap;
            }
        }
        self.reached = self.reached.max(Some(at));
    }

    /// What this clock shows. It may go back by a few seconds after an outage.
    pub(crate) fn at(&self, now: Instant) -> Instant {
        let now = self.reached.map_or(now, |reached| now.min(reached + DOUBT));
        now.checked_sub(self.lost).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_outage_does_not_count() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut heard = Heard::default();
        assert_eq!(heard.at(at(3)), at(3));
        for second in [100, 102, 104] {
            heard.reached(at(second));
        }
        for (now, shown) in [(104, 104), (109, 109), (110, 110), (111, 110), (150, 110)] {
            assert_eq!(heard.at(at(now)), at(shown), "{now}");
        }
        heard.reached(at(160));
        for (now, shown) in [(160, 104), (163, 107)] {
            assert_eq!(heard.at(at(now)), at(shown), "{now}");
        }
        heard.reached(at(162));
        heard.reached(at(150));
        assert_eq!(heard.at(at(164)), at(108));
    }
}
