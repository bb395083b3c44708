//! HTTP/2: a malformed message costs its stream alone; what floods the connection costs the connection.

use std::time::{Duration, Instant};

use portolan_e2e::{Setup, eventually};

use super::{HOST, Stage};
use crate::streams::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, End, Frames, GOAWAY, HEADERS, Http2, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, Wire, frame, literals, run_async,
};

const PROTOCOL_ERROR: u32 = 1;

fn good(path: &str) -> Vec<(&'static str, String)> {
    vec![
        (":method", "GET".into()),
        (":scheme", "http".into()),
        (":authority", HOST.into()),
        (":path", path.into()),
    ]
}

fn block(fields: &[(&'static str, String)]) -> Vec<u8> {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    literals(&fields)
}

/// What is put in place of, or beside, the fields of a good request.
enum Change {
    Add(&'static str, &'static str),
    Without(&'static str),
    Set(&'static str, &'static str),
    First(&'static str, &'static str),
}
use Change::{Add, First, Set, Without};

/// RFC 9113 §8: each of these is a malformed message.
const MALFORMED: &[Change] = &[
    Add("connection", "close"),
    Add("connection", "x-forwarded-for"),
    Add("transfer-encoding", "chunked"),
    Add("keep-alive", "timeout=5"),
    Add("proxy-connection", "keep-alive"),
    Add("upgrade", "h2c"),
    Add("te", "gzip"),
    Add(":path", "/twice"),
    Add(":status", "200"),
    Add("content-length", "5"),
    Add("content-length", "-1"),
    Add("host", "other.test"),
    First("x-before", "pseudo"),
    Without(":method"),
    Without(":path"),
    Without(":scheme"),
    Set(":path", ""),
    Set(":path", "no-slash"),
    Set(":path", "/a%00b"),
    Set(":path", "/a b"),
    Set(":authority", "user@shop.paris.lb.test"),
    Set(":authority", "a b"),
    Set(":authority", ""),
];

/// These too, but the library finds them while it unpacks, and ends the connection, as RFC 9113 §5.4.1 lets it.
const UNPACKABLE: &[Change] = &[
    Add("X-Upper", "case"),
    Add("x name", "space"),
    Add("x-lf", "a\nb"),
    Add("x-cr", "a\rb"),
    Add("x-nul", "a\0b"),
    Add(":unknown", "x"),
    Add("", "no name"),
    Set(":method", "G T"),
];

fn changed(change: &Change) -> (String, Vec<(&'static str, String)>) {
    let mut fields = good("/malformed");
    let name = match change {
        Add(name, value) => {
            fields.push((name, (*value).into()));
            format!("with {name:?}: {value:?}")
        }
        First(name, value) => {
            fields.insert(0, (name, (*value).into()));
            format!("{name} first")
        }
        Without(name) => {
            fields.retain(|(known, _)| known != name);
            format!("without {name}")
        }
        Set(name, value) => {
            fields.iter_mut().filter(|(known, _)| known == name).for_each(|(_, old)| *old = (*value).into());
            format!("{name} is {value:?}")
        }
    };
    (name, fields)
}

#[test]
fn a_malformed_request_costs_its_stream_alone() {
    let stage = Stage::new(Setup::new());
    let mut failures = Vec::new();
    for change in MALFORMED {
        let (name, fields) = changed(change);
        let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
        frames.send(HEADERS, END_STREAM | END_HEADERS, 3, &block(&good("/sibling")));
        match frames.end_of(1) {
            Some(End::Reset(PROTOCOL_ERROR) | End::Status(400 | 404)) => {}
            other => failures.push(format!("{name}: {other:?}")),
        }
        match frames.end_of(3) {
            Some(End::Status(200)) => {}
            other => failures.push(format!("{name}: its sibling got {other:?}")),
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), MALFORMED.len(), failures.join("\n"));
    stage.portolan.logged("a line of what the library refuses", |line| {
        (&line["protocol"], &line["status"], &line["flag"]) == (&"HTTP/2".into(), &400.into(), &"BR".into())
            && line["reason"].as_str().is_some_and(|reason| reason.contains("malformed"))
    });
    let asked: Vec<String> =
        stage.recorder.targets().into_iter().filter(|target| target != "/sibling").collect();
    assert!(asked.is_empty(), "asked for upstream: {asked:?}");
}

#[test]
fn nobody_gets_a_tunnel() {
    let stage = Stage::new(Setup::new());
    let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
    let connect = [(":method", "CONNECT".to_owned()), (":authority", format!("{HOST}:443"))];
    frames.send(HEADERS, END_HEADERS, 1, &block(&connect));
    assert!(matches!(frames.end_of(1), Some(End::Status(_))));
    let line = stage.portolan.logged("the refusal", |line| line["method"] == "CONNECT");
    assert_eq!((line["status"].as_u64(), line["flag"].as_str()), (Some(405), Some("BR")), "{line}");
}

/// What no target may have over HTTP/1 it may not have here either; some of it the library refuses before we see it.
#[test]
fn targets_are_judged_as_over_http1() {
    let stage = Stage::new(Setup::new());
    let mut failures = Vec::new();
    for path in ["/a\\b", "/a\"b", "/a<b", "/a>b", "/a`b", "/caf\u{e9}", "/a\u{ff}", "/\u{65e5}\u{672c}"] {
        let mut wire = Wire::plain(stage.portolan.http());
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"));
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        if !answer.starts_with("HTTP/1.1 400 ") {
            failures.push(format!("{path:?} over HTTP/1: {answer:?}"));
        }
        let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&good(path)));
        match frames.end_of(1) {
            Some(End::Status(400) | End::Reset(PROTOCOL_ERROR)) => {}
            other => failures.push(format!("{path:?}: {other:?}")),
        }
        frames.send(HEADERS, END_STREAM | END_HEADERS, 3, &block(&good("/sibling")));
        match frames.end_of(3) {
            Some(End::Status(200)) => {}
            other => failures.push(format!("{path:?}: its sibling got {other:?}")),
        }
    }
    let asked: Vec<String> =
        stage.recorder.targets().into_iter().filter(|target| target != "/sibling").collect();
    assert!(
        failures.is_empty() && asked.is_empty(),
        "{}\nasked for upstream: {asked:?}",
        failures.join("\n")
    );
}

#[test]
fn what_is_no_header_never_gets_upstream() {
    let stage = Stage::new(Setup::new());
    for change in UNPACKABLE {
        let (name, fields) = changed(change);
        let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
        let end = frames.end_of(1);
        assert!(
            matches!(end, Some(End::Reset(PROTOCOL_ERROR) | End::Connection(PROTOCOL_ERROR))),
            "{name}: {end:?}"
        );
    }
    assert!(stage.recorder.targets().is_empty(), "asked for upstream: {:?}", stage.recorder.targets());
}

/// The library cuts a fragment off; nobody behind it sees one.
#[test]
fn a_fragment_does_not_get_upstream() {
    let stage = Stage::new(Setup::new());
    let mut fields = good("/cut#fragment");
    fields.push(("x-y", "z".into()));
    let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields));
    assert!(matches!(frames.end_of(1), Some(End::Reset(_) | End::Status(200 | 400))));
    assert!(stage.recorder.targets().iter().all(|target| target == "/cut"), "{:?}", stage.recorder.targets());
}

