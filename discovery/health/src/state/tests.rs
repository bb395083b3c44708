use std::time::{Duration, Instant};

use portolan_model::pool::{HealthCheck, Probe};
use proptest::prelude::*;

use super::*;

const EDGE: Duration = Duration::from_millis(500);

fn check(healthy: u32, unhealthy: u32) -> HealthCheck {
    HealthCheck {
        probe: Probe::Tcp,
        interval: Duration::from_secs(5),
        edge_interval: EDGE,
        timeout: Duration::from_secs(1),
        healthy_threshold: healthy,
        unhealthy_threshold: unhealthy,
        port: None,
    }
}

/// What the verdicts are after each of `results`: `+` success, `-` failure; `?` unknown, `H` healthy, `U` unhealthy.
fn verdicts(check: &HealthCheck, results: &str) -> String {
    let now = Instant::now();
    let mut endpoint = EndpointHealth::new(now, check, 0);
    results
        .chars()
        .map(|result| {
            let outcome = if result == '+' { Outcome::Success } else { Outcome::Failure };
            endpoint.record(now, outcome, check, 0);
            match endpoint.health() {
                Health::Unknown => '?',
                Health::Healthy => 'H',
                Health::Unhealthy => 'U',
            }
        })
        .collect()
}

#[test]
fn results_in_a_row_change_the_verdict() {
    for (healthy, unhealthy, results, expected, what) in [
        (2, 3, "+", "H", "the first probe decides at once"),
        (2, 3, "-", "U", "the first probe decides at once, against the endpoint too"),
        (2, 3, "+--", "HHH", "fewer failures than the threshold change nothing"),
        (2, 3, "+---", "HHHU", "as many as the threshold do"),
        (2, 3, "---+", "UUUU", "fewer successes than the threshold change nothing"),
        (2, 3, "-++", "UUH", "as many as the threshold do"),
        (2, 3, "+--+--+--", "HHHHHHHHH", "a success in between starts the count anew"),
        (2, 3, "-+-+-+", "UUUUUU", "flapping keeps the verdict: unhealthy"),
        (2, 2, "+-+-+-", "HHHHHH", "flapping keeps the verdict: healthy"),
        (1, 1, "+-+-", "HUHU", "thresholds of one follow each result"),
        (1, 0, "+-", "HU", "a threshold of zero counts as one"),
    ] {
        assert_eq!(verdicts(&check(healthy, unhealthy), results), expected, "{what}");
    }
}

#[test]
fn nothing_is_known_of_a_new_endpoint_until_it_is_probed() {
    let (now, check) = (Instant::now(), check(2, 3));
    let mut endpoint = EndpointHealth::new(now, &check, 7);
    assert_eq!(endpoint.health(), Health::Unknown);
    let later = now + Duration::from_secs(1);
    assert_eq!(endpoint.record(later, Outcome::Failure, &check, 7), Some(Health::Unhealthy));
}

#[test]
fn an_endpoint_whose_probes_go_to_and_fro_is_unsteady() {
    for (results, unsteady) in [
        ("", false),
        ("+", false),
        ("-", false),
        ("+++++++++", false),
        ("---------", false),
        ("+++++--", false),
        ("--+", true),
        ("--++", false),
        ("+++-+", false),
        ("+++--+--", true),
        ("-+-", true),
        ("-+--------------", true),
        ("-+---------------", false),
        ("++-+------------", true),
        ("++-+------------------", false),
    ] {
        let (now, check) = (Instant::now(), check(2, 2));
        let mut endpoint = EndpointHealth::new(now, &check, 0);
        for result in results.chars() {
            let outcome = if result == '+' { Outcome::Success } else { Outcome::Failure };
            endpoint.record(now, outcome, &check, 0);
        }
        assert_eq!(endpoint.is_unsteady(), unsteady, "{results}");
    }
}

#[test]
fn the_first_probe_comes_soon_and_spread() {
    let (now, mut check) = (Instant::now(), check(2, 3));
    for (interval, within) in [(5, 1000), (3600, 1000)] {
        check.interval = Duration::from_secs(interval);
        assert_eq!(EndpointHealth::new(now, &check, 0).due(), now);
        let last = EndpointHealth::new(now, &check, u64::MAX).due() - now;
        assert!(
            last <= Duration::from_millis(within) && last > Duration::from_millis(within - 1),
            "{last:?}"
        );
    }
    check.interval = Duration::from_millis(200);
    assert!(EndpointHealth::new(now, &check, u64::MAX).due() <= now + Duration::from_millis(200));
}

