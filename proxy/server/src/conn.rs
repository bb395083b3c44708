//! A client's connection, as Pingora sees it: nothing passes to its parser that the gate has not judged.
//!
//! ```text
//!  socket ─► (TLS) ─► held ─► gate ─► Pingora        small writes ─► out ─► one vectored write
//! ```
//!
//! A request's head is read here, before Pingora hears of the request ([`Conn::read_head`]); while the request runs Pingora
//! reads its body through [`AsyncRead`]. A [`Lease`] lends the connection to a Pingora session and gets it back when
//! the session is dropped, however it ends: an idle connection is this type alone and keeps no buffer.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use portolan_wire::http1::{Framing, Gate, GateLimits, Phase, Progress, Refusal};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::info::ConnInfo;

mod lease;

pub(crate) use lease::Home;

/// Writes up to this size wait for the next one or for a flush.
const SMALL_WRITE: usize = 2048;

/// How much is read at once where a head may begin.
const HEAD_READ: usize = 4096;

/// How much of a next request is read while one is served.
const AHEAD: usize = 512;

/// How long a slow body is borne before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(10);

/// What bytes go through.
pub(crate) enum Io {
    /// As they are.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Io {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

/// What became of waiting for a head.
#[derive(Debug)]
pub(crate) enum Head {
    /// It is whole and good: let Pingora read it.
    Ready(Framing),
    /// The client closed or reset the connection between two requests, or before the first.
    Closed,
    /// The client left in the middle of a head.
    Truncated,
    /// The gate refuses it.
    Refused(Refusal),
}

/// See the module's documentation.
pub(crate) struct Conn {
    io: Io,
    /// Read, but not passed on yet.
    held: BytesMut,
    /// How many bytes at the front of `held` may pass.
    passable: usize,
    /// The judge, on HTTP/1 connections.
    gate: Option<Gate>,
    /// The current message is whole: what follows is another.
    whole: bool,
    out: BytesMut,
    rate: BodyRate,
    info: Arc<ConnInfo>,
}

impl Conn {
    /// A connection whose first bytes, `held`, are read already.
    pub(crate) fn new(io: Io, held: BytesMut, info: Arc<ConnInfo>) -> Self {
        Self {
            io,
            held,
            passable: 0,
            gate: None,
            whole: false,
            out: BytesMut::new(),
            rate: BodyRate::default(),
            info,
        }
    }

    /// What is known of the connection.
    pub(crate) fn info(&self) -> &Arc<ConnInfo> {
        &self.info
    }

    /// From here on it speaks HTTP/1 and every byte is judged.
    pub(crate) fn speak_http1(&mut self, limits: GateLimits, min_rate: u32) {
        self.gate = Some(Gate::new(limits));
        self.rate.min_rate = min_rate;
    }

    /// Ends the request that was running: the next bytes are another head.
    pub(crate) fn next_request(&mut self) {
        self.whole = false;
        self.rate.reset();
    }

    /// Whether bytes of a next request have arrived.
    pub(crate) fn has_more(&self) -> bool {
        !self.held.is_empty()
    }

    /// Bytes of the next head that have arrived.
    pub(crate) fn head_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether the request that Pingora was given has passed to its end.
    pub(crate) fn message_is_whole(&self) -> bool {
        self.whole && self.passable == 0
    }

    /// Waits until the client has sent something or gone away. Keeps no buffer; cancel-safe.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        if let Io::Tls(tls) = &mut self.io {
            use std::io::BufRead as _;
            let decrypted = match tls.get_mut().1.reader().fill_buf() {
                Ok(bytes) => !bytes.is_empty(),
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
            if decrypted {
                return Ok(());
            }
        }
        self.io.tcp().ready(Interest::READABLE).await.map(drop)
    }

