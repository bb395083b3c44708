//! May this request go on, and where to? Everything that is decided of it before an upstream is asked.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue, Method, Version, header};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use portolan_filter::{CompiledFilter, RequestTarget, client, https_location, request_id};
use portolan_model::host::normalize;
use portolan_model::plan::Action;
use portolan_model::policy::HttpsRedirect;
use portolan_model::proxy::{Limits, Proxy};
use portolan_model::route::{Filter, Scheme};
use portolan_route::{Outcome, RequestView, normalize_path};
use portolan_wire::http1;

use crate::context::{Context, Target};
use crate::failure::{Failure, Flag};
use crate::forward::with_target;
use crate::info::ConnInfo;
use crate::shared::Shared;

/// Asks to be told how the request is handled; trusted clients are.
#[allow(clippy::declare_interior_mutable_const, reason = "a name of static bytes never changes")]
pub(crate) const EXPLAIN: HeaderName = HeaderName::from_static("portolan-explain");

pub(crate) const BODY_TOO_LARGE: Failure =
    Failure::new(Flag::BodyTooLarge, 413, "the request's body is larger than allowed");

/// Why a request goes no further.
pub(crate) enum Stop {
    /// It failed.
    Fail(Failure),
    /// It is answered with this redirect.
    Redirect(Box<ResponseHeader>),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Fail(failure)
    }
}

/// What is done with an encoded slash.
pub(crate) fn encoded_slash(proxy: &Proxy) -> http1::EncodedSlash {
    if proxy.limits.refuse_encoded_slash { http1::EncodedSlash::Refuse } else { http1::EncodedSlash::Keep }
}

/// How long a request line may be, or what HTTP/2 has in its place: the path with its query.
pub(crate) fn longest_request_line(limits: &Limits) -> u32 {
    limits.max_header_bytes.min(16 << 10)
}

/// Holds a head of HTTP/2 to the limits; its size is as RFC 9113 §6.5.2 counts.
fn check_size(request: &RequestHeader, target: &str, limits: &Limits) -> Result<(), Failure> {
    let too_large = |status, text| Err(Failure::new(Flag::HeadTooLarge, status, text));
    if target.len() > longest_request_line(limits) as usize {
        return too_large(414, "the path is longer than the limit");
    }
    if request.headers.len() > usize::from(limits.max_headers) {
        return too_large(431, "there are more headers than the limit");
    }
    let size: usize =
        request.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    if size + target.len() > limits.max_header_bytes as usize {
        return too_large(431, "the head is larger than the limit");
    }
    Ok(())
}

/// Status and reason where a request is refused whatever its route: by its method, or by its target (path and query).
pub fn refusal(method: &Method, target: &str, proxy: &Proxy) -> Option<(u16, &'static str)> {
    let refused = if *method == Method::CONNECT {
        Some(Failure::CONNECT)
    } else {
        let checked = http1::check_target(target.as_bytes(), encoded_slash(proxy));
        checked.err().map(|reason| http1::Refusal::from(reason).into())
    };
    refused.map(|failure| (failure.status, failure.text))
}

fn bad(text: &'static str) -> Stop {
    Stop::Fail(Failure::new(Flag::BadRequest, 400, text))
}

/// Finds out who sent the request and which route it takes.
pub(crate) fn admit(session: &mut Session, ctx: &mut Context, shared: &Shared) -> Result<(), Stop> {
    let Some(conn) = ctx.conn().map(Arc::clone) else {
        return Err(Stop::Fail(Failure::new(Flag::Internal, 500, "the request has no connection")));
    };
    let snapshot = Arc::clone(&ctx.snapshot);
    let request = session.req_header();
    (ctx.method, ctx.version) = (request.method.clone(), request.version);
    ctx.path = request.uri.path_and_query().cloned();
    ctx.client = client(&snapshot.proxy.client_address, &conn.arrival, &request.headers);
    ctx.request_id = request_id(&request.headers, ctx.client.trusted, shared.random_id());
    ctx.explains = ctx.client.trusted && request.headers.contains_key(&EXPLAIN);
    ctx.is_grpc = request
        .headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));

    if request.method == Method::CONNECT {
        return Err(Failure::CONNECT.into());
    }
    // HTTP/1.0 may do without a host; then only the catch-all can serve it.
    let host = authority(request).and_then(normalize);
    ctx.host = host.map(Cow::into_owned).unwrap_or_default();
    let path = std::str::from_utf8(request.raw_path()).map_err(|_| bad("the path is not UTF-8"))?;
    let (target, query) = match path.split_once('?') {
        Some((target, query)) => (target, Some(query)),
        None => (path, None),
    };
    if request.version == Version::HTTP_2 {
        // The gate has judged those of HTTP/1.
        let whole = origin_form(path);
        check_size(request, whole, &snapshot.proxy.limits)?;
        http1::check_target(whole.as_bytes(), encoded_slash(&snapshot.proxy))
            .map_err(|reason| Failure::from(http1::Refusal::from(reason)))?;
    }
    let path = origin_form(target);
    let normal =
        normalize_path(path).map_err(|_| bad("the path has a malformed escape or climbs above its root"))?;
    misdirected(&conn, ctx, &snapshot)?;

    let view = RequestView {
        host: &ctx.host,
        path: &normal,
        query,
        method: request.method.as_str(),
        headers: &request.headers,
    };
    let found = match snapshot.router.route(&view) {
        Outcome::Matched(matched) => Target {
            host: Arc::clone(matched.virtual_host),
            route: matched.route,
            action: 0,
            taken: matched.taken,
        },
        Outcome::NoRoute { .. } => {
            return Err(Failure::new(Flag::NoRoute, 404, "no rule of this host matches the request").into());
        }
        Outcome::NoHost => return Err(Failure::new(Flag::NoRoute, 404, "nobody serves this host").into()),
    };
    // Endpoints are origins: they get the origin form, and the path that was matched.
    let changed = (*normal != *target).then(|| match query {
        Some(query) => format!("{normal}?{query}"),
        None => normal.into_owned(),
    });
    if let Some(changed) = changed {
        let request = session.req_header_mut();
        let uri = with_target(&request.uri, &changed);
        request.set_uri(uri.map_err(|_| bad("the path cannot be normalised"))?);
    }
    ctx.target = Some(found);
    Ok(())
}

