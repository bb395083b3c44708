//! Requests that no well-behaved client sends: refused with a reason, nothing of them upstream, the connection closed where it is
//! not sure where the message ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use portolan_e2e::{Authority, Key, Portolan, RawUpstream, Setup, app, cluster, secret};
use rustls::ClientConfig;

use crate::streams::{Wire, tls_config};

#[path = "malformed/heads.rs"]
mod heads;
#[path = "malformed/http2.rs"]
mod http2;
#[path = "malformed/recorder.rs"]
mod recorder;

use recorder::Recorder;

const HOST: &str = "shop.paris.lb.test";

/// A Portolan before a recorder, in plaintext and over TLS.
struct Stage {
    portolan: Portolan,
    recorder: Recorder,
    tls: Arc<ClientConfig>,
}

impl Stage {
    fn new(setup: Setup) -> Self {
        let recorder = Recorder::start();
        let authority = Authority::new("malformed");
        let pair = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
        let fleet = cluster("paris", "certificateRef: {name: generated}")
            + &secret("tenant-paris", "generated", &pair.chain, &pair.key)
            + &app("paris", "shop", &[recorder.address()]);
        let portolan = setup.manifest("fleet.yaml", fleet).start();
        Self { portolan, recorder, tls: tls_config(&authority, &[b"http/1.1"]) }
    }

    fn wire(&self, tls: bool) -> Wire {
        if tls {
            Wire::tls(self.portolan.https(), &self.tls, HOST)
        } else {
            Wire::plain(self.portolan.http())
        }
    }
}

/// The statuses of the responses in `bytes`, all of which have a length; and what is left over.
fn statuses(mut bytes: &[u8]) -> (Vec<u16>, usize) {
    let mut statuses = Vec::new();
    while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head
            .split("\r\ncontent-length:")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.trim().parse::<usize>().ok());
        let whole = end + 4 + length.unwrap_or(0);
        if bytes.len() < whole {
            break;
        }
        statuses.push(head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default());
        bytes = &bytes[whole..];
    }
    (statuses, bytes.len())
}

/// Runs every row of a table, a few at once, in plaintext and over TLS. Failures of all rows are told together.
fn each<T: Sync>(rows: &[T], check: impl Fn(usize, &T, bool) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = parking(|failures| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::SeqCst);
                        let Some(row) = rows.get(at / 2) else { return };
                        let tls = at % 2 == 1;
                        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                            check(at / 2, row, tls)
                        }));
                        let checked = checked.unwrap_or_else(|_| Err("panicked, see above".into()));
                        if let Err(failure) = checked {
                            failures.lock().expect("no panic").push(format!(
                                "row {} {}: {failure}",
                                at / 2,
                                if tls { "tls" } else { "tcp" }
                            ));
                        }
                    }
                });
            }
        });
    });
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn parking(run: impl FnOnce(&std::sync::Mutex<Vec<String>>)) -> Vec<String> {
    let failures = std::sync::Mutex::new(Vec::new());
    run(&failures);
    failures.into_inner().expect("no panic")
}

/// An upstream that takes its time to switch protocols must not hear what the client says before (CVE-2026-2833).
#[test]
fn bytes_after_an_upgrade_wait_for_the_101() {
    let (heard, hears) = std::sync::mpsc::channel::<Vec<u8>>();
    let (go, gone) = std::sync::mpsc::channel::<bool>();
    let gone = std::sync::Mutex::new(gone);
    let upstream = RawUpstream::start(move |mut client, _| {
        use std::io::Read as _;
        let Some(_) = client.head() else { return };
        // Whatever follows the head before the answer is a leak.
        client.stream().set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a timeout");
        let mut early = [0; 64];
        let read = { client.stream() }.read(&mut early).unwrap_or(0);
        let _ = heard.send(early[..read].to_vec());
        let switch = gone.lock().expect("no panic").recv().unwrap_or(false);
        client.stream().set_read_timeout(Some(crate::streams::PATIENCE)).expect("a timeout");
        if switch {
            client.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            if let Some(bytes) = client.take(8) {
                client.send(&bytes);
                let _ = heard.send(bytes);
            }
        } else {
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
            // What was held back is a request of its own, and nothing else.
            let _ = heard.send(client.head().unwrap_or_default().into_bytes());
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntwo");
            let _ = client.rest();
        }
    });
    let fleet = cluster("paris", "") + &app("paris", "shop", &[upstream.address()]);
    let portolan = Portolan::start(&[("fleet.yaml", fleet)]);
    let ask = |after: &str| {
        let mut client = portolan.raw();
        client.send(format!(
            "GET /up HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n{after}"
        ));
        client
    };

    let mut client = ask("eightbyt");
    assert_eq!(hears.recv().expect("heard"), b"", "leaked before the 101");
    go.send(true).expect("it waits");
    assert!(client.head().expect("a head").starts_with("HTTP/1.1 101"));
    assert_eq!(client.take(8).as_deref(), Some(&b"eightbyt"[..]));
    assert_eq!(hears.recv().expect("heard"), b"eightbyt");
    drop(client);

    let mut client = ask(&format!("GET /second HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    assert_eq!(hears.recv().expect("heard"), b"", "leaked before the answer");
    go.send(false).expect("it waits");
    assert_eq!(client.response().expect("an answer").body, b"no");
    if let Some(second) = client.response() {
        assert_eq!(second.body, b"two");
    }
    let line = portolan.logged("the first is logged", |line| line["path"] == "/up" && line["status"] == 200);
    assert_eq!(line["bytes_sent"], 2);
}
