//! How a connection is lent to Pingora, and how Pingora's traits are answered.

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::Conn;
use crate::watch::{Late, Watch};

/// Where a lent connection comes back to, and who is told that its client takes what is written.
pub(crate) struct Home {
    conn: Mutex<Option<Box<Conn>>>,
    watch: Arc<Watch>,
}

impl Home {
    /// An empty one.
    pub(crate) fn new(watch: Arc<Watch>) -> Arc<Self> {
        Arc::new(Self { conn: Mutex::new(None), watch })
    }

    /// Lends the connection out.
    pub(crate) fn lend(self: &Arc<Self>, conn: Box<Conn>) -> Lease {
        Lease { conn: Some(conn), home: Arc::clone(self) }
    }

    /// Takes the connection that came back.
    pub(crate) fn take(&self) -> Option<Box<Conn>> {
        self.conn.lock().take()
    }
}

/// A connection in the hands of a Pingora session. Dropping it brings the connection home.
pub(crate) struct Lease {
    conn: Option<Box<Conn>>,
    home: Arc<Home>,
}

impl Lease {
    fn conn(&mut self) -> Option<Pin<&mut Conn>> {
        self.conn.as_deref_mut().map(Pin::new)
    }

    /// Hands a write through to the connection, and tells the watch what came of it.
    fn write(
        &mut self,
        write: impl FnOnce(Pin<&mut Conn>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.home.watch.late() == Some(Late::ClientReading) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = self.conn().map_or_else(gone, write);
        match &written {
            Poll::Pending => self.home.watch.client_blocks(),
            Poll::Ready(Ok(_)) => self.home.watch.client_reads(),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *self.home.conn.lock() = self.conn.take();
    }
}

fn gone<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Lease {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.home.watch.late().is_some() {
            // Whoever waits for the client, too, is to hear that the request's time is over.
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        // A client that listens need not speak meanwhile.
        let listens = this.home.watch.has_started();
        if let (true, Some(conn)) = (listens, &mut this.conn) {
            conn.excuse_pause();
        }
        let read = this.conn().map_or_else(gone, |conn| conn.poll_read(cx, buf));
        if read.is_ready() {
            this.home.watch.body_by(None);
        } else if !listens {
            this.home.watch.body_by(this.conn.as_ref().and_then(|conn| conn.body_due()));
        }
        read
    }
}

impl AsyncWrite for Lease {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(|conn| conn.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().write(|conn| conn.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = |conn: Pin<&mut Conn>| conn.poll_flush(cx).map_ok(|()| 0);
        self.get_mut().write(flush).map_ok(drop)
    }

    /// Pingora closes a session that it will not reuse; the connection's owner decides how ([`Conn::linger`]).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.conn {
            Some(conn) => conn.fmt(f),
            None => f.write_str("no connection"),
        }
    }
}

#[async_trait]
impl Shutdown for Lease {
    async fn shutdown(&mut self) {
        let _ = self.flush().await;
    }
}

impl UniqueID for Lease {
    fn id(&self) -> i32 {
        self.conn.as_ref().map_or(-1, |conn| conn.id())
    }
}

// HTTP/2 owns its connection to the end, so it is given the connection itself.

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> i32 {
        self.io.tcp().as_raw_fd()
    }
}

/// What Pingora may ask of a stream and need not be told: requests know their connection by [`crate::info::Incoming`].
macro_rules! untold {
    ($stream:ty) => {
        impl Ssl for $stream {}
        impl Peek for $stream {}

        impl GetTimingDigest for $stream {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                Vec::new()
            }
        }

        impl GetProxyDigest for $stream {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                None
            }
        }

        impl GetSocketDigest for $stream {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                None
            }
        }
    };
}

untold!(Lease);
untold!(Conn);