/// Holds the request to its rule's policy, once its action is known, and lets the rule's redirect answer it.
pub(crate) fn police(session: &mut Session, ctx: &mut Context) -> Result<(), Stop> {
    let Some(action) = ctx.action().map(Arc::clone) else {
        return Err(Stop::Fail(Failure::new(Flag::Internal, 500, "the route has no action")));
    };
    let policy = &action.policy;
    if let HttpsRedirect::On { status, port } = policy.https_redirect
        && ctx.client.scheme == Scheme::Http
    {
        let location = with_request_target(session, ctx, |target| https_location(port, target));
        return Err(redirect(status, location));
    }
    for filter in ctx.filters() {
        if let CompiledFilter::Redirect(compiled) = filter {
            let location = with_request_target(session, ctx, |target| compiled.location(target));
            return Err(redirect(compiled.status.as_u16(), location));
        }
    }
    if let Some(limit) = policy.max_request_body {
        let announced = session.req_header().headers.get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > limit) {
            return Err(BODY_TOO_LARGE.into());
        }
    }
    // Zero is how the Gateway API says: no limit.
    let within = match action.timeouts.as_ref().and_then(|timeouts| timeouts.request) {
        Some(limit) => Some(limit).filter(|limit| !limit.is_zero()),
        None => policy.request,
    };
    ctx.end_by = within.map(|within| ctx.started + within);
    if let (Some(end), Some(watch)) = (ctx.end_by, ctx.watch()) {
        watch.end_by(end);
    }
    if let (true, Some(watch)) = (session.is_http2() && !session.is_body_done(), ctx.watch()) {
        watch.body_by(Some(Instant::now() + policy.idle));
    }
    session.set_read_timeout(Some(policy.idle));
    match ctx.watch() {
        // Each piece that the client takes counts; the library would count whole writes.
        Some(watch) if !session.is_http2() => watch.set_idle(policy.idle),
        _ => session.set_write_timeout(Some(policy.idle)),
    }
    Ok(())
}

/// Whether an action answers the request with a redirect, as [`police`] finds.
pub(crate) fn is_redirected(ctx: &Context, action: &Action) -> bool {
    let to_https = matches!(action.policy.https_redirect, HttpsRedirect::On { .. });
    to_https && ctx.client.scheme == Scheme::Http
        || action.filters.iter().any(|filter| matches!(filter, Filter::Redirect(_)))
}

/// The host as the client spells it, with its port.
pub(crate) fn authority(request: &RequestHeader) -> Option<&str> {
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => request.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
    }
}

/// The path of a target in absolute form (RFC 9112 §3.2.2); the authority has been compared with the host by the gate.
fn origin_form(target: &str) -> &str {
    if target.starts_with('/') || target == "*" {
        return target;
    }
    match target.split_once("://").map(|(_, rest)| rest.find('/').map(|at| &rest[at..])) {
        Some(Some(path)) => path,
        Some(None) => "/",
        None => target,
    }
}

/// RFC 9110 §7.4: a request for a host that another certificate serves belongs on another connection.
fn misdirected(conn: &ConnInfo, ctx: &Context, snapshot: &crate::snapshot::Snapshot) -> Result<(), Stop> {
    let Some(name) = conn.tls.as_ref().and_then(|tls| tls.server_name.as_deref()) else { return Ok(()) };
    if name == ctx.host || snapshot.certificates.may_share_connection(Some(name), &ctx.host) {
        return Ok(());
    }
    Err(Failure::new(
        Flag::Misdirected,
        421,
        "the connection was opened for a server name with another certificate",
    )
    .into())
}

fn with_request_target<T>(session: &Session, ctx: &Context, then: impl FnOnce(&RequestTarget<'_>) -> T) -> T {
    let target = std::str::from_utf8(session.req_header().raw_path()).unwrap_or("/");
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    then(&RequestTarget {
        scheme: ctx.client.scheme,
        host: &ctx.host,
        port: ctx.client.port,
        path: origin_form(path),
        taken: ctx.target.as_ref().map_or(0, |target| target.taken),
        query,
    })
}

fn redirect(status: u16, location: Option<HeaderValue>) -> Stop {
    let Some(location) = location else { return bad("the host cannot stand in a redirect") };
    let build = || {
        let mut response = ResponseHeader::build(status, Some(4))?;
        response.insert_header(header::LOCATION, location)?;
        response.insert_header(header::CONTENT_LENGTH, "0")?;
        Ok::<_, Box<pingora_core::Error>>(Box::new(response))
    };
    build().map_or_else(|_| bad("the redirect cannot be built"), Stop::Redirect)
}
