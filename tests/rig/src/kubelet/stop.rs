//! When must something be over? A deadline that is not set at first, and can only come nearer.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// Sets deadlines.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<Option<Instant>>);

/// Sees them.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<Option<Instant>>);

impl Stopper {
    pub(crate) fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Stop(receiver))
    }

    /// Asks for the end by then. A later time than that of before changes nothing.
    pub(crate) fn by(&self, deadline: Instant) {
        self.0.send_if_modified(|known| {
            let nearer = known.is_none_or(|known| deadline < known);
            if nearer {
                *known = Some(deadline);
            }
            nearer
        });
    }
}

impl Stop {
    /// The deadline, if the end was asked for.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits until the end is asked for.
    pub(crate) async fn requested(&mut self) -> Instant {
        loop {
            if let Some(deadline) = self.deadline() {
                return deadline;
            }
            if self.0.changed().await.is_err() {
                // Nobody can ask any more.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the time is over; a deadline may be in place already and come nearer meanwhile.
    pub(crate) async fn expired(&mut self, own: Instant) {
        loop {
            let end = self.deadline().map_or(own, |deadline| deadline.min(own));
            tokio::select! {
                () = sleep_until(end) => return,
                changed = self.0.changed() => if changed.is_err() {
                    return sleep_until(end).await;
                },
            }
        }
    }

    /// Sleeps. False if the end was asked for meanwhile.
    pub(crate) async fn pause(&mut self, time: Duration) -> bool {
        tokio::select! {
            () = sleep(time) => true,
            _ = self.requested() => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_only_come_nearer() {
        let (stopper, mut stop) = Stopper::new();
        let begun = Instant::now();
        assert!(stop.pause(Duration::from_secs(1)).await);
        stopper.by(begun + Duration::from_secs(30));
        assert!(!stop.pause(Duration::from_secs(1)).await);
        stopper.by(begun + Duration::from_secs(60));
        assert_eq!(stop.deadline(), Some(begun + Duration::from_secs(30)));
        let sooner = async {
            sleep(Duration::from_secs(4)).await;
            stopper.by(begun + Duration::from_secs(10));
        };
        tokio::join!(sooner, stop.expired(begun + Duration::from_secs(90)));
        assert_eq!(begun.elapsed(), Duration::from_secs(10));
    }
}
