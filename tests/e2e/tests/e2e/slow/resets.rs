//! Upstreams that close or reset at every stage of an exchange, and what clients see of it.

use portolan_e2e::{Portolan, RawClient, RawUpstream, free_port};

use super::{HOST, fleet, fleet_http2, nobody_left, reset_on_close};
use crate::streams::{Http2, Http2Upstream, run_async, whole};

/// When the upstream leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    BeforeAccept,
    AfterAccept,
    AfterHead,
    InRequestBody,
    InStatusLine,
    InResponseHead,
    Garbage,
    InChunkSize,
    InChunk,
    BetweenChunks,
    InBody,
    BeforeBody,
    AfterInformational,
}

/// What the client gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// An answer of ours with that status, on a connection that goes on.
    Status(u16),
    /// The upstream's head, and less of a body than it promised.
    Cut,
}

const ROWS: &[(Stage, Seen)] = &[
    (Stage::BeforeAccept, Seen::Status(502)),
    (Stage::AfterAccept, Seen::Status(502)),
    (Stage::AfterHead, Seen::Status(502)),
    (Stage::InRequestBody, Seen::Status(502)),
    (Stage::InStatusLine, Seen::Status(502)),
    (Stage::InResponseHead, Seen::Status(502)),
    (Stage::Garbage, Seen::Status(502)),
    (Stage::AfterInformational, Seen::Status(502)),
    (Stage::BeforeBody, Seen::Cut),
    (Stage::InChunkSize, Seen::Cut),
    (Stage::InChunk, Seen::Cut),
    (Stage::BetweenChunks, Seen::Cut),
    (Stage::InBody, Seen::Cut),
];

fn leave(client: &mut RawClient, stage: Stage) -> Option<()> {
    if stage == Stage::AfterAccept {
        return None;
    }
    client.head()?;
    let said = match stage {
        Stage::BeforeAccept | Stage::AfterAccept | Stage::AfterHead => "",
        Stage::InRequestBody => {
            client.take(10)?;
            ""
        }
        Stage::InStatusLine => "HTTP/1.1 2",
        Stage::InResponseHead => "HTTP/1.1 200 OK\r\nContent-Le",
        Stage::Garbage => "SSH-2.0-OpenSSH_9.2p1\r\n\r\n",
        Stage::AfterInformational => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        Stage::BeforeBody => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        Stage::InChunkSize => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5",
        Stage::InChunk => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n50\r\nhel",
        Stage::BetweenChunks => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        Stage::InBody => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
    };
    client.send(said);
    // Time for what was sent to be read, where a reset would overtake it: until the client says more, which it does not.
    let _ = client.stream().set_read_timeout(Some(std::time::Duration::from_millis(150)));
    let _ = std::io::Read::read(&mut { client.stream() }, &mut [0; 65536]);
    None
}

fn upstream(stage: Stage, reset: bool) -> RawUpstream {
    RawUpstream::start(move |mut client, _| {
        let _ = leave(&mut client, stage);
        if reset {
            reset_on_close(client.stream());
        }
    })
}

