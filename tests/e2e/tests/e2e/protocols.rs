//! Protocols through the proxy: HTTP/1.0 to gRPC, upgrades, streams, listeners' addresses, the PROXY protocol.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use portolan_e2e::{
    Authority, Echo, Key, Nginx, Portolan, Python, RawClient, RawUpstream, Setup, app, cluster, free_port,
    have, pool, route, run, secret,
};
use tokio_tungstenite::tungstenite::Message;

use crate::streams::{Http2, run_async, whole};

const WEB: &str = "web.paris.lb.test";

fn serve(upstream: SocketAddr) -> Portolan {
    Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "web", &[upstream]))])
}

fn serve_http2(upstream: SocketAddr) -> Portolan {
    let text = cluster("paris", "")
        + &route("paris", "web", "rules:\n- backends: [{pool: web}]\n")
        + &pool("paris", "web", &[upstream], "protocol: HTTP2\n");
    Portolan::start(&[("fleet.yaml", text)])
}

#[test]
fn every_version_to_every_version() {
    let echo = Echo::start("web");
    for (portolan, upstream) in
        [(serve(echo.address()), "HTTP/1.1"), (serve_http2(echo.address()), "HTTP/2.0")]
    {
        for (version, answered) in
            [("--http1.0", "HTTP/1.1"), ("--http1.1", "HTTP/1.1"), ("--http2-prior-knowledge", "HTTP/2")]
        {
            for (method, body) in [
                ("GET", ""),
                ("HEAD", ""),
                ("POST", "some body"),
                ("PUT", ""),
                ("OPTIONS", ""),
                ("PATCH", "x"),
                ("DELETE", ""),
            ] {
                let mut curl = portolan.get(WEB, "/p?q=1").arg(version).method(method);
                if !body.is_empty() {
                    curl = curl.body(body);
                }
                let reply = curl.send();
                let what = format!("{version} {method} to {upstream}: {reply:?}");
                assert_eq!((reply.exit, reply.status), (0, 200), "{what}");
                assert_eq!(reply.version, answered, "{what}");
                if method != "HEAD" {
                    let json = reply.json();
                    assert_eq!(
                        (json["method"].as_str(), json["version"].as_str()),
                        (Some(method), Some(upstream)),
                        "{what}"
                    );
                    assert_eq!(json["body"], body, "{what}");
                }
            }
        }
    }
}

