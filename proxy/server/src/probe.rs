//! Active health checks: one probe per endpoint of a pool, whoever routes to it, behind pingora-load-balancing's
//! `HealthCheck`. Verdicts come from `portolan-health` and go into the endpoint's living state.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::connectors::http::Connector;
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::HealthCheck as Check;
use portolan_balance::{EndpointState, Fitness};
use portolan_health::{EndpointHealth, Health, Outcome};
use portolan_model::id::PoolId;
use portolan_model::plan::{Pool, Update};
use portolan_model::pool::{HealthCheck, Probe};
use tokio::task::AbortHandle;

use crate::pool::PoolHandle;
use crate::shared::Shared;
use crate::snapshot::Snapshot;

/// The probes of all pools. Needs a tokio runtime.
pub(crate) struct Prober {
    shared: Arc<Shared>,
    pools: HashMap<PoolId, Probed>,
    connector: Arc<Connector>,
}

struct Probed {
    plan: Arc<Pool>,
    endpoints: HashMap<std::net::SocketAddr, Probing>,
}

/// A probe that runs. Once this is dropped, it says nothing more.
struct Probing {
    task: AbortHandle,
    over: Arc<Mutex<bool>>,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
        // The task may be past its last await, on another thread.
        *self.over.lock() = true;
    }
}

impl Prober {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pools: HashMap::new(), connector: Arc::new(Connector::new(None)) }
    }

    /// Starts and ends probes as an update says.
    pub(crate) fn follow(&mut self, update: &Update, snapshot: &Snapshot) {
        for (id, _) in &update.pools {
            self.refresh(id, snapshot);
        }
    }

    /// Starts and ends the probes of one pool.
    pub(crate) fn refresh(&mut self, id: &PoolId, snapshot: &Snapshot) {
        let Some(pool) = snapshot.pools.get(id) else {
            self.pools.remove(id);
            return;
        };
        let Some(settings) = &pool.plan.health_check else {
            self.pools.remove(id);
            // Whatever probes said last, of this pool or of one of that name before it, nobody says it any more.
            pool.endpoints.iter().for_each(|endpoint| endpoint.state.set_fitness(Fitness::Fit));
            return;
        };
        let same = self.pools.get(id).is_some_and(|probed| same_checks(&probed.plan, &pool.plan));
        let mut before = match self.pools.remove(id) {
            Some(probed) if same => probed.endpoints,
            _ => HashMap::new(),
        };
        let check = build(pool, settings, &self.connector);
        let endpoints = pool
            .endpoints
            .iter()
            .map(|endpoint| {
                let address = endpoint.address;
                let handle = before.remove(&address).unwrap_or_else(|| {
                    let over = Arc::new(Mutex::new(false));
                    let task = probe(
                        Arc::clone(&self.shared),
                        id.clone(),
                        address,
                        Arc::clone(&endpoint.state),
                        settings.clone(),
                        Arc::clone(&check),
                        Arc::clone(&over),
                    );
                    Probing { task: tokio::spawn(task).abort_handle(), over }
                });
                (address, handle)
            })
            .collect();
        self.pools.insert(id.clone(), Probed { plan: Arc::clone(&pool.plan), endpoints });
    }
}

fn same_checks(a: &Pool, b: &Pool) -> bool {
    a.health_check == b.health_check && a.tls == b.tls && a.protocol == b.protocol
}

/// Probes one endpoint for as long as it is there.
async fn probe(
    shared: Arc<Shared>,
    pool: PoolId,
    address: std::net::SocketAddr,
    state: Arc<EndpointState>,
    settings: HealthCheck,
    check: Arc<dyn Check + Send + Sync>,
    over: Arc<Mutex<bool>>,
) {
    let target = settings.port.map_or(address, |port| std::net::SocketAddr::new(address.ip(), port.get()));
    let Ok(backend) = Backend::new(&target.to_string()) else { return };
    let mut health = EndpointHealth::new(Instant::now(), &settings, shared.random());
    loop {
        tokio::time::sleep_until(health.due().into()).await;
        let outcome = match tokio::time::timeout(settings.timeout, check.check(&backend)).await {
            Ok(Ok(())) => Outcome::Success,
            Ok(Err(_)) | Err(_) => Outcome::Failure,
        };
        let changed = health.record(Instant::now(), outcome, &settings, shared.random());
        let over = over.lock();
        if *over {
            return;
        }
        state.set_fitness(match health.health() {
            _ if health.is_unsteady() => Fitness::Unsteady,
            Health::Unknown | Health::Healthy => Fitness::Fit,
            Health::Unhealthy => Fitness::Unfit,
        });
        drop(over);
        if let Some(verdict) = changed {
            shared.health_changed(&pool, address, verdict == Health::Healthy);
        }
    }
}

fn build(
    pool: &PoolHandle,
    settings: &HealthCheck,
    connector: &Arc<Connector>,
) -> Arc<dyn Check + Send + Sync> {
    match &settings.probe {
        Probe::Tcp => Arc::new(TcpCheck),
        Probe::Http { path, host, expected } => {
            let name = pool.plan.tls.as_ref().map(|tls| tls.server_name.as_str());
            let mut peer = pool.peer_template(settings.timeout);
            // The library shares no HTTP/2 connection that has room for one stream alone: each probe opens one of its own,
            // which closes when the probe is over, however it ends.
            peer.options.max_h2_streams = 1;
            Arc::new(HttpCheck {
                connector: Arc::clone(connector),
                peer,
                host: host.as_ref().map(|host| host.as_str()).or(name).map(str::to_owned),
                path: Arc::clone(path),
                expected: expected.clone(),
            })
        }
    }
}

/// A connection is enough.
struct TcpCheck;

#[async_trait]
impl Check for TcpCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let SocketAddr::Inet(address) = &target.addr else { return Err(Error::new(ErrorType::SocketError)) };
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.map(drop).or_err(ErrorType::ConnectError, "probe")
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

/// A `GET` must be answered with an expected status. All pools' checks share one connector: what the library's own check
/// brings along, a trust store read anew for each, is more than ten thousand pools can bear.
struct HttpCheck {
    connector: Arc<Connector>,
    peer: HttpPeer,
    host: Option<String>,
    path: Arc<str>,
    expected: Range<u16>,
}

#[async_trait]
impl Check for HttpCheck {
    async fn check(&self, target: &Backend) -> Result<()> {
        let mut peer = self.peer.clone();
        peer._address = target.addr.clone();
        let mut request = RequestHeader::build("GET", self.path.as_bytes(), Some(2))?;
        let host = self.host.clone().unwrap_or_else(|| target.addr.to_string());
        request.insert_header(http::header::HOST, host)?;
        request.insert_header(http::header::USER_AGENT, "portolan-health-check")?;
        let (mut session, _) = self.connector.get_http_session(&peer).await?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        session.set_read_timeout(peer.options.read_timeout);
        session.read_response_header().await?;
        let status = session.response_header().map_or(0, |response| response.status.as_u16());
        // An HTTP/2 stream is cancelled when it is dropped; shutting it down would call it an error.
        if let HttpSession::H1(session) = &mut session {
            session.shutdown().await;
        }
        if self.expected.contains(&status) { Ok(()) } else { Err(Error::new(ErrorType::HTTPStatus(status))) }
    }

    fn health_threshold(&self, _success: bool) -> usize {
        1
    }
}

#[cfg(test)]
mod tests;
