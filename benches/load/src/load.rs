//! The load: many connections on one thread, every answer's status and length checked.
//!
//! A run warms up, then counts for a fixed time; the caller's probe (the proxy's CPU time) is read at both ends of that
//! time. Sessions are never resumed; TLS is always 1.3 with X25519 and AES-128-GCM, so that all contenders do equal work.
//! New connections come from changing 127.0.0.x addresses, so that ports do not run out.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsConnector;

use crate::message::{content_length, head_len};

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Pace {
    /// The next one on the same connection as soon as the last is answered.
    KeepAlive,
    /// Each on a connection of its own.
    NewConnection,
    /// No request at all: a TLS handshake, then both sides close.
    Handshake,
    /// So many concurrent streams on each HTTP/2 connection.
    Http2 { streams: usize },
    /// So many a second over all connections, due on a clock that does not wait for answers.
    Rate(u32),
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) pace: Pace,
    pub(crate) tls: bool,
    pub(crate) connections: usize,
    pub(crate) host: &'static str,
    /// Bytes of each answer.
    pub(crate) size: usize,
    /// Bytes of each request's body; a `POST` if there are any.
    pub(crate) post: usize,
}

/// What one run counted.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) requests: u64,
    pub(crate) wrong: u64,
    pub(crate) first_wrong: Option<String>,
    pub(crate) wall: Duration,
    /// Microseconds of each request, sorted.
    pub(crate) latencies: Vec<u32>,
}

