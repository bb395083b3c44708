//! Requests on a connection of their own, without any cleverness of a client's.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

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
    Connection::open(address).await?.request(method, host, path, headers).await
}

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    driver: JoinHandle<Result<(), hyper::Error>>,
}

impl Connection {
    /// To an address.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let opened = async {
            let stream = TcpStream::connect(address).await.context("cannot connect")?;
            stream.set_nodelay(true)?;
            let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            Ok(Self { sender, driver: tokio::spawn(driver) })
        };
        tokio::time::timeout(PATIENCE, opened).await.context("no connection in time")?
    }

    /// Any request without a body, after the one before.
    pub async fn request(
        &mut self,
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
        let answered = async {
            self.sender.ready().await.context("the connection is closed")?;
            let response = self.sender.send_request(request).await.context("no answer")?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.context("a torn answer")?.to_bytes();
            Ok(Reply { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, answered).await.context("no answer in time")?
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
