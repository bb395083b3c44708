//! The table of what is measured, and the ratios that Portolan is held to.

use crate::load::{Load, Pace};
use crate::site::{HOST, TLS_UPSTREAM_HOST};

/// What a scenario measures.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// CPU time of each request (or handshake) under this load.
    Cost(Load),
    /// Resident memory of each idle connection, after one request.
    IdleMemory { tls: bool },
}

/// One row of the comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) measure: Measure,
    /// The most that Portolan's cost may be, as a multiple of Envoy's.
    pub(crate) envoy_limit: Option<f64>,
    /// The most memory an idle connection may take, in bytes.
    pub(crate) memory_limit: Option<f64>,
}

/// The most that Portolan's cost may be, as a multiple of the bare proxy's, in every scenario of cost.
pub(crate) const BARE_LIMIT: f64 = 1.15;

const GET: Load = Load { pace: Pace::KeepAlive, tls: false, connections: 64, host: HOST, size: 128, post: 0 };

const fn cost(name: &'static str, about: &'static str, load: Load, envoy_limit: Option<f64>) -> Scenario {
    Scenario { name, about, measure: Measure::Cost(load), envoy_limit, memory_limit: None }
}

const fn idle(name: &'static str, about: &'static str, tls: bool, limit: f64) -> Scenario {
    Scenario {
        name,
        about,
        measure: Measure::IdleMemory { tls },
        envoy_limit: None,
        memory_limit: Some(limit),
    }
}

/// All scenarios, in the order they run.
pub(crate) const SCENARIOS: [Scenario; 14] = [
    cost("h1-128", "HTTP/1.1 keep-alive, 128 B", GET, Some(0.80)),
    cost("h1-16k", "HTTP/1.1 keep-alive, 16 KiB", Load { size: 16 << 10, ..GET }, Some(0.90)),
    cost("h1-1m", "HTTP/1.1 keep-alive, 1 MiB", Load { size: 1 << 20, connections: 16, ..GET }, Some(1.0)),
    cost(
        "post-64k",
        "HTTP/1.1 POST of 64 KiB",
        Load { post: 64 << 10, connections: 32, size: 0, ..GET },
        Some(1.0),
    ),
    cost(
        "new-conn",
        "HTTP/1.1, a new connection for each request, 128 B",
        Load { pace: Pace::NewConnection, connections: 32, ..GET },
        None,
    ),
    cost("tls-128", "TLS 1.3 keep-alive, 128 B", Load { tls: true, ..GET }, Some(0.80)),
    cost("tls-16k", "TLS 1.3 keep-alive, 16 KiB", Load { tls: true, size: 16 << 10, ..GET }, Some(0.90)),
    cost(
        "handshake",
        "full TLS 1.3 handshakes, ECDSA P-256, X25519",
        Load { pace: Pace::Handshake, tls: true, connections: 32, ..GET },
        Some(1.0 / 1.1),
    ),
    cost(
        "h2-128",
        "HTTP/2 over TLS, 4 connections of 16 streams, 128 B",
        Load { pace: Pace::Http2 { streams: 16 }, tls: true, connections: 4, ..GET },
        Some(0.80),
    ),
    cost("tls-upstream", "HTTP/1.1 to a TLS upstream, 128 B", Load { host: TLS_UPSTREAM_HOST, ..GET }, None),
    cost(
        "rate-h1",
        "2,000 requests/s, HTTP/1.1, 128 B: latency",
        Load { pace: Pace::Rate(2000), ..GET },
        None,
    ),
    cost(
        "rate-tls",
        "2,000 requests/s, TLS 1.3, 128 B: latency",
        Load { pace: Pace::Rate(2000), tls: true, ..GET },
        None,
    ),
    idle("idle-http", "memory of an idle HTTP connection", false, 4096.0),
    idle("idle-tls", "memory of an idle TLS connection", true, 12288.0),
];