/// How the client of HTTP/1.1 sees it, checked.
fn over_http1(portolan: &Portolan, stage: Stage, seen: Seen) {
    let mut client = portolan.raw();
    let body = stage == Stage::InRequestBody;
    let (method, fields) = if body { ("POST", "Content-Length: 10\r\n") } else { ("GET", "") };
    client.send(format!("{method} /http1 HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    if body {
        client.send("0123456789");
    }
    match seen {
        Seen::Status(status) => {
            let mut answer =
                client.response().unwrap_or_else(|| panic!("{stage:?}: closed without an answer"));
            if answer.status == 103 {
                answer = client.response().expect("an answer after the hint");
            }
            assert_eq!(answer.status, status, "{stage:?}: {answer:?}");
            assert!(
                answer.head.to_ascii_lowercase().contains("x-request-id: "),
                "{stage:?}: not ours: {answer:?}"
            );
        }
        Seen::Cut => {
            let head = client.head().unwrap_or_else(|| panic!("{stage:?}: no head"));
            assert!(head.starts_with("HTTP/1.1 200"), "{stage:?}: {head}");
            let rest = client.rest();
            assert!(
                !rest.ends_with(b"0\r\n\r\n") && rest.len() < 100,
                "{stage:?}: {:?}",
                String::from_utf8_lossy(&rest)
            );
        }
    }
}

async fn over_http2(client: &Http2, stage: Stage, seen: Seen) {
    let answer = client.fetch(&format!("http://{HOST}/http2")).await;
    match seen {
        Seen::Status(status) => {
            assert_eq!(answer.unwrap_or_else(|error| panic!("{stage:?}: {error:?}")).0, status, "{stage:?}")
        }
        Seen::Cut => match answer {
            Ok(answer) => panic!("{stage:?}: taken for whole: {answer:?}"),
            Err(error) => assert!(error.is_reset(), "{stage:?}: {error:?}"),
        },
    }
}

fn stages(reset: bool) {
    for (stage, seen) in ROWS.iter().copied() {
        let upstream = upstream(stage, reset);
        let address = if stage == Stage::BeforeAccept {
            ([127, 0, 0, 1], free_port()).into()
        } else {
            upstream.address()
        };
        let portolan = Portolan::start(&[("fleet.yaml", fleet(address, "{}"))]);
        over_http1(&portolan, stage, seen);
        let line = portolan.logged("a line", |line| line["path"] == "/http1");
        assert_eq!(line["flag"], "UF", "{stage:?}: {line}");
        assert_eq!(
            line["status"],
            if let Seen::Status(status) = seen { status } else { 200 },
            "{stage:?}: {line}"
        );
        if stage != Stage::InRequestBody {
            run_async(async {
                let client = Http2::plain(portolan.http()).await;
                over_http2(&client, stage, seen).await;
                assert_eq!(client.fetch("http://nobody.test/").await.expect("a sibling").0, 404, "{stage:?}");
            });
        }
        nobody_left(&portolan);
    }
}

#[test]
fn upstreams_that_close() {
    stages(false);
}

#[test]
fn upstreams_that_reset() {
    stages(true);
}

/// An upstream may answer before it has the whole body, and close: the client gets that answer.
#[test]
fn an_early_answer_counts() {
    for (method, status, answer, body) in [
        ("POST", 413, "413 Too Large\r\nContent-Length: 4\r\n", "lots"),
        ("POST", 401, "401 Unauthorized\r\nContent-Length: 0\r\n", ""),
        ("POST", 204, "204 No Content\r\n", ""),
        ("PUT", 304, "304 Not Modified\r\nContent-Length: 9\r\n", ""),
        ("HEAD", 200, "200 OK\r\nContent-Length: 9\r\n", ""),
        ("HEAD", 200, "200 OK\r\nTransfer-Encoding: chunked\r\n", ""),
    ] {
        let upstream = RawUpstream::start(move |mut client, _| {
            let Some(_) = client.head() else { return };
            client.send(format!("HTTP/1.1 {answer}Connection: close\r\n\r\n{body}"));
            let _ = client.rest();
        });
        let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{}"))]);
        let mut client = portolan.raw();
        client.send(format!(
            "{method} /early HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 10000000\r\n\r\nsome"
        ));
        let seen = client.response_to(method).expect("an answer");
        assert_eq!((seen.status, seen.body.as_slice()), (status, body.as_bytes()), "{method} {answer:?}");
        drop(client);
        nobody_left(&portolan);
        let line = portolan.logged("the answer", |line| line["path"] == "/early");
        assert_eq!(
            (line["status"].as_u64(), line["flag"].as_str()),
            (Some(status.into()), None),
            "{method} {answer:?}: it had all of it: {line}"
        );
    }
}

/// The same over HTTP/2, for calls of gRPC that end before their client has said all: in trailers, or in a head that stands for
/// them.
#[test]
fn an_early_end_of_a_call_counts() {
    let upstream = Http2Upstream::start(|request, mut respond, _| async move {
        let status = http::HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static("8"),
        )]);
        let mut head = http::Response::new(());
        if request.uri().path() == "/head" {
            *head.headers_mut() = status;
            respond.send_response(head, true)?;
        } else {
            respond.send_response(head, false)?.send_trailers(status)?;
        }
        std::future::pending().await
    });
    let portolan = Portolan::start(&[("fleet.yaml", fleet_http2(upstream.address(), "{}"))]);
    for path in ["/head", "/trailers"] {
        run_async(async {
            let client = Http2::plain(portolan.http()).await;
            let request = http::Request::post(format!("http://{HOST}{path}"))
                .header("content-type", "application/grpc")
                .body(())
                .expect("a request");
            let mut ready = client.send.clone().ready().await.expect("ready");
            let (response, mut body) = ready.send_request(request, false).expect("sent");
            let answer = whole(response.await.expect("an answer")).await.expect("all of it");
            assert_eq!(answer.0, 200, "{path}");
            body.send_reset(h2::Reason::CANCEL);
            // A sibling, so that the reset is sent before the connection ends.
            assert_eq!(client.fetch("http://nobody.test/").await.expect("an answer").0, 404);
        });
        let line = portolan.logged("its line", |line| line["path"] == path);
        assert_eq!((line["status"].as_u64(), line["flag"].as_str()), (Some(200), None), "{line}");
    }
}

/// Heads that endpoints should not send: made good, or refused as theirs.
#[test]
fn odd_heads_of_endpoints_do_not_reach_clients() {
    for (head, status, flag, said) in [
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nRAW",
            502,
            Some("UF"),
            None,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, None, Some("2")),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, None, None),
    ] {
        let upstream = RawUpstream::start(move |mut client, _| {
            while client.head().is_some() {
                client.send(head);
            }
        });
        let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{}"))]);
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let reply = portolan.get(HOST, "/odd").arg(version).send();
            assert_eq!((reply.exit, reply.status), (0, status), "{version} {head:?}: {reply:?}");
            if status < 500 {
                assert_eq!(
                    reply.all("content-length"),
                    said.into_iter().collect::<Vec<_>>(),
                    "{version}: {reply:?}"
                );
            }
        }
        let line = portolan.logged("a line", |line| line["path"] == "/odd");
        assert_eq!(line["flag"].as_str(), flag, "{line}");
    }
}

/// A body that ends where the connection does is whole where the upstream closes, and cut where it resets.
#[test]
fn a_body_up_to_the_end_of_the_connection() {
    for reset in [false, true] {
        let upstream = RawUpstream::start(move |mut client, _| {
            let Some(_) = client.head() else { return };
            client.send("HTTP/1.1 200 OK\r\n\r\nhello");
            if reset {
                let _ = client.stream().set_read_timeout(Some(std::time::Duration::from_millis(150)));
                let _ = std::io::Read::read(&mut { client.stream() }, &mut [0; 1]);
                reset_on_close(client.stream());
            }
        });
        let portolan = Portolan::start(&[("fleet.yaml", fleet(upstream.address(), "{}"))]);
        let reply = portolan.get(HOST, "/").send();
        assert_eq!(reply.text(), "hello");
        assert_eq!(reply.exit != 0, reset, "{reply:?}");
    }
}
