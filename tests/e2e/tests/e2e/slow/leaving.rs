//! Clients that go away at every stage: nothing of theirs is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portolan_e2e::{Portolan, RawClient, RawUpstream, Setup, eventually};

use super::{HOST, fleet, nobody_left, reset_on_close};
use crate::streams::{Http2, run_async};

/// An upstream that answers `/fast`, never answers `/slow`, and answers `/half` by half; and how many of its connections are in the
/// middle of something.
fn upstream() -> (RawUpstream, Arc<AtomicUsize>) {
    let busy = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&busy);
    let upstream = RawUpstream::start(move |mut client, _| {
        let _ = client.stream().set_read_timeout(Some(std::time::Duration::from_secs(60)));
        while let Some(head) = client.head() {
            count.fetch_add(1, Ordering::SeqCst);
            if head.contains(" /fast ") {
                client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            } else {
                if head.contains(" /half ") {
                    client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello");
                }
                let _ = client.rest();
            }
            count.fetch_sub(1, Ordering::SeqCst);
        }
    });
    (upstream, busy)
}

/// What the client has said when it goes.
const STAGES: &[&str] = &[
    "",
    "G",
    "GET /fast HTTP/1.1\r\nHost: sh",
    "GET /slow HTTP/1.1\r\nHost: $HOST\r\n\r\n",
    "GET /half HTTP/1.1\r\nHost: $HOST\r\n\r\n",
    "POST /slow HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 100\r\n\r\n",
    "POST /slow HTTP/1.1\r\nHost: $HOST\r\nContent-Length: 100\r\n\r\nsome",
    "POST /slow HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "POST /slow HTTP/1.1\r\nHost: $HOST\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "GET /fast HTTP/1.1\r\nHost: $HOST\r\n\r\n",
    "GET /fast HTTP/1.1\r\nHost: $HOST\r\n\r\nGET /slow HTTP/1.1\r\nHost: $HOST\r\n\r\n",
];

fn everyone_gone(portolan: &Portolan, busy: &AtomicUsize, stage: &str) {
    nobody_left(portolan);
    eventually(&format!("{stage:?} is over upstream too"), || {
        (busy.load(Ordering::SeqCst) == 0).then_some(())
    });
}

#[test]
fn clients_that_reset_leave_nothing_behind() {
    let (upstream, busy) = upstream();
    let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{}"))]);
    for stage in STAGES {
        let clients: Vec<RawClient> = (0..20)
            .map(|_| {
                let mut client = portolan.raw();
                client.send(stage.replace("$HOST", HOST));
                client
            })
            .collect();
        if stage.contains("/slow") || stage.contains("/half") {
            eventually("they are under way", || (busy.load(Ordering::SeqCst) >= clients.len()).then_some(()));
        }
        clients.iter().for_each(|client| reset_on_close(client.stream()));
        drop(clients);
        everyone_gone(&portolan, &busy, stage);
    }
    let gone = portolan.logged("a client that went away", |line| line["path"] == "/slow");
    assert_eq!(gone["flag"], "CG", "{gone}");
    assert_eq!(gone["status"], 499, "{gone}");
}

#[test]
fn clients_that_close_leave_nothing_behind() {
    let (upstream, busy) = upstream();
    let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{}"))]);
    for stage in STAGES {
        let mut client = portolan.raw();
        client.send(stage.replace("$HOST", HOST));
        if stage.contains("/slow") || stage.contains("/half") {
            eventually("it is under way", || (busy.load(Ordering::SeqCst) > 0).then_some(()));
        }
        drop(client);
        everyone_gone(&portolan, &busy, stage);
    }
}

/// 100 is no answer yet.
#[test]
fn a_client_that_goes_after_100_is_logged_as_gone() {
    let (upstream, busy) = upstream();
    let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{}"))]);
    let mut client = portolan.raw();
    client.send(format!(
        "PUT /slow HTTP/1.1\r\nHost: {HOST}\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n"
    ));
    assert_eq!(client.response().expect("an answer").status, 100);
    drop(client);
    everyone_gone(&portolan, &busy, "after 100");
    let line = portolan.logged("the client that went away", |line| line["path"] == "/slow");
    assert_eq!((&line["status"], &line["flag"]), (&499.into(), &"CG".into()), "{line}");
}

#[test]
fn streams_and_connections_of_http2_that_go_leave_nothing_behind() {
    let (upstream, busy) = upstream();
    let portolan = Setup::new().manifest("fleet.yaml", fleet(upstream.address(), "{}")).start();
    for (path, reset) in [("/slow", true), ("/half", true), ("/slow", false), ("/half", false)] {
        run_async(async {
            let client = Http2::plain(portolan.http()).await;
            let mut streams = Vec::new();
            for _ in 0..20 {
                let request =
                    http::Request::post(format!("http://{HOST}{path}")).body(()).expect("a request");
                let mut ready = client.send.clone().ready().await.expect("ready");
                streams.push(ready.send_request(request, false).expect("sent"));
            }
            while busy.load(Ordering::SeqCst) < 20 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            if reset {
                for (_, body) in &mut streams {
                    body.send_reset(h2::Reason::CANCEL);
                }
                while busy.load(Ordering::SeqCst) > 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                // Their connection is as good as before.
                assert_eq!(client.fetch(&format!("http://{HOST}/fast")).await.expect("an answer").0, 200);
            }
            client.task.abort();
        });
        everyone_gone(&portolan, &busy, path);
    }
}
