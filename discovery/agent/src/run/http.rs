//! `/livez`, `/readyz` and `/metrics`, for probes and scrapers.
//!
//! Three answers to `GET` need no framework: the request's first line decides, one request a connection. Bounded: so many connections at
//! once, so many bytes and so long for a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::figures::Metrics;

const CONNECTIONS: usize = 16;
const REQUEST: usize = 8192;
const LIMIT: Duration = Duration::from_secs(5);

/// Listens.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers, until it is aborted.
pub(super) async fn serve(listener: TcpListener, metrics: Arc<Metrics>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let metrics = Arc::clone(&metrics);
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(LIMIT, answer(stream, &metrics)).await;
                    drop(permit);
                });
            }
            // Too many open files, say: it passes.
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn answer(mut stream: TcpStream, metrics: &Metrics) -> std::io::Result<()> {
    let mut request = Vec::with_capacity(1024);
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = respond(&request, metrics);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

fn respond(request: &[u8], metrics: &Metrics) -> (&'static str, String) {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    match (words.next(), words.next()) {
        (Some(b"GET"), Some(b"/livez")) => ("200 OK", "alive\n".to_owned()),
        (Some(b"GET"), Some(b"/readyz")) => match metrics.readiness() {
            Ok(word) => ("200 OK", format!("{word}\n")),
            Err(why) => ("503 Service Unavailable", format!("{why}\n")),
        },
        (Some(b"GET"), Some(b"/metrics")) => ("200 OK", metrics.text(Instant::now())),
        (Some(b"GET"), _) => ("404 Not Found", "there are /livez, /readyz and /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "only GET\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_decides() {
        let metrics = Metrics::default();
        for (line, status) in [
            ("GET /livez HTTP/1.1", "200 OK"),
            ("GET /readyz HTTP/1.1", "200 OK"),
            ("GET /metrics HTTP/1.1", "200 OK"),
            ("GET / HTTP/1.1", "404 Not Found"),
            ("POST /livez HTTP/1.1", "405 Method Not Allowed"),
            ("", "405 Method Not Allowed"),
        ] {
            assert_eq!(
                respond(format!("{line}\r\nhost: x\r\n\r\n").as_bytes(), &metrics).0,
                status,
                "{line}"
            );
        }
        metrics.set_leading(true);
        assert_eq!(respond(b"GET /readyz HTTP/1.1\r\n\r\n", &metrics).0, "503 Service Unavailable");
    }
}
