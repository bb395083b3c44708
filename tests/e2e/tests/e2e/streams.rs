//! Clients and upstreams that do as they are told: bytes over TLS, and HTTP/2 by hand and by the `h2` crate.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use portolan_e2e::Authority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio_rustls::TlsConnector;

/// How long anything may take that is not measured.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// A client's TLS that believes one authority.
pub(crate) fn tls_config(authority: &Authority, protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).expect("a certificate"))
        .expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Bytes both ways, in plaintext or through TLS.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self::Plain(connect(address))
    }

    /// With the handshake done.
    pub(crate) fn tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(config), name).expect("a connection");
        let mut tcp = connect(address);
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).expect("a handshake");
        }
        Self::Tls(Box::new(StreamOwned::new(connection, tcp)))
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => &tls.sock,
        }
    }

    /// Where it comes from: what the access log calls `peer`.
    pub(crate) fn local(&self) -> String {
        self.tcp().local_addr().expect("connected").to_string()
    }

    /// Sends; whether the other end still listens shows when its answer is read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = match self {
            Self::Plain(tcp) => tcp.write_all(bytes.as_ref()),
            Self::Tls(tls) => tls.write_all(bytes.as_ref()).and_then(|()| tls.flush()),
        };
    }

    /// What comes next: some bytes, or none where the other end has closed.
    pub(crate) fn some(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 16 << 10];
        let read = match self {
            Self::Plain(tcp) => tcp.read(&mut buffer),
            Self::Tls(tls) => tls.read(&mut buffer),
        };
        match read {
            Ok(read) => {
                buffer.truncate(read);
                buffer
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came, and no end")
            }
            Err(_) => Vec::new(),
        }
    }

    /// All that comes until the other end closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let some = self.some();
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(address).expect("a connection");
    tcp.set_nodelay(true).expect("no delay");
    tcp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    tcp.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    tcp
}

/// A runtime of one test's own.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Runs a test's asynchronous part, for a minute at most.
pub(crate) fn run_async<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("it ends within a minute")
    })
}

/// An HTTP/2 connection, and the task that drives it.
pub(crate) struct Http2 {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) task: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    /// By prior knowledge in plaintext.
    pub(crate) async fn plain(address: SocketAddr) -> Self {
        let tcp = tokio::net::TcpStream::connect(address).await.expect("a connection");
        Self::over(tcp).await
    }

    /// By ALPN.
    pub(crate) async fn tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let tcp = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        // Wide enough that streams which are not read leave room for others.
        let mut client = h2::client::Builder::new();
        let (send, connection) =
            client.initial_connection_window_size(16 << 20).handshake(stream).await.expect("HTTP/2");
        Self { send, task: tokio::spawn(connection) }
    }

    /// Sends a request without a body.
    pub(crate) async fn get(&self, url: &str) -> Result<ResponseFuture, h2::Error> {
        let request = http::Request::get(url).body(()).expect("a request");
        let mut ready = self.send.clone().ready().await?;
        let (response, _) = ready.send_request(request, true)?;
        Ok(response)
    }

    /// The status and the body of such a request.
    pub(crate) async fn fetch(&self, url: &str) -> Result<(u16, Bytes), h2::Error> {
        let response = self.get(url).await?.await?;
        whole(response).await
    }
}

/// A response read to its end.
pub(crate) async fn whole(response: http::Response<h2::RecvStream>) -> Result<(u16, Bytes), h2::Error> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((status, all.into()))
}

/// An upstream that speaks HTTP/2 by the `h2` crate. It stops when dropped.
pub(crate) struct Http2Upstream {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    stop: Arc<tokio::sync::Notify>,
}

impl Http2Upstream {
    /// An upstream on 127.0.0.1; `handle` gets each request with its number, from 1 on.
    pub(crate) fn start<F, A>(handle: F) -> Self
    where
        F: Fn(http::Request<h2::RecvStream>, SendResponse<Bytes>, usize) -> A + Send + Sync + 'static,
        A: Future<Output = Result<(), h2::Error>> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("an address");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let (requests, stop) = (Arc::<AtomicUsize>::default(), Arc::<tokio::sync::Notify>::default());
        let (counted, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let handle = Arc::new(handle);
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let (handle, counted) = (Arc::clone(&handle), Arc::clone(&counted));
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                        tokio::spawn(handle(request, respond, number));
                    }
                });
            }
        };
        std::thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    () = accept => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Self { address, requests, stop }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has got.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// The head of a 200 whose body follows.