    /// Judges what has arrived and reads on until a head is whole, or it is clear that none will be. Cancel-safe.
    pub(crate) async fn read_head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(head) = self.judge_head() {
                return Ok(head);
            }
            let before = self.held.len();
            self.held.reserve(HEAD_READ);
            let read = std::future::poll_fn(|cx| poll_read_buf(&mut self.io, cx, &mut self.held)).await;
            match read {
                Ok(0) if before == 0 => return Ok(Head::Closed),
                Ok(0) => return Ok(Head::Truncated),
                Ok(_) => {}
                Err(_) if before == 0 => return Ok(Head::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    fn judge_head(&mut self) -> Option<Head> {
        if self.held.is_empty() {
            return None;
        }
        match self.gate.as_mut()?.advance(&self.held) {
            Progress::NeedMore => None,
            Progress::Head { len, framing } => {
                self.passable = len;
                self.whole = framing.body == portolan_wire::http1::Body::Empty;
                Some(Head::Ready(framing))
            }
            Progress::Refuse(refusal) => Some(Head::Refused(refusal)),
            // Not before a head has passed.
            Progress::Body { .. } | Progress::Tunnel { .. } => None,
        }
    }

    /// When more of the request's body must have come, while somebody waits for it.
    pub(crate) fn body_due(&self) -> Option<Instant> {
        let tunnel = self.gate.as_ref().is_some_and(|gate| gate.phase() == Phase::Tunnel);
        self.rate.due().filter(|_| !self.whole && !tunnel)
    }

    /// What its body's pause took until now does not count.
    pub(crate) fn excuse_pause(&mut self) {
        self.rate.since = None;
        self.rate.waited = Duration::ZERO;
    }

    /// Every byte passes from now on: the response has switched protocols.
    pub(crate) fn tunnel(&mut self) {
        if let Some(gate) = &mut self.gate {
            gate.tunnel();
        }
        self.whole = false;
    }

    /// Lets the gate judge a body's bytes at the front of `bytes`: how many may pass.
    fn judge_body(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(gate) = &mut self.gate else { return Ok(bytes.len()) };
        let mut passed = 0;
        while passed < bytes.len() && !self.whole {
            match gate.advance(&bytes[passed..]) {
                Progress::NeedMore | Progress::Head { .. } => break,
                Progress::Body { len, end } => {
                    passed += len;
                    self.whole = end;
                }
                Progress::Tunnel { len } => passed += len,
                Progress::Refuse(refusal) => {
                    self.info.refuse(refusal);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, refusal.reason.as_str()));
                }
            }
        }
        Ok(passed)
    }

