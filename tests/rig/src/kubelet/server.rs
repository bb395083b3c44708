//! What the API server asks of this node: logs, over HTTPS on port 10250, of whoever has a certificate of the cluster's authority as one of its
//! administrators.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::Router;
use axum::body::Body;
use axum::extract::{self, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::logs::{Reader, Wanted};
use super::shim::EXIT;
use super::{Host, instance};

/// The group whose members may read logs.
const ADMINISTRATORS: &str = "system:masters";
/// How often a log that is followed is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long somebody may take to say who they are.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The server's certificate, and whose clients it serves.
pub(crate) fn tls(cert: &Path, key: &Path, client_ca: &Path) -> Result<TlsAcceptor> {
    let read = |path: &Path| -> Result<Vec<CertificateDer<'static>>> {
        let certs = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        certs.map_err(|error| anyhow!("cannot read certificates of {}: {error}", path.display()))
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in read(client_ca)? {
        roots.add(authority)?;
    }
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let key_der = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| anyhow!("cannot read the key {}: {error}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(read(cert)?, key_der)
        .with_context(|| format!("{} and {} do not fit", cert.display(), key.display()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves for ever.
pub(crate) async fn serve(host: Arc<Host>, listener: TcpListener, tls: TlsAcceptor) {
    let router = Router::new()
        .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(host);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept: {error}");
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            // A client that does not come through is told by TLS.
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else { return };
            if !stream.get_ref().1.peer_certificates().is_some_and(is_administrator) {
                return;
            }
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// Whether a client's certificate is that of the API server or of another administrator: not of a node, for example.
fn is_administrator(certificates: &[CertificateDer<'_>]) -> bool {
    let Some((_, certificate)) = certificates.first().and_then(|der| X509Certificate::from_der(der).ok())
    else {
        return false;
    };
    let mut groups = certificate.subject().iter_organization().filter_map(|group| group.as_str().ok());
    groups.any(|group| group == ADMINISTRATORS)
}

async fn container_logs(
    State(host): State<Arc<Host>>,
    extract::Path((namespace, pod, container)): extract::Path<(String, String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let Some(uid) = host.uid(&namespace, &pod) else {
        return (StatusCode::NOT_FOUND, format!("pod {namespace}/{pod} is not on this node")).into_response();
    };
    let dir = host.pod_dir(&uid).join("containers").join(&container);
    let numbers = instance::numbers(&dir);
    let number = match numbers.as_slice() {
        [.., last] if !wanted.previous => *last,
        [.., before, _] => *before,
        [] | [_] => {
            let which = if wanted.previous { "previous terminated container" } else { "container" };
            let text = format!("{which} {container:?} in pod {pod:?} not found");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    let log = Log {
        path: instance::log(&dir, number),
        exit: instance::dir(&dir, number).join(EXIT),
        follow: wanted.follow,
        reader: Reader::new(wanted, Timestamp::now()),
        at: 0,
        over: false,
    };
    let pieces = stream::unfold(log, |mut log| async move {
        let piece = log.next().await?;
        Some((Ok::<_, Infallible>(piece), log))
    });
    Body::from_stream(pieces).into_response()
}

/// A log that is being read.
struct Log {
    path: PathBuf,
    exit: PathBuf,
    follow: bool,
    reader: Reader,
    at: u64,
    over: bool,
}

impl Log {
    /// The next piece; nothing when all that is wanted was given.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            // Before we read: what it said last comes before its end.
            let ended = !self.follow || self.exit.exists();
            let piece = self.more().await.unwrap_or_default();
            // One that is gone with its pod.
            self.over = ended || !self.path.exists() || self.reader.is_full();
            let piece = self.reader.read(&piece);
            if !piece.is_empty() {
                return Some(piece.into());
            }
            if !self.over {
                tokio::time::sleep(LOOK).await;
            }
        }
        None
    }

    /// What was written since the last time.
    async fn more(&mut self) -> std::io::Result<Vec<u8>> {
        use tokio::io::AsyncSeekExt;
        let mut file = tokio::fs::File::open(&self.path).await?;
        file.seek(std::io::SeekFrom::Start(self.at)).await?;
        let mut piece = Vec::new();
        file.read_to_end(&mut piece).await?;
        self.at += u64::try_from(piece.len()).unwrap_or_default();
        Ok(piece)
    }
}
