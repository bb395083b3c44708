//! The metrics of one process: hands out handles and answers scrapes.
//!
//! A listener's or cluster's counts live as long as anybody holds its handle, which the Snapshot and its requests do; past
//! the bound of the label a shared handle named `other` is handed out. Cost: a lock per handle when a Snapshot is
//! built, and per scrape; none per request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    proto,
};

use crate::cells::{bounds, histogram};
use crate::handles::{CONNECTS, ClusterMetrics, HANDSHAKES, ListenerMetrics, at};
use crate::table::{self, CODES, FLAGS, Kind, Metric};

const OTHER: &str = "other";

/// What a batch of changes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// A new revision is in force.
    Applied,
    /// It said what was in force already.
    Unchanged,
    /// The old revision stays in force.
    Failed,
}

/// How many endpoints of a pool are in what state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolEndpoints {
    /// Probed and fit.
    pub healthy: usize,
    /// Probed and not.
    pub unhealthy: usize,
    /// Not probed.
    pub unknown: usize,
}

/// See the module's documentation.
pub struct Metrics {
    registry: Registry,
    shards: usize,
    hot: Arc<Hot>,
    log_dropped: IntCounter,
    revision: IntGauge,
    reloads: IntCounterVec,
    reload_duration: Histogram,
    objects: IntGaugeVec,
    conditions: IntGaugeVec,
    ready: IntGauge,
    stale: IntGauge,
    expiry: IntGauge,
    pool_endpoints: IntGaugeVec,
    /// Held while all of a gauge's values are replaced, and while they are gathered: a scrape sees them of one setting.
    levels: Mutex<()>,
}

impl Metrics {
    /// Metrics for that many worker threads. `flags` are the names of flags by their index, 32 at most; `version` is the
    /// software's.
    pub fn new(
        workers: usize,
        flags: &'static [&'static str],
        version: &str,
    ) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let hot = Arc::new(Hot {
            flags,
            descriptions: HOT.iter().map(description).collect::<Result<_, _>>()?,
            listeners: Mutex::default(),
            clusters: Mutex::default(),
        });
        registry.register(Box::new(HotCollector(Arc::clone(&hot))))?;
        let metrics = Self {
            log_dropped: registered(&registry, IntCounter::with_opts(opts(&table::LOG_DROPPED))?)?,
            revision: registered(&registry, IntGauge::with_opts(opts(&table::REVISION))?)?,
            reloads: registered(&registry, counters(&table::RELOADS)?)?,
            reload_duration: registered(
                &registry,
                Histogram::with_opts(histogram_opts(&table::RELOAD_DURATION))?,
            )?,
            objects: registered(&registry, gauges(&table::OBJECTS)?)?,
            conditions: registered(&registry, gauges(&table::CONDITIONS)?)?,
            ready: registered(&registry, IntGauge::with_opts(opts(&table::READY))?)?,
            stale: registered(&registry, IntGauge::with_opts(opts(&table::STALE))?)?,
            expiry: registered(&registry, IntGauge::with_opts(opts(&table::EXPIRY))?)?,
            pool_endpoints: registered(&registry, gauges(&table::POOL_ENDPOINTS)?)?,
            levels: Mutex::default(),
            registry,
            shards: workers,
            hot,
        };
        registered(&metrics.registry, gauges(&table::BUILD)?)?.with_label_values(&[version]).set(1);
        for result in RELOADS {
            metrics.reloads.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// The handle of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        handle(&self.hot.listeners, name, table::LISTENERS, || ListenerMetrics::new(self.shards))
    }

    /// The handle of a member cluster.
    pub fn cluster(&self, name: &str) -> Arc<ClusterMetrics> {
        handle(&self.hot.clusters, name, table::CLUSTERS, || ClusterMetrics::new(self.shards))
    }

    /// The counter of dropped lines of the access log.
    pub fn dropped_log_lines(&self) -> IntCounter {
        self.log_dropped.clone()
    }

    /// A batch of changes was taken in; `revision` is the one in force now.
    pub fn reload(&self, result: Reload, revision: u64, duration: Duration) {
        self.reloads.with_label_values(&[RELOADS[result as usize]]).inc();
        self.reload_duration.observe(duration.as_secs_f64());
        self.revision.set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    /// How many objects are known, by kind. Kinds left out have none.
    pub fn set_objects<'a>(&self, counts: impl IntoIterator<Item = (&'a str, usize)>) {
        self.set_all(&self.objects, counts);
    }

    /// How many conditions there are, by reason. Reasons left out have none.
    pub fn set_conditions<'a>(&self, counts: impl IntoIterator<Item = (&'a str, usize)>) {
        self.set_all(&self.conditions, counts);
    }

    /// Whether it is ready for requests.
    pub fn set_ready(&self, ready: bool) {
        self.ready.set(ready.into());
    }

    /// How old what is in force may be.
    pub fn set_stale(&self, stale: Duration) {
        self.stale.set(i64::try_from(stale.as_secs()).unwrap_or(i64::MAX));
    }

    /// When the first certificate expires, in seconds since 1970.
    pub fn set_earliest_expiry(&self, expiry: Option<i64>) {
        self.expiry.set(expiry.unwrap_or(0));
    }

    /// What probes say of all pools' endpoints; to be called before a scrape is rendered, not as probes end. Pools past the
    /// label's bound, in the order given, are summed up.
    pub fn set_pools<'a>(&self, pools: impl IntoIterator<Item = (&'a str, PoolEndpoints)>) {
        let _levels = locked(&self.levels);
        self.pool_endpoints.reset();
        for (index, (pool, endpoints)) in pools.into_iter().enumerate() {
            let pool = if index < table::POOLS { pool } else { OTHER };
            for (health, count) in [
                ("healthy", endpoints.healthy),
                ("unhealthy", endpoints.unhealthy),
                ("unknown", endpoints.unknown),
            ] {
                self.pool_endpoints.with_label_values(&[pool, health]).add(count as i64);
            }
        }
    }

    /// Everything, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        let families = {
            let _levels = locked(&self.levels);
            self.registry.gather()
        };
        // Writing into a string fails only for families that the registry refuses to gather.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn set_all<'a>(&self, gauges: &IntGaugeVec, counts: impl IntoIterator<Item = (&'a str, usize)>) {
        let _levels = locked(&self.levels);
        gauges.reset();
        for (value, count) in counts {
            gauges.with_label_values(&[value]).set(count as i64);
        }
    }
}

