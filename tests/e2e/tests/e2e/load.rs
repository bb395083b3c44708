//! Clients that keep asking while a test does something else, and count what does not come as it should.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections that ask for one URL again and again, keeping alive.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    failures: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts so many connections. An answer is right where `right` says so; a connection that was closed in good order (an
    /// announced close, or an end between two requests) is opened again.
    pub(crate) fn start(
        connections: usize,
        address: SocketAddr,
        host: &str,
        path: &str,
        right: impl Fn(u16, &str) -> bool + Send + Sync + 'static,
    ) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let failures = Arc::new(Mutex::new(Vec::new()));
        let right = Arc::new(right);
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let threads = (0..connections)
            .map(|_| {
                let (stop, done, failures) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failures));
                let (right, request) = (Arc::clone(&right), request.clone());
                std::thread::spawn(move || {
                    let mut stream = None;
                    while !stop.load(Ordering::SeqCst) {
                        match ask(&mut stream, address, &request) {
                            Ok((status, text)) if right(status, &text) => {}
                            Ok((status, text)) => {
                                failures.lock().expect("no panic").push(format!("{status}: {text}"))
                            }
                            Err(error) => failures.lock().expect("no panic").push(error),
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        Self { stop, done, failures, threads }
    }

    /// How many requests are over.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits for so many requests more.
    pub(crate) fn wait_for(&self, more: usize) {
        let wanted = self.done() + more;
        let came = portolan_e2e::within(Duration::from_secs(60), || (self.done() >= wanted).then_some(()));
        assert!(came.is_some(), "only {} of {wanted} requests in a minute", self.done());
    }

    /// Ends it: how many requests there were, and what went wrong.
    pub(crate) fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().expect("no panic");
        }
        (self.done.load(Ordering::SeqCst), self.failures.lock().expect("no panic").clone())
    }
}

/// One request on a connection that is opened where there is none: status and all text of the answer.
fn ask(stream: &mut Option<TcpStream>, address: SocketAddr, request: &str) -> Result<(u16, String), String> {
    for _ in 0..3 {
        let fresh = stream.is_none();
        let connection = match stream {
            Some(connection) => connection,
            None => {
                let connection = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
                let _ = connection.set_nodelay(true);
                let _ = connection.set_read_timeout(Some(Duration::from_secs(15)));
                stream.insert(connection)
            }
        };
        let answer = connection
            .write_all(request.as_bytes())
            .map_err(|error| error.to_string())
            .and_then(|()| read(connection));
        match answer {
            Ok(Some((status, text))) => {
                if text.to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
                    *stream = None;
                }
                return Ok((status, text));
            }
            // The end came before our request did.
            Ok(None) if !fresh => *stream = None,
            Ok(None) => return Err("a fresh connection was closed without an answer".into()),
            Err(error) => {
                *stream = None;
                return Err(error);
            }
        }
    }
    Err("closed again and again".into())
}

/// An answer with its length; `None` where the connection ends before its first byte.
fn read(stream: &mut TcpStream) -> Result<Option<(u16, String)>, String> {
    let mut text = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let n = stream.read(&mut buffer).map_err(|error| format!("after {} bytes: {error}", text.len()))?;
        if n == 0 {
            return if text.is_empty() {
                Ok(None)
            } else {
                Err(format!("cut after {:?}", String::from_utf8_lossy(&text)))
            };
        }
        text.extend_from_slice(&buffer[..n]);
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end + 2]).to_ascii_lowercase();
        let length = head
            .split("\r\ncontent-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
        let Some(length) = length else { return Err(format!("no length: {head}")) };
        if text.len() >= end + 4 + length {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
            return Ok(Some((status, String::from_utf8_lossy(&text).into_owned())));
        }
    }
}
