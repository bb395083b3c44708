//! Which agents are alive? From their `Lease`s in the tenant namespaces.
//!
//! Pure. A sign of life is a change of the `Lease`, when the controller sees it: the agent's clock decides only for what was
//! there before the controller.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use portolan_api::contract::{REFUSED_ANNOTATION, VERSION_ANNOTATION};

use super::replicas::first_seen;

/// An agent is silent that has shown no sign of life for so long.
pub(crate) const AGENT_SILENT_AFTER: Duration = portolan_source::member::SILENT;

/// So many bytes of what an agent says of refusals are told.
const REFUSED: usize = 1024;
/// The same for its version.
const VERSION: usize = 64;

/// By cluster.
#[derive(Debug, Default)]
pub(crate) struct Agents(HashMap<Arc<str>, Agent>);

/// One agent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Agent {
    /// What it says that it is.
    pub(crate) version: Option<String>,
    /// What it says that the API server refuses of its writes.
    pub(crate) refused: Option<String>,
    /// Its last sign of life, by the controller's clock.
    pub(crate) last_seen: Timestamp,
    renewed: Timestamp,
    seen: Instant,
    /// Whether it was silent at the last look.
    was_silent: bool,
}

impl Agent {
    /// Whether nothing was heard of it for too long.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen) > AGENT_SILENT_AFTER
    }
}

impl Agents {
    /// The agent of that cluster.
    pub(crate) fn get(&self, cluster: &str) -> Option<&Agent> {
        self.0.get(cluster)
    }

    /// The `Lease` of that cluster's agent is there, as said. Whether there is news beside another sign of life.
    pub(crate) fn apply(
        &mut self,
        cluster: &Arc<str>,
        lease: &Lease,
        now: Instant,
        clock: Timestamp,
    ) -> bool {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
        let Some(renewed) = renewed else { return self.0.remove(cluster).is_some() };
        let annotation = |name, most| Some(told(lease.metadata.annotations.as_ref()?.get(name)?, most));
        let version = annotation(VERSION_ANNOTATION, VERSION);
        let refused = annotation(REFUSED_ANNOTATION, REFUSED);
        let before = self.0.get(cluster);
        let (seen, last_seen) = match before {
            Some(before) if before.renewed == renewed => (before.seen, before.last_seen),
            Some(_) => (now, clock),
            None => (first_seen(Some(renewed), now, clock), renewed.min(clock)),
        };
        let mut agent = Agent { version, refused, last_seen, renewed, seen, was_silent: false };
        agent.was_silent = agent.is_silent(now);
        let says = |agent: &Agent| (agent.version.clone(), agent.refused.clone(), agent.was_silent);
        let news = before.is_none_or(|before| says(before) != says(&agent));
        self.0.insert(Arc::clone(cluster), agent);
        news
    }

    /// The `Lease` is gone. Whether it was there.
    pub(crate) fn delete(&mut self, cluster: &str) -> bool {
        self.0.remove(cluster).is_some()
    }

    /// These clusters have a `Lease`, and no others; those that had one before.
    pub(crate) fn retain(&mut self, there: impl Fn(&str) -> bool) -> Vec<Arc<str>> {
        let gone: Vec<_> = self.0.keys().filter(|cluster| !there(cluster)).cloned().collect();
        for cluster in &gone {
            self.0.remove(cluster);
        }
        gone
    }

    /// Those that fell silent since the last look.
    pub(crate) fn fell_silent(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut fell = Vec::new();
        for (cluster, agent) in &mut self.0 {
            if !agent.was_silent && agent.is_silent(now) {
                agent.was_silent = true;
                fell.push(Arc::clone(cluster));
            }
        }
        fell
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Agent)> {
        self.0.iter()
    }
}

/// What a tenant wrote, as it may stand in a status that others read, on a terminal for example.
fn told(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

    use super::*;

    fn lease(renewed: Option<i64>, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                annotations: Some([(VERSION_ANNOTATION.to_owned(), version.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                renew_time: renewed.map(|second| MicroTime(Timestamp::from_second(second).unwrap())),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn what_a_tenant_writes_is_short_and_plain() {
        for (text, most, expected) in
            [("1.0", 64, "1.0"), ("1.0\n\u{1b}[31mred", 64, "1.0  [31mred"), ("\u{85}ää", 4, " ä")]
        {
            assert_eq!(told(text, most), expected, "{text:?}");
        }
    }

    #[test]
    fn an_agent_lives_while_its_lease_changes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let clock = |seconds: i64| Timestamp::from_second(10_000 + seconds).unwrap();
        let paris: Arc<str> = "paris".into();
        let mut agents = Agents::default();
        assert!(!agents.apply(&paris, &lease(None, "1"), at(0), clock(0)), "made by the controller");
        assert!(agents.get("paris").is_none());
        // Its clock is an hour behind.
        assert!(agents.apply(&paris, &lease(Some(6400), "1"), at(1), clock(1)));
        assert!(agents.get("paris").unwrap().is_silent(at(1)), "until it shows a sign of life");
        assert!(agents.apply(&paris, &lease(Some(6410), "1"), at(11), clock(11)));
        assert!(!agents.apply(&paris, &lease(Some(6420), "1"), at(21), clock(21)));
        assert_eq!(agents.get("paris").unwrap().last_seen, clock(21));
        assert!(agents.apply(&paris, &lease(Some(6430), "2"), at(31), clock(31)));
        assert_eq!(agents.fell_silent(at(91)), Vec::<Arc<str>>::new());
        assert_eq!(agents.fell_silent(at(92)), [Arc::clone(&paris)]);
        assert_eq!(agents.fell_silent(at(93)), Vec::<Arc<str>>::new(), "told once");
        assert!(agents.apply(&paris, &lease(Some(6500), "2"), at(101), clock(101)), "it is back");
        assert!(!agents.get("paris").unwrap().is_silent(at(101)));
        let mut refused = lease(Some(6510), "2");
        let annotations = refused.metadata.annotations.get_or_insert_default();
        annotations.insert(REFUSED_ANNOTATION.to_owned(), "ä".repeat(REFUSED));
        assert!(agents.apply(&paris, &refused, at(102), clock(102)), "that something is refused is news");
        let told = agents.get("paris").unwrap().refused.clone().unwrap();
        assert_eq!((told.len(), told.chars().all(|c| c == 'ä')), (REFUSED, true));
        assert!(!agents.apply(&paris, &refused, at(103), clock(103)));
        assert!(agents.apply(&paris, &lease(Some(6520), "2"), at(104), clock(104)), "that it is over too");
        assert_eq!(agents.retain(|cluster| cluster == "tokyo"), [paris]);
        assert!(!agents.delete("paris"));
    }
}