/// A body that is longer or shorter than the length that was announced.
#[test]
fn a_body_of_another_length_is_malformed() {
    let stage = Stage::new(Setup::new());
    for body in ["", "four", "six666"] {
        let mut fields = good("/length");
        fields[0].1 = "POST".into();
        fields.push(("content-length", "5".into()));
        let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
        frames.send(HEADERS, END_HEADERS, 1, &block(&fields));
        frames.send(DATA, END_STREAM, 1, body.as_bytes());
        frames.send(HEADERS, END_STREAM | END_HEADERS, 3, &block(&good("/sibling")));
        let end = frames.end_of(1);
        assert!(matches!(end, Some(End::Reset(_) | End::Status(400))), "{body:?}: {end:?}");
        assert_eq!(frames.end_of(3), Some(End::Status(200)), "{body:?}");
    }
}

/// Violations of the framing itself: the connection ends with GOAWAY, soon.
#[test]
fn broken_framing_costs_the_connection() {
    let stage = Stage::new(Setup::new());
    let request = block(&good("/x"));
    let rows: &[(&str, Vec<u8>)] = &[
        ("an even stream", frame(HEADERS, END_STREAM | END_HEADERS, 2, &request)),
        ("HEADERS on stream 0", frame(HEADERS, END_STREAM | END_HEADERS, 0, &request)),
        ("DATA on an idle stream", frame(DATA, 0, 5, b"x")),
        ("a frame that is too large", frame(DATA, 0, 1, &vec![0; 20_000])),
        ("SETTINGS of five bytes", frame(SETTINGS, 0, 0, b"12345")),
        ("PING of seven bytes", frame(PING, 0, 0, b"1234567")),
        ("WINDOW_UPDATE by 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "a window past its end",
            [
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
                frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            ]
            .concat(),
        ),
        ("CONTINUATION without HEADERS", frame(CONTINUATION, END_HEADERS, 1, &request)),
        (
            "HEADERS between HEADERS and CONTINUATION",
            [
                frame(HEADERS, END_STREAM, 1, &request[..4]),
                frame(HEADERS, END_STREAM | END_HEADERS, 3, &request),
            ]
            .concat(),
        ),
        ("an index past the table", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0x80, 0x01])),
        ("RST_STREAM on an idle stream", frame(RST_STREAM, 0, 7, &[0; 4])),
    ];
    for (name, bytes) in rows {
        let mut wire = Wire::plain(stage.portolan.http());
        wire.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[]), bytes].concat());
        let answer = wire.rest();
        let mut at = 0;
        let mut goaway = false;
        while at + 9 <= answer.len() {
            let length = usize::from(answer[at]) << 16
                | usize::from(answer[at + 1]) << 8
                | usize::from(answer[at + 2]);
            goaway |= answer[at + 3] == GOAWAY;
            at += 9 + length;
        }
        assert!(goaway, "{name}: no GOAWAY in {answer:?}");
    }
    assert!(stage.recorder.targets().is_empty(), "asked for upstream: {:?}", stage.recorder.targets());
}

