//! HTTP/1 on one connection: request after request, parked in between.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;
use portolan_wire::head_deadline::{HeadDeadline, Verdict};
use portolan_wire::http1::{EncodedSlash, GateLimits};

use super::refuse;
use crate::answer;
use crate::conn::{Conn, Head, Home};
use crate::failure::{Failure, Flag};
use crate::info::Incoming;
use crate::record;
use crate::watch::{Timer, Watch};
use crate::worker::Worker;

/// How long a client may take to read a refusal and go.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long an idle client is let stay once its listener drains, so that a request on its way is still served.
const DRAIN_GRACE: Duration = Duration::from_millis(500);

/// How long before the first bytes of a head count against its rate.
const RATE_GRACE: Duration = Duration::from_secs(3);

/// We are nobody's tunnel.
const CONNECT: Failure = Failure::new(Flag::BadRequest, 405, "CONNECT is not served here");

enum Next {
    Process,
    Close,
    Refuse(Failure),
}

/// Serves requests until one side has had enough.
pub(super) async fn serve(worker: Arc<Worker>, mut conn: Box<Conn>, mut timer: Timer) {
    let info = Arc::clone(conn.info());
    let watch = Arc::new(Watch::default());
    let home = Home::default();
    let mut drain = info.listener.drain.clone();
    let mut first = true;
    {
        let proxy = Arc::clone(&worker.shared.snapshot.load().proxy);
        let limits = &proxy.limits;
        let gate = GateLimits {
            header_block: limits.max_header_bytes,
            headers: limits.max_headers,
            request_line: limits.max_header_bytes.min(16 << 10),
            encoded_slash: if limits.refuse_encoded_slash {
                EncodedSlash::Refuse
            } else {
                EncodedSlash::Keep
            },
            ..GateLimits::default()
        };
        conn.speak_http1(gate, limits.min_rate);
    }
    loop {
        match next_request(&worker, &mut conn, &mut timer, &mut drain, first).await {
            Next::Process => {}
            Next::Close => {
                return conn.linger(DRAIN_GRACE).await;
            }
            Next::Refuse(failure) => {
                record::refusal(&worker.shared, &info, failure);
                let answer = answer::bare(failure);
                return refuse(conn, &answer, GOODBYE).await;
            }
        }
        first = false;
        watch.reset();
        let age = worker.shared.snapshot.load().proxy.limits.max_connection_age;
        let old = age.is_some_and(|age| info.accepted.elapsed() >= age);
        let shutdown = if old { &worker.closing } else { &drain };
        let session = ServerSession::new_http1(Box::new(home.lend(conn)));
        let incoming = Incoming { conn: Arc::clone(&info), watch: Arc::clone(&watch) };
        let request = incoming.scope(worker.proxy.process_new_http(session, shutdown));
        let served = timer.guard(&watch, request).await;
        if served.is_none() {
            record::refusal(&worker.shared, &info, Failure::CUT);
        }
        let reusable = served.flatten().is_some();
        let Some(back) = home.take() else { return };
        conn = back;
        if !reusable || !conn.message_is_whole() {
            return conn.linger(GOODBYE).await;
        }
        conn.next_request();
    }
}

/// Waits for the next request's head.
async fn next_request(
    worker: &Worker,
    conn: &mut Conn,
    timer: &mut Timer,
    drain: &mut tokio::sync::watch::Receiver<bool>,
    first: bool,
) -> Next {
    if !conn.has_more() {
        let proxy = Arc::clone(&worker.shared.snapshot.load().proxy);
        let mut patience = if first { proxy.limits.header_timeout } else { proxy.limits.idle_timeout };
        loop {
            let draining = *drain.borrow();
            if draining {
                patience = patience.min(DRAIN_GRACE);
            }
            let readable = async {
                tokio::select! {
                    biased;
                    readable = conn.readable() => Some(readable.is_ok()),
                    _ = drain.changed(), if !draining => None,
                }
            };
            match timer.until(Instant::now() + patience, readable).await {
                Some(Some(true)) => break,
                Some(None) => {}
                Some(Some(false)) | None => return Next::Close,
            }
        }
    }
    let proxy = Arc::clone(&worker.shared.snapshot.load().proxy);
    let deadline = HeadDeadline {
        started: Instant::now(),
        limit: proxy.limits.header_timeout,
        grace: RATE_GRACE,
        min_rate: NonZeroU32::new(proxy.limits.min_rate),
    };
    loop {
        let until = match deadline.check(Instant::now(), conn.head_bytes() as u64) {
            Verdict::Wait { until } => until,
            // A connection on which nothing has come yet is idle, not slow.
            Verdict::TooSlow if !conn.has_more() => return Next::Close,
            Verdict::TooSlow | Verdict::TooLate => return Next::Refuse(Failure::SLOW_HEAD),
        };
        match timer.until(until, conn.read_head()).await {
            Some(Ok(Head::Ready(framing))) if framing.connect => return Next::Refuse(CONNECT),
            Some(Ok(Head::Ready(_))) => return Next::Process,
            Some(Ok(Head::Refused(refusal))) => return Next::Refuse(refusal.into()),
            Some(Ok(Head::Closed | Head::Truncated) | Err(_)) => return Next::Close,
            None => {}
        }
    }
}