#[test]
fn http_1_0_keeps_a_connection_only_if_asked() {
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    let mut client = portolan.raw();
    let response = client.send(format!("GET / HTTP/1.0\r\nHost: {WEB}\r\n\r\n")).response().unwrap();
    assert_eq!(response.status, 200);
    assert!(client.closed_within(Duration::from_secs(5)));
    let mut client = portolan.raw();
    for _ in 0..2 {
        let request = format!("GET / HTTP/1.0\r\nHost: {WEB}\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.send(request).response().unwrap().status, 200);
    }
}

/// HTTP/1.0 knows neither chunks nor informational responses: its bodies end with the connection (RFC 9112 §6.1, RFC 9110 §15.2).
#[test]
fn http_1_0_gets_a_plain_body() {
    let upstream = RawUpstream::start(|mut client, _| {
        while client.head().is_some() {
            client.send("HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n");
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            client.send("6\r\n world\r\n0\r\n\r\n");
        }
    });
    let portolan = serve(upstream.address());
    for more in ["", "Connection: keep-alive\r\n"] {
        let mut client = portolan.raw();
        let head = client.send(format!("GET / HTTP/1.0\r\nHost: {WEB}\r\n{more}\r\n")).head().unwrap();
        assert_eq!(head.split(' ').nth(1), Some("200"), "{more:?}: {head}");
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{more:?}: {head}");
        assert_eq!(String::from_utf8_lossy(&client.rest()), "hello world", "{more:?}");
    }
}

#[test]
fn heads_and_options() {
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    let mut client = portolan.raw();
    let head = client.send(format!("HEAD / HTTP/1.1\r\nHost: {WEB}\r\n\r\n")).response_to("HEAD").unwrap();
    assert!(head.head.to_ascii_lowercase().contains("content-length: "), "{head:?}");
    // Nothing of a body came: the next response begins at once.
    let star = client.send(format!("OPTIONS * HTTP/1.1\r\nHost: {WEB}\r\n\r\n")).response().unwrap();
    assert_eq!(star.status, 200, "{star:?}");
    let json: serde_json::Value = serde_json::from_slice(&star.body).unwrap();
    assert_eq!((json["method"].as_str(), json["target"].as_str()), (Some("OPTIONS"), Some("*")), "{json}");
}

#[test]
fn expect_100_continue() {
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    let mut client = portolan.raw();
    client
        .send(format!("POST / HTTP/1.1\r\nHost: {WEB}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    assert_eq!(client.response().unwrap().status, 100, "before a byte of the body");
    let response = client.send("hello").response().unwrap();
    assert_eq!(response.status, 200);
    let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(json["body"], "hello");
    // The connection is as good as before.
    let next = client.send(format!("GET / HTTP/1.1\r\nHost: {WEB}\r\n\r\n")).response();
    assert_eq!(next.map(|next| next.status), Some(200));
    let reply = portolan.get(WEB, "/").header("Expect", "100-continue").body(vec![b'x'; 2 << 20]).send();
    assert_eq!(
        (reply.statuses.as_slice(), reply.json()["length"].as_u64()),
        (&[100, 200][..], Some(2 << 20))
    );
    // Whoever is refused need not send its body.
    let mut client = portolan.raw();
    client.send("POST / HTTP/1.1\r\nHost: nobody.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 404);
}

#[test]
fn chunked_both_ways() {
    let upstream = RawUpstream::start(|mut client, _| {
        let Some(head) = client.head() else { return };
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let mut body = String::new();
        while let Some(line) = client.line() {
            let size = usize::from_str_radix(&line, 16).unwrap();
            body += &String::from_utf8(client.take(size).unwrap()).unwrap();
            client.line();
            if size == 0 {
                break;
            }
        }
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for byte in body.bytes() {
            client.send(format!("1;x=y\r\n{}\r\n", byte as char));
        }
        client.send("0\r\n\r\n");
    });
    let portolan = serve(upstream.address());
    let mut client = portolan.raw();
    client.send(format!("POST / HTTP/1.1\r\nHost: {WEB}\r\nTransfer-Encoding: chunked\r\n\r\n"));
    let response = client.send("3\r\nabc\r\n").send("2;ext=1\r\nde\r\n0\r\n\r\n").response().unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"abcde"[..]), "{response:?}");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    let mut client = portolan.raw();
    let requests: String = (0..20)
        .map(|n| {
            let delay = if n % 5 == 0 { "?delay_ms=50" } else { "" };
            format!("POST /{n}{delay} HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 2\r\n\r\n{n:02}")
        })
        .collect();
    client.send(requests);
    for n in 0..20 {
        let response = client.response().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(json["body"], format!("{n:02}"), "{json}");
    }
}

#[test]
fn an_early_response_is_seen_though_the_body_is_not_read() {
    let nginx = Nginx::start(
        "listen 127.0.0.1:$PORT;\nlocation / { client_max_body_size 1k; return 200; }\nlocation /moved { client_max_body_size 0; return 302 /elsewhere; }\n",
    );
    let portolan = serve(nginx.address());
    for (path, status) in [("/", 413), ("/moved", 302)] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let reply = portolan
                .get(WEB, path)
                .arg(version)
                .args(&["-H", "Expect:"])
                .body(vec![b'x'; 8 << 20])
                .send();
            assert_eq!(reply.status, status, "{path} {version}: {reply:?}");
        }
    }
}

#[test]
fn server_sent_events_arrive_as_they_are_sent() {
    let upstream = RawUpstream::start(|mut client, _| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for n in 0..3 {
            client.send(format!("data: {n}\n\n"));
            // The next one waits for the client's word, which it gives once it has seen this one.
            client.take(1);
        }
    });
    let portolan = serve(upstream.address());
    let mut client = portolan.raw();
    // A request whose body is the client's word.
    client.send(format!("POST / HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 3\r\n\r\n"));
    let head = client.head().unwrap();
    assert!(head.contains("text/event-stream"), "{head}");
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    for n in 0..3 {
        if chunked {
            assert_eq!(client.line().as_deref(), Some("9"));
        }
        assert_eq!(client.take(9).unwrap(), format!("data: {n}\n\n").as_bytes());
        if chunked {
            client.line();
        }
        client.send("x");
    }
}

