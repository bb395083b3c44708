//! A pool at run time: the plan's endpoints with their living state, and the way to each of them.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use portolan_balance::{Balancer, EndpointKey, EndpointState, Fitness, Registry};
use portolan_model::id::PoolId;
use portolan_model::plan::{Endpoint, Pool, PoolTls, Trust};
use portolan_model::pool::UpstreamProtocol;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::context::Tried;

/// Streams on one HTTP/2 connection to an endpoint.
const UPSTREAM_STREAMS: usize = 100;
/// What an endpoint may send ahead on one stream.
const UPSTREAM_STREAM_WINDOW: u32 = 256 << 10;
/// What an endpoint may send ahead on one connection.
const UPSTREAM_CONNECTION_WINDOW: u32 = 1 << 20;
/// How long an idle connection to an endpoint is kept.
const UPSTREAM_IDLE: Duration = Duration::from_secs(60);

/// The living states of all endpoints, by pool and address.
pub(crate) type Endpoints = Registry<EndpointKey, EndpointState>;

/// See the module's documentation.
pub(crate) struct PoolHandle {
    /// Who it is.
    pub(crate) id: PoolId,
    /// What the plan says.
    pub(crate) plan: Arc<Pool>,
    /// The plan's endpoints, and those that its names resolve to.
    pub(crate) endpoints: Box<[EndpointHandle]>,
    balancer: Balancer,
    /// See [`reuse_group`].
    group: u64,
    /// Who vouches for the endpoints, where the plan has their certificates.
    ca: Option<Arc<[WrappedX509]>>,
    /// Whether connections may be made: not while who vouches for the endpoints is missing.
    trusted: bool,
}

/// An endpoint at run time.
pub(crate) struct EndpointHandle {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Nobody is sent there where it is zero.
    weight: u32,
    /// Whether it is going away.
    terminating: bool,
    /// What is known of it.
    pub(crate) state: Arc<EndpointState>,
}

/// Which endpoints a try may go to.
#[derive(Clone, Copy)]
pub(crate) struct Candidates<'a> {
    /// How fit they are, at least.
    fitness: Fitness,
    tried: &'a [Tried],
    /// Whether those that were tried count too.
    again: bool,
}

impl<'a> Candidates<'a> {
    /// The best first: fit ones that were not tried, unsteady ones that were not; then either once more, since behind a node's port another pod answers
    /// the next time.
    pub(crate) fn best_first(tried: &'a [Tried]) -> [Self; 4] {
        let rounds = [
            (Fitness::Fit, false),
            (Fitness::Unsteady, false),
            (Fitness::Fit, true),
            (Fitness::Unsteady, true),
        ];
        rounds.map(|(fitness, again)| Self { fitness, tried, again })
    }

    fn has(&self, pool: &PoolHandle, endpoint: &EndpointHandle) -> bool {
        // Who let the client wait would do so again, for as long as nobody looks after it.
        let barred = |it: &Tried| {
            it.address == endpoint.address && (!self.again || it.waited && pool.plan.health_check.is_none())
        };
        endpoint.state.fitness() >= self.fitness && !self.tried.iter().any(barred)
    }
}

impl PoolHandle {
    /// Builds the pool of the plan with what its names resolve to. Endpoints that were known keep their state.
    pub(crate) fn build(
        id: PoolId,
        plan: Arc<Pool>,
        resolved: &[Endpoint],
        states: &Endpoints,
        seed: u64,
    ) -> Self {
        let (group, ca) = (reuse_group(&id, &plan), plan.tls.as_ref().and_then(ca));
        let trusted = !matches!(&plan.tls, Some(PoolTls { trust: Trust::Missing(_), .. }));
        let endpoints: Box<[EndpointHandle]> = plan
            .endpoints
            .iter()
            .chain(resolved)
            .map(|endpoint| EndpointHandle {
                address: endpoint.address,
                weight: endpoint.weight,
                terminating: endpoint.terminating,
                state: states.get_or_create(
                    EndpointKey { pool: id.clone(), address: endpoint.address },
                    EndpointState::default,
                ),
            })
            .collect();
        let weights: Vec<u32> =
            plan.endpoints.iter().chain(resolved).map(|endpoint| endpoint.weight).collect();
        let balancer = Balancer::new(plan.balancing, &weights, seed);
        Self { id, plan, endpoints, balancer, group, ca, trusted }
    }

