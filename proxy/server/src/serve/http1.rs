//! HTTP/1 on one connection: request after request, parked in between.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use portolan_filter::request_id;
use portolan_model::proxy::Proxy;
use portolan_wire::head_deadline::{HeadDeadline, Verdict};
use portolan_wire::http1::GateLimits;
use tokio::io::AsyncWriteExt;

use crate::answer;
use crate::conn::{Conn, Head, Home};
use crate::failure::Failure;
use crate::info::Incoming;
use crate::record;
use crate::request;
use crate::watch::{Timer, Watch};
use crate::worker::Worker;

/// How long a client may take to read a refusal and go.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long an idle client is let stay once its listener drains, so that a request on its way is still served.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long before the first bytes of a head count against its rate.
const RATE_GRACE: Duration = Duration::from_secs(3);

enum Next {
    Process,
    Close,
    Refuse(Failure),
}

/// Serves requests until one side has had enough.
pub(super) async fn serve(worker: Arc<Worker>, mut conn: Box<Conn>, mut timer: Timer) {
    let info = Arc::clone(conn.info());
    let watch = Arc::new(Watch::http1());
    let home = Home::new(Arc::clone(&watch));
    let incoming = Incoming { conn: Arc::clone(&info), watch: Arc::clone(&watch) };
    let mut proxy = worker.proxy_settings();
    let limits = &proxy.limits;
    let gate = GateLimits {
        header_block: limits.max_header_bytes,
        headers: limits.max_headers,
        request_line: request::longest_request_line(limits),
        encoded_slash: request::encoded_slash(&proxy),
        ..GateLimits::default()
    };
    conn.speak_http1(gate, limits.min_rate);
    let mut patience = limits.header_timeout;
    // One look for the whole connection: to begin one for each request would cost more than to serve some.
    let mut drain = info.listener.drain.clone();
    let mut drains = pin!(async move { drop(drain.wait_for(|draining| *draining).await) });
    loop {
        if !conn.has_more() {
            let draining = *info.listener.drain.borrow();
            let drains = (!draining).then_some(drains.as_mut());
            if !wait(&mut conn, &mut timer, drains, patience).await {
                return conn.linger(DRAIN_GRACE).await;
            }
        }
        proxy = worker.proxy_settings();
        match read_head(&proxy, &mut conn, &mut timer).await {
            Next::Process => {}
            Next::Close => return conn.linger(DRAIN_GRACE).await,
            Next::Refuse(failure) => return refuse(&worker, conn, failure).await,
        }
        watch.reset();
        let age = proxy.limits.max_connection_age;
        let old = age.is_some_and(|age| info.accepted.elapsed() >= age);
        let shutdown = if old { &worker.closing } else { &info.listener.drain };
        let session = ServerSession::new_http1(Box::new(home.lend(conn)));
        let serving = incoming.clone().scope(worker.proxy.process_new_http(session, shutdown));
        let served = timer.guard(&watch, serving).await;
        let reusable = served.flatten().is_some();
        let Some(back) = home.take() else { return };
        conn = back;
        if !reusable || !conn.message_is_whole() {
            return conn.linger(GOODBYE).await;
        }
        conn.next_request();
        patience = proxy.limits.idle_timeout;
    }
}

/// Answers a client that Pingora never hears of, and closes.
pub(super) async fn refuse(worker: &Worker, mut conn: Box<Conn>, failure: Failure) {
    let id = request_id(&HeaderMap::new(), false, worker.shared.random_id());
    record::refusal(&worker.shared, conn.info(), "HTTP/1.1", id.to_str().unwrap_or_default(), failure);
    let answer = answer::bare(failure, &id);
    if tokio::time::timeout(GOODBYE, conn.write_all(&answer)).await.is_ok_and(|written| written.is_ok()) {
        conn.linger(GOODBYE).await;
    }
}

/// Waits for the next request's first bytes: whether there may be any. `drains` is when the listener begins to drain, if it
/// has not yet.
async fn wait(
    conn: &mut Conn,
    timer: &mut Timer,
    drains: Option<impl Future<Output = ()> + Unpin>,
    patience: Duration,
) -> bool {
    let mut until = Instant::now() + patience;
    if let Some(drains) = drains {
        let undisturbed = async {
            tokio::select! {
                biased;
                readable = conn.readable() => Some(readable.is_ok()),
                () = drains => None,
            }
        };
        match timer.until(until, undisturbed).await {
            Some(Some(readable)) => return readable,
            Some(None) => {}
            None => return false,
        }
    }
    until = until.min(Instant::now() + DRAIN_GRACE);
    timer.until(until, conn.readable()).await.is_some_and(|readable| readable.is_ok())
}

/// Reads the next request's head.
async fn read_head(proxy: &Proxy, conn: &mut Conn, timer: &mut Timer) -> Next {
    let mut now = Instant::now();
    let deadline = HeadDeadline {
        started: now,
        limit: proxy.limits.header_timeout,
        grace: RATE_GRACE,
        min_rate: NonZeroU32::new(proxy.limits.min_rate),
    };
    loop {
        let until = match deadline.check(now, conn.head_bytes() as u64) {
            Verdict::Wait { until } => until,
            // A connection on which nothing has come yet is idle, not slow.
            Verdict::TooSlow if !conn.has_more() => return Next::Close,
            Verdict::TooSlow | Verdict::TooLate => return Next::Refuse(Failure::SLOW_HEAD),
        };
        match timer.until(until, conn.read_head()).await {
            Some(Ok(Head::Ready(framing))) if framing.connect => return Next::Refuse(Failure::CONNECT),
            Some(Ok(Head::Ready(_))) => return Next::Process,
            Some(Ok(Head::Refused(refusal))) => return Next::Refuse(refusal.into()),
            Some(Ok(Head::Closed | Head::Truncated) | Err(_)) => return Next::Close,
            None => now = Instant::now(),
        }
    }
}
