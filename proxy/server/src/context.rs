//! What is known of a request while it is served.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Version};
use pingora_proxy::Session;
use portolan_balance::InFlight;
use portolan_filter::{Client, CompiledFilter};
use portolan_metrics::Connect;
use portolan_model::plan::{Action, Route, VirtualHost};
use portolan_model::route::Scheme;
use smallvec::SmallVec;

use crate::failure::Failure;
use crate::info::{ConnInfo, Incoming};
use crate::pool::PoolHandle;
use crate::record::{self, Recorder};
use crate::snapshot::{ClusterHandle, HostHandle, Snapshot};
use crate::watch::Watch;

/// No address is known: of a request that was not let in far enough to tell.
const NOBODY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// Longer than any request may take.
pub(crate) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Pingora's `CTX`.
pub(crate) struct Context {
    incoming: Option<Incoming>,
    /// Until the request is recorded.
    pub(crate) recorder: Option<Arc<Recorder>>,
    /// What was asked for, where no session is left to tell.
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) path: Option<PathAndQuery>,
    /// The response's, from the endpoint.
    pub(crate) status: Option<u16>,
    /// The world that the request sees, to its end.
    pub(crate) snapshot: Arc<Snapshot>,
    /// When its head was whole.
    pub(crate) started: Instant,
    /// When it must have ended.
    pub(crate) end_by: Option<Instant>,
    /// Ours, or a trusted proxy's.
    pub(crate) request_id: HeaderValue,
    /// The client, as far as the proxies in front are believed.
    pub(crate) client: Client,
    /// Whether the client asked to be told how its request is handled, and may.
    pub(crate) explains: bool,
    /// Normalised; empty where there was none.
    pub(crate) host: String,
    pub(crate) is_grpc: bool,
    /// What the router found.
    pub(crate) target: Option<Target>,
    /// The cluster of its action.
    pub(crate) cluster: Option<Arc<ClusterHandle>>,
    /// The pool and endpoint of the first try, before it begins.
    pub(crate) first_choice: Option<(Arc<PoolHandle>, usize)>,
    /// The pool of the last try.
    pub(crate) pool: Option<Arc<PoolHandle>>,
    /// The endpoint of the last try.
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) tries: usize,
    /// Endpoints that were tried, this try's included; not one whose reused connection alone had died.
    pub(crate) tried: SmallVec<[Tried; 4]>,
    /// The next try must not take an idle connection.
    pub(crate) wants_fresh: bool,
    pub(crate) try_started: Option<Instant>,
    /// How long it may take to the response's head.
    pub(crate) per_try: Duration,
    /// Its request's body was not whole when it began, and its connection serves nobody else.
    pub(crate) uploads: bool,
    /// Its response has a deadline for each piece from us, not from the library.
    pub(crate) paced: bool,
    /// From a try's start to its response's head.
    pub(crate) upstream_ms: Option<Duration>,
    pub(crate) body_seen: u64,
    pub(crate) response_seen: u64,
    /// Whether its end is here.
    pub(crate) response_is_whole: bool,
    /// Why the last try failed, while there may be another.
    pub(crate) last_failure: Option<Failure>,
    /// Why the request failed.
    pub(crate) failure: Option<Failure>,
    /// The library's word for it.
    pub(crate) detail: Option<String>,
}

impl Drop for Context {
    fn drop(&mut self) {
        if let Some(recorder) = self.recorder.take() {
            record::cut(&recorder, self);
        }
    }
}

/// An endpoint that a request was to go to.
pub(crate) struct Tried {
    pub(crate) address: SocketAddr,
    /// Whether the client waited for it in vain.
    pub(crate) waited: bool,
}

/// Where a request goes.
pub(crate) struct Target {
    pub(crate) host: Arc<HostHandle>,
    pub(crate) route: usize,
    pub(crate) action: usize,
    /// How much of the path a prefix match took.
    pub(crate) taken: usize,
}

impl Target {
    pub(crate) fn route(&self) -> Option<&Route> {
        let plan: &VirtualHost = std::borrow::Borrow::borrow(&*self.host);
        plan.routes.get(self.route)
    }
}

impl Context {
    pub(crate) fn new(snapshot: Arc<Snapshot>, recorder: Arc<Recorder>) -> Self {
        Self {
            incoming: Incoming::current(),
            recorder: Some(recorder),
            method: Method::default(),
            version: Version::default(),
            path: None,
            status: None,
            snapshot,
            started: Instant::now(),
            end_by: None,
            request_id: HeaderValue::from_static(""),
            client: Client { address: NOBODY, trusted: false, scheme: Scheme::Http, port: 0 },
            explains: false,
            host: String::new(),
            is_grpc: false,
            target: None,
            cluster: None,
            first_choice: None,
            pool: None,
            upstream: None,
            in_flight: None,
            tries: 0,
            tried: SmallVec::new(),
            wants_fresh: false,
            try_started: None,
            per_try: FOREVER,
            uploads: false,
            paced: false,
            upstream_ms: None,
            body_seen: 0,
            response_seen: 0,
            response_is_whole: false,
            last_failure: None,
            failure: None,
            detail: None,
        }
    }

    pub(crate) fn conn(&self) -> Option<&Arc<ConnInfo>> {
        self.incoming.as_ref().map(|incoming| &incoming.conn)
    }

    pub(crate) fn watch(&self) -> Option<&Arc<Watch>> {
        self.incoming.as_ref().map(|incoming| &incoming.watch)
    }

    /// Whether one of its deadlines has passed.
    pub(crate) fn is_late(&self) -> bool {
        self.watch().is_some_and(|watch| watch.late().is_some())
    }

    /// What the request's rule does with it.
    pub(crate) fn action(&self) -> Option<&Arc<Action>> {
        let target = self.target.as_ref()?;
        target.host.action(target.route, target.action)
    }

    /// Counts how a connection to an endpoint came about.
    pub(crate) fn count_connect(&self, result: Connect) {
        if let Some(cluster) = &self.cluster {
            cluster.metrics.connect(result);
        }
    }

    /// The filters of its rule.
    pub(crate) fn filters(&self) -> &[CompiledFilter] {
        self.target
            .as_ref()
            .map(|target| target.host.filters(target.route, target.action))
            .unwrap_or_default()
    }

    /// How long it may still take.
    pub(crate) fn remaining(&self) -> Duration {
        self.end_by.map_or(FOREVER, |end| end.saturating_duration_since(Instant::now()))
    }

    /// Whether the client waits to be told to send its body.
    pub(crate) fn expects_continue(&self, session: &Session) -> bool {
        let request = session.req_header();
        request.version == http::Version::HTTP_11
            && request
                .headers
                .get(http::header::EXPECT)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }
}
