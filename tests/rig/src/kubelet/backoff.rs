//! How long until something is tried again?
//!
//! At once the first time, then after a base, doubled each time, up to thirty times the base; from the beginning once it went well for twice that
//! long. This is how the real kubelet restarts containers, whose base is 10 s.

use std::time::Duration;

/// The delays of one thing that fails again and again.
#[derive(Debug)]
pub(crate) struct Backoff {
    base: Duration,
    next: Duration,
}

impl Backoff {
    /// With nothing failed so far.
    pub(crate) fn new(base: Duration) -> Self {
        Self { base, next: Duration::ZERO }
    }

    /// How long to wait now, after something ran that long before it failed.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        let longest = self.base * 30;
        if ran >= longest * 2 {
            self.next = Duration::ZERO;
        }
        let now = self.next;
        self.next = (now * 2).clamp(self.base, longest);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let delays: Vec<_> = (0..8).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.after(Duration::from_secs(59)).as_secs(), 30);
        assert_eq!(backoff.after(Duration::from_secs(60)).as_secs(), 0);
        assert_eq!(backoff.after(Duration::ZERO).as_secs(), 1);
    }
}
