//! A bare Pingora proxy: what does one request cost before Portolan adds anything?
//!
//! Our own accept loop and connection type, one hash look-up from host to upstream; no log, no metrics, no timeouts, no
//! limits, no checks: for measuring on loopback only. Each worker is a thread with its own current-thread runtime, its own
//! `SO_REUSEPORT` listeners and its own `HttpProxy`, so its own pool of upstream connections.
//!
//! ```text
//! accept ─► [TLS handshake] ─► parked (no buffers) ─► one request ─► parked …      h2 by ALPN: Pingora's own loop
//! ```

mod conn;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use async_trait::async_trait;
use conn::Conn;
use pingora::apps::{HttpServerApp, ReusedHttpStream, ServerApp};
use pingora::http::RequestHeader;
use pingora::modules::http::HttpModules;
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Ssl};
use pingora::proxy::{HttpProxy, ProxyHttp, Session};
use pingora::server::{ShutdownWatch, configuration::ServerConf};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: portolan-bench-bare --http ADDR --https ADDR --cert PEM --key PEM --ca PEM \
                     [--workers N] [--route HOST=ADDR]… [--tls-route HOST=ADDR]…";

struct Routes(HashMap<String, HttpPeer, foldhash::fast::RandomState>);

#[async_trait]
impl ProxyHttp for Routes {
    type CTX = ();

    fn new_ctx(&self) {}

    /// Without this, Pingora adds its compression module to every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn upstream_peer(&self, session: &mut Session, _: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        match host(session.req_header()).and_then(|host| self.0.get(host)) {
            Some(peer) => Ok(Box::new(peer.clone())),
            None => Error::e_explain(ErrorType::HTTPStatus(404), "no such host"),
        }
    }
}

fn host(request: &RequestHeader) -> Option<&str> {
    match request.headers.get("host") {
        Some(host) => host.to_str().ok()?.split(':').next(),
        None => request.uri.host(),
    }
}

struct Options {
    http: SocketAddr,
    https: SocketAddr,
    workers: usize,
    tls: Arc<rustls::ServerConfig>,
    conf: Arc<ServerConf>,
    peers: Vec<(String, HttpPeer)>,
}

impl Options {
    fn from_args(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let (mut single, mut peers) = (HashMap::new(), Vec::new());
        while let Some(name) = args.next() {
            let value = args.next().context(USAGE)?;
            match name.as_str() {
                "--route" | "--tls-route" => {
                    let (host, addr) = value.split_once('=').context(USAGE)?;
                    let addr: SocketAddr = addr.parse()?;
                    peers
                        .push((host.to_owned(), HttpPeer::new(addr, name == "--tls-route", host.to_owned())));
                }
                _ => drop(single.insert(name, value)),
            }
        }
        let get = |name: &str| single.get(name).ok_or_else(|| anyhow!("{name} is missing; {USAGE}"));
        let mut conf = ServerConf::new().context("defaults")?;
        conf.threads = 1; // one HttpProxy serves one worker
        conf.upstream_keepalive_pool_size = 256;
        conf.ca_file = Some(get("--ca")?.clone());
        Ok(Options {
            http: get("--http")?.parse()?,
            https: get("--https")?.parse()?,
            workers: single.get("--workers").map_or(Ok(1), |n| n.parse())?,
            tls: tls_config(get("--cert")?, get("--key")?)?,
            conf: Arc::new(conf),
            peers,
        })
    }
}

fn tls_config(cert: &str, key: &str) -> Result<Arc<rustls::ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

fn main() -> Result<()> {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("another TLS provider was installed first");
    }
    let options = Arc::new(Options::from_args(std::env::args().skip(1))?);
    let workers: Vec<_> = (0..options.workers.max(1))
        .map(|_| {
            std::thread::spawn({
                let options = options.clone();
                move || worker(&options)
            })
        })
        .collect();
    workers.into_iter().try_for_each(|w| w.join().map_err(|_| anyhow!("a worker panicked"))?)
}

fn worker(options: &Options) -> Result<()> {
    let peers = options.peers.iter().cloned().collect();
    let mut proxy = HttpProxy::new(Routes(peers), options.conf.clone());
    proxy.handle_init_modules();
    let proxy = Arc::new(proxy);
    let (_never_ends, shutdown) = tokio::sync::watch::channel(false);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let tls = TlsAcceptor::from(options.tls.clone());
        tokio::try_join!(
            accept(options.http, None, &proxy, &shutdown),
            accept(options.https, Some(tls), &proxy, &shutdown)
        )
    })?;
    Ok(())
}

async fn accept(
    addr: SocketAddr,
    tls: Option<TlsAcceptor>,
    proxy: &Arc<HttpProxy<Routes>>,
    shutdown: &ShutdownWatch,
) -> Result<()> {
    let listener = listen(addr).with_context(|| format!("cannot listen on {addr}"))?;
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await; // out of descriptors: let some close
            continue;
        };
        tokio::spawn(serve(tcp, tls.clone(), proxy.clone(), shutdown.clone()));
    }
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(addr), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Serves one connection to its end. What stays allocated between requests is this small future and the connection;
/// the handshake's and the request's own futures are boxed and dropped.
async fn serve(
    tcp: TcpStream,
    tls: Option<TlsAcceptor>,
    proxy: Arc<HttpProxy<Routes>>,
    shutdown: ShutdownWatch,
) {
    let _ = tcp.set_nodelay(true);
    let mut conn = match tls {
        None => Conn::plain(tcp),
        Some(tls) => match Box::pin(tls.accept(tcp)).await {
            Ok(stream) => Conn::tls(stream),
            Err(_) => return,
        },
    };
    if conn.selected_alpn_proto() == Some(ALPN::H2) {
        proxy.process_new(conn, &shutdown).await;
        return;
    }
    while conn.parked().await.is_ok() {
        let Some(reused) = request(conn, &proxy, &shutdown).await else { return };
        let (stream, _settings) = reused.consume();
        match stream.into_any().downcast() {
            Ok(same) => conn = same,
            Err(_) => return,
        }
    }
}

type Request<'a> = Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'a>>;

/// Not an `async fn`, so that the session is not kept as a local of the connection's future.
fn request<'a>(
    conn: Box<Conn>,
    proxy: &'a Arc<HttpProxy<Routes>>,
    shutdown: &'a ShutdownWatch,
) -> Request<'a> {
    let mut session = ServerSession::new_http1(conn);
    session.set_keepalive(Some(60)); // the default is to close after one answer
    proxy.process_new_http(session, shutdown)
}
