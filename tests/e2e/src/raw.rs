//! Bytes as they stand: a client and an upstream that do what no well-behaved library would.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a read may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection to write any bytes on.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    /// What was read and not taken yet.
    read: Vec<u8>,
}

/// A response, read by its own framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawResponse {
    /// The status.
    pub status: u16,
    /// Status line and fields, as they came.
    pub head: String,
    /// The body; chunks joined.
    pub body: Vec<u8>,
}

impl RawClient {
    /// Connects.
    pub fn connect(address: impl Into<SocketAddr>) -> Self {
        let address = address.into();
        Self::of(
            TcpStream::connect(address)
                .unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")),
        )
    }

    /// Over a connection that there is.
    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, read: Vec::new() }
    }

    /// Sends bytes. That the other end is gone already shows when its answer is read.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.stream.write_all(bytes.as_ref());
        self
    }

    /// Sends no more.
    pub fn finish(&mut self) -> &mut Self {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// The stream itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The next response (to anything but HEAD); `None` where the connection ends before its head is whole.
    pub fn response(&mut self) -> Option<RawResponse> {
        self.response_to("GET")
    }

    /// The next response to a request of that method.
    pub fn response_to(&mut self, method: &str) -> Option<RawResponse> {
        let head = self.head()?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let field = |name: &str| {
            let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
            fields
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        let body = if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            self.chunks()?
        } else if let Some(length) = field("content-length") {
            self.take(length.parse().ok()?)?
        } else {
            self.rest()
        };
        Some(RawResponse { status, head, body })
    }

    /// The next head, its empty line included; `None` where the connection ends before.
    pub fn head(&mut self) -> Option<String> {
        let end = self.until(b"\r\n\r\n")?;
        Some(String::from_utf8_lossy(&self.take(end)?).into_owned())
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> Option<String> {
        let end = self.until(b"\r\n")?;
        let line = self.take(end)?;
        Some(String::from_utf8_lossy(&line[..line.len() - 2]).into_owned())
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            self.more()?;
        }
        Some(self.read.drain(..length).collect())
    }

    /// All that comes until the other end closes.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more().is_some() {}
        std::mem::take(&mut self.read)
    }

    /// Whether the other end closes within a time, without a further byte.
    pub fn closed_within(&mut self, time: Duration) -> bool {
        if !self.read.is_empty() {
            return false;
        }
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let read = self.stream.read(&mut [0]);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        match read {
            Ok(read) => read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Some(body);
            }
            body.extend(self.take(size)?);
            self.line()?;
        }
    }

    fn until(&mut self, end: &[u8]) -> Option<usize> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|window| window == end) {
                return Some(at + end.len());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(read) => {
                self.read.extend_from_slice(&buffer[..read]);
                Some(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {PATIENCE:?}; before: {:?}", String::from_utf8_lossy(&self.read))
            }
            Err(_) => None,
        }
    }
}

/// An upstream whose every connection a function handles, in a thread of its own. It stops when dropped.
#[derive(Debug)]
pub struct RawUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl RawUpstream {
    /// An upstream on 127.0.0.1; `handle` gets each connection with its number, from 1 on.
    pub fn start(handle: impl Fn(RawClient, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an address to listen on");
        let address = listener.local_addr().expect("an address");
        let (connections, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stop) = (Arc::clone(&connections), Arc::clone(&stopped));
        let handle = Arc::new(handle);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                let handle = Arc::clone(&handle);
                std::thread::spawn(move || handle(RawClient::of(stream), number));
            }
        });
        Self { address, connections, stopped }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}
