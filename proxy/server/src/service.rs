//! A request on its way: what Pingora asks at each step, and what we answer.
//!
//! ```text
//!  request_filter: host, path, client ─► route ─► answer of our own, or go on
//!  upstream_peer ─► action (cluster) ─► backend ─► endpoint      (again for each try)
//!  upstream_request_filter, response_filter: header edits, forwarding headers
//!  logging: access log, metrics
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Version, header};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result, RetryType};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use portolan_balance::{Choice, nearest, weighted};
use portolan_metrics::Connect;
use portolan_model::locality::Distance;
use portolan_model::plan::Route;
use portolan_model::pool::UpstreamProtocol;

use crate::answer;
use crate::context::{Context, FOREVER, Target, Tried};
use crate::deadlines::Deadlines;
use crate::failure::{Failure, Flag};
use crate::forward;
use crate::pool::{Candidates, PoolHandle};
use crate::record::{self, Recorder};
use crate::request::{self, Stop};
use crate::shared::Shared;
use crate::watch::Late;

/// Tries of one request, the first included.
const MAX_TRIES: usize = 3;

/// How long a client may take to read an answer of our own.
const ANSWERED_IN: Duration = Duration::from_secs(5);

/// A client that does not read is found before its endpoint is blamed.
const CLIENTS_FIRST: Duration = Duration::from_millis(500);

