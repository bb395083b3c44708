//! The metrics of the controller, which has none of a proxy's: read as a whole at each scrape.

use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder};

use crate::metrics::{counters, gauges, opts, registered};
use crate::table::{self, Kind, Label, Metric};

const fn metric(name: &'static str, kind: Kind, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

const RESULT: Label = Label { name: "result", bound: "`done`, `failed`" };
const STATE: Label = Label { name: "state", bound: "`alive`, `silent`, `refused`" };

const LEADS: Metric = metric(
    "portolan_controller_leading",
    Kind::Gauge,
    &[],
    "1 where this replica of the controller writes, 0 where it stands by.",
);
const STATUSES: Metric = metric(
    "portolan_controller_status_writes_total",
    Kind::Counter,
    &[RESULT],
    "Statuses that were to be written, by what became of it.",
);
const PROVISIONS: Metric = metric(
    "portolan_controller_provisions_total",
    Kind::Counter,
    &[RESULT],
    "Times that what a cluster needs in the LB cluster was applied, by what became of it.",
);
const REPLICAS: Metric =
    metric("portolan_controller_proxy_replicas", Kind::Gauge, &[], "Replicas of the proxy that are alive.");
const AGENTS: Metric = metric(
    "portolan_controller_agents",
    Kind::Gauge,
    &[STATE],
    "Agents of member clusters that were ever seen, by whether they showed a sign of life within a minute; `refused` are those of the living who say that a write of theirs is refused, or fails.",
);

/// Every metric of the controller beside `portolan_build_info`.
pub const CONTROLLER_METRICS: &[Metric] = &[LEADS, STATUSES, PROVISIONS, REPLICAS, AGENTS];

/// What a controller has to say of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controlled {
    /// Whether it writes.
    pub leads: bool,
    /// Statuses written since the start.
    pub written: u64,
    /// Writes of statuses that failed, since the start.
    pub write_failures: u64,
    /// Times that what a cluster needs was applied, since the start.
    pub provisioned: u64,
    /// The same where it failed.
    pub provision_failures: u64,
    /// Live replicas of the proxy.
    pub replicas: u64,
    /// Agents that show signs of life.
    pub agents: u64,
    /// Agents that do not.
    pub silent: u64,
    /// Agents of those alive that say that a write of theirs is refused.
    pub refused: u64,
}

/// See the module's documentation.
pub struct ControllerMetrics {
    registry: Registry,
    leads: IntGauge,
    statuses: IntCounterVec,
    provisions: IntCounterVec,
    replicas: IntGauge,
    agents: IntGaugeVec,
}

impl ControllerMetrics {
    /// Metrics of a controller of that version.
    pub fn new(version: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = registered(&registry, gauges(&table::BUILD)?)?;
        build.with_label_values(&[version]).set(1);
        Ok(Self {
            leads: registered(&registry, IntGauge::with_opts(opts(&LEADS))?)?,
            statuses: registered(&registry, counters(&STATUSES)?)?,
            provisions: registered(&registry, counters(&PROVISIONS)?)?,
            replicas: registered(&registry, IntGauge::with_opts(opts(&REPLICAS))?)?,
            agents: registered(&registry, gauges(&AGENTS)?)?,
            registry,
        })
    }

    /// All that `now` says, in Prometheus' text format 0.0.4.
    pub fn render(&self, now: &Controlled) -> String {
        let level = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.leads.set(i64::from(now.leads));
        self.replicas.set(level(now.replicas));
        for (state, number) in [("alive", now.agents), ("silent", now.silent), ("refused", now.refused)] {
            self.agents.with_label_values(&[state]).set(level(number));
        }
        for (counter, done, failed) in [
            (&self.statuses, now.written, now.write_failures),
            (&self.provisions, now.provisioned, now.provision_failures),
        ] {
            for (result, number) in [("done", done), ("failed", failed)] {
                let counter = counter.with_label_values(&[result]);
                counter.inc_by(number.saturating_sub(counter.get()));
            }
        }
        // Writing into a string fails only for families that the registry refuses to gather.
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_it_is_told() {
        let metrics = ControllerMetrics::new("0.0.0").unwrap();
        let now =
            Controlled { leads: true, written: 3, write_failures: 1, silent: 2, ..Controlled::default() };
        metrics.render(&now);
        let text = metrics.render(&Controlled { written: 5, ..now });
        for line in [
            "portolan_controller_leading 1",
            "portolan_controller_status_writes_total{result=\"done\"} 5",
            "portolan_controller_status_writes_total{result=\"failed\"} 1",
            "portolan_controller_provisions_total{result=\"done\"} 0",
            "portolan_controller_agents{state=\"silent\"} 2",
            "portolan_build_info{version=\"0.0.0\"} 1",
        ] {
            assert!(text.lines().any(|said| said == line), "{line} in {text}");
        }
        for metric in CONTROLLER_METRICS {
            assert!(text.contains(&format!("# TYPE {} ", metric.name)), "{}", metric.name);
        }
    }
}
