//! The one table of metrics. Its order is the order of the reference page.

/// How a metric moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only up, from 0 at the start of the process.
    Counter,
    /// Up and down.
    Gauge,
    /// Observations by size.
    Histogram,
}

/// A label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What bounds the number of its values.
    pub bound: &'static str,
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `portolan_<part>_<noun>_<unit>[_total]`.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it says, in a sentence.
    pub help: &'static str,
}

/// So many listeners have metrics of their own; more share the value `other`.
pub(crate) const LISTENERS: usize = 64;
/// So many clusters have metrics of their own; more share the value `other`.
pub(crate) const CLUSTERS: usize = 1000;
/// So many pools have metrics of their own; more share the value `other`.
pub(crate) const POOLS: usize = 1000;

/// The values of `code`, by a status divided by 100.
pub(crate) const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// So many flags can be counted.
pub(crate) const FLAGS: usize = 32;

const LISTENER: Label = Label { name: "listener", bound: "listeners of the Proxy, 64 at most, then `other`" };
const CLUSTER: Label = Label { name: "cluster", bound: "member clusters, 1000 at most, then `other`" };
const POOL: Label = Label { name: "pool", bound: "`namespace/name` of a pool, 1000 at most, then `other`" };
const CODE: Label = Label { name: "code", bound: "`1xx` to `5xx`, and `none` where nothing was answered" };
const FLAG: Label = Label { name: "flag", bound: "the flags of the access log" };

const fn metric(name: &'static str, kind: Kind, labels: &'static [Label], help: &'static str) -> Metric {
    Metric { name, kind, labels, help }
}

macro_rules! table {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:expr),*], $help:literal;)*) => {
        $(pub(crate) const $constant: Metric = metric($name, Kind::$kind, &[$($label),*], $help);)*
        /// Every metric there is.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

table! {
    REQUESTS = "portolan_listener_requests_total", Counter, [LISTENER, CODE],
        "Requests that ended, by the class of their status.";
    REQUEST_FLAGS = "portolan_listener_flagged_requests_total", Counter, [LISTENER, FLAG],
        "Requests that did not end as they should have, by the flag that says why.";
    REQUEST_DURATION = "portolan_listener_request_duration_seconds", Histogram, [LISTENER],
        "From a request's head to the end of its response.";
    RECEIVED = "portolan_listener_received_bytes_total", Counter, [LISTENER],
        "Bytes of request bodies received from clients.";
    SENT = "portolan_listener_sent_bytes_total", Counter, [LISTENER],
        "Bytes of response bodies sent to clients.";
    CONNECTIONS = "portolan_listener_connections", Gauge, [LISTENER],
        "Open connections from clients.";
    ACCEPTED = "portolan_listener_connections_total", Counter, [LISTENER],
        "Connections accepted from clients.";
    SHED = "portolan_listener_shed_connections_total", Counter, [LISTENER],
        "Connections closed at once because a limit on connections was reached.";
    HANDSHAKES = "portolan_listener_handshakes_total", Counter,
        [LISTENER, Label { name: "result", bound: "`tls1.2`, `tls1.3`, `unknown_name`, `failed`, `timeout`" }],
        "TLS handshakes with clients, by the version agreed on or the way they failed.";
    CLUSTER_REQUESTS = "portolan_cluster_requests_total", Counter, [CLUSTER, CODE],
        "Requests routed to a cluster that ended, by the class of their status.";
    CLUSTER_FLAGS = "portolan_cluster_flagged_requests_total", Counter, [CLUSTER, FLAG],
        "Requests routed to a cluster that did not end as they should have, by the flag that says why.";
    CLUSTER_RESPONSE = "portolan_cluster_response_duration_seconds", Histogram, [CLUSTER],
        "From a request's head to the head of the endpoint's response, retries included.";
    CONNECTS = "portolan_cluster_connects_total", Counter,
        [CLUSTER, Label { name: "result", bound: "`new`, `reused`, `failed`, `timeout`" }],
        "Connections to endpoints taken for a request.";
    RETRIES = "portolan_cluster_retries_total", Counter, [CLUSTER],
        "Tries after the first.";
    POOL_ENDPOINTS = "portolan_pool_endpoints", Gauge,
        [POOL, Label { name: "health", bound: "`healthy`, `unhealthy`, `unknown`" }],
        "Endpoints by what probes say of them; unsteady ones are unhealthy.";
    LOG_DROPPED = "portolan_access_log_dropped_lines_total", Counter, [],
        "Lines of the access log that were dropped because it could not be written fast enough.";
    REVISION = "portolan_config_revision", Gauge, [],
        "The revision of the configuration in force.";
    RELOADS = "portolan_config_reloads_total", Counter,
        [Label { name: "result", bound: "`applied`, `unchanged`, `failed`" }],
        "Batches of changes taken in, by what they came to.";
    RELOAD_DURATION = "portolan_config_reload_duration_seconds", Histogram, [],
        "From a batch of changes to the configuration in force.";
    OBJECTS = "portolan_config_objects", Gauge,
        [Label { name: "kind", bound: "the kinds that Portolan reads" }],
        "Objects known.";
    CONDITIONS = "portolan_config_conditions", Gauge,
        [Label { name: "reason", bound: "the reasons of conditions" }],
        "Conditions on objects: what is wrong with the configuration.";
    READY = "portolan_ready", Gauge, [],
        "1 where `/readyz` answers 200, else 0.";
    STALE = "portolan_source_stale_seconds", Gauge, [],
        "How old what is in force may be, since the API server cannot be watched, or not all of it; 0 where all is well, and with a folder.";
    EXPIRY = "portolan_certificate_earliest_expiry_seconds", Gauge, [],
        "When the first certificate expires, in seconds since 1970; 0 without certificates.";
    BUILD = "portolan_build_info", Gauge, [Label { name: "version", bound: "one" }],
        "Always 1.";
}