    fn poll_pass(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.whole && self.info.switched_protocols() {
            self.tunnel();
        }
        loop {
            if self.passable > 0 {
                let n = self.passable.min(buf.remaining());
                buf.put_slice(&self.held[..n]);
                self.held.advance(n);
                self.passable -= n;
                if self.held.is_empty() {
                    self.held = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if self.whole {
                return self.poll_gone(cx);
            }
            if !self.held.is_empty() {
                let held = std::mem::take(&mut self.held);
                let judged = self.judge_body(&held);
                self.held = held;
                self.passable = judged?;
                if self.passable > 0 || self.whole {
                    continue;
                }
                // A piece of chunk framing: more must come.
                self.held.reserve(HEAD_READ);
                if ready!(self.poll_more(cx))? == 0 {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let before = buf.filled().len();
            let polled = poll_io_read(&mut self.io, cx, buf);
            if polled.is_pending() {
                self.wait(cx)?;
                return Poll::Pending;
            }
            ready!(polled)?;
            let read = buf.filled().len() - before;
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            self.check_rate(read)?;
            let passed = self.judge_body(&buf.filled()[before..])?;
            if passed < read {
                self.held.extend_from_slice(&buf.filled()[before + passed..]);
                buf.set_filled(before + passed);
                if passed == 0 {
                    continue;
                }
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl Conn {
    /// Appends to what is held.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = poll_read_buf(&mut self.io, cx, &mut self.held);
        match &polled {
            Poll::Pending => self.wait(cx)?,
            Poll::Ready(Ok(read)) => self.check_rate(*read)?,
            Poll::Ready(Err(_)) => {}
        }
        polled
    }

    /// More of the body must come. Whoever waits for it has written all there is for now.
    fn wait(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.rate.waiting();
        let _ = self.poll_out(cx)?;
        Ok(())
    }

    /// The message is over, the response under way: only the client's going away is news. What it sends ahead is held, one read of it.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.poll_out(cx)?;
        if !self.held.is_empty() {
            return Poll::Pending;
        }
        let mut ahead = [0; AHEAD];
        let mut ahead = ReadBuf::new(&mut ahead);
        ready!(poll_io_read(&mut self.io, cx, &mut ahead))?;
        if ahead.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.held.extend_from_slice(ahead.filled());
        Poll::Pending
    }

    fn check_rate(&mut self, read: usize) -> io::Result<()> {
        if self.gate.as_ref().is_some_and(|gate| gate.phase() == Phase::Tunnel) || self.rate.arrived(read) {
            return Ok(());
        }
        self.info.set_slow_body();
        Err(io::Error::new(io::ErrorKind::TimedOut, "the request's body comes too slowly"))
    }

    /// Writes what waits.
    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(poll_io_write(&mut self.io, cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
        }
        self.out = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Writes what waits and then `bufs`, in one call; gives back how much of `bufs` is written.
    fn poll_with_out(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while !self.out.is_empty() {
            let n = {
                let first = std::iter::once(IoSlice::new(&self.out));
                let slices: SmallVec<[IoSlice<'_>; 8]> =
                    first.chain(bufs.iter().take(7).map(|buf| IoSlice::new(buf))).collect();
                ready!(poll_io_write_vectored(&mut self.io, cx, &slices))?
            };
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let waiting = self.out.len();
            if n < waiting {
                self.out.advance(n);
                continue;
            }
            self.out = BytesMut::new();
            if n > waiting {
                return Poll::Ready(Ok(n - waiting));
            }
        }
        poll_io_write_vectored(&mut self.io, cx, bufs)
    }

    /// Says goodbye to a client that may still be sending: closes our direction, then reads for a moment, so that what was
    /// written is not lost to a reset (RFC 9112 §9.6).
    pub(crate) async fn linger(mut self: Box<Self>, patience: Duration) {
        use tokio::io::AsyncWriteExt as _;
        let _ = tokio::time::timeout(patience, async {
            self.shutdown().await?;
            let mut scratch = BytesMut::with_capacity(HEAD_READ);
            loop {
                scratch.clear();
                if std::future::poll_fn(|cx| poll_read_buf(&mut self.io, cx, &mut scratch)).await? == 0 {
                    return Ok::<(), io::Error>(());
                }
            }
        })
        .await;
    }
}

/// Whether a body comes fast enough: bytes over the time spent waiting for them.
#[derive(Debug, Default)]
struct BodyRate {
    min_rate: u32,
    since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl BodyRate {
    fn reset(&mut self) {
        *self = Self { min_rate: self.min_rate, ..Self::default() };
    }

    fn waiting(&mut self) {
        if self.min_rate > 0 && self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    /// When what has come will be too little, if nothing more comes.
    fn due(&self) -> Option<Instant> {
        let earned = Duration::from_secs_f64(self.bytes as f64 / f64::from(self.min_rate.max(1)));
        self.since.map(|since| since + RATE_GRACE.max(earned).saturating_sub(self.waited))
    }

    /// Counts bytes; false where they came too slowly.
    fn arrived(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.waited < RATE_GRACE || self.bytes as f64 >= self.waited.as_secs_f64() * f64::from(self.min_rate)
    }
}

fn poll_io_read(io: &mut Io, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    match io {
        Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
        Io::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
    }
}

fn poll_io_write(io: &mut Io, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    match io {
        Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
        Io::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, buf),
    }
}

fn poll_io_write_vectored(
    io: &mut Io,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match io {
        Io::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
        Io::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
    }
}

/// Appends what can be read at once to `buf`, into its spare room.
fn poll_read_buf(io: &mut Io, cx: &mut Context<'_>, buf: &mut BytesMut) -> Poll<io::Result<usize>> {
    match io {
        Io::Plain(tcp) => tokio_util::io::poll_read_buf(Pin::new(tcp), cx, buf),
        Io::Tls(tls) => tokio_util::io::poll_read_buf(Pin::new(tls.as_mut()), cx, buf),
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.gate.is_some() {
            return this.poll_pass(cx, buf);
        }
        if this.held.is_empty() {
            return poll_io_read(&mut this.io, cx, buf);
        }
        let n = this.held.len().min(buf.remaining());
        buf.put_slice(&this.held[..n]);
        this.held.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gate.is_some() && this.out.len() + buf.len() <= SMALL_WRITE {
            this.out.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        if this.out.is_empty() {
            poll_io_write(&mut this.io, cx, buf)
        } else {
            this.poll_with_out(cx, &[IoSlice::new(buf)])
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if this.gate.is_some() && this.out.len() + len <= SMALL_WRITE {
            bufs.iter().for_each(|buf| this.out.extend_from_slice(buf));
            return Poll::Ready(Ok(len));
        }
        this.poll_with_out(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        match &mut this.io {
            Io::Plain(_) => Poll::Ready(Ok(())),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_out(cx))?;
        match &mut this.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection from {}", self.info.peer)
    }
}