pub(crate) fn begin(mut respond: SendResponse<Bytes>) -> Result<h2::SendStream<Bytes>, h2::Error> {
    respond.send_response(http::Response::new(()), false)
}

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// HTTP/2 by hand.
pub(crate) struct Frames {
    wire: Wire,
    read: Vec<u8>,
}

impl Frames {
    /// Preface and settings are sent.
    pub(crate) fn open(mut wire: Wire) -> Self {
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        let mut frames = Self { wire, read: Vec::new() };
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.wire.send(frame(kind, flags, stream, payload));
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.wire.send(bytes);
    }

    /// The next frame; `None` where the connection ends.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        while self.read.len() < 9 || self.read.len() < 9 + self.length() {
            let some = self.wire.some();
            if some.is_empty() {
                return None;
            }
            self.read.extend(some);
        }
        let frame: Vec<u8> = self.read.drain(..9 + self.length()).collect();
        let stream = u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]]) & 0x7fff_ffff;
        let frame = Frame { kind: frame[3], flags: frame[4], stream, payload: frame[9..].to_vec() };
        match frame.kind {
            SETTINGS if frame.flags & 1 == 0 => self.send(SETTINGS, 1, 0, &[]),
            PING if frame.flags & 1 == 0 => self.send(PING, 1, 0, &frame.payload),
            _ => {}
        }
        Some(frame)
    }

    fn length(&self) -> usize {
        usize::from(self.read[0]) << 16 | usize::from(self.read[1]) << 8 | usize::from(self.read[2])
    }

    /// How a stream ends: the frame that ends it or the connection; `None` where the connection just closes.
    pub(crate) fn end_of(&mut self, stream: u32) -> Option<End> {
        let began = Instant::now();
        let mut status = None;
        while began.elapsed() < PATIENCE {
            let frame = self.next()?;
            match frame.kind {
                GOAWAY => {
                    let code = u32::from_be_bytes(frame.payload[4..8].try_into().expect("eight bytes"));
                    if code != 0 {
                        return Some(End::Connection(code));
                    }
                }
                RST_STREAM if frame.stream == stream => {
                    let code = u32::from_be_bytes(frame.payload[..4].try_into().expect("four bytes"));
                    return Some(status.map_or(End::Reset(code), End::Status));
                }
                HEADERS if frame.stream == stream => {
                    status = status.or(Some(static_status(&frame.payload)));
                    if frame.flags & END_STREAM != 0 {
                        return status.map(End::Status);
                    }
                }
                DATA if frame.stream == stream && frame.flags & END_STREAM != 0 => {
                    return status.map(End::Status);
                }
                _ => {}
            }
        }
        panic!("stream {stream} does not end")
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a response: its status, 0 where it is not one of HPACK's static table.
    Status(u16),
    /// With RST_STREAM and that code.
    Reset(u32),
    /// With the whole connection: GOAWAY and that code.
    Connection(u32),
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as HPACK's literals, neither indexed nor compressed (RFC 7541 §6.2.2).
pub(crate) fn literals(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name.as_bytes());
        string(&mut block, value.as_bytes());
    }
    block
}

fn string(block: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() < 127 {
        block.push(bytes.len() as u8);
    } else {
        block.push(127);
        let mut left = bytes.len() - 127;
        while left >= 128 {
            block.push((left % 128) as u8 | 128);
            left /= 128;
        }
        block.push(left as u8);
    }
    block.extend(bytes);
}

/// The status of a header block that begins with an entry of the static table (RFC 7541, appendix A).
fn static_status(block: &[u8]) -> u16 {
    match block.first() {
        Some(0x88) => 200,
        Some(0x89) => 204,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 0,
    }
}
