//! What a cluster remembers of its past: the revisions of etcd, asked over its JSON gateway, which listens inside the first node alone.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ANSWER;
use crate::net::Namespace;

/// Where etcd listens.
const PORT: u16 = 2379;

/// Lets etcd forget all revisions but the last, at once; an API server does so every five minutes with those that are that old.
pub(super) fn forget(namespace: &Namespace) -> Result<()> {
    // Any key will do: the answer's head has the revision.
    let range = ask(namespace, "range", &json!({"key": "AA=="}))?;
    let revision = range["header"]["revision"].as_str().context("etcd says no revision")?;
    ask(namespace, "compaction", &json!({"revision": revision, "physical": true})).map(drop)
}

fn ask(namespace: &Namespace, what: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let said = namespace.run(|| {
        let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, PORT).into(), ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        write!(stream, "POST /v3/kv/{what} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        std::io::Result::Ok(said)
    })??;
    let (head, answer) = said.split_once("\r\n\r\n").context("etcd gives no answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "etcd refuses {what}: {said}");
    serde_json::from_str(answer).with_context(|| format!("etcd answers {answer}"))
}