/// The values of `result`, by [`Reload`].
const RELOADS: [&str; 3] = ["applied", "unchanged", "failed"];

fn labels(metric: &Metric) -> Vec<&'static str> {
    metric.labels.iter().map(|label| label.name).collect()
}

pub(crate) fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn histogram_opts(metric: &Metric) -> HistogramOpts {
    HistogramOpts::new(metric.name, metric.help).buckets(bounds())
}

pub(crate) fn counters(metric: &Metric) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(opts(metric), &labels(metric))
}

pub(crate) fn gauges(metric: &Metric) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(opts(metric), &labels(metric))
}

pub(crate) fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn description(metric: &Metric) -> Result<Desc, prometheus::Error> {
    let labels = labels(metric).into_iter().map(str::to_owned).collect();
    Desc::new(metric.name.to_owned(), metric.help.to_owned(), labels, Default::default())
}

type Handles<T> = Mutex<BTreeMap<Arc<str>, Weak<T>>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn handle<T>(handles: &Handles<T>, name: &str, bound: usize, make: impl FnOnce() -> T) -> Arc<T> {
    let mut handles = locked(handles);
    if let Some(handle) = handles.get(name).and_then(Weak::upgrade) {
        return handle;
    }
    handles.retain(|_, handle| handle.strong_count() > 0);
    let name = if handles.len() < bound { name } else { OTHER };
    if let Some(handle) = handles.get(name).and_then(Weak::upgrade) {
        return handle;
    }
    let handle = Arc::new(make());
    handles.insert(name.into(), Arc::downgrade(&handle));
    handle
}

/// What is counted in cells, in the order in which they are collected.
const HOT: [Metric; 14] = [
    table::REQUESTS,
    table::REQUEST_FLAGS,
    table::REQUEST_DURATION,
    table::RECEIVED,
    table::SENT,
    table::CONNECTIONS,
    table::ACCEPTED,
    table::SHED,
    table::HANDSHAKES,
    table::CLUSTER_REQUESTS,
    table::CLUSTER_FLAGS,
    table::CLUSTER_RESPONSE,
    table::CONNECTS,
    table::RETRIES,
];

struct Hot {
    flags: &'static [&'static str],
    descriptions: Vec<Desc>,
    listeners: Handles<ListenerMetrics>,
    clusters: Handles<ClusterMetrics>,
}