/// Regression: the endpoints of a new application appear before its pods are ready, and stayed unusable for two whole intervals after they were.
#[test]
fn an_endpoint_that_was_not_healthy_yet_is_probed_often() {
    let (start, mut check) = (Instant::now(), check(2, 3));
    check.interval = Duration::from_secs(60);
    check.edge_interval = check.interval;
    let mut endpoint = EndpointHealth::new(start, &check, 0);
    for (second, outcome) in
        [Outcome::Failure, Outcome::Failure, Outcome::Success, Outcome::Success].into_iter().enumerate()
    {
        assert!(endpoint.due() <= start + Duration::from_secs(second as u64), "{second}");
        endpoint.record(endpoint.due(), outcome, &check, 0);
    }
    assert_eq!(endpoint.health(), Health::Healthy);
    let now = endpoint.due();
    endpoint.record(now, Outcome::Failure, &check, 0);
    assert!(endpoint.due() - now >= Duration::from_secs(54), "it was healthy once");
}

/// Regression: an endpoint whose link was cut got requests for longer than five seconds with an interval of two.
#[test]
fn an_endpoint_whose_probes_do_not_agree_is_probed_often() {
    let (mut now, mut check) = (Instant::now(), check(2, 2));
    check.interval = Duration::from_secs(2);
    let mut endpoint = EndpointHealth::new(now, &check, u64::MAX);
    let mut waits = String::new();
    for result in "++----------------++++++++++++++++".chars() {
        let outcome = if result == '+' { Outcome::Success } else { Outcome::Failure };
        endpoint.record(now, outcome, &check, u64::MAX);
        let wait = (endpoint.due() - now).as_secs_f64();
        waits.push(if (wait - 2.2).abs() < 0.01 { 'i' } else { 'e' });
        assert!((wait - 2.2).abs() < 0.01 || (wait - 0.55).abs() < 0.01, "{wait} s after {waits}");
        now = endpoint.due();
    }
    assert_eq!(waits, "iieeeeeeeeeeeeeeeieeeeeeeeeeeeeeei");
}

/// The naive rule, over the whole history: the verdict is the last one for which enough results in a row spoke.
fn oracle(results: &[bool], healthy: u32, unhealthy: u32) -> Health {
    let mut verdict = Health::Unknown;
    for end in 1..=results.len() {
        let last = results[end - 1];
        let run = results[..end].iter().rev().take_while(|&&result| result == last).count() as u32;
        let threshold = if end == 1 {
            1
        } else if last {
            healthy
        } else {
            unhealthy
        };
        if run >= threshold {
            verdict = if last { Health::Healthy } else { Health::Unhealthy };
        }
    }
    verdict
}

proptest! {
    #[test]
    fn verdicts_follow_the_history(
        results in prop::collection::vec(any::<bool>(), 0..40),
        healthy in 1u32..5,
        unhealthy in 1u32..5,
        random in any::<u64>(),
    ) {
        let check = check(healthy, unhealthy);
        let mut now = Instant::now();
        let mut endpoint = EndpointHealth::new(now, &check, random);
        prop_assert_eq!(oracle(&[], healthy, unhealthy), endpoint.health());
        for end in 1..=results.len() {
            now = endpoint.due();
            let outcome = if results[end - 1] { Outcome::Success } else { Outcome::Failure };
            let before = endpoint.health();
            let changed = endpoint.record(now, outcome, &check, random.rotate_left(end as u32));
            prop_assert_eq!(endpoint.health(), oracle(&results[..end], healthy, unhealthy));
            prop_assert_eq!(changed.is_some(), before != endpoint.health());
            let wait = endpoint.due() - now;
            let was_healthy = (1..=end).any(|end| oracle(&results[..end], healthy, unhealthy) == Health::Healthy);
            let mut interval = if was_healthy || end >= 10 { check.interval } else { FIRST_WITHIN };
            if results[end.saturating_sub(16)..end].iter().any(|result| *result != results[end - 1]) {
                interval = interval.min(check.edge_interval);
            }
            prop_assert!(wait >= interval.mul_f64(0.899) && wait <= interval.mul_f64(1.101));
        }
    }
}
