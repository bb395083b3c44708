//! The one upstream behind all contenders: HTTP/1.1 with keep-alive, plain and TLS.
//!
//! `GET /<n>` answers with `n` bytes for the sizes of the scenarios; a body that is sent is read to its end before the
//! answer leaves, so that no contender sees an early response. Runs as a process of its own on the load's core.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio_rustls::TlsAcceptor;

use crate::message::{content_length, head_len, header};

const SIZES: [usize; 4] = [0, 128, 16 << 10, 1 << 20];

type Answers = Rc<HashMap<String, Vec<u8>>>;

/// Serves until it is killed.
pub(crate) fn serve(plain: SocketAddr, tls: SocketAddr, cert: &str, key: &str) -> Result<()> {
    let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let answers: Answers = Rc::new(SIZES.iter().map(|n| (format!("/{n}"), answer(*n))).collect());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::try_join!(accept(plain, None, &answers), accept(tls, Some(acceptor), &answers))
    })?;
    Ok(())
}

fn answer(size: usize) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    )
    .into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes
}

async fn accept(addr: SocketAddr, tls: Option<TlsAcceptor>, answers: &Answers) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    let listener = socket.listen(4096)?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        let (tls, answers) = (tls.clone(), answers.clone());
        tokio::task::spawn_local(async move {
            let _ = match tls {
                None => connection(tcp, answers).await,
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => connection(stream, answers).await,
                    Err(e) => Err(e.into()),
                },
            };
        });
    }
}

async fn connection(mut io: impl AsyncRead + AsyncWrite + Unpin, answers: Answers) -> Result<()> {
    let mut buf = vec![0; 128 << 10];
    let mut filled = 0;
    loop {
        let head = loop {
            if let Some(head) = head_len(&buf[..filled]) {
                break head;
            }
            let n = io.read(&mut buf[filled..]).await?;
            ensure!(n > 0, "closed");
            filled += n;
        };
        let text = std::str::from_utf8(&buf[..head])?;
        let path = text.split(' ').nth(1).context("no request target")?;
        if header(text, "transfer-encoding").is_some() {
            bail!("the backend takes bodies of known length only");
        }
        let answer = answers.get(path).or_else(|| answers.get("/0")).context("no such answer")?;
        let total = head + content_length(text).unwrap_or(0);
        let mut seen = filled;
        while seen < total {
            let n = io.read(&mut buf[head..]).await?;
            ensure!(n > 0, "closed");
            seen += n;
        }
        ensure!(seen == total, "requests are not pipelined");
        filled = 0;
        io.write_all(answer).await?;
        io.flush().await?;
    }
}
