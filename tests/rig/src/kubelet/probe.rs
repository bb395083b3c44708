//! Is a container started, ready, alive?
//!
//! A [`Check`] asks once; a [`Tally`] says what answers in a row mean; [`run`] asks at the times that the pod says, and reports changes.

mod ask;

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub(crate) use ask::{Check, Target};

/// A new container is asked more often than its period says, for it may be ready long before a second has passed. Only good answers count then.
const EARLY: Duration = Duration::from_secs(1);
/// Between two such questions.
const EARLY_STEP: Duration = Duration::from_millis(50);

/// When a probe asks, and how many answers make a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl From<&core::Probe> for Timing {
    fn from(probe: &core::Probe) -> Self {
        let seconds = |value: Option<i32>, default: u32| {
            let value = value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
            Duration::from_secs(value.into())
        };
        let count = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default).max(1)
        };
        Self {
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }
}

/// What answers in a row mean.
#[derive(Debug)]
pub(crate) struct Tally {
    good: Option<bool>,
    last: bool,
    streak: u32,
    successes: u32,
    failures: u32,
}

impl Tally {
    /// What is `good` or not, or unknown, until enough answers say otherwise.
    pub(crate) fn new(good: Option<bool>, timing: &Timing) -> Self {
        Self { good, last: false, streak: 0, successes: timing.successes, failures: timing.failures }
    }

    /// Counts an answer. Says what holds from now on, where that is another thing than before.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        self.streak = if success == self.last { self.streak.saturating_add(1) } else { 1 };
        self.last = success;
        let enough = if success { self.successes } else { self.failures };
        if self.good == Some(success) || self.streak < enough {
            return None;
        }
        self.good = Some(success);
        self.good
    }
}

/// Asks for ever; `report` is told each change, and each answer that is a failure.
pub(crate) async fn run(
    check: Check,
    timing: Timing,
    began: Option<bool>,
    since: Instant,
    mut report: impl FnMut(Option<bool>, Result<(), String>),
) {
    let mut tally = Tally::new(began, &timing);
    let mut next = since + timing.delay;
    if began != Some(true) && timing.delay.is_zero() {
        while since.elapsed() < EARLY {
            if let Ok(Ok(())) = timeout(timing.timeout, check.ask()).await {
                let change = tally.count(true);
                report(change, Ok(()));
                if change.is_some() {
                    next = Instant::now() + timing.period;
                    break;
                }
            }
            sleep(EARLY_STEP).await;
        }
    }
    loop {
        // What was missed while we were stopped is not made up for.
        next = next.max(Instant::now());
        sleep_until(next).await;
        next += timing.period;
        let answer = match timeout(timing.timeout, check.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {:?}", timing.timeout)),
        };
        report(tally.count(answer.is_ok()), answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_a_row_make_a_change() {
        let timing = Timing::from(&core::Probe {
            success_threshold: Some(2),
            failure_threshold: Some(3),
            ..Default::default()
        });
        // Answers, and what each changes: + good, - bad, . nothing.
        let rows = [
            (Some(false), "11", ".+"),
            (Some(false), "0101101", "....+.."),
            (Some(true), "00100", "....."),
            (Some(true), "000000", "..-..."),
            (Some(true), "00011", "..-.+"),
            (Some(true), "1110001000110", ".....-.....+."),
            (None, "000", "..-"),
            (None, "0011", "...+"),
        ];
        for (good, answers, wanted) in rows {
            let mut tally = Tally::new(good, &timing);
            let changes: String = answers
                .chars()
                .map(|answer| match tally.count(answer == '1') {
                    Some(true) => '+',
                    Some(false) => '-',
                    None => '.',
                })
                .collect();
            assert_eq!(changes, wanted, "{good:?} {answers}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_api() {
        let timing = Timing::from(&core::Probe::default());
        let seconds = [timing.delay, timing.period, timing.timeout].map(|time| time.as_secs());
        assert_eq!((seconds, timing.successes, timing.failures), ([0, 10, 1], 1, 3));
    }
}