/// Our `ProxyHttp`. One per worker.
pub(crate) struct Service {
    shared: Arc<Shared>,
    recorder: Arc<Recorder>,
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>, worker: usize) -> Self {
        Self { recorder: Arc::new(Recorder { shared: Arc::clone(&shared), worker }), shared }
    }

    /// Which action of a route takes the request. On a shared host: by weight among the nearest of the clusters that are not drained and,
    /// where there are several, answer by themselves or have an endpoint for it. What has been sent once is not answered with a redirect.
    /// Another try goes to another cluster where one can take it: what failed may be the way to all of the first.
    fn choose_action(&self, ctx: &Context, target: &Target) -> Option<usize> {
        let route = target.route()?;
        if !target.host.is_shared() {
            return Some(0);
        }
        let mut rounds = Candidates::best_first(&ctx.tried).into_iter();
        rounds.find_map(|candidates| self.choose_among(candidates, ctx, target, route))
    }

    /// See [`Self::choose_action`].
    fn choose_among(
        &self,
        candidates: Candidates<'_>,
        ctx: &Context,
        target: &Target,
        route: &Route,
    ) -> Option<usize> {
        let snapshot = &ctx.snapshot;
        let alone = route.actions.len() == 1;
        let mut choices: smallvec::SmallVec<[Choice; 8]> = route
            .actions
            .iter()
            .map(|action| {
                let Some(cluster) = snapshot.clusters.get(action.cluster()) else {
                    return (0, Distance::Elsewhere);
                };
                let plan = &cluster.plan;
                let can = if request::is_redirected(ctx, action) {
                    ctx.tries == 0
                } else {
                    alone
                        || action.backends.iter().any(|backend| {
                            let pool = snapshot.pools.get(&backend.pool);
                            backend.weight > 0 && pool.is_some_and(|pool| pool.can_pick(candidates))
                        })
                };
                let weight = if plan.drain || !can { 0 } else { plan.weight };
                (weight, plan.locality.distance(&snapshot.proxy.locality))
            })
            .collect();
        let tried = target.action;
        if ctx.tries > 0 && choices.iter().enumerate().any(|(at, (weight, _))| at != tried && *weight > 0) {
            choices[tried].0 = 0;
        }
        nearest(&choices, self.shared.random())
    }

    /// Where the request goes first. What can be refused is refused here: an error later costs the client its connection.
    fn decide(&self, session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
        request::admit(session, ctx, &self.shared)?;
        if let Some(target) = ctx.target.as_ref().filter(|target| target.host.is_shared()) {
            const NO_CLUSTER: Failure =
                Failure::new(Flag::NoHealthyEndpoint, 503, "no cluster can take the request");
            let action = self.choose_action(ctx, target).ok_or(NO_CLUSTER)?;
            if let Some(target) = &mut ctx.target {
                target.action = action;
            }
        }
        request::police(session, ctx)?;
        ctx.first_choice = Some(self.choose(ctx)?);
        Ok(())
    }

    /// The pool and endpoint of the next try.
    fn choose(&self, ctx: &mut Context) -> Result<(Arc<PoolHandle>, usize), Failure> {
        const NO_POOL: Failure = Failure::new(Flag::NoPool, 500, "the route's pool does not exist");
        const NO_ENDPOINT: Failure =
            Failure::new(Flag::NoHealthyEndpoint, 503, "no endpoint can take the request");
        let Some(target) = &ctx.target else {
            return Err(Failure::new(Flag::Internal, 500, "the request has no route"));
        };
        if ctx.tries > 0 {
            if let Some(cluster) = &ctx.cluster {
                cluster.metrics.retry();
            }
            // Another try may go to another cluster.
            let again = self.choose_action(ctx, target);
            if let (Some(action), Some(target)) = (again, &mut ctx.target) {
                target.action = action;
            }
        }
        let Some(action) = ctx.action().map(Arc::clone) else { return Err(NO_ENDPOINT) };
        ctx.cluster = ctx.snapshot.clusters.get(action.cluster()).map(Arc::clone);
        let random = self.shared.random();
        let backend = match &*action.backends {
            [backend] if backend.weight > 0 => backend,
            backends => match weighted(backends.iter().map(|backend| backend.weight), random) {
                Some(index) => &backends[index],
                None => return Err(NO_POOL),
            },
        };
        let Some(pool) = ctx.snapshot.pools.get(&backend.pool).cloned() else { return Err(NO_POOL) };
        ctx.pool = Some(Arc::clone(&pool));
        if !pool.is_trusted() {
            return Err(Failure::new(Flag::NoPool, 500, "the CA bundle of the route's pool is missing"));
        }
        let mut rounds = Candidates::best_first(&ctx.tried).into_iter();
        match rounds.find_map(|candidates| pool.pick(random, candidates)) {
            Some(endpoint) => Ok((pool, endpoint)),
            None => Err(NO_ENDPOINT),
        }
    }

    /// Answers the client ourselves, if it can still be answered.
    async fn answer(&self, session: &mut Session, ctx: &mut Context, failure: Failure) -> u16 {
        ctx.failure = Some(failure);
        if failure.flag == Flag::ClientGone || answered(session) {
            return 0;
        }
        self.close_if_draining(session, ctx);
        // A client that is gone is not owed an answer.
        if let Ok((head, body)) = answer::build(session.req_header(), ctx, failure) {
            self.send(session, ctx, head, body).await;
        }
        failure.status
    }

    /// Sends an answer of our own, to a client that had better read it soon.
    async fn send(&self, session: &mut Session, ctx: &Context, head: Box<ResponseHeader>, body: Bytes) {
        if let Some(watch) = ctx.watch() {
            watch.end_by(Instant::now() + ANSWERED_IN);
        }
        let _ = answer::send(session, head, body).await;
    }

    /// What an error of Pingora's comes to.
    fn failure(&self, ctx: &Context, error: &Error) -> Failure {
        use pingora_core::ErrorSource::{Downstream, Upstream};
        use pingora_core::ErrorType::{
            ConnectTimedout, ConnectionClosed, H2Error, HTTPStatus, InvalidHTTPHeader, ReadError,
            ReadTimedout, TLSHandshakeTimedout, WriteError, WriteTimedout,
        };
        if let Some(failure) = ctx.failure {
            return failure;
        }
        if let Some(refusal) = ctx.conn().and_then(|conn| conn.refusal()) {
            return refusal.into();
        }
        if ctx.conn().is_some_and(|conn| conn.slow_body()) {
            return Failure::new(Flag::ClientTimeout, 408, "the request's body comes too slowly");
        }
        match ctx.watch().and_then(|watch| watch.late()) {
            Some(Late::ClientReading | Late::ClientSending) => return Failure::SLOW_CLIENT,
            Some(Late::Upstream) => return Failure::SLOW_UPSTREAM,
            None => {}
        }
        match (error.esource(), error.etype()) {
            (Upstream, ConnectTimedout | ReadTimedout | WriteTimedout | TLSHandshakeTimedout) => {
                Failure::SLOW_UPSTREAM
            }
            (Upstream, _) => Failure::new(
                Flag::UpstreamFailure,
                502,
                "the upstream refused, reset or garbled the exchange",
            ),
            (Downstream, ReadTimedout | WriteTimedout) => Failure::SLOW_CLIENT,
            (Downstream, ReadError | WriteError | ConnectionClosed | H2Error) => {
                Failure::new(Flag::ClientGone, 499, "the client went away")
            }
            (Downstream, InvalidHTTPHeader) => {
                Failure::new(Flag::BadRequest, 400, "the request is malformed")
            }
            (_, HTTPStatus(status)) => Failure::new(Flag::Internal, *status, "the request was refused"),
            (Downstream, _) => Failure::new(Flag::BadRequest, 400, "the request is malformed"),
            _ => Failure::new(Flag::Internal, 500, "the proxy failed"),
        }
    }
}

