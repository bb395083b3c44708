//! What do the replicas of the proxy serve? From their `Lease`s to one version per kind that most of them have in force.
//!
//! Pure. A replica is alive while its `Lease` is seen to change within its duration, by the controller's own clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use portolan_api::contract::SERVES_ANNOTATION;
use portolan_model::id::Kind;

/// So long a dead replica's `Lease` is kept.
const KEPT: Duration = Duration::from_secs(600);
/// How long a `Lease` lasts that does not say.
const LASTS: Duration = Duration::from_secs(15);

/// What most live replicas serve of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    /// No replica is alive.
    #[default]
    Nobody,
    /// Every version up to this; 0 is none.
    UpTo(u64),
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    known: BTreeMap<String, Replica>,
    levels: [Level; Kind::ALL.len()],
}

#[derive(Debug)]
struct Replica {
    renewed: Option<Timestamp>,
    seen: Instant,
    lasts: Duration,
    serves: [u64; Kind::ALL.len()],
}

impl Replica {
    fn lives(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) <= self.lasts
    }
}

impl Replicas {
    /// A `Lease` is there, as said.
    pub(crate) fn apply(&mut self, lease: &Lease, now: Instant, clock: Timestamp) {
        let Some(name) = lease.metadata.name.clone() else { return };
        let spec = lease.spec.as_ref();
        let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
        let lasts = spec.and_then(|spec| spec.lease_duration_seconds);
        let lasts = lasts.and_then(|seconds| u64::try_from(seconds).ok()).map_or(LASTS, Duration::from_secs);
        let serves = serves(lease);
        let seen = match self.known.get(&name) {
            Some(known) if known.renewed == renewed => known.seen,
            Some(_) => now,
            None => first_seen(renewed, now, clock),
        };
        self.known.insert(name, Replica { renewed, seen, lasts, serves });
    }

    /// A `Lease` is gone.
    pub(crate) fn delete(&mut self, name: &str) {
        self.known.remove(name);
    }

    /// These are all that there are.
    pub(crate) fn retain(&mut self, there: impl Fn(&str) -> bool) {
        self.known.retain(|name, _| there(name));
    }

    /// Those that have been dead for so long that their `Lease`s may go.
    pub(crate) fn long_dead(&self, now: Instant) -> impl Iterator<Item = &str> {
        let dead = move |replica: &Replica| {
            now.saturating_duration_since(replica.seen) > replica.lasts.saturating_add(KEPT)
        };
        self.known.iter().filter(move |(_, replica)| dead(replica)).map(|(name, _)| &**name)
    }

    /// How many are alive.
    pub(crate) fn alive(&self, now: Instant) -> usize {
        self.known.values().filter(|replica| replica.lives(now)).count()
    }

    /// What most of them serve of a kind, as of the last [`Replicas::settle`].
    pub(crate) fn level(&self, kind: Kind) -> Level {
        self.levels[kind as usize]
    }

    /// Works out what most of them serve now: the kinds for which that changed, with what it was before.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<(Kind, Level)> {
        let live: Vec<_> = self.known.values().filter(|replica| replica.lives(now)).collect();
        let level = |kind: Kind| {
            let mut served: Vec<_> = live.iter().map(|replica| replica.serves[kind as usize]).collect();
            served.sort_unstable_by(|a, b| b.cmp(a));
            // One more than half of them serve this or more.
            served.get(served.len() / 2).map_or(Level::Nobody, |&version| Level::UpTo(version))
        };
        let now = Kind::ALL.map(|kind| (kind, level(kind)));
        let mut changed = Vec::new();
        for (kind, level) in now {
            let before = std::mem::replace(&mut self.levels[kind as usize], level);
            if before != level {
                changed.push((kind, before));
            }
        }
        changed
    }
}

