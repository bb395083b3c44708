//! How long to wait before trying again? Twice as long as before, and up to half of that less by chance.
//!
//! Pure: chance is an argument.

use std::time::Duration;

/// Waits that grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    next: Duration,
    at_most: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);

    pub(crate) fn up_to(at_most: Duration) -> Self {
        Self { next: Self::FIRST, at_most }
    }

    /// All is well: the next wait is short again.
    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// The next wait.
    pub(crate) fn wait(&mut self, chance: u64) -> Duration {
        let whole = self.next.min(self.at_most);
        self.next = (whole * 2).min(self.at_most);
        let thousandths = u32::try_from(chance % 500).unwrap_or_default();
        whole - whole * thousandths / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_a_bound_and_start_again() {
        let mut backoff = Backoff::up_to(Duration::from_secs(1));
        let waits: Vec<_> = [0, 0, 499, 1_250, 0].map(|chance| backoff.wait(chance).as_millis()).into();
        assert_eq!(waits, [200, 400, 400, 750, 1000]);
        backoff.reset();
        assert_eq!(backoff.wait(0), Backoff::FIRST);
    }
}
