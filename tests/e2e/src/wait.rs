//! Waiting for a condition, bounded.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a condition may take on a busy machine.
const LONG: Duration = Duration::from_secs(15);

/// Asks again until there is an answer; fails with `what` after 15 s.
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(LONG, ask).unwrap_or_else(|| panic!("never came true: {what}"))
}

/// Asks again until there is an answer or the time is over.
pub fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        sleep(Duration::from_millis(5));
    }
}
