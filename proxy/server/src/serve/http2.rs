//! HTTP/2 on one connection: an accept loop of our own, with deadlines for the connection and each stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, HttpSession, default_h2_options, handshake};

use crate::conn::Conn;
use crate::failure::Failure;
use crate::info::{ConnInfo, Incoming};
use crate::record;
use crate::watch::{self, Timer, Watch};
use crate::worker::Worker;

/// What a stream may send ahead of being read.
const STREAM_WINDOW: u32 = 256 << 10;
/// What all streams of a connection may send ahead of being read.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// A head so many times as large as may be is still read, so that it can be answered. Past that the library ends the connection.
const ROOM: u32 = 2;
/// Requests that are refused before they are requests, on one connection.
const MALFORMED: usize = 32;
/// Streams reset by the client before they were accepted, at once.
const PENDING_RESETS: usize = 50;
/// How long streams may go on after the last GOAWAY.
const GOODBYE: Duration = Duration::from_secs(5);

/// Streams under way.
#[derive(Default)]
struct Active {
    count: AtomicUsize,
    /// When the last one ended, in [`watch::millis`].
    ended: AtomicU64,
}

struct ActiveGuard(Arc<Active>);

impl Active {
    fn enter(self: &Arc<Self>) -> ActiveGuard {
        self.count.fetch_add(1, Ordering::Relaxed);
        ActiveGuard(Arc::clone(self))
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.ended.store(watch::millis(Instant::now()), Ordering::Relaxed);
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves streams until the connection ends.
pub(super) async fn serve(worker: Arc<Worker>, conn: Box<Conn>, mut timer: Timer) {
    let info = Arc::clone(conn.info());
    let proxy = worker.proxy_settings();
    let limits = &proxy.limits;
    let mut drain = info.listener.drain.clone();

    let mut options = default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_bytes.saturating_mul(ROOM))
        .max_pending_accept_reset_streams(PENDING_RESETS);
    let opening = handshake(conn, Some(options));
    let Some(Ok(mut connection)) = timer.until(Instant::now() + limits.header_timeout, opening).await else {
        return;
    };

    let digest = Arc::new(Digest::default());
    let active = Arc::new(Active::default());
    let oldest = limits.max_connection_age.map(|age| info.accepted + age);
    let mut malformed = 0;
    let mut closing: Option<Instant> = None;
    // Looked at when it passes: a stream that came or ended meanwhile moves it.
    let mut idle_at = Instant::now() + limits.idle_timeout;
    loop {
        let look_at = match (closing, oldest) {
            (Some(since), _) => since + GOODBYE,
            (None, Some(oldest)) => idle_at.min(oldest),
            (None, None) => idle_at,
        };
        let event = async {
            tokio::select! {
                biased;
                _ = drain.wait_for(|draining| *draining), if closing.is_none() => Event::Close,
                accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => Event::Accepted(accepted.ok().flatten()),
            }
        };
        match timer.until(look_at, event).await {
            None if closing.is_some() && active.is_empty() => return,
            None if closing.is_some() => closing = Some(Instant::now()),
            None => {
                let now = Instant::now();
                let quiet = Duration::from_millis(
                    watch::millis(now).saturating_sub(active.ended.load(Ordering::Relaxed)),
                );
                let idle = active.is_empty() && quiet >= limits.idle_timeout;
                if idle || oldest.is_some_and(|oldest| now >= oldest) {
                    connection.graceful_shutdown();
                    closing = Some(now);
                } else {
                    idle_at = now
                        + if active.is_empty() { limits.idle_timeout - quiet } else { limits.idle_timeout };
                }
            }
            Some(Event::Close) => {
                connection.graceful_shutdown();
                closing = Some(Instant::now());
            }
            Some(Event::Accepted(None)) => return,
            Some(Event::Accepted(Some(H2Accept::Rejected))) => {
                malformed += 1;
                record::refusal(&worker.shared, &info, "HTTP/2", "", Failure::MALFORMED);
                if malformed >= MALFORMED {
                    return;
                }
            }
            Some(Event::Accepted(Some(H2Accept::Session(session)))) => {
                let guard = active.enter();
                tokio::spawn(serve_stream(Arc::clone(&worker), Arc::clone(&info), session, guard));
            }
        }
    }
}

async fn serve_stream(worker: Arc<Worker>, conn: Arc<ConnInfo>, session: HttpSession, _guard: ActiveGuard) {
    let watch = Arc::new(Watch::default());
    let incoming = Incoming { conn, watch: Arc::clone(&watch) };
    let session = ServerSession::new_http2(session);
    let request = incoming.scope(worker.proxy.process_new_http(session, &worker.running));
    Timer::new().guard(&watch, request).await;
}

#[allow(clippy::large_enum_variant, reason = "an event lives for one turn of the loop")]
enum Event {
    Accepted(Option<H2Accept>),
    Close,
}
