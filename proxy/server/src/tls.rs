//! The TLS handshake with a client.

use std::io;

use portolan_certs::{Found, ListenerContext, UNRECOGNIZED_NAME};
use portolan_metrics::Handshake;
use rustls::ProtocolVersion;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::info::TlsInfo;

/// What a handshake is counted as.
pub(crate) fn result(accepted: &io::Result<(TlsStream<TcpStream>, TlsInfo)>) -> Handshake {
    match accepted {
        Ok((_, TlsInfo { version: "TLSv1.2", .. })) => Handshake::Tls12,
        Ok(_) => Handshake::Tls13,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Handshake::UnknownName,
        Err(_) => Handshake::Failed,
    }
}

/// Shakes hands. A name that nobody serves is refused with the alert that says so.
pub(crate) async fn accept(
    context: &ListenerContext,
    tcp: TcpStream,
) -> io::Result<(TlsStream<TcpStream>, TlsInfo)> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let server_name: Option<Box<str>> =
        start.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    if context.find(server_name.as_deref()) == Found::Refused {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::NotFound, "no certificate for the server name"));
    }
    let stream = start.into_stream(context.config()).await?;
    let session = stream.get_ref().1;
    let info = TlsInfo {
        server_name,
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        http2: session.alpn_protocol() == Some(b"h2"),
    };
    Ok((stream, info))
}