/// What follows the preface in pieces is still HTTP/2.
#[test]
fn a_preface_in_pieces_is_a_preface() {
    let stage = Stage::new(Setup::new());
    let mut wire = Wire::plain(stage.portolan.http());
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        wire.send([*byte]);
    }
    wire.send(
        [frame(SETTINGS, 0, 0, &[]), frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&good("/pieces")))]
            .concat(),
    );
    eventually("it goes upstream", || stage.recorder.targets().contains(&"/pieces".to_owned()).then_some(()));
}

#[test]
fn headers_past_the_limit_cost_their_stream() {
    let stage = Stage::new(Setup::new());
    run_async(async {
        let client = Http2::plain(stage.portolan.http()).await;
        let long = "p".repeat(17 << 10);
        let query = format!("?q={long}");
        let rows = [
            (20, 4_000, "large", 431),
            (16, 4_000, "large", 431),
            (200, 10, "large", 431),
            (0, 0, &*long, 414),
            (0, 0, &*query, 414),
        ];
        for (count, length, path, status) in rows {
            let what = format!("{count} headers of {length} bytes, {} of path", path.len());
            let mut request =
                http::Request::get(format!("http://{HOST}/{path}")).body(()).expect("a request");
            for n in 0..count {
                let name = http::HeaderName::try_from(format!("x-{n}")).expect("a name");
                request.headers_mut().insert(name, "y".repeat(length).parse().expect("a value"));
            }
            let mut ready = client.send.clone().ready().await.expect("ready");
            let (response, _) = ready.send_request(request, true).expect("sent");
            let response = response.await.expect("an answer");
            assert_eq!(response.status(), status, "{what}");
            let id = response.headers()["x-request-id"].to_str().expect("an id");
            assert_eq!(stage.portolan.logged_request(id)["flag"], "HL", "{what}");
            assert_eq!(client.fetch(&format!("http://{HOST}/sibling")).await.expect("a sibling").0, 200);
        }
    });
    assert!(stage.recorder.targets().iter().all(|target| target == "/sibling"));
}