/// An endpoint may answer before it has the request, and a client may wait for that before it goes on.
#[test]
fn a_head_waits_for_no_body() {
    let upstream = RawUpstream::start(|mut client, _| {
        let Some(_) = client.head() else { return };
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        let Some(body) = client.take(4) else { return };
        client.send(body);
        let _ = client.rest();
    });
    let portolan = serve(upstream.address());
    let mut client = portolan.raw();
    client.send(format!("POST / HTTP/1.1\r\nHost: {WEB}\r\nContent-Length: 4\r\n\r\n"));
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(client.send("body").take(4).as_deref(), Some(&b"body"[..]));
}

#[test]
fn large_bodies_stream_in_constant_memory() {
    const SIZE: u64 = 256 << 20;
    let program = r#"
import sys, http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", str(256 << 20)); self.end_headers()
        piece = b"x" * (1 << 20)
        for _ in range(256): self.wfile.write(piece)
    def do_POST(self):
        left = total = int(self.headers["Content-Length"])
        while left:
            got = len(self.rfile.read(min(left, 1 << 20)))
            if not got: break
            left -= got
        body = str(total - left).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;
    let python = Python::start(program);
    let portolan = serve(python.address());
    let file = portolan.folder().join("large");
    std::fs::File::create(&file).unwrap().set_len(SIZE).unwrap();
    assert_eq!(
        portolan.get(WEB, "/").arg("--range").arg("0-0").arg("-o").arg("/dev/null").send().status,
        200
    );
    let before = portolan.rss_kib();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let reply = portolan
            .get(WEB, "/")
            .arg(version)
            .args(&["--max-time", "60", "-o", "/dev/null", "-w", "%{size_download}"])
            .send();
        assert_eq!((reply.status, reply.text()), (200, SIZE.to_string()), "{version}");
        let upload = format!("@{}", file.display());
        let reply = portolan
            .get(WEB, "/")
            .arg(version)
            .args(&["--max-time", "60", "-X", "POST", "-T"])
            .arg(&upload[1..])
            .send();
        assert_eq!((reply.status, reply.text()), (200, SIZE.to_string()), "{version}: {}", reply.stderr);
        let grown = portolan.rss_kib().saturating_sub(before);
        assert!(grown < 32 << 10, "{version}: {grown} KiB more");
    }
}

#[test]
fn h2load_gets_its_answers() {
    assert!(have("h2load"), "h2load is missing: apt-get install nghttp2-client");
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    for args in [&["--h1", "-c4"][..], &["-c2", "-m10"]] {
        let url = format!("http://127.0.0.1:{}/", portolan.http_port());
        let mut command = Command::new("h2load");
        command.args(["-n500", "-t1", "-H", &format!(":authority: {WEB}")]).args(args).arg(url);
        let output = run(&mut command, b"");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            said.contains("500 succeeded, 0 failed, 0 errored") && said.contains("status codes: 500 2xx"),
            "{said}"
        );
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn web_sockets() {
    let runtime = runtime();
    let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let upstream = listener.local_addr().unwrap();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let portolan = serve(upstream);
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(portolan.http()).await.unwrap();
        let (mut socket, response) =
            tokio_tungstenite::client_async(format!("ws://{WEB}/chat"), stream).await.unwrap();
        assert_eq!(response.status(), 101);
        for message in [Message::text("hello"), Message::binary(vec![7; 100_000])] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(socket.next().await.unwrap().unwrap(), message);
        }
        socket.send(Message::Ping(vec![1].into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(vec![1].into()));
        socket.close(None).await.unwrap();
    });
    let line = portolan.logged("the connection's line", |line| line["path"] == "/chat");
    assert_eq!(line["status"], 101);
    assert_eq!(line["flag"], serde_json::Value::Null, "{line}");
}

mod grpc {
    //! An independent gRPC client and server, tonic's, over messages that are bytes as they stand.

    use super::*;
    use bytes::{Buf, BufMut, Bytes};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
    use tonic::codegen::{BoxFuture, http};
    use tonic::{Request, Response, Status, Streaming};

    #[derive(Clone, Default)]
    struct Plain;

    impl Codec for Plain {
        type Encode = Bytes;
        type Decode = Bytes;
        type Encoder = Self;
        type Decoder = Self;

