use proptest::prelude::*;

use super::*;

/// A `Lease` in an API server that refuses what is written over something newer.
#[derive(Default)]
struct Server {
    record: Option<Record>,
    version: u32,
}

struct Replica {
    election: Election,
    /// What its clock shows beside the others'.
    skew: i64,
}

impl Replica {
    fn new(name: &str, skew: i64) -> Self {
        Self { election: Election::new(name, Terms::default()), skew }
    }

    /// One round with an API server that answers.
    fn round(&mut self, server: &mut Server, now: Instant, seconds: i64) {
        let (found, version) = (server.record.clone(), server.version);
        self.write(server, now, seconds, found, version);
    }

    fn write(
        &mut self,
        server: &mut Server,
        now: Instant,
        seconds: i64,
        found: Option<Record>,
        version: u32,
    ) {
        let clock = Timestamp::from_second(1_800_000_000 + seconds + self.skew).unwrap();
        let record = match self.election.step(now, clock, found.as_ref()) {
            Step::Wait => return,
            Step::Create(record) | Step::Update(record) => record,
        };
        if server.version == version {
            server.version += 1;
            server.record = Some(record.clone());
            self.election.wrote(now, record);
        }
    }
}

fn seconds(start: Instant) -> impl Fn(i64) -> Instant {
    move |seconds| start + Duration::from_secs(u64::try_from(seconds).unwrap())
}

#[test]
fn the_first_leads_and_renews_and_the_second_waits() {
    let at = seconds(Instant::now());
    let mut server = Server::default();
    let (mut one, mut two) = (Replica::new("one", 0), Replica::new("two", -3600));
    for second in (0..60).step_by(2) {
        one.round(&mut server, at(second), second);
        two.round(&mut server, at(second), second);
        assert!(one.election.leads(at(second)) && !two.election.leads(at(second)), "{second}");
    }
    let record = server.record.unwrap();
    assert_eq!((record.holder.as_deref(), record.transitions), (Some("one"), 0));
    assert!(record.renewed > record.acquired);
}

#[test]
fn a_leader_that_cannot_renew_steps_down_before_another_takes_over() {
    let at = seconds(Instant::now());
    let mut server = Server::default();
    let (mut one, mut two) = (Replica::new("one", 0), Replica::new("two", 7200));
    one.round(&mut server, at(0), 0);
    let led = (0..40)
        .map(|second| {
            two.round(&mut server, at(second), second);
            (one.election.leads(at(second)), two.election.leads(at(second)))
        })
        .collect::<Vec<_>>();
    let from = |holds: fn(&(bool, bool)) -> bool| led.iter().position(holds).unwrap();
    assert_eq!(one.election.leads_until(at(9)), Some(at(10)));
    assert_eq!(one.election.leads_until(at(10)), None);
    assert_eq!(from(|led| !led.0), 10);
    assert_eq!(from(|led| led.1), 15);
    assert_eq!(server.record.as_ref().unwrap().transitions, 1);
    // The first comes back, and waits.
    one.round(&mut server, at(41), 41);
    assert!(!one.election.leads(at(41)));
}

#[test]
fn who_lost_the_lease_does_not_lead_on() {
    let at = seconds(Instant::now());
    let mut server = Server::default();
    let (mut one, mut two) = (Replica::new("one", 0), Replica::new("two", 0));
    one.round(&mut server, at(0), 0);
    // Somebody deletes it; the second creates it anew.
    server.record = None;
    two.round(&mut server, at(1), 1);
    one.round(&mut server, at(2), 2);
    assert!(!one.election.leads(at(2)) && two.election.leads(at(2)));
}

#[test]
fn the_slower_of_two_writes_is_refused() {
    let at = seconds(Instant::now());
    let mut server = Server::default();
    let (mut one, mut two) = (Replica::new("one", 0), Replica::new("two", 0));
    one.round(&mut server, at(0), 0);
    two.write(&mut server, at(0), 0, None, 0);
    assert!(one.election.leads(at(0)) && !two.election.leads(at(0)));
}

#[test]
fn what_is_given_up_is_taken_at_once() {
    let at = seconds(Instant::now());
    let mut server = Server::default();
    let (mut one, mut two) = (Replica::new("one", 0), Replica::new("two", 0));
    one.round(&mut server, at(0), 0);
    two.round(&mut server, at(1), 1);
    assert_eq!(two.election.release(), None);
    server.record = one.election.release();
    server.version += 1;
    assert!(!one.election.leads(at(2)));
    two.round(&mut server, at(2), 2);
    assert!(two.election.leads(at(2)));
}

#[test]
fn the_same_name_leads_on_after_a_restart() {
    let at = seconds(Instant::now());
    let mut server = Server::default();
    Replica::new("one", 0).round(&mut server, at(0), 0);
    let mut again = Replica::new("one", 0);
    again.round(&mut server, at(1), 1);
    assert!(again.election.leads(at(1)));
    assert_eq!(server.record.unwrap().transitions, 0);
}

#[test]
fn pauses_differ_a_little() {
    let terms = Terms::default();
    for (chance, millis) in [(0, 2000), (199, 2398), (200, 2000), (u64::MAX, 2000 + 2 * (u64::MAX % 200))] {
        assert_eq!(terms.pause(chance), Duration::from_millis(millis));
    }
}

proptest! {
    /// Whatever replica cannot reach the API server when, and for how long.
    #[test]
    fn never_do_two_lead(
        rounds in proptest::collection::vec((0..3_usize, 0..4000_u64, any::<bool>()), 1..200),
    ) {
        let start = Instant::now();
        let mut server = Server::default();
        let mut replicas = [Replica::new("a", 0), Replica::new("b", 9000), Replica::new("c", -9000)];
        let mut now = start;
        for (who, pause, reached) in rounds {
            now += Duration::from_millis(pause);
            if reached {
                let seconds = i64::try_from((now - start).as_secs()).unwrap();
                replicas[who].round(&mut server, now, seconds);
            }
            let leaders = replicas.iter().filter(|replica| replica.election.leads(now)).count();
            prop_assert!(leaders <= 1, "{leaders} lead at {:?}", now - start);
        }
    }
}
