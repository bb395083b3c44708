//! What happens on one accepted connection, from its first byte to its last.
//!
//! ```text
//!  PROXY header? ─► TLS? ─► HTTP/2 preface or ALPN? ─┬─► http1: park ─► head ─► Pingora ─► park …
//!                                                    └─► http2: streams, a task each ─► Pingora
//! ```
//!
//! Each step has a deadline; nothing of a connection that idles is left but [`Conn`] and this task's small state.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use portolan_metrics::Handshake;
use portolan_wire::proxy_protocol::{self, Likeness, Origin};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::conn::{Conn, Io};
use crate::failure::{Failure, Flag};
use crate::info::ConnInfo;
use crate::listener::ListenerState;
use crate::tls;
use crate::watch::Timer;
use crate::worker::Worker;

mod http1;
mod http2;

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Between two looks at the pieces of a PROXY header that is not whole.
const PEEK_AGAIN: Duration = Duration::from_millis(5);

/// Somebody typed `http://` where `https://` belongs.
const NO_TLS: Failure = Failure::new(Flag::BadRequest, 400, "plain HTTP was sent to an HTTPS port");

/// How long a client whose listener drains may take to say what it wants.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Serves a connection to its end.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    listener: Arc<ListenerState>,
    tcp: TcpStream,
    socket_peer: SocketAddr,
) {
    let accepted = Instant::now();
    let mut timer = Timer::new();
    let metrics = (Arc::clone(&listener.metrics), listener.spec.tls.is_some());
    let deadline = accepted + worker.proxy_settings().limits.header_timeout;
    // Boxed, so that what a handshake needs is gone with it.
    let mut drain = listener.drain.clone();
    let mut opening = Box::pin(open(&worker, listener, tcp, socket_peer, accepted));
    let undisturbed = async {
        tokio::select! {
            biased;
            opened = &mut opening => Some(opened),
            _ = drain.wait_for(|draining| *draining) => None,
        }
    };
    let opened = match timer.until(deadline, undisturbed).await {
        Some(None) => timer.until(deadline.min(Instant::now() + DRAIN_GRACE), &mut opening).await,
        Some(opened) => opened,
        None => None,
    };
    drop(opening);
    let (conn, speech) = match opened {
        Some(Ok(opened)) => opened,
        // Nobody said a word, or what was said was no opening: nothing to answer.
        Some(Err(_)) => return,
        None => {
            if metrics.1 {
                metrics.0.handshake(Handshake::Timeout);
            }
            return;
        }
    };
    match speech {
        Speech::Http1 => http1::serve(worker, conn, timer).await,
        Speech::Http2 => Box::pin(http2::serve(worker, conn, timer)).await,
        Speech::NoTls => http1::refuse(&worker, conn, NO_TLS).await,
    }
}

/// What a client speaks.
enum Speech {
    Http1,
    Http2,
    /// HTTP where TLS is expected.
    NoTls,
}

impl Speech {
    fn of(http2: bool) -> Self {
        if http2 { Self::Http2 } else { Self::Http1 }
    }
}

/// Everything before HTTP.
async fn open(
    worker: &Worker,
    listener: Arc<ListenerState>,
    mut tcp: TcpStream,
    socket_peer: SocketAddr,
    accepted: Instant,
) -> io::Result<(Box<Conn>, Speech)> {
    tcp.set_nodelay(true)?;
    let socket_local = tcp.local_addr()?;
    let (peer, local) = match proxied(&listener, &mut tcp, socket_peer).await? {
        Some(addresses) => addresses,
        None => (socket_peer, socket_local),
    };
    let (peer, local) = (canonical(peer), canonical(local));
    if listener.spec.tls.is_some() {
        if begins_with_a_method(&tcp).await? {
            listener.metrics.handshake(Handshake::Failed);
            let info = Arc::new(ConnInfo::new(listener, peer, local, None, accepted));
            return Ok((Box::new(Conn::new(Io::Plain(tcp), BytesMut::new(), info)), Speech::NoTls));
        }
        let context = worker.shared.snapshot.load().listener_tls(&listener.spec);
        let Some(context) = context else { return Err(io::ErrorKind::Unsupported.into()) };
        let accepted_tls = tls::accept(&context, tcp).await;
        listener.metrics.handshake(tls::result(&accepted_tls));
        let (stream, info) = accepted_tls?;
        let speech = Speech::of(info.http2);
        let info = Arc::new(ConnInfo::new(listener, peer, local, Some(info), accepted));
        return Ok((Box::new(Conn::new(Io::Tls(Box::new(stream)), BytesMut::new(), info)), speech));
    }
    let mut held = BytesMut::new();
    let http2 = listener.spec.http2 && speaks_http2(&mut tcp, &mut held).await?;
    let info = Arc::new(ConnInfo::new(listener, peer, local, None, accepted));
    Ok((Box::new(Conn::new(Io::Plain(tcp), held, info)), Speech::of(http2)))
}

/// IPv4 clients of a dual-stack socket are IPv4 clients.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Reads a PROXY header, where the listener believes the peer: the client's address and the one it connected to.
async fn proxied(
    listener: &ListenerState,
    tcp: &mut TcpStream,
    peer: SocketAddr,
) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let Some(settings) = &listener.spec.proxy_protocol else { return Ok(None) };
    let ip = peer.ip().to_canonical();
    if !settings.trusted.iter().any(|range| range.contains(&ip)) {
        return if settings.required { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(None) };
    }
    let mut buf = [0; proxy_protocol::MAX_V2];
    let mut seen = 0;
    loop {
        let n = tcp.peek(&mut buf).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !settings.required && proxy_protocol::looks_like(&buf[..n]) == Likeness::No {
            return Ok(None);
        }
        if let Some(header) = proxy_protocol::parse(&buf[..n])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
        {
            tcp.read_exact(&mut buf[..header.len]).await?;
            return Ok(match header.origin {
                Origin::Proxied { source, destination } => Some((source, destination)),
                Origin::Local | Origin::Unknown => None,
            });
        }
        if n == seen {
            tokio::time::sleep(PEEK_AGAIN).await;
        }
        seen = n;
    }
}

/// Whether a client of a TLS listener speaks HTTP: a method begins with a capital letter, a handshake with byte 22 (RFC 8446
/// §5.1).
async fn begins_with_a_method(tcp: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    tcp.peek(&mut first).await?;
    Ok(first[0].is_ascii_uppercase())
}

/// Whether a plaintext client begins with the HTTP/2 preface. What was read stays in `held`.
async fn speaks_http2(tcp: &mut TcpStream, held: &mut BytesMut) -> io::Result<bool> {
    loop {
        let n = held.len().min(PREFACE.len());
        if held[..n] != PREFACE[..n] {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        held.reserve(4096);
        if tcp.read_buf(held).await? == 0 {
            return if held.has_remaining() { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
    }
}
