//! An upstream that tells what it was asked.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::Context;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// Starts a server on a free port of this machine, on a thread of its own, for as long as the process lives.
pub(super) fn start(app: &'static str, cluster: &'static str) -> anyhow::Result<SocketAddr> {
    let listener =
        std::net::TcpListener::bind("127.0.0.1:0").context("cannot listen for the demo's upstreams")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("{app}-{cluster}")).spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            loop {
                let Ok((tcp, _)) = listener.accept().await else { continue };
                let service = service_fn(move |request| async move {
                    Ok::<_, Infallible>(answer(&request, app, cluster, address))
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service),
                );
            }
        });
    })?;
    Ok(address)
}

fn answer(
    request: &Request<Incoming>,
    app: &str,
    cluster: &str,
    address: SocketAddr,
) -> Response<Full<Bytes>> {
    let mut body = format!(
        "{app} in {cluster}, endpoint {address}\n\n{} {} {:?}\n",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        let _ = writeln!(body, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    Response::new(Full::new(body.into()))
}