        fn encoder(&mut self) -> Self {
            Self
        }

        fn decoder(&mut self) -> Self {
            Self
        }
    }

    impl Encoder for Plain {
        type Item = Bytes;
        type Error = Status;

        fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
            buffer.put(item);
            Ok(())
        }
    }

    impl Decoder for Plain {
        type Item = Bytes;
        type Error = Status;

        fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
            Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
        }
    }

    /// `/echo.Echo/Unary` and `/echo.Echo/Stream` echo; anything else fails with a status of its own.
    struct Unary;

    impl tonic::server::UnaryService<Bytes> for Unary {
        type Response = Bytes;
        type Future = BoxFuture<Response<Bytes>, Status>;

        fn call(&mut self, request: Request<Bytes>) -> Self::Future {
            Box::pin(async move { Ok(Response::new(request.into_inner())) })
        }
    }

    struct Fail;

    impl tonic::server::UnaryService<Bytes> for Fail {
        type Response = Bytes;
        type Future = BoxFuture<Response<Bytes>, Status>;

        fn call(&mut self, _: Request<Bytes>) -> Self::Future {
            Box::pin(async { Err(Status::resource_exhausted("no more of it")) })
        }
    }

    struct Stream;

    impl tonic::server::StreamingService<Bytes> for Stream {
        type Response = Bytes;
        type ResponseStream = Streaming<Bytes>;
        type Future = BoxFuture<Response<Streaming<Bytes>>, Status>;

        fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
            Box::pin(async move { Ok(Response::new(request.into_inner())) })
        }
    }

    async fn answer(
        request: http::Request<hyper::body::Incoming>,
    ) -> Result<http::Response<tonic::body::Body>, std::convert::Infallible> {
        let request = request.map(tonic::body::Body::new);
        let mut server = tonic::server::Grpc::new(Plain);
        Ok(match request.uri().path() {
            "/echo.Echo/Unary" => server.unary(Unary, request).await,
            "/echo.Echo/Stream" => server.streaming(Stream, request).await,
            _ => server.unary(Fail, request).await,
        })
    }

    async fn accept(listener: tokio::net::TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)));
        }
    }

    #[test]
    fn calls_streams_trailers_and_statuses() {
        let runtime = runtime();
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let upstream = listener.local_addr().unwrap();
        runtime.spawn(accept(listener));
        let portolan = serve_http2(upstream);
        runtime.block_on(async {
            let address = format!("http://127.0.0.1:{}", portolan.http_port());
            let origin: http::Uri = format!("http://{WEB}").parse().unwrap();
            let channel = tonic::transport::Endpoint::from_shared(address)
                .unwrap()
                .origin(origin)
                .connect()
                .await
                .unwrap();
            let mut client = tonic::client::Grpc::new(channel);
            let path = |name: &str| http::uri::PathAndQuery::try_from(format!("/echo.Echo/{name}")).unwrap();

            client.ready().await.unwrap();
            let sent = Bytes::from(vec![9; 200_000]);
            let got: Response<Bytes> =
                client.unary(Request::new(sent.clone()), path("Unary"), Plain).await.unwrap();
            assert_eq!(got.into_inner(), sent);

            client.ready().await.unwrap();
            let failed: Result<Response<Bytes>, Status> =
                client.unary(Request::new(sent), path("Fail"), Plain).await;
            let status = failed.unwrap_err();
            assert_eq!((status.code(), status.message()), (tonic::Code::ResourceExhausted, "no more of it"));

            // Each message waits for the one before to have come back: nothing is held up on the way.
            client.ready().await.unwrap();
            let (send, receive) = tokio::sync::mpsc::channel(1);
            let messages = tokio_stream::wrappers::ReceiverStream::new(receive);
            send.send(Bytes::from("first")).await.unwrap();
            let answer = client.streaming(Request::new(messages), path("Stream"), Plain).await.unwrap();
            let mut answers: Streaming<Bytes> = answer.into_inner();
            assert_eq!(answers.message().await.unwrap().unwrap(), "first");
            for n in 0..20 {
                send.send(Bytes::from(format!("{n}"))).await.unwrap();
                assert_eq!(answers.message().await.unwrap().unwrap(), format!("{n}"));
            }
            drop(send);
            assert_eq!(answers.message().await.unwrap(), None, "the trailers say that it ended well");
        });
    }
}