    /// The endpoint for the next try; one that is going away only where no other is left.
    pub(crate) fn pick(&self, random: u64, candidates: Candidates<'_>) -> Option<usize> {
        let pick = |terminating: bool| {
            self.balancer.pick(
                random,
                |index| self.endpoints[index].state.in_flight(),
                |index| {
                    let endpoint = &self.endpoints[index];
                    endpoint.terminating == terminating && candidates.has(self, endpoint)
                },
            )
        };
        pick(false).or_else(|| pick(true))
    }

    /// Whether [`Self::pick`] would find an endpoint. Takes nobody's turn.
    pub(crate) fn can_pick(&self, candidates: Candidates<'_>) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.weight > 0 && candidates.has(self, endpoint))
    }

    /// The way to an endpoint, for one try. It is made for each, since it takes a kilobyte: more than all else that is known of
    /// an endpoint.
    pub(crate) fn peer(
        &self,
        address: SocketAddr,
        connect: Duration,
        read: Option<Duration>,
        idle: Duration,
    ) -> Box<HttpPeer> {
        let mut peer = Box::new(peer(&self.plan, address, self.group, self.ca.clone()));
        peer.options.connection_timeout = Some(connect);
        peer.options.total_connection_timeout = Some(connect);
        peer.options.read_timeout = read;
        peer.options.write_timeout = Some(idle);
        peer
    }

    /// The way to an endpoint whose address is yet to be set, for probes.
    pub(crate) fn peer_template(&self, timeout: Duration) -> HttpPeer {
        let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut peer = peer(&self.plan, anywhere, self.group, self.ca.clone());
        peer.options.connection_timeout = Some(timeout);
        peer.options.read_timeout = Some(timeout);
        peer
    }

    /// Whether connections may be made at all.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }
}

/// Connections are shared only within a tenant and among pools that trust alike.
fn reuse_group(id: &PoolId, plan: &Pool) -> u64 {
    let mut hasher = FixedState::with_seed(1).build_hasher();
    id.namespace.hash(&mut hasher);
    plan.tls.hash(&mut hasher);
    plan.protocol.hash(&mut hasher);
    hasher.finish()
}

fn ca(tls: &PoolTls) -> Option<Arc<[WrappedX509]>> {
    let Trust::Bundle(bundle) = &tls.trust else { return None };
    Some(
        CertificateDer::pem_slice_iter(&bundle.pem)
            .flatten()
            .map(|der| WrappedX509::new(der.to_vec(), parse_x509))
            .collect(),
    )
}

fn peer(plan: &Pool, address: SocketAddr, group: u64, ca: Option<Arc<[WrappedX509]>>) -> HttpPeer {
    let (tls, name) = match &plan.tls {
        Some(tls) => (true, tls.server_name.as_str().to_owned()),
        None => (false, String::new()),
    };
    let mut peer = HttpPeer::new(address, tls, name);
    peer.group_key = group;
    let options = &mut peer.options;
    options.alpn = match plan.protocol {
        UpstreamProtocol::Http1 => ALPN::H1,
        UpstreamProtocol::Http2 => ALPN::H2,
    };
    let insecure = matches!(&plan.tls, Some(PoolTls { trust: Trust::Insecure, .. }));
    options.verify_cert = !insecure;
    options.verify_hostname = !insecure;
    options.ca = ca;
    options.idle_timeout = Some(UPSTREAM_IDLE);
    options.max_h2_streams = UPSTREAM_STREAMS;
    options.h2_stream_window_size = Some(UPSTREAM_STREAM_WINDOW);
    options.h2_connection_window_size = Some(UPSTREAM_CONNECTION_WINDOW);
    peer
}
