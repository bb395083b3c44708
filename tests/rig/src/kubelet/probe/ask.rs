//! Asking a container once: over HTTP, over TCP, by gRPC's health protocol, or by a command that runs in it.
//!
//! Answers over TLS are taken whoever signed the certificate, as the real kubelet does. Whoever asks bounds the time.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::kubelet::instance::Inside;

/// How a call of gRPC ended, as a number: 0 is good.
const STATUS: &str = "grpc-status";

/// Where a container is to be found.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: IpAddr,
    pub(crate) ports: Vec<(String, u16)>,
    pub(crate) inside: Option<Inside>,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    Http { address: String, port: u16, tls: bool, path: String, headers: Vec<(String, String)> },
    Tcp { address: String, port: u16 },
    Grpc { address: IpAddr, port: u16, service: String },
    Exec { inside: Inside, argv: Vec<String> },
}

impl Target {
    /// A container of a pod that has this address.
    pub(crate) fn new(container: &Container, address: IpAddr, inside: Option<Inside>) -> Self {
        let ports = container.ports.iter().flatten().filter_map(|port| {
            Some((port.name.clone().unwrap_or_default(), u16::try_from(port.container_port).ok()?))
        });
        Self { address, ports: ports.collect(), inside }
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let found = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let named = self.ports.iter().find(|(known, _)| known == name).map(|(_, port)| *port);
                named.or_else(|| name.parse().ok())
            }
        };
        found.ok_or_else(|| format!("no port {port:?}"))
    }
}

impl Check {
    /// What a probe asks.
    pub(crate) fn of(probe: &Probe, target: &Target) -> Result<Self, String> {
        if let Some(get) = &probe.http_get {
            return Self::http(get, target);
        }
        if let Some(socket) = &probe.tcp_socket {
            let address = socket.host.clone().unwrap_or_else(|| target.address.to_string());
            return Ok(Self::Tcp { address, port: target.port(&socket.port)? });
        }
        if let Some(grpc) = &probe.grpc {
            let port = u16::try_from(grpc.port).map_err(|error| error.to_string())?;
            let service = grpc.service.clone().unwrap_or_default();
            return Ok(Self::Grpc { address: target.address, port, service });
        }
        match &probe.exec {
            Some(exec) => Self::exec(exec, target),
            None => Err("a probe that asks nothing".to_owned()),
        }
    }

    /// A GET.
    pub(crate) fn http(get: &HTTPGetAction, target: &Target) -> Result<Self, String> {
        let headers = get.http_headers.iter().flatten();
        let path = get.path.as_deref().unwrap_or("/");
        Ok(Self::Http {
            address: get.host.clone().unwrap_or_else(|| target.address.to_string()),
            port: target.port(&get.port)?,
            tls: get.scheme.as_deref() == Some("HTTPS"),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        })
    }

    /// A command.
    pub(crate) fn exec(exec: &ExecAction, target: &Target) -> Result<Self, String> {
        let inside = target.inside.clone().ok_or("the container does not run")?;
        Ok(Self::Exec { inside, argv: exec.command.clone().unwrap_or_default() })
    }

    /// Asks. The sentence says what was wrong with the answer.
    pub(crate) async fn ask(&self) -> Result<(), String> {
        match self {
            Self::Tcp { address, port } => connect(address, *port).await.map(drop),
            Self::Http { address, port, tls, path, headers } => {
                let stream = connect(address, *port).await?;
                let status = if *tls {
                    let name = ServerName::try_from(address.clone()).map_err(|error| error.to_string())?;
                    let config = trusting().map_err(|error| error.to_string())?;
                    let stream = TlsConnector::from(config).connect(name, stream).await;
                    get(stream.map_err(|error| error.to_string())?, address, *port, path, headers).await
                } else {
                    get(stream, address, *port, path, headers).await
                };
                match status.map_err(|error| error.to_string())? {
                    200..400 => Ok(()),
                    status => Err(format!("HTTP probe failed with statuscode: {status}")),
                }
            }
            Self::Grpc { address, port, service } => {
                let stream = connect(&address.to_string(), *port).await?;
                let answer = health(stream, &format!("{address}:{port}"), service).await;
                match answer.map_err(|error| error.to_string())?.as_ref() {
                    // A frame that is not compressed, of two bytes: field 1, SERVING.
                    [0, 0, 0, 0, 2, 0x08, 1, ..] => Ok(()),
                    other => Err(format!("service {service:?} is not serving: {other:?}")),
                }
            }
            Self::Exec { inside, argv } => match inside.exec(argv).await {
                Ok((0, _)) => Ok(()),
                Ok((code, said)) => Err(format!("{argv:?} ended with {code}: {said}")),
                Err(error) => Err(format!("{error:#}")),
            },
        }
    }
}