#[async_trait]
impl ProxyHttp for Service {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new(self.shared.snapshot.load_full(), Arc::clone(&self.recorder))
    }

    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        match self.decide(session, ctx) {
            Ok(()) => {}
            Err(Stop::Fail(failure)) => {
                self.answer(session, ctx, failure).await;
                return Ok(true);
            }
            Err(Stop::Redirect(redirect)) => {
                self.send(session, ctx, redirect, Bytes::new()).await;
                return Ok(true);
            }
        }
        if session.req_header().version < Version::HTTP_11 {
            session.as_downstream_mut().set_ignore_info_resp(true);
        }
        if ctx.expects_continue(session) {
            // The library takes it for a response that ends the connection.
            let keepalive = session.get_keepalive();
            session.write_response_header(Box::new(ResponseHeader::build(100, Some(0))?), false).await?;
            session.set_keepalive(keepalive);
        }
        Ok(false)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let chosen = match ctx.first_choice.take() {
            Some(first) => Ok(first),
            None => self.choose(ctx),
        };
        let (pool, index) = match chosen {
            Ok(chosen) => chosen,
            Err(failure) => {
                // What the tries before came to says more than that none is left.
                let failure = ctx.last_failure.take().unwrap_or(failure);
                ctx.failure = Some(failure);
                return Err(Error::new(ErrorType::HTTPStatus(failure.status)));
            }
        };
        let endpoint = &pool.endpoints[index];
        ctx.tries += 1;
        ctx.tried.push(Tried { address: endpoint.address, waited: false });
        ctx.upstream = Some(endpoint.address);
        ctx.in_flight = Some(endpoint.state.begin());
        let http1 = pool.plan.protocol == UpstreamProtocol::Http1;
        ctx.uploads = !session.is_body_done();
        let upgrades = http1 && session.is_upgrade_req();
        // Our own connection tells how its client reads; the library's of HTTP/2 does not.
        ctx.paced = ctx.uploads || !upgrades && !session.is_http2();
        let events = accepts_events(session.req_header());
        let Some(action) = ctx.action() else { return Err(Error::new(ErrorType::InternalError)) };
        let now = Instant::now();
        let deadlines = Deadlines::of(ctx, action, http1, events);
        let mut peer = pool.peer(endpoint.address, deadlines.connect, deadlines.read, action.policy.idle);
        if ctx.wants_fresh {
            peer.group_key ^= self.shared.random();
            // Nobody else will ask for a connection of that key.
            peer.options.idle_timeout = Some(Duration::from_millis(1));
        }
        if let Some(watch) = ctx.watch() {
            // Connecting has a deadline of its own; what is left of the try's counts from there on.
            watch.begin_try(now + action.policy.connect + deadlines.per_try);
        }
        ctx.try_started = Some(now);
        ctx.per_try = deadlines.per_try;
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        ctx: &mut Context,
    ) -> Result<()> {
        ctx.count_connect(if reused { Connect::Reused } else { Connect::New });
        let alone = ctx.pool.as_ref().is_some_and(|pool| pool.plan.protocol == UpstreamProtocol::Http1);
        if let (Some(started), Some(watch)) = (ctx.try_started, ctx.watch()) {
            // An endpoint owes its response's head from when it has the whole request.
            watch.begin_try(started + if ctx.uploads { FOREVER } else { ctx.per_try });
        }
        if let (true, Some(watch)) = (alone, ctx.watch()) {
            watch.connected(fd);
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let switched = session.was_upgraded();
        if let (Some(watch), Some(action)) = (ctx.watch(), ctx.action()) {
            let now = Instant::now();
            if session.is_http2() {
                watch.body_by((!end).then(|| now + action.policy.idle));
            }
            if end && ctx.uploads && !switched {
                watch.uploaded(now + ctx.per_try);
            } else if ctx.paced {
                watch.request_goes_on(now + action.policy.idle + CLIENTS_FIRST);
            }
        }
        if switched {
            return Ok(());
        }
        ctx.body_seen += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let limit = ctx.action().and_then(|action| action.policy.max_request_body);
        if limit.is_some_and(|limit| ctx.body_seen > limit) {
            ctx.failure = Some(request::BODY_TOO_LARGE);
            return Err(Error::new(ErrorType::HTTPStatus(413)));
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        // A body that is sent again has been counted once.
        ctx.body_seen = 0;
        forward::request(session.req_header(), upstream, ctx)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if response.status == 101 && !session.is_upgrade_req() {
            // RFC 9110 §15.2.2: nobody asked for it.
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "101 without Upgrade").into_up());
        }
        if response.status.is_informational() && response.status != 101 {
            return Ok(());
        }
        ctx.status = Some(response.status.as_u16());
        let now = Instant::now();
        ctx.upstream_ms = ctx.try_started.map(|started| now.saturating_duration_since(started));
        ctx.response_is_whole = is_bodiless(session.req_header(), response, ctx.is_grpc);
        if let Some(watch) = ctx.watch() {
            watch.response_started();
            if ctx.response_is_whole {
                watch.response_ended();
            } else {
                Self::response_goes_on(ctx, now);
            }
        }
        if response.status == 101
            && let Some(conn) = ctx.conn()
        {
            conn.switch_protocols();
        }
        Ok(())
    }

    /// Deadlines of a response under way that the connection has not.
    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<Option<Duration>> {
        if ctx.is_late() {
            // Not to be taken for the end of a body that ends where its connection does.
            return Err(Error::new(ErrorType::ReadTimedout).into_up());
        }
        ctx.response_seen += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        ctx.response_is_whole = end;
        if !end {
            let now = Instant::now();
            Self::response_goes_on(ctx, now);
            if let (Some(watch), Some(action)) = (ctx.watch(), ctx.action()) {
                watch.response_goes_on(now + action.policy.idle);
            }
        } else if let Some(watch) = ctx.watch() {
            watch.response_ended();
        }
        Ok(None)
    }

    fn upstream_response_trailer_filter(
        &self,
        _session: &mut Session,
        _trailers: &mut HeaderMap,
        ctx: &mut Context,
    ) -> Result<()> {
        ctx.response_is_whole = true;
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        self.close_if_draining(session, ctx);
        if session.req_header().version < Version::HTTP_11
            && response.remove_header(&header::TRANSFER_ENCODING).is_some()
        {
            // It knows no chunks: the body ends with the connection.
            session.set_keepalive(None);
        }
        forward::response(response, ctx)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.end_try(ctx);
        let late = ctx.is_late();
        let failure = self.failure(ctx, &error);
        let waited = failure.flag == Flag::UpstreamTimeout;
        ctx.count_connect(if waited { Connect::Timeout } else { Connect::Failed });
        if let Some(last) = ctx.tried.last_mut() {
            last.waited = waited;
        }
        ctx.last_failure = Some(failure);
        error.set_retry(ctx.tries < MAX_TRIES && !late);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Context,
        reused: bool,
    ) -> Box<Error> {
        self.end_try(ctx);
        let late = ctx.is_late();
        let may = ctx.tries < MAX_TRIES
            && !late
            && ctx.failure.is_none()
            && !answered(session)
            && (session.req_header().method.is_idempotent() || unprocessed(&error))
            && !session.as_ref().retry_buffer_truncated();
        if may {
            if died(&error) {
                // Whichever side of it was at work when the connection turned out dead.
                error.set_retry(reused);
            } else {
                error.retry.decide_reuse(reused);
            }
            if error.retry() {
                // The connection had died while nobody looked; the endpoint may be well.
                ctx.tried.pop();
                ctx.wants_fresh = true;
                ctx.last_failure = Some(self.failure(ctx, &error));
            }
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Context) -> FailToProxy {
        let failure = self.failure(ctx, error);
        if failure.flag == Flag::ClientGone && ctx.response_is_whole && answered(session) {
            // It had all of its answer, and need not send the rest of its request.
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        }
        ctx.detail = Some(error.etype().as_str().to_owned());
        // Pingora ends the connection after this; the client had better know.
        session.set_keepalive(None);
        let status = self.answer(session, ctx, failure).await;
        FailToProxy {
            error_code: status,
            can_reuse_downstream: status > 0 && failure.flag != Flag::BadRequest,
        }
    }

    async fn logging(&self, session: &mut Session, _error: Option<&Error>, ctx: &mut Context) {
        self.end_try(ctx);
        if let Some(recorder) = ctx.recorder.take() {
            record::request(&recorder, session, ctx);
        }
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Context,
        _error: &Error,
        _at: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// Whether the response has begun.
fn answered(session: &Session) -> bool {
    session.response_written().is_some_and(answer::is_final)
}

/// Whether a response's head is all of it (RFC 9112 §6.3): also that of a call of gRPC which brings the call's status at once.
fn is_bodiless(request: &RequestHeader, response: &ResponseHeader, is_grpc: bool) -> bool {
    let length = response.headers.get(header::CONTENT_LENGTH);
    request.method == Method::HEAD
        || matches!(response.status.as_u16(), 204 | 304)
        || length.is_some_and(|length| length.as_bytes() == b"0")
        || is_grpc && response.headers.contains_key("grpc-status")
}

/// Whether the response may be a stream of events that come when they come.
fn accepts_events(request: &RequestHeader) -> bool {
    let accepts = request.headers.get(header::ACCEPT);
    accepts.is_some_and(|accepts| accepts.as_bytes().starts_with(b"text/event-stream"))
}

/// Whether an endpoint's connection turned out to be none.
fn died(error: &Error) -> bool {
    use ErrorType::{ConnectionClosed, ReadError, WriteError};
    *error.esource() == pingora_core::ErrorSource::Upstream
        && matches!(error.etype(), ConnectionClosed | ReadError | WriteError)
}

/// Whether the endpoint has promised that it did nothing with the request (RFC 9113 §8.7), by the library's judgement.
fn unprocessed(error: &Error) -> bool {
    *error.etype() == ErrorType::H2Error && matches!(error.retry, RetryType::Decided(true))
}

impl Service {
    /// Sees to it that a response that stands still is cut.
    fn response_goes_on(ctx: &Context, now: Instant) {
        if let (true, Some(watch), Some(action)) = (ctx.paced, ctx.watch(), ctx.action()) {
            watch.goes_on(now + action.policy.idle + CLIENTS_FIRST);
        }
    }

    /// Tells the client that its connection ends with this response, where the listener has begun to drain meanwhile.
    fn close_if_draining(&self, session: &mut Session, ctx: &Context) {
        if ctx.conn().is_some_and(|conn| *conn.listener.drain.borrow()) {
            session.set_keepalive(None);
        }
    }

    fn end_try(&self, ctx: &mut Context) {
        ctx.in_flight = None;
        if let Some(watch) = ctx.watch() {
            watch.end_try();
        }
    }
}
