//! What is kept of a request that is over: a line of the access log, and counts.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Version};
use pingora_proxy::Session;

use crate::answer;
use crate::context::Context;
use crate::failure::Failure;
use crate::info::ConnInfo;
use crate::line::Line;
use crate::shared::Shared;
use crate::watch::Late;

/// Where the requests of a worker are recorded.
pub(crate) struct Recorder {
    pub(crate) shared: Arc<Shared>,
    pub(crate) worker: usize,
}

/// What was asked for.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a Method,
    pub(crate) version: Version,
    pub(crate) path: &'a [u8],
    pub(crate) user_agent: Option<&'a HeaderValue>,
}

/// What it came to.
struct Outcome {
    status: u16,
    received: u64,
    sent: u64,
    failure: Option<Failure>,
}

/// Records a request.
pub(crate) fn request(recorder: &Recorder, session: &Session, ctx: &Context) {
    let response = session.response_written().filter(|response| answer::is_final(response));
    let status = match (response, ctx.failure) {
        (Some(response), _) => response.status.as_u16(),
        (None, Some(failure)) => failure.status,
        (None, None) => 499,
    };
    let request = session.req_header();
    let asked = Asked {
        method: &request.method,
        version: request.version,
        path: request.raw_path(),
        user_agent: request.headers.get(http::header::USER_AGENT),
    };
    let (received, sent) = (session.body_bytes_read() as u64, session.body_bytes_sent() as u64);
    write(recorder, ctx, &asked, &Outcome { status, received, sent, failure: ctx.failure });
}

/// Records a request that was dropped under way, as far as its context knows it.
pub(crate) fn cut(recorder: &Recorder, ctx: &Context) {
    let failure = match (ctx.failure, ctx.watch().and_then(|watch| watch.late())) {
        (Some(failure), _) => failure,
        (None, Some(Late::ClientReading | Late::ClientSending)) => Failure::SLOW_CLIENT,
        (None, Some(Late::Upstream)) => Failure::CUT,
        (None, None) => Failure::DRAINED,
    };
    let asked = Asked {
        method: &ctx.method,
        version: ctx.version,
        path: ctx.path.as_ref().map_or(&[], |path| path.as_str().as_bytes()),
        user_agent: None,
    };
    let status = ctx.status.unwrap_or(failure.status);
    let outcome =
        Outcome { status, received: ctx.body_seen, sent: ctx.response_seen, failure: Some(failure) };
    write(recorder, ctx, &asked, &outcome);
}

fn write(recorder: &Recorder, ctx: &Context, asked: &Asked<'_>, outcome: &Outcome) {
    let shared = &recorder.shared;
    let &Outcome { status, received, sent, failure } = outcome;
    let duration = ctx.started.elapsed();
    let Some(conn) = ctx.conn() else { return };
    let flag = failure.map(|failure| failure.flag as usize);
    let metrics = &conn.listener.metrics;
    metrics.request(status, flag, duration);
    metrics.bytes(received, sent);
    if let Some(cluster) = &ctx.cluster {
        cluster.metrics.request(status, flag);
        if let Some(time) = ctx.upstream_ms {
            cluster.metrics.response(time);
        }
    }
    if !shared.access.is_on() {
        return;
    }
    let action = ctx.action();
    let time = shared.clock.now();
    shared.access.write(
        recorder.worker,
        &Line {
            time: time.as_str(),
            request_id: ctx.request_id.to_str().unwrap_or_default(),
            client: ctx.client.address,
            peer: conn.peer,
            listener: &conn.listener.spec.name,
            protocol: match asked.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            tls: conn.tls.as_ref().map(|tls| tls.version),
            server_name: conn.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            method: asked.method.as_str(),
            host: &ctx.host,
            path: std::str::from_utf8(asked.path).unwrap_or("(not UTF-8)"),
            status,
            flag: failure.map(|failure| failure.flag.as_str()),
            reason: failure.map(|failure| failure.text),
            detail: ctx.detail.as_deref(),
            bytes_received: received,
            bytes_sent: sent,
            duration,
            upstream_time: ctx.upstream_ms,
            cluster: action.map(|action| action.cluster()),
            route: action.map(|action| (&action.object, action.rule)),
            pool: ctx.pool.as_ref().map(|pool| &pool.id),
            upstream: ctx.upstream,
            retries: ctx.tries.saturating_sub(1),
            user_agent: asked.user_agent.and_then(|value| value.to_str().ok()),
            revision: ctx.snapshot.revision,
        },
    );
}

/// Records a request of which no more is known than why it was refused.
pub(crate) fn refusal(shared: &Shared, conn: &ConnInfo, protocol: &str, request_id: &str, failure: Failure) {
    conn.listener.metrics.request(failure.status, Some(failure.flag as usize), Duration::ZERO);
    if !shared.access.is_on() {
        return;
    }
    let (time, peer) = (shared.clock.now(), conn.peer);
    shared.access.write(
        usize::from(peer.port()),
        &Line {
            request_id,
            protocol,
            tls: conn.tls.as_ref().map(|tls| tls.version),
            server_name: conn.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            status: failure.status,
            flag: Some(failure.flag.as_str()),
            reason: Some(failure.text),
            ..Line::unknown(time.as_str(), peer, &conn.listener.spec.name, shared.snapshot.load().revision)
        },
    );
}
