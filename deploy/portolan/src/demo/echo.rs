//! An upstream that tells what it was asked.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
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
                let service = service_fn(move |request| answer(request, app, cluster, address));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service),
                );
            }
        });
    })?;
    Ok(address)
}

/// Reads the request to its end, lest an upload break off, and tells of it.
async fn answer(
    mut request: Request<Incoming>,
    app: &str,
    cluster: &str,
    address: SocketAddr,
) -> hyper::Result<Response<Full<Bytes>>> {
    let mut length = 0;
    while let Some(frame) = request.body_mut().frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    let mut body = format!(
        "{app} in {cluster}, endpoint {address}\n\n{} {} {:?}\n",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        let _ = writeln!(body, "{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    if length > 0 {
        let _ = writeln!(body, "\nand a body of {length} bytes");
    }
    Ok(Response::new(Full::new(body.into())))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    /// Regression: the answer came without reading the body, and the connection was closed under a large one.
    #[test]
    fn bodies_are_read_and_their_length_told() {
        let address = super::start("shop", "paris").unwrap();
        for (length, expected) in [
            (0, "host: x\n"),
            (5, "\nand a body of 5 bytes\n"),
            (20_000_000, "\nand a body of 20000000 bytes\n"),
        ] {
            let mut tcp = TcpStream::connect(address).unwrap();
            tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            tcp.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
            let head =
                format!("PUT / HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\nhost: x\r\n\r\n");
            tcp.write_all(head.as_bytes()).unwrap();
            tcp.write_all(&vec![b'x'; length]).unwrap();
            let mut answer = String::new();
            tcp.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with(expected), "{length}: {answer}");
        }
    }
}