async fn connect(address: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((address, port)).await.map_err(|error| format!("{address}:{port}: {error}"))
}

async fn get<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    address: &str,
    port: u16,
    path: &str,
    headers: &[(String, String)],
) -> anyhow::Result<u16> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let ours = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let mut request = Request::get(path).header("user-agent", "kube-probe/rig");
    if !ours {
        request = request.header("host", format!("{address}:{port}"));
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // It may have ended with the answer.
        _ = connection => answer.await,
    };
    Ok(answer?.status().as_u16())
}

/// The answer of `grpc.health.v1.Health/Check`, as it comes.
async fn health(stream: TcpStream, authority: &str, service: &str) -> anyhow::Result<Bytes> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    let uri = Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query("/grpc.health.v1.Health/Check")
        .build()?;
    let request = Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(question(service)))?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?;
        // An answer without a message has its status in the head.
        let status =
            body.trailers().and_then(|trailers| trailers.get(STATUS)).or_else(|| head.headers.get(STATUS));
        if let Some(status) = status
            && status != "0"
        {
            anyhow::bail!("gRPC status {}", String::from_utf8_lossy(status.as_bytes()));
        }
        anyhow::Ok(body.to_bytes())
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// A frame with a HealthCheckRequest: field 1, the name of the service.
fn question(service: &str) -> Bytes {
    let name = &service.as_bytes()[..service.len().min(127)];
    let length = u8::try_from(name.len()).unwrap_or_default();
    let mut frame = BytesMut::new();
    let message = if length == 0 { 0 } else { length + 2 };
    frame.extend_from_slice(&[0, 0, 0, 0, message]);
    if length > 0 {
        frame.extend_from_slice(&[0x0a, length]);
        frame.extend_from_slice(name);
    }
    frame.freeze()
}

fn trusting() -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(Trusting(Arc::clone(&provider)));
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// Takes every certificate.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn target() -> Target {
        Target { address: Ipv4Addr::LOCALHOST.into(), ports: vec![("web".to_owned(), 8080)], inside: None }
    }

    #[test]
    fn ports_have_numbers_or_names() {
        assert_eq!(target().port(&IntOrString::Int(80)), Ok(80));
        assert_eq!(target().port(&IntOrString::String("web".to_owned())), Ok(8080));
        assert_eq!(target().port(&IntOrString::String("81".to_owned())), Ok(81));
        assert!(target().port(&IntOrString::String("none".to_owned())).is_err());
    }

    #[tokio::test]
    async fn good_statuses_are_below_400() {
        for (status, good) in
            [("200 OK", true), ("302 Found", true), ("404 Not Found", false), ("503 No", false)]
        {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let port = listener.local_addr().expect("an address").port();
            let server = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.expect("a client");
                let mut asked = vec![0; 1024];
                let length = stream.read(&mut asked).await.expect("a request");
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.expect("answered");
                String::from_utf8_lossy(&asked[..length]).into_owned()
            });
            let get = HTTPGetAction {
                path: Some("healthz?deep=1".to_owned()),
                port: IntOrString::Int(port.into()),
                ..Default::default()
            };
            let answer = Check::http(&get, &target()).expect("a check").ask().await;
            assert_eq!(answer.is_ok(), good, "{status}: {answer:?}");
            assert!(server.await.expect("served").starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"));
        }
    }

    #[tokio::test]
    async fn grpc_services_say_that_they_serve() {
        use hyper::server::conn::http2::Builder;
        use hyper::service::service_fn;
        // What is asked for, the status, the message, and whether that is good.
        let rows: [(&str, &str, &[u8], bool); 4] = [
            ("", "0", &[0, 0, 0, 0, 2, 0x08, 1], true),
            ("shop", "0", &[0, 0, 0, 0, 2, 0x08, 2], false),
            ("shop", "5", &[], false),
            ("", "12", &[], false),
        ];
        for (service, status, message, good) in rows {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let port = listener.local_addr().expect("an address").port();
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.expect("a client");
                let answer = service_fn(move |request: Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    let asked = request.into_body().collect().await.expect("a message").to_bytes();
                    assert_eq!(asked, question(service));
                    http::Response::builder()
                        .header(STATUS, status)
                        .body(Full::new(Bytes::from_static(message)))
                });
                let _ =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
            });
            let check =
                Check::Grpc { address: Ipv4Addr::LOCALHOST.into(), port, service: service.to_owned() };
            let answer = check.ask().await;
            assert_eq!(answer.is_ok(), good, "{service:?} {status}: {answer:?}");
            server.await.expect("served");
        }
    }

    #[test]
    fn a_question_of_the_health_protocol() {
        assert_eq!(question("").as_ref(), [0, 0, 0, 0, 0]);
        assert_eq!(question("ab").as_ref(), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
    }
}
