//! An upstream that reads requests strictly by their framing and remembers each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use portolan_e2e::{RawClient, RawUpstream};

/// See the module's documentation. It answers each whole request with 200 and `ok`.
pub(super) struct Recorder {
    upstream: RawUpstream,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let targets = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&targets);
        let upstream = RawUpstream::start(move |mut client, _| while serve(&mut client, &seen).is_some() {});
        Self { upstream, targets }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.upstream.address()
    }

    /// The targets of all requests so far whose head came.
    pub(super) fn targets(&self) -> Vec<String> {
        self.targets.lock().expect("no panic").clone()
    }
}

fn serve(client: &mut RawClient, seen: &Mutex<Vec<String>>) -> Option<()> {
    let _ = client.stream().set_read_timeout(Some(std::time::Duration::from_secs(120)));
    let head = client.head()?;
    seen.lock().expect("no panic").push(head.split(' ').nth(1).unwrap_or_default().to_owned());
    let lower = head.to_ascii_lowercase();
    if lower.contains("\r\ntransfer-encoding: chunked\r\n") {
        loop {
            let line = client.line()?;
            let size = usize::from_str_radix(&line, 16).ok()?;
            client.take(size)?;
            if size == 0 {
                while !client.line()?.is_empty() {}
                break;
            }
            client.line()?;
        }
    } else if let Some(length) = lower.split("\r\ncontent-length: ").nth(1) {
        client.take(length.lines().next()?.parse().ok()?)?;
    }
    let body = if lower.starts_with("head ") { "" } else { "ok" };
    client.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}"));
    Some(())
}