/// HTTP/2 may split a cookie; HTTP/1 may not (RFC 9113 §8.2.3).
#[test]
fn crumbs_of_a_cookie_are_joined() {
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    let (status, body) = run_async(async {
        let client = Http2::plain(portolan.http()).await;
        let request = http::Request::get(format!("http://{WEB}/")).header("cookie", "a=1");
        let request = request.header("x-between", "1").header("cookie", "b=2").body(()).unwrap();
        let (response, _) = client.send.clone().ready().await.unwrap().send_request(request, true).unwrap();
        whole(response.await.unwrap()).await.unwrap()
    });
    assert_eq!(status, 200);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let headers = json["headers"].as_array().unwrap();
    let cookies: Vec<_> = headers.iter().filter(|pair| pair[0] == "cookie").map(|pair| &pair[1]).collect();
    assert_eq!(cookies, ["a=1; b=2"], "{json}");
}

#[test]
fn trailers_over_http2() {
    let echo = Echo::start("web");
    let portolan = serve_http2(echo.address());
    runtime().block_on(async {
        let stream = tokio::net::TcpStream::connect(portolan.http()).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("http://{WEB}/?trailer=1")).body(()).unwrap();
        let (response, _) = client.ready().await.unwrap().send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        while let Some(piece) = body.data().await {
            body.flow_control().release_capacity(piece.unwrap().len()).unwrap();
        }
        let trailers = body.trailers().await.unwrap().expect("trailers");
        assert_eq!(trailers["x-trailer"], "at the end");
    });
}

#[test]
fn upstreams_that_reset_at_every_stage() {
    // What the upstream sends before it resets; the status that the client sees, or `None` where its answer breaks off.
    for (sent, status) in [
        ("", Some(502)),
        ("HTT", Some(502)),
        ("HTTP/1.1 200 OK\r\nContent-Le", Some(502)),
        ("this is not HTTP\r\n\r\n", Some(502)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", None),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123", None),
    ] {
        let upstream = RawUpstream::start(move |mut client, _| {
            if client.head().is_some() {
                client.send(sent);
            }
        });
        let portolan = serve(upstream.address());
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let reply = portolan.get(WEB, "/").arg(version).send();
            match status {
                Some(status) => {
                    assert_eq!((reply.exit, reply.status), (0, status), "{sent:?} {version}: {reply:?}")
                }
                None => assert_ne!(
                    reply.exit, 0,
                    "{sent:?} {version}: a body that breaks off is no whole body: {reply:?}"
                ),
            }
        }
        let line = portolan.logged("the line", |_| true);
        assert_eq!(line["flag"], "UF", "{sent:?}: {line}");
    }
}

#[test]
fn listeners_of_each_address_family() {
    if TcpStream::connect_timeout(&(Ipv6Addr::LOCALHOST, 1).into(), Duration::from_secs(1))
        .is_err_and(|error| error.kind() != std::io::ErrorKind::ConnectionRefused)
    {
        eprintln!("no IPv6 on this machine");
        return;
    }
    let echo = Echo::start("web");
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let mut setup =
        Setup::new().manifest("fleet.yaml", cluster("paris", "") + &app("paris", "web", &[echo.address()]));
    for (name, (address, port)) in ["v4", "v6", "both", "loop6"]
        .into_iter()
        .zip(["0.0.0.0", "'::'", "'*'", "'::1'"].into_iter().zip(ports))
    {
        setup = setup.listener(&format!("name: {name}\naddress: {address}\nport: {port}\nprotocol: HTTP\n"));
    }
    let _portolan = setup.start();
    for (port, by_v4, by_v6) in
        [(ports[0], true, false), (ports[1], false, true), (ports[2], true, true), (ports[3], false, true)]
    {
        for (url, expected) in
            [(format!("http://127.0.0.1:{port}/"), by_v4), (format!("http://[::1]:{port}/"), by_v6)]
        {
            let reply = portolan_e2e::Curl::new(&url).host(WEB).send();
            assert_eq!(reply.status == 200, expected, "{url}: {reply:?}");
            if reply.status == 200 {
                let client = if url.contains('[') { "::1" } else { "127.0.0.1" };
                assert_eq!(reply.echoed("x-forwarded-for").as_deref(), Some(client));
            }
        }
    }
}