/// CVE-2026-105297: a small block that unpacks to a large one, by an entry of the dynamic table used again and again.
#[test]
fn an_hpack_bomb_is_defused() {
    let stage = Stage::new(Setup::new());
    let before = stage.portolan.rss_kib();
    let mut wires = Vec::new();
    for _ in 0..20 {
        let mut bomb = block(&good("/bomb"));
        // A literal with incremental indexing of 4,000 bytes, then that entry 10,000 times.
        bomb.extend([0x40, 1, b'x', 127]);
        let mut left = 4_000 - 127;
        while left >= 128 {
            bomb.push((left % 128) as u8 | 128);
            left /= 128;
        }
        bomb.push(left as u8);
        bomb.extend(vec![b'y'; 4_000]);
        bomb.extend(vec![0xbe; 10_000]);
        let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &bomb);
        let end = frames.end_of(1);
        assert!(!matches!(end, Some(End::Status(200))), "{end:?}");
        wires.push(frames);
    }
    assert!(!stage.recorder.targets().contains(&"/bomb".to_owned()));
    let grown = stage.portolan.rss_kib().saturating_sub(before);
    println!("HPACK bombs: 20 connections, {grown} KiB more resident memory");
    assert!(grown < 32 << 10, "{grown} KiB");
}

/// An endless header block by CONTINUATION frames is cut off.
#[test]
fn a_flood_of_continuations_costs_the_connection() {
    let stage = Stage::new(Setup::new());
    let mut wire = Wire::plain(stage.portolan.http());
    wire.send(
        [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            &frame(SETTINGS, 0, 0, &[]),
            &frame(HEADERS, END_STREAM, 1, &block(&good("/flood"))),
        ]
        .concat(),
    );
    let piece = frame(CONTINUATION, 0, 1, &literals(&[("x-more", &"y".repeat(8_000))]));
    let mut sent = 0;
    let began = Instant::now();
    let closed = loop {
        use std::io::Write as _;
        if wire.tcp().write_all(&piece).is_err() {
            break true;
        }
        sent += piece.len();
        if sent > 16 << 20 || began.elapsed() > Duration::from_secs(20) {
            break false;
        }
    };
    assert!(closed, "{sent} bytes of one header block were taken");
    assert!(stage.recorder.targets().is_empty());
}

/// CVE-2023-44487: a client that opens and resets streams is stopped; others do not notice.
#[test]
fn rapid_resets_are_stopped() {
    let stage = Stage::new(Setup::new());
    let before = stage.portolan.rss_kib();
    let mut frames = Frames::open(Wire::plain(stage.portolan.http()));
    let request = block(&good("/rapid"));
    let mut stream = 1;
    for _ in 0..200 {
        let mut burst = Vec::new();
        for _ in 0..100 {
            burst.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, &request));
            burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            stream += 2;
        }
        frames.raw(&burst);
    }
    let mut goaway = false;
    while let Some(frame) = frames.next() {
        goaway |= frame.kind == GOAWAY;
    }
    let reached = stage.recorder.targets().len();
    let grown = stage.portolan.rss_kib().saturating_sub(before);
    println!("rapid reset: 20,000 streams, {reached} reached the upstream, {grown} KiB more resident memory");
    assert!(goaway, "the connection was not ended by GOAWAY");
    assert!(reached < 5_000, "{reached} of 20,000 requests reached the upstream");
    assert!(grown < 64 << 10, "{grown} KiB");
    run_async(async {
        let other = Http2::plain(stage.portolan.http()).await;
        assert_eq!(other.fetch(&format!("http://{HOST}/other")).await.expect("another client").0, 200);
    });
}

/// Resets in the middle of responses give their slots back.
#[test]
fn streams_that_are_reset_make_room() {
    let stage = Stage::new(Setup::new().spec("limits: {maxConcurrentStreams: 4}"));
    run_async(async {
        let client = Http2::plain(stage.portolan.http()).await;
        for _ in 0..40 {
            let request = http::Request::post(format!("http://{HOST}/reset")).body(()).expect("a request");
            let mut ready = client.send.clone().ready().await.expect("ready");
            let (response, mut body) = ready.send_request(request, false).expect("sent");
            body.send_reset(h2::Reason::CANCEL);
            drop(response);
        }
        // What the server has not heard of yet it refuses, and that is to be tried again (RFC 9113 §8.7).
        let mut answer = client.fetch(&format!("http://{HOST}/after")).await;
        for _ in 0..100 {
            match answer {
                Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => {}
                other => return assert_eq!(other.expect("answered").0, 200),
            }
            answer = client.fetch(&format!("http://{HOST}/after")).await;
        }
        panic!("refused a hundred times");
    });
}