/// When something that was found just now showed its last sign of life, as far as its own clock can be believed.
pub(crate) fn first_seen(renewed: Option<Timestamp>, now: Instant, clock: Timestamp) -> Instant {
    let age = renewed.map(|renewed| clock.duration_since(renewed));
    let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

fn serves(lease: &Lease) -> [u64; Kind::ALL.len()] {
    let annotations = lease.metadata.annotations.as_ref();
    let json = annotations.and_then(|annotations| annotations.get(SERVES_ANNOTATION));
    let said = json.and_then(|json| serde_json::from_str::<BTreeMap<String, String>>(json).ok());
    let said = said.unwrap_or_default();
    Kind::ALL.map(|kind| said.get(kind.as_str()).and_then(|version| version.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

    use super::*;

    fn lease(name: &str, renewed: i64, serves: u64) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(name.into()),
                annotations: Some(
                    [(SERVES_ANNOTATION.to_owned(), format!(r#"{{"UpstreamPool":"{serves}","Later":"x"}}"#))]
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn most_of_the_living_decide() {
        for (served, expected) in [
            (&[][..], Level::Nobody),
            (&[7], Level::UpTo(7)),
            (&[7, 9], Level::UpTo(7)),
            (&[7, 9, 3], Level::UpTo(7)),
            (&[7, 9, 8, 3], Level::UpTo(7)),
            (&[0, 9], Level::UpTo(0)),
        ] {
            let (now, clock) = (Instant::now(), Timestamp::from_second(1000).unwrap());
            let mut replicas = Replicas::default();
            for (at, serves) in served.iter().enumerate() {
                replicas.apply(&lease(&format!("p{at}"), 1000, *serves), now, clock);
            }
            replicas.settle(now);
            assert_eq!(replicas.level(Kind::UpstreamPool), expected, "{served:?}");
            assert_eq!(replicas.alive(now), served.len());
        }
    }

    #[test]
    fn who_is_silent_no_longer_counts_and_goes_in_the_end() {
        let (start, clock) = (Instant::now(), Timestamp::from_second(1000).unwrap());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut replicas = Replicas::default();
        for (name, serves) in [("a", 9), ("b", 9), ("slow", 1)] {
            replicas.apply(&lease(name, 1000, serves), at(0), clock);
        }
        let pools = |changed: Vec<(Kind, Level)>| {
            changed.into_iter().filter(|(kind, _)| *kind == Kind::UpstreamPool).collect::<Vec<_>>()
        };
        assert_eq!(pools(replicas.settle(at(0))), [(Kind::UpstreamPool, Level::Nobody)]);
        assert_eq!(replicas.level(Kind::UpstreamPool), Level::UpTo(9));
        for second in [10, 20] {
            replicas.apply(&lease("slow", 1000 + second, 1), at(second as u64), clock);
            // Seen again after the watch began anew, but not renewed.
            replicas.apply(&lease("a", 1000, 9), at(second as u64), clock);
        }
        assert_eq!(pools(replicas.settle(at(20))), [(Kind::UpstreamPool, Level::UpTo(9))]);
        assert_eq!((replicas.level(Kind::UpstreamPool), replicas.alive(at(20))), (Level::UpTo(1), 1));
        assert_eq!(replicas.long_dead(at(615)).count(), 0);
        assert_eq!(replicas.long_dead(at(616)).collect::<Vec<_>>(), ["a", "b"]);
        replicas.retain(|name| name == "slow");
        replicas.delete("slow");
        replicas.settle(at(616));
        assert_eq!(replicas.level(Kind::UpstreamPool), Level::Nobody);
    }

    #[test]
    fn a_lease_that_ran_out_before_is_dead_from_the_start() {
        let now = Instant::now();
        let mut replicas = Replicas::default();
        let clock = Timestamp::from_second(1016).unwrap();
        replicas.apply(&lease("old", 1000, 9), now, clock);
        replicas.apply(&lease("ahead", 5000, 9), now, clock);
        assert_eq!(replicas.alive(now), 1);
    }
}