impl Counted {
    pub(crate) fn percentile(&self, p: f64) -> u32 {
        let index = (self.latencies.len() as f64 * p) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

/// A client of one contender.
pub(crate) struct Client {
    http: SocketAddr,
    https: SocketAddr,
    http1: TlsConnector,
    http2: TlsConnector,
    next_source: Cell<u8>,
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

#[derive(Default)]
struct Tally {
    counting: Cell<bool>,
    requests: Cell<u64>,
    wrong: Cell<u64>,
    first_wrong: RefCell<Option<String>>,
    latencies: RefCell<Vec<u32>>,
}

impl Tally {
    fn note(&self, since: Instant, result: Result<()>) {
        match result {
            Ok(()) if self.counting.get() => {
                self.requests.set(self.requests.get() + 1);
                self.latencies.borrow_mut().push(since.elapsed().as_micros() as u32);
            }
            Ok(()) => {}
            Err(e) => {
                self.wrong.set(self.wrong.get() + 1);
                self.first_wrong.borrow_mut().get_or_insert_with(|| format!("{e:#}"));
            }
        }
    }
}

impl Client {
    pub(crate) fn new(http: SocketAddr, https: SocketAddr, ca_pem: &str) -> Result<Rc<Client>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
            kx_groups: vec![aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        });
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        let connector = |alpn: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![alpn.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        let (http1, http2) = (connector(b"http/1.1"), connector(b"h2"));
        Ok(Rc::new(Client { http, https, http1, http2, next_source: Cell::new(2) }))
    }

    /// Asks once over HTTP and once over HTTPS: does this contender serve yet?
    pub(crate) fn probe(self: &Rc<Self>, host: &'static str) -> Result<()> {
        block_on(async {
            for tls in [false, true] {
                let load = Load { pace: Pace::NewConnection, tls, connections: 1, host, size: 128, post: 0 };
                let once = self.new_connection(&load);
                tokio::time::timeout(Duration::from_secs(2), once).await.context("no answer")??;
            }
            Ok(())
        })
    }

    /// Runs a load; `probe` is called when counting starts and when it ends.
    pub(crate) fn run<P>(
        self: &Rc<Self>,
        load: Load,
        warm_up: Duration,
        duration: Duration,
        probe: impl Fn() -> P,
    ) -> Result<(Counted, P, P)> {
        block_on(async {
            let tally = Rc::new(Tally::default());
            let mut tasks = self.start(load, &tally).await?;
            tokio::time::sleep(warm_up).await;
            let (before, start) = (probe(), Instant::now());
            tally.counting.set(true);
            tokio::time::sleep(duration).await;
            tally.counting.set(false);
            let (wall, after) = (start.elapsed(), probe());
            tasks.shutdown().await;
            let mut latencies = tally.latencies.take();
            latencies.sort_unstable();
            let (requests, wrong) = (tally.requests.get(), tally.wrong.get());
            let first_wrong = tally.first_wrong.take();
            Ok((Counted { requests, wrong, first_wrong, wall, latencies }, before, after))
        })
    }

    /// Opens connections, sends one request on each and leaves them open; calls `measure` when there are `few` and
    /// again when there are `many`.
    pub(crate) fn hold<T>(
        self: &Rc<Self>,
        load: Load,
        few: usize,
        many: usize,
        measure: impl Fn() -> T,
    ) -> Result<(T, T)> {
        block_on(async {
            let mut held = Vec::with_capacity(many);
            self.hold_until(few, &load, &mut held).await?;
            let at_few = measure();
            self.hold_until(many, &load, &mut held).await?;
            Ok((at_few, measure()))
        })
    }

    async fn hold_until(
        self: &Rc<Self>,
        count: usize,
        load: &Load,
        held: &mut Vec<Box<dyn Io>>,
    ) -> Result<()> {
        let mut buf = vec![0; 32 << 10];
        let request = request(load);
        while held.len() < count {
            // A batch fits any accept queue.
            let mut batch = JoinSet::new();
            for _ in 0..32.min(count - held.len()) {
                let (client, tls, host) = (self.clone(), load.tls, load.host);
                batch.spawn_local(async move { client.connect(tls, host, &client.http1).await });
            }
            while let Some(io) = batch.join_next().await {
                let mut io = io??;
                exchange(&mut io, &request, &mut buf, load.size).await?;
                held.push(io);
            }
        }
        Ok(())
    }

    async fn start(self: &Rc<Self>, load: Load, tally: &Rc<Tally>) -> Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        let (clock, due) = mpsc::unbounded_channel();
        let due = Rc::new(Mutex::new(due));
        if let Pace::Rate(rate) = load.pace {
            tasks.spawn_local(tick(rate, clock));
        }
        for _ in 0..load.connections {
            let (client, tally, due) = (self.clone(), tally.clone(), due.clone());
            match load.pace {
                Pace::KeepAlive | Pace::Rate(_) => {
                    let io = self.connect(load.tls, load.host, &self.http1).await?;
                    tasks.spawn_local(async move { client.keep_alive(io, &load, &tally, &due).await });
                }
                Pace::NewConnection | Pace::Handshake => drop(tasks.spawn_local(async move {
                    loop {
                        let start = Instant::now();
                        let result = match load.pace {
                            Pace::Handshake => client.handshake(&load).await,
                            _ => client.new_connection(&load).await,
                        };
                        tally.note(start, result);
                    }
                })),
                Pace::Http2 { streams } => {
                    let io = self.connect(load.tls, load.host, &self.http2).await?;
                    let (sender, connection) = h2::client::handshake(io).await?;
                    tasks.spawn_local(async move { drop(connection.await) });
                    for _ in 0..streams {
                        let (sender, tally) = (sender.clone(), tally.clone());
                        tasks.spawn_local(async move { http2_stream(sender, &load, &tally).await });
                    }
                }
            }
        }
        Ok(tasks)
    }

    async fn connect(&self, tls: bool, host: &'static str, connector: &TlsConnector) -> Result<Box<dyn Io>> {
        let source = self.next_source.get();
        self.next_source.set(if source == 250 { 2 } else { source + 1 });
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into())?;
        let tcp = socket.connect(if tls { self.https } else { self.http }).await.context("connect")?;
        Ok(match tls {
            false => Box::new(tcp),
            true => {
                Box::new(connector.connect(ServerName::try_from(host)?, tcp).await.context("TLS handshake")?)
            }
        })
    }

    /// Requests one after the other, until an answer is wrong; then on a fresh connection.
    async fn keep_alive(
        &self,
        mut io: Box<dyn Io>,
        load: &Load,
        tally: &Tally,
        due: &Mutex<mpsc::UnboundedReceiver<Instant>>,
    ) {
        let request = request(load);
        let mut buf = vec![0; 128 << 10];
        loop {
            let start = match load.pace {
                Pace::Rate(_) => match due.lock().await.recv().await {
                    Some(due) => due,
                    None => return,
                },
                _ => Instant::now(),
            };
            let result = exchange(&mut io, &request, &mut buf, load.size).await;
            let broken = result.is_err();
            tally.note(start, result);
            if broken {
                match self.connect(load.tls, load.host, &self.http1).await {
                    Ok(fresh) => io = fresh,
                    Err(_) => return,
                }
            }
        }
    }

