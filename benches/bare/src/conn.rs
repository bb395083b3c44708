//! The downstream connection: a TCP or TLS stream of our own that Pingora accepts as its `Stream`.
//!
//! Invariants: nothing read is kept here, so a parked connection owns no read buffer; small writes are held until the
//! next large write or flush, so that a response header and its body leave in one system call; an idle connection has
//! given its hold buffer back. Cost: one branch per poll; no allocation while idle beyond the stream itself.

use std::io::{self, BufRead, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Writes are held up to this many bytes, and sent together with what follows.
const HOLD: usize = 2048;

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One accepted connection, plain or past its TLS handshake.
#[derive(Debug)]
pub(crate) struct Conn {
    transport: Transport,
    held: Vec<u8>,
}

impl Conn {
    pub(crate) fn plain(tcp: TcpStream) -> Box<Self> {
        Box::new(Conn { transport: Transport::Plain(tcp), held: Vec::new() })
    }

    pub(crate) fn tls(tls: TlsStream<TcpStream>) -> Box<Self> {
        Box::new(Conn { transport: Transport::Tls(Box::new(tls)), held: Vec::new() })
    }

    /// Waits, holding no buffer, until the peer has sent something or closed.
    ///
    /// Bytes that rustls has decrypted already never show as readable on the socket, so they are asked for first.
    pub(crate) async fn parked(&mut self) -> io::Result<()> {
        self.held = Vec::new();
        match &mut self.transport {
            Transport::Plain(tcp) => tcp.readable().await,
            Transport::Tls(tls) => {
                let (tcp, session) = tls.get_mut();
                match session.reader().fill_buf() {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => tcp.readable().await,
                    _ => Ok(()),
                }
            }
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(cx, bufs),
        }
    }

    fn poll_send_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let held = std::mem::take(&mut self.held);
            let sent = self.poll_send(cx, &[IoSlice::new(&held)]);
            self.held = held;
            self.held.drain(..non_zero(ready!(sent)?)?);
        }
        Poll::Ready(Ok(()))
    }
}

fn non_zero(n: usize) -> io::Result<usize> {
    if n == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(n) }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let len: usize = bufs.iter().map(|b| b.len()).sum();
        if this.held.len() + len <= HOLD {
            if this.held.capacity() == 0 {
                this.held.reserve_exact(HOLD);
            }
            bufs.iter().for_each(|b| this.held.extend_from_slice(b));
            return Poll::Ready(Ok(len));
        }
        if this.held.is_empty() {
            return this.poll_send(cx, bufs);
        }
        let held = std::mem::take(&mut this.held);
        let mut slices = [IoSlice::new(&held), IoSlice::new(&[]), IoSlice::new(&[]), IoSlice::new(&[])];
        slices[1..].iter_mut().zip(bufs).for_each(|(slot, b)| *slot = IoSlice::new(b));
        let sent = this.poll_send(cx, &slices[..(bufs.len() + 1).min(4)]);
        let of_held = if let Poll::Ready(Ok(n)) = &sent { held.len().min(*n) } else { 0 };
        this.held = held;
        this.held.drain(..of_held);
        match ready!(sent)? - of_held {
            0 => {
                // Only held bytes went out: the caller may not hear of them, so go on until one of its own is taken.
                ready!(this.poll_send_held(cx))?;
                this.poll_send(cx, bufs)
            }
            n => Poll::Ready(Ok(n)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_held(cx))?;
        match &mut self.transport {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_held(cx))?;
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        // The peer may be gone already; there is nobody left to tell.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        match &self.transport {
            Transport::Plain(tcp) => tcp.as_raw_fd(),
            Transport::Tls(tls) => tls.get_ref().0.as_raw_fd(),
        }
    }
}

impl Ssl for Conn {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match &self.transport {
            Transport::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2") => Some(ALPN::H2),
            _ => None,
        }
    }
}

impl Peek for Conn {}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