struct HotCollector(Arc<Hot>);

impl Collector for HotCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut samples = Samples::default();
        for (name, listener) in living(&self.0.listeners) {
            let sums = listener.cells.sums();
            let named = [&*name];
            samples.by(&table::REQUESTS, &named, &CODES, &sums[at::CODE..]);
            samples.nonzero_by(
                &table::REQUEST_FLAGS,
                &named,
                self.0.flags,
                &sums[at::FLAG..at::FLAG + FLAGS],
            );
            samples.add(&table::REQUEST_DURATION, &named, Sample::Durations(&sums[at::DURATION..at::OWN]));
            samples.add(&table::RECEIVED, &named, Sample::Count(sums[at::RECEIVED]));
            samples.add(&table::SENT, &named, Sample::Count(sums[at::SENT]));
            samples.add(&table::CONNECTIONS, &named, Sample::Level(listener.open_connections()));
            samples.add(&table::ACCEPTED, &named, Sample::Count(sums[at::ACCEPTED]));
            samples.add(&table::SHED, &named, Sample::Count(sums[at::SHED]));
            samples.by(&table::HANDSHAKES, &named, &HANDSHAKES, &sums[at::HANDSHAKE..]);
        }
        for (name, cluster) in living(&self.0.clusters) {
            let sums = cluster.cells.sums();
            let named = [&*name];
            samples.by(&table::CLUSTER_REQUESTS, &named, &CODES, &sums[at::CODE..]);
            samples.nonzero_by(
                &table::CLUSTER_FLAGS,
                &named,
                self.0.flags,
                &sums[at::FLAG..at::FLAG + FLAGS],
            );
            samples.add(&table::CLUSTER_RESPONSE, &named, Sample::Durations(&sums[at::DURATION..at::OWN]));
            samples.by(&table::CONNECTS, &named, &CONNECTS, &sums[at::CONNECT..]);
            samples.add(&table::RETRIES, &named, Sample::Count(sums[at::RETRIES]));
        }
        samples.families()
    }
}

fn living<T>(handles: &Handles<T>) -> Vec<(Arc<str>, Arc<T>)> {
    let handles = locked(handles);
    handles.iter().filter_map(|(name, handle)| Some((Arc::clone(name), handle.upgrade()?))).collect()
}

enum Sample<'a> {
    Count(u64),
    Level(i64),
    Durations(&'a [u64]),
}

/// Samples by the metric's name.
#[derive(Default)]
struct Samples(BTreeMap<&'static str, (Metric, Vec<proto::Metric>)>);

impl Samples {
    fn add(&mut self, metric: &Metric, values: &[&str], sample: Sample<'_>) {
        let pair = |(label, value): (&table::Label, &&str)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name(label.name.to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut line = proto::Metric::default();
        line.set_label(metric.labels.iter().zip(values).map(pair).collect());
        match sample {
            Sample::Count(count) => {
                let mut counter = proto::Counter::default();
                counter.set_value(count as f64);
                line.set_counter(counter);
            }
            Sample::Level(level) => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(level as f64);
                line.set_gauge(gauge);
            }
            Sample::Durations(sums) => line.set_histogram(histogram(sums)),
        }
        self.0.entry(metric.name).or_insert_with(|| (*metric, Vec::new())).1.push(line);
    }

    /// One count per value of the last label.
    fn by(&mut self, metric: &Metric, named: &[&str; 1], values: &[&str], sums: &[u64]) {
        for (value, &sum) in values.iter().zip(sums) {
            self.add(metric, &[named[0], value], Sample::Count(sum));
        }
    }

    /// The same, for values of which most never occur.
    fn nonzero_by(&mut self, metric: &Metric, named: &[&str; 1], values: &[&str], sums: &[u64]) {
        for (value, &sum) in values.iter().zip(sums).filter(|(_, sum)| **sum > 0) {
            self.add(metric, &[named[0], value], Sample::Count(sum));
        }
    }

    fn families(self) -> Vec<proto::MetricFamily> {
        let family = |(metric, lines): (Metric, Vec<proto::Metric>)| {
            let mut family = proto::MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => proto::MetricType::COUNTER,
                Kind::Gauge => proto::MetricType::GAUGE,
                Kind::Histogram => proto::MetricType::HISTOGRAM,
            });
            family.set_metric(lines);
            family
        };
        self.0.into_values().map(family).collect()
    }
}

#[cfg(test)]
mod tests;