    async fn new_connection(&self, load: &Load) -> Result<()> {
        let mut io = self.connect(load.tls, load.host, &self.http1).await?;
        let mut buf = [0; 4096];
        exchange(&mut io, &request(load), &mut buf, load.size).await?;
        ensure!(io.read(&mut buf).await? == 0, "bytes after the last answer");
        Ok(())
    }

    async fn handshake(&self, load: &Load) -> Result<()> {
        let mut io = self.connect(true, load.host, &self.http1).await?;
        io.shutdown().await?;
        let mut buf = [0; 512];
        // The peer has seen our Finished when it closes; whether politely or by a reset is its own affair.
        while matches!(io.read(&mut buf).await, Ok(n) if n > 0) {}
        Ok(())
    }
}

/// Announces `rate` requests a second, in one batch each millisecond.
async fn tick(rate: u32, clock: mpsc::UnboundedSender<Instant>) {
    let mut interval = tokio::time::interval(Duration::from_millis(1));
    loop {
        let due = interval.tick().await.into_std();
        for _ in 0..rate.div_ceil(1000) {
            if clock.send(due).is_err() {
                return;
            }
        }
    }
}

fn request(load: &Load) -> Vec<u8> {
    let method = if load.post > 0 { "POST" } else { "GET" };
    let mut head = format!("{method} /{} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n", load.size, load.host);
    if load.post > 0 {
        head += &format!("Content-Length: {}\r\n", load.post);
    }
    if load.pace == Pace::NewConnection {
        head += "Connection: close\r\n";
    }
    head += "\r\n";
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + load.post, b'y');
    bytes
}

/// Sends one request and reads its answer to the end: 200, and exactly `size` bytes.
async fn exchange(io: &mut Box<dyn Io>, request: &[u8], buf: &mut [u8], size: usize) -> Result<()> {
    io.write_all(request).await?;
    io.flush().await?;
    let mut filled = 0;
    let head = loop {
        let n = io.read(&mut buf[filled..]).await?;
        ensure!(n > 0, "closed before the answer's head was whole");
        filled += n;
        if let Some(head) = head_len(&buf[..filled]) {
            break head;
        }
    };
    let text = std::str::from_utf8(&buf[..head])?;
    ensure!(text.get(9..12) == Some("200"), "answered {}", text.lines().next().unwrap_or_default());
    ensure!(content_length(text) == Some(size), "wrong or no Content-Length in {text:?}");
    let mut body = filled - head;
    while body < size {
        let n = io.read(buf).await?;
        ensure!(n > 0, "closed after {body} of {size} bytes");
        body += n;
    }
    ensure!(body == size, "{body} bytes instead of {size}");
    Ok(())
}

async fn http2_stream(mut sender: h2::client::SendRequest<Bytes>, load: &Load, tally: &Tally) {
    loop {
        let start = Instant::now();
        let result = http2_exchange(&mut sender, load).await;
        let broken = result.is_err();
        tally.note(start, result);
        if broken {
            return;
        }
    }
}

async fn http2_exchange(sender: &mut h2::client::SendRequest<Bytes>, load: &Load) -> Result<()> {
    let request =
        http::Request::get(format!("https://{}/{}", load.host, load.size)).header("accept", "*/*").body(())?;
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
    let (response, _) = sender.send_request(request, true)?;
    let response = response.await?;
    ensure!(response.status() == 200, "answered {}", response.status());
    let mut stream = response.into_body();
    let mut body = 0;
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        body += chunk.len();
        stream.flow_control().release_capacity(chunk.len())?;
    }
    ensure!(body == load.size, "{body} bytes instead of {}", load.size);
    Ok(())
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut future: Pin<Box<dyn Future<Output = Result<T>> + '_>> = Box::pin(future);
    LocalSet::new().block_on(&runtime, &mut future)
}
