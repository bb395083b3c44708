//! HTTP/2 on one connection: an accept loop of our own, with deadlines for the connection and each stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::Digest;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Accept, HttpSession, default_h2_options, handshake};

use crate::conn::Conn;
use crate::failure::{Failure, Flag};
use crate::info::Incoming;
use crate::record;
use crate::watch::{Timer, Watch};
use crate::worker::Worker;

/// What a stream may send ahead of being read.
const STREAM_WINDOW: u32 = 256 << 10;
/// What all streams of a connection may send ahead of being read.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Requests that are refused before they are requests, on one connection.
const MALFORMED: usize = 32;
/// Streams reset by the client before they were accepted, at once.
const PENDING_RESETS: usize = 50;
/// How long streams may go on after the last GOAWAY.
const GOODBYE: Duration = Duration::from_secs(5);

/// Streams under way.
struct Active {
    count: AtomicUsize,
    /// Notified when the last one ends.
    idle: tokio::sync::Notify,
}

struct ActiveGuard(Arc<Active>);

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.idle.notify_one();
        }
    }
}

/// Serves streams until the connection ends.
pub(super) async fn serve(worker: Arc<Worker>, conn: Box<Conn>) {
    let info = Arc::clone(conn.info());
    let proxy = Arc::clone(&worker.shared.snapshot.load().proxy);
    let limits = &proxy.limits;
    let mut drain = info.listener.drain.clone();

    let mut options = default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_bytes)
        .max_pending_accept_reset_streams(PENDING_RESETS);
    let opening = handshake(conn, Some(options));
    let Ok(Ok(mut connection)) = tokio::time::timeout(limits.header_timeout, opening).await else { return };

    let digest = Arc::new(Digest::default());
    let active = Arc::new(Active { count: AtomicUsize::new(0), idle: tokio::sync::Notify::new() });
    let oldest = limits.max_connection_age.map(|age| info.accepted + age);
    let mut malformed = 0;
    let mut closing: Option<Instant> = None;
    loop {
        let event = {
            let accept = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest));
            let goodbye = async {
                match closing {
                    // The client was told; whoever still opens streams or never reads is cut in the end.
                    Some(at) => {
                        while active.count.load(Ordering::Relaxed) > 0 {
                            active.idle.notified().await;
                        }
                        tokio::time::sleep_until((at + GOODBYE).into()).await;
                    }
                    None => std::future::pending().await,
                }
            };
            let idle = async {
                while active.count.load(Ordering::Relaxed) > 0 {
                    active.idle.notified().await;
                }
                tokio::time::sleep(limits.idle_timeout).await;
            };
            let aged = async {
                match oldest {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = drained(&mut drain), if closing.is_none() => Event::Close,
                accepted = accept => Event::Accepted(accepted.ok().flatten()),
                () = aged, if closing.is_none() => Event::Close,
                () = idle, if closing.is_none() => Event::Close,
                () = goodbye => return,
            }
        };
        match event {
            Event::Close => {
                connection.graceful_shutdown();
                closing = Some(Instant::now());
            }
            Event::Accepted(None) => return,
            Event::Accepted(Some(H2Accept::Rejected)) => {
                malformed += 1;
                info.listener.metrics.request(400, Some(Flag::BadRequest as usize), Duration::ZERO);
                if malformed >= MALFORMED {
                    return;
                }
            }
            Event::Accepted(Some(H2Accept::Session(session))) => {
                active.count.fetch_add(1, Ordering::Relaxed);
                let guard = ActiveGuard(Arc::clone(&active));
                let incoming = Incoming { conn: Arc::clone(&info), watch: Arc::new(Watch::default()) };
                let (worker, conn) = (Arc::clone(&worker), Arc::clone(&info));
                tokio::spawn(async move {
                    let _guard = guard;
                    let watch = Arc::clone(&incoming.watch);
                    let session = ServerSession::new_http2(session);
                    let request = incoming.scope(worker.proxy.process_new_http(session, &worker.running));
                    if Timer::new().guard(&watch, request).await.is_none() {
                        record::refusal(&worker.shared, &conn, Failure::CUT);
                    }
                });
            }
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "an event lives for one turn of the loop")]
enum Event {
    Accepted(Option<H2Accept>),
    Close,
}

async fn drained(drain: &mut tokio::sync::watch::Receiver<bool>) {
    if drain.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}
