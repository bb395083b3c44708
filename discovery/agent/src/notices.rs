//! What are people in the member cluster to be told of, and when?
//!
//! What is refused is told once when it begins, and again now and then while it stands, since events do not last. It is told only if it is
//! still so a moment later: much of it is over as soon as the rest has arrived. Pure: time is an argument. Bounded: so many
//! refusals of an object, so many events a second. Cost: logarithmic in what stands.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::view::{Key, Name};

/// At which object of the member cluster it is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum About {
    /// An `Ingress`.
    Ingress(Key),
    /// A `Node`.
    Node(Name),
    /// The agent itself, where it is about the whole cluster.
    Agent,
}

/// Who refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The agent.
    Agent,
    /// The LB cluster.
    LoadBalancer,
    /// An API server, of either cluster, that does not serve what is watched, or not to the agent.
    Api,
}

/// Reason and message.
pub type Told = (Box<str>, Box<str>);

/// How many refusals of one side at an object are told.
const EACH: usize = 16;
/// How long a refusal has to stand: objects that belong together come one after another, and go so.
const SETTLE_HERE: Duration = Duration::from_secs(2);
const SETTLE_THERE: Duration = Duration::from_secs(5);
/// When it is told again.
const AGAIN: Duration = Duration::from_secs(3000);
/// Events a second, and at once after a rest.
const RATE: f64 = 5.0;
const BURST: f64 = 20.0;

type Subject = (About, Side);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Notices {
    standing: HashMap<Subject, BTreeMap<Told, (Instant, u64)>>,
    due: BTreeMap<(Instant, u64), (Subject, Told)>,
    last: u64,
    spent: f64,
    filled: Option<Instant>,
}

impl Notices {
    /// Says what a side refuses of an object now.
    pub fn set(&mut self, about: About, side: Side, refusals: BTreeSet<Told>, now: Instant) {
        let subject = (about, side);
        let mut known = self.standing.remove(&subject).unwrap_or_default();
        let mut standing = BTreeMap::new();
        for told in refusals.into_iter().take(EACH) {
            let place = known.remove(&told).unwrap_or_else(|| {
                let delay = match side {
                    Side::Agent => SETTLE_HERE,
                    Side::LoadBalancer | Side::Api => SETTLE_THERE,
                };
                self.last += 1;
                self.due.insert((now + delay, self.last), (subject.clone(), told.clone()));
                (now + delay, self.last)
            });
            standing.insert(told, place);
        }
        for place in known.values() {
            self.due.remove(place);
        }
        if !standing.is_empty() {
            self.standing.insert(subject, standing);
        }
    }

    /// How many refusals stand.
    pub fn standing(&self) -> usize {
        self.due.len()
    }

    /// What is to be told now; without, when to ask again.
    pub fn next(&mut self, now: Instant) -> Result<(About, Told), Option<Instant>> {
        let passed = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        self.filled = Some(now);
        self.spent = (self.spent - passed.as_secs_f64() * RATE).max(0.0);
        let Some((&place, _)) = self.due.first_key_value() else { return Err(None) };
        if place.0 > now {
            return Err(Some(place.0));
        }
        if self.spent > BURST - 1.0 {
            return Err(Some(now + Duration::from_secs_f64(1.0 / RATE)));
        }
        let Some((subject, told)) = self.due.remove(&place) else { return Err(None) };
        self.spent += 1.0;
        self.last += 1;
        let place = (now + AGAIN, self.last);
        if let Some(known) = self.standing.get_mut(&subject).and_then(|standing| standing.get_mut(&told)) {
            *known = place;
        }
        self.due.insert(place, (subject.clone(), told.clone()));
        Ok((subject.0, told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_once_and_again_while_it_stands() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let key = About::Ingress(Key::new("shop", "web"));
        let told = |text: &str| -> Told { ("R".into(), text.into()) };
        let mut notices = Notices::default();
        notices.set(key.clone(), Side::Agent, [told("a"), told("b")].into(), start);
        notices.set(key.clone(), Side::LoadBalancer, [told("c"), told("d")].into(), start);
        assert_eq!(notices.next(start), Err(Some(after(2))));
        assert_eq!(notices.next(after(2)), Ok((key.clone(), told("a"))));
        assert_eq!(notices.next(after(2)), Ok((key.clone(), told("b"))));
        assert_eq!(notices.next(after(2)), Err(Some(after(5))));
        // One is over before it is told; what stands is not told anew.
        notices.set(key.clone(), Side::LoadBalancer, [told("d")].into(), after(3));
        notices.set(key.clone(), Side::Agent, [told("a")].into(), after(3));
        assert_eq!(notices.next(after(6)), Ok((key.clone(), told("d"))));
        assert_eq!(notices.next(after(6)), Err(Some(after(3002))));
        assert_eq!(notices.next(after(3002)), Ok((key.clone(), told("a"))));
        notices.set(key.clone(), Side::Agent, BTreeSet::new(), after(3003));
        notices.set(key.clone(), Side::LoadBalancer, BTreeSet::new(), after(3003));
        assert_eq!(notices.next(after(9000)), Err(None));
        assert_eq!(notices.standing(), 0);
    }

    #[test]
    fn events_are_few() {
        let now = Instant::now();
        let mut notices = Notices::default();
        for n in 0..100 {
            let key = About::Ingress(Key::new("shop", format!("web{n}")));
            let many = (0..100).map(|m| ("R".into(), format!("{m}").into())).collect();
            notices.set(key.clone(), Side::Agent, many, now);
        }
        assert_eq!(notices.standing(), 100 * EACH);
        let now = now + SETTLE_HERE;
        let mut told = 0;
        while notices.next(now).is_ok() {
            told += 1;
        }
        assert_eq!(told, 20);
        assert!(notices.next(now + Duration::from_millis(200)).is_ok());
    }
}
