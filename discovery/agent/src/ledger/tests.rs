use std::collections::{BTreeMap, BTreeSet};

use super::*;

const PACE: Pace = Pace { rate: 10.0, burst: 20.0, in_flight: 2, quiet: Duration::from_millis(10) };

struct Clock(Instant);

impl Clock {
    fn at(&self, millis: u64) -> Instant {
        self.0 + Duration::from_millis(millis)
    }
}

fn start() -> (Ledger<&'static str>, Clock) {
    (Ledger::new(PACE), Clock(Instant::now()))
}

fn next(ledger: &mut Ledger<&'static str>, now: Instant) -> Next<&'static str> {
    ledger.next(now, |_, _, _| May::Now)
}

const ZERO: Duration = Duration::ZERO;

#[test]
fn only_what_differs_is_written() {
    let (mut ledger, clock) = start();
    ledger.have(&"same", Some(1), 5, clock.at(0));
    ledger.want(&"same", Want::Digest(1), clock.at(0), ZERO);
    ledger.have(&"changed", Some(1), 5, clock.at(0));
    ledger.want(&"changed", Want::Digest(2), clock.at(1), ZERO);
    ledger.have(&"left", Some(1), 5, clock.at(0));
    ledger.want(&"left", Want::Nothing, clock.at(2), ZERO);
    ledger.have(&"held", Some(1), 5, clock.at(0));
    ledger.want(&"held", Want::Held, clock.at(3), ZERO);
    ledger.have(&"unknown", Some(1), 5, clock.at(0));
    // A change waits a moment for others.
    assert_eq!(next(&mut ledger, clock.at(3)), Next::Wait(Some(clock.at(11))));
    assert_eq!(next(&mut ledger, clock.at(12)), Next::Do("changed", Op::Apply));
    assert_eq!(next(&mut ledger, clock.at(12)), Next::Do("left", Op::Delete));
    // So many at once.
    assert_eq!(next(&mut ledger, clock.at(12)), Next::Wait(None));
    ledger.done(&"changed", &Outcome::Done(Some((2, 6))), clock.at(20), 0.5);
    ledger.done(&"left", &Outcome::Done(None), clock.at(20), 0.5);
    assert_eq!(next(&mut ledger, clock.at(100)), Next::Wait(None));
    assert_eq!(ledger.pending(), 0);
    assert!(ledger.is_right(&"changed") && !ledger.is_right(&"held") && !ledger.is_there(&"left"));
}

#[test]
fn what_changes_while_it_is_written_is_written_again_once() {
    let (mut ledger, clock) = start();
    ledger.want(&"a", Want::Digest(1), clock.at(0), ZERO);
    assert_eq!(next(&mut ledger, clock.at(10)), Next::Do("a", Op::Apply));
    for digest in 2..9 {
        ledger.want(&"a", Want::Digest(digest), clock.at(11), ZERO);
    }
    assert_eq!(next(&mut ledger, clock.at(100)), Next::Wait(None));
    ledger.done(&"a", &Outcome::Done(Some((1, 6))), clock.at(100), 0.5);
    assert_eq!(next(&mut ledger, clock.at(110)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Done(Some((8, 7))), clock.at(120), 0.5);
    // The watch is behind, and changes nothing.
    ledger.have(&"a", Some(1), 6, clock.at(121));
    assert_eq!(next(&mut ledger, clock.at(200)), Next::Wait(None));
    // An edit by somebody else is undone.
    ledger.have(&"a", Some(77), 9, clock.at(300));
    assert_eq!(next(&mut ledger, clock.at(310)), Next::Do("a", Op::Apply));
}

#[test]
fn a_change_that_is_taken_back_is_no_write() {
    let (mut ledger, clock) = start();
    ledger.have(&"a", Some(1), 1, clock.at(0));
    ledger.want(&"a", Want::Digest(2), clock.at(0), ZERO);
    ledger.want(&"a", Want::Digest(1), clock.at(5), ZERO);
    assert_eq!(next(&mut ledger, clock.at(100)), Next::Wait(None));
}

#[test]
fn writes_keep_the_pace() {
    let (mut ledger, clock) = start();
    let keys: Vec<&'static str> = (0..60).map(|n| &*Box::leak(format!("k{n}").into_boxed_str())).collect();
    for key in &keys {
        ledger.want(key, Want::Digest(1), clock.at(0), ZERO);
    }
    let mut written = 0;
    for millis in 10..=2010 {
        while let Next::Do(key, _) = next(&mut ledger, clock.at(millis)) {
            ledger.done(&key, &Outcome::Done(Some((1, 1))), clock.at(millis), 0.5);
            written += 1;
        }
    }
    // Twenty at once, and ten a second for two seconds.
    assert_eq!(written, 40);
}

#[test]
fn what_is_refused_waits_ever_longer_unless_something_else_is_wanted() {
    let (mut ledger, clock) = start();
    ledger.want(&"a", Want::Digest(1), clock.at(0), ZERO);
    assert_eq!(next(&mut ledger, clock.at(10)), Next::Do("a", Op::Apply));
    assert!(ledger.is_to_come(&"a"));
    ledger.done(&"a", &Outcome::Refused, clock.at(20), 1.0);
    // It stands in nobody's way.
    assert!(ledger.tried() && !ledger.is_to_come(&"a") && ledger.reachable());
    assert_eq!(next(&mut ledger, clock.at(1000)), Next::Wait(Some(clock.at(1020))));
    ledger.want(&"a", Want::Digest(2), clock.at(1000), ZERO);
    assert_eq!(next(&mut ledger, clock.at(1010)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Refused, clock.at(1020), 0.0);
    assert_eq!(next(&mut ledger, clock.at(1519)), Next::Wait(Some(clock.at(1520))));
    assert_eq!(next(&mut ledger, clock.at(1520)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Refused, clock.at(1520), 1.0);
    assert_eq!(next(&mut ledger, clock.at(2000)), Next::Wait(Some(clock.at(3520))));
}

/// Regression: what was refused was tried again so often that it took all tokens, and a change that nobody refused waited for minutes.
#[test]
fn what_is_refused_leaves_room_for_what_is_not() {
    let (mut ledger, clock) = start();
    let keys: Vec<&'static str> = (0..100).map(|n| &*Box::leak(format!("k{n}").into_boxed_str())).collect();
    for key in &keys {
        ledger.want(key, Want::Digest(1), clock.at(0), ZERO);
    }
    for millis in (10..45_000).step_by(10) {
        while let Next::Do(key, _) = next(&mut ledger, clock.at(millis)) {
            ledger.done(&key, &Outcome::Refused, clock.at(millis), 1.0);
        }
    }
    ledger.want(&"fresh", Want::Digest(1), clock.at(45_000), ZERO);
    assert_eq!(next(&mut ledger, clock.at(45_010)), Next::Do("fresh", Op::Apply));
}

#[test]
fn what_is_refused_is_tried_soon_at_first() {
    let (mut ledger, clock) = start();
    ledger.want(&"a", Want::Digest(1), clock.at(0), ZERO);
    let mut tries = Vec::new();
    for second in 1..1000 {
        if let Next::Do(key, _) = next(&mut ledger, clock.at(second * 1000)) {
            tries.push(second);
            ledger.done(&key, &Outcome::Refused, clock.at(second * 1000), 1.0);
        }
    }
    assert_eq!(tries, [1, 2, 4, 8, 38, 98, 218, 458, 758]);
}

#[test]
fn an_api_server_that_is_away_is_asked_by_one_write_at_a_time() {
    let (mut ledger, clock) = start();
    for key in ["a", "b", "c"] {
        ledger.want(&key, Want::Digest(1), clock.at(0), ZERO);
    }
    assert_eq!(next(&mut ledger, clock.at(10)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Unreachable, clock.at(20), 1.0);
    assert!(!ledger.reachable());
    // Nobody before the pause is over; then another one, alone.
    assert_eq!(next(&mut ledger, clock.at(100)), Next::Wait(Some(clock.at(220))));
    assert_eq!(next(&mut ledger, clock.at(220)), Next::Do("b", Op::Apply));
    assert_eq!(next(&mut ledger, clock.at(230)), Next::Wait(None));
    let mut now = 230;
    for _ in 0..20 {
        ledger.done(&"b", &Outcome::Unreachable, clock.at(now), 1.0);
        assert!(
            matches!(next(&mut ledger, clock.at(now)), Next::Wait(Some(at)) if at <= clock.at(now + 10_000))
        );
        now += 10_000;
        while let Next::Do(key, _) = next(&mut ledger, clock.at(now)) {
            if key != "b" {
                ledger.done(&key, &Outcome::Unreachable, clock.at(now), 0.0);
                now += 10_000;
            }
        }
    }
    // Days later it is back: everything is written, what did not get through one after another.
    ledger.done(&"b", &Outcome::Done(Some((1, 1))), clock.at(now), 1.0);
    assert!(ledger.reachable());
    ledger.want(&"d", Want::Digest(1), clock.at(now), ZERO);
    let Next::Do(first, Op::Apply) = next(&mut ledger, clock.at(now + 10)) else { panic!("nothing") };
    assert_eq!(next(&mut ledger, clock.at(now + 10)), Next::Do("d", Op::Apply));
    assert_eq!(next(&mut ledger, clock.at(now + 10)), Next::Wait(None));
    ledger.done(&first, &Outcome::Done(Some((1, 2))), clock.at(now + 11), 1.0);
    let Next::Do(second, Op::Apply) = next(&mut ledger, clock.at(now + 11)) else { panic!("one") };
    assert_eq!(BTreeSet::from([first, second]), ["a", "c"].into());
}

#[test]
fn what_may_not_be_done_yet_is_passed_over() {
    let (mut ledger, clock) = start();
    for key in ["late", "now"] {
        ledger.want(&key, Want::Digest(1), clock.at(0), ZERO);
    }
    let may = |ledger: &Ledger<&'static str>, key: &&'static str, _: Op| {
        if *key == "late" && ledger.is_to_come(&"now") { May::Soon } else { May::Now }
    };
    assert_eq!(ledger.next(clock.at(10), may), Next::Do("now", Op::Apply));
    assert_eq!(ledger.next(clock.at(10), may), Next::Wait(None));
    ledger.done(&"now", &Outcome::Done(Some((1, 1))), clock.at(10), 0.5);
    assert_eq!(ledger.next(clock.at(10), may), Next::Do("late", Op::Apply));
}

#[test]
fn what_may_be_done_later_is_looked_at_now_and_then() {
    let (mut ledger, clock) = start();
    for key in ["held", "other"] {
        ledger.want(&key, Want::Digest(1), clock.at(0), ZERO);
    }
    let looked = std::cell::Cell::new(0);
    let may = |_: &Ledger<&'static str>, key: &&'static str, _: Op| {
        looked.set(looked.get() + usize::from(*key == "held"));
        if *key == "held" { May::Later } else { May::Now }
    };
    assert!(!ledger.tried());
    assert_eq!(ledger.next(clock.at(10), may), Next::Do("other", Op::Apply));
    for millis in 10..1010 {
        assert_eq!(ledger.next(clock.at(millis), may), Next::Wait(Some(clock.at(1010))));
    }
    assert!(!ledger.tried(), "the other is under way");
    assert_eq!((ledger.next(clock.at(1010), may), looked.get()), (Next::Wait(Some(clock.at(2010))), 2));
    ledger.done(&"other", &Outcome::Done(Some((1, 1))), clock.at(1010), 0.5);
    assert!(ledger.tried());
    // Something else that is wanted of it may be done.
    ledger.want(&"held", Want::Digest(2), clock.at(1010), ZERO);
    assert_eq!(next(&mut ledger, clock.at(1020)), Next::Do("held", Op::Apply));
}

#[test]
fn a_delay_holds_and_is_given_up_with_the_wish() {
    let (mut ledger, clock) = start();
    ledger.have(&"a", Some(1), 1, clock.at(0));
    ledger.want(&"a", Want::Digest(1), clock.at(0), ZERO);
    ledger.want(&"a", Want::Nothing, clock.at(0), Duration::from_secs(10));
    // To say it again does not put it off again.
    ledger.want(&"a", Want::Nothing, clock.at(5000), Duration::from_secs(10));
    assert_eq!(next(&mut ledger, clock.at(5000)), Next::Wait(Some(clock.at(10_000))));
    ledger.want(&"a", Want::Digest(2), clock.at(6000), ZERO);
    assert_eq!(next(&mut ledger, clock.at(6010)), Next::Do("a", Op::Apply));
}

/// Regression: where an older schema or a webhook made something else of what was written, it was written again and again as fast as the pace allowed.
#[test]
fn what_does_not_come_to_what_was_written_is_written_rarely() {
    let (mut ledger, clock) = start();
    let mut writes = 0;
    ledger.want(&"a", Want::Digest(1), clock.at(0), ZERO);
    for millis in (10..60_010).step_by(10) {
        if let Next::Do(key, _) = next(&mut ledger, clock.at(millis)) {
            writes += 1;
            ledger.done(&key, &Outcome::Done(Some((77, writes))), clock.at(millis), 1.0);
            ledger.have(&key, Some(77), writes, clock.at(millis));
        }
    }
    assert_eq!(writes, 7);
    assert!(ledger.tried() && ledger.reachable(), "it stands in nobody's way");
    // Something else may be taken as it is.
    ledger.want(&"a", Want::Digest(2), clock.at(60_010), ZERO);
    assert_eq!(next(&mut ledger, clock.at(60_020)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Done(Some((2, 90))), clock.at(60_030), 1.0);
    assert!(ledger.is_right(&"a"));
}

/// Regression: where what failed was wanted no more, the API server counted as away until something else was written.
#[test]
fn what_is_not_asked_says_nothing_of_the_api_server() {
    let (mut ledger, clock) = start();
    ledger.have(&"a", Some(1), 1, clock.at(0));
    ledger.want(&"a", Want::Digest(2), clock.at(0), ZERO);
    ledger.want(&"late", Want::Digest(1), clock.at(0), ZERO);
    assert_eq!(next(&mut ledger, clock.at(10)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Unreachable, clock.at(10), 1.0);
    assert_eq!(next(&mut ledger, clock.at(210)), Next::Do("late", Op::Apply));
    ledger.done(&"late", &Outcome::Late, clock.at(210), 1.0);
    assert!(!ledger.reachable());
    assert_eq!(next(&mut ledger, clock.at(210)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Unreachable, clock.at(210), 1.0);
    ledger.want(&"a", Want::Digest(1), clock.at(220), ZERO);
    ledger.want(&"late", Want::Nothing, clock.at(220), ZERO);
    assert_eq!(ledger.pending(), 0);
    assert!(ledger.reachable());
}

/// Regression: objects that a webhook could not take held up all others, for minutes where there were many.
#[test]
fn what_fails_because_of_itself_holds_up_nothing_else() {
    let (mut ledger, clock) = start();
    let ill = ["i1", "i2", "i3", "i4"];
    for key in ill {
        ledger.want(&key, Want::Digest(1), clock.at(0), ZERO);
    }
    let mut now = 10_u64;
    let mut under_way: Vec<(&str, u64)> = Vec::new();
    let (mut longest, mut longest_later) = (0, 0);
    let mut tried = BTreeMap::new();
    while now < 120_000 {
        if now.is_multiple_of(5000) {
            let digest = now;
            ledger.want(&"endpoints", Want::Digest(digest), clock.at(now), ZERO);
        }
        // Half of them answer at once, half only after ten seconds.
        under_way.retain(|(key, end)| {
            let over = *end <= now;
            if over {
                let outcome = if *key == "i1" { Outcome::Failed } else { Outcome::Unreachable };
                ledger.done(key, &outcome, clock.at(now), 0.5);
            }
            !over
        });
        while let Next::Do(key, _) = next(&mut ledger, clock.at(now)) {
            if key == "endpoints" {
                let Want::Digest(digest) = ledger.wanted(&key) else { panic!("it is wanted") };
                ledger.done(&key, &Outcome::Done(Some((digest, now))), clock.at(now), 0.5);
                longest = longest.max(now - digest);
                if now > 30_000 {
                    longest_later = longest_later.max(now - digest);
                }
            } else {
                *tried.entry(key).or_insert(0) += 1;
                under_way.push((key, if key < "i3" { now + 5 } else { now + 10_000 }));
            }
        }
        assert!(under_way.len() <= PACE.in_flight, "{under_way:?}");
        now += 5;
    }
    assert!(longest <= 10_500, "{longest} ms at first");
    assert!(longest_later <= 15, "{longest_later} ms once each failed");
    assert!(tried.values().all(|tries| (3..60).contains(tries)), "{tried:?}");
    assert!(ledger.is_stuck(&"i4") && !ledger.is_stuck(&"endpoints") && ledger.reachable());
}

/// Regression: where a database was restored, what is written has a lower version than what was known, and was written again without end.
#[test]
fn versions_may_go_back() {
    let (mut ledger, clock) = start();
    ledger.have(&"a", Some(1), 900, clock.at(0));
    ledger.want(&"a", Want::Digest(2), clock.at(0), ZERO);
    assert_eq!(next(&mut ledger, clock.at(10)), Next::Do("a", Op::Apply));
    ledger.done(&"a", &Outcome::Done(Some((2, 17))), clock.at(20), 0.5);
    assert_eq!(next(&mut ledger, clock.at(1000)), Next::Wait(None));
    // What a list says then counts too.
    ledger.have(&"b", Some(1), 900, clock.at(1000));
    ledger.want(&"b", Want::Digest(1), clock.at(1000), ZERO);
    ledger.relisted(|key| *key == "b");
    ledger.have(&"b", Some(7), 16, clock.at(1010));
    assert_eq!(next(&mut ledger, clock.at(1100)), Next::Do("b", Op::Apply));
}
