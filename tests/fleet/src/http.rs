//! One request on a connection of its own, without any cleverness of a client's.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// What a request may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What came back.
#[derive(Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The fields of its head.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field of the echo server's answer: `pod`, `namespace`, `service`…; empty where somebody else answered.
    pub fn echo(&self, field: &str) -> String {
        let answer: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        answer.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// `GET` of a path of a host, from an address.
pub async fn get(address: SocketAddr, host: &str, path: &str) -> Result<Reply> {
    request(address, "GET", host, path, &[]).await
}

/// Any request without a body.
pub async fn request(
    address: SocketAddr,
    method: &str,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Reply> {
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let whole = async {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.context("no answer")?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("a torn answer")?.to_bytes();
        connection.abort();
        Ok(Reply { status: head.status, headers: head.headers, body })
    };
    tokio::time::timeout(PATIENCE, whole).await.context("no answer in time")?
}