fn proxy_v2(source: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(source.parse::<Ipv4Addr>().unwrap().octets());
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x00, 0x50]);
    header
}

#[test]
fn the_proxy_protocol() {
    let echo = Echo::start("web");
    let authority = Authority::new("CA");
    let pair = authority.issue(&["*.paris.lb.test"], Key::Ecdsa);
    let text = cluster("paris", "certificateRef: {name: generated}\n")
        + &secret("tenant-paris", "generated", &pair.chain, &pair.key)
        + &app("paris", "web", &[echo.address()]);
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let mut setup = Setup::new().manifest("fleet.yaml", text);
    let settings = [
        ("trusting", "HTTP", "trustedCIDRs: [127.0.0.0/8]"),
        ("required", "HTTP", "trustedCIDRs: [127.0.0.0/8], required: true"),
        ("untrusting", "HTTP", "trustedCIDRs: [10.0.0.0/8]"),
        ("tls", "HTTPS", "trustedCIDRs: [127.0.0.0/8], required: true"),
    ];
    for ((name, protocol, trust), port) in settings.into_iter().zip(ports) {
        setup = setup.listener(&format!("name: {name}\naddress: 127.0.0.1\nport: {port}\nprotocol: {protocol}\nproxyProtocol: {{{trust}}}\n"));
    }
    let portolan = setup.start();
    let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 80\r\n".to_vec();
    let v1_v6 = b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n".to_vec();
    let v2 = proxy_v2("203.0.113.8");
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec();
    let rows: [(usize, &[u8], Option<&str>); 11] = [
        (0, &v1, Some("203.0.113.7")),
        (0, &v1_v6, Some("2001:db8::7")),
        (0, &v2, Some("203.0.113.8")),
        (0, &local, Some("127.0.0.1")),
        (0, b"PROXY UNKNOWN\r\n", Some("127.0.0.1")),
        (0, b"", Some("127.0.0.1")),
        (0, b"PROXY TCP4 nonsense\r\n", None),
        (1, &v1, Some("203.0.113.7")),
        (1, &v2, Some("203.0.113.8")),
        (1, b"", None),
        // A stranger's header is no header: what follows is no request either.
        (2, &v1, None),
    ];
    for (listener, header, client) in rows {
        let what = format!("{} {:?}", settings[listener].0, String::from_utf8_lossy(header));
        let mut raw = RawClient::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, ports[listener])));
        raw.send(header).send(format!("GET / HTTP/1.1\r\nHost: {WEB}\r\n\r\n"));
        let response = raw.response().filter(|response| response.status == 200);
        let forwarded = response.map(|response| {
            let json: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            let headers = json["headers"].as_array().unwrap();
            headers.iter().find(|pair| pair[0] == "x-forwarded-for").unwrap()[1].as_str().unwrap().to_owned()
        });
        assert_eq!(forwarded.as_deref(), client, "{what}");
    }
    // Curl speaks version 1 itself, before TLS.
    let ca = authority.file(portolan.folder());
    let tls = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[3]));
    let https = || portolan_e2e::Curl::new(format!("https://{WEB}/")).connect_to(tls).ca(&ca);
    for version in ["--http1.1", "--http2"] {
        assert_eq!(https().arg(version).arg("--haproxy-protocol").send().status, 200, "{version}");
        assert_ne!(https().arg(version).send().exit, 0, "{version}: required");
    }
}

#[test]
fn a_slow_reader_does_not_make_the_proxy_hoard() {
    let echo = Echo::start("web");
    let portolan = serve(echo.address());
    let before = portolan.rss_kib();
    let mut readers: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(portolan.http()).unwrap();
            write!(stream, "GET /?bytes=33554432 HTTP/1.1\r\nHost: {WEB}\r\n\r\n").unwrap();
            let mut first = [0; 64];
            stream.read_exact(&mut first).unwrap();
            stream
        })
        .collect();
    let end = Instant::now() + Duration::from_secs(1);
    let mut most = 0;
    while Instant::now() < end {
        most = most.max(portolan.rss_kib().saturating_sub(before));
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(most < 64 << 10, "{most} KiB for 256 MiB that nobody reads");
    readers.clear();
}
