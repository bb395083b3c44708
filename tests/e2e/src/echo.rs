//! An upstream that says what it got: hyper's server, HTTP/1.1 and HTTP/2 by prior knowledge on one port.
//!
//! It answers 200 with a JSON object: `name`, `method`, `target`, `version`, `headers` (pairs, in order), `body` (text), `length`,
//! `connection` (a number). In the query: `status=`, `delay_ms=`, `bytes=` (a body of so many bytes instead), `trailer=1`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde_json::json;
use tokio::sync::Notify;

use crate::RawClient;

/// See the module's documentation. It stops when dropped.
#[derive(Debug)]
pub struct Echo {
    address: SocketAddr,
    seen: Arc<Seen>,
    stop: Arc<Notify>,
}

#[derive(Debug)]
struct Seen {
    name: String,
    connections: AtomicUsize,
    requests: AtomicUsize,
    healthy: AtomicBool,
}

impl Echo {
    /// An upstream that goes by a name, on 127.0.0.1.
    pub fn start(name: &str) -> Self {
        Self::start_on(name, IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
    }

    /// The same on that address; port 0 for any.
    pub fn start_on(name: &str, ip: IpAddr, port: u16) -> Self {
        let listener = std::net::TcpListener::bind((ip, port)).expect("an address to listen on");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Seen {
            name: name.to_owned(),
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
        });
        let stop = Arc::new(Notify::new());
        let (served, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, served) => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Self { address, seen, stop }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// How many requests it has answered, those for `/healthz` not counted.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Whether `/healthz` answers 200 from now on, or 503.
    pub fn set_healthy(&self, healthy: bool) {
        self.seen.healthy.store(healthy, Ordering::SeqCst);
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn accept(listener: std::net::TcpListener, seen: Arc<Seen>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let connection = seen.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let service =
                hyper::service::service_fn(move |request| answer(request, Arc::clone(&seen), connection));
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    connection: usize,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let query = head.uri.query().unwrap_or_default();
    let asked = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
            .and_then(|text| text.parse::<u64>().ok())
    };
    if head.uri.path() == "/healthz" {
        let status = if seen.healthy.load(Ordering::SeqCst) { 200 } else { 503 };
        return Ok(respond(status, &seen.name, Full::default().boxed()));
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    seen.requests.fetch_add(1, Ordering::SeqCst);
    if let Some(delay) = asked("delay_ms") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let content: Bytes = match asked("bytes") {
        Some(length) => vec![b'x'; length as usize].into(),
        None => {
            let headers: Vec<_> = head
                .headers
                .iter()
                .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
                .collect();
            let echo = json!({
                "name": seen.name,
                "method": head.method.as_str(),
                "target": head.uri.to_string(),
                "version": format!("{:?}", head.version),
                "headers": headers,
                "body": String::from_utf8_lossy(&body),
                "length": body.len(),
                "connection": connection,
            });
            echo.to_string().into()
        }
    };
    let status = asked("status").unwrap_or(200) as u16;
    if head.method == http::Method::HEAD {
        // Over HTTP/2 hyper would send the body all the same.
        let mut response = respond(status, &seen.name, Full::default().boxed());
        response.headers_mut().insert(http::header::CONTENT_LENGTH, content.len().into());
        return Ok(response);
    }
    let content = Full::new(content);
    let content = match asked("trailer") {
        Some(_) => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-trailer", http::HeaderValue::from_static("at the end"));
            content.with_trailers(async { Some(Ok(trailers)) }).boxed()
        }
        None => content.boxed(),
    };
    Ok(respond(status, &seen.name, content))
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn respond(status: u16, name: &str, body: Body) -> Response<Body> {
    let head = Response::builder()
        .status(status)
        .header("x-upstream", name)
        .header("content-type", "application/json");
    head.body(body).expect("a response")
}

/// How often each echo server, or else each status, answers so many requests on a host.
pub fn shares(client: &mut RawClient, host: &str, requests: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let response = client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).response().unwrap();
        let name =
            response.head.lines().find_map(|line| line.strip_prefix("x-upstream: ").map(str::to_owned));
        *counts.entry(name.unwrap_or_else(|| response.status.to_string())).or_default() += 1;
    }
    counts
}
